"""Which models are there, and which one is meant. Knows folders, names and a cache of cards; opens nothing.

Functions without memory: the cache is a file that may vanish or be damaged at any time. What it does not know is
looked at in a process of its own (looking.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from studio.core.cards import ADDITIONS, Broken, Looked, ModelCard
from studio.core.paths import Paths, assets_folder
from studio.core.problems import ModelBroken, ModelMissing, ModelRefused, ModelUnfit, StudioError
from studio.core.text import shown
from studio.models.about import about_path
from studio.models.fingerprint import fingerprint, model_files, write_cache
from studio.models.identify import CANDIDATES
from studio.models.look_program import Answer, answer_of
from studio.models.looking import Unasked, Unread, looks
from studio.models.starter import joe_path, picture_path, starter_folder, starters

CACHE_VERSION = 4  # raised when cards of the same files would come out differently
ENTRIES_LIMIT = 5_000  # entries of one folder
CACHE_LIMIT = 2_000  # remembered answers
UNREAD_SECONDS = 3600  # a look that did not end is not tried again so soon: it may take ten seconds, every time
PART_FOLDERS = {"image_encoder"}  # never models by themselves: an IP-Adapter beside them reads through them
WHOLE_FOLDERS = ("model_index.json", "config.json", "adapter_config.json")  # a folder with one of these is a model
DEPTH = 2  # folders below the models folder that are entered

_KINDS = {"text": "a text model", "image": "a picture model", "speech": "a voice", **ADDITIONS}
_ERRORS: dict[str, type[StudioError]] = {
    "model_missing": ModelMissing,
    "model_broken": ModelBroken,
    "model_refused": ModelRefused,
    "model_unfit": ModelUnfit,
}

# Threads that ask at the same time would look at the same new files, and write the same cache.
_LOOKING = threading.Lock()


class _Remembered(Answer, frozen=True, omit_defaults=True, kw_only=True):
    """What a look said, and the state of the files it was said of. `at`: seconds since 1970, of a look without end."""

    signature: str
    at: float = 0.0

    def holds(self, signature: str) -> bool:
        if not signature or self.signature != signature:
            return False
        return not self.at or 0 <= time.time() - self.at < UNREAD_SECONDS


class _Cache(msgspec.Struct):
    version: int = CACHE_VERSION
    looks: dict[str, _Remembered] = {}


class _Memory:
    """Looks that are remembered as long as names, sizes and times of the files stay the same."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.changed = False
        self._used: dict[str, _Remembered] = {}
        cache = _Cache()
        with contextlib.suppress(OSError, ValueError, msgspec.DecodeError, RecursionError):
            data = file.read_bytes()
            try:
                cache = msgspec.json.decode(data, type=_Cache)
            except msgspec.DecodeError:  # damaged, or with a path that is not text
                cache = msgspec.convert(json.loads(data), _Cache)
        self._known = cache.looks if cache.version == CACHE_VERSION else {}

    def learn(self, paths: Sequence[Path]) -> None:
        """Know all of these: from earlier, or by looking at all the others together."""
        unknown: dict[str, tuple[Path, str]] = {}
        for path in paths:
            key, signature = str(path.absolute()), _signature(path)
            known = self._known.get(key)
            if known is not None and known.holds(signature):
                self._used[key] = known
            else:
                unknown[key] = path, signature
        self.changed = self.changed or bool(unknown)
        answers = looks([path for path, _ in unknown.values()])
        for (key, (_, signature)), looked in zip(unknown.items(), answers, strict=True):
            said = answer_of(looked)
            signature = "" if isinstance(looked, Unasked) else signature  # without one it is not kept
            at = time.time() if isinstance(looked, Unread) else 0.0
            self._used[key] = _Remembered(card=said.card, broken=said.broken, why=said.why, signature=signature, at=at)

    def look(self, path: Path) -> Looked:
        key = str(path.absolute())
        if key not in self._used:
            self.learn([path])
        return self._used[key].looked

    def save(self) -> None:
        if not self.changed and len(self._used) == len(self._known):
            return
        signed = [(key, known) for key, known in self._used.items() if known.signature]
        cache = _Cache(looks=dict(signed[:CACHE_LIMIT]))
        try:
            data = msgspec.json.encode(cache)
        except UnicodeEncodeError:  # a path that is not text
            data = json.dumps(msgspec.to_builtins(cache)).encode("ascii")
        write_cache(self.file, data)


