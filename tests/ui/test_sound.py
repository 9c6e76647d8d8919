"""Reading, outlining and playing sound. The device is a fake whose time is moved by hand; no sound server is needed."""

from __future__ import annotations

import os

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import math
import socket
import struct
import subprocess
import sys
import wave
from array import array
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PySide6.QtCore import QObject, Signal
from pytestqt.qtbot import QtBot

from studio.engines.audio.wav import WavWriter
from studio.ui import sound
from studio.ui.sound import NoOutput, Peaks, Player, Sound, converted, peaks, read_wav

RATE = 8000


def tone(seconds: float, rate: int = RATE, height: int = 10_000) -> array[int]:
    return array("h", [round(height * math.sin(2 * math.pi * 440 * i / rate)) for i in range(round(seconds * rate))])


def written(path: Path, samples: array[int], channels: int = 1, rate: int = RATE) -> Path:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.tobytes())
    return path


# ---- reading


def test_a_wav_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    samples = tone(0.5)
    got = read_wav(written(tmp_path / "a.wav", samples))
    assert (got.rate, got.channels, got.seconds) == (RATE, 1, 0.5)
    assert got.samples == samples


def test_frames_of_stereo_hold_two_samples(tmp_path: Path) -> None:
    got = read_wav(written(tmp_path / "a.wav", array("h", [1, -1] * 800), channels=2))
    assert (got.channels, got.frames, got.seconds) == (2, 800, 0.1)


@pytest.mark.parametrize("long", [False, True])
def test_what_the_engine_writes_is_read_with_and_without_room_in_its_header(tmp_path: Path, long: bool) -> None:
    samples = tone(0.25)
    with open(tmp_path / "a.wav", "wb") as stream:
        writer = WavWriter(stream, RATE, may_be_long=long)
        writer.write(np.array(samples, np.int16))
        writer.finish()
    assert ((tmp_path / "a.wav").read_bytes()[12:16] == b"JUNK") is long
    assert read_wav(tmp_path / "a.wav").samples == samples


def test_a_file_that_is_still_being_written_is_read_to_its_end(tmp_path: Path) -> None:
    with open(tmp_path / "a.wav", "wb") as stream:
        WavWriter(stream, RATE).write(np.array(tone(0.25), np.int16))
    assert read_wav(tmp_path / "a.wav").seconds == 0.25


