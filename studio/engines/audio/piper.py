"""Speech from Piper voices (VITS models in ONNX files, one x.onnx and one x.onnx.json each).

Knows recipes, sentences and files; opening voices is in voices.py, the noise in noise.py, the splitting of texts in
reading.py, WAV files in wav.py.

A text is spoken sentence by sentence, so that the first sound comes soon, a book needs no more memory than a sentence,
and a stop is heard at once. Between sentences there is `pause` seconds of silence, between paragraphs twice that
(reading.py says what a paragraph is); none at the end.

**Same as bare Piper.** On the same machine, with as many threads, a paragraph spoken with pause 0 has the very samples
that `PiperVoice.synthesize` gives in a process that called `onnxruntime.set_seed(seed)` before it loaded the voice.
Differences, all wanted: a sentence of more than 400 phonemes is spoken in parts, and what consists of punctuation only
is left out instead of being given a breath.
"""

from __future__ import annotations

import errno
import importlib.metadata
import os
import platform
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import onnxruntime
from piper import PiperVoice

from studio.core.cards import ModelCard
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, BadResult, ModelMissing, NotSaved, OutOfMemory
from studio.core.recipes import SEED_LIMIT, MadeWith, Recipe, SpeechRecipe
from studio.core.text import shown
from studio.core.works import Result
from studio.engines.audio.noise import NoiseRow
from studio.engines.audio.reading import Utterance, broken, utterances
from studio.engines.audio.voices import ORT_ERRORS, OpenVoice, open_voice
from studio.engines.audio.wav import Outline, TooLong, WavWriter, picture
from studio.engines.context import RunContext

SENTENCES_KEPT = 5_000  # in the work's facts; a long novel has more
_WATCH_SECONDS = 0.05
_FOUR_GIB = 1 << 32
_SHORTEST_PART = 30  # phonemes, about two words; what does not fit then will not fit shorter
_NOISE_LIMIT = 1 << 27  # values, half a GiB
_FAILURES: tuple[type[Exception], ...] = (*ORT_ERRORS, MemoryError)
_OTHER_VOICE = "Try another voice, or copy this one again."
_SECONDS_PER_CHARACTER = 0.07  # of English speech at the voice's own pace, for the estimate of disk space only


class Piper:
    """The engine `speech.piper`. Holds one voice."""

    kind: ClassVar[str] = "speech"

    def __init__(self) -> None:
        self._voice: OpenVoice | None = None
        self._name = ""
        self._threads = 0
        self._loaded: tuple[Any, ...] = ()  # what the open voice was opened for

    def load(self, card: ModelCard, plan: Plan, ctx: RunContext) -> None:
        """Open the voice of `card`, unless it is open already; see `open_voice` for what can go wrong."""
        wanted = (card, plan.device, max(1, plan.threads), _stamp(card.path))
        if self._voice is not None and wanted == self._loaded:
            return
        self.unload()
        ctx.check()
        ctx.loading(card.name)
        self._voice = open_voice(card, plan.device, max(1, plan.threads), ctx.cache_dir)
        self._name, self._threads, self._loaded = card.name, max(1, plan.threads), wanted
        if plan.device.startswith("cuda") and self._voice.device == "cpu":
            ctx.note("This onnxruntime cannot use the graphics card; the voice runs on the processor.")
        ctx.loading(card.name, 1.0)

    def unload(self) -> None:
        self._voice = None

    def made_with(self) -> MadeWith:
        versions = {n: importlib.metadata.version(n) for n in ("piper-tts", "onnxruntime", "numpy")}
        return MadeWith(
            engine="speech.piper",
            device=self._voice.device if self._voice else "cpu",
            dtype="float32",
            threads=self._threads,
            versions={**versions, "python": platform.python_version()},
            system=f"{platform.system()} {platform.machine()}",
        )

    def run(self, recipe: Recipe, ctx: RunContext) -> Result:
        """Speak the recipe's text.

        Leaves in staging: `0.wav`, `0.thumb.webp`, and `piece-0001.wav` and so on: one per sentence with the pause
        after it, so that joined they are the master.

        Raises:
            BadRecipe: nothing to read aloud, or a speaker the voice does not have.
            BadResult: the voice gave something that is not sound.
            NotSaved: the disk is full, or will be.
            JobCancelled: the job was stopped.
        """
        if not isinstance(recipe, SpeechRecipe):
            raise BadRecipe("A voice can only read texts aloud.")
        voice = self._voice
        if voice is None:
            raise ModelMissing("No voice is loaded.")
        speakers = max(1, voice.config.num_speakers)
        if recipe.speaker >= speakers:
            has = "one speaker, number 0" if speakers == 1 else f"speakers 0 to {speakers - 1}"
            raise BadRecipe(f"The voice “{self._name}” has {has}; got {recipe.speaker}.", field="speaker")
        ctx.check()
        begun = time.monotonic()
        seed = recipe.seed if recipe.seed is not None else secrets.randbelow(SEED_LIMIT)
        try:
            with _stoppable(ctx) as options:
                meta, outline = _speak(_Mouth(voice, self._name, recipe, seed, options, ctx), recipe, ctx)
            ctx.check()
            size = {"width": 256, "height": 96}
            thumbnail = ctx.save("0.thumb.webp", picture(outline, **size), role="thumbnail", seed=seed, meta=size)
            master = ctx.artifact("0.wav", seed=seed, seconds=time.monotonic() - begun, meta=meta)
        except TooLong:
            raise NotSaved("The speech became longer than its WAV file can hold.", "Split the text in two.") from None
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            why = "the disk is full" if full else error.strerror or str(error)
            raise NotSaved(f"The speech could not be saved: {why}.", detail=str(error)) from None
        return Result(artifacts=(master, thumbnail), made_with=self.made_with(), notes=tuple(ctx.notes))


