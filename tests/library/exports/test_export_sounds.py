"""Exported sounds: the same samples where nothing may be lost, the same tone and length elsewhere."""

from __future__ import annotations

import shutil
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from studio.core.events import Progress
from studio.core.problems import LibraryBroken, NotSaved
from studio.engines.context import JobCancelled
from studio.library.exports import formats_for, sound
from tests.library.exports.helpers_export import Job, make_wav

FILE = shutil.which("file")
MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


def loudest(samples: np.ndarray, rate: int) -> float:
    """The strongest frequency in Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


@pytest.mark.parametrize("extension", [".wav", ".flac"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [1, 65_535, 65_536, 65_537, 150_000])
def test_a_lossless_export_has_the_very_samples(job, tmp_path, out, extension, channels, frames):
    master = make_wav(tmp_path / "m.wav", frames, channels=channels)
    job.export(master, "speech", out / f"x{extension}")
    wanted, _ = soundfile.read(master, dtype="int16", always_2d=True)
    seen, rate = soundfile.read(out / f"x{extension}", dtype="int16", always_2d=True)
    assert rate == 22_050
    assert np.array_equal(seen, wanted)


@pytest.mark.parametrize(
    ("subtype", "extension", "kept"),
    [
        ("PCM_24", ".wav", "PCM_24"), ("PCM_32", ".wav", "PCM_32"), ("FLOAT", ".wav", "FLOAT"),
        ("DOUBLE", ".wav", "DOUBLE"), ("PCM_24", ".flac", "PCM_24"),
    ],
)  # fmt: skip
def test_fine_samples_stay_fine(job: Job, tmp_path: Path, out: Path, subtype: str, extension: str, kept: str):
    noise = np.random.default_rng(2).uniform(-1, 1, 10_000)
    soundfile.write(tmp_path / "m.wav", noise, 24_000, subtype)
    job.export(tmp_path / "m.wav", "speech", out / f"x{extension}")
    assert soundfile.info(out / f"x{extension}").subtype == kept
    wanted, _ = soundfile.read(tmp_path / "m.wav", dtype="float64")
    seen, _ = soundfile.read(out / f"x{extension}", dtype="float64")
    assert np.array_equal(seen, wanted)


def test_the_standard_library_reads_the_wav(job: Job, tmp_path: Path, out: Path):
    master = make_wav(tmp_path / "m.wav", 30_000)
    job.export(master, "speech", out / "x.wav")
    with wave.open(str(out / "x.wav")) as seen, wave.open(str(master)) as wanted:
        assert seen.getparams() == wanted.getparams()
        assert seen.readframes(30_000) == wanted.readframes(30_000)


@pytest.mark.parametrize("extension", [".ogg", ".mp3"])
@pytest.mark.parametrize("rate", MP3_RATES)
def test_a_lossy_export_keeps_length_tone_and_loudness(job, tmp_path, out, extension, rate):
    master = make_wav(tmp_path / "m.wav", rate * 2, rate)
    job.export(master, "speech", out / f"x{extension}", quality=60)
    samples, seen_rate = soundfile.read(out / f"x{extension}")
    assert seen_rate == rate
    assert abs(len(samples) - rate * 2) <= 2_400  # decoders may keep a frame of padding
    assert abs(loudest(samples, rate) - 440) <= 2
    middle = samples[rate // 2 : rate]
    assert np.sqrt((middle**2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("extension", [".ogg", ".mp3"])
def test_more_quality_is_a_larger_sound(job: Job, tmp_path: Path, out: Path, extension: str):
    noise = np.random.default_rng(3).normal(0, 0.1, 44_100)
    soundfile.write(tmp_path / "m.wav", noise, 44_100)
    sizes = []
    for quality in (1, 40, 80, 100):
        job.export(tmp_path / "m.wav", "speech", out / f"x{quality}{extension}", quality=quality)
        sizes.append((out / f"x{quality}{extension}").stat().st_size)
    assert sizes == sorted(sizes)
    assert sizes[-1] > 1.5 * sizes[0]


@pytest.mark.parametrize("extension", [".wav", ".flac", ".ogg"])
def test_title_and_maker_are_in_the_sound(job: Job, tmp_path: Path, out: Path, extension: str):
    job.export(make_wav(tmp_path / "m.wav"), "speech", out / f"x{extension}", title="Grüße ♥ 声")
    with soundfile.SoundFile(out / f"x{extension}") as seen:
        assert seen.title == "Grüße ♥ 声"
        assert seen.software.startswith("studio ")


def test_an_mp3_carries_its_whole_title_as_id3_in_utf_8(job: Job, tmp_path: Path, out: Path):
    title = "Grüße ♥ 声 " * 12  # far more than the thirty bytes of ID3v1, and a size above 127
    job.export(make_wav(tmp_path / "m.wav"), "speech", out / "x.mp3", title=title)
    data = (out / "x.mp3").read_bytes()
    assert data[:6] == b"ID3\x04\x00\x00"
    size = sum(b << s for b, s in zip(data[6:10], (21, 14, 7, 0), strict=True))
    frames, at = {}, 10
    while at < 10 + size:
        length = sum(b << s for b, s in zip(data[at + 4 : at + 8], (21, 14, 7, 0), strict=True))
        assert data[at + 10] == 3  # UTF-8
        frames[data[at : at + 4]] = data[at + 11 : at + 10 + length].decode("utf-8")
        at += 10 + length
    assert frames[b"TIT2"] == title.strip()
    assert frames[b"TSSE"].startswith("studio ")
    assert data[10 + size] == 0xFF  # sound begins right behind
    assert data[11 + size] & 0xE0 == 0xE0


@pytest.mark.skipif(FILE is None, reason="file(1) is not installed")
@pytest.mark.parametrize(
    ("name", "said"),
    [("x.wav", "WAVE audio"), ("x.flac", "FLAC audio"), ("x.ogg", "Vorbis audio"), ("x.mp3", "ID3 version 2.4.0")],
)
def test_file_knows_what_a_sound_is(job: Job, tmp_path: Path, out: Path, name: str, said: str):
    job.export(make_wav(tmp_path / "m.wav"), "speech", out / name)
    assert said in subprocess.check_output([FILE, "-b", out / name], text=True)


def test_a_rate_mp3_does_not_have_is_refused_with_a_way_out(job: Job, tmp_path: Path, out: Path):
    master = make_wav(tmp_path / "m.wav", 9_600, 96_000)
    with pytest.raises(NotSaved, match="96,000 samples per second, which MP3 does not take") as caught:
        job.export(master, "speech", out / "x.mp3")
    assert "OGG" in caught.value.problem.hint
    assert list(out.iterdir()) == []
    job.export(master, "speech", out / "x.ogg")


def test_too_many_channels_are_refused(job: Job, tmp_path: Path, out: Path):
    with pytest.raises(NotSaved, match="3 channels"):
        job.export(make_wav(tmp_path / "m.wav", 100, channels=3), "speech", out / "x.mp3")


@pytest.mark.parametrize("extension", formats_for("speech"))
@pytest.mark.parametrize("how", ["empty", "no frames", "text", "header only"])
def test_a_damaged_sound_is_called_damaged(job, tmp_path, out, extension, how):
    master = make_wav(tmp_path / "m.wav", 0 if how == "no frames" else 1_000)
    if how != "no frames":
        master.write_bytes({"empty": b"", "text": b"hello" * 100, "header only": master.read_bytes()[:40]}[how])
    with pytest.raises(LibraryBroken, match="sound is damaged"):
        job.export(master, "speech", out / f"x{extension}")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("extension", formats_for("speech"))
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_samples_that_are_no_numbers_are_refused_rather_than_heard(job, tmp_path, out, extension, bad):
    samples = np.zeros(100_000, np.float32)
    samples[90_000] = bad
    soundfile.write(tmp_path / "m.wav", samples, 24_000, "FLOAT")
    with pytest.raises(LibraryBroken):
        job.export(tmp_path / "m.wav", "speech", out / f"x{extension}")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("extension", formats_for("speech"))
def test_progress_counts_frames_up_to_the_end(job: Job, tmp_path: Path, out: Path, extension: str):
    job.export(make_wav(tmp_path / "m.wav", 200_000), "speech", out / f"x{extension}")
    seen = [e for e in job.events if isinstance(e, Progress)]
    assert [e.done for e in seen] == [65_536, 131_072, 196_608, 200_000]
    assert {(e.total, e.unit) for e in seen} == {(200_000, "frames")}


@pytest.mark.parametrize("extension", formats_for("speech"))
def test_a_cancelled_export_stops_within_one_block_and_leaves_nothing(job, tmp_path, out, extension):
    class StopsAfterOne(list):
        def append(self, event: object) -> None:
            super().append(event)
            job.cancel.set()

    job.events = StopsAfterOne()
    job.ctx._emit = job.events.append
    master = make_wav(tmp_path / "m.wav", 300_000)
    with pytest.raises(JobCancelled):
        job.export(master, "speech", out / f"x{extension}")
    assert [e.done for e in job.events] == [65_536]
    assert list(out.iterdir()) == []


def test_a_long_sound_is_never_in_memory_whole(job: Job, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []
    honest = soundfile.SoundFile.read
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda s, n=-1, **k: asked.append(n) or honest(s, n, **k))
    job.export(make_wav(tmp_path / "m.wav", 300_000), "speech", out / "x.flac")
    assert max(asked) == sound.BLOCK
    assert min(asked) > 0


def test_a_wav_above_four_gigabytes_becomes_an_rf64(job, tmp_path, out, monkeypatch):
    from studio.library.exports import wav

    monkeypatch.setattr(wav, "LARGEST", 10_000)  # the border only; the writing is the real one
    master = make_wav(tmp_path / "m.wav", 20_000)
    job.export(master, "speech", out / "x.wav")
    assert (out / "x.wav").read_bytes()[:4] == b"RF64"
    assert np.array_equal(soundfile.read(out / "x.wav")[0], soundfile.read(master)[0])
