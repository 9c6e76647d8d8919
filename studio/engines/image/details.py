"""The last pass of a picture: each thing that a detector finds in it is repainted by itself, at full size.

It is the repainting of a masked part and nothing else: the same mask and arguments by hand give the same picture.
Knows masks, budgets of progress and what to say; how a part is painted is handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from PIL import Image

from studio.core.pictures import Detail
from studio.core.problems import BadRecipe
from studio.core.recipes import ImageRecipe
from studio.core.text import shown
from studio.engines.context import RunContext
from studio.engines.image import finding, starting
from studio.engines.image.maps import Sight

LOOKING = "looking for details"


@dataclass(frozen=True)
class Pass:
    """What is to be repainted in each picture of a job.

    Attributes:
        details: as the recipe has them. recipes: how each of them is painted.
    """

    details: tuple[Detail, ...]
    recipes: tuple[ImageRecipe, ...]

    @property
    def steps(self) -> int:
        """What the pass counts for in the progress of one picture: nobody knows before how much will be found."""
        return sum(budget(recipe) for recipe in self.recipes)


def budget(recipe: ImageRecipe) -> int:
    return max(1, round(recipe.steps * recipe.strength))


def planned(recipe: ImageRecipe, sight: Sight, ctx: RunContext) -> Pass:
    """Load the detectors that a recipe names, and say now what they cannot find.

    Raises:
        BadRecipe: a class that a detector does not know. ModelMissing, ModelBroken, ModelRefused, ModelUnfit,
        EngineMissing, OutOfMemory.
    """
    for detail in recipe.details:
        card = ctx.card(detail.model)
        if card.kind != "detector":
            raise BadRecipe(f"“{shown(card.name)}” is not a detector.", "Choose one.", field="details")
        finding.wanted_classes(detail, sight.detector(card, ctx).classes)
    return Pass(recipe.details, tuple(recipe_of(detail, recipe) for detail in recipe.details))


def recipe_of(detail: Detail, recipe: ImageRecipe) -> ImageRecipe:
    """How one thing is repainted: as by hand, with the picture's own recipe and a mask.

    Controls are of the whole picture and are left out, and so are seams that fit together; LoRAs, references, steps,
    scheduler, size and seed are the picture's.
    """
    return msgspec.structs.replace(
        recipe, prompt=detail.prompt if detail.prompt.strip() else recipe.prompt, strength=detail.strength, count=1,
        mask_area="mask", mask_blur=detail.feather, mask_padding=detail.padding, mask_fill="original", extend=None,
        controls=(), seamless="off", enlarge=1.0, details=(), details_only=False,
    )  # fmt: skip


def repainted(
    picture: Image.Image,
    work: Pass,
    sight: Sight,
    paint: Callable[[Image.Image, Image.Image, ImageRecipe, int, int], Image.Image],
    before: int,
    total: float,
    ctx: RunContext,
) -> Image.Image:
    """A picture with its details painted anew.

    Args:
        paint: repaints a picture within a mask as a recipe says, given the steps that are behind it and its share.
        before: steps of the job that are behind it. total: of the job.

    Raises:
        what `paint` and the detectors raise; where nothing is found there is a note and the picture as it was.
    """
    for detail, recipe in zip(work.details, work.recipes, strict=True):
        ctx.check()
        ctx.progress(before, total, "steps", LOOKING)
        card = ctx.card(detail.model)
        # each detail sees what the ones before it left
        found = sight.find(card, starting.on_ground(picture), detail.confidence, ctx)
        wanted = finding.chosen(found, detail, sight.detector(card, ctx).classes)
        masks = [finding.mask_of(each.box, detail.grow, picture.size) for each in wanted]
        there = [mask for mask in masks if mask is not None]
        if not there:
            what = f" of “{shown(detail.classes, 100)}”" if detail.classes.strip() else ""
            ctx.note(f"“{shown(card.name)}” found nothing{what} to repaint.")
        share = budget(recipe) // max(1, len(there))
        for at, mask in enumerate(there):
            picture = paint(picture, mask, recipe, before + at * share, share)
        before += budget(recipe)
        ctx.progress(before, total, "steps", LOOKING)
    return picture
