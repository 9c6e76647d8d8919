"""Charts drawn with lines, dots and words on a canvas, which is an SVG or a page of a PDF. Knows charts only."""

from __future__ import annotations

import math
from typing import Literal, Protocol

from studio.library.exports.report_view import Chart

WIDTH = 320.0  # of a chart, in its own units; a canvas scales them
ROW = 15.0  # height of a bar with its label
LINES_HEIGHT = 170.0
TEXT = 8.5  # height of letters
LABEL_LIMIT = 24  # characters of a label beside a bar
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 8.0, 20.0, 24.0
_BAR_LEFT = 120.0

Anchor = Literal["start", "middle", "end"]


class Canvas(Protocol):
    """What a format draws with. `tone`: 0 and up for series, -1 for ink, -2 for faint lines. x goes right, y down."""

    def line(self, points: list[tuple[float, float]], tone: int, width: float = 1.0) -> None: ...

    def dot(self, x: float, y: float, tone: int) -> None: ...

    def text(self, x: float, y: float, words: str, anchor: Anchor = "start", bold: bool = False) -> None: ...


INK, FAINT = -1, -2


def height_of(chart: Chart) -> float:
    if chart.bars:
        return _TOP + ROW * len(chart.bars) + _BOTTOM
    return LINES_HEIGHT + 11.0 * max(0, len(chart.lines) - 1)


def draw(chart: Chart, canvas: Canvas) -> None:
    """Draw a chart into a field of WIDTH by height_of(chart)."""
    canvas.text(0, 11, f"{chart.title}, {chart.unit}" if chart.unit else chart.title, bold=True)
    if chart.bars:
        _bars(chart, canvas)
    elif any(chart.lines.values()):
        _lines(chart, canvas)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, at most about `most` of them."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    step = 10.0 ** math.floor(math.log10(span / most))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= most + 1)
    first = math.ceil(low / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, math.floor(high / step + 1e-9) + 1)]


def plain(value: float) -> str:
    """A round number as an axis bears it."""
    return f"{value:,.0f}" if abs(value) >= 10_000 and value == int(value) else f"{value:.6g}"


def short(words: str, limit: int = LABEL_LIMIT) -> str:
    return words if len(words) <= limit else words[: limit - 1] + "…"


def _bars(chart: Chart, canvas: Canvas) -> None:
    ends = [x for bar in chart.bars for x in (bar.value, bar.low, bar.high) if x is not None and math.isfinite(x)]
    low, high = _room(ends)
    right, bottom = WIDTH - _RIGHT, _TOP + ROW * len(chart.bars)

    def place(value: float) -> float:
        return _BAR_LEFT + (value - low) / (high - low) * (right - _BAR_LEFT)

    for tick in ticks(low, high, 4):
        canvas.line([(place(tick), _TOP), (place(tick), bottom)], FAINT, 0.6)
        canvas.text(place(tick), bottom + 11, plain(tick), "middle")
    for i, bar in enumerate(chart.bars):
        y = _TOP + ROW * (i + 0.5)
        canvas.text(_BAR_LEFT - 6, y + TEXT / 3, short(bar.label), "end")
        if bar.low is not None and bar.high is not None and math.isfinite(bar.low) and math.isfinite(bar.high):
            canvas.line([(place(bar.low), y), (place(bar.high), y)], i, 1.6)
            for end in (bar.low, bar.high):
                canvas.line([(place(end), y - 3), (place(end), y + 3)], i, 1.2)
        if math.isfinite(bar.value):
            canvas.dot(place(bar.value), y, i)


def _lines(chart: Chart, canvas: Canvas) -> None:
    lines = {name: line for name, line in chart.lines.items() if line}
    xs, ys = [x for line in lines.values() for x, _ in line], [y for line in lines.values() for _, y in line]
    left, right = min(xs), max(xs)
    right = right if right > left else left + 1
    low, high = _room(ys)
    bottom = LINES_HEIGHT - _BOTTOM - 8

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - left) / (right - left) * (WIDTH - _RIGHT - _LEFT)
        return across, bottom - (y - low) / (high - low) * (bottom - _TOP)

    for tick in ticks(low, high, 4):
        y = place(left, tick)[1]
        canvas.line([(_LEFT, y), (WIDTH - _RIGHT, y)], FAINT, 0.6)
        canvas.text(_LEFT - 4, y + TEXT / 3, plain(tick), "end")
    for tick in ticks(left, right):
        canvas.text(place(tick, low)[0], bottom + 11, plain(tick), "middle")
    if chart.across:
        canvas.text(WIDTH - _RIGHT, bottom + 21, chart.across, "end")
    if chart.marked is not None and left <= chart.marked <= right:
        x = place(chart.marked, low)[0]
        canvas.line([(x, _TOP), (x, bottom)], INK, 0.6)
        canvas.text(x, _TOP - 2, f"best: {plain(chart.marked)}", "end" if x > WIDTH / 2 else "start")
    for i, (name, line) in enumerate(lines.items()):
        canvas.line([place(x, y) for x, y in line], i, 1.3)
        if len(line) == 1:
            canvas.dot(*place(*line[0]), i)
        y = bottom + 21 + 11 * i
        canvas.line([(_LEFT, y - 3), (_LEFT + 14, y - 3)], i, 2.0)
        canvas.text(_LEFT + 18, y, short(name, 40))


def _room(values: list[float]) -> tuple[float, float]:
    """The ends of an axis: a little more than from the least to the greatest."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    span = high - low
    if span <= 1e-9 * max(abs(low), abs(high)):  # what rounding leaves of an interval of no width
        span = abs(high) or 1.0
    return low - span * 0.05, high + span * 0.05
