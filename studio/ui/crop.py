"""Choosing what stays of a picture by hand: a rectangle with handles over it, or moved by keys alone.

Knows pixels, the pointer and keys; knows nothing of works or recipes. Coordinates are px of the picture as it is shown,
turned and mirrored; `turned` and `unturned` lead from its own margins to those and back.
"""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QEvent, QPointF, QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFocusEvent, QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QPixmap
from PySide6.QtWidgets import QWidget

from studio.ui import theme
from studio.ui.strings import tr

GRIP = 14  # logical px, each side of an edge, so that 28 px can be grabbed
HANDLE = 10
INSET = 8  # room around the picture, so that handles at its edge can be seen
LEAST = 16  # px of the picture that stay at least

Margins = tuple[int, int, int, int]  # left, top, right, bottom
Edges = tuple[bool, bool, bool, bool]
_NONE: Edges = (False, False, False, False)
_ARROWS = {
    Qt.Key.Key_Left: (-1, 0),
    Qt.Key.Key_Right: (1, 0),
    Qt.Key.Key_Up: (0, -1),
    Qt.Key.Key_Down: (0, 1),
}


def turned(margins: Margins, quarters: int, flip: str) -> Margins:
    """Margins of a picture that is turned clockwise by so many quarters, then mirrored "across" or "down"."""
    left, top, right, bottom = margins
    for _ in range(quarters % 4):
        left, top, right, bottom = bottom, left, top, right
    if flip == "across":
        left, right = right, left
    elif flip == "down":
        top, bottom = bottom, top
    return left, top, right, bottom


def unturned(margins: Margins, quarters: int, flip: str) -> Margins:
    """The way back from `turned`."""
    return turned(turned(margins, 0, flip), -quarters, "none")


def pulled(
    box: QRectF, edges: Edges, by: QPointF, whole: QSize, ratio: float | None = None
) -> QRectF:  # fmt: skip
    """A rectangle some edges of which are pulled, or all of which is moved where none is named.

    Args:
        by: px. whole: the picture, beyond which it does not go. ratio: width to height that is kept, if any.
    """
    width, height = whole.width(), whole.height()
    least_wide, least_high = min(LEAST, width), min(LEAST, height)
    if not any(edges):
        x = min(max(0.0, box.x() + by.x()), width - box.width())
        y = min(max(0.0, box.y() + by.y()), height - box.height())
        return QRectF(x, y, box.width(), box.height())
    left, top, right, bottom = edges
    x0, y0, x1, y1 = box.left(), box.top(), box.right(), box.bottom()
    if left:
        x0 = min(max(0.0, x0 + by.x()), x1 - least_wide)
    if right:
        x1 = max(min(float(width), x1 + by.x()), x0 + least_wide)
    if top:
        y0 = min(max(0.0, y0 + by.y()), y1 - least_high)
    if bottom:
        y1 = max(min(float(height), y1 + by.y()), y0 + least_high)
    if ratio is None:
        return QRectF(QPointF(x0, y0), QPointF(x1, y1))
    # the larger of both pulls counts; the rest follows, as far as there is room
    wide, high = x1 - x0, y1 - y0
    wide = high * ratio if not (left or right) else wide if not (top or bottom) else max(wide, high * ratio)
    middle_x, middle_y = box.center().x(), box.center().y()
    room_x = x1 if left else width - x0 if right else float(width)
    room_y = y1 if top else height - y0 if bottom else float(height)
    wide = min(max(wide, least_wide, least_high * ratio), room_x, room_y * ratio)
    high = wide / ratio
    x = x1 - wide if left else x0 if right else min(max(0.0, middle_x - wide / 2), width - wide)
    y = y1 - high if top else y0 if bottom else min(max(0.0, middle_y - high / 2), height - high)
    return QRectF(x, y, wide, high)


def fitted(box: QRectF, ratio: float) -> QRectF:
    """The largest rectangle of this ratio in the middle of another one."""
    wide = min(box.width(), box.height() * ratio)
    made = QRectF(0, 0, wide, wide / ratio)
    made.moveCenter(box.center())
    return made


