"""A course that takes no time, and surroundings for it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from studio.core.events import Event, Progress
from studio.core.learning import Sampled
from studio.core.paths import Paths
from studio.engines.context import RunContext
from studio.engines.train.loop import Rules, seed_of


class Toy:
    """A small network learns a fixed function of noise; with dropout, so that random numbers matter."""

    unit = "rows"

    def __init__(self, seed: int = 5, size: int = 8, ctx: RunContext | None = None) -> None:
        torch.manual_seed(seed)
        self.seed, self.size = seed, size
        self.net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 3), nn.LayerNorm(3))
        self.valid: list[float] = []  # what validation is to say instead of the truth
        self.bad_step = -1
        self.slow = 0.0
        self.ctx = ctx

    @property
    def models(self) -> Mapping[str, nn.Module]:
        return {"": self.net}

    def weight(self, step: int, part: int) -> float:
        return float(self.size)

    def batch(self, step: int, part: int) -> tuple[Tensor, Tensor]:
        draws = torch.Generator().manual_seed(seed_of(self.seed, step, part))
        x = torch.randn(self.size, 6, generator=draws)
        if step == self.bad_step:
            x = x * float("nan")
        return x, x[:, :3].sin() * x[:, 3:]

    def units(self, batch: Any) -> int:
        return len(batch[0])

    def loss(self, batch: Any) -> Tensor:
        return ((self.net(batch[0]) - batch[1]) ** 2).mean(1).sum()

    def validate(self) -> dict[str, float]:
        if self.valid:
            return {"valid": self.valid.pop(0)}
        x = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
        return {"valid": float(((self.net(x) - x[:, :3].sin() * x[:, 3:]) ** 2).mean())}

    def sample(self, step: int) -> Sequence[Sampled]:
        return [Sampled(step, "p", text=f"{float(self.net(torch.ones(1, 6))[0, 0]):.6f} {float(torch.rand(())):.6f}")]


def rules(**more: Any) -> Rules:
    given: dict[str, Any] = {"steps": 20, "rate": 0.01, "seed": 5, "check_every": 5, "patience": 0, "threads": 1}
    return Rules(**{**given, **more})


def surroundings(folder: Path, events: list[Event] | None = None, after: int = -1) -> RunContext:
    """A context that is cancelled when it has heard of `after` steps."""
    cancelled, heard = threading.Event(), [] if events is None else events
    folder.mkdir(parents=True, exist_ok=True)

    def emit(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Progress) and event.phase == "learning" and event.done == after:
            cancelled.set()

    (folder / "out").mkdir(exist_ok=True)
    return RunContext("j1", folder / "out", folder / "cache", emit, cancelled, paths=Paths(folder / "home"))
