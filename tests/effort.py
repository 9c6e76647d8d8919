"""How much work something is, told so that a slow or a busy machine changes it little.

Knows processor time and a loop to compare it with; knows nothing of what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable

TURNS = 100_000
USUAL = 0.0038  # s for so many turns, on the computer that the bounds were found on


def effort(work: Callable[[], object]) -> float:
    """Do some work once.

    Returns:
        Its processor time on this thread, in seconds of the usual computer: a loop before and after it tells how much
        slower this one is at present.
    """
    before = _loop()
    began = time.thread_time()
    work()
    took = time.thread_time() - began
    return took * USUAL / max(before, _loop(), USUAL / 10)


def _loop() -> float:
    began, total = time.thread_time(), 0
    for turn in range(TURNS):
        total += turn & 7
    return time.thread_time() - began
