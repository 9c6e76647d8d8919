"""Merging and converting a model that was trained: a small form, and a job of its own."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QDialog, QVBoxLayout, QWidget

from studio.core.cards import ModelCard
from studio.core.jobs import Job
from studio.core.learning import Made
from studio.core.problems import Problem
from studio.core.text import shown
from studio.ui.desk import Desk
from studio.ui.learn.forms import LearnForm
from studio.ui.strings import tr
from studio.ui.widgets import Button, Label, row

KIND = "convert"


class ConvertDialog(QDialog):
    """Asks how a model is to be exported.

    Signals:
        failed(Problem): it could not be queued, and no field is to blame.
    """

    failed = Signal(object)

    def __init__(self, parent: QWidget, desk: Desk, made: Made) -> None:
        super().__init__(parent)
        self.setObjectName("convert_dialog")
        self.setWindowTitle(tr("Export a model"))
        self.setMinimumWidth(460)
        self._desk, self._made = desk, made
        self.form = LearnForm(KIND, desk)
        self.form.refused.connect(self.failed.emit)
        self.save = Button(tr("Export"), role="primary", clicked=self._save)
        self.save.setObjectName("save")
        self.save.setDefault(True)
        self.save.setEnabled(False)  # until the model is found among those that are there
        cancel = Button(tr("Cancel"), clicked=self.reject)
        cancel.setObjectName("cancel")
        around = QVBoxLayout(self)
        around.setContentsMargins(20, 16, 20, 16)
        around.setSpacing(8)
        around.addWidget(Label(shown(Path(made.path).name, 100), "title", wrap=True))
        said = tr("A new model is made, loaded back and compared before it is done. It appears among the models.")
        around.addWidget(Label(said, "soft", wrap=True))
        around.addWidget(self.form)
        around.addLayout(row(None, cancel, self.save))
        self.finished.connect(self.deleteLater)
        if desk.session is not None:
            desk.tasks.read(self, desk.session.models, self._found)

    def _found(self, cards: list[ModelCard]) -> None:
        """Put the model into the form: as itself, or as an adapter of its base."""
        path = Path(self._made.path)
        card = next((each for each in cards if Path(each.path) == path or path.is_relative_to(each.path)), None)
        if card is None:  # never another one in its place
            said = tr("“{name}” is not among the models any more.", name=shown(path.name, 100))
            self.failed.emit(Problem("model_missing", said))
            self.reject()
            return
        self.save.setEnabled(True)
        if card.kind == "text":
            self.form.put_some({"model": card.id})
        elif "loras" in self.form.rows:
            base = next((each for each in cards if each.kind == "text" and card.base and each.base == card.base), None)
            self.form.put_some({"loras": ({"model": card.id},), **({"model": base.id} if base is not None else {})})

    def _save(self) -> None:
        wrong = self.form.complaints()
        if wrong:
            self.form.go_to(wrong[0])
            return
        self._desk.submit(KIND, self.form.values(), self._queued, self._refused)

    def _queued(self, job: Job) -> None:
        self.accept()

    def _refused(self, problem: Problem) -> None:
        if not self.form.show_problem(problem):
            self.failed.emit(problem)
            self.reject()
