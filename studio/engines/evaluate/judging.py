"""What the engines that judge have in common: they hold nothing between two runs, and say what they measured with."""

from __future__ import annotations

import platform
from typing import ClassVar

from studio.core.cards import ModelCard
from studio.core.plans import Plan
from studio.core.recipes import MadeWith
from studio.engines.context import RunContext
from studio.engines.evaluate import reporting


class Judging:
    """See studio.engines.base. Models are opened in `run`, one after the other.

    Attributes:
        name: of the engine. libraries: whose versions belong to a figure.
    """

    name: ClassVar[str]
    libraries: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        self._plan = Plan()
        self._device = "cpu"

    def load(self, card: ModelCard, plan: Plan, ctx: RunContext) -> None:
        self._plan = plan

    def unload(self) -> None:
        """Nothing is held between two runs."""

    def made_with(self) -> MadeWith:
        return MadeWith(
            engine=self.name, device=self._device, threads=self._plan.threads,
            versions=reporting.versions(*self.libraries), system=f"{platform.system()} {platform.machine()}",
        )  # fmt: skip
