"""Layered pictures, opened with pillow, with psd-tools where it is installed, and by a reader of the paper."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from studio.core.problems import BadRecipe, NotSaved
from studio.library.exports.psd import BLENDS, Layer, composed, pack_bits, write_psd
from tests.library.exports.helpers_export import Job, make_png

SIZE = (40, 30)


def unpack_bits(data: bytes) -> bytes:
    made, at = bytearray(), 0
    while at < len(data):
        count = data[at]
        if count < 128:
            made += data[at + 1 : at + 2 + count]
            at += 2 + count
        else:
            made += data[at + 1 : at + 2] * (257 - count)
            at += 2
    return bytes(made)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 300)), max_size=12))
def test_a_packed_row_unpacks_to_itself(runs: list[tuple[int, int]]) -> None:
    row = b"".join(bytes([value]) * count for value, count in runs)
    packed = pack_bits(row)
    assert unpack_bits(packed) == row
    assert 128 not in [packed[0]] if packed else True
    assert len(packed) <= len(row) + len(row) // 128 + 1


def test_noise_and_runs_are_packed_as_they_should() -> None:
    assert pack_bits(b"aaaa") == b"\xfda"
    assert pack_bits(b"abc") == b"\x02abc"
    assert pack_bits(b"aab") == b"\x02aab"
    assert pack_bits(b"x" * 200) == b"\x81x\xb9x"
    noise = np.random.default_rng(1).integers(0, 256, 1000, np.uint8).tobytes()
    assert unpack_bits(pack_bits(noise)) == noise


def layers() -> list[Layer]:
    y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    ground = Image.fromarray(np.stack([x * 6, y * 8, (x + y) * 3], axis=-1).astype(np.uint8))
    spot = Image.new("RGBA", (20, 12), (0, 0, 0, 0))
    spot.paste((200, 40, 90, 180), (2, 3, 18, 10))
    return [
        Layer("Ground", ground),
        Layer("Spot ♥", spot, 5, 7, 0.5, "multiply"),
        Layer("Beyond", Image.new("RGB", (20, 20), (10, 200, 30)), 30, -10, 1.0, "screen"),
        Layer("Hidden", Image.new("RGB", SIZE, "white"), visible=False),
        Layer("Empty", Image.new("RGBA", (9, 9), (1, 2, 3, 0))),
    ]


def written(of: Any, size: tuple[int, int] = SIZE, **more: Any) -> bytes:
    stream = io.BytesIO()
    write_psd(of, size, stream, **more)
    return stream.getvalue()


def test_pillow_sees_the_whole_and_the_layers() -> None:
    with Image.open(io.BytesIO(written(layers()))) as opened:
        assert (opened.format, opened.size, opened.mode) == ("PSD", SIZE, "RGB")
        assert np.array_equal(np.asarray(opened), np.asarray(composed(layers(), SIZE).convert("RGB")))
        assert [layer[0] for layer in opened.layers][:2] == ["Ground", "Spot ?"]
        boxes = [layer[2] for layer in opened.layers]
    assert boxes[:4] == [(0, 0, 40, 30), (7, 10, 23, 17), (30, -10, 50, 10), (0, 0, 40, 30)]
    assert boxes[4][0] == boxes[4][2], "nothing is kept of what nobody sees"


def test_a_whole_that_is_see_through_keeps_its_opacity() -> None:
    picture = Image.new("RGBA", SIZE, (9, 9, 9, 0))
    picture.paste((250, 100, 0, 128), (10, 10, 30, 20))
    with Image.open(io.BytesIO(written([Layer("One", picture)]))) as opened:
        assert opened.mode == "RGBA"
        assert np.array_equal(np.asarray(opened)[..., 3], np.asarray(picture)[..., 3])
        # pillow takes the colours as they are: laid over white, as the format wants it
        assert opened.getpixel((15, 15)) == (252, 177, 127, 128)
        assert opened.getpixel((0, 0)) == (255, 255, 255, 0)


def test_psd_tools_takes_the_white_out_again() -> None:
    psd_tools = pytest.importorskip("psd_tools")
    picture = Image.new("RGBA", SIZE, (9, 9, 9, 0))
    picture.paste((250, 100, 0, 128), (10, 10, 30, 20))
    seen = psd_tools.PSDImage.open(io.BytesIO(written([Layer("One", picture)]))).topil().getpixel((15, 15))
    assert max(abs(a - b) for a, b in zip(seen, (250, 100, 0, 128), strict=True)) <= 2


def test_plain_tuples_will_do_and_a_given_whole_is_taken() -> None:
    white = Image.new("RGB", SIZE, "white")
    data = written([("a", Image.new("RGB", SIZE, "red"), 0, 0, 1.0, "normal", True)], merged=white)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.getpixel((3, 3)) == (255, 255, 255)


def test_every_length_in_the_file_adds_up() -> None:
    """Section by section, as the specification lays them out."""
    data = written(layers(), xmp=b"<x:xmpmeta/>", profile=b"odd")
    assert data[:6] == b"8BPS\0\x01"
    channels, high, wide, depth, mode = struct.unpack(">HIIHH", data[12:26])
    assert (channels, high, wide, depth, mode) == (3, 30, 40, 8, 3)
    at = 26
    assert struct.unpack(">I", data[at : at + 4]) == (0,)
    (resources,) = struct.unpack(">I", data[at + 4 : at + 8])
    assert b"<x:xmpmeta/>" in data[at + 8 : at + 8 + resources]
    at += 8 + resources
    section, info = struct.unpack(">II", data[at : at + 8])
    assert section == info + 8
    (count,) = struct.unpack(">h", data[at + 8 : at + 10])
    assert count == 5
    at += 8 + info
    assert data[at : at + 4] == bytes(4)
    at += 4
    assert struct.unpack(">H", data[at : at + 2]) == (1,)
    lengths = struct.unpack(">90H", data[at + 2 : at + 182])
    assert at + 182 + sum(lengths) == len(data)


def test_a_whole_with_opacity_says_so_by_a_negative_count() -> None:
    data = written([Layer("a", Image.new("RGBA", SIZE, (1, 2, 3, 100))), Layer("b", Image.new("RGBA", SIZE))])
    assert struct.unpack(">H", data[12:14]) == (4,)
    assert struct.unpack(">h", data[42:44]) == (-2,)


@pytest.mark.parametrize("blend", BLENDS)
def test_where_nothing_is_below_a_layer_shows_its_own_colour(blend: str) -> None:
    colour = (200, 90, 30, 255)
    below = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    below.putpixel((1, 0), (100, 100, 100, 128))
    made = composed([Layer("b", below), Layer("a", Image.new("RGBA", (2, 1), colour), blend=blend)], (2, 1))
    assert made.getpixel((0, 0)) == colour
    opaque = composed(
        [Layer("b", below.convert("RGB")), Layer("a", Image.new("RGBA", (2, 1), colour), blend=blend)], (2, 1)
    )
    full = np.array(opaque.getpixel((1, 0)))[:3]  # over half of what is below, half of the mixture is seen
    assert np.abs(np.array(made.getpixel((1, 0)))[:3] - (full + colour[:3]) / 2).max() <= 1


@pytest.mark.parametrize("blend", BLENDS)
def test_a_blend_mode_mixes_as_its_name_says_and_stays_in_range(blend: str) -> None:
    steps = np.linspace(0, 255, 16).astype(np.uint8)
    below = Image.fromarray(np.repeat(steps[None, :, None], 16, axis=0).repeat(3, axis=2))
    above = Image.fromarray(np.repeat(steps[:, None, None], 16, axis=1).repeat(3, axis=2))
    made = np.asarray(composed([Layer("b", below), Layer("a", above, blend=blend)], (16, 16)))[..., 0].astype(int)
    b, a = np.asarray(below)[..., 0].astype(int), np.asarray(above)[..., 0].astype(int)
    wanted = {
        "normal": a, "multiply": a * b / 255, "screen": 255 - (255 - a) * (255 - b) / 255, "darken": np.minimum(a, b),
        "lighten": np.maximum(a, b), "difference": np.abs(a - b), "add": np.minimum(255, a + b),
        "exclusion": a + b - 2 * a * b / 255,
    }.get(blend)  # fmt: skip
    if wanted is not None:
        assert np.abs(made - wanted).max() <= 1
    white, black = made[:, -1], made[:, 0]
    if blend in ("dodge", "burn", "overlay"):
        assert (white[1] == 255 and black[1:-1].max() == 0) or blend == "burn"
    half = np.asarray(composed([Layer("b", below), Layer("a", above, opacity=0.5, blend=blend)], (16, 16)))[..., 0]
    assert np.abs(half - (made + b) / 2).max() <= 1


def test_what_it_cannot_hold_is_a_sentence() -> None:
    with pytest.raises(NotSaved, match="30,001 × 1 px; PSD takes at most 30,000"):
        written([], (30_001, 1))
    with pytest.raises(BadRecipe, match="no blend mode “glow”"):
        written([Layer("x", Image.new("RGB", SIZE), blend="glow")])


def test_a_work_becomes_a_psd_with_one_layer(job: Job, tmp_path: Path, out: Path) -> None:
    master = make_png(tmp_path / "m.png", "RGBA")
    result = job.export(master, "image", out / "x.psd", title="Katze ♥")
    assert result.artifacts[0].meta == {"width": 64, "height": 48}
    with Image.open(out / "x.psd") as opened, Image.open(master) as wanted:
        seen, given = np.asarray(opened), np.asarray(wanted)
    assert np.array_equal(seen[..., 3], given[..., 3])
    assert np.array_equal(seen[:, 32:], given[:, 32:])


def test_psd_tools_sees_names_places_modes_and_pixels(tmp_path: Path) -> None:
    psd_tools = pytest.importorskip("psd_tools")
    (tmp_path / "x.psd").write_bytes(written(layers(), xmp=b"<x:xmpmeta/>"))
    opened = psd_tools.PSDImage.open(tmp_path / "x.psd")
    seen = list(opened)
    assert [layer.name for layer in seen] == ["Ground", "Spot ♥", "Beyond", "Hidden", "Empty"]
    assert [layer.visible for layer in seen] == [True, True, True, False, True]
    assert [layer.blend_mode.name for layer in seen][:3] == ["NORMAL", "MULTIPLY", "SCREEN"]
    assert [layer.opacity for layer in seen][:2] == [255, 128]
    assert seen[2].offset == (30, -10)
    spot = np.asarray(seen[1].topil())
    assert np.array_equal(spot, np.asarray(layers()[1].image.crop((2, 3, 18, 10))))
    assert np.array_equal(np.asarray(seen[0].topil().convert("RGB")), np.asarray(layers()[0].image))


@pytest.mark.parametrize("blend", BLENDS)
def test_psd_tools_knows_every_blend_mode(blend: str) -> None:
    psd_tools = pytest.importorskip("psd_tools")
    opened = psd_tools.PSDImage.open(io.BytesIO(written([Layer("x", Image.new("RGB", SIZE, "red"), blend=blend)])))
    names = {"add": "LINEAR_DODGE", "dodge": "COLOR_DODGE", "burn": "COLOR_BURN"}
    assert next(iter(opened)).blend_mode.name == names.get(blend, blend.upper())


@pytest.mark.skipif(shutil.which("file") is None, reason="file(1) is not installed")
def test_file_knows_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "x.psd").write_bytes(written(layers()))
    assert "Photoshop Image, 40 x 30" in subprocess.check_output(["file", "-b", tmp_path / "x.psd"], text=True)
