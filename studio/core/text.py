"""Cleaning of text that people, models and files hand in. Knows characters; knows nothing of prompts."""

from __future__ import annotations

import re
import unicodedata

# C0 and C1 controls except tab and newline: NUL ends strings in C libraries, ESC drives terminals, BEL rings.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ANSI = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)|[@-Z\\\\-_])")
_SURROGATES = re.compile("[\ud800-\udfff]")

# Windows counts the superscript digits of Latin-1 among its ports, too.
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in "123456789¹²³")}


def clean(text: str) -> tuple[str, tuple[str, ...]]:
    """Make text safe to store, send and show, changing as little as possible.

    Line ends become `\\n`; terminal escapes and control characters go; lone surrogates become U+FFFD.
    Everything else (emoji, combining marks, right-to-left overrides) stays exactly as it was.

    Returns:
        The text, and one note for each kind of change that was made.
    """
    notes = []
    if _SURROGATES.search(text):
        # Pairs split by a JSON writer are joined; single halves cannot be encoded and are replaced.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        notes.append("broken characters were replaced")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text, escapes = _ANSI.subn("", text)
    text, controls = _CONTROLS.subn("", text)
    if escapes + controls:
        notes.append(f"{escapes + controls} control characters were removed")
    return text, tuple(notes)


def shown(text: str, limit: int = 60) -> str:
    """One line of at most `limit` characters, with whatever could disturb a terminal or a label escaped."""
    line = "".join(c if c.isprintable() else (" " if c in "\n\t" else repr(c)[1:-1]) for c in text[: limit * 4])
    line = " ".join(line.split())
    whole = len(line) <= limit and not text[limit * 4 :].strip()
    return line if whole else line[: limit - 1].rstrip() + "…"


def file_stem(text: str, limit: int = 48) -> str:
    """A file name without extension for `text`: portable on every system, never empty, at most `limit` bytes.

    Letters of any script stay, with their marks; separators, controls, marks of direction and Windows' reserved names
    do not.
    """
    kept: list[str] = []
    for char in unicodedata.normalize("NFC", text[: limit * 8]):
        category = unicodedata.category(char)
        # Hindi and Tamil write vowels as marks; a mark without its letter (as in an emoji) would be an invisible name
        belongs = category[0] == "M" and kept and kept[-1] != "-"
        kept.append(char if category[0] in "LN" or belongs else "-")
    stem = re.sub("-+", "-", "".join(kept)).strip("-").lower()
    stem = stem.encode("utf-8", "ignore")[:limit].decode("utf-8", "ignore").strip("-")
    if not stem or stem in _RESERVED:
        stem = f"untitled-{stem}".rstrip("-")
    return stem


def searchable(*texts: str) -> str:
    """Texts in the form in which they are searched: without differences of case or of how accents are written.

    Both what is searched and what is searched for must be in it; then `in` or SQLite's `instr` compares them.
    """
    text, _ = clean("\n".join(texts))
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
