"""Names for many exports at once: what is in braces is replaced, and what comes out is a name on every system."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.core.problems import BadRecipe
from studio.core.recipes import EditRecipe, ImageRecipe
from studio.core.text import file_stem
from studio.core.works import Work
from studio.library.exports.naming import PLACES, named
from studio.library.exports.target import check_place

ZONE = timezone(timedelta(hours=2))


def a_work(**more: Any) -> Work:
    values: dict[str, Any] = {
        "id": "w7", "seq": 1, "job": "j1", "index": 0, "kind": "image", "title": "Ein Zügli, rot!",
        "created": "2026-11-24T23:05:09Z", "recipe": ImageRecipe(prompt="x", seed=42, model="starter-image"),
        "assets": (), "meta": {"width": 640, "height": 480},
    }  # fmt: skip
    return Work(**values | more)


def name(pattern: str, work: Work | None = None, number: int = 7, ending: str = "") -> str:
    return named(pattern, work or a_work(), number, ending, zone=ZONE)


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("{title}", "ein-zügli-rot"),
        ("{seed}", "42"),
        ("{model}", "starter-image"),
        ("{date}", "2026-11-25"),  # two hours further east it is the next day
        ("{time}", "01-05-09"),
        ("{n}", "007"),
        ("{id}", "w7"),
        ("{width}x{height}", "640x480"),
        ("My picture {n} of {title}", "My picture 007 of ein-zügli-rot"),
        ("{ Title }_{N}", "ein-zügli-rot_007"),
        ("plain", "plain"),
        ("{title}.{n}", "ein-zügli-rot.007"),
        ("a/b\\c:{n}", "a-b-c-007"),
        ("../{n}", "007"),
        ("-rf {n}", "rf 007"),
        ("{n}. ", "007"),
        ("con", "untitled-con"),
        ("NUL.{n}", "untitled-NUL.007"),
        ("untitled", "untitled"),
        ("\x00\x1b[31m{n}", "007"),
        ("💥", "untitled"),
        ("a\u202eb", "a-b"),
    ],
)
def test_a_pattern_becomes_a_name(pattern: str, wanted: str) -> None:
    assert name(pattern) == wanted
    assert name(pattern, ending=".png") == f"{wanted}.png"


@pytest.mark.parametrize("pattern", ["{prompt}", "{}", "{0}", "{title!r}", "{title.__class__}", "{n:03}", "{title[0]}"])
def test_anything_else_in_braces_is_told(pattern: str) -> None:
    with pytest.raises(BadRecipe, match="has no meaning in a name") as caught:
        name(pattern)
    assert "{title}" in caught.value.problem.hint


@pytest.mark.parametrize("pattern", ["{title", "title}", "{{title}}", "{a{n}"])
def test_a_lone_brace_is_told(pattern: str) -> None:
    with pytest.raises(BadRecipe, match="has no partner"):
        name(pattern)


@pytest.mark.parametrize("pattern", ["", "  ", "x" * 257])
def test_a_pattern_has_to_be_there_and_to_be_short(pattern: str) -> None:
    with pytest.raises(BadRecipe):
        name(pattern)


def test_braces_in_a_title_are_no_pattern() -> None:
    assert name("{title}", a_work(title="{seed} {0.__class__}")) == "seed-0-class"


def test_what_a_work_does_not_have_is_left_out() -> None:
    work = a_work(recipe=EditRecipe(image="in"), meta={}, created="yesterday", title="")
    assert name("{title}{seed}{model}{date}{time}{width}-{n}", work) == "007"
    assert name("{seed}", work) == "untitled"


@given(pattern=st.text(max_size=60), title=st.text(max_size=300), number=st.integers(0, 10**9))
def test_whatever_is_asked_comes_out_as_a_name_or_a_sentence(pattern: str, title: str, number: int) -> None:
    try:
        made = named(pattern, a_work(title=title), number, ".png", zone=ZONE)
    except BadRecipe:
        return
    assert made.endswith(".png")
    assert made == made.strip(" ")
    assert made[0] not in ".-"
    assert not set(made) & set('/\\:*?"<>|{}')
    assert made.isprintable()
    assert len(made.encode()) <= 200


def test_every_name_can_be_a_file_on_windows(tmp_path: Any) -> None:
    for pattern in (*(f"{{{place}}}" for place in PLACES), "aux", "com1.{n}", "a:b", "x?"):
        check_place(str(tmp_path / name(pattern, ending=".png")), False, windows=True)
    assert file_stem("con") == "untitled-con"
