"""What adds to a picture model: LoRAs, embeddings, control and reference models, autoencoders, upscalers, cut-outs.

Told by the names and shapes of tensors, by a folder's settings, or by the inputs and outputs of an ONNX file. Knows
how such files are laid out, and which of them the installed libraries can load; imports none of these libraries.
Layouts: as `loaders/` of diffusers 0.42, kohya's sd-scripts and spandrel 0.4 read and write them.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from studio.core.cards import Broken, Capability, Limits, ModelCard, Needs, NotThisKind
from studio.core.text import clean, shown
from studio.models.about import card_id, safe_name
from studio.models.bases import TITLES, base_of_width
from studio.models.diffusers_folder import checked_weights
from studio.models.onnx_header import read_onnx
from studio.models.onnx_shapes import read_onnx_shapes
from studio.models.reading import code_in, read_json_object
from studio.models.safetensors_header import SafetensorsHeader, Tensor, suspicious_weights

METADATA_LIMIT = 4 * 1024 * 1024  # characters of one text in a file's metadata that are looked through
TRIGGERS = 5  # words
_NUMBER = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}  # bytes
# Names under which libraries save whatever it is; then the folder's name tells more.
_PLAIN_STEMS = {"pytorch_lora_weights", "diffusion_pytorch_model", "adapter_model", "learned_embeds", "model"}


class Tensors(dict[str, Tensor]):
    """Tensors by name, and all names as one text: looking for a part of a name in it costs a tenth."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        self.names = "\n".join(tensors)


class Addition(msgspec.Struct, frozen=True):
    """What a header tells: kind and family of the card, its base, and remarks."""

    kind: str
    family: str
    base: str = ""
    notes: tuple[str, ...] = ()


Found = Addition | NotThisKind | None


# -- from a header


def look_header(path: Path, header: SafetensorsHeader) -> ModelCard | NotThisKind | None:
    """The addition that a safetensors file is.

    Returns:
        None where nothing of it is recognised; NotThisKind for an addition that the libraries here cannot load.
    """
    found = addition_of(header.tensors, header.metadata, path.stem)
    if not isinstance(found, Addition):
        return found
    notes = [note for note in found.notes if note != _ENCODER or not _has_encoder(path)]
    if note := suspicious_weights(path, header):
        notes.append(note)
    numbers = {_NUMBER.get(kind, 0) for kind in header.dtypes}
    return _card(path, found, path.stat().st_size, numbers.pop() if len(numbers) == 1 else 0, "safetensors", notes)


def addition_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], stem: str = "") -> Found:
    """The addition that these tensors are, told without a file.

    Args:
        stem: the file's name without its ending, a hint where the tensors do not tell.
    """
    listed = Tensors(tensors)
    for test in (_reference, _lora, _embedding, _control, _upscaler, _vae):
        found = test(listed, metadata, stem)
        if found is not None:
            return found
    return None


def _card(
    path: Path, found: Addition, size: int, number: int, form: str, notes: list[str], limits: Limits | None = None
) -> ModelCard:
    stem = path.stem if path.suffix and path.is_file() else path.name
    if stem.casefold() in _PLAIN_STEMS:
        stem = path.absolute().parent.name or stem
    name = safe_name(stem, found.kind)
    engine = {"upscale": "image.upscale", "cutout": "image.cutout"}.get(found.kind, "image.diffusers")
    can: tuple[Capability, ...] = ()
    return ModelCard(
        id=card_id(name, path),
        name=name,
        kind=found.kind,
        engine=engine,
        path=str(path.absolute()),
        format=form,
        family=found.family,
        base=found.base,
        bytes=size,
        can=can,
        limits=limits or Limits(),
        needs=Needs(weights=size, largest=size, number=number),
        notes=tuple(notes),
    )


def _side(tensors: Tensors, name: str, place: int) -> int:
    """One dimension of a tensor, 0 where there is no such tensor or dimension."""
    shape = tensors[name].shape if name in tensors else ()
    return shape[place] if -len(shape) <= place < len(shape) else 0


def _any(tensors: Tensors, *parts: str) -> bool:
    return any(part in tensors.names for part in parts)


def _all(tensors: Tensors, *names: str) -> bool:
    return all(name in tensors for name in names)


