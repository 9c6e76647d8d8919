"""The tabs. By hand: kind of work, title, icon, and "module:class" (a tab is built when it is first shown)."""

from __future__ import annotations

from typing import NamedTuple


class TabEntry(NamedTuple):
    kind: str
    title: str
    icon: str
    action: str
    made_by: str


TABS: tuple[TabEntry, ...] = (
    TabEntry("text", "Text", "message-square-text", "show_text", "studio.ui.tabs.text:TextTab"),
    TabEntry("image", "Image", "image", "show_image", "studio.ui.tabs.image:ImageTab"),
    TabEntry("speech", "Audio", "audio-lines", "show_audio", "studio.ui.tabs.audio:AudioTab"),
    TabEntry("train", "Train", "graduation-cap", "show_train", "studio.ui.tabs.train:TrainTab"),
    TabEntry("evaluate", "Evaluate", "gauge", "show_evaluate", "studio.ui.tabs.evaluate:EvaluateTab"),
)

# Works that are shown in a tab of another name.
HOMES = {"dataset": "train", "training": "train", "report": "evaluate"}


def home_of(work_kind: str) -> str:
    """The kind of the tab that shows works of a kind."""
    return HOMES.get(work_kind, work_kind)
