"""Likelihoods: windows, folders against a plain loop, and GGUF files against folders with the same weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from studio.core.problems import ModelBroken, ModelMissing, ModelRefused, StudioError
from studio.core.recipes import Message
from studio.engines.evaluate import perplexity
from studio.engines.evaluate.folder import FolderReader
from studio.engines.evaluate.gguf import GgufReader
from studio.engines.evaluate.reading import stopped
from tests.engines.text import tiny_gguf, tiny_models

torch.set_num_threads(1)
TEXT = tiny_models.TEXT[:700]
NEVER = lambda: None  # noqa: E731


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.model(tmp_path_factory.mktemp("tiny"), "llama", chat=tiny_models.CHAT)


@pytest.fixture(scope="module")
def reader(folder: Path) -> Iterator[FolderReader]:
    made = FolderReader(folder, "Tiny", "cpu", 1)
    yield made
    made.close()


@pytest.mark.parametrize(("length", "window", "skip"), [(1, 8, 0), (2, 8, 1), (8, 8, 1), (9, 8, 1), (100, 8, 1),
                                                         (100, 8, 40), (50, 9, 3), (10, 10, 10)])  # fmt: skip
def test_windows_count_every_token_once_with_half_a_window_before_it(length: int, window: int, skip: int) -> None:
    counted = []
    for begin, end, first in perplexity.windows(length, window, skip):
        assert 0 <= begin < first < end <= length and end - begin <= window
        assert begin == 0 or first - begin >= window - window // 2 - 1
        counted += range(first, end)
    assert counted == list(range(max(1, skip), length))


def plain(folder: Path, ids: list[int], window: int) -> float:
    """The strided loop of the transformers documentation, by its own loss. Nats of all tokens but the first."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    total, before = 0.0, 1
    for begin in range(0, len(ids), window // 2):
        end = min(begin + window, len(ids))
        piece = torch.tensor([ids[begin:end]])
        labels = piece.clone()
        labels[:, : before - begin] = -100
        if end > before:
            with torch.no_grad():
                total += float(model(piece, labels=labels).loss) * (end - before)
        before = max(before, end)
        if end == len(ids):
            break
    return total


@pytest.mark.parametrize("window", [32, 200])
def test_perplexity_of_a_folder_equals_a_plain_loop(folder: Path, reader: FolderReader, window: int) -> None:
    found = perplexity.of_text(reader, TEXT, window, NEVER)
    ids = [*reader.begin, *reader.tokens(TEXT)]
    assert len(reader.begin) == 1 and len(ids) > 200
    assert found is not None
    assert found.nats == pytest.approx(plain(folder, ids, window), rel=1e-5)
    assert (found.tokens, found.bytes, found.characters) == (len(ids) - 1, len(TEXT.encode()), len(TEXT))


def test_figures_per_token_byte_and_character_come_of_the_same_sum() -> None:
    sums = np.array([perplexity.Surprise(100.0, 50, 200, 100).row(), (0.0, 0.0, 0.0, 0.0)])
    assert perplexity.per_token(sums)[0] == pytest.approx(math.exp(2))
    assert perplexity.loss(sums)[0] == pytest.approx(2.0)
    assert perplexity.bits_per_byte(sums)[0] == pytest.approx(0.5 / math.log(2))
    assert perplexity.bits_per_character(sums)[0] == pytest.approx(1.0 / math.log(2))
    assert np.isnan(perplexity.per_token(sums)[1])


def test_of_an_answer_only_its_own_tokens_count(reader: FolderReader) -> None:
    before, _ = reader.chat([Message("user", "What is in the house?")])
    found = perplexity.of_answer(reader, before, "A cat.", 128, NEVER)
    own = reader.tokens("A cat.")
    every = reader.logprobs([*reader.begin, *before, *own], NEVER)
    assert found is not None and found.tokens == len(own)
    assert found.nats == pytest.approx(-every[-len(own) :].sum(), rel=1e-6)
    long = perplexity.of_answer(reader, before * 20, "A cat.", 64, NEVER)
    assert long is not None and long.tokens == len(own), "a question too long loses its beginning, not its answer"


def test_control_tokens_in_a_text_are_read_as_text(reader: FolderReader) -> None:
    assert reader._tokenizer.convert_tokens_to_ids("<eos>") not in reader.tokens("the <eos> end")


# -- GGUF


def same_weights(gguf: Path, folder: Path) -> Path:
    """The tiny GGUF model as a folder that transformers opens."""
    from gguf import GGUFReader
    from transformers import LlamaConfig, LlamaForCausalLM

    found = {t.name: np.array(t.data, dtype=np.float32) for t in GGUFReader(gguf).tensors}
    heads, width = 2, found["output_norm.weight"].shape[0]

    def halves(weight: Any) -> Any:  # llama.cpp turns neighbouring numbers, transformers those half a head apart
        return weight.reshape(heads, width // heads // 2, 2, width).swapaxes(1, 2).reshape(width, width)

    block = "model.layers.0."
    state = {"model.embed_tokens.weight": found["token_embd.weight"], "model.norm.weight": found["output_norm.weight"]}
    state |= {
        f"{block}self_attn.q_proj.weight": halves(found["blk.0.attn_q.weight"]),
        f"{block}self_attn.k_proj.weight": halves(found["blk.0.attn_k.weight"]),
        f"{block}self_attn.v_proj.weight": found["blk.0.attn_v.weight"],
        f"{block}self_attn.o_proj.weight": found["blk.0.attn_output.weight"],
        f"{block}mlp.gate_proj.weight": found["blk.0.ffn_gate.weight"],
        f"{block}mlp.up_proj.weight": found["blk.0.ffn_up.weight"],
        f"{block}mlp.down_proj.weight": found["blk.0.ffn_down.weight"],
        f"{block}input_layernorm.weight": found["blk.0.attn_norm.weight"],
        f"{block}post_attention_layernorm.weight": found["blk.0.ffn_norm.weight"],
    }
    tiny_models.tokenizer(folder)
    config = LlamaConfig(
        vocab_size=len(state["model.embed_tokens.weight"]), hidden_size=width, intermediate_size=64,
        num_hidden_layers=1, num_attention_heads=heads, rms_norm_eps=1e-5, max_position_embeddings=2048,
        tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    lacking, extra = model.load_state_dict({k: torch.tensor(v) for k, v in state.items()}, strict=False)
    assert set(lacking) <= {"lm_head.weight"} and not extra
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GgufReader, FolderReader]]:
    at = tmp_path_factory.mktemp("same")
    gguf = tiny_gguf.write(at / "same.gguf")
    made = GgufReader(gguf, "gguf", 512, 1), FolderReader(same_weights(gguf, at / "folder"), "folder", "cpu", 1)
    yield made
    for each in made:
        each.close()


def test_a_gguf_file_and_a_folder_with_the_same_weights_find_a_text_equally_likely(
    pair: tuple[GgufReader, FolderReader],
) -> None:
    gguf, folder = pair
    ids = [1, *gguf.tokens("the cat heard the thing, and then another: " * 9)]
    assert len(ids) > 2 * 128, "more than two batches"
    ours, theirs = gguf.logprobs(ids, NEVER), folder.logprobs(ids, NEVER)
    assert len(ours) == len(theirs) == len(ids) - 1
    assert ours == pytest.approx(theirs, abs=2e-2)  # llama.cpp keeps what it remembers of a text in 16 bits
    assert ours.sum() == pytest.approx(theirs.sum(), rel=1e-3)
    for first in (2, 128, 129, 200, len(ids) - 1):
        assert gguf.logprobs(ids, NEVER, first) == pytest.approx(ours[first - 1 :], abs=1e-6)
        assert folder.logprobs(ids, NEVER, first) == pytest.approx(theirs[first - 1 :], abs=1e-5)


def test_both_go_on_with_the_likeliest_token(pair: tuple[GgufReader, FolderReader]) -> None:
    gguf, _ = pair
    ids = [1, *gguf.tokens("the cat")]
    text = gguf.write(ids, 5, NEVER)
    scores = {
        token: gguf.logprobs([*ids, token], NEVER, len(ids))[0] for token in range(len(tiny_gguf.vocabulary()))
    }  # fmt: skip
    best = max(scores, key=lambda token: scores[token])
    assert text.startswith(gguf._piece(best).decode())
    assert gguf.write(ids, 5, NEVER) == text


def test_writing_stops_at_a_stop(reader: FolderReader) -> None:
    tokens = [*reader.begin, *reader.tokens("Once upon")]
    text = reader.write(tokens, 12, NEVER)
    assert len(text) > 3
    assert reader.write(tokens, 12, NEVER, [text[2:4]]) == text[: text.find(text[2:4])]
    assert stopped("one two", ["three"]) is None and stopped("one two", ["two", "ne"]) == "o"


def test_the_starter_finds_english_likelier_than_the_same_words_shuffled(starter_path: Path) -> None:
    reader = GgufReader(starter_path, "Gemma", 64, 1)
    try:
        good, bad = (
            perplexity.of_text(reader, text, 64, NEVER)
            for text in ("The capital of France is Paris.", "Paris the of is France capital.")
        )
        assert good is not None and bad is not None
        assert good.nats + 5 < bad.nats
    finally:
        reader.close()


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("config.json", '{"auto_map": {"AutoModel": "evil.py"}}', ModelRefused),
        ("config.json", "[1]", ModelBroken),
        ("config.json", "{", ModelBroken),
        ("other.txt", "", ModelBroken),
    ],
    ids=["own code", "a list", "half", "none"],
)
def test_a_folder_that_is_no_model_is_a_sentence(
    tmp_path: Path, name: str, content: str, error: type[StudioError]
) -> None:  # fmt: skip
    (tmp_path / name).write_text(content)
    with pytest.raises(error) as caught:
        FolderReader(tmp_path, "Odd", "cpu", 1)
    assert caught.value.problem.sentence.endswith(".")


def test_a_gguf_file_that_is_gone_or_broken_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing):
        GgufReader(tmp_path / "gone.gguf", "Gone", 64, 1)
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(30))
    with pytest.raises(ModelBroken):
        GgufReader(tmp_path / "bad.gguf", "Bad", 64, 1)
