"""Trainings with several values of chosen settings; the best one is kept. The engine “train.search”.

Optuna proposes the values (TPE) and ends trials early that are worse than the middle one of those before. Knows recipes
and figures; what a trial is, is the business of the engine for texts or pictures.

**It goes on after a kill.** What is known of the trials is in `trials.json` in the folder of the run, and each trial
has a run of its own with its checkpoints. Proposals depend on the seed and on the trials before them alone, so what is
begun again proposes what it would have proposed.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import platform
import shutil
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import msgspec

from studio.core.cards import ModelCard
from studio.core.files import write_durably
from studio.core.learning import Range, SearchRecipe, TrainImageRecipe, Training, TrainTextRecipe
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, BadResult, OutOfMemory
from studio.core.recipes import MadeWith, Recipe, check, fields, kind_of
from studio.core.text import shown
from studio.core.works import Result
from studio.engines import ENGINES
from studio.engines.context import RunContext
from studio.engines.train import finishing
from studio.engines.train.checkpoints import with_room
from studio.engines.train.loop import JUDGE, Learned, seed_of
from studio.engines.train.text import run_folder

ENGINE = "train.search"
TRIALS = "trials.json"
FIRST = 5  # trials with values drawn at random, before any are proposed; of few trials a third
UNPRUNED = 3  # trials that are seen to their end before any is ended early
CHOICES_LIMIT = 64

# These say what is learnt and not how.
_FIXED = {"data", "name", "run", "title", "made_with", "plan_only", "prompts", "seed", "model", "method"}
Training_ = TrainTextRecipe | TrainImageRecipe


class Trainer(Protocol):
    """An engine for trainings, as a search uses it."""

    def load(self, card: ModelCard, plan: Plan, ctx: RunContext) -> None: ...
    def trial(self, recipe: Any, ctx: RunContext, looked: Callable[[int, dict[str, float]], None]) -> Learned: ...
    def run(self, recipe: Recipe, ctx: RunContext) -> Result: ...
    def unload(self) -> None: ...
    def made_with(self) -> MadeWith: ...


class Trial(msgspec.Struct, kw_only=True):
    """One row of `trials.json`. `values`: what was varied. `looks`: number of the look -> what it found."""

    number: int
    values: dict[str, Any]
    state: str = "running"  # "complete", "pruned", "failed"
    value: float | None = None
    looks: dict[int, float] = {}
    steps: int = 0
    best_step: int = 0
    seconds: float = 0.0
    why: str = ""


class _Pruned(Exception):
    """Ends a trial that is worse than the middle one."""


class Search:
    """See studio/engines/base.py. Between two jobs it holds nothing."""

    kind = "search"

    def __init__(self) -> None:
        self._plan = Plan()
        self._card: ModelCard | None = None
        self._trainer: Trainer | None = None

    def load(self, card: ModelCard, plan: Plan, ctx: RunContext) -> None:
        self._plan, self._card = plan, card

    def unload(self) -> None:
        if self._trainer is not None:
            self._trainer.unload()
            self._trainer = None

    def made_with(self) -> MadeWith:
        versions = {"python": platform.python_version()}
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions["optuna"] = metadata.version("optuna")
        if self._trainer is None:
            system = f"{platform.system()} {platform.machine()}"
            return MadeWith(engine=ENGINE, threads=self._plan.threads, versions=versions, system=system)
        made_with = self._trainer.made_with()
        return msgspec.structs.replace(made_with, engine=ENGINE, versions={**made_with.versions, **versions})

    def run(self, recipe: Recipe, ctx: RunContext) -> Result:
        """Try, and keep the best.

        Raises:
            BadRecipe: what is varied is no such setting, or there is nothing to judge by. BadResult: no trial came to
            its end. And what the training itself raises, where it does so whatever the values.
        """
        assert isinstance(recipe, SearchRecipe)
        ctx.check()
        began = time.perf_counter()
        folder = run_folder(ctx, recipe.run)
        training = finishing.ended(folder)
        if training is None:
            training = self._searched(recipe, ctx, folder)
            data = msgspec.json.encode(training)
            with_room(ctx, lambda: write_durably(folder / finishing.DONE, data))
        best = min((t["value"] for t in training.trials if t.get("state") == "complete"), default=math.nan)
        meta = {"trials": len(training.trials), "method": training.method, "after": round(best, 4)}
        finishing.told(ctx, training, began, meta)
        finishing.tidy(folder)
        return Result(artifacts=tuple(ctx.saved), made_with=self.made_with(), notes=tuple(ctx.notes))

    def _searched(self, recipe: SearchRecipe, ctx: RunContext, folder: Path) -> Training:
        self._trainer = trainer = _trainer(recipe.training)
        assert self._card is not None
        trainer.load(self._card, self._plan, ctx)
        if hasattr(trainer, "shared"):
            trainer.shared = folder / "tokens"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = _Known(recipe, folder)
        while (trial := known.next()) is not None:
            with_room(ctx, known.save)
            self._try(trainer, recipe, trial, known, ctx)
            known.tidy(ctx)
            with_room(ctx, known.save)
            _tell(ctx, trial, known)
        best = known.best()
        if best is None:
            why = known.trials[-1].why if known.trials else ""
            raise BadResult("None of the trials came to its end.", why or "Try other values.")
        inner = _Inside(ctx, best.number, recipe.trials, ctx.out_dir / "best")
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, inner.out_dir, ignore_errors=True)
            trainer.run(_recipe(recipe, best), inner)
            kept = msgspec.json.decode((inner.out_dir / finishing.MASTER).read_bytes(), type=Training)
        with contextlib.suppress(OSError):
            shutil.rmtree(ctx.paths.runs / _run(recipe, best.number))
        return msgspec.structs.replace(
            kept, run=recipe.run, trials=tuple(_row(t) for t in known.trials), importance=known.importance(),
            seconds=round(sum(t.seconds for t in known.trials), 3), notes=tuple(ctx.notes),
        )  # fmt: skip

    def _try(self, trainer: Trainer, recipe: SearchRecipe, trial: Trial, known: _Known, ctx: RunContext) -> None:
        """One trial, to its end or to where it is ended."""
        inner = _Inside(ctx, trial.number, recipe.trials)
        looks = [0]
        trial.looks = {}

        def looked(step: int, values: dict[str, float]) -> None:
            if JUDGE not in values:
                raise BadRecipe(
                    "A search needs rows for validation to judge by.", "Make the data set with some.", field="training"
                )
            looks[0] += 1
            trial.looks[looks[0]], trial.steps = values[JUDGE], step
            if recipe.prune and known.is_poor(trial, looks[0]):
                raise _Pruned

        began = time.perf_counter()
        try:
            learned = trainer.trial(_recipe(recipe, trial), inner, looked)
        except _Pruned:
            trial.state, trial.value = "pruned", min(trial.looks.values())
        except (BadResult, OutOfMemory) as error:  # of these values; others may do
            trial.state, trial.why = "failed", error.problem.sentence
        else:
            if JUDGE not in learned.after:
                raise BadRecipe(
                    "A search needs rows for validation to judge by.", "Make the data set with some.", field="training"
                )
            trial.state, trial.value = "complete", learned.after[JUDGE]
            trial.steps, trial.best_step, trial.why = learned.steps, learned.best_step, learned.why
        trial.seconds = round(trial.seconds + time.perf_counter() - began, 3)


class _Known:
    """What is known of the trials, and Optuna's study of them."""

    def __init__(self, recipe: SearchRecipe, folder: Path) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna, self._recipe, self._path = optuna, recipe, folder / TRIALS
        self._over = distributions(recipe)
        self.trials: list[Trial] = []
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            self.trials = msgspec.json.decode(self._path.read_bytes(), type=list[Trial])

    def save(self) -> None:
        write_durably(self._path, msgspec.json.format(msgspec.json.encode(self.trials), indent=1))

    def next(self) -> Trial | None:
        """The trial that was under way, or a new one; None when there were enough."""
        if self.trials and self.trials[-1].state == "running":
            return self.trials[-1]
        number = len(self.trials)
        if number >= self._recipe.trials:
            return None
        study = self._study(seed_of(self._recipe.seed or 0, number) % (1 << 32))
        trial = Trial(number=number, values=dict(study.ask(self._over).params))
        self.trials.append(trial)
        return trial

    def _study(self, seed: int) -> Any:
        optuna = self._optuna
        first = min(FIRST, max(1, self._recipe.trials // 3))
        study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=first), direction="minimize"
        )
        states = optuna.trial.TrialState
        for each in self.trials:
            state = {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}.get(each.state)
            if state is None:
                continue
            value = None if state == states.FAIL else each.value
            known = optuna.trial.create_trial(
                state=state, value=value, params=each.values, distributions=self._over, intermediate_values=each.looks
            )
            study.add_trial(known)
        return study

    def is_poor(self, trial: Trial, look: int) -> bool:
        """Whether a trial's best so far is worse than the middle one of the trials before it, at the same look."""
        optuna = self._optuna
        study = self._study(0)
        running = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING, params=trial.values, distributions=self._over,
            intermediate_values=trial.looks,
        )  # fmt: skip
        pruner = optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED, n_warmup_steps=1)
        return bool(pruner.prune(study, running))

    def best(self) -> Trial | None:
        ended = [t for t in self.trials if t.state == "complete" and t.value is not None and math.isfinite(t.value)]
        return min(ended, key=lambda t: (t.value, t.number), default=None)

    def tidy(self, ctx: RunContext) -> None:
        """Keep the checkpoints of the best trial only."""
        best = self.best()
        for each in self.trials:
            if best is None or each.number != best.number:
                shutil.rmtree(ctx.paths.runs / _run(self._recipe, each.number), ignore_errors=True)

    def importance(self) -> dict[str, float]:
        """How much each setting decided, by Optuna's PED-ANOVA; empty where there are too few trials to tell."""
        optuna = self._optuna
        ended = [t for t in self.trials if t.state == "complete"]
        varied = [name for name in self._over if len({json.dumps(t.values[name]) for t in ended}) > 1]
        if len(ended) < 2 or not varied:
            return {}
        try:
            found = optuna.importance.get_param_importances(
                self._study(0), evaluator=optuna.importance.PedAnovaImportanceEvaluator(), params=varied
            )
        except (ValueError, RuntimeError):
            return {}
        return {name: round(float(value), 4) for name, value in found.items() if math.isfinite(value)}


