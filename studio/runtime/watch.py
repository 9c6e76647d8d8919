"""Telling a worker that works from one that hangs. Knows the signs of life of a process; decides nothing.

A library that loads a model may hold Python's global lock for minutes, so a worker cannot be asked how it is. It is
looked at from outside: a worker lives while it speaks, computes or reads.
"""

from __future__ import annotations

import contextlib

import msgspec
import psutil

LOOK_SECONDS = 2.0  # between two looks
SILENT_SECONDS = 6.0  # without any sign of life, until it is told; with the looks between, within 10 s
LOADING_SECONDS = 30.0  # without any sign of life, until a worker that only loads ahead is ended
# A look that comes so much later than the last one: the computer slept, or the studio itself was stopped.
ASLEEP_SECONDS = 3 * LOOK_SECONDS


class Signs(msgspec.Struct, frozen=True):
    """A process at one moment.

    Attributes:
        cpu: seconds of processor time so far. read: bytes read so far, from disk and from pipes.
    """

    cpu: float = 0.0
    read: int = 0


def signs_of(pid: int) -> Signs | None:
    """Look at a process; None where it is gone or may not be looked at."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            read = 0
            if hasattr(process, "io_counters"):  # not on macOS
                with contextlib.suppress(psutil.AccessDenied):
                    counters = process.io_counters()
                    # what a mapped file brings in is counted in bytes from the disk only
                    read = counters.read_bytes + getattr(counters, "read_chars", 0)
            return Signs(times.user + times.system, read)
    except psutil.Error:
        return None


def resident(pid: int) -> int:
    """Bytes of memory a process has at this moment; 0 where it is gone."""
    with contextlib.suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return 0


def free_memory() -> int:
    """Bytes that could still be had without swapping."""
    return int(psutil.virtual_memory().available)


def memory_kills() -> int:
    """How many processes the Linux kernel has ended for want of memory since it started; 0 where it does not tell."""
    with contextlib.suppress(OSError, ValueError), open("/proc/vmstat", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


class Watch:
    """The signs of life of one worker. Times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._last = now
        self._signs: Signs | None = None

    def heard(self, now: float) -> None:
        """It spoke, or there is a reason to begin anew: a job was handed over, the computer slept."""
        self._last = now
        self._signs = None

    def look(self, now: float, signs: Signs | None) -> float:
        """How long there has been no sign of life, seconds."""
        before, self._signs = self._signs, signs
        if before is not None and signs is not None and (signs.cpu > before.cpu or signs.read > before.read):
            self._last = now
        return now - self._last
