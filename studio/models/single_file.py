"""Picture models in a single safetensors file, as their authors publish them. Knows names of tensors; loads nothing.

Such a file has weights and no settings. The studio brings the settings and the tokenizer of a few families along
(`assets/configs/`); files of the others are named, and refused with the way out. Names of layers and the order in which
they are asked: `loaders/single_file_utils.py` of diffusers 0.42.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from studio.core.cards import Limits, ModelCard, Needs, NotThisKind
from studio.models.about import card_id, safe_name
from studio.models.pipelines import PIPELINES
from studio.models.safetensors_header import SafetensorsHeader, Tensor, suspicious_weights

_CORE, _VAE = "model.diffusion_model.", "first_stage_model."
_PACKED = (".scale_weight", ".weight_scale", ".absmax", ".qweight")  # numbers that mean nothing by themselves
_NUMBER = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}  # bytes


class Single(msgspec.Struct, frozen=True):
    """A family whose single files are opened.

    Attributes:
        title: as people call it. family: the pipeline class. base: see `bases`.
        config: the folder below assets/configs that has its settings.
        side: width and height it was made for, px. encoders: beginnings of the names of its text encoders' weights.
    """

    title: str
    family: str
    base: str
    config: str
    side: int
    encoders: tuple[str, ...]


_CLIP = "cond_stage_model.transformer.text_model."
_CLIPS = ("conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.1.model.")

SINGLES = {
    "v1": Single("Stable Diffusion 1.5", "StableDiffusionPipeline", "sd1", "sd1", 512, (_CLIP,)),
    "inpainting": Single(
        "Stable Diffusion 1.5 for inpainting", "StableDiffusionInpaintPipeline", "sd1", "sd1-inpaint", 512, (_CLIP,)
    ),
    "xl_base": Single("SDXL", "StableDiffusionXLPipeline", "sdxl", "sdxl", 1024, _CLIPS),
    "xl_inpaint": Single(
        "SDXL for inpainting", "StableDiffusionXLInpaintPipeline", "sdxl", "sdxl-inpaint", 1024, _CLIPS
    ),
}

# Families that are known by name only.
_REFUSED = {
    "v2": "a Stable Diffusion 2", "inpainting_v2": "a Stable Diffusion 2 for inpainting",
    "depth": "a Stable Diffusion that follows depth", "instruct-pix2pix": "an InstructPix2Pix",
    "upscale": "a Stable Diffusion upscaler", "sd": "a Stable Diffusion of an unusual width",
    "small": "a Stable Diffusion or SDXL with fewer layers", "xl_refiner": "the refiner of SDXL",
    "playground-v2-5": "a Playground 2.5", "sd3": "a Stable Diffusion 3", "sd35": "a Stable Diffusion 3.5",
    "flux": "a Flux", "flux-fill": "a Flux Fill", "flux-control": "a Flux for depth or edges", "flux2": "a Flux 2",
    "chroma": "a Chroma", "zimage": "a Z-Image", "qwen": "a Qwen-Image", "sana": "a Sana", "lumina2": "a Lumina 2",
    "auraflow": "an AuraFlow", "pixart": "a PixArt", "hunyuandit": "a Hunyuan-DiT", "cascade": "a Stable Cascade",
    "hidream": "a HiDream", "krea2": "a Krea 2",
    "video": "a video model (such as Wan, LTX or Hunyuan Video)",
}  # fmt: skip

# Parts of models that people keep as single files.
_PARTS = (
    ("vision_model.embeddings.", "an image encoder, a part of a reference model"),
    ("encoder.block.0.layer.0.SelfAttention.", "a text encoder (T5), a part of a picture model"),
    ("text_model.encoder.layers.", "a text encoder (CLIP), a part of a picture model"),
    ("transformer.resblocks.", "a text encoder (CLIP), a part of a picture model"),
    ("model.layers.0.self_attn.", "a text model or a text encoder as safetensors; as a GGUF file it would be opened"),
    ("down_blocks.0.", "one part of a diffusers model; give the folder with model_index.json"),
)


def config_folder(family: str, assets: Path) -> Path | None:
    """The folder with the settings for single files of a pipeline class, None where the studio has none.

    Args:
        assets: from `core.paths.assets_folder()`.
    """
    single = next((s for s in SINGLES.values() if s.family == family), None)
    return assets / "configs" / single.config if single else None


def kind_of(tensors: Mapping[str, Tensor]) -> str:
    """Which family's weights these are: a key of SINGLES or _REFUSED; "" for none that is known."""

    def has(*names: str) -> bool:
        return any(name in tensors or f"{_CORE}{name}" in tensors for name in names)

    def side(name: str, place: int) -> int:
        found = tensors.get(f"{_CORE}{name}") or tensors.get(name)
        shape = found.shape if found is not None else ()
        return shape[place] if -len(shape) <= place < len(shape) else 0

    if f"{_CORE}input_blocks.0.0.weight" in tensors:
        return _unet(tensors, side("input_blocks.0.0.weight", 1))
    if "edm_mean" in tensors:
        return "playground-v2-5"
    if has("clip_txt_mapper.weight", "down_blocks.1.0.channelwise.0.weight"):
        return "cascade"
    if has("joint_blocks.0.context_block.adaLN_modulation.1.bias"):
        later = has("joint_blocks.37.x_block.mlp.fc1.weight", "joint_blocks.0.x_block.attn2.qkv.weight")
        return "sd35" if later else "sd3"
    if has("motion_encoder.dec.direction.weight", "head.modulation", "patchify_proj.weight",
           "blocks.0.attn.qkv_x.weight",
           "txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.bias", "transformer_blocks.0.scale_shift_table",
           "token_refiner.blocks.0.attn.qkv_proj.weight", "net.x_embedder.proj.1.weight"):  # fmt: skip
        # PixArt, alone of these, reads the sizes of its picture
        pixart = has("adaln_single.linear.weight") and has("caption_projection.linear_1.weight")
        return "pixart" if pixart and not has("patchify_proj.weight") else "video"
    if has("single_stream_modulation.lin.weight", "single_stream_modulation.linear.weight"):
        return "flux2"
    if has("distilled_guidance_layer.in_proj.bias", "distilled_guidance_layer.in_proj.weight"):
        return "chroma"
    if has("double_blocks.0.img_attn.norm.key_norm.scale", "double_blocks.0.img_attn.qkv.weight",
           "single_transformer_blocks.0.attn.to_q.weight"):  # fmt: skip
        into = side("img_in.weight", 1) or side("x_embedder.weight", 1)
        return {384: "flux-fill", 128: "flux-control"}.get(into, "flux")
    if has("double_stream_blocks.0.block.adaLN_modulation.1.bias"):
        return "hidream"
    if has("txtfusion.projector.weight"):
        return "krea2"
    if has("transformer_blocks.0.img_mlp.net.0.proj.weight", "txt_in.text_norm.weight",
           "transformer_blocks.0.txt_mod.1.weight"):  # fmt: skip
        return "qwen"
    if has("double_layers.0.attn.w2q.weight", "joint_transformer_blocks.0.attn.to_q.weight"):
        return "auraflow"
    if has("cap_embedder.0.weight", "cap_embedder.1.weight", "layers.0.adaLN_modulation.0.weight"):
        lumina = side("cap_embedder.0.weight", 0) == 2304 or side("layers.0.adaLN_modulation.1.weight", 1) == 1024
        return "lumina2" if lumina else "zimage"
    if has("blocks.0.cross_attn.q_linear.weight"):
        # both come from one workshop; only Sana's feed-forward is made of convolutions
        convolves = has("blocks.0.mlp.inverted_conv.conv.weight", "blocks.0.mlp.depth_conv.conv.weight")
        return "sana" if convolves else "pixart"
    if has("blocks.0.attn1.Wqkv.weight", "pooler.positional_embedding"):
        return "hunyuandit"
    return ""