def _reads(tensors: Tensors) -> int:
    """The width at which a U-Net, or a copy of half of one, reads the prompt; 0 where it does not."""
    for name in tensors:
        if name.endswith("attn2.to_k.weight"):
            return _side(tensors, name, 1)
    return 0


# -- LoRAs

_DOWN = re.compile(r"(lora_down|lora_A(\.[A-Za-z0-9_]+)?|lora\.down|lora_linear_layer\.down)\.weight$")
_UP = re.compile(r"(lora_up|lora_B(\.[A-Za-z0-9_]+)?|lora\.up|lora_linear_layer\.up)\.weight$")
_XLABS = re.compile(r"\.processor\.(qkv|proj)_lora\d\.(down|up)\.weight$")

# Relatives of LoRA -> the name people know them by. None of them is loaded by the libraries here.
_RELATIVES = {
    ".hada_w": "a LoHa", ".oft_blocks": "an OFT", ".oft_diag": "an OFT", ".oft_R": "an OFT", ".on_input": "an IA3",
    ".a1.weight": "a GLoRA", ".lora_mid.": "a LoCon with a Tucker decomposition", ".lora_controlnet": "a control LoRA",
    "lora_controlnet": "a control LoRA", "lllite_": "a ControlNet-LLLite", ".boft": "a BOFT",
}  # fmt: skip
_KOHYA = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_")
_DIFFUSERS = ("unet.", "text_encoder.", "text_encoder_2.")


def _lora(tensors: Tensors, metadata: Mapping[str, str], stem: str) -> Found:
    for part, title in _RELATIVES.items():
        if _any(tensors, part):
            return _cannot(title)
    lokr = _any(tensors, ".lokr_w")
    if not lokr and not any(
        _DOWN.search(n) or _XLABS.search(n) or "lora_unet_" in n or "lora_te" in n for n in tensors
    ):
        return None
    base, notes = _lora_base(tensors, metadata)
    if base == "video":
        return NotThisKind("it is a LoRA for a video model, and the studio makes pictures")
    if lokr:
        # the loaders of these two alone know it, and only by itself
        if base not in ("zimage", "flux2") or not all("lokr" in n or n.endswith(".alpha") for n in tensors):
            return _cannot("a LoKr")
        return Addition("lora", "lokr", base, tuple(notes))
    if _any(tensors, ".dora_scale"):
        return NotThisKind(
            "it is a DoRA in a layout of which the installed libraries would leave a part out, so its pictures would "
            "come out wrong; a plain LoRA is loaded"
        )
    wrong = _unknown_layers(tensors, base)
    if wrong is not None:
        return wrong
    downs = [n for n in tensors if _DOWN.search(n) or n.endswith(".down.weight")]
    if not downs:
        return NotThisKind("it is a LoRA by its names, but none of its weights is there")
    ranks = Counter(_side(tensors, n, 0) for n in downs)
    said = [f"rank {ranks.most_common(1)[0][0]}", *notes]
    if words := _triggers(metadata):
        said.append(f"trigger words: {', '.join(words)}")
    if not base:
        said.append("its file does not tell which models it was made for")
    return Addition("lora", "lora", base, tuple(said))


def _cannot(title: str) -> NotThisKind:
    return NotThisKind(f"it is {title}, which the installed libraries cannot load; a plain LoRA is loaded")


def _unknown_layers(tensors: Tensors, base: str) -> NotThisKind | None:
    """Why the libraries would stop at this LoRA's names: they take all of a file, or nothing."""
    of_unet = base in ("sd1", "sd2", "sdxl") or base.startswith(("sd-", "sdxl-"))
    if of_unet:
        kohya = any(n.startswith(_KOHYA) for n in tensors)
        known = [n for n in tensors if n.startswith(_KOHYA if kohya else _DIFFUSERS) and "lora" in n]
        authors = ("lora_unet_input_blocks", "lora_unet_middle_block", "lora_unet_output_blocks")
        if kohya and not base.startswith("sdxl") and _any(tensors, *authors):
            return NotThisKind("it is a LoRA in a layout that the installed libraries read for SDXL only")
        if kohya:
            known = [n for n in known if n.endswith((".lora_down.weight", ".lora_up.weight", ".alpha"))]
    else:
        known = [n for n in tensors if "lora" in n.lower() or n.endswith(".alpha")]
    if len(known) == len(tensors):
        return None
    kept = set(known)
    strange = next(n for n in tensors if n not in kept)
    if strange.endswith((".diff", ".diff_b")):
        return NotThisKind("it is a LoRA that also replaces whole layers, which the installed libraries cannot load")
    return NotThisKind(
        f"it is a LoRA with parts that the installed libraries do not know, for example “{shown(strange, 100)}”"
    )


