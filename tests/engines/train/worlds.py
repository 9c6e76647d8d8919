"""Small data sets and models for trainings of texts, made from nothing."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch

from studio.core.cards import ModelCard
from studio.core.events import Event, Progress
from studio.core.paths import Paths
from studio.engines.context import RunContext
from studio.engines.train.tokens import new_tokenizer

_WHO = ("The miller", "A grey cat", "The old king", "My sister", "The north wind")
_DOES = ("looks for", "sings to", "paints", "forgets", "waits for")
_WHAT = ("the moon", "a red boat", "the last apple", "his blue hat", "seven stones")


def tales(count: int, seed: int = 1) -> list[str]:
    """Short texts with a pattern that a small model can learn."""
    draws = random.Random(seed)
    return [
        " ".join(
            f"{draws.choice(_WHO)} {draws.choice(_DOES)} {draws.choice(_WHAT)}." for _ in range(draws.randint(1, 4))
        )
        for _ in range(count)
    ]


def chats(count: int, seed: int = 1) -> list[list[dict[str, str]]]:
    """Sums, asked and answered."""
    draws = random.Random(seed)
    made = []
    for _ in range(count):
        a, b = draws.randint(0, 20), draws.randint(0, 20)
        made.append(
            [{"role": "user", "content": f"What is {a} plus {b}?"}, {"role": "assistant", "content": f"It is {a + b}."}]
        )
    return made


def dataset(home: Path, rows: list[Any], valid: list[Any], name: str = "tales-0123456789ab") -> ModelCard:
    """A data set on disk, as the data engine leaves it."""
    folder = Paths(home).datasets / name
    folder.mkdir(parents=True)
    for split, given in (("train", rows), ("valid", valid)):
        lines = [{"text": row} if isinstance(row, str) else {"messages": row} for row in given]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shape = "text" if rows and isinstance(rows[0], str) else "chat"
    return ModelCard(
        id=name, name="tales", kind="dataset", engine="", path=str(folder), format=shape, sha256="ab" * 32
    )  # fmt: skip


def llama(home: Path, name: str = "tiny", dtype: str = "float32", **more: Any) -> ModelCard:
    """A folder of Llama's kind with random weights, and a tokenizer for the tales."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = Paths(home).models / name
    folder.mkdir(parents=True)
    new_tokenizer(iter(tales(200)), 320, folder, chat=False)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    torch.manual_seed(3)
    given: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 256, "bos_token_id": 0,
        "eos_token_id": 1, "pad_token_id": 1, "initializer_range": 0.2,
    }  # fmt: skip
    LlamaForCausalLM(LlamaConfig(**given, **more)).to(getattr(torch, dtype)).save_pretrained(folder)
    return ModelCard(
        id=name, name=name.capitalize(), kind="text", engine="text.transformers", path=str(folder),
        format="transformers", licence="CC0",
    )  # fmt: skip


def surroundings(
    folder: Path, *cards: ModelCard, events: list[Event] | None = None, after: int = -1, job: str = "j1"
) -> RunContext:
    """A context that is cancelled when it has heard of `after` steps."""
    import threading

    cancelled, heard = threading.Event(), [] if events is None else events

    def emit(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Progress) and event.phase == "learning" and event.done == after:
            cancelled.set()

    out = folder / "staging" / job
    out.mkdir(parents=True, exist_ok=True)
    return RunContext(
        job, out, folder / "cache", emit, cancelled, paths=Paths(folder), cards={card.id: card for card in cards}
    )
