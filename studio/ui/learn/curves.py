"""Curves over the steps of a training, drawn by our own widget: what is learnt, the best, and the numbers under the
pointer.

Knows points and colours; knows nothing of trainings. Not by pyqtgraph: it would bring numpy into the window's process
and 40 MB for a few hundred lines.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from PySide6.QtCore import QEvent, QLineF, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFocusEvent,
    QFont,
    QFontMetrics,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
)
from PySide6.QtWidgets import QSizePolicy, QWidget

from studio.core.text import shown
from studio.ui import theme
from studio.ui.strings import tr

# All in logical px.
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 24  # around the curves; more on the left where the numbers are longer
HEAD = 14  # a line of words above the curves
SWATCH = 14  # of a curve beside its name
BESIDE = 8  # between the numbers and the curves, and between them and the edge
CORNER = 8
DOT = 3.0
BEST = 6.0  # radius of the ring around the best
CAP = {False: Qt.PenCapStyle.RoundCap, True: Qt.PenCapStyle.FlatCap}  # by whether it is faint
FEW = 50  # points; so few are all seen, smoothed or not
TICK_GAP = 46  # between numbers on the left; at the bottom twice as much

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """One line.

    Attributes:
        points: (step, value), in order of steps.
        role: a colour of the theme. dots: few points, each drawn. smooth: the smoothing applies to it.
    """

    name: str
    points: Points
    role: str = "accent"
    dots: bool = False
    smooth: bool = False


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """A running average that begins without a bias towards 0.

    Args:
        weight: 0…1, share of the past that is kept from one value to the next; 0 changes nothing.
    """
    kept, share, found = 0.0, 0.0, []
    for value in values:
        kept = weight * kept + (1 - weight) * value
        share = weight * share + (1 - weight)
        found.append(kept / share)
    return found


def thinned(points: Points, columns: int) -> list[tuple[float, float]]:
    """The same line in at most about twice as many points as there are columns: the lowest and highest of each."""
    if len(points) <= 2 * columns or columns < 1:
        return list(points)
    first, last = points[0][0], points[-1][0]
    width = (last - first) / columns or 1.0
    kept: list[tuple[float, float]] = []
    at = 0
    for column in range(columns):
        end = at
        while end < len(points) and (points[end][0] < first + (column + 1) * width or column == columns - 1):
            end += 1
        part = points[at:end]
        if part:
            ends = {min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])}
            kept += sorted(ends)
        at = end
    return kept


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two others, at most so many."""
    if not high > low or most < 1:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two others on a scale of factors: powers of ten, with 2 and 5 where there is room."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for parts in ((1, 2, 5), (1,)):
        found = [part * 10.0**power for power in range(first, last + 1) for part in parts]
        found = [each for each in found if low * 0.999 <= each <= high * 1.001]
        if 2 <= len(found) <= most:
            return found
    if last - first <= most:  # a narrow part of one power of ten
        return ticks(low, high, most)
    every = math.ceil((last - first) / most)
    return [10.0**power for power in range(first, last + 1, every) if low <= 10.0**power <= high]


def nearest(points: Points, x: float) -> int:
    """The place of the point that is nearest to x; -1 where there are none."""
    if not points:
        return -1
    at = bisect.bisect_left(points, (x,))
    if at == len(points) or (at and x - points[at - 1][0] <= points[at][0] - x):
        at -= 1
    return at


