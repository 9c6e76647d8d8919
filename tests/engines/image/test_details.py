"""Details: what a detector finds is repainted as by hand with a mask, counted, stopped, and left where nothing is."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studio.core.events import Preview, Progress
from studio.core.pictures import Control, Detail
from studio.core.plans import Plan
from studio.core.problems import BadRecipe
from studio.core.recipes import ImageRecipe
from studio.engines.context import JobCancelled
from studio.engines.image import finding
from studio.engines.image.details import LOOKING
from studio.engines.image.diffusion import Diffusion
from studio.library.carried import recipe_in
from tests.engines.image import seeing, tiny
from tests.engines.image.test_painting import painted_by, quiet, recipe, result, run, scene

EngineOf = Callable[[str], Diffusion]
FolderOf = Callable[[str], Path]
Box = tuple[int, int, int, int]


@pytest.fixture(scope="session")
def detectors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Cards: one that finds red faces and green hands, and one that finds where red is brightest."""
    home = tmp_path_factory.mktemp("detectors")
    made = [seeing.save_yolo(home / "faces.onnx"), seeing.save_yolo(home / "bright.onnx", brightest=True)]
    return {path.stem: seeing.card_of(path, "detector") for path in made}


def beside(folder: Path, name: str, detectors: dict[str, Any], **more: Any) -> tiny.Around:
    return tiny.Around(folder / name, cards=list(detectors.values()), **more)


