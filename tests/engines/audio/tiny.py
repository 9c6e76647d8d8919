"""A Piper voice of a few kilobytes that speaks at once: each phoneme is a short tone. Built by tests, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SAMPLES_PER_PHONEME = 64
RATE = 16_000


def tiny_voice(
    folder: Path, name: str = "tiny", *, speakers: int = 1, nan: bool = False, nested: bool = False,
    config: dict[str, Any] | None = None, inputs: tuple[str, ...] = ("input", "input_lengths", "scales"),
) -> Path:  # fmt: skip
    """Write `<name>.onnx` and its JSON into `folder`, and return the path of the graph.

    Like a real voice it makes noise twice, once for the length of sounds and once for the sound itself, whose amount
    depends on the first.

    Args:
        nan: every sample is NaN. nested: noise is made inside an If node, where the studio does not reach.
        config: laid over the JSON. inputs: names of the three inputs, to build voices that do not fit.
    """
    from piper.phoneme_ids import DEFAULT_PHONEME_ID_MAP

    ids, lengths, scales = inputs
    nodes: list[onnx.NodeProto] = []

    def constant(label: str, value: Any, kind: Any) -> None:
        tensor = numpy_helper.from_array(np.array(value, kind), label)
        nodes.append(helper.make_node("Constant", [], [label], value=tensor))

    def node(kind: str, *given: str, to: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(kind, list(given), [to], name=to, **attributes))

    # 1. scales, apart. Constant nodes come between on purpose: onnxruntime does not count them.
    for label, place in (("noise", 0), ("length", 1), ("rhythm", 2)):
        constant(f"{label}.place", place, np.int64)
        node("Gather", scales, f"{label}.place", to=label, axis=0)
    # 2. how long it is: 64 samples per phoneme, a little more or less by the first noise
    node("Cast", ids, to="ids", to_=TensorProto.FLOAT)
    node("RandomNormalLike", "ids", to="wobble.noise", dtype=1)
    node("ReduceMean", "wobble.noise", to="wobble.mean", keepdims=0)
    node("Mul", "wobble.mean", "rhythm", to="wobble")
    constant("tenth", 0.1, np.float32)
    constant("one", 1.0, np.float32)
    node("Mul", "wobble", "tenth", to="wobble.tenth")
    node("Add", "wobble.tenth", "one", to="stretch")
    node("Size", ids, to="count")
    node("Cast", "count", to="count.float", to_=TensorProto.FLOAT)
    constant("per", float(SAMPLES_PER_PHONEME), np.float32)
    node("Mul", "count.float", "per", to="plain")
    node("Mul", "plain", "length", to="paced")
    node("Mul", "paced", "stretch", to="samples.float")
    node("Cast", "samples.float", to="samples", to_=TensorProto.INT64)
    # 3. a tone per phoneme
    constant("zero.int", 0, np.int64)
    constant("one.int", 1, np.int64)
    node("Range", "zero.int", "samples", "one.int", to="time.int")
    node("Cast", "time.int", to="time", to_=TensorProto.FLOAT)
    node("Div", "time", "samples.float", to="share")
    node("Mul", "share", "count.float", to="which.float")
    node("Cast", "which.float", to="which", to_=TensorProto.INT64)
    constant("flat", [-1], np.int64)
    node("Reshape", "ids", "flat", to="ids.flat")
    node("Gather", "ids.flat", "which", to="pitch", axis=0)
    if speakers > 1:
        node("Cast", "sid", to="sid.float", to_=TensorProto.FLOAT)
        node("Add", "pitch", "sid.float", to="pitch.own")
    constant("hundredth", 0.01, np.float32)
    node("Mul", "pitch.own" if speakers > 1 else "pitch", "hundredth", to="step")
    node("Mul", "time", "step", to="phase")
    node("Sin", "phase", to="tone")
    # 4. noise over it
    if nested:
        inner = helper.make_graph(
            [helper.make_node("RandomNormalLike", ["tone"], ["inner"], dtype=1)], "then", [],
            [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
        )  # fmt: skip
        constant("true", True, np.bool_)
        node("If", "true", to="hiss.noise", then_branch=inner, else_branch=inner)
    else:
        node("RandomNormalLike", "tone", to="hiss.noise", dtype=1)
    node("Mul", "hiss.noise", "noise", to="hiss")
    node("Mul", "hiss", "hundredth", to="hiss.low")
    node("Add", "tone", "hiss.low", to="sound")
    if nan:
        constant("minus", -1.0, np.float32)
        node("Sqrt", "minus", to="nan")
        node("Add", "sound", "nan", to="spoilt")
    constant("shape", [1, 1, 1, -1], np.int64)
    node("Reshape", "spoilt" if nan else "sound", "shape", to="output")

    for made in nodes:  # `to` is also the name of Cast's attribute
        for attribute in made.attribute:
            if attribute.name == "to_":
                attribute.name = "to"
    given = [
        helper.make_tensor_value_info(ids, TensorProto.INT64, ["batch", "phonemes"]),
        helper.make_tensor_value_info(lengths, TensorProto.INT64, ["batch"]),
        helper.make_tensor_value_info(scales, TensorProto.FLOAT, [3]),
    ]
    if speakers > 1:
        given.append(helper.make_tensor_value_info("sid", TensorProto.INT64, ["batch"]))
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", "time", 1, "samples"])
    graph = helper.make_graph(nodes, "tiny", given, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    about = {
        "audio": {"sample_rate": RATE},
        "espeak": {"voice": "en-us"},
        "inference": {"noise_scale": 0.667, "length_scale": 1.0, "noise_w": 0.8},
        "phoneme_type": "espeak",
        "num_symbols": 256,
        "num_speakers": speakers,
        "speaker_id_map": {f"speaker {n}": n for n in range(speakers)} if speakers > 1 else {},
        "phoneme_id_map": DEFAULT_PHONEME_ID_MAP,
        **(config or {}),
    }
    path.with_name(f"{path.name}.json").write_text(json.dumps(about), encoding="utf-8")
    return path
