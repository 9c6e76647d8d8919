"""Recipes that files carry: sidecars, what the command line prints, and pictures with a text chunk of ours.

Knows bytes and bounds; knows nothing of where a file came from, and trusts none.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from studio.core.problems import BadRecipe
from studio.core.recipes import CARRIED_AS, CARRIED_LIMIT, ExportRecipe, Recipe, recheck

FILE_LIMIT = 64 * 1024 * 1024  # bytes; a longer file is not looked into
CHUNKS_LIMIT = 100_000  # a picture of 64 MiB in the smallest usual chunks has a tenth of that
PNG = b"\x89PNG\r\n\x1a\n"
BOM = b"\xef\xbb\xbf"  # some editors begin a UTF-8 file with it

_recipes: msgspec.json.Decoder[Recipe] = msgspec.json.Decoder(Recipe)


class _Outer(msgspec.Struct):
    """What may be around a recipe: a sidecar has it in its work, the command line prints it beside other facts."""

    recipe: msgspec.Raw = msgspec.Raw()
    work: msgspec.Raw = msgspec.Raw()


_outers: msgspec.json.Decoder[_Outer] = msgspec.json.Decoder(_Outer)


def recipe_in(stream: BinaryIO) -> Recipe | None:
    """The recipe in an open file, or None.

    Args:
        stream: at its beginning; can be moved.

    Raises:
        OSError: reading failed.
    """
    head = stream.read(len(PNG))
    if head == PNG:
        return next((r for text in _texts(stream) if (r := _in_json(text)) is not None), None)
    begins = head.removeprefix(BOM).lstrip()
    if begins and not begins.startswith(b"{"):
        return None  # not worth reading
    data = head + _rest(stream, FILE_LIMIT + 1 - len(head))
    return _in_json(data.removeprefix(BOM)) if len(data) <= FILE_LIMIT else None


def _rest(stream: BinaryIO, limit: int) -> bytes:
    """What is left of a stream, at most `limit` bytes."""
    pieces, size = [], 0
    # piece by piece: asked for all at once, Python takes memory for the whole limit first
    while size < limit and (more := stream.read(min(1 << 20, limit - size))):
        pieces.append(more)
        size += len(more)
    return b"".join(pieces)


def _in_json(data: bytes, depth: int = 0) -> Recipe | None:
    """A recipe in JSON: bare, under "recipe", or under "recipe" in "work"; None for anything else."""
    try:
        outer = _outers.decode(data)
        inner = bytes(outer.recipe) or bytes(outer.work)
        if inner:
            return _in_json(inner, depth + 1) if depth < 2 else None
        recipe = _recipes.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(recipe, ExportRecipe):
        return None  # it makes no work, and names a file to write
    with contextlib.suppress(BadRecipe):
        return recheck(recipe).recipe
    return None


def _texts(stream: BinaryIO) -> Iterator[bytes]:
    """Our text chunks of a PNG (third edition, section 11.3.3.4), uncompressed ones only: nothing can swell.

    Pixels are passed over unread. What is damaged ends the search.
    """
    start = CARRIED_AS.encode() + b"\0\0\0"  # keyword, not compressed
    for _ in range(CHUNKS_LIMIT):
        head = stream.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8 or kind == b"IEND":
            return
        if kind != b"iTXt" or length > CARRIED_LIMIT + 1024:
            stream.seek(length + 4, 1)
            continue
        data, crc = stream.read(length), stream.read(4)
        if len(data) < length or zlib.crc32(kind + data) != int.from_bytes(crc, "big"):
            return
        if data.startswith(start):
            _, _, text = data[len(start) :].partition(b"\0")  # language
            _, _, text = text.partition(b"\0")  # translated keyword
            if len(text) <= CARRIED_LIMIT:
                yield text
