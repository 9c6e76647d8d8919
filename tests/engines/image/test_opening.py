"""Whatever picture a person hands in becomes plain RGB or RGBA, or a sentence."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from studio.core.problems import BadRecipe, NotRead
from studio.engines.image import opening
from studio.engines.image.opening import open_picture

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def gradient(size: tuple[int, int] = (32, 24)) -> Image.Image:
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    data = np.stack([x * 255 // size[0], y * 255 // size[1], (x + y) * 255 // sum(size)], axis=-1)
    return Image.fromarray(data.astype(np.uint8))


Triple = tuple[float, float, float]


def a_profile(red: Triple, green: Triple, blue: Triple, curve: list[int]) -> bytes:
    """A profile of an RGB, written by hand (ICC.1:2001-04): its colours under D50, and its curve, 0 to 65,535."""

    def s15(value: float) -> bytes:
        return struct.pack(">i", round(value * 65_536))

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(s15, values))

    tone = b"curv\0\0\0\0" + struct.pack(f">I{len(curve)}H", len(curve), *curve)
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"Some\0" + bytes(78)
    tags = {
        b"desc": text, b"wtpt": xyz(0.9642, 1.0, 0.8249), b"cprt": b"text\0\0\0\0none\0\0\0\0",
        b"rXYZ": xyz(*red), b"gXYZ": xyz(*green), b"bXYZ": xyz(*blue), b"rTRC": tone, b"gTRC": tone, b"bTRC": tone,
    }  # fmt: skip
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    size = 128 + len(table) + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"none", 0x02400000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp"
    head = head.ljust(68, b"\0") + s15(0.9642) + s15(1.0) + s15(0.8249)
    return head.ljust(128, b"\0") + table + body


def wide_gamut() -> bytes:
    """Linear, with red and green far outside sRGB."""
    return a_profile((0.7161, 0.2582, 0.0), (0.1009, 0.7249, 0.0518), (0.1472, 0.0169, 0.7731), [256])


def another_srgb() -> bytes:
    """sRGB as it is written where every byte counts: a curve of few points, which moves some numbers by one."""
    share = np.linspace(0, 1, 26)
    light = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    curve = [int(value) for value in np.rint(light * 65_535)]
    return a_profile((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141), curve)


# -- modes


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("ending", ["png", "webp", "tif", "bmp"])
def test_plain_pictures_stay_as_they_are(tmp_path: Path, mode: str, ending: str) -> None:
    picture = gradient().convert(mode)
    if mode == "RGBA":
        picture.putalpha(gradient().getchannel(0))
    if (mode, ending) == ("RGBA", "bmp"):
        pytest.skip("BMP files with opacity are read as without, as most programs do")
    file = tmp_path / f"x.{ending}"
    picture.save(file, **({"lossless": True, "exact": True} if ending == "webp" else {}))
    opened = open_picture(file)
    assert opened.mode == mode
    assert opened.tobytes() == picture.tobytes()
    assert opened.info == {}


def test_sixteen_bits_of_grey_become_eight_and_round(tmp_path: Path) -> None:
    values = np.linspace(0, 65_535, 64 * 48).astype(np.uint16).reshape(48, 64)
    for name in ("x.png", "x.tif"):
        Image.fromarray(values).save(tmp_path / name)
        seen = np.asarray(open_picture(tmp_path / name))
        assert np.array_equal(seen[..., 0], np.round(values / 257).astype(np.uint8))
        assert np.array_equal(seen[..., 0], seen[..., 2])


def sixteen_bit_rgb_png(values: np.ndarray, channels: int) -> bytes:
    high, wide = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", wide, high, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("channels", "mode"), [(3, "RGB"), (4, "RGBA")])
def test_sixteen_bits_of_colour_become_eight(tmp_path: Path, channels: int, mode: str) -> None:
    values = np.random.default_rng(2).integers(0, 65_536, (9, 11, channels))
    (tmp_path / "x.png").write_bytes(sixteen_bit_rgb_png(values, channels))
    opened = open_picture(tmp_path / "x.png")
    assert opened.mode == mode
    assert np.abs(np.asarray(opened) - values / 257).max() <= 1


@pytest.mark.parametrize(
    ("values", "wanted"),
    [([0.0, 0.5, 1.0], [0, 128, 255]), ([0.0, 100.0, 255.0], [0, 100, 255]), ([0.0, 500.0, 1000.0], [0, 2, 4]),
     ([-5.0, float("nan"), 1.0], [0, 0, 255]), ([0.0, 1e6, 2e6], [0, 128, 255])],
)  # fmt: skip
def test_fractions_become_grey_with_the_nearest_usual_white(tmp_path: Path, values: Any, wanted: Any) -> None:
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "x.tif")
    assert np.asarray(open_picture(tmp_path / "x.tif"))[0, :, 0].tolist() == wanted


def test_palettes_bits_and_grey_with_opacity_become_plain(tmp_path: Path) -> None:
    palette = Image.new("P", (4, 1), 0)
    palette.putpalette([0, 0, 0, 200, 0, 0] + [0] * 762)
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "p.png", transparency=0)
    opened = open_picture(tmp_path / "p.png")
    assert opened.mode == "RGBA"
    assert opened.getpixel((0, 0))[3] == 0
    assert opened.getpixel((1, 0)) == (200, 0, 0, 255)
    palette.save(tmp_path / "q.png")
    assert open_picture(tmp_path / "q.png").mode == "RGB"
    bits = Image.new("1", (9, 1))
    bits.putpixel((3, 0), 1)
    bits.save(tmp_path / "b.png")
    assert np.asarray(open_picture(tmp_path / "b.png"))[0, :, 1].tolist() == [0, 0, 0, 255, 0, 0, 0, 0, 0]
    Image.merge("LA", [gradient().getchannel(0), gradient().getchannel(1)]).save(tmp_path / "la.png")
    opened = open_picture(tmp_path / "la.png")
    assert opened.mode == "RGBA"
    assert opened.getchannel("A").tobytes() == gradient().getchannel(1).tobytes()


def test_one_value_that_stands_for_see_through_is_seen_through(tmp_path: Path) -> None:
    gradient().convert("L").save(tmp_path / "l.png", transparency=0)
    assert open_picture(tmp_path / "l.png").mode == "RGBA"
    gradient().save(tmp_path / "rgb.png", transparency=gradient().getpixel((0, 0)))
    opened = open_picture(tmp_path / "rgb.png")
    assert (opened.mode, opened.getpixel((0, 0))[3], opened.getpixel((9, 9))[3]) == ("RGBA", 0, 255)
    values = np.array([[1_000, 30_000]], np.uint16)
    file = tmp_path / "grey16.png"
    Image.fromarray(values).save(file)
    data = file.read_bytes()
    file.write_bytes(data[:33] + chunk(b"tRNS", struct.pack(">H", 1_000)) + data[33:])
    assert open_picture(file).getchannel("A").tobytes() == b"\0\xff"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright(tmp_path: Path, orientation: int) -> None:
    corners = Image.new("RGB", (16, 8), "black")
    corners.paste("red", (0, 0, 8, 4))  # top left
    lying = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = corners.transpose(lying) if lying is not None else corners
    stored.save(tmp_path / "x.png", exif=exif)
    assert open_picture(tmp_path / "x.png").tobytes() == corners.tobytes()


def test_a_note_about_the_upper_side_that_is_damaged_does_not_hide_the_picture(tmp_path: Path) -> None:
    gradient().save(tmp_path / "x.png", exif=b"MM\0*\0\0\0\x08\xff\xff\x01\x12\0\x03garbage")
    assert open_picture(tmp_path / "x.png").tobytes() == gradient().tobytes()


# -- colours


def test_a_wide_gamut_becomes_srgb(tmp_path: Path) -> None:
    middle = Image.new("RGB", (4, 4), (128, 128, 128))
    middle.save(tmp_path / "x.png", icc_profile=wide_gamut())
    grey = open_picture(tmp_path / "x.png").getpixel((0, 0))
    # half of the light is 188 in sRGB: 255·(1.055·0.502^(1/2.4) − 0.055)
    assert max(abs(value - 188) for value in grey) <= 2
    Image.new("RGB", (4, 4), (0, 255, 0)).save(tmp_path / "g.png", icc_profile=wide_gamut())
    assert open_picture(tmp_path / "g.png").getpixel((0, 0)) == (0, 255, 0)  # beyond sRGB: as green as can be
    Image.new("RGBA", (4, 4), (128, 128, 128, 77)).save(tmp_path / "a.png", icc_profile=wide_gamut())
    opened = open_picture(tmp_path / "a.png").getpixel((0, 0))
    assert opened == (*grey, 77)


def test_a_picture_that_says_it_is_srgb_keeps_every_pixel(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(3).integers(0, 256, (256, 256, 3), np.uint8))
    for profile in (ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), another_srgb()):
        noise.save(tmp_path / "x.png", icc_profile=profile)
        notes: list[str] = []
        assert open_picture(tmp_path / "x.png", notes.append).tobytes() == noise.tobytes()
        assert notes == []


@pytest.mark.parametrize("profile", [b"nonsense", bytes(500), wide_gamut()[:200]])
def test_a_damaged_profile_is_left_out_and_told(tmp_path: Path, profile: bytes) -> None:
    gradient().save(tmp_path / "x.png", icc_profile=profile)
    notes: list[str] = []
    assert open_picture(tmp_path / "x.png", notes.append).tobytes() == gradient().tobytes()
    assert notes == ["The picture's colour profile is damaged or does not fit, and was left out."]


def test_a_profile_of_other_channels_is_left_out(tmp_path: Path) -> None:
    gradient().convert("L").save(tmp_path / "x.png", icc_profile=wide_gamut())
    notes: list[str] = []
    assert open_picture(tmp_path / "x.png", notes.append).mode == "RGB"
    assert len(notes) == 1


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_inks_become_light(tmp_path: Path, ending: str) -> None:
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    inks.save(tmp_path / f"x.{ending}", quality=95) if ending == "jpg" else inks.save(tmp_path / f"x.{ending}")
    opened = open_picture(tmp_path / f"x.{ending}")
    red, green, blue = opened.getpixel((8, 8))
    assert opened.mode == "RGB"
    assert red > 230
    assert max(green, blue) < 25


def test_lightness_and_two_colour_axes_become_light(tmp_path: Path) -> None:
    Image.frombytes("LAB", (1, 1), bytes((128, 0, 0))).save(tmp_path / "x.tif")
    seen = open_picture(tmp_path / "x.tif").getpixel((0, 0))
    assert max(seen) - min(seen) <= 3
    assert 100 < seen[0] < 140


# -- files


def test_of_a_moving_picture_the_first_frame_is_taken_and_told(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    for name in ("x.gif", "x.webp", "x.png", "x.tif"):
        more = {"lossless": True} if name == "x.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **more)
        notes: list[str] = []
        opened = open_picture(tmp_path / name, notes.append)
        assert opened.convert("RGB").getpixel((0, 0)) == (255, 0, 0)
        assert notes == ["The file holds 3 pictures; the first one was taken."], name


def test_the_small_copies_that_cameras_add_are_no_news(tmp_path: Path) -> None:
    gradient().save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=[gradient((8, 8))])
    notes: list[str] = []
    assert open_picture(tmp_path / "x.jpg", notes.append).size == (32, 24)
    assert notes == []


def test_a_picture_with_too_many_pixels_is_refused_before_they_are_read(tmp_path: Path) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    (tmp_path / "x.png").write_bytes(SIGNATURE + header + chunk(b"IDAT", b"\0" * 64))
    with pytest.raises(BadRecipe, match=r"100,000 × 100,000 px; the studio opens up to 179 million pixels"):
        open_picture(tmp_path / "x.png")
    assert Image.MAX_IMAGE_PIXELS is not None


def test_what_pillow_only_warns_of_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    gradient().save(tmp_path / "x.png")  # 768 pixels: more than that, less than twice
    assert open_picture(tmp_path / "x.png").size == (32, 24)
    monkeypatch.setattr(opening, "PIXELS_LIMIT", 700)
    with pytest.raises(BadRecipe, match="32 × 24 px"):
        open_picture(tmp_path / "x.png")


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif", "gif", "bmp", "avif"])
def test_a_damaged_picture_is_a_sentence(tmp_path: Path, ending: str) -> None:
    whole = io.BytesIO()
    noise = Image.fromarray(np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8))
    noise.save(whole, {"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending.upper()))
    data = whole.getvalue()
    for spoiled in (data[: len(data) // 2], data[:20], b"", b"<svg/>"):
        (tmp_path / f"x.{ending}").write_bytes(spoiled)
        with pytest.raises(BadRecipe, match="damaged, cut off, or not a picture"):
            open_picture(tmp_path / f"x.{ending}")


def test_random_damage_is_a_picture_or_a_sentence_and_nothing_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    for ending in ("png", "jpg", "tif", "gif", "webp", "bmp"):
        whole = io.BytesIO()
        gradient().save(whole, {"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending.upper()))
        for _ in range(40):
            data = bytearray(whole.getvalue())
            for at in rng.integers(0, len(data), 4):
                data[at] = rng.integers(0, 256)
            (tmp_path / "x").write_bytes(data)
            with contextlib.suppress(BadRecipe):
                assert open_picture(tmp_path / "x").mode in ("RGB", "RGBA")


@pytest.mark.parametrize("ending", ["ppm", "tga", "ico", "pcx", "eps"])
def test_formats_that_nobody_asked_for_are_not_tried(tmp_path: Path, ending: str) -> None:
    """Readers of some start other programs; the more there are, the more there is to go wrong."""
    gradient().save(tmp_path / f"x.{ending}")
    with Image.open(tmp_path / f"x.{ending}"):
        pass  # pillow knows it
    with pytest.raises(BadRecipe, match="not a picture"):
        open_picture(tmp_path / f"x.{ending}")


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(NotRead, match="No such file"):
        open_picture(tmp_path / "gone.png")
    with pytest.raises(NotRead, match="directory"):
        open_picture(tmp_path)


def test_texts_in_a_picture_have_no_effect(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("studio", "{}")
    gradient().save(tmp_path / "x.png", pnginfo=info)
    assert open_picture(tmp_path / "x.png").info == {}
