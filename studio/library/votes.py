"""Votes on works, kept in one file for each kind of work: a line for every vote, and one for every vote taken back.

Lines are only ever added, and each is on disk before the next is written, so that a power cut loses one vote at most.
Knows files; knows nothing of what votes amount to.
"""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Literal

import msgspec

from studio.core.elo import Vote
from studio.core.files import sync_folder
from studio.core.paths import Paths
from studio.core.problems import BadRecipe, NotRead, NotSaved

FILE_LIMIT = 64 * 1024 * 1024  # bytes
_KIND = re.compile(r"^[a-z][a-z-]{0,30}$")


class _Line(msgspec.Struct, frozen=True):
    vote: Vote
    does: Literal["keep", "drop"] = "keep"


_lines: msgspec.json.Decoder[_Line] = msgspec.json.Decoder(_Line)


class Votes:
    """All votes of one studio."""

    def __init__(self, paths: Paths) -> None:
        self._folder = paths.home / "votes"
        self._lock = threading.Lock()

    def of(self, kind: str, *models: str) -> list[Vote]:
        """The votes on works of a kind, in the order they were cast; of two models where they are named.

        Of a pair that was voted on again by the same two models the last vote counts. Lines that cannot be read are
        left out.

        Raises:
            NotRead: the disk refuses.
        """
        found: dict[tuple[str, str, str], Vote] = {}
        for line in self._read(kind):
            low, high = sorted((line.vote.one, line.vote.other))
            found.pop((line.vote.pair, low, high), None)
            if line.does == "keep":
                found[line.vote.pair, low, high] = line.vote
        wanted = set(models)
        return [vote for vote in found.values() if not wanted or {vote.one, vote.other} == wanted]

    def _read(self, kind: str) -> list[_Line]:
        path = self._path(kind)
        try:
            with open(path, "rb") as stream:
                data = stream.read(FILE_LIMIT)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise NotRead(f"The votes could not be read: {error.strerror or error}.", detail=str(path)) from error
        found = []
        for line in data.split(b"\n"):
            try:
                found.append(_lines.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
        return found

    def _path(self, kind: str) -> Path:
        if not _KIND.match(kind):
            raise BadRecipe("That is no kind of work to vote on.", field="what")
        return self._folder / f"{kind}.jsonl"

    def keep(self, kind: str, vote: Vote) -> None:
        """Remember a vote. Raises NotSaved."""
        self._add(kind, _Line(vote))

    def drop(self, kind: str, vote: Vote) -> None:
        """Take a vote back. Raises NotSaved."""
        self._add(kind, _Line(vote, "drop"))

    def _add(self, kind: str, line: _Line) -> None:
        path = self._path(kind)
        try:
            with self._lock:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                with open(path, "ab+") as stream:
                    end = stream.seek(0, os.SEEK_END)
                    cut = False
                    if end:
                        stream.seek(end - 1)
                        cut = stream.read(1) != b"\n"  # a power cut left half a line
                    stream.write((b"\n" if cut else b"") + msgspec.json.encode(line) + b"\n")
                    stream.flush()
                    os.fsync(stream.fileno())
                if not end:
                    sync_folder(self._folder)
        except OSError as error:
            raise NotSaved(f"The vote could not be kept: {error.strerror or error}.", detail=str(path)) from error
