"""Opening a folder of transformers, offline and without running anything that came with it.

Knows folders and the library's ways to fail; knows nothing of recipes. What the library passes over in silence is
caught here: weights that are missing are filled with random numbers, and a model that writes such texts seems to work.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

from studio.core.cards import Broken, NotThisKind
from studio.core.problems import (
    EngineMissing,
    ModelBroken,
    ModelMissing,
    ModelRefused,
    ModelUnfit,
    OutOfMemory,
    StudioError,
)
from studio.core.text import shown
from studio.engines import shortage
from studio.engines.offline import go_offline
from studio.models.transformers_folder import look_transformers

COPY_AGAIN = "Copy or download the model again."
_FAILURES = (
    OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, NotImplementedError, RuntimeError,
    MemoryError,
)  # fmt: skip


def library() -> Any:
    """The module transformers, kept from the network and silent.

    Raises:
        EngineMissing
    """
    go_offline()
    try:
        import transformers
        from transformers.utils import logging
    except ImportError as error:
        raise EngineMissing(
            "The library transformers cannot be loaded.", "Run the set-up again.", detail=traceback.format_exc()
        ) from error
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    return transformers


def look_at(folder: Path, name: str) -> None:
    """Raises ModelMissing, ModelBroken, ModelRefused, ModelUnfit: why a folder cannot be opened."""
    if not folder.is_dir():
        raise ModelMissing(f"The model “{shown(name)}” is not there.", "Was it moved or deleted?", detail=str(folder))
    looked = look_transformers(folder)
    if isinstance(looked, NotThisKind):
        raise ModelUnfit(f"The model “{shown(name)}” cannot be used: {looked.why}.")
    if isinstance(looked, Broken):
        kinds: dict[str, type[StudioError]] = {"model_missing": ModelMissing, "model_refused": ModelRefused}
        raise kinds.get(looked.code, ModelBroken)(
            f"The model “{shown(name)}” cannot be used: {looked.why}.", looked.hint
        )


def open_tokenizer(folder: Path, name: str) -> Any:
    """The tokenizer of a folder that was looked at.

    Raises:
        ModelBroken, EngineMissing
    """
    transformers = library()
    try:
        return transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except ImportError as error:
        raise _lacking(name, error) from error
    except _FAILURES as error:
        raise ModelBroken(
            f"The tokenizer of “{shown(name)}” cannot be read: {shortage.first_line(error)}.", COPY_AGAIN,
            detail=traceback.format_exc(),
        ) from error  # fmt: skip


def open_model(folder: Path, name: str, device: str, dtype: str) -> Any:
    """Load a language model, ready to write.

    Args:
        name: what it is called in sentences. device, dtype: from `device.pick`.

    Raises:
        ModelMissing, ModelBroken, ModelRefused, ModelUnfit: see `look_at`; weights are missing or of other shapes.
        EngineMissing, OutOfMemory
    """
    look_at(folder, name)
    transformers = library()
    import torch

    try:
        # An attention of one's own choice in the settings may be a program from the net; these two are the library's.
        try:
            model, said = _loaded(transformers, folder, getattr(torch, dtype), "sdpa")
        except ValueError as error:
            if "scaled_dot_product_attention" not in str(error):
                raise
            model, said = _loaded(transformers, folder, getattr(torch, dtype), "eager")
        missing = sorted({*said.get("missing_keys", ()), *(each[0] for each in said.get("mismatched_keys", ()))})
        if missing:
            raise ModelBroken(
                f"The model “{shown(name)}” is broken: {len(missing)} of its weights are missing or of another shape, "
                f"the first is {shown(missing[0])}.", COPY_AGAIN,
            )  # fmt: skip
        return model.to(device).eval()
    except StudioError:
        raise
    except ImportError as error:
        raise _lacking(name, error) from error
    except _FAILURES as error:
        if shortage.is_out_of_memory(error):
            raise out_of_memory(error, f"loading “{shown(name)}”", device) from error
        raise ModelBroken(
            f"The model “{shown(name)}” cannot be loaded: {shortage.first_line(error)}.", COPY_AGAIN,
            detail=traceback.format_exc(),
        ) from error  # fmt: skip


def _loaded(transformers: Any, folder: Path, dtype: Any, attention: str) -> tuple[Any, dict[str, Any]]:
    model, said = transformers.AutoModelForCausalLM.from_pretrained(
        str(folder), local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=dtype,
        attn_implementation=attention, output_loading_info=True,
    )  # fmt: skip
    return model, said


def _lacking(name: str, error: ImportError) -> EngineMissing:
    return EngineMissing(
        f"The model “{shown(name)}” needs a library that is not installed: {shortage.first_line(error)}.",
        detail=traceback.format_exc(),
    )


def out_of_memory(error: BaseException, what: str, device: str) -> OutOfMemory:
    """The sentence for memory that ran out while doing `what`."""
    free = shortage.free_memory(device)
    left = f"; {shortage.size(free)} are free now" if free is not None else ""
    return OutOfMemory(
        f"Memory ran out while {what}{left}.", "Set a shorter Context, take a smaller model, or close other programs.",
        detail="".join(traceback.format_exception(error))[-4000:],
    )  # fmt: skip
