"""The dialog for grids: what changes, how many pictures that is, and the group that comes of it."""

from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QComboBox, QLineEdit, QMenu

from studio.ui.grid import GridDialog
from tests.ui.hands import press


@pytest.fixture
def dialog(rig: Any) -> Any:
    tab = rig.tab("image")
    tab.form.put_some({"model": "painter", "prompt": "a red house"})
    press(rig, Qt.Key.Key_G, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.AltModifier)
    rig.until(lambda: rig.window.findChild(GridDialog) is not None)
    return rig, tab, rig.window.findChild(GridDialog)


def test_the_number_of_pictures_follows_what_is_written(dialog: Any) -> None:
    _, _, asked = dialog
    assert not asked.start.isEnabled()
    asked.rows["x"].put("steps", "1-3")
    assert "3 pictures" in asked.total.text()
    asked.rows["y"].put("guidance", "2, 4")
    assert "3 × 2 = 6 pictures" in asked.total.text()
    assert asked.start.isEnabled()
    asked.rows["y"].put("guidance", "2, abc")
    assert "abc" in asked.rows["y"].problem.text()
    assert not asked.start.isEnabled()
    asked.rows["y"].put("steps", "4")
    assert "Two axes" in asked.total.text()


def test_axes_change_places(dialog: Any) -> None:
    _, _, asked = dialog
    asked.rows["x"].put("steps", "1, 2")
    asked.rows["y"].put("guidance", "3")
    QTest.mouseClick(asked.swaps["x"], Qt.MouseButton.LeftButton)
    assert asked.rows["x"].state() == {"field": "guidance", "values": "3"}
    assert asked.rows["y"].state() == {"field": "steps", "values": "1, 2"}


def test_a_grid_is_painted_and_its_sheet_is_a_work(dialog: Any) -> None:
    rig, _, asked = dialog
    asked.rows["x"].put("steps", "1, 2")
    asked.rows["y"].put("prompt search and replace", "red, blue")
    QTest.mouseClick(asked.start, Qt.MouseButton.LeftButton)
    rig.until(lambda: any(group.state == "finished" for group in rig.session.groups()), 60)
    works = rig.session.works(kind="image")
    kinds = [rig.recipe(work)["kind"] for work in works]
    assert kinds.count("image") == 4
    assert kinds.count("sheet") == 1
    prompts = {rig.recipe(work)["prompt"] for work in works if rig.recipe(work)["kind"] == "image"}
    assert prompts == {"a red house", "a blue house"}
    assert rig.desk.state.forms["grid"]["x"] == {"field": "steps", "values": "1, 2"}


def test_what_is_looked_for_and_not_there_is_said_and_the_dialog_stays(dialog: Any) -> None:
    rig, _, asked = dialog
    asked.rows["x"].put("prompt search and replace", "bird, owl")
    QTest.mouseClick(asked.start, Qt.MouseButton.LeftButton)
    rig.until(lambda: "bird" in f"{asked.rows['x'].problem.text()} {asked.problem.text()}")
    assert asked.isVisible()
    assert rig.session.jobs() == []


def test_a_parameter_is_found_by_a_part_of_its_name_and_enter_takes_it(dialog: Any) -> None:
    _, _, asked = dialog
    asked.rows["y"].put("steps", "1, 2")
    asked.rows["x"].put("", "3")
    assert asked.start.isEnabled()
    picker = asked.rows["x"].picker
    picker.setFocus()
    QTest.keyClicks(picker, "GUID")
    QTest.keyClick(picker, Qt.Key.Key_Return)
    assert picker.thing() == "guidance" and picker.currentText() == "Guidance"
    assert asked.start.isEnabled(), "Enter here starts nothing: a press of Start greys it out at once"
    picker.lineEdit().selectAll()
    QTest.keyClicks(picker, "no such thing")
    QTest.keyClick(picker, Qt.Key.Key_Return)
    assert picker.thing() == "guidance" and picker.currentText() == "Guidance", "nonsense is taken back"


