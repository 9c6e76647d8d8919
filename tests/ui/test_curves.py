"""Curves, bars and tables: their numbers, their keys, and what somebody hears of them who cannot see them."""

from __future__ import annotations

import itertools
import math
import time
from typing import Any

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor
from PySide6.QtTest import QTest

from studio.core.elo import Vote, standings, wilson
from studio.core.events import Measured
from studio.core.learning import Measure, Point, Report
from studio.ui import theme
from studio.ui.learn.curves import Curve, Curves, log_ticks, marked, nearest, said, smoothed, thinned, ticks
from studio.ui.learn.reports import NEAR, WORSE, compared, whole
from studio.ui.learn.runs import best_of, curves_of, estimate_line
from studio.ui.learn.samples import side_by_side
from studio.ui.learn.tables import Bar, Bars, Table, number_of
from studio.ui.track import POINTS, Tracked

Key = Qt.Key


def test_a_smoothed_curve_begins_with_its_first_value_and_ends_near_the_mean() -> None:
    assert smoothed([3.0, 3.0, 3.0], 0.9) == pytest.approx([3.0, 3.0, 3.0]), "without a bias towards 0"
    assert smoothed([1.0, 2.0], 0.0) == [1.0, 2.0]
    noisy = [1.0 + (-1) ** n for n in range(200)]
    soft = smoothed(noisy, 0.98)
    assert soft[0] == pytest.approx(2.0) and abs(soft[-1] - 1.0) < 0.05


def test_a_thinned_curve_keeps_its_peaks_and_its_order() -> None:
    points = [(float(n), 0.0) for n in range(10_000)]
    points[5003] = (5003.0, 9.0)
    points[7777] = (7777.0, -9.0)
    kept = thinned(points, 100)
    assert len(kept) <= 200 and kept == sorted(kept)
    assert (5003.0, 9.0) in kept and (7777.0, -9.0) in kept and kept[-1][0] > 9890
    assert thinned(points[:150], 100) == points[:150]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (2.31, 2.47), (0, 12345), (-1, 1), (1e-7, 9e-7)])
def test_ticks_are_round_and_within(low: float, high: float) -> None:
    found = ticks(low, high, 6)
    assert 2 <= len(found) <= 7 and all(low - 1e-12 <= each <= high + 1e-12 for each in found)
    steps = {round((b - a) / (high - low), 6) for a, b in itertools.pairwise(found)}
    assert len(steps) == 1
    digits = f"{found[1] - found[0]:.3e}".split("e")[0]
    assert digits in ("1.000", "2.000", "5.000")


def test_log_ticks_are_powers_where_there_are_many() -> None:
    assert log_ticks(1e-6, 1e2, 8) == [10.0**n for n in range(-6, 3, 2)] or len(log_ticks(1e-6, 1e2, 8)) <= 9
    assert 1.0 in log_ticks(0.4, 30, 8)
    assert len(log_ticks(2.0, 2.5, 5)) >= 2, "also within one power of ten"


def test_the_nearest_point_is_found() -> None:
    points = [(0.0, 1.0), (10.0, 2.0), (20.0, 3.0)]
    assert [nearest(points, x) for x in (-5, 4, 6, 15, 99)] == [0, 0, 1, 1, 2]
    assert nearest([], 3) == -1


def test_numbers_are_said_shortly() -> None:
    assert [said(v) for v in (0, 2.31847, 0.00031, 1.2e-7, 12400.2)] == ["0", "2.318", "0.00031", "1.20e-07", "12,400"]


def test_a_curve_is_drawn_where_its_values_are(qtbot: Any) -> None:
    plot = Curves("Loss")
    qtbot.addWidget(plot)
    plot.resize(400, 240)
    plot.show_curves([Curve("loss", [(0.0, 4.0), (100.0, 1.0)])], best=(100.0, 1.0))
    image = plot.grab().toImage()
    accent = QColor(theme.current().accent)

    def rows(x: int) -> list[int]:
        near = [image.pixelColor(x, y) for y in range(image.height())]
        return [y for y, c in enumerate(near) if abs(c.red() - accent.red()) + abs(c.blue() - accent.blue()) < 40]

    left, right = rows(70), rows(380)
    assert left and right and min(left) < 60 < 150 < max(right), "it falls"
    star = QColor(theme.current().star)
    assert any(
        abs(image.pixelColor(x, y).red() - star.red()) + abs(image.pixelColor(x, y).green() - star.green()) < 30
        for x in range(370, 398) for y in range(140, 230)
    ), "the best has a ring"  # fmt: skip


