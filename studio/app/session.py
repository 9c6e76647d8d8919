"""One studio at work: its queue, its library, its models, its settings.

Thread-safe: any thread may call. Subscribers are called on the pool's threads and should hand over quickly.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from studio.app.asides import Asides, plain
from studio.app.deciding import Decider, moved, plan_of
from studio.app.ends import ATTEMPTS, Ends, set_aside
from studio.app.groups import Groups, Host, Ready
from studio.app.learning import anew
from studio.app.machine import is_alive, this_process
from studio.app.models import Models
from studio.app.names import Names
from studio.app.settings import load_settings, save_settings
from studio.app.shelf import Shelf
from studio.core.cards import ModelCard
from studio.core.elo import Vote
from studio.core.events import Again, Cancelled, EndEvent, Event, Failed, Held, Queued, Shown
from studio.core.grids import Axis, Group
from studio.core.jobs import Job, JobState
from studio.core.lanes import Lane
from studio.core.learning import Dataset
from studio.core.paths import Paths
from studio.core.plans import MEMORY_MODES
from studio.core.problems import BadRecipe, NotFound, NotRead, NotSaved, Problem, StudioError
from studio.core.recipes import (
    Checked,
    ExportRecipe,
    ImageRecipe,
    Recipe,
    check,
    recheck,
)
from studio.core.settings import Settings, changed
from studio.core.text import clean, shown
from studio.core.works import Change, Result
from studio.library import restore
from studio.library.backups import back_up, due
from studio.library.conversations import Conversations
from studio.library.database import Database
from studio.library.datasets import Datasets
from studio.library.files import Files
from studio.library.inputs import Inputs
from studio.library.jobs import BadTransition, Jobs
from studio.library.votes import Votes
from studio.library.works import Works
from studio.models.memory import estimate
from studio.runtime import messages as m
from studio.runtime.pool import MakeLink, Pool
from studio.runtime.schedule import Waiting

if TYPE_CHECKING:
    from studio.app.imports import Taken

Listener = Callable[[Event | Change], None]

# A recipe kind is a lane: kinds do not wait for one another.
BACKUP_HOURS = 20.0  # once a day for whoever begins a little earlier each day


class _Task(msgspec.Struct):
    """A job this session will run, with what hand-over needs.

    `cards`: of the additions its recipe names. `memory`: how to save it, after it has run out once.
    """

    job: Job
    card: ModelCard
    cards: dict[str, ModelCard] = {}
    memory: str = ""


class Session(Shelf):
    """Everything that can be asked of the studio.

    Args:
        paths: where this studio keeps its things.
        resume: also run jobs that an earlier session left waiting.
        keep_pause: what is paused stays so from one session to the next. A command that makes one thing must not be
            held up by a window's pause.
        make_link: starts workers; replaced in tests.

    Attributes:
        read_only: why nothing can be changed, in a sentence; empty where all can.
        note: what happened to the library while it was opened, in a sentence; mostly empty.
        interrupted: jobs that an earlier session left at work and this one marked.

    Raises:
        NotSaved: the data folder cannot be made.
        LibraryBroken: the database is damaged; `restore_library` mends that.
    """

    def __init__(
        self, paths: Paths, *, resume: bool = False, keep_pause: bool = False, make_link: MakeLink | None = None
    ) -> None:  # fmt: skip
        self.paths = paths
        try:
            paths.make()
        except OSError as error:
            raise NotSaved(
                f"The data folder {paths.home} cannot be used: {error.strerror or error}.",
                "Set STUDIO_HOME to a folder you can write to.",
            ) from None
        self._me = this_process()
        self._lock = threading.RLock()
        self._listeners: list[Listener] = []
        self._tasks: dict[str, _Task] = {}
        self._known_ends: dict[str, EndEvent] = {}
        self._ended = threading.Condition(self._lock)
        self.settings, self.settings_note = load_settings(paths.settings)
        # A library that is gone is not a new one: what its sidecars and backups know comes back.
        self.note = restore.restore(paths).sentence if restore.lost(paths) else ""
        self._database = Database(paths.database)
        self.read_only = self._database.read_only
        self._jobs = Jobs(self._database)
        library = Works(self._database), Conversations(self._database), Files(paths), Inputs(paths)
        super().__init__(*library, self._told_all)
        self._models = Models(paths, self._database)
        self._datasets = Datasets(paths)
        self._votes = Votes(paths)
        self._names = Names(
            self._inputs, lambda kind, name: self._models.choose(kind, name), self.work, self.path, self._datasets.card
        )
        self._decider = Decider(self.model, self.work, self.path, self._names)
        self._asides = Asides(self._files)
        self._ends = Ends(self._database, self._jobs, self._works, self._files, self._ended_as, self._all_well)
        host = Host(
            self._decider.decided, self._line_up, self.cancel, self._runs_elsewhere, self._names.kept, self._inputs.add,
            self.path, self.models, self._told_all,
        )  # fmt: skip
        self._groups = Groups(self._database, self._jobs, self._works, self._me, host)
        self._pool = Pool(_Journal(self), paths.logs / "workers.log", make_link=make_link)
        self._set_pool(self.settings)
        self._keep_pause = keep_pause and not self.read_only
        self._backup: threading.Thread | None = None
        self.interrupted: tuple[str, ...] = ()
        if self.read_only:
            return
        self.interrupted = self._ends.recover(lambda job: not self._runs_elsewhere(job))
        if self._keep_pause:
            for lane in self._jobs.paused():
                self._pool.pause(lane)
        if resume:
            self.resume_waiting()
        if due(paths.backups, BACKUP_HOURS):
            self._backup = threading.Thread(target=self._back_up, name="backup", daemon=True)
            self._backup.start()

    def _set_pool(self, settings: Settings) -> None:
        self._pool.grace_seconds = settings.grace_seconds
        self._pool.idle_seconds = settings.idle_minutes * 60
        self._pool.memory_limit = int(settings.memory_limit * 1e9)

    def _back_up(self) -> None:
        try:
            back_up(self._database, self.paths.backups)
        except StudioError as error:  # the older ones are there, and the next start tries again
            print(f"No backup was made: {error.problem.sentence}", file=sys.stderr, flush=True)

    # -- events -----------------------------------------------------------------------------------------------------

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Be told of every Event and Change. Returns a function that ends it."""
        with self._lock:
            self._listeners.append(listener)

        def stop() -> None:
            with self._lock, contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return stop

    def _tell(self, *events: Event | Change) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for event in events:
            for listener in listeners:
                try:
                    listener(event)
                except Exception:  # a listener's mistake must not stop the queue: the second of the three places
                    traceback.print_exc(file=sys.stderr)

    # -- jobs -------------------------------------------------------------------------------------------------------

    def recipe(self, kind: str, given: dict[str, Any]) -> Checked:
        """Build a recipe from what a person gave, filled up with what suits the chosen model.

        Raises:
            BadRecipe, ModelMissing, ModelBroken, ModelRefused, ModelUnfit.
        """
        return self._decider.filled(kind, given)

    def submit(self, recipe: Recipe, *, priority: int = 0, redo_of: str = "", notes: tuple[str, ...] = ()) -> Job:
        """Put a job in the queue. It is on disk when this returns.

        Raises:
            BadRecipe, ModelMissing, ModelBroken, ModelRefused, ModelUnfit: nothing was queued.
            NotSaved: the queue could not be written.
        """
        checked = recheck(recipe)
        recipe, card, cards = self._decider.decided(checked.recipe)
        job = self._jobs.add(recipe, owner=self._me, priority=priority, redo_of=redo_of)
        job = msgspec.structs.replace(job, notes=tuple(dict.fromkeys((*notes, *checked.notes))))
        self._pool.add(self._lined_up(job, card, cards))
        return job

    def _lined_up(self, job: Job, card: ModelCard, cards: dict[str, ModelCard]) -> Waiting:
        with self._lock:
            self._tasks[job.id] = _Task(job, card, cards)
        self._tell(Queued(job=job.id), Change(jobs=(job.id,)))
        return _waiting(job, card)

    def _line_up(self, ready: Iterable[Ready]) -> None:
        self._pool.add_all([self._lined_up(*each) for each in ready])

    def redo(self, work_id: str) -> Job:
        """Make a work again, in the circumstances it was first made in."""
        work = self.work(work_id)
        return self.submit(anew(work.recipe), redo_of=work.id)

    def retry(self, job_id: str) -> Job:
        """Run an ended job's recipe once more, as a new job; also one of an earlier session. A lost cell of a grid
        takes its place there again."""
        job = self.job(job_id)
        recipe = anew(job.recipe) if job.state is JobState.FINISHED else job.recipe  # others go on where they were
        return self._groups.retry(job) or self.submit(recipe)

    def export(
        self, work_id: str, to: Path, *, quality: int = 90, overwrite: bool = False, metadata: bool = True
    ) -> Job:
        """Write a work to a file of the user's choice; the ending decides the format.

        Args:
            metadata: write into the file how it was made.
        """
        given = {"work": work_id, "to": str(Path(to).absolute()), "quality": quality, "overwrite": overwrite}
        return self.submit(check("export", {**given, "metadata": metadata}).recipe)

    def aside(
        self,
        kind: str,
        given: dict[str, Any],
        listener: Callable[[Event], None],
        pictures: Mapping[str, bytes] | None = None,
    ) -> str:
        """Make something only to look at it: nothing of it is kept, and it is no job of the library.

        Args:
            given: as for `recipe`. An export whose `to` is a bare ending, such as ".webp", tells the file's size.
            listener: told of its events on the pool's threads; the last is Shown, Failed or Cancelled.
            pictures: field -> encoded picture, for what is not kept either.

        Returns:
            An id for `drop`.

        Raises:
            BadRecipe, ModelMissing, ModelBroken, ModelRefused, ModelUnfit: nothing was begun.
        """
        passing: dict[str, str] = {}

        def told(event: Event) -> None:
            if isinstance(event, (Shown, Failed, Cancelled)):
                for name in passing.values():
                    self._inputs.forget(name)
            listener(event)

        try:
            for field, data in (pictures or {}).items():
                passing[field] = self._inputs.add_passing(data)
            recipe, card, cards = self._decider.decided(plain(self.recipe(kind, {**given, **passing}).recipe))
        except StudioError:
            for name in passing.values():
                self._inputs.forget(name)
            raise
        for name in passing.values():
            self._inputs.stamped(name)
        job = self._asides.begin(recipe, told)
        with self._lock:
            self._tasks[job.id] = _Task(job, card, cards)
        self._pool.add(_waiting(job, card))
        return job.id

    def drop(self, aside_id: str) -> None:
        """Stop what is made only to be looked at; one that has ended is left alone."""
        if aside_id in self._asides:
            self._pool.cancel(aside_id)

    def cancel(self, job_id: str) -> Change:
        """Stop a job. Its Cancelled event comes when it is true; an ended job stays as it is."""
        job = self.job(job_id)
        if job.state.ended:
            return Change()
        if self._pool.cancel(job.id) or self._ends.give_up(job.id):
            return Change(jobs=(job.id,))
        if job.state is JobState.QUEUED and not self._runs_elsewhere(job):
            with contextlib.suppress(BadTransition):  # left over from an earlier session
                self._jobs.end(job.id, JobState.CANCELLED)
                self._tell(Cancelled(job=job.id), Change(jobs=(job.id,)))
        return Change(jobs=(job.id,))

    def grid(
        self, recipe: ImageRecipe, x: Axis, y: Axis | None = None, z: Axis | None = None, **more: Any
    ) -> Group:  # fmt: skip
        """Line up every combination of some values as one group, which ends in a labelled sheet. See Groups.grid."""
        return self._groups.grid(recipe, x, y, z, **more)

    def group(self, group_id: str) -> Group:
        """Raises NotFound."""
        return self._groups.get(group_id)

    def groups(self, *, limit: int = 100, unfinished: bool = False) -> list[Group]:
        """Groups, newest first; `unfinished`: all that have not ended, and no others."""
        return self._groups.open() if unfinished else self._groups.recent(limit)

    def my_groups(self) -> list[str]:
        """Ids of the groups that this session sees to and that have not ended."""
        return self._groups.mine()

    def wait_group(self, group_id: str, timeout: float | None = None) -> Group:
        """Wait until a group has ended, or so many seconds have passed. Returns how it stands."""
        return self._groups.wait(group_id, timeout)

    def cancel_group(self, group_id: str) -> Change:
        """Stop a group as a whole; what is made by then is kept and gets its sheet. Raises NotFound."""
        return self._groups.cancel(group_id)

    def move(self, job_id: str, *, priority: int | None = None, before: str = "", after: str = "") -> Change:
        """Give a waiting job another priority, or put it before or after another waiting one, whose priority it takes.

        Raises:
            NotFound: there is no such job, or the other one does not wait.
        """
        job = self.job(job_id)
        places = {job.id: (priority, None)} if priority is not None else dict[str, tuple[int | None, float | None]]()
        if before or after:
            places = moved(self._pool.queue(), job.id, before or after, behind=not before)
        for each, (its_priority, position) in places.items():
            self._jobs.place(each, priority=its_priority, position=position)
            self._place(self._jobs.get(each))
        self._pool.pump()
        return self._told(Change(jobs=(job.id, *(each for each in places if each != job.id))))

    def _place(self, job: Job) -> None:
        with self._lock:
            task = self._tasks.get(job.id)
        if task is not None:
            self._pool.place(_waiting(job, task.card))

    def pause(self, lane: str = "*") -> Change:
        """Start nothing more in a lane ("*": in none); what runs goes on."""
        if self._keep_pause:
            self._jobs.pause(lane, True)
        self._pool.pause(lane)
        return self._told(Change(lanes=(lane,)))

    def unpause(self, lane: str = "*") -> Change:
        """Start what waits."""
        if self._keep_pause:
            self._jobs.pause(lane, False)
        self._pool.resume(lane)
        return self._told(Change(lanes=(lane,)))

    @property
    def paused(self) -> frozenset[str]:
        """Lanes that start nothing; "*" is all of them."""
        return self._pool.paused()

    def queue(self) -> list[str]:
        """Ids of the waiting jobs, in the order in which they will run."""
        return [w.job for w in self._pool.queue() if w.job not in self._asides]

    def jobs(self, *, limit: int = 100) -> list[Job]:
        """Jobs, newest first."""
        return self._jobs.recent(limit=limit)

    def job(self, job_id: str) -> Job:
        """Raises NotFound."""
        job = self._jobs.find(job_id)
        if job is None:
            raise NotFound(f"There is no job “{job_id[:40]}”.", "“studio jobs” lists them.")
        return job

    def jobs_of(self, job_ids: Iterable[str]) -> list[Job]:
        """Jobs by their ids, in that order; those that are not known are left out."""
        return self._jobs.many(job_ids)

    def wait(self, job_id: str, timeout: float | None = None) -> EndEvent | None:
        """Wait for a job of this session to end.

        Returns:
            None when `timeout` seconds have passed.

        Raises:
            NotFound: this session did not run such a job.
        """
        with self._ended:
            if job_id not in self._tasks and job_id not in self._known_ends:
                raise NotFound(f"Job “{job_id[:40]}” is not one of this session.")
            self._ended.wait_for(lambda: job_id in self._known_ends, timeout)
            return self._known_ends.get(job_id)

    def mine(self) -> list[str]:
        """Ids of this session's jobs that have not ended."""
        with self._lock:
            return [job_id for job_id in self._tasks if job_id not in self._asides]

    def resume_waiting(self) -> Change:
        """Run the jobs that earlier sessions left waiting."""
        waiting = [
            job
            for job in self._jobs.unfinished()
            if job.state is JobState.QUEUED and job.id not in self._tasks and not self._runs_elsewhere(job)
        ]
        if not waiting:
            self._groups.take_up()
            return Change()
        self._jobs.take((job.id for job in waiting), self._me)
        cards: dict[tuple[str, str], ModelCard] = {}  # looked up once, however many jobs want the same
        lined_up = []
        for job in waiting:
            try:
                _, card, additions = self._decider.decided(job.recipe, cards)
            except StudioError as error:
                self._ends.end(job, JobState.FAILED, problem=error.problem)
                continue
            lined_up.append(self._lined_up(job, card, additions))
        self._pool.add_all(lined_up)
        self._groups.take_up()
        return Change(jobs=tuple(w.job for w in lined_up))

    @property
    def problem(self) -> Problem | None:
        """What is in the way of saving at this moment; None where all is well. It is tried again by itself."""
        return self._ends.problem

    def held(self) -> list[str]:
        """Jobs that were made and wait until they can be saved."""
        return self._ends.held()

    def save_now(self) -> Change:
        """Try to save what is held, now; the user has made room. Returns the jobs that are still held."""
        self._ends.try_again()
        return Change(jobs=tuple(self._ends.held()))

    # -- models and settings ----------------------------------------------------------------------------------------

    def models(self) -> list[ModelCard]:
        """Every model that can be used."""
        return self._models.cards()

    def broken_models(self) -> list[tuple[Path, Problem]]:
        """Files that look like models but cannot be used, and why."""
        return self._models.broken()

    def model(self, kind: str, name_or_path: str = "") -> ModelCard:
        """The model a recipe means; empty takes the one in the settings, then the first of its kind."""
        preferred = {
            "text": self.settings.text_model,
            "image": self.settings.image_model,
            "speech": self.settings.voice,
        }
        return self._models.choose(kind, name_or_path or preferred.get(kind, ""))

    def datasets(self) -> list[Dataset]:
        """Data sets, newest first."""
        return self._datasets.all()

    def dataset(self, name: str) -> Dataset:
        """The data set of this id, or the newest of this name. Raises ModelMissing."""
        return self._datasets.choose(name)

    def dataset_folder(self, dataset_id: str) -> Path:
        """Where its rows lie: train.jsonl, valid.jsonl, test.jsonl. Raises NotFound."""
        return self._datasets.folder(dataset_id)

    def remove_dataset(self, dataset_id: str) -> Change:
        """Delete a data set for good. Raises NotFound, NotSaved."""
        self._datasets.remove(dataset_id)
        return self._told(Change(datasets=(dataset_id,)))

    def votes(self, kind: str, *models: str) -> list[Vote]:
        """The votes on works of a kind, in the order they were cast; of two models where they are named."""
        return self._votes.of(kind, *models)

    def keep_vote(self, kind: str, vote: Vote | dict[str, Any]) -> None:
        """Remember a vote. Raises BadRecipe, NotSaved."""
        self._votes.keep(kind, _vote(vote))

    def drop_vote(self, kind: str, vote: Vote | dict[str, Any]) -> None:
        """Take a vote back. Raises BadRecipe, NotSaved."""
        self._votes.drop(kind, _vote(vote))

    def add_model(self, path: Path) -> ModelCard:
        """Remember a model by its path; returns its card as `models()` lists it.

        Raises:
            ModelMissing, ModelBroken, ModelRefused, ModelUnfit.
        """
        card = self._models.add(path)
        self._tell(Change(models=(card.id,)))
        return card

    def found_in(self, path: Path) -> Taken | None:
        """How a picture of another program was made, in the studio's terms; None where its file does not say.

        Raises:
            NotRead: the file cannot be read.
        """
        from studio.app.imports import taken  # when first needed: most starts need none of it
        from studio.library import metadata

        try:
            with open(path, "rb") as stream:
                found = metadata.read(stream)
        except OSError as error:
            raise NotRead(f"“{shown(path.name)}” cannot be read: {error.strerror or error}.") from None
        return taken(found, self.models()) if found is not None else None

    def warm(self, kind: str, model: str = "") -> Change:
        """Load a model in the background, so that the first job starts at once. Whether that worked is in `lanes()`.

        Raises:
            ModelMissing, ModelBroken, ModelRefused, ModelUnfit.
        """
        card = self.model(kind, model)
        begun = self._pool.warm(
            kind, card.engine, card, plan_of(self.settings, None, kind, frozenset()), self.paths.cache
        )
        return self._told(Change(lanes=(kind,))) if begun else Change()

    def unload(self, kind: str) -> Change:
        """Give the memory of a kind's model back, unless it is at work."""
        return self._told(Change(lanes=(kind,))) if self._pool.unload(kind) else Change()

    def lanes(self) -> dict[str, Lane]:
        """Every lane that has a worker, or a problem to show, by kind of work."""
        return self._pool.lanes()

    def count_tokens(self, kind: str, model: str, text: str, timeout: float = 5.0) -> int | None:
        """How many tokens a model reads a prompt as, said by its own tokenizer. Blocks: call it in the background.

        Args:
            kind: whose lane to ask. model: id of the model that is meant, as on its card.
            timeout: seconds to wait.

        Returns:
            None where that cannot be told now: the lane is at work, the model is not loaded or has no tokenizer, the
            text is longer than any prompt may be, or the time has passed.
        """
        answered = threading.Event()
        answer: list[int | None] = []

        def tell(tokens: int | None) -> None:
            answer.append(tokens)
            answered.set()

        self._pool.count(kind, model, clean(text)[0], tell)  # as it will be in the recipe
        return answer[0] if answered.wait(timeout) else None

    def workers(self) -> list[tuple[str, str, int]]:
        """Lane, model id and process id of every worker."""
        return [(view.lane, view.model, pid) for view, pid in self._pool.workers()]

    def change_settings(self, **values: Any) -> Change:
        """Change settings and keep them. Raises BadSetting, NotSaved."""
        with self._lock:
            self.settings = changed(self.settings, **values)
            save_settings(self.paths.settings, self.settings)
            self._set_pool(self.settings)
        return self._told(Change(settings=tuple(values)))

    # -- the end ----------------------------------------------------------------------------------------------------

    def close(self, *, running: str = "cancel") -> None:
        """End the workers and close the library. Waiting jobs stay in the queue for the next session.

        Args:
            running: "cancel" stops what runs and waits for it, "requeue" puts it back in the queue.
        """
        self._pool.pause()
        at_work = list(self._pool.running())
        if running == "cancel":
            for job in at_work:
                self._pool.cancel(job)
            for job in at_work:
                if job in self._asides:
                    continue  # nobody is told of its end, and nothing of it is kept
                with contextlib.suppress(NotFound):
                    self.wait(job, self.settings.grace_seconds + 10)
        self._pool.close()
        self._ends.close()
        self._groups.close()
        at_work = [job for job in at_work if job not in self._asides]
        for job in at_work if running == "requeue" else ():
            with contextlib.suppress(BadTransition):
                self._jobs.requeue(job)
                self._files.clear(job)
        if self._backup is not None:
            self._backup.join()
        self._database.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _told_all(self, change: Change) -> Change:
        self._tell(change)
        return change

    def _runs_elsewhere(self, job: Job) -> bool:
        return job.owner != self._me and is_alive(job.owner)

    def _hand_over(self, job_id: str, busy: frozenset[str]) -> m.Run:
        with self._lock:
            task = self._tasks[job_id]
        recipe = task.job.recipe
        try:
            with self._database.transaction():  # both or neither: what cannot be staged is not running
                if job_id not in self._asides:
                    self._jobs.start(job_id)
                out_dir = self._files.fresh_staging(job_id)
                if isinstance(recipe, ExportRecipe):
                    self._write_request(recipe, out_dir)
        except OSError as error:
            raise NotSaved(
                f"The staging folder cannot be written: {error.strerror or error}.",
                "Make room on the disk; what waits goes on by itself.",
            ) from None
        if job_id not in self._asides:
            self._tell(Change(jobs=(job_id,)))
        plan = plan_of(self.settings, recipe.made_with, task.job.kind, busy)
        return m.Run(
            job=job_id,
            engine=task.card.engine,
            card=task.card,
            recipe=recipe,
            plan=msgspec.structs.replace(plan, memory=task.memory) if task.memory else plan,
            out_dir=str(out_dir),
            cache_dir=str(self.paths.cache),
            inputs_dir=str(self.paths.inputs),
            cards=task.cards,
            home=str(self.paths.home),
        )

    def _write_request(self, recipe: ExportRecipe, out_dir: Path) -> None:
        """An export engine has no database: it reads what it needs of the work from a file."""
        work = self.work(recipe.work)
        request = {
            "master": str(self.path(work)),
            "kind": work.kind,
            "title": work.title,
            "recipe": work.recipe,
            "meta": work.meta,
            "created": work.created,
        }
        (out_dir / "request.json").write_bytes(msgspec.json.encode(request))

    def _conclude(
        self, job_id: str, state: JobState, result: Result | None = None, problem: Problem | None = None
    ) -> None:  # fmt: skip
        if job_id in self._asides:
            with self._lock:
                self._tasks.pop(job_id, None)
            self._asides.end(job_id, state, result, problem)
            return
        with self._lock:
            job = self._tasks[job_id].job
        self._ends.end(job, state, result, problem)

    def _failed(self, job_id: str, problem: Problem) -> None:
        died = problem.code in ("worker_died", "device_lost", "out_of_memory") and job_id not in self._asides
        if died and self.job(job_id).attempts >= ATTEMPTS:
            problem = set_aside(problem)
        self._conclude(job_id, JobState.FAILED, problem=problem)

    def _died(self, job_id: str, problem: Problem) -> bool:
        """A worker went away under a job: once may be chance, twice is set aside."""
        with self._lock:
            task = self._tasks.get(job_id)
        if task is None or job_id in self._asides:
            return False
        try:
            if self._jobs.get(job_id).attempts >= ATTEMPTS:
                return False
            self._jobs.requeue(job_id, problem.sentence)
        except (NotSaved, BadTransition, KeyError):
            return False
        note = f"It was made in a second try. {problem.sentence}"
        task.job = msgspec.structs.replace(task.job, notes=(*task.job.notes, note))
        if problem.code == "out_of_memory":
            # the thriftiest way that every computer has
            task.memory = MEMORY_MODES[max(MEMORY_MODES.index("tiled"), MEMORY_MODES.index(task.memory or "full"))]
        return True

    def _ended_as(self, event: EndEvent | Held) -> None:
        if isinstance(event, Held):
            self._tell(event, Change(jobs=(event.job,), lanes=("*",)))
            return
        self._end(event, tuple(w.id for w in event.works))

    def _all_well(self) -> None:
        self._tell(Change(lanes=("*",)))
        self._pool.go_on()

    def _stalled(self, problem: Problem) -> None:
        self._ends.stall(problem)
        self._tell(Change(lanes=("*",)))

    def _end(self, event: EndEvent, works: tuple[str, ...] = ()) -> None:
        with self._lock:
            task = self._tasks.get(event.job)
        # its lane, too: it is free now, and may hold another model than before
        lanes = (task.job.kind,) if task is not None else ()
        self._tell(event, Change(jobs=(event.job,), works=works, lanes=lanes))
        # Listeners first: who waits for the end has seen all that came before it.
        with self._ended:
            self._tasks.pop(event.job, None)
            self._known_ends[event.job] = event
            while len(self._known_ends) > 1000:
                del self._known_ends[next(iter(self._known_ends))]
            self._ended.notify_all()
        self._groups.ended(event)


