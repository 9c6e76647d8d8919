"""Checksums of models, computed once. Knows which files of a folder matter; knows nothing of their content."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import msgspec

from studio.core.files import sha256_of
from studio.core.problems import ModelBroken, ModelMissing
from studio.core.text import shown

MATTERS = (".safetensors", ".gguf", ".onnx", ".json", ".txt", ".model")
# what people write beside a model does not change what it makes
_OURS = ("studio.json", "readme.txt", "license.txt", "licence.txt", "notice.txt")
FILES_LIMIT = 5_000
ENTRIES_LIMIT = 20_000
DEPTH = 3


def fingerprint(path: Path, cache: Path | None = None) -> str:
    """The checksum that tells a model from every other.

    Args:
        path: a file, or the folder of a model.
        cache: a folder for `checksums.json`, so that unchanged files (path, size, time) are read once.

    Returns:
        Hexadecimal SHA-256: of the file, or for a folder of the sorted lines "relative/name sha256\\n" of the files
        that matter. Two copies of a folder have the same.

    Raises:
        ModelMissing: there is no such file or folder. ModelBroken: it cannot be read.
    """
    known = _load(cache)
    before = dict(known)
    try:
        if path.is_dir():
            lines = [f"{name} {_sum(file, known)}\n" for name, file in model_files(path)]
            result = hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
        else:
            result = _sum(path, known)
    except (FileNotFoundError, NotADirectoryError):
        raise ModelMissing(f"There is no model at {shown(str(path), 200)}.", "Was it moved or deleted?") from None
    except OSError as error:
        raise ModelBroken(f"The model {shown(path.name)} cannot be read.", detail=str(error)) from error
    if cache is not None and known != before:
        _store(cache, known)
    return result


def model_files(folder: Path) -> list[tuple[str, Path]]:
    """The files of a folder that decide what a model makes: (relative name with slashes, path), sorted."""
    found: list[tuple[str, Path]] = []
    left: list[tuple[Path, str, int]] = [(folder, "", 0)]
    while left:
        place, prefix, depth = left.pop()
        for entry in os.scandir(place):
            if entry.name.startswith(".") or len(found) >= FILES_LIMIT:
                continue
            if entry.is_dir():
                if depth < DEPTH:  # also ends loops of links
                    left.append((Path(entry.path), f"{prefix}{entry.name}/", depth + 1))
            elif entry.name.lower().endswith(MATTERS) and entry.name.lower() not in _OURS and entry.is_file():
                found.append((prefix + entry.name, Path(entry.path)))
    return sorted(found)


def _sum(file: Path, known: dict[str, str]) -> str:
    status = file.stat()
    key = f"{file.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    if key not in known:
        known[key] = sha256_of(file)
    return known[key]


def _load(cache: Path | None) -> dict[str, str]:
    if cache is None:
        return {}
    try:
        return msgspec.json.decode((cache / "checksums.json").read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}  # a cache: whatever is wrong with it, it is made again


def _store(cache: Path, known: dict[str, str]) -> None:
    while len(known) > ENTRIES_LIMIT:
        known.pop(next(iter(known)))
    with contextlib.suppress(UnicodeEncodeError):  # a file name that is not text
        write_cache(cache / "checksums.json", msgspec.json.encode(known))


def write_cache(path: Path, data: bytes) -> None:
    """Replace a cache file in one step, safe against a second process; not being able to is no error."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
