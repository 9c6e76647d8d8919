"""One worker as the pool sees it."""

from __future__ import annotations

import signal
from collections.abc import Callable

from studio.core.lanes import Lane
from studio.core.problems import OutOfMemory, Problem, WorkerDied
from studio.runtime import messages as m
from studio.runtime.link import Death, Link
from studio.runtime.schedule import Waiting, WorkerView
from studio.runtime.watch import Watch

Tell = Callable[[int | None], None]


class Worker:
    """One live worker. All fields are read and written under the pool's lock.

    Attributes:
        model: what it holds, or will hold when its present job is done; `held`: what it held before that.
        size: bytes of that model's weights. resident: bytes of the process after its first job with that model.
        waits_for: workers that give memory back before this one's job is sent.
        warming: loads and unloads that it has not answered yet. letting_go: bytes it had when it was told to unload.
        used: monotonic seconds of its last use. silent: it has been told as not responding.
        deadline: monotonic seconds; when a cancelled job's worker is killed.
    """

    def __init__(self, number: int, lane: str, now: float, kills: int) -> None:
        self.number = number
        self.lane = lane
        self.link: Link | None = None
        self.model = self.held = ""
        self.size = 0
        self.resident = 0
        self.graphics: m.Graphics | None = None
        self.job = ""
        self.run: m.Run | None = None
        self.waiting: Waiting | None = None  # the job as it waited, to put it back
        self.waits_for: set[int] = set()
        self.warm: m.Warm | None = None  # to be sent once it is up
        self.warming = 0
        self.letting_go = 0
        self.counts: dict[int, Tell] = {}  # questions it has not answered yet
        self.cancelled = False
        self.deadline = 0.0
        self.used = now
        self.watch = Watch(now)
        self.silent = 0.0
        self.kills = kills  # of the kernel, for want of memory, when it was started

    @property
    def at_work(self) -> bool:
        """Whether signs of life are to be expected of it."""
        return bool((self.job and not self.waits_for) or self.warming)

    @property
    def at_rest(self) -> bool:
        """Whether it holds a model that nobody is using."""
        return bool(self.model) and not self.job and not self.warming and self.link is not None

    def view(self) -> WorkerView:
        return WorkerView(self.number, self.lane, self.model, idle=not self.job and not self.warming)

    def lane_view(self, problem: Problem | None) -> Lane:
        return Lane(
            model=self.model,
            busy=bool(self.job),
            warming=bool(self.warming and self.model),  # without a model it is giving one back
            pid=self.link.pid if self.link is not None else 0,
            silent=self.silent,
            problem=problem,
        )

    def take_job(self) -> str:
        """Whoever takes the job off its worker, under the lock, is the one that ends it."""
        job, self.job = self.job, ""
        self.cancelled, self.deadline, self.silent = False, 0.0, 0.0
        self.waits_for.clear()
        return job

    def take_counts(self) -> list[Tell]:
        """Whoever waits for a number that will not come any more."""
        left, self.counts = list(self.counts.values()), {}
        return left


def end_of(death: Death, words: str, *, memory: bool) -> Problem:
    """The sentence for a worker that went away under its job.

    Args:
        words: its last lines. memory: the kernel has ended something for want of memory meanwhile.
    """
    hint = "The other jobs are not affected. Try again, perhaps with something smaller."
    if memory and death.code == -signal.SIGKILL:
        return OutOfMemory(
            "The system ended the worker that made this, because the computer's memory ran out.",
            "Close other programs, or try something smaller.",
            detail=words,
        ).problem
    if death.code is not None and death.code == -getattr(signal, "SIGBUS", 0):
        return WorkerDied(
            "The worker that made this went away: a file it was reading, probably the model's, was changed or cut "
            f"short under it ({death.reason}).",
            "Copy or download the model again.",
            detail=words,
        ).problem  # fmt: skip
    return WorkerDied(f"The worker that made this went away: {death.reason}.", hint, detail=words).problem
