"""Saving a work as a file: name, format and quality in one small dialog, written by an export job."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import shiboken6
from PySide6.QtCore import QSignalBlocker, QStandardPaths, Qt, QTimer, Signal
from PySide6.QtWidgets import QComboBox, QDialog, QFileDialog, QLineEdit, QVBoxLayout, QWidget

from studio.core.events import Cancelled, Event, Failed, Shown
from studio.core.recipes import ExportRecipe, fields
from studio.core.text import file_stem
from studio.core.works import Work
from studio.ui.desk import Desk
from studio.ui.fields import FieldRow, editor_for
from studio.ui.strings import size_of, tr
from studio.ui.widgets import Button, Label, row, then

MEASURE_AFTER = 250  # ms after the last change


class ExportDialog(QDialog):
    """Asks where a work is to be written, and in which format.

    Signals:
        wanted(Path, dict): file, and the other values of the recipe: quality, metadata, overwrite.
    """

    wanted = Signal(object, object)

    def __init__(self, parent: QWidget, desk: Desk, work: Work) -> None:
        super().__init__(parent)
        self.setObjectName("export_dialog")
        self.setWindowTitle(tr("Save as"))
        self.setMinimumWidth(460)
        self._desk, self._work = desk, work
        session = desk.session
        assert session is not None
        formats = session.formats(work.kind)
        usual = desk.state.export_format.get(work.kind, formats[0][0])
        self.format = QComboBox()
        self.format.setObjectName("format")
        self.format.setAccessibleName(tr("Format"))
        for extension, title in formats:
            self.format.addItem(f"{title}  ({extension})", extension)
        self.format.setCurrentIndex(max(0, self.format.findData(usual)))
        folder = desk.state.folder
        if not folder or not os.path.isdir(folder):
            folder = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.DocumentsLocation)
            folder = folder if os.path.isdir(folder) else str(Path.home())
        self.file = QLineEdit(str(Path(folder) / (file_stem(work.title) + self.format.currentData())))
        self.file.setObjectName("file")
        self.file.setAccessibleName(tr("File"))
        self.file.textEdited.connect(self._typed)
        self.browse = Button(tr("Browse …"), clicked=self._browse)
        self.browse.setObjectName("browse")
        self.quality, self.metadata = self._row("quality"), self._row("metadata")
        self.quality.put(desk.state.export_quality)
        self.size_label = Label("", "soft")
        self.size_label.setObjectName("size")
        self._measure_soon = QTimer(self, singleShot=True, interval=MEASURE_AFTER)
        self._measure_soon.timeout.connect(self._measure)
        for made in (self.quality, self.metadata):
            made.changed.connect(lambda _: self._measure_soon.start())
        self._measuring, self._round, self._measured_for = "", 0, ""
        self.problem = Label(role="problem", wrap=True)
        self.save = Button(tr("Save"), role="primary", clicked=self._save)
        self.save.setObjectName("save")
        self.save.setDefault(True)
        self.cancel = Button(tr("Cancel"), clicked=self.reject)
        self.cancel.setObjectName("cancel")
        around = QVBoxLayout(self)
        around.setContentsMargins(20, 16, 20, 16)
        around.setSpacing(10)
        around.addWidget(Label(tr("File"), "soft"))
        across = row(self.file)
        across.addWidget(self.browse)
        around.addLayout(across)
        around.addWidget(Label(tr("Format"), "soft"))
        around.addWidget(self.format)
        around.addWidget(self.quality)
        around.addWidget(self.metadata)
        around.addWidget(self.size_label)
        around.addWidget(self.problem)
        around.addStretch(1)
        around.addLayout(row(None, self.cancel, self.save))
        self.format.currentIndexChanged.connect(self._formatted)
        self._overwrite = ""
        self._asked = ("", 0)  # folder and quality
        self._formatted()
        self.file.setFocus()
        stem = len(self.file.text()) - len(Path(self.file.text()).name)
        self.file.setSelection(stem, len(Path(self.file.text()).stem))

    @staticmethod
    def _row(name: str) -> FieldRow:
        declared = next(f for f in fields(ExportRecipe) if f.name == name)
        editor = editor_for(declared)
        assert editor is not None
        return FieldRow(declared, editor)

    # -- the resulting size -------------------------------------------------------------------------------------------

    def _measure(self) -> None:
        """Ask how large the file will be; pictures only."""
        session, work = self._desk.session, self._work
        self._drop()
        if session is None or work.kind != "image":
            return
        self.size_label.setText(tr("Size: …"))
        turn = self._round
        given = {
            "work": work.id, "to": self.format.currentData(), "quality": self.quality.value(),
            "metadata": self.metadata.value(),
        }  # fmt: skip

        def happened(event: Event) -> None:
            self._desk.bridge.call(lambda: self._measured(turn, event))

        def begun(aside: str) -> None:
            self._measuring = aside if turn == self._round else ""

        self._desk.tasks.read(self, lambda: session.aside("export", given, happened), begun)

    def _measured(self, turn: int, event: Event) -> None:
        if not shiboken6.isValid(self) or turn != self._round:
            return
        if isinstance(event, Shown):
            about = "" if event.meta.get("exact", True) else tr("about") + " "
            self.size_label.setText(tr("Size: {size}", size=f"{about}{size_of(int(event.meta.get('bytes', 0)))}"))
        elif isinstance(event, (Failed, Cancelled)):
            self.size_label.setText("")

    def _drop(self) -> None:
        self._round += 1
        session, running, self._measuring = self._desk.session, self._measuring, ""
        if session is not None and running:
            self._desk.tasks.read(self, lambda: session.drop(running), lambda _: None)

    def done(self, result: int) -> None:
        self._measure_soon.stop()
        self._drop()
        super().done(result)

    # -- choosing -----------------------------------------------------------------------------------------------------

    def _formatted(self) -> None:
        session, extension = self._desk.session, self.format.currentData()
        if session is None:
            return
        path = Path(self.file.text())
        known = {e for e, _ in session.formats(self._work.kind)}
        if path.suffix.lower() != extension and path.name:
            stem = path.with_suffix("") if path.suffix.lower() in known else path
            self.file.setText(f"{stem}{extension}")
        self._typed()

    def _typed(self, *_: object) -> None:
        # a typed ending is the format; the text stays as it is
        session, extension = self._desk.session, os.path.splitext(self.file.text().strip())[1].lower()
        at = self.format.findData(".jpg" if extension == ".jpeg" else extension)
        if at >= 0:
            with QSignalBlocker(self.format):
                self.format.setCurrentIndex(at)
        self.quality.setVisible(session is not None and session.uses_quality(self.format.currentData()))
        if self.format.currentData() != self._measured_for:
            self._measured_for = self.format.currentData()
            self._measure_soon.start()
        self.problem.setText("")
        self._overwrite = ""
        self.save.say(tr("Save"))

    def _browse(self) -> None:
        dialog = QFileDialog(self, tr("Save as"), str(Path(self.file.text()).parent))
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setOption(QFileDialog.Option.DontConfirmOverwrite)  # asked here, in one place
        dialog.selectFile(Path(self.file.text()).name)
        if dialog.exec():
            self.file.setText(dialog.selectedFiles()[0])
            extension = Path(self.file.text()).suffix.lower()
            at = self.format.findData(extension)
            if at >= 0:
                self.format.setCurrentIndex(at)
            self._formatted()

    def _save(self) -> None:
        name = os.path.expanduser(self.file.text().strip())
        if not name:
            self.problem.setText(tr("The file has no name yet."))
            return
        if name and not os.path.splitext(name)[1] and not name.endswith(("/", os.sep)) and not os.path.isdir(name):
            name += self.format.currentData()
        # os.path, unlike Path, answers for names that are too long or may not be looked at
        path = Path(os.path.join(self._desk.state.folder or Path.home(), name))
        if os.path.isfile(path) and not os.path.islink(path) and self._overwrite != str(path):
            # one more press of the same button replaces it: no second window
            self._overwrite = str(path)
            self.problem.setText(tr("“{name}” is there already.", name=path.name))
            self.save.say(tr("Replace it"))
            return
        quality = self.quality.value()
        self._asked = (str(path.parent), quality)
        self.save.setEnabled(False)
        more = {"quality": quality, "metadata": self.metadata.value(), "overwrite": bool(self._overwrite)}
        self.wanted.emit(path, more)

    def agree(self) -> None:
        """It is being written: what was chosen is taken the next time too."""
        state = self._desk.state
        state.folder, state.export_quality = self._asked
        state.export_format[self._work.kind] = self.format.currentData()
        self._desk.keeper.touch()
        self.accept()

    def refuse(self, sentence: str) -> None:
        """It could not be written; the dialog stays open for another name."""
        self.problem.setText(sentence)
        self.save.setEnabled(True)


def ask(parent: QWidget, desk: Desk, work: Work) -> ExportDialog:
    """Open the dialog for a work; the export runs as a job and its end is told."""
    dialog = ExportDialog(parent, desk, work)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)

    def export(path: Path, more: dict[str, Any]) -> None:
        session = desk.session
        if session is not None:
            desk.tasks.write(
                dialog,
                lambda: session.export(work.id, path, **more),
                lambda job: then(lambda: desk.track.put(job), dialog.agree)(),
                lambda problem: dialog.refuse(f"{problem.sentence} {problem.hint}".strip()),
            )

    dialog.wanted.connect(export)
    dialog.open()
    return dialog
