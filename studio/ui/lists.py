"""Editors for what a recipe names: pictures, additions, and lists of them. Knows the desk; knows no tab."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from PySide6.QtCore import QBuffer, QIODevice, QSize, Qt, Signal
from PySide6.QtGui import QGuiApplication, QImage, QImageReader, QPixmap
from PySide6.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from studio.core.cards import ModelCard, same_base
from studio.core.declare import Field, fields
from studio.core.problems import Problem
from studio.core.text import shown
from studio.ui.desk import Desk
from studio.ui.fields import Editor, FieldRow, NumberEditor, TextEditor, editor_for
from studio.ui.strings import as_tip, tr
from studio.ui.widgets import Button, CalmWheel, Label, ToolButton, row

SLOT = 64  # px, side of a small picture in the form
PICTURES = "*.png *.jpg *.jpeg *.webp *.avif *.bmp *.gif *.tif *.tiff"
ADD = "\0add"
LONG = 1000  # characters; a text that may have more is written in several lines

Special = Callable[[Field], Editor | None]


def png_of(image: QImage) -> bytes:
    """A picture as PNG. Callable from any thread."""
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG", 90)  # type: ignore[call-overload]
    return bytes(buffer.data().data())


def small(path: Path, side: int = SLOT * 2) -> QImage:
    """A small copy of a picture file, upright. Callable from any thread."""
    reader = QImageReader(str(path))
    reader.setAutoTransform(True)
    size = reader.size()
    if size.isValid() and max(size.width(), size.height()) > side:
        reader.setScaledSize(size.scaled(side, side, Qt.AspectRatioMode.KeepAspectRatio))
    return reader.read()


class PictureEditor(Editor):
    """A kept picture: dropped, pasted, chosen, or taken from what the tab shows.

    Signals:
        wanted: the picture that the tab shows is asked for; the tab answers with `take`.
        refused(Problem): a picture could not be kept.
    """

    wanted = Signal()
    refused = Signal(object)
    compact = False

    def __init__(self, field: Field, desk: Desk) -> None:
        super().__init__(field)
        self._desk, self._name, self._asked = desk, "", 0
        self.setAcceptDrops(True)
        self._slot = ToolButton(tr("Choose a picture"), "image", role="slot", clicked=self.ask)
        self.introduce(self._slot)
        self._slot.setFixedSize(SLOT, SLOT)
        self._about = Label(tr("Drop a picture here"), "soft", wrap=True)
        self._shown = ToolButton(tr("Take the shown picture"), "image", clicked=self.wanted.emit)
        self._paste = ToolButton(tr("Paste a picture"), "clipboard-paste", clicked=self.paste)
        self._open = ToolButton(tr("Choose a file"), "folder-open", clicked=self.ask)
        self._clear = ToolButton(tr("Take no picture"), "x", clicked=self.clear)
        for name, button in (
            ("shown", self._shown),
            ("paste", self._paste),
            ("open", self._open),
            ("clear", self._clear),
        ):
            button.setObjectName(f"{field.name}_{name}")
        beside = QVBoxLayout()
        beside.setSpacing(2)
        beside.addWidget(self._about)
        beside.addLayout(row(self._shown, self._paste, self._open, self._clear, None, spacing=2))
        self.setLayout(row(self._slot))
        around = self.layout()
        assert isinstance(around, QHBoxLayout)
        around.addLayout(beside, 1)
        self._show(None)

    def value(self) -> Any:
        return self._name

    def put(self, value: Any) -> None:
        self._name = str(value or "")
        self._asked += 1
        session, name, asked = self._desk.session, self._name, self._asked
        if not name or session is None:
            self._show(None)
            return
        self._show(QImage())

        def look() -> QImage:
            return small(session.picture_path(name))

        def done(image: QImage) -> None:
            if asked == self._asked:
                self._show(image)

        def gone(_: Problem) -> None:
            if asked == self._asked:
                self._name = ""
                self._show(None)
                self.changed.emit()

        self._desk.tasks.picture(self, look, done, gone)

    def take(self, picture: Path | QImage | bytes) -> None:
        """Keep a picture and make it the value."""
        session = self._desk.session
        if session is None:
            return

        def keep() -> str:
            return session.keep_picture(png_of(picture) if isinstance(picture, QImage) else picture)

        def kept(name: str) -> None:
            self.put(name)
            self.changed.emit()

        self._desk.tasks.write(self, keep, kept, self.refused.emit)

    def ask(self) -> None:
        dialog = QFileDialog(self.window(), tr("Choose a picture"), self._desk.state.folder)
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.setNameFilters([tr("Pictures ({endings})", endings=PICTURES), tr("All files (*)")])
        if dialog.exec():
            self.take(Path(dialog.selectedFiles()[0]))

    def paste(self) -> None:
        self._take_mime(QGuiApplication.clipboard().mimeData())

    def clear(self) -> None:
        self.put("")
        self.changed.emit()

    def _take_mime(self, data: Any) -> bool:
        if data is None:
            return False
        files = [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]
        if files:
            self.take(files[0])
            return True
        image = data.imageData() if data.hasImage() else None
        if isinstance(image, QImage) and not image.isNull():
            self.take(image)
            return True
        return False

    def dragEnterEvent(self, event: Any) -> None:
        if event.mimeData().hasUrls() or event.mimeData().hasImage():
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:
        if self._take_mime(event.mimeData()):
            event.acceptProposedAction()

    def _show(self, image: QImage | None) -> None:
        self._clear.setVisible(image is not None)
        if image is None or image.isNull():
            self._slot.set_icon("image", "soft")
            self._about.setText(tr("Drop a picture here") if image is None else tr("looking …"))
            return
        scale = self.devicePixelRatioF()
        side = SLOT - 8
        fitted = image.scaled(
            round(side * scale), round(side * scale), Qt.AspectRatioMode.KeepAspectRatio,
            Qt.TransformationMode.SmoothTransformation,
        )  # fmt: skip
        pixmap = QPixmap.fromImage(fitted)
        pixmap.setDevicePixelRatio(scale)
        self._slot.setIcon(pixmap)
        self._slot.setIconSize(QSize(side, side))
        self._about.setText(tr("Kept with your works"))

    def target(self) -> QWidget:
        return self._slot


class CardEditor(Editor):
    """One of the additions of a kind, or none; a way to add another file."""

    refused = Signal(object)

    def __init__(self, field: Field, desk: Desk, *, empty: str = "") -> None:
        super().__init__(field)
        self._desk, self._kind, self._empty, self._wanted, self._base = desk, field.refers, empty, "", ""
        self._box = QComboBox()
        self.introduce(self._box)
        self._box.setMinimumContentsLength(6)
        self._box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._box.installEventFilter(CalmWheel(self))
        self._box.activated.connect(self._picked)
        self.setLayout(row(self._box))
        desk.models_changed.connect(self.refresh)
        self.refresh()

    def set_base(self, base: str) -> None:
        """Grey out what was made for another kind of model."""
        if base != self._base:
            self._base = base
            self.refresh()

    def refresh(self) -> None:
        self._box.clear()
        self._box.addItem(self._empty or tr("none"), "")
        fitting = sorted(self._desk.cards(self._kind), key=lambda card: not self._fits(card))
        for card in fitting:
            self._box.addItem(shown(card.name, 60), card.id)
            at = self._box.count() - 1
            if not self._fits(card):
                item = self._box.model().item(at)  # type: ignore[attr-defined]
                item.setEnabled(False)
                reason = tr("Made for another kind of model ({base}).", base=card.base)
                self._box.setItemData(at, as_tip(reason), Qt.ItemDataRole.ToolTipRole)
            else:
                self._box.setItemData(at, as_tip("\n".join((card.path, *card.notes))), Qt.ItemDataRole.ToolTipRole)
        if self._wanted and self._box.findData(self._wanted) < 0:
            self._box.addItem(shown(self._wanted, 60), self._wanted)
        self._box.insertSeparator(self._box.count())
        self._box.addItem(tr("Add a file …"), ADD)
        self._box.setCurrentIndex(max(0, self._box.findData(self._wanted)))

    def _fits(self, card: ModelCard) -> bool:
        return same_base(card.base, self._base)

    def _picked(self, _: int) -> None:
        chosen = self._box.currentData()
        if chosen == ADD:
            self.refresh()
            dialog = QFileDialog(self.window(), tr("Add a file"))
            dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
            if dialog.exec():
                self.add(Path(dialog.selectedFiles()[0]))
            return
        self._wanted = chosen
        self.changed.emit()

    def add(self, path: Path) -> None:
        """Add a file by its path and take it."""
        session = self._desk.session
        if session is not None:
            self._desk.tasks.write(self, lambda: session.add_model(path), self._added, self.refused.emit)

    def _added(self, card: ModelCard) -> None:
        if card.kind != self._kind:
            sentence = tr("“{name}” is something else; it was added to where it belongs.", name=shown(card.name))
            self._desk.told.emit(sentence, "", None)
            return
        self._wanted = card.id
        self._desk.read_models()
        self.changed.emit()

    def value(self) -> Any:
        return self._wanted

    def put(self, value: Any) -> None:
        self._wanted = str(value or "")
        self.refresh()

    def complaint(self) -> str:
        if not self._wanted or not self._desk.models_known:
            return ""
        known = any(self._wanted in (card.id, card.name, card.path) for card in self._desk.cards(self._kind))
        return "" if known else tr("“{name}” is not there any more.", name=shown(self._wanted))

    def target(self) -> QWidget:
        return self._box


class StructEditor(Editor):
    """A few whole numbers that belong together, side by side: the margins of a picture."""

    compact = False

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        assert field.item is not None
        self._boxes: dict[str, QSpinBox] = {}
        self._quiet = False
        around = row(spacing=4)
        for each in fields(field.item):
            box = QSpinBox()
            box.setRange(int(each.low or 0), int(each.high or 9999))
            box.setObjectName(f"{field.name}_{each.name}")
            box.setAccessibleName(f"{tr(field.title)}: {tr(each.title)}")
            box.setToolTip(as_tip(tr(each.help)))
            box.setSingleStep(8)
            box.setAlignment(Qt.AlignmentFlag.AlignCenter)
            box.setMinimumWidth(44)
            box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            box.installEventFilter(CalmWheel(self))
            box.valueChanged.connect(lambda *_: self.changed.emit() if not self._quiet else None)
            self._boxes[each.name] = box
            over = QVBoxLayout()
            over.setSpacing(2)
            over.addWidget(Label(tr(each.title), "soft"))
            over.addWidget(box)
            around.addLayout(over, 1)
        self.setLayout(around)

    def value(self) -> Any:
        values = {name: box.value() for name, box in self._boxes.items()}
        return values if any(values.values()) else None

    def put(self, value: Any) -> None:
        given = msgspec.to_builtins(value) if value is not None else {}
        self._quiet = True
        for name, box in self._boxes.items():
            box.setValue(int(given.get(name, 0)))
        self._quiet = False

    def target(self) -> QWidget:
        return next(iter(self._boxes.values()))


class ListEditor(Editor):
    """A list of additions: each a row of its own, with a button that takes it away, and one that adds another.

    Args:
        special: gives the editor of a part of an entry, where the usual one will not do.

    Signals:
        wanted(PictureEditor): one of the rows asks for the picture that the tab shows.
        refused(Problem).
    """

    wanted = Signal(object)
    refused = Signal(object)
    compact = False

    def __init__(self, field: Field, desk: Desk, special: Special = lambda _: None) -> None:
        super().__init__(field)
        self._desk, self._base, self._rows, self._special = desk, "", list[_Entry](), special
        self._around = QVBoxLayout(self)
        self._around.setContentsMargins(0, 0, 0, 0)
        self._around.setSpacing(6)
        self._add = Button(tr("Add"), icon_name="plus", clicked=self._press)
        self.introduce(self._add)
        self._around.addLayout(row(self._add, None))

    def set_base(self, base: str) -> None:
        self._base = base
        for entry in self._rows:
            entry.set_base(base)

    def value(self) -> Any:
        return tuple(entry.value() for entry in self._rows if entry.is_whole())

    def put(self, value: Any) -> None:
        given = [msgspec.to_builtins(each) for each in value or ()]
        while len(self._rows) > len(given):
            self._drop(self._rows[-1])
        for at, each in enumerate(given):
            if at >= len(self._rows):
                self._append()
            self._rows[at].put(each)

    def complaint(self) -> str:
        return next((said for entry in self._rows if (said := entry.complaint())), "")

    def target(self) -> QWidget:
        return self._add

    def _press(self) -> None:
        if self.field.high is None or len(self._rows) < self.field.high:
            self._append().target().setFocus()
            self.changed.emit()

    def _append(self) -> _Entry:
        entry = _Entry(self.field, self._desk, len(self._rows) + 1, self._drop_asked, self._special)
        entry.set_base(self._base)
        entry.changed.connect(self.changed.emit)
        entry.wanted.connect(self.wanted.emit)
        entry.refused.connect(self.refused.emit)
        self._around.insertWidget(len(self._rows), entry)
        self._rows.append(entry)
        self._add.setEnabled(self.field.high is None or len(self._rows) < self.field.high)
        return entry

    def _drop_asked(self, entry: _Entry) -> None:
        self._drop(entry)
        self._add.setFocus()
        self.changed.emit()

    def _drop(self, entry: _Entry) -> None:
        self._rows.remove(entry)
        self._around.removeWidget(entry)
        entry.hide()
        entry.deleteLater()
        self._add.setEnabled(True)


class _Entry(QFrame):
    """One entry of a ListEditor. An addition and a number stand in one line; what has more is a small form."""

    changed = Signal()
    wanted = Signal(object)
    refused = Signal(object)

    def __init__(
        self, field: Field, desk: Desk, number: int, drop: Callable[[_Entry], None], special: Special
    ) -> None:  # fmt: skip
        super().__init__()
        self._field, self._editors, self._special = field, dict[str, Editor](), special
        title = tr("{title} {n}", title=tr(field.title), n=number)
        remove = ToolButton(tr("Remove {title}", title=title), "x", clicked=lambda: drop(self))
        remove.setObjectName(f"{field.name}_remove")
        self.setAccessibleName(title)
        if field.item is None:
            parts: tuple[Field, ...] = (msgspec.structs.replace(field, type="str", item=None),)
        else:
            parts = fields(field.item)
        for part in parts:
            self._editors[part.name] = self._made(part, desk)
        inline = len(parts) <= 2 and all(editor.compact for editor in self._editors.values())
        if inline:
            across = row(spacing=4)
            for editor in self._editors.values():
                if isinstance(editor, NumberEditor):
                    editor.only_box()
                across.addWidget(editor, 1 if isinstance(editor, CardEditor) else 0)
            across.addWidget(remove)
            self.setLayout(across)
        else:
            self.setProperty("role", "entry")
            inside = QVBoxLayout(self)
            inside.setContentsMargins(8, 6, 6, 8)
            inside.setSpacing(6)
            inside.addLayout(row(Label(title, "soft"), None, remove))
            for part in parts:
                inside.addWidget(FieldRow(part, self._editors[part.name], label_width=104))
                if part.name not in ("model", "image") and not part.required:
                    self._editors[part.name].put(part.default)
        for part in parts:
            if part.default is not None and inline and part.type != "str":
                self._editors[part.name].put(part.default)
            self._editors[part.name].changed.connect(self.changed.emit)

    def _made(self, part: Field, desk: Desk) -> Editor:
        if (own := self._special(part)) is not None:
            return own
        if part.refers == "picture":
            picture = PictureEditor(part, desk)
            picture.wanted.connect(lambda: self.wanted.emit(picture))
            picture.refused.connect(self.refused.emit)
            return picture
        if part.refers:
            card = CardEditor(part, desk, empty=tr("choose …"))
            card.refused.connect(self.refused.emit)
            return card
        if part.type == "float" and part.name == "weight":
            return NumberEditor(msgspec.structs.replace(part, low=-1.0, high=2.0))
        if part.type == "str" and (part.high or 0) > LONG:
            return TextEditor(part, least=2, most=8)
        made = editor_for(part)
        assert made is not None, f"{part.name} has no editor"
        return made

    def set_base(self, base: str) -> None:
        for editor in self._editors.values():
            if isinstance(editor, CardEditor):
                editor.set_base(base)

    def value(self) -> Any:
        if self._field.item is None:
            return next(iter(self._editors.values())).value()
        return {name: editor.value() for name, editor in self._editors.items()}

    def put(self, value: Any) -> None:
        if self._field.item is None:
            next(iter(self._editors.values())).put(value)
            return
        for name, editor in self._editors.items():
            if name in value:
                editor.put(value[name])
            else:
                editor.put(next(f.default for f in fields(self._field.item) if f.name == name))

    def is_whole(self) -> bool:
        """Whether all is chosen that it cannot do without; until then it does not count."""
        return all(
            bool(editor.value())
            for editor in self._editors.values()
            if isinstance(editor, (CardEditor, PictureEditor)) or editor.field.required
        )

    def complaint(self) -> str:
        return next((said for editor in self._editors.values() if (said := editor.complaint())), "")

    def target(self) -> QWidget:
        return next(iter(self._editors.values())).target()
