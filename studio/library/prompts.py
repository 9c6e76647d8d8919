"""What helps to write the words of a picture: wildcard lists, styles and presets, and what is made of them.

Knows files and text; knows no tokenizer, no model and no widget. What is read is bounded, whatever lies in the folder,
and a file that cannot be understood is set aside, never overwritten.
"""

from __future__ import annotations

import csv
import io
import os
import re
import secrets
import stat
import sys
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from studio.core.cards import ModelCard
from studio.core.declare import fields
from studio.core.files import sync_folder, write_durably
from studio.core.paths import Paths
from studio.core.problems import BadRecipe, NotRead, NotSaved
from studio.core.recipes import PROMPT_LIMIT, SEED_LIMIT, Lora, check
from studio.core.text import clean, shown
from studio.core.wording import Style, apply_style, expand, lora_tags, read_styles_csv

LIST_LIMIT = 1_000_000  # bytes of a wildcard list; what comes after them is not read
MOST_LISTS = 5_000
MOST_STYLES = 10_000
MOST_PRESETS = 1_000
NAME_LIMIT = 80  # characters of a style's or preset's name
_MOST_LOOKED_AT = 50_000  # entries of the folder of wildcards, of whatever kind
_DEEPEST = 8  # folders within folders
_FILE_LIMIT = 32_000_000  # bytes of styles.json, presets.json and a styles.csv
_WEIGHT = next(field for field in fields(Lora) if field.name == "weight")

# Of the form: what belongs to one picture and not to a way of making many.
PASSING = ("prompt", "seed", "variation_seed", "image", "mask", "extend", "made_with")

T = TypeVar("T", bound=msgspec.Struct)


class _Styles(msgspec.Struct, frozen=True):
    styles: tuple[Style, ...] = ()
    format: Literal[1] = 1


class _Presets(msgspec.Struct, frozen=True):
    presets: dict[str, dict[str, Any]] = {}
    format: Literal[1] = 1


class Worded(msgspec.Struct, frozen=True):
    """What a form's values become once its words are final.

    Attributes:
        given: one set of values per job, for `Session.recipe`. notes: what a person should know of it.
    """

    given: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()


