"""The picture engine gives what plain diffusers gives, can be stopped anywhere, and says what it cannot do."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from studio.core.events import Loading, Preview, Progress
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, BadResult, BadSetting, ModelUnfit, OutOfMemory
from studio.core.recipes import CARRIED_LIMIT, SCHEDULERS, SEED_LIMIT, ImageRecipe
from studio.engines.context import JobCancelled
from studio.engines.image.diffusion import Diffusion
from studio.engines.image.watching import FINISHING, PAINTING, READING
from studio.library.carried import recipe_in
from tests.engines.image import tiny
from tests.engines.image.conftest import PLAN

FAMILIES = ("sd", "sdxl", "sd3", "flux")
EngineOf = Callable[[str], Diffusion]
FolderOf = Callable[[str], Path]


def recipe(**values: Any) -> ImageRecipe:
    return ImageRecipe(**{"prompt": "a red apple", "seed": 11, "steps": 3, "width": 64, "height": 64} | values)


def bare(folder: Path, seed: int, **arguments: Any) -> Image.Image:
    """The same picture by plain diffusers, in a pipeline of its own."""
    import torch
    from diffusers import DiffusionPipeline

    torch.set_num_threads(1)
    pipe = DiffusionPipeline.from_pretrained(str(folder), local_files_only=True, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe(generator=torch.Generator("cpu").manual_seed(seed), **arguments).images[0]


def pixels(around: tiny.Around, index: int = 0) -> bytes:
    with Image.open(around.out / f"{index}.png") as image:
        return image.tobytes()


def plan(**values: Any) -> Plan:
    return Plan(**{"device": "cpu", "threads": 1} | values)


# -- the same as plain diffusers


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("preview_every", [0, 1])
def test_a_picture_is_the_same_as_from_plain_diffusers_with_and_without_previews(
    family: str, preview_every: int, engine_of: EngineOf, folder_of: FolderOf, around: tiny.Around
) -> None:
    engine = engine_of(family)
    engine.load(tiny.card(folder_of(family), family), plan(preview_every=preview_every), around.ctx)
    engine.run(recipe(), around.ctx)
    expected = bare(
        folder_of(family), 11, prompt="a red apple", num_inference_steps=3, guidance_scale=5.0, width=64, height=64
    )
    assert bool(around.of(Preview)) == bool(preview_every)
    assert pixels(around) == expected.tobytes()


def test_the_starter_paints_the_same_as_plain_diffusers_with_all_its_settings(
    engine_of: EngineOf, around: tiny.Around
) -> None:
    result = engine_of("starter").run(
        ImageRecipe(
            prompt="a red apple, noto style", negative="blue", seed=3, steps=4, guidance=4.0, guidance_rescale=0.7,
            scheduler="euler",
        ),
        around.ctx,
    )  # fmt: skip
    import torch
    from diffusers import DiffusionPipeline, EulerDiscreteScheduler

    pipe = DiffusionPipeline.from_pretrained(str(tiny.STARTER), local_files_only=True, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    expected = pipe(
        prompt="a red apple, noto style", negative_prompt="blue", generator=torch.Generator("cpu").manual_seed(3),
        num_inference_steps=4, guidance_scale=4.0, guidance_rescale=0.7,
    ).images[0]  # fmt: skip
    assert pixels(around) == expected.tobytes()
    assert result.artifacts[0].meta == {"width": 128, "height": 128}
    assert len(around.of(Preview)) == 4


def test_pictures_of_one_job_count_their_seeds_up_and_wrap(engine_of: EngineOf, tmp_path: Path) -> None:
    engine, first = engine_of("sd"), SEED_LIMIT - 1
    together = tiny.Around(tmp_path / "together")
    result = engine.run(recipe(seed=first, count=3), together.ctx)
    masters = [a for a in result.artifacts if a.role == "master"]
    assert [(a.index, a.seed, a.name) for a in masters] == [(0, first, "0.png"), (1, 0, "1.png"), (2, 1, "2.png")]
    for index, seed in enumerate((first, 0, 1)):
        alone = tiny.Around(tmp_path / f"alone{index}")
        engine.run(recipe(seed=seed), alone.ctx)
        assert pixels(alone) == pixels(together, index)
    assert len({pixels(together, i) for i in range(3)}) == 3


def test_global_random_numbers_are_left_alone(engine_of: EngineOf, around: tiny.Around) -> None:
    import numpy
    import torch

    engine = engine_of("sdxl")
    torch.manual_seed(1)
    numpy.random.seed(1)
    before, np_before = torch.get_rng_state(), numpy.random.get_state()[1].tobytes()
    engine.run(recipe(), around.ctx)
    assert around.of(Preview)
    assert torch.equal(before, torch.get_rng_state())
    assert np_before == numpy.random.get_state()[1].tobytes()


# -- stopping


@pytest.mark.parametrize("family", ["sd", "flux"])
def test_a_job_stopped_at_any_step_leaves_an_engine_that_paints_the_same(
    family: str, engine_of: EngineOf, tmp_path: Path
) -> None:
    engine, wish = engine_of(family), recipe(steps=3, scheduler="dpmpp_2m" if family == "sd" else "model")
    whole = tiny.Around(tmp_path / "whole")
    engine.run(wish, whole.ctx)
    for step in range(4):
        told = tiny.Around(tmp_path / f"stop{step}", lambda e, s=step: isinstance(e, Progress) and e.done >= s)
        with pytest.raises(JobCancelled):
            engine.run(wish, told.ctx)
        assert max(p.done for p in told.of(Progress)) < step + 1.5  # PNDM's extra call makes steps a little shorter
        assert not (told.out / "0.png").exists()
        again = tiny.Around(tmp_path / f"again{step}")
        engine.run(wish, again.ctx)
        assert pixels(again) == pixels(whole)


def test_a_job_stopped_in_its_second_picture_leaves_no_half_file(engine_of: EngineOf, tmp_path: Path) -> None:
    told = tiny.Around(tmp_path, lambda e: isinstance(e, Progress) and e.done >= 4)
    with pytest.raises(JobCancelled):
        engine_of("sd").run(recipe(count=3), told.ctx)
    assert sorted(p.name for p in told.out.iterdir()) == ["0.png", "0.thumb.webp", "trail.jsonl"]


def test_a_pipeline_without_callbacks_still_stops_and_tells_its_steps(
    engine_of: EngineOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studio.engines.image import asking

    engine = engine_of("sd")
    monkeypatch.setattr(asking, "_reports", lambda *_: "bar")
    whole = tiny.Around(tmp_path / "whole")
    engine.run(recipe(), whole.ctx)
    assert len([p for p in whole.of(Progress) if p.phase == PAINTING]) >= 2
    told = tiny.Around(tmp_path / "stop", lambda e: isinstance(e, Progress) and e.done >= 1)
    with pytest.raises(JobCancelled):
        engine.run(recipe(), told.ctx)
    again = tiny.Around(tmp_path / "again")
    engine.run(recipe(), again.ctx)
    assert pixels(again) == pixels(whole)


# -- telling


@pytest.mark.parametrize("scheduler", ["model", "heun", "euler"])
def test_progress_goes_up_to_the_end_over_all_pictures(
    scheduler: str, engine_of: EngineOf, around: tiny.Around
) -> None:
    engine_of("sd").run(recipe(count=2, scheduler=scheduler), around.ctx)
    told = around.of(Progress)
    done = [p.done for p in told]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 6)
    assert {p.total for p in told} == {6.0}
    assert [told[0].phase, told[-1].phase] == [READING, FINISHING]
    assert PAINTING in {p.phase for p in told}
    assert {p.done for p in told} >= {0, 3, 6}


def test_previews_come_as_often_as_planned(engine_of: EngineOf, folder_of: FolderOf, around: tiny.Around) -> None:
    engine = engine_of("sd")
    engine.load(tiny.card(folder_of("sd"), "sd"), plan(preview_every=2), around.ctx)
    engine.run(recipe(steps=6, scheduler="ddim", count=2, width=512, height=128), around.ctx)
    shown = around.of(Preview)
    assert [(p.index, p.step) for p in shown] == [(0, 2), (0, 4), (0, 6), (1, 2), (1, 4), (1, 6)]
    with Image.open(io.BytesIO(shown[0].jpeg)) as image:
        assert (image.format, image.size) == ("JPEG", (256, 64))


def test_every_picture_has_a_thumbnail(engine_of: EngineOf, around: tiny.Around) -> None:
    result = engine_of("sd").run(recipe(width=320, height=64), around.ctx)
    assert [(a.name, a.role, a.index) for a in result.artifacts] == [
        ("0.png", "master", 0),
        ("0.thumb.webp", "thumbnail", 0),
    ]
    with Image.open(around.out / "0.thumb.webp") as image:
        assert (image.format, image.size) == ("WEBP", (256, 51))


def test_the_circumstances_are_recorded(engine_of: EngineOf, around: tiny.Around) -> None:
    made = engine_of("sd").run(recipe(), around.ctx).made_with
    assert (made.engine, made.device, made.dtype, made.threads) == ("image.diffusers", "cpu", "float32", 1)
    assert {"python", "torch", "diffusers", "transformers"} <= set(made.versions)


# -- what a model cannot do


def test_what_a_model_does_not_know_is_said_and_left_out(engine_of: EngineOf, around: tiny.Around) -> None:
    result = engine_of("flux").run(recipe(negative="blue", guidance_rescale=0.5), around.ctx)
    assert any("rescale" in n for n in result.notes)
    assert any("avoid" in n for n in result.notes)


def test_a_plain_recipe_gets_no_notes(engine_of: EngineOf, tmp_path: Path) -> None:
    for family in FAMILIES:
        assert engine_of(family).run(recipe(), tiny.Around(tmp_path / family).ctx).notes == ()


def test_a_prompt_too_long_for_the_model_is_said_with_the_number_of_tokens_cut(
    engine_of: EngineOf, around: tiny.Around, tmp_path: Path
) -> None:
    # a token per letter, and one each for start and end
    result = engine_of("sd").run(recipe(prompt="red " * 8), around.ctx)
    cut = "The prompt has 26 tokens; this model reads 20, so the last 6 were cut off."
    assert result.notes == (f"{cut} With prompt weights at “a1111” all of it is read.",)
    whole = engine_of("sd").run(recipe(prompt="red " * 8, reading="a1111"), tiny.Around(tmp_path / "whole").ctx)
    assert whole.notes == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_counted_as_in_the_note_about_a_prompt_that_is_cut_off(
    family: str, engine_of: EngineOf, tmp_path: Path
) -> None:
    engine = engine_of(family)
    for words in (1, 8, 25, 400):
        around = tiny.Around(tmp_path / str(words))
        (note,) = engine.run(recipe(prompt="red " * words), around.ctx).notes or ("",)
        assert engine.count_tokens("red " * words) >= words
        if note:
            assert note.startswith(f"The prompt has {engine.count_tokens('red ' * words):,} tokens;")
    assert engine_of("sd").count_tokens("red " * 8) == 26
    assert engine_of("sd").count_tokens("") == 2, "begin and end"


def test_a_picture_carries_the_recipe_that_makes_it_alone(engine_of: EngineOf, tmp_path: Path) -> None:
    first = tiny.Around(tmp_path / "first")
    wish = recipe(prompt="a naïve 🦊 apple", count=2)
    engine = engine_of("sd")
    engine.run(wish, first.ctx)
    with open(first.out / "1.png", "rb") as stream:
        own = recipe_in(stream)
    assert isinstance(own, ImageRecipe)
    assert (own.prompt, own.seed, own.count) == (wish.prompt, 12, 1)
    assert own.made_with is not None and own.made_with.device == "cpu"
    alone = tiny.Around(tmp_path / "alone")
    engine.run(own, alone.ctx)
    assert (alone.out / "0.png").read_bytes() == (first.out / "1.png").read_bytes()


def test_a_prompt_too_long_to_be_carried_is_left_out_of_the_file(engine_of: EngineOf, around: tiny.Around) -> None:
    engine_of("sd").run(recipe(negative="é" * (CARRIED_LIMIT // 2)), around.ctx)
    with open(around.out / "0.png", "rb") as stream:
        assert recipe_in(stream) is None
    assert b"studio\0" not in (around.out / "0.png").read_bytes()


def test_a_text_encoder_that_reads_on_keeps_a_long_prompt_whole(engine_of: EngineOf, around: tiny.Around) -> None:
    assert engine_of("sd3").run(recipe(prompt="red " * 25), around.ctx).notes == ()


@pytest.mark.parametrize(("family", "width", "hint"), [("sd", 100, "96 and 104"), ("flux", 72, "64 and 80")])
def test_a_size_that_does_not_fit_names_the_nearest_that_do(
    family: str, width: int, hint: str, engine_of: EngineOf, around: tiny.Around
) -> None:
    with pytest.raises(BadRecipe) as raised:
        engine_of(family).run(recipe(width=width), around.ctx)
    assert str(width) in raised.value.problem.sentence
    assert hint in raised.value.problem.hint
    assert raised.value.problem.field == "width"
    assert around.of(Progress) == []  # nothing was computed


def test_a_card_knows_the_size_multiple_better(folder_of: FolderOf, around: tiny.Around) -> None:
    engine = Diffusion()
    engine.load(tiny.card(folder_of("sd"), size_multiple=64, width=64, height=64), PLAN, around.ctx)
    with pytest.raises(BadRecipe, match="multiple of 64"):
        engine.run(recipe(height=96), around.ctx)
    engine.run(recipe(width=None, height=None), around.ctx)
    with Image.open(around.out / "0.png") as image:
        assert image.size == (64, 64)


def test_a_device_that_is_not_there_is_said_with_those_that_are(folder_of: FolderOf, around: tiny.Around) -> None:
    with pytest.raises(BadSetting, match=r"cuda:7.*has .*cpu"):
        Diffusion().load(tiny.card(folder_of("sd")), plan(device="cuda:7"), around.ctx)
    with pytest.raises(BadSetting, match="is not a device"):
        Diffusion().load(tiny.card(folder_of("sd")), plan(device="toaster"), around.ctx)
    with pytest.raises(BadSetting, match="float32"):
        Diffusion().load(tiny.card(folder_of("sd")), plan(dtype="float7"), around.ctx)


# -- schedulers


@pytest.mark.parametrize("family", ["sd", "sd3", "flux"])
def test_every_scheduler_paints_or_says_why_not(
    family: str, engine_of: EngineOf, folder_of: FolderOf, tmp_path: Path
) -> None:
    engine, painted = engine_of(family), {}
    engine.load(tiny.card(folder_of(family), family), plan(preview_every=0), tiny.Around(tmp_path).ctx)
    before = tiny.Around(tmp_path / "before")
    engine.run(recipe(), before.ctx)
    flowing = {"euler", "heun", "lcm", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m", "dpmpp_2s", "unipc"}
    able = {"sd": set(SCHEDULERS), "sd3": flowing, "flux": set()}[family]
    for name in SCHEDULERS:
        around = tiny.Around(tmp_path / name)
        if name in able:
            engine.run(recipe(scheduler=name), around.ctx)
            painted[name] = pixels(around)
        else:
            with pytest.raises(ModelUnfit, match=name):
                engine.run(recipe(scheduler=name), around.ctx)
    if painted:
        assert len(set(painted.values())) > len(painted) // 2  # they are not all the same one
    after = tiny.Around(tmp_path / "after")
    engine.run(recipe(), after.ctx)
    assert pixels(after) == pixels(before)


def test_the_starter_paints_with_every_scheduler(engine_of: EngineOf, tmp_path: Path) -> None:
    engine = engine_of("starter")
    engine.load(tiny.starter_card(), plan(preview_every=0), tiny.Around(tmp_path).ctx)
    for name in SCHEDULERS:
        around = tiny.Around(tmp_path / name)
        engine.run(ImageRecipe(prompt="a red apple", seed=1, steps=2, guidance=1.0, scheduler=name), around.ctx)
        assert pixels(around)


# -- results and memory


def test_numbers_that_are_not_finite_are_no_picture(folder_of: FolderOf, around: tiny.Around) -> None:
    import torch

    engine = Diffusion()
    engine.load(tiny.card(folder_of("sd")), PLAN, around.ctx)
    with torch.no_grad():
        engine._pipe.unet.conv_out.bias.fill_(float("nan"))
    with pytest.raises(BadResult, match="numerical"):
        engine.run(recipe(), around.ctx)
    assert not (around.out / "0.png").exists()


def test_a_decoder_that_overflows_is_noticed(folder_of: FolderOf, around: tiny.Around) -> None:
    import torch

    engine = Diffusion()
    engine.load(tiny.card(folder_of("sd")), plan(preview_every=0), around.ctx)
    with torch.no_grad():
        engine._pipe.vae.decoder.conv_out.bias[1] = float("inf")
    with pytest.raises(BadResult, match="numerical"):
        engine.run(recipe(), around.ctx)


def test_an_all_black_picture_is_refused(folder_of: FolderOf, around: tiny.Around) -> None:
    import torch

    engine = Diffusion()
    engine.load(tiny.card(folder_of("sd")), plan(preview_every=0), around.ctx)
    with torch.no_grad():
        engine._pipe.vae.decoder.conv_out.bias.fill_(-1e6)
    with pytest.raises(BadResult, match="black"):
        engine.run(recipe(), around.ctx)


@pytest.mark.parametrize("where", ["unet", "vae"])
def test_memory_that_runs_out_is_said_with_its_amount_and_the_engine_goes_on(
    where: str, engine_of: EngineOf, tmp_path: Path
) -> None:
    import torch

    engine = engine_of("sd")
    whole = tiny.Around(tmp_path / "whole")
    engine.run(recipe(), whole.ctx)
    module = engine._pipe.unet if where == "unet" else engine._pipe.vae.decoder

    def full(*_: Any) -> None:
        torch.empty(2**60, dtype=torch.uint8)  # a real allocation, refused by torch itself

    hook = module.register_forward_pre_hook(full)
    try:
        with pytest.raises(OutOfMemory, match=r"painting 64×64 px.*1152921504\.6 GB"):
            engine.run(recipe(), tiny.Around(tmp_path / "short").ctx)
    finally:
        hook.remove()
    again = tiny.Around(tmp_path / "again")
    engine.run(recipe(), again.ctx)
    assert pixels(again) == pixels(whole)


# -- loading


def test_what_is_loaded_already_is_kept(folder_of: FolderOf, around: tiny.Around) -> None:
    import torch

    engine = Diffusion()
    engine.load(tiny.card(folder_of("sd")), PLAN, around.ctx)
    pipe, told = engine._pipe, len(around.of(Loading))
    engine.load(tiny.card(folder_of("sd")), plan(threads=2, preview_every=0), around.ctx)
    assert engine._pipe is pipe
    assert len(around.of(Loading)) == told
    assert (torch.get_num_threads(), engine.made_with().threads) == (2, 2)
    engine.load(tiny.card(folder_of("sd")), plan(dtype="bfloat16"), around.ctx)
    assert engine._pipe is not pipe
    assert engine.made_with().dtype == "bfloat16"
    engine.load(tiny.card(folder_of("sdxl"), "other"), PLAN, around.ctx)
    assert type(engine._pipe).__name__ == "StableDiffusionXLPipeline"
    engine.unload()
    assert engine._pipe is None
    engine.unload()
