"""How a conversation becomes the text a model reads. Knows roles and templates; knows nothing of tokens.

A model's own template is rendered in a process of its own (render_template.py), which is kept for the next chat: it
takes about 0.1 s to start and 1 ms to answer.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from studio.core.recipes import Message

RENDER_SECONDS = 2.0
START_SECONDS = 15.0  # a busy machine; Jinja is imported in this time

_ABOUT = "A conversation between a user and a helpful assistant. The assistant gives short, correct answers."
# Neutral, of several kinds (a fact, a number, a list, a sentence), and none that a person is likely to ask.
_EXAMPLES = (
    ("What is the capital of Italy?", "The capital of Italy is Rome."),
    ("How many days are there in a week?", "There are seven days in a week."),
    ("Name three kinds of fruit.", "Three kinds of fruit are apples, pears and cherries."),
    ("Write a sentence about the sea.", "The sea lay calm and silver under the morning sun."),
)
_NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}
_STOPS = ("\nUser:", "\nAssistant:", "\nSystem:")


class TemplateFailed(Exception):
    """The model's template could not be rendered; the text says why, in one clause."""


class Laid(msgspec.Struct, frozen=True):
    """A conversation laid out as text that ends where the answer begins.

    Attributes:
        text: what the model reads. stops: where the answer ends. trim: white space around the answer is layout.
    """

    text: str
    stops: tuple[str, ...] = ()
    trim: bool = False


def few_shot(turns: tuple[Message, ...], system: str = "") -> Laid:
    """For base models, which only continue: a dialogue whose pattern they can pick up.

    The examples make way for real turns as soon as there is an answer among them; mixed with these, the model would
    take them for something the person said.
    """
    parts = [system.strip() or _ABOUT]
    if not any(turn.role == "assistant" for turn in turns):
        parts += [f"User: {asked}\nAssistant: {answered}" for asked, answered in _EXAMPLES]
    return Laid(_dialogue(parts, turns), _STOPS, True)


def plain(turns: tuple[Message, ...], system: str = "") -> Laid:
    """The turns with their role names and nothing else."""
    return Laid(_dialogue([system.strip()] if system.strip() else [], turns), _STOPS, True)


def _dialogue(parts: list[str], turns: tuple[Message, ...]) -> str:
    parts = parts + [f"{_NAMES[turn.role]}: {turn.content.strip()}" for turn in turns]
    return "\n\n".join(parts) + "\n\nAssistant:"


class Renderer:
    """Renders models' own templates, each within RENDER_SECONDS. One process, started when first needed or asked."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False

    def start(self) -> None:
        """Start the process and do not wait for it: it gets ready while a model loads."""
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        self._process = subprocess.Popen(
            _command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._ready = False

    def render(self, template: str, turns: list[dict[str, str]], bos: str = "", eos: str = "") -> str:
        """The text of `turns` up to where the assistant begins to speak.

        Raises:
            TemplateFailed: the template refuses these turns, is wrong, or needs too much time or memory.
        """
        variables: dict[str, Any] = {
            "messages": turns, "add_generation_prompt": True, "bos_token": bos, "eos_token": eos, "tools": None,
            "documents": None,
        }  # fmt: skip
        self.start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        if not self._ready and self._line(START_SECONDS) != b"ready\n":
            self.close()
            raise TemplateFailed("its reader did not start")
        self._ready = True
        try:
            process.stdin.write(json.dumps({"template": template, "variables": variables}).encode("ascii") + b"\n")
            process.stdin.flush()
        except OSError:
            self.close()
            raise TemplateFailed("its reader died") from None
        line = self._line(RENDER_SECONDS)
        if not line.endswith(b"\n"):
            self.close()
            raise TemplateFailed(f"it was not done within {RENDER_SECONDS:g} s or needed too much memory")
        answer = json.loads(line)
        if "text" not in answer:
            raise TemplateFailed(str(answer["error"]))
        return str(answer["text"])

    def _line(self, seconds: float) -> bytes:
        """The process's next line; cut off, or empty, if it had to be killed."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        clock = threading.Timer(seconds, process.kill)
        clock.daemon = True
        clock.start()
        try:
            return process.stdout.readline()
        finally:
            clock.cancel()

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was still buffered for a dead process
                    pipe.close()
        process.wait()


def _command() -> list[str]:
    if getattr(sys, "frozen", False):
        return [sys.executable, "--render-template"]
    # -I: neither the current folder nor PYTHON… variables decide what this process imports
    return [sys.executable, "-I", str(Path(__file__).with_name("render_template.py"))]


class ModelLayout(msgspec.Struct, frozen=True):
    """A conversation in the model's own layout, and what had to be done for it. `turns`: as the template got them."""

    text: str
    turns: list[dict[str, str]]
    notes: tuple[str, ...] = ()


def own_layout(
    renderer: Renderer, template: str, turns: tuple[Message, ...], system: str, bos: str, eos: str
) -> ModelLayout:
    """Render the model's own template; where it refuses instructions, they go into the first turn.

    Raises:
        TemplateFailed
    """
    said = [{"role": turn.role, "content": turn.content} for turn in turns]
    if not system.strip():
        return ModelLayout(renderer.render(template, said, bos, eos), said)
    with_system = [{"role": "system", "content": system}, *said]
    try:
        return ModelLayout(renderer.render(template, with_system, bos, eos), with_system)
    except TemplateFailed:
        if not said or said[0]["role"] != "user":
            raise
        folded = [{"role": "user", "content": f"{system}\n\n{said[0]['content']}"}, *said[1:]]
        text = renderer.render(template, folded, bos, eos)
        return ModelLayout(text, folded, ("the model has no place for instructions; they were put before the text",))


def parted(
    renderer: Renderer, template: str, turns: list[dict[str, str]], bos: str, eos: str
) -> list[tuple[str, bool]]:
    """The same layout in pieces: (text, is it what a person wrote).

    The template is rendered with a marker in the place of every content, so that what it adds and what a person wrote
    can be told apart whatever either says. What the template would do to a content (mostly trimming) is not done.

    Raises:
        TemplateFailed
    """
    # Letters and digits only: templates cut, split and search their messages by white space and punctuation.
    secret = secrets.token_hex(8)
    marked = [{**turn, "content": f"CONTENT{secret}N{i}E"} for i, turn in enumerate(turns)]
    rendered = renderer.render(template, marked, bos, eos)
    if not turns or f"{secret}N{len(turns) - 1}E" not in rendered:
        raise TemplateFailed("it changes what was said")
    pieces = re.split(f"CONTENT{secret}N([0-9]+)E", rendered)
    return [(turns[int(p)]["content"], True) if i % 2 else (p, False) for i, p in enumerate(pieces) if p]
