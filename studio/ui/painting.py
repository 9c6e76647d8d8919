"""Painting in the image tab: from the shown picture to a board, from there to a job, and its result back as a layer.

The page with the board is made when first needed. Knows the desk, the form and the page; the tab tells it what
happens to jobs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QComboBox, QFileDialog

from studio.core.jobs import Job
from studio.core.problems import Problem, StudioError
from studio.core.text import shown
from studio.core.works import Work
from studio.ui.desk import Desk
from studio.ui.fields import FieldRow
from studio.ui.forms import Form
from studio.ui.lists import png_of
from studio.ui.strings import tr

if TYPE_CHECKING:  # a thousand lines that are not needed before somebody paints
    from studio.ui.paint.page import Painted, PaintPage

# What choices are called here; their own names are those of files and commands.
WORDS = {"mask_area": {"picture": "in the whole picture", "mask": "in a close-up"}}
FROM_BOARD = ("image", "mask", "extend")  # fields that the board fills in


def _reword(made: FieldRow) -> None:
    """Call the choices of a field what a painter calls them."""
    box = made.editor.target()
    if isinstance(box, QComboBox):
        for value, word in WORDS.get(made.field.name, {}).items():
            box.setItemText(box.findData(value), tr(word))


class Painting(QObject):
    """Signals:
    told(str): a sentence for the user.
    changed(): something was painted.
    entered(QWidget), left(): the page is to be shown, or is no longer.
    """

    told = Signal(str)
    changed = Signal()
    entered = Signal(object)
    left = Signal()

    def __init__(self, parent: QObject, desk: Desk, form: Form) -> None:
        super().__init__(parent)
        self._desk, self._form = desk, form
        self.page: PaintPage | None = None
        self.active = False
        form.row_made.connect(_reword)
        for made in form.rows.values():
            _reword(made)
        self._asked: dict[str, tuple[Painted, int]] = {}  # job -> what it was made from, softness of the edge

    def _paper(self) -> PaintPage:
        if self.page is None:
            from studio.ui.paint.page import PaintPage

            self.page = PaintPage(self._desk.keeper.path.parent / "painting")
            self.page.told.connect(self.told)
            self.page.board.changed.connect(self.changed)
        return self.page

    # -- in and out

    def is_of(self, work: Work) -> bool:
        """Whether the kept painting began with this work, or this is a result of it, or that is unknown."""
        origins = self._origins()
        return not origins or work.id in origins

    def _origins(self) -> list[str]:
        return list(self._desk.state.forms.get("painting", {}).get("works", []))

    def _remember(self, works: list[str]) -> None:
        self._desk.state.forms["painting"] = {"works": works[-200:]}
        self._desk.keeper.touch()

    def is_kept(self) -> bool:
        """Whether there is a painting to go on with."""
        page = self._paper()
        return page.document is not None or page.is_kept()

    def go_on(self) -> bool:
        """Go on with the painting of before. False where there is none."""
        page = self._paper()
        if page.document is None and not (page.is_kept() and page.go_on()):
            return False
        self._show()
        return True

    def begin(self, picture: QImage | None, size: tuple[int, int], work: str = "") -> None:
        """Begin a painting with a picture, or an empty one of this size; the one of before can be brought back.

        Args:
            work: id of the work the picture is of.
        """
        page = self._paper()
        before = page.document is not None or page.is_kept()
        wide, high = (picture.width(), picture.height()) if picture is not None else size
        if not page.begin(picture, wide, high):
            return
        self._remember([work] if work else [])
        self._show()
        if before:
            again = (tr("Bring it back"), self.bring_back)
            self._desk.told.emit(tr("The painting of before was laid aside."), "", again)

    def bring_back(self) -> None:
        if self._paper().bring_back():
            self._show()

    def _show(self) -> None:
        self.active = True
        self._form.assume(FROM_BOARD)
        document = self.page.document if self.page is not None else None
        if document is not None:
            self._form.expect(width=document.width, height=document.height)
        self.entered.emit(self.page)
        if self.page is not None:
            self.page.board.setFocus()

    def leave(self) -> None:
        """Back to looking; the painting stays as it is."""
        if self.active:
            self.active = False
            self._form.assume(())
            self._form.expect()
            self.left.emit()

    def ask_where(self) -> None:
        """Save the layers as a file that other programs open: OpenRaster (Krita, GIMP and others) or Photoshop's."""
        document = self.page.document if self.page is not None else None
        if document is None or self.page is None:
            return
        dialog = QFileDialog(self.page.window(), tr("Save the layers"), self._desk.state.folder)
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        suffixes = {tr("OpenRaster, with the mask (*.ora)"): "ora", tr("Photoshop, layers only (*.psd)"): "psd"}
        dialog.setNameFilters(list(suffixes))
        dialog.setDefaultSuffix("ora")
        dialog.filterSelected.connect(lambda chosen: dialog.setDefaultSuffix(suffixes.get(chosen, "ora")))
        if dialog.exec():
            self.save_layers(Path(dialog.selectedFiles()[0]))

    def save_layers(self, path: Path) -> None:
        """Write the layers of now to a file, in the background: Photoshop's where its name ends so, else OpenRaster."""
        page = self.page
        document = page.document if page is not None else None
        if page is None or document is None:
            return
        page.board.release()
        if page.board.busy:
            page.board.later(lambda: self.save_layers(path))
            return
        kept = document.snapshot()

        def write() -> None:
            from studio.core.files import durable
            from studio.ui.paint.openraster import write_openraster
            from studio.ui.paint.psd import write_psd

            with durable(path) as stream:
                if path.suffix.lower() == ".psd":
                    write_psd(kept, stream)
                else:
                    write_openraster(kept, stream)

        def done(_: Any) -> None:
            self._desk.told.emit(tr("The layers were saved as “{name}”.", name=path.name), "", None)

        self._desk.tasks.write(self, write, done, self._desk.failed.emit)

    def open_layers(self, path: Path) -> None:
        """Go on with a file of layers; the painting of before can be brought back."""
        page = self._paper()

        def read() -> Any:
            from studio.ui.paint.openraster import read_openraster

            found = read_openraster(path)
            layers = [
                (it.image, it.name, it.x, it.y, it.opacity, it.blend, it.visible, it.locked) for it in found.layers
            ]
            mask = None if found.is_empty_mask() else found.mask_image()
            size = found.width, found.height
            found.close()
            return size, layers, mask

        def done(found: Any) -> None:
            if page.begin_with(*found):
                self._show()

        self._desk.tasks.picture(self, read, done, lambda problem: self.told.emit(problem.sentence))

    def close(self) -> None:
        if self.page is not None:
            self.page.put_away()

    # -- making

    def make(
        self, values: dict[str, Any], done: Callable[[Job], Any], failed: Callable[[Problem], Any]
    ) -> None:  # fmt: skip
        """Ask for a picture made of what is painted: repainted where the mask is, painted on beyond the edges, or
        painted over as a whole where nothing is masked."""
        page, session = self.page, self._desk.session
        if page is not None and page.board.busy:  # of the mask as it was asked for, not as it still is
            page.board.later(lambda: self.make(values, done, failed))
            return
        painted = page.painted() if page is not None else None
        if painted is None or session is None:
            return
        given = self._given(values)
        left, top, right, bottom = painted.margins

        def keep() -> dict[str, Any]:
            kept: dict[str, Any] = {"image": session.keep_picture(png_of(painted.picture))}
            if painted.mask is not None:
                kept["mask"] = session.keep_picture(png_of(painted.mask))
            if any(painted.margins):
                kept["extend"] = {"left": left, "top": top, "right": right, "bottom": bottom}
            return kept

        def asked(job: Job) -> None:
            blur = getattr(job.recipe, "mask_blur", 0)
            self._asked[job.id] = (painted, blur)
            done(job)
            tracked = self._desk.track.jobs.get(job.id)
            if tracked is not None and tracked.preview is not None:  # it was faster than the answer
                self.preview(QImage.fromData(tracked.preview.jpeg), "")

        def kept(more: dict[str, Any]) -> None:
            self._desk.submit("image", given | more, asked, failed)

        self._desk.tasks.write(self, keep, kept, failed)

    @staticmethod
    def _given(values: dict[str, Any]) -> dict[str, Any]:
        """What the form gives. The size is the board's, but for a masked part alone: that may be painted larger."""
        mine = FROM_BOARD if values.get("mask_area") == "mask" else (*FROM_BOARD, "width", "height")
        return {name: value for name, value in values.items() if name not in mine}

    def passing(self, values: dict[str, Any]) -> Any:
        """Values, and a function that encodes what is painted, for what is only looked at; None without a document."""
        painted = self.page.painted() if self.page is not None else None
        if painted is None:
            return None
        given = self._given(values)
        if any(painted.margins):
            given["extend"] = dict(zip(("left", "top", "right", "bottom"), painted.margins, strict=True))

        def encoded() -> dict[str, bytes]:
            made = {"image": png_of(painted.picture)}
            return made | {"mask": png_of(painted.mask)} if painted.mask is not None else made

        return given, encoded

    def takes(self, job_id: str) -> bool:
        """Whether what this job makes lands on the board, also while something else is looked at."""
        return job_id in self._asked and self.page is not None and self.page.document is not None

    def preview(self, image: QImage, caption: str) -> None:
        if self.page is not None:
            self.page.show_preview(image, caption)

    def ended(self, job_id: str) -> None:
        """A job ended: its preview goes; what it made comes through `land`."""
        if job_id in self._asked and self.page is not None:
            self.page.show_preview(None)

    def land(self, work: Work, read: Callable[[Path], QImage]) -> None:
        """Lay a work over the layers."""
        session, asked = self._desk.session, self._asked.get(work.job)
        if session is None or asked is None or self.page is None:
            return
        page, (painted, blur), path = self.page, asked, session.path(work)
        seed = getattr(work.recipe, "seed", None)
        name = f"{seed} · {shown(work.title, 24)}" if seed is not None else shown(work.title, 32)
        first = work.index == 0  # of several the first is shown; the others lie over it, switched off

        def landed(image: QImage) -> None:
            page.land(image, name, painted, blur, visible=first)
            self._remember([*self._origins(), work.id])
            if not self.active:
                self.told.emit(tr("It was laid over the painting as a layer."))

        self._desk.tasks.picture(self, lambda: read(path), landed)

    def keep_as_picture(self) -> None:
        """Make a work of all that is visible on the board."""
        page, session = self.page, self._desk.session
        if page is not None and page.board.busy:
            page.board.later(self.keep_as_picture)
            return
        painted = page.painted() if page is not None else None
        if painted is None or session is None:
            return
        title = tr("Painting")
        origin = next(iter(self._origins()), "")

        def keep() -> dict[str, Any]:
            given = {"image": session.keep_picture(png_of(painted.picture)), "title": title}
            with contextlib.suppress(StudioError):
                given["title"] = session.work(origin).title if origin else title
            return given

        def kept(given: dict[str, Any]) -> None:
            self._desk.submit("edit", given, done, self._desk.failed.emit)

        def done(_: Job) -> None:
            self._desk.told.emit(tr("The painting was kept as a picture."), "", None)

        self._desk.tasks.write(self, keep, kept, self._desk.failed.emit)
