"""The command palette: every action and every work, found by a few letters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QEvent, QObject, Qt, QTimer, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QDialog, QLineEdit, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from studio.core.text import shown
from studio.core.works import Work
from studio.ui.actions import ACTIONS, Action
from studio.ui.desk import Desk
from studio.ui.history import facts
from studio.ui.icons import icon
from studio.ui.queue import ICONS
from studio.ui.strings import tr
from studio.ui.widgets import Label

WHAT = Qt.ItemDataRole.UserRole
WORKS = 30  # listed at most
SEARCH_AFTER = 120  # ms


def score(words: str, text: str) -> int:
    """How well `text` answers to `words`; 0 for not at all. Every word must be in it, or the letters in order."""
    words, text = words.casefold().strip(), text.casefold()
    if not words:
        return 1
    if text.startswith(words):
        return 100
    parts = words.split()
    if all(part in text for part in parts):
        starts = sum(any(word.startswith(part) for word in text.split()) for part in parts)
        return 50 + 10 * starts
    at = -1
    for letter in words.replace(" ", ""):
        at = text.find(letter, at + 1)
        if at < 0:
            return 0
    return 5


class Palette(QDialog):
    """A line to type into, and what answers to it.

    Signals:
        action(str): name of an action. work(Work): to be shown.
    """

    action = Signal(str)
    work = Signal(object)

    def __init__(self, parent: QWidget, desk: Desk, usable: Callable[[Action], bool]) -> None:
        super().__init__(parent)
        self.setObjectName("palette")
        self.setWindowTitle(tr("Search works and commands"))
        self.setWindowFlags(Qt.WindowType.Dialog | Qt.WindowType.FramelessWindowHint)
        self._desk, self._usable = desk, usable
        self._asked = 0
        self.line = QLineEdit()
        self.line.setObjectName("palette_line")
        self.line.setAccessibleName(tr("Search works and commands"))
        self.line.setPlaceholderText(tr("Search works and commands"))
        self.list = QListWidget()
        self.list.setObjectName("palette_list")
        self.list.setAccessibleName(tr("Found"))
        self.list.setProperty("role", "list")
        self.list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.nothing = Label(tr("Nothing answers to this."), "soft")
        around = QVBoxLayout(self)
        around.setContentsMargins(12, 12, 12, 12)
        around.setSpacing(8)
        around.addWidget(self.line)
        around.addWidget(self.list)
        around.addWidget(self.nothing)
        self._soon = QTimer(self, singleShot=True, interval=SEARCH_AFTER)
        self._soon.timeout.connect(self._search)
        self.line.textChanged.connect(self._typed)
        self.line.installEventFilter(self)
        self.list.itemClicked.connect(self._take)
        self.resize(560, 420)
        self._typed()

    def place(self) -> None:
        """Near the top of the window."""
        over = self.parentWidget().geometry()  # type: ignore[union-attr]  # it is made with one
        self.move(over.center().x() - self.width() // 2, over.top() + 64)

    def _typed(self) -> None:
        words = self.line.text()
        found = [(score(words, tr(a.title)), a) for a in ACTIONS if a.palette and self._usable(a)]
        found = sorted([f for f in found if f[0]], key=lambda f: -f[0])
        self.list.clear()
        for _, action in found[: 60 if not words else 12]:
            keys = f"    {action.keys[0].replace('Return', 'Enter')}" if action.keys else ""
            item = QListWidgetItem(icon("chevron-right", "soft"), f"{tr(action.title)}{keys}")
            item.setData(WHAT, action.name)
            self.list.addItem(item)
        self._asked += 1
        if words.strip():
            self._soon.start()
        self._settle()

    def _search(self) -> None:
        session, words, asked = self._desk.session, self.line.text().strip(), self._asked
        if session is None or not words:
            return

        def found(works: list[Work]) -> None:
            if asked != self._asked:
                return
            for work in works:
                text = f"{shown(work.title, 70)}    {facts(work)}"
                item = QListWidgetItem(icon(ICONS.get(work.kind, "list"), "soft"), text)
                item.setData(WHAT, work)
                self.list.addItem(item)
            self._settle()

        self._desk.tasks.read(self, lambda: session.works(limit=WORKS, search=words), found)

    def _settle(self) -> None:
        if self.list.count() and self.list.currentRow() < 0:
            self.list.setCurrentRow(0)
        self.nothing.setVisible(self.list.count() == 0)

    def _take(self, item: QListWidgetItem | None) -> None:
        if item is None:
            return
        what: Any = item.data(WHAT)
        self.accept()
        if isinstance(what, str):
            self.action.emit(what)
        else:
            self.work.emit(what)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress:
            steps = {Qt.Key.Key_Down: 1, Qt.Key.Key_Up: -1, Qt.Key.Key_PageDown: 8, Qt.Key.Key_PageUp: -8}
            step = steps.get(Qt.Key(event.key()))
            if step is not None and self.list.count():
                at = self.list.currentRow() + step
                at = at % self.list.count() if abs(step) == 1 else max(0, min(self.list.count() - 1, at))
                self.list.setCurrentRow(at)
                return True
            if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
                self._take(self.list.currentItem())
                return True
        return False
