"""The circumstances a work is made in, and the seed it is made from: what all recipes have in common."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from studio.core.declare import about

SEED_LIMIT = 4_294_967_295  # llama.cpp keeps seeds in 32 bits and takes the highest value for "random"

Seed = Annotated[
    Annotated[int, Meta(ge=0, lt=SEED_LIMIT)] | None,
    about("Seed", "Start of the random numbers; the same seed makes the same work. Empty picks one."),
]


class MadeWith(msgspec.Struct, frozen=True, kw_only=True):
    """The circumstances a work was made in. With the same ones, the same recipe makes the same work.

    Attributes:
        engine: name of the engine, a key of ENGINES.
        model_sha256: checksum of the model file, or of the checksums of a folder's files.
        device: "cpu", "cuda:0", "mps"; dtype: "float32", "bfloat16", …; both as torch writes them.
        threads: processor threads of the engine. n_batch: prompt tokens per batch (text only).
        n_ctx: length of the context window in tokens (text only).
        memory: how memory was saved, one of plans.MEMORY_MODES; empty for "full".
        parts: id of each LoRA, control model and other addition -> checksum of its file.
        speed: names of speed-ups that may change the result slightly, as in the settings; none by default.
        versions: library name -> version.
        system: operating system and processor architecture.
    """

    engine: str
    model_sha256: str = ""
    device: str = "cpu"
    dtype: str = ""
    threads: int = 0
    n_batch: int = 0
    n_ctx: int = 0
    memory: str = ""
    parts: dict[str, str] = {}
    speed: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    system: str = ""
