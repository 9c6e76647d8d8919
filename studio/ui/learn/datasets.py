"""Data sets in the middle of the Train tab: what is there, a first look at files, and what became of them.

Knows `dataset.json` and a preview's answer; knows nothing of how rows are read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QImage, QKeyEvent
from PySide6.QtWidgets import QDialog, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget

from studio.core.events import Cancelled, EndEvent, Event, Failed, Shown
from studio.core.learning import Dataset, Preview
from studio.core.problems import Problem
from studio.core.text import shown
from studio.core.works import Work
from studio.ui.desk import Desk
from studio.ui.history import small_picture
from studio.ui.learn.page import Page, Section, heading, scrolling
from studio.ui.learn.samples import SIDE, Framed
from studio.ui.learn.tables import Bar, Bars, Cell, Table
from studio.ui.strings import one_or_many, size_of, tr
from studio.ui.widgets import Button, Label, Notice, row

LOOK_AFTER = 500  # ms after the last change of the form
PICTURES = 12  # that are shown
SAMPLE = 240  # characters of a row in a table


def shape_said(shape: str) -> str:
    return {"text": tr("texts"), "chat": tr("conversations"), "captions": tr("captioned pictures")}.get(shape, shape)


def row_said(value: dict[str, Any]) -> tuple[str, str]:
    """A row in a line: what it is, and its words."""
    if "dropped" in value:
        words = row_said({name: each for name, each in value.items() if name != "dropped"})[1]
        return tr("left out: {why}", why=str(value["dropped"])), words
    if isinstance(value.get("messages"), list):
        turns = [each for each in value["messages"] if isinstance(each, dict)]
        words = "  ·  ".join(f"{each.get('role', '')}: {each.get('content', '')}" for each in turns)
        return tr("conversation"), " ".join(words.split())
    words = " ".join(str(value.get("text", "")).split())
    name = str(value.get("picture") or value.get("image") or "")
    return (Path(name).name[-24:] if name else tr("text")), words


class RemoveDialog(QDialog):
    """Asks before a data set is deleted for good."""

    def __init__(self, parent: QWidget, dataset: Dataset) -> None:
        super().__init__(parent)
        self.setObjectName("remove_dataset")
        self.setWindowTitle(tr("Delete a data set"))
        self.setMinimumWidth(420)
        rows = sum(split.rows for split in dataset.splits.values())
        size = sum(split.bytes for split in dataset.splits.values())
        around = QVBoxLayout(self)
        around.setContentsMargins(20, 16, 20, 16)
        around.setSpacing(8)
        around.addWidget(Label(tr("Delete “{name}” for good?", name=shown(dataset.name, 60)), "title", wrap=True))
        around.addWidget(
            Label(
                one_or_many(rows, "{n} row", "{n} rows") + f", {size_of(size)}. "
                + tr("This cannot be undone. The files it was made of, and models that learnt from it, stay."),
                "soft", wrap=True,
            )
        )  # fmt: skip
        keep = Button(tr("Keep it"), clicked=self.reject)
        keep.setObjectName("keep")
        gone = Button(tr("Delete it"), clicked=self.accept)
        gone.setObjectName("delete")
        around.addSpacing(8)
        around.addLayout(row(None, keep, gone))
        keep.setFocus()


class DatasetsTable(Table):
    """The data sets that are there, newest first.

    Signals:
        opened(Dataset): chosen by Enter or a double click. remove(Dataset): Delete was pressed.
    """

    opened = Signal(object)
    remove = Signal(object)

    def __init__(self, desk: Desk) -> None:
        super().__init__(tr("Data sets"), "datasets", sortable=False)
        self._desk = desk
        self.doubleClicked.connect(lambda _: self._open())
        desk.datasets_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        heads = (tr("Name"), tr("Rows"), tr("What"), tr("Size"), tr("Made"))
        rows: list[tuple[Cell, ...]] = [
            (
                each.name, sum(split.rows for split in each.splits.values()), shape_said(each.shape),
                size_of(sum(split.bytes for split in each.splits.values())), each.created[:10],
            )
            for each in self._desk.datasets
        ]  # fmt: skip
        self.put(heads, rows)

    def current(self) -> Dataset | None:
        at = self.chosen()
        return self._desk.datasets[at] if 0 <= at < len(self._desk.datasets) else None

    def _open(self) -> None:
        if (found := self.current()) is not None:
            self.opened.emit(found)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        found = self.current()
        if found is not None and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.opened.emit(found)
        elif found is not None and event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self.remove.emit(found)
        else:
            super().keyPressEvent(event)


class DataPage(Page):
    """The middle of the tab for data sets.

    Args:
        values: the form's values, or None while they are not complete.

    Signals:
        train(Dataset): it is to be learnt from. columns(list): a look at the files has found these.
        reveal(str): a folder is to be opened.
    """

    train = Signal(object)
    columns = Signal(list)
    reveal = Signal(str)

    def __init__(self, desk: Desk, empty: QWidget, values: Callable[[], dict[str, Any] | None]) -> None:
        super().__init__(desk)
        self._values = values
        self.dataset: Dataset | None = None
        self._looking = ""
        self.empty = empty
        self.table = DatasetsTable(desk)
        self.table.opened.connect(self.show_dataset)
        self.table.remove.connect(self.ask_to_remove)
        self.there = Section(tr("Data sets that are there"), self.table)
        self.back_button = Button(tr("All data sets"), role="outline", clicked=self.home)
        self.back_button.setObjectName("data_home")
        self.title = Label("", "title", elide=True)
        self.status = Label("", "soft", wrap=True)
        self.notice = Notice()
        self.looking = Label(tr("Looking at the files …"), "soft")
        self.train_button = Button(tr("Train on this"), role="primary", clicked=self._train)
        self.train_button.setObjectName("data_train")
        self.folder_button = Button(tr("Open folder"), role="outline", clicked=self._reveal)
        self.folder_button.setObjectName("data_folder")
        self.remove_button = Button(tr("Delete …"), role="outline", clicked=lambda: self.ask_to_remove(self.dataset))
        self.remove_button.setObjectName("data_remove")
        self.rows = Table(tr("First rows"), "first_rows", sortable=False, highest=14)
        self.files = Table(tr("Files"), "files", sortable=False, highest=6)
        self.splits = Table(tr("Parts"), "parts", sortable=False)
        self.dropped = Table(tr("Left out"), "dropped", highest=8)
        self.lengths = Bars(tr("Lengths of the rows, in characters"), "lengths")
        self.languages = Bars(tr("Languages"), "languages")
        self.balance = Table(tr("Groups"), "balance", sortable=False)
        self.beside = Table(tr("Words beside them"), "beside", sortable=False)
        self.notes = Label("", "soft", wrap=True)
        self.pictures = QScrollArea()
        self.pictures.setObjectName("data_pictures")
        self.pictures.setAccessibleName(tr("Pictures with their captions"))
        self.pictures.setWidgetResizable(True)
        self.pictures.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.pictures.setFixedHeight(SIDE + 40)
        self.sections = {
            "splits": Section(tr("Parts"), self.splits), "files": Section(tr("Files"), self.files),
            "rows": Section(tr("First rows"), self.rows),
            "pictures": Section(tr("Pictures"), self.pictures),
            "lengths": Section(tr("Lengths, in characters"), self.lengths),
            "languages": Section(tr("Languages"), self.languages), "dropped": Section(tr("Left out"), self.dropped),
            "balance": Section(
                tr("Groups and balance"),
                Label(tr("How often the words of each group come. Counts are of words as written."), "soft", wrap=True),
                self.balance, self.beside,
            ),
        }  # fmt: skip
        self.area, inside = scrolling("data_scroll", tr("Data set"))
        inside.addWidget(self.empty, 2)
        inside.addWidget(self.there)
        self.head = QWidget()
        above = QVBoxLayout(self.head)
        above.setContentsMargins(0, 0, 0, 0)
        above.setSpacing(6)
        above.addLayout(heading(self.title, self.train_button, self.back_button))
        above.addWidget(self.status)
        above.addLayout(row(self.folder_button, self.remove_button, None))
        inside.addWidget(self.looking)
        inside.addWidget(self.head)
        inside.addWidget(self.notice)
        inside.addWidget(self.notes)
        for section in self.sections.values():
            inside.addWidget(section)
        inside.addStretch(1)
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        around.addWidget(self.area)
        self._soon = QTimer(self, singleShot=True, interval=LOOK_AFTER)
        self._soon.timeout.connect(self._look)
        desk.track.changed.connect(self._tell)
        desk.datasets_changed.connect(self._sets_changed)
        self.home()

    # -- what is there ------------------------------------------------------------------------------------------------

    def home(self) -> None:
        """Show all data sets, and what to do first."""
        self.work = self.dataset = None
        self._round += 1
        self._only()
        self.empty.show()
        self.there.setVisible(bool(self.desk.datasets))

    def clear(self) -> None:
        self.home()

    def _sets_changed(self) -> None:
        if not self.empty.isHidden():
            self.there.setVisible(bool(self.desk.datasets))
        if self.dataset is not None and all(each.id != self.dataset.id for each in self.desk.datasets):
            self.home()

    def _only(self, *sections: str) -> None:
        """Show these sections and nothing else."""
        for name, section in self.sections.items():
            section.setVisible(name in sections)
        for part in (self.empty, self.there, self.notes, self.notice, self.looking):
            part.hide()
        self.head.setVisible(bool(sections))
        for button in (self.train_button, self.folder_button, self.remove_button):
            button.setVisible(self.dataset is not None)

    # -- a look at files ----------------------------------------------------------------------------------------------

    def touch(self) -> None:
        """The form has changed: look at its files in a moment, unless something else is shown."""
        if not self.at_work():
            self._soon.start()

    def _look(self) -> None:
        session, given = self.desk.session, self._values()
        if session is None or given is None or self.at_work():
            return
        self._drop()
        self._round += 1
        now = self._round

        def happened(event: Event) -> None:
            self.desk.bridge.call(lambda: self._looked(now, event))

        def begun(aside: str) -> None:
            self._looking = aside

        def refused(problem: Problem) -> None:
            if now == self._round:
                self._refuse(problem)

        if self.work is None and self.dataset is None:
            self.looking.show()
        values = {**given, "preview_only": True}
        self.desk.tasks.write(self, lambda: session.aside("dataset", values, happened), begun, refused)

    def _drop(self) -> None:
        session, looking, self._looking = self.desk.session, self._looking, ""
        if session is not None and looking:
            self.desk.tasks.read(self, lambda: session.drop(looking), lambda _: None)

    def _looked(self, now: int, event: Event) -> None:
        if now != self._round:
            return
        if isinstance(event, Shown):
            self._looking = ""
            try:
                self.show_preview(msgspec.json.decode(event.data, type=Preview))
            except msgspec.DecodeError as error:
                self._refuse(Problem("not_read", tr("The first rows cannot be shown."), detail=str(error)))
        elif isinstance(event, (Failed, Cancelled)):
            self._looking = ""
            if isinstance(event, Failed):
                self._refuse(event.problem)

    def _refuse(self, problem: Problem) -> None:
        self.dataset = self.work = None
        self._only()
        self.empty.show()
        self.there.setVisible(bool(self.desk.datasets))
        self.notice.problem(problem)

    def show_preview(self, found: Preview) -> None:
        """Show what a look at the files has found."""
        self.work = self.dataset = None
        self._only("files", "rows")
        self.title.setText(tr("A first look"))
        files = (
            one_or_many(found.count, "{n} file", "{n} files")
            if not found.more
            else tr("more than {n} files", n=found.count)
        )
        facts = (files, size_of(found.bytes), shape_said(found.shape))
        self.status.setText(" · ".join(fact for fact in facts if fact))
        heads = (tr("File"), tr("What it is"), tr("Columns"), tr("Encoding"), tr("Size"))
        told = [(f.name, f.kind, f.mapping or ", ".join(f.columns), f.encoding, size_of(f.bytes)) for f in found.files]
        full = [at for at in range(len(heads)) if at == 0 or any(line[at] for line in told)]
        self.files.put([heads[at] for at in full], [[line[at] for at in full] for line in told])
        self._put_rows(found.rows)
        if not found.rows:  # an empty table would say nothing
            self.sections["rows"].hide()
            self.notice.tell(
                tr("No rows were found in it."),
                tr("Is it empty, or is the format another one? Format and columns can be set on the left."),
            )
        self._put_pictures([each for each in found.rows if "picture" in each], None)
        notes = [*found.notes, *(f"{tr('Left out')}: {why} ({n:,})" for why, n in found.left_out.items())]
        self.notes.setText("\n".join(notes))
        self.notes.setVisible(bool(notes))
        self.columns.emit(list(found.columns))

    def _put_pictures(self, rows: Any, folder: Path | None) -> None:
        """The pictures of some rows, side by side with their captions."""
        holder = QWidget()
        across = QHBoxLayout(holder)
        across.setContentsMargins(0, 0, 0, 0)
        across.setSpacing(8)
        count = 0
        for each in rows:
            where = each.get("picture") or each.get("image") if isinstance(each, dict) else None
            if not isinstance(where, str) or count >= PICTURES:
                continue
            path = Path(where) if folder is None else folder / where
            framed = Framed(str(each.get("text", "")), None, tr("Picture"))
            across.addWidget(framed)
            self._load(path, framed)
            count += 1
        across.addStretch(1)
        self.pictures.setWidget(holder)
        self.sections["pictures"].setVisible(bool(count))

    def _load(self, path: Path, framed: Framed) -> None:
        def done(image: QImage) -> None:
            if not image.isNull():
                framed.put(image)

        self.desk.tasks.picture(framed, lambda: small_picture(path, 2 * SIDE), done)

    def _put_rows(self, rows: Any) -> None:
        told = [row_said(each) for each in rows if isinstance(each, dict)]
        self.rows.put(
            (tr("Row"), tr("Words")), [(what, words[:SAMPLE]) for what, words in told],
            tips={(at, 1): words[:2000] for at, (_, words) in enumerate(told)},
        )  # fmt: skip

    # -- making one ---------------------------------------------------------------------------------------------------

    def begun(self, job_id: str) -> None:
        self._soon.stop()
        self._drop()
        self.dataset = None
        self._only("splits")
        self.sections["splits"].hide()
        job = self.desk.track.jobs.get(job_id)
        self.title.setText(job.title if job is not None else "")
        self._tell()

    def _tell(self) -> None:
        job = self.desk.track.jobs.get(self.job)
        if job is not None and not job.state.ended and not self.aside and self.work is None and self.dataset is None:
            if not self.title.whole():
                self.title.setText(job.title)
            self.status.setText(job.status())

    def ended(self, event: EndEvent) -> None:
        if self.aside or self.work is not None:
            return
        if isinstance(event, Failed):
            self._refuse(event.problem)
        elif not event.works:
            self.home()

    # -- one that was made --------------------------------------------------------------------------------------------

    def display(self, work: Work) -> None:
        self._soon.stop()
        self._drop()
        self.read(work, Dataset, self._told)

    def _told(self, dataset: Dataset) -> None:
        work = self.work
        self.show_dataset(dataset)
        self.work = work

    def show_dataset(self, dataset: Dataset) -> None:
        """Show all that is known of a data set."""
        self.work, self.dataset = None, dataset
        there = self.desk.session is not None and any(each.id == dataset.id for each in self.desk.datasets)
        bars = [name for name in ("lengths", "languages") if getattr(dataset, name)]
        groups = dataset.balance.get("groups") or []
        more = [name for name, full in (("dropped", dataset.dropped), ("balance", groups)) if full]
        self._only("splits", "rows", *bars, *more)
        for button in (self.train_button, self.folder_button, self.remove_button):
            button.setEnabled(there)
        self.title.setText(shown(dataset.name, 100))
        rows = sum(split.rows for split in dataset.splits.values())
        words = [one_or_many(rows, "{n} row", "{n} rows"), shape_said(dataset.shape), dataset.id]
        if not there:
            words.append(tr("it was deleted; its description stays"))
        self.status.setText(" · ".join(words))
        names = {"train": tr("to learn from"), "valid": tr("for validation"), "test": tr("for testing")}
        counted = any(split.tokens for split in dataset.splits.values())
        self.splits.put(
            (tr("Part"), tr("Rows"), tr("Words"), *((tr("Tokens"),) if counted else ()), tr("Size")),
            [
                (names.get(name, name), s.rows, s.words, *((s.tokens,) if counted else ()), size_of(s.bytes))
                for name, s in dataset.splits.items()
            ],
        )
        dropped: list[tuple[Cell, ...]] = [(why, n) for why, n in sorted(dataset.dropped.items(), key=_most)]
        self.dropped.put((tr("Why"), tr("Rows")), dropped)
        lengths = sorted(dataset.lengths.items(), key=lambda each: int(each[0]) if each[0].isdigit() else 1 << 60)
        self.lengths.put([Bar(_up_to(end), count, f"{count:,}") for end, count in lengths])
        languages = sorted(dataset.languages.items(), key=_most)[:10]
        self.languages.put([Bar(name, count, f"{count:,}") for name, count in languages])
        self._put_balance(dataset.balance)
        self._put_rows(dataset.samples)
        session = self.desk.session
        folder = session.dataset_folder(dataset.id) if there and session is not None else None
        self._put_pictures(dataset.samples if folder is not None else (), folder)
        self.notes.setText("\n".join(dataset.notes))
        self.notes.setVisible(bool(dataset.notes))

    def _put_balance(self, balance: dict[str, Any]) -> None:
        groups = [each for each in balance.get("groups") or [] if isinstance(each, dict)]
        after = balance.get("with_counterparts") or {}
        later = {each.get("name"): each for each in after.get("groups") or [] if isinstance(each, dict)}
        heads = [tr("Group"), tr("Times"), tr("Per million words"), tr("In rows"), tr("Most often")]
        rows: list[list[Cell]] = []
        for each in groups:
            words = each.get("words") or {}
            often = ", ".join(f"{word} {count:,}" for word, count in list(words.items())[:8])
            made: list[Cell] = [each.get("name"), each.get("count"), each.get("per_million"), each.get("rows"), often]
            if later:
                made.insert(2, later.get(each.get("name"), {}).get("count"))
            rows.append(made)
        if later:
            heads.insert(2, tr("With counterparts"))
        self.balance.put(heads, rows)
        beside = [
            (each.get("name"), word.get("word"), word.get("count"), word.get("others"), word.get("z"))
            for each in groups for word in (each.get("beside") or [])[:8]
        ]  # fmt: skip
        self.beside.put(
            (tr("Group"), tr("Word beside it"), tr("Times"), tr("Beside others"), tr("How clear (z)")), beside
        )
        self.beside.setVisible(bool(beside))

    # -- what can be done with it -------------------------------------------------------------------------------------

    def _train(self) -> None:
        if self.dataset is not None:
            self.train.emit(self.dataset)

    def _reveal(self) -> None:
        session, dataset = self.desk.session, self.dataset
        if session is not None and dataset is not None:
            self.reveal.emit(str(session.dataset_folder(dataset.id)))

    def ask_to_remove(self, dataset: Dataset | None) -> None:
        """Delete a data set, after asking: that cannot be undone."""
        session = self.desk.session
        if session is None or dataset is None:
            return
        asked = RemoveDialog(self.window(), dataset)
        asked.setModal(True)

        def remove() -> None:
            name = shown(dataset.name, 60)
            self.desk.tasks.write(
                self, lambda: session.remove_dataset(dataset.id),
                lambda _: self.desk.told.emit(tr("“{name}” was deleted.", name=name), "", None), self.problem.emit,
            )  # fmt: skip

        asked.accepted.connect(remove)
        asked.finished.connect(asked.deleteLater)
        asked.open()


def _most(each: tuple[str, int]) -> int:
    return -each[1]


def _up_to(end: str) -> str:
    return tr("up to {n}", n=f"{int(end):,}") if end.isdigit() else end
