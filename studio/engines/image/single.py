"""Opening a picture model that is a single safetensors file, offline.

Such files come without settings and tokenizer; those of a few families are shipped in `assets/configs/`. Knows files
and diffusers' way to read them; knows nothing of recipes. diffusers asks the network for settings whenever it is not
given a folder that exists, so it is always given one.
"""

from __future__ import annotations

import gzip
import traceback
from pathlib import Path
from typing import Any

from studio.core.cards import Broken
from studio.core.paths import assets_folder
from studio.core.problems import EngineMissing, ModelBroken, ModelMissing, ModelRefused, ModelUnfit, StudioError
from studio.engines.image import trouble
from studio.engines.image.loading import go_offline
from studio.models.safetensors_header import SafetensorsHeader, read_safetensors
from studio.models.single_file import config_folder, prediction_of

_COPY_AGAIN = "Copy or download the model again."
_MERGES = 48_894  # of OpenAI's vocabulary; with 512 bytes and 2 marks these make 49,408 tokens
_START, _END = "<|startoftext|>", "<|endoftext|>"


def open_single(
    path: str, name: str, family: str, device: str, dtype: str, place: bool = True, *, config: Path | None = None
) -> Any:
    """Load a picture model from one safetensors file.

    Args:
        path: the file. name: what the model is called in sentences. family: the pipeline class of its card.
        device, dtype: from `device.pick`.
        place: move the weights to the device; False leaves them in this computer's memory.
        config: a folder of settings in the layout of diffusers; None for the one that is shipped for the family. A
            tokenizer in it is used, else CLIP's.

    Returns:
        A diffusers pipeline, all weights loaded, silent.

    Raises:
        ModelMissing, ModelBroken, ModelRefused, ModelUnfit, EngineMissing, OutOfMemory.
    """
    go_offline()
    file = Path(path)
    header = _header(file, name)
    folder = config or config_folder(family, assets_folder())
    if folder is None:
        raise ModelUnfit(
            f"The model “{name}” is a {family} in a single file, and the studio has no settings for those.",
            "Get it as a diffusers folder, with model_index.json.",
        )
    if not (folder / "model_index.json").is_file():
        raise EngineMissing(f"The settings for models such as “{name}” are missing in this installation of the studio.")
    import diffusers
    import torch
    from diffusers.loaders.single_file_utils import SingleFileComponentError
    from safetensors import SafetensorError

    diffusers.utils.logging.disable_progress_bar()
    made_by = getattr(diffusers, family)
    try:
        pipe = made_by.from_single_file(
            str(file),
            config=str(folder),
            local_files_only=True,
            dtype=getattr(torch, dtype),
            **_tokenizers(folder),
        )
        _complete(pipe, name)
        _predicting(pipe, header)
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
        SingleFileComponentError, RuntimeError, MemoryError,
    ) as error:  # fmt: skip
        if trouble.is_out_of_memory(error):
            raise trouble.out_of_memory(error, f"loading the model “{name}”", device) from error
        if trouble.is_lost_device(error):
            raise
        if "meta tensor" in str(error):  # how torch says that a layer was left without numbers
            raise ModelBroken(
                f"The model “{name}” is broken: some of its weights are missing.", _COPY_AGAIN,
                detail=traceback.format_exc(),
            ) from error  # fmt: skip
        raise ModelBroken(
            f"The model “{name}” cannot be loaded: {trouble.first_line(error)}.",
            _COPY_AGAIN, detail=traceback.format_exc(),
        ) from error  # fmt: skip


def _header(file: Path, name: str) -> SafetensorsHeader:
    """The checked header. Anything but safetensors ends here: diffusers would open a pickle under another name."""
    header = read_safetensors(file)
    if not isinstance(header, Broken):
        if file.suffix.lower() != ".safetensors":
            raise ModelRefused(f"The model “{name}” is not called .safetensors.", "Give it its own ending back.")
        return header
    if header.code == "model_missing":
        raise ModelMissing(f"The file of the model “{name}” is not there any more.", "Find it again under Models.")
    problem = ModelRefused if header.code == "model_refused" else ModelBroken
    raise problem(f"The model “{name}” cannot be used: {header.why}.", header.hint or _COPY_AGAIN)


def _complete(pipe: Any, name: str) -> None:
    """Raise where weights are missing: diffusers leaves them without numbers and says nothing."""
    import torch

    missing = [
        f"{part}: {weight}"
        for part, component in pipe.components.items()
        if isinstance(component, torch.nn.Module)
        for weight, value in [*component.named_parameters(), *component.named_buffers()]
        if value.is_meta
    ]
    if missing:
        raise ModelBroken(
            f"The model “{name}” is broken: {len(missing)} of its weights are missing, the first is {missing[0]}.",
            _COPY_AGAIN,
        )


def _predicting(pipe: Any, header: SafetensorsHeader) -> None:
    """Tell the scheduler what the network predicts, where the file says so."""
    if prediction_of(header.tensors, header.metadata) != "v_prediction":
        return
    changes: dict[str, Any] = {"prediction_type": "v_prediction"}
    if "ztsnr" in header.tensors:
        changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, **changes)


def _tokenizers(folder: Path) -> dict[str, Any]:
    """CLIP's tokenizer for each that the settings name without a folder for it. The second pads with “!”."""
    import json

    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    pads = {"tokenizer": _END, "tokenizer_2": "!"}
    return {part: clip_tokenizer(pad) for part, pad in pads.items() if part in index and not (folder / part).is_dir()}


def clip_tokenizer(pad: str = _END) -> Any:
    """The tokenizer of OpenAI's CLIP, from the merges that are shipped (MIT licence, 2021 OpenAI).

    Args:
        pad: the token that fills up short prompts.
    """
    from transformers import CLIPTokenizer

    lines = gzip.decompress((assets_folder() / "configs" / "clip" / "merges.txt.gz").read_bytes())
    merges = [tuple(line.split(" ")) for line in lines.decode("utf-8").splitlines()]
    if len(merges) != _MERGES:
        raise EngineMissing("The tokenizer of CLIP is damaged in this installation of the studio.")
    letters = _letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges), _START, _END]
    return CLIPTokenizer(
        vocab={word: number for number, word in enumerate(words)}, merges=merges, pad_token=pad, model_max_length=77
    )


def _letters() -> list[str]:
    """A visible letter for each byte, in the order of the vocabulary: those that are visible stand for themselves.

    Source: Radford et al. 2019 (GPT-2), whose byte-level encoding CLIP shares.
    """
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = 256 - len(visible)
    return [chr(byte) for byte in visible] + [chr(256 + number) for number in range(hidden)]
