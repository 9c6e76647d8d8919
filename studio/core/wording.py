"""The small languages that prompts are written in: weights, alternatives, wildcards, styles, LoRA tags.

Knows text only. Nothing here knows a tokenizer or a model, and nothing is looked up on disk: the lists behind
wildcards are handed in. Every reading ends in time that grows with the length of the text, however it is nested.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from studio.core.problems import BadRecipe, NotRead
from studio.core.recipes import PROMPT_LIMIT
from studio.core.text import shown

HEAVIEST = 100.0  # weights beyond this, either way, are held to it: hidden states would overflow
_DEEPEST = 64  # brackets within brackets; deeper ones are plain characters
_DEEPEST_BRACES = 16  # alternatives within alternatives; the walk through them is recursive
_DEEPEST_WILDCARDS = 16  # lists that name lists
_MOST_CHOICES = 10_000  # in one expansion
_WIDEST_PICK = 1_000  # alternatives where several are taken at once
_MOST_STYLES = 10_000
_STYLES_LIMIT = 5_000_000  # characters of a styles.csv
_MORE = 1.1  # what one round bracket, or one plus sign, multiplies by
_LESS_COMPEL = 0.9  # what one minus sign multiplies by


class Weighted(msgspec.Struct, frozen=True):
    """A stretch of a prompt and how much it counts.

    Attributes:
        text: without the marks that weighed it. weight: no unit; 1 is as if nothing had been said.
        is_break: the place where a new chunk begins; it has no text.
    """

    text: str
    weight: float = 1.0
    is_break: bool = False


BREAK = Weighted("", 1.0, True)


class Section(msgspec.Struct, frozen=True):
    """One part of a prompt in compel's writing, read on its own. weight: how much the whole of it counts."""

    parts: tuple[Weighted, ...]
    weight: float = 1.0


class Sections(msgspec.Struct, frozen=True):
    """A prompt in compel's writing.

    Attributes:
        sections: at least one. blend: they are mixed into one; otherwise they are read one after another.
        normalise: the weights of a blend are made to sum to 1. notes: what was asked for and is not done.
    """

    sections: tuple[Section, ...]
    blend: bool = False
    normalise: bool = True
    notes: tuple[str, ...] = ()


def _held(weight: float) -> float:
    return max(-HEAVIEST, min(HEAVIEST, weight)) if math.isfinite(weight) else 1.0


def _joined(parts: Iterable[Weighted]) -> tuple[Weighted, ...]:
    """Neighbours of the same weight as one; empty ones go."""
    found: list[Weighted] = []
    for (is_break, weight), group in itertools.groupby(parts, key=lambda p: (p.is_break, p.weight)):
        if is_break:
            found += group
            continue
        text = "".join(p.text for p in group)
        if text:
            found.append(Weighted(text, weight))
    return tuple(found) or (Weighted(""),)


# -- A1111's writing

_TOKEN = re.compile(
    r"(?P<escape>\\[()\[\]\\])|(?P<weight>:\s*(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))\s*\))|(?P<mark>[()\[\]])"
    r"|(?P<text>[^\\()\[\]:]+|.)",
    re.DOTALL,
)
_BREAK = re.compile(r"\bBREAK\b")
_AND = re.compile(r"\bAND\b")
_WHEN = re.compile(r":\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*\Z")


