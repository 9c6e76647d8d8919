"""The trail a job leaves in its staging folder while it runs: what a worker that is killed would otherwise take along.

Written by the worker as it goes, read by the studio when the worker, or the studio itself, has gone away in the middle.
Plain appends without a flush to disk: they survive every end of a process, and a power cut may cost the last second.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path

import msgspec

from studio.core.files import write_durably
from studio.core.recipes import SEED_LIMIT, MadeWith
from studio.core.works import Artifact, Result

NAME = "trail.jsonl"
_PART = re.compile(r"part-(\d{1,6})\.txt")
_PART_LIMIT = 64 * 1024 * 1024  # bytes of one text


class _Line(msgspec.Struct, omit_defaults=True):
    made_with: MadeWith | None = None
    artifact: Artifact | None = None
    note: str = ""


_lines: msgspec.json.Decoder[_Line] = msgspec.json.Decoder(_Line)


class Trail:
    """Writes the trail of one job. A disk that refuses costs the trail and not the job.

    Args:
        folder: the job's staging folder; None leaves no trail.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._open: dict[str, int] = {}  # name -> descriptor

    def made_with(self, made_with: MadeWith) -> None:
        """The circumstances: known once the model is loaded."""
        self._write(_Line(made_with=made_with))

    def artifact(self, artifact: Artifact) -> None:
        """A file that is complete and on disk."""
        self._write(_Line(artifact=artifact))

    def note(self, text: str) -> None:
        self._write(_Line(note=text))

    def text(self, index: int, piece: str) -> None:
        """The next piece of text `index`."""
        self._append(f"part-{index}.txt", piece.encode("utf-8", "replace"))

    def close(self) -> None:
        opened, self._open = self._open, {}
        for handle in opened.values():
            os.close(handle)

    def _write(self, line: _Line) -> None:
        self._append(NAME, msgspec.json.encode(line) + b"\n")

    def _append(self, name: str, data: bytes) -> None:
        if self._folder is None:
            return
        with contextlib.suppress(OSError):
            if name not in self._open:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
                self._open[name] = os.open(self._folder / name, flags, 0o600)
            os.write(self._open[name], data)


def left_behind(folder: Path, seed: int | None) -> Result | None:
    """What a job had made when it was cut off: its complete files, and the texts so far as incomplete ones.

    Args:
        folder: the job's staging folder. Texts that are cut off are saved there as files.
        seed: of the job's first work; works count up from it.

    Returns:
        None where there is nothing to keep.

    Raises:
        OSError: a text could not be saved.
    """
    made_with, artifacts, notes = _read(folder)
    masters = {a.index for a in artifacts if a.role == "master"}
    artifacts = [a for a in artifacts if a.index in masters]  # a thumbnail alone is no work
    for index, text in sorted(_texts(folder).items()):
        if index in masters or not text.strip():
            continue
        data = text.encode("utf-8")
        name = f"{index}.txt"
        write_durably(folder / name, data)
        own = None if seed is None else (seed + index) % SEED_LIMIT
        artifacts.append(_cut_off(name, data, index, own, text))
    if not artifacts:
        return None
    return Result(artifacts=tuple(artifacts), made_with=made_with or MadeWith(engine=""), notes=tuple(notes))


def _cut_off(name: str, data: bytes, index: int, seed: int | None, text: str) -> Artifact:
    return Artifact(
        name=name, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data), index=index, seed=seed,
        meta={"finish": "cut off", "words": len(text.split())}, complete=False,
    )  # fmt: skip


def _read(folder: Path) -> tuple[MadeWith | None, list[Artifact], list[str]]:
    made_with, artifacts, notes = None, dict[str, Artifact](), list[str]()
    try:
        lines = (folder / NAME).read_bytes().splitlines()
    except OSError:
        return None, [], []
    for line in lines:
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):  # the last one may be cut off
            said = _lines.decode(line)
            made_with = said.made_with or made_with
            if said.note and said.note not in notes:
                notes.append(said.note)
            if said.artifact is not None and _is_there(folder, said.artifact):
                artifacts[said.artifact.name] = said.artifact
    return made_with, list(artifacts.values()), notes


def _is_there(folder: Path, artifact: Artifact) -> bool:
    path = folder / artifact.name
    if Path(artifact.name).name != artifact.name:
        return False
    try:
        return path.stat().st_size == artifact.bytes
    except OSError:
        return False


def _texts(folder: Path) -> dict[int, str]:
    found = {}
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            part = _PART.fullmatch(path.name)
            if part is not None:
                with open(path, "rb") as stream:
                    # a character may be cut off at the end
                    found[int(part[1])] = stream.read(_PART_LIMIT).decode("utf-8", "ignore")
    return found
