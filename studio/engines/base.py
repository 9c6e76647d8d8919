"""The protocol every engine follows, and what a job's surroundings are.

An engine is one file under `engines/` and one line in ENGINES. It holds at most one model, runs one job at a time on
the worker's main thread, and knows no window, no queue and no database.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from studio.core.cards import ModelCard
from studio.core.plans import Plan
from studio.core.recipes import MadeWith, Recipe
from studio.core.works import Result
from studio.engines.context import RunContext


class Engine(Protocol):
    """What the worker calls, in this order: load, then run any number of times, then unload.

    `load` with another card or plan replaces what is loaded. `run` writes its files through `ctx` and returns them;
    it calls `ctx.check()` at least once per step, token batch or sentence. Both raise StudioError with a sentence for
    what a user can cause. After JobCancelled the engine must be able to run again, with the same results as before.

    An engine may also have `park() -> bool`: move the model from the graphics card to this computer's memory, so that
    the next `load` need not read it again; False where that gives nothing back, and it is unloaded instead.

    An engine may also have `count_tokens(text: str) -> int`: how many tokens the loaded model reads a prompt as, with
    those it wants around every prompt. Called on the same thread between jobs; it has to be quick (a job may come
    meanwhile and waits), must not change what later runs give, and what it raises only means “not known”.
    """

    kind: ClassVar[str]

    def load(self, card: ModelCard, plan: Plan, ctx: RunContext) -> None: ...

    def run(self, recipe: Recipe, ctx: RunContext) -> Result: ...

    def unload(self) -> None: ...

    def made_with(self) -> MadeWith: ...
