"""The board as a hand, a pen and a keyboard find it: events go in as they come from Qt, pixels come out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from PySide6.QtCore import QEvent, QPoint, QPointF, QRect, Qt
from PySide6.QtGui import (
    QAction,
    QColor,
    QImage,
    QInputDevice,
    QKeyEvent,
    QKeySequence,
    QMouseEvent,
    QNativeGestureEvent,
    QPointingDevice,
    QTabletEvent,
    QWheelEvent,
)
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QMainWindow
from pytestqt.qtbot import QtBot

from studio.ui import theme
from studio.ui.paint import composing
from studio.ui.paint.board import REFINE_AFTER, Board, Tool, next_size
from studio.ui.paint.composing import Composer
from studio.ui.paint.document import MASK, Document
from studio.ui.paint.pyramid import Pyramid
from studio.ui.paint.strokes import Brush
from tests.ui.paint.hands import everything, pixels, plain, speckled, values

LEFT, MIDDLE = Qt.MouseButton.LeftButton, Qt.MouseButton.MiddleButton
SHIFT, CTRL, ALT = (
    Qt.KeyboardModifier.ShiftModifier,
    Qt.KeyboardModifier.ControlModifier,
    Qt.KeyboardModifier.AltModifier,
)
NONE = Qt.KeyboardModifier.NoModifier


@pytest.fixture
def board(qtbot: QtBot, qapp: QApplication) -> Iterator[Board]:
    """An 800×600 document in a board in which it is seen at half its size, with its corner at (24, 24)."""
    theme.apply(qapp, theme.DARK)
    made = Board()
    qtbot.addWidget(made)
    made.resize(448, 348)
    made.show()
    qtbot.waitExposed(made)
    made.set_document(Document(800, 600, picture=plain(800, 600, "#808080")))
    made.set_brush(Brush(40, 1.0))
    made.setFocus()
    yield made
    if made.document is not None:
        made.document.close()
    qapp.setStyleSheet("")


def document(board: Board) -> Document:
    assert board.document is not None
    return board.document


def at(board: Board, x: float, y: float) -> QPoint:
    """Where a px of the document is on the board."""
    return board._here().to_widget(QPointF(x, y)).toPoint()


def hand(kind: QEvent.Type, board: Board, button: Any, held: Any, place: QPoint) -> None:
    """Sent to the board itself: what QTest moves goes by way of the window that lies under the pointer."""
    pressed = button if kind != QEvent.Type.MouseButtonRelease else Qt.MouseButton.NoButton
    changed = button if kind != QEvent.Type.MouseMove else Qt.MouseButton.NoButton
    event = QMouseEvent(kind, QPointF(place), QPointF(board.mapToGlobal(place)), changed, pressed, held)
    QApplication.sendEvent(board, event)


def press(board: Board, button: Any, held: Any, place: QPoint) -> None:
    hand(QEvent.Type.MouseButtonPress, board, button, held, place)


def move(board: Board, place: QPoint, button: Any = Qt.MouseButton.NoButton, held: Any = NONE) -> None:
    hand(QEvent.Type.MouseMove, board, button, held, place)


def release(board: Board, button: Any, held: Any, place: QPoint) -> None:
    hand(QEvent.Type.MouseButtonRelease, board, button, held, place)


def drag(board: Board, *places: tuple[float, float], held: Any = NONE, button: Any = LEFT) -> None:
    points = [at(board, *it) for it in places]
    press(board, button, held, points[0])
    for point in points[1:]:
        move(board, point, button, held)
    release(board, button, held, points[-1])


def wheel(board: Board, place: QPointF, notches: float, held: Any = NONE) -> bool:
    event = QWheelEvent(
        place, QPointF(board.mapToGlobal(place)), QPoint(), QPoint(0, round(120 * notches)), Qt.MouseButton.NoButton,
        held, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(board, event)
    return event.isAccepted()


def seen(board: Board) -> QImage:
    """What is on the screen but for the pointer's outline."""
    move(board, QPoint(1, 1))
    QApplication.sendEvent(board, QEvent(QEvent.Type.Leave))
    return board.grab().toImage()


