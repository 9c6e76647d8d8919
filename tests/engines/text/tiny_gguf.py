"""Writes very small GGUF models with random weights, for tests. Knows the format as far as a small llama needs it."""

from __future__ import annotations

import random
import struct
from array import array
from pathlib import Path

CONTROL = ("<|im_start|>", "<|im_end|>", "[INST]", "[/INST]")
CONTEXT = 2048
_WIDTH, _HEADS, _INNER = 32, 2, 64

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def vocabulary() -> list[tuple[str, int]]:
    """(token, type): 1 normal, 2 unknown, 3 control, 6 byte."""
    tokens = [("<unk>", 2), ("<s>", 3), ("</s>", 3), *((name, 3) for name in CONTROL)]
    tokens += [(f"<0x{byte:02X}>", 6) for byte in range(256)]
    tokens += [(chr(code), 1) for code in range(33, 127)] + [("▁", 1), ("▁a", 1), ("▁the", 1), ("th", 1), ("he", 1)]
    return tokens


def write(path: Path, chat_template: str = "", architecture: str = "llama", seed: int = 1) -> Path:
    """Write a model of one block, about 100 KB. The same seed gives the same file."""
    chance = random.Random(seed)
    tokens = vocabulary()
    metadata: list[bytes] = [
        _text("general.architecture", architecture),
        _number(f"{architecture}.context_length", CONTEXT),
        _number(f"{architecture}.embedding_length", _WIDTH),
        _number(f"{architecture}.block_count", 1),
        _number(f"{architecture}.feed_forward_length", _INNER),
        _number(f"{architecture}.attention.head_count", _HEADS),
        _number(f"{architecture}.rope.dimension_count", _WIDTH // _HEADS),
        _key(f"{architecture}.attention.layer_norm_rms_epsilon", 6) + struct.pack("<f", 1e-5),
        _text("tokenizer.ggml.model", "llama"),
        _list("tokenizer.ggml.tokens", 8, [_string(token) for token, _ in tokens]),
        _list("tokenizer.ggml.scores", 6, [struct.pack("<f", -i) for i in range(len(tokens))]),
        _list("tokenizer.ggml.token_type", 5, [struct.pack("<i", kind) for _, kind in tokens]),
        _number("tokenizer.ggml.bos_token_id", 1),
        _number("tokenizer.ggml.eos_token_id", 2),
        _number("tokenizer.ggml.unknown_token_id", 0),
    ]
    if chat_template:
        metadata.append(_text("tokenizer.chat_template", chat_template))
    square, inner = (_WIDTH, _WIDTH), (_WIDTH, _INNER)
    shapes = {"token_embd": (_WIDTH, len(tokens)), "output_norm": (_WIDTH,)}
    for name, shape in {
        "attn_norm": (_WIDTH,), "attn_q": square, "attn_k": square, "attn_v": square, "attn_output": square,
        "ffn_norm": (_WIDTH,), "ffn_gate": inner, "ffn_up": inner, "ffn_down": (_INNER, _WIDTH),
    }.items():  # fmt: skip
        shapes[f"blk.0.{name}"] = shape
    infos, data = b"", b""
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        infos += _string(f"{name}.weight") + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        infos += struct.pack("<IQ", 0, len(data))
        data += array("f", (1.0 if "norm" in name else chance.gauss(0, 0.3) for _ in range(count))).tobytes()
        data += bytes(-len(data) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(metadata)) + b"".join(metadata) + infos
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return path


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _key(name: str, kind: int) -> bytes:
    return _string(name) + struct.pack("<I", kind)


def _text(name: str, text: str) -> bytes:
    return _key(name, 8) + _string(text)


def _number(name: str, value: int) -> bytes:
    return _key(name, 4) + struct.pack("<I", value)


def _list(name: str, kind: int, values: list[bytes]) -> bytes:
    return _key(name, 9) + struct.pack("<IQ", kind, len(values)) + b"".join(values)
