"""Writing files so that they survive a power cut. Knows files; knows nothing of what is in them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power cut. Windows does that by itself.

    Raises:
        OSError: the disk reports an error. That a network share cannot flush folders is none.
    """
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


@contextlib.contextmanager
def durable(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that is complete and on disk when the block ends, or not there at all.

    An older file of that name stays as it was until the new one is whole. A link of that name is replaced: what it
    points to is not touched.

    Raises:
        OSError: the disk is full or refuses. A failed fsync counts as not saved and is not tried again on the same
            file: the kernel may have dropped the pages already. If it was the folder that could not be flushed, the
            new file has its name, and a power cut may take it back.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.unlink(missing_ok=True)  # of a writer that was killed
    try:
        with open(temporary, "xb") as stream:  # x: a link that is put there is not followed
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
