"""A LoRA of peft as a GGUF file that llama.cpp lays over a model. Knows how both name a model's layers.

The strength that peft computes from alpha and rank is written into the second matrix, so that the file needs neither.
Layout: as llama.cpp's `llama-adapter.cpp` reads it.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from pathlib import Path
from typing import Any

from studio.core.cards import Broken
from studio.core.problems import EngineMissing, ModelBroken, ModelUnfit
from studio.core.text import shown
from studio.models.gguf_header import GGUFHeader
from studio.models.reading import read_json_object
from studio.models.text_adapters import CONFIG, WEIGHTS

# Architectures whose matrices are in a GGUF file as in transformers; of the others the converter turns or mixes some.
PLAIN = frozenset({"gpt2", "gemma", "gemma2", "gemma3", "qwen2", "qwen3"})
# Here the rows of these two are in another order: a head's halves lie between each other, not one after another.
TURNED = {"llama": ("q_proj", "k_proj")}
_HALF = re.compile(r"^base_model\.model\.(?P<layer>.+)\.lora_(?P<half>[AB])(?:\.[A-Za-z0-9_]+)?\.weight$")


def write(folder: Path, header: GGUFHeader, target: Path, name: str) -> None:
    """Write the LoRA in `folder` for a GGUF model with this header. Complete, or not there.

    Args:
        folder: looked at before: a plain LoRA in safetensors. name: what it is called in sentences.

    Raises:
        ModelUnfit: it does not fit the model, or the architecture is not known here. ModelBroken, EngineMissing.
        OSError: it could not be written.
    """
    try:
        import gguf
        from safetensors.numpy import load_file
    except ImportError as error:
        raise EngineMissing("LoRAs for GGUF models need the library gguf.", detail=str(error)) from error
    kind = header.architecture
    if kind not in PLAIN and kind not in TURNED:
        raise ModelUnfit(
            f"LoRAs of peft cannot be laid over a GGUF model of the kind “{shown(kind)}” here.",
            "Use the model's folder of safetensors, or merge the LoRA into it and write that as GGUF.", field="loras",
        )  # fmt: skip
    config = read_json_object(folder / CONFIG)
    if isinstance(config, Broken):
        raise ModelBroken(f"The LoRA “{shown(name)}” cannot be used: {config.why}.", config.hint, field="loras")
    if config.get("use_dora") or config.get("modules_to_save") or config.get("trainable_token_indices"):
        raise ModelUnfit(
            f"The LoRA “{shown(name)}” is more than a plain one, which a GGUF model cannot take.",
            "Merge it into the model's folder of safetensors and write that as GGUF.", field="loras",
        )  # fmt: skip
    blocks = header.metadata.get(f"{kind}.block_count")
    names = gguf.get_tensor_name_map(_architecture(gguf, kind), blocks if type(blocks) is int else 0)
    halves = _halves(load_file(folder / WEIGHTS), name)
    out = gguf.GGUFWriter(None, kind)
    out.add_type("adapter")
    out.add_string("adapter.type", "lora")
    out.add_float32("adapter.lora.alpha", 0.0)  # 0: the second matrix holds it
    for layer, (first, second) in sorted(halves.items()):
        at = names.get_name(f"{layer}.weight", try_suffixes=(".weight",))
        matrix = header.tensors.get(at) if at else None
        if matrix is None or matrix.shape != (first.shape[1], second.shape[0]):
            raise ModelUnfit(
                f"The LoRA “{shown(name)}” does not fit this model: its layer “{shown(layer)}” is not in it.",
                "Choose one that was made for this model.", field="loras",
            )  # fmt: skip
        second = second * _strength(config, layer, first.shape[0])
        part = layer.rpartition(".")[2]
        if part in TURNED.get(kind, ()):
            second = _turned(second, _heads(header, "head_count_kv" if part == "k_proj" else "head_count"))
        out.add_tensor(f"{at}.lora_a", first)
        out.add_tensor(f"{at}.lora_b", second)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        out.write_header_to_file(temporary)
        out.write_kv_data_to_file()
        out.write_tensors_to_file()
        out.close()
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _architecture(gguf: Any, kind: str) -> Any:
    return next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == kind)


def _halves(tensors: dict[str, Any], name: str) -> dict[str, tuple[Any, Any]]:
    """Layer -> its two matrices, (rank, in) and (out, rank), in float32."""
    found: dict[str, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        half = _HALF.match(key)
        if half is None or tensor.ndim != 2:
            raise ModelUnfit(
                f"The LoRA “{shown(name)}” has a part that a GGUF model cannot take: “{shown(key)}”.", field="loras"
            )
        found.setdefault(half["layer"], {})[half["half"]] = tensor.astype("float32")
    return {layer: (pair["A"], pair["B"]) for layer, pair in found.items() if len(pair) == 2}


def _strength(config: dict[str, Any], layer: str, rank: int) -> float:
    """What peft multiplies a layer's product by."""
    alpha = config.get("lora_alpha", 8)
    patterns = config.get("alpha_pattern")
    for pattern, own in patterns.items() if isinstance(patterns, dict) else ():
        if layer == pattern or layer.endswith(f".{pattern}"):
            alpha = own
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _heads(header: GGUFHeader, key: str) -> int:
    value = header.metadata.get(f"{header.architecture}.attention.{key}")
    value = value if type(value) is int and value > 0 else header.metadata.get(
        f"{header.architecture}.attention.head_count"
    )  # fmt: skip
    if type(value) is not int or value <= 0:
        raise ModelBroken("The model's file does not say how many heads it has.")
    return value


def _turned(matrix: Any, heads: int) -> Any:
    rows, rank = matrix.shape
    return matrix.reshape(heads, 2, rows // heads // 2, rank).swapaxes(1, 2).reshape(rows, rank)
