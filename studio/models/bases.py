"""Which models and additions fit together. Knows names of bases; opens nothing.

A base is a short name that a model and everything made for it have in common: "sd1", "sdxl", "flux". Of Stable
Diffusion it is the width at which the U-Net reads the prompt that decides, so a model of another width gets a base of
its own ("sd-256"), and additions that were trained on it get the same.

A language model's base is its kind, its width and its layers: "gemma3/640/18". A LoRA of another model of the same kind
and size fits, and mostly does something sensible: a LoRA of a base model on its chat version. What a file does not tell
is left empty, and fits all ("/640/18"); `cards.same_base` compares.
"""

from __future__ import annotations

from typing import Any

from studio.models.pipelines import PIPELINES

# What people call them. Bases not listed here are called as they are.
TITLES = {
    "sd1": "Stable Diffusion 1.5", "sd2": "Stable Diffusion 2", "sdxl": "SDXL", "sd3": "Stable Diffusion 3",
    "flux": "Flux", "flux2": "Flux 2", "qwen": "Qwen-Image", "zimage": "Z-Image", "pixart": "PixArt", "sana": "Sana",
    "lumina2": "Lumina 2", "auraflow": "AuraFlow", "chroma": "Chroma", "hunyuandit": "Hunyuan-DiT",
    "cogview4": "CogView 4",
}  # fmt: skip

_WIDTHS = {768: "sd1", 1024: "sd2", 2048: "sdxl"}


def base_of_width(width: int | None, xl: bool = False) -> str:
    """The base of a Stable Diffusion whose cross-attention reads vectors of `width` numbers; "" for None.

    Args:
        xl: it is laid out like SDXL, with two text encoders.
    """
    if width is None:
        return ""
    base = _WIDTHS.get(width, "")
    return base if base and (base == "sdxl") == xl else f"{'sdxl' if xl else 'sd'}-{width}"


def base_of(family: str, core: dict[str, Any]) -> str:
    """The base of a main model.

    Args:
        family: a key of PIPELINES. core: settings of the component that denoises.

    Returns:
        "" where neither tells.
    """
    pipeline = PIPELINES.get(family)
    if pipeline is None:
        return ""
    if pipeline.base:
        return pipeline.base
    width = core.get("cross_attention_dim")
    return base_of_width(width if type(width) is int and 0 < width <= 65_536 else None, "XL" in family)


# model_type of transformers -> architecture of GGUF, where the names differ; parts of larger models are like the whole
_ARCHITECTURES = {
    "gemma3_text": "gemma3", "gemma3n_text": "gemma3n", "gemma4_text": "gemma4", "mistral": "llama", "llama4_text":
    "llama4", "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "qwen3_next": "qwen3next", "gpt_neox": "gptneox",
    "gpt-sw3": "gpt2", "gpt_oss": "gpt-oss", "falcon_h1": "falcon-h1", "granitemoe": "granitemoe", "phimoe": "phimoe",
    "glm4_moe": "glm4moe", "olmo_hybrid": "olmo-hybrid", "exaone_moe": "exaone-moe", "smollm3": "smollm3",
}  # fmt: skip


def text_base(kind: str, width: int, layers: int) -> str:
    """The base of a language model or of what was made for one; 0 or "" for what is not known, "" for nothing at all.

    Args:
        kind: as transformers or GGUF call it. width: numbers a token is.
    """
    kind = _ARCHITECTURES.get(kind, kind).replace("/", "")
    return f"{kind}/{width or ''}/{layers or ''}" if kind or width or layers else ""


def title_of(base: str) -> str:
    """A base as people call it."""
    if base.count("/") != 2:
        return TITLES.get(base, base)
    kind, width, layers = base.split("/")
    sizes = [f"{layers} layers"] * bool(layers) + [f"a width of {width}"] * bool(width)
    return f"{kind or 'a language model'} with {' and '.join(sizes)}" if sizes else kind
