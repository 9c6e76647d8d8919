"""Language models in the folder layout of transformers, with weights in safetensors. Imports no transformers.

Layout: config.json names the kind and its sizes, tokenizer.json reads texts, and the weights are one file or the shards
of an index.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio.core.cards import Broken, Capability, Limits, ModelCard, Needs, NotThisKind
from studio.core.text import shown
from studio.models.about import card_id, counted, safe_name
from studio.models.bases import text_base
from studio.models.diffusers_folder import checked_weights
from studio.models.reading import COPY_AGAIN, code_in, read_json_object, regular_size
from studio.models.safetensors_header import SafetensorsHeader, read_safetensors, suspicious_weights
from studio.models.tokenizer_files import vocabulary_of

# What transformers 5.23 opens by AutoModelForCausalLM and what writes; encoders, listeners and painters are left out.
CAUSAL = frozenset({
    "afmoe", "apertus", "arcee", "axk1", "axk2", "bailing_hybrid", "bamba", "biogpt", "bitnet", "bloom", "codegen",
    "cohere", "cohere2", "cohere2_moe", "cwm", "dbrx", "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4",
    "diffllama", "doge", "dots1", "dots3_note_text", "ernie4_5", "ernie4_5_moe", "exaone4", "exaone_moe", "falcon",
    "falcon_h1", "falcon_mamba", "flex_olmo", "flint", "gemma", "gemma2", "gemma3", "gemma3_text", "gemma3n",
    "gemma3n_text", "gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text", "glm", "glm4", "glm4_moe",
    "glm4_moe_lite", "glm_moe_dsa", "gpt-sw3", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gpt_neox_japanese",
    "gpt_oss", "gptj", "granite", "granite_swa", "granitemoe", "granitemoe_swa", "granitemoehybrid",
    "granitemoeshared", "helium", "hrm_text", "hunyuan_v1_dense", "hunyuan_v1_moe", "hy_v3", "hy_v4", "hyperclovax",
    "inkling2_text", "inkling_text", "internlm3", "iquestcoder", "jais2", "jamba", "jetmoe", "kimi_linear",
    "kolibri1", "laguna", "lfm2", "lfm2_moe", "lfm3", "llama", "llama4", "llama4_text", "longcat_flash", "mamba",
    "mamba2", "mellum", "mimo_v2_flash", "minicpm3", "minimax", "minimax_m2", "minimax_m3_vl_text", "ministral",
    "ministral3", "mistral", "mixtral", "modernbert-decoder", "mpt", "nanochat", "nemotron", "nemotron_h", "olmo",
    "olmo2", "olmo3", "olmo_hybrid", "olmoe", "openai-gpt", "opt", "persimmon", "phi", "phi3", "phimoe", "qwen2",
    "qwen2_moe", "qwen3", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_moe", "qwen3_next",
    "qwen4_exp", "qwen4_exp_text", "recurrent_gemma", "rwkv", "seed_oss", "smollm3", "solar_open", "stablelm",
    "starcoder2", "vaultgemma", "xglm", "xlstm", "youtu", "zamba", "zamba2", "zaya",
})  # fmt: skip
_ENDINGS = ("ForCausalLM", "LMHeadModel")
_NUMBER = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}  # bytes
_TEMPLATE_LIMIT = 1024 * 1024  # bytes


def look_transformers(path: Path) -> ModelCard | NotThisKind | Broken:
    """A folder with a config.json of a language model, or that file itself."""
    folder = path.parent if path.name == "config.json" and path.is_file() else path
    if not folder.is_dir() or not (folder / "config.json").is_file() or (folder / "model_index.json").is_file():
        return NotThisKind("it is not a folder with config.json")
    config = read_json_object(folder / "config.json")
    if isinstance(config, Broken):
        return config
    if "_class_name" in config:
        return NotThisKind("it is not in the layout of transformers")
    kind = config.get("model_type")
    made_by = config.get("architectures")
    named = made_by[0] if isinstance(made_by, list) and made_by and isinstance(made_by[0], str) else ""
    writes = named.endswith(_ENDINGS) or (kind in CAUSAL and (not named or "ForConditionalGeneration" in named))
    if not isinstance(kind, str) or not writes:
        return NotThisKind("it is not a language model in the layout of transformers")
    refused = code_in(config, "config.json")  # before the kind: what is unknown mostly brings code
    if refused is not None:
        return refused
    if kind not in CAUSAL:
        return NotThisKind(f"it is a “{shown(kind, 40)}”, a kind of text model that the installed transformers lacks")
    if "quantization_config" in config:
        return NotThisKind(
            "its weights are quantised for a library that is not here; take the plain model, or a GGUF file of it"
        )
    return _tokenizer(folder, config) or _carded(folder, kind, config)


def _tokenizer(folder: Path, config: dict[str, Any]) -> Broken | None:
    """What is wrong with the tokenizer, told before gigabytes are read."""
    if not (folder / "tokenizer.json").is_file():
        return Broken(
            "its tokenizer.json is missing",
            "Copy it from where the model came from; one with tokenizer.model only has to be saved anew there.",
        )
    for name in ("tokenizer_config.json", "generation_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            settings = read_json_object(folder / name)
            if isinstance(settings, Broken):
                return settings
            refused = code_in(settings, name)
            if refused is not None:
                return refused
            if settings.get("custom_generate"):
                return Broken(f"its {name} asks to run code that comes with the model", code="model_refused")
    tokens = vocabulary_of(folder)
    if isinstance(tokens, Broken):
        return tokens
    known = _whole(_text_part(config), "vocab_size")
    if tokens is not None and known and tokens > known:
        return Broken(f"its tokenizer has {tokens:,} tokens and its weights {known:,}", COPY_AGAIN)
    return None


def _carded(folder: Path, kind: str, config: dict[str, Any]) -> ModelCard | Broken:
    weights = checked_weights(folder, "model")
    if isinstance(weights, Broken):
        return weights
    size = sum(file.stat().st_size for file in weights)
    parameters, dtypes, notes = 0, dict[str, int](), list[str]()
    for file in weights:
        header = read_safetensors(file)
        if isinstance(header, Broken):
            return header
        parameters += header.parameters
        for dtype, count in header.dtypes.items():
            dtypes[dtype] = dtypes.get(dtype, 0) + count
        if not notes and (note := suspicious_weights(file, header)):
            notes.append(note)
    inner = _text_part(config)
    chats = has_template(folder)
    can: tuple[Capability, ...] = ("complete", "chat") if chats else ("complete",)
    usual = max(dtypes, key=lambda dtype: dtypes[dtype], default="")
    notes.insert(0, f"{counted(parameters)} parameters, {usual}")
    if not chats:
        notes.append("a base model: it has no chat template")
    numbers = {_NUMBER.get(dtype, 0) for dtype in dtypes}
    name = safe_name(folder.absolute().name, "text model")
    return ModelCard(
        id=card_id(name, folder),
        name=name,
        kind="text",
        engine="text.transformers",
        path=str(folder.absolute()),
        format="transformers",
        family=shown(kind, 40),
        base=text_base(kind, *shape_of(config)),
        bytes=size,
        can=can,
        limits=Limits(context=_longest(inner)),
        needs=Needs(
            weights=size,
            largest=max(file.stat().st_size for file in weights),
            number=numbers.pop() if len(numbers) == 1 else 0,
            per_token=_per_token(inner),
        ),
        notes=tuple(notes),
    )


def has_template(folder: Path) -> bool:
    """Whether a chat template lies beside the model: in a file of its own, or in the tokenizer's settings."""
    size = regular_size(folder / "chat_template.jinja")
    if isinstance(size, int) and 0 < size <= _TEMPLATE_LIMIT:
        return True
    settings = read_json_object(folder / "tokenizer_config.json")
    return isinstance(settings, dict) and bool(settings.get("chat_template"))


