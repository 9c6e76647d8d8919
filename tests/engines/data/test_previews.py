"""What a form is shown of sources before a data set is made of them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from studio.core.problems import BadRecipe, NotRead
from studio.engines.data import previews
from tests.engines.data.bench import Bench, recipe, sentences


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine must not show fewer rows here."""
    monkeypatch.setattr(previews, "SECONDS", 60.0)


def preview(*files: Path, **given: Any) -> previews.Preview:
    return previews.preview(recipe(*files, **given), lambda: None)


def test_the_first_rows_are_shown_with_what_was_found(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    content = "id;frage;antwort\n" + "".join(f"{at};Größe {at}?;{'x' * 3_000}\n" for at in range(100))
    (folder / "a.csv").write_bytes(content.encode("cp1252"))
    (folder / "b.bin").write_bytes(b"\0\1")
    found = preview(folder, question="frage", answer="antwort")
    assert (found.shape, found.count, found.more, found.bytes) == ("chat", 1, False, len(content.encode("cp1252")))
    assert found.columns == ("id", "frage", "antwort")
    file = found.files[0]
    assert (file.name, file.kind, file.encoding) == ("a.csv", "a table", "cp1252")
    assert file.mapping == "questions from “frage”, answers from “antwort”"
    assert len(found.rows) == previews.ROWS
    assert found.rows[1]["messages"][0] == {"role": "user", "content": "Größe 1?"}
    assert len(found.rows[1]["messages"][1]["content"]) == previews.CHARACTERS + 1
    assert found.left_out == {"a file of another kind (.bin)": 1}
    assert msgspec.json.decode(msgspec.json.encode(found), type=previews.Preview) == found


def test_rows_that_would_be_dropped_are_shown_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "A whole sentence."}\n{"text": "No"}\n{broken\n', encoding="utf-8")
    assert preview(path, shortest=5).rows == (
        {"text": "A whole sentence."}, {"dropped": "too short", "text": "No"}, {"dropped": "a line that is not JSON"},
    )  # fmt: skip


def test_pictures_are_shown_with_the_place_of_their_files(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("Black", encoding="utf-8")
    found = preview(tmp_path)
    assert (found.shape, found.rows[0]["text"], found.rows[0]["picture"]) == (
        "captions",
        "Black",
        str(tmp_path / "a.png"),
    )


def test_some_rows_of_each_file_are_shown(tmp_path: Path) -> None:
    for at in range(4):
        (tmp_path / f"{at}.txt").write_text("\n".join(sentences(50, start=at * 50)), encoding="utf-8")
    found = preview(tmp_path, split_text="line")
    assert (len(found.rows), len(found.files), found.count) == (20, 4, 4)
    assert [row["text"].split(":")[0] for row in found.rows[::5]] == ["Text 0", "Text 50", "Text 100", "Text 150"]


@pytest.mark.parametrize("kind", ["txt", "json", "jsonl", "csv", "line"])
def test_of_a_large_file_only_the_beginning_is_read(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(sentences(20))
    parts = {
        "txt": f"{text}\n\n", "jsonl": json.dumps({"text": text}) + "\n", "csv": f'1,"{text}"\n', "line": f"{text} ",
        "json": json.dumps({"text": text}) + ",\n",
    }  # fmt: skip
    head = {"json": "[", "csv": "id,text\n"}.get(kind, "")
    path = tmp_path / f"a.{'txt' if kind == 'line' else kind}"
    path.write_text(head + parts[kind] * 20_000, encoding="utf-8")
    read = 0

    def heard(self: object, path: Path, heard: Any) -> None:
        def counting(count: int) -> None:
            nonlocal read
            read += count
            heard(count)

        begun(self, path, counting)

    begun = previews.readers.streams.Raw.__init__
    monkeypatch.setattr(previews.readers.streams.Raw, "__init__", heard)
    began = time.process_time()
    found = preview(path)
    assert found.rows and found.bytes > 30_000_000
    assert read < 3_000_000, "of thirty"
    assert time.process_time() - began < 3  # where it is quiet: a tenth of a second


def test_of_many_files_a_few_are_looked_into(tmp_path: Path) -> None:
    for at in range(12):
        (tmp_path / f"{at:02}.txt").write_text(" ", encoding="utf-8")
    found = preview(tmp_path)
    assert (len(found.files), found.count) == (previews.READ, 12)


def test_a_slow_file_shows_a_few_rows_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "SECONDS", 0.0)
    (tmp_path / "a.txt").write_text("\n".join(sentences(50)), encoding="utf-8")
    assert len(preview(tmp_path, split_text="line").rows) == previews.FEW


def test_what_is_wrong_is_told_as_when_the_data_set_is_made(tmp_path: Path) -> None:
    with pytest.raises(NotRead):
        preview(tmp_path / "gone")
    (tmp_path / "a.csv").write_text("a,b\nx,y\n", encoding="utf-8")
    with pytest.raises(BadRecipe, match="no column “c”"):
        preview(tmp_path / "a.csv", text="c")


def test_a_preview_makes_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One.", encoding="utf-8")
    bench = Bench(tmp_path / "home")
    result = bench.run(recipe(tmp_path / "a.txt", preview_only=True))
    assert [artifact.name for artifact in result.artifacts] == ["0.dataset.json"]
    shown = msgspec.json.decode((bench.paths.staging / "j1" / "0.dataset.json").read_bytes())
    assert (shown["format"], shown["rows"]) == ("studio-preview", [{"text": "One."}])
    assert not bench.paths.datasets.exists()
