"""What picture recipes are made of: schedulers, and the pictures and additions that steer a model. Plain data."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from studio.core.declare import about

# Left out although diffusers has them: those that do not lead a Stable Diffusion's noise back to its picture, because
# they are made for another way of counting noise (EDM…, IPNDM, consistency models, video).
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    # our name -> (diffusers class, arguments laid over the model's own scheduler settings)
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),  # with them it fails below four steps
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "dpm2": ("KDPM2DiscreteScheduler", {}),
    "dpm2_a": ("KDPM2AncestralDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpmpp_3m": ("DPMSolverMultistepScheduler", {"solver_order": 3}),
    "dpmpp_2s": ("DPMSolverSinglestepScheduler", {}),
    "dpmpp_sde": ("DPMSolverSDEScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "sa_solver": ("SASolverScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
}
SchedulerName = Literal[
    "model", "ddim", "ddpm", "pndm", "euler", "euler_a", "heun", "lms", "dpm2", "dpm2_a",
    "dpmpp_2m", "dpmpp_2m_karras", "dpmpp_2m_sde", "dpmpp_3m", "dpmpp_2s", "dpmpp_sde", "unipc", "deis", "sa_solver",
    "lcm", "tcd",
]  # fmt: skip
assert set(get_args(SchedulerName)) == {"model", *SCHEDULERS}

SIGMAS: dict[str, dict[str, Any]] = {
    # spacing of the noise levels -> arguments laid over a scheduler's settings
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "beta": {"use_beta_sigmas": True},
    "sgm_uniform": {"timestep_spacing": "trailing"},
}
SigmasName = Literal["model", "karras", "exponential", "beta", "sgm_uniform"]
assert set(get_args(SigmasName)) == {"model", *SIGMAS}

# Ways to make a control picture of any picture, without further weights.
FILTERS = ("none", "canny", "lineart", "scribble", "tile", "blur", "gray", "invert")
# And those that a model of the user's makes: kinds of cards.
MAPS = ("depth", "pose")
FilterName = Literal["none", "canny", "lineart", "scribble", "tile", "blur", "gray", "invert", "depth", "pose"]
assert set(get_args(FilterName)) == {*FILTERS, *MAPS}

REFERENCE_LIMIT = 4096  # characters of a path or name

_Weight = Annotated[float, about("Weight", "How strongly it acts; 0 is not at all.", ge=-4.0, le=4.0)]
_Share = Annotated[float, Meta(ge=0.0, le=1.0)]


def _model(kind: str, title: str, help: str) -> Meta:
    return about(title, help, refers=kind, max_length=REFERENCE_LIMIT)


def picture(title: str, help: str, **more: Any) -> Meta:
    """Declares a text that names a picture: a kept one, or (before a job is queued) a work's id or a path."""
    return about(title, help, refers="picture", max_length=REFERENCE_LIMIT, **more)


class Lora(msgspec.Struct, frozen=True):
    """A LoRA laid over the model."""

    model: Annotated[str, _model("lora", "LoRA", "A LoRA's name, or the path of its file.")]
    weight: _Weight = 1.0


class Control(msgspec.Struct, frozen=True, omit_defaults=True):
    """A picture that the result has to follow, through a ControlNet or a T2I adapter."""

    model: Annotated[str, _model("control", "Control model", "A ControlNet's or T2I adapter's name or path.")]
    image: Annotated[str, picture("Picture", "What to follow.")]
    filter: Annotated[
        FilterName,
        about(
            "Filter",
            "How the picture is prepared; none takes it as it is. Depth and pose need a model for it in your library.",
        ),
    ] = "none"
    weight: _Weight = 1.0
    start: Annotated[float, about("From", "From which part of the steps on it acts.", ge=0.0, le=1.0)] = 0.0
    end: Annotated[float, about("Until", "Up to which part of the steps it acts.", ge=0.0, le=1.0)] = 1.0


class Reference(msgspec.Struct, frozen=True):
    """A picture whose content and style the result takes up, through an IP-Adapter."""

    model: Annotated[str, _model("reference", "Reference model", "An IP-Adapter's name or path.")]
    image: Annotated[str, picture("Picture", "What to take up.")]
    weight: _Weight = 0.6


class Detail(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a detector finds in a finished picture, each thing of it repainted by itself at full size."""

    model: Annotated[str, _model("detector", "Detector", "A detector's name or path: what it finds is repainted.")]
    strength: Annotated[
        float, about("Strength", "How far to go from what is there: 0.2 retouches, 1 keeps nothing.", ge=0.02, le=1.0)
    ] = 0.4
    confidence: Annotated[
        float, about("Confidence", "How sure the detector must be; lower finds more, and more wrongly.", ge=0.0, le=1.0)
    ] = 0.3
    classes: Annotated[
        str,
        about("Only", "Which of the things it knows to repaint, as “face; hand”; empty takes all.", max_length=2048),
    ] = ""
    prompt: Annotated[
        str,
        about("Prompt", "What to paint there; empty takes the picture's own prompt.", max_length=REFERENCE_LIMIT),
    ] = ""
    grow: Annotated[int, about("Grow", "How much larger than found, on each side.", unit="px", ge=-256, le=256)] = 4
    feather: Annotated[int, about("Soft edge", "How far the edge is softened.", unit="px", ge=0, le=256)] = 4
    padding: Annotated[int, about("Padding", "How much around it the model sees.", unit="px", ge=0, le=1024)] = 32
    most: Annotated[int, about("At most", "How many of them to repaint, the surest ones.", ge=1, le=100)] = 10
    order: Annotated[
        Literal["left to right", "largest", "surest"], about("Order", "In which order they are repainted.")
    ] = "left to right"


class Margins(msgspec.Struct, frozen=True, omit_defaults=True):
    """Pixels on each side of a picture."""

    left: Annotated[int, about("Left", "Pixels on the left.", unit="px", ge=0, le=4096)] = 0
    top: Annotated[int, about("Top", "Pixels at the top.", unit="px", ge=0, le=4096)] = 0
    right: Annotated[int, about("Right", "Pixels on the right.", unit="px", ge=0, le=4096)] = 0
    bottom: Annotated[int, about("Bottom", "Pixels at the bottom.", unit="px", ge=0, le=4096)] = 0
