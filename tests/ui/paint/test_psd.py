"""Photoshop files: what other programs find in them is what was painted."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops
from PySide6.QtGui import QImage

from studio.core.problems import NotSaved
from studio.library.exports.psd import BLENDS as EXPORTED
from studio.ui.paint import psd
from studio.ui.paint.document import Document, as_png
from studio.ui.paint.psd import KEYS, pack_bits, write_psd
from studio.ui.paint.snapshot import BLENDS
from tests.ui.paint.hands import COLOUR, plain, speckled


def painted() -> Document:
    document = Document(60, 40, picture=plain(60, 40, "#d0c0a0"))
    layer = document.add_layer(speckled(20, 16), "Red & grün 💥", x=-5, y=7)
    document.set_blend(layer.id, "multiply")
    document.set_opacity(layer.id, 0.4)
    hidden = document.add_layer(plain(10, 10, "blue"), "Hidden", x=50, y=35)
    document.set_visible(hidden.id, False)
    document.set_locked(hidden.id, True)
    document.add_layer(name="Empty")
    return document


def written(document: Document) -> bytes:
    stream = io.BytesIO()
    write_psd(document.snapshot(), stream)
    return stream.getvalue()


def as_pillow(image: QImage) -> Image.Image:
    return Image.open(io.BytesIO(as_png(image))).convert("RGBA")


def furthest(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of any px and channel, where a px can be seen."""
    pairs = []
    for image in (one, other):
        ground = Image.new("RGBA", image.size, "black")
        ground.alpha_composite(image.convert("RGBA"))
        pairs.append(ground)
    worst = [band.getextrema()[1] for band in ImageChops.difference(*pairs).split()]
    return max(int(it) for it in worst if isinstance(it, int | float))


def unpacked(row: bytes) -> bytes:
    """A plain reader of packed rows."""
    made, at = b"", 0
    while at < len(row):
        count = row[at]
        if count < 128:
            made += row[at + 1 : at + 2 + count]
            at += 2 + count
        else:
            made += row[at + 1 : at + 2] * (257 - count)
            at += 2
    return made


@pytest.mark.parametrize("row", [b"", b"a", b"aa", b"aaa", b"ab" * 300, b"a" * 700, b"xyz" + b"q" * 129 + b"zz"])
def test_a_packed_row_unpacks_to_itself(row: bytes) -> None:
    assert unpacked(pack_bits(row)) == row


def test_pillow_sees_the_whole_and_the_layers() -> None:
    document = painted()
    with Image.open(io.BytesIO(written(document))) as opened:
        assert opened.format == "PSD" and opened.mode == "RGB"
        assert furthest(opened.convert("RGBA"), as_pillow(document.flattened())) == 0
        layers: list[Any] = list(opened.layers)
        assert [it[0] for it in layers] == ["Picture", "Red & gr?n ?", "Hidden", "Empty"]
        assert [it[2] for it in layers][:3] == [(0, 0, 60, 40), (-5, 7, 15, 23), (50, 35, 60, 45)]
        assert layers[3][2] == (0, 0, 0, 0), "nothing is kept of what nobody sees"


def test_names_are_kept_in_every_script() -> None:
    assert "Red & grün 💥".encode("utf-16-be") in written(painted())


def test_a_whole_that_is_see_through_lies_over_white_and_keeps_its_opacity() -> None:
    document = Document(30, 20)
    document.add_layer(speckled(20, 16), x=3, y=2)
    flat = as_pillow(document.flattened())
    data = written(document)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.mode == "RGBA"
        assert opened.getchannel("A").tobytes() == flat.getchannel("A").tobytes()
        white = Image.new("RGBA", flat.size, "white")
        white.alpha_composite(flat)
        assert furthest(opened.convert("RGB").convert("RGBA"), white) <= 1
    at = 26 + 4 + 4 + 8  # header, colours, resources, two lengths
    assert struct.unpack_from(">h", data, at) == (-2,)


