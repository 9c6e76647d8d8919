"""From a recipe to the arguments of one pipeline's call. Knows signatures and sizes; computes nothing.

A pipeline gets only what its call takes. What a recipe asks for beyond that is said in a note and left out.
Prompts become words here; where they are weighted or kept as embeddings, prompts.py replaces them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from studio.core.cards import ModelCard
from studio.core.problems import BadRecipe, ModelUnfit
from studio.core.recipes import ImageRecipe
from studio.core.wording import has_weights
from studio.engines.image import embeddings, prompts, schedulers
from studio.engines.image.starting import Start

_UNLIMITED = 100_000  # tokens; tokenizers without a limit say 10^30


@dataclass(frozen=True)
class Asked:
    """One checked request.

    Attributes:
        arguments: for the pipeline's call, all but the generator and the callback.
        size: width and height that must come out, px, or None where the pipeline chooses.
        painted: the same, with a guess in place of None.
        steps: denoising steps. reports: how the pipeline tells of its steps.
        scheduler: makes a new scheduler for the picture with this seed; None where the pipeline has none.
    """

    arguments: dict[str, Any]
    size: tuple[int, int] | None
    painted: tuple[int, int]
    steps: int
    reports: Literal["step_end", "callback", "bar"]
    scheduler: Callable[[int], Any] | None


@dataclass(frozen=True)
class Guide:
    """A control network at work on one picture. weight: no unit. start, end: part of the steps, 0…1."""

    picture: Image.Image
    weight: float
    start: float
    end: float


def ask(
    pipe: Any,
    own_scheduler: Any,
    card: ModelCard | None,
    recipe: ImageRecipe,
    note: Callable[[str], None],
    *,
    begin: Start | None = None,
    guides: Sequence[Guide] = (),
    references: Sequence[Image.Image] = (),
) -> Asked:
    """Hold a recipe to what this pipeline can do.

    Args:
        pipe: the pipeline that does it, of the class that fits what it is given.
        begin: the picture to begin from, prepared.
        guides: control pictures of the painted size, in the order of the pipeline's control networks.
        references: pictures for its IP-Adapters, in their order.

    Raises:
        BadRecipe: a size the model cannot do. ModelUnfit: no text-to-picture model, or the scheduler does not fit.
    """
    takes = inspect.signature(type(pipe).__call__).parameters
    if "prompt" not in takes or "generator" not in takes:
        raise ModelUnfit(f"“{type(pipe).__name__}” does not make pictures from words.", "Choose another model.")
    size, painted = _size(pipe, card, recipe) if begin is None else (begin.size, begin.size)
    if begin is not None:
        _check_multiple(begin.size, multiple_of(pipe, card))
    wanted: dict[str, Any] = {"prompt": recipe.prompt}
    wanted |= _pictures(takes, recipe, begin, note) | _guides(takes, guides)
    if references:
        if "ip_adapter_image" not in takes:
            raise ModelUnfit("This model takes no reference pictures in this way of painting.", field="references")
        wanted["ip_adapter_image"] = list(references)
    for needed in ("image", "mask_image", "control_image", "video"):
        if needed in takes and takes[needed].default is inspect.Parameter.empty and needed not in wanted:
            raise ModelUnfit(
                f"“{type(pipe).__name__}” needs a picture to start from.", "Give it one, or choose another model.",
                field="image",
            )  # fmt: skip
    if size is not None:
        if "width" in takes and "height" in takes:
            wanted |= {"width": size[0], "height": size[1]}
        elif begin is None:
            note("This model chooses the size of its pictures itself.")
            size = None
    wanted |= _steps(takes, recipe, note)
    wanted |= _guidance(pipe, takes, recipe, note)
    if recipe.guidance_rescale:
        if "guidance_rescale" in takes:
            wanted["guidance_rescale"] = recipe.guidance_rescale
        elif card is None or card.defaults.get("guidance_rescale") != recipe.guidance_rescale:  # asked for by a person
            note("This model has no guidance rescale; it was left out.")
    if prompts.family(pipe) is None or not _weighed(recipe):
        _tell_cut(pipe, takes, recipe, note)
    reports = _reports(pipe, takes, note)
    return Asked(wanted, size, painted, recipe.steps, reports, _scheduler(own_scheduler, recipe))


def _pictures(
    takes: Any, recipe: ImageRecipe, begin: Start | None, note: Callable[[str], None]
) -> dict[str, Any]:  # fmt: skip
    """What to begin from, under the names this pipeline has for it."""
    if begin is None:
        return {}
    found: dict[str, Any] = {"image": begin.image}
    if begin.mask is not None:
        found["mask_image"] = begin.mask
    if "strength" in takes:
        found["strength"] = recipe.strength
    else:
        note("This model decides itself how far to go from the picture; the strength was left out.")
    return found


def _guides(takes: Any, guides: Sequence[Guide]) -> dict[str, Any]:
    """Control pictures, under the names this pipeline has for them; one value for one network, lists for several."""
    if not guides:
        return {}

    def each(values: list[Any]) -> Any:
        return values[0] if len(values) == 1 else values

    found: dict[str, Any] = {
        "control_image" if "control_image" in takes else "image": each([guide.picture for guide in guides])
    }
    told = {
        "controlnet_conditioning_scale": each([guide.weight for guide in guides]),
        "control_guidance_start": each([guide.start for guide in guides]),
        "control_guidance_end": each([guide.end for guide in guides]),
        "adapter_conditioning_scale": each([guide.weight for guide in guides]),
        "adapter_conditioning_factor": max(guide.end for guide in guides),
    }
    return found | {name: value for name, value in told.items() if name in takes}


def _scheduler(own: Any, recipe: ImageRecipe) -> Callable[[int], Any] | None:
    if own is None:
        if recipe.scheduler != "model" or recipe.sigmas != "model":
            raise ModelUnfit("This model has no scheduler to choose.", "Leave it at “model”.", field="scheduler")
        return None
    name, sigmas = recipe.scheduler, recipe.sigmas
    # once for nothing, so that what does not fit is said before anything is computed
    schedulers.build(own, name, sigmas)
    return lambda seed: schedulers.build(own, name, sigmas, seed)


def _reports(pipe: Any, takes: Any, note: Callable[[str], None]) -> Literal["step_end", "callback", "bar"]:
    if "callback_on_step_end" in takes:
        if "latents" not in getattr(pipe, "_callback_tensor_inputs", ["latents"]):
            note("No previews with this model: it does not show its latents.")
            return "bar"
        return "step_end"
    if "callback" in takes and "callback_steps" in takes:
        return "callback"
    note("No previews with this model: its pipeline does not show its steps.")
    return "bar"


def _steps(takes: Any, recipe: ImageRecipe, note: Callable[[str], None]) -> dict[str, int]:
    if "num_inference_steps" in takes:
        return {"num_inference_steps": recipe.steps}
    note("This model chooses the number of its steps itself.")
    return {}


def _guidance(pipe: Any, takes: Any, recipe: ImageRecipe, note: Callable[[str], None]) -> dict[str, Any]:
    """Guidance and the negative prompt, under the names this pipeline has for them."""
    found: dict[str, Any] = {}
    # Two kinds: "guidance_scale" is classifier-free guidance, except where the pipeline has "true_cfg_scale" for that.
    # There it is a number the network was taught to read (Flux), or not used at all, with default None (Qwen-Image).
    true_guidance = "true_cfg_scale" in takes
    only_true = true_guidance and ("guidance_scale" not in takes or takes["guidance_scale"].default is None)
    if only_true:
        found["true_cfg_scale"] = recipe.guidance
        if recipe.guidance > 1 and "negative_prompt" in takes:
            found["negative_prompt"] = recipe.negative or " "  # without any, these pipelines leave guidance off
            return found
    elif "guidance_scale" in takes:
        found["guidance_scale"] = recipe.guidance
    elif recipe.guidance not in (0.0, 1.0):
        note("This model has no guidance; it was left out.")
    if recipe.negative.strip():
        if "negative_prompt" not in takes or (true_guidance and not only_true):
            note("This model cannot avoid things; what to avoid was left out.")
        else:
            # Left out when empty: some pipelines (SDXL) tell an empty text from none.
            found["negative_prompt"] = recipe.negative
            if recipe.guidance <= 1:
                note("With guidance at 1 or below, what to avoid has no effect.")
    return found


def _size(pipe: Any, card: ModelCard | None, recipe: ImageRecipe) -> tuple[tuple[int, int] | None, tuple[int, int]]:
    """The size to ask for, or None for the pipeline's own, and a guess where that is unknown."""
    limits = card.limits if card else None
    own_wide, own_high = _own_size(pipe)
    wide = recipe.width or (limits.width if limits else None)
    high = recipe.height or (limits.height if limits else None)
    if wide is None and high is None:
        return None, (own_wide, own_high)
    wide, high = wide or own_wide, high or own_high
    _check_multiple((wide, high), multiple_of(pipe, card))
    return (wide, high), (wide, high)


