"""What is done to a finished picture: enlarge it, change it by simple means, cut it out. One dialog per recipe kind.

The fields come from the recipe's declarations. Knows the desk; the result comes as a work like any other.
"""

from __future__ import annotations

from typing import Any

import shiboken6
from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QImage, QImageReader, QPixmap
from PySide6.QtWidgets import QDialog, QScrollArea, QVBoxLayout, QWidget

from studio.core.declare import Field, fields
from studio.core.events import Event, Failed, Shown
from studio.core.jobs import Job
from studio.core.problems import Problem
from studio.core.recipes import RECIPES, Recipe
from studio.core.text import shown
from studio.core.works import Work
from studio.ui.desk import Desk
from studio.ui.fields import Editor, FieldRow, OptionalNumber, editor_for
from studio.ui.lists import CardEditor, StructEditor, png_of, small
from studio.ui.strings import tr
from studio.ui.widgets import Button, Label, row

TITLES = {"edit": "Adjust the picture", "upscale": "Enlarge the picture", "cutout": "Cut out the background"}
PREVIEW = 300  # px, side
PREVIEW_AFTER = 120  # ms after the last change
DOES = {"edit": "Apply", "upscale": "Enlarge", "cutout": "Cut out"}


class FinishDialog(QDialog):
    """Signals:
    asked(Job): it was queued.
    """

    asked = Signal(object)

    def __init__(self, parent: QWidget, desk: Desk, kind: str, work: Work, given: Recipe | None = None) -> None:
        """
        Args:
            work: what it is done to. given: a recipe of this kind to begin with, and its picture instead.
        """
        super().__init__(parent)
        self.setObjectName(f"{kind}_dialog")
        self.setWindowTitle(tr(TITLES[kind]))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._desk, self._kind, self._work = desk, kind, work
        self._image = str(getattr(given, "image", "")) or work.id
        self.rows: dict[str, FieldRow] = {}
        holder = QWidget()
        inside = QVBoxLayout(holder)
        inside.setContentsMargins(0, 0, 12, 0)
        inside.setSpacing(6)
        remembered = desk.state.forms.get(kind, {})
        for field in fields(RECIPES[kind]):
            editor = self._editor(field)
            if editor is None:
                continue
            made = FieldRow(field, editor, label_width=136)
            if isinstance(editor, OptionalNumber):
                editor.say_empty(tr("as it is"))
            if field.name in remembered and field.name in ("model", "factor"):  # the others belong to one picture
                made.put(remembered[field.name])
            if given is not None:
                made.put(getattr(given, field.name))
            made.changed.connect(lambda _: self._changed())
            self.rows[field.name] = made
            inside.addWidget(made)
        inside.addStretch(1)
        scroll = QScrollArea()
        scroll.setObjectName("finish_scroll")
        scroll.setAccessibleName(tr(TITLES[kind]))
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(holder)
        self.size_label = Label("", "soft", wrap=True)
        self.problem = Label(role="problem", wrap=True)
        self.start = Button(tr(DOES[kind]), role="primary", clicked=self._start)
        self.start.setObjectName("finish_start")
        self.start.setDefault(True)
        cancel = Button(tr("Cancel"), clicked=self.reject)
        cancel.setObjectName("finish_cancel")
        self.preview = Label()
        self.preview.setObjectName("finish_preview")
        self.preview.setAccessibleName(tr("How it will look"))
        self.preview.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.preview.setMinimumSize(PREVIEW, PREVIEW)
        self.preview.setVisible(kind == "edit")
        self._small, self._round, self._running = b"", 0, ""
        self._share = 1.0  # of the preview's pixels to the picture's
        self._soon = QTimer(self, singleShot=True, interval=PREVIEW_AFTER)
        self._soon.timeout.connect(self._ask_preview)
        around = QVBoxLayout(self)
        around.setContentsMargins(20, 16, 12, 16)
        around.setSpacing(8)
        around.addWidget(Label(shown(work.title, 60), "soft", elide=True))
        across = row(self.preview, spacing=16)
        across.addWidget(scroll, 1)
        around.addLayout(across, 1)
        around.addWidget(self.size_label)
        around.addWidget(self.problem)
        around.addLayout(row(None, cancel, self.start))
        high = {"edit": 640, "upscale": 300, "cutout": 300}[kind]
        wide = 480 + (PREVIEW + 16 if kind == "edit" else 0)
        self.resize(min(wide, max(480, parent.width() - 40)), min(high, max(240, parent.height() - 40)))
        self._tell_size()
        if kind == "edit":
            self._read_small()

    def _editor(self, field: Field) -> Editor | None:
        if field.refers == "picture":
            return None  # the shown one
        if field.refers:
            empty = tr("Lanczos (no model)") if field.refers == "upscale" else tr("choose …")
            card = CardEditor(field, self._desk, empty=empty)
            card.refused.connect(lambda problem: self.problem.setText(problem.sentence))
            return card
        return StructEditor(field) if field.type == "struct" else editor_for(field)

    def _changed(self) -> None:
        self._tell_size()
        if self._small:
            self._soon.start()

    # -- how it will look ---------------------------------------------------------------------------------------------

    def _read_small(self) -> None:
        """Make a small copy to try changes on."""
        session, image, work = self._desk.session, self._image, self._work
        if session is None:
            return

        def read() -> tuple[bytes, float]:
            path = session.path(work) if image == work.id else session.picture_path(image)
            copy = small(path, PREVIEW * 2)
            size = QImageReader(str(path)).size()
            longest = max(1, size.width(), size.height())
            return (png_of(copy) if not copy.isNull() else b""), max(copy.width(), copy.height()) / longest

        def done(found: tuple[bytes, float]) -> None:
            self._small, self._share = found
            self._ask_preview()

        self._desk.tasks.picture(self, read, done)

    def _ask_preview(self) -> None:
        session, data = self._desk.session, self._small
        if session is None or not data or any(made.editor.is_wrong() for made in self.rows.values()):
            return
        self._drop()
        turn, share = self._round, self._share
        values = {name: value for name, value in self.values().items() if name != "image"}
        for name in ("width", "height"):
            if values.get(name):
                values[name] = max(16, round(values[name] * share))
        if values.get("blur"):
            values["blur"] = values["blur"] * share
        if values.get("crop"):
            values["crop"] = {side: round(value * share) for side, value in values["crop"].items()}

        def happened(event: Event) -> None:
            self._desk.bridge.call(lambda: self._seen(turn, event))

        def begun(aside: str) -> None:
            self._running = aside if turn == self._round else ""

        def refused(problem: Problem) -> None:
            if turn == self._round:
                self.problem.setText(f"{problem.sentence} {problem.hint}".strip())

        given = {**values, "image": ""}
        self._desk.tasks.read(
            self, lambda: session.aside("edit", given, happened, {"image": data}), begun, refused
        )  # fmt: skip

    def _seen(self, turn: int, event: Event) -> None:
        if not shiboken6.isValid(self) or turn != self._round:
            return
        if isinstance(event, Shown):
            self.problem.setText("")
            self._show(QImage.fromData(event.data))
        elif isinstance(event, Failed):
            self.problem.setText(f"{event.problem.sentence} {event.problem.hint}".strip())

    def _show(self, image: QImage) -> None:
        if image.isNull():
            return
        scale = self.devicePixelRatioF()
        side = round(PREVIEW * scale)
        pixmap = QPixmap.fromImage(
            image.scaled(side, side, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation)
        )
        pixmap.setDevicePixelRatio(scale)
        self.preview.setPixmap(pixmap)

    def _drop(self) -> None:
        self._round += 1
        session, running, self._running = self._desk.session, self._running, ""
        if session is not None and running:
            self._desk.tasks.read(self, lambda: session.drop(running), lambda _: None)

    def done(self, result: int) -> None:
        self._soon.stop()
        self._drop()
        super().done(result)

    # -- asking -------------------------------------------------------------------------------------------------------

    def _tell_size(self) -> None:
        """How large the result will be, where that is known before."""
        wide, high = self._work.meta.get("width"), self._work.meta.get("height")
        if not isinstance(wide, int) or not isinstance(high, int):
            return
        if self._kind == "upscale":
            factor = float(self.rows["factor"].value())
            wide, high = round(wide * factor), round(high * factor)
        self.size_label.setText(tr("{wide} × {high} px", wide=f"{wide:,}", high=f"{high:,}"))
        self.size_label.setVisible(self._kind == "upscale")

    def values(self) -> dict[str, Any]:
        changed = {name: made.value() for name, made in self.rows.items() if made.is_changed()}
        return {**changed, "image": self._image}

    def _start(self) -> None:
        wrong = next((made for made in self.rows.values() if made.editor.is_wrong()), None)
        if wrong is not None:
            wrong.editor.target().setFocus()
            return
        if self._kind == "cutout" and not self.rows["model"].value():
            self.rows["model"].complain(tr("Choose a model that cuts out; add its .onnx file."))
            return
        self.start.setEnabled(False)
        self._desk.submit(self._kind, self.values(), self._queued, self._refused)

    def _queued(self, job: Job) -> None:
        kept = {name: made.value() for name, made in self.rows.items() if name in ("model", "factor")}
        self._desk.state.forms[self._kind] = kept
        self._desk.keeper.touch()
        self.asked.emit(job)
        self.accept()

    def _refused(self, problem: Problem) -> None:
        self.start.setEnabled(True)
        made = self.rows.get(problem.field)
        sentence = f"{problem.sentence} {problem.hint}".strip()
        if made is not None:
            made.complain(sentence)
        else:
            self.problem.setText(sentence)