# What trainers write into the metadata -> base; the longest that fits counts.
_WRITTEN = {
    "sd_v1": "sd1", "sd_1": "sd1", "sd1": "sd1", "stable-diffusion-v1": "sd1", "sd_v2": "sd2", "sd_2": "sd2",
    "stable-diffusion-v2": "sd2", "sdxl": "sdxl", "stable-diffusion-xl": "sdxl", "sd3": "sd3",
    "stable-diffusion-3": "sd3", "stable-diffusion-v3": "sd3", "flux1": "flux", "flux-1": "flux", "flux.1": "flux",
    "flux": "flux", "flux2": "flux2", "flux-2": "flux2", "flux.2": "flux2", "chroma": "chroma", "qwen": "qwen",
    "z-image": "zimage", "zimage": "zimage", "z_image": "zimage", "lumina": "lumina2", "sana": "sana",
    "auraflow": "auraflow", "pixart": "pixart", "hunyuan-dit": "hunyuandit", "cogview4": "cogview4",
}  # fmt: skip


def _written_base(metadata: Mapping[str, str]) -> str:
    for key in ("ss_base_model_version", "modelspec.architecture", "ss_sd_model_name", "base_model"):
        value = metadata.get(key, "")[:200].casefold().rsplit("/", 1)[-1 if key == "base_model" else 0]
        fitting = [written for written in _WRITTEN if value.startswith(written)]
        if fitting:
            return _WRITTEN[max(fitting, key=len)]
    return ""


def _lora_base(tensors: Tensors, metadata: Mapping[str, str]) -> tuple[str, list[str]]:
    """The base by shapes, else as the file says; a remark where the two differ."""
    seen, written = _seen_base(tensors), _written_base(metadata)
    if seen == "flux" and written == "chroma":
        return written, []  # of equal layout
    if not seen or not written or seen == written or seen == "video":
        return seen or written, []
    return seen, [f"its file says {TITLES.get(written, written)}, its weights say {TITLES.get(seen, seen)}"]


def _seen_base(tensors: Tensors) -> str:
    if _any(tensors, "down_blocks", "up_blocks", "mid_block", "input_blocks", "output_blocks", "middle_block"):
        return _unet_base(tensors)
    if _any(tensors, "joint_transformer_blocks"):
        return "auraflow"
    if _any(tensors, "joint_blocks"):
        return "sd3"
    if _any(tensors, "blocks.0.self_attn", "blocks_0_self_attn", "blocks.0.attn1.to_k.lora_A", "scale_shift_table"):
        return "video"
    single = _any(tensors, "single_blocks", "single_transformer_blocks")
    if _any(tensors, "double_blocks") or single:
        return "video" if _any(tensors, "txt_in.individual", "txt_in_individual") else _flux_base(tensors)
    if _any(tensors, "txt_mlp", "img_mlp", "txt_mod", "img_mod"):
        return "qwen"
    widths = {_side(tensors, n, 1) for n in tensors if _DOWN.search(n)}
    layers = _any(tensors, "noise_refiner", "context_refiner", "layers.0.", "layers_0_", "layers.10.", "layers_10_")
    if layers and not _any(tensors, "text_model", "encoder"):
        # Lumina 2 calls its attention by the short word; in their authors' layouts the width tells
        if 3840 in widths or _any(tensors, ".attention.to_", "_attention_to_"):
            return "zimage"
        return "lumina2" if 2304 in widths or _any(tensors, ".attn.to_", "_attn_to_") else ""
    if _any(tensors, "blocks.0.attn.", "blocks_0_attn_", "add_k_proj", "add_q_proj", "to_add_out"):
        if widths & {1536, 2432}:
            return "sd3"
        # as wide as the first 19 blocks of Flux, and has 60
        return ("qwen" if _highest_block(tensors) > 18 else "flux") if 3072 in widths else ""
    if _any(tensors, "attn1.to_", "attn1_to_", "attn2"):
        if 2240 in widths or _any(tensors, "conv_inverted"):
            return "sana"
        return "pixart" if 1152 in widths else "cogview4" if 4096 in widths else ""
    return _text_base(tensors)


