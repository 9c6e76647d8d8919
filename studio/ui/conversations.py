"""The list of conversations, newest first."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QPoint, Qt, Signal
from PySide6.QtWidgets import QListWidget, QListWidgetItem, QMenu, QVBoxLayout, QWidget

from studio.core.conversations import Conversation
from studio.ui.actions import keys_of
from studio.ui.desk import Desk
from studio.ui.strings import tr
from studio.ui.widgets import Label, ToolButton, row

ID = Qt.ItemDataRole.UserRole


class ConversationsPanel(QWidget):
    """Shows the conversations and lets one be opened, begun or removed.

    Signals:
        opened(str): id. fresh: a new one was asked for. remove(str): id.
    """

    opened = Signal(str)
    fresh = Signal()
    remove = Signal(str)

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._shown = ""
        self.new = ToolButton(tr("New conversation"), "plus", shortcut=keys_of("new_conversation"))
        self.new.setObjectName("conversation_new")
        self.new.clicked.connect(self.fresh)
        self.bin = ToolButton(tr("Remove this conversation"), "trash-2", shortcut="Del", clicked=self._remove)
        self.bin.setObjectName("conversation_remove")
        self.list = QListWidget()
        self.list.setObjectName("conversations")
        self.list.setAccessibleName(tr("Conversations"))
        self.list.setProperty("role", "list")
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.list.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.list.customContextMenuRequested.connect(self._menu)
        self.list.itemClicked.connect(lambda item: self.opened.emit(item.data(ID)))
        self.list.itemActivated.connect(lambda item: self.opened.emit(item.data(ID)))
        self.list.installEventFilter(self)
        self.nothing = Label(tr("Conversations are kept here."), "soft", wrap=True)
        around = QVBoxLayout(self)
        around.setContentsMargins(12, 12, 12, 8)
        around.setSpacing(8)
        around.addLayout(row(Label(tr("Conversations"), "heading"), None, self.bin, self.new, spacing=0))
        around.addWidget(self.nothing)
        around.addWidget(self.list, 1)
        desk.opened.connect(self.refresh)
        desk.change.connect(lambda change: self.refresh() if change.conversations else None)
        if desk.session is not None:
            self.refresh()
        self._told()

    def refresh(self) -> None:
        session = self._desk.session
        if session is not None:
            self._desk.tasks.read(self, session.conversations, self._read)

    def _read(self, found: list[Conversation]) -> None:
        self.list.clear()
        for conversation in found:
            item = QListWidgetItem(conversation.title or tr("untitled"))
            item.setData(ID, conversation.id)
            self.list.addItem(item)
        self.show_as(self._shown)
        self._told()

    def _told(self) -> None:
        self.nothing.setVisible(self.list.count() == 0)
        self.bin.setEnabled(self.list.currentItem() is not None)

    def show_as(self, conversation_id: str) -> None:
        """Mark the open conversation."""
        self._shown = conversation_id
        for at in range(self.list.count()):
            if self.list.item(at).data(ID) == conversation_id:
                self.list.setCurrentRow(at)
                self._told()
                return
        self.list.setCurrentRow(-1)
        self._told()

    def eventFilter(self, watched: Any, event: Any) -> bool:
        if watched is self.list and event.type() == event.Type.KeyPress and event.key() == Qt.Key.Key_Delete:
            self._remove()
            return True
        return False

    def _remove(self) -> None:
        item = self.list.currentItem()
        if item is not None:
            self.remove.emit(item.data(ID))

    def _menu(self, at: QPoint) -> None:
        item = self.list.itemAt(at)
        if item is None:
            return
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction(tr("Open")).triggered.connect(lambda *_: self.opened.emit(item.data(ID)))
        menu.addAction(tr("Remove")).triggered.connect(lambda *_: self.remove.emit(item.data(ID)))
        menu.popup(self.list.viewport().mapToGlobal(at))
