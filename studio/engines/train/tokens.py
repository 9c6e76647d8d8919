"""Texts and conversations as a language model's tokens, with a mark at each that is to be learnt.

Knows tokenizers and how a chat is laid out; knows no file of rows and no model. A model's own chat template is rendered
in a process of its own, see text/templates.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from studio.core.problems import BadResult, ModelUnfit
from studio.core.recipes import Message
from studio.engines.text.templates import Renderer, TemplateFailed, parted, plain

PIECE = 1 << 18  # characters that are tokenized at once; a whole book takes a hundred times its size in memory
BEGIN, END = "<|begin|>", "<|end|>"  # of a tokenizer that is trained here
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")

# The layout of chats of a model from scratch.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
LAYOUTS_LIMIT = 10_000  # orders of speakers that are remembered
_NO_PROMPT = "{% set add_generation_prompt = false %}"  # laid before a template: nobody speaks after the last answer

T = TypeVar("T")


class Row(msgspec.Struct, frozen=True):
    """Tokens of a row, and which of them are learnt: the first is never, because nothing stands before it."""

    ids: list[int]
    learnt: list[bool]


class Tokens:
    """A tokenizer of a transformers folder, and what it stands for in training.

    Args:
        tokenizer: as AutoTokenizer opens it.
        answers_only: of conversations only the answers are learnt.

    Attributes:
        begin, end: tokens around every text; empty where the model knows none.
        count: of the vocabulary. digest: of all that decides what a row's tokens are.
    """

    def __init__(self, tokenizer: Any, answers_only: bool = True) -> None:
        self._tokenizer, self._answers_only = tokenizer, answers_only
        if not tokenizer.is_fast:
            raise ModelUnfit("The model's tokenizer is of an old kind.", "A folder with a tokenizer.json is needed.")
        first, last = tokenizer.bos_token_id, tokenizer.eos_token_id
        self.begin = [] if first is None else [int(first)]
        self.end = [] if last is None else [int(last)]
        self.count = len(tokenizer)
        template = tokenizer.chat_template
        self.template = template if isinstance(template, str) else ""
        self._special = {int(i) for i in tokenizer.all_special_ids}
        self._special |= {int(i) for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._renderer: Renderer | None = None
        self._layouts: dict[tuple[str, ...], list[tuple[str, bool]]] = {}  # pieces; of contents their place
        parts = [tokenizer.backend_tokenizer.to_str(), self.template, str(self.begin), str(self.end), str(answers_only)]
        self.digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    # -- rows

    def texts(self, texts: Sequence[str]) -> list[Row]:
        """Texts with the tokens around them. Nothing in a text is a control token. All of it is learnt."""
        pieces = [list(_pieces(text)) for text in texts]
        flat = [piece for each in pieces for piece in each]
        ids = iter(self._tokenizer(flat, add_special_tokens=False, split_special_tokens=True).input_ids if flat else [])
        rows = []
        for each in pieces:
            found = [*self.begin, *(i for _ in each for i in next(ids)), *self.end]
            rows.append(Row(found, [False, *[True] * (len(found) - 1)]))
        return rows

    def chat(self, messages: Sequence[dict[str, str]]) -> Row:
        """A conversation in the model's own layout, or in the plain one where it has none.

        Learnt are the answers with what ends them; with `answers_only` off all of it.

        Raises:
            TemplateFailed: the model's template refuses such a conversation.
        """
        pieces = self._laid(messages)
        coded = self._tokenizer(
            "".join(piece.text for piece in pieces), add_special_tokens=False, return_offsets_mapping=True
        )
        ids = [int(i) for i in coded.input_ids]
        wanted = [True] * len(ids)
        if self._answers_only:
            wanted, token, at = [], 0, 0
            for piece in pieces:
                at, ended = at + len(piece.text), piece.learnt != "end"
                while token < len(ids) and coded.offset_mapping[token][0] < at:
                    # of what follows an answer the first control token ends it, and the rest is layout
                    wanted.append(piece.learnt == "all" or not ended)
                    ended = ended or ids[token] in self._special
                    token += 1
            wanted += [False] * (len(ids) - len(wanted))
        if self.begin and ids[:1] != self.begin:
            ids, wanted = [*self.begin, *ids], [False, *wanted]
        if self.end and not any(i in self._special for i in ids[-2:]):  # a line feed may follow what ends an answer
            answered = any(piece.learnt == "all" for piece in pieces[-1:])
            ids, wanted = [*ids, *self.end], [*wanted, answered or not self._answers_only]
        return Row(ids, [False, *wanted[1:]] if wanted else [])

    def prompt(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """A conversation up to where the answer begins. Raises TemplateFailed."""
        if self.template:
            text = self._rendered(lambda turns: self._own().render(self.template, turns, *self._ends()), messages)
        else:
            text = plain(_turns(messages), _system(messages)).text
        ids = [int(i) for i in self._tokenizer(text, add_special_tokens=False).input_ids]
        return ids if ids[:1] == self.begin else [*self.begin, *ids]

    def opening(self, text: str) -> list[int]:
        """A text that is to be gone on with."""
        return [*self.begin, *self._tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids]

    def text(self, ids: Sequence[int]) -> str:
        """What tokens say, without control tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def ends(self) -> set[int]:
        """Tokens that end a text or an answer."""
        names = ("<end_of_turn>", "<|im_end|>", "<|eot_id|>", "<|end|>", "<|endoftext|>", "</s>")
        known = {int(i) for i, token in self._tokenizer.added_tokens_decoder.items() if token.content in names}
        return known | set(self.end)

    def save(self, folder: Path) -> None:
        self._tokenizer.save_pretrained(folder)

    # -- layouts

    def _own(self) -> Renderer:
        self._renderer = self._renderer or Renderer()
        return self._renderer

    def _ends(self) -> tuple[str, str]:
        return self._tokenizer.bos_token or "", self._tokenizer.eos_token or ""

    def _laid(self, messages: Sequence[dict[str, str]]) -> list[_Piece]:
        if not self.template:
            return _plainly(messages)
        return self._rendered(self._parted, messages)

    def _rendered(self, render: Callable[[list[dict[str, str]]], T], messages: Sequence[dict[str, str]]) -> T:
        """Render; where the template refuses instructions, they go into the first turn."""
        said = [{"role": m["role"], "content": m["content"].strip()} for m in messages]
        try:
            return render(said)
        except TemplateFailed:
            if len(said) < 2 or said[0]["role"] != "system" or said[1]["role"] != "user":
                raise
            first = {"role": "user", "content": f"{said[0]['content']}\n\n{said[1]['content']}"}
            return render([first, *said[2:]])

    def _parted(self, turns: list[dict[str, str]]) -> list[_Piece]:
        # The layout depends on who speaks and not on what is said: it is rendered once for each order of speakers.
        roles = tuple(turn["role"] for turn in turns)
        if roles not in self._layouts:
            blank = [{"role": role, "content": str(n)} for n, role in enumerate(roles)]
            if len(self._layouts) > LAYOUTS_LIMIT:
                self._layouts.clear()
            self._layouts[roles] = parted(self._own(), _NO_PROMPT + self.template, blank, *self._ends())
        pieces, after = [], False
        for text, said in self._layouts[roles]:
            if said:
                turn = turns[int(text)]
                after = turn["role"] == "assistant"
                pieces.append(_Piece(turn["content"], "all" if after else ""))
            else:
                pieces.append(_Piece(text, "end" if after else ""))
                after = False
        return pieces


