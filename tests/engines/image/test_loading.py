"""Damaged, incomplete and unsafe model folders are told apart, in a sentence, before or instead of loading."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.core.problems import ModelBroken, ModelMissing, ModelRefused, StudioError
from studio.engines.image.diffusion import Diffusion
from tests.engines.image import tiny
from tests.engines.image.conftest import PLAN

FolderOf = Callable[[str], Path]


def cut_weight(file: str) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        weights = load_file(folder / file)
        weights.pop(sorted(weights)[3])
        save_file(weights, folder / file, metadata={"format": "pt"})

    return cut


def change(file: str, **values: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return edit


def as_pickle(folder: Path) -> None:
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps({}))


def without_vocabulary(folder: Path) -> None:
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (folder / "tokenizer" / name).unlink(missing_ok=True)


UNET = "unet/diffusion_pytorch_model.safetensors"
FAULTS: dict[str, tuple[Callable[[Path], None], type[StudioError], str]] = {
    "no folder": (shutil.rmtree, ModelMissing, "not there any more"),
    "no index": (lambda f: (f / "model_index.json").unlink(), ModelBroken, "model_index.json is missing"),
    "index not JSON": (lambda f: (f / "model_index.json").write_text("{"), ModelBroken, "cannot be read"),
    "index a list": (lambda f: (f / "model_index.json").write_text("[1]"), ModelBroken, "names no pipeline"),
    "unknown pipeline": (change("model_index.json", _class_name="NoSuchPipeline"), ModelBroken, "NoSuchPipeline"),
    "unknown part": (change("model_index.json", unet=["diffusers", "NoSuchNet"]), ModelBroken, "NoSuchNet"),
    "wrong class": (change("model_index.json", unet=["diffusers", "AutoencoderKL"]), ModelBroken, "cannot be loaded"),
    "no weights": (lambda f: (f / UNET).unlink(), ModelBroken, r"part unet.*safetensors"),
    "truncated": (lambda f: os.truncate(f / UNET, 20_000), ModelBroken, r"incomplete: unet/.* has 20,000 of \d"),
    "empty file": (lambda f: os.truncate(f / UNET, 0), ModelBroken, "unet/.* is not a whole safetensors file"),
    "web page": (lambda f: (f / UNET).write_bytes(b"<!DOCTYPE html>" * 9), ModelBroken, "not a whole safetensors"),
    "part missing": (lambda f: shutil.rmtree(f / "vae"), ModelBroken, "cannot be loaded"),
    "no vocabulary": (without_vocabulary, ModelBroken, "tokenizer/tokenizer.json is missing"),
    "no scheduler": (lambda f: shutil.rmtree(f / "scheduler"), ModelBroken, "cannot be loaded"),
    "network of another size": (change("unet/config.json", cross_attention_dim=8), ModelBroken, "shape"),
    "encoder of another size": (change("text_encoder/config.json", hidden_size=8), ModelBroken, "cannot be loaded"),
    "weight missing in network": (cut_weight(UNET), ModelBroken, "1 of its weights .* unet"),
    "weight missing in encoder": (cut_weight("text_encoder/model.safetensors"), ModelBroken, "weights .* text_encoder"),
    "pickle": (as_pickle, ModelRefused, "pickle"),
    "foreign library": (change("model_index.json", unet=["os", "system"]), ModelRefused, "run code"),
    "own pipeline": (change("model_index.json", _class_name=["mine", "Pipe"]), ModelRefused, "run code"),
    "auto map": (change("text_encoder/config.json", auto_map={"AutoModel": "x.Y"}), ModelRefused, "auto_map"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_folder_gets_its_own_sentence(fault: str, folder_of: FolderOf, tmp_path: Path) -> None:
    harm, kind, sentence = FAULTS[fault]
    folder = tmp_path / "model"
    shutil.copytree(folder_of("sd"), folder)
    harm(folder)
    engine = Diffusion()
    with pytest.raises(kind, match=sentence) as raised:
        engine.load(tiny.card(folder, "Mine"), PLAN, tiny.Around(tmp_path).ctx)
    assert "Mine" in raised.value.problem.sentence
    assert str(tmp_path) not in raised.value.problem.sentence  # a person's folders are no part of a sentence
    assert raised.value.problem.hint
    assert engine._pipe is None


def test_code_beside_a_part_is_not_run(folder_of: FolderOf, tmp_path: Path) -> None:
    folder, marker = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(folder_of("sd"), folder)
    for place in (folder / "unet" / "mine.py", folder / "pipeline.py", folder / "unet" / "diffusers.py"):
        place.write_text(f"open({str(marker)!r}, 'w').write('x')\nclass Net: pass\nclass UNet2DConditionModel: pass\n")
    change("model_index.json", unet=["mine", "Net"])(folder)
    with pytest.raises(ModelRefused):
        Diffusion().load(tiny.card(folder), PLAN, tiny.Around(tmp_path).ctx)
    change("model_index.json", unet=["diffusers", "UNet2DConditionModel"])(folder)
    with pytest.raises(StudioError):
        Diffusion().load(tiny.card(folder), PLAN, tiny.Around(tmp_path).ctx)
    assert not marker.exists()


def test_a_folder_that_holds_only_a_variant_loads(folder_of: FolderOf, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(folder_of("sd"), folder)
    for file in list(folder.glob("*/*.safetensors")):
        file.rename(file.with_name(file.name.replace(".safetensors", ".fp16.safetensors")))
    engine = Diffusion()
    engine.load(tiny.card(folder), PLAN, tiny.Around(tmp_path).ctx)
    assert engine.made_with().dtype == "float32"


def test_an_engine_that_failed_to_load_loads_the_next_model(folder_of: FolderOf, tmp_path: Path) -> None:
    engine, around = Diffusion(), tiny.Around(tmp_path)
    with pytest.raises(ModelMissing):
        engine.load(tiny.card(tmp_path / "nowhere"), PLAN, around.ctx)
    engine.load(tiny.card(folder_of("sd")), PLAN, around.ctx)
    assert engine._pipe is not None
