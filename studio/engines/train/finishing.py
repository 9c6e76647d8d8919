"""What is left of a training at its end: a model among the others, its description, a report and a small picture.

The same for texts and pictures. Knows folders and JSON; knows no model.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from studio.core.cards import ModelCard
from studio.core.files import sync_folder, write_durably
from studio.core.learning import Made, Training
from studio.core.problems import ModelMissing
from studio.core.recipes import MadeWith
from studio.core.text import file_stem, shown
from studio.core.unfinished import Claim, sweep
from studio.core.works import Artifact
from studio.engines.context import RunContext
from studio.engines.train.checkpoints import with_room
from studio.engines.train.loop import Learned
from studio.models.fingerprint import fingerprint

DONE = "done.json"  # in the folder of a run: it has ended, and this came of it
UNFINISHED = ".*.tmp"  # models on their way to their place
MASTER, THUMBNAIL = "0.training.json", "0.thumb.webp"


def place(ctx: RunContext, name: str, kind: str, write: Callable[[Path], None], check: Callable[[Path], str]) -> Made:
    """Put a model among the others: written beside its place, loaded back and tried, then given its name.

    Args:
        name: what it is called. kind: "adapter", "model", …
        write: writes all files into an empty folder. check: loads them back and says in a sentence what was compared.

    Returns:
        What was made; its checksum is that of all files that matter, as cards have it: parts that did not learn, such
        as the largest file may be, tell nothing.

    Raises:
        BadResult: what was loaded back is not what was saved. JobCancelled. OSError.
    """
    trained = ctx.paths.trained
    trained.mkdir(mode=0o700, parents=True, exist_ok=True)
    stem = file_stem(name, 60)
    sweep(trained, UNFINISHED)
    temporary = trained / f".{stem}-{ctx.job}.tmp"
    claim = Claim(temporary)

    def written() -> None:
        for left in list(temporary.iterdir()):  # of a try that found no room
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        write(temporary)
        for path in temporary.rglob("*"):
            if path.is_file():
                with open(path, "rb+") as stream:
                    os.fsync(stream.fileno())
        sync_folder(temporary)

    try:
        with_room(ctx, written)
        checked = check(temporary)
        ctx.check()
        target = _named(temporary, trained, stem)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        claim.release()
    sync_folder(trained)
    return Made(
        kind=kind, path=str(target), sha256=fingerprint(target),
        bytes=sum(p.stat().st_size for p in target.rglob("*") if p.is_file()), checked=checked,
    )  # fmt: skip


def _named(temporary: Path, trained: Path, stem: str) -> Path:
    """Give a folder its name. One of the same run is the same: the studio was killed just after it was named."""
    run = _run_of(temporary)
    for number in range(1, 10_000):
        target = trained / (stem if number == 1 else f"{stem}-{number}")
        if run and _run_of(target) == run:
            return target
        if not os.path.lexists(target):
            with contextlib.suppress(FileExistsError, NotADirectoryError):
                os.rename(temporary, target)
                return target
    raise FileExistsError(f"{trained / stem} is taken.")


def _run_of(folder: Path) -> str:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return str(json.loads((folder / "studio.json").read_bytes()).get("run", ""))
    return ""


def about(
    *,
    name: str,
    method: str,
    run: str,
    seed: int,
    data: ModelCard,
    learned: Learned,
    base: ModelCard | None = None,
    base_sha256: str = "",
    made_with: MadeWith,
    more: Mapping[str, Any] | None = None,
) -> bytes:
    """`studio.json` of a model that was trained here; see models/about.py for what is read of it."""
    told = {
        "name": name, "licence": base.licence if base else "", "licence_url": base.licence_url if base else "",
        "method": method, "base": base.id if base else "", "base_sha256": base_sha256, "data": data.id,
        "data_sha256": data.sha256, "run": run, "steps": learned.best_step, "seed": seed,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "metrics": {"before": learned.before, "after": learned.after},
        "versions": made_with.versions, **(more or {}),
    }  # fmt: skip
    return json.dumps({k: v for k, v in told.items() if v not in ("", {}, None)}, indent=1, ensure_ascii=False).encode()


def model_card(title: str, lines: Sequence[str], learned: Learned, *, licence: str, front: Mapping[str, Any]) -> bytes:
    """README.md of a trained model: what it is, of what, with which figures.

    Args:
        lines: sentences about base, data and method. front: for the block of metadata at the top.
    """
    rows = []
    for key in sorted({*learned.before, *learned.after}):
        before, after = (f"{each[key]:.4f}" if key in each else "–" for each in (learned.before, learned.after))
        rows.append(f"| {_measure(key)} | {before} | {after} |")
    head = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items() if value)
    text = [f"---\n{head}\n---", f"# {title}", "\n".join(lines)]
    text.append(
        f"It learnt for {learned.steps:,} steps; the weights of step {learned.best_step:,} are kept."
        + (f" {learned.why}" if learned.why else "")
    )
    if rows:
        text.append("\n".join(["| on rows for validation | before | after |", "|---|---|---|", *rows]))
    text.append(f"Licence of the base: {licence}." if licence else "The licence is that of the data it learnt from.")
    return ("\n\n".join(text) + "\n").encode()


def _measure(key: str) -> str:
    return {"valid": "loss", "accuracy": "accuracy"}.get(key, key)


def report(
    ctx: RunContext, folder: Path, training: Training, began: float, made_with: MadeWith, meta: dict[str, Any]
) -> list[Artifact]:
    """Save the training's report and its picture, and note in the run's folder that it has ended."""
    data = msgspec.json.encode(training)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with_room(ctx, lambda: write_durably(folder / DONE, data))
    return told(ctx, training, began, meta)


def told(ctx: RunContext, training: Training, began: float, meta: dict[str, Any]) -> list[Artifact]:
    """The report of an ended training as a work."""
    seconds = max(time.perf_counter() - began, 1e-6)
    data = msgspec.json.format(msgspec.json.encode(training), indent=1)
    return [
        ctx.save(MASTER, data, meta=meta, seconds=seconds),
        ctx.save(THUMBNAIL, curve_picture(training), role="thumbnail"),
    ]


def ended(folder: Path) -> Training | None:
    """The report of a run that has ended and whose models are still there."""
    try:
        found = msgspec.json.decode((folder / DONE).read_bytes(), type=Training)
    except (OSError, msgspec.DecodeError):
        return None
    return found if all(Path(each.path).exists() for each in found.made) else None


def curve_picture(training: Training, width: int = 256, height: int = 160) -> bytes:
    """A small picture of the curve: loss thin, validation strong with the best marked. WebP."""
    from PIL import Image, ImageDraw

    scale = 2
    image = Image.new("RGB", (width * scale, height * scale), (250, 250, 248))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width * scale - 1, height * scale - 1), outline=(214, 216, 220), width=scale)
    lines = {
        name: [(p.step, p.values[name]) for p in training.curve if math.isfinite(p.values.get(name, math.nan))]
        for name in ("loss", "valid")
    }
    values = [value for line in lines.values() for _, value in line]
    edge = 14 * scale
    draw.line(
        (edge, height * scale - edge, width * scale - edge, height * scale - edge), fill=(190, 194, 200), width=scale
    )
    if values:
        low, high, last = min(values), max(values), max(1, training.steps)
        span = (high - low) or 1.0

        def at(step: int, value: float) -> tuple[float, float]:
            return (
                edge + step / last * (width * scale - 2 * edge),
                height * scale - edge - (value - low) / span * (height * scale - 2 * edge),
            )

        for name, colour, thick in (("loss", (176, 184, 196), scale), ("valid", (38, 110, 200), 2 * scale)):
            points = [at(step, value) for step, value in lines[name]]
            if len(points) > 1:
                draw.line(points, fill=colour, width=thick, joint="curve")
        for step, value in lines["valid"]:
            if step == training.best_step:
                x, y = at(step, value)
                draw.ellipse((x - 4 * scale, y - 4 * scale, x + 4 * scale, y + 4 * scale), fill=(38, 110, 200))
    stream = io.BytesIO()
    image.resize((width, height), Image.Resampling.LANCZOS).save(stream, "WEBP", quality=85)
    return stream.getvalue()


def data_card(ctx: RunContext, name: str) -> ModelCard:
    """The data set that a recipe names, with its folder there. Raises ModelMissing."""
    card = ctx.card(name)
    if not (Path(card.path) / "train.jsonl").is_file():
        raise ModelMissing(f"The data set “{shown(card.name)}” is gone.", "Make it once more.")
    return card


def tidy(folder: Path) -> None:
    """After the end of a run: what it could go on from is not needed any more, and takes much room."""
    for entry in list(folder.iterdir()):
        if entry.name != DONE:
            with contextlib.suppress(OSError):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
