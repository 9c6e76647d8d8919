"""The list of layers beside the board, with the mask on top: what is chosen here is painted on.

Knows the board and its document; knows nothing of works or files.
"""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QEvent, QModelIndex, QPersistentModelIndex, QPoint, QRect, QSize, Qt, QTimer
from PySide6.QtGui import QColor, QDropEvent, QImage, QKeyEvent, QMouseEvent, QPainter, QPen, QPixmap
from PySide6.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QListWidget,
    QListWidgetItem,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from studio.ui import theme
from studio.ui.icons import icon
from studio.ui.paint.board import Board
from studio.ui.paint.document import MASK, Document
from studio.ui.paint.snapshot import BLENDS
from studio.ui.strings import tr
from studio.ui.widgets import Label, Slider, ToolButton, row

ROW = 44  # px
EYE = 28
THUMBNAIL = 36
SOON = 15  # ms until a thumbnail is gone on with that takes long
LATER = 250  # ms after a change until thumbnails are drawn anew

_ID = Qt.ItemDataRole.UserRole
_SHOWN = Qt.ItemDataRole.UserRole + 1
_LOCKED = Qt.ItemDataRole.UserRole + 2
Index = QModelIndex | QPersistentModelIndex


class _Look(QStyledItemDelegate):
    """Draws a row: eye, thumbnail, name, lock."""

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        return QSize(120, ROW)

    def paint(self, painter: QPainter, option: Any, index: Index) -> None:
        now = theme.current()
        rect: QRect = option.rect.adjusted(0, 1, 0, -1)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        selected = bool(option.state & QStyle.StateFlag.State_Selected)
        hovered = bool(option.state & QStyle.StateFlag.State_MouseOver)
        if selected or hovered:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(now.field_hover if selected else now.field))
            painter.drawRoundedRect(rect, 6, 6)
        if selected and option.state & QStyle.StateFlag.State_HasFocus:
            painter.setPen(QPen(QColor(now.accent), 1))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(rect.adjusted(1, 1, -1, -1), 6, 6)
        shown = bool(index.data(_SHOWN))
        icon("eye" if shown else "eye-off", "text" if shown else "soft").paint(
            painter, _eye(rect).adjusted(6, 6, -6, -6)
        )
        place = QRect(rect.x() + EYE + 4, rect.y() + (rect.height() - THUMBNAIL) // 2, THUMBNAIL, THUMBNAIL)
        picture = index.data(Qt.ItemDataRole.DecorationRole)
        if isinstance(picture, QPixmap) and not picture.isNull():
            painter.drawPixmap(place, picture)
        painter.setPen(QPen(QColor(now.line), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(place.adjusted(0, 0, -1, -1))
        right = rect.right() - 8
        if index.data(_LOCKED):
            icon("lock", "soft").paint(painter, QRect(right - 14, rect.center().y() - 7, 14, 14))
            right -= 20
        words = QRect(place.right() + 10, rect.y(), right - place.right() - 10, rect.height())
        painter.setPen(QColor(now.text if shown else now.soft))
        name = str(index.data(Qt.ItemDataRole.DisplayRole) or "")
        elided = option.fontMetrics.elidedText(name, Qt.TextElideMode.ElideRight, words.width())
        painter.drawText(words, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft), elided)
        painter.restore()

    def updateEditorGeometry(self, editor: QWidget, option: Any, index: Index) -> None:
        left = EYE + THUMBNAIL + 8
        editor.setGeometry(option.rect.adjusted(left, 6, -4, -6))


def _eye(rect: QRect) -> QRect:
    return QRect(rect.x() + 2, rect.y() + (rect.height() - EYE) // 2, EYE, EYE)


class _List(QListWidget):
    """The rows, topmost layer first."""

    def __init__(self, panel: Layers) -> None:
        super().__init__(panel)
        self._panel = panel
        self.setObjectName("layers")
        self.setProperty("role", "list")
        self.setAccessibleName(tr("Layers, the topmost first"))
        self.setAccessibleDescription(
            tr("Space shows or hides, F2 renames, Delete removes, Ctrl+Up and Ctrl+Down move a layer.")
        )
        self.setItemDelegate(_Look(self))
        self.setMouseTracking(True)
        self.setDragDropMode(QAbstractItemView.DragDropMode.InternalMove)
        self.setDefaultDropAction(Qt.DropAction.MoveAction)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.DoubleClicked | QAbstractItemView.EditTrigger.EditKeyPressed)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        item = self.currentItem()
        ctrl = event.modifiers() == Qt.KeyboardModifier.ControlModifier
        busy = self.state() == QAbstractItemView.State.EditingState
        if item is None or busy:
            super().keyPressEvent(event)
        elif event.key() == Qt.Key.Key_Space and not event.modifiers():
            self._panel.toggle(item.data(_ID))
        elif event.key() == Qt.Key.Key_Delete and not event.modifiers():
            self._panel.remove()
        elif ctrl and event.key() in (Qt.Key.Key_Up, Qt.Key.Key_Down):
            self._panel.shift(1 if event.key() == Qt.Key.Key_Up else -1)
        else:
            super().keyPressEvent(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        item = self.itemAt(event.position().toPoint())
        on_eye = item is not None and _eye(self.visualItemRect(item)).contains(event.position().toPoint())
        if event.button() == Qt.MouseButton.LeftButton and item is not None and on_eye:
            self._panel.toggle(item.data(_ID))
            event.accept()
        else:
            super().mousePressEvent(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        item = self.itemAt(event.position().toPoint())
        if item is not None and _eye(self.visualItemRect(item)).contains(event.position().toPoint()):
            self.mousePressEvent(event)
        else:
            super().mouseDoubleClickEvent(event)

    def dropEvent(self, event: QDropEvent) -> None:
        """The document moves the layer, and then the rows follow."""
        at = event.position().toPoint()
        item = self.itemAt(at)
        place = self.count() if item is None else self.row(item)
        if item is not None and at.y() > self.visualItemRect(item).center().y():
            place += 1
        event.setDropAction(Qt.DropAction.IgnoreAction)
        event.accept()
        self._panel.drop(place)


class Layers(QWidget):
    """A panel for the layers of the board's document.

    Rows are rebuilt when layers change; thumbnails come from the board's small copies, a moment after a change.
    """

    def __init__(self, board: Board, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("panel")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._board = board
        self._document: Document | None = None
        self._filling = False
        self.list = _List(self)
        self.opacity = Slider()
        self.opacity.setObjectName("opacity")
        self.opacity.setRange(0, 100)
        self.opacity.setAccessibleName(tr("Opacity of the layer, in percent"))
        self.opacity.valueChanged.connect(self._set_opacity)
        self.percent = Label("100 %", role="soft")
        self.percent.setFixedWidth(42)
        self.percent.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.blend = QComboBox()
        self.blend.setObjectName("blend")
        self.blend.setAccessibleName(tr("How the layer is blended with what is below"))
        self.blend.setMinimumHeight(28)
        for name, (_, title) in BLENDS.items():
            self.blend.addItem(tr(title), name)
        self.blend.activated.connect(self._set_blend)
        self.add_button = ToolButton(tr("Add a layer"), "plus", clicked=self.add)
        self.duplicate_button = ToolButton(tr("Duplicate the layer"), "copy-plus", clicked=self.duplicate)
        self.merge_button = ToolButton(tr("Merge with the layer below"), "merge", clicked=self.merge)
        self.flatten_button = ToolButton(tr("Flatten: make one layer of all"), "layers", clicked=self.flatten)
        self.lock_button = ToolButton(tr("Lock the layer"), "lock", checkable=True, clicked=self.lock)
        self.remove_button = ToolButton(tr("Delete the layer"), "trash-2", shortcut="Del", clicked=self.remove)
        buttons = (
            self.add_button, self.duplicate_button, self.merge_button, self.flatten_button, self.lock_button,
            self.remove_button,
        )  # fmt: skip
        around = QVBoxLayout(self)
        around.setContentsMargins(theme.UNIT, theme.UNIT, theme.UNIT, theme.UNIT)
        around.setSpacing(theme.UNIT)
        around.addLayout(row(Label(tr("Layers"), role="heading"), None))
        self.mixing = QWidget()
        mixing = QVBoxLayout(self.mixing)
        mixing.setContentsMargins(0, 0, 0, 0)
        mixing.setSpacing(theme.UNIT)
        mixing.addLayout(row(Label(tr("Opacity"), role="soft"), self.opacity, self.percent))
        mixing.addWidget(self.blend)
        around.addWidget(self.mixing)
        around.addWidget(self.list, 1)
        around.addLayout(row(*buttons[:-1], None, buttons[-1], spacing=2))
        self.list.currentItemChanged.connect(lambda *_: self._chosen())
        self.list.itemChanged.connect(self._renamed)
        self._soon = QTimer(self, interval=LATER, singleShot=True)
        self._soon.timeout.connect(self._draw_thumbnails)
        board.tool_changed.connect(self._follow)
        board.mask_changed.connect(lambda *_: self._soon.start(LATER))
        board.changed.connect(self._soon_again)
        self._follow()

    # ------------------------------------------------------------------ what is shown

    def _follow(self) -> None:
        """The board has another document or another target."""
        document = self._board.document
        if document is not self._document:
            if self._document is not None:
                self._document.layers_changed.disconnect(self._fill)
                self._document.pixels_changed.disconnect(self._touched)
            self._document = document
            if document is not None:
                document.layers_changed.connect(self._fill)
                document.pixels_changed.connect(self._touched)
            self._fill()
        else:
            self._select()

    def _touched(self, *_: Any) -> None:
        self._soon_again()

    def _soon_again(self) -> None:
        if not self._soon.isActive():
            self._soon.start(LATER)

    def _fill(self) -> None:
        document = self._document
        self._filling = True
        self.list.clear()
        if document is not None:
            self._row(MASK, tr("Mask"), self._board.overlay, False)
            for layer in reversed(document.layers):
                self._row(layer.id, layer.name, layer.visible, layer.locked)
        self._filling = False
        self._select()
        self._draw_thumbnails()

    def _row(self, id: int, name: str, shown: bool, locked: bool) -> None:
        item = QListWidgetItem(name)
        item.setData(_ID, id)
        item.setData(_SHOWN, shown)
        item.setData(_LOCKED, locked)
        flags = Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsEnabled
        if id != MASK:
            flags |= Qt.ItemFlag.ItemIsEditable | Qt.ItemFlag.ItemIsDragEnabled
        item.setFlags(flags)
        state = tr("shown") if shown else tr("hidden")
        item.setData(
            Qt.ItemDataRole.AccessibleTextRole,
            tr("{name}, {state}, locked", name=name, state=state) if locked else f"{name}, {state}",
        )
        self.list.addItem(item)

    def _select(self) -> None:
        """Show the target of the board as chosen, and its properties."""
        document, target = self._document, self._board.target
        self._filling = True
        for i in range(self.list.count()):
            item = self.list.item(i)
            if item.data(_ID) == target:
                self.list.setCurrentItem(item)
            if item.data(_ID) == MASK:
                item.setData(_SHOWN, self._board.overlay)
        layer = next((it for it in document.layers if it.id == target), None) if document is not None else None
        for widget in (self.opacity, self.blend, self.percent, self.duplicate_button, self.lock_button):
            widget.setEnabled(layer is not None)
        many = document is not None and len(document.layers) > 1
        self.add_button.setEnabled(document is not None)
        self.flatten_button.setEnabled(many)
        self.remove_button.setEnabled(many and layer is not None and not layer.locked)
        self.merge_button.setEnabled(
            many and layer is not None and document is not None and document.layers[0] is not layer
        )
        if layer is not None:
            self.opacity.setValue(round(layer.opacity * 100))
            self.blend.setCurrentIndex(self.blend.findData(layer.blend))
            self.lock_button.setChecked(layer.locked)
            self.percent.setText(f"{self.opacity.value()} %")
        else:  # the mask has neither
            self.opacity.setValue(100)
            self.blend.setCurrentIndex(self.blend.findData("normal"))
            self.percent.setText("")
        self.mixing.setEnabled(layer is not None)  # not hidden, so that the list does not jump
        self._filling = False

    def _draw_thumbnails(self) -> None:
        if self._document is None:
            return
        self._filling = True
        ratio = self.devicePixelRatioF()
        for i in range(self.list.count()):
            item = self.list.item(i)
            image = self._board.thumbnail(item.data(_ID), round(THUMBNAIL * ratio))
            if image.isNull():
                self._soon.start(SOON)
                continue
            item.setData(Qt.ItemDataRole.DecorationRole, _on_checks(image, ratio))
        self._filling = False

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.PaletteChange:
            for button in self.findChildren(ToolButton):
                button.retheme()
            self._soon_again()
        super().changeEvent(event)

    # ------------------------------------------------------------------ what is done

    def add(self) -> None:
        """Add a layer above the chosen one and choose it."""
        document, target = self._document, self._board.target
        if document is not None:
            self._try(lambda: self._board.set_target(document.add_layer(above=target or None).id))

    def duplicate(self) -> None:
        document, target = self._document, self._board.target
        if document is not None and target != MASK:
            self._try(lambda: self._board.set_target(document.duplicate_layer(target).id))

    def merge(self) -> None:
        document, target = self._document, self._board.target
        if document is None or target == MASK or not document.index(target):
            return
        below = document.layers[document.index(target) - 1].id
        self._try(lambda: document.merge_down(target))
        if any(it.id == below for it in document.layers):
            self._board.set_target(below if all(it.id != target for it in document.layers) else target)

    def flatten(self) -> None:
        document = self._document
        if document is not None:
            self._try(document.flatten)

    def lock(self) -> None:
        document, target = self._document, self._board.target
        if document is not None and target != MASK:
            document.set_locked(target, not document.layer(target).locked)

    def remove(self) -> None:
        """Delete the chosen layer and choose the one below it; for the mask, clear it."""
        document, target = self._document, self._board.target
        if document is None:
            return
        if target == MASK:
            self._board.clear_mask()
            return
        index = document.index(target)
        self._try(lambda: document.remove_layer(target))
        if all(it.id != target for it in document.layers):
            self._board.set_target(document.layers[max(0, index - 1)].id)

    def shift(self, by: int) -> None:
        """Move the chosen layer up or down."""
        document, target = self._document, self._board.target
        if document is not None and target != MASK:
            document.move_layer(target, document.index(target) + by)

    def drop(self, place: int) -> None:
        """The dragged row was let go before this row."""
        document, item = self._document, self.list.currentItem()
        if document is None or item is None or item.data(_ID) == MASK:
            return
        layers = len(document.layers)
        row_now = self.list.row(item)
        row_then = max(1, place) - (1 if place > row_now else 0)  # row 0 is the mask
        document.move_layer(item.data(_ID), layers - row_then)

    def toggle(self, id: int) -> None:
        """Show or hide a layer or the mask."""
        document = self._document
        if document is None:
            return
        if id == MASK:
            self._board.set_overlay(not self._board.overlay)
        else:
            document.set_visible(id, not document.layer(id).visible)

    def _chosen(self) -> None:
        item = self.list.currentItem()
        if not self._filling and item is not None:
            self._board.set_target(item.data(_ID))

    def _renamed(self, item: QListWidgetItem) -> None:
        document = self._document
        if self._filling or document is None or item.data(_ID) == MASK:
            return
        id, name = item.data(_ID), item.text()
        # the list is still in the middle of its own change
        QTimer.singleShot(0, self, lambda: self._rename(id, name))

    def _rename(self, id: int, name: str) -> None:
        document = self._document
        if document is not None and any(it.id == id for it in document.layers):
            document.rename_layer(id, name)
            self._fill()  # an empty name is not taken

    def _set_opacity(self, value: int) -> None:
        self.percent.setText(f"{value} %")
        document, target = self._document, self._board.target
        if not self._filling and document is not None and target != MASK:
            document.set_opacity(target, value / 100, go_on=True)

    def _set_blend(self, index: int) -> None:
        document, target = self._document, self._board.target
        if document is not None and target != MASK:
            document.set_blend(target, self.blend.itemData(index))

    def _try(self, do: Any) -> None:
        try:
            do()
        except ValueError as problem:
            self._board.refused.emit(str(problem))


def _on_checks(image: QImage, ratio: float) -> QPixmap:
    """A thumbnail in the middle of a square, over checks."""
    now, side = theme.current(), round(THUMBNAIL * ratio)
    made = QPixmap(side, side)
    made.fill(QColor(now.field))
    painter = QPainter(made)
    step = max(1, side // 6)
    for y in range(0, side, step):
        for x in range(0, side, step):
            if (x // step + y // step) % 2:
                painter.fillRect(x, y, step, step, QColor(now.field_hover))
    painter.drawImage(QPoint((side - image.width()) // 2, (side - image.height()) // 2), image)
    painter.end()
    made.setDevicePixelRatio(ratio)
    return made
