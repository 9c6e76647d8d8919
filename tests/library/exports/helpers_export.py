"""What the export tests share: a job's surroundings, and masters made on the spot."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

from studio.core.events import Event
from studio.core.recipes import ExportRecipe
from studio.core.works import Result
from studio.engines.context import RunContext
from studio.library.exports import Exporter


class Job:
    """One export job in a folder of its own; `events` is what it reported."""

    def __init__(self, home: Path, name: str = "job1") -> None:
        self.staging = home / f"staging-{name}"
        self.staging.mkdir()
        self.events: list[Event] = []
        self.cancel = threading.Event()
        self.ctx = RunContext(name, self.staging, home, self.events.append, self.cancel)

    def export(self, master: Path, kind: str, to: Path | str, *, title: str = "A title", **more: Any) -> Result:
        source = {
            "master": str(master), "kind": kind, "title": title, "created": "2025-01-01T00:00:00Z",
            "recipe": more.pop("recipe", {}), "meta": more.pop("meta", {}),
        }  # fmt: skip
        (self.staging / "request.json").write_text(json.dumps(source), encoding="utf-8")
        return Exporter().run(ExportRecipe(work="w1", to=str(to), **more), self.ctx)


def make_report(path: Path, rows: int = 3, **more: Any) -> Path:
    """A report of two models, with a text in every row."""
    import msgspec

    from studio.core.learning import Measure, Point, Report

    measures = [
        Measure(name=name, value=value, low=value - 1, high=value + 1, of=of, n=rows, unit="bits", better="lower",
                signature="window:512")
        for name, value in (("Perplexity", 12.5), ("BLEU", 31.25)) for of in ("One", "Two")
    ]  # fmt: skip
    written = [["Prompt", "One"], *([f"Prompt {i}", f"Answer {i}, {'of many words ' * 8}"] for i in range(rows))]
    points = [Point(i + 1, 0.0, {"One": 1.0 + i % 3, "Two": 2.0}) for i in range(rows)]
    given: dict[str, Any] = {
        "title": "One and two", "created": "2026-01-02T03:04:05+00:00", "measures": tuple(measures),
        "tables": {"What was written": written}, "plots": {"Bits of each row": points}, "seeds": (7,),
        "data": "tales: test rows", "data_sha256": "ab" * 32, "versions": {"numpy": "2.0"},
        "settings": {"rows": rows}, "notes": ("A note.",),
    }  # fmt: skip
    path.write_bytes(msgspec.json.encode(Report(**{**given, **more})))
    return path


def sine(frames: int, rate: int, hertz: float = 440.0, loudness: float = 0.5) -> list[float]:
    return [loudness * math.sin(2 * math.pi * hertz * i / rate) for i in range(frames)]


def make_wav(path: Path, frames: int = 44_100, rate: int = 22_050, subtype: str = "PCM_16", channels: int = 1) -> Path:
    import numpy as np
    import soundfile

    samples = np.column_stack([sine(frames, rate, 440.0 * (c + 1)) for c in range(channels)])
    soundfile.write(path, samples, rate, subtype)
    return path


def make_png(path: Path, mode: str = "RGBA", size: tuple[int, int] = (64, 48)) -> Path:
    """A picture with many colours; with alpha its left half is see-through."""
    import numpy as np
    from PIL import Image

    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    red, green, blue = x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)
    alpha = np.where(x < width // 2, 0, 255)
    layers = {"RGB": (red, green, blue), "RGBA": (red, green, blue, alpha), "L": (red,), "LA": (red, alpha)}[mode]
    data = np.stack(layers, axis=-1).astype(np.uint8)
    Image.fromarray(data.squeeze(), mode).save(path)
    return path
