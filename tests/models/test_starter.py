"""The starter set is found without importing it, and the text model is put together whole or not at all."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from studio.core.cards import ModelCard, Part
from studio.core.paths import assets_folder
from studio.core.problems import ModelBroken, ModelMissing, NotSaved
from studio.models import starter
from studio.models.identify import look
from studio.models.starter import assemble, assembled, starters

PIECES = (b"a" * 5_000_000, b"b" * 4_000_000, b"c" * 1_000_001)
WHOLE = b"".join(PIECES)


def silent(_: float) -> None:
    pass


@pytest.fixture
def card(tmp_path: Path) -> ModelCard:
    parts = []
    for number, piece in enumerate(PIECES):
        path = tmp_path / f"part{number}"
        path.write_bytes(piece)
        parts.append(Part(str(path), len(piece)))
    return ModelCard(
        id="x", name="Tiny", kind="text", engine="text.llama", path=str(tmp_path / "models" / "x.gguf"), format="gguf",
        bytes=len(WHOLE), sha256=hashlib.sha256(WHOLE).hexdigest(), parts=tuple(parts),
    )  # fmt: skip


def left_over(card: ModelCard) -> list[str]:
    return sorted(f.name for f in Path(card.path).parent.iterdir())


def test_parts_are_put_together_and_progress_only_grows(card: ModelCard) -> None:
    seen: list[float] = []
    assemble(card, seen.append)
    assert Path(card.path).read_bytes() == WHOLE
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert left_over(card) == ["x.gguf", "x.gguf.checked", "x.gguf.lock"]


def test_a_whole_file_is_not_read_again(card: ModelCard) -> None:
    assemble(card, silent)
    for part in card.parts:
        os.unlink(part.path)
    assert assembled(card)
    assemble(card, silent)


def test_a_whole_file_without_its_stamp_is_checked_and_kept(card: ModelCard) -> None:
    assemble(card, silent)
    before = os.stat(card.path).st_ino
    Path(card.path + ".checked").unlink()
    assert not assembled(card)
    assemble(card, silent)
    assert assembled(card)
    assert os.stat(card.path).st_ino == before


def test_a_changed_file_is_made_again(card: ModelCard) -> None:
    assemble(card, silent)
    Path(card.path).write_bytes(b"z" * len(WHOLE))
    assemble(card, silent)
    assert Path(card.path).read_bytes() == WHOLE


def test_an_interrupted_run_goes_on_where_it_stopped(card: ModelCard) -> None:
    class Stopped(BaseException):
        pass

    def stop(fraction: float) -> None:
        if fraction > 0.5:
            raise Stopped

    with pytest.raises(Stopped):
        assemble(card, stop)
    assert not Path(card.path).exists()
    partial = Path(card.path + ".partial")
    inode = partial.stat().st_ino
    assert 0 < partial.stat().st_size < len(WHOLE)
    assemble(card, silent)
    assert Path(card.path).read_bytes() == WHOLE
    assert os.stat(card.path).st_ino == inode


def test_a_damaged_left_over_is_thrown_away(card: ModelCard) -> None:
    Path(card.path).parent.mkdir()
    Path(card.path + ".partial").write_bytes(b"?" * 2_000_000)
    assemble(card, silent)
    assert Path(card.path).read_bytes() == WHOLE


def test_a_wrong_checksum_leaves_nothing_behind(card: ModelCard) -> None:
    Path(card.parts[1].path).write_bytes(b"!" * len(PIECES[1]))
    with pytest.raises(ModelBroken, match="checksum"):
        assemble(card, silent)
    assert left_over(card) == ["x.gguf.lock"]


def test_a_missing_and_a_short_part_are_named(card: ModelCard) -> None:
    os.truncate(card.parts[2].path, 10)
    with pytest.raises(ModelBroken, match="incomplete: 10 of 1,000,001 bytes"):
        assemble(card, silent)
    os.unlink(card.parts[2].path)
    with pytest.raises(ModelMissing, match="part2"):
        assemble(card, silent)


def test_a_disk_without_room_is_noticed_before_writing(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter, "MARGIN", 1 << 60)
    with pytest.raises(NotSaved, match="are free"):
        assemble(card, silent)
    assert left_over(card) == ["x.gguf.lock"]


def run(program: str, card: ModelCard) -> subprocess.Popen[str]:
    import msgspec

    whole = "import sys, msgspec\nfrom studio.core.cards import ModelCard\nfrom studio.models.starter import assemble\n"
    whole += "card = msgspec.json.decode(sys.argv[1], type=ModelCard)\n" + program
    arguments = [sys.executable, "-c", whole, msgspec.json.encode(card).decode()]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_full_disk_is_said_and_leaves_nothing_behind(card: ModelCard) -> None:
    program = """
import resource
from studio.core.problems import NotSaved
resource.setrlimit(resource.RLIMIT_FSIZE, (6_000_000, 6_000_000))
try:
    assemble(card, lambda f: None)
except NotSaved as error:
    print(error.problem.sentence)
"""
    out, errors = run(program, card).communicate(timeout=60)
    assert out.startswith("Tiny could not be put together"), errors
    assert left_over(card) == ["x.gguf.lock"]


def test_two_processes_at_once_make_one_whole_file(card: ModelCard) -> None:
    program = "import time\nassemble(card, lambda f: time.sleep(0.02))\nprint('done')"
    running = [run(program, card) for _ in range(3)]
    for process in running:
        out, errors = process.communicate(timeout=60)
        assert out == "done\n", errors
    assert Path(card.path).read_bytes() == WHOLE
    assert left_over(card) == ["x.gguf", "x.gguf.checked", "x.gguf.lock"]


def test_a_killed_process_does_not_keep_the_lock(card: ModelCard) -> None:
    program = "import os, signal\nassemble(card, lambda f: f > 0.3 and os.kill(os.getpid(), signal.SIGKILL))"
    process = run(program, card)
    process.communicate(timeout=60)
    assert process.returncode == -9
    assert not Path(card.path).exists()
    assemble(card, silent)
    assert Path(card.path).read_bytes() == WHOLE


installed = pytest.mark.skipif(
    starter.package_data(f"{starter.GEMMA_PACKAGE}_part1") is None or starter.joe_path() is None,
    reason="the starter packages are not installed",
)


@installed
def test_the_starters_are_found_without_importing_them(tmp_path: Path) -> None:
    cards, broken = starters(tmp_path, assets_folder())
    assert broken == []
    assert [(c.id, c.kind, c.source) for c in cards] == [
        ("gemma-3-270m", "text", "starter"),
        ("starter-128", "image", "starter"),
        ("joe-en-us", "speech", "starter"),
    ]
    assert all(c.licence and c.licence_url.startswith("https://") for c in cards)
    assert list(tmp_path.iterdir()) == []
    # in a process of its own: another test may have imported the package here
    program = (
        "import sys; from pathlib import Path; from studio.core.paths import assets_folder; "
        "from studio.models import starter; starter.starters(Path(sys.argv[1]), assets_folder()); "
        "sys.exit(starter.JOE_PACKAGE in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], timeout=60).returncode == 0


@installed
def test_the_text_starter_is_what_its_card_says(tmp_path: Path) -> None:
    card = starters(tmp_path, assets_folder())[0][0]
    assemble(card, silent)
    looked = look(Path(card.path))
    assert isinstance(looked, ModelCard)
    assert (looked.family, looked.limits, looked.can) == (card.family, card.limits, card.can)
    assert (looked.bytes, looked.notes) == (card.bytes, card.notes)
    assert hashlib.sha256(Path(card.path).read_bytes()).hexdigest() == starter.GEMMA_SHA256
