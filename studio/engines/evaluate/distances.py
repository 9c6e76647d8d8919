"""How far two collections of pictures are from one another, by the features a model sees in them: FID and KID.

Knows arrays of features; knows no model. Intervals are percentiles of resamples of both collections.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from studio.engines.evaluate.intervals import Array, Interval, of_draws

FID_WORK = 4e9  # multiplications spent on the interval; with many pictures fewer resamples are drawn


def fid(first: Array, second: Array) -> float:
    """Fréchet distance of the normal distributions with the means and covariances of two sets of features (n, D).

    Source: Heusel et al. 2017, eq. 6.
    """
    return _fid(first, second, np.ones(len(first)), np.ones(len(second)))


def _fid(first: Array, second: Array, a: Array, b: Array) -> float:
    """Rows count `a` and `b` times.

    The trace of the root of the product of two covariances is the sum of the singular values of X Yᵀ, where X and Y are
    the centred rows: no matrix of D × D is needed, and its root never leaves the real numbers.
    """
    means, rows, traces = [], [], []
    for features, weight in ((first, a), (second, b)):
        mean = weight @ features / weight.sum()
        centred = (features - mean) * np.sqrt(weight / max(weight.sum() - 1, 1e-12))[:, None]
        means.append(mean)
        rows.append(centred)
        traces.append(float((centred**2).sum()))
    shared = float(np.linalg.svd(rows[0] @ rows[1].T, compute_uv=False).sum())
    return max(0.0, float(((means[0] - means[1]) ** 2).sum()) + sum(traces) - 2 * shared)


def fid_interval(
    first: Array, second: Array, resamples: int, seed: int, check: Callable[[], None] = lambda: None
) -> Interval:
    """FID with its interval. A drawn collection repeats rows and seems further away: that shift is taken off."""
    value = fid(first, second)
    cost = len(first) * len(second) * (min(len(first), len(second)) + first.shape[1])
    draws = min(resamples, max(20, int(FID_WORK / cost)))
    if min(len(first), len(second)) < 3:
        return Interval(value)
    random = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        check()
        found.append(_fid(first, second, _drawn(random, len(first)), _drawn(random, len(second))))
    drawn = np.asarray(found)
    return of_draws(value, np.maximum(0.0, drawn - drawn.mean() + value))


def kid(first: Array, second: Array) -> float:
    """Squared maximum mean discrepancy with the kernel (x·y ÷ D + 1)³, unbiased. Source: Bińkowski et al. 2018."""
    return float(_kid(*_kernels(first, second), np.ones((1, len(first))), np.ones((1, len(second))))[0])


def kid_interval(first: Array, second: Array, resamples: int, seed: int) -> Interval:
    kernels = _kernels(first, second)
    value = float(_kid(*kernels, np.ones((1, len(first))), np.ones((1, len(second))))[0])
    if min(len(first), len(second)) < 3:
        return Interval(value)
    random = np.random.default_rng(seed)
    a = np.stack([_drawn(random, len(first)) for _ in range(resamples)])
    b = np.stack([_drawn(random, len(second)) for _ in range(resamples)])
    return of_draws(value, _kid(*kernels, a, b))


def _kernels(first: Array, second: Array) -> tuple[Array, Array, Array]:
    def kernel(x: Array, y: Array) -> Array:
        return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)

    return kernel(first, first), kernel(second, second), kernel(first, second)


def _kid(aa: Array, bb: Array, ab: Array, a: Array, b: Array) -> Array:
    """Rows drawn a and b times, (R, n): pairs of a row with itself never count, however often it was drawn."""

    def within(kernel: Array, w: Array) -> Array:
        pairs = w.sum(axis=1) ** 2 - (w**2).sum(axis=1)
        whole = np.einsum("ri,ri->r", w @ kernel, w) - (w**2) @ np.diag(kernel)
        return np.divide(whole, pairs, out=np.full(len(w), np.nan), where=pairs > 0)

    between = np.einsum("ri,ri->r", a @ ab, b) / (a.sum(axis=1) * b.sum(axis=1))
    return np.asarray(within(aa, a) + within(bb, b) - 2 * between)


def _drawn(random: np.random.Generator, count: int) -> Array:
    return random.multinomial(count, np.full(count, 1.0 / count)).astype(np.float64)
