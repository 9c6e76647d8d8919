"""Editors of what trainings and evaluations name: files and folders, data sets, methods by their usual names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QDoubleValidator, QStandardItemModel
from PySide6.QtWidgets import QComboBox, QFileDialog, QLineEdit, QVBoxLayout, QWidget

from studio.core.declare import Field
from studio.core.learning import Dataset
from studio.core.text import shown
from studio.ui.desk import Desk
from studio.ui.fields import ChoiceEditor, Editor, OptionalNumber, PlainEdit, described
from studio.ui.strings import as_tip, one_or_many, tr
from studio.ui.widgets import Button, CalmWheel, ToolButton, row

MAKE = "\0make"


def local_files(data: Any) -> list[Path]:
    """The files of the disk in what is dragged or on the clipboard."""
    return [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]


class _TakesFiles(Editor):
    """An editor that files can be dropped on."""

    compact = False

    def __init__(self, field: Field, desk: Desk) -> None:
        super().__init__(field)
        self._desk = desk
        self.setAcceptDrops(True)

    def take(self, paths: list[Path]) -> None:
        raise NotImplementedError

    def ask(self, mode: QFileDialog.FileMode) -> None:
        """Let the user choose on the disk."""
        dialog = QFileDialog(self.window(), tr(self.field.title), self._desk.state.folder)
        dialog.setFileMode(mode)
        if dialog.exec():
            self.take([Path(each) for each in dialog.selectedFiles()])

    def dragEnterEvent(self, event: Any) -> None:
        if local_files(event.mimeData()):
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:
        if files := local_files(event.mimeData()):
            self.take(files)
            event.acceptProposedAction()


class PathEditor(_TakesFiles):
    """A file or a folder, typed, chosen or dropped."""

    def __init__(self, field: Field, desk: Desk, *, folder: bool) -> None:
        super().__init__(field, desk)
        self._line = QLineEdit()
        self.introduce(self._line)
        self._line.textEdited.connect(lambda _: self.changed.emit())
        mode = QFileDialog.FileMode.Directory if folder else QFileDialog.FileMode.ExistingFile
        name = tr("Choose a folder") if folder else tr("Choose a file")
        self._browse = ToolButton(name, "folder-open", clicked=lambda: self.ask(mode))
        self._browse.setObjectName(f"{field.name}_browse")
        self.setLayout(row(self._line, self._browse, spacing=4))

    def take(self, paths: list[Path]) -> None:
        self.put(str(paths[0]))
        self.changed.emit()

    def value(self) -> Any:
        return self._line.text().strip()

    def put(self, value: Any) -> None:
        self._line.setText(value or "")

    def target(self) -> QWidget:
        return self._line


class SourcesEditor(_TakesFiles):
    """Files and folders, one in each line."""

    def __init__(self, field: Field, desk: Desk) -> None:
        super().__init__(field, desk)
        self._edit = PlainEdit(tr(field.title))
        self._edit.set_lines(2, 6)
        self._edit.setObjectName(field.name)
        self._edit.setPlaceholderText(tr("one in each line, or drop them here"))
        self._edit.setToolTip(as_tip(described(field)))
        self._edit.textChanged.connect(self._typed)
        self._quiet = False
        files, folder = QFileDialog.FileMode.ExistingFiles, QFileDialog.FileMode.Directory
        self.add_files = Button(tr("Files …"), icon_name="file-plus", clicked=lambda: self.ask(files))
        self.add_folder = Button(tr("Folder …"), icon_name="folder-plus", clicked=lambda: self.ask(folder))
        self.add_files.setObjectName(f"{field.name}_files")
        self.add_folder.setObjectName(f"{field.name}_folder")
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        around.setSpacing(4)
        around.addWidget(self._edit)
        around.addLayout(row(self.add_files, self.add_folder, None, spacing=4))

    def _typed(self) -> None:
        if not self._quiet:
            self.changed.emit()

    def take(self, paths: list[Path]) -> None:
        """Add files and folders; what is there already is not added twice."""
        self.put((*self.value(), *(str(path) for path in paths if str(path) not in self.value())))
        self.changed.emit()

    def value(self) -> Any:
        return tuple(text.strip() for text in self._edit.toPlainText().split("\n") if text.strip())

    def put(self, value: Any) -> None:
        self._quiet = True
        self._edit.setPlainText("\n".join(value or ()))
        self._quiet = False

    def complaint(self) -> str:
        most = int(self.field.high or 256)
        return tr("At most {n} files and folders.", n=most) if len(self.value()) > most else ""

    def target(self) -> QWidget:
        return self._edit


class TitledChoice(ChoiceEditor):
    """One of a few words, each shown by a title of its own; some may be greyed out with a reason."""

    def __init__(self, field: Field, titles: Sequence[tuple[str, str]]) -> None:
        super().__init__(field, titles)
        self._box.setMinimumContentsLength(6)
        self._box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)

    def refuse(self, value: str, reason: str) -> None:
        """Grey a choice out; an empty reason makes it usable."""
        at, model = self._box.findData(value), self._box.model()
        if at >= 0 and isinstance(model, QStandardItemModel):
            model.item(at).setEnabled(not reason)
            self._box.setItemData(at, as_tip(reason), Qt.ItemDataRole.ToolTipRole)

    def reason(self, value: str) -> str:
        """Whether a choice is greyed out."""
        at, model = self._box.findData(value), self._box.model()
        usable = at < 0 or not isinstance(model, QStandardItemModel) or model.item(at).isEnabled()
        return "" if usable else str(self._box.itemData(at, Qt.ItemDataRole.ToolTipRole) or "")


class ColumnEditor(Editor):
    """The name of a column, typed or taken from those that a look at the files has found."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self._box = QComboBox()
        self._box.setEditable(True)
        self.introduce(self._box)
        self._box.setMinimumContentsLength(6)
        self._box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._box.installEventFilter(CalmWheel(self))
        self._box.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        line = self._box.lineEdit()
        assert line is not None
        self._line = line
        line.setPlaceholderText(tr("found by itself"))
        line.textEdited.connect(lambda _: self.changed.emit())
        self._box.activated.connect(lambda _: self.changed.emit())
        self.setLayout(row(self._box))

    def offer(self, columns: Sequence[str]) -> None:
        """Columns to choose from."""
        kept = self.value()
        self._box.clear()
        self._box.addItems(["", *columns])
        self.put(kept)

    def value(self) -> Any:
        return self._line.text()

    def put(self, value: Any) -> None:
        self._box.setEditText(value or "")

    def target(self) -> QWidget:
        return self._box


