"""Texts hidden in a PNG's pixels: the lowest bits of its alpha or of its colours, as NovelAI and its relatives do.

Bits are taken column by column: fifteen letters that say which way it is, the number of bits that follow (32 bits), and
the text, plain or packed by gzip. Whoever removes a file's texts mostly leaves these. Knows how PNG packs and filters
pixels, as far as the leading columns need it; trusts no length in a file. A picture without any costs a few rows.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from studio.library.metadata.found import TEXT_LIMIT
from studio.library.metadata.texts import Texts, eight_bits

HIDDEN_LIMIT = 64 * 1024  # bytes as they are hidden; NovelAI's take two or three thousand
PIXELS_LIMIT = 64_000_000  # a text begins in the first column, so all rows have to be unpacked
SIDE_LIMIT = 32_768  # px; bounds the memory of a row and the number of rows
CHUNKS_LIMIT = 100_000
PIECE = 64 * 1024  # bytes

_PNG = b"\x89PNG\r\n\x1a\n"
_MARK = b"stealth_"
# the rest of the letters -> the samples of a pixel that are used, and whether the text is packed
_WAYS = {
    b"pnginfo": ("alpha", False),
    b"pngcomp": ("alpha", True),
    b"rgbinfo": ("rgb", False),
    b"rgbcomp": ("rgb", True),
}
_SAMPLES = {"alpha": (3,), "rgb": (0, 1, 2)}
_HEAD = 15 + 4  # bytes: the letters and the length


class _NotThere(Exception):
    """Nothing is hidden, or not in a form that is known here."""


def hidden_in(stream: BinaryIO, texts: Texts) -> str | None:
    """The text hidden in a picture's pixels.

    Args:
        stream: a whole file; can be moved.
        texts: is told of one that is there and cannot be read.

    Returns:
        None where there is none, and for all files but PNGs of 8 bits per sample that are not interlaced.

    Raises:
        OSError: reading failed.
    """
    try:
        way, head = _head(stream)
        lanes, packed = _WAYS[head[len(_MARK) : 15]]
        if lanes != way:
            return None
        bits = int.from_bytes(head[15:_HEAD], "big")
        if bits > 8 * HIDDEN_LIMIT:
            texts.too_long("hidden in the pixels", bits // 8)
            return None
        data = _bytes(stream, way, _HEAD + bits // 8)[_HEAD:]
    except (_NotThere, KeyError):
        return None
    except zlib.error:
        texts.leave("hidden in the pixels", "damaged: the pixels cannot be unpacked")
        return None
    if len(data) < bits // 8:
        texts.leave("hidden in the pixels", "it is longer than the picture")
        return None
    if packed:
        inflate = zlib.decompressobj(wbits=31)  # gzip
        try:
            data = inflate.decompress(data, TEXT_LIMIT + 1)
        except zlib.error:
            texts.leave("hidden in the pixels", "damaged: it cannot be unpacked")
            return None
    if len(data) > TEXT_LIMIT:
        texts.too_long("hidden in the pixels", TEXT_LIMIT, at_least=True)
        return None
    return eight_bits(data)


def _head(stream: BinaryIO) -> tuple[str, bytes]:
    """Which samples hide a text, and its first bytes. Mostly ends after the first rows, by raising _NotThere."""
    for way in _SAMPLES:
        try:
            head = _bytes(stream, way, _HEAD)
        except _NotThere:
            continue
        if head.startswith(_MARK):
            return way, head
    raise _NotThere


def _bytes(stream: BinaryIO, way: str, count: int) -> bytes:
    """The first `count` bytes out of the lowest bits of some samples; fewer where the picture has fewer.

    Raises:
        _NotThere: not such a picture, or its first column does not begin like a hidden text. zlib.error.
    """
    width, height, size = _format(stream)
    samples = _SAMPLES[way]
    if samples[-1] >= size:
        raise _NotThere
    columns = min(width, -(-count * 8 // (height * len(samples))))
    begins = _bits(_MARK)[: height * len(samples)]
    above = [bytes(columns)] * len(samples)
    table: list[list[bytes]] = []  # row -> sample -> its first columns
    for row in _rows(stream, width * size, height):
        above = [
            _unfiltered(row[0], row[1 + sample : 1 + columns * size : size], up)
            for sample, up in zip(samples, above, strict=True)
        ]
        at = len(table) * len(samples)
        if any(lane[0] & 1 != bit for lane, bit in zip(above, begins[at : at + len(samples)], strict=False)):
            raise _NotThere
        table.append(above)
        if len(table) * len(samples) >= count * 8:
            break  # the first column has it all
    found = bytearray()
    value = bits = 0
    for column in range(columns):
        for lanes in table:
            for lane in lanes:
                value = value << 1 | lane[column] & 1
                bits += 1
                if bits == 8:
                    found.append(value)
                    value = bits = 0
    return bytes(found[:count])


def _bits(data: bytes) -> list[int]:
    return [byte >> at & 1 for byte in data for at in range(7, -1, -1)]


def _format(stream: BinaryIO) -> tuple[int, int, int]:
    """Width, height and samples per pixel; leaves `stream` behind the header."""
    stream.seek(0)
    head = stream.read(33)
    if len(head) < 33 or not head.startswith(_PNG + b"\0\0\0\x0dIHDR"):
        raise _NotThere
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    size = {2: 3, 6: 4}.get(head[25], 0)  # colours, and colours with alpha
    if not (head[24] == 8 and size and head[26:29] == b"\0\0\0" and 0 < width * height <= PIXELS_LIMIT):
        raise _NotThere
    if max(width, height) > SIDE_LIMIT:
        raise _NotThere
    return width, height, size


def _rows(stream: BinaryIO, length: int, height: int) -> Iterator[bytes]:
    """Rows as they are filtered, each with the number of its filter before it; fewer where the file ends early."""
    inflate, waiting = zlib.decompressobj(), bytearray()
    for piece in _packed(stream):
        while piece:
            waiting += inflate.decompress(piece, 16 * PIECE)
            piece = inflate.unconsumed_tail
            whole = len(waiting) // (length + 1)
            for at in range(min(whole, height)):
                yield bytes(waiting[at * (length + 1) : (at + 1) * (length + 1)])
            del waiting[: whole * (length + 1)]
            height -= whole
            if height <= 0:
                return


def _packed(stream: BinaryIO) -> Iterator[bytes]:
    """What the IDAT chunks hold, in pieces."""
    for _ in range(CHUNKS_LIMIT):
        head = stream.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8 or kind == b"IEND" or length > 0x7FFFFFFF:
            return
        if kind != b"IDAT":
            stream.seek(length + 4, 1)
            continue
        while length > 0:
            piece = stream.read(min(length, PIECE))
            if not piece:
                return
            length -= len(piece)
            yield piece
        stream.seek(4, 1)  # its checksum; the packed data has one of its own


def _unfiltered(kind: int, lane: bytes, up: bytes) -> bytes:
    """One sample of the first pixels of a row, as they are. PNG (third edition), section 9.

    Args:
        kind: number of the filter. lane: as filtered. up: the same sample in the row above.

    Raises:
        _NotThere: there is no such filter.
    """
    if kind == 0:
        return lane
    if kind == 2:
        return bytes((a + b) & 255 for a, b in zip(lane, up, strict=True))
    if kind not in (1, 3, 4):
        raise _NotThere
    out = bytearray()
    left = corner = 0
    for value, above in zip(lane, up, strict=True):
        if kind == 1:
            guess = left
        elif kind == 3:
            guess = (left + above) >> 1
        else:
            to_left, to_above = abs(above - corner), abs(left - corner)
            to_corner = abs(left + above - 2 * corner)
            guess = left if to_left <= to_above and to_left <= to_corner else above if to_above <= to_corner else corner
        left, corner = (value + guess) & 255, above
        out.append(left)
    return bytes(out)
