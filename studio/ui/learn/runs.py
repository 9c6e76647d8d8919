"""A training while it runs and after it: curves, samples, time left, and the models it made.

Knows the points and samples of a job and of a `training.json`; knows nothing of how a model learns.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QFrame, QVBoxLayout, QWidget

from studio.core.events import Cancelled, EndEvent, Event, Failed
from studio.core.learning import Made, Point, Training
from studio.core.recipes import RECIPES, fields
from studio.core.text import shown
from studio.core.works import Work
from studio.ui.desk import Desk
from studio.ui.history import small_picture
from studio.ui.learn.curves import Curve, Curves, said
from studio.ui.learn.page import Page, Section, heading, scrolling
from studio.ui.learn.samples import SamplesView, Tries, Try
from studio.ui.learn.tables import Bar, Bars, Table
from studio.ui.strings import duration, size_of, tr
from studio.ui.track import Tracked
from studio.ui.widgets import Button, Label, Slider, ToolButton, row

DRAW_AFTER = 250  # ms between two drawings of a curve that grows
SMOOTHEST = 98  # % of the past that a smoothed curve keeps at most
USUAL = 60  # %


def curves_of(points: list[Point] | tuple[Point, ...]) -> dict[str, list[tuple[float, float]]]:
    """Name of a value -> (step, value)."""
    found: dict[str, list[tuple[float, float]]] = {}
    for point in points:
        for name, value in point.values.items():
            found.setdefault(name, []).append((float(point.step), value))
    return found


def best_of(points: list[Point] | tuple[Point, ...], step: int | None = None) -> tuple[float, float] | None:
    """The point of the lowest validation loss, or the one of a step; None where nothing was validated."""
    looks = [(float(p.step), p.values["valid"]) for p in points if "valid" in p.values]
    if step is not None:
        return next((look for look in looks if look[0] == step), None)
    return min(looks, key=lambda look: look[1], default=None)


class MadeCard(QFrame):
    """A model or adapter that a training left.

    Signals:
        use, reveal, export: what a button asks for.
    """

    use = Signal()
    reveal = Signal()
    export = Signal()

    def __init__(self, made: Made, home: str, *, exports: bool) -> None:
        super().__init__()
        self.setProperty("role", "card")
        kinds = {
            "adapter": tr("Adapter"), "model": tr("Model"), "gguf": tr("GGUF model"), "lora": tr("LoRA"),
        }  # fmt: skip
        title = Label(shown(Path(made.path).name, 120), "heading", elide=True)
        facts = " · ".join(
            part for part in (kinds.get(made.kind, made.kind), size_of(made.bytes) if made.bytes else "") if part
        )
        checked = Label(made.checked, "soft", wrap=True)
        checked.setVisible(bool(made.checked))
        use = Button(tr("Use in {tab}", tab=home), role="primary", tip=tr("Open the tab in which it is used"))
        use.setObjectName("made_use")
        use.clicked.connect(lambda *_: self.use.emit())
        folder = Button(tr("Open folder"), role="outline")
        folder.setObjectName("made_folder")
        folder.clicked.connect(lambda *_: self.reveal.emit())
        out = Button(tr("Export …"), role="outline")
        out.setObjectName("made_export")
        out.clicked.connect(lambda *_: self.export.emit())
        out.setVisible(exports)
        inside = QVBoxLayout(self)
        inside.setContentsMargins(12, 10, 12, 12)
        inside.setSpacing(6)
        above = row(title, Label(facts, "soft"))
        above.setStretch(0, 1)
        inside.addLayout(above)
        inside.addWidget(checked)
        inside.addLayout(row(use, folder, out, None))


class RunPage(Page):
    """The middle of the tab for trainings and searches.

    Args:
        picture: whether it makes picture models.

    Signals:
        use(Made), reveal(str), export(Made): what the user wants with a model. stop: the training is to end now.
        go_on(str): the job of this id is to go on.
    """

    use = Signal(object)
    reveal = Signal(str)
    export = Signal(object)
    stop = Signal()
    go_on = Signal(str)

    def __init__(self, desk: Desk, empty: QWidget, *, picture: bool, exports: Callable[[], bool]) -> None:
        super().__init__(desk)
        self._picture, self._exports = picture, exports
        self._points: list[Point] = []
        self._tries: dict[int, Tries] = {}
        self._trials: list[dict[str, Any]] = []
        self._best_step: int | None = None
        self.empty = empty
        self.title = Label("", "title", elide=True)
        self.status = Label("", "soft", wrap=True)
        self.status.setAccessibleName(tr("State"))
        self.stop_button = Button(
            tr("Stop"),
            role="outline",
            tip=tr("Stop here. What was learnt is kept, and “Go on” takes it up; the model is made at the end."),
            clicked=self.stop.emit,
        )
        self.stop_button.setObjectName("run_stop")
        self.go_on_button = Button(tr("Go on"), role="primary", clicked=lambda: self.go_on.emit(self._to_go_on()))
        self.go_on_button.setObjectName("run_go_on")
        self.loss = Curves(tr("Loss over the steps"))
        self.loss.setObjectName("curve_loss")
        self.rate = Curves(tr("learning rate"), small=True)
        self.rate.setObjectName("curve_rate")
        self.norm = Curves(tr("gradient norm"), small=True)
        self.norm.setObjectName("curve_norm")
        plots = (self.loss, self.rate, self.norm)
        for plot in plots:
            for other in plots:
                if other is not plot:
                    plot.pointed.connect(other.point_at)
        self.log = ToolButton(tr("Show the loss by factors"), text=tr("log"), checkable=True)
        self.log.setObjectName("log_scale")
        self.log.toggled.connect(self._scaled)
        self.smoothing = Slider()
        self.smoothing.setObjectName("smoothing")
        self.smoothing.setAccessibleName(tr("Smoothing"))
        self.smoothing.setRange(0, SMOOTHEST)
        self.smoothing.setFixedWidth(88)
        self.smoothing.valueChanged.connect(self._smooth)
        self.legend = Label("", "soft", elide=True)
        remembered = desk.state.forms.get("curves", {})
        self.smoothing.setValue(int(remembered.get("smoothing", USUAL)))
        self._smooth(self.smoothing.value())
        self.log.setChecked(bool(remembered.get("log", False)))
        self.facts = Label("", wrap=True)
        self.facts.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.notes = Label("", "soft", wrap=True)
        self.notes.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.samples = SamplesView(self._load)
        self.samples_section = Section(tr("Tried on the same prompts"), self.samples)
        self.importance = Bars(tr("How much each parameter matters"), "importance")
        self.importance_section = Section(tr("Importance"), self.importance)
        self.trials = Table(tr("Trials"), "trials", highest=16)
        self.trials_section = Section(tr("Trials"), self.trials)
        self._made = QVBoxLayout()
        self._made.setSpacing(8)
        self.made_section = Section(tr("Made"))
        self.made_section.around.addLayout(self._made)

        self.area, inside = scrolling("run_scroll", tr("Training"))
        inside.addLayout(heading(self.title, self.stop_button, self.go_on_button))
        inside.addWidget(self.status)
        inside.addWidget(self.made_section)
        inside.addWidget(self.facts)
        self.plots = QWidget()
        drawn = QVBoxLayout(self.plots)
        drawn.setContentsMargins(0, 0, 0, 0)
        drawn.setSpacing(8)
        above = row(self.legend, Label(tr("Smoothing"), "soft"), self.smoothing, self.log)
        above.setStretch(0, 1)
        drawn.addLayout(above)
        drawn.addWidget(self.loss)
        drawn.addLayout(row(self.rate, self.norm))
        inside.addWidget(self.plots)
        inside.addWidget(self.importance_section)
        inside.addWidget(self.trials_section)
        inside.addWidget(self.samples_section)
        inside.addWidget(self.notes)
        inside.addStretch(1)
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        around.addWidget(self.empty)
        around.addWidget(self.area)
        self._soon = QTimer(self, singleShot=True, interval=DRAW_AFTER)
        self._soon.timeout.connect(self._draw)
        desk.track.changed.connect(self._tell)
        self.clear()

    # -- following ----------------------------------------------------------------------------------------------------

    def begun(self, job_id: str) -> None:
        self._forget()
        job = self.desk.track.jobs.get(job_id)
        self._show(True)
        self.title.setText(job.title if job is not None else "")
        self._take(job)
        self._draw()
        self._tell()

    def happened(self, event: Event) -> None:
        if not self.aside and self.work is None:
            self._take(self.desk.track.jobs.get(event.job))
            if not self._soon.isActive():
                self._soon.start()

    def ended(self, event: EndEvent) -> None:
        if self.aside or self.work is not None:
            return
        self._take(self.desk.track.jobs.get(event.job))
        self._draw()
        self._tell()
        if isinstance(event, Cancelled) and not event.works:
            self.status.setText(tr("Stopped. What was learnt by then is kept, and can go on."))
        elif isinstance(event, Failed):
            self.status.setText(event.problem.sentence)
        job = self.desk.track.jobs.get(event.job)
        goes_on = job is None or job.kind != "convert"  # which keeps no state to go on from
        self.go_on_button.setVisible(goes_on and isinstance(event, (Cancelled, Failed)))

    def _take(self, job: Tracked | None) -> None:
        if job is None:
            return
        self._points = job.points
        self._trials = list(job.trials)
        self._tries = {}
        for (index, step), tried in job.tried.items():
            made = self._tries.setdefault(index, Tries(tried.prompt))
            made.by_step[step] = Try(step, tried.text, tried.jpeg or None)

    def _to_go_on(self) -> str:
        return self.work.job if self.work is not None else self.job

    def _tell(self) -> None:
        """The line under the title, while it runs."""
        job = self.desk.track.jobs.get(self.job)
        if self.aside or self.work is not None or job is None or job.state.ended:
            self.stop_button.hide()
            return
        self.stop_button.setVisible(True)
        self.stop_button.setEnabled(not job.cancelling)
        self.go_on_button.hide()
        if not self.title.whole():
            self.title.setText(job.title)
        words = [job.status()]
        if self._points:
            last = self._points[-1]
            if speed := next((p.values["speed"] for p in reversed(self._points) if "speed" in p.values), 0.0):
                unit = tr("pictures") if self._picture else tr("tokens")
                words.append(tr("{n} {unit}/s", n=f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}", unit=unit))
            words.append(tr("{time} so far", time=duration(last.seconds)))
        self.status.setText(" · ".join(words))

    # -- a work -------------------------------------------------------------------------------------------------------

    def display(self, work: Work) -> None:
        self._forget()
        self._show(True)
        self.title.setText(shown(work.title, 120))
        self.status.setText("")
        self.stop_button.hide()
        self.go_on_button.hide()
        self._draw()
        self.read(work, Training, self._told)

    def _told(self, training: Training) -> None:
        self._points = list(training.curve)
        self._best_step = training.best_step or None
        session = self.desk.session
        folder = session.paths.runs / training.run if session is not None and training.run else None
        order: dict[str, int] = {}
        self._tries = {}
        for each in training.samples:
            index = order.setdefault(each.prompt, len(order))
            picture = folder / each.image if folder is not None and each.image else None
            self._tries.setdefault(index, Tries(each.prompt)).by_step[each.step] = Try(each.step, each.text, picture)
        words = [tr("in {time}", time=duration(training.seconds))]
        if training.steps:
            planned = training.planned or training.steps
            words.insert(0, tr("{n} of {all} steps", n=f"{training.steps:,}", all=f"{planned:,}"))
        if training.peak_bytes:
            words.append(tr("at most {size} of memory", size=size_of(training.peak_bytes)))
        if training.why:
            words.append(training.why)
        self.status.setText(" · ".join(words))
        self.go_on_button.setVisible(self.work is not None and not self.work.complete)
        self.facts.setText(self._before_and_after(training))
        self.facts.setVisible(bool(self.facts.text()))
        self.notes.setText("\n".join(training.notes))
        self.notes.setVisible(bool(training.notes))
        self._show_made(training)
        self._trials = list(training.trials)
        self._show_importance(training)
        self._draw()

    @staticmethod
    def _before_and_after(training: Training) -> str:
        names = {"valid": tr("Validation loss"), "loss": tr("Loss"), "perplexity": tr("Perplexity")}
        lines = []
        for name in dict.fromkeys((*training.before, *training.after)):
            one, other = training.before.get(name), training.after.get(name)
            parts = [said(value) for value in (one, other) if value is not None]
            line = f"{names.get(name, name)}: {' → '.join(parts)}"
            if name == "valid" and training.best_step:
                line += " · " + tr("best at step {n}", n=f"{training.best_step:,}")
            lines.append(line)
        if told := training.estimate.get("seconds"):
            lines.append(tr("Estimated: {time}", time=duration(told)))
        return "\n".join(lines)

    def _show_made(self, training: Training) -> None:
        while (item := self._made.takeAt(0)) is not None:
            if (gone := item.widget()) is not None:
                gone.hide()
                gone.deleteLater()
        home = tr("Image") if self._picture else tr("Text")
        for made in training.made:
            card = MadeCard(made, home, exports=self._exports() and not self._picture)
            card.use.connect(lambda m=made: self.use.emit(m))
            card.reveal.connect(lambda m=made: self.reveal.emit(m.path))
            card.export.connect(lambda m=made: self.export.emit(m))
            self._made.addWidget(card)
        self.made_section.setVisible(bool(training.made))

    def _show_importance(self, training: Training) -> None:
        self.importance_section.setVisible(bool(training.importance))
        ranked = sorted(training.importance.items(), key=lambda each: -each[1])
        titles = trial_titles()
        self.importance.put([Bar(titles.get(name, name), value, f"{value:.0%}") for name, value in ranked])

    def _show_trials(self) -> None:
        rows = self._trials
        self.trials_section.setVisible(bool(rows))
        if not rows:
            return
        heads = list(dict.fromkeys(name for each in rows for name in each if name != "best"))
        whole = [each.get("value") if each.get("state", "complete") == "complete" else None for each in rows]
        numbers = [value for value in whole if isinstance(value, (int, float))]
        best = whole.index(min(numbers)) if numbers else -1
        bold = {(best, column) for column in range(len(heads))} if best >= 0 else set()
        titles = trial_titles()
        self.trials.put(
            [titles.get(name, name) for name in heads],
            [[_cell(each.get(name)) for name in heads] for each in rows],
            bold=bold,
        )

    # -- drawing ------------------------------------------------------------------------------------------------------

    def clear(self) -> None:
        self.work = None
        self._forget()
        self._show(False)

    def _show(self, something: bool) -> None:
        self.empty.setVisible(not something)
        self.area.setVisible(something)

    def _forget(self) -> None:
        self._points, self._tries, self._trials, self._best_step = [], {}, [], None
        self.samples.clear()
        for part in (self.facts, self.notes, self.made_section, self.trials_section, self.importance_section):
            part.hide()
        self.go_on_button.hide()

    def _draw(self) -> None:
        running = self.work is None and self.at_work()
        found = curves_of(self._points)
        best = best_of(self._points, self._best_step)
        by_trial = curves_of([Point(int(each["trial"]), 0.0, each) for each in self._trials if "trial" in each])
        if by_trial and running:
            self.loss.show_curves(
                [Curve(tr("trial"), by_trial.get("value", ()), "accent", dots=True),
                 Curve(tr("best so far"), by_trial.get("best", ()), "star")],
            )  # fmt: skip
            self.legend.setText(tr("each trial · best so far {value}", value=said(by_trial["best"][-1][1])))
            self._show_trials()
            self.rate.hide()
            self.norm.hide()
            return
        loss = [Curve(tr("loss"), found.get("loss", ()), "accent", smooth=True)]
        if "valid" in found:
            loss.append(Curve(tr("validation"), found["valid"], "star", dots=True))
        self.loss.show_curves(loss, best)
        self.rate.show_curves([Curve(tr("learning rate"), found.get("rate", ()))])
        self.norm.show_curves([Curve(tr("gradient norm"), found.get("norm", ()), smooth=True)])
        self.plots.setVisible(running or bool(self._points))
        self.rate.setVisible("rate" in found or running)
        self.norm.setVisible("norm" in found or running)
        words = []
        if best is not None:
            words.append(tr("best {value} at step {n}", value=said(best[1]), n=f"{best[0]:,.0f}"))
        if "valid" in found and (best is None or found["valid"][-1] != best):
            words.append(tr("validation {n}", n=said(found["valid"][-1][1])))
        self.legend.setText(" · ".join(words))  # the best first: it is what is left where there is little room
        self._show_trials()
        self.samples_section.setVisible(bool(self._tries))
        self.samples.put(self._tries, int(best[0]) if best is not None else -1, running=running)

    def _scaled(self, on: bool) -> None:
        self.loss.set_log(on)
        self._keep()

    def _smooth(self, value: int) -> None:
        for plot in (self.loss, self.norm):
            plot.set_smoothing(value / 100)
        self._keep()

    def _keep(self) -> None:
        kept = {"smoothing": self.smoothing.value(), "log": self.log.isChecked()}
        if self.desk.state.forms.get("curves") != kept:
            self.desk.state.forms["curves"] = kept
            self.desk.keeper.touch()

    def _load(self, path: Path, done: Callable[[QImage], None]) -> None:
        def shown_if_there(image: QImage) -> None:
            if not image.isNull():
                done(image)

        self.desk.tasks.picture(self, lambda: small_picture(path, 256), shown_if_there)


def trial_titles() -> dict[str, str]:
    """What the figures of a trial are called: fields by their titles."""
    declared = {f.name: tr(f.title) for kind in ("train-image", "train-text") for f in fields(RECIPES[kind])}
    return declared | {
        "number": tr("Trial"), "trial": tr("Trial"), "state": tr("State"), "value": tr("Validation loss"),
        "steps": tr("Steps"), "best_step": tr("Best at step"), "seconds": tr("Seconds"), "why": tr("Why"),
    }  # fmt: skip


def _cell(value: object) -> str | int | float | None:
    if value is None or isinstance(value, (str, int, float)):
        return value
    return str(value)


WIDE = 1.3  # times as long as the least: two figures are told then


def estimate_line(seconds: float, size: float, least: float = 0.0) -> str:
    """What a training takes, in a few words: “about 6 min · 1.4 GB”.

    Args:
        least: seconds if other programs left this computer alone: “about 3 to 6 min”.
    """
    between = least > 0 and seconds >= WIDE * least
    if seconds < 90:
        n = f"{max(1, round(seconds))}"
        first = f"{max(1, round(least))}"
        words = "about {n} s"
    elif seconds < 5400:
        n, first, words = f"{round(seconds / 60)}", f"{max(1, round(least / 60))}", "about {n} min"
    else:
        n, first, words = f"{seconds / 3600:.1f}", f"{least / 3600:.1f}", "about {n} h"
    time = tr(words, n=tr("{a} to {b}", a=first, b=n) if between and first != n else n)
    return " · ".join(part for part in (time if seconds else "", size_of(size) if size else "") if part)
