"""Texts on a page: a prompt and its answers side by side, as they are written; and a page that follows them."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QEvent, QObject, QPoint, Qt, QTimer, Signal
from PySide6.QtWidgets import QFrame, QGridLayout, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from studio.core.works import Work
from studio.ui.strings import tr
from studio.ui.widgets import Growing, Label, ToolButton, copy_text, repolish, row

ACROSS = 3  # answers side by side, at most
NARROWEST = 205  # px of one answer
NEAR = 24  # px from the end that still count as the end


class Answer(QFrame):
    """One text, with what can be done with it.

    Signals:
        chosen: go on with this one. Others as the buttons say, each with the work where there is one.
    """

    chosen = Signal()
    save = Signal(object)
    read = Signal(str)
    paint = Signal(str)
    opened = Signal(object)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setProperty("role", "answer")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        self.work: Work | None = None
        self._whole = ""  # what was put; reading it back from the widget would take longer with every word
        self.text = Growing(name)
        self.text.setObjectName("answer_text")
        self.state = Label(role="soft", elide=True)
        self.copy = ToolButton(tr("Copy this text"), "copy", clicked=self._copy)
        self.save_button = ToolButton(tr("Save as …"), "download", clicked=self._save)
        self.read_button = ToolButton(
            tr("Read aloud"), "volume-2", clicked=lambda: self.read.emit(self.text.toPlainText())
        )
        self.paint_button = ToolButton(
            tr("Paint a picture of it"), "image", clicked=lambda: self.paint.emit(self.text.toPlainText())
        )
        self.use = ToolButton(tr("Go on with this answer"), "check", text=tr("Use"), clicked=self.chosen.emit)
        self.use.hide()
        for button, called in (
            (self.copy, "copy"), (self.save_button, "save"), (self.read_button, "read"), (self.paint_button, "paint"),
            (self.use, "use"),
        ):  # fmt: skip
            button.setObjectName(f"answer_{called}")
        around = QVBoxLayout(self)
        around.setContentsMargins(8, 6, 8, 4)
        around.setSpacing(2)
        around.addWidget(self.text)
        foot = row(spacing=0)
        foot.addWidget(self.state, 1)
        for button in (self.use, self.copy, self.read_button, self.paint_button, self.save_button):
            foot.addWidget(button)
        self.foot = QWidget()
        self.foot.setLayout(foot)
        around.addWidget(self.foot)
        self.foot.hide()  # there is nothing to copy yet
        self.save_button.setEnabled(False)
        self.text.installEventFilter(self)

    def put(self, text: str, work: Work | None = None) -> None:
        """Show a whole text; one that only grew keeps its selection."""
        before, self._whole = self._whole, text
        self.foot.setVisible(bool(text.strip()) or work is not None)
        if text.startswith(before) and before:
            if len(text) > len(before):
                self.text.append(text[len(before) :])
        elif text != before:
            self.text.setPlainText(text)
        if work is not None:
            self.work = work
            self.save_button.setEnabled(True)
            tokens = work.meta.get("tokens")
            told = tr("{n} tokens", n=f"{tokens:,}") if isinstance(tokens, int) else ""
            if not work.complete:
                how = tr("cut off") if work.meta.get("finish") == "cut off" else tr("cancelled")
                told = f"{how} · {told}" if told else how
            elif work.meta.get("finish") == "length":
                told += " · " + tr("at the limit")
            self.state.setText(told)

    def _copy(self) -> None:
        copy_text(self.text.toPlainText())
        self.copy.flash()

    def _save(self) -> None:
        if self.work is not None:
            self.save.emit(self.work)

    def mark(self, marked: bool, several: bool) -> None:
        """Show whether the conversation goes on with this answer."""
        repolish(self, "answer_chosen" if marked and several else "answer")
        self.use.setVisible(several and not marked)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.FocusIn and self.work is not None:
            self.opened.emit(self.work)
        return False


class Turn(QWidget):
    """A prompt and its answers.

    Signals:
        changed: the size of what is shown may have changed.
    """

    def __init__(self, prompt: str, *, chat: bool) -> None:
        super().__init__()
        self.chat = chat
        self.answers: list[Answer] = []
        self.bad = False  # what is said below is a problem
        self.prompt = Growing(tr("Your prompt"))
        self.prompt.setObjectName("prompt_text")
        self.prompt.setProperty("role", "asked")
        self.prompt.setPlainText(prompt)
        self.status = Label(role="soft", wrap=True)
        self.again = ToolButton(tr("Answer once more"), "refresh-cw", text=tr("Once more"))
        self.again.setObjectName("again")
        self.again.hide()
        self.go_on = ToolButton(
            tr("Make prompt and text the new prompt, and write on"), "arrow-right", text=tr("Continue")
        )
        self.go_on.setObjectName("go_on")
        self.go_on.hide()
        self._grid = QGridLayout()
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(8)
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 4, 0, 8)
        around.setSpacing(6)
        asked = QFrame()
        asked.setProperty("role", "question")
        inside = QVBoxLayout(asked)
        inside.setContentsMargins(10, 6, 10, 6)
        inside.addWidget(self.prompt)
        around.addWidget(asked)
        around.addLayout(self._grid)
        foot = row(spacing=4)
        foot.addWidget(self.status, 1)
        foot.addWidget(self.go_on)
        foot.addWidget(self.again)
        around.addLayout(foot)
        self._across = 0

    def answer(self, at: int) -> Answer:
        """The answer with this number, made if it is not there yet."""
        while len(self.answers) <= at:
            made = Answer(tr("Answer {n}", n=len(self.answers) + 1))
            self.answers.append(made)
            self._lay_out()
        return self.answers[at]

    def shrink(self, count: int) -> None:
        """Take answers beyond `count` away: nothing was written into them."""
        while len(self.answers) > count:
            gone = self.answers.pop()
            self._grid.removeWidget(gone)
            gone.deleteLater()
        self._lay_out(force=True)

    def _lay_out(self, *, force: bool = False) -> None:
        across = max(1, min(ACROSS, len(self.answers), max(1, self.width() // NARROWEST)))
        if across == self._across and not force and self._grid.count() == len(self.answers):
            return
        self._across = across
        for answer in self.answers:
            self._grid.removeWidget(answer)
        for column in range(ACROSS):
            self._grid.setColumnStretch(column, 1 if column < across else 0)
        for at, answer in enumerate(self.answers):
            self._grid.addWidget(answer, at // across, at % across, Qt.AlignmentFlag.AlignTop)

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        self._lay_out()

    def say(self, text: str, *, bad: bool = False) -> None:
        self.bad = bad
        self.status.setText(text)
        repolish(self.status, "problem" if bad else "soft")


class Page(QScrollArea):
    """A page of turns that follows what is written at its end, until the user scrolls up."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setObjectName("page")
        self.setAccessibleName(name)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.turns: list[Turn] = []
        self.following = True
        self._holder = QWidget()
        self._column = QWidget()
        self._column.setMaximumWidth(900)
        self._inside = QVBoxLayout(self._column)
        self._inside.setContentsMargins(24, 16, 24, 16)
        self._inside.setSpacing(4)
        self._inside.addStretch(1)
        across = QVBoxLayout(self._holder)
        across.setContentsMargins(0, 0, 0, 0)
        wide = row(spacing=0)
        wide.addStretch(1)
        wide.addWidget(self._column, 100)
        wide.addStretch(1)
        across.addLayout(wide)
        self.setWidget(self._holder)
        bar = self.verticalScrollBar()
        bar.rangeChanged.connect(self._grown)
        bar.valueChanged.connect(self._moved)
        self._ours = False
        self.down = ToolButton(tr("Go to the newest"), "arrow-down", role="round", clicked=self.to_end)
        self.down.setObjectName("to_end")
        self.down.setParent(self)
        self.down.hide()

    def add(self, turn: Turn) -> None:
        self.turns.append(turn)
        self._inside.insertWidget(self._inside.count() - 1, turn)

    def clear(self) -> None:
        for turn in self.turns:
            self._inside.removeWidget(turn)
            turn.hide()
            turn.deleteLater()
        self.turns = []
        self.following = True

    def remove(self, turn: Turn) -> None:
        if turn in self.turns:
            self.turns.remove(turn)
            self._inside.removeWidget(turn)
            turn.deleteLater()

    def to_end(self) -> None:
        self.following = True
        self._pin()
        # layouts of long texts settle in the next turn of the loop
        QTimer.singleShot(0, self, self._pin)

    def _pin(self) -> None:
        if self.following:
            self._ours = True
            self.verticalScrollBar().setValue(self.verticalScrollBar().maximum())
            self._ours = False
        self._show_down()

    def _grown(self, _low: int, _high: int) -> None:
        self._pin()

    def _moved(self, value: int) -> None:
        if not self._ours:
            self.following = value >= self.verticalScrollBar().maximum() - NEAR
        self._show_down()

    def _show_down(self) -> None:
        bar = self.verticalScrollBar()
        away = not self.following and bar.value() < bar.maximum() - NEAR
        self.down.setVisible(away)
        if away:
            self.down.adjustSize()
            self.down.move(QPoint(self.width() // 2 - self.down.width() // 2, self.height() - self.down.height() - 12))
            self.down.raise_()

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        self._show_down()
