"""Saving several works at once: a folder, a pattern for their names, a format. Each is written by a job of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from PySide6.QtCore import QStandardPaths, Qt
from PySide6.QtWidgets import QComboBox, QDialog, QFileDialog, QLineEdit, QVBoxLayout, QWidget

from studio.core.jobs import Job
from studio.core.problems import Problem, StudioError
from studio.core.recipes import ExportRecipe, fields
from studio.core.works import Work
from studio.ui.desk import Desk
from studio.ui.fields import FieldRow, editor_for
from studio.ui.strings import one_or_many, tr
from studio.ui.widgets import Button, Label, row

USUAL = "{title}-{n}"
PLACES = "{title} {seed} {model} {date} {time} {n} {id} {width} {height}"


class SeveralDialog(QDialog):
    """Asks how some works of one kind are to be written."""

    def __init__(self, parent: QWidget, desk: Desk, works: list[Work]) -> None:
        super().__init__(parent)
        self.setObjectName("several_dialog")
        self.setWindowTitle(one_or_many(len(works), "Save one work", "Save {n} works"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setMinimumWidth(480)
        self._desk, self._works = desk, works
        session = desk.session
        assert session is not None
        self.format = QComboBox()
        self.format.setObjectName("format")
        self.format.setAccessibleName(tr("Format"))
        for extension, title in session.formats(works[0].kind):
            self.format.addItem(f"{title}  ({extension})", extension)
        usual = desk.state.export_format.get(works[0].kind)
        self.format.setCurrentIndex(max(0, self.format.findData(usual)))
        folder = desk.state.folder
        if not folder or not os.path.isdir(folder):
            folder = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.DocumentsLocation)
            folder = folder if os.path.isdir(folder) else str(Path.home())
        self.folder = QLineEdit(folder)
        self.folder.setObjectName("folder")
        self.folder.setAccessibleName(tr("Folder"))
        browse = Button(tr("Browse …"), clicked=self._browse)
        browse.setObjectName("browse")
        self.pattern = QLineEdit(str(desk.state.forms.get("several", {}).get("pattern", USUAL)))
        self.pattern.setObjectName("pattern")
        self.pattern.setAccessibleName(tr("Names"))
        self.example = Label("", "soft", elide=True)
        self.rows = {name: self._row(name) for name in ("quality", "metadata")}
        self.rows["quality"].put(desk.state.export_quality)
        self.problem = Label(role="problem", wrap=True)
        self.save = Button(tr("Save"), role="primary", clicked=self._save)
        self.save.setObjectName("save")
        self.save.setDefault(True)
        cancel = Button(tr("Cancel"), clicked=self.reject)
        around = QVBoxLayout(self)
        around.setContentsMargins(20, 16, 20, 16)
        around.setSpacing(8)
        around.addWidget(Label(tr("Folder"), "soft"))
        across = row(self.folder)
        across.addWidget(browse)
        around.addLayout(across)
        around.addWidget(Label(tr("Names, with any of {places}", places=PLACES), "soft", wrap=True))
        around.addWidget(self.pattern)
        around.addWidget(self.example)
        around.addWidget(Label(tr("Format"), "soft"))
        around.addWidget(self.format)
        for made in self.rows.values():
            around.addWidget(made)
        around.addWidget(self.problem)
        around.addStretch(1)
        around.addLayout(row(None, cancel, self.save))
        self.pattern.textChanged.connect(lambda _: self._show())
        self.format.currentIndexChanged.connect(lambda _: self._show())
        self._show()
        self.pattern.setFocus()

    @staticmethod
    def _row(name: str) -> FieldRow:
        declared = next(f for f in fields(ExportRecipe) if f.name == name)
        editor = editor_for(declared)
        assert editor is not None
        return FieldRow(declared, editor)

    def _browse(self) -> None:
        found = QFileDialog.getExistingDirectory(self, tr("Folder"), self.folder.text())
        if found:
            self.folder.setText(found)

    def targets(self) -> list[Path]:
        """Where each work goes: names that would be the same get a number. Raises BadRecipe."""
        session, folder = self._desk.session, Path(os.path.expanduser(self.folder.text().strip() or "."))
        assert session is not None
        found: list[Path] = []
        taken: set[str] = set()
        for number, work in enumerate(self._works, 1):
            name = session.name_for(self.pattern.text(), work, number, self.format.currentData())
            path, again = folder / name, 1
            while path.name.casefold() in taken or path.exists():
                again += 1
                path = folder / f"{Path(name).stem} ({again}){Path(name).suffix}"
            taken.add(path.name.casefold())
            found.append(path)
        return found

    def _show(self) -> None:
        session = self._desk.session
        self.rows["quality"].setVisible(session is not None and session.uses_quality(self.format.currentData()))
        try:
            names = [path.name for path in self.targets()[:3]]
        except StudioError as error:
            self.example.setText("")
            self.problem.setText(f"{error.problem.sentence} {error.problem.hint}".strip())
            self.save.setEnabled(False)
            return
        self.problem.setText("")
        self.save.setEnabled(True)
        self.example.setText(", ".join(names) + (" …" if len(self._works) > 3 else ""))

    def _save(self) -> None:
        session = self._desk.session
        if session is None:
            return
        folder = os.path.expanduser(self.folder.text().strip())
        if not os.path.isdir(folder):
            self.problem.setText(tr("There is no folder “{name}”.", name=folder))
            return
        targets = self.targets()
        more = {"quality": self.rows["quality"].value(), "metadata": self.rows["metadata"].value()}
        self.save.setEnabled(False)

        def export() -> list[Job]:
            pairs = zip(self._works, targets, strict=True)
            return [session.export(work.id, path, **more) for work, path in pairs]

        def refused(problem: Problem) -> None:
            self.problem.setText(f"{problem.sentence} {problem.hint}".strip())
            self.save.setEnabled(True)

        self._desk.tasks.write(self, export, self._queued, refused)

    def _queued(self, jobs: list[Any]) -> None:
        for job in jobs:
            self._desk.track.put(job)
        state = self._desk.state
        state.folder, state.export_quality = self.folder.text(), self.rows["quality"].value()
        state.forms["several"] = {"pattern": self.pattern.text()}
        state.export_format[self._works[0].kind] = self.format.currentData()
        self._desk.keeper.touch()
        self.accept()
