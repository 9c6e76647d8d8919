"""Two small windows: one asks for a name, the other offers many names to choose from.

Knows names; knows nothing of what they stand for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QEvent, QObject, QSize, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QDialog, QFrame, QLineEdit, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from studio.core.text import searchable, shown
from studio.ui import theme
from studio.ui.icons import icon
from studio.ui.strings import tr
from studio.ui.widgets import Button, Label, ToolButton, row, then

LISTED = 500  # names a list shows at once


class NameDialog(QDialog):
    """Asks for a name.

    Signals:
        named(str): it was given.
    """

    named = Signal(str)

    def __init__(self, parent: QWidget, title: str, hint: str, taken: Callable[[str], bool]) -> None:
        super().__init__(parent)
        self.setObjectName("name_dialog")
        self.setWindowTitle(title)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._taken = taken
        self.line = QLineEdit()
        self.line.setObjectName("name_line")
        self.line.setAccessibleName(tr("Name"))
        self.line.setPlaceholderText(tr("Name"))
        self.line.setMaxLength(80)
        self.about = Label(hint, "soft", wrap=True)
        self._hint = hint
        self.keep = Button(tr("Keep"), role="primary", clicked=self._done)
        self.keep.setObjectName("name_keep")
        self.keep.setDefault(True)
        cancel = Button(tr("Cancel"), clicked=self.reject)
        cancel.setObjectName("name_cancel")
        around = QVBoxLayout(self)
        around.setContentsMargins(20, 16, 20, 16)
        around.setSpacing(theme.UNIT)
        around.addWidget(Label(title, "title", wrap=True))
        around.addWidget(self.line)
        around.addWidget(self.about)
        around.addLayout(row(None, cancel, self.keep))
        self.line.textChanged.connect(self._typed)
        self.resize(380, self.sizeHint().height())
        self._typed()

    def _typed(self) -> None:
        name = " ".join(self.line.text().split())
        self.keep.setEnabled(bool(name))
        there = bool(name) and self._taken(name)
        self.about.setText(tr("There is one of this name; it will be replaced.") if there else self._hint)
        self.keep.say(tr("Replace") if there else tr("Keep"))

    def _done(self) -> None:
        name = " ".join(self.line.text().split())
        if name:
            self.accept()
            self.named.emit(name)


class Chooser(QDialog):
    """A list of names to search in. It goes when another window is turned to.

    Args:
        checked: with a mark before each name, and pressing one turns its mark; otherwise pressing one closes the list.
        removable: with a button that removes the name at hand.

    Signals:
        taken(str), removed(str): a name. at(str): the name at hand, or nothing.
    """

    taken = Signal(str)
    removed = Signal(str)
    at = Signal(str)

    def __init__(
        self, parent: QWidget, title: str, names: tuple[str, ...], *, checked: tuple[str, ...] | None = None,
        removable: bool = False, empty: str = "", action: str = "", does: Callable[[], Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(parent)
        self.setObjectName("chooser")
        self.setWindowTitle(title)
        self.setWindowFlags(Qt.WindowType.Dialog | Qt.WindowType.FramelessWindowHint)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._names = [(name, searchable(name)) for name in names]
        self._checked = None if checked is None else set(checked)
        self.line = QLineEdit()
        self.line.setObjectName("chooser_line")
        self.line.setAccessibleName(tr("Search in the list"))
        self.line.setPlaceholderText(title)
        self.list = QListWidget()
        self.list.setObjectName("chooser_list")
        self.list.setAccessibleName(title)
        self.list.setProperty("role", "list")
        self.list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.list.setIconSize(QSize(16, 16))
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.about = Label("", "soft", wrap=True)
        self._empty = empty
        self.remove = ToolButton(tr("Remove from the list"), "trash-2", clicked=self._remove)
        self.remove.setObjectName("chooser_remove")
        self.remove.setVisible(removable)
        self.act = Button(action, clicked=then(self.close, does or (lambda: None)))
        self.act.setObjectName("chooser_act")
        self.act.setVisible(bool(action))
        frame = QFrame()
        frame.setProperty("role", "card")
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(frame)
        around = QVBoxLayout(frame)
        around.setContentsMargins(10, 10, 10, 10)
        around.setSpacing(theme.UNIT)
        around.addWidget(self.line)
        around.addWidget(self.list, 1)
        around.addWidget(self.about)
        if removable or action:
            around.addLayout(row(self.act, None, self.remove))
        self.line.textChanged.connect(self._typed)
        self.line.installEventFilter(self)
        self.list.itemClicked.connect(self._take)
        self.list.currentItemChanged.connect(lambda *_: self._tell())
        self.resize(340, 380)
        self._typed()

    def _typed(self) -> None:
        words = searchable(self.line.text()).split()
        found = [name for name, folded in self._names if all(word in folded for word in words)]
        self.list.clear()
        for name in found[:LISTED]:
            item = QListWidgetItem(shown(name, 80))
            item.setData(Qt.ItemDataRole.UserRole, name)
            if self._checked is not None:
                self._mark(item)
            self.list.addItem(item)
        said = ""
        if len(found) > LISTED:
            said = tr("{n} more; search for them.", n=f"{len(found) - LISTED:,}")
        elif not found:
            said = tr("Nothing answers to this.") if self._names else self._empty
        self.about.setText(said)
        self.list.setCurrentRow(0)
        self._tell()

    def say(self, sentence: str) -> None:
        """Show a sentence on the name at hand, unless there is none."""
        if self.name():
            self.about.setText(sentence)

    def _mark(self, item: QListWidgetItem) -> None:
        name = str(item.data(Qt.ItemDataRole.UserRole))
        on = self._checked is not None and name in self._checked
        item.setIcon(icon("check", "accent") if on else icon("plus", "soft"))
        item.setData(Qt.ItemDataRole.AccessibleTextRole, tr("{name}, chosen", name=shown(name)) if on else shown(name))

    def name(self) -> str:
        item = self.list.currentItem()
        return str(item.data(Qt.ItemDataRole.UserRole)) if item is not None else ""

    def _tell(self) -> None:
        self.remove.setEnabled(bool(self.name()))
        self.at.emit(self.name())

    def _take(self, item: QListWidgetItem | None) -> None:
        if item is None:
            return
        name = str(item.data(Qt.ItemDataRole.UserRole))
        if self._checked is None:
            self.close()
        else:
            self._checked ^= {name}
            self._mark(item)
        self.taken.emit(name)

    def event(self, event: QEvent) -> bool:
        # not a popup: those are closed by some window systems as soon as they are shown
        if event.type() == QEvent.Type.WindowDeactivate and self.isVisible():
            self.close()
        return super().event(event)

    def _remove(self) -> None:
        name = self.name()
        if name:
            self._names = [each for each in self._names if each[0] != name]
            at = self.list.currentRow()
            self.list.takeItem(at)
            self.removed.emit(name)
            self.line.setFocus()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress:
            steps = {Qt.Key.Key_Down: 1, Qt.Key.Key_Up: -1, Qt.Key.Key_PageDown: 8, Qt.Key.Key_PageUp: -8}
            step = steps.get(Qt.Key(event.key()))
            if step is not None and self.list.count():
                self.list.setCurrentRow(max(0, min(self.list.count() - 1, self.list.currentRow() + step)))
                return True
            if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
                self._take(self.list.currentItem())
                return True
        return False
