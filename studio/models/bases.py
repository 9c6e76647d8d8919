"""Which picture models and additions fit together. Knows names of bases; opens nothing.

A base is a short name that a model and everything made for it have in common: "sd1", "sdxl", "flux". Of Stable
Diffusion it is the width at which the U-Net reads the prompt that decides, so a model of another width gets a base of
its own ("sd-256"), and additions that were trained on it get the same.
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