def test_rf64_has_its_length_elsewhere(tmp_path: Path) -> None:
    data = tone(0.1).tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    long = struct.pack("<4sIQQQI", b"ds64", 28, 72 + len(data), len(data), len(data) // 2, 0)
    head = struct.pack("<4sI4s", b"RF64", 0xFFFFFFFF, b"WAVE") + long + form + struct.pack("<4sI", b"data", 0xFFFFFFFF)
    (tmp_path / "a.wav").write_bytes(head + data + b"LIST\4\0\0\0abcd")
    assert read_wav(tmp_path / "a.wav").samples == tone(0.1)


def test_a_header_that_promises_too_much_is_not_believed(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", tone(0.1))
    path.write_bytes(path.read_bytes()[:-201])  # also half a sample
    assert read_wav(path).frames == 800 - 101


@pytest.mark.parametrize(
    "junk",
    [b"", b"RIFF", b"no sound in here at all", b"RIFF\xff\xff\xff\xffWAVE", b"RIFF\4\0\0\0WAVEdata\4\0\0\0abcd",
     b"RIFF\4\0\0\0WAVEfmt \2\0\0\0ab", b"RIFF\0\0\0\0WAVE" + b"LIST\0\0\0\0" * 5000],
)  # fmt: skip
def test_garbage_is_refused_with_a_sentence(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(junk)
    with pytest.raises(ValueError, match=r"^This .*\.$"):
        read_wav(tmp_path / "a.wav")


def test_other_samples_than_16_bit_are_refused(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(3)
        out.setframerate(RATE)
        out.writeframes(bytes(300))
    with pytest.raises(ValueError, match="16-bit"):
        read_wav(tmp_path / "a.wav")


# ---- the outline


def test_peaks_are_the_lowest_and_highest_of_each_part() -> None:
    samples = array("h", [0, 16384, -8192, 0, 0, 0, -32768, 32767])
    assert peaks(Sound(RATE, 1, samples), 2) == [(-0.25, 0.5), (-1.0, 32767 / 32768)]
    assert peaks(Sound(RATE, 1, array("h")), 5) == []
    assert len(peaks(Sound(RATE, 1, samples), 50)) == 50


def test_an_outline_built_of_pieces_is_that_of_the_whole() -> None:
    rng = np.random.default_rng(1)
    samples = array("h", rng.integers(-20_000, 20_000, 22_050 * 3).astype(np.int16).tobytes())
    whole, grown = Peaks.of(Sound(22_050, 1, samples)), Peaks()
    for start in range(0, len(samples), 4567):
        grown.add(samples[start : start + 4567], 22_050)
    for width, count in ((0.01, 300), (0.05, 60), (0.37, 9), (3.0, 1)):
        assert list(grown.columns(0, width, count)) == list(whole.columns(0, width, count))
    assert grown.seconds == whole.seconds == 3.0
    assert grown.loudest == pytest.approx(max(abs(s) for s in samples) / 32768)


def test_the_coarse_outline_keeps_the_one_loud_moment() -> None:
    samples = array("h", bytes(2 * RATE * 60))
    samples[RATE * 31 + 5] = 30_000
    got = list(Peaks.of(Sound(RATE, 1, samples)).columns(0, 1.0, 60))
    assert {31} <= {i for i, (_, high) in enumerate(got) if high} <= {30, 31}  # it is near the edge between them
    assert got[31][1] == pytest.approx(30_000 / 32768)


def test_parts_known_by_their_peaks_stand_where_they_belong() -> None:
    grown = Peaks()
    grown.add_pairs([(-0.1, 0.1)] * 7, 1.234)
    grown.add_pairs([(-0.5, 0.5)] * 300, 1.0)
    assert grown.seconds == pytest.approx(2.234)
    levels = [round(high, 2) for _, high in grown.columns(0, 0.01, 230)]
    assert set(levels[:122]) == {0.1} and set(levels[124:223]) == {0.5} and set(levels[225:]) == {0.0}


def test_samples_of_another_rate_do_not_fit_an_outline() -> None:
    made = Peaks()
    made.add(tone(0.1), RATE)
    with pytest.raises(ValueError, match="Hz"):
        made.add(tone(0.1), 2 * RATE)


# ---- for devices that take other kinds


def test_a_device_of_twice_the_rate_gets_what_lies_between() -> None:
    assert list(converted(array("h", [0, 100, -100]), 1, 1000, 1, 2000, 0, 6)) == [0, 50, 100, 0, -100, -100]


def test_mono_is_given_to_both_ears_and_stereo_is_mixed_for_one() -> None:
    assert list(converted(array("h", [1, 2, 3]), 1, RATE, 2, RATE, 1, 2)) == [2, 2, 3, 3]
    assert list(converted(array("h", [10, 20, 30, 40]), 2, RATE, 1, RATE, 0, 2)) == [15, 35]


def test_parts_converted_one_by_one_fit_together() -> None:
    samples = tone(0.2, 22_050)
    total = len(samples) * 48_000 // 22_050
    whole = converted(samples, 1, 22_050, 2, 48_000, 0, total)
    parts = array("h")
    for first in range(0, total, 777):
        parts.extend(converted(samples, 1, 22_050, 2, 48_000, first, min(777, total - first)))
    assert len(whole) == 2 * total and parts == whole
    wave_again = np.array(whole[::2]) / 10_000
    away = np.abs(wave_again - np.sin(2 * np.pi * 440 * np.arange(total) / 48_000))
    assert away[:-3].max() < 0.012  # after the last sample there is nothing to go towards


# ---- playing


class FakeOutput:
    """A device with a buffer of 300 ms that plays when `pass_time` says so. Remembers all that was heard."""

    def __init__(self, rate: int = RATE, channels: int = 1) -> None:
        self.rate, self.channels = rate, channels
        self.buffer = array("h")
        self.sounded = array("h")
        self.count, self.started, self.closed = 0, False, False
        self.volume, self.wrong = -1.0, ""
        self.counts_silence = False

    def start(self) -> None:
        assert not self.started and not self.closed
        self.started, self.count = True, 0

    def stop(self) -> None:
        self.started, self.buffer = False, array("h")

    def free(self) -> int:
        return int(0.3 * self.rate) - len(self.buffer) // self.channels

    def write(self, samples: array[int]) -> int:
        assert self.started
        taken = min(self.free(), len(samples) // self.channels, 1000)
        self.buffer.extend(samples[: taken * self.channels])
        return taken

    def heard(self) -> int:
        return self.count

    def set_volume(self, volume: float) -> None:
        self.volume = volume

    def trouble(self) -> str:
        return self.wrong

    def close(self) -> None:
        self.stop()
        self.closed = True

    def pass_time(self, seconds: float) -> None:
        frames = round(seconds * self.rate)
        there = min(frames, len(self.buffer) // self.channels)
        self.sounded.extend(self.buffer[: there * self.channels])
        self.buffer = self.buffer[there * self.channels :]
        if self.started:
            self.count += frames if self.counts_silence else there


class Stage:
    """A player, its device, and what it told."""

    def __init__(self, player: Player, output: FakeOutput) -> None:
        self.player, self.output = player, output
        self.now = 100.0
        self.told: list[object] = []
        self.positions: list[float] = []
        player.state_changed.connect(self.told.append)
        player.ended.connect(lambda: self.told.append("ended"))
        player.failed.connect(self.told.append)
        player.position_changed.connect(self.positions.append)

    def run(self, seconds: float) -> None:
        """Time passes: the device plays, and the player looks at it. Its own timer is not waited for."""
        for _ in range(round(seconds / 0.025)):
            self.player._tick()
            self.output.pass_time(0.025)
            self.now += 0.025
        self.player._tick()


@pytest.fixture
def stage(qtbot: QtBot) -> Stage:
    output = FakeOutput()
    parent = QObject()
    made: list[Stage] = []

    def make(rate: int) -> FakeOutput:
        assert rate == RATE or output.rate != rate
        output.closed = False
        return output

    player = Player(parent, make, clock=lambda: made[0].now)
    made.append(Stage(player, output))
    made[0].keep = parent  # type: ignore[attr-defined]
    return made[0]


def test_a_sound_is_heard_whole_and_its_end_is_told(stage: Stage) -> None:
    samples = tone(1.0)
    stage.player.set_sound(Sound(RATE, 1, samples))
    stage.player.play()
    stage.run(0.5)
    assert stage.player.position == pytest.approx(0.5)  # and not the 0.8 s that were written
    assert stage.told == [True]
    stage.run(0.6)
    assert stage.told == [True, False, "ended"]
    assert stage.output.sounded == samples
    assert (stage.player.position, stage.player.playing) == (1.0, False)
    assert stage.positions == sorted(stage.positions) and 18 <= len(stage.positions) <= 23


def test_the_players_own_timer_keeps_it_going(stage: Stage, qtbot: QtBot) -> None:
    stage.player.set_sound(Sound(RATE, 1, tone(0.5)))
    stage.player.play()
    qtbot.waitUntil(lambda: bool(stage.output.pass_time(0.05)) or "ended" in stage.told, timeout=20_000)
    qtbot.waitUntil(lambda: stage.output.closed, timeout=20_000)  # and puts the device away a little later


def test_it_begins_with_the_first_piece_and_waits_for_the_next(stage: Stage) -> None:
    one, two = tone(0.5), tone(0.25, height=5000)
    stage.player.play()
    stage.run(0.2)
    assert stage.told == [True] and not stage.output.started
    stage.player.add(RATE, one.tobytes())
    stage.run(2.0)
    assert stage.told == [True] and stage.player.playing  # waits
    assert stage.player.position == stage.player.length == 0.5
    stage.player.add(RATE, two.tobytes())
    stage.run(0.1)
    assert stage.player.position == pytest.approx(0.6)
    stage.player.finished_adding()
    stage.run(0.3)
    assert stage.told == [True, False, "ended"]
    assert stage.output.sounded == one + two


def test_a_device_that_counts_on_while_it_waits_does_not_put_the_position_wrong(stage: Stage) -> None:
    stage.output.counts_silence = True
    stage.player.add(RATE, tone(0.5).tobytes())
    stage.player.play()
    stage.run(3.0)
    assert stage.player.position == 0.5
    stage.player.add(RATE, tone(1.0).tobytes())
    stage.run(0.5)
    assert stage.player.position == pytest.approx(1.0)


def test_pause_keeps_the_place_and_nothing_is_lost_or_heard_twice(stage: Stage) -> None:
    samples = tone(1.0)
    stage.player.set_sound(Sound(RATE, 1, samples))
    stage.player.toggle()
    stage.run(0.4)
    stage.player.toggle()
    at = stage.player.position
    stage.run(1.0)
    assert stage.player.position == at == pytest.approx(0.4)
    assert stage.told == [True, False] and not stage.output.started
    stage.player.toggle()
    stage.run(0.7)
    assert stage.output.sounded == samples
    assert stage.told == [True, False, True, False, "ended"]


def test_seeking_goes_there_at_once_while_playing_and_while_not(stage: Stage) -> None:
    samples = tone(2.0)
    stage.player.set_sound(Sound(RATE, 1, samples))
    stage.player.seek(0.5)
    assert stage.player.position == 0.5 and stage.positions == [0.5] and not stage.player.playing
    stage.player.play()
    stage.run(0.25)
    stage.player.seek(1.5)
    assert stage.player.position == 1.5
    stage.run(0.25)
    assert stage.player.position == pytest.approx(1.75) and stage.told == [True]
    assert stage.output.sounded == samples[4000:6000] + samples[12000:14000]
    stage.player.seek(99)
    assert stage.player.position == 2.0
    stage.player.seek(-1)
    assert stage.player.position == 0.0


def test_playing_at_the_end_begins_anew(stage: Stage) -> None:
    stage.player.set_sound(Sound(RATE, 1, tone(0.3)))
    stage.player.play()
    stage.run(0.4)
    stage.player.play()
    stage.run(0.1)
    assert stage.player.position == pytest.approx(0.1) and stage.told == [True, False, "ended", True]


def test_stop_goes_back_and_clear_forgets(stage: Stage) -> None:
    stage.player.set_sound(Sound(RATE, 1, tone(1.0)))
    stage.player.play()
    stage.run(0.5)
    stage.player.stop()
    assert (stage.player.position, stage.positions[-1], stage.told) == (0.0, 0.0, [True, False])
    stage.player.clear()
    assert stage.player.length == 0
    stage.player.finished_adding()
    stage.player.play()
    assert not stage.player.playing  # there is nothing, and nothing will come


def test_a_sound_of_somebody_else_is_not_changed_by_adding(stage: Stage) -> None:
    samples = tone(0.1)
    stage.player.set_sound(Sound(RATE, 1, samples))
    stage.player.add(2 * RATE, tone(0.2, 2 * RATE).tobytes())
    assert len(samples) == 800 and stage.player.length == pytest.approx(0.3)


def test_a_device_of_another_kind_gets_converted_sound_and_the_time_is_right(stage: Stage) -> None:
    stage.output.rate, stage.output.channels = 48_000, 2
    stage.player.set_sound(Sound(RATE, 1, tone(1.0)))
    stage.player.play()
    stage.run(0.5)
    assert stage.player.position == pytest.approx(0.5, abs=0.001)
    stage.run(0.6)
    assert stage.told[-1] == "ended"
    heard = np.array(stage.output.sounded).reshape(-1, 2)
    assert heard.shape == (48_000, 2) and (heard[:, 0] == heard[:, 1]).all()


def test_the_volume_reaches_the_device(stage: Stage) -> None:
    stage.player.volume = 0.25
    stage.player.set_sound(Sound(RATE, 1, tone(1.0)))
    stage.player.play()
    stage.run(0.1)
    assert stage.output.volume == 0.25
    stage.player.volume = 7
    assert stage.output.volume == stage.player.volume == 1.0


def test_a_device_that_goes_away_stops_it_and_the_place_is_kept(stage: Stage) -> None:
    stage.player.set_sound(Sound(RATE, 1, tone(1.0)))
    stage.player.play()
    stage.run(0.5)
    stage.output.wrong = "The device is gone."
    stage.run(0.1)
    assert stage.told == [True, False, "The device is gone."] and stage.output.closed
    assert stage.player.position == pytest.approx(0.5, abs=0.03)
    stage.output.wrong = ""
    stage.player.play()
    stage.run(0.7)
    assert stage.told[-1] == "ended"


def test_a_device_that_says_nothing_and_plays_nothing_counts_as_gone(stage: Stage) -> None:
    stage.player.set_sound(Sound(RATE, 1, tone(5.0)))
    stage.player.play()
    stage.run(0.5)
    stage.now += sound.STALLED - 0.1
    stage.player._tick()
    assert stage.told == [True]
    stage.now += 0.2
    stage.player._tick()
    assert stage.told == [True, False, "The sound device does not go on playing."]


def test_no_device_is_told_and_looked_for_again(qtbot: QtBot) -> None:
    there: list[FakeOutput] = []

    def make(rate: int) -> FakeOutput:
        if not there:
            raise NoOutput("There is no sound device.")
        return there[0]

    parent = QObject()
    player = Player(parent, make)
    assert player.available() == ""
    player.set_sound(Sound(RATE, 1, tone(1.0)))
    with qtbot.waitSignals([player.failed, player.availability_changed], timeout=20_000):
        player.play()
    assert player.available() == "There is no sound device." and not player.playing
    there.append(FakeOutput())
    with qtbot.waitSignal(player.availability_changed, timeout=20_000):
        player.play()
    assert player.available() == "" and player.playing
    player.stop()


# ---- the system's devices


class FakeDevices(QObject):
    audioOutputsChanged = Signal()
    there = False
    made: list[FakeDevices] = []

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.made.append(self)

    @classmethod
    def defaultAudioOutput(cls) -> SimpleNamespace:
        return SimpleNamespace(isNull=lambda: not cls.there)


def test_devices_that_come_and_go_are_noticed(qtbot: QtBot) -> None:
    alive = True
    parent = QObject()
    player = Player(parent, load=lambda: (SimpleNamespace(QMediaDevices=FakeDevices), lambda: alive))
    assert player.available() == ""  # nobody has looked
    with qtbot.waitSignal(player.availability_changed, timeout=20_000):
        player.check()
    assert player.available() == "There is no sound device."
    FakeDevices.there = True
    with qtbot.waitSignal(player.availability_changed, timeout=20_000):
        FakeDevices.made[-1].audioOutputsChanged.emit()
    assert player.available() == ""
    alive = False  # Qt would abort the process now
    player.add(RATE, tone(0.5).tobytes())
    with qtbot.waitSignal(player.failed, timeout=20_000) as told:
        player.play()
    assert told.args is not None and "sound server has stopped" in told.args[0]
    FakeDevices.there = False


def test_a_library_that_is_missing_is_told_when_it_is_needed(qtbot: QtBot) -> None:
    def load() -> sound.Loaded:
        raise NoOutput("The library is missing.")

    parent = QObject()
    player = Player(parent, load=load)
    player.add(RATE, tone(0.5).tobytes())
    for _ in range(2):  # the second time it looks again
        with qtbot.waitSignal(player.failed, timeout=20_000) as told:
            player.play()
        assert told.args == ["The library is missing."]
        assert player.available() == "The library is missing." and not player.playing


def test_qtmultimedia_is_not_loaded_before_something_is_played() -> None:
    script = (
        "import sys; from PySide6.QtCore import QCoreApplication, QObject; app = QCoreApplication([])\n"
        "from studio.ui.sound import Player; p = Player(app); p.add(8000, bytes(800)); p.seek(0.01); p.available()\n"
        "print([m for m in ('PySide6.QtMultimedia', 'numpy', 'torch', 'PIL', 'soundfile') if m in sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PulseAudio is asked on Linux only")
def test_a_sound_server_that_never_answers_is_given_up_and_one_that_is_not_there_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        sound.ctypes.CDLL("libpulse.so.0")
    except OSError:
        pytest.skip("needs libpulse")
    monkeypatch.setattr(sound, "SERVER_WAIT", 0.1)
    monkeypatch.setenv("PULSE_SERVER", f"unix:{tmp_path / 'silent'}")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen(1)
        with pytest.raises(NoOutput, match="does not answer"):
            sound._Pulse()
    monkeypatch.setenv("PULSE_SERVER", f"unix:{tmp_path / 'nobody'}")
    with pytest.raises(NoOutput, match="no sound server"):
        sound._Pulse()
