"""Documents as OpenRaster files (.ora, version 0.0.6): written whole, read with bounds: anybody can make one.

Knows the format; knows nothing of widgets. The mask lies in a file of its own that other programs pass over. What they
have and we have not (groups, filters) is resolved as far as it can be: layers of groups become layers.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QSize, Qt
from PySide6.QtGui import QImage, QImageReader

from studio.core.problems import StudioError
from studio.ui.paint.document import LAYERS_MOST, SIDE_MOST, Document, as_png
from studio.ui.paint.history import LIMIT
from studio.ui.paint.snapshot import Snapshot
from studio.ui.strings import tr

MIME = "image/openraster"
MASK_FILE = "data/offline-studio-mask.png"
THUMBNAIL = 256  # px, the longer side at most

FILES_MOST = 4096
STACK_MOST = 1_000_000  # bytes of stack.xml
FILE_MOST = 512_000_000  # bytes of one unpacked file
PIXELS_MOST = 320_000_000  # of all layers together
DEPTH_MOST = 32  # groups within groups

# What OpenRaster calls our ways of blending. "svg:exclusion" is SVG's name; the 0.0.6 text does not list it, and
# programs that do not know it blend normally, as the text asks of them.
NAMES = {
    "normal": "svg:src-over", "multiply": "svg:multiply", "screen": "svg:screen", "overlay": "svg:overlay",
    "darken": "svg:darken", "lighten": "svg:lighten", "color-dodge": "svg:color-dodge", "color-burn": "svg:color-burn",
    "hard-light": "svg:hard-light", "soft-light": "svg:soft-light", "difference": "svg:difference",
    "exclusion": "svg:exclusion", "plus": "svg:plus",
}  # fmt: skip
_BLENDS = {name: blend for blend, name in NAMES.items()}
_FILLED_HIDDEN = ("hidden", "0", "false")


class NotOpenRaster(StudioError):
    """The file is damaged, or not what it says it is."""

    code = "not_openraster"


@dataclass
class _Found:
    """A layer as the stack describes it."""

    source: str
    name: str
    x: int
    y: int
    opacity: float
    blend: str
    visible: bool
    locked: bool


@dataclass
class _Group:
    x: int = 0
    y: int = 0
    opacity: float = 1.0
    visible: bool = True


@dataclass
class _Stack:
    """Collects what stack.xml says; layers from top to bottom."""

    width: int = 0
    height: int = 0
    layers: list[_Found] = field(default_factory=list)
    groups: list[_Group] = field(default_factory=list)

    def start(self, tag: str, given: dict[str, str]) -> None:
        if tag == "image" and not self.groups:
            self.width, self.height = _whole(given.get("w", "")), _whole(given.get("h", ""))
        elif tag in ("stack", "layer"):
            around = self.groups[-1] if self.groups else _Group()
            x, y = around.x + _whole(given.get("x", "0")), around.y + _whole(given.get("y", "0"))
            opacity = around.opacity * _share(given.get("opacity", "1"))
            visible = around.visible and given.get("visibility", "visible").strip().lower() not in _FILLED_HIDDEN
            if tag == "stack":
                if len(self.groups) >= DEPTH_MOST:
                    raise NotOpenRaster(tr("Its groups are nested too deeply."))
                self.groups.append(_Group(x, y, opacity, visible))
                return
            if len(self.layers) >= LAYERS_MOST:
                raise NotOpenRaster(tr("It has more than {n} layers.", n=LAYERS_MOST))
            blend = _BLENDS.get(given.get("composite-op", "svg:src-over"), "normal")
            name = " ".join(given.get("name", "").split())[:200]
            locked = given.get("edit-locked", "false") == "true"
            self.layers.append(_Found(given.get("src", ""), name, x, y, opacity, blend, visible, locked))

    def end(self, tag: str) -> None:
        if tag == "stack" and self.groups:
            self.groups.pop()


def write_openraster(document: Document | Snapshot, stream: IO[bytes]) -> None:
    """Write a document with all its layers and its mask.

    Args:
        stream: can be written; need not be sought in.

    Raises:
        OSError: it cannot be written. ValueError: a layer cannot be encoded.
    """
    lines = []
    flat = document.flattened()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        _put(archive, "mimetype", MIME.encode())  # first and not packed, so that the file can be recognised
        for index, layer in reversed(list(enumerate(document.layers))):
            source = f"data/layer{index:03}.png"
            _put(archive, source, as_png(layer.image))
            given = {
                "name": _legible(layer.name), "src": source, "x": str(layer.x), "y": str(layer.y),
                "opacity": f"{layer.opacity:.6g}", "visibility": "visible" if layer.visible else "hidden",
                "composite-op": NAMES[layer.blend],
            }  # fmt: skip
            if layer.locked:
                given["edit-locked"] = "true"
            lines.append(f"    <layer {' '.join(f'{key}={quoteattr(value)}' for key, value in given.items())}/>\n")
        if not document.is_empty_mask():
            _put(archive, MASK_FILE, as_png(document.mask_image()))
        _put(archive, "mergedimage.png", as_png(flat))
        _put(archive, "Thumbnails/thumbnail.png", as_png(_within(flat, THUMBNAIL)))
        head = '<?xml version="1.0" encoding="UTF-8"?>\n'
        size = f'w="{document.width}" h="{document.height}"'
        whole = f'{head}<image version="0.0.6" {size}>\n  <stack>\n{"".join(lines)}  </stack>\n</image>\n'
        _put(archive, "stack.xml", whole.encode())


def read_openraster(path: Path, folder: Path | None = None, *, limit: int = LIMIT) -> Document:
    """Read a document.

    Args:
        folder, limit: for the history, as of `Document`.

    Raises:
        NotOpenRaster: it is damaged, too large, or not an OpenRaster file. OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if len(archive.infolist()) > FILES_MOST:
                raise NotOpenRaster(tr("It holds more than {n} files.", n=f"{FILES_MOST:,}"))
            if _get(archive, "mimetype", 100).strip() != MIME.encode():
                raise NotOpenRaster(tr("It is not an OpenRaster file."))
            stack = _parsed(_get(archive, "stack.xml", STACK_MOST))
            return _built(archive, stack, folder, limit)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise NotOpenRaster(tr("It is damaged, or not an OpenRaster file."), detail=str(error)) from error
    except zipfile.zlib.error as error:  # type: ignore[attr-defined]
        raise NotOpenRaster(tr("It is damaged, or not an OpenRaster file."), detail=str(error)) from error


