"""The engine "evaluate.speech": sounds measured, and what a listener hears held against what was to be said.

Knows which measures there are and what each needs; sound.py and listening.py know how.
"""

from __future__ import annotations

import json
import math
import re
import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np

from studio.core.learning import EvaluateSpeechRecipe
from studio.core.problems import BadRecipe, ModelUnfit, NotRead
from studio.core.recipes import Recipe
from studio.core.text import shown
from studio.core.works import Result
from studio.engines.context import RunContext
from studio.engines.evaluate import intervals, reporting, sound
from studio.engines.evaluate.intervals import Array
from studio.engines.evaluate.judging import Judging
from studio.engines.evaluate.listening import RATE, Listener
from studio.engines.evaluate.measures import Counted
from studio.engines.evaluate.reporting import Findings, figure

SOUNDS = (".wav", ".flac", ".ogg", ".mp3")
MOST = 10_000  # sounds
TEXT_LIMIT = 1024 * 1024  # bytes
LIBRARIES = ("jiwer", "numpy", "scipy", "soundfile", "transformers", "torch")


class Heard(msgspec.Struct, frozen=True):
    """One sound, and what was found of it. `text`: what was to be said; None where that is not known."""

    name: str
    text: str | None
    seconds: float
    loudness: float
    peak: float
    clipped: float
    quiet: sound.Quiet
    words: str | None = None  # what the listener heard


class EvaluateSpeech(Judging):
    """See studio.engines.base."""

    kind: ClassVar[str] = "evaluate-speech"
    name = "evaluate.speech"
    libraries = LIBRARIES

    def run(self, recipe: Recipe, ctx: RunContext) -> Result:
        """Measure the sounds of a folder, or one. Leaves `0.report.json`.

        Raises:
            BadRecipe: there are no sounds. NotRead: one of them cannot be read.
            ModelMissing, ModelBroken, ModelRefused, ModelUnfit: the listener.
        """
        if not isinstance(recipe, EvaluateSpeechRecipe):
            raise ModelUnfit("This measures speech.")
        ctx.check()
        begun = time.monotonic()
        paths = sounds_of(recipe.sounds)
        listener = None
        if recipe.listener:
            ctx.loading(Path(recipe.listener).name)
            listener = Listener(Path(recipe.listener), recipe.language, self._plan.device, self._plan.threads)
            self._device = listener.device
        try:
            every = []
            for i, path in enumerate(paths):
                ctx.check()
                every.append(_heard(path, listener, ctx))
                ctx.progress(i + 1, len(paths), "sounds", "listening")
        finally:
            if listener is not None:
                listener.close()
        found = Findings(recipe.resamples, reporting.drawn(recipe.seed))
        of = Path(recipe.sounds).name
        _measure(every, of, found, listener.name if listener is not None else "")
        if listener is not None and all(each.text is None for each in every):
            ctx.note("No text lies beside the sounds, so nothing could be held against what was heard.")
        report = found.report(
            ctx, recipe, libraries=LIBRARIES, data=f"{of}: {len(paths):,} sounds",
            data_sha256=reporting.together(paths),
        )  # fmt: skip
        return reporting.save(report, ctx, begun, self.made_with())


def sounds_of(given: str) -> list[Path]:
    """The sound files of a folder in order, or the one that is named. Raises BadRecipe."""
    hint = f"Give a folder of sounds ({', '.join(SOUNDS)})."
    if not given:
        raise BadRecipe("There is no speech to measure.", hint, field="sounds")
    path = Path(given)
    try:
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in SOUNDS and p.is_file())
        else:
            found = [path] if path.is_file() and path.suffix.lower() in SOUNDS else []
    except (OSError, ValueError) as error:
        raise BadRecipe(f"“{shown(path.name, 80)}” cannot be read.", hint, detail=str(error), field="sounds") from error
    if not found:
        raise BadRecipe(f"There is no sound in “{shown(path.name, 80)}”.", hint, field="sounds")
    if len(found) > MOST:
        raise BadRecipe(f"There are {len(found):,} sounds; at most {MOST:,} are measured at once.", field="sounds")
    return found


def text_of(path: Path) -> str | None:
    """What was to be said: in NAME.txt beside a sound, or in the recipe that the library keeps beside it.

    Raises:
        NotRead: the text is not UTF-8.
    """
    beside = path.with_suffix(".txt")
    try:
        with open(beside, "rb") as stream:
            return stream.read(TEXT_LIMIT).decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise NotRead(f"“{shown(beside.name, 80)}” is not UTF-8.", "Save it as UTF-8.", detail=str(error)) from error
    except OSError:
        pass
    try:
        with open(path.with_name(f"{path.name}.json"), "rb") as stream:
            kept = json.loads(stream.read(TEXT_LIMIT))
        text = kept["recipe"]["text"] if "recipe" in kept else kept["work"]["recipe"]["text"]
        return text if isinstance(text, str) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def plain(text: str) -> str:
    """Words as they are compared: in small letters, without signs, one space between."""
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    text = re.sub(r"(?<!\w)'|'(?!\w)|[^\w\s']|_", " ", text)
    return " ".join(text.split())


