"""What a recipe and a job leave open, decided before the job is queued or handed over.

Knows recipes, cards of models, settings and places in the queue; knows nothing of workers or of the database.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from studio.app import fit
from studio.app.learning import CARDS as LEARNING
from studio.app.learning import begun, titled
from studio.app.machine import physical_cores
from studio.app.names import Names
from studio.core.cards import ModelCard
from studio.core.learning import EvaluateSpeechRecipe
from studio.core.plans import SPEEDS, Plan
from studio.core.problems import NotFound
from studio.core.recipes import (
    Checked,
    EditRecipe,
    ExportRecipe,
    MadeWith,
    Recipe,
    SearchRecipe,
    SheetRecipe,
    UpscaleRecipe,
    check,
    kind_of,
    model_of,
)
from studio.core.settings import Settings
from studio.core.works import Work
from studio.library.exports import asks_size, check_target
from studio.library.jobs import new_id
from studio.runtime.schedule import Waiting, share_of_threads

# What needs no model has a card all the same: it says which engine does it.
_EXPORT_CARD = ModelCard(id="files", name="Files", kind="export", engine="export.files", path="", format="", sha256="-")
_EDIT_CARD = ModelCard(id="edit", name="Edit", kind="edit", engine="image.edit", path="", format="", sha256="-")
_SHEET_CARD = ModelCard(
    id="sheet", name="Sheet", kind="sheet", engine="image.sheet", path="", format="", sha256="-"
)  # fmt: skip
_LANCZOS = ModelCard(id="", name="Lanczos", kind="upscale", engine="image.edit", path="", format="", sha256="-")


class Decider:
    """Decides what recipes leave open.

    Args:
        model: the card that a kind and a name or path mean. work: a work by its id; raises NotFound.
        path: tells where a work's file lies. names: finds what recipes name beside their model.
    """

    def __init__(
        self, model: Callable[[str, str], ModelCard], work: Callable[[str], Work], path: Callable[[Work], Path],
        names: Names,
    ) -> None:  # fmt: skip
        self._model, self._work, self._path, self._names = model, work, path, names

    def filled(self, kind: str, given: dict[str, Any]) -> Checked:
        """A recipe from what a person gave, filled up with what suits the chosen model. Raises as `decided`."""
        first = check(kind, {name: value for name, value in given.items() if value is not None})
        if kind == "export":
            return first
        card = self._card_of(first.recipe)
        whole = check(kind, fit.with_defaults(card, given))
        return Checked(fit.fitted(whole.recipe, card), whole.notes)

    def decided(
        self, recipe: Recipe, known: dict[tuple[str, str], ModelCard] | None = None
    ) -> tuple[Recipe, ModelCard, dict[str, ModelCard]]:
        """The recipe with all that was left open decided; its model; and the additions it names, by id.

        Args:
            known: kind and name -> card, for models that were looked up before; those looked up now are added.

        Raises:
            BadRecipe, NotFound, ModelMissing, ModelBroken, ModelRefused, ModelUnfit.
        """
        if isinstance(recipe, ExportRecipe):
            work = self._work(recipe.work)
            if asks_size(recipe.to):
                return msgspec.structs.replace(recipe, work=work.id), _EXPORT_CARD, {}
            to = str(Path(recipe.to).absolute())  # the worker lives in another folder
            check_target(work.kind, to, recipe.overwrite, self._path(work))
            return msgspec.structs.replace(recipe, work=work.id, to=to), _EXPORT_CARD, {}
        if isinstance(recipe, EvaluateSpeechRecipe):
            recipe = msgspec.structs.replace(recipe, sounds=self._sounds(recipe.sounds))
        recipe = begun(recipe, lambda kind: self._model(kind, ""), lambda: new_id("r"))
        wanted = kind_of(recipe), model_of(recipe)
        card = known.get(wanted) if known is not None else None
        card = card or self._card_of(recipe)
        if known is not None:
            known[wanted] = card
        recipe, cards = self._names.resolved(fit.fitted(recipe, card), card)
        if isinstance(recipe, SearchRecipe):
            inner, of_inner = self._names.resolved(recipe.training, card)
            recipe, cards = msgspec.structs.replace(recipe, training=inner), {**cards, **of_inner}
        return titled(recipe, cards), card, cards

    def _sounds(self, named: str) -> str:
        """The file of a spoken work that is named by its id; anything else stays."""
        if not named.startswith("w") or Path(named).exists():
            return named
        try:
            return str(self._path(self._work(named)))
        except NotFound:
            return named

    def _card_of(self, recipe: Recipe) -> ModelCard:
        """The card of the model that makes this recipe, or of the engine that needs none."""
        if (card := LEARNING.get(kind_of(recipe))) is not None:
            return card
        if isinstance(recipe, EditRecipe):
            return _EDIT_CARD
        if isinstance(recipe, SheetRecipe):
            return _SHEET_CARD
        if isinstance(recipe, UpscaleRecipe) and not recipe.model:
            return _LANCZOS
        return self._model(kind_of(recipe), model_of(recipe))


def plan_of(settings: Settings, made_with: MadeWith | None, lane: str, busy: frozenset[str]) -> Plan:
    """How a job of a lane is to be run, while others are busy.

    Args:
        made_with: the circumstances it was made in once, where it is made again.
    """
    cores = settings.threads or physical_cores()
    plan = Plan(
        device=settings.device,
        threads=share_of_threads(cores, lane, busy),
        n_ctx=0,
        preview_every=settings.preview_every,
        memory=settings.memory,
    )
    if lane == "image":
        quick = tuple(name for name in SPEEDS if getattr(settings, name))
        plan = msgspec.structs.replace(plan, dtype=settings.dtype, speed=quick)
    if made_with is None:
        return plan
    # Made again in the circumstances of the first time; where they are gone the worker says what differs.
    return msgspec.structs.replace(
        plan,
        device=made_with.device or plan.device,
        dtype=made_with.dtype or plan.dtype,
        threads=made_with.threads or plan.threads,
        n_batch=made_with.n_batch or plan.n_batch,
        n_ctx=made_with.n_ctx,
        memory=made_with.memory or "full",
        speed=made_with.speed,
        again=True,
    )


def moved(
    queue: Sequence[Waiting], job_id: str, other: str, *, behind: bool
) -> dict[str, tuple[int | None, float | None]]:
    """Where a waiting job comes to stand before or behind another one.

    Returns:
        Job id -> priority and position: of the moved job, and of its neighbours where there is no room for it.

    Raises:
        NotFound: the other one does not wait.
    """
    queue = [w for w in queue if w.job != job_id]
    near = next((w for w in queue if w.job == other), None)
    if near is None:
        raise NotFound(f"Job {other[:40]} does not wait.")
    equals = [w for w in queue if w.priority == near.priority]  # positions count among these only
    at = equals.index(near) + behind
    low = equals[at - 1].position if at > 0 else None
    high = equals[at].position if at < len(equals) else None
    if low is None or high is None:
        position = (low + 1) if low is not None else near.position - 1
    else:
        position = (low + high) / 2
        if not low < position < high:  # moved so often that the numbers between them are used up
            order = [w.job for w in equals]
            order.insert(at, job_id)
            first = equals[0].position
            return {job: (near.priority, first + place) for place, job in enumerate(order)}
    return {job_id: (near.priority, position)}