def _highest_block(tensors: Tensors) -> int:
    return max((int(n) for n in re.findall(r"transformer_blocks[._](\d{1,4})[._]", tensors.names)), default=-1)


def _is_xl(tensors: Tensors) -> bool:
    return _any(tensors, "lora_te2_", "text_encoder_2.")


def _unet_base(tensors: Tensors) -> str:
    for name in tensors:
        if "attn2" in name and re.search(r"to[_.][kv]\b|to[_.][kv]_", name) and _DOWN.search(name):
            width = _side(tensors, name, 1)
            return base_of_width(width, width == 2048 or _is_xl(tensors)) if width else ""
    # no layer that reads the prompt: SDXL alone has ten blocks one after another
    return "sdxl" if _is_xl(tensors) or _any(tensors, "transformer_blocks_9_", "transformer_blocks.9.") else ""


def _text_base(tensors: Tensors) -> str:
    """Of a LoRA of text encoders alone."""
    if _is_xl(tensors):
        return "sdxl"
    for name in tensors:
        if name.startswith(("lora_te_", "text_encoder.")) and "q_proj" in name and _DOWN.search(name):
            return base_of_width(_side(tensors, name, 1))
    return ""


def _flux_base(tensors: Tensors) -> str:
    """Flux, Flux 2 and Chroma name their layers alike; the first is 3,072 wide with a feed-forward of 12,288."""
    if _any(tensors, "stream_modulation", "to_qkv_mlp_proj", "linear_in", "linear_out"):
        return "flux2"
    if _any(tensors, "distilled_guidance_layer"):
        return "chroma"
    for name in tensors:
        wide = _side(tensors, name, 1)
        if _DOWN.search(name) and "linear1" in name and wide not in (0, 3072):
            return "flux2"
        if _DOWN.search(name) and "qkv" in name and wide in (4096, 6144):
            return "flux2"
        if _UP.search(name) and "linear1" in name and _side(tensors, name, 0) not in (0, 21504):
            return "flux2"
    return "flux"


def _triggers(metadata: Mapping[str, str]) -> list[str]:
    """The words a LoRA listens to: as its author says, or the tags that most of its pictures had."""
    words: Counter[str] = Counter()
    phrase = metadata.get("modelspec.trigger_phrase", "")
    if phrase.strip():
        return [w for w in (shown(clean(p)[0], 60).strip() for p in phrase[:400].split(",")) if w][:TRIGGERS]
    text = metadata.get("ss_tag_frequency", "")
    if not text or len(text) > METADATA_LIMIT:
        return []
    try:
        folders = json.loads(text)
    except (ValueError, RecursionError):
        return []
    for tags in folders.values() if isinstance(folders, dict) else ():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            if type(count) is int and count > 0:
                words[tag] += min(count, 1 << 31)
    most = words.most_common(TRIGGERS)
    named = [shown(clean(tag)[0], 60).strip() for tag, count in most if count * 2 >= most[0][1]]
    return [word for word in named if word]


# -- embeddings

_VECTORS = {"emb_params", "clip_l", "clip_g", "t5", "t5xxl", "text_encoders_0", "text_encoders_1"}


def _embedding(tensors: Tensors, metadata: Mapping[str, str], stem: str) -> Found:
    vectors = {n: t.shape for n, t in tensors.items() if 1 <= len(t.shape) <= 2 and 64 <= t.shape[-1] <= 16_384}
    if not tensors or len(vectors) != len(tensors) or len(tensors) > 8:
        return None
    usual = all(n in _VECTORS or (n.startswith("<") and n.endswith(">")) for n in tensors)
    if not usual and (len(tensors) != 1 or re.search(r"\.|weight|bias", next(iter(tensors)))):
        return None
    if any(len(s) == 2 and s[0] > 256 for s in vectors.values()):
        return None  # a vocabulary, not a few words
    widths = {shape[-1] for shape in vectors.values()}
    if {"clip_l", "clip_g"} <= set(tensors) or {"text_encoders_0", "text_encoders_1"} <= set(tensors):
        base = "sdxl"
    elif {"t5", "t5xxl"} & set(tensors):
        base = "flux"
    elif widths == {1280}:
        base = "sdxl"
    else:
        base = base_of_width(min(widths)) if len(widths) == 1 else ""
    tokens = max(shape[0] if len(shape) == 2 else 1 for shape in vectors.values())
    notes = ("takes the place of one token" if tokens == 1 else f"takes the place of {tokens} tokens",)
    return Addition("embedding", "textual-inversion", base, notes)


