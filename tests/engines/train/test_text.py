"""Language models that learn, on models of a few thousand numbers."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from studio.core.cards import ModelCard
from studio.core.events import Event, Held, Tried
from studio.core.learning import Training, TrainTextRecipe
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, BadResult, ModelBroken, ModelMissing, ModelUnfit, NotRead, StudioError
from studio.core.works import Result
from studio.engines.context import JobCancelled, RunContext
from studio.engines.train import checkpoints, text_models
from studio.engines.train import logits as last
from studio.engines.train import text as text_module
from studio.engines.train.checkpoints import Checkpoints
from studio.engines.train.loop import seed_of
from studio.engines.train.text import Sitting, TrainText
from tests.engines.train.worlds import chats, dataset, llama, surroundings, tales

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft of transformers

PLAN = Plan(device="cpu", threads=1)
SMALL: dict[str, Any] = {
    "length": 24,
    "batch": 4,
    "steps": 12,
    "seed": 5,
    "check_every": 4,
    "sample_tokens": 4,
    "patience": 0,
}
SCRATCH: dict[str, Any] = {"method": "scratch", "width": 16, "heads": 2, "layers": 1, "vocabulary": 320}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class World:
    """A home with tales, chats and a small model."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.tales = dataset(home, tales(60), tales(10, seed=9))
        self.chats = dataset(home, chats(40), chats(8, seed=9), "sums-0123456789ab")
        self.base = llama(home)
        self.count = 0

    def context(self, events: list[Event] | None = None, after: int = -1) -> RunContext:
        self.count += 1
        cards = (self.tales, self.chats, self.base)
        return surroundings(self.home, *cards, events=events, after=after, job=f"j{self.count}")

    def recipe(self, **more: Any) -> TrainTextRecipe:
        self.count += 1
        given = {"data": self.tales.id, "model": "tiny", "name": "Mine", "run": f"r{self.count}", **SMALL, **more}
        return TrainTextRecipe(**given)

    def run(self, recipe: TrainTextRecipe, ctx: RunContext | None = None) -> tuple[Result, Training]:
        ctx = ctx or self.context()
        engine = TrainText()
        engine.load(self.base, PLAN, ctx)
        result = engine.run(recipe, ctx)
        return result, msgspec.json.decode((ctx.out_dir / "0.training.json").read_bytes(), type=Training)

    def sitting(self, recipe: TrainTextRecipe, ctx: RunContext | None = None) -> Sitting:
        ctx = ctx or self.context()
        folder = ctx.paths.runs / recipe.run
        return Sitting(recipe, PLAN, ctx, folder, folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("home"))


def numbers(training: Training) -> list[tuple[int, dict[str, float]]]:
    return [(p.step, {k: v for k, v in p.values.items() if k != "speed"}) for p in training.curve]


# -- from scratch


