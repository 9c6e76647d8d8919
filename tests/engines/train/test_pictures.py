"""Picture models learn: what is made loads in plain diffusers and in the studio, and nothing of a run is lost."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before diffusers is imported by any test

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from studio.core.cards import ModelCard
from studio.core.events import Held, Measured, Tried
from studio.core.learning import TrainImageRecipe, Training
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, BadResult, ModelUnfit, NotRead, NotSaved
from studio.core.recipes import ImageRecipe, Lora
from studio.engines.context import JobCancelled
from studio.engines.image.diffusion import Diffusion
from studio.engines.train import checkpoints, picture_models
from studio.engines.train.painter import Painter
from studio.engines.train.picture_data import Captioned, Shelf, cut, read_rows
from studio.models import registry
from tests.engines.image import tiny
from tests.engines.train.picture_toys import Bench, at_step, dataset, tiny_base


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ModelCard]:
    home, made = tmp_path_factory.mktemp("bases"), {}

    def get(family: str) -> ModelCard:
        if family not in made:
            made[family] = tiny_base(tiny.save_tiny(family, home))
        return made[family]

    return get


BaseOf = Callable[[str], ModelCard]


@pytest.fixture
def bench(base_of: BaseOf, tmp_path: Path) -> Bench:
    return Bench(tmp_path / "home", base_of("sd"), dataset(tmp_path / "data"))


def report(bench: Bench, number: int = 0) -> Training:
    return msgspec.json.decode((bench.out / str(number) / "0.training.json").read_bytes(), type=Training)


def adapter(bench: Bench, name: str = "my-model") -> Path:
    return bench.paths.trained / name / "my-model.safetensors"


def plain(base: ModelCard, lora: Path | None = None, steps: int = 2) -> np.ndarray[Any, Any]:
    """A picture by diffusers alone."""
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(base.path, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    if lora is not None:
        pipe.load_lora_weights(str(lora.parent), weight_name=lora.name)
    made = pipe("a red circle", width=64, height=64, num_inference_steps=steps, guidance_scale=3.0,
                generator=torch.Generator().manual_seed(11)).images[0]  # fmt: skip
    return np.asarray(made)


# -- what is made


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "flux", "zimage"])
def test_a_lora_of_each_family_loads_in_plain_diffusers_and_paints_what_was_trained(
    family: str, base_of: BaseOf, tmp_path: Path
) -> None:
    bench = Bench(tmp_path / "home", base_of(family), dataset(tmp_path / "data", 4, 2))
    bench.train(bench.recipe(steps=2, rate=0.05, check_every=2, alpha=16.0))
    made = report(bench).made[0]
    assert made.checked.startswith("Loaded into plain diffusers: the same p")
    base = base_of(family)
    assert np.abs(plain(base).astype(int) - plain(base, adapter(bench))).max() > 0, "it changes pictures"


def test_a_lora_is_found_among_the_models_and_paints_the_same_in_the_studio(bench: Bench) -> None:
    bench.train(bench.recipe(rate=0.05))
    found, broken = registry.found(bench.paths)
    card = next(c for c in found if c.kind == "lora")
    assert broken == []
    assert (card.name, card.base, card.licence) == ("My model", "sd-16", "CC0")
    assert card.notes == ("rank 8",)

    engine, base = Diffusion(), bench.base
    assert base is not None
    around = tiny.Around(bench.out / "studio", cards=[card])
    engine.load(base, Plan(device="cpu", threads=1), around.ctx)
    painted = engine.run(
        ImageRecipe(prompt="a red circle", width=64, height=64, steps=2, guidance=3.0, seed=11,
                    loras=(Lora(card.id, 1.0),)),
        around.ctx,
    )  # fmt: skip
    with Image.open(around.out / painted.artifacts[0].name) as picture:
        seen = np.asarray(picture.convert("RGB"))
    assert np.array_equal(seen, plain(base, Path(card.path)))
    assert not np.array_equal(seen, plain(base))


def test_alpha_is_in_the_weights_so_that_every_program_counts_it_alike(bench: Bench) -> None:
    bench.train(bench.recipe(alpha=4.0, rank=8, text_encoder=True, rate=0.05))
    assert "the same p" in report(bench).made[0].checked
    with safe_open(adapter(bench), framework="pt") as opened:
        metadata, keys = opened.metadata(), list(opened.keys())
    settings = json.loads(metadata["lora_adapter_metadata"])
    assert {settings["unet.lora_alpha"], settings["unet.r"], settings["text_encoder.lora_alpha"]} == {8}
    assert metadata["modelspec.title"] == "My model"
    assert any(key.startswith("text_encoder.") for key in keys)
    # rounded to the same picture without what the header says of alpha
    tensors = load_file(adapter(bench))
    bare = adapter(bench).parent / "bare.safetensors"
    checkpoints.save_tensors(bare, tensors)
    assert bench.base is not None
    assert np.array_equal(plain(bench.base, bare), plain(bench.base, adapter(bench)))


def test_what_is_told_and_kept_of_a_training(bench: Bench) -> None:
    result = bench.train(bench.recipe(steps=6, sample_every=3))
    training = report(bench)
    assert (training.steps, training.method, training.data_sha256) == (6, "lora", "d" * 64)
    assert {"valid", "seen"} <= set(training.before) & set(training.after)
    assert [s.step for s in training.samples] == [0, 3, 6]
    for sample in training.samples:
        with Image.open(bench.paths.runs / "r1" / sample.image) as picture:
            assert picture.size == (64, 64)
    assert all(tried.jpeg for tried in bench.of(Tried))
    assert {"valid", "loss", "rate", "norm", "speed"} <= set(bench.of(Measured)[-1].values)
    assert [a.role for a in result.artifacts] == ["master", "thumbnail"]
    readme = (bench.paths.trained / "my-model" / "README.md").read_text()
    assert "Made for Tiny, under its licence: CC0." in readme
    left = {p.name for p in (bench.paths.runs / "r1").iterdir()}
    assert left == {"done.json", "samples"}, "what takes room is gone"


def test_learning_lowers_the_loss_on_fixed_draws(bench: Bench) -> None:
    bench.train(bench.recipe(steps=30, rate=0.02, check_every=30, batch=4, snr=0.0))
    training = report(bench)
    assert training.after["seen"] < 0.97 * training.before["seen"]


# -- a run that is cut off


def test_a_run_that_was_cancelled_goes_on_with_the_same_numbers(base_of: BaseOf, tmp_path: Path) -> None:
    whole = Bench(tmp_path / "whole", base_of("sd"), dataset(tmp_path / "data"))
    settings = {"steps": 6, "mirror": True, "text_encoder": True, "average": 0.9}
    whole.train(whole.recipe(**settings))

    parts = Bench(tmp_path / "parts", base_of("sd"), whole.data)
    with pytest.raises(JobCancelled):
        parts.train(parts.recipe(**settings), parts.context(at_step(3), 1))
    assert (parts.paths.runs / "r1" / "last.safetensors").exists()
    assert not list(parts.paths.trained.glob("*")) if parts.paths.trained.exists() else True
    parts.train(parts.recipe(**settings), parts.context(number=0))

    def curve(bench: Bench) -> list[tuple[int, Any, Any, Any]]:
        return [(p.step, p.values.get("loss"), p.values.get("valid"), p.values.get("norm"))
                for p in report(bench).curve]  # fmt: skip

    assert curve(parts) == curve(whole)
    one, other = load_file(adapter(whole)), load_file(adapter(parts))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


CHILD = """
import os, signal, sys
from pathlib import Path
import msgspec
from studio.core.cards import ModelCard
from studio.core.events import Progress
from studio.core.learning import TrainImageRecipe
from studio.engines.train import task
from tests.engines.train.picture_toys import Bench
home, phase, step = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
recipe = msgspec.json.decode(sys.argv[4], type=TrainImageRecipe)
base, data = msgspec.json.decode(sys.argv[5], type=list[ModelCard])
real = task.learn
def learn(course, rules, *more, **named):
    return real(course, msgspec.structs.replace(rules, keep_every=3), *more, **named)
