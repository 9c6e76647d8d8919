"""What a user's hands do: keys, clicks on works, menu entries, drops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QMimeData, QPointF, Qt
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QMenu, QWidget


def press(rig: Any, key: Qt.Key, held: Qt.KeyboardModifier = Qt.KeyboardModifier.ControlModifier) -> None:
    """A key as the user presses it, wherever the focus is."""
    if QGuiApplication.focusWindow() is None:
        rig.window.activateWindow()
        rig.until(lambda: QGuiApplication.focusWindow() is not None)
    QTest.keyClick(QGuiApplication.focusWindow(), key, held)


def click_work(tab: Any, work: Any) -> None:
    """A click on a work in the history."""
    view = tab.history.view
    index = tab.history.model.index(tab.history.model.row_of(work.id))
    view.scrollTo(index)
    QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=view.visualRect(index).center())


def entry(tab: Any, work: Any, words: str) -> Callable[[], None]:
    """An entry of the menu of a work, to be chosen by calling it."""
    menu = QMenu(tab)
    tab.fill_menu(work, menu)
    return next(a for a in menu.actions() if a.text() == words).trigger


def drop(widget: QWidget, data: QMimeData) -> bool:
    """Drag something from another program over a widget and let go; whether it was taken.

    As Qt does it: what a widget does not want is offered to those around it.
    """
    place, copy = QPointF(widget.rect().center()), Qt.DropAction.CopyAction
    held = (Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    over: QWidget | None = widget
    while over is not None:
        if over.acceptDrops():
            entering = QDragEnterEvent(place.toPoint(), copy, data, *held)
            entering.ignore()
            QApplication.sendEvent(over, entering)
            if entering.isAccepted():
                break
        over = over.parentWidget()
    if over is None:
        return False
    dropping = QDropEvent(place, copy, data, *held)
    dropping.ignore()
    QApplication.sendEvent(over, dropping)
    return dropping.isAccepted()
