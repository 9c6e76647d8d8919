"""The session with real worker processes, a real database and a scriptable engine."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from studio.app.machine import is_alive, this_process
from studio.core.events import Again, Cancelled, Failed, Finished, Held, Queued, Started
from studio.core.jobs import JobState
from studio.core.paths import Paths
from studio.core.problems import BadRecipe, BadSetting, NotFound, NotSaved, ReadOnly
from studio.core.recipes import TextRecipe, check
from studio.core.works import Change
from studio.library.database import Database
from studio.library.files import Files, Sidecar
from studio.library.works import Works
from tests.app.rig import Rig


def test_a_work_is_kept_with_recipe_sidecar_and_checksum(paths: Paths) -> None:
    with Rig(paths) as session:
        end = session.end(session.do("say x; save naïve 🦊"))
        assert isinstance(end, Finished)
        (work,) = end.works
        assert session.work(work.id) == work == session.works()[0]
        master = session.path(work)
        assert master.read_text() == "naïve 🦊"
        assert work.master.sha256 == hashlib.sha256(master.read_bytes()).hexdigest()
        sidecar = msgspec.json.decode(session.files(work)[-1].read_bytes(), type=Sidecar)
        assert sidecar.work == work
        recipe = work.recipe
        assert isinstance(recipe, TextRecipe)
        assert recipe.seed == 5 and recipe.model == "fake" and recipe.made_with is not None
        assert recipe.made_with.threads >= 1 and recipe.made_with.versions == {"fake": "1"}
        job = session.job(work.job)
        assert job.state is JobState.FINISHED and job.works == (work.id,) and job.attempts == 1
        assert list(paths.staging.iterdir()) == []


def test_a_job_ends_exactly_once_and_in_order(paths: Paths) -> None:
    with Rig(paths) as session:
        ids = [session.do("save x"), session.do("raise oom"), session.do("die SIGKILL"), session.do("save y")]
        for job in ids:
            session.end(job)
        for job in ids:
            mine = [e for e in session.events if not isinstance(e, Change) and e.job == job]
            assert isinstance(mine[0], Queued) and isinstance(mine[1], Started)
            assert [isinstance(e, (Finished, Failed, Cancelled)) for e in mine].count(True) == 1
            assert isinstance(mine[-1], (Finished, Failed, Cancelled))


def test_the_job_is_on_disk_before_anything_runs(paths: Paths) -> None:
    with Rig(paths) as session:
        session.pause()
        job = session.do("save x")
        other = Rig(paths)
        assert other.job(job).state is JobState.QUEUED
        other.close()
        session.unpause()
        assert isinstance(session.end(job), Finished)


def test_what_suits_the_model_fills_what_was_not_given(paths: Paths) -> None:
    with Rig(paths) as session:
        assert session.recipe("text", {"prompt": "x"}).recipe.top_k == 7  # type: ignore[union-attr]
        assert session.recipe("text", {"prompt": "x", "top_k": 3}).recipe.top_k == 3  # type: ignore[union-attr]


def test_a_recipe_changed_past_its_limits_is_refused_at_submit(paths: Paths) -> None:
    sound = check("text", {"prompt": "x"}).recipe
    with Rig(paths) as session:
        with pytest.raises(BadRecipe):
            session.submit(msgspec.structs.replace(sound, n=1000))  # replace checks nothing
        assert session.jobs() == []


def test_a_job_whose_worker_dies_is_begun_again_once_and_says_so(paths: Paths, tmp_path: Path) -> None:
    with Rig(paths) as session:
        mark = tmp_path / "mark"
        job = session.do(f"once {mark}; save made")
        end = session.end(job)
        assert isinstance(end, Finished) and session.path(end.works[0]).read_text() == "made"
        assert any("second try" in note and "SIGKILL" in note for note in end.notes)
        assert [e.job for e in session.events if isinstance(e, Again)] == [job]
        assert session.job(job).attempts == 2 and "SIGKILL" in session.job(job).why


def test_a_job_that_always_kills_its_worker_is_set_aside_and_the_others_run(paths: Paths) -> None:
    with Rig(paths) as session:
        bad, good = session.do("say half a text; die SIGSEGV"), session.do("save x")
        end = session.end(bad)
        assert isinstance(end, Failed) and end.problem.code == "set_aside" and "SIGSEGV" in end.problem.sentence
        assert session.job(bad).attempts == 2
        (part,) = end.works
        assert session.path(part).read_text() == "half a text" and not part.complete
        assert isinstance(session.end(good), Finished)
    with Rig(paths, resume=True) as later:
        assert later.mine() == [] and later.job(bad).state is JobState.FAILED


def test_redo_applies_the_circumstances_and_tells_what_differs(paths: Paths) -> None:
    with Rig(paths) as session:
        end = session.end(session.do("save x"))
        assert isinstance(end, Finished)
        work = end.works[0]
        again = session.redo(work.id)
        assert again.redo_of == work.id and again.recipe == work.recipe
        end = session.end(again.id)
        assert isinstance(end, Finished) and end.notes == ()
        made_with = msgspec.structs.replace(work.recipe.made_with, versions={"fake": "0"}, threads=3)
        other = session.submit(msgspec.structs.replace(work.recipe, made_with=made_with))
        end = session.end(other.id)
        assert isinstance(end, Finished)
        assert end.notes == ("First made with fake 0, now with 1.",)
        assert end.works[0].recipe.made_with.threads == 3  # type: ignore[union-attr]


def test_cancelling_keeps_what_was_finished_and_marks_the_job(paths: Paths) -> None:
    with Rig(paths) as session:
        job = session.do("save one; say x; sleep 30")
        session.until_said(job)
        session.cancel(job)
        end = session.end(job)
        assert isinstance(end, Cancelled) and len(end.works) == 1
        assert session.path(end.works[0]).read_text() == "one"
        assert session.job(job).state is JobState.CANCELLED
        assert session.cancel(job) == Change()


def test_waiting_jobs_are_reordered_and_survive_in_that_order(paths: Paths) -> None:
    with Rig(paths) as session:
        session.pause()
        a, b, c = (session.do(f"save {x}") for x in "abc")
        session.move(c, before=a)
        session.move(b, priority=1)
        assert session.queue() == [b, c, a]
    with Rig(paths, resume=False) as later:
        later.pause()
        assert set(later.resume_waiting().jobs) == {a, b, c}
        assert later.queue() == [b, c, a]
        later.unpause()
        assert isinstance(later.end(a), Finished)
        assert later.job(a).owner == this_process()


def test_closing_can_put_what_runs_back_into_the_queue(paths: Paths) -> None:
    session = Rig(paths)
    job = session.do("say x; sleep 30")
    session.until_said(job)
    session.close(running="requeue")
    with Rig(paths) as later:
        assert later.job(job).state is JobState.QUEUED


def test_a_job_whose_studio_was_killed_is_marked_as_interrupted(paths: Paths) -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from studio.core.paths import Paths\n"
        "from tests.app.rig import Rig\n"
        "session = Rig(Paths(Path(sys.argv[1])))\n"
        "done = session.end(session.do('save kept'))\n"
        "job = session.do('say x; sleep 60')\n"
        "waiting = session.do('save later')\n"
        "session.until_said(job)\n"
        "print(job, waiting, done.works[0].id, flush=True)\n"
        "time.sleep(60)\n"
    )
    studio = subprocess.Popen([sys.executable, "-c", program, str(paths.home)], stdout=subprocess.PIPE, text=True)
    assert studio.stdout is not None
    job, waiting, work = studio.stdout.readline().split()
    with Rig(paths) as beside:
        assert beside.job(job).state is JobState.RUNNING, "a job of a living studio is left alone"
        assert beside.resume_waiting().jobs == ()
    os.kill(studio.pid, signal.SIGKILL)
    studio.communicate()  # and close its pipe
    with Rig(paths) as later:
        interrupted = later.job(job)
        assert interrupted.state is JobState.FAILED
        assert interrupted.problem is not None and interrupted.problem.code == "interrupted"
        assert later.work(work).id == work
        assert later.job(waiting).state is JobState.QUEUED
        assert later.resume_waiting().jobs == (waiting,)
        assert isinstance(later.end(waiting), Finished)
        assert isinstance(later.end(later.retry(waiting).id), Finished)
        assert list(paths.staging.iterdir()) == []


@pytest.mark.parametrize("moment", ["promise", "settle", "write_sidecar", "add"])
def test_a_promised_work_is_there_after_a_kill_at_any_later_step(paths: Paths, moment: str) -> None:
    """The studio dies right after (promise) or right before (the others) a step of keeping."""
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from studio.core.paths import Paths\n"
        "from studio.library.files import Files\n"
        "from studio.library.works import Works\n"
        "from tests.app.rig import Rig\n"
        "moment = sys.argv[2]\n"
        "owner = Works if moment == 'add' else Files\n"
        "real = getattr(owner, moment)\n"
        "def dying(self, *args):\n"
        "    if moment == 'promise': real(self, *args)\n"
        "    os.kill(os.getpid(), 9)\n"
        "session = Rig(Paths(Path(sys.argv[1])))\n"
        "setattr(owner, moment, dying)\n"
        "session.end(session.do('save one; save two'))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(paths.home), moment], timeout=60)
    assert ended.returncode == -9
    with Rig(paths) as later:
        works = later.works()
        assert [later.path(w).read_text() for w in works] == ["two", "one"]
        assert later.jobs()[0].state is JobState.FINISHED
        assert all(p.exists() for w in works for p in later.files(w))
        assert list(paths.staging.iterdir()) == []
        files = [p for p in paths.works.rglob("*") if p.is_file()]
        assert len(files) == 4, "nothing is there twice and nothing is left over"


def test_a_lost_database_is_rebuilt_from_the_sidecars(paths: Paths) -> None:
    with Rig(paths) as session:
        for text in ("one", "two"):
            session.end(session.do(f"save {text}"))
        before = session.works()
    for file in paths.home.glob("studio.db*"):
        file.unlink()
    with Rig(paths) as later:
        assert later.works() == before
        assert "2 works from the files beside them" in later.note
        assert later.rebuild() == Change()
    with Rig(paths) as next_time:
        assert next_time.note == ""


def test_an_empty_or_foreign_database_is_not_taken_for_a_new_library(paths: Paths) -> None:
    for content in (b"", b"this is not a database, but it is long enough to look at " * 20):
        paths.database.write_bytes(content)
        with pytest.raises(Exception, match="damaged") as caught:
            Rig(paths)
        assert type(caught.value).__name__ == "LibraryBroken"
        assert paths.database.read_bytes() == content, "it is left as it is"
        paths.database.unlink()


def test_a_newer_database_is_open_for_reading_and_says_its_version(paths: Paths) -> None:
    with Rig(paths) as session:
        session.end(session.do("save one"))
    import apsw

    db = apsw.Connection(str(paths.database))
    db.pragma("user_version", 99)
    db.close()
    with Rig(paths, resume=False, keep_pause=True) as later:
        assert "newer studio (version 99" in later.read_only
        assert len(later.works()) == 1
        for change in (lambda: later.do("save two"), lambda: later.star(later.works()[0].id, True)):
            with pytest.raises(ReadOnly, match="newer studio"):
                change()
        later.pause()  # of this session only: nothing is written


def test_a_home_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NotSaved, match="cannot be used"):
        Rig(Paths(tmp_path / "file" / "home"))


def test_settings_are_kept_and_broken_ones_set_aside(paths: Paths) -> None:
    with Rig(paths) as session:
        assert session.change_settings(threads=3) == Change(settings=("threads",))
        with pytest.raises(BadSetting, match="whole number"):
            session.change_settings(threads=-1)
        with pytest.raises(BadSetting, match="no setting"):
            session.change_settings(colour="red")
    with Rig(paths) as session:
        assert session.settings.threads == 3
    paths.settings.write_text("{ broken")
    with Rig(paths) as session:
        assert session.settings.threads == 0 and "defaults" in session.settings_note
    assert (paths.home / "settings.json.broken").read_text() == "{ broken"


def test_works_are_found_by_the_beginning_of_their_id_and_paged(paths: Paths) -> None:
    with Rig(paths) as session:
        session.end(session.do(";".join(f"save {i}" for i in range(5))))
        works = session.works(limit=2)
        assert [w.index for w in works] == [4, 3]
        assert [w.index for w in session.works(limit=9, before=works[-1].id)] == [2, 1, 0]
        assert session.work(works[0].id[:7]) == works[0]
        with pytest.raises(NotFound):
            session.work("w")
        with pytest.raises(NotFound):
            session.work("%%%%%%")


def test_a_listener_that_fails_does_not_stop_the_queue(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(event: object) -> None:
        raise ValueError("listener")

    with Rig(paths) as session:
        session.subscribe(broken)
        assert isinstance(session.end(session.do("save x")), Finished)
    assert "ValueError: listener" in capsys.readouterr().err


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def until(ready: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_cannot_be_saved_is_held_and_saved_once_there_is_room(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Rig(paths) as session:
        with monkeypatch.context() as full:
            full.setattr(Files, "settle", _full)
            job = session.do("save precious")
            until(lambda: session.held() == [job])
            assert session.problem is not None and "the disk is full" in session.problem.sentence
            assert session.wait(job, 0.1) is None, "it has not ended: it is not saved"
            assert [e.problem.code for e in session.events if isinstance(e, Held)] == ["not_saved"]
            assert session.works() == []
        end = session.end(job)
        assert isinstance(end, Finished)
        assert session.path(end.works[0]).read_text() == "precious"
        assert session.problem is None and session.held() == []
        assert isinstance(session.end(session.do("save next")), Finished)


def test_what_is_still_held_at_the_end_is_saved_at_the_next_start(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in ("settle", "promise"):
        with monkeypatch.context() as full:
            full.setattr(Files, step, _full)
            with Rig(paths) as session:
                job = session.do(f"save precious {step}")
                until(lambda job=job, session=session: session.held() == [job])
            # the process that held it is this one and lives: to the next session it must look gone
            database = Database(paths.database)
            with database.transaction() as db:
                db.execute("update jobs set owner = '1:1.00'")
            database.close()
        with Rig(paths) as later:
            assert f"precious {step}" in [later.path(w).read_text() for w in later.works()]
            assert later.job(job).state is (JobState.FINISHED if step == "settle" else JobState.FAILED)


def test_a_command_does_not_wait_for_room_on_a_disk(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    from studio.show import follow

    with Rig(paths) as session, monkeypatch.context() as full:
        full.setattr(Files, "promise", _full)
        job = session.job(session.do("save precious"))
        end, _ = follow(session, job, quiet=True)
        assert isinstance(end, Failed) and end.problem.code == "not_saved" and "next start" in end.problem.hint
        assert session.held() == [job.id]


def test_what_is_held_can_be_given_up(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    with Rig(paths) as session, monkeypatch.context() as full:
        full.setattr(Files, "promise", _full)
        job = session.do("save unwanted")
        until(lambda: session.held() == [job])
        session.cancel(job)
        assert isinstance(session.end(job), Cancelled)
        assert session.job(job).state is JobState.CANCELLED and list(paths.staging.iterdir()) == []


def test_what_is_given_up_after_its_files_were_moved_leaves_none_of_them(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Rig(paths) as session, monkeypatch.context() as full:
        full.setattr(Works, "add", _full)
        job = session.do("save unwanted")
        until(lambda: session.held() == [job])
        assert [p for p in paths.works.rglob("*") if p.is_file()], "they were moved already"
        session.cancel(job)
        assert isinstance(session.end(job), Cancelled)
        assert [p for p in paths.works.rglob("*") if p.is_file()] == []


def test_a_queue_waits_for_room_and_does_not_fail(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    with Rig(paths) as session:
        with monkeypatch.context() as full:
            full.setattr(Files, "staging", _full)
            jobs = [session.do(f"save {n}") for n in range(3)]
            until(lambda: session.problem is not None)
            assert session.queue() == jobs
        for job in jobs:
            assert isinstance(session.end(job), Finished)


def test_processes_are_known_by_start_time_as_well_as_by_number() -> None:
    me = this_process()
    assert is_alive(me)
    assert not is_alive(me.split(":")[0] + ":1.00")
    assert not is_alive("nonsense")


def test_the_sidecar_is_plain_json_that_others_can_read(paths: Paths) -> None:
    with Rig(paths) as session:
        end = session.end(session.do("save x"))
        assert isinstance(end, Finished)
        read = json.loads(session.files(end.works[0])[-1].read_text())
    assert read["format"] == "studio-work" and read["work"]["recipe"]["prompt"] == "save x"
