"""Any picture a person hands in, as plain RGB or RGBA. Knows pillow's readers and colour profiles, not where files lie.

Nothing is trusted: sizes are held to a limit before pixels are read, formats that would start other programs are not
among the readers, and what a reader raises becomes a sentence.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from studio.core.problems import BadRecipe, NotRead
from studio.core.text import shown

PIXELS_LIMIT = 178_956_970  # where pillow itself refuses; as RGBA that is 716 MB
# Named, and so loaded, one by one: pillow would load all of its forty.
_READERS = (
    PngImagePlugin.PngImageFile, JpegImagePlugin.JpegImageFile, WebPImagePlugin.WebPImageFile,
    AvifImagePlugin.AvifImageFile, TiffImagePlugin.TiffImageFile, GifImagePlugin.GifImageFile,
    BmpImagePlugin.BmpImageFile,
)  # fmt: skip
FORMATS = tuple(reader.format for reader in _READERS)

# pillow's readers raise all of these for damaged files
_DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, struct.error,
    zlib.error, Image.DecompressionBombError,
)  # fmt: skip

Note = Callable[[str], None]


class Undecodable(Exception):
    """A file is no picture, damaged, too large, or cannot be read; `__cause__` is what the reader raised.

    Args:
        too_large: width and height it claims where that is the reason, px.
    """

    def __init__(self, why: str, too_large: tuple[int, int] | None = None) -> None:
        super().__init__(why)
        self.too_large = too_large


def _silent(text: str) -> None:
    pass


def open_picture(path: Path, note: Note = _silent, name: str = "The picture") -> Image.Image:
    """A picture in sRGB, upright, 8 bits per channel, mode RGB or RGBA.

    Args:
        note: takes remarks: several pictures in one file, a colour profile that is damaged.
        name: what it is called in sentences; kept pictures have checksums for names.

    Raises:
        NotRead: the disk refuses. BadRecipe: it is no picture, damaged, or larger than PIXELS_LIMIT.
    """
    try:
        return to_srgb(decode(path, note), note)
    except Undecodable as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno:
            raise NotRead(f"{shown(name)} could not be read: {cause.strerror or cause}.", detail=repr(cause)) from error
        if error.too_large is not None:
            wide, high = error.too_large
            raise BadRecipe(
                f"{shown(name)} is {wide:,} × {high:,} px; the studio opens up to {PIXELS_LIMIT / 1e6:,.0f} million"
                " pixels.",
                "Make it smaller first.", field="image",
            ) from error  # fmt: skip
        raise BadRecipe(
            f"{shown(name)} cannot be read: it is damaged, cut off, or not a picture.",
            "PNG, JPEG, WebP, AVIF, TIFF, GIF and BMP are read.", detail=repr(cause), field="image",
        ) from error  # fmt: skip


def decode(path: Path, note: Note = _silent) -> Image.Image:
    """A picture file, decoded and turned upright, in mode L, LA, RGB or RGBA, 8 bits per channel.

    Its colour profile stays in `info` if it still belongs to these numbers.

    Raises:
        Undecodable.
    """
    try:
        with warnings.catch_warnings():
            # pillow warns from half its limit on, and of odd but harmless things in files
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as opened:
                if opened.width * opened.height > PIXELS_LIMIT:
                    raise Undecodable("too many pixels", opened.size)
                count = getattr(opened, "n_frames", 1)
                opened.load()
                picture = eight_bits(_upright(opened), note)
    except Image.DecompressionBombError as error:
        raise Undecodable(str(error), _claimed(path)) from error
    except _DAMAGE as error:
        raise Undecodable(repr(error)) from error
    if count > 1 and opened.format != "MPO":  # in an MPO the further ones are a camera's own: depth, a small copy
        note(f"The file holds {count} pictures; the first one was taken.")
    return picture


def _claimed(path: Path) -> tuple[int, int] | None:
    """The size that a file claims beyond what pillow opens."""
    limit = Image.MAX_IMAGE_PIXELS
    try:
        Image.MAX_IMAGE_PIXELS = None  # only the header is read here
        with Image.open(path, formats=FORMATS) as opened:
            return opened.size
    except _DAMAGE:
        return None
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _upright(opened: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(opened)
    except _DAMAGE:  # the pixels are sound; only the note about which side is up is not
        return opened.copy()


def eight_bits(picture: Image.Image, note: Note = _silent) -> Image.Image:
    """The same picture in mode L, LA, RGB or RGBA."""
    mode = picture.mode
    if mode in ("L", "LA", "RGB", "RGBA") and (mode.endswith("A") or "transparency" not in picture.info):
        return picture
    if mode[0] in "IF" or mode == "1":
        return _grey(picture)
    if mode in ("CMYK", "LAB"):
        return _through_profile(picture, "RGB", note)
    seen_through = picture.has_transparency_data
    return picture.convert("RGBA" if seen_through else "RGB")


def _grey(picture: Image.Image) -> Image.Image:
    """One channel of any depth, as L; as LA where one value means see-through."""
    values = np.asarray(picture)
    # 16 bits fill the range of their type, whatever is used of it; pillow's own conversion clips above 255
    if picture.mode == "1":
        grey = values.astype(np.uint8) * 255
    elif picture.mode.startswith("I;16"):
        grey = ((values.astype(np.uint32) * 2 + 257) // 514).astype(np.uint8)
    else:
        # 32 bits and fractions have no agreed white: the nearest usual one that is not exceeded
        exact = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        brightest = float(exact.max(initial=0.0))
        whites = (1.0, 255.0, 65_535.0) if picture.mode == "F" else (65_535.0,)
        white = next((w for w in whites if brightest <= w), brightest)
        grey = np.rint(np.clip(exact / white, 0, 1) * 255).astype(np.uint8)
    made = Image.fromarray(grey)
    clear = picture.info.get("transparency")
    if isinstance(clear, int):
        made.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    if profile := picture.info.get("icc_profile"):
        made.info["icc_profile"] = profile
    return made


def to_srgb(picture: Image.Image, note: Note = _silent) -> Image.Image:
    """A picture in mode L, LA, RGB or RGBA as RGB or RGBA in sRGB, without a profile.

    Numbers that already mean what they mean in sRGB stay exactly as they are.
    """
    alpha = picture.getchannel("A") if picture.mode.endswith("A") else None
    colours = picture.convert({"LA": "L", "RGBA": "RGB"}[picture.mode]) if alpha is not None else picture
    colours.info = dict(picture.info)
    made = _through_profile(colours, "RGB", note)
    if made is picture:
        made = picture.copy()
    if alpha is not None:
        made.putalpha(alpha)
    made.info = {}
    return made


def _through_profile(picture: Image.Image, mode: str, note: Note) -> Image.Image:
    """`picture` in another mode, by way of its colour profile where it has a sound one that is not sRGB itself."""
    data = picture.info.get("icc_profile")
    profile: Any = _profile(data, picture.mode) if data else None
    if data and profile is None:
        note("The picture's colour profile is damaged or does not fit, and was left out.")
    if picture.mode == "LAB" and profile is None:
        profile = ImageCms.createProfile("LAB")
    made = None
    if profile is not None:
        try:
            transform = ImageCms.buildTransform(
                profile, ImageCms.createProfile("sRGB"), picture.mode, mode,
                ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )  # fmt: skip
            made = _unchanged(picture, transform) or ImageCms.applyTransform(picture, transform)
        except (ImageCms.PyCMSError, ValueError):
            note("The picture's colour profile is damaged or does not fit, and was left out.")
    if made is None:
        made = picture.convert(mode) if picture.mode != mode else picture
    if made is not None and made is not picture:
        made.info.pop("icc_profile", None)
    return made


def _profile(data: bytes, mode: str) -> ImageCms.ImageCmsProfile | None:
    """A profile that says what the numbers of this mode mean, or None."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        space = str(profile.profile.xcolor_space).strip()
    except (OSError, ImageCms.PyCMSError, TypeError, ValueError):
        return None
    return profile if space == {"L": "GRAY", "LAB": "Lab"}.get(mode, mode) else None


def _unchanged(picture: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image | None:
    """The picture itself where the transform hardly moves any colour: it is sRGB under another name.

    Profiles of sRGB differ in their last digits, and rounding them into each other would touch every pixel.
    """
    if picture.mode not in ("L", "RGB"):
        return None
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    axes = np.meshgrid(*[steps] * len(picture.getbands()), indexing="ij")
    grid = np.stack([axis.ravel() for axis in axes], axis=-1)[np.newaxis]
    probe = Image.fromarray(grid if picture.mode == "RGB" else grid[..., 0])
    seen = np.asarray(ImageCms.applyTransform(probe, transform)).astype(int)
    if np.abs(seen - grid).max() > 2:
        return None
    return picture.convert("RGB") if picture.mode != "RGB" else picture
