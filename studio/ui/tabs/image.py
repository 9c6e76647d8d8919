"""The Image tab: the picture large, with live preview, compare, and the batch as a grid."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import QMimeData, QPoint, QRect, QSize, Qt, QTimer
from PySide6.QtGui import QColor, QImage, QImageReader, QPainter, QPixmap
from PySide6.QtWidgets import QFrame, QMenu, QPlainTextEdit, QStackedLayout, QVBoxLayout, QWidget

from studio.core.events import EndEvent, Event, Finished, Preview
from studio.core.recipes import ImageRecipe, Recipe, kind_of
from studio.core.text import shown
from studio.core.works import Work
from studio.ui import theme
from studio.ui.actions import keys_of
from studio.ui.canvas import Canvas
from studio.ui.grid import Grids
from studio.ui.grid import ask as ask_for_grid
from studio.ui.history import drag_out, when
from studio.ui.lists import PictureEditor
from studio.ui.live import Live
from studio.ui.painting import Painting
from studio.ui.prompting import PromptBar
from studio.ui.strings import one_or_many, tr
from studio.ui.tabs.base import EmptyState, MakeTab
from studio.ui.widgets import OnlyIfRoomy, ToolButton, WordsIfRoomy, row, then

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff")
ROOMY, TIGHT = 760, 470  # px from which on the buttons under the picture have words beside their icons
FINISHES = {"upscale": "Enlarge …", "edit": "Adjust: crop, turn, size, colours …", "cutout": "Cut out …"}
LARGEST = 256  # megabytes a picture may take in memory


def read_picture(path: Path) -> QImage:
    """A picture upright, as it is on the disk. A null image where it cannot be read. Callable from any thread."""
    reader = QImageReader(str(path))
    reader.setAutoTransform(True)
    reader.setAllocationLimit(LARGEST)
    image = reader.read()
    # the two formats that are drawn without being converted, which for a large picture takes longer than a frame
    clear = image.hasAlphaChannel()
    return image.convertToFormat(QImage.Format.Format_ARGB32_Premultiplied if clear else QImage.Format.Format_RGB32)


def captioned(work: Work, other: Work | None) -> str:
    """What tells one picture from another: its words, and where they are the same the seed."""
    if other is None or other.title != work.title:
        return shown(work.title, 40)
    seed, theirs = getattr(work.recipe, "seed", None), getattr(other.recipe, "seed", None)
    if seed is not None and seed != theirs:
        return f"{shown(work.title, 32)} · {tr('seed {n}', n=seed)}"
    size, other_size = (tuple(each.meta.get(side) for side in ("width", "height")) for each in (work, other))
    if size != other_size and all(size):
        return f"{shown(work.title, 32)} · {size[0]} × {size[1]}"
    return f"{shown(work.title, 32)} · {when(work)}"


def shaped(image: QImage, size: QSize) -> QImage:
    """A picture laid whole into a frame of another shape, with room beside it; as it is where the shapes agree."""
    wide, high = image.width() * size.height(), image.height() * size.width()
    if image.isNull() or size.isEmpty() or abs(wide - high) <= 0.01 * high:
        return image
    fitted = image.size().scaled(size, Qt.AspectRatioMode.KeepAspectRatio)
    made = QImage(size, QImage.Format.Format_ARGB32_Premultiplied)
    made.fill(Qt.GlobalColor.transparent)
    painter = QPainter(made)
    painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
    left, top = (size.width() - fitted.width()) // 2, (size.height() - fitted.height()) // 2
    painter.drawImage(QRect(left, top, fitted.width(), fitted.height()), image)
    painter.end()
    return made


class ImageTab(MakeTab):
    kind = "image"
    tiles = True

    def build_centre(self) -> QWidget:
        self.canvas = Canvas()
        self.canvas.setObjectName("canvas")
        self.canvas.describe(tr("No picture yet"))
        self.empty = EmptyState(
            tr("What should the picture show?"),
            tr("Describe it on the left and press Generate. These are good to begin with:"),
            (tr("sun with face, noto style"), tr("red apple, flat style"), tr("red heart, sticker style")),
        )
        self.empty.chosen.connect(self.take_text)
        self._batch: list[Work] = []
        self._pictures: dict[str, QImage] = {}  # of the batch and of what is compared
        self._other: Work | None = None  # what was shown before, to compare with
        self._outside: QImage | None = None  # a dropped picture without a recipe, to compare with
        self._in_grid = self._comparing = False
        self._live = False  # a preview is shown
        self._before = ""  # what the previews took the place of: "grid", "compare" or the work alone

        self.out_button = ToolButton(tr("Zoom out"), "minus", shortcut=keys_of("zoom_out"), clicked=self.zoom_out)
        self.zoom_button = ToolButton(tr("Fit the picture"), text="100 %", shortcut=keys_of("zoom_fit"))
        self.zoom_button.clicked.connect(self.zoom_fit)
        self.zoom_button.setMinimumWidth(64)
        self.in_button = ToolButton(tr("Zoom in"), "plus", shortcut=keys_of("zoom_in"), clicked=self.zoom_in)
        self.compare_button = ToolButton(
            tr("Compare with the work before"), "columns-2", text=tr("Compare"), shortcut=keys_of("compare"),
            checkable=True,
        )  # fmt: skip
        self.compare_button.clicked.connect(self.compare)
        self.grid_button = ToolButton(
            tr("Show the batch as a grid"),
            "grid-2x2",
            text=tr("Batch"),
            shortcut=keys_of("toggle_grid"),
            checkable=True,
        )
        self.grid_button.clicked.connect(self.toggle_grid)
        self.copy_button = ToolButton(
            tr("Copy the picture"), "copy", text=tr("Copy"), shortcut=keys_of("copy_work"), clicked=self.copy_work
        )
        self.save_button = ToolButton(
            tr("Save as …"), "download", text=tr("Save as …"), shortcut=keys_of("save_as"), clicked=self.save_as
        )
        self.paint_button = ToolButton(
            tr("Paint on the picture: mask, layers, frame"), "brush", text=tr("Paint"), shortcut=keys_of("paint"),
            checkable=True, clicked=self.paint,
        )  # fmt: skip
        self.live_button = ToolButton(
            tr("Live: paint while you type; nothing of it is kept until you press Generate"), "sparkles",
            text=tr("Live"), shortcut=keys_of("toggle_live"), checkable=True, clicked=self.toggle_live,
        )  # fmt: skip
        self._live_seed: int | None = None
        self.live = Live(self, self.desk)
        self.live.shown.connect(self._live_shown)
        self.live.refused.connect(lambda problem: self.notice.problem(problem))
        self.form.changed.connect(lambda _: self.live.touch())
        self.finish_button = ToolButton(
            tr("Finish the picture: enlarge, adjust, cut out"), "wand-sparkles", text=tr("Finish")
        )
        menu = QMenu(self.finish_button)
        for kind, title in FINISHES.items():
            menu.addAction(tr(title)).triggered.connect(lambda _=False, k=kind: self.finish(k))
        self.finish_button.setMenu(menu)
        self.finish_button.setPopupMode(ToolButton.ToolButtonPopupMode.InstantPopup)
        self.grids = Grids(self, self.desk)
        self.grids.sheet.connect(self.show_work)
        self.painting = Painting(self, self.desk, self.form)
        self.painting.told.connect(lambda sentence: self.notice.tell(sentence))
        self.painting.entered.connect(self._paint_page)
        self.painting.changed.connect(self.live.touch)
        self.painting.left.connect(self._paint_left)
        self.keep_button = ToolButton(
            tr("Keep the painting as a picture"), "image", text=tr("Keep"), clicked=self.painting.keep_as_picture
        )
        self.tools = QFrame()
        self.tools.setProperty("role", "card")
        self.tools.setObjectName("tools")
        tools = row(
            self.out_button, self.zoom_button, self.in_button, self.paint_button, self.live_button, self.finish_button,
            self.compare_button, self.grid_button, self.copy_button, self.keep_button, self.save_button, spacing=2,
        )  # fmt: skip
        tools.setContentsMargins(6, 4, 6, 4)
        self.tools.setLayout(tools)
        for name in ("out", "zoom", "in", "paint", "live", "finish", "compare", "grid", "copy", "keep", "save"):
            getattr(self, f"{name}_button").setObjectName(f"canvas_{name}")
        self.canvas.zoom_changed.connect(self._zoomed)
        self.canvas.opened.connect(self._open_cell)
        self.canvas.selected.connect(self._select_cell)
        self.canvas.drag_started.connect(self._drag)
        self.canvas.menu_wanted.connect(self._menu)

        self.bar = PromptBar(self.desk)
        self.form.put_below_words(self.bar)
        words, avoid = (self.form.rows[name].editor.target() for name in ("prompt", "negative"))
        assert isinstance(words, QPlainTextEdit)
        assert isinstance(avoid, QPlainTextEdit)
        self.bar.attach(words, self.form.values)
        self.bar.watch(avoid)
        self.bar.preset.connect(self.form.put)

        centre = QWidget()
        self._stack_holder = QWidget()
        self._stack = QStackedLayout(self._stack_holder)
        self._stack.addWidget(self.empty)
        self._stack.addWidget(self.canvas)
        around = QVBoxLayout(centre)
        around.setContentsMargins(0, 0, 0, 12)
        around.setSpacing(4)
        around.addWidget(self._stack_holder, 1)
        around.addWidget(self.tools, 0, Qt.AlignmentFlag.AlignHCenter)
        WordsIfRoomy(
            centre, ROOMY, self.paint_button, self.live_button, self.finish_button, self.compare_button,
            self.grid_button, self.copy_button, self.keep_button, self.save_button,
        )  # fmt: skip
        OnlyIfRoomy(centre, TIGHT, self.out_button, self.in_button)
        self._refresh_tools()
        return centre

    # -- making -------------------------------------------------------------------------------------------------------

    def begun(self, job_id: str) -> None:
        if self.painting.active:
            return
        job = self.desk.track.jobs.get(job_id)
        card = self.form.card()
        limits = card.limits if card else None
        width = self.form.rows["width"].value() or (limits.width if limits else None) or 512
        height = self.form.rows["height"].value() or (limits.height if limits else None) or 512
        session = self.desk.session
        if session is not None:  # the job knows its true size; the form may have changed since
            self.desk.tasks.read(self, lambda: session.job(job_id).recipe, self._framed)
        self.canvas.set_frame(width, height)
        if job is not None and job.preview is not None:
            self._preview(job.preview)
        elif self.work is None:  # loading a model takes a while, and the first press should be seen to do something
            blank = QImage(8, 8, QImage.Format.Format_RGB32)
            blank.fill(QColor(theme.current().field))
            self._stack.setCurrentWidget(self.canvas)
            self.canvas.show_preview(blank, tr("getting ready …"))
            self.canvas.describe(tr("getting ready …"))

    def _framed(self, recipe: Any) -> None:
        if isinstance(recipe, ImageRecipe) and recipe.width and recipe.height:
            self.canvas.set_frame(recipe.width, recipe.height)

    def progressed(self, event: Event) -> None:
        if isinstance(event, Preview) and event.job == self.following:
            self._preview(event)

    def _preview(self, event: Preview) -> None:
        job = self.desk.track.jobs.get(event.job)
        image = QImage.fromData(event.jpeg)
        if image.isNull() or job is None or self.aside:
            return
        if self.painting.active:
            if self.painting.takes(event.job):
                self.painting.preview(image, tr("preview · step {n}", n=event.step))
            return
        if not self._live:
            self._before = "grid" if self._in_grid else "compare" if self._comparing else ""
            self._leave_modes()
            self._live = True
            self._refresh_tools()
        caption = tr("preview · step {n}", n=event.step)
        if job.total:
            caption = tr("preview · step {n} of {all}", n=event.step, all=round(job.total / job.count))
        if job.count > 1:
            caption = tr("picture {n} of {all}", n=event.index + 1, all=job.count) + f" · {caption}"
        self._stack.setCurrentWidget(self.canvas)
        self.canvas.show_preview(image, caption)
        self.canvas.describe(caption)

    def ended(self, event: EndEvent) -> None:
        self.painting.ended(event.job)
        if event.job != self.following or self.painting.active:
            return
        works = list(event.works)
        if len(works) > 1 and isinstance(event, Finished):
            self._batch = works
            self._show_batch()
        elif not works and (self._live or self.work is None):
            self._restore()
        self._refresh_tools()

    def _restore(self) -> None:
        """Nothing came of it: back to what was there before the previews."""
        self._live = False
        if self.work is None:
            self._stack.setCurrentWidget(self.empty)
        elif self._before == "grid" and len(self._batch) > 1:
            self._show_batch()
        elif self._before == "compare":
            self.compare()
        else:
            self.display(self.work)

    def _came(self, works: list[Work]) -> None:
        landing = sorted((w for w in works if self.painting.takes(w.job)), key=lambda w: w.index)
        for work in landing:
            self.painting.land(work, read_picture)
        if self.painting.active:
            if landing:
                self.work = landing[0]
                self.details.show_work(self.work)
                self.history.select(self.work.id)
            return
        mine = [w for w in works if w.job == self.following]
        if len(mine) > 1:
            self._batch = sorted(mine, key=lambda w: w.index)
            if self.work is not None and self.work.job != self.following:
                self._other = self.work
            self.work = self._batch[0]
            self.details.show_work(self.work)
            self.history.select(self.work.id)
            self._show_batch()
        else:
            super()._came(works)

    def clear(self) -> None:
        self._leave_modes()
        self._batch, self._other = [], None
        self.canvas.clear()
        self._stack.setCurrentWidget(self.empty)
        self._refresh_tools()

    def ask(self, values: dict[str, Any]) -> None:
        if self.live.on:  # what was looked at becomes a work
            self.live.stop()
        self.bar.word(values, self._worded, self.refused)

    def _worded(self, made: Any) -> None:
        """Styles are applied and choices made: one job, or one for each picture where they differ."""
        if made.notes:
            self.notice.tell(" ".join(made.notes))
        for given in made.given:
            if self.painting.active:
                self.painting.make(given, self.submitted, self.refused)
            else:
                super().ask(given)

    def give_picture(self, editor: Any) -> None:
        if self.work is not None and self.desk.session is not None:
            editor.take(self.desk.session.path(self.work))
        else:
            self.notice.tell(tr("No picture is shown yet."))

    def take_recipe(self, recipe: Recipe, part: str = "all") -> None:
        kind = kind_of(recipe)
        if kind in FINISHES and self.work is not None:
            self.finish(kind, recipe)
        elif kind == self.kind:
            super().take_recipe(recipe, part)
            if part in ("all", "prompt"):
                self.bar.clear()  # what was kept has its styles in it already
        else:
            self.notice.tell(tr("This picture was put together from others; they have the recipes."))

    def _finishes(self, work: Work) -> list[tuple[str, Callable[[], Any]] | None]:
        def does(kind: str) -> Callable[[], None]:
            return then(lambda: self.show_work(work), lambda: self.finish(kind))

        return [(tr(title), does(kind)) for kind, title in FINISHES.items()]

    def finish(self, kind: str, given: Recipe | None = None) -> None:
        """Enlarge, adjust or cut out the shown picture; or do the same once more as a recipe says."""
        if self.work is None or self.desk.session is None:
            self.notice.tell(tr("No picture is shown yet."))
            return
        from studio.ui.finish import FinishDialog  # when first needed

        dialog = FinishDialog(self.window(), self.desk, kind, self.work, given)
        dialog.asked.connect(self.submitted)
        dialog.open()

    def enlarge(self) -> None:
        self.finish("upscale")

    def adjust(self) -> None:
        self.finish("edit")

    def stop(self) -> None:
        """Cancel what runs; where nothing does, leave what was entered last: turns, comparing, live, the board."""
        if self.desk.track.unfinished(self.kind):
            super().stop()
        elif self.canvas.flickering:
            self.flicker()
        elif self._comparing:
            self.compare()
        elif self.live.on:
            self._end_live()
        elif self._in_grid:
            self.toggle_grid()
        elif self.painting.active:
            self.painting.leave()

    # -- live ---------------------------------------------------------------------------------------------------------

    def toggle_live(self) -> None:
        """Paint while the user types, or stop that."""
        if self.live.on:
            self._end_live()
            return
        self._live_seed = None
        if self.form.rows["seed"].value() is None:  # held, so that Generate makes the same
            self._live_seed = self.live.some_seed()
            self.form.put_some({"seed": self._live_seed})
        self.notice.hide()
        self.live.start(self._live_values)
        self._refresh_tools()

    def _live_values(self) -> Any:
        values = self.taken(self.form.values())
        if not str(values.get("prompt", "")).strip() or self.form.complaints():
            return None
        return self.painting.passing(values) if self.painting.active else (values, dict)

    def _live_shown(self, image: QImage, done: bool) -> None:
        caption = tr("live") if done else tr("live · painting …")
        if self.painting.active:
            self.painting.preview(image, caption)
            return
        if not self._live:
            self._leave_modes()
            self._live = True
        self._stack.setCurrentWidget(self.canvas)
        self.canvas.set_frame(0, 0)
        self.canvas.show_preview(image, caption)
        self.canvas.describe(caption)
        self._refresh_tools()

    def _end_live(self) -> None:
        self.live.stop()
        if self._live_seed is not None and self.form.rows["seed"].value() == self._live_seed:
            self.form.put_some({"seed": None})  # as it was before
        self._live_seed = None
        if self.painting.active:
            self.painting.preview(QImage(), "")
        elif self._live:
            self._live = False
            if self.work is not None:
                self.display(self.work)
            else:
                self._stack.setCurrentWidget(self.empty)
        self._refresh_tools()

    # -- painting -----------------------------------------------------------------------------------------------------

    def paint(self) -> None:
        """Paint on the shown picture, or go on with the painting of before; and back."""
        if self.painting.active:
            self.painting.leave()
            return
        card = self.form.card()
        limits = card.limits if card else None
        size = ((limits.width if limits else None) or 512, (limits.height if limits else None) or 512)
        work = self.work
        if (work is None or self.painting.is_of(work)) and self.painting.go_on():
            return
        if work is None:
            self.painting.begin(None, size)
        else:
            self._load(work, lambda image: self.painting.begin(None if image.isNull() else image, size, work.id))

    def save_as(self) -> None:
        """Save the shown picture; while painting, the layers."""
        if self.painting.active:
            self.painting.ask_where()
        else:
            super().save_as()

    def take_file(self, path: Path) -> None:
        if path.suffix.lower() == ".ora":
            self.painting.open_layers(path)
        else:
            super().take_file(path)

    def paint_anew(self, work: Work) -> None:
        """Begin a painting with a work."""
        self._load(work, lambda image: None if image.isNull() else self.painting.begin(image, (0, 0), work.id))

    def _paint_page(self, page: QWidget) -> None:
        if self._stack.indexOf(page) < 0:
            self._stack.addWidget(page)
        self._leave_modes()
        self._live = False
        self._stack.setCurrentWidget(page)
        self._refresh_tools()

    def _paint_left(self) -> None:
        if self.work is not None:
            self.display(self.work)
        else:
            self._stack.setCurrentWidget(self.empty)
        self._refresh_tools()

    def leave(self) -> None:
        self.painting.close()

    # -- showing ------------------------------------------------------------------------------------------------------

    def show_work(self, work: Work) -> None:
        if self.live.on:
            self._end_live()
        if self.painting.active:
            self.painting.leave()
            self.notice.tell(tr("The painting is kept."), action=tr("Back to it"), does=self.painting.go_on)
        if self.work is not None and self.work.id != work.id:
            self._other = self.work
        self._outside = None
        self._leave_modes()
        if all(w.id != work.id for w in self._batch):
            self._batch = []
            session = self.desk.session
            if session is not None:
                self.desk.tasks.read(self, lambda: session.works_of(work.job), self._batch_read)
        super().show_work(work)

    def _batch_read(self, works: list[Work]) -> None:
        """The batch of the shown picture, which may be an old one."""
        if self.work is not None and not self._batch and any(w.id == self.work.id for w in works):
            self._batch = works
            self._refresh_tools()

    def display(self, work: Work) -> None:
        self._stack.setCurrentWidget(self.canvas)
        self._live = False

        def done(image: QImage) -> None:
            elsewhere = self._in_grid or self._comparing or self._live
            if self.work is None or self.work.id != work.id or elsewhere:
                return
            if image.isNull():
                self.canvas.clear()  # what was shown before is another picture
                self.canvas.describe(tr("No picture yet"))
                self.notice.tell(tr("The picture “{name}” cannot be read.", name=shown(work.title)), bad=True)
                return
            self.canvas.show_picture(image, key=work.id)
            self.canvas.describe(tr("Picture: {title}", title=shown(work.title, 200)))

        self._load(work, done)
        self._refresh_tools()

    def _load(self, work: Work, done: Callable[[QImage], Any]) -> None:
        session = self.desk.session
        if work.id in self._pictures:
            done(self._pictures[work.id])
        elif session is not None:
            path = session.path(work)

            def keep(image: QImage) -> None:
                self._pictures[work.id] = image
                while len(self._pictures) > 8:
                    del self._pictures[next(iter(self._pictures))]
                done(image)

            self.desk.tasks.picture(self, lambda: read_picture(path), keep)

    def _refresh_tools(self) -> None:
        there = self.work is not None
        for button in (self.out_button, self.zoom_button, self.in_button, self.copy_button, self.save_button):
            button.setEnabled(there)
        for button in (self.copy_button, self.save_button, self.finish_button):  # a preview is not a work yet
            button.setEnabled(there and not self._live)
        self.compare_button.setEnabled(there and self._partner() is not None)
        self.grid_button.setEnabled(len(self._batch) > 1)
        self.grid_button.setChecked(self._in_grid)
        self.compare_button.setChecked(self._comparing)
        painting = self.painting.active
        self.paint_button.setChecked(painting)
        self.live_button.setChecked(self.live.on)
        self.live_button.setEnabled(self.desk.session is not None)
        self.paint_button.setEnabled(self.desk.session is not None)
        for button in (self.finish_button, self.compare_button, self.grid_button, self.copy_button):
            button.setVisible(not painting)
        self.save_button.setEnabled(self.save_button.isEnabled() or painting)
        self.save_button.say(tr("Save layers …") if painting else tr("Save as …"))
        self.keep_button.setVisible(painting)
        self.tools.setVisible(there or painting or self.live.on or self._stack.currentWidget() is self.canvas)

    def _zoomed(self, zoom: float, fit: bool) -> None:
        self.zoom_button.setText(tr("Fit") if fit else f"{zoom * 100:.0f} %")

    def _seen(self) -> Canvas:
        """What is looked at: the picture, or the board that is painted on."""
        page = self.painting.page
        return page.board if self.painting.active and page is not None else self.canvas

    def zoom_in(self) -> None:
        self._seen().zoom_in()

    def zoom_out(self) -> None:
        self._seen().zoom_out()

    def zoom_fit(self) -> None:
        self._seen().fit()

    def zoom_full(self) -> None:
        self._seen().actual_size()

    # -- grid and compare ---------------------------------------------------------------------------------------------

    def _leave_modes(self) -> None:
        if self._comparing:
            self.canvas.compare(None)
        self._in_grid = self._comparing = False

    def toggle_grid(self) -> None:
        """The whole batch, or one picture of it."""
        if self._in_grid:
            self._in_grid = False
            if self.work is not None:
                self.display(self.work)
        elif len(self._batch) > 1:
            self.aside = self.at_work()
            self._show_batch()
        self._refresh_tools()

    def _show_batch(self) -> None:
        self._leave_modes()
        self._in_grid, self._live = True, False
        self._stack.setCurrentWidget(self.canvas)
        batch = self._batch
        chosen = next((i for i, w in enumerate(batch) if self.work and w.id == self.work.id), 0)
        images: list[QImage | None] = [self._pictures.get(w.id) for w in batch]
        self.canvas.show_grid(images, chosen)
        self.canvas.describe(tr("{n} pictures of one batch", n=len(batch)))
        for at, work in enumerate(batch):
            if images[at] is None:
                self._load(work, functools.partial(self._cell, batch, images, at))
        self._refresh_tools()

    def _cell(self, batch: list[Work], images: list[QImage | None], at: int, image: QImage) -> None:
        images[at] = image
        if self._in_grid and self._batch is batch:
            chosen = next((i for i, w in enumerate(batch) if self.work and w.id == self.work.id), 0)
            self.canvas.show_grid(images, chosen)

    def _select_cell(self, at: int) -> None:
        if 0 <= at < len(self._batch):
            self.work = self._batch[at]
            self.details.show_work(self.work)
            self.history.select(self.work.id)

    def _open_cell(self, at: int) -> None:
        if 0 <= at < len(self._batch):
            self._in_grid = False
            super().show_work(self._batch[at])

    def _partner(self) -> Work | QImage | None:
        if self._outside is not None:
            return self._outside
        if self._other is not None and (self.work is None or self._other.id != self.work.id):
            return self._other
        return self.history.neighbour(self.work.id, 1) if self.work else None

    def compare(self) -> None:
        """The shown picture beside the one before it, with a slider between them."""
        work, partner = self.work, self._partner()
        if self._comparing or work is None or partner is None:
            if self._comparing and work is not None:
                self._leave_modes()
                self.display(work)
            self._refresh_tools()
            return
        self.aside = self.at_work()
        self._in_grid = self._live = False
        self._comparing = True
        mine = captioned(work, partner if isinstance(partner, Work) else None)

        def both(image: QImage, other: QImage, caption: str) -> None:
            if not self._comparing or self.work is None or self.work.id != work.id:
                return
            if image.isNull() or other.isNull():
                self.compare()
                self.notice.tell(tr("One of the two pictures cannot be read."), bad=True)
            else:
                self.canvas.show_picture(other, key=f"{work.id}+")
                self.canvas.compare(shaped(image, other.size()), caption, mine)
                self.canvas.setFocus()

        if isinstance(partner, QImage):
            caption = tr("the dropped picture")
            self._load(work, lambda image: both(image, partner, caption))
        else:
            caption = captioned(partner, work)
            self._load(partner, lambda other: self._load(work, lambda image: both(image, other, caption)))
        self._refresh_tools()

    # -- grids --------------------------------------------------------------------------------------------------------

    def grid(self) -> None:
        """Ask what is to vary, and paint every combination."""
        wrong = self.form.complaints()
        if wrong:
            self.form.go_to(wrong[0])
            return
        self.notice.hide()
        ask_for_grid(self.window(), self.desk, self.taken(self.form.values()), self.form.card())

    def fill_more(self, menu: QMenu) -> None:
        # the keys as words, as for the other entries
        entry = menu.addAction(f"{tr('Make a grid of variations …')}\t{keys_of('grid')}")
        entry.triggered.connect(lambda *_: self.grid())
        self.grids.fill(menu)

    def flicker(self) -> None:
        """The two compared pictures in turn, instead of side by side; and back."""
        if not self._comparing:
            self.compare()
        if self._comparing:
            on = not self.canvas.flickering
            # the second picture may still be on its way from the disk
            QTimer.singleShot(0 if self.canvas.comparing else 200, self, lambda: self.canvas.flicker(on))

    # -- in and out ---------------------------------------------------------------------------------------------------

    def _drag(self) -> None:
        if self.work is not None:
            image = self._pictures.get(self.work.id)
            drag_out(self.canvas, self.work, self.desk, QPixmap.fromImage(image) if image is not None else None)

    def _menu(self, at: QPoint) -> None:
        if self.work is not None:
            menu = QMenu(self)
            menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
            self.fill_menu(self.work, menu)
            menu.popup(at)

    def copy_work(self) -> None:
        work, copy = self.work, super().copy_work

        def done(_: QImage) -> None:
            if work is not None and self.work is not None and self.work.id == work.id:
                copy()

        if work is not None:
            self._load(work, done)  # it may still be on its way

    def copied(self) -> None:
        self.copy_button.flash()

    def add_content(self, data: QMimeData) -> None:
        image = self._pictures.get(self.work.id) if self.work else None
        if image is not None and not image.isNull():
            data.setImageData(image)

    def own_entries(self, work: Work) -> list[tuple[str, Callable[[], Any]] | None]:
        return [
            *self._finishes(work),
            None,
            (tr("Paint on it"), lambda: self.paint_anew(work)),
            (tr("Begin from it"), lambda: self._begin_from(work)),
            (tr("Compare with the shown picture"), lambda: self._compare_with(work)),
            (tr("Read the prompt aloud"), lambda: self.desk.sent.emit("speech", getattr(work.recipe, "prompt", ""))),
        ]

    def _begin_from(self, work: Work) -> None:
        """Make a work the picture to begin from."""
        if self.desk.session is not None:
            self.form.go_to("image")
            editor = self.form.rows["image"].editor
            if isinstance(editor, PictureEditor):
                editor.take(self.desk.session.path(work))

    def _begin_from_image(self, image: QImage) -> None:
        self.form.go_to("image")
        editor = self.form.rows["image"].editor
        if isinstance(editor, PictureEditor):
            editor.take(image)

    def _compare_with(self, work: Work) -> None:
        if self.work is not None and work.id != self.work.id:
            self._leave_modes()
            self._other, self._outside = work, None
            self.compare()

    def take_plain(self, path: Path) -> None:
        """A file without a recipe of the studio: a picture of another program, or just a picture."""
        session = self.desk.session
        if path.suffix.lower() not in PICTURES or session is None:
            super().take_plain(path)
            return

        def found(there: Any) -> None:
            if there is not None and there.values:
                self._take_found(path, there)
            else:
                self.desk.tasks.picture(self, lambda: read_picture(path), read)

        def read(image: QImage) -> None:
            if image.isNull():
                self.notice.tell(tr("“{name}” is not a picture that can be read.", name=path.name), bad=True)
            else:
                self.take_image(image)

        self.desk.tasks.read(self, lambda: session.found_in(path), found, self.tell_problem)

    def _take_found(self, path: Path, there: Any) -> None:
        """Fill the form from what another program wrote, and say what has no place here."""
        self.form.put(there.values)
        sentence = tr("The parameters of “{name}” were taken, from {program}.", name=path.name, program=there.program)
        hint = (
            one_or_many(len(there.left), "One thing was left out.", "{n} things were left out.") if there.left else ""
        )
        detail = "\n".join(f"{name}: {value}" for name, value in there.left)
        self.notice.tell(sentence, hint, detail=f"{detail}\n\n{there.text}".strip())
        self.focus_prompt()

    def take_image(self, image: QImage) -> bool:
        """A picture from elsewhere, without a recipe: it can be compared with."""
        self._leave_modes()
        self._outside = image
        if self.work is None:
            self.aside, self._live = self.at_work(), False
            self._stack.setCurrentWidget(self.canvas)
            self.canvas.show_picture(image, key="outside")
            self.notice.tell(
                tr("This picture says nothing of how it was made; it is only shown."), action=tr("Begin from it"),
                does=lambda: self._begin_from_image(image),
            )  # fmt: skip
        else:
            self.compare()
            self.notice.tell(
                tr("This picture says nothing of how it was made; it is compared with the shown one."),
                action=tr("Begin from it"), does=lambda: self._begin_from_image(image),
            )  # fmt: skip
        return True
