"""The Audio tab at work: sound that comes piece by piece, and a text that is followed."""

from __future__ import annotations

import threading
from array import array
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QGuiApplication, QTextCursor
from PySide6.QtTest import QTest

from studio.ui import sound
from studio.ui.sound import NoOutput, Player
from studio.ui.tabs import audio
from studio.ui.tabs.audio import SAMPLES, in_document, places_of
from tests.ui.hands import click_work, press

Key, Mod, Button = Qt.Key, Qt.KeyboardModifier, Qt.MouseButton
TEXT = "One, two.  Three.\n\nFour."


class Device:
    """Takes what fits in its buffer, and has heard it when `pass_time` says so."""

    def __init__(self, rate: int) -> None:
        self.rate, self.channels = rate, 1
        self.volume, self.wrong = -1.0, ""
        self.written, self.count, self.started = array("h"), 0, False

    def start(self) -> None:
        self.started, self.count, self.written = True, 0, array("h")

    def stop(self) -> None:
        self.started = False

    def free(self) -> int:
        return int(0.3 * self.rate) - (len(self.written) - self.count)

    def write(self, samples: array[int]) -> int:
        self.written.extend(samples)
        return len(samples)

    def heard(self) -> int:
        return self.count

    def set_volume(self, volume: float) -> None:
        self.volume = volume

    def trouble(self) -> str:
        return self.wrong

    def close(self) -> None:
        self.stop()

    def pass_time(self, seconds: float) -> None:
        self.count = min(len(self.written), self.count + round(seconds * self.rate))


class Speaker:
    """The tab's player on a fake device."""

    def __init__(self) -> None:
        self.devices: list[Device] = []

    def open(self, rate: int) -> Device:
        self.devices.append(Device(rate))
        return self.devices[-1]

    def listen(self, rig: Any, player: Player, until: float) -> None:
        """Let time pass until a place is heard."""

        def there() -> bool:
            if self.devices:
                self.devices[-1].pass_time(0.05)
            return player.position >= until

        rig.until(there)


