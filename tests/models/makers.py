"""Makers of small model files, sound and damaged. Nothing here is a model anyone could use."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

SITE = "site-packages"


def safetensors(
    tensors: dict[str, tuple[str, list[int], int]] | None = None, metadata: dict[str, str] | None = None
) -> bytes:
    """name -> (dtype, shape, bytes); zeros as weights."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, (dtype, shape, size) in (tensors or {"weight": ("F32", [2, 2], 16)}).items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    return with_header(json.dumps(header).encode(), bytes(at))


def with_header(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def setting(key: str, value: Any) -> bytes:
    """A GGUF setting: text, bool, whole number, list of texts or of numbers."""
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    if isinstance(value, bool):
        return text(key) + struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return text(key) + struct.pack("<II", 4, value)
    if value and isinstance(value[0], str):
        return text(key) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(text(v) for v in value)
    return text(key) + struct.pack("<IIQ", 9, 4, len(value)) + struct.pack(f"<{len(value)}I", *value)


def tensor(name: str, shape: list[int], kind: int, offset: int) -> bytes:
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dimensions + struct.pack("<IQ", kind, offset)


def gguf_of(settings: list[bytes], tensors: list[bytes], data: int, version: int = 3, order: str = "<") -> bytes:
    head = b"GGUF" + struct.pack(f"{order}IQQ", version, len(tensors), len(settings)) + b"".join(settings + tensors)
    return head + bytes(-len(head) % 32 + data)


def gguf(*, chat: bool = False, tokens: int = 8, embedded: int | None = None, **more: Any) -> bytes:
    """A whole, tiny text model: `embedded` rows of word embeddings (the number of tokens), one norm."""
    rows = tokens if embedded is None else embedded
    values: dict[str, Any] = {
        "general.architecture": "llama",
        "general.name": "Tiny",
        "general.file_type": 0,
        "llama.context_length": 512,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [f"t{i}" for i in range(tokens)],
    }
    if chat:
        values["tokenizer.chat_template"] = "{% for m in messages %}{{ m.content }}{% endfor %}"
    values.update({k.replace("__", "."): v for k, v in more.items()})
    settings = [setting(k, v) for k, v in values.items() if v is not None]
    size = 8 * rows * 4
    tensors = [tensor("token_embd.weight", [8, rows], 0, 0), tensor("output_norm.weight", [8], 0, size)]
    return gguf_of(settings, tensors, size + 32)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def onnx(inputs: tuple[str, ...] = ("input", "input_lengths", "scales"), external: bool = False) -> bytes:
    weight = field(8, b"w") + (b"\x70\x01" if external else field(9, bytes(64)))
    graph = field(5, weight) + b"".join(field(11, field(1, i.encode())) for i in inputs)
    graph += field(12, field(1, b"output"))
    return b"\x08\x08" + field(2, b"test") + field(7, graph)


def voice(folder: Path, name: str = "anna", **changes: Any) -> Path:
    """A voice file with its settings beside it; a change to None leaves the setting out."""
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "audio": {"sample_rate": 16_000},
        "espeak": {"voice": "de"},
        "language": {"code": "de_DE", "name_english": "German"},
        "inference": {"noise_scale": 0.6, "length_scale": 1, "noise_w": 0.8},
        "num_speakers": 1,
        "phoneme_id_map": {"a": [3]},
        **changes,
    }
    path = folder / f"{name}.onnx"
    path.write_bytes(onnx())
    path.with_name(f"{name}.onnx.json").write_text(
        json.dumps({k: v for k, v in settings.items() if v is not None}), "utf-8"
    )
    return path


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")


def edit_json(path: Path, **changes: Any) -> None:
    value = json.loads(path.read_text("utf-8"))
    value.update(changes)
    write_json(path, {k: v for k, v in value.items() if v != "gone"})


