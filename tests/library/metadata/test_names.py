"""Names of samplers, both ways."""

from __future__ import annotations

import pytest

from studio.core.recipes import SCHEDULERS
from studio.library.metadata.names import (
    A1111,
    COMFY,
    DIFFUSERS,
    INVOKE,
    SAMPLERS,
    sampler_of,
    scheduler_of,
    spacing_of,
)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("program", [A1111, COMFY, INVOKE, DIFFUSERS])
def test_every_scheduler_comes_back_from_every_program_that_has_it(scheduler: str, program: int):
    name = sampler_of(scheduler, program)
    if name and scheduler != "dpmpp_2m_karras":
        assert scheduler_of(name) == (scheduler, "model")


def test_every_scheduler_has_a_name_in_the_parameters():
    assert {s for s in SCHEDULERS if not sampler_of(s)} == set()
    assert sampler_of("model") == ""


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_classes_are_those_of_the_recipes(scheduler: str):
    if scheduler in SAMPLERS and (name := SAMPLERS[scheduler][DIFFUSERS]):
        assert SCHEDULERS[scheduler][0] == name


@pytest.mark.parametrize(
    ("sampler", "spacing", "wanted"),
    [
        ("DPM++ 2M Karras", "", ("dpmpp_2m", "karras")),
        ("DPM++ 2M SDE Exponential", "", ("dpmpp_2m_sde", "exponential")),
        ("DPM++ 2M", "Karras", ("dpmpp_2m", "karras")),
        ("Euler a", "", ("euler_a", "model")),
        ("Euler A Trailing", "", ("euler_a", "sgm_uniform")),
        ("Euler", "SGM Uniform", ("euler", "sgm_uniform")),
        ("dpmpp_2m", "sgm_uniform", ("dpmpp_2m", "sgm_uniform")),
        ("dpmpp_2m_sde_gpu", "karras", ("dpmpp_2m_sde", "karras")),
        ("dpmpp_2m_k", "", ("dpmpp_2m", "karras")),
        ("kdpm_2_a_k", "", ("dpm2_a", "karras")),
        ("k_dpm_2_a", "", ("dpm2_a", "model")),
        ("k_euler_ancestral", "", ("euler_a", "model")),
        ("k_lms", "", ("lms", "model")),
        ("uni_pc_bh2", "normal", ("unipc", "model")),
        ("FlowMatchEulerDiscreteScheduler", "", ("euler", "model")),
        ("DPM++ 2S a", "", ("", "model")),
        ("dpmpp_2s_ancestral", "karras", ("", "karras")),
        ("euler_cfg_pp", "simple", ("", "")),
        ("Restart", "", ("", "model")),
        ("karras", "", ("", "model")),
        ("", "", ("", "model")),
    ],
)
def test_spellings(sampler: str, spacing: str, wanted: tuple[str, str]):
    assert scheduler_of(sampler, spacing) == wanted


def test_automatic_means_karras_for_some_in_a1111_only():
    assert scheduler_of("DPM++ 2M", "Automatic", automatic=True) == ("dpmpp_2m", "karras")
    assert scheduler_of("DPM++ 2M", "Automatic") == ("dpmpp_2m", "model")
    assert scheduler_of("Euler", "Automatic", automatic=True) == ("euler", "model")


def test_a_scheduler_that_is_not_there_is_not_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(SCHEDULERS, "lcm")
    assert scheduler_of("LCM") == ("", "model")


def test_spacings_both_ways():
    for sigmas in ("karras", "exponential", "beta", "sgm_uniform"):
        assert scheduler_of("Euler", spacing_of(sigmas)) == ("euler", sigmas)
    assert spacing_of("model") == ""