task.learn = learn
def kill(event):
    if isinstance(event, Progress) and (event.phase, event.done) == (phase, step):
        os.kill(os.getpid(), signal.SIGKILL)
bench = Bench(home, base, data)
bench.train(recipe, bench.context(kill, 1))
"""


def killed(bench: Bench, recipe: TrainImageRecipe, phase: str, step: int) -> None:
    """A process of its own trains, with a checkpoint at every third step, and ends by SIGKILL when it has told that."""
    cards = msgspec.json.encode([bench.base, bench.data]).decode()
    given = [str(bench.paths.home), phase, str(step), msgspec.json.encode(recipe).decode(), cards]
    made = subprocess.run(
        [sys.executable, "-c", CHILD, *given], cwd=Path(__file__).parents[3], capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert made.returncode == -signal.SIGKILL, made.stderr[-2000:]


@pytest.mark.parametrize(
    ("method", "phase", "step", "from_step"),
    [
        # the best weights are of step 4 then and the checkpoint is of step 3
        ("lora", "learning", 5, 3),
        # the last checkpoint is written, and the model is being kept
        ("lora", "saving", 6, 6),
    ],
)
def test_a_run_that_was_killed_goes_on_bit_for_bit(
    base_of: BaseOf, tmp_path: Path, method: str, phase: str, step: int, from_step: int
) -> None:
    whole = Bench(tmp_path / "whole", base_of("sd"), dataset(tmp_path / "data"))
    recipe = whole.recipe(
        steps=6, method=method, mirror=True, text_encoder=True, average=0.9, sample_every=2, accumulate=2
    )
    whole.train(recipe)
    parts = Bench(tmp_path / "parts", base_of("sd"), whole.data)
    killed(parts, recipe, phase, step)
    run = parts.paths.runs / "r1"
    last = checkpoints.Checkpoints(run).last()
    assert last is not None and last[0].step == from_step and not (run / "done.json").exists()
    result = parts.train(recipe)
    assert f"Goes on from step {from_step}." in result.notes
    assert numbers(parts) == numbers(whole)
    assert [(s.step, (run / s.image).read_bytes()) for s in report(parts).samples] == [
        (s.step, (whole.paths.runs / "r1" / s.image).read_bytes()) for s in report(whole).samples
    ]
    assert [p.name for p in parts.paths.trained.iterdir()] == ["my-model"], "nothing half is left beside it"
    files = [sorted((bench.paths.trained / "my-model").rglob("*.safetensors")) for bench in (whole, parts)]
    assert [p.name for p in files[0]] == [p.name for p in files[1]] and files[0]
    for one, other in zip(*files, strict=True):
        a, b = load_file(one), load_file(other)
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a), one.name


def test_a_run_that_was_killed_while_pictures_were_prepared_begins_anew(bench: Bench) -> None:
    """What is half there of them is not taken for whole."""
    recipe = bench.recipe(steps=2)
    run = bench.paths.runs / "r1"
    run.mkdir(parents=True)
    (run / "latents-train.bin").write_bytes(b"\x7f" * 64)  # as the process leaves it: no index yet
    bench.train(recipe)
    other = Bench(bench.paths.home.parent / "other", bench.base, bench.data)
    other.train(recipe)
    assert numbers(bench) == numbers(other)


def numbers(bench: Bench) -> list[tuple[int, dict[str, float]]]:
    """The curve, without what depends on the clock."""
    return [(p.step, {k: v for k, v in p.values.items() if k != "speed"}) for p in report(bench).curve]


def test_a_run_is_not_gone_on_with_by_other_settings(bench: Bench) -> None:
    with pytest.raises(JobCancelled):
        bench.train(bench.recipe(), bench.context(at_step(2), 1))
    with pytest.raises(BadRecipe, match="other settings \\(rank\\)"):
        bench.train(bench.recipe(rank=4))


def test_a_run_that_ended_unheard_is_told_again_and_not_trained(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.train(bench.recipe())
    monkeypatch.setattr(Painter, "batch", lambda *_: pytest.fail("it has learnt already"))
    bench.train(bench.recipe(), bench.context(number=1))
    assert report(bench, 1) == report(bench, 0)
    assert len(list(bench.paths.trained.glob("*"))) == 1


def test_a_second_training_of_a_name_gets_a_number(bench: Bench) -> None:
    bench.train(bench.recipe(steps=1))
    bench.train(bench.recipe(steps=1, run="r2"), bench.context(number=1))
    assert sorted(p.name for p in bench.paths.trained.glob("*")) == ["my-model", "my-model-2"]


# -- estimates


def test_an_estimate_learns_nothing_and_leaves_nothing(bench: Bench) -> None:
    result = bench.train(bench.recipe(plan_only=True, steps=1000))
    meta = result.artifacts[0].meta
    assert (meta["steps"], meta["pictures"]) == (1000, 2000)
    assert meta["seconds"] > 0 and meta["bytes"] > 50e6
    assert not bench.paths.runs.exists() and not bench.paths.trained.exists()
    assert not (bench.out / "0" / "plan").exists()


def test_an_estimate_is_near_what_is_really_taken(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With opening, preparing, looks, samples, saving and checking; in processor time, so that others change nothing.

    A first training is made before, as this process imports libraries then.
    """
    bench.train(bench.recipe(steps=1, run="r0"), bench.context(number=1))
    monkeypatch.setattr(time, "perf_counter", time.process_time)
    recipe = bench.recipe(steps=12, check_every=6, sample_every=6)
    plan = bench.train(msgspec.structs.replace(recipe, plan_only=True), bench.context(number=2)).artifacts[0].meta
    began = time.process_time()
    bench.train(recipe, bench.context(number=3))
    real = time.process_time() - began
    assert 0.5 < plan["seconds"] / real < 2.0, (plan["seconds"], real)
    told = report(bench, 3)
    assert 0.5 < told.estimate["all"] / real < 2.0, (told.estimate, real)
    assert told.estimate["seconds"] < told.estimate["all"] and 0.4 < told.estimate["seconds"] / told.seconds < 2.5
    assert plan["least"] <= plan["seconds"]


