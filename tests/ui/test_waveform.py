"""The picture of a sound, as a hand, an eye and a screen reader find it."""

from __future__ import annotations

import os

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from array import array
from collections.abc import Iterator

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QColor, QImage, QPaintEvent, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from studio.ui import theme
from studio.ui.sound import Peaks
from studio.ui.waveform import SIDE, Waveform, clock

WIDTH = 1000  # of the sound on screen, so that a 10 s sound has 100 px per second
CTRL, NONE = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.NoModifier
LEFT = Qt.MouseButton.LeftButton
SENTENCES = [(0.0, 1.8, "One."), (2.0, 2.8, "Two <b>& more</b>."), (5.0, 4.5, "Three.")]


class Watched(Waveform):
    """Remembers what was painted."""

    def __init__(self) -> None:
        super().__init__()
        self.strips: list[tuple[int, int]] = []

    def paintEvent(self, event: QPaintEvent) -> None:
        self.strips.append((event.rect().left(), event.rect().right()))
        super().paintEvent(event)


@pytest.fixture
def wave(qtbot: QtBot, qapp: QApplication) -> Iterator[Watched]:
    """10 s: quiet for the first half, loud for the second."""
    theme.apply(qapp, theme.DARK)
    made = Watched()
    qtbot.addWidget(made)
    made.resize(WIDTH + 2 * SIDE, 120)
    made.set_wave([(-0.1, 0.1)] * 500 + [(-0.8, 0.8)] * 500, 10.0)
    made.set_sentences(SENTENCES)
    made.show()
    qtbot.waitExposed(made)
    made.activateWindow()
    made.setFocus()
    qtbot.waitUntil(made.hasFocus, timeout=30_000)
    yield made
    qapp.setStyleSheet("")


@pytest.fixture
def sought(wave: Watched) -> list[float]:
    made: list[float] = []
    wave.seek_wanted.connect(made.append)
    return made


def at(seconds: float, y: int = 50) -> QPoint:
    return QPoint(round(SIDE + seconds * WIDTH / 10), y)


def picture(wave: Waveform) -> QImage:
    return wave.grab().toImage()


def height(image: QImage, seconds: float, colour: str) -> int:
    """How many px of this colour stand above each other, at most, near this second of a 10 s sound."""
    wanted, most = QColor(colour), 0
    for x in range(at(seconds).x() - 3, at(seconds).x() + 4):
        column = [image.pixelColor(x, y) for y in range(6, 98)]
        most = max(most, sum(_near(it, wanted) for it in column))
    return most


def _near(one: QColor, other: QColor) -> bool:
    return all(abs(a - b) <= 40 for a, b in zip(one.getRgb()[:3], other.getRgb()[:3], strict=True))


