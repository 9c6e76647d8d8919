"""What a person may write beside a model: name, licence, defaults. Knows recipes' field names; knows no model format.

`studio.json` inside a folder, or `<file>.studio.json` beside a file:
{"name": "…", "licence": "…", "licence_url": "https://…", "defaults": {"steps": 25}}
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from studio.core.cards import Broken, ModelCard
from studio.core.problems import BadRecipe
from studio.core.recipes import COUNT_FIELD, MODEL_FIELD, RECIPES, WORDS, check, fields
from studio.core.text import clean, file_stem, shown
from studio.models.reading import read_json_object

LIMIT = 64 * 1024  # bytes
NAME_LIMIT = 80  # characters
NOTES_LIMIT = 8

# what a training writes there of itself; others read it
_TRAINING = {
    "base", "base_sha256", "data", "data_sha256", "method", "metrics", "made", "run", "steps", "seed", "format",
    "version", "created", "versions", "loras",
}  # fmt: skip
_TEXTS = {"name": NAME_LIMIT, "licence": NAME_LIMIT, "licence_url": 400}


def card_id(name: str, path: Path) -> str:
    """A short name for recipes and command lines: the model's name, and six digits that tell equal names apart.

    Stable as long as the path stays the same, links resolved.
    """
    digest = hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{file_stem(name, 32)}-{digest[:6]}"


def safe_name(name: str, otherwise: str) -> str:
    """A name on one line, at most NAME_LIMIT characters, without controls; `otherwise` when nothing is left."""
    return shown(clean(name)[0], NAME_LIMIT) or shown(clean(otherwise)[0], NAME_LIMIT) or "unnamed"


def counted(number: int) -> str:
    """A number of parameters for a person."""
    for limit, unit in ((10**9, "billion"), (10**6, "million")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return f"{number:,}"


def about_path(model: Path) -> Path:
    return model / "studio.json" if model.is_dir() else model.with_name(f"{model.name}.studio.json")


def with_about(card: ModelCard) -> ModelCard:
    """Lay what is written beside a model over its card. What is wrong there becomes a note, never an error."""
    path = about_path(Path(card.path))
    if not path.is_file():
        return card
    written = read_json_object(path, LIMIT)
    if isinstance(written, Broken):
        return msgspec.structs.replace(card, notes=(*card.notes, f"{path.name} is ignored: {written.why}"))
    changes: dict[str, Any] = {}
    notes: list[str] = []
    for key, value in written.items():
        if key in _TEXTS:
            good = isinstance(value, str) and (key != "licence_url" or value.startswith("https://"))
            if good and (text := shown(clean(value)[0], _TEXTS[key])):
                changes[key] = text
            else:
                notes.append(f"{path.name}: “{key}” cannot be {shown(repr(value), 40)}")
        elif key == "defaults" and isinstance(value, dict):
            changes["defaults"] = {**card.defaults, **_defaults(card.kind, value, path.name, notes)}
        elif key not in _TRAINING:
            notes.append(f"{path.name}: “{shown(key, 40)}” is not understood")
    if len(notes) > NOTES_LIMIT:
        notes = [*notes[:NOTES_LIMIT], f"{path.name}: {len(notes) - NOTES_LIMIT} more are wrong"]
    return msgspec.structs.replace(card, **changes, notes=(*card.notes, *notes))


def _defaults(kind: str, given: dict[Any, Any], where: str, notes: list[str]) -> dict[str, Any]:
    recipe = RECIPES[kind]
    words = WORDS.get(kind, "")
    # what to make, with which model and how often are decisions of a person, not of a model
    taken = {words, MODEL_FIELD.get(kind), COUNT_FIELD.get(kind), "seed", "messages"}
    allowed = {f.name for f in fields(recipe)} - taken
    kept: dict[str, Any] = {}
    for name, value in given.items():
        if name not in allowed:
            notes.append(f"{where}: “{shown(str(name), 40)}” is not a default a model can set")
            continue
        try:
            recipe_made = check(kind, {words: "x", name: value}).recipe
        except BadRecipe as error:
            notes.append(f"{where}: {error.problem.sentence}")
            continue
        kept[name] = msgspec.to_builtins(getattr(recipe_made, name))
    return kept
