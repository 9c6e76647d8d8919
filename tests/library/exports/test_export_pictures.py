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
from studio.core.recipes import CARRIED_AS, ImageRecipe, check
from studio.library import metadata
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


@pytest.mark.parametrize("format", ["jpg", "webp", "avif"])
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
    for name in ("x.png", "x.jpg", "x.webp", "x.avif", "x.tif", "x.psd"):
        job.export(tmp_path / "m.png", "image", out / name)
        with Image.open(out / name) as picture:
            assert picture.info["icc_profile"] == profile


@pytest.mark.skipif(CONVERT is None, reason="ImageMagick is not installed")
@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp", "x.avif", "x.tif", "x.psd"])
def test_another_program_sees_the_same_picture(job: Job, tmp_path: Path, out: Path, name: str):
    master = make_png(tmp_path / "master.png", "RGB")
    job.export(master, "image", out / name, quality=100)
    done = subprocess.run([CONVERT, f"{out / name}[0]", "-depth", "8", "rgb:-"], capture_output=True, timeout=60)
    if b"no decode delegate" in done.stderr:
        pytest.skip("this ImageMagick does not read the format")
    seen = np.frombuffer(done.stdout, np.uint8).reshape(48, 64, 3).astype(int)
    assert np.abs(seen - pixels(master)).max() <= (6 if name in ("x.jpg", "x.avif") else 0)


@pytest.mark.skipif(FILE is None, reason="file(1) is not installed")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x.png", "PNG image"), ("x.jpg", "JPEG image"), ("x.webp", "Web/P"), ("x.avif", "AVIF"),
        ("x.tif", "TIFF image"), ("x.psd", "Photoshop"),
    ],
)  # fmt: skip
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


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp", "x.avif", "x.tif", "x.psd"])
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


# -- AVIF and TIFF


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
@pytest.mark.parametrize("ending", ["tif", "tiff"])
def test_a_tiff_keeps_every_pixel_and_is_smaller_than_raw(
    job: Job, tmp_path: Path, out: Path, mode: str, ending: str
) -> None:
    master = make_png(tmp_path / "master.png", mode, (200, 150))
    job.export(master, "image", out / f"x.{ending}", title="Ein Zügli ♥")
    assert np.array_equal(pixels(out / f"x.{ending}"), pixels(master))
    with Image.open(out / f"x.{ending}") as picture:
        assert (picture.format, picture.mode, picture.info["compression"]) == ("TIFF", mode, "tiff_adobe_deflate")
        assert picture.tag_v2[270].encode("latin-1").decode() == "Ein Zügli ♥"
        assert picture.tag_v2[305].startswith("studio ")
    assert (out / f"x.{ending}").stat().st_size < 200 * 150 * len(mode) / 2


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_an_avif_at_quality_100_loses_nothing_but_rounding_even_of_the_unseen(
    job: Job, tmp_path: Path, out: Path, mode: str
) -> None:
    master = make_png(tmp_path / "master.png", mode)
    job.export(master, "image", out / "x.avif", quality=100)
    assert np.abs(pixels(out / "x.avif").astype(int) - pixels(master)).max() <= 3
    assert np.array_equal(pixels(out / "x.avif")[..., 3:], pixels(master)[..., 3:]) or mode == "L"


def test_an_avif_keeps_transparency_at_any_quality(job: Job, tmp_path: Path, out: Path) -> None:
    master = make_png(tmp_path / "master.png", "RGBA")
    job.export(master, "image", out / "x.avif", quality=50)
    assert np.abs(pixels(out / "x.avif")[..., 3].astype(int) - pixels(master)[..., 3]).max() <= 24


# -- with and without how it was made

EVERY = ("x.png", "x.jpg", "x.webp", "x.avif", "x.tif", "x.psd")
SECRET = "a fox that nobody must know of"
RECIPE = check("image", {"prompt": SECRET, "negative": "naïve 🦊", "seed": 77, "model": "starter-image"}).recipe


