"""Picture models in one file are known by their tensors; those without settings in the studio are named and refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from studio.core.cards import Broken, Looked, ModelCard, NotThisKind
from studio.core.paths import Paths, assets_folder
from studio.models import registry
from studio.models.bases import base_of
from studio.models.identify import look
from studio.models.memory import estimate
from studio.models.pipelines import PIPELINES
from studio.models.safetensors_header import Tensor
from studio.models.single_file import SINGLES, config_folder, kind_of
from tests.models.makers import checkpoint, safetensors, weights

Shapes = dict[str, tuple[int, ...]]
CORE = "model.diffusion_model."


def card(looked: Looked) -> ModelCard:
    assert isinstance(looked, ModelCard), looked
    return looked


def why_not(looked: Looked) -> str:
    assert isinstance(looked, NotThisKind), looked
    return looked.why


def tensors(shapes: Shapes) -> dict[str, Tensor]:
    return {name: Tensor("F16", shape, (0, 0)) for name, shape in shapes.items()}


@pytest.mark.parametrize("kind", SINGLES)
def test_a_whole_model_in_one_file_is_a_picture_model(tmp_path: Path, kind: str) -> None:
    made = card(look(weights(tmp_path / "Dream Shaper.safetensors", checkpoint(kind))))
    single = SINGLES[kind]
    assert (made.kind, made.engine, made.format) == ("image", "image.diffusers", "single-file")
    assert (made.name, made.family, made.base) == ("Dream Shaper", single.family, single.base)
    assert made.can == PIPELINES[single.family].can
    assert (made.limits.width, made.limits.size_multiple, made.limits.prompt_tokens) == (single.side, 8, 77)
    assert made.needs.number == 2 and 0 < made.needs.largest < made.needs.weights <= made.bytes
    assert estimate(made).activations > 50_000_000


@pytest.mark.parametrize("kind", SINGLES)
def test_the_settings_of_each_family_that_is_opened_are_shipped(kind: str) -> None:
    single = SINGLES[kind]
    folder = config_folder(single.family, assets_folder())
    assert folder is not None
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    assert index["_class_name"] == single.family
    core = json.loads((folder / "unet" / "config.json").read_text("utf-8"))
    assert base_of(single.family, core) == single.base
    assert core["in_channels"] == (9 if "inpaint" in kind else 4)
    assert core["sample_size"] * 8 == single.side
    for part, named in index.items():
        if isinstance(named, list) and named[0] and "tokenizer" not in part:
            assert list((folder / part).glob("*.json")), part
    assert not list((assets_folder() / "configs").rglob("*.safetensors"))


def test_settings_for_inpainting_differ_in_the_channels_that_come_in() -> None:
    folder = assets_folder() / "configs"
    for name in ("sd1", "sdxl"):
        for file in (folder / name).glob("*/*.json"):
            ours = json.loads(file.read_text("utf-8"))
            theirs = json.loads((folder / f"{name}-inpaint" / file.relative_to(folder / name)).read_text("utf-8"))
            if file.parent.name == "unet":
                assert (ours.pop("in_channels"), theirs.pop("in_channels")) == (4, 9)
            assert ours == theirs, file


def test_no_settings_are_shipped_for_other_families() -> None:
    assert config_folder("FluxPipeline", assets_folder()) is None


def test_the_vocabulary_of_clip_is_whole() -> None:
    merges = gzip.decompress((assets_folder() / "configs" / "clip" / "merges.txt.gz").read_bytes()).decode("utf-8")
    pairs = [line.split(" ") for line in merges.splitlines()]
    assert len(pairs) == 48_894
    assert all(len(pair) == 2 for pair in pairs)
    assert pairs[0] == ["i", "n"]


def core(shapes: Shapes) -> Shapes:
    return {CORE + name: shape for name, shape in shapes.items()}


def unet(inputs: int, width: int, place: str = "input_blocks.1.1") -> Shapes:
    return core({"input_blocks.0.0.weight": (320, inputs, 3, 3),
                 f"{place}.transformer_blocks.0.attn2.to_k.weight": (320, width)})  # fmt: skip


OTHERS: dict[str, tuple[Shapes, str]] = {
    "v2": (unet(4, 1024), "Stable Diffusion 2"),
    "inpainting_v2": (unet(9, 1024), "Stable Diffusion 2 for inpainting"),
    "depth": (unet(5, 1024), "depth"),
    "instruct-pix2pix": (unet(8, 768), "InstructPix2Pix"),
    "upscale": (unet(7, 1024), "upscaler"),
    "sd": (unet(4, 256), "unusual width"),
    "small": (unet(4, 2048, "input_blocks.4.1"), "fewer layers"),
    "xl_refiner": (unet(4, 1280, "input_blocks.4.1"), "refiner"),
    "playground-v2-5": (unet(4, 2048, "input_blocks.4.1") | {"edm_mean": (4,)}, "Playground"),
    "sd3": (core({"joint_blocks.0.context_block.adaLN_modulation.1.bias": (9216,)}), "Stable Diffusion 3"),
    "sd35": ({"joint_blocks.0.context_block.adaLN_modulation.1.bias": (14592,),
              "joint_blocks.37.x_block.mlp.fc1.weight": (9728, 2432)}, "Stable Diffusion 3.5"),
    "flux": ({"double_blocks.0.img_attn.norm.key_norm.scale": (128,), "img_in.weight": (3072, 64)}, "a Flux in"),
    "flux-fill": (core({"double_blocks.0.img_attn.norm.key_norm.scale": (128,), "img_in.weight": (3072, 384)}), "Fill"),
    "flux-control": ({"double_blocks.0.img_attn.norm.key_norm.scale": (128,), "img_in.weight": (3072, 128)}, "depth"),
    "flux2": ({"double_blocks.0.img_attn.norm.key_norm.scale": (128,),
               "single_stream_modulation.lin.weight": (18432, 6144)}, "Flux 2"),
    "chroma": ({"double_blocks.0.img_attn.norm.key_norm.scale": (128,),
                "distilled_guidance_layer.in_proj.bias": (5120,)}, "Chroma"),
    "zimage": ({"layers.0.adaLN_modulation.0.weight": (15360, 256), "cap_embedder.0.weight": (2560,)}, "Z-Image"),
    "lumina2": ({"layers.0.adaLN_modulation.1.weight": (9216, 1024), "cap_embedder.0.weight": (2304,)}, "Lumina"),
    "qwen": (core({"transformer_blocks.0.img_mlp.net.0.proj.weight": (12288, 3072)}), "Qwen"),
    "sana": ({"blocks.0.cross_attn.q_linear.weight": (2240, 2240),
              "blocks.0.mlp.inverted_conv.conv.weight": (11200, 2240, 1, 1)}, "Sana"),
    "pixart": ({"blocks.0.cross_attn.q_linear.weight": (1152, 1152)}, "PixArt"),
    "auraflow": ({"double_layers.0.attn.w2q.weight": (3072, 3072)}, "AuraFlow"),
    "video": (core({"head.modulation": (1, 2, 5120)}), "video"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_a_family_without_settings_is_named_and_refused(tmp_path: Path, kind: str) -> None:
    shapes, words = OTHERS[kind]
    assert kind_of(tensors(shapes)) == kind
    why = why_not(look(weights(tmp_path / "x.safetensors", shapes)))
    assert words in why
    assert "diffusers folder" in why or kind == "video"


@pytest.mark.parametrize("kind", SINGLES)
@pytest.mark.parametrize("part", ["first_stage_model.", "cond_stage_model.", "conditioner.embedders.1."])
def test_a_model_without_one_of_its_parts_says_which(tmp_path: Path, kind: str, part: str) -> None:
    whole = checkpoint(kind)
    rest = {name: shape for name, shape in whole.items() if not name.startswith(part)}
    if len(rest) == len(whole):
        return
    why = why_not(look(weights(tmp_path / "x.safetensors", rest)))
    assert ("no autoencoder" if part.startswith("first") else "no text encoder") in why


def test_packed_numbers_are_refused(tmp_path: Path) -> None:
    shapes = checkpoint("xl_base") | {"scaled_fp8": (2,)}
    assert "packed number format" in why_not(look(weights(tmp_path / "x.safetensors", shapes)))


def test_a_model_that_predicts_velocity_says_so(tmp_path: Path) -> None:
    shapes = checkpoint("xl_base") | {"v_pred": ()}
    assert card(look(weights(tmp_path / "x.safetensors", shapes))).notes == ("predicts velocity instead of noise",)


def test_parts_of_models_are_called_what_they_are(tmp_path: Path) -> None:
    for name, words in {
        "vision_model.embeddings.class_embedding": "image encoder",
        "encoder.block.0.layer.0.SelfAttention.q.weight": "T5",
        "text_model.encoder.layers.0.mlp.fc1.weight": "CLIP",
        "model.layers.0.self_attn.q_proj.weight": "GGUF",
        "down_blocks.0.resnets.0.conv1.weight": "model_index.json",
        "something.weight": "a kind the studio does not know",
    }.items():
        assert words in why_not(look(weights(tmp_path / "x.safetensors", {name: (4, 4)}))), name


def test_a_damaged_file_is_broken_whatever_it_held(tmp_path: Path) -> None:
    path = weights(tmp_path / "x.safetensors", checkpoint("v1"))
    with open(path, "rb+") as stream:
        stream.truncate(path.stat().st_size - 1)
    looked = look(path)
    assert isinstance(looked, Broken) and "incomplete" in looked.why
    for length in range(0, 100, 7):
        path.write_bytes(safetensors()[:length])
        assert not isinstance(look(path), ModelCard)


def test_single_files_are_listed_and_chosen_by_name(paths: Paths) -> None:
    path = weights(paths.models / "dream.safetensors", checkpoint("v1"))
    cards, broken = registry.found(paths)
    assert not broken
    assert registry.choose(cards, "image", "dream").path == str(path)
