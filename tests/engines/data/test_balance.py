"""Words of groups: counted, with what stands beside them, and swapped."""

from __future__ import annotations

import pytest

from studio.core.learning import GROUPS_GIVEN, WordGroup
from studio.engines.data import balance
from studio.engines.data.balance import Balance, Counterparts
from studio.engines.data.words import words_of


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("She took her coat.", "He took his coat."),
        ("He took his coat.", "She took her coat."),
        ("I saw her.", "I saw him."),
        ("I saw her and left.", "I saw him and left."),
        ("We told him.", "We told her."),
        ("The coat is hers, not his.", "The coat is his, not hers."),
        ("SHE SAID IT HERSELF", "HE SAID IT HIMSELF"),
        ("Mrs Hill met the Queen", "Mr Hill met the King"),
        ("Her mother’s sisters", "His father’s brothers"),
        ("A human heard the theme of Sheffield.", "A human heard the theme of Sheffield."),
        ("woman/man", "man/woman"),
    ],
)
def test_words_of_the_groups_are_swapped_both_ways(text: str, other: str) -> None:
    assert Counterparts(GROUPS_GIVEN).swapped(text) == other


def test_a_text_and_its_counterpart_have_one_neutral_form() -> None:
    both = Counterparts(GROUPS_GIVEN)
    text = "She gave her book to him, and the king took his."
    assert both.neutral(text) == both.neutral(both.swapped(text)) != text
    assert both.neutral("Nobody is named.") == "Nobody is named."


def test_groups_of_ones_own_are_paired_by_their_places() -> None:
    groups = (WordGroup("a", "Anna, non-binary person ,same, left over"), WordGroup("b", "Ben, man, SAME"))
    both = Counterparts(groups)
    assert both.swapped("Anna met a non-binary person.") == "Ben met a man."
    assert both.swapped("the same, left over") == "the same, left over"
    assert not Counterparts(groups[:1]) and not Counterparts((WordGroup("a", ""), WordGroup("b", "x")))
    assert Counterparts(()).swapped("She") == "She"


def test_words_are_counted_by_group_and_by_million() -> None:
    counted = Balance((WordGroup("f", "she; her"), WordGroup("m", "he, his"), WordGroup("none", "")))
    counted.add("She saw her. HE saw; the sheep saw.")
    counted.add("Nothing.")
    report = counted.report()
    assert report["all_words"] == 9
    assert [(group["name"], group["count"], group["rows"]) for group in report["groups"]] == [("f", 2, 1), ("m", 1, 1)]
    assert report["groups"][0]["words"] == {"her": 1, "she": 1}
    assert report["groups"][0]["per_million"] == pytest.approx(2e6 / 9, rel=1e-6)
    assert report["ratio"] == 2.0
    assert Balance(()).report() == {}


def test_words_are_the_same_by_the_quick_way_and_by_the_exact_one() -> None:
    text = "".join(map(chr, range(128))) + " She's well-known, 3.5 times; snake_case: (Her)"
    assert words_of(text) == words_of(text + " é")[:-1]


def test_words_of_several_parts_are_found_as_a_whole() -> None:
    counted = Balance((WordGroup("a", "non-binary, non"), WordGroup("b", "x")))
    counted.add("A non-binary person, non stop, non binary.")
    assert counted.report()["groups"][0]["words"] == {"non": 3, "non-binary": 2}


def test_what_stands_beside_one_group_more_than_chance_has_it_is_told() -> None:
    counted = Balance(GROUPS_GIVEN)
    for at in range(60):
        counted.add("She was a nurse in the town hospital.")
        counted.add(f"He was a{' pilot' if at % 2 else ' nurse'} in the town hospital.")
    women, men = counted.report()["groups"]
    assert [each["word"] for each in men["beside"]] == ["pilot"]
    assert [each["word"] for each in women["beside"]] == ["nurse"]
    assert (women["beside"][0]["count"], women["beside"][0]["others"]) == (60, 30)
    assert men["beside"][0]["z"] > 1.96


def test_neighbours_are_bounded_and_the_frequent_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance, "NEIGHBOURS", 100)
    counted = Balance(GROUPS_GIVEN)
    for at in range(400):
        counted.add(f"she word{chr(97 + at % 26)}{chr(97 + at // 26)}x often")
        counted.add("he walks")
    assert len(counted._beside[0]) <= 104
    report = counted.report()
    assert report["complete"] is False
    assert report["groups"][0]["beside"][0]["word"] == "often"
    assert report["groups"][0]["beside"][0]["count"] == 400
