"""Sound for the window: reading WAV files, their outline, and playing what may still be coming in.

Knows samples and the output device; knows nothing of works, sentences or widgets. QtMultimedia is loaded when the first
sound is played and not before: it brings FFmpeg along, and may be missing altogether.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import struct
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from PySide6.QtCore import QObject, Qt, QTimer, Signal

from studio.ui.strings import tr

_MOST_BYTES = 1 << 30  # of sound in one file; at 22,050 Hz 6.7 hours
_MOST_CHUNKS = 1000  # before the sound in a file
_LONG = 0xFFFFFFFF  # a 32-bit length that says "see ds64"

TICK = 25  # ms between two looks at the device
TICKS_PER_POSITION = 2
LOOKS_PER_LIST = 20  # the list of devices costs more than the rest of a look
BUFFER = 0.3  # s; how long the window may be busy without a gap in the sound
LINGER = 500  # ms; some devices call heard what they still hold, so they get time for it
STALLED = 4.0  # s without progress after which a device is gone (PulseAudio does not tell)
SERVER_WAIT = 3.0  # s; Qt itself would wait 30 for a sound server that does not answer


# ---- reading


@dataclass(frozen=True, eq=False)
class Sound:
    """A whole sound. `samples` are interleaved where there is more than one channel."""

    rate: int  # frames per second
    channels: int
    samples: array[int]

    @property
    def frames(self) -> int:
        return len(self.samples) // self.channels

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


def read_wav(path: str | Path) -> Sound:
    """Read a WAV or RF64 file of 16-bit PCM into memory.

    What is in the file counts, not what its header says: one that was never finished is read to its end.

    Raises:
        ValueError: it is no such file; the text is a sentence for the user.
        OSError: it cannot be read.
    """
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        return _read(stream, size)


def _read(stream: BinaryIO, size: int) -> Sound:
    head = stream.read(12)
    if len(head) < 12 or head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        raise ValueError(tr("This is not a WAV file."))
    told = struct.unpack("<I", head[4:8])[0] + 8  # how long the file says it is
    form: tuple[int, int, int, int] | None = None
    long_data = 0
    for _ in range(_MOST_CHUNKS):
        mark = stream.read(8)
        if len(mark) < 8:
            break
        kind, length = mark[:4], struct.unpack("<I", mark[4:])[0]
        here = stream.tell()
        if kind == b"ds64":
            body = stream.read(min(length, 28))
            if len(body) >= 16:
                told, long_data = struct.unpack("<QQ", body[:16])
                told += 8
        elif kind == b"fmt ":
            body = stream.read(min(length, 40))
            if len(body) < 16:
                break
            tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", body[:16])
            if tag == 0xFFFE and len(body) >= 26:  # extensible: the true kind comes later
                tag = struct.unpack("<H", body[24:26])[0]
            form = tag, channels, rate, bits
        elif kind == b"data":
            if form is None:
                break
            rest = max(0, size - here)
            if length == _LONG and long_data:
                length = long_data
            unfinished = not length and told < size  # its header was to be written at the end
            return _samples(stream, form, rest if unfinished else min(length, rest))
        stream.seek(here + length + length % 2)
    raise ValueError(tr("This WAV file is damaged: there is no sound in it."))


def _samples(stream: BinaryIO, form: tuple[int, int, int, int], length: int) -> Sound:
    tag, channels, rate, bits = form
    if tag != 1 or bits != 16 or not 1 <= channels <= 8 or not 1000 <= rate <= 768_000:
        raise ValueError(tr("Only WAV files of 16-bit PCM can be shown and played."))
    if length > _MOST_BYTES:
        raise ValueError(tr("This sound is too long to be shown; it can still be exported."))
    frames = length // (2 * channels)
    samples = array("h", bytes(2)) * (frames * channels)
    got = 0
    with memoryview(samples) as view, view.cast("B") as raw:
        while got < len(raw) and (more := stream.readinto(raw[got:])):  # type: ignore[attr-defined]
            got += more
    if got < 2 * len(samples):  # cut while it was read
        del samples[got // (2 * channels) * channels :]
    if sys.byteorder == "big":
        samples.byteswap()
    return Sound(rate, channels, samples)


def from_little_endian(pcm: bytes) -> array[int]:
    """Samples from the bytes of a WAV file; half a sample at the end is dropped."""
    made = array("h")
    made.frombytes(pcm[: len(pcm) // 2 * 2])
    if sys.byteorder == "big":
        made.byteswap()
    return made


# ---- the outline

FINE = 100  # buckets per second of an outline that can be zoomed into
_STEP = 8  # buckets of one level that make one of the next
_LOOKED_AT = 1 << 24  # samples; of longer sounds only every second, third… is looked at, which no eye can tell


def peaks(sound: Sound, buckets: int) -> list[tuple[float, float]]:
    """The lowest and the highest sample, −1…1, of each of so many equal parts of a sound."""
    samples, channels, frames = sound.samples, sound.channels, sound.frames
    if not frames or buckets < 1:
        return []
    stride = _stride(sound)
    made = []
    for index in range(buckets):
        first = index * frames // buckets
        last = max(first + 1, (index + 1) * frames // buckets)
        part = samples[first * channels : last * channels : stride]
        made.append((min(part) / 32768, max(part) / 32768))
    return made


def _stride(sound: Sound) -> int:
    stride = math.ceil(len(sound.samples) / _LOOKED_AT) or 1
    return stride | 1 if sound.channels > 1 else stride  # an even one would see every second channel only


class Peaks:
    """The outline of a sound in even buckets, with coarser copies, so that any part of it is drawn quickly.

    Grows at its end. 3 hours take 5 MB.

    Args:
        bucket: seconds that each pair of peaks stands for.
    """

    def __init__(self, bucket: float = 1 / FINE) -> None:
        self.bucket = bucket
        self.seconds = 0.0
        self.loudest = 0.0  # 0…1
        self._levels: list[tuple[array[int], array[int]]] = [(array("h"), array("h"))]  # lows and highs
        self._rate, self._taken = 0, 0  # frames taken in, where samples come in

    @classmethod
    def of(cls, sound: Sound) -> Peaks:
        made = cls()
        made.add(sound.samples, sound.rate, sound.channels, _stride(sound))
        return made

    @classmethod
    def of_pairs(cls, pairs: Sequence[tuple[float, float]], seconds: float) -> Peaks:
        """From what `peaks` gave for a sound of this length."""
        made = cls(max(1e-6, seconds) / max(1, len(pairs)))
        made.add_pairs(pairs, seconds)
        return made

    def add(self, samples: array[int], rate: int, channels: int = 1, stride: int = 1) -> None:
        """Append samples. All must have one rate.

        Raises:
            ValueError: the rate is another than before.
        """
        if self._rate not in (0, rate):
            raise ValueError(f"{rate} Hz after {self._rate} Hz")
        self._rate = rate
        before, frames = len(self._levels[0][0]), len(samples) // channels
        per, taken, at = self.bucket * rate, self._taken, 0
        while at < frames:
            index = int((taken + at) / per + 1e-9)
            until = min(frames, max(at + 1, math.ceil((index + 1) * per - 1e-9) - taken))
            part = samples[at * channels : until * channels : stride]
            self._put(index, min(part), max(part))
            at = until
        self._taken += frames
        self.seconds = self._taken / rate
        self._grow(max(0, before - 1))

    def add_pairs(self, pairs: Sequence[tuple[float, float]], seconds: float) -> None:
        """Append a part of this length, known by its own even peaks."""
        lows, _ = self._levels[0]
        before, start = len(lows), self.seconds
        self.seconds += max(0.0, seconds)
        if pairs and seconds > 0:
            # each bucket that the part reaches into takes the peaks that reach into it
            first, last = int(start / self.bucket + 1e-6), math.ceil(self.seconds / self.bucket - 1e-6)
            scale = len(pairs) * self.bucket / seconds
            offset = start / self.bucket
            for index in range(first, last):
                a = max(0, min(len(pairs) - 1, int((index - offset) * scale + 1e-6)))
                b = max(a + 1, min(len(pairs), math.ceil((index + 1 - offset) * scale - 1e-6)))
                part = pairs[a:b]
                self._put(index, _whole(min(p[0] for p in part)), _whole(max(p[1] for p in part)))
        self._grow(max(0, before - 1))

    def _put(self, index: int, low: int, high: int) -> None:
        lows, highs = self._levels[0]
        while len(lows) < index:
            lows.append(0)
            highs.append(0)
        if index == len(lows):
            lows.append(low)
            highs.append(high)
        else:
            lows[index], highs[index] = min(lows[index], low), max(highs[index], high)

    def _grow(self, changed: int) -> None:
        """Bring the coarser levels up to date from this bucket on."""
        lows, highs = self._levels[0]
        if len(lows) > changed:
            self.loudest = max(self.loudest, -min(lows[changed:]) / 32768, max(highs[changed:]) / 32768)
        depth = 0
        while len(self._levels[depth][0]) > _STEP:
            lows, highs = self._levels[depth]
            depth += 1
            if depth == len(self._levels):
                self._levels.append((array("h"), array("h")))
                changed = 0
            changed //= _STEP
            above_lows, above_highs = self._levels[depth]
            del above_lows[changed:], above_highs[changed:]
            for at in range(changed * _STEP, len(lows), _STEP):
                above_lows.append(min(lows[at : at + _STEP]))
                above_highs.append(max(highs[at : at + _STEP]))

    def columns(self, start: float, width: float, count: int) -> Iterator[tuple[float, float]]:
        """The peaks of `count` spans, each `width` seconds long, from `start` on; 0 where there is no sound."""
        level = 0  # coarse, but a peak is drawn at most a quarter of a span beside its place
        while level + 1 < len(self._levels) and self.bucket * _STEP ** (level + 1) <= width / 4:
            level += 1
        lows, highs = self._levels[level]
        bucket, known = self.bucket * _STEP**level, len(lows)
        for index in range(count):
            a = max(0, math.floor((start + index * width) / bucket + 1e-6))
            b = min(known, max(a + 1, math.ceil((start + (index + 1) * width) / bucket - 1e-6)))
            if a < b and start + (index + 1) * width > 0:
                yield min(lows[a:b]) / 32768, max(highs[a:b]) / 32768
            else:
                yield 0.0, 0.0


def _whole(level: float) -> int:
    return max(-32768, min(32767, round(level * 32768)))


# ---- what a device is given


def converted(
    samples: array[int], channels: int, rate: int, to_channels: int, to_rate: int, first: int, count: int
) -> array[int]:
    """Frames `first` to `first + count` of a sound as a device of another rate or number of channels takes them.

    Linear between samples; counted from the start of the sound, so that parts converted one by one fit together.
    Channels are mixed down to one and given to all where their number differs.
    """
    if rate == to_rate and channels == to_channels:
        return samples[first * channels : (first + count) * channels]
    begin = first * rate // to_rate
    end = min(len(samples) // channels, (first + count) * rate // to_rate + 2)
    lanes = [samples[begin * channels + lane : end * channels : channels] for lane in range(channels)]
    if channels != to_channels:
        mixed = lanes[0] if channels == 1 else array("h", [sum(f) // channels for f in zip(*lanes, strict=True)])
        lanes = [mixed]
    if rate != to_rate:
        lanes = [_resampled(lane, rate, to_rate, first, count, begin) for lane in lanes]
    if to_channels == 1:
        return lanes[0][:count]
    made = array("h", bytes(2)) * (min(count, len(lanes[0])) * to_channels)
    for channel in range(to_channels):
        made[channel::to_channels] = lanes[channel % len(lanes)][:count]
    return made


def _resampled(lane: array[int], rate: int, to_rate: int, first: int, count: int, begin: int) -> array[int]:
    made, last = array("h"), len(lane) - 1
    for n in range(first * rate - begin * to_rate, (first + count) * rate - begin * to_rate, rate):
        i, part = divmod(n, to_rate)
        if i > last:
            break
        here = lane[i]
        made.append(here + (lane[min(i + 1, last)] - here) * part // to_rate)
    return made


# ---- devices


class NoOutput(Exception):
    """Sound cannot be played. The text is a sentence for the user."""


class Output(Protocol):
    """An opened device that takes 16-bit frames. Starts stopped."""

    rate: int  # Hz
    channels: int

    def start(self) -> None:
        """Take frames from now on; `heard` begins at 0. May raise NoOutput."""

    def stop(self) -> None:
        """Fall silent at once and forget what was not heard yet."""

    def free(self) -> int:
        """Frames that can be written now."""

    def write(self, samples: array[int]) -> int:
        """Returns the frames taken."""

    def heard(self) -> int:
        """Frames played since `start`."""

    def set_volume(self, volume: float) -> None:
        """0…1, as a factor."""

    def trouble(self) -> str:
        """Why it cannot go on, as a sentence; "" while it can."""

    def close(self) -> None: ...


Loaded = tuple[Any, Callable[[], bool]]  # QtMultimedia, and whether the sound server is still the one it began with


def _load() -> Loaded:
    """QtMultimedia, if sound may be had at all. Slow, and for any thread.

    Qt is not asked before a sound server has answered: it would wait 30 s for one that hangs, and never look again for
    one that is not there yet.

    Raises:
        NoOutput: there is no sound server, or QtMultimedia cannot be loaded.
    """
    alive = _alive_always
    if sys.platform.startswith("linux") and not _has_pipewire():
        with contextlib.suppress(OSError):  # no libpulse: Qt says so itself
            alive = _Pulse().alive
    try:
        from PySide6 import QtMultimedia
    except ImportError as error:
        if "libpulse" in str(error):
            raise NoOutput(tr("Sound cannot be played: the library libpulse is missing.")) from error
        raise NoOutput(tr("Sound cannot be played: QtMultimedia cannot be loaded.")) from error
    return QtMultimedia, alive


def _alive_always() -> bool:
    return True


def _has_pipewire() -> bool:
    """Whether Qt will talk to PipeWire itself."""
    if not (Path(os.environ.get("XDG_RUNTIME_DIR", "/nowhere")) / "pipewire-0").exists():
        return False
    try:
        ctypes.CDLL("libpipewire-0.3.so.0")
    except OSError:
        return False
    return True


class _Pulse:
    """A connection of our own to PulseAudio, only to notice when the server dies.

    Qt does not notice, and when it opens a device after that, libpulse aborts the process (seen with Qt 6.11.3).

    Raises:
        OSError: there is no libpulse.
        NoOutput: there is no server, or it does not answer.
    """

    _READY = 4  # states after it: failed, terminated
    _NO_AUTOSPAWN = 1

    def __init__(self) -> None:
        pulse = self._pulse = ctypes.CDLL("libpulse.so.0")
        pointer, number = ctypes.c_void_p, ctypes.c_int
        for name, result, arguments in (
            ("pa_mainloop_new", pointer, []),
            ("pa_mainloop_get_api", pointer, [pointer]),
            ("pa_mainloop_iterate", number, [pointer, number, pointer]),
            ("pa_mainloop_free", None, [pointer]),
            ("pa_context_new", pointer, [pointer, ctypes.c_char_p]),
            ("pa_context_connect", number, [pointer, ctypes.c_char_p, number, pointer]),
            ("pa_context_get_state", number, [pointer]),
            ("pa_context_disconnect", None, [pointer]),
            ("pa_context_unref", None, [pointer]),
        ):
            function = getattr(pulse, name)
            function.restype, function.argtypes = result, arguments
        self._loop = pulse.pa_mainloop_new()
        self._context = pulse.pa_context_new(pulse.pa_mainloop_get_api(self._loop), b"studio")
        refused = pulse.pa_context_connect(self._context, None, self._NO_AUTOSPAWN, None) < 0
        until = time.monotonic() + SERVER_WAIT
        while not refused and (state := self._state()) < self._READY and time.monotonic() < until:
            time.sleep(0.005)
        if not refused and state == self._READY:
            return  # and stays connected for the life of the process
        pulse.pa_context_disconnect(self._context)
        pulse.pa_context_unref(self._context)
        pulse.pa_mainloop_free(self._loop)
        if refused or state > self._READY:
            raise NoOutput(tr("Sound cannot be played: no sound server is running."))
        raise NoOutput(tr("Sound cannot be played: the sound server does not answer."))

    def _state(self) -> int:
        while self._pulse.pa_mainloop_iterate(self._loop, 0, None) > 0:
            pass
        return int(self._pulse.pa_context_get_state(self._context))

    def alive(self) -> bool:
        return self._state() == self._READY


class _Loading(threading.Thread):
    """Loads in the background, where neither a cold disk nor a silent server holds the window up."""

    def __init__(self, load: Callable[[], Loaded]) -> None:
        super().__init__(name="sound", daemon=True)
        self._load = load
        self.loaded: Loaded | None = None
        self.reason = tr("Sound cannot be played: QtMultimedia cannot be loaded.")  # unless it is loaded
        self.ready = False

    def run(self) -> None:
        try:
            self.loaded = self._load()
        except NoOutput as error:
            self.reason = str(error)
        finally:
            self.ready = True  # last: what is read after it is whole


class _System(QObject):
    """The output devices of this machine."""

    changed = Signal()  # devices came or went

    def __init__(self, parent: QObject, load: Callable[[], Loaded]) -> None:
        super().__init__(parent)
        self._load = load
        self._loading: _Loading | None = None
        self._module: Any = None
        self._alive: Callable[[], bool] = _alive_always
        self._devices: Any = None
        self._why = ""

    def looked(self) -> bool:
        """Begin to look, or go on; True when it is known what there is."""
        if self._module is not None:
            return True
        if self._loading is None:
            self._loading = _Loading(self._load)
            self._loading.start()
        return self._loading.ready

    def reason(self) -> str:
        """Why nothing can be played; "" when something can. Asks the system anew; ask only when `looked`."""
        loading = self._loading
        if self._module is None:
            if loading is not None:
                self._loading = None  # what comes up later is found when looked for again
                self._why = loading.reason
            if loading is None or loading.loaded is None:
                return self._why
            self._module, self._alive = loading.loaded
            self._devices = self._module.QMediaDevices(self)
            self._devices.audioOutputsChanged.connect(self.changed)
        if not self._alive():
            return _server_died()
        if self._module.QMediaDevices.defaultAudioOutput().isNull():
            return tr("There is no sound device.")
        return ""

    def open(self, rate: int) -> Output:
        """Raises NoOutput."""
        if reason := self.reason():
            raise NoOutput(reason)
        return _Sink(self._module, self, rate, self._alive)


def _server_died() -> str:
    return tr("The sound server has stopped. Start the program anew to hear sound again.")


class _Sink:
    """An `Output` on a QAudioSink."""

    def __init__(self, qt: Any, parent: QObject, rate: int, alive: Callable[[], bool]) -> None:
        self._qt, self._alive = qt, alive
        self._device = qt.QMediaDevices.defaultAudioOutput()
        form, kinds = self._device.preferredFormat(), qt.QAudioFormat.SampleFormat
        liked = form.sampleRate(), max(1, form.channelCount()), form.sampleFormat()
        for try_rate, channels, kind in (
            (rate, 1, kinds.Int16), (rate, 2, kinds.Int16), (liked[0], liked[1], kinds.Int16), liked,
        ):  # fmt: skip
            form.setSampleRate(try_rate)
            form.setChannelCount(channels)
            form.setSampleFormat(kind)
            if self._device.isFormatSupported(form):
                break
        self.rate, self.channels = form.sampleRate(), form.channelCount()
        self._kind = form.sampleFormat()
        self._frame_bytes: int = form.bytesPerFrame()
        if self._kind not in (kinds.Int16, kinds.Float, kinds.Int32) or self.rate < 1:
            raise NoOutput(tr("The sound device takes no kind of sound that can be made here."))
        self._sink = qt.QAudioSink(self._device, form, parent)
        self._sink.setBufferSize(int(BUFFER * self.rate) * self._frame_bytes)
        self._stream: Any = None
        self._looks, self._gone = 0, False

    def start(self) -> None:
        if not self._alive():
            raise NoOutput(_server_died())
        self._stream = self._sink.start()

    def stop(self) -> None:
        self._stream = None
        self._sink.reset()

    def free(self) -> int:
        return int(self._sink.bytesFree()) // self._frame_bytes if self._stream is not None else 0

    def write(self, samples: array[int]) -> int:
        kinds = self._qt.QAudioFormat.SampleFormat
        if self._kind == kinds.Float:
            raw = array("f", [s / 32768 for s in samples]).tobytes()
        elif self._kind == kinds.Int32:
            raw = array("i", [s << 16 for s in samples]).tobytes()
        else:
            raw = samples.tobytes()
        return max(0, int(self._stream.write(raw))) // self._frame_bytes

    def heard(self) -> int:
        return int(self._sink.processedUSecs() * self.rate / 1e6 + 0.5)

    def set_volume(self, volume: float) -> None:
        self._sink.setVolume(volume)

    def trouble(self) -> str:
        if not self._alive():
            return _server_died()
        errors = self._qt.QtAudio.Error
        broken = self._stream is None or self._sink.error() in (errors.OpenError, errors.IOError, errors.FatalError)
        self._looks += 1
        if self._looks % LOOKS_PER_LIST == 0:
            self._gone = all(d.id() != self._device.id() for d in self._qt.QMediaDevices.audioOutputs())
        if not broken and not self._gone:
            return ""
        return tr("The sound device is gone or does not work.")

    def close(self) -> None:
        self._stream = None
        self._sink.reset()
        self._sink.deleteLater()


class Player(QObject):
    """Plays one sound, whole or piece by piece while the rest is still being made.

    At the end of what is known it waits while more is to come, and `playing` stays True.

    Args:
        make_output: opens a device for a rate in Hz, or raises NoOutput; the system's default device if None.
        clock: seconds that never go back.
        load: loads QtMultimedia.

    Signals:
        position_changed(float): seconds; about 20 a second while playing, and after each jump.
        state_changed(bool): `playing` has changed.
        ended(): the end was heard; told after `state_changed(False)`. The position stays there, and `play` starts anew.
        failed(str): it stopped, or could not start; a sentence.
        availability_changed(): `available()` may have changed.
    """

    position_changed = Signal(float)
    state_changed = Signal(bool)
    ended = Signal()
    failed = Signal(str)
    availability_changed = Signal()

    def __init__(
        self, parent: QObject | None = None, make_output: Callable[[int], Output] | None = None,
        clock: Callable[[], float] = time.monotonic, load: Callable[[], Loaded] = _load,
    ) -> None:  # fmt: skip
        super().__init__(parent)
        self._system = _System(self, load) if make_output is None else None
        self._make_output = make_output or self._open_system
        if self._system is not None:
            self._system.changed.connect(self._devices_changed)
        self._clock = clock
        self._reason = ""
        self._checking = False
        self._volume = 1.0
        # the sound
        self._samples = array("h")
        self._own = True  # whether `_samples` may be appended to
        self._rate, self._channels = 0, 1
        self._complete = False
        # the playing
        self._playing = False
        self._at = 0.0  # s; where it goes on, while the device is stopped
        self._output: Output | None = None
        self._output_for = 0  # the rate that it was asked for
        self._running = False  # the device was started
        self._first = self._next = 0  # device frames of the whole sound: of this run's start, and to be written next
        self._heard_before = 0  # what the device counted before this run
        self._moved = (0, 0.0)  # heard, and when that last changed
        self._ticks = 0
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(TICK)
        self._timer.timeout.connect(self._tick)
        self._lingering = QTimer(self)
        self._lingering.setSingleShot(True)
        self._lingering.setInterval(LINGER)
        self._lingering.timeout.connect(self._put_away)

    # -- what there is to play

    def clear(self) -> None:
        """Stop, and forget the sound."""
        self.stop()
        self._samples, self._own = array("h"), True
        self._rate, self._channels, self._complete = 0, 1, False

    def add(self, rate: int, pcm: bytes) -> None:
        """Append mono samples, 16-bit little-endian. Another rate than the first piece's is converted to it."""
        more = from_little_endian(pcm)
        if not self._rate:
            self._rate = rate
        if (rate, 1) != (self._rate, self._channels):
            more = converted(more, 1, rate, self._channels, self._rate, 0, len(more) * self._rate // rate)
        if not self._own:
            self._samples, self._own = self._samples[:], True
        self._samples.extend(more)

    def finished_adding(self) -> None:
        """No more is to come."""
        self._complete = True

    def set_sound(self, sound: Sound) -> None:
        """Replace the sound by a whole one. It is not copied."""
        self.clear()
        self._samples, self._own = sound.samples, False
        self._rate, self._channels, self._complete = sound.rate, sound.channels, True

    @property
    def length(self) -> float:
        """Seconds known so far."""
        return len(self._samples) / self._channels / self._rate if self._rate else 0.0

    # -- playing

    @property
    def playing(self) -> bool:
        return self._playing

    @property
    def position(self) -> float:
        """Seconds, by what the device has played."""
        if not self._running or self._output is None:
            return self._at
        return min(self.length, (self._first + self._heard()) / self._output.rate)

    @property
    def volume(self) -> float:
        """0…1, as a factor."""
        return self._volume

    @volume.setter
    def volume(self, volume: float) -> None:
        self._volume = max(0.0, min(1.0, volume))
        if self._output is not None:
            self._output.set_volume(self._volume)

    def play(self) -> None:
        """Go on, or start anew at the end. Before the first piece it waits for that."""
        if self._playing or (self._complete and not self._samples):
            return
        self._halt(0.0 if self._complete and self._at >= self.length - 1e-3 else self._at)
        self._playing = True
        self._timer.start()
        self.state_changed.emit(True)
        self._tick()

    def pause(self) -> None:
        if self._playing:
            self._halt(self.position)
            self._set_idle()
            self._tell_position()

    def toggle(self) -> None:
        if self._playing:
            self.pause()
        else:
            self.play()

    def stop(self) -> None:
        """Pause and go back to the start."""
        moved = self.position > 0
        self._halt(0.0)
        self._set_idle()
        if moved:
            self._tell_position()

    def seek(self, seconds: float) -> None:
        """Go to a place, at most to the end of what is known. Whether it plays does not change."""
        self._halt(max(0.0, min(seconds, self.length)))
        self._tell_position()

    # -- whether it can

    def available(self) -> str:
        """Why nothing can be played, as a sentence; "" if something can, or nobody has tried or checked yet."""
        return self._reason

    def check(self) -> None:
        """Look for a device, in the background; `availability_changed` tells that the answer is there."""
        if self._system is not None:
            self._checking = True
            self._timer.start()

    def _devices_changed(self) -> None:
        if self._system is not None:
            self._learn(self._system.reason())

    def _learn(self, reason: str) -> None:
        self._reason = reason
        self.availability_changed.emit()

    def _open_system(self, rate: int) -> Output:
        assert self._system is not None
        return self._system.open(rate)

    # -- the work

    def _tick(self) -> None:
        if self._system is not None and (self._checking or (self._playing and self._output is None)):
            if not self._system.looked():
                return
            if self._checking:
                self._checking = False
                self._learn(self._system.reason())
        if not self._playing:
            self._timer.stop()
            return
        if not self._rate:
            return  # nothing yet
        output = self._ready_output()
        if output is None:
            return
        total = len(self._samples) // self._channels * output.rate // self._rate
        self._fill(output, total)
        if trouble := output.trouble():
            self._fail(trouble)
            self._devices_changed()
            return
        heard = self._heard()
        unheard = self._next - self._first - heard
        if self._next >= total and unheard <= 0:
            if self._complete:
                self._end()
                return
        elif self._is_stalled(heard):
            self._fail(tr("The sound device does not go on playing."))
            return
        self._ticks += 1
        if self._ticks % TICKS_PER_POSITION == 0 and unheard > 0:
            self._tell_position()

    def _ready_output(self) -> Output | None:
        """The device, opened for this sound; None if that failed, which has been told."""
        if self._output is not None and self._output_for != self._rate:
            self._put_away()
        try:
            if self._output is None:
                self._output = self._make_output(self._rate)
                self._output_for = self._rate
                self._output.set_volume(self._volume)
            if not self._running:
                self._output.start()
        except NoOutput as error:
            self._learn(str(error))
            self._fail(str(error))
            return None
        if not self._running:
            if self._reason:
                self._learn("")
            self._running = True
            self._first = self._next = round(self._at * self._output.rate)
            self._heard_before = 0
            self._moved = (0, self._clock())
        return self._output

    def _fill(self, output: Output, total: int) -> None:
        if self._next < total and self._heard() >= self._next - self._first:
            # it had run dry: some devices go on counting while they wait
            self._first, self._heard_before = self._next, output.heard()
            self._moved = (0, self._clock())
        while (room := min(output.free(), total - self._next)) > 0:
            part = converted(
                self._samples, self._channels, self._rate, output.channels, output.rate, self._next, room
            )  # fmt: skip
            taken = output.write(part)
            if not taken:
                break
            self._next += taken

    def _heard(self) -> int:
        """Device frames of this run that were heard."""
        if self._output is None or not self._running:
            return 0
        return max(0, min(self._next - self._first, self._output.heard() - self._heard_before))

    def _is_stalled(self, heard: int) -> bool:
        if heard != self._moved[0]:
            self._moved = (heard, self._clock())
        return self._clock() - self._moved[1] > STALLED

    def _halt(self, at: float) -> None:
        """Silence the device; it goes on from there."""
        if self._output is not None and (self._running or self._lingering.isActive()):
            self._output.stop()
        self._lingering.stop()
        self._running, self._at = False, at

    def _end(self) -> None:
        self._at, self._running = self.length, False
        self._lingering.start()
        self._set_idle()
        self._tell_position()
        self.ended.emit()

    def _fail(self, sentence: str) -> None:
        at = self.position
        self._put_away()
        self._at = at
        self._set_idle()
        self.failed.emit(sentence)

    def _put_away(self) -> None:
        self._lingering.stop()
        if self._output is not None:
            at = self.position
            self._output.close()
            self._output, self._running, self._at = None, False, at

    def _set_idle(self) -> None:
        if self._playing:
            self._playing = False
            if not self._checking:
                self._timer.stop()
            self.state_changed.emit(False)

    def _tell_position(self) -> None:
        self.position_changed.emit(self.position)
