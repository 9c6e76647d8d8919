"""File names for many exports at once, from a pattern with words in braces. Knows works and names; opens nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, tzinfo

from studio.core.problems import BadRecipe
from studio.core.recipes import model_of
from studio.core.text import clean, file_stem, shown
from studio.core.works import Work

PATTERN_LIMIT = 256  # characters
NAME_LIMIT = 180  # bytes, without the ending; with it a name fits every system
VALUE_LIMIT = 80  # bytes of one value
DIGITS = 3  # of {n}, so that names sort as they count

USUAL = "{title}-{n}"

_BRACES = re.compile(r"\{([^{}]*)\}")
# Besides letters and digits of any script: what every file system and every shell's completion puts up with.
_PLAIN = set(" -_.,+=@#()[]'")


def named(pattern: str, work: Work, number: int, ending: str = "", *, zone: tzinfo | None = None) -> str:
    """The file name of one of many works.

    Args:
        pattern: text with any of PLACES in braces, like "{date} {title} {n}". Only these are replaced: it is no format
            string, and nothing in it is looked up.
        number: of this work among those that are exported, from 1.
        ending: appended as it is, with its dot.
        zone: in which date and time are told; None is this computer's.

    Returns:
        A name that every system takes, never empty, without a folder. Two works may get the same one.

    Raises:
        BadRecipe: something else is in braces, a brace is alone, or the pattern is empty or too long.
    """
    check_pattern(pattern)
    pieces, at = [], 0
    for found in _BRACES.finditer(pattern):
        pieces.append(_plain(pattern[at : found.start()]))
        value = PLACES[found[1].strip().lower()](work, number, zone)
        # file_stem is never empty; a value may be
        pieces.append(file_stem(value, VALUE_LIMIT) if value.strip() else "")
        at = found.end()
    pieces.append(_plain(pattern[at:]))
    return _portable("".join(pieces)) + ending


def check_pattern(pattern: str) -> None:
    """Raises BadRecipe: see `named`."""
    if len(pattern) > PATTERN_LIMIT:
        raise BadRecipe(f"The pattern has {len(pattern):,} characters; it may have {PATTERN_LIMIT}.", field="pattern")
    if not pattern.strip():
        raise BadRecipe("The pattern for the names is empty.", f"Try “{USUAL}”.", field="pattern")
    known = ", ".join(f"{{{name}}}" for name in PLACES)
    for found in _BRACES.finditer(pattern):
        if found[1].strip().lower() not in PLACES:
            raise BadRecipe(
                f"“{{{shown(found[1], 30)}}}” has no meaning in a name.", f"There are {known}.", field="pattern"
            )
    rest = _BRACES.sub("", pattern)
    if "{" in rest or "}" in rest:
        raise BadRecipe("A brace in the pattern has no partner.", f"Write one of {known}.", field="pattern")


def _title(work: Work, number: int, zone: tzinfo | None) -> str:
    return work.title


def _seed(work: Work, number: int, zone: tzinfo | None) -> str:
    seed = getattr(work.recipe, "seed", None)
    return str(seed) if seed is not None else ""


def _model(work: Work, number: int, zone: tzinfo | None) -> str:
    return model_of(work.recipe)


def _when(form: str) -> Callable[[Work, int, tzinfo | None], str]:
    def tell(work: Work, number: int, zone: tzinfo | None) -> str:
        try:
            return datetime.fromisoformat(work.created).astimezone(zone).strftime(form)
        except (ValueError, OverflowError, OSError):  # a sidecar may say anything
            return ""

    return tell


def _fact(name: str) -> Callable[[Work, int, tzinfo | None], str]:
    def tell(work: Work, number: int, zone: tzinfo | None) -> str:
        value = work.meta.get(name)
        return str(value) if isinstance(value, int) else ""

    return tell


# What may stand in braces, in the order in which it is offered.
PLACES: dict[str, Callable[[Work, int, tzinfo | None], str]] = {
    "title": _title,
    "seed": _seed,
    "model": _model,
    "date": _when("%Y-%m-%d"),
    "time": _when("%H-%M-%S"),
    "n": lambda work, number, zone: f"{number:0{DIGITS}}",
    "id": lambda work, number, zone: work.id,
    "width": _fact("width"),
    "height": _fact("height"),
}


def _plain(text: str) -> str:
    """A person's own part of the pattern: kept as it is, but for what some file system would refuse."""
    return "".join(char if char.isalnum() or char in _PLAIN else "-" for char in clean(text)[0])


def _portable(name: str) -> str:
    """Neither hidden nor taken for an option, not ending in what Windows drops, not too long, none of its devices."""
    name = re.sub(r"-{2,}", "-", name).lstrip(" .-").rstrip(" .-")
    name = name.encode("utf-8", "ignore")[:NAME_LIMIT].decode("utf-8", "ignore").rstrip(" .-")
    if not name:
        return file_stem("")
    first = name.split(".")[0].strip()  # Windows looks no further
    taken = file_stem(first).startswith("untitled") and not first.lower().startswith("untitled")
    return f"untitled-{name}" if taken else name
