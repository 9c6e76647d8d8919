"""Grids: how values are written, which recipes come of them, and in which order they are made."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.core.declare import fields
from studio.core.grids import (
    GRID_LIMIT,
    ORDER,
    SEARCH,
    Axis,
    cells,
    check_size,
    choosable,
    chosen,
    labels,
    parse_values,
    write_values,
)
from studio.core.problems import BadRecipe
from studio.core.recipes import ImageRecipe, Lora, recheck

BASE = ImageRecipe(prompt="a red cat and a dog", seed=7, count=5)


@pytest.mark.parametrize(
    ("field", "text", "values"),
    [
        ("steps", "1, 2,3", (1, 2, 3)),
        ("steps", "1-5", (1, 2, 3, 4, 5)),
        ("steps", "1-9 (+4)", (1, 5, 9)),
        ("steps", "10-5 (-3)", (10, 7)),
        ("steps", "5-2", (5, 4, 3, 2)),
        ("steps", "1-10 [4]", (1, 4, 7, 10)),
        ("steps", "3, 3, 3", (3,)),
        ("guidance", "0.2-1.0 [5]", (0.2, 0.4, 0.6, 0.8, 1.0)),
        ("guidance", "1-2 (+0.5)", (1.0, 1.5, 2.0)),
        ("scheduler", "Euler a, DDIM", ("euler_a", "ddim")),
        ("sampler", "dpmpp 2m", ("dpmpp_2m",)),
        ("cfg", "7.5", (7.5,)),
        ("loras.0.weight", "-1-1 (+1)", (-1.0, 0.0, 1.0)),
        ("extend.left", "0, 64", (0, 64)),
        ("prompt", '"a cat, sitting", "say ""hi"""\na dog', ("a cat, sitting", 'say "hi"', "a dog")),
        (SEARCH, 'cat, dog, "", ox', ("cat", "dog", "", "ox")),
        (ORDER, "cat, dog", (("cat", "dog"), ("dog", "cat"))),
    ],
)
def test_values_are_read_as_people_write_them(field: str, text: str, values: tuple[Any, ...]) -> None:
    assert parse_values(field, text) == values


@pytest.mark.parametrize(
    ("field", "text", "part"),
    [
        ("steps", "", "no values"),
        ("steps", "0", "whole number"),
        ("steps", "1, abc", "abc"),
        ("steps", "1.5", "whole number"),
        ("steps", "1-5 (-1)", "does not lead"),
        ("steps", "1-5 (0)", "does not lead"),
        ("steps", "1-1000000", "at most"),
        ("steps", "1-9 [0]", "it is 0"),
        ("guidance", "nan", "number"),
        ("guidance", "1e400", "number"),
        ("scheduler", "nothing", "must be one of"),
        ("prompt", '"open', "not closed"),
        (ORDER, ", ".join("abcdefgh"), "too many orders"),
        ("colour", "1", "nothing a grid can change"),
        ("loras", "1", "as a whole"),
        ("count", "1", "nothing a grid can change"),
        ("loras.0.model.x", "1", "nothing a grid can change"),
        ("embeddings", "x", "no single value"),
    ],
)
def test_what_makes_no_sense_is_said(field: str, text: str, part: str) -> None:
    with pytest.raises(BadRecipe, match=part):
        parse_values(field, text)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([f.name for f in fields(ImageRecipe)]), st.text(max_size=60))
def test_any_text_is_values_that_fit_or_a_sentence(field: str, text: str) -> None:
    try:
        values = parse_values(field, text)
    except BadRecipe:
        return
    what = chosen(field)
    assert 0 < len(values) <= GRID_LIMIT
    assert len(labels(Axis(field, values))) == len(values)
    if what.declared is not None and what.declared.type in ("int", "float"):
        assert all(what.declared.low <= value <= what.declared.high for value in values)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20), min_size=1, max_size=6))
def test_what_is_written_is_read_back(words: list[str]) -> None:
    words = [word for word in dict.fromkeys(words) if word.strip()]
    if words and max(map(len, words)) <= 256:
        assert parse_values("negative", write_values(words)) == tuple(words)


