"""A session whose workers run the scriptable engine of tests.runtime.fakes."""

from __future__ import annotations

from typing import Any

from studio.app.session import Session
from studio.core.cards import ModelCard
from studio.core.events import EndEvent, Event
from studio.core.paths import Paths
from studio.core.recipes import TextRecipe
from studio.core.works import Change
from studio.runtime.link import ProcessLink
from tests.runtime.fakes import COMMAND

CARD = ModelCard(
    id="fake", name="Fake", kind="text", engine="text.fake", path="", format="", sha256="-", defaults={"top_k": 7}
)


class OneModel:
    def choose(self, kind: str, name_or_path: str) -> ModelCard:
        return CARD

    def cards(self) -> list[ModelCard]:
        return [CARD]

    def broken(self) -> list[Any]:
        return []


class Rig(Session):
    def __init__(self, paths: Paths, **more: Any) -> None:
        self.events: list[Event | Change] = []
        self.links: list[ProcessLink] = []

        def link(lane: str, on_reply: Any, on_end: Any) -> ProcessLink:
            self.links.append(ProcessLink(COMMAND, {}, paths.logs / "workers.log", on_reply, on_end))
            return self.links[-1]

        super().__init__(paths, make_link=link, **{**more, "resume": False})
        self._models = OneModel()  # type: ignore[assignment]
        self.subscribe(self.events.append)
        if more.get("resume"):
            self.resume_waiting()

    def do(self, script: str, **more: Any) -> str:
        return self.submit(TextRecipe(prompt=script, seed=5), **more).id

    def end(self, job: str) -> EndEvent:
        found = self.wait(job, 30)
        assert found is not None, "the job did not end"
        return found

    def until_said(self, job: str) -> None:
        import time

        deadline = time.monotonic() + 30
        while not any(type(e).__name__ == "Token" and e.job == job for e in self.events):  # type: ignore[union-attr]
            assert time.monotonic() < deadline
            time.sleep(0.01)
