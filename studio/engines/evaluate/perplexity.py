"""How surprising a text is to a model, in windows that overlap. Knows tokens and logarithms; knows no report.

A text longer than the window is read in steps of half a window: every token but those of the first window has at least
half a window before it, and each counts once. Every text begins anew, after the model's own token for the beginning.

Per token the figure depends on how a model cuts words into tokens; per byte and per character it does not, so these are
what models with different tokenizers are compared by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from studio.engines.evaluate.intervals import Array
from studio.engines.evaluate.reading import Check, Reader

LN2 = math.log(2.0)


class Surprise(msgspec.Struct, frozen=True):
    """Of one text: its negative log-likelihood in nats, and what it is spread over."""

    nats: float
    tokens: int
    bytes: int
    characters: int

    def row(self) -> tuple[float, float, float, float]:
        return self.nats, float(self.tokens), float(self.bytes), float(self.characters)


def joined(every: Sequence[Surprise]) -> Surprise:
    """Several texts as one."""
    return Surprise(
        sum(s.nats for s in every), sum(s.tokens for s in every), sum(s.bytes for s in every),
        sum(s.characters for s in every),
    )  # fmt: skip


def windows(length: int, window: int, skip: int = 0) -> list[tuple[int, int, int]]:
    """How a sequence is read: (begin, end, first place that counts) of each window.

    Args:
        skip: tokens at the beginning that never count; the first one of all cannot, as nothing is before it.
    """
    found = []
    counted = max(1, skip)
    stride = max(1, window // 2)
    begin = 0
    while counted < length:
        end = min(begin + window, length)
        if end > counted:
            found.append((begin, end, counted))
            counted = end
        begin += stride
    return found


def token_logprobs(reader: Reader, tokens: Sequence[int], window: int, check: Check, skip: int = 0) -> Array:
    """The log-likelihood of each token from place max(1, skip) on."""
    found = []
    for begin, end, first in windows(len(tokens), window, skip):
        found.append(reader.logprobs(tokens[begin:end], check, first - begin))
    return np.concatenate(found) if found else np.zeros(0)


def of_text(reader: Reader, text: str, window: int, check: Check) -> Surprise | None:
    """The surprise of a text; None where there is nothing to count."""
    tokens = [*reader.begin, *reader.tokens(text)]
    values = token_logprobs(reader, tokens, window, check, skip=len(reader.begin))
    if not len(values):
        return None
    return Surprise(-float(values.sum()), len(values), len(text.encode("utf-8", "replace")), len(text))


def of_answer(
    reader: Reader, before: Sequence[int], answer: str, window: int, check: Check, lead: str = ""
) -> Surprise | None:
    """The surprise of an answer after its question; only the answer counts. A question too long loses its beginning.

    Args:
        lead: what stands before an answer in this layout, read as one with it.
    """
    own = reader.tokens(lead + answer)
    room = max(window // 2, window - len(own))
    start = [*reader.begin, *before][-room:]
    values = token_logprobs(reader, [*start, *own], window, check, skip=len(start))
    if not len(values):
        return None
    return Surprise(-float(values.sum()), len(values), len(answer.encode("utf-8", "replace")), len(answer))


def per_token(sums: Array) -> Array:
    """Perplexity of sums (R, 4) of nats, tokens, bytes, characters."""
    return _spread(sums, 1, np.exp)


def bits_per_byte(sums: Array) -> Array:
    return _spread(sums, 2, lambda nats: nats / LN2)


def bits_per_character(sums: Array) -> Array:
    return _spread(sums, 3, lambda nats: nats / LN2)


def loss(sums: Array) -> Array:
    """Nats per token, as training tells it."""
    return _spread(sums, 1, lambda nats: nats)


def _spread(sums: Array, column: int, then: Callable[[Array], Array]) -> Array:
    found = np.full(len(sums), np.nan)
    some = sums[:, column] > 0
    found[some] = then(sums[some, 0] / sums[some, column])
    return found
