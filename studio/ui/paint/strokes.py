"""The brush: dabs along a line, on a layer or on the mask. Knows pixels and tiles; knows no pointers or widgets.

A stroke at full opacity is laid directly on the surface. Below that, dabs are gathered in tiles of their own, and what
was there before is put back under them at each move: where a stroke crosses itself it gets no darker than its opacity.
"""

from __future__ import annotations

import functools
import math
import time
from dataclasses import dataclass
from typing import Protocol

from PySide6.QtCore import QPoint, QPointF, QRect, QRectF, Qt
from PySide6.QtGui import QColor, QImage, QPainter, QRadialGradient

from studio.ui.paint.history import TILE, tiles_under

SIZE_LEAST, SIZE_MOST = 1.0, 2000.0  # px
KEEP_AFTER = 0.4  # seconds; so much of an unfinished stroke may be lost in a crash
_STOPS = 32  # of the gradient of a dab
_EXACT_BELOW = 32.0  # px; smaller dabs are laid at quarters of a px

_COLOUR = QImage.Format.Format_ARGB32_Premultiplied
_Mode = QPainter.CompositionMode


@dataclass(frozen=True)
class Brush:
    """What a stroke is made with.

    Attributes:
        size: px across. hardness: 0…1, how much of the radius is full.
        opacity: 0…1, of the whole stroke. flow: 0…1, of each dab. spacing: between dabs, as a share of the size.
        colour: for layers; the mask takes its opacity only. erases: takes away instead.
        size_by_pressure, flow_by_pressure: what the pressure of a pen changes.
    """

    size: float = 40.0
    hardness: float = 0.8
    opacity: float = 1.0
    flow: float = 1.0
    spacing: float = 0.1
    colour: int = 0xFF000000  # ARGB
    erases: bool = False
    size_by_pressure: bool = True
    flow_by_pressure: bool = False


class Ground(Protocol):
    """What a stroke is laid on."""

    def surface(self) -> QImage: ...

    def origin(self) -> QPoint:
        """Where the surface begins, in px of the document."""

    def touched(self, rect: QRect) -> None:
        """This part of the surface, in its own px, was changed."""

    def keep(self) -> None:
        """Make sure that what was painted so far outlives a crash."""

    def finish(self) -> None:
        """The stroke has ended."""


def strength(distance: float, radius: float, hardness: float) -> float:
    """How strong a dab is so far from its middle, 0…1."""
    outer, inner = radius + 0.5, max(0.0, min(hardness * radius, radius - 0.5))
    if distance <= inner:
        return 1.0
    if distance >= outer:
        return 0.0
    share = (outer - distance) / (outer - inner)
    return share * share * (3 - 2 * share)


@functools.lru_cache(maxsize=128)
def _dab(size: float, hardness: float, colour: int, part_x: float, part_y: float) -> QImage:
    """One dab; its middle lies `part_x`, `part_y` px right of and below the middle px's corner."""
    radius = size / 2
    reach = math.ceil(radius + 1.5)
    made = QImage(2 * reach, 2 * reach, _COLOUR)
    made.fill(Qt.GlobalColor.transparent)
    outer = radius + 0.5
    shade = QRadialGradient(reach + part_x, reach + part_y, outer)
    ink = QColor.fromRgba(colour)
    for i in range(_STOPS + 1):
        ink.setAlphaF(strength(outer * i / _STOPS, radius, hardness))
        shade.setColorAt(i / _STOPS, ink)
    inner = max(0.0, min(hardness * radius, radius - 0.5)) / outer
    if 0 < inner < 1:
        ink.setAlphaF(1.0)
        shade.setColorAt(inner, ink)
    painter = QPainter(made)
    painter.fillRect(made.rect(), shade)
    painter.end()
    return made


