"""What can be asked of the library: works, stars, the bin, conversations, recipes in files, words for prompts.

A part of Session.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from studio.core.cards import ModelCard
from studio.core.conversations import Conversation
from studio.core.files import sha256_of
from studio.core.paths import Paths
from studio.core.problems import NotFound, NotRead, NotSaved, ReadOnly
from studio.core.recipes import Recipe
from studio.core.text import shown
from studio.core.wording import Style
from studio.core.works import Change, Work
from studio.library import carried, exports
from studio.library.conversations import Conversations
from studio.library.exports.naming import named
from studio.library.files import Files
from studio.library.inputs import NAMED, Inputs
from studio.library.jobs import new_id, now
from studio.library.prompts import Prompts
from studio.library.prompts import Worded as Worded  # the window sees the session, not the library
from studio.library.works import Works


class Shelf:
    """The half of a session that needs no workers. Thread-safe, like the whole.

    Args:
        told: tells a change to all who listen and hands it back.
    """

    def __init__(
        self,
        works: Works,
        conversations: Conversations,
        files: Files,
        inputs: Inputs,
        told: Callable[[Change], Change],
    ) -> None:
        self._works, self._conversations, self._files, self._told = works, conversations, files, told
        self._inputs = inputs
        self._prompts = Prompts(Paths(inputs.folder.parent))

    # -- works ------------------------------------------------------------------------------------------------------

    def works(
        self, *, limit: int = 100, kind: str = "", before: str = "", search: str = "", starred: bool = False
    ) -> list[Work]:
        """Works, newest first.

        Args:
            kind: only works of this kind. before: id of the last one of the page before.
            search: words, separated by white space, that must all occur in the title, the recipe's words or the id;
                capitals do not matter, parts of words count, and no character is special.
            starred: only works with a star.
        """
        return self._works.recent(limit=limit, kind=kind, before=before, search=search, starred=starred)

    def count_works(self, kind: str = "") -> int:
        """How many works there are, of one kind or of all."""
        return self._works.count(kind)

    def works_of(self, job_id: str) -> list[Work]:
        """A job's works, in order; none for a job that is not known."""
        return self._works.of_job(job_id)

    def star(self, work_id: str, on: bool) -> Change:
        """Mark a work, or take the mark away. A star lives in the database only and not in the sidecar.

        Raises:
            NotFound, NotSaved.
        """
        work = self.work(work_id)
        self._works.star(work.id, on)
        return self._told(Change(works=(work.id,)))

    def remove(self, *work_ids: str) -> Change:
        """Put works into the bin: they are listed no more, and their files stay until the bin is emptied.

        Raises:
            NotFound, NotSaved.
        """
        ids = tuple(self.work(work_id).id for work_id in work_ids)
        self._works.set_removed(ids, now())
        return self._told(Change(works=ids))

    def restore(self, *work_ids: str) -> Change:
        """Take works out of the bin, to where they were. Raises NotFound, NotSaved."""
        ids = tuple(self.work(work_id).id for work_id in work_ids)
        self._works.set_removed(ids, "")
        return self._told(Change(works=ids))

    def bin(self) -> list[Work]:
        """Works in the bin, the newest first. A library rebuilt from sidecars knows of no bin and has them again."""
        return self._works.recent(limit=1_000_000, removed=True)

    def empty_bin(self) -> Change:
        """Delete what is in the bin, for good. Files first: what is cut off on the way is still in the bin.

        Raises:
            NotSaved: a file could not be deleted; it and what comes after it stay in the bin.
        """
        gone: list[str] = []
        try:
            for work in self.bin():
                self._files.delete(work)
                gone.append(work.id)
        except OSError as error:
            raise NotSaved(f"A file in the bin could not be deleted: {error.strerror or error}.") from None
        finally:
            self._works.forget(gone)
        # pictures that nothing is made from any more go, too; a draft keeps its own by showing them
        self._inputs.clear({name for recipe in self._works.recipes() for name in NAMED.findall(recipe)})
        return self._told(Change(works=tuple(gone)))

    def work(self, work_id: str) -> Work:
        """A work by its id or the beginning of it. Raises NotFound."""
        work = self._works.find(work_id)
        if work is None and len(work_id) >= 4:
            near = self._works.like(work_id)
            if len(near) == 1:
                work = self._works.find(near[0])
        if work is None:
            raise NotFound(f"There is no work “{work_id[:40]}”.", "“studio works” lists them.")
        return work

    def path(self, work: Work) -> Path:
        """The absolute path of a work's master."""
        return self._files.path(work.master.path)

    def keep_picture(self, picture: Path | bytes) -> str:
        """Keep a picture to make works from: a file, or bytes in one of the usual formats.

        Returns:
            The name that recipes know it by. The same bytes have the same name.

        Raises:
            BadRecipe: it is no picture, or too large. NotRead, NotSaved.
        """
        return self._inputs.add(picture) if isinstance(picture, Path) else self._inputs.add_bytes(picture)

    def picture_path(self, name: str) -> Path:
        """The file of a kept picture. Raises NotFound."""
        return self._inputs.path(name)

    def state_of(self, work: Work) -> str:
        """Whether a work's file is as it was made: empty where it is, else "changed" or "missing". Reads the file."""
        path = self.path(work)
        try:
            if path.stat().st_size == work.master.bytes and sha256_of(path) == work.master.sha256:
                return ""
        except FileNotFoundError:
            return "missing"
        except OSError:
            return ""  # a disk that cannot be read says nothing of the file
        return "changed" if work.master.sha256 else ""

    def files(self, work: Work) -> list[Path]:
        """The absolute paths of all its files, the master first."""
        assets = sorted(work.assets, key=lambda a: a.role != "master")
        return [*(self._files.path(a.path) for a in assets), self._files.sidecar_path(work)]

    def formats(self, kind: str) -> tuple[tuple[str, str], ...]:
        """What a kind of work can be exported to: extension and title, in menu order; empty for an unknown kind."""
        return exports.menu(kind)

    def uses_quality(self, extension: str) -> bool:
        """Whether a format, for example ".jpg", has a quality to choose."""
        return exports.uses_quality(extension)

    def name_for(self, pattern: str, work: Work, number: int, ending: str) -> str:
        """The file name of one of several works that are exported together; see exports/naming.py for the pattern.

        Raises:
            BadRecipe: something unknown is in braces.
        """
        return named(pattern, work, number, ending)

    def recipe_in(self, path: Path) -> Recipe | None:
        """The recipe a file was made from, or that it holds; its model need not be there.

        Looks for a file of the library with the same content, a recipe in a picture's text, and JSON: a sidecar, a
        bare recipe, or an object with one under “recipe”. Nothing in the file is trusted: a recipe is held to its
        declarations, and one for an export is passed over, because it names a file to write.

        Returns:
            None where there is no recipe, or a damaged one. A file of more than 64 MiB is only compared with the
            library's.

        Raises:
            NotRead: the file is not there, is no file, or cannot be read.
        """
        name = shown(Path(path).name or str(path))
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):  # opening a pipe might wait for ever
                raise NotRead(f"“{name}” is not a file.", "Choose a picture, a text, a sound or a recipe.")
            work = self._works.with_asset(status.st_size, lambda: sha256_of(path)) if status.st_size else None
            if work is not None:
                return work.recipe
            if status.st_size > carried.FILE_LIMIT:
                return None
            with open(path, "rb") as stream:
                return carried.recipe_in(stream)
        except FileNotFoundError:
            raise NotRead(f"There is no file “{name}”.", "Was it moved or deleted?") from None
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise NotRead(f"“{name}” cannot be read: {reason or error}.") from None

    def rebuild(self) -> Change:
        """Add every work whose sidecar is there and whose row is not. Stars are not in sidecars and are lost."""
        works = tuple(self._files.sidecars())
        known = {w.id for w in works if self._works.find(w.id)}
        new = tuple(w for w in works if w.id not in known)
        self._works.add(new)
        return self._told(Change(works=tuple(w.id for w in new)))

    # -- conversations ----------------------------------------------------------------------------------------------

    def conversations(self, *, limit: int = 200) -> list[Conversation]:
        """Conversations, the one that was changed last first."""
        return self._conversations.recent(limit=limit)

    def conversation(self, conversation_id: str) -> Conversation:
        """Raises NotFound."""
        found = self._conversations.find(conversation_id)
        if found is None:
            raise NotFound(f"There is no conversation “{shown(conversation_id, 40)}”.")
        return found

    def new_conversation(self, system: str = "") -> Conversation:
        """A conversation that is not written until it is kept."""
        return Conversation(id=new_id("c"), title="", created=now(), changed=now(), system=system)

    def keep_conversation(self, conversation: Conversation) -> Change:
        """Write a conversation, new or changed, and make it the newest. Raises NotSaved.

        What is written is cleaned: broken characters are replaced, the title is one line, an empty title is made of
        the first prompt, and `changed` is now.
        """
        self._conversations.keep(conversation)
        return self._told(Change(conversations=(conversation.id,)))

    def remove_conversation(self, conversation_id: str) -> Change:
        """Forget a conversation; its works stay. One that was never kept changes nothing."""
        if not self._conversations.remove(conversation_id):
            return Change()
        return self._told(Change(conversations=(conversation_id,)))

    # -- words for prompts ------------------------------------------------------------------------------------------

    def prompt_notes(self) -> tuple[str, ...]:
        """Sentences on damaged files of styles and presets, which were set aside since this was asked last."""
        return self._prompts.take_notes()

    def styles(self) -> tuple[Style, ...]:
        """The kept styles, by name. Raises NotRead."""
        return self._prompts.styles()

    def save_style(self, style: Style) -> Change:
        """Keep a style, in place of one of the same name. Raises BadRecipe, NotRead, NotSaved."""
        self._check_writable()
        self._prompts.save_style(style)
        return self._told(Change(settings=("styles",)))

    def remove_style(self, name: str) -> Change:
        """Forget a style; one that is not there changes nothing. Raises NotRead, NotSaved."""
        self._check_writable()
        return self._told(Change(settings=("styles",))) if self._prompts.remove_style(name) else Change()

    def import_styles(self, path: Path) -> Change:
        """Take over what is new in an A1111 styles.csv. Raises NotRead, NotSaved."""
        self._check_writable()
        return self._told(Change(settings=("styles",))) if self._prompts.import_styles(path) else Change()

    def export_styles(self, path: Path) -> None:
        """Write the styles as A1111 reads them, over a file of that name. Raises NotRead, NotSaved."""
        self._prompts.export_styles(path)

    def presets(self) -> dict[str, dict[str, Any]]:
        """The kept sets of values for the form of a picture, by name. Raises NotRead."""
        return self._prompts.presets()

    def save_preset(self, name: str, values: dict[str, Any]) -> Change:
        """Keep values of that form, without prompt, seed and input pictures. Raises BadRecipe, NotRead, NotSaved."""
        self._check_writable()
        self._prompts.save_preset(name, values)
        return self._told(Change(settings=("presets",)))

    def remove_preset(self, name: str) -> Change:
        """Forget a preset; one that is not there changes nothing. Raises NotRead, NotSaved."""
        self._check_writable()
        return self._told(Change(settings=("presets",))) if self._prompts.remove_preset(name) else Change()

    def wildcards(self) -> tuple[str, ...]:
        """The names of the wildcard lists, as they are written between two pairs of underscores."""
        return self._prompts.wildcards()

    def wildcard(self, name: str) -> tuple[str, ...]:
        """The lines of a wildcard list; none where there is no such list."""
        return self._prompts.wildcard(name)

    def wildcard_folder(self) -> Path:
        """Where the lists lie; the folder is made where it is not there yet. Raises NotSaved."""
        return self._prompts.make_folder()

    def worded(self, given: dict[str, Any], cards: Iterable[ModelCard] = ()) -> Worded:
        """Make the final words of what the form of a picture gives: see `Prompts.worded`.

        Raises:
            BadRecipe: the words cannot be made, or would be too long. NotRead: the styles.
        """
        return self._prompts.worded(given, cards)

    def _check_writable(self) -> None:
        reason = getattr(self, "read_only", "")  # the session's; a shelf by itself can always be written to
        if reason:
            raise ReadOnly(reason)
