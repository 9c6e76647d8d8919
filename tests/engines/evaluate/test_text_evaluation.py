"""The engine that measures texts and language models, as a worker calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sacrebleu
import torch

from studio.core.cards import ModelCard
from studio.core.events import Event, Progress
from studio.core.learning import Report, WordGroup
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, NotRead, StudioError
from studio.core.recipes import check
from studio.engines.context import JobCancelled
from studio.engines.evaluate import bias, perplexity, toxicity
from studio.engines.evaluate.folder import FolderReader
from studio.engines.evaluate.material import FILE_LIMIT, read_lines, task_of
from studio.engines.evaluate.text import EvaluateText
from tests.engines.evaluate.surroundings import Job, chat, dataset, folder_card, gguf_card, value
from tests.engines.text import tiny_gguf, tiny_models

torch.set_num_threads(1)
GROUPS = [{"name": "women", "words": "she, woman, girl"}, {"name": "men", "words": "he, man, boy"}]
STORIES = [{"text": tiny_models.TEXT[i : i + 160]} for i in (0, 90, 200, 300)]
CHATS = [chat("Who counts?", "A cat counts."), chat("What does she count?", "Boats, every morning."), chat("Why?", "")]


def recipe(**given: Any) -> Any:
    return check("evaluate-text", {"seed": 3, "resamples": 100, "max_tokens": 8, "title": "T", **given}).recipe


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelCard, ModelCard, ModelCard]:
    at = tmp_path_factory.mktemp("models")
    return (
        folder_card(tiny_models.model(at / "one", "llama", chat=tiny_models.CHAT), "One"),
        folder_card(tiny_models.model(at / "two", "gpt2", seed=8), "Two"),
        gguf_card(tiny_gguf.write(at / "three.gguf")),
    )


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EvaluateText]:
    made = EvaluateText()
    made.load(ModelCard(id="evaluate-text", name="", kind="evaluate-text", engine="evaluate.text", path="", format=""),
              Plan(device="cpu", threads=1), Job(tmp_path / "load").ctx)  # fmt: skip
    yield made
    made.unload()


def written(folder: Path, name: str, lines: list[str]) -> str:
    (folder / name).write_text("\n".join(lines) + "\n", "utf-8")
    return str(folder / name)


OURS = ["The cat sat on the mat.", "", "You are an idiot.", "It rained all day and all night."]
THEIRS = ["A cat was sitting on the mat.", "Nothing.", "You are mistaken.", "It rained the whole day and night."]


def test_a_file_of_texts_is_measured_against_its_references(engine: EvaluateText, tmp_path: Path) -> None:
    job = Job(tmp_path)
    asked = recipe(candidates=written(tmp_path, "ours.txt", OURS), references=[written(tmp_path, "ref.txt", THEIRS)])
    result = engine.run(asked, job.ctx)
    report = job.report(result)
    assert value(report, "BLEU") == pytest.approx(sacrebleu.corpus_bleu(OURS, [THEIRS]).score)
    assert value(report, "Texts with listed words", "ours.txt") == 25.0
    assert value(report, "Texts with listed words", "References") == 0.0
    assert {m.name for m in report.measures} >= {"chrF", "ROUGE-Lsum", "METEOR", "Distinct-2", "Self-BLEU"}
    assert all(m.low is not None and m.high is not None and m.low <= m.value <= m.high for m in report.measures)
    assert report.data == "ours.txt" and len(report.data_sha256) == 64 and report.seeds == (3,)
    assert {"python", "studio", "sacrebleu", "nltk"} <= set(report.versions)
    assert report.tables["Listed words in ours.txt"][1:] == [["3", "idiot"]]
    assert report.tables["What was measured"][1] == [OURS[0], THEIRS[0]]
    (master,) = result.artifacts
    assert master.meta["figures"]["BLEU · ours.txt"]["value"] == value(report, "BLEU")
    assert master.seed == 3 and master.seconds > 0
    assert result.made_with.engine == "evaluate.text"


def test_models_of_all_kinds_are_measured_on_the_same_chats(
    engine: EvaluateText, tmp_path: Path, models: tuple[ModelCard, ModelCard, ModelCard]
) -> None:  # fmt: skip
    data = dataset(tmp_path / "chats", CHATS)
    job = Job(tmp_path, data, *models)
    asked = recipe(models=[m.id for m in models], data="chats", groups=GROUPS, window=128)
    report = job.report(engine.run(asked, job.ctx))
    for name in ("One", "Two", "three"):
        assert value(report, "Perplexity", name) > 1
        assert value(report, "Bits per byte", name) > 0
        assert value(report, "Lean of topics", name) > 0
    head, *rows = report.tables["What was written"]
    assert head == ["Prompt", "Reference", "One", "Two", "three"]
    assert [row[:2] for row in rows] == [
        ["Who counts?", "A cat counts."],
        ["What does she count?", "Boats, every morning."],
    ]
    assert all(row[2] for row in rows)
    assert report.notes == ("1 of 3 rows are too short to go on from.",)
    differences = report.tables["Differences, paired by row"]
    assert ["Perplexity", "One", "Two"] in [row[:3] for row in differences]
    assert all(row[1] != row[2] for row in differences)
    assert set(report.plots["Bits per byte of each row"][0].values) == {"One", "Two", "three"}
    assert report.data == "chats: test rows" and report.data_sha256 == "d" * 64
    progress = [e for e in job.events if isinstance(e, Progress)]
    assert [e.done for e in progress] == sorted(e.done for e in progress)
    assert progress[-1].done <= progress[-1].total


def test_the_loss_on_chats_is_that_of_all_answers_and_of_nothing_else(
    engine: EvaluateText, tmp_path: Path, models: tuple[ModelCard, ...]
) -> None:  # fmt: skip
    turns = chat("Who?", "A cat.")["messages"] + chat("And what?", "Boats.")["messages"]
    data = dataset(tmp_path / "chats", [{"messages": turns}])
    job = Job(tmp_path, data, models[0])
    asked = recipe(models=[models[0].id], data="chats", measures=["perplexity"])
    report = job.report(engine.run(asked, job.ctx))
    reader = FolderReader(Path(models[0].path), "One", "cpu", 1)
    try:
        from studio.core.recipes import Message

        said = [Message(**turn) for turn in turns]
        nats, count = 0.0, 0
        for i in (1, 3):
            before, own = [*reader.begin, *reader.chat(said[:i])[0]], reader.tokens(said[i].content)
            nats -= float(reader.logprobs([*before, *own], lambda: None)[-len(own) :].sum())
            count += len(own)
    finally:
        reader.close()
    assert value(report, "Loss") == pytest.approx(nats / count, rel=1e-5)
    assert [m.low for m in report.measures] == [None] * 4, "one row tells nothing of the spread"


def test_of_texts_a_model_writes_the_second_half(
    engine: EvaluateText, tmp_path: Path, models: tuple[ModelCard, ...]
) -> None:  # fmt: skip
    job = Job(tmp_path, dataset(tmp_path / "tales", STORIES, "valid"), models[1])
    asked = recipe(models=[models[1].id], data="tales", measures=["chrf", "perplexity"], rows=2)
    report = job.report(engine.run(asked, job.ctx))
    assert {m.name for m in report.measures} == {"chrF", "Perplexity", "Bits per byte", "Bits per character", "Loss"}
    assert report.data == "tales: validation rows"
    (_, first, second) = report.tables["What was written"]
    prompt, reference = first[0], first[1]
    assert STORIES[0]["text"].startswith(prompt) and reference in STORIES[0]["text"][len(prompt) :]
    assert len(reference.split()) <= 6 and second[0] != first[0]


def test_a_long_text_is_cut_at_a_word_and_a_short_one_is_left_out() -> None:
    from studio.engines.evaluate.material import Row

    task = task_of(Row(text="one two\nthree  four five six seven eight"), 10)
    assert task is not None and (task.beginning, task.reference) == ("one two\nthree  four", "five six seven eight")
    assert task_of(Row(text="too short"), 10) is None


def without_date(report: Report) -> Report:
    return msgspec.structs.replace(report, created="")


def test_the_same_seed_gives_the_same_report(
    engine: EvaluateText, tmp_path: Path, models: tuple[ModelCard, ...]
) -> None:  # fmt: skip
    data = dataset(tmp_path / "tales", STORIES)
    reports = []
    for i, seed in enumerate((3, 3, 4)):
        job = Job(tmp_path / str(i), data, models[2])
        asked = recipe(models=[models[2].id], data="tales", seed=seed, groups=GROUPS)
        reports.append(without_date(job.report(engine.run(asked, job.ctx))))
    assert reports[0] == reports[1]
    assert reports[2].measures != reports[0].measures
    assert [m.value for m in reports[2].measures] == [m.value for m in reports[0].measures], "only the bounds move"


def test_a_cancel_is_heard_within_one_row_and_leaves_nothing(
    engine: EvaluateText, tmp_path: Path, models: tuple[ModelCard, ...]
) -> None:  # fmt: skip
    def stop(event: Event) -> None:
        if isinstance(event, Progress) and event.done == 3:
            job.cancelled.set()

    job = Job(tmp_path, dataset(tmp_path / "tales", STORIES), models[2], on_event=stop)
    with pytest.raises(JobCancelled):
        engine.run(recipe(models=[models[2].id], data="tales"), job.ctx)
    assert [e.done for e in job.events if isinstance(e, Progress)] == [1, 2, 3]
    assert list(job.out.iterdir()) == []
    job = Job(tmp_path / "again", dataset(tmp_path / "tales", STORIES), models[2])
    engine.run(recipe(models=[models[2].id], data="tales", measures=["perplexity"]), job.ctx)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "models"),
        ({"models": ["one"], "measures": ["perplexity"]}, "measures"),
        ({"candidates": "HERE/ours.txt", "measures": ["bleu"]}, "measures"),
        ({"candidates": "HERE/ours.txt", "measures": ["bias"]}, "measures"),
        ({"candidates": "HERE/gone.txt"}, "candidates"),
        ({"candidates": "HERE"}, "candidates"),
        ({"candidates": "HERE/latin.txt"}, "candidates"),
        ({"candidates": "HERE/empty.txt"}, "candidates"),
        ({"candidates": "HERE/nul.txt"}, "candidates"),
        ({"candidates": "HERE/long.txt"}, "candidates"),
        ({"candidates": "HERE/ours.txt", "references": ["HERE/short.txt"]}, "references"),
        ({"references": ["HERE/ours.txt"]}, "candidates"),
        ({"models": ["one"], "groups": [{"name": "a", "words": "xyzzy"}, {"name": "b", "words": "plugh"}]}, "groups"),
        ({"data": "none"}, "data"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_missing_or_wrong_is_one_sentence_beside_its_field(
    engine: EvaluateText, tmp_path: Path, models: tuple[ModelCard, ...], given: dict[str, Any], field: str
) -> None:  # fmt: skip
    written(tmp_path, "ours.txt", OURS)
    written(tmp_path, "short.txt", OURS[:2])
    (tmp_path / "latin.txt").write_bytes("Müller\n".encode("latin-1"))
    (tmp_path / "empty.txt").write_bytes(b"\n\n")
    (tmp_path / "nul.txt").write_bytes(b"PK\x03\x04\0\0")
    (tmp_path / "long.txt").write_bytes(b"x" * 1_100_000)
    (tmp_path / "none").mkdir()
    none = ModelCard(id="none", name="none", kind="dataset", engine="", path=str(tmp_path / "none"), format="text")
    job = Job(tmp_path, none, models[0])
    here = msgspec.json.decode(msgspec.json.encode(given).replace(b"HERE", str(tmp_path).encode()))
    with pytest.raises(BadRecipe) as caught:
        engine.run(recipe(**here), job.ctx)
    problem = caught.value.problem
    assert problem.field == field
    assert problem.sentence.endswith(".") and "\n" not in problem.sentence and len(problem.sentence) < 160


def test_a_damaged_data_set_is_a_sentence(engine: EvaluateText, tmp_path: Path) -> None:
    data = dataset(tmp_path / "bad", [{"text": "x"}])
    (tmp_path / "bad" / "test.jsonl").write_bytes(b'{"text": "half')
    with pytest.raises(NotRead):
        engine.run(recipe(data="bad"), Job(tmp_path, data).ctx)


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "big.txt", "wb") as stream:
        stream.truncate(FILE_LIMIT + 1)
    with pytest.raises(StudioError, match="MB"):
        read_lines(tmp_path / "big.txt", "candidates", lambda: None)


# -- bias and listed words


def groups(*words: str) -> tuple[WordGroup, WordGroup]:
    return WordGroup("a", words[0]), WordGroup("b", words[1])


def test_words_are_swapped_whole_and_as_large_as_they_stand() -> None:
    swap = bias.Swap(*groups("she, her, woman", "he, his, man"))
    assert swap.swapped("She told HER woman; sheep stay.") == "He told HIS man; sheep stay."
    assert bias.Swap(*groups("", "")).swapped("She") == "She"


def test_sentences_are_filled_with_every_word_of_their_list() -> None:
    found = bias.sentences(["job: nurse, engineer", "She is a {job}.", "Plain {other}."])
    assert found == [("She is a nurse.", "nurse", 1), ("She is an engineer.", "engineer", 1), ("Plain {other}.", "", 2)]


def test_the_lean_of_a_topic_is_what_is_left_when_the_words_themselves_are_taken_off() -> None:
    every = [bias.Pair("", "", topic, template) for template in (0, 1) for topic in ("x", "y")]
    import numpy as np

    lean = bias.lean(np.array([5.0, 3.0, -1.0, -3.0]), every)  # one sentence likes the first group, the other does not
    assert lean == {"x": 1.0, "y": -1.0}


def test_a_model_that_treats_both_alike_has_no_gap(
    engine: EvaluateText, tmp_path: Path, models: tuple[ModelCard, ...], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(
        perplexity, "of_text", lambda reader, text, window, check: perplexity.Surprise(5.0, 3, len(text), len(text))
    )
    job = Job(tmp_path, models[2])
    report = job.report(engine.run(recipe(models=[models[2].id], groups=GROUPS, measures=["bias"]), job.ctx))
    assert value(report, "Likelier with women") == 50.0
    assert value(report, "Likelihood gap") == 0.0 and value(report, "Lean of topics") == 0.0


@pytest.mark.parametrize(
    ("listed", "text", "found"),
    [
        (["fool"], "Fools and a FOOL; foolish.", ["FOOL"]),
        (["idiot*"], "Idiots, idiotic!", ["Idiots", "idiotic"]),
        (["go  to hell"], "go to\nhell", ["go to\nhell"]),
        (["a.b"], "axb a.b", ["a.b"]),
        ([], "anything", []),
    ],
)
def test_listed_words_are_whole_and_in_any_case(listed: list[str], text: str, found: list[str]) -> None:
    assert toxicity.Words(listed).found(text) == found


def test_shares_are_of_texts_and_of_a_thousand_words() -> None:
    share, rate = toxicity.counted(["you fool, fool", "a nice day here", "", "fine"], toxicity.given("fool, dolt"))
    whole: Callable[[Any], float] = lambda c: float(c.metric(c.stats.sum(axis=0, keepdims=True))[0])  # noqa: E731
    assert whole(share) == 25.0 and whole(rate) == pytest.approx(1000 * 2 / 8)


def test_the_shipped_lists_are_whole() -> None:
    assert toxicity.given("").count > 50
    assert toxicity.Tone().of("She is clever and kind.") == 1.0 and toxicity.Tone().of("He is lazy.") == -1.0
    first, second = groups("she, woman, girl, sister, her", "he, man, boy, brother, his")
    pairs = bias.pairs(first, second)
    assert len(pairs) > 60 and all(pair.first != pair.second for pair in pairs)
    assert all("{" not in pair.first for pair in pairs)
