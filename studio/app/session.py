"""One studio at work: its queue, its library, its models, its settings.

Thread-safe: any thread may call. Subscribers are called on the pool's threads and should hand over quickly.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from studio.app import fit
from studio.app.machine import is_alive, physical_cores, this_process
from studio.app.models import Models
from studio.app.settings import load_settings, save_settings
from studio.core.cards import ModelCard
from studio.core.conversations import Conversation
from studio.core.events import Cancelled, EndEvent, Event, Failed, Finished, Queued
from studio.core.files import sha256_of
from studio.core.jobs import Job, JobState
from studio.core.lanes import Lane
from studio.core.paths import Paths
from studio.core.plans import Plan
from studio.core.problems import Interrupted, NotFound, NotRead, NotSaved, Problem, StudioError
from studio.core.recipes import Checked, ExportRecipe, MadeWith, Recipe, check, kind_of, model_of, recheck
from studio.core.settings import changed
from studio.core.text import clean, shown
from studio.core.works import Change, Result, Work
from studio.library import carried, exports
from studio.library.conversations import Conversations
from studio.library.database import Database
from studio.library.exports import check_target
from studio.library.files import Files
from studio.library.jobs import BadTransition, Jobs, new_id, now
from studio.library.works import Works
from studio.runtime import messages as m
from studio.runtime.pool import MakeLink, Pool
from studio.runtime.schedule import Waiting, share_of_threads

Listener = Callable[[Event | Change], None]

# A recipe kind is a lane: kinds do not wait for one another.
_EXPORT_CARD = ModelCard(id="files", name="Files", kind="export", engine="export.files", path="", format="", sha256="-")


class _Task(msgspec.Struct):
    """A job this session will run, with what hand-over needs."""

    job: Job
    card: ModelCard


class Session:
    """Everything that can be asked of the studio.

    Args:
        paths: where this studio keeps its things.
        resume: also run jobs that an earlier session left waiting.
        make_link: starts workers; replaced in tests.

    Raises:
        NotSaved: the data folder cannot be written.
        LibraryBroken: the database cannot be used.
    """

    def __init__(self, paths: Paths, *, resume: bool = False, make_link: MakeLink | None = None) -> None:
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
        self._ends: dict[str, EndEvent] = {}
        self._ended = threading.Condition(self._lock)
        self.settings, self.settings_note = load_settings(paths.settings)
        self._database = Database(paths.database)
        self._jobs = Jobs(self._database)
        self._works = Works(self._database)
        self._conversations = Conversations(self._database)
        self._files = Files(paths)
        self._models = Models(paths, self._database)
        self._pool = Pool(
            _Journal(self),
            paths.logs / "workers.log",
            grace_seconds=self.settings.grace_seconds,
            make_link=make_link,
        )
        self.interrupted: tuple[str, ...] = ()  # jobs that an earlier session left at work and this one marked
        self._recover()
        if resume:
            self.resume_waiting()

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
        first = check(kind, {name: value for name, value in given.items() if value is not None})
        if kind == "export":
            return first
        card = self.model(kind, model_of(first.recipe))
        whole = check(kind, fit.with_defaults(card, given))
        return Checked(fit.fitted(whole.recipe, card), whole.notes)

    def submit(self, recipe: Recipe, *, priority: int = 0, redo_of: str = "", notes: tuple[str, ...] = ()) -> Job:
        """Put a job in the queue. It is on disk when this returns.

        Raises:
            BadRecipe, ModelMissing, ModelBroken, ModelRefused, ModelUnfit: nothing was queued.
            NotSaved: the queue could not be written.
        """
        checked = recheck(recipe)
        recipe, card = self._fitted(checked.recipe)
        job = self._jobs.add(recipe, owner=self._me, priority=priority, redo_of=redo_of)
        job = msgspec.structs.replace(job, notes=tuple(dict.fromkeys((*notes, *checked.notes))))
        self._enqueue(job, card)
        return job

    def _fitted(self, recipe: Recipe) -> tuple[Recipe, ModelCard]:
        if isinstance(recipe, ExportRecipe):
            work = self.work(recipe.work)
            to = str(Path(recipe.to).absolute())  # the worker lives in another folder
            check_target(work.kind, to, recipe.overwrite, self.path(work))
            return msgspec.structs.replace(recipe, work=work.id, to=to), _EXPORT_CARD
        card = self.model(kind_of(recipe), model_of(recipe))
        return fit.fitted(recipe, card), card

    def _enqueue(self, job: Job, card: ModelCard) -> None:
        with self._lock:
            self._tasks[job.id] = _Task(job, card)
        self._tell(Queued(job=job.id), Change(jobs=(job.id,)))
        self._pool.add(
            Waiting(job.id, job.kind, card.id, priority=job.priority, position=job.position, seq=job.seq)
        )  # fmt: skip

    def redo(self, work_id: str) -> Job:
        """Make a work again, in the circumstances it was first made in."""
        work = self.work(work_id)
        return self.submit(work.recipe, redo_of=work.id)

    def retry(self, job_id: str) -> Job:
        """Run an ended job's recipe once more, as a new job; also one of an earlier session."""
        return self.submit(self.job(job_id).recipe)

    def export(self, work_id: str, to: Path, *, quality: int = 90, overwrite: bool = False) -> Job:
        """Write a work to a file of the user's choice; the ending decides the format."""
        recipe = check(
            "export", {"work": work_id, "to": str(Path(to).absolute()), "quality": quality, "overwrite": overwrite}
        ).recipe
        return self.submit(recipe)

    def cancel(self, job_id: str) -> Change:
        """Stop a job. Its Cancelled event comes when it is true; an ended job stays as it is."""
        job = self.job(job_id)
        if job.state.ended:
            return Change()
        if not self._pool.cancel(job.id) and job.state is JobState.QUEUED and not self._runs_elsewhere(job):
            with contextlib.suppress(BadTransition):  # left over from an earlier session
                self._jobs.end(job.id, JobState.CANCELLED)
                self._tell(Cancelled(job=job.id), Change(jobs=(job.id,)))
        return Change(jobs=(job.id,))

    def move(self, job_id: str, *, priority: int | None = None, before: str = "", after: str = "") -> Change:
        """Give a waiting job another priority, or put it before or after another waiting one, whose priority it takes.

        Raises:
            NotFound: there is no such job, or the other one does not wait.
        """
        job = self.job(job_id)
        moved = {job.id: (priority, None)} if priority is not None else dict[str, tuple[int | None, float | None]]()
        if before or after:
            moved = self._moved(job.id, before or after, behind=not before)
        for each, (its_priority, position) in moved.items():
            self._jobs.place(each, priority=its_priority, position=position)
            self._place(self._jobs.get(each))
        self._pool.pump()
        return self._told(Change(jobs=(job.id, *(each for each in moved if each != job.id))))

    def _moved(self, job_id: str, other: str, *, behind: bool) -> dict[str, tuple[int | None, float | None]]:
        """Job id -> priority and position: of the moved job, and of its neighbours where there is no room for it."""
        queue = [w for w in self._pool.queue() if w.job != job_id]
        near = next((w for w in queue if w.job == other), None)
        if near is None:
            raise NotFound(f"Job {other[:40]} does not wait.")
        equals = [w for w in queue if w.priority == near.priority]  # positions count among these only
        at = equals.index(near) + behind
        low = equals[at - 1].position if at > 0 else None
        high = equals[at].position if at < len(equals) else None
        if low is None or high is None:
            position = (low + 1) if low is not None else near.position - 1
        else:
            position = (low + high) / 2
            if not low < position < high:  # moved so often that the numbers between them are used up
                order = [w.job for w in equals]
                order.insert(at, job_id)
                first = equals[0].position
                return {job: (near.priority, first + place) for place, job in enumerate(order)}
        return {job_id: (near.priority, position)}

    def _place(self, job: Job) -> None:
        with self._lock:
            task = self._tasks.get(job.id)
        if task is not None:
            self._pool.place(
                Waiting(job.id, job.kind, task.card.id, priority=job.priority, position=job.position, seq=job.seq)
            )  # fmt: skip

    def pause(self, lane: str = "*") -> Change:
        """Start nothing more in a lane ("*": in none); what runs goes on."""
        self._pool.pause(lane)
        return self._told(Change(lanes=(lane,)))

    def unpause(self, lane: str = "*") -> Change:
        """Start what waits."""
        self._pool.resume(lane)
        return self._told(Change(lanes=(lane,)))

    @property
    def paused(self) -> frozenset[str]:
        """Lanes that start nothing; "*" is all of them."""
        return self._pool.paused()

    def queue(self) -> list[str]:
        """Ids of the waiting jobs, in the order in which they will run."""
        return [w.job for w in self._pool.queue()]

    def jobs(self, *, limit: int = 100) -> list[Job]:
        """Jobs, newest first."""
        return self._jobs.recent(limit=limit)

    def job(self, job_id: str) -> Job:
        """Raises NotFound."""
        job = self._jobs.find(job_id)
        if job is None:
            raise NotFound(f"There is no job “{job_id[:40]}”.", "“studio jobs” lists them.")
        return job

    def wait(self, job_id: str, timeout: float | None = None) -> EndEvent | None:
        """Wait for a job of this session to end.

        Returns:
            None when `timeout` seconds have passed.

        Raises:
            NotFound: this session did not run such a job.
        """
        with self._ended:
            if job_id not in self._tasks and job_id not in self._ends:
                raise NotFound(f"Job “{job_id[:40]}” is not one of this session.")
            self._ended.wait_for(lambda: job_id in self._ends, timeout)
            return self._ends.get(job_id)

    def mine(self) -> list[str]:
        """Ids of this session's jobs that have not ended."""
        with self._lock:
            return list(self._tasks)

    def resume_waiting(self) -> Change:
        """Run the jobs that earlier sessions left waiting."""
        taken = []
        for job in self._jobs.unfinished():
            if job.state is not JobState.QUEUED or job.id in self._tasks or self._runs_elsewhere(job):
                continue
            self._jobs.take(job.id, self._me)
            try:
                _, card = self._fitted(job.recipe)
            except StudioError as error:
                self._fail(job.id, error.problem)
                continue
            self._enqueue(job, card)
            taken.append(job.id)
        return Change(jobs=tuple(taken))

    # -- works ------------------------------------------------------------------------------------------------------

    def works(
        self, *, limit: int = 100, kind: str = "", before: str = "", search: str = "", starred: bool = False
    ) -> list[Work]:
        """Works, newest first.

        Args:
            kind: only works of this kind. before: id of the last one of the page before.
            search: words, separated by white space, that must all occur in the title, the recipe's words or the id;
                capitals do not matter, parts of words count, and no character is special.
            starred: only works with a star.
        """
        return self._works.recent(limit=limit, kind=kind, before=before, search=search, starred=starred)

    def count_works(self, kind: str = "") -> int:
        """How many works there are, of one kind or of all."""
        return self._works.count(kind)

    def works_of(self, job_id: str) -> list[Work]:
        """A job's works, in order; none for a job that is not known."""
        return self._works.of_job(job_id)

    def star(self, work_id: str, on: bool) -> Change:
        """Mark a work, or take the mark away. A star lives in the database only and not in the sidecar.

        Raises:
            NotFound, NotSaved.
        """
        work = self.work(work_id)
        self._works.star(work.id, on)
        return self._told(Change(works=(work.id,)))

    def remove(self, *work_ids: str) -> Change:
        """Put works into the bin: they are listed no more, and their files stay until the bin is emptied.

        Raises:
            NotFound, NotSaved.
        """
        ids = tuple(self.work(work_id).id for work_id in work_ids)
        self._works.set_removed(ids, now())
        return self._told(Change(works=ids))

    def restore(self, *work_ids: str) -> Change:
        """Take works out of the bin, to where they were. Raises NotFound, NotSaved."""
        ids = tuple(self.work(work_id).id for work_id in work_ids)
        self._works.set_removed(ids, "")
        return self._told(Change(works=ids))

    def bin(self) -> list[Work]:
        """Works in the bin, the newest first. A library rebuilt from sidecars knows of no bin and has them again."""
        return self._works.recent(limit=1_000_000, removed=True)

    def empty_bin(self) -> Change:
        """Delete what is in the bin, for good. Files first: what is cut off on the way is still in the bin.

        Raises:
            NotSaved: a file could not be deleted; it and what comes after it stay in the bin.
        """
        gone: list[str] = []
        try:
            for work in self.bin():
                self._files.delete(work)
                gone.append(work.id)
        except OSError as error:
            raise NotSaved(f"A file in the bin could not be deleted: {error.strerror or error}.") from None
        finally:
            self._works.forget(gone)
        return self._told(Change(works=tuple(gone)))

    def work(self, work_id: str) -> Work:
        """A work by its id or the beginning of it. Raises NotFound."""
        work = self._works.find(work_id)
        if work is None and len(work_id) >= 4:
            near = self._works.like(work_id)
            if len(near) == 1:
                work = self._works.find(near[0])
        if work is None:
            raise NotFound(f"There is no work “{work_id[:40]}”.", "“studio works” lists them.")
        return work

    def path(self, work: Work) -> Path:
        """The absolute path of a work's master."""
        return self._files.path(work.master.path)

    def files(self, work: Work) -> list[Path]:
        """The absolute paths of all its files, the master first."""
        assets = sorted(work.assets, key=lambda a: a.role != "master")
        return [*(self._files.path(a.path) for a in assets), self._files.sidecar_path(work)]

    def formats(self, kind: str) -> tuple[tuple[str, str], ...]:
        """What a kind of work can be exported to: extension and title, in menu order; empty for an unknown kind."""
        return exports.menu(kind)

    def uses_quality(self, extension: str) -> bool:
        """Whether a format, for example ".jpg", has a quality to choose."""
        return exports.uses_quality(extension)

    def recipe_in(self, path: Path) -> Recipe | None:
        """The recipe a file was made from, or that it holds; its model need not be there.

        Looks for a file of the library with the same content, a recipe in a picture's text, and JSON: a sidecar, a
        bare recipe, or an object with one under “recipe”. Nothing in the file is trusted: a recipe is held to its
        declarations, and one for an export is passed over, because it names a file to write.

        Returns:
            None where there is no recipe, or a damaged one. A file of more than 64 MiB is only compared with the
            library's.

        Raises:
            NotRead: the file is not there, is no file, or cannot be read.
        """
        name = shown(Path(path).name or str(path))
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):  # opening a pipe might wait for ever
                raise NotRead(f"“{name}” is not a file.", "Choose a picture, a text, a sound or a recipe.")
            work = self._works.with_asset(status.st_size, lambda: sha256_of(path)) if status.st_size else None
            if work is not None:
                return work.recipe
            if status.st_size > carried.FILE_LIMIT:
                return None
            with open(path, "rb") as stream:
                return carried.recipe_in(stream)
        except FileNotFoundError:
            raise NotRead(f"There is no file “{name}”.", "Was it moved or deleted?") from None
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise NotRead(f"“{name}” cannot be read: {reason or error}.") from None

    def rebuild(self) -> Change:
        """Add every work whose sidecar is there and whose row is not. Stars are not in sidecars and are lost."""
        works = tuple(self._files.sidecars())
        known = {w.id for w in works if self._works.find(w.id)}
        new = tuple(w for w in works if w.id not in known)
        self._works.add(new)
        return self._told(Change(works=tuple(w.id for w in new)))

    # -- conversations ----------------------------------------------------------------------------------------------

    def conversations(self, *, limit: int = 200) -> list[Conversation]:
        """Conversations, the one that was changed last first."""
        return self._conversations.recent(limit=limit)

    def conversation(self, conversation_id: str) -> Conversation:
        """Raises NotFound."""
        found = self._conversations.find(conversation_id)
        if found is None:
            raise NotFound(f"There is no conversation “{shown(conversation_id, 40)}”.")
        return found

    def new_conversation(self, system: str = "") -> Conversation:
        """A conversation that is not written until it is kept."""
        return Conversation(id=new_id("c"), title="", created=now(), changed=now(), system=system)

    def keep_conversation(self, conversation: Conversation) -> Change:
        """Write a conversation, new or changed, and make it the newest. Raises NotSaved.

        What is written is cleaned: broken characters are replaced, the title is one line, an empty title is made of
        the first prompt, and `changed` is now.
        """
        self._conversations.keep(conversation)
        return self._told(Change(conversations=(conversation.id,)))

    def remove_conversation(self, conversation_id: str) -> Change:
        """Forget a conversation; its works stay. One that was never kept changes nothing."""
        if not self._conversations.remove(conversation_id):
            return Change()
        return self._told(Change(conversations=(conversation_id,)))

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

    def add_model(self, path: Path) -> ModelCard:
        """Remember a model by its path; returns its card as `models()` lists it.

        Raises:
            ModelMissing, ModelBroken, ModelRefused, ModelUnfit.
        """
        card = self._models.add(path)
        self._tell(Change(models=(card.id,)))
        return card

    def warm(self, kind: str, model: str = "") -> Change:
        """Load a model in the background, so that the first job starts at once. Whether that worked is in `lanes()`.

        Raises:
            ModelMissing, ModelBroken, ModelRefused, ModelUnfit.
        """
        card = self.model(kind, model)
        begun = self._pool.warm(kind, card.engine, card, self._plan(None, kind, frozenset()), self.paths.cache)
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
            self._pool.grace_seconds = self.settings.grace_seconds
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
                with contextlib.suppress(NotFound):
                    self.wait(job, self.settings.grace_seconds + 10)
        self._pool.close()
        for job in at_work if running == "requeue" else ():
            with contextlib.suppress(BadTransition):
                self._jobs.requeue(job)
                self._files.clear(job)
        self._database.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _told(self, change: Change) -> Change:
        self._tell(change)
        return change

    def _runs_elsewhere(self, job: Job) -> bool:
        return job.owner != self._me and is_alive(job.owner)

    def _plan(self, made_with: MadeWith | None, lane: str, busy: frozenset[str]) -> Plan:
        cores = self.settings.threads or physical_cores()
        plan = Plan(
            device=self.settings.device,
            threads=share_of_threads(cores, lane, busy),
            n_ctx=0,
            preview_every=self.settings.preview_every,
        )
        if made_with is None:
            return plan
        # Made again in the circumstances of the first time; where they are gone the worker says what differs.
        return msgspec.structs.replace(
            plan,
            device=made_with.device or plan.device,
            dtype=made_with.dtype or plan.dtype,
            threads=made_with.threads or plan.threads,
            n_batch=made_with.n_batch or plan.n_batch,
            n_ctx=made_with.n_ctx,
            again=True,
        )

    def _hand_over(self, job_id: str, busy: frozenset[str]) -> m.Run:
        with self._lock:
            task = self._tasks[job_id]
        recipe = task.job.recipe
        try:
            out_dir = self._files.staging(job_id)
            if isinstance(recipe, ExportRecipe):
                self._write_request(recipe, out_dir)
        except OSError as error:
            raise NotSaved(f"The staging folder cannot be written: {error.strerror or error}.") from None
        self._jobs.start(job_id)
        self._tell(Change(jobs=(job_id,)))
        return m.Run(
            job=job_id,
            engine=task.card.engine,
            card=task.card,
            recipe=recipe,
            plan=self._plan(recipe.made_with, task.job.kind, busy),
            out_dir=str(out_dir),
            cache_dir=str(self.paths.cache),
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

    def _finish(self, job_id: str, result: Result, *, cancelled: bool = False) -> None:
        """Keep what a job made, then say that it ended. Whatever goes wrong, it ends."""
        with self._lock:
            task = self._tasks[job_id]
        state = JobState.CANCELLED if cancelled else JobState.FINISHED
        try:
            works, files = self._keep(task.job, result, state)
        except (OSError, NotSaved) as error:
            reason = error.problem.sentence if isinstance(error, NotSaved) else (error.strerror or str(error))
            problem = NotSaved(
                f"It was made but could not be kept: {reason.rstrip('.')}.",
                "Make room on the disk; the studio keeps it at its next start.",
                detail=traceback.format_exc(),
            ).problem
            self._fail(job_id, problem, keep_staging=True)
            return
        ids = tuple(w.id for w in works)
        if cancelled:
            self._end(Cancelled(job=job_id, works=works), ids)
        else:
            notes = tuple(dict.fromkeys((*task.job.notes, *result.notes)))
            self._end(Finished(job=job_id, works=works, files=files, notes=notes), ids)

    def _keep(self, job: Job, result: Result, state: JobState) -> tuple[tuple[Work, ...], tuple[str, ...]]:
        notes = tuple(dict.fromkeys((*job.notes, *result.notes)))
        if isinstance(job.recipe, ExportRecipe):
            self._jobs.end(job.id, state, notes=notes)
            self._files.clear(job.id)
            return (), tuple(a.name for a in result.artifacts)
        commit = self._files.plan(job, result, complete=state is JobState.FINISHED)
        self._files.promise(commit)
        self._files.settle(commit)
        with self._database.transaction():
            self._works.add(commit.works)
            self._jobs.end(job.id, state, notes=notes)
        self._files.clear(job.id)
        return commit.works, ()

    def _fail(self, job_id: str, problem: Problem, *, keep_staging: bool = False) -> None:
        with contextlib.suppress(NotSaved):  # a full disk: the event below still tells; the next start marks it
            self._jobs.end(job_id, JobState.FAILED, problem=problem)
        if not keep_staging:
            self._files.clear(job_id)
        self._end(Failed(job=job_id, problem=problem))

    def _cancelled(self, job_id: str, result: Result | None) -> None:
        if result is not None and result.artifacts:
            self._finish(job_id, result, cancelled=True)
            return
        self._jobs.end(job_id, JobState.CANCELLED)
        self._files.clear(job_id)
        self._end(Cancelled(job=job_id))

    def _end(self, event: EndEvent, works: tuple[str, ...] = ()) -> None:
        with self._lock:
            task = self._tasks.get(event.job)
        # its lane, too: it is free now, and may hold another model than before
        lanes = (task.job.kind,) if task is not None else ()
        self._tell(event, Change(jobs=(event.job,), works=works, lanes=lanes))
        # Listeners first: who waits for the end has seen all that came before it.
        with self._ended:
            self._tasks.pop(event.job, None)
            self._ends[event.job] = event
            while len(self._ends) > 1000:
                del self._ends[next(iter(self._ends))]
            self._ended.notify_all()

    def _recover(self) -> None:
        """After a crash: keep what was promised, mark what was interrupted, remove what is left over."""
        for job in self._jobs.unfinished():
            if job.state is JobState.RUNNING and not self._runs_elsewhere(job):
                with contextlib.suppress(BadTransition):  # another process recovers it at this moment
                    self._recover_job(job)
        for job_id in self._files.staged():
            left = self._jobs.find(job_id)
            if left is None or not left.state.ended:
                continue  # of another database, or at work
            commit = self._files.pending(job_id)
            with contextlib.suppress(OSError):  # still no room: it waits for the next start
                if commit is not None:
                    self._files.settle(commit)
                    self._works.add(commit.works)
                self._files.clear(job_id)

    def _recover_job(self, job: Job) -> None:
        commit = self._files.pending(job.id)
        if commit is None:
            problem = Interrupted(
                "The studio was ended while this was being made.",
                "Run it again; on the command line: “studio jobs --retry ID”.",
            ).problem
            self.interrupted += (job.id,)
            self._jobs.end(job.id, JobState.FAILED, problem=problem)
            self._files.clear(job.id)
            return
        self._files.settle(commit)
        with self._database.transaction():
            self._works.add(commit.works)
            self._jobs.end(job.id, JobState.FINISHED if commit.complete else JobState.CANCELLED)
        self._files.clear(job.id)


class _Journal:
    """What the pool tells, written down by the session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def hand_over(self, job: str, busy: frozenset[str]) -> m.Run:
        return self._session._hand_over(job, busy)

    def happened(self, event: Event) -> None:
        self._session._tell(event)

    def done(self, job: str, result: Result) -> None:
        self._session._finish(job, result)

    def failed(self, job: str, problem: Problem) -> None:
        self._session._fail(job, problem)

    def cancelled(self, job: str, result: Result | None) -> None:
        self._session._cancelled(job, result)

    def lane_changed(self, lane: str) -> None:
        self._session._tell(Change(lanes=(lane,)))
