"""LoRAs over models of transformers: the same numbers as plain peft, and the model as it came without any."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.core.cards import ModelCard
from studio.core.events import Loading
from studio.core.problems import ModelUnfit
from studio.core.recipes import TextLora
from studio.engines.context import RunContext
from studio.engines.text.transformers_engine import TransformersText
from studio.models.identify import look
from tests.engines.text import tiny_models
from tests.engines.text.jobs import PLAN, Job, recipe

IDS = [0, 5, 9, 20, 33]


def card_of(folder: Path) -> ModelCard:
    looked = look(folder)
    assert isinstance(looked, ModelCard), looked
    return looked


class Bench:
    """A model with two LoRAs that fit it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = tiny_models.model(folder / "base", "llama")
        self.one = card_of(tiny_models.lora(folder / "one", self.base, seed=3))
        self.two = card_of(
            tiny_models.lora(folder / "two", self.base, seed=4, rank=2, target_modules=["q_proj", "up_proj"])
        )
        self.engine = TransformersText()
        self.count = 0

    def job(self, *more: ModelCard) -> Job:
        self.count += 1
        job = Job(self.folder / f"job{self.count}")
        cards = {card.id: card for card in (self.one, self.two, *more)}
        job.ctx = RunContext("job", job.out, self.folder / "cache", job._emit, job.cancelled, cards=cards)
        return job

    def write(self, *loras: TextLora, more: tuple[ModelCard, ...] = ()) -> str:
        job = self.job(*more)
        self.engine.load(card_of(self.base), PLAN, job.ctx)
        return job.texts(self.engine.run(recipe(prompt="Once upon a time", loras=[*map(_plain, loras)]), job.ctx))[0]

    def logits(self) -> Any:
        import torch

        with torch.inference_mode():
            return self.engine._model(torch.tensor([IDS])).logits


def _plain(lora: TextLora) -> dict[str, Any]:
    return {"model": lora.model, "weight": lora.weight}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("loras"))
    yield made
    made.engine.unload()


def by_peft(bench: Bench, *folders: Path) -> Any:
    """The logits of plain peft, its adapters at full strength."""
    import peft
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(bench.base, local_files_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a future version of transformers
        wrapped = peft.PeftModel.from_pretrained(model, folders[0], adapter_name="a0")
    for at, folder in enumerate(folders[1:], 1):
        wrapped.load_adapter(folder, adapter_name=f"a{at}")
    wrapped.base_model.set_adapter([f"a{at}" for at in range(len(folders))])
    with torch.inference_mode():
        return wrapped.eval()(torch.tensor([IDS])).logits


def by_hand(base: Path, weights: dict[Path, float]) -> Any:
    """The logits of a model with weight · alpha ÷ rank · B·A added to its matrices."""
    import torch
    import transformers
    from safetensors.torch import load_file

    model = transformers.AutoModelForCausalLM.from_pretrained(base, local_files_only=True)
    matrices = dict(model.named_parameters())
    with torch.inference_mode():
        for folder, weight in weights.items():
            config = json.loads((folder / "adapter_config.json").read_text())
            halves = load_file(folder / "adapter_model.safetensors")
            for name, a in halves.items():
                if ".lora_A." in name:
                    b = halves[name.replace("lora_A", "lora_B")]
                    place = name.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
                    matrices[place] += weight * config["lora_alpha"] / config["r"] * (b @ a)
        return model(torch.tensor([IDS])).logits


def logits(folder: Path) -> Any:
    """What plain transformers makes of a folder."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    with torch.inference_mode():
        return model(torch.tensor([IDS])).logits


def test_a_lora_gives_the_logits_of_plain_peft(bench: Bench) -> None:
    import torch

    bench.write(TextLora(bench.one.id))
    assert torch.equal(bench.logits(), by_peft(bench, Path(bench.one.path)))
    bench.write(TextLora(bench.one.id), TextLora(bench.two.id))
    assert torch.equal(bench.logits(), by_peft(bench, Path(bench.one.path), Path(bench.two.path)))


def test_weights_count_as_they_say_and_one_named_twice_counts_with_the_sum(bench: Bench) -> None:
    import torch

    bench.write(TextLora(bench.one.id, 0.3), TextLora(bench.two.id, -1.5))
    wanted = by_hand(bench.base, {Path(bench.one.path): 0.3, Path(bench.two.path): -1.5})
    assert torch.allclose(bench.logits(), wanted, atol=2e-4)
    assert not torch.allclose(bench.logits(), by_hand(bench.base, {Path(bench.one.path): 0.3}), atol=1e-2)
    bench.write(TextLora(bench.one.id, 0.5), TextLora(bench.one.id, 0.25))
    assert torch.allclose(bench.logits(), by_hand(bench.base, {Path(bench.one.path): 0.75}), atol=2e-4)


def test_without_loras_the_model_is_as_it_came_and_is_not_loaded_anew(bench: Bench) -> None:
    import torch

    before = bench.write()
    model = bench.engine._model
    with_lora = bench.write(TextLora(bench.one.id))
    assert with_lora != before
    assert bench.write(TextLora(bench.one.id, 0.0)) == before
    assert bench.write(TextLora(bench.two.id)) not in (before, with_lora)
    assert bench.write(TextLora(bench.one.id)) == with_lora
    assert bench.write() == before
    assert bench.engine._model is model
    assert torch.equal(bench.logits(), logits(bench.base))
    job = bench.job()
    bench.engine.load(card_of(bench.base), PLAN, job.ctx)
    bench.engine.run(recipe(prompt="x", loras=[{"model": bench.one.id}]), job.ctx)
    assert not [e for e in job.events if isinstance(e, Loading)], "one that was used lately is still there"


def test_a_lora_that_does_not_fit_is_refused_and_changes_nothing(bench: Bench, tmp_path: Path) -> None:
    before = bench.write()
    other = tiny_models.model(tmp_path / "wide", "llama", hidden_size=48)
    wide = card_of(tiny_models.lora(tmp_path / "wide-lora", other))
    deep = tiny_models.model(tmp_path / "deep", "llama", num_hidden_layers=3)
    deeper = card_of(tiny_models.lora(tmp_path / "deep-lora", deep))
    strange = card_of(tiny_models.lora(tmp_path / "gpt2-lora", tiny_models.model(tmp_path / "gpt2", "gpt2")))
    for given in ((), (TextLora(bench.one.id, 0.5),)):
        kept = bench.write(*given)
        for card in (wide, deeper, strange):
            with pytest.raises(ModelUnfit, match="does not fit this model") as raised:
                bench.write(*given, TextLora(card.id), more=(card,))
            assert raised.value.problem.field == "loras"
            assert bench.write(*given) == kept
    assert bench.write() == before


def test_a_fresh_model_survives_a_lora_that_does_not_fit(bench: Bench, tmp_path: Path) -> None:
    before = bench.write()
    other = tiny_models.model(tmp_path / "wide", "llama", hidden_size=48)
    wide = card_of(tiny_models.lora(tmp_path / "wide-lora", other))
    bench.engine.unload()
    with pytest.raises(ModelUnfit):
        bench.write(TextLora(wide.id), more=(wide,))
    assert not any("lora" in name for name, _ in bench.engine._model.named_modules())
    assert bench.write() == before
