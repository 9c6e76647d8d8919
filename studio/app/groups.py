"""Groups: the jobs of a grid as one thing, from its plan to its sheet. A part of the session.

A group is written in one transaction with all of its jobs, before any of them runs. Its cells are ordinary jobs of the
queue. When all of them have ended, however they did, the pictures are kept as inputs and one more job makes the sheet;
that is decided from what the database says, so that it may be decided again after a crash at any moment. Knows jobs and
works; knows nothing of workers.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from studio.app.ends import AGAIN_SECONDS, ATTEMPTS
from studio.core import grids
from studio.core.cards import ModelCard
from studio.core.events import EndEvent
from studio.core.grids import Axis, Group, GroupState
from studio.core.jobs import Job, JobState
from studio.core.named import Named, renamed
from studio.core.problems import NotFound, NotSaved, StudioError
from studio.core.recipes import LABEL_LIMIT, SEED_LIMIT, ImageRecipe, Recipe, SheetCell, SheetRecipe, recheck
from studio.core.text import shown
from studio.core.works import Change, Work
from studio.library.database import Database
from studio.library.jobs import Jobs, new_id, now, to_json
from studio.library.works import Works

Fitted = tuple[Recipe, ModelCard, dict[str, ModelCard]]
Known = dict[tuple[str, str], ModelCard]
Ready = tuple[Job, ModelCard, dict[str, ModelCard]]
_COLUMNS = "id, title, created, plan, jobs, cancelled, sheet, open"


@dataclass(frozen=True)
class Host:
    """What a session does for its groups.

    Attributes:
        fitted: decides what a recipe leaves open, and finds its model and additions. `Known` saves looking twice.
        line_up: puts jobs that are written down in the queue.
        kept: the kept picture that a recipe's text names. keep: keeps a file.
    """

    fitted: Callable[[Recipe, Known | None], Fitted]
    line_up: Callable[[Iterable[Ready]], None]
    cancel: Callable[[str], Change]
    runs_elsewhere: Callable[[Job], bool]
    kept: Callable[[str], str]
    keep: Callable[[Path], str]
    path: Callable[[Work], Path]
    models: Callable[[], list[ModelCard]]
    told: Callable[[Change], Change]


class _Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that a sheet needs beside the pictures.

    `order`: places among the group's jobs, in the order in which they were lined up.
    """

    axes: tuple[Axis, ...]
    across: tuple[str, ...] = ()
    down: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    order: tuple[int, ...] = ()
    ground: Literal["light", "dark"] = "light"


class _Row(msgspec.Struct, frozen=True):
    """A group as it is written down. `tries`: for each cell the jobs that were to make it, the last one counts."""

    id: str
    title: str
    created: str
    plan: _Plan
    tries: tuple[tuple[str, ...], ...]
    cancelled: bool
    sheet: str
    open: bool

    @property
    def jobs(self) -> tuple[str, ...]:
        return tuple(each[-1] for each in self.tries)


_plans: msgspec.json.Decoder[_Plan] = msgspec.json.Decoder(_Plan)
_tries: msgspec.json.Decoder[tuple[tuple[str, ...], ...]] = msgspec.json.Decoder(tuple[tuple[str, ...], ...])


