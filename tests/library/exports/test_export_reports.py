"""Reports and trainings as web pages, PDF, CSV and JSON."""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from studio.core.learning import Made, Measure, Point, Report, Sampled, Training
from studio.core.problems import LibraryBroken
from studio.library.exports import report_drawing, report_view
from studio.library.exports.report_html import page
from studio.library.exports.report_view import Chart, View
from tests.library.exports.helpers_export import Job, make_report

EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>&amp;'


def make_training(path: Path, **more: Any) -> Path:
    curve = tuple(
        Point(i, i * 0.5, {"loss": 3.0 / (i + 1), "rate": 1e-4, **({"valid": 2.0 / (i + 1)} if i % 5 == 0 else {})})
        for i in range(40)
    )
    given: dict[str, Any] = {
        "run": "r1", "name": "Storyteller", "method": "lora", "base": "Small", "data": "tales", "steps": 40,
        "planned": 50, "best_step": 35, "before": {"valid": 2.0}, "after": {"valid": 0.06, "perplexity": 1.06},
        "curve": curve, "samples": (Sampled(0, "Once", text="upon"), Sampled(40, "Once", text="upon a time")),
        "made": (Made("adapter", "storyteller", bytes=2_000_000, checked="Loaded back."),), "seconds": 3723.0,
        "estimate": {"seconds": 3600.0, "bytes": 1.5e9}, "peak_bytes": 1_600_000_000, "why": "No gain any more.",
        "trials": ({"rate": 0.001, "valid": 1.5}, {"rate": 0.01}), "importance": {"rate": 0.9, "rank": 0.1},
    }  # fmt: skip
    path.write_bytes(msgspec.json.encode(Training(**{**given, **more})))
    return path


