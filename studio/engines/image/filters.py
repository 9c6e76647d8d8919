"""Control pictures made of ordinary ones: edges, lines, soft colours. Knows arrays; no network is asked.

Each filter is pure: the same picture gives the same control picture, of the same size. What is see-through counts as
white paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter, ImageOps
from scipy import ndimage

from studio.core.pictures import FILTERS
from studio.core.problems import BadRecipe
from studio.core.text import shown

_SMOOTHING = 1.4  # px; standard deviation of Canny's first step
_FAINTEST = 12.0  # a step in lightness (of 255) that counts as an edge even in a picture without stronger ones
_HIGH = 0.6  # the stronger threshold, as a share of what parts strong edges from weak ones
_LOW = 0.4  # the weaker threshold, as a share of the stronger one
_TILE = 4  # times smaller
_COMPASS = ((0, 1), (1, 1), (1, 0), (1, -1))  # neighbour (down, right) along the gradient, by its octant

Grey = np.ndarray  # (H, W) float32, 0 to 255


def apply(name: str, picture: Image.Image) -> Image.Image:
    """The control picture that a filter makes of a picture.

    Args:
        name: one of FILTERS. picture: any mode that pillow turns into RGB.

    Returns:
        An RGB picture of the same size. Lines and edges are white on black.

    Raises:
        BadRecipe: there is no such filter.
    """
    made = _FILTERS.get(name)
    if made is None:
        raise BadRecipe(f"There is no filter “{shown(name)}”.", f"There are {', '.join(FILTERS)}.", field="controls")
    return made(_on_paper(picture))


def _on_paper(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    paper = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(paper, picture.convert("RGBA")).convert("RGB")


def _grey(picture: Image.Image) -> Grey:
    return np.asarray(picture.convert("L")).astype(np.float32)


def _picture(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


# -- edges


def canny(grey: Grey, sigma: float = _SMOOTHING, high: float | None = None) -> np.ndarray:
    """Thin edges. Source: Canny 1986; the stronger threshold by Otsu 1979, over what is left after thinning.

    Args:
        sigma: of the smoothing, px.
        high: gradient from which on an edge counts by itself, as the step in lightness it would be; None chooses it.

    Returns:
        (H, W) bool.
    """
    # 1. smooth, 2. gradient: a step of 1 in lightness gives Sobel's kernel 4 in all
    smooth = ndimage.gaussian_filter(grey, sigma, mode="nearest", truncate=3.0)
    down = ndimage.sobel(smooth, axis=0, mode="nearest") / 4
    right = ndimage.sobel(smooth, axis=1, mode="nearest") / 4
    strength = np.hypot(down, right)
    # 3. thin: keep what is strongest along its own gradient
    thin = np.where(_peaks(strength, down, right), strength, np.float32(0))
    # 4. threshold twice, and keep the weak that touch the strong
    if high is None:
        high = max(_HIGH * _otsu(thin[thin > 0]), _faintest(sigma))
    weak = thin >= high * _LOW
    labels, count = ndimage.label(weak, structure=np.ones((3, 3), bool))
    kept = np.zeros(count + 1, bool)
    kept[labels[thin >= high]] = True
    kept[0] = False
    edges: np.ndarray = kept[labels]
    return edges


def _faintest(sigma: float) -> float:
    """The gradient in the middle of the faintest step that counts, once it is smoothed; Sobel looks 2 px far."""
    return 2 * _FAINTEST / (math.sqrt(2 * math.pi) * sigma)


def _peaks(strength: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Where a gradient is no weaker than its two neighbours along its direction, rounded to eight directions.

    Of two equal neighbours the second one is dropped, so that an edge between two pixels is one pixel wide.
    """
    high, wide = strength.shape
    around = np.pad(strength, 1)
    steep, flat = np.abs(down), np.abs(right)
    tangent = np.float32(np.tan(np.pi / 8))
    across = steep <= flat * tangent
    upright = flat <= steep * tangent
    slanting = ~across & ~upright
    same = (down > 0) == (right > 0)
    peaks = np.zeros(strength.shape, bool)
    for (dy, dx), here in zip(_COMPASS, (across, slanting & same, upright, slanting & ~same), strict=True):
        after = around[1 + dy : 1 + dy + high, 1 + dx : 1 + dx + wide]
        before = around[1 - dy : 1 - dy + high, 1 - dx : 1 - dx + wide]
        peaks |= here & (strength > before) & (strength >= after)
    return peaks


def _otsu(values: np.ndarray) -> float:
    """The threshold that parts values into two groups of the least spread in themselves. Source: Otsu 1979, eq. 12."""
    if not values.size:
        return 0.0
    counts, edges = np.histogram(values, bins=256)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts).astype(np.float64)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[int(np.nanargmax(np.nan_to_num(between))) + 1])


def _canny(picture: Image.Image) -> Image.Image:
    return _picture(canny(_grey(picture)) * 255)


# -- lines


def _lineart(picture: Image.Image) -> Image.Image:
    """Dark lines, and the dark side of edges, as white lines that keep their strength."""
    return _picture(_lines(_grey(picture)) * 255)


def _lines(grey: Grey) -> np.ndarray:
    """How much darker each place is than its surroundings, 0 to 1: a difference of Gaussians, evened out."""
    fine = max(0.5, max(grey.shape) / 1500)
    dark = ndimage.gaussian_filter(grey, fine * 6, mode="nearest", truncate=2.5)
    dark -= ndimage.gaussian_filter(grey, fine, mode="nearest", truncate=2.5)
    np.clip(dark, 0, None, out=dark)
    # the strongest lines become white; a picture without any stays black
    white = max(float(np.percentile(dark[::2, ::2], 99.8)), _FAINTEST)
    return np.clip((dark / white - 0.12) / 0.88, 0, 1)


def _scribble(picture: Image.Image) -> Image.Image:
    """Few, thick strokes, as with a felt pen: edges of a much smaller picture, thickened and smoothed."""
    side = max(picture.size)
    small = picture.copy()
    small.thumbnail((384, 384), Image.Resampling.BOX)
    edges = ndimage.binary_dilation(canny(_grey(small), 2.0), np.ones((3, 3), bool))
    drawn = Image.fromarray((edges * 255).astype(np.uint8))
    if drawn.size != picture.size:
        drawn = drawn.resize(picture.size, Image.Resampling.BICUBIC)
    if side > 384:
        drawn = drawn.point([0] * 128 + [255] * 128)
    return drawn.convert("RGB")


# -- colours


def _tile(picture: Image.Image) -> Image.Image:
    """Colours in their places, without detail."""
    small = tuple(max(1, round(side / _TILE)) for side in picture.size)
    return picture.resize((small[0], small[1]), Image.Resampling.BOX).resize(picture.size, Image.Resampling.BICUBIC)


def _blur(picture: Image.Image) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(max(1.0, max(picture.size) / 100)))


_FILTERS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "none": lambda picture: picture,
    "canny": _canny,
    "lineart": _lineart,
    "scribble": _scribble,
    "tile": _tile,
    "blur": _blur,
    "gray": lambda picture: picture.convert("L").convert("RGB"),
    "invert": ImageOps.invert,
}
assert set(_FILTERS) == set(FILTERS)
