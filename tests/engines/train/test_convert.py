"""Models written anew: merged LoRAs act as before, a GGUF file reads and writes as its model, and both are tried."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from studio.core.cards import ModelCard
from studio.core.learning import Training
from studio.core.paths import Paths
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, BadResult, ModelUnfit
from studio.core.recipes import check
from studio.engines.context import JobCancelled, RunContext
from studio.engines.text import adapters
from studio.engines.train import gguf_export
from studio.engines.train.convert import Convert
from studio.models.identify import look
from tests.engines.text import tiny_models
from tests.engines.text.jobs import Job
from tests.engines.text.test_adapters import by_hand, logits

PLAN = Plan(device="cpu", threads=1)


def card_of(path: Path) -> ModelCard:
    looked = look(path)
    assert isinstance(looked, ModelCard), looked
    return looked


class Bench:
    """A home with a model and two LoRAs."""

    def __init__(self, folder: Path, kind: str = "llama", **more: Any) -> None:
        self.paths = Paths(folder / "home")
        self.paths.make()
        self.folder = folder
        self.base = card_of(tiny_models.model(folder / "base", kind, **more))
        self.cards = {self.base.id: self.base}
        self.jobs = 0

    def lora(self, name: str, **more: Any) -> str:
        card = card_of(tiny_models.lora(self.folder / name, Path(self.base.path), **more))
        self.cards[card.id] = card
        return card.id

    def job(self) -> Job:
        self.jobs += 1
        job = Job(self.folder / f"job{self.jobs}")
        job.ctx = RunContext(
            f"j{self.jobs}", job.out, self.folder / "cache", job._emit, job.cancelled, cards=self.cards,
            paths=self.paths,
        )  # fmt: skip
        return job

    def run(self, **given: Any) -> Training:
        engine, job = Convert(), self.job()
        engine.load(self.base, PLAN, job.ctx)
        recipe = check("convert", {"model": self.base.id, "name": "made", **given}).recipe
        result = engine.run(recipe, job.ctx)
        assert [a.role for a in result.artifacts] == ["master", "thumbnail"]
        return msgspec.json.decode((job.out / "0.training.json").read_bytes(), type=Training)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_merged_loras_act_as_they_did_over_the_model(bench: Bench) -> None:
    import torch

    one = bench.lora("one", seed=3)
    two = bench.lora("two", seed=4, rank=2, target_modules=["q_proj", "up_proj"])
    made = bench.run(to="safetensors", loras=[{"model": one, "weight": 0.5}, {"model": two, "weight": -1.0}]).made[0]
    written = card_of(Path(made.path))
    assert (written.kind, written.name, written.base) == ("text", "made", bench.base.base)
    assert "logits differ by at most" in made.checked
    assert not any(note.startswith("studio.json") for note in written.notes)
    weights = {Path(bench.cards[one].path): 0.5, Path(bench.cards[two].path): -1.0}
    wanted = by_hand(Path(bench.base.path), weights)
    assert torch.allclose(logits(Path(made.path)), wanted, atol=2e-4)
    assert not torch.allclose(logits(Path(bench.base.path)), wanted, atol=1e-2)
    told = json.loads((Path(made.path) / "studio.json").read_bytes())
    assert [lora["weight"] for lora in told["loras"]] == [0.5, -1.0]
    assert not list(bench.paths.trained.glob(".*"))


@pytest.mark.parametrize("kind", tiny_models.ARCHITECTURES)
def test_a_gguf_file_acts_as_its_model(kind: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, kind, chat=tiny_models.CHAT)
    made = bench.run(loras=[{"model": bench.lora("one")}]).made[0]
    file = next(Path(made.path).glob("*.gguf"))
    written = card_of(file)
    assert (written.engine, written.base, written.can) == ("text.llama", bench.base.base, ("complete", "chat"))
    assert (made.kind, made.bytes > file.stat().st_size, len(made.sha256)) == ("gguf", True, 64)
    assert "Loaded back with llama.cpp" in made.checked
    assert sorted(p.name for p in Path(made.path).iterdir()) == ["README.md", "made.gguf", "made.gguf.studio.json"]
    assert look(Path(made.path)) == written


@pytest.mark.parametrize("type_", ["float32", "bfloat16", "q8_0"])
def test_numbers_are_kept_as_asked(type_: str, bench: Bench) -> None:
    made = bench.run(type=type_).made[0]
    name = {"float32": "F32", "bfloat16": "BF16", "q8_0": "Q8_0"}[type_]
    assert any(name in note for note in card_of(next(Path(made.path).glob("*.gguf"))).notes)


def test_a_tokenizer_that_marks_words_is_read_alike(tmp_path: Path) -> None:
    assert "tokens read alike" in Bench(tmp_path, metaspace=True).run().made[0].checked


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}, "gpt-2"),
        ({"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}, None),
        ({"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}, None),
        (
            [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "use_regex": True}],
            "smollm",
        ),
        (
            [
                {"type": "Split", "pattern": {"Regex": r"\w+"}, "behavior": "Isolated"},
                {"type": "ByteLevel", "use_regex": False},
            ],
            None,
        ),
    ],
)
def test_how_words_are_cut_is_told_from_the_parts_of_a_tokenizer(parts: Any, named: str | None) -> None:
    whole = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": parts} if isinstance(parts, list) else parts}
    if named is None:
        with pytest.raises(ModelUnfit, match="cuts words"):
            gguf_export._cutting(whole, "x")
    else:
        assert gguf_export._cutting(whole, "x") == named


Spoiler = Callable[[pytest.MonkeyPatch], None]


def other_tokens(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gguf_export, "_cutting", lambda written, name: "qwen2")


def other_numbers(patch: pytest.MonkeyPatch) -> None:
    plain = gguf_export.export

    def spoilt(folder: Path, target: Path, *more: Any) -> None:
        plain(folder, target, *more)
        data = bytearray(target.read_bytes())
        data[-2_000:-1_000] = bytes(1_000)
        target.write_bytes(data)

    patch.setattr(gguf_export, "export", spoilt)


@pytest.mark.parametrize(("spoil", "says"), [(other_tokens, "reads texts otherwise"), (other_numbers, "does not act")])
def test_a_file_that_acts_otherwise_is_not_kept(
    spoil: Spoiler, says: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch)
    with pytest.raises(BadResult, match=says):
        bench.run()
    assert list(bench.paths.trained.iterdir()) == []


def test_a_merge_that_acts_otherwise_is_not_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "merge", adapters._unwrap)
    with pytest.raises(BadResult, match="does not act like the model"):
        bench.run(to="safetensors", loras=[{"model": bench.lora("one")}])
    assert list(bench.paths.trained.iterdir()) == []


def test_a_cancel_leaves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job, engine = bench.job(), Convert()
    plain = gguf_export.export

    def cancelled(*given: Any) -> None:
        job.cancelled.set()
        plain(*given)

    monkeypatch.setattr(gguf_export, "export", cancelled)
    with pytest.raises(JobCancelled):
        engine.run(check("convert", {"model": bench.base.id}).recipe, job.ctx)
    assert list(bench.paths.trained.iterdir()) == []


def test_what_cannot_be_is_said_first(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="q8_0"):
        bench.run(to="safetensors", type="q8_0")
    other = tiny_models.model(tmp_path / "wide", "llama", hidden_size=48)
    wide = card_of(tiny_models.lora(tmp_path / "wide-lora", other))
    bench.cards[wide.id] = wide
    with pytest.raises(ModelUnfit, match="does not fit"):
        bench.run(loras=[{"model": wide.id}])
    file = tmp_path / "x.gguf"
    file.write_bytes(b"GGUF")
    gguf = msgspec.structs.replace(bench.base, id="g", format="gguf", path=str(file))
    bench.cards["g"] = gguf
    with pytest.raises(BadRecipe, match="GGUF file already"):
        bench.run(model="g")
