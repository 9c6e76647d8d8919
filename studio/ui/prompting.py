"""What stands under the prompt of a picture: styles, presets, wildcards, weights, and an example of what it may become.

Knows the desk and the text edits it is given; knows no tab and no form.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QEvent, QObject, QPoint, QRect, QSize, Qt, QTimer, QUrl, Signal
from PySide6.QtGui import QDesktopServices, QKeyEvent
from PySide6.QtWidgets import (
    QFileDialog,
    QFrame,
    QLayout,
    QLayoutItem,
    QMenu,
    QPlainTextEdit,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from studio.core.problems import Problem, StudioError
from studio.core.text import shown
from studio.ui.choosing import Chooser, NameDialog
from studio.ui.desk import Desk
from studio.ui.strings import as_button, as_tip, one_or_many, tr
from studio.ui.weighing import STEP, PromptSyntax, weigh
from studio.ui.widgets import Button, Growing, Label, Notice, ToolButton, row

if TYPE_CHECKING:  # wording is imported when first needed: it takes longer than the rest of this file
    from studio.app.shelf import Worded
    from studio.core.wording import Style

IN_MENU = 24  # styles or presets that a menu lists; the others are searched for
SHOWN = 1_200  # characters of an example
# What a preset leaves as it is in the form; the library keeps none of these.
PASSING = ("prompt", "seed", "variation_seed", "image", "mask", "extend", "made_with")
REMEMBERED = "prompting"  # where the window's state keeps what is chosen here


class Flow(QLayout):
    """Widgets side by side, in as many lines as they need."""

    def __init__(self, spacing: int = 4) -> None:
        super().__init__()
        self._items: list[QLayoutItem] = []
        self.setSpacing(spacing)
        self.setContentsMargins(0, 0, 0, 0)

    def addItem(self, item: QLayoutItem) -> None:
        self._items.append(item)

    def count(self) -> int:
        return len(self._items)

    def itemAt(self, index: int) -> QLayoutItem | None:
        return self._items[index] if 0 <= index < len(self._items) else None

    def takeAt(self, index: int) -> QLayoutItem | None:
        return self._items.pop(index) if 0 <= index < len(self._items) else None

    def expandingDirections(self) -> Qt.Orientation:
        return Qt.Orientation(0)

    def hasHeightForWidth(self) -> bool:
        return True

    def heightForWidth(self, width: int) -> int:
        return self._place(QRect(0, 0, width, 0), move=False)

    def setGeometry(self, place: QRect) -> None:
        super().setGeometry(place)
        self._place(place, move=True)

    def sizeHint(self) -> QSize:
        return self.minimumSize()

    def minimumSize(self) -> QSize:
        sizes = [item.minimumSize() for item in self._items]
        return QSize(max((s.width() for s in sizes), default=0), max((s.height() for s in sizes), default=0))

    def _place(self, place: QRect, *, move: bool) -> int:
        """Lay the items out; returns the height they need."""
        x, y, line = place.x(), place.y(), 0
        for item in self._items:
            size = item.sizeHint().boundedTo(QSize(max(1, place.width()), 10_000))
            if x > place.x() and x + size.width() > place.x() + place.width():
                x, y, line = place.x(), y + line + self.spacing(), 0
            if move:
                item.setGeometry(QRect(QPoint(x, y), size))
            x += size.width() + self.spacing()
            line = max(line, size.height())
        return y + line - place.y()


class PromptBar(QWidget):
    """A row of small buttons for the prompt above it, and the chosen styles as chips.

    Signals:
        preset(dict): a preset, with the words, seed and pictures of now; the form is to show these values, and the
            defaults of what is not among them.
        insert(str): a text was put in at the cursor of the prompt.
        changed: other styles are chosen, or the words of the prompt's edit were changed from here.
    """

    preset = Signal(dict)
    insert = Signal(str)
    changed = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.setObjectName("prompt_bar")
        self._desk = desk
        self._edit: QPlainTextEdit | None = None
        self._last: QPlainTextEdit | None = None  # the attached edit that had the focus last
        self._values: Callable[[], dict[str, Any]] = dict
        self._syntax: list[PromptSyntax] = []
        self._styles: dict[str, Style] = {}
        self._presets: dict[str, dict[str, Any]] = {}
        self._known = False  # styles and presets were read
        self._chosen: list[str] = []
        self._chips: list[ToolButton] = []
        self._asked = 0

        self.styles_button = ToolButton(tr("Styles: words laid around the prompt"), "feather", text=tr("Styles"))
        self.presets_button = ToolButton(
            tr("Presets: kept settings of this form"), "layout-template", text=tr("Presets")
        )
        self.wildcards_button = ToolButton(
            tr("Wildcards: lists to choose from by chance"), "shuffle", text=tr("Wildcards"), clicked=self.ask_wildcard
        )
        self.less_button = ToolButton(
            tr("Let the selected words count less"), "minus", shortcut="Ctrl+Down", clicked=self.weigh_less
        )
        self.more_button = ToolButton(
            tr("Let the selected words count more"), "plus", shortcut="Ctrl+Up", clicked=self.weigh_more
        )
        self.example_button = ToolButton(
            tr("Show an example of what the prompt becomes"), "sparkles", checkable=True, clicked=self.show_example
        )
        for name in ("styles", "presets", "wildcards", "less", "more", "example"):
            button: ToolButton = getattr(self, f"{name}_button")
            button.setObjectName(f"prompt_{name}")
            button.setMinimumSize(28, 28)
        for button in (self.styles_button, self.presets_button, self.wildcards_button):
            button.setText(button.text().strip())  # never beside its icon
        for button, fill in ((self.styles_button, self._fill_styles), (self.presets_button, self._fill_presets)):
            menu = QMenu(button)
            menu.setToolTipsVisible(True)
            menu.aboutToShow.connect(lambda m=menu, f=fill: f(m))
            button.setMenu(menu)
            button.setPopupMode(ToolButton.ToolButtonPopupMode.InstantPopup)
        self._worded = (self.styles_button, self.presets_button, self.wildcards_button)
        self._signs = (self.less_button, self.more_button, self.example_button)

        self.chips = QWidget()
        self.chips.setObjectName("prompt_chips")
        self._flow = Flow()
        self.chips.setLayout(self._flow)
        self.chips.hide()

        self.example = QFrame()
        self.example.setObjectName("prompt_example_frame")
        self.example.setProperty("role", "notice")
        self.example_head = Label("", "soft", wrap=True)
        self.example_text = Growing(tr("Example of what the prompt becomes"))
        self.example_text.setObjectName("prompt_example_text")
        self.example_notes = Label("", "soft", wrap=True)
        self.another_button = Button(tr("Another example"), icon_name="refresh-cw", clicked=self.another_example)
        self.another_button.setObjectName("prompt_another")
        self.example_close = ToolButton(tr("Close the example"), "x", clicked=self.hide_example)
        self.example_close.setObjectName("prompt_example_close")
        inside = QVBoxLayout(self.example)
        inside.setContentsMargins(10, 6, 6, 8)
        inside.setSpacing(4)
        head = row(self.example_head, self.example_close)
        head.setStretch(0, 1)
        inside.addLayout(head)
        inside.addWidget(self.example_text)
        inside.addWidget(self.example_notes)
        inside.addLayout(row(self.another_button, None))
        self.example.hide()

        self.notice = Notice()
        self.notice.setObjectName("prompt_notice")
        for name in ("act", "more", "close_button"):
            getattr(self.notice, name).setObjectName(f"prompt_notice_{name}")
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        around.setSpacing(4)
        around.addLayout(row(*self._worded, None, *self._signs, spacing=2))
        around.addWidget(self.chips)
        around.addWidget(self.example)
        around.addWidget(self.notice)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)

        self._soon = QTimer(self, singleShot=True, interval=400)
        self._soon.timeout.connect(self.another_example)
        self.put(desk.state.forms.get(REMEMBERED, {}))
        desk.opened.connect(self.read)
        desk.change.connect(self._changed)
        self.read()

    # -- what it works on -------------------------------------------------------------------------------------------

    def attach(self, prompt: QPlainTextEdit, values: Callable[[], dict[str, Any]]) -> None:
        """Work on this edit. values: what the form gives now, for presets, for the negative words of a style."""
        self._edit, self._values = prompt, values
        self.watch(prompt)
        self._last = prompt
        prompt.textChanged.connect(self._edited)
        self._order()

    def _order(self) -> None:
        """Let Tab go from the prompt through the bar, as it is seen, and on to what followed the prompt."""
        if self._edit is None or self._edit.window() is not self.window():
            return
        parts = (self.example_close, self.example_text, self.another_button)
        notice = (self.notice.act, self.notice.more, self.notice.close_button)
        for one, following in itertools.pairwise(
            (self._edit, *self._worded, *self._signs, *self._chips, *parts, *notice)
        ):
            QWidget.setTabOrder(one, following)

    def watch(self, edit: QPlainTextEdit) -> None:
        """Colour another edit too, and weigh words in it; for the negative prompt."""
        self._syntax.append(PromptSyntax(edit.document()))
        edit.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if isinstance(watched, QPlainTextEdit):
            if event.type() == QEvent.Type.FocusIn:
                self._last = watched
            elif isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress:
                way = {Qt.Key.Key_Up: STEP, Qt.Key.Key_Down: -STEP}.get(Qt.Key(event.key()))
                held = event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier
                if way is not None and held == Qt.KeyboardModifier.ControlModifier:
                    self._last = watched
                    self._weigh(way)
                    return True
        return False

    def retheme(self) -> None:
        for syntax in self._syntax:
            syntax.retheme()

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        """Words on as many buttons as there is room for, and icons on the others."""
        kinds = Qt.ToolButtonStyle
        for spelt in range(len(self._worded), -1, -1):
            for at, button in enumerate(self._worded):
                button.setToolButtonStyle(kinds.ToolButtonTextOnly if at < spelt else kinds.ToolButtonIconOnly)
            if sum(button.sizeHint().width() + 2 for button in (*self._worded, *self._signs)) <= self.width():
                break

    def minimumSizeHint(self) -> QSize:
        # with icons: otherwise the words would hold the column as wide as they are
        across = 30 * len((*self._worded, *self._signs)) + 12
        return QSize(across, super().minimumSizeHint().height())

    # -- what is chosen ---------------------------------------------------------------------------------------------

    def chosen(self) -> tuple[str, ...]:
        """The chosen styles, in the order in which they are laid around the prompt."""
        return tuple(self._chosen)

    def values(self) -> dict[str, Any]:
        """What is chosen here, to be remembered."""
        return {"styles": list(self._chosen)} if self._chosen else {}

    def put(self, values: dict[str, Any]) -> None:
        """Choose again what was remembered. Does not tell of it."""
        styles = values.get("styles")
        names = styles if isinstance(styles, (list, tuple)) else ()
        self._chosen = list(dict.fromkeys(name for name in names if isinstance(name, str)))
        self._show_chips()

    def word(
        self, values: dict[str, Any], done: Callable[[Worded], Any], failed: Callable[[Problem], Any]
    ) -> None:  # fmt: skip
        """Have the final words of a form's values made, with the styles that are chosen here, off the main thread."""
        session = self._desk.session
        if session is None:
            failed(Problem("not_open", tr("The library is still being opened."), tr("Try again in a moment.")))
            return
        given, cards = {**values, "styles": self.chosen()}, tuple(self._desk.models)
        self._desk.tasks.read(self, lambda: session.worded(given, cards), done, failed)

    def choose(self, name: str, on: bool = True) -> None:
        """Take a style, or leave it."""
        if on == (name in self._chosen):
            return
        if on:
            self._chosen.append(name)
        else:
            self._chosen.remove(name)
        self._show_chips()
        self._remember()
        self.changed.emit()
        self._example_soon()

    def clear(self) -> None:
        """Leave all styles: for a prompt that is final, such as that of a work whose recipe is taken over."""
        if self._chosen:
            self._chosen = []
            self._show_chips()
            self._remember()
            self.changed.emit()
            self._example_soon()

    def _remember(self) -> None:
        self._desk.state.forms[REMEMBERED] = self.values()
        self._desk.keeper.touch()

    def _show_chips(self) -> None:
        while (item := self._flow.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        self._chips = []
        for name in self._chosen:
            there = not self._known or name in self._styles
            chip = ToolButton(
                tr("Leave the style {name}", name=shown(name)), "x", text=shown(name, 28), role="chip",
                clicked=functools.partial(self._leave, name),
            )  # fmt: skip
            chip.setObjectName("style_chip")
            chip.setMinimumHeight(28)
            chip.setLayoutDirection(Qt.LayoutDirection.RightToLeft)  # the cross stands behind the word
            if not there:
                chip.set_icon("circle-alert", "problem")
                chip.name(tr("The style {name} is not there any more; leave it", name=shown(name)))
            self._flow.addWidget(chip)
            self._chips.append(chip)
        self.chips.setVisible(bool(self._chosen))
        self._flow.invalidate()
        self.chips.updateGeometry()
        self._order()

    def _leave(self, name: str) -> None:
        self.choose(name, False)
        # the pressed chip is gone, and the focus with it
        (self._chips[0] if self._chips else self.styles_button).setFocus()

    # -- reading ----------------------------------------------------------------------------------------------------

    def _changed(self, change: Any) -> None:
        if "styles" in change.settings or "presets" in change.settings:
            self.read()

    def read(self) -> None:
        """Look which styles and presets there are."""
        session = self._desk.session
        if session is None:
            return

        def look() -> tuple[Any, ...]:
            found: list[Any] = []
            for ask in (session.styles, session.presets):
                try:
                    found.append(ask())
                except StudioError as error:
                    found.append(error.problem)
            return (*found, session.prompt_notes())

        self._desk.tasks.read(self, look, self._read)

    def _read(self, found: tuple[Any, ...]) -> None:
        styles, presets, notes = found
        for problem in (styles, presets):
            if isinstance(problem, Problem):
                self.notice.problem(problem)
        if not isinstance(styles, Problem):
            self._styles = {style.name: style for style in styles}
            self._known = True
        if not isinstance(presets, Problem):
            self._presets = presets
        if notes:
            self.notice.tell(" ".join(notes))
        self._show_chips()

    def _write(self, work: Callable[[Any], Any], done: Callable[[], Any] | None = None) -> None:
        session = self._desk.session
        if session is not None:
            tell = (lambda _: done()) if done is not None else None
            self._desk.tasks.write(self, lambda: work(session), tell, self.notice.problem)

    # -- styles -----------------------------------------------------------------------------------------------------

    def _fill_styles(self, menu: QMenu) -> None:
        self._clear(menu)
        names = list(self._styles)
        if not names:
            menu.addAction(tr("No styles yet") if self._known else tr("looking …")).setEnabled(False)
        for name in names[:IN_MENU]:
            action = menu.addAction(as_button(shown(name, 48)))
            action.setCheckable(True)
            action.setChecked(name in self._chosen)
            style = self._styles[name]
            action.setToolTip(as_tip(shown(style.prompt or style.negative, 300)))
            action.toggled.connect(lambda on, n=name: self.choose(n, on))
        if len(names) > IN_MENU:
            menu.addAction(tr("All {n} styles …", n=f"{len(names):,}")).triggered.connect(lambda *_: self.ask_styles())
        menu.addSeparator()
        keep = menu.addAction(tr("Keep the prompt as a style …"))
        keep.setEnabled(bool(self._own_words().strip()) or bool(self._avoided().strip()))
        keep.triggered.connect(lambda *_: self.ask_style_name())
        menu.addAction(tr("Import …")).triggered.connect(lambda *_: self.ask_import())
        export = menu.addAction(tr("Export …"))
        export.setEnabled(bool(names))
        export.triggered.connect(lambda *_: self.ask_export())
        self._fill_removal(menu, tr("Remove a style"), names, self.remove_style, self.ask_styles)

    def _fill_removal(
        self, menu: QMenu, title: str, names: list[str], remove: Callable[[str], Any], ask: Callable[[], Any]
    ) -> None:
        if not names:
            return
        under = menu.addMenu(title)
        for name in names[:IN_MENU]:
            under.addAction(as_button(shown(name, 48))).triggered.connect(lambda _=False, n=name: remove(n))
        if len(names) > IN_MENU:
            under.addAction(tr("Search …")).triggered.connect(lambda *_: ask())

    @staticmethod
    def _clear(menu: QMenu) -> None:
        menu.clear()
        for under in menu.findChildren(QMenu):  # clear() leaves those behind
            under.deleteLater()

    def _own_words(self) -> str:
        return self._edit.toPlainText() if self._edit is not None else ""

    def _avoided(self) -> str:
        return str(self._values().get("negative") or "")

    def ask_styles(self) -> None:
        """Search among all styles."""
        chooser = Chooser(
            self, tr("Search in the styles"), tuple(self._styles), checked=self.chosen(), removable=True,
            empty=tr("No styles yet"),
        )  # fmt: skip
        chooser.taken.connect(lambda name: self.choose(name, name not in self._chosen))
        chooser.removed.connect(self.remove_style)
        chooser.at.connect(lambda name: chooser.say(self._said_of(name)))
        chooser.say(self._said_of(chooser.name()))
        self._open(chooser, self.styles_button)

    def _said_of(self, name: str) -> str:
        style = self._styles.get(name)
        return shown(style.prompt or style.negative, 160) if style else ""

    def ask_style_name(self) -> None:
        """Ask how the style is to be called that the prompt of now becomes."""
        dialog = NameDialog(
            self.window(), tr("Keep the prompt as a style"),
            tr("Where the style says {prompt}, the prompt is put; otherwise the style comes after it."),
            lambda name: name in self._styles,
        )  # fmt: skip
        dialog.named.connect(self.save_style)
        dialog.open()

    def save_style(self, name: str) -> None:
        """Keep the words of now as a style."""
        from studio.core.wording import Style

        style = Style(name, self._own_words(), self._avoided())
        self._write(
            lambda session: session.save_style(style),
            lambda: self.notice.tell(tr("The style “{name}” is kept.", name=shown(name))),
        )

    def remove_style(self, name: str) -> None:
        style = self._styles.get(name)
        if style is None:
            return
        was_chosen = name in self._chosen
        self.choose(name, False)

        def back() -> None:
            self._write(lambda session: session.save_style(style), lambda: self.choose(name) if was_chosen else None)

        self._write(lambda session: session.remove_style(name), lambda: self._tell_removed(name, back))

    def _tell_removed(self, name: str, back: Callable[[], Any]) -> None:
        self.notice.tell(tr("“{name}” was removed.", name=shown(name)), action=tr("Undo"), does=back)

    def ask_import(self) -> None:
        """Choose a styles.csv of A1111."""
        dialog = QFileDialog(self.window(), tr("Import styles"))
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.setNameFilters([tr("Styles of A1111 (*.csv)"), tr("All files (*)")])
        if dialog.exec():
            self.import_styles(Path(dialog.selectedFiles()[0]))

    def import_styles(self, path: Path) -> None:
        """Take over the styles of a file."""

        def done(change: Any) -> None:
            name = shown(path.name)
            said = tr("The styles of “{name}” were taken over.", name=name)
            self.notice.tell(said if change.settings else tr("“{name}” has no styles that are new here.", name=name))

        session = self._desk.session
        if session is not None:
            self._desk.tasks.write(self, lambda: session.import_styles(path), done, self.notice.problem)

    def ask_export(self) -> None:
        """Choose where the styles are written to."""
        dialog = QFileDialog(self.window(), tr("Export styles"))
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setDefaultSuffix("csv")
        dialog.selectFile("styles.csv")
        if dialog.exec():
            self.export_styles(Path(dialog.selectedFiles()[0]))

    def export_styles(self, path: Path) -> None:
        """Write the styles as A1111 reads them."""
        self._write(
            lambda session: session.export_styles(path),
            lambda: self.notice.tell(tr("The styles are in “{name}”.", name=shown(path.name))),
        )

    # -- presets ----------------------------------------------------------------------------------------------------

    def _fill_presets(self, menu: QMenu) -> None:
        self._clear(menu)
        names = list(self._presets)
        if not names:
            menu.addAction(tr("No presets yet") if self._known else tr("looking …")).setEnabled(False)
        for name in names[:IN_MENU]:
            action = menu.addAction(as_button(shown(name, 48)))
            action.setToolTip(as_tip(_summary(self._presets[name])))
            action.triggered.connect(lambda _=False, n=name: self.apply_preset(n))
        if len(names) > IN_MENU:
            menu.addAction(tr("All {n} presets …", n=f"{len(names):,}")).triggered.connect(
                lambda *_: self.ask_presets()
            )
        menu.addSeparator()
        menu.addAction(tr("Keep these settings as a preset …")).triggered.connect(lambda *_: self.ask_preset_name())
        self._fill_removal(menu, tr("Remove a preset"), names, self.remove_preset, self.ask_presets)

    def ask_presets(self) -> None:
        """Search among all presets."""
        chooser = Chooser(
            self, tr("Search in the presets"), tuple(self._presets), removable=True, empty=tr("No presets yet")
        )
        chooser.taken.connect(self.apply_preset)
        chooser.removed.connect(self.remove_preset)
        chooser.at.connect(lambda name: chooser.say(_summary(self._presets.get(name, {}))))
        chooser.say(_summary(self._presets.get(chooser.name(), {})))
        self._open(chooser, self.presets_button)

    def apply_preset(self, name: str) -> None:
        """Have a preset shown by the form. Where it says nothing of what to avoid, the words of now stay."""
        preset = self._presets.get(name)
        if preset is not None:
            stays = {n: value for n, value in self._values().items() if n in (*PASSING, "negative")}
            self.preset.emit({**stays, **preset})

    def ask_preset_name(self) -> None:
        """Ask how the settings of now are to be called."""
        dialog = NameDialog(
            self.window(), tr("Keep these settings as a preset"),
            tr("All of the form is kept, but for prompt, seed and input pictures."),
            lambda name: name in self._presets,
        )  # fmt: skip
        dialog.named.connect(self.save_preset)
        dialog.open()

    def save_preset(self, name: str) -> None:
        """Keep the form's values of now."""
        values = self._values()
        self._write(
            lambda session: session.save_preset(name, values),
            lambda: self.notice.tell(tr("The preset “{name}” is kept.", name=shown(name))),
        )

    def remove_preset(self, name: str) -> None:
        values = self._presets.get(name)
        if values is None:
            return

        def back() -> None:
            self._write(lambda session: session.save_preset(name, values))

        self._write(lambda session: session.remove_preset(name), lambda: self._tell_removed(name, back))

    # -- wildcards --------------------------------------------------------------------------------------------------

    def ask_wildcard(self) -> None:
        """Search among the lists; the chosen one is put in at the cursor."""
        session = self._desk.session
        if session is not None:
            self._desk.tasks.read(self, session.wildcards, self._show_wildcards, self.notice.problem)

    def _show_wildcards(self, names: tuple[str, ...]) -> None:
        empty = tr("No lists yet. A list is a text file with one choice in each line; put yours into the folder.")
        chooser = Chooser(
            self, tr("Search in the wildcards"), names, empty=empty, action=tr("Open the folder"),
            does=self.open_folder,
        )  # fmt: skip
        chooser.taken.connect(lambda name: self.put_in(f"__{name}__"))
        chooser.at.connect(lambda name: self._about_list(chooser, name))
        self._about_list(chooser, chooser.name())
        self._open(chooser, self.wildcards_button)

    def _about_list(self, chooser: Chooser, name: str) -> None:
        session = self._desk.session
        if session is None or not name:
            return

        def told(lines: tuple[str, ...]) -> None:
            if chooser.name() == name:
                said = one_or_many(len(lines), "{n} line", "{n} lines")
                chooser.say(f"{said}: {shown(' · '.join(lines[:12]), 150)}" if lines else said)

        self._desk.tasks.read(chooser, lambda: session.wildcard(name), told)

    def open_folder(self) -> None:
        """Show the folder of lists."""
        session = self._desk.session
        if session is not None:
            self._desk.tasks.write(
                self, session.wildcard_folder,
                lambda folder: QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder))), self.notice.problem,
            )  # fmt: skip

    def put_in(self, words: str) -> None:
        """Put words in at the cursor of the prompt, apart from the word before them."""
        edit = self._last or self._edit
        if edit is not None:
            cursor = edit.textCursor()
            before = edit.document().characterAt(cursor.selectionStart() - 1) if cursor.selectionStart() else " "
            space = "" if before.isspace() or before in "\u2029({[|" else " "
            cursor.insertText(space + words)
            edit.setTextCursor(cursor)
            edit.setFocus()
        self.insert.emit(words)

    # -- weights ----------------------------------------------------------------------------------------------------

    def weigh_more(self) -> None:
        self._weigh(STEP)

    def weigh_less(self) -> None:
        self._weigh(-STEP)

    def _weigh(self, step: float) -> None:
        edit = self._last or self._edit
        if edit is None:
            return
        if weigh(edit, step):
            self.changed.emit()
        edit.setFocus()

    # -- an example -------------------------------------------------------------------------------------------------

    def show_example(self) -> None:
        """Show what the prompt may become, or put that away."""
        self.example.setVisible(self.example_button.isChecked())
        if self.example_button.isChecked():
            self.another_example()

    def hide_example(self) -> None:
        self.example_button.setChecked(False)
        self.example.hide()
        self.example_button.setFocus()

    def _edited(self) -> None:
        self._example_soon()

    def _example_soon(self) -> None:
        if not self.example.isHidden():
            self._soon.start()

    def another_example(self) -> None:
        """Choose once more, with another seed."""
        session = self._desk.session
        if session is None or self.example.isHidden():
            return
        self._asked += 1
        asked = self._asked
        values = {name: value for name, value in self._values().items() if name in ("negative", "loras")}
        given = {**values, "prompt": self._own_words(), "styles": self.chosen()}
        styles = [self._styles[name] for name in self._chosen if name in self._styles]
        cards = tuple(self._desk.models)

        def make() -> tuple[Worded, int]:
            made = session.worded(given, cards)
            return made, _ways(given["prompt"], styles, session.wildcard)

        def done(found: tuple[Worded, int]) -> None:
            if asked == self._asked:
                self._show_example(*found)

        def failed(problem: Problem) -> None:
            if asked == self._asked:
                self.example_head.setText(f"{problem.sentence} {problem.hint}".strip())
                self.example_text.setPlainText("")
                self.example_notes.hide()

        self._desk.tasks.read(self, make, done, failed)

    def _show_example(self, made: Worded, ways: int) -> None:
        values = made.given[0]
        if ways == 1:
            said = tr("Nothing is left to chance; this is what the model reads:")
        elif ways:
            said = tr("One of {n} prompts:", n=f"{ways:,}" if ways < 10**15 else f"{float(min(ways, 10**300)):.0e}")
        else:
            said = tr("One of very many prompts:")
        self.example_head.setText(said)
        text = str(values["prompt"])
        self.example_text.setPlainText(text if len(text) <= SHOWN else f"{text[:SHOWN]} …")
        notes = list(made.notes)
        negative = str(values.get("negative") or "")
        if negative:
            notes.insert(0, tr("Avoid: {words}", words=shown(negative, 300)))
        loras = values.get("loras") or ()
        if loras:
            names = {card.id: card.name for card in self._desk.models}
            said = ", ".join(
                f"{shown(names.get(each['model'], each['model']), 40)} {each['weight']:g}" for each in loras
            )
            notes.insert(0, tr("LoRAs: {names}", names=said))
        self.example_notes.setText("\n".join(notes))
        self.example_notes.setVisible(bool(notes))

    # -- places -----------------------------------------------------------------------------------------------------

    def _open(self, chooser: Chooser, under: QWidget) -> None:
        """Show a list under a button, within the window."""
        place = under.mapToGlobal(QPoint(0, under.height() + 2))
        window = self.window().frameGeometry()
        x = max(window.left(), min(place.x(), window.right() - chooser.width()))
        y = max(window.top(), min(place.y(), window.bottom() - chooser.height()))
        chooser.move(x, y)
        chooser.show()
        chooser.activateWindow()
        chooser.line.setFocus()


def _ways(prompt: str, styles: list[Style], lines: Callable[[str], tuple[str, ...]]) -> int:
    """How many prompts there can be; 0 where they are too many to count."""
    from studio.core.wording import apply_style, count

    for style in styles:
        if style.prompt.strip():
            prompt = apply_style(prompt, style.prompt)
    try:
        return count(prompt, lines)
    except StudioError:
        return 0


def _summary(values: dict[str, Any]) -> str:
    """A preset in a line."""
    return shown(" · ".join(f"{name} {value}" for name, value in values.items()), 300) or tr("all as the model has it")
