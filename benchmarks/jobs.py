"""Whole jobs beside the bare libraries: `python benchmarks/jobs.py` (see --help).

Ours is the time from `Session.submit` to the Finished event: queue, database, worker process, previews, saving with
fsync, sidecar, thumbnail. Bare is the same call of the same library with the same arguments in a process of its own,
timed inside that process, nothing saved. Both are warm and take turns in one run. Medians; the ratio is ours / bare.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.trainer import paused_trainer
from studio.app.session import Session
from studio.core.events import Finished, Piece, Token
from studio.core.paths import Paths

PROMPT = "a red apple, noto style"
STORY = "Once upon a time"
WORDS = (
    "The little red fox lived at the edge of the forest. Every evening it looked up at the moon. It wondered what was "
    "behind it. One night it packed a small bag, locked the door, and set out to see for itself."
)

# Runs in a process of its own: reads one JSON command a line, answers with the seconds it took.
BARE = r"""
import json, os, sys, tempfile, time
kind, path, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
out = os.fdopen(os.dup(1), "w"); os.dup2(2, 1)
if kind == "image":
    import torch
    from diffusers import DiffusionPipeline
    torch.set_num_threads(threads)
    pipe = DiffusionPipeline.from_pretrained(path, local_files_only=True, use_safetensors=True,
                                             dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    def work(c):
        pipe(prompt=c["prompt"], width=128, height=128, num_inference_steps=c["steps"], guidance_scale=4.0,
             guidance_rescale=0.7, generator=torch.Generator("cpu").manual_seed(c["seed"]))
        return 1
elif kind == "text":
    import xllamacpp as x
    P = x.CommonParams(); P.model.path = path; P.n_ctx = 4096; P.n_batch = P.n_ubatch = 128; P.n_parallel = 1
    P.warmup = P.fit_params = False; P.cpuparams.n_threads = P.cpuparams_batch.n_threads = threads
    P.cache_ram_mib = 0; P.hostnames = [tempfile.mkdtemp() + "/llama.sock"]; P.cors_origins = ""
    P.endpoint_slots = False
    server = x.Server(P)
    def work(c):
        n = [0]
        def heard(chunk):
            n[0] += 1
            return False
        server.handle_completions({"prompt": c["prompt"], "max_tokens": c["tokens"], "stream": True, "seed": c["seed"],
            "cache_prompt": False, "return_progress": True, "temperature": 0.8, "top_p": 0.95, "top_k": 40,
            "min_p": 0.05}, heard)
        return n[0]
else:
    import onnxruntime
    from piper import PiperVoice
    voice = PiperVoice.load(path)
    options = onnxruntime.SessionOptions(); options.intra_op_num_threads = threads
    voice.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    def work(c):
        return sum(len(chunk.audio_int16_bytes) for chunk in voice.synthesize(c["text"]))
for line in sys.stdin:
    began = time.perf_counter(); work(json.loads(line)); print(time.perf_counter() - began, file=out, flush=True)
"""


class Bare:
    def __init__(self, kind: str, path: str, threads: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", BARE, kind, path, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def time(self, **call: Any) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(call), file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate("")


def job(session: Session, kind: str, **given: Any) -> tuple[float, float]:
    """Seconds to the end, and to the first token or sentence."""
    first: list[float] = []
    stop = session.subscribe(lambda e: first.append(time.perf_counter()) if isinstance(e, (Token, Piece)) else None)
    began = time.perf_counter()
    end = session.wait(session.submit(session.recipe(kind, given).recipe).id)
    took = time.perf_counter() - began
    stop()
    assert isinstance(end, Finished), end
    return took, (first[0] - began if first else took)


def row(name: str, bare: list[float], ours: list[float]) -> None:
    a, b = statistics.median(bare), statistics.median(ours)
    print(f"{name:34} {a:9.3f} {b:9.3f} {b / a:7.3f} {(b - a) * 1000:+9.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150, help="of the long picture")
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--only", default="text,image,speech")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, paused_trainer(), Session(Paths(Path(folder) / "home")) as session:
        threads = 2
        session.change_settings(threads=threads)
        print(f"{'':34} {'bare, s':>9} {'ours, s':>9} {'ratio':>7} {'extra, ms':>9}")
        for kind in given.only.split(","):
            session.warm(kind)
            card = session.model(kind)
            calls: list[tuple[str, dict[str, Any], dict[str, Any], int]]
            if kind == "text":
                calls = [
                    (
                        f"text, {given.tokens} tokens",
                        {"prompt": STORY, "tokens": given.tokens, "seed": 1},
                        {"prompt": STORY, "max_tokens": given.tokens, "seed": 1},
                        given.rounds,
                    )
                ]
            elif kind == "image":
                calls = [
                    (
                        f"picture, {steps} steps, previews on",
                        {"prompt": PROMPT, "steps": steps, "seed": 1},
                        {"prompt": PROMPT, "steps": steps, "seed": 1},
                        rounds,
                    )
                    for steps, rounds in ((25, given.rounds), (given.steps, max(3, given.rounds // 2)))
                ]
            else:
                calls = [
                    ("speech, four sentences", {"text": WORDS}, {"text": WORDS, "pause": 0.0, "seed": 1}, given.rounds)
                ]
            job(session, kind, **{**calls[0][2], **({"max_tokens": 4} if kind == "text" else {})})  # warm
            bare = Bare(kind, card.path, threads)
            bare.time(**calls[0][1])
            for name, plain, mine, rounds in calls:
                times: tuple[list[float], list[float], list[float]] = ([], [], [])
                for turn in range(rounds):
                    for which in (0, 1) if turn % 2 == 0 else (1, 0):
                        if which == 0:
                            times[0].append(bare.time(**plain))
                        else:
                            took, first = job(session, kind, **mine)
                            times[1].append(took)
                            times[2].append(first)
                row(name, times[0], times[1])
                if kind != "image":
                    what = "token" if kind == "text" else "sound"
                    print(f"{'  first ' + what:34} {'':9} {statistics.median(times[2]):9.3f}")
            bare.close()
            session.unload(kind)


if __name__ == "__main__":
    main()
