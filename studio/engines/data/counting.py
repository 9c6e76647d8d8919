"""What a data set has how much of: rows, words, tokens, lengths. Knows rows as text; knows no files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from studio.core.cards import ModelCard
from studio.core.problems import ModelUnfit
from studio.core.text import shown

EXACT = 32 << 20  # characters of a part whose tokens are all counted
EVERY = 16  # of what comes afterwards, one row of so many


class Lengths:
    """How many rows are of what length, in bands that end at powers of two."""

    def __init__(self) -> None:
        self._bands: Counter[int] = Counter()

    def add(self, length: int) -> None:
        self._bands[max(4, (length - 1).bit_length())] += 1

    def bands(self) -> dict[str, int]:
        """Upper end of a band in characters -> rows; bands without rows between two others are there."""
        if not self._bands:
            return {}
        return {str(1 << at): self._bands[at] for at in range(min(self._bands), max(self._bands) + 1)}


class Tokens:
    """Counts the tokens of one part. Of much text a sample is counted; `sampled` says so.

    Args:
        count: tokens of a text.
    """

    def __init__(self, count: Callable[[str], int]) -> None:
        self._count = count
        self._exact = self._all = self._some = self._of_some = self._rows = 0
        self.sampled = False

    def add(self, text: str) -> None:
        if self._all < EXACT:
            self._exact += self._count(text)
        else:
            self._rows += 1
            self.sampled = True
            if self._rows % EVERY == 1:
                self._some += len(text)
                self._of_some += self._count(text)
        self._all += len(text)
        if not self.sampled:
            self._begun = self._all

    @property
    def total(self) -> int:
        if not self._some:
            return self._exact
        return self._exact + round((self._all - self._begun) * self._of_some / self._some)


class Tokenizer:
    """Counts tokens as a text model does, without those that it wants around every prompt.

    Args:
        check: called while the model that is shipped is put together from its parts; may raise JobCancelled.

    Raises:
        ModelUnfit: it has no tokenizer that can be read alone. ModelMissing, ModelBroken: the file.
    """

    def __init__(self, card: ModelCard, check: Callable[[], None]) -> None:
        path = Path(card.path)
        self.close: Callable[[], None] = lambda: None
        if path.is_dir():
            self._count = _of_folder(path, card.name)
            return
        from studio.engines.evaluate.gguf import GgufReader
        from studio.models import starter

        if card.parts and not starter.assembled(card):
            starter.assemble(card, lambda fraction: check())
        reader = GgufReader(path, card.name, window=512, threads=1)
        self._count = lambda text: len(reader.tokens(text))
        self.close = reader.close

    def __call__(self, text: str) -> int:
        return self._count(text)


def _of_folder(folder: Path, name: str) -> Callable[[str], int]:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelUnfit(
            f"“{shown(name)}” has no tokenizer.json.", "Count with another model, or count words only.",
            field="tokenizer",
        )  # fmt: skip
    from tokenizers import Tokenizer as Read

    try:
        tokenizer = Read.from_file(str(path))
    except Exception as error:  # the library's own errors share no base class but this
        raise ModelUnfit(
            f"The tokenizer of “{shown(name)}” cannot be read.", detail=str(error), field="tokenizer"
        ) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
