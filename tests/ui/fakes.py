"""A worker program whose three engines do as the prompt says, quickly and without a model.

A prompt is a script of words: `slow` takes 50 ms between steps, `hold` goes on until cancelled, `deaf` does not hear a
cancel for five seconds, `fail` fails, `field` fails with a problem of the field "seed", `die` ends the process, `half`
keeps a part when it is cancelled. Everything else is only words.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import time
import wave
import zlib
from typing import Any

from studio.core.problems import BadRecipe, OutOfMemory
from studio.core.recipes import MadeWith, words_of
from studio.core.works import Result
from studio.engines import ENGINES
from studio.engines.context import JobCancelled, RunContext

COMMAND = [sys.executable, "-m", "tests.ui.fakes"]
RATE = 8000  # Hz

# 2×2 px, blue; the smallest JPEG there is use for
JPEG = bytes.fromhex(
    "ffd8ffe000104a46494600010100000100010000ffdb004300080606070605080707070909080a0c140d0c0b0b0c1912130f141d1a1f1e1d1a"
    "1c1c20242e2720222c231c1c2837292c30313434341f27393d38323c2e333432ffc0000b080002000201011100ffc4001f000001050101"
    "0101010100000000000000000102030405060708090a0bffc400b5100002010303020403050504040000017d01020300041105122131410613"
    "516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a434445464748494a535455565758"
    "595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6"
    "c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9faffda0008010100003f00fbd3ffd9"
)


def png(width: int, height: int, colour: tuple[int, int, int]) -> bytes:
    """A picture of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes(colour) * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def wav(seconds: float) -> bytes:
    """A tone."""
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        frames = (int(8000 * ((i % 40) / 20 - 1)) for i in range(int(seconds * RATE)))
        sound.writeframes(b"".join(struct.pack("<h", f) for f in frames))
    return out.getvalue()


class Fake:
    kind = ""

    def __init__(self) -> None:
        self.card: Any = None

    def load(self, card: Any, plan: Any, ctx: RunContext) -> None:
        self.card = card

    def unload(self) -> None:
        self.card = None

    def made_with(self) -> MadeWith:
        return MadeWith(engine=f"{self.kind}.fake", threads=1, versions={"fake": "1"})

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def pace(self, words: set[str], ctx: RunContext) -> None:
        """Between two steps."""
        ctx.check()
        if "slow" in words:
            time.sleep(0.05)
        if "deaf" in words:
            time.sleep(60)
        while "hold" in words:
            ctx.check()
            time.sleep(0.01)

    def begin(self, recipe: Any) -> set[str]:
        words = set(words_of(recipe).lower().split())
        if "fail" in words:
            raise OutOfMemory("It needs 9 GB.", "Try less.")
        if "field" in words:
            raise BadRecipe("The seed is unlucky.", "Take another.", field="seed")
        if "die" in words:
            os._exit(3)
        return words


class FakeText(Fake):
    kind = "text"

    def run(self, recipe: Any, ctx: RunContext) -> Result:
        words = self.begin(recipe)
        made = []
        for index in range(recipe.n):
            text = ""
            count = min(recipe.max_tokens, 12)
            try:
                for token in range(count):
                    piece = f"{'answer' if token == 0 else 'word'}{index}.{token} "
                    text += piece
                    ctx.token(index, piece)
                    ctx.progress(index * count + token + 1, recipe.n * count, "tokens", "writing")
                    self.pace(words, ctx)
            except JobCancelled:
                if "half" in words:
                    ctx.save(
                        f"{index}.txt", text.encode(), index=index, seed=recipe.seed, complete=False, meta={"words": 1}
                    )
                raise
            meta = {"tokens": count, "words": count, "finish": "length"}
            made.append(ctx.save(f"{index}.txt", text.encode(), index=index, seed=recipe.seed + index, meta=meta))
        return Result(artifacts=tuple(made), made_with=self.made_with())


class FakeImage(Fake):
    kind = "image"

    def run(self, recipe: Any, ctx: RunContext) -> Result:
        words = self.begin(recipe)
        made = []
        width, height = recipe.width or 64, recipe.height or 64
        for index in range(recipe.count):
            for step in range(recipe.steps):
                ctx.preview(index, step + 1, JPEG)
                ctx.progress(index * recipe.steps + step + 1, recipe.count * recipe.steps, "steps", "painting")
                self.pace(words, ctx)
            shade = (40 + 60 * index) % 256
            data = png(width, height, (200, shade, 40))
            about = {"index": index, "seed": recipe.seed + index}
            made.append(ctx.save(f"{index}.png", data, meta={"width": width, "height": height}, **about))
            made.append(ctx.save(f"{index}.thumb.png", data, role="thumbnail", **about))
        return Result(artifacts=tuple(made), made_with=self.made_with())


class FakeSpeech(Fake):
    kind = "speech"

    def run(self, recipe: Any, ctx: RunContext) -> Result:
        words = self.begin(recipe)
        sentences, start, sound = [], 0.0, b""
        parts = [p.strip() + "." for p in recipe.text.split(".") if p.strip()] or [recipe.text]
        for index, part in enumerate(parts):
            piece = ctx.out_dir / f"piece-{index}.wav"
            piece.write_bytes(wav(0.5))
            sound += wav(0.5)[44:]
            sentences.append({"start": start, "seconds": 0.5, "text": part})
            ctx.piece(index, piece, start, 0.5, part)
            start += 0.5
            ctx.progress(index + 1, len(parts), "characters", "speaking")
            self.pace(words, ctx)
        whole = wav(0.5 * len(parts))
        meta = {"seconds": 0.5 * len(parts), "sample_rate": RATE, "sentences": sentences}
        made = ctx.save("0.wav", whole, seed=recipe.seed, meta=meta)
        return Result(artifacts=(made,), made_with=self.made_with())


if __name__ == "__main__":
    from studio.runtime.worker import main

    for kind, name in (("text", "FakeText"), ("image", "FakeImage"), ("speech", "FakeSpeech")):
        ENGINES[f"{kind}.fake"] = f"tests.ui.fakes:{name}"
    from tests.ui.fakes_learn import NAMES

    ENGINES.update({engine: f"tests.ui.fakes_learn:{name}" for engine, name in NAMES.items()})
    raise SystemExit(main())
