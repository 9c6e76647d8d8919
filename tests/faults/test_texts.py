"""Section B of docs/faults.md: texts that people, models and files hand in, from the command to the disk and back."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.core.events import Cancelled, Finished, Token
from studio.core.paths import Paths
from studio.core.problems import StudioError
from studio.core.recipes import PROMPT_LIMIT, TextRecipe
from tests.faults.tools import Trio, fake_studio, on_a_terminal, told_by

CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")  # but tab and line ends

# Python's formats, printf's, shells', Jinja's: read as templates, some would fail and some would tell secrets.
TEMPLATES = [
    "{0.__class__.__init__.__globals__}", "{x!r}", "{", "}{", "{{7*7}}", "%s %n %d", "%(home)s", "${HOME} $(id) `id`",
    "{% for x in y %}", "\\N{BULLET} \\x41 \\0",
]  # fmt: skip


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    """One for all: every test leaves it able to work, which the next one shows."""
    with Trio(Paths(tmp_path_factory.mktemp("studio") / "home")) as made:
        yield made


def kept(session: Trio, words: str) -> tuple[str, tuple[str, ...]]:
    """The prompt as the library has it, in the database and in the sidecar, and the notes of the work."""
    end = session.make("text", words)
    assert isinstance(end, Finished)
    work = session.work(end.works[0].id)
    sidecar = json.loads(session.files(work)[-1].read_bytes())
    assert isinstance(work.recipe, TextRecipe)
    assert sidecar["work"]["recipe"]["prompt"] == work.recipe.prompt
    assert session.job(end.job).recipe.prompt == work.recipe.prompt  # type: ignore[union-attr]
    return work.recipe.prompt, end.notes


def test_controls_escapes_and_halves_of_characters_are_taken_out_and_counted(session: Trio) -> None:
    prompt, notes = kept(session, "save \x00a\x07b\x1b[31mc\x1b]0;title\x07d\x85e\r\nf\ud800g")
    assert prompt == "save abcde\nf\ufffdg"
    assert "5 control characters were removed" in notes and "broken characters were replaced" in notes


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("save \u202egpj.exe \u2066\u200f", id="right to left"),
        pytest.param("save 👩‍👩‍👧‍👦 🏳️‍🌈 ❤️", id="emoji"),
        pytest.param("save a" + "\u0301" * 10_000, id="ten thousand marks"),
        pytest.param("save \ufeff\u200b\u2028\u00a0 \U0010ffff \ufffe", id="odd signs"),
        pytest.param("save <b>x</b> <img src='file:///etc/passwd'> &amp; [INST] <|im_end|> </s>", id="markup"),
        pytest.param("save '); drop table works; --", id="sql"),
        *(pytest.param("save " + text, id=f"template {n}") for n, text in enumerate(TEMPLATES)),
    ],
)
def test_every_other_text_is_kept_letter_by_letter(session: Trio, words: str) -> None:
    assert kept(session, words.replace(";", ",")) == (words.replace(";", ","), ())


def test_what_a_prompt_holds_never_drives_the_terminal_that_lists_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    prompt = "save \u202egpj.exe \u0085 \u2028 <b> {0.__class__} %s"
    with Trio(Paths(home)) as session:
        assert isinstance(session.make("text", prompt), Finished)
    for words in (["works"], ["jobs", "--json"]):
        done = fake_studio(home, *words)
        assert done.returncode == 0 and b"gpj.exe" in done.stdout
        assert not CONTROLS.search(done.stdout + done.stderr), done.stdout
        assert "\u202e" not in done.stdout.decode() or "--json" in words


def test_what_a_model_says_never_drives_the_terminal_and_is_kept_as_it_was_said(tmp_path: Path) -> None:
    home = tmp_path / "home"
    # an escape in one token and one split between two: a colour, a window title, a bell
    said = b"\x1b[31mred\x1b]0;owned\x07\xc2\x9b2J"
    drawn = on_a_terminal(
        home, "text", f"emit 1b5b33316d726564; emit 1b; emit 5d303b6f776e656407c29b324a; leave {said.hex()}"
    )
    text = re.sub(rb"\r\x1b\[2K", b"", drawn)  # what the studio itself draws its line of progress with
    assert b"red" in text and b"owned" in text and not CONTROLS.search(text), text
    with Trio(Paths(home)) as session:
        assert session.path(session.works()[0]).read_bytes() == said


def test_a_model_without_an_end_is_stopped_at_once_and_what_it_wrote_is_kept(session: Trio) -> None:
    job = session.do("repeat la")
    session.until_said(job)
    time.sleep(0.5)
    session.cancel(job)
    end = session.end(job)
    assert isinstance(end, Cancelled)
    said = "".join(e.text for e in session.events if isinstance(e, Token) and e.job == job)
    (work,) = end.works
    assert not work.complete and session.path(work).read_text() == said and said.startswith("la la la")
    session.events.clear()


def test_half_a_character_that_an_engine_says_costs_its_own_job_and_not_the_worker(session: Trio) -> None:
    session.work_of("text")
    pid = session.lanes_of["text"].pid
    end = session.make("text", "say before; emit eda080; save x")
    assert end.works and session.path(end.works[0]).read_text().startswith(("before", "x"))
    assert isinstance(session.make("text", "save next"), Finished) and session.lanes_of["text"].pid == pid


def test_the_longest_prompt_goes_through_queue_worker_and_library_and_a_longer_one_is_refused(session: Trio) -> None:
    words = "save " + "wörd " * ((PROMPT_LIMIT - 6) // 5)
    words += "." * (PROMPT_LIMIT - len(words))
    prompt, notes = kept(session, words)
    assert prompt == words and notes == ()
    work = session.works(search="wörd")[0]
    assert len(session.path(work).name.encode()) <= 100 and len(work.title) <= 80
    with pytest.raises(StudioError) as refused:
        session.make("text", words + ".")
    assert f"{PROMPT_LIMIT:,}" in refused.value.problem.sentence and f"{PROMPT_LIMIT + 1:,}" in str(refused.value)


def test_an_empty_or_blank_prompt_is_refused_in_a_sentence_and_emoji_alone_are_a_prompt(session: Trio) -> None:
    for words in ("", " ", "\n\t ", "\x00\x07", "\u00a0"):
        with pytest.raises(StudioError) as refused:
            session.make("text", words)
        assert refused.value.problem.code == "bad_recipe" and refused.value.problem.field == "prompt", repr(words)
    assert isinstance(session.make("text", "🙂"), Finished)


@pytest.mark.parametrize("name", [*TEMPLATES, "\x1b[31m", "<b>x</b>", "\u202egpj", "n" * 5000, "a\nb"])
def test_names_in_sentences_are_shown_and_never_read_as_templates(session: Trio, name: str) -> None:
    for ask in (session.work, session.job, lambda n: session.export("w-none", Path("/") / n)):
        with pytest.raises(StudioError) as refused:
            ask(name)
        sentence = refused.value.problem.sentence
        assert len(sentence) < 400 and sentence.endswith("."), sentence
        assert "globals" not in sentence or "__globals__" in name


def test_a_model_name_in_a_sentence_is_shown_as_it_was_typed(tmp_path: Path) -> None:
    program = """
from studio.app.session import Session
said = []
with Session(Paths(Path(sys.argv[1]))) as session:
    for name in sys.argv[2:]:
        try:
            session.recipe("text", {"prompt": "x", "model": name})
        except StudioError as error:
            said.append(error.problem.sentence)
tell(said)
"""
    names = ["{0.__class__}", "%s", "${HOME}", "<b>x</b>", "\x1b[31mred", "-rf"]
    said = told_by(program, tmp_path / "home", *names)
    assert len(said) == len(names)
    for name, sentence in zip(names, said, strict=True):
        assert (name if "\x1b" not in name else "red") in sentence and "\x1b" not in sentence, sentence


def test_signs_of_the_database_in_a_search_are_letters(session: Trio) -> None:
    for sign in ("%", "_", "*", '"', "'", "\\", "?"):
        work = session.work_of("text", f"save a{sign}b")
        assert [w.id for w in session.works(search=f"a{sign}b")] == [work.id], sign
