"""Grids of variations: which values a parameter is to take, and the recipes that come of it. Pure.

Values are written as A1111 writes them: `1, 2, 3`, `1-5`, `1-5 (+2)`, `10-5 (-3)`, `0.2-1.0 [5]`, words with quotation
marks around those that hold a comma. Knows declarations; knows nothing of models, jobs or pictures.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import PurePath
from typing import Any, Literal

import msgspec

from studio.core.declare import Field
from studio.core.problems import BadRecipe
from studio.core.recipes import SHEET_LIMIT, ImageRecipe, explain, fields, recheck
from studio.core.text import clean, shown

SEARCH = "prompt search and replace"
ORDER = "prompt order"
GRID_LIMIT = SHEET_LIMIT  # cells
TEXT_LIMIT = 262_144  # characters of the values of an axis
LABEL = 60  # characters

# A cell is one picture of its own, so these two mean nothing in a grid.
_NOT_IN_GRIDS = ("count", "at_once")
_ONE_VALUE = ("str", "int", "float", "bool", "choice")
# Other names of the same thing: A1111's, and short ones for the command line.
_ALSO = {
    "prompt s/r": SEARCH, "s/r": SEARCH, "search and replace": SEARCH, "replace": SEARCH, "order": ORDER,
    "cfg scale": "guidance", "cfg": "guidance", "sampler": "scheduler", "schedule type": "sigmas",
    "checkpoint": "model", "checkpoint name": "model", "negative prompt": "negative", "denoising": "strength",
    "var. seed": "variation_seed", "var. strength": "variation",
}  # fmt: skip

_QUOTE = '"'
_NUMBER = r"[+-]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})"
_RANGE = re.compile(
    rf"({_NUMBER})\s*[-–]\s*({_NUMBER})\s*(?:\(\s*({_NUMBER})\s*\)|\[\s*(\d{{1,9}})\s*\])?", re.ASCII
)  # fmt: skip


class Axis(msgspec.Struct, frozen=True):
    """One direction of a grid.

    Attributes:
        field: a declared parameter ("steps"), one inside a parameter ("loras.0.weight", "extend.left"), SEARCH (the
            first value is looked for in the prompt, and each value takes its place) or ORDER.
        values: as recipes hold them; of ORDER each is a tuple of words in one order.
    """

    field: str
    values: tuple[Any, ...]


class Cell(msgspec.Struct, frozen=True):
    """One picture of a grid.

    Attributes:
        at: column, row and block it stands in. labels: of its column, row and block, where there are several.
    """

    at: tuple[int, int, int]
    labels: tuple[str, ...]
    recipe: ImageRecipe


GroupState = Literal["making", "sheet", "finished", "cancelled", "failed"]


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """A grid that was asked for, and how far it has come.

    Attributes:
        jobs: ids of the cells' jobs: row by row, block by block. order: the same ids as they were lined up.
        ended: how many of them have ended, in whichever way.
        sheet: id of the job that makes the sheet; empty until all cells have ended.
        state: "making" the cells; making the "sheet"; the sheet is there ("finished"); it was "cancelled" before
            there was a picture, or while the sheet was made; no cell came out, or the sheet "failed".
    """

    id: str
    title: str
    created: str
    axes: tuple[Axis, ...]
    jobs: tuple[str, ...]
    order: tuple[str, ...]
    ended: int = 0
    sheet: str = ""
    state: GroupState = "making"


class Choosable(msgspec.Struct, frozen=True):
    """Something an axis can change. `declared` is None for what is done to the prompt."""

    name: str
    title: str
    help: str
    declared: Field | None = None


# -- what can be changed -----------------------------------------------------------------------------------------------


@functools.cache
def _plain() -> dict[str, Field]:
    return {f.name: f for f in fields(ImageRecipe) if f.name not in _NOT_IN_GRIDS}


_ON_PROMPT = (
    Choosable(
        SEARCH,
        "Prompt: search and replace",
        "The first text is looked for in the prompt; each of the texts is put in its place.",
    ),
    Choosable(ORDER, "Prompt: order of words", "Every order of these words, which are looked for in the prompt."),
)


def choosable(additions: Mapping[str, int] | None = None) -> tuple[Choosable, ...]:
    """What a grid can change, in the order of declaration.

    Args:
        additions: how many there are of each in the recipe: `{"loras": 2}`.
    """
    there = additions or {}
    found: list[Choosable] = []
    for field in _plain().values():
        if field.type in _ONE_VALUE:
            found.append(Choosable(field.name, field.title, field.help, field))
        if field.name == "negative":
            found += _ON_PROMPT
        if field.item is None:
            continue
        inside = [f for f in fields(field.item) if f.type in _ONE_VALUE]
        if field.type == "struct":
            places = [field.name]
        else:
            places = [f"{field.name}.{at}" for at in range(there.get(field.name, 0))]
        for place in places:
            found += [_inner(f"{place}.{f.name}") for f in inside]
    return tuple(found)


@functools.lru_cache(512)
def chosen(text: str) -> Choosable:
    """What a name means: that of a field, its title, or one that A1111 has for it.

    Raises:
        BadRecipe: nothing, or a parameter that has no single value.
    """
    name = " ".join(text.split()).casefold()
    name = _ALSO.get(name, name)
    special = next((c for c in _ON_PROMPT if name in (c.name, c.title.casefold())), None)
    if special is not None:
        return special
    if "." in name:
        return _inner(name)
    dashed = name.replace("-", "_").replace(" ", "_")
    field = next((f for f in _plain().values() if f.name == dashed or f.title.casefold() == name), None)
    if field is None:
        raise BadRecipe(f"“{shown(text)}” is nothing a grid can change.", "For example steps, guidance, seed, model.")
    if field.item is not None:
        inner = fields(field.item)[0].name
        example = f"{field.name}.{inner}" if field.type == "struct" else f"{field.name}.0.{inner}"
        raise BadRecipe(f"{field.title} as a whole cannot be changed.", f"Name a part: “{example}”.", field=field.name)
    if field.type not in _ONE_VALUE:
        raise BadRecipe(f"{field.title} has no single value to change.", field=field.name)
    return Choosable(field.name, field.title, field.help, field)


@functools.cache
def _inner(name: str) -> Choosable:
    outer, *rest = name.split(".")
    field = _plain().get(outer)
    if field is not None and field.item is not None:
        many = field.type == "structs"
        declared = next((f for f in fields(field.item) if f.name == rest[-1] and f.type in _ONE_VALUE), None)
        numbered = not many or (len(rest) == 2 and re.fullmatch(r"\d{1,2}", rest[0], re.ASCII) is not None)
        if declared is not None and numbered and len(rest) == 1 + many:
            which = f"{field.title.removesuffix('s')} {int(rest[0]) + 1}" if many else field.title
            plain = f"{outer}.{int(rest[0])}.{declared.name}" if many else name
            return Choosable(plain, f"{which}: {declared.title.lower()}", declared.help, declared)
    raise BadRecipe(f"“{shown(name)}” is nothing a grid can change.", "For example “loras.0.weight”, “extend.left”.")


# -- reading values ----------------------------------------------------------------------------------------------------


def parse_values(field: str, text: str) -> tuple[Any, ...]:
    """The values written in a text, each once, in the order in which they stand there.

    Raises:
        BadRecipe: nothing is written there, or a value does not fit the field; the problem names the field and says
            which value it is.
    """
    what = chosen(field)
    if len(text) > TEXT_LIMIT:
        raise BadRecipe(f"The values may have at most {TEXT_LIMIT:,} characters.", field=what.name)
    tokens = list(_tokens(clean(text)[0], what.name))
    if not tokens:
        raise BadRecipe(f"{what.title}: no values yet.", "Separate them with commas: 1, 2, 3.", field=what.name)
    if what.name == ORDER:
        return _orders(tokens)
    values: list[Any] = []
    for token in tokens:
        values += _values(what, token)
        if len(values) > GRID_LIMIT:
            break
    return _few(what, tuple(dict.fromkeys(values)))


def write_values(values: Iterable[str]) -> str:
    """Words as `parse_values` reads them: with quotation marks where they are needed."""
    return ", ".join(f'"{v.replace(_QUOTE, _QUOTE * 2)}"' if _needs_quotes(v) else v for v in values)


def _needs_quotes(value: str) -> bool:
    return not value or value != value.strip() or value.startswith(_QUOTE) or "," in value or "\n" in value


def _few(what: Choosable, values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(values) > GRID_LIMIT:
        raise BadRecipe(f"{what.title} has more than {GRID_LIMIT:,} values.", "Take fewer.", field=what.name)
    if what.name == SEARCH and not values[0]:
        raise BadRecipe("The text to look for is empty.", field=SEARCH)
    return values


def _tokens(text: str, field: str) -> Iterator[str]:
    """What stands between commas and line breaks; within quotation marks both are plain characters, and two marks
    are one."""
    at, whole = 0, len(text)
    while at < whole:
        if text[at].isspace():
            at += 1
        elif text[at] == '"':
            at, token = _quoted(text, at, field)
            end = _next(text, at)
            yield token + text[at:end].strip()
            at = end + 1
        else:
            end = _next(text, at)
            if token := text[at:end].strip():
                yield token
            at = end + 1


def _next(text: str, at: int) -> int:
    """Where the next separator is, or the end."""
    found = (text.find(",", at), text.find("\n", at))
    return min((place for place in found if place >= 0), default=len(text))


def _quoted(text: str, at: int, field: str) -> tuple[int, str]:
    made = []
    while True:
        end = text.find('"', at + 1)
        if end < 0:
            raise BadRecipe("A quotation mark is opened and not closed.", 'Write “""” for one inside.', field=field)
        made.append(text[at + 1 : end])
        if text[end + 1 : end + 2] != '"':
            return end + 1, '"'.join(made)
        at = end + 1


def _values(what: Choosable, token: str) -> list[Any]:
    declared = what.declared
    if declared is None:
        return [token]
    if declared.type in ("int", "float"):
        return [_held(what, number) for number in _numbers(what, declared, token)]
    if declared.type == "choice":
        if token == "*":
            return list(declared.choices)
        same = [c for c in declared.choices if _loose(c) == _loose(token)]
        return [_held(what, same[0] if same else token)]
    if declared.type == "bool":
        said = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}
        return [_held(what, said.get(token.casefold(), token))]
    return [_held(what, token)]


def _loose(name: str) -> str:
    return name.casefold().replace("_", "").replace(" ", "").replace("-", "").replace("+", "p")


def _numbers(what: Choosable, declared: Field, token: str) -> list[Any]:
    """One number, or those of a range, exactly as decimals count."""
    with_end = _RANGE.fullmatch(token)
    if with_end is None:
        try:
            return [_number(declared, Decimal(token))]
        except (InvalidOperation, ValueError):
            raise BadRecipe(explain(declared, shown(token, 40)), field=what.name) from None
    first, last = Decimal(with_end[1]), Decimal(with_end[2])
    if with_end[4] is not None:
        return [_number(declared, n, whole=declared.type == "int") for n in _spread(what, first, last, with_end[4])]
    down = last < first
    step = Decimal(with_end[3]) if with_end[3] is not None else Decimal(-1 if down else 1)
    if first != last and (step == 0 or (step < 0) != down):
        raise BadRecipe(f"A step of {step:f} does not lead from {first:f} to {last:f}.", field=what.name)
    count = int((last - first) / step) + 1 if first != last else 1
    _check_count(what, token, count)
    return [_number(declared, first + step * at) for at in range(count)]


def _spread(what: Choosable, first: Decimal, last: Decimal, count: str) -> list[Decimal]:
    number = int(count)
    if number < 1:
        raise BadRecipe("The number in square brackets says how many values there are; it is 0.", field=what.name)
    _check_count(what, f"[{count}]", number)
    return [first + (last - first) * at / max(1, number - 1) for at in range(number)]


def _check_count(what: Choosable, token: str, count: int) -> None:
    if count > GRID_LIMIT:
        raise BadRecipe(
            f"“{shown(token, 40)}” is {count:,} values; a grid takes at most {GRID_LIMIT:,} pictures.",
            "Take a larger step.", field=what.name,
        )  # fmt: skip


def _number(declared: Field, number: Decimal, whole: bool = False) -> int | float:
    if not number.is_finite() or abs(number) > 10**15:
        return float(number)
    if whole:
        return round(number)
    if declared.type == "int" and number == number.to_integral_value():
        return int(number)
    return round(float(number), 6)


def _held(what: Choosable, value: Any) -> Any:
    """The value, if the declaration takes it. Raises BadRecipe."""
    declared = what.declared
    assert declared is not None
    good = {
        "int": isinstance(value, int), "float": isinstance(value, float) and math.isfinite(value),
        "choice": value in declared.choices, "bool": isinstance(value, bool), "str": isinstance(value, str),
    }[declared.type]  # fmt: skip
    if good and declared.type in ("int", "float", "str"):
        size = len(value) if isinstance(value, str) else value
        good = (declared.low is None or size >= declared.low) and (declared.high is None or size <= declared.high)
    if not good:
        raise BadRecipe(explain(declared, value), field=what.name)
    return value


def _orders(words: list[str]) -> tuple[tuple[str, ...], ...]:
    words = list(dict.fromkeys(words))
    if "" in words:
        raise BadRecipe("One of the words to put in order is empty.", field=ORDER)
    if math.factorial(min(len(words), 20)) > GRID_LIMIT:
        raise BadRecipe(
            f"{len(words)} words have too many orders; a grid takes at most {GRID_LIMIT:,} pictures.",
            "Six words have 720 orders.", field=ORDER,
        )  # fmt: skip
    return tuple(itertools.permutations(words))


# -- the cells ---------------------------------------------------------------------------------------------------------

Called = Callable[[str, str], str]


def _as_written(refers: str, value: str) -> str:
    """A name as a person would say it; of a path, its last part."""
    name = value.replace("\\", "/").rstrip("/")
    return PurePath(name).name if "/" in name else name


def labels(axis: Axis, called: Called = _as_written) -> tuple[str, ...]:
    """What stands on a sheet for each value: short, and for people.

    Args:
        called: what a model or picture is called; it is given what kind of thing it is, and the value.
    """
    what = chosen(axis.field)
    return tuple(_label(what, value, called) for value in axis.values)


def _label(what: Choosable, value: Any, called: Called) -> str:
    declared = what.declared
    if declared is None:
        return shown(", ".join(value) if isinstance(value, (tuple, list)) else value, LABEL) or "(nothing)"
    title = what.title.replace(": ", " ")
    if declared.type in ("int", "float"):
        number = str(value) if isinstance(value, int) else f"{value:.6g}"
        unit = "" if not declared.unit else declared.unit if declared.unit == "×" else f" {declared.unit}"
        return f"{title} {number}{unit}"
    if declared.type == "bool":
        return f"{title} {'on' if value else 'off'}"
    if declared.type == "choice":
        return f"{title} {value.replace('_', ' ')}"
    if what.name in ("prompt", "negative"):
        return shown(value, LABEL) or "(nothing)"
    if declared.refers or what.name == "model":
        name = shown(called(declared.refers or "image", value), LABEL)
        return name if name and what.name == "model" else f"{title} {name or 'none'}"
    return f"{title} {shown(value, LABEL)}"


def check_size(*axes: Axis | None) -> int:
    """How many pictures a grid of these axes has. Raises BadRecipe where it has too many, or changes a thing twice."""
    there = [axis for axis in axes if axis is not None]
    names = [chosen(axis.field) for axis in there if chosen(axis.field).declared is not None]
    twice = next((n for n in names if [m.name for m in names].count(n.name) > 1), None)
    if twice is not None:
        raise BadRecipe(f"Two axes change {twice.title}.", "Choose another for one of them.", field=twice.name)
    empty = next((axis for axis in there if not axis.values), None)
    if empty is not None or not there:
        raise BadRecipe("An axis has no values.", field=empty.field if empty is not None else "")
    count = math.prod(len(axis.values) for axis in there)
    if count > GRID_LIMIT:
        sizes = " × ".join(f"{len(axis.values):,}" for axis in there)
        sizes = f"{sizes} = {count:,}" if len(there) > 1 else f"{count:,}"
        raise BadRecipe(f"{sizes} pictures; a grid takes at most {GRID_LIMIT:,}.", "Take fewer values.")
    return count


def cells(
    recipe: ImageRecipe, x: Axis, y: Axis | None = None, z: Axis | None = None, *, called: Called = _as_written
) -> tuple[Cell, ...]:
    """Every combination of the axes' values, each as a recipe of one picture, in the order in which to make them.

    What is dear to change is changed last: the model, then its additions. The seed is that of the recipe in every
    cell, unless it is an axis.

    Args:
        called: as for `labels`.

    Raises:
        BadRecipe: too many; two axes that change the same; what is looked for is not in the prompt; an addition that
            the recipe does not have; or a cell whose recipe is not sound, for example with an empty prompt.
    """
    axes = (x, y, z)
    check_size(*axes)
    base = msgspec.structs.replace(recipe, count=1, at_once=1)
    words = [labels(axis, called) if axis is not None else ("",) for axis in axes]
    # the dearest outermost; `sorted` keeps the order of axes that cost the same, with x turning fastest
    nested = sorted((2, 1, 0), key=lambda a: -_cost(axes[a]))
    acting = sorted((a for a in range(3) if axes[a] is not None), key=lambda a: _turn(axes[a]))
    found: list[Cell] = []
    missed = {a for a in acting if chosen(axes[a].field).declared is None}  # type: ignore[union-attr]
    for place in itertools.product(*(range(len(words[a])) for a in nested)):
        at = dict(zip(nested, place, strict=True))
        made = base
        for a in acting:
            axis = axes[a]
            assert axis is not None
            changed = _applied(made, chosen(axis.field), axis, at[a])
            if changed is None:
                continue
            made = changed
            missed.discard(a)
        where = (at[0], at[1], at[2])
        its = tuple(words[a][where[a]] for a in range(3) if axes[a] is not None)
        checked = recheck(made).recipe
        assert isinstance(checked, ImageRecipe)
        found.append(Cell(where, its, checked))
    for a in missed:
        axis = axes[a]
        assert axis is not None
        sought = axis.values[0] if chosen(axis.field).name == SEARCH else _absent(base.prompt, axis.values[0])
        raise BadRecipe(f"“{shown(sought)}” is not in the prompt.", field=chosen(axis.field).name)
    return tuple(found)


def _cost(axis: Axis | None) -> int:
    """How dear another value is: a model is read anew, an addition is laid over it anew."""
    what = chosen(axis.field) if axis is not None else None
    if what is None or what.declared is None:
        return 0
    if what.name == "model":
        return 3
    if what.declared.refers not in ("", "picture"):
        return 2
    return 1 if what.name.startswith("loras.") else 0


def _turn(axis: Axis | None) -> int:
    """Whole prompts first, then what is done to them."""
    name = chosen(axis.field).name if axis is not None else ""
    return {SEARCH: 1, ORDER: 2}.get(name, 0)


def _applied(recipe: ImageRecipe, what: Choosable, axis: Axis, at: int) -> ImageRecipe | None:
    """The recipe with a value of an axis; None where the axis finds nothing to change."""
    value = axis.values[at]
    if what.name == SEARCH:
        sought = axis.values[0]
        if sought not in recipe.prompt and sought not in recipe.negative:
            return None
        changes = {name: getattr(recipe, name).replace(sought, value) for name in ("prompt", "negative")}
        return msgspec.structs.replace(recipe, **changes)
    if what.name == ORDER:
        prompt = _reordered(recipe.prompt, tuple(value))
        return None if prompt is None else msgspec.structs.replace(recipe, prompt=prompt)
    made: ImageRecipe = _put(recipe, what.name.split("."), value, what)
    return made


def _reordered(prompt: str, order: tuple[str, ...]) -> str | None:
    """The prompt with these words, where they first stand, in another order; what is between them stays."""
    places = _places(prompt, order)
    if places is None:
        return None
    made, end = [], 0
    for (start, word), new in zip(places, order, strict=True):
        made += [prompt[end:start], new]
        end = start + len(word)
    return "".join((*made, prompt[end:]))


def _places(prompt: str, words: tuple[str, ...]) -> list[tuple[int, str]] | None:
    """Where each word stands, in the order of the prompt; the longest are looked for first, so that “cat” is not found
    within “catnip” where both are asked for. None where one is missing."""
    taken: list[tuple[int, str]] = []
    for word in sorted(words, key=len, reverse=True):
        at = prompt.find(word)
        while at >= 0 and any(at < place + len(other) and place < at + len(word) for place, other in taken):
            at = prompt.find(word, at + 1)
        if at < 0:
            return None
        taken.append((at, word))
    return sorted(taken)


def _absent(prompt: str, words: tuple[str, ...]) -> str:
    return next((word for word in words if word not in prompt), words[0])


def _put(struct: Any, path: list[str], value: Any, what: Choosable) -> Any:
    name, rest = path[0], path[1:]
    if not rest:
        return msgspec.structs.replace(struct, **{name: value})
    inner = getattr(struct, name)
    if isinstance(inner, tuple):
        at = int(rest[0])
        if at >= len(inner):
            which = what.title.partition(":")[0]
            raise BadRecipe(f"There is no {which} to change.", "Add it first.", field=name)
        new = (*inner[:at], _put(inner[at], rest[1:], value, what), *inner[at + 1 :])
        return msgspec.structs.replace(struct, **{name: new})
    item = _plain()[name].item
    assert item is not None
    new = _put(inner if inner is not None else item(), rest, value, what)
    # nothing at all is said by leaving it out
    return msgspec.structs.replace(struct, **{name: None if new == item() else new})
