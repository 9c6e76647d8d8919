"""Ways to run a pipeline in less memory. Knows diffusers' switches for that; decides nothing.

Tiles and slices change the picture slightly, so none of this is on unless it was planned or memory ran out.
"""

from __future__ import annotations

from typing import Any

from studio.core.plans import MEMORY_MODES
from studio.engines.image import trouble
from studio.models.memory import TILE, modes_of

SAYS = {
    "sliced": "attention was computed in slices",
    "tiled": "the picture was decoded in tiles",
    "offload": "each part of the model was on the graphics card only while it worked",
    "sequential": "each layer of the model was on the graphics card only while it worked",
}


def ladder(pipe: Any, device: str) -> tuple[str, ...]:
    """The modes that change something for this pipeline, from the fastest to the thriftiest."""
    parts = getattr(pipe, "components", {}).values()
    able = {
        "full": True,
        "sliced": any(hasattr(part, "set_attention_slice") for part in parts),
        "tiled": hasattr(_decoder(pipe), "enable_tiling"),
        "offload": hasattr(pipe, "enable_model_cpu_offload") and bool(getattr(pipe, "model_cpu_offload_seq", None)),
        "sequential": hasattr(pipe, "enable_sequential_cpu_offload"),
    }
    return tuple(mode for mode in modes_of(device) if able[mode])


def nearest(modes: tuple[str, ...], wanted: str) -> str:
    """The mode that is wanted, or the next thriftier one of `modes`; the thriftiest where there is none."""
    later = [m for m in modes if MEMORY_MODES.index(m) >= MEMORY_MODES.index(wanted)]
    return later[0] if later else modes[-1]


def after(modes: tuple[str, ...], mode: str) -> str | None:
    """The next thriftier one of `modes`, or None."""
    later = [m for m in modes if MEMORY_MODES.index(m) > MEMORY_MODES.index(mode)]
    return later[0] if later else None


def keeps_off_card(mode: str) -> bool:
    """Whether the model's weights stay in this computer's memory."""
    return mode in ("offload", "sequential")


def switch(pipe: Any, old: str, new: str, device: str, *, away: bool = False) -> bool:
    """Go from one mode to another.

    Args:
        away: the weights, or some of them, are not where `old` has them.

    Returns:
        False where the model has to be loaded anew for that; nothing was changed then.

    Raises:
        RuntimeError: memory ran out on the way. Weights may be in both places then: go on from "full", `away`.
    """
    if old == new and not away:
        return True
    if old == "sequential":
        return False  # its weights are spread over hooks
    # 1. the weights, because this may run out of memory
    if old == "offload":
        pipe.remove_all_hooks()
        away = True
    if keeps_off_card(new):
        pipe.to("cpu", silence_dtype_warnings=True)
        trouble.give_back(device)
    elif away:
        pipe.to(device)
    # 2. slices and tiles
    if new == "sliced" or (new == "tiled" and "sliced" in modes_of(device)):
        pipe.enable_attention_slicing()
    elif old == "sliced" or (old == "tiled" and "sliced" in modes_of(device)):
        pipe.disable_attention_slicing()
    _tile(_decoder(pipe), new in ("tiled", "offload", "sequential"))
    # 3. what brings the weights to the card when they are needed
    if new == "offload":
        pipe.enable_model_cpu_offload(device=device)
    elif new == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    return True


def _tile(decoder: Any, on: bool) -> None:
    for what in ("tiling", "slicing"):
        change = getattr(decoder, f"{'enable' if on else 'disable'}_{what}", None)
        if change is not None:
            change()
    # The library's tile is as large as the pictures the autoencoder was made for; of SDXL's 1024 px nothing would be
    # saved. Off, nobody reads these numbers.
    side, latents = (getattr(decoder, f"tile_{what}_min_size", None) for what in ("sample", "latent"))
    if on and isinstance(side, int) and isinstance(latents, int) and side > TILE:
        decoder.tile_sample_min_size, decoder.tile_latent_min_size = TILE, latents * TILE // side


def _decoder(pipe: Any) -> Any:
    """The part that makes pixels of latents, or None."""
    return next((part for name in ("vae", "movq", "vqgan") if (part := getattr(pipe, name, None)) is not None), None)
