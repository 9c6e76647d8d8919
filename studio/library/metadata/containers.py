"""Where PNG, JPEG, WebP, AVIF, HEIF and TIFF files keep texts. Knows bytes and bounds; trusts no length in a file.

Pixels are passed over unread, so a large picture costs no more than a small one (hidden.py looks into them).
"""

from __future__ import annotations

import zlib
from typing import BinaryIO

from studio.library.metadata.boxes import is_picture, read_boxes
from studio.library.metadata.found import TEXT_LIMIT
from studio.library.metadata.texts import Texts, eight_bits
from studio.library.metadata.tiff import VALUE_LIMIT, read_exif, read_tags
from studio.library.metadata.xmp import PACKET_LIMIT, read_xmp

PNG = b"\x89PNG\r\n\x1a\n"
CHUNKS_LIMIT = 100_000  # 800 MB in chunks of 8 KiB, the smallest that are usual
SEGMENTS_LIMIT = 2_000  # of a JPEG before its pixels; profiles take a few dozen
BLOCK_LIMIT = PACKET_LIMIT + VALUE_LIMIT  # bytes of an Exif block or an XMP packet
_XMP_IN_PNG = "XML:com.adobe.xmp"
_XMP_IN_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
_MORE_XMP = b"http://ns.adobe.com/xmp/extension/\0"


def texts_in(stream: BinaryIO) -> Texts | None:
    """The texts of a picture file, or None if it is none of the formats.

    Args:
        stream: at its beginning; can be moved.

    Raises:
        OSError: reading failed.
    """
    texts = Texts()
    head = stream.read(64)
    if head.startswith(PNG):
        stream.seek(len(PNG))
        _png(stream, texts)
    elif head.startswith(b"\xff\xd8\xff"):
        stream.seek(2)
        _jpeg(stream, texts)
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        stream.seek(12)
        _webp(stream, texts)
    elif head[:4] in (b"II*\0", b"MM\0*"):

        def at(offset: int, size: int) -> bytes:
            stream.seek(offset)
            return stream.read(size)

        read_tags(at, texts, picture=True)
    elif is_picture(head):
        read_boxes(stream, texts)
    else:
        return None
    return texts


# -- PNG (third edition) -----------------------------------------------------------------------------------------------


def _png(stream: BinaryIO, texts: Texts) -> None:
    for _ in range(CHUNKS_LIMIT):
        head = stream.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8 or kind == b"IEND" or length > 0x7FFFFFFF:
            return
        if kind == b"IHDR" and length == 13:
            data = stream.read(length)
            texts.width, texts.height = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
            stream.seek(4, 1)
            continue
        if kind not in (b"tEXt", b"zTXt", b"iTXt", b"eXIf"):
            stream.seek(length + 4, 1)
            continue
        if length > BLOCK_LIMIT:
            keyword = stream.read(80).partition(b"\0")[0].decode("latin-1")
            texts.too_long(keyword if kind != b"eXIf" else "exif", length)
            stream.seek(length + 4 - 80, 1)
            continue
        if not texts.afford(kind.decode(), length):
            return
        data, crc = stream.read(length), stream.read(4)
        if len(data) < length or len(crc) < 4:
            texts.leave(kind.decode(), "the file ends in the middle of it")
            return
        if zlib.crc32(kind + data) != int.from_bytes(crc, "big"):
            texts.leave(kind.decode(), "damaged: its checksum is wrong")
            continue
        if kind == b"eXIf":
            read_exif(data, texts)
        else:
            _png_text(kind, data, texts)


def _png_text(kind: bytes, data: bytes, texts: Texts) -> None:
    name, _, rest = data.partition(b"\0")
    keyword = name[:79].decode("latin-1")
    packed = kind == b"zTXt"
    if packed:
        rest = rest[1:]  # method; there is one only
    elif kind == b"iTXt":
        packed, rest = rest[:1] == b"\1", rest[2:]
        _, _, rest = rest.partition(b"\0")  # language
        _, _, rest = rest.partition(b"\0")  # translated keyword
    if packed:
        limit = PACKET_LIMIT if keyword == _XMP_IN_PNG else TEXT_LIMIT
        unpacked = _unpacked(rest, limit) if texts.afford(keyword, min(limit, 1_100 * len(rest))) else (b"", True)
        if unpacked is None:
            texts.leave(keyword, "damaged: it cannot be unpacked")
            return
        rest, whole = unpacked
        if not whole:
            texts.too_long(keyword, len(rest), at_least=True)
            return
    if keyword == _XMP_IN_PNG:
        read_xmp(rest, texts)
    else:
        texts.add(keyword, rest.decode("utf-8", "replace") if kind == b"iTXt" else eight_bits(rest))


