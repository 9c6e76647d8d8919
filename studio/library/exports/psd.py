"""PSD: pictures in layers, as Photoshop, Krita, GIMP and Affinity open them.

Knows the file format ("Adobe Photoshop File Formats Specification", November 2019) as far as 8-bit RGB with layers
needs it; knows nothing of where layers come from.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from studio.core.problems import BadRecipe, NotSaved
from studio.core.recipes import ExportRecipe
from studio.core.text import clean
from studio.engines.context import RunContext
from studio.library.exports.pictures import carried, hold_size, open_picture
from studio.library.exports.source import Sink, Source

LIMIT = 30_000  # px per side; beyond it the format is another one (PSB)
NAME_LIMIT = 255  # bytes of a layer's short name

_RLE = 1
_ICC, _XMP = 1039, 1060  # image resources
_HIDDEN, _PIXELS_COUNT = 0x02, 0x08  # flags of a layer; the second says that the first kind of bit is meant

# blend mode -> the format's key, and how it mixes colours from 0 to 1: (below, above) -> mixed
_Mix = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _hard_light(below: np.ndarray, above: np.ndarray) -> np.ndarray:
    return np.where(above <= 0.5, 2 * below * above, 1 - 2 * (1 - below) * (1 - above))


def _soft_light(below: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Source: W3C Compositing and Blending Level 1, section 10.1.11."""
    root = np.where(below <= 0.25, ((16 * below - 12) * below + 4) * below, np.sqrt(below))
    lighter = below + (2 * above - 1) * (root - below)
    return np.where(above <= 0.5, below - (1 - 2 * above) * below * (1 - below), lighter)


def _dodge(below: np.ndarray, above: np.ndarray) -> np.ndarray:
    bright = np.minimum(1, below / np.maximum(1 - above, 1e-6))
    return np.where(below == 0, 0.0, np.where(above >= 1, 1.0, bright))


def _burn(below: np.ndarray, above: np.ndarray) -> np.ndarray:
    return 1 - _dodge(1 - below, 1 - above)


BLENDS: dict[str, tuple[bytes, _Mix]] = {
    "normal": (b"norm", lambda below, above: above),
    "multiply": (b"mul ", lambda below, above: below * above),
    "screen": (b"scrn", lambda below, above: below + above - below * above),
    "overlay": (b"over", lambda below, above: _hard_light(above, below)),
    "darken": (b"dark", np.minimum),
    "lighten": (b"lite", np.maximum),
    "dodge": (b"div ", _dodge),
    "burn": (b"idiv", _burn),
    "hard_light": (b"hLit", _hard_light),
    "soft_light": (b"sLit", _soft_light),
    "difference": (b"diff", lambda below, above: np.abs(below - above)),
    "exclusion": (b"smud", lambda below, above: below + above - 2 * below * above),
    "add": (b"lddg", lambda below, above: np.minimum(1, below + above)),
}


class Layer(NamedTuple):
    """One layer.

    Attributes:
        name: shown in the list of layers. image: any mode that pillow turns into RGBA.
        x, y: its upper left corner in the picture, px; may lie outside. opacity: 0 to 1.
        blend: a key of BLENDS. visible: False for one that is switched off.
    """

    name: str
    image: Image.Image
    x: int = 0
    y: int = 0
    opacity: float = 1.0
    blend: str = "normal"
    visible: bool = True


def write(source: Source, stream: BinaryIO, recipe: ExportRecipe, ctx: RunContext) -> dict[str, Any]:
    """Write a work as a PSD with one layer. Quality means nothing here."""
    picture = open_picture(source, ctx)
    hold_size(picture, LIMIT, "PSD")
    own = carried(source, recipe, "PSD", ctx)
    profile = picture.info.get("icc_profile", b"") if picture.mode.startswith("RGB") else b""
    ctx.progress(2, 3, "steps", "writing")
    sink = Sink(stream, ctx.check)
    name = source.tag if recipe.metadata and source.tag else "Picture"
    write_psd([Layer(name, picture)], picture.size, sink, xmp=own.xmp, profile=profile, check=ctx.check)
    sink.finish()
    ctx.progress(3, 3, "steps", "writing")
    return {"width": picture.width, "height": picture.height}