# -- control and reference models


def _control(tensors: Tensors, metadata: Mapping[str, str], stem: str) -> Found:
    if _any(tensors, "motion_modules"):
        return NotThisKind("it is a motion module for videos, and the studio makes pictures")
    original = "control_model.time_embed.0.weight" in tensors
    if original or "controlnet_cond_embedding.conv_in.weight" in tensors:
        xl = "add_embedding.linear_1.weight" in tensors or "control_model.label_emb.0.0.weight" in tensors
        width = _reads(tensors)
        base = base_of_width(width, xl) if width else "sdxl" if xl else ""
        if _any(tensors, "task_embedding", "control_add_embedding"):
            return NotThisKind(
                "it is a ControlNet for several kinds of control pictures in a single file; its diffusers folder, with "
                "config.json, is loaded"
            )
        return Addition("control", "controlnet", base)
    if _any(tensors, "controlnet_x_embedder", "control_all_x_embedder", "controlnet_blocks.", "input_hint_block.0"):
        return NotThisKind(
            "it is a ControlNet in a single file, for a kind of model whose control models are loaded only as a "
            "diffusers folder, with config.json"
        )
    if "adapter.conv_in.weight" in tensors or _all(tensors, "conv_in.weight", "body.0.block1.weight"):
        return NotThisKind("it is a T2I adapter in a single file; its diffusers folder, with config.json, is loaded")
    if _any(tensors, "transformer_layes.", "style_embedding"):
        return NotThisKind("it is a style adapter, which the installed libraries cannot load; an IP-Adapter is loaded")
    return None


def _reference(tensors: Tensors, metadata: Mapping[str, str], stem: str) -> Found:
    ours = [n for n in tensors if n.startswith(("image_proj.", "ip_adapter."))]
    flux = "ip_adapter_proj_model.proj.weight" in tensors
    if flux and _any(tensors, "ip_adapter_double_stream"):
        return Addition("reference", "ip-adapter", "flux", (_ENCODER,))
    if len(ours) != len(tensors) or not any(n.startswith("ip_adapter.") for n in ours):
        return None
    if not any(n.startswith("image_proj.") for n in ours):
        return None
    if _any(tensors, "lora", "perceiver_resampler") or _side(tensors, "image_proj.proj.0.weight", 1) == 512:
        return NotThisKind(
            "it is an IP-Adapter for faces, which needs a face recogniser the studio does not have; a plain one is "
            "loaded"
        )
    width = next((_side(tensors, n, 1) for n in tensors if n.endswith("to_k_ip.weight")), 0)
    if _any(tensors, "norm_ip", "image_proj.time_"):
        base = "sd3"
    elif width == 4096:
        base = "flux"
    else:
        base = base_of_width(width or None, width == 2048)
    return Addition("reference", "ip-adapter", base, (_ENCODER,))


_ENCODER = "needs its image encoder, as a folder “image_encoder” beside the file"


def _has_encoder(file: Path) -> bool:
    """Whether there is an image encoder where the libraries and repositories of IP-Adapters keep it."""
    places = (file.parent, file.parent.parent, file.parent.parent / "models")
    return any((place / "image_encoder" / "config.json").is_file() for place in places)


# -- autoencoders


def _vae(tensors: Tensors, metadata: Mapping[str, str], stem: str) -> Found:
    outer = [n for n in tensors if n.startswith(("model.diffusion_model.", "cond_stage_model.", "conditioner."))]
    if outer:
        return None  # a whole model
    for prefix in ("", "first_stage_model.", "vae."):
        if _all(tensors, f"{prefix}encoder.conv_in.weight", f"{prefix}decoder.conv_in.weight"):
            break
    else:
        if _all(tensors, "decoder.1.weight", "decoder.3.conv.0.weight") or "taesd_decoder.1.weight" in tensors:
            return NotThisKind("it is a tiny autoencoder in a single file; its diffusers folder is loaded")
        return None
    shape = tensors[f"{prefix}decoder.conv_in.weight"].shape
    if len(shape) != 4:
        return NotThisKind("it is an autoencoder of videos, and the studio makes pictures")
    if not _any(tensors, "decoder.up_blocks.", "decoder.up."):
        return None
    notes = (f"{shape[1]} latent channels",)
    return Addition("vae", "AutoencoderKL", _vae_base(shape[1], 0.0, f"{stem} {_written_base(metadata)}"), notes)


