"""Fitting a recipe to the model that will make it. Pure."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from studio.core.cards import ModelCard
from studio.core.problems import BadRecipe, ModelUnfit
from studio.core.recipes import (
    MODEL_FIELD,
    SEED_LIMIT,
    ImageRecipe,
    Recipe,
    SpeechRecipe,
    TextRecipe,
    fields,
    kind_of,
)


def with_defaults(card: ModelCard, given: dict[str, Any]) -> dict[str, Any]:
    """What a person gave, laid over what suits the model."""
    return {**card.defaults, **{name: value for name, value in given.items() if value is not None}}


def fitted(recipe: Recipe, card: ModelCard) -> Recipe:
    """The recipe with everything decided that was left open: model, size, seed.

    Raises:
        BadRecipe: a value is sound in itself but does not fit this model.
        ModelUnfit: the model cannot do this at all.
    """
    if kind_of(recipe) != card.kind:
        raise ModelUnfit(
            f"“{card.name}” makes {card.kind}, not {kind_of(recipe)}.", field=MODEL_FIELD.get(kind_of(recipe), "")
        )
    changes: dict[str, Any] = {MODEL_FIELD[card.kind]: card.id} if card.kind in MODEL_FIELD else {}
    if getattr(recipe, "seed", 0) is None:
        changes["seed"] = secrets.randbelow(SEED_LIMIT)
    if isinstance(recipe, ImageRecipe):
        _check_able(recipe, card)
        _check_details(recipe)
        changes |= _size(recipe, card)
        if recipe.variation and recipe.variation_seed is None:
            changes["variation_seed"] = secrets.randbelow(SEED_LIMIT)
    elif isinstance(recipe, TextRecipe):
        _check_context(recipe, card)
    elif isinstance(recipe, SpeechRecipe):
        _check_speaker(recipe, card)
    return msgspec.structs.replace(recipe, **changes)


# Without these a work would be another one than was asked for; what else a model cannot do is left out with a note.
_NEEDED = {
    "from_picture": "begin from a picture", "into_picture": "repaint a part of a picture", "lora": "take LoRAs",
    "embedding": "take embeddings", "control": "be controlled by pictures", "reference": "take reference pictures",
}  # fmt: skip


def _check_able(recipe: ImageRecipe, card: ModelCard) -> None:
    if not card.can:
        return
    into = bool(recipe.mask) or recipe.extend is not None or recipe.details_only
    for field in fields(ImageRecipe):
        does = _NEEDED.get(field.needs.partition("|")[0])
        if not does or field.suits(card.can) or getattr(recipe, field.name) == field.default:
            continue
        if field.name in ("image", "mask", "extend", "enlarge", "loras", "embeddings", "controls", "references",
                          "details", "details_only"):  # fmt: skip
            raise ModelUnfit(f"“{card.name}” cannot {does}.", "Choose another model.", field=field.name)
    if "picture" not in card.can and not into:
        raise ModelUnfit(
            f"“{card.name}” only repaints parts of pictures.", "Give it a picture and a mask, or choose another model.",
            field="image",
        )  # fmt: skip


def _check_details(recipe: ImageRecipe) -> None:
    if not recipe.details_only:
        return
    if not recipe.image:
        raise BadRecipe("Only details were asked for, but of no picture.", "Give a picture to begin from.",
                        field="image")  # fmt: skip
    if not recipe.details:
        raise BadRecipe("Only details were asked for, but none is named.", "Add a detector.", field="details")


def _size(recipe: ImageRecipe, card: ModelCard) -> dict[str, int]:
    if recipe.image and recipe.width is None and recipe.height is None and recipe.mask_area == "picture":
        return {}  # the picture's own, which only the worker reads
    size = {}
    step = card.limits.size_multiple or 8
    for name in ("width", "height"):
        value = getattr(recipe, name)
        value = getattr(card.limits, name) if value is None else value
        if value is None:
            continue  # the pipeline knows
        if value % step:
            below, above = value - value % step, value - value % step + step
            near = f"{below} or {above}" if below >= 16 else str(above)
            raise BadRecipe(
                f"{name.capitalize()} must be a multiple of {step} px for “{card.name}”; got {value}.",
                f"Try {near}.",
                field=name,
            )
        size[name] = value
    return size


def _check_context(recipe: TextRecipe, card: ModelCard) -> None:
    longest = card.limits.context
    if longest and recipe.context > longest:
        raise BadRecipe(
            f"“{card.name}” reads at most {longest:,} tokens; a context of {recipe.context:,} was asked for.",
            field="context",
        )
    if recipe.mode == "chat" and recipe.template == "model" and card.can and "chat" not in card.can:
        raise ModelUnfit(
            f"“{card.name}” has no chat template of its own.",
            "Choose the template “auto” or “few-shot”.",
            field="template",
        )


def _check_speaker(recipe: SpeechRecipe, card: ModelCard) -> None:
    speakers = card.limits.speakers or 1
    if recipe.speaker >= speakers:
        has = "one speaker" if speakers == 1 else f"{speakers} speakers, counted from 0"
        raise BadRecipe(f"“{card.name}” has {has}; speaker {recipe.speaker} was asked for.", field="speaker")
