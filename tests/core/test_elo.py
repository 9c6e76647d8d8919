"""What votes amount to."""

from __future__ import annotations

import math

import pytest

from studio.core.elo import MEAN, Vote, ratings, standings, wilson


def votes(one: str, other: str, won: int, ties: int = 0, lost: int = 0) -> list[Vote]:
    results = [1] * won + [0] * ties + [-1] * lost
    return [Vote(pair=f"{one}{other}{i}", one=one, other=other, won=result) for i, result in enumerate(results)]


def test_ten_wins_to_one_are_about_400_points() -> None:
    found = ratings(votes("a", "b", 1000, lost=100))
    assert found["a"] - found["b"] == pytest.approx(400, abs=1)
    assert (found["a"] + found["b"]) / 2 == pytest.approx(MEAN)


def test_ratings_foretell_how_models_do_that_never_met() -> None:
    found = ratings(votes("a", "b", 200, lost=100) + votes("c", "b", 100, lost=200))
    assert found["a"] - found["c"] == pytest.approx(400 * math.log10(4), abs=3)


def test_neither_the_order_of_votes_nor_of_names_matters() -> None:
    given = votes("a", "b", 6, 1, 3) + votes("b", "c", 5, 2, 2)
    turned = [Vote(pair=v.pair, one=v.other, other=v.one, won=-v.won) for v in reversed(given)]
    assert ratings(given) == pytest.approx(ratings(turned))


def test_standings_tell_rates_with_ties_as_halves_and_hold_the_rating_in_its_interval() -> None:
    first, second = standings(votes("b", "a", 6, 2, 2))
    assert (first.who, first.rate, first.votes) == ("b", 0.7, 10) and second.rate == pytest.approx(0.3)
    assert first.low < 0.7 < first.high and (first.low, first.high) == wilson(0.7, 10)
    assert first.elo_low < first.elo < first.elo_high
    assert standings(votes("b", "a", 6, 2, 2)) == [first, second], "the same draws every time"


def test_more_votes_make_narrower_intervals() -> None:
    few, many = (standings(votes("a", "b", 6 * n, lost=4 * n))[0] for n in (1, 20))
    assert many.high - many.low < few.high - few.low
    assert many.elo_high - many.elo_low < few.elo_high - few.elo_low


def test_one_that_always_wins_and_no_votes_at_all_are_no_trouble() -> None:
    first, _ = standings(votes("a", "b", 12))
    assert first.rate == 1.0 and 0.7 < first.low < 1.0 and math.isfinite(first.elo_high)
    assert standings([]) == [] and ratings([]) == {}
    assert standings([Vote(pair="p", one="a", other="a", won=1)]) == []


def test_wilson_is_that_of_the_books() -> None:
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0.0, 0) == (0.0, 1.0)
