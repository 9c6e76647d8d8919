"""A picture model in one file makes the same pictures as the folder it was made from, and never asks the network."""

from __future__ import annotations

import json
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.core.problems import EngineMissing, ModelBroken, ModelMissing, ModelRefused, ModelUnfit
from studio.engines.image.single import clip_tokenizer, open_single
from tests.engines.image import tiny

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
UNET = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0", "conv_out": "out.2", "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip


def original_unet(unet: Any) -> dict[str, Any]:
    """The weights under the names that Stable Diffusion's authors use: blocks counted through, three kinds of them."""
    moves = dict(UNET)

    def block(old: tuple[str, str], new: str, attends: bool) -> None:
        moves.update({f"{old[0]}.{old_name}": f"{new}.0.{name}" for old_name, name in RESNET.items()})
        if attends:
            moves[old[1]] = f"{new}.1"

    number = 1
    for level, down in enumerate(unet.down_blocks):
        attends = bool(getattr(down, "attentions", None))
        for at in range(len(down.resnets)):
            place = f"down_blocks.{level}"
            block((f"{place}.resnets.{at}", f"{place}.attentions.{at}"), f"input_blocks.{number}", attends)
            number += 1
        if down.downsamplers:
            moves[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{number}.0.op"
            number += 1
    moves.update(
        {
            f"mid_block.resnets.{at}.{old}": f"middle_block.{2 * at}.{new}"
            for at in (0, 1)
            for old, new in RESNET.items()
        }
    )
    moves["mid_block.attentions.0"] = "middle_block.1"
    number = 0
    for level, up in enumerate(unet.up_blocks):
        attends = bool(getattr(up, "attentions", None))
        for at in range(len(up.resnets)):
            place = f"up_blocks.{level}"
            block((f"{place}.resnets.{at}", f"{place}.attentions.{at}"), f"output_blocks.{number}", attends)
            number += 1
        if up.upsamplers:
            moves[f"up_blocks.{level}.upsamplers.0.conv"] = f"output_blocks.{number - 1}.{2 if attends else 1}.conv"
    return renamed(unet.state_dict(), moves, "model.diffusion_model.")


def original_vae(vae: Any) -> dict[str, Any]:
    moves = {}
    for half, old, new in (("encoder", "down", "down"), ("decoder", "up", "up")):
        blocks = getattr(vae, half)
        levels = getattr(blocks, f"{old}_blocks")
        for level, made in enumerate(levels):
            there = level if old == "down" else len(levels) - 1 - level
            for at in range(len(made.resnets)):
                moves[f"{half}.{old}_blocks.{level}.resnets.{at}.conv_shortcut"] = (
                    f"{half}.{new}.{there}.block.{at}.nin_shortcut"
                )
                moves[f"{half}.{old}_blocks.{level}.resnets.{at}"] = f"{half}.{new}.{there}.block.{at}"
            moves[f"{half}.{old}_blocks.{level}.{old}samplers.0.conv"] = f"{half}.{new}.{there}.{old}sample.conv"
        for at in (0, 1):
            moves[f"{half}.mid_block.resnets.{at}"] = f"{half}.mid.block_{at + 1}"
        for old_name, name in {
            "group_norm": "norm",
            "to_q": "q",
            "to_k": "k",
            "to_v": "v",
            "to_out.0": "proj_out",
        }.items():
            moves[f"{half}.mid_block.attentions.0.{old_name}"] = f"{half}.mid.attn_1.{name}"
        moves[f"{half}.conv_norm_out"] = f"{half}.norm_out"
    named = renamed(vae.state_dict(), moves, "first_stage_model.")
    as_convolution = (".q.weight", ".k.weight", ".v.weight", ".proj_out.weight")
    return {n: t[:, :, None, None] if n.endswith(as_convolution) and "attn_1" in n else t for n, t in named.items()}


def renamed(weights: dict[str, Any], moves: dict[str, str], prefix: str) -> dict[str, Any]:
    made = {}
    for name, value in weights.items():
        start = max((old for old in moves if name.startswith(f"{old}.")), key=len, default="")
        made[prefix + (moves[start] + name[len(start) :] if start else name)] = value
    return made


def original_clip(encoder: Any, prefix: str) -> dict[str, Any]:
    bare = {n.removeprefix("text_model."): t for n, t in encoder.state_dict().items()}
    return {f"{prefix}transformer.text_model.{n}": t for n, t in bare.items() if not n.startswith("text_projection")}


def original_open_clip(encoder: Any, prefix: str) -> dict[str, Any]:
    import torch

    weights = {n.removeprefix("text_model."): t for n, t in encoder.state_dict().items()}
    moves = {"embeddings.position_embedding.weight": "positional_embedding",
             "embeddings.token_embedding.weight": "token_embedding.weight",
             "final_layer_norm.weight": "ln_final.weight", "final_layer_norm.bias": "ln_final.bias"}  # fmt: skip
    made = {prefix + new: weights[old] for old, new in moves.items()}
    made[f"{prefix}text_projection"] = weights["text_projection.weight"].T.contiguous()
    inner = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
             "self_attn.out_proj": "attn.out_proj"}  # fmt: skip
    for layer in range(encoder.config.num_hidden_layers):
        old, new = f"encoder.layers.{layer}", f"{prefix}transformer.resblocks.{layer}"
        for kind in ("weight", "bias"):
            three = [weights[f"{old}.self_attn.{one}_proj.{kind}"] for one in "qkv"]
            made[f"{new}.attn.in_proj_{kind}"] = torch.cat(three)
            made.update({f"{new}.{name}.{kind}": weights[f"{old}.{part}.{kind}"] for part, name in inner.items()})
    return made


