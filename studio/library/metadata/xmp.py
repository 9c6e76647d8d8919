"""XMP packets (ISO 16684-1): reading a few properties without trust, and writing ours.

A packet is XML from a stranger. One with a document type, and so any with entities, is refused whole; size, depth and
number of elements are bounded; nothing outside the packet is looked up.
"""

from __future__ import annotations

import re
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape

from studio.core.text import clean
from studio.library.metadata.found import TEXT_LIMIT
from studio.library.metadata.texts import Texts

PACKET_LIMIT = 6 * TEXT_LIMIT  # bytes; escaping makes a text up to five times as long
DEPTH_LIMIT = 32
ELEMENTS_LIMIT = 20_000

NAMESPACE = "urn:x-offline-studio:recipe:1.0/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DC = "http://purl.org/dc/elements/1.1/"
_BASIC = "http://ns.adobe.com/xap/1.0/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_TIFF = "http://ns.adobe.com/tiff/1.0/"

# property -> our name for it in Texts
_WANTED = {
    f"{NAMESPACE} recipe": "xmp:studio",
    f"{NAMESPACE} parameters": "xmp:parameters",
    f"{_DC} description": "xmp:description",
    f"{_DC} title": "xmp:title",
    f"{_BASIC} CreatorTool": "xmp:CreatorTool",
    f"{_EXIF} UserComment": "xmp:UserComment",
    f"{_TIFF} Software": "xmp:Software",
    f"{_TIFF} ImageDescription": "xmp:ImageDescription",
}


class _Refused(Exception):
    """The packet is not read further."""


class _Reader:
    """Gathers the wanted properties, written as elements or as attributes."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._depth = self._elements = self._size = 0
        self._open: tuple[int, str] | None = None  # depth and name of the wanted property we are in
        self._pieces: list[str] = []
        self._said = False  # anything but blanks, so far

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        if self._depth > DEPTH_LIMIT or self._elements > ELEMENTS_LIMIT:
            raise _Refused
        for key, value in attributes.items():
            if key in _WANTED:
                self._texts.add(_WANTED[key], value)
        if self._open is None and name in _WANTED:
            self._open, self._pieces, self._size, self._said = (self._depth, _WANTED[name]), [], 0, False
        elif self._open is not None and name == f"{_RDF} li" and not self._said:
            self._pieces, self._size = [], 0

    def text(self, data: str) -> None:
        if self._open is not None and self._size <= TEXT_LIMIT:
            self._pieces.append(data)
            self._size += len(data)
            self._said = self._said or not data.isspace()

    def end(self, name: str) -> None:
        # the first of several languages counts
        if self._open is not None and (self._depth == self._open[0] or (name == f"{_RDF} li" and self._said)):
            self._close()
        self._depth -= 1

    def _close(self) -> None:
        assert self._open is not None
        name, found = self._open[1], "".join(self._pieces)
        self._open, self._pieces = None, []
        if self._size > TEXT_LIMIT:
            self._texts.too_long(name, TEXT_LIMIT, at_least=True)
        else:
            self._texts.add(name, found.strip())


def read_xmp(data: bytes, texts: Texts, size: int | None = None) -> None:
    """The texts of a packet that are of use here.

    Args:
        size: bytes the packet has in its file, where `data` may have been cut.
    """
    size = len(data) if size is None else size
    if size > PACKET_LIMIT:
        texts.too_long("xmp", size)
        return
    if not texts.afford("xmp", size):
        return
    data = data.strip(b"\0 \r\n\t")
    reader = _Reader(texts)
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(data, True)
    except _Refused:
        texts.leave("xmp", "it has a document type, or is nested too deeply, and is not read")
    except (expat.ExpatError, ValueError, LookupError):  # LookupError: an encoding nobody knows
        texts.leave("xmp", "damaged")


def _refuse(*_: Any) -> None:
    raise _Refused


# Characters that XML 1.0 does not allow; in JSON they stand inside strings and can be written as escapes.
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")


def xmp_packet(*, recipe_json: str = "", parameters: str = "", title: str = "", software: str = "") -> bytes:
    """A packet of the texts that are given; empty without any.

    Args:
        recipe_json: our recipe, kept in a namespace of our own. parameters: the description, for other programs.
    """
    lines = []
    if recipe_json:
        safe = _NOT_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", recipe_json)
        lines.append(f"<studio:recipe>{_escaped(safe)}</studio:recipe>")
    if title:
        lines.append(_alternatives("dc:title", title))
    if parameters:
        lines.append(_alternatives("dc:description", parameters))
    if software:
        lines.append(f"<xmp:CreatorTool>{_escaped(_shorn(software))}</xmp:CreatorTool>")
    if not lines:
        return b""
    inside = "\n   ".join(lines)
    packet = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="{_RDF}">
  <rdf:Description rdf:about="" xmlns:dc="{_DC}" xmlns:xmp="{_BASIC}" xmlns:studio="{NAMESPACE}">
   {inside}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""
    return packet.encode("utf-8")


def _alternatives(name: str, text: str) -> str:
    return f'<{name}><rdf:Alt><rdf:li xml:lang="x-default">{_escaped(_shorn(text))}</rdf:li></rdf:Alt></{name}>'


def _shorn(text: str) -> str:
    return _NOT_XML.sub("\ufffd", clean(text)[0])


def _escaped(text: str) -> str:
    # readers turn a bare carriage return into a line feed
    return escape(text, {"\r": "&#13;"})
