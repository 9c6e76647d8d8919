"""Measures of texts equal those of the libraries that others use.

The figures of rouge-score, whose package cannot be installed everywhere, and of nltk with the whole of WordNet, which
is not on board, are kept in tests/golden/measures.json. They were written by

    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=stem)
    [[scorer.score(reference, candidate)[name].fmeasure for name in names] for candidate, reference in pairs]
    [meteor_score([spoken(reference)], spoken(candidate), wordnet=wordnet) for candidate, reference in pairs]

with a WordNetCorpusReader over Princeton's files, and `spoken` of measures.py for the words.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu

from studio.engines.evaluate import intervals, measures
from studio.engines.evaluate.synonyms import Synonyms, english

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "golden" / "measures.json").read_text("utf-8")
)  # fmt: skip
PAIRS: list[list[str]] = GOLDEN["pairs"]
OURS, THEIRS = [pair[0] for pair in PAIRS], [pair[1] for pair in PAIRS]
ALSO = THEIRS[1:] + THEIRS[:1]  # a second set of references


def figure(counted: measures.Counted) -> float:
    return float(counted.metric(counted.stats.sum(axis=0, keepdims=True))[0])


@pytest.mark.parametrize("references", [[THEIRS], [THEIRS, ALSO]], ids=["one reference", "two references"])
def test_bleu_and_chrf_equal_sacrebleu_with_its_signature(references: list[list[str]]) -> None:
    ours, theirs = measures.bleu(OURS, references), sacrebleu.corpus_bleu(OURS, references)
    assert figure(ours) == pytest.approx(theirs.score, abs=1e-9)
    assert "nrefs:" + str(len(references)) in ours.signature and "tok:13a" in ours.signature
    assert figure(measures.chrf(OURS, references)) == pytest.approx(sacrebleu.corpus_chrf(OURS, references).score)


def test_bleu_and_chrf_of_any_part_equal_sacrebleu_as_resampling_needs_it() -> None:
    chance = random.Random(3)
    bleu, chrf = measures.bleu(OURS, [THEIRS]), measures.chrf(OURS, [THEIRS])
    for size in (1, 1, 2, 3, 10, 40):
        chosen = [chance.randrange(len(PAIRS)) for _ in range(size)]
        texts, references = [OURS[i] for i in chosen], [[THEIRS[i] for i in chosen]]
        for counted, corpus in ((bleu, sacrebleu.corpus_bleu), (chrf, sacrebleu.corpus_chrf)):
            found = counted.metric(counted.stats[chosen].sum(axis=0, keepdims=True))[0]
            assert found == pytest.approx(corpus(texts, references).score, abs=1e-9)


@pytest.mark.parametrize(("stem", "key"), [(True, "stemmed"), (False, "plain")])
def test_rouge_equals_rouge_score(stem: bool, key: str) -> None:
    for (ours, theirs), expected in zip(PAIRS, GOLDEN["rouge"][key], strict=True):
        found = measures.rouge_of(ours, theirs, stem)
        assert [found[name] for name in measures.ROUGE] == pytest.approx(expected, abs=1e-12), (ours, theirs)
    counted = measures.rouge(OURS, [THEIRS], stem)
    means = 100 * np.mean(GOLDEN["rouge"][key], axis=0)
    assert [figure(each) for each in counted] == pytest.approx(list(means))


def test_rouge_equals_rouge_score_where_it_is_installed() -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="rouge-score is not installed")
    theirs = scorer.RougeScorer(list(measures.ROUGE), use_stemmer=True)
    chance = random.Random(9)
    words = [
        "the",
        "cat",
        "sat",
        "on",
        "a",
        "mat",
        "dogs",
        "running",
        "quickly",
        "ran",
        "away",
        "from",
        "home",
        "homes",
    ]
    for _ in range(60):
        a, b = (" ".join(chance.choices([*words, "\n"], k=chance.randint(0, 30))) for _ in range(2))
        expected = theirs.score(b, a)
        found = measures.rouge_of(a, b, stem=True)
        assert {n: expected[n].fmeasure for n in measures.ROUGE} == pytest.approx(found, abs=1e-12), (a, b)


def test_of_several_references_rouge_takes_the_best_for_each_text() -> None:
    alone, both = measures.rouge(OURS, [ALSO]), measures.rouge(OURS, [ALSO, OURS])
    assert figure(both[0]) > figure(alone[0])
    assert all(value == 100.0 for value, text in zip(both[0].stats[:, 0], OURS, strict=True)
               if measures.rouge_words(text, True))  # fmt: skip


def test_meteor_equals_nltk_with_the_whole_of_wordnet() -> None:
    counted = measures.meteor(OURS, [THEIRS])
    assert list(counted.stats[:, 0] / 100) == pytest.approx(GOLDEN["meteor"], abs=1e-12)


def test_meteor_is_worth_less_without_synonyms() -> None:
    from nltk.translate.meteor_score import meteor_score

    none = Synonyms([])
    without = [meteor_score([measures.spoken(b)], measures.spoken(a), wordnet=none) for a, b in PAIRS]
    assert sum(without) < sum(GOLDEN["meteor"]) - 0.1


@pytest.mark.parametrize(
    ("word", "same"),
    [("dogs", "hound"), ("quickly", "rapidly"), ("children", "kid"), ("was", "exist"), ("comics", "funnies")],
)
def test_synonyms_are_found_from_inflected_forms(word: str, same: str) -> None:
    assert same in {lemma.name() for synset in english().synsets(word) for lemma in synset.lemmas()}


def test_distinct_counts_different_words_and_leaving_a_text_out_counts_anew() -> None:
    texts = ["a b a", "b c", "d"]
    value, without = measures.distinct(texts, 1)
    assert value == pytest.approx(100 * 4 / 6)
    again = [measures.distinct(texts[:i] + texts[i + 1 :], 1)[0] for i in range(3)]
    assert list(without) == pytest.approx(again)
    assert measures.distinct(["", ""], 2)[0] == 0.0


def test_self_bleu_is_high_for_texts_that_are_alike_and_low_for_those_that_are_not() -> None:
    alike = figure(measures.self_bleu(["the cat sat on the mat today"] * 3))
    apart = figure(measures.self_bleu(["the cat sat on the mat", "we sail far beyond these hills", "one two three"]))
    assert alike == pytest.approx(100.0)
    assert apart < 10
    ours = [sacrebleu.sentence_bleu(OURS[i], OURS[:i] + OURS[i + 1 :], use_effective_order=True).score for i in (0, 5)]
    assert measures.self_bleu(OURS).stats[[0, 5], 0] == pytest.approx(ours)


def test_repetition_is_the_share_of_passages_that_came_before() -> None:
    assert figure(measures.repetition(["a b c d a b c d", "a b c d e f g h"], 4)) == pytest.approx(100 * (1 / 5) / 2)
    assert figure(measures.repetition(["short"], 4)) == 0.0


@pytest.mark.parametrize(
    ("text", "words"), [("", 0), ("a b c", 0), ("a b c x a b c", 3), ("no no no", 2), ("One two. one two.", 3)]
)
def test_the_longest_repeat_is_told_in_words(text: str, words: int) -> None:
    assert measures.longest_repeat(text) == words


def test_intervals_hold_the_figure_and_shrink_with_more_rows() -> None:
    few = intervals.of_sums(measures.bleu(OURS[:10], [THEIRS[:10]]).stats, measures.bleu_of_sums, 500, 1)
    counted = measures.bleu(OURS * 8, [THEIRS * 8])
    many = intervals.of_sums(counted.stats, counted.metric, 500, 1)
    assert few.low is not None and few.high is not None and many.low is not None and many.high is not None
    assert few.low <= few.value <= few.high and many.low <= many.value <= many.high
    assert many.high - many.low < few.high - few.low
    assert intervals.of_sums(counted.stats, counted.metric, 500, 1) == many, "the seed decides"
    assert intervals.of_sums(counted.stats, counted.metric, 500, 2) != many
    assert intervals.of_sums(counted.stats[:1], counted.metric, 500, 1).low is None, "one row tells no spread"


def test_the_bootstrap_covers_the_truth_as_often_as_it_says() -> None:
    chance = np.random.default_rng(4)
    hits = 0
    for i in range(200):
        found = intervals.of_means(chance.normal(3.0, 2.0, size=60), 400, i)
        assert found.low is not None and found.high is not None
        hits += found.low <= 3.0 <= found.high
    assert 180 <= hits <= 199


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    chance = np.random.default_rng(8)
    hard = chance.normal(0, 5, size=80)  # what both find hard
    first, second = (np.column_stack([hard + shift, np.ones(80)]) for shift in (0.5, 0.0))
    first[:, 0] += chance.normal(0, 0.2, size=80)
    found = intervals.paired(first, second, intervals.ratio, 500, 3)
    alone = intervals.of_sums(first, intervals.ratio, 500, 3)
    assert found.low is not None and found.low > 0 and found.better > 0.99
    assert alone.low is not None and alone.low < 0
    with pytest.raises(ValueError, match="equally many"):
        intervals.paired(first, second[:-1], intervals.ratio, 10, 1)


def test_the_interval_of_a_share_stays_within_what_a_share_can_be() -> None:
    free = intervals.jackknifed(90.0, np.asarray([80.0, 100.0, 90.0]))
    assert free.high is not None and free.high > 100.0
    held = intervals.jackknifed(90.0, np.asarray([80.0, 100.0, 90.0]), 0.0, 100.0)
    assert (held.low, held.high) == (free.low, 100.0)


def test_a_jackknife_of_means_gives_their_standard_error() -> None:
    values = np.random.default_rng(2).normal(size=50)
    without = np.array([np.delete(values, i).mean() for i in range(50)])
    found = intervals.jackknifed(float(values.mean()), without)
    assert found.high is not None
    assert found.high - found.value == pytest.approx(1.959964 * values.std(ddof=1) / np.sqrt(50))