def said(value: float) -> str:
    """A number with about four digits that count: “2.318”, “0.00031”, “1.2e-07”, “12,400”."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.2e}" if size < 1e-4 else f"{value:.4g}"


def marked(value: float) -> str:
    """A number on the left of a plot: like `said`, and short where it is very small or large: “2e-05”, “3e+08”."""
    return said(value) if 1e-4 <= abs(value) < 1e6 or not value else f"{value:.3g}"


@dataclass
class _Range:
    """What is seen. `low` and `high` are logarithms where the scale goes by factors."""

    left: float = 0.0
    right: float = 1.0
    low: float = 0.0
    high: float = 1.0
    log: bool = False

    def up(self, value: float) -> float | None:
        """0 at the bottom, 1 at the top; None where it has no place."""
        if self.log:
            if value <= 0:
                return None
            value = math.log10(value)
        return (value - self.low) / ((self.high - self.low) or 1.0)


@dataclass
class _Drawn:
    lines: list[tuple[Curve, list[tuple[float, float]], bool]] = field(default_factory=list)
    seen: _Range = field(default_factory=_Range)
    left: float = LEFT  # px that the numbers on the left take
    picture: QPixmap | None = None
    key: tuple[object, ...] = ()  # what the picture was made for


class Curves(QWidget):
    """Shows curves over steps.

    Left and Right go from point to point, with Ctrl ten at a time, Home and End to the ends.

    Signals:
        pointed(float): the step whose numbers are shown; -1 for none.
    """

    pointed = Signal(float)

    def __init__(self, name: str, *, small: bool = False) -> None:
        super().__init__()
        self.setObjectName("curves")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAccessibleName(name)
        self._name, self._small = name, small
        self.setMinimumHeight(104 if small else 200)
        self._curves: tuple[Curve, ...] = ()
        self._best: tuple[float, float] | None = None
        self._log, self._smoothing = False, 0.0
        self._at: float | None = None  # the step under the pointer
        self._drawn: _Drawn | None = None

    def sizeHint(self) -> QSize:
        return QSize(240, 112) if self._small else QSize(400, 280)

    # -- what it shows ------------------------------------------------------------------------------------------------

    def show_curves(self, curves: Sequence[Curve], best: tuple[float, float] | None = None) -> None:
        """Show these curves, and mark a point as the best."""
        self._curves, self._best = tuple(curves), best
        self._changed()

    def set_log(self, on: bool) -> None:
        """Whether the values are shown by factors. What is not above 0 is left out then."""
        self._log = on
        self._changed()

    def set_smoothing(self, weight: float) -> None:
        """0…1, see `smoothed`."""
        self._smoothing = min(0.999, max(0.0, weight))
        self._changed()

    def point_at(self, step: float | None) -> None:
        """Show the numbers at a step, as the pointer does; another plot may tell."""
        if step is not None and step < 0:
            step = None
        if step != self._at:
            self._at = step
            self.setAccessibleDescription(self.describe())
            self.update()

    def describe(self) -> str:
        """The numbers at the step that is pointed at, or the last ones, in words."""
        rows = self.rows_at(self._at if self._at is not None else self._last())
        if not rows:
            return tr("no points yet")
        words = [f"{name} {said(value)}" for name, _, value in rows]
        if self._best is not None:
            words.append(tr("best {value} at step {n}", value=said(self._best[1]), n=f"{self._best[0]:,.0f}"))
        return tr("step {n}", n=f"{rows[0][1]:,.0f}") + ": " + ", ".join(words)

    def rows_at(self, step: float) -> list[tuple[str, float, float]]:
        """Name, step and value of every curve at the point that is nearest to a step."""
        found = []
        for curve in self._curves:
            at = nearest(curve.points, step)
            if at >= 0:
                found.append((curve.name, *curve.points[at]))
        return found

    def _last(self) -> float:
        return max((curve.points[-1][0] for curve in self._curves if curve.points), default=0.0)

    def _changed(self) -> None:
        self._drawn = None
        self.setAccessibleDescription(self.describe())
        self.update()

    # -- the hand -----------------------------------------------------------------------------------------------------

    def _place(self) -> QRectF:
        return QRectF(self.rect()).adjusted(self._prepared().left, self._top(), -RIGHT, -BOTTOM)

    def _top(self) -> int:
        return TOP + (HEAD if self._small or len(self._curves) > 1 else 0)

    def step_at(self, x: float) -> float:
        place, seen = self._place(), self._prepared().seen
        share = (x - place.left()) / max(1.0, place.width())
        return seen.left + min(1.0, max(0.0, share)) * (seen.right - seen.left)

    def _point(self, step: float | None) -> None:
        self.point_at(step)
        self.pointed.emit(-1.0 if step is None else step)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        longest = max((c.points for c in self._curves), key=len, default=())
        at = nearest(longest, self.step_at(event.position().x()))
        self._point(longest[at][0] if at >= 0 else None)

    def leaveEvent(self, event: QEvent) -> None:
        self._point(None)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        longest = max((c.points for c in self._curves), key=len, default=())
        keys = Qt.Key
        if not longest or event.key() not in (keys.Key_Left, keys.Key_Right, keys.Key_Home, keys.Key_End):
            event.ignore()
            return
        at = nearest(longest, self._at if self._at is not None else self._last())
        far = 10 if event.modifiers() & Qt.KeyboardModifier.ControlModifier else 1
        moved = {keys.Key_Left: at - far, keys.Key_Right: at + far, keys.Key_Home: 0, keys.Key_End: len(longest) - 1}
        at = min(len(longest) - 1, max(0, moved[keys(event.key())]))
        self._point(longest[at][0])

    # -- painting -----------------------------------------------------------------------------------------------------

    def _prepared(self) -> _Drawn:
        if self._drawn is not None:
            return self._drawn
        made = _Drawn()
        columns = max(16, self.width() - LEFT - RIGHT)
        values: list[float] = []
        for curve in self._curves:
            points = [p for p in curve.points if math.isfinite(p[1]) and (not self._log or p[1] > 0)]
            if curve.smooth and self._smoothing:
                made.lines.append((curve, thinned(points, columns), True))
                if len(points) < FEW:  # of many, single ones may stand out of the picture
                    values += [y for _, y in points]
                soft = smoothed([y for _, y in points], self._smoothing)
                points = [(x, y) for (x, _), y in zip(points, soft, strict=True)]
            made.lines.append((curve, thinned(points, columns), False))
            values += [y for _, y in points]
        seen = made.seen
        seen.log = self._log and bool(values)
        seen.right = max(self._last(), 1.0)
        firsts = [curve.points[0][0] for curve in self._curves if curve.points]
        seen.left = min(firsts, default=0.0) if seen.right > min(firsts, default=0.0) else 0.0
        if values:
            low, high = min(values), max(values)
            if seen.log:
                low, high = math.log10(low), math.log10(high)
            room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
            seen.low, seen.high = low - room, high + room
            if not seen.log and low >= 0 > seen.low:
                seen.low = 0.0
        if any(curve.points for curve in self._curves):
            metrics = QFontMetrics(self._small_font())
            longest = max((metrics.horizontalAdvance(marked(value)) for value in self._marks(seen)), default=0)
            made.left = min(max(LEFT, longest + 2 * BESIDE), self.width() / 3)
        self._drawn = made
        return made

    def paintEvent(self, event: QPaintEvent) -> None:
        now, made, place = theme.current(), self._prepared(), self._place()
        painter = QPainter(self)
        painter.drawPixmap(0, 0, self._picture(made, place, now))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(self._small_font())
        if self._at is not None and any(curve.points for curve in self._curves):
            self._paint_numbers(painter, place, made.seen, now)
        if self.hasFocus():
            painter.setPen(QPen(QColor(now.accent), 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(1, 1, -1, -1), CORNER - 1, CORNER - 1)

    def _small_font(self) -> QFont:
        font = QFont(self.font())
        font.setPixelSize(theme.SMALL)
        return font

    def _picture(self, made: _Drawn, place: QRectF, now: theme.Theme) -> QPixmap:
        """What does not move with the pointer, drawn once."""
        ratio = self.devicePixelRatioF()
        key = (now.name, ratio, self.size(), self.font().key())
        if made.picture is not None and made.key == key:
            return made.picture
        picture = QPixmap(self.size() * ratio)
        picture.setDevicePixelRatio(ratio)
        picture.fill(Qt.GlobalColor.transparent)
        painter = QPainter(picture)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(now.panel))
        painter.drawRoundedRect(QRectF(self.rect()), CORNER, CORNER)
        painter.setFont(self._small_font())
        there = any(curve.points for curve in self._curves)
        if there:
            self._paint_axes(painter, place, made.seen, now)
        painter.save()
        painter.setClipRect(place.adjusted(-BEST, -BEST, BEST, BEST))
        for curve, points, faint in made.lines:
            self._paint_line(painter, place, made.seen, curve, points, faint, now)
        if self._best is not None:
            self._paint_best(painter, place, made.seen, now)
        painter.restore()
        painter.setPen(QColor(now.soft))
        if self._small:
            painter.drawText(QPointF(place.left(), place.top() - 10), self._name)
        elif len(self._curves) > 1:
            self._paint_names(painter, place, now)
        if not there:
            painter.drawText(place, int(Qt.AlignmentFlag.AlignCenter), "" if self._small else tr("no points yet"))
        painter.end()
        made.picture, made.key = picture, key
        return picture

    def _x(self, place: QRectF, seen: _Range, step: float) -> float:
        return place.left() + (step - seen.left) / ((seen.right - seen.left) or 1.0) * place.width()

    def _at_place(self, place: QRectF, seen: _Range, point: tuple[float, float]) -> QPointF | None:
        up = seen.up(point[1])
        return None if up is None else QPointF(self._x(place, seen, point[0]), place.bottom() - up * place.height())

    def _marks(self, seen: _Range) -> list[float]:
        """The numbers on the left."""
        most = max(2, int((self.height() - self._top() - BOTTOM) / TICK_GAP))
        if seen.log:
            return log_ticks(10.0**seen.low, 10.0**seen.high, most + 1)
        found: list[float] = []
        for count in range(most, 3 * most + 1):
            if len(found := ticks(seen.low, seen.high, count)) > 1:  # one alone tells nothing of the scale
                break
        return found

    def _paint_axes(self, painter: QPainter, place: QRectF, seen: _Range, now: theme.Theme) -> None:
        metrics = painter.fontMetrics()
        for value in self._marks(seen):
            up = seen.up(value)
            if up is None or not -0.001 <= up <= 1.001:
                continue
            y = round(place.bottom() - up * place.height()) + 0.5
            painter.setPen(QPen(QColor(now.line), 1))
            painter.drawLine(QPointF(place.left(), y), QPointF(place.right(), y))
            painter.setPen(QColor(now.soft))
            label = marked(value)
            x = place.left() - BESIDE - metrics.horizontalAdvance(label)
            painter.drawText(QPointF(x, y + metrics.ascent() / 3), label)
        most = max(1, int(place.width() / (2 * TICK_GAP)))
        for step in ticks(seen.left, seen.right, most):
            if step != int(step):
                continue
            label = f"{step:,.0f}"
            wide = metrics.horizontalAdvance(label)
            x = min(place.right() - wide, max(place.left(), self._x(place, seen, step) - wide / 2))
            painter.setPen(QColor(now.soft))
            painter.drawText(QPointF(x, place.bottom() + 4 + metrics.ascent()), label)

    def _paint_names(self, painter: QPainter, place: QRectF, now: theme.Theme) -> None:
        """Which line is which, each name beside a piece of its line; as many as there is room for."""
        metrics = painter.fontMetrics()
        x, base = place.left(), place.top() - 8
        for curve in self._curves:
            room = place.right() - x - SWATCH - 6
            if room < 3 * SWATCH:
                break
            name = metrics.elidedText(shown(curve.name, 80), Qt.TextElideMode.ElideRight, int(room))
            painter.fillRect(QRectF(x, base - metrics.ascent() / 2 + 1, SWATCH, 2), QColor(getattr(now, curve.role)))
            painter.setPen(QColor(now.soft))
            painter.drawText(QPointF(x + SWATCH + 6, base), name)
            x += SWATCH + 6 + metrics.horizontalAdvance(name) + 16

    def _paint_line(
        self, painter: QPainter, place: QRectF, seen: _Range, curve: Curve, points: Points, faint: bool,
        now: theme.Theme,
    ) -> None:  # fmt: skip
        colour = QColor(getattr(now, curve.role))
        if faint:
            colour.setAlpha(70)
        places = [at for point in points if (at := self._at_place(place, seen, point)) is not None]
        if len(places) > 1:
            painter.setPen(QPen(colour, 1.0 if faint else 1.8, Qt.PenStyle.SolidLine, CAP[faint]))
            # line by line: as one path a noisy curve that crosses itself takes seconds
            painter.drawLines([QLineF(one, other) for one, other in itertools.pairwise(places)])
        if (curve.dots and len(places) < 200) or len(places) == 1:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(colour)
            for at in places:
                painter.drawEllipse(at, DOT, DOT)

    def _paint_best(self, painter: QPainter, place: QRectF, seen: _Range, now: theme.Theme) -> None:
        assert self._best is not None
        at = self._at_place(place, seen, self._best)
        if at is None:
            return
        painter.setPen(QPen(QColor(now.star), 2))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawEllipse(at, BEST, BEST)
        label = tr("best {value}", value=said(self._best[1]))
        metrics = painter.fontMetrics()
        wide = metrics.horizontalAdvance(label)
        x = min(place.right() - wide, max(place.left(), at.x() - wide / 2))
        y = (
            at.y() - BEST - 5
            if at.y() - BEST - metrics.height() > place.top()
            else at.y() + BEST + metrics.ascent() + 2
        )
        painter.drawText(QPointF(x, y), label)

    def _paint_numbers(self, painter: QPainter, place: QRectF, seen: _Range, now: theme.Theme) -> None:
        """A line at the step, and the numbers of all curves there."""
        assert self._at is not None
        x = self._x(place, seen, self._at)
        faint = QColor(now.text)
        faint.setAlpha(110)
        painter.fillRect(QRectF(math.floor(x), place.top(), 1, place.height()), faint)
        rows = self.rows_at(self._at)
        if not rows:
            return
        metrics = painter.fontMetrics()
        words = [tr("step {n}", n=f"{self._at:,.0f}")] if not self._small else []
        words += [f"{name}  {said(value)}" for name, _, value in rows]
        wide = max(metrics.horizontalAdvance(each) for each in words) + 16
        high = metrics.height() * len(words) + 10
        left = x + 8 if x + 8 + wide < place.right() else x - 8 - wide
        box = QRectF(max(place.left(), left), place.top(), wide, high)
        painter.setPen(QPen(QColor(now.line), 1))
        painter.setBrush(QColor(now.field))
        painter.drawRoundedRect(box, 6, 6)
        painter.setPen(QColor(now.text))
        for index, text in enumerate(words):
            painter.drawText(QPointF(box.left() + 8, box.top() + 5 + metrics.ascent() + index * metrics.height()), text)

    def changeEvent(self, event: QEvent) -> None:
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange, QEvent.Type.FontChange):
            self._drawn = None  # the numbers may be wider now
            self.update()
        super().changeEvent(event)

    def resizeEvent(self, event: object) -> None:
        self._drawn = None

    def focusInEvent(self, event: QFocusEvent) -> None:
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        self.update()
