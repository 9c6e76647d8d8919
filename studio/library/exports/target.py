"""Where an export goes: refusing what must not be written, and writing the rest whole or not at all.

Knows folders, names and disks; knows nothing of pictures, sounds or what a format can hold. Imports the standard
library and the core only, so that a command line can refuse early.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from studio.core.files import sync_folder
from studio.core.problems import NotSaved
from studio.core.text import shown

_WHY = {
    errno.ENOSPC: ("the disk is full", "Make room and export again."),
    errno.EDQUOT: ("your share of the disk is used up", "Make room and export again."),
    errno.EFBIG: ("the file would be larger than the system allows", "Choose a smaller format or another disk."),
    errno.EROFS: ("the disk is read-only", "Choose another folder."),
    errno.EACCES: ("there is no permission to write there", "Choose another folder."),
    errno.EPERM: ("there is no permission to write there", "Choose another folder."),
    errno.EIO: ("the disk reports an error", "Check the disk, or choose another one."),
    errno.ESTALE: ("the network folder is gone", "Connect it again, or choose another folder."),
    errno.EXDEV: ("the folder lies on more than one disk", "Choose another folder."),
    errno.EBUSY: ("another program holds it", "Close that program, or choose another name."),
    errno.ENOENT: ("the folder is gone", "Choose another folder."),
    errno.ENAMETOOLONG: ("the name is too long", "Choose a shorter name."),
}

# Windows opens a device instead of a file for these, whatever the extension; a colon would name a hidden stream.
_WINDOWS_DEVICE = re.compile("(?:con|prn|aux|nul|com[1-9¹²³]|lpt[1-9¹²³])(?:\\..*)?", re.IGNORECASE | re.DOTALL)
_WINDOWS_FORBIDDEN = re.compile('[<>:"|?*\x00-\x1f]')


class Target:
    """A checked place for one export.

    Attributes:
        path: absolute; its folder exists.
        overwrite: a regular file that is there already may be replaced.
    """

    def __init__(self, path: Path, overwrite: bool) -> None:
        self.path = path
        self.overwrite = overwrite


def extension_of(to: str) -> str:
    """The extension in small letters with its dot, for example ".png", or an empty string."""
    return os.path.splitext(to)[1].lower()


def check_place(to: str, overwrite: bool, master: Path | None = None, windows: bool = os.name == "nt") -> Target:
    """Look at a place without changing anything.

    Args:
        to: a file name with its folder; a relative one counts from the current folder.
        overwrite: an ordinary file of that name may be replaced.
        master: the kept master, which is never a target.
        windows: hold the name to the rules of Windows.

    Raises:
        NotSaved: the name is empty, too long or not allowed, the folder is missing or refuses, something is in the way.
    """
    if not to.strip():
        raise NotSaved("The export has no file name.", "Give a folder and a name, like pictures/cat.png.", field="to")
    if "\0" in to or not _encodable(to):
        raise NotSaved(f"“{shown(to)}” cannot be a file name.", "Choose another name.", field="to")
    path = Path(os.path.abspath(to))
    name, folder = shown(path.name), shown(str(path.parent), 200)
    if windows and (_WINDOWS_DEVICE.fullmatch(path.name) or _WINDOWS_FORBIDDEN.search(path.name)):
        raise NotSaved(f"Windows does not allow the file name “{name}”.", "Choose another name.", field="to")
    _check_folder(path.parent, folder)
    longest = _longest_name(path.parent)
    length = len(os.fsencode(path.name)) if not windows else len(path.name)
    if length > longest:
        raise NotSaved(
            f"The file name is too long: {length} bytes, and {folder} takes {longest}.", "Choose a shorter name.",
            field="to",
        )  # fmt: skip
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return Target(path, overwrite)
    except OSError as error:
        raise not_saved(error, path) from error
    if stat.S_ISDIR(there.st_mode):
        raise NotSaved(f"“{name}” is a folder.", "Give a file name inside it, or another name.", field="to")
    if stat.S_ISLNK(there.st_mode):
        # Following it would write somewhere the person did not name; replacing it would quietly break the link.
        raise NotSaved(
            f"“{name}” is a link to another place, and exports are not written through links.",
            "Name the real file, or choose another name.", field="to",
        )  # fmt: skip
    if not stat.S_ISREG(there.st_mode):
        raise NotSaved(f"“{name}” is a device or a pipe, not a file.", "Choose another name.", field="to")
    if master is not None and _same_file(path, master):
        raise NotSaved(
            "That file is the library's own copy of the work, which is never written to.", "Choose another place.",
            field="to",
        )  # fmt: skip
    if not overwrite:
        raise NotSaved(
            f"“{name}” is already in {folder}.", "Choose another name, or replace it with --overwrite.", field="to"
        )
    return Target(path, overwrite)


def _encodable(to: str) -> bool:
    try:
        os.fsencode(to)
    except UnicodeEncodeError:  # halves of characters, from a broken command line or a careless program
        return False
    return True


def _check_folder(parent: Path, folder: str) -> None:
    try:
        mode = parent.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise NotSaved(
            f"The folder {folder} does not exist.", "Create it first, or choose another folder.", field="to"
        ) from None
    except OSError as error:
        raise not_saved(error, parent) from error
    if not stat.S_ISDIR(mode):
        raise NotSaved(f"{folder} is a file, not a folder.", "Choose another folder.", field="to")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise NotSaved(f"The folder {folder} cannot be written to.", "Choose another folder.", field="to")


def _longest_name(folder: Path) -> int:
    if hasattr(os, "pathconf"):
        with contextlib.suppress(OSError, ValueError):
            return os.pathconf(folder, "PC_NAME_MAX")
    return 255


def _same_file(path: Path, master: Path) -> bool:
    try:
        return os.path.samefile(path, master)
    except OSError:
        return False


def why(error: OSError) -> tuple[str, str]:
    """What the system said, in words for the end of a sentence, and what to do about it when writing."""
    return _WHY.get(error.errno or 0, (error.strerror or str(error) or type(error).__name__, "Choose another folder."))


def not_saved(error: OSError, path: Path) -> NotSaved:
    """The sentence for what the system said while `path` was being written."""
    reason, hint = why(error)
    return NotSaved(f"“{shown(path.name)}” could not be saved: {reason}.", hint, detail=repr(error), field="to")


def remove_leftovers(target: Target, job: str) -> None:
    """Remove what an earlier attempt of the same job left when its process was killed."""
    with contextlib.suppress(OSError), os.scandir(target.path.parent) as entries:
        for entry in entries:
            if entry.name.startswith(_temporary_start(job)) and entry.name.endswith(".part"):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def _temporary_start(job: str) -> str:
    return f".studio-{re.sub('[^A-Za-z0-9]', '', job)[:40]}-"


@contextlib.contextmanager
def temporary(target: Target, job: str) -> Iterator[Path]:
    """A new empty file beside the target: same disk, hidden, removed when the block ends.

    The block writes to it and then calls `put_in_place`.

    Raises:
        NotSaved: the folder refuses.
    """
    path = target.path.with_name(f"{_temporary_start(job)}{secrets.token_hex(6)}.part")
    try:
        # O_EXCL: in a folder others can write to, nobody can have put a link there first.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise not_saved(error, target.path) from error
    os.close(handle)
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def put_in_place(temporary: Path, target: Target) -> None:
    """Give a finished file its name. Until then an older file of that name is untouched.

    Raises:
        NotSaved: something came into the way meanwhile, or the disk refuses.
    """
    again = check_place(str(target.path), target.overwrite)
    try:
        if target.overwrite and again.path.exists():
            # a file that was private stays private
            os.chmod(temporary, stat.S_IMODE(os.lstat(again.path).st_mode))
        if target.overwrite:
            os.replace(temporary, again.path)
        else:
            _rename_without_replacing(temporary, again.path)
    except FileExistsError:
        raise NotSaved(
            f"“{shown(target.path.name)}” appeared while the export was running, and was left as it is.",
            "Choose another name, or replace it with --overwrite.", field="to",
        ) from None  # fmt: skip
    except OSError as error:
        raise not_saved(error, target.path) from error
    try:
        # a drop-box folder may be written to but not opened
        with contextlib.suppress(PermissionError):
            sync_folder(again.path.parent)
    except OSError as error:
        raise NotSaved(
            f"“{shown(target.path.name)}” was written, but its folder could not be flushed: {why(error)[0]}.",
            "A power cut may take it back: export to another disk.", detail=repr(error), field="to",
        ) from error  # fmt: skip


def _rename_without_replacing(old: Path, new: Path) -> None:
    if os.name == "nt":
        os.rename(old, new)  # refuses by itself
        return
    try:
        os.link(old, new)  # a rename would silently replace what another program has put there since the check
    except FileExistsError:
        raise
    except OSError:
        # memory sticks and some network folders have no hard links; the check a moment ago has to do
        os.rename(old, new)
