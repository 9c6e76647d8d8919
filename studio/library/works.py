"""The table of works."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from studio.core.recipes import Recipe, words_of
from studio.core.text import searchable
from studio.core.works import Asset, Work
from studio.library.database import Database
from studio.library.jobs import to_json

_WRITTEN = "id, seq, job, position, kind, title, created, recipe, assets, meta, notes, seconds, complete"
# Texts come as bytes: one that was damaged on disk then spoils its own row and not the reading of all.
_COLUMNS = (
    "row, cast(id as blob), seq, cast(job as blob), position, cast(kind as blob), cast(title as blob), "
    "cast(created as blob), cast(recipe as blob), cast(assets as blob), cast(meta as blob), cast(notes as blob), "
    "seconds, complete, starred, cast(removed as blob)"
)

_recipes: msgspec.json.Decoder[Recipe] = msgspec.json.Decoder(Recipe)
_assets: msgspec.json.Decoder[tuple[Asset, ...]] = msgspec.json.Decoder(tuple[Asset, ...])
_metas: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
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
                    f"insert or ignore into works ({_WRITTEN}, words) values ({','.join('?' * 14)})",
                    (
                        work.id, work.seq, work.job, work.index, work.kind, work.title, work.created,
                        to_json(work.recipe), to_json(work.assets), to_json(work.meta), to_json(work.notes),
                        work.seconds, int(work.complete), searchable(work.title, words_of(work.recipe), work.id),
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

    def recent(
        self, *, limit: int = 100, kind: str = "", before: str = "", search: str = "", starred: bool = False,
        removed: bool = False,
    ) -> list[Work]:  # fmt: skip
        """Works, newest first. Rows that cannot be read, damaged or of a newer studio, are passed over.

        Args:
            before: id of the last one of the page before.
            search: words that must all occur somewhere in the title, the recipe's words or the id; in any case,
                also as parts of words.
            starred: only those with a star. removed: those in the bin, and no others.
        """
        conditions, values = ["removed <> ''" if removed else "removed = ''"], list[Any]()
        if kind:
            conditions.append("kind = ?")
            values.append(kind)
        if before:
            conditions.append("row < (select row from works where id = ?)")
            values.append(before)
        if starred:
            conditions.append("starred = 1")
        if words := dict.fromkeys(searchable(search).split()):
            # one value, however many words: SQLite limits the number of values and the depth of a condition
            conditions.append("not exists (select 1 from json_each(?) word where not instr(works.words, word.value))")
            values.append(to_json(list(words)))
        works: list[Work] = []
        while True:
            wanted = limit - len(works)
            rows = self._database.rows(
                f"select {_COLUMNS} from works where {' and '.join(conditions)} order by row desc limit ?",
                (*values, wanted),
            )
            works += _works(rows)
            if len(rows) < wanted or len(works) >= limit:
                return works
            # some were passed over: a short page would be taken for the last one
            conditions, values = [*conditions, "row < ?"], [*values, rows[-1][0]]

    def of_job(self, job_id: str) -> list[Work]:
        """A job's works, in order."""
        rows = self._database.rows(
            f"select {_COLUMNS} from works where job = ? and removed = '' order by position", (job_id,)
        )
        return _works(rows)

    def with_asset(self, size: int, sha256: Callable[[], str]) -> Work | None:
        """The newest work that has a file of this content.

        Args:
            size: bytes. sha256: computes the checksum, in hexadecimal; asked only where some file has that size.
        """
        found = self._database.rows(
            "select works.id, asset.value ->> 'sha256' from works, json_each(iif(json_valid(works.assets), "
            "works.assets, '[]')) asset where asset.value ->> 'bytes' = ? order by works.row desc",
            (size,),
        )
        if not found:
            return None
        wanted = sha256()
        work_id = next((work_id for work_id, sha in found if sha == wanted), None)
        return self.find(work_id) if work_id is not None else None

    def star(self, work_id: str, on: bool) -> None:
        with self._database.transaction() as db:
            db.execute("update works set starred = ? where id = ?", (int(on), work_id))

    def set_removed(self, work_ids: Iterable[str], when: str) -> None:
        """Put works into the bin; an empty `when` takes them out again."""
        with self._database.transaction() as db:
            for work_id in work_ids:
                db.execute("update works set removed = ? where id = ?", (when, work_id))

    def forget(self, work_ids: Iterable[str]) -> None:
        """Delete the rows of works in the bin."""
        with self._database.transaction() as db:
            for work_id in work_ids:
                db.execute("delete from works where id = ? and removed <> ''", (work_id,))

    def recipes(self) -> Iterator[str]:
        """The recipes of all works, in the bin or not, and of all jobs that have not ended, as they are stored."""
        for query in (
            "select cast(recipe as blob) from works",
            "select cast(recipe as blob) from jobs where state in ('queued', 'running')",
        ):
            for (recipe,) in self._database.rows(query):
                yield str(recipe, "utf-8", "replace")

    def count(self, kind: str = "") -> int:
        """How many works there are, of one kind or (empty) of all."""
        return int(
            self._database.rows("select count(*) from works where removed = '' and ? in ('', kind)", (kind,))[0][0]
        )


def _works(rows: Iterable[tuple[Any, ...]]) -> list[Work]:
    return [work for row in rows if (work := _work(row)) is not None]


def _work(row: tuple[Any, ...]) -> Work | None:
    """The work of a row, or None where the row cannot be read."""
    _, work_id, seq, job, position, kind, title, created, recipe, assets, meta, notes, seconds, complete, *more = row
    starred, removed = more
    try:
        work = Work(
            id=str(work_id, "utf-8"),
            seq=seq,
            job=str(job, "utf-8"),
            index=position,
            kind=str(kind, "utf-8"),
            title=str(title, "utf-8"),
            created=str(created, "utf-8"),
            recipe=_recipes.decode(recipe),
            assets=_assets.decode(assets),
            meta=_metas.decode(meta),
            notes=_notes.decode(notes),
            seconds=seconds,
            complete=bool(complete),
            starred=bool(starred),
            removed=str(removed, "utf-8"),
        )
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError):  # the last: nothing where a text should be
        return None
    return work if any(asset.role == "master" for asset in work.assets) else None
