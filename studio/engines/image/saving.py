"""From what a pipeline returned to checked files. Knows pictures; knows nothing of models."""

from __future__ import annotations

import io
from typing import Any

import msgspec
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from studio.core.problems import BadResult
from studio.core.recipes import CARRIED_AS, CARRIED_LIMIT, Recipe
from studio.core.works import Artifact
from studio.engines.context import RunContext

# Measured: a noisy megapixel takes 0.36 s and 1.59 MB at 4, 0.19 s and 1.82 MB at 3, no less than 1.59 MB above 4.
COMPRESSION = 4
THUMBNAIL = 256  # px, longest side


def checked(output: Any, size: tuple[int, int] | None, finite: bool) -> Image.Image:
    """The picture in a pipeline's output, if it is one.

    Args:
        output: what the pipeline's call returned. size: width and height it must have, px, or None for any.
        finite: False if NaN or infinity was seen on the way.

    Raises:
        BadResult: no picture, several, another size, numbers that are not finite, nothing but black, or withheld by
            the model's own safety checker.
    """
    images = getattr(output, "images", None)
    if not isinstance(images, list) or len(images) != 1 or not isinstance(images[0], Image.Image):
        raise BadResult("The model gave something that is not a picture.", "Choose another model.")
    image = images[0]
    flagged = getattr(output, "nsfw_content_detected", None)
    if flagged and any(flagged):
        raise BadResult("The model's own safety checker withheld the picture.", "Try another seed or prompt.")
    if not finite:
        raise BadResult(
            "The picture came out as numbers that are not finite (numerical overflow).",
            "Try the number format float32, or another scheduler; the model file may also be damaged.",
        )
    if size is not None and image.size != size:
        raise BadResult(
            f"The model gave {image.width}×{image.height} px where {size[0]}×{size[1]} px were asked for.",
            f"Ask for {image.width}×{image.height} px.",
        )
    if image.convert("RGB").getbbox() is None:  # no pixel but black ones
        raise BadResult(
            "The picture is black all over, which usually is a numerical fault.",
            "Try the number format float32, another seed or another scheduler.",
        )
    return image


def save(
    image: Image.Image, index: int, seed: int | None, seconds: float, recipe: Recipe, ctx: RunContext
) -> list[Artifact]:
    """Write a picture and its thumbnail to staging.

    Args:
        seed: of this one picture, or None where chance has no part in it.
        recipe: of this one picture; the file carries it as JSON in a text chunk.

    Raises:
        OSError: the disk is full or refuses.
    """
    meta = {"width": image.width, "height": image.height}
    # Encoded in memory first: Pillow hides the system's reason when a write into a file fails.
    png = _encoded(image, "PNG", compress_level=COMPRESSION, pnginfo=_carried(recipe))
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    webp = _encoded(small, "WEBP", quality=80, method=3)
    ctx.check()
    return [
        ctx.save(f"{index}.png", png, index=index, seed=seed, seconds=seconds, meta=meta),
        ctx.save(
            f"{index}.thumb.webp", webp, index=index, seed=seed, role="thumbnail",
            meta={"width": small.width, "height": small.height},
        ),
    ]  # fmt: skip


def _carried(recipe: Recipe) -> PngInfo:
    info = PngInfo()
    text = msgspec.json.encode(recipe)
    if len(text) <= CARRIED_LIMIT:
        info.add_itxt(CARRIED_AS, text.decode())
    return info


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()
