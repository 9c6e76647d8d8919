"""The page on which a picture is painted on: tools above, the board, layers beside it, and how far the next one is.

Knows the document and its folder; knows nothing of works, jobs or recipes: what is to be made of it, the tab asks for.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtGui import QColor, QImage, QKeyEvent, QPainter, QPixmap
from PySide6.QtWidgets import QHBoxLayout, QSplitter, QVBoxLayout, QWidget

from studio.ui.paint import regions
from studio.ui.paint.board import Board
from studio.ui.paint.document import Document
from studio.ui.paint.layers import Layers
from studio.ui.paint.tools import Tools
from studio.ui.strings import tr
from studio.ui.widgets import Label

INSET = 168  # px, longer side of the small preview
ROOM_FOR_LAYERS = 560  # px, width of the page
SHOWN_LAYERS = 230  # px, width of the panel


@dataclass(frozen=True)
class Painted:
    """What a document is when something is to be made of it.

    Attributes:
        picture: all that is visible, as one. mask: Grayscale8, or None where nothing is masked.
        margins: px beyond the left, top, right and bottom edge, none of them below 0.
    """

    picture: QImage
    mask: QImage | None
    margins: tuple[int, int, int, int]


class PaintPage(QWidget):
    """Signals:
    told(str): a sentence for the user.
    """

    told = Signal(str)

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self.document: Document | None = None
        self.board = Board()
        self.tools = Tools(self.board)
        self.layers = Layers(self.board)
        self.layers.setMinimumWidth(180)
        self.inset = Label()
        self.inset.setParent(self.board)
        self.inset.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.inset.setAccessibleName(tr("How far the next picture is"))
        self.inset.hide()
        self.split = QSplitter(Qt.Orientation.Horizontal)
        self.split.setObjectName("image.paint")
        self.split.addWidget(self.board)
        self.split.addWidget(self.layers)
        self.split.setStretchFactor(0, 1)
        self.split.setSizes([10_000, SHOWN_LAYERS])
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        around.setSpacing(0)
        around.addWidget(self.tools)
        across = QHBoxLayout()
        across.setContentsMargins(0, 0, 0, 0)
        across.addWidget(self.split)
        around.addLayout(across, 1)
        self._layers_shown = {True: False, False: True}  # whether it is narrow -> what was chosen for that
        self.tools.layers_button.setChecked(True)
        self.tools.layers_button.clicked.connect(self._toggle_layers)
        self.board.refused.connect(self.told)
        self.board.installEventFilter(self)

    # -- the document

    def is_kept(self) -> bool:
        """Whether there is a painting from before to go on with."""
        return self._folder.is_dir() and any(self._folder.iterdir())

    def go_on(self) -> bool:
        """Bring back the painting from before. False where there is none that can be read."""
        try:
            self._take(Document.open(self._folder))
        except (OSError, ValueError):
            return False
        return True

    def begin(self, picture: QImage | None, width: int, height: int) -> bool:
        """Begin a painting; the one from before is laid aside, see `bring_back`. False where it cannot be made."""
        self.put_away()
        aside = self._folder.with_name(f"{self._folder.name}-before")
        try:
            if self._folder.is_dir():
                shutil.rmtree(aside, ignore_errors=True)
                self._folder.rename(aside)
            self._folder.mkdir(parents=True, exist_ok=True)
            self._take(Document(width, height, self._folder, picture=picture))
        except (OSError, ValueError) as error:
            self.told.emit(tr("A painting could not be begun: {why}.", why=str(error).rstrip(".")))
            return False
        return True

    def begin_with(self, size: tuple[int, int], layers: list[Any], mask: QImage | None) -> bool:
        """Begin a painting with layers, as `Document.of_layers` takes them."""
        if not self.begin(None, *size):
            return False
        self.put_away()
        self._take(Document.of_layers(*size, layers, mask, self._folder))
        return True

    def bring_back(self) -> bool:
        """Exchange the painting for the one that was laid aside."""
        aside = self._folder.with_name(f"{self._folder.name}-before")
        third = self._folder.with_name(f"{self._folder.name}-swap")
        if not aside.is_dir():
            return False
        self.put_away()
        try:
            if self._folder.is_dir():
                self._folder.rename(third)
            aside.rename(self._folder)
            if third.is_dir():
                third.rename(aside)
        except OSError as error:
            self.told.emit(tr("The painting could not be brought back: {why}.", why=error.strerror or str(error)))
        return self.go_on()

    def _take(self, document: Document) -> None:
        self.document = document
        document.setParent(self)
        self.board.set_document(document)
        if document.damaged:
            self.told.emit(tr("Parts of the painting could not be read; they are clear now."))

    def put_away(self) -> None:
        """Write what is not yet on disk, and show nothing."""
        document, self.document = self.document, None
        self.board.set_document(None)
        if document is not None:
            if not document.close():
                self.told.emit(tr("The painting could not be written to the disk."))
            document.deleteLater()

    # -- what is made of it

    def painted(self) -> Painted | None:
        """What is to be made something of, or None where there is no document."""
        document = self.document
        if document is None:
            return None
        left, top, right, bottom = (max(0, it) for it in document.frame)
        mask = None if document.is_empty_mask() else document.mask_image()
        return Painted(document.flattened(), mask, (left, top, right, bottom))

    def land(self, image: QImage, name: str, asked: Painted, blur: int, *, visible: bool = True) -> None:
        """Lay a result over the layers; of a repainted part only that part. The mask stays, for another try.

        Args:
            asked: what it was made from. blur: px, how soft the mask's edge was.
        """
        document = self.document
        if document is None or image.isNull():
            return
        left, top, right, bottom = asked.margins
        size = QSize(asked.picture.width() + left + right, asked.picture.height() + top + bottom)
        if image.size() != size:
            image = image.scaled(
                size, Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation
            )  # fmt: skip
        image = image.convertToFormat(QImage.Format.Format_ARGB32_Premultiplied)
        offset = (-left, -top)
        if any(asked.margins) and document.frame == asked.margins and document.rect.size() == asked.picture.size():
            document.crop_to_frame()  # the picture is as large now as what was painted
            offset = (0, 0)
        elif asked.mask is not None:
            image = _only_where(image, asked.mask, blur)
        layer = document.add_layer(image, name, x=offset[0], y=offset[1])
        if not visible:
            document.set_visible(layer.id, False)

    def show_preview(self, image: QImage | None, caption: str = "") -> None:
        """How far the next picture is, small in a corner; None takes it away."""
        if image is None or image.isNull():
            self.inset.hide()
            return
        scale = self.devicePixelRatioF()
        side = round(INSET * scale)
        fitted = image.scaled(
            side, side, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
        )  # fmt: skip
        pixmap = QPixmap.fromImage(fitted)
        painter = QPainter(pixmap)
        painter.setPen(QColor(0, 0, 0, 120))
        painter.drawRect(0, 0, pixmap.width() - 1, pixmap.height() - 1)
        painter.end()
        pixmap.setDevicePixelRatio(scale)
        self.inset.setPixmap(pixmap)
        self.inset.setAccessibleDescription(caption)
        self.inset.adjustSize()
        self._place_inset()
        self.inset.show()

    def resizeEvent(self, event: Any) -> None:
        """Where it is narrow the picture has the room, unless the layers were asked for; they come back with it."""
        super().resizeEvent(event)
        self._show_layers()

    def _toggle_layers(self) -> None:
        self._layers_shown[self._is_narrow()] = self.tools.layers_button.isChecked()
        self._show_layers()

    def _show_layers(self) -> None:
        shown = self._layers_shown[self._is_narrow()]
        self.layers.setVisible(shown)
        self.tools.layers_button.setChecked(shown)
        self.tools.layers_button.name(tr("Hide the layers") if shown else tr("Show the layers"))

    def _is_narrow(self) -> bool:
        return self.width() < ROOM_FOR_LAYERS

    def event(self, event: QEvent) -> bool:
        """Esc anywhere on the page gives up what is being done, before it means anything else."""
        if isinstance(event, QKeyEvent) and event.key() == Qt.Key.Key_Escape and self.board.busy:
            if event.type() == QEvent.Type.ShortcutOverride:
                event.accept()
                return True
            if event.type() == QEvent.Type.KeyPress:
                self.board.stop()
                event.accept()
                return True
        return super().event(event)

    def eventFilter(self, watched: Any, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Resize:
            self._place_inset()
        return False

    def _place_inset(self) -> None:
        self.inset.move(self.board.width() - self.inset.width() - 12, 12)


def _only_where(image: QImage, mask: QImage, blur: int) -> QImage:
    """A picture that shows only where the mask is, with its soft edge all inside."""
    soft = mask.copy()
    soft.reinterpretAsFormat(QImage.Format.Format_Alpha8)
    if blur:
        soft = regions.grown(soft, min(blur, 64))
    made = QImage(image)
    painter = QPainter(made)
    painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_DestinationIn)
    painter.drawImage(0, 0, soft)
    painter.end()
    return made
