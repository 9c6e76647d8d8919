"""What can be asked of the library: works, stars, the bin, conversations, recipes in files. A part of Session."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from studio.core.conversations import Conversation
from studio.core.files import sha256_of
from studio.core.problems import NotFound, NotRead, NotSaved
from studio.core.recipes import Recipe
from studio.core.text import shown
from studio.core.works import Change, Work
from studio.library import carried, exports
from studio.library.conversations import Conversations
from studio.library.files import Files
from studio.library.inputs import Inputs
from studio.library.jobs import new_id, now
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
