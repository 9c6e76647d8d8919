"""Section D of docs/faults.md, disks: full, slow, refusing, failing, in another place, seen by a studio at work."""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.core.events import Failed, Finished
from studio.core.files import durable, write_durably
from studio.core.paths import Paths
from tests.faults.tools import (
    FLUSHES,
    RENAMES,
    Trio,
    failing,
    need_tracing,
    problem_of,
    public_folder,
    small_disks,
    studio,
    told_by,
    without_rights,
)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    """One for all: every test leaves it able to work, which the next one shows."""
    with Trio(Paths(tmp_path_factory.mktemp("studio") / "home")) as made:
        yield made


# -- the studio's own writing ------------------------------------------------------------------------------------------

# A job is at work while the calls of the studio begin to fail: its work cannot be kept. Then they go well again.
FAILING = """
session = Trio(Paths(Path(sys.argv[1])))
told = []
for fault in sys.argv[2:]:
    go = session.paths.home / "go"
    job = session.do("say now; save " + fault + "; wait " + str(go))
    session.until_said(job)
    with failing(os.getpid(), fault, see="openat,close") as calls:
        go.touch()
        until(lambda: session.problem is not None)
        sentence, ended, held = session.problem.sentence, session.wait(job, 0) is not None, session.held()
        session.save_now()
        seen = calls.lines()
    go.unlink()
    session.save_now()
    end = session.end(job)
    (work,) = end.works
    told.append({
        "sentence": sentence, "ended": ended, "held": held == [job], "seen": seen,
        "kept": session.path(work).read_text() == fault, "sidecar": all(p.is_file() for p in session.files(work)),
        "problem": str(session.problem), "left": os.listdir(session.paths.staging),
        "tmp": [str(p) for p in session.paths.home.rglob("*.tmp")],
    })
tell(told)
session.close()
"""


def flushed_again(calls: list[str]) -> list[str]:
    """Descriptors that were flushed once more after a flush of theirs had failed."""
    failed: set[str] = set()
    again = []
    for call in calls:
        name, _, rest = call.partition("(")
        handle = rest.partition(")")[0]
        if name == "close":
            failed.discard(handle)
        elif name in FLUSHES.split(",") and "studio.db" not in handle:
            if handle in failed:
                again.append(call)
            if "= -1" in call:
                failed.add(handle)
    return again


def test_a_work_whose_keeping_fails_is_held_and_kept_once_the_disk_is_well(tmp_path: Path) -> None:
    need_tracing()
    faults = [f"{FLUSHES}:error=EIO", f"{RENAMES}:error=EACCES", f"{RENAMES}:error=ESTALE"]
    said = told_by(FAILING, tmp_path / "home", *faults)
    for fault, one in zip(faults, said, strict=True):
        assert one["sentence"].startswith("It was made but could not be kept yet"), fault
        assert one["held"] and not one["ended"], fault
        assert any("INJECTED" in call for call in one["seen"]), fault
        assert flushed_again(one["seen"]) == [], fault
        assert one["kept"] and one["sidecar"], fault
        assert (one["problem"], one["left"], one["tmp"]) == ("None", [], []), fault


def test_what_counts_as_a_flush_tried_again() -> None:
    calls = ["fsync(7</x>) = -1 EIO (INJECTED)", "close(7</x>) = 0", "fsync(7</x>) = 0", "fsync(8</y>) = -1 EIO"]
    assert flushed_again(calls) == []
    assert flushed_again([*calls, "fdatasync(8</y>) = 0"]) == ["fdatasync(8</y>) = 0"]


@pytest.mark.parametrize(
    ("fault", "why"),
    [(f"{FLUSHES}:error=EIO", "the disk reports an error"), (f"{RENAMES}:error=EACCES", "no permission")],
)
def test_a_worker_that_cannot_save_fails_its_job_and_the_next_one_runs(session: Trio, fault: str, why: str) -> None:
    session.work_of("text")
    pid = session.lanes_of["text"].pid
    with failing(pid, fault, see="close") as calls:
        end = session.make("text", "save one; save two")
        assert calls.injected() and flushed_again(calls.lines()) == []
    assert isinstance(end, Failed) and end.problem.code == "not_saved" and why in end.problem.sentence
    assert end.works == () and list(session.paths.staging.rglob("*.tmp")) == []
    again = session.make("text", "save one; save two")
    assert isinstance(again, Finished) and [session.path(w).read_text() for w in again.works] == ["one", "two"]
    assert session.lanes_of["text"].pid == pid


ELSEWHERE = """
session = Trio(Paths(Path(sys.argv[1])))
work = session.work_of("text", "save from one disk to the other")
assert os.stat(session.paths.works).st_dev != os.stat(session.paths.staging).st_dev
tell([session.path(work).read_text(), os.listdir(session.paths.staging), len(session.files(work))])
session.close()
"""


