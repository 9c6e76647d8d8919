"""Signs of life and room in memory, without processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from hypothesis import given
from hypothesis import strategies as st

from studio.runtime.budget import GROWTH, SMALL, Holding, came_back, has_grown, make_room
from studio.runtime.watch import Signs, Watch, resident, signs_of


def test_silence_is_counted_from_the_last_word() -> None:
    watch = Watch(10.0)
    assert watch.look(12.0, Signs(1.0, 5)) == 2.0
    assert watch.look(14.0, Signs(1.0, 5)) == 4.0
    watch.heard(15.0)
    assert watch.look(16.0, Signs(1.0, 5)) == 1.0


def test_computing_and_reading_are_signs_of_life_and_nothing_else_is() -> None:
    for alive in (Signs(1.1, 5), Signs(1.0, 6)):
        watch = Watch(0.0)
        watch.look(2.0, Signs(1.0, 5))
        assert watch.look(4.0, alive) == 0.0
    watch = Watch(0.0)
    watch.look(2.0, Signs(1.0, 5))
    assert watch.look(4.0, None) == 4.0, "what cannot be seen is not alive"


def test_a_real_process_is_seen_to_compute_and_to_rest() -> None:
    program = "import time\nwhile time.process_time() < 0.3: pass\nprint('done', flush=True)\ntime.sleep(60)"
    before = signs_of(os.getpid())
    assert before is not None
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    one = signs_of(child.pid)
    time.sleep(0.3)
    two = signs_of(child.pid)
    assert one is not None and one.cpu >= 0.2 and one == two
    assert resident(child.pid) > 1_000_000
    child.kill()
    child.communicate()
    assert signs_of(child.pid) is None and resident(child.pid) == 0


def test_the_one_used_longest_ago_makes_room_first_and_no_more_than_needed() -> None:
    held = [Holding(1, 100, used=5.0), Holding(2, 100, used=3.0), Holding(3, 100, used=9.0)]
    assert make_room(50, 60, held) == []
    assert make_room(150, 60, held) == [2]
    assert make_room(200, 60, held) == [2, 1]
    assert make_room(10_000, 60, held) == [2, 1, 3]


@given(
    st.integers(0, 1000), st.integers(-100, 1000), st.lists(st.tuples(st.integers(0, 300), st.floats(0, 9)), max_size=6)
)
def test_room_is_made_wherever_it_can_be(need: int, free: int, models: list[tuple[int, float]]) -> None:
    held = [Holding(n, size, used) for n, (size, used) in enumerate(models)]
    gone = make_room(need, free, held)
    sizes = {h.worker: h.size for h in held}
    left = free + sum(sizes[n] for n in gone)
    assert left >= need or set(gone) == {n for n, size in sizes.items() if size}
    if gone:
        assert left - sizes[gone[-1]] < need, "the last one was needed"


def test_memory_that_stays_is_noticed() -> None:
    gb = 1024**3
    assert came_back(5 * gb, 1 * gb, 4 * gb)
    assert not came_back(5 * gb, 4 * gb, 4 * gb)
    assert came_back(SMALL, SMALL - 1, 4 * gb), "a small worker is not worth a new process"
    assert not has_grown(3 * gb, 4 * gb)
    assert has_grown(1 * gb, 1 * gb + GROWTH + 1)
