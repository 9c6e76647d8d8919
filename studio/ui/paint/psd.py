"""A picture in layers as a Photoshop file (.psd), written with Qt alone: the window loads neither numpy nor pillow.

Knows the format ("Adobe Photoshop File Formats Specification", November 2019) as far as 8-bit RGB with layers needs it;
knows nothing of widgets. Rows are packed where that makes them shorter and stand as they are where it does not. The
mask is not in it: the format keeps masks of layers, and ours belongs to the picture.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QImage, QPainter

from studio.core.problems import NotSaved
from studio.core.text import clean
from studio.ui.paint import regions
from studio.ui.paint.snapshot import Layer, Snapshot
from studio.ui.strings import tr

BYTES_MOST = 2_000_000_000  # of a whole file; beyond it the format is another one (PSB)
NAME_MOST = 255  # bytes of a layer's short name
LONG_NAME_MOST = 4_000  # characters of the other one

# What the format calls our ways of blending.
KEYS = {
    "normal": b"norm", "multiply": b"mul ", "screen": b"scrn", "overlay": b"over", "darken": b"dark",
    "lighten": b"lite", "color-dodge": b"div ", "color-burn": b"idiv", "hard-light": b"hLit", "soft-light": b"sLit",
    "difference": b"diff", "exclusion": b"smud", "plus": b"lddg",
}  # fmt: skip

_RAW, _RLE = 0, 1
_HIDDEN, _PIXELS_COUNT = 0x02, 0x08  # flags; the second says that the first is meant
_OPACITY = -1  # the number of a layer's channel of opacity
_PLACES = {_OPACITY: 3, 0: 0, 1: 1, 2: 2}  # channel -> its byte in a px of RGBA8888
_LOOK_AT = 24  # rows that are tried, to see whether packing a channel pays
_PAYS = 0.85  # of the plain length
_STRIP = 128  # rows that are turned into plain colours at once: Qt holds the interpreter meanwhile
_RUN = re.compile(rb"(.)\1{2,127}", re.DOTALL)  # two alike are no shorter as a run

Check = Callable[[], None]


@dataclass
class _Channel:
    """A channel of an image: packed already, or to be written row by row."""

    number: int
    image: QImage
    packed: bytes | None

    @property
    def length(self) -> int:
        """Bytes, with the two that say how it is packed."""
        return 2 + (self.image.width() * self.image.height() if self.packed is None else len(self.packed))

    def write(self, stream: IO[bytes]) -> None:
        if self.packed is not None:
            stream.write(struct.pack(">H", _RLE) + self.packed)
            return
        stream.write(struct.pack(">H", _RAW))
        for row in _rows(self.image):
            stream.write(row[_PLACES[self.number] :: 4])


def write_psd(picture: Snapshot, stream: IO[bytes], check: Check = lambda: None) -> None:
    """Write a picture with all its layers, and what they look like together.

    Args:
        stream: can be written; need not be sought in.
        check: called now and then; may raise.

    Raises:
        NotSaved: the file would be larger than the format allows. OSError: it cannot be written.
    """
    flat = picture.flattened(check)
    clear = not _is_opaque(flat)
    order = (0, 1, 2, _OPACITY) if clear else (0, 1, 2)
    # 1. what lies where: the records stand before all pixels, and name their lengths
    records, channels = [], []
    for layer in picture.layers:
        record, own = _record(layer, check)
        records.append(record)
        channels.extend(own)
    length = 2 + sum(map(len, records)) + sum(it.length for it in channels)
    filled = -length % 4
    if length + flat.width() * flat.height() * len(order) > BYTES_MOST:
        raise NotSaved(tr("The layers are too large for a Photoshop file, which holds 2 GB."),
                       tr("Save them as OpenRaster."))  # fmt: skip
    # 2. header, no table of colours, no resources
    stream.write(struct.pack(">4sH6xHIIHH", b"8BPS", 1, len(order), flat.height(), flat.width(), 8, 3) + bytes(8))
    # 3. layers from the lowest; a count below 0 says that the whole has an opacity as its fourth channel
    count = len(records)
    stream.write(struct.pack(">IIh", length + filled + 8, length + filled, -count if clear else count))
    stream.write(b"".join(records))
    for channel in channels:
        check()
        channel.write(stream)
    stream.write(bytes(filled + 4))  # and no mask for all of them
    # 4. the whole, row after row of one channel after another
    stream.write(struct.pack(">H", _RAW))
    for number in order:
        # where it is see-through its colours are those over white: who reads the opacity takes the white out again
        for row in _rows(flat, over_white=clear and number != _OPACITY):
            stream.write(row[_PLACES[number] :: 4])
        check()


def _record(layer: Layer, check: Check) -> tuple[bytes, list[_Channel]]:
    """What is said of a layer, and its channels."""
    box = _filled(layer.image)  # what is see-through all round need not be kept
    image = layer.image.copy(box) if not box.isEmpty() else QImage()
    channels = []
    for number in _PLACES:
        check()
        channels.append(_Channel(number, image, _packed(image, number)))
    x, y = (layer.x + box.x(), layer.y + box.y()) if not box.isEmpty() else (0, 0)
    made = struct.pack(">iiiiH", y, x, y + image.height(), x + image.width(), len(channels))
    for channel in channels:
        made += struct.pack(">hI", channel.number, channel.length)
    flags = _PIXELS_COUNT | (0 if layer.visible else _HIDDEN)
    opacity = min(255, max(0, round(layer.opacity * 255)))
    made += struct.pack(">4s4sBBBx", b"8BIM", KEYS[layer.blend], opacity, 0, flags)
    extra = _extra(layer)
    return made + struct.pack(">I", len(extra)) + extra, channels


def _extra(layer: Layer) -> bytes:
    """Names, and whether it is locked."""
    name = " ".join(clean(layer.name)[0].split()) or tr("Layer")
    short = name.encode("ascii", "replace")[:NAME_MOST]
    made = struct.pack(">II", 0, 0) + bytes([len(short)]) + short  # neither a mask of its own nor ranges
    made += bytes(-(len(short) + 1) % 4)
    long = name[:LONG_NAME_MOST].encode("utf-16-be", "replace")
    said = struct.pack(">I", len(long) // 2) + long
    said += bytes(-len(said) % 4)
    made += struct.pack(">4s4sI", b"8BIM", b"luni", len(said)) + said
    if layer.locked:  # see-through px, pixels and place, all three
        made += struct.pack(">4s4sII", b"8BIM", b"lspf", 4, 0b111)
    return made


def _filled(image: QImage) -> QRect:
    """The part of an image that is not see-through."""
    if not image.hasAlphaChannel():
        return image.rect()
    around = QRect()
    for y in range(0, image.height(), _STRIP):
        strip = image.copy(0, y, image.width(), min(_STRIP, image.height() - y))
        found = regions.filled_bounds(strip.convertToFormat(QImage.Format.Format_Alpha8))
        if not found.isEmpty():
            around = around.united(found.translated(0, y))
    return around


def _is_opaque(image: QImage) -> bool:
    full = bytes([255]) * image.width()
    return all(row[3::4] == full for row in _rows(image))


def _rows(image: QImage, *, over_white: bool = False) -> Iterator[bytes]:
    """The rows as red, green, blue and opacity, not multiplied with one another."""
    wide = image.width() * 4
    for y in range(0, image.height(), _STRIP):
        strip = image.copy(0, y, image.width(), min(_STRIP, image.height() - y))
        if over_white:
            painter = QPainter(strip)
            painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_DestinationOver)
            painter.fillRect(strip.rect(), Qt.GlobalColor.white)
            painter.end()
        strip = strip.convertToFormat(QImage.Format.Format_RGBA8888)
        data: Any = strip.constBits()
        for start in range(0, wide * strip.height(), wide):
            yield bytes(data[start : start + wide])


def _packed(image: QImage, number: int) -> bytes | None:
    """The lengths of all rows and the rows, packed; None where a look at some of them says that this would not pay."""
    place, height = _PLACES[number], image.height()
    if not height:
        return b""
    step = max(1, height // _LOOK_AT)
    tried = [image.copy(0, y, image.width(), 1) for y in range(0, height, step)]
    lengths = [len(pack_bits(row[place::4])) for it in tried for row in _rows(it)]
    if sum(lengths) > _PAYS * image.width() * len(lengths):
        return None
    rows = [pack_bits(row[place::4]) for row in _rows(image)]
    return struct.pack(f">{len(rows)}H", *map(len, rows)) + b"".join(rows)


def pack_bits(row: bytes) -> bytes:
    """One row (TIFF 6.0, section 9): a run as a negative count and a byte, the rest as a count and as many bytes."""
    made, at = bytearray(), 0
    for run in _RUN.finditer(row):
        start, end = run.span()
        _plain(made, row, at, start)
        made.append(257 - (end - start))
        made.append(row[start])
        at = end
    _plain(made, row, at, len(row))
    return bytes(made)


def _plain(made: bytearray, row: bytes, start: int, end: int) -> None:
    for at in range(start, end, 128):
        piece = row[at : min(at + 128, end)]
        made.append(len(piece) - 1)
        made += piece
