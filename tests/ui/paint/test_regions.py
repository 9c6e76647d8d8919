"""Selecting, growing and softening, held against the same said slowly in plain Python."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PySide6.QtCore import QPoint, QRect
from PySide6.QtGui import QColor, QPainter

from studio.ui.paint import regions
from tests.ui.paint.hands import grey, plain, values


def flooded(rows: list[list[int]], x: int, y: int, tolerance: int) -> set[tuple[int, int]]:
    wanted, found, todo = rows[y][x], set(), [(x, y)]
    while todo:
        at = todo.pop()
        inside = 0 <= at[0] < len(rows[0]) and 0 <= at[1] < len(rows)
        if at in found or not inside or abs(rows[at[1]][at[0]] - wanted) > tolerance:
            continue
        found.add(at)
        todo += [(at[0] + 1, at[1]), (at[0] - 1, at[1]), (at[0], at[1] + 1), (at[0], at[1] - 1)]
    return found


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 24), st.integers(0, 2**32), st.sampled_from([0.4, 0.55, 0.7]),
    st.sampled_from([0, 3, 12]),
)  # fmt: skip
def test_a_flood_reaches_what_is_connected_and_nothing_else(
    width: int, height: int, seed: int, share: float, tolerance: int
) -> None:
    dice = random.Random(seed)
    rows = [[dice.choice((0, 2)) if dice.random() < share else dice.choice((10, 200)) for _ in range(width)]
            for _ in range(height)]  # fmt: skip
    x, y = dice.randrange(width), dice.randrange(height)
    got = values(regions.select(grey(rows), QPoint(x, y), tolerance))
    want = flooded(rows, x, y, tolerance)
    assert got == [[255 if (a, b) in want else 0 for a in range(width)] for b in range(height)]


def test_everywhere_takes_alike_px_that_are_not_connected() -> None:
    picture = plain(9, 3, "#102030")
    painter = QPainter(picture)
    painter.fillRect(4, 0, 1, 3, QColor("#a02030"))
    painter.end()
    near = regions.select(picture, QPoint(0, 0), 0)
    everywhere = regions.select(picture, QPoint(0, 0), 0, contiguous=False)
    assert values(near)[0] == [255] * 4 + [0] * 5
    assert values(everywhere)[0] == [255] * 4 + [0] + [255] * 4


@pytest.mark.parametrize("channel", range(4))
def test_every_channel_counts_for_the_tolerance(channel: int) -> None:
    picture = plain(2, 1, "#000000")
    parts = [100, 100, 100, 255]
    picture.setPixelColor(0, 0, QColor(*parts))
    parts[channel] += 20 if channel < 3 else -20
    picture.setPixelColor(1, 0, QColor(*parts))
    assert values(regions.select(picture, QPoint(0, 0), 21))[0] == [255, 255]
    assert values(regions.select(picture, QPoint(0, 0), 19))[0] == [255, 0]


def test_a_place_beyond_the_picture_selects_nothing() -> None:
    assert values(regions.select(plain(3, 2, "red"), QPoint(3, 0), 255)) == [[0] * 3] * 2


def test_a_flood_finds_its_way_through_a_long_maze() -> None:
    rows = [[9] * 41 for _ in range(41)]
    for y in range(0, 41, 2):
        rows[y] = [0] * 41
        if y + 1 < 41:
            rows[y + 1][40 if y % 4 == 0 else 0] = 0
    got = values(regions.select(grey(rows), QPoint(0, 0), 0))
    assert got == [[255 if value == 0 else 0 for value in row] for row in rows]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 18), st.integers(1, 18), st.integers(1, 9), st.integers(0, 2**32))
def test_growing_takes_the_largest_value_within_an_octagon(width: int, height: int, by: int, seed: int) -> None:
    dice = random.Random(seed)
    rows = [[dice.choice((0, 0, 0, 0, 80, 255)) for _ in range(width)] for _ in range(height)]
    reach = regions.octagon(by)

    def at(x: int, y: int) -> int:
        return rows[min(max(y, 0), height - 1)][min(max(x, 0), width - 1)]

    larger = [[max(at(x + dx, y + dy) for dx, dy in reach) for x in range(width)] for y in range(height)]
    smaller = [[min(at(x + dx, y + dy) for dx, dy in reach) for x in range(width)] for y in range(height)]
    assert values(regions.grown(grey(rows), by)) == larger
    assert values(regions.grown(grey(rows), -by)) == smaller


def test_the_octagon_is_nearly_a_disc() -> None:
    for by in range(3, 40, 6):
        longest = max(math.hypot(*it) for it in regions.octagon(by))
        assert by <= longest < by * 1.12 + 1
        assert {(by, 0), (0, -by)} <= regions.octagon(by)
        assert (by + 1, 0) not in regions.octagon(by)


@pytest.mark.parametrize("radius", [2, 5, 12])
def test_feathering_is_a_gaussian_blur(radius: float) -> None:
    side = 64
    rows = [[255 if 20 <= x < 44 and 24 <= y < 50 else 0 for x in range(side)] for y in range(side)]
    spread = radius / 2
    reach = math.ceil(4 * spread)
    weights = [math.exp(-((i / spread) ** 2) / 2) for i in range(-reach, reach + 1)]

    def along(line: list[float]) -> list[float]:
        return [
            sum(w * line[min(max(i + k - reach, 0), side - 1)] for k, w in enumerate(weights)) / sum(weights)
            for i in range(side)
        ]

    across = [along([float(v) for v in row]) for row in rows]
    want = list(zip(*(along(list(column)) for column in zip(*across, strict=True)), strict=True))
    got = values(regions.feathered(grey(rows), radius))
    apart = max(abs(got[y][x] - want[y][x]) for y in range(side) for x in range(side))
    assert apart < 9, apart
    assert got[0][0] == 0


@pytest.mark.parametrize("value", [0, 1, 128, 255])
def test_feathering_leaves_plain_areas_as_they_are(value: int) -> None:
    for radius in (1, 7, 50):
        assert set(map(tuple, values(regions.feathered(regions.blank(37, 21, value), radius)))) == {(value,) * 37}


def test_bounds_and_emptiness() -> None:
    mask = regions.blank(30, 20)
    assert regions.is_clear(mask) and regions.filled_bounds(mask).isEmpty()
    rows = values(mask)
    rows[3][29], rows[17][5] = 1, 255
    assert regions.filled_bounds(grey(rows)) == QRect(5, 3, 25, 15)
    assert not regions.is_clear(grey(rows)) and not regions.is_plain(grey(rows))
    assert regions.is_plain(regions.blank(7, 7, 90))
    assert values(regions.inverted(grey(rows)))[17][5] == 0
