"""The rectangle over a picture: how it is pulled, turned and kept in its ratio."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from studio.ui.crop import LEAST, CropView, fitted, pulled, turned, unturned

WHOLE = QSize(400, 300)
BOX = QRectF(100, 50, 200, 150)
PULLS = [it for it in itertools.product((False, True), repeat=4) if not (it[0] and it[2]) and not (it[1] and it[3])]


def sides(box: QRectF) -> tuple[float, ...]:
    return tuple(round(it, 6) for it in (box.left(), box.top(), box.right(), box.bottom()))


def test_edges_and_corners_follow_the_hand_and_the_inside_moves_all() -> None:
    assert sides(pulled(BOX, (True, False, False, False), QPointF(10, 99), WHOLE)) == (110, 50, 300, 200)
    assert sides(pulled(BOX, (False, False, True, True), QPointF(10, -20), WHOLE)) == (100, 50, 310, 180)
    assert sides(pulled(BOX, (False,) * 4, QPointF(-30, 20), WHOLE)) == (70, 70, 270, 220)
    assert sides(pulled(BOX, (False,) * 4, QPointF(999, 999), WHOLE)) == (200, 150, 400, 300)
    assert sides(pulled(BOX, (True, True, False, False), QPointF(999, 999), WHOLE)) == (284, 184, 300, 200)


def test_with_a_ratio_the_other_side_follows() -> None:
    square = QRectF(100, 50, 100, 100)
    assert sides(pulled(square, (False, False, True, True), QPointF(40, 10), WHOLE, 1.0)) == (100, 50, 240, 190)
    assert sides(pulled(square, (False, False, True, False), QPointF(40, 0), WHOLE, 1.0)) == (100, 30, 240, 170)
    assert sides(pulled(square, (True, True, False, False), QPointF(-999, -999), WHOLE, 1.0)) == (50, 0, 200, 150)


@given(
    edges=st.sampled_from(PULLS),
    by=st.tuples(st.integers(-900, 900), st.integers(-900, 900)),
    ratio=st.sampled_from([None, 1.0, 4 / 3, 9 / 16, 3.0]),
)  # fmt: skip
def test_it_never_leaves_the_picture_gets_too_small_or_loses_its_ratio(
    edges: tuple[bool, bool, bool, bool], by: tuple[int, int], ratio: float | None
) -> None:
    box = fitted(BOX, ratio) if ratio else BOX
    made = pulled(box, edges, QPointF(*by), WHOLE, ratio)
    assert made.left() >= -1e-6 and made.top() >= -1e-6 and made.right() <= 400.001 and made.bottom() <= 300.001
    assert made.width() >= LEAST - 1e-6 and made.height() >= LEAST - 1e-6
    if ratio is not None:
        assert made.width() / made.height() == pytest.approx(ratio)
    if edges[0] or edges[1]:
        assert not edges[0] or made.right() == pytest.approx(box.right())
        assert not edges[1] or made.bottom() == pytest.approx(box.bottom())


def test_turning_there_and_back_changes_nothing() -> None:
    own = (1, 2, 3, 4)
    assert turned(own, 1, "none") == (4, 1, 2, 3), "what was below is at the left"
    assert turned(own, 0, "across") == (3, 2, 1, 4)
    for quarters, flip in itertools.product(range(4), ("none", "across", "down")):
        assert unturned(turned(own, quarters, flip), quarters, flip) == own


def test_keys_alone_move_and_size_it(qtbot: QtBot) -> None:
    view = CropView()
    qtbot.addWidget(view)
    view.resize(216, 166)  # half the size, and some room
    view.set_active(True)
    view.set_whole(WHOLE, (100, 50, 100, 100))
    told: list[tuple[int, ...]] = []
    view.cropped.connect(lambda: told.append(view.margins))
    shift, ctrl = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier
    QTest.keyClick(view, Qt.Key.Key_Right, ctrl)
    assert told[-1] == (101, 50, 99, 100)
    QTest.keyClick(view, Qt.Key.Key_Down)
    assert told[-1] == (101, 58, 99, 92), "4 px of the screen"
    QTest.keyClick(view, Qt.Key.Key_Left, shift | ctrl)
    assert told[-1] == (101, 58, 100, 92)
    assert "199 by 150 px" in view.accessibleDescription()
    view.set_active(False)
    QTest.keyClick(view, Qt.Key.Key_Down)
    assert len(told) == 3
