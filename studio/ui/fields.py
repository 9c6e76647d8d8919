"""One editor per type of declared parameter. Knows widgets and declarations; knows nothing of models or jobs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QDoubleValidator, QIntValidator, QKeyEvent, QTextCursor
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QHBoxLayout,
    QLineEdit,
    QPlainTextEdit,
    QSlider,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from studio.core.recipes import MODEL_FIELD, SEED_LIMIT, Field, explain, fields
from studio.ui.strings import as_button, as_tip, tr
from studio.ui.widgets import CalmWheel, Label, Slider, ToolButton, line_height, row, wrap_for

STEPS = 1000  # of a slider
LARGEST = 2**31 - 1  # that a box of Qt takes
DECIMALS = 6  # that are kept of a number; two of them are shown where the others are zero
LONGEST = {"stop": 256}  # characters of one of several texts
WIDE = 200  # from this ratio of limits on a slider moves in powers


class Editor(QWidget):
    """Edits one value.

    Signals:
        changed: the user (or a reset) changed the value.
    """

    changed = Signal()
    compact = True  # stands beside its label; otherwise below it

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.field = field

    def introduce(self, widget: QWidget) -> None:
        """Give the widget that takes the value the field's name, title and description."""
        widget.setObjectName(self.field.name)
        widget.setAccessibleName(tr(self.field.title))
        widget.setToolTip(as_tip(described(self.field)))

    def value(self) -> Any:
        raise NotImplementedError

    def put(self, value: Any) -> None:
        """Show a value; None is "not decided" where the field allows it. Does not tell of it."""
        raise NotImplementedError

    def set_default(self, value: Any) -> None:
        """What is taken when nothing is chosen; shown where a field may be left empty."""

    def complaint(self) -> str:
        """What is wrong with what is typed now, or an empty string."""
        return ""

    def is_wrong(self) -> bool:
        """Whether the value cannot be used; not every complaint is about the value."""
        return bool(self.complaint())

    def set_high(self, high: float | None) -> None:
        """The highest value the chosen model takes; None is the declared limit."""

    def target(self) -> QWidget:
        """The widget that takes the focus."""
        raise NotImplementedError


def described(field: Field) -> str:
    """Help, unit and limits in one tooltip."""
    parts = [tr(field.help)]
    if field.low is not None and field.high is not None and field.type in ("int", "float"):
        unit = f" {tr(field.unit)}" if field.unit else ""
        parts.append(tr("From {low} to {high}.", low=f"{field.low:,g}", high=f"{field.high:,.10g}{unit}"))
    return " ".join(parts)


class _Scale:
    """Between slider positions and values: even steps, or powers where the limits are far apart."""

    def __init__(self, field: Field, high: float | None = None) -> None:
        self.low, self.high = float(field.low or 0), float(high if high is not None else field.high or 1)
        if field.type == "int":
            self.high = min(self.high, float(LARGEST))
        self.whole = field.type == "int"
        self.powers = self.low >= 0 and self.high - self.low > WIDE

    def value(self, at: int) -> float:
        if at in (0, STEPS):  # the ends are exact, not round
            return self.high if at else self.low
        share = at / STEPS
        if self.powers:
            found = self.low - 1 + (self.high - self.low + 1) ** share
        else:
            found = self.low + share * (self.high - self.low)
        return self._nice(found)

    def at(self, value: float) -> int:
        if self.powers:
            return round(STEPS * math.log(max(1.0, value - self.low + 1)) / math.log(self.high - self.low + 1))
        return round(STEPS * (value - self.low) / ((self.high - self.low) or 1))

    def _nice(self, value: float) -> float:
        if not self.whole:
            return min(self.high, max(self.low, round(value, 2)))
        if value < 50 or not self.powers:
            return min(self.high, max(self.low, round(value)))
        step = 10 ** (int(math.log10(value)) - 1)
        return float(min(self.high, max(self.low, round(value / step) * step)))