class Parsed(HTMLParser):
    """The elements of a page, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words += data + "\n"


def test_a_page_shows_figures_charts_tables_and_notes(job: Job, tmp_path: Path, out: Path) -> None:
    job.export(make_report(tmp_path / "m.json"), "report", out / "x.html", title="")
    found = Parsed((out / "x.html").read_text("utf-8"))
    for words in ("One and two", "Perplexity", "12.50", "11.50 … 13.50", "window:512", "A note.", "abab", "Answer 2"):
        assert words in found.words
    assert found.tags.count("svg") == 3, "two measures and a curve"
    assert found.tags.count("table") == 3


def test_what_a_model_or_user_wrote_stays_text_wherever_it_stands(job: Job, tmp_path: Path, out: Path) -> None:
    master = make_report(
        tmp_path / "m.json", title=EVIL, notes=(EVIL,), data=EVIL, settings={EVIL: EVIL},
        measures=(Measure(name=EVIL, value=1.0, low=0.5, high=2.0, of=EVIL, unit=EVIL, signature=EVIL),),
        tables={EVIL: [[EVIL], [EVIL]]}, plots={EVIL: [Point(1, 0.0, {EVIL: 1.0}), Point(2, 0.0, {EVIL: 2.0})]},
        versions={EVIL: EVIL},
    )  # fmt: skip
    job.export(master, "report", out / "x.html", title=EVIL)
    text = (out / "x.html").read_text("utf-8")
    found = Parsed(text)
    assert {"script", "img"}.isdisjoint(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert found.words.count(EVIL) >= 14
    assert "http" not in text.replace("http-equiv", ""), "it asks for nothing"
    assert "default-src 'none'" in text


@pytest.mark.parametrize("kind", ["report", "training"])
def test_a_pdf_has_the_same_words_in_any_script_it_has_letters_for(
    job: Job, tmp_path: Path, out: Path, kind: str
) -> None:  # fmt: skip
    words = "Grüße, Ελλάδα, Москва — “x” 😀 我"
    master = tmp_path / "m.json"
    if kind == "report":
        make_report(master, 120, notes=(words,))
    else:
        make_training(master, notes=(words,))
    result = job.export(master, kind, out / "x.pdf", title="The title")
    data = (out / "x.pdf").read_bytes()
    assert data.startswith(b"%PDF-") and result.artifacts[0].meta["pages"] >= 1
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed")
    text = subprocess.run(["pdftotext", "-layout", out / "x.pdf", "-"], capture_output=True, text=True).stdout
    assert "The title" in text and "Grüße, Ελλάδα, Москва — “x”" in text
    for expected in ("12.50", "Answer 99") if kind == "report" else ("1 h 02 min", "Loaded back.", "0.06000"):
        assert expected in text


def test_a_text_longer_than_a_page_does_not_stop_a_pdf(job: Job, tmp_path: Path, out: Path) -> None:
    long = "x" * 3000 + " " + "word " * 3000
    master = make_report(tmp_path / "m.json", title=long, notes=(long,), tables={long: [["a", "b"], [long, long]]},
                         settings={"toxic": long})  # fmt: skip
    result = job.export(master, "report", out / "x.pdf", title="")
    assert result.artifacts[0].meta["pages"] > 1


def test_a_csv_has_a_row_for_each_figure_and_no_formula(job: Job, tmp_path: Path, out: Path) -> None:
    measures = (Measure(name="BLEU", value=31.25, low=30.0, of="=HYPERLINK()", n=3), Measure(name="-x", value=-1.5))
    job.export(make_report(tmp_path / "m.json", measures=measures), "report", out / "x.csv")
    rows = list(csv.DictReader((out / "x.csv").read_text("utf-8").splitlines()))
    assert [row["measure"] for row in rows] == ["BLEU", "'-x"]
    assert rows[0]["of"] == "'=HYPERLINK()"
    assert (rows[0]["value"], rows[0]["low"], rows[0]["high"], rows[1]["value"]) == ("31.25", "30.0", "", "-1.5")


def test_a_training_shows_its_curve_and_what_it_left(job: Job, tmp_path: Path, out: Path) -> None:
    master = make_training(tmp_path / "m.json")
    job.export(master, "training", out / "x.html")
    found = Parsed((out / "x.html").read_text("utf-8"))
    for words in ("Before and after", "2.000", "0.06000", "upon a time", "Loaded back.", "2.0 MB", "40 of 50",
                  "best: 35", "No gain any more.", "Trials"):  # fmt: skip
        assert words in found.words, words
    assert found.tags.count("svg") == 3, "loss, rate and importance"
    Job(tmp_path, "job2").export(master, "training", out / "x.csv")
    rows = list(csv.DictReader((out / "x.csv").read_text("utf-8").splitlines()))
    assert len(rows) == 40 and rows[0] == {
        "step": "0",
        "seconds": "0.0",
        "loss": "3.0",
        "rate": "0.0001",
        "valid": "2.0",
    }
    assert rows[1]["valid"] == ""


def test_json_is_the_kept_master(job: Job, tmp_path: Path, out: Path) -> None:
    master = make_report(tmp_path / "m.json")
    job.export(master, "report", out / "x.json")
    assert (out / "x.json").read_bytes() == master.read_bytes()
    Job(tmp_path, "job2").export(master, "report", out / "y.json", metadata=False)
    bare = json.loads((out / "y.json").read_bytes())
    assert (bare["title"], bare["settings"]) == ("Report", {}) and len(bare["measures"]) == 4


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"title": 5}', b"\xff\xfe"])
def test_a_damaged_report_is_said(job: Job, tmp_path: Path, out: Path, data: bytes) -> None:
    (tmp_path / "m.json").write_bytes(data)
    with pytest.raises(LibraryBroken, match="report is damaged"):
        job.export(tmp_path / "m.json", "report", out / "x.html")
    assert list(out.iterdir()) == []


def test_an_empty_report_is_a_page_all_the_same() -> None:
    view = report_view.of_report(Report(title="Empty", created=""), "Empty")
    assert "Empty" in page(view) and view.charts == () and view.tables == ()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (-3, 9, [-2, 0, 2, 4, 6, 8]),
     (1e6, 1.1e6, [1e6, 1.02e6, 1.04e6, 1.06e6, 1.08e6, 1.1e6]),
     (2, 2, [2])],
)  # fmt: skip
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert report_drawing.ticks(low, high) == pytest.approx(expected)


class Drawn:
    """A canvas that remembers."""

    def __init__(self) -> None:
        self.points: list[tuple[float, float]] = []

    def line(self, points: list[tuple[float, float]], tone: int, width: float = 1.0) -> None:
        self.points += points

    def dot(self, x: float, y: float, tone: int) -> None:
        self.points.append((x, y))

    def text(self, x: float, y: float, words: str, anchor: str = "start", bold: bool = False) -> None:
        self.points.append((x, y))


@pytest.mark.parametrize(
    "chart",
    [
        Chart("one point", lines={"a": [(5.0, 2.0)]}),
        Chart("flat", lines={"a": [(0.0, 2.0), (9.0, 2.0)], "empty": []}, marked=4.0, across="step"),
        Chart("tiny", lines={"a": [(0.0, 1e-300), (1.0, 2e-300)]}),
        Chart("huge", lines={"a": [(0.0, -1e30), (1e9, 1e30)]}),
        Chart("bars", bars=(report_view.Bar("a", 0.0), report_view.Bar("b" * 99, -5.0, -9.0, None))),
        Chart("none", lines={"a": []}),
    ],
    ids=lambda chart: chart.title,
)
def test_a_chart_stays_within_its_field(chart: Chart) -> None:
    canvas = Drawn()
    report_drawing.draw(chart, canvas)  # type: ignore[arg-type]
    height = report_drawing.height_of(chart)
    assert canvas.points
    assert all(math.isfinite(x) and math.isfinite(y) for x, y in canvas.points)
    assert all(-1 <= x <= report_drawing.WIDTH + 1 and -1 <= y <= height + 1 for x, y in canvas.points)


def test_a_long_curve_is_thinned_for_the_eye() -> None:
    points = [Point(i, 0.0, {"loss": float(i)}) for i in range(5000)]
    training = Training(run="r", name="n", method="lora", curve=tuple(points))
    (chart,) = report_view.of_training(training, "t", "").charts
    assert 100 < len(chart.lines["loss"]) <= report_view.CHART_POINTS


def test_control_characters_do_not_reach_a_page() -> None:
    view: View = report_view.of_report(Report(title="a\x1b[31mb", created="", notes=("x\x00y\ud800",)), "a\x1b[31mb")
    text = page(view)
    assert "\x1b" not in text and "\x00" not in text
    text.encode("utf-8")
