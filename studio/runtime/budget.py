"""Whose model makes room for another's. Pure: everything comes in as values, and nothing is unloaded here."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Holding(msgspec.Struct, frozen=True):
    """A model in memory that nobody is using now. `size`: bytes; `used`: monotonic seconds of the last use."""

    worker: int
    size: int
    used: float


def make_room(need: int, free: int, holdings: Sequence[Holding]) -> list[int]:
    """Which models have to go so that `need` bytes fit, the one that was used longest ago first.

    Args:
        need: bytes that are about to be taken. free: bytes that can be had now.

    Returns:
        Workers, in order; as many as it takes, and all of them where that is still not enough.
    """
    gone: list[int] = []
    for holding in sorted(holdings, key=lambda h: (h.used, h.worker)):
        if need <= free:
            break
        if holding.size > 0:
            gone.append(holding.worker)
            free += holding.size
    return gone


def came_back(before: int, after: int, size: int) -> bool:
    """Whether a worker that let go of a model gave its memory back.

    Args:
        before, after: resident bytes of the process. size: of the model's weights, bytes.
    """
    expected = min(size, before)
    return before - after >= expected // 2 or after < SMALL


def has_grown(first: int, now: int) -> bool:
    """Whether a worker holds far more after a job than it did after the first one with the same model."""
    return now > first + max(GROWTH, first // 2)


SMALL = 300 * 1024 * 1024  # bytes; a worker of this size is not worth a new process
GROWTH = 1024 * 1024 * 1024  # bytes