def _unet(tensors: Mapping[str, Tensor], inputs: int) -> str:
    """A file with the U-Net of Stable Diffusion in its authors' layout, which takes `inputs` channels."""
    width = 0
    for name in ("input_blocks.1.1", "input_blocks.2.1", "input_blocks.4.1"):
        found = tensors.get(f"{_CORE}{name}.transformer_blocks.0.attn2.to_k.weight")
        if found is not None and len(found.shape) == 2:
            width = found.shape[1]
            break
    refines = "conditioner.embedders.0.model.transformer.resblocks.9.mlp.c_proj.bias" in tensors or width == 1280
    if "edm_mean" in tensors:
        return "playground-v2-5"
    if refines:
        return "xl_refiner"
    if inputs == 5:
        return "depth"
    if inputs == 8:
        return "instruct-pix2pix"
    if inputs == 7:
        return "upscale"
    if inputs not in (4, 9):
        return "sd"
    if width == 2048:
        # ten blocks in the middle; SSD-1B, Vega and others of fewer layers have none or less there
        if f"{_CORE}middle_block.1.transformer_blocks.9.attn2.to_k.weight" not in tensors:
            return "small"
        return "xl_inpaint" if inputs == 9 else "xl_base"
    if width == 1024:
        return "inpainting_v2" if inputs == 9 else "v2"
    if width != 768:
        return "sd"
    if f"{_CORE}middle_block.1.transformer_blocks.0.attn2.to_k.weight" not in tensors:
        return "small"
    return "inpainting" if inputs == 9 else "v1"


