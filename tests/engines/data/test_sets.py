"""Data sets as they are made: the same of the same sources, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from studio.core.cards import ModelCard
from studio.core.events import Progress
from studio.core.problems import BadRecipe, NotRead, NotSaved
from studio.engines.context import JobCancelled
from studio.engines.data import keeping, previews
from tests.engines.data.bench import Bench, recipe, sentences


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "home")


def lines(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_data_set_is_its_rows_their_checksums_and_what_became_of_the_others(bench: Bench, tmp_path: Path) -> None:
    texts = sentences(200)
    source = lines(tmp_path / "tales.jsonl", [*({"text": text} for text in texts), {"text": texts[3]}, {"text": " "}])
    made = bench.make(source, valid=0.1, test=0.1)
    assert sorted(bench.texts(made)) == sorted(texts)
    assert made.dropped == {"the same as another": 1, "empty": 1}
    assert (made.name, made.shape, made.id) == ("tales", "text", f"tales-{made.sha256[:12]}")
    assert made.sources == {str(source): hashlib.sha256(source.read_bytes()).hexdigest()}
    for part, split in made.splits.items():
        data = (bench.folder(made.id) / f"{part}.jsonl").read_bytes()
        assert split.sha256 == hashlib.sha256(data).hexdigest()
        assert (split.bytes, split.rows) == (len(data), data.count(b"\n"))
        assert split.words == sum(len(text.split()) for text in bench.texts(made, part))
    assert 8 <= made.splits["valid"].rows <= 35 and 8 <= made.splits["test"].rows <= 35
    assert sum(made.lengths.values()) == 200
    assert made.languages.get("en", 0) > 0
    assert {row["text"] for row in made.samples} <= set(texts)
    assert sorted(path.name for path in bench.paths.datasets.iterdir()) == [made.id]
    assert sorted(path.name for path in bench.folder(made.id).iterdir()) == [
        "dataset.json", "test.jsonl", "train.jsonl", "valid.jsonl",
    ]  # fmt: skip


def test_the_same_files_are_the_same_data_set_wherever_they_lie_and_however_they_are_listed(tmp_path: Path) -> None:
    made = []
    for place, order in (("one", 1), ("two", -1)):
        folder = tmp_path / place
        files = [lines(folder / f"{name}.jsonl", [{"text": text} for text in sentences(9, start=at)])
                 for at, name in ((0, "a"), (100, "b"), (200, "c"))]  # fmt: skip
        made.append(Bench(tmp_path / f"home-{place}").make(*files[::order], name="all", valid=0.3))
    whole = Bench(tmp_path / "home-3").make(tmp_path / "one", name="all", valid=0.3)
    assert made[0].id == made[1].id == whole.id
    assert made[0].sha256 == made[1].sha256
    assert Bench(tmp_path / "home-4").make(tmp_path / "one", name="all", valid=0.3, seed=7).sha256 != whole.sha256


def test_files_of_one_name_and_size_are_told_apart_by_their_content(tmp_path: Path) -> None:
    first = lines(tmp_path / "a" / "x.jsonl", [{"text": "one"}])
    second = lines(tmp_path / "b" / "x.jsonl", [{"text": "two"}])
    benches = [Bench(tmp_path / f"home-{at}") for at in range(3)]
    orders = ((first, second), (second, first), (first, second, first))
    found = [
        bench.texts(bench.make(*files, name="x", valid=0, duplicates="keep"))
        for bench, files in zip(benches, orders, strict=True)
    ]
    assert found[0] == found[1] == found[2], "in one order, and each once"
    assert sorted(found[0]) == ["one", "two"]


def test_a_data_set_that_is_there_is_not_made_twice_and_learns_of_other_groups(bench: Bench, tmp_path: Path) -> None:
    source = lines(tmp_path / "a.jsonl", [{"text": text} for text in sentences(5)])
    first = bench.make(source)
    before = (bench.folder(first.id) / "train.jsonl").stat()
    second = bench.make(source, groups=())
    assert (second.id, second.created) == (first.id, first.created)
    assert (first.balance != {}, second.balance) == (True, {})
    assert (bench.folder(first.id) / "train.jsonl").stat().st_ino == before.st_ino
    assert any("there already" in note for note in bench.notes)
    assert len(list(bench.paths.datasets.iterdir())) == 1


def test_a_row_is_in_the_same_part_whatever_else_is_in_the_data(bench: Bench, tmp_path: Path) -> None:
    few = bench.make(lines(tmp_path / "few.jsonl", sentences(60)), valid=0.3)
    more = bench.make(lines(tmp_path / "more.jsonl", [*sentences(300, start=500), *sentences(60)]), valid=0.3)
    small = bench.make(lines(tmp_path / "test.jsonl", sentences(60)), valid=0.3, test=0.2)
    assert set(bench.texts(few, "valid")) == set(bench.texts(more, "valid")) & set(sentences(60))
    assert len(bench.texts(few, "valid")) > 5
    assert set(bench.texts(small, "test")) & set(sentences(60)), "something is kept for the test"


def test_the_last_row_that_can_be_spared_is_kept_for_validation(bench: Bench, tmp_path: Path) -> None:
    made = bench.make(lines(tmp_path / "few.jsonl", sentences(4)), valid=0.001)
    assert (made.splits["train"].rows, made.splits["valid"].rows) == (3, 1)
    assert sorted(bench.texts(made)) == sorted(sentences(4))
    assert (
        made.splits["valid"].sha256 == hashlib.sha256((bench.folder(made.id) / "valid.jsonl").read_bytes()).hexdigest()
    )
    one = bench.make(lines(tmp_path / "one.jsonl", ["All there is."]), valid=0.001)
    assert (one.splits["train"].rows, one.splits["valid"].rows) == (1, 0)
    assert any("one row only" in note for note in one.notes)
    same = bench.make(lines(tmp_path / "same.jsonl", ["Alike."] * 5), valid=0.001, duplicates="keep")
    assert (same.splits["train"].rows, same.splits["valid"].rows) == (5, 0), "no row is in two parts"
    none = bench.make(lines(tmp_path / "none.jsonl", sentences(4)), valid=0)
    assert none.splits["valid"].rows == 0


def test_what_is_nearly_the_same_is_in_one_part_only(bench: Bench, tmp_path: Path) -> None:
    texts = []
    for text in sentences(60):
        long = " ".join([text, *sentences(1, start=1000 + len(texts))] * 4)
        texts += [long, long.replace("Text", "A text", 1), f"{long} The end."]
    near = bench.make(lines(tmp_path / "a.jsonl", texts), valid=0.3, duplicates="near")
    assert near.dropped["nearly the same as another"] == 120
    assert bench.texts(near) and {text.split(":")[0] for text in bench.texts(near)} == {f"Text {i}" for i in range(60)}
    exact = bench.make(lines(tmp_path / "a.jsonl", texts), valid=0.3)
    assert exact.splits["train"].rows + exact.splits["valid"].rows == 180


def test_counterparts_are_added_to_training_only_and_never_twice(bench: Bench, tmp_path: Path) -> None:
    texts = [f"She said that number {at} was good." for at in range(80)]
    texts += ["He said that number 3 was good.", "Nobody is named here."]
    made = bench.make(lines(tmp_path / "a.jsonl", texts), valid=0.3, augment=True)
    train, valid = bench.texts(made, "train"), bench.texts(made, "valid")
    everything = train + valid
    assert len(everything) == len(set(everything)), "no row comes twice"
    assert set(texts) <= set(everything), "what was there stays"
    there = set(texts)
    for text in train:
        if text.startswith("She") and text in there:
            assert f"He{text[3:]}" in train, "both are on one side"
    for text in valid:
        assert text in there, "nothing is added to what models are judged by"
    assert made.balance["ratio"] == 80
    assert made.balance["with_counterparts"]["ratio"] < 2
    assert bench.make(lines(tmp_path / "a.jsonl", texts), valid=0.3, augment=True).id == made.id


def test_rows_are_counted_in_tokens_of_a_model(bench: Bench, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = tmp_path / "model"
    folder.mkdir()
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "one": 1, "two": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="[UNK] $A", special_tokens=[("[UNK]", 0)])
    tokenizer.save(str(folder / "tokenizer.json"))
    bench.cards["m"] = ModelCard(id="m", name="M", kind="text", engine="", path=str(folder), format="transformers")
    source = lines(tmp_path / "a.jsonl", ["one two three.", "two"])
    made = bench.make(source, tokenizer="m", valid=0)
    assert (made.splits["train"].tokens, made.splits["train"].words) == (5, 4)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(Exception, match=r"no tokenizer\.json"):
        bench.make(source, tokenizer="m")


def test_it_ends_where_as_many_rows_as_wanted_are_there(bench: Bench, tmp_path: Path) -> None:
    source = lines(tmp_path / "a.jsonl", sentences(50))
    made = bench.make(source, most=12)
    assert sum(split.rows for split in made.splits.values()) == 12
    assert made.sources == {str(source): ""}, "it was not read to its end"


def test_pictures_are_kept_under_their_checksums_with_their_captions(bench: Bench, tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    for at in range(6):
        Image.new("RGB", (8, 8), (at * 40, 10, 10)).save(folder / f"{at}.png")
        (folder / f"{at}.txt").write_text(f"A red\n square, {at}. ", encoding="utf-8")
    shutil.copy(folder / "1.png", folder / "again.png")
    (folder / "again.txt").write_text("A red square, 1.", encoding="utf-8")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n of no use")
    (folder / "broken.txt").write_text("Nothing", encoding="utf-8")
    Image.new("RGB", (8, 8)).save(folder / "alone.jpg")
    made = bench.make(folder, valid=0.3)
    assert made.shape == "captions"
    rows = bench.rows(made)
    assert sorted(row["text"] for row in rows) == [f"A red square, {at}." for at in range(6)]
    for row in rows:
        data = (bench.folder(made.id) / row["image"]).read_bytes()
        assert row["image"] == f"images/{hashlib.sha256(data).hexdigest()[:32]}.png"
    assert len(list((bench.folder(made.id) / "images").iterdir())) == 6
    assert made.dropped == {
        "a picture that is damaged or none": 1, "a picture without a caption": 1, "the same as another": 1,
    }  # fmt: skip


def test_conversations_are_kept_as_messages_and_end_with_an_answer(bench: Bench, tmp_path: Path) -> None:
    rows = [
        {"conversations": [{"from": who, "value": text} for who, text in talk]}
        for talk in ([("human", "Hi"), ("gpt", "Hello."), ("human", "Bye")], [("human", "Alone")])
    ]
    made = bench.make(lines(tmp_path / "talk.jsonl", rows), valid=0)
    assert made.shape == "chat"
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    assert bench.rows(made) == [{"messages": said}]
    assert made.dropped == {"a conversation without a question and an answer": 1}
    swapped = bench.make(
        lines(tmp_path / "her.jsonl", [{"question": "Where is she?", "answer": "At home."}]), valid=0, augment=True
    )
    assert [row["messages"][0]["content"] for row in bench.rows(swapped)] == ["Where is she?", "Where is he?"]


def test_texts_that_are_long_are_cut_between_paragraphs(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("\n\n".join(sentences(400)), encoding="utf-8")
    made = bench.make(tmp_path / "book.txt", longest=2_000, valid=0)
    texts = bench.texts(made)
    assert max(map(len, texts)) <= 2_000
    assert "\n\n".join(texts) == "\n\n".join(sentences(400))


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def left(bench: Bench) -> list[str]:
    return [path.name for path in bench.paths.datasets.iterdir()] if bench.paths.datasets.exists() else []


def test_a_cancel_leaves_nothing_behind_wherever_it_comes(bench: Bench, tmp_path: Path) -> None:
    texts = [f"She has number {at}. {text}" for at, text in enumerate(sentences(300))]
    source = lines(tmp_path / "a.jsonl", texts)
    whole = bench.make(source, augment=True)
    for moment in range(2, 1200, 131):
        asked = 0

        class Stopping:
            def is_set(self) -> bool:
                nonlocal asked
                asked += 1
                return asked >= moment  # noqa: B023 - used within this turn

            def set(self) -> None: ...

        bench.cancelled = Stopping()  # type: ignore[assignment]
        with pytest.raises(JobCancelled):
            bench.make(source, augment=True, name="other")
        assert left(bench) == [whole.id]
        assert asked == moment, "it stops at once"
    bench.cancelled = threading.Event()
    assert bench.make(source, augment=True).id == whole.id


def test_what_a_killed_worker_left_goes_with_the_next_data_set(bench: Bench, tmp_path: Path) -> None:
    half = bench.paths.datasets / f"{keeping.MAKING}j0"
    half.mkdir(parents=True)
    (half / "train.jsonl").write_text("{}\n", encoding="utf-8")
    made = bench.make(lines(tmp_path / "a.jsonl", ["One."]))
    assert left(bench) == [made.id]


@pytest.mark.parametrize("where", ["rows", "description"])
def test_a_full_disk_is_a_sentence_and_nothing_is_left(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if where == "rows":
        monkeypatch.setattr(keeping.Part, "add", full)
    else:
        monkeypatch.setattr(keeping, "write_durably", full)
    with pytest.raises(NotSaved) as caught:
        bench.make(lines(tmp_path / "a.jsonl", ["One."]))
    assert "disk is full" in caught.value.problem.sentence
    assert left(bench) == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "The sources are empty: there is no row in them."),
        (b"{broken\n{broken\n", "None of the rows could be used."),
        (b"[]\n", "The sources are empty: there is no row in them."),
        (b"\x00\x01\x02\xff\xfe\x00" * 50, "holds no text that can be read"),
    ],
)
def test_files_without_a_row_are_a_sentence(bench: Bench, tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / ("x.bin" if content[:1] == b"\0" else "x.jsonl")
    path.write_bytes(content)
    with pytest.raises(NotRead) as caught:
        bench.make(path)
    assert sentence in caught.value.problem.sentence
    assert left(bench) == []


def test_a_bad_line_costs_only_itself(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "One."}\n{"text": \n{"other": 1}\n{"text": "Two."}\n', encoding="utf-8")
    made = bench.make(path, valid=0)
    assert bench.texts(made) == ["One.", "Two."]
    assert made.dropped == {"a line that is not JSON": 1, "a row without this column": 1}


def test_a_column_that_is_not_there_is_told_with_those_that_are(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe) as caught:
        bench.make(lines(tmp_path / "a.jsonl", [{"title": "x", "body": "y"}]), text="story")
    problem = caught.value.problem
    assert problem.sentence == "There is no column “story” in “a.jsonl”."
    assert "“title”, “body”" in problem.hint and problem.field == "text"


def test_one_file_of_a_folder_that_is_of_no_use_does_not_cost_the_others(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    lines(folder / "a.jsonl", [{"story": "One."}])
    (folder / "b.parquet").write_bytes(b"PAR1 damaged PAR1")
    lines(folder / "c.jsonl", [{"title": "x"}])
    made = bench.make(folder, text="story", valid=0)
    assert bench.texts(made) == ["One."]
    assert made.dropped == {"a file that could not be read, or not to its end": 2}
    assert any("“b.parquet” was left out: “b.parquet” is damaged" in note for note in made.notes)
    shown = previews.preview(recipe(folder, text="story"), lambda: None)
    assert (len(shown.rows), len([note for note in shown.notes if "is left out" in note])) == (1, 2)
    (folder / "a.jsonl").unlink()
    for attempt in (
        lambda: bench.make(folder, text="story"),
        lambda: previews.preview(recipe(folder, text="story"), int),
    ):
        with pytest.raises(NotRead, match="damaged"):
            attempt()
    with pytest.raises(BadRecipe, match="no column “story”"):
        bench.make(folder / "c.jsonl", text="story")


def test_progress_goes_by_bytes_never_back_and_to_its_end(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studio.engines.data.sets.TOLD_EVERY", 0.0)
    for name in ("a", "b"):
        lines(tmp_path / "in" / f"{name}.jsonl", [f"She {text}" for text in sentences(3000, start=ord(name) * 9999)])
    bench.make(tmp_path / "in", augment=True)
    told = [event for event in bench.events if isinstance(event, Progress)]
    assert len(told) > 5
    assert [event.done for event in told] == sorted(event.done for event in told)
    assert all(event.done <= event.total and event.unit == "MB" for event in told)
    assert told[-1].done == told[-1].total
    size = sum(path.stat().st_size for path in (tmp_path / "in").iterdir()) / 1e6
    assert max(event.done for event in told if event.phase == "reading") == pytest.approx(size, abs=0.02)
    assert {event.phase for event in told} >= {"reading", "counterparts", "checksums"}


def test_many_remarks_are_told_in_short(bench: Bench, tmp_path: Path) -> None:
    for at in range(40):
        lines(tmp_path / "in" / f"{at}.jsonl", [{"text": sentences(1, start=at)[0]}])
    made = bench.make(tmp_path / "in")
    assert len(made.notes) == 25 and "16 more" in made.notes[-1]


def test_the_work_that_is_kept_tells_the_data_set(bench: Bench, tmp_path: Path) -> None:
    result = bench.run(recipe(lines(tmp_path / "a.jsonl", sentences(30))))
    master, thumbnail = result.artifacts
    assert (master.name, master.role, thumbnail.role) == ("0.dataset.json", "master", "thumbnail")
    about = msgspec.json.decode((bench.paths.staging / "j1" / master.name).read_bytes())
    assert (about["id"], about["sha256"]) == (master.meta["dataset"], master.meta["sha256"])
    assert master.meta["rows"] == 30
    from PIL import Image

    with Image.open(bench.paths.staging / "j1" / thumbnail.name) as image:
        assert image.size == (256, 160)
        assert len(image.convert("L").getcolors(100_000) or []) > 2
    made_with = result.made_with
    assert (made_with.engine, "py3langid" in made_with.versions) == ("data.sets", True)
