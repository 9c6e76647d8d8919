"""Speech measured: loudness by the standard's own figures, pauses, and what a tiny listener hears."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import soundfile
import torch

from studio.core.cards import ModelCard
from studio.core.events import Progress
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, ModelMissing, ModelUnfit, NotRead, StudioError
from studio.core.recipes import check
from studio.engines.context import JobCancelled
from studio.engines.evaluate import sound, speech
from studio.engines.evaluate.listening import RATE, Listener, pieces
from studio.engines.evaluate.speech import EvaluateSpeech
from tests.engines.evaluate.surroundings import Job, value

torch.set_num_threads(1)
CARD = ModelCard(id="evaluate-speech", name="", kind="evaluate-speech", engine="evaluate.speech", path="", format="")
NEVER = lambda: None  # noqa: E731


def tone(seconds: float, rate: int, hertz: float, decibels: float, channels: int = 1) -> Any:
    wave = 10 ** (decibels / 20) * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1)


# -- from samples


def test_the_filters_are_those_printed_in_the_standard() -> None:
    (shelf, first), (high, second) = sound.k_filters(48_000)
    assert shelf == pytest.approx([1.53512485958697, -2.69169618940638, 1.19839281085285], abs=1e-9)
    assert first[1:] == pytest.approx([-1.69065929318241, 0.73248077421585], abs=1e-9)
    assert high == [1.0, -2.0, 1.0]
    assert second[1:] == pytest.approx([-1.99004745483398, 0.99007225036621], abs=1e-9)


@pytest.mark.parametrize("rate", [48_000, 44_100, 22_050, 16_000])
def test_a_full_tone_in_one_channel_has_the_loudness_that_the_standard_gives(rate: int) -> None:
    """BS.1770: a 0 dBFS sine of 997 Hz in one channel reads −3.01."""
    assert sound.loudness(tone(5, rate, 997, 0), rate) == pytest.approx(-3.01, abs=0.05)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [([(20, -23)], -23.0), ([(20, -33)], -33.0), ([(10, -36), (60, -23), (10, -36)], -23.0),
     ([(10, -72), (10, -36), (60, -23), (10, -36), (10, -72)], -23.0)],
)  # fmt: skip
def test_loudness_passes_the_cases_of_ebu_tech_3341(levels: list[tuple[float, float]], expected: float) -> None:
    samples = np.concatenate([tone(seconds, 48_000, 1000, level, 2) for seconds, level in levels])
    assert sound.loudness(samples, 48_000) == pytest.approx(expected, abs=0.1)


def test_silence_and_what_is_too_short_have_no_loudness() -> None:
    assert sound.loudness(np.zeros((48_000, 1)), 48_000) == -math.inf
    assert sound.loudness(tone(0.2, 48_000, 997, 0), 48_000) == -math.inf
    assert sound.peak(np.zeros((10, 1))) == -math.inf


def test_pauses_are_found_between_words_and_not_at_the_ends() -> None:
    def still(seconds: float) -> Any:
        return np.zeros((round(seconds * 16_000), 1))

    speech = tone(1.0, 16_000, 220, -12)
    short = still(0.06)
    found = sound.quiet(np.concatenate([still(0.3), speech, still(0.5), speech, short, speech, still(0.8)]), 16_000)
    assert found.before == pytest.approx(0.3, abs=0.021) and found.after == pytest.approx(0.8, abs=0.021)
    assert found.pauses == (pytest.approx(0.5, abs=0.041),)
    nothing = sound.quiet(still(1.0), 16_000)
    assert (nothing.before, nothing.pauses) == (1.0, ())


def test_clipping_is_several_samples_at_full_scale_in_a_row() -> None:
    samples = np.zeros((100, 1))
    samples[10] = 1.0
    assert sound.clipped(samples) == 0.0
    samples[50:55] = -1.0
    assert sound.clipped(samples) == 5.0


def test_another_rate_keeps_what_can_be_heard() -> None:
    found = sound.at_rate(tone(1, 44_100, 440, 0, 2), 44_100, 16_000)
    assert len(found) == 16_000
    assert np.abs(np.fft.rfft(found)).argmax() == 440
    high = sound.at_rate(tone(1, 44_100, 12_000, 0), 44_100, 16_000)
    assert np.abs(high[2000:-2000]).max() < 0.02, "what the new rate cannot hold is filtered, not folded down"


# -- words


SAID = ["The cat sat on the mat.", "Don’t stop!", "", "Fünf grüne Äpfel, bitte.", "one"]
HEARD = ["the cat sat on a mat", "don't stop", "hello", "fünf grüne apfel bitte sehr", ""]


def test_word_and_character_errors_equal_jiwer() -> None:
    rows = [speech.errors(a, b) for a, b in zip(SAID, HEARD, strict=True)]
    whole = np.sum([row for row, said in zip(rows, SAID, strict=True) if said], axis=0)
    pairs = [(speech.plain(a), speech.plain(b)) for a, b in zip(SAID, HEARD, strict=True) if a]
    said, heard = [list(each) for each in zip(*pairs, strict=True)]
    assert whole[0] / whole[1] == pytest.approx(jiwer.wer(said, heard))
    assert whole[2] / whole[3] == pytest.approx(jiwer.cer(said, heard))
    assert rows[2] == (1.0, 0.0, 5.0, 0.0), "what is heard where nothing was said counts"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Hello,  World!", "hello world"), ("Don’t 'quote' it", "don't quote it"), ("ＡＢ_c", "ab c"), ("— …", "")],
)
def test_words_are_compared_without_signs(text: str, expected: str) -> None:
    assert speech.plain(text) == expected


# -- a listener


def whisper(folder: Path, *, languages: bool = True) -> Path:
    """A Whisper of two layers with random weights."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        PreTrainedTokenizerFast,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"]
    special += ["<|en|>", "<|transcribe|>"] if languages else []
    made.train_from_iterator(
        ["the cat sat on the mat"],
        trainers.BpeTrainer(vocab_size=300, special_tokens=special, show_progress=False,
                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|endoftext|>", additional_special_tokens=special[1:]
    )
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=16).save_pretrained(folder)
    torch.manual_seed(4)
    config = WhisperConfig(
        vocab_size=len(tokenizer), num_mel_bins=16, d_model=16, encoder_layers=1, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        max_target_positions=24, eos_token_id=0, bos_token_id=0, pad_token_id=0, decoder_start_token_id=1,
        init_std=0.6,
    )  # fmt: skip
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whisper(tmp_path_factory.mktemp("whisper"))


