"""What takes long: done piece by piece it is what it would be at once, and the window goes on meanwhile."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt, QTimer
from PySide6.QtGui import QColor, QImage, QKeyEvent, QMouseEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from studio.ui.paint import board as board_module
from studio.ui.paint import edits, regions
from studio.ui.paint.board import Board, Tool
from studio.ui.paint.chores import TITLES
from studio.ui.paint.document import MASK, Document, Locked
from studio.ui.paint.history import Blob
from studio.ui.paint.page import PaintPage
from studio.ui.paint.strokes import Brush
from tests.ui.paint.hands import everything, pixels, plain, speckled, values

WIDE, HIGH = 700, 530  # several tiles, those at the edges smaller


def blotted(width: int = WIDE, height: int = HIGH) -> QImage:
    dice = random.Random(3)
    mask = regions.blank(width, height)
    for _ in range(30):
        x, y, side = dice.randrange(width), dice.randrange(height), dice.randrange(5, 60)
        for row in range(y, min(height, y + side)):
            for column in range(x, min(width, x + side), 7):
                mask.setPixelColor(column, row, QColor(0, 0, 0, 255))
    return mask


@pytest.fixture(scope="module")
def blots() -> QImage:
    return blotted()


def with_mask(mask: QImage) -> Document:
    document = Document(mask.width(), mask.height())
    document.set_mask(mask)
    return document


@pytest.mark.parametrize("radius", [0.5, 3, 7, 12, 24, 60, 130])
def test_softening_in_pieces_is_softening_at_once(blots: QImage, radius: float) -> None:
    document = with_mask(blots)
    document.feather_mask(radius)
    whole = regions.feathered(blots, radius)
    worst = max(
        abs(a - b) for one, other in zip(values(document.mask), values(whole), strict=True)
        for a, b in zip(one, other, strict=True)
    )  # fmt: skip
    # far from all that is masked the copy is left as it is; elsewhere the same sums, rounded in other places
    assert worst <= (3 if radius >= 60 else 1)


@pytest.mark.parametrize("by", [3, -3, 40])
def test_growing_in_pieces_is_growing_at_once(blots: QImage, by: int) -> None:
    document = with_mask(blots)
    document.grow_mask(by)
    assert pixels(document.mask) == pixels(regions.grown(blots, by))


def test_selecting_strip_by_strip_is_selecting_at_once() -> None:
    document = Document(WIDE, HIGH, picture=speckled(WIDE, HIGH))
    flat = document.flattened()
    for contiguous in (True, False):
        document.select_by_colour(QPoint(300, 400), 60, contiguous=contiguous, mode="replace")
        assert pixels(document.mask) == pixels(regions.select(flat, QPoint(300, 400), 60, contiguous=contiguous))
    document.select_by_colour(QPoint(900, 900), 60)  # outside: nothing


def test_only_tiles_that_change_are_in_a_patch_and_it_says_which_are_empty() -> None:
    document = Document(WIDE, HIGH)
    mask = regions.blank(WIDE, HIGH)
    mask.setPixelColor(10, 10, QColor(0, 0, 0, 255))
    document.set_mask(mask)
    patch = edits.grow(document.snapshot(), 4)
    assert [(column, row) for column, row, _ in patch.tiles] == [(0, 0)]
    patch = edits.fill(document.snapshot(), 0)
    assert [(column, row) for column, row, _ in patch.tiles] == [(0, 0)] and patch.cleared == {(0, 0)}
    assert document.apply(patch) and document.is_empty_mask()
    assert document.undo() and not document.is_empty_mask() and pixels(document.mask) == pixels(mask)


@pytest.mark.parametrize("x", [0, 35])
def test_a_layer_is_coloured_as_one_step_though_it_has_to_become_larger(x: int) -> None:
    document = Document(WIDE, HIGH, picture=plain(WIDE, HIGH, "white"))
    layer = document.add_layer(plain(WIDE, HIGH, "#204060"), x=x)
    document.set_mask(blotted())
    before = everything(document)
    document.apply(edits.colour(document.snapshot(), layer.id, QColor("red"), masked=True))
    for px in (QPoint(40, 40), QPoint(500, 300), QPoint(5, 5)):
        masked = document.mask.pixelColor(px).alpha() == 255
        below = "#204060" if px.x() >= x else "white"
        assert document.colour_at(px.x(), px.y()) == QColor("red" if masked else below)
    after = everything(document)
    assert document.undo() and everything(document) == before
    assert document.redo() and everything(document) == after
    document.apply(edits.clear_layer(document.snapshot(), layer.id))
    assert document.colour_at(500, 300) == QColor("white")


def test_a_patch_fits_only_what_it_was_made_for() -> None:
    document = with_mask(blotted())
    patch = edits.invert(document.snapshot())
    document.set_opacity(document.layers[0].id, 0.5)
    before = everything(document)
    assert not document.apply(patch) and everything(document) == before
    assert document.apply(edits.invert(document.snapshot()))
    layer = document.layers[0]
    patch = edits.colour(document.snapshot(), layer.id, QColor("red"))
    layer.locked = True
    with pytest.raises(Locked):
        document.apply(patch)


def test_an_edit_stops_when_it_is_told_to() -> None:
    class Enough(Exception):
        pass

    left = 3

    def check() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Enough

    document = with_mask(blotted())
    shot = document.snapshot()
    for edit in (
        lambda: edits.grow(shot, 5, check), lambda: edits.feather(shot, 5, check),
        lambda: edits.feather(shot, 200, check), lambda: edits.invert(shot, check),
        lambda: edits.select(shot, QPoint(5, 5), 10, check), lambda: edits.flood_mask(shot, QPoint(5, 5), 10, check),
        lambda: edits.flood(shot, document.layers[0].id, QPoint(5, 5), QColor("red"), 10, check),
        lambda: edits.colour(shot, document.layers[0].id, QColor("red"), check),
        lambda: edits.clear_layer(shot, document.layers[0].id, check),
    ):  # fmt: skip
        left = 3
        with pytest.raises(Enough):
            edit()


# -- on the board


@pytest.fixture
def board(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    """A board on which everything counts as large."""
    monkeypatch.setattr(board_module, "AT_ONCE", 0)
    made = Board()
    qtbot.addWidget(made)
    made.resize(500, 400)
    document = Document(WIDE, HIGH, picture=plain(WIDE, HIGH, "white"))
    made.set_document(document)
    made.show()
    made.setFocus()
    yield made
    made.set_document(None)
    document.close()


def there(board: Board) -> Document:
    assert board.document is not None
    return board.document


def waited(qtbot: QtBot, board: Board) -> None:
    qtbot.waitUntil(lambda: not board.busy, timeout=20_000)


def grown(by: int) -> edits.Edit:
    return lambda shot, check: edits.grow(shot, by, check)


def press(board: Board, kind: QEvent.Type, x: float, y: float) -> None:
    at = board._here().to_widget(QPointF(x, y))
    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
    button, held = (none, left) if kind is QEvent.Type.MouseMove else (left, left)
    if kind is QEvent.Type.MouseButtonRelease:
        held = none
    event = QMouseEvent(kind, at, QPointF(board.mapToGlobal(at)), button, held, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(board, event)


def test_the_window_goes_on_while_it_is_done(qtbot: QtBot, board: Board) -> None:
    document = Document(2048, 2048)
    document.set_mask(blotted(2048, 2048))
    old = there(board)
    board.set_document(document)
    old.close()
    turns = 0

    def turned() -> None:
        nonlocal turns
        turns += board.busy == "grow"

    clock = QTimer(interval=0)
    clock.timeout.connect(turned)
    clock.start()
    before = pixels(document.mask)
    board.work("grow", grown(20))
    assert board.busy == "grow" and pixels(document.mask) == before
    waited(qtbot, board)
    clock.stop()
    assert pixels(document.mask) != before
    assert turns > 20, "there were many turns of the loop, not one long one"
    assert document.history.undo_name == "Grow the mask"


def test_what_is_begun_is_done_in_order_and_a_stroke_comes_after_what_was_asked_for_before(
    qtbot: QtBot, board: Board
) -> None:
    document = there(board)
    dot = regions.blank(WIDE, HIGH)
    dot.setPixelColor(100, 100, QColor(0, 0, 0, 255))
    document.set_mask(dot)
    board.set_brush(Brush(6, 1.0))
    board.work("grow", grown(10))
    board.work("shrink", grown(-2))
    press(board, QEvent.Type.MouseButtonPress, 400, 300)
    press(board, QEvent.Type.MouseMove, 450, 300)
    assert document.history.undo_name == "Replace the mask"
    press(board, QEvent.Type.MouseButtonRelease, 450, 300)
    waited(qtbot, board)
    names = []
    while document.history.undo_name:
        names.append(document.history.undo_name)
        if len(names) == 1:
            mask = document.mask
            assert mask.pixelColor(108, 100).alpha() == 255 and mask.pixelColor(109, 100).alpha() == 0
            assert mask.pixelColor(430, 300).alpha() == 255 and mask.pixelColor(430, 310).alpha() == 0
        document.undo()
    assert names == ["Mask stroke", "Shrink the mask", "Grow the mask", "Replace the mask"]


def test_a_hand_that_is_still_down_goes_on_with_its_stroke(qtbot: QtBot, board: Board) -> None:
    document = there(board)
    document.set_mask(blotted())
    board.set_brush(Brush(6, 1.0))
    board.work("clear", lambda shot, check: edits.fill(shot, 0, check))
    press(board, QEvent.Type.MouseButtonPress, 400, 300)
    press(board, QEvent.Type.MouseMove, 420, 300)
    waited(qtbot, board)
    press(board, QEvent.Type.MouseMove, 460, 300)
    press(board, QEvent.Type.MouseButtonRelease, 460, 300)
    assert all(document.mask.pixelColor(x, 300).alpha() == 255 for x in range(400, 460))
    assert document.mask.pixelColor(20, 20).alpha() == 0


def test_it_is_done_over_if_the_document_was_changed_meanwhile(qtbot: QtBot, board: Board) -> None:
    document = there(board)
    dot = regions.blank(WIDE, HIGH)
    dot.setPixelColor(100, 100, QColor(0, 0, 0, 255))
    document.set_mask(dot)
    board.work("invert", edits.invert)
    document.clear_mask()
    waited(qtbot, board)
    assert {it for row in values(document.mask) for it in row} == {255}
    assert document.undo() and document.is_empty_mask()


def test_large_steps_are_undone_and_redone_on_the_thread_too(
    qtbot: QtBot, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = there(board)
    seen = [pixels(document.mask)]
    for edit in (lambda: document.set_mask(blotted()), document.invert_mask):
        edit()
        seen.append(pixels(document.mask))
    assert document.history.flush(), "what is undone has been packed"
    monkeypatch.setattr(board_module, "UNPACKED_AT_ONCE", 0)
    read: list[str] = []
    real = Blob.image

    def image(blob: Blob) -> Any:
        read.append(threading.current_thread().name)
        return real(blob)

    monkeypatch.setattr(Blob, "image", image)
    board.undo()
    board.undo()
    assert board.busy == "undo" and pixels(document.mask) == seen[2], "the second waits for the first"
    waited(qtbot, board)
    assert pixels(document.mask) == seen[0] and document.history.counts() == (0, 2)
    board.redo()
    board.redo()
    waited(qtbot, board)
    assert pixels(document.mask) == seen[2] and document.history.counts() == (2, 0)
    assert read and {name.partition("_")[0] for name in read} == {"edits"}, "the window reads none of it"
    # what came in between is not undone instead, and Esc leaves all as it is
    board.undo()
    document.add_layer(name="later")
    waited(qtbot, board)
    assert len(document.layers) == 2 and pixels(document.mask) == seen[2]
    document.undo()
    board.undo()
    QTest.keyClick(board, Qt.Key.Key_Escape)
    qtbot.wait(60)
    assert not board.busy and pixels(document.mask) == seen[2]


@pytest.mark.parametrize("how", ["escape", "undo", "page"])
def test_it_can_be_given_up(qtbot: QtBot, board: Board, tmp_path: Any, how: str) -> None:
    document = there(board)
    document.set_mask(blotted())
    before = everything(document)
    if how == "page":  # with the focus on a button
        page = PaintPage(tmp_path)
        qtbot.addWidget(page)
        page.board.set_document(document)
        page.show()
        page.board.work("grow", grown(60))
        page.tools.reach.setFocus()
        key = QKeyEvent(QEvent.Type.ShortcutOverride, Qt.Key.Key_Escape, Qt.KeyboardModifier.NoModifier)
        key.ignore()
        QApplication.sendEvent(page, key)
        assert key.isAccepted(), "Esc does not lead out of the painting"
        QTest.keyClick(page, Qt.Key.Key_Escape)
        assert not page.board.busy
        page.board.set_document(None)
    else:
        board.work("grow", grown(60))
        board.work("invert", edits.invert)
        if how == "escape":
            QTest.keyClick(board, Qt.Key.Key_Escape)
        else:
            board.undo()
        assert not board.busy
    qtbot.wait(60)
    assert everything(document) == before and document.history.undo_name == "Replace the mask"


def test_the_button_of_what_is_being_done_stops_it(
    qtbot: QtBot, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_module, "AT_ONCE", 0)
    page = PaintPage(tmp_path / "painting")
    qtbot.addWidget(page)
    assert page.begin(plain(WIDE, HIGH, "white"), WIDE, HIGH)
    document = page.document
    assert document is not None
    document.set_mask(blotted())
    before = pixels(document.mask)
    button = page.tools.grow_button
    assert button.accessibleName() == "Grow the mask"
    page.tools.reach.setValue(200)
    button.click()
    assert button.accessibleName() == "Growing the mask: stop" and "Esc" in button.toolTip()
    button.click()
    assert not page.board.busy and button.accessibleName() == "Grow the mask"
    assert pixels(document.mask) == before
    page.tools.shrink_button.click()
    waited(qtbot, page.board)
    assert pixels(document.mask) != before
    page.put_away()


def test_a_layer_that_is_gone_or_locked_meanwhile_ends_it_quietly_or_with_a_sentence(
    qtbot: QtBot, board: Board
) -> None:
    document = there(board)
    layer = document.add_layer()
    board.set_target(layer.id)
    told: list[str] = []
    board.refused.connect(told.append)
    board.colour_layer()
    document.set_locked(layer.id, True)
    waited(qtbot, board)
    assert len(told) == 1 and "locked" in told[0]
    board.colour_layer()
    assert len(told) == 2 and not board.busy, "a locked layer is refused at once"
    document.set_locked(layer.id, False)
    board.colour_layer()
    board.set_target(MASK)
    document.remove_layer(layer.id)
    waited(qtbot, board)
    assert len(told) == 2


def test_filling_and_selecting_by_hand_go_the_same_way(qtbot: QtBot, board: Board) -> None:
    document = there(board)
    board.set_tool(Tool.SELECT)
    press(board, QEvent.Type.MouseButtonPress, 50, 50)
    press(board, QEvent.Type.MouseButtonRelease, 50, 50)
    assert board.busy == "select"
    board.set_target(document.layers[0].id)
    board.set_tool(Tool.FILL)
    press(board, QEvent.Type.MouseButtonPress, 50, 50)
    press(board, QEvent.Type.MouseButtonRelease, 50, 50)
    waited(qtbot, board)
    assert document.colour_at(600, 500) == QColor("black") and not document.is_empty_mask()


def test_everything_that_can_be_begun_has_words() -> None:
    assert set(TITLES) >= {"grow", "shrink", "feather", "invert", "fill_mask", "clear", "select", "fill", "colour"}


def test_small_pictures_are_changed_at_once(qtbot: QtBot, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "AT_ONCE", WIDE * HIGH)
    board.work("fill_mask", lambda shot, check: edits.fill(shot, 255, check))
    assert not board.busy and not there(board).is_empty_mask()
