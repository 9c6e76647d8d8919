"""The pipelines of one model: from words, from a picture, into a picture, and each of them under control.

They share every weight with the one that was loaded, so that changing between them costs nothing. Knows classes and
parts; knows nothing of recipes.
"""

from __future__ import annotations

import inspect
from typing import Any, Literal

import torch

from studio.core.problems import ModelUnfit
from studio.models.pipelines import PIPELINES

Task = Literal["words", "from_picture", "into_picture"]

_SAYS = {"words": "make pictures from words alone", "from_picture": "begin from a picture",
         "into_picture": "repaint a part of a picture"}  # fmt: skip


def class_for(family: str, task: Task, control: str = "") -> str:
    """The name of the diffusers class that does a task.

    Args:
        family: class of the model's own pipeline.
        control: "", "controlnet", "union" or "t2i-adapter".

    Raises:
        ModelUnfit: this model has no such way.
    """
    known = PIPELINES.get(family)
    modes = known.modes if known is not None else None
    if not control:
        found = name_of(family, task)
    elif control == "t2i-adapter":
        found = modes.adapter if modes is not None and task == "words" else ""
    else:
        stem = "union" if control == "union" else "control"
        found = getattr(modes, stem + {"words": "", "from_picture": "_from", "into_picture": "_into"}[task], "")
    if not found:
        under = {"": "", "t2i-adapter": " with a T2I adapter"}.get(control, " under the control of a picture")
        raise ModelUnfit(
            f"This kind of model ({family}) cannot {_SAYS[task]}{under}.", "Choose another model.",
            field="controls" if control else {"from_picture": "image", "into_picture": "mask"}.get(task, "model"),
        )  # fmt: skip
    return str(found)


def name_of(family: str, task: Task) -> str:
    """The class that does a task without control, or an empty string."""
    known = PIPELINES.get(family)
    return family if task == "words" else str(getattr(known.modes, task, "")) if known is not None else ""


def derived(pipe: Any, class_name: str, **parts: Any) -> Any:
    """A pipeline of another class around the same weights.

    Args:
        pipe: the one that was loaded.
        parts: components it has beyond those, such as a ControlNet.

    Returns:
        `pipe` itself where it is of that class and nothing is added. Not by `from_pipe`, which would bring all
        weights to float32.
    """
    import diffusers

    if type(pipe).__name__ == class_name and not parts:
        return pipe
    made_by = getattr(diffusers, class_name)
    takes = inspect.signature(made_by.__init__).parameters
    settings = {k: v for k, v in pipe.config.items() if k in takes and not k.startswith("_")}
    shared = {k: v for k, v in pipe.components.items() if k in takes}
    optional = {k: None for k in getattr(made_by, "_optional_components", []) if k in takes}
    made = made_by(**{**optional, **settings, **shared, **parts})
    made.set_progress_bar_config(disable=True)
    # with parts of the model off the graphics card, the hooks that bring them there belong to the modules; these tell
    # the pipeline so
    for name in ("_all_hooks", "_offload_device", "_offload_gpu_id"):
        if hasattr(pipe, name):
            setattr(made, name, getattr(pipe, name))
    return made


def modules_of(pipe: Any) -> list[torch.nn.Module]:
    """The networks of a pipeline."""
    return [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
