"""What each family's denoiser is shown and asked for, held against diffusers' own schedulers and pipelines."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before diffusers is imported by any test

import pytest
import torch

from studio.core.problems import ModelUnfit
from studio.engines.train.families import FAMILIES, Family, Noisy, Stable, family_of
from tests.engines.image import tiny

FlowOf = Callable[[str], Family]
LEVELS = torch.tensor([0.0, 0.25, 0.6, 0.999])


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> FlowOf:
    from diffusers import DiffusionPipeline

    torch.set_num_threads(1)
    home, made = tmp_path_factory.mktemp("families"), {}

    def get(name: str) -> Family:
        if name not in made:
            pipe = DiffusionPipeline.from_pretrained(str(tiny.save_tiny(name, home)), local_files_only=True)
            pipe.set_progress_bar_config(disable=True)
            made[name] = family_of(pipe)
        return made[name]

    return get


def drawn(family: Family, count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(3)
    channels = family.pipe.vae.config.latent_channels
    return tuple(torch.randn(count, channels, 8, 8, generator=draws) for _ in range(2))  # type: ignore[return-value]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_stable_diffusion_is_shown_and_asked_what_its_scheduler_says(family: FlowOf, prediction: str) -> None:
    from diffusers import DDPMScheduler

    pipe = family("sd").pipe
    pipe.scheduler.register_to_config(prediction_type=prediction)
    learning = Stable(pipe)
    latents, noise = drawn(learning)
    seen = learning.noisy(latents, noise, LEVELS, 0.0)
    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    assert seen.steps.tolist() == [0, 250, 600, 999]
    assert torch.allclose(seen.latents, scheduler.add_noise(latents, noise, seen.steps), atol=1e-6)
    wanted = noise if prediction == "epsilon" else scheduler.get_velocity(latents, noise, seen.steps)
    assert torch.allclose(seen.target, wanted, atol=1e-6)
    assert seen.weights.tolist() == [1.0] * 4


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_weighs_as_the_training_scripts_do(family: FlowOf, prediction: str) -> None:
    from diffusers import DDPMScheduler
    from diffusers.training_utils import compute_snr

    pipe = family("sd").pipe
    pipe.scheduler.register_to_config(prediction_type=prediction)
    learning = Stable(pipe)
    latents, noise = drawn(learning)
    seen = learning.noisy(latents, noise, LEVELS, 5.0)
    snr = compute_snr(DDPMScheduler.from_config(pipe.scheduler.config), seen.steps)
    least = snr.clamp(max=5.0)
    wanted = least / snr if prediction == "epsilon" else (least / (snr + 1)).clamp(min=0.05)
    assert torch.allclose(seen.weights, wanted, rtol=1e-3)


def test_the_last_step_of_a_schedule_that_ends_in_pure_noise_counts_too(family: FlowOf) -> None:
    pipe = family("sd").pipe
    pipe.scheduler.register_to_config(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    try:
        learning = Stable(pipe)
        latents, noise = drawn(learning)
        seen = learning.noisy(latents, noise, LEVELS, 5.0)
        assert torch.allclose(seen.latents[3], noise[3], atol=1e-5), "pure noise"
        assert torch.allclose(seen.target[3], -latents[3], atol=1e-5)
        assert float(seen.weights[3]) == pytest.approx(0.05)
    finally:
        pipe.scheduler.register_to_config(rescale_betas_zero_snr=False, prediction_type="epsilon")


@pytest.mark.parametrize("name", ["sd3", "flux", "zimage"])
def test_one_step_along_what_a_flow_is_asked_for_is_the_picture(family: FlowOf, name: str) -> None:
    """A denoiser that answers right brings its own scheduler from pure noise to the picture."""
    learning = family(name)
    latents, noise = drawn(learning)
    seen = learning.noisy(latents, noise, LEVELS, 5.0)
    assert seen.weights.tolist() == [1.0] * 4, "min-SNR is of schedules that keep the variance"
    sigmas = seen.steps.float().view(-1, 1, 1, 1) / 1000
    assert torch.allclose(seen.latents, (1 - sigmas) * latents + sigmas * noise, atol=1e-5)
    scheduler = type(learning.pipe.scheduler).from_config(learning.pipe.scheduler.config)
    scheduler.set_timesteps(6, **({"mu": 1.0} if scheduler.config.use_dynamic_shifting else {}))
    made = noise[:1]
    for time in scheduler.timesteps:
        made = scheduler.step(noise[:1] - latents[:1], time, made, return_dict=False)[0]
    assert torch.allclose(made, latents[:1], atol=1e-4)
    assert torch.allclose(seen.target, noise - latents)


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "flux", "zimage"])
def test_the_denoiser_is_called_as_its_pipeline_calls_it(family: FlowOf, name: str) -> None:
    """The answer at a step of a real picture is the one its pipeline uses there, made from what it has at that step."""
    learning = family(name)
    pipe, network = learning.pipe, learning.network
    calls: list[tuple[Any, Any]] = []

    def heard(module: Any, given: tuple[Any, ...], named: dict[str, Any], answer: Any) -> None:
        calls.append((given[0] if given else named["hidden_states"], answer))

    asked: dict[str, Any] = {"width": 64, "height": 64, "num_inference_steps": 2, "output_type": "latent"}
    # without guidance: the pipeline asks once per step. Flux reads its guidance as a number, 1 in training
    asked["guidance_scale"] = 1.0 if name == "flux" else 0.0
    hook = network.register_forward_hook(heard, with_kwargs=True)
    try:
        with torch.no_grad():
            pipe("a red apple", generator=torch.Generator().manual_seed(4), **asked)
    finally:
        hook.remove()
    wanted = _unpacked(name, calls[0][1][0], pipe)
    latents = _first(name, calls[0][0], pipe)
    time = pipe.scheduler.timesteps[0]
    noisy = Noisy(latents, time.expand(1), latents, torch.ones(1))
    where = learning.where((64, 64), (0, 0), (64, 64))
    words = learning.together(learning.read(["a red apple"]))
    with torch.no_grad():
        found = learning.predict(noisy, words, where[None] if where is not None else None)
    assert torch.allclose(found, wanted, atol=1e-5), float((found - wanted).abs().max())
    assert float(wanted.abs().max()) > 0


def _first(name: str, given: Any, pipe: Any) -> torch.Tensor:
    """The latents of a call, as (1, C, H, W)."""
    if name == "zimage":
        return given[0].squeeze(1)[None]
    return _unpacked(name, given, pipe)


def _unpacked(name: str, answer: Any, pipe: Any) -> torch.Tensor:
    if name == "zimage":
        return -torch.stack(list(answer)).squeeze(2)
    if name == "flux":
        return pipe._unpack_latents(answer, 64, 64, pipe.vae_scale_factor)
    return answer


def test_latents_are_what_the_pipeline_decodes(family: FlowOf) -> None:
    """Encoding follows the same scale and shift as decoding, for families with and without a shift."""
    pixels = torch.rand(2, 3, 64, 64) * 2 - 1
    for name in ("sd", "flux"):
        learning = family(name)
        config = learning.pipe.vae.config
        with torch.no_grad():
            plain = learning.pipe.vae.encode(pixels).latent_dist.mode()
        back = learning.encode(pixels) / config.scaling_factor + (config.shift_factor or 0.0)
        assert torch.allclose(back, plain, atol=1e-4)


def test_guidance_meets_what_was_learnt_without_words(family: FlowOf) -> None:
    learning = family("sdxl")
    for zeros in (False, True):
        learning.pipe.register_to_config(force_zeros_for_empty_prompt=zeros)
        _, wanted, _, pooled = learning.pipe.encode_prompt("x", device="cpu", do_classifier_free_guidance=True)
        read = learning.nothing()
        assert torch.equal(read["embeds"], wanted[0]) and torch.equal(read["pooled"], pooled[0])
        assert (float(read["embeds"].detach().abs().max()) == 0) == zeros
    assert not family("flux").guided


def test_only_families_that_are_known_are_trained(tmp_path: Path) -> None:
    class StableDiffusionInpaintPipeline:
        pass

    with pytest.raises(ModelUnfit, match="A StableDiffusionInpaintPipeline cannot be trained here; Stable Diffusion"):
        family_of(StableDiffusionInpaintPipeline())
    assert len(FAMILIES) == 5
