"""Blind voting: two works of the same prompt side by side, in random order, until it is clear which model is better.

Knows works, pairs and votes; what the votes amount to is computed in `core/elo.py`.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QImage, QKeyEvent, QPixmap
from PySide6.QtWidgets import QFrame, QPlainTextEdit, QStackedLayout, QVBoxLayout, QWidget

from studio.core.declare import Field, StructType, about
from studio.core.elo import Vote, standings
from studio.core.made import SEED_LIMIT
from studio.core.recipes import COUNT_FIELD, WORDS, model_of, words_of
from studio.core.text import shown
from studio.core.works import Work
from studio.ui.desk import Desk
from studio.ui.fields import Editor
from studio.ui.forms import ModelEditor
from studio.ui.history import small_picture
from studio.ui.learn.editors import TitledChoice
from studio.ui.learn.forms import LearnForm
from studio.ui.learn.page import Page, Section, heading
from studio.ui.learn.tables import Bar, Bars
from studio.ui.strings import tr
from studio.ui.widgets import Button, Label, row

MOST = 1000  # works of a kind that are looked through
TEXT = 1_000_000  # bytes of a text that are shown
SIDE = 1024  # px of a picture


class Ballot(msgspec.Struct, frozen=True, kw_only=True):
    """What is voted on."""

    what: Annotated[Literal["text", "image"], about("What", "What is compared.")] = "text"
    one: Annotated[str, about("One model", "Which of them made which work is not shown.", refers="text")] = ""
    other: Annotated[str, about("The other", "Which of them made which work is not shown.", refers="text")] = ""
    prompts: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=4096)], ...],
        about("Prompts", "Both models make a work of each; empty takes the works of the same prompts that are there.",
              max_length=200),
    ] = ()  # fmt: skip
    length: Annotated[int, about("Length", "Of texts.", unit="tokens", ge=1, le=4096)] = 96


@dataclass(frozen=True)
class Pair:
    """Two works of one prompt, the first of the first model."""

    prompt: str
    one: Work
    other: Work

    @property
    def id(self) -> str:
        return f"{self.one.id}:{self.other.id}"


def pairs_of(works: Sequence[Work], one: str, other: str) -> list[Pair]:
    """Works of two models with the same words, the oldest first; of several those of the same seed belong together."""
    mine: dict[str, list[Work]] = {}
    theirs: dict[str, list[Work]] = {}
    for work in sorted(works, key=lambda each: each.seq):
        into = {one: mine, other: theirs}.get(model_of(work.recipe))
        if into is not None and work.complete:
            into.setdefault(words_of(work.recipe).strip(), []).append(work)
    found: list[Pair] = []
    for prompt, left in mine.items():
        right = list(theirs.get(prompt, ()))
        for work in left:
            if not right:
                break
            seed = getattr(work.recipe, "seed", None)
            same = next((each for each in right if getattr(each.recipe, "seed", None) == seed), right[0])
            right.remove(same)
            found.append(Pair(prompt, work, same))
    return sorted(found, key=lambda pair: max(pair.one.seq, pair.other.seq))


class VoteForm(LearnForm):
    """What is voted on, as a form."""

    def __init__(self, kind: str, desk: Desk) -> None:
        super().__init__(kind, desk)
        desk.models_changed.connect(self._spread)
        self._spread()

    def declared(self) -> StructType:
        return Ballot

    def _spread(self) -> None:
        """Two different models, where nothing was chosen."""
        one, other = (self.rows[name].editor for name in ("one", "other"))
        if isinstance(one, ModelEditor) and isinstance(other, ModelEditor) and not other.value():
            first = one.card()
            cards = self._desk.cards(str(self.rows["what"].value()))
            second = next((card for card in cards if first is not None and card.id != first.id), None)
            if second is not None:
                other.put(second.id)

    def special(self, field: Field) -> Editor | None:
        if field.name == "what":
            return TitledChoice(field, [("text", tr("Texts")), ("image", tr("Pictures"))])
        if field.name in ("one", "other"):
            return self.models_of(str(self.rows["what"].value()), field)
        return super().special(field)

    def unused(self) -> set[str]:
        return {"length"} if self.rows["what"].value() == "image" else set()

    def _arrange(self) -> None:
        for name in ("one", "other"):
            if self.rows.is_made(name):
                editor = self.rows[name].editor
                if isinstance(editor, ModelEditor):
                    editor.set_kind(str(self.rows["what"].value()))
        super()._arrange()
        if self.rows.is_made("other"):
            self._spread()

    def ballot(self) -> Ballot:
        """What is chosen now."""
        editors = [self.rows[name].editor for name in ("one", "other")]
        chosen = [each.card() if isinstance(each, ModelEditor) else None for each in editors]
        one, other = (card.id if card is not None else "" for card in chosen)
        what, prompts = str(self.rows["what"].value()), self.rows["prompts"].value()
        values = {"what": what, "one": one, "other": other, "prompts": prompts}
        return msgspec.convert({**values, "length": self.rows["length"].value()}, Ballot)


class Side(QFrame):
    """One of the two works: a text or a picture."""

    def __init__(self, name: str, object_name: str) -> None:
        super().__init__()
        self.setProperty("role", "card")
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setObjectName(object_name)
        self.text.setProperty("role", "reading")
        self.text.setAccessibleName(name)
        self.text.setTabChangesFocus(True)
        self.picture = Label()
        self.picture.setAccessibleName(name)
        self.picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.picture.setMinimumSize(80, 80)
        self._image = QImage()
        self._stack = QStackedLayout(self)
        self._stack.setContentsMargins(6, 6, 6, 6)
        self._stack.addWidget(self.text)
        self._stack.addWidget(self.picture)

    def show_text(self, text: str) -> None:
        self.text.setPlainText(text.strip())  # empty lines above it would tell nothing
        self._stack.setCurrentWidget(self.text)

    def show_picture(self, image: QImage) -> None:
        self._image = image
        self._stack.setCurrentWidget(self.picture)
        self._fit()

    def _fit(self) -> None:
        if self._image.isNull():
            return
        ratio = self.devicePixelRatioF()
        room = (self.size() * ratio).shrunkBy(self.contentsMargins())
        pixmap = QPixmap.fromImage(
            self._image.scaled(room, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation)
        )
        pixmap.setDevicePixelRatio(ratio)
        self.picture.setPixmap(pixmap)

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        self._fit()


class VotePage(Page):
    """The middle of the tab for voting: pair after pair, then what the votes amount to.

    Keys: 1 the left one is better, 2 about the same, 3 the right one, Backspace takes the last vote back.

    Signals:
        prompts_wanted(Ballot): both models are to make a work of each prompt.
    """

    prompts_wanted = Signal(object)

    def __init__(self, desk: Desk, empty: QWidget) -> None:
        super().__init__(desk)
        self.empty = empty
        self.ballot: Ballot | None = None
        self.pairs: list[Pair] = []
        self.votes: list[Vote] = []
        self.at: Pair | None = None
        self.swapped = False  # the first model's work stands on the right
        self.awaited = 0  # works that are still being made
        self.title = Label("", "title", elide=True)
        self.status = Label("", "soft", wrap=True)
        self.prompt = Label("", "heading", wrap=True)
        self.left = Side(tr("The left one"), "vote_left")
        self.right = Side(tr("The right one"), "vote_right")
        # short words: three of them stand side by side in a narrow window, with their keys
        self.buttons = [
            self._choice(tr("Left"), tr("The left one is better"), 1, -1),
            self._choice(tr("Same"), tr("Both are about the same"), 2, 0),
            self._choice(tr("Right"), tr("The right one is better"), 3, 1),
        ]
        for name, button in zip(("left", "same", "right"), self.buttons, strict=True):
            button.setObjectName(f"vote_for_{name}")
        self.undo_button = Button(
            tr("Take it back"),
            role="outline",
            icon_name="undo-2",
            tip=tr("Take the last vote back (Backspace)"),
            clicked=self.undo,
        )
        self.undo_button.setObjectName("vote_undo")
        self.result_button = Button(
            tr("Result"),
            role="outline",
            tip=tr("Show what the votes amount to, and who is who"),
            clicked=self.show_result,
        )
        self.result_button.setObjectName("vote_result")
        self.rates = Bars(tr("Win rates with their 95 % intervals"), "win_rates")
        self.ratings = Bars(tr("Elo ratings with their 95 % intervals"), "elo")
        self.words = Label("", wrap=True)
        self.result = Section(tr("Result"), self.words, self.rates, Label("Elo", "heading"), self.ratings)
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        around.addWidget(self.empty)
        self.booth = QWidget()
        inside = QVBoxLayout(self.booth)
        inside.setContentsMargins(24, 16, 24, 16)
        inside.setSpacing(10)
        inside.addLayout(heading(self.title, self.undo_button, self.result_button))
        inside.addWidget(self.status)
        inside.addWidget(self.prompt)
        self.sides = QWidget()
        across = row(self.left, self.right)
        across.setStretch(0, 1)
        across.setStretch(1, 1)
        self.sides.setLayout(across)
        inside.addWidget(self.sides, 1)
        self.choices = QWidget()
        self.choices.setLayout(row(*self.buttons))
        inside.addWidget(self.choices)
        inside.addWidget(self.result)
        self._rest = QWidget()
        inside.addWidget(self._rest, 1)
        around.addWidget(self.booth)
        for side in (self.left, self.right):
            side.text.installEventFilter(self)
        desk.change.connect(self._works_came)
        self.clear()

    def _choice(self, text: str, tip: str, key: int, place: int) -> Button:
        made = Button(f"{text}    {key}", role="outline", tip=f"{tip} ({key})", clicked=lambda: self.vote(place))
        made.setAccessibleName(tip)
        return made

    # -- beginning ----------------------------------------------------------------------------------------------------

    def clear(self) -> None:
        self.ballot, self.pairs, self.votes, self.at, self.awaited = None, [], [], None, 0
        self.empty.show()
        self.booth.hide()

    def begin(self, ballot: Ballot, jobs: int = 0) -> None:
        """Vote on these two models; `jobs` works are being made for it."""
        self.ballot, self.pairs, self.at, self.awaited = ballot, [], None, jobs
        self.empty.hide()
        self.booth.show()
        self._forget()
        self._round += 1
        now, session = self._round, self.desk.session
        if session is None:
            return

        def found(votes: list[Vote]) -> None:
            if now == self._round:
                self.votes = votes
                self._look()

        self.desk.tasks.read(
            self, lambda: session.votes(ballot.what, ballot.one, ballot.other), found, self.problem.emit
        )

    def _forget(self) -> None:
        self.votes = []
        self.result.hide()
        self.prompt.setText("")

    def _look(self) -> None:
        """Look which pairs there are now."""
        session, ballot, now = self.desk.session, self.ballot, self._round
        if session is None or ballot is None:
            return

        def done(works: list[Work]) -> None:
            if now == self._round:
                self.pairs = pairs_of(works, ballot.one, ballot.other)
                if ballot.prompts:
                    wanted = {prompt.strip() for prompt in ballot.prompts}
                    self.pairs = [pair for pair in self.pairs if pair.prompt in wanted]
                self._tell()
                if self.at is None:
                    self._next()

        self.desk.tasks.read(self, lambda: session.works(limit=MOST, kind=ballot.what), done, self.problem.emit)

    def _works_came(self, change: Any) -> None:
        if self.ballot is not None and change.works and self.isVisible():
            self._look()

    # -- voting -------------------------------------------------------------------------------------------------------

    def _open(self) -> list[Pair]:
        voted = {vote.pair for vote in self.votes}
        return [pair for pair in self.pairs if pair.id not in voted]

    def _next(self) -> None:
        """Show the next pair, in an order that nothing tells."""
        left = self._open()
        self.at = left[0] if left else None
        self.sides.setVisible(self.at is not None)
        self.choices.setVisible(self.at is not None)
        self._rest.setVisible(self.at is None)
        self._tell()
        if self.at is None:
            self.prompt.setText("")
            if self.votes:
                self.show_result()
                self.undo_button.setFocus()
            return
        self.result.hide()
        self.swapped = bool(secrets.randbits(1))
        self.prompt.setText(shown(self.at.prompt, 600))
        first, second = (self.at.other, self.at.one) if self.swapped else (self.at.one, self.at.other)
        self._load(self.left, first)
        self._load(self.right, second)
        self.buttons[1].setFocus()

    def _load(self, side: Side, work: Work) -> None:
        session, pair = self.desk.session, self.at
        if session is None:
            return
        path = session.path(work)

        def picture(image: QImage) -> None:
            if pair is self.at:
                side.show_picture(image)

        def text(read: str) -> None:
            if pair is self.at:
                side.show_text(read)

        if work.kind == "image":
            self.desk.tasks.picture(self, lambda: small_picture(path, SIDE), picture)
        else:
            self.desk.tasks.read(self, lambda: _text_of(path), text, self.problem.emit)

    def vote(self, place: int) -> None:
        """-1 the left one is better, 0 they are the same, 1 the right one."""
        session, ballot, pair = self.desk.session, self.ballot, self.at
        if session is None or ballot is None or pair is None:
            return
        won = place * (1 if self.swapped else -1)  # 1: the first model
        vote = Vote(pair=pair.id, one=ballot.one, other=ballot.other, won=won)
        self.votes.append(vote)
        self.desk.tasks.write(self, lambda: session.keep_vote(ballot.what, vote), None, self.problem.emit)
        self._next()

    def undo(self) -> None:
        """Take the last vote back, and show its pair again."""
        session, ballot = self.desk.session, self.ballot
        if session is None or ballot is None or not self.votes:
            return
        gone = self.votes.pop()
        self.desk.tasks.write(self, lambda: session.drop_vote(ballot.what, gone), None, self.problem.emit)
        self._next()

    def _tell(self) -> None:
        ballot = self.ballot
        if ballot is None:
            return
        voted, all_of_them = len(self.pairs) - len(self._open()), len(self.pairs)
        counted = tr("Pair {n} of {all}", n=min(voted + 1, all_of_them), all=all_of_them)
        self.title.setText(counted if self.at is not None else tr("Voting"))
        self.undo_button.setEnabled(bool(self.votes))
        self.result_button.setEnabled(bool(self.votes))
        waiting = self.desk.track.unfinished(ballot.what)
        if self.at is None and not self.pairs:
            words = (
                tr("The works are being made; the first pair comes in a moment.") if waiting
                else tr("These two models have no works of the same prompt yet. Write prompts on the left.")
            )  # fmt: skip
        elif self.at is None:
            words = tr("All pairs have been voted on.") + (" " + tr("More are being made.") if waiting else "")
        else:
            words = tr("Which one is better? Keys: 1, 2 for a tie, 3.")
        self.status.setText(words)

    def show_result(self) -> None:
        """Say what the votes amount to, and who is who."""
        ballot = self.ballot
        if ballot is None:
            return
        names = {card.id: shown(card.name, 60) for card in self.desk.models}
        found = standings(self.votes)
        self.rates.put([
            Bar(names.get(each.who, each.who), each.rate, f"{each.rate:.0%}  ({each.low:.0%} – {each.high:.0%})",
                low=each.low, high=each.high, full=1.0) for each in found
        ])  # fmt: skip
        self.ratings.put([
            Bar(names.get(each.who, each.who), each.elo, f"{each.elo:.0f}  ({each.elo_low:.0f} – {each.elo_high:.0f})",
                low=each.elo_low, high=each.elo_high) for each in found
        ])  # fmt: skip
        best = found[0] if found else None
        sure = best is not None and best.low > 0.5
        words = tr("{n} votes.", n=len(self.votes)) + " "
        if best is not None:
            name = names.get(best.who, best.who)
            better = tr("“{name}” is better, beyond chance.", name=name)
            words += better if sure else tr("No difference beyond chance so far.")
        self.words.setText(words)
        self.result.show()

    # -- keys ---------------------------------------------------------------------------------------------------------

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if not self._key(event):
            super().keyPressEvent(event)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        return isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress and self._key(event)

    def _key(self, event: QKeyEvent) -> bool:
        keys = Qt.Key
        places = {keys.Key_1: -1, keys.Key_2: 0, keys.Key_3: 1}
        if event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier:
            return False
        if self.at is None and event.key() != keys.Key_Backspace:
            return False
        if (place := places.get(keys(event.key()))) is not None:
            self.vote(place)
        elif event.key() == keys.Key_Backspace:
            self.undo()
        else:
            return False
        return True


def _text_of(path: Path) -> str:
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read(TEXT)


def seed_for(prompt: int) -> int:
    """Both works of a prompt are made from the same seed."""
    return (secrets.randbelow(SEED_LIMIT) + prompt) % SEED_LIMIT


def values_of(ballot: Ballot) -> list[dict[str, Any]]:
    """What both models are asked for, prompt by prompt."""
    made: list[dict[str, Any]] = []
    for at, prompt in enumerate(ballot.prompts):
        seed = seed_for(at)
        for model in (ballot.one, ballot.other):
            values: dict[str, Any] = {WORDS[ballot.what]: prompt, "model": model, "seed": seed}
            values[COUNT_FIELD[ballot.what]] = 1
            if ballot.what == "text":
                values["max_tokens"] = ballot.length
            made.append(values)
    return made
