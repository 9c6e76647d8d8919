"""A small data set of drawn pictures, and surroundings for a training of pictures."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from studio.core.cards import Limits, ModelCard
from studio.core.events import Event, Progress
from studio.core.learning import TrainImageRecipe
from studio.core.paths import Paths
from studio.core.plans import Plan
from studio.core.works import Result
from studio.engines.context import RunContext
from studio.engines.train.pictures import TrainImage

COLOURS = ("red", "green", "blue", "orange", "purple", "black")
SHAPES = ("circle", "square", "triangle")


def draw(colour: str, shape: str, size: int = 64, place: int = 0) -> Image.Image:
    picture = Image.new("RGB", (size, size), "white")
    pen, edge = ImageDraw.Draw(picture), size // 5 + place
    box = (edge, edge, size - edge, size - edge)
    if shape == "circle":
        pen.ellipse(box, colour)
    elif shape == "square":
        pen.rectangle(box, colour)
    else:
        pen.polygon([(size // 2, edge), (size - edge, size - edge), (edge, size - edge)], colour)
    return picture


def dataset(folder: Path, train: int = 8, valid: int = 4, size: int = 64, several: bool = False) -> ModelCard:
    """A data set folder as the studio keeps one, written by hand. `several`: ways to say each picture."""
    (folder / "images").mkdir(parents=True)
    number = 0
    for split, count in (("train", train), ("valid", valid)):
        lines = []
        for _ in range(count):
            colour, shape = COLOURS[number % 6], SHAPES[(number // 2) % 3]
            name = f"images/{number:03d}.png"
            draw(colour, shape, size, number % 4).save(folder / name)
            row: dict[str, Any] = {"image": name, "text": f"a {colour} {shape}"}
            if several:
                row["texts"] = [f"a {colour} {shape}", f"{shape}, {colour}"]
            lines.append(json.dumps(row) + "\n")
            number += 1
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return ModelCard(
        id="shapes-000000000000", name="shapes", kind="dataset", engine="", path=str(folder), format="captions",
        sha256="d" * 64,
    )  # fmt: skip


class Bench:
    """A studio's home with a data set in it, in which picture models are trained."""

    def __init__(self, home: Path, base: ModelCard | None, data: ModelCard, *more: ModelCard) -> None:
        self.paths = Paths(home)
        self.paths.make()
        self.base, self.data = base, data
        self.cards = {card.id: card for card in (data, *more, *((base,) if base else ()))}
        self.events: list[Event] = []
        self.out = home / "out"

    def recipe(self, **more: Any) -> TrainImageRecipe:
        given: dict[str, Any] = {
            "data": self.data.id, "model": self.base.id if self.base else "", "name": "My model", "steps": 4,
            "batch": 2, "rate": 1e-3, "check_every": 2, "seed": 7, "run": "r1", "unguided": 0.25,
            "prompts": ("a red circle",),
        }  # fmt: skip
        return TrainImageRecipe(**{**given, **more})

    def context(self, stop: Callable[[Event], bool] | None = None, number: int = 0) -> RunContext:
        cancelled = threading.Event()
        out = self.out / str(number)
        out.mkdir(parents=True, exist_ok=True)

        def emit(event: Event) -> None:
            self.events.append(event)
            if stop is not None and stop(event):
                cancelled.set()

        return RunContext("j1", out, self.paths.cache, emit, cancelled, cards=self.cards, paths=self.paths)

    def train(self, recipe: TrainImageRecipe, ctx: RunContext | None = None) -> Result:
        ctx = ctx or self.context()
        engine = TrainImage()
        engine.load(self.data, Plan(device="cpu", threads=1), ctx)
        return engine.run(recipe, ctx)

    def of(self, kind: type) -> Sequence[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def tiny_base(path: Path) -> ModelCard:
    """The card of a tiny pipeline, which paints in two steps."""
    return ModelCard(
        id="tiny", name="Tiny", kind="image", engine="image.diffusers", path=str(path), format="diffusers",
        sha256="b" * 64, licence="CC0", limits=Limits(width=64, height=64, size_multiple=8),
        defaults={"steps": 2, "guidance": 3.0},
    )  # fmt: skip


def at_step(step: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, Progress) and event.phase == "learning" and event.done == step