def telling_master(path: Path, mode: str = "RGB") -> Path:
    """A kept picture whose file says in every way a PNG has how it was made."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt(CARRIED_AS, msgspec.json.encode(RECIPE).decode())
    info.add_text("parameters", f"{SECRET}\nSteps: 5, Seed: 77")
    info.add_text("prompt", SECRET, zip=True)
    info.add_itxt("Comment", SECRET, zip=True)
    exif = Image.Exif()
    exif[0x010E] = SECRET
    with Image.open(make_png(path, mode)) as picture:
        picture.load()
        picture.save(path, pnginfo=info, exif=exif)
    return path


@pytest.mark.parametrize("name", EVERY)
def test_without_metadata_a_file_says_nothing_of_how_it_was_made(
    job: Job, tmp_path: Path, out: Path, name: str
) -> None:
    master = telling_master(tmp_path / "m.png")
    recipe = msgspec.to_builtins(RECIPE)
    job.export(master, "image", out / name, title=SECRET, recipe=recipe, metadata=False)
    data = (out / name).read_bytes()
    for text in (SECRET, "naïve", "starter-image", "studio"):
        for encoding in ("utf-8", "utf-16-be", "utf-16-le"):
            assert text.encode(encoding) not in data
    with open(out / name, "rb") as stream:
        assert metadata.read(stream) is None
    with Image.open(out / name) as picture:
        picture.load()
        assert not {"exif", "xmp", "Comment", "parameters", "prompt"} & set(picture.info)
    if name not in ("x.jpg", "x.avif", "x.webp"):
        assert np.array_equal(pixels(out / name), pixels(master))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("format", ["JPEG", "WEBP", "TIFF"])
def test_nor_does_what_a_master_of_another_format_says_of_itself(
    job: Job, tmp_path: Path, out: Path, name: str, format: str
) -> None:
    exif = Image.Exif()
    exif[0x010E] = SECRET
    more = {"comment": SECRET} if format == "JPEG" else {}
    with Image.open(make_png(tmp_path / "m.png", "RGB")) as picture:
        picture.save(tmp_path / "master", format, exif=exif, xmp=f"<x>{SECRET}</x>".encode(), **more)
    assert SECRET.encode() in (tmp_path / "master").read_bytes()
    job.export(tmp_path / "master", "image", out / name, metadata=False)
    assert SECRET.encode() not in (out / name).read_bytes()


@pytest.mark.parametrize("name", EVERY)
def test_with_metadata_a_file_carries_the_recipe_of_the_work(job: Job, tmp_path: Path, out: Path, name: str) -> None:
    master = telling_master(tmp_path / "m.png")
    newer = msgspec.structs.replace(RECIPE, prompt="what the library knows", seed=78)
    job.export(master, "image", out / name, title="T", recipe=msgspec.to_builtins(newer))
    if name == "x.psd":
        assert b"what the library knows" in (out / name).read_bytes()
        return
    with open(out / name, "rb") as stream:
        found = metadata.read(stream)
    assert found is not None
    assert found.tool == "studio"
    assert check("image", found.values).recipe == newer
    if name == "x.png":
        assert sum(d.startswith(b"studio\0") for _, d in chunks(out / name)) == 1
        with Image.open(out / name) as picture:
            assert picture.text["parameters"].startswith("what the library knows")
    if name == "x.jpg":
        with Image.open(out / name) as picture:
            comment = picture.getexif().get_ifd(0x8769)[0x9286]
        assert "what the library knows".encode("utf-16-be") in comment


def test_a_picture_made_of_another_one_carries_its_recipe_too(job: Job, tmp_path: Path, out: Path) -> None:
    recipe = {"kind": "edit", "image": "a" * 40 + ".png", "rotate": "90"}
    for name in ("x.png", "x.webp"):
        job.export(make_png(tmp_path / "m.png"), "image", out / name, recipe=recipe)
        assert b'"rotate":"90"' in (out / name).read_bytes().replace(b"&quot;", b'"')
    with open(out / "x.png", "rb") as stream:
        assert msgspec.to_builtins(recipe_in(stream))["rotate"] == "90"


def test_a_recipe_that_is_too_long_is_left_out_and_told(job: Job, tmp_path: Path, out: Path) -> None:
    recipe = msgspec.to_builtins(ImageRecipe(prompt="long " * 20_000))
    result = job.export(make_png(tmp_path / "m.png"), "image", out / "x.jpg", recipe=recipe)
    assert result.notes == ("The recipe is too long for a JPEG file and was left out of it.",)
    assert job.export(make_png(tmp_path / "m.png"), "image", out / "x.webp", recipe=recipe).notes[1:] == ()
