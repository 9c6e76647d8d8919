"""The engine of data sets: sources are read, cleaned, told apart, split, counted, and kept under their checksum.

One pass over the sources, row by row, in memory that does not grow with them:

    sources → readers → washing → the same? nearly the same? → its part → counts → the part's file

A second one over the rows for training adds their counterparts, where that is asked for. Knows the order of these
steps; what each of them does is in the files beside this one.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from studio.core.cards import ModelCard
from studio.core.learning import Dataset, DatasetRecipe
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, ModelUnfit, NotRead, NotSaved, StudioError
from studio.core.recipes import MadeWith, Recipe
from studio.core.text import shown
from studio.core.works import Result
from studio.engines.context import FULL, RunContext
from studio.engines.data import keeping, previews, readers, sources, thumbnails
from studio.engines.data.balance import Balance, Counterparts
from studio.engines.data.cleaning import identifier
from studio.engines.data.counting import Tokenizer
from studio.engines.data.likeness import Near, Store, key_of, split_of
from studio.engines.data.sources import Source
from studio.engines.data.streams import Bad
from studio.engines.data.washing import Kept, Washing

ENGINE = "data.sets"
RESULT = "0.dataset.json"
TOLD_EVERY = 0.2  # seconds between two reports of progress
NOTES = 24  # remarks that are told one by one
LIBRARIES = (
    "charset-normalizer", "datasketch", "ftfy", "mwparserfromhell", "numpy", "pillow", "py3langid", "pyarrow", "warcio",
)  # fmt: skip


class Sets:
    """The engine "data.sets"; see studio/engines/base.py for the contract. It needs no model: any card will do."""

    kind: ClassVar[str] = "dataset"

    def __init__(self) -> None:
        self._plan = Plan()

    def load(self, card: ModelCard, plan: Plan, ctx: RunContext) -> None:
        """Nothing to load."""
        self._plan = plan

    def unload(self) -> None:
        """Nothing but the model that tells languages apart."""
        identifier.cache_clear()

    def made_with(self) -> MadeWith:
        versions = {"python": platform.python_version()}
        for name in LIBRARIES:
            versions[name] = importlib.metadata.version(name)
        return MadeWith(
            engine=ENGINE, threads=self._plan.threads, versions=versions,
            system=f"{platform.system()} {platform.machine()}",
        )  # fmt: skip

    def run(self, recipe: Recipe, ctx: RunContext) -> Result:
        """Make a data set, or only a preview of one.

        Raises:
            NotRead: a source is not there, cannot be read, or holds nothing of use.
            BadRecipe: a column, encoding or language that is named is not there.
            NotSaved: the disk is full or refuses. Nothing is left of the data set then.
        """
        if not isinstance(recipe, DatasetRecipe):
            raise ModelUnfit("This engine makes data sets.")
        ctx.check()
        if recipe.preview_only:
            data = msgspec.json.encode(previews.preview(recipe, ctx.check))
            artifacts = [ctx.save(RESULT, data, meta={"preview": True})]
            return Result(artifacts=tuple(artifacts), made_with=self.made_with())
        began = time.perf_counter()
        made = _Making(recipe, ctx).make()
        rows = {name: split.rows for name, split in made.splits.items()}
        meta = {"dataset": made.id, "shape": made.shape, "sha256": made.sha256, "rows": sum(rows.values()), **rows}
        artifacts = [
            ctx.save(RESULT, keeping.encoded(made), seconds=time.perf_counter() - began, meta=meta),
            ctx.save(
                "0.thumb.webp", thumbnails.thumbnail(made, ctx.paths.datasets / made.id), role="thumbnail",
                meta={"width": thumbnails.WIDTH, "height": thumbnails.HEIGHT},
            ),
        ]  # fmt: skip
        return Result(artifacts=tuple(artifacts), made_with=self.made_with(), notes=tuple(ctx.notes))


class _Making:
    """One data set on its way."""

    def __init__(self, recipe: DatasetRecipe, ctx: RunContext) -> None:
        self._recipe, self._ctx = recipe, ctx
        self._dropped: Counter[str] = Counter()
        self._said: list[str] = []
        self._unsaid = 0
        self._useless: StudioError | None = None  # the first problem with a file of a folder
        self._done = self._total = 0
        self._told = 0.0

    def make(self) -> Dataset:
        recipe, ctx = self._recipe, self._ctx
        # 1. what there is
        self._washing = Washing(recipe, ctx.check)
        found = sources.find(recipe, ctx.check)
        self._dropped.update(found.left_out)
        if found.bare:
            self._say("The pictures have no captions; a picture model learns how they look, and no words for it.")
        files = ordered(found.sources, ctx.check)
        # reading counts once, checksums half, counterparts a tenth: what they take, roughly
        self._bytes = sum(max(1, source.size) for source in files)
        self._total = round(self._bytes * (1.6 if recipe.augment else 1.5))
        tokenizer = Tokenizer(ctx.card(recipe.tokenizer), ctx.check) if recipe.tokenizer else None
        self._counterparts = Counterparts(recipe.groups if recipe.augment else ())
        self._balance = Balance(recipe.groups)
        try:
            self._folder = keeping.Folder(ctx.paths.datasets, ctx.job, tokenizer)
            try:
                return self._fill(files)
            finally:
                self._folder.drop()  # what was published has another name by now
        except OSError as error:
            raise _not_saved(error) from error
        finally:
            if tokenizer is not None:
                tokenizer.close()

    def _fill(self, files: list[Source]) -> Dataset:
        recipe, ctx, folder = self._recipe, self._ctx, self._folder
        exact = recipe.duplicates != "keep" or recipe.augment
        self._same = Store(folder.aside, "same") if exact else None
        near = Near(folder.aside, recipe.likeness) if recipe.duplicates == "near" else None
        if near is not None and self._washing.shape == "captions":
            self._say("Pictures are told apart by their content; those that only look alike are kept.")
        try:
            # 2. the rows
            whole = self._read(files, near)
            if not folder.rows:
                raise self._nothing()
            self._spare_one()
            # 3. their counterparts
            balance = self._balance.report()
            if recipe.augment and self._augment():
                balance["with_counterparts"] = self._balance.report()
        finally:
            if self._same is not None:
                self._same.close()
            if near is not None:
                near.close()
        # 4. what was found
        checksums = self._checksums(files, whole)
        self._remark()
        splits = folder.end()
        sha256 = keeping.checksum(splits)
        name = recipe.name or Path(recipe.sources[0]).stem or "data"
        shape: Any = self._washing.shape
        made = Dataset(
            id=keeping.named(name, sha256), name=name, shape=shape, sha256=sha256,
            created=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            splits=splits, recipe=recipe, dropped=dict(sorted(self._dropped.items())),
            languages=dict(self._washing.languages.most_common()), lengths=folder.lengths.bands(), sources=checksums,
            balance=balance, samples=folder.samples(), notes=tuple(ctx.notes),
        )  # fmt: skip
        # 5. in its place
        ctx.check()
        made, there = folder.publish(made)
        if there:
            ctx.note(f"This data set was there already, row for row: “{shown(made.id, 90)}”.")
        self._progress(self._total, "", now=True)
        return made

    # -- the rows ------------------------------------------------------------------------------------------------------

    def _read(self, files: list[Source], near: Near | None) -> list[Source]:
        """Fill the parts. Returns the files that were read to their ends."""
        whole: list[Source] = []
        for source in files:
            self._file_done = 0
            reading = readers.Reading(self._recipe, self._say, self._heard(source))
            try:
                for row in self._rows(source, reading):
                    self._ctx.check()
                    self._take(row, near)
                    if self._recipe.most and self._folder.rows >= self._recipe.most:
                        self._say(f"It ends after {self._recipe.most:,} rows, as asked for.")
                        return whole
            except (NotRead, BadRecipe) as error:
                # one file of a folder that is of no use does not cost the others
                if source.alone or error.problem.field == "encoding":
                    raise
                self._useless = self._useless or error
                self._dropped["a file that could not be read, or not to its end"] += 1
                self._say(f"“{shown(source.name)}” was left out: {error.problem.sentence}")
            whole.append(source)
            self._done += max(1, source.size) - self._file_done
            self._progress(self._done, "reading")
        return whole

    def _rows(self, source: Source, reading: readers.Reading) -> Iterator[Kept | Bad]:
        for row in readers.read(source, reading):
            self._ctx.check()
            if isinstance(row, Bad):
                yield row
            else:
                yield from self._washing.rows(row)

    def _take(self, row: Kept | Bad, near: Near | None) -> None:
        if isinstance(row, Bad):
            self._dropped[row.why] += 1
            return
        recipe = self._recipe
        key, number = key_of(row.text)
        if self._same is not None:
            if recipe.duplicates != "keep" and key in self._same:
                self._dropped["the same as another"] += 1
                return
            self._same.add((key,), 0)
        if near is not None and not row.picture and near.seen(row.text):
            self._dropped["nearly the same as another"] += 1
            return
        if row.part:
            number = key_of(row.part)[1]
        elif self._counterparts and not row.picture:
            number = key_of(self._counterparts.neutral(row.text))[1]
        part = split_of(number, recipe.seed, recipe.valid, recipe.test)
        self._folder.add(part, row.value, len(row.text), number, row.picture)
        self._balance.add("\n".join(keeping.said(row.value)))

    def _spare_one(self) -> None:
        """Keep at least one row for validation, where there are so few that chance gave it none: without one nobody can
        tell when a model begins to learn by heart.
        """
        train, valid = self._folder.parts["train"], self._folder.parts["valid"]
        if not self._recipe.valid or valid.rows:
            return

        def number(value: dict[str, Any]) -> int:
            return key_of(msgspec.json.encode(value).decode())[1]

        lowest = min((number(value) for value in train.written()), default=None)
        rest = sum(number(value) != lowest for value in train.written())
        if lowest is None or not rest:
            self._say("There is one row only, so that nothing is left for validation; shorter rows would be more.")
            return
        for value in train.keep(lambda value: number(value) != lowest):
            valid.add(value)
        self._say("The rows are few; one was kept for validation all the same.")

    def _augment(self) -> int:
        """Add the counterpart of every training row that has one, unless it is there already. Returns how many."""
        if self._washing.shape == "captions":
            self._say("No counterparts were added: the pictures would not follow their captions.")
            return 0
        if not self._counterparts:
            self._say("No counterparts were added: there are no two groups whose words could be swapped.")
            return 0
        assert self._same is not None
        train = self._folder.parts["train"]
        count, total, begun = 0, max(1, train.rows), self._done
        for at, value in enumerate(train.written()):
            self._ctx.check()
            swapped = _swapped(value, self._counterparts.swapped)
            self._done = begun + round(0.1 * self._bytes * at / total)
            self._progress(self._done, "counterparts")
            if swapped == value:
                continue
            text = swapped["text"] if "text" in swapped else _told(swapped)
            key, number = key_of(text)
            if key in self._same:
                continue
            self._same.add((key,), 0)
            self._folder.add("train", swapped, len(text), number)
            self._balance.add("\n".join(keeping.said(swapped)))
            count += 1
        self._say(f"{count:,} counterparts were added to the rows for training.")
        return count

    # -- told ----------------------------------------------------------------------------------------------------------

    def _heard(self, source: Source) -> Callable[[int], None]:
        def heard(count: int) -> None:
            self._ctx.check()
            count = min(count, source.size - self._file_done)  # parts of some files are read twice
            self._file_done += max(0, count)
            self._done += max(0, count)
            self._progress(self._done, "reading")

        return heard

    def _progress(self, done: int, phase: str, *, now: bool = False) -> None:
        at = time.monotonic()
        if now or at - self._told >= TOLD_EVERY:
            self._told = at
            self._ctx.progress(round(done / 1e6, 2), max(0.01, round(self._total / 1e6, 2)), "MB", phase)

    def _say(self, text: str) -> None:
        if text in self._said:
            return
        if len(self._said) >= NOTES:
            self._unsaid += 1
            return
        self._said.append(text)
        self._ctx.note(text)

    def _remark(self) -> None:
        """What is to be known of the whole."""
        if self._unsaid:
            self._ctx.note(f"There were {self._unsaid:,} more remarks of this kind.")
        if self._washing.cut:
            self._ctx.note(
                f"{self._washing.cut:,} texts were longer than {self._recipe.longest:,} characters and cut into pieces."
            )
        if self._washing.repeated:
            self._ctx.note(f"{self._washing.repeated:,} lines came again and again and were left out.")
        if any(part.sampled for part in self._folder.parts.values()):
            self._ctx.note("There is much text; its tokens were counted in a sample and reckoned up.")

    def _nothing(self) -> StudioError:
        reasons = ", ".join(f"{count:,} × {why}" for why, count in self._dropped.most_common(4))
        if self._useless is not None:
            return self._useless
        if not self._dropped:
            return NotRead("The sources are empty: there is no row in them.", field="sources")
        return NotRead("None of the rows could be used.", f"Left out: {reasons}.", field="sources")

    def _checksums(self, files: list[Source], whole: list[Source]) -> dict[str, str]:
        """Each source of the recipe with the checksum of its file, or of its files' names and checksums.

        Empty for one that was not read to its end: what it was made of is not all of it.
        """
        read = set(map(id, whole))
        found: dict[str, str] = {}
        for given, group in itertools.groupby(sorted(files, key=lambda each: each.given), key=lambda each: each.given):
            inside = list(group)
            if not all(id(source) in read for source in inside):
                found[given] = ""
                continue
            sums = []
            for source in inside:
                sums.append((source.name, self._sum(source.path)))
                if source.caption is not None:
                    sums.append((f"{source.name} (caption)", self._sum(source.caption)))
            if len(sums) == 1:
                found[given] = sums[0][1]
            else:
                listed = "".join(f"{name}\0{checksum}\n" for name, checksum in sorted(sums))
                found[given] = hashlib.sha256(listed.encode("utf-8", "surrogateescape")).hexdigest()
        return found

    def _sum(self, path: Path) -> str:
        def heard(count: int) -> None:
            self._ctx.check()
            self._done += count // 2
            self._progress(min(self._done, self._total), "checksums")

        return summed(path, heard)


def ordered(files: tuple[Source, ...], check: Callable[[], None]) -> list[Source]:
    """Files in an order that depends on their names and contents only, each once."""
    found: list[Source] = []
    for _, group in itertools.groupby(files, key=lambda source: (source.name, source.size)):
        alike = list({str(source.path.resolve()): source for source in group}.values())
        if len(alike) > 1:
            alike.sort(key=lambda source: summed(source.path, lambda count: check()))
        found += alike
    return found


def summed(path: Path, heard: Callable[[int], None]) -> str:
    """SHA-256 of a file; "" of one that is gone by now."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as stream:
            while block := stream.read(1 << 20):
                heard(len(block))
                digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()


def _swapped(value: dict[str, Any], swap: Callable[[str], str]) -> dict[str, Any]:
    if "messages" in value:
        return {"messages": [{**each, "content": swap(each["content"])} for each in value["messages"]]}
    return {**value, "text": swap(value["text"])}


def _told(value: dict[str, Any]) -> str:
    from studio.engines.data.chats import told

    return told(value["messages"])


def _not_saved(error: OSError) -> NotSaved:
    if error.errno in FULL:
        return NotSaved(
            "The disk is full: there is no room for the data set.", "Make room and begin again; nothing was left of it."
        )
    return NotSaved(f"The data set could not be written: {error.strerror or error}.", detail=repr(error))