class _DecimalBox(QDoubleSpinBox):
    """Shows two decimals, and more where a value has more: a recipe that is taken over must stay what it is."""

    def textFromValue(self, value: float) -> str:
        text = self.locale().toString(value, "f", DECIMALS)
        return text[: len(text) - DECIMALS + 2] + text[len(text) - DECIMALS + 2 :].rstrip("0")


class NumberEditor(Editor):
    """A slider and a box."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self._scale = _Scale(field)
        self._slider = Slider()
        self._slider.setRange(0, STEPS)
        self._slider.setObjectName(f"{field.name}_slider")
        self._slider.setAccessibleName(tr(field.title))
        self._slider.setPageStep(STEPS // 20)
        self._box: QSpinBox | QDoubleSpinBox
        if field.type == "int":
            self._box = QSpinBox()
            self._box.setRange(int(field.low or 0), int(min(field.high or LARGEST, LARGEST)))
        else:
            self._box = _DecimalBox()
            self._box.setRange(float(field.low or 0), float(field.high or 1))
            self._box.setDecimals(DECIMALS)
            self._box.setSingleStep(0.05 if (field.high or 1) <= 10 else 0.5)
        self._box.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._box.setObjectName(field.name)
        self._box.setAccessibleName(tr(field.title))
        self._box.setFixedWidth(64 if (field.high or 0) < 10_000 else 76 if (field.high or 0) < 10_000_000 else 92)
        self._box.setKeyboardTracking(True)
        calm = CalmWheel(self)
        for widget in (self._slider, self._box):
            widget.setToolTip(as_tip(described(field)))
            widget.installEventFilter(calm)
            widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setLayout(row(self._slider, self._box))
        self._slider.actionTriggered.connect(self._stepped)
        self._slider.valueChanged.connect(self._slid)
        self._box.valueChanged.connect(self._boxed)
        self._quiet = False

    def only_box(self) -> None:
        """Without the slider, where there is no room for it."""
        self._slider.hide()

    def set_high(self, high: float | None) -> None:
        most = high if high is not None else self.field.high or 1
        if most != self._scale.high:
            self._scale = _Scale(self.field, most)
            self._box.setMaximum(min(most, LARGEST))  # type: ignore[arg-type]
            self.put(self._box.value())

    def _stepped(self, action: int) -> None:
        """A key on the slider moves at least to the next value."""
        kinds = QSlider.SliderAction
        up = action in (kinds.SliderSingleStepAdd.value, kinds.SliderPageStepAdd.value)
        if not up and action not in (kinds.SliderSingleStepSub.value, kinds.SliderPageStepSub.value):
            return
        at = self._slider.sliderPosition()
        while 0 < at < STEPS and self._scale.value(at) == self._box.value():
            at += 1 if up else -1
        self._slider.setSliderPosition(at)

    def _slid(self, at: int) -> None:
        if not self._quiet:
            self._box.setValue(self._scale.value(at))  # type: ignore[arg-type]

    def _boxed(self, value: float) -> None:
        before, self._quiet = self._quiet, True
        self._slider.setValue(self._scale.at(value))
        self._quiet = before
        if not before:
            self.changed.emit()

    def value(self) -> Any:
        return self._box.value() if self.field.type == "int" else round(self._box.value(), DECIMALS)

    def put(self, value: Any) -> None:
        self._quiet = True
        self._box.setValue(value)
        self._slider.setValue(self._scale.at(self._box.value()))
        self._quiet = False

    def target(self) -> QWidget:
        return self._box


class OptionalNumber(Editor):
    """A number that may be left empty; the placeholder says what is taken then."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self._line = QLineEdit()
        self.introduce(self._line)
        if field.type == "float":
            self._line.setValidator(QDoubleValidator(self))
        elif (field.high or 0) < 2**31:
            self._line.setValidator(QIntValidator(self))
        self._line.setPlaceholderText(tr("model's own"))
        self._line.textEdited.connect(lambda _: self.changed.emit())
        self._around = row(self._line)
        self.setLayout(self._around)

    def value(self) -> Any:
        text = self._line.text().strip()
        if not text:
            return None
        try:
            return int(text) if self.field.type == "int" else float(text.replace(",", "."))
        except ValueError:
            return text  # the complaint says what is wrong with it

    def put(self, value: Any) -> None:
        self._line.setText("" if value is None else f"{value}")

    def set_default(self, value: Any) -> None:
        self._line.setPlaceholderText(tr("model's own") if value is None else f"{value}")

    def say_empty(self, text: str) -> None:
        """What an empty field means."""
        self._line.setPlaceholderText(text)

    def complaint(self) -> str:
        value = self.value()
        if value is None:
            return ""
        low, high = self.field.low, self.field.high
        good = not isinstance(value, str) and (low is None or value >= low) and (high is None or value <= high)
        return "" if good else explain(self.field, value)

    def target(self) -> QWidget:
        return self._line


