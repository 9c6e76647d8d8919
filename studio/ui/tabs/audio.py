"""The Audio tab: a text read aloud, its sound, and a reading that is followed sentence by sentence."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import QMimeData, Qt
from PySide6.QtGui import QColor, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QMenu, QPlainTextEdit, QSlider, QStackedLayout, QTextEdit, QVBoxLayout, QWidget

from studio.core.cards import ModelCard
from studio.core.events import Again, EndEvent, Event, Piece
from studio.core.jobs import Job
from studio.core.problems import NotRead
from studio.core.recipes import SpeechRecipe
from studio.core.works import Work
from studio.ui import theme
from studio.ui.actions import keys_of
from studio.ui.desk import Desk
from studio.ui.sound import Peaks, Player, Sound, peaks, read_wav
from studio.ui.strings import as_tip, duration, tr
from studio.ui.tabs.base import EmptyState, MakeTab
from studio.ui.waveform import Waveform
from studio.ui.widgets import Label, ToolButton, WordsIfRoomy, row, then

PER_SECOND = 50  # buckets of a piece, while it is being made

# What a voice says to show how it sounds, by language.
SAMPLES = {
    "en": "Good evening. This is how I sound, and I would love to read to you.",
    "de": "Guten Abend. So klinge ich, und ich lese Ihnen gern etwas vor.",
    "fr": "Bonsoir. Voici ma voix, et j'aimerais vous lire quelque chose.",
    "es": "Buenas tardes. Así sueno yo, y me encantaría leerte algo.",
    "it": "Buonasera. Questa è la mia voce, e mi piacerebbe leggerti qualcosa.",
    "pt": "Boa noite. É assim que eu soo, e gostaria de ler para você.",
    "nl": "Goedenavond. Zo klink ik, en ik lees je graag iets voor.",
    "ja": "こんばんは。これが私の声です。",
    "zh": "晚上好。这就是我的声音。",
}


def sample_text(card: ModelCard | None) -> str:
    """A sentence in the language of a voice."""
    found = re.search(r"\(([a-z]{2})[_)]", " ".join(card.notes)) if card else None
    return SAMPLES.get(found[1] if found else "en", SAMPLES["en"])


def places_of(text: str, sentences: list[str]) -> list[tuple[int, int]]:
    """Where each sentence stands in the text, as (begin, end); (-1, -1) where it cannot be found."""
    found, at = [], 0
    for sentence in sentences:
        words = sentence.split()
        if not words:
            found.append((-1, -1))
            continue
        # the reader folds white space, so any will do between two words
        match = re.compile(r"\s+".join(map(re.escape, words))).search(text, at)
        if match is None:
            found.append((-1, -1))
        else:
            found.append(match.span())
            at = match.end()
    return found


def in_document(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same places as Qt counts them: a character beyond U+FFFF, as most emoji are, counts twice."""
    if text.isascii():
        return spans
    wide = [at for at, char in enumerate(text) if char > "\uffff"]
    return [tuple(at + bisect.bisect_left(wide, at) for at in span) for span in spans]  # type: ignore[misc]


def read_sound(path: Path) -> Sound:
    """A sound from the disk. Callable from any thread.

    Raises:
        NotRead: it is no sound that can be played.
    """
    try:
        return read_wav(path)
    except FileNotFoundError:
        raise NotRead(tr("Its file is not there any more.")) from None
    except (OSError, ValueError) as error:
        raise NotRead(str(error)) from None


