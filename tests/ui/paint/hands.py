"""What the painting tests share: pictures, pixels and a slow but plain idea of what should come out."""

from __future__ import annotations

import random
from typing import Any

from PySide6.QtGui import QColor, QImage

from studio.ui.paint.document import Document

COLOUR, GREY = QImage.Format.Format_ARGB32_Premultiplied, QImage.Format.Format_Alpha8


def values(image: QImage) -> list[list[int]]:
    """Rows of an 8-bit picture."""
    assert image.depth() == 8
    bits: Any = image.constBits()
    line = image.bytesPerLine()
    return [list(bytes(bits[y * line : y * line + image.width()])) for y in range(image.height())]


def grey(rows: list[list[int]]) -> QImage:
    width, height = len(rows[0]), len(rows)
    return QImage(b"".join(bytes(row) for row in rows), width, height, width, GREY).copy()


def pixels(image: QImage) -> bytes:
    """Its bytes without what fills up the lines."""
    bits: Any = image.constBits()
    line, wide = image.bytesPerLine(), image.width() * image.depth() // 8
    return b"".join(bytes(bits[y * line : y * line + wide]) for y in range(image.height()))


def speckled(width: int, height: int, seed: int = 1) -> QImage:
    """Coloured and partly clear px."""
    dice = random.Random(seed)
    data = bytearray(dice.randbytes(4 * width * height))
    data[3::4] = bytes(data[3::4]).translate(bytes((0, 90, 255, 255)[v % 4] for v in range(256)))
    return QImage(bytes(data), width, height, 4 * width, QImage.Format.Format_ARGB32).convertToFormat(COLOUR)


def plain(width: int, height: int, colour: str) -> QImage:
    made = QImage(width, height, COLOUR)
    made.fill(QColor(colour))
    return made


def everything(document: Document) -> Any:
    """All that a document is, to compare."""
    sheet = document._sheet()
    sheet.pop("next")
    return sheet, {it.id: pixels(it.image) for it in document.layers}, pixels(document.mask), set(document._filled)
