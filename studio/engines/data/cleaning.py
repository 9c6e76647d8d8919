"""Texts made good for learning: characters mended, languages told apart, boilerplate left out.

Each function looks at one text and says what became of it, or why it is none. Knows characters, words and lines; knows
no files and no duplicates of whole texts.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

from studio.core import text as texts
from studio.core.problems import BadRecipe

SURE = 0.5  # probability at which a text counts as of one language
LETTERS = 12  # fewer letters say nothing of a language
LOOKED_AT = 1_000  # characters that a language is told by


# -- characters --------------------------------------------------------------------------------------------------------


def _spoilt() -> str:
    """What a text looks like where UTF-8 was read as something else: the letters that first bytes became, followed by
    those that second bytes became. One such pair is enough in Latin letters; where a whole alphabet looks like that, as
    Cyrillic read as windows-1251 does, it takes three in a row.
    """

    def letters(codecs: Iterable[str], first: int, last: int) -> str:
        found = {bytes([byte]).decode(codec, "ignore") for codec in codecs for byte in range(first, last)}
        return "".join(re.escape(letter) for letter in sorted(found - {""}))

    western = ("latin-1", "cp1252", "cp1254")
    others = ("cp1250", "cp1251", "cp1253", "cp1257", "iso8859_2", "mac_roman", "cp437")
    pair = f"[{letters(western, 0xC2, 0xF5)}][{letters(western, 0x80, 0xC0)}]"
    row = f"(?:[{letters(others, 0xC2, 0xF5)}][{letters(others, 0x80, 0xC0)}]){{3}}"
    return f"{pair}|{row}"


# ftfy looks at half a megabyte a second, so it is given only the lines that there is something about: spoilt pairs,
# entities, C1 controls, joined letters, letters of odd width, marks of broken characters.
_SUSPECT = re.compile(f"&[#a-zA-Z0-9]{{2,30}};|[\x80-\x9f\ufb00-\ufb06\ufffd\u2028\u2029\uff61-\uff9f]|{_spoilt()}")
# What ftfy leaves out or mends in a line that it is given for another reason.
_ODD = re.compile("[\x00-\x08\x0b-\x1f\x7f\u206a-\u206f\ud800-\udfff\ufeff\ufff9-\ufffc]")


def _mender() -> Callable[[str], str]:
    import ftfy

    # Quotes of good typography stay as they are, and so do the wide commas of Chinese.
    config = ftfy.TextFixerConfig(uncurl_quotes=False, fix_character_width=False, normalization="NFC")

    def mend(line: str) -> str:
        # Most lines have nothing but entities: those are taken out as ftfy does, without all that it looks for besides.
        plain, before = line, "<" if "<" in line else ""  # it leaves entities alone where there are tags
        while plain != before:
            plain, before = ftfy.fixes.unescape_html(plain), plain
        if "<" in line or _SUSPECT.search(plain) or _ODD.search(plain):
            return str(ftfy.fix_text(line, config))
        return plain

    return mend


class Mender:
    """Repairs texts that were read in the wrong encoding, by ftfy, and brings letters with marks into one form (NFC).

    Source: Speer, ftfy (2019).
    """

    def __init__(self) -> None:
        self._mend: Callable[[str], str] | None = None

    def __call__(self, text: str) -> str:
        if text.isascii() and "&" not in text:
            return text
        if _SUSPECT.search(text):
            self._mend = self._mend or _mender()
            text = "\n".join(self._mend(line) if _SUSPECT.search(line) else line for line in text.split("\n"))
        return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def tidy(text: str) -> str:
    """A text without controls, byte order marks, spaces at the ends of lines, and empty lines around it."""
    text = texts.clean(text)[0].replace("\ufeff", "")
    if "\n" in text:  # by lines: four times as fast as a pattern that tries at every space
        text = "\n".join(line.rstrip(" \t\u00a0") for line in text.split("\n"))
    return text.rstrip(" \t\u00a0").strip("\n")


# -- languages ---------------------------------------------------------------------------------------------------------


@functools.cache
def identifier() -> Any:
    """The model that tells languages apart. It takes a second and 100 MB; `identifier.cache_clear()` forgets it."""
    from py3langid import langid

    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


class Languages:
    """Tells languages apart by py3langid.

    Args:
        wanted: codes such as “en”; only texts in one of them are kept. Empty keeps all.

    Raises:
        BadRecipe: a code that is not known.

    Source: Lui & Baldwin 2012 (langid.py); Barbaresi (py3langid).
    """

    def __init__(self, wanted: tuple[str, ...]) -> None:
        self._identifier = identifier()
        known = set(map(str, self._identifier.labels))
        self._wanted = {code.strip().lower().replace("_", "-").split("-")[0] for code in wanted if code.strip()}
        unknown = sorted(self._wanted - known)
        if unknown:
            raise BadRecipe(
                f"The language “{texts.shown(unknown[0], 20)}” is not known.",
                f"Known are {', '.join(sorted(known))}.", field="languages",
            )  # fmt: skip

    def of(self, text: str) -> tuple[str, bool]:
        """The likeliest language, empty where the text says too little; and whether the text is to be kept.

        It is kept where the wanted languages together are at least as likely as all others.
        """
        looked = text[:LOOKED_AT]
        if sum(letter.isalpha() for letter in looked[:200]) < LETTERS:
            return "", True
        ranked = self._identifier.rank(looked)
        likeliest, probability = str(ranked[0][0]), float(ranked[0][1])
        if not self._wanted:
            return likeliest if probability >= SURE else "", True
        wanted = sum(float(p) for code, p in ranked if str(code) in self._wanted)
        return likeliest, wanted >= SURE


# -- boilerplate -------------------------------------------------------------------------------------------------------

_LINK = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_BULLET = re.compile(r"\s*(?:[-*•‣▪►●○·–]|\d{1,3}[.)])\s")
_ENDS = (".", "!", "?", ":", ";", "”", "\"", "'", "’", ")", "»", "。", "！", "？", "…")  # fmt: skip
_PLACEHOLDERS = ("lorem ipsum", "enable javascript", "javascript is disabled", "cookies are disabled")
WORDS_TO_JUDGE = 20  # fewer words are not judged: a short sentence has odd figures by chance
LINES_TO_JUDGE = 8


def boilerplate(text: str) -> str:
    """Why a text is no prose that anybody wrote, or empty.

    The rules and most of their limits are those of Gopher (Rae et al. 2021, appendix A.1: bullets, ellipses, symbols,
    words without letters, length of words), C4 (Raffel et al. 2020, section 2.2: placeholders), and FineWeb (Penedo et
    al. 2024, section 3.6: short lines, lines without an end). Rules on stop words are left out: they hold for English.
    """
    words = text.split()
    if len(words) < WORDS_TO_JUDGE:
        return ""
    head = text[:5_000].lower()
    if any(each in head for each in _PLACEHOLDERS):
        return "a placeholder"
    count = len(words)
    if (text.count("#") + text.count("...") + text.count("…")) / count > 0.1:
        return "too many symbols"
    links = _LINK.findall(text)
    if len(links) / count > 0.2 or sum(map(len, links)) > 0.3 * len(text):
        return "a list of links"
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) >= LINES_TO_JUDGE and sum(bool(_BULLET.match(line)) for line in lines) > 0.9 * len(lines):
        return "a list of points"
    if sum(not any(map(str.isalpha, word)) for word in words) / count > 0.3:
        return "too few words with letters"
    mean = sum(map(len, words)) / count
    if mean < 2.5 and sum(map(str.isalpha, text[:2_000])) < 0.7 * len(text[:2_000]):
        return "words too short"
    if len(lines) >= LINES_TO_JUDGE:
        if sum(line.rstrip().endswith(("...", "…")) for line in lines) > 0.3 * len(lines):
            return "lines cut off"
        short = sum(len(line) < 30 for line in lines)
        ended = sum(line.rstrip().endswith(_ENDS) for line in lines)
        if short > 0.67 * len(lines) and ended < 0.12 * len(lines):
            return "a menu"
    return ""


class Repeated:
    """Leaves out lines that come in document after document: menus, notices, footers.

    A line stays in the first `keep` documents it is met in, and goes from all later ones, as C4 and CCNet keep the
    first of what repeats (Raffel et al. 2020; Wenzek et al. 2020). Figures in it do not count, so that dates do not
    hide it.

    Memory does not grow: lines are counted in two rows of bytes (a count-min sketch, Cormode & Muthukrishnan 2005), and
    all counts are halved after every so many new lines, so that chance hits stay below one in a thousand.

    Args:
        bits: of the width of a row; 24 are 2 × 16 MB.
    """

    def __init__(self, keep: int = 5, bits: int = 24) -> None:
        self._keep = keep
        self._mask = (1 << bits) - 1
        self._bits = bits
        self._rows = (bytearray(1 << bits), bytearray(1 << bits))
        self._new = 0
        self.lines = 0  # that were left out

    def without(self, text: str) -> str:
        """A document without the lines that came too often; one of a single line is no matter of this class."""
        lines = text.split("\n")
        if len(lines) < 2:
            return text
        first, second = self._rows
        often: dict[int, bool] = {}
        kept = []
        for line in lines:
            key = _line_key(line)
            if key is None:
                kept.append(line)
                continue
            if key not in often:
                a, b = key & self._mask, (key >> self._bits) & self._mask
                count = min(first[a], second[b])
                often[key] = count >= self._keep
                self._new += count == 0
                if count < 255:
                    # only the lower one of the two is raised: the other one counts another line, too
                    first[a] = max(first[a], count + 1)
                    second[b] = max(second[b], count + 1)
            if often[key]:
                self.lines += 1
            else:
                kept.append(line)
        if self._new > self._mask // 4:
            self._halve()
        return text if len(kept) == len(lines) else re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip("\n")

    def _halve(self) -> None:
        halved = bytes(count // 2 for count in range(256))
        self._rows = (self._rows[0].translate(halved), self._rows[1].translate(halved))
        self._new = 0


_DIGITS = re.compile(r"\d+")


def _line_key(line: str) -> int | None:
    line = line.strip()
    if not line or len(line) > 300:
        return None
    same = _DIGITS.sub("0", line.casefold())
    return int.from_bytes(hashlib.blake2b(same.encode("utf-8", "replace"), digest_size=8).digest(), "little")
