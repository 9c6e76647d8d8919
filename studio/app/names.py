"""What a recipe names, resolved before its job is queued: pictures are kept, additions become ids of their cards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from studio.core.cards import ADDITIONS, ModelCard, same_base
from studio.core.named import Named, renamed
from studio.core.pictures import MAPS
from studio.core.problems import BadRecipe, ModelMissing, ModelUnfit, NotFound, StudioError
from studio.core.recipes import ImageRecipe, Recipe
from studio.core.text import shown
from studio.core.works import Work
from studio.library.inputs import Inputs, is_name
from studio.models.bases import title_of

R = TypeVar("R", bound=Recipe)


class Names:
    """Finds what recipes name.

    Args:
        choose: finds a card by its kind and its name or path. work: a work by its id; raises NotFound.
        path: tells where a work's file lies. dataset: the card of a data set by its id or name.
    """

    def __init__(
        self,
        inputs: Inputs,
        choose: Callable[[str, str], ModelCard],
        work: Callable[[str], Work],
        path: Callable[[Work], Path],
        dataset: Callable[[str], ModelCard],
    ) -> None:
        self._inputs, self._choose, self._work, self._path, self._dataset = inputs, choose, work, path, dataset

    def resolved(self, recipe: R, card: ModelCard) -> tuple[R, dict[str, ModelCard]]:
        """The recipe with every name made durable, and the cards of the additions it names, by id.

        Raises:
            BadRecipe: no such picture. NotRead, NotSaved: it cannot be kept.
            ModelMissing, ModelBroken, ModelRefused: no such addition. ModelUnfit: it is made for another base.
            The problem names the field.
        """
        cards: dict[str, ModelCard] = {}
        recipe = self._with_map_models(recipe)

        def name(named: Named) -> str:
            try:
                if named.refers == "picture":
                    return self.kept(named.value)
                if named.refers == "dataset":
                    addition = self._dataset(named.value)
                else:
                    addition = self._choose(named.refers, named.value)
                    _check_base(addition, card)
            except StudioError as error:
                if not error.problem.field:
                    raise type(error)(
                        error.problem.sentence, error.problem.hint, detail=error.problem.detail, field=named.field
                    ) from None
                raise
            cards[addition.id] = addition
            return addition.id

        of = getattr(recipe, "image", "") if hasattr(recipe, "title") and not recipe.title else ""
        work = self._of_work(of)
        if work is not None or of:
            title = work.title if work is not None else "" if is_name(of) else Path(of).stem
            recipe = msgspec.structs.replace(recipe, title=title)
        return renamed(recipe, name), cards

    def _with_map_models(self, recipe: R) -> R:
        """The recipe with a model for each control picture that takes one; named ones stay, others are left out.

        Raises:
            ModelMissing: there is none of that kind.
        """
        if not isinstance(recipe, ImageRecipe):
            return recipe
        filters = {control.filter for control in recipe.controls}
        named = {"depth": recipe.depth_with, "pose": recipe.pose_with}
        changes = {f"{kind}_with": "" for kind, name in named.items() if name and kind not in filters}
        if "pose" not in filters and recipe.people_with:
            changes["people_with"] = ""
        for kind in MAPS:
            if kind not in filters or named[kind]:
                continue
            try:
                changes[f"{kind}_with"] = self._choose(kind, "").id
            except ModelMissing:
                raise ModelMissing(
                    f"The filter “{kind}” needs {ADDITIONS[kind]}, and there is none in your library.",
                    "Put one into the models folder, or choose another filter.", field=f"{kind}_with",
                ) from None  # fmt: skip
        return msgspec.structs.replace(recipe, **changes) if changes else recipe

    def kept(self, value: str) -> str:
        """The name under which a picture is kept: given by that name, by a work's id, or by a path.

        Raises:
            BadRecipe, NotFound, NotRead, NotSaved.
        """
        if is_name(value):
            return self._inputs.path(value).name
        work = self._of_work(value)
        if work is not None:
            return self._inputs.add(self._path(work))
        path = Path(value).expanduser()
        try:
            there = path.is_file()
        except (OSError, ValueError):
            there = False
        if not there:
            raise BadRecipe(f"There is no picture “{shown(value, 200)}”.", "Give a work's id or the path of a file.")
        return self._inputs.add(path.absolute())

    def _of_work(self, value: str) -> Work | None:
        if not value.startswith("w"):
            return None
        try:
            work = self._work(value)
        except NotFound:
            return None
        if work.kind != "image":
            raise BadRecipe(f"“{shown(work.title)}” is not a picture.")
        return work


def _check_base(addition: ModelCard, card: ModelCard) -> None:
    if not same_base(addition.base, card.base):
        what = ADDITIONS.get(addition.kind, addition.kind)
        made_for, has = (title_of(base) for base in (addition.base, card.base))
        raise ModelUnfit(
            f"“{shown(addition.name)}” is {what} for {made_for}; it does not fit “{shown(card.name)}”, which is {has}.",
            "Choose one that was made for this kind of model.",
        )
