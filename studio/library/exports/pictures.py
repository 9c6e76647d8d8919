"""What the picture formats share: opening the kept picture, and the two tags every reader knows. Imports pillow."""

from __future__ import annotations

import struct
import warnings
import zlib
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import ExifTags, Image, ImageOps

from studio.core.problems import NotSaved
from studio.engines.context import RunContext
from studio.library.exports.source import SOFTWARE, Sink, Source, unreadable


def open_picture(source: Source, ctx: RunContext) -> Image.Image:
    """The kept picture, decoded and turned upright, in mode L, LA, RGB or RGBA, 8 bits per channel.

    Raises:
        LibraryBroken: it cannot be decoded, or claims a size that no picture here has. NotRead: the disk refuses.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # pillow itself only warns up to 178 million
            with Image.open(source.path) as opened:
                opened.load()
                picture = ImageOps.exif_transpose(opened)
    except (
        OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error,  # pillow's readers raise all of these
        Image.DecompressionBombError, Image.DecompressionBombWarning,
    ) as error:  # fmt: skip
        raise unreadable(source, error) from error
    ctx.progress(1, 3, "steps", "reading")
    ctx.check()
    return _eight_bits(picture)


def _eight_bits(picture: Image.Image) -> Image.Image:
    if picture.mode in ("L", "LA", "RGB", "RGBA"):
        return picture
    if picture.mode.startswith("I"):
        # pillow's own conversion clips everything above 255 to white
        values = np.asarray(picture).astype(np.uint32)
        profile = picture.info.get("icc_profile")
        picture = Image.fromarray(np.round(np.minimum(values, 65_535) / 257).astype(np.uint8))
        if profile:
            picture.info["icc_profile"] = profile
        return picture
    seen_through = picture.has_transparency_data
    if picture.mode in ("1", "F"):
        return picture.convert("L")
    return picture.convert("RGBA" if seen_through else "RGB")


def on_white(picture: Image.Image) -> Image.Image:
    """The picture without transparency, as it looks on white paper."""
    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    paper = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(paper, picture).convert("RGB")


def hold_size(picture: Image.Image, limit: int, title: str) -> None:
    """Raises NotSaved where a format cannot hold a picture this large. `limit`: px per side."""
    if max(picture.size) > limit:
        raise NotSaved(
            f"The picture is {picture.width:,} × {picture.height:,} px; {title} takes at most {limit:,} px per side.",
            "Export it as PNG.", field="to",
        )  # fmt: skip


def tags(source: Source) -> bytes:
    """Title and software as an Exif block.

    Exif's text fields are ASCII on paper; writing UTF-8 into them is the advice of the Metadata Working Group
    (Guidelines for Handling Image Metadata 2.0, section 3.2), and what common readers expect.
    """
    exif = Image.Exif()
    if source.tag:
        exif[ExifTags.Base.ImageDescription] = source.tag.encode("utf-8")
    exif[ExifTags.Base.Software] = SOFTWARE.encode("utf-8")
    return exif.tobytes()


def save(picture: Image.Image, stream: BinaryIO, ctx: RunContext, format: str, **how: Any) -> dict[str, Any]:
    """Encode into `stream`, with the colour profile where there is one; returns the facts for Artifact.meta.

    Raises:
        OSError: the disk refused. JobCancelled: between two pieces of the file.
    """
    ctx.progress(2, 3, "steps", "writing")
    ctx.check()
    profile = picture.info.get("icc_profile")
    sink = Sink(stream, ctx.check)
    picture.save(cast(BinaryIO, sink), format=format, **({"icc_profile": profile} if profile else {}), **how)
    sink.finish()
    ctx.progress(3, 3, "steps", "writing")
    return {"width": picture.width, "height": picture.height}
