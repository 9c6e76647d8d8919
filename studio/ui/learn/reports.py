"""Reports of evaluations: figures with their intervals, tables, curves, and several reports side by side.

Knows `report.json`; knows nothing of how anything is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from studio.core.events import EndEvent, Failed
from studio.core.learning import Measure, Report
from studio.core.problems import Problem
from studio.core.text import shown
from studio.core.works import Work
from studio.ui.desk import Desk
from studio.ui.learn.curves import Curve, Curves, said
from studio.ui.learn.page import Page, Section, heading, read_file, scrolling
from studio.ui.learn.runs import curves_of
from studio.ui.learn.tables import Bar, Bars, Cell, Table
from studio.ui.strings import one_or_many, tr
from studio.ui.widgets import Button, Label, Notice

MOST = 12  # reports that are compared at once
ROLES = ("accent", "star", "problem", "soft")  # colours of several lines of a plot
NEAR, WORSE = "≈", "▾"
OF_HUNDRED = ("BLEU", "chrF", "ROUGE", "METEOR", "Self-BLEU")  # figures from 0 to 100 without a unit


def interval_said(measure: Measure) -> str:
    """A figure with its interval: “20.3 (19.0 – 21.2)”."""
    value = said(measure.value) + (f" {measure.unit}" if measure.unit else "")
    if measure.low is None or measure.high is None:
        return value
    return f"{value}  ({said(measure.low)} – {said(measure.high)})"


def whole(measure: Measure) -> float:
    """What a whole bar of a figure stands for: 100 where there is no more, 0 where nothing is known of that."""
    hundred = measure.unit.startswith(("%", "of 100")) or measure.name.startswith(OF_HUNDRED)
    return 100.0 if hundred and 0 <= measure.value <= 100 else 0.0


def apart(one: Measure, other: Measure) -> bool:
    """Whether two figures differ beyond their 95 % intervals."""
    ends = (one.low, one.high, other.low, other.high)
    if any(end is None for end in ends):
        return False
    return bool(one.low > other.high or other.low > one.high)  # type: ignore[operator]


@dataclass
class Comparison:
    """Several reports in one table: a row for each measure, a column for each whose figures they are."""

    heads: list[str] = field(default_factory=list)
    rows: list[list[Cell]] = field(default_factory=list)
    bold: set[tuple[int, int]] = field(default_factory=set)
    tips: dict[tuple[int, int], str] = field(default_factory=dict)


def compared(reports: Sequence[tuple[str, Report]]) -> Comparison:
    """Put reports side by side.

    The best of each row is bold. “≈” says that a figure is not told apart from the best one by their intervals, “▾”
    that it is clearly worse. Of a measure without a better side nothing is said.
    """
    columns: list[tuple[str, str]] = []  # title of the report, whose
    for title, report in reports:
        for measure in report.measures:
            if (title, measure.of) not in columns:
                columns.append((title, measure.of))
    several = len({title for title, _ in columns}) > 1
    heads = [" · ".join(part for part in (of, title if several or not of else "") if part) for title, of in columns]
    names = list(dict.fromkeys(m.name for _, report in reports for m in report.measures))
    made = Comparison([tr("Measure"), *heads])
    for at, name in enumerate(names):
        found: list[Measure | None] = []
        for title, of in columns:
            known = next(report.measures for whose, report in reports if whose == title)
            found.append(next((each for each in known if each.name == name and each.of == of), None))
        there = [m for m in found if m is not None]
        better = next((m.better for m in there if m.better), "")
        best: Measure | None = None
        if better and len({m.value for m in there}) > 1:  # of equal ones none is the best
            best = (max if better == "higher" else min)(there, key=lambda m: m.value)
        cells: list[Cell] = [name]
        for column, figure in enumerate(found, 1):
            if figure is None:
                cells.append("")
                continue
            mark = ""
            if best is not None and figure.value != best.value and figure.low is not None:
                mark = f"  {WORSE if apart(figure, best) else NEAR}"
            cells.append(interval_said(figure) + mark)
            made.tips[at, column] = about(figure)
            if best is not None and figure.value == best.value:
                made.bold.add((at, column))
        made.rows.append(cells)
    return made


def about(measure: Measure) -> str:
    """What a figure was measured on, in a few words."""
    better = {"higher": tr("higher is better"), "lower": tr("lower is better")}.get(measure.better, "")
    rows = one_or_many(measure.n, "{n} row", "{n} rows") if measure.n else ""
    return " · ".join(part for part in (better, rows, measure.signature) if part)


class ReportPage(Page):
    """The middle of the tab for one report, or several.

    Signals:
        save: the report is to be written to a file.
    """

    save = Signal()

    def __init__(self, desk: Desk, empty: QWidget) -> None:
        super().__init__(desk)
        self.empty = empty
        self.report: Report | None = None
        self.title = Label("", "title", elide=True)
        self.save_button = Button(tr("Save as …"), role="outline", icon_name="download", clicked=self.save.emit)
        self.save_button.setObjectName("report_save")
        self.status = Label("", "soft", wrap=True)
        self.facts = Label("", "soft", wrap=True)
        self.facts.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.notice = Notice()
        self.bars = Bars(tr("Figures with their 95 % intervals"), "figures")
        self.figures = Section(tr("Figures, with their 95 % intervals"), self.bars)
        self.table = Table(tr("Comparison"), "comparison", sortable=False, highest=24, cuts=False)
        legend = tr("The best is bold. ≈ is not told apart from it by the intervals, ▾ is clearly worse.")
        self.comparison = Section(tr("Side by side"), self.table, Label(legend, "soft", wrap=True))
        self.notes = Label("", "soft", wrap=True)
        self.notes.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._parts: list[QWidget] = []
        self.area, inside = scrolling("report_scroll", tr("Report"))
        inside.addLayout(heading(self.title, self.save_button))
        inside.addWidget(self.status)
        inside.addWidget(self.notice)
        inside.addWidget(self.comparison)
        inside.addWidget(self.figures)
        self._more = QVBoxLayout()
        self._more.setSpacing(12)
        inside.addLayout(self._more)
        inside.addWidget(self.notes)
        inside.addWidget(self.facts)
        inside.addStretch(1)
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        around.addWidget(self.empty)
        around.addWidget(self.area)
        desk.track.changed.connect(self._tell)
        self.clear()

    def _show(self, something: bool) -> None:
        self.empty.setVisible(not something)
        self.area.setVisible(something)

    def _forget(self) -> None:
        self.report = None
        for part in self._parts:
            part.hide()
            part.deleteLater()
        self._parts = []
        for each in (self.comparison, self.figures, self.notes, self.facts, self.notice, self.save_button):
            each.hide()

    def clear(self) -> None:
        self.work = None
        self._forget()
        self._show(False)

    # -- following ----------------------------------------------------------------------------------------------------

    def begun(self, job_id: str) -> None:
        self._forget()
        self._show(True)
        job = self.desk.track.jobs.get(job_id)
        self.title.setText(job.title if job is not None else "")
        self.notes.setText(tr("The figures come when all is measured, each with its interval."))
        self.notes.show()
        self._tell()

    def _tell(self) -> None:
        job = self.desk.track.jobs.get(self.job)
        if job is not None and not job.state.ended and not self.aside and self.work is None:
            if not self.title.whole():
                self.title.setText(job.title)
            self.status.setText(job.status())

    def ended(self, event: EndEvent) -> None:
        if self.aside or self.work is not None:
            return
        self.notes.hide()
        if isinstance(event, Failed):
            self.status.setText(event.problem.sentence)
        elif not event.works:
            self.clear()

    # -- one report ---------------------------------------------------------------------------------------------------

    def display(self, work: Work) -> None:
        self._forget()
        self._show(True)
        self.title.setText(shown(work.title, 120))
        self.status.setText("")
        self.read(work, Report, self.show_report)

    def show_report(self, report: Report) -> None:
        """Show one report."""
        self._forget()
        self.report = report
        session, work = self.desk.session, self.work
        self.save_button.setVisible(session is not None and work is not None and bool(session.formats(work.kind)))
        self.title.setText(shown(report.title, 120))
        whose = list(dict.fromkeys(m.of for m in report.measures if m.of))
        words = [shown(each, 60) for each in whose[:6]]
        if report.data:
            words.append(tr("on {data}", data=shown(report.data, 60)))
        self.status.setText(" · ".join(words))
        self.figures.setVisible(bool(report.measures))
        self.bars.put(
            [
                Bar(
                    shown(m.name, 40), m.value, interval_said(m), of=shown(m.of, 40) if len(whose) > 1 else "",
                    low=m.low, high=m.high, tip=f"{m.name}: {about(m)}" if about(m) else "",
                    full=whole(m),
                )
                for m in sorted(report.measures, key=lambda m: [x.name for x in report.measures].index(m.name))
            ],
            apart=True,
        )  # fmt: skip
        if len(whose) > 1:
            self._put_comparison([(report.title, report)])
        for at, (title, points) in enumerate(report.plots.items()):
            plot = Curves(title)
            plot.setObjectName(f"plot_{at}")
            lines = curves_of(points)
            plot.show_curves([Curve(name, line, ROLES[n % len(ROLES)]) for n, (name, line) in enumerate(lines.items())])
            self._add(Section(shown(title, 120), plot))
        for at, (title, rows) in enumerate(report.tables.items()):
            if rows:
                table = Table(title, f"table_{at}", highest=16)
                table.put(rows[0], rows[1:])
                self._add(Section(shown(title, 120), table))
        self.notes.setText("\n".join(report.notes))
        self.notes.setVisible(bool(report.notes))
        facts = [
            (tr("Made"), report.created[:19].replace("T", " ")),
            (tr("Data"), f"{report.data} {report.data_sha256[:16]}".strip()),
            (tr("Seeds"), ", ".join(map(str, report.seeds))),
            (tr("Versions"), ", ".join(f"{name} {version}" for name, version in report.versions.items())),
        ]
        signatures = list(dict.fromkeys(m.signature for m in report.measures if m.signature))
        facts += [(tr("Signature"), each) for each in signatures]
        self.facts.setText("\n".join(f"{name}: {value}" for name, value in facts if value))
        self.facts.show()

    def _add(self, part: QWidget) -> None:
        self._parts.append(part)
        self._more.addWidget(part)

    # -- several ------------------------------------------------------------------------------------------------------

    def compare(self, works: list[Work]) -> None:
        """Put some reports side by side."""
        session = self.desk.session
        if session is None:
            return
        works = works[:MOST]
        self.aside = self.at_work()
        self._round += 1
        now = self._round
        paths = [(shown(work.title, 40), session.path(work)) for work in works]

        def read() -> list[tuple[str, Report]]:
            found: list[tuple[str, Report]] = []
            for title, path in paths:
                name, again = title, 1
                while any(name == each for each, _ in found):  # two of the same title are two columns
                    again += 1
                    name = f"{title} ({again})"
                found.append((name, read_file(path, Report)))
            return found

        def done(found: list[tuple[str, Report]]) -> None:
            if now == self._round:
                self._forget()
                self._show(True)
                self.title.setText(tr("{n} reports", n=len(found)))
                self.status.setText(" · ".join(name for name, _ in found))
                self._put_comparison(found)

        def failed(problem: Problem) -> None:
            if now == self._round:
                self.problem.emit(problem)

        self.desk.tasks.read(self, read, done, failed)

    def _put_comparison(self, reports: list[tuple[str, Report]]) -> None:
        made = compared(reports)
        self.table.put(made.heads, made.rows, bold=made.bold, tips=made.tips)
        self.comparison.show()
