"""TIFF's tags, which are Exif's, too: reading them within bounds, and writing the few a picture of ours carries.

Knows tags and their types; knows nothing of the files the tags are in.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from studio.library.metadata.found import TEXT_LIMIT
from studio.library.metadata.texts import Texts, eight_bits, user_comment
from studio.library.metadata.xmp import read_xmp

ENTRIES_LIMIT = 512  # tags in a directory
VALUE_LIMIT = 2 * TEXT_LIMIT + 64  # bytes; UserComment has two per character
EXIF_HEAD = b"Exif\0\0"
OURS = b"studio\0"  # begins our MakerNote; the recipe follows as JSON

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 8: 2, 9: 4}  # type -> bytes; types not listed hold no text or size
_WIDTH, _HEIGHT, _DESCRIPTION, _MAKE, _MODEL, _SOFTWARE = 0x0100, 0x0101, 0x010E, 0x010F, 0x0110, 0x0131
_XMP, _EXIF, _MAKER_NOTE, _USER_COMMENT, _ACROSS, _DOWN = 0x02BC, 0x8769, 0x927C, 0x9286, 0xA002, 0xA003
_XP = {0x9C9B: "XPTitle", 0x9C9C: "XPComment", 0x9C9E: "XPKeywords", 0x9C9F: "XPSubject"}  # Windows; UTF-16

# (offset, size) -> the bytes there, fewer where the file ends
At = Callable[[int, int], bytes]


def read_exif(data: bytes, texts: Texts) -> None:
    """The texts of an Exif block, with or without its "Exif" in front."""
    data = data.removeprefix(EXIF_HEAD)
    read_tags(lambda offset, size: data[offset : offset + size], texts, picture=False)


def read_tags(at: At, texts: Texts, *, picture: bool) -> None:
    """The texts in the first directory of a TIFF structure and in its Exif directory.

    Args:
        picture: the structure is a TIFF file, so its width and height are the picture's.
    """
    head = at(0, 8)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    if order is None or len(head) < 8:
        return
    (first,) = struct.unpack(order + "I", head[4:])
    further = None
    for tag, kind, data, size in _entries(at, first, order, texts):
        if tag == _EXIF and kind in (4, 13) and len(data) >= 4:
            (further,) = struct.unpack(order + "I", data[:4])
        else:
            _take(tag, kind, data, size, order, texts, picture)
    if further:
        for tag, kind, data, size in _entries(at, further, order, texts):
            _take(tag, kind, data, size, order, texts, picture)


def _entries(at: At, offset: int, order: str, texts: Texts) -> Iterator[tuple[int, int, bytes, int]]:
    """Tag, type, value and the value's size in bytes; the value is cut at VALUE_LIMIT."""
    counted = at(offset, 2)
    if len(counted) < 2:
        return
    count = min(struct.unpack(order + "H", counted)[0], ENTRIES_LIMIT)
    table = at(offset + 2, count * 12)
    for start in range(0, len(table) - 11, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", table, start)
        size = number * _SIZES.get(kind, 4 if kind == 13 else 0)
        if size <= 4:
            yield tag, kind, table[start + 8 : start + 8 + size], size
            continue
        if tag not in _TEXTUAL and kind != 2:
            continue  # strips, thumbnails, profiles: nothing here
        if not texts.afford("exif", min(size, VALUE_LIMIT)):
            return
        (where,) = struct.unpack_from(order + "I", table, start + 8)
        yield tag, kind, at(where, min(size, VALUE_LIMIT)), size


_TEXTUAL = {_DESCRIPTION, _MAKE, _MODEL, _SOFTWARE, _XMP, _MAKER_NOTE, _USER_COMMENT, *_XP}
_NAMES = {_DESCRIPTION: "ImageDescription", _MAKE: "Make", _MODEL: "Model", _SOFTWARE: "Software", **_XP}


def _take(tag: int, kind: int, data: bytes, size: int, order: str, texts: Texts, picture: bool) -> None:
    if tag in (_WIDTH, _HEIGHT, _ACROSS, _DOWN) and kind in (3, 4) and picture:
        value = struct.unpack(order + ("H" if kind == 3 else "I"), data)[0] if len(data) in (2, 4) else 0
        if value and tag == _WIDTH:
            texts.width = value
        elif value and tag == _HEIGHT:
            texts.height = value
    elif tag == _XMP:
        read_xmp(data, texts, size)
    elif tag in (_USER_COMMENT, _MAKER_NOTE) or tag in _NAMES or kind == 2:
        name = {_USER_COMMENT: "UserComment", _MAKER_NOTE: "MakerNote"}.get(tag) or _NAMES.get(tag) or f"{tag:#06x}"
        if tag == _MAKER_NOTE and kind != 2 and not data.startswith(OURS):
            return  # a camera's own notes are no text
        if size > VALUE_LIMIT:
            texts.too_long(f"exif:{name}", size)
        elif tag == _MAKER_NOTE and data.startswith(OURS):
            texts.add("exif:studio", data[len(OURS) :].decode("utf-8", "replace"))
        elif tag == _USER_COMMENT:
            texts.add(f"exif:{name}", user_comment(data, order == ">"))
        elif tag in _XP:
            texts.add(f"exif:{name}", data[: len(data) & ~1].decode("utf-16-le", "replace").rstrip("\0"))
        else:
            texts.add(f"exif:{name}", eight_bits(data.rstrip(b"\0")))


def write_exif(main: dict[int, tuple[int, bytes]], further: dict[int, tuple[int, bytes]]) -> bytes:
    """A TIFF structure, big-endian, without "Exif" in front.

    Args:
        main: tag -> (type, value) of the first directory. further: of its Exif directory. Types of one byte only.
    """
    main = dict(main)
    first = 8
    if further:
        main[_EXIF] = (4, b"\0\0\0\0")  # its place is filled in below
    second = first + _directory_size(main)
    if further:
        main[_EXIF] = (4, struct.pack(">I", second))
    parts = [b"MM\0*" + struct.pack(">I", first), _directory(main, first)]
    if further:
        parts.append(_directory(further, second))
    return b"".join(parts)


def _directory_size(tags: dict[int, tuple[int, bytes]]) -> int:
    return 2 + 12 * len(tags) + 4 + sum(len(v) + len(v) % 2 for _, v in tags.values() if len(v) > 4)


def _directory(tags: dict[int, tuple[int, bytes]], offset: int) -> bytes:
    """A directory that stands at `offset`, its values behind it."""
    table = [struct.pack(">H", len(tags))]
    values: list[bytes] = []
    where = offset + 2 + 12 * len(tags) + 4
    for tag in sorted(tags):  # in order, as TIFF 6.0 asks
        kind, value = tags[tag]
        entry = struct.pack(">HHI", tag, kind, len(value) // _SIZES[kind])
        if len(value) <= 4:
            table.append(entry + value.ljust(4, b"\0"))
        else:
            table.append(entry + struct.pack(">I", where))
            padded = value + b"\0" * (len(value) % 2)  # values begin at even places
            values.append(padded)
            where += len(padded)
    return b"".join([*table, b"\0\0\0\0", *values])


def exif_block(
    *, description: str = "", software: str = "", comment: str = "", recipe_json: str = "", xmp: bytes = b""
) -> bytes:
    """An Exif block of the texts that are given; empty without any.

    Args:
        comment: UserComment, as UTF-16 big-endian, which is what A1111 and its relatives write and read.
        recipe_json: our recipe, as a MakerNote. xmp: a packet; only TIFF files have it among their tags.
    """
    main: dict[int, tuple[int, bytes]] = {}
    further: dict[int, tuple[int, bytes]] = {}
    # ASCII on paper; UTF-8 is the advice of the Metadata Working Group (Guidelines 2.0, section 3.2)
    if description:
        main[_DESCRIPTION] = (2, description.encode("utf-8", "replace").replace(b"\0", b"") + b"\0")
    if software:
        main[_SOFTWARE] = (2, software.encode("utf-8", "replace").replace(b"\0", b"") + b"\0")
    if xmp:
        main[_XMP] = (1, xmp)
    if recipe_json:
        further[_MAKER_NOTE] = (7, OURS + recipe_json.encode("utf-8", "replace"))
    if comment:
        further[_USER_COMMENT] = (7, b"UNICODE\0" + comment.encode("utf-16-be", "replace"))
    if further:
        further[0x9000] = (7, b"0232")  # ExifVersion; readers ask for it
    return write_exif(main, further) if main or further else b""
