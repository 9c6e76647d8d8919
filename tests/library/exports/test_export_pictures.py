"""Exported pictures, opened with programs written elsewhere."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from studio.core.problems import LibraryBroken, NotSaved
from studio.core.recipes import CARRIED_AS, check
from studio.library.carried import recipe_in
from tests.library.exports.helpers_export import Job, make_png

FILE = shutil.which("file")


def imagemagick() -> str | None:
    """The real ImageMagick; other programs go by the name of convert, too."""
    for name in ("magick", "convert"):
        if found := shutil.which(name):
            said = subprocess.run([found, "-version"], capture_output=True, text=True, timeout=60)
            if said.stdout.startswith("Version: ImageMagick"):
                return found
    return None


CONVERT = imagemagick()


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def chunks(path: Path) -> list[tuple[bytes, bytes]]:
    data, found, at = path.read_bytes(), [], 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_a_png_of_a_png_has_the_same_pixels_and_carries_the_title(job: Job, tmp_path: Path, out: Path, mode: str):
    master = make_png(tmp_path / "master.png", mode)
    result = job.export(master, "image", out / "x.png", title="Katze ♥ 猫")
    with Image.open(out / "x.png") as picture:
        assert picture.mode == mode
        assert picture.text["Title"] == "Katze ♥ 猫"
        assert picture.text["Software"].startswith("studio ")
    assert np.array_equal(pixels(out / "x.png"), pixels(master))
    assert [d for k, d in chunks(out / "x.png") if k == b"IDAT"] == [d for k, d in chunks(master) if k == b"IDAT"]
    assert result.artifacts[0].meta == {"width": 64, "height": 48}


def test_a_sixteen_bit_png_keeps_its_sixteen_bits(job: Job, tmp_path: Path, out: Path):
    values = (np.arange(64 * 48).reshape(48, 64) * 21).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "master.png")
    job.export(tmp_path / "master.png", "image", out / "x.png")
    assert np.array_equal(pixels(out / "x.png"), values)


@pytest.mark.parametrize("format", ["jpg", "webp"])
def test_sixteen_bits_become_eight_and_not_white(job: Job, tmp_path: Path, out: Path, format: str):
    values = np.tile(np.linspace(0, 65_535, 64), (48, 1)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "master.png")
    job.export(tmp_path / "master.png", "image", out / f"x.{format}", quality=95)
    with Image.open(out / f"x.{format}") as picture:
        seen = np.asarray(picture.convert("L")).astype(int)
    assert np.abs(seen - values / 257).max() <= 6


def test_an_older_title_in_the_master_is_replaced_and_other_notes_stay(job: Job, tmp_path: Path, out: Path):
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "old")
    info.add_text("Comment", "keep me")
    Image.new("RGB", (8, 8)).save(tmp_path / "master.png", pnginfo=info)
    job.export(tmp_path / "master.png", "image", out / "x.png", title="new")
    with Image.open(out / "x.png") as picture:
        picture.load()
        assert picture.text["Title"] == "new"
        assert picture.text["Comment"] == "keep me"
    assert sum(d.startswith(b"Title\0") for _, d in chunks(out / "x.png")) == 1


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("extension", [".jpg", ".jpeg", ".JPG"])
def test_a_jpeg_shows_transparency_as_white(job: Job, tmp_path: Path, out: Path, mode: str, extension: str):
    master = make_png(tmp_path / "master.png", mode)
    job.export(master, "image", out / f"x{extension}", quality=95)
    with Image.open(out / f"x{extension}") as picture:
        assert picture.format == "JPEG"
        seen = np.asarray(picture.convert("RGB")).astype(int)
    assert seen[:, :24].min() >= 250  # the see-through half, away from the edge
    wanted = np.asarray(Image.open(master).convert("RGB")).astype(int)
    assert np.abs(seen[:, 40:] - wanted[:, 40:]).mean() < 4


def test_a_palette_picture_with_a_see_through_colour_becomes_white_there(job: Job, tmp_path: Path, out: Path):
    picture = Image.new("P", (32, 32), 0)
    picture.putpalette([0, 0, 0, 200, 0, 0] + [0] * 762)
    picture.paste(1, (16, 0, 32, 32))
    picture.save(tmp_path / "master.png", transparency=0)
    job.export(tmp_path / "master.png", "image", out / "x.jpg", quality=95)
    seen = pixels(out / "x.jpg").astype(int)
    assert seen[:, :12].min() >= 245
    assert np.abs(seen[:, 22:] - (200, 0, 0)).max() <= 12


@pytest.mark.parametrize(("quality", "sampling"), [(90, (2, 2)), (91, (1, 1)), (100, (1, 1)), (1, (2, 2))])
def test_a_jpeg_keeps_full_colour_resolution_above_quality_90(job, tmp_path, out, quality, sampling):
    job.export(make_png(tmp_path / "m.png", "RGB"), "image", out / "x.jpg", quality=quality)
    with Image.open(out / "x.jpg") as picture:
        assert picture.layer[0][1:3] == sampling


@pytest.mark.parametrize("format", ["jpg", "webp"])
def test_more_quality_is_a_larger_and_truer_picture(job: Job, tmp_path: Path, out: Path, format: str):
    noise = np.random.default_rng(1).integers(0, 256, (96, 96, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "m.png")
    sizes, errors = [], []
    for quality in (5, 50, 95):
        file = out / f"x{quality}.{format}"
        job.export(tmp_path / "m.png", "image", file, quality=quality)
        sizes.append(file.stat().st_size)
        errors.append(np.abs(pixels(file).astype(int) - noise).mean())
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3
    assert errors == sorted(errors, reverse=True)


def test_a_webp_at_quality_100_keeps_every_pixel_even_the_unseen(job: Job, tmp_path: Path, out: Path):
    master = make_png(tmp_path / "master.png", "RGBA")
    job.export(master, "image", out / "x.webp", quality=100)
    assert np.array_equal(pixels(out / "x.webp"), pixels(master))


def test_a_webp_keeps_transparency_at_any_quality(job: Job, tmp_path: Path, out: Path):
    master = make_png(tmp_path / "master.png", "RGBA")
    job.export(master, "image", out / "x.webp", quality=60)
    assert np.abs(pixels(out / "x.webp")[..., 3].astype(int) - pixels(master)[..., 3]).max() <= 8


@pytest.mark.parametrize("format", ["jpg", "webp"])
def test_title_and_maker_are_in_the_exif_of_a_picture(job: Job, tmp_path: Path, out: Path, format: str):
    job.export(make_png(tmp_path / "m.png"), "image", out / f"x.{format}", title="Ein Zügli ♥")
    with Image.open(out / f"x.{format}") as picture:
        exif = picture.getexif()
    title = exif[0x010E]
    title = title.encode("latin-1").decode() if isinstance(title, str) else title.decode()
    assert title.rstrip("\0") == "Ein Zügli ♥"
    assert exif[0x0131].startswith("studio ")


def test_a_colour_profile_goes_along(job: Job, tmp_path: Path, out: Path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (16, 16), "teal").save(tmp_path / "m.png", icc_profile=profile)
    for name in ("x.png", "x.jpg", "x.webp"):
        job.export(tmp_path / "m.png", "image", out / name)
        with Image.open(out / name) as picture:
            assert picture.info["icc_profile"] == profile


@pytest.mark.skipif(CONVERT is None, reason="ImageMagick is not installed")
@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp"])
def test_another_program_sees_the_same_picture(job: Job, tmp_path: Path, out: Path, name: str):
    master = make_png(tmp_path / "master.png", "RGB")
    job.export(master, "image", out / name, quality=100)
    done = subprocess.run([CONVERT, out / name, "-depth", "8", "rgb:-"], capture_output=True, timeout=60)
    if b"no decode delegate" in done.stderr:
        pytest.skip("this ImageMagick does not read the format")
    seen = np.frombuffer(done.stdout, np.uint8).reshape(48, 64, 3).astype(int)
    assert np.abs(seen - pixels(master)).max() <= (6 if name == "x.jpg" else 0)


@pytest.mark.skipif(FILE is None, reason="file(1) is not installed")
@pytest.mark.parametrize(("name", "said"), [("x.png", "PNG image"), ("x.jpg", "JPEG image"), ("x.webp", "Web/P")])
def test_file_knows_what_a_picture_is(job: Job, tmp_path: Path, out: Path, name: str, said: str):
    job.export(make_png(tmp_path / "m.png"), "image", out / name)
    assert said in subprocess.check_output([FILE, "-b", out / name], text=True)


def test_a_picture_larger_than_webp_can_hold_is_refused(job: Job, tmp_path: Path, out: Path):
    Image.new("L", (16_384, 1)).save(tmp_path / "m.png")
    with pytest.raises(NotSaved, match=r"16,384 × 1 px; WebP takes at most 16,383 px"):
        job.export(tmp_path / "m.png", "image", out / "x.webp")
    assert list(out.iterdir()) == []


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


SIGNATURE = b"\x89PNG\r\n\x1a\n"
HUGE = SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp"])
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda d: d[: len(d) // 2], id="cut short"),
        pytest.param(lambda d: d[:60] + bytes([d[60] ^ 1]) + d[61:], id="one bit flipped"),
        pytest.param(lambda d: d[:33] + b"\xff\xff\xff\xffIDAT" + d[33:], id="a chunk of 4 GB"),
        pytest.param(lambda d: SIGNATURE + _chunk(b"IEND", b""), id="no header"),
        pytest.param(lambda d: b"", id="empty"),
        pytest.param(lambda d: b"<svg xmlns='http://www.w3.org/2000/svg'/>", id="an SVG"),
        pytest.param(lambda d: HUGE + _chunk(b"IDAT", b"\0" * 64)[:-2], id="a bomb"),
    ],
)
def test_a_damaged_picture_is_called_damaged(job: Job, tmp_path: Path, out: Path, name: str, spoil):
    master = make_png(tmp_path / "master.png", "RGB")
    master.write_bytes(spoil(master.read_bytes()))
    with pytest.raises(LibraryBroken, match="picture is damaged"):
        job.export(master, "image", out / name)
    assert list(out.iterdir()) == []


def test_a_png_without_its_end_is_not_copied(job: Job, tmp_path: Path, out: Path):
    master = make_png(tmp_path / "master.png", "RGB")
    master.write_bytes(master.read_bytes()[:-12])  # all pixels are there
    with pytest.raises(LibraryBroken, match="picture is damaged"):
        job.export(master, "image", out / "x.png")


def test_a_master_of_another_format_becomes_a_png(job: Job, tmp_path: Path, out: Path):
    Image.open(make_png(tmp_path / "m.png", "RGBA")).save(tmp_path / "m.webp", lossless=True, exact=True)
    job.export(tmp_path / "m.webp", "image", out / "x.png", title="from WebP")
    assert np.array_equal(pixels(out / "x.png"), pixels(tmp_path / "m.png"))
    assert Image.open(out / "x.png").text["Title"] == "from WebP"


def test_an_exported_png_still_carries_its_recipe(job: Job, tmp_path: Path, out: Path):
    recipe = check("image", {"prompt": "naïve 🦊", "seed": 3}).recipe
    info = PngImagePlugin.PngInfo()
    info.add_itxt(CARRIED_AS, msgspec.json.encode(recipe).decode())
    Image.new("RGB", (8, 8), "teal").save(tmp_path / "master.png", pnginfo=info)
    job.export(tmp_path / "master.png", "image", out / "x.png", title="new")
    with open(out / "x.png", "rb") as stream:
        assert recipe_in(stream) == recipe
