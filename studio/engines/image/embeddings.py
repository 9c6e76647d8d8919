"""Textual inversion: words that a model is taught by a small file, loaded into its text encoders and taken out again.

Knows tokenizers and embedding tables. Every vector gets a token of its own under a name that nobody writes; `spelled`
puts these in the place of the word in a prompt. So neither a word of the vocabulary nor a part of one is ever touched,
and any pipeline that reads words reads them.
"""

from __future__ import annotations

import copy
import re
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.core.problems import BadRecipe, ModelBroken, ModelMissing, ModelRefused, ModelUnfit
from studio.core.text import shown

_FILE_LIMIT = 100_000_000  # bytes; a thousand vectors for the widest text encoders have less
_MOST_VECTORS = 1_000
_COPY_AGAIN = "Copy or download it again."
_OLD_EOS = 2  # what CLIP's configurations say of the end token by mistake; the encoder then takes the highest token


@dataclass(frozen=True)
class _Word:
    """One embedding as it is loaded: what it is called in prompts, and the tokens that stand for it, one per vector."""

    triggers: tuple[str, ...]
    tokens: tuple[str, ...]


@dataclass
class _Loaded:
    """What was put into one text encoder, and what is needed to take it out."""

    key: tuple[Any, ...]
    words: tuple[_Word, ...]
    tokenizer: Any
    inner: Any  # the tokenizer's own part, as it was
    rows: int
    first: int  # the row of the first vector
    under: Any  # rows that were there before, where the table is longer than the vocabulary
    eos: Any
    pattern: re.Pattern[str]


_LOADED: weakref.WeakKeyDictionary[Any, _Loaded] = weakref.WeakKeyDictionary()  # by text encoder


def load(pipe: Any, files: Sequence[tuple[str, Path]]) -> None:
    """Make these embeddings, and no others, the ones a pipeline knows. What is loaded already is not read again.

    Pipelines that share their text encoders share what is loaded into them.

    Args:
        pipe: a pipeline that reads words by CLIP alone (the families of Stable Diffusion 1, 2 and XL).
        files: the name each goes by in a prompt, and its safetensors file.

    Raises:
        ModelUnfit: an embedding made for another base, or a pipeline that takes none.
        ModelMissing, ModelBroken, ModelRefused: a file. BadRecipe: two of the same name.
    """
    if not files:
        unload(pipe)
        return
    sides = _sides(pipe)
    if not sides:
        raise ModelUnfit("This model does not take embeddings.", "Leave them out, or choose a model of another family.")
    key = tuple((name, str(path), *_stamp(name, path)) for name, path in files)
    if all(encoder in _LOADED and _LOADED[encoder].key == key for _, _, encoder in sides):
        return
    names = [name.strip().casefold() for name, _ in files]
    for name in names:
        if not name or names.count(name) > 1:
            raise BadRecipe(
                f"Two embeddings are called “{shown(name)}”." if name else "An embedding has no name.",
                "Rename one of them under Models." if name else "", field="embeddings",
            )  # fmt: skip
    # everything is read and held against the model before anything of it is changed
    read = [(name.strip(), *_vectors(name, path, sides)) for name, path in files]
    if any(encoder.get_input_embeddings().weight.is_meta for _, _, encoder in sides):
        raise ModelUnfit(
            "Embeddings cannot be used while each layer of the model comes to the card one by one.",
            "Choose another way to save memory, or leave the embeddings out.", field="embeddings",
        )  # fmt: skip
    unload(pipe)
    words = tuple(
        _Word(
            tuple(dict.fromkeys((name, *own))),
            tuple(f"<|embedding:{n}:{i}|>" for i in range(len(next(iter(tables.values()))))),
        )
        for n, (name, own, tables) in enumerate(read)
    )
    try:
        for part, tokenizer, encoder in sides:
            _put(key, words, tokenizer, encoder, [tables[part] for _, _, tables in read])
    except (RuntimeError, MemoryError):
        unload(pipe)
        raise


