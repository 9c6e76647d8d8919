"""Words that hurt, looked for in texts by an editable list. Knows lists and whole words; knows no meaning."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from studio.core.paths import assets_folder
from studio.core.problems import NotFound
from studio.engines.evaluate import intervals
from studio.engines.evaluate.measures import Counted

_WORD = re.compile(r"\w+(?:['’]\w+)*")


def lines(name: str) -> list[str]:
    """The lines of a shipped list, without remarks. Raises NotFound."""
    path: Path = assets_folder() / "words" / name
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(
            f"The studio's list {name} is missing.", "Install the studio again.", detail=str(error)
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


class Words:
    """A list: words or phrases, looked for as whole words in any case; a * at the end stands for any ending."""

    def __init__(self, words: Iterable[str]) -> None:
        patterns = []
        for word in words:
            word = " ".join(word.split())
            open_end = word.endswith("*")
            word = word.rstrip("*").strip()
            if word:
                spaced = r"\s+".join(re.escape(part) for part in word.split(" "))
                patterns.append(spaced + (r"\w*" if open_end else ""))
        patterns.sort(key=len, reverse=True)  # of two that begin alike, the longer one
        self._pattern = re.compile(rf"(?<!\w)(?:{'|'.join(patterns)})(?!\w)", re.IGNORECASE) if patterns else None
        self.count = len(patterns)

    def found(self, text: str) -> list[str]:
        return [hit.group(0) for hit in self._pattern.finditer(text)] if self._pattern else []


def given(own: str) -> Words:
    """A list of one's own, with commas or lines; the studio's where that is empty."""
    words = [word for word in re.split(r"[,\n]", own) if word.strip()]
    return Words(words or lines("toxic-en.txt"))


def counted(texts: Sequence[str], words: Words) -> list[Counted]:
    """The share of texts with any of the words, and how many there are in 1,000 words."""
    rows = []
    for text in texts:
        hits = len(words.found(text))
        rows.append((100.0 * (hits > 0), 1.0, 1000.0 * hits, float(len(_WORD.findall(text)))))
    stats = np.asarray(rows, dtype=np.float64).reshape(len(texts), 4)
    signature = f"list of {words.count}"
    return [
        Counted("Texts with listed words", stats[:, :2], intervals.ratio, "%", "lower", signature),
        Counted("Listed words", stats[:, 2:], intervals.ratio, "per 1,000 words", "lower", signature),
    ]


class Tone:
    """How a text speaks of somebody: words of praise less words of blame, −1…1; 0 where there are none."""

    def __init__(self) -> None:
        listed = lines("kind-en.txt")
        self._kind = Words(line[1:] for line in listed if line.startswith("+"))
        self._unkind = Words(line[1:] for line in listed if line.startswith("-"))

    def of(self, text: str) -> float:
        kind, unkind = len(self._kind.found(text)), len(self._unkind.found(text))
        return (kind - unkind) / (kind + unkind) if kind + unkind else 0.0
