"""Layers, blending, frame and mask of a document."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from PySide6.QtCore import QPoint, QRect
from PySide6.QtGui import QColor, QImage

from studio.ui.paint.document import MASK, Document, Locked, as_png
from studio.ui.paint.snapshot import BLENDS
from tests.ui.paint.hands import COLOUR, everything, grey, pixels, plain, speckled, values


def soft(b: float, s: float) -> float:
    if s <= 0.5:
        return b - (1 - 2 * s) * b * (1 - b)
    root = ((16 * b - 12) * b + 4) * b if b <= 0.25 else math.sqrt(b)
    return b + (2 * s - 1) * (root - b)


def hard(b: float, s: float) -> float:
    return 2 * b * s if s <= 0.5 else 1 - 2 * (1 - b) * (1 - s)


# W3C, Compositing and Blending Level 1: b is below, s above.
FORMULAS: dict[str, Callable[[float, float], float]] = {
    "normal": lambda b, s: s,
    "multiply": lambda b, s: b * s,
    "screen": lambda b, s: b + s - b * s,
    "overlay": lambda b, s: hard(s, b),
    "darken": min,
    "lighten": max,
    "color-dodge": lambda b, s: 0.0 if b == 0 else 1.0 if s == 1 else min(1.0, b / (1 - s)),
    "color-burn": lambda b, s: 1.0 if b == 1 else 0.0 if s == 0 else 1 - min(1.0, (1 - b) / s),
    "hard-light": hard,
    "soft-light": soft,
    "difference": lambda b, s: abs(b - s),
    "exclusion": lambda b, s: b + s - 2 * b * s,
}


@pytest.mark.parametrize("blend", BLENDS)
def test_blending_is_that_of_the_standard(blend: str) -> None:
    below, above = speckled(12, 10, 1), speckled(12, 10, 2)
    document = Document(12, 10, picture=below)
    layer = document.add_layer(above)
    document.set_blend(layer.id, blend)
    document.set_opacity(layer.id, 0.6)
    got = document.flattened()
    for y in range(10):
        for x in range(12):
            b, s = below.pixelColor(x, y), above.pixelColor(x, y)
            ab, as_ = b.alphaF(), s.alphaF() * 0.6
            seen = got.pixelColor(x, y)
            for one, other, mixed in (
                (b.redF(), s.redF(), seen.redF()), (b.greenF(), s.greenF(), seen.greenF()),
                (b.blueF(), s.blueF(), seen.blueF()),
            ):  # fmt: skip
                if blend == "plus":  # Qt fades between without and with the layer; the sum has its limit before that
                    alpha = 0.4 * ab + 0.6 * min(1.0, ab + s.alphaF())
                    want = 0.4 * one * ab + 0.6 * min(1.0, one * ab + other * s.alphaF())
                else:
                    alpha = ab + as_ - ab * as_
                    both = FORMULAS[blend](one, other) if ab and as_ else 0.0
                    want = as_ * (1 - ab) * other + ab * (1 - as_) * one + as_ * ab * both
                assert abs(seen.alphaF() - alpha) < 0.012
                assert abs(mixed * seen.alphaF() - want) < 0.02, (x, y, one, other, ab, as_)


def test_the_picture_is_clear_where_nothing_is() -> None:
    document = Document(20, 10)
    document.add_layer(plain(5, 5, "red"), x=-2, y=7)
    flat = document.flattened()
    assert (flat.width(), flat.height(), flat.format()) == (20, 10, COLOUR)
    assert flat.pixelColor(0, 9) == QColor("red") and flat.pixelColor(3, 9).alpha() == 0
    assert document.composed(QRect(-3, 5, 8, 8)).pixelColor(0, 3).alpha() == 0  # beyond the document


def test_pictures_can_be_sent_on_as_png() -> None:
    document = Document(20, 10, picture=speckled(20, 10))
    document.invert_mask()
    back = QImage.fromData(as_png(document.flattened()))
    assert pixels(back.convertToFormat(COLOUR)) == pixels(document.flattened())
    mask = QImage.fromData(as_png(document.mask_image()))
    assert mask.format() == QImage.Format.Format_Grayscale8 and mask.pixelColor(3, 3).red() == 255


def test_the_picture_that_was_given_is_not_painted_on() -> None:
    picture = plain(10, 10, "blue")
    document = Document(10, 10, picture=picture)
    document.fill_layer(document.layers[0].id, QColor("red"))
    assert picture.pixelColor(5, 5) == QColor("blue")


def test_layers_are_added_moved_copied_and_removed() -> None:
    document = Document(10, 10, picture=plain(10, 10, "white"))
    red, green = document.add_layer(plain(4, 4, "red"), "Red"), document.add_layer(plain(4, 4, "green"), "Green")
    assert [it.name for it in document.layers] == ["Picture", "Red", "Green"]
    assert document.colour_at(1, 1) == QColor("green")
    document.move_layer(red.id, 2)
    assert document.colour_at(1, 1) == QColor("red") and document.index(green.id) == 1
    document.set_visible(red.id, False)
    assert document.colour_at(1, 1) == QColor("green")
    copy = document.duplicate_layer(green.id)
    document.place_layer(copy.id, 6, 6)
    assert copy.name == "Green copy" and document.colour_at(7, 7) == QColor("green")
    document.rename_layer(copy.id, "  <b>New</b>\n name ")
    assert copy.name == "<b>New</b> name"
    document.remove_layer(green.id)
    assert document.colour_at(1, 1) == QColor("white")
    assert [it.id for it in document.layers] == [document.layers[0].id, copy.id, red.id]


def test_the_last_layer_and_a_locked_one_stay() -> None:
    document = Document(10, 10)
    with pytest.raises(ValueError, match="at least one"):
        document.remove_layer(document.layers[0].id)
    layer = document.add_layer()
    document.set_locked(layer.id, True)
    with pytest.raises(Locked):
        document.remove_layer(layer.id)
    with pytest.raises(Locked):
        document.merge_down(layer.id)
    assert len(document.layers) == 2


def test_merging_and_flattening_do_not_change_what_is_seen() -> None:
    document = Document(30, 20, picture=speckled(30, 20))
    document.add_layer(speckled(12, 12, 3), x=10, y=5)
    top = document.add_layer(speckled(15, 15, 4), x=-4, y=-4)
    document.set_blend(top.id, "multiply")
    document.set_opacity(top.id, 0.7)
    before = document.flattened()
    document.merge_down(document.layers[1].id)
    assert pixels(document.flattened()) == pixels(before) and len(document.layers) == 2
    document.flatten()
    assert pixels(document.flattened()) == pixels(before) and len(document.layers) == 1
    assert pixels(document.layers[0].image) == pixels(before)


def test_filling_and_flooding_colour_a_layer() -> None:
    document = Document(20, 10, picture=plain(20, 10, "white"))
    document.fill_layer(document.layers[0].id, QColor("black"), grey([[255 if x == 10 else 0 for x in range(20)]] * 10))
    document.flood(document.layers[0].id, QPoint(3, 3), QColor("red"), 10)
    assert [document.colour_at(x, 5).name() for x in (9, 10, 11)] == ["#ff0000", "#000000", "#ffffff"]
    document.flood(document.layers[0].id, QPoint(15, 3), QColor(0, 0, 255, 128), 10, contiguous=False)
    assert document.colour_at(15, 5).name() == "#7f7fff"


def test_the_mask_is_selected_combined_and_measured() -> None:
    document = Document(300, 280, picture=plain(300, 280, "white"))
    told: list[bool] = []
    document.mask_changed.connect(told.append)
    document.fill_layer(document.layers[0].id, QColor("red"), grey([[255 if x < 20 else 0 for x in range(300)]] * 280))
    assert document.is_empty_mask() and document.bounds_of_mask().isEmpty() and told == []
    document.select_by_colour(QPoint(2, 2), 10)
    assert document.bounds_of_mask() == QRect(0, 0, 20, 280) and told == [False]
    document.select_by_colour(QPoint(100, 2), 10)
    assert document.bounds_of_mask() == document.rect
    document.select_by_colour(QPoint(2, 2), 10, mode="remove")
    assert document.bounds_of_mask() == QRect(20, 0, 280, 280)
    document.invert_mask()
    assert document.bounds_of_mask() == QRect(0, 0, 20, 280)
    document.grow_mask(6)
    assert document.bounds_of_mask() == QRect(0, 0, 26, 280)
    document.grow_mask(-10)
    assert document.bounds_of_mask() == QRect(0, 0, 16, 280)
    document.feather_mask(8)
    assert 40 < values(document.mask)[100][15] < 215 and values(document.mask)[100][2] == 255
    document.clear_mask()
    assert document.is_empty_mask() and told[-1] is True
    assert values(document.mask_image()) == [[0] * 300] * 280


def test_growing_in_blocks_is_growing_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from studio.ui.paint import edits as module
    from studio.ui.paint import regions

    monkeypatch.setattr(module, "_BLOCK", 32)
    dice = random.Random(5)
    rows = [[dice.choice((0,) * 40 + (90, 255)) for _ in range(150)] for _ in range(110)]
    for by in (7, -2):
        document = Document(150, 110)
        document.set_mask(grey(rows))
        if by < 0:
            document.invert_mask()
        whole = regions.grown(document.mask, by)
        document.grow_mask(by)
        assert pixels(document.mask) == pixels(whole)


def test_a_ring_in_the_mask_is_filled_to_its_line() -> None:
    document = Document(60, 60)
    rows = [[255 if 18 <= math.hypot(x - 30, y - 30) <= 21 else 0 for x in range(60)] for y in range(60)]
    document.set_mask(grey(rows))
    document.flood_mask(QPoint(30, 30))
    got = values(document.mask)
    assert all(got[y][x] == 255 for y in range(60) for x in range(60) if math.hypot(x - 30, y - 30) <= 21)
    assert got[2][2] == 0


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="another size"):
        Document(10, 10).set_mask(plain(9, 10, "white"))


def test_the_frame_keeps_to_steps_and_limits_and_the_document_takes_its_size() -> None:
    document = Document(200, 160, picture=plain(200, 160, "green"))
    document.fill_mask()
    told: list[tuple[int, ...]] = []
    document.frame_changed.connect(lambda *it: told.append(it))
    document.set_frame(13, 3, -22, 0)
    assert document.frame == (16, 0, -24, 0) == told[-1]
    assert document.frame_rect == QRect(-16, 0, 192, 160)
    document.set_frame(-500, 0, -500, 99_999)
    assert document.frame_rect.width() >= 64 and document.height + document.frame[3] <= 16_384
    document.set_frame(16, 0, -24, 8)
    document.crop_to_frame()
    assert (document.width, document.height, document.frame) == (192, 168, (0, 0, 0, 0))
    assert document.colour_at(15, 5).alpha() == 0 and document.colour_at(16, 5) == QColor("green")
    assert document.bounds_of_mask() == QRect(16, 0, 176, 160)
    assert (document.mask.width(), document.mask.height()) == (192, 168)
    document.undo()
    assert (document.width, document.frame) == (200, (16, 0, -24, 8))
    assert document.bounds_of_mask() == QRect(0, 0, 200, 160)


def test_a_slider_that_is_dragged_is_one_step() -> None:
    document = Document(10, 10)
    id = document.layers[0].id
    for value in (0.9, 0.6, 0.3):
        document.set_opacity(id, value, go_on=True)
    document.set_opacity(id, 0.2)
    assert document.history.counts() == (2, 0)
    document.undo()
    assert document.layer(id).opacity == 0.3
    document.undo()
    assert document.layer(id).opacity == 1


def test_impossible_sizes_are_refused() -> None:
    for size in ((0, 10), (10, 20_000)):
        with pytest.raises(ValueError, match="px"):
            Document(*size)
    with pytest.raises(ValueError, match="px"):
        Document(10, 10).add_layer(QImage())


def test_nothing_happens_where_nothing_changes() -> None:
    document = Document(10, 10)
    before = everything(document)
    document.clear_mask()
    document.set_frame(0, 0, 0, 0)
    document.set_opacity(document.layers[0].id, 1.0)
    document.move_layer(document.layers[0].id, 5)
    document.rename_layer(document.layers[0].id, "  ")
    document.grow_mask(4)
    assert document.history.counts() == (0, 0) and everything(document) == before
    assert not document.undo() and not document.redo()
    assert MASK == 0
