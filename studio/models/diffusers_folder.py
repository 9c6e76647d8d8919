"""Picture models in the folder layout of diffusers. Knows the layout; imports neither diffusers nor torch.

Layout: model_index.json names the components; each has a folder with its settings and, where it has weights, a
safetensors file or an index with shards.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import msgspec

from studio.core.cards import Broken, Capability, Limits, ModelCard, Needs, NotThisKind
from studio.core.text import shown
from studio.models.about import card_id, safe_name
from studio.models.bases import base_of
from studio.models.pipelines import INPAINTING, PIPELINES, SAVED_AS, Pipeline
from studio.models.reading import (
    CONVERT,
    COPY_AGAIN,
    code_in,
    read_json,
    read_json_object,
)
from studio.models.safetensors_header import read_safetensors, suspicious_weights
from studio.models.tokenizer_files import vocabulary_of

COMPONENTS_LIMIT = 32
_NUMBER = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}  # bytes
SHARDS_LIMIT = 512
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")

# "stable_diffusion" is a module of diffusers itself; every Stable Diffusion 1.5 names it for its safety checker.
LIBRARIES = {"diffusers", "transformers", "stable_diffusion"}
_CLASS = re.compile(r"^[A-Z][A-Za-z0-9_]{0,99}$")
_FOLDER = re.compile(r"^[a-z][a-z0-9_]{0,63}$")

_REFUSED_HINT = "Code from model folders never runs here; use a version of the model without it."


class _Found(Exception):
    """Carries what ends the look out of the walk."""

    def __init__(self, why: str, hint: str = COPY_AGAIN, code: str = "model_broken") -> None:
        super().__init__(why)
        self.broken = Broken(why, hint, code)


class _Part(msgspec.Struct):
    """One component: its folder, class name, settings and the files of its weights."""

    name: str
    folder: Path
    made_by: str
    config: dict[str, Any]
    weights: tuple[Path, ...] = ()


def look_diffusers(path: Path) -> ModelCard | NotThisKind | Broken:
    """A folder with a model_index.json, or that file itself."""
    folder = path.parent if path.name == "model_index.json" and path.is_file() else path
    index_file = folder / "model_index.json"
    if not folder.is_dir() or not index_file.is_file():
        return NotThisKind("it holds no model_index.json")
    index = read_json_object(index_file)
    if isinstance(index, Broken):
        return index
    try:
        _reject(code_in(index, "model_index.json"))
        made_by = index.get("_class_name")
        if isinstance(made_by, list):
            raise _Found("it brings a pipeline of its own as a program", _REFUSED_HINT, "model_refused")
        if not isinstance(made_by, str) or not _CLASS.match(made_by):
            raise _Found("its model_index.json names no pipeline")
        family = SAVED_AS.get(made_by, made_by)
        if family not in PIPELINES:
            return NotThisKind(f"it is a {shown(made_by)}, which is not one of the supported picture pipelines")
        parts = {part.name: part for part in _components(folder, index)}
        if made_by.startswith("StableDiffusionXL") and "text_encoder_2" in parts and "text_encoder" not in parts:
            return NotThisKind("it is the refiner of SDXL, which only finishes another model's pictures")
        found = _by_inputs(family, parts)
        if isinstance(found, NotThisKind):
            return found
        return _carded(folder, found, PIPELINES[found], parts, index)
    except _Found as found:
        return found.broken


def _reject(broken: Broken | None) -> None:
    if broken is not None:
        raise _Found(broken.why, broken.hint, broken.code)


def _object(path: Path) -> dict[str, Any]:
    config = read_json_object(path)
    if isinstance(config, Broken):
        raise _Found(config.why, config.hint, config.code)
    _reject(code_in(config, f"{path.parent.name}/{path.name}"))
    return config


def _components(folder: Path, index: dict[str, Any]) -> list[_Part]:
    parts = []
    for name, named in index.items():
        if name.startswith("_") or not isinstance(named, list):
            continue  # a setting of the pipeline
        if len(named) != 2 or not all(n is None or isinstance(n, str) for n in named):
            raise _Found(f"its model_index.json describes “{shown(name)}” in an unknown way")
        library, made_by = named
        if library is None and made_by is None:
            continue  # a component this model goes without
        if not _FOLDER.match(name):
            raise _Found(f"its component “{shown(name)}” points outside the folder", COPY_AGAIN, "model_refused")
        if library not in LIBRARIES or made_by is None or not _CLASS.match(made_by):
            raise _Found(
                f"its component “{name}” asks for “{shown(f'{library}.{made_by}')}”, which is not part of diffusers or "
                "transformers", _REFUSED_HINT, "model_refused",
            )  # fmt: skip
        parts.append(_component(folder / name, name, made_by, library))
        if len(parts) > COMPONENTS_LIMIT:
            raise _Found("it names more components than any model has")
    return parts


def _component(folder: Path, name: str, made_by: str, library: str) -> _Part:
    if not folder.is_dir():
        raise _Found(f"its folder “{name}” is missing")
    if any(f.suffix == ".py" for f in folder.iterdir()):
        raise _Found(f"its folder “{name}” brings a program along", _REFUSED_HINT, "model_refused")
    if "scheduler" in name:
        return _Part(name, folder, made_by, _object(folder / "scheduler_config.json"))
    if "tokenizer" in name:
        return _Part(name, folder, made_by, _tokenizer(folder, name))
    if name.startswith(("feature_extractor", "image_processor", "processor")):
        file = "preprocessor_config.json"
        if not (folder / file).is_file() and (folder / "processor_config.json").is_file():
            file = "processor_config.json"
        return _Part(name, folder, made_by, _object(folder / file))
    if not (folder / "config.json").is_file():
        raise _Found(f"its file {name}/config.json is missing")
    config = _object(folder / "config.json")
    stem = "diffusion_pytorch_model" if library == "diffusers" else "model"
    return _Part(name, folder, made_by, config, _weights(folder, name, stem))


def _tokenizer(folder: Path, name: str) -> dict[str, Any]:
    file = folder / "tokenizer_config.json"
    if not file.is_file():
        raise _Found(f"its file {name}/tokenizer_config.json is missing")
    return _object(file)


def _weights(folder: Path, name: str, stem: str) -> tuple[Path, ...]:
    """The checked safetensors files of a component: one, or the shards of an index; fp16 variants count too."""
    files = sorted(f.name for f in folder.iterdir())
    for pattern in (rf"{stem}\.safetensors", rf"{stem}\.[a-z0-9_]+\.safetensors"):
        for file in files:
            if re.fullmatch(pattern, file):
                return _checked([folder / file], name)
    pattern = rf"{stem}\.safetensors\.index(\.[a-z0-9_]+)?\.json"
    index = next((f for f in files if re.fullmatch(pattern, f)), None)
    if index is not None:
        return _checked(_shards(folder, name, index), name)
    if any(f.endswith(PICKLES) for f in files):
        raise _Found(
            f"its component “{name}” has weights only as a pickle (.bin), and opening a pickle can run any program",
            CONVERT, "model_refused",
        )  # fmt: skip
    raise _Found(f"its weights {name}/{stem}.safetensors are missing")


def checked_weights(folder: Path, stem: str = "diffusion_pytorch_model") -> tuple[Path, ...] | Broken:
    """The files of the weights of a folder that is one part of diffusers by itself, each with a sound header.

    Args:
        stem: what they are called; "model" in a folder of transformers.
    """
    try:
        if any(f.suffix == ".py" for f in folder.iterdir()):
            raise _Found("it brings a program along", _REFUSED_HINT, "model_refused")
        return _weights(folder, folder.name, stem)
    except _Found as found:
        return found.broken


def _shards(folder: Path, name: str, index: str) -> list[Path]:
    value = read_json(folder / index, 64 * 1024 * 1024)
    if isinstance(value, Broken):
        raise _Found(value.why, value.hint, value.code)
    places = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(p, str) for p in places.values()):
        raise _Found(f"its {name}/{index} lists no weights")
    files = sorted(set(places.values()))
    if len(files) > SHARDS_LIMIT:
        raise _Found(f"its {name}/{index} lists {len(files):,} files, more than any model has")
    for file in files:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,200}", file):
            raise _Found(f"its {name}/{index} points outside its folder: “{shown(file)}”", COPY_AGAIN, "model_refused")
        if not file.endswith(".safetensors"):
            raise _Found(f"its {name}/{index} points to “{shown(file)}”, not to safetensors", CONVERT, "model_refused")
        if not (folder / file).is_file():
            raise _Found(f"its file {name}/{file} is missing")
    return [folder / file for file in files]


def _checked(files: list[Path], name: str) -> tuple[Path, ...]:
    for file in files:
        header = read_safetensors(file)
        if isinstance(header, Broken):
            raise _Found(f"its file {name}/{file.name} is unusable: {header.why}", header.hint, header.code)
    return tuple(files)


def _by_inputs(family: str, parts: dict[str, _Part]) -> str | NotThisKind:
    """The family that the core's input channels tell: models that repaint a part also read a mask and a picture."""
    core, vae = parts.get(PIPELINES[family].core), parts.get("vae")
    channels = _whole(core.config.get("in_channels"), 1, 65_536) if core else None
    if channels is None:
        return family
    latents = _whole(vae.config.get("latent_channels"), 1, 4096) if vae else None
    if PIPELINES[family].core == "unet":
        ordinary = latents or 4
        repaints = 2 * ordinary + 1
    elif family in ("FluxPipeline", "FluxFillPipeline"):
        ordinary = 4 * (latents or 16)  # four latents are one token
        repaints = 2 * ordinary + 256  # and as many of the picture, and the mask's 64 pixels for each
    else:
        return family
    for one, other in INPAINTING.items():
        if family in (one, other) and channels in (ordinary, repaints):
            return one if channels == ordinary else other
    if channels == ordinary:
        return family
    return NotThisKind(f"its network takes {channels} channels, so it is made for another task than text to picture")


