"""How large an exported picture will be, before it is written. Knows the formats as functions; imports pillow."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
from PIL import Image

from studio.core.problems import BadRecipe
from studio.core.recipes import ExportRecipe
from studio.core.text import shown
from studio.engines.context import RunContext
from studio.library.exports.pictures import open_picture
from studio.library.exports.source import Source

ENCODED_WHOLE = 4_000_000  # pixels; up to here the picture is really encoded
SIDE = 512  # px of a sample
ACROSS, DOWN = 3, 3  # samples


class Size(msgspec.Struct, frozen=True):
    """How large a file will be. `exact`: it was really encoded; otherwise told from samples."""

    bytes: int
    exact: bool


def estimate(source: Source, extension: str, quality: int, metadata: bool, ctx: RunContext) -> Size:
    """The size of an export that is not written.

    Args:
        extension: one of the picture formats, with its dot. ctx: for cancel only; it is told nothing.

    Raises:
        BadRecipe: it is no picture, or the format is unknown. What the format itself raises: LibraryBroken, NotSaved.
    """
    from studio.library.exports import EXPORTS, load_format

    export = EXPORTS.get(extension)
    if source.kind != "image" or export is None or export.kind != "image":
        raise BadRecipe(f"The size of a {shown(extension)} file cannot be told beforehand.", field="to")
    write = load_format(export)
    recipe = ExportRecipe(work="", to=extension, quality=quality, metadata=metadata)
    quiet = RunContext("", ctx.out_dir, ctx.cache_dir, lambda event: None, ctx._cancelled)

    def written(of: Source) -> int:
        counter = io.BytesIO()
        write(of, cast(BinaryIO, counter), recipe, quiet)
        return counter.getbuffer().nbytes

    if extension == ".png" and _is_png(source.path):  # it is copied, whatever its size
        return Size(written(source), True)
    picture = open_picture(source, quiet)
    whole = picture.width * picture.height
    if whole <= ENCODED_WHOLE:
        return Size(written(source), True)
    # Two samples tell what the pixels cost and what is there once: header, profile, texts.
    with _kept(_samples(picture), source) as many, _kept(picture.crop((0, 0, 16, 16)), source) as few:
        large, small = written(many[0]), written(few[0])
    each = (large - small) / (many[1] - few[1])
    return Size(max(small, round(small + each * (whole - few[1]))), False)


def _is_png(path: Path) -> bool:
    with contextlib.suppress(OSError), open(path, "rb") as stream:
        return stream.read(8) == b"\x89PNG\r\n\x1a\n"
    return False


def _samples(picture: Image.Image) -> Image.Image:
    """Pieces from all over a picture, side by side: as like it as a smaller picture can be."""
    wide, high = min(SIDE, picture.width // ACROSS), min(SIDE, picture.height // DOWN)
    made = Image.new(picture.mode, (wide * ACROSS, high * DOWN))
    for row in range(DOWN):
        for column in range(ACROSS):
            left = column * (picture.width - wide) // (ACROSS - 1)
            top = row * (picture.height - high) // (DOWN - 1)
            made.paste(picture.crop((left, top, left + wide, top + high)), (column * wide, row * high))
    made.info = dict(picture.info)
    return made


@contextlib.contextmanager
def _kept(picture: Image.Image, source: Source) -> Iterator[tuple[Source, int]]:
    """A picture as a master of its own, and its number of pixels."""
    handle, name = tempfile.mkstemp(suffix=".tif")
    try:
        with os.fdopen(handle, "wb") as stream:
            more: dict[str, Any] = {"icc_profile": p} if (p := picture.info.get("icc_profile")) else {}
            picture.save(stream, "TIFF", **more)
        yield msgspec.structs.replace(source, master=name), picture.width * picture.height
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)