def leftovers(xl: bool) -> dict[str, Any]:
    """What genuine files hold besides: tables of a training, positions, and weights of no further use."""
    import torch

    one, two = "conditioner.embedders.0.", "conditioner.embedders.1.model."
    clip = one if xl else "cond_stage_model."
    made = {f"{clip}transformer.text_model.embeddings.position_ids": torch.arange(20)[None]}
    made |= {name: torch.rand(1000) for name in ("betas", "alphas_cumprod", "sqrt_alphas_cumprod")}
    made |= {"model_ema.decay": torch.ones(()), "model_ema.diffusion_modelout2bias": torch.rand(4)}
    made |= {"denoiser.sigmas": torch.rand(1000), f"{two}logit_scale": torch.ones(())} if xl else {}
    return made


def save_single(pipe: Any, file: Path) -> Path:
    from safetensors.torch import save_file

    weights = original_unet(pipe.unet) | original_vae(pipe.vae)
    if hasattr(pipe, "text_encoder_2"):
        weights |= original_clip(pipe.text_encoder, "conditioner.embedders.0.")
        weights |= original_open_clip(pipe.text_encoder_2, "conditioner.embedders.1.model.")
    else:
        weights |= original_clip(pipe.text_encoder, "cond_stage_model.")
    weights |= leftovers("text_encoder_2" in pipe.components)
    save_file({n: t.contiguous() for n, t in weights.items()}, str(file))
    return file


@pytest.fixture(autouse=True)
def _no_network_and_no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*args: object, **more: object) -> None:
        raise AssertionError("the network was asked, or a pickle opened")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, ask)
    monkeypatch.setattr(socket, "getaddrinfo", ask)
    monkeypatch.setattr(pickle, "load", ask)
    monkeypatch.setattr("torch.load", ask)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Path, Path]]:
    """A tiny pipeline of a family, the folder of its settings, and its weights in one file."""
    home, kept = tmp_path_factory.mktemp("single"), {}

    def get(family: str) -> tuple[Any, Path, Path]:
        if family not in kept:
            kept[family] = _made(family, home)
        return kept[family]

    return get


def _made(family: str, home: Path) -> tuple[Any, Path, Path]:
    import torch
    from diffusers import DiffusionPipeline, StableDiffusionInpaintPipeline
    from transformers import CLIPTextModelWithProjection

    torch.set_num_threads(1)
    pipe = DiffusionPipeline.from_pretrained(
        str(tiny.save_tiny(family.split("-")[0], home / family)), local_files_only=True
    )
    with torch.random.fork_rng():
        torch.manual_seed(11)
        if family == "sdxl":
            # two encoders of equal width cannot be told apart in a file, and genuine ones are of 768 and 1,280
            config = pipe.text_encoder_2.config
            config.hidden_size, config.projection_dim = 24, 24
            pipe.register_modules(text_encoder_2=CLIPTextModelWithProjection(config).eval())
            unet = type(pipe.unet).from_config(
                {**pipe.unet.config, "cross_attention_dim": 40, "projection_class_embeddings_input_dim": 72}
            )
            pipe.register_modules(unet=unet.eval())
        if family == "sd-inpaint":
            unet = type(pipe.unet).from_config({**pipe.unet.config, "in_channels": 9}).eval()
            parts = {**pipe.components, "unet": unet}
            pipe = StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    folder = home / f"{family}-settings"
    pipe.save_pretrained(folder, safe_serialization=True)
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    return pipe, folder, save_single(pipe, home / f"{family}.safetensors")


def drawn(pipe: Any) -> bytes:
    import torch
    from PIL import Image

    more: dict[str, Any] = {}
    if "Inpaint" in type(pipe).__name__:
        more = {
            "image": Image.new("RGB", (64, 64), "red"),
            "mask_image": Image.new("L", (64, 64), 255),
            "strength": 1.0,
        }
    generator = torch.Generator("cpu").manual_seed(5)
    made = pipe(
        "a red apple", width=64, height=64, num_inference_steps=2, generator=generator, output_type="np", **more
    )
    return bytes(made.images.tobytes())