def own_size(pipe: Any, card: ModelCard | None) -> tuple[int, int]:
    """Width and height the model was made for, px."""
    wide, high = _own_size(pipe)
    limits = card.limits if card else None
    return (limits.width if limits else None) or wide, (limits.height if limits else None) or high


def multiple_of(pipe: Any, card: ModelCard | None) -> int:
    """What width and height must be divisible by, px: as the card says, else as the pipeline's parts tell."""
    return (card.limits.size_multiple if card else None) or size_multiple(pipe)


def _check_multiple(size: tuple[int, int], multiple: int) -> None:
    for name, value in (("width", size[0]), ("height", size[1])):
        if value % multiple:
            low = value // multiple * multiple
            near = [str(v) for v in (low, low + multiple) if v > 0]
            raise BadRecipe(
                f"This model needs a {name} that is a multiple of {multiple}; {value} is not.",
                f"The nearest that fit are {' and '.join(near)}.", field=name,
            )  # fmt: skip


def size_multiple(pipe: Any) -> int:
    """What width and height must be divisible by, px: the autoencoder's factor times the network's patch."""
    factor = int(getattr(pipe, "vae_scale_factor", 0) or 8)
    network = getattr(pipe, "transformer", None)
    if network is None:
        return math.lcm(8, factor)  # pipelines around a U-Net check for 8, whatever their autoencoder does
    patch = network.config.get("patch_size") or 1
    patch = max(patch) if isinstance(patch, (list, tuple)) else int(patch)
    if hasattr(pipe, "_pack_latents") or hasattr(pipe, "_patchify_latents"):
        patch = max(2, patch)  # packed two by two before the network sees them
    return factor * patch


