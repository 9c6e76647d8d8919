"""What an export will take is told before it is written: exactly for small pictures, closely for large ones."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from studio.core.problems import BadRecipe, LibraryBroken
from studio.engines.context import JobCancelled
from studio.library.exports import asks_size
from studio.library.exports import estimate as estimating
from studio.library.exports.estimate import estimate
from studio.library.exports.source import Source
from tests.library.exports.helpers_export import Job, make_png

FORMATS = (".png", ".jpg", ".webp", ".avif", ".tif", ".psd")


def a_photo(path: Path, size: tuple[int, int] = (900, 700)) -> Path:
    """Like a photograph: smooth in some places, grainy in others."""
    rng = np.random.default_rng(2)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = np.linspace(0, 25, size[0])[None, :, None] * rng.normal(0, 1, (size[1], size[0], 1))
    values = np.clip(np.asarray(coarse.filter(ImageFilter.GaussianBlur(2))) + grain, 0, 255)
    Image.fromarray(values.astype(np.uint8)).save(path)
    return path


def of(path: Path, **more: Any) -> Source:
    return Source(master=str(path), kind="image", title="T", **more)


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize("metadata", [True, False])
def test_a_small_picture_takes_exactly_what_was_told(
    job: Job, tmp_path: Path, out: Path, extension: str, metadata: bool
) -> None:
    master = make_png(tmp_path / "m.png")
    recipe = {"kind": "image", "prompt": "a cat " * 50}
    told = estimate(of(master, recipe=recipe), extension, 70, metadata, job.ctx)
    made = job.export(
        master, "image", out / f"x{extension}", title="T", recipe=recipe, quality=70, metadata=metadata
    ).artifacts[0]
    assert (told.bytes, told.exact) == (made.bytes, True)
    assert list(out.iterdir()) == [out / f"x{extension}"]


@pytest.mark.parametrize("extension", FORMATS)
def test_a_large_picture_takes_about_what_was_told(
    job: Job, tmp_path: Path, out: Path, extension: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimating, "ENCODED_WHOLE", 100_000)
    monkeypatch.setattr(estimating, "SIDE", 128)
    master = a_photo(tmp_path / "m.png")
    told = estimate(of(master), extension, 80, True, job.ctx)
    made = job.export(master, "image", out / f"x{extension}", title="T", quality=80).artifacts[0].bytes
    assert told.exact == (extension == ".png"), "a PNG is copied, whatever its size"
    assert 0.8 < told.bytes / made < 1.25


def test_quality_counts(job: Job, tmp_path: Path) -> None:
    master = a_photo(tmp_path / "m.png", (300, 200))
    sizes = [estimate(of(master), ".jpg", quality, True, job.ctx).bytes for quality in (20, 60, 95)]
    assert sizes == sorted(sizes)
    assert sizes[2] > 2 * sizes[0]


def test_a_bare_ending_asks_the_engine_for_the_size_and_writes_nothing(
    job: Job, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(out)
    master = make_png(tmp_path / "m.png")
    (told,) = job.export(master, "image", ".webp", quality=70).artifacts
    assert (told.name, told.meta) == (".webp", {"exact": True})
    made = job.export(master, "image", out / "x.webp", quality=70).artifacts[0]
    assert told.bytes == made.bytes
    assert [p.name for p in out.iterdir()] == ["x.webp"]
    assert asks_size(".webp")
    assert not asks_size("cat.webp")
    assert not asks_size(str(out / ".webp"))


def test_it_leaves_nothing_behind_and_hears_a_cancel(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimating, "ENCODED_WHOLE", 1_000)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    master = a_photo(tmp_path / "m.png", (200, 150))
    assert estimate(of(master), ".jpg", 80, True, job.ctx).bytes > 500
    assert os.listdir(folder) == []
    assert isinstance(job.cancel, threading.Event)
    job.cancel.set()
    with pytest.raises(JobCancelled):
        estimate(of(master), ".jpg", 80, True, job.ctx)
    assert os.listdir(folder) == []
    assert job.events == []


def test_what_is_no_picture_is_a_sentence(job: Job, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe):
        estimate(of(make_png(tmp_path / "m.png")), ".mp3", 80, True, job.ctx)
    (tmp_path / "bad.png").write_bytes(b"\\x89PNG nothing")
    with pytest.raises(LibraryBroken):
        estimate(of(tmp_path / "bad.png"), ".jpg", 80, True, job.ctx)
