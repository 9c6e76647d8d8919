"""Every recipe format ever written must still load, and mean what it meant.

A file here is never changed. When recipes gain fields, add a file with the new version's number.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from studio.core.recipes import RECIPES, Recipe, kind_of, recheck

FILES = sorted(Path(__file__).parent.glob("*-*.json"))


def lost(old: Any, new: Any, where: str = "recipe") -> list[str]:
    """What of `old` is missing or different in `new`; `new` may have more."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key, value in old.items()
            for line in (lost(value, new[key], f"{where}.{key}") if key in new else [f"{where}.{key} is gone"])
        ]
    return [] if old == new and type(old) is type(new) else [f"{where} was {old!r} and is {new!r}"]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_a_recipe_written_long_ago_loads_and_keeps_its_values(file: Path):
    old = json.loads(file.read_text(encoding="utf-8"))
    recipe = msgspec.json.decode(file.read_bytes(), type=Recipe)
    assert lost(old, json.loads(msgspec.json.encode(recipe))) == []


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_a_recipe_written_long_ago_is_still_within_todays_limits(file: Path):
    recipe = msgspec.json.decode(file.read_bytes(), type=Recipe)
    checked = recheck(recipe)
    assert checked.recipe == recipe
    assert checked.notes == ()


def test_every_kind_of_recipe_is_kept_here_with_its_circumstances():
    kept = [msgspec.json.decode(f.read_bytes(), type=Recipe) for f in FILES]
    assert {kind_of(r) for r in kept} == set(RECIPES)
    assert all(r.made_with is not None for r in kept)


@pytest.mark.parametrize("kind", RECIPES)
def test_some_kept_recipe_of_each_kind_sets_every_field_to_something_of_its_own(kind: str):
    """Otherwise a renamed or dropped field would go unnoticed behind its default."""
    told: set[str] = set()
    for file in FILES:
        old = json.loads(file.read_text(encoding="utf-8"))
        if old["kind"] == kind:
            defaults = {f.name: f.default for f in msgspec.structs.fields(RECIPES[kind])}
            told |= {n for n, v in old.items() if n != "kind" and repr(v) != repr(defaults.get(n))}
    assert set(RECIPES[kind].__struct_fields__) == told
