"""Turning a voice's noise nodes into inputs, on the bytes of the ONNX file.

Knows the protobuf wire format and the few ONNX messages it touches; knows nothing of sound, of onnxruntime or of the
onnx package, which it does not need. The weights are copied as they are, so a voice of 60 MB takes a few hundredths
of a second.

A Piper graph makes its noise with nodes of the kind RandomNormalLike, whose generators run on from sentence to
sentence and are seeded when a session is made. Each of them becomes, for a flat input `n` of any length above 0,

    Reshape(Gather(n, Range(0, Size(x), 1) mod Size(n)), Shape(x))

and the number of values used, Size(x), becomes an output: it depends on durations that the graph works out itself.
If fewer values were given than used, the caller sees that and runs again with enough.

Source: onnx.proto3 of ONNX for the field numbers; https://protobuf.dev/programming-guides/encoding for the bytes.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FLOAT, _INT64 = 1, 7  # TensorProto.DataType
_RANDOM = (b"RandomNormal", b"RandomUniform", b"Multinomial", b"Bernoulli")


@dataclasses.dataclass(frozen=True)
class NoiseInput:
    """One noise node that became an input.

    Attributes:
        name: the new float input, shape (n,). size: the new int64 output, a scalar: values used.
        index: the node's place in the graph as onnxruntime counts; it adds this to the seed.
    """

    name: str
    size: str
    index: int


@dataclasses.dataclass(frozen=True)
class Survey:
    """What a walk through the file found.

    Attributes:
        random: the graph makes random numbers at all.
        model: the rewritten file, or None where the noise cannot be made an input: there is none, or it is made in a
            way that this module does not know.
        noise: the new inputs, in graph order.
        external: some weights lie in other files.
    """

    random: bool
    model: bytes | None = None
    noise: tuple[NoiseInput, ...] = ()
    external: bool = False


@dataclasses.dataclass(frozen=True)
class _Field:
    number: int
    wire: int
    value: int  # of a varint
    begin: int  # of the whole field
    start: int  # of its content
    end: int


def _read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number runs past its end")


def _fields(data: bytes, at: int, end: int) -> Iterator[_Field]:
    while at < end:
        begin = at
        key, at = _read_varint(data, at, end)
        wire, value, start = key & 7, 0, at
        if wire == _VARINT:
            value, at = _read_varint(data, at, end)
        elif wire == _BYTES:
            length, start = _read_varint(data, at, end)
            at = start + length
        elif wire in (_FIXED32, _FIXED64):
            at += 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"unknown wire type {wire}")
        if at > end:
            raise ValueError("a field runs past its end")
        yield _Field(key >> 3, wire, value, begin, start, at)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def _put(number: int, content: bytes | str | int) -> bytes:
    if isinstance(content, int):
        return _varint(number << 3 | _VARINT) + _varint(content)
    raw = content.encode() if isinstance(content, str) else content
    return _varint(number << 3 | _BYTES) + _varint(len(raw)) + raw


def _node(kind: str, inputs: tuple[str, ...], output: str) -> bytes:
    return _put(1, b"".join(_put(1, i) for i in inputs) + _put(2, output) + _put(3, output) + _put(4, kind))


def _scalar(name: str, value: int) -> bytes:
    return _put(5, _put(2, _INT64) + _put(8, name) + _put(9, struct.pack("<q", value)))


def _value(number: int, name: str, kind: int, dims: tuple[str, ...]) -> bytes:
    shape = b"".join(_put(1, _put(2, d)) for d in dims)
    return _put(number, _put(1, name) + _put(2, _put(1, _put(1, kind) + _put(2, shape))))


def noise_model() -> bytes:
    """A model of one RandomNormalLike node, x (n,) -> y (n,): the same generator as inside a voice, by itself."""
    graph = _node("RandomNormalLike", ("x",), "y") + _put(2, "noise")
    graph += _value(11, "x", _FLOAT, ("n",)) + _value(12, "y", _FLOAT, ("n",))
    return _put(1, 8) + _put(7, graph) + _put(8, _put(1, "") + _put(2, 15))


def _plain_normal(data: bytes, attributes: list[_Field]) -> bool:
    """Whether a RandomNormalLike node makes standard normal floats from the session's seed."""
    for attribute in attributes:
        name, number, whole = b"", 0.0, 0
        for f in _fields(data, attribute.start, attribute.end):
            if f.number == 1:
                name = data[f.start : f.end]
            elif f.number == 2 and f.wire == _FIXED32:
                (number,) = struct.unpack("<f", data[f.start : f.end])
            elif f.number == 3:
                whole = f.value
        expected = {b"dtype": whole == _FLOAT, b"mean": number == 0.0, b"scale": number == 1.0}
        if not expected.get(name, False):
            return False
    return True


