"""Edits change what they say and nothing else, in the order in which they are declared."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from studio.core.cards import ModelCard
from studio.core.events import Progress
from studio.core.pictures import Margins
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, ModelUnfit, NotFound
from studio.core.recipes import EditRecipe, ImageRecipe, UpscaleRecipe
from studio.engines.context import JobCancelled, RunContext
from studio.engines.image import editing, opening
from studio.engines.image.editing import Editing, inscribed, straightened
from studio.library.carried import recipe_in
from tests.engines.image import tiny

CARD = ModelCard(id="edit", name="Edit", kind="edit", engine="image.edit", path="", format="", sha256="-")


def a_picture(size: tuple[int, int] = (60, 40), mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(1).integers(0, 256, (*size[::-1], len(mode)), np.uint8)
    return Image.fromarray(noise, mode)


class Desk(tiny.Around):
    def __init__(self, folder: Path, picture: Image.Image, **more: Any) -> None:
        super().__init__(folder, **more)
        (folder / "inputs").mkdir(exist_ok=True)
        picture.save(folder / "inputs" / "in.png")
        self.ctx = RunContext("job", self.out, folder, self._take, self.cancelled, inputs=folder / "inputs")

    def run(self, recipe: Any = None, **values: Any) -> Image.Image:
        engine = Editing()
        engine.load(CARD, Plan(threads=2), self.ctx)
        self.result = engine.run(recipe or EditRecipe(image="in.png", **values), self.ctx)
        with Image.open(self.out / "0.png") as made:
            made.load()
            return made


def edited(folder: Path, picture: Image.Image, **values: Any) -> Image.Image:
    return Desk(folder, picture).run(**values)


# -- nothing


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_edit_that_changes_nothing_has_the_same_pixels(tmp_path: Path, mode: str) -> None:
    picture = a_picture(mode=mode)
    for values in (
        {}, {"crop": Margins()}, {"width": 60, "height": 40, "fit": "cover"}, {"width": 60}, {"hue": 0.0, "blur": 0.0},
    ):  # fmt: skip
        assert edited(tmp_path, picture, **values).tobytes() == picture.tobytes()


# -- shape


def test_margins_are_cut_away(tmp_path: Path) -> None:
    picture = a_picture()
    made = edited(tmp_path, picture, crop=Margins(left=3, top=5, right=7, bottom=11))
    assert np.array_equal(np.asarray(made), np.asarray(picture)[5:29, 3:53])


@pytest.mark.parametrize("crop", [Margins(left=60), Margins(left=30, right=30), Margins(top=39, bottom=1)])
def test_cutting_everything_away_is_a_sentence(tmp_path: Path, crop: Margins) -> None:
    with pytest.raises(BadRecipe, match="leaves nothing of") as caught:
        edited(tmp_path, a_picture(), crop=crop)
    assert caught.value.problem.field == "crop"


def test_a_quarter_turn_goes_clockwise(tmp_path: Path) -> None:
    picture = a_picture()
    for angle, times in (("90", 3), ("180", 2), ("270", 1)):
        made = edited(tmp_path, picture, rotate=angle)
        assert np.array_equal(np.asarray(made), np.rot90(np.asarray(picture), times))


def test_a_mirror_goes_across_or_down(tmp_path: Path) -> None:
    picture = np.asarray(a_picture())
    assert np.array_equal(np.asarray(edited(tmp_path, a_picture(), flip="across")), picture[:, ::-1])
    assert np.array_equal(np.asarray(edited(tmp_path, a_picture(), flip="down")), picture[::-1])


@settings(max_examples=60, deadline=None)
@given(wide=st.integers(1, 2000), high=st.integers(1, 2000), degrees=st.floats(-45, 45))
def test_the_largest_rectangle_lies_inside_and_no_larger_one_does(wide: int, high: int, degrees: float) -> None:
    w, h = inscribed(wide, high, degrees)
    sine, cosine = abs(math.sin(math.radians(degrees))), abs(math.cos(math.radians(degrees)))

    def inside(a: float, b: float) -> bool:
        return a * cosine + b * sine <= wide * (1 + 1e-9) and a * sine + b * cosine <= high * (1 + 1e-9)

    assert inside(w, h)
    for share in np.linspace(0.02, 0.98, 49):  # widths of other rectangles that just fit, and their heights
        a = share * min(wide / cosine, high / sine if sine > 1e-9 else math.inf)
        b = min((wide - a * cosine) / sine if sine > 1e-9 else math.inf, (high - a * sine) / cosine)
        assert a * b <= w * h * (1 + 1e-6) + 1e-6


@pytest.mark.parametrize("degrees", [-45.0, -7.5, 0.4, 12.0, 44.9])
@pytest.mark.parametrize("size", [(300, 200), (80, 400), (1000, 30)])
def test_straightening_leaves_no_empty_corner(size: tuple[int, int], degrees: float) -> None:
    made = straightened(Image.new("RGBA", size, "white"), degrees)
    assert made.getextrema() == ((255, 255),) * 4
    assert made.width * made.height >= 0.9 * math.prod(inscribed(*size, degrees)) - 100


def test_straightening_turns_clockwise_about_the_middle(tmp_path: Path) -> None:
    picture = Image.new("RGB", (401, 401), "black")
    rise = math.tan(math.radians(10))
    for x in range(401):  # a line that goes up to the right by 10°
        y = round(200 - (x - 200) * rise)
        for thick in (-1, 0, 1):
            picture.putpixel((x, y + thick), (255, 255, 255))
    seen = np.asarray(edited(tmp_path, picture, straighten=10.0))[..., 0].astype(float)
    rows = np.arange(len(seen))[:, None]
    places = (seen * rows).sum(axis=0) / seen.sum(axis=0)
    assert np.abs(places - (len(seen) - 1) / 2).max() < 1.0


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ({"width": 30}, (30, 20)), ({"height": 80}, (120, 80)), ({"width": 100, "height": 30}, (100, 30)),
        ({"width": 30, "height": 40, "fit": "inside"}, (30, 20)),
        ({"width": 90, "height": 20, "fit": "inside"}, (30, 20)),
        ({"width": 30, "height": 40, "fit": "cover"}, (30, 40)),
        ({"width": 16, "height": 16, "fit": "cover"}, (16, 16)),
    ],
)  # fmt: skip
def test_a_new_size_is_met(tmp_path: Path, values: dict[str, Any], size: tuple[int, int]) -> None:
    assert edited(tmp_path, a_picture(), **values).size == size


def test_covering_cuts_off_both_sides_alike_and_stretches_nothing(tmp_path: Path) -> None:
    picture = Image.new("RGB", (300, 100), "red")
    picture.paste("blue", (100, 0, 200, 100))
    made = np.asarray(edited(tmp_path, picture, width=200, height=100, fit="cover"))
    blue = made[50, :, 2] > 128
    assert blue.sum() == 100
    assert (blue[0], blue[99], blue[-1]) == (False, True, False)
    assert np.argmax(blue) == 50


def test_colours_do_not_bleed_in_from_where_a_picture_is_see_through(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (64, 64), (0, 255, 0, 0))
    picture.paste((255, 0, 0, 255), (16, 16, 48, 48))
    for values in ({"width": 40}, {"straighten": 9.0}, {"blur": 3.0}):
        made = np.asarray(edited(tmp_path, picture, **values)).astype(int)
        seen = made[made[..., 3] > 40]
        assert seen[:, 1].max() <= 8, "no green anywhere"
        assert made[..., 3].max() == 255


# -- colour


def probe(folder: Path, colour: tuple[int, ...], **values: Any) -> tuple[int, ...]:
    mode = "RGBA" if len(colour) == 4 else "RGB"
    made: Any = edited(folder, Image.new(mode, (16, 16), colour), **values).getpixel((8, 8))
    return tuple(made)


@pytest.mark.parametrize(
    ("colour", "values", "wanted"),
    [
        ((100, 50, 20), {"brightness": 2.0}, (200, 100, 40)),
        ((100, 50, 20), {"brightness": 0.0}, (0, 0, 0)),
        ((100, 128, 200), {"contrast": 0.5}, (114, 128, 164)),
        ((100, 200, 30), {"contrast": 0.0}, (128, 128, 128)),
        ((200, 200, 200), {"brightness": 2.0, "contrast": 0.25}, (196, 196, 196)),  # not clipped in between
        ((64, 64, 64), {"gamma": 2.0}, (128, 128, 128)),
        ((128, 128, 128), {"gamma": 0.5}, (64, 64, 64)),
        ((100, 100, 100), {"warmth": 1.0}, (125, 100, 75)),
        ((100, 100, 100), {"warmth": -1.0}, (75, 100, 125)),
        ((128, 128, 128), {"saturation": 3.0}, (128, 128, 128)),
        ((128, 128, 128), {"hue": 77.0}, (128, 128, 128)),
    ],
)
def test_a_colour_becomes_what_is_expected(
    tmp_path: Path, colour: tuple[int, ...], values: dict[str, Any], wanted: tuple[int, ...]
) -> None:
    assert max(abs(a - b) for a, b in zip(probe(tmp_path, colour, **values), wanted, strict=True)) <= 1
    assert probe(tmp_path, (*colour, 77), **values)[3] == 77, "opacity stays"


def luminance(colour: tuple[int, ...]) -> float:
    return 0.213 * colour[0] + 0.715 * colour[1] + 0.072 * colour[2]


def test_without_saturation_a_colour_is_the_grey_of_its_luminance(tmp_path: Path) -> None:
    made = probe(tmp_path, (200, 100, 50), saturation=0.0)
    assert len(set(made)) == 1
    assert abs(made[0] - luminance((200, 100, 50))) <= 1
    assert probe(tmp_path, (150, 120, 110), saturation=2.0)[0] > 165


def test_hue_goes_round_the_wheel_and_comes_back(tmp_path: Path) -> None:
    colour = (140, 110, 100)
    turned = probe(tmp_path, colour, hue=120.0)
    assert turned[1] > turned[0], "red went towards green"
    assert abs(luminance(turned) - luminance(colour)) < 2
    back = probe(tmp_path, turned, hue=-120.0)
    assert max(abs(a - b) for a, b in zip(back, colour, strict=True)) <= 3


def test_sharpening_and_blurring_are_what_pillow_calls_them(tmp_path: Path) -> None:
    picture = a_picture()
    made = edited(tmp_path, picture, sharpen=1.5)
    assert made.tobytes() == picture.filter(ImageFilter.UnsharpMask(2, 150, 0)).tobytes()
    made = edited(tmp_path, picture, blur=2.5)
    assert made.tobytes() == picture.filter(ImageFilter.GaussianBlur(2.5)).tobytes()


def test_everything_happens_in_the_declared_order(tmp_path: Path) -> None:
    """One after another in jobs of their own gives what all at once gives."""
    steps: list[dict[str, Any]] = [
        {"crop": Margins(left=8, top=2)}, {"rotate": "90"}, {"straighten": 6.0}, {"flip": "across"},
        {"width": 90, "height": 50, "fit": "cover"}, {"brightness": 1.2, "contrast": 1.3}, {"saturation": 0.5},
        {"gamma": 1.4, "warmth": 0.3}, {"hue": 30.0}, {"sharpen": 0.7}, {"blur": 1.0},
    ]  # fmt: skip
    picture = a_picture()
    for step in steps:
        picture = edited(tmp_path, picture, **step)
    together = edited(tmp_path, a_picture(), **{k: v for step in steps for k, v in step.items()})
    assert together.tobytes() == picture.tobytes()


# -- the engine


def test_the_result_is_kept_with_a_thumbnail_and_its_own_recipe(tmp_path: Path) -> None:
    desk = Desk(tmp_path, a_picture((600, 400)))
    desk.run(rotate="90")
    master, thumbnail = desk.result.artifacts
    assert (master.name, master.role, master.meta) == ("0.png", "master", {"width": 400, "height": 600})
    assert (thumbnail.role, thumbnail.meta) == ("thumbnail", {"width": 171, "height": 256})
    assert hashlib.sha256((desk.out / "0.png").read_bytes()).hexdigest() == master.sha256
    assert master.seed is None
    assert master.seconds > 0
    with open(desk.out / "0.png", "rb") as stream:
        carried = recipe_in(stream)
    assert carried == EditRecipe(image="in.png", rotate="90", made_with=desk.result.made_with)
    made_with = desk.result.made_with
    assert (made_with.engine, made_with.device, made_with.threads) == ("image.edit", "cpu", 2)
    assert {"python", "pillow"} <= set(made_with.versions)


def test_the_same_edit_gives_the_same_file(tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        desk = Desk(tmp_path / name, a_picture())
        desk.run(straighten=3.0, hue=20.0)
        digests.add(desk.result.artifacts[0].sha256)
    assert len(digests) == 1


def test_progress_goes_forward_and_a_cancel_is_heard_at_the_next_step(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "whole", a_picture())
    desk.run(rotate="90", blur=1.0, gamma=2.0)
    done = [e.done for e in desk.of(Progress)]
    assert done == sorted(done)
    assert done[-1] == desk.of(Progress)[-1].total
    stopped = Desk(tmp_path / "stopped", a_picture(), stop_when=lambda event: isinstance(event, Progress))
    with pytest.raises(JobCancelled):
        stopped.run(rotate="90", blur=1.0, gamma=2.0)
    assert len(stopped.of(Progress)) == 1
    assert not list(stopped.out.glob("*.png"))


def test_a_picture_that_is_gone_and_a_recipe_of_another_kind_are_sentences(tmp_path: Path) -> None:
    desk = Desk(tmp_path, a_picture())
    with pytest.raises(NotFound):
        desk.run(EditRecipe(image="other.png"))
    with pytest.raises(ModelUnfit):
        desk.run(ImageRecipe(prompt="a cat"))
    with pytest.raises(ModelUnfit):
        desk.run(UpscaleRecipe(image="in.png", model="esrgan"))


# -- enlarging without a network


@pytest.mark.parametrize(("factor", "size"), [(1.0, (60, 40)), (1.5, (90, 60)), (2.0, (120, 80)), (16.0, (960, 640))])
def test_lanczos_enlarges_by_any_factor(tmp_path: Path, factor: float, size: tuple[int, int]) -> None:
    picture = a_picture(mode="RGBA")
    desk = Desk(tmp_path, picture)
    made = desk.run(UpscaleRecipe(image="in.png", factor=factor))
    assert made.size == size
    wanted = picture if factor == 1 else picture.resize(size, Image.Resampling.LANCZOS)
    assert made.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("recipe", [UpscaleRecipe(image="in.png", factor=3.0), EditRecipe(image="in.png", width=180)])
def test_a_result_that_nobody_could_open_is_refused(tmp_path: Path, monkeypatch: Any, recipe: Any) -> None:
    monkeypatch.setattr(opening, "PIXELS_LIMIT", 100 * 100)
    with pytest.raises(BadRecipe, match="180 × 120 px"):
        Desk(tmp_path, a_picture()).run(recipe)


def test_it_starts_without_any_model_library() -> None:
    code = (
        "import sys, studio.engines.image.editing\n"
        "print(sorted({'torch', 'diffusers', 'transformers', 'onnxruntime', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
    assert editing.ENGINE == "image.edit"