def test_works_on_another_disk_than_the_rest_are_copied_there(paths: Paths) -> None:
    said = told_by(ELSEWHERE, paths.home, before=small_disks(works="1m")(works=paths.works))
    assert said == ["from one disk to the other", [], 2]


FULL = """
home, ballast = Path(sys.argv[1]), Path(sys.argv[1]) / "ballast"
session = Trio(Paths(home))
old = session.work_of("text", "save old")
job = session.do("say now; wait " + sys.argv[2] + "; save " + "new " * 10_000)
session.until_said(job)
fill_up(ballast)
try:
    session.do("save never " + "x" * 100_000)
    refused = ""
except StudioError as error:
    refused = error.problem.sentence
Path(sys.argv[2]).touch()
until(lambda: any(type(e).__name__ == "Held" for e in session.events))
held = next(e for e in session.events if type(e).__name__ == "Held").problem.sentence
intact = session.path(old).read_text() == "old" and session.work(old.id) == old
ballast.unlink()
end = session.end(job)
tell({
    "refused": refused, "held": held, "intact": intact, "end": type(end).__name__,
    "new": session.path(end.works[0]).read_text() == "new " * 9_999 + "new", "jobs": len(session.jobs()),
    "next": type(session.make("text", "save next")).__name__,
})
session.close()
"""


def test_a_full_disk_holds_the_work_refuses_new_jobs_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    said = told_by(FULL, home, tmp_path / "go", before=small_disks(home="3m")(home=home))
    assert "the disk is full" in said["refused"], said
    assert "the disk is full" in said["held"], said
    assert said["intact"] and said["end"] == "Finished" and said["new"] and said["next"] == "Finished"
    assert said["jobs"] == 2, "the refused one was not queued"


def test_a_limit_on_the_size_of_files_is_told_and_the_next_smaller_work_is_saved(session: Trio) -> None:
    session.work_of("text")
    pid = session.lanes_of["text"].pid
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (8192, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        end = session.make("text", "save " + "word " * 5000)
        assert isinstance(end, Failed) and "larger than the system allows" in end.problem.sentence
        assert isinstance(session.make("text", "save small"), Finished)
    finally:
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))


LIMITED = """
import resource
session = Trio(Paths(Path(sys.argv[1])))
old = session.work_of("text", "save old")
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
try:
    session.do("save never " + "x" * 100_000)
    said = ""
except StudioError as error:
    said = error.problem.sentence
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
end = session.make("text", "save new")
tell([said, session.path(old).read_text(), type(end).__name__, len(session.jobs())])
session.close()
"""


def test_a_limit_on_the_size_of_the_database_is_a_sentence(tmp_path: Path) -> None:
    said, old, end, jobs = told_by(LIMITED, tmp_path / "home")
    assert "could not be written" in said, said
    assert (old, end, jobs) == ("old", "Finished", 2)


SLOW = """
session = Trio(Paths(Path(sys.argv[1])))
session.work_of("text", "save warm")
looks = [session.queue, session.lanes, session.works, session.jobs, session.held, session.count_works]
took = []
with failing(os.getpid(), *sys.argv[2:]) as calls:
    job = session.do("step 5; say a; save slow")
    while session.wait(job, 0) is None:
        for look in looks:
            began = time.monotonic()
            look()
            took.append(time.monotonic() - began)
        time.sleep(0.005)
    slow = len(calls.injected())
    job2 = session.do("say b; sleep 60")
    session.until_said(job2)
    began = time.monotonic()
    session.cancel(job2)
    cancel = time.monotonic() - began
    session.end(job2)
took.sort()
tell({
    "slow": slow, "looks": len(took), "usual": took[len(took) // 2], "nearly all": took[len(took) * 95 // 100],
    "cancel": cancel, "end": str(session.job(job).state), "end2": str(session.job(job2).state),
    "progress": sum(type(e).__name__ == "Progress" for e in session.events),
})
session.close()
"""


def test_on_a_slow_disk_the_session_answers_while_a_work_is_kept(tmp_path: Path) -> None:
    """200 ms for each flush and rename; what only looks does not wait for them."""
    need_tracing()
    said = told_by(SLOW, tmp_path / "home", f"{FLUSHES},{RENAMES}:delay_enter=200000")
    assert said["slow"] >= 8, said
    assert said["looks"] > 5 * said["slow"] and said["nearly all"] < 0.2, said
    assert said["cancel"] < 2 and (said["end"], said["end2"]) == ("finished", "cancelled"), said
    assert said["progress"] >= 5, said


# -- reading -----------------------------------------------------------------------------------------------------------

UNREAD = """
session = Trio(Paths(Path(sys.argv[1])))
file = Path(sys.argv[2])
said = []
for fault in ("read:error=EIO", "read:error=ESTALE", "?openat:error=ESTALE", "?stat,?newfstatat,?statx:error=EIO"):
    with failing(os.getpid(), fault, only=[file]):
        try:
            session.recipe_in(file)
            said.append("")
        except StudioError as error:
            said.append(error.problem.code + ": " + error.problem.sentence)
said.append(str(session.recipe_in(file)))
tell(said)
session.close()
"""