def _carded(
    folder: Path, made_by: str, pipeline: Pipeline, parts: dict[str, _Part], index: dict[str, Any]
) -> ModelCard:
    for needed in (pipeline.core, "vae", "scheduler", "tokenizer", "text_encoder"):
        if needed not in parts:
            raise _Found(f"it has no {needed}, which a {made_by} needs")
    core = parts[pipeline.core]
    notes = _variants(parts)
    for name in [n for n in parts if n.startswith("tokenizer")]:
        encoder = parts.get(name.replace("tokenizer", "text_encoder"))
        _fits(parts[name], encoder)
    if note := _numbers(core):
        notes.append(note)
    scale = vae_scale(parts["vae"].config)
    size = _size(core.config, pipeline, scale)
    needs = _needs(parts, pipeline, scale)
    name = safe_name(folder.absolute().name, "picture model")
    return ModelCard(
        id=card_id(name, folder),
        name=name,
        kind="image",
        engine="image.diffusers",
        path=str(folder.absolute()),
        format="diffusers",
        family=made_by,
        base=base_of(made_by, core.config),
        bytes=needs.weights,
        can=_can(pipeline, core.config, index),
        limits=Limits(
            width=size[0],
            height=size[1],
            size_multiple=math.lcm(pipeline.least, scale * pipeline.patch),
            prompt_tokens=_prompt_tokens(pipeline, parts["tokenizer"].config),
        ),
        needs=needs,
        notes=tuple(notes),
    )


