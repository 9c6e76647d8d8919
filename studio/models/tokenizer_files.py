"""The files of a tokenizer beside a model: are they there, and how many tokens do they know. Never runs a tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from studio.core.cards import Broken
from studio.models.reading import COPY_AGAIN, gone, read_json_object, regular_size

LIMIT = 64 * 1024 * 1024  # bytes; the largest in use are about 35 MB


class _Model(msgspec.Struct):
    type: str | None = None
    vocab: dict[str, int] | list[msgspec.Raw] | None = None
    merges: list[msgspec.Raw] | None = None


class _Added(msgspec.Struct):
    id: int = -1


class _File(msgspec.Struct):
    model: _Model
    added_tokens: list[_Added] = []


def vocabulary_of(folder: Path) -> int | Broken | None:
    """How many tokens the tokenizer in `folder` counts up to.

    Returns:
        One more than the highest token, None where the format does not tell cheaply (SentencePiece), or Broken:
        no tokenizer file, damaged, empty, or a BPE tokenizer without merges.
    """
    place = folder.name
    if (folder / "tokenizer.json").is_file():
        return _fast(folder / "tokenizer.json", f"{place}/tokenizer.json")
    if (folder / "vocab.json").is_file():
        return _slow(folder, place)
    if any((folder / name).is_file() for name in ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")):
        return None
    if (folder / "vocab.txt").is_file():
        return None
    return Broken(f"its file {place}/tokenizer.json is missing", COPY_AGAIN)


def _fast(file: Path, called: str) -> int | Broken:
    size = regular_size(file)
    if isinstance(size, Broken):
        return size
    if size > LIMIT:
        return Broken(f"its {called} is {size:,} bytes, more than any tokenizer needs", COPY_AGAIN)
    try:
        written = msgspec.json.decode(file.read_bytes(), type=_File)
    except OSError as error:
        return gone(error)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return Broken(f"its {called} is damaged", COPY_AGAIN)
    vocabulary = written.model.vocab
    if not vocabulary:
        return Broken(f"its {called} has no tokens", COPY_AGAIN)
    if written.model.type == "BPE" and not written.model.merges:
        return Broken(f"its {called} has no merges", COPY_AGAIN)
    highest = max(vocabulary.values()) if isinstance(vocabulary, dict) else len(vocabulary) - 1
    return max([highest, *(a.id for a in written.added_tokens)]) + 1


def _slow(folder: Path, place: str) -> int | Broken:
    vocabulary: dict[str, Any] | Broken = read_json_object(folder / "vocab.json", LIMIT)
    if isinstance(vocabulary, Broken):
        return vocabulary
    numbers = [v for v in vocabulary.values() if type(v) is int]
    if not numbers:
        return Broken(f"its {place}/vocab.json has no tokens", COPY_AGAIN)
    merges = regular_size(folder / "merges.txt")
    if isinstance(merges, Broken):
        return Broken(f"its file {place}/merges.txt is missing", COPY_AGAIN)
    if merges < 4:
        return Broken(f"its {place}/merges.txt has no merges", COPY_AGAIN)
    return max(numbers) + 1
