"""What a restoring takes from where. Damage of every kind is in tests/faults/test_database.py."""

from __future__ import annotations

import os
import shutil

import apsw
import pytest

from studio.core.paths import Paths
from studio.core.problems import Busy, NotSaved
from studio.library import restore as restore_module
from studio.library.backups import back_up, backups
from studio.library.database import MIGRATIONS, Database, look
from studio.library.jobs import Jobs
from studio.library.restore import lost, restore
from studio.library.works import Works
from tests.faults.db_library import add_works, content, fill, old, work


def test_rows_of_the_damaged_file_win_over_those_of_the_backup(paths: Paths) -> None:
    database = fill(paths, 40)
    back_up(database, paths.backups)
    jobs = Jobs(database)
    queued = next(job for job in jobs.unfinished() if job.state == "queued")
    jobs.start(queued.id)
    Works(database).star(work(1).id, True)
    Works(database).set_removed([work(3).id], "")
    jobs.pause("text", True)
    with database.transaction() as db:
        db.execute("update conversations set title = 'New' where id = 'c1'")
    database.close()
    expected = content(paths.database)
    break_an_index(paths)
    assert look(paths.database)
    done = restore(paths)
    assert content(paths.database) == expected
    assert (done.from_backup, done.from_sidecars, done.damaged) == ("studio-0001.db", 0, "damaged/0001")
    assert done.salvaged == sum(map(len, expected.values()))
    assert "backup of 20" in done.sentence and f"{done.salvaged} entries" in done.sentence


def break_an_index(paths: Paths) -> None:
    """All tables can be read, and the file is damaged."""
    db = apsw.Connection(str(paths.database))
    (page,) = db.execute("select rootpage from sqlite_schema where name = 'works_kind'").fetchall()[0]
    db.close()
    with open(paths.database, "r+b") as stream:
        stream.seek((page - 1) * 4096)
        stream.write(os.urandom(4096))


def test_a_changed_letter_in_a_row_is_mended_from_the_sidecar_but_the_star_stays(paths: Paths) -> None:
    database = fill(paths, 40)
    with database.transaction() as db:
        db.execute(
            "update works set title = 'Tbil', recipe = replace(recipe, 'fox', 'box') where id = ?", (work(7).id,)
        )
    database.close()
    break_an_index(paths)
    restore(paths)
    database = Database(paths.database)
    mended = Works(database).find(work(7).id)
    assert mended is not None and mended.starred and mended.title == "Tale 7" and mended.recipe == work(7).recipe
    assert mended.id in {w.id for w in Works(database).recent(search="fox 7.")}
    database.close()


def test_works_without_a_row_are_listed_where_they_belong(paths: Paths) -> None:
    database = fill(paths, 40)
    with database.transaction() as db:
        db.execute("delete from works where seq between 10000 and 19000")
    back_up(database, paths.backups)
    database.close()
    paths.database.unlink()
    assert restore(paths).from_sidecars == 10
    database = Database(paths.database)
    assert [w.id for w in Works(database).recent(limit=100)] == [work(n).id for n in range(39, -1, -1) if n != 3]
    database.close()


def test_a_work_whose_files_are_gone_keeps_its_row(paths: Paths) -> None:
    database = fill(paths, 10)
    back_up(database, paths.backups)
    database.close()
    for file in paths.works.rglob("tale-5.txt*"):
        file.unlink()
    paths.database.unlink()
    restore(paths)
    assert work(5).id in {row[1] for row in content(paths.database)["works"]}


def test_the_newest_backup_that_is_sound_is_taken_and_it_stays(paths: Paths) -> None:
    database = fill(paths, 10)
    for number in range(3):
        add_works(paths, database, range(10 + number, 11 + number))
        back_up(database, paths.backups)
    database.close()
    newest, second, _ = backups(paths.backups)
    newest.path.write_bytes(newest.path.read_bytes()[:-4096] + bytes(4096))
    kept = second.path.read_bytes()
    paths.database.unlink()
    done = restore(paths)
    assert done.from_backup == "studio-0002.db" and done.from_sidecars == 1 and done.damaged == ""
    assert second.path.read_bytes() == kept and len(content(paths.database)["works"]) == 13


def test_a_backup_of_an_older_version_is_brought_up_to_date_and_one_of_a_newer_passed_over(paths: Paths) -> None:
    old(paths.home, 2)
    Database(paths.database).close()
    (kept,) = backups(paths.backups)
    before = kept.path.read_bytes()
    database = Database(paths.database)
    newer = back_up(database, paths.backups)
    database.close()
    assert newer is not None
    db = apsw.Connection(str(newer))
    db.pragma("user_version", len(MIGRATIONS) + 1)
    db.close()
    newer.with_suffix(".json").unlink()
    paths.database.unlink()
    assert restore(paths).from_backup == kept.path.name == "studio-0001-version-2.db"
    assert [row[1] for row in content(paths.database)["works"]] == ["w1"] and kept.path.read_bytes() == before


