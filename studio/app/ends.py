"""How jobs end: what they made is kept, whatever happens, and each ends once.

A work that cannot be saved, because the disk is full or gone, is held: its files stay in staging, its job goes on until
they are saved, and every few seconds that is tried again. Knows the library; knows nothing of workers.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import msgspec

from studio.core.events import Cancelled, EndEvent, Failed, Finished, Held
from studio.core.jobs import Job, JobState
from studio.core.problems import Interrupted, LibraryMoved, NotSaved, Problem, SetAside
from studio.core.recipes import ExportRecipe
from studio.core.works import Result, Work
from studio.library import exports
from studio.library.database import Database
from studio.library.exports.target import why
from studio.library.files import Commit, Files
from studio.library.jobs import BadTransition, Jobs
from studio.library.works import Works

ATTEMPTS = 2  # after so many that ended their worker a job is set aside
AGAIN_SECONDS = 2.0  # between two tries to save what is held


class _End(msgspec.Struct):
    """How a job ends, as long as that is not written down."""

    job: Job
    state: JobState
    result: Result | None
    problem: Problem | None

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.job.notes, *(self.result.notes if self.result is not None else ()))))


class Ends:
    """Writes down how jobs end.

    Args:
        tell: called with the event that ends a job, or with Held.
        all_well: called once everything that was held is saved.
    """

    def __init__(
        self, database: Database, jobs: Jobs, works: Works, files: Files, tell: Callable[[EndEvent | Held], None],
        all_well: Callable[[], None],
    ) -> None:  # fmt: skip
        self._database, self._jobs, self._works, self._files = database, jobs, works, files
        self._tell, self._all_well = tell, all_well
        self._lock = threading.Lock()
        self._saving = threading.Lock()  # while what is held is being written; taken before the other
        self._held: dict[str, _End] = {}
        self._owed: list[_End] = []  # told already, and not yet in the database: nothing can be lost by that
        self._problem: Problem | None = None
        self._wake = threading.Event()
        self._closed = False
        self._mender: threading.Thread | None = None
        self._stalled = False

    # -- ending -----------------------------------------------------------------------------------------------------

    def end(
        self, job: Job, state: JobState, result: Result | None = None, problem: Problem | None = None
    ) -> None:  # fmt: skip
        """End a job. What it had made before a cancel, a failure or a death of its worker is kept.

        Where that cannot be saved now, Held is told instead, and the end follows when it is.
        """
        end = _End(job, state, result, problem)
        try:
            works, files = self._write(end)
        except (OSError, NotSaved) as error:
            self._later(end, _why(error))
        else:
            self._told(end, works, files)

    def give_up(self, job_id: str) -> bool:
        """The user does not want what is held any more. Returns False where nothing is held of this job."""
        with self._saving, self._lock:
            end = self._held.pop(job_id, None)
        if end is None:
            return False
        commit = self._files.pending(job_id)
        for work in commit.works if commit is not None else ():
            with contextlib.suppress(OSError):  # it may have got as far as the library's folder
                self._files.delete(work)
        self._files.clear(job_id)
        given_up = _End(end.job, JobState.CANCELLED, None, None)
        try:
            self._jobs.end(job_id, given_up.state)
        except NotSaved:
            self._owe(given_up)
        self._told(given_up, (), ())
        return True

    def _write(self, end: _End) -> tuple[tuple[Work, ...], tuple[str, ...]]:
        job, result, notes = end.job, end.result, end.notes
        if isinstance(job.recipe, ExportRecipe):
            if end.state is not JobState.FINISHED:
                exports.clear_up(job.recipe.to, job.id)  # what a killed worker left beside the user's file
            self._jobs.end(job.id, end.state, problem=end.problem, notes=notes)
            self._files.clear(job.id)
            done = result is not None and end.state is JobState.FINISHED
            return (), tuple(a.name for a in result.artifacts) if done and result is not None else ()
        if result is None:
            result = self._files.left_behind(job)
        if result is None or not result.artifacts:
            self._jobs.end(job.id, end.state, problem=end.problem, notes=notes)
            self._files.clear(job.id)
            return (), ()
        # an earlier try may have got as far as the promise: then its works have their ids already
        commit = self._files.pending(job.id)
        if commit is None:
            commit = self._files.plan(job, result, end.state, end.problem)
            self._files.promise(commit)
        self._carry_out(commit, notes)
        return commit.works, ()

    def _carry_out(self, commit: Commit, notes: tuple[str, ...] = ()) -> None:
        self._files.settle(commit)
        with self._database.transaction():
            self._works.add(commit.works)
            self._jobs.end(commit.job, commit.end, problem=commit.problem, notes=notes)
        self._files.clear(commit.job)

    def _told(self, end: _End, works: tuple[Work, ...], files: tuple[str, ...]) -> None:
        job = end.job.id
        if end.state is JobState.CANCELLED:
            self._tell(Cancelled(job=job, works=works))
        elif end.state is JobState.FAILED:
            assert end.problem is not None
            self._tell(Failed(job=job, problem=end.problem, works=works))
        else:
            self._tell(Finished(job=job, works=works, files=files, notes=end.notes))

    # -- what has to wait -------------------------------------------------------------------------------------------

    def _later(self, end: _End, problem: Problem) -> None:
        nothing_made = end.result is None and not self._left_something(end.job)
        if nothing_made and end.state is not JobState.FINISHED:
            self._owe(end)
            self._told(end, (), ())
            return
        with self._lock:
            self._held[end.job.id] = end
        self._trouble(problem)
        self._tell(Held(job=end.job.id, problem=problem))

    def _left_something(self, job: Job) -> bool:
        if isinstance(job.recipe, ExportRecipe):
            return False
        try:
            return self._files.pending(job.id) is not None or self._files.left_behind(job) is not None
        except OSError:
            return True

    def _owe(self, end: _End) -> None:
        with self._lock:
            self._owed.append(end)
        self._start_mending()

    def stall(self, problem: Problem) -> None:
        """Nothing can be started because that could not be written down; try until it can."""
        self._stalled = True
        self._trouble(problem)

    @property
    def problem(self) -> Problem | None:
        """What is in the way of saving at this moment."""
        return self._problem

    def held(self) -> list[str]:
        """Jobs that were made and wait to be saved."""
        with self._lock:
            return list(self._held)

    def _trouble(self, problem: Problem) -> None:
        self._problem = problem
        self._start_mending()

    def _start_mending(self) -> None:
        with self._lock:
            if self._mender is None and not self._closed:
                self._mender = threading.Thread(target=self._mend, name="mender", daemon=True)
                self._mender.start()

    def _mend(self) -> None:
        """The mender's thread: there while something waits to be saved."""
        while not self._wake.wait(AGAIN_SECONDS):
            self.try_again()
            with self._lock:
                if not self._held and not self._owed and not self._stalled:
                    self._mender = None
                    return

    def try_again(self) -> None:
        """Save what can be saved now."""
        with self._lock:
            held, owed = list(self._held.values()), list(self._owed)
        try:
            if not held and not owed:
                self._files.probe()
            for end in owed:
                with contextlib.suppress(BadTransition):  # another process has recovered it meanwhile
                    self._jobs.end(end.job.id, end.state, problem=end.problem, notes=end.job.notes)
                self._files.clear(end.job.id)
                with self._lock:
                    self._owed.remove(end)
            for end in held:
                with self._saving:
                    if end.job.id not in self._held:
                        continue  # given up meanwhile
                    works, files = self._write(end)
                    with self._lock:
                        del self._held[end.job.id]
                self._told(end, works, files)
        except (OSError, NotSaved) as error:
            self._problem = _why(error, made=bool(held))
            return
        self._problem, self._stalled = None, False
        self._all_well()

    def close(self) -> None:
        """The last try; what is held after it is saved at the next start."""
        with self._lock:
            self._closed, mender = True, self._mender
        self._wake.set()
        if mender is not None and mender is not threading.current_thread():
            mender.join(10)
        if self._held or self._owed:
            self.try_again()

    # -- after a crash ----------------------------------------------------------------------------------------------

    def recover(self, is_ours: Callable[[Job], bool]) -> tuple[str, ...]:
        """Keep what was promised, mark what was interrupted, remove what is left over.

        Args:
            is_ours: whether a job's studio is gone, so that its job is this one's to end.

        Returns:
            Jobs that were marked as interrupted.
        """
        interrupted = []
        for job in self._jobs.unfinished():
            if job.state is JobState.RUNNING and is_ours(job):
                with contextlib.suppress(BadTransition):  # another process recovers it at this moment
                    interrupted += self._recover_job(job)
        for job_id in self._files.staged():
            left = self._jobs.find(job_id)
            if left is not None and not left.state.ended:
                continue  # it waits, is at work elsewhere, or is held
            commit = self._files.pending(job_id)
            if commit is None and left is None:
                continue  # nothing is known of it: better a folder too many than a work too few
            with contextlib.suppress(OSError, NotSaved):  # still no room: it waits for the next start
                if commit is not None:
                    self._files.settle(commit)
                    self._works.add(commit.works)
                self._files.clear(job_id)
        return tuple(interrupted)

    def _recover_job(self, job: Job) -> list[str]:
        commit = self._files.pending(job.id)
        if commit is not None:
            try:
                self._carry_out(commit)
            except (OSError, NotSaved) as error:
                self._later(_End(job, commit.end, None, commit.problem), _why(error))
            return []
        self.end(job, JobState.FAILED, problem=interrupted(job))
        return [job.id]


