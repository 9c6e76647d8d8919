"""MP3: small and read everywhere."""

from __future__ import annotations

from typing import Any, BinaryIO

from studio.core.recipes import ExportRecipe
from studio.engines.context import RunContext
from studio.library.exports.sound import hold_shape, open_sound, pour
from studio.library.exports.source import SOFTWARE, Source

RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # Hz: all that MPEG-1, 2 and 2.5 have
LOOSEST = 0.99  # libsndfile refuses 1.0 for MP3 (measured with 1.2.2)


def write(source: Source, stream: BinaryIO, recipe: ExportRecipe, ctx: RunContext) -> dict[str, Any]:
    """Write an MP3 with variable bit rate; quality 100 is LAME's V0, 1 its V9.9."""
    with open_sound(source) as sound:
        hold_shape(sound, "MP3", rates=RATES, channels=2)
        # libsndfile would write the title as ID3v1: thirty bytes, in no known encoding
        stream.write(_id3(TIT2=source.tag, TSSE=SOFTWARE))
        return pour(
            source, sound, stream, ctx, "MP3", "MPEG_LAYER_III", tags=False,
            compression_level=min(LOOSEST, 1 - recipe.quality / 100), bitrate_mode="VARIABLE",
        )  # fmt: skip


def _id3(**texts: str) -> bytes:
    """An ID3 tag of text frames, UTF-8 (ID3v2.4.0 structure, sections 3.1 and 4; native frames, section 4.2)."""
    frames = b""
    for name, text in texts.items():
        if text:
            data = b"\x03" + text.encode("utf-8")
            frames += name.encode("ascii") + _synchsafe(len(data)) + b"\0\0" + data
    return b"ID3\x04\x00\x00" + _synchsafe(len(frames)) + frames


def _synchsafe(number: int) -> bytes:
    """28 bits in four bytes of seven, so that no byte looks like the start of sound."""
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))
