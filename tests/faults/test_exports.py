"""Section D of docs/faults.md, exports: full disks, odd names, what is in the way, disks that fail under them."""

from __future__ import annotations

import os
import signal
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.core.events import Failed, Finished
from studio.core.paths import Paths
from studio.core.problems import NotSaved
from studio.core.recipes import WORDS
from tests.faults.tools import FLUSHES, READS, RENAMES, Trio, failing, small_disks, told_by


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    """One for all: every test leaves it able to work, which the next one shows."""
    with Trio(Paths(tmp_path_factory.mktemp("studio") / "home")) as made:
        yield made


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def exporting(session: Trio, out: Path) -> int:
    """The process id of the worker that exports, which has just shown that it can."""
    work = session.work_of("text")
    assert isinstance(session.export_to(work, out / "warm.txt"), Finished)
    (out / "warm.txt").unlink()
    return session.lanes_of["export"].pid


# -- full disks -------------------------------------------------------------------------------------------------------

TWENTY = """
session, out = Trio(Paths(Path(sys.argv[1]))), Path(sys.argv[2])
works = [session.work_of("text", f"save {n:02} " + "word " * 2000) for n in range(20)]
(out / "00.txt").write_text("old")

def export():
    jobs = [session.export(w.id, out / f"{n:02}.txt", overwrite=True).id for n, w in enumerate(works)]
    return [(job, session.end(job)) for job in jobs]

def there():
    return {p.name: p.read_text() for p in sorted(out.iterdir())}

ends = export()
whole = {f"{n:02}.txt": session.path(w).read_text() for n, w in enumerate(works)}
failed = [(job, end.problem.sentence) for job, end in ends if hasattr(end, "problem")]
before = there()
states = sorted({str(session.job(job).state) for job, _ in ends})
resize(out, "4m")
again = [session.end(session.retry(job).id) for job, _ in failed]
tell({
    "failed": [sentence for _, sentence in failed], "before": list(before), "states": states,
    "true": all(whole[name] == text for name, text in before.items()),
    "again": [type(end).__name__ for end in again], "after": there() == whole,
    "works": session.count_works(), "problem": str(session.problem),
})
session.close()
"""


def test_of_twenty_exports_on_a_full_disk_the_done_ones_are_whole_and_the_rest_can_be_asked_for_again(
    tmp_path: Path, out: Path
) -> None:
    before = small_disks(out="100k")(out=out)
    said = told_by(TWENTY, tmp_path / "home", out, before=before)
    assert 3 < len(said["failed"]) < 20
    assert all("the disk is full" in sentence for sentence in said["failed"])
    assert said["states"] == ["failed", "finished"], "a full disk elsewhere does not stop the queue"
    assert len(said["before"]) == 20 - len(said["failed"]), "nothing half, nothing temporary"
    assert said["true"] and said["problem"] == "None" and said["works"] == 20
    assert set(said["again"]) == {"Finished"} and said["after"]


MIDDLE = """
session, out = Trio(Paths(Path(sys.argv[1]))), Path(sys.argv[2])
for kind, words, name in (
    ("text", "save " + "word " * 5000, "x.md"), ("speech", "one. " * 30, "x.wav"), ("speech", "one. " * 30, "x.mp3"),
):
    work = session.work_of(kind, words)
    to = out / name
    to.write_text("old")
    end = session.export_to(work, to, overwrite=True)
    assert end.problem.sentence == f"“{name}” could not be saved: the disk is full.", end
    assert (to.read_text(), os.listdir(out)) == ("old", [name])
    assert session.path(work).exists()
    to.unlink()
tell("well")
session.close()
"""


def test_a_full_disk_in_the_middle_of_an_export_leaves_the_old_file(tmp_path: Path, out: Path) -> None:
    assert told_by(MIDDLE, tmp_path / "home", out, before=small_disks(out="16k")(out=out)) == "well"


