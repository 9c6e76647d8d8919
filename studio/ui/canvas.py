"""The big picture area: one picture, a live preview, a grid, or two pictures compared.

Knows pixels, zoom and the pointer; knows nothing of works, files or jobs. What a press means beyond looking (drag out,
open, show a menu) is told by signals.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from PySide6.QtCore import QEvent, QLineF, QPoint, QPointF, QRect, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QBrush,
    QColor,
    QContextMenuEvent,
    QFocusEvent,
    QFont,
    QFontMetrics,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QNativeGestureEvent,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPen,
    QPixmap,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QApplication, QSizePolicy, QWidget

from studio.ui import theme
from studio.ui.strings import tr

# All in logical px.
MARGIN = 24  # around a fitted picture
CORNER = 8
GAP = 2 * theme.UNIT  # between the cells of a grid
PILL_INSET = 2 * theme.UNIT  # from the corner of the area
CAPTION_INSET = 12  # from the corner of the picture
PILL_HEIGHT = 26
SHADOW, SHADOW_DROP = 28, 6  # how far it reaches, how far it falls
GRIP = 14  # each side of the divider, so that 28 px can be grabbed
PAN_STEP = 64  # of an arrow key

ZOOM_LEAST, ZOOM_MOST = 0.05, 32.0
ZOOM_STOPS = (
    0.05, 0.07, 0.1, 0.15, 0.2, 0.25, 0.33, 0.5, 0.67, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0,
    32.0,
)  # fmt: skip
PIXELS_FROM = 8.0  # above this zoom pixels are drawn as squares
WHEEL_STEP = 1.25  # for one notch, 120 eighths of a degree
DIVIDER_STEP = 0.02
FLICKER = 600  # ms, each of two pictures in turn
LEAST_LEVEL = 256  # px, the longer side of the smallest half-size copy


class _Shows(enum.Enum):
    NOTHING = enum.auto()
    PICTURE = enum.auto()
    PREVIEW = enum.auto()
    GRID = enum.auto()


class _Drags(enum.Enum):
    NOTHING = enum.auto()
    PICTURE = enum.auto()  # pressed; becomes a drag out when it has moved far enough
    PAN = enum.auto()
    DIVIDER = enum.auto()


@dataclass(frozen=True)
class View:
    """Which part of the frame is seen, and how large."""

    fit: bool = True
    zoom: float = 1.0  # device px per px of the frame; means nothing while `fit`
    x: float = 0.5  # the point of the frame, 0…1, in the middle of the area
    y: float = 0.5


class _Layer:
    """A picture in a format that paints fast, its half-size copies, and its last fitted drawing."""

    def __init__(self, image: QImage) -> None:
        self.clear = image.hasAlphaChannel()
        kind = QImage.Format.Format_ARGB32_Premultiplied if self.clear else QImage.Format.Format_RGB32
        self.levels = [image.convertToFormat(kind)]
        self.size = image.size()
        self._fitted = QPixmap()
        self._fitted_for: tuple[int, int, float] | None = None

    def grow(self) -> bool:
        """Make one more half-size copy; False when there are enough."""
        last = self.levels[-1].size()
        if max(last.width(), last.height()) <= LEAST_LEVEL:
            return False
        self.levels.append(_scaled(self.levels[-1], QSize(max(1, last.width() // 2), max(1, last.height() // 2))))
        return True

    def level(self, width: float, height: float) -> QImage:
        """The smallest copy that is at least this large, in device px."""
        return next(
            (it for it in reversed(self.levels) if it.width() >= width and it.height() >= height), self.levels[0]
        )

    def fitted(self, size: QSize, corner: float, checks: QBrush) -> QPixmap:
        """The whole picture at this size with round corners, all in device px; made once and kept."""
        wanted = (size.width(), size.height(), corner)
        if self._fitted_for != wanted:
            small = _scaled(self.level(size.width(), size.height()), size)
            self._fitted = QPixmap(size)
            self._fitted.fill(Qt.GlobalColor.transparent)
            painter = QPainter(self._fitted)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(Qt.PenStyle.NoPen)
            for brush in [checks, QBrush(small)] if self.clear else [QBrush(small)]:
                painter.setBrush(brush)
                painter.drawRoundedRect(QRectF(0, 0, size.width(), size.height()), corner, corner)
            painter.end()
            self._fitted_for = wanted
        return self._fitted

    def forget(self) -> None:
        self._fitted, self._fitted_for = QPixmap(), None


class Canvas(QWidget):
    """The picture area of the image tab. Its contents margins keep room for what floats above it.

    Zoom 1.0 is one px of the picture on one device px. A fitted picture may be smaller or larger than the limits of the
    zoom; by hand it stays within 5 % and 3200 %, or what fits where that is beyond.

    Signals:
        zoom_changed(float, bool): the zoom, and whether it is the fitting one; also when the area changed its size.
        selected(int): the user chose a cell of the grid.
        opened(int): a cell that has a picture was double-clicked, or Enter was pressed on it.
        drag_started(): the picture (or the selected cell) is being dragged out.
        menu_wanted(QPoint): a menu is asked for at this global place.
    """

    zoom_changed = Signal(float, bool)
    selected = Signal(int)
    opened = Signal(int)
    drag_started = Signal()
    menu_wanted = Signal(QPoint)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("canvas")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self._shows = _Shows.NOTHING
        self._layer: _Layer | None = None  # the picture or the preview
        self._key = ""
        self._caption = ""
        self._frame = QSize()  # px of the picture being made
        self._view = View()
        self._told: tuple[float, bool] | None = None
        self._other: _Layer | None = None
        self._captions = ("", "")
        self._divider = 0.5  # 0…1 of what is seen of the frame
        self._cells: list[_Layer | None] = []
        self._selection = -1
        self._drags = _Drags.NOTHING
        self._pressed = QPointF()
        self._ring = False  # the focus came, or was used, with the keyboard
        self._shadow_tile: tuple[float, QPixmap] | None = None
        self._check_brush: tuple[float, QBrush] | None = None
        self._flickering = QTimer(self, interval=FLICKER)
        self._flickering.timeout.connect(lambda: self._divide(0.0 if self._divider > 0.5 else 1.0))
        self._growing = QTimer(self, interval=0, singleShot=True)
        self._growing.timeout.connect(self._grow)
        self.describe("")

    # ------------------------------------------------------------------ what is shown

    def clear(self) -> None:
        """Show nothing; the tab lays its empty state over the canvas."""
        self._show(_Shows.NOTHING, None)

    def show_picture(self, image: QImage, key: str = "", *, keep_view: bool = False) -> None:
        """Show one picture. RGB32 and ARGB32_Premultiplied need no conversion (60 ms at 4096×4096).

        Args:
            key: what the picture is; the same key as before keeps zoom, place and comparison, another one fits.
            keep_view: keep zoom and place whatever the key, so that the same part is seen at the same size.
        """
        if image.isNull():
            self.clear()
            return
        same = self._shows is _Shows.PICTURE and bool(key) and key == self._key
        before, view = self._natural(), self._view
        self._show(_Shows.PICTURE, _Layer(image), keep_other=same)
        self._key = key
        if (same or keep_view) and not before.isEmpty() and not view.fit:
            # a picture of another size (enlarged, say) is seen as large as the one before
            self._see(replace(view, zoom=view.zoom * before.width() / image.width()))
        else:
            self._see(View())

    def set_frame(self, width: int, height: int) -> None:
        """How large the picture will be that is being made, in px; previews fill this frame. 0, 0: as the preview."""
        self._frame = QSize(width, height)
        if self._shows is _Shows.PREVIEW:
            self._see(self._view)
        self.update()  # a grid of what is not there yet has this shape too

    def show_preview(self, image: QImage, caption: str = "") -> None:
        """Show how far a picture is. The caption stands in the top left corner, as plain text."""
        if image.isNull():
            return
        view = self._view if self._shows is _Shows.PREVIEW else View()
        self._show(_Shows.PREVIEW, _Layer(image))
        self._caption = caption
        self.setAccessibleDescription(caption)
        self._see(view)

    def show_grid(self, images: list[QImage | None], selected: int = -1) -> None:
        """Show pictures side by side; None is one that is not there yet. `selected` is -1 for no cell."""
        old = {cell.levels[0].cacheKey(): cell for cell in self._cells if cell is not None}  # keeps its copies
        cells = [None if it is None or it.isNull() else old.get(it.cacheKey()) or _Layer(it) for it in images]
        self._show(_Shows.GRID, None)
        self._cells = cells
        self._selection = selected if 0 <= selected < len(cells) else -1
        self._describe_cell()
        self._growing.start()

    def compare(self, other: QImage | None, left_caption: str = "", right_caption: str = "") -> None:
        """Lay another picture over the right half of the one shown, scaled to the same frame; None ends it."""
        if other is None or other.isNull() or self._shows is not _Shows.PICTURE:
            self._other, self._captions = None, ("", "")
            self._flickering.stop()
        else:
            if self._other is None:
                self._divider = 0.5
            self._other, self._captions = _Layer(other), (left_caption, right_caption)
            self._growing.start()
        self.setAccessibleDescription(
            tr("{left} on the left, {right} on the right", left=left_caption, right=right_caption)
            if self._other is not None and left_caption and right_caption
            else ""
        )
        self._drags = _Drags.NOTHING
        self._point()
        self.update()

    def flicker(self, on: bool) -> None:
        """While comparing: show the one picture and the other in turn, which lets small differences jump to the eye."""
        if on and self._other is not None:
            self._flickering.start()
        else:
            self._flickering.stop()
        if self._other is not None:
            self._divide(1.0 if on else 0.5)

    @property
    def flickering(self) -> bool:
        return self._flickering.isActive()

    @property
    def comparing(self) -> bool:
        return self._other is not None

    @property
    def selection(self) -> int:
        """The chosen cell of the grid, -1 for none."""
        return self._selection

    def describe(self, text: str) -> None:
        """Tell screen readers what is to be seen."""
        self.setAccessibleName(text or tr("Picture"))

    def _show(self, what: _Shows, layer: _Layer | None, *, keep_other: bool = False) -> None:
        self._shows, self._layer = what, layer
        self._key = self._caption = ""
        self._cells, self._selection = [], -1
        if not keep_other:
            self._other, self._captions = None, ("", "")
            self._flickering.stop()
            self.setAccessibleDescription("")
        if self._drags is not _Drags.PAN or what not in (_Shows.PICTURE, _Shows.PREVIEW):
            self._drags = _Drags.NOTHING
        if layer is None:
            self._told = None
        else:
            self._growing.start()
        self._point()
        self.update()

    def _grow(self) -> None:
        """Make one half-size copy while nothing else happens (25 ms for 4096×4096), so that painting never does."""
        if any(layer.grow() for layer in self._layers()):
            self._growing.start()
            self.update()

    def _layers(self) -> list[_Layer]:
        return [layer for layer in (self._layer, self._other, *self._cells) if layer is not None]

    # ------------------------------------------------------------------ zoom and place

    @property
    def zoom(self) -> float:
        """Device px per px of the picture."""
        return self._fit_zoom() if self._view.fit else self._view.zoom

    @property
    def is_fit(self) -> bool:
        return self._view.fit

    def zoom_in(self) -> None:
        self._zoom_to(next((z for z in ZOOM_STOPS if z > self.zoom * 1.01), self.zoom))

    def zoom_out(self) -> None:
        self._zoom_to(next((z for z in reversed(ZOOM_STOPS) if z < self.zoom * 0.99), self.zoom))

    def fit(self) -> None:
        if self._zooms():
            self._see(View())

    def actual_size(self) -> None:
        self._zoom_to(1.0)

    def _zooms(self) -> bool:
        return self._layer is not None

    def _natural(self) -> QSize:
        """The size of the frame, in px of the picture that fills it when it is ready."""
        if self._shows is _Shows.PREVIEW and not self._frame.isEmpty():
            return self._frame
        return self._layer.size if self._layer is not None else QSize()

    def _room(self) -> QRectF:
        return QRectF(self.contentsRect())

    def _fit_zoom(self) -> float:
        size, room = self._natural(), self._room()
        if size.isEmpty():
            return 1.0
        across = max(1.0, room.width() - 2 * MARGIN) / size.width()
        down = max(1.0, room.height() - 2 * MARGIN) / size.height()
        return min(across, down) * self.devicePixelRatioF()

    def _target(self, view: View | None = None) -> QRectF:
        """Where the whole frame lies, in logical px; most of it may be outside."""
        seen = view or self._view
        scale = (self._fit_zoom() if seen.fit else seen.zoom) / self.devicePixelRatioF()
        size, middle = self._natural(), self._room().center()
        width, height = size.width() * scale, size.height() * scale
        x, y = (0.5, 0.5) if seen.fit else (seen.x, seen.y)
        return QRectF(middle.x() - x * width, middle.y() - y * height, width, height)

    def _see(self, view: View) -> None:
        """Take another view, held within the limits, and tell."""
        if not self._zooms():
            return
        fitting = self._fit_zoom()
        if not view.fit:
            zoom = min(max(view.zoom, min(ZOOM_LEAST, fitting)), max(ZOOM_MOST, fitting))
            # An edge can be pulled in as far as it lies when fitted. This also lets every zoom around the pointer keep
            # the point under it, without a jump when it leaves the fitted state.
            slack = max(0.0, 1 - fitting / zoom) / 2
            x, y = (min(max(it, 0.5 - slack), 0.5 + slack) for it in (view.x, view.y))
            view = View(math.isclose(zoom, fitting, rel_tol=1e-6), zoom, x, y)
        self._view = view
        now = (self.zoom, view.fit)
        if now != self._told:
            self._told = now
            self.zoom_changed.emit(*now)
        self._point()
        self.update()

    def _zoom_to(self, zoom: float, around: QPointF | None = None) -> None:
        """Zoom so that the point of the picture at `around` (logical px; the middle if None) stays where it is."""
        if not self._zooms():
            return
        place, now = around or self._room().center(), self._target()
        zoom = min(max(zoom, min(ZOOM_LEAST, self._fit_zoom())), max(ZOOM_MOST, self._fit_zoom()))
        shrink = self.zoom / zoom
        middle = self._room().center()

        def moved(place: float, start: float, length: float, middle: float) -> float:
            point, centre = (place - start) / length, (middle - start) / length
            return point + (centre - point) * shrink

        self._see(
            View(
                False,
                zoom,
                moved(place.x(), now.x(), now.width(), middle.x()),
                moved(place.y(), now.y(), now.height(), middle.y()),
            )
        )

    def _pans(self) -> bool:
        return self._zooms() and not self._view.fit and self._view.zoom > self._fit_zoom()

    def _pan(self, by: QPointF) -> None:
        """Move the picture by so many logical px."""
        at = self._target()
        self._see(replace(self._view, x=self._view.x - by.x() / at.width(), y=self._view.y - by.y() / at.height()))

    def _toggle(self, around: QPointF) -> None:
        if self._view.fit:
            self._zoom_to(1.0, around)
        else:
            self.fit()

    # ------------------------------------------------------------------ grid and divider

    def _cell_rects(self) -> list[QRectF]:
        """Where each cell of the grid lies: as many columns as make the cells largest."""
        count = len(self._cells)
        if not count:
            return []
        first = next((cell.size for cell in self._cells if cell is not None), self._frame)
        wide, high = (1, 1) if first.isEmpty() else first.toTuple()
        room = self._room().adjusted(MARGIN, MARGIN, -MARGIN, -MARGIN)

        def scale(columns: int) -> float:
            rows = math.ceil(count / columns)
            across = (room.width() - GAP * (columns - 1)) / columns / wide
            return max(1e-6, min(across, (room.height() - GAP * (rows - 1)) / rows / high))

        columns = max(range(1, count + 1), key=lambda it: (scale(it), -it))
        rows = math.ceil(count / columns)
        width, height = wide * scale(columns), high * scale(columns)
        left = room.center().x() - (columns * width + (columns - 1) * GAP) / 2
        top = room.center().y() - (rows * height + (rows - 1) * GAP) / 2
        places = (divmod(i, columns) for i in range(count))
        return [QRectF(left + x * (width + GAP), top + y * (height + GAP), width, height) for y, x in places]

    def _columns(self) -> int:
        rects = self._cell_rects()
        return sum(math.isclose(rect.y(), rects[0].y(), abs_tol=0.5) for rect in rects)

    def _cell_at(self, place: QPointF) -> int:
        return next((i for i, rect in enumerate(self._cell_rects()) if rect.contains(place)), -1)

    def _select(self, index: int) -> None:
        if 0 <= index < len(self._cells) and index != self._selection:
            self._selection = index
            self._describe_cell()
            self.update()
            self.selected.emit(index)

    def _describe_cell(self) -> None:
        chosen, count = self._selection, len(self._cells)
        self.setAccessibleDescription(tr("Picture {n} of {count}", n=chosen + 1, count=count) if chosen >= 0 else "")

    def _open(self) -> None:
        if 0 <= self._selection < len(self._cells) and self._cells[self._selection] is not None:
            self.opened.emit(self._selection)

    def _seen(self) -> QRectF:
        """The part of the frame that is on screen, in logical px."""
        return self._target().intersected(QRectF(self.rect()))

    def _divider_x(self) -> float:
        seen = self._seen()
        return seen.x() + self._divider * seen.width()

    def _on_divider(self, place: QPointF) -> bool:
        seen = self._seen().adjusted(-GRIP, 0, GRIP, 0)
        return self._other is not None and seen.contains(place) and abs(place.x() - self._divider_x()) <= GRIP

    def _divide(self, share: float) -> None:
        self._divider = min(max(share, 0.0), 1.0)
        self.update()

    # ------------------------------------------------------------------ pointer and keys

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._use_ring(False)
        place, button = event.position(), event.button()
        if self._drags is not _Drags.NOTHING:
            return  # a second button while the first is held
        self._pressed = place
        if button == Qt.MouseButton.MiddleButton and self._zooms():
            self._drags = _Drags.PAN
        elif button == Qt.MouseButton.LeftButton:
            if self._shows is _Shows.GRID:
                cell = self._cell_at(place)
                self._select(cell)
                # who listens may have shown something else
                if self._shows is _Shows.GRID and 0 <= cell < len(self._cells) and self._cells[cell] is not None:
                    self._drags = _Drags.PICTURE
            elif self._on_divider(place):
                self._drags = _Drags.DIVIDER
            elif self._pans():
                self._drags = _Drags.PAN
            elif self._shows is _Shows.PICTURE and self._target().contains(place):
                self._drags = _Drags.PICTURE
        else:
            event.ignore()
        self._point(place)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        place = event.position()
        if self._drags is _Drags.PAN:
            self._pan(place - self._pressed)
            self._pressed = place
        elif self._drags is _Drags.DIVIDER:
            seen = self._seen()
            self._divide((place.x() - seen.x()) / max(1.0, seen.width()))
        elif self._drags is _Drags.PICTURE:
            if (place - self._pressed).manhattanLength() >= QApplication.startDragDistance():
                self._drags = _Drags.NOTHING  # before telling: the drag takes the release for itself
                self.drag_started.emit()
        else:
            self._point(place)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if not event.buttons():
            self._drags = _Drags.NOTHING
            self._point(event.position())

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        place = event.position()
        if event.button() != Qt.MouseButton.LeftButton:
            self.mousePressEvent(event)  # a quick second press of another button is one more press
        elif self._shows is _Shows.GRID:
            if self._cell_at(place) == self._selection:
                self._open()
        elif self._on_divider(place):
            self._divide(0.5)
        elif self._zooms():
            self._toggle(place)

    def wheelEvent(self, event: QWheelEvent) -> None:
        turned = event.angleDelta().y()
        if not self._zooms() or not turned:
            event.ignore()
            return
        self._zoom_to(self.zoom * WHEEL_STEP ** (turned / 120), event.position())
        event.accept()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        held = event.modifiers() & ~(Qt.KeyboardModifier.KeypadModifier | Qt.KeyboardModifier.ShiftModifier)
        used = not held and (self._grid_key(event) if self._shows is _Shows.GRID else self._picture_key(event))
        if used:
            self._use_ring(True)
            event.accept()
        else:
            event.ignore()

    def _grid_key(self, event: QKeyEvent) -> bool:
        if not self._cells:
            return False
        at, last, columns = self._selection, len(self._cells) - 1, self._columns()
        match event.key():
            case Qt.Key.Key_Return | Qt.Key.Key_Enter:
                self._open()
                return True
            case Qt.Key.Key_Left:
                to = at - 1
            case Qt.Key.Key_Right:
                to = at + 1
            case Qt.Key.Key_Up:
                to = at - columns
            case Qt.Key.Key_Down:  # into a last row that is not full: its end
                to = min(at + columns, last) if at // columns < last // columns else at
            case Qt.Key.Key_Home:
                to = 0
            case Qt.Key.Key_End:
                to = last
            case _:
                return False
        self._select(to if at >= 0 else 0)
        return True

    def _picture_key(self, event: QKeyEvent) -> bool:
        if not self._zooms():
            return False
        key, shift = event.key(), bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        sideways = {Qt.Key.Key_Left: 1, Qt.Key.Key_Right: -1}.get(Qt.Key(key), 0)
        upright = {Qt.Key.Key_Up: 1, Qt.Key.Key_Down: -1}.get(Qt.Key(key), 0)
        if key in (Qt.Key.Key_Plus, Qt.Key.Key_Equal):
            self.zoom_in()
        elif key in (Qt.Key.Key_Minus, Qt.Key.Key_Underscore):
            self.zoom_out()
        elif key == Qt.Key.Key_0:
            self.fit()
        elif key == Qt.Key.Key_1:
            self.actual_size()
        elif sideways and self._other is not None and not shift:
            self._divide(self._divider - sideways * DIVIDER_STEP)
        elif (sideways or upright) and self._pans():
            self._pan(QPointF(sideways * PAN_STEP, upright * PAN_STEP))
        else:
            return False  # an arrow that moves nothing here may mean something to the tab
        return True

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        if event.reason() == QContextMenuEvent.Reason.Mouse:
            if self._shows is _Shows.GRID:
                self._select(self._cell_at(QPointF(event.pos())))
            self.menu_wanted.emit(event.globalPos())
        else:
            spot = self._seen().center() if self._zooms() else self._room().center()
            if self._shows is _Shows.GRID and self._selection >= 0:
                spot = self._cell_rects()[self._selection].center()
            self.menu_wanted.emit(self.mapToGlobal(spot.toPoint()))
        event.accept()

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.NativeGesture and isinstance(event, QNativeGestureEvent) and self._zooms():
            if event.gestureType() == Qt.NativeGestureType.ZoomNativeGesture:
                self._zoom_to(self.zoom * max(0.1, 1 + event.value()), event.position())
                return True
            if event.gestureType() == Qt.NativeGestureType.SmartZoomNativeGesture:
                self._toggle(event.position())
                return True
        if event.type() == QEvent.Type.DevicePixelRatioChange:
            self._see(self._view)
            self.update()
        return super().event(event)

    def changeEvent(self, event: QEvent) -> None:
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange):
            self._shadow_tile = self._check_brush = None
            for layer in self._layers():
                if layer.clear:
                    layer.forget()  # the checks behind clear parts have other colours
            self.update()
        super().changeEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:  # new contents margins send one too
        self._see(self._view)
        super().resizeEvent(event)

    def focusInEvent(self, event: QFocusEvent) -> None:
        by_key = (Qt.FocusReason.TabFocusReason, Qt.FocusReason.BacktabFocusReason, Qt.FocusReason.ShortcutFocusReason)
        if event.reason() in by_key:
            self._ring = True
        super().focusInEvent(event)
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        # a window that comes back shows the ring as it left it
        if event.reason() not in (Qt.FocusReason.ActiveWindowFocusReason, Qt.FocusReason.PopupFocusReason):
            self._ring = False
        super().focusOutEvent(event)
        self.update()

    def _use_ring(self, on: bool) -> None:
        if self._ring is not on:
            self._ring = on
            self.update()

    def _point(self, place: QPointF | None = None) -> None:
        """Give the pointer the shape of what a press would do."""
        at = QPointF(self.mapFromGlobal(self.cursor().pos())) if place is None else place
        if self._drags is _Drags.PAN:
            shape = Qt.CursorShape.ClosedHandCursor
        elif self._drags is _Drags.DIVIDER or self._on_divider(at):
            shape = Qt.CursorShape.SplitHCursor
        elif self._pans():
            shape = Qt.CursorShape.OpenHandCursor
        else:
            shape = Qt.CursorShape.ArrowCursor
        if self.cursor().shape() != shape:
            self.setCursor(shape)

    def sizeHint(self) -> QSize:
        return QSize(640, 480)

    def minimumSizeHint(self) -> QSize:
        return QSize(160, 120)

    # ------------------------------------------------------------------ painting

    def paintEvent(self, event: QPaintEvent) -> None:
        now = theme.current()
        painter = QPainter(self)
        painter.fillRect(event.rect(), QColor(now.ground))
        if self._shows is _Shows.GRID:
            self._paint_grid(painter, now)
        elif self._layer is not None:
            self._paint_picture(painter, self._layer, now)
        if self._ring and self.hasFocus():
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(QPen(QColor(now.accent), 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(1, 1, -1, -1), 4, 4)
        painter.end()

    def _paint_picture(self, painter: QPainter, layer: _Layer, now: theme.Theme) -> None:
        seen, divider = self._seen(), self._divider_x()
        with self._in_pixels(painter) as ratio:
            target = _grid_aligned(_times(self._target(), ratio), self._view.fit)
            if self._view.fit:
                self._paint_shadow(painter, target.toRect(), ratio)
            if self._other is None:
                self._paint_layer(painter, layer, target, ratio)
            else:
                x = round(divider * ratio)
                whole = _times(QRectF(self.rect()), ratio).toAlignedRect()
                painter.setClipRect(QRect(whole.x(), whole.y(), x - whole.x(), whole.height()))
                self._paint_layer(painter, layer, target, ratio)
                painter.setClipRect(QRect(x, whole.y(), whole.right() + 1 - x, whole.height()))
                self._paint_layer(painter, self._other, target, ratio)
                painter.setClipping(False)
        if self._other is not None:
            self._paint_captions(painter, seen, divider, now)
            self._paint_divider(painter, seen, divider)
        if self._shows is _Shows.PREVIEW and self._caption:
            space = self.rect().adjusted(PILL_INSET, PILL_INSET, -PILL_INSET, 0)
            if QRect(space.x(), space.y(), space.width(), PILL_HEIGHT).intersects(seen.toRect()):
                space = seen.toRect().adjusted(CAPTION_INSET, CAPTION_INSET, -CAPTION_INSET, 0)  # not across its edge
            self._paint_pill(painter, space, self._caption, now)

    def _paint_layer(self, painter: QPainter, layer: _Layer, target: QRectF, ratio: float) -> None:
        """Draw a layer over the target, in device px; only what is seen of it."""
        if self._view.fit:
            whole = target.toRect()
            painter.drawPixmap(whole.topLeft(), layer.fitted(whole.size(), CORNER * ratio, self._checks(ratio)))
            return
        seen = target.intersected(_times(QRectF(self.rect()), ratio))
        if seen.isEmpty():
            return
        if layer.clear:
            painter.fillRect(seen.toAlignedRect().intersected(target.toRect()), self._checks(ratio))
        level = layer.level(target.width(), target.height())
        across, down = level.width() / target.width(), level.height() / target.height()
        # whole px of the source: a cut through one would shift the picture by parts of a px
        part = seen.translated(-target.topLeft())
        source = QRectF(part.x() * across, part.y() * down, part.width() * across, part.height() * down).toAlignedRect()
        source = source.adjusted(-1, -1, 1, 1).intersected(level.rect())  # so that smoothing finds its neighbours
        place = QRectF(
            target.x() + source.x() / across, target.y() + source.y() / down,
            source.width() / across, source.height() / down,
        )  # fmt: skip
        zoom = target.width() / layer.size.width()
        exact = abs(zoom - 1) < 1e-6
        smooth = self._shows is _Shows.PREVIEW or (zoom <= PIXELS_FROM and not exact)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, smooth)
        painter.drawImage(place, level, QRectF(source))

    def _paint_grid(self, painter: QPainter, now: theme.Theme) -> None:
        for index, (cell, rect) in enumerate(zip(self._cells, self._cell_rects(), strict=True)):
            shown = rect
            if cell is None:
                painter.setRenderHint(QPainter.RenderHint.Antialiasing)
                painter.setPen(QPen(QColor(now.line), 1.5))
                painter.setBrush(QColor(now.panel))
                painter.drawRoundedRect(rect.adjusted(0.75, 0.75, -0.75, -0.75), CORNER, CORNER)
            else:
                size = cell.size.toSizeF().scaled(rect.size(), Qt.AspectRatioMode.KeepAspectRatio)
                shown = QRectF(0, 0, size.width(), size.height())
                shown.moveCenter(rect.center())
                with self._in_pixels(painter) as ratio:
                    whole = _grid_aligned(_times(shown, ratio), True).toRect()
                    painter.drawPixmap(whole.topLeft(), cell.fitted(whole.size(), CORNER * ratio, self._checks(ratio)))
            if index == self._selection:
                painter.setRenderHint(QPainter.RenderHint.Antialiasing)
                painter.setPen(QPen(QColor(now.accent), 2))
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.drawRoundedRect(shown.adjusted(-4, -4, 4, 4), CORNER + 4, CORNER + 4)

    def _paint_divider(self, painter: QPainter, seen: QRectF, x: float) -> None:
        """A white line with a dark rim, so that it shows on any picture, and a grip."""
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        dark, light = QColor(0, 0, 0, 110), QColor("#ffffff")
        painter.setPen(Qt.PenStyle.NoPen)
        painter.fillRect(QRectF(x - 2, seen.y(), 4, seen.height()), dark)
        painter.fillRect(QRectF(x - 1, seen.y(), 2, seen.height()), light)
        middle = QPointF(x, seen.center().y())
        painter.setBrush(dark)
        painter.drawEllipse(middle, GRIP + 1, GRIP + 1)
        painter.setBrush(light)
        painter.drawEllipse(middle, GRIP, GRIP)
        painter.setPen(
            QPen(QColor("#1d1f23"), 1.75, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin)
        )
        for way in (-1, 1):
            tip = middle + QPointF(way * 8, 0)
            painter.drawLines([QLineF(tip, tip + QPointF(-way * 4, 4)), QLineF(tip, tip + QPointF(-way * 4, -4))])

    def _paint_captions(self, painter: QPainter, seen: QRectF, divider: float, now: theme.Theme) -> None:
        """Each on its side; the divider wipes over them as over the pictures."""
        inside = seen.toRect().adjusted(CAPTION_INSET, CAPTION_INSET, -CAPTION_INSET, 0)
        half = max(0, inside.width() // 2 - CAPTION_INSET)
        for text, side in zip(self._captions, (-1, 1), strict=True):
            if not text:
                continue
            space = QRect(inside)
            if side < 0:
                space.setWidth(half)
                clip = QRectF(seen.x(), seen.y(), divider - seen.x(), seen.height())
            else:
                space.setLeft(inside.right() + 1 - half)
                clip = QRectF(divider, seen.y(), seen.right() - divider, seen.height())
            painter.save()
            painter.setClipRect(clip)
            self._paint_pill(painter, space, text, now, right=side > 0)
            painter.restore()

    def _paint_pill(self, painter: QPainter, space: QRect, text: str, now: theme.Theme, *, right: bool = False) -> None:
        """A line of plain text on a round ground, at the upper left or right of a space."""
        font = QFont(self.font())
        font.setPixelSize(theme.NORMAL)
        metrics = QFontMetrics(font)
        shown = metrics.elidedText(" ".join(text.split()), Qt.TextElideMode.ElideRight, space.width() - PILL_HEIGHT)
        width = metrics.horizontalAdvance(shown) + PILL_HEIGHT
        if width > space.width():
            return
        left = space.right() + 1 - width if right else space.x()
        box = QRectF(left, space.y(), width, PILL_HEIGHT)
        outline = QPainterPath()
        outline.addRoundedRect(box.adjusted(0.5, 0.5, -0.5, -0.5), PILL_HEIGHT / 2, PILL_HEIGHT / 2)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.fillPath(outline, QColor(now.panel))
        painter.strokePath(outline, QPen(QColor(now.line), 1))
        painter.setFont(font)
        painter.setPen(QColor(now.text))
        painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextSingleLine), shown)

    def _paint_shadow(self, painter: QPainter, picture: QRect, ratio: float) -> None:
        """Draw a soft shadow around a picture, in device px: a small tile of it, whose edges are stretched."""
        if self._shadow_tile is None or self._shadow_tile[0] != ratio:
            self._shadow_tile = (ratio, _shadow(ratio, 90 if theme.current().name == "dark" else 45))
        tile = self._shadow_tile[1]
        reach, corner = round(SHADOW * ratio), (tile.width() - 1) // 2
        around = picture.translated(0, round(SHADOW_DROP * ratio)).adjusted(-reach, -reach, reach, reach)
        if around.width() < 2 * corner or around.height() < 2 * corner:
            return

        def parts(start: int, length: int) -> list[tuple[int, int]]:
            """Corner, edge, corner: where each begins and how long it is."""
            return [(start, corner), (start + corner, length - 2 * corner), (start + length - corner, corner)]

        across = list(zip(parts(around.x(), around.width()), parts(0, tile.width()), strict=True))
        down = list(zip(parts(around.y(), around.height()), parts(0, tile.height()), strict=True))
        for i, ((x, width), (from_x, from_width)) in enumerate(across):
            for j, ((y, height), (from_y, from_height)) in enumerate(down):
                if (i, j) != (1, 1):  # the middle is under the picture
                    source = QRect(from_x, from_y, from_width, from_height)
                    painter.drawPixmap(QRect(x, y, width, height), tile, source)

    def _checks(self, ratio: float) -> QBrush:
        """What is seen through clear parts of a picture, in device px."""
        if self._check_brush is None or self._check_brush[0] != ratio:
            now, side = theme.current(), round(theme.UNIT * ratio)
            tile = QPixmap(2 * side, 2 * side)
            tile.fill(QColor(now.field))
            painter = QPainter(tile)
            painter.fillRect(0, 0, side, side, QColor(now.field_hover))
            painter.fillRect(side, side, side, side, QColor(now.field_hover))
            painter.end()
            self._check_brush = (ratio, QBrush(tile))
        return self._check_brush[1]

    @contextmanager
    def _in_pixels(self, painter: QPainter) -> Iterator[float]:
        """Paint in device px, so that a px of the picture can be exactly one of the screen; gives their ratio."""
        ratio = self.devicePixelRatioF()
        painter.save()
        painter.scale(1 / ratio, 1 / ratio)
        yield ratio
        painter.restore()


def _scaled(image: QImage, size: QSize) -> QImage:
    return image.scaled(size, Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation)


def _times(rect: QRectF, ratio: float) -> QRectF:
    return QRectF(rect.x() * ratio, rect.y() * ratio, rect.width() * ratio, rect.height() * ratio)


def _grid_aligned(rect: QRectF, size: bool) -> QRectF:
    """The same rectangle beginning on a whole px; with `size` also of whole px."""
    width, height = (max(1, round(rect.width())), max(1, round(rect.height()))) if size else rect.size().toTuple()
    return QRectF(round(rect.x()), round(rect.y()), width, height)


def _shadow(ratio: float, darkest: int) -> QPixmap:
    """A tile with the four corners of a shadow and one px of each edge between them. `darkest`: 0…255, at the edge."""
    reach, round_by, drop = round(SHADOW * ratio), CORNER * ratio, round(SHADOW_DROP * ratio)
    side = 2 * (reach + math.ceil(round_by) + drop) + 1
    tile = QImage(side, side, QImage.Format.Format_ARGB32_Premultiplied)
    tile.fill(0)
    painter = QPainter(tile)
    painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_Source)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    for inset in range(reach + 1):  # each ring replaces what is within it
        painter.setBrush(QColor(0, 0, 0, round(darkest * (inset / reach) ** 2)))
        corner = round_by + reach - inset
        painter.drawRoundedRect(QRectF(inset, inset, side - 2 * inset, side - 2 * inset), corner, corner)
    painter.end()
    return QPixmap.fromImage(tile)