def test_what_is_heard_equals_a_plain_greedy_loop_of_transformers(listener: Path) -> None:
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

    samples = tone(2, RATE, 300, -10)[:, 0]
    ours = Listener(listener, "en", "cpu", 1)
    text = ours.heard(samples, NEVER)
    model = WhisperForConditionalGeneration.from_pretrained(listener, local_files_only=True).eval()
    features = WhisperFeatureExtractor.from_pretrained(listener, local_files_only=True)(
        samples.astype(np.float32), sampling_rate=RATE, return_tensors="pt"
    ).input_features
    ids = list(ours._start)
    with torch.inference_mode():
        while len(ids) < 23:
            token = int(model(features, decoder_input_ids=torch.tensor([ids])).logits[0, -1].argmax())
            if token == 0:
                break
            ids.append(token)
    assert text == ours._tokenizer.decode(ids[len(ours._start) :], skip_special_tokens=True).strip()
    assert text, "it says something"
    ours.close()


def test_a_long_sound_is_cut_where_it_is_quiet() -> None:
    samples = np.concatenate([np.full(27 * 1000, 0.5), np.zeros(500), np.full(40 * 1000, 0.5)])
    found = pieces(samples, rate=1000)
    assert found[0][0] == 0 and 27_000 <= found[0][1] <= 27_500
    assert [b for _, b in found[:-1]] == [a for a, _ in found[1:]] and found[-1][1] == len(samples)
    assert all(end - begin <= 30_000 for begin, end in found)


def test_a_listener_that_does_not_know_the_language_or_is_none_is_a_sentence(listener: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe) as caught:
        Listener(listener, "de", "cpu", 1)
    assert caught.value.problem.field == "language"
    with pytest.raises(ModelMissing):
        Listener(tmp_path / "gone", "en", "cpu", 1)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelUnfit):
        Listener(tmp_path, "en", "cpu", 1)
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    with pytest.raises(StudioError):
        Listener(tmp_path, "en", "cpu", 1)


def test_one_for_english_only_needs_no_language(tmp_path: Path) -> None:
    made = Listener(whisper(tmp_path, languages=False), "en", "cpu", 1)
    assert len(made._start) == 2
    made.close()