class PlainNumber(OptionalNumber):
    """A number of any size; empty is 0. Without a slider, which would say nothing."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        if field.type == "float":
            self._line.setValidator(QDoubleValidator(self))
        self._line.setPlaceholderText("0")

    def value(self) -> Any:
        value = super().value()
        return (0.0 if self.field.type == "float" else 0) if value is None else value

    def put(self, value: Any) -> None:
        super().put(None if not value else f"{value:g}" if isinstance(value, float) else value)

    def set_default(self, value: Any) -> None:
        pass


class DatasetEditor(Editor):
    """One of the data sets that are there.

    Args:
        fits: which of them can be used here. optional: none is a choice.

    Signals:
        wanted: a new one is to be made.
    """

    wanted = Signal()

    def __init__(self, field: Field, desk: Desk, fits: Callable[[Dataset], bool], *, optional: bool = False) -> None:
        super().__init__(field)
        self._desk, self._fits, self._optional, self._wanted = desk, fits, optional, ""
        self._box = QComboBox()
        self.introduce(self._box)
        self._box.setMinimumContentsLength(8)
        self._box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._box.installEventFilter(CalmWheel(self))
        self._box.activated.connect(self._picked)
        self.setLayout(row(self._box))
        desk.datasets_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the data sets that are there now."""
        self._box.clear()
        if self._optional:
            self._box.addItem(tr("none"), "")
        for each in self._desk.datasets:
            if self._fits(each):
                self._box.addItem(shown(each.name, 60), each.id)
                self._box.setItemData(self._box.count() - 1, as_tip(about(each)), Qt.ItemDataRole.ToolTipRole)
        if self._wanted and self._box.findData(self._chosen()) < 0:
            self._box.addItem(shown(self._wanted, 60), self._wanted)
        if self._box.count():
            self._box.insertSeparator(self._box.count())
        self._box.addItem(tr("Make a data set …"), MAKE)
        at = self._box.findData(self._chosen())
        self._box.setCurrentIndex(at if at >= 0 else -1)

    def _chosen(self) -> str:
        """The id of what is meant: by default the newest."""
        fitting = [each for each in self._desk.datasets if self._fits(each)]
        named = next((each.id for each in fitting if self._wanted in (each.id, each.name)), self._wanted)
        return named or ("" if self._optional or not fitting else fitting[0].id)

    def _picked(self, _: int) -> None:
        chosen = self._box.currentData()
        if chosen == MAKE:
            self.refresh()
            self.wanted.emit()
            return
        self._wanted = chosen or ""
        self.changed.emit()

    def value(self) -> Any:
        return self._chosen() or self.field.default

    def put(self, value: Any) -> None:
        self._wanted = str(value or "")
        self.refresh()

    def complaint(self) -> str:
        if not self._wanted or not self._desk.datasets_known:
            return ""
        there = any(self._wanted in (each.id, each.name) for each in self._desk.datasets)
        return "" if there else tr("“{name}” is not there any more.", name=shown(self._wanted, 60))

    def target(self) -> QWidget:
        return self._box


def about(dataset: Dataset) -> str:
    """A few lines on a data set."""
    rows = sum(split.rows for split in dataset.splits.values())
    shapes = {"text": tr("texts"), "chat": tr("conversations"), "captions": tr("captioned pictures")}
    lines = [dataset.name, f"{one_or_many(rows, '{n} row', '{n} rows')} · {shapes[dataset.shape]}", dataset.id]
    return "\n".join((*lines, *dataset.notes[:4]))