def test_all_takes_every_model_or_choice_there_is(dialog: Any) -> None:
    _, _, asked = dialog
    one = asked.rows["x"]
    one.put("steps", "")
    assert not one.all.isEnabled()
    one.put("model", "")
    QTest.mouseClick(one.all, Qt.MouseButton.LeftButton)
    assert one.values.text() == "painter, turbo" and one.count.text() == "2 values"
    one.put("reading", "")
    QTest.mouseClick(one.all, Qt.MouseButton.LeftButton)
    assert one.axis is not None and one.axis.values == ("auto", "plain", "a1111", "compel")


def test_what_the_model_cannot_do_is_not_offered(rig: Any) -> None:
    tab = rig.tab("image")
    tab.form.put_some({"model": "turbo", "prompt": "a red house"})
    tab.grid()
    asked = rig.window.findChild(GridDialog)
    assert asked.rows["x"].picker.findData("steps") > 0 and asked.rows["x"].picker.findData("guidance") < 0


def test_time_is_told_from_the_last_picture_and_from_the_steps(dialog: Any) -> None:
    _, _, asked = dialog
    asked._timed(2.0)
    asked.rows["x"].put("seed", "1-10")
    assert asked.total.text() == "10 pictures, about 80 s", "four steps are the model's own"
    asked.rows["y"].put("steps", "10, 50")
    assert asked.total.text() == "10 × 2 = 20 pictures, about 20 min"


def test_a_value_that_only_the_model_refuses_is_said_beside_its_axis(dialog: Any) -> None:
    rig, _, asked = dialog
    asked.rows["x"].put("width", "64, 60")
    QTest.mouseClick(asked.start, Qt.MouseButton.LeftButton)
    rig.until(lambda: "multiple of 8" in asked.rows["x"].problem.text())
    assert asked.start.isEnabled() and not asked.problem.isVisible() and rig.session.jobs() == []


def test_the_axes_of_last_time_are_there_and_everything_has_a_name(dialog: Any) -> None:
    rig, tab, asked = dialog
    asked.rows["x"].put("steps", "1, 2")
    asked.rows["z"].put("seed", "5")
    QTest.keyClick(asked, Qt.Key.Key_Escape)
    rig.until(lambda: not any(d.isVisible() for d in rig.window.findChildren(GridDialog)))
    tab.grid()
    again = next(d for d in rig.window.findChildren(GridDialog) if d.isVisible())
    assert again.rows["x"].state() == {"field": "steps", "values": "1, 2"} and again.rows["z"].axis.values == (5,)
    for kind in (QAbstractButton, QComboBox, QLineEdit):
        for widget in again.findChildren(kind):
            inner = isinstance(widget.parent(), QComboBox)
            assert inner or (widget.accessibleName() and widget.objectName()), widget


def test_a_grid_under_way_is_cancelled_as_one_and_its_sheet_is_announced(rig: Any) -> None:
    tab = rig.tab("image")
    tab.form.put_some({"model": "painter", "prompt": "a red house", "steps": 1})
    tab.grid()
    asked = rig.window.findChild(GridDialog)
    asked.rows["x"].put("prompt search and replace", "red, hold, blue")
    QTest.mouseClick(asked.start, Qt.MouseButton.LeftButton)
    rig.until(lambda: tab.grids.open and tab.grids.open[0].ended == 1)
    menu = QMenu(tab)
    tab._fill_more(menu)
    entry = next(a for a in menu.actions() if a.text().startswith("Cancel the grid"))
    assert entry.text() == "Cancel the grid “a red house” (1 of 3)"
    told: list[Any] = []
    rig.desk.told.connect(lambda *said: told.append(said))
    entry.trigger()
    rig.until(lambda: told)
    sentence, hint, (word, show) = told[0]
    assert sentence == "The sheet of “a red house” is ready." and hint == "2 pictures are missing on it."
    assert word == "Show it" and tab.grids.open == []
    show()
    rig.until(lambda: tab.work is not None and rig.recipe(tab.work)["kind"] == "sheet")
