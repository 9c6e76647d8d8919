"""The learning loop, the same for texts and pictures.

Knows steps, rates, gradients, looks at validation and checkpoints. What is learnt, from what, and how it is judged is a
Course; what is written at the end is the engine's.

**The same numbers after a kill.** A run that is begun again goes on from its last checkpoint and gives the losses it
would have given (on a processor with the same number of threads bit for bit). Nothing has to be remembered of the data
or of random numbers: what a course makes of (step, part) depends on these alone, and before each part the random
numbers of torch, numpy and Python are seeded from (seed, step, part). So looks and samples in between change nothing
either.

**A step is one large batch**, however many parts it is computed in: each part's loss is a sum, divided by the weight of
the whole step.
"""

from __future__ import annotations

import collections
import contextlib
import math
import random
import statistics
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
import psutil
import torch
from torch import Tensor, nn

from studio.core.learning import Point, Sampled, Schedule
from studio.core.problems import BadResult, OutOfMemory
from studio.engines.context import FULL, JobCancelled, RunContext
from studio.engines.image import trouble
from studio.engines.train.checkpoints import USUAL_SPEED, Best, Checkpoints, State
from studio.engines.train.rates import rate_at

POINTS = 1000  # of a curve, about
LOOKS = 20  # at validation in a whole training, where nothing else is asked for
TOLD_SECONDS = 0.25  # between two points that are told live
KEEP_SECONDS = 120.0  # between two checkpoints
KEEP_SHARE = 0.04  # of the time may go into writing them
RETRY_SECONDS = 30.0  # after a checkpoint that found no room
CANCEL_SECONDS = 2.0  # what a checkpoint at a cancel may take: the worker is killed after 3
SKIPS = 50  # steps in a row that float16 may lose to overflow
DRY = 3  # steps that an estimate is made from, after one that warms up
RECENT = 20  # steps that tell how long the rest takes
IDLE = 0.15  # of the processors; where more of them lie idle, nobody is slowed down
BUSY = 1.3  # times as long, from which on it is told that others slow it down
LOOK_SEED = 1 << 40  # in the place of a step: random numbers of looks and samples
JUDGE = "valid"  # the name of the measure that models are judged by; lower is better


class Course(Protocol):
    """What is learnt. One object for one sitting; holds models and data, and nothing that has to be remembered.

    Attributes:
        unit: what speed is counted in: "tokens", "pictures".
        models: what learns, by a name that goes before its parameters' names; those that require gradients are learnt
            and kept in checkpoints. What only helps (a frozen autoencoder) is not listed. Trained weights should be
            float32: the loop computes in the wanted precision by autocast.
    """

    unit: str

    @property
    def models(self) -> Mapping[str, nn.Module]: ...

    def weight(self, step: int, part: int) -> float:
        """How much part `part` of step `step` counts: its tokens with a label, its pictures. Cheap; may be 0."""

    def batch(self, step: int, part: int) -> Any:
        """The data of one part, on the device. Depends on (step, part) and the course's seed alone.

        Random draws (noise, mirrored pictures) are made here or in `loss`, from torch's global numbers or from a
        generator seeded with `seed_of(seed, step, part)`.
        """

    def units(self, batch: Any) -> int:
        """How many tokens or pictures a batch holds, for the speed."""

    def loss(self, batch: Any) -> Tensor:
        """The **sum** of the losses of a part, a float32 scalar with gradients; divided by the weight it is the mean.

        Called under autocast in the wanted precision.
        """

    def validate(self) -> dict[str, float]:
        """Measures on rows that are not learnt from, each time the same ones with the same random draws.

        "valid" is the one to judge by, lower is better; empty where there are no such rows. Called without gradients,
        in eval mode, with the random numbers seeded the same each time; should call `ctx.check()` between batches.
        """

    def sample(self, step: int) -> Sequence[Sampled]:
        """Try the fixed prompts with their fixed seeds, tell each by `ctx.tried`, and return them. May be empty.

        Called without gradients, in eval mode. A picture is written into the run's folder; `Sampled.image` names it.
        """


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How it is learnt.

    Attributes:
        steps: of the whole training. accumulate: parts of a step. rate: the highest learning rate.
        decay: of AdamW, decoupled; biases, norms and embeddings are spared. clip: longest gradient, 0 for none.
        average: of a running average of the weights (EMA) that is judged and kept instead of them; 0 for none.
        check_every: steps between two looks, 0 decides. patience: looks without gain before it stops early, 0 never.
        sample_every: steps between two tries of the prompts; 0 tries them only before and after.
        keep_every: steps between two checkpoints; 0 goes by time.
    """

    steps: int
    rate: float
    seed: int
    accumulate: int = 1
    warmup: float = 0.05
    schedule: Schedule = "cosine"
    decay: float = 0.01
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    average: float = 0.0
    check_every: int = 0
    patience: int = 5
    sample_every: int = 0
    keep_every: int = 0
    device: str = "cpu"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    threads: int = 0

    @property
    def look_every(self) -> int:
        return self.check_every or max(1, math.ceil(self.steps / LOOKS))


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a training takes: seconds in all as it goes now, bytes at most, steps, and units of one step.

    `least`: seconds if other programs left this computer alone; the same where they do.
    """

    seconds: float
    least: float
    bytes: int
    steps: int
    step_seconds: float = 0.0
    units: float = 0.0


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended. The course's models hold the best weights then, or the last where there was no validation.

    `steps`: that were done. `why`: why it ended before its last step, or empty.
    """

    steps: int
    best_step: int
    before: dict[str, float]
    after: dict[str, float]
    curve: tuple[Point, ...]
    samples: tuple[Sampled, ...]
    estimate: dict[str, float]
    seconds: float
    peak_bytes: int
    why: str = ""


def seed_of(seed: int, *where: int) -> int:
    """A seed for one place of a training, 63 bits, not related to its neighbours'."""
    high, low = np.random.SeedSequence([seed, *where]).generate_state(2)
    return int(high) << 31 ^ int(low)


