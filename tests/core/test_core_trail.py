"""What a job leaves behind when it is cut off, and how much of it can be damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.core.recipes import MadeWith
from studio.core.trail import NAME, Trail, left_behind
from studio.core.works import Artifact

MADE = MadeWith(engine="text.x", threads=2)


def artifact(folder: Path, name: str, data: bytes, **more: object) -> Artifact:
    (folder / name).write_bytes(data)
    return Artifact(name=name, sha256="0", bytes=len(data), **more)  # type: ignore[arg-type]


def test_nothing_left_is_nothing_kept(tmp_path: Path) -> None:
    assert left_behind(tmp_path, 1) is None
    assert left_behind(tmp_path / "gone", 1) is None
    trail = Trail(tmp_path)
    trail.made_with(MADE)
    trail.text(0, " \n ")
    trail.close()
    assert left_behind(tmp_path, 1) is None, "white space is no text"


def test_files_and_texts_come_back_with_their_circumstances(tmp_path: Path) -> None:
    trail = Trail(tmp_path)
    trail.made_with(MADE)
    trail.note("a remark")
    trail.artifact(artifact(tmp_path, "0.txt", b"whole", seed=7))
    trail.artifact(artifact(tmp_path, "0.thumb.webp", b"tn", role="thumbnail"))
    trail.text(0, "whole")
    for piece in ("half ", "a 🦊 ", "\ud800tale"):
        trail.text(1, piece)
    trail.close()
    left = left_behind(tmp_path, 7)
    assert left is not None and left.made_with == MADE and left.notes == ("a remark",)
    whole, _, part = left.artifacts
    assert (whole.name, whole.complete) == ("0.txt", True)
    assert (part.index, part.seed, part.complete, part.meta["finish"]) == (1, 8, False, "cut off")
    assert (tmp_path / part.name).read_text() == "half a 🦊 ?tale"
    assert left_behind(tmp_path, 7) == left, "it can be asked again"


def test_a_cut_off_last_line_and_a_cut_off_character_cost_only_themselves(tmp_path: Path) -> None:
    trail = Trail(tmp_path)
    trail.artifact(artifact(tmp_path, "0.png", b"picture"))
    trail.close()
    with open(tmp_path / NAME, "ab") as stream:
        stream.write(b'{"artifact": {"name": "1.p')
    (tmp_path / "part-3.txt").write_bytes("schön".encode()[:-2])
    left = left_behind(tmp_path, None)
    assert left is not None and [a.name for a in left.artifacts] == ["0.png", "3.txt"]
    assert (tmp_path / "3.txt").read_text() == "sch"


@pytest.mark.parametrize("name", ["../0.png", "a/0.png", "gone.png"])
def test_files_that_are_elsewhere_or_not_there_are_not_kept(tmp_path: Path, name: str) -> None:
    trail = Trail(tmp_path)
    trail.artifact(Artifact(name=name, sha256="0", bytes=1))
    trail.close()
    assert left_behind(tmp_path, 1) is None


def test_a_file_of_another_size_is_not_kept(tmp_path: Path) -> None:
    trail = Trail(tmp_path)
    trail.artifact(artifact(tmp_path, "0.png", b"picture"))
    trail.close()
    (tmp_path / "0.png").write_bytes(b"pic")
    assert left_behind(tmp_path, 1) is None


def test_a_disk_that_refuses_costs_the_trail_and_nothing_else(tmp_path: Path) -> None:
    trail = Trail(tmp_path / "gone")
    trail.text(0, "x")
    trail.made_with(MADE)
    trail.close()
    Trail(None).text(0, "x")
