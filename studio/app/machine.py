"""What this computer has and who this process is. Looks without loading any of the heavy libraries."""

from __future__ import annotations

import os

import psutil


def physical_cores() -> int:
    """Physical cores this process may use, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed))


def this_process() -> str:
    """A name for this process that no later one will have: process ids are used again, start times are not."""
    process = psutil.Process()
    return f"{process.pid}:{process.create_time():.2f}"


def is_alive(owner: str) -> bool:
    """Whether the process that `this_process()` named is still there."""
    pid, _, started = owner.partition(":")
    if not pid.isdigit() or not started:
        return False
    try:
        process = psutil.Process(int(pid))
        # start times are computed from clock ticks since boot and may differ in the last digit
        return bool(abs(process.create_time() - float(started)) < 0.05 and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # it exists, and belongs to someone else
        return True
