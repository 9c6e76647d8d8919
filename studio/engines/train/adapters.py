"""LoRA, and DreamBooth by LoRA: a small adapter learns, the model stays as it is.

Knows peft's adapters over diffusers' networks; knows nothing of noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from studio.core.files import write_durably
from studio.core.problems import NotSaved
from studio.core.recipes import SEED_LIMIT
from studio.engines.image import loading, trouble
from studio.engines.train import picture_card, picture_models
from studio.engines.train.families import Family, family_of
from studio.engines.train.finishing import place
from studio.engines.train.loop import Estimate
from studio.engines.train.painter import Brush, Painter, jpeg, prepare, sheet
from studio.engines.train.picture_data import Captioned
from studio.engines.train.picture_models import plainly
from studio.engines.train.task import CHECK_STEPS, Outcome, Task

OTHERS = "others"
_OTHERS_SEED = 1_000  # after the training's own: not the pictures that are tried


@dataclass
class _Sitting:
    """What is in memory while it learns."""

    pipe: Any
    networks: dict[str, torch.nn.Module]
    course: Painter
    brush: Brush


def train(task: Task) -> Outcome | Estimate:
    """Train an adapter, keep it, and load it back into plain diffusers.

    Raises:
        As `TrainImage.run`.
    """
    recipe, ctx = task.recipe, task.ctx
    sitting = _begun(task)
    if task.rehearsal:
        return task.estimate(sitting.course, task.rules())
    learned = task.learn(sitting.course, task.rules())
    if task.trial:
        return Outcome(learned, (), None)
    for network in sitting.networks.values():
        network.eval()
    ctx.progress(recipe.steps, recipe.steps, "steps", "saving")
    brush = sitting.brush
    prompt, size = next(iter(brush.prompts), ""), brush.size
    steps = min(CHECK_STEPS, int(brush.defaults.get("steps", CHECK_STEPS)))
    expected = brush.paint(prompt, task.seed, steps)
    rows = task.tried_pictures(learned.samples)
    picture = sheet([rows[0], rows[-1]]) if rows else None
    held = [sitting]
    del sitting, brush

    def write(folder: Path) -> None:
        assert task.base is not None
        trigger = recipe.subject if recipe.method == "dreambooth" else ""
        said = picture_models.adapter_metadata(task.base, task.name, trigger, learned.best_step, task.data.sha256)
        file = plainly(lambda: picture_models.save_adapter(held[0].pipe, held[0].networks, folder, task.name, said))
        picture_models.check_adapter(file, task.base)
        write_durably(folder / f"{file.name}.studio.json", task.about(learned))
        if picture is not None:
            write_durably(folder / "samples.jpg", jpeg(picture))
        write_durably(folder / "README.md", picture_card.text(task, learned, file.name).encode())

    def check(folder: Path) -> str:
        held.clear()  # the model in memory goes before its base is opened anew: both may not fit
        trouble.give_back(task.device)
        return _loaded_back(task, next(folder.glob("*.safetensors")), prompt, steps, size, expected)

    return Outcome(learned, (place(ctx, task.name, "adapter", write, check),), picture)


def _begun(task: Task) -> _Sitting:
    """The base with an adapter over it, and pictures and words prepared."""
    recipe, ctx = task.recipe, task.ctx
    parts = task.parts()
    pipe = task.open_base()
    family = family_of(pipe)
    size = task.size(family)
    if recipe.method == "dreambooth":
        parts = {name: [Captioned(row.path, (recipe.subject,)) for row in rows] for name, rows in parts.items()}
        if recipe.others.strip():
            parts[OTHERS] = _others(task, pipe, size)
    readers = family.readers if recipe.text_encoder else ()
    if recipe.text_encoder and not readers:
        ctx.note("The text encoders of this kind of model are not trained here; they stay as they are.")
    prepared = task.preparing(
        lambda: prepare(family, parts, task.folder, task.key, ctx, size=size, mirror=recipe.mirror, read=not readers)
    )
    networks = _with_adapters(task, family, readers)
    if recipe.checkpointing:
        family.network.enable_gradient_checkpointing()
    brush = task.brush(pipe, size, task.prompts(parts))
    course = Painter(
        family, prepared, networks, task.seed, recipe.batch, recipe.accumulate,
        snr=recipe.snr if family.spaced else 0.0, unguided=recipe.unguided if family.guided else 0.0,
        looks=lambda step: brush.tried(step, task.folder), ctx=ctx, judged=task.judged(task.rules()),
    )  # fmt: skip
    for network in networks.values():
        network.train()
    return _Sitting(pipe, networks, course, brush)


def _with_adapters(task: Task, family: Family, readers: tuple[str, ...]) -> dict[str, torch.nn.Module]:
    """Lay adapters over the denoiser and text encoders; their numbers are float32 and alone require gradients."""
    from peft import LoraConfig

    recipe = task.recipe
    task.begin_numbers()
    networks: dict[str, Any] = {}
    layers = {family.part: family.layers} | {
        name: family.reader_layers for name in readers if getattr(family.pipe, name, None) is not None
    }
    for name, targets in layers.items():
        network = getattr(family.pipe, name)
        # "gaussian": the first matrix is drawn as in the scripts of diffusers; the second is 0, so nothing changes yet
        network.add_adapter(
            LoraConfig(
                r=recipe.rank, lora_alpha=recipe.alpha, init_lora_weights="gaussian", target_modules=list(targets)
            )
        )
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        networks[name] = network
    return networks


def _others(task: Task, pipe: Any, size: int) -> list[Captioned]:
    """Pictures of the subject's kind, painted by the model as it is.

    Learnt along with the subject's they keep what it knew of that kind (prior preservation, Ruiz et al. 2023, section
    3.2). They lie in the run's folder; those that are there already are not painted again.
    """
    recipe, ctx = task.recipe, task.ctx
    count = 1 if task.rehearsal else recipe.others_count
    folder = task.folder / OTHERS
    brush = task.brush(pipe, size, ())
    rows = []

    def paint() -> None:
        for number in range(count):
            ctx.check()
            path = folder / f"{number:05d}.jpg"
            rows.append(Captioned(path, (recipe.others,)))
            if path.is_file():
                continue
            ctx.loading(f"pictures of “{recipe.others}”", number / count)
            picture = brush.paint(recipe.others, (task.seed + _OTHERS_SEED + number) % SEED_LIMIT)
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_durably(path, jpeg(picture))
            except OSError as error:
                raise NotSaved(
                    f"The pictures painted beforehand could not be kept: {error.strerror or error}.",
                    "Make room and begin the training again: it goes on from here.",
                ) from error

    task.prepared_seconds += _timed(paint) * (recipe.others_count if task.rehearsal else 0)
    return rows


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _loaded_back(task: Task, file: Path, prompt: str, steps: int, size: int, expected: Image.Image) -> str:
    """Load the adapter into the base as anyone would, by diffusers alone, and paint the same picture."""
    assert task.base is not None
    pipe = loading.open_model(task.base, task.device, task.dtype)
    pipe.load_lora_weights(
        str(file.parent), weight_name=file.name, use_safetensors=True, local_files_only=True, adapter_name="trained"
    )
    seen = task.brush(pipe, size, ()).paint(prompt, task.seed, steps)
    return picture_models.compared(expected, seen, "Loaded into plain diffusers", task.coarse)
