"""The data sets of one studio: folders that a worker made and that nothing changes afterwards.

Knows folders, their `dataset.json`, and the rows that a person wants to see.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec

from studio.core.cards import ModelCard
from studio.core.learning import Dataset
from studio.core.paths import Paths
from studio.core.problems import ModelMissing, NotFound, NotRead, NotSaved
from studio.core.text import shown

ABOUT = "dataset.json"
ABOUT_LIMIT = 16 * 1024 * 1024  # bytes
SPLITS = ("train", "valid", "test")
ROW_LIMIT = 1 << 20  # bytes of a row that is shown
_ID = re.compile(r"^[^/\\.][^/\\]*-[0-9a-f]{12}$")
_row: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
_datasets: msgspec.json.Decoder[Dataset] = msgspec.json.Decoder(Dataset)


class Datasets:
    """Looks anew at every call: folders come and go."""

    def __init__(self, paths: Paths) -> None:
        self._folder = paths.datasets
        # path -> (when it was changed and how large it is, what stood there): descriptions are read once
        self._read: dict[Path, tuple[tuple[int, int], Dataset]] = {}

    def all(self) -> list[Dataset]:
        """Newest first; what cannot be read is left out."""
        found = []
        try:
            entries = [e.name for e in os.scandir(self._folder) if _ID.match(e.name) and e.is_dir()]
        except OSError:
            return []
        for name in entries:
            try:
                found.append(self.get(name))
            except (NotFound, NotRead):
                continue
        return sorted(found, key=lambda d: (d.created, d.id), reverse=True)

    def get(self, dataset_id: str) -> Dataset:
        """Raises NotFound: there is none. NotRead: its description is damaged."""
        path = self.folder(dataset_id) / ABOUT
        try:
            with open(path, "rb") as stream:
                about = os.fstat(stream.fileno())
                stamp = about.st_mtime_ns, about.st_size
                known = self._read.get(path)
                if known is None or known[0] != stamp:
                    found = _datasets.decode(stream.read(ABOUT_LIMIT))
                    if found.id != dataset_id:  # its folder was renamed by hand; that is where it lies
                        found = msgspec.structs.replace(found, id=dataset_id)
                    known = self._read[path] = stamp, found
                return known[1]
        except OSError:
            self._read.pop(path, None)
            raise NotFound(f"There is no data set “{shown(dataset_id, 80)}”.") from None
        except msgspec.DecodeError as error:
            raise NotRead(f"The data set “{shown(dataset_id, 80)}” is damaged.", detail=str(error)) from None

    def folder(self, dataset_id: str) -> Path:
        """Where a data set lies. Raises NotFound: that is not the id of one."""
        if not _ID.match(dataset_id):
            raise NotFound(f"There is no data set “{shown(dataset_id, 80)}”.")
        return self._folder / dataset_id

    def choose(self, name: str) -> Dataset:
        """The data set of this id, or the newest of this name. Raises ModelMissing."""
        every = self.all()
        for found in (*(d for d in every if d.id == name), *(d for d in every if d.name == name)):
            return found
        beginning = [d for d in every if d.id.startswith(name)] if name else []
        if len(beginning) == 1:
            return beginning[0]
        there = ", ".join(f"“{shown(d.name, 40)}”" for d in every[:8])
        hint = f"There are {there}." if there else "“studio data FILE” makes one."
        raise ModelMissing(f"There is no data set “{shown(name, 80)}”.", hint)

    def rows(self, dataset_id: str, part: str = "train", start: int = 0, count: int = 50) -> list[dict[str, Any]]:
        """Some rows of a part, as they are kept, for somebody to look at.

        A row that is longer than a megabyte is left out.

        Args:
            part: one of SPLITS. start: how many rows come before.

        Raises:
            NotFound: there is no such data set or part. NotRead: its file is damaged.
        """
        path = self.folder(dataset_id) / f"{part}.jsonl"
        if part not in SPLITS or not path.is_file():
            raise NotFound(f"There is no part “{shown(part, 20)}” of the data set “{shown(dataset_id, 80)}”.")
        found: list[dict[str, Any]] = []
        at = 0
        try:
            with open(path, "rb") as stream:
                while len(found) < count and (line := stream.readline(ROW_LIMIT)):
                    whole = line.endswith(b"\n")
                    while not line.endswith(b"\n") and (line := stream.readline(ROW_LIMIT)):
                        pass
                    if at >= start and whole:
                        found.append(_row.decode(line))
                    at += 1
        except (OSError, msgspec.DecodeError) as error:
            raise NotRead(f"The data set “{shown(dataset_id, 80)}” is damaged.", detail=str(error)) from None
        return found

    def card(self, name: str) -> ModelCard:
        """A data set as a worker is given it: `path` is its folder. Raises ModelMissing."""
        found = self.choose(name)
        size = sum(split.bytes for split in found.splits.values())
        return ModelCard(
            id=found.id, name=found.name, kind="dataset", engine="", path=str(self.folder(found.id)),
            format=found.shape, bytes=size, sha256=found.sha256,
        )  # fmt: skip

    def remove(self, dataset_id: str) -> None:
        """Delete a data set for good. Raises NotFound, NotSaved."""
        folder = self.folder(dataset_id)
        if not folder.is_dir():
            raise NotFound(f"There is no data set “{shown(dataset_id, 80)}”.")
        try:
            # its description first: what is left of a removal that was cut off is no data set any more
            (folder / ABOUT).unlink(missing_ok=True)
            shutil.rmtree(folder)
        except OSError as error:
            raise NotSaved(f"The data set could not be deleted: {error.strerror or error}.") from None
