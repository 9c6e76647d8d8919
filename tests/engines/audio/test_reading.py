"""Texts are cut into utterances whose words and phonemes belong together."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from studio.engines.audio.reading import PARAGRAPH_LIMIT, paragraphs, utterances


def spell(text: str) -> list[list[str]]:
    """A phonemizer that spells: sentences end at . ! ? before a space, as espeak's do."""
    parts = re.split(r"(?<=[.!?])\s+", text.strip())
    return [list(p) for p in parts if p]


def texts(text: str) -> list[str]:
    return [u.text for u in utterances(text, spell)]


def test_sentences_keep_their_words_and_know_what_follows():
    made = list(utterances("One. Two!\n\nThree?", spell))
    assert [(u.text, u.after) for u in made] == [("One.", "sentence"), ("Two!", "paragraph"), ("Three?", "paragraph")]
    assert made[-1].end == len("One. Two!\n\nThree?")


def test_short_lines_are_paragraphs_of_their_own():
    assert texts("Shopping\nMilk\nEggs") == ["Shopping", "Milk", "Eggs"]


def test_lines_wrapped_by_hand_are_one_paragraph():
    wrapped = "It was the best of times, it was the worst of times,\nit was the age of wisdom, it was the age of\nfools"
    assert [text[a:b] for text in [wrapped] for a, b, _ in paragraphs(wrapped)] == [wrapped]


def test_punctuation_alone_is_left_out_and_the_pause_before_it_stays_a_paragraphs():
    made = list(utterances("Yes. ...\n\nNo.", spell))
    assert [(u.text, u.after) for u in made] == [("Yes.", "paragraph"), ("No.", "paragraph")]


def test_a_sentence_without_end_is_cut_at_commas_and_nothing_is_lost():
    text = ", ".join(f"word{n}" for n in range(300))
    made = list(utterances(text, spell, limit=100))
    assert len(made) > 20
    assert all(len(u.phonemes) <= 100 for u in made)
    assert "".join("".join(u.phonemes) for u in made) == text
    assert [u.after for u in made[:-1]] == ["nothing"] * (len(made) - 1)
    assert all("".join(u.phonemes).endswith(", ") for u in made[:-1])
    assert " ".join(u.text for u in made) == text


def test_a_word_of_ten_thousand_letters_is_cut_too():
    made = list(utterances("a" * 10_000, spell))
    assert "".join("".join(u.phonemes) for u in made) == "a" * 10_000


def test_a_paragraph_without_end_is_handed_to_the_phonemizer_in_parts():
    text = "Some words here. " * 5_000
    spans = list(paragraphs(text))
    assert all(b - a <= PARAGRAPH_LIMIT for a, b, _ in spans)
    assert "".join(text[a:b] for a, b, _ in spans) == text
    assert {after for *_, after in spans[:-1]} == {"sentence"}


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from(list("ab.,!? \n\"'")), max_size=300))
def test_whatever_the_text_places_never_go_back_and_phonemes_are_the_phonemizers(text):
    made = list(utterances(text, spell))
    ends = [u.end for u in made]
    assert ends == sorted(ends)
    assert all(e <= len(text) for e in ends)
    said = "".join("".join(u.phonemes) for u in made)
    whole = "".join("".join(s) for a, b, _ in paragraphs(text) for s in spell(text[a:b]) if any(map(str.isalnum, s)))
    assert said == whole
