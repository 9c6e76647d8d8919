"""The table of conversations."""

from __future__ import annotations

from typing import Any

import msgspec

from studio.core.conversations import Conversation, Turn
from studio.core.text import clean, shown
from studio.library.database import Database
from studio.library.jobs import now, to_json

TITLE_LIMIT = 80  # characters

_COLUMNS = "id, title, created, changed, system, turns"
_turns: msgspec.json.Decoder[tuple[Turn, ...]] = msgspec.json.Decoder(tuple[Turn, ...])


class Conversations:
    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, conversation: Conversation) -> None:
        """Write a conversation, new or changed, and make it the newest. Its text is cleaned; a missing title is made
        of its first prompt."""
        turns = tuple(
            Turn(prompt=_clean(t.prompt), jobs=tuple(map(_clean, t.jobs)), chosen=_clean(t.chosen))
            for t in conversation.turns
        )
        title = shown(_clean(conversation.title) or (turns[0].prompt if turns else ""), TITLE_LIMIT)
        system = _clean(conversation.system)
        with self._database.transaction() as db:
            db.execute(
                f"insert into conversations ({_COLUMNS}, sequence) "
                "values (?, ?, ?, ?, ?, ?, (select coalesce(max(sequence), 0) + 1 from conversations)) "
                "on conflict (id) do update set title = excluded.title, changed = excluded.changed, "
                "system = excluded.system, turns = excluded.turns, sequence = excluded.sequence",
                (_clean(conversation.id), title, _clean(conversation.created) or now(), now(), system, to_json(turns)),
            )

    def find(self, conversation_id: str) -> Conversation | None:
        rows = self._database.rows(
            f"select {_COLUMNS} from conversations where id = ?", (_clean(conversation_id),)
        )  # fmt: skip
        return _conversation(rows[0]) if rows else None

    def recent(self, *, limit: int = 200) -> list[Conversation]:
        """Conversations, the one that was changed last first."""
        rows = self._database.rows(f"select {_COLUMNS} from conversations order by sequence desc limit ?", (limit,))
        return [_conversation(row) for row in rows]

    def remove(self, conversation_id: str) -> bool:
        """Forget a conversation; its works stay. Returns whether it was there."""
        with self._database.transaction() as db:
            db.execute("delete from conversations where id = ?", (_clean(conversation_id),))
            return db.changes() > 0


def _clean(text: str) -> str:
    return clean(text)[0]


def _conversation(row: tuple[Any, ...]) -> Conversation:
    conversation_id, title, created, changed, system, turns = row
    return Conversation(
        id=conversation_id, title=title, created=created, changed=changed, system=system, turns=_turns.decode(turns)
    )
