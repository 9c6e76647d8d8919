"""WAV: the samples as they are."""

from __future__ import annotations

from typing import Any, BinaryIO

from studio.core.recipes import ExportRecipe
from studio.engines.context import RunContext
from studio.library.exports.sound import depth_of, open_sound, pour
from studio.library.exports.source import Source

LARGEST = 2**32 - 2**20  # bytes of sound; WAV counts in 32 bits, and the header needs some room
_WIDTH = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}


def write(source: Source, stream: BinaryIO, recipe: ExportRecipe, ctx: RunContext) -> dict[str, Any]:
    """Write a WAV with the very samples of the master; above 4 GiB an RF64, which is WAV with wider counters."""
    with open_sound(source) as sound:
        subtype = depth_of(sound)
        size = sound.frames * sound.channels * _WIDTH[subtype]
        return pour(source, sound, stream, ctx, "RF64" if size > LARGEST else "WAV", subtype)
