"""Taught words are read where they are written, and leave nothing behind when they go."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from studio.core.problems import BadRecipe, ModelBroken, ModelMissing, ModelRefused, ModelUnfit
from studio.engines.image import embeddings, prompts
from studio.engines.image.embeddings import load, loaded, spelled, unload
from tests.engines.image.test_prompts import LETTERS, a1111_file, picture, plainly, read, same, states, vectors

FolderOf = Callable[[str], Path]


@pytest.fixture(scope="module")
def fresh(folder_of: FolderOf) -> Callable[[str], Any]:
    from diffusers import DiffusionPipeline

    torch.set_num_threads(1)

    def make(name: str) -> Any:
        pipe = DiffusionPipeline.from_pretrained(str(folder_of(name)), local_files_only=True, dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return make


@pytest.fixture(scope="module")
def shared(fresh: Callable[[str], Any]) -> dict[str, Any]:
    return {name: fresh(name) for name in ("sd", "sdxl")}


@pytest.fixture
def sd(shared: dict[str, Any]) -> Iterator[Any]:
    yield shared["sd"]
    unload(shared["sd"])


@pytest.fixture
def sdxl(shared: dict[str, Any]) -> Iterator[Any]:
    yield shared["sdxl"]
    unload(shared["sdxl"])


def sdxl_file(folder: Path, number: int = 2) -> Path:
    save_file({"clip_l": vectors(number, 1), "clip_g": vectors(number, 2)}, str(folder / "xl.safetensors"))
    return folder / "xl.safetensors"


def test_a_word_of_many_vectors_reads_as_in_diffusers(sd: Any, fresh: Callable[[str], Any], tmp_path: Path) -> None:
    other = fresh("sd")
    other.load_textual_inversion({"zork": vectors(3)}, token="zork")
    expected = states(other, "a zork cat")
    load(sd, [("EasyZork", a1111_file(tmp_path))])
    for text in ("a easyzork cat", "a <EasyZork> cat", "a EASYZORK, cat".replace(",", "")):
        assert torch.equal(states(sd, spelled(sd, text)), expected)
        assert torch.equal(read(sd, text)["prompt_embeds"], expected)
    # words that only contain it are left alone
    assert spelled(sd, "easyzorks uneasyzork") == "easyzorks uneasyzork"
    weighed = read(sd, "a (easyzork:1.3) cat")["prompt_embeds"]
    assert not torch.allclose(weighed, expected, atol=1e-2)


def test_the_plain_reading_knows_the_word_with_and_without_a_cache(sd: Any, tmp_path: Path) -> None:
    load(sd, [("zork", a1111_file(tmp_path))])
    named = read(sd, "a zork cat", "zork", reading="plain")
    assert named["prompt"] != "a zork cat" and "prompt_embeds" not in named
    assert read(sd, "a cat", reading="plain") == {}
    cache = prompts.Cache()
    held = read(sd, "a zork cat", "zork", reading="plain", cache=cache)
    words = {"prompt": "a zork cat", "negative_prompt": "zork"}
    assert picture(sd, **prompts.replaced(words, held)) == picture(sd, **prompts.replaced(words, named))
    unload(sd)
    again = read(sd, "a zork cat", "zork", reading="plain", cache=cache)
    assert not same(again, held)  # what is loaded is part of the cache's key


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_what_was_loaded_leaves_nothing_behind(name: str, shared: dict[str, Any], tmp_path: Path) -> None:
    pipe = shared[name]
    file = a1111_file(tmp_path) if name == "sd" else sdxl_file(tmp_path)
    before, plain = picture(pipe, prompt="a zork cat"), plainly(pipe, "a zork cat", "dog")
    rows = [e.get_input_embeddings().weight.clone() for e in prompts._readers(pipe)]
    tokens = [pipe.tokenizer.get_vocab(), pipe.tokenizer.tokenize("a zork cat")]
    load(pipe, [("zork", file)])
    # other prompts are read as before, pooled state included
    assert same(plainly(pipe, "a red cat"), plainly(pipe, spelled(pipe, "a red cat")))
    assert picture(pipe, prompt="a zork cat") == before  # the word as such was not touched, only what is spelled
    assert picture(pipe, prompt=spelled(pipe, "a zork cat")) != before
    unload(pipe)
    assert picture(pipe, prompt="a zork cat") == before
    assert same(plainly(pipe, "a zork cat", "dog"), plain)
    assert [pipe.tokenizer.get_vocab(), pipe.tokenizer.tokenize("a zork cat")] == tokens
    for encoder, old in zip(prompts._readers(pipe), rows, strict=True):
        assert torch.equal(encoder.get_input_embeddings().weight, old)
        assert encoder.get_input_embeddings().num_embeddings == len(old)
    assert (loaded(pipe), spelled(pipe, "a zork")) == ((), "a zork")
    unload(pipe)


def test_both_encoders_of_sdxl_learn_their_own_vectors(sdxl: Any, tmp_path: Path) -> None:
    load(sdxl, [("zork", sdxl_file(tmp_path))])
    for encoder, tokenizer, seed in (
        (sdxl.text_encoder, sdxl.tokenizer, 1), (sdxl.text_encoder_2, sdxl.tokenizer_2, 2),
    ):  # fmt: skip
        ids = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(spelled(sdxl, "zork")))
        assert torch.equal(encoder.get_input_embeddings().weight[ids], vectors(2, seed))
    assert picture(sdxl, **read(sdxl, "a (zork:1.2) cat", "dog"))


def test_the_end_of_a_text_is_found_where_a_configuration_names_it_wrongly(
    fresh: Callable[[str], Any], tmp_path: Path
) -> None:
    # as in the published SDXL: "eos_token_id": 2, so the encoder takes the highest token for the end
    pipe = fresh("sdxl")
    inner = pipe.text_encoder_2.text_model
    inner.eos_token_id = 2
    before = plainly(pipe, "a cat")["pooled_prompt_embeds"]
    load(pipe, [("zork", sdxl_file(tmp_path))])
    assert torch.equal(plainly(pipe, "a cat")["pooled_prompt_embeds"], before)
    found = plainly(pipe, spelled(pipe, "a zork cat"))["pooled_prompt_embeds"]
    inner.eos_token_id = pipe.tokenizer_2.eos_token_id
    assert torch.equal(found, plainly(pipe, spelled(pipe, "a zork cat"))["pooled_prompt_embeds"])
    unload(pipe)
    assert inner.eos_token_id == 2


def test_the_vectors_of_a_word_count_one_by_one_and_stay_in_one_chunk(sd: Any, tmp_path: Path) -> None:
    load(sd, [("zork", a1111_file(tmp_path)), ("huge", a1111_file(tmp_path, 40))])
    room = " ".join(LETTERS[:15])
    assert read(sd, f"{room} zork")["prompt_embeds"].shape == (1, 20, 16)
    split = read(sd, f"{room} x zork")["prompt_embeds"]  # 16 letters and 3 vectors: one too many
    assert torch.equal(split, torch.cat([states(sd, f"{room} x"), states(sd, spelled(sd, "zork"))], dim=1))
    assert read(sd, "a huge cat")["prompt_embeds"].shape == (1, 80, 16)  # 1, then 18 + 18 + 4, beside the cat's 3


def test_loading_again_reads_nothing_and_another_choice_takes_the_place(sd: Any, tmp_path: Path) -> None:
    one, two = a1111_file(tmp_path, 1, 5), a1111_file(tmp_path, 2, 6)
    load(sd, [("one", one), ("two", two)])
    weight, key = sd.text_encoder.get_input_embeddings().weight, loaded(sd)
    load(sd, [("one", one), ("two", two)])
    assert sd.text_encoder.get_input_embeddings().weight is weight and loaded(sd) == key
    both = read(sd, "one two")["prompt_embeds"]
    load(sd, [("two", two)])
    assert spelled(sd, "one") == "one" and spelled(sd, "two") != "two"
    assert not torch.equal(read(sd, "one two")["prompt_embeds"], both)
    load(sd, [])
    assert loaded(sd) == ()


def test_pipelines_of_the_same_parts_share_what_is_loaded(sd: Any, tmp_path: Path) -> None:
    from diffusers import AutoPipelineForImage2Image

    other = AutoPipelineForImage2Image.from_pipe(sd)
    load(other, [("zork", a1111_file(tmp_path))])
    assert loaded(sd) == loaded(other) != ()
    assert same(read(sd, "a zork"), read(other, "a zork"))
    unload(sd)
    assert loaded(other) == ()


def test_a_table_longer_than_the_vocabulary_gets_its_rows_back(fresh: Callable[[str], Any], tmp_path: Path) -> None:
    pipe = fresh("sd")
    table = pipe.text_encoder.get_input_embeddings()
    longer = torch.cat([table.weight.data, vectors(2, 9)])
    table.weight = torch.nn.Parameter(longer)
    load(pipe, [("zork", a1111_file(tmp_path))])
    assert torch.equal(states(pipe, "a cat"), states(fresh("sd"), "a cat"))
    unload(pipe)
    assert torch.equal(table.weight, longer)


def test_a_file_of_diffusers_is_known_by_its_own_word_too(sd: Any, tmp_path: Path) -> None:
    file = tmp_path / "learned.safetensors"
    save_file({"<dog-toy>": vectors(1)[0]}, str(file))
    load(sd, [("My toy", file)])
    assert spelled(sd, "a <dog-toy>") == spelled(sd, "a my toy") == spelled(sd, "a <My Toy>") != "a my toy"


def test_an_embedding_for_another_base_is_refused_with_both_sizes(sd: Any, sdxl: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelUnfit, match=r"“wide” was made for another base: its vectors are 1,024 wide.*model's 16"):
        load(sd, [("wide", a1111_file(tmp_path, width=1_024))])
    with pytest.raises(ModelUnfit, match="vectors are 16 wide, this model's 16 and 16"):
        load(sdxl, [("old", a1111_file(tmp_path))])
    with pytest.raises(ModelUnfit, match="16 and 16 wide, this model's 16"):
        load(sd, [("xl", sdxl_file(tmp_path))])


def test_a_refusal_changes_nothing(sd: Any, tmp_path: Path) -> None:
    load(sd, [("zork", a1111_file(tmp_path))])
    key = loaded(sd)
    with pytest.raises(ModelUnfit):
        load(sd, [("ok", a1111_file(tmp_path)), ("wide", a1111_file(tmp_path, width=8))])
    assert loaded(sd) == key and spelled(sd, "zork") != "zork"


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('a pickle was opened')",))


def test_files_that_are_no_embeddings_are_refused_each_with_its_reason(sd: Any, tmp_path: Path) -> None:
    def file(name: str, data: bytes | dict[str, Any]) -> Path:
        if isinstance(data, dict):
            save_file(data, str(tmp_path / name))
        else:
            (tmp_path / name).write_bytes(data)
        return tmp_path / name

    whole = a1111_file(tmp_path).read_bytes()
    for path, error, why in (
        (tmp_path / "gone.safetensors", ModelMissing, "not there"),
        (file("a.pt", pickle.dumps(_Evil())), ModelRefused, "only safetensors"),
        (file("b.safetensors", pickle.dumps(_Evil())), ModelBroken, "not a whole"),
        (file("c.safetensors", whole[:-4]), ModelBroken, "not a whole"),
        (file("d.safetensors", b""), ModelBroken, "not a whole"),
        (file("e.safetensors", {"x": vectors(1), "y": vectors(1)}), ModelUnfit, "not an embedding"),
        (file("f.safetensors", {"emb_params": torch.zeros(2, 2, 16)}), ModelUnfit, "not a list of vectors"),
        (file("g.safetensors", {"emb_params": torch.ones(1, 16, dtype=torch.int32)}), ModelUnfit, "not a list"),
        (file("h.safetensors", {"emb_params": torch.full((1, 16), float("nan"))}), ModelBroken, "not finite"),
        (file("i.safetensors", {"emb_params": torch.zeros(1_001, 16)}), ModelUnfit, "not a list"),
    ):
        with pytest.raises(error, match=why):
            load(sd, [("bad", path)])
    assert loaded(sd) == ()


def test_names_must_differ_and_be_there(sd: Any, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="Two embeddings are called “zork”"):
        load(sd, [("zork", a1111_file(tmp_path)), ("Zork ", a1111_file(tmp_path, 2))])
    with pytest.raises(BadRecipe, match="no name"):
        load(sd, [(" ", a1111_file(tmp_path))])


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_families_that_read_by_more_than_clip_take_none(name: str, fresh: Callable[[str], Any], tmp_path: Path) -> None:
    with pytest.raises(ModelUnfit, match="does not take embeddings"):
        load(fresh(name), [("zork", a1111_file(tmp_path))])
    unload(fresh(name))


def test_names_with_marks_in_them_are_taken_as_they_are(sd: Any, tmp_path: Path) -> None:
    load(sd, [("c++ (x).*", a1111_file(tmp_path)), ("bad-hands-5", a1111_file(tmp_path, 1))])
    assert spelled(sd, "a c++ (x).* cat") != "a c++ (x).* cat"
    assert spelled(sd, "a cxx cat, very-bad-hands-55") == "a cxx cat, very-bad-hands-55"
    assert len(embeddings.groups(sd, sd.tokenizer)) == 4