class SeedEditor(OptionalNumber):
    """A seed: empty is random; the button takes the last one, or goes back to random."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self._last: int | None = None
        self._line.setPlaceholderText(tr("random"))
        self._line.setMaxLength(len(str(SEED_LIMIT)))
        self._keep = ToolButton("", "dices", role="", clicked=self._press)
        self._keep.setObjectName("seed_button")
        self._around.addWidget(self._keep)
        self.changed.connect(self._name)
        self._name()

    def set_default(self, value: Any) -> None:
        self._line.setPlaceholderText(tr("random"))

    def put(self, value: Any) -> None:
        super().put(value)
        self._name()

    def set_last(self, seed: int) -> None:
        """The seed of the newest work, offered for keeping."""
        self._last = seed
        self._name()

    def _name(self) -> None:
        empty = self.value() is None
        self._keep.set_icon("rotate-ccw" if empty and self._last is not None else "dices")
        self._keep.name(tr("Keep the last seed") if empty else tr("Take a random seed"))
        self._keep.setEnabled(not empty or self._last is not None)

    def _press(self) -> None:
        self.put(self._last if self.value() is None else None)
        self.changed.emit()


class ChoiceEditor(Editor):
    """One of a few words.

    Args:
        titles: value and title of each, where the words themselves would say too little.
    """

    def __init__(self, field: Field, titles: Sequence[tuple[str, str]] | None = None) -> None:
        super().__init__(field)
        self._box = QComboBox()
        self.introduce(self._box)
        self._box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._box.installEventFilter(CalmWheel(self))
        if titles is None:
            titles = [(choice, tr(choice.replace("_", " "))) for choice in field.choices]
        for choice, title in titles:
            self._box.addItem(title, choice)
        self._box.activated.connect(lambda _: self.changed.emit())
        self.setLayout(row(self._box))

    def value(self) -> Any:
        return self._box.currentData()

    def put(self, value: Any) -> None:
        self._box.setCurrentIndex(max(0, self._box.findData(value)))

    def target(self) -> QWidget:
        return self._box


class SwitchEditor(Editor):
    """Yes or no."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self._box = QCheckBox()
        self.introduce(self._box)
        self._box.setMinimumHeight(28)
        self._box.clicked.connect(lambda *_: self.changed.emit())
        self.setLayout(row(self._box, None))

    def value(self) -> Any:
        return self._box.isChecked()

    def put(self, value: Any) -> None:
        self._box.setChecked(bool(value))

    def target(self) -> QWidget:
        return self._box


