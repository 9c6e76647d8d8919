"""From a text to the utterances a voice speaks one by one, each with its words and the pause after it.

Knows characters and a `phonemize` function that turns a text into lists of phonemes, one per sentence; knows nothing
of sound. The sentences are the phonemizer's own (for most voices espeak's), so what is spoken is what bare Piper would
speak for the same paragraph; the words shown beside them are found by trying where the text has to be cut to give the
same phonemes.

Paragraphs: a blank line always ends one. A single line break ends one too, unless the lines between two blank lines
look wrapped by hand (all but the last are 40 to 120 characters long): then they are one paragraph.
Piper's own marks stay as Piper reads them: [[ ... ]] holds phonemes instead of words.
"""

from __future__ import annotations

import bisect
import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Literal

Phonemize = Callable[[str], list[list[str]]]
Phonemes = list[str]
After = Literal["nothing", "sentence", "paragraph"]

# A voice's work grows with the square of the length; 400 phonemes are about half a minute of speech.
PHONEME_LIMIT = 400
# espeak needs about 5 µs per character and cannot be stopped: 20,000 are a tenth of a second.
PARAGRAPH_LIMIT = 20_000

_BLANK = re.compile(r"\n[^\S\n]*\n\s*")
_LINE = re.compile(r"[^\n]+")
_END = re.compile(r"""[.!?…:;。！？]["'”’»)\]]*\s+""")
_TRIES = 8


@dataclasses.dataclass(frozen=True)
class Utterance:
    """What is spoken in one go.

    Attributes:
        text: the words. end: how far in the whole text they reach, characters.
        after: what follows it, which decides the pause. Nothing: the sentence goes on in the next utterance.
    """

    phonemes: Phonemes
    text: str
    end: int
    after: After


def paragraphs(text: str) -> Iterator[tuple[int, int, After]]:
    """(start, end, what follows) of each paragraph, none longer than PARAGRAPH_LIMIT characters."""
    start = 0
    for gap in (*_BLANK.finditer(text), None):
        end = gap.start() if gap else len(text)
        lines = [(m.start(), m.end()) for m in _LINE.finditer(text, start, end)]
        if lines and all(40 <= b - a <= 120 for a, b in lines[:-1]):
            lines = [(lines[0][0], lines[-1][1])]
        for a, b in lines:
            yield from _held_short(text, a, b)
        start = gap.end() if gap else end


def _held_short(text: str, start: int, end: int) -> Iterator[tuple[int, int, After]]:
    while end - start > PARAGRAPH_LIMIT:
        limit = start + PARAGRAPH_LIMIT
        ends = [m.end() for m in _END.finditer(text, limit - PARAGRAPH_LIMIT // 2, limit)]
        if ends:
            yield start, ends[-1], "sentence"
            start = ends[-1]
        else:
            space = text.rfind(" ", start + PARAGRAPH_LIMIT // 2, limit) + 1
            yield start, space or limit, "nothing"
            start = space or limit
    yield start, end, "paragraph"


def speakable(phonemes: Phonemes) -> bool:
    """Whether there is a sound in it, and not only punctuation and spaces."""
    return any(c.isalnum() for p in phonemes for c in p)


def utterances(text: str, phonemize: Phonemize, limit: int = PHONEME_LIMIT) -> Iterator[Utterance]:
    """The utterances of a text, worked out as they are asked for. What has no sound in it is left out."""
    for start, end, after in paragraphs(text):
        sentences = [s for s in phonemize(text[start:end]) if s]
        places = _places(text[start:end], sentences, phonemize)
        heard = [(s, p) for s, p in zip(sentences, places, strict=True) if speakable(s)]
        for n, (phonemes, (a, b)) in enumerate(heard):
            follows: After = after if n == len(heard) - 1 else "sentence"
            parts = list(broken(phonemes, limit))
            cuts = _shares(text[start + a : start + b], [len(p) for p in parts])
            for i, (part, (c, d)) in enumerate(zip(parts, cuts, strict=True)):
                words = " ".join(text[start + a + c : start + a + d].split())
                yield Utterance(part, words, start + a + d, follows if i == len(parts) - 1 else "nothing")


def _places(text: str, sentences: list[Phonemes], phonemize: Phonemize) -> list[tuple[int, int]]:
    """Where in `text` each sentence stands. Exact where a cut there gives the same phonemes, else by length."""
    cuts = [m.end() for m in _END.finditer(text)]
    places: list[tuple[int, int]] = []
    start = 0
    for n, sentence in enumerate(sentences[:-1]):
        first = bisect.bisect_right(cuts, start)
        tries = cuts[first : first + _TRIES]
        end = next((c for c in tries if phonemize(text[start:c]) == [sentence]), None)
        if end is None:
            rest = [len(s) for s in sentences[n:]]
            end = start + _shares(text[start:], [rest[0], sum(rest[1:])])[0][1]
        places.append((start, end))
        start = end
    return [*places, (start, len(text))] if sentences else []


def _shares(text: str, weights: list[int]) -> list[tuple[int, int]]:
    """Cut `text` at spaces into parts about as long as `weights` ask for."""
    places, start, done, total = [], 0, 0, max(1, sum(weights))
    for weight in weights[:-1]:
        done += weight
        wanted = len(text) * done // total
        end = max(start, text.find(" ", wanted) + 1 or wanted)
        places.append((start, end))
        start = end
    return [*places, (start, len(text))]


def broken(phonemes: Phonemes, limit: int) -> Iterator[Phonemes]:
    """Parts of at most `limit` phonemes, cut after a comma where there is one, else after a space."""
    start = 0
    while len(phonemes) - start > limit:
        window = phonemes[start : start + limit]
        half = limit // 2
        spaces = [i + 1 for i in range(half, limit) if window[i] == " "]
        commas = [i for i in spaces if i > 1 and window[i - 2] in (",", ";", ":")]
        size = (commas or spaces or [limit])[-1]
        yield window[:size]
        start += size
    yield phonemes[start:]
