"""Whole picture models: one that is trained on, and a small one from scratch.

Knows pipelines and how they are kept; how a new one is built is in new_models.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from studio.core.cards import ModelCard
from studio.core.files import write_durably
from studio.core.problems import BadResult
from studio.engines.image import loading, trouble
from studio.engines.train import new_models, picture_card, picture_models
from studio.engines.train.families import Family, family_of
from studio.engines.train.loop import Estimate
from studio.engines.train.painter import Brush, Painter, jpeg, prepare, sheet
from studio.engines.train.picture_models import plainly
from studio.engines.train.task import CHECK_STEPS, Outcome, Task
from studio.models.identify import look


@dataclass
class _Sitting:
    """What is in memory while it learns."""

    pipe: Any
    course: Painter
    brush: Brush


def train_on(task: Task) -> Outcome | Estimate:
    """Train all of a model's denoiser, and its text encoders if asked for; keep it as a model of its own.

    Raises:
        As `TrainImage.run`.
    """
    recipe = task.recipe
    pipe = task.open_base(whole=True)
    family = family_of(pipe)
    readers = [name for name in family.readers if getattr(pipe, name, None) is not None] if recipe.text_encoder else []
    if recipe.text_encoder and not readers:
        task.ctx.note("The text encoders of this kind of model are not trained here; they stay as they are.")
    return _train(task, family, readers, task.base.defaults if task.base is not None else {}, {})


def from_scratch(task: Task) -> Outcome | Estimate:
    """Train a small text-to-picture model of its own: new tokenizer, text encoder and denoiser over an autoencoder.

    Raises:
        ModelMissing: there is no autoencoder. BadRecipe: widths that do not go together. And as `TrainImage.run`.
    """
    pipe = new_models.pipeline(task)
    return _train(task, family_of(pipe), ["text_encoder"], new_models.DEFAULTS, {"betas": (0.9, 0.99)})


def _train(
    task: Task, family: Family, readers: list[str], defaults: Mapping[str, Any], rules: Mapping[str, Any]
) -> Outcome | Estimate:
    recipe, ctx = task.recipe, task.ctx
    sitting = _begun(task, family, readers, defaults)
    if task.rehearsal:
        return task.estimate(sitting.course, task.rules(**rules))
    learned = task.learn(sitting.course, task.rules(**rules))
    if task.trial:
        return Outcome(learned, (), None)
    ctx.progress(recipe.steps, recipe.steps, "steps", "saving")
    brush = sitting.brush
    networks = picture_models.networks_of(sitting.pipe)
    for network in networks:
        network.eval().requires_grad_(False)
    if recipe.half:
        picture_models.rounded(networks)
    prompt, size = next(iter(brush.prompts), ""), brush.size
    steps = min(CHECK_STEPS, int(defaults.get("steps", CHECK_STEPS)))
    expected = brush.paint(prompt, task.seed, steps)
    rows = task.tried_pictures(learned.samples)
    picture = sheet([rows[0], rows[-1]]) if rows else None
    held = [sitting.pipe]
    del sitting, brush, networks, family

    def write(folder: Path) -> None:
        plainly(lambda: picture_models.save_whole(held[0], folder, recipe.half))
        write_durably(folder / "studio.json", task.about(learned, defaults=dict(defaults)))
        if picture is not None:
            write_durably(folder / "samples.jpg", jpeg(picture))
        write_durably(folder / "README.md", picture_card.text(task, learned).encode())
        picture_models.copy_licences(task.base, folder)

    def check(folder: Path) -> str:
        held.clear()  # both may not fit
        trouble.give_back(task.device)
        seen = look(folder)
        if not isinstance(seen, ModelCard) or seen.kind != "image":
            raise BadResult("The model that was made is not recognised as one.", detail=repr(seen)[:2000])
        pipe = loading.open_pipeline(str(folder), task.name, task.device, "float32")
        found = task.brush(pipe, size, (), defaults).paint(prompt, task.seed, steps)
        return picture_models.compared(expected, found, "Opened with plain diffusers", task.coarse)

    return Outcome(learned, (task.place("model", write, check),), picture)


def _begun(task: Task, family: Family, readers: list[str], defaults: Mapping[str, Any]) -> _Sitting:
    recipe, ctx, pipe = task.recipe, task.ctx, family.pipe
    parts = task.parts()
    size = task.size(family)
    prepared = task.preparing(
        lambda: prepare(family, parts, task.folder, task.key, ctx, size=size, mirror=recipe.mirror, read=not readers)
    )
    learning: dict[str, torch.nn.Module] = {
        family.part: family.network,
        **{name: getattr(pipe, name) for name in readers},
    }
    for network in learning.values():
        network.requires_grad_(True).train()
    if recipe.checkpointing:
        family.network.enable_gradient_checkpointing()
    brush = task.brush(pipe, size, task.prompts(parts), defaults)
    course = Painter(
        family, prepared, learning, task.seed, recipe.batch, recipe.accumulate,
        snr=recipe.snr if family.spaced else 0.0, unguided=recipe.unguided if family.guided else 0.0,
        looks=lambda step: brush.tried(step, task.folder), ctx=ctx, judged=task.judged(task.rules()),
    )  # fmt: skip
    return _Sitting(pipe, course, brush)
