"""Texts that are the same, and nearly: what is found, what is not, and in how much memory."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from studio.engines.data import likeness
from studio.engines.data.likeness import PERMUTATIONS, Near, Shingles, Store, bands, key_of, split_of
from tests.engines.data.bench import sentences


def test_white_space_makes_no_other_text_and_case_does() -> None:
    assert key_of("One two\n three ") == key_of("One  two three")
    assert key_of("One") != key_of("one")
    assert key_of("One two")[0] == 11_480_556_016_955_836_922, "the same on every machine and for ever"


def test_the_parts_have_their_shares() -> None:
    drawn = [split_of(key_of(str(at))[1], 3, 0.2, 0.1) for at in range(10_000)]
    assert abs(drawn.count("valid") - 2_000) < 160 and abs(drawn.count("test") - 1_000) < 120
    more = [split_of(key_of(str(at))[1], 3, 0.3, 0.1) for at in range(10_000)]
    assert all(a == b for a, b in zip(drawn, more, strict=True) if b != "valid"), (
        "a larger share takes from training only"
    )
    assert drawn != [split_of(key_of(str(at))[1], 4, 0.2, 0.1) for at in range(10_000)]
    assert {split_of(key_of(str(at))[1], 3, 0.0, 0.0) for at in range(100)} == {"train"}


@pytest.mark.parametrize("limit", [48, 300, 10**9])
def test_a_store_finds_what_was_added_and_nothing_else_in_memory_and_on_disk(tmp_path: Path, limit: int) -> None:
    draw = random.Random(1)
    store = Store(tmp_path, "x", limit=limit)
    added: dict[int, int] = {}
    for number in range(600):
        keys = [draw.randrange(1 << 64) for _ in range(3)]
        store.add(keys, number)
        added.update(dict.fromkeys(keys, number))
    keys = list(added)
    draw.shuffle(keys)
    for at in range(0, len(keys), 9):
        assert store.find(keys[at : at + 9]) == [added[key] for key in keys[at : at + 9]]
    absent = [draw.randrange(1 << 64) for _ in range(500)] + [0, (1 << 64) - 1]
    assert store.find(absent) == [-1] * 502
    assert bool(list(tmp_path.glob("*.keys"))) == (limit < 1_000)
    store.close()


def test_texts_that_are_nearly_the_same_are_found_and_others_are_not(tmp_path: Path) -> None:
    near = Near(tmp_path, 0.8)
    texts = [" ".join(sentences(8, start=at * 8)) for at in range(120)]
    assert not any(map(near.seen, texts))
    for text in texts:
        words = text.split()
        assert near.seen(text.upper().replace(".", ",")), "case and points do not count"
        assert near.seen(" ".join([*words[:50], "inserted", *words[50:]]))
        half = " ".join(words[: len(words) // 2])
        assert not near.seen(f"{half} {half[::-1]}")
    near.close()


def test_what_is_estimated_is_what_is_counted(tmp_path: Path) -> None:
    near = Near(tmp_path, 0.8)
    shingles = likeness.Shingles()
    words = " ".join(sentences(40)).split()
    for share in (0.3, 0.6, 0.9):
        other = words[: int(len(words) * share)] + [f"w{at}" for at in range(int(len(words) * (1 - share)))]
        a, b = " ".join(words), " ".join(other)
        true = len(np.intersect1d(shingles(a), shingles(b))) / len(np.union1d(shingles(a), shingles(b)))
        first, second = near.signature(a), near.signature(b)
        assert first is not None and second is not None
        assert abs(float(np.mean(first == second)) - true) < 0.12
    near.close()


def test_languages_without_spaces_are_compared_by_letters(tmp_path: Path) -> None:
    near = Near(tmp_path, 0.7)
    text = (
        "昔々あるところにおじいさんとおばあさんが住んでいました。"
        "おじいさんは山へ芝刈りに、おばあさんは川へ洗濯に行きました。"
    )
    assert not near.seen(text)
    assert near.seen(text.replace("昔々", "むかし"))
    assert not near.seen("今日はとても良い天気なので、友達と一緒に公園へ散歩に行って、お弁当を食べました。")
    assert not near.seen("…"), "without words there is nothing to compare"
    assert not near.seen("…")
    near.close()


@pytest.mark.parametrize("wanted", [0.3, 0.5, 0.8, 0.9, 1.0])
def test_bands_find_nearly_all_that_is_like_enough(wanted: float) -> None:
    count, rows = bands(wanted)
    assert count * rows <= likeness.PERMUTATIONS
    assert 1 - (1 - wanted**rows) ** count >= 0.98


def test_signatures_are_those_of_datasketch(tmp_path: Path) -> None:
    from datasketch import MinHash

    near = Near(tmp_path, 0.8)
    for words in (1, 3, 40, 3_000):
        text = " ".join(f"w{at * at % 977}" for at in range(words))
        made = MinHash(num_perm=PERMUTATIONS, hashfunc=int, scheme="affine32")
        made.update_batch(Shingles()(text).tolist())
        signature = near.signature(text)
        assert signature is not None and signature.tolist() == made.hashvalues.tolist()
    near.close()


def test_keys_of_bands_differ_by_band_and_by_content(tmp_path: Path) -> None:
    near = Near(tmp_path, 0.8)
    same = np.full(PERMUTATIONS, 7, np.uint32)
    keys = near._keys(same)
    assert len(set(keys)) == len(keys) == near._count and min(keys) >= 0
    draws = np.random.default_rng(1).integers(0, 4, (4_000, PERMUTATIONS), np.uint32)
    each = [tuple(row[: near._rows]) for row in draws]
    assert len({near._keys(row)[0] for row in draws}) == len(set(each))
    near.close()