def _vae_base(channels: int, factor: float, hint: str) -> str:
    """The base of an autoencoder. Stable Diffusion 1 and 2 share one, so where nothing else tells it stays open.

    Args:
        factor: of its scaling, 0 where that is not known. hint: names to look for a base in.
    """
    scales = {(4, 0.13025): "sdxl", (16, 0.3611): "flux", (16, 1.5305): "sd3"}
    if (channels, round(factor, 5)) in scales:
        return scales[channels, round(factor, 5)]
    if factor:
        return ""
    words = hint.casefold()
    if channels == 4 and "xl" in words:
        return "sdxl"
    if channels == 16 and re.search(r"flux|(^|[^a-z])ae($|[^a-z])", words):
        return "flux"
    return "sd3" if channels == 16 and "sd3" in words else ""


# -- upscalers


def _pixels(count: int, channels: int) -> int:
    """How much larger each side gets when `count` numbers become pixels of `channels`; 0 for no whole number."""
    whole, rest = divmod(count, channels) if channels else (0, 1)
    side = math.isqrt(whole)
    return side if not rest and side * side == whole else 0


def _shuffled(tensors: Tensors, last: str, first: str) -> int:
    into = _side(tensors, first, 1)
    count = _side(tensors, last, 0)
    return next((s for c in (into, 3, 4, 1) if (s := _pixels(count, c))), 0)


def _steps(tensors: Tensors, part: str = "upsample") -> int:
    """Enlargement by layers `part`.0, .2, …, each of which makes its own number of channels larger."""
    scale = 1
    for place in range(0, 10, 2):
        count, features = (_side(tensors, f"{part}.{place}.weight", at) for at in (0, 1))
        if not count or not features:
            break
        scale *= _pixels(count, features) or 1
    return scale


def _last(tensors: Tensors, part: str) -> int:
    """The highest number that follows `part`."""
    numbers = (n[len(part) :].split(".", 1)[0] for n in tensors if n.startswith(part))
    return max((int(n) for n in numbers if n.isascii() and n.isdigit() and len(n) < 6), default=-1)


def _esrgan(tensors: Tensors) -> int:
    if "model.0.weight" in tensors:
        first, last = "model.0.weight", f"model.{_last(tensors, 'model.')}.weight"
        doublings = (_last(tensors, "model.") - 4) // 3
    else:
        first, last = "conv_first.weight", "conv_last.weight"
        doublings = len([n for n in tensors if re.fullmatch(r"(upconv|conv_up)\d\.weight", n)])
    into, out = _side(tensors, first, 1), _side(tensors, last, 0)
    folded = _pixels(into, out) or 1  # pictures folded into more channels come in
    return (1 << min(max(doublings, 0), 6)) // folded


def _swinir(tensors: Tensors) -> int:
    if "conv_up1.weight" in tensors:
        return 1 << min(len([n for n in tensors if re.fullmatch(r"conv_up\d\.weight", n)]), 6)
    if "conv_before_upsample.0.weight" in tensors:
        return _steps(tensors)
    if "upsample.0.weight" in tensors:
        return _shuffled(tensors, "upsample.0.weight", "conv_first.weight")
    return 1


def _direct(tensors: Tensors) -> int:
    if "conv_last.weight" in tensors:
        return _steps(tensors)
    return _shuffled(tensors, "upsample.0.weight", "conv_first.weight")


