"""What this computer cannot do, and why, in a sentence. Looks for libraries without importing them."""

from __future__ import annotations

import importlib.util
import os
import shutil


def no_four_bits(cuda: bool | None = None) -> str:
    """Why models cannot be held in 4 bits for QLoRA here; empty where they can.

    Args:
        cuda: whether there is an NVIDIA card that torch computes on; None looks for its driver.
    """
    if cuda is None:
        cuda = shutil.which("nvidia-smi") is not None or os.path.exists("/proc/driver/nvidia/version")
    lacking = []
    if not cuda:
        lacking.append("an NVIDIA graphics card")
    if importlib.util.find_spec("bitsandbytes") is None:
        lacking.append("the library bitsandbytes")
    return f"QLoRA needs {' and '.join(lacking)}, which this computer does not have." if lacking else ""
