"""Pictures that works are made from: kept once under their checksum, given back, and cleared when nobody names them."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest
from PIL import Image

from studio.core.paths import Paths
from studio.core.problems import BadRecipe, NotFound, NotRead, NotSaved
from studio.library.inputs import LIMIT, OLD_SECONDS, Inputs, ending_of, is_name


def picture(format: str = "PNG", colour: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(out, format)
    return out.getvalue()


@pytest.fixture
def inputs(paths: Paths) -> Inputs:
    return Inputs(paths)


@pytest.mark.parametrize(
    ("format", "ending"),
    [
        ("PNG", "png"),
        ("JPEG", "jpg"),
        ("WEBP", "webp"),
        ("AVIF", "avif"),
        ("TIFF", "tif"),
        ("GIF", "gif"),
        ("BMP", "bmp"),
    ],
)
def test_a_picture_is_kept_byte_for_byte_by_what_it_is_whatever_it_is_called(
    format: str, ending: str, inputs: Inputs, tmp_path: Path
) -> None:
    file = tmp_path / "photo.dat"
    file.write_bytes(picture(format))
    name = inputs.add(file)
    assert is_name(name)
    assert name.endswith(f".{ending}")
    assert inputs.path(name).read_bytes() == file.read_bytes()
    assert inputs.add_bytes(picture(format)) == name, "the same bytes are kept once"
    assert len(list(inputs.folder.iterdir())) == 1


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG", b"<svg/>", b"RIFF1234WAVE", b"%PDF-1.7 xxxxxxxx"])
def test_what_is_no_picture_is_refused(data: bytes, inputs: Inputs, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(BadRecipe, match="not a picture"):
        inputs.add(tmp_path / "x.png")
    with pytest.raises(BadRecipe):
        inputs.add_bytes(data)
    assert ending_of(data) is None


def test_a_file_that_is_too_large_is_refused_before_it_is_copied(inputs: Inputs, tmp_path: Path) -> None:
    file = tmp_path / "big.png"
    file.write_bytes(picture())
    os.truncate(file, LIMIT + 1)  # sparse
    with pytest.raises(BadRecipe, match="may have"):
        inputs.add(file)


@pytest.mark.parametrize("name", ["", "..", "../studio.db", "x.png", "0" * 40, "0" * 40 + ".png/..", "A" * 40 + ".png"])
def test_only_names_of_kept_pictures_lead_to_a_file(name: str, inputs: Inputs) -> None:
    with pytest.raises(NotFound):
        inputs.path(name)


def test_what_cannot_be_read_or_written_is_said(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(NotRead, match="gone"):
        inputs.add(tmp_path / "gone.png")
    inputs.folder.write_bytes(b"in the way")
    with pytest.raises(NotSaved, match="could not be kept"):
        inputs.add_bytes(picture())


def test_what_nobody_names_goes_after_a_week_and_not_before(inputs: Inputs) -> None:
    old, named, new = (inputs.add_bytes(picture(colour=colour)) for colour in ("red", "green", "blue"))
    (inputs.folder / "notes.txt").write_text("mine")
    long_ago = time.time() - OLD_SECONDS - 60
    for name in (old, named):
        os.utime(inputs.folder / name, (long_ago, long_ago))
    assert inputs.clear({named}) == (old,)
    assert sorted(p.name for p in inputs.folder.iterdir()) == sorted([named, new, "notes.txt"])
    inputs.path(named)  # it is looked at
    assert inputs.clear(()) == ()
