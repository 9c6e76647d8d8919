"""OpenRaster files: other programs find in them what was painted, and bad files are refused before they do harm."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image, ImageChops
from PySide6.QtCore import QBuffer, QByteArray, QIODevice

from studio.ui.paint import openraster
from studio.ui.paint.document import Document, as_png
from studio.ui.paint.openraster import NAMES, NotOpenRaster, read_openraster, write_openraster
from studio.ui.paint.snapshot import BLENDS
from tests.ui.paint.hands import grey, pixels, plain, speckled


def painted() -> Document:
    document = Document(60, 40, picture=plain(60, 40, "#d0c0a0"))
    layer = document.add_layer(speckled(20, 16), 'Red & <b>"green"</b> 💥', x=-5, y=7)
    document.set_blend(layer.id, "multiply")
    document.set_opacity(layer.id, 0.5)
    hidden = document.add_layer(plain(10, 10, "blue"), "Hidden", x=50, y=35)
    document.set_visible(hidden.id, False)
    document.set_locked(hidden.id, True)
    document.set_mask(grey([[200 if x < 10 else 0 for x in range(60)]] * 40))
    return document


def written(document: Document) -> bytes:
    stream = io.BytesIO()
    write_openraster(document, stream)
    return stream.getvalue()


def test_the_file_is_what_the_specification_says() -> None:
    content = written(painted())
    assert content[30:38] == b"mimetype" and content[38:54] == b"image/openraster"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        first = archive.infolist()[0]
        assert first.filename == "mimetype" and first.compress_type == zipfile.ZIP_STORED
        image = ElementTree.fromstring(archive.read("stack.xml"))
        assert (image.tag, image.get("version"), image.get("w"), image.get("h")) == ("image", "0.0.6", "60", "40")
        layers = [it.attrib for it in image.findall("./stack/layer")]
        assert [it["name"] for it in layers] == ["Hidden", 'Red & <b>"green"</b> 💥', "Picture"]  # from the top
        assert (layers[1]["x"], layers[1]["y"], layers[1]["opacity"]) == ("-5", "7", "0.5")
        assert layers[1]["composite-op"] == "svg:multiply" and layers[0]["visibility"] == "hidden"
        assert layers[0]["edit-locked"] == "true"
        with Image.open(io.BytesIO(archive.read("Thumbnails/thumbnail.png"))) as thumbnail:
            assert max(thumbnail.size) <= 256


def test_another_program_puts_the_layers_together_to_the_same_picture() -> None:
    """Pillow reads the layers and multiplies as the standard says."""
    document = painted()
    with zipfile.ZipFile(io.BytesIO(written(document))) as archive:
        layers = ElementTree.fromstring(archive.read("stack.xml")).findall("./stack/layer")

        def picture(name: str) -> Image.Image:
            return Image.open(io.BytesIO(archive.read(name))).convert("RGBA")

        below = picture(layers[2].get("src", ""))
        above = Image.new("RGBA", below.size)
        above.paste(picture(layers[1].get("src", "")), (-5, 7))
        both = ImageChops.multiply(below.convert("RGB"), above.convert("RGB"))
        share = above.getchannel("A").point(lambda a: round(a * 0.5))
        made = Image.composite(both, below.convert("RGB"), share)
        merged = picture("mergedimage.png")
    assert merged.getchannel("A").getextrema() == (255, 255)
    apart: Any = ImageChops.difference(made, merged.convert("RGB")).getextrema()
    assert max(high for _, high in apart) <= 2


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    document = painted()
    path = tmp_path / "picture.ora"
    path.write_bytes(written(document))
    again = read_openraster(path, tmp_path / "kept")
    assert pixels(again.flattened()) == pixels(document.flattened())
    assert pixels(again.mask) == pixels(document.mask) and again.bounds_of_mask() == document.bounds_of_mask()
    for one, other in zip(document.layers, again.layers, strict=True):
        assert (one.name, one.x, one.y, one.opacity, one.blend, one.visible, one.locked) == (
            other.name, other.x, other.y, other.opacity, other.blend, other.visible, other.locked,
        )  # fmt: skip
        assert pixels(one.image) == pixels(other.image)
    assert again.history.counts() == (0, 0)
    again.close()
    kept = Document.open(tmp_path / "kept")
    assert pixels(kept.flattened()) == pixels(document.flattened())
    kept.close()
    assert written(again) == written(document)  # to the byte


def test_every_blending_has_a_name_and_comes_back() -> None:
    assert set(NAMES) == set(BLENDS) and len(set(NAMES.values())) == len(NAMES)
    assert all(it.startswith("svg:") for it in NAMES.values())


STACK = '<image version="0.0.6" w="8" h="6"><stack>{}</stack></image>'
LAYER = '<layer src="data/a.png" name="A"/>'


def file(path: Path, stack: str | bytes = STACK.format(LAYER), **parts: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", parts.pop("mimetype", b"image/openraster"))
        archive.writestr("stack.xml", stack)
        archive.writestr("data/a.png", parts.pop("png", as_png(plain(8, 6, "red"))))
    return path


def test_groups_of_other_programs_become_layers(tmp_path: Path) -> None:
    stack = STACK.format(
        '<stack x="1" y="2" opacity="0.5"><layer src="data/a.png" x="2" opacity="0.5"/><text/>'
        '<stack visibility="hidden"><layer src="data/a.png" name="In" composite-op="krita:strange"/></stack></stack>'
        '<layer src="data/a.png" x="nonsense" opacity="nan"/>'
    )
    document = read_openraster(file(tmp_path / "a.ora", stack))
    lowest, inside, top = document.layers
    assert (top.x, top.y, top.opacity, top.visible) == (3, 2, 0.25, True)
    assert (inside.name, inside.visible, inside.blend) == ("In", False, "normal")
    assert (lowest.x, lowest.opacity) == (0, 1.0) and lowest.name
    document.close()


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is very large."""
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 6, 0, 0, 0])
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    made = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        made += len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
    return made