class ChoicesEditor(Editor):
    """Some of a few words, each with a box to tick. None ticked is as good as all."""

    compact = False

    def __init__(self, field: Field, titles: dict[str, str] | None = None) -> None:
        super().__init__(field)
        self._boxes: dict[str, QCheckBox] = {}
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(0)
        for at, choice in enumerate(field.choices):
            box = QCheckBox(as_button((titles or {}).get(choice) or tr(choice.replace("_", " "))))
            box.setObjectName(f"{field.name}_{choice}")
            box.setMinimumHeight(28)
            box.clicked.connect(lambda *_: self.changed.emit())
            self._boxes[choice] = box
            grid.addWidget(box, at // 2, at % 2)

    def value(self) -> Any:
        return tuple(choice for choice, box in self._boxes.items() if box.isChecked())

    def put(self, value: Any) -> None:
        for choice, box in self._boxes.items():
            box.setChecked(choice in (value or ()))

    def target(self) -> QWidget:
        return next(iter(self._boxes.values()))

    def count(self) -> str:
        """Said beside the title."""
        chosen = len(self.value())
        return tr("{n} of {all}", n=chosen, all=len(self._boxes)) if chosen else tr("all")


class LineEditor(Editor):
    """A short text."""

    compact = False

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self._line = QLineEdit()
        self.introduce(self._line)
        self._line.textEdited.connect(lambda _: self.changed.emit())
        self.setLayout(row(self._line))

    def value(self) -> Any:
        return self._line.text()

    def put(self, value: Any) -> None:
        self._line.setText(value or "")

    def target(self) -> QWidget:
        return self._line


class StringsEditor(Editor):
    """Several short texts, one in a line; a line break inside one is written as \\n."""

    compact = False

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self._edit = PlainEdit(tr(field.title), lines=2)
        self._edit.setObjectName(field.name)
        self._edit.setPlaceholderText(tr("one in each line; \\n stands for a line break"))
        self._edit.setToolTip(as_tip(described(field)))
        self._edit.textChanged.connect(self._typed)
        self._quiet = False
        self.setLayout(row(self._edit))

    def _typed(self) -> None:
        if not self._quiet:
            self.changed.emit()

    def value(self) -> Any:
        lines = self._edit.toPlainText().split("\n")
        return tuple(_unescaped(text) for text in lines if text)

    def put(self, value: Any) -> None:
        self._quiet = True
        self._edit.setPlainText("\n".join(_escaped(text) for text in value or ()))
        self._quiet = False

    def complaint(self) -> str:
        value = self.value()
        most = int(self.field.high or 16)
        long = LONGEST.get(self.field.name, 4096)
        return explain(self.field, value) if len(value) > most or any(len(text) > long for text in value) else ""

    def target(self) -> QWidget:
        return self._edit


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def _unescaped(text: str) -> str:
    made, signs = [], {"n": "\n", "t": "\t", "\\": "\\"}
    at = 0
    while at < len(text):
        if text[at] == "\\" and at + 1 < len(text) and text[at + 1] in signs:
            made.append(signs[text[at + 1]])
            at += 2
        else:
            made.append(text[at])
            at += 1
    return "".join(made)


class PlainEdit(QPlainTextEdit):
    """A plain text that can be typed into: Tab leaves it, more than `limit` characters are refused with a word.

    Signals:
        too_long(int): so many characters were to be pasted; they were not.
    """

    too_long = Signal(int)

    def __init__(self, name: str, *, lines: int = 4, limit: int = 0) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setTabChangesFocus(True)
        self.setProperty("role", "prompt")
        self._limit, self._lines, self._most = limit, lines, lines
        self._fit()

    def set_lines(self, least: int, most: int) -> None:
        """Grow with the text, from `least` to `most` lines."""
        self._lines, self._most = least, most
        self.textChanged.connect(self._fit)
        self._fit()

    def _fit(self) -> None:
        wanted = min(self._most, max(self._lines, round(self.document().size().height())))
        height = wanted * line_height(self) + 24
        if self.minimumHeight() != height:
            self.setFixedHeight(height)

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        if self._most > self._lines:
            self._fit()

    def setPlainText(self, text: str) -> None:
        wrap_for(self, text)
        super().setPlainText(text)

    def canInsertFromMimeData(self, source: Any) -> bool:
        # a dropped file is for the tab around: its name is not what was meant
        return not any(url.isLocalFile() for url in source.urls()) and bool(super().canInsertFromMimeData(source))

    def insertFromMimeData(self, source: Any) -> None:
        text = source.text()
        replaced = self.textCursor().selectionEnd() - self.textCursor().selectionStart()
        if self._limit and len(text) + self.document().characterCount() - 1 - replaced > self._limit:
            self.too_long.emit(len(text))
            return
        wrap_for(self, text)
        self.textCursor().insertText(text)  # plain, whatever was copied

    def keyPressEvent(self, event: QKeyEvent) -> None:
        # Ctrl+Enter and Esc belong to the window
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and event.modifiers() & (
            Qt.KeyboardModifier.ControlModifier
        ):
            event.ignore()
            return
        if event.key() == Qt.Key.Key_Escape:
            event.ignore()
            return
        super().keyPressEvent(event)


class TextEditor(Editor):
    """A long text."""

    compact = False

    def __init__(self, field: Field, *, least: int = 3, most: int = 12) -> None:
        super().__init__(field)
        self._edit = PlainEdit(tr(field.title), limit=int(field.high or 0))
        self._edit.set_lines(least, most)
        self._edit.setObjectName(field.name)
        self._edit.textChanged.connect(self._typed)
        self._edit.too_long.connect(self._refuse)
        self._quiet, self._refused = False, 0
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        around.addWidget(self._edit)

    def _typed(self) -> None:
        self._refused = 0
        if not self._quiet:
            self.changed.emit()

    def _refuse(self, count: int) -> None:
        self._refused = count
        self.changed.emit()

    def value(self) -> Any:
        return self._edit.toPlainText()

    def put(self, value: Any) -> None:
        self._quiet = True
        if value != self._edit.toPlainText():
            self._edit.setPlainText(value or "")
            self._edit.moveCursor(QTextCursor.MoveOperation.End)
        self._quiet = False

    def complaint(self) -> str:
        if self._refused:
            most = f"{int(self.field.high or 0):,}"
            return tr(
                "{n} characters were not pasted: {title} takes at most {most}.",
                n=f"{self._refused:,}", title=tr(self.field.title), most=most,
            )  # fmt: skip
        return explain(self.field, self.value()) if self.is_wrong() else ""

    def is_wrong(self) -> bool:
        # what was not pasted is not in the way of what is there
        return bool(self.field.high) and self._edit.document().characterCount() - 1 > (self.field.high or 0)

    def target(self) -> QWidget:
        return self._edit

    @property
    def edit(self) -> PlainEdit:
        return self._edit


def editor_for(field: Field) -> Editor | None:
    """The editor of a declared parameter; None for what has no editor of its own."""
    if field.name == "seed":
        return SeedEditor(field)
    if field.optional and field.type in ("int", "float"):
        return OptionalNumber(field)
    if field.type in ("int", "float"):
        return NumberEditor(field)
    plain: dict[str, Callable[[Field], Editor]] = {
        "choice": ChoiceEditor, "choices": ChoicesEditor, "bool": SwitchEditor, "strings": StringsEditor
    }  # fmt: skip
    if (made := plain.get(field.type)) is not None:
        return made(field)
    if field.type == "str":
        return TextEditor(field) if field.multiline else LineEditor(field)
    return None


def _plain(field: Field, value: Any) -> list[dict[str, Any]]:
    """A list of structs, or of what stands for them, as plain values, none of them left out."""
    assert field.item is not None
    declared = fields(field.item)
    return [
        {f.name: each.get(f.name, f.default) if isinstance(each, dict) else getattr(each, f.name) for f in declared}
        for each in value or ()
    ]


class FieldRow(QWidget):
    """A label, the dot of a changed value that resets it, the editor, and the problem beside it.

    Signals:
        changed(str): the field's name.
    """

    changed = Signal(str)

    def __init__(self, field: Field, editor: Editor, *, label_width: int = 124) -> None:
        super().__init__()
        self.field, self.editor = field, editor
        self._default: Any = field.default
        self._held = False  # the value was chosen before the model was known
        unit = f"  {tr(field.unit)}" if field.unit else ""
        self.label = Label(tr(field.title))
        self.label.setBuddy(editor.target())
        self.label.setToolTip(as_tip(described(field)))
        self.unit = Label(unit.strip(), "soft")
        if not unit:  # not setHidden(False): without a parent yet, that would show a window of its own
            self.unit.hide()
        self.reset = ToolButton(tr("Reset {title}", title=tr(field.title)), text="•", role="reset")
        self.reset.setObjectName(f"{field.name}_reset")
        self.reset.setFixedSize(20, 28)
        self.reset.clicked.connect(self._reset)
        self.counter = Label(role="soft")
        self.counter.setParent(self)
        self.counter.hide()
        self.problem = Label(role="problem", wrap=True)
        self.problem.hide()
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        around.setSpacing(4)
        head = QHBoxLayout()
        head.setSpacing(4)
        head.addWidget(self.label)
        head.addWidget(self.unit)
        head.addWidget(self.reset)
        if editor.compact:
            title = QWidget()
            title.setLayout(head)
            title.setFixedWidth(label_width)
            head.setContentsMargins(0, 0, 0, 0)
            head.addStretch(1)
            across = QHBoxLayout()
            across.setSpacing(4)
            across.addWidget(title)
            across.addWidget(editor, 1)
            around.addLayout(across)
        else:
            head.addStretch(1)
            head.addWidget(self.counter)
            around.addLayout(head)
            around.addWidget(editor)
        around.addWidget(self.problem)
        editor.changed.connect(self._changed)
        self.counter.setVisible(isinstance(editor, ChoicesEditor))
        self.put(field.default)

    @property
    def default(self) -> Any:
        return self._default

    def set_default(self, value: Any) -> None:
        """Another default, for example another model's; a value that was not changed follows it."""
        untouched = not self._held and not self.is_changed()
        self._default = value
        self.editor.set_default(value)
        if untouched:
            self.put(None if self.field.optional else value)
        self._mark()

    def value(self) -> Any:
        return self.editor.value()

    def hold(self, held: bool) -> None:
        """Whether the present value stays when the default changes, even if it equals the default of now."""
        self._held = held

    def set_able(self, reason: str) -> None:
        """Grey the field out, and say why wherever the pointer finds it; an empty reason makes it usable."""
        self.setEnabled(not reason)
        tip = as_tip(f"{reason}\n{described(self.field)}".strip())
        for widget in (self.label, self.editor.target(), *self.editor.findChildren(QSlider)):
            widget.setToolTip(tip)
        self.setToolTip(as_tip(reason))
        self.complain(self.editor.complaint() if not reason else "")
        if reason:
            self.editor.target().setAccessibleDescription(reason)

    def is_changed(self) -> bool:
        value = self.value()
        if self.field.optional and value is None:
            return False
        if self.field.type == "structs":  # edited as plain values, declared as structs
            return _plain(self.field, value) != _plain(self.field, self._default)
        return bool(value != self._default)

    def put(self, value: Any) -> None:
        self.editor.put(value)
        self._mark()
        self.complain(self.editor.complaint())

    def complain(self, sentence: str) -> None:
        """Show a problem beside the field; an empty sentence takes it away."""
        self.problem.setText(sentence)
        self.problem.setVisible(bool(sentence))
        self.editor.target().setAccessibleDescription(sentence or described(self.field))

    def _reset(self) -> None:
        self.put(None if self.field.optional else self._default)
        self.editor.target().setFocus()
        self.changed.emit(self.field.name)

    def _changed(self) -> None:
        self._mark()
        self.complain(self.editor.complaint())
        self.changed.emit(self.field.name)

    def _mark(self) -> None:
        words = self.field.required or (self.field.multiline and self.field.group == "main")
        words = words or self.field.name in MODEL_FIELD.values()  # which one of them is the default is of no interest
        dot = self.is_changed() and not words
        if isinstance(self.editor, ChoicesEditor):
            self.counter.setText(self.editor.count())
        # stays in place, so that nothing moves when a value changes
        self.reset.setEnabled(dot)
        self.reset.setText("•" if dot else "")
        self.reset.setFocusPolicy(Qt.FocusPolicy.StrongFocus if dot else Qt.FocusPolicy.NoFocus)
        self.reset.setVisible(not words)


class EnterFilter(QObject):
    """Makes Ctrl+Enter in a text do what the big button does."""

    pressed = Signal()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress:
            enter = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
            if enter and event.modifiers() & Qt.KeyboardModifier.ControlModifier:
                self.pressed.emit()
                return True
        return False