def test_a_model_from_scratch_follows_a_plain_loop_bit_for_bit(tmp_path: Path) -> None:
    """The same windows, a model made anew with the same seed, and torch's own AdamW: the same losses."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    home = World(tmp_path)
    long = dataset(tmp_path, [" ".join(tales(60))], tales(2, seed=9), "book-0123456789ab")
    ctx = surroundings(tmp_path, long)
    recipe = home.recipe(data=long.id, **SCRATCH, decay=0.1, warmup=0.25, schedule="linear")
    sitting = home.sitting(recipe, ctx)
    learned = sitting.learn()

    tokenizer = AutoTokenizer.from_pretrained(sitting.base_path, local_files_only=True)
    text = " ".join(tales(60))
    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    torch.manual_seed(5)
    model = LlamaForCausalLM(sitting.model.config).float().train()
    norms = [p for n, p in model.named_parameters() if p.ndim < 2 or "embed" in n]
    rest = [p for n, p in model.named_parameters() if not (p.ndim < 2 or "embed" in n)]
    groups = [{"params": rest, "weight_decay": 0.1}, {"params": norms, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=True)
    windows = -(-(len(ids) - 1) // 24)
    seen = []
    for step in range(12):
        rows = []
        for at in range(4 * step, 4 * step + 4):
            epoch, place = divmod(at, windows)
            number = int(np.random.default_rng(seed_of(5, epoch)).permutation(windows)[place])
            rows.append(torch.tensor(ids[24 * number : 24 * number + 25]))
        x = torch.nn.utils.rnn.pad_sequence([r[:-1] for r in rows], batch_first=True)
        y = torch.nn.utils.rnn.pad_sequence([r[1:] for r in rows], batch_first=True, padding_value=-100)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * ((step + 1) / 3 if step < 3 else 1 - (step - 3) / 9)
        optimizer.zero_grad()
        logits = model(input_ids=x, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=-100)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen.append(float(loss.detach()))
    assert [p.values["loss"] for p in learned.curve[1:]] == pytest.approx(seen, rel=2e-6)
    last = Checkpoints(sitting.folder).last()
    assert last is not None
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(last[1][f"weight/{name}"], parameter.detach(), rtol=1e-4, atol=1e-6)


def test_what_is_kept_of_one_from_scratch_opens_in_plain_transformers(world: World) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    events: list[Event] = []
    result, training = world.run(world.recipe(**SCRATCH, name="Tall Tales"), world.context(events))
    assert [(a.name, a.role) for a in result.artifacts] == [
        ("0.training.json", "master"), ("0.thumb.webp", "thumbnail")
    ]  # fmt: skip
    (made,) = training.made
    folder = Path(made.path)
    assert folder == world.home / "models" / "trained" / "tall-tales" and made.kind == "model"
    assert "differ by at most 0" in made.checked
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert model.config.model_type == "llama" and len(tokenizer) == model.config.vocab_size
    text = "The miller paints\n\tüber 3 ☀ moons <|end|>"
    ids = tokenizer(text, split_special_tokens=True).input_ids
    assert ids[0] == tokenizer.bos_token_id and tokenizer.decode(ids[1:]) == text
    assert training.after["valid"] < training.before["valid"]
    assert {e.step for e in events if isinstance(e, Tried)} >= {0, 12}
    assert {s.prompt for s in training.samples} == {s.prompt for s in training.samples if s.step == 0}
    assert [p.name for p in (world.home / "runs" / training.run).iterdir()] == ["done.json"], "the rest is not needed"
    card = (folder / "README.md").read_text()
    assert "| loss |" in card and training.data_sha256 in card
    about = json.loads((folder / "studio.json").read_text())
    assert about["method"] == "scratch" and about["metrics"]["after"] == training.after


def test_heads_that_do_not_go_into_the_width_are_refused_beside_the_field(world: World) -> None:
    with pytest.raises(BadRecipe) as caught:
        world.run(world.recipe(**{**SCRATCH, "heads": 3}))
    assert caught.value.problem.field == "width" and "2 heads" in caught.value.problem.hint


# -- adapters and whole models


def test_an_adapter_that_was_trained_here_gives_the_same_logits_in_plain_peft(world: World) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    recipe = world.recipe(rate=1e-2, rank=4, dropout=0.1)
    sitting = world.sitting(recipe)
    learned = sitting.learn()
    ids = torch.tensor([[0, 30, 41, 50, 62, 77]])
    sitting.model.eval()
    with torch.no_grad():
        ours = sitting.model(input_ids=ids).logits
        with sitting.model.disable_adapter():
            bare = sitting.model(input_ids=ids).logits
    made = sitting.finish(learned, TrainText().made_with())
    base = AutoModelForCausalLM.from_pretrained(world.base.path, local_files_only=True)
    plain = PeftModel.from_pretrained(base, made.path)
    with torch.no_grad():
        assert torch.equal(plain(input_ids=ids).logits, ours)
    assert not torch.allclose(ours, bare, atol=0.05), "it learnt something"
    assert sorted(p.name for p in Path(made.path).iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", "studio.json"
    ]  # fmt: skip
    config = json.loads((Path(made.path) / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny" and config["r"] == 4
    assert str(world.home) not in (Path(made.path) / "adapter_config.json").read_text()
    about = json.loads((Path(made.path) / "studio.json").read_text())
    assert about["base"] == "tiny" and len(about["base_sha256"]) == 64 and about["licence"] == "CC0"


def test_an_adapter_of_attention_only_adapts_nothing_else(world: World) -> None:
    sitting = world.sitting(world.recipe(targets="attention"))
    names = [n for n, p in sitting.model.named_parameters() if p.requires_grad]
    assert names and all("self_attn" in name for name in names)
    sitting.close()


def test_a_whole_model_is_kept_in_the_number_format_it_had(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    home = World(tmp_path)
    home.base = llama(tmp_path, "half", dtype="bfloat16")
    _, training = home.run(home.recipe(model="half", method="full", rate=1e-3))
    weights = load_file(Path(training.made[0].path) / "model.safetensors")
    assert {t.dtype for t in weights.values()} == {torch.bfloat16}
    assert training.after["valid"] < training.before["valid"]


def test_names_that_are_taken_are_numbered(world: World) -> None:
    first, second = (world.run(world.recipe(name="Twice", steps=1))[1].made[0].path for _ in range(2))
    assert (Path(first).name, Path(second).name) == ("twice", "twice-2")


def test_a_model_that_differs_when_loaded_back_is_not_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = text_models.loaded_adapter

    def spoiled(*args: Any) -> Any:
        model = real(*args)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.add_(0.1)
        return model

    monkeypatch.setattr(text_models, "loaded_adapter", spoiled)
    with pytest.raises(BadResult):
        world.run(world.recipe(name="Spoiled", steps=2))
    assert not [p for p in (world.home / "models" / "trained").iterdir() if "spoiled" in p.name]


def test_memory_is_saved_without_changing_what_is_learnt(world: World) -> None:
    one, two = (world.run(world.recipe(checkpointing=on, name="Saving"))[1] for on in (False, True))
    for p, q in zip(one.curve, two.curve, strict=True):
        assert p.values.get("loss", 0) == pytest.approx(q.values.get("loss", 0), rel=1e-5)


# -- batches


def test_accumulated_batches_are_one_large_batch(world: World) -> None:
    one = world.run(world.recipe(batch=4, accumulate=1))[1]
    two = world.run(world.recipe(batch=2, accumulate=2))[1]
    for p, q in zip(one.curve[1:], two.curve[1:], strict=True):
        assert p.values["loss"] == pytest.approx(q.values["loss"], rel=1e-4)


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("tied", [True, False])
def test_logits_in_parts_give_the_same_loss_and_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, tied: bool
) -> None:
    home = World(tmp_path)
    home.base = llama(tmp_path, "other", tie_word_embeddings=tied)
    whole = home.sitting(home.recipe(model="other", method=method))
    monkeypatch.setattr(last, "ROOM", 0)
    monkeypatch.setattr(last, "LEAST", 7)
    parted = home.sitting(home.recipe(model="other", method=method))
    found = []
    for sitting in (whole, parted):
        loss = sitting.course.loss(sitting.course.batch(0, 0))
        (loss / 3).backward()
        grads = {n: p.grad for n, p in sitting.model.named_parameters() if p.grad is not None}
        with torch.no_grad():
            found.append((loss.detach(), grads, sitting.course.validate()["valid"]))
    (one, first, looked), (two, second, looked_too) = found
    torch.testing.assert_close(one, two, rtol=1e-6, atol=0)
    assert first.keys() == second.keys() and first
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-5)
    assert looked == pytest.approx(looked_too, rel=1e-6)


def test_a_model_that_does_more_with_its_logits_is_learnt_as_a_whole(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = world.sitting(world.recipe())
    monkeypatch.setattr(last, "ROOM", 0)
    monkeypatch.setattr(last, "LEAST", 7)
    odd = world.sitting(world.recipe())
    monkeypatch.setattr(odd.course, "_tail", lambda hidden: 2 * odd.course._head(hidden))
    one, two = (float(s.course.loss(s.course.batch(0, 0)).detach()) for s in (whole, odd))
    assert one == two


@pytest.mark.parametrize("data", ["tales", "chats"])
def test_rows_that_are_laid_end_to_end_do_not_see_each_other(world: World, data: str) -> None:
    """The loss of a packed batch is the sum of its rows' losses, each alone."""
    card: ModelCard = getattr(world, data)
    packed = world.sitting(world.recipe(data=card.id, length=200, batch=1))
    apart = world.sitting(world.recipe(data=card.id, length=200, batch=1, packing=False))
    with torch.no_grad():
        total = float(packed.course.loss(packed.course.batch(0, 0)))
        (number,) = packed.course.chosen(0, 0)
        start, stop = packed.course._train.span(number)
        rows = apart.course._train
        alone = 0.0
        inside = 0
        for n in range(len(rows)):
            a, b = rows.span(n)
            if start <= a and b <= stop:
                inside += 1
                alone += float(apart.course.loss(apart.course._laid(rows, [n])))
            elif a < stop and start < b:  # a part of a row at an edge
                ids, learnt, _ = (each[max(start - a, 0) : stop - a] for each in rows.window(n))
                x = torch.from_numpy(ids[:-1])[None]
                y = torch.from_numpy(np.where(learnt[1:], ids[1:], -100))[None]
                alone += float(
                    apart.course.loss({"input_ids": x, "labels": y, "position_ids": torch.arange(x.shape[1])[None]})
                )
    assert inside > 1
    assert total == pytest.approx(alone, rel=1e-4)
    packed.close()
    apart.close()