def _heard(path: Path, listener: Listener | None, ctx: RunContext) -> Heard:
    samples, rate = sound.read_sound(path)
    words = listener.heard(sound.at_rate(samples, rate, RATE), ctx.check) if listener is not None else None
    return Heard(
        name=path.name, text=text_of(path), seconds=len(samples) / rate, loudness=sound.loudness(samples, rate),
        peak=sound.peak(samples), clipped=sound.clipped(samples), quiet=sound.quiet(samples, rate), words=words,
    )  # fmt: skip


def errors(text: str, words: str) -> tuple[float, float, float, float]:
    """Word errors and words, character errors and characters, of what was to be said and what was heard."""
    import jiwer

    text, words = plain(text), plain(words)
    if not text:  # nothing was to be said: whatever was heard is too much
        return float(len(words.split())), 0.0, float(len(words)), 0.0
    of_words, of_letters = jiwer.process_words(text, words), jiwer.process_characters(text, words)
    wrong = [each.substitutions + each.deletions + each.insertions for each in (of_words, of_letters)]
    return float(wrong[0]), float(len(text.split())), float(wrong[1]), float(len(text))


def _measure(every: Sequence[Heard], of: str, found: Findings, listener: str) -> None:
    known = [each for each in every if each.text is not None and each.words is not None]
    if known:
        stats = np.asarray([errors(each.text or "", each.words or "") for each in known])
        signature = f"jiwer|{listener}|greedy|lower case, no signs"
        for name, columns in (("Word error rate", stats[:, :2]), ("Character error rate", stats[:, 2:])):
            found.count(Counted(name, columns, _percent, "%", "lower", signature), of)
    spoken = [each for each in every if each.text]
    if spoken:
        words = np.asarray([len(plain(each.text or "").split()) for each in spoken], dtype=np.float64)
        for name, minutes in (
            ("Pace", [each.seconds / 60 for each in spoken]),
            ("Pace without pauses", [_said(each) / 60 for each in spoken]),
        ):
            found.count(Counted(name, np.column_stack([words, minutes]), intervals.ratio, "words per minute"), of)
    whole = np.asarray([each.seconds for each in every])
    pauses = np.asarray([len(each.quiet.pauses) for each in every], dtype=np.float64)
    paused = np.asarray([sum(each.quiet.pauses) for each in every])
    signature = f"quieter than {sound.BELOW_LOUDEST:g} dB below loud|{sound.PAUSE:g} s and more"
    found.count(
        Counted("Pauses", np.column_stack([pauses, whole / 60]), intervals.ratio, "per minute", "", signature), of
    )
    found.count(Counted("Share of pauses", np.column_stack([paused, whole]), _percent, "%", "", signature), of)
    resamples, seed = found.resamples, found.seed
    for name, values, unit, better, how in (
        ("Loudness", [each.loudness for each in every], "LUFS", "", "BS.1770, gated, mean over sounds"),
        ("Peak", [each.peak for each in every], "dBFS", "", "mean over sounds"),
        ("Clipped samples", [each.clipped for each in every], "%", "lower", f"two and more from {sound.CLIPPED:g} on"),
        ("Silence before", [each.quiet.before for each in every], "s", "", "mean over sounds"),
        ("Silence after", [each.quiet.after for each in every], "s", "", "mean over sounds"),
        ("Length", list(whole), "s", "", "mean over sounds"),
    ):
        finite = np.asarray([value for value in values if math.isfinite(value)])
        if len(finite):
            interval = intervals.of_means(finite, resamples, seed)
            found.add(name, interval, of, len(finite), unit=unit, better=better, signature=how)
    head = [
        "Sound",
        "Length, s",
        "Loudness, LUFS",
        "Peak, dBFS",
        "Clipped, %",
        "Pauses",
        "Wanted",
        "Heard",
        "Word errors",
    ]
    rows = []
    for each in every:
        both = each.text is not None and each.words is not None
        wrong = f"{errors(each.text or '', each.words or '')[0]:.0f}" if both else ""
        numbers = [each.seconds, each.loudness, each.peak, each.clipped]
        rows.append(
            [each.name, *map(figure, numbers), str(len(each.quiet.pauses)), each.text or "", each.words or "", wrong]
        )
    found.table("Sounds", head, rows)


def _said(each: Heard) -> float:
    """Seconds in which something is said."""
    return max(1e-3, each.seconds - each.quiet.before - each.quiet.after - sum(each.quiet.pauses))


def _percent(sums: Array) -> Array:
    return 100.0 * intervals.ratio(sums)
