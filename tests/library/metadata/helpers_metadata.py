"""Picture files with texts in them, made here: by pillow where it can, byte by byte where it would refuse."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from studio.core.recipes import check
from studio.library.metadata import Found, read

SIZE = (64, 48)


def png(**texts: str) -> bytes:
    """A PNG by pillow with these texts; underscores in names become spaces or dashes where programs have them."""
    info = PngInfo()
    for name, text in texts.items():
        info.add_text({"sd_metadata": "sd-metadata"}.get(name, name), text)
    out = io.BytesIO()
    Image.new("RGB", SIZE, "teal").save(out, "PNG", pnginfo=info)
    return out.getvalue()


def picture(format: str, **how: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", SIZE, "teal").save(out, format, **how)  # type: ignore[arg-type]
    return out.getvalue()


def chunk(kind: bytes, data: bytes, *, length: int | None = None, crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data) if length is None else length) + kind + data + struct.pack(">I", crc)


def raw_png(*chunks: bytes) -> bytes:
    """A PNG of these chunks behind its header; it has no pixels."""
    header = chunk(b"IHDR", struct.pack(">II5B", *SIZE, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def found(data: bytes) -> Found:
    """What is read; there must be something, and its values must pass as a recipe."""
    result = read(io.BytesIO(data))
    assert result is not None
    check("image", {"prompt": "x", **result.values})
    return result


def nothing(data: bytes) -> bool:
    return read(io.BytesIO(data)) is None
