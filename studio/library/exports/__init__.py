"""Exports: a kept work written to a file of the user's choice, one file here per format.

Knows which format fits which kind of work, and in what order a file is made. Importing this loads no codec: pillow,
soundfile and numpy come in with the format that needs them. The kept master is read and never written.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import msgspec

from studio.core.cards import ModelCard
from studio.core.files import sha256_of
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, EngineMissing, ModelUnfit, NotSaved
from studio.core.recipes import ExportRecipe, MadeWith, Recipe
from studio.core.text import shown
from studio.core.works import Artifact, Result
from studio.engines.context import RunContext
from studio.library.exports import target as places
from studio.library.exports.source import Source, read_source

# What a format's function gets: the work, an open empty file, the recipe, and the job's surroundings.
# What it returns: facts about the content, as in Artifact.meta.
Write = Callable[[Source, BinaryIO, ExportRecipe, RunContext], dict[str, Any]]


class Export(msgspec.Struct, frozen=True):
    """One format. `write` is "module:function" of type Write; `quality`: the recipe's quality means something here.

    `others`: further kinds of work that can be written so.
    """

    kind: str
    title: str
    write: str
    quality: bool = False
    others: tuple[str, ...] = ()

    def takes(self, kind: str) -> bool:
        return kind == self.kind or kind in self.others


EXPORTS: dict[str, Export] = {
    # extension -> format; by hand, in the order menus show them
    ".txt": Export("text", "Plain text", "studio.library.exports.txt:write"),
    ".md": Export("text", "Markdown", "studio.library.exports.md:write"),
    ".png": Export("image", "PNG", "studio.library.exports.png:write"),
    ".jpg": Export("image", "JPEG", "studio.library.exports.jpeg:write", quality=True),
    ".jpeg": Export("image", "JPEG", "studio.library.exports.jpeg:write", quality=True),
    ".webp": Export("image", "WebP", "studio.library.exports.webp:write", quality=True),
    ".avif": Export("image", "AVIF", "studio.library.exports.avif:write", quality=True),
    ".tif": Export("image", "TIFF", "studio.library.exports.tiff:write"),
    ".tiff": Export("image", "TIFF", "studio.library.exports.tiff:write"),
    ".psd": Export("image", "PSD", "studio.library.exports.psd:write"),
    ".wav": Export("speech", "WAV", "studio.library.exports.wav:write"),
    ".flac": Export("speech", "FLAC", "studio.library.exports.flac:write"),
    ".ogg": Export("speech", "OGG Vorbis", "studio.library.exports.ogg:write", quality=True),
    ".mp3": Export("speech", "MP3", "studio.library.exports.mp3:write", quality=True),
    ".html": Export("report", "Web page", "studio.library.exports.report_html:write", others=("training",)),
    ".pdf": Export("report", "PDF", "studio.library.exports.report_pdf:write", others=("training",)),
    ".csv": Export("report", "CSV table", "studio.library.exports.report_data:write_csv", others=("training",)),
    ".json": Export("report", "JSON", "studio.library.exports.report_data:write_json", others=("training", "dataset")),
}

_NOUN = {
    "text": "text", "image": "picture", "speech": "sound", "report": "report", "training": "training",
    "dataset": "data set",
}  # fmt: skip


def formats_for(kind: str) -> tuple[str, ...]:
    """The extensions a kind of work can be exported to, for example (".txt", ".md"); empty for an unknown kind."""
    return tuple(extension for extension, export in EXPORTS.items() if export.takes(kind))


def menu(kind: str) -> tuple[tuple[str, str], ...]:
    """Extension and title of each format for a kind of work, in menu order; a second spelling of one is left out."""
    first: dict[str, tuple[str, str]] = {}
    for extension in formats_for(kind):
        export = EXPORTS[extension]
        first.setdefault(export.write, (extension, export.title))
    return tuple(first.values())


def uses_quality(extension: str) -> bool:
    """Whether a format has a quality to choose; False for an unknown one."""
    export = EXPORTS.get(extension.lower())
    return export is not None and export.quality


def check_target(kind: str, to: str, overwrite: bool, master: Path | None = None) -> None:
    """Refuse early what an export would refuse later. Changes nothing.

    Args:
        kind: the work's kind.
        to: file name with folder; a relative one counts from the current folder of this process.
        master: the kept master where it is known.

    Raises:
        NotSaved: no name, an extension that does not fit, a missing or closed folder, something in the way.
    """
    _checked(kind, to, overwrite, master)


def _checked(kind: str, to: str, overwrite: bool, master: Path | None) -> places.Target:
    fitting = formats_for(kind)
    if not fitting:
        raise NotSaved(f"A work of the kind “{shown(kind)}” cannot be exported.")
    extension = places.extension_of(to)
    export = EXPORTS.get(extension)
    # A folder is named as such, rather than as a file without extension.
    if (export is None or not export.takes(kind)) and to.strip() and not os.path.isdir(to):
        noun, formats = _NOUN[kind], ", ".join(fitting)
        if not extension:
            sentence = f"“{shown(os.path.basename(to))}” has no extension to say which format is wanted."
        elif export is None:
            sentence = f"The studio cannot write “{shown(extension)}” files."
        else:
            sentence = f"A {noun} cannot be written as {export.title}."
        raise NotSaved(sentence, f"A {noun} can be written as {formats}.", field="to")
    return places.check_place(to, overwrite, master)


def clear_up(to: str, job: str) -> None:
    """Remove what a job left beside its target when its process was killed. Says nothing where that is refused.

    Args:
        to: the job's target, absolute. job: its id; it runs no more.
    """
    places.remove_leftovers(places.Target(Path(to), overwrite=False), job)


class Exporter:
    """The export engine. Holds no model: any card will do, and loading does nothing."""

    kind: ClassVar[str] = "export"

    def load(self, card: ModelCard, plan: Plan, ctx: RunContext) -> None:
        """Nothing to load."""

    def unload(self) -> None:
        """Nothing to unload."""

    def made_with(self) -> MadeWith:
        versions = {name: found for name in ("pillow", "soundfile", "fpdf2") if (found := _version(name))}
        return MadeWith(
            engine="export.files", versions=versions, system=f"{platform.system()} {platform.machine()}".strip()
        )

    def run(self, recipe: Recipe, ctx: RunContext) -> Result:
        """Write the work described by `request.json` in `ctx.out_dir` to `recipe.to`.

        Where `to` is a bare ending (".webp") nothing is written: the job tells how large the file would be.

        Returns:
            One artifact whose name is the absolute path of the exported file; it is not in staging. Of a bare ending
            its name is the ending, `bytes` the size, and `meta["exact"]` whether that was encoded or told from samples.

        Raises:
            NotSaved: see `check_target`; also a full disk or a format that cannot hold this work.
            NotFound: the kept master or the note about it is gone.
            NotRead: the disk refuses to read the kept master. LibraryBroken: it is damaged.
            EngineMissing: the library for this format is not installed.
            JobCancelled: nothing is left behind, and an older file is as it was.
        """
        if not isinstance(recipe, ExportRecipe):
            raise ModelUnfit("Exporting takes an export recipe.")
        if not 1 <= recipe.quality <= 100:
            raise BadRecipe(f"Quality must be from 1 to 100; got {recipe.quality}.", field="quality")
        # 1. look at what is asked for
        ctx.check()
        source = read_source(ctx.out_dir)
        if not recipe.metadata:  # what a format is not told it cannot write; a title usually is the prompt
            source = msgspec.structs.replace(source, title="", recipe={})
        if asks_size(recipe.to):
            return self._size(source, recipe, ctx)
        target = _checked(source.kind, recipe.to, recipe.overwrite, source.path)
        write = load_format(EXPORTS[places.extension_of(recipe.to)])
        places.remove_leftovers(target, ctx.job)
        with places.temporary(target, ctx.job) as temporary:
            # 2. write beside the target
            try:
                with open(temporary, "r+b") as stream:
                    meta = write(source, stream, recipe, ctx)
                    stream.flush()
                    os.fsync(stream.fileno())
                size, sha256 = temporary.stat().st_size, sha256_of(temporary)
            except OSError as error:  # the formats turn what they cannot read into sentences themselves
                raise places.not_saved(error, target.path) from error
            # 3. put it in place; from here on the job is done and can no longer be cancelled
            ctx.check()
            places.put_in_place(temporary, target)
        artifact = Artifact(
            name=str(target.path), sha256=sha256, bytes=size, seconds=float(meta.get("seconds", 0.0)), meta=meta
        )
        return Result(artifacts=(artifact,), made_with=self.made_with(), notes=tuple(ctx.notes))

    def _size(self, source: Source, recipe: ExportRecipe, ctx: RunContext) -> Result:
        estimate = importlib.import_module("studio.library.exports.estimate").estimate
        size = estimate(source, recipe.to, recipe.quality, recipe.metadata, ctx)
        told = Artifact(name=recipe.to, sha256="", bytes=size.bytes, meta={"exact": size.exact})
        return Result(artifacts=(told,), made_with=self.made_with(), notes=tuple(ctx.notes))


def asks_size(to: str) -> bool:
    """Whether an export's `to` is a bare ending, which asks for the size of the file instead of the file."""
    return to in EXPORTS


def load_format(export: Export) -> Write:
    """The function that writes a format. Raises EngineMissing."""
    module, _, function = export.write.partition(":")
    try:
        found: Write = getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise EngineMissing(
            f"Writing {export.title} needs {error.name or 'a library'}, which is not installed.",
            "Set the studio up again with run.py.", detail=repr(error),
        ) from error  # fmt: skip
    return found


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # a frozen build may come without the packages' descriptions
        return ""
