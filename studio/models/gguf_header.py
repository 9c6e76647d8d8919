"""The header of a GGUF file, read without its weights. Knows the format; knows nothing of llama.cpp.

Every count and length is held against the bytes that are left in the file before anything is read or kept, and the
content of long lists (a vocabulary of 262,144 strings) is walked over, not kept.
Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO

import msgspec

from studio.core.cards import Broken
from studio.core.text import shown
from studio.models.reading import COPY_AGAIN, gone, impostor, incomplete, regular_size

KEYS_LIMIT = 20_000
TENSORS_LIMIT = 100_000
NAME_LIMIT = 65_535  # bytes, from the specification
STRINGS_LIMIT = (
    4_000_000  # strings in all lists together; the largest vocabularies have about 260,000, and as many merges
)
TEXT_KEPT = 1024 * 1024  # bytes; a longer value is walked over
LIST_KEPT = 64  # short lists of numbers are kept
HEADER_LIMIT = 512 * 1024 * 1024  # bytes walked over before the tensors begin
WINDOW = 1 << 20

# id -> (name, numbers per block, bytes per block). Source: ggml-common.h, ggml.c type traits.
TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
}  # fmt: skip

# general.file_type -> name. Source: enum llama_ftype in llama.h.
FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip

# value type -> struct format
_NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _LIST = 8, 9

Value = int | float | bool | str | tuple[int | float | bool, ...]


class GGUFTensor(msgspec.Struct, frozen=True, gc=False):
    """One tensor: its type's name, shape (fastest dimension first, as in the file) and place after the header."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    bytes: int


class GGUFHeader(msgspec.Struct, frozen=True):
    """What a GGUF file says about itself.

    Attributes:
        version: 2 or 3. metadata: scalars, texts up to TEXT_KEPT bytes and short lists of numbers.
        lists: key -> length of each list. tensors: name -> GGUFTensor. start: offset of the first tensor, bytes.
        architecture: for example "gemma3". name: the author's, or empty.
        context_length, vocabulary: tokens, 0 when not said. chat_template: Jinja text, or empty.
        tokenizer: for example "llama" (SentencePiece), "gpt2" (BPE). merges: pairs of a BPE tokenizer.
        parameters: numbers in all tensors. quantisation: for example "Q4_K_M".
        split: (part from 0, parts) of a model in several files, else (0, 1).
    """

    version: int
    metadata: dict[str, Value]
    lists: dict[str, int]
    tensors: dict[str, GGUFTensor]
    start: int
    architecture: str
    name: str
    context_length: int
    chat_template: str
    tokenizer: str
    vocabulary: int
    merges: int
    parameters: int
    quantisation: str
    split: tuple[int, int]


class _Bad(Exception):
    """Carries the Broken out of the walk."""

    def __init__(self, why: str, hint: str = COPY_AGAIN) -> None:
        super().__init__(why)
        self.broken = Broken(why, hint)


