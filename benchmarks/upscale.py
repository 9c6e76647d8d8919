"""What the upscaling engine adds to bare spandrel: `python benchmarks/upscale.py` (see --help). Prints JSON.

Both enlarge the same noisy picture by 4, with random weights of the same architecture: RRDBNet, tiny and in the size of
real ones (64 filters, 23 blocks). The engine runs warm, and also opens the picture and saves its files; bare spandrel
gets a tensor that is ready and hands one back. A third run does the same in tiles of 256 px. Wall and processor time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from studio.core.cards import ModelCard
from studio.core.plans import Plan
from studio.core.recipes import UpscaleRecipe
from studio.engines.context import RunContext
from studio.engines.image.upscaling import Upscaling, load_spandrel

SIZES = {"tiny": (16, 2), "real": (64, 23)}  # name -> filters, blocks


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=512, help="of the picture, px")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--networks", nargs="+", choices=sorted(SIZES), default=["tiny", "real"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {name: measure(name, given, Path(folder)) for name in given.networks}
    print(json.dumps({"side": given.side, "threads": given.threads, "networks": found}, indent=1))


def measure(name: str, given: Any, folder: Path) -> dict[str, Any]:
    import numpy as np
    import torch
    from PIL import Image

    torch.set_num_threads(given.threads)
    file = weights(name, folder)
    for part in ("inputs", "out"):
        (folder / part).mkdir(exist_ok=True)
    noise = np.random.default_rng(1).integers(0, 256, (given.side, given.side, 3), np.uint8)
    Image.fromarray(noise).save(folder / "inputs" / "in.png")
    ctx = RunContext("bench", folder / "out", folder, lambda event: None, inputs=folder / "inputs")
    card = ModelCard(
        id=name, name=name, kind="upscale", engine="image.upscale", path=str(file), format="safetensors"
    )  # fmt: skip
    engine = Upscaling()
    engine.load(card, Plan(device="cpu", threads=given.threads), ctx)
    model = load_spandrel().ModelLoader(device="cpu").load_from_file(file)
    tensor = torch.from_numpy(noise).permute(2, 0, 1).unsqueeze(0).float() / 255

    def bare() -> bytes:
        out = model(tensor)[0].permute(1, 2, 0)
        return bytes((out * 255).round().to(torch.uint8).numpy().tobytes())

    def ours(tile: int) -> bytes:
        engine.run(UpscaleRecipe(image="in.png", model=name, factor=4.0, tile=tile), ctx)
        with Image.open(folder / "out" / "0.png") as made:
            return made.tobytes()

    whole = given.side if given.side <= 4096 else 0
    ways: dict[str, Callable[[], bytes]] = {
        "bare": bare, "engine, one piece": lambda: ours(whole), "engine, tiles of 256": lambda: ours(256),
    }  # fmt: skip
    took: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    made: dict[str, bytes] = {}
    for turn in range(given.rounds):
        for way, run in ways.items() if turn % 2 == 0 else reversed(ways.items()):
            began, worked = time.perf_counter(), time.process_time()
            made[way] = run()
            took[way].append((time.perf_counter() - began, time.process_time() - worked))
    assert made["bare"] == made["engine, one piece"], "the engine's picture differs from bare spandrel's"
    one, tiled = (np.frombuffer(made[way], np.uint8).astype(int) for way in ("bare", "engine, tiles of 256"))
    engine._upscaler._measure()  # type: ignore[union-attr]
    figures: dict[str, Any] = {
        way: {"wall, s": round(min(w for w, _ in times), 2), "processor, s": round(min(p for _, p in times), 2)}
        for way, times in took.items()
    }
    return figures | {
        "largest difference in tiles, of 255": int(np.abs(one - tiled).max()),
        "estimated bytes per pixel of a tile": round(engine._upscaler._per_pixel),  # type: ignore[union-attr]
        "most memory so far, MB": round(peak() / 1e6),
    }


def weights(name: str, folder: Path) -> Path:
    load_spandrel()
    import torch
    from safetensors.torch import save_file
    from spandrel.architectures.ESRGAN import ESRGAN  # type: ignore[import-not-found]

    filters, blocks = SIZES[name]
    torch.manual_seed(1)
    model = ESRGAN(num_filters=filters, num_blocks=blocks, scale=4)
    file = folder / f"{name}.safetensors"
    save_file({key: value.clone().contiguous() for key, value in model.state_dict().items()}, file)
    return file


def peak() -> int:
    """The most memory this process ever held, bytes; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
