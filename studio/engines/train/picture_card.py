"""The README of a picture model that was trained here: what it is, how it was made, of what, and under whose licence.

Knows a task and its figures; writes no file.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import msgspec

from studio.core.learning import Dataset
from studio.core.text import file_stem
from studio.engines.train.loop import Learned, spoken
from studio.engines.train.picture_models import base_readme
from studio.engines.train.task import Task

_HOW = {
    "lora": "A LoRA: a small adapter that is laid over the model it was made for.",
    "dreambooth": "A LoRA that knows one subject (DreamBooth).",
    "full": "A whole model, trained on from another one.",
    "scratch": "A small text-to-picture model of its own, trained from scratch.",
    "autoencoder": "An autoencoder: it makes pictures into latents and back.",
}


def text(task: Task, learned: Learned, file: str = "", more: tuple[str, ...] = ()) -> str:
    """The README.

    Args:
        file: name of the adapter's file, where it is one. more: further paragraphs.
    """
    recipe, base = task.recipe, task.base
    adapter = recipe.method in ("lora", "dreambooth")
    front = ["---"]
    if base is not None and base.licence:
        front.append(f"license: {_licence(base.licence)}")
    front += ["pipeline_tag: text-to-image"] if recipe.method != "autoencoder" else []
    if base is not None:
        front += [f"base_model: {_plain(base.name)}"]
    front += [f"tags: [{'lora, ' if adapter else ''}diffusers]", "---", ""]
    lines = [*front, f"# {_plain(task.name)}", "", _HOW[recipe.method], ""]
    if base is not None:
        words = "Made for" if adapter else "Made from"
        lines += [
            f"{words} {_plain(base.name)}" + (f", under its licence: {_plain(base.licence)}." if base.licence else ".")
        ]
    if recipe.method == "dreambooth":
        lines += [f"Its subject is called by the words “{_plain(recipe.subject)}”."]
    lines += ["", "## What it learnt from", "", *_data(task), "", "## How", ""]
    rate = recipe.rate
    lines += [
        f"{learned.steps:,} of {recipe.steps:,} steps of {recipe.batch * recipe.accumulate} pictures, the weights of"
        f" step {learned.best_step:,}; learning rate {rate if rate else 'usual'}, {recipe.schedule}; seed {task.seed};"
        f" {spoken(learned.seconds)} on {task.device}, {task.precision}."
    ]
    if learned.why:
        lines += [learned.why]
    figures = [(name, learned.before.get(name), value) for name, value in sorted(learned.after.items())]
    if figures:
        lines += ["", "## Figures", "", "| on fixed draws | before | after |", "| --- | ---: | ---: |"]
        said = {"valid": "loss on pictures kept apart", "seen": "loss on pictures learnt from"}
        for name, before, after in figures:
            was = f"{before:.5g}" if before is not None else "–"
            lines.append(f"| {said.get(name, name)} | {was} | {after:.5g} |")
    prompts = list(dict.fromkeys(sample.prompt for sample in learned.samples))
    if prompts and recipe.method != "autoencoder":
        lines += ["", "samples.jpg shows these prompts with the same seeds before and after:", ""]
        lines += [f"- {_plain(prompt)}" for prompt in prompts]
    if file:
        lines += [
            "", "## In other programs", "",
            f"`pipe.load_lora_weights(folder, weight_name=\"{file}\")` in diffusers. Its alpha is its rank.",
        ]  # fmt: skip
    lines += [part for paragraph in more for part in ("", paragraph)]
    about = base_readme(base)
    if about:
        lines += ["", "## What is said of the model it was made from", "", _deeper(about)]
    return "\n".join(lines) + "\n"


def _data(task: Task) -> list[str]:
    lines = [f"Data set “{_plain(task.data.name)}”, checksum {task.data.sha256[:16] or 'unknown'}."]
    with contextlib.suppress(OSError, msgspec.DecodeError):
        about = msgspec.json.decode((Path(task.data.path) / "dataset.json").read_bytes(), type=Dataset)
        rows = {name: split.rows for name, split in about.splits.items()}
        lines.append(", ".join(f"{count:,} pictures in {name}" for name, count in rows.items() if count) + ".")
        names = sorted({Path(source).name for source in about.recipe.sources})
        if names:
            lines.append(f"Sources: {', '.join(_plain(name) for name in names[:20])}.")
    return lines


def _plain(text: str) -> str:
    """Words on one line that Markdown and YAML take as they are."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(text.split()))


def _licence(name: str) -> str:
    return file_stem(name.replace(".", "_dot_")).replace("-dot-", ".")


def _deeper(markdown: str) -> str:
    return re.sub(r"(?m)^#", "###", markdown)
