"""Files that are whole or not there: with real limits and real kills, in processes of their own."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from studio.core.files import durable, sha256_of, sync_folder, write_durably

ROOT = Path(__file__).resolve().parents[2]
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="uses POSIX limits and signals")


def child(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=60, cwd=ROOT
    )


def test_a_new_file_holds_what_was_written(tmp_path: Path):
    with durable(tmp_path / "x") as stream:
        stream.write(b"one")
        assert not (tmp_path / "x").exists()  # not before it is whole
        stream.write(b"two")
    assert (tmp_path / "x").read_bytes() == b"onetwo"
    assert os.listdir(tmp_path) == ["x"]


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: Path):
    write_durably(tmp_path / "x", b"old")
    with durable(tmp_path / "x") as stream:
        stream.write(b"new")
        stream.flush()
        assert (tmp_path / "x").read_bytes() == b"old"
    assert (tmp_path / "x").read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, OSError])
def test_an_error_in_between_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]):
    write_durably(tmp_path / "x", b"old")
    with pytest.raises(error), durable(tmp_path / "x") as stream:  # noqa: PT012
        stream.write(b"half")
        raise error
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


LIMITED = """
import resource, sys
from pathlib import Path
from studio.core.files import write_durably
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_durably(Path(sys.argv[1]), bytes(100_000))
except OSError as error:
    print(error.errno)
"""


@linux
def test_a_disk_that_refuses_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    write_durably(tmp_path / "x", b"old")
    done = child(LIMITED, tmp_path / "x")
    assert done.stdout.strip() == str(errno.EFBIG), done.stderr
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


KILLED = """
import os, signal, sys
from pathlib import Path
from studio.core import files
where = sys.argv[2]
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
if where == 'fsync':
    os.fsync = die
if where == 'replace':
    os.replace = die
with files.durable(Path(sys.argv[1])) as stream:
    stream.write(b'new' * 10_000)
    if where == 'write':
        die()
die()
"""


@linux
@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_a_kill_before_the_rename_leaves_the_old_file(tmp_path: Path, where: str):
    write_durably(tmp_path / "x", b"old")
    assert child(KILLED, tmp_path / "x", where).returncode == -signal.SIGKILL
    assert (tmp_path / "x").read_bytes() == b"old"
    write_durably(tmp_path / "x", b"again")  # what the killed one left is no obstacle
    assert (tmp_path / "x").read_bytes() == b"again"
    assert os.listdir(tmp_path) == ["x"]


@linux
def test_a_kill_after_the_rename_leaves_the_whole_new_file(tmp_path: Path):
    write_durably(tmp_path / "x", b"old")
    assert child(KILLED, tmp_path / "x", "later").returncode == -signal.SIGKILL
    assert (tmp_path / "x").read_bytes() == b"new" * 10_000


def test_content_is_flushed_before_the_rename_and_the_folder_after_it(tmp_path, monkeypatch):
    order: list[str] = []
    fsync, replace = os.fsync, os.replace

    def seen_fsync(handle: int) -> None:
        import stat

        order.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "content")
        fsync(handle)

    def seen_replace(old: Path, new: Path) -> None:
        order.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(os, "replace", seen_replace)
    write_durably(tmp_path / "x", b"new")
    assert order == (["content", "rename"] if os.name == "nt" else ["content", "rename", "folder"])


def test_a_failed_flush_is_not_tried_again_and_nothing_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_durably(tmp_path / "x", b"old")
    calls = []

    def broken(handle: int) -> None:
        calls.append(handle)
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="input/output"):
        write_durably(tmp_path / "x", b"new")
    assert len(calls) == 1
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_missing_folder_is_an_error_and_not_created(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        write_durably(tmp_path / "missing" / "x", b"")
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "missing")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_the_checksum_is_sha_256(tmp_path: Path, size: int):
    data = os.urandom(size)
    (tmp_path / "x").write_bytes(data)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(data).hexdigest()
