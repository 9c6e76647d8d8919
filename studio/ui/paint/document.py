"""A picture that is being painted: layers from bottom to top, one mask, and a frame that may reach beyond the picture.

Knows pixels and what can be done with them; knows nothing of widgets. Everything that changes goes through a method,
becomes a step of the history, and is told by signals with the rectangle that was changed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QObject, QPoint, QRect, QSize, Qt, Signal
from PySide6.QtGui import QColor, QImage, QPainter

from studio.ui.paint import edits, regions
from studio.ui.paint.history import LIMIT, Blob, History, Kept, Key, Step, load, tile_rect, tiles_under
from studio.ui.paint.snapshot import (
    BLENDS,
    DocumentSheet,
    Layer,
    Snapshot,
    as_grey,
    composed,
    draw_layer,
    empty,
    sheet_of,
)
from studio.ui.paint.strokes import Brush, Stroke
from studio.ui.strings import tr

MASK = 0  # stands for the mask where a layer's id is asked for
SIDE_MOST = 16_384  # px
LAYERS_MOST = 64
FRAME_STEP = 8  # px
FRAME_LEAST = 64  # px, the smallest frame
KEY_LASTS = 2.0  # seconds; a slider that was left longer than that begins another step

_GREY, _COLOUR = QImage.Format.Format_Alpha8, QImage.Format.Format_ARGB32_Premultiplied
_Mode = QPainter.CompositionMode


class Locked(ValueError):
    """The layer is locked."""


class Document(QObject):
    """A picture of layers.

    Signals:
        pixels_changed(int, QRect): of a layer (its id) or the mask (0), in px of the document.
        layers_changed(): their number, order or properties.
        size_changed(): the document has another size.
        frame_changed(int, int, int, int): left, top, right, bottom; px beyond the edges.
        mask_changed(bool): it was changed; whether it is empty now.
        history_changed(): another step would be undone or redone.
    """

    pixels_changed = Signal(int, QRect)
    layers_changed = Signal()
    size_changed = Signal()
    frame_changed = Signal(int, int, int, int)
    mask_changed = Signal(bool)
    history_changed = Signal()

    def __init__(
        self, width: int, height: int, folder: Path | None = None, *, picture: QImage | None = None,
        limit: int = LIMIT, parent: QObject | None = None,
    ) -> None:  # fmt: skip
        """A new document with one layer.

        Args:
            folder: where its history is kept; what another document kept there is replaced. None keeps it in memory.
            picture: what the layer shows; clear if None.
            limit: bytes for the history; the oldest steps are dropped beyond it.

        Raises:
            ValueError: a side is not between 1 and 16,384 px.
        """
        super().__init__(parent)
        check_size(width, height)
        self._clear_out()
        self._size = QSize(width, height)
        self._mask_surface = self._add_surface(regions.blank(width, height))
        image = empty(width, height) if picture is None else _own(picture)
        name = tr("Layer 1") if picture is None else tr("Picture")
        self.layers.append(Layer(self._number(), name, image, self._add_surface(image)))
        self._begin(folder, limit)

    @classmethod
    def open(cls, folder: Path, *, limit: int = LIMIT, parent: QObject | None = None) -> Document:
        """Bring back what a folder holds, with all that can be undone and redone.

        Raises:
            OSError: there is nothing, or it cannot be read. ValueError: it is not a document.
        """
        kept = load(folder)
        sheet = sheet_of(kept.sheet)
        made = cls.__new__(cls)
        QObject.__init__(made, parent)
        made._clear_out()
        made.history = History(kept, folder, limit)
        with made.history.lock:
            made._take(sheet, dict(kept.tiles), tell=False)
        return made

    @classmethod
    def of_layers(
        cls, width: int, height: int,
        layers: Sequence[tuple[QImage, str, int, int, float, str, bool, bool]], mask: QImage | None = None,
        folder: Path | None = None, *, limit: int = LIMIT, parent: QObject | None = None,
    ) -> Document:  # fmt: skip
        """A new document with these layers, from bottom to top, and nothing to undo.

        Args:
            layers: of each its image, name, x, y, opacity, blending, and whether it is visible and locked.
            mask: as for `set_mask`.

        Raises:
            ValueError: there are no layers, or too many, or one is too large.
        """
        if not 0 < len(layers) <= LAYERS_MOST:
            raise ValueError(tr("A picture can have {n} layers.", n=LAYERS_MOST))
        made = cls._bare(width, height, parent)
        for image, name, x, y, opacity, blend, visible, locked in layers:
            check_size(image.width(), image.height())
            own = _own(image)
            layer = Layer(made._number(), name, own, made._add_surface(own), x, y, opacity, blend, visible, locked)
            layer.name = layer.name or made._free_name()
            made.layers.append(layer)
        if mask is not None:
            made._surfaces[made._mask_surface] = _as_mask(mask, made._size)
            made._count_filled()
        made._begin(folder, limit)
        return made

    @classmethod
    def _bare(cls, width: int, height: int, parent: QObject | None = None) -> Document:
        """Without layers and without a history."""
        check_size(width, height)
        made = cls.__new__(cls)
        QObject.__init__(made, parent)
        made._clear_out()
        made._size = QSize(width, height)
        made._mask_surface = made._add_surface(regions.blank(width, height))
        return made

    def _clear_out(self) -> None:
        self._surfaces: dict[int, QImage] = {}
        self._tiles: dict[Key, Blob] = {}
        self._filled: set[tuple[int, int]] = set()  # tiles of the mask that are not empty
        self._next = 1
        self._open: _Change | None = None
        self._stroke: Stroke | None = None
        self._key_until = 0.0
        self._revision = 0
        self._size, self._frame, self._mask_surface = QSize(), (0, 0, 0, 0), -1
        self.layers: list[Layer] = []
        self.damaged = 0  # tiles that could not be read when the document was opened

    def _begin(self, folder: Path | None, limit: int) -> None:
        """What is here now is what the history begins with."""
        for number, surface in self._surfaces.items():
            for column, row in tiles_under(surface.rect(), surface.width(), surface.height()):
                self._tiles[number, column, row] = self._blob(number, column, row)
        self.history = History(Kept(self._sheet(), dict(self._tiles)), folder, limit)

    def close(self) -> bool:
        """Write what is not yet on disk. False if it could not be written."""
        self._settle()
        return self.history.close()

    # ------------------------------------------------------------------ what it is

    @property
    def width(self) -> int:
        return self._size.width()

    @property
    def height(self) -> int:
        return self._size.height()

    @property
    def rect(self) -> QRect:
        return QRect(QPoint(0, 0), self._size)

    @property
    def frame(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom: px beyond the edges of the picture; below 0 is inside of it."""
        return self._frame

    @property
    def frame_rect(self) -> QRect:
        """The frame in px of the document."""
        left, top, right, bottom = self._frame
        return self.rect.adjusted(-left, -top, right, bottom)

    @property
    def mask(self) -> QImage:
        """Alpha8: 0 keeps, 255 is painted anew. To be read; changes go through the document."""
        return self._surfaces[self._mask_surface]

    def layer(self, id: int) -> Layer:
        """The layer with this id.

        Raises:
            KeyError: there is none.
        """
        for layer in self.layers:
            if layer.id == id:
                return layer
        raise KeyError(id)

    def index(self, id: int) -> int:
        """Its place from the bottom."""
        return self.layers.index(self.layer(id))

    def flattened(self) -> QImage:
        """All that is visible as one picture, ARGB32_Premultiplied; clear where nothing is."""
        return self.composed(self.rect)

    def composed(self, rect: QRect) -> QImage:
        """A part of the flattened picture; px beyond the document are clear."""
        return composed(self.layers, self.rect, rect)

    def snapshot(self) -> Snapshot:
        """What it is now, for another thread."""
        layers = tuple(replace(it, image=QImage(it.image)) for it in self.layers)
        return Snapshot(self._revision, self.width, self.height, layers, QImage(self.mask), frozenset(self._filled))

    def colour_at(self, x: int, y: int) -> QColor:
        """The colour that is seen at a px."""
        return self.composed(QRect(x, y, 1, 1)).pixelColor(0, 0)

    def mask_image(self) -> QImage:
        """The mask as Grayscale8: 0 keeps, 255 is painted anew."""
        return as_grey(self.mask)

    def is_empty_mask(self) -> bool:
        return not self._filled

    def masked_tiles(self, rect: QRect) -> list[QRect]:
        """The tiles in a rectangle in which the mask may have something, px."""
        found = [it for it in tiles_under(rect, self.width, self.height) if it in self._filled]
        return [tile_rect(column, row, self.width, self.height) for column, row in found]

    def bounds_of_mask(self) -> QRect:
        """The smallest rectangle around all that is masked; empty if nothing is."""
        around = QRect()
        for column, row in self._filled:
            around = around.united(tile_rect(column, row, self.width, self.height))
        if around.isEmpty():
            return QRect()
        return regions.filled_bounds(self.mask.copy(around)).translated(around.topLeft())

    # ------------------------------------------------------------------ layers

    def add_layer(
        self, image: QImage | None = None, name: str = "", *, x: int = 0, y: int = 0, above: int | None = None
    ) -> Layer:
        """Add a layer on top, or above another one; clear and as large as the document if there is no image.

        Raises:
            ValueError: there are too many layers, or the image is too large.
        """
        if len(self.layers) >= LAYERS_MOST:
            raise ValueError(tr("A picture can have {n} layers.", n=LAYERS_MOST))
        if image is not None:
            check_size(image.width(), image.height())
        with self._change(tr("Add a layer")) as change:
            picture = empty(self.width, self.height) if image is None else _own(image)
            layer = Layer(self._number(), name or self._free_name(), picture, self._add_surface(picture), x, y)
            self.layers.insert(len(self.layers) if above is None else self.index(above) + 1, layer)
            if image is not None:
                change.touch(layer.surface, picture.rect())
        self._told_layers(layer.rect, layer.id)
        return layer

    def duplicate_layer(self, id: int) -> Layer:
        """Put a copy of a layer above it."""
        source = self.layer(id)
        if len(self.layers) >= LAYERS_MOST:
            raise ValueError(tr("A picture can have {n} layers.", n=LAYERS_MOST))
        with self._change(tr("Duplicate the layer")) as change:
            image = source.image.copy()
            made = Layer(
                self._number(), tr("{name} copy", name=source.name), image, self._add_surface(image), source.x,
                source.y, source.opacity, source.blend, source.visible,
            )  # fmt: skip
            self.layers.insert(self.index(id) + 1, made)
            change.touch(made.surface, image.rect())
        self._told_layers(made.rect, made.id)
        return made

    def remove_layer(self, id: int) -> None:
        """Take a layer away; the last one cannot be.

        Raises:
            Locked: it is locked. ValueError: it is the only one.
        """
        layer = self._unlocked(id)
        if len(self.layers) == 1:
            raise ValueError(tr("A picture has at least one layer."))
        with self._change(tr("Delete the layer")) as change:
            self.layers.remove(layer)
            self._remove_surface(layer.surface, change)
        self._told_layers(layer.rect, id)

    def move_layer(self, id: int, index: int) -> None:
        """Give a layer another place, counted from the bottom."""
        layer = self.layer(id)
        index = min(max(0, index), len(self.layers) - 1)
        if self.layers.index(layer) == index:
            return
        with self._change(tr("Move the layer")):
            self.layers.remove(layer)
            self.layers.insert(index, layer)
        self._told_layers(layer.rect, id)

    def place_layer(self, id: int, x: int, y: int, *, go_on: bool = False) -> None:
        """Put the layer's upper left corner at this px of the document."""
        layer = self._unlocked(id)
        if (layer.x, layer.y) == (x, y):
            return
        before = layer.rect
        with self._change(tr("Move the layer"), f"place {id}" if go_on else ""):
            layer.x, layer.y = x, y
        self._told_layers(before.united(layer.rect), id)

    def rename_layer(self, id: int, name: str) -> None:
        name = " ".join(name.split())[:200]
        if name and name != self.layer(id).name:
            with self._change(tr("Rename the layer")):
                self.layer(id).name = name
            self._told_layers()

    def set_opacity(self, id: int, opacity: float, *, go_on: bool = False) -> None:
        """`go_on`: as one step with the change before it, for a slider that is dragged."""
        layer = self.layer(id)
        opacity = min(1.0, max(0.0, opacity))
        if opacity != layer.opacity:
            with self._change(tr("Opacity of the layer"), f"opacity {id}" if go_on else ""):
                layer.opacity = opacity
            self._told_layers(layer.rect, id)

    def set_blend(self, id: int, blend: str) -> None:
        if blend not in BLENDS:
            raise ValueError(blend)
        layer = self.layer(id)
        if blend != layer.blend:
            with self._change(tr("Blending of the layer")):
                layer.blend = blend
            self._told_layers(layer.rect, id)

    def set_visible(self, id: int, visible: bool) -> None:
        layer = self.layer(id)
        if visible != layer.visible:
            with self._change(tr("Show the layer") if visible else tr("Hide the layer")):
                layer.visible = visible
            self._told_layers(layer.rect, id)

    def set_locked(self, id: int, locked: bool) -> None:
        layer = self.layer(id)
        if locked != layer.locked:
            with self._change(tr("Lock the layer") if locked else tr("Unlock the layer")):
                layer.locked = locked
            self._told_layers()

    def merge_down(self, id: int) -> None:
        """Lay a layer into the one below it, which keeps its name and its blending.

        Raises:
            Locked: one of the two is locked. ValueError: there is none below.
        """
        upper, index = self._unlocked(id), self.index(id)
        if not index:
            raise ValueError(tr("There is no layer below."))
        lower = self._unlocked(self.layers[index - 1].id)
        with self._change(tr("Merge the layer down")) as change:
            around = lower.rect.united(upper.rect) if upper.visible else lower.rect
            around = around.intersected(self.rect.united(lower.rect))
            image = empty(around.width(), around.height())
            painter = QPainter(image)
            painter.translate(-around.topLeft())
            draw_layer(painter, lower, plain=True)
            if upper.visible:
                draw_layer(painter, upper)
            painter.end()
            for layer in (upper, lower):
                self._remove_surface(layer.surface, change)
            self.layers.remove(upper)
            lower.image, lower.surface = image, self._add_surface(image)
            lower.x, lower.y, lower.opacity = around.x(), around.y(), 1.0
            change.touch(lower.surface, image.rect())
        self._told_layers(around, lower.id)

    def flatten(self) -> None:
        """Make one layer of all that is visible."""
        with self._change(tr("Flatten the picture")) as change:
            image = self.flattened()
            for layer in self.layers:
                self._remove_surface(layer.surface, change)
            made = Layer(self._number(), tr("Picture"), image, self._add_surface(image))
            self.layers[:] = [made]
            change.touch(made.surface, image.rect())
        self._told_layers(self.rect, made.id)

    def fill_layer(self, id: int, colour: QColor, selection: QImage | None = None) -> None:
        """Colour a layer, where a selection (Alpha8, as large as the document) allows it."""
        layer = self._unlocked(id)
        bounds = self.rect if selection is None else regions.filled_bounds(selection)
        if bounds.isEmpty():
            return
        with self._change(tr("Fill")) as change:
            self._cover(layer, change)
            ink = QImage(bounds.size(), _COLOUR)
            ink.fill(colour)
            if selection is not None:
                painter = QPainter(ink)
                painter.setCompositionMode(_Mode.CompositionMode_DestinationIn)
                painter.drawImage(-bounds.topLeft(), selection)
                painter.end()
            at = bounds.topLeft() - layer.rect.topLeft()
            painter = QPainter(layer.image)
            painter.drawImage(at, ink)
            painter.end()
            change.touch(layer.surface, QRect(at, bounds.size()))
        self.pixels_changed.emit(id, bounds)

    def clear_layer(self, id: int) -> None:
        layer = self._unlocked(id)
        with self._change(tr("Clear the layer")) as change:
            change.touch(layer.surface, layer.image.rect())
            layer.image.fill(Qt.GlobalColor.transparent)
        self.pixels_changed.emit(id, layer.rect)

    def flood(self, id: int, at: QPoint, colour: QColor, tolerance: int, *, contiguous: bool = True) -> None:
        """Colour what looks like the px at a place, on a layer."""
        self._unlocked(id)
        self.apply(edits.flood(self.snapshot(), id, at, colour, tolerance, contiguous=contiguous))

    def apply(self, patch: edits.Patch | edits.Turn) -> bool:
        """Lay what was worked out on a copy into the document, as one step; or go the step that was unpacked.

        Returns:
            False if the document was changed since that copy was made: nothing is done then. True for a step that was
            to be undone and has another one after it by now: it stays.

        Raises:
            Locked: the layer was locked. KeyError: it is gone.
        """
        self._settle()
        if isinstance(patch, edits.Turn):
            if patch.revision == self._revision:
                self._turn(patch.images, forth=patch.forth)
            return True
        if patch.revision != self._revision:
            return False
        if not patch.tiles:
            return True
        layer = self._unlocked(patch.target) if patch.target != MASK else None
        with self._change(patch.name) as change:
            number = self._mask_surface if layer is None else layer.surface
            if patch.surface is not None and layer is not None:
                self._remove_surface(number, change)
                layer.image, layer.x, layer.y = patch.surface
                number = layer.surface = self._add_surface(layer.image)
            image = self._surfaces[number]
            painter = QPainter(image)
            painter.setCompositionMode(_SOURCE)
            around = QRect()
            for column, row, tile in patch.tiles:
                rect = tile_rect(column, row, image.width(), image.height())
                around = around.united(rect)
                if patch.surface is None:
                    painter.drawImage(rect.topLeft(), tile)
                change.put((number, column, row), tile)
                if layer is None:
                    (self._filled.discard if (column, row) in patch.cleared else self._filled.add)((column, row))
            painter.end()
        if layer is None:
            self.pixels_changed.emit(MASK, around)
            self.mask_changed.emit(self.is_empty_mask())
        elif patch.surface is not None:
            self._told_layers(layer.rect, layer.id)
        else:
            self.pixels_changed.emit(layer.id, around.translated(layer.x, layer.y))
        return True

    # ------------------------------------------------------------------ the mask

    def set_mask(self, image: QImage, name: str = "") -> None:
        """Replace the mask by a picture of the same size: its grey, or the values of an Alpha8 one.

        Raises:
            ValueError: it has another size.
        """
        image = _as_mask(image, self._size)
        self._draw_mask(name or tr("Replace the mask"), image, QPoint(), _Mode.CompositionMode_Source)

    def select_by_colour(self, at: QPoint, tolerance: int, *, contiguous: bool = True, mode: str = "add") -> None:
        """Mask what looks like the px at a place.

        Args:
            mode: "add" to the mask, "replace" it, or "remove" from it.
        """
        self.apply(edits.select(self.snapshot(), at, tolerance, contiguous=contiguous, mode=mode))

    def flood_mask(self, at: QPoint, tolerance: int = 32, *, erases: bool = False) -> None:
        """Fill a part of the mask that the brush has drawn a line around, or empty a filled one."""
        self.apply(edits.flood_mask(self.snapshot(), at, tolerance, erases=erases))

    def fill_mask(self) -> None:
        self.apply(edits.fill(self.snapshot(), 255))

    def clear_mask(self) -> None:
        self.apply(edits.fill(self.snapshot(), 0))

    def invert_mask(self) -> None:
        self.apply(edits.invert(self.snapshot()))

    def grow_mask(self, by: int) -> None:
        """Spread the mask by so many px, or shrink it if below 0."""
        self.apply(edits.grow(self.snapshot(), by))

    def feather_mask(self, radius: float) -> None:
        """Soften the edge of the mask, so many px wide."""
        self.apply(edits.feather(self.snapshot(), radius))

    def _draw_mask(self, name: str, image: QImage, at: QPoint, mode: QPainter.CompositionMode) -> None:
        rect = QRect(at, image.size())
        with self._change(name) as change:
            painter = QPainter(self.mask)
            painter.setCompositionMode(mode)
            painter.drawImage(at, image)
            painter.end()
            change.touch(self._mask_surface, rect)
        self.pixels_changed.emit(MASK, rect)
        self.mask_changed.emit(self.is_empty_mask())

    # ------------------------------------------------------------------ strokes

    def begin_stroke(self, target: int, brush: Brush) -> Stroke:
        """Begin to paint on a layer (its id) or on the mask (MASK).

        Raises:
            Locked: the layer is locked.
        """
        if target != MASK:
            self._unlocked(target)
        self._settle()
        self._stroke = Stroke(_Ground(self, target, brush), brush)
        return self._stroke

    def _settle(self) -> None:
        """End a stroke that is being painted."""
        stroke, self._stroke = self._stroke, None
        if stroke is not None:
            stroke.end()

    def _cover(self, layer: Layer, change: _Change) -> None:
        """Make a layer large enough to be painted on everywhere."""
        around = layer.rect.united(self.rect)
        if around == layer.rect:
            return
        image = empty(around.width(), around.height())
        painter = QPainter(image)
        painter.setCompositionMode(_SOURCE)
        painter.drawImage(layer.rect.topLeft() - around.topLeft(), layer.image)
        painter.end()
        self._remove_surface(layer.surface, change)
        layer.image, layer.surface = image, self._add_surface(image)
        layer.x, layer.y = around.x(), around.y()
        change.touch(layer.surface, image.rect())

    # ------------------------------------------------------------------ the frame

    def set_frame(self, left: int, top: int, right: int, bottom: int, *, go_on: bool = False) -> None:
        """Let the frame reach beyond the picture, for outpainting; below 0 it cuts off. In steps of 8 px."""
        wanted = [round(it / FRAME_STEP) * FRAME_STEP for it in (left, top, right, bottom)]
        for first, second, side in ((0, 2, self.width), (1, 3, self.height)):
            least = min(side, FRAME_LEAST)
            for i in (first, second):
                other = second if i == first else first
                wanted[i] = min(wanted[i], (SIDE_MOST - side - max(0, wanted[other])) // FRAME_STEP * FRAME_STEP)
                lowest = -((side - least + min(0, wanted[other])) // FRAME_STEP) * FRAME_STEP
                wanted[i] = max(wanted[i], lowest)
        frame = (wanted[0], wanted[1], wanted[2], wanted[3])
        if frame == self._frame:
            return
        with self._change(tr("Move the frame"), "frame" if go_on else ""):
            self._frame = frame
        self.frame_changed.emit(*frame)

    def crop_to_frame(self) -> None:
        """Make the document as large as its frame. Layers keep what is beyond it for a frame drawn out again."""
        around = self.frame_rect
        if around == self.rect:
            return
        with self._change(tr("Crop to the frame")) as change:
            mask = self.mask.copy(around)
            self._remove_surface(self._mask_surface, change)
            self._mask_surface = self._add_surface(mask)
            change.touch(self._mask_surface, mask.rect())
            self._size, self._frame = around.size(), (0, 0, 0, 0)
            for layer in self.layers:
                layer.x -= around.x()
                layer.y -= around.y()
        self._count_filled()
        self.size_changed.emit()
        self.frame_changed.emit(*self._frame)
        self.mask_changed.emit(self.is_empty_mask())

    # ------------------------------------------------------------------ undo

    def undo(self) -> bool:
        """Take the last step back; a stroke that is being painted is ended first. False if there is none."""
        return self._turn({}, forth=False)

    def redo(self) -> bool:
        """Do once more what was undone. False if there is nothing."""
        return self._turn({}, forth=True)

    def bytes_to_turn(self, *, forth: bool = False) -> int:
        """How much has to be unpacked to undo, or redo, the next step."""
        self._settle()
        step = self.history.next(forth=forth)
        return sum(it.plain_bytes for it in edits.tiles_of(step, forth=forth)) if step is not None else 0

    def _turn(self, ready: dict[Blob, QImage], *, forth: bool) -> bool:
        self._settle()
        with self.history.lock:
            step = self.history.redo() if forth else self.history.undo()
            if step is None:
                return False
            tiles = {key: pair[forth] for key, pair in step.changes.items()}
            self._take(sheet_of(step.after if forth else step.before), tiles, ready)
        self.history_changed.emit()
        return True

    def _take(
        self, sheet: DocumentSheet, tiles: dict[Key, Blob | None], ready: dict[Blob, QImage] | None = None, *,
        tell: bool = True,
    ) -> None:  # fmt: skip
        """Become what a sheet and these tiles say.

        Args:
            ready: those that need not be read any more.
        """
        self._revision += 1
        old_size, old_frame, old_layers = self._size, self._frame, {it.id: it.sheet() for it in self.layers}
        old_order = [it.id for it in self.layers]
        check_size(sheet.width, sheet.height)
        self._size, self._frame, self._next = QSize(sheet.width, sheet.height), sheet.frame, sheet.next
        if sheet.mask not in self._surfaces:
            self._surfaces[sheet.mask] = regions.blank(sheet.width, sheet.height)
        self._mask_surface = sheet.mask
        known = {it.id: it for it in self.layers}
        layers = []
        for it in sheet.layers:
            check_size(it.width, it.height)
            if it.surface not in self._surfaces:
                self._surfaces[it.surface] = empty(it.width, it.height)
            layer = known.get(it.id) or Layer(it.id, it.name, self._surfaces[it.surface], it.surface)
            layer.name, layer.image, layer.surface = it.name, self._surfaces[it.surface], it.surface
            layer.x, layer.y, layer.opacity, layer.blend = it.x, it.y, it.opacity, it.blend
            layer.visible, layer.locked = it.visible, it.locked
            layers.append(layer)
        self.layers[:] = layers
        wanted = {sheet.mask, *(it.surface for it in sheet.layers)}
        dirty: dict[int, QRect] = {}
        for key, blob in tiles.items():
            if blob is None:
                self._tiles.pop(key, None)
            else:
                self._tiles[key] = blob
            if key[0] in wanted:
                rect = self._lay_tile(key, blob, ready or {})
                dirty[key[0]] = dirty.get(key[0], QRect()).united(rect)
        for number in [it for it in self._surfaces if it not in wanted]:
            del self._surfaces[number]
        if self._mask_surface in dirty or old_size != self._size:
            self._count_filled(tiles if old_size == self._size and tell else None)
        if not tell:
            return
        if old_size != self._size:
            self.size_changed.emit()
        if old_frame != self._frame or old_size != self._size:
            self.frame_changed.emit(*self._frame)
        if old_layers != {it.id: it.sheet() for it in self.layers} or old_order != [it.id for it in self.layers]:
            self.layers_changed.emit()
        for layer in self.layers:
            if layer.surface in dirty:
                self.pixels_changed.emit(layer.id, dirty[layer.surface].translated(layer.x, layer.y))
        if self._mask_surface in dirty:
            self.pixels_changed.emit(MASK, dirty[self._mask_surface])
            self.mask_changed.emit(self.is_empty_mask())

    def _lay_tile(self, key: Key, blob: Blob | None, ready: dict[Blob, QImage]) -> QRect:
        surface = self._surfaces[key[0]]
        rect = tile_rect(key[1], key[2], surface.width(), surface.height())
        painter = QPainter(surface)
        painter.setCompositionMode(_SOURCE)
        image: QImage | None = None
        if blob is not None:
            try:
                image = ready.get(blob) or blob.image()
            except (OSError, ValueError):
                self.damaged += 1
        if image is None:
            painter.setCompositionMode(_Mode.CompositionMode_Clear)
            painter.fillRect(rect, Qt.GlobalColor.transparent)
        else:
            painter.drawImage(rect.topLeft(), image)
        painter.end()
        return rect

    # ------------------------------------------------------------------ inside

    @contextlib.contextmanager
    def _change(self, name: str, key: str = "") -> Iterator[_Change]:
        """One step of the history. What is changed within is marked with `touch`."""
        self._settle()
        if self._open is not None:
            raise RuntimeError("a change within a change")
        change = self._open = _Change(self, name, key)
        try:
            yield change
        finally:
            self._open = None
        change.keep()
        self.history_changed.emit()

    def _number(self) -> int:
        self._next += 1
        return self._next - 1

    def _add_surface(self, image: QImage) -> int:
        number = self._number()
        self._surfaces[number] = image
        return number

    def _remove_surface(self, number: int, change: _Change) -> None:
        change.gone.update(key for key in self._tiles if key[0] == number)
        del self._surfaces[number]

    def _unlocked(self, id: int) -> Layer:
        layer = self.layer(id)
        if layer.locked:
            raise Locked(tr("The layer “{name}” is locked.", name=layer.name))
        return layer

    def _free_name(self) -> str:
        names = {it.name for it in self.layers}
        count = len(names) + 1
        while tr("Layer {n}", n=count) in names:
            count += 1
        return tr("Layer {n}", n=count)

    def _told_layers(self, rect: QRect | None = None, id: int = -1) -> None:
        self.layers_changed.emit()
        if rect is not None:
            self.pixels_changed.emit(id, rect)

    def _sheet(self) -> dict[str, Any]:
        sheet = DocumentSheet(
            self.width,
            self.height,
            self._mask_surface,
            tuple(it.sheet() for it in self.layers),
            self._frame,
            self._next,
        )
        built: dict[str, Any] = msgspec.to_builtins(sheet)
        return built

    def _blob(self, surface: int, column: int, row: int) -> Blob:
        image = self._surfaces[surface]
        return Blob(image.copy(tile_rect(column, row, image.width(), image.height())))

    def _count_filled(self, only: Any = None) -> None:
        """Look which tiles of the mask are not empty."""
        mask = self.mask
        places = list(tiles_under(mask.rect(), mask.width(), mask.height()))
        if only is not None:
            places = [(key[1], key[2]) for key in only if key[0] == self._mask_surface]
        else:
            self._filled.clear()
        for column, row in places:
            clear = regions.is_clear(mask.copy(tile_rect(column, row, mask.width(), mask.height())))
            (self._filled.discard if clear else self._filled.add)((column, row))


class _Change:
    """What a step changes, while it is being done."""

    def __init__(self, document: Document, name: str, key: str = "") -> None:
        self._document, self._name, self._key = document, name, key
        self._before = document._sheet()
        self._fresh: set[Key] = set()  # touched since it was last kept
        self._changes: dict[Key, tuple[Blob | None, Blob | None]] = {}
        self._ready: dict[Key, Blob] = {}  # of those, what is at hand already
        self.gone: set[Key] = set()
        self._number: int | None = None

    def touch(self, surface: int, rect: QRect) -> None:
        image = self._document._surfaces[surface]
        self._fresh.update((surface, *tile) for tile in tiles_under(rect, image.width(), image.height()))

    def put(self, key: Key, image: QImage) -> None:
        """The same of one tile of which there is a picture already, that nobody paints on."""
        self._fresh.add(key)
        self._ready[key] = Blob(image)

    def keep(self) -> None:
        """Hand what was changed so far to the history."""
        document = self._document
        after = document._sheet()
        if not self._fresh and not self.gone and after == self._before:
            return
        history, now = document.history, time.monotonic()
        last = history.newest()
        if self._number is None:
            if self._key and last is not None and last.key == self._key and now < document._key_until:
                self._number, self._before = last.number, last.before
                self._changes = dict(last.changes)
            else:
                self._number = history.number()
        document._key_until = now + KEY_LASTS
        changes = self._changes = dict(self._changes)  # steps that were handed over stay as they are
        for key in self.gone - self._fresh:
            first = changes[key][0] if key in changes else document._tiles.get(key)
            changes[key] = (first, None)
            document._tiles.pop(key, None)
        for key in self._fresh:
            first = changes[key][0] if key in changes else document._tiles.get(key)
            made = self._ready.get(key) or document._blob(*key)
            changes[key] = (first, made)
            document._tiles[key] = made
        masked = [key for key in self._fresh if key[0] == document._mask_surface and key not in self._ready]
        if masked:
            document._count_filled(masked)
        self._fresh.clear()
        self._ready.clear()
        self.gone.clear()
        document._revision += 1
        history.push(Step(self._number, self._name, self._before, after, changes, self._key))


class _Ground:
    """A layer or the mask, as a stroke sees it."""

    def __init__(self, document: Document, target: int, brush: Brush) -> None:
        self._document, self._target = document, target
        erases = tr("Erase") if target else tr("Erase from the mask")
        self._change = _Change(
            document, erases if brush.erases else tr("Brush stroke") if target else tr("Mask stroke")
        )
        if target:
            document._cover(document.layer(target), self._change)

    def surface(self) -> QImage:
        return self._document.layer(self._target).image if self._target else self._document.mask

    def origin(self) -> QPoint:
        return self._document.layer(self._target).rect.topLeft() if self._target else QPoint()

    def touched(self, rect: QRect) -> None:
        document = self._document
        number = document.layer(self._target).surface if self._target else document._mask_surface
        self._change.touch(number, rect)
        if not self._target:  # so that it is shown at once
            document._filled.update(tiles_under(rect, document.width, document.height))
        document.pixels_changed.emit(self._target, rect.translated(self.origin()))

    def keep(self) -> None:
        self._change.keep()

    def finish(self) -> None:
        document = self._document
        document._stroke = None
        self._change.keep()
        if not self._target:
            document.mask_changed.emit(document.is_empty_mask())
        document.history_changed.emit()


_SOURCE = _Mode.CompositionMode_Source


def check_size(width: int, height: int) -> None:
    """Raises ValueError where a picture of this size cannot be painted on."""
    if not (0 < width <= SIDE_MOST and 0 < height <= SIDE_MOST):
        raise ValueError(tr("Each side of a picture has 1 to {n} px.", n=f"{SIDE_MOST:,}"))


def as_png(image: QImage) -> bytes:
    """The picture as the content of a PNG file.

    Raises:
        ValueError: it cannot be encoded.
    """
    content = QByteArray()
    buffer = QBuffer(content)
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    if not image.save(buffer, "PNG"):  # type: ignore[call-overload]
        raise ValueError(tr("The picture could not be encoded."))
    return bytes(content.data())


def _as_colour(image: QImage) -> QImage:
    return image.convertToFormat(_COLOUR)


def _as_mask(image: QImage, size: QSize) -> QImage:
    if image.size() != size:
        raise ValueError(tr("The mask has another size than the picture."))
    if image.format() == _GREY:
        return image.copy()
    made = image.convertToFormat(QImage.Format.Format_Grayscale8)
    made.reinterpretAsFormat(_GREY)
    return made.copy()


def _own(image: QImage) -> QImage:
    """The picture in the layers' format, shared with nobody."""
    made = _as_colour(image)
    return made.copy() if made.cacheKey() == image.cacheKey() else made
