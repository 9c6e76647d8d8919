"""Whole picture models: an autoencoder, a model from scratch over it, one that is trained on, and DreamBooth on top."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before diffusers is imported by any test

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from studio.core.cards import ModelCard
from studio.core.learning import Training
from studio.core.problems import BadRecipe, ModelMissing
from studio.engines.context import JobCancelled
from studio.engines.train import adapters, new_models
from studio.engines.train.autoencoder import apart
from studio.engines.train.painter import Brush
from studio.models import registry
from tests.engines.train.picture_toys import Bench, at_step, dataset

SMALL = {"channels": 16, "text_width": 32, "text_layers": 1, "vocabulary": 600, "size": 64, "batch": 4}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def report(bench: Bench, number: int) -> Training:
    return msgspec.json.decode((bench.out / str(number) / "0.training.json").read_bytes(), type=Training)


def made_here(bench: Bench, kind: str) -> list[ModelCard]:
    found, broken = registry.found(bench.paths)
    assert broken == []
    cards = [card for card in found if card.kind == kind and card.source == "data"]
    bench.cards.update({card.id: card for card in cards})
    return cards


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A studio in which an autoencoder and a model from scratch were trained, with nothing but pictures."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("scratch")
    made = Bench(folder / "home", None, dataset(folder / "data", 12, 4, several=True))
    made.train(
        made.recipe(method="autoencoder", name="Eye", steps=30, channels=48, latents=4, size=64, batch=4, rate=2e-3,
                    check_every=30),
        made.context(number=90),
    )  # fmt: skip
    eye = made_here(made, "vae")[0]
    made.train(
        made.recipe(method="scratch", name="Hand", vae=eye.id, steps=12, run="r2", check_every=12, **SMALL),
        made.context(number=91),
    )
    made_here(made, "image")
    return made


def card(bench: Bench, name: str) -> ModelCard:
    return next(each for each in bench.cards.values() if each.name == name)


def test_an_autoencoder_learns_to_give_back_pictures(bench: Bench) -> None:
    from diffusers import AutoencoderKL

    training = report(bench, 90)
    assert training.after["valid"] < 0.7 * training.before["valid"]
    assert training.after["psnr"] > training.before["psnr"] + 1.0
    assert training.made[0].checked == "Opened with plain diffusers: the same pixels."
    vae = AutoencoderKL.from_pretrained(card(bench, "Eye").path, local_files_only=True, torch_dtype=torch.float32)
    pictures = [np.asarray(Image.open(p)) for p in sorted(Path(bench.data.path).glob("images/*.png"))[:12]]
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    with torch.no_grad():
        latents = vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor
    assert 0.8 < float(latents.std()) < 1.2, "noise is as strong as they are"


def test_a_model_from_scratch_is_found_and_paints_in_plain_diffusers(bench: Bench) -> None:
    from diffusers import DiffusionPipeline

    training, hand = report(bench, 91), card(bench, "Hand")
    assert training.after["valid"] < training.before["valid"]
    assert "Opened with plain diffusers: the same p" in training.made[0].checked
    assert hand.defaults == new_models.DEFAULTS and hand.limits.width == 64 and hand.base == "sd-32"
    weights = load_file(Path(hand.path) / "unet" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    pipe = DiffusionPipeline.from_pretrained(hand.path, local_files_only=True)
    assert (pipe.scheduler.config.prediction_type, pipe.scheduler.config.rescale_betas_zero_snr) == (
        "v_prediction", True,
    )  # fmt: skip
    ids = pipe.tokenizer("A red circle 猫").input_ids
    assert pipe.tokenizer.decode(ids, skip_special_tokens=True).strip() == "a red circle 猫", "every byte can be said"
    assert len(ids) < 16 == pipe.tokenizer.model_max_length


def test_a_model_is_trained_on_as_a_whole_and_the_one_it_was_made_from_stays(bench: Bench) -> None:
    hand = card(bench, "Hand")
    before = (Path(hand.path) / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    bench.train(
        bench.recipe(method="full", model=hand.id, name="Hand 2", steps=8, run="r3", size=64, text_encoder=True,
                     half=False, check_every=8, batch=4),
        bench.context(number=92),
    )  # fmt: skip
    training = report(bench, 92)
    assert training.after["valid"] < training.before["valid"]
    assert abs(training.before["valid"] - report(bench, 91).after["valid"]) < 0.01, "it goes on where that one ended"
    assert (Path(hand.path) / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() == before
    new = Path(training.made[0].path)
    old_words, new_words = (load_file(p / "text_encoder" / "model.safetensors") for p in (Path(hand.path), new))
    assert any(not torch.equal(old_words[key].float(), new_words[key]) for key in old_words), "words were learnt too"
    assert {tensor.dtype for tensor in new_words.values()} == {torch.float32}


def test_of_an_autoencoder_that_is_in_use_only_the_decoder_learns(bench: Bench) -> None:
    hand = card(bench, "Hand")
    bench.train(
        bench.recipe(method="autoencoder", model=hand.id, name="Eye 2", steps=3, run="r4", size=64, half=False),
        bench.context(number=93),
    )
    training = report(bench, 93)
    old = load_file(Path(hand.path) / "vae" / "diffusion_pytorch_model.safetensors")
    new = load_file(Path(training.made[0].path) / "diffusion_pytorch_model.safetensors")
    same = {key for key in old if torch.equal(old[key].float(), new[key])}
    assert {key for key in old if key.startswith(("encoder.", "quant_conv."))} == same


def test_dreambooth_learns_its_subject_beside_others_that_the_model_painted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    painted: list[str] = []
    honest = Brush.paint

    def heard(self: Brush, prompt: str, seed: int, steps: int = 0) -> Any:
        painted.append(prompt)
        return honest(self, prompt, seed, steps or 2)

    monkeypatch.setattr(Brush, "paint", heard)
    recipe = bench.recipe(
        method="dreambooth", model=card(bench, "Hand").id, name="Mine", subject="a sks circle", others="a circle",
        others_count=3, steps=4, run="r5", size=64, prompts=(),
    )  # fmt: skip
    with pytest.raises(JobCancelled):
        bench.train(recipe, bench.context(at_step(2), 94))
    assert painted[:3] == ["a circle"] * 3
    assert painted[3:5] == ["a sks circle", "a circle"], "what is tried"
    painted.clear()
    bench.train(recipe, bench.context(number=95))
    assert painted.count("a circle") == 1, "the others were there already"
    file = next(Path(report(bench, 95).made[0].path).glob("*.safetensors"))
    lora = next(c for c in made_here(bench, "lora") if c.path == str(file))
    assert "trigger words: a sks circle" in lora.notes


def test_the_others_count_as_much_as_the_subject(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int, set[str]]] = []
    honest = adapters.Painter.batch

    def heard(self: Any, step: int, part: int) -> Any:
        batch = honest(self, step, part)
        seen.append((batch.count, len(batch.noisy.latents), set(batch.texts)))
        return batch

    monkeypatch.setattr(adapters.Painter, "batch", heard)
    recipe = bench.recipe(
        method="dreambooth", model=card(bench, "Hand").id, subject="a sks circle", others="a circle", others_count=1,
        steps=1, run="r6", size=64, unguided=0.0, plan_only=True,
    )  # fmt: skip
    bench.train(recipe, bench.context(number=96))
    assert seen
    assert all(found == (2, 4, {"a sks circle", "a circle"}) for found in seen)


def test_from_scratch_needs_an_autoencoder(bench: Bench) -> None:
    with pytest.raises(ModelMissing, match="needs an autoencoder"):
        bench.train(bench.recipe(method="scratch", run="r7", **SMALL), bench.context(number=97))


@pytest.mark.parametrize(("field", "value"), [("channels", 20), ("text_width", 48)])
def test_widths_that_do_not_go_together_are_a_sentence(bench: Bench, field: str, value: int) -> None:
    recipe = bench.recipe(method="scratch", vae=card(bench, "Eye").id, run=f"r8{value}", **{**SMALL, field: value})
    with pytest.raises(BadRecipe, match="must be a multiple of"):
        bench.train(recipe, bench.context(number=98))


def test_a_picture_is_not_apart_from_itself_and_lost_edges_count() -> None:
    edge = torch.zeros(1, 3, 16, 16)
    edge[..., 8:] = 1.0
    flat = torch.full_like(edge, 0.5)
    assert float(apart(edge, edge)) == 0.0
    assert float(apart(edge, flat)) > float((edge - flat).abs().mean()) + 0.05
