"""The picture area, as a hand and an eye find it: events go in as they come from Qt, pixels come out of `grab`."""

from __future__ import annotations

import os

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QEvent, QObject, QPoint, QPointF, QRect, QSize, Qt
from PySide6.QtGui import QColor, QContextMenuEvent, QImage, QNativeGestureEvent, QPainter, QPointingDevice, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from studio.ui import theme
from studio.ui.canvas import MARGIN, Canvas

LEFT, MIDDLE = Qt.MouseButton.LeftButton, Qt.MouseButton.MiddleButton
RED, GREEN, BLUE, WHITE = (QColor(name) for name in ("#c02020", "#20a040", "#2040c0", "#ffffff"))
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def canvas(qtbot: QtBot, qapp: QApplication) -> Iterator[Canvas]:
    """648×548, so that a fitted picture has 600×500."""
    theme.apply(qapp, theme.DARK)
    made = Canvas()
    qtbot.addWidget(made)
    made.resize(600 + 2 * MARGIN, 500 + 2 * MARGIN)
    made.show()
    qtbot.waitExposed(made)
    yield made
    qapp.setStyleSheet("")


def plain(width: int, height: int, colour: QColor) -> QImage:
    made = QImage(width, height, QImage.Format.Format_RGB32)
    made.fill(colour)
    return made


