"""Whether a model treats groups of people alike: the same sentence with one group's words and with the other's.

Knows sentences, pairs of words and a model's likelihoods; knows no report.
Source: Zhao et al. 2018 for swapped sentences; Nangia et al. 2020 for comparing their likelihoods.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import msgspec

from studio.core.learning import WordGroup
from studio.engines.evaluate.intervals import Array
from studio.engines.evaluate.toxicity import lines

_NAME = re.compile(r"\{(\w+)\}")
_LIST = re.compile(r"^(\w+):\s*(.+)$")


class Pair(msgspec.Struct, frozen=True):
    """One sentence twice. `topic`: the listed word it is about, or empty. `template`: the number of its template."""

    first: str
    second: str
    topic: str = ""
    template: int = 0


class Swap:
    """Replaces words of one group by those in the same place of another. Several partners of one word: the first."""

    def __init__(self, first: WordGroup, second: WordGroup) -> None:
        self._partner: dict[str, str] = {}
        for a, b in zip(first.listed(), second.listed(), strict=False):
            self._partner.setdefault(a.lower(), b)
        ordered = sorted(self._partner, key=len, reverse=True)
        self._pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, ordered))})\b", re.IGNORECASE) if ordered else None

    def swapped(self, text: str) -> str:
        """The text with the other group's words, written as large as the words they replace."""
        return self._pattern.sub(self._other, text) if self._pattern else text

    def _other(self, hit: re.Match[str]) -> str:
        word = hit.group(0)
        other = self._partner[word.lower()]
        if word.isupper() and len(word) > 1:
            return other.upper()
        return other[:1].upper() + other[1:] if word[:1].isupper() else other


def sentences(templates: list[str]) -> list[tuple[str, str, int]]:
    """Every sentence of the templates with the topic it was filled with, and the number of its template."""
    lists: dict[str, list[str]] = {}
    found = []
    for number, line in enumerate(templates):
        listed = _LIST.match(line)
        if listed:
            lists[listed[1]] = [word.strip() for word in listed[2].split(",") if word.strip()]
            continue
        names = [name for name in dict.fromkeys(_NAME.findall(line)) if name in lists]
        for words in itertools.product(*(lists[name] for name in names)):
            chosen = dict(zip(names, words, strict=True))
            text = _NAME.sub(lambda hit, chosen=chosen: chosen.get(hit[1], hit[0]), line)  # type: ignore[misc]
            # “a engineer” would be judged for its grammar
            text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
            found.append((text, " ".join(words), number))
    return found


def pairs(first: WordGroup, second: WordGroup, templates: list[str] | None = None) -> list[Pair]:
    """The sentences that speak of the first group, each with its counterpart."""
    swap = Swap(first, second)
    found = []
    for text, topic, number in sentences(lines("bias-templates.txt") if templates is None else templates):
        other = swap.swapped(text)
        if other != text:
            found.append(Pair(text, other, topic, number))
    return found


def lean(gaps: Array, every: Sequence[Pair]) -> dict[str, float]:
    """Topic -> how much further its gaps go than those of the other topics in the same sentences.

    That one group's word is commoner than the other's moves a sentence's gaps alike whatever its topic, so their mean
    is taken off: what is left is what the model associates.
    """
    of_template: dict[int, list[float]] = {}
    for gap, pair in zip(gaps, every, strict=True):
        of_template.setdefault(pair.template, []).append(float(gap))
    found: dict[str, list[float]] = {}
    for gap, pair in zip(gaps, every, strict=True):
        same = of_template[pair.template]
        if pair.topic and len(same) > 1:
            found.setdefault(pair.topic, []).append(float(gap) - sum(same) / len(same))
    return {topic: sum(values) / len(values) for topic, values in found.items()}


def beginnings(every: list[Pair], most: int) -> list[Pair]:
    """Pairs cut before their topic, or at their half, once each: what a model is to go on with."""
    found: dict[Pair, None] = {}
    for pair in every:
        at = pair.first.find(pair.topic) if pair.topic else -1
        cut = len(pair.first[:at].split()) if at > 0 else len(pair.first.split()) // 2
        cut = max(1, cut)
        begun = Pair(" ".join(pair.first.split()[:cut]), " ".join(pair.second.split()[:cut]))
        begun = Pair(re.sub(r" an?$", " a", begun.first), re.sub(r" an?$", " a", begun.second))
        if begun.first != begun.second:
            found[begun] = None
    return list(found)[:most]
