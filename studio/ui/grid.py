"""Grids in the window: the dialog that asks what is to vary, and what is known of the grids that are under way.

Knows declarations, the desk and the session's groups; what a text of values means is the business of core/grids.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QComboBox,
    QCompleter,
    QDialog,
    QGridLayout,
    QLineEdit,
    QMenu,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from studio.core.cards import ModelCard
from studio.core.grids import (
    ORDER,
    SEARCH,
    Axis,
    Choosable,
    Group,
    check_size,
    choosable,
    chosen,
    parse_values,
    write_values,
)
from studio.core.problems import BadRecipe, Problem
from studio.core.recipes import ImageRecipe, fields
from studio.core.text import shown
from studio.core.works import Change, Work
from studio.ui import theme
from studio.ui.desk import Desk
from studio.ui.strings import as_button, as_tip, one_or_many, tr
from studio.ui.widgets import Button, Label, ToolButton, row, then

if TYPE_CHECKING:
    from studio.app.session import Session

REMEMBERED = "grid"  # its place in what the window remembers
EXAMPLES = {
    "int": "10, 20, 30   or   10-30 (+5)   or   10-30 [3]",
    "float": "3, 5, 7.5   or   0.2-1 (+0.2)   or   0.2-1 [5]",
    "search": "a word of the prompt, what takes its place, …",
    "order": "words of the prompt, separated by commas",
    "text": "separated by commas; “\"\"” around a comma",
    "choice": "names, separated by commas",
}  # fmt: skip


def placeholder(what: Choosable) -> str:
    """An example of how values of this are written."""
    if what.declared is None:
        return tr(EXAMPLES["search" if what.name == SEARCH else "order"])
    kind = what.declared.type
    named = kind == "choice" or what.declared.refers or what.name == "model"
    return tr(EXAMPLES["choice" if named else kind if kind in EXAMPLES else "text"])


def every(what: Choosable, desk: Desk) -> str:
    """All values there are, written out; empty where there is no end of them."""
    declared = what.declared
    if declared is None:
        return ""
    if declared.type == "choice":
        return write_values(declared.choices)
    kind = "image" if what.name == "model" else declared.refers
    return write_values(card.id for card in desk.cards(kind)) if kind and kind != "picture" else ""


def about(seconds: float) -> str:
    """A length of time that is only known roughly."""
    if seconds < 90:
        return tr("about {n} s", n=max(1, round(seconds)))
    if seconds < 5400:
        return tr("about {n} min", n=round(seconds / 60))
    return tr("about {n} h", n=f"{seconds / 3600:.1f}")


class Picker(QComboBox):
    """A list of what can be changed, and a line to search it in.

    Signals:
        picked: something else is chosen.
    """

    picked = Signal()

    def __init__(self, name: str, things: tuple[Choosable, ...]) -> None:
        super().__init__()
        self.setObjectName(name)
        self.setEditable(True)
        self.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(18)
        self.addItem(tr("nothing"), "")
        for thing in things:
            self.addItem(tr(thing.title), thing.name)
            self.setItemData(self.count() - 1, as_tip(tr(thing.help)), Qt.ItemDataRole.ToolTipRole)
        completer = QCompleter(self.model(), self)
        completer.setFilterMode(Qt.MatchFlag.MatchContains)
        completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        completer.setCompletionMode(QCompleter.CompletionMode.PopupCompletion)
        self.setCompleter(completer)
        self.setMaxVisibleItems(16)
        completer.setMaxVisibleItems(12)
        line = self.lineEdit()
        assert line is not None
        line.setPlaceholderText(tr("nothing"))
        line.editingFinished.connect(self.settle)
        self._before = self.currentData()
        self.currentIndexChanged.connect(lambda _: self._tell())

    def thing(self) -> str:
        """The name of what is chosen; empty for nothing."""
        return str(self.currentData() or "")

    def choose(self, name: str) -> None:
        at = self.findData(name)
        self.setCurrentIndex(max(0, at))
        self.settle()

    def settle(self) -> None:
        """What was typed is one of the list, or is taken back."""
        line = self.lineEdit()
        assert line is not None
        typed = line.text().strip().casefold()
        found = [at for at in range(self.count()) if typed and typed in self.itemText(at).casefold()]
        exact = [at for at in found if self.itemText(at).casefold() == typed]
        at = next(iter(exact or found), self.currentIndex() if typed else 0)
        self.setCurrentIndex(at)
        self.setEditText(self.itemText(at) if at > 0 else "")
        self._tell()

    def _tell(self) -> None:
        if self.currentIndex() <= 0:
            self.setEditText("")
        if self.thing() != self._before:
            self._before = self.thing()
            self.picked.emit()


class AxisRow(QObject):
    """One direction of the grid: what changes, its values, and how many they are or what is wrong with them.

    Signals:
        changed: anything of it.
    """

    changed = Signal()

    def __init__(self, parent: QWidget, key: str, title: str, desk: Desk, things: tuple[Choosable, ...]) -> None:
        super().__init__(parent)
        self.key, self.title, self._desk = key, title, desk
        self.label = Label(title)
        self.picker = Picker(f"{key}_field", things)
        self.picker.setAccessibleName(tr("{axis}: what changes", axis=title))
        self.label.setBuddy(self.picker)
        self.values = QLineEdit()
        self.values.setObjectName(f"{key}_values")
        self.values.setAccessibleName(tr("{axis}: values", axis=title))
        self.values.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.all = Button(tr("All"), tip=tr("Take all there are"), clicked=self._fill)
        self.all.setObjectName(f"{key}_all")
        self.all.setAccessibleName(tr("{axis}: take all there are", axis=title))
        self.count = Label(role="soft")
        self.count.setObjectName(f"{key}_count")
        self.problem = Label(role="problem", wrap=True)
        self.problem.setObjectName(f"{key}_problem")
        self.problem.hide()
        self.axis: Axis | None = None
        self.wrong = ""
        self.picker.picked.connect(self._read)
        self.values.textChanged.connect(lambda _: self._read())
        self._read()

    def put(self, field: str, values: str) -> None:
        self.picker.choose(field)
        self.values.setText(values)

    def state(self) -> dict[str, str]:
        return {"field": self.picker.thing(), "values": self.values.text()}

    def complain(self, sentence: str) -> None:
        self.problem.setText(sentence)
        self.problem.setVisible(bool(sentence))
        self.values.setAccessibleDescription(sentence or self.count.text())

    def _fill(self) -> None:
        self.values.setText(every(chosen(self.picker.thing()), self._desk))
        self.values.setFocus()

    def _read(self) -> None:
        name, text = self.picker.thing(), self.values.text()
        self.axis, self.wrong = None, ""
        self.values.setEnabled(bool(name))
        what = chosen(name) if name else None
        self.all.setEnabled(what is not None and bool(every(what, self._desk)))
        self.values.setPlaceholderText(placeholder(what) if what is not None else "")
        self.values.setToolTip(as_tip(tr(what.help) if what is not None else ""))
        if what is not None and text.strip():
            try:
                self.axis = Axis(what.name, parse_values(what.name, text))
            except BadRecipe as error:
                self.wrong = f"{error.problem.sentence} {error.problem.hint}".strip()
        number = len(self.axis.values) if self.axis is not None else 0
        if self.axis is not None and what is not None and what.name == ORDER:
            self.count.setText(one_or_many(number, "{n} order", "{n} orders"))
        else:
            self.count.setText(one_or_many(number, "{n} value", "{n} values") if number else "")
        self.complain(self.wrong)
        self.changed.emit()


class GridDialog(QDialog):
    """Asks what is to vary in a picture, and how.

    Args:
        given: the form's values. card: the chosen model.

    Signals:
        begun(Group): the grid is in the queue.
    """

    begun = Signal(object)

    def __init__(self, parent: QWidget, desk: Desk, given: dict[str, Any], card: ModelCard | None) -> None:
        super().__init__(parent)
        self.setObjectName("grid_dialog")
        self.setWindowTitle(tr("Make a grid of variations"))
        self._desk, self._given, self._card = desk, given, card
        self._per_step = 0.0  # seconds, of the last picture
        things = usable(given, card)
        titles = {"x": tr("Across"), "y": tr("Down"), "z": tr("Blocks")}
        self.rows = {key: AxisRow(self, key, title, desk, things) for key, title in titles.items()}
        self.swaps: dict[str, ToolButton] = {}
        for key, other in (("x", "y"), ("y", "z")):
            swap = ToolButton(tr("Swap “{one}” and “{other}”", one=titles[key], other=titles[other]), text="⇅")
            swap.clicked.connect(lambda _=False, k=key, o=other: self._swap(k, o))
            self.swaps[key] = swap
        self.total = Label(role="heading", wrap=True)
        self.total.setObjectName("grid_total")
        self.problem = Label(role="problem", wrap=True)
        self.problem.setObjectName("grid_problem")
        self.problem.hide()
        self.start = Button(tr("Start"), role="primary", clicked=self._start)
        self.start.setObjectName("grid_start")
        self.start.setDefault(True)
        self.cancel = Button(tr("Cancel"), clicked=self.reject)
        self.cancel.setObjectName("grid_cancel")

        places = QGridLayout()
        places.setHorizontalSpacing(theme.UNIT)
        places.setVerticalSpacing(6)
        places.setColumnStretch(2, 1)
        for at, head in enumerate((tr("What changes"), tr("Values")), 1):
            places.addWidget(Label(head, "soft"), 0, at)
        for number, (key, made) in enumerate(self.rows.items()):
            line = 1 + 3 * number
            places.addWidget(made.label, line, 0)
            places.addWidget(made.picker, line, 1)
            places.addWidget(made.values, line, 2)
            places.addWidget(made.all, line, 3)
            places.addWidget(made.count, line, 4)
            places.addWidget(made.problem, line + 1, 1, 1, 4)
            if key in self.swaps:
                self.swaps[key].setObjectName(f"{key}_swap")
                places.addWidget(self.swaps[key], line + 2, 1, Qt.AlignmentFlag.AlignHCenter)
        places.setColumnMinimumWidth(4, 72)
        around = QVBoxLayout(self)
        around.setContentsMargins(20, 16, 20, 16)
        around.setSpacing(12)
        around.addWidget(Label(tr("Make a grid of variations"), "title"))
        around.addWidget(
            Label(tr("Every combination is painted with the form's other values, and a labelled sheet at the end."),
                  "soft", wrap=True)
        )  # fmt: skip
        around.addLayout(places)
        around.addStretch(1)
        around.addWidget(self.problem)
        last = row(spacing=8)
        last.addWidget(self.total, 1)
        last.addWidget(self.cancel)
        last.addWidget(self.start)
        around.addLayout(last)
        remembered = desk.state.forms.get(REMEMBERED, {})
        for key, made in self.rows.items():
            kept = remembered.get(key)
            if isinstance(kept, dict):
                made.put(str(kept.get("field", "")), str(kept.get("values", "")))
            made.changed.connect(self._count)
            made.picker.installEventFilter(self)
        self.resize(min(760, parent.width() - 40), 380)
        self._count()
        first = self.rows["x"]
        (first.values if first.picker.thing() else first.picker).setFocus()
        session = desk.session
        if session is not None:
            desk.tasks.read(self, lambda: last_seconds(session), self._timed)

    def axes(self) -> list[Axis | None]:
        return [made.axis for made in self.rows.values()]

    def _timed(self, per_step: float) -> None:
        self._per_step = per_step
        self._count()

    def _swap(self, one: str, other: str) -> None:
        a, b = self.rows[one].state(), self.rows[other].state()
        self.rows[one].put(**b)
        self.rows[other].put(**a)

    def _count(self) -> None:
        """Say how many pictures there will be, and how long that takes; or what is in the way."""
        self.problem.hide()
        axes = [axis for axis in self.axes() if axis is not None]
        halfway = [made for made in self.rows.values() if made.picker.thing() and made.axis is None]
        good, said = False, tr("Choose what changes.")
        if axes:
            try:
                count = check_size(*axes)
                sizes = " × ".join(f"{len(axis.values):,}" for axis in axes)
                pictures = one_or_many(count, "{n} picture", "{n} pictures")
                said = f"{sizes} = {pictures}" if len(axes) > 1 else pictures
                if self._per_step:
                    said = f"{said}, {about(count * self._per_step * self._steps(axes))}"
                good = not halfway
            except BadRecipe as error:
                said = f"{error.problem.sentence} {error.problem.hint}".strip()
        elif halfway and not any(made.wrong for made in halfway):
            said = tr("Write the values it takes.")
        self.total.setText(said)
        self.start.setEnabled(good and self._desk.session is not None)

    def _steps(self, axes: list[Axis]) -> float:
        """Steps of a picture, on average."""
        own = next((axis.values for axis in axes if axis.field == "steps"), None)
        if own is not None:
            return math.fsum(own) / len(own)
        usual = {f.name: f.default for f in fields(ImageRecipe)}["steps"]
        return float(self._given.get("steps") or (self._card.defaults.get("steps") if self._card else 0) or usual)

    def _start(self) -> None:
        session = self._desk.session
        axes = [axis for axis in self.axes() if axis is not None]
        if session is None or not axes:
            return
        given, ground, whole = dict(self._given), theme.current().name, self.axes()
        self._remember()
        self.start.setEnabled(False)

        def ask() -> Group:
            recipe = session.recipe("image", given).recipe
            assert isinstance(recipe, ImageRecipe)
            # what is not said across goes down: a grid always has a first direction
            x, y, z = whole if whole[0] is not None else (*axes, None, None)[:3]
            assert x is not None
            return session.grid(recipe, x, y, z, ground=ground)

        self._desk.tasks.write(self, ask, self._begun, self._refused)

    def _begun(self, group: Group) -> None:
        then(lambda: self.begun.emit(group), self.accept)()

    def _refused(self, problem: Problem) -> None:
        """Beside the axis it belongs to, or below all."""
        self.start.setEnabled(True)
        sentence = f"{problem.sentence} {problem.hint}".strip()
        for made in self.rows.values():
            if made.axis is not None and problem.field and made.axis.field.split(".")[0] == problem.field.split(".")[0]:
                made.complain(sentence)
                made.values.setFocus()
                return
        self.problem.setText(sentence)
        self.problem.show()

    def _remember(self) -> None:
        self._desk.state.forms[REMEMBERED] = {key: made.state() for key, made in self.rows.items()}
        self._desk.keeper.touch()

    def done(self, result: int) -> None:
        self._remember()
        super().done(result)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Enter in a picker takes what was typed there, and does not start a thousand pictures."""
        pressed = event.type() == QEvent.Type.KeyPress and isinstance(event, QKeyEvent)
        if not pressed or not isinstance(watched, Picker):
            return False
        assert isinstance(event, QKeyEvent)
        if event.key() not in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            return False
        watched.settle()
        return True


