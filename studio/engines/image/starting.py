"""What a picture begins from: the kept picture, its mask, what is painted on beyond its edges, and how the result is
laid back into it. Knows pictures and sizes; knows nothing of models.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

from studio.core.problems import BadRecipe
from studio.core.recipes import ImageRecipe, Margins
from studio.engines.context import RunContext

SEEN = 6  # of 255: from this much of the mask on a pixel is repainted
OVERLAP = 16  # px of the old picture that are repainted beside new ground, so that no seam is seen
ROOMY = 2.25  # a picture with more than this many times the pixels the model was made for is painted smaller


@dataclass(frozen=True)
class Start:
    """What the model is given, and what becomes of what it gives back.

    Attributes:
        size: width and height to paint, px.
        image: RGB, of that size.
        mask: L, of that size, 255 where it is repainted; None for the whole picture.
    """

    size: tuple[int, int]
    image: Image.Image
    mask: Image.Image | None = None
    _whole: Image.Image | None = field(default=None, repr=False)
    _soft: Image.Image | None = field(default=None, repr=False)
    _box: tuple[int, int, int, int] | None = None

    def seen_of(self, picture: Image.Image) -> Image.Image:
        """The part of another picture of the same subject (a control picture) that belongs to what is painted."""
        if self._box is None or self._whole is None:
            return covered(picture, self.size)
        return _resized(covered(picture, self._whole.size).crop(self._box), self.size)

    def laid_back(self, painted: Image.Image) -> Image.Image:
        """The result as the user sees it: outside of the mask every pixel is that of the picture it began from."""
        if self._whole is None or self._soft is None:
            return painted
        whole = self._whole.copy()
        box = self._box or (0, 0, *whole.size)
        over = painted.convert("RGB")
        if over.size != (box[2] - box[0], box[3] - box[1]):
            over = over.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.LANCZOS)
        soft = self._soft.crop(box)
        if whole.mode == "RGBA":
            under = whole.crop(box)
            mixed = Image.composite(over, under.convert("RGB"), soft)
            mixed.putalpha(ImageChops.lighter(under.getchannel("A"), soft))
            whole.paste(mixed, box)
        else:
            whole.paste(over, box, soft)
        return whole


def start(recipe: ImageRecipe, ctx: RunContext, multiple: int, own: tuple[int, int]) -> Start | None:
    """Prepare what a recipe begins from; None where it begins from words alone.

    Args:
        multiple: what sizes must be divisible by, px. own: the size the model was made for, px.

    Raises:
        BadRecipe: a mask or margins without a picture, a mask with nothing in it, a picture that cannot be read.
        NotFound: a kept picture is gone.
    """
    if not recipe.image:
        wrong = "mask" if recipe.mask else "extend" if recipe.extend is not None else ""
        if wrong:
            raise BadRecipe("There is a part to repaint, but no picture to repaint it in.", field="image")
        return None
    picture = opened(recipe.image, ctx)
    mask = _mask_of(recipe, picture.size, ctx) if recipe.mask else None
    if recipe.extend is not None and any(_sides(recipe.extend)):
        picture, mask = _extended(picture, mask, recipe.extend)
    if mask is None:
        flat = on_ground(picture)
        size = _size(recipe, flat.size, multiple, own)
        return Start(size, covered(flat, size, ctx.note))
    return into(recipe, picture, mask, multiple, own)


def into(
    recipe: ImageRecipe, picture: Image.Image, mask: Image.Image, multiple: int, own: tuple[int, int]
) -> Start:  # fmt: skip
    """Prepare the repainting of a part of a picture, as the recipe's soft edge, area, padding and filling say.

    Args:
        picture: RGB or RGBA. mask: L, of the same size.

    Raises:
        BadRecipe: there is nothing in the mask.
    """
    soft = mask.filter(ImageFilter.GaussianBlur(recipe.mask_blur / 2)) if recipe.mask_blur else mask
    hard = soft.point(lambda value: 255 if value >= SEEN else 0)
    box = hard.getbbox()
    if box is None:
        raise BadRecipe("Nothing is masked, so there is nothing to repaint.", "Paint over what should change.",
                        field="mask")  # fmt: skip
    flat = _filled(on_ground(picture), hard, recipe)
    if recipe.mask_area == "mask":
        size = _size(recipe, own, multiple, own)
        box = _around(box, recipe.mask_padding, size, flat.size)
        part, seen = flat.crop(box), hard.crop(box)
        return Start(size, _resized(part, size), _resized(seen, size).point(_black_or_white), picture, soft, box)
    size = _size(recipe, flat.size, multiple, own)
    if size == flat.size:
        return Start(size, flat, hard, picture, soft)
    # painted at another size: the picture goes along, so that all of the result is of one sharpness
    picture, soft = _resized(picture, size), _resized(soft, size)
    return Start(size, _resized(flat, size), _resized(hard, size).point(_black_or_white), picture, soft)


def enlarged(picture: Image.Image, size: tuple[int, int], upscaler: str, ctx: RunContext) -> Image.Image:
    """A picture at a larger size, by an upscaler (its card's id) or by Lanczos resampling where that is empty."""
    if upscaler:
        from studio.engines.image import upscaling

        picture = upscaling.enlarged(picture, max(size[0] / picture.width, size[1] / picture.height), upscaler, ctx)
    return _resized(picture.convert("RGB"), size)


def opened(name: str, ctx: RunContext) -> Image.Image:
    """A kept picture, upright, in RGB or RGBA. Raises BadRecipe, NotFound, NotRead."""
    from studio.engines.image.opening import open_picture

    return open_picture(ctx.input(name), ctx.note)


def _mask_of(recipe: ImageRecipe, size: tuple[int, int], ctx: RunContext) -> Image.Image:
    mask = opened(recipe.mask, ctx)
    # a mask drawn with transparency says where by its alpha, unless all of it is opaque
    if mask.mode == "RGBA" and mask.getchannel("A").getextrema() != (255, 255):
        mask = Image.alpha_composite(Image.new("RGBA", mask.size, "black"), mask)
    mask = mask.convert("L")
    if mask.size == size:
        return mask
    if abs(mask.width / mask.height - size[0] / size[1]) > 0.02 * size[0] / size[1]:
        raise BadRecipe(
            f"The mask is {mask.width}×{mask.height} px and the picture {size[0]}×{size[1]}: their shapes differ.",
            "Make the mask as large as the picture.", field="mask",
        )  # fmt: skip
    return mask.resize(size, Image.Resampling.BILINEAR)


def _sides(margins: Margins) -> tuple[int, int, int, int]:
    return margins.left, margins.top, margins.right, margins.bottom


def _extended(
    picture: Image.Image, mask: Image.Image | None, margins: Margins
) -> tuple[Image.Image, Image.Image]:  # fmt: skip
    """The picture on a larger ground that continues its edges, and a mask over the ground and a strip of the edge."""
    left, top, right, bottom = _sides(margins)
    wide, high = picture.width + left + right, picture.height + top + bottom
    inside = (left, top, left + picture.width, top + picture.height)
    values = np.pad(np.asarray(on_ground(picture)), ((top, bottom), (left, right), (0, 0)), mode="edge")
    ground = Image.fromarray(values).filter(ImageFilter.GaussianBlur(max(2, max(wide, high) // 64)))
    ground.paste(picture, inside, picture.getchannel("A") if picture.mode == "RGBA" else None)
    whole = Image.new("L", (wide, high), 255)
    lap = min(OVERLAP, picture.width // 4, picture.height // 4)
    kept = (
        left + (lap if left else 0),
        top + (lap if top else 0),
        inside[2] - (lap if right else 0),
        inside[3] - (lap if bottom else 0),
    )
    whole.paste(0, kept)
    if mask is not None:
        whole.paste(ImageChops.lighter(mask, whole.crop(inside)), inside)
    return ground, whole


def on_ground(picture: Image.Image) -> Image.Image:
    """RGB; what is transparent takes the colours around it, which no model mistakes for a thing of its own."""
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    clear = np.asarray(picture.getchannel("A")) < 8
    if not clear.any() or clear.all():
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    solid = _spread(np.asarray(picture.convert("RGB")), clear)
    base = Image.fromarray(solid).convert("RGBA")
    return Image.alpha_composite(base, picture).convert("RGB")


def _spread(values: np.ndarray[Any, Any], holes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The picture with its holes filled from their nearest pixels, softly. values: (H, W, 3) uint8; holes: (H, W)."""
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(holes, return_distances=False, return_indices=True)
    filled = Image.fromarray(values[rows, columns])
    soft = np.asarray(filled.filter(ImageFilter.GaussianBlur(max(2, max(filled.size) // 64))))
    return np.where(holes[..., None], soft, values)


def _filled(flat: Image.Image, hard: Image.Image, recipe: ImageRecipe) -> Image.Image:
    if recipe.mask_fill == "original":
        return flat
    holes = np.asarray(hard) > 0
    values = np.asarray(flat)
    if recipe.mask_fill == "blurred":
        return Image.fromarray(_spread(values, holes) if not holes.all() else values)
    noise = np.random.default_rng(recipe.seed or 0).integers(0, 256, values.shape, dtype=np.uint8)
    return Image.fromarray(np.where(holes[..., None], noise, values))


def _size(
    recipe: ImageRecipe, of: tuple[int, int], multiple: int, own: tuple[int, int]
) -> tuple[int, int]:  # fmt: skip
    """Width and height to paint at: as asked for, else those of the picture, made smaller where it is far too large."""
    wide, high = of
    if recipe.width and recipe.height:
        return recipe.width, recipe.height
    if recipe.width or recipe.height:
        scale = recipe.width / wide if recipe.width else (recipe.height or high) / high
    else:
        scale = min(1.0, math.sqrt(own[0] * own[1] * ROOMY / (wide * high)))
        if scale < 1.0:
            scale = math.sqrt(own[0] * own[1] / (wide * high))
    fit = [max(multiple, round(side * scale / multiple) * multiple) for side in (wide, high)]
    return recipe.width or fit[0], recipe.height or fit[1]


def covered(flat: Image.Image, size: tuple[int, int], note: Callable[[str], None] | None = None) -> Image.Image:
    """The picture at this size; where the shapes differ, the middle of it."""
    if flat.size == size:
        return flat
    if abs(flat.width * size[1] - flat.height * size[0]) > 0.02 * flat.width * size[1]:
        if note is not None:
            note(f"The picture was cut to the shape of {size[0]}×{size[1]} px.")
        return ImageOps.fit(flat, size, Image.Resampling.LANCZOS)
    return _resized(flat, size)


def _resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


def _black_or_white(value: int) -> int:
    return 255 if value >= 128 else 0


def _around(
    box: tuple[int, int, int, int], padding: int, size: tuple[int, int], of: tuple[int, int]
) -> tuple[int, int, int, int]:  # fmt: skip
    """The masked part with its padding, widened to the shape of `size` as far as the picture reaches."""
    left, top, right, bottom = box
    left, top = max(0, left - padding), max(0, top - padding)
    right, bottom = min(of[0], right + padding), min(of[1], bottom + padding)
    wide, high = right - left, bottom - top
    want_wide = max(wide, math.ceil(high * size[0] / size[1]))
    want_high = max(high, math.ceil(wide * size[1] / size[0]))
    left, right = _widened(left, right, want_wide, of[0])
    top, bottom = _widened(top, bottom, want_high, of[1])
    return left, top, right, bottom


def _widened(low: int, high: int, wanted: int, limit: int) -> tuple[int, int]:
    wanted = min(wanted, limit)
    low = max(0, low - (wanted - (high - low)) // 2)
    low = min(low, limit - wanted) if low + wanted > limit else low
    return low, max(high, low + wanted) if low + wanted <= limit else limit
