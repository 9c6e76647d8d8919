"""The shapes that an ONNX file declares for its inputs and outputs. Knows the wire format; knows nothing of networks.

Beside onnx_header.py, which tells names and whether the file is whole; read that one first.
Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from pathlib import Path

from studio.core.cards import Broken
from studio.models.onnx_header import _GRAPH, _INITIALIZER, _INPUT, _NAME, _OUTPUT, _Bad, _Fields
from studio.models.reading import gone, regular_size

# field numbers
_TYPE, _TENSOR, _SHAPE, _DIMENSION, _VALUE = 2, 1, 2, 1, 1  # ValueInfo.type . tensor_type . shape . dim . dim_value
DIMENSIONS_LIMIT = 16

Shapes = dict[str, tuple[int, ...]]


def read_onnx_shapes(path: Path) -> tuple[Shapes, Shapes] | Broken:
    """Shapes of the inputs and of the outputs by name, in the file's order.

    Inputs that are weights (old files list them too) are left out. A size that the file leaves open is 0; a shape
    that it does not tell, or one of more than DIMENSIONS_LIMIT dimensions, is empty.
    """
    size = regular_size(path)
    if isinstance(size, Broken):
        return size
    try:
        with open(path, "rb", buffering=512) as stream:
            return _shapes(_Fields(stream, size))
    except _Bad as bad:
        return bad.broken
    except OSError as error:
        return gone(error)


def _shapes(fields: _Fields) -> tuple[Shapes, Shapes]:
    inputs: Shapes = {}
    outputs: Shapes = {}
    weights: set[str] = set()
    at = 0
    while at < fields.size:
        number, wire, start, at = fields.step(at, fields.size)
        if number != _GRAPH or wire != 2:
            continue
        inner = start
        while inner < at:
            part, kind, begin, inner = fields.step(inner, at)
            if kind == 2 and part in (_INPUT, _OUTPUT):
                name, shape = _value(fields, begin, inner)
                (inputs if part == _INPUT else outputs)[name] = shape
            elif kind == 2 and part == _INITIALIZER:
                weights.add(_text(fields, begin, inner, 8))  # TensorProto.name
    return {n: s for n, s in inputs.items() if n not in weights}, outputs


def _value(fields: _Fields, at: int, end: int) -> tuple[str, tuple[int, ...]]:
    name = ""
    shape: tuple[int, ...] = ()
    while at < end:
        number, wire, start, at = fields.step(at, end)
        if number == _NAME and wire == 2:
            name = fields.text(start, at)
        elif number == _TYPE and wire == 2:
            for begin, stop in _inside(fields, start, at, _TENSOR):
                for first, last in _inside(fields, begin, stop, _SHAPE):
                    shape = tuple(_size(fields, a, b) for a, b in _inside(fields, first, last, _DIMENSION))
    return name, shape if len(shape) <= DIMENSIONS_LIMIT else ()


def _inside(fields: _Fields, at: int, end: int, wanted: int) -> list[tuple[int, int]]:
    found = []
    while at < end:
        number, wire, start, at = fields.step(at, end)
        if number == wanted and wire == 2:
            found.append((start, at))
    return found


def _size(fields: _Fields, at: int, end: int) -> int:
    while at < end:
        number, wire, start, at = fields.step(at, end)
        if number == _VALUE and wire == 0:
            value = fields.varint(start)[0]
            return value if value < 1 << 31 else 0  # -1 is written by some for a size that is open
    return 0


def _text(fields: _Fields, at: int, end: int, wanted: int) -> str:
    while at < end:
        number, wire, start, at = fields.step(at, end)
        if number == wanted and wire == 2:
            return fields.text(start, at)
    return ""