def _signature(path: Path) -> str:
    """Changes whenever a file that a look reads was changed; empty when the path cannot be read."""
    try:
        if path.is_dir():
            files = [file for _, file in model_files(path)]
        else:
            # settings and other parts lie beside the file and share its beginning
            stem = path.name.split("-00001-of-")[0] if "-00001-of-" in path.name else path.name
            files = [Path(e.path) for e in os.scandir(path.parent) if e.name.startswith(stem)]
        about = about_path(path)
        lines = [str(path.resolve())]
        for file in sorted({*files, about}):
            if file == about and not file.exists():
                continue
            status = file.stat()
            lines.append(f"{file.name} {status.st_size} {status.st_mtime_ns}")
    except (OSError, ValueError):
        return ""
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def found(paths: Paths, extra: Sequence[Path] = ()) -> tuple[list[ModelCard], list[tuple[Path, Broken]]]:
    """Every model of this studio: the starters, what lies in the models folder, and paths added by hand.

    Args:
        paths: the studio's folders; none of them has to exist.
        extra: files and folders of the user's own.

    Returns:
        Cards with ids that are unique in the list, starters first; and what is unusable, with the reason. A model
        that is there twice is listed once. What is new or changed is looked at in one process of its own; where
        nothing is, none is started. May be called from several threads.
    """
    skip = starter_folder(paths.models)
    with _LOOKING:
        memory = _Memory(paths.cache / "cards.json")
        places = [("data", path) for path in _candidates(paths.models, skip)] + [("user", path) for path in extra]
        shipped = [path for path in (picture_path(assets_folder()), joe_path()) if path is not None and path.exists()]
        memory.learn([*shipped, *(path for _, path in places)])
        cards, broken = starters(paths.models, assets_folder(), memory.look)
        for source, path in places:
            looked = memory.look(path)
            if isinstance(looked, ModelCard):
                cards.append(msgspec.structs.replace(looked, source=source))
            elif isinstance(looked, Broken):
                broken.append((path, looked))
            else:
                broken.append((path, Broken(looked.why, "", "model_unfit")))
        memory.save()
    return _unique(cards, paths.cache), broken


def _candidates(folder: Path, skip: Path) -> Iterator[Path]:
    """Files and folders below `folder` that may be models. Loops of links are entered once."""
    entered: set[tuple[int, int]] = set()

    def walk(place: Path, depth: int) -> Iterator[Path]:
        try:
            status = place.stat()
            entries = sorted(_entries(place), key=lambda e: e.name)
        except OSError:
            return
        if (status.st_dev, status.st_ino) in entered:
            return
        entered.add((status.st_dev, status.st_ino))
        for entry in entries:
            path = Path(entry.path)
            try:
                is_folder, is_file = entry.is_dir(), entry.is_file()
            except OSError:  # a link that leads to itself
                continue
            if is_file and path.suffix.lower() in CANDIDATES and not _later_part(path.name):
                yield path
            elif is_folder and path != skip and entry.name not in PART_FOLDERS:
                if any((path / name).is_file() for name in WHOLE_FOLDERS):
                    inside = path.stat()
                    if (inside.st_dev, inside.st_ino) not in entered:
                        entered.add((inside.st_dev, inside.st_ino))
                        yield path
                elif depth < DEPTH:
                    yield from walk(path, depth + 1)

    return walk(folder, 0)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        visible = (e for e in entries if not e.name.startswith("."))
        return [entry for _, entry in zip(range(ENTRIES_LIMIT), visible, strict=False)]


def _later_part(name: str) -> bool:
    return "-of-" in name and "-00001-of-" not in name


def _unique(cards: list[ModelCard], cache: Path) -> list[ModelCard]:
    """Each model once, the first of its copies; and each id once."""
    kept: list[ModelCard] = []
    ids: set[str] = set()
    places: set[str] = set()
    samples: dict[tuple[str, int], list[ModelCard]] = {}
    for card in cards:
        real = os.path.realpath(card.path)
        twins = samples.setdefault((card.format, card.bytes), [])
        if real in places or (twins and any(_same(card, other, cache) for other in twins)):
            continue
        places.add(real)
        twins.append(card)
        if card.id in ids:
            digest = hashlib.sha256(real.encode("utf-8", "surrogatepass")).hexdigest()
            card = msgspec.structs.replace(card, id=f"{card.id}-{digest[6:18]}")
        ids.add(card.id)
        kept.append(card)
    return kept


def _same(one: ModelCard, other: ModelCard, cache: Path) -> bool:
    """Whether two models of equal size are copies: first by samples, which nearly all differ in, then by checksum."""
    # of a model that is still in parts only the first part can be compared
    limit = min((c.parts[0].bytes for c in (one, other) if c.parts), default=one.bytes)
    mine, theirs = _sample(one, limit), _sample(other, limit)
    if not mine or mine != theirs:
        return False
    if one.parts or other.parts:
        return True  # a starter of ours, whose parts are not put together yet
    try:
        # a merge may change a few numbers only; once per model, the cache remembers it
        return fingerprint(Path(one.path), cache) == fingerprint(Path(other.path), cache)
    except StudioError:
        return False


def _sample(card: ModelCard, limit: int) -> str:
    """A checksum of pieces of the weights. Only asked for models of exactly equal size: hashing gigabytes at every
    start would take minutes, and different weights differ everywhere."""
    path = Path(card.path)
    digest = hashlib.sha256()
    try:
        if not path.is_dir():
            if card.parts and not path.exists():
                path = Path(card.parts[0].path)
            _sample_file(path, digest.update, min(limit, path.stat().st_size))
        else:
            for name, file in model_files(path):
                digest.update(name.encode("utf-8", "surrogatepass"))
                _sample_file(file, digest.update, file.stat().st_size)
    except OSError:
        return ""
    return digest.hexdigest()


