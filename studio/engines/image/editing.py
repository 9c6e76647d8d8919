"""Pictures cut, turned, resized and recoloured, and enlarged without a network. Knows pillow; loads nothing heavier.

Everything is done in the order in which the recipe declares it. What a recipe leaves alone is not touched: an edit
without changes has the same pixels.
"""

from __future__ import annotations

import functools
import math
import platform
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import ClassVar

import msgspec
from PIL import Image, ImageFilter

from studio.core.cards import ModelCard
from studio.core.pictures import Margins
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, ModelUnfit
from studio.core.recipes import EditRecipe, MadeWith, Recipe, UpscaleRecipe
from studio.core.works import Result
from studio.engines.context import RunContext
from studio.engines.image import opening, saving

ENGINE = "image.edit"
LANCZOS = Image.Resampling.LANCZOS

# Luminance of red, green and blue as in sRGB (Rec. 709), rounded as in the W3C's Filter Effects, section 9.6.
_LUMINANCE = (0.213, 0.715, 0.072)
_WARMTH = 0.25  # how much more red and less blue there is at warmth 1
_UNSHARP_RADIUS = 2  # px

Step = tuple[str, Callable[[Image.Image], Image.Image]]


class Editing:
    """The engine "image.edit"; see studio/engines/base.py for the contract. It needs no model: any card will do."""

    kind: ClassVar[str] = "edit"

    def __init__(self) -> None:
        self._plan = Plan()

    def load(self, card: ModelCard, plan: Plan, ctx: RunContext) -> None:
        """Nothing to load."""
        self._plan = plan

    def unload(self) -> None:
        """Nothing to unload."""

    def made_with(self) -> MadeWith:
        return MadeWith(
            engine=ENGINE,
            threads=self._plan.threads,
            versions=_versions(),
            system=f"{platform.system()} {platform.machine()}",
        )

    def run(self, recipe: Recipe, ctx: RunContext) -> Result:
        """Make one picture of another.

        Raises:
            BadRecipe: nothing would be left, or the result would be too large. NotFound, NotRead: the picture itself.
            OSError: the disk refuses.
        """
        ctx.check()
        began = time.perf_counter()
        if isinstance(recipe, UpscaleRecipe):
            if recipe.model:
                raise ModelUnfit("Enlarging with a network needs another engine.", field="model")
            steps = list(_enlarging(recipe))
        elif isinstance(recipe, EditRecipe):
            steps = list(_editing(recipe))
        else:
            raise ModelUnfit("This engine edits pictures and makes none.")
        total = len(steps) + 2
        image = opening.open_picture(ctx.input(recipe.image), ctx.note)
        for done, (phase, step) in enumerate(steps, 1):
            ctx.progress(done, total, "steps", phase)
            ctx.check()
            image = step(image)
        ctx.progress(total - 1, total, "steps", "saving")
        own = msgspec.structs.replace(recipe, made_with=self.made_with())
        artifacts = saving.save(image, 0, None, time.perf_counter() - began, own, ctx)
        ctx.progress(total, total, "steps", "saving")
        return Result(artifacts=tuple(artifacts), made_with=self.made_with(), notes=tuple(ctx.notes))


@functools.cache  # reading a package's metadata takes milliseconds
def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "pillow": metadata.version("pillow")}


def _enlarging(recipe: UpscaleRecipe) -> Iterator[Step]:
    yield "enlarging", lambda image: resized(image, times(image.size, recipe.factor, "factor"))


