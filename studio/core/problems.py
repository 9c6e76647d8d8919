"""What can go wrong, said to a person first. Knows sentences; knows nothing of where they are shown."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that went wrong.

    Attributes:
        code: stable machine-readable name, snake_case; scripts may rely on it.
        sentence: what happened, in one sentence for a person.
        hint: what to do about it, or empty.
        detail: traceback or log lines for a developer, or empty.
        field: the recipe or settings field it belongs to, or empty.
    """

    code: str
    sentence: str
    hint: str = ""
    detail: str = ""
    field: str = ""


class StudioError(Exception):
    """An error that carries a Problem. Subclasses are named after the fact and fix its code."""

    code: ClassVar[str] = "error"

    def __init__(self, sentence: str, hint: str = "", *, detail: str = "", field: str = "") -> None:
        super().__init__(sentence)
        self.problem = Problem(self.code, sentence, hint, detail, field)


class ProblemRaised(StudioError):
    """Raises a Problem that already exists, for example one that crossed a process border."""

    def __init__(self, problem: Problem) -> None:
        Exception.__init__(self, problem.sentence)
        self.problem = problem


class BadRecipe(StudioError):
    code = "bad_recipe"


class BadSetting(StudioError):
    code = "bad_setting"


class ModelMissing(StudioError):
    code = "model_missing"


class ModelBroken(StudioError):
    code = "model_broken"


class ModelRefused(StudioError):
    code = "model_refused"


class ModelUnfit(StudioError):
    """The model is sound but cannot do what was asked."""

    code = "model_unfit"


class EngineMissing(StudioError):
    """A library that this feature needs is not installed."""

    code = "engine_missing"


class OutOfMemory(StudioError):
    code = "out_of_memory"


class BadResult(StudioError):
    """The engine ran, but what came out is not a work: NaN samples, an empty picture."""

    code = "bad_result"


class WorkerDied(StudioError):
    code = "worker_died"


class Interrupted(StudioError):
    """The studio went away while a job ran."""

    code = "interrupted"


class SetAside(StudioError):
    """A job's worker went away twice; it is not tried again by itself."""

    code = "set_aside"


class NotSaved(StudioError):
    """A file could not be written: disk full, no permission, a folder in the way."""

    code = "not_saved"


class ReadOnly(NotSaved):
    """The library is open for reading only; the sentence says why."""

    code = "read_only"


class LibraryMoved(NotSaved):
    """The data folder was moved, deleted or replaced while the studio had it open."""

    code = "library_moved"


class NotRead(StudioError):
    """A file of the user's choice could not be read: no permission, a folder, a disk that fails."""

    code = "not_read"


class NotFound(StudioError):
    code = "not_found"


class LibraryBroken(StudioError):
    code = "library_broken"


class Busy(NotSaved):
    """Another program keeps the library to itself at this moment."""

    code = "busy"
