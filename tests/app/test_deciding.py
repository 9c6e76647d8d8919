from __future__ import annotations

import pytest

from studio.app.deciding import moved, plan_of
from studio.core.problems import NotFound
from studio.core.recipes import MadeWith
from studio.core.settings import Settings
from studio.runtime.schedule import Waiting


def queue(*places: tuple[str, float], priority: int = 0) -> list[Waiting]:
    return [Waiting(job, "text", "m", priority=priority, position=at) for job, at in places]


def test_a_job_is_put_between_two_others_at_the_first_and_at_the_last_place() -> None:
    line = queue(("a", 1.0), ("b", 2.0), ("c", 3.0))
    assert moved(line, "c", "b", behind=False) == {"c": (0, 1.5)}
    assert moved(line, "a", "b", behind=True) == {"a": (0, 2.5)}
    assert moved(line, "c", "a", behind=False) == {"c": (0, 0.0)}
    assert moved(line, "a", "c", behind=True) == {"a": (0, 4.0)}


def test_it_takes_the_other_ones_priority() -> None:
    line = [*queue(("high", 5.0), priority=3), *queue(("a", 1.0), ("b", 2.0))]
    assert moved(line, "a", "high", behind=True) == {"a": (3, 6.0)}


def test_where_no_number_is_between_two_places_all_are_numbered_anew() -> None:
    line = queue(("a", 1.0), ("b", 1.0), ("c", 2.0))
    assert moved(line, "c", "b", behind=False) == {"a": (0, 1.0), "c": (0, 2.0), "b": (0, 3.0)}


def test_another_one_that_does_not_wait_is_not_found() -> None:
    with pytest.raises(NotFound):
        moved(queue(("a", 1.0)), "a", "a", behind=True)


def test_what_is_made_again_is_made_as_the_first_time() -> None:
    settings = Settings(threads=4, device="cpu", memory="auto")
    assert not plan_of(settings, None, "text", frozenset()).again
    plan = plan_of(settings, MadeWith(engine="e", device="cuda", threads=2, n_ctx=99), "text", frozenset())
    assert plan.again and (plan.device, plan.threads, plan.n_ctx, plan.memory) == ("cuda", 2, 99, "full")
