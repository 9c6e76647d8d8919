"""ONNX files opened and asked through onnxruntime, on the processor.

Knows sessions, what they raise and how they are stopped; knows nothing of what the numbers mean. Voices are opened by
`audio/voices.py`, which rearranges their graphs.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from studio.core.problems import EngineMissing, ModelBroken, ModelMissing, ModelUnfit, OutOfMemory
from studio.engines.context import RunContext

LARGEST_SIDE = 4096  # px of a picture that a graph may want
_LISTEN_SECONDS = 0.05


class PictureGraph:
    """A graph that takes pictures, held open.

    Args:
        called: what it is called where a sentence begins, for example “The judge “x””. name: within a sentence.
        needs: the beginning of the sentence for an onnxruntime that is not there.

    Attributes:
        texts: what its maker wrote into the file, by key.

    Raises:
        ModelMissing, ModelBroken, EngineMissing, OutOfMemory.
    """

    def __init__(self, path: Path, threads: int, called: str, name: str, needs: str = "ONNX models need") -> None:
        self._called, self._name = called, name
        if not path.is_file():
            raise ModelMissing(f"{called} is gone.", "Was it moved or deleted?", detail=str(path))
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineMissing(
                f"{needs} onnxruntime, which is not installed.", "Set the studio up again with run.py.",
                detail=repr(error),
            ) from error  # fmt: skip
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, threads)
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except MemoryError as error:
            raise OutOfMemory(f"Memory ran out while loading “{name}”.", detail=repr(error)) from error
        except errors() as error:
            raise ModelBroken(f"{called} cannot be opened.", "Copy or download it again.", detail=str(error)) from error
        self.texts: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    @property
    def inputs(self) -> list[Any]:
        """What it takes, as onnxruntime tells it: name, type and shape."""
        return list(self._session.get_inputs())

    @property
    def outputs(self) -> list[Any]:
        """What it gives, as onnxruntime tells it."""
        return list(self._session.get_outputs())

    @property
    def takes_one_picture(self) -> bool:
        """Whether it has one input, in four dimensions, of a number format that pictures come in."""
        given = self.inputs
        return len(given) == 1 and given[0].type in ("tensor(float)", "tensor(float16)") and len(given[0].shape) == 4

    @property
    def sides(self) -> tuple[int, int]:
        """Width and height of the picture it takes; 0 where it takes any."""
        high, wide = (side if isinstance(side, int) and side > 0 else 0 for side in self.inputs[0].shape[2:])
        return wide, high

    def size(self, usual: tuple[int, int]) -> tuple[int, int]:
        """Width and height of the picture it is given; `usual` where it takes any.

        Raises:
            ModelUnfit: it wants more than makes sense.
        """
        wide, high = (told or other for told, other in zip(self.sides, usual, strict=True))
        if max(wide, high) > LARGEST_SIDE:
            raise ModelUnfit(f"“{self._name}” wants pictures of {wide}×{high} px, which is more than makes sense.")
        return wide, high

    def look(self, values: np.ndarray, ctx: RunContext, only: str | None = None) -> dict[str, np.ndarray]:
        """Its outputs by name for a picture, (1, 3, H, W), stopped when the job is cancelled.

        Args:
            only: the one output that is wanted; None for all.

        Raises:
            ModelUnfit: it could not. OutOfMemory, JobCancelled.
        """
        import onnxruntime

        given = self.inputs[0]
        wanted = [each.name for each in self.outputs] if only is None else [only]
        options = onnxruntime.RunOptions()
        ctx.check()
        if given.type == "tensor(float16)":
            values = values.astype(np.float16)
        try:
            with listening(ctx, options):
                outs = self._session.run(wanted, {given.name: values}, options)
        except MemoryError as error:
            raise OutOfMemory(
                f"Memory ran out while “{self._name}” looked at the picture.", detail=repr(error)
            ) from error
        except errors() as error:
            ctx.check()  # it was stopped
            if "alloc" in str(error).lower():
                raise OutOfMemory(
                    f"Memory ran out while “{self._name}” looked at the picture.", "Close other programs.",
                    detail=str(error),
                ) from error  # fmt: skip
            raise ModelUnfit(
                f"{self._called} could not look at the picture.", "Choose another one.", detail=str(error)
            ) from error
        return {name: np.asarray(out) for name, out in zip(wanted, outs, strict=True)}

    def glance(self, values: np.ndarray) -> np.ndarray:
        """Its first output for pictures, (N, 3, H, W), where stopping between two calls is enough."""
        return np.asarray(self._session.run(None, {self.inputs[0].name: values})[0])


def errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: its errors share no base class but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.Fail, state.InvalidArgument, state.NoSuchFile, state.NoModel, state.EngineError, state.RuntimeException,
        state.InvalidProtobuf, state.ModelLoaded, state.NotImplemented, state.InvalidGraph, state.EPFail,
        RuntimeError, ValueError,
    )  # fmt: skip


@contextlib.contextmanager
def listening(ctx: RunContext, options: Any) -> Iterator[None]:
    """Have a run stopped when its job is cancelled: it takes seconds, and asks nobody meanwhile."""
    over = threading.Event()

    def listen() -> None:
        while not over.wait(_LISTEN_SECONDS):
            if ctx.cancelled:
                options.terminate = True
                return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield
    finally:
        over.set()
        listener.join()
