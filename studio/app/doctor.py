"""Looking whether all is well: what a person would be asked for in a report of a problem."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil

from studio import __version__
from studio.app.machine import physical_cores
from studio.core.problems import StudioError
from studio.library.backups import backups, verify
from studio.library.database import look

if TYPE_CHECKING:
    from studio.app.session import Session

LIBRARIES = ("torch", "diffusers", "transformers", "xllamacpp", "onnxruntime", "piper-tts", "pillow", "soundfile")
WORKS = 100_000  # so many are looked at
ROOM = 2 * 1024**3  # bytes free on the disk below which we warn


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at."""

    about: str
    good: bool
    sentence: str


def examine(session: Session) -> list[Finding]:
    """Look at the machine, the libraries, the models and the library. Changes nothing."""
    found = [
        Finding("studio", True, f"{__version__}, Python {platform.python_version()}, {platform.platform()}"),
        Finding("machine", True, _machine()),
        _processor(),
        *_libraries(),
        _disk(session.paths.home),
        Finding("data folder", True, str(session.paths.home)),
    ]
    if session.settings_note:
        found.append(Finding("settings", False, session.settings_note))
    for kind in ("text", "image", "speech"):
        mine = [card for card in session.models() if card.kind == kind]
        names = ", ".join(card.name for card in mine[:5]) + (" …" if len(mine) > 5 else "")
        found.append(Finding(f"{kind} models", bool(mine), names or "none; “studio models --add PATH” adds one"))
    found += [Finding("model", False, f"{p.sentence} {p.hint}".strip()) for _, p in session.broken_models()]
    found += [_works(session), _database(session.paths.database), _backups(session.paths.backups)]
    return found


def _machine() -> str:
    memory = psutil.virtual_memory()
    return (
        f"{physical_cores()} cores, {memory.total / 1024**3:.0f} GB of memory, {memory.available / 1024**3:.0f} GB free"
    )


def _processor() -> Finding:
    """llama.cpp's builds need AVX2 on Intel and AMD processors."""
    flags = Path("/proc/cpuinfo")
    if platform.machine().lower() not in ("x86_64", "amd64") or not flags.exists():
        return Finding("processor", True, platform.processor() or platform.machine())
    good = "avx2" in flags.read_text(errors="replace")
    return Finding("processor", good, "has AVX2" if good else "has no AVX2; text models in GGUF will not run")


def _libraries() -> list[Finding]:
    found = []
    for name in LIBRARIES:
        try:
            found.append(Finding(name, True, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            found.append(Finding(name, False, "not installed; “python3 run.py” completes the set-up"))
    # torchvision built for another torch breaks diffusers at import
    try:
        version = importlib.metadata.version("torchvision")
        found.append(Finding("torchvision", False, f"{version} is installed in {sys.prefix} and may break pictures"))
    except importlib.metadata.PackageNotFoundError:
        pass
    return found


def _disk(home: Path) -> Finding:
    free = shutil.disk_usage(home).free
    return Finding("disk", free >= ROOM, f"{free / 1024**3:.1f} GB free")


def _works(session: Session) -> Finding:
    works = session.works(limit=WORKS)
    missing = [work for work in works if not session.path(work).exists()]
    if missing:
        names = ", ".join(work.id for work in missing[:5])
        return Finding("library", False, f"{len(works)} works, {len(missing)} of them without their file: {names}")
    if len(works) < WORKS and (unread := session.count_works() - len(works)) > 0:
        return Finding("library", False, f"{len(works)} works, and {unread} whose entries cannot be read")
    return Finding("library", True, f"{len(works)} works, every one with its file")


def _database(path: Path) -> Finding:
    try:
        wrong = look(path)
    except OSError as error:
        wrong = error.strerror or str(error)
    except StudioError as error:
        wrong = error.problem.sentence
    return Finding("database", not wrong, f"damaged: {wrong}" if wrong else "sound")


def _backups(folder: Path) -> Finding:
    try:
        found = backups(folder)
    except OSError as error:
        return Finding("backups", False, f"cannot be read: {error.strerror or error}")
    if not found:
        return Finding("backups", True, "none yet; one is made once a day")
    newest = found[0]
    hours = (datetime.now(UTC) - datetime.fromisoformat(newest.made)).total_seconds() / 3600
    age = f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"
    sound = verify(newest.path)
    said = f"{len(found)}, the newest {age} old with {newest.works} works, {'sound' if sound else 'damaged'}"
    return Finding("backups", sound, said)
