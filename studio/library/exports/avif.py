"""AVIF: smaller than JPEG and WebP at the same look, with transparency; slow to write, and never quite lossless."""

from __future__ import annotations

from typing import Any, BinaryIO

from studio.core.recipes import ExportRecipe
from studio.engines.context import RunContext
from studio.library.exports.pictures import carried, hold_size, open_picture, save
from studio.library.exports.source import Source

LIMIT = 32_768  # px per side: what libavif, and so most programs, agree to open
FINE = 80  # above this quality, colour is kept at full resolution (4:4:4), below at half (4:2:0)


def write(source: Source, stream: BinaryIO, recipe: ExportRecipe, ctx: RunContext) -> dict[str, Any]:
    """Write an AVIF. At quality 100 all that is lost is the rounding into brightness and two colour axes."""
    picture = open_picture(source, ctx)
    hold_size(picture, LIMIT, "AVIF")
    own = carried(source, recipe, "AVIF", ctx)
    fine = "4:4:4" if recipe.quality > FINE else "4:2:0"
    return save(
        picture, stream, ctx, "AVIF", quality=recipe.quality, exif=own.exif, xmp=own.xmp,
        subsampling="4:0:0" if picture.mode == "L" else fine,
    )  # fmt: skip
