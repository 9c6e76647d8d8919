"""The Train tab: data sets, models of one's own from them, and searches for what trains best."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from PySide6.QtCore import QMimeData, QTimer
from PySide6.QtWidgets import QComboBox, QMenu, QVBoxLayout, QWidget

from studio.core.events import Cancelled, Event, Failed, Loading, Progress, Shown
from studio.core.learning import Dataset, Made, SearchRecipe, TrainImageRecipe
from studio.core.problems import Problem
from studio.core.recipes import RECIPES, Recipe, kind_of
from studio.core.text import shown
from studio.core.works import Work
from studio.ui.desk import Desk
from studio.ui.forms import ModelEditor
from studio.ui.learn.bench import Bench, Mode
from studio.ui.learn.datasets import DataPage
from studio.ui.learn.editors import SourcesEditor, local_files
from studio.ui.learn.forms import NARROWEST, LearnForm, method_titles, of_search
from studio.ui.learn.page import Page, heading
from studio.ui.learn.runs import RunPage, estimate_line
from studio.ui.strings import tr
from studio.ui.tabs.base import EmptyState, open_folder
from studio.ui.widgets import Button, Label, row

REST = 1200  # ms without a change before an estimate is asked for by itself


class TrainTab(Bench):
    kind = "train"
    makes = ("dataset", "training")
    modes = (
        Mode("data", "Data", "Make data sets", "dataset", "Make data set"),
        Mode("text", "Text", "Train a text model", "train-text", "Train"),
        Mode("image", "Pictures", "Train a picture model", "train-image", "Train"),
        Mode("search", "Search", "Search for what trains best", "search", "Search"),
    )

    def __init__(self, desk: Desk) -> None:
        self._estimating, self._round = "", 0
        super().__init__(desk)
        self.estimate_button = Button(tr("Estimate"), role="flat", clicked=self.estimate)
        self.estimate_button.setObjectName("estimate")
        self.estimate_button.setToolTip("")
        self.estimate_label = Label("", "soft", elide=True)
        self.estimate_row = QWidget()
        across = heading(self.estimate_label, self.estimate_button)
        across.setContentsMargins(0, 0, 8, 0)  # ends where the big button ends
        self.estimate_row.setLayout(across)
        self._left_box.addWidget(self.estimate_row)
        self._rest = QTimer(self, singleShot=True, interval=REST)
        self._rest.timeout.connect(self._estimate_if_ready)
        self.changed_mode()

    # -- parts --------------------------------------------------------------------------------------------------------

    def make_form(self, mode: Mode) -> LearnForm:
        return LearnForm(mode.kind, self.desk, of=self._searched())

    def form_made(self, form: LearnForm) -> None:
        form.changed.connect(lambda _, f=form: self._form_changed(f))
        form.dataset_wanted.connect(lambda: self.set_mode("data"))
        if form.kind == "search":
            form.put_first(self._search_head())

    def _search_head(self) -> QWidget:
        """Which training a search varies, and the way to its form."""
        holder = QWidget()
        self.searched = QComboBox()
        self.searched.setObjectName("search_of")
        self.searched.setAccessibleName(tr("Which training is varied"))
        self.searched.setMinimumContentsLength(8)  # the column is narrower than its titles may be
        self.searched.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.searched.addItem(tr("a text training"), "text")
        self.searched.addItem(tr("a picture training"), "image")
        self.searched.setCurrentIndex(self._searched() == "train-image")
        self.searched.activated.connect(lambda _: self._search_other(str(self.searched.currentData())))
        self.searched_said = Label("", "soft", wrap=True)
        change = Button(tr("Open its form"), clicked=lambda: self.set_mode(self._training_mode().name))
        change.setObjectName("search_form")
        inside = QVBoxLayout(holder)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.setSpacing(6)
        varies = Label(tr("Varies"))
        varies.setFixedWidth(NARROWEST)  # as those of the rows below
        varies.setBuddy(self.searched)
        inside.addLayout(row(varies, self.searched, spacing=4))
        inside.addWidget(self.searched_said)
        inside.addLayout(row(change, None))
        return holder

    def _search_other(self, of: str) -> None:
        self.desk.state.forms.setdefault("train", {})["of"] = of
        form = self.forms.get("search")
        if form is not None and form.of != self._searched():
            form.vary(self._searched())
        self._say_searched()

    def _say_searched(self) -> None:
        """The training that is varied, in a line."""
        form = self.form_of(self._training_mode())
        values = form.values()
        names = {card.id: card.name for card in self.desk.models} | {each.id: each.name for each in self.desk.datasets}
        base = form.rows["model"].editor
        model = base.card() if isinstance(base, ModelEditor) else None
        parts = [method_titles().get(form.method(), form.method())]
        if model is not None and "model" not in form.unused():
            parts.append(model.name)
        parts.append(names.get(str(values.get("data", "")), tr("no data yet")))
        self.searched_said.setText(" · ".join(shown(part, 60) for part in parts))

    def build_page(self, mode: Mode) -> Page:
        if mode.name == "data":
            empty = EmptyState(
                tr("What should a model learn from?"),
                tr("Drop files or folders here, or add them on the left: texts, chats, tables, Wikipedia dumps, "
                   "pictures with captions. Their first rows are shown before anything is made."),
                (),
            )  # fmt: skip
            page = DataPage(self.desk, empty, self._sources)
            page.train.connect(self.train_on)
            page.columns.connect(lambda found: self.form_of(mode).offer_columns(found))
            page.reveal.connect(lambda folder: open_folder(Path(folder)))
            return page
        words = {
            "text": (
                tr("Make a text model your own"),
                tr("Choose a data set on the left and press Train. A LoRA of the model on board takes minutes on a "
                   "plain computer. Curves and samples come while it learns."),
            ),
            "image": (
                tr("Teach a picture model your own pictures"),
                tr("Choose a data set of captioned pictures on the left and press Train. The first samples are painted "
                   "before it learns, so that you see what changes."),
            ),
            "search": (
                tr("Find what trains best"),
                tr("Say on the left what is to be varied, for example the learning rate from 1e-5 to 1e-3 by factors. "
                   "Everything else is as in the form of the training."),
            ),
        }  # fmt: skip
        run = RunPage(
            self.desk,
            EmptyState(*words[mode.name], ()),
            picture=mode.name == "image",
            exports=lambda: "convert" in RECIPES,
        )
        run.stop.connect(self.stop)
        run.go_on.connect(self.go_on)
        run.use.connect(lambda made, m=mode: self.use(made, "image" if m.name == "image" else "text"))
        run.reveal.connect(lambda folder: open_folder(Path(folder)))
        run.export.connect(self.export_model)
        return run

    def changed_mode(self) -> None:
        if self.mode.name == "search":
            self._search_other(self.searched.currentData())
        self.estimate_row.setVisible(self.mode.name in ("text", "image"))
        self.estimate_label.setText("")
        self._drop_estimate()

    # -- data ---------------------------------------------------------------------------------------------------------

    def _sources(self) -> dict[str, Any] | None:
        form = self.forms.get("data")
        if (
            form is None
            or not form.rows["sources"].value()
            or any(made.editor.is_wrong() for made in form.rows.values())
        ):
            return None
        return form.values()

    def _form_changed(self, form: LearnForm) -> None:
        if form is self.forms.get("data"):
            page = self.pages.get("data")
            if isinstance(page, DataPage):
                page.touch()
        elif form is self.form and self.mode.name in ("text", "image"):
            self.estimate_label.setText("")
            self._drop_estimate()
            self._rest.start()

    def take_mime(self, data: QMimeData) -> bool:
        """Files and folders are what a data set is made of; a recipe of the studio fills a form."""
        files = local_files(data)
        if len(files) == 1 and files[0].name.endswith((".training.json", ".dataset.json")):
            self.take_file(files[0])
            return True
        if files:
            self.take_sources(files)
            return True
        return False

    def take_plain(self, path: Path) -> None:
        self.take_sources([path])

    def take_sources(self, files: list[Path]) -> None:
        """Add files and folders to the form of a data set."""
        self.set_mode("data")
        made = self.form.rows["sources"]
        assert isinstance(made.editor, SourcesEditor)
        made.editor.take(files)

    def train_on(self, dataset: Dataset) -> None:
        """Learn from a data set: the form of the training it suits."""
        self.set_mode("image" if dataset.shape == "captions" else "text")
        self.form.put_some({"data": dataset.id})

    def opens_newest(self) -> bool:
        return self.mode.name != "data"  # there the data sets are listed, and what to do first

    # -- searches -----------------------------------------------------------------------------------------------------

    def _searched(self) -> str:
        return "train-image" if self.desk.state.forms.get("train", {}).get("of") == "image" else "train-text"

    def taken(self, values: dict[str, Any]) -> dict[str, Any]:
        """A search carries the training it varies, as its form stands."""
        if self.mode.name != "search":
            return values
        training = self.form_of(self._training_mode())
        return {**values, "training": {"kind": training.kind, **training.values()}}

    def _training_mode(self) -> Mode:
        wanted = self._searched()
        return next(mode for mode in self.modes if mode.kind == wanted)

    def make(self) -> None:
        if self.mode.name == "search":
            training = self._training_mode()
            wrong = self.form_of(training).complaints()
            if wrong:
                self.set_mode(training.name)
                self.form.go_to(wrong[0])
                return
        super().make()

    def take_recipe(self, recipe: Recipe, part: str = "all") -> None:
        if isinstance(recipe, SearchRecipe):
            of = "image" if isinstance(recipe.training, TrainImageRecipe) else "text"
            self.desk.state.forms.setdefault("train", {})["of"] = of
            self.form_of(self._training_mode()).put(of_search(recipe.training))
        super().take_recipe(recipe, part)

    def set_mode(self, name: str) -> None:
        if name in ("text", "image"):
            self.desk.state.forms.setdefault("train", {})["of"] = name
            if "search" in self.forms:
                self.searched.setCurrentIndex(name == "image")
        super().set_mode(name)

    def mode_of(self, kind: str, recipe: Recipe | None = None) -> Mode | None:
        return super().mode_of("train-text" if kind == "convert" else kind, recipe)

    # -- estimates ----------------------------------------------------------------------------------------------------

    def _estimate_if_ready(self) -> None:
        """By itself only where its worker is there and idle: an estimate loads the model otherwise."""
        session = self.desk.session
        if session is None or self.form.complaints() or self.unfinished():
            return
        lane = session.lanes().get(self.mode.kind)
        if lane is not None and lane.pid and not lane.busy:
            self.estimate()

    def estimate(self) -> None:
        """Ask what the training of the form would take."""
        session = self.desk.session
        wrong = self.form.complaints()
        if session is None or self.mode.name not in ("text", "image"):
            return
        if wrong:
            self.form.go_to(wrong[0])
            return
        self._drop_estimate()
        self._round += 1
        now, kind, values = self._round, self.mode.kind, {**self.form.values(), "plan_only": True}
        self.estimate_label.setText(tr("measuring a few steps …"))
        self.estimate_button.setEnabled(False)

        def happened(event: Event) -> None:
            self.desk.bridge.call(lambda: self._estimated(now, event))

        def begun(aside: str) -> None:
            self._estimating = aside

        self.desk.tasks.write(
            self,
            lambda: session.aside(kind, values, happened),
            begun,
            lambda problem: self._not_estimated(now, problem),
        )

    def _drop_estimate(self) -> None:
        session, asked, self._estimating = self.desk.session, self._estimating, ""
        self._round += 1
        self.estimate_button.setEnabled(True)
        if session is not None and asked:
            self.desk.tasks.read(self, lambda: session.drop(asked), lambda _: None)

    def _estimated(self, now: int, event: Event) -> None:
        if now != self._round:
            return
        if isinstance(event, Shown):
            self._estimating = ""
            self.estimate_button.setEnabled(True)
            try:
                found = msgspec.json.decode(event.data, type=dict[str, Any])
            except msgspec.DecodeError:
                found = event.meta
            seconds, size, least = (float(found.get(name, 0)) for name in ("seconds", "bytes", "least"))
            self.estimate_label.setText(estimate_line(seconds, size, least))
        elif isinstance(event, Loading):
            self.estimate_label.setText(tr("loading {model} …", model=shown(event.model, 60)))
        elif isinstance(event, Progress):
            self.estimate_label.setText(f"{tr(event.phase)} …" if event.phase else tr("measuring a few steps …"))
        elif isinstance(event, Failed):
            self._not_estimated(now, event.problem)
        elif isinstance(event, Cancelled):
            self.estimate_label.setText("")
            self.estimate_button.setEnabled(True)

    def _not_estimated(self, now: int, problem: Problem) -> None:
        if now == self._round:
            self._estimating = ""
            self.estimate_label.setText("")
            self.estimate_button.setEnabled(True)
            self.refused(problem)

    # -- what was made ------------------------------------------------------------------------------------------------

    def go_on(self, job_id: str) -> None:
        """Take a stopped training up where it was."""
        session = self.desk.session
        if session is None:
            return
        mode = self.mode
        self.desk.track.dismiss(job_id)

        def begun(job: Any) -> None:
            self.desk.track.put(job)
            self._asked(mode, job)

        self.desk.tasks.write(self, lambda: session.retry(job_id), begun, self.tell_problem)

    def use(self, made: Made, tab: str) -> None:
        """Open the tab in which a model is used, with it chosen."""
        session = self.desk.session
        if session is None:
            return
        path = made.path

        def found(cards: list[Any]) -> None:
            card = next((each for each in cards if each.path == path or Path(path).is_relative_to(each.path)), None)
            if card is None:
                self.notice.tell(tr("“{name}” is not among the models any more.", name=shown(Path(path).name)))
            else:
                self.desk.use_model.emit(tab, card)

        self.desk.tasks.read(self, session.models, found, self.tell_problem)

    def export_model(self, made: Made) -> None:
        """Merge or convert a model, by a job of its own."""
        from studio.ui.learn.exporting import ConvertDialog  # when first needed

        dialog = ConvertDialog(self.window(), self.desk, made)
        dialog.failed.connect(self.tell_problem)
        dialog.open()

    def own_entries(self, work: Work) -> list[tuple[str, Callable[[], Any]] | None]:
        if not work.complete and kind_of(work.recipe) in ("train-text", "train-image", "search"):
            return [(tr("Go on with it"), lambda: self.go_on(work.job))]
        return []

    def fill_more(self, menu: QMenu) -> None:
        if self.mode.name in ("text", "image"):
            menu.addAction(tr("Estimate time and memory")).triggered.connect(lambda *_: self.estimate())

    def leave(self) -> None:
        self._drop_estimate()
