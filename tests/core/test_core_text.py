"""Cleaning text, showing it on one line, and making file names of it."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from studio.core.text import clean, file_stem, shown

# all characters, halves of surrogate pairs included
TEXT = st.text(st.characters())
WILD = st.lists(
    TEXT | st.sampled_from(["\x1b[31m", "\x1b]0;t\x07", "\ud83d", "\ude00", "\r\n", "\r", "\x00", "\u202e", "❤️", "a"])
).map("".join)

DEVICES = {"con", "prn", "aux", "nul", *(f"{p}{n}" for p in ("com", "lpt") for n in "123456789¹²³")}


@settings(max_examples=500)
@given(WILD)
@example("\ud83d\ude00")
@example("\ufeff\ud800")
@example("\x1b\x1b[31m[32m")
def test_cleaned_text_can_be_encoded_and_holds_no_controls(text: str):
    cleaned, notes = clean(text)
    cleaned.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", cleaned)
    assert clean(cleaned) == (cleaned, ())
    # tabs and line ends are the only controls that stay
    assert {c for c in cleaned if unicodedata.category(c) == "Cc"} <= {"\n", "\t"}
    assert len(notes) == len(set(notes))


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=200))
def test_text_without_controls_stays_exactly_as_it_is(text: str):
    assert clean(text) == (text, ())


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a\r\nb\rc\n", "a\nb\nc\n"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;window title\x07x", "x"),
        ("\x1b]8;;http://evil.example\x1b\\link", "link"),
        ("a\x00b", "ab"),
        ("\ud83d\ude00", "😀"),
        ("x\ud800y", "x\ufffdy"),
        ("\ufeffbom", "\ufeffbom"),
        ("👩‍👩‍👧 \u202eabc", "👩‍👩‍👧 \u202eabc"),
        ("a" + "\u0301" * 10_000, "a" + "\u0301" * 10_000),
    ],
)
def test_only_what_does_harm_goes(given: str, kept: str):
    assert clean(given)[0] == kept


def test_removed_controls_are_counted():
    assert clean("\x00\x07\x1b[31m")[1] == ("3 control characters were removed",)


@settings(max_examples=500)
@given(WILD, st.integers(1, 100))
def test_what_is_shown_is_one_printable_line_within_its_limit(text: str, limit: int):
    line = shown(text, limit)
    assert len(line) <= limit
    assert line.isprintable()
    line.encode("utf-8")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("one\n two\t three ", "one two three"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\ud800", "\\ud800"),
        ("x" * 61, "x" * 59 + "…"),
        ("x" * 60, "x" * 60),
        ("a" + " " * 1000 + "b", "a…"),
        ("a" + " " * 1000, "a"),
        ("<b>&amp;", "<b>&amp;"),
    ],
)
def test_what_could_disturb_a_label_is_escaped_and_a_cut_is_marked(given: str, line: str):
    assert shown(given) == line


@settings(max_examples=1000)
@given(WILD | st.sampled_from(sorted(DEVICES)).map(str.upper), st.integers(16, 200))
@example("COM¹", 48)
@example("❤️" * 64, 48)
@example("İ" * 100, 47)
@example("x" * 47 + "-y", 48)
def test_a_file_stem_is_portable_and_within_its_bytes(text: str, limit: int):
    stem = file_stem(text, limit)
    assert 1 <= len(stem.encode("utf-8")) <= limit
    assert stem == file_stem(text, limit)
    assert stem not in DEVICES
    assert not re.search(r'[<>:"/\\|?*\s.\x00-\x1f\x7f]', stem)
    assert stem[0] != "-"
    assert stem[-1] != "-"
    assert "--" not in stem
    # no marks without a letter, no controls, no directions
    assert unicodedata.category(stem[0])[0] in "LN"
    assert all(unicodedata.category(c)[0] in "LMN" or c == "-" for c in stem)


@pytest.mark.parametrize(
    ("given", "stem"),
    [
        ("../x", "x"),
        ("../../etc/passwd", "etc-passwd"),
        ("/etc/passwd", "etc-passwd"),
        ("C:\\Windows\\x", "c-windows-x"),
        ("CON", "untitled-con"),
        ("con ", "untitled-con"),
        ("aux.txt", "aux-txt"),
        ("LPT9", "untitled-lpt9"),
        ("COM¹", "untitled-com¹"),
        ("console", "console"),
        ("x" * 300, "x" * 48),
        ("é" * 300, "é" * 24),
        ("e\u0301" * 300, "é" * 24),
        ("💥" * 64, "untitled"),
        ("❤️" * 64, "untitled"),
        ("a\nb", "a-b"),
        ("-rf", "rf"),
        ("--", "untitled"),
        ("name.", "name"),
        ("name. . .", "name"),
        ("\u202egpj.exe", "gpj-exe"),
        ("a\u202eb", "a-b"),
        ("a\u200bb", "a-b"),
        ("nul\0", "untitled-nul"),
        ("", "untitled"),
        ("   ", "untitled"),
        ("\ud800", "untitled"),
        ("a:b|c?d*e", "a-b-c-d-e"),
        ("कमल हिन्दी", "कमल-हिन्दी"),
        ("தமிழ்", "தமிழ்"),
        ("ภาษาไทย", "ภาษาไทย"),
        ("日本語の名前", "日本語の名前"),
        ("Ein Zügli", "ein-zügli"),
    ],
)
def test_nasty_names_become_harmless_ones(given: str, stem: str):
    assert file_stem(given) == stem
