"""Keeping what a picture training made: an adapter or a whole model, with a card, loaded back and tried.

Knows pipelines, files and what is said about a model; knows nothing of how it learnt.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open

from studio.core.cards import ModelCard
from studio.core.problems import BadResult
from studio.core.text import file_stem
from studio.engines.train.checkpoints import save_tensors
from studio.models.identify import look

T = TypeVar("T")

# What other programs read of an adapter's base, by our names of bases.
_ARCHITECTURES = {
    "sd1": "stable-diffusion-v1/lora", "sd2": "stable-diffusion-v2-768-v/lora",
    "sdxl": "stable-diffusion-xl-v1-base/lora", "sd3": "stable-diffusion-3-medium/lora", "flux": "flux-1-dev/lora",
    "zimage": "z-image/lora",
}  # fmt: skip
_OS_ERROR = re.compile(r"os error (\d+)")
TOLERANCE = 2  # of 255, between a picture before and after saving: adding up in another order rounds differently


def plainly(write: Callable[[], T]) -> T:
    """What `write` gives. safetensors hides the system's error in its text; it is raised as what it is."""
    try:
        return write()
    except SafetensorError as error:
        number = _OS_ERROR.search(str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code) if number else str(error)) from error


# -- adapters


def save_adapter(pipe: Any, networks: Mapping[str, Any], folder: Path, name: str, metadata: Mapping[str, str]) -> Path:
    """Write the adapter that was trained over a pipeline as diffusers itself does.

    The factor alpha ÷ rank is multiplied into its weights, so that it counts the same in programs that do not read
    that factor; in the file alpha is the rank.

    Args:
        networks: the parts that have an adapter, by name.
        metadata: said in the file's header besides.
    """
    from peft.utils import get_peft_model_state_dict

    given: dict[str, Any] = {}
    for part, network in networks.items():
        config = network.peft_config["default"]
        factor = config.lora_alpha / config.r
        state = {
            key: (value.float() * factor if ".lora_B." in key and factor != 1.0 else value.float()).contiguous()
            for key, value in get_peft_model_state_dict(network).items()
        }
        said = config.to_dict() | {"lora_alpha": config.r}
        given[f"{part}_lora_layers"] = state
        given[f"{part}_lora_adapter_metadata"] = said
    first = "adapter.safetensors"
    type(pipe).save_lora_weights(str(folder), weight_name=first, safe_serialization=True, **given)
    with safe_open(folder / first, framework="pt") as opened:
        header = dict(opened.metadata() or {})
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - not a dict
    path = folder / f"{file_stem(name)}.safetensors"
    save_tensors(path, tensors, {**header, **metadata})
    (folder / first).unlink()
    return path


def adapter_metadata(base: ModelCard, name: str, trigger: str, steps: int, data_sha256: str) -> dict[str, str]:
    """What the header of an adapter says of it, in words that other programs know."""
    said = {
        "modelspec.title": name,
        "modelspec.architecture": _ARCHITECTURES.get(base.base, ""),
        "modelspec.trigger_phrase": trigger,
        "modelspec.license": base.licence,
        "studio.base": base.name,
        "studio.base_sha256": base.sha256,
        "studio.data_sha256": data_sha256,
        "studio.steps": str(steps),
    }
    return {key: value for key, value in said.items() if value}


def check_adapter(path: Path, base: ModelCard) -> None:
    """Raises BadResult: the studio would not find it, or take it for an adapter of another kind of model."""
    seen = look(path)
    if not isinstance(seen, ModelCard) or seen.kind != "lora" or (base.base and seen.base and seen.base != base.base):
        raise BadResult("The adapter that was made is not recognised as one.", detail=repr(seen)[:2000])


# -- whole models


def rounded(networks: Iterable[torch.nn.Module]) -> None:
    """Round weights to what float16 holds; they stay float32. What is painted afterwards is what a file will paint."""
    for network in networks:
        # the class's own functions: diffusers warns of parts that it would keep in float32 when it loads
        torch.nn.Module.float(torch.nn.Module.half(network))


def networks_of(pipe: Any) -> list[torch.nn.Module]:
    return [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]


def save_whole(pipe: Any, folder: Path, half: bool) -> None:
    """Write a pipeline, or one part of one, as diffusers itself does; in float16 if `half`, without changing it."""
    networks = [pipe] if isinstance(pipe, torch.nn.Module) else networks_of(pipe)
    if half:
        for network in networks:
            torch.nn.Module.half(network)
    try:
        pipe.save_pretrained(str(folder), safe_serialization=True)
    finally:
        for network in networks:
            torch.nn.Module.float(network)


# -- both


def compared(before: Image.Image, after: Image.Image, what: str, coarse: bool = False) -> str:
    """A sentence on how far apart a picture is before and after saving.

    Args:
        coarse: computed in half precision, or on a graphics card: single pixels may round elsewhere from step to step,
            so it is their mean that counts.

    Raises:
        BadResult: too far.
    """
    difference = np.abs(np.asarray(before).astype(int) - np.asarray(after).astype(int))
    most, mean = int(difference.max()), float(difference.mean())
    if (mean if coarse else most) > TOLERANCE:
        apart = f"{mean:.1f} of 255 apart in the mean" if coarse else f"up to {most} of 255 apart"
        raise BadResult(
            f"What was saved does not paint what was trained: their pictures are {apart}.",
            "The training itself is kept; try to go on with it once more.",
        )
    if most == 0:
        return f"{what}: the same pixels."
    return f"{what}: the same picture (pixels at most {most} of 255 apart)."


def base_readme(base: ModelCard | None) -> str:
    """What the base says of itself, without its front matter: attributions go along with what is made of it."""
    if base is None:
        return ""
    with contextlib.suppress(OSError):
        with open(Path(base.path) / "README.md", "rb") as stream:
            text = stream.read(64 * 1024).decode("utf-8", "replace")
        return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL).strip()
    return ""


def copy_licences(base: ModelCard | None, folder: Path) -> None:
    """Licence and notice files of the base go along with a whole model."""
    if base is None or not Path(base.path).is_dir():
        return
    for file in sorted(Path(base.path).iterdir()):
        named = re.match(r"(?i)(licen[sc]e|notice|attribution|credits)", file.name)
        if named and file.is_file() and file.stat().st_size <= 1_000_000:
            shutil.copyfile(file, folder / file.name)
