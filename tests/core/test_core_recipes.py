"""Recipes: what is declared, what is refused, and how that is said."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.core.declare import GROUPS
from studio.core.problems import BadRecipe
from studio.core.recipes import (
    COUNT_FIELD,
    MODEL_FIELD,
    RECIPES,
    SCHEDULERS,
    SEED_LIMIT,
    WORDS,
    ExportRecipe,
    ImageRecipe,
    Recipe,
    TextRecipe,
    check,
    fields,
    kind_of,
    model_of,
    recheck,
    words_of,
)

LEAST: dict[str, dict[str, Any]] = {
    "text": {"prompt": "words"},
    "image": {"prompt": "words"},
    "speech": {"text": "words"},
    "edit": {"image": "w1"},
    "upscale": {"image": "w1"},
    "cutout": {"image": "w1"},
    "sheet": {},
    "export": {"work": "w1", "to": "x.png"},
    "dataset": {"sources": ["x.txt"]},
    "train-text": {"data": "d"},
    "train-image": {"data": "d"},
    "search": {"training": {"kind": "train-text", "data": "d"}, "over": [{"field": "rate", "low": 0.1, "high": 1.0}]},
    "convert": {},
    "evaluate-text": {},
    "evaluate-image": {},
    "evaluate-speech": {},
}
# what the program fills in, not a person in a form
NOT_SHOWN = {"made_with", "title", "run", "training", "plan_only", "preview_only"}

EVERY = [(kind, field) for kind in RECIPES for field in fields(RECIPES[kind])]
NUMBERS = [(kind, field) for kind, field in EVERY if field.type in ("int", "float")]


def named(pair: tuple[str, Any]) -> str:
    return f"{pair[0]}.{pair[1].name}"


def problem(kind: str, **given: Any) -> Any:
    with pytest.raises(BadRecipe) as caught:
        check(kind, {**LEAST[kind], **given})
    found = caught.value.problem
    found.sentence.encode("utf-8")
    assert found.sentence.endswith(".")
    assert found.sentence.isprintable()
    return found


@pytest.mark.parametrize("kind", RECIPES)
def test_every_field_is_declared_but_those_the_program_fills_in(kind: str):
    filled_in = {"made_with", "work", "to"} if kind == "export" else NOT_SHOWN
    every = {f.name for f in msgspec.structs.fields(RECIPES[kind])}
    assert {f.name for f in fields(RECIPES[kind])} == every - filled_in


@pytest.mark.parametrize(("kind", "field"), EVERY, ids=map(named, EVERY))
def test_every_declaration_has_a_title_and_a_help_sentence(kind: str, field: Any):
    assert field.title
    assert field.title != field.name
    assert field.title[0].isupper()
    assert len(field.help) > 10
    assert field.help.endswith(".") or field.help.endswith("…")
    assert field.group in ("main", *GROUPS)


@pytest.mark.parametrize(("kind", "field"), EVERY, ids=map(named, EVERY))
def test_every_default_passes_its_own_limits(kind: str, field: Any):
    if field.required:
        return
    recipe = check(kind, {**LEAST[kind], field.name: msgspec.to_builtins(field.default)}).recipe
    assert getattr(recipe, field.name) == field.default


@pytest.mark.parametrize("kind", RECIPES)
def test_what_is_left_out_takes_its_default(kind: str):
    assert check(kind, LEAST[kind]).recipe == msgspec.convert({**LEAST[kind], "kind": kind}, RECIPES[kind])


@pytest.mark.parametrize(("kind", "field"), NUMBERS, ids=map(named, NUMBERS))
def test_a_number_may_be_at_its_limits_and_not_beyond(kind: str, field: Any):
    step = 1 if field.type == "int" else 0.001
    assert field.low is not None
    assert field.high is not None
    for value in (field.low, field.high):
        value = int(value) if field.type == "int" else float(value)
        assert getattr(check(kind, {**LEAST[kind], field.name: value}).recipe, field.name) == value
    for value in (field.low - step, field.high + step):
        found = problem(kind, **{field.name: value})
        assert found.field == field.name
        assert found.sentence.startswith(f"{field.title} must be ")
        assert field.unit in found.sentence


@pytest.mark.parametrize(("kind", "field"), NUMBERS, ids=map(named, NUMBERS))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "7", True, [], {}, 10**400, 0.5j])
def test_a_number_that_is_none_is_refused_by_name(kind: str, field: Any, value: Any):
    assert problem(kind, **{field.name: value}).field == field.name


@pytest.mark.parametrize(("kind", "field"), EVERY, ids=map(named, EVERY))
def test_a_value_of_the_wrong_type_is_refused_by_the_right_name(kind: str, field: Any):
    assert problem(kind, **{field.name: {"a": 1}}).field == field.name


def test_a_field_whose_name_begins_another_is_not_blamed_for_it():
    assert problem("text", model=5).field == "model"  # `mode` comes first
    assert problem("image", guidance_rescale=9.0).sentence.startswith("Guidance rescale must be")


def test_a_number_that_is_not_finite_is_called_so():
    # msgspec itself would say that it is outside the limits, and would let it through where there are none
    assert problem("text", temperature=math.nan).sentence == "temperature must be a number, not nan."
    assert "not inf" in problem("text", made_with={"engine": "e", "threads": math.inf}).sentence


def test_what_is_missing_is_named():
    with pytest.raises(BadRecipe) as caught:
        check("export", {"work": "w"})
    assert caught.value.problem.field == "to"
    assert problem("text", messages=[{"content": "x"}]).field == "messages"


@pytest.mark.parametrize("name", ["colour", "kind", "Prompt", "", "__class__", "\x1b[31m", "\ud800", "a\nb"])
def test_an_unknown_field_is_refused_and_shown_safely(name: str):
    with pytest.raises(BadRecipe, match="has no") as caught:
        check("text", {"prompt": "x", name: 1})
    assert caught.value.problem.sentence.isprintable()


@pytest.mark.parametrize("kind", ["video", "", "\x1b[31m\ud800"])
def test_an_unknown_kind_is_refused_with_those_there_are(kind: str):
    with pytest.raises(BadRecipe) as caught:
        check(kind, {})
    caught.value.problem.sentence.encode()
    assert "speech" in caught.value.problem.hint


@pytest.mark.parametrize("kind", WORDS)
@pytest.mark.parametrize("nothing", ["", "   ", "\n\t", "\x00\x1b[31m", None])
def test_no_words_at_all_are_refused_kindly(kind: str, nothing: str | None):
    found = problem(kind, **{WORDS[kind]: nothing})
    assert found.field == WORDS[kind]
    assert "empty" in found.sentence


def test_text_is_cleaned_on_the_way_in_and_that_is_noted():
    checked = check("text", {"prompt": "a\x00b\x1b[31mc\r\nd\ud800", "stop": ["\x07x"], "system": "\ud83d\ude00"})
    assert checked.recipe == TextRecipe(prompt="abc\nd\ufffd", stop=("x",), system="😀")
    assert any("control" in note for note in checked.notes)
    assert any("broken" in note for note in checked.notes)
    assert len(checked.notes) == len(set(checked.notes))


def test_messages_are_cleaned_too():
    recipe = check("text", {"prompt": "x", "messages": [{"role": "user", "content": "a\x00\ud800"}]}).recipe
    assert recipe.messages[0].content == "a\ufffd"


def test_a_prompt_may_be_long_but_not_endless():
    assert words_of(check("text", {"prompt": "x" * 262_144}).recipe)
    assert "262,145 characters" in problem("text", prompt="x" * 262_145).sentence


def test_endless_nesting_is_refused():
    deep: Any = "a"
    for _ in range(20_000):
        deep = [deep]
    assert "nested" in problem("text", stop=deep).sentence


@pytest.mark.parametrize("stop", [[""], ["a"] * 17, ["a" * 257], "abc", [1]])
def test_a_wrong_list_of_stops_says_what_it_takes(stop: Any):
    assert "at most 16" in problem("text", stop=stop).sentence


def test_a_seed_may_be_empty_or_any_but_the_one_that_means_random():
    assert check("image", {"prompt": "x", "seed": None}).recipe.seed is None
    assert check("image", {"prompt": "x", "seed": SEED_LIMIT - 1}).recipe.seed == SEED_LIMIT - 1
    assert problem("image", seed=SEED_LIMIT).field == "seed"
    assert problem("image", seed=-1).field == "seed"


def test_a_choice_lists_what_there_is_in_the_declared_order():
    declared = {f.name: f for f in fields(ImageRecipe)}["scheduler"]
    assert declared.choices == ("model", *SCHEDULERS)
    assert "model, ddim, ddpm" in problem("image", scheduler="zzz").sentence


def test_a_recipe_changed_behind_the_back_of_its_limits_is_caught_again():
    with pytest.raises(BadRecipe):
        recheck(msgspec.structs.replace(TextRecipe(prompt="x"), temperature=99.0))
    with pytest.raises(BadRecipe):
        recheck(TextRecipe(prompt="x", temperature=math.nan))
    recipe = ExportRecipe(work="w", to="x.png", quality=7)
    assert recheck(recipe).recipe == recipe


@pytest.mark.parametrize("kind", RECIPES)
def test_a_json_schema_can_be_made_and_holds_the_declarations(kind: str):
    schema = msgspec.json.schema(RECIPES[kind])
    body = schema["$defs"][RECIPES[kind].__name__]["properties"]
    json.dumps(schema)
    for field in fields(RECIPES[kind]):
        assert body[field.name]["title"] == field.title
        assert body[field.name]["description"] == field.help


@pytest.mark.parametrize("kind", RECIPES)
def test_a_recipe_survives_json_as_its_own_kind(kind: str):
    recipe = check(kind, LEAST[kind]).recipe
    data = msgspec.json.encode(recipe)
    assert json.loads(data)["kind"] == kind == kind_of(recipe)
    assert msgspec.json.decode(data, type=Recipe) == recipe


def test_the_tables_of_special_fields_name_real_fields():
    for table in (WORDS, MODEL_FIELD, COUNT_FIELD):
        for kind, name in table.items():
            assert name in RECIPES[kind].__struct_fields__
    assert words_of(ExportRecipe(work="w", to="t")) == ""
    assert model_of(ExportRecipe(work="w", to="t")) == ""


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([(k, n) for k in RECIPES for n in RECIPES[k].__struct_fields__]), ANYTHING)
def test_any_value_is_either_taken_and_can_be_written_or_refused_by_name(which: tuple[str, str], value: Any):
    kind, name = which
    try:
        recipe = check(kind, {**LEAST[kind], name: value}).recipe
    except BadRecipe as error:
        assert error.problem.field == name  # noqa: PT017
        error.problem.sentence.encode("utf-8")
    else:
        assert msgspec.json.decode(msgspec.json.encode(recipe), type=Recipe) == recipe
