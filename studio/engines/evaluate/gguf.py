"""GGUF models asked for the likelihood of texts, through the llama.cpp that xllamacpp carries.

xllamacpp's server tells probabilities of what it writes and not of what it reads; forcing it token by token takes a
request for each. But its library has llama.cpp's own C functions, which answer a whole batch of tokens at once. Their
structs are passed as they come, and what is set in them is checked first: a library laid out otherwise is refused.
Knows C structs and tokens; knows nothing of texts to measure.
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
from collections.abc import Iterator, Sequence
from ctypes import POINTER, Structure, c_bool, c_char_p, c_float, c_int8, c_int32, c_uint8, c_uint32, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

from studio.core.cards import Broken
from studio.core.problems import EngineMissing, ModelBroken, ModelMissing, ModelRefused, OutOfMemory
from studio.core.recipes import Message
from studio.engines.evaluate.reading import Check, Numbers, stopped
from studio.engines.text.llama_server import library
from studio.engines.text.templates import Renderer, TemplateFailed, few_shot, own_layout
from studio.models.gguf_header import read_gguf

BATCH = 128  # tokens read between two looks at cancel
_ROWS = 16  # of logits turned into probabilities at once: a row may have 260,000 numbers
_CONTEXT_HEAD = "<4I"  # n_ctx, n_batch, n_ubatch, n_seq_max
_CONTEXT_USUAL = (512, 2048, 512, 1)


class _Opaque(Structure):
    """A struct of the library that is only handed on; larger than any of them."""

    _fields_ = (("bytes", c_uint8 * 2048),)


class _Batch(Structure):
    _fields_ = (
        ("n_tokens", c_int32), ("token", POINTER(c_int32)), ("embd", POINTER(c_float)), ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)), ("seq_id", POINTER(POINTER(c_int32))), ("logits", POINTER(c_int8)),
    )  # fmt: skip


_QUIET = ctypes.CFUNCTYPE(None, ctypes.c_int, c_char_p, c_void_p)(lambda level, text, data: None)

# name -> result and arguments
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "llama_backend_init": (None, []),
    "llama_log_set": (None, [c_void_p, c_void_p]),
    "llama_model_default_params": (_Opaque, []),
    "llama_context_default_params": (_Opaque, []),
    "llama_model_load_from_file": (c_void_p, [c_char_p, _Opaque]),
    "llama_init_from_model": (c_void_p, [c_void_p, _Opaque]),
    "llama_free": (None, [c_void_p]),
    "llama_model_free": (None, [c_void_p]),
    "llama_model_get_vocab": (c_void_p, [c_void_p]),
    "llama_model_n_ctx_train": (c_int32, [c_void_p]),
    "llama_vocab_n_tokens": (c_int32, [c_void_p]),
    "llama_vocab_bos": (c_int32, [c_void_p]),
    "llama_vocab_get_add_bos": (c_bool, [c_void_p]),
    "llama_vocab_is_eog": (c_bool, [c_void_p, c_int32]),
    "llama_n_ctx": (c_uint32, [c_void_p]),
    "llama_n_batch": (c_uint32, [c_void_p]),
    "llama_set_n_threads": (None, [c_void_p, c_int32, c_int32]),
    "llama_batch_init": (_Batch, [c_int32, c_int32, c_int32]),
    "llama_batch_free": (None, [_Batch]),
    "llama_decode": (c_int32, [c_void_p, _Batch]),
    "llama_get_memory": (c_void_p, [c_void_p]),
    "llama_memory_clear": (None, [c_void_p, c_bool]),
    "llama_get_logits": (POINTER(c_float), [c_void_p]),
    "llama_tokenize": (c_int32, [c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool]),
    "llama_token_to_piece": (c_int32, [c_void_p, c_int32, c_char_p, c_int32, c_int32, c_bool]),
}


@functools.cache
def functions() -> Any:
    """The library's C functions.

    Raises:
        EngineMissing: it is not installed, hides its functions, or is laid out in a way that is not known here.
    """
    xllamacpp = library()
    try:
        found = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(found, name)
            function.restype, function.argtypes = result, arguments
    except (AttributeError, OSError) as error:
        raise _unknown(str(error)) from error
    if not os.environ.get("STUDIO_LLAMA_LOG"):
        found.llama_log_set(ctypes.cast(_QUIET, c_void_p), None)
    found.llama_backend_init()
    usual = struct.unpack_from(_CONTEXT_HEAD, bytes(found.llama_context_default_params().bytes))
    if usual != _CONTEXT_USUAL:
        raise _unknown(f"context parameters begin with {usual}")
    return found


def _unknown(why: str) -> EngineMissing:
    return EngineMissing(
        "This build of xllamacpp cannot tell how likely a text is.",
        "Measure the safetensors folder of the model instead.", detail=why,
    )  # fmt: skip


class GgufReader:
    """See reading.Reader. Runs on the processor; the context is cleared before each text, so order changes nothing.

    Raises:
        ModelMissing, ModelBroken, ModelRefused: the file. EngineMissing. OutOfMemory: no room for the context.
    """

    how = "llama.cpp"

    def __init__(self, path: Path, name: str, window: int, threads: int) -> None:
        self.name, self.device = name, "cpu"
        self._model: int | None = None
        self._context: int | None = None
        self._renderer: Renderer | None = None
        if not path.is_file():
            raise ModelMissing(f"The model {path.name} is gone.", "Was it moved or deleted?")
        header = read_gguf(path)
        if isinstance(header, Broken):
            error = ModelRefused if header.code == "model_refused" else ModelBroken
            raise error(f"The model {path.name} cannot be used: {header.why}.", header.hint)
        self._template = header.chat_template or ""
        window = max(window, BATCH)  # a batch is never longer than the context
        self._c = c = functions()
        self._model = c.llama_model_load_from_file(os.fsencode(path), c.llama_model_default_params())
        if not self._model:
            raise ModelBroken(
                f"llama.cpp could not open {path.name}.", "A newer version of xllamacpp may know its kind."
            )
        self.longest = int(c.llama_model_n_ctx_train(self._model))
        self._vocab = c.llama_model_get_vocab(self._model)
        self._size = int(c.llama_vocab_n_tokens(self._vocab))
        bos = int(c.llama_vocab_bos(self._vocab))
        # where a model wants nothing before a text its first token still needs something to follow
        self.begin = [bos] if bos >= 0 else []
        params = c.llama_context_default_params()
        head = struct.pack(_CONTEXT_HEAD, window, BATCH, BATCH, 1)
        ctypes.memmove(ctypes.addressof(params), head, len(head))
        self._context = c.llama_init_from_model(self._model, params)
        if not self._context:
            self.close()
            raise OutOfMemory(f"There is no room for a window of {window:,} tokens.", "Set a shorter window.")
        if int(c.llama_n_batch(self._context)) != BATCH or int(c.llama_n_ctx(self._context)) < window:
            self.close()
            raise _unknown("the context did not take its parameters")
        self._window = window
        c.llama_set_n_threads(self._context, threads, threads)
        self._batch = c.llama_batch_init(BATCH, 0, 1)

    def tokens(self, text: str) -> list[int]:
        return self._tokens(text, special=False)

    def _tokens(self, text: str, special: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        found = (c_int32 * room)()
        count = self._c.llama_tokenize(self._vocab, data, len(data), found, room, False, special)
        if count < 0:
            raise ModelBroken(f"“{self.name}” cannot read this text.")
        return list(found[:count])

    def chat(self, turns: Sequence[Message]) -> tuple[list[int], tuple[str, ...]]:
        system = "\n\n".join(turn.content for turn in turns if turn.role == "system")
        said = tuple(turn for turn in turns if turn.role != "system")
        if self._template:
            self._renderer = self._renderer or Renderer()
            try:
                layout = own_layout(self._renderer, self._template, said, system, "", "")
                return self._tokens(layout.text, special=True), ()
            except TemplateFailed:
                pass
        laid = few_shot(said, system)
        return self.tokens(laid.text), laid.stops

    def logprobs(self, tokens: Sequence[int], check: Check, first: int = 1) -> Numbers:
        found: list[Numbers] = []
        for at, logits in self._read(tokens[:-1], check, first - 1):
            for begin in range(0, len(logits), _ROWS):
                check()
                rows = logits[begin : begin + _ROWS].astype(np.float64)
                following = np.asarray(tokens[at + begin + 1 : at + begin + 1 + len(rows)], dtype=np.int64)
                top = rows.max(axis=1, initial=-np.inf)
                whole = top + np.log(np.exp(rows - top[:, None]).sum(axis=1))
                found.append(rows[np.arange(len(following)), following] - whole)
        return np.concatenate(found) if found else np.zeros(0)

    def write(self, tokens: Sequence[int], most: int, check: Check, stops: Sequence[str] = ()) -> str:
        c = self._c
        last = None
        for _, logits in self._read(tokens, check, len(tokens) - 1):
            last = int(logits[-1].argmax())
        written = b""
        place = len(tokens)
        for _ in range(most):
            if last is None or c.llama_vocab_is_eog(self._vocab, last):
                break
            written += self._piece(last)
            if place + 1 >= self._window or stopped(written.decode("utf-8", "replace"), stops) is not None:
                break
            check()
            logits = self._decode([last], place, 0)
            place, last = place + 1, int(logits[-1].argmax())
        text = written.decode("utf-8", "replace")
        return text if (cut := stopped(text, stops)) is None else cut

    def _read(self, tokens: Sequence[int], check: Check, first: int) -> Iterator[tuple[int, Any]]:
        """Read from an empty memory; yields (place, the logits after it and the following ones), from `first` on."""
        assert self._context is not None
        self._c.llama_memory_clear(self._c.llama_get_memory(self._context), True)
        for at in range(0, len(tokens), BATCH):
            check()
            batch = tokens[at : at + BATCH]
            skipped = min(max(0, first - at), len(batch))
            logits = self._decode(batch, at, skipped)
            if len(logits):
                yield at + skipped, logits

    def _decode(self, tokens: Sequence[int], at: int, skipped: int) -> Any:
        """The logits after each token but the first `skipped`: (tokens, vocabulary); valid until the next call.

        Those that are not asked for are not computed: with a large vocabulary they are most of the work.
        """
        batch = self._batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, at + i, 1, 0
            batch.logits[i] = int(i >= skipped)
        code = self._c.llama_decode(self._context, batch)
        if code != 0:
            raise ModelBroken(f"llama.cpp could not read the text with “{self.name}”.", detail=f"llama_decode: {code}")
        rows = len(tokens) - skipped
        if not rows:
            return np.zeros((0, self._size), dtype=np.float32)
        return np.ctypeslib.as_array(self._c.llama_get_logits(self._context), shape=(rows, self._size))

    def _piece(self, token: int) -> bytes:
        room = ctypes.create_string_buffer(512)
        count = self._c.llama_token_to_piece(self._vocab, token, room, 512, 0, False)
        return room.raw[: max(count, 0)]

    def close(self) -> None:
        if self._context is not None:
            if hasattr(self, "_batch"):
                self._c.llama_batch_free(self._batch)
            self._c.llama_free(self._context)
            self._context = None
        if self._model is not None:
            self._c.llama_model_free(self._model)
            self._model = None
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