def spotted(size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A red face on the left, a green hand on the right."""
    picture = Image.new("RGB", size, (90, 90, 110))
    picture.paste((240, 20, 20), (8, 10, 24, 30))
    picture.paste((20, 240, 20), (40, 30, 56, 50))
    return picture


def masked(size: tuple[int, int], box: Box) -> Image.Image:
    mask = Image.new("L", size, 0)
    mask.paste(255, box)
    return mask


def repainted(
    engine: Diffusion, folder: Path, name: str, picture: Image.Image, box: Box, **values: Any
) -> Image.Image:  # fmt: skip
    """The picture with a box repainted by the masked part of an ordinary job."""
    around = tiny.Around(folder / name)
    asked = recipe(
        image=around.keep(picture), mask=around.keep(masked(picture.size, box), "mask"), mask_area="mask", **values
    )
    return run(engine, around, asked)


@pytest.mark.parametrize("family", ["sd", "flux"])
def test_a_detail_of_a_painted_picture_is_the_masked_part_repainted_by_hand(
    family: str, engine_of: EngineOf, folder_of: FolderOf, detectors: dict[str, Any], tmp_path: Path
) -> None:
    painted = tiny.Around(tmp_path / "painted")
    engine = quiet(engine_of, folder_of, family, painted)
    before = run(engine, painted, recipe())
    red = np.asarray(before)[:, :, 0]
    rows, columns = np.nonzero(red == red.max())
    box = (max(0, columns.min() - 6), max(0, rows.min() - 6), min(64, columns.max() + 7), min(64, rows.max() + 7))
    detail = Detail("bright", strength=0.7, grow=6, feather=3, padding=5, prompt="a blue cat")
    bright = {"bright": detectors["bright"]}
    detail_card = bright["bright"]
    around = beside(tmp_path, "details", bright)
    asked = recipe(details=(Detail(detail_card.id, *[getattr(detail, f) for f in detail.__struct_fields__[1:]]),))
    made = run(engine, around, asked)
    expected = repainted(
        engine, tmp_path, "hand", before, tuple(int(v) for v in box), prompt="a blue cat", strength=0.7, mask_blur=3,
        mask_padding=5,
    )  # fmt: skip
    assert made.tobytes() == expected.tobytes()
    assert made.tobytes() != before.tobytes()
    with open(around.out / "0.png", "rb") as stream:
        carried = recipe_in(stream)
    assert isinstance(carried, ImageRecipe)
    assert carried.details == asked.details
    assert carried.made_with is not None
    assert "onnxruntime" in carried.made_with.versions
    again = tiny.Around(tmp_path / "again")
    assert run(engine, again, recipe()).tobytes() == before.tobytes(), "nothing is left behind"
    assert "onnxruntime" not in engine.made_with().versions


def test_only_the_details_of_a_picture_one_after_another_from_left_to_right(
    engine_of: EngineOf, folder_of: FolderOf, detectors: dict[str, Any], tmp_path: Path
) -> None:
    around = beside(tmp_path, "details", detectors)
    engine = quiet(engine_of, folder_of, "sd", around)
    picture = spotted((96, 64))
    name = around.keep(picture)
    detail = Detail(detectors["faces"].id, strength=0.6, grow=2, feather=0, padding=4)
    made = run(engine, around, recipe(image=name, details=(detail,), details_only=True))
    # a picture of another shape than the network's is looked at smaller: where exactly, the detector says
    found = finding.open_detector(detectors["faces"], "cpu", 1, around.ctx).find(picture, 0.3, around.ctx)
    assert sorted(each.label for each in found) == ["face", "hand"]
    expected = picture
    for at, each in enumerate(sorted(found, key=lambda each: each.box[0])):
        mask = finding.mask_of(each.box, 2, picture.size)
        assert mask is not None
        box = mask.getbbox()
        assert box is not None
        expected = repainted(engine, tmp_path, f"hand{at}", expected, box, strength=0.6, mask_blur=0, mask_padding=4)
    assert made.size == picture.size
    assert made.tobytes() == expected.tobytes()
    assert made.getpixel((90, 4)) == picture.getpixel((90, 4)), "the rest is untouched"
    one = beside(tmp_path, "one", detectors)
    only = Detail(detectors["faces"].id, strength=0.6, classes="hand", grow=2, feather=0, padding=4)
    made = run(engine, one, recipe(image=one.keep(picture), details=(only,), details_only=True))
    assert made.crop((0, 0, 30, 64)).tobytes() == picture.crop((0, 0, 30, 64)).tobytes()
    assert made.crop((40, 30, 56, 50)).tobytes() != picture.crop((40, 30, 56, 50)).tobytes()


def test_a_part_is_painted_as_plain_diffusers_paints_it(
    engine_of: EngineOf, folder_of: FolderOf, detectors: dict[str, Any], tmp_path: Path
) -> None:
    from tests.engines.image.test_painting import CLASSES, bare

    around = beside(tmp_path, "details", detectors)
    engine = quiet(engine_of, folder_of, "sd", around)
    picture = spotted()
    detail = Detail(detectors["faces"].id, strength=0.8, classes="face", grow=0, feather=0, padding=64)
    made = run(engine, around, recipe(image=around.keep(picture), details=(detail,), details_only=True))
    face = (8, 10, 24, 30)
    plain = painted_by(
        bare(folder_of("sd"), CLASSES["sd"][1]), image=picture, mask_image=masked((64, 64), face), strength=0.8
    )
    assert made.crop(face).tobytes() == plain.crop(face).tobytes()
    outside = picture.copy()
    outside.paste(plain.crop(face), face)
    assert made.tobytes() == outside.tobytes()


def test_nothing_found_is_a_note_and_the_picture_as_it_was(
    engine_of: EngineOf, folder_of: FolderOf, detectors: dict[str, Any], tmp_path: Path
) -> None:
    around = beside(tmp_path, "details", detectors)
    engine = quiet(engine_of, folder_of, "sd", around)
    plain = Image.new("RGBA", (64, 64), (90, 90, 90, 120))
    detail = Detail(detectors["faces"].id, classes="face; hand")
    made = run(engine, around, recipe(image=around.keep(plain), details=(detail,), details_only=True))
    assert made.mode == "RGBA"
    assert made.tobytes() == plain.tobytes()
    assert "“faces” found nothing of “face; hand” to repaint." in around.ctx.notes
    done = [(e.done, e.total) for e in around.of(Progress)]
    assert done[-1][0] == done[-1][1]


def test_progress_counts_the_details_and_never_goes_back(
    engine_of: EngineOf, folder_of: FolderOf, detectors: dict[str, Any], tmp_path: Path
) -> None:
    around = beside(tmp_path, "details", detectors)
    engine = engine_of("sd")
    engine.load(tiny.card(folder_of("sd"), "sd"), Plan(device="cpu", threads=1), around.ctx)
    detail = Detail(detectors["faces"].id, strength=0.6, confidence=0.3)
    asked = recipe(image=around.keep(spotted()), details=(detail, detail), details_only=True, steps=10, count=2)
    engine.run(asked, around.ctx)
    told = around.of(Progress)
    done = [each.done for each in told]
    assert done == sorted(done)
    assert max(b - a for a, b in itertools.pairwise(done)) <= 1, "each step counts, in the second picture too"
    assert {each.total for each in told} == {2 * 2 * 6.0}
    assert done[-1] == told[-1].total
    assert LOOKING in {each.phase for each in told}
    assert around.of(Preview)
    first, second = result(around), result(around, 1)
    assert first.tobytes() != second.tobytes(), "each with its own seed"
    alone = beside(tmp_path, "alone", detectors)
    other = recipe(image=alone.keep(spotted()), details=(detail, detail), details_only=True, steps=10, seed=12)
    assert run(engine, alone, other).tobytes() == second.tobytes()


def test_it_stops_within_a_step_of_a_detail_and_paints_the_same_afterwards(
    engine_of: EngineOf, folder_of: FolderOf, detectors: dict[str, Any], tmp_path: Path
) -> None:
    detail = Detail(detectors["faces"].id, strength=1.0)
    stopped: list[float] = []

    def stop(event: Any) -> bool:
        if isinstance(event, Progress) and event.done >= 5:  # 4 steps of the picture, then the details
            stopped.append(event.done)
        return bool(stopped)

    around = beside(tmp_path, "stopped", detectors, stop_when=stop)
    engine = quiet(engine_of, folder_of, "sd", around)
    asked = recipe(image=around.keep(spotted()), strength=0.5, details=(detail,), steps=4)
    with pytest.raises(JobCancelled):
        engine.run(asked, around.ctx)
    assert len(stopped) == 1
    assert not (around.out / "0.png").exists()
    one, other = (beside(tmp_path, name, detectors) for name in ("one", "other"))
    pictures = [run(engine, each, recipe(image=each.keep(spotted()), strength=0.5, details=(detail,)))
                for each in (one, other)]  # fmt: skip
    assert pictures[0].tobytes() == pictures[1].tobytes()


def test_what_cannot_be_found_is_said_before_anything_is_painted(
    engine_of: EngineOf, folder_of: FolderOf, detectors: dict[str, Any], tmp_path: Path
) -> None:
    around = beside(tmp_path, "details", detectors)
    engine = quiet(engine_of, folder_of, "sd", around)
    for values, field in (
        ({"details": (Detail(detectors["faces"].id, classes="nose"),)}, "details"),
        ({"details_only": True, "details": (Detail(detectors["faces"].id),)}, "image"),
        ({"details_only": True, "image": around.keep(scene())}, "details"),
    ):
        with pytest.raises(BadRecipe) as raised:
            engine.run(recipe(**values), around.ctx)
        assert raised.value.problem.field == field
    assert not around.of(Progress)


def test_details_follow_the_second_pass_and_each_picture_of_several_at_once(
    engine_of: EngineOf, folder_of: FolderOf, detectors: dict[str, Any], tmp_path: Path
) -> None:
    engine = quiet(engine_of, folder_of, "sd", tiny.Around(tmp_path / "load"))
    detail = Detail(detectors["bright"].id, strength=0.5, grow=8)
    larger = run(engine, tiny.Around(tmp_path / "larger"), recipe(enlarge=1.5, enlarge_strength=0.5))
    around = beside(tmp_path, "details", detectors)
    made = run(engine, around, recipe(enlarge=1.5, enlarge_strength=0.5, details=(detail,)))
    assert made.size == larger.size == (96, 96)
    assert made.tobytes() != larger.tobytes()
    told = around.of(Progress)
    assert told[-1].done == told[-1].total == 4 + 4 + 2
    several = beside(tmp_path, "several", detectors)
    engine.run(recipe(count=2, at_once=2, details=(detail,)), several.ctx)
    assert result(several).tobytes() != result(several, 1).tobytes()


def test_a_depth_map_is_the_control_picture_that_would_be_given_by_hand(
    engine_of: EngineOf, folder_of: FolderOf, detectors: dict[str, Any], tmp_path: Path
) -> None:
    from studio.engines.image.maps import Sight

    network = tiny.addition("control", tiny.save_control(folder_of("sd"), tmp_path / "depthnet"), "controlnet")
    depth = seeing.card_of(seeing.save_depth(tmp_path / "depth.onnx"), "depth")
    around = tiny.Around(tmp_path / "map", cards=[network, depth, *detectors.values()])
    engine = quiet(engine_of, folder_of, "sd", around)
    asked = recipe(controls=(Control(network.id, around.keep(scene()), filter="depth"),), depth_with=depth.id)
    made = run(engine, around, asked)
    drawn = Sight("cpu").control_picture("depth", scene(), depth, None, around.ctx)
    by_hand = tiny.Around(tmp_path / "drawn", cards=[network])
    same = run(engine, by_hand, recipe(controls=(Control(network.id, by_hand.keep(drawn)),)))
    assert made.tobytes() == same.tobytes()
    with pytest.raises(BadRecipe) as raised:
        engine.run(recipe(controls=asked.controls), around.ctx)
    assert raised.value.problem.field == "depth_with"
    # the details of a controlled picture are painted without its controls
    both = tiny.Around(tmp_path / "both", cards=[network, depth, *detectors.values()])
    detail = Detail(detectors["bright"].id, grow=6, strength=0.8)
    both.keep(scene())
    again = run(engine, both, recipe(controls=asked.controls, depth_with=depth.id, details=(detail,)))
    (found,) = finding.open_detector(detectors["bright"], "cpu", 1, around.ctx).find(made, 0.3, around.ctx)
    mask = finding.mask_of(found.box, 6, made.size)
    assert mask is not None
    box = mask.getbbox()
    assert box is not None
    assert again.tobytes() == repainted(engine, tmp_path, "hand", made, box, strength=0.8, mask_blur=4).tobytes()
