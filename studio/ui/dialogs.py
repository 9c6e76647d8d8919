"""The quieter windows: settings, keyboard shortcuts, about, and what to do with jobs when the window closes."""

from __future__ import annotations

import sys
from typing import Any

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QComboBox, QDialog, QGridLayout, QPlainTextEdit, QScrollArea, QVBoxLayout, QWidget

from studio import __version__
from studio.core.paths import assets_folder
from studio.core.problems import Problem
from studio.core.recipes import Field
from studio.core.settings import Settings, declared
from studio.core.text import shown
from studio.ui.actions import ACTIONS, keys_of
from studio.ui.desk import Desk
from studio.ui.fields import Editor, FieldRow, editor_for
from studio.ui.strings import one_or_many, tr
from studio.ui.widgets import Button, Label, Notice, row

REST = 200  # ms after the last step of a slider
# The board takes these itself while it has the focus; actions of the window would take them from every text field.
PAINTING = (
    ("Brush, eraser, fill", "B, E, G"),
    ("Select by colour, pick a colour", "W, I or Alt"),
    ("Move, frame, hand", "V, C, H or Space"),
    ("Smaller, larger brush", "[, ]"),
    ("Softer, harder brush", "Shift+[, ]"),
    ("Straight line", "Shift"),
    ("Swap brush and eraser", "X"),
    ("Show the mask, invert it, clear it", "M, Ctrl+I, Del"),
    ("Undo, redo", "Ctrl+Z, Ctrl+Shift+Z"),
    ("Paint with the keyboard", "K"),
)
KIND_OF = {"text_model": "text", "image_model": "image", "voice": "speech"}


class NameEditor(Editor):
    """One of the models that are there, or none in particular."""

    def __init__(self, field: Field, desk: Desk, kind: str) -> None:
        super().__init__(field)
        self._box = QComboBox()
        self.introduce(self._box)
        self._box.addItem(tr("the first"), "")
        for card in desk.cards(kind):
            self._box.addItem(shown(card.name), card.id)
        self._box.activated.connect(lambda _: self.changed.emit())
        self.setLayout(row(self._box))

    def value(self) -> Any:
        return self._box.currentData()

    def put(self, value: Any) -> None:
        if value and self._box.findData(value) < 0:
            self._box.addItem(shown(value), value)
        self._box.setCurrentIndex(max(0, self._box.findData(value)))

    def target(self) -> QWidget:
        return self._box


