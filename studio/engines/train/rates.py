"""How the learning rate rises and falls. Pure."""

from __future__ import annotations

import math

from studio.core.learning import Schedule


def rate_at(step: int, steps: int, rate: float, warmup: float = 0.0, schedule: Schedule = "cosine") -> float:
    """The learning rate of one step.

    Args:
        step: from 0. steps: of the whole training.
        rate: the highest one. warmup: share of the steps in which it rises to that, in a straight line; the first step
            is not 0, because it would be wasted.
        schedule: the way down to 0 afterwards, or none.
    """
    rising = round(warmup * steps)
    if step < rising:
        return rate * (step + 1) / rising
    if schedule == "constant":
        return rate
    way = (step - rising) / max(1, steps - rising)
    return rate * (0.5 * (1.0 + math.cos(math.pi * way)) if schedule == "cosine" else 1.0 - way)