# -- the engine


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    folder = tmp_path / "sounds"
    folder.mkdir()
    for i, words in enumerate(("the cat sat", "on the mat today")):
        soundfile.write(folder / f"{i}.wav", tone(1.5, 22_050, 300 + 100 * i, -20), 22_050)
        (folder / f"{i}.txt").write_text(words)
    kept = folder / "2.flac"
    soundfile.write(kept, tone(1.0, 16_000, 500, -20), 16_000)
    (folder / "2.flac.json").write_text(json.dumps({"work": {"recipe": {"kind": "speech", "text": "kept text"}}}))
    (folder / "notes.md").write_text("no sound")
    return folder


def recipe(**given: Any) -> Any:
    return check("evaluate-speech", {"seed": 3, "resamples": 100, "title": "T", **given}).recipe


def engine(tmp_path: Path) -> EvaluateSpeech:
    made = EvaluateSpeech()
    made.load(CARD, Plan(device="cpu", threads=1), Job(tmp_path / "load").ctx)
    return made


def test_a_folder_of_sounds_is_measured_and_listened_to(tmp_path: Path, sounds: Path, listener: Path) -> None:
    job = Job(tmp_path)
    report = job.report(engine(tmp_path).run(recipe(sounds=str(sounds), listener=str(listener)), job.ctx))
    assert value(report, "Word error rate") > 0 and value(report, "Character error rate") > 0
    assert value(report, "Pace") == pytest.approx(9 / (4.0 / 60))
    assert value(report, "Loudness") == pytest.approx(-23, abs=1)
    assert value(report, "Length") == pytest.approx(4 / 3)
    head, *rows = report.tables["Sounds"]
    assert [row[head.index("Wanted")] for row in rows] == ["the cat sat", "on the mat today", "kept text"]
    assert all(row[head.index("Heard")] for row in rows)
    assert report.data == "sounds: 3 sounds" and len(report.data_sha256) == 64
    assert [e.done for e in job.events if isinstance(e, Progress)] == [1, 2, 3]
    again = Job(tmp_path / "again")
    other = again.report(engine(tmp_path).run(recipe(sounds=str(sounds), listener=str(listener)), again.ctx))
    assert other.measures == report.measures


def test_without_a_listener_and_texts_the_sound_itself_is_measured(tmp_path: Path, sounds: Path) -> None:
    job = Job(tmp_path)
    (sounds / "0.txt").unlink()
    report = job.report(engine(tmp_path).run(recipe(sounds=str(sounds / "0.wav")), job.ctx))
    assert {m.name for m in report.measures} == {"Loudness", "Peak", "Clipped samples", "Silence before",
                                                 "Silence after", "Length", "Pauses", "Share of pauses"}  # fmt: skip


def test_a_cancel_is_heard_between_two_sounds(tmp_path: Path, sounds: Path) -> None:
    job = Job(tmp_path, on_event=lambda event: job.cancelled.set() if isinstance(event, Progress) else None)
    with pytest.raises(JobCancelled):
        engine(tmp_path).run(recipe(sounds=str(sounds)), job.ctx)
    assert len([e for e in job.events if isinstance(e, Progress)]) == 1
    assert list(job.out.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda at: "", BadRecipe),
        (lambda at: str(at / "gone"), BadRecipe),
        (lambda at: str(at), BadRecipe),
        (lambda at: (at / "x.wav").write_bytes(b"RIFF") and str(at), NotRead),
        (lambda at: soundfile.write(at / "x.wav", np.zeros(0), 8000) or str(at), NotRead),
        (lambda at: soundfile.write(at / "x.wav", np.full(99, np.nan), 8000, "FLOAT") or str(at), NotRead),
        (
            lambda at: (
                (soundfile.write(at / "x.wav", np.zeros(9000), 8000), (at / "x.txt").write_bytes(b"\xff\xfe\xfd"))
                and str(at)
            ),
            NotRead,
        ),
    ],
    ids=["nothing", "gone", "no sound", "damaged", "no samples", "no numbers", "text not UTF-8"],
)
def test_bad_sounds_are_a_sentence(tmp_path: Path, make: Any, error: type[StudioError]) -> None:
    at = tmp_path / "bad"
    at.mkdir()
    with pytest.raises(error) as caught:
        engine(tmp_path).run(recipe(sounds=make(at)), Job(tmp_path).ctx)
    assert caught.value.problem.sentence.endswith(".")
