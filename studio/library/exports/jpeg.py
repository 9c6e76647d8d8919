"""JPEG: small, lossy, without transparency."""

from __future__ import annotations

from typing import Any, BinaryIO

from studio.core.recipes import ExportRecipe
from studio.engines.context import RunContext
from studio.library.exports.pictures import carried, hold_size, on_white, open_picture, save
from studio.library.exports.source import Source

LIMIT = 65_500  # px per side; libjpeg's own limit, a little under the format's 65,535
FINE = 90  # above this quality, colour is kept at full resolution (4:4:4), below at half (4:2:0)


def write(source: Source, stream: BinaryIO, recipe: ExportRecipe, ctx: RunContext) -> dict[str, Any]:
    """Write a JPEG; transparency becomes white. Quality 1 to 100 as libjpeg counts it."""
    picture = open_picture(source, ctx)
    hold_size(picture, LIMIT, "JPEG")
    own = carried(source, recipe, "JPEG", ctx)
    return save(
        on_white(picture), stream, ctx, "JPEG", quality=recipe.quality, optimize=True, exif=own.exif, xmp=own.xmp,
        subsampling="4:4:4" if recipe.quality > FINE else "4:2:0",
    )  # fmt: skip