class ReadingText(QPlainTextEdit):
    """The text that is read; the sentence that is heard now is marked. A click or Enter goes to a sentence."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("reading")
        self.setAccessibleName(tr("The text that is read"))
        self.setReadOnly(True)
        self.setProperty("role", "reading")
        self.setTabChangesFocus(True)
        self.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.goto: Callable[[int], Any] | None = None
        self._span = (-1, -1)

    def mark(self, begin: int, end: int) -> None:
        """Mark a part of the text and keep it in sight; -1 marks nothing."""
        if (begin, end) == self._span:
            return
        self._span = (begin, end)
        if begin < 0:
            self.setExtraSelections([])
            return
        now = theme.current()
        chosen = QTextEdit.ExtraSelection()
        cursor = QTextCursor(self.document())
        cursor.setPosition(begin)
        cursor.setPosition(end, QTextCursor.MoveMode.KeepAnchor)
        look = QTextCharFormat()
        tint = QColor(now.accent)
        tint.setAlpha(70)
        look.setBackground(tint)
        chosen.format, chosen.cursor = look, cursor
        self.setExtraSelections([chosen])
        where = self.cursorRect(cursor)
        if not self.viewport().rect().contains(where) and not self.textCursor().hasSelection():
            view = QTextCursor(self.document())
            view.setPosition(begin)
            self.setTextCursor(view)
            self.centerCursor()

    def mouseReleaseEvent(self, event: Any) -> None:
        super().mouseReleaseEvent(event)
        if event.button() == Qt.MouseButton.LeftButton and not self.textCursor().hasSelection():
            self._go()

    def keyPressEvent(self, event: Any) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and not event.modifiers():
            self._go()
        else:
            super().keyPressEvent(event)

    def _go(self) -> None:
        if self.goto is not None:
            self.goto(self.textCursor().position())


class AudioTab(MakeTab):
    kind = "speech"
    verb = "Speak"

    def __init__(self, desk: Desk) -> None:
        self._sentences: list[tuple[float, float, str]] = []
        self._spans: list[tuple[int, int]] = []
        self._starts: list[float] = []
        self._read = ""  # the text that is shown
        self._to_hear = ""  # a job that is played whatever the settings say
        self._streaming = ""  # the job whose pieces the player has
        self._loaded = ""  # the work the player has
        self._asked_to_play = False
        self._round = 0  # of what is shown; what was read for an earlier one comes too late
        super().__init__(desk)
        self.sample_button = ToolButton(
            tr("Hear the voice"), "volume-2", role="", shortcut=keys_of("sample_voice"), clicked=self.sample_voice
        )
        self.sample_button.setObjectName("sample")
        beside = self.form.rows["voice"].editor.layout()
        assert beside is not None
        beside.addWidget(self.sample_button)
        QWidget.setTabOrder(self.form.rows["voice"].editor.target(), self.sample_button)

    def build_centre(self) -> QWidget:
        self.player = Player(self)
        self.player.position_changed.connect(self._at)
        self.player.state_changed.connect(self._playing)
        self.player.failed.connect(self._silent)
        self.player.availability_changed.connect(self._refresh_transport)
        self.empty = EmptyState(
            tr("What should be read aloud?"),
            tr("Write or drop a text on the left and press Speak. Sound comes with the first sentence."),
            (
                tr("Good evening. All you hear was made on this computer."),
                tr("Once upon a time there was a clockmaker who could not sleep."),
            ),
        )
        self.empty.chosen.connect(self.take_text)
        self.text = ReadingText()
        self.text.goto = self._goto_text
        self.wave = Waveform()
        self.wave.setObjectName("wave")
        self.wave.setMinimumHeight(120)
        self.wave.seek_wanted.connect(self._seek)
        self.play_button = ToolButton(
            tr("Play"), "play", role="round", shortcut=keys_of("toggle_play"), clicked=self.toggle_play
        )
        self.back_button = ToolButton(tr("Back to the beginning"), "skip-back", clicked=lambda: self._seek(0.0))
        self.time = Label("", "soft")
        self.volume = QSlider(Qt.Orientation.Horizontal)
        self.volume.setObjectName("volume")
        self.volume.setAccessibleName(tr("Volume"))
        self.volume.setToolTip(as_tip(tr("Volume")))
        self.volume.setRange(0, 100)
        self.volume.setValue(100)
        self.volume.setMinimumWidth(32)
        self.volume.setMaximumWidth(96)
        self.volume.setMinimumHeight(28)
        self.volume.valueChanged.connect(lambda value: setattr(self.player, "volume", value / 100))
        self.silent = Label(role="soft", wrap=True)
        self.silent.hide()
        self.copy_button = ToolButton(
            tr("Copy the sound as a file"), "copy", text=tr("Copy"), shortcut=keys_of("copy_work"),
            clicked=self.copy_work,
        )  # fmt: skip
        self.save_button = ToolButton(
            tr("Save as …"), "download", text=tr("Save as …"), shortcut=keys_of("save_as"), clicked=self.save_as
        )
        for name in ("play", "back", "copy", "save"):
            getattr(self, f"{name}_button").setObjectName(f"audio_{name}")
        self.time.setMinimumWidth(self.time.fontMetrics().horizontalAdvance("00:00 / 00:00"))
        transport = row(self.back_button, self.play_button, 4, self.time, 8)
        transport.addStretch(1)
        for widget in (self.volume, self.copy_button, self.save_button):
            transport.addWidget(widget)
        page = QWidget()
        inside = QVBoxLayout(page)
        inside.setContentsMargins(24, 20, 24, 12)
        inside.setSpacing(12)
        inside.addWidget(self.text, 1)
        inside.addWidget(self.wave)
        inside.addLayout(transport)
        inside.addWidget(self.silent)
        centre = QWidget()
        self._stack = QStackedLayout(centre)
        self._stack.addWidget(self.empty)
        self._stack.addWidget(page)
        self._page = page
        WordsIfRoomy(page, 600, self.copy_button, self.save_button)
        self._refresh_transport()
        return centre

    # -- making -------------------------------------------------------------------------------------------------------

    def begun(self, job_id: str) -> None:
        self.player.clear()
        self.wave.clear()
        self._streaming, self._loaded = job_id, ""
        self._round += 1
        self._set_sentences([], "")
        self._stack.setCurrentWidget(self._page)
        session = self.desk.session
        self.player.check()
        if session is not None:
            self.desk.tasks.read(self, lambda: session.job(job_id).recipe, lambda recipe: self._reading(job_id, recipe))
        job = self.desk.track.jobs.get(job_id)
        for piece in list(job.pieces) if job else []:
            self._piece(piece)
        self._refresh_transport()

    def _reading(self, job_id: str, recipe: Any) -> None:
        if job_id == self._streaming and not self._loaded and isinstance(recipe, SpeechRecipe):
            self._set_sentences(self._sentences, recipe.text)

    def progressed(self, event: Event) -> None:
        if isinstance(event, Again) and event.job == self._streaming and not self._loaded:
            self.begun(event.job)
        if isinstance(event, Piece) and event.job == self._streaming and not self._loaded:
            self._piece(event)

    def _piece(self, piece: Piece) -> None:
        """A sentence has been spoken: its sound is read before the job ends and its file goes."""
        path = Path(piece.path)

        def read() -> tuple[Sound, list[tuple[float, float]]]:
            sound = read_sound(path)
            return sound, peaks(sound, max(1, round(sound.seconds * PER_SECOND)))

        def done(found: tuple[Sound, list[tuple[float, float]]]) -> None:
            if self._streaming != piece.job or self._loaded:
                return
            sound, shape = found
            first = not self._sentences
            self.player.add(sound.rate, sound.samples.tobytes())
            self.wave.add_wave(shape, sound.seconds)
            self._sentences.append((piece.start, piece.seconds, piece.text))
            self._set_sentences(self._sentences, self._read)
            settings = self.desk.settings
            wanted = piece.job == self._to_hear or (settings is not None and settings.play)
            if first and wanted and not self.player.available():
                self.player.play()
            self._refresh_transport()

        # a piece that is gone already is in the finished work
        self.desk.tasks.picture(self, read, done, lambda _: None)

    def ended(self, event: EndEvent) -> None:
        if event.job != self._streaming or self._loaded:
            return
        self.player.finished_adding()
        self.wave.finished_adding()
        if not getattr(event, "works", ()):
            self._streaming = ""  # what was read for it comes too late now
            if self.work is not None:
                self.display(self.work)
            else:
                self.player.clear()
                self._stack.setCurrentWidget(self.empty)
        self._refresh_transport()

    def clear(self) -> None:
        self._round += 1
        self.player.clear()
        self.wave.clear()
        self._stack.setCurrentWidget(self.empty)
        self._refresh_transport()

    # -- showing ------------------------------------------------------------------------------------------------------

    def display(self, work: Work) -> None:
        self._stack.setCurrentWidget(self._page)
        recipe, session = work.recipe, self.desk.session
        if session is None or not isinstance(recipe, SpeechRecipe):
            return
        path = session.path(work)
        self.player.check()
        self._round += 1
        now = self._round
        heard = self.player.playing and work.job == self._streaming and not self._loaded

        def read() -> tuple[Sound, Peaks]:
            sound = read_sound(path)
            return sound, Peaks.of(sound)

        def done(found: tuple[Sound, Peaks]) -> None:
            if now != self._round:
                return
            sound, shape = found
            position = self.player.position
            self.wave.set_wave(shape, sound.seconds)
            marks = work.meta.get("sentences") or []
            self._set_sentences([(m["start"], m["seconds"], m["text"]) for m in marks], recipe.text)
            if heard and self.player.playing and abs(self.player.length - sound.seconds) < 0.01:
                self.wave.set_position(position)  # it goes on with what it has, which is the same sound
            elif heard and self.player.playing:  # a piece was gone before it could be read
                self.player.set_sound(sound)
                self.player.seek(position)
                self.player.play()
            else:
                self.player.set_sound(sound)
                self.wave.set_position(0.0)
            self._loaded = work.id
            self._refresh_transport()

        def failed(problem: Any) -> None:
            if now == self._round:
                self.player.clear()
                self.wave.clear()
                self._set_sentences([], recipe.text)
                self._loaded = work.id
                self.notice.tell(tr("This sound cannot be read."), problem.sentence, bad=True)
                self._refresh_transport()

        self.desk.tasks.picture(self, read, done, failed)

    def _set_sentences(self, sentences: list[tuple[float, float, str]], text: str) -> None:
        if self._read != text:
            self._read = text
            self.text.mark(-1, -1)
            self.text.setPlainText(text)
        self._sentences = list(sentences)
        self._starts = [start for start, _, _ in self._sentences]
        self._spans = in_document(text, places_of(text, [words for _, _, words in self._sentences]))
        self.wave.set_sentences(self._sentences)

    def _refresh_transport(self) -> None:
        reason = self.player.available()
        there = self.player.length > 0
        self.play_button.setEnabled(there and not reason)
        self.back_button.setEnabled(there and not reason)
        self.volume.setEnabled(not reason)
        self.play_button.name(reason or (tr("Pause") if self.player.playing else tr("Play")), keys_of("toggle_play"))
        self.silent.setText(reason)
        self.silent.setVisible(bool(reason))
        for button in (self.copy_button, self.save_button):
            button.setEnabled(self.work is not None)
        self._show_time(self.player.position)

    def _show_time(self, position: float) -> None:
        length = self.player.length
        self.time.setText(f"{duration(position)} / {duration(length)}" if length else "")

    # -- listening ----------------------------------------------------------------------------------------------------

    def toggle_play(self) -> None:
        if self.play_button.isEnabled():
            self._asked_to_play = True
            self.player.toggle()

    def _silent(self, sentence: str) -> None:
        """It cannot be played. The button says why; more is said only to someone who wanted to hear it."""
        if self._asked_to_play or self.player.position > 0:
            self.notice.tell(sentence, bad=True)
        self._asked_to_play = False
        self._refresh_transport()

    def _playing(self, playing: bool) -> None:
        self.play_button.set_icon("pause" if playing else "play")
        self.play_button.name(tr("Pause") if playing else tr("Play"), keys_of("toggle_play"))
        if not playing:
            self._show_time(self.player.position)

    def _at(self, position: float) -> None:
        self.wave.set_position(position)
        self._show_time(position)
        at = bisect.bisect_right(self._starts, position + 0.02) - 1
        if 0 <= at < len(self._spans):
            self.text.mark(*self._spans[at])

    def _seek(self, seconds: float) -> None:
        self.player.seek(seconds)
        self._at(seconds)

    def _goto_text(self, place: int) -> None:
        for (begin, end), start in zip(self._spans, self._starts, strict=True):
            if begin <= place <= end:
                self._seek(start)
                return

    def sample_voice(self) -> None:
        """Hear a sentence in the chosen voice: the one made earlier, or a new one."""
        session, card = self.desk.session, self.form.card()
        if session is None or card is None:
            return
        text = sample_text(card)
        speaker = self.form.rows["speaker"].value()

        def find() -> Work | None:
            same = session.works(kind="speech", search=text, limit=50)
            for work in same:
                recipe = work.recipe
                wanted = (text, card.id, speaker)
                same_voice = isinstance(recipe, SpeechRecipe) and (recipe.text, recipe.voice, recipe.speaker) == wanted
                if same_voice and work.complete:
                    return work
            return None

        def found(work: Work | None) -> None:
            if work is not None:
                self.show_work(work)
                self._play_when_loaded(work)
            else:
                given = {"text": text, "voice": card.id, "speaker": speaker}
                self.desk.submit("speech", given, asked, self.refused)

        def asked(job: Job) -> None:
            self._to_hear, self._asked_to_play = job.id, True
            self.submitted(job)

        self.desk.tasks.read(self, find, found, self.tell_problem)

    def _play_when_loaded(self, work: Work) -> None:
        def play(_: None) -> None:
            if self.work is None or self.work.id != work.id:
                return
            if reason := self.player.available():
                self.notice.tell(reason, bad=True)
            else:
                self._asked_to_play = True
                self.player.play()

        # behind the reading of the same file, which is under way
        self.desk.tasks.picture(self, lambda: None, play)

    def leave(self) -> None:
        self.player.stop()

    # -- in and out ---------------------------------------------------------------------------------------------------

    def own_entries(self, work: Work) -> list[tuple[str, Callable[[], Any]] | None]:
        return [(tr("Play"), then(lambda: self.show_work(work), lambda: self._play_when_loaded(work)))]

    def copied(self) -> None:
        self.copy_button.flash()

    def add_content(self, data: QMimeData) -> None:
        if self.work is not None and isinstance(self.work.recipe, SpeechRecipe):
            data.setText(self.work.recipe.text)

    def fill_more(self, menu: QMenu) -> None:
        menu.addAction(tr("Hear the voice")).triggered.connect(lambda *_: self.sample_voice())