def write_psd(
    layers: Sequence[Layer | tuple[Any, ...]],
    size: tuple[int, int],
    stream: Any,
    *,
    merged: Image.Image | None = None,
    xmp: bytes = b"",
    profile: bytes = b"",
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write a picture in layers.

    Args:
        layers: from the lowest to the topmost; plain tuples in the order of Layer's fields will do.
        size: width and height of the whole, px.
        stream: open for writing; only `write` is called.
        merged: what it looks like as a whole, for programs that read no layers; None has it composed here.
        xmp: a packet. profile: an ICC profile of RGB. check: called now and then; may raise.

    Raises:
        NotSaved: the picture is larger than the format allows. BadRecipe: a blend mode that is not in BLENDS.
        OSError: the stream refuses.
    """
    wide, high = size
    if not (1 <= wide <= LIMIT and 1 <= high <= LIMIT):
        raise NotSaved(
            f"The picture is {wide:,} × {high:,} px; PSD takes at most {LIMIT:,} px per side.", "Export it as TIFF.",
            field="to",
        )  # fmt: skip
    known = [Layer(*layer) for layer in layers]
    for layer in known:
        if layer.blend not in BLENDS:
            raise BadRecipe(f"PSD has no blend mode “{layer.blend}”.", f"There are {', '.join(BLENDS)}.")
    whole = (merged if merged is not None else composed(known, size, check)).convert("RGBA")
    clear = whole.getchannel("A").getextrema() != (255, 255)
    bands = 4 if clear else 3
    # 1. header, no colour table, resources
    stream.write(struct.pack(">4sH6xHIIHH", b"8BPS", 1, bands, high, wide, 8, 3) + bytes(4))
    resources = b"".join(_resource(number, data) for number, data in ((_ICC, profile), (_XMP, xmp)) if data)
    stream.write(struct.pack(">I", len(resources)) + resources)
    # 2. layers: all records, then all pixels
    records, pixels = [], []
    for layer in known:
        record, channels = _layer(layer, check)
        records.append(record)
        pixels.append(channels)
    # a negative count says that the first channel beyond the colours of the whole is its opacity
    body = struct.pack(">h", -len(known) if clear else len(known)) + b"".join(records) + b"".join(pixels)
    body += bytes(-len(body) % 4)
    stream.write(struct.pack(">II", len(body) + 8, len(body)))
    stream.write(body)
    stream.write(bytes(4))  # no global mask
    # 3. the whole: lengths of all rows of all channels, then the rows. Where it is see-through its colours are those
    # over white, as in Photoshop's own files: who reads the opacity takes the white out again.
    seen = whole
    if clear:
        seen = Image.alpha_composite(Image.new("RGBA", size, "white"), whole)
        seen.putalpha(whole.getchannel("A"))
    lengths, rows = _packed(seen.getchannel(band) for band in range(bands))
    check()
    stream.write(struct.pack(">H", _RLE) + lengths)
    stream.write(rows)


def _resource(number: int, data: bytes) -> bytes:
    return struct.pack(">4sHHI", b"8BIM", number, 0, len(data)) + data + bytes(len(data) % 2)


def _layer(layer: Layer, check: Callable[[], None]) -> tuple[bytes, bytes]:
    """A layer's record, and its channels' pixels."""
    image = layer.image.convert("RGBA")
    box = image.getchannel("A").getbbox() or (0, 0, 0, 0)  # what is see-through all round need not be kept
    image = image.crop(box)
    channels = []
    for band in (3, 0, 1, 2):
        check()
        lengths, rows = _packed([image.getchannel(band)])
        channels.append(struct.pack(">H", _RLE) + lengths + rows)
    record = struct.pack(
        ">iiiiH", layer.y + box[1], layer.x + box[0], layer.y + box[3], layer.x + box[2], len(channels)
    )
    for number, data in zip((-1, 0, 1, 2), channels, strict=True):
        record += struct.pack(">hI", number, len(data))
    flags = _PIXELS_COUNT | (0 if layer.visible else _HIDDEN)
    opacity = min(255, max(0, round(layer.opacity * 255)))
    record += struct.pack(">4s4sBBBx", b"8BIM", BLENDS[layer.blend][0], opacity, 0, flags)
    name = clean(layer.name)[0].replace("\n", " ") or "Layer"
    short = name.encode("ascii", "replace")[:NAME_LIMIT]
    extra = struct.pack(">II", 0, 0) + bytes([len(short)]) + short  # neither mask nor ranges
    extra += bytes(-(len(short) + 1) % 4)
    long = name[:4_000].encode("utf-16-be", "replace")
    unicode = struct.pack(">I", len(long) // 2) + long
    unicode += bytes(-len(unicode) % 4)
    extra += struct.pack(">4s4sI", b"8BIM", b"luni", len(unicode)) + unicode
    return record + struct.pack(">I", len(extra)) + extra, b"".join(channels)


def composed(layers: Iterable[Layer], size: tuple[int, int], check: Callable[[], None] = lambda: None) -> Image.Image:
    """What the layers look like together, mode RGBA. Source: Compositing and Blending Level 1, sections 5.1 and 5.8."""
    wide, high = size
    made = np.zeros((high, wide, 4), np.float32)  # colours are not multiplied with their opacity
    for layer in layers:
        check()
        left, top = max(0, layer.x), max(0, layer.y)
        right, bottom = min(wide, layer.x + layer.image.width), min(high, layer.y + layer.image.height)
        if not layer.visible or left >= right or top >= bottom:
            continue
        image = layer.image.convert("RGBA").crop((left - layer.x, top - layer.y, right - layer.x, bottom - layer.y))
        above = np.asarray(image).astype(np.float32) / 255
        below = made[top:bottom, left:right]
        over, under = above[..., 3:] * np.float32(layer.opacity), below[..., 3:]
        mixed = BLENDS[layer.blend][1](below[..., :3], above[..., :3])
        colour = (1 - under) * above[..., :3] + under * mixed
        opacity = over + under * (1 - over)
        both = over * colour + (1 - over) * under * below[..., :3]
        made[top:bottom, left:right, :3] = np.divide(both, opacity, out=np.zeros_like(both), where=opacity > 0)
        made[top:bottom, left:right, 3:] = opacity
    return Image.fromarray(np.rint(np.clip(made, 0, 1) * 255).astype(np.uint8))


# -- PackBits (TIFF 6.0, section 9)

_RUN = re.compile(rb"(.)\1{2,127}", re.DOTALL)  # two equal bytes are no shorter as a run


def _packed(bands: Iterable[Image.Image]) -> tuple[bytes, bytes]:
    """The lengths of all rows, two bytes each, and the rows."""
    lengths, rows = [], []
    for band in bands:
        data, wide = band.tobytes(), band.width
        for at in range(0, len(data), max(1, wide)):
            row = pack_bits(data[at : at + wide])
            lengths.append(len(row))
            rows.append(row)
    return struct.pack(f">{len(lengths)}H", *lengths), b"".join(rows)


def pack_bits(row: bytes) -> bytes:
    """One row: runs as a negative count and a byte, the rest as a count and as many bytes."""
    made, at = bytearray(), 0
    for run in _RUN.finditer(row):
        start, end = run.span()
        for piece in range(at, start, 128):
            stop = min(piece + 128, start)
            made.append(stop - piece - 1)
            made += row[piece:stop]
        made.append(257 - (end - start))
        made.append(row[start])
        at = end
    for piece in range(at, len(row), 128):
        stop = min(piece + 128, len(row))
        made.append(stop - piece - 1)
        made += row[piece:stop]
    return bytes(made)
