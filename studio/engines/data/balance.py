"""Groups of people in texts: how often their words come, what stands beside them, and texts with the words swapped.

Knows words and groups; knows no files. Counts are of words as they are written: who is meant is not known.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from studio.core.learning import WordGroup
from studio.engines.data.words import words_of

WINDOW = 5  # words before and behind
SHOWN = 12  # neighbours of each group in the report
LISTED = 40  # words of each group in the report
NEIGHBOURS = 60_000  # different neighbours of a group that are kept at most
CLEAR = 1.96  # of z; what chance gives one word in forty
SCARCE = 5  # a neighbour that comes less often is not reported
PRIOR = 0.05  # pseudo-counts of a neighbour, times its share: small, so that the data speak


class Balance:
    """Counts groups' words in rows that stream by, in bounded memory."""

    def __init__(self, groups: Sequence[WordGroup]) -> None:
        self._groups = [group for group in groups if group.listed()]
        # first part of a word -> (all its parts, the word as written, group); “non-binary” has two parts
        self._starts: dict[str, list[tuple[tuple[str, ...], str, int]]] = {}
        for at, group in enumerate(self._groups):
            for word in dict.fromkeys(each.casefold() for each in group.listed()):
                parts = tuple(words_of(word))
                if parts:
                    self._starts.setdefault(parts[0], []).append((parts, word, at))
        for found in self._starts.values():
            found.sort(key=lambda each: -len(each[0]))
        self._words: list[Counter[str]] = [Counter() for _ in self._groups]
        self._beside: list[Counter[str]] = [Counter() for _ in self._groups]
        self._rows = [0] * len(self._groups)
        self._pruned = False
        self.all_words = 0

    def add(self, text: str) -> None:
        """One row."""
        if not self._groups:
            return
        words = words_of(text)
        self.all_words += len(words)
        starts = self._starts
        hits = itertools.compress(range(len(words)), map(starts.__contains__, words))
        met: set[int] = set()
        for at in hits:
            for parts, word, group in starts[words[at]]:
                if len(parts) > 1 and tuple(words[at : at + len(parts)]) != parts:
                    continue
                self._words[group][word] += 1
                met.add(group)
                near = words[max(0, at - WINDOW) : at] + words[at + len(parts) : at + len(parts) + WINDOW]
                self._beside[group].update(each for each in near if each not in starts and not each.isdigit())
                if len(self._beside[group]) > NEIGHBOURS:
                    self._prune(group)
        for group in met:
            self._rows[group] += 1

    def _prune(self, group: int) -> None:
        """Forget the rarest half of the neighbours; ties by name, so that every machine forgets the same."""
        held = sorted(self._beside[group].items(), key=lambda each: (-each[1], each[0]))
        self._beside[group] = Counter(dict(held[: NEIGHBOURS // 2]))
        self._pruned = True

    def report(self) -> dict[str, Any]:
        """What was counted.

        Returns:
            {"all_words", "window", "ratio": first group's words to the second's, "complete": whether all neighbours
            could be kept, "groups": [{"name", "count", "per_million", "rows", "words": {word: count}, "beside":
            [{"word", "count", "others", "z"}, …]}, …]}. “beside” are the words that stand beside this group more than
            beside the others, most clearly so first.

        Source: z of log-odds with an informative prior: Monroe, Colaresi & Quinn 2008, eq. 22.
        """
        if not self._groups:
            return {}
        counts = [sum(words.values()) for words in self._words]
        every: Counter[str] = Counter()
        for beside in self._beside:
            every.update(beside)
        groups = []
        for at, group in enumerate(self._groups):
            words = sorted(self._words[at].items(), key=lambda each: (-each[1], each[0]))[:LISTED]
            groups.append(
                {
                    "name": group.name,
                    "count": counts[at],
                    "per_million": round(counts[at] * 1e6 / self.all_words, 2) if self.all_words else 0.0,
                    "rows": self._rows[at],
                    "words": dict(words),
                    "beside": _skewed(self._beside[at], every) if len(self._groups) > 1 else [],
                }
            )
        ratio = round(counts[0] / counts[1], 4) if len(counts) > 1 and counts[1] else None
        return {
            "all_words": self.all_words, "window": WINDOW, "ratio": ratio, "complete": not self._pruned,
            "groups": groups,
        }  # fmt: skip


def _skewed(own: Counter[str], every: Counter[str]) -> list[dict[str, Any]]:
    total, mine = sum(every.values()), sum(own.values())
    theirs = total - mine
    if not mine or not theirs:
        return []
    found: list[tuple[float, str, int, int]] = []
    for word, count in every.items():
        if count < SCARCE:
            continue
        a = own.get(word, 0)
        b = count - a
        prior = PRIOR * count
        whole = PRIOR * total
        odds_a = math.log((a + prior) / (mine + whole - a - prior))
        odds_b = math.log((b + prior) / (theirs + whole - b - prior))
        z = (odds_a - odds_b) / math.sqrt(1 / (a + prior) + 1 / (b + prior))
        if z >= CLEAR:
            found.append((-round(z, 2), word, a, b))
    return [{"word": word, "count": a, "others": b, "z": -z} for z, word, a, b in sorted(found)[:SHOWN]]


# -- counterparts ------------------------------------------------------------------------------------------------------

# A possessive stands before a word of its own phrase. Before one of these, or before no word, the phrase has ended:
# “I saw her and left” has him, “her house” has his.
_WORDS_BEHIND = (
    "a about across after again ago all also an and around as at away back because before behind beside but by did do "
    "does down during for from had has have he here how i if in inside into is it just like never nor not now off "
    "often on once or out outside over quickly said says she so soon than that the then there they this to today "
    "together tomorrow tonight too toward towards under until up very was we went were what when where whether which "
    "while who why will with without would yesterday yet you"
)
_ENDING = frozenset(_WORDS_BEHIND.split())
_FOLLOWING = re.compile(r"[ \t\u00a0\n]+([^\W\d_]+)")


class Counterparts:
    """Texts with the words of two groups swapped, both ways, by their places in the lists.

    Whole words only, written as large as those they replace. A word with two counterparts (her: his, him; his: her,
    hers) takes the first where a word follows that can belong to it, and the second where the phrase ends; that is a
    rule for English, and it errs now and then.

    Source: counterfactual data augmentation: Zhao et al. 2018; Lu et al. 2020.
    """

    def __init__(self, groups: Sequence[WordGroup]) -> None:
        self._partners: dict[str, list[str]] = {}
        self._pairs = 0
        if len(groups) >= 2:
            for a, b in zip(groups[0].listed(), groups[1].listed(), strict=False):
                if a.casefold() == b.casefold():
                    continue
                self._pairs += 1
                for word, other in ((a, b), (b, a)):
                    partners = self._partners.setdefault(word.casefold(), [])
                    if other not in partners:
                        partners.append(other)
        ordered = sorted(self._partners, key=lambda word: (-len(word), word))
        pattern = rf"(?<!\w)(?:{'|'.join(map(re.escape, ordered))})(?!\w)"
        self._pattern = re.compile(pattern, re.IGNORECASE) if ordered else None

    def __bool__(self) -> bool:
        return self._pattern is not None

    def swapped(self, text: str) -> str:
        """The text with the other group's words; the same text where it has none of them."""
        return self._pattern.sub(self._other, text) if self._pattern else text

    def neutral(self, text: str) -> str:
        """What a text and its counterpart have in common: it decides that both belong to one part of the data."""
        if self._pattern is None:
            return text
        return self._pattern.sub("\0", text)

    def _other(self, hit: re.Match[str]) -> str:
        word = hit[0]
        partners = self._partners[word.casefold()]
        other = partners[0]
        if len(partners) > 1:
            following = _FOLLOWING.match(hit.string, hit.end())
            if following is None or following[1].casefold() in _ENDING:
                other = partners[1]
        return cased(other, word)


def cased(word: str, like: str) -> str:
    """A word written as large as another: “SHE” gives “HE”, “She” gives “He”, “she” gives “he”; “Mrs” gives “Mr”."""
    if like.isupper() and len(like) > 1:
        return word.upper()
    if like[:1].isupper():
        return word[:1].upper() + word[1:]
    return word
