"""The engine "train.image": picture models learn from captioned pictures.

Knows recipes, and which way of learning is made of which parts; how noise is learnt is in families.py, from what in
picture_data.py, the steps in loop.py, and how what was made is kept in picture_models.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import platform
import re
import shutil
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import ClassVar

import msgspec
import torch
from PIL import Image

from studio.core.cards import ModelCard
from studio.core.files import write_durably
from studio.core.learning import TrainImageRecipe, Training
from studio.core.made import MadeWith
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, BadSetting, ModelMissing
from studio.core.recipes import Recipe
from studio.core.text import shown
from studio.core.works import Result
from studio.engines import device as devices
from studio.engines.context import RunContext
from studio.engines.image import loading, trouble
from studio.engines.train import adapters, autoencoder, finishing, wholes
from studio.engines.train.checkpoints import Checkpoints, with_room
from studio.engines.train.loop import JUDGE, Estimate, Learned
from studio.engines.train.painter import SAMPLES
from studio.engines.train.task import Looked, Outcome, Precision, Task
from studio.models.fingerprint import fingerprint

_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# what may change while a run goes on: it changes no number
_COSMETIC = {"title", "name", "made_with", "run", "plan_only", "prompts", "sample_every", "kind", "half"}


class TrainImage:
    """See studio/engines/base.py for the contract. Holds no model between jobs."""

    kind: ClassVar[str] = "train-image"

    def __init__(self) -> None:
        self._plan = Plan()
        self._device, self._precision = "cpu", ""

    def load(self, card: ModelCard, plan: Plan, ctx: RunContext) -> None:
        """Take the plan; models are opened in `run`. Raises BadSetting: the device is not there."""
        loading.go_offline()
        self._plan = plan
        try:
            self._device, _ = devices.pick(plan.device, "auto")
        except BadSetting:
            if not plan.again:
                raise
            self._device, _ = devices.pick("auto", "auto")  # made on another computer

    def run(self, recipe: Recipe, ctx: RunContext) -> Result:
        """Learn, keep what was made, and load it back.

        Raises:
            BadRecipe: settings that do not go together. ModelUnfit: the base cannot be trained. NotRead: the data are
            damaged. BadResult: the loss is no number any more, or what was saved is not what was trained. OutOfMemory.
            NotSaved, OSError: the disk is full or refuses. And what opening a model raises.
        """
        assert isinstance(recipe, TrainImageRecipe), "the runtime gives each engine its own kind"
        ctx.check()
        began = time.perf_counter()
        if recipe.plan_only:
            return self._planned(recipe, ctx)
        folder = run_folder(ctx, recipe.run)
        training = finishing.ended(folder)  # it was killed between the end and its being heard
        picture = None
        if training is None:
            found = self._learnt(self._task(recipe, ctx, folder))
            assert isinstance(found, Outcome)
            training, picture = self._training(recipe, ctx, found), found.picture
            data = msgspec.json.encode(training)
            with_room(ctx, lambda: write_durably(folder / finishing.DONE, data))
        meta = {"steps": training.steps, "best_step": training.best_step, "method": training.method}
        for when, values in (("before", training.before), ("after", training.after)):
            if JUDGE in values:
                meta[when] = round(values[JUDGE], 4)
        text = msgspec.json.format(msgspec.json.encode(training), indent=1)
        ctx.save(finishing.MASTER, text, meta=meta, seconds=time.perf_counter() - began)
        small = _thumbnail(picture) if picture is not None else finishing.curve_picture(training)
        ctx.save(finishing.THUMBNAIL, small, role="thumbnail")
        _tidy(folder)
        return Result(artifacts=tuple(ctx.saved), made_with=self.made_with(), notes=tuple(ctx.notes))

    def trial(self, recipe: TrainImageRecipe, ctx: RunContext, looked: Looked | None = None) -> Learned:
        """Learn and keep nothing, for a search. `looked` as in `loop.learn`. Raises as `run`."""
        folder = run_folder(ctx, recipe.run)
        task = self._task(recipe, ctx, folder)
        task.trial, task.looked = True, looked
        found = self._learnt(task)
        assert isinstance(found, Outcome)
        return found.learned

    def _planned(self, recipe: TrainImageRecipe, ctx: RunContext) -> Result:
        """What it would take; nothing of it is kept."""
        folder = ctx.out_dir / "plan"
        try:
            found = self._learnt(self._task(recipe, ctx, folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        assert isinstance(found, Estimate)
        meta = {
            "seconds": found.seconds, "least": found.least, "bytes": found.bytes, "steps": found.steps,
            "pictures": round(found.units * found.steps),
        }  # fmt: skip
        artifact = ctx.save("0.estimate.json", msgspec.json.encode(meta), meta=meta)
        return Result(artifacts=(artifact,), made_with=self.made_with(), notes=tuple(ctx.notes))

    def _learnt(self, task: Task) -> Outcome | Estimate:
        try:
            return _WAYS[task.recipe.method](task)
        except (RuntimeError, MemoryError) as error:
            if not trouble.is_out_of_memory(error):
                raise
            raise trouble.out_of_memory(error, "preparing the training", self._device) from error
        finally:
            trouble.give_back(self._device)

    def _task(self, recipe: TrainImageRecipe, ctx: RunContext, folder: Path) -> Task:
        """What is decided before the first step. Of a run that is gone on with, threads are those it began with."""
        data = finishing.data_card(ctx, recipe.data)
        base = _there(ctx, recipe.model, "model")
        vae = _there(ctx, recipe.vae, "vae")
        self._precision = precision = self._precision_for(recipe)
        text = recipe.run or ctx.job
        seed = recipe.seed if recipe.seed is not None else int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
        threads = max(1, self._plan.threads)
        if not recipe.plan_only:
            settings = {k: v for k, v in msgspec.to_builtins(recipe).items() if k not in _COSMETIC}
            settings |= {"seed": seed, "precision": precision, "device": self._device.split(":")[0]}
            settings |= {"data_sha256": data.sha256, "base_sha256": base.sha256 if base else ""}
            settings |= {"vae_sha256": vae.sha256 if vae else ""}
            threads = Checkpoints(folder).begin(settings, threads)
        torch.set_num_threads(threads)
        return Task(
            recipe, ctx, data, base, vae, folder, self._device, precision, seed, threads, self.made_with(),
            rehearsal=recipe.plan_only,
        )  # fmt: skip

    def _precision_for(self, recipe: TrainImageRecipe) -> Precision:
        """What is asked for, or what the device is good at."""
        if recipe.precision != "auto":
            return recipe.precision
        suited = devices.pick(self._device, "auto")[1]
        return "float16" if suited == "float16" else "bfloat16" if suited == "bfloat16" else "float32"

    def _training(self, recipe: TrainImageRecipe, ctx: RunContext, found: Outcome) -> Training:
        learned = found.learned
        return Training(
            run=recipe.run, name=recipe.name or ctx.card(recipe.data).name, method=recipe.method, base=recipe.model,
            data=recipe.data, data_sha256=ctx.card(recipe.data).sha256, steps=learned.steps, planned=recipe.steps,
            best_step=learned.best_step, before=learned.before, after=learned.after, curve=learned.curve,
            samples=learned.samples, made=found.made, estimate=learned.estimate, seconds=round(learned.seconds, 3),
            peak_bytes=learned.peak_bytes, why=learned.why, notes=tuple(ctx.notes),
        )  # fmt: skip

    def unload(self) -> None:
        trouble.give_back(self._device)

    def made_with(self) -> MadeWith:
        versions = {"python": platform.python_version()}
        for name in ("torch", "diffusers", "transformers", "peft"):
            with contextlib.suppress(metadata.PackageNotFoundError):
                versions[name] = metadata.version(name)
        return MadeWith(
            engine="train.image", device=self._device, dtype=self._precision, threads=self._plan.threads,
            versions=versions, system=f"{platform.system()} {platform.machine()}",
        )  # fmt: skip


_WAYS: dict[str, Callable[[Task], Outcome | Estimate]] = {
    "lora": adapters.train, "dreambooth": adapters.train, "full": wholes.train_on, "scratch": wholes.from_scratch,
    "autoencoder": autoencoder.train,
}  # fmt: skip


def run_folder(ctx: RunContext, run: str) -> Path:
    """The folder of a run. Raises BadRecipe: that is no name of one."""
    if not run:
        return ctx.out_dir / "run"
    if not _RUN.fullmatch(run):
        raise BadRecipe("That is not the name of a run.", field="run")
    return ctx.paths.runs / run


def _there(ctx: RunContext, name: str, field: str) -> ModelCard | None:
    """The card of a model that a recipe names, if it names one. Raises ModelMissing."""
    if not name:
        return None
    card = ctx.card(name)
    if not Path(card.path).exists():
        raise ModelMissing(f"The model “{shown(card.name, 80)}” is not there any more.", field=field)
    return msgspec.structs.replace(card, sha256=card.sha256 or fingerprint(Path(card.path), ctx.cache_dir))


def _thumbnail(picture: Image.Image) -> bytes:
    small = picture.copy()
    small.thumbnail((256, 256), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.save(stream, "WEBP", quality=85)
    return stream.getvalue()


def _tidy(folder: Path) -> None:
    """After the end of a run: what it could go on from takes much room. What was tried stays, to be looked at."""
    for entry in list(folder.iterdir()):
        if entry.name not in (finishing.DONE, SAMPLES):
            with contextlib.suppress(OSError):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