def _needs(parts: dict[str, _Part], pipeline: Pipeline, scale: int) -> Needs:
    """What `models.memory` reckons with. `scale`: pixels that one latent covers on a side."""
    sums = [sum(f.stat().st_size for f in part.weights) for part in parts.values()]
    core, vae = parts[pipeline.core], parts["vae"]
    header = read_safetensors(core.weights[0])
    sizes = set() if isinstance(header, Broken) else {_NUMBER.get(kind, 0) for kind in header.dtypes}
    levels = core.config.get("block_out_channels")
    heads, each = (core.config.get(key) for key in ("num_attention_heads", "attention_head_dim"))
    if isinstance(levels, list) and levels:
        channels, patch = _whole(levels[0], 1, 65_536), 0
    else:
        width = _whole(core.config.get("hidden_size") or core.config.get("dim"), 1, 65_536)
        product = heads * each if type(heads) is int and type(each) is int else None
        channels, patch = width or _whole(product, 1, 65_536), pipeline.patch
    blocks = vae.config.get("block_out_channels") or vae.config.get("decoder_block_out_channels")
    # what enters the last block has been brought to full size with the width of the block before
    widest = blocks[min(1, len(blocks) - 1)] if isinstance(blocks, list) and blocks else vae.config.get("base_dim")
    return Needs(
        weights=sum(sums),
        largest=max(sums),
        number=sizes.pop() if len(sizes) == 1 else 0,
        latent=scale,
        patch=patch,
        channels=channels or 0,
        decoder=_whole(widest, 1, 65_536) or 0,
    )


