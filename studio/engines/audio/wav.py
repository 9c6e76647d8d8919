"""Writing sound as it comes: WAV headers, the outline of a sound and its picture.

Knows samples and files; knows nothing of voices. 16-bit mono only. A file beyond 4 GiB becomes RF64 (EBU Tech 3306).
"""

from __future__ import annotations

import io
import itertools
import math
import struct
from typing import BinaryIO

import numpy as np

_FOUR_GIB = (1 << 32) - 1


class TooLong(Exception):
    """The file would pass 4 GiB and was not opened for that."""


class WavWriter:
    """Writes int16 mono samples to a seekable binary stream. Call `finish` at the end.

    Args:
        rate: samples per second.
        may_be_long: leaves room in the header to become RF64, should the file pass 4 GiB.
    """

    def __init__(self, stream: BinaryIO, rate: int, may_be_long: bool = False) -> None:
        self._stream, self._rate, self._room, self._start = stream, rate, may_be_long, stream.tell()
        self.frames = 0
        stream.write(self._header())

    def _header(self) -> bytes:
        data = self.frames * 2
        fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, self._rate, self._rate * 2, 2, 16)
        riff = 4 + len(fmt) + 8 + data + (36 if self._room else 0)
        if riff > _FOUR_GIB:
            if not self._room:
                raise TooLong
            long = struct.pack("<4sIQQQI", b"ds64", 28, riff, data, self.frames, 0)
            head = struct.pack("<4sI4s", b"RF64", _FOUR_GIB, b"WAVE")
            return head + long + fmt + struct.pack("<4sI", b"data", _FOUR_GIB)
        room = struct.pack("<4sI28x", b"JUNK", 28) if self._room else b""
        return struct.pack("<4sI4s", b"RIFF", riff, b"WAVE") + room + fmt + struct.pack("<4sI", b"data", data)

    def write(self, samples: np.ndarray) -> None:
        """Append samples, int16, shape (n,)."""
        self._stream.write(samples.astype("<i2", copy=False).tobytes())
        self.frames += samples.size

    def silence(self, frames: int) -> None:
        while frames > 0:
            block = min(frames, 1 << 16)
            self.write(np.zeros(block, np.int16))
            frames -= block

    def finish(self) -> None:
        """Write the true lengths into the header.

        Raises:
            TooLong: the file passed 4 GiB and was not opened for that.
        """
        header = self._header()
        end = self._stream.tell()
        self._stream.seek(self._start)
        self._stream.write(header)
        self._stream.seek(end)


class Outline:
    """Peaks and loudness of a sound that passes by, in bounded memory however long it is."""

    LIMIT = 1 << 14

    def __init__(self, per_block: int = 256) -> None:
        self.frames, self.peak, self._squares = 0, 0, 0.0
        self._per_block, self._peaks, self._rest = per_block, np.empty(0, np.int32), np.empty(0, np.int32)

    def add(self, samples: np.ndarray) -> None:
        """Take in int16 samples, shape (n,)."""
        wide = samples.astype(np.int32)
        self.frames += wide.size
        self._squares += float(np.square(wide, dtype=np.float64).sum())
        wide = np.abs(wide)
        self.peak = max(self.peak, int(wide.max(initial=0)))
        wide = np.concatenate((self._rest, wide))
        whole = wide.size // self._per_block * self._per_block
        self._peaks = np.concatenate((self._peaks, wide[:whole].reshape(-1, self._per_block).max(axis=1)))
        self._rest = wide[whole:]
        while self._peaks.size > self.LIMIT:  # halve the resolution
            if self._peaks.size % 2:
                self._rest = np.concatenate((np.full(self._per_block, self._peaks[-1]), self._rest))
                self._peaks = self._peaks[:-1]
            self._peaks = self._peaks.reshape(-1, 2).max(axis=1)
            self._per_block *= 2

    @property
    def rms_dbfs(self) -> float:
        """Loudness in dB below a full-scale square wave; −120 for silence."""
        mean = self._squares / max(1, self.frames) / 32768.0**2
        return round(max(-120.0, 10 * math.log10(mean)), 2) if mean > 0 else -120.0

    def columns(self, count: int) -> np.ndarray:
        """The outline in `count` columns: the highest peak in each, 0…1, shape (count,)."""
        peaks = np.concatenate((self._peaks, [self._rest.max(initial=0)])) if self._rest.size else self._peaks
        if not peaks.size:
            return np.zeros(count)
        edges = np.linspace(0, peaks.size, count + 1)
        spans = [peaks[int(a) : max(int(a) + 1, math.ceil(b))] for a, b in itertools.pairwise(edges)]
        return np.array([s.max(initial=0) for s in spans]) / 32768.0


ACCENT = (110, 140, 185, 255)  # reads on light and on dark


def picture(outline: Outline, width: int = 256, height: int = 96) -> bytes:
    """The outline as a WebP picture on a transparent ground, `width` × `height` px."""
    from PIL import Image, ImageDraw  # here: needed once, after the last sentence, not before the first sound

    image = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    step = 4
    top = max(1e-4, outline.peak / 32768.0)
    for column, level in enumerate(outline.columns(width // step)):
        half = max(1.0, level / top * (height / 2 - 4))
        x = column * step
        draw.rounded_rectangle((x, height / 2 - half, x + step - 2, height / 2 + half), radius=1, fill=ACCENT)
    stream = io.BytesIO()
    image.save(stream, "WEBP", lossless=True)
    return stream.getvalue()
