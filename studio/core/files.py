"""Writing files so that they survive a power cut. Knows files; knows nothing of what is in them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power cut. Windows does that by itself."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def durable(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that is complete and on disk when the block ends, or not there at all.

    An older file of that name stays as it was until the new one is whole.

    Raises:
        OSError: the disk is full or refuses. A failed fsync counts as not saved and is not tried again on the same
            file: the kernel may have dropped the pages already.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with open(temporary, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_durably(path: Path, data: bytes) -> None:
    """`durable()` for bytes that are already there."""
    with durable(path) as stream:
        stream.write(data)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