def interrupted(job: Job) -> Problem:
    """What is said of a job whose studio went away under it."""
    if job.attempts >= ATTEMPTS:
        return SetAside(
            "The studio ended while this was being made, and it was the second time; it is set aside.",
            "Change something before you run it again: a smaller size, another model.",
        ).problem
    return Interrupted(
        "The studio was ended while this was being made.",
        "Run it again; on the command line: “studio jobs --retry ID”.",
    ).problem


def set_aside(problem: Problem) -> Problem:
    """What is said of a job whose worker went away as often as is allowed."""
    return SetAside(
        f"{problem.sentence.rstrip('.')}. It was the second time, so the job is set aside.",
        "Change something before you run it again: a smaller size, another model. The other jobs are not affected.",
        detail=problem.detail,
    ).problem


def _why(error: OSError | NotSaved, made: bool = True) -> Problem:
    """What stands in the way, said to a person. `made`: of something that was made; otherwise of what waits."""
    if isinstance(error, LibraryMoved) or (isinstance(error, NotSaved) and not made):
        return error.problem
    reason = error.problem.sentence if isinstance(error, NotSaved) else why(error)[0]
    if not made:
        return NotSaved(
            f"Nothing can be saved at the moment: {reason.rstrip('.')}.",
            "Make room on the disk. What waits goes on by itself.",
        ).problem
    return NotSaved(
        f"It was made but could not be kept yet: {reason.rstrip('.')}.",
        "Make room on the disk. It is tried again every few seconds, and at the next start.",
        detail=str(error),
    ).problem