# family -> (names, one list of which is there as a whole; how much it enlarges, 0 where that is not told)
_UPSCALERS: dict[str, tuple[tuple[tuple[str, ...], ...], Callable[[Tensors], int]]] = {
    "esrgan": (
        (
            ("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"),
            ("model.0.weight", "model.1.sub.0.RDB1.conv1x1.weight"),
            ("conv_first.weight", "body.0.rdb1.conv1.weight", "conv_body.weight", "conv_last.weight"),
            ("conv_first.weight", "RRDB_trunk.0.RDB1.conv1.weight", "trunk_conv.weight", "conv_last.weight"),
        ),
        _esrgan,
    ),
    "hat": ((("relative_position_index_SA", "conv_first.weight",
              "layers.0.residual_group.blocks.0.conv_block.cab.0.weight"),), _steps),
    "atd": ((("conv_first.weight", "layers.0.residual_group.td"),), _swinir),
    "swin2sr": ((("layers.0.residual_group.blocks.0.norm1.weight", "patch_embed.proj.weight", "conv_first.weight",
                  "layers.0.residual_group.blocks.0.attn.logit_scale"),), _swinir),
    "swinir": (
        (
            ("layers.0.residual_group.blocks.0.norm1.weight", "conv_first.weight",
             "layers.0.residual_group.blocks.0.attn.relative_position_index"),
            ("layers.0.residual_group.blocks.0.norm1.weight", "conv_first.1.weight",
             "layers.0.residual_group.blocks.0.attn.relative_position_index"),
        ),
        _swinir,
    ),
    "rgt": ((("conv_first.weight", "before_RG.1.weight", "layers.0.blocks.0.gamma"),), _steps),
    "dat": ((("conv_first.weight", "before_RG.1.weight", "layers.0.blocks.0.attn.qkv.weight",
              "layers.0.blocks.0.ffn.fc1.weight"),), _direct),
    "drct": ((("conv_first.weight", "layers.0.swin1.norm1.weight", "layers.0.adjust1.weight"),), _steps),
    "span": ((("conv_1.sk.weight", "block_1.c1_r.sk.weight", "upsampler.0.weight"),),
             lambda t: _shuffled(t, "upsampler.0.weight", "conv_1.sk.weight")),
    "plksr": (
        tuple(("feats.0.weight", f"feats.1.{n}.weight", "feats.1.refine.weight")
              for n in ("lk.conv", "lk.convs.0", "lk.mn_conv")),
        lambda t: _shuffled(t, f"feats.{_last(t, 'feats.')}.weight", "feats.0.weight"),
    ),
    "omnisr": ((("residual_layer.0.residual_layer.0.layer.0.fn.0.weight", "input.weight", "up.0.weight"),),
               lambda t: _shuffled(t, "up.0.weight", "input.weight")),
    "safmn": ((("to_feat.weight", "feats.0.safm.mfr.0.weight", "to_img.0.weight"),),
              lambda t: _shuffled(t, "to_img.0.weight", "to_feat.weight")),
    "mosr": ((("gblocks.0.weight", "gblocks.1.fc1.weight"),), lambda t: 0),
    "realcugan": ((("unet1.conv1.conv.0.weight", "unet2.conv_bottom.weight"),), lambda t: 0),
    "scunet": ((("m_head.0.weight", "m_tail.0.weight"),), lambda t: 1),
    "compact": ((("body.0.weight", "body.1.weight"),),
                lambda t: _shuffled(t, f"body.{_last(t, 'body.')}.weight", "body.0.weight")),
}  # fmt: skip


def _upscaler(tensors: Tensors, metadata: Mapping[str, str], stem: str) -> Found:
    prefixes = ("params_ema.", "params.", "module.", "netG.")
    prefix = next((p for p in prefixes if tensors and all(n.startswith(p) for n in tensors)), "")
    bare = Tensors({n[len(prefix) :]: t for n, t in tensors.items()}) if prefix else tensors
    for family, (layouts, scale_of) in _UPSCALERS.items():
        if any(_all(bare, *names) for names in layouts):
            if family == "compact" and len(bare["body.1.weight"].shape) != 1:
                continue  # its second layer is a slope for each channel
            scale = scale_of(bare)
            if not 0 <= scale <= 16:
                scale = 0
            said = "keeps the size" if scale == 1 else f"enlarges {scale} times" if scale else ""
            return Addition("upscale", family, "", (said,) if said else ())
    return None


# -- folders

_CONTROLS = {
    "ControlNetUnionModel": ("controlnet-union", "sdxl"), "SD3ControlNetModel": ("controlnet", "sd3"),
    "FluxControlNetModel": ("controlnet", "flux"), "QwenImageControlNetModel": ("controlnet", "qwen"),
    "HunyuanDiT2DControlNetModel": ("controlnet", "hunyuandit"), "SanaControlNetModel": ("controlnet", "sana"),
    "ZImageControlNetModel": ("controlnet", "zimage"),
}  # fmt: skip
_VAES = {
    "AutoencoderKL": "", "AutoencoderTiny": "", "AsymmetricAutoencoderKL": "", "ConsistencyDecoderVAE": "",
    "AutoencoderKLQwenImage": "qwen", "AutoencoderKLFlux2": "flux2", "AutoencoderDC": "sana",
}  # fmt: skip
FOLDER_LIMIT = 2_000  # entries of a folder that are looked through


