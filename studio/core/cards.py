"""Cards: what the studio knows about a model without opening it in an engine."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model can take. None means unknown or not applicable.

    Attributes:
        context: tokens of the longest text (prompt and answer) it was made for.
        prompt_tokens: tokens of a picture prompt that are read; the rest is cut off.
        width, height: the size it was made for, px. size_multiple: both must be divisible by this.
        speakers: voices in one file. sample_rate: Hz.
    """

    context: int | None = None
    prompt_tokens: int | None = None
    width: int | None = None
    height: int | None = None
    size_multiple: int | None = None
    speakers: int | None = None
    sample_rate: int | None = None


class Needs(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model costs to hold and to run; 0 where a look at its files does not tell.

    Attributes:
        weights: bytes on disk. number: bytes per number there (2 for float16), 0 for mixed.
        largest: bytes on disk of the largest part of a model that is made of several.
        latent: pixels that one latent covers on a side. patch: latents that one token of a transformer covers.
        channels: width of the denoiser at its widest picture: channels of a U-Net's first level, or of a token.
        decoder: channels of the autoencoder's widest layer at full size.
        per_token: bytes of the cache that one token of a text's context takes.
    """

    weights: int = 0
    number: int = 0
    largest: int = 0
    latent: int = 0
    patch: int = 0
    channels: int = 0
    decoder: int = 0
    per_token: int = 0


class Part(msgspec.Struct, frozen=True):
    """A piece of a model file that is put together before first use."""

    path: str
    bytes: int


Capability = Literal[
    "complete", "chat", "picture", "negative", "guidance", "guidance_rescale", "scheduler", "speech",
    # of picture models: begin from a picture, repaint a part of one; additions; and what only some of them read
    "from_picture", "into_picture", "lora", "embedding", "control", "reference", "clip_skip", "seamless",
]  # fmt: skip

# Kinds of cards that add to a model, with their plain names.
ADDITIONS = {
    "lora": "a LoRA",
    "embedding": "an embedding",
    "control": "a control model",
    "reference": "a reference model",
    "vae": "an autoencoder",
    "upscale": "an upscaler",
    "cutout": "a cut-out model",
    "text-lora": "a LoRA for texts",
    "detector": "a detector",
    "depth": "a depth model",
    "pose": "a pose model",
}


class ModelCard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model.

    Attributes:
        id: short stable name, unique in one studio; what recipes store.
        kind: the kind of work it makes, a key of RECIPES; or what it adds, a key of ADDITIONS.
        engine: a key of ENGINES.
        path: absolute path of the file or folder.
        format: "gguf", "diffusers", "single-file", "piper", "safetensors", "onnx", "transformers", "peft".
        family: architecture as the file names it, for example "gemma3", "StableDiffusionPipeline"; of an addition how
            it works, for example "controlnet", "t2i-adapter", "ip-adapter".
        base: which models fit together: a model and its additions have the same, for example "sd1", "sdxl", "flux",
            "gemma3/640/18"; empty where that is unknown or any will do. `same_base` compares.
        sha256: checksum where it is already known, else empty.
        defaults: recipe field -> value that suits this model better than the declared default.
        parts: pieces to put together into `path` before first use; then `sha256` is known and is checked.
        source: "starter", "data" (found in the models folder) or "user" (added by path).
        licence: short name; licence_url: where its text is. notes: oddities worth telling.
    """

    id: str
    name: str
    kind: str
    engine: str
    path: str
    format: str
    family: str = ""
    base: str = ""
    bytes: int = 0
    sha256: str = ""
    can: tuple[Capability, ...] = ()
    limits: Limits = Limits()
    needs: Needs = Needs()
    defaults: dict[str, Any] = {}
    parts: tuple[Part, ...] = ()
    source: str = "user"
    licence: str = ""
    licence_url: str = ""
    notes: tuple[str, ...] = ()


def same_base(one: str, other: str) -> bool:
    """Whether an addition of one base fits a model of another. What is not known fits all.

    Bases of language models have parts with “/” between them, of which each may be unknown.
    """
    if not one or not other or one == other:
        return True
    mine, theirs = one.split("/"), other.split("/")
    return len(mine) == len(theirs) > 1 and all(a == b or not a or not b for a, b in zip(mine, theirs, strict=True))


class NotThisKind(msgspec.Struct, frozen=True):
    """A file or folder is not this kind of model: `why` in one clause."""

    why: str


class Broken(msgspec.Struct, frozen=True):
    """It is this kind of model, but damaged, incomplete or not safe to open.

    `code` is the code of the Problem: "model_broken" or "model_refused".
    """

    why: str
    hint: str = ""
    code: str = "model_broken"


Looked = ModelCard | NotThisKind | Broken