FAMILIES = {
    "sd": "StableDiffusionPipeline", "sd-inpaint": "StableDiffusionInpaintPipeline",
    "sdxl": "StableDiffusionXLPipeline",
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_makes_the_pictures_of_the_folder_it_was_made_from(
    made: Callable[[str], tuple[Any, Path, Path]], family: str
) -> None:
    pipe, settings, file = made(family)
    opened = open_single(str(file), "tiny", FAMILIES[family], "cpu", "float32", config=settings)
    assert type(opened).__name__ == FAMILIES[family]
    for part in ("unet", "vae", "text_encoder"):
        ours, theirs = getattr(opened, part).state_dict(), getattr(pipe, part).state_dict()
        assert set(ours) == set(theirs)
        assert all(ours[name].equal(theirs[name]) for name in ours), part
    assert drawn(opened) == drawn(pipe)


def test_weights_that_are_missing_are_told(made: Callable[[str], tuple[Any, Path, Path]], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    _, settings, file = made("sd")
    for gone in ("model.diffusion_model.out.2.weight", "cond_stage_model.transformer.text_model.final_layer_norm.bias",
                 "first_stage_model.decoder.conv_out.weight"):  # fmt: skip
        weights = load_file(file)
        weights.pop(gone)
        save_file(weights, tmp_path / "x.safetensors")
        with pytest.raises(ModelBroken, match=r"“tiny” is broken: .*weights are missing"):
            open_single(str(tmp_path / "x.safetensors"), "tiny", FAMILIES["sd"], "cpu", "float32", config=settings)


def test_weights_of_another_size_are_told(made: Callable[[str], tuple[Any, Path, Path]]) -> None:
    _, _, file = made("sd")
    with pytest.raises(ModelBroken, match="“tiny” cannot be loaded"):
        open_single(str(file), "tiny", FAMILIES["sd"], "cpu", "float32")  # with the settings of a genuine one


def test_what_a_network_predicts_reaches_its_scheduler(
    made: Callable[[str], tuple[Any, Path, Path]], tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    _, settings, file = made("sdxl")
    path = str(tmp_path / "x.safetensors")
    save_file(load_file(file) | {"v_pred": torch.zeros(1), "ztsnr": torch.zeros(1)}, path)
    opened = open_single(path, "tiny", FAMILIES["sdxl"], "cpu", "float32", config=settings)
    assert opened.scheduler.config.prediction_type == "v_prediction"
    assert opened.scheduler.config.rescale_betas_zero_snr is True


def test_a_family_without_settings_is_refused_in_a_sentence(made: Callable[[str], tuple[Any, Path, Path]]) -> None:
    _, _, file = made("sd")
    with pytest.raises(ModelUnfit, match="a FluxPipeline in a single file") as caught:
        open_single(str(file), "tiny", "FluxPipeline", "cpu", "float32")
    assert "diffusers folder" in caught.value.problem.hint


def test_what_is_no_safetensors_file_is_not_opened(
    made: Callable[[str], tuple[Any, Path, Path]], tmp_path: Path
) -> None:
    _, settings, file = made("sd")

    def opening(path: Path, config: Path | None = settings) -> Any:
        return open_single(str(path), "tiny", FAMILIES["sd"], "cpu", "float32", config=config)

    with pytest.raises(ModelMissing):
        opening(tmp_path / "no.safetensors")
    pickled = tmp_path / "p.safetensors"
    pickled.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ModelRefused, match="pickle"):
        opening(pickled)
    renamed_file = tmp_path / "m.ckpt"
    renamed_file.write_bytes(file.read_bytes())
    with pytest.raises(ModelRefused, match=r"\.safetensors"):
        opening(renamed_file)
    half = tmp_path / "half.safetensors"
    half.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ModelBroken, match="incomplete"):
        opening(half)
    with pytest.raises(EngineMissing, match="settings"):
        opening(file, tmp_path)  # diffusers would ask a hub for them


def test_the_shipped_settings_describe_networks_that_diffusers_can_build() -> None:
    import torch
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    from studio.core.paths import assets_folder

    millions = {"sd1": (859, 84, 123), "sdxl": (2567, 84, 123, 695)}
    for name, wanted in millions.items():
        folder = assets_folder() / "configs" / name
        settings = {p.parent.name: json.loads(p.read_text("utf-8")) for p in folder.glob("*/config.json")}
        with init_empty_weights():
            parts: list[torch.nn.Module] = [
                UNet2DConditionModel.from_config(settings["unet"]), AutoencoderKL.from_config(settings["vae"]),
                CLIPTextModel(CLIPTextConfig(**settings["text_encoder"])),
            ]  # fmt: skip
            if "text_encoder_2" in settings:
                parts.append(CLIPTextModelWithProjection(CLIPTextConfig(**settings["text_encoder_2"])))
        counts = tuple(round(sum(p.numel() for p in part.parameters()) / 1e6) for part in parts)
        assert all(abs(count - want) <= 1 for count, want in zip(counts, wanted, strict=True)), (name, counts)


def test_the_shipped_tokenizer_reads_as_clip_does() -> None:
    tokenizer = clip_tokenizer()
    assert len(tokenizer) == 49_408
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer("A  PHOTO", padding="max_length").input_ids == [49406, 320, 1125] + [49407] * 74
    assert clip_tokenizer("!")("a photo", padding="max_length").input_ids[-1] == 0