def _replacement(x: str, y: str, noise: NoiseInput) -> bytes:
    name = noise.name
    return b"".join(
        (
            _node("Shape", (x,), f"{name}.shape"),
            _node("Size", (x,), noise.size),
            _node("Range", ("studio.zero", noise.size, "studio.one"), f"{name}.range"),
            _node("Size", (name,), f"{name}.given"),
            _node("Mod", (f"{name}.range", f"{name}.given"), f"{name}.wrapped"),
            _node("Gather", (name, f"{name}.wrapped"), f"{name}.flat"),
            _node("Reshape", (f"{name}.flat", f"{name}.shape"), y),
        )
    )


def survey(model: bytes) -> Survey:
    """Walk through an ONNX file and rewrite its noise nodes as inputs.

    Raises:
        ValueError: the bytes are not a whole protobuf message with a graph in it.
    """
    graph, opset, strange = None, 0, False
    for f in _fields(model, 0, len(model)):
        if f.number == 7 and f.wire == _BYTES:
            graph = f
        elif f.number == 8 and f.wire == _BYTES:
            parts = {g.number: g for g in _fields(model, f.start, f.end)}
            if 1 not in parts or parts[1].start == parts[1].end:
                opset = parts[2].value if 2 in parts else 0
        elif f.number == 25:  # functions of the model's own
            strange = strange or any(word in model[f.start : f.end] for word in _RANDOM)
    if graph is None:
        raise ValueError("there is no graph in it")

    pieces, kept = [], graph.start  # what is copied, and up to where
    noise: list[NoiseInput] = []
    external, index = False, 0
    for f in _fields(model, graph.start, graph.end):
        if f.number == 5:
            external = external or any(g.number == 14 and g.value == 1 for g in _fields(model, f.start, f.end))
        if f.number != 1:
            continue
        inside = list(_fields(model, f.start, f.end))
        text = {n: [model[g.start : g.end] for g in inside if g.number == n] for n in (1, 2, 4)}
        kind = text[4][-1] if text[4] else b""
        attributes = [g for g in inside if g.number == 5]
        if kind == b"RandomNormalLike" and len(text[1]) == len(text[2]) == 1 and _plain_normal(model, attributes):
            found = NoiseInput(f"studio.noise{len(noise)}", f"studio.noise{len(noise)}.size", index)
            noise.append(found)
            pieces += [model[kept : f.begin], _replacement(text[1][0].decode(), text[2][0].decode(), found)]
            kept = f.end
        else:
            strange = strange or kind.startswith(_RANDOM)
            strange = strange or any(w in model[a.start : a.end] for a in attributes for w in _RANDOM)
        # onnxruntime turns Constant nodes into weights before it numbers the others
        index += kind != b"Constant"

    if not noise or strange or opset < 11:  # Range and Mod on whole numbers came with operator set 11
        return Survey(bool(noise) or strange, external=external)
    pieces += [model[kept : graph.end], _scalar("studio.zero", 0), _scalar("studio.one", 1)]
    for n in noise:
        pieces += [_value(11, n.name, _FLOAT, (f"{n.name}.n",)), _value(12, n.size, _INT64, ())]
    length = sum(map(len, pieces))
    head = model[: graph.begin] + _varint(7 << 3 | _BYTES) + _varint(length)
    return Survey(True, b"".join((head, *pieces, model[graph.end :])), tuple(noise), external)