ENTITIES = '<!DOCTYPE image [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>' + STACK.format('<layer src="&b;"/>')
OUTSIDE = '<!DOCTYPE image [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + STACK.format('<layer src="&x;"/>')


@pytest.mark.parametrize(
    ("stack", "word"),
    [
        (ENTITIES, "entities"), (OUTSIDE, "entities"), 
        ("<!DOCTYPE image>" + STACK.format(LAYER), "entities"),
        ("<image", "description"), ("", "description"),
        (STACK.format(""), "no layers"), (STACK.format('<layer src="../../etc/passwd"/>'), "outside"),
        (STACK.format('<layer src="/etc/passwd"/>'), "outside"), (STACK.format('<layer src="C:\\a.png"/>'), "outside"),
        (STACK.format("<layer/>"), "outside"), (STACK.format('<layer src="data/b.png"/>'), "missing"),
        (STACK.format(LAYER * 65), "64 layers"), (STACK.format("<stack>" * 40 + "</stack>" * 40), "deep"),
        ('<image w="0" h="5"><stack>' + LAYER + "</stack></image>", "px"),
        ('<image w="99999" h="5"><stack>' + LAYER + "</stack></image>", "px"),
        (b"\xff\xfe<image", "description"), (STACK.format(LAYER) + " " * openraster.STACK_MOST, "too large"),
    ],
)  # fmt: skip
def test_a_bad_description_is_refused(tmp_path: Path, stack: str | bytes, word: str) -> None:
    with pytest.raises(NotOpenRaster, match=word):
        read_openraster(file(tmp_path / "a.ora", stack))


def other_program() -> bytes:
    """A picture in another format than PNG."""
    content = QByteArray()
    buffer = QBuffer(content)
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    plain(8, 6, "red").save(buffer, "BMP")  # type: ignore[call-overload]
    return bytes(content.data())


@pytest.mark.parametrize(
    "png", [b"", b"nonsense", bomb(16_384, 16_384), bomb(2**31 - 1, 2**31 - 1), bomb(9, 0), other_program]
)
def test_a_bad_layer_is_refused(
    tmp_path: Path, png: bytes | Callable[[], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openraster, "PIXELS_MOST", 10_000)
    with pytest.raises(NotOpenRaster, match=r"damaged|large"):
        read_openraster(file(tmp_path / "a.ora", png=png() if callable(png) else png))


def test_a_part_that_unpacks_to_far_more_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openraster, "FILE_MOST", 100_000)
    path = tmp_path / "a.ora"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "image/openraster")
        archive.writestr("stack.xml", STACK.format(LAYER))
        archive.writestr("data/a.png", bytes(50_000_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(NotOpenRaster, match="too large"):
        read_openraster(path)


def test_layers_that_are_too_large_together_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openraster, "PIXELS_MOST", 8 * 6 * 3)
    read_openraster(file(tmp_path / "a.ora", STACK.format(LAYER * 3))).close()
    with pytest.raises(NotOpenRaster, match="memory"):
        read_openraster(file(tmp_path / "b.ora", STACK.format(LAYER * 4)))


def test_what_is_no_openraster_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ora"
    path.write_bytes(b"not a zip")
    with pytest.raises(NotOpenRaster, match="damaged"):
        read_openraster(path)
    with pytest.raises(NotOpenRaster, match="not an OpenRaster"):
        read_openraster(file(path, mimetype=b"application/zip"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("mimetype", "image/openraster")
    with pytest.raises(NotOpenRaster, match="packed"):
        read_openraster(path)
    content = bytearray(file(path).read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)
    with pytest.raises(NotOpenRaster):
        read_openraster(path)
    with pytest.raises(FileNotFoundError):
        read_openraster(tmp_path / "nowhere.ora")


def test_names_that_xml_cannot_carry_are_written_without(tmp_path: Path) -> None:
    document = Document(5, 5)
    document.rename_layer(document.layers[0].id, "a\x00b\x1bc\ud800d")
    path = tmp_path / "a.ora"
    path.write_bytes(written(document))
    again = read_openraster(path)
    assert again.layers[0].name == "abcd"
    again.close()
