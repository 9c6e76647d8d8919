"""Measures what the studio's training loop costs on top of a plain PyTorch loop.

    python benchmarks/training.py [--threads N] [--rounds N] [--steps N] [--width N] [--layers N] …

The same model from the same seed learns the same number of tokens in both, taking turns in one process, as medians. The
plain loop is what one writes by hand: batches cut from the tokens, forward, backward, clip, AdamW, and the loss read
once a step. The studio's also checks for cancel in every layer, reseeds, watches memory, tells and counts. Looks at
validation, samples and checkpoints are left out of both. What is measured is processor time, all threads of the process
together, because other work on the machine does not count into it; less of that is better all the same.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

WORDS = "the a old young miller cat king wind moon boat apple hat stone river sings paints finds loses keeps sees red"


def made_data(folder: Path, count: int) -> Any:
    """A data set of one long text, so that no row ends within a window."""
    from studio.core.cards import ModelCard

    draws = random.Random(1)
    text = " ".join(draws.choice(WORDS.split()) for _ in range(count))
    folder.mkdir(parents=True)
    for split, part in (("train", text), ("valid", text[:2000])):
        (folder / f"{split}.jsonl").write_text(json.dumps({"text": part}) + "\n")
    return ModelCard(
        id="d", name="words", kind="dataset", engine="", path=str(folder), format="text", sha256="0" * 64
    )  # fmt: skip


class Ours:
    """The engine's own course and loop, as a worker runs it."""

    def __init__(self, home: Path, given: argparse.Namespace) -> None:
        from studio.core.events import Event, Progress
        from studio.core.learning import TrainTextRecipe
        from studio.core.paths import Paths
        from studio.core.plans import Plan
        from studio.engines.context import RunContext

        self.times: list[float] = []

        def emit(event: Event) -> None:
            if isinstance(event, Progress) and event.phase == "learning":
                self.times.append(time.process_time())

        data = made_data(home / "data", 60_000)
        (home / "out").mkdir()
        self.ctx = RunContext("j", home / "out", home / "cache", emit, paths=Paths(home), cards={"d": data})
        self.plan, self.home, self.count = Plan(device="cpu", threads=given.threads), home, 0
        self.recipe = TrainTextRecipe(
            data="d", method="scratch", width=given.width, layers=given.layers, heads=4, vocabulary=1024,
            length=given.length, batch=given.batch, steps=given.steps + 3, check_every=10**6, patience=0, seed=1,
        )  # fmt: skip

    def sitting(self) -> Any:
        from studio.engines.train.text import Sitting

        self.count += 1
        folder = self.home / f"run{self.count}"
        return Sitting(self.recipe, self.plan, self.ctx, folder, self.home / "tokens", trial=True)

    def round(self, sitting: Any) -> float:
        """Processor seconds from the end of the second step to the end of the last but one."""
        self.times.clear()
        sitting.learn()
        return self.times[-2] - self.times[1]


def plain_round(model: Any, ids: Any, given: argparse.Namespace) -> float:
    import numpy as np
    import torch
    from torch.nn import functional

    embeddings = [p for n, p in model.named_parameters() if p.ndim < 2 or "embed" in n]
    rest = [p for n, p in model.named_parameters() if p.ndim >= 2 and "embed" not in n]
    optimizer = torch.optim.AdamW(
        [{"params": rest, "weight_decay": 0.01}, {"params": embeddings, "weight_decay": 0.0}], lr=1e-3,
        betas=(0.9, 0.95), fused=True,
    )  # fmt: skip
    steps = given.steps + 3
    draws = np.random.default_rng(1)
    began = 0.0
    for step in range(steps - 1):
        if step == 2:
            began = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * step / steps))
        starts = draws.integers(0, len(ids) - given.length - 1, given.batch)
        rows = np.stack([ids[s : s + given.length + 1] for s in starts]).astype(np.int64)
        x, y = torch.from_numpy(rows[:, :-1]), torch.from_numpy(rows[:, 1:])
        logits = model(input_ids=x, use_cache=False).logits
        loss = functional.cross_entropy(logits.flatten(0, 1), y.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        float(loss.detach())
    return time.process_time() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    given = parser.parse_args()
    import torch

    from studio.engines.train import text_models

    torch.set_num_threads(given.threads)
    ours: list[float] = []
    bare: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        engine = Ours(Path(folder), given)
        sitting = engine.sitting()
        ids = sitting.course._train.corpus.ids
        tokenizer = text_models.open_tokenizer(sitting.base_path, "words")
        engine.round(sitting)  # warms up
        for number in range(given.rounds):
            sitting = engine.sitting()
            model = text_models.new_model(engine.recipe, tokenizer, 1).train()
            turns = [
                lambda s=sitting: ours.append(engine.round(s)),
                lambda m=model: bare.append(plain_round(m, ids, given)),
            ]
            for turn in turns if number % 2 else turns[::-1]:
                turn()
    tokens = given.steps * given.batch * given.length
    rates = [tokens / statistics.median(each) for each in (ours, bare)]
    ratios = [b / a for a, b in zip(ours, bare, strict=True)]
    print(f"the studio's loop {rates[0]:8,.0f} tokens/s")
    print(f"a plain loop      {rates[1]:8,.0f} tokens/s")
    print(f"ratio             {statistics.median(ratios):8.3f}  (rounds: {', '.join(f'{r:.3f}' for r in ratios)})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
