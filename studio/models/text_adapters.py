"""LoRAs of language models: folders as peft writes them, and GGUF files of llama.cpp. Imports neither.

Layout: adapter_config.json says how it works, and adapter_model.safetensors holds two small matrices for each layer.
A training here also leaves studio.json, whose "base" says what it was made for.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from studio.core.cards import Broken, ModelCard, Needs, NotThisKind
from studio.core.text import clean, shown
from studio.models.about import LIMIT, about_path, card_id, safe_name
from studio.models.bases import text_base
from studio.models.gguf_header import GGUFHeader, read_gguf
from studio.models.reading import CONVERT, COPY_AGAIN, code_in, head_of, read_json_object
from studio.models.safetensors_header import SafetensorsHeader, read_safetensors, suspicious_weights

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
KIND = "text-lora"
_LAYER = re.compile(r"\.(?:layers|h|blocks)\.(\d{1,4})\.")
# Linear layers that read what runs through the model: their width tells the model's.
_READS = re.compile(
    r"\.(q_proj|k_proj|v_proj|qkv_proj|c_attn|query_key_value|gate_proj|up_proj|gate_up_proj|c_fc|Wqkv|fc1|"
    r"dense_h_to_4h)\.lora_A\."
)
# Ways to begin that change the base as well; the adapter alone is worth nothing then.
_BEGUN = {"pissa", "olora", "corda", "eva", "loftq"}
# Settings of which a plain layer over a plain model knows nothing; the first makes peft import what the file names.
_STRANGE = {
    "megatron_config": "is made for another library", "layer_replication": "also copies layers of the model",
    "alora_invocation_tokens": "acts from certain words on only",
}  # fmt: skip


def look_peft(path: Path) -> ModelCard | NotThisKind | Broken:
    """A folder with an adapter_config.json for a language model, or one of its two files."""
    folder = path.parent if path.name in (CONFIG, WEIGHTS) and path.is_file() else path
    if not folder.is_dir() or not (folder / CONFIG).is_file():
        return NotThisKind("it is not a folder with adapter_config.json")
    config = read_json_object(folder / CONFIG)
    if isinstance(config, Broken):
        return config
    refused = code_in(config, CONFIG)
    if refused is not None:
        return refused
    task = config.get("task_type")
    if task not in ("CAUSAL_LM", None):
        return _unfit(f"it is an adapter for another task ({shown(str(task), 40)}), not for writing texts")
    if not (folder / WEIGHTS).is_file():
        if (folder / "adapter_model.bin").is_file():
            return Broken("its weights are a pickle (.bin), and opening a pickle can run any program", CONVERT,
                          "model_refused")  # fmt: skip
        return Broken(f"its {WEIGHTS} is missing", COPY_AGAIN)
    header = read_safetensors(folder / WEIGHTS)
    if isinstance(header, Broken):
        return Broken(f"its {WEIGHTS} is unusable: {header.why}", header.hint, header.code)
    if task is None and not _of_text(header):
        return NotThisKind("it is an adapter, but not of a language model")
    return _cannot(config, header) or _carded(folder, config, header)


def _of_text(header: SafetensorsHeader) -> bool:
    """Pictures' LoRAs are laid out alike; a denoiser's layers are called otherwise."""
    text = any(_READS.search(name) and _LAYER.search(name) for name in header.tensors)
    return text and not any("text_model" in name or "transformer_blocks" in name for name in header.tensors)


def _unfit(why: str) -> Broken:
    """It is an adapter and nothing else: its file must not be taken for a LoRA of pictures, which looks alike."""
    return Broken(why, code="model_unfit")


def _cannot(config: dict[str, Any], header: SafetensorsHeader) -> Broken | None:
    kind = config.get("peft_type")
    if kind != "LORA":
        return _unfit(f"it is a {shown(str(kind), 40)} adapter; a LoRA is loaded")
    begun = config.get("init_lora_weights")
    if isinstance(begun, str) and begun.casefold().partition("_")[0] in _BEGUN:
        return _unfit(
            f"it is a LoRA begun as {shown(begun, 40)}, which changes the model under it; a plain LoRA is loaded"
        )
    for key, does in _STRANGE.items():
        if config.get(key):
            return _unfit(f"it is a LoRA that {does} (“{key}”); a plain one is loaded")
    if not any(".lora_A." in name for name in header.tensors):
        return Broken("none of its layers is there", COPY_AGAIN)
    for name, tensor in header.tensors.items():
        if ".lora_A." in name and len(tensor.shape) == 2:
            other = header.tensors.get(name.replace(".lora_A.", ".lora_B."))
            if other is None or len(other.shape) != 2 or other.shape[1] != tensor.shape[0]:
                return Broken(f"the halves of “{shown(name)}” do not fit each other", COPY_AGAIN)
    return None


def _carded(folder: Path, config: dict[str, Any], header: SafetensorsHeader) -> ModelCard:
    size = (folder / WEIGHTS).stat().st_size
    name = safe_name(folder.absolute().name, "LoRA")
    made_for, family = _base(folder, config)
    ranks = Counter(t.shape[0] for n, t in header.tensors.items() if ".lora_A." in n and t.shape)
    notes = [f"rank {ranks.most_common(1)[0][0]}"]
    if made_for:
        notes.append(f"made for {made_for}")
    if config.get("modules_to_save"):
        notes.append("it also replaces whole layers, which its weight does not change")
    if note := suspicious_weights(folder / WEIGHTS, header):
        notes.append(note)
    return ModelCard(
        id=card_id(name, folder),
        name=name,
        kind=KIND,
        engine="text.transformers",
        path=str(folder.absolute()),
        format="peft",
        family="lora",
        base=text_base(family, *_shape(header, config)),
        bytes=size,
        needs=Needs(weights=size, largest=size),
        notes=tuple(notes),
    )


def _base(folder: Path, config: dict[str, Any]) -> tuple[str, str]:
    """The name of what it was made for, and its family where a training here wrote it down."""
    about = read_json_object(about_path(folder), LIMIT) if about_path(folder).is_file() else {}
    base = about.get("base") if isinstance(about, dict) else None
    if isinstance(base, dict):
        said, family = base.get("name"), base.get("family")
    else:
        said, family = base, None
    if not isinstance(said, str) or not said.strip():
        said = config.get("base_model_name_or_path")
        said = said.replace("\\", "/").rstrip("/").rpartition("/")[2] if isinstance(said, str) else ""
    return shown(clean(said)[0], 80), shown(family, 40) if isinstance(family, str) else ""


def _shape(header: SafetensorsHeader, config: dict[str, Any]) -> tuple[int, int]:
    """Width and layers of the model it fits, as far as its own layers tell."""
    widths = Counter(t.shape[-1] for n, t in header.tensors.items() if _READS.search(n) and len(t.shape) == 2)
    width = widths.most_common(1)[0][0] if widths else 0
    numbers = {int(found[1]) for name in header.tensors if (found := _LAYER.search(name))}
    some = config.get("layers_to_transform") is not None or config.get("layer_replication")
    whole = numbers == set(range(len(numbers)))
    return width, len(numbers) if whole and not some else 0


def look_gguf_lora(path: Path) -> ModelCard | NotThisKind | Broken:
    """A GGUF file that says of itself that it is an adapter."""
    if not path.is_file():
        return NotThisKind("it is not a file")
    head = head_of(path, 4)
    if isinstance(head, Broken) or head != b"GGUF":
        return NotThisKind("it is not a GGUF file")
    header = read_gguf(path)
    if isinstance(header, Broken):
        return header
    if header.metadata.get("general.type") != "adapter":
        return NotThisKind("it is not an adapter")
    if header.metadata.get("adapter.type") != "lora":
        return NotThisKind("it is an adapter of another kind; a LoRA is loaded")
    if not header.architecture or not any(name.endswith(".lora_a") for name in header.tensors):
        return Broken("none of its layers is there", COPY_AGAIN)
    return _gguf_card(path, header)


def _gguf_card(path: Path, header: GGUFHeader) -> ModelCard:
    halves = {n: t.shape for n, t in header.tensors.items() if n.endswith(".lora_a") and len(t.shape) == 2}
    reads = ("attn_q", "attn_k", "attn_v", "attn_qkv", "ffn_gate", "ffn_up")
    widths = Counter(shape[0] for name, shape in halves.items() if name.split(".")[-3] in reads)
    numbers = {int(found[1]) for name in halves if (found := re.match(r"blk\.(\d{1,4})\.", name))}
    layers = len(numbers) if numbers == set(range(len(numbers))) else 0
    ranks = Counter(shape[1] for shape in halves.values())
    made_for = header.metadata.get("general.base_model.0.name")
    size = path.stat().st_size
    name = safe_name(path.stem, "LoRA")
    notes = [f"rank {ranks.most_common(1)[0][0]}"] if ranks else []
    if isinstance(made_for, str) and made_for.strip():
        notes.append(f"made for {shown(clean(made_for)[0], 80)}")
    notes.append("for GGUF models only")
    return ModelCard(
        id=card_id(name, path),
        name=name,
        kind=KIND,
        engine="text.llama",
        path=str(path.absolute()),
        format="gguf",
        family="lora",
        base=text_base(header.architecture, widths.most_common(1)[0][0] if widths else 0, layers),
        bytes=size,
        needs=Needs(weights=size, largest=size),
        notes=tuple(notes),
    )