def look_addition_folder(path: Path) -> ModelCard | NotThisKind | Broken:
    """A folder of one part that adds to a picture model: config.json with a class of diffusers, and its weights."""
    if not path.is_dir() or not (path / "config.json").is_file():
        return NotThisKind("it is not a folder with config.json")
    config = read_json_object(path / "config.json")
    if isinstance(config, Broken):
        return config
    refused = code_in(config, "config.json")
    if refused is not None:
        return refused
    made_by = config.get("_class_name")
    if not isinstance(made_by, str):
        return NotThisKind("it is not a part of a diffusers model")
    found = _of_class(made_by, config, path.name)
    if found is None:
        return NotThisKind("it is not an addition to a picture model")
    weights = checked_weights(path)
    if isinstance(weights, Broken):
        return weights
    size = sum(file.stat().st_size for file in weights)
    return _card(path, found, size, 0, "diffusers", list(found.notes))


def _of_class(made_by: str, config: dict[str, Any], name: str) -> Addition | None:
    def whole(key: str) -> int:
        value = config.get(key)
        return value if type(value) is int and 0 < value <= 65_536 else 0

    if made_by == "ControlNetModel":
        width = whole("cross_attention_dim")
        return Addition("control", "controlnet", base_of_width(width or None, bool(config.get("addition_embed_type"))))
    if made_by == "T2IAdapter":
        kind, channels = config.get("adapter_type"), config.get("channels")
        usual = isinstance(channels, list) and channels[:1] == [320]
        base = "sdxl" if kind == "full_adapter_xl" else "sd1" if usual else ""
        return Addition("control", "t2i-adapter", base)
    if made_by in _CONTROLS:
        return Addition("control", *_CONTROLS[made_by])
    if made_by in _VAES:
        channels, factor = whole("latent_channels"), config.get("scaling_factor")
        number = float(factor) if isinstance(factor, int | float) and 0 < factor < 1e6 else 0.0
        base = _VAES[made_by] or _vae_base(channels, 0.0 if made_by == "AutoencoderTiny" else number, name)
        return Addition("vae", made_by, base, (f"{channels} latent channels",) if channels else ())
    return None


# -- cut-outs

# Stems of file names -> family; what their makers ask of the picture's numbers differs.
CUTOUTS = ("u2net", "silueta", "isnet", "birefnet", "rmbg", "modnet", "ben2", "inspyrenet")


def look_cutout(path: Path) -> ModelCard | NotThisKind | Broken:
    """An .onnx file that makes a mask of a picture: one input (1, 3, H, W), and masks (1, 1, H, W)."""
    if path.suffix.lower() != ".onnx" or not path.is_file():
        return NotThisKind("it is not an ONNX file")
    outline = read_onnx(path)
    if isinstance(outline, Broken):
        return outline
    shapes = read_onnx_shapes(path)
    if isinstance(shapes, Broken):
        return shapes
    inputs, outputs = shapes
    picture = next(iter(inputs.values()), ())
    mask = next(iter(outputs.values()), ())
    family = next((f for f in CUTOUTS if f in re.sub(r"[^a-z0-9]", "", path.stem.casefold())), "")
    if len(inputs) != 1 or len(picture) != 4 or picture[1] != 3 or picture[0] > 1:
        return NotThisKind("it is an ONNX file, but not one that makes a mask of a picture")
    # a file that leaves its output open is taken by its name
    open_ended = not mask or (len(mask) == 4 and mask[1] == 0)
    if not (len(mask) == 4 and mask[1] == 1) and not (open_ended and family):
        return NotThisKind("it is an ONNX file, but not one that makes a mask of a picture")
    if outline.external:
        return Broken("its weights lie in other files", "Get it as a single .onnx file.", "model_refused")
    height, width = picture[2], picture[3]
    limits = Limits(width=width or None, height=height or None)
    return _card(path, Addition("cutout", family or "mask"), path.stat().st_size, 0, "onnx", [], limits)
