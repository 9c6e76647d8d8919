"""The brush: what a dab is, and what many of them make."""

from __future__ import annotations

import math

import pytest
from PySide6.QtCore import QPoint, QRect
from PySide6.QtGui import QColor

from studio.ui.paint.document import MASK, Document, Locked
from studio.ui.paint.strokes import Brush, strength
from tests.ui.paint.hands import pixels, plain, values


@pytest.mark.parametrize(("size", "hardness"), [(1, 1.0), (7, 1.0), (20, 0.0), (20, 0.6), (41, 0.25)])
@pytest.mark.parametrize("place", [(30.0, 30.0), (30.25, 29.5)])
def test_a_dab_is_as_strong_as_its_distance_says(size: float, hardness: float, place: tuple[float, float]) -> None:
    if size >= 32 and place != (30.0, 30.0):
        pytest.skip("large dabs lie on whole px")
    document = Document(60, 60)
    stroke = document.begin_stroke(MASK, Brush(size, hardness))
    stroke.to(*place)
    stroke.end()
    got = values(document.mask)
    for y in range(60):
        for x in range(60):
            want = 255 * strength(math.hypot(x + 0.5 - place[0], y + 0.5 - place[1]), size / 2, hardness)
            assert abs(got[y][x] - want) < 6, (x, y)


def test_the_strength_falls_from_the_middle_to_the_edge() -> None:
    for hardness in (0.0, 0.5, 1.0):
        found = [strength(i / 10, 10, hardness) for i in range(120)]
        assert found == sorted(found, reverse=True)
        assert found[0] == 1 and found[-1] == 0


def test_a_quick_stroke_has_no_gaps() -> None:
    document = Document(400, 60)
    stroke = document.begin_stroke(MASK, Brush(6, 1.0))
    stroke.to(10, 30)
    stroke.to(390, 30)
    stroke.end()
    assert set(values(document.mask)[30][10:388]) == {255}


def test_dabs_do_not_depend_on_how_often_the_pointer_is_heard() -> None:
    once, often = Document(300, 40), Document(300, 40)
    for document, pieces in ((once, 1), (often, 28)):
        stroke = document.begin_stroke(MASK, Brush(40, 0.2, flow=0.3))
        stroke.to(10, 20)
        for i in range(1, pieces + 1):
            stroke.to(10 + 280 * i / pieces, 20)
        stroke.end()
    assert pixels(once.mask) == pixels(often.mask)


def test_a_stroke_that_crosses_itself_is_no_stronger_than_its_opacity() -> None:
    document = Document(300, 300)  # over several tiles
    layer = document.layers[0].id
    for target in (MASK, layer):
        stroke = document.begin_stroke(target, Brush(40, 1.0, opacity=0.5, colour=0xFFFF0000))
        for place in ((150, 20), (150, 280), (20, 280), (20, 150), (280, 150), (150, 20)):
            stroke.to(*place)
        stroke.end()
    assert max(max(row) for row in values(document.mask)) in (127, 128)
    assert document.layers[0].image.pixelColor(150, 150).alpha() in (127, 128)
    # another stroke adds to it
    stroke = document.begin_stroke(MASK, Brush(40, 1.0, opacity=0.5))
    stroke.to(150, 150)
    stroke.end()
    assert values(document.mask)[150][150] in (190, 191, 192)


def test_flow_builds_up_within_a_stroke() -> None:
    document = Document(40, 40)
    stroke = document.begin_stroke(MASK, Brush(20, 1.0, flow=0.5, spacing=0.05))
    stroke.to(20, 20)
    assert values(document.mask)[20][20] in (127, 128)
    stroke.to(24, 20)
    stroke.end()
    assert values(document.mask)[20][20] > 200


def test_erasing_takes_away_from_the_mask_and_from_a_layer() -> None:
    document = Document(50, 50, picture=plain(50, 50, "#204060"))
    document.fill_mask()
    for target, opacity in ((MASK, 1.0), (document.layers[0].id, 0.5)):
        stroke = document.begin_stroke(target, Brush(10, 1.0, erases=True, opacity=opacity))
        stroke.to(25, 25)
        stroke.end()
    assert values(document.mask)[25][25] == 0 and values(document.mask)[2][2] == 255
    assert document.layers[0].image.pixelColor(25, 25).alpha() in (127, 128)
    assert document.layers[0].image.pixelColor(2, 2).alpha() == 255


def test_pressure_makes_the_line_thinner_or_lighter() -> None:
    def reach(pressure: float, **more: bool) -> list[int]:
        document = Document(60, 60)
        stroke = document.begin_stroke(MASK, Brush(40, 1.0, **more))
        stroke.to(30, 30, pressure)
        stroke.end()
        return values(document.mask)[30]

    assert sum(it > 127 for it in reach(1.0)) == 40
    assert sum(it > 127 for it in reach(0.5)) == 22
    assert reach(0.5, size_by_pressure=False) == reach(1.0)
    light = reach(0.5, size_by_pressure=False, flow_by_pressure=True)
    assert light[30] in (127, 128) and light[12] == light[30]


def test_what_is_changed_is_told() -> None:
    document = Document(500, 500)
    told: list[QRect] = []
    document.pixels_changed.connect(lambda id, rect: told.append(rect))
    before = document.mask.copy()
    stroke = document.begin_stroke(MASK, Brush(30, 0.5))
    stroke.to(100, 100)
    rect = stroke.to(140, 120)
    stroke.end()
    assert told[1] == rect
    whole = told[0].united(told[1])
    assert whole.width() < 90 and whole.height() < 70
    painted = document.mask.copy()
    assert pixels(painted) != pixels(before)
    assert whole.contains(document.bounds_of_mask())


def test_painting_beyond_a_small_layer_makes_it_larger() -> None:
    document = Document(100, 80)
    layer = document.add_layer(plain(10, 10, "blue"), x=60, y=60)
    stroke = document.begin_stroke(layer.id, Brush(8, 1.0, colour=0xFFFF0000))
    stroke.to(5, 5)
    stroke.end()
    assert document.colour_at(5, 5) == QColor("red")
    assert document.colour_at(65, 65) == QColor("blue")
    document.undo()
    assert layer.rect == QRect(QPoint(60, 60), layer.image.size()) and layer.image.width() == 10


def test_a_locked_layer_is_not_painted_on() -> None:
    document = Document(20, 20)
    document.set_locked(document.layers[0].id, True)
    with pytest.raises(Locked, match="locked"):
        document.begin_stroke(document.layers[0].id, Brush())
