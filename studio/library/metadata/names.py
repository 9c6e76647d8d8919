"""Names of samplers and of noise spacings in several programs, and ours. Knows names only."""

from __future__ import annotations

import re

from studio.core.recipes import SCHEDULERS

# our name -> A1111 and its relatives, ComfyUI, InvokeAI, diffusers; empty where a program has none that is the same
SAMPLERS: dict[str, tuple[str, str, str, str]] = {
    "ddim": ("DDIM", "ddim", "ddim", "DDIMScheduler"),
    "ddpm": ("DDPM", "ddpm", "ddpm", "DDPMScheduler"),
    "pndm": ("PLMS", "", "pndm", "PNDMScheduler"),
    "euler": ("Euler", "euler", "euler", "EulerDiscreteScheduler"),
    "euler_a": ("Euler a", "euler_ancestral", "euler_a", "EulerAncestralDiscreteScheduler"),
    "edm_euler": ("Euler EDM", "", "", "EDMEulerScheduler"),
    "heun": ("Heun", "heun", "heun", "HeunDiscreteScheduler"),
    "lms": ("LMS", "lms", "lms", "LMSDiscreteScheduler"),
    "ipndm": ("IPNDM", "ipndm", "", "IPNDMScheduler"),
    "dpm2": ("DPM2", "dpm_2", "kdpm_2", "KDPM2DiscreteScheduler"),
    "dpm2_a": ("DPM2 a", "dpm_2_ancestral", "kdpm_2_a", "KDPM2AncestralDiscreteScheduler"),
    "dpmpp_2m": ("DPM++ 2M", "dpmpp_2m", "dpmpp_2m", "DPMSolverMultistepScheduler"),
    "dpmpp_2m_sde": ("DPM++ 2M SDE", "dpmpp_2m_sde", "dpmpp_2m_sde", ""),
    "dpmpp_3m": ("DPM++ 3M", "", "dpmpp_3m", ""),
    "dpmpp_3m_sde": ("DPM++ 3M SDE", "dpmpp_3m_sde", "", ""),
    "dpmpp_2s": ("DPM++ 2S", "", "dpmpp_2s", "DPMSolverSinglestepScheduler"),
    "dpmpp_sde": ("DPM++ SDE", "dpmpp_sde", "dpmpp_sde", "DPMSolverSDEScheduler"),
    "unipc": ("UniPC", "uni_pc", "unipc", "UniPCMultistepScheduler"),
    "deis": ("DEIS", "deis", "deis", "DEISMultistepScheduler"),
    "sa_solver": ("SA Solver", "sa_solver", "", "SASolverScheduler"),
    "lcm": ("LCM", "lcm", "lcm", "LCMScheduler"),
    "tcd": ("TCD", "tcd", "tcd", "TCDScheduler"),
}
A1111, COMFY, INVOKE, DIFFUSERS = range(4)

# Further spellings, in the form of `_folded`. Karras' "k_" of older programs is taken off before.
_ALSO = {
    "dpm 2": "dpm2",
    "dpm 2 a": "dpm2_a",
    "dpm2 ancestral": "dpm2_a",
    "euler ancestral": "euler_a",
    "dpm++ 2m sde gpu": "dpmpp_2m_sde",
    "dpm++ 3m sde gpu": "dpmpp_3m_sde",
    "dpm++ sde gpu": "dpmpp_sde",
    "dpm++": "dpmpp_2m",
    "dpmsolver++": "dpmpp_2m",
    "plms": "pndm",
    "uni pc bh2": "unipc",
    "ddim v3": "ddim",
    "ddim cfg++": "",
    "flowmatcheulerdiscretescheduler": "euler",
    "flow match euler": "euler",
}

# spelling (folded) -> our name of the spacing; "model" where it is what the model's own settings say
_SPACINGS = {
    "karras": "karras",
    "k": "karras",
    "exponential": "exponential",
    "beta": "beta",
    "sgm uniform": "sgm_uniform",
    "trailing": "sgm_uniform",
    "normal": "model",
    "default": "model",
    "uniform": "model",
    "automatic": "model",
    "model": "model",
    "native": "model",
}
_SPACED = {"karras": "Karras", "exponential": "Exponential", "beta": "Beta", "sgm_uniform": "SGM Uniform"}

# "Automatic" in A1111 from 1.9 on is not the same for every sampler.
_AUTOMATIC = {
    "dpmpp_2m": "karras",
    "dpmpp_sde": "karras",
    "dpm2": "karras",
    "dpm2_a": "karras",
    "dpmpp_2m_sde": "exponential",
    "dpmpp_3m_sde": "exponential",
}


def _folded(name: str) -> str:
    text = re.sub(r"[\s_]+", " ", name[:80]).strip().lower().replace("dpmpp", "dpm++").replace("kdpm", "dpm")
    return text.removeprefix("sample ").removeprefix("k ")


def _spellings() -> dict[str, str]:
    found: dict[str, str] = {}
    for ours, theirs in SAMPLERS.items():
        for name in (ours, *theirs):
            if name:
                found.setdefault(_folded(name), ours)
    return {**found, **_ALSO}


_OURS = _spellings()


def scheduler_of(sampler: str, spacing: str = "", *, automatic: bool = False) -> tuple[str, str]:
    """Our names for another program's sampler and spacing, in any spelling of the table.

    Args:
        sampler: "DPM++ 2M Karras", "dpmpp_2m", "k_euler_a", "EulerDiscreteScheduler", …
        spacing: "Karras", "sgm_uniform", …; empty where the program wrote none.
        automatic: read "Automatic" as A1111 means it.

    Returns:
        Scheduler and sigmas, each empty where it is not known (or not in SCHEDULERS). Without any word on the spacing,
        sigmas is "model".
    """
    if not isinstance(sampler, str) or not isinstance(spacing, str):
        return "", ""
    name, folded = _folded(sampler), _folded(spacing)
    sigmas = _SPACINGS.get(folded, "") if folded else "model"
    scheduler = _OURS.get(name, "")
    if not scheduler:
        # older names end in the spacing: "DPM++ 2M Karras", "dpmpp_2m_k", "Euler A Trailing"
        for words in (1, 2):
            first, last = " ".join(name.split(" ")[:-words]), " ".join(name.split(" ")[-words:])
            if last in _SPACINGS and first in _OURS:
                scheduler, sigmas = _OURS[first], sigmas if folded not in ("", "automatic") else _SPACINGS[last]
                break
    if automatic and folded == "automatic" and sigmas == "model":
        sigmas = _AUTOMATIC.get(scheduler, "model")
    return (scheduler if scheduler in SCHEDULERS else ""), sigmas


def sampler_of(scheduler: str, program: int = A1111) -> str:
    """Another program's name for one of our schedulers; empty for "model" and where it has none.

    Args:
        program: A1111, COMFY, INVOKE or DIFFUSERS.
    """
    if scheduler == "dpmpp_2m_karras":  # our old name for what is now two settings
        return ("DPM++ 2M Karras", "dpmpp_2m", "dpmpp_2m_k", "DPMSolverMultistepScheduler")[program]
    return SAMPLERS[scheduler][program] if scheduler in SAMPLERS else ""


def spacing_of(sigmas: str) -> str:
    """A1111's "Schedule type" for one of our spacings; empty for "model"."""
    return _SPACED.get(sigmas, "")
