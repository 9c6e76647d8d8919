"""What is done to a finished picture: enlarge it, change it by simple means, cut it out. One dialog per recipe kind.

The fields come from the recipe's declarations. Knows the desk; the result comes as a work like any other.
"""

from __future__ import annotations

from typing import Any

import msgspec
import shiboken6
from PySide6.QtCore import QSize, Qt, QTimer, Signal
from PySide6.QtGui import QImage, QImageReader
from PySide6.QtWidgets import QButtonGroup, QComboBox, QDialog, QScrollArea, QVBoxLayout, QWidget

from studio.core.declare import Field, fields
from studio.core.events import Event, Failed, Shown
from studio.core.jobs import Job
from studio.core.problems import Problem
from studio.core.recipes import RECIPES, Recipe
from studio.core.text import shown
from studio.core.works import Work
from studio.ui.crop import CropView, turned, unturned
from studio.ui.desk import Desk
from studio.ui.fields import Editor, FieldRow, OptionalNumber, editor_for
from studio.ui.lists import CardEditor, StructEditor, png_of, small
from studio.ui.strings import as_tip, tr
from studio.ui.widgets import Button, Label, ToolButton, one_stop, row

TITLES = {"edit": "Adjust the picture", "upscale": "Enlarge the picture", "cutout": "Cut out the background"}
PREVIEW = 340  # px, side
PREVIEW_AFTER = 120  # ms after the last change
SIDES = ("left", "top", "right", "bottom")
KEEP = -1.0
RATIOS: tuple[tuple[str, float | None], ...] = (
    ("Free", None), ("As it is", KEEP), ("1 : 1", 1.0), ("4 : 3", 4 / 3), ("3 : 2", 3 / 2), ("16 : 9", 16 / 9),
)  # fmt: skip
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
            made.changed.connect(self._changed)
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
        self._whole = QSize()  # of the picture, px; empty until it is known
        self._quarters = 0  # by which the preview is turned
        self._begin_preview()
        self._seen_size = QSize()  # of the last preview
        self._small, self._round, self._running = b"", 0, ""
        self._share = 1.0  # of the preview's pixels to the picture's
        self._soon = QTimer(self, singleShot=True, interval=PREVIEW_AFTER)
        self._soon.timeout.connect(self._ask_preview)
        around = QVBoxLayout(self)
        around.setContentsMargins(20, 16, 12, 16)
        around.setSpacing(8)
        around.addWidget(Label(shown(work.title, 60), "soft", elide=True))
        across = row(spacing=16)
        across.addWidget(self.looking)
        across.addWidget(scroll, 1)
        around.addLayout(across, 1)
        around.addWidget(self.size_label)
        around.addWidget(self.problem)
        around.addLayout(row(self.reset_button, None, cancel, self.start))
        high = {"edit": 640, "upscale": 300, "cutout": 300}[kind]
        wide = 480 + (PREVIEW + 16 if kind == "edit" else 0)
        self.resize(min(wide, max(480, parent.width() - 40)), min(high, max(240, parent.height() - 40)))
        self._tell_size()
        self._hide_idle()
        if kind == "edit":
            self._read_small()

    def _begin_preview(self) -> None:
        """Beside the fields of a change: the picture with what stays of it, or how it will look."""
        self.preview = CropView()
        self.preview.setObjectName("finish_preview")
        self.preview.setMinimumSize(PREVIEW, PREVIEW)
        self.preview.cropped.connect(self._cropped)
        self.cut_button = ToolButton(tr("Choose what stays of the picture"), text=tr("Cut"), role="segment",
                                     checkable=True)  # fmt: skip
        self.result_button = ToolButton(tr("See how it will look"), text=tr("Result"), role="segment", checkable=True)
        group = QButtonGroup(self)
        for button, name in ((self.cut_button, "finish_cut"), (self.result_button, "finish_result")):
            button.setObjectName(name)
            group.addButton(button)
        self.cut_button.setChecked(True)
        one_stop(group)
        self.preview.set_active(True)
        group.buttonToggled.connect(lambda _, down: self._look_at() if down else None)
        self.ratio = QComboBox()
        self.ratio.setObjectName("finish_ratio")
        self.ratio.setAccessibleName(tr("Ratio of width to height"))
        self.ratio.setToolTip(as_tip(tr("The ratio of width to height that is kept while you cut")))
        self.ratio.setMinimumHeight(28)
        for name, value in RATIOS:
            self.ratio.addItem(tr(name), value)
        self.ratio.activated.connect(lambda _: self._set_ratio())
        self.swap_button = ToolButton(
            tr("Upright or lying"), "refresh-cw", clicked=self._swap_ratio
        )  # fmt: skip
        self.swap_button.setObjectName("finish_swap")
        self.reset_button = Button(tr("Reset all"), clicked=self.reset)
        self.reset_button.setObjectName("finish_reset")
        self.reset_button.setVisible(self._kind == "edit")
        self.looking = QWidget()
        inside = QVBoxLayout(self.looking)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.setSpacing(8)
        inside.addLayout(row(self.cut_button, self.result_button, None, self.ratio, self.swap_button, spacing=2))
        inside.addWidget(self.preview, 1)
        self.looking.setVisible(self._kind == "edit")

    def _editor(self, field: Field) -> Editor | None:
        if field.refers == "picture":
            return None  # the shown one
        if field.refers:
            empty = tr("Lanczos (no model)") if field.refers == "upscale" else tr("choose …")
            card = CardEditor(field, self._desk, empty=empty)
            card.refused.connect(lambda problem: self.problem.setText(problem.sentence))
            return card
        return StructEditor(field) if field.type == "struct" else editor_for(field)

    def _changed(self, name: str) -> None:
        self._tell_size()
        self._hide_idle()
        if self._kind != "edit":
            return
        if name == "straighten" and self.rows[name].is_changed():
            self.result_button.setChecked(True)  # how much is cut away for it is seen there only
        self._place_crop()
        if self._small and (name != "crop" or not self.cut_button.isChecked()):
            self._soon.start()

    def _hide_idle(self) -> None:
        """Fields that mean nothing for what is chosen: Lanczos goes over the picture as a whole."""
        if self._kind == "upscale":
            self.rows["tile"].setVisible(bool(self.rows["model"].value()))

    def reset(self) -> None:
        """Begin anew: nothing is changed of the picture."""
        for made in self.rows.values():
            made.put(None if made.field.optional else made.default)
            made.complain("")
        self.ratio.setCurrentIndex(0)
        self.preview.set_ratio(None)
        self._place_crop()
        self._tell_size()
        if self._small:
            self._soon.start()

    # -- what stays ---------------------------------------------------------------------------------------------------

    def _turns(self) -> tuple[int, str]:
        """By how many quarters the picture is turned, and how it is mirrored."""
        return int(self.rows["rotate"].value()) // 90, str(self.rows["flip"].value())

    def _place_crop(self) -> None:
        """Show the rectangle that the fields speak of."""
        if self._whole.isEmpty():
            return
        given = msgspec.to_builtins(self.rows["crop"].value()) or {}
        left, top, right, bottom = (int(given.get(name, 0)) for name in SIDES)
        quarters, flip = self._turns()
        size = self._whole.transposed() if quarters % 2 else self._whole
        margins = turned((left, top, right, bottom), quarters, flip)
        self.preview.set_whole(size, margins, on_its_side=bool((quarters - self._quarters) % 2))
        self._quarters = quarters

    def _cropped(self) -> None:
        """The rectangle was changed by hand."""
        own = unturned(self.preview.margins, *self._turns())
        self.rows["crop"].put(dict(zip(SIDES, own, strict=True)) if any(own) else None)
        self.rows["crop"].complain("")
        self._tell_size()

    def _look_at(self) -> None:
        """The picture to be cut, or the result."""
        cutting = self.cut_button.isChecked()
        self.preview.set_active(cutting)
        self.ratio.setEnabled(cutting)
        self.swap_button.setEnabled(cutting)
        self._ask_preview()

    def _set_ratio(self) -> None:
        box, value = self.preview.box, self.ratio.currentData()
        if value == KEEP:
            value = box.width() / box.height() if not box.isEmpty() else None
        elif value is not None and box.height() > box.width():
            value = 1 / value
        self.preview.set_ratio(value)

    def _swap_ratio(self) -> None:
        """Lay what stays over from upright to lying, or back."""
        box = self.preview.box
        if box.isEmpty():
            return
        self.preview.swap()

    # -- how it will look ---------------------------------------------------------------------------------------------

    def _read_small(self) -> None:
        """Make a small copy to try changes on."""
        session, image, work = self._desk.session, self._image, self._work
        if session is None:
            return

        def read() -> tuple[bytes, float, QSize]:
            path = session.path(work) if image == work.id else session.picture_path(image)
            copy = small(path, PREVIEW * 2)
            size = QImageReader(str(path)).size()
            if (copy.width() > copy.height()) != (size.width() > size.height()):  # it says that it lies on its side
                size = size.transposed()
            longest = max(1, size.width(), size.height())
            data = png_of(copy) if not copy.isNull() else b""
            return data, max(copy.width(), copy.height()) / longest, size

        def done(found: tuple[bytes, float, QSize]) -> None:
            self._small, self._share, self._whole = found
            self._place_crop()
            self._tell_size()
            self._ask_preview()

        self._desk.tasks.picture(self, read, done)

    def _ask_preview(self) -> None:
        session, data = self._desk.session, self._small
        if session is None or not data or any(made.editor.is_wrong() for made in self.rows.values()):
            return
        self._drop()
        turn, share = self._round, self._share
        values = {name: value for name, value in self.values().items() if name != "image"}
        if self.cut_button.isChecked():  # all of it is seen, as it lies before it is made smaller
            for name in ("crop", "straighten", "width", "height", "fit"):
                values.pop(name, None)
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
        if not image.isNull():
            self.preview.show_image(image)
            self._seen_size = image.size()
            self._tell_size()

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
        size = self._whole
        if size.isEmpty():
            wide, high = self._work.meta.get("width"), self._work.meta.get("height")
            if not isinstance(wide, int) or not isinstance(high, int) or self._image != self._work.id:
                self.size_label.hide()
                return
            size = QSize(wide, high)
        about = False
        if self._kind == "upscale":
            size = QSize(*(round(it * float(self.rows["factor"].value())) for it in size.toTuple()))
        elif self._kind == "edit":
            size, about = self._edited(size)
        said = tr("{wide} × {high} px", wide=f"{size.width():,}", high=f"{size.height():,}")
        self.size_label.setText(tr("Result: about {size}", size=said) if about else tr("Result: {size}", size=said))
        self.size_label.setVisible(self._kind != "cutout")

    def _edited(self, size: QSize) -> tuple[QSize, bool]:
        """How large a changed picture is, and whether that is only about so."""
        value = {name: made.value() for name, made in self.rows.items()}
        cut = msgspec.to_builtins(value["crop"]) or {}
        left, top, right, bottom = (int(cut.get(name, 0)) for name in SIDES)
        wide, high = max(1, size.width() - left - right), max(1, size.height() - top - bottom)
        if self._turns()[0] % 2:
            wide, high = high, wide
        about = bool(value["straighten"])
        if about and not self.cut_button.isChecked() and not self._seen_size.isEmpty():
            wide, high = (max(1, round(it / self._share)) for it in self._seen_size.toTuple())
            if value["width"] or value["height"]:
                return QSize(wide, high), True
        new_wide, new_high = value["width"], value["height"]
        if new_wide and new_high:
            if value["fit"] == "inside":
                scale = min(new_wide / wide, new_high / high)
                return QSize(max(1, round(wide * scale)), max(1, round(high * scale))), about
            return QSize(new_wide, new_high), False
        if new_wide:
            return QSize(new_wide, max(1, round(high * new_wide / wide))), about
        if new_high:
            return QSize(max(1, round(wide * new_high / high)), new_high), about
        return QSize(wide, high), about

    def values(self) -> dict[str, Any]:
        changed = {name: made.value() for name, made in self.rows.items() if made.is_changed()}
        if self._kind == "upscale" and not self.rows["model"].value():
            changed.pop("tile", None)
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