def quarters(width: int, height: int) -> QImage:
    """Red, green over blue, white."""
    made = plain(width, height, RED)
    painter = QPainter(made)
    painter.fillRect(width // 2, 0, width, height // 2, GREEN)
    painter.fillRect(0, height // 2, width // 2, height, BLUE)
    painter.fillRect(width // 2, height // 2, width, height, WHITE)
    painter.end()
    return made


def coordinates(side: int) -> QImage:
    """Each px tells where it is: red is x, green is y (both of 256)."""
    made = QImage(side, side, QImage.Format.Format_RGB32)
    for y in range(side):
        for x in range(side):
            made.setPixelColor(x, y, QColor(x, y, 128))
    return made


def seen(canvas: Canvas) -> QImage:
    return canvas.grab().toImage()


def colour(canvas: Canvas, x: float, y: float) -> QColor:
    return seen(canvas).pixelColor(round(x), round(y))


def near(one: QColor, other: QColor, by: int = 6) -> bool:
    apart = (one.red() - other.red(), one.green() - other.green(), one.blue() - other.blue())
    return all(abs(it) <= by for it in apart)


def box(image: QImage, wanted: QColor) -> QRect:
    """The smallest rectangle around all px of a colour."""
    image = image.convertToFormat(QImage.Format.Format_RGB32)
    lines: list[Any] = [image.constScanLine(y) for y in range(image.height())]
    rows = [line.cast("I").tolist() for line in lines]
    ys = [y for y, row in enumerate(rows) if wanted.rgb() in row]
    xs = [x for y in ys for x, it in enumerate(rows[y]) if it == wanted.rgb()]
    return QRect(QPoint(min(xs), min(ys)), QPoint(max(xs), max(ys)))


def wheel(canvas: Canvas, x: float, y: float, notches: float) -> bool:
    at = QPointF(x, y)
    event = QWheelEvent(
        at, QPointF(canvas.mapToGlobal(at)), QPoint(), QPoint(0, round(120 * notches)), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(canvas, event)
    return event.isAccepted()


def drag(canvas: Canvas, start: tuple[int, int], end: tuple[int, int], button: Qt.MouseButton = LEFT) -> None:
    QTest.mousePress(canvas, button, pos=QPoint(*start))
    QTest.mouseMove(canvas, QPoint(*end))
    QTest.mouseRelease(canvas, button, pos=QPoint(*end))


# ---------------------------------------------------------------------- one picture


def test_a_small_picture_fills_the_area_within_its_margins(canvas: Canvas) -> None:
    canvas.show_picture(plain(50, 50, RED))
    assert box(seen(canvas), RED) == QRect(74, 24, 500, 500)
    assert canvas.is_fit
    assert canvas.zoom == pytest.approx(10)


def test_a_large_picture_is_seen_whole(canvas: Canvas) -> None:
    canvas.show_picture(quarters(3000, 1000))
    assert canvas.zoom == pytest.approx(0.2)
    for x, y, wanted in ((40, 190, RED), (600, 190, GREEN), (40, 360, BLUE), (600, 360, WHITE)):
        assert near(colour(canvas, x, y), wanted)
    assert near(colour(canvas, 12, 274), QColor(theme.DARK.ground), 12)


def test_contents_margins_keep_room_for_the_toolbar(canvas: Canvas) -> None:
    canvas.show_picture(plain(50, 50, RED))
    told: list[float] = []
    canvas.zoom_changed.connect(lambda zoom, fit: told.append(zoom))
    canvas.setContentsMargins(0, 0, 0, 100)
    assert told == [pytest.approx(8)]
    assert box(seen(canvas), RED) == QRect(124, 24, 400, 400)
    assert canvas.zoom == pytest.approx(8)


def test_a_fitted_picture_has_round_corners_and_a_shadow_and_a_zoomed_one_has_not(
    canvas: Canvas, qapp: QApplication
) -> None:
    theme.apply(qapp, theme.LIGHT)
    canvas.show_picture(plain(50, 50, RED))
    assert not near(colour(canvas, 74, 24), RED)
    assert near(colour(canvas, 82, 24), RED)
    ground = QColor(theme.LIGHT.ground).lightness()
    assert colour(canvas, 324, 528).lightness() < ground - 10  # right below the picture
    canvas.actual_size()
    assert box(seen(canvas), RED) == QRect(299, 249, 50, 50)
    assert near(colour(canvas, 299, 249), RED, 0)
    assert colour(canvas, 324, 302).lightness() == ground


def test_a_fitted_small_picture_is_smooth_and_a_close_look_shows_its_pixels(canvas: Canvas) -> None:
    image = plain(16, 16, WHITE)
    QPainter(image).fillRect(0, 0, 8, 16, RED)
    canvas.show_picture(image)  # 31×
    assert any(
        not near(colour(canvas, x, 274), WHITE) and not near(colour(canvas, x, 274), RED) for x in (318, 324, 330)
    )
    canvas._zoom_to(30.0)
    line = [seen(canvas).pixelColor(x, 274) for x in range(300, 350)]
    assert all(near(it, RED, 0) for it in line[:24]) and all(near(it, WHITE, 0) for it in line[24:])


def test_at_100_percent_each_pixel_is_the_pictures_own(canvas: Canvas) -> None:
    image = coordinates(201)
    canvas.show_picture(image)
    canvas.actual_size()
    shown = seen(canvas).copy(round(324 - 100.5), round(274 - 100.5), 201, 201)
    assert shown.convertToFormat(QImage.Format.Format_RGB32) == image


@pytest.mark.parametrize(("x", "y"), [(324, 274), (200, 120), (90, 500), (560, 40)])
def test_the_wheel_keeps_the_point_under_the_pointer(canvas: Canvas, x: int, y: int) -> None:
    canvas.show_picture(coordinates(200))
    before = colour(canvas, x, y)
    for _ in range(6):
        wheel(canvas, x, y, 1)
        assert near(colour(canvas, x, y), before, 2)
    assert canvas.zoom == pytest.approx(2.5 * 1.25**6)
    for _ in range(6):
        wheel(canvas, x, y, -1)
    assert canvas.is_fit
    assert near(colour(canvas, x, y), before, 2)


def test_a_wide_picture_keeps_the_point_too_though_it_leaves_the_area_on_two_sides_only(canvas: Canvas) -> None:
    canvas.show_picture(coordinates(250).copy(0, 0, 250, 50))
    before = colour(canvas, 100, 250)
    wheel(canvas, 100, 250, 3)
    assert near(colour(canvas, 100, 250), before, 2)


def test_zoom_stays_within_5_and_3200_percent(canvas: Canvas) -> None:
    canvas.show_picture(plain(400, 400, RED))
    wheel(canvas, 300, 300, 100)
    assert canvas.zoom == 32
    canvas.zoom_in()
    assert canvas.zoom == 32
    wheel(canvas, 300, 300, -200)
    assert canvas.zoom == 0.05
    canvas.zoom_out()
    assert canvas.zoom == 0.05


def test_a_fitting_zoom_beyond_the_limits_is_left_alone(canvas: Canvas) -> None:
    canvas.show_picture(plain(4, 4, RED))
    assert canvas.zoom == pytest.approx(125)
    canvas.zoom_in()
    assert canvas.zoom == pytest.approx(125)
    canvas.zoom_out()
    assert canvas.zoom == 32


def test_keys_zoom(canvas: Canvas) -> None:
    canvas.show_picture(plain(1000, 1000, RED))  # fits at 50 %
    QTest.keyClick(canvas, Qt.Key.Key_Plus)
    assert canvas.zoom == 0.67
    QTest.keyClick(canvas, Qt.Key.Key_Minus)
    QTest.keyClick(canvas, Qt.Key.Key_Minus)
    assert canvas.zoom == 0.33
    QTest.keyClick(canvas, Qt.Key.Key_1)
    assert (canvas.zoom, canvas.is_fit) == (1.0, False)
    QTest.keyClick(canvas, Qt.Key.Key_0)
    assert (canvas.zoom, canvas.is_fit) == (0.5, True)
    QTest.keyClick(canvas, Qt.Key.Key_1, Qt.KeyboardModifier.ControlModifier)  # the tab's, not ours
    assert canvas.is_fit


def test_zooming_is_told_and_so_is_a_new_size_of_the_area(canvas: Canvas) -> None:
    told: list[tuple[float, bool]] = []
    canvas.zoom_changed.connect(lambda zoom, fit: told.append((zoom, fit)))
    canvas.show_picture(plain(1000, 1000, RED))
    canvas.actual_size()
    canvas.actual_size()
    canvas.fit()
    canvas.resize(1000 + 2 * MARGIN, 1000 + 2 * MARGIN)
    assert told == [(0.5, True), (1.0, False), (0.5, True), (1.0, True)]


def test_a_double_click_looks_closely_where_it_was_and_another_fits(canvas: Canvas) -> None:
    canvas.show_picture(quarters(2000, 2000))
    QTest.mouseDClick(canvas, LEFT, pos=QPoint(180, 130))
    assert canvas.zoom == 1.0
    assert near(colour(canvas, 180, 130), RED)
    assert near(colour(canvas, 10, 10), RED) and near(colour(canvas, 640, 540), RED)
    QTest.mouseDClick(canvas, LEFT, pos=QPoint(180, 130))
    assert canvas.is_fit


def test_a_pinch_zooms_around_the_fingers(canvas: Canvas) -> None:
    canvas.show_picture(coordinates(200))
    before = colour(canvas, 200, 120)
    at = QPointF(200, 120)
    for _ in range(10):
        event = QNativeGestureEvent(
            Qt.NativeGestureType.ZoomNativeGesture,
            QPointingDevice.primaryPointingDevice(),
            2,
            at,
            at,
            at,
            0.05,
            QPointF(),
        )
        QApplication.sendEvent(canvas, event)
    assert canvas.zoom == pytest.approx(2.5 * 1.05**10)
    assert near(colour(canvas, 200, 120), before, 2)


@pytest.mark.parametrize("button", [LEFT, MIDDLE])
def test_dragging_a_zoomed_picture_moves_it_with_the_hand(canvas: Canvas, button: Qt.MouseButton) -> None:
    canvas.show_picture(coordinates(200))
    canvas._zoom_to(8.0)
    before = colour(canvas, 300, 250)
    drag(canvas, (300, 250), (380, 310), button)
    assert near(colour(canvas, 380, 310), before, 2)
    assert not near(colour(canvas, 300, 250), before, 2)


def test_a_picture_cannot_be_dragged_out_of_sight(canvas: Canvas) -> None:
    canvas.show_picture(plain(1000, 1000, RED))
    canvas.actual_size()
    for _ in range(5):
        drag(canvas, (100, 100), (600, 500))
    # its edges come in as far as they lie when it fits: 74 px from the left, 24 from the top
    assert box(seen(canvas), RED).topLeft() == QPoint(74, 24)


def test_arrows_pan_when_zoomed_and_are_left_to_the_tab_when_not(canvas: Canvas, qtbot: QtBot) -> None:
    canvas.show_picture(coordinates(200))
    heard: list[int] = []

    class Parent(Canvas):
        def keyPressEvent(self, event: object) -> None:
            heard.append(1)

    parent = Parent()
    qtbot.addWidget(parent)
    canvas.setParent(parent)
    QTest.keyClick(canvas, Qt.Key.Key_Right)
    assert heard == [1]
    canvas._zoom_to(8.0)
    before = colour(canvas, 324, 274)
    QTest.keyClick(canvas, Qt.Key.Key_Right)
    QTest.keyClick(canvas, Qt.Key.Key_Down)
    after = colour(canvas, 324, 274)
    assert heard == [1]
    assert (after.red() - before.red(), after.green() - before.green()) == (8, 8)
    canvas.setParent(None)


def test_the_same_key_keeps_the_view_and_another_fits(canvas: Canvas) -> None:
    canvas.show_picture(plain(1000, 1000, RED), "a")
    canvas.actual_size()
    canvas.show_picture(plain(1000, 1000, GREEN), "a")
    assert canvas.zoom == 1.0
    canvas.show_picture(plain(1000, 1000, GREEN), "b")
    assert canvas.is_fit


def test_a_kept_view_shows_a_larger_picture_as_large_as_the_one_before(canvas: Canvas) -> None:
    canvas.show_picture(quarters(1000, 1000), "a")
    canvas._zoom_to(1.0, QPointF(100, 100))
    before = seen(canvas)
    canvas.show_picture(quarters(4000, 4000), "b", keep_view=True)
    assert canvas.zoom == 0.25
    after = seen(canvas)
    assert all(near(after.pixelColor(x, y), before.pixelColor(x, y)) for x in (20, 300, 600) for y in (20, 300, 500))


def test_a_null_picture_shows_nothing(canvas: Canvas) -> None:
    canvas.show_picture(plain(50, 50, RED))
    canvas.show_picture(QImage())
    assert near(colour(canvas, 324, 274), QColor(theme.DARK.ground), 0)
    assert not wheel(canvas, 300, 300, 1)


def test_clear_parts_show_checks_and_not_the_ground(canvas: Canvas) -> None:
    image = QImage(50, 50, QImage.Format.Format_ARGB32)
    image.fill(0)
    canvas.show_picture(image)
    for fitted in (True, False):
        if not fitted:
            canvas._zoom_to(40.0)
        shown = seen(canvas)
        found = {shown.pixelColor(x, 274).name() for x in range(300, 340)}
        assert found == {theme.DARK.field, theme.DARK.field_hover}


def test_half_size_copies_are_made_when_there_is_time_and_look_the_same(canvas: Canvas, qtbot: QtBot) -> None:
    canvas.show_picture(quarters(3000, 3000))
    canvas._zoom_to(0.1)
    layer = canvas._layer
    assert layer is not None and len(layer.levels) == 1
    before = seen(canvas)
    qtbot.waitUntil(lambda: len(layer.levels) == 5, timeout=30_000)
    assert layer.level(300, 300).width() == 375
    after = seen(canvas)
    for x, y in ((200, 150), (450, 150), (200, 400), (450, 400), (320, 200), (328, 200)):
        assert near(after.pixelColor(x, y), before.pixelColor(x, y))


# ---------------------------------------------------------------------- preview


def test_a_preview_fills_the_frame_the_finished_picture_will_have(canvas: Canvas) -> None:
    canvas.set_frame(512, 256)
    canvas.show_preview(plain(8, 8, RED), "")
    preview = box(seen(canvas), RED)
    canvas.show_picture(plain(512, 256, RED))
    assert preview == box(seen(canvas), RED) == QRect(24, 124, 600, 300)


def test_a_view_chosen_during_previews_stays_for_the_next_and_the_last(canvas: Canvas) -> None:
    canvas.set_frame(1000, 1000)
    canvas.show_preview(quarters(125, 125), "")
    canvas._zoom_to(2.0, QPointF(100, 100))
    before = seen(canvas)
    canvas.show_preview(quarters(125, 125), "")
    assert seen(canvas) == before
    canvas.show_picture(quarters(1000, 1000), "done", keep_view=True)
    assert canvas.zoom == 2.0


def test_a_preview_has_its_caption_in_a_pill_as_plain_text(canvas: Canvas) -> None:
    canvas.set_frame(600, 200)
    canvas.show_preview(plain(60, 20, RED), "")
    empty = seen(canvas)
    canvas.show_preview(plain(60, 20, RED), "<b>step</b> 1")
    with_tags = seen(canvas)
    canvas.show_preview(plain(60, 20, RED), "step 1")
    without = seen(canvas)
    pill = QRect(16, 16, 300, 26)
    assert with_tags.copy(pill) != empty.copy(pill)
    assert near(without.pixelColor(30, 19), QColor(theme.DARK.panel))
    ground = QColor(theme.DARK.ground)
    widths = [
        max(x for x in range(16, 316) if not near(it.pixelColor(x, 29), ground, 0)) for it in (with_tags, without)
    ]
    assert widths[0] > widths[1] + 20  # the tags are to be read
    assert canvas.accessibleDescription() == "step 1"


def test_a_caption_never_lies_across_the_edge_of_the_picture(canvas: Canvas) -> None:
    canvas.set_frame(500, 500)
    canvas.show_preview(plain(50, 50, RED), "preview")
    assert near(colour(canvas, 60, 29), QColor(theme.DARK.ground), 12)
    assert near(colour(canvas, 100, 38), QColor(theme.DARK.panel))


# ---------------------------------------------------------------------- compare


def test_the_picture_is_left_of_the_divider_and_the_other_right(canvas: Canvas) -> None:
    canvas.show_picture(plain(600, 500, RED))
    canvas.compare(plain(60, 50, BLUE))
    shown = seen(canvas)
    assert box(shown, RED).right() < 324 < box(shown, BLUE).left()
    assert box(shown, RED).united(box(shown, BLUE)) == QRect(24, 24, 600, 500)  # one frame for both sizes
    canvas.compare(None)
    assert not canvas.comparing
    assert box(seen(canvas), RED) == QRect(24, 24, 600, 500)


def test_the_divider_follows_hand_and_keys(canvas: Canvas) -> None:
    canvas.show_picture(plain(600, 500, RED))
    canvas.compare(plain(600, 500, BLUE))
    with_drag: list[int] = []
    canvas.drag_started.connect(lambda: with_drag.append(1))
    drag(canvas, (326, 100), (174, 100))
    assert abs(box(seen(canvas), BLUE).left() - 174) <= 4
    QTest.keyClick(canvas, Qt.Key.Key_Right)
    assert abs(box(seen(canvas), BLUE).left() - 186) <= 4
    QTest.keyClick(canvas, Qt.Key.Key_Left)
    QTest.keyClick(canvas, Qt.Key.Key_Left)
    assert abs(box(seen(canvas), BLUE).left() - 162) <= 4
    drag(canvas, (162, 100), (-50, 100))
    drag(canvas, (24, 100), (400, 100))  # it can be fetched back from the edge
    assert abs(box(seen(canvas), BLUE).left() - 400) <= 4
    assert with_drag == []


def test_a_zoomed_comparison_shows_the_same_place_of_both(canvas: Canvas) -> None:
    canvas.show_picture(quarters(1000, 1000))
    canvas.compare(quarters(250, 250))
    canvas.actual_size()
    canvas._divide(0.25)
    QTest.keyClick(canvas, Qt.Key.Key_Left, Qt.KeyboardModifier.ShiftModifier)  # pans 64 px
    shown = seen(canvas)
    # the other's own middle lies where the picture's lies, to a px
    assert near(shown.pixelColor(384, 100), RED) and near(shown.pixelColor(392, 100), GREEN)
    assert near(shown.pixelColor(300, 270), RED) and near(shown.pixelColor(300, 278), BLUE)


def test_another_picture_ends_the_comparison_and_the_same_one_does_not(canvas: Canvas) -> None:
    canvas.show_picture(plain(60, 50, RED), "a")
    canvas.compare(plain(60, 50, BLUE))
    canvas.show_picture(plain(60, 50, GREEN), "a")
    assert canvas.comparing
    canvas.show_picture(plain(60, 50, GREEN), "b")
    assert not canvas.comparing


def test_captions_of_a_comparison_stand_on_their_sides(canvas: Canvas) -> None:
    canvas.show_picture(plain(600, 500, RED))
    canvas.compare(plain(600, 500, BLUE), "before", "after")
    shown, panel = seen(canvas), QColor(theme.DARK.panel)
    assert near(shown.pixelColor(52, 40), panel) and near(shown.pixelColor(596, 40), panel)
    assert canvas.accessibleDescription() == "before on the left, after on the right"
    canvas._divide(0.0)
    assert near(colour(canvas, 52, 40), BLUE)  # wiped away with its picture


# ---------------------------------------------------------------------- grid


def test_a_grid_takes_the_columns_that_make_its_cells_largest(canvas: Canvas) -> None:
    canvas.show_grid([plain(10, 10, RED), plain(10, 10, GREEN), plain(10, 10, BLUE), None], 0)
    shown = seen(canvas)
    assert box(shown, RED) == QRect(74, 24, 242, 242)
    assert box(shown, GREEN) == QRect(332, 24, 242, 242)
    assert box(shown, BLUE) == QRect(74, 282, 242, 242)
    assert near(shown.pixelColor(450, 400), QColor(theme.DARK.panel), 0)  # not there yet
    assert near(shown.pixelColor(70, 100), QColor(theme.DARK.accent))  # the chosen one's ring
    canvas.show_grid([plain(300, 100, RED)] * 3, 0)
    assert canvas._columns() == 1


def test_arrows_walk_through_the_grid(canvas: Canvas) -> None:
    canvas.show_grid([plain(10, 10, RED)] * 5, 0)
    assert canvas._columns() == 3
    told: list[int] = []
    canvas.selected.connect(told.append)
    key = Qt.Key
    for pressed in (key.Key_Left, key.Key_Right, key.Key_Down, key.Key_Down, key.Key_Up, key.Key_Right, key.Key_Down):
        QTest.keyClick(canvas, pressed)
    assert told == [1, 4, 1, 2, 4]  # there is nothing below the third, so the end of the last row
    QTest.keyClick(canvas, key.Key_Home)
    QTest.keyClick(canvas, key.Key_End)
    assert told[5:] == [0, 4]
    QTest.keyClick(canvas, key.Key_Left)
    QTest.keyClick(canvas, key.Key_Down)  # below the last row is nothing
    assert canvas.selection == 3
    QTest.keyClick(canvas, key.Key_Right)
    assert canvas.accessibleDescription() == "Picture 5 of 5"


def test_a_click_chooses_a_double_click_or_enter_opens(canvas: Canvas) -> None:
    canvas.show_grid([plain(10, 10, RED), plain(10, 10, GREEN), plain(10, 10, BLUE), None], 0)
    told: list[tuple[str, int]] = []
    canvas.selected.connect(lambda i: told.append(("selected", i)))
    canvas.opened.connect(lambda i: told.append(("opened", i)))
    QTest.mouseClick(canvas, LEFT, pos=QPoint(450, 100))
    QTest.mouseClick(canvas, LEFT, pos=QPoint(324, 274))  # between the cells
    assert told == [("selected", 1)]
    QTest.mouseDClick(canvas, LEFT, pos=QPoint(450, 100))
    QTest.keyClick(canvas, Qt.Key.Key_Return)
    assert told[1:] == [("opened", 1), ("opened", 1)]
    QTest.mouseClick(canvas, LEFT, pos=QPoint(450, 400))
    QTest.keyClick(canvas, Qt.Key.Key_Return)  # nothing there to open
    assert told[3:] == [("selected", 3)]


def test_an_enlarged_grid_keeps_what_it_drew(canvas: Canvas) -> None:
    one = plain(10, 10, RED)
    canvas.show_grid([one, None], 0)
    kept = canvas._cells[0]
    canvas.show_grid([one, plain(10, 10, GREEN)], 0)
    assert canvas._cells[0] is kept


# ---------------------------------------------------------------------- drag out, menu


def test_a_fitted_picture_can_be_dragged_out_and_a_zoomed_one_cannot(canvas: Canvas) -> None:
    told: list[int] = []
    canvas.drag_started.connect(lambda: told.append(1))
    canvas.show_picture(plain(500, 500, RED))
    near_enough = QApplication.startDragDistance() - 1
    drag(canvas, (300, 300), (300 + near_enough, 300))
    drag(canvas, (10, 300), (100, 300))  # from beside the picture
    assert told == []
    QTest.mousePress(canvas, LEFT, pos=QPoint(300, 300))
    for x in (305, 320, 340, 360):
        QTest.mouseMove(canvas, QPoint(x, 300))
    QTest.mouseRelease(canvas, LEFT, pos=QPoint(360, 300))
    assert told == [1]
    canvas._zoom_to(4.0)
    drag(canvas, (300, 300), (360, 300))
    canvas.show_preview(plain(500, 500, RED), "")
    drag(canvas, (300, 300), (360, 300))
    assert told == [1]


def test_a_cell_is_chosen_before_it_is_dragged_out(canvas: Canvas) -> None:
    canvas.show_grid([plain(10, 10, RED), plain(10, 10, GREEN), plain(10, 10, BLUE), None], 0)
    told: list[int] = []
    canvas.drag_started.connect(lambda: told.append(canvas.selection))
    drag(canvas, (450, 100), (500, 150))
    drag(canvas, (450, 400), (500, 450))  # nothing there
    assert told == [1]


def test_a_right_click_and_the_menu_key_ask_for_a_menu(canvas: Canvas) -> None:
    told: list[QPoint] = []
    canvas.menu_wanted.connect(told.append)
    canvas.show_grid([plain(10, 10, RED), plain(10, 10, GREEN), plain(10, 10, BLUE), None], 0)
    place = QPoint(450, 100)
    QApplication.sendEvent(canvas, QContextMenuEvent(QContextMenuEvent.Reason.Mouse, place, canvas.mapToGlobal(place)))
    assert told == [canvas.mapToGlobal(place)]
    assert canvas.selection == 1
    QApplication.sendEvent(canvas, QContextMenuEvent(QContextMenuEvent.Reason.Keyboard, QPoint(), QPoint()))
    assert told[1] == canvas.mapToGlobal(QPoint(453, 145))  # the middle of the chosen cell


# ---------------------------------------------------------------------- look


def test_a_new_theme_gives_another_ground(canvas: Canvas, qapp: QApplication) -> None:
    painted: list[int] = []

    canvas.show_picture(plain(50, 50, RED))
    assert near(colour(canvas, 4, 4), QColor(theme.DARK.ground), 0)
    qapp.processEvents()

    class Watch(QObject):
        def eventFilter(self, watched: QObject, event: QEvent) -> bool:
            if event.type() == QEvent.Type.Paint:
                painted.append(1)
            return False

    watch = Watch()
    canvas.installEventFilter(watch)
    theme.apply(qapp, theme.LIGHT)
    qapp.processEvents()
    assert painted  # by itself, not because of a grab
    assert near(colour(canvas, 4, 4), QColor(theme.LIGHT.ground), 0)


def test_a_new_theme_gives_other_checks_behind_a_fitted_picture(canvas: Canvas, qapp: QApplication) -> None:
    image = QImage(50, 50, QImage.Format.Format_ARGB32)
    image.fill(0)
    canvas.show_picture(image)
    seen(canvas)
    theme.apply(qapp, theme.LIGHT)
    shown = seen(canvas)
    assert {shown.pixelColor(x, 274).name() for x in range(300, 340)} == {theme.LIGHT.field, theme.LIGHT.field_hover}


def test_the_focus_ring_shows_for_the_keyboard_and_not_for_the_mouse(canvas: Canvas, qtbot: QtBot) -> None:
    canvas.show_picture(plain(50, 50, RED))
    canvas.activateWindow()
    accent = QColor(theme.DARK.accent)
    canvas.clearFocus()
    canvas.setFocus(Qt.FocusReason.TabFocusReason)
    qtbot.waitUntil(canvas.hasFocus, timeout=30_000)
    assert near(colour(canvas, 1, 270), accent)
    QTest.mouseClick(canvas, LEFT, pos=QPoint(10, 10))
    assert not near(colour(canvas, 1, 270), accent)
    QTest.keyClick(canvas, Qt.Key.Key_Plus)
    assert near(colour(canvas, 1, 270), accent)
    canvas.clearFocus()
    assert not near(colour(canvas, 1, 270), accent)


def test_a_screen_reader_hears_what_is_shown(canvas: Canvas) -> None:
    assert canvas.accessibleName() == "Picture"
    canvas.describe("A bear with a scarf")
    assert canvas.accessibleName() == "A bear with a scarf"
    assert canvas.focusPolicy() == Qt.FocusPolicy.StrongFocus


@pytest.mark.parametrize("ratio", [1.25, 2.0])
def test_100_percent_means_device_pixels_on_a_scaled_screen(ratio: float) -> None:
    script = """
from PySide6.QtGui import QColor, QImage
from PySide6.QtWidgets import QApplication, QWidget
from studio.ui.canvas import Canvas
app = QApplication([])
around = QWidget()
around.resize(400, 400)
canvas = Canvas(around)
canvas.setGeometry(5, 3, 301, 303)  # begins within a device px at 1.25
image = QImage(100, 100, QImage.Format.Format_RGB32)
for y in range(100):
    for x in range(100):
        image.setPixelColor(x, y, QColor(255, 0, 0) if (x + y) % 2 else QColor(0, 0, 255))
canvas.show_picture(image)
around.show()
canvas.actual_size()
shown = around.grab().toImage()
dots = [(x, y) for y in range(shown.height()) for x in range(shown.width())
        if shown.pixelColor(x, y).name() in ("#ff0000", "#0000ff")]
left, top = min(dots)[0], min(y for _, y in dots)
right, bottom = max(x for x, _ in dots), max(y for _, y in dots)
same = all(shown.pixel(left + x, top + y) == image.pixel(x, y) for x in range(100) for y in range(100))
print(shown.devicePixelRatio(), len(dots), right - left + 1, bottom - top + 1, same)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen", "QT_SCALE_FACTOR": str(ratio)},
    )  # fmt: skip
    assert done.stdout.split() == [str(ratio), "10000", "100", "100", "True"], done.stderr


def test_sizes_leave_room_for_a_small_window(canvas: Canvas) -> None:
    assert canvas.minimumSizeHint() == QSize(160, 120)
    canvas.show_picture(plain(500, 500, RED))
    canvas.resize(20, 20)  # smaller than its margins
    seen(canvas)
    canvas.show_grid([plain(10, 10, RED)] * 9, 2)
    seen(canvas)
