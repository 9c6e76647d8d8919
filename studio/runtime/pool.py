"""The workers, and which job each of them has.

One lane per kind of work, one worker per lane, so that a voice can speak while a picture is painted. Knows jobs as ids
with a command to send; what a job means, and where its end is written down, is the journal's business.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from studio.core.cards import ModelCard
from studio.core.events import Again, Cancelling, Silent, Started
from studio.core.lanes import Lane
from studio.core.plans import Plan
from studio.core.problems import NotSaved, OutOfMemory, Problem, StudioError, WorkerDied
from studio.core.recipes import PROMPT_LIMIT
from studio.core.rotating import RotatingLog
from studio.runtime import budget, watch
from studio.runtime import messages as m
from studio.runtime.crew import Tell, Worker, end_of
from studio.runtime.journal import Journal
from studio.runtime.link import Death, Link, ProcessLink, worker_command
from studio.runtime.schedule import Assignment, Waiting, WorkerView, assign, order

MakeLink = Callable[[str, Callable[[m.Reply], None], Callable[[Death], None]], Link]


class Pool:
    """Runs jobs in worker processes.

    Args:
        journal: told of everything that happens.
        log: takes the workers' stderr.
        grace_seconds: how long a cancelled job may go on before its worker is killed.
        idle_seconds: how long a model may lie unused before it is unloaded; 0 keeps it.
        memory_limit: bytes that all models may hold together; 0 takes what the computer has.
        make_link: starts a worker; replaced in tests.
        clock: monotonic seconds. signs, resident, free: how processes and memory are looked at; replaced in tests.
    """

    def __init__(
        self,
        journal: Journal,
        log: Path,
        *,
        grace_seconds: float = 3.0,
        idle_seconds: float = 0.0,
        memory_limit: int = 0,
        make_link: MakeLink | None = None,
        clock: Callable[[], float] = time.monotonic,
        signs: Callable[[int], watch.Signs | None] = watch.signs_of,
        resident: Callable[[int], int] = watch.resident,
        free: Callable[[], int] = watch.free_memory,
    ) -> None:
        self.grace_seconds = grace_seconds
        self.idle_seconds = idle_seconds
        self.memory_limit = memory_limit
        self._journal = journal
        self._log = RotatingLog(log)
        self._make_link = make_link or self._start_process
        self._clock, self._signs, self._resident, self._free = clock, signs, resident, free
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._waiting: dict[str, Waiting] = {}
        self._workers: dict[int, Worker] = {}
        self._to_start: list[Worker] = []
        self._to_close: list[Link] = []
        self._paused: set[str] = set()
        self._stalled = False
        self._looked = clock()  # when workers were last looked at
        self._resting = True  # there was nothing to look at
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

    def add_all(self, waiting: Iterable[Waiting]) -> None:
        """Put many jobs in the queue at once."""
        with self._lock:
            self._waiting.update((w.job, w) for w in waiting)
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
            ended = self._waiting.pop(job, None) is not None
            worker = None if ended else next((w for w in self._workers.values() if w.job == job), None)
            if worker is None and not ended:
                return False
            if worker is not None and worker.waits_for:  # it has not been sent
                worker.take_job()
                worker.model, ended = worker.held, True
            elif worker is not None and not worker.cancelled:
                worker.cancelled = True
                # one that shows no sign of life will not hear it either
                worker.deadline = self._clock() + (0.0 if worker.silent else self.grace_seconds)
                if worker.link is not None:
                    worker.link.send(m.Cancel(job=job))
                self._wake.notify_all()
        if ended:
            self._pump_then(lambda: self._journal.cancelled(job, None))
        else:
            self._journal.happened(Cancelling(job=job))
        return True

    def pump(self) -> None:
        """Hand over what can start now."""
        failures: list[tuple[str, Problem]] = []
        started: list[str] = []
        with self._lock:
            if self._closing or self._stalled:
                return
            stalled: Problem | None = None
            views = [w.view() for w in self._workers.values()]
            for assignment in assign(self._waiting.values(), views, paused=self._paused):
                waiting = self._waiting.pop(assignment.job)
                busy = frozenset(w.lane for w in self._workers.values() if w.job)
                try:
                    # RUNNING from here on, under the lock: a cancel that comes now finds the job at a worker.
                    run = self._journal.hand_over(assignment.job, busy)
                except NotSaved as error:
                    # a full disk must not turn a whole queue into failures: everything stays where it is
                    self._waiting[waiting.job] = waiting
                    self._stalled, stalled = True, error.problem
                    break
                except StudioError as error:
                    failures.append((assignment.job, error.problem))
                    continue
                self._give(assignment, waiting, run)
                started.append(assignment.job)
        for job in started:
            self._journal.happened(Started(job=job))
        for job, problem in failures:
            self._journal.failed(job, problem)
        if stalled is not None:
            self._journal.stalled(stalled)
        elif failures:
            self.pump()

    def go_on(self) -> None:
        """Start again what waits, after `Journal.stalled`."""
        with self._lock:
            self._stalled = False
        self.pump()

    # -- models ---------------------------------------------------------------------------------------------------

    def warm(self, lane: str, engine: str, card: ModelCard, plan: Plan, cache_dir: Path) -> bool:
        """Load a model before it is asked for, unless the lane is at work or holds it. Returns whether it is loaded."""
        command = m.Warm(engine=engine, card=card, plan=plan, cache_dir=str(cache_dir))
        with self._lock:
            worker = next((w for w in self._workers.values() if w.lane == lane), None)
            if self._closing or (worker is not None and (worker.job or worker.warming or worker.model == card.id)):
                return False
            if card.needs.weights > self._room(exclude=worker):
                return False  # a convenience: nothing has to make room for it
            if worker is None:
                worker = self._new_worker(lane)
            self._warm(worker, command)
            return True

    def unload(self, lane: str) -> bool:
        """Give the memory of a lane's model back, unless it is at work. Returns whether it will be given back."""
        with self._lock:
            mine = [w for w in self._workers.values() if w.lane == lane and not w.job and w.link is not None]
            for worker in mine:
                self._let_go(worker)
            return bool(mine)

    def lanes(self) -> dict[str, Lane]:
        """Every lane that has a worker, or a problem to show."""
        with self._lock:
            found = {lane: Lane(problem=problem) for lane, problem in self._problems.items()}
            for w in self._workers.values():
                found[w.lane] = w.lane_view(self._problems.get(w.lane))
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
                worker.used = self._clock()  # somebody is writing a prompt for it
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
            retired, self._to_close = self._to_close, []
            self._wake.notify_all()
        _tell_nothing(unanswered)
        for worker in workers:
            if worker.link is not None:
                worker.link.close(0.0 if worker.job or worker.warming else timeout)
        for link in retired:
            link.close(0.0)
        if threading.current_thread() is not self._keeper:
            self._keeper.join(5)
        self._log.close()

    # -- handing over -----------------------------------------------------------------------------------------------

    def _give(self, assignment: Assignment, waiting: Waiting, run: m.Run) -> None:
        worker = self._new_worker(assignment.lane) if assignment.worker is None else self._workers[assignment.worker]
        self._problems.pop(assignment.lane, None)
        needed = waiting.work + (max(0, waiting.weights - worker.size) if worker.model != waiting.model else 0)
        worker.held = worker.model
        if worker.model != waiting.model:
            worker.resident = 0
        worker.job, worker.run, worker.model, worker.waiting = assignment.job, run, waiting.model, waiting
        worker.size = waiting.weights
        worker.cancelled, worker.deadline = False, 0.0
        worker.waits_for = self._crowd_out(worker, needed, run.plan.device)
        self._send_job(worker)

    def _send_job(self, worker: Worker) -> None:
        if worker.link is not None and worker.run is not None and worker.job and not worker.waits_for:
            self._expect(worker)
            worker.link.send(worker.run)
            if worker.cancelled:  # cancelled between hand-over and start
                worker.link.send(m.Cancel(job=worker.job))

    def _expect(self, worker: Worker) -> None:
        """From now on signs of life are looked for."""
        now = self._clock()
        worker.watch.heard(now)
        if self._resting:
            self._looked, self._resting = now, False  # the time before says nothing of a sleep
            self._wake.notify_all()

    def _crowd_out(self, worker: Worker, needed: int, device: str) -> set[int]:
        """Have models that nobody is using make room. Returns the workers that were told to."""
        others = [w for w in self._workers.values() if w is not worker and w.at_rest]
        told: set[int] = set()
        on_card = [w for w in others if w.graphics is not None] if device != "cpu" else []
        frees = [w.graphics.free for w in (*on_card, worker) if w.graphics is not None and w.graphics.free]
        if on_card and frees:
            for number in budget.make_room(needed, min(frees), [_holding(w) for w in on_card]):
                self._let_go(self._workers[number], m.Park())
                told.add(number)
        resting = [_holding(w) for w in others if w.number not in told]
        for number in budget.make_room(needed, self._room(exclude=worker), resting):
            self._let_go(self._workers[number])
            told.add(number)
        return told

    def _room(self, exclude: Worker | None) -> int:
        """Bytes that one more model may take."""
        if not self.memory_limit:
            return self._free()
        held = sum(w.size for w in self._workers.values() if w.model and w is not exclude)
        return min(self._free(), self.memory_limit - held)

    def _let_go(self, worker: Worker, command: m.Unload | m.Park | None = None) -> None:
        """Tell a worker without a job to give its model's memory back."""
        assert worker.link is not None
        worker.letting_go = self._resident(worker.link.pid)
        worker.model, worker.warming = "", worker.warming + 1
        self._expect(worker)
        worker.link.send(command or m.Unload())

    def _made_room(self, number: int) -> None:
        """A worker has let go of its model, or is gone: who waited for that begins."""
        for worker in self._workers.values():
            if number in worker.waits_for:
                worker.waits_for.discard(number)
                self._send_job(worker)

    # -- workers ----------------------------------------------------------------------------------------------------

    def _new_worker(self, lane: str) -> Worker:
        worker = Worker(next(self._numbers), lane, self._clock(), watch.memory_kills())
        self._workers[worker.number] = worker
        self._to_start.append(worker)
        self._wake.notify_all()
        return worker

    def _warm(self, worker: Worker, command: m.Warm) -> None:
        self._problems.pop(worker.lane, None)
        worker.warming, worker.model, worker.size = worker.warming + 1, command.card.id, command.card.needs.weights
        worker.resident = 0
        self._expect(worker)
        if worker.link is not None:
            worker.link.send(command)
        else:
            worker.warm = command

    def _retire(self, worker: Worker) -> list[Tell]:
        """End a worker that rests; the next job of its lane gets a new one. Returns who waits for its numbers."""
        del self._workers[worker.number]
        if worker.link is not None:
            self._to_close.append(worker.link)
        self._made_room(worker.number)
        self._wake.notify_all()
        return worker.take_counts()

    def _keep(self) -> None:
        """The keeper's thread: starts workers (it outlives them all), watches them, and ends those that do not stop."""
        while True:
            with self._lock:
                while not self._closing and not self._to_start and not self._to_close:
                    left = self._until_next()
                    if left is not None and left <= 0:
                        break
                    self._wake.wait(left)
                if self._closing:
                    return
                starts, self._to_start = self._to_start, []
                closes, self._to_close = self._to_close, []
                now = self._clock()
                self._slept(now)
                late = [w for w in self._workers.values() if w.cancelled and 0 < w.deadline <= now]
                for worker in late:
                    worker.deadline = 0.0
                silent = self._look(now) if now - self._looked >= watch.LOOK_SECONDS else []
                idle = self._unload_idle(now)
            for link in [w.link for w in late if w.link is not None]:
                link.kill()
            for link in closes:  # before others are started, which may need the memory
                link.close(1.0)
            for worker in starts:
                self._start(worker)
            for worker, job, seconds in silent:
                self._tell_silent(worker, job, seconds)
            for lane in idle:
                self._journal.lane_changed(lane)

    def _until_next(self) -> float | None:
        """Seconds until the keeper has something to do; None for as long as nothing happens."""
        workers, now = self._workers.values(), self._clock()
        times = [w.deadline for w in workers if w.cancelled and w.deadline]
        self._resting = not any(w.at_work for w in workers)
        if not self._resting:
            times.append(self._looked + watch.LOOK_SECONDS)
        if self.idle_seconds:
            times += [w.used + self.idle_seconds for w in workers if w.at_rest]
        return min(times) - now if times else None

    def _slept(self, now: float) -> None:
        """After a sleep of the computer, or a stop of the studio, nobody is late: all clocks begin anew."""
        gap = now - self._looked
        if gap < watch.ASLEEP_SECONDS or not any(w.at_work for w in self._workers.values()):
            return
        for worker in self._workers.values():
            worker.watch.heard(now)
            if worker.deadline:
                worker.deadline = max(worker.deadline, now + self.grace_seconds)

    def _look(self, now: float) -> list[tuple[Worker, str, float]]:
        """Look for signs of life. Returns what is to be told: worker, its job, seconds of silence."""
        self._looked = now
        told = []
        for worker in self._workers.values():
            if not worker.at_work or worker.link is None:
                continue
            seconds = worker.watch.look(now, self._signs(worker.link.pid))
            if seconds >= watch.SILENT_SECONDS or worker.silent:
                worker.silent = seconds if seconds >= watch.SILENT_SECONDS else 0.0
                told.append((worker, worker.job, worker.silent))
        return told

    def _tell_silent(self, worker: Worker, job: str, seconds: float) -> None:
        if job:
            self._journal.happened(Silent(job=job, seconds=round(seconds, 1)))
        elif seconds > watch.LOADING_SECONDS and worker.link is not None:
            worker.link.kill()  # nobody's work is lost, and jobs wait for this lane
        self._journal.lane_changed(worker.lane)

    def _unload_idle(self, now: float) -> list[str]:
        if not self.idle_seconds:
            return []
        idle = [w for w in self._workers.values() if w.at_rest and now - w.used >= self.idle_seconds]
        for worker in idle:
            self._let_go(worker)
        return [w.lane for w in idle]

    def _start(self, worker: Worker) -> None:
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
                job = worker.take_job()
                if not job:
                    self._problems[worker.lane] = problem
                self._made_room(number)
            if job:
                self._pump_then(lambda: self._journal.failed(job, problem))
            else:
                self._pump_then(lambda: self._journal.lane_changed(worker.lane))
            return
        with self._lock:
            gone = self._closing or number not in self._workers
            if not gone:
                worker.link = link
                self._expect(worker)
                if worker.warm is not None:
                    link.send(worker.warm)
                self._send_job(worker)
        if gone:
            link.close(0.0)

    # -- what workers say -------------------------------------------------------------------------------------------

    def _on_reply(self, number: int, reply: m.Reply) -> None:
        with self._lock:
            worker = self._workers.get(number)
            if worker is None:
                return
            worker.watch.heard(self._clock())
        if isinstance(reply, m.Happened):
            if worker.job == reply.event.job:
                self._journal.happened(reply.event)
        elif isinstance(reply, m.Warmed):
            self._on_warmed(worker, reply)
        elif isinstance(reply, m.Counted):
            with self._lock:
                tell = worker.counts.pop(reply.id, None)
            if tell is not None:
                tell(reply.tokens)
        elif not isinstance(reply, m.Hello):
            self._on_job_end(worker, reply)

    def _on_warmed(self, worker: Worker, reply: m.Warmed) -> None:
        unanswered: list[Tell] = []
        with self._lock:
            worker.warming -= 1
            worker.used, worker.silent, worker.graphics = self._clock(), 0.0, reply.graphics
            if not worker.warming:
                worker.model = reply.model
            if reply.problem is not None:
                self._problems[worker.lane] = reply.problem
            if not reply.model:
                self._made_room(worker.number)
                if worker.letting_go and not worker.job and not worker.warming and worker.link is not None:
                    left = self._resident(worker.link.pid)
                    if not budget.came_back(worker.letting_go, left, worker.size):
                        unanswered = self._retire(worker)
                worker.size = worker.letting_go = 0
            else:
                self._made_room(worker.number)  # it was parked
            self._wake.notify_all()
        _tell_nothing(unanswered)
        self._pump_then(lambda: self._journal.lane_changed(worker.lane))

    def _on_job_end(self, worker: Worker, reply: m.Done | m.Gone | m.Stopped) -> None:
        again = False
        unanswered: list[Tell] = []
        with self._lock:
            if worker.job != reply.job:
                return
            waiting = worker.waiting
            worker.take_job()
            worker.used, worker.graphics = self._clock(), reply.graphics
            if not isinstance(reply, m.Done):
                worker.model = reply.model
            if not worker.model:
                worker.size = 0
            if isinstance(reply, m.Gone) and reply.leaving:
                del self._workers[worker.number]  # its end, soon to be told, concerns nobody any more
                unanswered = worker.take_counts()
                self._made_room(worker.number)
                again = waiting is not None and not self._closing and self._journal.died(reply.job, reply.problem)
                if again and waiting is not None:
                    self._waiting[reply.job] = waiting
            elif isinstance(reply, m.Gone) and reply.problem.code == OutOfMemory.code:
                # libraries that once had no memory may go on failing (oneDNN does), so nothing more runs in there
                unanswered = self._retire(worker)
            elif worker.link is not None:
                unanswered = self._recycled(worker, worker.link.pid)
            self._wake.notify_all()
        _tell_nothing(unanswered)
        if again and isinstance(reply, m.Gone):
            why = reply.problem.sentence
            self._pump_then(lambda: self._journal.happened(Again(job=reply.job, why=why)))
        else:
            self._pump_then(lambda: self._end(reply))

    def _recycled(self, worker: Worker, pid: int) -> list[Tell]:
        """End a worker whose memory grows from job to job with one model. Returns who waits for its numbers."""
        now = self._resident(pid)
        if not worker.resident:
            worker.resident = now
        return self._retire(worker) if budget.has_grown(worker.resident, now) else []

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
        """A worker is gone: only its own job ends or begins again, and a cancelled one's model is loaded anew."""
        with self._lock:
            worker = self._workers.pop(number, None)
            if worker is None or self._closing:
                return
            run, cancelled, waiting, lane = worker.run, worker.cancelled, worker.waiting, worker.lane
            job = worker.take_job()
            unanswered = worker.take_counts()
            words = worker.link.last_words() if worker.link is not None else ""
            self._made_room(number)
            if job and cancelled and run is not None and not any(w.lane == lane for w in self._waiting.values()):
                command = m.Warm(engine=run.engine, card=run.card, plan=run.plan, cache_dir=run.cache_dir)
                self._warm(self._new_worker(lane), command)
            if worker.warming and worker.model:
                self._problems[lane] = WorkerDied(
                    f"The worker that was loading the model went away: {death.reason}.",
                    "The next job gets a fresh worker. If it happens again, take a smaller model.",
                    detail=words,
                ).problem
            problem = end_of(death, words, memory=watch.memory_kills() > worker.kills)
            again = bool(job and not cancelled and waiting is not None) and self._journal.died(job, problem)
            if again and waiting is not None:
                self._waiting[job] = waiting
        _tell_nothing(unanswered)
        if again:
            self._pump_then(lambda: self._journal.happened(Again(job=job, why=problem.sentence)))
        elif job and cancelled:
            self._pump_then(lambda: self._journal.cancelled(job, None))
        elif job:
            self._pump_then(lambda: self._journal.failed(job, problem))
        else:
            self._pump_then(lambda: self._journal.lane_changed(lane))

    def _start_process(
        self, lane: str, on_reply: Callable[[m.Reply], None], on_end: Callable[[Death], None]
    ) -> ProcessLink:
        return ProcessLink(worker_command(), {"STUDIO_LANE": lane}, self._log, on_reply, on_end)


def _holding(worker: Worker) -> budget.Holding:
    return budget.Holding(worker.number, worker.size, worker.used)


def _tell_nothing(unanswered: Iterable[Tell]) -> None:
    for tell in unanswered:
        tell(None)