def afresh(board: Board) -> QImage:
    """The same, with everything composed anew."""
    for _, pyramid in board._composer._pyramids.values():
        pyramid.forget()
    board._all_stale()
    return seen(board)


def apart(one: QImage, other: QImage) -> int:
    """The largest difference of any px."""
    kind = QImage.Format.Format_RGB32
    first, second = pixels(one.convertToFormat(kind)), pixels(other.convertToFormat(kind))
    return max(abs(a - b) for a, b in zip(first, second, strict=True))


# ---------------------------------------------------------------------- the hand


def test_a_drag_paints_on_the_mask_under_the_pointer(board: Board) -> None:
    told: list[bool] = []
    board.mask_changed.connect(told.append)
    drag(board, (200, 300), (400, 300))
    bounds = document(board).bounds_of_mask()
    assert bounds.center() == QPoint(299, 299) and abs(bounds.width() - 240) <= 2 and abs(bounds.height() - 40) <= 2
    assert values(document(board).mask)[300][300] == 255 and values(document(board).mask)[340][300] == 0
    assert told == [False] and document(board).history.counts() == (1, 0)


def test_the_mask_lies_over_the_picture_and_can_be_hidden(board: Board) -> None:
    before = seen(board)
    drag(board, (200, 300), (400, 300))
    over = seen(board)
    here = at(board, 300, 300)
    patch = [over.pixelColor(here.x() + i, here.y()) for i in range(12)]
    assert max(it.lightness() for it in patch) > min(it.lightness() for it in patch) + 60  # lines on any picture
    assert any(it.blue() > it.red() + 40 for it in patch)
    outside = at(board, 300, 400)
    assert over.pixelColor(outside) == before.pixelColor(outside)
    QTest.keyClick(board, Qt.Key.Key_M)
    inside = QRect(10, 10, 420, 320)  # the ring of the focus is around it
    assert not board.overlay and apart(seen(board).copy(inside), before.copy(inside)) == 0


@pytest.mark.parametrize("zoom", ["fit", 1.0, 0.6, 3.0, 9.0])
def test_what_is_painted_in_parts_looks_as_if_painted_at_once(board: Board, zoom: Any) -> None:
    board.set_document(Document(800, 600, picture=speckled(400, 300).scaled(800, 600)))
    layer = document(board).add_layer(x=30, y=20)
    document(board).set_blend(layer.id, "multiply")
    if zoom != "fit":
        board._zoom_to(zoom)
    seen(board)
    middle = board._here().to_document(QPointF(224, 174))
    x, y = middle.x(), middle.y()
    reach = 60 / board.zoom
    for target in (MASK, layer.id):
        board.set_target(target)
        for opacity in (1.0, 0.4):
            board.set_brush(Brush(30 / board.zoom, 0.3, opacity=opacity, colour=0xFFC04020))
            drag(board, (x - reach, y - reach), (x + reach, y), (x - reach / 2, y + reach))
            reach *= 0.8
    if zoom != "fit":
        drag(board, (x, y), (x + 40, y + 25), button=MIDDLE)
        drag(board, (x, y), (x - 55, y - 70), button=MIDDLE)
    document(board).undo()
    assert apart(seen(board), afresh(board)) <= 2


