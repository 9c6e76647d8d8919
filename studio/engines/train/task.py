"""One picture training, with what was decided about it; and what all ways of learning do alike.

Knows recipes and the loop's rules; knows nothing of how noise is learnt or models are kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from PIL import Image

from studio.core.cards import ModelCard
from studio.core.learning import Made, TrainImageRecipe
from studio.core.made import MadeWith
from studio.core.problems import BadRecipe
from studio.core.text import shown
from studio.engines.context import RunContext
from studio.engines.image import loading
from studio.engines.train import finishing
from studio.engines.train.checkpoints import Checkpoints
from studio.engines.train.families import Family
from studio.engines.train.loop import Course, Estimate, Learned, Rules, estimate, learn, seed_of
from studio.engines.train.painter import JUDGED, Brush
from studio.engines.train.picture_data import Captioned, read_rows

Looked = Callable[[int, dict[str, float]], None]
Precision = Literal["float32", "bfloat16", "float16"]

# What suits each way, where nothing is asked for. Adapters bear more than whole models; a running average is what makes
# a denoiser from scratch paint well early (Song & Ermon 2020, section 4).
RATES = {"lora": 1e-4, "dreambooth": 1e-4, "full": 1e-5, "scratch": 3e-4, "autoencoder": 1e-3}
AVERAGES = {"scratch": 0.9995, "full": 0.9995}
TRIES = 3  # prompts that are taken from captions, where none are given
LONG = 100  # steps from which on they are tried on the way too: painting takes longer than learning in short trainings
CHECK_STEPS = 8  # of the picture by which what was saved is held against what was trained
REHEARSED = 8  # pictures that an estimate prepares, at least
_INIT_SEED = 1 << 42  # in the place of a step: random numbers a model begins with


@dataclass
class Task:
    """One training.

    Attributes:
        base: what is gone on from, or None. vae: an autoencoder of one's own, for scratch.
        folder: of the run; of an estimate, one that goes with its job.
        rehearsal: only an estimate is asked for. trial: nothing is kept of it but its figures.
    """

    recipe: TrainImageRecipe
    ctx: RunContext
    data: ModelCard
    base: ModelCard | None
    vae: ModelCard | None
    folder: Path
    device: str
    precision: Precision
    seed: int
    threads: int
    made_with: MadeWith
    rehearsal: bool = False
    trial: bool = False
    looked: Looked | None = None
    prepared_seconds: float = 0.0  # what preparing everything took, or will take
    opened_seconds: float = 0.0  # what opening models took
    _share: float = 1.0

    @property
    def name(self) -> str:
        return self.recipe.name or f"{self.base.name if self.base else 'New model'} · {self.data.name}"[:80]

    @property
    def key(self) -> str:
        """Changes with what prepared pictures and words depend on."""
        cards = (self.data, self.base, self.vae)
        return "/".join([*(f"{c.id}:{c.sha256}" if c is not None else "" for c in cards), self.precision])

    @property
    def dtype(self) -> str:
        """The number format of weights that only help."""
        return self.precision if self.device != "cpu" else "float32"

    @property
    def coarse(self) -> bool:
        """Whether the same picture may come out a little different twice."""
        return self.device != "cpu"

    def about(self, learned: Learned, **more: Any) -> bytes:
        """`studio.json` of what is kept."""
        return finishing.about(
            name=self.name, method=self.recipe.method, run=self.recipe.run, seed=self.seed, data=self.data,
            learned=learned, base=self.base, base_sha256=self.base.sha256 if self.base else "",
            made_with=self.made_with, more=more,
        )  # fmt: skip

    def parts(self) -> dict[str, list[Captioned]]:
        """The pictures to learn from and those kept apart; of an estimate only a few. Raises BadRecipe: none."""
        train, valid = read_rows(self.data, "train"), read_rows(self.data, "valid")
        if not train:
            raise BadRecipe(f"The data set “{shown(self.data.name, 80)}” holds no picture to learn from.", field="data")
        if self.rehearsal:
            few = max(REHEARSED, self.recipe.batch * self.recipe.accumulate)
            self._share = (len(train) + len(valid)) / (len(train[:few]) + len(valid[:few]))
            train, valid = train[:few], valid[:few]
        if not valid:
            self.ctx.note(
                "The data set keeps no pictures apart for validation, so the last step is taken and not the best one."
            )
        return {"train": train, "valid": valid} if valid else {"train": train}

    def preparing(self, prepare: Callable[[], Any]) -> Any:
        """What `prepare` gives. Its time is taken; that of an estimate is counted for all pictures."""
        began = time.perf_counter()
        made = prepare()
        self.prepared_seconds += (time.perf_counter() - began) * self._share
        return made

    def open_base(self, whole: bool = False) -> Any:
        """The base as it was; nothing of it requires gradients.

        Args:
            whole: all of its numbers in float32, as what learns should be; else in the format that is computed in.
        """
        assert self.base is not None
        self.ctx.loading(self.base.name)
        began = time.perf_counter()
        pipe = loading.open_model(self.base, self.device, "float32" if whole else self.dtype)
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.requires_grad_(False)
        self.opened_seconds += time.perf_counter() - began
        self.ctx.loading(self.base.name, 1.0)
        return pipe

    def size(self, family: Family) -> int:
        """The side of the pictures. Raises BadRecipe: the model cannot do it."""
        size = self.recipe.size or self._own_size(family)
        if size % family.multiple:
            lower = max(family.multiple, size // family.multiple * family.multiple)
            raise BadRecipe(
                f"This model learns sides that are multiples of {family.multiple} px; {size} is none.",
                f"Take {lower} or {lower + family.multiple}.", field="size",
            )  # fmt: skip
        return size

    def _own_size(self, family: Family) -> int:
        card = self.base
        own = card.limits.width if card is not None and card.limits.width else 0
        if not own:
            sides = getattr(family.network.config, "sample_size", None)
            own = (
                sides * family.side
                if isinstance(sides, int)
                else int(getattr(family.pipe, "default_sample_size", 64)) * family.side
            )
        return own // family.multiple * family.multiple

    def begin_numbers(self) -> None:
        """Random numbers for what a new layer begins with: the same ones each time."""
        torch.manual_seed(seed_of(self.seed, _INIT_SEED))

    def prompts(self, parts: Mapping[str, Sequence[Captioned]]) -> tuple[str, ...]:
        """What is tried: as asked for, or captions from over all of the pictures that are kept apart."""
        recipe = self.recipe
        if recipe.prompts:
            return recipe.prompts
        if recipe.method == "dreambooth":
            return (recipe.subject, *((recipe.others,) if recipe.others.strip() else ()))
        rows = parts.get("valid") or parts["train"]
        captions = list(dict.fromkeys(c for row in rows for c in row.captions[:1] if c.strip()))
        count = min(TRIES, len(captions))
        return tuple(captions[n * len(captions) // count] for n in range(count))

    def brush(self, pipe: Any, size: int, prompts: tuple[str, ...], defaults: Mapping[str, Any] | None = None) -> Brush:
        given = defaults if defaults is not None else self.base.defaults if self.base is not None else {}
        return Brush(pipe, size, given, prompts, self.seed, self.ctx)

    def rules(self, **more: Any) -> Rules:
        recipe = self.recipe
        tried = recipe.sample_every or (-(-recipe.steps // 3) if recipe.steps >= LONG else 0)
        average = AVERAGES.get(recipe.method, 0.0) if recipe.average is None else recipe.average
        given: dict[str, Any] = {
            "steps": recipe.steps, "rate": recipe.rate or RATES[recipe.method], "seed": self.seed,
            "accumulate": recipe.accumulate, "warmup": recipe.warmup, "schedule": recipe.schedule,
            "decay": recipe.decay, "clip": recipe.clip, "average": average,
            "check_every": recipe.check_every,
            "patience": recipe.patience, "sample_every": tried,
            "device": self.device, "precision": self.precision, "threads": self.threads,
        }  # fmt: skip
        return Rules(**{**given, **more})

    def judged(self, rules: Rules) -> int:
        """How many draws of each part are looked at to judge by: about a sixth of the time may go into looking."""
        # a picture that is learnt from takes as long as three that are only looked at
        learnt = 3 * rules.steps * self.recipe.batch * rules.accumulate
        looks = 2 * (rules.steps // rules.look_every + 2)
        return max(8, min(JUDGED, round(learnt / 6 / looks)))

    def learn(self, course: Course, rules: Rules) -> Learned:
        return learn(course, rules, self.ctx, Checkpoints(self.folder), looked=self.looked, **self._around)

    @property
    def _around(self) -> dict[str, float]:
        """Seconds before and after learning. What was made is written, and opened once more to be tried."""
        return {
            "before": self.prepared_seconds + self.opened_seconds,
            "after": 0.0 if self.trial else 2 * self.opened_seconds,
        }

    def estimate(self, course: Course, rules: Rules) -> Estimate:
        """What all of it would take, with opening, preparing, saving and checking."""
        if not rules.sample_every:  # so that before and after are counted
            rules = msgspec.structs.replace(rules, sample_every=rules.steps + 1)
        return estimate(course, rules, self.ctx, **self._around)

    def place(self, kind: str, write: Callable[[Path], None], check: Callable[[Path], str]) -> Made:
        """As `finishing.place`, under the training's name."""
        return finishing.place(self.ctx, self.name, kind, write, check)

    def tried_pictures(self, samples: Sequence[Any]) -> list[list[Image.Image]]:
        """What was tried, from the files in the run's folder: a row per step, as far as they are there."""
        rows: dict[int, list[Image.Image]] = {}
        for sample in samples:
            try:
                with Image.open(self.folder / sample.image) as opened:
                    rows.setdefault(sample.step, []).append(opened.convert("RGB"))
            except OSError:
                continue
        return [rows[step] for step in sorted(rows)]


@dataclass
class Outcome:
    """What a way of learning hands back. `picture`: of what was tried before and after."""

    learned: Learned
    made: tuple[Made, ...]
    picture: Image.Image | None
