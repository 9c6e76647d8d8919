"""A recipe as a form: one row per declared parameter, with the model's own defaults and limits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from PySide6.QtCore import QEvent, QObject, Qt, QTimer, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QComboBox, QFileDialog, QMenu, QVBoxLayout, QWidget

from studio.core.cards import ModelCard
from studio.core.declare import GROUPS, StructType
from studio.core.problems import Problem
from studio.core.recipes import COUNT_FIELD, MODEL_FIELD, RECIPES, WORDS, Field, Message, Recipe, fields
from studio.core.text import shown
from studio.ui.desk import Desk
from studio.ui.fields import Editor, FieldRow, SeedEditor, TextEditor, editor_for
from studio.ui.lists import CardEditor, ListEditor, PictureEditor, StructEditor
from studio.ui.strings import as_tip, duration, one_or_many, size_of, tr
from studio.ui.widgets import Fold, ToolButton, row

COUNT_AFTER = 250  # ms after the last key
SECONDS_PER_CHARACTER = 0.065  # of read text at speed 1, about
ADD_FILE, ADD_FOLDER = "\0file", "\0folder"

FILTERS = {
    "text": "Text models (*.gguf)",
    "image": "Picture models (*.safetensors model_index.json)",
    "speech": "Voices (*.onnx)",
}


class _OpensFirst(QObject):
    """A key opens a closed list instead of choosing in it, and the wheel does nothing: some entries open a dialog."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel:
            event.ignore()
            return True
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress and isinstance(watched, QComboBox):
            keys = Qt.Key
            moves = (keys.Key_Up, keys.Key_Down, keys.Key_PageUp, keys.Key_PageDown, keys.Key_Home, keys.Key_End)
            modified = event.modifiers() & (Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.MetaModifier)
            if not modified and (event.key() in moves or (event.text() and event.text().isprintable())):
                watched.showPopup()
                return True
        return False


