"""Finding the models of a studio, and choosing one by what a person typed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from studio.core.cards import ModelCard
from studio.core.paths import Paths
from studio.core.problems import ModelBroken, ModelMissing, ModelRefused, ModelUnfit
from studio.models import looking
from studio.models.registry import choose, found
from tests.models.makers import diffusers, gguf, safetensors, voice


def own(cards: list[ModelCard]) -> list[ModelCard]:
    return [c for c in cards if c.source != "starter"]


@pytest.fixture
def filled(paths: Paths) -> Paths:
    (paths.models / "writer.gguf").write_bytes(gguf())
    diffusers(paths.models / "birds")
    voice(paths.models / "voices" / "german")
    return paths


def test_models_one_and_two_folders_deep_are_found(filled: Paths) -> None:
    cards, broken = found(filled)
    assert broken == []
    assert [(c.name, c.source) for c in own(cards)] == [("birds", "data"), ("anna", "data"), ("writer", "data")]
    assert len({c.id for c in cards}) == len(cards)


def test_ids_stay_the_same_from_start_to_start(filled: Paths) -> None:
    assert [c.id for c in found(filled)[0]] == [c.id for c in found(filled)[0]]


def test_folders_that_are_not_there_hold_no_models(tmp_path: Path) -> None:
    assert own(found(Paths(tmp_path / "nowhere"))[0]) == []


def test_paths_of_the_user_are_added_and_bad_ones_explained(paths: Paths, tmp_path: Path) -> None:
    good, bad, text = tmp_path / "mine.gguf", tmp_path / "old.ckpt", tmp_path / "x.safetensors"
    good.write_bytes(gguf())
    bad.write_bytes(b"\x80\x04x")
    text.write_bytes(safetensors())
    cards, broken = found(paths, [good, bad, text, tmp_path / "gone"])
    assert [(c.name, c.source) for c in own(cards)] == [("mine", "user")]
    assert [(p, b.code) for p, b in broken] == [
        (bad, "model_refused"),
        (text, "model_unfit"),
        (tmp_path / "gone", "model_missing"),
    ]


def test_one_damaged_model_does_not_hide_the_others(filled: Paths) -> None:
    os.truncate(filled.models / "writer.gguf", 200)
    cards, broken = found(filled)
    assert [c.name for c in own(cards)] == ["birds", "anna"]
    assert "incomplete" in broken[0][1].why


def test_loops_of_links_are_skipped(filled: Paths) -> None:
    (filled.models / "voices" / "loop").symlink_to(filled.models)
    (filled.models / "again").symlink_to(filled.models / "voices")
    (filled.models / "dangling.gguf").symlink_to(filled.models / "none.gguf")
    (filled.models / "self.gguf").symlink_to(filled.models / "self.gguf")
    cards, broken = found(filled)
    assert broken == []
    assert sorted(c.name for c in own(cards)) == ["anna", "birds", "writer"]


def test_a_damaged_model_in_a_loop_is_reported_once(filled: Paths) -> None:
    os.truncate(filled.models / "voices" / "german" / "anna.onnx", 30)
    (filled.models / "again").symlink_to(filled.models / "voices")
    (filled.models / "voices" / "loop").symlink_to(filled.models)
    assert len(found(filled)[1]) == 1


def test_a_copy_of_a_model_is_listed_once(filled: Paths, tmp_path: Path) -> None:
    copy = tmp_path / "WRITER.gguf"
    shutil.copy(filled.models / "writer.gguf", copy)
    link = tmp_path / "linked"
    link.symlink_to(filled.models / "birds")
    cards, _ = found(filled, [copy, link])
    assert sorted(c.name for c in own(cards)) == ["anna", "birds", "writer"]
    assert choose(cards, "text", str(copy)).path == str(copy)


def test_two_models_of_equal_size_are_both_listed(paths: Paths) -> None:
    (paths.models / "a.gguf").write_bytes(gguf(general__name="One!"))
    (paths.models / "b.gguf").write_bytes(gguf(general__name="Two!"))
    assert len(own(found(paths)[0])) == 2


def test_a_second_look_reads_no_model(filled: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    first = found(filled)

    def never() -> list[str]:
        raise AssertionError("a process was started")

    monkeypatch.setattr(looking, "command", never)
    assert found(filled) == first


def test_a_change_is_seen_in_spite_of_the_cache(filled: Paths) -> None:
    found(filled)
    (filled.models / "writer.gguf").write_bytes(gguf(chat=True))
    (filled.models / "birds" / "unet" / "config.json").unlink()
    (filled.models / "voices" / "german" / "anna.onnx.studio.json").write_text('{"name": "Anna"}')
    cards, broken = found(filled)
    assert choose(cards, "text", "writer").can == ("complete", "chat")
    assert choose(cards, "speech", "anna").name == "Anna"
    assert "unet/config.json is missing" in broken[0][1].why


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"[1]", b'{"version": 99, "looks": {}}', b"[" * 50_000])
def test_a_damaged_cache_is_ignored_and_made_again(filled: Paths, damage: bytes) -> None:
    first = found(filled)
    (filled.cache / "cards.json").write_bytes(damage)
    assert found(filled) == first
    assert (filled.cache / "cards.json").read_bytes() != damage


def test_a_cache_that_cannot_be_written_is_no_error(filled: Paths) -> None:
    shutil.rmtree(filled.cache)
    filled.cache.write_text("a file in the way")
    assert len(own(found(filled)[0])) == 3


def test_a_model_is_chosen_by_id_name_file_or_path(filled: Paths) -> None:
    cards, _ = found(filled)
    writer = choose(cards, "text", "writer")
    path = filled.models / "writer.gguf"
    for said in (writer.id, "WRITER", "writer.gguf", str(path), f" {path} "):
        assert choose(cards, "text", said) == writer


def test_a_path_outside_the_list_is_looked_at(paths: Paths, tmp_path: Path) -> None:
    path = tmp_path / "new.gguf"
    path.write_bytes(gguf())
    assert choose([], "text", str(path)).path == str(path)


def test_no_name_takes_a_starter_first(filled: Paths) -> None:
    cards = own(found(filled)[0])
    assert choose(cards, "image").name == "birds"
    import msgspec

    starter = msgspec.structs.replace(cards[0], id="starter", source="starter")
    assert choose([*cards, starter], "image").id == "starter"
    with pytest.raises(ModelMissing, match="no picture model yet"):
        choose([], "image")


def test_a_mistyped_name_brings_near_ones(filled: Paths) -> None:
    with pytest.raises(ModelMissing, match="no text model called “wirter”") as caught:
        choose(found(filled)[0], "text", "wirter")
    assert "Did you mean “writer-" in caught.value.problem.hint


def test_a_model_of_another_kind_is_called_what_it_is(filled: Paths) -> None:
    cards, _ = found(filled)
    with pytest.raises(ModelUnfit, match="“anna” is a voice, not a text model"):
        choose(cards, "text", "anna")
    with pytest.raises(ModelUnfit, match="“writer” is a text model, not a picture model"):
        choose(cards, "image", str(filled.models / "writer.gguf"))


def test_a_path_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    (tmp_path / "half.gguf").write_bytes(gguf()[:-9])
    (tmp_path / "old.ckpt").write_bytes(b"\x80\x04x")
    with pytest.raises(ModelBroken, match=r"“half.gguf” cannot be used: it is incomplete"):
        choose([], "text", str(tmp_path / "half.gguf"))
    with pytest.raises(ModelRefused, match="any program"):
        choose([], "image", str(tmp_path / "old.ckpt"))
    with pytest.raises(ModelUnfit, match="the folder holds no model"):
        choose([], "image", "/proc/self/task")
    for missing in (str(tmp_path / "none.gguf"), "a/b", "x" * 5000 + ".gguf", "a\0b/c"):
        with pytest.raises(ModelMissing, match="no file or folder"):
            choose([], "text", missing)


def test_looking_for_models_imports_no_engine() -> None:
    program = """
import sys
import studio.models.registry, studio.models.starter
heavy = "torch numpy PIL onnx onnxruntime gguf safetensors transformers diffusers xllamacpp piper".split()
print([m for m in heavy if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_copy_with_a_few_other_numbers_is_another_model(paths: Paths) -> None:
    """Samples of the weights are equal; a merge of a single tensor must not vanish behind the first."""
    from tests.engines.image.tiny import STARTER

    copy = paths.models / "merged"
    shutil.copytree(STARTER, copy)
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    place = len(data) // 3
    data[place : place + 2] = b"\x00\x3c" if data[place : place + 2] != b"\x00\x3c" else b"\x00\x00"
    weights.write_bytes(data)
    shutil.copytree(STARTER, paths.models / "twin")
    names = [Path(c.path).name for c in found(paths)[0] if c.kind == "image"]
    assert "merged" in names and "twin" not in names
