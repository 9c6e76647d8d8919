"""What every part of the window is given: the session once it is open, what is known of jobs and models, and a way to
ask for things. Parts listen to its signals and never call one another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from PySide6.QtCore import QObject, Qt, QTimer, Signal

from studio.core.cards import ModelCard
from studio.core.events import Event, Failed, Finished, Queued
from studio.core.jobs import Job
from studio.core.learning import Dataset
from studio.core.problems import Problem
from studio.core.recipes import MODEL_FIELD, kind_of, work_kind
from studio.core.works import Change, Work
from studio.ui.bridge import Bridge
from studio.ui.state import Keeper, WindowState
from studio.ui.strings import one_or_many, tr
from studio.ui.tasks import Tasks, as_problem
from studio.ui.track import Track

if TYPE_CHECKING:  # imported after the first paint, on another thread
    from studio.app.session import Session
    from studio.core.settings import Settings


AT_ONCE = 50  # jobs that are taken up in one turn of the window's loop


class Desk(QObject):
    """The shared middle of the window.

    Signals:
        opened: the session is there. refused: it cannot be opened, see `closed_because`.
        happened(Event), change(Change): as the session tells them, on the main thread.
        models_changed: `models` was read anew. datasets_changed: `datasets` was.
        settings_changed: `settings` was read anew.
        told(str, str, object): a sentence for the user, a hint, and an optional pair (word on a button, function).
        failed(Problem): something asked for here could not be done.
        sent(str, str): a text for the tab of a kind, to become its prompt.
        wanted(str, str): the tab of a kind is to be opened, in a mode.
        use_model(str, ModelCard): a model is to be chosen in the tab of a kind.
        reuse(Work, str): a work's recipe for the tab of its kind; "all", "prompt", "settings" or "seed" of it.
    """

    opened = Signal()
    refused = Signal()
    happened = Signal(object)
    change = Signal(object)
    models_changed = Signal()
    datasets_changed = Signal()
    settings_changed = Signal()
    told = Signal(str, str, object)
    failed = Signal(object)
    sent = Signal(str, str)
    reuse = Signal(object, str)
    use_model = Signal(str, object)
    wanted = Signal(str, str)

    def __init__(self, parent: QObject | None, keeper_path: Path, state: WindowState) -> None:
        super().__init__(parent)
        self.bridge = Bridge(self)
        self.tasks = Tasks(self.bridge)
        self.track = Track(self)
        self.keeper = Keeper(self, keeper_path, state)
        self.state = state
        self.session: Session | None = None
        self.settings: Settings | None = None
        self.models: list[ModelCard] = []
        self.broken: list[tuple[Path, Problem]] = []
        self.models_known = False
        self.datasets: list[Dataset] = []  # newest first
        self.datasets_known = False
        self.closed_because = ""  # why there is no library
        self.opener: Callable[[], Session] | None = None  # how it is opened, and mended where it is damaged
        self.restorer: Callable[[], str] | None = None
        self._unread: dict[str, bool] = {}  # jobs to be read, and whether that is for the first time
        self._reading_jobs = self._reading_queue = self._queue_changed = False
        self._trouble = ""  # what is in the way of saving, as it was told last
        self._stop: Callable[[], None] | None = None
        self.bridge.happened.connect(self._happened)
        self.bridge.change.connect(self._changed)
        self.track.late.connect(self.happened, Qt.ConnectionType.QueuedConnection)

    # -- the session ------------------------------------------------------------------------------------------------

    def open(self, session: Session) -> None:
        """Start to work with a session. Waiting jobs of earlier days are taken up."""
        self.session, self.settings = session, session.settings
        self._stop = session.subscribe(self.bridge.post)
        self.keeper.start(self.tasks)
        self.opened.emit()
        self.settings_changed.emit()
        self.read_models()
        self.read_datasets()

        def resume() -> list[Job]:
            if session.read_only:
                return []
            taken = (*session.interrupted, *session.resume_waiting().jobs)
            return session.jobs_of(taken)

        self.tasks.write(self, resume, self._resumed, self.failed.emit)

    def _resumed(self, jobs: list[Job]) -> None:
        self._put(jobs)
        self._read_queue()
        session = self.session
        said = [s for s in ((session.read_only, session.note) if session is not None else ()) if s]
        cut = [job.id for job in jobs if job.problem is not None and job.problem.code in ("interrupted", "set_aside")]
        if cut:
            said.append(
                one_or_many(
                    len(cut),
                    "A job was interrupted when the studio ended.",
                    "{n} jobs were interrupted when the studio ended.",
                )
            )
            if any(job.works for job in jobs if job.id in cut):
                said.append(tr("What was there of them has been kept."))
        if said:
            self.told.emit(" ".join(said), "", (tr("Run again"), lambda: self._rerun(cut)) if cut else None)

    def _rerun(self, jobs: list[str]) -> None:
        for job in jobs:
            self.retry(job)

    def not_opened(self, problem: Problem) -> None:
        """The library cannot be opened: said once, and everything that waits for it says so too."""
        self.closed_because = problem.sentence
        if problem.code == "library_broken" and self.restorer is not None:
            self.told.emit(problem.sentence, problem.hint, (tr("Restore it"), self.restore))
        else:
            self.failed.emit(problem)
        self.track.touch()
        self.refused.emit()

    def restore(self) -> None:
        """Bring a damaged library back from its backups and sidecars, then open it. The damaged file is kept."""
        opener, restorer = self.opener, self.restorer
        if opener is None or restorer is None:
            return
        self.closed_because = tr("The library is being restored …")
        self.track.touch()

        def mend() -> tuple[str, Session]:
            return restorer(), opener()

        def mended(done: tuple[str, Session]) -> None:
            sentence, session = done
            session.note = sentence
            self.closed_because = ""
            self.open(session)

        self.tasks.write(self, mend, mended, self.not_opened)

    def _look_for_trouble(self) -> None:
        """Say once that something cannot be saved, and what can be done; say when it is over."""
        session = self.session
        problem = session.problem if session is not None else None
        sentence = problem.sentence if problem is not None else ""
        if session is None or sentence == self._trouble:
            return
        before, self._trouble = self._trouble, sentence
        if problem is not None:
            try_now = (tr("Try now"), lambda: self.tasks.write(self, session.save_now, None, self.failed.emit))
            self.told.emit(sentence, problem.hint, try_now)
        elif before:
            self.told.emit(tr("Everything is saved again."), "", None)

    def close(self, running: str) -> None:
        """End it all; blocks until the session has closed. `running` as in Session.close."""
        if self._stop is not None:
            self._stop()
        self.tasks.close()
        self.keeper.write()
        if self.session is not None:
            self.session.close(running=running)
            self.session = None

    # -- what is told -----------------------------------------------------------------------------------------------

    def _happened(self, event: Event) -> None:
        known = event.job in self.track.jobs
        self.track.take(event)
        job = self.track.jobs.get(event.job)
        if job is None or job.early is None:
            self.happened.emit(event)
        if job is not None and isinstance(event, Finished) and work_kind(job.kind) in ("dataset", "training"):
            self.read_datasets()
            self.read_models()  # what was trained is one of them now
        if isinstance(event, Queued) or (isinstance(event, Failed) and not known):  # or could not even be lined up
            self._read_job(event.job, fresh=True)

    def _changed(self, change: Change) -> None:
        if change.jobs:
            self._read_queue()
            for job_id in change.jobs:
                if job_id in self.track.jobs:
                    self._read_job(job_id)
        if change.lanes:
            self._look_for_trouble()
        if change.models:
            self.read_models()
        if change.datasets:
            self.read_datasets()
        if change.settings and self.session is not None:
            self.settings = self.session.settings
            self.settings_changed.emit()
        self.change.emit(change)

    def _read_job(self, job_id: str, *, fresh: bool = False) -> None:
        """Look a job up; what is asked for while one look is under way is looked up together in the next."""
        self._unread[job_id] = self._unread.get(job_id, False) or fresh
        session = self.session
        if session is None or self._reading_jobs:
            return
        wanted, self._unread = self._unread, {}
        self._reading_jobs = True

        def look() -> list[Job]:
            return session.jobs_of(wanted)

        def found(jobs: list[Job]) -> None:
            self._reading_jobs = False
            # one that was put away meanwhile does not come back
            self._put([job for job in jobs if wanted[job.id] or job.id in self.track.jobs])
            if self._unread:
                self._read_job(next(iter(self._unread)))

        def failed(problem: Problem) -> None:
            self._reading_jobs = False
            self.failed.emit(problem)

        self.tasks.read(self, look, found, failed)

    def _put(self, jobs: list[Job]) -> None:
        """Take jobs up, so many at a time that the window goes on: a queue may have thousands."""
        for job in jobs[:AT_ONCE]:
            self.track.put(job)
        if jobs[AT_ONCE:]:
            QTimer.singleShot(0, self, lambda: self._put(jobs[AT_ONCE:]))

    def _read_queue(self) -> None:
        if self.session is None:
            return
        self._queue_changed = True
        if not self._reading_queue:
            self._reading_queue, self._queue_changed = True, False
            self.tasks.read(self, self.session.queue, self._queue_read, self._queue_unread)

    def _queue_read(self, order: list[str]) -> None:
        self._reading_queue = False
        self.track.set_order(order)
        if self._queue_changed:
            self._read_queue()

    def _queue_unread(self, problem: Problem) -> None:
        self._reading_queue = False
        self.failed.emit(problem)

    def read_models(self) -> None:
        """Look which models are there."""
        session = self.session
        if session is not None:
            self.tasks.read(self, lambda: (session.models(), session.broken_models()), self._models_read)

    def _models_read(self, found: tuple[list[ModelCard], list[tuple[Path, Problem]]]) -> None:
        self.models, self.broken = found
        self.models_known = True
        self.models_changed.emit()

    def read_datasets(self) -> None:
        """Look which data sets are there."""
        session = self.session
        if session is not None:
            self.tasks.read(self, session.datasets, self._datasets_read)

    def _datasets_read(self, found: list[Dataset]) -> None:
        self.datasets, self.datasets_known = found, True
        self.datasets_changed.emit()

    # -- asking -----------------------------------------------------------------------------------------------------

    def cards(self, kind: str) -> list[ModelCard]:
        return [card for card in self.models if card.kind == kind]

    def card(self, kind: str, model: str) -> ModelCard | None:
        """The model a form means; empty takes the one of the settings, then the first."""
        cards = self.cards(kind)
        if not model and self.settings is not None:
            model = getattr(self.settings, {"text": "text_model", "image": "image_model", "speech": "voice"}[kind])
        return next((c for c in cards if model in (c.id, c.name, c.path)), cards[0] if cards else None)

    def submit(
        self, kind: str, given: dict[str, Any], done: Callable[[Job], Any], failed: Callable[[Problem], Any]
    ) -> None:
        """Ask for a work. `failed` is given the Problem with the field it belongs to."""
        session = self.session
        if session is None:
            failed(Problem("not_open", "The library is still being opened.", "Try again in a moment."))
            return

        def ask() -> Job:
            checked = session.recipe(kind, given)
            return session.submit(checked.recipe, notes=checked.notes)

        def asked(job: Job) -> None:
            self.track.put(job)
            done(job)

        self.tasks.write(self, ask, asked, failed)

    def cancel(self, job_id: str) -> None:
        session = self.session
        if session is None:
            return
        job = self.track.jobs.get(job_id)
        if job is not None and not job.state.ended:
            job.cancelling = True  # shown at once; the event follows when it has been heard
            self.track.touch()
        self.tasks.write(self, lambda: session.cancel(job_id), None, self.failed.emit)

    def retry(self, job_id: str) -> None:
        """Run an ended job once more."""
        session = self.session
        if session is not None:
            self.track.dismiss(job_id)
            self.tasks.write(self, lambda: session.retry(job_id), self.track.put, self.failed.emit)

    def again(self, work: Work) -> None:
        """Make a work's recipe once more with another seed."""
        given = {
            name: msgspec.to_builtins(getattr(work.recipe, name))
            for name in work.recipe.__struct_fields__
            if name not in ("made_with", "seed", "run") and getattr(work.recipe, name) is not None
        }
        self.submit(kind_of(work.recipe), given, lambda _: None, self.failed.emit)

    def warm(self, kind: str) -> None:
        """Have the model of a kind loaded in the background, if the settings want that."""
        session = self.session
        if session is None or self.settings is None or not self.settings.warm or kind not in MODEL_FIELD:
            return
        model = str(self.state.forms.get(kind, {}).get(MODEL_FIELD[kind], ""))
        self.tasks.read(self, lambda: session.warm(kind, model), lambda _: None)

    def problem(self, error: BaseException) -> None:
        """Something went wrong in the window itself."""
        self.failed.emit(as_problem(error))
