"""What is mended, kept and left out of texts."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from studio.core.problems import BadRecipe
from studio.engines.data import cleaning
from tests.engines.data.bench import Bench, sentences

PROSE = (
    "The harbour lay quiet under the first snow of the year. Nobody had expected it so early, and the boats were still "
    "in the water, their ropes white and stiff.\n\nIn the afternoon the wind turned. “We should have gone on Monday,” "
    "said the captain, and nobody answered him."
)


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("cafÃ© au lait", "café au lait"),
        ("It doesnâ€™t matter", "It doesn’t matter"),
        ("ÐŸÑ€Ð¸Ð²ÐµÑ‚, Ð¼Ð¸Ñ€", "Привет, мир"),
        ("РџСЂРёРІРµС‚, РјРёСЂ РґСЂСѓР·СЊСЏ", "Привет, мир друзья"),
        ("cafe\u0301", "café"),
        ("Fish &amp; chips", "Fish & chips"),
        ("ﬁne", "fine"),
        ("你好，&amp; 世界！", "你好，& 世界！"),
    ],
)
def test_what_was_read_in_the_wrong_encoding_is_mended(broken: str, whole: str) -> None:
    assert cleaning.Mender()(broken) == whole


@pytest.mark.parametrize(
    "text",
    [
        PROSE, "“Typographic quotes” — and dashes…", "Él dijo: «¿Qué?» y se fue", "Привет «мир»…", "你好，世界！",
        "Größe: 5 × 3 m²", "voilà\u00a0! C’était là-bas", "AT&T and R&D", "x &lt; y in <b>bold</b>", "şŞğ İstanbul’da",
    ],
)  # fmt: skip
def test_what_is_sound_stays_as_it_is(text: str) -> None:
    assert cleaning.Mender()(text) == text


def test_most_lines_are_never_shown_to_the_slow_mender(monkeypatch: pytest.MonkeyPatch) -> None:
    mender = cleaning.Mender()
    seen: list[str] = []
    mender._mend = lambda line: seen.append(line) or line  # type: ignore[func-returns-value]
    mender(f"{PROSE}\nEin schöner Tag im Grünen — „wirklich“.\nПривет, как дела?\nbroken: cafÃ©\n")
    assert seen == ["broken: cafÃ©"]


def test_controls_and_loose_ends_go_and_the_rest_stays() -> None:
    text = "\ufeff\n\n  indented\x00\x07 \t\n\x1b[31mred\x1b[0m\r\nlast\u00a0 \n\n"
    assert cleaning.tidy(text) == "  indented\nred\nlast"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (PROSE, ""),
        ("Short line.", ""),
        ("\n".join(f"- point {at} of the list" for at in range(12)), "a list of points"),
        ("\n".join(["Home", "About us", "Products", "Contact", "Imprint", "Log in", "Sign up", "Help"] * 3), "a menu"),
        ("\n".join(f"https://example.org/a/{at} page {at}" for at in range(12)), "a list of links"),
        ("# a # b # c # d " * 8, "too many symbols"),
        ("12 34 56 | 78 90 — 11 word " * 8, "too few words with letters"),
        (f"Lorem ipsum dolor sit amet. {PROSE}", "a placeholder"),
        ("\n".join(f"The beginning of story number {at} is told here, and then it ends ..." for at in range(10)),
         "lines cut off"),
        ("\n".join(f"The rose is red, the violet blue {at},\nand honey sweet, and so are you." for at in range(8)), ""),
    ],
)  # fmt: skip
def test_boilerplate_is_told_from_prose(text: str, why: str) -> None:
    assert cleaning.boilerplate(text) == why


def test_lines_that_come_in_every_document_go_after_the_first_few() -> None:
    repeated = cleaning.Repeated(keep=3, bits=12)
    documents = [f"Posted on {at} May\nOwn text {chr(65 + at)}\nAll rights reserved." for at in range(10)]
    found = [repeated.without(document) for document in documents]
    assert found[:3] == documents[:3]
    assert found[3:] == [f"Own text {chr(65 + at)}" for at in range(3, 10)]
    assert repeated.lines == 14
    chorus = cleaning.Repeated(keep=3, bits=12)
    assert chorus.without("\n".join(["La la"] * 50 + ["end"])).count("La la") == 50, (
        "within one document they may repeat"
    )


def test_many_different_lines_are_not_taken_for_repeated_ones() -> None:
    repeated = cleaning.Repeated(keep=3, bits=10)  # far too small for so many, as it is for a large crawl
    letters = "abcdefghij"
    for at in range(3_000):
        name = "".join(letters[int(digit)] for digit in str(at))
        repeated.without(f"line {name} one\nline {name} two")
    assert repeated.lines < 60


def test_rows_in_other_languages_are_dropped_and_those_that_say_too_little_kept(tmp_path: Path) -> None:
    german = "Der Hund läuft durch den Garten und bellt die Katze an, die auf dem Baum sitzt."
    french = "Le chien court dans le jardin et aboie après le chat qui est assis sur l’arbre."
    path = tmp_path / "a.txt"
    path.write_text("\n".join([*sentences(3), german, french, "Hm?"]), encoding="utf-8")
    bench = Bench(tmp_path / "home")
    made = bench.make(path, split_text="line", languages=("en", "de-AT"), valid=0)
    assert bench.texts(made) == [*sentences(3), german, "Hm?"]
    assert made.dropped == {"in another language (fr)": 1}
    assert made.languages == {"en": 3, "de": 1}
    with pytest.raises(BadRecipe, match="“klingon” is not known"):
        bench.make(path, languages=("klingon",))


def test_rows_that_are_too_short_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("One.\nA longer line.\n", encoding="utf-8")
    bench = Bench(tmp_path / "home")
    made = bench.make(path, split_text="line", shortest=8)
    assert (bench.texts(made), made.dropped) == (["A longer line."], {"too short": 1})


def test_boilerplate_is_left_out_of_a_data_set_where_that_is_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for at, text in enumerate(sentences(12)):
        (folder / f"{at:02}.txt").write_text(f"{text}\nSubscribe to our letter!", encoding="utf-8")
    (folder / "menu.txt").write_text("\n".join(f"Item {chr(65 + at)} more" for at in range(20)), encoding="utf-8")
    bench = Bench(tmp_path / "home")
    made = bench.make(folder, boilerplate=True)
    assert sum("Subscribe" in text for text in bench.texts(made)) == 5
    assert made.dropped == {"boilerplate: a menu": 1}
    assert any("7 lines came again and again" in note for note in made.notes)


def test_lines_of_entities_are_mended_as_ftfy_mends_them() -> None:
    import ftfy

    config = ftfy.TextFixerConfig(uncurl_quotes=False, fix_character_width=False, normalization="NFC")
    lines = [
        "a &amp; b", "it&#39;s &ldquo;so&rdquo;", "&amp;amp;lt; twice", "caf&eacute;&nbsp;au lait", "&amp;eacute; &x;",
        "a &lt;b&gt; c", "<b>bold</b> &amp; more", "&Atilde;&copy; spoilt", "schÃ¶n &amp; gut", "&#7;bell&#27;[31mred",
        "tab\tand &amp;", "&#xD800;", "\ufeffmark &amp;", "e\u0301 &amp;", "&hellip; &uuml;ber", "a&#10;b &amp; c",
        "&NTILDE;andu &EACUTE;", "\u206aodd &amp;", "x &amp; &#150; dash", "ﬁne &amp; ﬂat",
    ]  # fmt: skip
    mend = cleaning._mender()
    for line in lines:
        ours, theirs = (unicodedata.normalize("NFC", each) for each in (mend(line), ftfy.fix_text(line, config)))
        assert ours == theirs, line