def _own_size(pipe: Any) -> tuple[int, int]:
    """The size the pipeline takes when none is given, as width and height."""
    factor = int(getattr(pipe, "vae_scale_factor", 0) or 8)
    network = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    sample = getattr(pipe, "default_sample_size", None)
    if sample is None and network is not None:
        sample = network.config.get("sample_size")
    if isinstance(sample, (list, tuple)) and len(sample) == 2:
        return int(sample[1]) * factor, int(sample[0]) * factor
    side = int(sample) * factor if isinstance(sample, int) else 1024
    return side, side


def count_tokens(pipe: Any, prompt: str) -> int:
    """How many tokens the text encoder that reads furthest sees in a prompt, with those that mark begin and end.

    Of several text encoders it is the one whose limit is on the model's card (`prompt_tokens`) and in the note about
    a prompt that was cut off.

    Raises:
        ModelUnfit: the pipeline has no tokenizer that can count.
    """
    found = _furthest(pipe, inspect.signature(type(pipe).__call__).parameters)
    if found is None:
        raise ModelUnfit("This model has no tokenizer to count with.")
    return _counted(found[0], prompt)


def _furthest(pipe: Any, takes: Any) -> tuple[Any, int | None] | None:
    """The tokenizer that reads furthest, the first of equals, and its limit (None: it reads everything); or None."""
    furthest: tuple[Any, int] | None = None
    for name in ("tokenizer", "tokenizer_2", "tokenizer_3", "tokenizer_4"):
        tokenizer = getattr(pipe, name, None)
        if tokenizer is None or not hasattr(tokenizer, "num_special_tokens_to_add"):
            continue
        limit = _token_limit(tokenizer, takes)
        if limit is None:
            return tokenizer, None
        if furthest is None or limit > furthest[1]:
            furthest = (tokenizer, limit)
    return furthest


def _counted(tokenizer: Any, prompt: str) -> int:
    # not by calling it: that logs a warning of indexing errors, which the pipeline prevents by cutting
    return len(tokenizer.tokenize(prompt)) + int(tokenizer.num_special_tokens_to_add())


def _weighed(recipe: ImageRecipe) -> bool:
    """Whether the prompt is read with weights, and then in as many pieces as it takes."""
    return recipe.reading in ("a1111", "compel") or (recipe.reading == "auto" and has_weights(recipe.prompt))


def _tell_cut(pipe: Any, takes: Any, recipe: ImageRecipe, note: Callable[[str], None]) -> None:
    """Say what the text encoder that reads furthest will not read."""
    found = _furthest(pipe, takes)
    if found is None or found[1] is None:
        return
    read, there = found[1], _counted(found[0], embeddings.spelled(pipe, recipe.prompt))
    if there > read:
        more = " With prompt weights at “a1111” all of it is read." if prompts.family(pipe) is not None else ""
        note(
            f"The prompt has {there:,} tokens; this model reads {read:,}, so the last {there - read:,} were cut off."
            f"{more}"
        )


def _token_limit(tokenizer: Any, takes: Any) -> int | None:
    limit = int(getattr(tokenizer, "model_max_length", 0) or 0)
    if "CLIP" not in type(tokenizer).__name__ and "max_sequence_length" in takes:
        given = takes["max_sequence_length"].default
        if isinstance(given, int):
            return given
    return limit if 0 < limit < _UNLIMITED else None
