"""The icon set: Lucide's outlines from assets/icons, drawn in the colours of the theme when they are needed."""

from __future__ import annotations

import functools
from typing import Any

from PySide6.QtCore import QByteArray, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QIcon, QIconEngine, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

from studio.core.paths import assets_folder
from studio.ui import theme


def icon(name: str, role: str = "text") -> QIcon:
    """An icon in a colour of the present theme.

    Args:
        name: a file of assets/icons, without its ending.
        role: a colour of the theme, for example "text", "soft", "accent_text".
    """
    now = theme.current()
    return _made(name, getattr(now, role), now.soft)


@functools.cache
def _made(name: str, colour: str, disabled: str) -> QIcon:
    return QIcon(_Engine(name, colour, disabled))


@functools.lru_cache(maxsize=512)
def _pixmap(name: str, colour: str, width: int, height: int) -> QPixmap:
    source = (assets_folder() / "icons" / f"{name}.svg").read_bytes()
    drawing = QSvgRenderer(QByteArray(source.replace(b"currentColor", colour.encode())))
    picture = QPixmap(width, height)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    side = min(width, height)
    drawing.render(painter, QRectF((width - side) / 2, (height - side) / 2, side, side))
    painter.end()
    return picture


class _Engine(QIconEngine):
    """Draws an outline at the size that is asked for, so that it is sharp on every screen."""

    def __init__(self, name: str, colour: str, disabled: str) -> None:
        super().__init__()
        self._name, self._colours = name, (colour, disabled)

    def pixmap(self, size: QSize, mode: QIcon.Mode, state: QIcon.State) -> QPixmap:
        colour = self._colours[mode == QIcon.Mode.Disabled]
        return _pixmap(self._name, colour, max(1, size.width()), max(1, size.height()))

    def paint(self, painter: QPainter, rect: QRect, mode: QIcon.Mode, state: QIcon.State) -> None:
        scale = painter.device().devicePixelRatio()
        painter.drawPixmap(rect, self.pixmap(rect.size() * scale, mode, state))

    def clone(self) -> Any:
        return _Engine(self._name, *self._colours)
