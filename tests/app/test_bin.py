"""The bin: what is removed can be taken back, until the bin is emptied."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from studio.core.paths import Paths
from studio.core.problems import NotFound, NotSaved
from tests.app.rig import Rig


@pytest.fixture
def session(paths: Paths) -> Iterator[Rig]:
    with Rig(paths) as made:
        yield made


def three(session: Rig) -> list[str]:
    for words in ("one", "two", "three"):
        session.end(session.do(f"save {words}"))
    return [work.id for work in session.works()]


def test_a_removed_work_is_listed_no_more_and_comes_back_where_it_was(session: Rig) -> None:
    newest, middle, oldest = three(session)
    session.star(middle, True)
    change = session.remove(middle)
    assert change.works == (middle,)
    assert [w.id for w in session.works()] == [newest, oldest]
    assert [w.id for w in session.bin()] == [middle] and session.count_works() == 2
    assert session.works_of(session.work(middle).job) == []
    assert session.work(middle).removed and session.path(session.work(middle)).exists()
    session.restore(middle)
    assert [w.id for w in session.works()] == [newest, middle, oldest]
    assert session.work(middle).starred and not session.bin()


def test_emptying_deletes_every_file_and_only_those_of_the_bin(session: Rig) -> None:
    newest, middle, oldest = three(session)
    kept = session.files(session.work(newest))
    gone = [*session.files(session.work(middle)), *session.files(session.work(oldest))]
    session.remove(middle, oldest)
    assert set(session.empty_bin().works) == {middle, oldest}
    assert not any(path.exists() for path in gone) and all(path.exists() for path in kept)
    assert not session.bin()
    with pytest.raises(NotFound):
        session.work(middle)
    assert session.rebuild().works == ()  # no sidecar is left to bring them back


def test_a_file_that_cannot_be_deleted_keeps_its_work_in_the_bin(session: Rig) -> None:
    newest, middle, oldest = three(session)
    master = session.path(session.work(middle))
    master.unlink()
    (master / "in the way").mkdir(parents=True)
    session.remove(newest, middle, oldest)
    with pytest.raises(NotSaved, match="could not be deleted"):
        session.empty_bin()
    left = [w.id for w in session.bin()]
    assert middle in left and newest not in left


def test_the_bin_outlives_the_session(paths: Paths) -> None:
    with Rig(paths) as first:
        newest, *_ = three(first)
        first.remove(newest)
    with Rig(paths) as second:
        assert [w.id for w in second.bin()] == [newest]
        assert newest not in [w.id for w in second.works()]