def test_only_what_changed_is_composed(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    seen(board)
    composed: list[QRect] = []
    real = board._composer._compose

    def watched(here: Any, part: QRect) -> None:
        composed.append(part)
        real(here, part)

    monkeypatch.setattr(board._composer, "_compose", watched)
    drag(board, (200, 300), (220, 300))
    QApplication.processEvents()
    assert composed and all(it.width() < 60 and it.height() < 60 for it in composed)
    composed.clear()
    move(board, QPoint(100, 100))
    move(board, QPoint(150, 120))
    QApplication.processEvents()
    assert composed == []
    board._zoom_to(2.0)
    QApplication.processEvents()
    composed.clear()
    drag(board, (400, 300), (405, 300), button=MIDDLE)
    QApplication.processEvents()
    assert sum(it.width() * it.height() for it in composed) < 448 * 348 / 5


def test_shift_draws_a_straight_line_from_the_last_place(board: Board) -> None:
    drag(board, (100, 100))
    drag(board, (500, 100), held=SHIFT)
    assert set(values(document(board).mask)[100][100:500]) == {255}
    assert document(board).history.counts() == (2, 0)


def test_alt_picks_the_colour_under_the_pointer(board: Board) -> None:
    document(board).add_layer(plain(100, 100, "#12a0c8"), x=300, y=300)
    told: list[QColor] = []
    board.picked.connect(told.append)
    drag(board, (350, 350), held=ALT)
    assert told == [QColor("#12a0c8")] and board.brush.colour == 0xFF12A0C8
    assert document(board).is_empty_mask()
    QTest.keyClick(board, Qt.Key.Key_I)
    drag(board, (10, 10))
    assert told[-1] == QColor("#808080")


def test_painting_on_a_layer_uses_the_colour(board: Board) -> None:
    board.set_target(document(board).layers[0].id)
    board.set_brush(replace(board.brush, colour=0xFFFF0000))
    drag(board, (300, 300), (310, 300))
    assert document(board).colour_at(305, 300) == QColor("red") and document(board).is_empty_mask()
    QTest.keyClick(board, Qt.Key.Key_E)
    drag(board, (300, 300), (310, 300))
    assert document(board).colour_at(305, 300).alpha() == 0


def test_the_eraser_and_x_take_from_the_mask(board: Board) -> None:
    document(board).fill_mask()
    QTest.keyClick(board, Qt.Key.Key_X)
    found = [board.tool]
    drag(board, (300, 300), (310, 300))
    assert values(document(board).mask)[300][305] == 0
    QTest.keyClick(board, Qt.Key.Key_X)
    assert [*found, board.tool] == [Tool.ERASER, Tool.BRUSH]


def test_fill_and_select_take_the_place_that_is_pressed(board: Board) -> None:
    document(board).add_layer(plain(200, 100, "#c02020"), x=100, y=100)
    board.set_tool(Tool.SELECT)
    drag(board, (150, 150))
    assert document(board).bounds_of_mask() == QRect(100, 100, 200, 100)
    QTest.keyClick(board, Qt.Key.Key_G)
    board.set_target(document(board).layers[1].id)
    board.set_brush(replace(board.brush, colour=0xFF00FF00))
    drag(board, (150, 150))
    assert document(board).colour_at(299, 199).name() == "#00ff00"
    assert document(board).colour_at(301, 199).name() == "#808080"
    board.set_target(MASK)
    drag(board, (400, 400))
    assert document(board).bounds_of_mask() == document(board).rect
    drag(board, (-20, 10))  # beside the picture
    assert document(board).history.counts()[0] == 4


def test_a_hidden_or_locked_layer_is_refused_with_a_sentence(board: Board) -> None:
    told: list[str] = []
    board.refused.connect(told.append)
    layer = document(board).layers[0].id
    board.set_target(layer)
    document(board).set_locked(layer, True)
    drag(board, (100, 100))
    document(board).set_locked(layer, False)
    document(board).set_visible(layer, False)
    drag(board, (100, 100))
    board.set_tool(Tool.MOVE)
    board.set_target(MASK)
    drag(board, (100, 100))
    assert ["locked" in told[0], "hidden" in told[1], "Choose" in told[2]] == [True] * 3


def test_a_layer_is_moved_by_hand_and_by_arrows(board: Board) -> None:
    layer = document(board).add_layer(plain(100, 100, "red"), x=100, y=100)
    board.set_target(layer.id)
    QTest.keyClick(board, Qt.Key.Key_V)
    drag(board, (120, 120), (160, 160), (220, 180))
    assert (layer.x, layer.y) == (200, 160) and document(board).history.counts() == (2, 0)
    QTest.keyClick(board, Qt.Key.Key_Left)
    QTest.keyClick(board, Qt.Key.Key_Down, SHIFT)
    assert (layer.x, layer.y) == (199, 170)
    assert apart(seen(board), afresh(board)) == 0


def test_a_pen_paints_with_its_pressure_and_erases_with_its_other_end(board: Board) -> None:
    def pen(kind: QEvent.Type, x: float, y: float, pressure: float, end: QPointingDevice.PointerType) -> None:
        device = QPointingDevice(
            "pen", 7, QInputDevice.DeviceType.Stylus, end, QInputDevice.Capability.Pressure, 1, 3,
        )  # fmt: skip
        place = QPointF(at(board, x, y))
        event = QTabletEvent(
            kind, device, place, QPointF(board.mapToGlobal(place)), pressure, 0, 0, 0, 0, 0, NONE, LEFT, LEFT
        )
        QApplication.sendEvent(board, event)

    tip, eraser = QPointingDevice.PointerType.Pen, QPointingDevice.PointerType.Eraser
    pen(QEvent.Type.TabletPress, 300, 300, 0.5, tip)
    pen(QEvent.Type.TabletMove, 400, 300, 0.5, tip)
    pen(QEvent.Type.TabletRelease, 400, 300, 0.0, tip)
    assert sum(row[350] > 127 for row in values(document(board).mask)) == pytest.approx(22, abs=1)
    pen(QEvent.Type.TabletPress, 350, 300, 1.0, eraser)
    pen(QEvent.Type.TabletRelease, 350, 300, 0.0, eraser)
    assert values(document(board).mask)[300][350] == 0 and values(document(board).mask)[300][310] == 255


# ---------------------------------------------------------------------- zoom and place


@pytest.mark.parametrize("held", [NONE, CTRL])
def test_the_wheel_zooms_around_the_pointer(board: Board, held: Any) -> None:
    place = QPointF(120, 200)
    before = board._here().to_document(place)
    told: list[tuple[float, bool]] = []
    board.zoom_changed.connect(lambda zoom, fit: told.append((zoom, fit)))
    for _ in range(4):
        assert wheel(board, place, 1, held)
    after = board._here().to_document(place)
    assert math.hypot(after.x() - before.x(), after.y() - before.y()) < 1.5
    assert board.zoom == pytest.approx(0.5 * 1.25**4) and told[-1] == (board.zoom, False)


def test_while_zooming_it_is_drawn_quickly_and_then_smoothly(board: Board, qtbot: QtBot) -> None:
    board.set_document(Document(800, 600, picture=speckled(800, 600)))
    wheel(board, QPointF(200, 200), 1)
    rough = board.grab().toImage()
    qtbot.waitUntil(lambda: not board._refining.isActive(), timeout=REFINE_AFTER * 20)
    smooth = board.grab().toImage()
    assert apart(rough, smooth) > 20 and apart(seen(board), afresh(board)) == 0


def zooming(board: Board, notches: float = 0.0) -> QImage:
    """What is drawn while the wheel turns."""
    board._refining.start()
    wheel(board, QPointF(200, 200), notches or 0.02)
    made = seen(board)
    assert board._refining.isActive() and board._composer._flat is not None
    return made


def from_afar(image: QImage) -> QImage:
    """Without lines and edges, which are drawn roughly meanwhile."""
    kinds = (Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation)
    return image.convertToFormat(QImage.Format.Format_RGB32).scaled(14, 11, *kinds)


@pytest.mark.parametrize("clear", [False, True])
def test_while_zooming_layers_blending_and_mask_look_as_they_do_at_rest(board: Board, clear: bool) -> None:
    shown = document(board)
    if clear:  # the checks are seen through it
        shown.clear_layer(shown.layers[0].id)
    layer = shown.add_layer(plain(300, 300, "#c06020"), x=101, y=83)
    shown.set_blend(layer.id, "multiply")
    shown.set_opacity(layer.id, 0.7)
    shown.add_layer(plain(40, 30, "#2040c0"), x=500, y=301)
    board.set_brush(Brush(120, 1.0))
    drag(board, (300, 300), (500, 400))
    for notches in (0.0, 2.0, 3.0, -6.0, -4.0):
        quick = zooming(board, notches)
        assert board._composer._flat is not None and board._composer._flat.opaque is not clear
        board._refining.stop()
        assert apart(from_afar(quick), from_afar(afresh(board))) < 24


def test_what_is_drawn_while_zooming_is_of_now(board: Board) -> None:
    shown = document(board)
    layer = shown.layers[0]
    before = zooming(board)
    px = QPoint(200, 200)
    for change in (
        lambda: shown.fill_layer(layer.id, QColor("#103050")), lambda: shown.fill_mask(),
        lambda: board.set_overlay(False), lambda: shown.set_visible(layer.id, False), lambda: shown.undo(),
    ):  # fmt: skip
        change()
        now = zooming(board)
        assert now.pixelColor(px) != before.pixelColor(px)
        before = now


def test_a_wheel_that_goes_on_turning_composes_little_anew(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    board.set_document(Document(3000, 2000, picture=plain(3000, 2000, "#808080")))
    for _ in range(20):
        seen(board)
    done: list[int] = []
    plain_way = Composer._flatten
    monkeypatch.setattr(
        Composer, "_flatten",
        lambda self, made, level, part, at, ratio: (
            done.append(part.width() * part.height()), plain_way(self, made, level, part, at, ratio)
        ),
    )  # fmt: skip
    for _ in range(12):
        zooming(board, 0.5)
    screen = board.width() * board.height()
    assert done and len(done) < 4 and sum(done) < 4 * screen, "not a screen for each turn"


def test_small_copies_are_made_bit_by_bit_and_come_out_the_same(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = speckled(900, 700)
    at_once, in_parts = Pyramid(lambda: picture), Pyramid(lambda: picture)
    turns = 0
    while in_parts.bring(3, 50_001) < 0:
        turns += 1
        assert turns < 100
    assert turns > 5
    for level in (1, 2, 3):
        assert at_once.level(level)[0] == in_parts.level(level)[0]
    # on the board what was there before stays to be seen, and no turn of the loop does more than its part
    wanted = afresh(board)
    monkeypatch.setattr(composing, "ROOM_PER_FRAME", 60_000)
    document(board).fill_layer(document(board).layers[0].id, QColor("#c02020"))
    px = at(board, 400, 300)
    assert seen(board).pixelColor(px) == wanted.pixelColor(px)
    for _ in range(40):
        QApplication.processEvents()
    assert seen(board).pixelColor(px) == QColor("#c02020")


def test_a_pinch_zooms(board: Board) -> None:
    place = QPointF(200, 170)
    event = QNativeGestureEvent(
        Qt.NativeGestureType.ZoomNativeGesture, QPointingDevice.primaryPointingDevice(), 2, place, place,
        QPointF(board.mapToGlobal(place)), 0.5, QPointF(),
    )  # fmt: skip
    QApplication.sendEvent(board, event)
    assert board.zoom == pytest.approx(0.75)


def test_space_and_the_middle_button_move_the_view_and_paint_nothing(board: Board) -> None:
    board.actual_size()
    before = board._here()
    drag(board, (400, 300), (430, 310), button=MIDDLE)
    assert (board._here().x, board._here().y) == (before.x + 30, before.y + 10)
    QTest.keyPress(board, Qt.Key.Key_Space)
    assert board.cursor().shape() == Qt.CursorShape.OpenHandCursor
    drag(board, (400, 300), (380, 300))
    QTest.keyRelease(board, Qt.Key.Key_Space)
    assert board._here().x == before.x + 10 and document(board).is_empty_mask()
    drag(board, (400, 300), (410, 300))
    assert not document(board).is_empty_mask()


def test_keys_zoom_as_in_the_picture_area(board: Board) -> None:
    QTest.keyClick(board, Qt.Key.Key_1)
    assert board.zoom == 1
    QTest.keyClick(board, Qt.Key.Key_Plus)
    assert board.zoom == 1.25
    QTest.keyClick(board, Qt.Key.Key_0)
    assert board.is_fit


# ---------------------------------------------------------------------- keys


def test_brackets_change_size_and_hardness(board: Board) -> None:
    QTest.keyClick(board, Qt.Key.Key_BracketRight)
    assert board.brush.size == 44
    QTest.keyClick(board, Qt.Key.Key_BracketLeft)
    QTest.keyClick(board, Qt.Key.Key_BracketLeft)
    assert board.brush.size == 36
    QTest.keyClick(board, Qt.Key.Key_BraceLeft, SHIFT)
    assert board.brush.hardness == 0.9
    QTest.keyClick(board, Qt.Key.Key_BracketRight, SHIFT)
    assert board.brush.hardness == 1.0
    size = 1.0
    for _ in range(200):
        assert size < next_size(size, True) <= max(size + 1, size * 1.15) or size == 2000
        size = next_size(size, True)
    assert size == 2000 and next_size(1, False) == 1


@pytest.mark.parametrize("tool", list(Tool))
def test_every_tool_has_a_key(board: Board, tool: Tool) -> None:
    board.set_tool(Tool.HAND if tool is Tool.BRUSH else Tool.BRUSH)
    QTest.keyClick(board, getattr(Qt.Key, f"Key_{tool.value}"))
    assert board.tool is tool


def test_undo_redo_invert_and_clear_have_their_keys(board: Board) -> None:
    start = everything(document(board))
    QTest.keyClick(board, Qt.Key.Key_I, CTRL)
    full = everything(document(board))
    QTest.keyClick(board, Qt.Key.Key_Delete)
    assert document(board).is_empty_mask()
    QTest.keyClick(board, Qt.Key.Key_Z, CTRL)
    assert everything(document(board)) == full
    QTest.keyClick(board, Qt.Key.Key_Z, CTRL)
    assert everything(document(board)) == start
    QTest.keyClick(board, Qt.Key.Key_Z, CTRL | SHIFT)
    QTest.keyClick(board, Qt.Key.Key_Y, CTRL)
    assert document(board).is_empty_mask() and document(board).history.counts() == (2, 0)


def test_escape_takes_back_the_stroke_that_is_being_painted(board: Board) -> None:
    press(board, LEFT, NONE, at(board, 300, 300))
    move(board, at(board, 350, 300), LEFT)
    QTest.keyClick(board, Qt.Key.Key_Escape)
    move(board, at(board, 400, 300), LEFT)
    release(board, LEFT, NONE, at(board, 400, 300))
    assert document(board).is_empty_mask()


def test_the_keyboard_alone_can_paint(board: Board) -> None:
    QTest.keyClick(board, Qt.Key.Key_K)
    assert board.keyboard and "400, 300" in board.accessibleDescription()
    QTest.keyPress(board, Qt.Key.Key_Space)
    for _ in range(5):
        QTest.keyClick(board, Qt.Key.Key_Right)
        again = QKeyEvent(QEvent.Type.KeyPress, Qt.Key.Key_Space, NONE, " ", True)
        QApplication.sendEvent(board, again)
    QTest.keyRelease(board, Qt.Key.Key_Space)
    assert set(values(document(board).mask)[300][400:450]) == {255}
    assert document(board).history.counts() == (1, 0)
    QTest.keyClick(board, Qt.Key.Key_Down, SHIFT)  # one px
    QTest.keyClick(board, Qt.Key.Key_Up, CTRL)
    assert "450, 261" in board.accessibleDescription()
    QTest.keyClick(board, Qt.Key.Key_Return)
    QTest.keyClick(board, Qt.Key.Key_Left)
    QTest.keyClick(board, Qt.Key.Key_Return)
    assert document(board).history.counts() == (2, 0)
    QTest.keyClick(board, Qt.Key.Key_W)
    QTest.keyClick(board, Qt.Key.Key_Space)
    assert document(board).bounds_of_mask() == document(board).rect
    QTest.keyClick(board, Qt.Key.Key_Escape)
    assert not board.keyboard


def test_the_pen_of_the_keyboard_stays_in_the_picture_and_in_sight(board: Board) -> None:
    board._zoom_to(4.0)
    board.set_keyboard(True)
    for _ in range(60):
        QTest.keyClick(board, Qt.Key.Key_Right)
    assert board._pen.x() == 800
    assert board._in_sight(board._pen - QPointF(2, 0))


def test_shortcuts_of_the_window_do_not_take_its_keys(qtbot: QtBot) -> None:
    window, board = QMainWindow(), Board()
    qtbot.addWidget(window)
    board.set_document(Document(100, 100))
    window.setCentralWidget(board)
    taken: list[str] = []
    for keys in ("Ctrl+I", "Ctrl+Z", "B", "Del", "Ctrl+S"):
        action = QAction(window)
        action.setShortcut(QKeySequence(keys))
        action.triggered.connect(lambda _=False, keys=keys: taken.append(keys))
        window.addAction(action)
    window.show()
    window.activateWindow()
    qtbot.waitActive(window)
    board.setFocus()
    qtbot.waitUntil(board.hasFocus)
    QTest.keyClick(board, Qt.Key.Key_I, CTRL)
    assert taken == [] and not document(board).is_empty_mask()
    QTest.keyClick(board, Qt.Key.Key_S, CTRL)
    assert taken == ["Ctrl+S"]
    document(board).close()


# ---------------------------------------------------------------------- the frame


def test_the_edges_of_the_frame_are_dragged(board: Board) -> None:
    told: list[tuple[int, ...]] = []
    board.frame_changed.connect(lambda *it: told.append(it))
    QTest.keyClick(board, Qt.Key.Key_C)
    move(board, at(board, 800, 300))
    assert board.cursor().shape() == Qt.CursorShape.SizeHorCursor
    here = board._here()
    press(board, LEFT, NONE, at(board, 800, 300))
    move(board, at(board, 850, 300), LEFT)
    move(board, at(board, 912, 310), LEFT)
    assert document(board).frame == (0, 0, 112, 0) and board._here() == here  # nothing moves under the hand
    release(board, LEFT, NONE, at(board, 912, 310))
    assert told[-1] == (0, 0, 112, 0) and document(board).history.counts() == (1, 0)
    assert board.is_fit and board.zoom < 0.5  # and now all of it is seen
    drag(board, (0, 0), (-64, -32))
    assert document(board).frame == (64, 32, 112, 0)
    drag(board, (300, 300), (350, 300))  # not on an edge
    assert document(board).frame == (64, 32, 112, 0) and document(board).is_empty_mask()


def test_a_zoomed_view_stays_where_it_is_when_the_frame_was_dragged(board: Board) -> None:
    board._zoom_to(0.6)
    board.set_tool(Tool.FRAME)
    edge = at(board, 0, 300)
    board._pan(QPointF(40, 0))
    before = board._here()
    edge = at(board, 0, 300)
    press(board, LEFT, NONE, edge)
    move(board, edge - QPoint(30, 0), LEFT)
    release(board, LEFT, NONE, edge - QPoint(30, 0))
    assert document(board).frame[0] == 48
    after = board._here()
    assert after.zoom == before.zoom and abs(after.x - before.x) <= 1 and abs(after.y - before.y) <= 1
    assert apart(seen(board), afresh(board)) == 0


def test_arrows_push_and_pull_the_frame(board: Board) -> None:
    board.set_tool(Tool.FRAME)
    for key, held in (
        (Qt.Key.Key_Left, NONE),
        (Qt.Key.Key_Left, NONE),
        (Qt.Key.Key_Up, CTRL),
        (Qt.Key.Key_Right, SHIFT),
    ):
        QTest.keyClick(board, key, held)
    assert document(board).frame == (16, 64, -8, 0)


def test_the_new_size_shows_at_once(board: Board) -> None:
    document(board).set_frame(80, 0, 0, 0)
    assert board._natural().width() == 880
    document(board).crop_to_frame()
    assert board._natural().width() == 880 and board.is_fit
    assert apart(seen(board), afresh(board)) == 0
    document(board).undo()
    document(board).undo()
    assert board._natural().width() == 800
    assert apart(seen(board), afresh(board)) == 0


# ---------------------------------------------------------------------- what is seen


def test_the_brush_is_outlined_at_its_true_size(board: Board) -> None:
    board.set_brush(Brush(100, 1.0))
    empty = seen(board)
    move(board, at(board, 400, 300))
    outlined = board.grab().toImage()
    middle = at(board, 400, 300)
    changed = [x for x in range(448) if outlined.pixel(x, middle.y()) != empty.pixel(x, middle.y())]
    assert abs(min(changed) - (middle.x() - 25)) <= 2 and abs(max(changed) - (middle.x() + 25)) <= 2
    assert outlined.pixel(middle) == empty.pixel(middle)
    move(board, at(board, 700, 300))
    moved = board.grab().toImage()
    assert moved.pixel(middle.x() - 25, middle.y()) == empty.pixel(middle.x() - 25, middle.y())


def test_layers_are_seen_as_they_are_flattened(board: Board) -> None:
    made = document(board)
    made.add_layer(speckled(100, 80).scaled(400, 320), x=100, y=90)
    made.set_blend(made.layers[1].id, "difference")
    made.add_layer(plain(300, 300, "#3050c0"), x=200, y=200)
    made.set_opacity(made.layers[2].id, 0.4)
    board.actual_size()
    here = board._here()
    part = QRect(math.floor(-here.x), math.floor(-here.y), 448, 348)
    assert apart(seen(board), made.composed(part)) <= 1
    made.set_visible(made.layers[2].id, False)
    made.move_layer(made.layers[1].id, 0)
    assert apart(seen(board), made.composed(part)) <= 1
    assert apart(seen(board), afresh(board)) == 0


@pytest.mark.parametrize("name", ["dark", "light"])
def test_both_themes_show_their_ground(board: Board, qapp: QApplication, name: str) -> None:
    theme.apply(qapp, theme.THEMES[name])
    QApplication.processEvents()
    assert seen(board).pixelColor(5, 5) == QColor(theme.THEMES[name].ground)


def test_without_a_document_nothing_is_done(board: Board) -> None:
    document(board).close()
    board.set_document(None)
    press(board, LEFT, NONE, QPoint(100, 100))
    move(board, QPoint(120, 100), LEFT)
    release(board, LEFT, NONE, QPoint(120, 100))
    for key in (Qt.Key.Key_Delete, Qt.Key.Key_B, Qt.Key.Key_Left, Qt.Key.Key_Space):
        QTest.keyClick(board, key)
    assert not wheel(board, QPointF(100, 100), 1)
    assert seen(board).pixelColor(200, 150) == QColor(theme.DARK.ground)


def test_another_document_takes_its_place(board: Board) -> None:
    first = document(board)
    second = Document(100, 100, picture=plain(100, 100, "#204080"))
    board.set_document(second)
    assert seen(board).pixelColor(224, 174) == QColor("#204080")
    told: list[int] = []
    board.changed.connect(lambda: told.append(1))
    first.invert_mask()
    assert told == []
    second.invert_mask()
    assert told
    first.close()


def test_it_can_be_found_by_screen_readers(board: Board) -> None:
    assert board.accessibleName() and "Brush, 40 px, on the mask" in board.accessibleDescription()
    board.set_target(document(board).layers[0].id)
    board.set_tool(Tool.ERASER)
    assert board.accessibleDescription() == "Eraser, 40 px, on Picture"


def test_a_stroke_that_rests_is_kept(board: Board, qtbot: QtBot) -> None:
    press(board, LEFT, NONE, at(board, 300, 300))
    assert document(board).history.counts() == (0, 0)
    qtbot.waitUntil(lambda: document(board).history.counts() == (1, 0), timeout=3000)
    release(board, LEFT, NONE, at(board, 300, 300))
    assert document(board).history.counts() == (1, 0)
