"""Section C of docs/faults.md: pictures and sounds from elsewhere, and what engines give that is none."""

from __future__ import annotations

import io
import struct
import tracemalloc
import wave
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from studio.core.paths import Paths
from studio.core.recipes import CARRIED_LIMIT, check
from tests.effort import effort
from tests.faults.tools import Trio, problem_of, studio
from tests.ui.hands import drop
from tests.ui.test_in_and_out import files, told

RECIPE = check("image", {"prompt": "a naïve 🦊", "seed": 3, "model": "gone", "steps": 7}).recipe
WRITTEN = msgspec.json.encode(RECIPE)
XMP = b"XML:com.adobe.xmp\0\0\0\0\0"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
XXE = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd"><!ENTITY b "%s">]>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><script>alert(1)</script>&a;&b;</x:xmpmeta>""" % (b"&b;" * 1000)


def chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + data) if crc is None else crc
    return len(data).to_bytes(4, "big") + kind + data + crc.to_bytes(4, "big")


def ours(text: bytes, flag: bytes = b"\0", crc: int | None = None) -> bytes:
    """A text chunk as the studio's own pictures carry it."""
    return chunk(b"iTXt", b"studio\0" + flag + b"\0\0\0" + text, crc)


def png(*chunks: bytes, size: tuple[int, int] = (1, 1), pixels: bytes | None = None) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0\0") if pixels is None else pixels)
    return SIGNATURE + head + b"".join(chunks) + data + chunk(b"IEND", b"")


