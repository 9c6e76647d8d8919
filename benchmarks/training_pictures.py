"""Measures what the studio's training of pictures costs on top of a plain PyTorch loop.

    python benchmarks/training_pictures.py [--threads N] [--rounds N] [--steps N] [--batch N]

The same U-Net (the picture starter's) learns from the same latents and words in both, taking turns in one process. The
plain loop is what one writes by hand with diffusers: latents and words in memory, noise, the scheduler's own
`add_noise` and `get_velocity`, forward, backward, clip, AdamW, and the loss read once a step. The studio's also reads
from the run's files, checks for cancel in every layer, reseeds, watches memory, tells and counts. Looks at validation,
samples and checkpoints are left out of both. What is measured is processor time of the whole process, because other
work on the machine does not count into it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

PICTURES = 32


class Ours:
    """The engine's own course and loop."""

    def __init__(self, home: Path, given: argparse.Namespace) -> None:
        from studio.core.events import Event, Progress
        from studio.engines.context import RunContext

        self.times: list[float] = []

        def emit(event: Event) -> None:
            if isinstance(event, Progress) and event.phase == "learning":
                self.times.append(time.process_time())

        self.home, self.given, self.count = home, given, 0
        self.ctx = RunContext("j", home, home / "cache", emit)

    def prepare(self, family: Any, latents: Any, words: Any) -> Any:
        from studio.engines.train.painter import Part, Prepared
        from studio.engines.train.picture_data import Shelf

        shelf = Shelf.of(self.home, "latents", "k", len(latents), lambda: iter([{"plain": each} for each in latents]))
        texts = [f"picture {number}" for number in range(len(latents))]
        read = [{"embeds": each} for each in words]
        kept = Shelf.of(self.home, "words", "k", len(words), lambda: iter(read))
        part = Part(shelf, tuple((number,) for number in range(len(latents))))
        return Prepared({"train": part}, [*texts, ""], kept)

    def round(self, family: Any, prepared: Any) -> float:
        """Processor seconds from the end of the second step to the end of the last but one."""
        from studio.engines.train.checkpoints import Checkpoints
        from studio.engines.train.loop import Rules, learn
        from studio.engines.train.painter import Painter

        self.times.clear()
        self.count += 1
        self.ctx._done = 0.0
        given = self.given
        course = Painter(family, prepared, {"unet": family.network}, 1, given.batch, judged=1)
        course.validate = dict  # type: ignore[method-assign]
        rules = Rules(steps=given.steps + 3, rate=1e-6, seed=1, check_every=10**6, patience=0, threads=given.threads)
        learn(course, rules, self.ctx, Checkpoints(self.home / f"run{self.count}"))
        return self.times[-2] - self.times[1]


def plain(unet: Any, scheduler: Any, latents: Any, words: Any, given: argparse.Namespace) -> float:
    """The same by hand; processor seconds of as many steps."""
    import torch

    torch.manual_seed(1)
    optimizer = torch.optim.AdamW(unet.parameters(), 1e-6, fused=True)
    unet.train()
    began = 0.0
    for step in range(given.steps + 3):
        if step == 2:
            began = time.process_time()
        elif step == given.steps + 2:
            return time.process_time() - began
        chosen = torch.randint(len(latents), (given.batch,))
        clean, noise = latents[chosen], torch.randn(given.batch, *latents.shape[1:])
        steps = torch.randint(1000, (given.batch,))
        found = unet(scheduler.add_noise(clean, noise, steps), steps, words[chosen]).sample
        loss = torch.nn.functional.mse_loss(found, scheduler.get_velocity(clean, noise, steps))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        loss.item()
    raise AssertionError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    given = parser.parse_args()

    from studio.engines.image import loading

    loading.go_offline()
    import torch
    from diffusers import DDPMScheduler

    from studio.core.paths import assets_folder
    from studio.engines.train.families import family_of

    torch.set_num_threads(given.threads)
    pipe = loading.open_pipeline(str(assets_folder() / "models" / "starter-image"), "starter", "cpu", "float32")
    family = family_of(pipe)
    pipe.vae.requires_grad_(False)
    pipe.text_encoder.requires_grad_(False)
    pipe.unet.requires_grad_(True)
    latents = torch.randn(PICTURES, 8, 16, 16)
    with torch.no_grad():
        words = torch.stack([each["embeds"] for each in family.read([f"picture {n}" for n in range(PICTURES)] + [""])])
    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    ours_took, plain_took = [], []
    with tempfile.TemporaryDirectory() as home:
        ours = Ours(Path(home), given)
        prepared = ours.prepare(family, latents, words)
        for number in range(given.rounds + 1):
            one, other = ours.round(family, prepared), plain(pipe.unet, scheduler, latents, words, given)
            if number:  # the first warms up
                ours_took.append(one)
                plain_took.append(other)
    pictures = given.steps * given.batch
    ours_speed = pictures / statistics.median(ours_took)
    plain_speed = pictures / statistics.median(plain_took)
    print(f"pictures per processor second: studio {ours_speed:.2f}, plain {plain_speed:.2f}")
    ratios = [other / one for one, other in zip(ours_took, plain_took, strict=True)]
    print(f"studio ÷ plain: {statistics.median(ratios):.3f} (median of {given.rounds} rounds)")


if __name__ == "__main__":
    main()