def _unpacked(data: bytes, limit: int) -> tuple[bytes, bool] | None:
    """At most `limit` bytes out of packed ones, and whether that is all. None where they are damaged."""
    inflate = zlib.decompressobj()
    try:
        found = inflate.decompress(data, limit + 1)
    except zlib.error:
        return None
    return found[:limit], len(found) <= limit


# -- JPEG (ITU T.81) ---------------------------------------------------------------------------------------------------


def _jpeg(stream: BinaryIO, texts: Texts) -> None:
    more: dict[int, bytes] = {}
    for _ in range(SEGMENTS_LIMIT):
        marker = stream.read(2)
        if marker == b"\xff\xff":  # a fill byte
            stream.seek(-1, 1)
            continue
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] in (0xD9, 0xDA):
            break  # pixels begin, or the file is damaged
        if marker[1] == 0x01 or 0xD0 <= marker[1] <= 0xD7:
            continue  # these have no content
        size = int.from_bytes(stream.read(2), "big")
        if size < 2:
            break
        if marker[1] not in (0xE1, 0xFE) and not _begins_frame(marker[1]):
            stream.seek(size - 2, 1)
            continue
        if not texts.afford("JPEG", size):
            break
        data = stream.read(size - 2)
        if len(data) < size - 2:
            texts.leave("JPEG", "the file ends early")
            break
        if marker[1] == 0xFE:
            texts.add("comment", eight_bits(data.rstrip(b"\0")))
        elif marker[1] != 0xE1:
            texts.height, texts.width = int.from_bytes(data[1:3], "big"), int.from_bytes(data[3:5], "big")
        elif data.startswith(b"Exif\0"):
            read_exif(data[6:], texts)
        elif data.startswith(_XMP_IN_JPEG):
            read_xmp(data[len(_XMP_IN_JPEG) :], texts)
        elif data.startswith(_MORE_XMP) and sum(map(len, more.values())) < BLOCK_LIMIT:
            # after the name: a checksum of 32 characters, the whole length, and where this piece belongs
            more[int.from_bytes(data[len(_MORE_XMP) + 36 : len(_MORE_XMP) + 40], "big")] = data[len(_MORE_XMP) + 40 :]
    if more:
        read_xmp(b"".join(more[at] for at in sorted(more)), texts)


def _begins_frame(marker: int) -> bool:
    """SOF: the segment that has the size. Four of the numbers in between mean something else."""
    return 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)


# -- WebP (RFC 9649) ---------------------------------------------------------------------------------------------------


def _webp(stream: BinaryIO, texts: Texts) -> None:
    for _ in range(CHUNKS_LIMIT):
        head = stream.read(8)
        kind, size = head[:4], int.from_bytes(head[4:], "little")
        if len(head) < 8:
            return
        padded = size + size % 2
        if kind in (b"EXIF", b"XMP ") and size <= BLOCK_LIMIT:
            if not texts.afford(kind.decode().strip().lower(), size):
                return
            data = stream.read(padded)[:size]
            if len(data) < size:
                texts.leave(kind.decode().strip(), "the file ends in the middle of it")
                return
            (read_exif if kind == b"EXIF" else read_xmp)(data, texts)
        elif kind in (b"VP8X", b"VP8 ", b"VP8L") and size >= 10 and texts.width is None:
            data = stream.read(10)
            _webp_size(kind, data, texts)
            stream.seek(padded - 10, 1)
        else:
            if kind in (b"EXIF", b"XMP "):
                texts.too_long(kind.decode().strip().lower(), size)
            stream.seek(padded, 1)


def _webp_size(kind: bytes, data: bytes, texts: Texts) -> None:
    if kind == b"VP8X":
        texts.width, texts.height = 1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little")
    elif kind == b"VP8 " and data[3:6] == b"\x9d\x01\x2a":
        texts.width = int.from_bytes(data[6:8], "little") & 0x3FFF
        texts.height = int.from_bytes(data[8:10], "little") & 0x3FFF
    elif kind == b"VP8L" and data[:1] == b"\x2f":
        bits = int.from_bytes(data[1:5], "little")
        texts.width, texts.height = 1 + (bits & 0x3FFF), 1 + ((bits >> 14) & 0x3FFF)