def restore_library(paths: Paths) -> str:
    """Bring back a library whose database is damaged or lost; the damaged file is kept aside.

    Returns:
        What was brought back, in a sentence.

    Raises:
        NotSaved: the disk is full or refuses; nothing is lost, and it can be called again.
    """
    return restore.restore(paths).sentence


def _waiting(job: Job, card: ModelCard) -> Waiting:
    """A job as the pool lines it up."""
    takes = estimate(card, job.recipe)
    return Waiting(
        job.id, job.kind, card.id, priority=job.priority, position=job.position, seq=job.seq,
        weights=takes.weights, work=takes.peak - takes.weights,
    )  # fmt: skip


class _Journal:
    """What the pool tells, written down by the session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def hand_over(self, job: str, busy: frozenset[str]) -> m.Run:
        return self._session._hand_over(job, busy)

    def happened(self, event: Event) -> None:
        if self._session._asides.happened(event):
            return
        self._session._tell(event)
        if isinstance(event, Again):  # it waits again
            self._session._tell(Change(jobs=(event.job,)))

    def died(self, job: str, problem: Problem) -> bool:
        return self._session._died(job, problem)

    def done(self, job: str, result: Result) -> None:
        self._session._conclude(job, JobState.FINISHED, result)

    def failed(self, job: str, problem: Problem) -> None:
        self._session._failed(job, problem)

    def cancelled(self, job: str, result: Result | None) -> None:
        self._session._conclude(job, JobState.CANCELLED, result)

    def lane_changed(self, lane: str) -> None:
        self._session._tell(Change(lanes=(lane,)))

    def stalled(self, problem: Problem) -> None:
        self._session._stalled(problem)


def _vote(given: Vote | dict[str, Any]) -> Vote:
    try:
        return msgspec.convert(msgspec.to_builtins(given), Vote)
    except msgspec.ValidationError as error:
        raise BadRecipe("That is no vote.", detail=str(error)) from error