class CropView(QWidget):
    """A picture with a rectangle of what stays.

    Signals:
        cropped(): the rectangle was changed by hand; see `margins`.
    """

    cropped = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._image = QImage()
        self._fitted = QPixmap()
        self._whole = QSize()  # px of the picture
        self._margins: Margins = (0, 0, 0, 0)
        self._ratio: float | None = None
        self._active = False
        self._held: Edges | None = None
        self._from, self._began = QPointF(), QRectF()
        self._ring = False
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._describe()

    # -- what is shown

    def pixmap(self) -> QPixmap:
        """The picture as it is shown now, without the rectangle."""
        self._fit()
        return self._fitted

    def show_image(self, image: QImage) -> None:
        self._image, self._fitted = image, QPixmap()
        self.update()

    def set_active(self, active: bool) -> None:
        """Whether the rectangle is shown and can be pulled."""
        self._active, self._held = active, None
        self._ring = self._ring and active
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus if active else Qt.FocusPolicy.NoFocus)
        self.unsetCursor()
        self._describe()
        self.update()

    def set_whole(self, size: QSize, margins: Margins, *, on_its_side: bool = False) -> None:
        """How large the shown picture is, px, and what is cut off now.

        Args:
            on_its_side: it was turned by a quarter; a ratio that is kept turns with it.
        """
        if on_its_side and self._ratio is not None:
            self._ratio = 1 / self._ratio
        self._whole = size
        self._margins = margins
        self._describe()
        self.update()

    @property
    def margins(self) -> Margins:
        return self._margins

    @property
    def box(self) -> QRectF:
        """What stays, px."""
        left, top, right, bottom = self._margins
        return QRectF(left, top, self._whole.width() - left - right, self._whole.height() - top - bottom)

    def set_ratio(self, ratio: float | None) -> None:
        """Keep this ratio of width to height from now on; None keeps none. What stays is cut to it at once."""
        self._ratio = ratio
        if ratio is not None and self._is_usable():
            self._take(fitted(self.box, ratio))

    def swap(self) -> None:
        """Lay what stays over, from upright to lying or back; the ratio that is kept turns with it."""
        box = self.box
        if not self._is_usable():
            return
        wide, high = box.height(), box.width()
        scale = min(1.0, self._whole.width() / wide, self._whole.height() / high)
        made = QRectF(0, 0, wide * scale, high * scale)
        made.moveCenter(box.center())
        if self._ratio is not None:
            self._ratio = 1 / self._ratio
        self._take(pulled(made, _NONE, QPointF(), self._whole))

    def _is_usable(self) -> bool:
        return self._active and not self._whole.isEmpty() and self.box.width() > 0 and self.box.height() > 0

    def _take(self, box: QRectF) -> None:
        width, height = self._whole.width(), self._whole.height()
        left, top = min(max(0, round(box.left())), width - 1), min(max(0, round(box.top())), height - 1)
        right = min(max(left + 1, round(box.right())), width)
        bottom = min(max(top + 1, round(box.bottom())), height)
        margins = (left, top, width - right, height - bottom)
        if margins != self._margins:
            self._margins = margins
            self._describe()
            self.update()
            self.cropped.emit()

    def _describe(self) -> None:
        if not self._active:
            self.setAccessibleName(tr("How it will look"))
            self.setAccessibleDescription("")
            return
        box = self.box
        self.setAccessibleName(tr("What stays of the picture"))
        self.setAccessibleDescription(
            tr(
                "{w} by {h} px, from {x}, {y}. Arrows move it, with Shift they change its size, with Ctrl by 1 px.",
                w=round(box.width()), h=round(box.height()), x=round(box.x()), y=round(box.y()),
            )
        )  # fmt: skip

    # -- where things are

    def _target(self) -> QRectF:
        """Where the picture lies, logical px."""
        room = QRectF(self.rect()).adjusted(INSET, INSET, -INSET, -INSET)
        size = self._whole if self._active and not self._whole.isEmpty() else self._image.size()
        if size.isEmpty() or room.isEmpty():
            return QRectF()
        scale = min(room.width() / size.width(), room.height() / size.height())
        found = QRectF(0, 0, size.width() * scale, size.height() * scale)
        found.moveCenter(room.center())
        return found

    def _scale(self) -> float:
        """Logical px per px of the picture."""
        return self._target().width() / max(1, self._whole.width())

    def _on_screen(self) -> QRectF:
        target, scale, box = self._target(), self._scale(), self.box
        return QRectF(
            target.x() + box.x() * scale, target.y() + box.y() * scale, box.width() * scale, box.height() * scale
        )  # fmt: skip

    def _edges_at(self, place: QPointF) -> Edges | None:
        """Which edges a press would hold; none of them inside, where all is moved; None outside."""
        box = self._on_screen()
        if not self._is_usable() or not box.adjusted(-GRIP, -GRIP, GRIP, GRIP).contains(place):
            return None
        # of a very small rectangle the inside stays free, so that it can be moved
        grip_x, grip_y = (min(GRIP, max(3.0, it / 4)) for it in (box.width(), box.height()))
        return (
            place.x() <= box.left() + grip_x, place.y() <= box.top() + grip_y,
            place.x() >= box.right() - grip_x, place.y() >= box.bottom() - grip_y,
        )  # fmt: skip

    # -- the hand

    def mousePressEvent(self, event: QMouseEvent) -> None:
        edges = self._edges_at(event.position())
        if event.button() != Qt.MouseButton.LeftButton or edges is None:
            event.ignore()
            return
        self._ring = False
        self._held, self._from, self._began = edges, event.position(), self.box
        self._point(event.position())

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._held is not None:
            by = (event.position() - self._from) / self._scale()
            self._take(pulled(self._began, self._held, by, self._whole, self._ratio))
        self._point(event.position())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._held = None
        self._point(event.position())

    def _point(self, place: QPointF) -> None:
        edges = self._held if self._held is not None else self._edges_at(place)
        if edges is None:
            self.unsetCursor()
            return
        left, top, right, bottom = edges
        if (left or right) and (top or bottom):
            slants = (left and top) or (right and bottom)
            shape = Qt.CursorShape.SizeFDiagCursor if slants else Qt.CursorShape.SizeBDiagCursor
        elif left or right:
            shape = Qt.CursorShape.SizeHorCursor
        elif top or bottom:
            shape = Qt.CursorShape.SizeVerCursor
        else:
            shape = Qt.CursorShape.SizeAllCursor
        self.setCursor(shape)

    # -- keys

    def keyPressEvent(self, event: QKeyEvent) -> None:
        held = event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier
        shift, ctrl = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier
        way = _ARROWS.get(Qt.Key(event.key()))
        if way is None or held & ~(shift | ctrl) or not self._is_usable():
            super().keyPressEvent(event)
            return
        step = 1 if held & ctrl else max(1, round(4 / self._scale()))  # what can be seen, or one px
        by = QPointF(way[0] * step, way[1] * step)
        edges: Edges = (False, False, way[0] != 0, way[1] != 0) if held & shift else _NONE
        self._ring = True
        self._take(pulled(self.box, edges, by, self._whole, self._ratio))
        self.update()
        event.accept()

    def focusInEvent(self, event: QFocusEvent) -> None:
        self._ring = event.reason() not in (Qt.FocusReason.MouseFocusReason, Qt.FocusReason.ActiveWindowFocusReason)
        super().focusInEvent(event)
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.update()

    # -- painting

    def resizeEvent(self, event: Any) -> None:
        self._fitted = QPixmap()
        super().resizeEvent(event)

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.PaletteChange:
            self.update()
        super().changeEvent(event)

    def _fit(self) -> None:
        ratio, target = self.devicePixelRatioF(), self._target()
        if self._fitted.isNull() and not self._image.isNull() and not target.isEmpty():
            size = QSize(max(1, round(target.width() * ratio)), max(1, round(target.height() * ratio)))
            kinds = (Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation)
            self._fitted = QPixmap.fromImage(self._image.scaled(size, *kinds))
            self._fitted.setDevicePixelRatio(ratio)

    def paintEvent(self, event: QPaintEvent) -> None:
        now = theme.current()
        painter = QPainter(self)
        self._fit()
        target = self._target()
        if not self._fitted.isNull():
            painter.drawPixmap(target.topLeft().toPoint(), self._fitted)
        if self._is_usable():
            self._paint_box(painter, target)
        if self._ring and self.hasFocus():
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(QPen(QColor(now.accent), 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(1, 1, -1, -1), 4, 4)
        painter.end()

    def _paint_box(self, painter: QPainter, target: QRectF) -> None:
        box, around = self._on_screen().toRect(), target.toRect()
        shade = QColor(0, 0, 0, 150)
        for part in (
            QRect(around.left(), around.top(), around.width(), box.top() - around.top()),
            QRect(around.left(), box.bottom() + 1, around.width(), around.bottom() - box.bottom()),
            QRect(around.left(), box.top(), box.left() - around.left(), box.height()),
            QRect(box.right() + 1, box.top(), around.right() - box.right(), box.height()),
        ):
            if part.isValid():
                painter.fillRect(part, shade)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(QColor(255, 255, 255, 70), 1))
        for i in (1, 2):  # thirds, to place things by
            x, y = box.left() + box.width() * i // 3, box.top() + box.height() * i // 3
            painter.drawLine(x, box.top(), x, box.bottom())
            painter.drawLine(box.left(), y, box.right(), y)
        frame = box.adjusted(0, 0, -1, -1)
        painter.setPen(QPen(QColor(0, 0, 0, 200), 1))
        painter.drawRect(frame.adjusted(-1, -1, 1, 1))
        painter.setPen(QPen(QColor("#ffffff"), 1))
        painter.drawRect(frame)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor("#1d1f23"), 1.5))
        painter.setBrush(QColor("#ffffff"))
        middle = box.center()
        # handles in the middle only where they leave room between them
        across = (box.left(), middle.x(), box.right()) if box.width() > 6 * HANDLE else (box.left(), box.right())
        down = (box.top(), middle.y(), box.bottom()) if box.height() > 6 * HANDLE else (box.top(), box.bottom())
        for x in across:
            for y in down:
                if (x, y) != (middle.x(), middle.y()):
                    painter.drawRoundedRect(QRectF(x - HANDLE / 2, y - HANDLE / 2, HANDLE, HANDLE), 2, 2)
