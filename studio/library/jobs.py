"""The table of jobs: every change of state goes through here, in a transaction."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from studio.core.jobs import TRANSITIONS, Job, JobState
from studio.core.problems import Problem
from studio.core.recipes import Recipe, kind_of
from studio.library.database import Database

_COLUMNS = (
    "seq, id, state, priority, position, attempts, owner, redo_of, created, started, ended, recipe, problem, notes, why"
)
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: nothing to mistake for something else

_recipes: msgspec.json.Decoder[Recipe] = msgspec.json.Decoder(Recipe)
_problems: msgspec.json.Decoder[Problem] = msgspec.json.Decoder(Problem)
_notes: msgspec.json.Decoder[tuple[str, ...]] = msgspec.json.Decoder(tuple[str, ...])


def new_id(letter: str) -> str:
    """A short unique name: 60 random bits, so that ids of rebuilt and merged libraries do not meet."""
    return letter + "".join(secrets.choice(_ALPHABET) for _ in range(12))


def now() -> str:
    """The time as it is stored: ISO 8601, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class BadTransition(Exception):
    """A job was to go where its state does not lead: an error in the program, never in the input."""


class Jobs:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, recipe: Recipe, *, owner: str, priority: int = 0, redo_of: str = "") -> Job:
        """Write a new queued job. On disk when this returns."""
        with self._database.transaction() as db:
            job_id = new_id("j")
            db.execute(
                "insert into jobs (id, kind, state, priority, owner, redo_of, created, recipe) "
                "values (?, ?, ?, ?, ?, ?, ?, ?)",
                (job_id, kind_of(recipe), "queued", priority, owner, redo_of, now(), to_json(recipe)),
            )
            # behind everything that waits already, until it is moved
            db.execute(
                "update jobs set position = max(seq, (select coalesce(max(position), 0) + 1 from jobs "
                "where state = 'queued' and id != ?)) where id = ?",
                (job_id, job_id),
            )
        return self.get(job_id)

    def find(self, job_id: str) -> Job | None:
        rows = self._database.rows(f"select {_COLUMNS} from jobs where id = ?", (job_id,))
        return next(iter(self._readable(rows)), None)

    def many(self, job_ids: Iterable[str]) -> list[Job]:
        """Jobs by their ids, in that order; those that are not there are left out."""
        wanted = tuple(job_ids)
        # one value, however many ids: SQLite limits the number of values
        rows = self._database.rows(
            f"select {_COLUMNS} from (select key as place, value as wanted from json_each(?)) "
            "join jobs on jobs.id = wanted order by place",
            (to_json(wanted),),
        )
        return self._readable(rows)

    def get(self, job_id: str) -> Job:
        job = self.find(job_id)
        if job is None:
            raise KeyError(job_id)
        return job

    def recent(self, *, limit: int = 100, states: Iterable[JobState] = ()) -> list[Job]:
        """Jobs, newest first."""
        wanted = tuple(str(s) for s in states)
        where = f"where state in ({','.join('?' * len(wanted))})" if wanted else ""
        rows = self._database.rows(
            f"select {_COLUMNS} from jobs {where} order by seq desc limit ?", (*wanted, limit)
        )  # fmt: skip
        return self._readable(rows)

    def unfinished(self) -> list[Job]:
        """Jobs that have not ended, in order of submission."""
        rows = self._database.rows(
            f"select {_COLUMNS} from jobs where state in ('queued', 'running') order by seq"
        )  # fmt: skip
        return self._readable(rows)

    def start(self, job_id: str) -> None:
        """Mark as running and count the attempt, before it is handed over."""
        self._move(job_id, JobState.RUNNING, "started = ?, attempts = attempts + 1", (now(),))

    def requeue(self, job_id: str, why: str = "") -> None:
        """Put a running job back where it was in the queue; `why` says what cut it off, or is empty for the user."""
        self._move(job_id, JobState.QUEUED, "started = '', why = ?", (why,))

    def end(self, job_id: str, state: JobState, *, problem: Problem | None = None, notes: Iterable[str] = ()) -> None:
        """End a job. Call inside the transaction that adds its works."""
        assert state.ended
        values = (now(), to_json(problem) if problem else None, to_json(tuple(notes)))
        self._move(job_id, state, "ended = ?, problem = ?, notes = ?", values)

    def place(self, job_id: str, *, priority: int | None = None, position: float | None = None) -> None:
        """Move a waiting job within the queue."""
        with self._database.transaction() as db:
            db.execute(
                "update jobs set priority = coalesce(?, priority), position = coalesce(?, position) "
                "where id = ? and state = 'queued'",
                (priority, position, job_id),
            )

    def take(self, job_ids: Iterable[str], owner: str) -> None:
        """Make other processes' waiting jobs this one's."""
        with self._database.transaction() as db:
            db.executemany(
                "update jobs set owner = ? where id = ? and state = 'queued'", ((owner, job) for job in job_ids)
            )

    def paused(self) -> frozenset[str]:
        """Lanes that start nothing; "*" is all of them."""
        return frozenset(lane for (lane,) in self._database.rows("select lane from paused"))

    def pause(self, lane: str, on: bool) -> None:
        """Remember that a lane is paused, or is so no more."""
        with self._database.transaction() as db:
            change = "insert or ignore into paused values (?)" if on else "delete from paused where lane = ?"
            db.execute(change, (lane,))

    def _move(self, job_id: str, state: JobState, changes: str, values: tuple[Any, ...]) -> None:
        allowed = [str(s) for s, targets in TRANSITIONS.items() if state in targets]
        with self._database.transaction() as db:
            moved = list(
                db.execute(
                    f"update jobs set state = ?, {changes} where id = ? and state in ({','.join('?' * len(allowed))}) "
                    "returning id",
                    (str(state), *values, job_id, *allowed),
                )
            )
            if not moved:
                found = list(db.execute("select state from jobs where id = ?", (job_id,)))
                was = found[0][0] if found else "not there"
                raise BadTransition(f"job {job_id} is {was}; it cannot become {state}")

    def _readable(self, rows: Iterable[tuple[Any, ...]]) -> list[Job]:
        """Rows as jobs; those that are damaged, or of a newer studio, are passed over."""
        found = []
        for row in rows:
            with contextlib.suppress(msgspec.DecodeError, ValueError, TypeError):
                found.append(self._job(row))
        return found

    def _job(self, row: tuple[Any, ...]) -> Job:
        seq, job_id, state, priority, position, attempts, owner, redo_of, created, started, ended, recipe, *rest = row
        problem, notes, why = rest
        works = []
        if state != "queued":  # asked for one by one, which a long queue would feel
            works = self._database.rows("select id from works where job = ? order by position", (job_id,))
        return Job(
            id=job_id,
            seq=seq,
            recipe=_recipes.decode(recipe),
            state=JobState(state),
            priority=priority,
            position=position,
            attempts=attempts,
            owner=owner,
            redo_of=redo_of,
            created=created,
            started=started,
            ended=ended,
            problem=_problems.decode(problem) if problem else None,
            notes=_notes.decode(notes),
            why=why,
            works=tuple(w for (w,) in works),
        )