def _whole(value: Any, low: int, high: int) -> int | None:
    return value if type(value) is int and low <= value <= high else None


def vae_scale(config: dict[str, Any]) -> int:
    """How many pixels one latent covers on a side: each block of the autoencoder but the last halves the picture.

    Raises _Found when the settings do not say.
    """
    for key, less in (("block_out_channels", 1), ("encoder_block_out_channels", 1), ("temperal_downsample", 0)):
        blocks = config.get(key)
        if isinstance(blocks, list) and 1 <= len(blocks) <= 8:
            return 1 << (len(blocks) - less)
    raise _Found("its file vae/config.json does not say how many blocks it has")


def _size(config: dict[str, Any], pipeline: Pipeline, scale: int) -> tuple[int | None, int | None]:
    """The width and height it was made for, px."""
    given = config.get("sample_size")
    if isinstance(given, list) and len(given) == 2:
        height, width = (_whole(v, 1, 4096) for v in given)  # diffusers writes height first
    else:
        width = height = _whole(given, 1, 4096)
    # Flux and its kin have no sample_size of their own; their pipelines take a fixed one.
    width, height = width or pipeline.size or None, height or pipeline.size or None
    return (width * scale if width else None, height * scale if height else None)


def _can(pipeline: Pipeline, config: dict[str, Any], index: dict[str, Any]) -> tuple[Capability, ...]:
    without: set[str] = set()
    # Guidance is an input of the network here; there is no second prediction to mix or to rescale.
    if pipeline.core == "unet" and config.get("time_cond_proj_dim") is not None:
        without = {"negative", "guidance_rescale", "scheduler"}
    # FLUX.1 schnell has no input for guidance; FLUX.2 klein may be distilled
    if "guidance_embeds" in config and not config["guidance_embeds"]:
        without.add("guidance")
    if index.get("is_distilled"):
        without.add("guidance")
    return tuple(c for c in pipeline.can if c not in without)


def _prompt_tokens(pipeline: Pipeline, config: dict[str, Any]) -> int | None:
    # transformers writes 10^30 for "no limit"
    return pipeline.prompt_tokens or _whole(config.get("model_max_length"), 1, 1_000_000)


def _fits(tokenizer: _Part, encoder: _Part | None) -> None:
    vocabulary = vocabulary_of(tokenizer.folder)
    if isinstance(vocabulary, Broken):
        raise _Found(vocabulary.why, vocabulary.hint, vocabulary.code)
    if encoder is None or vocabulary is None:
        return
    inner = encoder.config.get("text_config")
    known = encoder.config.get("vocab_size") or (inner.get("vocab_size") if isinstance(inner, dict) else None)
    known = _whole(known, 1, 1 << 31)
    if known is not None and vocabulary > known:
        raise _Found(
            f"its {tokenizer.name} has {vocabulary:,} tokens, but its {encoder.name} knows {known:,}",
            "The folder mixes parts of two models; download it again.",
        )


def _variants(parts: dict[str, _Part]) -> list[str]:
    """A remark on weights that are there only as a variant, such as fp16."""
    found = set()
    for part in parts.values():
        pieces = part.weights[0].name.split(".") if part.weights else []
        if len(pieces) == 3 and "-of-" not in pieces[1]:
            found.add(pieces[1])
    return [f"some weights are there only as {', '.join(sorted(found))}"] if found else []


def _numbers(part: _Part) -> str:
    header = read_safetensors(part.weights[0])
    return "" if isinstance(header, Broken) else suspicious_weights(part.weights[0], header)