class _Walk:
    """A window that moves over the file; asks for bytes only after they are known to exist."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self.size = size
        self._base = 0  # offset of the window in the file
        self._window = b""
        self._at = 0
        self.strings = 0

    @property
    def position(self) -> int:
        return self._base + self._at

    def need(self, count: int) -> None:
        """Raises _Bad when fewer than `count` bytes are left in the file."""
        if count > self.size - self.position:
            raise _Bad(f"it is incomplete: it ends inside its header, after {self.size:,} bytes")

    def _fill(self, count: int) -> None:
        # keeps what is unread, reads on; never more than a window beyond what was asked for
        rest = self._window[self._at :]
        self._base += self._at
        self._at = 0
        self._window = rest + self._stream.read(max(WINDOW, count) - len(rest))
        if len(self._window) < count:
            raise _Bad("it was cut short while it was read")

    def take(self, count: int) -> bytes:
        self.need(count)
        if len(self._window) - self._at < count:
            self._fill(count)
        self._at += count
        return self._window[self._at - count : self._at]

    def skip(self, count: int) -> None:
        self.need(count)
        if count <= len(self._window) - self._at:
            self._at += count
            return
        self._base = self.position + count
        if self._base > HEADER_LIMIT:
            raise _Bad("its header is longer than any model needs")
        self._stream.seek(self._base)
        self._window, self._at = b"", 0

    def number(self, form: str) -> int:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return int(value)

    def text(self, limit: int) -> str | None:
        """A string, or None when it is longer than `limit` bytes; it is skipped then."""
        length = self.number("<Q")
        self.need(length)
        if length > limit:
            self.skip(length)
            return None
        # replaced, not refused: some authors' names are in Latin-1, and llama.cpp takes them
        return self.take(length).decode("utf-8", "replace")

    def skip_strings(self, count: int) -> None:
        """Walk over `count` strings. About 0.1 µs each: the window is read directly, without a call per string."""
        self.strings += count
        if self.strings > STRINGS_LIMIT:
            raise _Bad(f"it lists {self.strings:,} strings, more than any vocabulary has")
        self.need(count * 8)
        unpack = struct.Struct("<Q").unpack_from
        while count:
            window, at, end = self._window, self._at, len(self._window) - 8
            while count and at <= end:
                after = at + 8 + unpack(window, at)[0]
                if after > end + 8:
                    break
                at = after
                count -= 1
            self._at = at
            if count:  # the next string does not end in this window
                length = self.number("<Q")
                self.skip(length)
                count -= 1


def read_gguf(path: Path) -> GGUFHeader | Broken:
    """Read and check the header of a GGUF file.

    Returns:
        The header, or Broken for: not GGUF, an unknown version, big-endian files, counts, lengths and nesting beyond
        the limits above, unknown types, tensors that overlap, leave gaps or reach past the end of the file.
    """
    size = regular_size(path)
    if isinstance(size, Broken):
        return size
    try:
        with open(path, "rb") as stream:
            head = stream.read(1024)
            wrong = _not_gguf(head)
            if wrong is not None:
                return wrong
            stream.seek(0)
            return _walked(_Walk(stream, size))
    except _Bad as bad:
        return bad.broken
    except OSError as error:
        return gone(error)


def _not_gguf(head: bytes) -> Broken | None:
    if not head:
        return Broken("it is not a model: it holds nothing", COPY_AGAIN)
    if head[:4] != b"GGUF":
        return impostor(head) or Broken("it is not a GGUF file", COPY_AGAIN)
    if len(head) < 24:
        return Broken(f"it is incomplete: it ends inside its header, after {len(head)} bytes", COPY_AGAIN)
    (version,) = struct.unpack_from("<I", head, 4)
    if version in (2, 3):
        return None
    if version & 0xFFFF == 0 and version:
        return Broken("it was written for big-endian machines", "Get the little-endian version of the model.")
    if version == 1:
        return Broken("it is GGUF version 1, which no current program reads", "Get a newer conversion of the model.")
    return Broken(f"it is GGUF version {version}, which is not known", "Get a conversion in version 3.")


def _walked(walk: _Walk) -> GGUFHeader | Broken:
    # 1. how much there is
    walk.skip(4)
    version = walk.number("<I")
    tensor_count, key_count = walk.number("<Q"), walk.number("<Q")
    if key_count > KEYS_LIMIT or key_count * 13 > walk.size:
        raise _Bad(f"it claims {key_count:,} settings, more than it can hold")
    if tensor_count > TENSORS_LIMIT or tensor_count * 24 > walk.size:
        raise _Bad(f"it claims {tensor_count:,} tensors, more than it can hold")
    # 2. settings
    metadata: dict[str, Value] = {}
    lists: dict[str, int] = {}
    for _ in range(key_count):
        key = walk.text(NAME_LIMIT)
        if not key:
            raise _Bad("a setting in its header has no usable name")
        if key in metadata or key in lists:
            raise _Bad(f"its header sets “{shown(key)}” twice")
        _setting(walk, key, metadata, lists)
    # 3. tensors
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 8 <= alignment <= 65_536 or alignment & (alignment - 1):
        raise _Bad("its tensors are not aligned as the format asks")
    tensors = _tensors(walk, tensor_count)
    start = -(-walk.position // alignment) * alignment
    end = _layout(tensors, alignment)
    if start + end > walk.size and tensors:
        return incomplete(walk.size, start + end)
    return _summary(version, metadata, lists, tensors, start)


def _setting(walk: _Walk, key: str, metadata: dict[str, Value], lists: dict[str, int]) -> None:
    kind = walk.number("<I")
    if kind in _NUMBERS:
        metadata[key] = _number(walk, kind)
    elif kind == _STRING:
        text = walk.text(TEXT_KEPT)
        metadata[key] = "" if text is None else text
    elif kind == _LIST:
        kind, count = walk.number("<I"), walk.number("<Q")
        if kind in _NUMBERS:
            width = struct.calcsize(_NUMBERS[kind])
            walk.need(count * width)
            if count <= LIST_KEPT:
                metadata[key] = tuple(_number(walk, kind) for _ in range(count))
            else:
                walk.skip(count * width)
        elif kind == _STRING:
            walk.skip_strings(count)
        else:
            raise _Bad(f"its setting “{shown(key)}” is a list of an unknown or nested type")
        lists[key] = count
    else:
        raise _Bad(f"its setting “{shown(key)}” has the unknown type {kind}")


def _number(walk: _Walk, kind: int) -> int | float | bool:
    form = _NUMBERS[kind]
    if kind == 7:
        return walk.take(1) != b"\x00"
    value: int | float = struct.unpack(form, walk.take(struct.calcsize(form)))[0]
    return value


def _tensors(walk: _Walk, count: int) -> dict[str, GGUFTensor]:
    tensors: dict[str, GGUFTensor] = {}
    for _ in range(count):
        name = walk.text(NAME_LIMIT)
        if not name or "\x00" in name or name in tensors:
            raise _Bad(f"it has a tensor with no name or a used one: “{shown(name or '')}”")
        called = f"tensor “{shown(name)}”"
        dimensions = walk.number("<I")
        if not 1 <= dimensions <= 4:
            raise _Bad(f"{called} has {dimensions:,} dimensions; 1 to 4 are possible")
        shape = struct.unpack(f"<{dimensions}Q", walk.take(8 * dimensions))
        kind, offset = walk.number("<I"), walk.number("<Q")
        if kind not in TYPES:
            raise _Bad(f"{called} has the unknown type {kind}", "Get a conversion in a common type, such as Q4_K_M.")
        dtype, per_block, block_bytes = TYPES[kind]
        numbers = math.prod(shape)
        if numbers == 0 or numbers >= 1 << 63 or shape[0] % per_block:
            raise _Bad(f"{called} has an impossible shape")
        tensors[name] = GGUFTensor(dtype, shape, offset, numbers // per_block * block_bytes)
    return tensors


def _layout(tensors: dict[str, GGUFTensor], alignment: int) -> int:
    """Raises _Bad for overlaps and gaps; returns the end of the last tensor, bytes after the first one's start."""
    expected, end = 0, 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].offset):
        if tensor.offset != expected:
            what = "overlaps the one before it" if tensor.offset < expected else "leaves a gap before it"
            raise _Bad(f"tensor “{shown(name)}” {what}")
        end = tensor.offset + tensor.bytes
        expected = -(-end // alignment) * alignment
    return end


def _summary(
    version: int, metadata: dict[str, Value], lists: dict[str, int], tensors: dict[str, GGUFTensor], start: int
) -> GGUFHeader:
    def text(key: str) -> str:
        value = metadata.get(key)
        return value if isinstance(value, str) else ""

    def whole(key: str, otherwise: int = 0) -> int:
        value = metadata.get(key)
        return value if isinstance(value, int) and value >= 0 else otherwise

    architecture = text("general.architecture")
    by_type: dict[str, int] = {}
    for tensor in tensors.values():
        by_type[tensor.dtype] = by_type.get(tensor.dtype, 0) + math.prod(tensor.shape)
    commonest = max(by_type, key=lambda t: by_type[t], default="")
    return GGUFHeader(
        version=version,
        metadata=metadata,
        lists=lists,
        tensors=tensors,
        start=start,
        architecture=architecture,
        name=text("general.name"),
        context_length=whole(f"{architecture}.context_length"),
        chat_template=text("tokenizer.chat_template"),
        tokenizer=text("tokenizer.ggml.model"),
        vocabulary=lists.get("tokenizer.ggml.tokens", 0),
        merges=lists.get("tokenizer.ggml.merges", 0),
        parameters=sum(by_type.values()),
        quantisation=FILE_TYPES.get(whole("general.file_type", -1), commonest),
        split=(whole("split.no"), max(1, whole("split.count", 1))),
    )