def parse_a1111(prompt: str) -> tuple[Weighted, ...]:
    """Read (more), [less], (just:1.3) and BREAK, as AUTOMATIC1111's web UI does.

    Brackets multiply when nested; a backslash makes a bracket a character; what is never closed counts to the end.
    Prompt editing, alternation and AND stay in the text as they are written: see `unread_a1111`.

    Returns:
        At least one part; BREAK stands between chunks. Weights are within ±HEAVIEST.
    """
    literal = _edits(prompt)[0]
    texts: list[str | None] = []  # None is a break
    weights: list[float] = []  # beside texts
    rounds: list[int] = []
    squares: list[int] = []
    plain: list[str] = []  # since the last mark

    def flush() -> None:
        if plain:
            texts.append("".join(plain))
            weights.append(1.0)
            plain.clear()

    def close(start: int, factor: float) -> None:
        flush()
        for i in range(start, len(weights)):
            weights[i] *= factor

    for found in _TOKEN.finditer(prompt):
        text = found[0]
        if found["escape"]:
            plain.append(text[1:])
        elif found.start() in literal:
            plain.append(text)
        elif found["weight"] and rounds:
            close(rounds.pop(), _held(float(found["number"])))
        elif text == "(" and len(rounds) < _DEEPEST:
            flush()
            rounds.append(len(texts))
        elif text == "[" and len(squares) < _DEEPEST:
            flush()
            squares.append(len(texts))
        elif text == ")" and rounds:
            close(rounds.pop(), _MORE)
        elif text == "]" and squares:
            close(squares.pop(), 1 / _MORE)
        else:
            pieces = _BREAK.split(text)
            for i, piece in enumerate(pieces):
                if i:
                    flush()
                    texts.append(None)
                    weights.append(1.0)
                    piece = piece.lstrip()
                plain.append(piece.rstrip() if i < len(pieces) - 1 else piece)
    flush()
    for start in rounds:
        close(start, _MORE)
    for start in squares:
        close(start, 1 / _MORE)
    return _joined(BREAK if t is None else Weighted(t, _held(w)) for t, w in zip(texts, weights, strict=True))


def _edits(prompt: str) -> tuple[frozenset[int], str]:
    """Where the square brackets of prompt editing and alternation stand, and the first of these as written."""
    literal: set[int] = set()
    first: tuple[int, str] | None = None
    open_at: list[list[int]] = []  # [position, bars within]
    for found in _TOKEN.finditer(prompt):
        text, at = found[0], found.start()
        if text == "[":
            open_at.append([at, 0])
        elif text == "]" and open_at:
            start, bars = open_at.pop()
            # only the end of what is within matters, so that nesting does not make this slow
            if bars or _WHEN.search(prompt, max(start + 1, at - 32), at):
                literal |= {start, at}
                if first is None or start < first[0]:
                    first = (start, prompt[start : at + 1])
        elif open_at and found["text"] and "|" in text:
            open_at[-1][1] += 1
    return frozenset(literal), first[1] if first else ""


def unread_a1111(prompt: str) -> tuple[str, ...]:
    """Sentences on what A1111 would carry out and the studio leaves in the text: editing, alternation, AND."""
    notes = []
    _, edit = _edits(prompt)
    if edit:
        notes.append(f"Prompt editing and alternation as in “{shown(edit)}” are not carried out; they stayed as words.")
    if _AND.search(prompt):
        notes.append("“AND” does not join several prompts here; it stayed as a word.")
    return tuple(notes)


def has_weights(prompt: str) -> bool:
    """Whether a prompt has a weight in numbers, as in “(red:1.2)”.

    Brackets alone are ordinary writing, and so are a time or a ratio at the end of one, as in “(at 12:30)” or
    “(16:9)”: a whole number counts as a weight only up to 2.
    """
    depth = 0
    for found in _TOKEN.finditer(prompt):
        if found["weight"]:
            number = found["number"]
            if depth and ("." in number or abs(float(number)) <= 2):
                return True
            depth = max(0, depth - 1)
        elif found[0] == "(":
            depth += 1
        elif found[0] == ")":
            depth = max(0, depth - 1)
    return False


# -- compel's writing