class Prompts:
    """The folder `wildcards` and the files `styles.json` and `presets.json`. Thread-safe."""

    def __init__(self, paths: Paths) -> None:
        self._home, self._damaged = paths.home, paths.damaged
        self.folder = paths.home / "wildcards"
        self._lock = threading.RLock()
        self._notes: list[str] = []

    def take_notes(self) -> tuple[str, ...]:
        """Sentences on files that were set aside since this was asked last."""
        with self._lock:
            notes, self._notes = tuple(dict.fromkeys(self._notes)), []
        return notes

    # -- styles -----------------------------------------------------------------------------------------------------

    def styles(self) -> tuple[Style, ...]:
        """The styles, by name. Raises NotRead: the disk refuses."""
        found = {style.name: style for style in self._read("styles.json", "styles", _Styles).styles}
        return tuple(sorted(found.values(), key=lambda style: (style.name.casefold(), style.name)))

    def save_style(self, style: Style) -> None:
        """Keep a style; one of the same name is replaced.

        Raises:
            BadRecipe: it has no name, no words, or too many of them. NotRead, NotSaved.
        """
        style = Style(_name(style.name, "style"), clean(style.prompt)[0], clean(style.negative)[0])
        if not style.prompt.strip() and not style.negative.strip():
            raise BadRecipe("A style needs words, and there are none.", "Write a prompt first.")
        if max(len(style.prompt), len(style.negative)) > PROMPT_LIMIT:
            raise BadRecipe(f"A style may have at most {PROMPT_LIMIT:,} characters.")
        with self._lock:
            self._write_styles([*(s for s in self.styles() if s.name != style.name), style])

    def remove_style(self, name: str) -> bool:
        """Forget a style. Returns whether it was there. Raises NotRead, NotSaved."""
        with self._lock:
            styles = self.styles()
            kept = [style for style in styles if style.name != name]
            if len(kept) < len(styles):
                self._write_styles(kept)
            return len(kept) < len(styles)

    def import_styles(self, path: Path) -> int:
        """Take over the styles of an A1111 styles.csv. What is here stays: another one of the same name gets a number.

        Returns:
            How many were not here before.

        Raises:
            NotRead: the file cannot be read, or is no such table. NotSaved.
        """
        name = shown(path.name)
        try:
            data = _content(path, _FILE_LIMIT + 1)
        except FileNotFoundError:
            raise NotRead(f"There is no file “{name}”.", "Was it moved or deleted?") from None
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise NotRead(f"“{name}” cannot be read: {reason or error}.") from None
        if len(data) > _FILE_LIMIT:
            raise NotRead(f"“{name}” has more than {_FILE_LIMIT:,} bytes; it is no list of styles.")
        with self._lock:
            known = {style.name: style for style in self.styles()}
            before = len(known)
            for style in read_styles_csv(clean(_decoded(data))[0]):
                words = style.prompt[:PROMPT_LIMIT], style.negative[:PROMPT_LIMIT]
                if not any(text.strip() for text in words):
                    continue  # A1111's users write headings into their lists so
                own = Style(shown(style.name, NAME_LIMIT), *words)
                number = 2
                while own.name in known and known[own.name] != own:
                    own = Style(f"{shown(style.name, NAME_LIMIT - 8)} ({number})", *words)
                    number += 1
                known[own.name] = own
            if len(known) > before:
                self._write_styles(list(known.values()))
            return len(known) - before

    def export_styles(self, path: Path) -> None:
        """Write the styles as A1111 reads them. A file of that name is replaced. Raises NotRead, NotSaved."""
        table = io.StringIO(newline="")
        rows = csv.writer(table)
        rows.writerow(("name", "prompt", "negative_prompt"))
        rows.writerows((style.name, style.prompt, style.negative) for style in self.styles())
        try:
            write_durably(path, table.getvalue().encode("utf-8-sig", "replace"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise NotSaved(f"“{shown(path.name)}” could not be written: {reason or error}.") from None

    def _write_styles(self, styles: list[Style]) -> None:
        if len(styles) > MOST_STYLES:
            raise BadRecipe(f"There can be at most {MOST_STYLES:,} styles.", "Remove some first.")
        self._write("styles.json", "styles", _Styles(tuple(styles)))

    # -- presets ----------------------------------------------------------------------------------------------------

    def presets(self) -> dict[str, dict[str, Any]]:
        """Name -> values of the form, by name. A value that this studio cannot use is passed over, and stays in the
        file. Raises NotRead."""
        found = self._read("presets.json", "presets", _Presets).presets
        return {
            name: {field: value for field, value in found[name].items() if not _complaint(field, value)}
            for name in sorted(found, key=lambda name: (name.casefold(), name))
        }

    def save_preset(self, name: str, values: dict[str, Any]) -> None:
        """Keep values of the form of a picture under a name, without what belongs to one picture only.

        Raises:
            BadRecipe: there is no name, or a value is none that a recipe could have. NotRead, NotSaved.
        """
        name, kept = _name(name, "preset"), lasting(values)
        for field, value in kept.items():
            if problem := _complaint(field, value):
                raise problem
        with self._lock:
            presets = self._read("presets.json", "presets", _Presets).presets
            if len(presets) >= MOST_PRESETS and name not in presets:
                raise BadRecipe(f"There can be at most {MOST_PRESETS:,} presets.", "Remove some first.")
            self._write("presets.json", "presets", _Presets({**presets, name: kept}))

    def remove_preset(self, name: str) -> bool:
        """Forget a preset. Returns whether it was there. Raises NotRead, NotSaved."""
        with self._lock:
            presets = self._read("presets.json", "presets", _Presets).presets
            if name not in presets:
                return False
            self._write("presets.json", "presets", _Presets({n: v for n, v in presets.items() if n != name}))
            return True

    # -- wildcards --------------------------------------------------------------------------------------------------

    def wildcards(self) -> tuple[str, ...]:
        """The names of the lists, as they stand between two pairs of underscores."""
        return tuple(sorted(self._lists(), key=lambda name: (name.casefold(), name)))

    def wildcard(self, name: str) -> tuple[str, ...]:
        """The lines of a list without comments; none where there is no such list, or it cannot be read."""
        return _Lists(self._lists()).lines(name)

    def make_folder(self) -> Path:
        """The folder of wildcards, made where it is not there yet. Raises NotSaved."""
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise NotSaved(f"The folder of wildcards could not be made: {error.strerror or error}.") from None
        return self.folder

    def _lists(self) -> dict[str, Path]:
        """Name -> file. A name is looked up here and never made into a path, so that it cannot lead elsewhere."""
        found: dict[str, Path] = {}
        waiting: list[tuple[Path, str, int]] = [(self.folder, "", 0)]
        looked_at = 0
        while waiting:
            folder, before, depth = waiting.pop(0)
            for entry in _entries(folder, _MOST_LOOKED_AT - looked_at):
                looked_at += 1
                try:
                    # links are not followed: they may lead in circles, or out of the folder
                    is_folder, is_file = entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False)
                except OSError:
                    continue
                if is_folder and depth < _DEEPEST and (part := _as_part(entry.name)):
                    waiting.append((Path(entry.path), f"{before}{part}/", depth + 1))
                elif is_file and entry.name.lower().endswith(".txt") and (part := _as_part(entry.name[:-4])):
                    name = before + part
                    if len(name) <= 200:
                        found.setdefault(name, Path(entry.path))
                    if len(found) >= MOST_LISTS:
                        return found
        return found

    # -- words ------------------------------------------------------------------------------------------------------

    def worded(self, given: dict[str, Any], cards: Iterable[ModelCard] = ()) -> Worded:
        """Make the final words of what a form gives.

        In this order: the chosen styles are laid around prompt and negative prompt; what is left to chance is chosen by
        the seed, which is fixed here where it was empty; tags of LoRAs leave the prompt and become LoRAs.

        Args:
            given: field of ImageRecipe -> value, and under “styles” the names of the chosen ones, in order.
            cards: of the LoRAs that are there; cards of other kinds are passed over.

        Returns:
            One set of values; or, where something is left to chance and several pictures are wanted, one for each,
            with seed, seed + 1, …, since each has words of its own.

        Raises:
            BadRecipe: a list that names itself, or words that would be too long. NotRead: the styles.
        """
        rest = {name: value for name, value in given.items() if name != "styles"}
        notes: list[str] = []
        prompt, negative = self._styled(rest, given.get("styles") or (), notes)
        rest |= {"prompt": prompt, **({"negative": negative} if negative or "negative" in given else {})}
        seed, count = rest.get("seed"), rest.get("count")
        if not (seed is None or _is_whole(seed, SEED_LIMIT)) or not (count is None or _is_whole(count, 65)):
            return Worded((rest,), tuple(notes))  # whoever checks the recipe says what is wrong with it
        first = seed if seed is not None else secrets.randbelow(SEED_LIMIT)
        lists = _Lists(self._lists() if "__" in prompt or "__" in negative else {}, notes)
        loras = _Loras(cards)
        made: list[dict[str, Any]] = []
        for at in range(count or 1):
            own = (first + at) % SEED_LIMIT  # as the engine counts
            words, avoid = expand(prompt, own, lists.lines), expand(negative, own, lists.lines)
            notes += [*words.notes, *avoid.notes]
            by_chance = bool(words.chosen or avoid.chosen)
            values = {**rest, "prompt": words.text}
            if "negative" in values:
                values["negative"] = avoid.text
            if by_chance:
                values |= {"seed": own, "count": 1}
            made.append(loras.taken(values, notes))
            if not by_chance:
                break
        return Worded(tuple(made), tuple(dict.fromkeys(notes)))

    def _styled(self, given: dict[str, Any], chosen: Sequence[str], notes: list[str]) -> tuple[str, str]:
        texts = [str(given.get("prompt") or ""), str(given.get("negative") or "")]
        known = {style.name: style for style in self.styles()} if chosen else {}
        for name in dict.fromkeys(chosen):
            style = known.get(name)
            if style is None:
                notes.append(f"There is no style “{shown(name)}” any more; it was left out.")
                continue
            for at, frame in enumerate((style.prompt, style.negative)):
                if not frame.strip():
                    continue
                if len(frame) + max(1, frame.count("{prompt}")) * len(texts[at]) > PROMPT_LIMIT:
                    raise BadRecipe(
                        f"In the style “{shown(name)}” the prompt would be longer than {PROMPT_LIMIT:,} characters.",
                        "Take the style away, or shorten the prompt.", field="prompt",
                    )  # fmt: skip
                texts[at] = apply_style(texts[at], frame)
        return texts[0], texts[1]

    # -- files ------------------------------------------------------------------------------------------------------

    def _read(self, file: str, what: str, kind: type[T]) -> T:
        path = self._home / file
        with self._lock:
            try:
                data = _content(path, _FILE_LIMIT + 1)
            except FileNotFoundError:
                return kind()
            except OSError as error:
                raise NotRead(f"The {what} could not be read: {error.strerror or error}.") from None
            if len(data) <= _FILE_LIMIT:
                try:
                    return msgspec.json.decode(data, type=kind)
                except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
                    print(f"{path}: {error}", file=sys.stderr)
            self._set_aside(path, what)
            return kind()

    def _set_aside(self, path: Path, what: str) -> None:
        """Move a file that cannot be understood to the damaged ones, under a name that is free."""
        try:
            self._damaged.mkdir(mode=0o700, exist_ok=True)
            number, place = 1, self._damaged / path.name
            while os.path.lexists(place):
                number += 1
                place = self._damaged / f"{path.stem}-{number}{path.suffix}"
            os.rename(path, place)
            sync_folder(self._damaged)
            sync_folder(path.parent)
        except OSError as error:
            raise NotRead(
                f"The {what} are damaged, and could not be set aside: {error.strerror or error}.",
                f"Move the file {path} away.",
            ) from None
        aside = place.relative_to(self._home).as_posix()
        self._notes.append(f"The {what} could not be understood; their file is kept as {aside} in the data folder.")

    def _write(self, file: str, what: str, value: msgspec.Struct) -> None:
        try:
            data = msgspec.json.format(msgspec.json.encode(value), indent=1)
            if len(data) > _FILE_LIMIT:
                raise NotSaved(f"The {what} would take more than {_FILE_LIMIT:,} bytes.", "Remove some first.")
            write_durably(self._home / file, data)
        except OSError as error:
            raise NotSaved(f"The {what} could not be written: {error.strerror or error}.") from None


def lasting(values: dict[str, Any]) -> dict[str, Any]:
    """Values of a form without what belongs to one picture: its words, its seed, its input pictures. Plain data."""
    kept = {n: _cleaned(msgspec.to_builtins(v)) for n, v in values.items() if n not in PASSING and v is not None}
    for field in ("controls", "references"):
        if isinstance(kept.get(field), list):
            kept[field] = [{**each, "image": ""} for each in kept[field] if isinstance(each, dict)]
    return kept


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)[0]
    if isinstance(value, dict):
        return {name: _cleaned(each) for name, each in value.items()}
    return [_cleaned(each) for each in value] if isinstance(value, (list, tuple)) else value


