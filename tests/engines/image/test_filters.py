"""Control pictures show what they say they show; Canny's edges are those of a slow reading of the paper."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from studio.core.pictures import FILTERS
from studio.core.problems import BadRecipe
from studio.engines.image import filters
from tests.effort import effort


def a_scene(size: tuple[int, int] = (160, 120), noise: float = 4.0) -> Image.Image:
    scene = Image.new("RGB", size, (225, 215, 200))
    draw = ImageDraw.Draw(scene)
    draw.ellipse((20, 20, 90, 100), fill=(170, 60, 50))
    draw.rectangle((100, 40, 150, 110), fill=(60, 90, 150))
    draw.line((10, 110, 140, 10), fill="black", width=2)
    grain = np.random.default_rng(1).normal(0, noise, (*size[::-1], 3))
    return Image.fromarray(np.clip(np.asarray(scene) + grain, 0, 255).astype(np.uint8))


def slow_canny(grey: np.ndarray, sigma: float, high: float) -> np.ndarray:
    """Pixel by pixel: the same thinning and thresholds, with edges followed from the strong ones."""
    smooth = ndimage.gaussian_filter(grey.astype(np.float32), sigma, mode="nearest", truncate=3.0)
    padded = np.pad(smooth, 1, mode="edge")
    tall, wide = grey.shape
    strength = np.zeros((tall + 2, wide + 2))
    direction = np.zeros((tall, wide, 2), int)
    for y in range(tall):
        for x in range(wide):
            around = padded[y : y + 3, x : x + 3]
            right = ((around[:, 2] - around[:, 0]) * (1, 2, 1)).sum() / 4
            down = ((around[2] - around[0]) * (1, 2, 1)).sum() / 4
            strength[y + 1, x + 1] = np.hypot(right, down)
            octant = round(np.degrees(np.arctan2(down, right)) / 45) % 4
            direction[y, x] = ((0, 1), (1, 1), (1, 0), (1, -1))[octant]
    thin = np.zeros((tall, wide))
    for y in range(tall):
        for x in range(wide):
            dy, dx = direction[y, x]
            here = strength[y + 1, x + 1]
            if here > strength[y + 1 - dy, x + 1 - dx] and here >= strength[y + 1 + dy, x + 1 + dx]:
                thin[y, x] = here
    found = np.zeros((tall, wide), bool)
    to_do = list(zip(*np.nonzero(thin >= high), strict=True))
    while to_do:
        y, x = to_do.pop()
        if found[y, x]:
            continue
        found[y, x] = True
        for near_y in range(max(0, y - 1), min(tall, y + 2)):
            for near_x in range(max(0, x - 1), min(wide, x + 2)):
                if thin[near_y, near_x] >= high * 0.4:
                    to_do.append((near_y, near_x))
    return found


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("size", [(97, 65), (1, 1), (3, 200)])
def test_every_filter_gives_an_rgb_picture_of_the_same_size(name: str, mode: str, size: tuple[int, int]) -> None:
    picture = Image.effect_noise(size, 60).convert(mode)
    before = picture.tobytes()
    made = filters.apply(name, picture)
    assert (made.mode, made.size) == ("RGB", size)
    assert picture.tobytes() == before
    assert filters.apply(name, picture).tobytes() == made.tobytes()


def test_a_filter_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(BadRecipe, match="no filter “depth”"):
        filters.apply("depth", a_scene())


@pytest.mark.parametrize("high", [8.0, 20.0, 40.0])
def test_canny_finds_the_edges_that_a_slow_reading_of_the_paper_finds(high: float) -> None:
    grey = np.asarray(a_scene((80, 60), noise=8.0).convert("L"))
    fast, slow = filters.canny(grey.astype(np.float32), 1.4, high), slow_canny(grey, 1.4, high)
    assert 50 < slow.sum() < slow.size / 3
    # where two neighbours are equal but for the last digit, rounding decides
    assert (fast != slow).sum() <= slow.sum() * 0.02


def test_canny_draws_the_outline_of_a_shape_and_nothing_else() -> None:
    picture = Image.new("L", (120, 120), 60)
    ImageDraw.Draw(picture).rectangle((30, 40, 89, 79), fill=190)
    seen = np.asarray(filters.apply("canny", picture))[..., 0] > 0
    rows, columns = np.nonzero(seen)
    assert {rows.min(), rows.max(), columns.min(), columns.max()} <= {39, 40, 79, 80, 29, 30, 89, 90}
    assert not seen[45:75, 35:85].any()
    assert abs(int(seen.sum()) - 2 * (60 + 40)) <= 12  # one pixel wide
    assert set(np.unique(np.asarray(filters.apply("canny", picture)))) == {0, 255}


def test_canny_chooses_its_thresholds_by_the_picture() -> None:
    faint = Image.new("L", (100, 100), 120)
    ImageDraw.Draw(faint).rectangle((30, 30, 70, 70), fill=140)
    assert np.asarray(filters.apply("canny", faint)).any(), "a faint shape is all there is"
    strong = faint.copy()
    ImageDraw.Draw(strong).rectangle((5, 5, 15, 95), fill=255)
    ImageDraw.Draw(strong).rectangle((80, 5, 95, 95), fill=0)
    seen = np.asarray(filters.apply("canny", strong))[..., 0]
    assert seen[20:80, 12:18].any()
    assert not seen[40:60, 40:60].any()


def test_grain_is_no_edge() -> None:
    grain = np.random.default_rng(3).normal(128, 5, (200, 200))
    seen = np.asarray(filters.apply("canny", Image.fromarray(grain.astype(np.uint8))))[..., 0]
    assert (seen > 0).mean() < 0.02


def test_lineart_turns_dark_lines_on_paper_into_white_ones_on_black() -> None:
    page = Image.new("L", (300, 200), 235)
    draw = ImageDraw.Draw(page)
    draw.line((20, 100, 280, 100), fill=20, width=3)
    draw.line((150, 20, 150, 180), fill=170, width=3)
    seen = np.asarray(filters.apply("lineart", page))[..., 0].astype(int)
    assert seen[100, 40:120].min() > 200, "the black line"
    assert 40 < seen[60, 150] < seen[100, 60], "the pale one is paler"
    assert seen[20:80, 20:120].max() < 10, "paper"
    assert not np.asarray(filters.apply("lineart", Image.new("RGB", (64, 64), "white"))).any()


def test_a_scribble_has_few_thick_strokes() -> None:
    seen = np.asarray(filters.apply("scribble", a_scene((800, 600))))[..., 0]
    assert set(np.unique(seen)) == {0, 255}
    strokes = seen > 0
    assert 0.001 < strokes.mean() < 0.3
    inner = ndimage.binary_erosion(strokes, np.ones((3, 3)))
    assert inner.sum() > strokes.sum() / 4, "more than a pixel or two wide"


def test_tile_and_blur_keep_colours_and_lose_detail() -> None:
    picture = a_scene(noise=30.0)
    for name in ("tile", "blur"):
        seen = np.asarray(filters.apply(name, picture)).astype(float)
        given = np.asarray(picture).astype(float)
        assert np.abs(seen.mean(axis=(0, 1)) - given.mean(axis=(0, 1))).max() < 2
        assert np.abs(np.diff(seen, axis=1)).mean() < np.abs(np.diff(given, axis=1)).mean() / 3


def test_gray_and_invert_and_none() -> None:
    picture = a_scene()
    gray = np.asarray(filters.apply("gray", picture))
    assert np.array_equal(gray[..., 0], np.asarray(picture.convert("L")))
    assert np.array_equal(gray[..., 0], gray[..., 2])
    assert np.array_equal(np.asarray(filters.apply("invert", picture)), 255 - np.asarray(picture))
    assert filters.apply("none", picture).tobytes() == picture.tobytes()


def test_what_is_see_through_is_white_paper() -> None:
    picture = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (10, 10, 30, 30))
    seen = filters.apply("none", picture)
    assert (seen.getpixel((0, 0)), seen.getpixel((20, 20))) == ((255, 255, 255), (0, 0, 0))


@pytest.mark.parametrize("name", ["canny", "lineart", "scribble"])
def test_a_large_picture_takes_about_a_second(name: str) -> None:
    picture = Image.effect_noise((2048, 2048), 50).convert("RGB")
    assert effort(lambda: filters.apply(name, picture)) < 4  # 0.7 measured for the slowest
