"""A tab with several kinds of work: a switch on the left that changes form and page, one history on the right.

Knows modes, forms and pages; what a page shows is in the files beside this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QButtonGroup, QStackedLayout, QWidget

from studio.core.events import Again, Cancelled, EndEvent, Event, Failed, Finished, Log
from studio.core.jobs import Job, JobState
from studio.core.recipes import Recipe, kind_of
from studio.core.works import Work
from studio.ui.desk import Desk
from studio.ui.forms import Form
from studio.ui.learn.forms import LearnForm
from studio.ui.learn.page import Page
from studio.ui.strings import tr
from studio.ui.tabs.base import MakeTab
from studio.ui.track import Tracked
from studio.ui.widgets import ToolButton, one_stop, row


@dataclass(frozen=True)
class Mode:
    """One way of the tab.

    Attributes:
        title: a short word. about: what it is, in a few. kind: of its recipes and its lane. verb: on the big button.
    """

    name: str
    title: str
    about: str
    kind: str
    verb: str


class Bench(MakeTab):
    """The common part. A subclass gives `modes` and builds the page of each."""

    modes: tuple[Mode, ...] = ()

    def __init__(self, desk: Desk) -> None:
        self._logged = ""  # what was told last while something was made
        self.forms: dict[str, LearnForm] = {}
        self.pages: dict[str, Page] = {}
        remembered = desk.state.forms.get(self.kind, {}).get("mode")
        self.mode = next((mode for mode in self.modes if mode.name == remembered), self.modes[0])
        super().__init__(desk)
        self.switch = QButtonGroup(self)
        self.switch.setExclusive(True)
        across = row(spacing=0)
        self.mode_buttons: dict[str, ToolButton] = {}
        for mode in self.modes:
            button = ToolButton(tr(mode.about), text=tr(mode.title), role="segment", checkable=True)
            button.setObjectName(f"mode_{mode.name}")
            button.clicked.connect(lambda _=False, name=mode.name: self.set_mode(name))
            self.switch.addButton(button)
            self.mode_buttons[mode.name] = button
            across.addWidget(button)
        across.addStretch(1)
        one_stop(self.switch)
        self._left_box.insertLayout(0, across)
        self.details.vary_button.say(tr("Once more"))
        self._set_verb()
        self.mode_buttons[self.mode.name].setChecked(True)
        for job in desk.track.running():
            self._moved(job.id)

    # -- for subclasses -----------------------------------------------------------------------------------------------

    def build_page(self, mode: Mode) -> Page:
        raise NotImplementedError

    def form_made(self, form: LearnForm) -> None:
        """A form was made for the first time."""

    def mode_of(self, kind: str, recipe: Recipe | None = None) -> Mode | None:
        """The mode in which recipes of a kind are made and shown."""
        return next((mode for mode in self.modes if mode.kind == kind), None)

    def changed_mode(self) -> None:
        """Another mode is shown."""

    # -- modes --------------------------------------------------------------------------------------------------------

    def build_form(self) -> Form:
        return self.form_of(self.mode)

    def form_of(self, mode: Mode) -> LearnForm:
        """The form of a mode; made when it is first needed."""
        if mode.name not in self.forms:
            made = self.make_form(mode)
            self.forms[mode.name] = made
            if hasattr(self, "form"):  # the first one is taken up by the tab itself
                holder = self.form_scroll.widget()
                around = holder.layout() if holder is not None else None
                assert around is not None
                made.setParent(holder)
                made.hide()
                around.addWidget(made)
                self.connect_form(made)
            self.form_made(made)
        return self.forms[mode.name]

    def make_form(self, mode: Mode) -> LearnForm:
        return LearnForm(mode.kind, self.desk)

    def page_of(self, mode: Mode) -> Page:
        """The page of a mode; made when it is first needed."""
        if mode.name not in self.pages:
            made = self.pages[mode.name] = self.build_page(mode)
            made.problem.connect(self.tell_problem)
            self.stack.addWidget(made)
        return self.pages[mode.name]

    @property
    def page(self) -> Page:
        """The open page."""
        return self.page_of(self.mode)

    def build_centre(self) -> QWidget:
        centre = QWidget()
        self.stack = QStackedLayout(centre)
        self.stack.setContentsMargins(0, 0, 0, 0)
        self.stack.setCurrentWidget(self.page)
        return centre

    def set_mode(self, name: str) -> None:
        """Show another mode: its form, its page and its button."""
        wanted = next((mode for mode in self.modes if mode.name == name), None)
        if wanted is None or wanted is self.mode:
            return
        self.mode = wanted
        shown = self.form_of(wanted)
        self.form.hide()
        self.form = shown
        self.form.show()
        self.stack.setCurrentWidget(self.page)
        self.mode_buttons[name].setChecked(True)
        self.notice.hide()
        self._set_verb()
        self.desk.state.forms.setdefault(self.kind, {})["mode"] = name
        self.desk.keeper.touch()
        self.work = self.page.work
        self.details.show_work(self.work)
        if self.work is not None:
            self.history.select(self.work.id)
        else:
            self.history.view.clearSelection()
        self.changed_mode()

    def _set_verb(self) -> None:
        self.verb = self.mode.verb
        self.refresh_button()

    # -- making -------------------------------------------------------------------------------------------------------

    def unfinished(self) -> list[Tracked]:
        return self.desk.track.unfinished(self.mode.kind)

    def ask(self, values: dict[str, Any]) -> None:
        mode = self.mode
        self.desk.submit(mode.kind, values, lambda job: self._asked(mode, job), self.refused)

    def _asked(self, mode: Mode, job: Job) -> None:
        self._last = job
        page = self.page_of(mode)
        if len(self.desk.track.unfinished(mode.kind)) <= 1 or not page.at_work():
            page.follow(job.id)
        else:
            page.back()
        session, tracked = self.desk.session, self.desk.track.jobs.get(job.id)
        if session is not None and tracked is not None and tracked.state.ended:
            # it was faster than the answer to the question for it
            self.desk.tasks.read(self, lambda: session.works_of(job.id), self._came)
        self.refresh_button()

    def at_work(self) -> bool:
        return self.page.at_work()

    def back(self) -> None:
        self.page.back()

    def show_job_of(self, kind: str) -> None:
        mode = self.mode_of(kind)
        if mode is not None:
            self.set_mode(mode.name)
            self.page.back()

    # -- what is told -------------------------------------------------------------------------------------------------

    def _moved(self, job_id: str) -> None:
        if not hasattr(self, "switch"):
            return  # still being built; it is looked for at the end of that
        job = self.desk.track.jobs.get(job_id)
        mode = self.mode_of(job.kind) if job is not None and self._mine(job_id) else None
        if job is None or mode is None:
            return
        self.refresh_button()
        if job.state is JobState.RUNNING:
            page = self.page_of(mode)
            if not page.at_work():
                page.follow(job_id)

    def _happened(self, event: Event) -> None:
        job = self.desk.track.jobs.get(event.job)
        mode = self.mode_of(job.kind) if job is not None and self._mine(event.job) else None
        if mode is None:
            return
        page = self.page_of(mode)
        if isinstance(event, Log):
            if mode is self.mode:
                self._logged = event.text
                self.notice.tell(event.text)
            return
        if isinstance(event, Again):
            self.notice.tell(event.why, tr("It goes on by itself."))
        if not isinstance(event, (Finished, Failed, Cancelled)):
            if event.job == page.job:
                page.happened(event)
            return
        if isinstance(event, Failed) and event.job == page.job:
            self._tell_failure(mode, event)
        if isinstance(event, Finished) and self.notice.sentence.text() == self._logged:
            self.notice.hide()  # it was about what is over now
        # where the page shows what came of it, its notes are there
        if isinstance(event, Finished) and event.notes and mode is self.mode and (page.aside or not event.works):
            self.notice.tell("\n".join(event.notes))
        if event.job == page.job:
            self.page_ended(mode, page, event)
        self.refresh_button()

    def page_ended(self, mode: Mode, page: Page, event: EndEvent) -> None:
        page.ended(event)
        page.aside = False

    def _tell_failure(self, mode: Mode, event: Failed) -> None:
        if mode is self.mode:
            self.tell_failure(event)
        else:
            self.notice.problem(event.problem)

    def _came(self, works: list[Work]) -> None:
        for work in works:
            mode = self.mode_of(kind_of(work.recipe), work.recipe)
            if mode is None:
                continue
            page = self.page_of(mode)
            if work.job == page.job and not page.aside:
                page.show_work(work)
                if mode is self.mode:
                    self._shown(work)

    def _first_page(self) -> None:
        works = self.history.model.works
        if self.work is not None:
            self.history.select(self.work.id)

        def fits(work: Work) -> bool:
            return self.mode_of(kind_of(work.recipe), work.recipe) is self.mode

        if self.work is None and not self.page.job and not self.history.model.search and self.opens_newest():
            newest = next((work for work in works if fits(work)), None)
            if newest is not None:
                self.show_work(newest)

    def opens_newest(self) -> bool:
        """Whether the newest work is shown where nothing else is."""
        return True

    # -- works --------------------------------------------------------------------------------------------------------

    def show_work(self, work: Work) -> None:
        mode = self.mode_of(kind_of(work.recipe), work.recipe)
        if mode is None:
            return
        self.page_of(mode).show_work(work)
        self.set_mode(mode.name)
        self._shown(work)

    def _shown(self, work: Work) -> None:
        self.work = work
        self.details.show_work(work)
        self.history.select(work.id)

    def clear(self) -> None:
        self.page.clear()

    def take_recipe(self, recipe: Recipe, part: str = "all") -> None:
        mode = self.mode_of(kind_of(recipe), recipe)
        if mode is None:
            return
        self.set_mode(mode.name)
        self.form.put_recipe(recipe, part)
        self.notice.hide()
        self.focus_prompt()

    def take_text(self, text: str) -> None:
        """A text has no place in these forms."""

    def take_file(self, path: Path) -> None:
        """A file was opened: the recipe in it, or what it is made of."""
        session = self.desk.session
        if session is None:
            return
        if path.is_dir():
            self.take_plain(path)
            return
        self.desk.tasks.read(
            self, lambda: session.recipe_in(path), lambda recipe: self._recipe_read(path, recipe), self.tell_problem
        )

    def save_as(self) -> None:
        session = self.desk.session
        if self.work is None or session is None:
            return
        if not session.formats(self.work.kind):
            self.notice.tell(tr("There is nothing to save of this; its folder holds all of it."))
            return
        super().save_as()

    def focus_prompt(self) -> None:
        first = next((made for made in self.form.rows.values() if not made.isHidden()), None)
        if first is not None:
            first.editor.target().setFocus(Qt.FocusReason.OtherFocusReason)