def reseed(seed: int, *where: int) -> None:
    """Begin all random numbers anew for one place of a training."""
    number = seed_of(seed, *where)
    # not torch.manual_seed: for each kind of device that was not used yet it writes down where it was called from, and
    # that takes longer than a step of a small model
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(number)
    np.random.seed(number & 0xFFFF_FFFF)
    random.seed(number)


def learnt(models: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """The parameters that require gradients, by the name they have in checkpoints."""
    return {
        f"{name}.{key}" if name else key: parameter
        for name, model in models.items()
        for key, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def learn(
    course: Course,
    rules: Rules,
    ctx: RunContext,
    kept: Checkpoints,
    *,
    looked: Callable[[int, dict[str, float]], None] | None = None,
    before: float = 0.0,
    after: float = 0.0,
) -> Learned:
    """Train a course to its end, from its last checkpoint if there is one.

    Args:
        before, after: seconds that opening and preparing took, and that saving and checking will about take. They are
            in what the user is told, and not in the seconds of learning.
        looked: told the step and the measures after each look at validation; what it raises ends the training.

    Raises:
        JobCancelled: after a checkpoint, where that could be written in time.
        BadResult: the loss is no number any more. OutOfMemory. ModelBroken: the checkpoint is damaged.
    """
    return _guarded(lambda: _Loop(course, rules, ctx, kept, before, after).run(looked), course, rules)


def estimate(course: Course, rules: Rules, ctx: RunContext, *, before: float = 0.0, after: float = 0.0) -> Estimate:
    """What `learn` would take, with what is before and after it; from a few steps at a learning rate of 0.

    Raises:
        As `learn`.
    """
    return _guarded(lambda: _Loop(course, rules, ctx, None, before, after).rehearse(), course, rules)


def _guarded(work: Callable[[], Any], course: Course, rules: Rules) -> Any:
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not trouble.is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)
        trouble.give_back(rules.device)
        free = trouble.free_memory(rules.device)
        left = f"; {trouble.size(free)} are free now" if free is not None else ""
        raise OutOfMemory(
            f"Memory ran out while the model was learning{left}.",
            "Take a smaller batch and accumulate more of them, or “Save memory”, or a smaller model.",
            detail="".join(traceback.format_exception(error))[-4000:],
        ) from error


class _Loop:
    """One sitting of one training."""

    def __init__(
        self, course: Course, rules: Rules, ctx: RunContext, kept: Checkpoints | None, before: float, after: float
    ) -> None:
        if rules.threads:
            torch.set_num_threads(rules.threads)
        self.course, self.rules, self.ctx, self.kept = course, rules, ctx, kept
        self.parameters = learnt(course.models)
        self.optimizer = _adamw(course.models, self.parameters, rules)
        self.scaler = torch.amp.GradScaler(rules.device.split(":")[0], enabled=rules.precision == "float16")
        self.average: dict[str, Tensor] = {}
        if rules.average:
            self.average = {name: p.detach().float().clone() for name, p in self.parameters.items()}
        self.state, self.around = State(), (before, after)
        self.held_best: tuple[Best, dict[str, Tensor]] | None = None  # the best weights while the disk is full
        self.told = 0.0
        self.skipped = 0
        self.next_keep = 0.0

    def _timing(self) -> _Timing:
        """A clock that knows what is before, after, and written in between, if every look finds something better."""
        looks = math.ceil(self.rules.steps / self.rules.look_every)
        size = sum(p.numel() * p.element_size() for p in self.parameters.values())
        written = size * (3 + bool(self.average) + looks) / USUAL_SPEED
        return _Timing(self.rules, written, *self.around)

    # -- a whole training

    def run(self, looked: Callable[[int, dict[str, float]], None] | None) -> Learned:
        with _peak(self.rules.device) as peak, _heard(self.ctx, self.course.models, self.parameters):
            timing = self._timing()
            self._begin(timing)
            self.next_keep = time.monotonic() + KEEP_SECONDS
            try:
                while self.state.step < self.rules.steps and not self.state.why:
                    began = time.perf_counter()
                    loss, norm, units = self._step(self.rules)
                    taken = time.perf_counter() - began
                    self.state.seconds += taken
                    self.state.peak_bytes = max(self.state.peak_bytes, peak())
                    timing.step(taken, units)
                    self._told(loss, norm, units / max(taken, 1e-9), looked, timing)
            except JobCancelled:
                self.state.peak_bytes = max(self.state.peak_bytes, peak())
                self._keep_at_cancel()
                raise
            return self._end(peak)

    def _begin(self, timing: _Timing) -> None:
        """Go on from the last checkpoint, or look at what is there before the first step."""
        assert self.kept is not None
        found = self.kept.last()
        if found is not None:
            self.state = found[0]
            self._restore(found[1])
            for point in self.state.curve:
                self.ctx.measured(point.step, point.seconds, point.values)
            prompts: list[str] = []
            for sample in self.state.samples:
                if sample.prompt not in prompts:
                    prompts.append(sample.prompt)
                jpeg = b""
                if sample.image:
                    with contextlib.suppress(OSError):  # it is told without its picture then
                        jpeg = (self.kept.folder / sample.image).read_bytes()
                self.ctx.tried(sample.step, prompts.index(sample.prompt), sample.prompt, text=sample.text, jpeg=jpeg)
            self.ctx.note(f"Goes on from step {self.state.step:,}.")
            return
        began = time.perf_counter()
        self.state.before = self._validate()
        looked = time.perf_counter()
        timing.look(looked - began)
        self._sample()
        timing.sample(time.perf_counter() - looked)
        if self.state.before:
            self.state.curve.append(Point(0, 0.0, self.state.before))
            self.ctx.measured(0, 0.0, self.state.before)
        self.state.seconds = time.perf_counter() - began

    def _step(self, rules: Rules, dry: bool = False) -> tuple[float, float, int]:
        """One step: all of its parts, then AdamW. Returns the mean loss, the gradient's length and the units seen.

        Nothing but gradients has changed if it raises.
        """
        step, course = self.state.step, self.course
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0 if dry else rate_at(step, rules.steps, rules.rate, rules.warmup, rules.schedule)
        self.optimizer.zero_grad(set_to_none=True)
        parts = [part for part in range(rules.accumulate) if course.weight(step, part) > 0]
        total = sum(course.weight(step, part) for part in parts)
        loss, units = torch.zeros((), device=rules.device), 0
        for part in parts:
            self.ctx.check()
            reseed(rules.seed, step, part)
            batch = course.batch(step, part)
            with self._autocast():
                mean = course.loss(batch) / total
            loss += mean.detach()
            self.scaler.scale(mean).backward()
            units += course.units(batch)
        if not parts:  # nothing in it has a label
            return math.nan, 0.0, 0
        value = float(loss)
        if not math.isfinite(value):
            raise self._not_finite("the loss")
        self.scaler.unscale_(self.optimizer)
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters.values(), rules.clip or math.inf))
        if not math.isfinite(norm):
            self.skipped += 1  # float16 overflows now and then; the scaler leaves such steps out and scales less
            if not self.scaler.is_enabled() or self.skipped > SKIPS:
                raise self._not_finite("the gradient")
        else:
            self.skipped = 0
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average and not dry:
            share = min(rules.average, (1 + step) / (10 + step))  # the first weights should not linger
            torch._foreach_lerp_(
                list(self.average.values()), [p.detach().float() for p in self.parameters.values()], 1.0 - share
            )
        return value, norm, units

    def _not_finite(self, what: str) -> BadResult:
        best = self.state.best_step
        kept = f"; the best so far, of step {best:,}, is kept" if best else ""
        return BadResult(
            f"At step {self.state.step + 1:,} {what} was not a number any more, so learning has stopped{kept}.",
            "Try a lower learning rate, a longer warm-up or the number format float32, and look through the data.",
        )

    def _told(
        self, loss: float, norm: float, speed: float, looked: Callable[[int, dict[str, float]], None] | None,
        timing: _Timing,
    ) -> None:  # fmt: skip
        """After a step: count it, tell it, look, try the prompts, write a checkpoint."""
        rules, state = self.rules, self.state
        rate = self.optimizer.param_groups[0]["lr"]
        state.step += 1
        if math.isfinite(loss):
            state.sum, state.count = state.sum + loss, state.count + 1
        last = state.step == rules.steps
        look = last or state.step % rules.look_every == 0
        values = {"rate": rate, "speed": speed}
        if math.isfinite(norm):
            values["norm"] = norm
        if state.count:
            values["loss"] = state.sum / state.count
        if look:
            began = time.perf_counter()
            measures = self._validate()
            values.update(measures)
            timing.look(time.perf_counter() - began)
            state.seconds += time.perf_counter() - began
            if JUDGE in measures:
                self._judge(measures[JUDGE])
        if look or state.step % max(1, rules.steps // POINTS) == 0:
            state.curve.append(Point(state.step, round(state.seconds, 3), values))
            state.sum, state.count = 0.0, 0
        if look or time.monotonic() - self.told >= TOLD_SECONDS:
            self.told = time.monotonic()
            # not in the curve that is kept: it holds for this moment
            self.ctx.measured(state.step, state.seconds, {**values, "left": timing.left(state.step)})
        self.ctx.progress(state.step, rules.steps, "steps", "learning")
        if rules.sample_every and not last and not state.why and state.step % rules.sample_every == 0:
            began = time.perf_counter()
            self._sample()
            timing.sample(time.perf_counter() - began)
            state.seconds += time.perf_counter() - began
        if not state.estimate and (found := timing.estimate(state.peak_bytes)) is not None:
            around = sum(self.around)
            state.estimate = {"seconds": round(found.seconds - around, 3), "bytes": float(found.bytes)}
            state.estimate |= {"all": round(found.seconds, 3), "least": round(found.least, 3)}
            self.ctx.note(f"About {about(found.least, found.seconds, trouble.size(found.bytes))}")
        if look and looked is not None:
            looked(state.step, {k: v for k, v in values.items() if k not in ("rate", "norm", "speed")})
        due = state.step % rules.keep_every == 0 if rules.keep_every else time.monotonic() >= self.next_keep
        if due or last or state.why:
            self._keep()

    def _judge(self, value: float) -> None:
        """Keep what is best, and stop where nothing is gained any more."""
        state, rules = self.state, self.rules
        if not math.isfinite(value):
            raise self._not_finite("the loss on the rows for validation")
        if state.best is None or value < state.best:
            state.best, state.best_step, state.looks_without_gain = value, state.step, 0
            self._keep_best()
            return
        state.looks_without_gain += 1
        if rules.patience and state.looks_without_gain >= rules.patience and state.step < rules.steps:
            state.why = (
                f"Stopped early at step {state.step:,}: {state.looks_without_gain} looks in a row were no better than "
                f"that of step {state.best_step:,}."
            )

    def _end(self, peak: Callable[[], int]) -> Learned:
        """Take the best weights and look once more."""
        assert self.kept is not None
        state, began = self.state, time.perf_counter()
        best = self.held_best or self.kept.best()
        best_step = state.step
        if best is not None:
            best_step = best[0].step
            for name, parameter in self.parameters.items():
                parameter.data.copy_(best[1][name])
        else:
            for name, value in self.average.items():
                self.parameters[name].data.copy_(value)
        self.average = {}  # the models themselves are the best now
        after = self._validate()
        self._sample()
        state.seconds += time.perf_counter() - began
        return Learned(
            steps=state.step, best_step=best_step, before=state.before, after=after, curve=tuple(state.curve),
            samples=tuple(state.samples), estimate=state.estimate, seconds=state.seconds,
            peak_bytes=max(state.peak_bytes, peak()), why=state.why,
        )  # fmt: skip

    # -- an estimate

    def rehearse(self) -> Estimate:
        timing = self._timing()
        with _peak(self.rules.device) as peak, _heard(self.ctx, self.course.models, self.parameters):
            for number in range(DRY + 1):
                self.ctx.progress(number, DRY + 2, "steps", "estimating")
                began = time.perf_counter()
                _, _, units = self._step(self.rules, dry=True)
                timing.step(time.perf_counter() - began, units)
            self.optimizer.zero_grad(set_to_none=True)
            began = time.perf_counter()
            self._validate()
            timing.look(time.perf_counter() - began)
            began = time.perf_counter()
            if self.rules.sample_every:
                self._sample()
            timing.sample(time.perf_counter() - began)
            found = timing.estimate(peak())
        assert found is not None
        return found

    # -- looks and samples, without gradients and with the averaged weights where there are any

    def _validate(self) -> dict[str, float]:
        with self._judged(), self._autocast():
            return {name: float(value) for name, value in self.course.validate().items()}

    def _sample(self) -> None:
        with self._judged(), self._autocast():
            self.state.samples.extend(self.course.sample(self.state.step))

    @contextlib.contextmanager
    def _judged(self) -> Iterator[None]:
        models = list(self.course.models.values())
        modes = [model.training for model in models]
        own: dict[str, Tensor] = {}
        for name, value in self.average.items():
            parameter = self.parameters[name]
            own[name], parameter.data = parameter.data, value.to(parameter.dtype)
        for model in models:
            model.eval()
        reseed(self.rules.seed, LOOK_SEED)
        try:
            with torch.no_grad():
                yield
        finally:
            for name, value in own.items():
                self.parameters[name].data = value
            for model, mode in zip(models, modes, strict=True):
                model.train(mode)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.rules.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.rules.device.split(":")[0], getattr(torch, self.rules.precision))

    # -- checkpoints

    def _keep(self) -> None:
        """Write a checkpoint. A full disk is told, and learning goes on."""
        assert self.kept is not None
        self.state.scale = self.scaler.state_dict() if self.scaler.is_enabled() else {}
        began = time.perf_counter()
        if self.held_best is not None:
            self._keep_best()
        try:
            self.kept.keep(self.state, self._tensors())
        except OSError as error:
            self._no_room(error)
            return
        taken = time.perf_counter() - began
        self.next_keep = time.monotonic() + max(KEEP_SECONDS, taken / KEEP_SHARE)

    def _keep_best(self) -> None:
        assert self.kept is not None
        if self.held_best is not None and self.held_best[0].step == self.state.best_step:
            best, tensors = self.held_best
        else:
            best = Best(self.state.best_step, self.state.best)
            tensors = {n: p.detach() for n, p in self.parameters.items()}
            tensors.update({n: a.to(self.parameters[n].dtype) for n, a in self.average.items()})
        try:
            self.kept.keep_best(best, tensors)
        except OSError as error:
            if self.held_best is None or self.held_best[0] is not best:
                self.held_best = best, {n: t.detach().cpu().clone() for n, t in tensors.items()}
            self._no_room(error)
            return
        self.held_best = None

    def _no_room(self, error: OSError) -> None:
        if error.errno not in FULL:
            self.ctx.note(f"A checkpoint could not be written: {error.strerror or error}. Learning goes on without it.")
        else:
            self.ctx.note("The disk is full: no checkpoint could be written. Learning goes on, and it is tried again.")
        self.next_keep = time.monotonic() + RETRY_SECONDS

    def _keep_at_cancel(self) -> None:
        assert self.kept is not None
        if self.state.step and self.kept.seconds_for(self._tensors()) <= CANCEL_SECONDS:
            self._keep()

    def _tensors(self) -> dict[str, Tensor]:
        """Weights, the moments of AdamW and the running average, by names that tell them apart."""
        made: dict[str, Tensor] = {f"weight/{n}": p.detach() for n, p in self.parameters.items()}
        made.update({f"average/{n}": a for n, a in self.average.items()})
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                made[f"{key}/{name}"] = value
        return made

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        for key, value in tensors.items():
            what, _, name = key.partition("/")
            parameter = self.parameters.get(name)
            if parameter is None or (what != "step" and parameter.shape != value.shape):
                raise BadResult("The checkpoint does not fit this model.", "Begin a new training.", detail=key)
            if what == "weight":
                parameter.data.copy_(value)
            elif what == "average":
                self.average[name] = value.to(parameter.device)
            else:
                self.optimizer.state[parameter][what] = value if what == "step" else value.to(parameter.device)
        if self.optimizer.defaults.get("fused"):  # whose counters live where the weights do
            for parameter, state in self.optimizer.state.items():
                state["step"] = state["step"].to(parameter.device)
        if self.scaler.is_enabled() and self.state.scale:
            self.scaler.load_state_dict(self.state.scale)


