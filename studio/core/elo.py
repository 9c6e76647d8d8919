"""What votes between models amount to: win rates with their intervals, and Elo ratings for any number of them. Pure."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

MEAN = 1500.0  # of all ratings
SCALE = 400.0 / math.log(10.0)  # Elo points of a strength's natural logarithm
Z = 1.959964  # of a 95 % interval
PRIOR = 0.1  # ties that every model has with one of mean strength: a model that never lost stays within bounds
DRAWS = 300  # of the bootstrap behind the ratings' intervals
_ROUNDS, _CLOSE = 1000, 1e-9


class Vote(msgspec.Struct, frozen=True, kw_only=True):
    """One vote. `won`: 1 for the first model, −1 for the other, 0 for a tie. `pair`: the ids of the two works."""

    pair: Annotated[str, Meta(min_length=1, max_length=200)]
    one: Annotated[str, Meta(min_length=1, max_length=400)]
    other: Annotated[str, Meta(min_length=1, max_length=400)]
    won: Annotated[int, Meta(ge=-1, le=1)]


class Standing(msgspec.Struct, frozen=True):
    """How one model stands. `rate`: share of its votes that it won, a tie being half; `low`, `high`: its interval."""

    who: str
    rate: float
    low: float
    high: float
    elo: float
    elo_low: float
    elo_high: float
    votes: int = 0


def wilson(rate: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share. It is never empty, also where all votes say the same.

    Source: Wilson 1927; ties count half, which makes it a little wider than it need be.
    """
    if not count:
        return 0.0, 1.0
    middle = rate + Z * Z / (2 * count)
    spread = Z * math.sqrt(rate * (1 - rate) / count + Z * Z / (4 * count * count))
    whole = 1 + Z * Z / count
    return max(0.0, (middle - spread) / whole), min(1.0, (middle + spread) / whole)


def ratings(votes: Sequence[Vote]) -> dict[str, float]:
    """The Elo rating of each model; their mean is MEAN, and 400 points are ten wins to one.

    These are the likeliest strengths of Bradley & Terry 1952, found by the steps of Hunter 2004, section 2. The order
    of the votes does not matter.
    """
    return _rated(Counter((vote.one, vote.other, vote.won) for vote in votes))


def _rated(counts: Counter[tuple[str, str, int]]) -> dict[str, float]:
    names = sorted({name for one, other, _ in counts for name in (one, other)})
    if not names:
        return {}
    wins = dict.fromkeys(names, PRIOR / 2)
    met: dict[str, Counter[str]] = {name: Counter() for name in names}
    for (one, other, won), count in counts.items():
        if one == other:
            continue
        wins[one] += count * (won + 1) / 2
        wins[other] += count * (1 - won) / 2
        met[one][other] += count
        met[other][one] += count
    strength = dict.fromkeys(names, 1.0)
    for _ in range(_ROUNDS):
        new = {
            name: wins[name]
            / (
                sum(count / (strength[name] + strength[other]) for other, count in met[name].items())
                + PRIOR / (strength[name] + 1.0)
            )
            for name in names
        }
        moved = max(abs(math.log(new[name] / strength[name])) for name in names)
        strength = new
        if moved < _CLOSE:
            break
    mean = sum(math.log(value) for value in strength.values()) / len(names)
    return {name: MEAN + SCALE * (math.log(value) - mean) for name, value in strength.items()}


def standings(votes: Sequence[Vote], seed: int = 0) -> list[Standing]:
    """How the models of some votes stand, the best first; nothing where there are no votes.

    Args:
        seed: of the draws behind the ratings' intervals.
    """
    votes = [vote for vote in votes if vote.one != vote.other]
    found = ratings(votes)
    chance = random.Random(seed)
    drawn: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(DRAWS if votes else 0):
        # all votes that were cast are known to every draw by name, so that one without a vote has a rating all the same
        again = Counter({(vote.one, vote.other, vote.won): 0 for vote in votes})
        again.update((vote.one, vote.other, vote.won) for vote in chance.choices(votes, k=len(votes)))
        for name, value in _rated(again).items():
            drawn[name].append(value)
    made = []
    for name, elo in found.items():
        points = [(vote.won if vote.one == name else -vote.won) for vote in votes if name in (vote.one, vote.other)]
        rate = sum(0.5 + 0.5 * won for won in points) / len(points)
        low, high = wilson(rate, len(points))
        values = sorted(drawn[name])
        cut = int(len(values) * 0.025)
        made.append(Standing(name, rate, low, high, elo, values[cut], values[-1 - cut], len(points)))
    return sorted(made, key=lambda each: (-each.elo, each.who))