class ModelEditor(Editor):
    """The models of a kind, and ways to add one.

    Signals:
        refused(Problem): what was to be added cannot be used.
    """

    refused = Signal(object)

    def __init__(self, field: Field, kind: str, desk: Desk) -> None:
        super().__init__(field)
        self._kind, self._desk = kind, desk
        self._wanted = ""
        self._box = QComboBox()
        self.introduce(self._box)
        self._box.setMinimumContentsLength(8)
        self._box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._box.installEventFilter(_OpensFirst(self))
        self._box.activated.connect(self._picked)
        self.setLayout(row(self._box))
        desk.models_changed.connect(self.refresh)
        desk.settings_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the models that are there now."""
        self._box.clear()
        for card in self._desk.cards(self._kind):
            self._box.addItem(shown(card.name), card.id)
            self._box.setItemData(self._box.count() - 1, as_tip(about(card)), 3)  # ToolTipRole
        if not self._desk.models_known:
            self._box.addItem(shown(self._wanted) or tr("looking …"), self._wanted)
        if self._box.count():
            self._box.insertSeparator(self._box.count())
        word = tr("voice") if self._kind == "speech" else tr("model")
        self._box.addItem(tr("Add {word}: file …", word=word), ADD_FILE)
        if self._kind != "speech":
            self._box.addItem(tr("Add {word}: folder …", word=word), ADD_FOLDER)
        chosen = self._desk.card(self._kind, self._wanted)
        at = self._box.findData(chosen.id if chosen else self._wanted)
        self._box.setCurrentIndex(at if at >= 0 else -1)

    def _picked(self, _: int) -> None:
        chosen = self._box.currentData()
        if chosen in (ADD_FILE, ADD_FOLDER):
            self.refresh()
            self.ask(folder=chosen == ADD_FOLDER)
            return
        self._wanted = chosen
        self.changed.emit()

    def set_kind(self, kind: str) -> None:
        """Show the models of another kind."""
        if kind != self._kind:
            self._kind, self._wanted = kind, ""
            self.refresh()

    def ask(self, *, folder: bool) -> None:
        """Let the user choose a model on the disk."""
        title = tr("Add a model")
        dialog = QFileDialog(self.window(), title)
        dialog.setFileMode(QFileDialog.FileMode.Directory if folder else QFileDialog.FileMode.ExistingFile)
        if not folder:
            dialog.setNameFilters([tr(FILTERS[self._kind]), tr("All files (*)")])
        if dialog.exec():
            self.add(Path(dialog.selectedFiles()[0]))

    def add(self, path: Path) -> None:
        """Add a model by its path and take it."""
        session = self._desk.session
        if session is not None:
            self._desk.tasks.write(self, lambda: session.add_model(path), self._added, self.refused.emit)

    def _added(self, card: ModelCard) -> None:
        if card.kind != self._kind:
            words = {"text": tr("a text model"), "image": tr("a picture model"), "speech": tr("a voice")}
            sentence = tr("“{name}” is {kind}; it was added to its own tab.", name=card.name, kind=words[card.kind])
            self._desk.told.emit(sentence, "", None)
            return
        self._wanted = card.id
        self._desk.read_models()
        self.changed.emit()

    def value(self) -> Any:
        return self._wanted

    def put(self, value: Any) -> None:
        self._wanted = value or ""
        self.refresh()

    def card(self) -> ModelCard | None:
        return self._desk.card(self._kind, self._wanted)

    def complaint(self) -> str:
        if not self._desk.models_known or not self._wanted:
            return ""
        known = any(self._wanted in (c.id, c.name, c.path) for c in self._desk.cards(self._kind))
        return "" if known else tr("“{name}” is not there any more.", name=shown(self._wanted))

    def target(self) -> QWidget:
        return self._box


def about(card: ModelCard) -> str:
    """A few lines on a model."""
    lines = [card.name, f"{card.family or card.format} · {size_of(card.bytes)}", card.path]
    if card.licence:
        lines.append(tr("Licence: {name}", name=card.licence))
    return "\n".join((*lines, *card.notes))


# Fields that mean something only beside another one: shown while that has a value.
SHOWN_WITH = {
    "strength": ("image",), "mask": ("image",), "extend": ("image",),
    "mask_blur": ("mask", "extend"), "mask_area": ("mask", "extend"), "mask_padding": ("mask_area",),
    "mask_fill": ("mask", "extend"), "variation_seed": ("variation",),
    "enlarge_strength": ("enlarge",), "enlarge_steps": ("enlarge",), "enlarge_with": ("enlarge",),
}  # fmt: skip


def is_editable(field: Field) -> bool:
    """Whether a form has an editor for a field; for the turns of a conversation the tab has a way of its own."""
    if field.type == "structs":
        return field.item is not None and field.item is not Message
    return field.type != "other"


class Rows(dict[str, FieldRow]):
    """The rows of a form by the names of their fields.

    Those of a fold that is closed are made when they are first asked for by name, or when the fold is opened: making
    all of them takes longer than a window may stand still. Until then they are as they are by default, and are not
    among `items()`.
    """

    def __init__(self, make: Callable[[Field], None]) -> None:
        super().__init__()
        self._make = make
        self.later: dict[str, Field] = {}

    def __missing__(self, name: str) -> FieldRow:
        self._make(self.later.pop(name))  # a KeyError where there is no such field
        return self[name]

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self.later

    def is_made(self, name: str) -> bool:
        return super().__contains__(name)

    def is_changed(self, name: str) -> bool:
        return self.is_made(name) and self[name].is_changed()


class Form(QWidget):
    """The parameters of one kind of work.

    Signals:
        changed(str): a field was changed by the user.
        model_changed: another model is chosen, or what is known of it changed.
        picture_wanted(PictureEditor): the picture that the tab shows is asked for.
        refused(Problem): something that was to be added cannot be used.
        row_made(FieldRow): a row was made after the form, because its fold was opened or it was given a value.
    """

    changed = Signal(str)
    model_changed = Signal()
    picture_wanted = Signal(object)
    refused = Signal(object)
    row_made = Signal(object)

    def __init__(self, kind: str, desk: Desk, *, leave_out: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.kind, self._desk = kind, desk
        self.rows = Rows(self._add)
        # a work that is made of no words has none, and one that chooses its models otherwise has no such field
        self._words, self._model_field = WORDS.get(kind, ""), MODEL_FIELD.get(kind, "")
        self._folds: dict[str, Fold] = {}
        self._assumed: frozenset[str] = frozenset()
        self._order: dict[str, list[str]] = {}  # group -> names of its fields
        self._tokens_per_character = 0.25
        self._asked = 0
        self._over = False  # it is said beside the words that they are too many
        self._card: ModelCard | None = None
        self._around = QVBoxLayout(self)
        self._around.setContentsMargins(0, 0, 0, 0)
        self._around.setSpacing(10)
        declared = [f for f in fields(self.declared()) if f.name not in leave_out and is_editable(f)]
        groups = ["main", *GROUPS]
        for field in sorted(declared, key=lambda f: groups.index(f.group)):  # in their order, the folded ones last
            if field.group == "main" or self._fold(field.group, tr(GROUPS[field.group])).is_open():
                self._add(field)
            else:
                self.rows.later[field.name] = field
        self._around.addStretch(1)
        self._count_soon = QTimer(self, singleShot=True, interval=COUNT_AFTER)
        self._count_soon.timeout.connect(self.count)
        desk.models_changed.connect(self._model)
        desk.settings_changed.connect(self._model)
        desk.change.connect(self._lane)
        desk.track.moved.connect(self._job_moved)
        self.put_state(desk.state.forms.get(kind, {}))
        self._model()
        self._arrange()

    def _add(self, field: Field) -> None:
        editor: Editor | None
        if field.name == self._model_field:
            editor = self.models_of(self.kind, field)
        elif field.name == self._words:
            editor = TextEditor(field, least=6, most=14)
        else:
            editor = self._editor(field)
        if editor is None:
            return
        made = FieldRow(field, editor)
        made.changed.connect(self._changed)
        self.rows[field.name] = made
        self._order.setdefault(field.group, [f.name for f in fields(self.declared()) if f.group == field.group])
        if field.name == "height" and "width" in self.rows:
            self._size_row()
        elif field.group in GROUPS:
            order = self._order[field.group]
            inside = self._fold(field.group, tr(GROUPS[field.group])).inside
            before = sum(self.rows.is_made(name) for name in order[: order.index(field.name)])
            inside.insertWidget(before, made)
            self._suit(field.name, made)
            self.row_made.emit(made)
        elif field.multiline and field.name != self._words:
            made.label.hide()
            self._fold(field.name, tr(field.title), tr("(negative prompt)")).inside.addWidget(made)
        elif field.name != "width":
            self._around.addWidget(made)
            if field.name == self._words:
                made.counter.show()

    def declared(self) -> StructType:
        """The struct whose fields are asked for."""
        return RECIPES[self.kind]

    def special(self, field: Field) -> Editor | None:
        """An editor that only this form has for a field; None for the usual one."""
        return None

    def models_of(self, kind: str, field: Field) -> ModelEditor:
        """An editor of the models of a kind."""
        made = ModelEditor(field, kind, self._desk)
        made.refused.connect(self.refused.emit)
        return made

    def _editor(self, field: Field) -> Editor | None:
        if (own := self.special(field)) is not None:
            return own
        if field.refers == "picture":
            picture = PictureEditor(field, self._desk)
            picture.wanted.connect(lambda: self.picture_wanted.emit(picture))
            picture.refused.connect(self.refused.emit)
            return picture
        if field.type == "structs" or (field.type == "strings" and field.refers):
            several = ListEditor(field, self._desk, self.special)
            several.wanted.connect(self.picture_wanted.emit)
            several.refused.connect(self.refused.emit)
            return several
        if field.refers:
            card = CardEditor(field, self._desk, empty=tr("the model's own") if field.refers == "vae" else tr("none"))
            card.refused.connect(self.refused.emit)
            return card
        return StructEditor(field) if field.type == "struct" else editor_for(field)

    def _fold(self, name: str, title: str, hint: str = "") -> Fold:
        if name not in self._folds:
            key = f"{self.kind}.{name}"
            fold = Fold(title, hint, opened=self._desk.state.is_open(key))
            fold.head.setObjectName(f"{name}_fold")
            fold.toggled.connect(lambda opened: self._folded(key, opened))
            self._folds[name] = fold
            self._around.addWidget(fold)
        return self._folds[name]

    def _unfold(self, group: str) -> None:
        for name in [name for name, field in self.rows.later.items() if field.group == group]:
            self.rows[name].show()
        self._arrange()

    def _folded(self, key: str, opened: bool) -> None:
        if opened:
            self._unfold(key.partition(".")[2])
        self._desk.state.set_open(key, opened)
        self._desk.keeper.touch()

    def _size_row(self) -> None:
        both = [self.rows["width"], self.rows["height"]]
        shape = ToolButton(tr("Choose a shape"), "scan", role="")
        shape.setObjectName("shape")
        menu = QMenu(shape)
        for title, across, down in (
            (tr("The model's own size"), 0, 0),
            (tr("Square"), 1, 1),
            (tr("Portrait 3:4"), 3, 4),
            (tr("Landscape 4:3"), 4, 3),
            (tr("Wide 16:9"), 16, 9),
            (tr("Tall 9:16"), 9, 16),
        ):
            menu.addAction(title).triggered.connect(lambda _=False, a=across, d=down: self._shape(a, d))
        menu.addSeparator()
        menu.addAction(tr("Swap width and height")).triggered.connect(lambda *_: self._swap())
        shape.setMenu(menu)
        shape.setPopupMode(ToolButton.ToolButtonPopupMode.InstantPopup)
        across_row = row(*both)
        for one in both:  # a problem under one of them leaves the other where it is
            across_row.setAlignment(one, Qt.AlignmentFlag.AlignTop)
        holder = QVBoxLayout()
        holder.setContentsMargins(0, 20, 0, 0)
        holder.addWidget(shape)
        holder.addStretch(1)
        for one in both:
            _stack(one)
        across_row.addLayout(holder)
        self._around.addLayout(across_row)

    def _shape(self, across: int, down: int) -> None:
        limits = self._card.limits if self._card else None
        if not across or limits is None or not limits.width or not limits.height:
            size: tuple[int | None, int | None] = (None, None)
        else:
            step = limits.size_multiple or 8
            area = limits.width * limits.height
            width = (area * across / down) ** 0.5
            size = (max(step, round(width / step) * step), max(step, round(width * down / across / step) * step))
        for name, value in zip(("width", "height"), size, strict=True):
            self.rows[name].put(value)
            self._changed(name)

    def _swap(self) -> None:
        limits = self._card.limits if self._card else None
        width = self.rows["width"].value() or (limits.width if limits else None)
        height = self.rows["height"].value() or (limits.height if limits else None)
        for name, value in (("width", height), ("height", width)):
            self.rows[name].put(value)
            self._changed(name)

    def put_below_words(self, widget: QWidget) -> None:
        """Place something that belongs to the words under them."""
        self._around.insertWidget(self._around.indexOf(self.words) + 1, widget)

    # -- values -----------------------------------------------------------------------------------------------------

    @property
    def words(self) -> FieldRow:
        """The row of the words; of a work that is made of none the first row."""
        return self.rows[self._words] if self._words else next(iter(self.rows.values()))

    def values(self) -> dict[str, Any]:
        """What was chosen: the words, the model, and what differs from the model's defaults."""
        made = {name: made.value() for name, made in self.rows.items() if made.is_changed() and made.isEnabled()}
        if self._words in self.rows:
            made[self._words] = self.words.value()
        card = self.card()
        if card is not None:
            made[self._model_field] = card.id
        return made

    def complaints(self) -> list[str]:
        """Names of fields with something wrong in them; one that this way of making does not show is not in the way."""
        usable = (name for name, made in self.rows.items() if made.isEnabled() and not made.isHidden())
        return [name for name in usable if self.rows[name].editor.is_wrong()]

    def go_to(self, name: str) -> None:
        """Bring a field before the user's eyes, and take the focus there."""
        made = self.rows[name]
        fold = self._folds.get(made.field.group) or self._folds.get(name)
        if fold is not None:
            fold.open()
        made.editor.target().setFocus()

    def put(self, values: dict[str, Any]) -> None:
        """Show these values; a field that is not named takes its default."""
        self._make_for(values)
        for name, made in self.rows.items():
            value = values.get(name)
            made.put(value if name in values or made.field.optional else made.default)
            made.hold(name in values)
        self._model()
        self._release()
        self._remember()
        self.count()

    def _make_for(self, values: dict[str, Any]) -> None:
        """Make the rows that are to show something else than their default."""
        for name, field in list(self.rows.later.items()):
            if name in values and values[name] != (self._default_of(field) if self._card else field.default):
                self.rows[name].show()

    def put_some(self, values: dict[str, Any]) -> None:
        """Show these values and leave the others."""
        model = self._model_field
        if model in values and model in self.rows:
            self.rows[model].put(values[model])
            self._model()  # first: the limits of the model of now may not be those of the values
        self._make_for(values)
        for name, value in values.items():
            if self.rows.is_made(name):
                self.rows[name].put(value)
                self.rows[name].hold(True)  # against the defaults of another model that comes with them
        self._model()
        self._release()
        self._remember()
        self.count()

    def put_recipe(self, recipe: Recipe, part: str = "all") -> None:
        """Take over a recipe, or one part of it: "prompt", "settings", "seed"."""
        values = {n: getattr(recipe, n) for n in recipe.__struct_fields__ if n in self.rows}
        if part != "all":  # a work's recipe says 1, whatever was asked for
            values.pop(COUNT_FIELD.get(self.kind, ""), None)
        words = {self._words, "negative"}
        if part == "prompt":
            values = {n: v for n, v in values.items() if n in words}
        elif part == "seed":
            values = {n: v for n, v in values.items() if n == "seed"}
        elif part == "settings":
            values = {n: v for n, v in values.items() if n not in words | {"seed"}}
        self.put_some(values)

    def state(self) -> dict[str, Any]:
        """What differs from the defaults, to be remembered."""
        found = {name: made.value() for name, made in self.rows.items() if made.is_changed()}
        return {name: msgspec.to_builtins(v) for name, v in found.items()}

    def put_state(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            if name not in self.rows:
                continue
            made = self.rows[name]
            try:
                made.put(tuple(value) if isinstance(value, list) else value)
                made.hold(True)
            # remembered by another version, or edited by hand
            except (AttributeError, TypeError, ValueError, OverflowError):
                made.put(made.field.default)

    def _release(self) -> None:
        """From here on a value that equals the model's own follows the next model."""
        if self._card is not None:
            for made in self.rows.values():
                made.hold(False)

    def _remember(self) -> None:
        self._desk.state.forms[self.kind] = self.state()
        self._desk.keeper.touch()
        self._arrange()

    def expect(self, **values: Any) -> None:
        """Show what an empty size is taken as where that comes from elsewhere; without values, as the model says."""
        for name in ("width", "height"):
            if self.rows.is_made(name):
                made = self.rows[name]
                made.editor.set_default(values.get(name, self._default_of(made.field)))

    def assume(self, names: tuple[str, ...]) -> None:
        """Take these fields as given from elsewhere, so that they are not asked for here but what goes with them is."""
        self._assumed = frozenset(names)
        if names:
            self._fold("start", "").open()
        self._arrange()

    def _arrange(self) -> None:
        """Show what means something now, and mark the folds that hold something of the user's."""
        for name, others in SHOWN_WITH.items():
            if self.rows.is_made(name):
                there = any(other in self._assumed or self.rows.is_changed(other) for other in others)
                self.rows[name].setVisible(there and name not in self._assumed)
        for name in ("image",):
            if self.rows.is_made(name):
                self.rows[name].setVisible(name not in self._assumed)
        for group, fold in self._folds.items():
            inside = [made for made in self.rows.values() if made.field.group == group]
            fold.mark(any(made.is_changed() for made in inside))

    def _changed(self, name: str) -> None:
        self._remember()
        self.rows[name].hold(False)
        if name == self._model_field:
            self._model()
        if name == self._words:
            self._estimate()
            self._count_soon.start()
        elif self.kind == "speech":
            self._estimate()
        self.changed.emit(name)

    def show_problem(self, problem: Problem) -> bool:
        """Put a problem beside its field. Returns whether there is such a field here."""
        if problem.field not in self.rows:
            return False
        made = self.rows[problem.field]
        made.complain(f"{problem.sentence} {problem.hint}".strip())
        self.go_to(problem.field)
        return True

    def set_last_seed(self, seed: int) -> None:
        editor = self.rows["seed"].editor
        if isinstance(editor, SeedEditor):
            editor.set_last(seed)

    # -- the model --------------------------------------------------------------------------------------------------

    def card(self) -> ModelCard | None:
        editor = self.rows[self._model_field].editor if self._model_field else None
        return editor.card() if isinstance(editor, ModelEditor) else None

    @property
    def model_editor(self) -> ModelEditor:
        editor = self.rows[self._model_field].editor
        assert isinstance(editor, ModelEditor)
        return editor

    def _model(self) -> None:
        """Take over the defaults and limits of the chosen model; grey out what it cannot do."""
        if not self._model_field:
            return
        card = self.card()
        model = self.rows[self._model_field]
        model.complain(model.editor.complaint())  # what was missing may have come, and the other way round
        if card is None or card == self._card:
            return
        self._card = card
        for name, made in self.rows.items():
            self._suit(name, made)
        self._release()
        self.count()
        self.model_changed.emit()

    def _default_of(self, field: Field) -> Any:
        """What the chosen model takes where nothing is chosen."""
        card = self._card
        if card is None:
            return field.default
        if field.name in ("width", "height"):
            return card.defaults.get(field.name) or getattr(card.limits, field.name)
        return card.defaults.get(field.name, field.default)

    def _suit(self, name: str, made: FieldRow) -> None:
        """Give a row the defaults and limits of the chosen model, and grey it out where the model has no use for it."""
        card = self._card
        if card is None or name in (self._words, self._model_field):
            return
        if name == "speaker":
            made.editor.set_high((card.limits.speakers or 1) - 1)
        elif name == "max_tokens":
            made.editor.set_high(card.limits.context)
        made.set_default(self._default_of(made.field))
        if isinstance(made.editor, (CardEditor, ListEditor)):
            made.editor.set_base(card.base)
        able = made.field.suits(card.can)
        if name == "speaker":
            able = (card.limits.speakers or 1) > 1
        reason = tr("“{name}” has one speaker.", name=shown(card.name)) if name == "speaker" else ""
        reason = reason or tr("“{name}” does not use this.", name=shown(card.name))
        made.set_able("" if able else reason)

    # -- counting ---------------------------------------------------------------------------------------------------

    def _lane(self, change: Any) -> None:
        if self.kind in change.lanes:
            self.count()  # a model that has just been loaded can count

    def _job_moved(self, job_id: str) -> None:
        job = self._desk.track.jobs.get(job_id)
        if job is not None and job.kind == self.kind and job.state.ended:
            self._count_soon.start()

    def count(self) -> None:
        """Have the words counted by the model's own tokenizer, if it is loaded."""
        self._estimate()
        session, card = self._desk.session, self.card()
        if self._words not in self.rows or self.kind == "speech" or session is None or card is None:
            return
        text = self.words.value()
        if not text.strip():
            return
        self._asked += 1
        asked, kind = self._asked, self.kind

        def told(count: int | None) -> None:
            if asked == self._asked and count is not None:
                self._tokens_per_character = count / max(1, len(text))
                self._show_count(count, exact=True)

        self._desk.tasks.read(self, lambda: session.count_tokens(kind, card.id, text), told)

    def _estimate(self) -> None:
        if self._words not in self.rows:
            return
        text = self.words.value()
        if self.kind == "speech":
            speed = self.rows["speed"].value() or 1.0
            about_seconds = duration(len(text) * SECONDS_PER_CHARACTER / speed)
            said = one_or_many(len(text), "{n} character", "{n} characters")
            if text.strip():
                said += " · " + tr("about {time}", time=about_seconds)
            self.words.counter.setText(said)
            return
        self._show_count(round(len(text) * self._tokens_per_character), exact=not text)

    def _show_count(self, count: int, *, exact: bool) -> None:
        about = "" if exact else "≈ "
        limit = self._card.limits.prompt_tokens if self._card and self.kind == "image" else None
        if limit:
            said = tr("{n} of {limit} tokens", n=f"{about}{count:,}", limit=f"{limit:,}")
            over = exact and count > limit
            if over:
                self.words.complain(
                    tr("The model reads {limit} tokens; what comes after them is left out.", limit=limit)
                )
            elif self._over:
                self.words.complain(self.words.editor.complaint())
            self._over = over
        else:
            said = about + one_or_many(count, "{n} token", "{n} tokens")
        self.words.counter.setText(said)


def _stack(made: FieldRow) -> None:
    """Put the label of a compact row above its editor, so that two fit side by side."""
    layout = made.layout()
    title = made.label.parentWidget()
    assert isinstance(layout, QVBoxLayout) and title is not None
    title.setMinimumWidth(0)
    title.setMaximumWidth(16_777_215)
    layout.insertWidget(0, title)
    layout.insertWidget(1, made.editor)
