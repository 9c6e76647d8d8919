"""Declarations: what a person can set, said once in the annotation of a struct's field.

Recipes and settings are declared with `about`; forms, flags, documents and checks read them through `fields`.
"""

from __future__ import annotations

import functools
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta


def about(
    title: str,
    help: str,
    *,
    unit: str = "",
    group: str = "main",
    multiline: bool = False,
    refers: str = "",
    needs: str = "",
    **limits: Any,
) -> Meta:
    """A declaration.

    Args:
        unit: shown beside the value.
        group: "main", or the name of the fold it lies in, one of GROUPS.
        refers: what a text names: "picture" for a kept input picture, or a kind of ModelCard; empty for plain text.
        needs: the capability a model must have for the value to count, or several of which one will do, with “|”
            between them; empty where every model has it.
    """
    extra = {"unit": unit, "group": group, "multiline": multiline, "refers": refers, "needs": needs}
    return Meta(title=title, description=help, extra=extra, **limits)


# Folds of a form, in order, with their titles.
GROUPS = {
    "start": "Start from a picture",
    "additions": "LoRAs and additions",
    "control": "Control by pictures",
    "second": "Second pass",
    "columns": "Columns",
    "clean": "Cleaning",
    "split": "Splitting and counting",
    "balance": "Groups and balance",
    "adapter": "Adapter",
    "scratch": "A new model",
    "learning": "How it learns",
    "watch": "How it is watched",
    "advanced": "Advanced",
}


StructType = type[msgspec.Struct]


class Field(msgspec.Struct, frozen=True):
    """One declared parameter, as forms, flags and documents read it.

    Attributes:
        type: "str", "int", "float", "bool", "choice", "choices" (some of several), "strings", "struct", "structs" (a
            list of them) or "other".
        group, refers, needs: see `about`.
        optional: None is allowed and means "the model's own" or "pick one".
        low, high: inclusive limits, or None. For "str" the limits of its length, for a list that of its entries.
        item: the struct of "struct" and "structs".
    """

    name: str
    type: str
    default: Any
    title: str
    help: str
    unit: str = ""
    group: str = "main"
    multiline: bool = False
    optional: bool = False
    required: bool = False
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    refers: str = ""
    needs: str = ""
    item: StructType | None = None

    def suits(self, can: tuple[str, ...]) -> bool:
        """Whether a value counts with a model that can do this; of one of which nothing is known, everything does."""
        return not self.needs or not can or any(need in can for need in self.needs.split("|"))


@functools.cache
def fields(recipe: type[msgspec.Struct]) -> tuple[Field, ...]:
    """The declared parameters of a recipe (or of the settings), in order of declaration."""
    info = msgspec.inspect.type_info(recipe)
    assert isinstance(info, msgspec.inspect.StructType)
    hints = get_type_hints(recipe, include_extras=True)
    found = []
    for field in info.fields:
        kind = field.type
        if not isinstance(kind, msgspec.inspect.Metadata):
            continue  # not declared with about: not for people
        schema, extra, kind = kind.extra_json_schema or {}, kind.extra or {}, kind.type
        options = kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
        optional = any(isinstance(o, msgspec.inspect.NoneType) for o in options)
        inner = next(o for o in options if not isinstance(o, msgspec.inspect.NoneType))
        inner = inner.type if isinstance(inner, msgspec.inspect.Metadata) else inner
        found.append(
            Field(
                name=field.name,
                type=_plain_type(inner),
                default=None if field.required else _default(field),
                title=schema.get("title", field.name),
                help=schema.get("description", ""),
                unit=extra.get("unit", ""),
                group=extra.get("group", "main"),
                multiline=extra.get("multiline", False),
                optional=optional,
                required=field.required,
                low=_first(inner, "ge", "gt", "min_length"),
                high=_high(inner),
                # from the annotation: msgspec sorts the values, people want them as declared
                choices=_choices(hints[field.name]) if _plain_type(inner) in ("choice", "choices") else (),
                refers=extra.get("refers", ""),
                needs=extra.get("needs", ""),
                item=_item(inner),
            )
        )
    return tuple(found)


def _default(field: msgspec.inspect.Field) -> Any:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def _plain_type(kind: msgspec.inspect.Type) -> str:
    names = {
        msgspec.inspect.StrType: "str",
        msgspec.inspect.IntType: "int",
        msgspec.inspect.FloatType: "float",
        msgspec.inspect.BoolType: "bool",
        msgspec.inspect.LiteralType: "choice",
        msgspec.inspect.StructType: "struct",
    }
    if isinstance(kind, msgspec.inspect.VarTupleType):
        one = kind.item_type.type if isinstance(kind.item_type, msgspec.inspect.Metadata) else kind.item_type
        lists = {
            msgspec.inspect.StrType: "strings", msgspec.inspect.StructType: "structs",
            msgspec.inspect.LiteralType: "choices",
        }  # fmt: skip
        return lists.get(type(one), "other")
    return names.get(type(kind), "other")


def _choices(hint: Any) -> tuple[str, ...]:
    """The values of Annotated[Literal[…], …], or of Annotated[tuple[Literal[…], ...], …]."""
    inner = get_args(hint)[0]
    return get_args(get_args(inner)[0]) if get_origin(inner) is tuple else get_args(inner)


def _item(kind: msgspec.inspect.Type) -> type[msgspec.Struct] | None:
    inner = kind.item_type if isinstance(kind, msgspec.inspect.VarTupleType) else kind
    return inner.cls if isinstance(inner, msgspec.inspect.StructType) else None


def _first(kind: Any, *names: str) -> float | None:
    return next((v for n in names if (v := getattr(kind, n, None)) is not None), None)


def _high(kind: Any) -> float | None:
    below = getattr(kind, "lt", None)
    return below - 1 if below is not None else _first(kind, "le", "max_length")


def explain(field: Field, value: Any) -> str:
    """One sentence that says what a field takes and what was given."""
    unit = f" {field.unit}" if field.unit else ""
    got = f"{len(value):,} characters" if field.type == "str" and isinstance(value, str) else repr(value)[:60]
    if field.type == "choice":
        return f"{field.title} must be one of {', '.join(field.choices)}; got {got}."
    if field.type == "choices":
        return f"{field.title} must be some of {', '.join(field.choices)}; got {got}."
    if field.type == "str" and isinstance(value, str) and field.high is not None:
        return f"{field.title} may have at most {int(field.high):,} characters; got {got}."
    if field.type == "str":
        return f"{field.title} must be text; got {got}."
    if field.type == "strings" and field.high is not None:
        return f"{field.title} must be a list of at most {int(field.high)} short texts, none of them empty."
    if field.type in ("int", "float") and field.low is not None and field.high is not None:
        kind = "a whole number" if field.type == "int" else "a number"
        return f"{field.title} must be {kind} from {field.low:,g} to {field.high:,.10g}{unit}; got {got}."
    return f"{field.title} cannot be {got}."
