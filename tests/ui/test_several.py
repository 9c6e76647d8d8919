"""Several works saved at once, by a pattern of names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from studio.ui.several import SeveralDialog


@pytest.fixture
def dialog(rig: Any, tmp_path: Path) -> Any:
    tab = rig.tab("image")
    for words in ("an apple", "a pear", "an apple"):
        rig.made("image", words, seed=5)
    view = tab.history.view
    view.selectAll()
    rig.until(lambda: len(view.chosen()) == 3)
    tab.save_several()
    dialog = rig.window.findChild(SeveralDialog)
    assert dialog is not None
    dialog.folder.setText(str(tmp_path))
    return rig, dialog


def test_each_is_written_under_a_name_of_its_own(dialog: Any, tmp_path: Path) -> None:
    rig, asked = dialog
    (tmp_path / "an-apple 5.jpg").write_bytes(b"mine")
    asked.pattern.setText("{title} {seed}")
    asked.format.setCurrentIndex(asked.format.findData(".jpg"))
    assert "pear" in asked.example.whole()
    QTest.mouseClick(asked.save, Qt.MouseButton.LeftButton)
    rig.until(lambda: rig.idle() and len(list(tmp_path.glob("*.jpg"))) == 4, 60)
    assert (tmp_path / "an-apple 5.jpg").read_bytes() == b"mine", "what is there is never replaced"
    assert sum("apple" in p.name for p in tmp_path.glob("*.jpg")) == 3
    assert rig.desk.state.forms["several"]["pattern"] == "{title} {seed}"


def test_what_is_unknown_in_braces_is_said_and_nothing_can_be_saved(dialog: Any) -> None:
    _, asked = dialog
    asked.pattern.setText("{colour}")
    assert not asked.save.isEnabled()
    assert "colour" in asked.problem.text()
    asked.pattern.setText("{n}")
    assert asked.save.isEnabled()


def test_a_folder_that_is_not_there_is_said(dialog: Any, tmp_path: Path) -> None:
    _, asked = dialog
    asked.folder.setText(str(tmp_path / "gone"))
    QTest.mouseClick(asked.save, Qt.MouseButton.LeftButton)
    assert "no folder" in asked.problem.text()
    assert asked.isVisible()
