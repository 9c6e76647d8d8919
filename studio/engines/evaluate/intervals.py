"""How sure a figure is: 95 % intervals by the bootstrap over rows. Knows arrays; knows nothing of what they count.

A measure of a whole collection (BLEU, an error rate, a perplexity) is mostly a function of sums over its rows. So a row
is kept as its summands, its sufficient statistics; a resample is a weight for every row, and the measure is computed
from the weighted sums of all resamples at once.

Source: Efron & Tibshirani 1993, chapters 11 (jackknife) and 13 (percentile intervals); Koehn 2004 for the paired test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Metric = Callable[[Array], Array]  # sums of rows, (R, K) -> the measure of each, (R,)

LEVEL = 95.0  # percent
_CELLS = 4_000_000  # weights held at once


class Interval(msgspec.Struct, frozen=True):
    """A figure with its interval; `low` and `high` are None where one row, or none, tells nothing of the spread."""

    value: float
    low: float | None = None
    high: float | None = None


class Difference(msgspec.Struct, frozen=True):
    """The first less the second, over the same rows. `better`: share of resamples in which the first is higher."""

    value: float
    low: float | None
    high: float | None
    better: float


def weights(rows: int, resamples: int, seed: int) -> Iterator[Array]:
    """How often each row is drawn, in pieces of (r, rows) until there are `resamples`; each draws `rows` times."""
    random = np.random.default_rng(seed)
    piece = max(1, _CELLS // max(rows, 1))
    for begin in range(0, resamples, piece):
        count = min(piece, resamples - begin)
        yield random.multinomial(rows, np.full(rows, 1.0 / rows), size=count).astype(np.float64)


def of_sums(stats: Array, metric: Metric, resamples: int, seed: int) -> Interval:
    """A measure and its percentile interval.

    Args:
        stats: (rows, K) summands. metric: takes (R, K) sums and gives (R,) values.
    """
    stats = _table(stats)
    if not len(stats):
        return Interval(float("nan"))
    value = float(metric(stats.sum(axis=0, keepdims=True))[0])
    if len(stats) < 2:
        return Interval(value)
    drawn = np.concatenate([metric(w @ stats) for w in weights(len(stats), resamples, seed)])
    return Interval(value, *_bounds(drawn))


def of_means(values: Array, resamples: int, seed: int) -> Interval:
    """The mean of one number a row, with its interval."""
    column = np.asarray(values, dtype=np.float64).reshape(-1)
    return of_sums(np.column_stack([column, np.ones_like(column)]), ratio, resamples, seed)


def paired(first: Array, second: Array, metric: Metric, resamples: int, seed: int) -> Difference:
    """The difference of two systems over the same rows: each resample takes the same rows of both.

    Raises:
        ValueError: the two have not the same number of rows.
    """
    first, second = _table(first), _table(second)
    if len(first) != len(second):
        raise ValueError("paired rows must be equally many")
    value = float(metric(first.sum(axis=0, keepdims=True))[0] - metric(second.sum(axis=0, keepdims=True))[0])
    if len(first) < 2:
        return Difference(value, None, None, float(value > 0))
    drawn = np.concatenate([metric(w @ first) - metric(w @ second) for w in weights(len(first), resamples, seed)])
    low, high = _bounds(drawn)
    return Difference(value, low, high, float(np.mean(drawn > 0) + np.mean(drawn == 0) / 2))


def jackknifed(value: float, without: Array, low: float = -math.inf, high: float = math.inf) -> Interval:
    """The interval of a measure that resampling would distort, such as a count of different words.

    A row that is drawn twice repeats its own words, so that every resample has fewer different ones than the whole;
    leaving out one row after the other does not.

    Args:
        without: the measure with each row left out in turn.
        low, high: what the measure can be; the interval, which is even on both sides, is cut there.
    """
    n = len(without)
    if n < 2:
        return Interval(value)
    error = float(np.sqrt((n - 1) / n * np.sum((without - np.mean(without)) ** 2)))
    return Interval(value, max(low, value - 1.959964 * error), min(high, value + 1.959964 * error))


def of_draws(value: float, drawn: Array) -> Interval:
    """A figure with the percentile interval of resamples that were computed elsewhere."""
    return Interval(value, *_bounds(np.asarray(drawn, dtype=np.float64))) if len(drawn) > 1 else Interval(value)


def ratio(sums: Array) -> Array:
    """The first sum divided by the second; 0 where there is nothing to divide by."""
    return np.divide(sums[:, 0], sums[:, 1], out=np.zeros(len(sums)), where=sums[:, 1] != 0)


def _table(stats: Array) -> Array:
    table = np.asarray(stats, dtype=np.float64)
    return table.reshape(-1, 1) if table.ndim == 1 else table


def _bounds(drawn: Array) -> tuple[float | None, float | None]:
    sound = drawn[np.isfinite(drawn)]
    if not len(sound):
        return None, None
    tail = (100.0 - LEVEL) / 2
    low, high = np.percentile(sound, [tail, 100.0 - tail])
    return float(low), float(high)
