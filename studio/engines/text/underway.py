"""A text under way, whichever library writes it: how its prompt is laid out, what is sent of it, and what is kept.

Knows recipes, pieces of text and counts of tokens; knows no library and no model. Each engine hears of its own tokens
and tells them here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from studio.core.problems import BadRecipe, ModelUnfit
from studio.core.recipes import Message, TextRecipe
from studio.core.works import Artifact
from studio.engines.context import RunContext
from studio.engines.text import page
from studio.engines.text.stream import Stream
from studio.engines.text.templates import Laid, TemplateFailed, few_shot, plain

USUAL_WINDOW = 4096  # tokens, when nobody says otherwise
ANSWER_ROOM = 4096  # tokens kept for the answer when a window has to grow; more would cost memory for a maybe
# Pieces that come faster are sent together: nobody reads faster, and every event takes time from the threads that
# compute. On 2 cores an event per token cost 5 % of the speed.
TOKEN_SECONDS = 0.05
PROGRESS_SECONDS = 0.25
READING, WRITING = "reading the prompt", "writing"


# -- the prompt


def laid_out(
    recipe: TextRecipe,
    ctx: RunContext,
    own: bool,
    chat: Callable[[tuple[Message, ...]], list[int]],
    read: Callable[[str], list[int]],
) -> tuple[list[int], tuple[str, ...], bool]:
    """The prompt as tokens, where to stop, and whether white space around the answer is only layout.

    Args:
        own: the model has a chat template of its own. chat: turns laid out by it, as tokens; may raise TemplateFailed.
        read: a text as tokens, in which nothing counts as a control token: what a person writes is text, and
            “<end_of_turn>” must not end a turn.

    Raises:
        ModelUnfit: the recipe wants a template that the model does not have.
    """
    if recipe.mode == "complete":
        return read(recipe.prompt), recipe.stop, False
    turns = (*recipe.messages, Message("user", recipe.prompt))
    choice = recipe.template
    if choice == "auto":
        choice = "model" if own else "few-shot"
    if choice == "model":
        if not own:
            raise ModelUnfit(
                "This model has no chat template of its own.", "Set Template to auto or few-shot.", field="template"
            )
        try:
            return chat(turns), recipe.stop, False
        except TemplateFailed as error:
            ctx.note(f"The model's own chat template cannot be used: {error}. A plain one was taken.")
    laid: Laid = few_shot(turns, recipe.system) if choice == "few-shot" else plain(turns, recipe.system)
    return read(laid.text), (*laid.stops, *recipe.stop), laid.trim


def beyond_model(count: int, longest: int) -> BadRecipe:
    """The sentence for a prompt of `count` tokens and a model made for `longest`."""
    return BadRecipe(
        f"The prompt has {count:,} tokens, and the model takes {longest:,} with the answer.",
        f"Shorten it by about {100 - 100 * longest // (count + 1)} %, or take a model with a longer context.",
        field="prompt",
    )


def beyond_window(count: int, window: int, longest: int) -> BadRecipe:
    """The sentence for a prompt of `count` tokens and a window that the recipe set itself. longest: 0 is unknown."""
    return BadRecipe(
        f"The prompt has {count:,} tokens, and the context window is set to {window:,}.",
        f"Shorten the prompt, or set Context to 0 or to more{f' (up to {longest:,})' if longest else ''}.",
        field="context",
    )


def note_shorter(ctx: RunContext, asked: int, longest: int) -> None:
    """Tell that a window of `asked` tokens is more than the model was made for. longest: 0 is unknown."""
    if asked > longest > 0:
        ctx.note(f"The model was made for {longest:,} tokens, so the context window is no longer than that.")


# -- the text


class Underway:
    """One text on its way, kept and sent piece by piece.

    Args:
        index: the text's place among those of the recipe. prompt_tokens: how many the prompt has.
        stops, trim: see Stream.

    Attributes:
        tokens: written so far. finish: why the text ended, "stop" or "length"; empty while it goes on.
    """

    def __init__(
        self, ctx: RunContext, recipe: TextRecipe, index: int, prompt_tokens: int, stops: tuple[str, ...], trim: bool
    ) -> None:
        self._ctx = ctx
        self._recipe = recipe
        self._index = index
        self._prompt_tokens = prompt_tokens
        self._stream = Stream(stops, trim)
        self._text: list[str] = []
        self._unsent = ""
        self._sent_at = 0.0
        self._told_at = 0.0
        self._began = self._began_writing = 0.0
        self.tokens = 0
        self.finish = ""

    def begin(self) -> None:
        """The model is asked from here on."""
        self._began = self._began_writing = time.monotonic()

    def reading(self, read: int) -> None:
        """So many tokens of the prompt were read."""
        self._progress(read - self._prompt_tokens, READING)

    def begin_writing(self) -> None:
        """What came before does not count for the speed of writing."""
        self._began_writing = time.monotonic()

    def is_time_to_tell(self) -> bool:
        """Whether progress was last told long enough ago; asking counts as telling."""
        now = time.monotonic()
        if now - self._told_at < PROGRESS_SECONDS:
            return False
        self._told_at = now
        return True

    def feed(self, piece: str) -> bool:
        """The model wrote another piece. Returns whether a stop string ended the text."""
        self._add(self._stream.feed(piece))
        if self._stream.stopped:
            self.finish = "stop"
        return self._stream.stopped

    def tell(self) -> None:
        """Send what was written and how far it is: the first piece at once, others as fast as they can be read."""
        if self._unsent and time.monotonic() - self._sent_at >= TOKEN_SECONDS:
            self._send()
        if self.is_time_to_tell():
            self._progress(self.tokens, WRITING)

    def ended(self, seed: int, window: int, rest: str = "") -> tuple[Artifact, ...]:
        """Save the whole text, and a small picture of it.

        Args:
            window: of tokens, that the text was written in. rest: what the engine still held back of it.

        Raises:
            OSError: it could not be saved.
        """
        if not self._stream.stopped:
            self._add(self._stream.feed(rest))
            self._add(self._stream.finish())
        self._send()
        ended = time.monotonic()
        self._progress(self._recipe.max_tokens, WRITING)
        text = "".join(self._text)
        self._remark(window, text)
        meta = {
            "tokens": self.tokens,
            "prompt_tokens": self._prompt_tokens,
            "finish": self.finish,
            "tokens_per_second": round(self.tokens / max(ended - self._began_writing, 1e-3), 2),
            "words": len(text.split()),
        }
        return self._save(text, seed, ended - self._began, meta), self._thumbnail(text)

    def cancelled(self, seed: int) -> None:
        """What was written before a cancel is kept, marked as a part."""
        seconds = time.monotonic() - self._began
        self._send()
        text = "".join(self._text)
        if text.strip():
            meta = {
                "tokens": self.tokens,
                "prompt_tokens": self._prompt_tokens,
                "finish": "cancelled",
                "words": len(text.split()),
            }
            self._save(text, seed, seconds, meta, complete=False)
            self._thumbnail(text)

    def _save(self, text: str, seed: int, seconds: float, meta: dict[str, Any], *, complete: bool = True) -> Artifact:
        return self._ctx.save(
            f"{self._index}.txt", text.encode("utf-8", "replace"), index=self._index, seed=seed,
            seconds=round(seconds, 3), meta=meta, complete=complete,
        )  # fmt: skip

    def _thumbnail(self, text: str) -> Artifact:
        return self._ctx.save(f"{self._index}.thumb.webp", page.picture(text), role="thumbnail", index=self._index)

    def _remark(self, window: int, text: str) -> None:
        written, asked = self.tokens, self._recipe.max_tokens
        if self.finish == "length" and written < asked:
            self._ctx.note(
                f"The context window of {window:,} tokens was full after {written:,} of {asked:,} tokens; "
                "a longer Context lets the text go on."
            )
        if not text:
            self._ctx.note("The model ended the text before its first word; another seed may help.")

    def _add(self, text: str) -> None:
        if text:
            self._text.append(text)
            self._unsent += text

    def _send(self) -> None:
        if self._unsent:
            self._ctx.token(self._index, self._unsent)
            self._unsent = ""
            self._sent_at = time.monotonic()

    def _progress(self, written: int, phase: str) -> None:
        """Tokens read and written of all that may be, over all texts; `written` is below 0 while the prompt is read."""
        each = self._prompt_tokens + self._recipe.max_tokens
        done = self._index * each + self._prompt_tokens + written
        self._ctx.progress(done, self._recipe.n * each, "tokens", phase)