def test_an_export_whose_worker_is_killed_in_the_middle_is_begun_again_and_leaves_nothing_else(
    session: Trio, out: Path
) -> None:
    work, pid = session.work_of("text", "save " + "word " * 5000), exporting(session, out)
    with failing(pid, "fsync:signal=KILL"):
        end = session.export_to(work, out / "x.txt")
    assert isinstance(end, Finished) and any("second try" in note for note in end.notes)
    assert session.lanes_of["export"].pid != pid
    assert (out / "x.txt").read_bytes() == session.path(work).read_bytes()
    assert os.listdir(out) == ["x.txt"]


# -- disks that fail ---------------------------------------------------------------------------------------------------


def test_an_export_that_cannot_be_flushed_is_not_saved_and_the_flush_is_not_tried_again(
    session: Trio, out: Path
) -> None:
    work, pid = session.work_of("text"), exporting(session, out)
    (out / "old.txt").write_text("old")
    with failing(pid, f"{FLUSHES}:error=EIO") as calls:
        for name in ("old.txt", "new.txt"):
            end = session.export_to(work, out / name, overwrite=True)
            assert isinstance(end, Failed)
            assert end.problem.sentence == f"“{name}” could not be saved: the disk reports an error."
        assert len(calls.injected()) == 2, "one flush each"
    assert (out / "old.txt").read_text() == "old" and os.listdir(out) == ["old.txt"]
    assert isinstance(session.export_to(work, out / "old.txt", overwrite=True), Finished)


def test_a_folder_that_cannot_be_flushed_is_told_with_what_that_means(session: Trio, out: Path) -> None:
    work, pid = session.work_of("text"), exporting(session, out)
    with failing(pid, f"{FLUSHES}:error=EIO", only=[out]):
        end = session.export_to(work, out / "x.txt")
    assert isinstance(end, Failed)
    assert end.problem.sentence.startswith("“x.txt” was written, but its folder could not be flushed")
    assert "power cut" in end.problem.hint
    assert (out / "x.txt").read_text() == "hello" and os.listdir(out) == ["x.txt"]


def test_a_share_that_cannot_flush_folders_is_written_to_all_the_same(session: Trio, out: Path) -> None:
    work, pid = session.work_of("text"), exporting(session, out)
    with failing(pid, f"{FLUSHES}:error=EINVAL", only=[out]) as calls:
        assert isinstance(session.export_to(work, out / "x.txt"), Finished)
        assert calls.injected()


@pytest.mark.parametrize(
    ("error", "why"),
    [("EACCES", "no permission to write there"), ("EXDEV", "on more than one disk")],
)
def test_an_export_that_cannot_be_given_its_name_leaves_the_old_file(
    session: Trio, out: Path, error: str, why: str
) -> None:
    work, pid = session.work_of("text"), exporting(session, out)
    (out / "x.txt").write_text("old")
    with failing(pid, f"{RENAMES}:error={error}"):
        end = session.export_to(work, out / "x.txt", overwrite=True)
    assert isinstance(end, Failed) and why in end.problem.sentence and end.problem.hint
    assert (out / "x.txt").read_text() == "old" and os.listdir(out) == ["x.txt"]


def test_a_memory_stick_without_hard_links_is_written_to_all_the_same(session: Trio, out: Path) -> None:
    work, pid = session.work_of("text"), exporting(session, out)
    with failing(pid, "?link,?linkat:error=EPERM") as calls:
        assert isinstance(session.export_to(work, out / "x.txt"), Finished)
        assert calls.injected()
    assert os.listdir(out) == ["x.txt"]