def wheel(wave: Waveform, seconds: float, notches: float, modifiers: Qt.KeyboardModifier = NONE) -> bool:
    place = QPointF(at(seconds))
    event = QWheelEvent(
        place, wave.mapToGlobal(place), QPoint(), QPoint(0, round(120 * notches)), Qt.MouseButton.NoButton, modifiers,
        Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(wave, event)
    return event.isAccepted()


def test_what_was_played_is_accented_and_loud_is_higher_than_quiet(wave: Watched) -> None:
    wave.set_position(7.0)
    image = picture(wave)
    assert 5 < height(image, 1.0, theme.DARK.accent) < 20
    assert height(image, 6.0, theme.DARK.accent) > 70
    assert height(image, 8.0, theme.DARK.accent) == 0
    wave.set_position(0.0)
    assert height(picture(wave), 6.0, theme.DARK.accent) == 0


def test_another_theme_paints_it_anew(wave: Watched, qapp: QApplication) -> None:
    wave.set_position(7.0)
    theme.apply(qapp, theme.LIGHT)
    image = picture(wave)
    assert height(image, 6.0, theme.LIGHT.accent) > 70 and height(image, 6.0, theme.DARK.accent) == 0
    assert image.pixelColor(SIDE // 2, 60) == QColor(theme.LIGHT.panel)


def test_a_press_seeks_and_a_drag_follows_the_hand(wave: Watched, sought: list[float]) -> None:
    QTest.mousePress(wave, LEFT, NONE, at(3.0))
    assert sought == pytest.approx([3.0])
    wave.set_position(0.2)  # the player tells where it still is
    assert wave.position == pytest.approx(3.0)
    QTest.mouseMove(wave, at(4.5))
    QTest.mouseMove(wave, QPoint(WIDTH + 500, 50))
    assert sought == pytest.approx([3.0, 4.5, 10.0])
    QTest.mouseRelease(wave, LEFT, NONE, QPoint(WIDTH + 500, 50))
    wave.set_position(0.2)
    assert wave.position == 0.2


def test_the_right_button_does_not_seek(wave: Watched, sought: list[float]) -> None:
    QTest.mouseClick(wave, Qt.MouseButton.RightButton, NONE, at(3.0))
    assert sought == []


def test_keys_go_through_the_sound(wave: Watched, sought: list[float]) -> None:
    for key in (Qt.Key.Key_Right, Qt.Key.Key_Right, Qt.Key.Key_Left, Qt.Key.Key_End, Qt.Key.Key_Right, Qt.Key.Key_Home,
                Qt.Key.Key_Left):  # fmt: skip
        QTest.keyClick(wave, key)
    assert sought == pytest.approx([2, 4, 2, 10, 10, 0, 0])


def test_ctrl_and_arrows_go_from_sentence_to_sentence(wave: Watched, sought: list[float]) -> None:
    for _ in range(3):
        QTest.keyClick(wave, Qt.Key.Key_Right, CTRL)
    assert sought == pytest.approx([2, 5, 10])
    sought.clear()
    wave.set_position(7.0)
    for _ in range(3):
        QTest.keyClick(wave, Qt.Key.Key_Left, CTRL)
    assert sought == pytest.approx([5, 2, 0])  # first to the start of its own


def test_with_no_sound_nothing_is_sought(wave: Watched, sought: list[float]) -> None:
    wave.clear()
    QTest.keyClick(wave, Qt.Key.Key_Right)
    QTest.mouseClick(wave, LEFT, NONE, at(3.0))
    wheel(wave, 3.0, 2, CTRL)
    assert sought == [] and wave.describe() == "No sound yet"
    picture(wave)


def test_ctrl_and_the_wheel_zoom_around_the_pointer(wave: Watched) -> None:
    assert wave.view == (0.0, 10.0)
    assert not wheel(wave, 4.0, -1)  # the page's
    assert wheel(wave, 4.0, 4, CTRL)
    start, span = wave.view
    assert span < 5 and wave.x_of(4.0) == pytest.approx(at(4.0).x(), abs=0.5)
    assert wheel(wave, 4.0, -1)  # down is onward
    assert wave.view[0] > start and wave.view[1] == span
    wheel(wave, 4.0, -100)
    assert wave.view[0] + span == pytest.approx(10)
    wheel(wave, 4.0, 100, CTRL)
    assert wave.view[1] == pytest.approx(2.0)
    wheel(wave, 4.0, -100, CTRL)
    assert wave.view == (0.0, 10.0)


def test_a_double_click_or_a_key_shows_the_whole(wave: Watched) -> None:
    QTest.keyClick(wave, Qt.Key.Key_Plus)
    assert wave.view[1] < 10
    QTest.mouseDClick(wave, LEFT, NONE, at(5))
    assert wave.view == (0.0, 10.0)
    wave.zoom(3)
    QTest.keyClick(wave, Qt.Key.Key_0)
    assert wave.view == (0.0, 10.0)


def test_the_page_turns_when_the_playhead_leaves_it(wave: Watched) -> None:
    wave.zoom(5, around=0.0)
    assert wave.view == (0.0, 2.0)
    wave.set_position(1.9)
    assert wave.view == (0.0, 2.0)
    wave.set_position(2.1)
    assert wave.view == (pytest.approx(2.0), 2.0)


def test_only_the_strip_around_the_playhead_is_painted_as_it_moves(wave: Watched, qtbot: QtBot) -> None:
    wave.set_position(6.0)
    qtbot.waitUntil(lambda: bool(wave.strips), timeout=30_000)
    QApplication.processEvents()
    wave.strips.clear()
    wave.set_position(6.05)
    qtbot.waitUntil(lambda: bool(wave.strips), timeout=30_000)
    (left, right), *more = wave.strips
    assert not more and left < at(6.0).x() < at(6.05).x() < right and right - left < 40


def test_a_growing_sound_leaves_room_and_is_rescaled_seldom(wave: Watched) -> None:
    wave.clear()
    views, edges = set(), []
    for _ in range(40):
        wave.add_wave([(-0.5, 0.5)] * 100, 2.0)
        views.add(wave.view)
        edges.append(wave.x_of(wave.seconds) / (WIDTH + 2 * SIDE))
    assert wave.seconds == pytest.approx(80)
    assert max(edges) < 0.95 and len(views) < 9
    wave.finished_adding()
    assert wave.view == (0.0, wave.seconds)


def test_a_whole_sound_after_the_pieces_keeps_the_place(wave: Watched) -> None:
    wave.clear()
    wave.add_wave([(-0.5, 0.5)] * 100, 2.0)
    wave.set_position(1.5)
    wave.set_wave([(-0.5, 0.5)] * 100, 2.0)
    assert wave.position == 1.5 and wave.view == (0.0, 2.0)


def test_the_tip_tells_time_and_sentence_as_plain_text(wave: Watched) -> None:
    assert "0:03.0\nTwo &lt;b&gt;&amp; more&lt;/b&gt;." in wave.tip_at(at(3.0).x())
    wave.set_sentences([(0.0, 10.0, "long " * 1000)])
    assert len(wave.tip_at(at(3.0).x())) < 400 and "…" in wave.tip_at(at(3.0).x())


def test_a_screen_reader_hears_where_it_is_but_not_20_times_a_second(wave: Watched) -> None:
    assert wave.accessibleName()
    wave.set_position(3.0)
    assert wave.accessibleDescription() == "0:03 of 0:10, sentence 2 of 3: Two <b>& more</b>."
    said = set()
    for step in range(20):
        wave.set_position(3.0 + step / 20)
        said.add(wave.accessibleDescription())
    assert len(said) == 1
    wave.set_position(5.0)
    assert "sentence 3 of 3" in wave.accessibleDescription()


def test_the_focus_is_seen(wave: Watched) -> None:
    with_focus = picture(wave).pixelColor(200, 0)
    wave.clearFocus()
    assert with_focus == QColor(theme.DARK.accent) != picture(wave).pixelColor(200, 0)


def test_three_hours_are_drawn_at_once_whole_and_near(wave: Watched) -> None:
    seconds = 3 * 3600
    levels = np.random.default_rng(2).integers(1000, 30_000, seconds * 100).astype(np.int16)
    peaks = Peaks()
    samples = array("h", levels.tobytes())
    peaks.add(samples, 100)
    wave.set_wave(peaks, seconds)
    wave.set_sentences([(i * 3.0, 2.5, "x") for i in range(seconds // 3)])
    looked = [0]
    whole = peaks.columns

    def columns(start: float, width: float, count: int) -> Iterator[tuple[float, float]]:
        looked[0] += count
        return whole(start, width, count)

    peaks.columns = columns  # type: ignore[method-assign]
    picture(wave)
    assert 300 < looked[0] < 400
    wave.set_position(5000)
    picture(wave)
    assert looked[0] < 400  # the bars are still there
    wave.zoom(1e9)
    picture(wave)
    assert wave.view[1] == pytest.approx(2.0) and looked[0] < 800


@pytest.mark.parametrize(
    ("seconds", "fine", "said"),
    [(0, False, "0:00"), (0.3, True, "0:00.3"), (59.99, False, "0:59"), (60, False, "1:00"), (3723.4, False, "1:02:03"),
     (5.25, True, "0:05.2")],
)  # fmt: skip
def test_times_are_those_of_a_clock(seconds: float, fine: bool, said: str) -> None:
    assert clock(seconds, fine=fine) == said
