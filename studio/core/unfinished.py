"""Folders that are being made beside their place, and what is left of those whose maker was killed.

Whoever makes one holds the system's lock on it. That lock goes with the process, however it ends, and stays with the
folder when it gets its name, so that nothing has to be written down. Knows folders; knows nothing of what is in them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from pathlib import Path

OLD_SECONDS = 86_400.0  # where the system has no such locks: what nobody has written to for so long is left over


class Claim:
    """A new folder, and that this process is making it.

    Args:
        folder: of a place that is there. Raises FileExistsError: somebody else makes it. OSError.
    """

    def __init__(self, folder: Path) -> None:
        self._handle: int | None = None
        for _ in range(100):
            folder.mkdir(mode=0o700)
            try:
                self._handle = _locked(folder, wait=True)
            except FileNotFoundError:
                continue
            # between the two lines above it looked like a left one, and may have been swept away
            if self._handle is None or (folder.exists() and os.path.samestat(os.fstat(self._handle), folder.stat())):
                return
            self.release()
        raise FileExistsError(f"{folder} is swept away again and again")

    def release(self) -> None:
        """It is done, or given up."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def sweep(place: Path, pattern: str) -> list[Path]:
    """Remove the folders in `place` whose makers are gone. Returns which these were; never raises."""
    gone = []
    for folder in _listed(place, pattern):
        handle: int | None = None
        try:
            handle = _locked(folder, wait=False)
            if handle is None and not _old(folder):
                continue
            shutil.rmtree(folder)
            gone.append(folder)
        except OSError:  # its maker is at work, or it cannot be removed now
            continue
        finally:
            if handle is not None:
                os.close(handle)
    return gone


def _listed(place: Path, pattern: str) -> list[Path]:
    with contextlib.suppress(OSError):
        return [found for found in place.glob(pattern) if found.is_dir() and not found.is_symlink()]
    return []


def _locked(folder: Path, *, wait: bool) -> int | None:
    """A handle that holds the lock; None where the system has none. Raises OSError: another process has it."""
    if sys.platform == "win32":
        return None
    import fcntl

    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:  # a file system without locks
        os.close(handle)
        return None
    return handle


def _old(folder: Path) -> bool:
    newest = max(found.stat().st_mtime for found in (folder, *folder.iterdir()))
    return time.time() - newest > OLD_SECONDS