def test_a_file_on_a_failing_disk_is_a_sentence_and_can_be_read_later(tmp_path: Path) -> None:
    need_tracing()
    (tmp_path / "x.json").write_text('{"kind": "text", "prompt": "well again"}')
    *said, well = told_by(UNREAD, tmp_path / "home", tmp_path / "x.json")
    for sentence in said:
        assert sentence.startswith("not_read: “x.json” cannot be read: ") and sentence.endswith("."), said
    assert "well again" in well


SECRET = """
session = Trio(Paths(Path(sys.argv[1])))
try:
    session.recipe_in(Path(sys.argv[2]))
except StudioError as error:
    tell([error.problem.code, error.problem.sentence])
session.close()
"""


def test_a_file_that_may_not_be_read_is_a_sentence() -> None:
    with public_folder() as folder:
        (folder / "secret.png").write_bytes(b"x")
        (folder / "secret.png").chmod(0)
        code, sentence = told_by(SECRET, folder / "home", folder / "secret.png", before=without_rights())
    assert code == "not_read" and "Permission denied" in sentence


# -- a library without the right to write ---------------------------------------------------------------------------


def test_a_library_that_may_only_be_read_is_listed_and_refuses_changes_in_a_sentence() -> None:
    before = without_rights()
    with public_folder() as folder:
        home = folder / "home"
        with Trio(Paths(home)) as made:
            work = made.work_of("text", "save precious")
        everything = [home, *home.rglob("*")]
        for path in everything:
            path.chmod(0o555 if path.is_dir() else 0o444)
        content = {path: path.read_bytes() for path in everything if path.is_file()}
        try:
            listed = studio(home, "works", before=before)
            assert listed.returncode == 0 and work.id in listed.stdout, listed.stderr
            refused = problem_of(studio(home, "works", "--remove", work.id, "--json", before=before))
            assert refused["code"] == "read_only", refused
            assert {path: path.read_bytes() for path in content} == content
            assert sorted(home.rglob("*")) == sorted(everything[1:]), "nothing was added or taken away"
        finally:
            for path in everything:
                path.chmod(0o755 if path.is_dir() else 0o644)


# -- one file --------------------------------------------------------------------------------------------------------


def test_a_link_in_place_of_a_file_is_replaced_and_what_it_points_to_stays(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "x").symlink_to(tmp_path / "precious")
    (tmp_path / "x.tmp").symlink_to(tmp_path / "precious")
    write_durably(tmp_path / "x", b"new")
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert (tmp_path / "x").read_bytes() == b"new" and not (tmp_path / "x").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["precious", "x"]


def test_a_link_put_there_while_the_file_is_opened_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    unlink = Path.unlink

    def unlink_and_link(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        if path.name == "x.tmp":
            os.symlink(tmp_path / "precious", path)
            monkeypatch.setattr(Path, "unlink", unlink)

    monkeypatch.setattr(Path, "unlink", unlink_and_link)
    with pytest.raises(FileExistsError):
        write_durably(tmp_path / "x", b"new")
    assert (tmp_path / "precious").read_bytes() == b"precious" and not (tmp_path / "x").exists()


@pytest.mark.parametrize(("number", "saved"), [(errno.EIO, False), (errno.EINVAL, True), (errno.ENOTSUP, True)])
def test_a_folder_that_reports_an_error_is_told_and_one_that_cannot_flush_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, saved: bool
) -> None:
    fsync, flushed = os.fsync, []

    def broken(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            flushed.append(handle)
            raise OSError(number, os.strerror(number))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", broken)
    if saved:
        write_durably(tmp_path / "x", b"new")
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            write_durably(tmp_path / "x", b"new")
    assert len(flushed) == 1 and (tmp_path / "x").read_bytes() == b"new"


RENAMED = """
from studio.core.files import write_durably
target = Path(sys.argv[1])
said = []
for error in ("EACCES", "EXDEV", "ESTALE", "EROFS"):
    with failing(os.getpid(), "?rename,?renameat,?renameat2:error=" + error):
        try:
            write_durably(target, b"new")
        except OSError as caught:
            said.append([error, caught.strerror, target.read_text(), os.listdir(target.parent)])
tell(said)
"""


def test_a_file_that_cannot_be_given_its_name_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    need_tracing()
    (tmp_path / "x").write_text("old")
    for error, strerror, old, files in told_by(RENAMED, tmp_path / "x"):
        assert (old, files) == ("old", ["x"]), error
        assert strerror == os.strerror(getattr(errno, error))


def test_two_files_of_one_folder_do_not_take_each_others_place(tmp_path: Path) -> None:
    with durable(tmp_path / "one") as first, durable(tmp_path / "two") as second:
        first.write(b"1")
        second.write(b"2")
    assert (tmp_path / "one").read_bytes() == b"1" and (tmp_path / "two").read_bytes() == b"2"
