"""Schedulers that are said to fit lead noise back to the picture; the others are refused."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, DDPMWuerstchenScheduler, FlowMatchEulerDiscreteScheduler

from studio.core.problems import ModelUnfit
from studio.core.recipes import SCHEDULERS, SIGMAS
from studio.engines.image import schedulers

PICTURE = torch.randn((1, 4, 4, 4), generator=torch.Generator().manual_seed(1))
FLOWING = ["model", "euler", "heun", "lcm", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m", "dpmpp_2s", "unipc"]


def led_back(scheduler: object, steps: int, flow: bool, foreseen: list[float] | None = None) -> float:
    """Largest error after a run with a network that knows the picture exactly. Some schedulers add noise on the way,
    and the network takes it away again, so each must end at the picture.

    `foreseen` is given the error of what can be foreseen in each step."""
    scheduler.set_timesteps(steps)
    noise = torch.Generator().manual_seed(2)
    x = torch.randn(PICTURE.shape, generator=noise) * getattr(scheduler, "init_noise_sigma", 1.0)
    takes_noise = "generator" in scheduler.step.__wrapped__.__code__.co_varnames if hasattr(
        scheduler.step, "__wrapped__"
    ) else "generator" in scheduler.step.__code__.co_varnames  # fmt: skip
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        if flow:
            out = (seen - PICTURE) / (float(t) / 1000)
        else:
            kept = float(ALPHAS[int(t)])
            out = (seen - kept**0.5 * PICTURE) / (1 - kept) ** 0.5
        more = {"generator": noise} if takes_noise else {}
        before = (scheduler.step_index, x.clone()) if hasattr(scheduler, "step_index") else (None, x.clone())
        if foreseen is not None:
            foreseen.append(float((schedulers.denoised(scheduler, out, t, x) - PICTURE).abs().max()))
            assert before[0] is None or before[0] == scheduler.step_index
            assert torch.equal(before[1], x)
        x = scheduler.step(out, t, x, return_dict=False, **more)[0]
    return float((x - PICTURE).abs().max())


OWN = DDIMScheduler(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
    steps_offset=1, timestep_spacing="trailing",
)  # fmt: skip
ALPHAS = OWN.alphas_cumprod


@pytest.mark.parametrize("name", FLOWING)
def test_a_scheduler_given_to_a_flow_leads_back_to_the_picture(name: str) -> None:
    own = FlowMatchEulerDiscreteScheduler(shift=3.0)
    assert led_back(schedulers.build(own, name), 25, flow=True) < 0.02


@pytest.mark.parametrize("name", sorted(set(SCHEDULERS) - set(FLOWING)))
def test_a_scheduler_that_cannot_flow_is_refused_with_those_that_can(name: str) -> None:
    with pytest.raises(ModelUnfit, match=name) as raised:
        schedulers.build(FlowMatchEulerDiscreteScheduler(shift=3.0), name)
    assert "unipc" in raised.value.problem.hint
    assert raised.value.problem.field == "scheduler"


@pytest.mark.parametrize("name", ["model", *sorted(SCHEDULERS)])
def test_every_scheduler_leads_noise_back_to_the_picture(name: str) -> None:
    assert led_back(schedulers.build(OWN, name), 20, flow=False) < 0.2


@pytest.mark.parametrize("sigmas", sorted(SIGMAS))
def test_however_the_steps_are_spread_they_lead_back_to_the_picture_or_it_is_said_why_not(sigmas: str) -> None:
    led, refused = 0, set()
    for name in SCHEDULERS:
        try:
            made = schedulers.build(OWN, name, sigmas)
        except ModelUnfit as unfit:
            refused.add((name, unfit.problem.field))
        else:
            assert led_back(made, 20, flow=False) < 0.2, name
            plain = schedulers.build(OWN, name)
            for one in (made, plain):
                one.set_timesteps(10)
            levels = "sigmas" if hasattr(made, "sigmas") and sigmas != "sgm_uniform" else "timesteps"
            same = torch.equal(getattr(made, levels).float(), getattr(plain, levels).float())
            # OWN is trailing by itself, and one name says karras already
            assert same == (sigmas == "sgm_uniform" or name == f"dpmpp_2m_{sigmas}"), name
            led += 1
    assert led >= 12
    assert {field for _, field in refused} == {"sigmas"}
    assert len(refused) == (1 if sigmas == "sgm_uniform" else 6)


@pytest.mark.parametrize(("name", "sigmas"), [("model", "karras"), ("euler", "beta"), ("lcm", "exponential")])
def test_a_flows_own_schedulers_spread_their_steps_too(name: str, sigmas: str) -> None:
    made = schedulers.build(FlowMatchEulerDiscreteScheduler(shift=3.0), name, sigmas)
    assert led_back(made, 25, flow=True) < 0.02


def test_on_a_flow_the_other_schedulers_would_give_nan_and_are_refused() -> None:
    with pytest.raises(ModelUnfit, match="beta"):
        schedulers.build(FlowMatchEulerDiscreteScheduler(shift=3.0), "unipc", "beta")


def test_a_model_with_its_own_kind_of_noise_keeps_it() -> None:
    own = DDPMWuerstchenScheduler()
    assert type(schedulers.build(own, "model")) is DDPMWuerstchenScheduler
    with pytest.raises(ModelUnfit, match="DDPMWuerstchenScheduler"):
        schedulers.build(own, "euler")


def test_building_leaves_the_models_own_scheduler_alone() -> None:
    before = dict(OWN.config)
    made = schedulers.build(OWN, "model")
    made.set_timesteps(3)
    schedulers.build(OWN, "dpmpp_2m_karras")
    assert dict(OWN.config) == before
    assert OWN.num_inference_steps is None


@pytest.mark.parametrize("name", ["model", *sorted(SCHEDULERS)])
def test_what_a_scheduler_steps_towards_is_the_picture_a_perfect_network_sees(name: str) -> None:
    foreseen: list[float] = []
    plain = led_back(schedulers.build(OWN, name), 10, flow=False)
    assert led_back(schedulers.build(OWN, name), 10, flow=False, foreseen=foreseen) == plain
    assert len(foreseen) >= 10
    # the network here is told whole timesteps, and some schedulers have levels between them
    assert max(foreseen) < 0.03, foreseen


@pytest.mark.parametrize("name", FLOWING)
def test_so_it_is_with_flows(name: str) -> None:
    foreseen: list[float] = []
    own = FlowMatchEulerDiscreteScheduler(shift=3.0)
    plain = led_back(schedulers.build(own, name), 10, flow=True)
    assert led_back(schedulers.build(own, name), 10, flow=True, foreseen=foreseen) == plain
    assert max(foreseen) < 0.03, foreseen


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", ["ddim", "euler", "dpmpp_2m"])
def test_whatever_the_network_predicts_it_is_read(name: str, prediction: str) -> None:
    scheduler = schedulers.build(DDIMScheduler.from_config(OWN.config, prediction_type=prediction), name)
    scheduler.set_timesteps(10)
    t = scheduler.timesteps[3]
    kept = float(ALPHAS[int(t)])
    noise = torch.randn(PICTURE.shape, generator=torch.Generator().manual_seed(3))
    x = kept**0.5 * PICTURE + (1 - kept) ** 0.5 * noise
    said = {"epsilon": noise, "sample": PICTURE, "v_prediction": kept**0.5 * noise - (1 - kept) ** 0.5 * PICTURE}
    if name == "euler":  # the picture at full strength
        x = x / kept**0.5
        scheduler.scale_model_input(x, t)
    assert torch.allclose(schedulers.denoised(scheduler, said[prediction], t, x), PICTURE, atol=0.01)
    # a network that has learned the variance, too, and a batch
    wide = torch.cat([said[prediction], noise], 1).repeat(2, 1, 1, 1)
    assert torch.allclose(schedulers.denoised(scheduler, wide, t, x.repeat(2, 1, 1, 1)), PICTURE, atol=0.01)
