"""Measures of texts: against references, and of what they are in themselves.

Every one comes as sufficient statistics, a row of numbers for every text, and a function from their sums to the figure,
so that intervals.py can resample it. BLEU and chrF count as sacrebleu does and METEOR matches as nltk does, because
these libraries do it; ROUGE is written here, since the usual library is kept by nobody any more, and equals it. Knows
strings; knows nothing of models.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from studio.engines.evaluate import intervals
from studio.engines.evaluate.intervals import Array, Metric

Words = Sequence[str]
ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
BLEU_ORDER, CHRF_ORDER = 4, 6


class Counted(msgspec.Struct, frozen=True):
    """What a measure counted in each text: `stats` (rows, K), and how the figure comes from sums."""

    name: str
    stats: Array
    metric: Metric
    unit: str = ""
    better: str = ""
    signature: str = ""


# -- BLEU and chrF: counted by sacrebleu


def bleu(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Counted:
    """BLEU as sacrebleu gives it with its defaults.

    Args:
        references: one sequence for each set of references, as long as `candidates`.

    Source: Papineni et al. 2002; Post 2018 for tokenizer and signature; smoothing "exp" of Chen & Cherry 2014.
    """
    from sacrebleu.metrics.bleu import BLEU

    scorer = BLEU()
    # the counts that sacrebleu itself resamples in its own significance tests
    stats = np.asarray(scorer._extract_corpus_statistics(candidates, references), dtype=np.float64)
    stats = stats.reshape(len(candidates), 2 + 2 * BLEU_ORDER)
    scorer.corpus_score(candidates, references)  # the signature knows the number of references only after a score
    return Counted("BLEU", stats, bleu_of_sums, "", "higher", str(scorer.get_signature()))


def bleu_of_sums(sums: Array) -> Array:
    """BLEU, 0…100, of sums (R, 10): lengths of candidate and reference, then matches and totals of 1- to 4-grams."""
    ours, theirs = sums[:, 0], sums[:, 1]
    correct, total = sums[:, 2 : 2 + BLEU_ORDER], sums[:, 2 + BLEU_ORDER :]
    precision = np.divide(correct, total, out=np.zeros_like(correct), where=total > 0)
    halved = np.ones(len(sums))
    for n in range(BLEU_ORDER):  # where nothing of a length matches, half, a quarter, … of one match is counted
        none = (correct[:, n] == 0) & (total[:, n] > 0)
        halved = np.where(none, halved * 2, halved)
        precision[:, n] = np.where(none, 1.0 / (halved * np.maximum(total[:, n], 1.0)), precision[:, n])
    brevity = np.where(ours < theirs, np.exp(1.0 - theirs / np.maximum(ours, 1e-12)), 1.0)
    with np.errstate(divide="ignore"):
        mean = np.exp(np.log(precision).mean(axis=1))
    return np.where(correct.any(axis=1) & (ours > 0), 100.0 * brevity * mean, 0.0)


def chrf(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Counted:
    """chrF as sacrebleu gives it with its defaults. Source: Popović 2015."""
    from sacrebleu.metrics.chrf import CHRF

    scorer = CHRF()
    stats = np.asarray(scorer._extract_corpus_statistics(candidates, references), dtype=np.float64)
    stats = stats.reshape(len(candidates), 3 * CHRF_ORDER)
    scorer.corpus_score(candidates, references)
    return Counted("chrF", stats, chrf_of_sums, "", "higher", str(scorer.get_signature()))


def chrf_of_sums(sums: Array) -> Array:
    """chrF, 0…100, of sums (R, 18): for 1 to 6 characters those of the candidate, of the reference, and matches."""
    ours, theirs, match = sums[:, 0::3], sums[:, 1::3], sums[:, 2::3]
    counts = (ours > 0) & (theirs > 0)
    orders = np.maximum(counts.sum(axis=1), 1)
    precision = np.divide(match, ours, out=np.zeros_like(match), where=counts).sum(axis=1) / orders
    recall = np.divide(match, theirs, out=np.zeros_like(match), where=counts).sum(axis=1) / orders
    below = 4.0 * precision + recall  # beta is 2
    return np.divide(500.0 * precision * recall, below, out=np.zeros(len(sums)), where=below > 0)


# -- ROUGE


def rouge(candidates: Sequence[str], references: Sequence[Sequence[str]], stem: bool = True) -> list[Counted]:
    """ROUGE-1, -2, -L and -Lsum: the F measure, mean over texts; of several references the best one counts.

    Args:
        stem: reduce words of more than three letters to their stem (Porter) before they are compared.

    Source: Lin 2004; the rules for words, and against counting twice in Lsum, are those of ROUGE-1.5.5.
    """
    rows = np.zeros((len(candidates), len(ROUGE)))
    for i, candidate in enumerate(candidates):
        for each in references:
            found = rouge_of(candidate, each[i], stem)
            rows[i] = np.maximum(rows[i], [found[name] for name in ROUGE])
    signature = f"F1 mean|stem:{'yes' if stem else 'no'}|refs:{len(references)}|max"
    ones = np.ones(len(rows))
    return [
        Counted(f"ROUGE-{name[5:]}", np.column_stack([100.0 * rows[:, k], ones]), intervals.ratio, "", "higher",
                signature)
        for k, name in enumerate(ROUGE)
    ]  # fmt: skip


def rouge_of(candidate: str, reference: str, stem: bool = True) -> dict[str, float]:
    """The F measures of one text, 0…1."""
    ours, theirs = rouge_words(candidate, stem), rouge_words(reference, stem)
    found = {}
    for n in (1, 2):
        a, b = Counter(_grams(ours, n)), Counter(_grams(theirs, n))
        found[f"rouge{n}"] = _f1((a & b).total(), a.total(), b.total())
    found["rougeL"] = _f1(len(_common(theirs, ours)), len(ours), len(theirs))
    found["rougeLsum"] = _summary(_sentences(candidate, stem), _sentences(reference, stem))
    return found


def rouge_words(text: str, stem: bool) -> list[str]:
    words = re.sub(r"[^a-z0-9]+", " ", text.lower()).split()
    if stem:
        words = [_stem(word) if len(word) > 3 else word for word in words]
    return [word for word in words if re.fullmatch(r"[a-z0-9]+", word)]


@functools.lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    return str(_stemmer().stem(word))


@functools.cache
def _stemmer() -> Any:
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()


def _sentences(text: str, stem: bool) -> list[list[str]]:
    """Its lines: whoever wants Lsum by sentences puts each on a line of its own."""
    return [rouge_words(line, stem) for line in text.split("\n") if line]


def _f1(match: int, ours: int, theirs: int) -> float:
    if not match or not ours or not theirs:
        return 0.0
    precision, recall = match / ours, match / theirs
    return 2 * precision * recall / (precision + recall)


def _common(reference: Words, candidate: Words) -> list[int]:
    """The places in `reference` of a longest common subsequence; of several, the one read from the end."""
    rows, columns = len(reference), len(candidate)
    table = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in range(rows):
        above, row = table[i], table[i + 1]
        for j in range(columns):
            row[j + 1] = above[j] + 1 if reference[i] == candidate[j] else max(above[j + 1], row[j])
    found = []
    i, j = rows, columns
    while i and j:
        if reference[i - 1] == candidate[j - 1]:
            i, j = i - 1, j - 1
            found.append(i)
        elif table[i][j - 1] > table[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return found[::-1]


def _summary(candidate: Sequence[Words], reference: Sequence[Words]) -> float:
    """F measure of the union of longest common subsequences; a word counts no more often than it stands there."""
    ours, theirs = Counter(w for s in candidate for w in s), Counter(w for s in reference for w in s)
    ours_total, theirs_total = ours.total(), theirs.total()
    hits = 0
    for sentence in reference:
        union = sorted({i for other in candidate for i in _common(sentence, other)})
        for word in (sentence[i] for i in union):
            if ours[word] > 0 and theirs[word] > 0:
                hits += 1
                ours[word] -= 1
                theirs[word] -= 1
    return _f1(hits, ours_total, theirs_total)


# -- METEOR: matched by nltk


def meteor(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Counted:
    """METEOR as nltk gives it, with the synonyms on board; mean over texts, the best of several references.

    Words are runs of letters and digits, or single other signs. Source: Banerjee & Lavie 2005.
    """
    from nltk.translate.meteor_score import meteor_score

    from studio.engines.evaluate.synonyms import english

    known = english()
    values = [
        100.0 * meteor_score([spoken(each[i]) for each in references], spoken(text), wordnet=known)
        for i, text in enumerate(candidates)
    ]
    stats = np.column_stack([np.asarray(values, dtype=np.float64), np.ones(len(values))])
    signature = "nltk|alpha:0.9|beta:3|gamma:0.5|stem:porter|synonyms:WordNet 3.0"
    return Counted("METEOR", stats, intervals.ratio, "", "higher", signature)


def spoken(text: str) -> list[str]:
    """Words and signs, for METEOR, distinct-n and repetition."""
    return re.findall(r"[^\W_]+|[^\w\s]|_", text)


# -- of the texts alone


def distinct(texts: Sequence[str], n: int) -> tuple[float, Array]:
    """Different n-grams by all n-grams of the texts together, percent; and the same with each text left out in turn.

    Source: Li et al. 2016, section 5.2.
    """
    rows = [Counter(_grams(spoken(text.lower()), n)) for text in texts]
    whole: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        whole.update(row)
    total, different = whole.total(), len(whole)
    value = 100.0 * different / total if total else 0.0
    without = []
    for row in rows:
        rest = total - row.total()
        alone = sum(1 for gram, count in row.items() if whole[gram] == count)
        without.append(100.0 * (different - alone) / rest if rest else 0.0)
    return value, np.asarray(without, dtype=np.float64)


def self_bleu(texts: Sequence[str], most: int = 500, check: Callable[[], None] = lambda: None) -> Counted:
    """How alike the texts are: BLEU of each against all others as its references, mean over texts.

    Args:
        most: texts that are compared; the first ones are taken, since the work grows with the square of their number.

    Source: Zhu et al. 2018 (Texygen), section 3.2.
    """
    from sacrebleu.metrics.bleu import BLEU

    taken = list(texts[:most])
    scorer = BLEU(effective_order=True)
    values = []
    for i, text in enumerate(taken):
        check()
        others = taken[:i] + taken[i + 1 :]
        values.append(scorer.sentence_score(text, others).score if others else 0.0)
    stats = np.column_stack([np.asarray(values, dtype=np.float64), np.ones(len(values))])
    return Counted("Self-BLEU", stats, intervals.ratio, "", "lower", f"sacrebleu sentence|texts:{len(taken)}")


def repetition(texts: Sequence[str], n: int) -> Counted:
    """Share of a text's n-grams that were there before, percent, mean over texts.

    Source: Welleck et al. 2020, eq. 9.
    """
    values = []
    for text in texts:
        grams = _grams(spoken(text.lower()), n)
        values.append(100.0 * (1 - len(set(grams)) / len(grams)) if grams else 0.0)
    stats = np.column_stack([np.asarray(values, dtype=np.float64), np.ones(len(values))])
    return Counted(f"Repetition-{n}", stats, intervals.ratio, "%", "lower", f"rep-{n}, words, mean over texts")


def longest_repeat(text: str) -> int:
    """Words of the longest passage that stands in a text twice (it may overlap itself)."""
    words = spoken(text.lower())
    # neighbours among the sorted ends of the text share its repeats
    ends = sorted(range(len(words)), key=lambda i: words[i : i + 200])
    longest = 0
    for a, b in pairwise(ends):
        n = 0
        while max(a, b) + n < len(words) and words[a + n] == words[b + n]:
            n += 1
        longest = max(longest, n)
    return longest


def longest_repeats(texts: Sequence[str]) -> Counted:
    values = np.asarray([longest_repeat(text) for text in texts], dtype=np.float64)
    return Counted("Longest repeat", np.column_stack([values, np.ones(len(values))]), intervals.ratio, "words", "lower",
                   "mean over texts")  # fmt: skip


def _grams(words: Words, n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
