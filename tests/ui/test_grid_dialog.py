"""The dialog for grids: what changes, how many pictures that is, and the group that comes of it."""

from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

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
