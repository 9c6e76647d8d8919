"""What an export is made from, and the stream its bytes go to. Knows neither formats nor the library's database."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

import studio
from studio.core.problems import LibraryBroken, NotFound, NotRead, StudioError
from studio.core.text import clean, shown

REQUEST = "request.json"  # in the job's staging folder, put there by the runtime before the run

MADE_WITH = f"made with studio {studio.__version__}"
SOFTWARE = f"studio {studio.__version__}"

_WORDS = {
    "text": "text", "image": "picture", "speech": "sound", "report": "report", "training": "training",
    "dataset": "data set",
}  # fmt: skip
_WHY = {
    errno.EIO: "the disk reports an error",
    errno.ESTALE: "the network folder is gone",
    errno.EACCES: "there is no permission to read it",
}


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The work to export, as the runtime writes it down.

    Attributes:
        master: absolute path of the kept master; read, never written.
        kind: "text", "image" or "speech".
        recipe: the work's recipe as plain JSON; may come from an older or newer studio.
        created: ISO 8601, UTC, or empty.
    """

    master: str
    kind: str
    title: str = ""
    recipe: dict[str, Any] = {}
    meta: dict[str, Any] = {}
    created: str = ""

    @property
    def path(self) -> Path:
        return Path(self.master)

    @property
    def tag(self) -> str:
        """The title for a metadata field: one line, at most 200 characters."""
        return shown(clean(self.title)[0], 200)


def read_source(folder: Path) -> Source:
    """Read what the runtime left in the staging folder.

    Raises:
        NotFound: the note is missing or cannot be read, or the kept master is gone.
        NotRead: the disk with the kept master refuses.
    """
    try:
        source = msgspec.json.decode((folder / REQUEST).read_bytes(), type=Source)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NotFound("The export was not told which work to write.", detail=repr(error)) from error
    try:
        is_file = stat.S_ISREG(os.stat(source.path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_file = False
    except OSError as error:
        raise unreadable(source, error) from error
    if not is_file:
        raise NotFound("The kept file of this work is gone.", "Look for it in the trash or a backup.", field="work")
    return source


def unreadable(source: Source, error: BaseException | str) -> StudioError:
    """The sentence for a kept master that could not be read: the disk refuses it, or it is not what it should be.

    The codecs tell the two apart badly or not at all, so the file is read once more where they do not.
    """
    word = _WORDS.get(source.kind, "file")
    refused = error if isinstance(error, OSError) and error.errno else _refused(source.path)
    if refused is not None:
        reason = _WHY.get(refused.errno or 0, refused.strerror or repr(refused))
        return NotRead(
            f"The kept {word} cannot be read: {reason}.", "It may be whole: look at its disk, then export again.",
            detail=f"{source.master}: {refused!r}",
        )  # fmt: skip
    return LibraryBroken(
        f"The kept {word} is damaged and cannot be exported.",
        "Make it again from its recipe, or restore it from a backup.", detail=f"{source.master}: {error!r}",
    )  # fmt: skip


def _refused(path: Path) -> OSError | None:
    """What the system says to reading the whole file; None where it lets it be read."""
    try:
        with open(path, "rb") as stream:
            while stream.read(1 << 20):
                pass
    except OSError as error:
        return error
    return None


class Sink:
    """A stream that remembers the first thing the disk refused.

    The codecs are written in C: Pillow writes past Python where it finds a file number and then forgets the reason of
    a failure, and libsndfile drops write errors of MP3 and OGG altogether (measured: a full disk leaves a cut-off MP3
    that claims its full length). So they get this stream, which has no file number.

    Args:
        stream: open for reading and writing in binary.
        check: called before each write; may raise.
        quiet: answer a refused write with 0 bytes instead of raising, for C code that cannot pass exceptions on.
    """

    def __init__(self, stream: BinaryIO, check: Callable[[], None] = lambda: None, *, quiet: bool = False) -> None:
        self._stream = stream
        self._check = check
        self._quiet = quiet
        self._start = stream.tell()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self._check()
        if self.error is None:
            try:
                return self._stream.write(data)
            except OSError as error:
                self.error = error
        if self._quiet:
            return 0
        raise self.error

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Positions count from where the stream stood when it was handed over: a tag may come before."""
        if whence == os.SEEK_SET:
            offset += self._start
        try:
            return self._stream.seek(offset, whence) - self._start
        except OSError as error:  # moving on writes out what was held back
            self.error = self.error or error
            if self._quiet:
                return -1
            raise

    def tell(self) -> int:
        return self._stream.tell() - self._start

    def flush(self) -> None:
        self._stream.flush()

    def finish(self) -> None:
        """Raises OSError if anything was refused, whether or not the codec told."""
        if self.error is not None:
            raise self.error