def _complaint(field: str, value: Any) -> BadRecipe | None:
    """What is wrong with one value of a preset."""
    try:
        if field in PASSING:
            return BadRecipe(f"{field} is not kept in a preset.", field=field)
        check("image", {"prompt": "-", field: value})
    except BadRecipe as problem:
        return problem
    return None


def _name(name: str, what: str) -> str:
    name = " ".join(clean(name)[0].split())
    if not name:
        raise BadRecipe(f"The {what} has no name.", "Give it one.", field="name")
    if len(name) > NAME_LIMIT:
        raise BadRecipe(f"The name of a {what} may have at most {NAME_LIMIT} characters.", field="name")
    return name


def _is_whole(value: Any, below: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < below


def _content(path: Path, limit: int) -> bytes:
    """At most `limit` bytes of a file. Raises OSError; also where it is no file: opening a pipe might wait for ever."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(f"{path.name} is not a file")
    with open(path, "rb") as stream:
        return stream.read(limit)


def _decoded(data: bytes) -> str:
    """Text in whatever a text editor wrote; no byte is refused."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


# -- lists


def _entries(folder: Path, most: int) -> Iterator[os.DirEntry[str]]:
    """What lies in a folder, by name; nothing where it cannot be looked into."""
    try:
        with os.scandir(folder) as found:
            entries = [entry for _, entry in zip(range(max(0, most)), found, strict=False)]
    except OSError:
        return iter(())
    return iter(sorted(entries, key=lambda entry: entry.name))


_EDGES = re.compile(r"^[\W_]+|[\W_]+$")
_STRANGE = re.compile(r"[^\w -]")


def _as_part(name: str) -> str:
    """A file's or folder's name as a part of a wildcard's name: what cannot be written there becomes a dash."""
    text = _STRANGE.sub("-", unicodedata.normalize("NFC", name))
    return _EDGES.sub("", re.sub("_{2,}", "_", text))


class _Lists:
    """The lists of one moment. Each is read once. notes: where to say what was not read."""

    def __init__(self, files: dict[str, Path], notes: list[str] | None = None) -> None:
        self._files, self._notes = files, notes if notes is not None else []
        self._folded: dict[str, Path] = {}
        for name, path in files.items():
            self._folded.setdefault(name.casefold(), path)
        self._read: dict[Path, tuple[str, ...]] = {}

    def lines(self, name: str) -> tuple[str, ...]:
        name = unicodedata.normalize("NFC", name)
        path = self._files.get(name) or self._folded.get(name.casefold())
        if path is None:
            return ()
        if path not in self._read:
            self._read[path] = self._lines(path)
        return self._read[path]

    def _lines(self, path: Path) -> tuple[str, ...]:
        try:
            data = _content(path, LIST_LIMIT + 1)
        except OSError as error:
            self._notes.append(f"The list “{shown(path.name)}” could not be read: {error.strerror or error}.")
            return ()
        if len(data) > LIST_LIMIT:
            # a line that was cut through would be another one
            data = data[: data[:LIST_LIMIT].rfind(b"\n") + 1]
            self._notes.append(f"The list “{shown(path.name)}” has more than {LIST_LIMIT:,} bytes; the rest is unread.")
        stripped = (line.strip() for line in clean(_decoded(data))[0].split("\n"))
        return tuple(line for line in stripped if line and not line.startswith("#"))


# -- LoRAs

_TAG = re.compile(r"<(?:lora|lyco):([^<>:]{1,300})(?::[^<>:]{0,100}){0,8}>", re.IGNORECASE)


class _Loras:
    """LoRAs by what a tag may call them: id, name, or the name of the file."""

    def __init__(self, cards: Iterable[ModelCard]) -> None:
        self._ids: dict[str, str] = {}
        mine = [card for card in cards if card.kind == "lora"]
        for name_of in (_id, _title, _stem):  # an id is meant before a name, and a name before a file's
            for card in mine:
                self._ids.setdefault(name_of(card), card.id)

    def find(self, name: str) -> str:
        """The id of a LoRA, or nothing."""
        whole = name.strip().casefold().removesuffix(".safetensors")
        return self._ids.get(whole) or self._ids.get(whole.replace("\\", "/").rpartition("/")[2]) or ""

    def taken(self, values: dict[str, Any], notes: list[str]) -> dict[str, Any]:
        """The values with the tags of known LoRAs taken out of the prompt; the others stay words."""
        prompt = values["prompt"]
        # a character that is not in the prompt stands in for the tags that stay while the others are taken out
        used = set(prompt)
        mark = next(chr(at) for at in range(0xE000, 0x110000) if chr(at) not in used)
        stays: list[str] = []

        def hold(tag: re.Match[str]) -> str:
            if self.find(tag[1]):
                return tag[0]
            stays.append(tag[0])
            notes.append(f"There is no LoRA “{shown(tag[1].strip())}” here; “{shown(tag[0])}” stayed in the prompt.")
            return mark

        without, tags, said = lora_tags(_TAG.sub(hold, prompt))
        notes += said
        again = iter(stays)
        values = {**values, "prompt": re.sub(mark, lambda _: next(again), without)}
        if tags:
            chosen = {str(each.get("model")): each for each in msgspec.to_builtins(values.get("loras") or ())}
            for name, weight in tags:
                lora = self.find(name)
                held = max(_WEIGHT.low or 0.0, min(_WEIGHT.high or 0.0, weight))
                if held != weight:
                    notes.append(f"The LoRA “{shown(name)}” takes at most a weight of {held:g}.")
                same = next((key for key in chosen if key == lora or self.find(key) == lora), lora)
                chosen[same] = {"model": lora, "weight": held}
            values["loras"] = tuple(chosen.values())
        return values


def _id(card: ModelCard) -> str:
    return card.id.casefold()


def _title(card: ModelCard) -> str:
    return card.name.casefold()


def _stem(card: ModelCard) -> str:
    return Path(card.path).stem.casefold()
