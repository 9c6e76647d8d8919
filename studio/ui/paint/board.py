"""The place where a document is painted on: picture, mask, frame and brush under one hand, or under keys alone.

Knows pixels, the pointer and the keys; knows nothing of works, files or jobs. Zoom and place are those of the picture
area (`Canvas`). What was composed for the screen is kept, so that a stroke costs what it touches and moving the picture
costs the strip that comes into sight.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from PySide6.QtCore import QEvent, QPoint, QPointF, QRect, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QBrush,
    QColor,
    QContextMenuEvent,
    QFocusEvent,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QPointingDevice,
    QRegion,
    QTabletEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QWidget

from studio.ui import theme
from studio.ui.canvas import PAN_STEP, PIXELS_FROM, WHEEL_STEP, Canvas, View
from studio.ui.paint import edits, regions
from studio.ui.paint.chores import Chores
from studio.ui.paint.document import BLENDS, FRAME_STEP, MASK, Document, Layer, Locked
from studio.ui.paint.edits import Edit
from studio.ui.paint.pyramid import Pyramid, level_for
from studio.ui.paint.strokes import SIZE_LEAST, SIZE_MOST, Brush, Stroke
from studio.ui.strings import tr

# All in logical px.
GRIP = 14  # each side of an edge of the frame, so that 28 px can be grabbed
HANDLE = 10
CROSS = 6  # arms of the cross that marks a very small brush
KEEP_EVERY = 400  # ms; how often a stroke that rests is looked at
REFINE_AFTER = 90  # ms after the last turn of the wheel
AT_ONCE = 640_000  # px; on a smaller picture nothing takes long
UNPACKED_AT_ONCE = 4_000_000  # bytes; as much takes some 20 ms
ROOM_PER_FRAME = 2_000_000  # px of copies that are brought up to date before the window gets its turn
KEY_STEP = 0.25  # of the brush's size, for one press of an arrow

_Mode = QPainter.CompositionMode
_SMALLEST = 30  # a level beyond all
_TURNS = ("undo", "redo")
_TILES_APART = 40  # so many tiles of the mask are drawn one by one
_COLOUR, _GREY = QImage.Format.Format_ARGB32_Premultiplied, QImage.Format.Format_Alpha8
_CTRL, _SHIFT, _ALT = (
    Qt.KeyboardModifier.ControlModifier,
    Qt.KeyboardModifier.ShiftModifier,
    Qt.KeyboardModifier.AltModifier,
)
_NONE = Qt.KeyboardModifier.NoModifier


class Tool(enum.Enum):
    """What a press does. The value is the key that chooses it."""

    BRUSH = "B"
    ERASER = "E"
    FILL = "G"
    SELECT = "W"
    PICK = "I"
    MOVE = "V"
    FRAME = "C"
    HAND = "H"


TITLES = {
    Tool.BRUSH: "Brush",
    Tool.ERASER: "Eraser",
    Tool.FILL: "Fill",
    Tool.SELECT: "Select by colour",
    Tool.PICK: "Pick a colour",
    Tool.MOVE: "Move the layer",
    Tool.FRAME: "Frame: extend or crop",
    Tool.HAND: "Move the view",
}
_TOOL_KEYS = {getattr(Qt.Key, f"Key_{tool.value}"): tool for tool in Tool}
_CURSORS = {
    Tool.BRUSH: Qt.CursorShape.BlankCursor,
    Tool.ERASER: Qt.CursorShape.BlankCursor,
    Tool.FILL: Qt.CursorShape.CrossCursor,
    Tool.SELECT: Qt.CursorShape.CrossCursor,
    Tool.PICK: Qt.CursorShape.CrossCursor,
    Tool.MOVE: Qt.CursorShape.SizeAllCursor,
    Tool.FRAME: Qt.CursorShape.ArrowCursor,
    Tool.HAND: Qt.CursorShape.OpenHandCursor,
}
_ARROWS = {
    Qt.Key.Key_Left: (-1, 0),
    Qt.Key.Key_Right: (1, 0),
    Qt.Key.Key_Up: (0, -1),
    Qt.Key.Key_Down: (0, 1),
}


class _Hold(enum.Enum):
    """What the pressed button is doing."""

    NOTHING = enum.auto()
    PAN = enum.auto()
    STROKE = enum.auto()
    FRAME = enum.auto()
    LAYER = enum.auto()
    PICK = enum.auto()
    WAITING = enum.auto()  # a stroke, until what is being done has ended


@dataclass
class _Waiting:
    """A stroke that was begun while something else was being done; it is painted after that."""

    document: Document
    target: int
    brush: Brush
    places: list[tuple[float, float, float]] = field(default_factory=list)  # px of the document, and pressure
    ended: bool = False


@dataclass(frozen=True)
class _Place:
    """Where the document lies on the screen: device px of its corner, and device px per px."""

    x: int
    y: int
    zoom: float
    width: int  # of the widget, device px
    height: int
    ratio: float  # device px per logical px

    def to_screen(self, rect: QRectF) -> QRectF:
        """Device px."""
        z = self.zoom
        return QRectF(self.x + rect.x() * z, self.y + rect.y() * z, rect.width() * z, rect.height() * z)

    def to_document(self, at: QPointF) -> QPointF:
        """From logical px."""
        return QPointF((at.x() * self.ratio - self.x) / self.zoom, (at.y() * self.ratio - self.y) / self.zoom)

    def to_widget(self, at: QPointF) -> QPointF:
        """Logical px."""
        return QPointF((self.x + at.x() * self.zoom) / self.ratio, (self.y + at.y() * self.zoom) / self.ratio)


@dataclass
class _Flat:
    """A part of all that is seen in one picture, as large as a small copy: what is drawn while the zoom changes."""

    level: int
    rect: QRect  # px of that level
    image: QImage
    opaque: bool


class Board(Canvas):
    """Shows a document and lets it be painted on.

    Signals, beside `zoom_changed` of the picture area:
        changed(): anything of the document; may come often.
        mask_changed(bool): whether the mask is empty now.
        frame_changed(int, int, int, int): left, top, right, bottom, px beyond the picture; below 0 is inside.
        picked(QColor): a colour was picked; the brush has it already.
        tool_changed(): tool, brush, target or mode of work are others.
        refused(str): a sentence why something could not be done.
        busy_changed(): something that takes long was begun or has ended, see `busy`.
    """

    changed = Signal()
    mask_changed = Signal(bool)
    frame_changed = Signal(int, int, int, int)
    picked = Signal(QColor)
    tool_changed = Signal()
    refused = Signal(str)
    busy_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        self._document: Document | None = None
        self._tool, self._brush, self._target_id = Tool.BRUSH, Brush(), MASK
        self._tolerance, self._contiguous = 32, True
        self._overlay = True
        self._keyboard = False
        self._pen = QPointF()  # of the keyboard, px of the document
        self._hold = _Hold.NOTHING
        self._stroke: Stroke | None = None
        self._waits: _Waiting | None = None
        self._last: QPointF | None = None  # where the last stroke ended, px of the document
        self._line = False  # a straight line to the pointer is shown
        self._space = False
        self._hover: QPointF | None = None  # logical px
        self._painted_cursor = QRect()
        self._edges = (False, False, False, False)  # of the frame, that are held or pointed at
        self._from = QPointF()  # where the button was pressed, px of the document
        self._began: tuple[int, ...] = ()  # frame or layer's place at that time
        self._seen_frame = (0, 0, 0, 0)  # the frame that zoom and place go by; not that of a drag
        self._pyramids: dict[int, tuple[int, Pyramid]] = {}
        self._back = QImage()
        self._spare = QImage()
        self._scratch: dict[str, QImage] = {}
        self._placed: _Place | None = None  # what the kept picture was composed for
        self._stale = QRegion()  # device px
        self._flat: _Flat | None = None
        self._pattern: tuple[float, QBrush] | None = None
        super().__init__(parent)
        self._chores = Chores(self, lambda: self._hold in (_Hold.NOTHING, _Hold.WAITING, _Hold.PAN))
        self._chores.failed.connect(self.refused)
        self._chores.changed.connect(self._busy)
        self._refining = QTimer(self, interval=REFINE_AFTER, singleShot=True)
        self.setObjectName("board")
        self.setAttribute(Qt.WidgetAttribute.WA_TabletTracking)
        self._keeping = QTimer(self, interval=KEEP_EVERY)
        self._keeping.timeout.connect(self._keep)
        self._refining.timeout.connect(self._all_stale)
        self.describe("")

    # ------------------------------------------------------------------ what is shown

    @property
    def document(self) -> Document | None:
        return self._document

    def set_document(self, document: Document | None) -> None:
        """Show another document; None shows nothing. The old one stays open: whoever made it closes it."""
        self._let_go()
        self._chores.close()
        old = self._document
        if old is not None:
            for signal, slot in self._links(old):
                signal.disconnect(slot)
        self._document = document
        self._pyramids.clear()
        self._target_id = MASK
        self._last, self._stale, self._placed, self._flat = None, QRegion(), None, None
        if document is not None:
            for signal, slot in self._links(document):
                signal.connect(slot)
            self._seen_frame = document.frame
            self._pen = QPointF(document.width / 2, document.height / 2)
            self._see(View())
        self._describe_tool()
        self.update()
        self.tool_changed.emit()

    def _links(self, document: Document) -> list[tuple[Any, Any]]:
        return [
            (document.pixels_changed, self._pixels),
            (document.layers_changed, self._layers_changed),
            (document.size_changed, self._resized),
            (document.frame_changed, self._framed),
            (document.mask_changed, self.mask_changed),
            (document.history_changed, self.changed),
        ]

    def describe(self, text: str) -> None:
        self.setAccessibleName(text or tr("Picture to paint on"))

    @property
    def tool(self) -> Tool:
        return self._tool

    def set_tool(self, tool: Tool) -> None:
        if tool is not self._tool:
            self._let_go()
            self._tool = tool
            self._changed_tool()

    @property
    def brush(self) -> Brush:
        return self._brush

    def set_brush(self, brush: Brush) -> None:
        size = min(SIZE_MOST, max(SIZE_LEAST, brush.size))
        brush = replace(
            brush, size=size, hardness=_share(brush.hardness), opacity=_share(brush.opacity), flow=_share(brush.flow),
            erases=False,
        )  # fmt: skip
        if brush != self._brush:
            self._brush = brush
            self._changed_tool()

    @property
    def target(self) -> int:
        """What is painted on: MASK or a layer's id."""
        return self._target_id

    def set_target(self, target: int) -> None:
        if target != self._target_id:
            self._let_go()
            self._target_id = target
            self._changed_tool()

    @property
    def tolerance(self) -> int:
        """0…255, of fill and select by colour."""
        return self._tolerance

    def set_tolerance(self, tolerance: int) -> None:
        self._tolerance = min(255, max(0, tolerance))
        self.tool_changed.emit()

    @property
    def contiguous(self) -> bool:
        """Whether fill and select by colour take only what is connected."""
        return self._contiguous

    def set_contiguous(self, contiguous: bool) -> None:
        self._contiguous = contiguous
        self.tool_changed.emit()

    @property
    def overlay(self) -> bool:
        """Whether the mask is shown."""
        return self._overlay

    def set_overlay(self, shown: bool) -> None:
        self._overlay = shown
        self._all_stale()
        self.tool_changed.emit()

    @property
    def keyboard(self) -> bool:
        """Whether arrows move a pen and Space paints."""
        return self._keyboard

    def set_keyboard(self, on: bool) -> None:
        if on is self._keyboard:
            return
        self._let_go()
        self._keyboard = on
        if on and self._document is not None and not self._in_sight(self._pen):
            middle = self._here().to_document(self._room().center())
            self._pen = self._inside(middle)
        self._changed_tool()

    def swap(self) -> None:
        """From brush to eraser and back."""
        self.set_tool(Tool.BRUSH if self._tool is Tool.ERASER else Tool.ERASER)

    def undo(self) -> None:
        """Take back what was done last; what is still being done is given up instead."""
        self._let_go()
        if self.busy and self.busy not in _TURNS:
            self.stop()
        else:
            self._turn(forth=False)

    def redo(self) -> None:
        self._let_go()
        self._turn(forth=True)

    def _turn(self, *, forth: bool) -> None:
        """Go one step, after all that is being done: at once where little was changed."""
        document = self._document
        if document is None:
            return
        if self.busy or document.bytes_to_turn(forth=forth) > UNPACKED_AT_ONCE:
            what = "redo" if forth else "undo"
            self._chores.begin(what, document, lambda it, check: edits.unpack(it, document.history, check, forth=forth))
        elif forth:
            document.redo()
        else:
            document.undo()

    # ------------------------------------------------------------------ what takes long

    @property
    def busy(self) -> str:
        """The key (of `chores.TITLES`) of what is being done to the document; empty if nothing is."""
        return self._chores.what

    def work(self, what: str, edit: Edit) -> None:
        """Change the document: at once where it is small, otherwise on another thread, as one step in the end.

        Args:
            what: a key of `chores.TITLES`.
        """
        self._let_go()
        document = self._document
        if document is None:
            return
        if self.busy or document.width * document.height > AT_ONCE:
            self._chores.begin(what, document, edit)
        else:
            document.apply(edit(document.snapshot(), lambda: None))

    def colour_layer(self, *, masked: bool = False) -> None:
        """Give the chosen layer the colour of the brush, as a whole or where the mask is."""
        target, ink = self._target_id, self._ink()
        if self._may_change(target):
            self.work(
                "colour_masked" if masked else "colour",
                lambda it, check: edits.colour(it, target, ink, check, masked=masked),
            )

    def clear_layer(self) -> None:
        """Make the chosen layer see-through."""
        target = self._target_id
        if self._may_change(target):
            self.work("clear_layer", lambda it, check: edits.clear_layer(it, target, check))

    def _may_change(self, target: int) -> bool:
        """Whether a layer can be painted on; if not, it is said why."""
        layer = next((it for it in self._document.layers if it.id == target), None) if self._document else None
        if layer is not None and layer.locked:
            self.refused.emit(tr("The layer “{name}” is locked.", name=layer.name))
        return layer is not None and not layer.locked

    def _ink(self) -> QColor:
        colour = QColor.fromRgba(self._brush.colour)
        colour.setAlphaF(colour.alphaF() * self._brush.opacity)
        return colour

    def later(self, does: Callable[[], None]) -> None:
        """Call this when nothing is being done to the document any more: now, as a rule."""
        self._chores.later(does)

    def stop(self) -> None:
        """Give up what is being done. Strokes that wait for it are painted."""
        self._chores.stop()

    def clear_mask(self) -> None:
        self.work("clear", lambda it, check: edits.fill(it, 0, check))

    def _busy(self) -> None:
        self._point()
        self.update()
        self.busy_changed.emit()

    def _changed_tool(self) -> None:
        self._describe_tool()
        self._point()
        self._move_cursor()
        self.update()
        self.tool_changed.emit()

    def _describe_tool(self) -> None:
        """Tell screen readers what the hand holds."""
        document = self._document
        if document is None:
            self.setAccessibleDescription("")
            return
        on = tr("the mask")
        if self._target_id != MASK:
            on = next((it.name for it in document.layers if it.id == self._target_id), "")
        said = tr("{tool}, {n} px, on {on}", tool=tr(TITLES[self._tool]), n=f"{self._brush.size:g}", on=on)
        if self._keyboard:
            said += ". " + tr(
                "Arrows move the pen, Space paints, Enter puts it down or lifts it. It is at {x}, {y}.",
                x=round(self._pen.x()), y=round(self._pen.y()),
            )  # fmt: skip
        self.setAccessibleDescription(said)

    # ------------------------------------------------------------------ what the document tells

    def _pixels(self, id: int, rect: QRect) -> None:
        document = self._document
        if document is None:
            return
        if id == MASK:
            found = self._pyramids.get(MASK)
            if found is not None:
                found[1].touch(rect)
        elif id in self._pyramids:
            layer = next((it for it in document.layers if it.id == id), None)
            if layer is not None:
                self._pyramids[id][1].touch(rect.translated(-layer.x, -layer.y))
        self._stain(rect)

    def _stain(self, rect: QRect) -> None:
        """This part of the document has to be composed anew."""
        self._flat = None
        if self._placed is not None:
            self._stale += _around(self._placed, rect)
        here = self._here()
        part = _around(here, rect).intersected(QRect(0, 0, here.width, here.height))
        if not part.isEmpty():
            self.update(_logical(part, here.ratio))

    def _hurry(self) -> None:
        """While the zoom goes on changing the whole picture is drawn anew each time: quickly now, smoothly later."""
        if self._document is not None:
            self._refining.start()

    def _all_stale(self) -> None:
        self._placed = self._flat = None
        self.update()

    def _layers_changed(self) -> None:
        document = self._document
        if document is None:
            return
        self._flat = None
        known = {layer.id: layer.surface for layer in document.layers}
        for id in [it for it, (surface, _) in self._pyramids.items() if it != MASK and known.get(it) != surface]:
            del self._pyramids[id]
        if self._target_id != MASK and self._target_id not in known:
            self.set_target(document.layers[-1].id)
        self.changed.emit()

    def _resized(self) -> None:
        document = self._document
        if document is None:
            return
        self._pyramids.clear()
        self._seen_frame = document.frame
        self._last = None
        self._pen = self._inside(self._pen)
        self._placed = self._flat = None
        self._see(self._view)
        self.changed.emit()

    def _framed(self, left: int, top: int, right: int, bottom: int) -> None:
        if self._hold is not _Hold.FRAME:
            self._seen_frame = (left, top, right, bottom)
            self._see(self._view)
        self._all_stale()
        self.frame_changed.emit(left, top, right, bottom)
        self.changed.emit()

    # ------------------------------------------------------------------ zoom and place

    def _zooms(self) -> bool:
        return self._document is not None

    def _natural(self) -> QSize:
        document = self._document
        if document is None:
            return QSize()
        left, top, right, bottom = self._seen_frame
        return QSize(document.width + max(0, left) + max(0, right), document.height + max(0, top) + max(0, bottom))

    def _here(self) -> _Place:
        ratio, target = self.devicePixelRatioF(), self._target()
        zoom = self.zoom
        x = round(target.x() * ratio) + round(max(0, self._seen_frame[0]) * zoom)
        y = round(target.y() * ratio) + round(max(0, self._seen_frame[1]) * zoom)
        return _Place(x, y, zoom, math.ceil(self.width() * ratio), math.ceil(self.height() * ratio), ratio)

    def _in_sight(self, at: QPointF) -> bool:
        return self._room().contains(self._here().to_widget(at))

    def _inside(self, at: QPointF) -> QPointF:
        document = self._document
        if document is None:
            return QPointF()
        return QPointF(min(max(at.x(), 0.0), float(document.width)), min(max(at.y(), 0.0), float(document.height)))

    # ------------------------------------------------------------------ the hand

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._use_ring(False)
        if event.button() in (Qt.MouseButton.LeftButton, Qt.MouseButton.MiddleButton):
            self._press(event.position(), event.button(), event.modifiers(), 1.0)
        else:
            event.ignore()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self.mousePressEvent(event)  # a quick second dab is a dab

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self._move(event.position(), event.modifiers(), 1.0)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if not event.buttons():
            self._release(event.position())

    def tabletEvent(self, event: QTabletEvent) -> None:
        place, pressure = event.position(), event.pressure()
        if event.type() == QEvent.Type.TabletPress:
            erases = event.pointerType() == QPointingDevice.PointerType.Eraser
            self._press(place, event.button(), event.modifiers(), pressure, erases=erases)
        elif event.type() == QEvent.Type.TabletMove:
            self._move(place, event.modifiers(), pressure)
        else:
            self._release(place)
        event.accept()

    def wheelEvent(self, event: QWheelEvent) -> None:
        turned = event.angleDelta().y() or event.angleDelta().x()  # Alt makes it sideways
        if not self._zooms() or not turned or self._hold in (_Hold.STROKE, _Hold.WAITING):
            event.ignore()
            return
        self._hurry()
        self._zoom_to(self.zoom * WHEEL_STEP ** (turned / 120), event.position())
        self._move_cursor(event.position())
        event.accept()

    def _press(
        self,
        place: QPointF,
        button: Qt.MouseButton,
        held: Qt.KeyboardModifier,
        pressure: float,
        *,
        erases: bool = False,
    ) -> None:
        document = self._document
        if document is None or self._hold is not _Hold.NOTHING:
            return
        at = self._here().to_document(place)
        self._pressed, self._from = place, at
        if button == Qt.MouseButton.MiddleButton or self._space or self._tool is Tool.HAND:
            self._hold = _Hold.PAN
        elif button != Qt.MouseButton.LeftButton:
            return
        elif (held & _ALT and self._tool is not Tool.FRAME) or self._tool is Tool.PICK:
            self._hold = _Hold.PICK
            self._pick(at)
        elif self._tool in (Tool.BRUSH, Tool.ERASER):
            self._begin(at, pressure, line=bool(held & _SHIFT), erases=erases or self._tool is Tool.ERASER)
        elif self._tool is Tool.FRAME:
            self._edges = self._edges_at(place)
            if any(self._edges):
                self._hold, self._began = _Hold.FRAME, document.frame
        elif self._tool is Tool.MOVE:
            self._grab_layer()
        else:
            self._use(at)
        self._point(place)
        self._move_cursor(place)

    def _move(self, place: QPointF, held: Qt.KeyboardModifier, pressure: float) -> None:
        document = self._document
        if document is None:
            return
        at = self._here().to_document(place)
        if self._hold is _Hold.PAN:
            self._pan(place - self._pressed)
            self._pressed = place
        elif self._hold is _Hold.STROKE and self._stroke is not None:
            self._stroke.to(at.x(), at.y(), pressure)
            self._last = at
        elif self._hold is _Hold.WAITING and self._waits is not None:
            self._waits.places.append((at.x(), at.y(), pressure))
            self._last = at
        elif self._hold is _Hold.PICK:
            self._pick(at)
        elif self._hold is _Hold.FRAME:
            self._pull(at - self._from)
        elif self._hold is _Hold.LAYER:
            by = at - self._from
            document.place_layer(
                self._target_id, self._began[0] + round(by.x()), self._began[1] + round(by.y()), go_on=True
            )
        else:
            self._point(place)
        self._line = bool(held & _SHIFT) and self._hold is _Hold.NOTHING and self._last is not None
        self._move_cursor(place)

    def _release(self, place: QPointF) -> None:
        self._let_go()
        self._point(place)
        self._move_cursor(place)

    def release(self) -> None:
        """End a stroke or a drag that is going on, before something else is done with the document."""
        self._let_go()

    def _let_go(self) -> None:
        """End whatever the hand or the pen is doing."""
        hold, self._hold = self._hold, _Hold.NOTHING
        stroke, self._stroke = self._stroke, None
        waits, self._waits = self._waits, None
        if waits is not None:
            waits.ended = True
        if stroke is not None:
            self._keeping.stop()
            stroke.end()
            self.changed.emit()
        document = self._document
        if document is not None and hold is _Hold.FRAME:
            before = self._here()
            self._seen_frame = document.frame
            if not self._view.fit:
                self._hold_still(before)
            self._see(self._view)
            self._all_stale()

    def _hold_still(self, before: _Place) -> None:
        """Keep what is seen where it is, although the frame that places are told by has another size."""
        size, middle = self._natural(), self._room().center()
        left, top = (max(0, it) for it in self._seen_frame[:2])
        at = before.to_document(middle)
        self._view = View(False, before.zoom, (at.x() + left) / size.width(), (at.y() + top) / size.height())

    def _begin(self, at: QPointF, pressure: float, *, line: bool = False, erases: bool = False) -> None:
        document = self._document
        if document is None:
            return
        if self._target_id != MASK and not document.layer(self._target_id).visible:
            self.refused.emit(tr("The layer is hidden. Show it to paint on it."))
            return
        waits = _Waiting(document, self._target_id, replace(self._brush, erases=erases))
        if line and self._last is not None:
            waits.places.append((self._last.x(), self._last.y(), pressure))
        waits.places.append((at.x(), at.y(), pressure))
        self._last = at
        if self.busy:
            self._hold, self._waits = _Hold.WAITING, waits
        self._chores.later(lambda: self._paint(waits))

    def _paint(self, waits: _Waiting) -> None:
        """Paint a stroke as far as it has come; if the hand is still down it goes on."""
        if waits.document is not self._document:
            return
        if waits is self._waits:
            self._hold, self._waits = _Hold.NOTHING, None
        try:
            stroke = waits.document.begin_stroke(waits.target, waits.brush)
        except (Locked, KeyError) as problem:
            if isinstance(problem, Locked):
                self.refused.emit(str(problem))
            return
        for x, y, pressure in waits.places:
            stroke.to(x, y, pressure)
        if waits.ended:
            stroke.end()
            self.changed.emit()
            return
        self._hold, self._stroke = _Hold.STROKE, stroke
        self._keeping.start()

    def _keep(self) -> None:
        if self._stroke is not None:
            self._stroke.keep()

    def _grab_layer(self) -> None:
        document = self._document
        if document is None or self._target_id == MASK:
            self.refused.emit(tr("Choose a layer to move."))
            return
        layer = document.layer(self._target_id)
        if layer.locked:
            self.refused.emit(tr("The layer “{name}” is locked.", name=layer.name))
            return
        self._hold, self._began = _Hold.LAYER, (layer.x, layer.y)

    def _use(self, at: QPointF) -> None:
        """Fill or select at a place."""
        document = self._document
        if document is None:
            return
        px = QPoint(math.floor(at.x()), math.floor(at.y()))
        if not document.rect.contains(px):
            return
        tolerance, contiguous, target = self._tolerance, self._contiguous, self._target_id
        if self._tool is Tool.SELECT:
            self.work("select", lambda it, check: edits.select(it, px, tolerance, check, contiguous=contiguous))
        elif target == MASK:
            self.work("fill_mask", lambda it, check: edits.flood_mask(it, px, tolerance, check))
        elif self._may_change(target):
            colour = self._ink()
            self.work(
                "fill", lambda it, check: edits.flood(it, target, px, colour, tolerance, check, contiguous=contiguous)
            )  # fmt: skip

    def _pick(self, at: QPointF) -> None:
        document = self._document
        px = QPoint(math.floor(at.x()), math.floor(at.y()))
        if document is None or not document.rect.contains(px):
            return
        colour = document.colour_at(px.x(), px.y())
        if colour.alpha():
            colour.setAlpha(255)
            self.set_brush(replace(self._brush, colour=colour.rgba()))
            self.picked.emit(colour)

    # ------------------------------------------------------------------ the frame

    def _frame_on_screen(self) -> QRectF:
        """Logical px."""
        document = self._document
        if document is None:
            return QRectF()
        here = self._here()
        found = here.to_screen(QRectF(document.frame_rect))
        ratio = here.ratio
        return QRectF(found.x() / ratio, found.y() / ratio, found.width() / ratio, found.height() / ratio)

    def _edges_at(self, place: QPointF) -> tuple[bool, bool, bool, bool]:
        """Which edges of the frame a press would hold; two at a corner."""
        frame = self._frame_on_screen()
        if not frame.adjusted(-GRIP, -GRIP, GRIP, GRIP).contains(place):
            return (False, False, False, False)
        # of a very small frame the nearer edge
        left, right = abs(place.x() - frame.left()), abs(place.x() - frame.right())
        top, bottom = abs(place.y() - frame.top()), abs(place.y() - frame.bottom())
        return (
            left <= GRIP and left <= right, top <= GRIP and top <= bottom,
            right <= GRIP and right < left, bottom <= GRIP and bottom < top,
        )  # fmt: skip

    def _pull(self, by: QPointF) -> None:
        document = self._document
        if document is None:
            return
        left, top, right, bottom = self._began
        pulled = self._edges
        document.set_frame(
            left - round(by.x()) * pulled[0], top - round(by.y()) * pulled[1],
            right + round(by.x()) * pulled[2], bottom + round(by.y()) * pulled[3], go_on=True,
        )  # fmt: skip

    # ------------------------------------------------------------------ keys

    def event(self, event: QEvent) -> bool:
        # a shortcut of the window must not take a key that means something here
        if event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent) and self._means(event):
            event.accept()
            return True
        if event.type() == QEvent.Type.NativeGesture:  # a pinch; the picture area does it
            self._hurry()
        return super().event(event)

    def _means(self, event: QKeyEvent) -> bool:
        if self._document is None:
            return False
        key, held = Qt.Key(event.key()), event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier
        if held == _CTRL:
            return key in (Qt.Key.Key_Z, Qt.Key.Key_Y, Qt.Key.Key_I) or (self._keyboard and key in _ARROWS)
        if held == _CTRL | _SHIFT:
            return key == Qt.Key.Key_Z
        return held in (_NONE, _SHIFT) and (
            key in _TOOL_KEYS or key in _ARROWS or key in (
                Qt.Key.Key_X, Qt.Key.Key_K, Qt.Key.Key_M, Qt.Key.Key_Space, Qt.Key.Key_Delete, Qt.Key.Key_Backspace,
                Qt.Key.Key_BracketLeft, Qt.Key.Key_BracketRight, Qt.Key.Key_BraceLeft, Qt.Key.Key_BraceRight,
            )
            or (self._keyboard and key in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Escape))
            or ((self._stroke is not None or bool(self.busy)) and key == Qt.Key.Key_Escape)
        )  # fmt: skip

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if self._document is None:
            event.ignore()
        elif self._own_key(event) or self._view_key(event):
            if Qt.Key(event.key()) is not Qt.Key.Key_Space:
                self._use_ring(True)
            event.accept()
        else:
            event.ignore()

    def keyReleaseEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Space and not event.isAutoRepeat() and self._document is not None:
            if self._space:
                self._space = False
                self._point()
            elif self._keyboard and self._hold in (_Hold.STROKE, _Hold.WAITING):
                self._let_go()
            event.accept()
        elif event.key() == Qt.Key.Key_Shift:
            self._line = False
            self._move_cursor()
            event.ignore()
        else:
            super().keyReleaseEvent(event)

    def _view_key(self, event: QKeyEvent) -> bool:
        held = event.modifiers() & ~(Qt.KeyboardModifier.KeypadModifier | _SHIFT)
        return not held and self._picture_key(event)

    def _own_key(self, event: QKeyEvent) -> bool:
        document = self._document
        if document is None:
            return False
        key, held = Qt.Key(event.key()), event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier
        if held & _CTRL:
            if key == Qt.Key.Key_Z and held == _CTRL:
                self.undo()
            elif (key == Qt.Key.Key_Z and held == _CTRL | _SHIFT) or (key == Qt.Key.Key_Y and held == _CTRL):
                self.redo()
            elif key == Qt.Key.Key_I and held == _CTRL:
                self.work("invert", edits.invert)
            elif key in _ARROWS and self._keyboard:
                self._go(_ARROWS[key], 4.0)
            elif key in _ARROWS and self._tool is Tool.FRAME:
                self._push_frame(_ARROWS[key], 8, inwards=bool(held & _SHIFT))
            else:
                return False
            return True
        if held & ~_SHIFT:
            return False
        if key in (Qt.Key.Key_BraceLeft, Qt.Key.Key_BraceRight) or (
            held == _SHIFT and key in (Qt.Key.Key_BracketLeft, Qt.Key.Key_BracketRight)
        ):
            way = -1 if key in (Qt.Key.Key_BraceLeft, Qt.Key.Key_BracketLeft) else 1
            self.set_brush(replace(self._brush, hardness=round(self._brush.hardness + way * 0.1, 2)))
        elif key in (Qt.Key.Key_BracketLeft, Qt.Key.Key_BracketRight):
            self.set_brush(replace(self._brush, size=next_size(self._brush.size, key == Qt.Key.Key_BracketRight)))
        elif key in _ARROWS and self._keyboard:
            self._go(_ARROWS[key], 0.0 if held == _SHIFT else 1.0)
        elif key in _ARROWS and self._tool is Tool.FRAME:
            self._push_frame(_ARROWS[key], 1, inwards=held == _SHIFT)
        elif key in _ARROWS and self._tool is Tool.MOVE and self._target_id != MASK:
            self._nudge(_ARROWS[key], 10 if held == _SHIFT else 1)
        elif held:
            return False
        elif key in _TOOL_KEYS:
            self.set_tool(_TOOL_KEYS[key])
        elif key == Qt.Key.Key_X:
            self.swap()
        elif key == Qt.Key.Key_K:
            self.set_keyboard(not self._keyboard)
        elif key == Qt.Key.Key_M:
            self.set_overlay(not self._overlay)
        elif key in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self.clear_mask()
        elif key == Qt.Key.Key_Space:
            self._space_down(event.isAutoRepeat())
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self._keyboard:
            if self._hold in (_Hold.STROKE, _Hold.WAITING):
                self._let_go()
            else:
                self._act()
        elif key == Qt.Key.Key_Escape and self.busy:
            self.stop()
        elif key == Qt.Key.Key_Escape and self._hold is _Hold.STROKE:
            self._let_go()
            document.undo()
        elif key == Qt.Key.Key_Escape and self._keyboard:
            self.set_keyboard(False)
        else:
            return False
        return True

    def _space_down(self, again: bool) -> None:
        if again:
            return
        if self._keyboard:
            if self._hold is _Hold.NOTHING:
                self._act()
        elif self._hold is _Hold.NOTHING:
            self._space = True
            self._point()

    def _act(self) -> None:
        """What a press of the button at the pen would do."""
        if self._tool in (Tool.BRUSH, Tool.ERASER):
            self._begin(self._pen, 1.0, erases=self._tool is Tool.ERASER)
        elif self._tool is Tool.PICK:
            self._pick(self._pen)
        elif self._tool in (Tool.FILL, Tool.SELECT):
            self._use(self._pen)

    def _go(self, way: tuple[int, int], strides: float) -> None:
        """Move the pen; 0 strides is one px."""
        by = max(1.0, round(self._brush.size * KEY_STEP)) * strides or 1.0
        self._pen = self._inside(self._pen + QPointF(way[0] * by, way[1] * by))
        if self._stroke is not None:
            self._stroke.to(self._pen.x(), self._pen.y())
            self._last = self._pen
        elif self._waits is not None:
            self._waits.places.append((self._pen.x(), self._pen.y(), 1.0))
            self._last = self._pen
        if not self._in_sight(self._pen) and self._pans():
            self._pan(QPointF(-way[0] * PAN_STEP * 2, -way[1] * PAN_STEP * 2))
        self._describe_tool()
        self._move_cursor()

    def _push_frame(self, way: tuple[int, int], steps: int, *, inwards: bool) -> None:
        """An arrow pushes the edge on its side outwards, with Shift it pulls it in."""
        document = self._document
        if document is not None:
            frame = list(document.frame)
            frame[[(-1, 0), (0, -1), (1, 0), (0, 1)].index(way)] += FRAME_STEP * steps * (-1 if inwards else 1)
            document.set_frame(frame[0], frame[1], frame[2], frame[3], go_on=True)

    def _nudge(self, way: tuple[int, int], by: int) -> None:
        document = self._document
        if document is None:
            return
        layer = document.layer(self._target_id)
        try:
            document.place_layer(layer.id, layer.x + way[0] * by, layer.y + way[1] * by, go_on=True)
        except Locked as problem:
            self.refused.emit(str(problem))

    # ------------------------------------------------------------------ pointer and focus

    def enterEvent(self, event: Any) -> None:
        super().enterEvent(event)
        self._move_cursor(event.position())

    def leaveEvent(self, event: QEvent) -> None:
        self._hover = None
        self._move_cursor()
        super().leaveEvent(event)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        self._space = False
        if self._keyboard:
            self._let_go()
        super().focusOutEvent(event)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        self.menu_wanted.emit(event.globalPos())
        event.accept()

    def _point(self, place: QPointF | None = None) -> None:
        if self._document is None:
            shape = Qt.CursorShape.ArrowCursor
        elif self._hold is _Hold.PAN:
            shape = Qt.CursorShape.ClosedHandCursor
        elif self._space:
            shape = Qt.CursorShape.OpenHandCursor
        elif self._chores.title:
            shape = Qt.CursorShape.BusyCursor
        elif self._tool is Tool.FRAME:
            at = QPointF(self.mapFromGlobal(self.cursor().pos())) if place is None else place
            left, top, right, bottom = self._edges if self._hold is _Hold.FRAME else self._edges_at(at)
            shapes = {
                (True, True): Qt.CursorShape.SizeFDiagCursor if (left, top) in ((True, True), (False, False))
                else Qt.CursorShape.SizeBDiagCursor,
                (True, False): Qt.CursorShape.SizeHorCursor,
                (False, True): Qt.CursorShape.SizeVerCursor,
            }  # fmt: skip
            shape = shapes.get((left or right, top or bottom), Qt.CursorShape.ArrowCursor)
        else:
            shape = _CURSORS[self._tool]
        if self.cursor().shape() != shape:
            self.setCursor(shape)

    def _move_cursor(self, place: QPointF | None = None) -> None:
        """Have the brush's outline painted where it is now, and what it leaves."""
        if place is not None:
            self._hover = place
        around = self._cursor_rect()
        for rect in (self._painted_cursor, around):
            if not rect.isEmpty():
                self.update(rect)
        self._painted_cursor = around

    def _cursor_at(self) -> QPointF | None:
        """Where the outline is painted, logical px."""
        if self._document is None:
            return None
        if self._keyboard:
            return self._here().to_widget(self._pen)
        if self._space or self._hold is _Hold.PAN or self._tool not in (Tool.BRUSH, Tool.ERASER):
            return None
        return self._hover

    def _cursor_rect(self) -> QRect:
        at = self._cursor_at()
        if at is None:
            return QRect()
        reach = max(self._radius(), CROSS + 2.0) + 3
        around = QRectF(at.x() - reach, at.y() - reach, 2 * reach, 2 * reach)
        if self._line and self._last is not None:
            around = around.united(QRectF(at, self._here().to_widget(self._last)).normalized().adjusted(-3, -3, 3, 3))
        return around.toAlignedRect().intersected(self.rect())

    def _radius(self) -> float:
        """Of the brush on the screen, logical px."""
        return self._brush.size / 2 * self.zoom / self.devicePixelRatioF()

    # ------------------------------------------------------------------ composing

    def changeEvent(self, event: QEvent) -> None:
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange):
            self._placed = None
        super().changeEvent(event)

    def _pyramid(self, layer: Layer | None) -> Pyramid:
        id, surface = (layer.id, layer.surface) if layer is not None else (MASK, 0)
        found = self._pyramids.get(id)
        if found is None or found[0] != surface:
            document = self._document
            assert document is not None
            if layer is None:
                made = Pyramid(lambda: document.mask)
            else:
                there = layer
                made = Pyramid(lambda: there.image)
            found = self._pyramids[id] = (surface, made)
        return found[1]

    def thumbnail(self, target: int, side: int) -> QImage:
        """A small picture of a layer, or of the mask as white on black; at most `side` px long.

        A null one where it takes more than a moment: then it is to be asked for again.
        """
        document = self._document
        assert document is not None
        layer = document.layer(target) if target != MASK else None
        whole = layer.image.size() if layer is not None else document.rect.size()
        zoom = side / max(1, whole.width(), whole.height())
        level = level_for(zoom) if zoom < 1 else 0
        if self._pyramid(layer).bring(level, ROOM_PER_FRAME) < 0:
            return QImage()
        image, _ = self._pyramid(layer).level(level)
        if layer is None:
            image = image.copy()
            image.reinterpretAsFormat(QImage.Format.Format_Grayscale8)
        kinds = (Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation)
        return image.scaled(side, side, *kinds)

    def _bring(self, here: _Place) -> bool:
        """Bring the small copies that are needed up to date, a part of them at a time. False if there is more to do."""
        document = self._document
        if document is None:
            return True
        room = ROOM_PER_FRAME
        seen: list[Layer | None] = [it for it in document.layers if it.visible and it.opacity > 0]
        if self._overlay and not document.is_empty_mask():
            seen.append(None)
        for layer in seen:
            room = self._pyramid(layer).bring(self._level(here, layer), room)
            if room < 0:
                return False
        return True

    def _level(self, here: _Place, layer: Layer | None) -> int:
        """Which small copy of a layer, or of the mask, is drawn."""
        # in a hurry, and for the mask (no detail to lose): the copy whose px are nearest to those of the screen
        rough = layer is None or self._refining.isActive()
        return level_for(min(1.0, here.zoom) / math.sqrt(2) if rough else here.zoom)

    def _refresh(self) -> None:
        """Bring the kept picture of the screen up to date. Where that takes long it is done bit by bit, and what was
        there stays to be seen meanwhile."""
        here = self._here()
        if not self._bring(here):
            QTimer.singleShot(0, self, self.update)
            return
        whole = QRect(0, 0, here.width, here.height)
        old = self._placed
        if self._back.size() != whole.size():
            self._back = QImage(whole.size(), QImage.Format.Format_RGB32)
            self._spare, self._scratch = QImage(), {}
            old = None
        if old is None or replace(old, x=here.x, y=here.y) != here:
            self._stale = QRegion(whole)
        elif (old.x, old.y) != (here.x, here.y):
            dx, dy = here.x - old.x, here.y - old.y
            if self._spare.size() != whole.size():
                self._spare = QImage(whole.size(), QImage.Format.Format_RGB32)
            painter = QPainter(self._spare)
            painter.setCompositionMode(_Mode.CompositionMode_Source)
            painter.drawImage(dx, dy, self._back)
            painter.end()
            self._back, self._spare = self._spare, self._back
            self._stale.translate(dx, dy)
            self._stale += QRegion(whole).subtracted(QRegion(whole.translated(dx, dy)))
        self._placed = here
        stale = self._stale.intersected(whole)
        self._stale = QRegion()
        if stale.isEmpty():
            return
        parts = _rects(stale)
        if len(parts) > 8:
            parts = [stale.boundingRect()]
        for part in parts:
            self._compose(here, part)

    def _compose(self, here: _Place, part: QRect) -> None:
        """Paint a part of the screen (device px) without what lies above the picture."""
        document, now = self._document, theme.current()
        painter = QPainter(self._back)
        painter.setCompositionMode(_Mode.CompositionMode_Source)
        lies = here.to_screen(QRectF(document.rect)).toRect() if document is not None else QRect()
        seen = lies.intersected(part)
        bare = QRegion(part).subtracted(QRegion(seen))
        for rect in _rects(bare):
            painter.fillRect(rect, QColor(now.ground))
        if document is None:
            painter.end()
            return
        beyond = here.to_screen(QRectF(document.frame_rect)).toAlignedRect()
        for rect in _rects(bare.intersected(beyond)):
            painter.fillRect(rect, QColor(now.field_hover))
        painter.setCompositionMode(_Mode.CompositionMode_SourceOver)
        if not seen.isEmpty() and self._refining.isActive() and here.zoom < PIXELS_FROM:
            painter.setClipRect(seen)
            self._draw_quickly(painter, here, seen)
        elif not seen.isEmpty():
            painter.setClipRect(seen)
            checks = self._checks(here.ratio)
            painter.setBrushOrigin(here.x, here.y)
            painter.fillRect(seen, checks)
            layers = [it for it in document.layers if it.visible and it.opacity > 0]
            area = QRectF(seen)
            if len(layers) == 1 and layers[0].blend == "normal":
                painter.setOpacity(layers[0].opacity)
                self._draw(painter, here, layers[0], area)
                painter.setOpacity(1.0)
            elif layers:
                group = self._cleared("group", seen)
                inner = QPainter(group)
                inner.setClipRect(seen)
                for layer in layers:
                    inner.setOpacity(layer.opacity)
                    inner.setCompositionMode(BLENDS[layer.blend][0])
                    self._draw(inner, here, layer, area)
                inner.end()
                painter.drawImage(seen.topLeft(), group, seen)
            if self._overlay:
                for rect in _rects(self._masked(here, seen)):
                    self._veil(painter, here, rect)
        painter.end()

    def _draw_quickly(self, painter: QPainter, here: _Place, seen: QRect) -> None:
        """Draw layers and mask out of one picture, without smoothing."""
        level, flat = self._level(here, None), self._flat
        # one half or twice as fine will do for the moment: it is drawn well when the wheel has come to rest
        if (
            flat is not None
            and abs(flat.level - level) <= 1
            and flat.rect.contains(self._under(here, seen, flat.level))
        ):
            level = flat.level
        around = self._under(here, seen, level)
        flat = self._flattened(level, around)
        if flat is None:
            return
        step = here.zoom * (1 << level)  # device px per px of it
        source = around.intersected(flat.rect)
        place = QRectF(
            here.x + source.x() * step, here.y + source.y() * step, source.width() * step, source.height() * step
        )
        if flat.opaque:
            painter.setCompositionMode(_Mode.CompositionMode_Source)
        else:
            painter.setBrushOrigin(here.x, here.y)
            painter.fillRect(seen, self._checks(here.ratio))
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, False)
        painter.drawImage(place, flat.image, QRectF(source.translated(-flat.rect.topLeft())))

    def _under(self, here: _Place, seen: QRect, level: int) -> QRect:
        """The part of the small copies that lies under a part of the screen."""
        step = here.zoom * (1 << level)
        around = QRect(
            QPoint(math.floor((seen.left() - here.x) / step) - 1, math.floor((seen.top() - here.y) / step) - 1),
            QPoint(math.ceil((seen.right() - here.x) / step) + 1, math.ceil((seen.bottom() - here.y) / step) + 1),
        )
        return around.intersected(self._whole_of(level))

    def _whole_of(self, level: int) -> QRect:
        document = self._document
        assert document is not None
        return QRect(0, 0, -(-document.width >> level), -(-document.height >> level))

    def _flattened(self, level: int, around: QRect) -> _Flat | None:
        """All that is seen in a part of the document, as large as the small copies; kept until something changes."""
        flat = self._flat
        whole = self._whole_of(level)
        if around.isEmpty():
            return None
        if flat is not None and flat.level == level and flat.rect.contains(around):
            return flat
        # somewhat more than is seen, so that not each turn of the wheel has to add to it
        dx, dy = around.width() // 10, around.height() // 10
        rect = around.adjusted(-dx, -dy, dx, dy).intersected(whole)
        missing, opaque = QRegion(rect), self._is_opaque()
        made = QImage(rect.size(), _COLOUR)
        if flat is not None and flat.level == level and flat.rect.intersects(rect):
            painter = QPainter(made)
            painter.setCompositionMode(_Mode.CompositionMode_Source)
            painter.drawImage(flat.rect.topLeft() - rect.topLeft(), flat.image)
            painter.end()
            missing = missing.subtracted(QRegion(flat.rect))
        for part in _rects(missing):
            self._flatten(made, level, part, part.topLeft() - rect.topLeft())
        if opaque:
            made.reinterpretAsFormat(QImage.Format.Format_RGB32)
        self._flat = _Flat(level, rect, made, opaque)
        return self._flat

    def _is_opaque(self) -> bool:
        """Whether there is a layer through which nothing can be seen."""
        document = self._document
        assert document is not None
        for layer in document.layers:
            if layer.visible and layer.opacity >= 1 and layer.blend == "normal" and layer.rect.contains(document.rect):
                smallest, _ = self._pyramid(layer).level(_SMALLEST)
                grey = smallest.convertToFormat(_GREY)
                if grey.pixelColor(0, 0).alpha() == 255 and regions.is_plain(grey):
                    return True
        return False

    def _flatten(self, made: QImage, level: int, part: QRect, at: QPoint) -> None:
        """Draw all that is seen in a part of the document, as large as its small copies, at a place of a picture."""
        document = self._document
        assert document is not None
        painter = QPainter(made)
        painter.translate(at - part.topLeft())
        painter.setClipRect(part)
        painter.setCompositionMode(_Mode.CompositionMode_Source)
        painter.fillRect(part, Qt.GlobalColor.transparent)
        scale = 1 << level
        for layer in document.layers:
            if layer.visible and layer.opacity > 0:
                image, deep = self._pyramid(layer).level(level)
                painter.setOpacity(layer.opacity)
                painter.setCompositionMode(BLENDS[layer.blend][0])
                if deep == level:
                    painter.drawImage(round(layer.x / scale), round(layer.y / scale), image)
                else:  # a layer so small that there is no smaller copy
                    size = QRectF(0, 0, layer.image.width() / scale, layer.image.height() / scale)
                    painter.drawImage(size.translated(layer.x / scale, layer.y / scale), image)
        painter.setOpacity(1.0)
        painter.setCompositionMode(_Mode.CompositionMode_SourceOver)
        tiles = document.masked_tiles(QRect(part.topLeft() * scale, part.size() * scale)) if self._overlay else []
        around = QRect()
        for tile in tiles:
            around = around.united(QRect(tile.topLeft() / scale, tile.size() / scale).adjusted(-1, -1, 1, 1))
        around = around.intersected(part)
        if not around.isEmpty():
            painter.drawImage(around.topLeft(), self._small_veil(level, around))
        painter.end()

    def _small_veil(self, level: int, part: QRect) -> QImage:
        """What covers the mask, as large as its small copies."""
        veil = QImage(part.size(), _COLOUR)
        inner = QPainter(veil)
        inner.setCompositionMode(_Mode.CompositionMode_Source)
        inner.translate(-part.topLeft())
        inner.fillRect(part, self._hatch(self.devicePixelRatioF()))
        inner.setCompositionMode(_Mode.CompositionMode_DestinationIn)
        mask, deep = self._pyramid(None).level(level)
        more = 1 << (level - deep)
        source = QRect(part.topLeft() * more, part.size() * more)
        inner.drawImage(part, mask.copy(source).convertToFormat(_COLOUR))
        inner.end()
        return veil

    def _masked(self, here: _Place, seen: QRect) -> QRegion:
        """The part of what is seen, in device px, where there may be something of the mask."""
        document = self._document
        assert document is not None
        tiles = document.masked_tiles(_back_to(here, seen))
        if len(tiles) > _TILES_APART:
            whole = QRect()
            for tile in tiles:
                whole = whole.united(tile)
            tiles = [whole]
        region = QRegion()
        for tile in tiles:
            region += _around(here, tile)
        return region.intersected(seen)

    def _veil(self, painter: QPainter, here: _Place, part: QRect) -> None:
        """Lay the colour of the mask over a part of the picture."""
        veil = self._buffer("veil")
        inner = QPainter(veil)
        inner.setClipRect(part)
        inner.setCompositionMode(_Mode.CompositionMode_Source)
        inner.setBrushOrigin(here.x, here.y)
        inner.fillRect(part, self._hatch(here.ratio))
        inner.setCompositionMode(_Mode.CompositionMode_DestinationIn)
        self._draw(inner, here, None, QRectF(part))
        inner.end()
        painter.drawImage(part.topLeft(), veil, part)

    def _buffer(self, name: str) -> QImage:
        """A picture as large as the screen's, to compose in; what is in it is left from before."""
        made = self._scratch.get(name)
        if made is None or made.size() != self._back.size():
            made = self._scratch[name] = QImage(self._back.size(), _COLOUR)
        return made

    def _cleared(self, name: str, part: QRect) -> QImage:
        """The same, clear in this part."""
        made = self._buffer(name)
        painter = QPainter(made)
        painter.setCompositionMode(_Mode.CompositionMode_Source)
        painter.fillRect(part, Qt.GlobalColor.transparent)
        painter.end()
        return made

    def _draw(self, painter: QPainter, here: _Place, layer: Layer | None, area: QRectF) -> None:
        """Draw what is seen of a layer, or of the mask, in device px."""
        image, level = self._pyramid(layer).level(self._level(here, layer))
        step = here.zoom * (1 << level)  # device px per px of this copy
        x = here.x + (layer.x if layer is not None else 0) * here.zoom
        y = here.y + (layer.y if layer is not None else 0) * here.zoom
        exact = math.isclose(step, 1.0, rel_tol=1e-9)
        left, top = math.floor((area.left() - x) / step) - 1, math.floor((area.top() - y) / step) - 1
        right, bottom = math.ceil((area.right() - x) / step) + 1, math.ceil((area.bottom() - y) / step) + 1
        source = QRect(left, top, right - left, bottom - top).intersected(image.rect())
        if source.isEmpty():
            return
        if image.format() == _GREY:  # composing is several times as fast on colours
            image, shift = image.copy(source).convertToFormat(_COLOUR), source.topLeft()
            x, y = x + shift.x() * step, y + shift.y() * step
            source = image.rect()
        if exact:
            painter.drawImage(QPoint(round(x) + source.x(), round(y) + source.y()), image, source)
            return
        smooth = here.zoom < PIXELS_FROM and not self._refining.isActive()
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, smooth)
        place = QRectF(x + source.x() * step, y + source.y() * step, source.width() * step, source.height() * step)
        painter.drawImage(place, image, QRectF(source))

    def _hatch(self, ratio: float) -> QBrush:
        """What covers the mask: the accent with light and dark lines across, so that it shows on any picture."""
        if self._pattern is None or self._pattern[0] != ratio:
            side = round(12 * ratio)
            tile = QPixmap(side, side)
            ground = QColor(theme.LIGHT.accent)  # the deeper one: what lies behind is the picture, not the window
            ground.setAlphaF(0.5)
            tile.fill(ground)
            painter = QPainter(tile)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            for colour, shift in ((QColor(255, 255, 255, 150), 0.0), (QColor(0, 0, 0, 130), 1.5 * ratio)):
                painter.setPen(QPen(colour, 1.5 * ratio))
                for start in (-side, 0, side):
                    painter.drawLine(
                        QPointF(start + shift - ratio, side + ratio), QPointF(start + side + shift + ratio, -ratio)
                    )
            painter.end()
            self._pattern = (ratio, QBrush(tile))
        return self._pattern[1]

    # ------------------------------------------------------------------ painting

    def paintEvent(self, event: QPaintEvent) -> None:
        now = theme.current()
        painter = QPainter(self)
        if self._document is None:
            painter.fillRect(event.rect(), QColor(now.ground))
        else:
            self._refresh()
            with self._in_pixels(painter) as ratio:
                for rect in _rects(event.region()):
                    part = _device(rect, ratio).intersected(self._back.rect())
                    painter.drawImage(part.topLeft(), self._back, part)
            self._paint_frame(painter, now)
            self._paint_cursor(painter, now)
            if self._chores.title:
                said = tr("{what} … Esc stops it", what=self._chores.title)
                self._paint_pill(painter, self.rect().adjusted(12, 12, -12, 0), said, now)
        if self._ring and self.hasFocus():
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(QPen(QColor(now.accent), 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(1, 1, -1, -1), 4, 4)
        painter.end()

    def _paint_frame(self, painter: QPainter, now: theme.Theme) -> None:
        document = self._document
        if document is None or (self._tool is not Tool.FRAME and document.frame == (0, 0, 0, 0)):
            return
        frame = self._frame_on_screen()
        active = self._tool is Tool.FRAME
        if active:  # what a crop would cut off is dimmed
            shade = QRegion(self.rect()).subtracted(QRegion(frame.toRect()))
            here = self._here()
            inside = _logical(here.to_screen(QRectF(document.rect)).toRect(), here.ratio)
            painter.save()
            painter.setClipRegion(shade.intersected(inside), Qt.ClipOperation.IntersectClip)
            painter.fillRect(self.rect(), QColor(0, 0, 0, 140))
            painter.restore()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        box = frame.adjusted(0.5, 0.5, -0.5, -0.5)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(QColor(0, 0, 0, 200), 1))
        painter.drawRect(box)
        painter.setPen(QPen(QColor("#ffffff"), 1, Qt.PenStyle.DashLine))
        painter.drawRect(box)
        if not active:
            return
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor("#1d1f23"), 1.5))
        painter.setBrush(QColor("#ffffff"))
        middle = frame.center()
        for x in (frame.left(), middle.x(), frame.right()):
            for y in (frame.top(), middle.y(), frame.bottom()):
                if (x, y) != (middle.x(), middle.y()):
                    painter.drawRoundedRect(QRectF(x - HANDLE / 2, y - HANDLE / 2, HANDLE, HANDLE), 2, 2)
        size = document.frame_rect.size()
        space = self.rect().adjusted(12, 12, -12, 0)
        self._paint_pill(painter, space, tr("{w} × {h} px", w=f"{size.width():,}", h=f"{size.height():,}"), now)

    def _paint_cursor(self, painter: QPainter, now: theme.Theme) -> None:
        at = self._cursor_at()
        if at is None:
            return
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        dark, light = QPen(QColor(0, 0, 0, 200), 3), QPen(QColor("#ffffff"), 1.25)
        if self._line and self._last is not None:
            start = self._here().to_widget(self._last)
            for pen in (dark, light):
                painter.setPen(pen)
                painter.drawLine(start, at)
        radius = self._radius()
        brush = self._tool in (Tool.BRUSH, Tool.ERASER)
        for pen in (dark, light):
            painter.setPen(pen)
            if brush:
                painter.drawEllipse(at, radius, radius)
            if radius < CROSS or self._keyboard or not brush:
                inner = radius + 2 if brush and radius < CROSS else 0.0
                for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                    painter.drawLine(
                        QPointF(at.x() + dx * inner, at.y() + dy * inner),
                        QPointF(at.x() + dx * (inner + CROSS), at.y() + dy * (inner + CROSS)),
                    )
        if self._hold is _Hold.STROKE and self._keyboard:  # the pen is down
            painter.setBrush(QColor(now.accent))
            painter.drawEllipse(at, 3, 3)


