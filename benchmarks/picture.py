"""What the picture engine adds to plain diffusers: `python benchmarks/picture.py` (see --help).

Both paint the same picture with the starter in this process, turn by turn; the order changes every round, so that a
machine that gets busier or warmer does not favour one. The engine runs warm, with a preview at every step, and saves
its files; plain diffusers hands back a picture in memory. Medians and minima of wall time, and the median of processor
time, which other programs disturb least.
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

from studio.core.cards import Limits, ModelCard
from studio.core.events import Event, Preview
from studio.core.paths import assets_folder
from studio.core.plans import Plan
from studio.core.recipes import ImageRecipe
from studio.engines.context import RunContext
from studio.engines.image.diffusion import Diffusion

STARTER = assets_folder() / "models" / "starter-image"
PROMPT = "a red apple, noto style"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=150, help="of the long run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(given, Path(folder))


def measure(given: Any, folder: Path) -> None:
    events: list[Event] = []
    (folder / "out").mkdir()
    ctx = RunContext("bench", folder / "out", folder / "cache", events.append)
    card = ModelCard(
        id="starter", name="Starter", kind="image", engine="image.diffusers", path=str(STARTER), format="diffusers",
        limits=Limits(width=128, height=128, size_multiple=8),
    )  # fmt: skip
    engine = Diffusion()
    began = time.perf_counter()
    engine.load(card, Plan(device="cpu", threads=given.threads, preview_every=1), ctx)
    print(f"load, with imports  {time.perf_counter() - began:6.2f} s")

    import torch
    from diffusers import DiffusionPipeline

    from studio.engines.image import previews

    vae = engine._pipe.vae
    began = time.perf_counter()
    colours = previews.fit(vae)
    print(f"fit of the map      {time.perf_counter() - began:6.2f} s, once per autoencoder")
    previews.cached_fit(vae, ctx.cache_dir)
    began = time.perf_counter()
    previews.cached_fit(vae, ctx.cache_dir)
    print(f"map from the cache  {(time.perf_counter() - began) * 1000:6.2f} ms")

    pipe = DiffusionPipeline.from_pretrained(str(STARTER), local_files_only=True, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)

    def bare(steps: int) -> bytes:
        return pipe(
            prompt=PROMPT, width=128, height=128, num_inference_steps=steps, guidance_scale=4.0, guidance_rescale=0.7,
            generator=torch.Generator("cpu").manual_seed(1),
        ).images[0].tobytes()  # fmt: skip

    def ours(steps: int) -> bytes:
        recipe = ImageRecipe(prompt=PROMPT, seed=1, steps=steps, guidance=4.0, guidance_rescale=0.7)
        engine.run(recipe, ctx)
        from PIL import Image

        with Image.open(folder / "out" / "0.png") as image:
            return image.tobytes()

    shower = previews.Previewer(engine._pipe, colours, 128, 128)
    latents = torch.randn((1, 8, 16, 16))
    print(f"one preview         {timed_each(lambda: shower.jpeg(latents), 200) * 1000:6.2f} ms (median of 200)")

    print(f"\n{'steps':>6} {'plain, s':>10} {'engine, s':>10} {'ratio':>7} {'extra, ms':>10}")
    for steps, rounds in ((25, given.rounds * 2), (given.steps, given.rounds)):
        assert bare(steps) == ours(steps), "the engine's picture differs from plain diffusers'"
        times: dict[str, list[float]] = {"plain": [], "engine": []}
        work: dict[str, list[float]] = {"plain": [], "engine": []}
        for turn in range(rounds):
            pair = [("plain", bare), ("engine", ours)]
            for name, paint in pair if turn % 2 == 0 else reversed(pair):
                began, worked = time.perf_counter(), time.process_time()
                paint(steps)
                times[name].append(time.perf_counter() - began)
                work[name].append(time.process_time() - worked)
        for kind, of, taken in (
            ("wall, median", statistics.median, times),
            ("wall, minimum", min, times),
            ("processor, median", statistics.median, work),
        ):
            a, b = of(taken["plain"]), of(taken["engine"])
            print(f"{steps:>6} {a:>10.3f} {b:>10.3f} {b / a:>7.3f} {(b - a) * 1000:>10.1f}   {kind}")
    shown = sum(isinstance(e, Preview) for e in events)
    print(f"\n{shown} previews, {given.threads} threads, same pixels in all runs")
    print_unload(engine)


def timed_each(call: Any, times: int) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def print_unload(engine: Diffusion) -> None:
    before = resident()
    engine.unload()
    if before:
        after = resident()
        print(f"unload: {before / 1e6:.0f} MB resident before, {after / 1e6:.0f} MB after (the plain pipeline stays)")


def resident() -> int:
    """Bytes this process holds in memory; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


if __name__ == "__main__":
    main()
