"""Choosing where and in which number format to compute. Knows torch's devices; knows nothing of models but their size.

Nothing is probed when this file is imported: a probe of CUDA costs time and memory, and belongs to the worker that
asked for it.
"""

from __future__ import annotations

import re

from studio.core.problems import BadSetting

DTYPES = ("float32", "float16", "bfloat16")

# float16 turns some pictures of the older, smaller families black on Apple's GPUs (attention overflows). Below this
# many bytes of weights float32 fits any such machine, so the safe format costs nothing that is missed.
SMALL_WEIGHTS = 4_000_000_000


def available() -> tuple[str, ...]:
    """The devices that this process can compute on, best first; "cpu" is always the last."""
    import torch

    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return (*found, "cpu")


def pick(device: str = "auto", dtype: str = "auto", *, weights: int = 0) -> tuple[str, str]:
    """Settle on a device and a number format.

    Args:
        device: "auto" for the best there is, or "cpu", "cuda", "cuda:1", "mps". dtype: "auto" or a name in DTYPES.
        weights: size of the model's weights in bytes, 0 if unknown.

    Returns:
        Device and dtype as torch writes them, for example ("cuda:0", "bfloat16"). "auto" takes bfloat16 on CUDA where
        the card computes in it, else float16; on MPS float16, or float32 for a model below SMALL_WEIGHTS; on the
        processor float32. What is asked for by name is never replaced.

    Raises:
        BadSetting: the device is not there, or the dtype is none of DTYPES.
    """
    there = available()
    if device == "auto":
        chosen = there[0]
    elif device == "cuda":
        chosen = next((d for d in there if d.startswith("cuda")), "")
    else:
        chosen = device if device in there else ""
    if not chosen:
        known = re.fullmatch(r"cpu|mps|cuda(:\d+)?", device)
        sentence = f"The device “{device}” is not there" if known else f"“{device}” is not a device"
        raise BadSetting(
            f"{sentence}; this computer has {', '.join(there)}.", "Choose one of these, or “auto”.", field="device"
        )
    if dtype == "auto":
        return chosen, _suited(chosen, weights)
    if dtype not in DTYPES:
        raise BadSetting(f"“{dtype}” is not a number format; there are {', '.join(DTYPES)}.", field="dtype")
    return chosen, dtype


def _suited(device: str, weights: int) -> str:
    import torch

    if device.startswith("cuda"):
        # including_emulation: an emulated bfloat16 is slower than float16, which these cards do have
        with torch.cuda.device(device):
            return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    if device == "mps":
        return "float32" if 0 < weights < SMALL_WEIGHTS else "float16"
    return "float32"