def _sample_file(path: Path, update: Callable[[bytes], None], size: int) -> None:
    with open(path, "rb") as stream:
        for place in range(16):
            stream.seek(size // 16 * place)
            update(stream.read(min(16_384, size // 16 + 16)))


def choose(cards: Sequence[ModelCard], kind: str, name_or_path: str = "") -> ModelCard:
    """The model that is meant.

    Args:
        cards: from `found()`.
        kind: "text", "image" or "speech".
        name_or_path: an id, a name, a file name or a path; empty takes a starter of that kind, else the first.

    Raises:
        ModelMissing: no such model; near names are listed. ModelBroken, ModelRefused: a path that cannot be used,
            with the reason. ModelUnfit: it is a model of another kind.
    """
    fitting = [c for c in cards if c.kind == kind]
    wanted = name_or_path.strip()
    if not wanted:
        first = next((c for c in fitting if c.source == "starter"), None) or next(iter(fitting), None)
        if first is None:
            raise ModelMissing(f"There is no {_plain(kind)} yet.", "Put one into the models folder or give its path.")
        return first
    card = _named(fitting, wanted) or _named(cards, wanted)
    if card is None:
        card = _at_path(cards, kind, wanted)
    if card.kind != kind:
        raise ModelUnfit(
            f"“{shown(card.name)}” is {_KINDS.get(card.kind, card.kind)}, not {_KINDS.get(kind, kind)}.",
            f"Choose {_KINDS.get(kind, kind)}.",
        )
    return card


def listed(cards: Sequence[ModelCard], card: ModelCard, cache: Path) -> ModelCard:
    """The card in the list that stands for the same model: of the same path, or else of a copy of the same content.

    Args:
        cache: the folder where checksums are remembered.

    Returns:
        `card` itself where none does.
    """
    real = os.path.realpath(card.path)
    at_path = next((c for c in cards if os.path.realpath(c.path) == real), None)
    if at_path is not None:
        return at_path
    copies = (c for c in cards if (c.format, c.bytes) == (card.format, card.bytes) and _same(card, c, cache))
    return next(copies, card)


def _plain(kind: str) -> str:
    return _KINDS.get(kind, kind).split(" ", 1)[-1]


def _named(cards: Sequence[ModelCard], wanted: str) -> ModelCard | None:
    folded = wanted.casefold()
    tests: tuple[Callable[[ModelCard], bool], ...] = (
        lambda c: c.id == wanted,
        lambda c: c.id.casefold() == folded,
        lambda c: c.name.casefold() == folded,
        lambda c: Path(c.path).name.casefold() == folded,
        lambda c: Path(c.path).stem.casefold() == folded,
    )
    return next((c for test in tests for c in cards if test(c)), None)


def _at_path(cards: Sequence[ModelCard], kind: str, wanted: str) -> ModelCard:
    path = Path(wanted)
    try:
        path = path.expanduser()
        there = path.exists()
    except (OSError, ValueError, RuntimeError):  # too long; a NUL; no home folder
        there = False
    if there:
        real = os.path.realpath(path)
        known = next((c for c in cards if os.path.realpath(c.path) == real), None)
        if known is not None:
            return known
        return examine(path, f"Choose {_KINDS.get(kind, kind)}.")
    if any(sign in wanted for sign in ("/", "\\")) or path.suffix.lower() in CANDIDATES:
        known = next((c for c in cards if c.parts and c.path == str(path.absolute())), None)
        if known is not None:
            return known  # a starter that is not put together yet
        raise ModelMissing(f"There is no file or folder “{shown(wanted, 200)}”.", "Was it moved or deleted?")
    names = {n.casefold(): c.id for c in cards if c.kind == kind for n in (c.id, c.name)}
    import difflib  # only when a name was mistyped; it takes longer to import than the rest of this file

    close = difflib.get_close_matches(wanted.casefold()[:200], names, n=3, cutoff=0.5)
    near = dict.fromkeys(names[n] for n in close)  # the id and the name of one model may both be close
    hint = f"Did you mean {' or '.join(f'“{n}”' for n in near)}?" if near else _listing(cards, kind)
    raise ModelMissing(f"There is no {_plain(kind)} called “{shown(wanted)}”.", hint)


def examine(path: Path, hint: str = "Choose a model file or folder.") -> ModelCard:
    """The model at a path, looked at anew, in a process of its own.

    Args:
        hint: said where the path holds something, but no model.

    Raises:
        ModelMissing, ModelBroken, ModelRefused, ModelUnfit: with the reason.
    """
    (looked,) = looks([path])
    if isinstance(looked, ModelCard):
        return looked
    code = looked.code if isinstance(looked, Broken) else "model_unfit"
    hint = looked.hint if isinstance(looked, Broken) else hint
    raise _ERRORS.get(code, ModelBroken)(f"“{shown(path.name or str(path))}” cannot be used: {looked.why}.", hint)


def _listing(cards: Sequence[ModelCard], kind: str) -> str:
    names = [f"“{shown(c.name)}”" for c in cards if c.kind == kind]
    return f"There are {', '.join(names[:8])}." if names else "Put one into the models folder or give its path."
