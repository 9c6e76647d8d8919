"""What adds to a picture model is known by the names and shapes of its tensors, and what cannot be loaded is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.core.cards import ADDITIONS, Broken, Looked, ModelCard, NotThisKind
from studio.core.paths import Paths
from studio.models import registry
from studio.models.additions import Addition, addition_of
from studio.models.identify import look
from studio.models.safetensors_header import Tensor
from studio.models.single_file import kind_of
from tests.effort import effort
from tests.models.makers import edit_json, kohya_lora, picture_onnx, safetensors, voice, weights, write_json

Shapes = dict[str, tuple[int, ...]]


def card(looked: Looked) -> ModelCard:
    assert isinstance(looked, ModelCard), looked
    return looked


def why_not(looked: Looked) -> str:
    assert isinstance(looked, NotThisKind), looked
    return looked.why


def tensors(shapes: Shapes) -> dict[str, Tensor]:
    return {name: Tensor("F16", shape, (0, 0)) for name, shape in shapes.items()}


def seen(shapes: Shapes, metadata: dict[str, str] | None = None, stem: str = "") -> Addition:
    found = addition_of(tensors(shapes), metadata or {}, stem)
    assert isinstance(found, Addition), found
    return found


def pair(name: str, reads: int, writes: int = 64, rank: int = 16) -> Shapes:
    """One layer of a LoRA in the layout of peft."""
    return {f"{name}.lora_A.weight": (rank, reads), f"{name}.lora_B.weight": (writes, rank)}


# --- LoRAs


@pytest.mark.parametrize(
    ("width", "xl", "base"), [(768, False, "sd1"), (1024, False, "sd2"), (2048, True, "sdxl"), (256, False, "sd-256")]
)
def test_a_lora_of_kohya_is_for_the_width_it_reads(tmp_path: Path, width: int, xl: bool, base: str) -> None:
    made = card(look(weights(tmp_path / "Ink Style.safetensors", kohya_lora(width, rank=8, xl=xl))))
    assert (made.kind, made.engine, made.format) == ("lora", "image.diffusers", "safetensors")
    assert (made.name, made.family, made.base) == ("Ink Style", "lora", base)
    assert made.notes == ("rank 8",)
    assert made.bytes == (tmp_path / "Ink Style.safetensors").stat().st_size
    assert made.needs.number == 2


UNET = "unet.down_blocks.0.attentions.0.transformer_blocks.0"
LORAS: dict[str, tuple[Shapes, str]] = {
    "peft, 1.5": (pair(f"{UNET}.attn2.to_k", 768), "sd1"),
    "peft, XL": (pair(f"{UNET}.attn2.to_v", 2048), "sdxl"),
    "older diffusers": (
        {f"{UNET}.attn2.processor.to_k_lora.down.weight": (4, 768),
         f"{UNET}.attn2.processor.to_k_lora.up.weight": (320, 4)}, "sd1",
    ),
    "the starter's": (pair(f"{UNET}.attn2.to_k", 256), "sd-256"),
    "text encoder alone": (pair("text_encoder.text_model.encoder.layers.0.self_attn.q_proj", 1024), "sd2"),
    "Flux, diffusers": (pair("transformer.single_transformer_blocks.0.attn.to_q", 3072), "flux"),
    "Flux, its authors'": (
        pair("diffusion_model.double_blocks.0.img_attn.qkv", 3072)
        | pair("diffusion_model.single_blocks.0.linear1", 3072, 21_504), "flux",
    ),
    "Flux, kohya": (
        {"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": (4, 3072),
         "lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": (9216, 4),
         "lora_unet_double_blocks_0_img_attn_qkv.alpha": ()}, "flux",
    ),
    "Flux 2": (pair("diffusion_model.single_blocks.0.linear1", 6144, 55_296), "flux2"),
    "Flux 2 klein": (pair("diffusion_model.single_blocks.0.linear1", 3072, 27_648), "flux2"),
    "SD 3": (pair("transformer.transformer_blocks.0.attn.add_k_proj", 1536), "sd3"),
    "SD 3.5 large": (pair("transformer.transformer_blocks.0.attn.add_k_proj", 2432), "sd3"),
    "SD 3, its authors'": (pair("lora_unet_joint_blocks_0_x_block_attn_qkv", 1536), "sd3"),
    "Qwen": (pair("transformer.transformer_blocks.0.img_mlp.net.0.proj", 3072), "qwen"),
    "Qwen, attention alone": (pair("transformer.transformer_blocks.0.attn.add_k_proj", 3072)
                              | pair("transformer.transformer_blocks.59.attn.add_k_proj", 3072), "qwen"),
    "Flux, its first blocks": (pair("transformer.transformer_blocks.0.attn.to_q", 3072)
                               | pair("transformer.transformer_blocks.18.attn.to_q", 3072), "flux"),
    "SD 3, attention alone": (pair("transformer.transformer_blocks.0.attn.to_q", 1536), "sd3"),
    "Z-Image, tiny": (pair("transformer.layers.0.attention.to_q", 32), "zimage"),
    "CogView 4": (pair("transformer.transformer_blocks.0.attn1.to_q", 4096), "cogview4"),
    "Z-Image": (pair("diffusion_model.layers.0.attention.to_q", 3840), "zimage"),
    "Lumina 2": (pair("transformer.layers.0.attn.to_q", 2304), "lumina2"),
    "Sana": (pair("transformer.transformer_blocks.0.attn2.to_k", 2240), "sana"),
    "AuraFlow": (pair("transformer.joint_transformer_blocks.0.attn.to_q", 3072), "auraflow"),
}  # fmt: skip


@pytest.mark.parametrize("name", LORAS)
def test_a_lora_tells_its_base_by_its_layers(name: str) -> None:
    shapes, base = LORAS[name]
    found = seen(shapes)
    assert (found.kind, found.base) == ("lora", base)
    assert found.notes[0] in ("rank 4", "rank 16")


def test_the_metadata_of_a_lora_is_a_hint_and_its_weights_count() -> None:
    vague = pair("transformer.some_layer", 100)
    assert seen(vague).base == ""
    assert "does not tell" in seen(vague).notes[-1]
    for written, base in {"sdxl_base_v1-0": "sdxl", "sd_v1": "sd1", "flux1": "flux", "sd3-medium": "sd3"}.items():
        shapes = pair("unet.x.lora", 100) if base.startswith("sd") and base != "sd3" else vague
        assert seen(shapes, {"ss_base_model_version": written}).base == base, written
    assert seen(vague, {"modelspec.architecture": "Flux.1-dev/lora"}).base == "flux"
    assert seen(vague, {"modelspec.architecture": "flux-2-dev/lora"}).base == "flux2"
    wrong = seen(kohya_lora(768), {"ss_base_model_version": "sdxl_base_v1-0"})
    assert wrong.base == "sd1"
    assert wrong.notes[1] == "its file says SDXL, its weights say Stable Diffusion 1.5"


def test_the_words_a_lora_listens_to_are_the_tags_of_most_of_its_pictures() -> None:
    tags = {"10_ink": {"inkstyle": 40, " 1girl": 38, "tree": 3}, "5_more": {"inkstyle": 10}}
    found = seen(kohya_lora(768), {"ss_tag_frequency": json.dumps(tags)})
    assert found.notes[1] == "trigger words: inkstyle, 1girl"
    said = seen(kohya_lora(768), {"modelspec.trigger_phrase": "ink, wash", "ss_tag_frequency": json.dumps(tags)})
    assert said.notes[1] == "trigger words: ink, wash"
    for bad in ("", "{", "[1]", '{"a": [1]}', '{"a": {"b": "c"}}', "[" * 100_000, '{"a": {"b": -1}}', "null"):
        assert seen(kohya_lora(768), {"ss_tag_frequency": bad}).notes == ("rank 8",), bad[:20]


CANNOT: dict[str, tuple[Shapes, str]] = {
    "LoHa": ({"lora_unet_x.hada_w1_a": (4, 4), "lora_unet_x.hada_w1_b": (4, 4)}, "LoHa"),
    "LoKr for 1.5": ({"lora_unet_down_blocks_0.lokr_w1": (4, 4), "lora_unet_down_blocks_0.lokr_w2": (4, 4)}, "LoKr"),
    "OFT": ({"oft_unet_x.oft_blocks": (4, 4, 4)}, "OFT"),
    "DoRA": (kohya_lora(768) | {"lora_unet_x.dora_scale": (1, 320)}, "DoRA"),
    "whole layers": (kohya_lora(768) | {"lora_unet_x.diff": (320, 320)}, "replaces whole layers"),
    "Tucker": (kohya_lora(768) | {"lora_unet_x.lora_mid.weight": (4, 4, 3, 3)}, "Tucker"),
    "an embedding inside": (kohya_lora(768) | {"bundle_emb.a.string_to_param.*": (1, 768)}, "bundle_emb.a"),
    "a video's": (pair("diffusion_model.blocks.0.self_attn.q", 5120), "video"),
    "LLLite": ({"lllite_unet_x.down.0.weight": (4, 4)}, "LLLite"),
    "a control LoRA": ({"lora_controlnet": (0,), "input_blocks.1.0.in_layers.2.down": (4, 4)}, "control LoRA"),
}


@pytest.mark.parametrize("name", CANNOT)
def test_what_the_libraries_cannot_load_is_told_in_a_sentence(tmp_path: Path, name: str) -> None:
    shapes, words = CANNOT[name]
    why = why_not(look(weights(tmp_path / "x.safetensors", shapes)))
    assert words in why
    assert why.startswith("it is a")


def test_a_lokr_is_loaded_where_its_loader_knows_it() -> None:
    found = seen({"diffusion_model.layers.0.attention.to_q.lokr_w1": (4, 4),
                  "diffusion_model.layers.0.attention.to_q.lokr_w2": (4, 4),
                  "diffusion_model.layers.0.attention.to_q.alpha": ()},
                 {"modelspec.architecture": "z-image"})  # fmt: skip
    assert (found.family, found.base) == ("lokr", "zimage")


# --- embeddings


@pytest.mark.parametrize(
    ("shapes", "base"),
    [
        ({"emb_params": (8, 768)}, "sd1"),
        ({"<cat-toy>": (1024,)}, "sd2"),
        ({"clip_l": (2, 768), "clip_g": (2, 1280)}, "sdxl"),
        ({"clip_g": (2, 1280)}, "sdxl"),
        ({"mytoken": (3, 256)}, "sd-256"),
        ({"clip_l": (2, 768), "t5": (2, 4096)}, "flux"),
    ],
)
def test_an_embedding_is_for_the_width_of_its_vectors(tmp_path: Path, shapes: Shapes, base: str) -> None:
    made = card(look(weights(tmp_path / "easy negative.safetensors", shapes)))
    assert (made.kind, made.family, made.base) == ("embedding", "textual-inversion", base)
    assert "token" in made.notes[0]


def test_a_vocabulary_or_a_lone_layer_is_no_embedding() -> None:
    for shapes in ({"emb": (49_408, 768)}, {"x.weight": (8, 768)}, {"bias": (768,)}, {"emb_params": (8, 4)}):
        assert addition_of(tensors(shapes), {}) is None, shapes


# --- control and reference models

ORIGINAL = {
    "control_model.time_embed.0.weight": (1280, 320),
    "control_model.input_hint_block.0.weight": (16, 3, 3, 3),
    "control_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
}
DIFFUSERS = {
    "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": (640, 2048),
    "add_embedding.linear_1.weight": (1280, 2816),
}


@pytest.mark.parametrize(("shapes", "base"), [(ORIGINAL, "sd1"), (DIFFUSERS, "sdxl")])
def test_a_controlnet_in_a_file_is_a_control_model(tmp_path: Path, shapes: Shapes, base: str) -> None:
    made = card(look(weights(tmp_path / "canny.safetensors", shapes)))
    assert (made.kind, made.family, made.base, made.format) == ("control", "controlnet", base, "safetensors")


def test_control_models_that_need_their_settings_say_so(tmp_path: Path) -> None:
    for shapes in (
        {"adapter.conv_in.weight": (320, 192, 3, 3), "adapter.body.0.resnets.0.block1.weight": (320, 320, 3, 3)},
        {"controlnet_x_embedder.weight": (3072, 64), "transformer_blocks.0.attn.to_q.weight": (3072, 3072)},
        DIFFUSERS | {"task_embedding": (6, 320)},
    ):
        assert "config.json" in why_not(look(weights(tmp_path / "x.safetensors", shapes)))


def part(folder: Path, made_by: str, **config: object) -> Path:
    write_json(folder / "config.json", {"_class_name": made_by, **config})
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(safetensors())
    return folder


@pytest.mark.parametrize(
    ("made_by", "config", "family", "base"),
    [
        ("ControlNetModel", {"cross_attention_dim": 768}, "controlnet", "sd1"),
        ("ControlNetModel", {"cross_attention_dim": 2048, "addition_embed_type": "text_time"}, "controlnet", "sdxl"),
        ("ControlNetModel", {"cross_attention_dim": 256}, "controlnet", "sd-256"),
        ("ControlNetUnionModel", {}, "controlnet-union", "sdxl"),
        ("SD3ControlNetModel", {}, "controlnet", "sd3"),
        ("FluxControlNetModel", {}, "controlnet", "flux"),
        ("T2IAdapter", {"adapter_type": "full_adapter_xl", "channels": [320]}, "t2i-adapter", "sdxl"),
        ("T2IAdapter", {"adapter_type": "full_adapter", "channels": [320]}, "t2i-adapter", "sd1"),
        ("T2IAdapter", {"adapter_type": "full_adapter", "channels": [96]}, "t2i-adapter", ""),
    ],
)
def test_a_folder_of_a_control_model_is_known_by_its_class(
    tmp_path: Path, made_by: str, config: dict[str, object], family: str, base: str
) -> None:
    made = card(look(part(tmp_path / "Canny", made_by, **config)))
    assert (made.kind, made.family, made.base, made.format) == ("control", family, base, "diffusers")
    assert made.name == "Canny"


def test_a_broken_folder_of_a_control_model_is_broken(tmp_path: Path) -> None:
    folder = part(tmp_path / "c", "ControlNetModel")
    file = folder / "diffusion_pytorch_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    looked = look(folder)
    assert isinstance(looked, Broken) and "incomplete" in looked.why
    file.unlink()
    (folder / "diffusion_pytorch_model.bin").write_bytes(b"x")
    looked = look(folder)
    assert isinstance(looked, Broken) and looked.code == "model_refused"
    file.write_bytes(whole)
    (folder / "model.py").write_text("")
    looked = look(folder)
    assert isinstance(looked, Broken) and looked.code == "model_refused"
    (folder / "model.py").unlink()
    edit_json(folder / "config.json", auto_map={"AutoModel": "x.Y"})
    looked = look(folder)
    assert isinstance(looked, Broken) and looked.code == "model_refused"


def test_another_part_of_a_diffusers_model_is_no_addition(tmp_path: Path) -> None:
    for made_by in ("UNet2DConditionModel", "SparseControlNetModel", "AutoencoderKLWan"):
        assert "one part of a diffusers model" in why_not(look(part(tmp_path / made_by, made_by)))


@pytest.mark.parametrize(
    ("shapes", "base"),
    [
        ({"image_proj.proj.weight": (3072, 1024), "ip_adapter.1.to_k_ip.weight": (320, 768)}, "sd1"),
        ({"image_proj.proj_in.weight": (1280, 1280), "ip_adapter.1.to_k_ip.weight": (640, 2048)}, "sdxl"),
        ({"image_proj.proj.weight": (1024, 12), "ip_adapter.1.to_k_ip.weight": (96, 256)}, "sd-256"),
        ({"ip_adapter_proj_model.proj.weight": (16_384, 768),
          "double_blocks.0.processor.ip_adapter_double_stream_k_proj.weight": (3072, 4096)}, "flux"),
    ],
)  # fmt: skip
def test_an_ip_adapter_is_a_reference_model(tmp_path: Path, shapes: Shapes, base: str) -> None:
    made = card(look(weights(tmp_path / "ip-adapter.safetensors", shapes)))
    assert (made.kind, made.family, made.base) == ("reference", "ip-adapter", base)
    assert "image_encoder" in made.notes[0]


def test_an_ip_adapter_for_faces_says_what_it_needs() -> None:
    shapes: Shapes = {"image_proj.proj.0.weight": (1024, 512), "ip_adapter.0.to_q_lora.down.weight": (128, 320)}
    found = addition_of(tensors(shapes), {})
    assert isinstance(found, NotThisKind) and "faces" in found.why


def test_an_ip_adapter_with_its_encoder_is_found_in_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "IP"
    write_json(folder / "image_encoder" / "config.json", {"model_type": "clip_vision_model"})
    weights(
        folder / "ip.safetensors", {"image_proj.proj.weight": (3072, 1024), "ip_adapter.1.to_k_ip.weight": (1, 768)}
    )
    made = card(look(folder))
    assert (made.path, made.notes) == (str(folder / "ip.safetensors"), ())
    assert "image encoder" in why_not(look(folder / "image_encoder"))


def test_the_encoder_of_an_ip_adapter_is_not_listed_by_itself(paths: Paths) -> None:
    write_json(paths.models / "image_encoder" / "config.json", {"model_type": "clip_vision_model"})
    shapes = {"image_proj.proj.weight": (3072, 1024), "ip_adapter.1.to_k_ip.weight": (320, 768)}
    weights(paths.models / "ip.safetensors", shapes)
    cards, broken = registry.found(paths)
    assert not broken
    assert [c.kind for c in cards if c.source == "data"] == ["reference"]


# --- autoencoders


@pytest.mark.parametrize(
    ("stem", "channels", "original", "base"),
    [("vae-ft-mse", 4, True, ""), ("sdxl_vae", 4, False, "sdxl"), ("ae", 16, True, "flux"), ("my vae", 16, False, "")],
)
def test_an_autoencoder_in_a_file(tmp_path: Path, stem: str, channels: int, original: bool, base: str) -> None:
    up = "decoder.up.0.block.0.conv1.weight" if original else "decoder.up_blocks.0.resnets.0.conv1.weight"
    shapes = {
        "encoder.conv_in.weight": (128, 3, 3, 3),
        "decoder.conv_in.weight": (512, channels, 3, 3),
        up: (8, 8, 3, 3),
    }
    made = card(look(weights(tmp_path / f"{stem}.safetensors", shapes)))
    assert (made.kind, made.family, made.base) == ("vae", "AutoencoderKL", base)
    assert made.notes == (f"{channels} latent channels",)


def test_an_autoencoder_in_a_folder_is_for_the_base_its_scaling_tells(tmp_path: Path) -> None:
    for factor, channels, base in ((0.18215, 4, ""), (0.13025, 4, "sdxl"), (0.3611, 16, "flux"), (1.5305, 16, "sd3")):
        folder = part(tmp_path / str(factor), "AutoencoderKL", latent_channels=channels, scaling_factor=factor)
        made = card(look(folder))
        assert (made.kind, made.family, made.base) == ("vae", "AutoencoderKL", base)
    strange = part(tmp_path / "s", "AutoencoderKL", latent_channels="4", scaling_factor=float("nan"))
    assert card(look(strange)).notes == ()


def test_an_autoencoder_of_videos_is_told(tmp_path: Path) -> None:
    shapes = {"encoder.conv_in.weight": (128, 3, 3, 3, 3), "decoder.conv_in.weight": (512, 16, 3, 3, 3)}
    assert "videos" in why_not(look(weights(tmp_path / "x.safetensors", shapes)))


# --- upscalers

W = (64, 64, 3, 3)


def esrgan(scale: int, folded: int = 1) -> Shapes:
    doublings = {1: 0, 2: 1, 4: 2, 8: 3}[scale]
    last = 4 + 3 * doublings
    return {"model.0.weight": (64, 3 * folded**2, 3, 3), "model.1.sub.0.RDB1.conv1.0.weight": W,
            **{f"model.{3 * (n + 1)}.weight": W for n in range(doublings)},
            f"model.{last - 2}.weight": W, f"model.{last}.weight": (3, 64, 3, 3)}  # fmt: skip


SWIN: Shapes = {
    "conv_first.weight": (180, 3, 3, 3), "layers.0.residual_group.blocks.0.norm1.weight": (180,),
    "layers.0.residual_group.blocks.0.attn.relative_position_index": (64, 64),
}  # fmt: skip
UPSCALERS: dict[str, tuple[Shapes, str, int]] = {
    "ESRGAN": (esrgan(4), "esrgan", 4),
    "ESRGAN, twice": (esrgan(2), "esrgan", 2),
    "ESRGAN, folded": (esrgan(4, 2), "esrgan", 2),
    "Real-ESRGAN": ({"conv_first.weight": (64, 3, 3, 3), "body.0.rdb1.conv1.weight": W, "conv_body.weight": W,
                     "conv_up1.weight": W, "conv_up2.weight": W, "conv_last.weight": (3, 64, 3, 3)}, "esrgan", 4),
    "BSRGAN": ({"conv_first.weight": (64, 3, 3, 3), "RRDB_trunk.0.RDB1.conv1.weight": W, "trunk_conv.weight": W,
                "upconv1.weight": W, "conv_last.weight": (3, 64, 3, 3)}, "esrgan", 2),
    "Compact": ({"body.0.weight": (64, 3, 3, 3), "body.1.weight": (64,), "body.2.weight": (48, 64, 3, 3)}, "compact",
                4),
    "SPAN": ({"conv_1.sk.weight": (48, 3, 1, 1), "block_1.c1_r.sk.weight": (48, 48, 1, 1),
              "upsampler.0.weight": (12, 48, 3, 3)}, "span", 2),
    "SwinIR": (SWIN | {"conv_before_upsample.0.weight": W, "upsample.0.weight": (256, 64, 3, 3),
                       "upsample.2.weight": (256, 64, 3, 3), "conv_last.weight": (3, 64, 3, 3)}, "swinir", 4),
    "SwinIR, real": (SWIN | {"conv_before_upsample.0.weight": W, "conv_up1.weight": W, "conv_up2.weight": W},
                     "swinir", 4),
    "SwinIR, small": (SWIN | {"upsample.0.weight": (27, 60, 3, 3)}, "swinir", 3),
    "DAT": ({"conv_first.weight": (180, 3, 3, 3), "before_RG.1.weight": (180,),
             "layers.0.blocks.0.attn.qkv.weight": (540, 180), "layers.0.blocks.0.ffn.fc1.weight": (720, 180),
             "upsample.0.weight": (48, 180, 3, 3)}, "dat", 4),
    "HAT": ({"relative_position_index_SA": (256, 256), "conv_first.weight": (180, 3, 3, 3),
             "layers.0.residual_group.blocks.0.norm1.weight": (180,),
             "layers.0.residual_group.blocks.0.conv_block.cab.0.weight": W, "upsample.0.weight": (576, 64, 3, 3)},
            "hat", 3),
    "PLKSR": ({"feats.0.weight": (64, 3, 3, 3), "feats.1.lk.conv.weight": W, "feats.1.refine.weight": W,
               "feats.9.weight": (48, 64, 3, 3)}, "plksr", 4),
}  # fmt: skip


@pytest.mark.parametrize("name", UPSCALERS)
def test_an_upscaler_tells_how_much_it_enlarges(tmp_path: Path, name: str) -> None:
    shapes, family, scale = UPSCALERS[name]
    made = card(look(weights(tmp_path / "4x.safetensors", shapes)))
    assert (made.kind, made.engine, made.family, made.base) == ("upscale", "image.upscale", family, "")
    assert made.notes == (f"enlarges {scale} times",)


def test_names_that_were_kept_one_level_deeper_are_the_same_upscaler() -> None:
    found = seen({f"params_ema.{name}": shape for name, shape in esrgan(4).items()})
    assert (found.kind, found.family, found.notes) == ("upscale", "esrgan", ("enlarges 4 times",))


def test_a_pickle_with_the_ending_of_an_upscaler_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "4x-UltraSharp.pth"
    path.write_bytes(b"PK\x03\x04 data.pkl")
    looked = look(path)
    assert isinstance(looked, Broken) and looked.code == "model_refused"
    assert ".safetensors" in looked.hint


# --- cut-outs


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("stem", "inputs", "outputs", "family", "side"),
    [
        ("u2net", (1, 3, 320, 320), (1, 1, 320, 320), "u2net", 320),
        ("isnet-general-use", (1, 3, 1024, 1024), (1, 1, 1024, 1024), "isnet", 1024),
        ("BiRefNet-lite", (1, 3, 1024, 1024), (1, 1, 1024, 1024), "birefnet", 1024),
        ("RMBG-1.4", (1, 3, 0, 0), (1, 1, 0, 0), "rmbg", None),
        ("my masks", (0, 3, 512, 512), (0, 1, 512, 512), "mask", 512),
        ("modnet", (0, 3, 0, 0), (0, 0, 0, 0), "modnet", None),
    ],
)
def test_a_network_from_a_picture_to_a_mask_is_a_cut_out_model(
    tmp_path: Path, stem: str, inputs: tuple[int, ...], outputs: tuple[int, ...], family: str, side: int | None
) -> None:
    made = card(look(put(tmp_path / f"{stem}.onnx", picture_onnx(inputs, outputs))))
    assert (made.kind, made.engine, made.format, made.family) == ("cutout", "image.cutout", "onnx", family)
    assert (made.limits.width, made.limits.height) == (side, side)


def test_other_networks_are_no_cut_out_models(tmp_path: Path) -> None:
    for inputs, outputs in (
        ((1, 3, 224, 224), (1, 1000)),  # says what is in it
        ((1, 3, 64, 64), (1, 3, 256, 256)),  # enlarges
        ((1, 1, 320, 320), (1, 1, 320, 320)),
        ((4, 3, 320, 320), (4, 1, 320, 320)),
        ((1, 3, 320), (1, 1, 320, 320)),
        ((), ()),
        ((1,) * 40, (1, 1, 320, 320)),
    ):
        assert "neither" in why_not(look(put(tmp_path / "x.onnx", picture_onnx(inputs, outputs)))), (inputs, outputs)


def test_a_voice_is_no_cut_out_model(tmp_path: Path) -> None:
    assert card(look(voice(tmp_path, "u2net"))).kind == "speech"


def test_half_a_cut_out_model_is_broken(tmp_path: Path) -> None:
    data = picture_onnx()
    for length in range(1, len(data)):
        assert not isinstance(look(put(tmp_path / "u2net.onnx", data[:length])), ModelCard), length


# --- all of them


def test_additions_are_listed_with_ids_of_their_own_and_once_each(paths: Paths) -> None:
    folder = paths.models / "loras"
    (folder / "sub").mkdir(parents=True)
    first = weights(folder / "ink.safetensors", kohya_lora(768))
    second = weights(folder / "sub" / "ink.safetensors", kohya_lora(768, rank=4))
    (folder / "copy.safetensors").write_bytes(second.read_bytes())
    (paths.models / "upscalers").mkdir()
    weights(paths.models / "upscalers" / "4x.safetensors", esrgan(4))
    (folder / "half.safetensors").write_bytes(first.read_bytes()[:-5])
    cards, broken = registry.found(paths)
    found = [c for c in cards if c.kind in ADDITIONS]
    assert [(c.kind, c.name) for c in found] == [("lora", "copy"), ("lora", "ink"), ("upscale", "4x")]
    assert len({c.id for c in cards}) == len(cards)
    assert [path.name for path, _ in broken] == ["half.safetensors"]
    assert "incomplete" in broken[0][1].why
    assert registry.choose(cards, "lora", "ink").path == str(first)
    assert registry.choose(cards, "upscale", "4x.safetensors").kind == "upscale"


def test_what_is_written_beside_an_addition_is_its_name_and_licence(tmp_path: Path) -> None:
    path = weights(tmp_path / "a.safetensors", kohya_lora(768))
    write_json(tmp_path / "a.safetensors.studio.json", {"name": "Ink", "licence": "CC0", "defaults": {"steps": 4}})
    made = card(look(path))
    assert (made.kind, made.name, made.licence, made.defaults) == ("lora", "Ink", "CC0", {})


def test_a_file_with_the_name_that_libraries_give_is_called_like_its_folder(tmp_path: Path) -> None:
    (tmp_path / "Ink wash").mkdir()
    path = weights(tmp_path / "Ink wash" / "pytorch_lora_weights.safetensors", kohya_lora(768))
    assert card(look(path)).name == "Ink wash"
    assert card(look(tmp_path / "Ink wash")).path == str(path)


_SCRAPS = sorted(
    {n for shapes, *_ in (*LORAS.values(), *CANNOT.values(), *UPSCALERS.values()) for n in shapes}
    | set(ORIGINAL) | set(DIFFUSERS) | {"emb_params", "clip_l", "model.0.weight", "model.99999.weight", "body.x.weight"}
)  # fmt: skip
_NAMES = st.one_of(st.sampled_from(_SCRAPS), st.text(max_size=40))
_SHAPES = st.one_of(
    st.lists(st.sampled_from([0, 1, 3, 4, 9, 64, 768, 2048, 2**62]), max_size=5).map(tuple), st.just(())
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(_NAMES, _SHAPES, max_size=8),
    st.dictionaries(
        st.sampled_from(["ss_tag_frequency", "ss_base_model_version", "modelspec.architecture", "base_model"]),
        st.text(max_size=60),
    ),
    st.text(max_size=10),
)
def test_no_header_whatever_raises(shapes: Shapes, metadata: dict[str, str], stem: str) -> None:
    found = addition_of(tensors(shapes), metadata, stem)
    assert found is None or isinstance(found, Addition | NotThisKind)
    assert isinstance(kind_of(tensors(shapes)), str)


def test_a_header_of_very_many_names_is_looked_through_quickly(tmp_path: Path) -> None:
    shapes: Shapes = {f"some.layer.number.{n}.of.many.weight": () for n in range(100_000)}
    listed = tensors(shapes)
    assert effort(lambda: addition_of(listed, {})) < 2
    assert effort(lambda: kind_of(listed)) < 2