@pytest.mark.parametrize(("data", "packing"), [("tales", True), ("tales", False), ("chats", True), ("chats", False)])
def test_every_token_is_a_label_once(world: World, data: str, packing: bool) -> None:
    card: ModelCard = getattr(world, data)
    sitting = world.sitting(world.recipe(data=card.id, length=16, packing=packing, answers_only=False))
    windows = sitting.course._train
    seen: list[int] = []
    for number in range(len(windows)):
        start, stop = windows.span(number)
        assert stop - start <= 17
        seen += [at for at in range(start + 1, stop) if windows.corpus.learnt[at]]
    assert sorted(seen) == list(np.flatnonzero(windows.corpus.learnt))
    epoch = [n for step in range(len(windows) // 4) for n in sitting.course.chosen(step, 0)]
    assert len(set(epoch)) == len(epoch), "each window once in an epoch"
    sitting.close()


# -- conversations


@pytest.mark.parametrize("template", [True, False], ids=["its own template", "a plain layout"])
def test_only_answers_are_learnt(tmp_path: Path, template: bool) -> None:
    from transformers import AutoTokenizer

    from studio.engines.train.tokens import TEMPLATE, Tokens, new_tokenizer

    new_tokenizer(iter(tales(50)), 320, tmp_path, chat=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert tokenizer.chat_template == TEMPLATE
    if not template:
        tokenizer.chat_template = None
    said = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Who sings? "},
        {"role": "assistant", "content": "The cat."},
        {"role": "user", "content": "To whom?"},
        {"role": "assistant", "content": "The moon."},
    ]
    tokens = Tokens(tokenizer)
    row = tokens.chat(said)
    text = tokenizer.decode(row.ids)
    learnt = tokenizer.decode([i for i, wanted in zip(row.ids, row.learnt, strict=True) if wanted])
    if template:
        assert text == (
            "<|begin|><|system|>Be short.<|user|>Who sings?<|assistant|>The cat.<|end|>"
            "<|user|>To whom?<|assistant|>The moon.<|end|>"
        )
        assert learnt == "The cat.<|end|>The moon.<|end|>"
    else:
        assert text == (
            "<|begin|>Be short.\n\nUser: Who sings?\n\nAssistant: The cat."
            "\n\nUser: To whom?\n\nAssistant: The moon.<|end|>"
        )
        assert learnt == " The cat.\n\nUser: The moon.<|end|>", "what ends an answer is learnt with it"
    prompt = tokens.prompt(said[:4])
    assert row.ids[: len(prompt)] == prompt, "it is asked as it was taught"
    tokens.close()
    whole = Tokens(tokenizer, answers_only=False)
    everything = whole.chat(said)
    assert everything.ids == row.ids and everything.learnt == [False] + [True] * (len(row.ids) - 1)
    whole.close()


def test_a_conversation_that_a_template_refuses_is_left_out_and_told(tmp_path: Path) -> None:
    home = World(tmp_path)
    config = json.loads((Path(home.base.path) / "tokenizer_config.json").read_text())
    config["chat_template"] = (
        "{% for m in messages %}"
        "{% if m['role'] == 'system' and loop.index0 > 0 %}{{ raise_exception('no') }}{% endif %}"
        "{{ m['content'] }}{% endfor %}"
    )
    (Path(home.base.path) / "tokenizer_config.json").write_text(json.dumps(config))
    odd = [*chats(1)[0], {"role": "system", "content": "x"}]
    home.chats = dataset(tmp_path, [*chats(10), odd], chats(3, seed=2), "odd-0123456789ab")
    result, _ = home.run(home.recipe(data=home.chats.id, steps=2))
    assert "1 rows were left out: they have nothing that could be learnt." in result.notes


# -- going on, being stopped, and what can go wrong

CHILD = """
import os, signal, sys
from pathlib import Path
import msgspec, torch
from studio.core.learning import TrainTextRecipe
from studio.core.plans import Plan
from studio.engines.train import text
from tests.engines.train.worlds import surroundings
from studio.core.cards import ModelCard
home = Path(sys.argv[1])
recipe = msgspec.json.decode(sys.argv[2], type=TrainTextRecipe)
cards = msgspec.json.decode(sys.argv[3], type=list[ModelCard])
real = text.learn
def learn(course, rules, ctx, kept, looked=None, **more):
    rules = msgspec.structs.replace(rules, keep_every=3)
    kill = lambda step, _: step == 8 and os.kill(os.getpid(), signal.SIGKILL)
    return real(course, rules, ctx, kept, looked=kill, **more)
text.learn = learn
engine = text.TrainText()
ctx = surroundings(home, *cards, job="killed")
engine.load(cards[0], Plan(device="cpu", threads=1), ctx)
engine.run(recipe, ctx)
"""


@pytest.mark.parametrize("method", ["scratch", "lora"])
def test_a_training_that_was_killed_gives_the_same_losses_and_weights(world: World, method: str) -> None:
    more = {**SCRATCH, "method": method, "dropout": 0.1, "rate": 1e-3}
    _, whole = world.run(world.recipe(**more))
    recipe = world.recipe(**more)
    cards = msgspec.json.encode([world.tales, world.base]).decode()
    killed = subprocess.run(
        [sys.executable, "-c", CHILD, str(world.home), msgspec.json.encode(recipe).decode(), cards],
        cwd=Path(__file__).parents[3], capture_output=True, text=True,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    last = Checkpoints(world.home / "runs" / recipe.run).last()
    assert last is not None and last[0].step == 6
    _, training = world.run(recipe)
    assert numbers(training) == numbers(whole)
    assert training.samples == whole.samples
    assert training.made[0].sha256 == whole.made[0].sha256, "the weights are the same, bit for bit"


def test_a_cancelled_training_goes_on_from_there(world: World) -> None:
    _, whole = world.run(world.recipe())
    recipe = world.recipe()
    with pytest.raises(JobCancelled):
        world.run(recipe, world.context(after=5))
    _, training = world.run(recipe)
    assert numbers(training) == numbers(whole)
    assert any("Goes on from step 5" in note for note in training.notes)


def test_a_training_that_has_ended_is_not_made_twice(world: World) -> None:
    recipe = world.recipe(name="Once", steps=2)
    _, first = world.run(recipe)
    _, again = world.run(recipe)
    assert again == first
    assert [p.name for p in (world.home / "models" / "trained").iterdir() if p.name.startswith("once")] == ["once"]


def test_a_model_that_was_named_before_a_kill_is_not_named_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = world.recipe(name="Named", steps=2)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(text_module, "training_of", killed)
        with pytest.raises(KeyboardInterrupt):
            world.run(recipe)
    assert (world.home / "models" / "trained" / "named").is_dir()
    _, training = world.run(recipe)
    assert Path(training.made[0].path).name == "named"
    assert [p.name for p in (world.home / "models" / "trained").iterdir() if "named" in p.name] == ["named"]


def test_it_stops_early(world: World) -> None:
    _, training = world.run(world.recipe(rate=0.5, steps=60, check_every=1, patience=2, schedule="constant"))
    assert training.steps < training.planned == 60 and "Stopped early" in training.why


def test_a_loss_that_is_no_number_is_a_sentence_and_leaves_nothing_half(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    home = World(tmp_path)
    path = Path(home.base.path) / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(BadResult) as caught:
        home.run(home.recipe())
    assert "was not a number" in caught.value.problem.sentence
    assert not (tmp_path / "models" / "trained").exists()


def test_a_full_disk_at_the_end_is_waited_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real, tries = text_models.save_adapter, []

    def save(model: Any, folder: Path) -> None:
        tries.append(folder)
        if len(tries) == 1:
            (folder / "half").write_text("x")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(model, folder)

    monkeypatch.setattr(text_models, "save_adapter", save)
    monkeypatch.setattr(checkpoints, "ROOM_SECONDS", 0.01)
    events: list[Event] = []
    _, training = world.run(world.recipe(name="Patient", steps=2), world.context(events))
    assert len(tries) == 2 and [e for e in events if isinstance(e, Held)]
    assert sorted(p.name for p in Path(training.made[0].path).iterdir())[0] == "README.md"


def test_an_estimate_is_told_and_nothing_is_kept(world: World) -> None:
    recipe = world.recipe(plan_only=True, steps=1000)
    ctx = world.context()
    engine = TrainText()
    engine.load(world.base, PLAN, ctx)
    result = engine.run(recipe, ctx)
    (artifact,) = result.artifacts
    assert artifact.meta["steps"] == 1000 and artifact.meta["seconds"] > 0 and artifact.meta["bytes"] > 1e6
    assert 1000 * 4 * 10 < artifact.meta["tokens"] <= 1000 * 4 * 24
    assert not (world.home / "runs" / recipe.run).exists()
    assert sorted(p.name for p in ctx.out_dir.iterdir() if p.is_dir()) == []


def test_epochs_decide_the_steps(world: World) -> None:
    once, twice = (world.sitting(world.recipe(steps=0, epochs=n)) for n in (1.0, 2.0))
    assert once.rules.steps == -(-len(once.course._train) // 4)
    assert twice.rules.steps == -(-2 * len(once.course._train) // 4)
    once.close()
    twice.close()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"data": "none"}, ModelMissing, "none"),
        ({"model": "none"}, ModelMissing, "none"),
        ({"length": 10_000}, ModelUnfit, "at most 256 tokens"),
        ({"run": "../x"}, BadRecipe, "name of a run"),
        ({"method": "qlora"}, ModelUnfit, "QLoRA needs"),
    ],
)
def test_what_cannot_be_is_a_sentence(
    world: World, change: dict[str, Any], error: type[StudioError], words: str
) -> None:
    if change.get("method") == "qlora" and torch.cuda.is_available():
        pytest.skip("this computer can do it")
    with pytest.raises(error) as caught:
        world.run(world.recipe(**change))
    assert words in caught.value.problem.sentence and caught.value.problem.sentence.endswith(".")


def test_data_that_teach_nothing_or_are_damaged_are_a_sentence(tmp_path: Path) -> None:
    home = World(tmp_path)
    questions = [[{"role": "user", "content": "And?"}]] * 3
    home.tales = dataset(tmp_path, questions, [], "asked-0123456789ab")
    with pytest.raises(BadRecipe) as caught:
        home.run(home.recipe(data=home.tales.id))
    assert "nothing that could be learnt" in caught.value.problem.sentence
    home.tales = dataset(tmp_path, tales(3), [], "bad-0123456789ab")
    with open(Path(home.tales.path) / "train.jsonl", "a") as stream:
        stream.write('{"text": "cut off')
    with pytest.raises(NotRead) as unread:
        home.run(home.recipe(data=home.tales.id))
    assert "Line 4 of “train.jsonl”" in unread.value.problem.sentence


def test_without_rows_for_validation_the_last_weights_are_kept_and_that_is_told(tmp_path: Path) -> None:
    home = World(tmp_path)
    home.tales = dataset(tmp_path, tales(20), [], "whole-0123456789ab")
    result, training = home.run(home.recipe(data=home.tales.id))
    assert training.best_step == training.steps == 12 and training.after == {}
    assert any("no rows for validation" in note for note in result.notes)


def test_a_row_of_many_megabytes_is_learnt_in_pieces(tmp_path: Path) -> None:
    home = World(tmp_path)
    home.tales = dataset(tmp_path, ["x" * 600_000 + " y"], tales(2), "long-0123456789ab")
    _, training = home.run(home.recipe(data=home.tales.id, steps=1))
    assert training.steps == 1


def test_a_gguf_is_turned_into_safetensors_once_and_is_the_same_model(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from studio.engines.train import gguf_export

    home = World(tmp_path)
    was, file = Path(home.base.path), tmp_path / "little.gguf"
    gguf_export.export(was, file, "Little", "float32", lambda: None)
    home.base = ModelCard(id="little", name="Little", kind="text", engine="text.llama", path=str(file), format="gguf")
    result, training = home.run(home.recipe(model="little", steps=2))
    assert training.base == "little" and [n for n in result.notes if "Little" in n] == [
        "“Little” is made ready for learning. This takes a minute or two, and only once."
    ]
    (folder,) = (tmp_path / "models" / "converted").iterdir()
    assert json.loads((folder / "studio.json").read_text())["name"] == "Little (safetensors)"
    ids = torch.tensor([AutoTokenizer.from_pretrained(folder, local_files_only=True)("The old king").input_ids])
    assert ids[0].tolist() == AutoTokenizer.from_pretrained(was, local_files_only=True)("The old king").input_ids
    one, two = (AutoModelForCausalLM.from_pretrained(each, local_files_only=True).eval() for each in (was, folder))
    with torch.no_grad():
        torch.testing.assert_close(one(input_ids=ids).logits, two(input_ids=ids).logits, rtol=1e-4, atol=1e-4)

    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    result, _ = home.run(home.recipe(model="little", steps=2))
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp
    assert not any("made ready" in note for note in result.notes)


def test_a_gguf_that_would_become_another_model_is_refused(tmp_path: Path) -> None:
    """One that leaves out how many heads its keys have: transformers then lays its weights out wrongly."""
    from tests.engines.text import tiny_gguf

    home = World(tmp_path)
    file = tiny_gguf.write(tmp_path / "other.gguf")
    home.base = ModelCard(id="other", name="Other", kind="text", engine="text.llama", path=str(file), format="gguf")
    with pytest.raises(ModelUnfit) as caught:
        home.run(home.recipe(model="other"))
    assert "becomes another model" in caught.value.problem.sentence
    assert not list((tmp_path / "models" / "converted").iterdir())


def test_a_gguf_that_is_damaged_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    home = World(tmp_path)
    file = tmp_path / "bad.gguf"
    file.write_bytes(b"GGUF" + bytes(39))
    home.base = ModelCard(id="bad", name="Bad", kind="text", engine="text.llama", path=str(file), format="gguf")
    with pytest.raises(ModelBroken) as caught:
        home.run(home.recipe(model="bad"))
    assert "“Bad” cannot be read" in caught.value.problem.sentence
    assert not (tmp_path / "models" / "converted").exists()
