"""PNG: lossless. A master that is a PNG is copied chunk by chunk, so depth, profile and pixels stay as they are."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from studio.core.recipes import ExportRecipe
from studio.engines.context import RunContext
from studio.library import metadata
from studio.library.exports.source import SOFTWARE, Source, unreadable

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_OURS = (b"Title", b"Software")
_TELLING = (*_TEXT, b"eXIf", b"tIME")  # left out where a picture is not to tell how it was made


def write(source: Source, stream: BinaryIO, recipe: ExportRecipe, ctx: RunContext) -> dict[str, Any]:
    """Write a PNG with the same pixels as the master. Quality means nothing here.

    Without metadata no text of any kind is in it, the title included: it usually is the prompt.
    """
    try:
        with _opened(source) as master:
            if _begins_as_png(master):
                return _copy(source, master, stream, recipe, ctx)
    except _Damaged as error:
        raise unreadable(source, error.__cause__ or error) from error
    return _encode(source, stream, recipe, ctx)


class _Damaged(Exception):
    """The chunks of the master do not add up, or cannot be read: then the disk's own error is the cause."""


def _opened(source: Source) -> BinaryIO:
    try:
        return open(source.path, "rb")
    except OSError as error:
        raise _Damaged(repr(error)) from error


def _begins_as_png(master: BinaryIO) -> bool:
    try:
        return master.read(len(SIGNATURE)) == SIGNATURE
    except OSError as error:
        raise _Damaged(repr(error)) from error


def _copy(source: Source, master: BinaryIO, stream: BinaryIO, recipe: ExportRecipe, ctx: RunContext) -> dict[str, Any]:
    total = source.path.stat().st_size
    meta: dict[str, Any] = {}
    texts = _texts(source, recipe)
    anew = {*_OURS, *(key for key, _ in texts)}
    stream.write(SIGNATURE)
    for kind, data, crc in _chunks(master, total):
        ctx.check()
        if kind in _TELLING and not recipe.metadata:
            continue
        if kind in _TEXT and data.split(b"\0", 1)[0] in anew:
            continue  # said anew
        stream.write(struct.pack(">I", len(data)) + kind + data + crc)
        if kind == b"IHDR":
            width, height = struct.unpack(">II", data[:8])
            meta = {"width": width, "height": height}
            for key, value in texts:
                stream.write(_text_chunk(key, value))
        ctx.progress(master.tell(), total, "bytes", "copying")
    return meta


def _texts(source: Source, recipe: ExportRecipe) -> list[tuple[bytes, str]]:
    """Keyword and text of what is written into the file. A recipe that the master carries stays where none is known."""
    if not recipe.metadata:
        return []
    from studio.library.exports.pictures import parameters, recipe_json

    own = [(key, value) for key, value in zip(_OURS, (source.tag, SOFTWARE), strict=True) if value]
    chunks = metadata.png_chunks(recipe_json(source), parameters(source))
    return own + [(key.encode("latin-1"), value) for key, value in chunks]


def _chunks(master: BinaryIO, total: int) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Kind, data and checksum of each chunk up to IEND, each checked. What follows IEND is no part of it."""
    first = True
    while True:
        head = _read(master, 8, total)
        (length,), kind = struct.unpack(">I", head[:4]), head[4:]
        data, crc = _read(master, length, total), _read(master, 4, total)
        if zlib.crc32(kind + data) != int.from_bytes(crc, "big"):
            raise _Damaged(f"checksum of a {kind!r} chunk is wrong")
        if first and (kind != b"IHDR" or length != 13):
            raise _Damaged("it does not begin with IHDR")
        first = False
        yield kind, data, crc
        if kind == b"IEND":
            return


def _read(master: BinaryIO, size: int, total: int) -> bytes:
    # the length field may claim 4 GB: compare with the file before reading
    if size > total - master.tell():
        raise _Damaged("it ends early")
    try:
        data = master.read(size)
    except OSError as error:
        raise _Damaged(repr(error)) from error
    if len(data) != size:
        raise _Damaged("it became shorter while it was read")
    return data


def _text_chunk(key: bytes, value: str) -> bytes:
    """One iTXt chunk (PNG third edition, section 11.3.3.4): UTF-8, not compressed, no language."""
    data = key + b"\0\0\0\0\0" + value.encode("utf-8")
    return struct.pack(">I", len(data)) + b"iTXt" + data + struct.pack(">I", zlib.crc32(b"iTXt" + data))


def _encode(source: Source, stream: BinaryIO, recipe: ExportRecipe, ctx: RunContext) -> dict[str, Any]:
    from PIL.PngImagePlugin import PngInfo

    from studio.library.exports.pictures import open_picture, save

    picture = open_picture(source, ctx)
    info = PngInfo()
    for key, value in _texts(source, recipe):
        info.add_itxt(key.decode("latin-1"), value)
    return save(picture, stream, ctx, "PNG", pnginfo=info)