def shape_of(config: dict[str, Any]) -> tuple[int, int]:
    """Width and layers as a config.json says them; 0 where it does not."""
    inner = _text_part(config)
    width = _whole(inner, "hidden_size", "n_embd", "d_model", "dim")
    return width, _whole(inner, "num_hidden_layers", "n_layer", "n_layers", "num_layers")


def header_of(folder: Path) -> SafetensorsHeader | Broken:
    """The header of a model's only or first file of weights."""
    weights = checked_weights(folder, "model")
    return weights if isinstance(weights, Broken) else read_safetensors(weights[0])


def _text_part(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of the part that writes, where a model also sees or hears."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def _whole(config: dict[str, Any], *keys: str) -> int:
    for key in keys:
        value = config.get(key)
        if type(value) is int and 0 < value < 1 << 31:
            return value
    return 0


def _longest(config: dict[str, Any]) -> int | None:
    return (
        _whole(config, "max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "seq_length") or None
    )


def _per_token(config: dict[str, Any]) -> int:
    """Bytes that one token takes in the cache of keys and values, in float16; 0 if not said."""
    heads = _whole(config, "num_attention_heads", "n_head", "n_heads")
    width = _whole(config, "hidden_size", "n_embd", "d_model")
    each = _whole(config, "head_dim") or (width // heads if heads else 0)
    kept = _whole(config, "num_key_value_heads") or heads
    return _whole(config, "num_hidden_layers", "n_layer", "n_layers") * kept * each * 2 * 2
