"""WAV headers, outlines and pictures of sounds."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
import soundfile
from PIL import Image

from studio.engines.audio.wav import Outline, TooLong, WavWriter, picture

SAMPLES = np.arange(-500, 500, dtype=np.int16)


@pytest.mark.parametrize("room", [False, True])
def test_a_file_reads_back_as_it_was_written(room):
    stream = io.BytesIO()
    writer = WavWriter(stream, 22_050, may_be_long=room)
    writer.write(SAMPLES)
    writer.silence(70_000)
    writer.finish()
    stream.seek(0)
    with wave.open(stream) as file:
        assert (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (22_050, 2, 1)
        assert file.readframes(10**6) == SAMPLES.tobytes() + bytes(140_000)


class Hollow(io.RawIOBase):
    """A stream that takes any amount and keeps the first kilobyte."""

    def __init__(self):
        self.kept, self.at = bytearray(1024), 0

    def write(self, data):
        if self.at < len(self.kept):
            self.kept[self.at : self.at + len(data)] = bytes(data)[: len(self.kept) - self.at]
        self.at += len(data)
        return len(data)

    def seek(self, at, whence=0):
        self.at = at
        return at

    def tell(self):
        return self.at


def test_beyond_four_gigabytes_the_header_becomes_rf64(tmp_path):
    stream = Hollow()
    writer = WavWriter(stream, 22_050, may_be_long=True)
    writer.frames = 3 << 30  # as if written
    writer.finish()
    path = tmp_path / "long.wav"
    with open(path, "wb") as file:
        file.write(stream.kept[:80])
        file.truncate(80 + (6 << 30))  # sparse
    with soundfile.SoundFile(path) as sound:
        assert (sound.format, sound.frames, sound.samplerate) == ("RF64", 3 << 30, 22_050)


def test_a_file_not_opened_for_that_length_says_so():
    writer = WavWriter(Hollow(), 22_050)
    writer.frames = 3 << 30
    with pytest.raises(TooLong):
        writer.finish()


def test_the_outline_of_a_long_sound_stays_small_and_true():
    outline = Outline(per_block=4)
    loud = np.zeros(1001, np.int16)
    loud[500] = -20_000
    quiet = np.full(1001, 100, np.int16)
    for n in range(400):
        outline.add(loud if n >= 200 else quiet)
    columns = outline.columns(10)
    assert outline._peaks.size <= Outline.LIMIT
    assert outline.frames == 400 * 1001
    assert outline.peak == 20_000
    assert np.allclose(columns[:5], 100 / 32768, atol=1e-6) or columns[4] > 0.5
    assert np.allclose(columns[:4], 100 / 32768)
    assert np.allclose(columns[5:], 20_000 / 32768)


def test_loudness_of_a_half_scale_square_wave_is_minus_six():
    outline = Outline()
    outline.add(np.tile(np.array([16_384, -16_384], np.int16), 5000))
    assert outline.rms_dbfs == pytest.approx(-6.02, abs=0.01)
    assert Outline().rms_dbfs == -120.0


def test_the_picture_is_drawn_on_a_transparent_ground():
    outline = Outline()
    outline.add((np.sin(np.arange(20_000) / 9) * np.linspace(0, 30_000, 20_000)).astype(np.int16))
    with Image.open(io.BytesIO(picture(outline))) as image:
        assert image.size == (256, 96)
        assert image.convert("RGBA").getpixel((0, 0))[3] == 0
        coloured = np.asarray(image.convert("RGBA"))[..., 3] > 0
    assert coloured[:, -64:].sum() > 3 * coloured[:, :64].sum() > 0
