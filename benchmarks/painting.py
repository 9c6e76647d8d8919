"""What changes cost between two pictures: `python benchmarks/painting.py` (see --help).

Plain diffusers and the engine paint with the same model in this process, turn by turn, the order changing every round:
the same prompt again, another prompt, another LoRA, another scheduler, and eight seeds one after another or, where that
is chosen, at once. The same changes are made by hand to the plain pipeline. Then what previews add. Each pair gives one
ratio; the median of the ratios counts, for a neighbour who is busy slows both halves of a pair alike.

The model is the starter, or (--model large) one of random weights whose UNet has Stable Diffusion 1.5's layers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.trainer import paused_trainer
from studio.core.cards import Limits, ModelCard
from studio.core.paths import assets_folder
from studio.core.plans import Plan
from studio.core.recipes import ImageRecipe, Lora
from studio.engines.context import RunContext
from studio.engines.image.diffusion import Diffusion

STARTER = assets_folder() / "models" / "starter-image"
PROMPTS = [
    f"{colour} {thing}, flat style" for colour in ("red", "blue", "green") for thing in ("apple", "house", "cat")
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", choices=("starter", "large"), default="starter")
    parser.add_argument("--side", type=int, default=128, help="of the pictures, px")
    parser.add_argument("--cases", nargs="+", help="only those whose names hold one of these words")
    given = parser.parse_args()
    with contextlib.suppress(OSError, AttributeError):
        os.nice(-5)  # only an administrator may
    with paused_trainer(), tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measured(given, Path(folder)), indent=2))


def measured(given: Any, folder: Path) -> dict[str, Any]:
    import torch
    from diffusers import DiffusionPipeline, EulerDiscreteScheduler

    model = STARTER if given.model == "starter" else save_large(folder / "large")
    loras = [save_lora(model, folder, seed) for seed in (1, 2)]
    cards = {file.stem: card("lora", file) for file in loras}
    out = folder / "out"
    out.mkdir()

    def ctx() -> RunContext:
        return RunContext("bench", out, folder / "cache", lambda event: None, cards=cards)

    engine = Diffusion()
    starter = card("image", model)
    quiet = Plan(device="cpu", threads=given.threads, preview_every=0)
    engine.load(starter, quiet, ctx())
    pipe = DiffusionPipeline.from_pretrained(
        str(model), local_files_only=True, dtype=torch.float32, safety_checker=None
    )
    pipe.set_progress_bar_config(disable=True)
    own = pipe.scheduler
    for number, file in enumerate(loras):
        pipe.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=f"n{number}")
    pipe.disable_lora()

    def plain(prompt: str = PROMPTS[0], seed: int = 1, count: int = 1) -> None:
        generators = [torch.Generator("cpu").manual_seed(seed + at) for at in range(count)]
        pipe(
            prompt=prompt, num_inference_steps=given.steps, guidance_scale=4.0, guidance_rescale=0.7,
            generator=generators if count > 1 else generators[0], num_images_per_prompt=count,
            width=given.side, height=given.side,
        )  # fmt: skip

    def ours(**values: Any) -> None:
        base = {
            "prompt": PROMPTS[0], "seed": 1, "steps": given.steps, "guidance": 4.0, "guidance_rescale": 0.7,
            "width": given.side, "height": given.side,
        }  # fmt: skip
        engine.run(ImageRecipe(**base | values), ctx())

    turn = {"at": 0}

    def next_turn() -> int:
        turn["at"] += 1
        return turn["at"]

    def plain_lora() -> None:
        pipe.enable_lora()
        pipe.set_adapters([f"n{next_turn() % 2}"], [0.7])
        plain()
        pipe.disable_lora()

    def plain_scheduler() -> None:
        pipe.scheduler = EulerDiscreteScheduler.from_config(own.config) if next_turn() % 2 else own
        plain()
        pipe.scheduler = own

    def eight() -> None:
        for at in range(8):
            plain(seed=1 + at)

    names = [file.stem for file in loras]
    cases: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "the same again": (plain, ours),
        "another prompt": (
            lambda: plain(PROMPTS[next_turn() % len(PROMPTS)]),
            lambda: ours(prompt=PROMPTS[next_turn() % len(PROMPTS)]),
        ),
        "another LoRA": (plain_lora, lambda: ours(loras=(Lora(names[next_turn() % 2], 0.7),))),
        "another scheduler": (plain_scheduler, lambda: ours(scheduler=("model", "euler")[next_turn() % 2])),
        "eight seeds in turn": (eight, lambda: ours(count=8)),
        "eight seeds at once": (lambda: plain(count=8), lambda: ours(count=8, at_once=8)),
    }
    # previews: the same engine with and without
    shown = Plan(device="cpu", threads=given.threads, preview_every=4)

    def previewed() -> None:
        engine.load(starter, shown, ctx())
        ours()

    def unseen() -> None:
        engine.load(starter, quiet, ctx())
        ours()

    cases["previews every 4 steps"] = (unseen, previewed)
    found: dict[str, Any] = {
        "model": given.model, "side": given.side, "steps": given.steps, "threads": given.threads,
    }  # fmt: skip
    for name, (bare, own_way) in cases.items():
        if not given.cases or any(word in name for word in given.cases):
            found[name] = beside(bare, own_way, given.rounds)
    return found


def beside(bare: Callable[[], Any], ours: Callable[[], Any], rounds: int) -> dict[str, float]:
    """Median seconds of both, in turns, and the medians of the ratios of each pair."""
    bare(), ours()
    wall: dict[str, list[float]] = {"bare": [], "ours": []}
    work: dict[str, list[float]] = {"bare": [], "ours": []}
    for turn in range(rounds):
        pair = [("bare", bare), ("ours", ours)]
        for name, does in pair if turn % 2 == 0 else reversed(pair):
            began, worked = time.perf_counter(), time.process_time()
            does()
            wall[name].append(time.perf_counter() - began)
            work[name].append(time.process_time() - worked)

    def ratio(times: dict[str, list[float]]) -> float:
        return round(statistics.median(b / a for a, b in zip(times["bare"], times["ours"], strict=True)), 3)

    return {
        "bare_s": round(statistics.median(wall["bare"]), 3), "ours_s": round(statistics.median(wall["ours"]), 3),
        "ratio": ratio(wall),
        "bare_cpu_s": round(statistics.median(work["bare"]), 3),
        "ours_cpu_s": round(statistics.median(work["ours"]), 3), "ratio_cpu": ratio(work),
    }  # fmt: skip


def card(kind: str, path: Path) -> ModelCard:
    return ModelCard(
        id=path.stem, name=path.stem, kind=kind, engine="image.diffusers", path=str(path), format="diffusers",
        limits=Limits(width=128, height=128, size_multiple=8),
    )  # fmt: skip


def save_large(folder: Path) -> Path:
    """A model with the UNet of Stable Diffusion 1.5 (860 million random numbers), and the starter's other parts."""
    import torch
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    torch.manual_seed(1)
    pipe = StableDiffusionPipeline.from_pretrained(str(STARTER), local_files_only=True)
    unet = UNet2DConditionModel(
        in_channels=pipe.unet.config.in_channels, out_channels=pipe.unet.config.out_channels,
        cross_attention_dim=pipe.unet.config.cross_attention_dim, sample_size=64,
    )  # fmt: skip
    pipe.register_modules(unet=unet)
    pipe.save_pretrained(folder)
    return folder


def save_lora(model: Path, folder: Path, seed: int) -> Path:
    """A random LoRA of rank 8 for a model."""
    import torch
    from diffusers import StableDiffusionPipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(seed)
    pipe = StableDiffusionPipeline.from_pretrained(str(model), local_files_only=True)
    targets = ["to_k", "to_q", "to_v", "to_out.0"]
    pipe.unet.add_adapter(LoraConfig(r=8, lora_alpha=8, init_lora_weights=False, target_modules=targets))
    StableDiffusionPipeline.save_lora_weights(
        str(folder), unet_lora_layers=get_peft_model_state_dict(pipe.unet), weight_name=f"lora{seed}.safetensors"
    )
    return folder / f"lora{seed}.safetensors"


if __name__ == "__main__":
    main()
