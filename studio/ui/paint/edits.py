"""Changes that take long on a large picture, worked out on a copy: as tiles that are laid into the document at once.

Each function takes a snapshot and gives a patch; nothing is changed here, so that all of it may run on another thread.
It goes in small pieces, because Qt holds the interpreter while it draws, and the window waits for it meanwhile.
Knows pixels; knows nothing of threads or widgets.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from PySide6.QtCore import QPoint, QRect
from PySide6.QtGui import QColor, QImage, QPainter

from studio.ui.paint import regions
from studio.ui.paint.history import TILE, Blob, History, Step, tile_rect, tiles_under
from studio.ui.paint.snapshot import Check, Layer, Snapshot
from studio.ui.strings import tr

Edit = Callable[[Snapshot, Check], "Patch | Turn"]

_MASK = 0
_BLOCK = 2 * TILE  # px; fits the processor's caches
_SHRINK_APART = 8  # from that on it is cheaper to shrink the mask as a whole than block by block

_Mode = QPainter.CompositionMode
_COLOUR, _GREY = QImage.Format.Format_ARGB32_Premultiplied, QImage.Format.Format_Alpha8
_SOURCE = _Mode.CompositionMode_Source
_MODES = {
    "add": _Mode.CompositionMode_SourceOver,
    "replace": _SOURCE,
    "remove": _Mode.CompositionMode_DestinationOut,
}


def _unchecked() -> None:
    """Nobody wants to stop it."""


@dataclass(frozen=True)
class Patch:
    """Tiles as they are to be.

    Attributes:
        name: of the step. revision: of the document that it was made for; it fits no other.
        target: a layer's id or 0 for the mask.
        tiles: column, row and content; only those that change.
        cleared: of the mask, which of them hold nothing.
        surface: what a layer is to become that has to be larger, and its place; the tiles are all of it then.
    """

    name: str
    revision: int
    target: int
    tiles: tuple[tuple[int, int, QImage], ...] = field(repr=False)
    cleared: frozenset[tuple[int, int]] = frozenset()
    surface: tuple[QImage, int, int] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Turn:
    """One step back or forth, what it needs unpacked already.

    Attributes:
        revision: of the document; in another one it is another step. images: what could be read of its tiles.
    """

    revision: int
    forth: bool
    images: dict[Blob, QImage] = field(repr=False)


def tiles_of(step: Step, *, forth: bool) -> list[Blob]:
    """What is laid into the document when a step is undone, or redone."""
    return [it for it in (pair[forth] for pair in step.changes.values()) if it is not None]


def unpack(shot: Snapshot, history: History, check: Check = _unchecked, *, forth: bool = False) -> Turn:
    """Read what the next step back, or forth, needs."""
    step = history.next(forth=forth)
    images: dict[Blob, QImage] = {}
    for blob in _checked(tiles_of(step, forth=forth) if step is not None else (), check):
        # the lock only for one tile at a time: the window asks the history for its names meanwhile
        with history.lock, contextlib.suppress(OSError, ValueError):
            images[blob] = blob.image()
    return Turn(shot.revision, forth, images)


# -- the mask


def grow(shot: Snapshot, by: int, check: Check = _unchecked) -> Patch:
    """Spread the mask by so many px, or shrink it if below 0."""
    name = tr("Grow the mask") if by >= 0 else tr("Shrink the mask")
    around = _around_mask(shot, abs(by) + 1, check) if by else QRect()
    return _masked(shot, name, _grown(shot.mask, around, by), check)


def feather(shot: Snapshot, radius: float, check: Check = _unchecked) -> Patch:
    """Soften the edge of the mask, so many px wide."""
    around = _around_mask(shot, math.ceil(3 * radius) + 1, check) if radius > 0 else QRect()
    spread, shrink, reach = regions.softness(radius)
    if around.isEmpty() or spread < regions.SPREAD_LEAST:
        made: Iterable[tuple[QRect, QImage]] = ()
    elif shrink < _SHRINK_APART:
        made = _feathered(shot.mask, around, radius, shrink, (reach + 2) * shrink)
    else:
        made = _feathered_as_whole(shot.mask, around, radius, check)
    return _masked(shot, tr("Feather the mask"), made, check)


def invert(shot: Snapshot, check: Check = _unchecked) -> Patch:
    made = ((block, regions.inverted(shot.mask.copy(block))) for block in _blocks(shot.rect))
    return _masked(shot, tr("Invert the mask"), made, check)


def fill(shot: Snapshot, value: int, check: Check = _unchecked) -> Patch:
    """Give the whole mask one value, 0…255."""
    name = tr("Fill the mask") if value else tr("Clear the mask")
    made = ((block, regions.blank(block.width(), block.height(), value)) for block in _blocks(shot.rect))
    return _masked(shot, name, made, check)


def select(
    shot: Snapshot, at: QPoint, tolerance: int, check: Check = _unchecked, *, contiguous: bool = True,
    mode: str = "add",
) -> Patch:  # fmt: skip
    """Mask what looks like the px at a place; see `Document.select_by_colour`."""
    found = _alike(shot, at, tolerance, contiguous, check)
    return _masked(shot, tr("Select by colour"), _combined(shot, found, mode), check)


def flood_mask(
    shot: Snapshot, at: QPoint, tolerance: int, check: Check = _unchecked, *, erases: bool = False
) -> Patch:  # fmt: skip
    """Fill a part of the mask that the brush has drawn a line around, or empty a filled one."""
    if not shot.rect.contains(at):
        return _masked(shot, tr("Fill the mask"), (), check)
    parts = (shot.mask.copy(it) for it in _checked(_strips(shot.rect), check))
    found = regions.select_in(parts, shot.mask.copy(QRect(at, at)), shot.width, at, tolerance, check=check)
    # half a px on, so that no seam is left at the soft edge of the line around it
    wider = regions.blank(shot.width, shot.height)
    for block in _checked(_blocks(shot.rect), check):
        _lay(wider, block.topLeft(), _grown_block(found, block, 1) or found.copy(block))
    return _masked(shot, tr("Fill the mask"), _combined(shot, wider, "remove" if erases else "add"), check)


# -- a layer


def flood(
    shot: Snapshot, id: int, at: QPoint, colour: QColor, tolerance: int, check: Check = _unchecked, *,
    contiguous: bool = True,
) -> Patch:  # fmt: skip
    """Colour what looks like the px at a place, on a layer.

    Raises:
        KeyError: there is no such layer.
    """
    found = _alike(shot, at, tolerance, contiguous, check)
    return _coloured(shot, tr("Fill"), id, found, colour, check)


def colour(shot: Snapshot, id: int, ink: QColor, check: Check = _unchecked, *, masked: bool = False) -> Patch:
    """Colour a layer as a whole, or where the mask is.

    Raises:
        KeyError: there is no such layer.
    """
    return _coloured(shot, tr("Fill"), id, shot.mask if masked else None, ink, check)


def clear_layer(shot: Snapshot, id: int, check: Check = _unchecked) -> Patch:
    """Make a layer see-through.

    Raises:
        KeyError: there is no such layer.
    """
    layer, tiles = shot.layer(id), []
    for column, row in _checked(tiles_under(layer.image.rect(), *_size(layer)), check):
        here = tile_rect(column, row, *_size(layer))
        tile = QImage(here.size(), _COLOUR)
        tile.fill(0)
        if tile != layer.image.copy(here):
            tiles.append((column, row, tile))
    return Patch(tr("Clear the layer"), shot.revision, id, tuple(tiles))


def _coloured(shot: Snapshot, name: str, id: int, selection: QImage | None, ink: QColor, check: Check) -> Patch:
    """Colour on a layer where a selection, as large as the document, allows it."""
    layer, tiles = shot.layer(id), []
    if layer.rect.contains(shot.rect):
        for column, row in _checked(tiles_under(shot.rect.translated(-layer.x, -layer.y), *_size(layer)), check):
            here = tile_rect(column, row, *_size(layer))
            made = _inked(layer.image.copy(here), here.translated(layer.x, layer.y), shot.rect, selection, ink)
            if made is not None:
                tiles.append((column, row, made))
        return Patch(name, shot.revision, id, tuple(tiles))
    # it has to reach everywhere first
    around = layer.rect.united(shot.rect)
    image = QImage(around.size(), _COLOUR)
    for column, row in _checked(tiles_under(image.rect(), image.width(), image.height()), check):
        here = tile_rect(column, row, image.width(), image.height())
        there = here.translated(around.topLeft())
        tile = layer.image.copy(there.translated(-layer.x, -layer.y))
        tile = _inked(tile, there, shot.rect, selection, ink) or tile
        _lay(image, here.topLeft(), tile)
        tiles.append((column, row, tile))
    return Patch(name, shot.revision, id, tuple(tiles), surface=(image, around.x(), around.y()))


def _inked(tile: QImage, place: QRect, whole: QRect, selection: QImage | None, ink: QColor) -> QImage | None:
    """A tile of a layer with colour where a selection is, or None where there is none. `place` is in the document."""
    inside = place.intersected(whole)
    if inside.isEmpty():
        return None
    laid = QImage(inside.size(), _COLOUR)
    laid.fill(ink)
    if selection is not None:
        part = selection.copy(inside)
        if regions.is_clear(part):
            return None
        _lay(laid, QPoint(), part, _Mode.CompositionMode_DestinationIn)
    _lay(tile, inside.topLeft() - place.topLeft(), laid, _Mode.CompositionMode_SourceOver)
    return tile


def _size(layer: Layer) -> tuple[int, int]:
    return layer.image.width(), layer.image.height()


# -- pieces


def _blocks(around: QRect, side: int = 0) -> Iterator[QRect]:
    """Pieces whose edges are edges of tiles or of the rectangle."""
    side = side or _BLOCK
    if around.isEmpty():
        return
    for y in range(around.top() // side * side, around.bottom() + 1, side):
        for x in range(around.left() // side * side, around.right() + 1, side):
            yield QRect(x, y, side, side).intersected(around)


def _strips(rect: QRect) -> Iterator[QRect]:
    for y in range(rect.top(), rect.bottom() + 1, TILE):
        yield QRect(rect.x(), y, rect.width(), min(TILE, rect.bottom() + 1 - y))


def _checked(them: Iterable[Any], check: Check) -> Iterator[Any]:
    for it in them:
        check()
        yield it


def _lay(image: QImage, at: QPoint, part: QImage, mode: QPainter.CompositionMode = _SOURCE) -> None:
    painter = QPainter(image)
    painter.setCompositionMode(mode)
    painter.drawImage(at, part)
    painter.end()


def _masked(shot: Snapshot, name: str, parts: Iterable[tuple[QRect, QImage]], check: Check) -> Patch:
    """The tiles of the mask that these parts of it change."""
    changed: dict[tuple[int, int], QImage] = {}
    for rect, image in _checked(parts, check):
        for column, row in tiles_under(rect, shot.width, shot.height):
            here = tile_rect(column, row, shot.width, shot.height)
            inside = rect.intersected(here)
            tile = changed.get((column, row))
            if tile is None:
                tile = shot.mask.copy(here)
            _lay(tile, inside.topLeft() - here.topLeft(), image.copy(inside.translated(-rect.topLeft())))
            changed[column, row] = tile
    tiles, cleared = [], set()
    for (column, row), tile in _checked(changed.items(), check):
        if tile == shot.mask.copy(tile_rect(column, row, shot.width, shot.height)):
            continue
        tiles.append((column, row, tile))
        if regions.is_clear(tile):
            cleared.add((column, row))
    return Patch(name, shot.revision, _MASK, tuple(tiles), frozenset(cleared))


def _around_mask(shot: Snapshot, by: int, check: Check) -> QRect:
    """All that is masked and so many px around it; empty if nothing is."""
    around = QRect()
    for column, row in _checked(shot.filled, check):
        here = tile_rect(column, row, shot.width, shot.height)
        found = regions.filled_bounds(shot.mask.copy(here))
        if not found.isEmpty():
            around = around.united(found.translated(here.topLeft()))
    return around.adjusted(-by, -by, by, by).intersected(shot.rect) if not around.isEmpty() else QRect()


def _grown(mask: QImage, around: QRect, by: int) -> Iterator[tuple[QRect, QImage]]:
    for block in _blocks(around):
        made = _grown_block(mask, block, by)
        if made is not None:
            yield block, made


def _grown_block(mask: QImage, block: QRect, by: int) -> QImage | None:
    """A part of the grown mask; None where all is alike, so that nothing changes."""
    reach = abs(by)
    wide = block.adjusted(-reach, -reach, reach, reach).intersected(mask.rect())
    part = mask.copy(wide)
    if regions.is_plain(part):
        return None
    return regions.grown(part, by).copy(block.translated(-wide.topLeft()))


def _feathered(
    mask: QImage, around: QRect, radius: float, shrink: int, reach: int
) -> Iterator[tuple[QRect, QImage]]:  # fmt: skip
    for block in _blocks(around, TILE):  # it takes many strokes of the painter
        wide = block.adjusted(-reach, -reach, reach, reach)
        # from a whole multiple, so that all blocks are shrunk alike and no seam is seen
        wide.setLeft(max(0, wide.left() // shrink * shrink))
        wide.setTop(max(0, wide.top() // shrink * shrink))
        wide = wide.intersected(mask.rect())
        part = mask.copy(wide)
        if not regions.is_plain(part):
            yield block, regions.feathered(part, radius).copy(block.translated(-wide.topLeft()))


def _feathered_as_whole(mask: QImage, around: QRect, radius: float, check: Check) -> Iterator[tuple[QRect, QImage]]:
    """Where the blur reaches far: all of the mask small, blurred, and made large again block by block."""
    _, shrink, _ = regions.softness(radius)
    small = QImage((mask.width() + shrink - 1) // shrink, (mask.height() + shrink - 1) // shrink, _GREY)
    step = max(1, TILE // shrink)
    for y in _checked(range(0, small.height(), step), check):
        high = min(step, small.height() - y)
        part = mask.copy(0, y * shrink, mask.width(), min(high * shrink, mask.height() - y * shrink))
        _lay(small, QPoint(0, y), regions.smaller(part, shrink))
    for block in _blocks(around):
        yield block, regions.blurred_part(small, block, radius, shrink)


def _combined(shot: Snapshot, selection: QImage, mode: str) -> Iterator[tuple[QRect, QImage]]:
    for block in _blocks(shot.rect):
        part = selection.copy(block)
        if mode != "replace" and regions.is_clear(part):
            continue
        made = shot.mask.copy(block)
        _lay(made, QPoint(), part, _MODES[mode])
        yield block, made


def _alike(shot: Snapshot, at: QPoint, tolerance: int, contiguous: bool, check: Check) -> QImage:
    """What looks like a px of the flattened picture, as Alpha8."""
    if not shot.rect.contains(at):
        return regions.blank(shot.width, shot.height)
    parts = (shot.composed(it) for it in _checked(_strips(shot.rect), check))
    seed = shot.composed(QRect(at, at))
    return regions.select_in(parts, seed, shot.width, at, tolerance, contiguous=contiguous, check=check)


__all__ = [
    "Check",
    "Edit",
    "Patch",
    "Turn",
    "clear_layer",
    "colour",
    "feather",
    "fill",
    "flood",
    "flood_mask",
    "grow",
    "invert",
    "select",
    "tiles_of",
    "unpack",
]