_ESCAPED = re.compile(r'\\([()",.+=\\-])')
# A sign within a word ("mid-century") belongs to it; one at its end weighs it.
_WORD = re.compile(r'(?:\\.|[+-](?![\s()",.+=-]|\Z)|[^\s()",.=+\-\\])+', re.DOTALL)
_SIGNS = re.compile(r"\++|-+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_ATTEND = re.compile(r"\.attend\(\s*(\++|-+|\d+(?:\.\d*)?|\.\d+)\s*\)")
_METHOD = re.compile(r"\.(swap|blend|and|add)\(")
_WITH_LORA = re.compile(r"\b(?:withLora|useLora)\(([^()]*)\)")
_WHOLE = re.compile(r"\.(and|add|blend)\(([^()]*)\)\s*\Z")


def parse_compel(prompt: str) -> Sections:
    """Read word+, word--, (a phrase)1.3, "a phrase"++, nested, and (…, …).and() or .blend(), as compel does.

    `.swap()` and `withLora()` are told in a note: the first leaves what was to be swapped, the second goes.
    """
    notes: list[str] = []
    prompt, tags = _WITH_LORA.subn("", prompt)
    if tags:
        notes.append("LoRAs written in the prompt as “withLora(…)” were left out; choose them in their own field.")
    pairs = _pairs(prompt)
    start = len(prompt) - len(prompt.lstrip())
    end = pairs.get(start, -1)
    whole = _WHOLE.match(prompt, end + 1) if end > 0 and prompt[start] == "(" else None
    if whole is None:
        return Sections((Section(_joined(_compel(prompt, 0, len(prompt), 1.0, pairs, notes))),), notes=_once(notes))
    spans = list(_split(prompt, start + 1, end, pairs))
    blend, arguments = whole[1] == "blend", [a.strip() for a in whole[2].split(",") if a.strip()]
    normalise = "no_normalize" not in arguments
    numbers = [a for a in arguments if a != "no_normalize"]
    weights = [1.0] * len(spans)
    if numbers and len(numbers) != len(spans):
        notes.append(f"“.{whole[1]}()” has {len(numbers)} weights for {len(spans)} prompts; they were left out.")
    elif numbers:
        try:
            weights = [_held(float(n)) for n in numbers]
        except ValueError:
            notes.append(f"The weights of “.{whole[1]}()” are not all numbers; they were left out.")
    if blend and normalise and abs(sum(weights)) < 1e-6:
        notes.append("The weights of “.blend()” sum to nothing; they were left out.")
        weights = [1.0] * len(spans)
    sections = tuple(
        Section(_joined(_compel(prompt, a, b, 1.0, pairs, notes)), w) for (a, b), w in zip(spans, weights, strict=True)
    )
    return Sections(sections, blend, normalise, _once(notes))


def _once(notes: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(notes))


def _pairs(text: str) -> dict[int, int]:
    """Where each bracket and each quotation mark that is closed is closed. What is within quotes pairs there."""
    pairs: dict[int, int] = {}
    stack: list[int] = []
    i = 0
    while i < len(text):
        char = text[i]
        if char == "\\":
            i += 1
        elif char == '"':
            quotes = [n for n, at in enumerate(stack) if text[at] == '"']
            if quotes:
                pairs[stack[quotes[-1]]] = i
                del stack[quotes[-1] :]
            elif len(stack) < _DEEPEST:
                stack.append(i)
        elif char == "(" and len(stack) < _DEEPEST:
            stack.append(i)
        elif char == ")" and stack and text[stack[-1]] == "(":
            pairs[stack.pop()] = i
        i += 1
    return pairs


def _split(text: str, start: int, end: int, pairs: dict[int, int]) -> Iterator[tuple[int, int]]:
    """The stretches between the commas that stand in no bracket and no quotation."""
    begin = i = start
    while i < end:
        if text[i] == "\\":
            i += 1
        elif text[i] in '("' and pairs.get(i, end) < end:
            i = pairs[i]
        elif text[i] == ",":
            yield begin, i
            begin = i + 1
        i += 1
    yield begin, end


def _signed(signs: str) -> float:
    return _held(float(_MORE if signs[0] == "+" else _LESS_COMPEL) ** min(len(signs), 1_000))


def _compel(
    text: str, start: int, end: int, weight: float, pairs: dict[int, int], notes: list[str]
) -> Iterator[Weighted]:
    i = start
    while i < end:
        close = pairs.get(i, end) if text[i] in '("' else end
        word = None if close < end else _WORD.match(text, i, end)
        if close < end:
            after = close + 1
        elif word:
            after = word.end()
        else:
            yield Weighted(text[i], weight)
            i += 1
            continue
        own = weight
        signs = _SIGNS.match(text, after, end)
        number = _NUMBER.match(text, after, end) if close < end else None
        attend = _ATTEND.match(text, after, end)
        if signs:
            own, after = _held(weight * _signed(signs[0])), signs.end()
        elif number:
            own, after = _held(weight * float(number[0])), number.end()
        elif attend:
            by = attend[1]
            own, after = _held(weight * (_signed(by) if by[0] in "+-" else float(by))), attend.end()
        else:
            after = _skip_method(text, after, end, pairs, notes)
        if word:
            yield Weighted(_ESCAPED.sub(r"\1", word[0]), own)
        else:
            yield from _compel(text, i + 1, close, own, pairs, notes)
        i = after


def _skip_method(text: str, at: int, end: int, pairs: dict[int, int], notes: list[str]) -> int:
    """Pass over “.swap(…)” and the like, saying so."""
    method = _METHOD.match(text, at, end)
    if method is None:
        return at
    close = pairs.get(method.end() - 1, end)
    if close >= end:
        return at
    if method[1] == "swap":
        notes.append("“.swap()” is not carried out; what was to be swapped stayed.")
    else:
        notes.append(f"“.{method[1]}()” works only around the whole prompt; it was left out.")
    return close + 1


# -- alternatives and wildcards


class Choice(msgspec.Struct, frozen=True):
    """One thing that was chosen. source: as written, shortened. picked: what stands in its place."""

    source: str
    picked: str


class Expanded(msgspec.Struct, frozen=True):
    """A prompt with everything chosen. The text is what a recipe keeps; reading it again is not needed."""

    text: str
    chosen: tuple[Choice, ...] = ()
    notes: tuple[str, ...] = ()


Wildcards = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class _Wild:
    name: str


@dataclass(frozen=True)
class _Pick:
    """low to high of the options, in the order in which they are written, with joiner between them."""

    source: str
    options: tuple[tuple[float, tuple[_Node, ...]], ...]
    low: int = 1
    high: int = 1
    joiner: str = ", "


_Node = str | _Wild | _Pick
_Nodes = tuple[_Node, ...]

_NAME = re.compile(r"__([^\W_](?:[\w/ -]{0,200}?[^\W_])?)__")
_HOW_MANY = re.compile(r"\s*(?:(\d{1,4})(-)?(\d{1,4})?|-(\d{1,4}))\$\$(?:([^$|{}]*)\$\$)?")
_SHARE = re.compile(r"\s*(\d{1,6}(?:\.\d{1,6})?|\.\d{1,6})::")


def expand(prompt: str, seed: int, wildcards: Wildcards) -> Expanded:
    """Choose among {a|b}, {2::a|b}, {2$$a|b|c}, {1-2$$ and $$a|b|c} and __lists__, the same way for the same seed.

    Args:
        seed: of the choices. wildcards: the lines of a list by its name, empty where there is none of that name.

    Raises:
        BadRecipe: a list that names itself, or more than can be chosen or written.
    """
    return _Expansion(wildcards, random.Random(seed)).expanded(prompt)


def count(prompt: str, wildcards: Wildcards) -> int:
    """How many prompts `every` would give without a limit.

    Raises:
        BadRecipe: as `expand`.
    """
    return _Expansion(wildcards).count(_nodes(prompt), ())


def every(prompt: str, limit: int, wildcards: Wildcards) -> tuple[str, ...]:
    """All that a prompt can become, in the order in which its alternatives are written; at most `limit`.

    Raises:
        BadRecipe: as `expand`.
    """
    return tuple(itertools.islice(_Expansion(wildcards).every(_nodes(prompt), (), 0), limit))


def has_choices(prompt: str) -> bool:
    """Whether there is anything in a prompt to choose: alternatives or wildcards."""
    return any(not isinstance(node, str) for node in _nodes(prompt))


class _Expansion:
    """One walk through a prompt and the lists it names."""

    def __init__(self, wildcards: Wildcards, chance: random.Random | None = None) -> None:
        self._wildcards, self._chance = wildcards, chance or random.Random(0)
        self._lists: dict[str, tuple[tuple[float, _Nodes], ...]] = {}
        self._counts: dict[str, int] = {}
        self._chosen: list[Choice] = []
        self._unknown: dict[str, None] = {}
        self._steps = self._written = 0

    def expanded(self, prompt: str) -> Expanded:
        text = self._walk(_nodes(prompt), ())
        names = [shown(name) for name in self._unknown]
        notes = tuple(f"There is no list “{name}”; “__{name}__” stayed as it is." for name in names)
        return Expanded(text, tuple(self._chosen), notes)

    def _list(self, name: str, within: tuple[str, ...]) -> tuple[tuple[float, _Nodes], ...]:
        """The lines of a list, read; none where there is no such list.

        Raises:
            BadRecipe: the list names itself, directly or through others.
        """
        if name in within:
            chain = " → ".join(shown(n, 30) for n in (*within[within.index(name) :], name))
            raise BadRecipe(
                f"The wildcard list “{shown(name)}” names itself ({chain}), so it would never end.",
                "Take the name out of one of these lists.", field="prompt",
            )  # fmt: skip
        if len(within) >= _DEEPEST_WILDCARDS:
            raise BadRecipe(
                f"The wildcard lists name one another more than {_DEEPEST_WILDCARDS} deep.",
                "Use fewer lists within lists.", field="prompt",
            )  # fmt: skip
        if name not in self._lists:
            self._lists[name] = tuple(_option(line) for line in self._wildcards(name))
            if not self._lists[name]:
                self._unknown[name] = None
        return self._lists[name]

    def _step(self, written: int = 0) -> None:
        self._steps += 1
        self._written += written
        if self._steps > _MOST_CHOICES or self._written > PROMPT_LIMIT:
            raise BadRecipe(
                f"With everything chosen, the prompt would be longer than {PROMPT_LIMIT:,} characters, or have more "
                f"than {_MOST_CHOICES:,} choices in it.", "Use fewer alternatives, or shorter lists.", field="prompt",
            )  # fmt: skip

    def _walk(self, nodes: _Nodes, within: tuple[str, ...]) -> str:
        texts = []
        for node in nodes:
            if isinstance(node, str):
                self._written += len(node)
                texts.append(node)
                continue
            self._step()
            if isinstance(node, _Wild):
                lines = self._list(node.name, within)
                source = f"__{node.name}__"
                if not lines:
                    texts.append(source)
                    continue
                picked = self._walk(lines[self._some([w for w, _ in lines], 1)[0]][1], (*within, node.name))
            else:
                source = node.source
                number = self._chance.randint(node.low, node.high)
                taken = self._some([w for w, _ in node.options], number)
                picked = node.joiner.join(self._walk(node.options[i][1], within) for i in taken)
                self._written += len(node.joiner) * len(taken)
            self._chosen.append(Choice(shown(source), picked))
            texts.append(picked)
        self._step()
        return "".join(texts)

    def _some(self, shares: list[float], number: int) -> list[int]:
        """`number` different places, each likelier the greater its share; in order."""
        left, taken = list(range(len(shares))), []
        for _ in range(number):
            weights = [shares[i] for i in left]
            # where all shares are 0, as after the only likely one was taken, each of the rest is as good
            at = self._chance.choices(range(len(left)), weights if sum(weights) > 0 else None)[0]
            taken.append(left.pop(at))
        return sorted(taken)

    def count(self, nodes: _Nodes, within: tuple[str, ...]) -> int:
        total = 1
        for node in nodes:
            if isinstance(node, _Wild):
                lines = self._list(node.name, within)
                if node.name not in self._counts:
                    inside = (*within, node.name)
                    self._counts[node.name] = sum(self.count(line, inside) for _, line in lines) or 1
                total *= self._counts[node.name]
            elif isinstance(node, _Pick):
                ways = [1] + [0] * node.high  # ways[k]: to take k of the options seen so far
                for _, option in node.options:
                    own = self.count(option, within)
                    for k in range(node.high, 0, -1):
                        ways[k] += ways[k - 1] * own
                total *= sum(ways[node.low : node.high + 1])
            if total.bit_length() > 4_096:
                raise BadRecipe("This prompt has more combinations than can be counted.", field="prompt")
        return total

    def every(self, nodes: _Nodes, within: tuple[str, ...], length: int) -> Iterator[str]:
        """All texts of these nodes; the last node turns fastest."""
        if not nodes:
            yield ""
            return
        before, turning = [""], [self._each(nodes[0], within, length)]  # one of each per node that has begun
        while turning:
            text = next(turning[-1], None)
            if text is None:
                turning.pop()
                before.pop()
                continue
            whole = before[-1] + text
            if len(turning) == len(nodes):
                yield whole
            else:
                turning.append(self._each(nodes[len(turning)], within, length + len(whole)))
                before.append(whole)

    def _each(self, node: _Node, within: tuple[str, ...], length: int) -> Iterator[str]:
        if isinstance(node, str):
            if length + len(node) > PROMPT_LIMIT:
                self._step(PROMPT_LIMIT + 1)
            yield node
        elif isinstance(node, _Wild):
            lines = self._list(node.name, within)
            if not lines:
                yield f"__{node.name}__"
            for _, line in lines:
                yield from self.every(line, (*within, node.name), length)
        else:
            for number in range(node.low, node.high + 1):
                for taken in itertools.combinations(range(len(node.options)), number):
                    parts: list[_Node] = []
                    for i in taken:
                        parts += [node.joiner] if parts else []
                        parts += node.options[i][1] or ("",)
                    yield from self.every(tuple(parts), within, length)


def _option(text: str) -> tuple[float, _Nodes]:
    """One alternative: its share, and what it says."""
    share = _SHARE.match(text)
    return (float(share[1]), _nodes(text[share.end() :].strip())) if share else (1.0, _nodes(text.strip()))


def _nodes(text: str) -> _Nodes:
    """Read a prompt into texts, lists and alternatives."""
    return _read(text, 0, len(text), _braces(text))


def _braces(text: str) -> dict[int, tuple[int, list[int]]]:
    """Each opening brace that is closed: where, and where the bars stand that are directly within it."""
    found: dict[int, tuple[int, list[int]]] = {}
    stack: list[tuple[int, list[int]]] = []
    i = 0
    while i < len(text):
        char = text[i]
        if char == "\\":
            i += 1
        elif char == "{" and len(stack) < _DEEPEST_BRACES:
            stack.append((i, []))
        elif char == "|" and stack:
            stack[-1][1].append(i)
        elif char == "}" and stack:
            start, bars = stack.pop()
            found[start] = (i, bars)
        i += 1
    return found


def _read(text: str, start: int, end: int, braces: dict[int, tuple[int, list[int]]], within: bool = False) -> _Nodes:
    nodes: list[_Node] = []
    plain: list[str] = []

    def flush() -> None:
        if plain:
            nodes.append("".join(plain))
            plain.clear()

    i = start
    while i < end:
        char = text[i]
        if char == "\\" and i + 1 < end and text[i + 1] in ("{}|" if within else "{}"):
            plain.append(text[i + 1])
            i += 2
        elif char == "\\" and text.startswith("__", i + 1) and i + 3 <= end:
            plain.append("__")
            i += 3
        elif char == "{" and i in braces and braces[i][0] < end:
            close, bars = braces[i]
            pick = _pick(text, i, close, bars, braces)
            if pick is None:  # braces around one thing are no choice; they stay
                plain.append("{")
                flush()
                nodes += _read(text, i + 1, close, braces, within)
                plain.append("}")
            else:
                flush()
                nodes.append(pick)
            i = close + 1
        elif char == "_" and (name := _NAME.match(text, i, end)):
            flush()
            nodes.append(_Wild(name[1]))
            i = name.end()
        else:
            plain.append(char)
            i += 1
    flush()
    return tuple(nodes)


def _pick(text: str, start: int, close: int, bars: list[int], braces: dict[int, tuple[int, list[int]]]) -> _Pick | None:
    how_many = _HOW_MANY.match(text, start + 1, bars[0] if bars else close)
    if not bars and how_many is None:
        return None
    options = []
    edges = [how_many.end() if how_many else start + 1, *(b + 1 for b in bars)]
    for begin, end in zip(edges, [*bars, close], strict=True):
        share = _SHARE.match(text, begin, end)
        begin = share.end() if share else begin
        while begin < end and text[begin].isspace():
            begin += 1
        while begin < end and text[end - 1].isspace():
            end -= 1
        options.append((float(share[1]) if share else 1.0, _read(text, begin, end, braces, True)))
    low = high = 1
    joiner = ", "
    if how_many:
        first, dash, last, only_last, between = how_many.groups()
        low = int(first) if first is not None else 0
        high = int(last if last is not None else (only_last or (len(options) if dash else low)))
        joiner = between if between is not None else joiner
        low, high = sorted((min(low, len(options)), min(high, len(options))))
        if high > 1 and len(options) > _WIDEST_PICK:
            raise BadRecipe(
                f"Several are to be taken from {len(options):,} alternatives; at most {_WIDEST_PICK:,} can be.",
                field="prompt",
            )
    return _Pick(text[start : close + 1], tuple(options), low, high, joiner)


# -- styles


class Style(msgspec.Struct, frozen=True):
    """A named text to put around or after a prompt, and one for what to avoid."""

    name: str
    prompt: str = ""
    negative: str = ""


def apply_style(prompt: str, style: str) -> str:
    """A prompt in a style's frame, where the style says `{prompt}`; otherwise with the style after it."""
    if "{prompt}" in style:
        return style.replace("{prompt}", prompt)
    return ", ".join(text for text in (prompt.strip(), style.strip()) if text)


def read_styles_csv(text: str) -> tuple[Style, ...]:
    """The styles of an A1111 styles.csv: columns name, prompt (or text) and negative_prompt.

    Raises:
        NotRead: the text is too long, or no such table.
    """
    if len(text) > _STYLES_LIMIT:
        raise NotRead(f"The style file has {len(text):,} characters; at most {_STYLES_LIMIT:,} are read.")
    rows = csv.reader(io.StringIO(text.lstrip("\ufeff"), newline=""))
    found: dict[str, Style] = {}
    try:
        columns = [c.strip().lower() for c in next(rows, [])]
        if "name" not in columns:
            raise NotRead("This is no style file: its first line names no column “name”.")
        for row in rows:
            cells = dict(zip(columns, row, strict=False))
            name = cells["name"].strip() if cells.get("name") else ""
            if not name:
                continue
            if len(found) >= _MOST_STYLES:
                raise NotRead(f"The style file has more than {_MOST_STYLES:,} styles.")
            found[name] = Style(name, cells.get("prompt", cells.get("text", "")), cells.get("negative_prompt", ""))
    except csv.Error as error:
        raise NotRead(f"The style file is broken in line {rows.line_num:,}.", detail=repr(error)) from None
    return tuple(found.values())


# -- LoRA tags

_TAG = re.compile(r"<(lora|lyco|hypernet):([^<>:]{1,300})((?::[^<>:]{0,100}){0,8})>", re.IGNORECASE)
_GAPS = re.compile(r"[ \t]{2,}")
_BARE_COMMAS = re.compile(r",(?:[ \t]*,)+")


def lora_tags(prompt: str) -> tuple[str, tuple[tuple[str, float], ...], tuple[str, ...]]:
    """Take the tags such as <lora:name:0.8> out of a prompt.

    Returns:
        The prompt without them; name and weight of each, in order, the last weight where a name comes twice; notes.
    """
    found: dict[str, float] = {}
    notes: list[str] = []

    def take(tag: re.Match[str]) -> str:
        kind, name, rest = tag[1].lower(), tag[2].strip(), tag[3].split(":")[1:]
        if kind == "hypernet":
            notes.append(f"Hypernetworks are not used; “{shown(tag[0])}” was left out.")
            return ""
        weight = 1.0
        if rest and rest[0].strip():
            try:
                weight = float(rest[0])
            except ValueError:
                weight = math.nan
            if not math.isfinite(weight) or abs(weight) > HEAVIEST:
                notes.append(f"The weight in “{shown(tag[0])}” is no number that can be used; 1 was taken.")
                weight = 1.0
        if len(rest) > 1:
            notes.append(f"Of “{shown(tag[0])}” only the first weight was used.")
        if name in found:
            notes.append(f"The LoRA “{shown(name)}” is named twice; the last weight counts.")
        found[name] = weight
        return ""

    without = _TAG.sub(take, prompt)
    if without != prompt:
        without = _BARE_COMMAS.sub(",", _GAPS.sub(" ", without)).strip(" \t,")
    return without, tuple(found.items()), _once(notes)