@pytest.fixture
def speaker(monkeypatch: pytest.MonkeyPatch) -> Speaker:
    made = Speaker()
    monkeypatch.setattr(audio, "Player", lambda parent: Player(parent, make_output=made.open))
    return made


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without sound, whatever this one has."""

    def load() -> sound.Loaded:
        raise NoOutput("There is no sound device.")

    monkeypatch.setattr(audio, "Player", lambda parent: Player(parent, load=load))


def hush(rig: Any) -> None:
    """Nothing plays by itself."""
    rig.session.change_settings(play=False)
    rig.until(lambda: not rig.desk.settings.play)


def marked(tab: Any) -> str:
    """The part of the text that is marked as heard now."""
    chosen = tab.text.extraSelections()
    return str(chosen[0].cursor.selectedText()) if chosen else ""


def click_text(tab: Any, words: str) -> None:
    cursor = tab.text.document().find(words)
    cursor.setPosition(cursor.selectionStart() + 1)
    QTest.mouseClick(tab.text.viewport(), Button.LeftButton, pos=tab.text.cursorRect(cursor).center())


def ready(rig: Any, tab: Any, work: Any) -> None:
    rig.until(lambda: tab._loaded == work.id)


# ---- places in the text


@pytest.mark.parametrize(
    ("text", "sentences", "found"),
    [
        ("One. Two.", ["One.", "Two."], ["One.", "Two."]),
        ("One\n\n  and\tmore.\u00a0 Two.", ["One and more.", "Two."], ["One\n\n  and\tmore.", "Two."]),
        ("No. No. No.", ["No.", "No.", "No."], ["No.", "No.", "No."]),
        ("One. 2. Three.", ["One.", "two", "Three."], ["One.", None, "Three."]),
        ("(a+b)* [c].", ["(a+b)*", "[c]."], ["(a+b)*", "[c]."]),
        ("One.", ["", "  ", "One.", "One."], [None, None, "One.", None]),
        ("", ["One."], [None]),
    ],
)
def test_sentences_are_found_in_their_order_whatever_white_space_there_is(
    text: str, sentences: list[str], found: list[str | None]
) -> None:
    places = places_of(text, sentences)
    assert [text[a:b] if a >= 0 else None for a, b in places] == found
    starts = [a for a, _ in places if a >= 0]
    assert starts == sorted(set(starts))


def test_places_are_counted_as_the_text_widget_counts() -> None:
    text = "\U0001f600 One. \U0001f680\U0001f680 Two."
    spans = in_document(text, [*places_of(text, ["One.", "Two."]), (-1, -1)])
    wide = text.encode("utf-16-le")
    assert [wide[2 * a : 2 * b].decode("utf-16-le") for a, b in spans[:2]] == ["One.", "Two."]
    assert spans[2] == (-1, -1)


# ---- while it is made


def test_sound_comes_with_each_sentence_and_the_whole_takes_its_place(rig: Any, speaker: Speaker) -> None:
    tab = rig.tab("speech")
    assert tab._stack.currentWidget() is tab.empty
    hush(rig)
    rig.make("speech", "hold on. never said.")
    rig.until(lambda: tab.player.length == 0.5)
    assert tab._stack.currentWidget() is tab._page
    assert tab.text.toPlainText() == "hold on. never said."
    assert tab.wave.seconds == 0.5 and tab.wave.view[1] > 0.5  # there is room for more
    assert tab._spans == [(0, 8)]
    assert not tab.player.playing and speaker.devices == []  # it is not wanted
    assert tab.play_button.isEnabled()
    # it can be heard before the rest is there, and waits for more
    QTest.mouseClick(tab.play_button, Button.LeftButton)
    assert tab.play_button.accessibleName() == "Pause"
    speaker.listen(rig, tab.player, 0.5)
    rig.until(lambda: marked(tab) == "hold on.")
    assert tab.player.playing
    press(rig, Key.Key_Escape, Mod.NoModifier)
    rig.until(lambda: rig.idle() and tab._stack.currentWidget() is tab.empty)
    assert not tab.player.playing and tab.player.length == 0

    lengths: list[float] = []
    real = tab.player.add

    def add(rate: int, pcm: bytes) -> None:
        real(rate, pcm)
        lengths.append(tab.player.length)

    tab.player.add = add
    rig.make("speech", "slow one. two. three. four.")
    rig.until(rig.idle)
    rig.until(lambda: tab.work is not None and tab._loaded == tab.work.id)
    assert lengths[:2] == [0.5, 1.0]
    assert tab.player.length == tab.wave.seconds == 2.0 and tab.wave.view == (0.0, 2.0)
    assert len(tab._spans) == 4 and (-1, -1) not in tab._spans
    assert tab.time.text() == "0.0 s / 2.0 s"
    assert rig.problems == []


def test_it_plays_at_once_only_where_the_settings_want_it_and_goes_on_into_the_finished_work(
    rig: Any, speaker: Speaker
) -> None:
    tab = rig.tab("speech")
    assert rig.desk.settings.play
    rig.make("speech", "slow one. two. three. four.")
    rig.until(lambda: tab.player.playing)
    speaker.listen(rig, tab.player, 0.3)
    rig.until(lambda: rig.idle() and tab.work is not None and tab._loaded == tab.work.id)
    assert tab.player.playing and len(speaker.devices) == 1  # without a gap
    assert tab.player.position >= 0.3 and tab.player.length == 2.0
    speaker.listen(rig, tab.player, 1.2)
    rig.until(lambda: marked(tab) == "three.")
    ends: list[bool] = []
    tab.player.ended.connect(lambda: ends.append(True))
    speaker.listen(rig, tab.player, 2.0)
    rig.until(lambda: ends and not tab.player.playing)
    assert tab.play_button.accessibleName() == "Play"
    # a piece whose file was gone before it was read is heard all the same
    tab._piece = lambda piece: None if piece.index == 1 else type(tab)._piece(tab, piece)
    rig.make("speech", "slow five. six. seven.")
    rig.until(lambda: tab.player.playing)
    speaker.listen(rig, tab.player, 0.2)
    rig.until(lambda: rig.idle() and tab._loaded == tab.work.id)
    assert tab.player.length == 1.5 and tab.player.playing and 0.2 <= tab.player.position < 1.0


def test_a_reading_that_is_listened_to_is_not_disturbed_by_one_that_is_made(rig: Any, speaker: Speaker) -> None:
    old = rig.made("speech", "The old. Reading.")
    tab = rig.tab("speech")
    rig.make("speech", "hold the new one.")
    rig.until(lambda: tab.player.length == 0.5)
    click_work(tab, old)
    ready(rig, tab, old)
    assert not tab.player.playing and tab.player.length == 1.0
    tab.toggle_play()
    speaker.listen(rig, tab.player, 0.2)
    rig.desk.cancel(tab.following)
    rig.until(rig.idle)
    assert tab.player.playing and tab.player.position >= 0.2 and tab.work.id == old.id


def test_a_work_read_too_late_does_not_take_the_place_of_a_new_reading(
    rig: Any, speaker: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = rig.made("speech", "The old.")
    tab = rig.tab("speech")
    ready(rig, tab, old)
    slow_disk, real, place = threading.Event(), sound.read_wav, rig.session.path(old)

    def read(path: str | Path) -> sound.Sound:
        if path == place:
            slow_disk.wait(30)
        return real(path)

    monkeypatch.setattr(audio, "read_wav", read)
    tab.show_work(old)
    rig.make("speech", "hold on. the new.")
    rig.until(lambda: tab._streaming == tab.following and rig.running("speech"))
    slow_disk.set()
    rig.until(lambda: tab._sentences and tab._sentences[0][2] == "hold on.")
    assert tab.text.toPlainText() == "hold on. the new." and tab._loaded == ""
    assert tab.wave.seconds == tab.player.length == 0.5
    tab.stop()
    rig.until(rig.idle)
    ready(rig, tab, old)


def test_a_failed_reading_leaves_the_old_one(rig: Any, speaker: Speaker) -> None:
    old = rig.made("speech", "The old.")
    tab = rig.tab("speech")
    for words in ("fail now", "die now"):
        rig.make("speech", words)
        rig.until(lambda: rig.idle() and tab.notice.isVisible())
        ready(rig, tab, old)
        assert tab.text.toPlainText() == "The old." and tab.player.length == 0.5
        tab.notice.put_away()


# ---- listening


def test_the_text_the_wave_and_the_sound_go_to_the_same_place(rig: Any, speaker: Speaker) -> None:
    hush(rig)
    work = rig.made("speech", TEXT)
    tab = rig.tab("speech")
    ready(rig, tab, work)
    # positions, as the player tells them
    for at, words in ((0.0, "One, two."), (0.6, "Three."), (1.1, "Four."), (0.49, "Three."), (0.4, "One, two.")):
        tab.player.position_changed.emit(at)
        assert (marked(tab), tab.wave.position) == (words, at)
    # a click in the text
    click_text(tab, "Four")
    assert (tab.player.position, tab.wave.position, marked(tab)) == (1.0, 1.0, "Four.")
    assert tab.time.text() == "1.0 s / 1.5 s"
    # Enter where the cursor is
    cursor = tab.text.textCursor()
    cursor.setPosition(tab.text.toPlainText().index("Three") + 2)
    tab.text.setTextCursor(cursor)
    tab.text.setFocus()
    QTest.keyClick(tab.text, Key.Key_Return)
    assert (tab.player.position, marked(tab)) == (0.5, "Three.")
    # a selection is not a jump
    tab.text.selectAll()
    QTest.keyClick(tab.text, Key.Key_Home)
    assert tab.player.position == 0.5
    # the wave
    QTest.mouseClick(tab.wave, Button.LeftButton, pos=QPoint(int(tab.wave.x_of(1.25)), 30))
    assert tab.player.position == pytest.approx(1.25, abs=0.02) and marked(tab) == "Four."
    QTest.mouseClick(tab.back_button, Button.LeftButton)
    assert (tab.player.position, tab.wave.position, marked(tab)) == (0.0, 0.0, "One, two.")
    # the keys
    press(rig, Key.Key_Space)
    assert tab.player.playing
    speaker.listen(rig, tab.player, 0.6)
    rig.until(lambda: marked(tab) == "Three.")
    press(rig, Key.Key_Space)
    assert not tab.player.playing
    # the volume
    tab.volume.setFocus()
    QTest.keyClick(tab.volume, Key.Key_Home)
    assert (tab.player.volume, speaker.devices[-1].volume) == (0.0, 0.0)
    tab.volume.setValue(40)
    assert speaker.devices[-1].volume == 0.4
    # another work whose first sentence stands in the same place is marked, too
    other = rig.made("speech", "Two, one. End.")
    ready(rig, tab, other)
    tab.player.position_changed.emit(0.0)
    assert marked(tab) == "Two, one."


def test_emoji_do_not_move_the_mark(rig: Any, speaker: Speaker) -> None:
    work = rig.made("speech", "\U0001f600\U0001f600 One. Two.")
    tab = rig.tab("speech")
    ready(rig, tab, work)
    tab.player.position_changed.emit(0.6)
    assert marked(tab) == "Two."
    click_text(tab, "One")
    assert tab.player.position == 0.0


def test_without_a_sound_device_everything_but_playing_works(rig: Any, silence: None) -> None:
    tab = rig.tab("speech")
    rig.made("speech", TEXT)
    rig.until(lambda: tab.player.available())
    rig.until(lambda: tab._loaded)
    assert not tab.play_button.isEnabled() and not tab.back_button.isEnabled()
    assert tab.play_button.accessibleName() == "There is no sound device."
    assert "There is no sound device." in tab.play_button.toolTip()
    assert tab.silent.whole() == "There is no sound device."
    assert not tab.notice.isVisible()  # nobody wanted to hear it
    click_text(tab, "Four")
    assert (tab.wave.position, marked(tab)) == (1.0, "Four.")
    QTest.mouseClick(tab.wave, Button.LeftButton, pos=QPoint(int(tab.wave.x_of(0.7)), 30))
    assert marked(tab) == "Three."
    assert tab.save_button.isEnabled()
    press(rig, Key.Key_C, Mod.ControlModifier | Mod.ShiftModifier)
    data = QGuiApplication.clipboard().mimeData()
    assert data.text() == TEXT and data.urls()[0].toLocalFile() == str(rig.session.path(tab.work))
    # who asks to hear is told
    press(rig, Key.Key_H, Mod.ControlModifier | Mod.ShiftModifier)
    rig.until(lambda: rig.idle() and len(tab.history.model.works) == 2)
    press(rig, Key.Key_H, Mod.ControlModifier | Mod.ShiftModifier)
    rig.until(lambda: tab.notice.isVisible())
    assert tab.notice.sentence.text() == "There is no sound device."
    assert rig.problems == []


def test_the_sample_of_a_voice_is_made_once_and_heard_each_time(rig: Any, speaker: Speaker) -> None:
    tab = rig.tab("speech")
    hush(rig)
    tab.form.put_some({"text": "My own text."})
    QTest.mouseClick(tab.sample_button, Button.LeftButton)
    rig.until(lambda: tab.player.playing)  # though the setting says no: it was asked for
    rig.until(lambda: rig.idle() and len(tab.history.model.works) == 1)
    first = tab.history.model.works[0]
    assert first.recipe.text == SAMPLES["en"] and first.recipe.voice == "speaker"
    assert tab.form.rows["text"].value() == "My own text."
    other = rig.made("speech", "Something else.")
    ready(rig, tab, other)
    assert not tab.player.playing
    QTest.mouseClick(tab.sample_button, Button.LeftButton)
    rig.until(lambda: tab.work.id == first.id and tab.player.playing)
    assert rig.idle() and len(rig.session.works(kind="speech")) == 2
    # another voice has its own
    tab.form.put_some({"voice": "choir", "speaker": 3})
    QTest.mouseClick(tab.sample_button, Button.LeftButton)
    rig.until(lambda: rig.idle() and len(tab.history.model.works) == 3)
    assert (tab.history.model.works[0].recipe.voice, tab.history.model.works[0].recipe.speaker) == ("choir", 3)


@pytest.mark.parametrize(("broken", "told"), [(None, "not there any more"), (b"garbage", "This is not a WAV file.")])
def test_a_sound_that_is_gone_or_damaged_is_told_and_nothing_else_is_heard(
    rig: Any, speaker: Speaker, broken: bytes | None, told: str
) -> None:
    bad = rig.made("speech", "The broken one.")
    good = rig.made("speech", "The good one.")
    tab = rig.tab("speech")
    ready(rig, tab, good)
    path = rig.session.path(bad)
    path.unlink() if broken is None else path.write_bytes(broken)
    click_work(tab, bad)
    rig.until(lambda: tab.notice.isVisible())
    assert tab.notice.sentence.text() == "This sound cannot be read."
    assert told in tab.notice.hint.text()
    assert tab.text.toPlainText() == "The broken one."
    assert tab.player.length == 0 and tab.wave.seconds == 0 and not tab.play_button.isEnabled()
    click_work(tab, good)
    ready(rig, tab, good)
    assert tab.player.length == 0.5 and tab.play_button.isEnabled()
    assert rig.problems == []


def test_a_mark_outside_the_view_is_brought_into_sight(rig: Any, speaker: Speaker) -> None:
    hush(rig)
    work = rig.made("speech", "".join(f"Sentence {n} stands here.\n\n" for n in range(60)))
    tab = rig.tab("speech")
    ready(rig, tab, work)
    assert tab.text.verticalScrollBar().value() == 0
    tab.player.position_changed.emit(25.1)
    assert marked(tab).startswith("Sentence 50")
    cursor = QTextCursor(tab.text.document())
    cursor.setPosition(tab._spans[50][0])
    assert tab.text.viewport().rect().contains(tab.text.cursorRect(cursor).center())


def test_a_device_that_goes_away_is_told(rig: Any, speaker: Speaker) -> None:
    hush(rig)
    work = rig.made("speech", TEXT)
    tab = rig.tab("speech")
    ready(rig, tab, work)
    tab.toggle_play()
    speaker.devices[-1].wrong = "The device is gone."
    rig.until(lambda: tab.notice.isVisible())
    assert tab.notice.sentence.text() == "The device is gone."
    assert not tab.player.playing


def test_the_recipe_of_a_reading_comes_back_into_the_form(rig: Any, speaker: Speaker) -> None:
    work = rig.made("speech", "Once more.", speed=1.25)
    tab = rig.tab("speech")
    tab.form.put_some({"text": "", "speed": 1.0})
    press(rig, Key.Key_R)
    assert tab.form.rows["text"].value() == "Once more." and tab.form.rows["speed"].value() == 1.25
    assert msgspec.to_builtins(work.recipe)["speed"] == 1.25
