"""What is decided of data sets, trainings and evaluations before they are queued."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from studio.app.learning import CARDS, anew, begun, titled
from studio.core.cards import ModelCard
from studio.core.learning import (
    DatasetRecipe,
    EvaluateTextRecipe,
    Range,
    SearchRecipe,
    TrainImageRecipe,
    TrainTextRecipe,
)
from studio.core.problems import BadRecipe, ModelMissing
from studio.core.recipes import RECIPES, Recipe, TextRecipe

BASE = ModelCard(id="small", name="Small", kind="text", engine="text.transformers", path="", format="transformers")
TALES = ModelCard(id="tales-0123456789ab", name="tales", kind="dataset", engine="", path="", format="text")
CARDS_GIVEN = {card.id: card for card in (BASE, TALES)}


def decided(recipe: Recipe) -> Recipe:
    return begun(recipe, lambda kind: msgspec.structs.replace(BASE, id=f"usual-{kind}"), lambda: "r1")


def test_every_kind_of_learning_has_an_engine_of_its_own() -> None:
    assert all(kind in RECIPES and card.kind == kind for kind, card in CARDS.items())
    assert len({card.engine for card in CARDS.values()}) == len(CARDS)


def test_a_training_without_a_base_takes_the_usual_model_and_one_from_scratch_takes_none() -> None:
    assert decided(TrainTextRecipe(data="tales")).model == "usual-text"  # type: ignore[union-attr]
    assert decided(TrainImageRecipe(data="tales")).model == "usual-image"  # type: ignore[union-attr]
    assert decided(TrainTextRecipe(data="tales", model="mine")).model == "mine"  # type: ignore[union-attr]
    assert decided(TrainTextRecipe(data="tales", method="scratch")).model == ""  # type: ignore[union-attr]


def test_a_run_is_named_once_so_that_what_is_begun_again_goes_on() -> None:
    first = decided(TrainTextRecipe(data="tales"))
    assert first.run == "r1"  # type: ignore[union-attr]
    again = begun(first, lambda kind: BASE, lambda: "r2")
    assert again.run == "r1"  # type: ignore[union-attr]
    assert anew(first).run == ""  # type: ignore[union-attr]
    words = TextRecipe(prompt="x")
    assert anew(words) is words and decided(words) is words


def test_the_training_inside_of_a_search_is_decided_too_and_has_no_run_of_its_own() -> None:
    search = decided(SearchRecipe(training=TrainTextRecipe(data="tales"), over=(Range("rate", 1e-5, 1e-3),)))
    assert isinstance(search, SearchRecipe)
    assert (search.training.model, search.training.run, search.run) == ("usual-text", "", "r1")


@pytest.mark.parametrize(
    ("recipe", "field"),
    [
        (DatasetRecipe(sources=()), "sources"),
        (TrainTextRecipe(data=""), "data"),
        (TrainImageRecipe(data="tales", method="dreambooth"), "subject"),
    ],
    ids=["no sources", "no data", "no subject"],
)
def test_what_cannot_be_guessed_is_asked_for_beside_its_field(recipe: Recipe, field: str) -> None:
    with pytest.raises(BadRecipe) as caught:
        decided(recipe)
    assert caught.value.problem.field == field
    assert caught.value.problem.sentence.endswith(".")


def test_no_model_to_go_on_from_is_said() -> None:
    def none(kind: str) -> ModelCard:
        raise ModelMissing("There is no text model.")

    with pytest.raises(ModelMissing):
        begun(TrainTextRecipe(data="tales"), none, lambda: "r1")


def test_sources_are_absolute_because_a_worker_lives_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    found = decided(DatasetRecipe(sources=("book.txt", "/data/more")))
    assert found.sources == (str(tmp_path / "book.txt"), "/data/more")  # type: ignore[union-attr]


def test_results_are_called_after_what_they_are_made_of() -> None:
    def title(recipe: Recipe) -> str:
        return titled(recipe, CARDS_GIVEN).title  # type: ignore[union-attr]

    assert title(DatasetRecipe(sources=("/x/fairy tales.txt",))) == "fairy tales"
    assert title(TrainTextRecipe(data=TALES.id, model=BASE.id)) == "Small · tales"
    assert title(TrainTextRecipe(data=TALES.id, method="scratch")) == "New model · tales"
    assert title(TrainTextRecipe(data=TALES.id, name="Storyteller")) == "Storyteller"
    assert title(EvaluateTextRecipe(models=(BASE.id,), data=TALES.id)) == "Small · tales"
    assert title(EvaluateTextRecipe()) == "Texts"
    assert title(msgspec.structs.replace(TrainTextRecipe(data=TALES.id), title="Kept")) == "Kept"
    search = titled(SearchRecipe(training=TrainTextRecipe(data=TALES.id, model=BASE.id), over=()), CARDS_GIVEN)
    assert isinstance(search, SearchRecipe)
    assert (search.title, search.training.name) == ("Search: Small · tales", "Small · tales")
