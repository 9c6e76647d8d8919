"""The noise a voice is given: the very numbers that onnxruntime would have made inside the voice's graph.

onnxruntime's RandomNormalLike seeds a generator with the process-wide seed plus the node's place in the graph when the
session is made; the generator runs on from run to run, and each run takes a whole number of pairs of normal values
from it (the polar method makes two at a time; a spare one is dropped at the end of a run). So one such node in a model
of its own, seeded with the same sum and asked for even counts, writes the same endless row of numbers on every
platform, and a sentence takes its share from it. Compared with bare Piper in tests/engines/audio/test_piper.py.
"""

from __future__ import annotations

import numpy as np
import onnxruntime

from studio.engines.audio.graph import noise_model

_BLOCK = 1 << 14  # values per run, even


class NoiseRow:
    """An endless row of standard normal float32 values for one noise input.

    Args:
        seed: as given to `onnxruntime.set_seed` for bare Piper. index: the node's place in the voice's graph.
    """

    def __init__(self, seed: int, index: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        # 32 bits: onnxruntime cuts the sum down to them. The node of the small model has place 0.
        onnxruntime.set_seed((seed + index) % (1 << 32))
        self._session = onnxruntime.InferenceSession(noise_model(), options, providers=["CPUExecutionProvider"])
        self._ready = np.empty(0, np.float32)

    def ahead(self, count: int) -> np.ndarray:
        """The next `count` values, left in the row. Shape (count,)."""
        missing = count - self._ready.size
        if missing > 0:
            like = np.empty(-(-missing // _BLOCK) * _BLOCK, np.float32)
            self._ready = np.concatenate((self._ready, self._session.run(["y"], {"x": like})[0]))
        return self._ready[:count]

    def used(self, count: int) -> None:
        """Take `count` values off the row, and the spare of the last pair."""
        count += count % 2
        self.ahead(count)
        self._ready = self._ready[count:]
