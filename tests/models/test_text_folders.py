"""Language models of transformers and LoRAs of peft: told from their files, refused with the reason, never opened."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.core.cards import Broken, Looked, ModelCard, NotThisKind, same_base
from studio.core.paths import Paths
from studio.models import memory, registry
from studio.models.bases import title_of
from studio.models.identify import look
from studio.models.transformers_folder import CAUSAL
from tests.models.makers import edit_json, gguf, gguf_of, setting, tensor, weights, write_json

SHAPES = {
    "model.embed_tokens.weight": (8, 32),
    "model.layers.0.mlp.up_proj.weight": (64, 32),
    "model.norm.weight": (32,),
}


def folder(path: Path, kind: str = "llama", made_by: str = "LlamaForCausalLM", **more: Any) -> Path:
    write_json(
        path / "config.json",
        {
            "model_type": kind, "architectures": [made_by], "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 8,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, **more,
        },
    )  # fmt: skip
    write_json(
        path / "tokenizer.json",
        {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}, "added_tokens": [{"id": 7}]},
    )
    write_json(path / "tokenizer_config.json", {"eos_token": "b"})
    weights(path / "model.safetensors", SHAPES)
    return path


def lora(path: Path, layers: int = 2, width: int = 32, **more: Any) -> Path:
    write_json(
        path / "adapter_config.json",
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": 4,
            "base_model_name_or_path": "/somewhere/big-model",
            **more,
        },
    )
    shapes: dict[str, tuple[int, ...]] = {}
    for at in range(layers):
        name = f"base_model.model.model.layers.{at}.self_attn.q_proj"
        shapes |= {f"{name}.lora_A.weight": (4, width), f"{name}.lora_B.weight": (16, 4)}
    weights(path / "adapter_model.safetensors", shapes)
    return path


def card(looked: Looked) -> ModelCard:
    assert isinstance(looked, ModelCard), looked
    return looked


def why(looked: Looked) -> str:
    assert isinstance(looked, (Broken, NotThisKind)), looked
    return looked.why


def test_a_folder_of_transformers_is_a_text_model(tmp_path: Path) -> None:
    made = card(look(folder(tmp_path / "Tiny")))
    assert (made.kind, made.engine, made.format, made.family) == ("text", "text.transformers", "transformers", "llama")
    assert (made.name, made.base, made.can, made.limits.context) == ("Tiny", "llama/32/2", ("complete",), 512)
    assert made.bytes == (tmp_path / "Tiny" / "model.safetensors").stat().st_size
    assert (made.needs.number, made.needs.per_token) == (2, 2 * 2 * 8 * 2 * 2)
    assert "2,336 parameters, F16" in made.notes
    assert card(look(tmp_path / "Tiny" / "config.json")) == made


def test_a_template_beside_it_lets_it_chat(tmp_path: Path) -> None:
    edit_json(folder(tmp_path / "a") / "tokenizer_config.json", chat_template="{{ messages }}")
    (folder(tmp_path / "b") / "chat_template.jinja").write_text("{{ messages }}")
    assert card(look(tmp_path / "a")).can == card(look(tmp_path / "b")).can == ("complete", "chat")


def test_the_kinds_are_those_that_the_library_opens() -> None:
    mapping = pytest.importorskip("transformers.models.auto.modeling_auto").MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    assert set(mapping) > CAUSAL


def no_shard(path: Path) -> None:
    (path / "model.safetensors").unlink()
    weights(path / "model-00001-of-00002.safetensors", SHAPES)
    files = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    write_json(path / "model.safetensors.index.json", {"weight_map": files})


def outside(path: Path) -> None:
    no_shard(path)
    write_json(path / "model.safetensors.index.json", {"weight_map": {"a": "../model.safetensors"}})


def cut(path: Path) -> None:
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-7])


SPOILT: list[tuple[Callable[[Path], object], str, str]] = [
    (lambda p: (p / "tokenizer.json").unlink(), "model_broken", "tokenizer.json is missing"),
    (lambda p: edit_json(p / "config.json", vocab_size=5), "model_broken", "8 tokens and its weights 5"),
    (lambda p: edit_json(p / "config.json", auto_map={"A": "b.C"}), "model_refused", "run code"),
    (lambda p: edit_json(p / "tokenizer_config.json", auto_map={"A": "b.C"}), "model_refused", "run code"),
    (lambda p: write_json(p / "generation_config.json", {"custom_generate": "x"}), "model_refused", "run code"),
    (lambda p: (p / "model.safetensors").rename(p / "pytorch_model.bin"), "model_refused", "pickle"),
    (lambda p: (p / "model.safetensors").unlink(), "model_broken", "are missing"),
    (no_shard, "model_broken", "model-00002-of-00002.safetensors is missing"),
    (outside, "model_refused", "outside"),
    (cut, "model_broken", "incomplete"),
    (lambda p: (p / "tokenizer.json").write_text("{"), "model_broken", "tokenizer.json is damaged"),
]


@pytest.mark.parametrize(("spoil", "code", "says"), SPOILT)
def test_what_is_wrong_is_said_before_anything_is_loaded(
    spoil: Callable[[Path], object], code: str, says: str, tmp_path: Path
) -> None:
    spoil(folder(tmp_path / "m"))
    looked = look(tmp_path / "m")
    assert says in why(looked)
    assert isinstance(looked, Broken)
    assert looked.code == code


@pytest.mark.parametrize(
    ("kind", "made_by", "more", "says"),
    [
        ("brandnew", "BrandNewForCausalLM", {}, "“brandnew”"),
        ("bert", "BertForMaskedLM", {}, "not of a model that writes"),
        ("llama", "LlamaForSequenceClassification", {}, "not of a model that writes"),
        ("llama", "LlamaForCausalLM", {"quantization_config": {"quant_method": "awq"}}, "quantised"),
    ],
)
def test_what_does_not_write_or_cannot_be_opened_is_told(
    kind: str, made_by: str, more: dict[str, Any], says: str, tmp_path: Path
) -> None:
    looked = look(folder(tmp_path, kind, made_by, **more))
    assert isinstance(looked, NotThisKind)
    assert says in looked.why


def test_a_model_that_also_sees_is_measured_by_the_part_that_writes(tmp_path: Path) -> None:
    inner = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 8}
    made = card(look(folder(tmp_path / "m", "gemma3", "Gemma3ForConditionalGeneration", text_config=inner)))
    assert made.base == "gemma3/64/3"


def test_memory_is_reckoned_in_the_numbers_that_are_computed_in(tmp_path: Path) -> None:
    made = card(look(folder(tmp_path / "m")))
    assert memory.estimate(made).weights == 2 * made.bytes  # float16 on disk, float32 on a processor
    assert memory.estimate(made, number=2).weights == made.bytes
    assert not memory.estimate(made).mapped


# --- LoRAs


def test_a_peft_folder_is_a_lora_for_texts(tmp_path: Path) -> None:
    made = card(look(lora(tmp_path / "poet")))
    assert (made.kind, made.name, made.format, made.base) == ("text-lora", "poet", "peft", "/32/2")
    assert made.notes == ("rank 4", "made for big-model")
    assert card(look(tmp_path / "poet" / "adapter_model.safetensors")) == made
    write_json(
        tmp_path / "poet" / "studio.json",
        {"name": "Poet", "base": {"name": "Gemma", "family": "gemma3"}, "data": "x", "metrics": {"valid": 1.0}},
    )
    made = card(look(tmp_path / "poet"))
    assert (made.name, made.base, made.notes) == ("Poet", "gemma3/32/2", ("rank 4", "made for Gemma"))


def test_other_adapters_are_told_apart(tmp_path: Path) -> None:
    assert "another task" in why(look(lora(tmp_path / "a", task_type="SEQ_CLS")))
    assert "IA3" in why(look(lora(tmp_path / "b", peft_type="IA3")))
    assert "changes the model under it" in why(look(lora(tmp_path / "c", init_lora_weights="pissa_niter_4")))
    assert "for another library" in why(look(lora(tmp_path / "d", megatron_config={"a": 1}, megatron_core="os")))
    (lora(tmp_path / "e") / "adapter_model.safetensors").rename(tmp_path / "e" / "adapter_model.bin")
    looked = look(tmp_path / "e")
    assert isinstance(looked, Broken)
    assert looked.code == "model_refused"
    shapes: dict[str, tuple[int, ...]] = {"base_model.model.model.layers.0.q_proj.lora_A.weight": (4, 8)}
    weights(lora(tmp_path / "f") / "adapter_model.safetensors", shapes)
    assert "do not fit each other" in why(look(tmp_path / "f"))
    some = card(look(lora(tmp_path / "g", layers_to_transform=[0, 1])))
    assert some.base == "/32/", "of some layers only: how many the model has is not told"


def test_a_gguf_adapter_is_a_lora_for_texts(tmp_path: Path) -> None:
    values = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
    halves = [
        tensor("blk.0.attn_q.weight.lora_a", [32, 4], 0, 0),
        tensor("blk.0.attn_q.weight.lora_b", [4, 16], 0, 512),
    ]
    data = gguf_of([setting(k, v) for k, v in values.items()], halves, 512 + 256)
    (tmp_path / "poet.gguf").write_bytes(data)
    made = card(look(tmp_path / "poet.gguf"))
    assert (made.kind, made.format, made.engine, made.base) == ("text-lora", "gguf", "text.llama", "llama/32/1")
    (tmp_path / "bare.gguf").write_bytes(gguf_of([setting(k, v) for k, v in list(values.items())[:2]], halves, 768))
    assert "another kind" in why(look(tmp_path / "bare.gguf"))


def test_loras_and_models_are_found_and_fit_by_kind_and_shape(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    folder(paths.models / "trained" / "one")
    lora(paths.models / "trained" / "poet")
    (paths.models / "two.gguf").write_bytes(gguf(llama__embedding_length=32, llama__block_count=2))
    cards = {c.name: c for c in registry.found(paths)[0] if c.source == "data"}
    assert {name: c.kind for name, c in cards.items()} == {"one": "text", "poet": "text-lora", "two": "text"}
    assert cards["one"].base == cards["two"].base == "llama/32/2"
    assert same_base(cards["poet"].base, cards["one"].base)
    assert not same_base("/64/2", "llama/32/2")
    assert not same_base("gemma3/32/2", "llama/32/2")
    assert same_base("", "llama/32/2")
    assert not same_base("sd1", "llama/32/2")
    assert not same_base("sd1", "sdxl")
    assert title_of("gemma3/640/18") == "gemma3 with 18 layers and a width of 640"
    assert title_of("/640/") == "a language model with a width of 640"
    (paths.models / "trained" / "poet" / "adapter_config.json").write_text(json.dumps({"peft_type": "IA3"}))
    assert "poet" not in {c.name for c in registry.found(paths)[0]}, "its settings changed"
