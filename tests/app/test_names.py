"""What recipes name is found when they are submitted: pictures are kept, additions become cards; others are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from studio.app.fit import fitted
from studio.app.names import Names
from studio.core.cards import ModelCard
from studio.core.named import names_in
from studio.core.paths import Paths
from studio.core.problems import BadRecipe, ModelMissing, ModelUnfit, NotFound, StudioError
from studio.core.recipes import Control, Detail, EditRecipe, ImageRecipe, Lora, Margins, Reference
from studio.library.inputs import Inputs

MODEL = ModelCard(id="m", name="Model", kind="image", engine="image.diffusers", path="", format="", base="sd1")


def addition(kind: str, name: str, base: str = "") -> ModelCard:
    return ModelCard(id=f"{name}-id", name=name, kind=kind, engine="image.diffusers", path="", format="", base=base)


CARDS = [
    addition("lora", "soft", "sd1"), addition("lora", "big", "sdxl"), addition("control", "edges", "sd1"),
    addition("vae", "clear"), addition("embedding", "bad"), addition("reference", "style", "sd1"),
    addition("upscale", "four"), addition("detector", "faces"), addition("depth", "near"), addition("depth", "far"),
]  # fmt: skip


@pytest.fixture
def names(paths: Paths) -> Names:
    def choose(kind: str, name: str) -> ModelCard:
        for card in CARDS:
            if card.kind == kind and name in (card.id, card.name, ""):
                return card
        raise ModelMissing(f"There is no “{name}”.")

    def work(name: str) -> Any:
        raise NotFound("none")

    return Names(Inputs(paths), choose, work, lambda work: Path(), lambda name: choose("dataset", name))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_every_name_becomes_durable_and_the_cards_come_along(names: Names, photo: Path) -> None:
    recipe = ImageRecipe(
        prompt="x", image=str(photo), mask=str(photo), loras=(Lora("soft", 0.5), Lora("soft-id")), vae="clear",
        controls=(Control("edges", str(photo), filter="canny"),), references=(Reference("style", str(photo)),),
        embeddings=("bad",), enlarge_with="four", enlarge=2.0, extend=Margins(left=8),
    )  # fmt: skip
    found, cards = names.resolved(recipe, MODEL)
    assert found.image == found.mask == found.controls[0].image == found.references[0].image
    assert found.image.endswith(".png")
    assert [lora.model for lora in found.loras] == ["soft-id", "soft-id"]
    assert (found.vae, found.embeddings, found.enlarge_with) == ("clear-id", ("bad-id",), "four-id")
    assert set(cards) == {"soft-id", "edges-id", "clear-id", "bad-id", "style-id", "four-id"}
    assert found.loras[0].weight == 0.5
    assert found.extend == Margins(left=8)
    again, _ = names.resolved(found, MODEL)
    assert again == found, "what is durable stays as it is"
    assert [named.refers for named in names_in(found)].count("picture") == 4


def test_a_recipe_that_names_nothing_is_left_alone(names: Names) -> None:
    recipe = ImageRecipe(prompt="x")
    assert names.resolved(recipe, MODEL) == (recipe, {})
    assert names_in(recipe) == []


@pytest.mark.parametrize(
    ("given", "field", "error"),
    [
        ({"image": "/nowhere.png"}, "image", BadRecipe),
        ({"image": "0" * 40 + ".png"}, "image", NotFound),
        ({"loras": (Lora("gone"),)}, "loras", ModelMissing),
        ({"loras": (Lora("big"),)}, "loras", ModelUnfit),
        ({"controls": (Control("edges", "/nowhere.png"),)}, "controls", BadRecipe),
    ],
)
def test_what_is_not_there_is_said_beside_its_field(
    given: dict[str, Any], field: str, error: type[StudioError], names: Names
) -> None:
    with pytest.raises(error) as raised:
        names.resolved(ImageRecipe(prompt="x", **given), MODEL)
    assert raised.value.problem.field == field


def test_a_lora_for_another_base_is_refused_with_both_names(names: Names) -> None:
    with pytest.raises(ModelUnfit, match="SDXL") as raised:
        names.resolved(ImageRecipe(prompt="x", loras=(Lora("big"),)), MODEL)
    assert "“Model”" in raised.value.problem.sentence
    anything = msgspec.structs.replace(MODEL, base="")
    names.resolved(ImageRecipe(prompt="x", loras=(Lora("big"),)), anything)


def test_detectors_of_details_become_ids(names: Names, photo: Path) -> None:
    recipe = ImageRecipe(prompt="x", details=(Detail("faces", 0.5, prompt="faces"), Detail("faces-id")))
    found, cards = names.resolved(recipe, MODEL)
    assert found.details == (Detail("faces-id", 0.5, prompt="faces"), Detail("faces-id"))
    assert set(cards) == {"faces-id"}
    with pytest.raises(ModelMissing) as raised:
        names.resolved(ImageRecipe(prompt="x", details=(Detail("gone"),)), MODEL)
    assert raised.value.problem.field == "details"


def test_a_filter_that_takes_a_model_gets_the_first_there_is_and_no_other_does(names: Names, photo: Path) -> None:
    def controlled(filter: str, **more: str) -> ImageRecipe:
        return ImageRecipe(prompt="x", controls=(Control("edges", str(photo), filter=filter),), **more)  # type: ignore[arg-type]

    found, cards = names.resolved(controlled("depth"), MODEL)
    assert (found.depth_with, found.pose_with) == ("near-id", "")
    assert set(cards) == {"edges-id", "near-id"}
    assert names.resolved(controlled("depth", depth_with="far"), MODEL)[0].depth_with == "far-id"
    unused = names.resolved(controlled("canny", depth_with="gone", people_with="faces"), MODEL)[0]
    assert (unused.depth_with, unused.people_with) == ("", "")
    with pytest.raises(ModelMissing, match="“pose” needs a pose model") as raised:
        names.resolved(controlled("pose", people_with="faces"), MODEL)
    assert raised.value.problem.field == "pose_with"


def test_a_changed_picture_is_called_like_what_it_was_made_of(names: Names, photo: Path) -> None:
    found, _ = names.resolved(EditRecipe(image=str(photo)), MODEL)
    assert found.title == "photo"
    assert names.resolved(found, MODEL)[0].title == "photo"


@pytest.mark.parametrize(
    ("given", "can", "field"),
    [
        ({"image": "x"}, ("picture",), "image"),
        ({"image": "x", "mask": "y"}, ("picture", "from_picture"), "mask"),
        ({"loras": (Lora("soft"),)}, ("picture",), "loras"),
        ({"enlarge": 2.0}, ("picture",), "enlarge"),
        ({}, ("into_picture",), "image"),
        ({"details": (Detail("faces"),)}, ("picture", "from_picture"), "details"),
    ],
)
def test_what_a_model_cannot_do_is_refused_rather_than_left_out(given: Any, can: Any, field: str) -> None:
    card = msgspec.structs.replace(MODEL, can=can)
    with pytest.raises(ModelUnfit) as raised:
        fitted(ImageRecipe(prompt="x", **given), card)
    assert raised.value.problem.field == field


def test_an_inpainting_model_takes_a_picture_with_a_mask() -> None:
    card = msgspec.structs.replace(MODEL, can=("into_picture",))
    assert fitted(ImageRecipe(prompt="x", image="a", mask="b"), card).seed is not None


def test_only_details_want_a_picture_and_a_detector() -> None:
    card = msgspec.structs.replace(MODEL, can=("into_picture",))
    details = (Detail("faces"),)
    assert fitted(ImageRecipe(prompt="x", image="a", details=details, details_only=True), card).details == details
    for given, field in (({"details": details}, "image"), ({"image": "a"}, "details")):
        with pytest.raises(BadRecipe) as raised:
            fitted(ImageRecipe(prompt="x", details_only=True, **given), MODEL)  # type: ignore[arg-type]
        assert raised.value.problem.field == field


def test_the_size_of_a_picture_to_begin_from_is_left_to_it() -> None:
    card = msgspec.structs.replace(MODEL, limits=msgspec.structs.replace(MODEL.limits, width=512, height=512))
    assert fitted(ImageRecipe(prompt="x", image="a"), card).width is None
    assert fitted(ImageRecipe(prompt="x"), card).width == 512
    assert fitted(ImageRecipe(prompt="x", image="a", mask="b", mask_area="mask"), card).width == 512
    assert fitted(ImageRecipe(prompt="x", variation=0.3), card).variation_seed is not None
