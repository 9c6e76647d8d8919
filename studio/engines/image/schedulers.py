"""Building the noise scheduler a recipe asks for, and reading one at work. Knows schedulers; knows no pipelines."""

from __future__ import annotations

import copy
import inspect
from typing import Any

from studio.core.problems import ModelUnfit
from studio.core.recipes import SCHEDULERS, SIGMAS

# LCM and TCD do not list what they are interchangeable with, but read the same noise schedule.
_SAME_NOISE = {str(name) for name, _ in SCHEDULERS.values()} | {
    "DPMSolverSDEScheduler", "DDIMParallelScheduler", "DDPMParallelScheduler", "SASolverScheduler", "EDMEulerScheduler",
}  # fmt: skip

# Those that lead an exact flow back to its picture (tests/engines/image/test_schedulers.py). Left out although their
# settings have flows: DEIS, which stops short of the last step, and Karras sigmas, which turn into NaN.
_FLOWING = ("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler")

# Schedulers of their own for flows, where the usual one does not know them: our name -> (class, settings).
_FLOW_CLASSES = {
    "euler": "FlowMatchEulerDiscreteScheduler", "heun": "FlowMatchHeunDiscreteScheduler",
    "lcm": "FlowMatchLCMScheduler",
}  # fmt: skip

# Laid over what SCHEDULERS says. Without this, PNDM starts with Runge-Kutta steps, which need four calls each and fail
# below four steps; the models that come with PNDM all leave them out.
_ALWAYS: dict[str, dict[str, Any]] = {"PNDMScheduler": {"skip_prk_steps": True}}


def build(own: Any, name: str, sigmas: str = "model", seed: int = 0) -> Any:
    """The scheduler `name`, made from the settings of the model's own one.

    Args:
        own: the scheduler the model came with, never run; it is left untouched.
        name: "model" for a copy of `own`, or a key of SCHEDULERS.
        sigmas: how the steps are spread over the noise: "model" for the scheduler's own way, or a key of SIGMAS.
        seed: for the one scheduler that makes noise of its own, not from the pipeline's generator.

    Returns:
        A new scheduler. No two runs share one: a cancelled run leaves half a history in it.

    Raises:
        ModelUnfit: the model was trained for another kind of noise, or the library refuses the settings.
    """
    if name == "model" and sigmas == "model":
        return copy.deepcopy(own)
    import diffusers

    kind = type(own).__name__
    class_name, laid_over = (kind, {}) if name == "model" else _entry(name)
    if flows(own) and name in _FLOW_CLASSES and not own.config.get("use_dynamic_shifting"):
        class_name, laid_over = _FLOW_CLASSES[name], {}
    cls = getattr(diffusers, class_name)
    config = own.config
    extra = dict(laid_over) | _ALWAYS.get(class_name, {}) | _spread(cls, name, sigmas)
    if "noise_sampler_seed" in inspect.signature(cls.__init__).parameters:
        extra["noise_sampler_seed"] = seed
    if name == "model":
        pass  # its own class and settings, but for the noise levels
    elif flows(own) and class_name in _FLOW_CLASSES.values():
        takes = inspect.signature(cls.__init__).parameters
        config = {k: v for k, v in own.config.items() if k in takes or k.startswith("_")}
    elif flows(own):
        extra |= _flow_settings(own, name, sigmas)
        # what only the flow's own scheduler reads would be warned about
        takes = inspect.signature(cls.__init__).parameters
        config = {k: v for k, v in own.config.items() if k in takes or k.startswith("_")}
    elif kind not in _SAME_NOISE:
        raise ModelUnfit(
            f"This model has a way of removing noise of its own ({kind}); “{name}” does not fit it.",
            "Leave the scheduler at “model”.", field="scheduler",
        )  # fmt: skip
    try:
        return cls.from_config(config, **extra)
    except (ValueError, TypeError, NotImplementedError, ImportError) as error:
        raise ModelUnfit(
            f"The scheduler “{name}” cannot work with this model's settings: {_first_line(error)}.",
            "Leave the scheduler at “model”.", detail=repr(error), field="scheduler",
        ) from error  # fmt: skip


def _spread(cls: Any, name: str, sigmas: str) -> dict[str, Any]:
    """The settings for a way to spread the steps. Of the ways that exclude each other only the one asked for is on."""
    if sigmas == "model":
        return {}
    wanted, takes = SIGMAS[sigmas], inspect.signature(cls.__init__).parameters
    if not set(wanted) <= set(takes):
        can = [each for each, settings in SIGMAS.items() if set(settings) <= set(takes)]
        raise ModelUnfit(
            f"The scheduler “{name}” cannot spread its steps in the way “{sigmas}”.",
            f"It can do {', '.join(can)}." if can else "Leave the noise levels at “model”.", field="sigmas",
        )  # fmt: skip
    ways = {key for settings in SIGMAS.values() for key in settings if key.startswith("use_")}
    off = dict.fromkeys(ways & set(takes), False) if ways & set(wanted) else {}
    return off | wanted


def flows(scheduler: Any) -> bool:
    """Whether the model was trained to predict a flow from noise to picture instead of noise."""
    config = scheduler.config
    return (
        type(scheduler).__name__.startswith("FlowMatch")
        or config.get("prediction_type") == "flow_prediction"
        or bool(config.get("use_flow_sigmas"))
    )


