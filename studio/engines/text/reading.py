"""Texts to tokens and back, with a tokenizer of transformers. Knows tokens and templates; knows nothing of weights."""

from __future__ import annotations

from typing import Any

from studio.core.recipes import Message
from studio.engines.context import RunContext
from studio.engines.text.templates import Renderer, TemplateFailed, own_layout, parted

BEFORE = 6  # tokens before a new one that decide how it is written: white space, letters of several tokens
_NOT_YET = "\ufffd"  # the beginning of a letter whose other bytes are in the next tokens


class Reader:
    """A model's tokenizer.

    Attributes:
        template: its own chat template, or "".
        ends: tokens that end a text. turn_end: the one that ends an answer in the layout last made; None for none.
        begin, pad: tokens, or None.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        template = tokenizer.chat_template
        if isinstance(template, dict):  # several, by name
            template = template.get("default", "")
        self.template = template if isinstance(template, str) else ""
        self._bos, self._eos = str(tokenizer.bos_token or ""), str(tokenizer.eos_token or "")
        self.begin: int | None = tokenizer.bos_token_id
        self.ends: list[int] = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
        self.pad: int | None = tokenizer.pad_token_id
        self.turn_end: int | None = None
        self._renderer = Renderer()
        self._specials = frozenset(tokenizer.all_special_ids)

    def settle(self, model: Any) -> None:
        """Learn from a loaded model where its texts end, and take its folder's other habits away from it."""
        from transformers import GenerationConfig

        said = model.generation_config.eos_token_id if model.generation_config is not None else None
        said = model.config.get_text_config(decoder=True).eos_token_id if said is None else said
        given = said if isinstance(said, (list, tuple)) else [said]
        self.ends = sorted({*self.ends, *(each for each in given if isinstance(each, int) and each >= 0)})
        if self.pad is None:
            self.pad = self.ends[0] if self.ends else 0
        model.generation_config = GenerationConfig(
            bos_token_id=self.begin, eos_token_id=self.ends or None, pad_token_id=self.pad
        )

    def tokens(self, text: str, *, whole: bool, special: bool = False) -> list[int]:
        """The numbers a text is read as.

        Args:
            whole: with what the model wants before every text, mostly one token that marks its beginning.
            special: read “<end_of_turn>” and the like as control tokens; False reads them as letters.
        """
        text = text.encode("utf-8", "replace").decode()
        ids = self._tokenizer.encode(text, add_special_tokens=whole, split_special_tokens=not special)
        ids = [int(each) for each in ids]
        # some tokenizers also mark the end, and after that there is nothing to go on from
        while whole and len(ids) > 1 and ids[-1] in self.ends:
            ids.pop()
        return ids

    def text(self, ids: list[int]) -> str:
        """What tokens read as, without the control tokens among them."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def chat(self, turns: tuple[Message, ...], system: str, ctx: RunContext) -> list[int]:
        """The turns in the model's own layout: control tokens from the template, text from the person.

        Raises:
            TemplateFailed
        """
        layout = own_layout(self._renderer, self.template, turns, system, self._bos, self._eos)
        for note in layout.notes:
            ctx.note(f"About the chat template: {note}.")
        self.turn_end = self._turn_end(layout.turns)
        if all(self._harmless(turn["content"]) for turn in layout.turns):
            # read in one go, as the model's trainers did: words may join across the borders of the pieces
            return self.tokens(layout.text, whole=False, special=True)
        tokens: list[int] = []
        for text, theirs in parted(self._renderer, self.template, layout.turns, self._bos, self._eos):
            tokens += self.tokens(text, whole=False, special=not theirs)
        return tokens

    def _turn_end(self, turns: list[dict[str, str]]) -> int | None:
        """The control token that the template sets behind an answer: there a model stops, whatever else it is told."""
        marker = "ANSWER0ENDS0HERE"
        try:
            said = [*turns, {"role": "assistant", "content": marker}]
            after = self._renderer.render(self.template, said, self._bos, self._eos).rpartition(marker)[2]
        except TemplateFailed:
            return None
        if not after.strip():
            return None
        first = self.tokens(after.lstrip()[:200], whole=False, special=True)[:1]
        return first[0] if first and first[0] in self._specials else None

    def _harmless(self, text: str) -> bool:
        """Whether a text is read the same with and without control tokens."""
        return self.tokens(text, whole=False) == self.tokens(text, whole=False, special=True)

    def start(self) -> None:
        self._renderer.start()

    def close(self) -> None:
        self._renderer.close()


class Unrolled:
    """Tokens become text as they come; the pieces joined are what all of them read as behind the prompt.

    A token is read together with the few before it, because white space and letters of several bytes depend on them.
    """

    def __init__(self, reader: Reader, prompt: list[int]) -> None:
        self._reader = reader
        self._ids = list(prompt[-BEFORE:])
        self._from, self._known = 0, len(self._ids)

    def add(self, token: int) -> str:
        """Returns what is certain now."""
        self._ids.append(token)
        before, text = self._texts()
        if text.endswith(_NOT_YET) or len(text) <= len(before):
            return ""
        self._from, self._known = self._known, len(self._ids)
        return text[len(before) :]

    def rest(self) -> str:
        """What was still held back: half a letter, which is shown as one that cannot be read."""
        before, text = self._texts()
        self._from, self._known = self._known, len(self._ids)
        return text[len(before) :]

    def _texts(self) -> tuple[str, str]:
        return self._reader.text(self._ids[self._from : self._known]), self._reader.text(self._ids[self._from :])
