"""The workers, and which job each of them has.

One lane per kind of work, one worker per lane, so that a voice can speak while a picture is painted. Knows jobs as ids
with a command to send; what a job means, and where its end is written down, is the journal's business.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from studio.core.cards import ModelCard
from studio.core.events import Cancelling, Event, Started
from studio.core.lanes import Lane
from studio.core.plans import Plan
from studio.core.problems import Problem, StudioError, WorkerDied
from studio.core.recipes import PROMPT_LIMIT
from studio.core.works import Result
from studio.runtime import messages as m
from studio.runtime.link import Death, Link, ProcessLink, worker_command
from studio.runtime.schedule import Assignment, Waiting, WorkerView, assign, order


class Journal(Protocol):
    """Who writes down what happens. Called on the pool's threads, `hand_over` with the pool's lock held."""

    def hand_over(self, job: str, busy: frozenset[str]) -> m.Run:
        """The job is about to run: write that down, and say how.

        Args:
            busy: lanes at work at this moment.

        Raises:
            StudioError: the job cannot run; it will be told as failed.
        """

    def happened(self, event: Event) -> None: ...

    def done(self, job: str, result: Result) -> None: ...

    def failed(self, job: str, problem: Problem) -> None: ...

    def cancelled(self, job: str, result: Result | None) -> None: ...

    def lane_changed(self, lane: str) -> None:
        """A lane's worker loaded a model ahead of any job, failed to, gave one back, or died without a job."""


Tell = Callable[[int | None], None]
MakeLink = Callable[[str, Callable[[m.Reply], None], Callable[[Death], None]], Link]


class _Worker:
    """One live worker. All fields are read and written under the pool's lock."""

    def __init__(self, number: int, lane: str) -> None:
        self.number = number
        self.lane = lane
        self.link: Link | None = None
        self.model = ""  # what it holds, or will hold when its present job is done
        self.job = ""
        self.run: m.Run | None = None
        self.warm: m.Warm | None = None  # to be sent once it is up
        self.warming = 0  # loads and unloads that it has not answered yet
        self.counts: dict[int, Tell] = {}  # questions it has not answered yet
        self.cancelled = False
        self.deadline = 0.0  # monotonic; when a cancelled job's worker is killed

    def view(self) -> WorkerView:
        return WorkerView(self.number, self.lane, self.model, idle=not self.job and not self.warming)

    def take_counts(self) -> list[Tell]:
        """Whoever waits for a number that will not come any more."""
        left, self.counts = list(self.counts.values()), {}
        return left


