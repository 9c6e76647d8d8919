"""The table of works."""

from __future__ import annotations

from typing import Any

import msgspec

from studio.core.recipes import Recipe
from studio.core.works import Asset, Work
from studio.library.database import Database
from studio.library.jobs import to_json

_COLUMNS = "id, seq, job, position, kind, title, created, recipe, assets, meta, notes, seconds, complete"

_recipes: msgspec.json.Decoder[Recipe] = msgspec.json.Decoder(Recipe)
_assets: msgspec.json.Decoder[tuple[Asset, ...]] = msgspec.json.Decoder(tuple[Asset, ...])
_notes: msgspec.json.Decoder[tuple[str, ...]] = msgspec.json.Decoder(tuple[str, ...])


class Works:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, works: tuple[Work, ...]) -> int:
        """Add works that are not there yet; call inside a transaction. Returns how many were new."""
        with self._database.transaction() as db:
            before = db.total_changes()
            for work in works:
                db.execute(
                    f"insert or ignore into works ({_COLUMNS}) values ({','.join('?' * 13)})",
                    (
                        work.id, work.seq, work.job, work.index, work.kind, work.title, work.created,
                        to_json(work.recipe), to_json(work.assets), to_json(work.meta), to_json(work.notes),
                        work.seconds, int(work.complete),
                    ),
                )  # fmt: skip
            return db.total_changes() - before

    def find(self, work_id: str) -> Work | None:
        rows = self._database.rows(f"select {_COLUMNS} from works where id = ?", (work_id,))
        return _work(rows[0]) if rows else None

    def like(self, start: str) -> list[str]:
        """Ids that begin with `start`."""
        pattern = start.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        rows = self._database.rows("select id from works where id like ? escape '\\' limit 20", (pattern,))
        return [row[0] for row in rows]

    def recent(self, *, limit: int = 100, kind: str = "", before: str = "") -> list[Work]:
        """Works, newest first; `before` is the id of the last one of the page before."""
        rows = self._database.rows(
            f"select {_COLUMNS} from works where (? = '' or kind = ?) "
            "and (? = '' or row < (select row from works where id = ?)) order by row desc limit ?",
            (kind, kind, before, before, limit),
        )
        return [_work(row) for row in rows]

    def count(self) -> int:
        return int(self._database.rows("select count(*) from works")[0][0])


def _work(row: tuple[Any, ...]) -> Work:
    work_id, seq, job, position, kind, title, created, recipe, assets, meta, notes, seconds, complete = row
    return Work(
        id=work_id,
        seq=seq,
        job=job,
        index=position,
        kind=kind,
        title=title,
        created=created,
        recipe=_recipes.decode(recipe),
        assets=_assets.decode(assets),
        meta=msgspec.json.decode(meta),
        notes=_notes.decode(notes),
        seconds=seconds,
        complete=bool(complete),
    )