def test_every_combination_is_a_cell_with_the_seed_of_the_recipe() -> None:
    made = cells(BASE, Axis("steps", (1, 2, 3)), Axis("guidance", (2.0, 4.0)), Axis("seed", (5, 6)))
    assert len(made) == 12
    places = {cell.at: cell for cell in made}
    assert set(places) == set(itertools.product(range(3), range(2), range(2)))
    last = places[2, 1, 0]
    assert (last.recipe.steps, last.recipe.guidance, last.recipe.seed, last.recipe.count) == (3, 4.0, 5, 1)
    assert last.labels == ("Steps 3", "Guidance 4", "Seed 5")
    assert {cell.recipe.seed for cell in cells(BASE, Axis("steps", (1, 2)))} == {7}
    assert all(recheck(cell.recipe).recipe == cell.recipe for cell in made)


def test_what_is_dear_to_change_is_changed_last() -> None:
    base = ImageRecipe(prompt="x", loras=(Lora("soft"),))
    made = cells(base, Axis("model", ("a", "b")), Axis("loras.0.model", ("soft", "hard")), Axis("steps", (1, 2)))
    order = [(cell.recipe.model, cell.recipe.loras[0].model, cell.recipe.steps) for cell in made]
    assert [model for model, _ in itertools.groupby(order, lambda o: o[0])] == ["a", "b"]
    assert len([1 for _ in itertools.groupby(order, lambda o: o[:2])]) == 4


def test_words_of_the_prompt_are_replaced_and_put_in_other_orders() -> None:
    replaced = cells(BASE, Axis(SEARCH, ("red cat", "blue owl", "")))
    assert [cell.recipe.prompt for cell in replaced] == ["a red cat and a dog", "a blue owl and a dog", "a  and a dog"]
    turned = cells(BASE, Axis(ORDER, (("cat", "dog"), ("dog", "cat"))))
    assert [cell.recipe.prompt for cell in turned] == ["a red cat and a dog", "a red dog and a cat"]
    both = cells(BASE, Axis("prompt", ("one cat", "two cat")), Axis(SEARCH, ("cat", "ox")))
    assert sorted(cell.recipe.prompt for cell in both) == ["one cat", "one ox", "two cat", "two ox"]


@pytest.mark.parametrize(
    ("axes", "part"),
    [
        ((Axis(SEARCH, ("bird", "x")),), "not in the prompt"),
        ((Axis(ORDER, (("cat", "bird"), ("bird", "cat"))),), "not in the prompt"),
        ((Axis("loras.0.weight", (1.0,)),), "no LoRA"),
        ((Axis("steps", (1,)), Axis("steps", (2,))), "Two axes"),
        ((Axis("steps", ()),), "no values"),
        ((Axis("steps", tuple(range(1, 101))), Axis("guidance", tuple(float(i) for i in range(11)))), "at most"),
        ((Axis("prompt", ("",)),), "empty"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(axes: tuple[Axis, ...], part: str) -> None:
    with pytest.raises(BadRecipe, match=part):
        cells(BASE, *axes)


def test_margins_and_loras_that_the_recipe_has_can_be_axes() -> None:
    base = ImageRecipe(prompt="x", image="p.png", loras=(Lora("soft", 0.5), Lora("hard")))
    made = cells(base, Axis("extend.left", (0, 64)), Axis("loras.1.weight", (0.2, 0.9)))
    by_place = {cell.at[:2]: cell.recipe for cell in made}
    assert by_place[0, 0].extend is None
    assert by_place[1, 1].extend is not None
    assert by_place[1, 1].extend.left == 64
    assert [lora.weight for lora in by_place[1, 1].loras] == [0.5, 0.9]
    names = {what.name for what in choosable({"loras": 2})}
    assert {"steps", "loras.1.weight", "extend.left", SEARCH, ORDER} <= names
    assert "loras.2.weight" not in names
    assert check_size(Axis("steps", (1, 2)), None, Axis("seed", (1, 2, 3))) == 6