@pytest.mark.parametrize(
    ("kind", "name"), [("text", "x.txt"), ("image", "x.png"), ("image", "x.jpg"), ("speech", "x.wav")]
)
def test_a_disk_that_cannot_be_read_is_not_called_a_damaged_work(
    session: Trio, out: Path, kind: str, name: str
) -> None:
    work, pid = session.work_of(kind), exporting(session, out)
    kept = session.path(work).read_bytes()
    for error, why in (("EIO", "the disk reports an error"), ("ESTALE", "the network folder is gone")):
        with failing(pid, f"{READS}:error={error}", only=[session.path(work)]):
            end = session.export_to(work, out / name)
        assert isinstance(end, Failed)
        assert end.problem.code == "not_read" and why in end.problem.sentence
        assert session.path(work).read_bytes() == kept and os.listdir(out) == []
    assert isinstance(session.export_to(work, out / name), Finished), "the disk is back"


def test_a_work_on_a_share_that_vanished_is_not_called_gone(session: Trio, out: Path) -> None:
    work, pid = session.work_of("image"), exporting(session, out)
    with failing(pid, "?stat,?newfstatat,?statx,?openat:error=ESTALE", only=[session.path(work)]):
        end = session.export_to(work, out / "x.png")
    assert isinstance(end, Failed) and end.problem.code == "not_read", end
    assert os.listdir(out) == []


# -- names and what is in the way ------------------------------------------------------------------------------------

NASTY = [
    "../x", "/etc/passwd", "CON", "con.txt", "x" * 300, "💥" * 64, "two\nlines", "-rf", "dot.", "\u202egpj.exe",
    "a\u0301" * 200, "nul\x00byte", "C:\\x", "..", "~", "$(touch x)", "%s{0.__class__}", "\ud800",
]  # fmt: skip


def test_works_of_nasty_words_have_short_portable_names_and_lie_in_the_library(session: Trio) -> None:
    before = set(session.paths.home.parent.iterdir())
    recipes = [session.recipe("image", {WORDS["image"]: words, "seed": 1}).recipe for words in NASTY]
    ends = [session.end(job) for job in [session.submit(recipe).id for recipe in recipes]]
    for end in ends:
        assert isinstance(end, Finished)
        for path in session.files(end.works[0]):
            assert path.is_file() and path.resolve().is_relative_to(session.paths.works)
            stem = path.name.split(".")[0]
            assert len(path.name.encode()) <= 100
            assert all(unicodedata.category(c)[0] in "LMN" or c == "-" for c in stem), stem
            assert stem.rpartition("-w")[0] not in ("con", "nul", "prn", "aux", "")
            assert not path.name.startswith(("-", ".")) and not path.name.endswith((".", " "))
    assert set(session.paths.home.parent.iterdir()) == before


def test_a_name_that_the_user_typed_is_used_as_it_is(session: Trio, out: Path) -> None:
    work = session.work_of("text")
    stems = [
        "-rf", "two\nlines", "dot.", "💥" * 40, "\u202egpj.exe", "$(touch x)", "%s{0.__class__}", "CON", " ", "a:b",
    ]  # fmt: skip
    for stem in stems:
        end = session.export_to(work, out / f"{stem}.txt")
        assert isinstance(end, Finished) and end.files == (str(out / f"{stem}.txt"),)
    assert sorted(os.listdir(out)) == sorted(f"{stem}.txt" for stem in stems)


def test_signs_that_no_name_can_hold_are_taken_out_of_it_and_the_name_is_told(session: Trio, out: Path) -> None:
    work = session.work_of("text")
    for given, used in (("a\x00b.txt", "ab.txt"), ("\x1b[31mred.txt", "red.txt"), ("\ud800.txt", "\ufffd.txt")):
        end = session.export_to(work, Path(f"{out}/{given}"))
        assert isinstance(end, Finished) and end.files == (str(out / used),)
    assert sorted(os.listdir(out)) == ["ab.txt", "red.txt", "\ufffd.txt"]


def test_a_name_that_no_disk_takes_is_refused_at_once(session: Trio, out: Path) -> None:
    work = session.work_of("text")
    for name in ("x" * 300 + ".txt", "💥" * 64 + ".txt", "x" * 5000 + ".txt", "", "no-ending", "x.exe", "x.png"):
        with pytest.raises(NotSaved) as refused:
            session.export(work.id, Path(f"{out}/{name}"))
        assert refused.value.problem.sentence.endswith(".") and len(refused.value.problem.sentence) < 400
    assert os.listdir(out) == [] and session.queue() == []


