"""The header of a safetensors file, read without its weights. Knows the format; knows nothing of what models are.

Format: 8 bytes little-endian length, that many bytes of JSON, then the tensors without gaps.
Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from studio.core.cards import Broken
from studio.core.text import shown
from studio.models.reading import COPY_AGAIN, gone, impostor, incomplete, regular_size

HEADER_LIMIT = 24 * 1024 * 1024  # bytes; the format allows 100 MB, the largest seen in the wild are below 15 MB
TENSOR_LIMIT = 200_000
NAME_LIMIT = 2_048  # characters
DIMENSIONS_LIMIT = 32

BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "F64": 64, "I64": 64, "U64": 64, "C64": 64,
}  # fmt: skip


class Tensor(msgspec.Struct, frozen=True, gc=False):
    """One tensor: dtype as the file names it, shape, and [start, end) in bytes after the header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class SafetensorsHeader(msgspec.Struct, frozen=True):
    """What a safetensors file says about itself.

    Attributes:
        tensors: name -> Tensor, in the file's order. metadata: the author's strings.
        start: offset of the first tensor, bytes. parameters: numbers in all tensors.
        dtypes: dtype -> how many numbers are kept in it.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    start: int
    parameters: int
    dtypes: dict[str, int]


class _Written(msgspec.Struct, frozen=True, gc=False):
    """A tensor or the metadata, before it is known which."""

    dtype: str | None = None
    shape: list[int] | None = None
    data_offsets: tuple[int, int] | None = None


def read_safetensors(path: Path) -> SafetensorsHeader | Broken:
    """Read and check the header of a safetensors file.

    Costs at most HEADER_LIMIT bytes of reading; the weights are not touched.

    Returns:
        The header, or Broken for: an empty or cut-off file, a header that is too long, not UTF-8, not JSON or nested
        too deep, unknown dtypes, shapes that do not match their bytes, overlaps, holes, bytes after the last tensor,
        names used twice or with control characters, and pages, pointers or pickles under this name.
    """
    size = regular_size(path)
    if isinstance(size, Broken):
        return size
    try:
        with open(path, "rb") as stream:
            head = stream.read(1024)
            if len(head) < 8:
                return Broken(f"it is not a model: it holds {_bytes(len(head))}", COPY_AGAIN)
            found = impostor(head)
            if found is not None:
                return found
            (length,) = struct.unpack("<Q", head[:8])
            # An honest header is an object; random bytes nearly never have "{" in this place.
            if length < 2 or head[8:9] not in (b"{", b""):
                return Broken("it is not a safetensors file", COPY_AGAIN)
            if length > HEADER_LIMIT:
                return Broken(f"its header claims {length:,} bytes, more than any model needs", COPY_AGAIN)
            if 8 + length > size:
                return incomplete(size, 8 + length)
            stream.seek(8)
            text = stream.read(length)
    except OSError as error:
        return gone(error)
    if len(text) < length:
        return incomplete(8 + len(text), 8 + length)
    return _parsed(text, size)


def _bytes(count: int) -> str:
    return "nothing" if not count else "1 byte" if count == 1 else f"{count} bytes"


def _parsed(text: bytes, size: int) -> SafetensorsHeader | Broken:
    mentions = text.count(b'"data_offsets"')
    if mentions > TENSOR_LIMIT:
        return Broken(f"its header names {mentions:,} tensors, more than any model has", COPY_AGAIN)
    try:
        written = msgspec.json.decode(text, type=dict[str, _Written])
        raw = msgspec.json.decode(text, type=_OnlyMetadata).metadata
        if mentions != len(written) - (raw is not None):
            _reject_repeats(text)  # decoders keep the last of two equal names without a word
    except _Repeated as error:
        return Broken(f"it has two tensors named “{shown(str(error))}”", COPY_AGAIN)
    except UnicodeDecodeError:
        return Broken("its header is not UTF-8 text", COPY_AGAIN)
    except RecursionError:
        return Broken("its header is nested too deep", COPY_AGAIN)
    except (msgspec.ValidationError, msgspec.DecodeError, ValueError) as error:
        why = "its header is not UTF-8 text" if "utf-8" in str(error).lower() else "its header is not a list of tensors"
        return Broken(why, COPY_AGAIN)
    written.pop("__metadata__", None)
    tensors: dict[str, Tensor] = {}
    for name, entry in written.items():
        tensor = _checked(name, entry)
        if isinstance(tensor, Broken):
            return tensor
        tensors[name] = tensor
    start = 8 + len(text)
    wrong = _layout(tensors, start, size)
    if wrong is not None:
        return wrong
    dtypes: dict[str, int] = {}
    for tensor in tensors.values():
        dtypes[tensor.dtype] = dtypes.get(tensor.dtype, 0) + math.prod(tensor.shape)
    metadata = {str(k): str(v) for k, v in raw.items() if isinstance(v, str)} if isinstance(raw, dict) else {}
    return SafetensorsHeader(tensors, metadata, start, sum(dtypes.values()), dtypes)


class _OnlyMetadata(msgspec.Struct):
    metadata: Any = msgspec.field(name="__metadata__", default=None)


class _Repeated(ValueError):
    pass


def _reject_repeats(text: bytes) -> None:
    def pairs(items: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in items:
            if name in seen:
                raise _Repeated(name)
            seen.add(name)

    json.loads(text, object_pairs_hook=pairs)


_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def _checked(name: str, entry: _Written) -> Tensor | Broken:
    called = f"tensor “{shown(name)}”"
    if len(name) > NAME_LIMIT or _UNSAFE.search(name):
        return Broken(f"the name of {called} is not one a model would use", COPY_AGAIN)
    if entry.dtype is None or entry.shape is None or entry.data_offsets is None:
        return Broken(f"{called} lacks its type, shape or place", COPY_AGAIN)
    bits = BITS.get(entry.dtype)
    if bits is None:
        return Broken(f"{called} has the unknown number type “{shown(entry.dtype, 20)}”", COPY_AGAIN)
    if len(entry.shape) > DIMENSIONS_LIMIT or any(d < 0 or d > 1 << 62 for d in entry.shape):
        return Broken(f"{called} has an impossible shape", COPY_AGAIN)
    begin, end = entry.data_offsets
    # Python's integers do not overflow, so an absurd shape simply does not match its bytes.
    need, odd = divmod(math.prod(entry.shape) * bits, 8)
    if odd or not 0 <= begin <= end or end - begin != need:
        return Broken(f"the shape of {called} does not match its bytes", COPY_AGAIN)
    return Tensor(entry.dtype, tuple(entry.shape), (begin, end))


def _layout(tensors: dict[str, Tensor], start: int, size: int) -> Broken | None:
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        begin, end = tensor.data_offsets
        if begin != position:
            what = "overlaps the one before it" if begin < position else "leaves a gap before it"
            return Broken(f"tensor “{shown(name)}” {what}", COPY_AGAIN)
        position = end
    if start + position > size:
        return incomplete(size, start + position)
    if start + position < size:
        return Broken(f"{size - start - position:,} bytes follow its last tensor", COPY_AGAIN)
    return None


def suspicious_weights(path: Path, header: SafetensorsHeader, tensors: int = 48, sample: int = 16_384) -> str:
    """Look at a sample of the weights for NaN and infinity.

    Args:
        tensors: how many tensors are sampled, spread evenly. sample: bytes of each.

    Returns:
        A note naming the first tensor that has some, or an empty string.
    """
    floats = [(n, t) for n, t in header.tensors.items() if t.dtype in _NOT_FINITE and t.shape]
    chosen = floats[:: max(1, len(floats) // tensors)][:tensors]
    try:
        with open(path, "rb") as stream:
            for name, tensor in chosen:
                begin, end = tensor.data_offsets
                stream.seek(header.start + begin)
                if _NOT_FINITE[tensor.dtype](stream.read(min(sample, end - begin))):
                    return f"some weights are not numbers (in “{shown(name)}”); works may come out black or fail"
    except OSError:
        return ""
    return ""


def _bad_f16(data: bytes) -> bool:
    return bool(_F16_ALL_ONES.search(data[1::2]))


def _bad_wide(data: bytes, width: int) -> bool:
    # sign and 7 bits of exponent in the last byte, the eighth bit on top of the one before
    high, next_ = data[width - 1 :: width], data[width - 2 :: width]
    return any(next_[m.start()] & 0x80 for m in _WIDE_ALL_ONES.finditer(high))


_F16_ALL_ONES = re.compile(b"[\x7c-\x7f\xfc-\xff]")
_WIDE_ALL_ONES = re.compile(b"[\x7f\xff]")
_NOT_FINITE: dict[str, Callable[[bytes], bool]] = {
    "F16": _bad_f16,
    "BF16": lambda d: _bad_wide(d, 2),
    "F32": lambda d: _bad_wide(d, 4),
}
