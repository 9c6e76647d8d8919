"""Selections as pictures of one channel: alike colours, growing, softening. Knows pixels; knows nothing of documents.

A row of the picture is one whole number with a bit for each px. Adding a number to another carries through a whole run
of ones at once, so a flood goes through a row in a few operations, however long it is; no arrays are needed for that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, cast

from PySide6.QtCore import QPoint, QRect, Qt
from PySide6.QtGui import QImage, QPainter

_GREY, _COLOUR, _OPAQUE = (
    QImage.Format.Format_Alpha8,
    QImage.Format.Format_ARGB32_Premultiplied,
    QImage.Format.Format_RGB32,
)
SPREAD_LEAST = 0.2  # px; a smaller one is no blur
_TO_ALPHA = bytes.maketrans(b"01", b"\x00\xff")


def select(image: QImage, at: QPoint, tolerance: int, *, contiguous: bool = True) -> QImage:
    """Select what looks like the px at a place.

    Args:
        image: Alpha8 or ARGB32_Premultiplied.
        tolerance: 0…255, by how much any channel may differ.
        contiguous: only what is connected with the place (over edges, not over corners); otherwise everywhere.

    Returns:
        Alpha8 of the same size: 255 what is selected, 0 the rest.
    """
    if not image.rect().contains(at):
        return blank(image.width(), image.height())
    return select_in([image], image.copy(QRect(at, at)), image.width(), at, tolerance, contiguous=contiguous)


def select_in(
    parts: Iterable[QImage], seed: QImage, width: int, at: QPoint, tolerance: int, *, contiguous: bool = True,
    check: Callable[[], None] = lambda: None,
) -> QImage:  # fmt: skip
    """As `select`, of a picture that comes in strips from top to bottom, all of its width.

    Args:
        seed: the px at that place, 1×1. check: called now and then; may raise.
    """
    value = bytes(cast(Any, seed.constBits()))[: seed.depth() // 8]
    rows = []
    for part in parts:
        check()
        rows.extend(_alike(part, value, tolerance))
    if contiguous:
        rows = _flood(rows, width, at, check)
    return _drawn(rows, width)


def blank(width: int, height: int, value: int = 0) -> QImage:
    """An Alpha8 picture of one value."""
    made = QImage(width, height, _GREY)
    made.fill(value)
    return made


def _alike(image: QImage, wanted: bytes, tolerance: int) -> list[int]:
    """A number for each row: its bits say which px are like the wanted one, the leftmost in the highest bit."""
    width, depth = image.width(), image.depth() // 8
    line = image.bytesPerLine()
    tables = [bytes(49 if abs(v - value) <= tolerance else 48 for v in range(256)) for value in wanted]  # "1", "0"
    bits: Any = image.constBits()
    rows = []
    for start in range(0, line * image.height(), line):
        row = bytes(bits[start : start + width * depth])
        found = int(row[0::depth].translate(tables[0]), 2)
        for channel in range(1, depth):
            if not found:
                break
            found &= int(row[channel::depth].translate(tables[channel]), 2)
        rows.append(found)
    return rows


def _flood(alike: list[int], width: int, at: QPoint, check: Callable[[], None]) -> list[int]:
    """What is connected with a place."""
    height = len(alike)
    reached = [0] * height
    reached[at.y()] = _along(alike[at.y()], 1 << (width - 1 - at.x()))
    pending = {at.y()}  # rows that have something new to give to their neighbours
    down = True
    while pending:
        # one sweep down, then one up: most shapes are full after a few
        todo = sorted(pending, reverse=not down)
        pending = set()
        step = 1 if down else -1
        check()
        for start in todo:
            y = start
            while True:
                for other in (y + step, y - step):
                    if 0 <= other < height:
                        new = reached[y] & alike[other] & ~reached[other]
                        if new:
                            reached[other] |= _along(alike[other], new)
                            pending.add(other)
                pending.discard(y)
                y += step
                if y not in pending:
                    break
        down = not down
    return reached


def _along(row: int, seeds: int) -> int:
    """The whole runs of ones in a row in which there is a seed."""
    up = ((row + seeds) ^ row | seeds) & row  # from each lowest seed to the top of its run
    gaps, shift = row, 1
    found = up
    while True:  # and down again, in strides that double
        more = found | (found >> shift & gaps)
        if more == found and shift > 1 and not (found >> 1 & row & ~found):
            return found
        found = more
        gaps &= gaps >> shift
        shift *= 2


def _drawn(rows: list[int], width: int) -> QImage:
    """The rows as an Alpha8 picture."""
    empty = bytes(width)
    text = f"0{width}b"
    data = b"".join(format(row, text).encode().translate(_TO_ALPHA) if row else empty for row in rows)
    return QImage(data, width, len(rows), width, _GREY).copy()


def grown(mask: QImage, by: int) -> QImage:
    """Spread an Alpha8 picture by so many px in all directions (an octagon), or shrink it where `by` is negative.

    The largest value within reach counts, so soft edges stay soft. Beyond the picture there is what is at its edge.
    """
    if not by:
        return mask.copy()
    if by < 0:
        made = inverted(mask)
        return inverted(grown(made, -by))
    diagonal = min(round(by * (1 - math.sqrt(0.5))), (by - 1) // 2)
    straight = by - 2 * diagonal
    size = _padded(mask, by)
    for dx, dy, reach in ((1, 0, straight), (0, 1, straight), (1, 1, diagonal), (1, -1, diagonal)):
        size = _largest_along(size, dx, dy, reach)
    return _to_grey(size.copy(by, by, mask.width(), mask.height()))


def octagon(by: int) -> set[tuple[int, int]]:
    """The places around a px that `grown` looks at."""
    diagonal = min(round(by * (1 - math.sqrt(0.5))), (by - 1) // 2) if by else 0
    straight = by - 2 * diagonal
    places = {(0, 0)}
    for dx, dy, reach in ((1, 0, straight), (0, 1, straight), (1, 1, diagonal), (1, -1, diagonal)):
        places = {(x + i * dx, y + i * dy) for x, y in places for i in range(-reach, reach + 1)}
    return places


def _largest_along(image: QImage, dx: int, dy: int, reach: int) -> QImage:
    """The largest value within `reach` steps of (dx, dy), both ways; in strides that double."""
    if not reach:
        return image
    window, whole = 1, 2 * reach + 1
    made = QImage(image)
    while window < whole:
        stride = min(window, whole - window)
        before = QImage(made)
        painter = QPainter(made)
        painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_Lighten)
        painter.drawImage(QPoint(dx * stride, dy * stride), before)
        painter.end()
        window += stride
    moved = QImage(image.size(), _OPAQUE)
    moved.fill(Qt.GlobalColor.black)
    painter = QPainter(moved)
    painter.drawImage(QPoint(-dx * reach, -dy * reach), made)
    painter.end()
    return moved


def softness(radius: float) -> tuple[float, int, int]:
    """Of a blur: its spread in px, by how much the picture is shrunk for it, and how many px of that it reaches."""
    spread = radius / 2
    shrink = max(1, int(spread / 2))
    return spread, shrink, math.ceil(2.5 * spread / shrink)


def feathered(mask: QImage, radius: float) -> QImage:
    """Soften an Alpha8 picture: a Gaussian blur with half of `radius` (px) as its spread. Plain areas stay as they are.

    Where the spread is large the blur is done on a smaller copy, so the cost hardly grows with it.
    """
    spread, shrink, _ = softness(radius)
    if spread < SPREAD_LEAST:
        return mask.copy()
    return blurred_part(smaller(mask, shrink), mask.rect(), radius, shrink)


def smaller(mask: QImage, shrink: int) -> QImage:
    """The mean of each square of so many px, Alpha8; what is at the right and lower edge goes on beyond it."""
    # whole multiples, so that nothing is moved
    extra_x, extra_y = (-it % shrink for it in (mask.width(), mask.height()))
    large = _padded(mask, 0, extra_x, extra_y)
    if shrink > 1:
        large = _scaled(large, large.width() // shrink, large.height() // shrink)
    return _to_grey(large)


def blurred_part(small: QImage, part: QRect, radius: float, shrink: int) -> QImage:
    """A part of a picture of which there is a smaller copy (see `smaller`), blurred.

    Args:
        part: in px of the picture.
    """
    spread, _, reach = softness(radius)
    around = QRect(
        QPoint(part.left() // shrink - reach - 2, part.top() // shrink - reach - 2),
        QPoint(part.right() // shrink + reach + 2, part.bottom() // shrink + reach + 2),
    )
    inside = around.intersected(small.rect())
    made = _padded(
        small.copy(inside), 0, around.right() - inside.right(), around.bottom() - inside.bottom(),
        left=inside.left() - around.left(), top=inside.top() - around.top(),
    )  # fmt: skip
    weights = [math.exp(-((i * shrink / spread) ** 2) / 2) for i in range(reach + 1)]
    for across in (True, False):
        made = _weighted(made, weights, across)
    if shrink > 1:
        made = _scaled(made, made.width() * shrink, made.height() * shrink)
    return _to_grey(made.copy(part.translated(-around.x() * shrink, -around.y() * shrink)))


def _weighted(image: QImage, weights: list[float], across: bool) -> QImage:
    """The weighted mean of shifted copies. A running mean, so that what is all alike stays so to the last bit."""
    made = QImage(image)
    done = weights[0]
    painter = QPainter(made)
    for i, weight in enumerate(weights[1:], 1):
        for shift in (i, -i):
            done += weight
            painter.setOpacity(weight / done)
            painter.drawImage(QPoint(shift, 0) if across else QPoint(0, shift), image)
    painter.end()
    return made


def inverted(mask: QImage) -> QImage:
    """255 becomes 0 and the other way round."""
    made = mask.copy()
    made.reinterpretAsFormat(QImage.Format.Format_Grayscale8)
    made.invertPixels()
    made.reinterpretAsFormat(_GREY)
    return made


def filled_bounds(mask: QImage) -> QRect:
    """The smallest rectangle around all that is not 0."""
    width, line = mask.width(), mask.bytesPerLine()
    bits = mask.constBits()
    empty = bytes(width)
    top = bottom = -1
    left, right = width, -1
    for y in range(mask.height()):
        row = bytes(bits[y * line : y * line + width])
        if row == empty:
            continue
        top, bottom = (y if top < 0 else top), y
        left = min(left, width - len(row.lstrip(b"\0")))
        right = max(right, len(row.rstrip(b"\0")) - 1)
    return QRect(QPoint(left, top), QPoint(right, bottom)) if bottom >= 0 else QRect()


def is_clear(image: QImage) -> bool:
    """Whether all bytes are 0; lines of Alpha8 must be filled up with 0 or be whole."""
    line, wide = image.bytesPerLine(), image.width() * image.depth() // 8
    if line == wide:
        return bytes(image.constBits()) == bytes(line * image.height())
    bits, empty = image.constBits(), bytes(wide)
    return all(bits[i : i + wide] == empty for i in range(0, line * image.height(), line))


def is_plain(mask: QImage) -> bool:
    """Whether an Alpha8 picture has one value everywhere."""
    line, wide = mask.bytesPerLine(), mask.width()
    bits: Any = mask.constBits()
    first = bytes(bits[:1]) * wide
    return all(bytes(bits[i : i + wide]) == first for i in range(0, line * mask.height(), line))


def _padded(mask: QImage, by: int, right: int = 0, bottom: int = 0, *, left: int = 0, top: int = 0) -> QImage:
    """An opaque grey copy with a margin that repeats the edge, as if shapes went on beyond it."""
    grey = QImage(mask)
    grey.reinterpretAsFormat(QImage.Format.Format_Grayscale8)
    width, height = mask.width(), mask.height()
    left, top, right, bottom = (it + by for it in (left, top, right, bottom))
    made = QImage(left + width + right, top + height + bottom, _OPAQUE)
    painter = QPainter(made)
    parts_x = ((0, left, 0, 1), (left, width, 0, width), (left + width, right, width - 1, 1))
    parts_y = ((0, top, 0, 1), (top, height, 0, height), (top + height, bottom, height - 1, 1))
    for x, wide, from_x, from_wide in parts_x:
        for y, high, from_y, from_high in parts_y:
            if wide and high:
                painter.drawImage(QRect(x, y, wide, high), grey, QRect(from_x, from_y, from_wide, from_high))
    painter.end()
    return made


def _to_grey(image: QImage) -> QImage:
    made = image.convertToFormat(QImage.Format.Format_Grayscale8)
    made.reinterpretAsFormat(_GREY)
    return made


def _scaled(image: QImage, width: int, height: int) -> QImage:
    kinds = Qt.TransformationMode.SmoothTransformation
    return image.scaled(width, height, Qt.AspectRatioMode.IgnoreAspectRatio, kinds)