def test_what_is_in_the_way_stays_as_it_is(session: Trio, out: Path, tmp_path: Path) -> None:
    work, precious = session.work_of("text"), tmp_path / "precious.txt"
    precious.write_text("precious")
    (out / "there.txt").write_text("old")
    (out / "folder.txt").mkdir()
    (out / "link.txt").symlink_to(precious)
    (out / "dangling.txt").symlink_to(tmp_path / "nowhere.txt")
    (out / "loop.txt").symlink_to(out / "loop.txt")
    os.mkfifo(out / "pipe.txt")
    names, made = sorted(os.listdir(out)), session.jobs(limit=1)[0].id
    for name in names:
        for overwrite in (False, True):
            if name == "there.txt" and overwrite:
                continue
            with pytest.raises(NotSaved):
                session.export(work.id, out / name, overwrite=overwrite)
    assert precious.read_text() == "precious" and (out / "there.txt").read_text() == "old"
    assert sorted(os.listdir(out)) == names and not (tmp_path / "nowhere.txt").exists()
    assert (out / "link.txt").is_symlink() and session.jobs(limit=1)[0].id == made, "nothing was queued"


def test_a_link_that_comes_into_the_way_while_the_export_waits_is_not_followed(
    session: Trio, out: Path, tmp_path: Path
) -> None:
    work, precious = session.work_of("text"), tmp_path / "precious.txt"
    precious.write_text("precious")
    session.pause("export")
    job = session.export(work.id, out / "x.txt", overwrite=True).id
    (out / "x.txt").symlink_to(precious)
    session.unpause("export")
    end = session.end(job)
    assert isinstance(end, Failed) and "link" in end.problem.sentence
    assert precious.read_text() == "precious" and os.listdir(out) == ["x.txt"]


def test_a_studio_that_is_killed_in_the_middle_of_an_export_leaves_the_old_file(tmp_path: Path, out: Path) -> None:
    """The whole studio and its workers; the next start marks the job, and asked for again it is written."""
    program = """
session, out = Trio(Paths(Path(sys.argv[1]))), Path(sys.argv[2])
work = session.work_of("text", "save " + "word " * 5000)
session.export_to(work, out / "warm.txt")
pid = session.lanes_of["export"].pid
(out / "warm.txt").unlink()
with failing(pid, "fsync:delay_enter=60000000"):
    job = session.export(work.id, out / "x.txt", overwrite=True).id
    until(lambda: any(p.suffix == ".part" and p.stat().st_size > 1000 for p in out.iterdir()))
    tell([job, work.id, os.getpid(), pid])
    import signal
    os.kill(pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    (out / "x.txt").write_text("old")
    (out / ".studio-jother-0.part").write_text("of another job, which may be at work")
    job, work = killed_after(program, tmp_path / "home", out)
    assert (out / "x.txt").read_text() == "old"
    with Trio(Paths(tmp_path / "home")) as later:
        assert later.job(job).problem is not None
        assert sorted(os.listdir(out)) == [".studio-jother-0.part", "x.txt"]
        end = later.end(later.retry(job).id)
        assert isinstance(end, Finished)
        assert (out / "x.txt").read_bytes() == later.path(later.work(work)).read_bytes()


def killed_after(program: str, *arguments: object) -> tuple[str, str]:
    """Run a program that kills itself; what it told before: a job and a work."""
    import json
    import subprocess
    import sys

    from tests.faults.tools import PRELUDE, ROOT, environment, need_tracing

    need_tracing()
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + program, *map(str, arguments)], capture_output=True, text=True, timeout=60,
        env=environment(), cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    job, work, *_ = json.loads(done.stdout.splitlines()[-1])
    return job, work
