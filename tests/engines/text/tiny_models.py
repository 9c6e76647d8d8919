"""Small language models with random weights and tokenizers of their own, as transformers and peft save them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

TEXT = (
    "Once upon a time there was a small house by the sea. The house had a blue door, and behind the door lived a cat "
    "who could count to seven. Every morning she counted the boats: one, two, three. In the evening she slept. "
    "Ein Haus am Meer, 我爱猫, naïve café, 12345 67.89 — “quotes” and 'more'.\n\n\tdef f(x):\n\t\treturn x + 1\n"
) * 4
CHAT = (
    "{{ bos_token }}{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
SPECIAL = ["<bos>", "<eos>", "<|turn|>", "<|end|>"]
ARCHITECTURES = ("gpt2", "llama", "qwen3", "gemma3_text")


def tokenizer(folder: Path, *, chat: str = "", begins: bool = True, metaspace: bool = False) -> Any:
    """A tokenizer saved in `folder`: byte-level BPE, or one that marks words by ▁ and falls back to bytes.

    Args:
        begins: it sets <bos> before a text.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    if metaspace:
        made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        special = ["<unk>", *SPECIAL, *(f"<0x{i:02X}>" for i in range(256))]
        made.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=480, special_tokens=special[:5]))
        written = json.loads(made.to_str())
        vocabulary = written["model"]["vocab"]
        for byte in special[5:]:
            vocabulary.setdefault(byte, len(vocabulary))
        made = Tokenizer.from_str(json.dumps(written))
    else:
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
        )
        made.train_from_iterator([TEXT], trainer)
    if begins:
        made.post_processor = processors.TemplateProcessing(
            single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", made.token_to_id("<bos>"))]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<bos>", eos_token="<eos>", additional_special_tokens=["<|turn|>", "<|end|>"],
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    if chat:
        fast.chat_template = chat
    fast.save_pretrained(folder)
    return fast


def config(kind: str, read: Any, **more: Any) -> Any:
    import transformers

    shape: dict[str, Any] = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": 256, "head_dim": 8, "rms_norm_eps": 1e-5,
    }  # fmt: skip
    common = {
        "vocab_size": len(read), "bos_token_id": read.bos_token_id, "eos_token_id": read.eos_token_id,
        "pad_token_id": None,
    }  # fmt: skip
    if kind == "gpt2":
        shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
        return transformers.GPT2Config(**{**common, **shape, **more})
    if kind == "gemma3_text":
        # llama.cpp reads each sixth layer as a full one, and scales by the width of a head
        shape |= {"sliding_window": 16, "layer_types": ["sliding_attention"] * 2, "query_pre_attn_scalar": 8}
        return transformers.Gemma3TextConfig(**{**common, **shape, **more})
    made_by = {"llama": transformers.LlamaConfig, "qwen3": transformers.Qwen3Config}[kind]
    return made_by(**{**common, **shape, **more})


def model(
    folder: Path, kind: str = "llama", *, seed: int = 7, chat: str = "", metaspace: bool = False, **more: Any
) -> Path:
    """A model of two layers saved in `folder`. Its numbers are so large that texts are varied, and hardly ever end."""
    import torch
    import transformers

    read = tokenizer(folder, chat=chat, metaspace=metaspace)
    torch.manual_seed(seed)
    settings = config(kind, read, initializer_range=0.3, **more)
    made = transformers.AutoModelForCausalLM.from_config(settings)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.dim() == 1 and "norm" in name:  # a norm of ones would hide a wrong order of layers
                parameter.add_(torch.randn_like(parameter) * 0.1)
        made.get_output_embeddings().weight[: read.eos_token_id + 3] = 0.0  # the ends of a text are unlikely
    made.save_pretrained(folder)
    return folder


def lora(folder: Path, base: Path, *, seed: int = 3, rank: int = 4, size: float = 0.5, **more: Any) -> Path:
    """A LoRA for the model in `base`, with random weights, saved by plain peft."""
    import peft
    import torch
    import transformers

    made = transformers.AutoModelForCausalLM.from_pretrained(base, local_files_only=True)
    settings = {"target_modules": "all-linear", **more}
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a future version of transformers
        wrapped = peft.get_peft_model(made, peft.LoraConfig(r=rank, lora_alpha=8, task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0.0, size)
    wrapped.save_pretrained(folder)
    return folder