def look_single(path: Path, header: SafetensorsHeader) -> ModelCard | NotThisKind:
    """A safetensors file that is no addition: a whole picture model, a part of one, or unknown."""
    tensors = header.tensors
    kind = kind_of(tensors)
    if not kind:
        return NotThisKind(_part(tensors) or "it is a safetensors file of a kind the studio does not know")
    single = SINGLES.get(kind)
    if single is None:
        if kind == "video":
            return NotThisKind("it is a video model (such as Wan, LTX or Hunyuan Video), and the studio makes pictures")
        return NotThisKind(f"it is {_REFUSED[kind]} in a single file, which needs its diffusers folder")
    if any(n == "scaled_fp8" or n.endswith(_PACKED) or ".quant_state" in n for n in tensors):
        return NotThisKind(f"it is a {single.title} in a packed number format that the libraries do not read")
    parts = {_CORE: "network", _VAE: "autoencoder", **dict.fromkeys(single.encoders, "text encoder")}
    missing = [what for start, what in parts.items() if not any(n.startswith(start) for n in tensors)]
    if missing:
        there = "only a part" if len(missing) > 1 else f"no {missing[0]}"
        return NotThisKind(
            f"it holds {there} of a {single.title}; a file with all of it, or its diffusers folder, does"
        )
    return _card(path, header, single)


def _card(path: Path, header: SafetensorsHeader, single: Single) -> ModelCard:
    pipeline = PIPELINES[single.family]
    sizes = {start: _bytes(header, start) for start in (_CORE, _VAE, *single.encoders)}
    numbers = {_NUMBER.get(t.dtype, 0) for n, t in header.tensors.items() if n.startswith(_CORE)}
    notes = []
    if prediction_of(header.tensors, header.metadata) == "v_prediction":
        notes.append("predicts velocity instead of noise")
    if note := suspicious_weights(path, header):
        notes.append(note)
    name = safe_name(path.stem, "picture model")
    return ModelCard(
        id=card_id(name, path),
        name=name,
        kind="image",
        engine="image.diffusers",
        path=str(path.absolute()),
        format="single-file",
        family=single.family,
        base=single.base,
        bytes=path.stat().st_size,
        can=pipeline.can,
        limits=Limits(width=single.side, height=single.side, size_multiple=8, prompt_tokens=77),
        needs=Needs(
            weights=sum(sizes.values()),
            largest=max(sizes.values()),
            number=numbers.pop() if len(numbers) == 1 else 0,
            latent=8,
            channels=320,
            decoder=256,
        ),
        notes=tuple(notes),
    )


def _bytes(header: SafetensorsHeader, start: str) -> int:
    places = (t.data_offsets for n, t in header.tensors.items() if n.startswith(start))
    return sum(end - begin for begin, end in places)


def prediction_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """What the network predicts, as far as the file says: "epsilon" or "v_prediction"."""
    said = metadata.get("modelspec.prediction_type", "").strip().casefold()
    return "v_prediction" if "v_pred" in tensors or said in ("v", "v_prediction") else "epsilon"


def _part(tensors: Mapping[str, Tensor]) -> str:
    names = "\n".join(("", *tensors))
    found = (what for start, what in _PARTS if f"\n{start}" in names or f".{start}" in names)
    return next((f"it is {what}" for what in found), "")