class Groups:
    """The groups of one session. Thread-safe.

    Args:
        owner: the process that this session's jobs belong to.
    """

    def __init__(self, database: Database, jobs: Jobs, works: Works, owner: str, host: Host) -> None:
        self._database, self._jobs, self._works, self._owner, self._host = database, jobs, works, owner, host
        self._lock = threading.Lock()
        self._moved = threading.Condition(self._lock)  # some group came further
        self._of: dict[str, str] = {}  # job that has not ended -> its group
        self._left: dict[str, set[str]] = {}  # group -> its jobs that have not ended, the sheet's among them
        self._closing = threading.Event()
        # keeping many pictures takes a while, and whoever tells of an end must not wait for it
        self._later = ThreadPoolExecutor(1, thread_name_prefix="groups")

    # -- asking -----------------------------------------------------------------------------------------------------

    def grid(
        self, recipe: ImageRecipe, x: Axis, y: Axis | None = None, z: Axis | None = None, *,
        ground: Literal["light", "dark"] = "light",
    ) -> Group:  # fmt: skip
        """Line up every cell of a grid. All of them are on disk when this returns, or none is.

        Raises:
            BadRecipe, ModelMissing, ModelBroken, ModelRefused, ModelUnfit: of which cell is in the sentence.
            NotSaved: the queue could not be written.
        """
        cards = self._host.models()

        def called(refers: str, value: str) -> str:
            found = next((c for c in cards if c.kind == refers and value in (c.id, c.name, c.path)), None)
            return found.name if found is not None else Path(value).name

        axes = tuple(axis for axis in (x, y, z) if axis is not None)
        cells = grids.cells(self._begun(recipe, axes), x, y, z, called=called)
        known: Known = {}
        ready = [self._fitted(cell, known) for cell in cells]
        wide, high = len(x.values), len(y.values) if y is not None else 1
        places = [cell.at[0] + wide * (cell.at[1] + high * cell.at[2]) for cell in cells]
        plan = _Plan(
            axes=axes, order=tuple(places), ground=ground, across=grids.labels(x, called),
            down=grids.labels(y, called) if y is not None else (),
            blocks=grids.labels(z, called) if z is not None else (),
        )  # fmt: skip
        with self._database.transaction() as db:
            jobs = [self._jobs.add(made, owner=self._owner) for made, _, _ in ready]
            at = {place: job.id for place, job in zip(places, jobs, strict=True)}
            tries = tuple((at[place],) for place in range(len(jobs)))
            row = _Row(new_id("g"), shown(recipe.prompt, 80), now(), plan, tries, False, "", True)
            db.execute(
                "insert into groups (id, title, created, plan, jobs) values (?, ?, ?, ?, ?)",
                (row.id, row.title, row.created, to_json(row.plan), to_json(row.tries)),
            )
        self._watch(row.id, (job.id for job in jobs))
        self._host.line_up((job, card, parts) for job, (_, card, parts) in zip(jobs, ready, strict=True))
        self._host.told(Change(groups=(row.id,)))
        return self.get(row.id)

    def _begun(self, recipe: ImageRecipe, axes: tuple[Axis, ...]) -> ImageRecipe:
        """The recipe with all decided that must be the same in every cell: chance, and the pictures it names."""
        fresh: dict[str, Any] = {"made_with": None}  # of another work; a cell is a new one
        if recipe.seed is None:
            fresh["seed"] = secrets.randbelow(SEED_LIMIT)
        varied = recipe.variation or any(grids.chosen(axis.field).name == "variation" for axis in axes)
        if varied and recipe.variation_seed is None:
            fresh["variation_seed"] = secrets.randbelow(SEED_LIMIT)
        checked = recheck(msgspec.structs.replace(recipe, **fresh)).recipe
        assert isinstance(checked, ImageRecipe)

        def name(named: Named) -> str:
            return self._host.kept(named.value) if named.refers == "picture" else named.value

        return renamed(checked, name)

    def _fitted(self, cell: grids.Cell, known: Known) -> Fitted:
        try:
            return self._host.fitted(cell.recipe, known)
        except StudioError as error:
            p = error.problem
            where = ", ".join(cell.labels)
            raise type(error)(f"{where}: {p.sentence}", p.hint, detail=p.detail, field=p.field) from None

    def get(self, group_id: str) -> Group:
        """Raises NotFound."""
        row = self._find(group_id)
        if row is None:
            raise NotFound(f"There is no grid “{shown(group_id, 40)}”.")
        return self._group(row)

    def recent(self, limit: int) -> list[Group]:
        """Groups, newest first."""
        return [self._group(row) for row in self._rows("order by row desc limit ?", (limit,))]

    def open(self) -> list[Group]:
        """Groups that have not ended, newest first."""
        return [self._group(row) for row in self._rows("where open = 1 order by row desc", ())]

    def mine(self) -> list[str]:
        """Groups that this session sees to and that have not ended."""
        with self._lock:
            return list(self._left)

    def wait(self, group_id: str, timeout: float | None = None) -> Group:
        """Wait until a group has ended, or so many seconds have passed. Returns how it stands."""

        def over() -> bool:
            row = self._find(group_id)
            return row is None or not row.open

        with self._moved:
            self._moved.wait_for(over, timeout)
        return self.get(group_id)

    # -- stopping, going on -----------------------------------------------------------------------------------------

    def cancel(self, group_id: str) -> Change:
        """Stop all of it. What is made by then is kept, and gets its sheet; a sheet that is being made is stopped."""
        row = self._find(group_id)
        if row is None:
            raise NotFound(f"There is no grid “{shown(group_id, 40)}”.")
        if not row.open:
            return Change()
        jobs = [job for job in self._jobs.many((*row.jobs, row.sheet)) if not job.state.ended]
        with self._database.transaction() as db:
            # written first: a studio that ends in the middle of this goes on with it
            still = 1 if jobs else 0
            db.execute("update groups set cancelled = 1, open = ? where id = ?", (still, row.id))
        self._stop(jobs)
        self._tell_moved(row.id)
        return Change(jobs=tuple(job.id for job in jobs), groups=(row.id,))

    def _stop(self, jobs: list[Job]) -> None:
        """Cancel what waits from its end, so that nothing more is begun meanwhile; then what runs."""
        for job in sorted(jobs, key=lambda j: (j.state is JobState.RUNNING, -j.position)):
            with contextlib.suppress(NotFound):
                self._host.cancel(job.id)

    def retry(self, job: Job) -> Job | None:
        """Make a cell once more in its group, which gets a new sheet; None for a job that is no lost cell of a group.

        Raises as a submit does.
        """
        if job.state is JobState.FINISHED or not isinstance(job.recipe, ImageRecipe):
            return None
        quoted = f'"{job.id}"'
        row = next(iter(self._rows("where instr(jobs, ?) > 0 limit 1", (quoted,))), None)
        if row is None:
            return None
        place = next(at for at, tries in enumerate(row.tries) if job.id in tries)
        last = self._jobs.find(row.tries[place][-1])
        if last is not None and not last.state.ended:
            return last  # it was begun again by itself
        return self._again(row, [place])[0]

    def _again(self, row: _Row, places: list[int]) -> list[Job]:
        """Line some cells of a group up once more."""
        ready: list[Ready] = []
        jobs = {job.id: job for job in self._jobs.many(row.jobs)}
        fitted = [self._host.fitted(jobs[row.jobs[place]].recipe, None) for place in places]
        tries = list(row.tries)
        with self._database.transaction() as db:
            for place, (recipe, card, parts) in zip(places, fitted, strict=True):
                job = self._jobs.add(recipe, owner=self._owner)
                tries[place] = (*tries[place], job.id)
                ready.append((job, card, parts))
            db.execute(
                "update groups set jobs = ?, open = 1, cancelled = 0, sheet = '' where id = ?", (to_json(tries), row.id)
            )
        self._watch(row.id, (job.id for job, _, _ in ready))
        self._host.line_up(ready)
        self._tell_moved(row.id)
        return [job for job, _, _ in ready]

    def take_up(self) -> None:
        """Go on with the groups that earlier sessions left: cells that were cut off are made again, once; a cancel
        that was cut off is carried on; groups whose cells have all ended get their sheet."""
        for row in self._rows("where open = 1 order by row", ()):
            jobs = {job.id: job for job in self._jobs.many((*row.jobs, row.sheet))}
            left = [job for job in jobs.values() if not job.state.ended]
            if any(self._host.runs_elsewhere(job) for job in left):
                continue
            self._watch(row.id, (job.id for job in left))
            # one that ended before it was watched would be waited for in vain
            left = [job for job in self._jobs.many(job.id for job in left) if not self._is_over(row.id, job)]
            if row.cancelled:
                self._stop(left)
            elif not row.sheet:
                cut = [
                    at for at, tries in enumerate(row.tries) if len(tries) < ATTEMPTS and _cut_off(jobs.get(tries[-1]))
                ]
                if cut:
                    # what cannot be made any more, because its model is gone, stays as it is
                    with contextlib.suppress(StudioError):
                        left += self._again(row, cut)
            if not left:
                self._soon(row.id)

    # -- how it goes on ---------------------------------------------------------------------------------------------

    def ended(self, event: EndEvent) -> None:
        """A job of this session ended. Quick: what follows is done on another thread."""
        with self._lock:
            group_id = self._of.pop(event.job, "")
            left = self._left.get(group_id)
            if left is None:
                return
            left.discard(event.job)
            over = not left
        self._tell_moved(group_id)
        if over:
            self._soon(group_id)

    def close(self) -> None:
        """End what is under way; it is taken up again at the next start."""
        self._closing.set()
        self._later.shutdown(wait=True, cancel_futures=True)

    def _watch(self, group_id: str, jobs: Iterable[str]) -> None:
        with self._lock:
            for job in jobs:
                self._of[job] = group_id
                self._left.setdefault(group_id, set()).add(job)

    def _is_over(self, group_id: str, job: Job) -> bool:
        if job.state.ended:
            with self._lock:
                self._of.pop(job.id, None)
                self._left[group_id].discard(job.id)
        return job.state.ended

    def _soon(self, group_id: str) -> None:
        with contextlib.suppress(RuntimeError):  # it closes: the next start sees to it
            self._later.submit(self._see_to, group_id)

    def _see_to(self, group_id: str) -> None:
        """The thread of groups: do what is due, and try again for as long as nothing can be saved."""
        while not self._closing.is_set():
            try:
                if self._advance(group_id):
                    return
            except NotSaved:
                pass  # the disk is full, or away; the session says so by itself
            self._closing.wait(AGAIN_SECONDS)

    def _advance(self, group_id: str) -> bool:
        """Bring a group as far as it can come. Returns False where the database does not know yet what was told."""
        row = self._find(group_id)
        if row is None or not row.open:
            return True
        jobs = {job.id: job for job in self._jobs.many((*row.jobs, row.sheet))}
        if any(not job.state.ended for job in jobs.values()):
            with self._lock:
                return bool(self._left.get(group_id))  # one was lined up again meanwhile; its end brings us here
        if row.sheet and not _cut_off(jobs.get(row.sheet)):
            self._end(row)
            return True
        cells = []
        for job_id in row.jobs:
            if self._closing.is_set():
                return True
            cells.append(self._cell(jobs.get(job_id)))
        if not any(cell.image for cell in cells):
            self._end(row)
            return True
        plan = row.plan
        sheet = SheetRecipe(
            cells=tuple(cells), across=plan.across, down=plan.down, blocks=plan.blocks, ground=plan.ground,
            title=row.title,
        )  # fmt: skip
        recipe, card, parts = self._host.fitted(recheck(sheet).recipe, None)
        with self._database.transaction() as db:
            now_is = self._find(group_id)
            if now_is != row:  # cancelled, or a cell was asked for again, at this moment
                return False
            job = self._jobs.add(recipe, owner=self._owner)
            db.execute("update groups set sheet = ? where id = ?", (job.id, row.id))
        self._watch(row.id, (job.id,))
        self._host.line_up([(job, card, parts)])
        self._tell_moved(row.id)
        return True

    def _cell(self, job: Job | None) -> SheetCell:
        """What stands in the place of a cell: its picture, kept so that it outlives the work, or why there is none."""
        for work in [self._works.find(work_id) for work_id in (job.works if job is not None else ())]:
            try:
                if work is not None:
                    return SheetCell(image=self._host.keep(self._host.path(work)))
            except NotSaved:
                raise
            except StudioError:  # its file is gone, or is no picture any more
                continue
        if job is None or job.works or job.state is JobState.FINISHED:
            return SheetCell(why="removed")
        if job.state is JobState.CANCELLED:
            return SheetCell(why="cancelled")
        sentence = job.problem.sentence if job.problem is not None else ""
        return SheetCell(why=shown(f"failed: {sentence}" if sentence else "failed", LABEL_LIMIT))

    def _end(self, row: _Row) -> None:
        with self._database.transaction() as db:
            db.execute("update groups set open = 0 where id = ?", (row.id,))
        with self._lock:
            self._left.pop(row.id, None)
        self._tell_moved(row.id)

    def _tell_moved(self, group_id: str) -> None:
        self._host.told(Change(groups=(group_id,)))
        with self._moved:
            self._moved.notify_all()

    # -- rows -------------------------------------------------------------------------------------------------------

    def _find(self, group_id: str) -> _Row | None:
        return next(iter(self._rows("where id = ?", (group_id,))), None)

    def _rows(self, which: str, values: tuple[Any, ...]) -> list[_Row]:
        """Rows of the table; those that are damaged, or of a newer studio, are passed over."""
        found = []
        for row in self._database.rows(f"select {_COLUMNS} from groups {which}", values):
            group_id, title, created, plan, jobs, cancelled, sheet, is_open = row
            with contextlib.suppress(msgspec.DecodeError, ValueError, TypeError):
                tries = _tries.decode(jobs)
                made = _plans.decode(plan)
                if all(tries):
                    found.append(_Row(group_id, title, created, made, tries, bool(cancelled), sheet, bool(is_open)))
        return found

    def _group(self, row: _Row) -> Group:
        states = {job.id: job.state for job in self._jobs.many((*row.jobs, row.sheet))}
        ids = row.jobs
        return Group(
            id=row.id, title=row.title, created=row.created, axes=row.plan.axes, jobs=ids,
            order=tuple(ids[at] for at in row.plan.order if at < len(ids)),
            ended=sum(states[job].ended for job in ids if job in states), sheet=row.sheet,
            state=_state(row, states.get(row.sheet)),
        )  # fmt: skip


def _state(row: _Row, sheet: JobState | None) -> GroupState:
    if sheet is None:
        return "making" if row.open and not row.sheet else "cancelled" if row.cancelled else "failed"
    if not sheet.ended:
        return "sheet"
    if sheet is JobState.FINISHED:
        return "finished"
    return "cancelled" if sheet is JobState.CANCELLED else "failed"


def _cut_off(job: Job | None) -> bool:
    """Whether a job ended only because its studio did."""
    return job is not None and job.problem is not None and job.problem.code == "interrupted"
