"""Opening a diffusers folder, offline and without running anything that came with it.

Knows folders and the libraries' ways to fail; knows nothing of recipes. Two faults the libraries pass over in silence
are caught here: a text encoder whose weights are partly missing is filled with random numbers, and a tokenizer whose
vocabulary is missing becomes an empty one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import struct
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studio.core.cards import ModelCard
from studio.core.problems import EngineMissing, ModelBroken, ModelMissing, ModelRefused, StudioError
from studio.core.text import shown
from studio.engines.image import trouble
from studio.engines.offline import go_offline as go_offline

_COPY_AGAIN = "Copy or download the model again."
_VOCABULARIES = (
    "tokenizer.json",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
    "tekken.json",
)
_CODE_KEYS = ("auto_map", "_attn_implementation_internal", "trust_remote_code", "custom_pipelines")
_HEADER_LIMIT = 100_000_000  # bytes; the safetensors format's own limit
# Parts of text encoders that no pipeline reads; some folders leave them out.
_UNUSED = re.compile(r"(^|\.)(pooler|lm_head|position_ids|logit_scale|score)(\.|$)")


def open_model(card: ModelCard, device: str, dtype: str, *, place: bool = True) -> Any:
    """Load a picture model: a diffusers folder, or a single file. As `open_pipeline`."""
    if card.format == "single-file":
        from studio.engines.image.single import open_single

        return open_single(card.path, card.name, card.family, device, dtype, place)
    return open_pipeline(card.path, card.name, device, dtype, place=place, family=card.family)


def open_pipeline(
    path: str, name: str, device: str, dtype: str, *, place: bool = True, family: str = ""
) -> Any:  # fmt: skip
    """Load a diffusers folder.

    Args:
        path: the folder that holds model_index.json. name: what the model is called in sentences.
        family: the pipeline class to load it as; empty takes the one it was saved as.
        device, dtype: from `device.pick`.
        place: move the weights to the device; False leaves them in this computer's memory.

    Returns:
        A diffusers pipeline, all weights loaded, silent.

    Raises:
        ModelMissing, ModelBroken, ModelRefused, EngineMissing, OutOfMemory.
    """
    go_offline()
    folder = Path(path)
    parts = read_parts(folder, name)
    import diffusers
    import torch
    from diffusers import DiffusionPipeline
    from safetensors import SafetensorError
    from transformers.utils import logging as transformers_log

    diffusers.utils.logging.disable_progress_bar()
    transformers_log.disable_progress_bar()
    _refuse_code(folder, name, parts, diffusers)
    for part, (library, class_name) in parts.items():
        _look_at(folder / part, part, name, library, class_name)
    try:
        with _missing_weights() as missing:
            pipe = getattr(diffusers, family or "DiffusionPipeline", DiffusionPipeline).from_pretrained(
                str(folder),
                local_files_only=True,
                use_safetensors=True,
                dtype=getattr(torch, dtype),
                variant=variant_of(folder, parts),
            )
        for part, component in pipe.components.items():
            if isinstance(component, torch.nn.Module) and any(p.is_meta for p in component.parameters()):
                missing.append(next(f"{part}: {n}" for n, p in component.named_parameters() if p.is_meta))
        if missing:
            raise ModelBroken(
                f"The model “{name}” is broken: {len(missing)} of its weights are missing, the first is {missing[0]}.",
                _COPY_AGAIN,
            )
        pipe.set_progress_bar_config(disable=True)
        return pipe.to(device) if place else pipe
    except StudioError:
        raise
    except ImportError as error:
        raise EngineMissing(
            f"The model “{name}” needs a library that is not installed: {trouble.first_line(error)}.",
            detail=traceback.format_exc(),
        ) from error
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, NotImplementedError, SafetensorError,
        RuntimeError, MemoryError,
    ) as error:  # fmt: skip
        if trouble.is_out_of_memory(error):
            raise trouble.out_of_memory(error, f"loading the model “{name}”", device) from error
        if trouble.is_lost_device(error):
            raise
        where = _part_named_in(str(error), parts)
        raise ModelBroken(
            f"The model “{name}” cannot be loaded{where}: {_without_folder(trouble.first_line(error), folder)}.",
            _COPY_AGAIN, detail=traceback.format_exc(),
        ) from error  # fmt: skip


def read_parts(folder: Path, name: str) -> dict[str, tuple[str, str]]:
    """The parts that model_index.json lists: folder name -> (library, class); empty ones are left out.

    Raises:
        ModelMissing: no such folder. ModelBroken: no model_index.json, or not one. ModelRefused: code of its own.
    """
    if not folder.is_dir():
        raise ModelMissing(f"The folder of the model “{name}” is not there any more.", "Find it again under Models.")
    try:
        index = json.loads((folder / "model_index.json").read_bytes()[:1_000_000])
    except FileNotFoundError:
        raise ModelBroken(f"The model “{name}” is broken: its model_index.json is missing.", _COPY_AGAIN) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelBroken(
            f"The model “{name}” is broken: its model_index.json cannot be read.", _COPY_AGAIN, detail=repr(error)
        ) from None
    if not isinstance(index, dict) or not index.get("_class_name"):
        raise ModelBroken(f"The model “{name}” is broken: its model_index.json names no pipeline.", _COPY_AGAIN)
    if not isinstance(index["_class_name"], str):
        raise _refused(name, "it wants to run a pipeline of its own")
    return {
        part: (value[0], value[1])
        for part, value in index.items()
        if isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value)
    }


def variant_of(folder: Path, parts: dict[str, tuple[str, str]]) -> str | None:
    """The variant to load, such as "fp16", where a folder holds a model only in that one; else None."""
    variants = set()
    for part in parts:
        files = [f.name for f in (folder / part).glob("*.safetensors")]
        plain = [f for f in files if re.fullmatch(r"[\w-]+\.safetensors", f)]
        if files and not plain:
            found = re.fullmatch(r"[\w-]+\.([\w]+)(-\d+-of-\d+)?\.safetensors", files[0])
            variants |= {found[1]} if found else set()
    return variants.pop() if len(variants) == 1 else None


def _refuse_code(folder: Path, name: str, parts: dict[str, tuple[str, str]], diffusers: Any) -> None:
    from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES

    for part, (library, class_name) in parts.items():
        if (library not in LOADABLE_CLASSES and not hasattr(diffusers.pipelines, library)) or not (
            part.isidentifier() and class_name.isidentifier()
        ):
            raise _refused(name, f"its part “{shown(part)}” comes from “{shown(library)}”")
        config = folder / part / "config.json"
        with contextlib.suppress(OSError, ValueError, RecursionError):  # what cannot be read is told when it is loaded
            settings = json.loads(config.read_bytes()[:1_000_000])
            key = next((k for k in _CODE_KEYS if isinstance(settings, dict) and settings.get(k)), None)
            if key:
                raise _refused(name, f"its part “{part}” asks for it in config.json ({key})")


def _refused(name: str, why: str) -> ModelRefused:
    return ModelRefused(
        f"The model “{name}” is refused because it would run code that came with it: {why}.",
        "Look for a version of this model in the standard diffusers form.",
    )


def _look_at(part: Path, label: str, name: str, library: str, class_name: str) -> None:
    """Hold one part to what can be told from file names and headers, before seconds go into loading."""
    if "Tokenizer" in class_name:
        files = {f.name for f in part.glob("*")} if part.is_dir() else set()
        if not files.intersection(_VOCABULARIES) and not {"vocab.json", "merges.txt"} <= files:
            raise ModelBroken(f"The model “{name}” is broken: {label}/tokenizer.json is missing.", _COPY_AGAIN)
    weights = list(part.glob("*.safetensors"))
    for file in weights:
        _whole(file, f"{label}/{file.name}", name)
    if not weights and any(part.glob("*.bin")):
        raise ModelRefused(
            f"The model “{name}” is refused: {label} has its weights as a pickle, which can run code when opened.",
            "Look for a safetensors version of this model, or convert it.",
        )


def _whole(file: Path, label: str, name: str) -> None:
    """Compare a safetensors file's size with what its header promises."""
    try:
        has = file.stat().st_size
        with open(file, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > _HEADER_LIMIT:
                raise ValueError("header longer than the format allows")
            header = json.loads(stream.read(length)) if length <= has else {}
        ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
        wants = 8 + length + max(ends, default=0)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        RecursionError,
        struct.error,
    ) as error:
        raise ModelBroken(
            f"The model “{name}” is broken: {label} is not a whole safetensors file.", _COPY_AGAIN, detail=repr(error)
        ) from None
    if has < wants:
        raise ModelBroken(f"The model “{name}” is incomplete: {label} has {has:,} of {wants:,} bytes.", _COPY_AGAIN)


@contextlib.contextmanager
def _missing_weights() -> Iterator[list[str]]:
    """Collects the names of weights that transformers fills with random numbers: it tells only its log."""
    found: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if "LOAD REPORT" in text:
                part = Path(text.split("\n")[0].rsplit("from: ", 1)[-1].strip()).name
                keys = re.findall(r"^(\S+)\s*\|[^|\n]*MISSING", text, re.MULTILINE)
                found.extend(f"{part}: {key}" for key in keys if not _UNUSED.search(key))

    source = logging.getLogger("transformers.modeling_utils")
    listener, level = Listener(), source.level
    source.addHandler(listener)
    source.setLevel(logging.WARNING)  # a quieter level would keep the report from being written at all
    try:
        yield found
    finally:
        source.removeHandler(listener)
        source.setLevel(level)


def _part_named_in(text: str, parts: dict[str, tuple[str, str]]) -> str:
    for part, (_, class_name) in parts.items():
        if f"/{part}" in text or f"\\{part}" in text or class_name in text:
            return f" (its part {part})"
    return ""


def _without_folder(text: str, folder: Path) -> str:
    return text.replace(f"{folder}{os.sep}", "").replace(str(folder), folder.name)
