"""Texts in the lowest bits of pixels: read from files of another encoder, bounded, and only where nothing else is."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import zlib

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from studio.library.metadata import read
from studio.library.metadata.hidden import HIDDEN_LIMIT
from tests.effort import effort
from tests.library.metadata.helpers_metadata import chunk, found, nothing
from tests.library.metadata.test_others import NOVEL

OUTER = {
    "Software": "NovelAI",
    "Source": "NovelAI Diffusion V4.5 4BDE2A90",
    "Description": "x",
    "Comment": json.dumps(NOVEL),
}
A1111 = "a fox\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x64"


def with_bits(
    mark: str, payload: bytes, size: tuple[int, int], mode: str = "RGBA", bits: int | None = None
) -> Image.Image:
    """A noisy picture with a payload in it, written pixel by pixel."""
    noise = random.Random(1)
    picture = Image.new(mode, size)
    samples = len(mode)
    picture.frombytes(bytes(noise.randrange(200, 256) for _ in range(size[0] * size[1] * samples)))
    stream = mark.encode() + struct.pack(">I", len(payload) * 8 if bits is None else bits) + payload
    ones = "".join(f"{byte:08b}" for byte in stream)
    used = (3,) if "png" in mark else (0, 1, 2)
    pixels = picture.load()
    places = ((x, y, c) for x in range(size[0]) for y in range(size[1]) for c in used)
    for (x, y, c), one in zip(places, ones):  # noqa: B905 - the picture is larger than the text, or it is cut on purpose
        pixel = list(pixels[x, y])
        pixel[c] = pixel[c] & ~1 | int(one)
        pixels[x, y] = tuple(pixel)
    return picture


def saved(picture: Image.Image, **how: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", **how)
    return out.getvalue()


def filtered(picture: Image.Image, chunks: int = 3) -> bytes:
    """A PNG whose rows have all five filters in turn, in several IDAT chunks."""
    size, (width, high) = len(picture.mode), picture.size
    data, length = picture.tobytes(), picture.width * size
    before, out = bytes(length), bytearray()
    for y in range(high):
        row, kind = data[y * length : (y + 1) * length], y % 5
        out.append(kind)
        for at in range(length):
            a = row[at - size] if at >= size else 0
            b, c = before[at], before[at - size] if at >= size else 0
            near = min((a, b, c), key=lambda v: abs(a + b - c - v))  # the first of equals, as the order asks
            out.append((row[at] - (0, a, b, (a + b) // 2, near)[kind]) & 255)
        before = row
    packed = zlib.compress(bytes(out))
    step = -(-len(packed) // chunks)
    header = struct.pack(">II5B", width, high, 8, {3: 2, 4: 6}[size], 0, 0, 0)
    pieces = b"".join(chunk(b"IDAT", packed[at : at + step]) for at in range(0, len(packed), step))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pieces + chunk(b"IEND", b"")


@pytest.mark.parametrize("write", [saved, filtered])
@pytest.mark.parametrize(
    ("mark", "mode"),
    [("stealth_pnginfo", "RGBA"), ("stealth_pngcomp", "RGBA"), ("stealth_rgbinfo", "RGB"), ("stealth_rgbcomp", "RGBA")],
)
def test_what_novelai_hides_fills_the_form(mark: str, mode: str, write: object) -> None:
    text = json.dumps(OUTER).encode()
    payload = gzip.compress(text) if mark.endswith("comp") else text
    result = found(write(with_bits(mark, payload, (131, 149), mode)))
    assert (result.tool, result.model) == ("novelai", OUTER["Source"])
    assert result.values["prompt"] == NOVEL["prompt"]
    assert result.values["seed"] == NOVEL["seed"]


def test_a_low_picture_has_the_letters_in_several_columns() -> None:
    result = found(saved(with_bits("stealth_pngcomp", gzip.compress(A1111.encode()), (400, 7))))
    assert (result.tool, result.values["steps"], result.values["negative"]) == ("a1111", 20, "blurry")


def test_the_usual_texts_come_first() -> None:
    info = PngInfo()
    info.add_text("parameters", A1111)
    picture = with_bits("stealth_pnginfo", json.dumps(OUTER).encode(), (131, 149))
    assert found(saved(picture, pnginfo=info)).tool == "a1111"


def test_what_is_not_hidden_in_this_way_is_nothing() -> None:
    assert nothing(saved(with_bits("stealth_pngwhat", A1111.encode(), (64, 64))))
    assert nothing(saved(with_bits("another_pnginfo", A1111.encode(), (64, 64))))
    picture = with_bits("stealth_rgbinfo", A1111.encode(), (64, 64), "RGB")
    out = io.BytesIO()
    picture.save(out, "WEBP", lossless=True)
    assert nothing(out.getvalue())
    for mode in ("L", "P", "1", "I;16"):
        assert nothing(saved(Image.new(mode, (40, 40)))), mode


def said_of(data: bytes) -> str:
    result = read(io.BytesIO(data))
    assert result is not None and result.tool == ""
    return " ".join(why for name, why in result.unmapped if name == "hidden in the pixels")


def test_lengths_and_packed_sizes_are_not_believed() -> None:
    size = (64, 64)
    assert "bytes" in said_of(saved(with_bits("stealth_pnginfo", b"x", size, bits=2**32 - 1)))
    assert "bytes" in said_of(saved(with_bits("stealth_pnginfo", b"x", size, bits=8 * HIDDEN_LIMIT + 8)))
    assert "longer than the picture" in said_of(saved(with_bits("stealth_pnginfo", b"x", size, bits=64 * 64 * 8)))
    assert "more than" in said_of(saved(with_bits("stealth_pngcomp", gzip.compress(bytes(9_000_000)), (300, 300))))
    assert "unpacked" in said_of(saved(with_bits("stealth_pngcomp", b"no gzip at all", size)))
    broken = bytearray(filtered(with_bits("stealth_pnginfo", A1111.encode(), size), chunks=1))
    broken[2_000:2_400] = bytes(400)
    assert "pixels cannot be unpacked" in said_of(bytes(broken)) or nothing(bytes(broken))


def test_a_file_cut_anywhere_is_read_or_left() -> None:
    whole = filtered(with_bits("stealth_pngcomp", gzip.compress(A1111.encode()), (40, 60)))
    for end in range(0, len(whole), 97):
        read(io.BytesIO(whole[:end]))
    claims = bytearray(whole)
    claims[16:24] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    assert nothing(bytes(claims))


def test_an_ordinary_large_picture_costs_a_few_rows_and_a_hidden_text_little() -> None:
    """Bounds of ten times what it takes."""
    for mode in ("RGB", "RGBA"):
        data = saved(Image.effect_noise((1600, 1600), 60).convert(mode), compress_level=1)
        assert nothing(data)
        assert effort(lambda data=data: read(io.BytesIO(data))) < 0.05
    small = with_bits("stealth_pngcomp", gzip.compress(json.dumps(OUTER).encode()), (20, 1216))
    wide = Image.new("RGBA", (832, 1216), "teal")
    wide.paste(small, (0, 0))
    data = saved(wide)
    assert found(data).tool == "novelai"
    assert effort(lambda: found(data)) < 1.0
