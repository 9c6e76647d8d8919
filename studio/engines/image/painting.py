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
from studio.core.problems import ModelUnfit
from studio.core.recipes import ImageRecipe
from studio.engines.context import RunContext
from studio.engines.image import blending, modes, prompts, starting
from studio.engines.image.additions import Additions, seamless, varied
from studio.engines.image.asking import Asked, Guide, ask, multiple_of, own_size
from studio.engines.image.blending import Blend
from studio.engines.image.starting import Start
from studio.engines.image.watching import Watch, finite_pixels, reported


@dataclass(frozen=True)
class Turn:
    """One call of a pipeline.

    Attributes:
        begin: the picture it begins from, if any.
        blends: the pipeline knows no mask; what is to be kept is laid back after each step.
    """

    pipe: Any
    asked: Asked
    begin: Start | None = None
    blends: bool = False


@dataclass(frozen=True)
class Painting:
    """A job.

    Attributes:
        pipe: the model's own pipeline it was planned for.
        first: what is run for each picture. second: makes the second run from the picture of the first, if one is
            asked for.
        largest: of the two, the one that takes more memory.
        steps: of one picture, both runs together. total: of the job.
    """

    pipe: Any
    recipe: ImageRecipe
    first: Turn
    second: Callable[[Image.Image], Turn] | None
    largest: Asked
    steps: int
    total: float


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
    begin = starting.start(recipe, ctx, multiple, own)
    task: modes.Task = "words" if begin is None else "from_picture" if begin.mask is None else "into_picture"
    family = card.family if card is not None and card.family else type(pipe).__name__
    networks = additions.controls([ctx.card(control.model) for control in recipe.controls], ctx)
    references = [starting.opened(each.image, ctx).convert("RGB") for each in recipe.references]

    def turn(task: modes.Task, recipe: ImageRecipe, begin: Start | None, note: Callable[[str], None]) -> Turn:
        way, parts = _control(recipe, networks)
        blends = task == "into_picture" and blending.is_needed(pipe, modes.name_of(family, task))
        able = modes.derived(pipe, modes.class_for(family, "from_picture" if blends else task, way), **parts)
        size = begin.size if begin is not None else (recipe.width or own[0], recipe.height or own[1])
        guides = [
            Guide(_guiding(control.filter, starting.opened(control.image, ctx), begin, size), control.weight,
                  control.start, control.end)
            for control in recipe.controls
        ]  # fmt: skip
        seen = dataclasses.replace(begin, mask=None) if begin is not None and blends else begin
        asked = ask(able, scheduler, card, recipe, note, begin=seen, guides=guides, references=references)
        return Turn(able, asked, begin, blends)

    first = turn(task, recipe, begin, ctx.note)
    if recipe.enlarge <= 1.0:
        return Painting(pipe, recipe, first, None, first.asked, recipe.steps, float(recipe.steps * recipe.count))
    if begin is not None and begin.mask is not None:
        ctx.note("A second pass works on whole pictures; for a repainted part it was left out.")
        return Painting(pipe, recipe, first, None, first.asked, recipe.steps, float(recipe.steps * recipe.count))
    size = tuple(max(multiple, round(side * recipe.enlarge / multiple) * multiple) for side in first.asked.painted)
    steps = recipe.enlarge_steps or recipe.steps
    again = msgspec.structs.replace(
        recipe, strength=recipe.enlarge_strength, steps=steps, width=size[0], height=size[1]
    )

    def second(picture: Image.Image, note: Callable[[str], None] = lambda _: None) -> Turn:
        larger = starting.enlarged(picture, (size[0], size[1]), recipe.enlarge_with, ctx)
        return turn("from_picture", again, Start((size[0], size[1]), larger), note)

    # once for nothing, so that what cannot be done is said before anything is painted
    blank = Image.new("RGB", (size[0], size[1]))
    largest = turn("from_picture", again, Start((size[0], size[1]), blank), ctx.note).asked
    each = recipe.steps + steps
    return Painting(pipe, recipe, first, second, largest, each, float(each * recipe.count))


def _control(recipe: ImageRecipe, networks: list[Any]) -> tuple[str, dict[str, Any]]:
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


def _guiding(filter: str, picture: Image.Image, begin: Start | None, size: tuple[int, int]) -> Image.Image:
    """A control picture of the size that is painted, and of the part of it that is painted."""
    from studio.engines.image import filters

    picture = starting.on_ground(picture)
    picture = begin.seen_of(picture) if begin is not None else starting.covered(picture, size)
    return filters.apply(filter, picture)


@contextlib.contextmanager
def running(
    turn: Turn, recipe: ImageRecipe, seeds: list[int], watch: Watch, additions: Additions, ctx: RunContext
) -> Iterator[dict[str, Any]]:
    """What is laid around one call of a pipeline. Yields the arguments of the call."""
    import torch

    asked = turn.asked
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
