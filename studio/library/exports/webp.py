"""WebP: small, with transparency; lossy up to quality 99 and lossless at 100."""

from __future__ import annotations

from typing import Any, BinaryIO

from studio.core.recipes import ExportRecipe
from studio.engines.context import RunContext
from studio.library.exports.pictures import carried, hold_size, open_picture, save
from studio.library.exports.source import Source

LIMIT = 16_383  # px per side, from the format's 14-bit fields (RFC 9649, section 2.5)


def write(source: Source, stream: BinaryIO, recipe: ExportRecipe, ctx: RunContext) -> dict[str, Any]:
    """Write a WebP. Quality 1 to 99 is lossy; 100 keeps every pixel, also under full transparency."""
    picture = open_picture(source, ctx)
    hold_size(picture, LIMIT, "WebP")
    own = carried(source, recipe, "WEBP", ctx)
    lossless = recipe.quality == 100
    return save(
        picture, stream, ctx, "WEBP", lossless=lossless, exact=lossless, method=4, exif=own.exif, xmp=own.xmp,
        quality=75 if lossless else recipe.quality,  # lossless: effort, not quality
    )  # fmt: skip
