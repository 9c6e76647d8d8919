"""A session with fast fake engines in real worker processes, and the real window on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import shiboken6
from pytestqt.qtbot import QtBot

from studio.app.session import Session
from studio.core.cards import Broken, Limits, ModelCard
from studio.core.paths import Paths
from studio.core.works import Work
from studio.models import registry
from studio.runtime.link import ProcessLink
from studio.ui import state, theme
from studio.ui.desk import Desk
from studio.ui.window import Window
from tests.ui.fakes import COMMAND


def _card(kind: str, name: str, **more: Any) -> ModelCard:
    return ModelCard(
        id=name.lower().replace(" ", "-"), name=name, kind=kind, engine=f"{kind}.fake", path=f"/nowhere/{name}",
        format="fake", sha256="-", **more,
    )  # fmt: skip


CARDS = [
    _card("text", "Writer", can=("complete",), limits=Limits(context=4096)),
    _card("text", "Other writer", can=("complete", "chat"), defaults={"temperature": 0.3}),
    _card(
        "image", "Painter", defaults={"steps": 4}, base="sd1",
        can=("picture", "negative", "guidance", "from_picture", "into_picture", "lora", "control"),
        limits=Limits(width=64, height=64, size_multiple=8, prompt_tokens=6),
    ),
    _card(
        "image", "Turbo", can=("picture",), defaults={"steps": 2},
        limits=Limits(width=128, height=96, size_multiple=8),
    ),
    _card("lora", "Soft style", base="sd1"),
    _card("lora", "Big style", base="sdxl"),
    _card("control", "Edges", base="sd1", family="controlnet"),
    _card("speech", "Speaker", notes=("speaks English (en_US)",)),
    _card("speech", "Choir", limits=Limits(speakers=5)),
]  # fmt: skip


class _Models:
    """In place of the models on the disk."""

    def __init__(self) -> None:
        self.all = list(CARDS)
        self.bad: list[tuple[Path, Broken]] = []

    def cards(self) -> list[ModelCard]:
        return list(self.all)

    def broken(self) -> list[Any]:
        return []

    def choose(self, kind: str, name_or_path: str) -> ModelCard:
        return registry.choose(self.all, kind, name_or_path)

    def add(self, path: Path) -> ModelCard:
        card = registry.examine(path)  # the real look at the real file
        self.all.append(card)
        return card


class FakeSession(Session):
    """The real session; only models and worker program are the tests' own."""

    def __init__(self, paths: Paths, **more: Any) -> None:
        def link(lane: str, on_reply: Any, on_end: Any) -> ProcessLink:
            return ProcessLink(
                COMMAND if lane != "export" else _worker(), {}, paths.logs / "workers.log", on_reply, on_end
            )

        super().__init__(paths, make_link=link, **more)
        self._models = _Models()  # type: ignore[assignment]


def _worker() -> list[str]:
    from studio.runtime.link import worker_command

    return worker_command()


class Rig:
    """The window on a session of fakes.

    Args:
        opened: open the session; otherwise the window is as it is before.
    """

    def __init__(
        self, qtbot: QtBot, paths: Paths, remembered: state.WindowState | None = None, *, opened: bool = True,
        size: tuple[int, int] = (1280, 800),
    ) -> None:  # fmt: skip
        from PySide6.QtWidgets import QApplication

        self.qtbot, self.paths = qtbot, paths
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        theme.colour(app, theme.DARK)
        self.problems: list[Any] = []
        self.desk = Desk(None, paths.home / "window.json", remembered or state.WindowState())
        self.desk.failed.connect(self.problems.append)
        self.window = Window(self.desk)
        self.window.dress()
        self.window.resize(*size)
        self.window.show()
        self.until(self.window.isVisible)
        self.session: FakeSession | None = None
        if opened:
            self.open()

    def open(self) -> None:
        self.session = FakeSession(self.paths)
        self.session.change_settings(warm=False, theme="dark")
        self.desk.open(self.session)
        self.until(lambda: self.desk.models_known and all(t.history.model.ready for t in self.window.tabs.values()))

    def until(self, true: Callable[[], Any], seconds: float = 30) -> None:
        """Let the window work until something is true."""
        self.qtbot.waitUntil(lambda: bool(true()), timeout=int(seconds * 1000))

    def tab(self, kind: str) -> Any:
        self.window.go(kind)
        tab = self.window.tabs[kind]
        self.until(lambda: tab.history.model.ready or self.session is None)
        return tab

    def idle(self) -> bool:
        return not self.desk.track.running() and not self.desk.track.waiting()

    def running(self, kind: str) -> bool:
        return self.desk.track.current(kind) is not None

    def make(self, kind: str, words: str, **more: Any) -> None:
        """Ask for a work through the form, as a user does."""
        tab = self.tab(kind)
        tab.form.put_some({tab.form.words.field.name: words, **more})
        before = len(self.desk.track.jobs)
        tab.make()
        self.until(lambda: len(self.desk.track.jobs) > before or tab.notice.isVisible())

    def made(self, kind: str, words: str, **more: Any) -> Work:
        """Ask for a work and wait until it is shown as the newest of the history."""
        tab = self.tab(kind)
        known = {w.id for w in tab.history.model.works}
        self.make(kind, words, **more)
        self.until(lambda: self.idle() and any(w.id not in known for w in tab.history.model.works))
        return next(w for w in tab.history.model.works if w.id not in known)

    def recipe(self, work: Work) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(work.recipe)
        return found

    def close(self) -> None:
        if not shiboken6.isValid(self.window):
            return  # closed by the test itself
        if self.desk.session is not None or not self.window._ending:
            self.window.end("cancel")
        self.window.deleteLater()
        self.desk.deleteLater()