def _built(archive: zipfile.ZipFile, stack: _Stack, folder: Path | None, limit: int) -> Document:
    if not (0 < stack.width <= SIDE_MOST and 0 < stack.height <= SIDE_MOST):
        raise NotOpenRaster(tr("Its size is {w}×{h} px; each side may have 1 to {n} px.", w=stack.width, h=stack.height,
                               n=f"{SIDE_MOST:,}"))  # fmt: skip
    if not stack.layers:
        raise NotOpenRaster(tr("It has no layers."))
    images = list(_pictures(archive, stack))
    mask = None
    if MASK_FILE in archive.namelist():
        mask = _decoded(_get(archive, MASK_FILE, FILE_MOST), PIXELS_MOST)
        if mask.size() != QSize(stack.width, stack.height):
            mask = None
    return Document.of_layers(
        stack.width, stack.height,
        [(image, it.name, it.x, it.y, it.opacity, it.blend, it.visible, it.locked) for it, image in reversed(images)],
        mask, folder, limit=limit,
    )  # fmt: skip


def _pictures(archive: zipfile.ZipFile, stack: _Stack) -> Iterator[tuple[_Found, QImage]]:
    room = PIXELS_MOST
    for found in stack.layers:
        image = _decoded(_get(archive, found.source, FILE_MOST), room)
        room -= image.width() * image.height()
        yield found, image


def _get(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """The content of a file in the archive. Nothing is ever unpacked to the disk."""
    parts = name.split("/")
    if not name or "\\" in name or ":" in name or "\0" in name or any(it in ("", ".", "..") for it in parts):
        raise NotOpenRaster(tr("It names a file outside of itself: “{name}”.", name=name[:80]))
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise NotOpenRaster(tr("A part is missing: “{name}”.", name=name[:80])) from None
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise NotOpenRaster(tr("It is packed in a way that OpenRaster does not allow."))
    with archive.open(info) as file:
        content = file.read(most + 1)  # what the header says of the size need not be true
    if len(content) > most:
        raise NotOpenRaster(tr("A part of it is too large: “{name}”.", name=name[:80]))
    return content


def _decoded(content: bytes, most: int) -> QImage:
    """A PNG as pixels; its size is looked at first.

    Args:
        most: px.
    """
    buffer = QBuffer()
    buffer.setData(QByteArray(content))
    buffer.open(QIODevice.OpenModeFlag.ReadOnly)
    reader = QImageReader(buffer, QByteArray(b"png"))
    size = reader.size()
    if not (0 < size.width() <= SIDE_MOST and 0 < size.height() <= SIDE_MOST):
        raise NotOpenRaster(tr("A layer is damaged or too large."))
    if size.width() * size.height() > most:
        raise NotOpenRaster(tr("Its layers are too large for the memory."))
    image = reader.read()
    if image.isNull():
        raise NotOpenRaster(tr("A layer is damaged or too large."), detail=reader.errorString())
    return image


def _parsed(text: bytes) -> _Stack:
    """Read stack.xml. A document type is refused, and with it every entity that could be declared."""
    stack = _Stack()

    def refused(*_: Any) -> int:
        raise NotOpenRaster(tr("Its description declares entities, which are not read."))

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refused
    parser.EntityDeclHandler = refused
    parser.ExternalEntityRefHandler = refused
    parser.StartElementHandler = stack.start
    parser.EndElementHandler = stack.end
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise NotOpenRaster(tr("Its description is damaged."), detail=str(error)) from error
    return stack


def _whole(text: str) -> int:
    try:
        value = int(float(text))
    except (ValueError, OverflowError):
        return 0
    return min(max(value, -(2**20)), 2**20)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 1.0
    return min(1.0, max(0.0, value)) if math.isfinite(value) else 1.0


def _legible(name: str) -> str:
    """Without characters that XML cannot carry."""
    kept = (c for c in name if c in "\t\n" or " " <= c < "\ud800" or "\ue000" <= c < "\ufffe" or c > "\uffff")
    return "".join(kept)


def _within(image: QImage, side: int) -> QImage:
    if max(image.width(), image.height()) <= side:
        return image
    kinds = (Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation)
    return image.scaled(side, side, *kinds)


def _put(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)  # the same document gives the same file
