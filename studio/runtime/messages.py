"""What the studio and its workers say to each other.

Length-prefixed JSON: readable, replayable, and nothing is ever unpickled.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, TypeVar

import msgspec

from studio.core.cards import ModelCard
from studio.core.events import Event
from studio.core.plans import Plan
from studio.core.problems import Problem
from studio.core.recipes import Recipe
from studio.core.works import Result

T = TypeVar("T")

FRAME_LIMIT = 64 * 1024 * 1024  # bytes; a longer frame is garbage, not a message


class _Command(msgspec.Struct, frozen=True, kw_only=True, tag_field="do"):
    pass


class Run(_Command, frozen=True, kw_only=True, tag="run"):
    """Do a job. Answered by exactly one of Done, Gone, Stopped.

    `cards`: the additions and data sets that the recipe names, by id. `inputs_dir`: where the pictures lie that it
    names. `home`: the studio's folder, for those that keep more than works: data sets, checkpoints, models.
    """

    job: str
    engine: str
    card: ModelCard
    recipe: Recipe
    plan: Plan
    out_dir: str
    cache_dir: str
    inputs_dir: str = ""
    cards: dict[str, ModelCard] = {}
    home: str = ""


class Cancel(_Command, frozen=True, kw_only=True, tag="cancel"):
    """Stop this job and no other; ignored when it is not running or waiting here."""

    job: str


class Warm(_Command, frozen=True, kw_only=True, tag="warm"):
    """Load a model, so that the next job starts at once."""

    engine: str
    card: ModelCard
    plan: Plan
    cache_dir: str


class Unload(_Command, frozen=True, kw_only=True, tag="unload"):
    """Give the model's memory back. Answered by Warmed."""


class Park(_Command, frozen=True, kw_only=True, tag="park"):
    """Move the model from the graphics card to this computer's memory, or unload it. Answered by Warmed."""


class Count(_Command, frozen=True, kw_only=True, tag="count"):
    """Count a text's tokens, between jobs, with the model that is loaded. Answered by Counted with the same id."""

    id: int
    model: str
    text: str


class Stop(_Command, frozen=True, kw_only=True, tag="stop"):
    """End the process."""


Command = Run | Cancel | Warm | Unload | Park | Count | Stop


class Graphics(msgspec.Struct, frozen=True):
    """The graphics card a model is on. `free`, `total`: bytes; 0 where the library does not tell."""

    name: str
    free: int = 0
    total: int = 0


class _Reply(msgspec.Struct, frozen=True, kw_only=True, tag_field="said"):
    pass


class Hello(_Reply, frozen=True, kw_only=True, tag="hello"):
    """The worker is up and listens."""

    pid: int


class Happened(_Reply, frozen=True, kw_only=True, tag="event"):
    event: Event


class Done(_Reply, frozen=True, kw_only=True, tag="done"):
    """The job's files are in staging, complete and flushed."""

    job: str
    result: Result
    graphics: Graphics | None = None


class Gone(_Reply, frozen=True, kw_only=True, tag="failed"):
    """The job failed. `model`: what the worker holds now. `leaving`: it is of no use any more and ends now."""

    job: str
    problem: Problem
    model: str = ""
    leaving: bool = False
    graphics: Graphics | None = None


class Stopped(_Reply, frozen=True, kw_only=True, tag="cancelled"):
    """The job was cancelled; `result` holds what had been finished by then. `model`: what the worker holds now."""

    job: str
    result: Result | None = None
    model: str = ""
    graphics: Graphics | None = None


class Warmed(_Reply, frozen=True, kw_only=True, tag="warmed"):
    """The answer to Warm, Unload and Park: the id of the model that is now loaded, empty for none."""

    model: str
    problem: Problem | None = None
    graphics: Graphics | None = None


class Counted(_Reply, frozen=True, kw_only=True, tag="counted"):
    """The answer to Count. None: another model is loaded, it cannot count, or a job waits."""

    id: int
    tokens: int | None


Reply = Hello | Happened | Done | Gone | Stopped | Warmed | Counted


class ProtocolError(Exception):
    """The other side sent something that is not a message."""


class CutOff(ProtocolError):
    """The stream ended inside a frame: the other side died while it spoke."""


_encoder = msgspec.json.Encoder()
_commands: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)
_replies: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


def encode(message: Command | Reply) -> bytes:
    """A message as one frame: four bytes of length, little-endian, then JSON."""
    body = _encoder.encode(message)
    if len(body) > FRAME_LIMIT:
        raise ProtocolError(f"a message of {len(body)} bytes is too long")
    return struct.pack("<I", len(body)) + body


def read_command(stream: BinaryIO) -> Command | None:
    """The next command, or None at the end of the stream.

    Raises:
        ProtocolError: the stream broke off inside a frame, or the frame is not a command.
    """
    body = _read_frame(stream)
    return None if body is None else _decode(_commands, body)


def read_reply(stream: BinaryIO) -> Reply | None:
    """The next reply, or None at the end of the stream. Raises as `read_command` does."""
    body = _read_frame(stream)
    return None if body is None else _decode(_replies, body)


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"not a message: {error}") from None


def _read_frame(stream: BinaryIO) -> bytes | None:
    head = stream.read(4)
    if not head:
        return None
    if len(head) < 4:
        raise CutOff("the stream broke off")
    (length,) = struct.unpack("<I", head)
    if length > FRAME_LIMIT:
        raise ProtocolError(f"a frame of {length} bytes is announced")
    body = stream.read(length)
    if len(body) < length:
        raise CutOff("the stream broke off")
    return body
