"""Tiny models that look at pictures: graphs of ONNX whose answers follow from the picture, and random transformers.

The graphs find red and green (YOLO), blue (YuNet), the brightest red, or take lightness for nearness.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from studio.core.cards import ModelCard

SIDE = 64
NAMES = {0: "face", 1: "hand"}
_F = TensorProto.FLOAT


class Graph:
    """A graph of ONNX that is put together line by line."""

    def __init__(self, side: tuple[int, int]) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.inputs = [helper.make_tensor_value_info("images", _F, [1, 3, side[1], side[0]])]

    def const(self, value: Any, kind: Any = np.float32) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def do(self, kind: str, *given: str, out: str = "", **more: Any) -> str:
        name = out or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(given), [name], **more))
        return name

    def channel(self, number: int) -> str:
        """(1, H, W) of one colour."""
        return self.do("Gather", "images", self.const(number, np.int64), axis=1)

    def save(self, path: Path, outputs: dict[str, tuple[int, ...]], **properties: str) -> Path:
        outs = [helper.make_tensor_value_info(name, _F, shape) for name, shape in outputs.items()]
        graph = helper.make_graph(self.nodes, "tiny", self.inputs, outs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        if properties:
            helper.set_model_props(model, properties)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, str(path))
        return path


def _extent(graph: Graph, there: str, axis: int, side: int) -> tuple[str, str]:
    """First and last (one further) place, (1, 1), along an axis of a (1, H, W) map of zeros and ones."""
    line = graph.do("ReduceMax", there, axes=[axis], keepdims=0)
    places = np.arange(side, dtype=np.float32)[None]

    def most(weights: np.ndarray) -> str:
        return graph.do("ReduceMax", graph.do("Mul", line, graph.const(weights)), axes=[1], keepdims=1)

    return graph.do("Sub", graph.const(float(side)), most(side - places)), most(places + 1)


def _where(graph: Graph, there: str, side: int) -> tuple[str, str, str, str]:
    left, right = _extent(graph, there, 1, side)
    top, bottom = _extent(graph, there, 2, side)
    return left, top, right, bottom


def _over(graph: Graph, colour: int, others: tuple[int, int]) -> str:
    """1 where a colour is stronger than the two others together by 0.3."""
    rest = graph.do("Add", graph.channel(others[0]), graph.channel(others[1]))
    more = graph.do("Sub", graph.channel(colour), rest)
    return graph.do("Cast", graph.do("Greater", more, graph.const(0.3)), to=_F)


def save_yolo(path: Path, *, end: bool = False, brightest: bool = False, side: int = SIDE) -> Path:
    """A YOLO that finds what is red as a face (0.9) and what is green as a hand (0.8).

    Args:
        end: with its own selection of boxes. brightest: the face is where red is strongest, and there are no hands.
    """
    graph = Graph((side, side))
    rows = []
    for number, score in ((0, 0.9), (1, 0.8)):
        if brightest:
            red = graph.channel(0)
            most = graph.do("ReduceMax", red, axes=[1, 2], keepdims=1)
            there = graph.do("Cast", graph.do("GreaterOrEqual", red, most), to=_F)
        else:
            there = _over(graph, number, ((1, 2), (0, 2))[number])
        left, top, right, bottom = _where(graph, there, side)
        any_there = graph.do("ReduceMax", there, axes=[1, 2], keepdims=0)
        sure = graph.do("Mul", graph.do("Reshape", any_there, graph.const([1, 1], np.int64)),
                        graph.const(score if number == 0 or not brightest else 0.0))  # fmt: skip
        half = graph.const(0.5)
        if end:
            parts = [left, top, right, bottom, sure, graph.const([[float(number)]])]
        else:
            centre = [graph.do("Mul", graph.do("Add", a, b), half) for a, b in ((left, right), (top, bottom))]
            size = [graph.do("Sub", b, a) for a, b in ((left, right), (top, bottom))]
            zero = graph.const([[0.0]])
            parts = [*centre, *size, *((sure, zero) if number == 0 else (zero, sure))]
        row = graph.do("Concat", *parts, axis=1)  # (1, 6)
        rows.append(graph.do("Reshape", row, graph.const([1, 1, 6], np.int64)))
    rows.append(graph.const(np.zeros((1, 8, 6))))
    # the same face once more, a little less sure: one of the two must go
    rows.append(graph.do("Mul", rows[0], graph.const([[[1.0, 1, 1, 1, 0.9 if not end else 0.0, 1]]])))
    listed = graph.do("Concat", *rows, axis=1)
    if end:
        graph.do("Identity", listed, out="output0")
        shape: tuple[int, ...] = (1, 11, 6)
    else:
        graph.do("Transpose", listed, out="output0", perm=[0, 2, 1])
        shape = (1, 6, 11)
    return graph.save(path, {"output0": shape}, names=str(NAMES), task="detect", imgsz=f"[{side}, {side}]")


def save_yunet(path: Path, side: int = SIDE) -> Path:
    """A YuNet that finds each cell of 8×8 px with something blue in it, at exactly that cell."""
    graph = Graph((side, side))
    blue = graph.do("Sub", graph.channel(0), graph.channel(2))  # it is given blue first
    there = graph.do("Cast", graph.do("Greater", blue, graph.const(128.0)), to=_F)
    there = graph.do("Reshape", there, graph.const([1, 1, side, side], np.int64))
    outputs: dict[str, tuple[int, ...]] = {}
    for stride in (8, 16, 32):
        cells = (side // stride) ** 2
        pooled = graph.do("MaxPool", there, kernel_shape=[stride, stride], strides=[stride, stride])
        seen = graph.do("Mul", pooled, graph.const(1.0 if stride == 8 else 0.0))
        for part, wide in (("cls", 1), ("obj", 1)):
            graph.do("Reshape", seen, graph.const([1, cells, wide], np.int64), out=f"{part}_{stride}")
            outputs[f"{part}_{stride}"] = (1, cells, wide)
        box = np.tile(np.array([0.5, 0.5, 0.0, 0.0], np.float32), (1, cells, 1))
        graph.do("Identity", graph.const(box), out=f"bbox_{stride}")
        graph.do("Identity", graph.const(np.zeros((1, cells, 10))), out=f"kps_{stride}")
        outputs |= {f"bbox_{stride}": (1, cells, 4), f"kps_{stride}": (1, cells, 10)}
    return graph.save(path, outputs)


def save_depth(path: Path, *, flat: bool = True, side: int = 32) -> Path:
    """A depth model for which light is near; its picture comes as plain lightness. flat: (1, H, W)."""
    graph = Graph((side, side))
    mean = graph.do("ReduceMean", "images", axes=[1], keepdims=0 if flat else 1)
    graph.do("Identity", mean, out="predicted_depth")
    shape = (1, side, side) if flat else (1, 1, side, side)
    return graph.save(path, {"predicted_depth": shape}, mean="0, 0, 0", std="1, 1, 1")


# -- transformers


def save_yolos(folder: Path) -> Path:
    import torch
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessorPil

    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = YolosForObjectDetection(
            YolosConfig(
                hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=[32, 32],
                patch_size=8, num_detection_tokens=4, id2label={0: "face", 1: "person"}, auxiliary_loss=False,
                use_mid_position_embeddings=False,
            )
        )  # fmt: skip
    network.save_pretrained(str(folder), safe_serialization=True)
    YolosImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(str(folder))
    return folder


def save_rt_detr(folder: Path) -> Path:
    import torch
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrImageProcessorPil, RTDetrResNetConfig

    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = RTDetrForObjectDetection(
            RTDetrConfig(
                backbone_config=RTDetrResNetConfig(
                    embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], layer_type="basic",
                    out_features=["stage2", "stage3", "stage4"],
                ),
                encoder_hidden_dim=16, encoder_in_channels=[8, 8, 8], encoder_layers=1, encoder_attention_heads=2,
                encoder_ffn_dim=16, d_model=16, num_queries=4, decoder_in_channels=[16, 16, 16], decoder_ffn_dim=16,
                decoder_layers=1, decoder_attention_heads=2, num_denoising=0, id2label={0: "face"},
            )
        )  # fmt: skip
    network.save_pretrained(str(folder), safe_serialization=True)
    RTDetrImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(str(folder))
    return folder


def save_dpt(folder: Path) -> Path:
    import torch
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessorPil

    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = DPTForDepthEstimation(
            DPTConfig(
                hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=32,
                patch_size=8, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8,
                is_hybrid=False, neck_ignore_stages=[], initializer_range=0.5,
            )
        )  # fmt: skip
    network.save_pretrained(str(folder), safe_serialization=True)
    DPTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(str(folder))
    return folder


def save_vitpose(folder: Path, points: int = 17) -> Path:
    import torch
    from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation, VitPoseImageProcessorPil

    with torch.random.fork_rng():
        torch.manual_seed(5)
        backbone = VitPoseBackboneConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=[32, 24], patch_size=[8, 8],
            mlp_ratio=1,
        )  # fmt: skip
        network = VitPoseForPoseEstimation(
            VitPoseConfig(backbone_config=backbone, num_labels=points, scale_factor=4, initializer_range=1.0)
        )
        torch.nn.init.normal_(network.head.conv.weight, std=2.0)
    network.save_pretrained(str(folder), safe_serialization=True)
    VitPoseImageProcessorPil(size={"height": 32, "width": 24}).save_pretrained(str(folder))
    return folder


def card_of(path: Path, kind: str) -> ModelCard:
    """The card of such a model, as a look at it makes one."""
    from studio.models.identify import look

    found = look(path)
    assert isinstance(found, ModelCard), found
    assert found.kind == kind, found
    return found