def diffusers(folder: Path, made_by: str = "StableDiffusionPipeline", core: str = "unet") -> Path:
    """A folder laid out like a Stable Diffusion model, with zeros for weights."""
    write_json(
        folder / "model_index.json",
        {
            "_class_name": made_by,
            "_diffusers_version": "0.42.0",
            "safety_checker": [None, None],
            "requires_safety_checker": False,
            "scheduler": ["diffusers", "DDIMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            core: ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )
    write_json(folder / "scheduler" / "scheduler_config.json", {"_class_name": "DDIMScheduler"})
    write_json(folder / "tokenizer" / "tokenizer_config.json", {"model_max_length": 77})
    write_json(
        folder / "tokenizer" / "tokenizer.json",
        {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}, "added_tokens": []},
    )
    write_json(folder / "text_encoder" / "config.json", {"vocab_size": 3})
    write_json(folder / core / "config.json", {"sample_size": [48, 64]})
    write_json(folder / "vae" / "config.json", {"block_out_channels": [8, 8, 8, 8]})
    (folder / "text_encoder" / "model.safetensors").write_bytes(safetensors())
    for name in (core, "vae"):
        (folder / name / "diffusion_pytorch_model.safetensors").write_bytes(safetensors())
    return folder


def weights(path: Path, shapes: dict[str, tuple[int, ...]], metadata: dict[str, str] | None = None) -> Path:
    """A safetensors file of real shapes, with zeros in float16 that take no room on the disk."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    head = with_header(json.dumps(header).encode())
    with open(path, "wb") as stream:
        stream.write(head)
        stream.truncate(len(head) + at)
    return path


def kohya_lora(width: int, rank: int = 8, xl: bool = False) -> dict[str, tuple[int, ...]]:
    """The shapes of a LoRA as kohya's scripts write it, of two layers of the U-Net and one of each text encoder."""
    shapes: dict[str, tuple[int, ...]] = {}
    layer = "input_blocks_4_1" if xl else "down_blocks_0_attentions_0"
    for part, reads in (("attn1_to_q", 320), ("attn2_to_k", width)):
        name = f"lora_unet_{layer}_transformer_blocks_0_{part}"
        shapes |= {
            f"{name}.lora_down.weight": (rank, reads),
            f"{name}.lora_up.weight": (320, rank),
            f"{name}.alpha": (),
        }
    for encoder, reads in (("lora_te1", 768), ("lora_te2", 1280)) if xl else (("lora_te", width),):
        name = f"{encoder}_text_model_encoder_layers_0_self_attn_q_proj"
        shapes |= {
            f"{name}.lora_down.weight": (rank, reads),
            f"{name}.lora_up.weight": (reads, rank),
            f"{name}.alpha": (),
        }
    return shapes


def picture_onnx(inputs: tuple[int, ...] = (1, 3, 320, 320), outputs: tuple[int, ...] = (1, 1, 320, 320)) -> bytes:
    """An ONNX file of one input and one output with these shapes; 0 is a size left open."""

    def value(name: str, shape: tuple[int, ...]) -> bytes:
        sizes = b"".join(field(1, b"\x08" + varint(size) if size else field(2, b"n")) for size in shape)
        return field(1, name.encode()) + field(2, field(1, b"\x08\x01" + field(2, sizes)))

    graph = field(5, field(8, b"w") + field(9, bytes(64)))
    graph += field(11, value("picture", inputs)) + field(12, value("mask", outputs))
    return b"\x08\x08" + field(2, b"test") + field(7, graph)


def checkpoint(kind: str) -> dict[str, tuple[int, ...]]:
    """Shapes of some tensors of a picture model in one file: kind is a key of single_file.SINGLES."""
    xl = kind.startswith("xl")
    width, inputs = 2048 if xl else 768, 9 if "inpaint" in kind else 4
    core, reads = "model.diffusion_model", (320, width)
    shapes: dict[str, tuple[int, ...]] = {f"{core}.input_blocks.0.0.weight": (320, inputs, 3, 3)}
    depth = 10 if xl else 1
    shapes[f"{core}.input_blocks.{4 if xl else 1}.1.transformer_blocks.0.attn2.to_k.weight"] = reads
    for block in range(depth):
        shapes[f"{core}.middle_block.1.transformer_blocks.{block}.attn2.to_k.weight"] = reads
    shapes["first_stage_model.encoder.conv_in.weight"] = (128, 3, 3, 3)
    shapes["first_stage_model.decoder.conv_in.weight"] = (512, 4, 3, 3)
    if xl:
        shapes["conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight"] = (77, 768)
        shapes["conditioner.embedders.1.model.positional_embedding"] = (77, 1280)
        shapes["conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias"] = (1280,)
    else:
        shapes["cond_stage_model.transformer.text_model.embeddings.position_embedding.weight"] = (77, 768)
    return shapes