def test_damaged_files_are_kept_side_by_side(paths: Paths) -> None:
    fill(paths, 10).close()
    for number in range(1, 4):
        paths.database.write_bytes(b"bad %d" % number)
        assert restore(paths).damaged == f"damaged/{number:04}"
    assert [p.read_bytes() for p in sorted(paths.damaged.rglob("studio.db"))] == [b"bad 1", b"bad 2", b"bad 3"]


def test_a_database_that_is_locked_is_neither_restored_nor_moved(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    from studio.library import database as database_module

    fill(paths, 10).close()
    monkeypatch.setattr(database_module, "BUSY_MILLISECONDS", 50)
    other = apsw.Connection(str(paths.database))
    other.pragma("locking_mode", "exclusive")
    other.execute("begin exclusive")
    with pytest.raises(Busy, match="locked"):
        restore(paths)
    with pytest.raises(Busy, match="locked"):
        Database(paths.database)
    other.close()
    assert look(paths.database) == "" and not paths.damaged.exists()


def test_what_is_not_whole_is_not_put_in_place(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(paths, 10).close()
    paths.database.write_bytes(b"bad")
    real = restore_module.look
    monkeypatch.setattr(restore_module, "look", lambda path: "a bad page" if path.parent != paths.home else real(path))
    with pytest.raises(NotSaved, match="not whole") as raised:
        restore(paths)
    assert raised.value.problem.detail == "a bad page"
    assert paths.database.read_bytes() == b"bad" and not paths.damaged.exists()
    assert not list(paths.home.glob("restoring-*")) and not list(paths.home.glob("*.restored"))


def test_what_an_earlier_call_built_counts_only_while_the_damaged_file_is_out_of_the_way(paths: Paths) -> None:
    database = fill(paths, 10)
    database.close()
    shutil.copytree(paths.works, paths.home / "away")
    shutil.rmtree(paths.works)
    paths.works.mkdir()
    paths.database.rename(paths.home / "studio.db.restored")
    assert lost(paths), "there may be jobs and conversations in it"
    restore(paths)
    assert len(content(paths.database)["works"]) == 10
    shutil.rmtree(paths.works)
    (paths.home / "away").rename(paths.works)
    (paths.home / "studio.db.restored").write_bytes(b"built of an earlier state")
    paths.database.write_bytes(b"bad")
    restore(paths)
    assert len(content(paths.database)["works"]) == 10 and not list(paths.home.glob("*.restored"))


def test_rows_on_both_sides_of_a_bad_page_are_read_and_single_ones_between_bad_pages(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(paths, 120).close()
    db = apsw.Connection(str(paths.database))
    # the leaves of the table, in order (SQLite file format, section 1.6: cells of an interior page)
    (root,) = db.execute("select rootpage from sqlite_schema where name = 'works'").fetchall()[0]
    db.close()
    data = bytearray(paths.database.read_bytes())
    top = data[(root - 1) * 4096 : root * 4096]
    assert top[0] == 5, "an interior page of a table"
    cells = [int.from_bytes(top[12 + 2 * i : 14 + 2 * i], "big") for i in range(int.from_bytes(top[3:5], "big"))]
    leaves = [int.from_bytes(top[at : at + 4], "big") for at in (*cells, 8)]  # the last is named in the head
    assert len(leaves) > 12 and all(data[(leaf - 1) * 4096] == 13 for leaf in leaves)

    def read(*bad: int) -> list[int]:
        spoiled = bytearray(data)
        for place in bad:
            spoiled[(leaves[place] - 1) * 4096] ^= 0xFF
        (paths.home / "copy.db").write_bytes(spoiled)
        copy = apsw.Connection(str(paths.home / "copy.db"))
        try:
            return sorted(row[0] for row in restore_module._walk(copy, "select rowid, id from works"))
        finally:
            copy.close()

    whole = read()
    assert whole == list(range(1, 121))
    gone = [set(whole) - set(read(place)) for place in range(len(leaves))]
    assert all(0 < len(each) < 10 and len(each) == max(each) - min(each) + 1 for each in gone), "a page each"
    assert set(whole) - set(read(3, 5, 6)) == gone[3] | gone[5] | gone[6], "those on page 4 are read one by one"
    between = next(place for place, rows in enumerate(gone) if min(rows) > 18 and max(rows) < 32)
    others = [place for place in range(len(leaves)) if place != between]
    assert set(read(*others)) == gone[between], "where each doubling of the step meets a bad page"
    monkeypatch.setattr(restore_module, "SINGLY", 0)
    assert set(whole) - set(read(3)) == gone[3], "from above"
    assert set(whole) - set(read(len(leaves) - 1)) == gone[-1]
    assert read(*range(len(leaves))) == []
