"""Undo, redo, and what is left of both after a restart, a crash and a full disk."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PySide6.QtCore import QPoint
from PySide6.QtGui import QColor

from studio.ui.paint import history
from studio.ui.paint.document import MASK, Document
from studio.ui.paint.snapshot import BLENDS
from studio.ui.paint.strokes import Brush
from tests.ui.paint.hands import everything, plain, speckled, values

ROOT = Path(__file__).resolve().parents[3]


def dab(document: Document, target: int, x: float, y: float, **brush: Any) -> None:
    stroke = document.begin_stroke(target, Brush(**{"size": 24.0, "hardness": 0.5, **brush}))
    stroke.to(x, y)
    stroke.to(x + 30, y + 12)
    stroke.end()


def do(document: Document, what: int, dice: random.Random) -> None:
    """One of everything that can be done, anywhere."""
    layer = dice.choice(document.layers).id
    x, y = dice.randrange(document.width), dice.randrange(document.height)
    brush: dict[str, Any] = {"opacity": dice.choice((1.0, 0.5)), "erases": dice.random() < 0.3, "colour": 0xFF208040}
    deeds: list[Callable[[], Any]] = [
        lambda: dab(document, MASK, x, y, **brush),
        lambda: dab(document, layer, x, y, **brush),
        lambda: document.add_layer(speckled(30, 20, dice.randrange(99)) if dice.random() < 0.5 else None, x=x, y=y),
        lambda: document.duplicate_layer(layer),
        lambda: document.remove_layer(layer),
        lambda: document.move_layer(layer, dice.randrange(4)),
        lambda: document.place_layer(layer, x - 100, y - 100, go_on=dice.random() < 0.5),
        lambda: document.rename_layer(layer, f"Name {x}"),
        lambda: document.set_opacity(layer, dice.random(), go_on=dice.random() < 0.5),
        lambda: document.set_blend(layer, dice.choice(list(BLENDS))),
        lambda: document.set_visible(layer, dice.random() < 0.5),
        lambda: document.set_locked(layer, dice.random() < 0.3),
        lambda: document.merge_down(layer),
        lambda: document.flatten(),
        lambda: document.flood(layer, QPoint(x, y), QColor(x % 256, y % 256, 90), 40),
        lambda: document.clear_layer(layer),
        lambda: document.select_by_colour(QPoint(x, y), 30, mode=dice.choice(("add", "replace", "remove"))),
        lambda: document.flood_mask(QPoint(x, y)),
        lambda: document.fill_mask(),
        lambda: document.clear_mask(),
        lambda: document.invert_mask(),
        lambda: document.grow_mask(dice.choice((-5, 3))),
        lambda: document.feather_mask(4),
        lambda: document.set_frame(*(dice.choice((-16, 0, 24)) for _ in range(4)), go_on=dice.random() < 0.5),
        lambda: document.crop_to_frame(),
    ]
    with contextlib.suppress(ValueError):  # locked, the last one, none below
        deeds[what % len(deeds)]()


DEEDS = 25


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, DEEDS - 1), min_size=1, max_size=10), st.integers(0, 2**32), st.integers(0, 6))
def test_whatever_was_done_can_be_undone_and_redone_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, deeds: list[int], seed: int, back: int
) -> None:
    dice = random.Random(seed)
    folder = tmp_path_factory.mktemp("kept")
    document = Document(270, 264, folder, picture=speckled(60, 50).scaled(270, 264))
    begin = everything(document)
    for what in deeds:
        do(document, what, dice)
    end = everything(document)
    while document.undo():
        pass
    assert everything(document) == begin
    while document.redo():
        pass
    assert everything(document) == end
    # some way back, then other things, then all of it again from the disk
    for _ in range(back):
        document.undo()
    do(document, dice.randrange(DEEDS), dice)
    document.undo()
    between, counts = everything(document), document.history.counts()
    assert document.close()
    again = Document.open(folder)
    assert everything(again) == between and again.history.counts() == counts and not again.damaged
    while again.undo():
        pass
    assert everything(again) == begin
    for _ in range(sum(counts)):
        assert again.redo()
    assert not again.redo()
    again.close()


def test_each_step_has_a_name_and_a_new_one_forgets_what_was_undone() -> None:
    document = Document(40, 40)
    told: list[int] = []
    document.history_changed.connect(lambda: told.append(1))
    dab(document, MASK, 10, 10)
    document.invert_mask()
    assert document.history.undo_name == "Invert the mask" and document.history.redo_name == ""
    document.undo()
    assert (document.history.undo_name, document.history.redo_name) == ("Mask stroke", "Invert the mask")
    document.add_layer()
    assert document.history.redo_name == "" and document.history.counts() == (2, 0)
    assert len(told) == 4


def test_undo_tells_what_it_changed_and_no_more() -> None:
    document = Document(1000, 1000)
    dab(document, MASK, 20, 20)
    dab(document, MASK, 900, 900)
    told: list[Any] = []
    document.pixels_changed.connect(lambda id, rect: told.append((id, rect)))
    masks: list[bool] = []
    document.mask_changed.connect(masks.append)
    document.undo()
    assert [id for id, _ in told] == [MASK] and told[0][1].width() <= 512 and masks == [False]
    document.undo()
    assert masks == [False, True] and document.is_empty_mask()


def test_undo_in_the_middle_of_a_stroke_takes_that_stroke_back() -> None:
    document = Document(100, 100)
    before = everything(document)
    stroke = document.begin_stroke(MASK, Brush(20, 1.0))
    stroke.to(50, 50)
    stroke.keep()
    stroke.to(70, 50)
    document.undo()
    assert everything(document) == before and document.history.counts() == (0, 1)
    assert stroke.to(10, 10).isEmpty()  # it has ended
    document.redo()
    assert values(document.mask)[50][70] == 255


def test_a_stroke_that_is_kept_in_parts_is_one_step(tmp_path: Path) -> None:
    document = Document(300, 100, tmp_path)
    stroke = document.begin_stroke(MASK, Brush(20, 1.0))
    for x in range(20, 280, 20):
        stroke.to(x, 50)
        stroke.keep()
    stroke.end()
    assert document.history.counts() == (1, 0)
    document.close()
    again = Document.open(tmp_path)
    assert again.history.counts() == (1, 0) and set(values(again.mask)[50][20:260]) == {255}
    again.undo()
    assert again.is_empty_mask()
    again.close()


def test_only_changed_tiles_are_kept(tmp_path: Path) -> None:
    document = Document(2048, 2048, tmp_path, picture=plain(2048, 2048, "white"))
    document.history.flush()
    before = sum(it.stat().st_size for it in tmp_path.iterdir())
    dab(document, MASK, 300, 300)
    newest = document.history.newest()
    assert newest is not None and len(newest.changes) == 1
    document.history.flush()
    assert sum(it.stat().st_size for it in tmp_path.iterdir()) - before < 8_000
    document.close()


CHILD = """
import sys, time
from pathlib import Path
from PySide6.QtGui import QImage
from studio.ui.paint.document import MASK, Document
from studio.ui.paint.strokes import Brush
document = Document(2000, 400, Path(sys.argv[1]))
layer = document.layers[0].id
for target, y in ((MASK, 60), (layer, 120), (MASK, 180)):
    stroke = document.begin_stroke(target, Brush(20, 1.0, colour=0xFFFF0000))
    stroke.to(100, y); stroke.to(300, y); stroke.end()
