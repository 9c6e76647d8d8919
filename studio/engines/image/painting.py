"""One job of pictures, planned: which pipelines run, with what, and what is laid around their calls.

Knows recipes and pipelines; keeps nothing between jobs.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import msgspec
from PIL import Image

from studio.core.cards import ModelCard
from studio.core.pictures import MAPS
from studio.core.problems import BadRecipe, ModelUnfit
from studio.core.recipes import Control, ImageRecipe
from studio.engines.context import RunContext
from studio.engines.image import blending, details, modes, prompts, starting
from studio.engines.image.additions import Additions, seamless, varied
from studio.engines.image.asking import Asked, Guide, ask, multiple_of, own_size
from studio.engines.image.blending import Blend
from studio.engines.image.details import Pass
from studio.engines.image.starting import Start
from studio.engines.image.watching import Watch, finite_pixels, reported


@dataclass(frozen=True)
class Turn:
    """One call of a pipeline.

    Attributes:
        recipe: what is asked of it: the job's, or that of one of its passes.
        begin: the picture it begins from, if any.
        blends: the pipeline knows no mask; what is to be kept is laid back after each step.
    """

    pipe: Any
    asked: Asked
    recipe: ImageRecipe
    begin: Start | None = None
    blends: bool = False


@dataclass(frozen=True)
class Painting:
    """A job.

    Attributes:
        pipe: the model's own pipeline it was planned for.
        first: what is run for each picture; None where only details of a given picture are painted.
        given: that picture.
        second: makes the second run from the picture of the first, if one is asked for.
        details: what is repainted in the finished picture, if anything is. into: makes the run that repaints a part of
            a picture within a mask, as a recipe says.
        largest: of all these, the one that takes most memory.
        steps: of one picture, all runs together. total: of the job.
    """

    pipe: Any
    recipe: ImageRecipe
    first: Turn | None
    given: Image.Image | None
    second: Callable[[Image.Image], Turn] | None
    details: Pass | None
    into: Callable[[Image.Image, Image.Image, ImageRecipe], Turn]
    largest: Asked
    steps: int

    @property
    def total(self) -> float:
        return float(self.steps * self.recipe.count)


def planned(
    pipe: Any, scheduler: Any, card: ModelCard | None, additions: Additions, recipe: ImageRecipe, ctx: RunContext
) -> Painting:
    """Decide how a recipe is painted. Loads control networks; computes nothing.

    Args:
        pipe: the model's own pipeline, with everything laid over it that the recipe asks for.
        scheduler: the one the model came with.

    Raises:
        BadRecipe, ModelUnfit, ModelMissing, NotFound, OutOfMemory.
    """
    multiple, own = multiple_of(pipe, card), own_size(pipe, card)
    additions.sight.want(_seen_by(recipe))
    given = _given(recipe, ctx) if recipe.details_only else None
    begin = starting.start(recipe, ctx, multiple, own) if given is None else None
    task: modes.Task = "words" if begin is None else "from_picture" if begin.mask is None else "into_picture"
    family = card.family if card is not None and card.family else type(pipe).__name__
    controls = recipe.controls if given is None else ()
    networks = additions.controls([ctx.card(control.model) for control in controls], ctx)
    references = [starting.opened(each.image, ctx).convert("RGB") for each in recipe.references]

    def turn(task: modes.Task, recipe: ImageRecipe, begin: Start | None, note: Callable[[str], None]) -> Turn:
        way, parts = _control(networks if recipe.controls else [])
        blends = task == "into_picture" and blending.is_needed(pipe, modes.name_of(family, task))
        able = modes.derived(pipe, modes.class_for(family, "from_picture" if blends else task, way), **parts)
        size = begin.size if begin is not None else (recipe.width or own[0], recipe.height or own[1])
        guides = [
            Guide(_guiding(control, recipe, begin, size, additions, ctx), control.weight, control.start, control.end)
            for control in recipe.controls
        ]  # fmt: skip
        seen = dataclasses.replace(begin, mask=None) if begin is not None and blends else begin
        asked = ask(able, scheduler, card, recipe, note, begin=seen, guides=guides, references=references)
        return Turn(able, asked, recipe, begin, blends)

    def into(
        picture: Image.Image, mask: Image.Image, recipe: ImageRecipe, note: Callable[[str], None] = _silent
    ) -> Turn:  # fmt: skip
        return turn("into_picture", recipe, starting.into(recipe, picture, mask, multiple, own), note)

    first = turn(task, recipe, begin, ctx.note) if given is None else None
    asked = [first.asked] if first is not None else []
    steps = recipe.steps if first is not None else 0
    work = details.planned(recipe, additions.sight, ctx) if recipe.details else None
    for each in work.recipes if work is not None else ():
        # once for nothing, so that what cannot be done is said before anything is painted
        blank = Image.new("RGB", own)
        asked.append(into(blank, Image.new("L", own, 255), each, ctx.note).asked)
    steps += work.steps if work is not None else 0
    second = None
    if recipe.enlarge > 1.0 and first is not None:
        if begin is not None and begin.mask is not None:
            ctx.note("A second pass works on whole pictures; for a repainted part it was left out.")
        else:
            second, larger = _second(recipe, first, multiple, turn, ctx)
            asked.append(larger)
            steps += recipe.enlarge_steps or recipe.steps
    largest = max(asked, key=lambda each: each.painted[0] * each.painted[1])
    return Painting(pipe, recipe, first, given, second, work, into, largest, steps)


def _second(
    recipe: ImageRecipe, first: Turn, multiple: int, turn: Callable[..., Turn], ctx: RunContext
) -> tuple[Callable[[Image.Image], Turn], Asked]:
    """What makes the second run of a picture, and what is asked of it."""
    size = tuple(max(multiple, round(side * recipe.enlarge / multiple) * multiple) for side in first.asked.painted)
    steps = recipe.enlarge_steps or recipe.steps
    again = msgspec.structs.replace(
        recipe, strength=recipe.enlarge_strength, steps=steps, width=size[0], height=size[1]
    )

    def second(picture: Image.Image, note: Callable[[str], None] = lambda _: None) -> Turn:
        larger = starting.enlarged(picture, (size[0], size[1]), recipe.enlarge_with, ctx)
        return turn("from_picture", again, Start((size[0], size[1]), larger), note)

    # once for nothing, as above
    blank = Image.new("RGB", (size[0], size[1]))
    return second, turn("from_picture", again, Start((size[0], size[1]), blank), ctx.note).asked


def _silent(_: str) -> None:
    """For runs whose remarks were made when they were planned."""


def _given(recipe: ImageRecipe, ctx: RunContext) -> Image.Image:
    """The picture of which only details are painted. Raises BadRecipe, NotFound, NotRead."""
    if not recipe.image:
        raise BadRecipe("Only details were asked for, but of no picture.", "Give a picture to begin from.",
                        field="image")  # fmt: skip
    if not recipe.details:
        raise BadRecipe("Only details were asked for, but none is named.", "Add a detector.", field="details")
    unused = {"the mask": recipe.mask, "the new ground": recipe.extend, "the second pass": recipe.enlarge > 1.0,
              "the controls": recipe.controls}  # fmt: skip
    for what, there in unused.items():
        if there:
            ctx.note(f"Only details were asked for, so {what} had nothing to do.")
    return starting.opened(recipe.image, ctx)


def _seen_by(recipe: ImageRecipe) -> list[str]:
    """The ids of the models that look at pictures for a recipe."""
    filters = {control.filter for control in recipe.controls}
    with_maps = {"depth": [recipe.depth_with], "pose": [recipe.pose_with, recipe.people_with]}
    return [*(detail.model for detail in recipe.details), *(i for f in sorted(filters) for i in with_maps.get(f, []))]


def _control(networks: list[Any]) -> tuple[str, dict[str, Any]]:
    """How the control networks act, and the part of the pipeline they are."""
    if not networks:
        return "", {}
    ways = {_way(network) for network in networks}
    if len(ways) > 1:
        raise ModelUnfit("ControlNets and T2I adapters cannot act on one picture together.", "Take only one kind.",
                         field="controls")  # fmt: skip
    way = ways.pop()
    part = networks[0] if len(networks) == 1 else networks
    return way, {"adapter" if way == "t2i-adapter" else "controlnet": part}


def _way(network: Any) -> str:
    name = type(network).__name__
    return "t2i-adapter" if "Adapter" in name else "union" if "Union" in name else "controlnet"


def _guiding(
    control: Control, recipe: ImageRecipe, begin: Start | None, size: tuple[int, int], additions: Additions,
    ctx: RunContext,
) -> Image.Image:  # fmt: skip
    """A control picture of the size that is painted, and of the part of it that is painted."""
    from studio.engines.image import filters

    picture = starting.on_ground(starting.opened(control.image, ctx))
    picture = begin.seen_of(picture) if begin is not None else starting.covered(picture, size)
    if control.filter not in MAPS:
        return filters.apply(control.filter, picture)
    field = "depth_with" if control.filter == "depth" else "pose_with"
    named = getattr(recipe, field)
    if not named:
        raise BadRecipe(f"No {control.filter} model is named for the control picture.", "Choose one.", field=field)
    people = ctx.card(recipe.people_with) if control.filter == "pose" and recipe.people_with else None
    return additions.sight.control_picture(control.filter, picture, ctx.card(named), people, ctx)


@contextlib.contextmanager
def running(
    turn: Turn, seeds: list[int], watch: Watch, additions: Additions, ctx: RunContext
) -> Iterator[dict[str, Any]]:
    """What is laid around one call of a pipeline. Yields the arguments of the call."""
    import torch

    asked, recipe = turn.asked, turn.recipe
    words = prompts.encode(
        turn.pipe, recipe.prompt, recipe.negative, reading=recipe.reading, clip_skip=recipe.clip_skip,
        guidance_on=recipe.guidance > 1, note=ctx.note, cache=additions.words, state=additions.state, check=ctx.check,
    )  # fmt: skip
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    blend = Blend(turn.begin, seeds[0]) if turn.blends and turn.begin is not None else None
    more: dict[str, Any] = {"num_images_per_prompt": len(seeds)} if len(seeds) > 1 else {}
    with (
        finite_pixels(turn.pipe, watch),
        reported(turn.pipe, asked, watch, blend) as reports,
        seamless(turn.pipe, recipe.seamless),
        varied(turn.pipe, recipe.variation_seed or 0, recipe.variation),
    ):
        arguments = prompts.replaced(asked.arguments, words) | reports | more
        yield arguments | {"generator": generators[0] if len(seeds) == 1 else generators}


def pictures_in(output: Any, size: tuple[int, int] | None, finite: bool, count: int) -> list[Image.Image]:
    """The pictures in what a pipeline returned, each checked. Raises BadResult, also where it is another number."""
    from studio.engines.image import saving

    images = getattr(output, "images", None)
    if count == 1 or not isinstance(images, list) or len(images) != count:
        return [saving.checked(output, size, finite)]
    flags = getattr(output, "nsfw_content_detected", None) or [False] * count
    each = (
        SimpleNamespace(images=[image], nsfw_content_detected=[flag])
        for image, flag in zip(images, flags, strict=False)
    )
    return [saving.checked(one, size, finite) for one in each]


def quicken(pipe: Any, speed: tuple[str, ...]) -> None:
    """Lay networks out, or have them compiled, as `speed` says; see plans.SPEEDS."""
    import torch

    core = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    if "channels_last" in speed:
        for network in (core, getattr(pipe, "vae", None)):
            if network is not None and any(isinstance(layer, torch.nn.Conv2d) for layer in network.modules()):
                network.to(memory_format=torch.channels_last)
    if "compile" in speed and core is not None:
        core.compile()  # of the module itself: LoRAs and everything else find their layers where they were
