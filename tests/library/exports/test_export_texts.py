"""Exported texts: the words alone, and as a Markdown page."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.core.problems import LibraryBroken
from studio.library.exports.md import _escaped, _quoted
from tests.library.exports.helpers_export import Job

SCRIPTS = {
    "Latin": "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "Greek": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "Arabic": "نص حكيم له سر قاطع وذو شأن عظيم",
    "Hindi": "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण",
    "Japanese": "いろはにほへと ちりぬるを",
    "emoji": "👩‍👩‍👧‍👦 ❤️ 🏳️‍🌈",
    "stacked marks": "a" + "\u0301" * 500,
    "line ends": "one\r\ntwo\rthree\n\n",
    "indented": "    code\n  more  ",
    "empty": "",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_txt_is_the_text_alone_byte_for_byte(job: Job, tmp_path: Path, out: Path, name: str):
    master = tmp_path / "m.txt"
    master.write_bytes(SCRIPTS[name].encode())
    job.export(master, "text", out / "x.txt", title="never in a txt", recipe={"prompt": "nor this"})
    assert (out / "x.txt").read_bytes() == SCRIPTS[name].encode()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_markdown_page_holds_the_text_unchanged(job: Job, tmp_path: Path, out: Path, name: str):
    (tmp_path / "m.txt").write_bytes(SCRIPTS[name].encode())
    job.export(tmp_path / "m.txt", "text", out / "x.md", recipe={"prompt": SCRIPTS[name]})
    assert SCRIPTS[name].strip("\n") in (out / "x.md").read_bytes().decode()


def test_a_markdown_page_has_heading_quote_text_and_small_print(job: Job, tmp_path: Path, out: Path):
    (tmp_path / "m.txt").write_text("It was **dark**.\n\n- and\n- stormy\n", encoding="utf-8")
    recipe = {"kind": "text", "prompt": "Tell me\na story", "model": "gemma3-270m", "seed": 42, "later": [1]}
    job.export(tmp_path / "m.txt", "text", out / "x.md", title="A story", recipe=recipe)
    page = (out / "x.md").read_text(encoding="utf-8")
    heading, quote, rest = page.split("\n\n", 2)
    assert heading == "# A story"
    assert quote == "> Tell me\\\n> a story"
    text, small = rest.split("\n\n---\n\n")
    assert text == "It was **dark**.\n\n- and\n- stormy"
    assert small.startswith("<sub>Model: gemma3-270m · seed: 42 · made with studio ")
    assert page.endswith("</sub>\n")


def test_a_work_without_prompt_title_or_seed_still_makes_a_page(job: Job, tmp_path: Path, out: Path):
    (tmp_path / "m.txt").write_text("words", encoding="utf-8")
    job.export(tmp_path / "m.txt", "text", out / "x.md", title="", recipe={"prompt": None, "seed": None, "model": 7})
    page = (out / "x.md").read_text(encoding="utf-8")
    assert page.startswith("words\n\n---\n\n<sub>made with studio ")


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("<img src=file:///etc/passwd>", "\\<img src=file:///etc/passwd\\>"),
        ("&lt; *bold* _it_ `code`", "\\&lt; \\*bold\\* \\_it\\_ \\`code\\`"),
        ("[a](b) ~x~ |t| \\ $y$", "\\[a\\](b) \\~x\\~ \\|t\\| \\\\ \\$y\\$"),
        ("# heading", "\\# heading"),
        ("- item", "\\- item"),
        ("1. item", "1\\. item"),
        ("2025 was", "2025 was"),
        ("===", "\\==="),
        ("well-known + more", "well-known + more"),
        ("    code", "\u00a0\u00a0\u00a0\u00a0code"),
    ],
)
def test_what_would_be_markup_in_a_title_or_prompt_is_escaped(given: str, written: str):
    assert _escaped(given) == written


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab <>&*_`[]#-+=1.)\n\t\\|~$é", max_size=60))
def test_every_line_of_a_prompt_stays_in_its_quote_and_no_tag_is_left(prompt: str):
    quoted = _quoted(prompt)
    assert all(line.startswith(">") for line in quoted.split("\n"))
    bare = quoted.replace("\\\\", "")
    assert bare.count("<") == bare.count("\\<")
    assert bare.count("*") == bare.count("\\*")


def test_a_title_with_line_ends_and_escapes_stays_one_heading(job: Job, tmp_path: Path, out: Path):
    (tmp_path / "m.txt").write_text("words", encoding="utf-8")
    job.export(tmp_path / "m.txt", "text", out / "x.md", title="one\n# two\x1b[31m\n\n> three")
    assert (out / "x.md").read_text(encoding="utf-8").split("\n")[0] == "# one # two \\> three"


@pytest.mark.parametrize("extension", ["txt", "md"])
def test_a_text_that_is_not_utf_8_is_called_damaged(job: Job, tmp_path: Path, out: Path, extension: str):
    (tmp_path / "m.txt").write_bytes(b"caf\xe9")
    with pytest.raises(LibraryBroken, match="text is damaged"):
        job.export(tmp_path / "m.txt", "text", out / f"x.{extension}")
    assert list(out.iterdir()) == []