class Pool:
    """Runs jobs in worker processes.

    Args:
        journal: told of everything that happens.
        log: file for the workers' stderr.
        grace_seconds: how long a cancelled job may go on before its worker is killed.
        make_link: starts a worker; replaced in tests.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        journal: Journal,
        log: Path,
        *,
        grace_seconds: float = 3.0,
        make_link: MakeLink | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.grace_seconds = grace_seconds
        self._journal = journal
        self._log = log
        self._make_link = make_link or self._start_process
        self._clock = clock
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._waiting: dict[str, Waiting] = {}
        self._workers: dict[int, _Worker] = {}
        self._to_start: list[_Worker] = []
        self._paused: set[str] = set()
        self._problems: dict[str, Problem] = {}  # lane -> why the last loading ahead failed
        self._numbers = itertools.count(1)  # of workers
        self._questions = itertools.count(1)
        self._closing = False
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._keeper.start()

    # -- the queue ------------------------------------------------------------------------------------------------

    def add(self, waiting: Waiting) -> None:
        """Put a job in the queue, or move it if it is there already."""
        with self._lock:
            self._waiting[waiting.job] = waiting
        self.pump()

    def place(self, waiting: Waiting) -> None:
        """Move a job that waits. One that was started or cancelled meanwhile is left alone."""
        with self._lock:
            if waiting.job in self._waiting:
                self._waiting[waiting.job] = waiting

    def queue(self) -> list[Waiting]:
        """Waiting jobs in the order in which they will run."""
        with self._lock:
            return order(self._waiting.values())

    def pause(self, lane: str = "*") -> None:
        """Start nothing more in a lane ("*": in none). What runs goes on."""
        with self._lock:
            self._paused.add(lane)

    def resume(self, lane: str = "*") -> None:
        with self._lock:
            self._paused.discard(lane)
        self.pump()

    def paused(self) -> frozenset[str]:
        """Lanes that start nothing; "*" is all of them."""
        with self._lock:
            return frozenset(self._paused)

    def cancel(self, job: str) -> bool:
        """Stop a job, waiting or running. The journal is told when it is true.

        Returns:
            False where the job is neither waiting nor running here, for example because its result is being saved.
        """
        with self._lock:
            if self._waiting.pop(job, None) is not None:
                worker = None
            else:
                worker = next((w for w in self._workers.values() if w.job == job), None)
                if worker is None:
                    return False
                if not worker.cancelled:
                    worker.cancelled = True
                    worker.deadline = self._clock() + self.grace_seconds
                    if worker.link is not None:
                        worker.link.send(m.Cancel(job=job))
                    self._wake.notify_all()
        if worker is None:
            self._journal.cancelled(job, None)
        else:
            self._journal.happened(Cancelling(job=job))
        return True

    def pump(self) -> None:
        """Hand over what can start now."""
        failures: list[tuple[str, Problem]] = []
        started: list[str] = []
        with self._lock:
            if self._closing:
                return
            views = [w.view() for w in self._workers.values()]
            for assignment in assign(self._waiting.values(), views, paused=self._paused):
                waiting = self._waiting.pop(assignment.job)
                busy = frozenset(w.lane for w in self._workers.values() if w.job)
                try:
                    # RUNNING from here on, under the lock: a cancel that comes now finds the job at a worker.
                    run = self._journal.hand_over(assignment.job, busy)
                except StudioError as error:
                    failures.append((assignment.job, error.problem))
                    continue
                self._give(assignment, waiting, run)
                started.append(assignment.job)
        for job in started:
            self._journal.happened(Started(job=job))
        for job, problem in failures:
            self._journal.failed(job, problem)
        if failures:
            self.pump()

    # -- models ---------------------------------------------------------------------------------------------------

    def warm(self, lane: str, engine: str, card: ModelCard, plan: Plan, cache_dir: Path) -> bool:
        """Load a model before it is asked for, unless the lane is at work or holds it. Returns whether it is loaded."""
        command = m.Warm(engine=engine, card=card, plan=plan, cache_dir=str(cache_dir))
        with self._lock:
            worker = next((w for w in self._workers.values() if w.lane == lane), None)
            if self._closing or (worker is not None and (worker.job or worker.warming or worker.model == card.id)):
                return False
            if worker is None:
                worker = self._new_worker(lane)
            self._warm(worker, command)
            return True

    def unload(self, lane: str) -> bool:
        """Give the memory of a lane's model back, unless it is at work. Returns whether it will be given back."""
        with self._lock:
            told = False
            for worker in self._workers.values():
                if worker.lane == lane and not worker.job and worker.link is not None:
                    worker.model, worker.warming = "", worker.warming + 1
                    worker.link.send(m.Unload())
                    told = True
            return told

    def lanes(self) -> dict[str, Lane]:
        """Every lane that has a worker, or a problem to show."""
        with self._lock:
            found = {lane: Lane(problem=problem) for lane, problem in self._problems.items()}
            for w in self._workers.values():
                found[w.lane] = Lane(
                    model=w.model,
                    busy=bool(w.job),
                    warming=bool(w.warming and w.model),  # without a model it is giving one back
                    pid=w.link.pid if w.link is not None else 0,
                    problem=self._problems.get(w.lane),
                )
            return found

    def count(self, lane: str, model: str, text: str, tell: Tell) -> None:
        """Have a text's tokens counted by the model that is loaded in a lane.

        Args:
            model: id of the model that is meant; another one is not asked.
            tell: called exactly once, from any thread, perhaps before this returns. None: it cannot be told now,
                because the lane is at work, holds another model or none, or the text is longer than any prompt.
        """
        with self._lock:
            worker = next((w for w in self._workers.values() if w.lane == lane), None)
            able = worker is not None and worker.view().idle and worker.model == model and bool(model)
            if worker is not None and worker.link is not None and able and len(text) <= PROMPT_LIMIT:
                number = next(self._questions)
                worker.counts[number] = tell
                worker.link.send(m.Count(id=number, model=model, text=text))
                return
        tell(None)

    def workers(self) -> list[tuple[WorkerView, int]]:
        """Every worker and its process id (0 while it is being started)."""
        with self._lock:
            return [(w.view(), w.link.pid if w.link else 0) for w in self._workers.values()]

    def running(self) -> dict[str, str]:
        """Job id -> lane of what runs now."""
        with self._lock:
            return {w.job: w.lane for w in self._workers.values() if w.job}

    def close(self, timeout: float = 1.0) -> None:
        """End every worker. Jobs still running are not told as ended: their journal decides what they are."""
        with self._lock:
            self._closing = True
            self._waiting.clear()
            workers = list(self._workers.values())
            unanswered = [tell for worker in workers for tell in worker.take_counts()]
            self._workers.clear()
            self._to_start.clear()
            self._wake.notify_all()
        for tell in unanswered:
            tell(None)
        for worker in workers:
            if worker.link is not None:
                worker.link.close(0.0 if worker.job or worker.warming else timeout)
        if threading.current_thread() is not self._keeper:
            self._keeper.join(5)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _give(self, assignment: Assignment, waiting: Waiting, run: m.Run) -> None:
        worker = self._new_worker(assignment.lane) if assignment.worker is None else self._workers[assignment.worker]
        self._problems.pop(assignment.lane, None)
        worker.job, worker.run, worker.model = assignment.job, run, waiting.model
        worker.cancelled, worker.deadline = False, 0.0
        if worker.link is not None:
            worker.link.send(run)

    def _new_worker(self, lane: str) -> _Worker:
        worker = _Worker(next(self._numbers), lane)
        self._workers[worker.number] = worker
        self._to_start.append(worker)
        self._wake.notify_all()
        return worker

    def _warm(self, worker: _Worker, command: m.Warm) -> None:
        self._problems.pop(worker.lane, None)
        worker.warming, worker.model = worker.warming + 1, command.card.id
        if worker.link is not None:
            worker.link.send(command)
        else:
            worker.warm = command

    def _keep(self) -> None:
        """The keeper's thread: starts workers (it outlives them all) and ends those that do not stop."""
        while True:
            with self._lock:
                while not self._closing and not self._to_start:
                    deadlines = [w.deadline for w in self._workers.values() if w.cancelled and w.deadline]
                    left = min(deadlines) - self._clock() if deadlines else None
                    if left is not None and left <= 0:
                        break
                    self._wake.wait(left)
                if self._closing:
                    return
                starts, self._to_start = self._to_start, []
                late = [w for w in self._workers.values() if w.cancelled and 0 < w.deadline <= self._clock()]
                for worker in late:
                    worker.deadline = 0.0
            for worker in late:
                if worker.link is not None:
                    worker.link.kill()
            for worker in starts:
                self._start(worker)

    def _start(self, worker: _Worker) -> None:
        number = worker.number
        try:
            link = self._make_link(
                worker.lane, lambda r: self._on_reply(number, r), lambda d: self._on_end(number, d)
            )  # fmt: skip
        except OSError as error:
            hint = "Close other programs and try again."
            problem = WorkerDied(f"A worker could not be started: {error}.", hint).problem
            with self._lock:
                self._workers.pop(number, None)
                job = worker.job
                if not job:
                    self._problems[worker.lane] = problem
            if job:
                self._pump_then(lambda: self._journal.failed(job, problem))
            else:
                self._pump_then(lambda: self._journal.lane_changed(worker.lane))
            return
        with self._lock:
            gone = self._closing or number not in self._workers
            if not gone:
                worker.link = link
                self._first_words(worker, link)
        if gone:
            link.close(0.0)

    def _first_words(self, worker: _Worker, link: Link) -> None:
        if worker.warm is not None:
            link.send(worker.warm)
        if worker.run is not None:
            link.send(worker.run)
            if worker.cancelled:  # cancelled between hand-over and start
                link.send(m.Cancel(job=worker.job))

    def _on_reply(self, number: int, reply: m.Reply) -> None:
        if isinstance(reply, m.Happened):
            with self._lock:
                worker = self._workers.get(number)
                current = worker is not None and worker.job == reply.event.job
            if current:
                self._journal.happened(reply.event)
        elif isinstance(reply, m.Warmed):
            with self._lock:
                worker = self._workers.get(number)
                if worker is None:
                    return
                worker.warming -= 1
                if not worker.warming:
                    worker.model = reply.model
                if reply.problem is not None:
                    self._problems[worker.lane] = reply.problem
            lane = worker.lane
            self._pump_then(lambda: self._journal.lane_changed(lane))
        elif isinstance(reply, m.Counted):
            with self._lock:
                worker = self._workers.get(number)
                tell = worker.counts.pop(reply.id, None) if worker is not None else None
            if tell is not None:
                tell(reply.tokens)
        elif not isinstance(reply, m.Hello):
            with self._lock:
                worker = self._workers.get(number)
                if worker is None or worker.job != reply.job:
                    return
                # Whoever takes the job off its worker, under the lock, is the one that ends it.
                worker.job, worker.cancelled, worker.deadline = "", False, 0.0
                unanswered = []
                if not isinstance(reply, m.Done):
                    worker.model = reply.model
                if isinstance(reply, m.Gone) and reply.leaving:
                    del self._workers[number]  # its end, soon to be told, concerns nobody any more
                    unanswered = worker.take_counts()
            for tell in unanswered:
                tell(None)
            self._pump_then(lambda: self._end(reply))

    def _pump_then(self, tell: Callable[[], None]) -> None:
        # The end is told first: a job's works exist before the next one starts to compete for the disk.
        try:
            tell()
        finally:
            self.pump()

    def _end(self, reply: m.Done | m.Gone | m.Stopped) -> None:
        if isinstance(reply, m.Done):
            self._journal.done(reply.job, reply.result)
        elif isinstance(reply, m.Gone):
            self._journal.failed(reply.job, reply.problem)
        else:
            self._journal.cancelled(reply.job, reply.result)

    def _on_end(self, number: int, death: Death) -> None:
        """A worker is gone: only its own job ends, and a cancelled one's model is loaded anew."""
        with self._lock:
            worker = self._workers.pop(number, None)
            if worker is None or self._closing:
                return
            job, run, cancelled = worker.job, worker.run, worker.cancelled
            unanswered, lane = worker.take_counts(), worker.lane
            words = worker.link.last_words() if worker.link is not None else ""
            rewarm = bool(job and cancelled and run is not None)
            if rewarm and run is not None and not any(w.lane == worker.lane for w in self._waiting.values()):
                command = m.Warm(engine=run.engine, card=run.card, plan=run.plan, cache_dir=run.cache_dir)
                self._warm(self._new_worker(worker.lane), command)
            if worker.warming and worker.model:
                self._problems[lane] = WorkerDied(
                    f"The worker that was loading the model went away: {death.reason}.",
                    "The next job gets a fresh worker. If it happens again, take a smaller model.",
                    detail=words,
                ).problem
        for tell in unanswered:
            tell(None)
        if job and cancelled:
            self._pump_then(lambda: self._journal.cancelled(job, None))
        elif job:
            problem = WorkerDied(
                f"The worker that made this went away: {death.reason}.",
                "The other jobs are not affected. Try again, perhaps with something smaller.",
                detail=words,
            ).problem
            self._pump_then(lambda: self._journal.failed(job, problem))
        else:
            self._pump_then(lambda: self._journal.lane_changed(lane))

    def _start_process(
        self, lane: str, on_reply: Callable[[m.Reply], None], on_end: Callable[[Death], None]
    ) -> ProcessLink:
        return ProcessLink(worker_command(), {"STUDIO_LANE": lane}, self._log, on_reply, on_end)