# -- what goes wrong


def test_a_loss_that_is_no_number_is_a_sentence_and_the_best_is_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Painter.batch

    def broken(self: Painter, step: int, part: int) -> Any:
        batch = honest(self, step, part)
        if step == 3:
            batch.noisy.target.fill_(float("nan"))
        return batch

    monkeypatch.setattr(Painter, "batch", broken)
    with pytest.raises(BadResult, match=r"At step 4 the loss was not a number any more.*the best so far, of step 2"):
        bench.train(bench.recipe(steps=6))
    assert (bench.paths.runs / "r1" / "best.safetensors").exists()


def test_a_disk_that_is_full_while_pictures_are_prepared_is_a_sentence(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Shelf, "_filled", staticmethod(full))
    with pytest.raises(NotSaved, match="The disk is full: what is learnt from could not be prepared"):
        bench.train(bench.recipe())
    assert not list((bench.paths.runs / "r1").glob("*.json")) or not list((bench.paths.runs / "r1").glob("latents*"))


def test_a_disk_that_is_full_at_the_end_holds_what_was_learnt_until_there_is_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, tries = picture_models.save_adapter, []

    def full_at_first(*given: Any) -> Path:
        tries.append(given)
        if len(tries) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return honest(*given)

    monkeypatch.setattr(picture_models, "save_adapter", full_at_first)
    monkeypatch.setattr(checkpoints, "ROOM_SECONDS", 0.05)
    bench.train(bench.recipe())
    assert len(tries) == 2 and len(bench.of(Held)) == 1
    assert adapter(bench).exists()


