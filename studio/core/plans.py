"""How a job is to be run."""

from __future__ import annotations

import msgspec

# From the fastest to the thriftiest. Each holds less at once than the one before and is slower:
#   full        everything on the device
#   sliced      attention in slices
#   tiled       and pictures are decoded in tiles
#   offload     and a part of the model is on the graphics card only while it is at work
#   sequential  and a layer only while it is at work
# The last two mean nothing where there is no graphics card.
MEMORY_MODES = ("full", "sliced", "tiled", "offload", "sequential")


# Speed-ups that may change the result slightly; none is on by itself.
SPEEDS = ("channels_last", "compile")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a job is to be run: decided before it starts, from settings, machine and the recipe's `made_with`.

    Attributes:
        device: "auto", "cpu", "cuda", "cuda:1", "mps". dtype: "auto" or a torch name.
        threads: processor threads, at least 1.
        n_batch: prompt tokens per batch (text), at least 32; small enough that cancel is heard between batches.
        n_ctx: context window in tokens (text), 0 for the engine's choice.
        preview_every: steps between previews, 0 for none.
        speed: names of SPEEDS.
        memory: "auto", or one of MEMORY_MODES to begin with; where memory runs out the next one is taken.
        again: a work is made again in the circumstances of its first time; a device that this computer lacks is
            replaced, and the difference is told, instead of refusing.
    """

    device: str = "auto"
    dtype: str = "auto"
    threads: int = 1
    n_batch: int = 128
    n_ctx: int = 0
    preview_every: int = 1
    memory: str = "auto"
    speed: tuple[str, ...] = ()
    again: bool = False
