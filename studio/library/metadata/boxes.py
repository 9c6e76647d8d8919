"""AVIF and HEIF: boxes (ISO/IEC 14496-12) and the items Exif and XMP in them (ISO/IEC 23008-12), within bounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from studio.library.metadata.texts import Texts
from studio.library.metadata.tiff import read_exif
from studio.library.metadata.xmp import PACKET_LIMIT, read_xmp

BOXES_LIMIT = 1_024  # in one box; a picture of many tiles has a few hundred items
META_LIMIT = 4 * 1024 * 1024  # bytes
ITEM_LIMIT = PACKET_LIMIT + 64
EXTENTS_LIMIT = 4_096  # pieces of all items
_FARTHEST = 1 << 62  # no file reaches so far, and seeking farther is an error of its own
BRANDS = (b"avif", b"avis", b"mif1", b"msf1", b"heic", b"heix", b"hevc", b"heim", b"heis")


def is_picture(head: bytes) -> bool:
    """Whether the first bytes of a file are those of an AVIF or HEIF picture."""
    return head[4:8] == b"ftyp" and any(head[i : i + 4] in BRANDS for i in (8, *range(16, min(len(head), 64), 4)))


def read_boxes(stream: BinaryIO, texts: Texts) -> None:
    """The texts of a picture; `stream` can be moved."""
    at = 0
    for _ in range(BOXES_LIMIT):
        stream.seek(at)
        head = stream.read(16)
        size, kind, start = int.from_bytes(head[:4], "big"), head[4:8], 8
        if size == 1 and len(head) == 16:
            size, start = int.from_bytes(head[8:], "big"), 16
        if len(head) < 8 or (size != 0 and size < start):
            return
        if kind == b"meta":
            stream.seek(at + start)
            if size > META_LIMIT:
                texts.leave("meta", "the list of its parts is too long")
                return
            _read_meta(stream.read(size - start if size else META_LIMIT)[4:], stream, texts)
            return
        if size == 0:
            return
        at += size
        if at >= _FARTHEST:
            return


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the boxes in a box; what is damaged ends them."""
    at = 0
    for _ in range(BOXES_LIMIT):
        size, kind, start = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], at + 8
        if size == 1:
            size, start = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        end = len(data) if size == 0 else at + size
        if len(kind) < 4 or end < start or end > len(data):
            return
        yield kind, data[start:end]
        at = end


def _read_meta(data: bytes, stream: BinaryIO, texts: Texts) -> None:
    items: dict[int, bytes] = {}
    places, inside = b"", b""
    for kind, content in _boxes(data):
        if kind == b"iinf":
            items = _items(content)
        elif kind == b"iloc":
            places = content
        elif kind == b"idat":
            inside = content
        elif kind == b"iprp":
            _size(content, texts)
    if not items or not places:
        return
    for item, extents in _extents(places, items):
        if not texts.afford("meta", sum(length for _, _, length in extents)):
            return
        what = _content(extents, inside, stream)
        if what is None:
            texts.too_long(items[item].decode(), ITEM_LIMIT, at_least=True)
        elif items[item] == b"exif":
            read_exif(what[4 + int.from_bytes(what[:4], "big") :], texts)  # begins with where the TIFF structure begins
        else:
            read_xmp(what, texts)


def _items(content: bytes) -> dict[int, bytes]:
    """Number of each Exif or XMP item -> b"exif" or b"xmp"."""
    found: dict[int, bytes] = {}
    for kind, entry in _boxes(content[6 if content[:1] == b"\0" else 8 :]):
        version = entry[:1]
        if kind != b"infe" or version not in (b"\2", b"\3"):
            continue
        wide = 2 if version == b"\2" else 4
        item, rest = int.from_bytes(entry[4 : 4 + wide], "big"), entry[4 + wide + 2 :]
        if rest[:4] == b"Exif":
            found[item] = b"exif"
        elif rest[:4] == b"mime":
            _, _, after = rest[4:].partition(b"\0")  # its name
            if after.partition(b"\0")[0].startswith(b"application/rdf+xml"):
                found[item] = b"xmp"
    return found


def _size(content: bytes, texts: Texts) -> None:
    """The largest of the pictures in the file: tiles and thumbnails are smaller."""
    for kind, properties in _boxes(content):
        if kind != b"ipco":
            continue
        for name, value in _boxes(properties):
            if name == b"ispe" and len(value) >= 12:
                width, height = int.from_bytes(value[4:8], "big"), int.from_bytes(value[8:12], "big")
                if width * height > (texts.width or 0) * (texts.height or 0):
                    texts.width, texts.height = width, height


class _Cursor:
    """Whole numbers out of bytes, one after another."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def ended(self) -> bool:
        return self._at >= len(self._data)

    def take(self, size: int) -> int:
        self._at += size
        return int.from_bytes(self._data[self._at - size : self._at], "big")


def _extents(content: bytes, wanted: dict[int, bytes]) -> Iterator[tuple[int, list[tuple[bool, int, int]]]]:
    """Item and its pieces: (in the idat box?, offset, length)."""
    cursor = _Cursor(content)
    version = cursor.take(1)
    cursor.take(3)
    sizes = cursor.take(2)
    offset, length, base, index = (sizes >> 12) & 15, (sizes >> 8) & 15, (sizes >> 4) & 15, sizes & 15
    if version > 2 or any(n not in (0, 4, 8) for n in (offset, length, base)):
        return
    wide = 4 if version == 2 else 2
    left = EXTENTS_LIMIT
    for _ in range(min(cursor.take(wide), EXTENTS_LIMIT)):
        if cursor.ended:
            return
        item = cursor.take(wide)
        method = cursor.take(2) & 15 if version else 0
        cursor.take(2)  # in which file
        start = cursor.take(base)
        pieces: list[tuple[bool, int, int]] = []
        number = cursor.take(2)
        left -= number
        if left < 0:
            return
        for _ in range(number):
            if version and index:
                cursor.take(index)
            where = start + cursor.take(offset)
            pieces.append((method == 1, where, cursor.take(length)))
        if item in wanted and method in (0, 1):
            yield item, pieces


def _content(pieces: list[tuple[bool, int, int]], inside: bytes, stream: BinaryIO) -> bytes | None:
    """The bytes of an item; None where they are too many."""
    if sum(length for _, _, length in pieces) > ITEM_LIMIT:
        return None
    parts = []
    for is_inside, where, length in pieces:
        if is_inside:
            parts.append(inside[where : where + length])
        elif where < _FARTHEST:
            stream.seek(where)
            parts.append(stream.read(length))
    return b"".join(parts)
