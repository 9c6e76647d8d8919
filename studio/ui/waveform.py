"""The picture of a sound: its outline, sentences, and the place where it is playing.

Knows peaks and times; knows nothing of files or devices. Where somebody wants to go is told by a signal.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QPoint, QPointF, QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFocusEvent,
    QFont,
    QFontMetrics,
    QHelpEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from studio.ui import theme
from studio.ui.sound import Peaks
from studio.ui.strings import as_tip, tr

# All in logical px.
SIDE = 12  # left and right of the sound
TOP = 8
RULER = 22  # under the sound
CORNER = 8
BAR, PITCH = 2, 3  # a bar, and from one to the next
LABEL_GAP = 80  # between the times on the ruler, at least
MARK_GAP = 20  # between sentences, on average; closer ones are not marked
STRIP = 7  # each side of the playhead that is painted anew

STEP = 2.0  # s, of an arrow key
BACK = 1.0  # s; after this much of a sentence “previous” goes to its own start
WHEEL = 1.25  # zoom of one notch
SCROLL = 0.1  # of what is seen, for one notch
LEAST_SPAN = 2.0  # s
QUIETEST = 0.1  # a sound whose peak is below is not drawn larger than one with this peak
ROOM_AGAIN, ROOM = 0.9, 1.6  # a growing sound gets more room when it fills this much; and so much then
FIRST_ROOM = 8.0  # s
TIP_LENGTH = 300  # characters of a sentence
_LABELS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)  # s


@dataclass(frozen=True)
class Sentence:
    start: float  # s
    seconds: float
    text: str


class Waveform(QWidget):
    """Shows a sound, and lets one go to any place in it.

    Left and Right go 2 s, with Ctrl from sentence to sentence, Home and End to the ends. Ctrl and the wheel,
    or + and −, zoom; 0 or a double click shows the whole.

    Signals:
        seek_wanted(float): seconds. The playhead is there already.
    """

    seek_wanted = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("waveform")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setMinimumHeight(72)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.setAccessibleName(tr("Sound"))
        self._peaks = Peaks()
        self._seconds = 0.0
        self._growing = False
        self._room = 0.0  # s; the whole width, while it grows
        self._sentences: list[Sentence] = []
        self._starts: list[float] = []
        self._position = 0.0
        self._view: tuple[float, float] | None = None  # start and span in s; None shows the whole
        self._hover: float | None = None  # x
        self._dragging = False
        self._drawn: tuple[object, ...] = ()  # what the pictures below were made for
        self._under, self._rest, self._done = QPixmap(), QPixmap(), QPixmap()
        self._described: tuple[int, int] | None = None
        self._describe()

    def sizeHint(self) -> QSize:
        return QSize(480, 120)

    # -- what it shows

    def clear(self) -> None:
        self._peaks, self._seconds = Peaks(), 0.0
        self._growing, self._room = False, 0.0
        self._sentences, self._starts = [], []
        self._position, self._view, self._hover, self._dragging = 0.0, None, None, False
        self._changed()

    def set_wave(self, peaks: Peaks | Sequence[tuple[float, float]], seconds: float) -> None:
        """Show a whole sound. Long ones that shall be zoomed into come as `Peaks`, made in the background."""
        self._peaks = peaks if isinstance(peaks, Peaks) else Peaks.of_pairs(peaks, seconds)
        self._seconds = max(0.0, seconds)
        self._growing, self._view = False, None
        self._position = min(self._position, self._seconds)
        self._changed()

    def add_wave(self, peaks: Sequence[tuple[float, float]], seconds: float) -> None:
        """Append a part while the rest is still being made; leaves room on the right."""
        if not self._growing:
            if self._seconds:
                self.clear()
            self._growing, self._room = True, FIRST_ROOM
        self._peaks.add_pairs(peaks, seconds)
        self._seconds = self._peaks.seconds
        if self._seconds > ROOM_AGAIN * self._room:
            self._room = ROOM * self._seconds
        self._changed()

    def finished_adding(self) -> None:
        """The sound is whole and takes the whole width."""
        self._growing = False
        self._changed()

    def set_sentences(self, sentences: Sequence[tuple[float, float, str]]) -> None:
        """The sentences in their order: start and length in seconds, and the text."""
        self._sentences = [Sentence(*it) for it in sentences]
        self._starts = [it.start for it in self._sentences]
        self._described = None
        self._describe()
        self.update()

    def set_position(self, seconds: float) -> None:
        """Where it is playing. While somebody drags the playhead, it stays in their hand."""
        if not self._dragging:
            self._move(seconds)

    @property
    def position(self) -> float:
        return self._position

    @property
    def seconds(self) -> float:
        return self._seconds

    @property
    def view(self) -> tuple[float, float]:
        """The first second that is seen, and how many."""
        if self._view is not None:
            return self._view
        return 0.0, self._room if self._growing else self._seconds

    def show_whole(self) -> None:
        self._set_view(None)

    def zoom(self, factor: float, around: float | None = None) -> None:
        """See more (factor above 1) or less of it; the time `around` stays where it is, else the playhead's."""
        start, span = self.view
        whole = self._room if self._growing else self._seconds
        if not whole:
            return
        around = self._position if around is None else around
        if not start <= around <= start + span:
            around = start + span / 2
        wanted = max(min(LEAST_SPAN, whole), self._least_span(whole), span / factor)
        if wanted >= whole:
            self._set_view(None)
            return
        self._set_view((around - (around - start) * wanted / span, wanted))

    def describe(self) -> str:
        """Where it stands, in words: what a screen reader says."""
        if not self._seconds:
            return tr("No sound yet")
        said = tr("{at} of {length}", at=clock(self._position), length=clock(self._seconds))
        index = self._sentence_at(self._position)
        if index < 0:
            return said
        place = tr("sentence {n} of {all}", n=index + 1, all=len(self._sentences))
        return f"{said}, {place}: {self._sentences[index].text}"

    # -- places

    def _least_span(self, whole: float) -> float:
        """Nearer than a bar per bucket there is nothing to see."""
        return min(whole, self._peaks.bucket * self._wave().width() / PITCH / 4)

    def _wave(self) -> QRectF:
        return QRectF(SIDE, TOP, max(1, self.width() - 2 * SIDE), max(8, self.height() - TOP - RULER))

    def x_of(self, seconds: float) -> float:
        start, span = self.view
        return SIDE + (seconds - start) / (span or 1.0) * self._wave().width()

    def time_at(self, x: float) -> float:
        start, span = self.view
        return max(0.0, min(self._seconds, start + (x - SIDE) / self._wave().width() * span))

    def _sentence_at(self, seconds: float) -> int:
        """Its number; −1 before the first. Pauses belong to the sentence before them."""
        return bisect.bisect_right(self._starts, seconds + 1e-6) - 1

    def _until(self, index: int) -> float:
        """Where a sentence's sound ends."""
        return self._sentences[index].start + self._sentences[index].seconds

    # -- changes

    def _changed(self) -> None:
        self._drawn = ()
        self._described = None
        self._describe()
        self.update()

    def _set_view(self, view: tuple[float, float] | None) -> None:
        if view is not None:
            whole = self._room if self._growing else self._seconds
            view = max(0.0, min(view[0], whole - view[1])), view[1]
        if view != self._view:
            self._view = view
            self.update()

    def _move(self, seconds: float) -> None:
        seconds = max(0.0, min(seconds, self._seconds))
        if seconds == self._position:
            return
        before, old = self._position, self._sentence_at(self._position)
        self._position = seconds
        self._describe()
        if self._view is not None:
            start, span = self._view
            if start <= before <= start + span and not start <= seconds <= start + span:
                self._set_view((seconds - 0.05 * span, span))  # turn the page
                return
        self._update_between(self.x_of(before), self.x_of(seconds))
        new = self._sentence_at(seconds)
        if new != old:
            for index in (old, new):
                if index >= 0:
                    sentence = self._sentences[index]
                    self._update_between(self.x_of(sentence.start), self.x_of(self._until(index)))

    def _update_between(self, one: float, other: float) -> None:
        left, right = math.floor(min(one, other)) - STRIP, math.ceil(max(one, other)) + STRIP
        self.update(QRect(left, 0, right - left, self.height()))

    def _describe(self) -> None:
        now = int(self._position), self._sentence_at(self._position)
        if now != self._described:  # not 20 times a second: somebody may be listening to it
            self._described = now
            self.setAccessibleDescription(self.describe())

    def _seek(self, seconds: float) -> None:
        if self._seconds:
            self._move(seconds)
            self.seek_wanted.emit(self._position)

    # -- the hand

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton and self._seconds:
            self._dragging = True
            self._seek(self.time_at(event.position().x()))
        else:
            event.ignore()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        x = event.position().x()
        if self._dragging:
            self._seek(self.time_at(x))
        self._set_hover(x)
        if QToolTip.isVisible():
            self._show_tip(event.position(), event.globalPosition().toPoint())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self._dragging = False

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self.show_whole()

    def leaveEvent(self, event: QEvent) -> None:
        self._set_hover(None)

    def _set_hover(self, x: float | None) -> None:
        for place in (self._hover, x):
            if place is not None:
                self._update_between(place, place)
        self._hover = x

    def wheelEvent(self, event: QWheelEvent) -> None:
        start, span = self.view
        along, across = event.angleDelta().y() / 120, event.angleDelta().x() / 120
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.zoom(WHEEL**along, self.time_at(event.position().x()))
        elif self._view is not None:
            exact = event.pixelDelta()
            if exact.isNull():
                moved = (along + across) * SCROLL * span
            else:
                moved = (exact.x() + exact.y()) / self._wave().width() * span
            self._set_view((start - moved, span))
        else:
            event.ignore()  # the page scrolls
            return
        event.accept()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key, ctrl = event.key(), bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
        keys = Qt.Key
        if not self._seconds:
            event.ignore()
        elif key in (keys.Key_Left, keys.Key_Right):
            way = -1 if key == keys.Key_Left else 1
            self._seek(self._next_sentence(way) if ctrl else self._position + way * STEP)
        elif key == keys.Key_Home:
            self._seek(0.0)
        elif key == keys.Key_End:
            self._seek(self._seconds)
        elif key in (keys.Key_Plus, keys.Key_Equal) and not ctrl:
            self.zoom(WHEEL**2)
        elif key == keys.Key_Minus and not ctrl:
            self.zoom(WHEEL**-2)
        elif key == keys.Key_0 and not ctrl:
            self.show_whole()
        else:
            event.ignore()

    def _next_sentence(self, way: int) -> float:
        index = self._sentence_at(self._position)
        if way > 0:
            return self._starts[index + 1] if index + 1 < len(self._starts) else self._seconds
        if index >= 0 and self._position - self._starts[index] <= BACK:
            index -= 1
        return self._starts[index] if index >= 0 else 0.0

    # -- words

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            self._show_tip(QPointF(event.pos()), event.globalPos())
            return True
        return super().event(event)

    def tip_at(self, x: float) -> str:
        """The time at this place, and the sentence that is said there; as markup of our own."""
        if not self._seconds:
            return ""
        seconds = self.time_at(x)
        said = clock(seconds, fine=self.view[1] < 120)
        index = self._sentence_at(seconds)
        if index >= 0:
            text = self._sentences[index].text
            said += "\n" + (text if len(text) <= TIP_LENGTH else text[: TIP_LENGTH - 1] + "…")
        return as_tip(said)

    def _show_tip(self, place: QPointF, on_screen: QPoint) -> None:
        QToolTip.showText(on_screen, self.tip_at(place.x()), self)

    # -- painting

    def paintEvent(self, event: QPaintEvent) -> None:
        now = theme.current()
        self._draw(now)
        painter = QPainter(self)
        painter.drawPixmap(0, 0, self._under)
        if self._seconds:
            wave = self._wave()
            painter.setClipRect(wave.adjusted(-STRIP, -TOP, STRIP, 0))
            self._paint_sentences(painter, wave, now)
            head = self.x_of(self._position)
            painter.drawPixmap(0, 0, self._rest)
            if head > wave.left():
                played = QRectF(0, 0, head, self.height())
                painter.save()
                painter.setClipRect(played, Qt.ClipOperation.IntersectClip)
                painter.drawPixmap(0, 0, self._done)
                painter.restore()
            self._paint_lines(painter, wave, head, now)
            painter.setClipping(False)
        if self.hasFocus():
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(QPen(QColor(now.accent), 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(1, 1, -1, -1), CORNER - 1, CORNER - 1)

    def _paint_sentences(self, painter: QPainter, wave: QRectF, now: theme.Theme) -> None:
        """A ground under the sentence that is spoken, and thin marks where sentences start."""
        index = self._sentence_at(self._position)
        if index >= 0:
            left, right = self.x_of(self._starts[index]), self.x_of(self._until(index))
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(now.field))
            painter.drawRoundedRect(QRectF(left, wave.top() - 2, right - left, wave.height() + 4), 4, 4)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        start, span = self.view
        first, last = bisect.bisect_left(self._starts, start), bisect.bisect_right(self._starts, start + span)
        if last - first > wave.width() / MARK_GAP:
            return
        colour = QColor(now.soft)
        colour.setAlpha(90)
        for at in self._starts[first:last]:
            if at > 0:
                painter.fillRect(QRectF(math.floor(self.x_of(at)) - 1, wave.top(), 1, wave.height()), colour)

    def _paint_lines(self, painter: QPainter, wave: QRectF, head: float, now: theme.Theme) -> None:
        """The place under the pointer, and the playhead."""
        if self._hover is not None and wave.left() <= self._hover <= wave.right():
            faint = QColor(now.text)
            faint.setAlpha(110)
            painter.fillRect(QRectF(math.floor(self._hover), 2, 1, wave.bottom() - 2), faint)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(now.text))
        painter.drawRoundedRect(QRectF(head - 1, 4, 2, wave.bottom() - 4), 1, 1)
        painter.drawEllipse(QPointF(head, 5.5), 3.5, 3.5)

    def _draw(self, now: theme.Theme) -> None:
        """Draw what does not move, if it is not drawn yet: the ground with its times, and the bars in both colours."""
        wanted = (self.size(), self.devicePixelRatioF(), now.name, self.view, self._seconds, self.font().key())
        if self._drawn == wanted:
            return
        self._drawn = wanted
        self._under = self._blank()
        painter = QPainter(self._under)
        self._draw_ground(painter, now)
        painter.end()
        bars = self._bars() if self._seconds else []
        soft = _between(now.soft, now.panel, 0.6)
        self._rest, self._done = (self._draw_bars(bars, colour) for colour in (soft, QColor(now.accent)))

    def _blank(self) -> QPixmap:
        ratio = self.devicePixelRatioF()
        made = QPixmap(self.size() * ratio)
        made.setDevicePixelRatio(ratio)
        made.fill(Qt.GlobalColor.transparent)
        return made

    def _draw_bars(self, bars: list[QRectF], colour: QColor) -> QPixmap:
        made = self._blank()
        painter = QPainter(made)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colour)
        if bars:
            painter.drawRects(bars)
        painter.end()
        return made

    def _bars(self) -> list[QRectF]:
        """One rectangle for each bar that is seen. Fixed to the sound, so that they do not flicker when it scrolls."""
        wave, (start, span) = self._wave(), self.view
        width = span / wave.width() * PITCH  # seconds of a bar
        first = math.floor(start / width)
        last = math.ceil(min(start + span, self._seconds) / width - 1e-6)
        middle, half = wave.center().y(), wave.height() / 2
        scale = half / max(QUIETEST, self._peaks.loudest)
        made = []
        for index, (low, high) in enumerate(self._peaks.columns(first * width, width, last - first), first):
            x = wave.left() + (index * width - start) / span * wave.width()
            if x > wave.right():
                break
            top, bottom = middle - high * scale, middle - low * scale
            if bottom - top < BAR:
                top, bottom = (top + bottom - BAR) / 2, (top + bottom + BAR) / 2
            made.append(QRectF(x, top, BAR, bottom - top))
        return made

    def _draw_ground(self, painter: QPainter, now: theme.Theme) -> None:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(now.panel))
        painter.drawRoundedRect(QRectF(self.rect()), CORNER, CORNER)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        wave, (start, span) = self._wave(), self.view
        if not span:
            painter.fillRect(QRectF(wave.left(), wave.center().y(), wave.width(), 1), QColor(now.line))
            return
        edge = min(wave.right(), self.x_of(self._seconds))
        if edge < wave.right():  # room for what is still to come
            painter.fillRect(QRectF(edge, wave.center().y(), wave.right() - edge, 1), QColor(now.line))
        self._draw_ruler(painter, wave, start, span, now)
        if self._view is not None:
            self._draw_place(painter, wave, start, span, now)

    def _draw_ruler(self, painter: QPainter, wave: QRectF, start: float, span: float, now: theme.Theme) -> None:
        """Times at even places, and the length at the right end."""
        font = QFont(self.font())
        font.setPixelSize(theme.SMALL)
        painter.setFont(font)
        painter.setPen(QColor(now.soft))
        metrics = QFontMetrics(font)
        base = round(wave.bottom()) + 4 + metrics.ascent()
        right = wave.right()
        if self._view is None and not self._growing:
            length = clock(self._seconds, fine=self._seconds < 10)
            painter.drawText(QPointF(right - metrics.horizontalAdvance(length), base), length)
            right -= metrics.horizontalAdvance(length) + 3 * theme.UNIT
        each = next((it for it in _LABELS if it * wave.width() / span >= LABEL_GAP), _LABELS[-1])
        for index in range(math.ceil(start / each - 1e-6), math.floor((start + span) / each + 1e-6) + 1):
            label = clock(index * each, fine=each < 1)
            x = self.x_of(index * each)
            wide = metrics.horizontalAdvance(label)
            left = x if index == 0 else max(wave.left(), x - wide / 2)
            if left + wide <= right:
                painter.drawText(QPointF(left, base), label)
                painter.fillRect(QRectF(math.floor(x), wave.bottom() + 1, 1, 3), QColor(now.line))

    def _draw_place(self, painter: QPainter, wave: QRectF, start: float, span: float, now: theme.Theme) -> None:
        """Which part of the whole is seen: a thin line at the bottom."""
        whole = self._room if self._growing else self._seconds
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        top = self.height() - 4.5
        painter.setBrush(QColor(now.line))
        painter.drawRoundedRect(QRectF(wave.left(), top, wave.width(), 2), 1, 1)
        painter.setBrush(QColor(now.soft))
        wide = max(12.0, span / whole * wave.width())
        left = min(start / whole * wave.width(), wave.width() - wide)
        painter.drawRoundedRect(QRectF(wave.left() + left, top, wide, 2), 1, 1)

    def changeEvent(self, event: QEvent) -> None:
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange, QEvent.Type.FontChange):
            self._drawn = ()
            self.update()
        super().changeEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        self._drawn = ()
        super().resizeEvent(event)

    def focusInEvent(self, event: QFocusEvent) -> None:
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        self.update()


def clock(seconds: float, *, fine: bool = False) -> str:
    """A place in a sound: “0:05”, “12:30”, “1:02:03”; with `fine` also tenths, “0:05.3”."""
    tenths = int(seconds * 10 + 1e-6)
    whole, tenth = divmod(tenths, 10)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    said = f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
    return f"{said}.{tenth}" if fine else said


def _between(one: str, other: str, share: float) -> QColor:
    """A colour that is `share` of one and the rest of the other."""
    a, b = QColor(one), QColor(other)
    red, green, blue = (
        round(x * share + y * (1 - share))
        for x, y in ((a.red(), b.red()), (a.green(), b.green()), (a.blue(), b.blue()))
    )
    return QColor(red, green, blue)