def _editing(recipe: EditRecipe) -> Iterator[Step]:
    """The steps that change something, in the order of the recipe's fields."""
    margins = recipe.crop
    if margins is not None and margins != Margins():
        yield "cutting", lambda image: cropped(image, margins)
    if recipe.rotate != "0":
        yield "turning", lambda image: image.transpose(_TURNS[recipe.rotate])
    if recipe.straighten:
        yield "straightening", lambda image: straightened(image, recipe.straighten)
    if recipe.flip != "none":
        yield "mirroring", lambda image: image.transpose(_FLIPS[recipe.flip])
    if recipe.width is not None or recipe.height is not None:
        yield "resizing", lambda image: fitted(image, recipe.width, recipe.height, recipe.fit)
    if (recipe.brightness, recipe.contrast) != (1.0, 1.0):
        yield "light", lambda image: _mapped(image, [_light(recipe.brightness, recipe.contrast)] * 3)
    if recipe.saturation != 1.0:
        yield "colours", lambda image: _mixed(image, saturating(recipe.saturation))
    if recipe.gamma != 1.0 or recipe.warmth:
        yield "colours", lambda image: _mapped(image, _tones(recipe.gamma, recipe.warmth))
    if recipe.hue % 360:
        yield "colours", lambda image: _mixed(image, turning_hue(recipe.hue))
    if recipe.sharpen:
        mask = ImageFilter.UnsharpMask(_UNSHARP_RADIUS, round(recipe.sharpen * 100), 0)
        yield "sharpening", lambda image: _on_colours(image, lambda colours: colours.filter(mask))
    if recipe.blur:
        yield "blurring", lambda image: blurred(image, recipe.blur)


# -- shape

_TURNS = {  # pillow turns against the clock
    "90": Image.Transpose.ROTATE_270,
    "180": Image.Transpose.ROTATE_180,
    "270": Image.Transpose.ROTATE_90,
}
_FLIPS = {"across": Image.Transpose.FLIP_LEFT_RIGHT, "down": Image.Transpose.FLIP_TOP_BOTTOM}


def cropped(image: Image.Image, margins: Margins) -> Image.Image:
    """Raises BadRecipe where nothing would be left."""
    for least, most, side, whole in (
        (margins.left, margins.right, ("the left", "the right"), image.width),
        (margins.top, margins.bottom, ("the top", "the bottom"), image.height),
    ):
        if least + most >= whole:
            raise BadRecipe(
                f"Cutting away {least:,} px at {side[0]} and {most:,} px at {side[1]} leaves nothing of {whole:,} px.",
                "Cut away less.", field="crop",
            )  # fmt: skip
    return image.crop((margins.left, margins.top, image.width - margins.right, image.height - margins.bottom))


def straightened(image: Image.Image, degrees: float) -> Image.Image:
    """Turned clockwise, and cut to the largest upright rectangle without empty corners."""
    wide, high = inscribed(image.width, image.height, degrees)
    wide, high = max(1, int(wide)), max(1, int(high))
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    # From a place in the result back to one in the picture, both counted from their middle; y points down.
    return image.transform(
        (wide, high), Image.Transform.AFFINE,
        (
            cosine, sine, (image.width - cosine * wide - sine * high) / 2,
            -sine, cosine, (image.height + sine * wide - cosine * high) / 2,
        ),
        Image.Resampling.BICUBIC,
    )  # fmt: skip


def inscribed(wide: float, high: float, degrees: float) -> tuple[float, float]:
    """Width and height of the largest upright rectangle inside a turned one.

    An upright w × h around the same middle lies inside if its corners do: w·c + h·s ≤ wide and w·s + h·c ≤ high, with
    s and c the sine and cosine. Either both hold with equality, or, for a long and narrow picture, two corners touch
    the long sides halfway and the other two lie free inside.
    """
    sine, cosine = abs(math.sin(math.radians(degrees))), abs(math.cos(math.radians(degrees)))
    short, long = min(wide, high), max(wide, high)
    if short <= 2 * sine * cosine * long:
        if sine < 1e-12:
            return wide, high
        along, across = short / (2 * sine), short / (2 * cosine)
        return (along, across) if wide >= high else (across, along)
    spread = cosine * cosine - sine * sine
    return (wide * cosine - high * sine) / spread, (high * cosine - wide * sine) / spread