def unload(pipe: Any) -> None:
    """Take out all that `load` put in, tokens and rows; then the pipeline gives what it gave before, byte for byte."""
    import torch

    for _, _, encoder in _sides(pipe):
        held = _LOADED.pop(encoder, None)
        if held is None:
            continue
        table = encoder.get_input_embeddings()
        rows = table.weight.data[: held.rows].clone()
        rows[held.first : held.first + len(held.under)] = held.under.to(rows.device, rows.dtype)
        table.weight = torch.nn.Parameter(rows, table.weight.requires_grad)
        table.num_embeddings = held.rows
        _end_token(encoder).eos_token_id = held.eos
        held.tokenizer._tokenizer = held.inner


def loaded(pipe: Any) -> tuple[Any, ...]:
    """What is loaded, as something to compare and to use as a key; empty where nothing is."""
    return next((_LOADED[e].key for _, _, e in _sides(pipe) if e in _LOADED), ())


def spelled(pipe: Any, text: str) -> str:
    """A prompt with the names of embeddings, bare or as <name>, replaced by the tokens that stand for their vectors.

    Names are found whole and whatever their case.
    """
    held = next((_LOADED[e] for _, _, e in _sides(pipe) if e in _LOADED), None)
    if held is None:
        return text
    tokens = {t.casefold(): " ".join(w.tokens) for w in held.words for t in w.triggers}
    return held.pattern.sub(lambda found: f" {tokens[(found[1] or found[2]).casefold()]} ", text)


def groups(pipe: Any, tokenizer: Any) -> dict[int, tuple[int, int]]:
    """Of each token that stands for a vector: how far into its word it is, and how many vectors the word has."""
    held = next((_LOADED[e] for _, t, e in _sides(pipe) if e in _LOADED and t is tokenizer), None)
    if held is None:
        return {}
    return {
        int(tokenizer.convert_tokens_to_ids(token)): (i, len(word.tokens))
        for word in held.words
        for i, token in enumerate(word.tokens)
    }


def _sides(pipe: Any) -> list[tuple[str, Any, Any]]:
    """Name in an embedding's file, tokenizer and text encoder of each CLIP; none where something else reads too."""
    found = []
    for part, suffix in (("clip_l", ""), ("clip_g", "_2"), ("", "_3")):
        encoder = getattr(pipe, f"text_encoder{suffix}", None)
        if encoder is None:
            continue
        tokenizer = getattr(pipe, f"tokenizer{suffix}", None)
        if not part or "CLIPText" not in type(encoder).__name__ or not hasattr(tokenizer, "_tokenizer"):
            return []
        found.append((part, tokenizer, encoder))
    return found


def _stamp(name: str, path: Path) -> tuple[int, int]:
    try:
        about = path.stat()
    except OSError:
        raise ModelMissing(
            f"The file of the embedding “{shown(name)}” is not there any more.", "Find it again under Models."
        ) from None
    return about.st_size, about.st_mtime_ns