class _Inside(RunContext):
    """A trial's surroundings: it tells what it does as a part of the search."""

    def __init__(self, ctx: RunContext, number: int, trials: int, out_dir: Path | None = None) -> None:
        super().__init__(ctx.job, ctx.out_dir, ctx.cache_dir, ctx._emit, ctx._cancelled)
        self.__dict__.update({k: v for k, v in ctx.__dict__.items() if k not in ("saved", "trail")})
        self._outer, self._number, self._of = ctx, number, trials
        self.notes = []
        if out_dir is not None:
            out_dir.mkdir(exist_ok=True)
            self.out_dir = out_dir

    def progress(self, done: float, total: float, unit: str = "", phase: str = "") -> None:
        part = done / total if total else 0.0
        self._outer.progress(min(self._number + part, self._of), self._of, "trials", "learning")

    def measured(self, step: int, seconds: float, values: dict[str, float]) -> None:
        self._outer.measured(step, seconds, {**values, "trial": float(self._number)})

    def note(self, text: str) -> None:
        self.notes.append(text)  # of one trial: what concerns all of them comes again with the best


def distributions(recipe: SearchRecipe) -> dict[str, Any]:
    """What Optuna draws from, by the name of the setting.

    Raises:
        BadRecipe: there is no such setting, or it cannot have these values.
    """
    import optuna

    declared = {f.name: f for f in fields(type(recipe.training))}
    made: dict[str, Any] = {}
    for each in recipe.over:
        name = each.field
        if name not in declared or name in _FIXED:
            there = ", ".join(n for n in declared if n not in _FIXED)
            raise BadRecipe(f"“{shown(name)}” cannot be varied.", f"There are {there}.", field="over")
        if name in made:
            raise BadRecipe(f"“{shown(name)}” is there twice.", field="over")
        values = _choices(recipe.training, each)
        if values:
            made[name] = optuna.distributions.CategoricalDistribution(values)
            continue
        whole = isinstance(getattr(recipe.training, name), int) and not isinstance(getattr(recipe.training, name), bool)
        if not (math.isfinite(each.low) and math.isfinite(each.high)) or each.low >= each.high:
            raise BadRecipe(f"“{name}” needs a lower and a higher value, or values to choose from.", field="over")
        if each.log and each.low <= 0:
            raise BadRecipe(f"“{name}” by factors must begin above 0.", field="over")
        for value in (each.low, each.high):
            _with(recipe.training, {name: int(value) if whole else value})
        if whole:
            made[name] = optuna.distributions.IntDistribution(int(each.low), int(each.high), log=each.log)
        else:
            made[name] = optuna.distributions.FloatDistribution(each.low, each.high, log=each.log)
    return made


