"""A document as a value: its layers, how they lie on each other, and all of it as it is at one moment.

Knows pixels; knows nothing of changes, of undo or of widgets. What is here may be read on any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from PySide6.QtCore import QPoint, QRect, Qt
from PySide6.QtGui import QImage, QPainter

from studio.ui.paint.history import TILE
from studio.ui.strings import tr

_COLOUR = QImage.Format.Format_ARGB32_Premultiplied
_Mode = QPainter.CompositionMode
Check = Callable[[], None]  # may raise, where what is done is no longer wanted

# By name: what QPainter calls it, and its title.
BLENDS: dict[str, tuple[QPainter.CompositionMode, str]] = {
    "normal": (_Mode.CompositionMode_SourceOver, "Normal"),
    "multiply": (_Mode.CompositionMode_Multiply, "Multiply"),
    "screen": (_Mode.CompositionMode_Screen, "Screen"),
    "overlay": (_Mode.CompositionMode_Overlay, "Overlay"),
    "darken": (_Mode.CompositionMode_Darken, "Darken"),
    "lighten": (_Mode.CompositionMode_Lighten, "Lighten"),
    "color-dodge": (_Mode.CompositionMode_ColorDodge, "Colour dodge"),
    "color-burn": (_Mode.CompositionMode_ColorBurn, "Colour burn"),
    "hard-light": (_Mode.CompositionMode_HardLight, "Hard light"),
    "soft-light": (_Mode.CompositionMode_SoftLight, "Soft light"),
    "difference": (_Mode.CompositionMode_Difference, "Difference"),
    "exclusion": (_Mode.CompositionMode_Exclusion, "Exclusion"),
    "plus": (_Mode.CompositionMode_Plus, "Addition"),
}


class LayerSheet(msgspec.Struct, frozen=True):
    """What a layer is but for its pixels."""

    id: int
    surface: int  # number of its pixels in the history
    name: str
    x: int  # px of the document
    y: int
    width: int
    height: int
    opacity: float = 1.0
    blend: str = "normal"
    visible: bool = True
    locked: bool = False


class DocumentSheet(msgspec.Struct, frozen=True):
    """What a document is but for its pixels; `layers` from bottom to top."""

    width: int
    height: int
    mask: int  # number of its pixels in the history
    layers: tuple[LayerSheet, ...] = ()
    frame: tuple[int, int, int, int] = (0, 0, 0, 0)  # px beyond the left, top, right and lower edge
    next: int = 1


@dataclass
class Layer:
    """One layer. Read what you like; changes go through the document.

    Attributes:
        image: ARGB32_Premultiplied. x, y: where it begins in the document, px; it may reach beyond it.
        opacity: 0…1. blend: a name of BLENDS. locked: cannot be painted on or removed.
    """

    id: int
    name: str
    image: QImage = field(repr=False)
    surface: int
    x: int = 0
    y: int = 0
    opacity: float = 1.0
    blend: str = "normal"
    visible: bool = True
    locked: bool = False

    @property
    def rect(self) -> QRect:
        return QRect(QPoint(self.x, self.y), self.image.size())

    def sheet(self) -> LayerSheet:
        return LayerSheet(
            self.id, self.surface, self.name, self.x, self.y, self.image.width(), self.image.height(), self.opacity,
            self.blend, self.visible, self.locked,
        )  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """A document as it is at one moment, to be read on another thread. Pixels are shared until one side changes.

    Attributes:
        revision: the document has another one as soon as it is changed.
        layers: from bottom to top. mask: Alpha8. filled: tiles of the mask in which there may be something.
    """

    revision: int

    width: int
    height: int
    layers: tuple[Layer, ...] = field(repr=False)
    mask: QImage = field(repr=False)
    filled: frozenset[tuple[int, int]] = field(repr=False)

    @property
    def rect(self) -> QRect:
        return QRect(0, 0, self.width, self.height)

    def layer(self, id: int) -> Layer:
        """The layer with this id.

        Raises:
            KeyError: there is none.
        """
        for layer in self.layers:
            if layer.id == id:
                return layer
        raise KeyError(id)

    def composed(self, rect: QRect) -> QImage:
        """As of the document."""
        return composed(self.layers, self.rect, rect)

    def flattened(self, check: Check = lambda: None) -> QImage:
        """As of the document, strip by strip: Qt holds the interpreter while it draws, and the window waits for it.

        Args:
            check: called between strips; may raise.
        """
        made = empty(self.width, self.height)
        for rect in strips(self.rect):
            check()
            painter = QPainter(made)
            painter.setCompositionMode(_Mode.CompositionMode_Source)
            painter.drawImage(rect.topLeft(), self.composed(rect))
            painter.end()
        return made

    def is_empty_mask(self) -> bool:
        return not self.filled

    def mask_image(self) -> QImage:
        """As of the document."""
        return as_grey(self.mask)


def strips(rect: QRect) -> Iterator[QRect]:
    """A rectangle from top to bottom in parts that are quickly dealt with, cut where tiles are."""
    y = rect.top()
    while y <= rect.bottom():
        end = min(rect.bottom() + 1, (y // TILE + 1) * TILE)
        yield QRect(rect.x(), y, rect.width(), end - y)
        y = end


def composed(layers: Sequence[Layer], whole: QRect, rect: QRect) -> QImage:
    """A part of what layers look like together, in a document that is as large as `whole`."""
    made = empty(rect.width(), rect.height())
    painter = QPainter(made)
    painter.translate(-rect.topLeft())
    painter.setClipRect(whole)
    for layer in layers:
        if layer.visible and layer.rect.intersects(rect):
            draw_layer(painter, layer)
    painter.end()
    return made


def as_grey(mask: QImage) -> QImage:
    """The mask as Grayscale8, white where it is."""
    made = mask.copy()
    made.reinterpretAsFormat(QImage.Format.Format_Grayscale8)
    return made


def draw_layer(painter: QPainter, layer: Layer, *, plain: bool = False) -> None:
    """Lay a layer over what is there; `plain` ignores its blending."""
    painter.setOpacity(layer.opacity)
    painter.setCompositionMode(_Mode.CompositionMode_SourceOver if plain else BLENDS[layer.blend][0])
    painter.drawImage(layer.x, layer.y, layer.image)


def sheet_of(value: dict[str, Any]) -> DocumentSheet:
    """What a step of the history kept of a document. Raises ValueError where it is none."""
    try:
        sheet = msgspec.convert(value, DocumentSheet)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    if not sheet.layers or any(it.blend not in BLENDS for it in sheet.layers):
        raise ValueError("not a document")
    return sheet


def empty(width: int, height: int) -> QImage:
    """An empty picture in the layers' format. Raises MemoryError."""
    made = QImage(width, height, _COLOUR)
    if made.isNull():
        raise MemoryError(tr("There is not enough memory for a layer of {w}×{h} px.", w=width, h=height))
    made.fill(Qt.GlobalColor.transparent)
    return made
