"""What the window knows of the jobs at work: built from events, read by the job strip and the tabs. No widgets here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from PySide6.QtCore import QObject, QTimer, Signal

from studio.core.events import (
    Again,
    Cancelled,
    Cancelling,
    EndEvent,
    Event,
    Failed,
    Finished,
    Held,
    Loading,
    Measured,
    Piece,
    Preview,
    Progress,
    Queued,
    Silent,
    Started,
    Token,
    Tried,
)
from studio.core.jobs import Job, JobState
from studio.core.learning import Point
from studio.core.problems import Problem
from studio.core.recipes import COUNT_FIELD, ExportRecipe, words_of
from studio.core.text import shown
from studio.ui.strings import seconds_left, tr

WRITING = "writing"  # the phase of a text in which tokens come
POINTS = 4000  # of a curve that are kept; then every other one goes
KEPT = 30  # ended jobs that stay in the list until the window closes


@dataclass
class Tracked:
    """One job as the window shows it."""

    id: str
    kind: str
    title: str
    count: int = 1
    state: JobState = JobState.QUEUED
    priority: int = 0
    loading: str = ""  # name of the model being made ready
    done: float = 0.0
    total: float = 0.0
    unit: str = ""
    phase: str = ""
    cancelling: bool = False
    silent: float = 0.0  # seconds without a sign of life of its worker
    held: Problem | None = None  # it was made, and this is in the way of saving it
    problem: Problem | None = None
    texts: dict[int, str] = field(default_factory=dict)  # what has been written so far, by index
    preview: Preview | None = None
    pieces: list[Piece] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)  # of a training's curve, in order of steps
    trials: list[dict[str, float]] = field(default_factory=list)  # of a search: what is known of those that ended
    tried: dict[tuple[int, int], Tried] = field(default_factory=dict)  # what it made of its prompts, by index and step
    early: EndEvent | None = None  # its end, told before it was known what it is
    clock: Callable[[], float] = time.monotonic
    begun: float = 0.0  # monotonic: the work itself began
    begun_at: float = 0.0  # how much was done then
    now: float = 0.0  # monotonic: of the last progress

    @property
    def share(self) -> float | None:
        """0…1, or None while it is not known."""
        if self.state is not JobState.RUNNING or not self.total:
            return None
        return min(1.0, self.done / self.total)

    def seconds_left(self) -> float | None:
        """From the pace since the first step, so that loading does not count. None while too little is known."""
        newest = self.points[-1].values if self.points else {}
        if (
            self.state is JobState.RUNNING and "left" in newest and "trial" not in newest
        ):  # a training knows its looks and samples, too
            return max(0.0, newest["left"] - (self.clock() - self.now))
        if self.share is None or self.done <= self.begun_at or self.done >= self.total:
            return None
        each = (self.now - self.begun) / (self.done - self.begun_at)
        return max(0.0, each * (self.total - self.done) - (self.clock() - self.now))

    def measure(self, event: Measured) -> None:
        """A point of its curve. One that goes on from a checkpoint comes by the same steps again.

        A search tells of one trial after another: the curve is that of the last, and each that ended is a row.
        """
        trial = event.values.get("trial")
        if trial is not None and ("value" in event.values or "best" in event.values):
            self.trials = [each for each in self.trials if each["trial"] != trial] + [event.values]
            return
        if trial is not None and self.points and self.points[-1].values.get("trial") != trial:
            self.points = []
        while self.points and self.points[-1].step >= event.step:
            before = self.points.pop()
            if before.step == event.step:  # a look at validation tells of a step that is told already
                event = Measured(
                    job=self.id, step=event.step, seconds=event.seconds, values={**before.values, **event.values}
                )
        self.points.append(Point(event.step, event.seconds, event.values))
        if len(self.points) > POINTS:
            self.points = [p for at, p in enumerate(self.points) if at % 2 or "valid" in p.values]

    def begin_again(self) -> None:
        """What came from it so far is void; a training goes on from its checkpoint, and its curve stays."""
        self.state, self.loading, self.cancelling, self.silent = JobState.QUEUED, "", False, 0.0
        self.done = self.total = self.begun = self.begun_at = self.now = 0.0
        self.unit = self.phase = ""
        self.texts, self.preview, self.pieces = {}, None, []

    def speed(self) -> float | None:
        """Units a second since the work itself began."""
        passed = self.now - self.begun
        return (self.done - self.begun_at) / passed if self.begun and passed > 0.3 else None

    def status(self) -> str:
        """A few words: “step 14 of 25 · 6 s left”."""
        if self.state is JobState.QUEUED:
            return tr("waiting")
        if self.state is JobState.FINISHED:
            return tr("finished")
        if self.state is JobState.CANCELLED:
            return tr("cancelled")
        if self.state is JobState.FAILED:
            return self.problem.sentence if self.problem else tr("failed")
        if self.held is not None:
            return self.held.sentence
        if self.cancelling:
            return tr("cancelling …")
        if self.silent:
            return tr("not responding for {n} s; Cancel ends it", n=f"{self.silent:.0f}")
        if self.loading:
            return tr("loading {model} …", model=self.loading)
        parts = []
        if self.total and self.unit == "steps":
            each = self.total / max(1, self.count)  # of one picture, as the preview counts
            done = self.done - each * min(self.count - 1, self.done // each)
            parts.append(tr("step {n} of {all}", n=f"{done:.0f}", all=f"{each:.0f}"))
        elif self.unit == "tokens":
            parts.append(tr(self.phase))
            speed = self.speed()
            if speed is not None and self.phase == WRITING:
                parts.append(tr("{n} tokens/s", n=f"{speed:.0f}"))
        elif self.share is not None:
            parts.append(f"{self.share:.0%}")
        elif self.phase:
            parts.append(tr(self.phase))
        left = self.seconds_left()
        if left is not None and left > 0.5:
            parts.append(seconds_left(left))
        return " · ".join(parts) or tr("working …")


def tracked(job: Job) -> Tracked:
    """A job of the database as the window shows it."""
    recipe = job.recipe
    title = shown(words_of(recipe), 80) if not isinstance(recipe, ExportRecipe) else recipe.to.rsplit("/", 1)[-1]
    count = int(getattr(recipe, COUNT_FIELD.get(job.kind, ""), 1))
    return Tracked(job.id, job.kind, title, count, job.state, job.priority, problem=job.problem)


class Track(QObject):
    """All jobs that wait, run, or ended since the window was opened.

    Signals:
        changed: something to draw anew; at most ten times a second.
        moved(str): this job came, started or ended.
        late(Event): the end of a job that ended before it was known what it is.
    """

    changed = Signal()
    moved = Signal(str)
    late = Signal(object)

    def __init__(self, parent: QObject, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(parent)
        self._clock = clock
        self.jobs: dict[str, Tracked] = {}
        self.order: list[str] = []  # of what waits
        self._soon = QTimer(self, singleShot=True, interval=100)
        self._soon.timeout.connect(self.changed)

    def put(self, job: Job) -> None:
        """A job as the database has it; what events told of it meanwhile stays."""
        known = self.jobs.get(job.id)
        if known is None:
            self.jobs[job.id] = made = tracked(job)
            made.clock = self._clock
            if made.state.ended:
                self._forget()
            self.moved.emit(job.id)
        elif not known.kind:
            fresh = tracked(job)
            known.kind, known.title, known.count, known.priority = fresh.kind, fresh.title, fresh.count, fresh.priority
            self.moved.emit(job.id)
            if known.early is not None:
                self.late.emit(known.early)
        else:
            known.priority = job.priority
            if not known.state.ended and job.state is not JobState.QUEUED:
                known.state, known.problem = job.state, job.problem or known.problem
        self.touch()

    def set_order(self, order: list[str]) -> None:
        self.order = order
        self.touch()

    def running(self) -> list[Tracked]:
        return [j for j in self.jobs.values() if j.state is JobState.RUNNING and j.kind]

    def waiting(self) -> list[Tracked]:
        place = {job: i for i, job in enumerate(self.order)}
        mine = [j for j in self.jobs.values() if j.state is JobState.QUEUED and j.kind]
        return sorted(mine, key=lambda j: place.get(j.id, len(place)))

    def ended(self) -> list[Tracked]:
        """Newest first."""
        return [j for j in reversed(self.jobs.values()) if j.state.ended]

    def current(self, kind: str) -> Tracked | None:
        """What runs in a lane; what only waits to be saved keeps nobody from the next work."""
        return next((j for j in self.running() if j.kind == kind and j.held is None), None)

    def unfinished(self, kind: str) -> list[Tracked]:
        return [j for j in (*self.running(), *self.waiting()) if j.kind == kind and j.held is None]

    def take(self, event: Event) -> None:
        """Follow an event."""
        job = self.jobs.get(event.job)
        if job is None:
            if isinstance(event, Queued):
                # `put` brings the rest in a moment
                self.jobs[event.job] = Tracked(event.job, "", "", clock=self._clock)
            return
        if isinstance(event, (Finished, Failed, Cancelled)):
            job.state = {Finished: JobState.FINISHED, Failed: JobState.FAILED}.get(type(event), JobState.CANCELLED)
            job.problem = event.problem if isinstance(event, Failed) else None
            job.cancelling, job.loading, job.silent, job.held = False, "", 0.0, None
            if not job.kind:
                job.early = event
            self.jobs[job.id] = self.jobs.pop(job.id)  # `ended` tells the newest end first
            self._forget()
            self.moved.emit(job.id)
        elif isinstance(event, Started):
            if not job.state.ended:
                job.state = JobState.RUNNING
                self.moved.emit(job.id)
        elif isinstance(event, Again):
            if not job.state.ended:
                job.begin_again()
                self.moved.emit(job.id)
        elif isinstance(event, Silent):
            job.silent = event.seconds
        elif isinstance(event, Held):
            job.held = event.problem
        elif isinstance(event, Loading):
            job.loading = event.model if event.fraction is None or event.fraction < 1 else ""
        elif isinstance(event, Cancelling):
            job.cancelling = True
        elif isinstance(event, Progress):
            job.loading, job.held, now = "", None, self._clock()
            # reading a prompt is faster than writing: its pace says nothing of what is left
            if event.done > 0 and (not job.begun or (event.phase == WRITING != job.phase)):
                job.begun, job.begun_at = now, event.done
            job.done, job.total, job.unit, job.phase, job.now = event.done, event.total, event.unit, event.phase, now
        elif isinstance(event, Token):
            job.loading = ""
            job.texts[event.index] = job.texts.get(event.index, "") + event.text
        elif isinstance(event, Preview):
            job.preview = event
        elif isinstance(event, Piece):
            job.pieces.append(event)
        elif isinstance(event, Measured):
            job.measure(event)
        elif isinstance(event, Tried):
            job.tried[event.index, event.step] = event
        self.touch()

    def touch(self) -> None:
        if not self._soon.isActive():
            self._soon.start()

    def dismiss(self, job_id: str) -> None:
        """Take an ended job off the list."""
        job = self.jobs.get(job_id)
        if job is not None and job.state.ended:
            del self.jobs[job_id]
            self.touch()

    def _forget(self) -> None:
        ended = [j.id for j in self.jobs.values() if j.state.ended]
        for job_id in ended[: max(0, len(ended) - KEPT)]:
            del self.jobs[job_id]