def test_an_adapter_that_paints_something_else_is_not_called_done(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = picture_models.save_adapter

    def spoilt(*given: Any) -> Path:
        path = honest(*given)
        tensors = {k: v * -40.0 for k, v in load_file(path).items()}
        checkpoints.save_tensors(path, tensors)
        return path

    monkeypatch.setattr(picture_models, "save_adapter", spoilt)
    with pytest.raises(BadResult, match="does not paint what was trained"):
        bench.train(bench.recipe(rate=0.05))
    assert not list(bench.paths.trained.glob("[!.]*"))


def test_texts_are_no_pictures(bench: Bench) -> None:
    bench.cards[bench.data.id] = msgspec.structs.replace(bench.data, format="chat")
    with pytest.raises(BadRecipe, match="“shapes” holds conversations"):
        bench.train(bench.recipe())


def test_a_model_of_another_kind_is_a_sentence(bench: Bench, tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline, StableDiffusionImg2ImgPipeline

    assert bench.base is not None
    pipe = DiffusionPipeline.from_pretrained(bench.base.path, local_files_only=True)
    other = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    other.save_pretrained(tmp_path / "other")
    bench.cards["tiny"] = tiny_base(tmp_path / "other")
    with pytest.raises(ModelUnfit, match="A StableDiffusionImg2ImgPipeline cannot be trained here"):
        bench.train(bench.recipe())


def test_a_size_the_model_cannot_do_is_a_sentence(bench: Bench) -> None:
    with pytest.raises(BadRecipe, match="multiples of 16 px; 70 is none"):
        bench.train(bench.recipe(size=70))


# -- data


def test_a_picture_that_is_listed_with_several_captions_is_one_picture(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data", 3, 1)
    with open(tmp_path / "data" / "train.jsonl", "a") as stream:
        stream.write(json.dumps({"image": "images/000.png", "text": "round and red"}) + "\n")
        stream.write(json.dumps({"image": "images/001.png", "text": "", "texts": ["x", "y"]}) + "\n")
    rows = read_rows(data, "train")
    assert [len(row.captions) for row in rows] == [2, 3, 1]
    assert rows[0].captions == ("a red circle", "round and red")
    assert read_rows(data, "test") == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"image": 3}', "line 4 of train.jsonl is no picture"),
        ("not json", "line 4 of train.jsonl is no picture"),
        ('{"image": "../secret.png", "text": "x"}', "points outside of it"),
        ('{"image": "/etc/passwd", "text": "x"}', "points outside of it"),
    ],
)
def test_a_damaged_row_is_a_sentence(tmp_path: Path, line: str, says: str) -> None:
    data = dataset(tmp_path / "data", 3, 1)
    with open(tmp_path / "data" / "train.jsonl", "a") as stream:
        stream.write(line + "\n")
    with pytest.raises(NotRead, match=says):
        read_rows(data, "train")


