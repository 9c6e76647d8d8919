"""TIFF: lossless, and read by every program for print and photographs. Deflated, as differences of neighbours."""

from __future__ import annotations

from typing import Any, BinaryIO

from PIL import TiffImagePlugin

from studio.core.recipes import ExportRecipe
from studio.engines.context import RunContext
from studio.library.exports.pictures import carried, open_picture, save
from studio.library.exports.source import SOFTWARE, Source

_DESCRIPTION, _SOFTWARE, _PREDICTOR, _XMP = 270, 305, 317, 700
_BYTES, _ASCII = 1, 2
_HORIZONTAL = 2  # differencing (TIFF 6.0, section 14)


def write(source: Source, stream: BinaryIO, recipe: ExportRecipe, ctx: RunContext) -> dict[str, Any]:
    """Write a TIFF with the same pixels as the master. Quality means nothing here.

    How it was made is in its XMP packet: libtiff, as pillow drives it, writes no Exif directory beside compression.
    """
    picture = open_picture(source, ctx)
    own = carried(source, recipe, "TIFF", ctx)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[_PREDICTOR] = _HORIZONTAL
    if recipe.metadata:
        if source.tag:  # ASCII on paper; UTF-8 is the advice of the Metadata Working Group (Guidelines 2.0, 3.2)
            tags[_DESCRIPTION], tags.tagtype[_DESCRIPTION] = source.tag.encode("utf-8", "replace"), _ASCII
        tags[_SOFTWARE] = SOFTWARE
        if own.xmp:
            tags[_XMP], tags.tagtype[_XMP] = own.xmp, _BYTES
    return save(picture, stream, ctx, "TIFF", compression="tiff_adobe_deflate", tiffinfo=tags)