def test_every_length_in_the_file_adds_up_though_it_is_packed_in_two_ways() -> None:
    document = Document(300, 200, picture=plain(300, 200, "#102030"))
    document.add_layer(speckled(300, 200))
    data = written(document)
    length, inner, count = struct.unpack_from(">IIh", data, 34)
    assert count == 2 and inner % 4 == 0 and length == inner + 8
    whole = 34 + 4 + length
    assert len(data) == whole + 2 + 3 * 300 * 200
    assert 300 * 200 * 3 < inner < 300 * 200 * 4 + 40_000, "noise stands as it is, a plain colour takes next to nothing"


def test_a_strip_ends_where_the_picture_does(monkeypatch: pytest.MonkeyPatch) -> None:
    document = painted()
    whole = written(document)
    monkeypatch.setattr(psd, "_STRIP", 7)
    assert written(document) == whole


def test_a_file_that_the_format_cannot_hold_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psd, "BYTES_MOST", 1000)
    stream = io.BytesIO()
    with pytest.raises(NotSaved, match="2 GB"):
        write_psd(painted().snapshot(), stream)
    assert not stream.getvalue()


def test_every_way_of_blending_has_a_key_and_it_is_that_of_the_export() -> None:
    assert KEYS.keys() == BLENDS.keys()
    names = {"color-dodge": "dodge", "color-burn": "burn", "plus": "add"}
    assert {names.get(it, it.replace("-", "_")): key for it, key in KEYS.items()} == {
        name: key for name, (key, _) in EXPORTED.items()
    }


def test_it_is_of_the_moment_of_the_snapshot() -> None:
    document = painted()
    kept = document.snapshot()
    before = as_png(kept.flattened())
    document.fill_layer(document.layers[0].id, document.colour_at(20, 10).darker())
    document.set_opacity(document.layers[1].id, 1.0)
    assert as_png(kept.flattened()) == before != as_png(document.flattened())


@pytest.mark.skipif(shutil.which("convert") is None, reason="ImageMagick is not installed")
def test_imagemagick_sees_the_same_picture_and_layers(tmp_path: Path) -> None:
    document = Document(30, 20)
    document.add_layer(speckled(20, 16), "a", x=3, y=2)
    (tmp_path / "x.psd").write_bytes(written(document))
    subprocess.run(["convert", f"{tmp_path}/x.psd[0]", f"{tmp_path}/whole.png"], check=True)
    subprocess.run(["convert", f"{tmp_path}/x.psd[1]", f"{tmp_path}/layer.png"], check=True)
    with Image.open(tmp_path / "whole.png") as whole, Image.open(tmp_path / "layer.png") as layer:
        assert furthest(whole, as_pillow(document.flattened())) <= 1
        assert furthest(layer, as_pillow(document.layers[1].image)) <= 1


def test_psd_tools_sees_names_places_modes_and_pixels() -> None:
    psd_tools = pytest.importorskip("psd_tools")
    document = painted()
    opened = psd_tools.PSDImage.open(io.BytesIO(written(document)))
    seen = list(opened)
    assert [it.name for it in seen] == ["Picture", "Red & grün 💥", "Hidden", "Empty"]
    assert [it.visible for it in seen] == [True, True, False, True]
    assert [it.opacity for it in seen] == [255, 102, 255, 255]
    assert seen[1].blend_mode.name == "MULTIPLY" and seen[1].offset == (-5, 7)
    assert furthest(seen[1].topil(), as_pillow(document.layers[1].image)) <= 1
    assert furthest(opened.composite(force=True), as_pillow(document.flattened())) <= 2


def test_an_image_without_opacity_is_whole() -> None:
    image = plain(8, 8, "red")
    assert image.format() == COLOUR
    assert psd._filled(image) == image.rect()
    assert psd._filled(Document(8, 8).layers[0].image).isEmpty()
