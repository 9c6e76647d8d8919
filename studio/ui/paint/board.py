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
    QColor,
    QContextMenuEvent,
    QFocusEvent,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPointingDevice,
    QRegion,
    QTabletEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QWidget

from studio.ui import theme
from studio.ui.canvas import PAN_STEP, WHEEL_STEP, Canvas, View
from studio.ui.paint import edits
from studio.ui.paint.chores import Chores
from studio.ui.paint.composing import Composer, Place, device, influence, logical, rects
from studio.ui.paint.document import FRAME_STEP, MASK, Document, Locked
from studio.ui.paint.edits import Edit
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
KEY_STEP = 0.25  # of the brush's size, for one press of an arrow

_TURNS = ("undo", "redo")
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
        self._composer = Composer(lambda ratio: self._checks(ratio), lambda: self._refining.isActive())
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
        self._composer.set_document(document)
        self._target_id, self._last = MASK, None
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
        return self._composer.overlay

    def set_overlay(self, shown: bool) -> None:
        self._composer.overlay = shown
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
        if self._document is None:
            return
        self._composer.touch(id, rect)
        here = self._here()
        part = influence(here, rect).intersected(QRect(0, 0, here.width, here.height))
        if not part.isEmpty():
            self.update(logical(part, here.ratio))

    def _hurry(self) -> None:
        """While the zoom goes on changing the whole picture is drawn anew each time: quickly now, smoothly later."""
        if self._document is not None:
            self._refining.start()

    def _all_stale(self) -> None:
        self._composer.forget()
        self.update()

    def _layers_changed(self) -> None:
        document = self._document
        if document is None:
            return
        known = {layer.id: layer.surface for layer in document.layers}
        self._composer.forget_layers(known)
        if self._target_id != MASK and self._target_id not in known:
            self.set_target(document.layers[-1].id)
        self.changed.emit()

    def _resized(self) -> None:
        document = self._document
        if document is None:
            return
        self._composer.forget_copies()
        self._seen_frame = document.frame
        self._last = None
        self._pen = self._inside(self._pen)
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

    def _here(self) -> Place:
        ratio, target = self.devicePixelRatioF(), self._target()
        zoom = self.zoom
        x = round(target.x() * ratio) + round(max(0, self._seen_frame[0]) * zoom)
        y = round(target.y() * ratio) + round(max(0, self._seen_frame[1]) * zoom)
        return Place(x, y, zoom, math.ceil(self.width() * ratio), math.ceil(self.height() * ratio), ratio)

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

    def _hold_still(self, before: Place) -> None:
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
            self.set_overlay(not self.overlay)
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
            self._composer.forget_screen()
        super().changeEvent(event)

    def thumbnail(self, target: int, side: int) -> QImage:
        """See `Composer.thumbnail`."""
        return self._composer.thumbnail(target, side)

    # ------------------------------------------------------------------ painting

    def paintEvent(self, event: QPaintEvent) -> None:
        now = theme.current()
        painter = QPainter(self)
        if self._document is None:
            painter.fillRect(event.rect(), QColor(now.ground))
        else:
            if not self._composer.refresh(self._here()):
                QTimer.singleShot(0, self, self.update)
            kept = self._composer.picture
            with self._in_pixels(painter) as ratio:
                for rect in rects(event.region()):
                    part = device(rect, ratio).intersected(kept.rect())
                    painter.drawImage(part.topLeft(), kept, part)
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
            inside = logical(here.to_screen(QRectF(document.rect)).toRect(), here.ratio)
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


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))
