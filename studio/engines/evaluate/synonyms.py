"""Synonyms on board, laid out so that nltk's METEOR can ask them as it asks its WordNet reader.

Knows single words, the sets they are in, and how an inflected form is led back to its base; knows no meanings.
Source: Fellbaum 1998; the rules of inflection are those of WordNet's morphy(7).
"""

from __future__ import annotations

import functools
import gzip
from collections.abc import Iterable
from pathlib import Path

from studio.core.paths import assets_folder
from studio.core.problems import NotFound

PARTS = "nvar"  # noun, verb, adjective, adverb: the order in which they are asked
_ENDINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "n": (("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"),
          ("men", "man"), ("ies", "y")),
    "v": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "a": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "r": (),
}  # fmt: skip


class Lemma:
    """One word of a set."""

    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        return self._name


class Synset:
    """Words that mean the same."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)

    def lemmas(self) -> list[Lemma]:
        return [Lemma(name) for name in self._names]


class Synonyms:
    """The sets of one language.

    Args:
        lines: as in assets/words/synonyms-en.txt.gz.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._sets: dict[str, list[tuple[str, ...]]] = {part: [] for part in PARTS}
        self._index: dict[str, dict[str, list[int]]] = {part: {} for part in PARTS}
        self._irregular: dict[str, dict[str, list[str]]] = {part: {} for part in PARTS}
        for line in lines:
            part, *words = line.split()
            if part.startswith("-"):
                self._irregular[part[1]][words[0]] = words[1:]
                continue
            for word in {word.lower() for word in words}:
                self._index[part].setdefault(word, []).append(len(self._sets[part]))
            self._sets[part].append(tuple(words))

    def synsets(self, word: str) -> list[Synset]:
        """The sets that a word is in, in whatever form it stands."""
        word = word.lower()
        found = []
        for part in PARTS:
            index, sets = self._index[part], self._sets[part]
            for base in self._bases(word, part):
                found += [Synset(sets[i]) for i in index[base]]
        return found

    def _bases(self, word: str, part: str) -> list[str]:
        forms = self._irregular[part].get(word)
        if forms is None:
            forms = [word[: -len(old)] + new for old, new in _ENDINGS[part] if word.endswith(old)]
        index = self._index[part]
        return [form for form in dict.fromkeys([word, *forms]) if form in index]


@functools.cache
def english(folder: Path | None = None) -> Synonyms:
    """The shipped ones; read once, in about 0.3 s. Raises NotFound: the file is missing."""
    path = (folder or assets_folder() / "words") / "synonyms-en.txt.gz"
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            return Synonyms(stream)
    except (OSError, EOFError) as error:
        raise NotFound(
            "The studio's list of synonyms is missing.", "Install the studio again.", detail=str(error)
        ) from error