document.undo()
stroke = document.begin_stroke(MASK, Brush(12, 1.0))
x = 20.0
while True:  # a stroke without an end
    stroke.to(x, 300)
    print(x, time.monotonic(), flush=True)
    x += 2
    time.sleep(0.005)
"""


def lines_of(child: subprocess.Popen[str], seconds: float) -> Iterator[tuple[float, float]]:
    end = 0.0
    assert child.stdout is not None
    for line in child.stdout:
        x, at = line.split()
        yield float(x), float(at)
        end = end or float(at) + seconds
        if time.monotonic() > end:
            return


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize("seconds", [1.5, 2.1])
def test_a_kill_in_the_middle_of_a_stroke_costs_a_second_at_most(tmp_path: Path, seconds: float) -> None:
    environ = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environ) as child:
        dabs = list(lines_of(child, seconds))
        killed = time.monotonic()
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read() if child.stdout else ""
    assert child.returncode == -signal.SIGKILL
    document = Document.open(tmp_path)
    mask = values(document.mask)
    safe = [x for x, at in dabs if at < killed - 1.0]
    assert len(safe) > 20
    assert all(mask[300][int(x)] == 255 for x in safe)
    assert document.history.counts() == (3, 0)  # and what had been undone is gone for good
    assert mask[60][200] == 255 and mask[180][200] == 0
    assert document.layers[0].image.pixelColor(200, 120) == QColor("red")
    document.undo()
    assert set(values(document.mask)[300]) == {0}
    document.undo()
    assert document.layers[0].image.pixelColor(200, 120).alpha() == 0
    document.undo()
    assert document.is_empty_mask() and not document.undo()
    for _ in range(3):
        assert document.redo()
    assert values(document.mask) == mask
    document.close()
    assert rest is not None


def test_a_journal_that_is_cut_off_anywhere_brings_back_what_came_before(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    document = Document(300, 200, folder, picture=speckled(30, 20).scaled(300, 200))
    states = [everything(document)]
    for what in (0, 1, 2, 20, 8):
        do(document, what, random.Random(what))
        document.history.flush()
        states.append(everything(document))
    document.close()
    journal = (folder / history.JOURNAL).read_bytes()
    ends = [i + 1 for i, c in enumerate(journal) if c == 10]
    assert len(ends) == 6
    for cut in (*ends, ends[0] + 40, ends[2] - 1, ends[3] + 1, ends[4] + 200):
        (folder / history.JOURNAL).write_bytes(journal[:cut])
        kept = history.load(folder)
        whole = sum(end <= cut for end in ends)
        assert len(kept.undo) == whole - 1
        assert {**kept.sheet, "next": 0} == {**json.loads(json.dumps(states[whole - 1][0])), "next": 0}
    (folder / history.JOURNAL).write_bytes(journal[: ends[3] + 30])
    again = Document.open(folder)
    assert everything(again) == states[3]
    while again.undo():
        pass
    assert everything(again) == states[0]
    again.close()


def test_a_flipped_bit_in_the_journal_ends_it_there(tmp_path: Path) -> None:
    document = Document(40, 40, tmp_path)
    for _ in range(3):
        document.invert_mask()
        document.history.flush()
    document.close()
    lines = (tmp_path / history.JOURNAL).read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"Invert", b"invert")
    (tmp_path / history.JOURNAL).write_bytes(b"".join(lines))
    again = Document.open(tmp_path)
    assert again.history.counts() == (1, 0)
    again.close()


def test_a_damaged_tile_is_counted_and_the_rest_is_there(tmp_path: Path) -> None:
    document = Document(600, 200, tmp_path, picture=speckled(60, 20).scaled(600, 200))
    document.close()
    file = next(tmp_path.glob("*.tiles"))
    content = bytearray(file.read_bytes())
    content[200:220] = bytes(20)
    file.write_bytes(content)
    again = Document.open(tmp_path)
    assert again.damaged == 1
    assert again.layers[0].image.pixelColor(580, 100) == document.layers[0].image.pixelColor(580, 100)
    again.close()


@pytest.mark.parametrize("content", [b"", b"nonsense\n", b'00000000 ["all",{}]\n', b"\xff" * 100])
def test_what_is_not_a_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / history.JOURNAL).write_bytes(content)
    with pytest.raises(ValueError, match="journal"):
        Document.open(tmp_path)
    with pytest.raises(FileNotFoundError):
        Document.open(tmp_path / "nowhere")


def test_a_sheet_that_cannot_be_is_refused(tmp_path: Path) -> None:
    document = Document(40, 40, tmp_path)
    document.close()
    what, value = history._read((tmp_path / history.JOURNAL).read_bytes())
    changes: list[dict[str, Any]] = [{"width": 10**9}, {"layers": []}, {"layers": [{"id": 1}]}, {"width": "x"}]
    for change in changes:
        (tmp_path / history.JOURNAL).write_bytes(history._line(what, {**value, "sheet": {**value["sheet"], **change}}))
        with pytest.raises(ValueError, match=r"px|document|int|Object"):
            Document.open(tmp_path)


@pytest.mark.parametrize("kept", [True, False])
def test_the_oldest_steps_make_room(tmp_path: Path, kept: bool) -> None:
    limit = 400_000
    document = Document(256, 256, tmp_path if kept else None, limit=limit)
    layer = document.layers[0].id
    for seed in range(12):
        document.remove_layer(document.add_layer(speckled(128, 96, seed)).id)
        dab(document, layer, 20 * seed, 100)
        document.history.flush()
        if kept:
            assert sum(it.stat().st_size for it in tmp_path.iterdir()) <= limit + 40_000
    steps = document.history.counts()[0]
    assert 3 <= steps < 36
    end = everything(document)
    if kept:
        document.close()
        document = Document.open(tmp_path, limit=limit)
        assert document.history.counts() == (steps, 0) and everything(document) == end
    while document.undo():
        pass
    assert not document.damaged
    while document.redo():
        pass
    assert everything(document) == end and document.history.counts() == (steps, 0)
    document.close()


def test_a_long_journal_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_JOURNAL_LEAST", 3_000)
    document = Document(64, 64, tmp_path)
    sizes = []
    for _ in range(40):
        document.undo()
        document.invert_mask()
        document.history.flush()
        sizes.append((tmp_path / history.JOURNAL).stat().st_size)
    assert sizes != sorted(sizes) and max(sizes) < 12_000
    end = everything(document)
    document.close()
    again = Document.open(tmp_path)
    assert everything(again) == end and again.history.counts() == (1, 0)
    again.close()


def test_files_that_nothing_needs_are_removed(tmp_path: Path) -> None:
    document = Document(64, 64, tmp_path)
    for _ in range(3):
        document.invert_mask()
        document.history.flush()
    for _ in range(3):
        document.undo()
    document.fill_mask()  # the three are forgotten
    document.close()
    (tmp_path / "999999.tiles").write_bytes(b"left by a crash")
    (tmp_path / "notes.txt").write_text("not ours")
    Document.open(tmp_path).close()
    assert len(list(tmp_path.glob("*.tiles"))) == 2 and (tmp_path / "notes.txt").exists()


def test_a_disk_that_is_full_for_a_while_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "RETRY", 0.02)
    document = Document(64, 64, tmp_path)
    document.history.flush()
    real, full = os.fsync, True

    def fsync(handle: int) -> None:
        if full:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    dab(document, MASK, 10, 10)
    assert not document.history.flush() and document.history.problem is not None
    document.invert_mask()
    document.undo()
    document.redo()
    end = everything(document)
    full = False
    deadline = time.monotonic() + 10
    while document.history.problem is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert document.history.flush() and document.close()
    again = Document.open(tmp_path)
    assert everything(again) == end and again.history.counts() == (2, 0)
    again.undo()
    again.undo()
    assert again.is_empty_mask()
    again.close()


def test_a_new_document_takes_over_the_folder_of_another(tmp_path: Path) -> None:
    Document(64, 64, tmp_path, picture=speckled(64, 64)).close()
    document = Document(32, 48, tmp_path)
    document.close()
    again = Document.open(tmp_path)
    assert (again.width, again.height) == (32, 48) and len(list(tmp_path.glob("*.tiles"))) == 1
    again.close()


def test_the_journal_can_be_read_by_people(tmp_path: Path) -> None:
    document = Document(32, 32, tmp_path)
    document.invert_mask()
    document.close()
    line = (tmp_path / history.JOURNAL).read_text().splitlines()[1]
    what, value = json.loads(line[9:])
    assert what == "do" and value["name"] == "Invert the mask" and len(value["tiles"]) == 1
