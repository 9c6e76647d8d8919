"""What the window remembers, and what it does with a memory that somebody has damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QSplitter
from pytestqt.qtbot import QtBot

from studio.core.paths import Paths
from studio.ui import state
from studio.ui.desk import Desk
from studio.ui.export import ExportDialog
from studio.ui.window import Window
from tests.ui.rig import Rig


def file_of(paths: Paths) -> Path:
    return paths.home / "window.json"


def test_the_next_window_stands_where_the_last_one_stood(
    open_window: Callable[..., Rig], paths: Paths, qtbot: QtBot
) -> None:
    first = open_window(size=(970, 640))
    text, image = first.tab("text"), first.tab("image")
    text.form.put_some({"prompt": "Once <b>upon</b>", "max_tokens": 77, "stop": ("\n", "a\\b")})
    text.chat_button.click()
    text.composer.setPlainText("unsent & kept")
    image.form.put_some({"prompt": "a fox", "seed": 4_294_967_295, "steps": 9})
    advanced = image.form._folds["advanced"]
    advanced.open()
    image.toggle_history()
    first.window.toggle_queue()
    first.until(lambda: first.window.queue.height() > 0)
    first.window.middle.setSizes([300, 240])
    first.window.middle.splitterMoved.emit(1, 1)
    speech = first.tab("speech")
    speech.split.setSizes([330, 330, 260])
    speech.split.splitterMoved.emit(1, 1)
    first.window.setMinimumSize(700, 500)  # the virtual screen has 800 px only
    first.window.resize(780, 640)
    first.until(lambda: file_of(paths).exists() and b"unsent" in file_of(paths).read_bytes())
    first.close()

    remembered = state.load(file_of(paths))
    opened = "image.advanced" in remembered.open
    halves, thirds = (remembered.splitters[name] for name in ("middle", "speech.split"))
    assert opened and halves[1] > 200 and thirds[2] > 240
    again = Window(Desk(None, file_of(paths), remembered))  # as large as it was, without the rig's resize
    assert again.height() == 640
    again.end("cancel")

    second = open_window(state.load(file_of(paths)), size=(970, 640))
    assert second.desk.state.tab == "speech" and second.window.tab is second.window.tabs["speech"]
    assert second.window.queue.isVisible() and second.window.strip.toggle._icon_name == "chevron-down"
    second.until(lambda: second.window.middle.sizes() == halves)
    assert second.window.tab.split.sizes() == thirds
    assert set(second.window.tabs) == {"speech"}  # the others are built when they are asked for
    image, text = second.tab("image"), second.tab("text")
    assert (image.form.words.value(), image.form.values()["seed"]) == ("a fox", 4_294_967_295)
    assert image.form.values()["steps"] == 9
    assert image.form._folds["advanced"].is_open() == opened and not image.right.isVisible()
    assert text.form.words.value() == "Once <b>upon</b>"
    assert text.form.values()["max_tokens"] == 77 and text.form.values()["stop"] == ("\n", "a\\b")
    assert text.chat_button.isChecked() and text.composer.isVisible()
    assert text.composer.toPlainText() == "unsent & kept"
    assert second.problems == []


def test_what_was_typed_is_saved_soon_and_not_only_at_the_end(rig: Rig, paths: Paths) -> None:
    rig.until(lambda: file_of(paths).exists())
    rig.tab("text").form.words.editor.target().insertPlainText("typed just now")
    rig.until(lambda: b"typed just now" in file_of(paths).read_bytes())


def test_half_a_character_in_a_draft_is_no_obstacle(rig: Rig, paths: Paths) -> None:
    tab = rig.tab("text")
    tab.chat_button.click()
    tab.composer.setPlainText("half \ud83d a fox")
    rig.desk.state.drafts["other"] = "\udc00 half"
    rig.until(lambda: file_of(paths).exists() and b"a fox" in file_of(paths).read_bytes())
    found = state.load(file_of(paths))
    assert found.drafts["text.chat"].endswith("a fox") and found.drafts["other"].endswith("half")
    assert rig.problems == []


def test_a_disk_that_refuses_costs_the_memory_and_nothing_else(
    rig: Rig, paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "write_durably", full)
    rig.tab("text").form.words.editor.target().insertPlainText("words")
    rig.close()
    assert "No space left" in capsys.readouterr().err
    assert not any(w.isVisible() for w in (rig.window,))


NONSENSE: dict[str, bytes] = {
    "empty": b"",
    "garbage": b"\x00\xff\xfe{{{{",
    "not utf-8": b'{"tab": "\xff\xfe"}',
    "another shape": b'[1, 2, {"tab": "image"}]',
    "wrong types": b'{"tab": 5, "forms": [], "splitters": "wide"}',
    "deep": b'{"forms": {"image": {"prompt": ' + b"[" * 50_000 + b"]" * 50_000 + b"}}}",
    "half a character": b'{"drafts": {"text.chat": "\\ud800"}}',
}


@pytest.mark.parametrize("name", NONSENSE)
def test_a_file_that_makes_no_sense_is_a_fresh_start(tmp_path: Path, name: str) -> None:
    path = tmp_path / "window.json"
    path.write_bytes(NONSENSE[name])
    assert state.load(path) == state.WindowState()


def test_a_huge_file_or_a_folder_in_its_place_is_a_fresh_start(tmp_path: Path) -> None:
    path = tmp_path / "window.json"
    with open(path, "wb") as huge:
        huge.write(b'{"tab": "image", "folder": "')
        huge.truncate(3_000_000_000)  # sparse
    assert state.load(path) == state.WindowState()
    path.unlink()
    path.mkdir()
    assert state.load(path) == state.WindowState()


STRANGE = {
    "geometry": "AdnQywADAAAäöü",
    "tab": "video",
    "forms": {
        "image": {
            "steps": 10**12, "n": "x", "count": -5, "guidance": 1e308, "seed": "<b>x</b>", "width": [1, 2],
            "height": {"a": 1}, "prompt": 7, "negative": None, "scheduler": 5, "model": {"x": []}, "gone": 1,
        },
        "text": {
            "n": "x", "max_tokens": -(10**18), "stop": ["a", 5, None], "temperature": "hot", "prompt": ["a"],
            "model": 5, "seed": 10**15, "system": False,
        },
        "speech": {"speed": "fast", "speaker": 10**9, "voice": [1], "text": {"a": 1}, "steps": True},
        "video": {"a": 1},
    },
    "splitters": {
        "middle": [-600, 10**15], "text.split": [-1, -2, -3], "image.split": [1] * 50, "speech.right": [10**30, 1],
    },
    "open": ["image.advanced", "nothing", "\u0000"],
    "folder": "/no/\u0000where",
    "export_format": {"image": "exe", "text": ""},
    "export_quality": 10**12,
    "conversation": "../../etc/passwd",
    "drafts": {"text.mode": "shout", "text.chat": "a\u0000b"},
}  # fmt: skip


def test_strange_values_never_stop_the_window(open_window: Callable[..., Rig], paths: Paths) -> None:
    file_of(paths).write_text(json.dumps(STRANGE))
    remembered = state.load(file_of(paths))
    assert remembered.forms  # it is not the fresh start of a file that cannot be read
    rig = open_window(remembered, size=(970, 640))
    for kind in ("text", "image", "speech"):
        tab = rig.tab(kind)
        for name, made in tab.form.rows.items():
            field = made.field
            value = made.value()
            if isinstance(value, (int, float)) and not made.editor.complaint():
                assert field.low is None or field.low <= value, name
                assert field.high is None or value <= field.high, name
        assert all(size >= 0 for split in tab.findChildren(QSplitter) for size in split.sizes())
        rig.window.grab()
    rig.window.toggle_queue()
    rig.until(lambda: min(rig.window.middle.sizes()) > 0)
    # the form still makes what it is asked for, once what is complained of has been mended
    tab = rig.tab("image")
    usual = {name: made.field.default for name, made in tab.form.rows.items()}
    work = rig.made("image", "a square", **{n: v for n, v in usual.items() if n != "prompt" and v is not None}, seed=1,
                    width=None, height=None)  # fmt: skip
    tab.show_work(work)
    tab.save_as()
    dialog = rig.window.findChild(ExportDialog, "export_dialog")
    assert isinstance(dialog, ExportDialog) and 1 <= dialog.quality.value() <= 100
    dialog.reject()
    assert rig.problems == []
    rig.close()
    assert state.load(file_of(paths)).tab == "image"
