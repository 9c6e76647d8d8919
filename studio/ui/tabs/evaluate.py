"""The Evaluate tab: texts, pictures and speech measured, reports compared, and two models voted on blindly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import QMimeData, QTimer

from studio.core.works import Work
from studio.ui.desk import Desk
from studio.ui.learn.bench import Bench, Mode
from studio.ui.learn.editors import PathEditor, SourcesEditor, local_files
from studio.ui.learn.forms import LearnForm
from studio.ui.learn.page import Page
from studio.ui.learn.reports import ReportPage
from studio.ui.learn.voting import VoteForm, VotePage, values_of
from studio.ui.strings import tr
from studio.ui.tabs.base import EmptyState

# Where what is dropped goes: mode -> field.
DROPS = {"text": "candidates", "image": "pictures", "speech": "sounds"}


class EvaluateTab(Bench):
    kind = "evaluate"
    makes = ("report",)
    modes = (
        Mode("text", "Text", "Measure texts and text models", "evaluate-text", "Measure"),
        Mode("image", "Pictures", "Measure pictures", "evaluate-image", "Measure"),
        Mode("speech", "Speech", "Measure speech", "evaluate-speech", "Measure"),
        Mode("vote", "Vote", "Vote on two models without knowing which is which", "vote", "Vote"),
    )

    def __init__(self, desk: Desk) -> None:
        self._side_by_side = False  # several reports are shown
        super().__init__(desk)
        self._compare_soon = QTimer(self, singleShot=True, interval=0)
        self._compare_soon.timeout.connect(self._compare)
        self.history.view.selectionModel().selectionChanged.connect(lambda *_: self._compare_soon.start())

    def form_made(self, form: LearnForm) -> None:
        form.dataset_wanted.connect(lambda: self.desk.wanted.emit("train", "data"))

    def make_form(self, mode: Mode) -> LearnForm:
        return VoteForm(mode.kind, self.desk) if mode.name == "vote" else super().make_form(mode)

    def build_page(self, mode: Mode) -> Page:
        if mode.name == "vote":
            empty = EmptyState(
                tr("Which one is better, by your own eyes?"),
                tr("Choose two models on the left, write some prompts and press Vote. You see two works side by side "
                   "and not which model made them; the result comes with its interval, so that you know when you "
                   "have seen enough."),
                (),
            )  # fmt: skip
            return VotePage(self.desk, empty)
        words = {
            "text": (
                tr("Which model writes better?"),
                tr("Add a model or two on the left and a data set, and press Measure: perplexity, BLEU, ROUGE, bias "
                   "and more, each with its interval. Or give files of texts and of what they should have been."),
            ),
            "image": (
                tr("How good are these pictures?"),
                tr("Give a folder of pictures, and one of pictures they should be like. With a CLIP or Inception model "
                   "of your own they are measured by FID, KID and CLIP score; without one by colour and edges."),
            ),
            "speech": (
                tr("How well is it spoken?"),
                tr("Give a folder of sound files with the text beside each. Loudness, pace and pauses need nothing "
                   "more; with a Whisper model of your own the words that are heard are counted, too."),
            ),
        }  # fmt: skip
        more = tr("Choose several reports in the history, with Ctrl held, to see them side by side.")
        title, hint = words[mode.name]
        page = ReportPage(self.desk, EmptyState(title, f"{hint}\n\n{more}", ()))
        page.save.connect(self.save_as)
        return page

    # -- voting -------------------------------------------------------------------------------------------------------

    def ask(self, values: dict[str, Any]) -> None:
        if self.mode.name != "vote":
            super().ask(values)
            return
        form, page = self.form, self.page
        assert isinstance(form, VoteForm) and isinstance(page, VotePage)
        ballot = form.ballot()
        if not ballot.one or not ballot.other or ballot.one == ballot.other:
            alone = len(self.desk.cards(ballot.what)) < 2
            form.rows["other"].complain(
                tr("There is only one such model yet. Add another one from this list, or train one in the Train tab.")
                if alone
                else tr("Choose two different models.")
            )
            form.go_to("other")
            return
        asked = values_of(ballot)
        page.begin(ballot, len(asked))
        for each in asked:
            self.desk.submit(ballot.what, each, lambda _: None, self.refused)

    # -- comparing ----------------------------------------------------------------------------------------------------

    def _compare(self) -> None:
        """Several reports are chosen in the history: they are put side by side."""
        chosen = self.history.view.chosen()
        page = self.page
        if len(chosen) > 1 and isinstance(page, ReportPage):
            self._side_by_side = True
            page.compare(chosen)
        elif len(chosen) == 1 and self._side_by_side:
            self.show_work(chosen[0])

    def show_work(self, work: Work) -> None:
        chosen = self.history.view.chosen()
        if len(chosen) < 2 or all(each.id != work.id for each in chosen):  # of several, they are compared
            self._side_by_side = False
            super().show_work(work)

    # -- coming in ----------------------------------------------------------------------------------------------------

    def take_mime(self, data: QMimeData) -> bool:
        """A file or folder is what is measured."""
        files = local_files(data)
        if not files:
            return False
        if len(files) == 1 and files[0].name.endswith(".report.json"):
            self.take_file(files[0])
            return True
        self.take_paths(files)
        return True

    def take_plain(self, path: Path) -> None:
        self.take_paths([path])

    def take_paths(self, files: list[Path]) -> None:
        """Put a file or folder into the field of what is measured."""
        name = DROPS.get(self.mode.name, "")
        if name not in self.form.rows:
            return
        editor = self.form.rows[name].editor
        if isinstance(editor, (PathEditor, SourcesEditor)):
            editor.take(files)
        self.form.go_to(name)