def test_a_picture_that_is_gone_is_named(bench: Bench) -> None:
    (Path(bench.data.path) / "images" / "002.png").unlink()
    with pytest.raises(NotRead, match=r"“002\.png” of the data set is gone"):
        bench.train(bench.recipe())


def test_pictures_are_cut_to_their_middle_on_white(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (90, 30), (0, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (30, 0, 60, 30))
    picture.save(tmp_path / "x.png")
    data = dataset(tmp_path / "data", 1, 0)
    assert len(read_rows(data, "train")) == 1
    made = cut(Captioned(tmp_path / "x.png", ("",)), 16)
    assert made.size == (30, 90) and made.corner == (0, 16) and made.shown == (16, 16)
    assert made.pixels[:, 8, 8].tolist() == [255, 0, 0]
    assert made.pixels.shape == (3, 16, 16)


def test_shelves_give_back_what_was_laid_in_and_forget_what_was_made_of_something_else(tmp_path: Path) -> None:
    items = [{"a": torch.arange(3.0), "b": torch.tensor([[1, 2]])}, {"a": torch.ones(5, dtype=torch.bfloat16)}]
    made: list[int] = []

    def fill() -> Iterator[dict[str, torch.Tensor]]:
        made.append(1)
        yield from items

    for key in ("one", "one", "two"):
        shelf = Shelf.of(tmp_path, "x", key, 2, fill)
        assert len(shelf) == 2
        for seen, item in zip((shelf[0], shelf[1]), items, strict=True):
            assert seen.keys() == item.keys()
            assert all(torch.equal(seen[n], item[n]) and seen[n].dtype == item[n].dtype for n in item)
    assert len(made) == 2
