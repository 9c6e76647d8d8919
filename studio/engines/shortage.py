"""When memory runs out: telling it from other errors, how much is left, and giving back what is not needed.

Knows error texts and systems; knows nothing of models. No torch is loaded before it is asked for.
"""

from __future__ import annotations

import contextlib
import gc

import psutil

# The last is how oneDNN says that it could not get memory for the code it was about to write (seen under a limit).
_SHORT = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc", "could not create a primitive")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out: torch says it in several ways, Python in one."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _SHORT)


def free_memory(device: str) -> int | None:
    """Bytes that could still be had on `device`, or None where the system does not say.

    What torch keeps for later on a graphics card counts as free: it is used first.
    """
    import torch

    try:
        if device.startswith("cuda"):
            kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            return int(torch.cuda.mem_get_info(device)[0]) + kept
        available = int(psutil.virtual_memory().available)
        if device.startswith("mps"):  # it shares the computer's memory, up to a limit of its own
            return min(available, torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
        return available
    except (RuntimeError, AssertionError, OSError, psutil.Error):
        return None


def give_back(device: str) -> None:
    """Let go of what nothing refers to any more, on the device and in this process."""
    import torch

    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    elif device.startswith("mps"):
        torch.mps.empty_cache()
    trim()


def trim() -> None:
    """Ask glibc to return freed memory to the system: it keeps what many small frees leave behind."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def size(amount: float) -> str:
    """Bytes for a person."""
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if amount >= step:
            return f"{amount / step:.1f} {unit}"
    return f"{amount:.0f} bytes"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without its full stop."""
    text = str(error).strip() or type(error).__name__
    return text.split("\n")[0].rstrip(".")[:300]