def test_the_pointer_shows_the_numbers_of_the_nearest_step(qtbot: Any) -> None:
    plot = Curves("Loss")
    qtbot.addWidget(plot)
    plot.resize(400, 240)
    plot.show()
    told: list[float] = []
    plot.pointed.connect(told.append)
    points = [(float(n), 3.0 - n * 0.02) for n in range(101)]
    plot.show_curves([Curve("loss", points, smooth=True), Curve("validation", points[::25], dots=True)])
    plot.set_smoothing(0.9)
    middle = plot._place().center()
    QTest.mouseMove(plot, QPoint(int(middle.x()), int(middle.y())))
    qtbot.waitUntil(lambda: bool(told))
    assert told[-1] == 50.0
    assert plot.describe() == "step 50: loss 2, validation 2", "what was measured, not what was smoothed"
    for key, step in ((Key.Key_Home, 0.0), (Key.Key_Right, 1.0), (Key.Key_End, 100.0), (Key.Key_Left, 99.0)):
        QTest.keyClick(plot, key)
        assert plot._at == step
    QTest.keyClick(plot, Key.Key_Left, Qt.KeyboardModifier.ControlModifier)
    assert plot._at == 89.0


def test_the_log_scale_leaves_out_what_has_no_logarithm(qtbot: Any) -> None:
    plot = Curves("Loss")
    qtbot.addWidget(plot)
    plot.show_curves([Curve("loss", [(0.0, 100.0), (1.0, 0.0), (2.0, -1.0), (3.0, 0.01)])])
    plot.set_log(True)
    seen = plot._prepared().seen
    assert seen.log and seen.low < math.log10(0.01) and seen.high > 2
    plot.grab()
    plot.show_curves([])
    assert plot.describe() == "no points yet"
    plot.grab()


def test_moving_the_pointer_over_a_long_curve_draws_it_from_its_picture(qtbot: Any) -> None:
    plot = Curves("Loss")
    qtbot.addWidget(plot)
    plot.resize(800, 300)
    plot.show()
    plot.show_curves([Curve("loss", [(float(n), 1 + math.sin(n)) for n in range(50_000)], smooth=True)])
    plot.set_smoothing(0.6)
    plot.grab()
    began = time.perf_counter()
    for at in range(20):
        plot.point_at(float(at))
        plot.grab()
    assert (time.perf_counter() - began) / 20 < 0.05, "what does not change is not computed anew"


def test_the_best_is_the_lowest_validation_or_the_one_that_was_kept() -> None:
    points = [
        Point(s, 0.0, {"loss": 1.0, **({"valid": v} if v else {})}) for s, v in ((0, 3.0), (1, 0.0), (2, 1.0), (3, 2.0))
    ]
    assert best_of(points) == (2.0, 1.0) and best_of(points, 3) == (3.0, 2.0) and best_of(points[1:2]) is None
    assert curves_of(points)["valid"] == [(0.0, 3.0), (2.0, 1.0), (3.0, 2.0)]


def test_a_curve_that_goes_on_from_a_checkpoint_does_not_run_back() -> None:
    job = Tracked("j", "train-text", "x")

    def told(step: int, **values: float) -> None:
        job.measure(Measured(job="j", step=step, seconds=0.0, values=values))

    for step in range(10):
        told(step, loss=float(step))
    job.begin_again()
    assert len(job.points) == 10
    told(5, loss=50.0)
    told(5, valid=1.0)
    assert [p.step for p in job.points] == [0, 1, 2, 3, 4, 5]
    assert job.points[-1].values == {"loss": 50.0, "valid": 1.0}, "a look at validation joins its step"


