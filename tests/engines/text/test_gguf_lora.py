"""LoRAs over GGUF models: the numbers of plain peft, weights as they say, and the model as it came without any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.core.cards import ModelCard
from studio.core.events import Loading
from studio.core.problems import ModelBroken, ModelMissing, ModelUnfit
from studio.engines.context import RunContext
from studio.engines.text import gguf_lora
from studio.engines.text.llama import Llama
from studio.models.gguf_header import read_gguf
from studio.models.identify import look
from tests.engines.text import tiny_models
from tests.engines.text.jobs import PLAN, Job, recipe

PROMPT = "Once upon a time there was a"


def card_of(path: Path) -> ModelCard:
    looked = look(path)
    assert isinstance(looked, ModelCard), looked
    return looked


class Bench:
    """A model as a folder and as a GGUF file, and LoRAs for it."""

    def __init__(self, folder: Path, kind: str = "llama") -> None:
        from studio.engines.train import gguf_export

        self.folder = folder
        self.base = tiny_models.model(folder / "base", kind)
        gguf_export.export(self.base, folder / "base.gguf", "base", "float32", lambda: None)
        self.card = card_of(folder / "base.gguf")
        self.cards: dict[str, ModelCard] = {}
        self.engine = Llama()
        self.jobs = 0
        self.last: Job

    def lora(self, name: str, base: Path | None = None, **more: Any) -> str:
        card = card_of(tiny_models.lora(self.folder / name, base or self.base, **more))
        self.cards[card.id] = card
        return card.id

    def write(self, **loras: float) -> str:
        self.jobs += 1
        self.last = job = Job(self.folder / f"job{self.jobs}")
        job.ctx = RunContext("j", job.out, self.folder / "cache", job._emit, job.cancelled, cards=self.cards)
        self.engine.load(self.card, PLAN, job.ctx)
        written = self.engine.run(recipe(prompt=PROMPT, loras=_plain(loras), temperature=1.2), job.ctx)
        return job.texts(written)[0]

    def likely(self, **loras: float) -> dict[int, float]:
        """The likeliest first tokens and how likely."""
        server = self.engine._server
        assert server is not None
        chunks: list[dict[str, Any]] = []
        asked = {"prompt": server.tokens(PROMPT, whole=True), "max_tokens": 1, "logprobs": 20, "cache_prompt": False}
        weights = self.engine._laid(recipe(prompt="x", loras=_plain(loras)), self.last.ctx)
        server.complete(asked | {"temperature": 0.0, "n_probs": 20}, lambda chunk: bool(chunks.append(chunk)), weights)
        top = chunks[0]["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        return {int(each["id"]): float(each["logprob"]) for each in top}


def _plain(loras: dict[str, float]) -> list[dict[str, Any]]:
    return [{"model": name, "weight": weight} for name, weight in loras.items()]


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    made = Bench(tmp_path)
    yield made
    made.engine.unload()


def by_peft(base: Path, loras: dict[Path, float]) -> Any:
    """The logarithms of the first token's likelihoods, through plain peft."""
    import warnings

    import peft
    import torch
    import transformers

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(base, local_files_only=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base, local_files_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for at, (folder, weight) in enumerate(loras.items()):
            model = (
                peft.PeftModel.from_pretrained(model, folder, adapter_name="a0")
                if at == 0
                else (model.load_adapter(folder, adapter_name=f"a{at}"), model)[1]
            )
            for module in model.modules():
                if hasattr(module, "set_scale"):
                    module.set_scale(f"a{at}", weight)
        if loras:
            model.base_model.set_adapter([f"a{at}" for at in range(len(loras))])
    with torch.inference_mode():
        return model.eval()(**tokenizer(PROMPT, return_tensors="pt")).logits[0, -1].log_softmax(-1)


@pytest.mark.parametrize("kind", tiny_models.ARCHITECTURES)
def test_a_lora_of_peft_gives_the_numbers_of_peft(kind: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, kind)
    one = bench.lora("one", seed=3)
    two = bench.lora("two", seed=4, rank=2, use_rslora=True)
    bench.write(**{one: 0.5, two: -1.0})
    wanted = by_peft(bench.base, {Path(bench.cards[one].path): 0.5, Path(bench.cards[two].path): -1.0})
    bare = by_peft(bench.base, {})
    have = bench.likely(**{one: 0.5, two: -1.0})
    assert max(abs(wanted[token] - value) for token, value in have.items()) < 0.1
    assert max(abs(bare[token] - value) for token, value in have.items()) > 0.3
    bench.engine.unload()


def test_without_loras_a_text_is_as_it_was_and_weights_change_without_opening_anew(bench: Bench) -> None:
    one, two = bench.lora("one"), bench.lora("two", seed=4)
    before = bench.write()
    with_one = bench.write(**{one: 1.0})
    server = bench.engine._server
    assert with_one != before
    assert bench.write(**{one: 0.2}) not in ("", with_one)
    assert bench.write(**{one: 0.0}) == before
    assert bench.write() == before
    assert bench.engine._server is server, "the model was not opened anew"
    assert bench.write(**{two: 1.0}) not in (before, with_one)
    assert bench.write(**{one: 1.0}) == with_one
    bench.engine.unload()
    assert bench.write(**{one: 1.0}) == with_one
    assert [e.model for e in bench.last.events if isinstance(e, Loading)].count(bench.cards[one].name) == 0, "kept"


def test_a_gguf_lora_of_ones_own_is_taken_as_it_is(bench: Bench) -> None:
    one = bench.lora("one")
    header = read_gguf(Path(bench.card.path))
    file = bench.folder / "mine.gguf"
    gguf_lora.write(Path(bench.cards[one].path), header, file, "one")  # type: ignore[arg-type]
    mine = card_of(file)
    assert (mine.kind, mine.base) == ("text-lora", bench.card.base)
    bench.cards[mine.id] = mine
    assert bench.write(**{mine.id: 1.0}) == bench.write(**{one: 1.0})
    file.unlink()
    with pytest.raises(ModelMissing):
        bench.write(**{mine.id: 1.0})


Made = Callable[[Bench, Path], str]


def of_another_width(bench: Bench, folder: Path) -> str:
    return bench.lora("wide-lora", tiny_models.model(folder / "wide", "llama", hidden_size=48))


def of_another_kind(bench: Bench, folder: Path) -> str:
    return bench.lora("other-lora", tiny_models.model(folder / "other", "gpt2"))


def with_directions(bench: Bench, folder: Path) -> str:
    return bench.lora("dora", use_dora=True)


def in_gguf_for_another(bench: Bench, folder: Path) -> str:
    other = Bench(folder / "b", "qwen3")
    one = other.lora("one")
    file = folder / "qwen.gguf"
    gguf_lora.write(Path(other.cards[one].path), read_gguf(Path(other.card.path)), file, "x")  # type: ignore[arg-type]
    card = card_of(file)
    bench.cards[card.id] = card
    return card.id


@pytest.mark.parametrize("make", [of_another_width, of_another_kind, with_directions, in_gguf_for_another])
def test_a_lora_that_does_not_fit_is_told_and_the_next_text_comes(make: Made, bench: Bench, tmp_path: Path) -> None:
    before = bench.write()
    strange = make(bench, tmp_path)
    with pytest.raises((ModelUnfit, ModelBroken)) as raised:
        bench.write(**{strange: 1.0})
    assert raised.value.problem.field == "loras"
    assert bench.write() == before
    assert not list((bench.folder / "cache").rglob("*.tmp"))
