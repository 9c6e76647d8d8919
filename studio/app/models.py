"""The models of one studio: the starters, what lies in the models folder, and what was added by path."""

from __future__ import annotations

from pathlib import Path

from studio.core.cards import Broken, ModelCard
from studio.core.paths import Paths
from studio.core.problems import Problem
from studio.library.database import Database
from studio.library.jobs import now
from studio.models import registry


class Models:
    """Looks anew at every call: files come and go, and looking takes milliseconds."""

    def __init__(self, paths: Paths, database: Database) -> None:
        self._paths = paths
        self._database = database

    def _found(self) -> tuple[list[ModelCard], list[tuple[Path, Broken]]]:
        added = [Path(p) for (p,) in self._database.rows("select path from models order by added")]
        return registry.found(self._paths, added)

    def cards(self) -> list[ModelCard]:
        return self._found()[0]

    def broken(self) -> list[tuple[Path, Problem]]:
        return [(path, Problem(b.code, f"{path.name}: {b.why}.", b.hint)) for path, b in self._found()[1]]

    def choose(self, kind: str, name_or_path: str) -> ModelCard:
        """The model of a kind by id, name or path; a path is remembered, so that recipes can name it by id.

        Raises:
            ModelMissing, ModelBroken, ModelRefused, ModelUnfit.
        """
        cards = self.cards()
        card = registry.choose(cards, kind, name_or_path)
        return card if any(c is card for c in cards) else self._remembered(card)

    def add(self, path: Path) -> ModelCard:
        """Remember a model by its path. Raises ModelMissing, ModelBroken, ModelRefused.

        Returns:
            Its card as it is listed: with the id that is unique here; of its twin where it is a copy of one.
        """
        return self._remembered(registry.examine(path))

    def _remembered(self, card: ModelCard) -> ModelCard:
        with self._database.transaction() as db:
            db.execute("insert or ignore into models (path, added) values (?, ?)", (card.path, now()))
        return registry.listed(self.cards(), card, self._paths.cache)
