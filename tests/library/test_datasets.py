"""Data sets in the library: found, chosen by name, removed; what is damaged is passed over and said."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from studio.core.learning import Dataset, DatasetRecipe, Split
from studio.core.paths import Paths
from studio.core.problems import ModelMissing, NotFound, NotRead
from studio.library.datasets import ABOUT, Datasets


def put(paths: Paths, name: str, digest: str = "0", created: str = "2026-01-01") -> Dataset:
    made = Dataset(
        id=f"{name}-{digest * 12}", name=name, shape="text", sha256=digest * 64, created=created,
        splits={"train": Split(rows=3, bytes=100), "valid": Split(rows=1, bytes=20)},
        recipe=DatasetRecipe(sources=("x.txt",)),
    )  # fmt: skip
    folder = paths.datasets / made.id
    folder.mkdir(parents=True)
    (folder / ABOUT).write_bytes(msgspec.json.encode(made))
    (folder / "train.jsonl").write_text('{"text": "a"}\n')
    return made


def test_where_none_was_made_there_are_none(paths: Paths) -> None:
    assert Datasets(paths).all() == []
    with pytest.raises(ModelMissing, match="There is no data set “tales”"):
        Datasets(paths).choose("tales")


def test_they_are_listed_newest_first_and_chosen_by_id_name_or_a_plain_beginning(paths: Paths) -> None:
    old, new = put(paths, "tales", "1", "2026-01-01"), put(paths, "tales", "2", "2026-02-01")
    other = put(paths, "poems", "3", "2026-01-15")
    sets = Datasets(paths)
    assert [d.id for d in sets.all()] == [new.id, other.id, old.id]
    assert sets.choose(old.id) == old
    assert sets.choose("tales") == new  # of two of one name the newer
    assert sets.choose("poems-33") == other
    with pytest.raises(ModelMissing, match="There is no data set “tales-”") as caught:
        sets.choose("tales-")  # two begin so
    assert "“poems”" in caught.value.problem.hint


def test_a_worker_is_given_its_folder_size_and_checksum(paths: Paths) -> None:
    made = put(paths, "tales")
    card = Datasets(paths).card("tales")
    assert (card.id, card.kind, card.format, card.bytes, card.sha256) == (made.id, "dataset", "text", 120, made.sha256)
    assert (Path(card.path) / "train.jsonl").is_file()


def test_a_damaged_one_is_passed_over_in_the_list_and_said_when_it_is_asked_for(paths: Paths) -> None:
    whole, broken = put(paths, "whole", "1"), put(paths, "broken", "2")
    (paths.datasets / broken.id / ABOUT).write_bytes(b'{"format": ')
    (paths.datasets / "notes").mkdir()
    assert [d.id for d in Datasets(paths).all()] == [whole.id]
    with pytest.raises(NotRead, match="is damaged"):
        Datasets(paths).get(broken.id)


@pytest.mark.parametrize("name", ["../works", "", ".", "a/b-000000000000", "x\\..\\y-000000000000", "..-000000000000"])
def test_a_name_never_leads_out_of_the_folder(paths: Paths, name: str) -> None:
    with pytest.raises(NotFound):
        Datasets(paths).folder(name)


def test_what_is_removed_is_gone_for_good_and_no_other(paths: Paths) -> None:
    one, other = put(paths, "one", "1"), put(paths, "other", "2")
    sets = Datasets(paths)
    sets.remove(one.id)
    assert [d.id for d in sets.all()] == [other.id]
    assert not (paths.datasets / one.id).exists()
    with pytest.raises(NotFound):
        sets.remove(one.id)


def test_rows_are_shown_from_where_one_wants_and_endless_ones_left_out(paths: Paths) -> None:
    made = put(paths, "tales")
    sets = Datasets(paths)
    lines = [f'{{"text": "{at}"}}\n' for at in range(10)]
    lines[4] = f'{{"text": "{"x" * 2_500_000}"}}\n'
    (paths.datasets / made.id / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    assert sets.rows(made.id, "train", 3, 3) == [{"text": "3"}, {"text": "5"}, {"text": "6"}]
    assert sets.rows(made.id, start=9) == [{"text": "9"}]
    for part in ("valid", "../train"):
        with pytest.raises(NotFound):
            sets.rows(made.id, part)
    (paths.datasets / made.id / "train.jsonl").write_text("broken\n", encoding="utf-8")
    with pytest.raises(NotRead, match="damaged"):
        sets.rows(made.id)


def test_a_description_is_read_anew_where_it_changed_and_goes_by_its_folder(paths: Paths) -> None:
    made = put(paths, "tales")
    sets = Datasets(paths)
    assert sets.get(made.id) is sets.get(made.id), "it is not read twice"
    path = paths.datasets / made.id / ABOUT
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(made, notes=("more",))))
    assert sets.get(made.id).notes == ("more",)
    path.parent.rename(paths.datasets / "renamed-0123456789ab")
    assert [d.id for d in sets.all()] == ["renamed-0123456789ab"]
    with pytest.raises(NotFound):
        sets.get(made.id)
