"""What the tabs have in common: form on the left, the work in the middle, history and details on the right."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from PySide6.QtCore import QMimeData, Qt, QUrl, Signal
from PySide6.QtGui import QDesktopServices, QGuiApplication, QImage
from PySide6.QtWidgets import (
    QFileDialog,
    QMenu,
    QScrollArea,
    QSizePolicy,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from studio.core.cards import ModelCard
from studio.core.declare import Field, fields
from studio.core.events import Again, Cancelled, EndEvent, Event, Failed, Finished, Log
from studio.core.jobs import Job, JobState
from studio.core.problems import Problem
from studio.core.recipes import MODEL_FIELD, RECIPES, Recipe, kind_of, work_kind
from studio.core.text import shown
from studio.core.works import Work
from studio.ui import export
from studio.ui.actions import keys_of
from studio.ui.desk import Desk
from studio.ui.details import DetailsPanel
from studio.ui.fields import EnterFilter
from studio.ui.forms import Form
from studio.ui.history import HistoryPanel, mime_of
from studio.ui.strings import as_button, tr
from studio.ui.track import Tracked
from studio.ui.widgets import Button, Label, Notice, ToolButton, row, then


class EmptyState(QWidget):
    """A place where nothing is yet: what to do first, and examples to press.

    Signals:
        chosen(str): an example.
    """

    chosen = Signal(str)

    def __init__(self, title: str, hint: str, examples: tuple[str, ...]) -> None:
        super().__init__()
        self.setObjectName("empty")
        self.title = Label(title, "title", wrap=True)
        self.title.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.hint = Label(hint, "soft", wrap=True)
        self.hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.chips = [Button(text, role="chip", tip=tr("Take this as the prompt")) for text in examples]
        inside = QVBoxLayout()
        inside.setSpacing(10)
        inside.addWidget(self.title)
        inside.addWidget(self.hint)
        inside.addSpacing(8)
        for at, chip in enumerate(self.chips):
            chip.setObjectName(f"example_{at}")
            chip.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
            chip.clicked.connect(lambda _=False, c=chip: self.chosen.emit(c.accessibleName()))
            inside.addWidget(chip, 0, Qt.AlignmentFlag.AlignHCenter)
        box = QWidget()
        box.setMaximumWidth(560)
        box.setLayout(inside)
        across = row(spacing=0)
        across.addStretch(1)
        across.addWidget(box, 100)
        across.addStretch(1)
        around = QVBoxLayout(self)
        around.addStretch(2)
        around.addLayout(across)
        around.addStretch(3)


class MakeTab(QWidget):
    """A tab that makes one kind of work.

    A subclass gives `kind`, builds its middle, and says how a work and a job at work are shown.
    """

    kind = ""
    verb = "Generate"
    leave_out: tuple[str, ...] = ()
    tiles = False
    makes: tuple[str, ...] = ()  # the kinds of works that are shown here; empty for `kind` alone

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self.work: Work | None = None  # the one that is shown
        self.following = ""  # the job whose works are shown as they come
        self.aside = False  # the user looks at something else until it ends
        self._last: Job | None = None
        self.setAcceptDrops(True)

        # left
        self.form = self.build_form()
        self.notice = Notice()
        self.notice.setObjectName("notice")
        self.go = Button("", role="primary", clicked=self._press)
        self.go.setObjectName("go")
        self.more = ToolButton(tr("More ways to start"), "chevron-down", role="more")
        self.more.setObjectName("go_more")
        for button in (self.go, self.more):
            button.setFixedHeight(40)
        self.more.set_icon("chevron-down", "accent_text")
        self.more.setPopupMode(ToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self.more)
        menu.aboutToShow.connect(lambda: self._fill_more(menu))
        self.more.setMenu(menu)
        self.left = QWidget()
        self.left.setObjectName("panel")
        self.left.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.left.setMinimumWidth(300)
        self.left.setMaximumWidth(520)
        self._left_box = QVBoxLayout(self.left)
        self._left_box.setContentsMargins(16, 12, 8, 12)
        self._left_box.setSpacing(8)
        self.form_scroll = QScrollArea()
        self.form_scroll.setObjectName("form_scroll")
        self.form_scroll.setAccessibleName(tr("Parameters"))
        self.form_scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.form_scroll.setWidgetResizable(True)
        self.form_scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        holder = QWidget()
        inside = QVBoxLayout(holder)
        inside.setContentsMargins(0, 0, 8, 0)
        self._before_form = QVBoxLayout()
        inside.addLayout(self._before_form)
        inside.addWidget(self.form, 1)
        self.form_scroll.setWidget(holder)
        self._left_box.addWidget(self.form_scroll, 1)
        self._left_box.addWidget(self.notice)
        buttons = row(spacing=1)
        buttons.addWidget(self.go, 1)
        buttons.addWidget(self.more)
        buttons.setContentsMargins(0, 0, 8, 0)
        self._left_box.addLayout(buttons)

        # right
        self.history = HistoryPanel(desk, *(self.makes or (self.kind,)), tiles=self.tiles)
        self.history.opened.connect(self.show_work)
        self.history.menu.connect(self.fill_menu)
        self.history.view.remove.connect(self.remove)
        self.history.model.came.connect(self._came)
        self.history.model.loaded.connect(self._first_page)
        self.details = DetailsPanel(desk)
        self.details.reuse.connect(lambda work: self.take_recipe(work.recipe))
        self.details.vary.connect(desk.again)
        self.details.reveal.connect(self.reveal)
        self.details.star.connect(self.star)
        self.right_split = QSplitter(Qt.Orientation.Vertical)
        self.right_split.setObjectName(f"{self.kind}.right")
        self.right_split.addWidget(self.history)
        self.right_split.addWidget(self.details)
        self.right_split.setStretchFactor(0, 3)
        self.right_split.setStretchFactor(1, 2)
        self.right_split.setChildrenCollapsible(False)
        self.right = QWidget()
        self.right.setObjectName("panel")
        self.right.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.right.setMinimumWidth(200)
        self.right.setMaximumWidth(480)
        self._right_box = QVBoxLayout(self.right)
        self._right_box.setContentsMargins(0, 0, 0, 0)
        self._right_box.addWidget(self.right_split)

        # the whole
        self.centre = self.build_centre()
        self.centre.setObjectName("ground")
        self.centre.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.centre.setMinimumWidth(320)
        self.split = QSplitter(Qt.Orientation.Horizontal)
        self.split.setObjectName(f"{self.kind}.split")
        for part in (self.left, self.centre, self.right):
            self.split.addWidget(part)
        self.split.setStretchFactor(1, 1)
        self.split.setChildrenCollapsible(False)
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        around.addWidget(self.split)
        self._restore_splitters()
        self.right.setVisible(desk.state.is_open(f"{self.kind}.history", True))

        self._enter = EnterFilter(self)
        self._enter.pressed.connect(self.make)
        self.connect_form(self.form)
        desk.happened.connect(self._happened)
        desk.track.moved.connect(self._moved)
        desk.track.changed.connect(self.refresh_button)
        self.refresh_button()
        for job in desk.track.running():
            self._moved(job.id)

    # -- for subclasses -----------------------------------------------------------------------------------------------

    def build_form(self) -> Form:
        return Form(self.kind, self.desk, leave_out=self.leave_out)

    def connect_form(self, form: Form) -> None:
        """Listen to a form that has just been made."""
        form.changed.connect(self._edited)
        form.refused.connect(self.tell_problem)
        form.picture_wanted.connect(self.give_picture)
        for made in form.rows.values():
            made.editor.target().installEventFilter(self._enter)
        form.row_made.connect(lambda made: made.editor.target().installEventFilter(self._enter))

    def unfinished(self) -> list[Tracked]:
        """The jobs that the big button is about."""
        return self.desk.track.unfinished(self.kind)

    def build_centre(self) -> QWidget:
        raise NotImplementedError

    def display(self, work: Work) -> None:
        """Show a work in the middle."""
        raise NotImplementedError

    def clear(self) -> None:
        """Nothing is to be shown."""

    def begun(self, job_id: str) -> None:
        """A job of this tab was asked for here, or is found at work: make room for what comes of it."""

    def progressed(self, event: Event) -> None:
        """An event of a job of this kind that is not its end."""

    def ended(self, event: EndEvent) -> None:
        """A job of this kind ended. Its works are in `event.works`."""

    def give_picture(self, editor: Any) -> None:
        """A field of the form asks for the picture that is shown."""

    def taken(self, values: dict[str, Any]) -> dict[str, Any]:
        """The values of the form, before they are asked for."""
        return values

    def fill_more(self, menu: QMenu) -> None:
        """More ways to start."""

    def leave(self) -> None:
        """The window closes."""

    # -- making -------------------------------------------------------------------------------------------------------

    def make(self) -> None:
        """Ask for a work; it runs now, or when what is before it has ended."""
        wrong = self.form.complaints()
        if wrong:
            self.form.go_to(wrong[0])
            return
        self.notice.hide()
        self.ask(self.taken(self.form.values()))

    def ask(self, values: dict[str, Any]) -> None:
        """Ask for a work with these values."""
        self.desk.submit(self.kind, values, self.submitted, self.refused)

    def submitted(self, job: Job) -> None:
        self._last = job
        tracked = self.desk.track.jobs.get(job.id)
        alone = len(self.unfinished()) <= 1
        if alone or not self.following:
            self.follow(job.id)
        else:
            self.back()
        session = self.desk.session
        if session is not None and tracked is not None and tracked.state.ended:
            # it was faster than the answer to the question for it
            self.desk.tasks.read(self, lambda: session.works_of(job.id), self._came)
            self.refresh_button()

    def refused(self, problem: Problem) -> None:
        """What was asked for cannot be made: said beside its field, or above the button."""
        if not self.form.show_problem(problem):
            self.tell_problem(problem)

    def tell_problem(self, problem: Problem) -> None:
        self.notice.problem(problem)

    def follow(self, job_id: str) -> None:
        """Show what this job makes, as it makes it."""
        if self.following != job_id:
            self.following, self.aside = job_id, False
            self.begun(job_id)

    def at_work(self) -> bool:
        """Whether the followed job has not ended."""
        job = self.desk.track.jobs.get(self.following)
        return job is not None and not job.state.ended

    def back(self) -> None:
        """Show again what is being made, after the user looked at something else."""
        if self.aside and self.at_work():
            self.aside = False
            self.begun(self.following)

    def show_job_of(self, kind: str) -> None:
        """Show what is being made of a kind of recipe."""
        self.back()

    def set_mode(self, name: str) -> None:
        """Show another mode, where the tab has some."""

    def use_model(self, card: ModelCard) -> None:
        """Choose a model, or an addition to one."""
        model = MODEL_FIELD[self.kind]
        if card.kind == self.kind:
            self.form.put_some({model: card.id})
            return
        field = next((f for f in fields(RECIPES[self.kind]) if f.name in self.form.rows and _lists(f, card.kind)), None)
        if field is not None:  # a LoRA joins those that are there
            there = [msgspec.to_builtins(each) for each in self.form.rows[field.name].value()]
            if all(each.get("model") != card.id for each in there):
                self.form.put_some({field.name: (*there, {"model": card.id})})
            self.form.go_to(field.name)

    def stop(self) -> None:
        """Cancel what runs in this tab, or what waits where nothing runs."""
        unfinished = self.unfinished()
        for job in unfinished[:1]:
            self.desk.cancel(job.id)

    def stop_all(self) -> None:
        for job in reversed(self.unfinished()):
            self.desk.cancel(job.id)

    def _press(self) -> None:
        if self.unfinished():
            self.stop()
        else:
            self.make()

    def refresh_button(self) -> None:
        """Generate, Cancel, or cancelling."""
        unfinished = self.unfinished()
        cancelling = bool(unfinished) and all(j.cancelling for j in unfinished)
        if not unfinished:
            text = f"{tr(self.verb)}    {keys_of('make').replace('Enter', '↵').replace('+', ' ')}"
        else:
            text = tr("Cancelling …") if cancelling else f"{tr('Cancel')}    Esc"
        if self.go.text() != as_button(text):
            self.go.say(text)
            for button in (self.go, self.more):
                button.setProperty("busy", bool(unfinished))
                button.style().unpolish(button)
                button.style().polish(button)
            self.more.set_icon("chevron-down", "text" if unfinished else "accent_text")
        self.go.setEnabled(self.desk.session is not None and not cancelling)
        self.more.setEnabled(self.desk.session is not None)

    def _fill_more(self, menu: QMenu) -> None:
        menu.clear()
        # the keys as words: as a shortcut of this entry they would compete with the window's own, and neither would act
        queue = menu.addAction(f"{tr('Line up one more')}\t{keys_of('make')}")
        queue.triggered.connect(lambda *_: self.make())
        if self.aside and self.at_work():
            menu.addAction(tr("Show what is being made")).triggered.connect(lambda *_: self.back())
        self.fill_more(menu)
        unfinished = self.unfinished()
        if len(unfinished) > 1:
            menu.addSeparator()
            everything = menu.addAction(tr("Cancel all {n} jobs of this tab", n=len(unfinished)))
            everything.triggered.connect(lambda *_: self.stop_all())

    def _mine(self, job_id: str) -> bool:
        """Whether what a job makes is shown in this tab."""
        job = self.desk.track.jobs.get(job_id)
        return job is not None and work_kind(job.kind) in (self.makes or (self.kind,))

    def _moved(self, job_id: str) -> None:
        job = self.desk.track.jobs.get(job_id)
        if job is None or not self._mine(job_id):
            return
        self.refresh_button()
        # the next of the queue is shown as it runs, unless the user is looking at something else
        if job.state is JobState.RUNNING:
            before = self.desk.track.jobs.get(self.following)
            if before is None or before.state.ended:
                self.follow(job_id)

    def _happened(self, event: Event) -> None:
        if not self._mine(event.job):
            return
        if isinstance(event, Log):
            self.notice.tell(event.text)
            return
        if isinstance(event, Again):
            self.notice.tell(event.why, tr("It begins again by itself."))
        if not isinstance(event, (Finished, Failed, Cancelled)):
            self.progressed(event)
            return
        if isinstance(event, Failed) and event.job == self.following:
            self.tell_failure(event)
        if isinstance(event, Finished) and event.notes:
            self.notice.tell("\n".join(event.notes))
        if event.job == self.following and isinstance(event, (Finished, Cancelled)) and event.works:
            seed = getattr(event.works[-1].recipe, "seed", None)
            if seed is not None:
                self.form.set_last_seed(seed)
        self.ended(event)
        if event.job == self.following:
            self.aside = False
        self.refresh_button()

    def tell_failure(self, event: Failed) -> None:
        """A job of this tab failed: beside the field it belongs to, or as a notice with a way to run it again."""
        if not (event.problem.field and self.form.show_problem(event.problem)):
            self.notice.problem(
                event.problem, action=tr("Try again"), does=lambda: self.desk.retry(event.job)
            )  # fmt: skip

    def _came(self, works: list[Work]) -> None:
        """New works: the followed job's are shown."""
        mine = [w for w in works if w.job == self.following]
        if mine:
            self.show_work(mine[-1] if len(mine) > 1 else mine[0])

    def _first_page(self) -> None:
        """Where nothing is shown and nothing is at work, the newest work is a good place to begin."""
        works = self.history.model.works
        if self.work is not None:
            self.history.select(self.work.id)  # the list was read anew, and the mark went with the old one
        elif not self.following and works and not self.history.model.search:
            self.show_work(works[0])

    def _edited(self, name: str) -> None:
        if self.notice.isVisible() and not self.notice.more.isVisible():
            self.notice.hide()

    # -- works --------------------------------------------------------------------------------------------------------

    def show_work(self, work: Work) -> None:
        """Show a work large, with its details. What is being made takes its place only when it has ended."""
        if work.job != self.following:
            self.aside = self.at_work()
        self.work = work
        self.details.show_work(work)
        self.history.select(work.id)
        self.display(work)

    def _step(self, step: int) -> None:
        at = self.work.id if self.work else ""
        found = self.history.neighbour(at, step) if at else next(iter(self.history.model.works), None)
        if found is not None:
            self.show_work(found)

    def older(self) -> None:
        self._step(1)

    def newer(self) -> None:
        self._step(-1)

    def take_recipe(self, recipe: Recipe, part: str = "all") -> None:
        """Fill the form from a recipe."""
        self.form.put_recipe(recipe, part)
        self.notice.hide()
        self.focus_prompt()

    def take_text(self, text: str) -> None:
        """Make a text the prompt."""
        self.form.put_some({self.form.words.field.name: text})
        self.focus_prompt()

    def focus_prompt(self) -> None:
        self.form.words.editor.target().setFocus()

    def focus_search(self) -> None:
        self.right.show()
        self.history.search.setFocus()
        self.history.search.selectAll()

    def toggle_history(self) -> None:
        self.right.setVisible(not self.right.isVisible())
        self.desk.state.set_open(f"{self.kind}.history", self.right.isVisible())
        self.desk.keeper.touch()

    def reuse_work(self) -> None:
        if self.work is not None:
            self.take_recipe(self.work.recipe)

    def vary_work(self) -> None:
        if self.work is not None:
            self.desk.again(self.work)

    def save_as(self) -> None:
        if self.work is not None:
            export.ask(self.window(), self.desk, self.work)

    def save_several(self) -> None:
        """Save all works that are chosen in the history; of a single one, as `save_as`."""
        chosen = self.history.view.chosen()
        if len(chosen) < 2:
            self.save_as()
            return
        from studio.ui.several import SeveralDialog  # when first needed

        SeveralDialog(self.window(), self.desk, chosen).open()

    def copy_work(self) -> None:
        """Put the shown work on the clipboard, as its content and as a file."""
        if self.work is not None and self.desk.session is not None:
            data = mime_of([self.work], self.desk)
            self.add_content(data)
            QGuiApplication.clipboard().setMimeData(data)
            self.copied()

    def copied(self) -> None:
        """Show that the work is on the clipboard."""

    def add_content(self, data: QMimeData) -> None:
        """The work's content, beside the address of its file."""

    def star_work(self) -> None:
        if self.work is not None:
            self.star(self.work, not self.work.starred)

    def star(self, work: Work, on: bool) -> None:
        session = self.desk.session
        if session is None:
            return

        def done(fresh: Work) -> None:
            if self.work is not None and self.work.id == fresh.id:
                self.work = fresh
                self.details.show_work(fresh)

        def keep() -> Work:
            session.star(work.id, on)
            return session.work(work.id)

        self.desk.tasks.write(self, keep, done, self.tell_problem)

    def remove_work(self) -> None:
        if self.work is not None:
            self.remove([self.work])

    def remove(self, works: list[Work]) -> None:
        """Put works into the bin, with a way back, and show what stood beside them."""
        session = self.desk.session
        if session is None or not works:
            return
        ids = [work.id for work in works]
        rows = sorted(self.history.model.row_of(work_id) for work_id in ids)
        after = self.history.model.works[rows[-1] + 1 :] + self.history.model.works[: max(0, rows[0])][::-1]

        def back() -> None:
            def done(_: Any) -> None:
                self.history.model.reload()
                self.show_work(works[0])

            self.desk.tasks.write(self, lambda: session.restore(*ids), done, self.tell_problem)

        def done(_: Any) -> None:
            if self.work is not None and self.work.id in ids:
                if after:
                    self.show_work(after[0])
                else:
                    self.work = None
                    self.details.show_work(None)
                    self.clear()
            title = shown(works[0].title, 40)
            sentence = (
                tr("“{title}” was removed.", title=title)
                if len(ids) == 1
                else tr("{n} works were removed.", n=len(ids))
            )
            self.desk.told.emit(sentence, "", (tr("Undo"), back))

        self.desk.tasks.write(self, lambda: session.remove(*ids), done, self.tell_problem)

    def reveal_work(self) -> None:
        if self.work is not None:
            self.reveal(self.work)

    def reveal(self, work: Work) -> None:
        """Open the folder of a work's file in the system's file manager."""
        if self.desk.session is not None:
            open_folder(self.desk.session.path(work).parent)

    def fill_menu(self, work: Work, menu: QMenu) -> None:
        """What a right click on a work offers: the same as the buttons."""
        entries: list[tuple[str, Callable[[], Any]] | None] = [
            (tr("Reuse everything"), lambda: self.take_recipe(work.recipe)),
            (tr("Reuse only the prompt"), lambda: self.take_recipe(work.recipe, "prompt")),
            (tr("Reuse only the settings"), lambda: self.take_recipe(work.recipe, "settings")),
            (tr("Reuse only the seed"), lambda: self.take_recipe(work.recipe, "seed")),
            (tr("Vary"), lambda: self.desk.again(work)),
            None,
            *self.own_entries(work),
            None,
            (tr("Save as …"), then(lambda: self.show_work(work), self.save_as))
            if len(self._meant(work)) < 2
            else (tr("Save these {n} …", n=len(self._meant(work))), self.save_several),
            (tr("Copy"), then(lambda: self.show_work(work), self.copy_work)),
            (tr("Remove the star") if work.starred else tr("Star"), lambda: self.star(work, not work.starred)),
            (tr("Show the file in its folder"), lambda: self.reveal(work)),
            None,
            (tr("Remove"), lambda: self.remove(self._meant(work))),
        ]
        for entry in entries:
            if entry is None:
                menu.addSeparator()
            else:
                menu.addAction(as_button(entry[0])).triggered.connect(lambda _=False, does=entry[1]: does())

    def _meant(self, work: Work) -> list[Work]:
        """All chosen works, where the one that was clicked is among them."""
        chosen = self.history.view.chosen()
        return chosen if any(w.id == work.id for w in chosen) else [work]

    def own_entries(self, work: Work) -> list[tuple[str, Callable[[], Any]] | None]:
        return []

    # -- coming in ----------------------------------------------------------------------------------------------------

    def open_recipe(self) -> None:
        """Take the recipe out of a file."""
        dialog = QFileDialog(self.window(), tr("Open a picture or recipe"), self.desk.state.folder)
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        if dialog.exec():
            self.take_file(Path(dialog.selectedFiles()[0]))

    def take_file(self, path: Path) -> None:
        """A file was dropped or opened: its recipe, a model, or its text."""
        session = self.desk.session
        if session is None:
            return
        if path.is_dir() or path.suffix.lower() in (".gguf", ".onnx", ".safetensors"):
            self.form.model_editor.add(path)
            return
        self.desk.tasks.read(
            self, lambda: session.recipe_in(path), lambda recipe: self._recipe_read(path, recipe), self.tell_problem
        )

    def _recipe_read(self, path: Path, recipe: Recipe | None) -> None:
        if recipe is not None and kind_of(recipe) == self.kind:
            self.take_recipe(recipe)
            self.notice.tell(tr("The parameters of “{name}” were taken.", name=path.name))
        elif recipe is not None:
            self.desk.reuse.emit(recipe, "all")
        else:
            self.take_plain(path)

    def take_plain(self, path: Path) -> None:
        """A file without a recipe."""
        if path.suffix.lower() in (".txt", ".md", ".text", ".markdown"):
            limit = int(self.form.words.field.high or 0)

            def read() -> str:
                with open(path, encoding="utf-8-sig", errors="replace") as stream:
                    return stream.read(limit + 1)

            def done(text: str) -> None:
                if len(text) > limit:
                    sentence = tr(
                        "“{name}” is longer than the {n} characters that fit.", name=path.name, n=f"{limit:,}"
                    )
                    self.notice.tell(sentence, bad=True)
                else:
                    self.take_text(text)

            self.desk.tasks.read(self, read, done, self.tell_problem)
        else:
            self.notice.tell(tr("“{name}” holds no recipe of the studio.", name=path.name))

    def paste_in(self) -> None:
        data = QGuiApplication.clipboard().mimeData()
        if data is None or not self.take_mime(data):  # Qt gives None for an empty clipboard
            self.notice.tell(tr("There is nothing to paste that can be used here."))

    def take_mime(self, data: QMimeData) -> bool:
        """Something was dropped or pasted. Returns whether it can be used."""
        files = [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]
        if files:
            self.take_file(files[0])
            return True
        if data.hasImage():
            image = data.imageData()
            if isinstance(image, QImage) and self.take_image(image):
                return True
        text = data.text() if data.hasText() else ""
        limit = int(self.form.words.field.high or 0)
        if text.strip() and limit and len(text) > limit:
            sentence = tr("This text is longer than the {n} characters that fit.", n=f"{limit:,}")
            self.notice.tell(sentence, bad=True)
            return True
        if text.strip():
            self.take_text(text)
            return True
        return False

    def take_image(self, image: QImage) -> bool:
        return False

    def dragEnterEvent(self, event: Any) -> None:
        data = event.mimeData()
        inside = isinstance(event.source(), QWidget) and event.source().window() is self.window()
        if not inside and (data.hasUrls() or data.hasText() or data.hasImage()):
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:
        if self.take_mime(event.mimeData()):
            event.acceptProposedAction()

    # -- remembering --------------------------------------------------------------------------------------------------

    def splitters(self) -> list[QSplitter]:
        return [self.split, self.right_split]

    def _restore_splitters(self) -> None:
        usual = {f"{self.kind}.split": [344, 10_000, 264], f"{self.kind}.right": [360, 280]}
        for split in self.splitters():
            name = split.objectName()
            sizes = self.desk.state.splitters.get(name)
            if not sizes or len(sizes) != split.count() or any(not 0 <= s < 100_000 for s in sizes):
                sizes = usual.get(name)
            if sizes:
                split.setSizes(sizes)
            split.splitterMoved.connect(lambda *_, s=split: self._splitted(s))

    def _splitted(self, split: QSplitter) -> None:
        if self.right.isVisible():
            self.desk.state.splitters[split.objectName()] = split.sizes()
            self.desk.keeper.touch()


def _lists(field: Field, kind: str) -> bool:
    """Whether a field is a list of additions of a kind."""
    return field.item is not None and any(part.refers == kind for part in fields(field.item))


def open_folder(path: Path) -> None:
    """Show a folder or a file with the system's own program."""
    with contextlib.suppress(OSError):
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(path)))
