"""Articles out of a MediaWiki dump, and text out of their markup.

The dump is read by expat as it streams by. Documents with a type declaration are refused, so that no entity can be
declared and none expands. Knows pages-articles dumps; reads the newest revision it meets of each page.
"""

from __future__ import annotations

import itertools
import re
import xml.parsers.expat
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from studio.engines.data.streams import cut

TEXT_LIMIT = 16_000_000  # characters of an article
BLOCK = 1 << 18  # bytes
UNCLOSED = 20  # templates of a paragraph; more are no text that anybody meant
PARSED = 5_000  # characters; what mwparserfromhell takes grows with the square of them where nothing is closed
# Namespaces of what is linked to be shown and not to be read; a dump names them in its own language, too.
FILES = (6, 14)  # file, category


class Page(msgspec.Struct):
    """A page. `why`: why it is no article, or empty."""

    title: str
    text: str = ""
    why: str = ""


class Dump:
    """The pages of a dump. `left_out`: beginnings of links that are no text, known once the head was read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.left_out: set[str] = {"file", "image", "category"}
        self._ready: deque[Page] = deque()
        self._path: list[str] = []
        self._held: list[str] = []
        self._length = 0
        self._space = ""
        self._new()

    def _new(self) -> None:
        self._title = self._text = self._ns = ""
        self._redirect = False

    def pages(self) -> Iterator[Page]:
        """Raises xml.parsers.expat.ExpatError: the dump is damaged, ends in the middle, or declares a type."""
        parser = xml.parsers.expat.ParserCreate()
        parser.buffer_text = True
        parser.buffer_size = BLOCK
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._data
        parser.StartDoctypeDeclHandler = _refuse
        parser.EntityDeclHandler = _refuse
        while block := self._stream.read(BLOCK):
            parser.Parse(block, False)
            while self._ready:
                yield self._ready.popleft()
        parser.Parse(b"", True)
        yield from self._ready

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name)
        self._held, self._length = [], 0
        if name == "page":
            self._new()
        elif name == "redirect":
            self._redirect = True
        elif name == "namespace":
            self._space = attributes.get("key", "")

    def _data(self, data: str) -> None:
        if self._path and self._path[-1] in ("title", "ns", "text", "namespace") and self._length < TEXT_LIMIT:
            self._held.append(data)
            self._length += len(data)

    def _end(self, name: str) -> None:
        self._path.pop()
        said = "".join(self._held) if name in ("title", "ns", "text", "namespace") else ""
        self._held = []
        if name == "title":
            self._title = said
        elif name == "ns":
            self._ns = said.strip()
        elif name == "text":
            self._text = said
        elif name == "namespace" and self._space in map(str, FILES) and said:
            self.left_out.add(said.casefold())
        elif name == "page":
            why = ""
            if self._ns not in ("", "0"):
                why = "a page that is no article"
            elif self._redirect or self._text[:20].lstrip().upper().startswith("#REDIRECT"):
                why = "a redirect"
            self._ready.append(Page(self._title, "" if why else self._text, why))
            self._new()


def _refuse(*_: object) -> None:
    raise xml.parsers.expat.ExpatError("a dump declares no type and no entities")


_GONE = "ref|gallery|math|timeline|score|syntaxhighlight|source|imagemap|graph|chem|mapframe|templatestyles|hiero"
_TAGS = re.compile(rf"<!--.*?-->|<(?:{_GONE})\b[^<>]*?/>|<({_GONE})\b[^<>]*>.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_BRACKETS = re.compile(r"\{\{|\}\}|^[:* ]*\{\||^\|\}|\[\[|\]\]", re.MULTILINE)
_SWITCH = re.compile(r"__[A-Z]{3,}__")
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
# Templates of which a sentence needs what they say. All others say what lies outside of the text, or nothing.
_SAYING = re.compile(
    r"\{\{\s*(convert|cvt|lang|nowrap|nobr|em|strong|small|abbr)\s*\|([^{}]{1,400})\}\}", re.IGNORECASE
)
# Links to the same article in other languages: “[[de:Haus]]”; with a colon before it, it is a link to be read.
_OF_OTHERS = re.compile(r"^\s*\[\[[a-z]{2,3}(?:-[a-z-]{2,12})?:[^\[\]\n]*\]\][ \t]*(?=\n|$|\[\[)", re.MULTILINE)
_HOLES = re.compile(r" *\([ ,;\u00a0]*\)|[,;]? +(\))|(?<=\S) +([,.])(?=\s|$)|(?<=\S) {2,}")
_LIST = re.compile(r"^[:;*#]+ *", re.MULTILINE)
_HTML = re.compile(r"</?[a-zA-Z][^<>\n]{0,300}>")


def plain(markup: str, left_out: set[str]) -> str:
    """The text of an article: without templates, tables, references, pictures and categories, with its headings.

    Whole regions go first, found in one walk over the brackets; what is left is short work for mwparserfromhell,
    which needs minutes for a megabyte of nested templates.
    """
    import mwparserfromhell

    text = _BREAK.sub("\n", _TAGS.sub("", markup))
    text = _OF_OTHERS.sub("", _without(_SAYING.sub(_said, text), left_out))
    text = _LIST.sub("", _SWITCH.sub("", text))
    parts = []
    # each paragraph by itself: markup does not reach over them; and no more at once than the library is quick with
    for part in itertools.chain.from_iterable(cut(each, PARSED) for each in re.split(r"\n(?=\n|=)|(?<==)\n", text)):
        if part.count("{{") > UNCLOSED:
            part = part.replace("{{", "")  # what is closed has gone already
        if "[" in part or "'" in part or "=" in part or "<" in part or "&" in part or "{" in part:
            part = str(mwparserfromhell.parse(part).strip_code(normalize=True, collapse=True))
            part = _HTML.sub("", part)
        parts.append(part.strip())
    text = "\n\n".join(part for part in parts if part)
    text = _HOLES.sub(_closed, text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _said(found: re.Match[str]) -> str:
    """What a template says: “{{convert|12|km}}” says 12 km, “{{lang|de|Haus}}” Haus."""
    parts = found[2].split("|")
    if found[1].lower() in ("convert", "cvt"):
        return " ".join(part.strip() for part in parts[:2])
    return parts[-1 if found[1].lower() == "lang" else 0].strip()


def _closed(hole: re.Match[str]) -> str:
    """What is left where something went: no second space, none before a comma, no bracket with nothing in it."""
    if hole[1] or hole[2]:
        return hole[1] or hole[2]
    return "" if "(" in hole[0] else " "


def _without(text: str, left_out: set[str]) -> str:
    """Text without templates, tables, and links that show something. What is not closed stays as it is."""
    stack: list[tuple[str, int]] = []
    cuts: list[tuple[int, int]] = []
    for match in _BRACKETS.finditer(text):
        mark = match[0].lstrip(":* ")
        if mark in ("{{", "{|", "[["):
            stack.append((mark, match.start()))
            continue
        opening = {"}}": "{{", "|}": "{|", "]]": "[["}[mark]
        at = next((n for n in range(len(stack) - 1, max(-1, len(stack) - 200), -1) if stack[n][0] == opening), -1)
        if at < 0:
            continue
        start = stack[at][1]
        del stack[at:]
        if opening == "[[":
            begin = text[start + 2 : start + 60].partition(":")
            if not begin[1] or begin[0].strip().casefold() not in left_out:
                continue
        while cuts and cuts[-1][0] >= start:
            cuts.pop()  # inside of this one
        cuts.append((start, match.end()))
    parts = []
    done = 0
    for start, end in cuts:
        parts.append(text[done:start])
        done = end
    parts.append(text[done:])
    return "".join(parts)
