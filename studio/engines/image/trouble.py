"""Turning what torch and diffusers raise into sentences. Knows error texts; knows nothing of pipelines."""

from __future__ import annotations

import re
import traceback

from studio.core.problems import OutOfMemory
from studio.engines.shortage import first_line, free_memory, give_back, is_out_of_memory, size, trim

__all__ = [
    "first_line",
    "free_memory",
    "give_back",
    "is_lost_device",
    "is_out_of_memory",
    "out_of_memory",
    "size",
    "trim",
]

_AMOUNT = re.compile(r"(?:tried to allocate|Tried to allocate) ([\d.]+) ?(bytes|[KMG]i?B)?", re.IGNORECASE)
_UNITS = {"": 1, "bytes": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}


def is_lost_device(error: BaseException) -> bool:
    """Whether the graphics device is gone for this process, so that only a new worker can go on."""
    return isinstance(error, RuntimeError) and "CUDA error" in str(error) and not is_out_of_memory(error)


def out_of_memory(error: BaseException, what: str, device: str) -> OutOfMemory:
    """The sentence for memory that ran out while doing `what`, with amounts where they are known."""
    match = _AMOUNT.search(str(error))
    wanted = f"; it asked for {size(_bytes(match))}" if match else ""
    free = free_memory(device)
    left = f", {size(free)} are free now" if free is not None else ""
    return OutOfMemory(
        f"Memory ran out while {what}{wanted}{left}.",
        "Try a smaller picture or a smaller model, or close other programs.",
        detail="".join(traceback.format_exception(error))[-4000:],
    )


def _bytes(match: re.Match[str]) -> float:
    return float(match[1]) * _UNITS.get((match[2] or "").lower(), 1)