def _vectors(name: str, path: Path, sides: list[tuple[str, Any, Any]]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """What a file says, held against the model.

    Returns:
        The words it gives itself besides its name, and for each text encoder a table (vectors, width).
    """
    tensors = _read(name, path)
    own: tuple[str, ...] = ()
    if "clip_l" in tensors or "clip_g" in tensors:
        found: dict[str, Any] = {part: tensors[part] for part in ("clip_l", "clip_g") if part in tensors}
    elif "emb_params" in tensors or len(tensors) == 1:
        key = "emb_params" if "emb_params" in tensors else next(iter(tensors))
        found = {"": tensors[key]}
        if re.fullmatch(r"<[^<>]{1,100}>", key):
            own = (key[1:-1],)
    else:
        raise ModelUnfit(f"“{shown(name)}” is not an embedding: it holds {len(tensors)} tables of other names.")
    for part, table in found.items():
        if table.ndim == 1:
            found[part] = table = table[None]
        if table.ndim != 2 or not table.is_floating_point() or not 0 < len(table) <= _MOST_VECTORS:
            raise ModelUnfit(f"“{shown(name)}” is not an embedding: its numbers are not a list of vectors.")
        if not bool(table.isfinite().all()):
            raise ModelBroken(
                f"The embedding “{shown(name)}” is broken: some of its numbers are not finite.", _COPY_AGAIN
            )
    if "" in found and len(sides) == 1:
        found = {sides[0][0]: found[""]}
    wanted = {part: int(encoder.get_input_embeddings().weight.shape[-1]) for part, _, encoder in sides}
    has = {part: int(table.shape[-1]) for part, table in found.items()}
    if len(wanted) == 1 and "clip_g" in wanted:
        has.pop("clip_l", None)  # SDXL's refiner reads with the second of SDXL's text encoders
    if has != wanted:
        raise ModelUnfit(
            f"The embedding “{shown(name)}” was made for another base: its vectors are {_widths(has)} wide, this "
            f"model's {_widths(wanted)}.", "Choose embeddings made for this model.", field="embeddings",
        )  # fmt: skip
    found = {part: found[part] for part in wanted}
    if len({len(table) for table in found.values()}) > 1:
        raise ModelBroken(f"The embedding “{shown(name)}” is broken: its two tables differ in length.", _COPY_AGAIN)
    return own, found


def _widths(widths: dict[str, int]) -> str:
    return " and ".join(f"{width:,}" for width in widths.values())


def _read(name: str, path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix.lower() != ".safetensors":
        raise ModelRefused(
            f"The embedding “{shown(name)}” is refused: only safetensors files cannot run code when opened.",
            "Look for a safetensors version of it, or convert it.",
        )
    if path.stat().st_size > _FILE_LIMIT:
        raise ModelUnfit(f"“{shown(name)}” is not an embedding: its file is too large for one.")
    try:
        return dict(load_file(str(path)))
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelBroken(
            f"The embedding “{shown(name)}” is broken: it is not a whole safetensors file.", _COPY_AGAIN,
            detail=repr(error),
        ) from None  # fmt: skip


def _put(key: tuple[Any, ...], words: tuple[_Word, ...], tokenizer: Any, encoder: Any, tables: list[Any]) -> None:
    import torch
    from tokenizers import AddedToken

    inner = next((h.inner for h in _LOADED.values() if h.tokenizer is tokenizer), None)
    if inner is None:  # not one that two text encoders share
        inner, tokenizer._tokenizer = tokenizer._tokenizer, copy.deepcopy(tokenizer._tokenizer)
        tokens = [token for word in words for token in word.tokens]
        tokenizer.add_tokens([AddedToken(t, normalized=False) for t in tokens])
    table = encoder.get_input_embeddings()
    weight, first = table.weight.data, int(tokenizer.convert_tokens_to_ids(words[0].tokens[0]))
    try:
        new = torch.cat([t.to(weight.device, weight.dtype) for t in tables])
        # A table may have fewer or more rows than the tokenizer has words; what lies between is never asked for.
        gap = weight.new_zeros(max(0, first - len(weight)), weight.shape[1])
        rows = torch.cat([weight[:first], gap, new, weight[first + len(new) :]])
    except (RuntimeError, MemoryError):
        tokenizer._tokenizer = inner
        raise
    end = _end_token(encoder)
    triggers = sorted({t for w in words for t in w.triggers}, key=len, reverse=True)
    either = "|".join(re.escape(t) for t in triggers)
    _LOADED[encoder] = _Loaded(
        key, words, tokenizer, inner, len(weight), first, weight[first : first + len(new)].clone(), end.eos_token_id,
        re.compile(rf"<({either})>|(?<!\w)({either})(?!\w)", re.IGNORECASE),
    )  # fmt: skip
    table.weight = torch.nn.Parameter(rows, table.weight.requires_grad)
    table.num_embeddings = len(rows)
    if end.eos_token_id == _OLD_EOS:  # the highest token is no longer the end, so it is named
        end.eos_token_id = tokenizer.eos_token_id


def _end_token(encoder: Any) -> Any:
    """The part of a text encoder that knows which token ends a text."""
    return getattr(encoder, "text_model", encoder)
