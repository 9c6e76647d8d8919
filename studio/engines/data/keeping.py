"""The folder of a data set while it is made: rows go to its parts, and at the end it takes its place, whole.

Knows files, checksums and counts; knows nothing of where rows come from.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from studio.core.files import sync_folder, write_durably
from studio.core.learning import Dataset, Split
from studio.core.text import file_stem
from studio.core.unfinished import Claim, sweep
from studio.engines.data.counting import Lengths, Tokens

PARTS = ("train", "valid", "test")
ABOUT = "dataset.json"
MAKING = ".making-"  # no id of a data set begins with a point
SHOWN = 6  # rows that are told as samples
SHOWN_CHARACTERS = 2_000
BUFFER = 1 << 20
FLUSHED = 64 << 20  # bytes after which a part is flushed to disk, so that no cancel has to wait for gigabytes

Value = dict[str, Any]


class Part:
    """One of train, valid and test: a file of rows and what is in it."""

    def __init__(self, path: Path, count: Callable[[str], int] | None) -> None:
        self.path = path
        self._count = count
        self._stream: BinaryIO = open(path, "xb", buffering=BUFFER)  # noqa: SIM115 - closed by `end`
        self._begin()

    def _begin(self) -> None:
        self._digest = hashlib.sha256()
        self.rows = self.bytes = self.words = self._unflushed = 0
        self._tokens = Tokens(self._count) if self._count is not None else None

    @property
    def sampled(self) -> bool:
        return self._tokens is not None and self._tokens.sampled

    def add(self, value: Value) -> None:
        line = msgspec.json.encode(value) + b"\n"
        self._stream.write(line)
        self._digest.update(line)
        self.rows += 1
        self.bytes += len(line)
        self._unflushed += len(line)
        if self._unflushed > FLUSHED:
            self._flush()
        for text in said(value):
            self.words += len(text.split())
            if self._tokens is not None:
                self._tokens.add(text)

    def written(self) -> Iterator[Value]:
        """The rows that are there at this moment; more may be added meanwhile."""
        self._stream.flush()
        end = self.bytes
        with open(self.path, "rb", buffering=BUFFER) as stream:
            while stream.tell() < end:
                yield msgspec.json.decode(stream.readline())

    def keep(self, wanted: Callable[[Value], bool]) -> list[Value]:
        """Take out all rows that are not wanted, and return them. For parts that fit into memory."""
        rows = list(self.written())
        self._stream.close()
        self._stream = open(self.path, "wb", buffering=BUFFER)  # noqa: SIM115 - closed by `end`
        self._begin()
        out = []
        for value in rows:
            if wanted(value):
                self.add(value)
            else:
                out.append(value)
        return out

    def end(self) -> Split:
        """Flush to disk; no more rows after this."""
        if not self._stream.closed:
            self._flush()
            self._stream.close()
        tokens = self._tokens.total if self._tokens is not None else 0
        return Split(self.rows, self.bytes, self.words, tokens, self._digest.hexdigest())

    def _flush(self) -> None:
        self._unflushed = 0
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.close()


def said(value: Value) -> list[str]:
    """The texts of a row."""
    if "messages" in value:
        return [message["content"] for message in value["messages"]]
    return [value["text"]]


class Folder:
    """A data set that is being made, under a name of its own beside where it will be.

    Args:
        datasets: where data sets are; made where it is not there. job: names the folder.
        count: tokens of a text, where they are counted.
    """

    def __init__(self, datasets: Path, job: str, count: Callable[[str], int] | None) -> None:
        datasets.mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(datasets, f"{MAKING}*")  # of workers that were killed
        self._datasets = datasets
        self.path = datasets / f"{MAKING}{job or 'set'}"
        self._claim = Claim(self.path)
        self.aside = self.path / ".keys"  # for what is needed only while it is made
        self.aside.mkdir(mode=0o700)
        self.parts = {name: Part(self.path / f"{name}.jsonl", count) for name in PARTS}
        self.lengths = Lengths()
        self._samples: list[tuple[int, int, Value]] = []  # the largest number first
        self._pictures = False
        self.picture_bytes = 0

    def add(self, part: str, value: Value, length: int, number: int, picture: bytes = b"") -> None:
        """One row.

        Args:
            length: of its text, in characters. number: the same for the same row; samples are those of the lowest.
        """
        if picture:
            if not self._pictures:
                (self.path / "images").mkdir(mode=0o700)
                self._pictures = True
            path = self.path / value["image"]
            if not path.exists():
                path.write_bytes(picture)
                self.picture_bytes += len(picture)
        self.parts[part].add(value)
        self.lengths.add(length)
        if part == "train" and (len(self._samples) < SHOWN or -number > self._samples[0][0]):
            held = (-number, self.parts[part].rows, _short(value))
            if len(self._samples) < SHOWN:
                heapq.heappush(self._samples, held)
            else:
                heapq.heapreplace(self._samples, held)

    def samples(self) -> tuple[Value, ...]:
        return tuple(value for _, _, value in sorted(self._samples, key=lambda held: -held[0]))

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts.values())

    def end(self) -> dict[str, Split]:
        """Flush all parts to disk."""
        shutil.rmtree(self.aside, ignore_errors=True)
        return {name: part.end() for name, part in self.parts.items()}

    def publish(self, about: Dataset) -> tuple[Dataset, bool]:
        """Put the data set in its place.

        Returns:
            What is there now, and whether it was there already: the rows of one that is are left as they are, and only
            its description is renewed, with its age kept.
        """
        place = self._datasets / about.id
        if (place / ABOUT).is_file():
            with contextlib.suppress(OSError, msgspec.DecodeError):
                old = msgspec.json.decode((place / ABOUT).read_bytes(), type=Dataset)
                about = msgspec.structs.replace(about, created=old.created)
                write_durably(place / ABOUT, encoded(about))
                self.drop()
                return about, True
        if place.exists():
            shutil.rmtree(place)  # without a description it is what is left of a removal
        write_durably(self.path / ABOUT, encoded(about))
        if self._pictures and hasattr(os, "sync"):
            os.sync()  # all at once: flushing a hundred thousand pictures one by one takes a quarter of an hour
        sync_folder(self.path)
        os.rename(self.path, place)
        sync_folder(self._datasets)
        return about, False

    def drop(self) -> None:
        """Leave nothing behind."""
        for part in self.parts.values():
            part.close()
        shutil.rmtree(self.path, ignore_errors=True)
        self._claim.release()


def encoded(about: Dataset) -> bytes:
    return msgspec.json.format(msgspec.json.encode(about), indent=1) + b"\n"


def named(name: str, sha256: str) -> str:
    """The id of a data set."""
    return f"{file_stem(name) or 'data'}-{sha256[:12]}"


def checksum(splits: dict[str, Split]) -> str:
    """Of the checksums of the parts. A picture's name is its checksum, so that the rows stand for the pictures, too."""
    digest = hashlib.sha256()
    for name in PARTS:
        digest.update(f"{name} {splits[name].sha256}\n".encode())
    return digest.hexdigest()


def _short(value: Value) -> Value:
    def cut(text: str) -> str:
        return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"

    if "messages" in value:
        return {"messages": [{**each, "content": cut(each["content"])} for each in value["messages"][:12]]}
    return {**value, "text": cut(value["text"])}
