"""The list of layers and the bar of tools, by mouse and by keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QColor, QDropEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLineEdit, QWidget
from pytestqt.qtbot import QtBot

from studio.ui import theme
from studio.ui.paint.board import Board, Tool
from studio.ui.paint.document import MASK, Document
from studio.ui.paint.layers import Layers, _eye
from studio.ui.paint.page import ROOM_FOR_LAYERS, PaintPage
from studio.ui.paint.tools import Tools, size_of_step, step_of_size
from tests.ui.paint.hands import plain

LEFT, NONE, CTRL = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ControlModifier


@pytest.fixture
def board(qtbot: QtBot, qapp: QApplication) -> Iterator[Board]:
    theme.apply(qapp, theme.DARK)
    made = Board()
    qtbot.addWidget(made)
    made.set_document(Document(100, 80, picture=plain(100, 80, "#808080")))
    yield made
    assert made.document is not None
    made.document.close()
    qapp.setStyleSheet("")


@pytest.fixture
def panel(qtbot: QtBot, board: Board) -> Layers:
    """With the layers Picture, Red and Green, the last on top and chosen."""
    document = board.document
    assert document is not None
    document.add_layer(plain(20, 20, "red"), "Red")
    board.set_target(document.add_layer(plain(20, 20, "green"), "Green").id)
    made = Layers(board)
    qtbot.addWidget(made)
    made.resize(260, 400)
    made.show()
    qtbot.waitExposed(made)
    return made


@pytest.fixture
def tools(qtbot: QtBot, board: Board) -> Tools:
    made = Tools(board)
    qtbot.addWidget(made)
    made.show()
    qtbot.waitExposed(made)
    return made


def document(board: Board) -> Document:
    assert board.document is not None
    return board.document


def rows(panel: Layers) -> list[str]:
    return [panel.list.item(i).text() for i in range(panel.list.count())]


def names(board: Board) -> list[str]:
    """From the top."""
    return [it.name for it in reversed(document(board).layers)]


def press(panel: Layers, row: int, *, eye: bool = False) -> None:
    rect = panel.list.visualItemRect(panel.list.item(row))
    place = _eye(rect).center() if eye else rect.center()
    QTest.mouseClick(panel.list.viewport(), LEFT, NONE, place)


def test_the_mask_is_on_top_and_the_rows_follow_the_document(panel: Layers, board: Board) -> None:
    assert rows(panel) == ["Mask", "Green", "Red", "Picture"]
    document(board).undo()
    assert rows(panel) == ["Mask", "Red", "Picture"] and panel.list.currentItem().text() == "Red"
    document(board).redo()
    assert rows(panel) == ["Mask", "Green", "Red", "Picture"]


def test_what_is_chosen_is_painted_on(panel: Layers, board: Board) -> None:
    press(panel, 2)
    assert board.target == document(board).layers[1].id
    QTest.keyClick(panel.list, Qt.Key.Key_Up)
    QTest.keyClick(panel.list, Qt.Key.Key_Up)
    assert board.target == MASK
    assert not panel.opacity.isEnabled() and not panel.blend.isEnabled() and not panel.remove_button.isEnabled()
    board.set_target(document(board).layers[0].id)
    assert panel.list.currentItem().text() == "Picture" and not panel.merge_button.isEnabled()


def test_the_eye_and_space_show_and_hide(panel: Layers, board: Board) -> None:
    press(panel, 1, eye=True)
    assert not document(board).layers[2].visible and board.target == document(board).layers[2].id
    press(panel, 0, eye=True)
    assert not board.overlay
    panel.list.setFocus()
    QTest.keyClick(panel.list, Qt.Key.Key_Space)
    assert document(board).layers[2].visible
    assert "shown" in panel.list.item(1).data(Qt.ItemDataRole.AccessibleTextRole)


def test_a_name_is_edited_in_place_as_plain_text(panel: Layers, board: Board, qtbot: QtBot) -> None:
    panel.list.setFocus()
    QTest.keyClick(panel.list, Qt.Key.Key_F2)
    editor = panel.list.findChild(QLineEdit)
    assert editor is not None
    editor.setText("<b>Trees</b>")
    QTest.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: names(board)[0] == "<b>Trees</b>")
    assert rows(panel)[1] == "<b>Trees</b>"
    QTest.keyClick(panel.list, Qt.Key.Key_F2)
    editor = panel.list.findChild(QLineEdit)
    assert editor is not None
    editor.setText("   ")
    QTest.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: rows(panel)[1] == "<b>Trees</b>")  # a layer has a name


def test_opacity_and_blending_are_those_of_the_chosen_layer(panel: Layers, board: Board) -> None:
    panel.opacity.setValue(70)
    panel.opacity.setValue(40)
    panel.blend.setCurrentIndex(panel.blend.findData("screen"))
    panel.blend.activated.emit(panel.blend.currentIndex())
    layer = document(board).layers[2]
    assert (layer.opacity, layer.blend) == (0.4, "screen")
    press(panel, 2)
    assert panel.opacity.value() == 100 and panel.blend.currentData() == "normal"
    press(panel, 1)
    assert panel.opacity.value() == 40 and panel.percent.text() == "40 %"
    document(board).undo()
    document(board).undo()  # the drag of the slider is one step
    assert panel.opacity.value() == 100


def test_layers_are_added_copied_merged_flattened_and_deleted(panel: Layers, board: Board) -> None:
    press(panel, 2)
    panel.add_button.click()
    assert names(board) == ["Green", "Layer 4", "Red", "Picture"] and panel.list.currentItem().text() == "Layer 4"
    panel.remove_button.click()
    assert names(board) == ["Green", "Red", "Picture"] and panel.list.currentItem().text() == "Red"
    panel.duplicate_button.click()
    assert names(board) == ["Green", "Red copy", "Red", "Picture"]
    panel.merge_button.click()
    assert names(board) == ["Green", "Red", "Picture"] and panel.list.currentItem().text() == "Red"
    panel.lock_button.click()
    assert document(board).layers[1].locked and not panel.remove_button.isEnabled()
    told: list[str] = []
    board.refused.connect(told.append)
    panel.merge_button.click()
    assert len(told) == 1 and "locked" in told[0]
    panel.flatten_button.click()
    assert names(board) == ["Picture"] and rows(panel) == ["Mask", "Picture"]


def test_delete_removes_a_layer_and_clears_the_mask(panel: Layers, board: Board) -> None:
    panel.list.setFocus()
    QTest.keyClick(panel.list, Qt.Key.Key_Delete)
    assert names(board) == ["Red", "Picture"]
    document(board).fill_mask()
    press(panel, 0)
    QTest.keyClick(panel.list, Qt.Key.Key_Delete)
    assert document(board).is_empty_mask() and names(board) == ["Red", "Picture"]


def test_keys_move_a_layer(panel: Layers, board: Board) -> None:
    panel.list.setFocus()
    QTest.keyClick(panel.list, Qt.Key.Key_Down, CTRL)
    assert names(board) == ["Red", "Green", "Picture"] and panel.list.currentItem().text() == "Green"
    QTest.keyClick(panel.list, Qt.Key.Key_Up, CTRL)
    QTest.keyClick(panel.list, Qt.Key.Key_Up, CTRL)
    assert names(board) == ["Green", "Red", "Picture"]


@pytest.mark.parametrize(
    ("row", "onto", "lower", "after"),
    [
        (1, 2, True, ["Red", "Green", "Picture"]), (1, 3, True, ["Red", "Picture", "Green"]),
        (3, 1, False, ["Picture", "Green", "Red"]), (2, 0, False, ["Red", "Green", "Picture"]),
        (1, 1, True, ["Green", "Red", "Picture"]), (3, 2, False, ["Green", "Picture", "Red"]),
    ],
)  # fmt: skip
def test_a_row_is_dragged_to_another_place(
    panel: Layers, board: Board, row: int, onto: int, lower: bool, after: list[str]
) -> None:
    press(panel, row)
    rect = panel.list.visualItemRect(panel.list.item(onto))
    place = QPointF(rect.center().x(), rect.bottom() - 3 if lower else rect.top() + 3)
    data = panel.list.mimeData([panel.list.item(row)])
    event = QDropEvent(place, Qt.DropAction.MoveAction, data, LEFT, NONE)
    panel.list.dropEvent(event)
    assert names(board) == after and rows(panel) == ["Mask", *after]


def test_thumbnails_follow_what_is_painted(panel: Layers, board: Board, qtbot: QtBot) -> None:
    def middle(row: int) -> QColor:
        picture = panel.list.item(row).data(Qt.ItemDataRole.DecorationRole)
        return QColor(picture.toImage().pixelColor(18, 18))

    assert middle(3) == QColor("#808080") and middle(0) == QColor("black")
    document(board).fill_layer(document(board).layers[0].id, QColor("blue"))
    document(board).fill_mask()
    qtbot.waitUntil(lambda: middle(3) == QColor("blue") and middle(0) == QColor("white"))


def test_the_bar_follows_the_board_and_the_board_the_bar(tools: Tools, board: Board) -> None:
    board.set_tool(Tool.ERASER)
    assert tools._tools[Tool.ERASER].isChecked() and not tools._tools[Tool.BRUSH].isChecked()
    QTest.mouseClick(tools._tools[Tool.SELECT], LEFT)
    assert board.tool is Tool.SELECT and tools.tolerance.isVisible() and not tools.brush_size.isVisible()
    tools.tolerance.slider.setValue(90)
    tools.contiguous.setChecked(False)
    assert board.tolerance == 90 and not board.contiguous
    board.set_tool(Tool.BRUSH)
    tools.brush_size.slider.setValue(step_of_size(200))
    tools.hardness.slider.setValue(30)
    tools.opacity.slider.setValue(50)
    assert board.brush.size == pytest.approx(200, rel=0.01)
    assert (board.brush.hardness, board.brush.opacity) == (0.3, 0.5)
    board.set_brush(board.brush.__class__(size=37, hardness=0.5))
    assert tools.brush_size.value.text() == "37 px" and board.brush.size == 37  # not what the slider's step says


def test_the_size_slider_reaches_every_size(tools: Tools) -> None:
    assert size_of_step(0) == 1 and size_of_step(1000) == 2000
    for size in (1, 3, 10, 64, 500, 2000):
        assert size_of_step(step_of_size(size)) == pytest.approx(size, rel=0.01)


def test_the_target_is_switched_back_to_the_layer_before(tools: Tools, board: Board) -> None:
    lower = document(board).layers[0].id
    document(board).add_layer()
    assert not tools.swatch.isVisible() and tools.fill_button.isVisible()
    board.set_target(lower)
    assert tools.swatch.isVisible() and not tools.fill_button.isVisible()
    QTest.mouseClick(tools.on_mask, LEFT)
    assert board.target == MASK
    QTest.mouseClick(tools.on_layer, LEFT)
    assert board.target == lower


def test_mask_actions_work_and_are_grey_where_there_is_nothing(tools: Tools, board: Board) -> None:
    assert not tools.clear_button.isEnabled() and not tools.undo_button.isEnabled()
    tools.fill_button.click()
    assert tools.clear_button.isEnabled() and "Fill the mask" in tools.undo_button.accessibleName()
    document(board).clear_mask()
    document(board).select_by_colour(QPoint(1, 1), 0)
    tools.invert_button.click()
    assert document(board).is_empty_mask()
    tools.undo_button.click()
    board.set_tool(Tool.ERASER)
    stroke = document(board).begin_stroke(MASK, board.brush.__class__(size=20, hardness=1.0, erases=True))
    stroke.to(50, 40)
    stroke.end()
    hole = bytes(document(board).mask.constBits()).count(0)
    tools.reach.setValue(4)
    tools.grow_button.click()
    smaller = bytes(document(board).mask.constBits()).count(0)
    tools.shrink_button.click()
    tools.shrink_button.click()
    larger = bytes(document(board).mask.constBits()).count(0)
    assert 0 < smaller < hole < larger
    tools.feather_button.click()
    assert document(board).history.undo_name == "Feather the mask"
    tools.redo_button.click()
    assert not tools.redo_button.isEnabled()


def test_the_frame_is_applied_and_put_back(tools: Tools, board: Board) -> None:
    board.set_tool(Tool.FRAME)
    assert not tools.crop_button.isEnabled()
    document(board).set_frame(8, 0, 0, 8)
    tools.unframe_button.click()
    assert document(board).frame == (0, 0, 0, 0)
    document(board).set_frame(8, 0, 0, 8)
    tools.crop_button.click()
    assert (document(board).width, document(board).height) == (108, 88)


def test_a_colour_is_chosen_beside_the_work(tools: Tools, board: Board) -> None:
    dialog = tools.choose_colour()
    dialog.setCurrentColor(QColor("#10a0f0"))
    assert board.brush.colour == 0xFF10A0F0 and "#10a0f0" in tools.swatch.accessibleName()
    dialog.reject()
    assert board.brush.colour == 0xFF000000


@pytest.mark.parametrize("name", ["dark", "light"])
def test_everything_has_a_name_and_is_large_enough(
    qapp: QApplication, tools: Tools, panel: Layers, board: Board, name: str
) -> None:
    theme.apply(qapp, theme.THEMES[name])
    for tool in (Tool.BRUSH, Tool.FILL, Tool.FRAME):
        board.set_tool(tool)
        for target in (MASK, document(board).layers[0].id):
            board.set_target(target)
            QApplication.processEvents()
            for widget in (*tools.findChildren(QWidget), *panel.findChildren(QWidget)):
                stops = widget.focusPolicy() & Qt.FocusPolicy.ClickFocus and widget.isVisible()
                if (
                    stops
                    and not isinstance(widget.parent(), type(tools.reach))
                    and widget.objectName() != "qt_spinbox_lineedit"
                ):
                    assert widget.accessibleName() or getattr(widget, "text", str)(), widget
                    assert widget.height() >= 28, (widget, widget.height())


def test_the_bar_is_grey_without_a_document(tools: Tools, board: Board) -> None:
    made = document(board)
    board.set_document(None)
    assert not tools.isEnabled()
    board.set_document(made)
    assert tools.isEnabled()


def test_the_list_of_layers_stays_where_it_is_when_the_mask_is_chosen(board: Board, panel: Layers) -> None:
    places = set()
    for target in (MASK, document(board).layers[0].id):
        board.set_target(target)
        QApplication.processEvents()
        places.add(panel.list.y())
        assert panel.blend.isVisible() and panel.blend.isEnabled() is (target != MASK), "nor is there a hole"
    assert len(places) == 1


def test_nothing_below_the_tools_jumps_whatever_is_chosen(board: Board, tools: Tools) -> None:
    heights = set()
    for target in (MASK, document(board).layers[0].id):
        board.set_target(target)
        for tool in Tool:
            board.set_tool(tool)
            QApplication.processEvents()
            heights.add(tools.sizeHint().height())
    assert len(heights) == 1


def test_a_layer_has_its_row_where_the_mask_has_one(board: Board, tools: Tools) -> None:
    layer = document(board).layers[0]
    assert tools._mask_row.isVisible() and not tools._layer_row.isVisible()
    board.set_target(layer.id)
    assert tools._layer_row.isVisible() and not tools._mask_row.isVisible()
    assert tools.layer_name.text() == layer.name and not tools.colour_masked_button.isEnabled()
    board.set_brush(replace(board.brush, colour=0xFF204060))
    tools.colour_button.click()
    assert document(board).colour_at(5, 5) == QColor("#204060")
    document(board).fill_mask()
    board.set_brush(replace(board.brush, colour=0xFF602040))
    tools.colour_masked_button.click()
    assert document(board).colour_at(5, 5) == QColor("#602040")
    tools.empty_button.click()
    assert document(board).colour_at(5, 5).alpha() == 0


def test_the_layers_go_where_it_is_narrow_and_come_when_they_are_asked_for(qtbot: QtBot, tmp_path: Path) -> None:
    page = PaintPage(tmp_path)
    qtbot.addWidget(page)
    page.resize(ROOM_FOR_LAYERS + 200, 500)
    page.show()
    button = page.tools.layers_button
    assert page.layers.isVisible() and button.isChecked() and button.accessibleName() == "Hide the layers"
    page.resize(ROOM_FOR_LAYERS - 60, 500)
    assert not page.layers.isVisible() and not button.isChecked() and button.accessibleName() == "Show the layers"
    page.tools.setEnabled(True)
    button.click()
    assert page.layers.isVisible() and page.board.width() > 150
    page.resize(ROOM_FOR_LAYERS + 200, 500)
    button.click()
    assert not page.layers.isVisible(), "it can be had out of the way on a wide one too"
    page.resize(ROOM_FOR_LAYERS - 60, 500)
    assert page.layers.isVisible(), "each width remembers what was chosen for it"
