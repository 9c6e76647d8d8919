"""What is decided of a training, a data set or an evaluation before it is queued. Pure."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from studio.core.cards import ModelCard
from studio.core.learning import (
    ConvertRecipe,
    DatasetRecipe,
    EvaluateImageRecipe,
    EvaluateSpeechRecipe,
    EvaluateTextRecipe,
    SearchRecipe,
    TrainImageRecipe,
    TrainTextRecipe,
)
from studio.core.problems import BadRecipe
from studio.core.recipes import Recipe

# What needs no model of its own has a card all the same: it says which engine does it.
CARDS = {
    kind: ModelCard(id=kind, name=name, kind=kind, engine=engine, path="", format="", sha256="-")
    for kind, name, engine in (
        ("dataset", "Data", "data.sets"),
        ("train-text", "Training", "train.text"),
        ("train-image", "Training", "train.image"),
        ("search", "Search", "train.search"),
        ("convert", "Conversion", "train.convert"),
        ("evaluate-text", "Evaluation", "evaluate.text"),
        ("evaluate-image", "Evaluation", "evaluate.image"),
        ("evaluate-speech", "Evaluation", "evaluate.speech"),
    )
}  # fmt: skip

_Kept = (
    DatasetRecipe | TrainTextRecipe | TrainImageRecipe | SearchRecipe | ConvertRecipe | EvaluateTextRecipe
    | EvaluateImageRecipe | EvaluateSpeechRecipe
)  # fmt: skip


def begun(recipe: Recipe, model: Callable[[str], ModelCard], new_run: Callable[[], str]) -> Recipe:
    """The recipe with its base model and the folder of its checkpoints decided; others come back as they are.

    Args:
        model: finds the usual model of a kind.

    Raises:
        BadRecipe: something is missing that cannot be guessed. ModelMissing: there is no model to go on from.
    """
    if isinstance(recipe, SearchRecipe):
        inner = begun(recipe.training, model, lambda: "")
        assert isinstance(inner, (TrainTextRecipe, TrainImageRecipe))
        recipe = msgspec.structs.replace(recipe, training=inner)
    if isinstance(recipe, DatasetRecipe):
        if not recipe.sources:
            raise BadRecipe("There is nothing to read.", "Give a file or a folder.", field="sources")
        return msgspec.structs.replace(recipe, sources=tuple(_absolute(each) for each in recipe.sources))
    if isinstance(recipe, (EvaluateTextRecipe, EvaluateImageRecipe, EvaluateSpeechRecipe)):
        return _found(recipe)
    if isinstance(recipe, (TrainTextRecipe, TrainImageRecipe)):
        if not recipe.data:
            raise BadRecipe("There is no data to learn from.", "Make a data set first.", field="data")
        if not recipe.model and recipe.method not in ("scratch", "autoencoder"):
            kind = "text" if isinstance(recipe, TrainTextRecipe) else "image"
            recipe = msgspec.structs.replace(recipe, model=model(kind).id)
    if isinstance(recipe, ConvertRecipe):
        if not recipe.model:
            recipe = msgspec.structs.replace(recipe, model=model("text").id)
        if recipe.type == "q8_0" and recipe.to == "safetensors":
            raise BadRecipe("Safetensors are not kept as q8_0.", "Choose gguf, or float16.", field="type")
    if isinstance(recipe, TrainImageRecipe) and recipe.method == "dreambooth" and not recipe.subject.strip():
        raise BadRecipe(
            "DreamBooth needs the words that stand for its subject.", "For example “a sks dog”.", field="subject"
        )
    if isinstance(recipe, (TrainTextRecipe, TrainImageRecipe, SearchRecipe)) and not recipe.run:
        recipe = msgspec.structs.replace(recipe, run=new_run())
    return recipe


def titled(recipe: Recipe, cards: dict[str, ModelCard]) -> Recipe:
    """The recipe with the title and the name that its results will bear, where none were given."""
    if not isinstance(recipe, _Kept):
        return recipe

    def name_of(reference: str) -> str:
        return cards[reference].name if reference in cards else Path(reference).stem

    changes: dict[str, Any] = {}
    title = ""
    if isinstance(recipe, DatasetRecipe):
        title = recipe.name or Path(recipe.sources[0]).stem or "data"
        changes["name"] = title
    elif isinstance(recipe, (TrainTextRecipe, TrainImageRecipe)):
        base = name_of(recipe.model) if recipe.model and recipe.method != "scratch" else "New model"
        title = recipe.name or f"{base} · {name_of(recipe.data)}"[:80]
        changes["name"] = title
    elif isinstance(recipe, ConvertRecipe):
        parts = [name_of(recipe.model), *(name_of(lora.model) for lora in recipe.loras)]
        title = recipe.name or " + ".join(parts)[:80]
        changes["name"] = title
    elif isinstance(recipe, SearchRecipe):
        inner = titled(recipe.training, cards)
        assert isinstance(inner, (TrainTextRecipe, TrainImageRecipe))
        changes["training"], title = inner, f"Search: {inner.name}"
    elif isinstance(recipe, EvaluateTextRecipe):
        parts = [*map(name_of, recipe.models), name_of(recipe.data or recipe.candidates)]
        title = " · ".join(part for part in parts if part) or "Texts"
    elif isinstance(recipe, EvaluateImageRecipe):
        title = name_of(recipe.model or recipe.pictures) or "Pictures"
    elif isinstance(recipe, EvaluateSpeechRecipe):
        title = name_of(recipe.sounds) or "Speech"
    if not recipe.title:
        changes["title"] = title
    return msgspec.structs.replace(recipe, **changes)


def anew(recipe: Recipe) -> Recipe:
    """The recipe for another run from the beginning, where the first one has its checkpoints."""
    return msgspec.structs.replace(recipe, run="") if getattr(recipe, "run", "") else recipe


_FILES = {  # fields that name files and folders; the pictures of an evaluation may be a data set's name instead
    EvaluateTextRecipe: ("candidates",),
    EvaluateImageRecipe: ("pictures", "references", "encoder", "classifier"),
    EvaluateSpeechRecipe: ("sounds", "listener"),
}


def _found(recipe: EvaluateTextRecipe | EvaluateImageRecipe | EvaluateSpeechRecipe) -> Recipe:
    """The recipe with its files and folders absolute; what is none keeps its name."""
    changes: dict[str, Any] = {name: _there(getattr(recipe, name)) for name in _FILES[type(recipe)]}
    if isinstance(recipe, EvaluateTextRecipe):
        changes["references"] = tuple(_there(each) for each in recipe.references)
    return msgspec.structs.replace(recipe, **changes)


def _there(path: str) -> str:
    absolute = _absolute(path) if path else path
    try:
        return absolute if os.path.exists(absolute) else path
    except ValueError:  # NUL in it
        return path


def _absolute(path: str) -> str:
    try:
        return str(Path(path).expanduser().absolute())  # the worker lives in another folder
    except (OSError, RuntimeError, ValueError):
        return path