class _Piece(msgspec.Struct, frozen=True):
    """Part of a conversation's text. `learnt`: "all" of it; to the "end" of the answer before it; or nothing."""

    text: str
    learnt: str = ""


def _plainly(messages: Sequence[dict[str, str]]) -> list[_Piece]:
    """As text/templates.plain lays it out: the turns with their role names. An answer ends where the user's name is."""
    pieces: list[_Piece] = []
    system = _system(messages).strip()
    if system:
        pieces.append(_Piece(system))
    for turn in _turns(messages):
        before, after = ("\n\n" if pieces else ""), turn.content.strip()
        if turn.role == "assistant":
            pieces += [_Piece(f"{before}Assistant:"), _Piece(f" {after}", "all")]
        else:
            answered = bool(pieces) and pieces[-1].learnt == "all"
            pieces += [_Piece(f"{before}User:", "all" if answered else ""), _Piece(f" {after}")]
    return pieces


def _turns(messages: Sequence[dict[str, str]]) -> tuple[Message, ...]:
    return tuple(Message(m["role"], m["content"]) for m in messages if m["role"] in ("user", "assistant"))  # type: ignore[arg-type]


def _system(messages: Sequence[dict[str, str]]) -> str:
    return "\n\n".join(m["content"] for m in messages if m["role"] == "system")


def _pieces(text: str) -> Iterator[str]:
    """A long text in parts that end with a line or a word."""
    while len(text) > PIECE:
        cut = max(text.rfind("\n", PIECE // 2, PIECE), text.rfind(" ", PIECE // 2, PIECE))
        cut = PIECE if cut < 0 else cut
        yield text[:cut]
        text = text[cut:]
    if text:
        yield text


def new_tokenizer(texts: Iterator[str], vocabulary: int, folder: Path, chat: bool) -> None:
    """Train a tokenizer and save it: byte-level BPE that splits words as GPT-2 does, so that llama.cpp reads it alike.

    Args:
        vocabulary: tokens at most; of few texts there come fewer. chat: there are conversations among the texts.

    Raises:
        BadResult: no texts.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = [BEGIN, END, *(ROLES if chat else ())]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator((piece for text in texts for piece in _pieces(text)), trainer)
    if tokenizer.get_vocab_size() <= len(special):
        raise BadResult("No tokenizer could be made of these texts.", "Are there any?")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A $B", special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))]
    )
    whole = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END, pad_token=END, clean_up_tokenization_spaces=False
    )
    if chat:
        whole.chat_template = TEMPLATE
    whole.save_pretrained(folder)