def next_size(size: float, larger: bool) -> float:
    """The next larger or smaller brush: steps of 1 px up to 10, then of about a tenth."""
    step = 1.0 if size < (10 if larger else 11) else max(1.0, round(size / 10))
    return min(SIZE_MOST, max(SIZE_LEAST, round(size) + (step if larger else -step)))


def _rects(region: QRegion) -> list[QRect]:
    parts: Any = region  # it can be walked through, which its stub does not know
    return list(parts)


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))


def _around(here: _Place, rect: QRect) -> QRect:
    """The part of the screen (device px) on which a part of the document has an influence."""
    reach = 2 + math.ceil(here.zoom)
    return here.to_screen(QRectF(rect)).toAlignedRect().adjusted(-reach, -reach, reach, reach)


def _back_to(here: _Place, part: QRect) -> QRect:
    """The part of the document that is seen in device px."""
    z = here.zoom
    found = QRectF((part.x() - here.x) / z, (part.y() - here.y) / z, part.width() / z, part.height() / z)
    return found.toAlignedRect().adjusted(-2, -2, 2, 2)


def _logical(rect: QRect, ratio: float) -> QRect:
    found = QRectF(rect.x() / ratio, rect.y() / ratio, rect.width() / ratio, rect.height() / ratio)
    return found.toAlignedRect()


def _device(rect: QRect, ratio: float) -> QRect:
    found = QRectF(rect.x() * ratio, rect.y() * ratio, rect.width() * ratio, rect.height() * ratio)
    return found.toAlignedRect()