class SettingsDialog(QDialog):
    """Every declared setting; a change counts at once."""

    def __init__(self, parent: QWidget, desk: Desk) -> None:
        super().__init__(parent)
        self.setObjectName("settings_dialog")
        self.setWindowTitle(tr("Settings"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._desk = desk
        self.rows: dict[str, FieldRow] = {}
        self._moved: set[str] = set()
        self._rests = QTimer(self, singleShot=True, interval=REST)
        self._rests.timeout.connect(self._write)
        holder = QWidget()
        inside = QVBoxLayout(holder)
        inside.setContentsMargins(0, 0, 12, 0)
        inside.setSpacing(6)
        now = desk.settings or Settings()
        for field in declared():
            kind = KIND_OF.get(field.name)
            editor: Editor | None = NameEditor(field, desk, kind) if kind else editor_for(field)
            if editor is None:
                continue
            made = FieldRow(field, editor, label_width=188)
            made.put(getattr(now, field.name))
            made.changed.connect(self._changed)
            self.rows[field.name] = made
            help = Label(tr(field.help), "soft", wrap=True)
            inside.addWidget(made)
            inside.addWidget(help)
            inside.addSpacing(6)
        inside.addStretch(1)
        scroll = QScrollArea()
        scroll.setObjectName("settings_scroll")
        scroll.setAccessibleName(tr("Settings"))
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(holder)
        self.notice = Notice()
        close = Button(tr("Close"), clicked=self.accept)
        close.setObjectName("settings_close")
        around = QVBoxLayout(self)
        around.setContentsMargins(20, 16, 12, 16)
        around.addWidget(Label(tr("Settings"), "title"))
        around.addSpacing(4)
        around.addWidget(scroll, 1)
        around.addWidget(self.notice)
        around.addLayout(row(None, close))
        self.resize(520, min(680, parent.height() - 40))

    def _changed(self, name: str) -> None:
        session, made = self._desk.session, self.rows[name]
        if session is None or made.editor.complaint():
            return
        # a slider tells of every step it passes; one write when it rests is enough
        self._rests.start()
        self._moved.add(name)

    def _write(self) -> None:
        moved, self._moved = self._moved, set()
        for name in moved:
            self._write_one(name)

    def done(self, result: int) -> None:
        self._rests.stop()
        self._write()
        super().done(result)

    def _write_one(self, name: str) -> None:
        session, made = self._desk.session, self.rows[name]
        if session is None or made.editor.complaint():
            return
        value = made.value()

        def failed(problem: Problem) -> None:
            if problem.field == name:
                made.complain(f"{problem.sentence} {problem.hint}".strip())
            else:
                self.notice.problem(problem)

        self._desk.tasks.write(self, lambda: session.change_settings(**{name: value}), None, failed)


class ShortcutsDialog(QDialog):
    """Every shortcut on one sheet."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("shortcuts_dialog")
        self.setWindowTitle(tr("Keyboard shortcuts"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        groups: dict[str, list[tuple[str, str]]] = {}
        for action in ACTIONS:
            if action.keys:
                keys = keys_of(action.name).replace("PgDown", "Page down").replace("PgUp", "Page up")
                groups.setdefault(action.group, []).append((tr(action.title), keys))
        groups.setdefault("Jobs", []).append((tr("Move a waiting job in the queue"), "Alt+Up, Alt+Down"))
        groups["Painting"] = [(tr(title), tr(keys)) for title, keys in PAINTING]
        weights = (tr("Let the selected words of the prompt count more, less"), "Ctrl+Up, Ctrl+Down")
        groups.setdefault("Making", []).append(weights)
        groups.setdefault("Text", []).append((tr("Send a message, begin a new line"), "Enter, Shift+Enter"))
        holder = QWidget()
        columns = row(spacing=32)
        left, right = QVBoxLayout(), QVBoxLayout()
        tall = {id(left): 0, id(right): 0}
        for group, entries in sorted(groups.items(), key=lambda g: -len(g[1])):
            column = min((left, right), key=lambda c: tall[id(c)])
            tall[id(column)] += len(entries) + 2
            column.addWidget(Label(tr(group), "heading"))
            grid = QGridLayout()
            grid.setVerticalSpacing(4)
            grid.setHorizontalSpacing(16)
            for at, (title, keys) in enumerate(entries):
                grid.setRowMinimumHeight(at, self.fontMetrics().height() + 4)
                grid.addWidget(Label(title), at, 0)
                grid.addWidget(Label(keys, "soft"), at, 1, Qt.AlignmentFlag.AlignRight)
            column.addLayout(grid)
            column.addSpacing(12)
        for column in (left, right):
            column.setSpacing(4)
            column.addStretch(1)
            columns.addLayout(column, 1)
        columns.setContentsMargins(0, 0, 12, 0)
        holder.setLayout(columns)
        scroll = QScrollArea()
        scroll.setObjectName("shortcuts_scroll")
        scroll.setAccessibleName(tr("Keyboard shortcuts"))
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(holder)
        close = Button(tr("Close"), clicked=self.accept)
        close.setObjectName("shortcuts_close")
        around = QVBoxLayout(self)
        around.setContentsMargins(20, 16, 12, 16)
        around.addWidget(Label(tr("Keyboard shortcuts"), "title"))
        around.addSpacing(8)
        around.addWidget(scroll, 1)
        around.addLayout(row(None, close))
        self.resize(min(920, parent.width() - 40), min(640, parent.height() - 40))


class AboutDialog(QDialog):
    """What this is, where its things are, and under which licences."""

    def __init__(self, parent: QWidget, desk: Desk) -> None:
        super().__init__(parent)
        self.setObjectName("about_dialog")
        self.setWindowTitle(tr("About"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        root = assets_folder().parent
        texts = []
        for name in ("LICENSES.md", "LICENSE"):
            try:
                texts.append((root / name).read_text(encoding="utf-8"))
            except OSError:
                missing = "{name} is not there; the studio is free software under the GPL, version 3 or later."
                texts.append(tr(missing, name=name))
        licences = QPlainTextEdit("\n\n".join(texts))
        licences.setObjectName("licences")
        licences.setAccessibleName(tr("Licences"))
        licences.setReadOnly(True)
        licences.setTabChangesFocus(True)
        home = str(desk.session.paths.home) if desk.session else ""
        from PySide6 import __version__ as qt

        facts = Label(
            tr("Version {v} · Python {python} · Qt {qt}", v=__version__, python=sys.version.split()[0], qt=qt), "soft"
        )
        place = Label(tr("Data folder: {home}", home=home), "soft", wrap=True)
        place.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        close = Button(tr("Close"), clicked=self.accept)
        close.setObjectName("about_close")
        around = QVBoxLayout(self)
        around.setContentsMargins(20, 16, 20, 16)
        around.setSpacing(8)
        around.addWidget(Label(tr("Studio"), "title"))
        around.addWidget(
            Label(
                tr("Write, paint and speak with models on your own computer. Nothing leaves it unless you send it."),
                wrap=True,
            )
        )
        around.addWidget(facts)
        around.addWidget(place)
        around.addWidget(licences, 1)
        around.addLayout(row(None, close))
        self.resize(min(720, parent.width() - 40), min(560, parent.height() - 40))


class ClosingDialog(QDialog):
    """Asked when jobs are at work. `answer` is "requeue", "cancel" or "" (stay)."""

    def __init__(self, parent: QWidget, running: int, waiting: int) -> None:
        super().__init__(parent)
        self.setObjectName("closing_dialog")
        self.setWindowTitle(tr("Close the studio?"))
        self.answer = ""
        around = QVBoxLayout(self)
        around.setContentsMargins(20, 16, 20, 16)
        around.setSpacing(10)
        around.addWidget(Label(one_or_many(running, "{n} job is at work.", "{n} jobs are at work."), "title"))
        kept = one_or_many(waiting, "The job that waits is kept", "The {n} jobs that wait are kept") if waiting else ""
        words = tr("What is at work can begin again the next time, or be cancelled now.")
        around.addWidget(Label(f"{kept}{tr(' for the next time. ') if kept else ''}{words}", wrap=True))
        later = Button(tr("Close, begin again next time"), role="primary", clicked=lambda: self._say("requeue"))
        later.setObjectName("closing_requeue")
        later.setDefault(True)
        now = Button(tr("Close and cancel it"), clicked=lambda: self._say("cancel"))
        now.setObjectName("closing_cancel")
        stay = Button(tr("Stay"), clicked=self.reject)
        stay.setObjectName("closing_stay")
        around.addLayout(row(stay, None, now, later))
        self.setMinimumWidth(460)

    def _say(self, answer: str) -> None:
        self.answer = answer
        self.accept()


class EmptyBinDialog(QDialog):
    """Asked before what cannot be undone."""

    def __init__(self, parent: QWidget, count: int) -> None:
        super().__init__(parent)
        self.setObjectName("bin_dialog")
        self.setWindowTitle(tr("Empty the bin"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        words = one_or_many(count, "Delete the {n} removed work for good?", "Delete the {n} removed works for good?")
        keep = Button(tr("Keep"), clicked=self.reject)
        keep.setObjectName("bin_keep")
        keep.setDefault(True)
        delete = Button(tr("Delete for good"), clicked=self.accept)
        delete.setObjectName("bin_delete")
        around = QVBoxLayout(self)
        around.setContentsMargins(20, 16, 20, 16)
        around.setSpacing(12)
        around.addWidget(Label(words, "title", wrap=True))
        around.addWidget(Label(tr("Their files are deleted, and there is no way back."), wrap=True))
        around.addLayout(row(None, keep, delete))
        self.setMinimumWidth(400)