def usable(given: dict[str, Any], card: ModelCard | None) -> tuple[Choosable, ...]:
    """What can be varied: of what the model can do, with the additions that are chosen."""
    outer = {f.name: f for f in fields(ImageRecipe)}
    there = {name: len(given.get(name) or ()) for name, field in outer.items() if field.type == "structs"}
    can = card.can if card is not None else ()
    return tuple(
        thing for thing in choosable(there) if thing.declared is None or outer[thing.name.split(".")[0]].suits(can)
    )


def last_seconds(session: Session) -> float:
    """Seconds that the newest picture took for each of its steps; 0 where that is not known."""
    for work in session.works(limit=10, kind="image"):
        if isinstance(work.recipe, ImageRecipe) and work.seconds > 0:
            return work.seconds / work.recipe.steps
    return 0.0


class Grids(QObject):
    """The grids that are under way: cancelled as a whole, and told of when their sheet is there.

    Signals:
        sheet(Work): one that the user asked to see.
    """

    sheet = Signal(object)

    def __init__(self, parent: QWidget, desk: Desk) -> None:
        super().__init__(parent)
        self._desk = desk
        self.open: list[Group] = []
        self._reading = self._again = False
        desk.opened.connect(self._read)
        desk.change.connect(self._changed)

    def fill(self, menu: QMenu) -> None:
        """An entry for each that can be cancelled."""
        for group in self.open:
            words = tr(
                "Cancel the grid “{title}” ({n} of {all})", title=shown(group.title, 30), n=group.ended,
                all=len(group.jobs),
            )  # fmt: skip
            menu.addAction(as_button(words)).triggered.connect(lambda *_, g=group: self.cancel(g))

    def cancel(self, group: Group) -> None:
        session = self._desk.session
        if session is not None:
            self._desk.tasks.write(self, lambda: session.cancel_group(group.id), None, self._desk.failed.emit)

    def _changed(self, change: Change) -> None:
        if change.groups:
            self._read()

    def _read(self) -> None:
        session = self._desk.session
        self._again = self._reading
        if session is None or self._reading:
            return
        self._reading = True
        before = [group.id for group in self.open]

        def look() -> tuple[list[Group], list[tuple[Group, list[Work]]]]:
            now = session.groups(unfinished=True)
            over = [session.group(each) for each in before if all(each != group.id for group in now)]
            return now, [(group, session.works_of(group.sheet) if group.sheet else []) for group in over]

        self._desk.tasks.read(self, look, self._found, self._unread)

    def _found(self, found: tuple[list[Group], list[tuple[Group, list[Work]]]]) -> None:
        self.open, over = found
        self._go_on()
        for group, works in over:
            if works:
                self._tell(group, works[0])

    def _unread(self, problem: Problem) -> None:
        self._go_on()
        self._desk.failed.emit(problem)

    def _go_on(self) -> None:
        self._reading = False
        if self._again:
            self._read()

    def _tell(self, group: Group, work: Work) -> None:
        show: Callable[[], Any] = lambda: self.sheet.emit(work)  # noqa: E731
        sentence = tr("The sheet of “{title}” is ready.", title=shown(group.title, 40))
        missing = sum(not cell.image for cell in getattr(work.recipe, "cells", ()))
        hint = one_or_many(missing, "{n} picture is missing on it.", "{n} pictures are missing on it.")
        self._desk.told.emit(sentence, hint if missing else "", (tr("Show it"), show))


def ask(parent: QWidget, desk: Desk, given: dict[str, Any], card: ModelCard | None) -> GridDialog:
    """Open the dialog."""
    dialog = GridDialog(parent, desk, given, card)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.open()
    return dialog