def fitted(image: Image.Image, width: int | None, height: int | None, fit: str) -> Image.Image:
    """Resized to a width, a height, or both. Raises BadRecipe for a result that is too large."""
    if width is None or height is None:
        if width is not None:
            size = width, max(1, round(image.height * width / image.width))
        elif height is not None:
            size = max(1, round(image.width * height / image.height)), height
        else:
            size = image.size
        return resized(image, size)
    across, down = width / image.width, height / image.height
    if fit == "inside":
        factor = min(across, down)
        return resized(image, (max(1, round(image.width * factor)), max(1, round(image.height * factor))))
    if fit == "cover":
        factor = max(across, down)
        kept_wide, kept_high = width / factor, height / factor
        left, top = (image.width - kept_wide) / 2, (image.height - kept_high) / 2
        return resized(image, (width, height), (left, top, left + kept_wide, top + kept_high))
    return resized(image, (width, height))


def times(size: tuple[int, int], factor: float, field: str = "") -> tuple[int, int]:
    """A size, `factor` times as large. Raises BadRecipe where no picture can be that large."""
    wide, high = (max(1, round(side * factor)) for side in size)
    hold(wide, high, field)
    return wide, high


def hold(wide: int, high: int, field: str = "") -> None:
    """Raises BadRecipe for a picture with more pixels than can be opened again."""
    if wide * high > opening.PIXELS_LIMIT:
        raise BadRecipe(
            f"The picture would be {wide:,} × {high:,} px; the studio keeps up to"
            f" {opening.PIXELS_LIMIT / 1e6:,.0f} million pixels.",
            "Ask for a smaller one.", field=field,
        )  # fmt: skip


def resized(
    image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> Image.Image:
    """By Lanczos; pillow weighs colours with their opacity on the way. Raises BadRecipe for a result too large."""
    if size == image.size and (box is None or box == (0, 0, *size)):
        return image
    hold(*size)
    return image.resize(size, LANCZOS, box)


def blurred(image: Image.Image, radius: float) -> Image.Image:
    """Softly; where it is see-through, colours count as much as they are seen."""
    if image.mode == "RGBA":
        return image.convert("RGBa").filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
    return image.filter(ImageFilter.GaussianBlur(radius))


# -- colour


def _on_colours(image: Image.Image, change: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Change the colours and keep the opacity."""
    if image.mode != "RGBA":
        return change(image)
    alpha = image.getchannel("A")
    made = change(image.convert("RGB"))
    made.putalpha(alpha)
    return made


def _mapped(image: Image.Image, curves: list[list[int]]) -> Image.Image:
    return _on_colours(image, lambda colours: colours.point([value for curve in curves for value in curve]))


def _mixed(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return _on_colours(image, lambda colours: colours.convert("RGB", matrix))


def _eight(value: float) -> int:
    return min(255, max(0, round(value * 255)))


def _light(brightness: float, contrast: float) -> list[int]:
    """Both at once, so that what is bright in between is not lost."""
    return [_eight((i / 255 * brightness - 0.5) * contrast + 0.5) for i in range(256)]


def _tones(gamma: float, warmth: float) -> list[list[int]]:
    gains = (1 + _WARMTH * warmth, 1.0, 1 - _WARMTH * warmth)
    return [[_eight((i / 255) ** (1 / gamma) * gain) for i in range(256)] for gain in gains]


def saturating(amount: float) -> tuple[float, ...]:
    """Three rows of four: each colour moved from its own grey, or towards it. Source: Filter Effects, section 9.6."""
    rows = []
    for row in range(3):
        rows += [weight * (1 - amount) + (amount if row == i else 0.0) for i, weight in enumerate(_LUMINANCE)]
        rows.append(0.0)
    return tuple(rows)


def turning_hue(degrees: float) -> tuple[float, ...]:
    """Three rows of four: colours turned around the grey axis at equal luminance. Source: Filter Effects, 9.6."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    red, green, blue = _LUMINANCE
    by_sine = ((-red, -green, 1 - blue), (0.143, 0.140, -0.283), (red - 1, green, blue))
    rows = []
    for row in range(3):
        for i, weight in enumerate(_LUMINANCE):
            own = 1.0 if row == i else 0.0
            rows.append(weight + cosine * (own - weight) + sine * by_sine[row][i])
        rows.append(0.0)
    return tuple(rows)
