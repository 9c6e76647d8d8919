"""Conversations: questions in order, and the jobs that answered them. The answers themselves are works."""

from __future__ import annotations

import msgspec


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What was said to the model.

    Attributes:
        jobs: ids of the jobs that answer it, in order.
        chosen: id of the work the conversation goes on from; empty for the newest.
    """

    prompt: str
    jobs: tuple[str, ...] = ()
    chosen: str = ""


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """One conversation.

    Attributes:
        created, changed: ISO 8601, UTC; for people to read: order is kept by a number of its own.
        system: what the model should be and do.
    """

    id: str
    title: str
    created: str
    changed: str
    system: str = ""
    turns: tuple[Turn, ...] = ()
