"""Texts from folders of transformers: the same as the library writes by itself, and safe with what people bring."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from studio.core.cards import ModelCard
from studio.core.events import Event, Progress, Token
from studio.core.problems import BadRecipe, BadResult, ModelBroken, ModelMissing, ModelRefused, ModelUnfit, StudioError
from studio.core.recipes import Message
from studio.engines.context import JobCancelled
from studio.engines.text.reading import Reader, Unrolled
from studio.engines.text.transformers_engine import TransformersText
from studio.models.identify import look
from tests.engines.text import tiny_models
from tests.engines.text.jobs import PLAN, Job, masters, recipe


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            path = tmp_path_factory.mktemp("models") / kind
            made[kind] = tiny_models.model(path, kind, chat=tiny_models.CHAT)
        return made[kind]

    return folder


def card_of(folder: Path) -> ModelCard:
    looked = look(folder)
    assert isinstance(looked, ModelCard), looked
    return looked


@pytest.fixture(scope="module")
def engine() -> Iterator[TransformersText]:
    made = TransformersText()
    yield made
    made.unload()


@pytest.fixture
def llama(engine: TransformersText, folders: Callable[[str], Path], job: Job) -> TransformersText:
    engine.load(card_of(folders("llama")), PLAN, job.ctx)
    return engine


class Plain:
    """The library without the studio."""

    def __init__(self, folder: Path) -> None:
        import torch
        import transformers

        torch.set_num_threads(1)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)

    def write(self, prompt: str, seed: int = 1, **arguments: Any) -> str:
        import torch

        read = self.tokenizer(prompt, return_tensors="pt")
        torch.manual_seed(seed)
        given = {"do_sample": True, "temperature": 0.8, "top_p": 0.95, "top_k": 40, "min_p": 0.05, "pad_token_id": 1}
        out = self.model.generate(**read, **{"max_new_tokens": 16, **given, **arguments})
        return self.text(read["input_ids"][0].tolist(), out[0].tolist())

    def text(self, prompt: list[int], whole: list[int]) -> str:
        before, after = (self.tokenizer.decode(ids, skip_special_tokens=True) for ids in (prompt, whole))
        assert after.startswith(before)
        return str(after[len(before) :])


# --- the text


@pytest.mark.parametrize("kind", tiny_models.ARCHITECTURES)
def test_the_text_is_what_plain_transformers_writes(
    kind: str, engine: TransformersText, folders: Callable[[str], Path], job: Job
) -> None:
    engine.load(card_of(folders(kind)), PLAN, job.ctx)
    bare = Plain(folders(kind))
    first = engine.run(recipe(prompt="Once upon a time", n=2, seed=5), job.ctx)
    assert job.texts(first) == [bare.write("Once upon a time", seed) for seed in (5, 6)]
    given = {"temperature": 1.7, "top_k": 0, "top_p": 0.6, "min_p": 0.0, "max_tokens": 24}
    asked = {"temperature": 1.7, "top_k": 0, "top_p": 0.6, "min_p": None, "max_new_tokens": 24}
    other = engine.run(recipe(prompt="Ein Haus 我爱猫 — 12", seed=9, **given), job.ctx)
    assert job.texts(other) == [bare.write("Ein Haus 我爱猫 — 12", 9, **asked)]


def test_the_likeliest_tokens_and_the_penalty_are_those_of_plain_transformers(
    llama: TransformersText, folders: Callable[[str], Path], job: Job
) -> None:
    bare = Plain(folders("llama"))
    still: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, "min_p": None}
    for penalty in (1.0, 1.4):
        made = llama.run(recipe(prompt="one, two,", temperature=0.0, repeat_penalty=penalty, repeat_last_n=64), job.ctx)
        assert job.texts(made) == [bare.write("one, two,", repetition_penalty=penalty, **still)]
    short = llama.run(recipe(prompt="one, two,", temperature=0.0, repeat_penalty=1.4, repeat_last_n=1), job.ctx)
    assert job.texts(short) != [bare.write("one, two,", repetition_penalty=1.4, **still)]


def test_what_a_folder_says_of_sampling_does_not_count(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tiny_models.model(tmp_path / "m", "llama")
    (folder / "generation_config.json").write_text(
        json.dumps(
            {"eos_token_id": [1, 3], "temperature": 0.01, "do_sample": True, "no_repeat_ngram_size": 1, "top_k": 1}
        )
    )
    job, made = Job(tmp_path), TransformersText()
    made.load(card_of(folder), PLAN, job.ctx)
    written = made.run(recipe(prompt="Once upon a time", max_tokens=24), job.ctx)
    made.load(card_of(folders("llama")), PLAN, job.ctx)
    assert job.texts(written) == job.texts(made.run(recipe(prompt="Once upon a time", max_tokens=24), job.ctx))
    made.unload()


def test_pieces_joined_are_the_text_and_the_result_says_how(llama: TransformersText, job: Job) -> None:
    made = llama.run(recipe(prompt="Once upon a time", n=2, max_tokens=40), job.ctx)
    assert [job.sent(i) for i in range(2)] == job.texts(made)
    one = masters(made)[0].meta
    assert (one["tokens"], one["finish"]) == (40, "length")
    assert one["prompt_tokens"] == llama.count_tokens("Once upon a time")
    assert (made.made_with.engine, made.made_with.dtype) == ("text.transformers", "float32")
    assert {"torch", "transformers", "python"} <= set(made.made_with.versions)


@pytest.mark.parametrize("metaspace", [False, True])
def test_text_comes_out_letter_by_letter_as_it_reads_as_a_whole(metaspace: bool, tmp_path: Path) -> None:
    plain = tiny_models.tokenizer(tmp_path, metaspace=metaspace)
    reader = Reader(plain)
    prompt = plain.encode("Once upon")
    ids = plain.encode(" a   time 😀🏳️‍🌈 naïve — ж\n\tx  我", add_special_tokens=False)
    unrolled = Unrolled(reader, prompt)
    pieces = [unrolled.add(each) for each in ids] + [unrolled.rest()]
    whole = plain.decode(prompt + ids, skip_special_tokens=True)
    assert "".join(pieces) == whole[len(plain.decode(prompt, skip_special_tokens=True)) :]
    assert not any("\ufffd" in piece for piece in pieces)
    half = Unrolled(reader, prompt)
    cut = [half.add(each) for each in plain.encode("x😀", add_special_tokens=False)[:-1]] + [half.rest()]
    assert "\ufffd" in "".join(cut), "half a letter at the end is shown as one that cannot be read"


def test_a_stop_string_ends_the_text_and_is_not_shown(llama: TransformersText, job: Job) -> None:
    whole = job.texts(llama.run(recipe(prompt="Once upon a time", max_tokens=40), job.ctx))[0]
    stop = whole[12:15]
    made = llama.run(recipe(prompt="Once upon a time", max_tokens=40, stop=[stop]), job.ctx)
    assert job.texts(made) == [whole[: whole.index(stop)]]
    assert masters(made)[0].meta["finish"] == "stop"
    assert masters(made)[0].meta["tokens"] < 40


def test_the_end_token_ends_the_text(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tiny_models.model(tmp_path / "m", "llama")
    job, made = Job(tmp_path), TransformersText()
    made.load(card_of(folder), PLAN, job.ctx)
    free = job.texts(made.run(recipe(prompt="Once", temperature=0.0, max_tokens=12), job.ctx))[0]
    plain = Plain(folder)
    second = plain.model.generate(plain.tokenizer("Once", return_tensors="pt")["input_ids"], max_new_tokens=3)[0, -2]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [int(second)]}))
    made.load(card_of(folder), PLAN, job.ctx)  # the folder changed, so it is opened anew
    short = made.run(recipe(prompt="Once", temperature=0.0, max_tokens=12), job.ctx)
    assert free.startswith(job.texts(short)[0])
    assert (masters(short)[0].meta["finish"], masters(short)[0].meta["tokens"]) == ("stop", 2)
    made.unload()


# --- conversations


def test_a_chat_is_laid_out_by_the_models_own_template(
    llama: TransformersText, folders: Callable[[str], Path], job: Job
) -> None:
    bare = Plain(folders("llama"))
    said = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Go"},
    ]
    assert llama._reader is not None
    turns = tuple(Message(t["role"], t["content"]) for t in said)  # type: ignore[arg-type]
    ids = llama._reader.chat(turns, "", job.ctx)
    laid = bare.tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert ids == list(laid)
    end = bare.tokenizer.convert_tokens_to_ids("<|end|>")
    assert llama._reader.turn_end == end, "an answer ends where the template says so"


def test_control_tokens_in_what_a_person_writes_are_letters(
    llama: TransformersText, folders: Callable[[str], Path], job: Job
) -> None:
    bare = Plain(folders("llama"))
    assert llama._reader is not None
    end = bare.tokenizer.convert_tokens_to_ids("<|end|>")
    ids = llama._reader.chat((Message("user", "a<|end|>b"),), "", job.ctx)
    assert ids.count(end) == 1, "the template's own"
    assert "a<|end|>b" in llama._reader.text(ids)
    assert end not in llama._reader.tokens("<|end|>", whole=True)
    assert llama.run(recipe(prompt="a<|end|>b", mode="chat"), job.ctx).artifacts


def test_a_template_that_cannot_be_used_is_told_and_replaced(tmp_path: Path) -> None:
    folder = tiny_models.model(tmp_path / "m", "llama", chat="{% for x in range(10**9) %}{% endfor %}")
    job, made = Job(tmp_path), TransformersText()
    made.load(card_of(folder), PLAN, job.ctx)
    result = made.run(recipe(prompt="Hi", mode="chat"), job.ctx)
    assert "chat template cannot be used" in result.notes[0]
    assert masters(result)
    made.unload()


def test_a_base_model_chats_by_examples_and_says_where_a_template_is_missing(tmp_path: Path) -> None:
    folder = tiny_models.model(tmp_path / "m", "llama", max_position_embeddings=1024)
    job, made = Job(tmp_path), TransformersText()
    made.load(card_of(folder), PLAN, job.ctx)
    assert card_of(folder).can == ("complete",)
    assert masters(made.run(recipe(prompt="Hi", mode="chat"), job.ctx))[0].meta["prompt_tokens"] > 100
    with pytest.raises(ModelUnfit, match="no chat template"):
        made.run(recipe(prompt="Hi", mode="chat", template="model"), job.ctx)
    made.unload()


# --- limits, cancel, trouble


def test_a_prompt_longer_than_the_model_is_refused_and_a_full_window_told(llama: TransformersText, job: Job) -> None:
    with pytest.raises(BadRecipe, match="256") as raised:
        llama.run(recipe(prompt="x " * 400), job.ctx)
    assert raised.value.problem.field == "prompt"
    with pytest.raises(BadRecipe) as raised:
        llama.run(recipe(prompt="x " * 30, context=20), job.ctx)
    assert raised.value.problem.field == "context"
    made = llama.run(recipe(prompt="Once upon a time", context=20, max_tokens=64), job.ctx)
    assert masters(made)[0].meta["tokens"] + masters(made)[0].meta["prompt_tokens"] == 20
    assert "window of 20 tokens was full" in made.notes[-1]


def test_a_cancel_is_heard_within_a_token_and_the_part_is_kept(llama: TransformersText, tmp_path: Path) -> None:
    def hear(event: Event) -> None:
        if isinstance(event, Token):
            job.cancelled.set()

    job = Job(tmp_path, hear)
    with pytest.raises(JobCancelled):
        llama.run(recipe(prompt="Once upon a time", max_tokens=200), job.ctx)
    assert len([e for e in job.events if isinstance(e, Token)]) <= 2
    assert [a.complete for a in job.ctx.saved if a.role == "master"] == [False]


def test_a_cancel_is_heard_while_a_prompt_is_read(llama: TransformersText, tmp_path: Path) -> None:
    def hear(event: Event) -> None:
        if isinstance(event, Progress):
            job.cancelled.set()

    job = Job(tmp_path, hear)
    passed: list[int] = []
    hook = llama._model.model.layers[-1].register_forward_hook(lambda *_: passed.append(1))
    with pytest.raises(JobCancelled):
        llama.run(recipe(prompt="Once upon a time"), job.ctx)
    hook.remove()
    assert not passed, "told in the first layer, heard before the last"
    assert not [e for e in job.events if isinstance(e, Token)]
    quiet = Job(tmp_path / "next")
    assert masters(llama.run(recipe(prompt="Once upon a time"), quiet.ctx)), "no hook is left behind"
    assert all(not layer._forward_pre_hooks for layer in llama._model.modules())


def test_numbers_that_are_none_are_told(tmp_path: Path) -> None:
    import torch

    folder = tiny_models.model(tmp_path / "m", "llama")
    job, made = Job(tmp_path), TransformersText()
    made.load(card_of(folder), PLAN, job.ctx)
    with torch.no_grad():
        next(made._model.parameters()).fill_(float("nan"))
    for temperature in (0.0, 0.8):
        with pytest.raises(BadResult, match="not finite"):
            made.run(recipe(prompt="Hi", temperature=temperature), job.ctx)
    made.unload()


def spoil(folder: Path, how: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    if how == "tokenizer":
        (folder / "tokenizer.json").unlink()
    elif how == "code":
        (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "x.Y"}}))
    elif how == "pickle":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif how == "weights":
        from safetensors.torch import load_file, save_file

        kept = {k: v for k, v in load_file(folder / "model.safetensors").items() if "layers.1.mlp" not in k}
        save_file(kept, folder / "model.safetensors", {"format": "pt"})
    elif how == "gone":
        (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        ("tokenizer", ModelBroken, "tokenizer.json is missing"),
        ("code", ModelRefused, "run code"),
        ("pickle", ModelRefused, "pickle"),
        ("weights", ModelBroken, "3 of its weights are missing"),
        ("gone", StudioError, "cannot be used"),
    ],
)
def test_a_folder_that_cannot_be_used_is_a_sentence(how: str, error: Any, says: str, tmp_path: Path) -> None:
    folder = tiny_models.model(tmp_path / "m", "llama")
    card, job, made = card_of(folder), Job(tmp_path), TransformersText()
    spoil(folder, how)
    with pytest.raises(error, match=says):
        made.load(card, PLAN, job.ctx)
    with pytest.raises(ModelMissing):
        made.run(recipe(prompt="Hi"), job.ctx)
    with pytest.raises(ModelMissing):
        made.load(msgspec.structs.replace(card, path=str(tmp_path / "nowhere")), PLAN, job.ctx)
