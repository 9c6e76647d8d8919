"""What can be told of a sound from its samples: loudness, peaks, clipping, pauses. Knows arrays; knows no words.

Source: ITU-R BS.1770-5 for loudness (K-weighting, gating); its filters for other sample rates than 48 kHz are the same
analogue ones by the bilinear transform, as De Man 2014 gives them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import soundfile  # type: ignore[import-untyped]
from scipy.signal import lfilter, resample_poly

from studio.core.problems import NotRead
from studio.core.text import shown
from studio.engines.evaluate.intervals import Array

LONGEST = 2 * 3600  # seconds
FRAME = 0.02  # seconds of the frames in which pauses are looked for
PAUSE = 0.15  # seconds of quiet that make a pause
BELOW_LOUDEST = 35.0  # dB below the loud passages that count as quiet
QUIETEST = -60.0  # dBFS that count as quiet in any sound
CLIPPED = 0.999
_BLOCK, _HOP = 0.4, 0.1  # seconds


class Quiet(msgspec.Struct, frozen=True):
    """Where a sound is quiet, in seconds. `pauses`: each between two passages of speech."""

    before: float
    after: float
    pauses: tuple[float, ...]


def read_sound(path: Path) -> tuple[Array, int]:
    """Samples (frames, channels), −1…1, and their rate. Raises NotRead."""
    name = shown(path.name, 80)
    try:
        with soundfile.SoundFile(path) as sound:
            if sound.frames > LONGEST * sound.samplerate:
                raise NotRead(f"“{name}” is longer than {LONGEST // 3600} hours.", "Cut it into pieces.")
            samples = sound.read(dtype="float64", always_2d=True)
            rate = int(sound.samplerate)
    except (OSError, soundfile.LibsndfileError, ValueError) as error:
        raise NotRead(
            f"“{name}” is no sound that can be read.", "Use WAV, FLAC, OGG or MP3.", detail=str(error)
        ) from error
    if not len(samples) or not np.isfinite(samples).all():
        raise NotRead(f"“{name}” holds no sound.", "Make it again.")
    return samples, rate


def loudness(samples: Array, rate: int) -> float:
    """Integrated loudness, LUFS; −inf of silence, and of what is shorter than 0.4 s."""
    weighed = samples
    for b, a in k_filters(rate):
        weighed = lfilter(b, a, weighed, axis=0)
    block, hop = round(_BLOCK * rate), round(_HOP * rate)
    if len(weighed) < block:
        return -math.inf
    powers = np.concatenate([np.zeros((1, weighed.shape[1])), np.cumsum(weighed**2, axis=0)])
    begins = np.arange(0, len(weighed) - block + 1, hop)
    # channels 4 and 5 of six are those behind, which weigh more; a mono or stereo sound has none
    weight = np.ones(weighed.shape[1])
    if len(weight) > 4:
        weight[3:5] = 1.41
    mean = (powers[begins + block] - powers[begins]) / block @ weight

    def level(power: Any) -> Any:
        with np.errstate(divide="ignore"):
            return -0.691 + 10 * np.log10(power)

    loud = mean[level(mean) > -70.0]
    if not len(loud):
        return -math.inf
    loud = loud[level(loud) > level(loud.mean()) - 10.0]
    return float(level(loud.mean()))


def k_filters(rate: int) -> list[tuple[list[float], list[float]]]:
    """The shelf for the head and the high-pass of K-weighting, as (b, a) of second order."""
    k = math.tan(math.pi * 1681.974450955533 / rate)
    quality, high = 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    mid = high**0.4996667741545416
    norm = 1 + k / quality + k * k
    shelf = [
        (high + mid * k / quality + k * k) / norm, 2 * (k * k - high) / norm, (high - mid * k / quality + k * k) / norm
    ]  # fmt: skip
    first = (shelf, [1.0, 2 * (k * k - 1) / norm, (1 - k / quality + k * k) / norm])
    k = math.tan(math.pi * 38.13547087602444 / rate)
    quality = 0.5003270373238773
    norm = 1 + k / quality + k * k
    return [first, ([1.0, -2.0, 1.0], [1.0, 2 * (k * k - 1) / norm, (1 - k / quality + k * k) / norm])]


def peak(samples: Array) -> float:
    """The highest sample, dBFS; −inf of silence."""
    top = float(np.abs(samples).max(initial=0.0))
    return 20 * math.log10(top) if top else -math.inf


def clipped(samples: Array) -> float:
    """Share of samples at full scale beside another one there, percent: a single one is a peak that just fits."""
    full = np.abs(samples) >= CLIPPED
    beside = np.zeros_like(full)
    beside[1:] |= full[:-1]
    beside[:-1] |= full[1:]
    return 100.0 * float(np.mean(full & beside))


def quiet(samples: Array, rate: int) -> Quiet:
    """Where nothing is said: frames well below the loud passages, at the ends and for PAUSE or longer between."""
    mono = samples.mean(axis=1)
    size = max(1, round(FRAME * rate))
    count = math.ceil(len(mono) / size)
    padded = np.zeros(count * size)
    padded[: len(mono)] = mono
    level = 10 * np.log10(np.maximum((padded.reshape(count, size) ** 2).mean(axis=1), 1e-12))
    loud = float(np.percentile(level, 95))
    said = level > max(loud - BELOW_LOUDEST, QUIETEST)
    whole = len(mono) / rate
    if not said.any():
        return Quiet(whole, 0.0, ())
    places = np.flatnonzero(said)
    gaps = (np.diff(places) - 1) * size / rate
    pauses = tuple(float(gap) for gap in gaps if gap >= PAUSE)
    return Quiet(places[0] * size / rate, max(0.0, whole - (places[-1] + 1) * size / rate), pauses)


def at_rate(samples: Array, rate: int, wanted: int) -> Array:
    """One channel at another rate, through an anti-aliasing filter."""
    mono = samples.mean(axis=1)
    if rate == wanted:
        return mono
    shared = math.gcd(rate, wanted)
    return np.asarray(resample_poly(mono, wanted // shared, rate // shared), dtype=np.float64)
