"""GGUF files that llama.cpp can write texts with. Knows which architectures write; knows nothing of llama.cpp's API."""

from __future__ import annotations

import re
from pathlib import Path

from studio.core.cards import Broken, Capability, Limits, ModelCard, Needs, NotThisKind
from studio.core.text import shown
from studio.models.about import card_id, counted, safe_name
from studio.models.bases import text_base
from studio.models.gguf_header import GGUFHeader, read_gguf
from studio.models.reading import COPY_AGAIN, head_of

_SPLIT = re.compile(r"^(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf$", re.IGNORECASE)

# GGUF is also used for models that do not write text. Architecture -> what it is.
OTHER_KINDS = {
    "clip": "the part of another model that sees pictures",
    "flux": "a picture model", "sd1": "a picture model", "sd3": "a picture model", "sdxl": "a picture model",
    "aura": "a picture model", "lumina2": "a picture model", "qwen_image": "a picture model",
    "hidream": "a picture model", "pig": "a picture model", "cosmos": "a video model", "wan": "a video model",
    "ltxv": "a video model", "hyvid": "a video model", "whisper": "a model that listens", "kokoro": "a voice",
    "parler-tts": "a voice", "dia": "a voice", "wavtokenizer-dec": "a part of a voice",
    "bert": "a model that compares texts", "nomic-bert": "a model that compares texts",
    "nomic-bert-moe": "a model that compares texts", "jina-bert-v2": "a model that compares texts",
    "jina-bert-v3": "a model that compares texts", "modern-bert": "a model that compares texts",
    "neo-bert": "a model that compares texts", "eurobert": "a model that compares texts",
    "gemma-embedding": "a model that compares texts", "t5encoder": "a model that compares texts",
    "t5": "a translation model of a kind that is not supported",
}  # fmt: skip
OTHER_TYPES = {
    "adapter": "a LoRA for another model, not a model",
    "mmproj": "the part of another model that sees pictures",
    "vocab": "a vocabulary without a model",
    "imatrix": "statistics for making a model smaller",
}


def look_gguf(path: Path) -> ModelCard | NotThisKind | Broken:
    """A file named .gguf, or one that begins like a GGUF file."""
    if not path.is_file():
        return NotThisKind("it is not a file")
    if path.suffix.lower() != ".gguf":
        head = head_of(path, 4)
        if isinstance(head, Broken) or head != b"GGUF":
            return NotThisKind("it is not a GGUF file")
    header = read_gguf(path)
    if isinstance(header, Broken):
        return header
    return _not_for_text(header) or _damaged(header) or _carded(path, header)


def _not_for_text(header: GGUFHeader) -> NotThisKind | None:
    kind = header.metadata.get("general.type")
    what = OTHER_TYPES.get(kind) if isinstance(kind, str) else None
    what = what or OTHER_KINDS.get(header.architecture)
    if what is not None:
        return NotThisKind(f"it is {what}, not a text model")
    if header.split[0] > 0:
        return NotThisKind(f"it is part {header.split[0] + 1} of a model in {header.split[1]} files; give the first")
    return None


def _damaged(header: GGUFHeader) -> Broken | None:
    """What llama.cpp would stumble over while loading, found before gigabytes are read."""
    if not header.architecture:
        return Broken("it does not say of which architecture it is", COPY_AGAIN)
    if not header.tokenizer or (not header.vocabulary and header.tokenizer != "none"):
        return Broken("its tokenizer is missing", "Get a complete conversion of the model.")
    if header.tokenizer == "gpt2" and not header.merges:
        return Broken("its tokenizer has no merges", "Get a newer conversion of the model.")
    words = header.tensors.get("token_embd.weight")
    if words is None and header.split[1] == 1:
        return Broken("it holds no word embeddings, so it is not a whole model", COPY_AGAIN)
    if words is not None and len(words.shape) == 2 and words.shape[1] != header.vocabulary:
        return Broken(
            f"its tokenizer has {header.vocabulary:,} tokens and its weights {words.shape[1]:,}",
            "Get another conversion of the model.",
        )
    return None


def _carded(path: Path, header: GGUFHeader) -> ModelCard | Broken:
    parts = _parts(path, header)
    if isinstance(parts, Broken):
        return parts
    size = sum(p.stat().st_size for p in parts)
    name = safe_name(path.stem if not (m := _SPLIT.match(path.name)) else m["stem"], "text model")
    can: tuple[Capability, ...] = ("complete", "chat") if header.chat_template else ("complete",)
    licence = header.metadata.get("general.license")
    notes = [f"{counted(header.parameters)} parameters, {header.quantisation}"] if len(parts) == 1 else []
    if not header.chat_template:
        notes.append("a base model: it has no chat template")
    return ModelCard(
        id=card_id(name, path),
        name=name,
        kind="text",
        engine="text.llama",
        path=str(path.absolute()),
        format="gguf",
        family=shown(header.architecture, 40),
        base=text_base(header.architecture, *shape_of(header)),
        bytes=size,
        can=can,
        limits=Limits(context=header.context_length or None),
        needs=Needs(weights=size, per_token=_per_token(header)),
        licence=shown(licence, 60) if isinstance(licence, str) else "",
        notes=tuple(notes),
    )


def _parts(path: Path, header: GGUFHeader) -> list[Path] | Broken:
    """The files of a model, the first one first."""
    count = header.split[1]
    if count == 1:
        return [path]
    named = _SPLIT.match(path.name)
    if named is None or int(named["parts"]) != count or count > 999:
        return Broken(f"it is the first of {count} files, but is not named so", "Give it back its original name.")
    parts = [path]
    for number in range(2, count + 1):
        part = path.with_name(f"{named['stem']}-{number:05d}-of-{count:05d}.gguf")
        if not part.is_file():
            return Broken(f"part {number} of {count} is missing: {shown(part.name, 120)}", "Copy it beside the others.")
        inside = read_gguf(part)
        if isinstance(inside, Broken):
            return Broken(f"part {number} of {count} is unusable: {inside.why}", inside.hint, inside.code)
        parts.append(part)
    return parts


def _per_token(header: GGUFHeader) -> int:
    """Bytes that one token takes in the cache of keys and values, which llama.cpp keeps in float16; 0 if not said."""

    def said(key: str) -> int:
        value = header.metadata.get(f"{header.architecture}.{key}")
        return value if type(value) is int and 0 < value < 1 << 24 else 0

    heads = said("attention.head_count_kv") or said("attention.head_count")
    keys = said("attention.key_length") or said("embedding_length") // max(1, said("attention.head_count"))
    values = said("attention.value_length") or keys
    return said("block_count") * heads * (keys + values) * 2


def shape_of(header: GGUFHeader) -> tuple[int, int]:
    """Width and layers as the file says them; 0 where it does not."""
    width, layers = (header.metadata.get(f"{header.architecture}.{key}") for key in ("embedding_length", "block_count"))
    return (width if type(width) is int and width > 0 else 0), (layers if type(layers) is int and layers > 0 else 0)
