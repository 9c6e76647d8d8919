"""Half-size copies of a picture that is being painted: brought up to date where it changed, when they are looked at."""

from __future__ import annotations

import math
from collections.abc import Callable

from PySide6.QtCore import QPoint, QRect, QSize, Qt
from PySide6.QtGui import QImage, QPainter

LEAST = 128  # px, the longer side of the smallest copy
_RECTS_MOST = 24  # so many changed rectangles are kept apart


def level_for(zoom: float) -> int:
    """The smallest copy that has at least a px for each px of the screen."""
    return max(0, math.floor(math.log2(1 / zoom) + 1e-9)) if zoom < 1 else 0


class Pyramid:
    """A picture and its copies; each px of level k stands for 2^k × 2^k px."""

    def __init__(self, image: Callable[[], QImage]) -> None:
        """`image` gives the picture as it is now: it is painted on and must not be held."""
        self._image = image
        self._levels: list[QImage] = []  # from level 1
        self._dirty: list[list[QRect]] = []  # px of the level below it

    def forget(self) -> None:
        self._levels.clear()
        self._dirty.clear()

    def touch(self, rect: QRect) -> None:
        """This part of the picture was changed."""
        if self._dirty:
            _add(self._dirty[0], rect)

    def bring(self, wanted: int, room: int) -> int:
        """Do a part of what `level` has to do.

        Args:
            room: so many px may be looked at.

        Returns:
            How many are left of them; below 0 where not all is done yet.
        """
        below = self._image()
        for i in range(wanted):
            if max(below.width(), below.height()) <= LEAST:
                return room
            if i == len(self._levels):
                size = QSize((below.width() + 1) // 2, (below.height() + 1) // 2)
                self._levels.append(QImage(size, below.format()))
                self._dirty.append([below.rect()])
            dirty = self._dirty[i]
            while dirty:
                if room <= 0:
                    return -1
                rect = dirty.pop().intersected(below.rect())
                if rect.isEmpty():
                    continue
                # an even number of rows, so that no px of the copy is done twice
                rows = max(2, (room // rect.width() + 1) // 2 * 2 - rect.top() % 2)
                if rows < rect.height():
                    dirty.append(rect.adjusted(0, rows, 0, 0))
                    rect.setHeight(rows)
                half = _halve(below, rect, self._levels[i])
                room -= rect.width() * rect.height()
                if i + 1 < len(self._dirty):
                    _add(self._dirty[i + 1], half)
            below = self._levels[i]
        return room

    def level(self, wanted: int) -> tuple[QImage, int]:
        """The copy of a level, or the smallest that there is; and which it is."""
        image = self._image()
        self.bring(wanted, 1 << 62)
        deep = 0
        while deep < wanted and max(image.width(), image.height()) > LEAST:
            image = self._levels[deep]
            deep += 1
        return image, deep


def _halve(source: QImage, rect: QRect, target: QImage) -> QRect:
    """Write the mean of each 2×2 px of a part of the source, clear beyond its edge. Gives the part of the target."""
    rect = rect.intersected(source.rect())
    half = QRect(QPoint(rect.left() // 2, rect.top() // 2), QPoint(rect.right() // 2, rect.bottom() // 2))
    whole = QRect(half.x() * 2, half.y() * 2, half.width() * 2, half.height() * 2)
    part = source if whole == source.rect() else source.copy(whole)
    small = part.scaled(half.size(), Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation)
    painter = QPainter(target)
    painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_Source)
    painter.drawImage(half.topLeft(), small)
    painter.end()
    return half


def _add(rects: list[QRect], rect: QRect) -> None:
    if any(it.contains(rect) for it in rects):
        return
    rects.append(QRect(rect))
    if len(rects) > _RECTS_MOST:
        whole = QRect()
        for it in rects:
            whole = whole.united(it)
        rects[:] = [whole]
