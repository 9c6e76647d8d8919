"""The outline of an ONNX file: names of inputs and outputs, and whether all of it is there.

Knows the wire format of protobuf and walks over fields; knows nothing of networks and reads no weights.
Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto and
https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import msgspec

from studio.core.cards import Broken
from studio.models.reading import COPY_AGAIN, gone, impostor, incomplete, regular_size

FIELDS_LIMIT = 400_000  # a large speech model has about 20,000
TEXT_LIMIT = 4_096  # bytes

# field numbers
_GRAPH, _PRODUCER = 7, 2  # in ModelProto
_INITIALIZER, _INPUT, _OUTPUT = 5, 11, 12  # in GraphProto
_EXTERNAL, _LOCATION = 13, 14  # in TensorProto
_NAME = 1  # in ValueInfoProto


class OnnxOutline(msgspec.Struct, frozen=True):
    """Names in the order of the file; `external` says that weights lie in other files."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    producer: str = ""
    external: bool = False


class _Bad(Exception):
    def __init__(self, broken: Broken) -> None:
        super().__init__(broken.why)
        self.broken = broken


def _damaged() -> _Bad:
    return _Bad(Broken("it is not an ONNX file, or a damaged one", COPY_AGAIN))


class _Fields:
    """Steps through the fields of a message that ends at `end`. Field content is left unread unless asked for."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.stream = stream
        self.size = size
        self.left = FIELDS_LIMIT

    def varint(self, at: int) -> tuple[int, int]:
        self.stream.seek(at)
        value = 0
        for index, byte in enumerate(self.stream.read(10)):
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value, at + index + 1
        raise _damaged()

    def step(self, at: int, end: int) -> tuple[int, int, int, int]:
        """One field at `at`: its number, its wire type, and [start, stop) of its content."""
        self.left -= 1
        if self.left < 0:
            raise _Bad(Broken("it has more parts than any model needs", COPY_AGAIN))
        key, start = self.varint(at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            _, stop = self.varint(start)
        elif wire == 1:
            stop = start + 8
        elif wire == 5:
            stop = start + 4
        elif wire == 2:
            length, start = self.varint(start)
            stop = start + length
        else:
            raise _damaged()
        if number == 0:
            raise _damaged()
        if stop > end:
            # Only the outermost message can be cut off by a short file; inside, it is damage.
            raise _Bad(incomplete(self.size, stop)) if end == self.size else _damaged()
        return number, wire, start, stop

    def text(self, start: int, stop: int) -> str:
        self.stream.seek(start)
        return self.stream.read(min(stop - start, TEXT_LIMIT)).decode("utf-8", "replace")


def read_onnx(path: Path) -> OnnxOutline | Broken:
    """Read the outline of an ONNX file.

    Returns:
        The outline, or Broken for an empty, cut-off or damaged file or something else under this name.
    """
    size = regular_size(path)
    if isinstance(size, Broken):
        return size
    if not size:
        return Broken("it is not a model: it holds nothing", COPY_AGAIN)
    try:
        # a small buffer: the walk jumps from one weight to the next
        with open(path, "rb", buffering=512) as stream:
            found = impostor(stream.read(1024))
            return found if found is not None else _outline(_Fields(stream, size))
    except _Bad as bad:
        return bad.broken
    except OSError as error:
        return gone(error)


def _outline(fields: _Fields) -> OnnxOutline:
    inputs: list[str] = []
    outputs: list[str] = []
    external = False
    producer = ""
    graphs = 0
    at = 0
    while at < fields.size:
        number, wire, start, at = fields.step(at, fields.size)
        if number == _PRODUCER and wire == 2:
            producer = fields.text(start, at)
        if number != _GRAPH or wire != 2:
            continue
        graphs += 1
        inner = start
        while inner < at:
            part, kind, begin, inner = fields.step(inner, at)
            if kind != 2:
                continue
            if part in (_INPUT, _OUTPUT):
                (inputs if part == _INPUT else outputs).append(_name(fields, begin, inner))
            elif part == _INITIALIZER and not external:
                external = _is_external(fields, begin, inner)
    if graphs != 1:
        raise _damaged()
    return OnnxOutline(tuple(inputs), tuple(outputs), producer, external)


def _name(fields: _Fields, at: int, end: int) -> str:
    while at < end:
        number, wire, start, at = fields.step(at, end)
        if number == _NAME and wire == 2:
            return fields.text(start, at)
    return ""


def _is_external(fields: _Fields, at: int, end: int) -> bool:
    while at < end:
        number, wire, start, at = fields.step(at, end)
        if number == _EXTERNAL or (number == _LOCATION and wire == 0 and fields.varint(start)[0] == 1):
            return True
    return False