def _choices(training: Training_, given: Range) -> list[Any]:
    """The values to choose from, in the type of the setting."""
    found: list[Any] = []
    for word in (w.strip() for w in given.choices.split(",")):
        if not word:
            continue
        value: Any = word
        with contextlib.suppress(ValueError):
            value = json.loads(word)  # numbers, true and false
        value = getattr(_with(training, {given.field: value}), given.field)
        if value not in found:
            found.append(value)
    if len(found) > CHOICES_LIMIT:
        raise BadRecipe(f"“{given.field}” has more than {CHOICES_LIMIT} values to choose from.", field="over")
    return found


def _with(training: Training_, values: dict[str, Any]) -> Training_:
    """The training with other values, checked. Raises BadRecipe."""
    plain = {k: v for k, v in msgspec.to_builtins(training).items() if k != "kind"}
    try:
        made = check(kind_of(training), {**plain, **values}).recipe
    except BadRecipe as error:
        raise BadRecipe(error.problem.sentence, error.problem.hint, field="over") from None
    assert isinstance(made, (TrainTextRecipe, TrainImageRecipe))
    return made


def _run(recipe: SearchRecipe, number: int) -> str:
    return f"{recipe.run or 'search'}-t{number:04d}"


def _recipe(recipe: SearchRecipe, trial: Trial) -> Training_:
    training = _with(recipe.training, trial.values)
    seed = training.seed if training.seed is not None else recipe.seed
    return msgspec.structs.replace(training, run=_run(recipe, trial.number), seed=seed)


def _trainer(training: Training_) -> Trainer:
    name = "train.text" if isinstance(training, TrainTextRecipe) else "train.image"
    module, _, attribute = ENGINES[name].partition(":")
    made: Trainer = getattr(importlib.import_module(module), attribute)()
    return made


def _row(trial: Trial) -> dict[str, Any]:
    row = {"number": trial.number, "state": trial.state, "value": trial.value, **trial.values}
    row |= {"steps": trial.steps, "best_step": trial.best_step, "seconds": trial.seconds, "why": trial.why}
    return {k: v for k, v in row.items() if v is not None and v != ""}


def _tell(ctx: RunContext, trial: Trial, known: _Known) -> None:
    """After a trial: its figures as a point of their own, numbered by trials."""
    best = known.best()
    values = {"trial": float(trial.number)}
    if trial.value is not None:
        values["value"] = trial.value
    if best is not None and best.value is not None:
        values["best"] = best.value
    values |= {k: float(v) for k, v in trial.values.items() if isinstance(v, (int, float))}
    ctx.progress(trial.number + 1, known._recipe.trials, "trials", "learning")
    ctx.measured(trial.number, trial.seconds, values)