class _Timing:
    """What steps, looks and samples take, for an estimate. The first step warms up and does not count.

    Args:
        written: seconds that checkpoints will take. before, after: as for `learn`.
    """

    def __init__(self, rules: Rules, written: float, before: float, after: float) -> None:
        self._rules, self._written, self._before, self._after = rules, written, before, after
        self._steps: list[float] = []
        self._units: list[int] = []
        self._recent: collections.deque[float] = collections.deque(maxlen=RECENT)
        self._look = self._sample = 0.0
        self._load = Load()

    def step(self, seconds: float, units: int) -> None:
        if not self._recent and not self._steps:
            self._load = Load()
        self._recent.append(seconds)
        if len(self._steps) <= DRY:
            self._steps.append(seconds)
            self._units.append(units)

    def look(self, seconds: float) -> None:
        self._look = seconds

    def sample(self, seconds: float) -> None:
        self._sample = seconds

    def _others(self, done: int) -> float:
        """Seconds of all that is not learning itself, from after step `done` to the end of learning; 0 for all."""
        rules = self._rules
        looks = math.ceil(rules.steps / rules.look_every) - done // rules.look_every + 1 + (not done)
        samples = (rules.steps // rules.sample_every - done // rules.sample_every if rules.sample_every else 0) + 1
        # what was saved is tried once more than that at the end
        samples += (not done) + bool(self._after)
        share = 1 - done / rules.steps
        return self._look * looks + self._sample * samples + self._written * share

    def left(self, done: int) -> float:
        """Seconds until all is done, as the last steps went."""
        step = sum(self._recent) / max(1, len(self._recent))
        return step * (self._rules.steps - done) + self._others(done) + self._after

    def estimate(self, peak: int) -> Estimate | None:
        """None until enough steps were seen."""
        if len(self._steps) <= DRY:
            return None
        step = statistics.median(self._steps[1:])  # one of them may have waited for another program
        learning = step * self._rules.steps + self._others(0)
        seconds = self._before + learning + self._after
        slowed = self._load.slowed(self._rules.threads or torch.get_num_threads()) if self._on_cpu else 1.0
        return Estimate(
            seconds=seconds, least=seconds / slowed, bytes=peak, steps=self._rules.steps, step_seconds=step,
            units=sum(self._units[1:]) / DRY,
        )  # fmt: skip

    @property
    def _on_cpu(self) -> bool:
        return self._rules.device == "cpu"


class Load:
    """What other programs take of this computer's processors, from when it is made.

    Args:
        look: seconds of the clock, of processors at work for anybody, and for this process; replaced in tests.
        cores: how many processors there are.
    """

    def __init__(self, look: Callable[[], tuple[float, float, float]] | None = None, cores: int = 0) -> None:
        self._look = look or _looked_at
        self._cores = cores or psutil.cpu_count() or 1
        self._begun = self._look()

    def slowed(self, threads: int) -> float:
        """How many times as fast this process would go if it had what others take, at least 1.

        Args:
            threads: that it computes with; it could not use more processors.
        """
        clock, busy, own = (now - then for now, then in zip(self._look(), self._begun, strict=True))
        if clock <= 0 or own <= 0 or clock * self._cores - busy > IDLE * self._cores * clock:
            return 1.0  # processors lie idle: nobody is waited for
        return max(1.0, min(threads * clock, busy) / own)


def _looked_at() -> tuple[float, float, float]:
    times = psutil.cpu_times()
    kinds = ("user", "nice", "system", "irq", "softirq", "steal")
    return time.perf_counter(), sum(getattr(times, kind, 0.0) for kind in kinds), time.process_time()


def _adamw(models: Mapping[str, nn.Module], parameters: Mapping[str, nn.Parameter], rules: Rules) -> torch.optim.AdamW:
    """AdamW with decoupled decay that spares biases, norms and embeddings, as is usual since GPT-2."""
    spared = {
        id(module.weight) for model in models.values() for module in model.modules() if isinstance(module, nn.Embedding)
    }
    spared |= {id(p) for p in parameters.values() if p.ndim < 2}
    groups = [
        {"params": [p for p in parameters.values() if id(p) not in spared], "weight_decay": rules.decay},
        {"params": [p for p in parameters.values() if id(p) in spared], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=rules.rate, betas=rules.betas, eps=rules.epsilon, fused=True
    )


@contextlib.contextmanager
def _heard(ctx: RunContext, models: Mapping[str, nn.Module], parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Hear a cancel inside of a step: before each layer, and at each gradient that is ready.

    A step of a large model takes longer on a processor than a cancel may.
    """

    def check(*_: Any) -> None:
        ctx.check()

    layers = [
        layer
        for model in models.values()
        for group in model.modules()
        if isinstance(group, nn.ModuleList)
        for layer in group
    ]
    hooks = [layer.register_forward_pre_hook(check) for layer in layers]
    hooks += [p.register_post_accumulate_grad_hook(check) for p in parameters.values()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _peak(device: str) -> Iterator[Callable[[], int]]:
    """Watch how much memory is in use; what it yields tells the most so far, in bytes.

    On a graphics card torch counts exactly. In this computer's memory the process is looked at ten times a second.
    """
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: int(torch.cuda.max_memory_allocated(device))
        return
    process, over = psutil.Process(), threading.Event()
    most = process.memory_info().rss

    def look() -> int:
        nonlocal most
        most = max(most, process.memory_info().rss)
        return most

    def watch() -> None:
        while not over.wait(0.1):
            look()

    thread = threading.Thread(target=watch, name="memory", daemon=True)
    thread.start()
    try:
        yield look
    finally:
        over.set()
        thread.join()


def about(least: float, seconds: float, size: str) -> str:
    """The end of a sentence: how long it takes and how much memory, and that others slow it down where they do."""
    low, high = spoken(least), spoken(seconds)
    if seconds < BUSY * least or low == high:
        return f"{high} and {size} of memory."
    number, _, unit = low.partition(" ")
    if high.endswith(f" {unit}"):
        low = number
    return f"{low} to {high} and {size} of memory; other programs use this computer."


def spoken(seconds: float) -> str:
    """A duration for a person."""
    for unit, length in (("hour", 3600.0), ("minute", 60.0)):
        if seconds >= 1.5 * length:
            return f"{round(seconds / length):,} {unit}s"
    return f"{max(1, round(seconds)):,} second{'' if round(seconds) <= 1 else 's'}"