class Stroke:
    """A stroke that is being painted. Coordinates are px of the document; (0, 0) is the corner of the first px."""

    def __init__(self, ground: Ground, brush: Brush) -> None:
        self._ground, self.brush = ground, brush
        ink = QColor.fromRgba(brush.colour)
        self._ink = ink.rgb()  # without its opacity
        self._opacity = min(1.0, max(0.0, brush.opacity)) * ink.alphaF()
        self._last: tuple[float, float, float] | None = None  # x, y, pressure
        self._left = 0.0  # px until the next dab
        self._before: dict[tuple[int, int], QImage] = {}
        self._dabs: dict[tuple[int, int], QImage] = {}
        self._kept_at = time.monotonic()
        self._dirty = False
        self.ended = False

    def to(self, x: float, y: float, pressure: float = 1.0) -> QRect:
        """Go on to a place, in a straight line.

        Returns:
            What was changed, in px of the document.
        """
        if self.ended:
            return QRect()
        pressure = min(1.0, max(0.0, pressure))
        if self._last is None:
            places = [(x, y, pressure)]
            self._left = self._stride(pressure)
        else:
            places = self._along(self._last, (x, y, pressure))
        self._last = (x, y, pressure)
        changed = self._lay(places)
        if not changed.isEmpty():
            self._dirty = True
        if self._dirty and time.monotonic() - self._kept_at > KEEP_AFTER:
            self.keep()
        return changed

    def keep(self) -> None:
        """Keep what was painted so far in the history; for who knows that the pointer rests."""
        if self._dirty and not self.ended:
            self._ground.keep()
            self._dirty = False
        self._kept_at = time.monotonic()

    def end(self) -> None:
        """Finish; the stroke can be undone as a whole from now on."""
        if not self.ended:
            self.ended = True
            self._ground.finish()

    def _size(self, pressure: float) -> float:
        size = min(SIZE_MOST, max(SIZE_LEAST, self.brush.size))
        if self.brush.size_by_pressure and pressure < 1.0:
            size = max(SIZE_LEAST, size * (0.1 + 0.9 * pressure))
            size = round(size * 4) / 4 if size < 64 else float(round(size))  # few different dabs
        return size

    def _stride(self, pressure: float) -> float:
        return max(0.5, self._size(pressure) * max(0.01, self.brush.spacing))

    def _along(
        self, start: tuple[float, float, float], end: tuple[float, float, float]
    ) -> list[tuple[float, float, float]]:
        """The places of dabs between two points; the distance goes on from one piece of the stroke to the next."""
        length = math.hypot(end[0] - start[0], end[1] - start[1])
        places = []
        at = self._left
        while at <= length:
            share = at / length if length else 0.0
            x, y, pressure = (a + (b - a) * share for a, b in zip(start, end, strict=True))
            places.append((x, y, pressure))
            at += self._stride(pressure)
        self._left = at - length
        return places

    def _lay(self, places: list[tuple[float, float, float]]) -> QRect:
        if not places:
            return QRect()
        surface, origin = self._ground.surface(), self._ground.origin()
        dabs: list[tuple[QPoint, QImage, float]] = []
        changed = QRect()
        for x, y, pressure in places:
            flow = self.brush.flow * (pressure if self.brush.flow_by_pressure else 1.0)
            place, image = self._placed(x - origin.x(), y - origin.y(), self._size(pressure))
            rect = QRect(place, image.size()).intersected(surface.rect())
            if rect.isEmpty() or flow <= 0:
                continue
            dabs.append((place, image, flow))
            changed = changed.united(rect)
        if not dabs:
            return QRect()
        if self._opacity >= 1.0:
            painter = QPainter(surface)
            painter.setCompositionMode(self._mode)
            _draw(painter, dabs, QPoint())
            painter.end()
        else:
            self._gather(surface, dabs)
        self._ground.touched(changed)
        return changed.translated(origin)

    def _placed(self, x: float, y: float, size: float) -> tuple[QPoint, QImage]:
        if size < _EXACT_BELOW:
            x, y = round(x * 4) / 4, round(y * 4) / 4
        else:
            x, y = float(round(x)), float(round(y))
        whole_x, whole_y = math.floor(x), math.floor(y)
        image = _dab(size, self.brush.hardness, self._ink, x - whole_x, y - whole_y)
        return QPoint(whole_x - image.width() // 2, whole_y - image.height() // 2), image

    @property
    def _mode(self) -> QPainter.CompositionMode:
        erases = self.brush.erases
        return _Mode.CompositionMode_DestinationOut if erases else _Mode.CompositionMode_SourceOver

    def _gather(self, surface: QImage, dabs: list[tuple[QPoint, QImage, float]]) -> None:
        """Add dabs to those of the stroke, and lay all of them over what was there before it."""
        by_tile: dict[tuple[int, int], list[tuple[QPoint, QImage, float]]] = {}
        for dab in dabs:
            rect = QRect(dab[0], dab[1].size())
            for tile in tiles_under(rect, surface.width(), surface.height()):
                by_tile.setdefault(tile, []).append(dab)
        for tile, some in by_tile.items():
            corner = QPoint(tile[0] * TILE, tile[1] * TILE)
            whole = QRect(corner.x(), corner.y(), TILE, TILE).intersected(surface.rect())
            if tile not in self._dabs:
                self._before[tile] = surface.copy(whole)
                made = QImage(whole.size(), _COLOUR)
                made.fill(Qt.GlobalColor.transparent)
                self._dabs[tile] = made
            painter = QPainter(self._dabs[tile])
            _draw(painter, some, corner)
            painter.end()
            part = QRect()
            for place, image, _ in some:
                part = part.united(QRect(place, image.size()))
            part = part.intersected(whole).translated(-corner)
            at = part.topLeft() + corner
            painter = QPainter(surface)
            painter.setCompositionMode(_Mode.CompositionMode_Source)
            painter.drawImage(at, self._before[tile], part)
            painter.setCompositionMode(self._mode)
            painter.setOpacity(self._opacity)
            painter.drawImage(at, self._dabs[tile], part)
            painter.end()


def _draw(painter: QPainter, dabs: list[tuple[QPoint, QImage, float]], corner: QPoint) -> None:
    for place, image, flow in dabs:
        painter.setOpacity(flow)
        painter.drawImage(place - corner, image)


def outline(x: float, y: float, size: float) -> QRectF:
    """The circle that a brush covers around a point."""
    return QRectF(QPointF(x - size / 2, y - size / 2), QPointF(x + size / 2, y + size / 2))