def _stamp(path: str) -> tuple[int, ...]:
    """Tells changed files of a voice from unchanged ones; empty where they cannot be seen."""
    try:
        found = [os.stat(path), os.stat(f"{path}.json")]
    except OSError:
        return ()
    return tuple(n for status in found for n in (status.st_size, status.st_mtime_ns))


def _speak(mouth: _Mouth, recipe: SpeechRecipe, ctx: RunContext) -> tuple[dict[str, Any], Outline]:
    """Speak utterance by utterance into `0.wav` and the pieces. Returns the work's facts and the sound's outline."""
    rate, total = mouth.rate, len(recipe.text)
    gap = round(recipe.pause * rate)
    pauses = {"nothing": 0, "sentence": gap, "paragraph": 2 * gap}
    need = _check_room(recipe, mouth, ctx)
    ctx.progress(0, total, "characters", "reading")
    queue = mouth.utterances(recipe.text)
    current = next(queue, None)
    if current is None:
        raise BadRecipe("There is nothing in the text that can be read aloud.", "Write some words.", field="text")
    outline, sentences, index = Outline(), [], 0
    with ctx.file("0.wav") as stream:
        # a guess eight times too low still gets a header that can grow
        writer = WavWriter(stream, rate, may_be_long=need > _FOUR_GIB // 8)
        while current is not None:
            samples = mouth.say(current)
            ctx.check()
            following = next(queue, None)
            pause = pauses[current.after] if following else 0
            start = writer.frames / rate
            index += 1
            piece = ctx.out_dir / f"piece-{index:04d}.wav"
            with open(piece, "wb") as short:  # not flushed to disk: it lives only until the job ends
                for out in (own := WavWriter(short, rate), writer):
                    out.write(samples)
                    out.silence(pause)
                own.finish()
            outline.add(samples)
            outline.add(np.zeros(pause, np.int16))
            if index <= SENTENCES_KEPT:
                sentences.append({"start": start, "seconds": samples.size / rate, "text": current.text})
            ctx.piece(index, piece, start, (samples.size + pause) / rate, current.text)
            ctx.progress(current.end, total, "characters", "speaking")
            current = following
        if not writer.frames:
            raise BadResult(f"The voice “{mouth.name}” gave no sound at all.", _OTHER_VOICE)
        writer.finish()
    ctx.progress(total, total, "characters", "speaking")
    if mouth.unknown:
        some = " ".join(sorted(mouth.unknown)[:10])
        ctx.note(f"Sounds that the voice does not know were left out: {shown(some)}")
    meta = {
        "seconds": writer.frames / rate,
        "sample_rate": rate,
        "sentences": sentences,
        "peak": round(outline.peak / 32768.0, 4),
        "rms_dbfs": outline.rms_dbfs,
    }
    return meta, outline


class _Mouth:
    """One job's way from text to samples."""

    def __init__(
        self, voice: OpenVoice, name: str, recipe: SpeechRecipe, seed: int, options: onnxruntime.RunOptions,
        ctx: RunContext,
    ) -> None:  # fmt: skip
        config = voice.config
        noise = config.noise_scale if recipe.noise is None else recipe.noise
        rhythm = config.noise_w_scale if recipe.rhythm is None else recipe.rhythm
        self.name, self.rate = name, config.sample_rate
        self.length_scale = config.length_scale / recipe.speed
        self.unknown: set[str] = set()
        self._ctx, self._options, self._voice = ctx, options, voice
        quiet = noise == 0 and rhythm == 0  # then no random number reaches the sound
        self._session = voice.reseeded(seed) if voice.own_noise and not quiet else voice.session
        self._piper = PiperVoice(session=self._session, config=config)
        self._scales = np.array([noise, self.length_scale, rhythm], dtype=np.float32)
        self._speaker = np.array([recipe.speaker], dtype=np.int64)
        self._rows = [NoiseRow(seed, n.index) for n in voice.noise]
        # noise values per phoneme id. The first guess is high, later ones follow what was used; what is too much
        # stays in the row for the next sentence, what is too little costs a second run.
        self._rates = [800.0 * max(1.0, self.length_scale)] * len(self._rows)

    def utterances(self, text: str) -> Iterator[Utterance]:
        return utterances(text, self._phonemize)

    def _phonemize(self, text: str) -> list[list[str]]:
        self._ctx.check()
        return self._piper.phonemize(text)

    def say(self, utterance: Utterance) -> np.ndarray:
        """The utterance's samples, int16, shape (n,), each as loud as it can be, like Piper's own.

        Where memory runs out it is spoken in parts, which is told.

        Raises:
            BadResult: not sound. OutOfMemory: not even parts fit. JobCancelled: stopped on the way.
        """
        known = [p for p in utterance.phonemes if p in self._voice.config.phoneme_id_map]
        self.unknown.update(p for p in utterance.phonemes if p not in self._voice.config.phoneme_id_map)
        return self._say(known, utterance.text)

    def _say(self, known: list[str], text: str) -> np.ndarray:
        self._ctx.check()
        try:
            sound = self._run(self._piper.phonemes_to_ids(known))
        except _FAILURES as error:
            self._ctx.check()  # it was terminated, as asked
            problem = str(error)
            if not isinstance(error, MemoryError) and "alloc" not in problem.lower():
                raise BadResult(
                    f"The voice “{self.name}” failed at “{shown(text)}”.", _OTHER_VOICE, detail=problem
                ) from None
        else:
            return self._samples(sound, text)
        if len(known) < 2 * _SHORTEST_PART:
            raise OutOfMemory(
                f"Memory ran out while the voice “{self.name}” spoke “{shown(text)}”.",
                "Close other programs, or try a smaller voice.", detail=problem,
            )  # fmt: skip
        self._ctx.note("Memory ran out, so long sentences were spoken in parts.")
        return np.concatenate([self._say(part, text) for part in broken(known, len(known) // 2 + 1)])

    def _samples(self, sound: np.ndarray, text: str) -> np.ndarray:
        if not np.isfinite(sound).all():
            raise BadResult(f"The voice “{self.name}” gave noise instead of speech at “{shown(text)}”.", _OTHER_VOICE)
        # From here on as piper.voice does it, operation by operation, so that the samples are equal.
        peak = np.max(np.abs(sound), initial=0)
        sound = np.zeros_like(sound) if peak < 1e-8 else sound / peak
        return np.clip(np.clip(sound, -1.0, 1.0) * 32767.0, -32767.0, 32767.0).astype(np.int16)

    def _run(self, ids: list[int]) -> np.ndarray:
        voice = self._voice
        feeds = {
            "input": np.array([ids], dtype=np.int64),
            "input_lengths": np.array([len(ids)], dtype=np.int64),
            "scales": self._scales,
        }
        if voice.speaker_input:
            feeds["sid"] = self._speaker
        counts = [min(_NOISE_LIMIT, int(r * len(ids)) + 1) for r in self._rates]
        # A second run when the noise was too short; a third when that changed the durations.
        for _ in range(3):
            feeds |= {n.name: row.ahead(c) for n, row, c in zip(voice.noise, self._rows, counts, strict=True)}
            wanted = [voice.output, *(n.size for n in voice.noise)]
            sound, *sizes = self._session.run(wanted, feeds, self._options)
            used = [int(s) for s in sizes]
            if all(u <= c for u, c in zip(used, counts, strict=True)):
                break
            if max(used) > _NOISE_LIMIT:
                raise ValueError(f"the voice asks for {max(used)} values of noise")
            counts = [max(pair) for pair in zip(used, counts, strict=True)]
        else:
            raise ValueError("the voice asks for another amount of noise each time")
        for row, count in zip(self._rows, used, strict=True):
            row.used(count)
        self._rates = [max(1.5 * u / len(ids), 0.9 * r) for u, r in zip(used, self._rates, strict=True)]
        return np.asarray(sound).reshape(-1)


def _check_room(recipe: SpeechRecipe, mouth: _Mouth, ctx: RunContext) -> int:
    """Bytes the speech will need about, having seen that they and the pieces fit on the disk."""
    need = int(len(recipe.text) * _SECONDS_PER_CHARACTER * mouth.length_scale * mouth.rate * 2)
    free = shutil.disk_usage(ctx.out_dir).free
    if 2 * need > free:
        raise NotSaved(
            f"The speech needs about {max(1, 2 * need >> 20):,} MB while it is made; {free >> 20:,} MB are free.",
            "Free some space, or split the text.",
        )
    return need


@contextmanager
def _stoppable(ctx: RunContext) -> Iterator[onnxruntime.RunOptions]:
    """Run options that end a run within a sentence once the job is cancelled."""
    options = onnxruntime.RunOptions()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_WATCH_SECONDS):
            if ctx.cancelled:
                options.terminate = True
                return

    watcher = threading.Thread(target=watch, name="speech-watch", daemon=True)
    watcher.start()
    try:
        yield options
    finally:
        done.set()
        watcher.join()
