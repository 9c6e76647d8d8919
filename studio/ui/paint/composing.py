"""What is seen of a document, composed for the screen: layers, blending, and the mask laid over them.

Knows pixels, their small copies and the theme; knows no pointer, no key and no widget. What was composed is kept, so
that a stroke costs what it touches and moving the picture costs the strip that comes into sight.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from PySide6.QtCore import QPoint, QPointF, QRect, QRectF, Qt
from PySide6.QtGui import QBrush, QColor, QImage, QPainter, QPen, QPixmap, QRegion

from studio.ui import theme
from studio.ui.canvas import PIXELS_FROM
from studio.ui.paint import regions
from studio.ui.paint.document import MASK, Document
from studio.ui.paint.pyramid import Pyramid, level_for
from studio.ui.paint.snapshot import BLENDS, Layer

ROOM_PER_FRAME = 2_000_000  # px of copies that are brought up to date before the window gets its turn

_Mode = QPainter.CompositionMode
_SMALLEST = 30  # a level beyond all
_TILES_APART = 40  # so many tiles of the mask are drawn one by one
_COLOUR, _GREY = QImage.Format.Format_ARGB32_Premultiplied, QImage.Format.Format_Alpha8


@dataclass(frozen=True)
class Place:
    """Where the document lies on the screen: device px of its corner, and device px per px."""

    x: int
    y: int
    zoom: float
    width: int  # of the widget, device px
    height: int
    ratio: float  # device px per logical px

    def to_screen(self, rect: QRectF) -> QRectF:
        """Device px."""
        z = self.zoom
        return QRectF(self.x + rect.x() * z, self.y + rect.y() * z, rect.width() * z, rect.height() * z)

    def to_document(self, at: QPointF) -> QPointF:
        """From logical px."""
        return QPointF((at.x() * self.ratio - self.x) / self.zoom, (at.y() * self.ratio - self.y) / self.zoom)

    def to_widget(self, at: QPointF) -> QPointF:
        """Logical px."""
        return QPointF((self.x + at.x() * self.zoom) / self.ratio, (self.y + at.y() * self.zoom) / self.ratio)


@dataclass
class Flat:
    """A part of all that is seen in one picture, as large as a small copy: what is drawn while the zoom changes."""

    level: int
    rect: QRect  # px of that level
    image: QImage
    opaque: bool


class Composer:
    """What is seen of a document, composed for the screen and kept, so that only what changed is composed anew.

    Args:
        checks: what is drawn where nothing is, for a number of device px per logical px.
        in_hurry: whether it is to be drawn quickly for the moment, because the zoom goes on changing.

    Attributes:
        overlay: whether the mask is shown; whoever changes it calls `forget`.
        picture: the kept picture of the screen, as `refresh` left it; device px.
    """

    def __init__(self, checks: Callable[[float], QBrush], in_hurry: Callable[[], bool]) -> None:
        self._checks, self._in_hurry = checks, in_hurry
        self._document: Document | None = None
        self.overlay = True
        self._pyramids: dict[int, tuple[int, Pyramid]] = {}
        self.picture = QImage()
        self._spare = QImage()
        self._scratch: dict[str, QImage] = {}
        self._placed: Place | None = None  # what the kept picture was composed for
        self._stale = QRegion()  # device px
        self._flat: Flat | None = None
        self._pattern: tuple[float, QBrush] | None = None

    def set_document(self, document: Document | None) -> None:
        self._document = document
        self._pyramids.clear()
        self._stale, self._placed, self._flat = QRegion(), None, None

    # ------------------------------------------------------------------ what is no longer as it was

    def touch(self, id: int, rect: QRect) -> None:
        """This part of the document has other pixels, those of a layer or of the mask."""
        document = self._document
        if document is None:
            return
        if id == MASK:
            found = self._pyramids.get(MASK)
            if found is not None:
                found[1].touch(rect)
        elif id in self._pyramids:
            layer = next((it for it in document.layers if it.id == id), None)
            if layer is not None:
                self._pyramids[id][1].touch(rect.translated(-layer.x, -layer.y))
        self._flat = None
        if self._placed is not None:
            self._stale += influence(self._placed, rect)

    def forget_layers(self, known: dict[int, int]) -> None:
        """Other layers are there, or in another order. known: id -> surface, of those there are."""
        self._flat = None
        for id in [it for it, (surface, _) in self._pyramids.items() if it != MASK and known.get(it) != surface]:
            del self._pyramids[id]

    def forget_copies(self) -> None:
        """The document has another size."""
        self._pyramids.clear()
        self.forget()

    def forget(self) -> None:
        """Everything has to be composed anew."""
        self._placed = self._flat = None

    def forget_screen(self) -> None:
        """The same, but for what is drawn while the zoom changes: only the colours around the document are others."""
        self._placed = None

    # ------------------------------------------------------------------ composing

    def _pyramid(self, layer: Layer | None) -> Pyramid:
        id, surface = (layer.id, layer.surface) if layer is not None else (MASK, 0)
        found = self._pyramids.get(id)
        if found is None or found[0] != surface:
            document = self._document
            assert document is not None
            if layer is None:
                made = Pyramid(lambda: document.mask)
            else:
                there = layer
                made = Pyramid(lambda: there.image)
            found = self._pyramids[id] = (surface, made)
        return found[1]

    def thumbnail(self, target: int, side: int) -> QImage:
        """A small picture of a layer, or of the mask as white on black; at most `side` px long.

        A null one where it takes more than a moment: then it is to be asked for again.
        """
        document = self._document
        assert document is not None
        layer = document.layer(target) if target != MASK else None
        whole = layer.image.size() if layer is not None else document.rect.size()
        zoom = side / max(1, whole.width(), whole.height())
        level = level_for(zoom) if zoom < 1 else 0
        if self._pyramid(layer).bring(level, ROOM_PER_FRAME) < 0:
            return QImage()
        image, _ = self._pyramid(layer).level(level)
        if layer is None:
            image = image.copy()
            image.reinterpretAsFormat(QImage.Format.Format_Grayscale8)
        kinds = (Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation)
        return image.scaled(side, side, *kinds)

    def _bring(self, here: Place) -> bool:
        """Bring the small copies that are needed up to date, a part of them at a time. False if there is more to do."""
        document = self._document
        if document is None:
            return True
        room = ROOM_PER_FRAME
        seen: list[Layer | None] = [it for it in document.layers if it.visible and it.opacity > 0]
        if self.overlay and not document.is_empty_mask():
            seen.append(None)
        for layer in seen:
            room = self._pyramid(layer).bring(self._level(here, layer), room)
            if room < 0:
                return False
        return True

    def _level(self, here: Place, layer: Layer | None) -> int:
        """Which small copy of a layer, or of the mask, is drawn."""
        # in a hurry, and for the mask (no detail to lose): the copy whose px are nearest to those of the screen
        rough = layer is None or self._in_hurry()
        return level_for(min(1.0, here.zoom) / math.sqrt(2) if rough else here.zoom)

    def refresh(self, here: Place) -> bool:
        """Bring the kept picture of the screen up to date. Where that takes long it is done bit by bit, and what was
        there stays to be seen meanwhile.

        Returns:
            False where there is more to do.
        """
        if not self._bring(here):
            return False
        whole = QRect(0, 0, here.width, here.height)
        old = self._placed
        if self.picture.size() != whole.size():
            self.picture = QImage(whole.size(), QImage.Format.Format_RGB32)
            self._spare, self._scratch = QImage(), {}
            old = None
        if old is None or replace(old, x=here.x, y=here.y) != here:
            self._stale = QRegion(whole)
        elif (old.x, old.y) != (here.x, here.y):
            dx, dy = here.x - old.x, here.y - old.y
            if self._spare.size() != whole.size():
                self._spare = QImage(whole.size(), QImage.Format.Format_RGB32)
            painter = QPainter(self._spare)
            painter.setCompositionMode(_Mode.CompositionMode_Source)
            painter.drawImage(dx, dy, self.picture)
            painter.end()
            self.picture, self._spare = self._spare, self.picture
            self._stale.translate(dx, dy)
            self._stale += QRegion(whole).subtracted(QRegion(whole.translated(dx, dy)))
        self._placed = here
        stale = self._stale.intersected(whole)
        self._stale = QRegion()
        if stale.isEmpty():
            return True
        parts = rects(stale)
        if len(parts) > 8:
            parts = [stale.boundingRect()]
        for part in parts:
            self._compose(here, part)
        return True

    def _compose(self, here: Place, part: QRect) -> None:
        """Paint a part of the screen (device px) without what lies above the picture."""
        document, now = self._document, theme.current()
        painter = QPainter(self.picture)
        painter.setCompositionMode(_Mode.CompositionMode_Source)
        lies = here.to_screen(QRectF(document.rect)).toRect() if document is not None else QRect()
        seen = lies.intersected(part)
        bare = QRegion(part).subtracted(QRegion(seen))
        for rect in rects(bare):
            painter.fillRect(rect, QColor(now.ground))
        if document is None:
            painter.end()
            return
        beyond = here.to_screen(QRectF(document.frame_rect)).toAlignedRect()
        for rect in rects(bare.intersected(beyond)):
            painter.fillRect(rect, QColor(now.field_hover))
        painter.setCompositionMode(_Mode.CompositionMode_SourceOver)
        if not seen.isEmpty() and self._in_hurry() and here.zoom < PIXELS_FROM:
            painter.setClipRect(seen)
            self._draw_quickly(painter, here, seen)
        elif not seen.isEmpty():
            painter.setClipRect(seen)
            checks = self._checks(here.ratio)
            painter.setBrushOrigin(here.x, here.y)
            painter.fillRect(seen, checks)
            layers = [it for it in document.layers if it.visible and it.opacity > 0]
            area = QRectF(seen)
            if len(layers) == 1 and layers[0].blend == "normal":
                painter.setOpacity(layers[0].opacity)
                self._draw(painter, here, layers[0], area)
                painter.setOpacity(1.0)
            elif layers:
                group = self._cleared("group", seen)
                inner = QPainter(group)
                inner.setClipRect(seen)
                for layer in layers:
                    inner.setOpacity(layer.opacity)
                    inner.setCompositionMode(BLENDS[layer.blend][0])
                    self._draw(inner, here, layer, area)
                inner.end()
                painter.drawImage(seen.topLeft(), group, seen)
            if self.overlay:
                for rect in rects(self._masked(here, seen)):
                    self._veil(painter, here, rect)
        painter.end()

    def _draw_quickly(self, painter: QPainter, here: Place, seen: QRect) -> None:
        """Draw layers and mask out of one picture, without smoothing."""
        level, flat = self._level(here, None), self._flat
        # one half or twice as fine will do for the moment: it is drawn well when the wheel has come to rest
        if (
            flat is not None
            and abs(flat.level - level) <= 1
            and flat.rect.contains(self._under(here, seen, flat.level))
        ):
            level = flat.level
        around = self._under(here, seen, level)
        flat = self._flattened(level, around, here.ratio)
        if flat is None:
            return
        step = here.zoom * (1 << level)  # device px per px of it
        source = around.intersected(flat.rect)
        place = QRectF(
            here.x + source.x() * step, here.y + source.y() * step, source.width() * step, source.height() * step
        )
        if flat.opaque:
            painter.setCompositionMode(_Mode.CompositionMode_Source)
        else:
            painter.setBrushOrigin(here.x, here.y)
            painter.fillRect(seen, self._checks(here.ratio))
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, False)
        painter.drawImage(place, flat.image, QRectF(source.translated(-flat.rect.topLeft())))

    def _under(self, here: Place, seen: QRect, level: int) -> QRect:
        """The part of the small copies that lies under a part of the screen."""
        step = here.zoom * (1 << level)
        around = QRect(
            QPoint(math.floor((seen.left() - here.x) / step) - 1, math.floor((seen.top() - here.y) / step) - 1),
            QPoint(math.ceil((seen.right() - here.x) / step) + 1, math.ceil((seen.bottom() - here.y) / step) + 1),
        )
        return around.intersected(self._whole_of(level))

    def _whole_of(self, level: int) -> QRect:
        document = self._document
        assert document is not None
        return QRect(0, 0, -(-document.width >> level), -(-document.height >> level))

    def _flattened(self, level: int, around: QRect, ratio: float) -> Flat | None:
        """All that is seen in a part of the document, as large as the small copies; kept until something changes."""
        flat = self._flat
        whole = self._whole_of(level)
        if around.isEmpty():
            return None
        if flat is not None and flat.level == level and flat.rect.contains(around):
            return flat
        # somewhat more than is seen, so that not each turn of the wheel has to add to it
        dx, dy = around.width() // 10, around.height() // 10
        rect = around.adjusted(-dx, -dy, dx, dy).intersected(whole)
        missing, opaque = QRegion(rect), self._is_opaque()
        made = QImage(rect.size(), _COLOUR)
        if flat is not None and flat.level == level and flat.rect.intersects(rect):
            painter = QPainter(made)
            painter.setCompositionMode(_Mode.CompositionMode_Source)
            painter.drawImage(flat.rect.topLeft() - rect.topLeft(), flat.image)
            painter.end()
            missing = missing.subtracted(QRegion(flat.rect))
        for part in rects(missing):
            self._flatten(made, level, part, part.topLeft() - rect.topLeft(), ratio)
        if opaque:
            made.reinterpretAsFormat(QImage.Format.Format_RGB32)
        self._flat = Flat(level, rect, made, opaque)
        return self._flat

    def _is_opaque(self) -> bool:
        """Whether there is a layer through which nothing can be seen."""
        document = self._document
        assert document is not None
        for layer in document.layers:
            if layer.visible and layer.opacity >= 1 and layer.blend == "normal" and layer.rect.contains(document.rect):
                smallest, _ = self._pyramid(layer).level(_SMALLEST)
                grey = smallest.convertToFormat(_GREY)
                if grey.pixelColor(0, 0).alpha() == 255 and regions.is_plain(grey):
                    return True
        return False

    def _flatten(self, made: QImage, level: int, part: QRect, at: QPoint, ratio: float) -> None:
        """Draw all that is seen in a part of the document, as large as its small copies, at a place of a picture."""
        document = self._document
        assert document is not None
        painter = QPainter(made)
        painter.translate(at - part.topLeft())
        painter.setClipRect(part)
        painter.setCompositionMode(_Mode.CompositionMode_Source)
        painter.fillRect(part, Qt.GlobalColor.transparent)
        scale = 1 << level
        for layer in document.layers:
            if layer.visible and layer.opacity > 0:
                image, deep = self._pyramid(layer).level(level)
                painter.setOpacity(layer.opacity)
                painter.setCompositionMode(BLENDS[layer.blend][0])
                if deep == level:
                    painter.drawImage(round(layer.x / scale), round(layer.y / scale), image)
                else:  # a layer so small that there is no smaller copy
                    size = QRectF(0, 0, layer.image.width() / scale, layer.image.height() / scale)
                    painter.drawImage(size.translated(layer.x / scale, layer.y / scale), image)
        painter.setOpacity(1.0)
        painter.setCompositionMode(_Mode.CompositionMode_SourceOver)
        tiles = document.masked_tiles(QRect(part.topLeft() * scale, part.size() * scale)) if self.overlay else []
        around = QRect()
        for tile in tiles:
            around = around.united(QRect(tile.topLeft() / scale, tile.size() / scale).adjusted(-1, -1, 1, 1))
        around = around.intersected(part)
        if not around.isEmpty():
            painter.drawImage(around.topLeft(), self._small_veil(level, around, ratio))
        painter.end()

    def _small_veil(self, level: int, part: QRect, ratio: float) -> QImage:
        """What covers the mask, as large as its small copies."""
        veil = QImage(part.size(), _COLOUR)
        inner = QPainter(veil)
        inner.setCompositionMode(_Mode.CompositionMode_Source)
        inner.translate(-part.topLeft())
        inner.fillRect(part, self._hatch(ratio))
        inner.setCompositionMode(_Mode.CompositionMode_DestinationIn)
        mask, deep = self._pyramid(None).level(level)
        more = 1 << (level - deep)
        source = QRect(part.topLeft() * more, part.size() * more)
        inner.drawImage(part, mask.copy(source).convertToFormat(_COLOUR))
        inner.end()
        return veil

    def _masked(self, here: Place, seen: QRect) -> QRegion:
        """The part of what is seen, in device px, where there may be something of the mask."""
        document = self._document
        assert document is not None
        tiles = document.masked_tiles(_back_to(here, seen))
        if len(tiles) > _TILES_APART:
            whole = QRect()
            for tile in tiles:
                whole = whole.united(tile)
            tiles = [whole]
        region = QRegion()
        for tile in tiles:
            region += influence(here, tile)
        return region.intersected(seen)

    def _veil(self, painter: QPainter, here: Place, part: QRect) -> None:
        """Lay the colour of the mask over a part of the picture."""
        veil = self._buffer("veil")
        inner = QPainter(veil)
        inner.setClipRect(part)
        inner.setCompositionMode(_Mode.CompositionMode_Source)
        inner.setBrushOrigin(here.x, here.y)
        inner.fillRect(part, self._hatch(here.ratio))
        inner.setCompositionMode(_Mode.CompositionMode_DestinationIn)
        self._draw(inner, here, None, QRectF(part))
        inner.end()
        painter.drawImage(part.topLeft(), veil, part)

    def _buffer(self, name: str) -> QImage:
        """A picture as large as the screen's, to compose in; what is in it is left from before."""
        made = self._scratch.get(name)
        if made is None or made.size() != self.picture.size():
            made = self._scratch[name] = QImage(self.picture.size(), _COLOUR)
        return made

    def _cleared(self, name: str, part: QRect) -> QImage:
        """The same, clear in this part."""
        made = self._buffer(name)
        painter = QPainter(made)
        painter.setCompositionMode(_Mode.CompositionMode_Source)
        painter.fillRect(part, Qt.GlobalColor.transparent)
        painter.end()
        return made

    def _draw(self, painter: QPainter, here: Place, layer: Layer | None, area: QRectF) -> None:
        """Draw what is seen of a layer, or of the mask, in device px."""
        image, level = self._pyramid(layer).level(self._level(here, layer))
        step = here.zoom * (1 << level)  # device px per px of this copy
        x = here.x + (layer.x if layer is not None else 0) * here.zoom
        y = here.y + (layer.y if layer is not None else 0) * here.zoom
        exact = math.isclose(step, 1.0, rel_tol=1e-9)
        left, top = math.floor((area.left() - x) / step) - 1, math.floor((area.top() - y) / step) - 1
        right, bottom = math.ceil((area.right() - x) / step) + 1, math.ceil((area.bottom() - y) / step) + 1
        source = QRect(left, top, right - left, bottom - top).intersected(image.rect())
        if source.isEmpty():
            return
        if image.format() == _GREY:  # composing is several times as fast on colours
            image, shift = image.copy(source).convertToFormat(_COLOUR), source.topLeft()
            x, y = x + shift.x() * step, y + shift.y() * step
            source = image.rect()
        if exact:
            painter.drawImage(QPoint(round(x) + source.x(), round(y) + source.y()), image, source)
            return
        smooth = here.zoom < PIXELS_FROM and not self._in_hurry()
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, smooth)
        place = QRectF(x + source.x() * step, y + source.y() * step, source.width() * step, source.height() * step)
        painter.drawImage(place, image, QRectF(source))

    def _hatch(self, ratio: float) -> QBrush:
        """What covers the mask: the accent with light and dark lines across, so that it shows on any picture."""
        if self._pattern is None or self._pattern[0] != ratio:
            side = round(12 * ratio)
            tile = QPixmap(side, side)
            ground = QColor(theme.LIGHT.accent)  # the deeper one: what lies behind is the picture, not the window
            ground.setAlphaF(0.5)
            tile.fill(ground)
            painter = QPainter(tile)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            for colour, shift in ((QColor(255, 255, 255, 150), 0.0), (QColor(0, 0, 0, 130), 1.5 * ratio)):
                painter.setPen(QPen(colour, 1.5 * ratio))
                for start in (-side, 0, side):
                    painter.drawLine(
                        QPointF(start + shift - ratio, side + ratio), QPointF(start + side + shift + ratio, -ratio)
                    )
            painter.end()
            self._pattern = (ratio, QBrush(tile))
        return self._pattern[1]


def rects(region: QRegion) -> list[QRect]:
    parts: Any = region  # it can be walked through, which its stub does not know
    return list(parts)


def influence(here: Place, rect: QRect) -> QRect:
    """The part of the screen (device px) on which a part of the document has an influence."""
    reach = 2 + math.ceil(here.zoom)
    return here.to_screen(QRectF(rect)).toAlignedRect().adjusted(-reach, -reach, reach, reach)


def _back_to(here: Place, part: QRect) -> QRect:
    """The part of the document that is seen in device px."""
    z = here.zoom
    found = QRectF((part.x() - here.x) / z, (part.y() - here.y) / z, part.width() / z, part.height() / z)
    return found.toAlignedRect().adjusted(-2, -2, 2, 2)


def logical(rect: QRect, ratio: float) -> QRect:
    found = QRectF(rect.x() / ratio, rect.y() / ratio, rect.width() / ratio, rect.height() / ratio)
    return found.toAlignedRect()


def device(rect: QRect, ratio: float) -> QRect:
    found = QRectF(rect.x() * ratio, rect.y() * ratio, rect.width() * ratio, rect.height() * ratio)
    return found.toAlignedRect()