# name, content, and whether the recipe in it is to be found
FOREIGN: list[tuple[str, bytes, bool]] = [
    ("a bomb of ten thousand million pixels", png(size=(100_000, 100_000)), False),
    ("the same with a recipe", png(ours(WRITTEN), size=(100_000, 100_000)), True),
    ("no pixels at all", png(ours(WRITTEN), size=(0, 0)), True),
    ("five megabytes of text", png(chunk(b"tEXt", b"Comment\0" + b"x" * 5_000_000), ours(WRITTEN)), True),
    ("five megabytes in our own chunk", png(ours(b'{"kind":"image","prompt":"' + b"x" * 5_000_000 + b'"}')), False),
    ("a text that unpacks to a gigabyte", png(ours(zlib.compress(bytes(50_000_000)), b"\1")), False),
    ("the same in zTXt", png(chunk(b"zTXt", b"studio\0\0" + zlib.compress(bytes(50_000_000)))), False),
    ("a length of two gigabytes", SIGNATURE + b"\x7f\xff\xff\xffiTXtstudio\0\0\0\0\0" + WRITTEN, False),
    ("a length of four gigabytes", SIGNATURE + b"\xff\xff\xff\xffiTXtstudio\0\0\0\0\0" + WRITTEN, False),
    ("pixels that are cut off", png(ours(WRITTEN))[:-30], True),
    ("pixels that are garbage", png(ours(WRITTEN), pixels=b"\xff" * 100), True),
    ("a chunk with a wrong checksum", png(ours(WRITTEN, crc=7)), False),
    ("a hundred thousand chunks", png(chunk(b"tEXt", b"") * 100_000, ours(WRITTEN)), False),
    ("our chunk twenty thousand deep", png(ours(b'{"recipe":' * 20_000)), False),
    ("XML with entities that grow and that read files", png(chunk(b"iTXt", XMP + XXE)), False),
    ("fifty megabytes of XML", png(chunk(b"iTXt", XMP + b"<" * 50_000_000), ours(WRITTEN)), True),
    ("another program's text", png(chunk(b"tEXt", b"parameters\0a fox\nNegative prompt: x\nSteps: 20")), False),
    ("another program's JSON", png(chunk(b"tEXt", b'workflow\0{"nodes": [{"id": 1}]}')), False),
    ("a GIF", b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\4\0\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;", False),
    ("an SVG with a script", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", False),
    ("XML alone", XXE, False),
    ("a web page", b"<!DOCTYPE html><html>" + b"x" * 100_000, False),
    ("nothing", b"", False),
    ("a recipe under the name of a picture", WRITTEN, True),
    ("zeros", bytes(1_000_000), False),
]  # fmt: skip


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    with Trio(Paths(tmp_path_factory.mktemp("studio") / "home")) as made:
        yield made


@pytest.mark.parametrize(("content", "has"), [pytest.param(c, h, id=n) for n, c, h in FOREIGN])
def test_a_foreign_picture_has_a_recipe_or_none_and_costs_neither_time_nor_memory(
    session: Trio, tmp_path: Path, content: bytes, has: bool
) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(content)
    tracemalloc.start()
    found: list[Any] = []
    try:
        took = effort(lambda: found.append(session.recipe_in(file)))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == [RECIPE if has else None]
    assert took < 3
    assert most < 4 * CARRIED_LIMIT + 2_000_000, f"{most / 1e6:.1f} MB"


def test_foreign_pictures_dropped_on_the_window_are_shown_or_refused_in_a_sentence(rig: Any, tmp_path: Path) -> None:
    tab = rig.tab("image")
    tab.form.put_some({"prompt": "mine"})
    for name, content in (
        ("bomb.png", png(size=(100_000, 100_000))), ("empty.png", b""), ("cut.png", png(size=(64, 64))),
        ("page.png", b"<!DOCTYPE html><html></html>"), ("length.png", SIGNATURE + b"\x7f\xff\xff\xffIDAT"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        drop(tab.centre, files(tmp_path / name))
        told(rig, tab, f"“{name}” is not a picture that can be read.")
    noise = Image.effect_noise((40, 30), 90)
    pictures = {
        "palette.png": noise.convert("P"), "sixteen.png": noise.convert("I;16"), "cmyk.jpg": noise.convert("CMYK"),
        "alpha.webp": noise.convert("RGBA"), "one.gif": noise,
    }  # fmt: skip
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
    turned = Image.Exif()
    turned[0x0112] = 6
    noise.convert("RGB").save(tmp_path / "turned.jpg", exif=turned)
    for name in (*pictures, "turned.jpg"):
        drop(tab.centre, files(tmp_path / name))
        told(rig, tab, "This picture says nothing of how it was made; it is only shown.")
    assert rig.problems == [] and str(tab.form.words.value()) == "mine"


def test_one_unreadable_picture_in_the_library_leaves_the_others(open_window: Any) -> None:
    first = open_window()
    works = [first.made("image", f"number {n}") for n in range(4)]
    paths = [first.session.files(w) for w in works]
    first.close()
    for path, content in zip(paths[0], (b"", png(size=(100_000, 100_000)), b"{"), strict=True):
        path.write_bytes(content)
    for path in paths[1]:
        path.unlink()
    for path in paths[2]:
        path.write_bytes(b"GIF89a" + bytes(100))
    rig = open_window()
    tab = rig.tab("image")
    rig.until(lambda: len(tab.history.model.works) == 4)
    rig.until(lambda: tab.history.model.thumbnail(tab.history.model.works[0]) is not None)
    for work in tab.history.model.works:
        tab.show_work(work)
        broken = work.id != works[3].id
        rig.until(lambda broken=broken: tab.notice.isVisible() == broken)
        assert not broken or tab.notice.sentence.text().endswith(".")
    assert rig.problems == []
    rig.made("image", "one more")


# -- sounds ------------------------------------------------------------------------------------------------------------


def sound(frames: int, told_frames: int | None = None, room: int = 0) -> bytes:
    """A WAV of so many frames whose header tells of another number."""
    out = io.BytesIO()
    with wave.open(out, "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(8000)
        stream.writeframes(struct.pack("<h", 1000) * frames)
    data = bytearray(out.getvalue())
    if told_frames is not None:
        struct.pack_into("<I", data, 40, (told_frames * 2) & 0xFFFFFFFF)
        struct.pack_into("<I", data, 4, (36 + told_frames * 2) & 0xFFFFFFFF)
    return bytes(data) + bytes(room)


@pytest.mark.parametrize(
    ("content", "frames"),
    [
        pytest.param(sound(8, 22_050), 8, id="promises 22,050 frames and has 8"),
        pytest.param(sound(8, 2**31 - 40), 8, id="promises four gigabytes"),
        pytest.param(sound(4000)[:-1001], 3499, id="cut in the middle of a sample"),
    ],
)
def test_what_is_in_a_sound_counts_and_not_what_its_header_says(rig: Any, content: bytes, frames: int) -> None:
    work = rig.made("speech", "One sentence.")
    tab = rig.tab("speech")
    rig.until(lambda: tab.wave.seconds == 0.5)
    rig.session.path(work).write_bytes(content)
    other = rig.made("speech", "Another. And one more.")
    rig.until(lambda: tab.work is not None and tab.work.id == other.id)
    tab.show_work(work)
    rig.until(lambda: tab.wave.seconds == frames / 8000)
    assert rig.problems == []


def test_a_sound_without_samples_is_shown_as_such_and_not_exported(rig: Any, tmp_path: Path) -> None:
    work = rig.made("speech", "One sentence.")
    rig.session.path(work).write_bytes(sound(0))
    assert len(rig.session.path(work).read_bytes()) == 44
    other = rig.made("speech", "Another.")
    tab = rig.tab("speech")
    rig.until(lambda: tab.work is not None and tab.work.id == other.id)
    tab.show_work(work)
    rig.until(lambda: tab.wave.seconds == 0 and not tab.play_button.isEnabled())
    job = rig.session.export(work.id, tmp_path / "x.wav").id
    end = rig.session.wait(job, 60)
    assert end.problem.code == "library_broken" and not (tmp_path / "x.wav").exists()
    assert rig.problems == []


# -- what engines give that is no work ---------------------------------------------------------------------------------


def test_a_voice_that_gives_no_numbers_ends_in_a_sentence_and_leaves_no_sound(tmp_path: Path) -> None:
    from tests.engines.audio.tiny import tiny_voice

    voice, home = tiny_voice(tmp_path / "voice", nan=True), tmp_path / "home"
    problem = problem_of(studio(home, "speak", "Hello there.", "--voice", str(voice), "--json"))
    assert problem["code"] == "bad_result" and "noise instead of speech" in problem["sentence"]
    assert list((home / "works").rglob("*")) == [] and list((home / "staging").iterdir()) == []