def denoised(scheduler: Any, predicted: Any, timestep: Any, sample: Any) -> Any:
    """The picture a network sees in `sample`: what a preview shows, and what the scheduler itself steps towards.

    Only reads: the scheduler goes on as if it had not been asked. To be called just before its `step`, with what that
    is given.

    Args:
        predicted: what the network said, guidance and all, (B, C, …), or (B, 2·C, …) with a variance nobody needs here.
        timestep: as for `step`. sample: noisy latents, (B, C, …), as `step` takes them.

    Returns:
        The first of the batch, float32, (1, C, …), on its own device; None where this scheduler's kind is not known.

    Source: Ho et al. 2020, eq. 15 (noise); Salimans & Ho 2022, appendix D (v); Lipman et al. 2022 (flows);
    Karras et al. 2022, eq. 7 (preconditioned).
    """
    noisy, out = sample[:1].detach().float(), predicted[:1].detach().float()
    if out.shape != noisy.shape:
        out = out[:, : noisy.shape[1]]  # a network that has learned the variance, too
        if out.shape != noisy.shape:
            return None
    if type(scheduler).__name__.startswith("FlowMatch"):
        if scheduler.config.get("invert_sigmas"):
            return None
        return noisy - _level(scheduler, timestep) * out
    if hasattr(scheduler, "precondition_outputs"):
        return scheduler.precondition_outputs(noisy, out, _level(scheduler, timestep))
    kept, noise = _shares(scheduler, timestep)
    if not hasattr(scheduler, "_sigma_to_alpha_sigma_t") and hasattr(scheduler, "sigmas"):
        noisy = noisy * kept  # these hold the picture at full strength, under ever more noise
    kind = scheduler.config.get("prediction_type")
    if kind == "sample":
        return out.clone()  # the scheduler may keep its own
    if kind == "v_prediction":
        return kept * noisy - noise * out
    if kind == "flow_prediction":
        return noisy - noise * out
    # nothing of the picture is left where training ended in pure noise
    return (noisy - noise * out) / kept if kind == "epsilon" and kept > 1e-4 else None


def _level(scheduler: Any, timestep: Any) -> float:
    """The noise level of the step that comes next."""
    at = scheduler.step_index
    if at is None:  # the first step
        at = getattr(scheduler, "begin_index", None)
    return float(scheduler.sigmas[scheduler.index_for_timestep(timestep) if at is None else at])


def _shares(scheduler: Any, timestep: Any) -> tuple[float, float]:
    """How much of picture and of noise a sample has, where the two squares add up to 1 (but for flows)."""
    if hasattr(scheduler, "_sigma_to_alpha_sigma_t"):
        import torch

        kept, noise = scheduler._sigma_to_alpha_sigma_t(torch.tensor(_level(scheduler, timestep)))
        return float(kept), float(noise)
    if hasattr(scheduler, "sigmas"):
        import torch

        # Some have levels between their steps, each in a list of its own; what they make of 1 tells the level.
        kept = float(scheduler.scale_model_input(torch.ones(1, dtype=torch.float64), timestep))
        return kept, max(0.0, 1 - kept * kept) ** 0.5
    kept = float(scheduler.alphas_cumprod[int(timestep)])
    return kept**0.5, (1 - kept) ** 0.5


def _flow_settings(own: Any, name: str, sigmas: str) -> dict[str, Any]:
    """What makes the scheduler `name` follow the flow that `own` follows."""
    class_name, laid_over = _entry(name)
    if sigmas in ("karras", "exponential", "beta"):
        raise ModelUnfit(
            f"On a model that follows a flow, the scheduler “{name}” cannot spread its steps in the way “{sigmas}”.",
            "Leave the noise levels at “model”, or take the scheduler “euler”.", field="sigmas",
        )  # fmt: skip
    if class_name not in _FLOWING or "use_karras_sigmas" in laid_over:
        able = [n for n in SCHEDULERS if _entry(n)[0] in _FLOWING and "use_karras_sigmas" not in _entry(n)[1]]
        if not own.config.get("use_dynamic_shifting"):
            able += list(_FLOW_CLASSES)
        raise ModelUnfit(
            f"This model follows a flow from noise to picture, which the scheduler “{name}” cannot do.",
            f"Leave the scheduler at “model”, or try one of {', '.join(able)}.", field="scheduler",
        )  # fmt: skip
    if own.config.get("use_dynamic_shifting"):
        # The pipeline hands such models sigmas and a shift that depend on the picture's size; only its own takes them.
        raise ModelUnfit(
            f"This model shifts its noise by the size of the picture, which the scheduler “{name}” cannot do.",
            "Leave the scheduler at “model”.", field="scheduler",
        )  # fmt: skip
    settings: dict[str, Any] = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
    if "flow_shift" not in own.config:
        settings["flow_shift"] = float(own.config.get("shift") or 1.0)
    return settings


def _entry(name: str) -> tuple[str, dict[str, Any]]:
    """SCHEDULERS[name], with its type told: as a plain dict literal its second half is only an object."""
    class_name, laid_over = SCHEDULERS[name]
    assert isinstance(laid_over, dict)
    return str(class_name), laid_over


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")[:200]
