"""Removing works in the window."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QDialog, QPushButton


def test_delete_removes_the_chosen_work_shows_its_neighbour_and_undo_brings_it_back(rig: Any) -> None:
    tab = rig.tab("image")
    old, new = rig.made("image", "the old one"), rig.made("image", "the new one")
    rig.until(lambda: [w.id for w in tab.history.view.chosen()] == [new.id])
    tab.history.view.setFocus()
    QTest.keyClick(tab.history.view, Qt.Key.Key_Delete)
    rig.until(lambda: [w.id for w in tab.history.model.works] == [old.id])
    rig.until(lambda: tab.work.id == old.id)
    assert "was removed" in rig.window.notice.sentence.text()
    rig.window.notice.act.click()
    rig.until(lambda: [w.id for w in tab.history.model.works] == [new.id, old.id])
    rig.until(lambda: tab.work.id == new.id)


def test_removing_the_last_work_leaves_an_empty_tab(rig: Any) -> None:
    for kind, words in (("image", "a cat"), ("speech", "One. Two."), ("text", "A story")):
        tab = rig.tab(kind)
        rig.made(kind, words)
        rig.until(lambda tab=tab: tab.work is not None)
        rig.window.do("remove_work")
        rig.until(lambda tab=tab: tab.work is None and not tab.history.model.works)
        assert tab.empty.isVisible()
        assert tab.details.work is None


def test_the_bin_is_emptied_after_asking_only(rig: Any) -> None:
    tab = rig.tab("image")
    work = rig.made("image", "a cat")
    path = rig.session.path(work)
    rig.window.empty_bin()
    rig.until(lambda: "empty" in rig.window.notice.sentence.text())
    tab.remove([work])
    rig.until(lambda: rig.session.bin())
    for button, there in (("bin_keep", True), ("bin_delete", False)):
        rig.window.empty_bin()
        rig.until(lambda: rig.window.findChild(QDialog, "bin_dialog") is not None)
        dialog = rig.window.findChild(QDialog, "bin_dialog")
        dialog.findChild(QPushButton, button).click()
        rig.until(lambda: rig.window.findChild(QDialog, "bin_dialog") is None)
        rig.until(lambda there=there: path.exists() is there)
