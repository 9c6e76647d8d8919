"""OGG Vorbis: small and free, for any sample rate."""

from __future__ import annotations

from typing import Any, BinaryIO

from studio.core.recipes import ExportRecipe
from studio.engines.context import RunContext
from studio.library.exports.sound import open_sound, pour
from studio.library.exports.source import Source


def write(source: Source, stream: BinaryIO, recipe: ExportRecipe, ctx: RunContext) -> dict[str, Any]:
    """Write an OGG Vorbis; quality 1 to 100 is Vorbis' 0.0 to 1.0. Two exports differ in the stream's random number."""
    with open_sound(source) as sound:
        return pour(source, sound, stream, ctx, "OGG", "VORBIS", compression_level=1 - recipe.quality / 100)
