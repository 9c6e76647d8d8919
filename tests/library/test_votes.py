"""Votes are kept line by line, and outlive half a line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from studio.core.elo import Vote
from studio.core.paths import Paths
from studio.core.problems import BadRecipe, NotSaved
from studio.library.votes import Votes

FIRST = Vote(pair="w1:w2", one="a", other="b", won=1)
SECOND = Vote(pair="w3:w4", one="a", other="b", won=0)
OTHERS = Vote(pair="w1:w2", one="a", other="c", won=-1)


def test_votes_are_there_again_in_order_and_by_models(paths: Paths) -> None:
    votes = Votes(paths)
    assert votes.of("text") == []
    for vote in (FIRST, OTHERS, SECOND):
        votes.keep("text", vote)
    again = Votes(paths)
    assert again.of("text") == [FIRST, OTHERS, SECOND]
    assert again.of("text", "b", "a") == [FIRST, SECOND]
    assert again.of("image") == []


def test_a_vote_is_taken_back_and_the_last_of_a_pair_counts(paths: Paths) -> None:
    votes = Votes(paths)
    votes.keep("text", FIRST)
    votes.keep("text", SECOND)
    votes.drop("text", FIRST)
    assert votes.of("text") == [SECOND]
    changed = Vote(pair="w3:w4", one="b", other="a", won=1)
    votes.keep("text", changed)
    assert votes.of("text") == [changed]


def test_half_a_line_of_a_power_cut_costs_that_vote_only(paths: Paths) -> None:
    votes = Votes(paths)
    votes.keep("text", FIRST)
    file = paths.home / "votes" / "text.jsonl"
    with open(file, "ab") as stream:
        stream.write(b'{"vote": {"pair": "w9')
    votes.keep("text", SECOND)
    assert Votes(paths).of("text") == [FIRST, SECOND]
    file.write_bytes(b"\xff\xfe\n[]\n" + file.read_bytes())
    assert Votes(paths).of("text") == [FIRST, SECOND]


def test_what_cannot_be_kept_is_said(paths: Paths) -> None:
    (paths.home / "votes").write_text("in the way")
    with pytest.raises(NotSaved, match="could not be kept"):
        Votes(paths).keep("text", FIRST)
    with pytest.raises(BadRecipe):
        Votes(paths).of("../text")


def test_each_vote_is_on_disk_before_the_next(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").stat().st_size if os.name != "nt" else 1)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    Votes(paths).keep("text", FIRST)
    assert synced and synced[0] > 20
