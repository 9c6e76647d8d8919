"""How a picture was made, as its file says it: read from whatever program wrote it, and written into our exports.

`read` looks into PNG, JPEG, WebP, AVIF, HEIF and TIFF files for the texts of A1111 and its relatives, ComfyUI,
InvokeAI, Fooocus, NovelAI, SwarmUI, Easy Diffusion, Draw Things, and our own; where a PNG has none, into the lowest
bits of its pixels. It stands on the standard library and msgspec, trusts nothing, and costs little whatever the file
claims, so it runs in the window's process.
"""

from __future__ import annotations

from studio.core.recipes import CARRIED_AS
from studio.library.metadata.a1111 import parameters_text
from studio.library.metadata.found import TEXT_LIMIT, ControlFound, Found
from studio.library.metadata.reading import read
from studio.library.metadata.writing import Carried, carried, exif_with, json_of, png_chunks, xmp_with

__all__ = [
    "CARRIED_AS", "TEXT_LIMIT", "Carried", "ControlFound", "Found", "carried", "exif_with", "json_of",
    "parameters_text", "png_chunks", "read", "xmp_with",
]  # fmt: skip
