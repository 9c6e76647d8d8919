from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from studio.runtime.schedule import Assignment, Waiting, WorkerView, assign, order, share_of_threads


def test_the_higher_priority_runs_first_then_the_earlier_place() -> None:
    queue = [
        Waiting("a", "text", "m", 0, 1.0, 1),
        Waiting("b", "text", "m", 0, 0.5, 2),
        Waiting("c", "text", "m", 5, 9, 3),
    ]
    assert [w.job for w in order(queue)] == ["c", "b", "a"]


def test_lanes_do_not_wait_for_one_another() -> None:
    queue = [Waiting("a", "text", "m", seq=1), Waiting("b", "text", "m", seq=2), Waiting("c", "image", "n", seq=3)]
    assert assign(queue, []) == [Assignment("a", "text", None), Assignment("c", "image", None)]


def test_a_busy_lane_starts_nothing_and_no_second_worker() -> None:
    assert assign([Waiting("a", "text", "m")], [WorkerView(1, "text", "m", idle=False)]) == []


def test_the_worker_that_holds_the_model_is_preferred() -> None:
    workers = [WorkerView(1, "text", "other"), WorkerView(2, "text", "m"), WorkerView(3, "text", "")]
    assert assign([Waiting("a", "text", "m")], workers, capacity=3) == [Assignment("a", "text", 2)]
    assert assign([Waiting("a", "text", "x")], workers, capacity=3) == [Assignment("a", "text", 3)]


def test_a_paused_lane_waits_and_the_others_go_on() -> None:
    queue = [Waiting("a", "text", "m", seq=1), Waiting("c", "image", "n", seq=3)]
    assert assign(queue, [], paused={"text"}) == [Assignment("c", "image", None)]
    assert assign(queue, [], paused={"*"}) == []


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(-3, 3), st.floats(0, 9)), max_size=12),
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=4),
)
def test_no_job_and_no_worker_is_given_away_twice(
    jobs: list[tuple[str, int, float]], workers: list[tuple[str, bool]]
) -> None:
    queue = [Waiting(str(i), lane, "m", priority, position, i) for i, (lane, priority, position) in enumerate(jobs)]
    views = [WorkerView(i, lane, "m", idle) for i, (lane, idle) in enumerate(workers)]
    made = assign(queue, views, capacity=2)
    assert len({a.job for a in made}) == len(made)
    given_workers = [a.worker for a in made if a.worker is not None]
    assert len(set(given_workers)) == len(given_workers)
    for lane in "abc":
        mine = [a for a in made if a.lane == lane]
        new = sum(a.worker is None for a in mine)
        assert new + sum(v.lane == lane for v in views) <= max(2, sum(v.lane == lane for v in views))
        first = [w.job for w in order(queue) if w.lane == lane][: len(mine)]
        assert [a.job for a in mine] == first


def test_lanes_at_work_share_the_cores() -> None:
    assert share_of_threads(8, "text", set()) == 8
    assert share_of_threads(8, "text", {"text"}) == 8
    assert share_of_threads(8, "text", {"image"}) == 4
    assert share_of_threads(2, "text", {"image", "speech"}) == 1
    assert share_of_threads(8, "image", {"export"}) == 8
