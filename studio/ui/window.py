"""The window: tabs on top, the tab's own page, messages, the queue and the job strip."""

from __future__ import annotations

import base64
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import QByteArray, QEvent, QObject, QPoint, QRect, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QAction, QCloseEvent, QGuiApplication, QKeySequence
from PySide6.QtWidgets import (
    QApplication,
    QButtonGroup,
    QMainWindow,
    QMenu,
    QSplitter,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from studio.core.cards import ModelCard
from studio.core.events import Event, Failed, Finished
from studio.core.problems import Problem
from studio.core.recipes import ExportRecipe, Recipe, kind_of, work_kind
from studio.core.works import Change, Work
from studio.ui import theme
from studio.ui.actions import ACTIONS, BY_NAME, Action, keys_of
from studio.ui.desk import Desk
from studio.ui.queue import JobStrip, QueuePanel
from studio.ui.strings import tr
from studio.ui.tabs import TABS, TabEntry, home_of
from studio.ui.tabs.base import MakeTab, open_folder
from studio.ui.widgets import Button, Notice, ToolButton, line, one_stop, row

TOLD_FOR = 8000  # ms a message stays that needs no answer


class TopBar(QWidget):
    """Tabs, search, theme, settings.

    Signals:
        painted: the first time it is on the screen.
    """

    painted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("bar")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setFixedHeight(44)
        self._seen = False

    def paintEvent(self, event: Any) -> None:
        super().paintEvent(event)
        if not self._seen:
            self._seen = True
            QTimer.singleShot(0, self, self.painted.emit)


class Window(QMainWindow):
    """The one window.

    Signals:
        painted: it is on the screen for the first time.
        closed: it has been closed and everything has ended.
    """

    painted = Signal()
    closed = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self.tabs: dict[str, MakeTab] = {}
        self._ending = False
        self._actions: dict[str, QAction] = {}
        self.setWindowTitle(tr("Studio"))
        self.setObjectName("studio")
        self.setMinimumSize(QSize(880, 500))  # 1920×1080 at 200 % leaves 960×540
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.NoContextMenu)
        self._make_actions()

        self.top = TopBar()
        self.top.painted.connect(self.painted)
        self._tab_buttons: dict[str, ToolButton] = {}
        group = QButtonGroup(self)
        group.setExclusive(True)
        across = row(spacing=0)
        for entry in TABS:
            button = ToolButton(
                tr(entry.title), entry.icon, text=tr(entry.title), role="tab", shortcut=keys_of(entry.action),
                checkable=True,
            )  # fmt: skip
            button.setObjectName(f"tab_{entry.kind}")
            button.clicked.connect(lambda _=False, k=entry.kind: self.go(k))
            group.addButton(button)
            self._tab_buttons[entry.kind] = button
            across.addWidget(button)
        one_stop(group)
        self.search = Button(
            f"{tr('Search works and commands')}      Ctrl K", role="search", icon_name="search", tip="Ctrl+K"
        )
        self.search.setObjectName("search")
        self.search.clicked.connect(self.palette_)
        self.theme_button = ToolButton(
            tr("Switch between light and dark"), "sun-moon", shortcut=keys_of("toggle_theme")
        )
        self.theme_button.setObjectName("theme")
        self.theme_button.clicked.connect(self.toggle_theme)
        self.gear = ToolButton(tr("Settings and more"), "settings")
        self.gear.setObjectName("gear")
        menu = QMenu(self.gear)
        for name in ("settings", "shortcuts", "", "open_data", "open_log", "empty_bin", "", "about", "close"):
            if name:
                menu.addAction(self._actions[name])
            else:
                menu.addSeparator()
        self.gear.setMenu(menu)
        self.gear.setPopupMode(ToolButton.ToolButtonPopupMode.InstantPopup)
        across.addStretch(1)
        for widget in (self.search, self.theme_button, self.gear):
            across.addWidget(widget)
            across.addSpacing(4)
        across.setContentsMargins(12, 0, 8, 0)
        self.top.setLayout(across)

        self.notice = Notice()
        self.notice.setObjectName("window_notice")
        self._told = QTimer(self, singleShot=True, interval=TOLD_FOR)
        self._told.timeout.connect(self.notice.hide)
        self.pages = QStackedWidget()
        self.pages.setObjectName("pages")
        self.queue = QueuePanel(desk)
        self.queue.pause.connect(self.pause_queue)
        if not desk.state.is_open("queue"):
            self.queue.hide()
        self.middle = QSplitter(Qt.Orientation.Vertical)
        self.middle.setObjectName("middle")
        self.middle.addWidget(self.pages)
        self.middle.addWidget(self.queue)
        self.middle.setStretchFactor(0, 1)
        self.middle.setChildrenCollapsible(False)
        self.middle.setSizes(desk.state.splitters.get("middle") or [600, 200])
        self.middle.splitterMoved.connect(self._splitted)
        self.strip = JobStrip(desk)
        self.strip.toggle.set_icon("chevron-down" if desk.state.is_open("queue") else "chevron-up")
        self.strip.unfold.connect(self.toggle_queue)
        self.strip.go.connect(self.go_to_job)
        whole = QWidget()
        whole.setObjectName("ground")
        around = QVBoxLayout(whole)
        around.setContentsMargins(0, 0, 0, 0)
        around.setSpacing(0)
        around.addWidget(self.top)
        around.addWidget(line())
        around.addWidget(self.middle, 1)
        around.addWidget(line())
        around.addWidget(self.strip)
        self.setCentralWidget(whole)
        # over the foot of the page, so that nothing moves under the pointer when a message comes or goes
        self.notice.setParent(whole)
        self.notice.hide()
        self.notice.shown.connect(self._place_notice)
        self.middle.installEventFilter(self)

        desk.failed.connect(self.tell_problem)
        desk.told.connect(self.tell)
        desk.sent.connect(self._sent)
        desk.reuse.connect(self._reuse)
        desk.use_model.connect(self._use_model)
        desk.wanted.connect(self._wanted)
        desk.happened.connect(self._happened)
        desk.change.connect(self._changed)
        desk.opened.connect(self._opened)
        desk.settings_changed.connect(self._settings)
        self._restore()
        self.go(desk.state.tab if desk.state.tab in {e.kind for e in TABS} else TABS[0].kind)

    # -- tabs ---------------------------------------------------------------------------------------------------------

    @property
    def tab(self) -> MakeTab:
        """The open tab."""
        found = self.pages.currentWidget()
        assert isinstance(found, MakeTab)
        return found

    def go(self, kind: str) -> None:
        """Open a tab; it is built the first time."""
        entry = next((e for e in TABS if e.kind == kind), None)
        if entry is None:
            return
        if kind not in self.tabs:
            self.tabs[kind] = self._built(entry)
            self.pages.addWidget(self.tabs[kind])
        self.pages.setCurrentWidget(self.tabs[kind])
        self._tab_buttons[kind].setChecked(True)
        self.desk.state.tab = kind
        self.desk.keeper.touch()
        self.strip.prefer(kind)
        self.tabs[kind].focus_prompt()
        if self.notice.isVisible():
            self._place_notice()
        self.desk.warm(kind)

    def _built(self, entry: TabEntry) -> MakeTab:
        module, _, name = entry.made_by.partition(":")
        made: MakeTab = getattr(importlib.import_module(module), name)(self.desk)
        made.setObjectName(f"{entry.kind}_tab")
        return made

    def go_to_job(self, kind: str) -> None:
        """Open a tab to see what is being made there."""
        home = home_of(work_kind(kind))
        self.go(home)
        if home in self.tabs:
            self.tabs[home].show_job_of(kind)

    def show_text(self) -> None:
        self.go("text")

    def show_image(self) -> None:
        self.go("image")

    def show_audio(self) -> None:
        self.go("speech")

    def show_train(self) -> None:
        self.go("train")

    def show_evaluate(self) -> None:
        self.go("evaluate")

    # -- actions ------------------------------------------------------------------------------------------------------

    def _make_actions(self) -> None:
        for declared in ACTIONS:
            action = QAction(tr(declared.title), self)
            action.setShortcuts([QKeySequence(keys) for keys in declared.keys])
            action.setShortcutContext(Qt.ShortcutContext.WindowShortcut)
            action.triggered.connect(lambda _=False, name=declared.name: self.do(name))
            self._actions[declared.name] = action
            self.addAction(action)

    def usable(self, action: Action) -> bool:
        """Whether an action means something in the open tab."""
        return not action.tab or action.tab == self.desk.state.tab

    def do(self, name: str) -> None:
        """Do an action by its name, in the window or in the open tab."""
        declared = BY_NAME[name]
        if not self.usable(declared):
            return
        own = {"palette": self.palette_, "close": self.close}.get(name)
        does: Callable[[], Any] | None = own or getattr(self, name, None)
        if does is None or not callable(does):
            does = getattr(self.tab, name, None)
        if does is not None:
            does()

    def palette_(self) -> None:
        """Open the command palette."""
        from studio.ui.palette import Palette  # here, as the dialogs: not needed for the first look

        palette = Palette(self, self.desk, self.usable)
        palette.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        palette.action.connect(self.do)
        palette.work.connect(self.show_work)
        palette.open()
        palette.place()
        palette.line.setFocus()

    def show_work(self, work: Work) -> None:
        """Show a work in the tab of its kind."""
        home = home_of(work.kind)
        self.go(home)
        if home in self.tabs:
            self.tabs[home].show_work(work)

    def toggle_queue(self) -> None:
        shown = not self.queue.isVisible()
        self.queue.setVisible(shown)
        self.desk.state.set_open("queue", shown)
        self.desk.keeper.touch()
        self.strip.toggle.set_icon("chevron-down" if shown else "chevron-up")
        if shown:
            self.queue.view.setFocus()

    def pause_queue(self) -> None:
        session = self.desk.session
        if session is not None:
            pausing = not session.paused
            self.desk.tasks.write(self, session.pause if pausing else session.unpause, lambda _: self._queue_told())

    def _queue_told(self) -> None:
        self.queue.refresh()
        self.strip.refresh()

    def settings(self) -> None:
        if self.desk.session is not None:
            from studio.ui.dialogs import SettingsDialog

            SettingsDialog(self, self.desk).open()

    def shortcuts(self) -> None:
        from studio.ui.dialogs import ShortcutsDialog

        ShortcutsDialog(self).open()

    def about(self) -> None:
        from studio.ui.dialogs import AboutDialog

        AboutDialog(self, self.desk).open()

    def empty_bin(self) -> None:
        """Delete what was removed, for good, after asking."""
        session = self.desk.session
        if session is None:
            return

        def ask(count: int) -> None:
            if not count:
                self.tell(tr("The bin is empty."))
                return
            from studio.ui.dialogs import EmptyBinDialog

            asked = EmptyBinDialog(self, count)
            asked.accepted.connect(lambda: self.desk.tasks.write(self, session.empty_bin, None, self.tell_problem))
            asked.open()

        self.desk.tasks.read(self, lambda: len(session.bin()), ask)

    def open_data(self) -> None:
        if self.desk.session is not None:
            open_folder(self.desk.session.paths.home)

    def open_log(self) -> None:
        if self.desk.session is not None:
            open_folder(self.desk.session.paths.logs)

    # -- theme --------------------------------------------------------------------------------------------------------

    def _settings(self) -> None:
        if self.desk.settings is not None:
            self.set_theme(theme.chosen(self.desk.settings.theme))

    def set_theme(self, wanted: theme.Theme) -> None:
        """Draw everything in another theme."""
        app = QApplication.instance()
        if not isinstance(app, QApplication) or theme.current() is wanted:
            return
        theme.colour(app, wanted)
        self.dress()
        for widget in self.findChildren(QWidget):
            if hasattr(widget, "retheme"):
                widget.retheme()

    def dress(self) -> None:
        """Put the present theme's style sheet on."""
        self.setStyleSheet(theme.sheet(theme.current()))

    def toggle_theme(self) -> None:
        session = self.desk.session
        wanted = "light" if theme.current().name == "dark" else "dark"
        self.set_theme(theme.THEMES[wanted])
        if session is not None:
            self.desk.tasks.write(self, lambda: session.change_settings(theme=wanted), None, self.tell_problem)

    def follow_system(self) -> None:
        """The system went dark or light."""
        if self.desk.settings is None or self.desk.settings.theme == "system":
            self.set_theme(theme.system_theme())

    # -- what is told -------------------------------------------------------------------------------------------------

    def tell(self, sentence: str, hint: str = "", action: Any = None, *, stays: bool | None = None) -> None:
        """A message over the page. `action`: a pair of a word and what it does; with one it stays till it is closed."""
        word, does = action or ("", None)
        stays = bool(action) if stays is None else stays
        self.notice.tell(sentence, hint, action=word, does=does)
        if stays:
            self._told.stop()  # a way back must not go while it is looked for
        else:
            self._told.start()

    def _place_notice(self) -> None:
        """Over the work: beside the form with its button, and above the tools below the work."""
        part, over = self.tab.centre, self.notice.parentWidget() or self
        room = QRect(part.mapTo(over, QPoint()), part.size()).intersected(self.middle.geometry())
        tools = getattr(self.tab, "tools", None)
        if tools is not None and tools.isVisible():
            room.setBottom(tools.mapTo(over, QPoint()).y())
        width = max(1, min(760, room.width() - 24))
        self.notice.setFixedWidth(width)
        height = (
            self.notice.heightForWidth(width) if self.notice.hasHeightForWidth() else self.notice.sizeHint().height()
        )
        self.notice.setGeometry(room.center().x() - width // 2, room.bottom() - height - 12, width, height)
        self.notice.raise_()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if watched is self.middle and event.type() == QEvent.Type.Resize and self.notice.isVisible():
            self._place_notice()
        return False

    def tell_problem(self, problem: Problem) -> None:
        self._told.stop()
        self.notice.problem(problem)

    def _happened(self, event: Event) -> None:
        job = self.desk.track.jobs.get(event.job)
        if job is None or job.kind != "export":
            return
        if isinstance(event, Finished) and event.files:
            path = Path(event.files[0])
            self.tell(
                tr("Saved as {name}.", name=path.name), "\n".join((str(path.parent), *event.notes)),
                (tr("Show in folder"), lambda: open_folder(path.parent)), stays=False,
            )  # fmt: skip
            self.desk.track.dismiss(job.id)
        elif isinstance(event, Failed):
            self.tell_problem(event.problem)

    def _opened(self) -> None:
        session = self.desk.session
        if session is not None and session.settings_note:
            self.tell(session.settings_note)
        self.desk.warm(self.desk.state.tab)
        self.tab.refresh_button()

    def _changed(self, change: Change) -> None:
        if change.lanes:
            self.strip.refresh()

    def _sent(self, kind: str, text: str) -> None:
        self.go(kind)
        if kind in self.tabs:
            limit = self.tabs[kind].form.words.field.high
            self.tabs[kind].take_text(text.strip()[: int(limit or len(text))])

    def _reuse(self, recipe: Recipe, part: str) -> None:
        if isinstance(recipe, ExportRecipe):
            self.tell(tr("This is the recipe of an export; there is nothing to make from it."))
            return
        kind = home_of(work_kind(kind_of(recipe)))
        self.go(kind)
        if kind in self.tabs:
            self.tabs[kind].take_recipe(recipe, part)

    def _wanted(self, kind: str, mode: str) -> None:
        self.go(kind)
        if kind in self.tabs:
            self.tabs[kind].set_mode(mode)

    def _use_model(self, kind: str, card: ModelCard) -> None:
        """Open the tab in which a model is used, with it chosen."""
        self.go(kind)
        if kind in self.tabs:
            self.tabs[kind].use_model(card)

    # -- coming and going ---------------------------------------------------------------------------------------------

    def _restore(self) -> None:
        self.resize(1280, 800)
        try:
            geometry = base64.b64decode(self.desk.state.geometry, validate=True)
        except ValueError:
            geometry = b""
        if geometry:
            self.restoreGeometry(QByteArray(geometry))
        screen = QGuiApplication.primaryScreen()
        if screen is not None:
            room = screen.availableGeometry()
            self.resize(min(self.width(), room.width()), min(self.height(), room.height()))

    def _splitted(self, *_: int) -> None:
        if self.notice.isVisible():
            self._place_notice()
        if self.queue.isVisible():
            self.desk.state.splitters["middle"] = self.middle.sizes()
            self.desk.keeper.touch()

    def _keep_geometry(self) -> None:
        self.desk.state.geometry = base64.b64encode(bytes(self.saveGeometry().data())).decode()
        self.desk.keeper.touch()

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        if self.isVisible():
            self._keep_geometry()

    def moveEvent(self, event: Any) -> None:
        super().moveEvent(event)
        if self.isVisible():
            self._keep_geometry()

    def come_forward(self) -> None:
        """Another start of the program asked for this window."""
        self.setWindowState(self.windowState() & ~Qt.WindowState.WindowMinimized | Qt.WindowState.WindowActive)
        self.show()
        self.raise_()
        self.activateWindow()

    def closeEvent(self, event: QCloseEvent) -> None:
        if self._ending:
            event.accept()
            return
        running, waiting = self.desk.track.running(), self.desk.track.waiting()
        answer = "requeue"
        if running:
            from studio.ui.dialogs import ClosingDialog

            asked = ClosingDialog(self, len(running), len(waiting))
            asked.exec()
            answer = asked.answer
            asked.deleteLater()
            if not answer:
                event.ignore()
                return
        event.accept()
        self.end(answer)

    def end(self, running: str) -> None:
        """Close everything. What runs is put back in the queue ("requeue") or cancelled ("cancel")."""
        if self._ending:
            return
        self._ending = True
        for tab in self.tabs.values():
            tab.leave()
        self.hide()
        QApplication.processEvents()  # gone from the screen before the workers are waited for
        self.desk.close(running)
        self.closed.emit()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.LanguageChange:
            self.setWindowTitle(tr("Studio"))