def test_a_very_long_curve_is_thinned_but_for_its_looks() -> None:
    job = Tracked("j", "train-text", "x")
    for step in range(POINTS + 1):
        job.measure(Measured(job="j", step=step, seconds=0.0, values={"valid": 1.0} if step == 100 else {"loss": 1.0}))
    assert len(job.points) <= POINTS // 2 + 2 and any(p.step == 100 for p in job.points)
    assert job.points[-1].step >= POINTS - 1


def test_texts_stand_side_by_side_before_best_and_last() -> None:
    assert side_by_side([0], -1) == [0] and side_by_side([0, 5], -1) == [0, 5]
    assert side_by_side([0, 5, 10, 15, 20], 15) == [0, 15, 20]
    assert side_by_side([0, 5, 10, 15, 20], 20) == [0, 10, 20]


def test_an_estimate_in_words() -> None:
    assert estimate_line(372, 1.4e9) == "about 6 min · 1.4 GB"
    assert estimate_line(372, 0, 360) == "about 6 min" and estimate_line(372, 0, 120) == "about 2 to 6 min"
    assert estimate_line(40, 0) == "about 40 s" and estimate_line(9000, 5e6) == "about 2.5 h · 5.0 MB"


# -- tables and bars ------------------------------------------------------------------------------------------------


def shown(table: Table) -> list[list[str]]:
    model = table.rows_model
    return [[model.data(model.index(r, c)) for c in range(len(model.heads))] for r in range(len(model.rows))]


def test_a_table_sorts_numbers_as_numbers_and_what_stands_out_goes_along(qtbot: Any) -> None:
    table = Table("T", "t")
    qtbot.addWidget(table)
    table.put(("name", "n"), [("b", "10"), ("a", "9"), ("c", None), ("d", "1,000 rows")], bold={(1, 0)})
    table.sortByColumn(1, Qt.SortOrder.AscendingOrder)
    assert [row[0] for row in shown(table)] == ["a", "b", "d", "c"] and table.rows_model.bold == {(0, 0)}
    table.sortByColumn(0, Qt.SortOrder.DescendingOrder)
    assert [row[0] for row in shown(table)] == ["d", "c", "b", "a"] and table.rows_model.bold == {(3, 0)}
    assert number_of("87%") == 87.0 and number_of("x") is None


