"""What a person may see of a text while it is being written. Knows strings; knows nothing of models.

llama.cpp can look for stop strings itself, but what it holds back because it might become one is lost when the text
ends for another reason. Here nothing is lost: the pieces joined are always the whole text.
"""

from __future__ import annotations


class Stream:
    """Lets a text through piece by piece, up to the first stop string.

    Args:
        stops: the text ends before the earliest of these; none of them may be empty.
        trim: leave white space at both ends out.
    """

    def __init__(self, stops: tuple[str, ...] = (), trim: bool = False) -> None:
        self._stops = stops
        self._trim = trim
        self._held = ""  # may still turn out to be a stop string, or white space at the end
        self._begun = not trim
        self.stopped = False

    def feed(self, piece: str) -> str:
        """Take the next piece; returns what is certain to be part of the text."""
        if self.stopped:
            return ""
        self._held += piece
        cut = min((at for at in (self._held.find(stop) for stop in self._stops) if at >= 0), default=-1)
        if cut >= 0:
            self.stopped = True
            self._held = self._held[:cut]
            return self.finish()
        return self._let_through(len(self._held) - self._longest_beginning())

    def finish(self) -> str:
        """The text has ended; returns what was still held back."""
        if self._trim:
            self._held = self._held.rstrip()
        return self._let_through(len(self._held))

    def _longest_beginning(self) -> int:
        """How many of the last characters could be the beginning of a stop string."""
        longest = 0
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:length]):
                    longest = length
                    break
        return longest

    def _let_through(self, count: int) -> str:
        if not self._begun:
            blank = count - len(self._held[:count].lstrip())
            self._held = self._held[blank:]
            count -= blank
            self._begun = count > 0
        if self._trim:
            count = len(self._held[:count].rstrip())
        out, self._held = self._held[:count], self._held[count:]
        return out
