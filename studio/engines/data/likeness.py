"""Which texts are the same, and which nearly: keys of texts, MinHash, and a store of keys that outgrows no memory.

Knows texts and numbers; knows no files but its own temporary ones.

What a row costs: 12 bytes for each of its keys in `Store`, in memory up to a limit and on disk beyond it, where 1 byte
of each stays in memory. A row has one key to be told from the same ones. To be told from similar ones it has one for
each band (18 at a likeness of 0.8, so 216 bytes) and 256 bytes of signature, which are on disk from the start.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from studio.engines.data.words import words_of

Keys = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.uint32]

PERMUTATIONS = 128  # of a signature; the standard error of a likeness of 0.8 is then 0.035
SHINGLE = 3  # words in a row that make one element of a text's set
LETTERS = 5  # in a row, where words are not set apart
AT_ONCE = 1_024  # shingles whose permutations are computed at once, in half a megabyte
FOUND = 0.98  # how many of the rows that are just like enough are to be found


def key_of(text: str) -> tuple[int, int]:
    """Two 64-bit numbers of a text, the same on every machine; white space and its amount do not count.

    The first one tells equal texts, the second one decides on their part (`split_of`).
    """
    digest = hashlib.blake2b(" ".join(text.split()).encode("utf-8", "replace"), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def split_of(number: int, seed: int, valid: float, test: float) -> str:
    """The part a text belongs to. It depends on the text, the seed and the shares, and on nothing else in the data."""
    mixed = hashlib.blake2b(number.to_bytes(8, "little") + seed.to_bytes(8, "little"), digest_size=8).digest()
    at = int.from_bytes(mixed, "little") / 2.0**64
    # from the end: that more is kept for validation moves no row out of the test
    return "test" if at < test else "valid" if at < test + valid else "train"


class Store:
    """64-bit keys with the number of the row they came from first; tells the number by the key.

    New keys are in a dictionary; then in sorted arrays, which are merged with those of their size, so that there are
    few; beyond `limit` keys in sorted files, each with every 256th key and a filter of 8 bits a key in memory, so that
    a key that is not there costs no reading, but for one in twenty.

    Args:
        folder: exists; the files go with it. name: of its files.
        limit: keys in memory. Merging needs thrice their 12 bytes for a moment.
    """

    def __init__(self, folder: Path, name: str, limit: int = 6_000_000) -> None:
        self._folder, self._name, self._limit = folder, name, limit
        self._fresh: dict[int, int] = {}
        self._most_fresh = max(1, min(1 << 17, limit // 4))
        self._runs: list[tuple[Keys, Numbers]] = []
        self._files: list[_File] = []

    def find(self, keys: Sequence[int]) -> list[int]:
        """For each key the number it was added with first, or −1."""
        found: list[int] = [self._fresh.get(key, -1) for key in keys]
        if self._runs or self._files:
            wanted = np.array(keys, dtype=np.uint64)
            for held, numbers in self._runs:
                at = np.minimum(np.searchsorted(held, wanted), len(held) - 1)
                for i in np.flatnonzero(held[at] == wanted).tolist():
                    found[i] = int(numbers[at[i]])
            for file in self._files:
                for i, number in file.find(wanted):
                    found[i] = number
        return found

    def add(self, keys: Sequence[int], number: int) -> None:
        """Keys of a row. One that is there already is to be left out by who adds it, or keeps any of its numbers."""
        for key in keys:
            self._fresh.setdefault(key, number)
        if len(self._fresh) >= self._most_fresh:
            self._settle()

    def __contains__(self, key: int) -> bool:
        return self.find((key,))[0] >= 0

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _settle(self) -> None:
        keys = np.fromiter(self._fresh.keys(), np.uint64, len(self._fresh))
        numbers = np.fromiter(self._fresh.values(), np.uint32, len(self._fresh))
        self._fresh = {}
        order = np.argsort(keys)
        self._runs.append((keys[order], numbers[order]))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            self._merge(2)
        if sum(len(held) for held, _ in self._runs) > self._limit:
            self._merge(len(self._runs))
            path = self._folder / f"{self._name}-{len(self._files)}.keys"
            self._files.append(_File(path, *self._runs.pop()))

    def _merge(self, count: int) -> None:
        parts = [self._runs.pop() for _ in range(count)]
        keys = np.concatenate([held for held, _ in parts])
        numbers = np.concatenate([held for _, held in parts])
        parts.clear()
        order = np.argsort(keys, kind="stable")
        self._runs.append((keys[order], numbers[order]))


class _File:
    """A sorted run on disk."""

    BLOCK = 256  # keys

    def __init__(self, path: Path, keys: Keys, numbers: Numbers) -> None:
        self._count = len(keys)
        self._first = keys[:: self.BLOCK].copy()
        self._bits = np.zeros(max(1, self._count), dtype=np.uint8)  # 8 bits for each key
        size = np.uint64(len(self._bits) * 8)
        for at in (keys % size, (keys >> np.uint64(20)) % size):
            np.bitwise_or.at(self._bits, at >> np.uint64(3), np.uint8(1) << (at & np.uint64(7)).astype(np.uint8))
        with open(path, "xb") as stream:
            stream.write(keys.astype("<u8", copy=False).data)
            stream.write(numbers.astype("<u4", copy=False).data)
        self._stream = open(path, "rb", buffering=0)  # noqa: SIM115 - closed with the store

    def find(self, wanted: Keys) -> list[tuple[int, int]]:
        size = np.uint64(len(self._bits) * 8)
        may = np.ones(len(wanted), dtype=bool)
        for at in (wanted % size, (wanted >> np.uint64(20)) % size):
            may &= (self._bits[at >> np.uint64(3)] >> (at & np.uint64(7)).astype(np.uint8)) & np.uint8(1) != 0
        found = []
        for i in np.flatnonzero(may):
            block = int(np.searchsorted(self._first, wanted[i], side="right")) - 1
            if block < 0:
                continue
            start = block * self.BLOCK
            keys = np.frombuffer(self._read(start * 8, min(self.BLOCK, self._count - start) * 8), "<u8")
            inside = int(np.searchsorted(keys, wanted[i]))
            if inside < len(keys) and keys[inside] == wanted[i]:
                number = np.frombuffer(self._read(self._count * 8 + (start + inside) * 4, 4), "<u4")
                found.append((int(i), int(number[0])))
        return found

    def _read(self, at: int, size: int) -> bytes:
        self._stream.seek(at)
        return self._stream.read(size)

    def close(self) -> None:
        self._stream.close()


# -- nearly the same ---------------------------------------------------------------------------------------------------


class _Hashes(dict[str, int]):
    """Numbers of words; those that were met are remembered, as they come again."""

    def __missing__(self, word: str) -> int:
        number = self[word] = zlib.crc32(word.encode("utf-8", "replace"))
        return number


class Shingles:
    """A text as a set of numbers: one for every three words in a row; five letters where words are not set apart.

    Case and punctuation do not count. A text of fewer words than that is the one element of its set.
    """

    def __init__(self) -> None:
        self._hashes = _Hashes()

    def __call__(self, text: str) -> npt.NDArray[np.uint32]:
        """The elements, in the order of the text; one may come more than once."""
        words: Sequence[str] = words_of(text)
        letters = sum(map(len, words))
        width = SHINGLE
        if letters > 12 * len(words):  # Chinese, Japanese, Thai
            words, width = "".join(words), LETTERS
        if len(self._hashes) > 200_000:
            self._hashes.clear()
        each = np.fromiter(map(self._hashes.__getitem__, words), np.uint64, len(words))
        width = max(1, min(width, len(each)))
        mixed = np.zeros(max(0, len(each) - width + 1), dtype=np.uint64)
        for at in range(width):
            mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + each[at : at + len(mixed)] + np.uint64(at + 1)
            mixed ^= mixed >> np.uint64(29)
        return (mixed >> np.uint64(16)).astype(np.uint32)


def _mixed(numbers: Numbers) -> Numbers:
    """The finalizer of MurmurHash3 (Appleby), with which datasketch begins."""
    mixed = numbers ^ numbers >> np.uint32(16)
    mixed *= np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0xC2B2AE35)
    mixed ^= mixed >> np.uint32(16)
    return mixed


def bands(likeness: float, permutations: int = PERMUTATIONS) -> tuple[int, int]:
    """How many bands a signature is cut into, and how many numbers each has: the longest that still find enough.

    Two texts of likeness s share at least one of b bands of r numbers with the probability 1 − (1 − sʳ)ᵇ.

    Source: Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, section 3.4.2.
    """
    for rows in range(permutations, 1, -1):
        count = permutations // rows
        if 1 - (1 - likeness**rows) ** count >= FOUND:
            return count, rows
    return permutations, 1


class Near:
    """Tells which texts are nearly the same as one before: by MinHash (datasketch) and bands of their signatures.

    A text that shares a band with an earlier one is compared by the whole signature, so that chance costs no row.

    Args:
        folder: for the signatures and keys; exists. likeness: share of the shingles of both that both must have.
        limit: keys in memory, see Store.

    Source: Broder 1997; Lee et al. 2022 for what it does to language models.
    """

    def __init__(self, folder: Path, likeness: float, limit: int = 6_000_000) -> None:
        from datasketch import MinHash

        self._likeness = likeness
        self._count, self._rows = bands(likeness)
        self._shingles = Shingles()
        permutations = MinHash(num_perm=PERMUTATIONS, scheme="affine32").permutations
        self._factors, self._terms = (np.asarray(each, np.uint32).reshape(-1, 1) for each in permutations)
        self._room = np.empty((PERMUTATIONS, AT_ONCE), np.uint32)
        self._store = Store(folder, "near", limit)
        self._file = open(folder / "near.signatures", "w+b")  # noqa: SIM115 - closed with this
        self._size = 0

    def signature(self, text: str) -> npt.NDArray[np.uint32] | None:
        """The MinHash of a text; None for one without words."""
        shingles = self._shingles(text)
        if not len(shingles):
            return None
        mixed = _mixed(shingles)
        lowest = np.full(PERMUTATIONS, 0xFFFF_FFFF, np.uint32)
        # What datasketch does, with a row for each permutation and in pieces that stay in the processor's cache.
        for at in range(0, len(mixed), AT_ONCE):
            piece = mixed[at : at + AT_ONCE]
            room = self._room[:, : len(piece)]
            np.multiply(self._factors, piece, out=room)
            np.add(room, self._terms, out=room)
            np.minimum(lowest, room.min(axis=1), out=lowest)
        return lowest

    def seen(self, text: str) -> bool:
        """Whether a text is nearly the same as one before; where it is not, it is remembered."""
        signature = self.signature(text)
        if signature is None:
            return False
        keys = self._keys(signature)
        short = (signature & np.uint32(0xFFFF)).astype("<u2")
        for number in sorted({number for number in self._store.find(keys) if number >= 0}):
            if float(np.mean(self._kept(number) == short)) >= self._likeness:
                return True
        self._file.seek(0, os.SEEK_END)
        self._file.write(short.tobytes())
        self._store.add(keys, self._size)
        self._size += 1
        return False

    def _keys(self, signature: npt.NDArray[np.uint32]) -> list[int]:
        """A number for each band. Only a first sieve: what shares one is compared by all of its signature."""
        cut = signature[: self._count * self._rows].astype(np.uint64).reshape(self._count, self._rows)
        keys = np.arange(1, self._count + 1, dtype=np.uint64)
        for column in range(self._rows):
            keys = (keys ^ cut[:, column]) * np.uint64(0x9E3779B97F4A7C15)
            keys ^= keys >> np.uint64(32)
        return (keys * np.uint64(0xBF58476D1CE4E5B9) ^ keys >> np.uint64(29)).tolist()

    def _kept(self, number: int) -> npt.NDArray[np.uint16]:
        self._file.seek(number * PERMUTATIONS * 2)
        return np.frombuffer(self._file.read(PERMUTATIONS * 2), "<u2")

    def close(self) -> None:
        self._store.close()
        self._file.close()
