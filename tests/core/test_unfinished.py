"""Folders whose maker was killed are swept away, and no others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from studio.core import unfinished
from studio.core.unfinished import Claim, sweep

MAKER = """
import sys
from pathlib import Path
from studio.core.unfinished import Claim
folder = Path(sys.argv[1])
claim = Claim(folder)
(folder / "rows").write_text("half")
print("made", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_what_a_living_process_makes_is_left_and_goes_when_it_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / ".making-a"
    maker = subprocess.Popen(
        [sys.executable, "-c", MAKER, str(folder)], cwd=Path(__file__).parents[2], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert maker.stdout is not None and maker.stdin is not None
    assert maker.stdout.readline() == "made\n"
    assert sweep(tmp_path, ".making-*") == [] and (folder / "rows").exists()
    with pytest.raises(FileExistsError):
        Claim(folder)
    os.kill(maker.pid, signal.SIGKILL)
    maker.wait()
    maker.stdin.close()
    maker.stdout.close()
    assert sweep(tmp_path, ".making-*") == [folder] and not folder.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_a_claim_goes_with_the_folder_when_it_is_named(tmp_path: Path) -> None:
    claim = Claim(tmp_path / ".making-a")
    os.rename(tmp_path / ".making-a", tmp_path / ".making-b")
    assert sweep(tmp_path, ".making-*") == []
    claim.release()
    claim.release()
    assert sweep(tmp_path, ".making-*") == [tmp_path / ".making-b"]


def test_files_links_and_what_has_a_name_are_left(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / ".making-file").write_text("x")
    (tmp_path / ".making-link").symlink_to(tmp_path / "data", target_is_directory=True)
    assert sweep(tmp_path, ".making-*") == [] == sweep(tmp_path / "none", "*")
    assert len(list(tmp_path.iterdir())) == 3


def test_without_locks_only_what_is_old_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "_locked", lambda folder, wait: None)
    for name in ("new", "old", "old-written"):
        folder = tmp_path / f".making-{name}"
        Claim(folder)
        (folder / "rows").write_text("half")
        if name != "new":
            os.utime(folder, (1e9, 1e9))
        if name == "old":
            os.utime(folder / "rows", (1e9, 1e9))
    assert [found.name for found in sweep(tmp_path, ".making-*")] == [".making-old"]


def test_a_folder_that_is_swept_between_making_and_locking_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, times = unfinished._locked, []

    def swept_first(folder: Path, *, wait: bool) -> int | None:
        times.append(folder)
        if len(times) == 1:
            folder.rmdir()
        return honest(folder, wait=wait)

    monkeypatch.setattr(unfinished, "_locked", swept_first)
    Claim(tmp_path / ".making-a").release()
    assert (tmp_path / ".making-a").is_dir() and len(times) == 2
