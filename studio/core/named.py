"""What a recipe names besides its own model: pictures and additions, found by their declarations. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from studio.core.declare import fields

S = TypeVar("S", bound=msgspec.Struct)


class Named(msgspec.Struct, frozen=True):
    """One name in a recipe.

    Attributes:
        refers: "picture", or a kind of ModelCard.
        value: the name.
        field: where it stands, as problems name it: the field of the recipe, also for what lies deeper.
    """

    refers: str
    value: str
    field: str


def names_in(recipe: msgspec.Struct) -> list[Named]:
    """Every picture and addition that a recipe names, in the order of declaration; empty names are left out."""
    found: list[Named] = []

    def keep(named: Named) -> str:
        found.append(named)
        return named.value

    renamed(recipe, keep)
    return found


def renamed(recipe: S, name: Callable[[Named], str]) -> S:
    """The recipe with each name replaced by what `name` says; empty names stay empty."""
    return _walked(recipe, name, "")


def _walked(struct: S, name: Callable[[Named], str], within: str) -> S:
    changes: dict[str, Any] = {}
    for field in fields(type(struct)):
        value, place = getattr(struct, field.name), within or field.name
        if not value:
            continue
        if field.refers:
            values = (value,) if isinstance(value, str) else value
            new = tuple(name(Named(field.refers, each, place)) for each in values)
            changes[field.name] = new[0] if isinstance(value, str) else new
        elif field.type == "struct":
            changes[field.name] = _walked(value, name, place)
        elif field.type == "structs":
            changes[field.name] = tuple(_walked(each, name, place) for each in value)
    changed = {key: value for key, value in changes.items() if value != getattr(struct, key)}
    return msgspec.structs.replace(struct, **changed) if changed else struct