def test_rows_are_copied_as_a_table(qtbot: Any) -> None:
    from PySide6.QtWidgets import QApplication

    table = Table("T", "t")
    qtbot.addWidget(table)
    table.put(("a", "b"), [("<b>x</b>", 1), ("y", 2)])
    table.selectAll()
    QTest.keyClick(table, Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QApplication.clipboard().text() == "a\tb\n<b>x</b>\t1\ny\t2"


def test_markup_in_a_table_stays_text(qtbot: Any) -> None:
    table = Table("T", "t")
    qtbot.addWidget(table)
    evil = "<b>bold</b> <img src=x> and more words so that it is long"
    table.put(("a",), [(evil,)])
    model = table.rows_model
    tip = model.data(model.index(0, 0), Qt.ItemDataRole.ToolTipRole)
    assert "<img" not in tip and "&lt;img" in tip and model.data(model.index(0, 0)) == evil


def test_bars_say_what_they_show(qtbot: Any) -> None:
    bars = Bars("Figures", "figures")
    qtbot.addWidget(bars)
    bars.put([Bar("BLEU", 20.0, "20 (19 – 21)", of="A", low=19, high=21), Bar("ppl", 900.0, "900", of="A")], apart=True)
    assert bars.accessibleDescription() == "A BLEU 20 (19 – 21); A ppl 900"
    bars.resize(500, bars.height())
    image = bars.grab().toImage()
    accent = QColor(theme.current().accent)

    def width(y: int) -> int:
        return sum(abs(image.pixelColor(x, y).blue() - accent.blue()) < 30 and image.pixelColor(x, y).red() < 140
                   for x in range(image.width()))  # fmt: skip

    assert width(4 + 10) > 100 and width(4 + 26 + 10) > 100, "each measure has a scale of its own"


def test_a_bar_of_a_hundred_is_as_long_as_its_share() -> None:
    figures = {"BLEU": ("", 30.0), "Distinct-1": ("%", 50.0), "Light": ("of 100", 25.0), "Length": ("words", 9.0)}
    full = {n: whole(Measure(name=n, value=value, unit=unit)) for n, (unit, value) in figures.items()}
    assert full == {"BLEU": 100.0, "Distinct-1": 100.0, "Light": 100.0, "Length": 0.0}
    assert whole(Measure(name="Perplexity gain", value=150.0, unit="%")) == 0.0, "it may be more than all"


def test_a_bar_is_drawn_against_what_a_whole_one_stands_for(qtbot: Any) -> None:
    bars = Bars("Figures", "figures")
    qtbot.addWidget(bars)
    bars.put([Bar("BLEU", 30, "30", full=100.0), Bar("Speed", 30, "30")], apart=True)
    bars.resize(600, bars.height())
    image = bars.grab().toImage()
    accent = QColor(theme.current().accent).rgb()

    def width(y: int) -> int:
        return sum(image.pixelColor(x, y).rgb() == accent for x in range(image.width()))

    short, long = width(4 + 13), width(4 + 26 + 13)
    assert 0.2 < short / long < 0.4


def test_small_rates_have_room_for_all_of_their_digits(qtbot: Any) -> None:
    """Nothing is written beyond the left edge: “2e-05” and “1.05e-05” are seen as a whole."""
    assert [marked(each) for each in (0, 2e-5, 1.05e-5, 0.25, 12_400)] == ["0", "2e-05", "1.05e-05", "0.25", "12,400"]
    for low, high in ((1.0e-5, 1.1e-5), (0.0, 5e-5), (1e8, 3e8), (0.1, 0.9), (1.64e-4, 2e-4)):
        plot = Curves("learning rate", small=True)
        qtbot.addWidget(plot)
        plot.resize(260, 112)
        plot.show_curves([Curve("rate", [(float(n), low + n * (high - low) / 9) for n in range(10)])])
        image = plot.grab().toImage()
        panel = QColor(theme.current().panel).rgb()
        for x in (2, 4):
            column = [image.pixelColor(x, y).rgb() for y in range(30, 85)]
            assert set(column) == {panel}, f"something is written at the edge for {low} to {high}"
        assert len(plot._marks(plot._prepared().seen)) > 1, "one number alone tells nothing of the scale"


def test_several_lines_say_which_is_which(qtbot: Any) -> None:
    """Each name stands beside a piece of its line, above the curves; one line alone needs none."""
    plot = Curves("Loss")
    qtbot.addWidget(plot)
    plot.resize(400, 240)

    def colours_above() -> set[int]:
        image = plot.grab().toImage()
        above = range(round(plot._place().top()) - 2)
        return {image.pixelColor(x, y).rgb() for x in range(plot.width()) for y in above}

    points = [(0.0, 2.0), (5.0, 1.5), (9.0, 1.0)]
    accent, star = (QColor(getattr(theme.current(), role)).rgb() for role in ("accent", "star"))
    plot.show_curves([Curve("loss", points), Curve("validation", points[:2], "star", dots=True)])
    assert {accent, star} <= colours_above()
    plot.show_curves([Curve("loss", points)])
    assert not {accent, star} & colours_above()


def test_a_narrow_table_cuts_long_texts_and_keeps_numbers(qtbot: Any) -> None:
    table = Table("Rows", "rows")
    qtbot.addWidget(table)
    table.resize(360, 200)
    table.show()
    rows = [("a", "words " * 40, 1234567), ("b", "short", 2)]
    table.put(("Row", "Words", "Times"), rows)
    assert table.horizontalScrollBar().maximum() == 0, "all of it is seen without scrolling sideways"
    assert "words words" in table.model().data(table.model().index(0, 1), Qt.ItemDataRole.ToolTipRole)
    wide = table.columnWidth(1)
    table.resize(700, 200)
    qtbot.waitUntil(lambda: table.columnWidth(1) > wide)
    role, across = Qt.ItemDataRole.TextAlignmentRole, Qt.Orientation.Horizontal
    sides = [Qt.AlignmentFlag(table.model().headerData(at, across, role)) for at in range(3)]
    right = [bool(side & Qt.AlignmentFlag.AlignRight) for side in sides]
    assert right == [False, False, True], "a head stands above its numbers"
    figures = Table("Figures", "figures", cuts=False)
    qtbot.addWidget(figures)
    figures.resize(200, 200)
    figures.show()
    figures.put(("Measure", "one", "other"), [("BLEU", "99.97  (99.97 – 99.97)  ≈", "99.97  (99.97 – 99.97)  ≈")])
    assert figures.horizontalScrollBar().maximum() > 0, "an interval is never cut in its middle"


# -- comparing ------------------------------------------------------------------------------------------------------


def a_report(title: str, **values: tuple[float, float, float]) -> tuple[str, Report]:
    better = {"bleu": "higher", "ppl": "lower", "length": ""}
    measures = tuple(
        Measure(name=n, value=v, low=low, high=high, better=better[n], of="m", n=9)
        for n, (v, low, high) in values.items()
    )
    return title, Report(title=title, created="", measures=measures)


def test_reports_side_by_side_mark_the_best_and_what_is_clearly_worse() -> None:
    made = compared(
        [
            a_report("A", bleu=(20, 19, 21), ppl=(9, 8, 10), length=(5, 4, 6)),
            a_report("B", bleu=(25, 24, 26), ppl=(9.5, 8.5, 10.5), length=(9, 8, 10)),
            a_report("C", bleu=(24, 22, 26)),
        ]
    )
    assert made.heads == ["Measure", "m · A", "m · B", "m · C"]
    assert made.bold == {(0, 2), (1, 1)}, "most BLEU, least perplexity; of a length nobody knows"
    bleu, ppl, length = made.rows
    assert str(bleu[1]).endswith(WORSE) and str(bleu[3]).endswith(NEAR) and str(ppl[2]).endswith(NEAR)
    assert bleu[2] == "25  (24 – 26)" and ppl[3] == "" and not str(length[1]).endswith((NEAR, WORSE))
    assert "higher is better" in made.tips[0, 1] and "9 rows" in made.tips[0, 1]


def test_of_equal_figures_none_is_the_best() -> None:
    made = compared([a_report("A", bleu=(20, 19, 21), ppl=(9, 8, 10)), a_report("B", bleu=(20, 19, 21), ppl=(8, 8, 9))])
    assert made.bold == {(1, 2)}
    assert not str(made.rows[0][1]).endswith((NEAR, WORSE))


def test_one_report_of_two_models_is_a_comparison_too() -> None:
    measures = tuple(
        Measure(name="bleu", value=v, low=v - 1, high=v + 1, better="higher", of=of) for of, v in (("x", 5), ("y", 9))
    )
    made = compared([("R", Report(title="R", created="", measures=measures))])
    assert made.heads == ["Measure", "x", "y"] and made.bold == {(0, 2)} and str(made.rows[0][1]).endswith(WORSE)


# -- votes ----------------------------------------------------------------------------------------------------------


def votes(*won: int) -> list[Vote]:
    return [Vote(pair=str(at), one="a", other="b", won=each) for at, each in enumerate(won)]


def test_votes_amount_to_rates_and_ratings() -> None:
    assert standings([]) == []
    best, worst = standings(votes(*[-1] * 15, *[1] * 5))
    assert (best.who, best.rate, worst.rate) == ("b", 0.75, 0.25)
    low, high = wilson(0.75, 20)
    # Wilson's interval for 15 of 20, as statsmodels computes it
    assert (low, high) == pytest.approx((0.531299, 0.888138), abs=1e-6)
    assert (best.low, best.high) == pytest.approx((low, high)) and worst.low == pytest.approx(1 - high)
    assert best.elo - worst.elo == pytest.approx(400 * math.log10(3), abs=3), "three times as often is 191 points"
    even = standings(votes(1, -1, 0, 0))
    assert even[0].elo == pytest.approx(1500, abs=1) and even[0].low < 0.5 < even[0].high
    assert math.isfinite(standings(votes(1, 1))[0].elo)
