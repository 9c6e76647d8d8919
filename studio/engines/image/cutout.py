"""Backgrounds made transparent by segmentation networks: ONNX files that turn a picture into one mask.

Knows graphs with one picture in and a mask out, and the few ways in which their makers prepare the picture. Knows
nothing of queues or windows.
"""

from __future__ import annotations

import contextlib
import functools
import json
import platform
import re
import time
from importlib import metadata
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np
from PIL import Image, ImageChops, ImageFilter

from studio.core.cards import ModelCard
from studio.core.plans import Plan
from studio.core.problems import (
    BadResult,
    ModelMissing,
    ModelRefused,
    ModelUnfit,
)
from studio.core.recipes import CutoutRecipe, MadeWith, Recipe
from studio.core.works import Result
from studio.engines.context import RunContext
from studio.engines.image import opening, saving
from studio.engines.onnx import PictureGraph

ENGINE = "image.cutout"
USUAL_SIDE = 1024  # px, where the graph takes any size

Triple = tuple[float, float, float]


class Preparation(msgspec.Struct, frozen=True):
    """How a network wants its picture: (x − mean) / std for each channel of x from 0 to 1."""

    mean: Triple
    std: Triple


CENTRED = Preparation((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
IMAGENET = Preparation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

HALVED = Preparation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

# Words in what is known of a model -> its preparation, as its makers' own code does it. The first that is found
# anywhere counts: RMBG 2.0 is a BiRefNet, RMBG 1.4 an IS-Net.
FAMILIES: tuple[tuple[str, Preparation], ...] = (
    (r"birefnet|rmbg[\W_]*v?2|ben2|inspyrenet", IMAGENET),
    (r"rmbg|is-?net|\bdis\b", CENTRED),
    (r"u-?2-?net|silueta", IMAGENET),
    (r"modnet", HALVED),
)


class Cutout:
    """The engine "image.cutout"; see studio/engines/base.py for the contract. It computes on the processor."""

    kind: ClassVar[str] = "cutout"

    def __init__(self) -> None:
        self._graph: PictureGraph | None = None
        self._loaded: tuple[ModelCard, int] | None = None
        self._plan = Plan()
        self._preparation = CENTRED
        self._side = (USUAL_SIDE, USUAL_SIDE)

    def load(self, card: ModelCard, plan: Plan, ctx: RunContext) -> None:
        """Make a network ready; what is loaded already and fits the plan stays.

        Raises:
            ModelMissing, ModelBroken, ModelRefused, ModelUnfit, EngineMissing, OutOfMemory.
        """
        self._plan = plan
        threads = max(1, plan.threads)
        if self._graph is not None and self._loaded == (card, threads):
            return
        self.unload()
        ctx.check()
        ctx.loading(card.name)
        graph = _opened(card, threads)
        wide, high = graph.sides
        self._side = graph.size((high or USUAL_SIDE, wide or USUAL_SIDE))
        self._preparation = preparation_of(card, graph.texts)
        self._graph, self._loaded = graph, (card, threads)
        ctx.loading(card.name, 1.0)

    def run(self, recipe: Recipe, ctx: RunContext) -> Result:
        """Make the background of one picture transparent.

        Raises:
            NotFound, NotRead, BadRecipe: the picture itself. BadResult: no mask came out. ModelUnfit. OutOfMemory.
            OSError: the disk refuses.
        """
        if not isinstance(recipe, CutoutRecipe):
            raise ModelUnfit("A cut-out model cuts pictures out and makes none.")
        if self._graph is None or self._loaded is None:
            raise ModelMissing("No cut-out model is loaded.")
        ctx.check()
        began = time.perf_counter()
        picture = opening.open_picture(ctx.input(recipe.image), ctx.note)
        ctx.progress(1, 4, "steps", "looking")
        mask = self._mask(self._graph, picture, ctx)
        ctx.progress(2, 4, "steps", "cutting out")
        ctx.check()
        alpha = edged(mask.resize(picture.size, Image.Resampling.BICUBIC), recipe.shrink, recipe.soften)
        if picture.mode == "RGBA":  # what was see-through before stays so
            alpha = ImageChops.multiply(alpha, picture.getchannel("A"))
        if alpha.getbbox() is None:
            ctx.note("The model found nothing to keep: the picture is transparent all over.")
        made = picture.convert("RGB")
        made.putalpha(alpha)
        ctx.progress(3, 4, "steps", "saving")
        own = msgspec.structs.replace(recipe, made_with=self.made_with())
        artifacts = saving.save(made, 0, None, time.perf_counter() - began, own, ctx)
        ctx.progress(4, 4, "steps", "saving")
        return Result(artifacts=tuple(artifacts), made_with=self.made_with(), notes=tuple(ctx.notes))

    def unload(self) -> None:
        """Let go of the model."""
        self._graph = self._loaded = None

    def made_with(self) -> MadeWith:
        return MadeWith(
            engine=ENGINE,
            device="cpu",
            dtype="float32",
            threads=self._plan.threads,
            versions=_versions(),
            system=f"{platform.system()} {platform.machine()}",
        )

    def _mask(self, graph: PictureGraph, picture: Image.Image, ctx: RunContext) -> Image.Image:
        """What the network sees in a picture, mode L, in the network's own size."""
        assert self._loaded is not None
        first = graph.outputs[0].name
        out = graph.look(prepared(picture, self._side, self._preparation), ctx, only=first)[first]
        return as_mask(out, self._loaded[0].name)


@functools.cache  # reading a package's metadata takes milliseconds
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("onnxruntime", "pillow"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


# -- the network


def _opened(card: ModelCard, threads: int) -> PictureGraph:
    path = Path(card.path)
    called = f"The cut-out model “{card.name}”"
    if path.is_file() and path.suffix.lower() != ".onnx":
        raise ModelRefused(f"{called} is refused: only ONNX files are read.")
    graph = PictureGraph(path, threads, called, card.name, needs="Cutting out needs")
    colours = graph.inputs[0].shape[1] if graph.takes_one_picture else 0  # a graph may leave their number open
    if not (colours == 3 or colours is None or isinstance(colours, str)):
        raise ModelUnfit(f"“{card.name}” does not take one picture of three colours.", "Choose another one.")
    return graph


def preparation_of(card: ModelCard, own: dict[str, str]) -> Preparation:
    """How a network wants its picture.

    Args:
        own: the texts its file carries. “mean” and “std” in it, as three numbers from 0 to 1, count first; then words
            in what is known of the model; then the most usual way.
    """
    said = own_preparation(own)
    if said is not None:
        return said
    known = "\n".join((card.family, *card.notes, *own.values(), card.name, Path(card.path).stem, card.id))
    return next((how for words, how in FAMILIES if re.search(words, known, re.IGNORECASE)), CENTRED)


def own_preparation(own: dict[str, str]) -> Preparation | None:
    """What the texts of a file say of it, as “mean” and “std”; None where they say nothing usable."""
    mean, std = _triple(own.get("mean", "")), _triple(own.get("std", ""))
    return Preparation(mean, std) if mean is not None and std is not None and min(std) > 0 else None


def _triple(text: str) -> Triple | None:
    try:
        values = json.loads(text if text.lstrip().startswith("[") else f"[{text}]")
        numbers = tuple(float(value) for value in values)
    except (ValueError, TypeError, RecursionError):
        return None
    if len(numbers) != 3 or not all(np.isfinite(numbers)):
        return None
    return numbers[0], numbers[1], numbers[2]


def prepared(picture: Image.Image, size: tuple[int, int], how: Preparation) -> np.ndarray:
    """(1, 3, H, W) float32 of a picture, stretched to a size, as these networks learned to see them."""
    if picture.mode == "RGBA":  # what is see-through has colours that nobody was meant to see
        paper = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(paper, picture)
    small = picture.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    values = np.asarray(small, np.float32) / 255
    values = (values - np.array(how.mean, np.float32)) / np.array(how.std, np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[np.newaxis])


# -- the mask


def as_mask(out: np.ndarray, name: str = "the model") -> Image.Image:
    """A network's output as a picture of mode L: white is kept.

    Logits are put through the logistic function, and what was found is stretched to the full range, as the makers of
    these networks do; not where nothing was found, which would turn noise into a mask.

    Raises:
        ModelUnfit: it is no mask. BadResult: numbers that are not finite.
    """
    values = np.asarray(out, np.float32)
    if values.ndim < 2 or values.size != values.shape[-1] * values.shape[-2]:
        raise ModelUnfit(f"“{name}” gives something that is not one mask.", "Choose another one.")
    values = values.reshape(values.shape[-2:])
    if not np.isfinite(values).all():
        raise BadResult(f"“{name}” gave numbers that are not finite.", "Its file may be damaged: copy it again.")
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low < -0.01 or high > 1.01:
        values = (1 / (1 + np.exp(-np.clip(values, -60, 60)))).astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if high - low > 0.5:
        values = (values - low) / (high - low)
    return Image.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8))


def edged(alpha: Image.Image, shrink: int, soften: float) -> Image.Image:
    """A mask with its edge moved inwards (below 0: outwards), then softened; both in px."""
    if shrink:
        from scipy import ndimage

        values, side = np.asarray(alpha), 2 * abs(shrink) + 1
        move = ndimage.minimum_filter1d if shrink > 0 else ndimage.maximum_filter1d
        for axis in (0, 1):  # beyond the picture's own edge things are taken to go on
            values = move(values, side, axis=axis, mode="nearest")
        alpha = Image.fromarray(values)
    return alpha.filter(ImageFilter.GaussianBlur(soften)) if soften else alpha
