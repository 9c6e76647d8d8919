"""The words of a text. Knows letters and nothing else."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W_]+")
# Everything in ASCII that parts words, as spaces: three times as fast as the pattern, and most texts are mostly ASCII.
_SPACES = str.maketrans({chr(at): " " for at in range(128) if not chr(at).isalnum()})


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, without what stands between them. “She’s” is two."""
    return text.lower().translate(_SPACES).split() if text.isascii() else _WORD.findall(text.casefold())
