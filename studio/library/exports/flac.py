"""FLAC: lossless, about half the size of WAV."""

from __future__ import annotations

from typing import Any, BinaryIO

from studio.core.recipes import ExportRecipe
from studio.engines.context import RunContext
from studio.library.exports.sound import depth_of, hold_shape, open_sound, pour
from studio.library.exports.source import Source


def write(source: Source, stream: BinaryIO, recipe: ExportRecipe, ctx: RunContext) -> dict[str, Any]:
    """Write a FLAC with the very samples of the master. It holds at most 24 bits: finer masters are rounded to that."""
    with open_sound(source) as sound:
        hold_shape(sound, "FLAC", channels=8)
        return pour(source, sound, stream, ctx, "FLAC", depth_of(sound, deepest="PCM_24"))
