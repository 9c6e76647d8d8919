"""What comes in by dropping and pasting, and what goes out by dragging."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QColor, QDrag, QGuiApplication, QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QWidget

from studio.core.recipes import CARRIED_AS, ImageRecipe, SpeechRecipe, TextRecipe
from studio.ui import history as history_module
from tests.ui.fakes import png
from tests.ui.hands import drop, press

Key, Mod, Button = Qt.Key, Qt.KeyboardModifier, Qt.MouseButton
PASTE = Mod.ControlModifier | Mod.ShiftModifier


def files(*paths: Path) -> QMimeData:
    """As a file manager gives them: addresses, and the same as text."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(p)) for p in paths])
    return data


def words(text: str) -> QMimeData:
    data = QMimeData()
    data.setText(text)
    return data


def carrying(path: Path, recipe: bytes) -> None:
    """Write a picture that holds a recipe, as the studio's own do."""
    text = CARRIED_AS.encode() + b"\0\0\0\0\0" + recipe
    chunk = struct.pack(">I", len(text)) + b"iTXt" + text + struct.pack(">I", zlib.crc32(b"iTXt" + text))
    whole = png(9, 8, (1, 2, 3))
    path.write_bytes(whole[:33] + chunk + whole[33:])


def prompt(tab: Any) -> str:
    return str(tab.form.words.value())


def told(rig: Any, tab: Any, part: str) -> None:
    rig.until(lambda: tab.notice.isVisible() and part in f"{tab.notice.sentence.text()} {tab.notice.hint.text()}")
    tab.notice.put_away()


@pytest.mark.parametrize("kind", ["image", "speech"])
def test_a_dropped_text_becomes_the_prompt(rig: Any, tmp_path: Path, kind: str) -> None:
    tab = rig.tab(kind)
    tab.form.put_some({tab.form.words.field.name: "before"})
    assert drop(tab.centre, words("a <b>bold</b> apple"))
    assert prompt(tab) == "a <b>bold</b> apple"
    (tmp_path / "story.txt").write_bytes("\ufeffEin Märchen.\r\nEnde.".encode())
    assert drop(tab.centre, files(tmp_path / "story.txt"))
    rig.until(lambda: prompt(tab) == "Ein Märchen.\nEnde.")
    # too much of it, as a file and as text
    limit = int(tab.form.words.field.high)
    (tmp_path / "long.txt").write_text("x" * (limit + 1))
    assert drop(tab.centre, files(tmp_path / "long.txt"))
    told(rig, tab, f"“long.txt” is longer than the {limit:,} characters that fit.")
    drop(tab.centre, words("x" * (limit + 1)))
    told(rig, tab, f"longer than the {limit:,} characters")
    assert prompt(tab) == "Ein Märchen.\nEnde."
    # no text at all
    assert not drop(tab.centre, words(" \n "))
    assert not drop(tab.centre, QMimeData())
    assert rig.problems == []


def test_a_file_dropped_on_the_prompt_is_taken_as_a_file(rig: Any, tmp_path: Path) -> None:
    tab = rig.tab("image")
    tab.form.put_some({"prompt": "before "})
    edit = tab.form.words.editor.target()
    (tmp_path / "story.txt").write_text("From the file.")
    assert drop(edit.viewport(), files(tmp_path / "story.txt"))
    rig.until(lambda: prompt(tab) == "From the file.")
    assert drop(edit.viewport(), words(" And more."))  # a text goes where it is dropped
    assert "And more." in prompt(tab) and "From the file." in prompt(tab)


def test_recipes_in_files_fill_the_form_of_their_kind(rig: Any, tmp_path: Path) -> None:
    tab = rig.tab("image")
    work = rig.made("image", "red apple", seed=5, steps=3)
    rig.until(lambda: tab.work is not None)

    def emptied() -> None:
        tab.form.put_some({"prompt": "", "seed": None, "steps": 9})

    def filled() -> bool:
        return [tab.form.rows[n].value() for n in ("prompt", "seed", "steps")] == ["red apple", 5, 3]

    # the sidecar, also when its name says nothing
    sidecar = rig.session.files(work)[-1]
    assert sidecar.suffix == ".json"
    for path in (sidecar, tmp_path / "copy.bin"):
        path.write_bytes(sidecar.read_bytes())
        emptied()
        assert drop(tab.centre, files(path))
        rig.until(filled)
        told(rig, tab, f"The parameters of “{path.name}” were taken.")
    # the library's own picture, and an exported one
    emptied()
    drop(tab.centre, files(rig.session.path(work)))
    rig.until(filled)
    carrying(tmp_path / "out.png", msgspec.json.encode(work.recipe))
    emptied()
    drop(tab.centre, files(tmp_path / "out.png"))
    rig.until(filled)
    assert not tab.canvas.comparing
    # of another kind: its own tab opens
    for recipe, kind, expected in (
        (SpeechRecipe(text="Read me.", voice="choir", speaker=2, seed=1), "speech", "Read me."),
        (TextRecipe(prompt="Go on.", model="writer", seed=1), "text", "Go on."),
        (ImageRecipe(prompt="of another day", model="gone", seed=1), "image", "of another day"),
    ):
        (tmp_path / "recipe.json").write_bytes(msgspec.json.encode(recipe))
        drop(rig.window.tab.centre, files(tmp_path / "recipe.json"))
        rig.until(lambda k=kind, e=expected: rig.desk.state.tab == k and prompt(rig.window.tab) == e)
    assert rig.window.tabs["speech"].form.rows["speaker"].value() == 2
    assert rig.window.tabs["speech"].form.card().id == "choir"
    # the model that is gone is told where it is chosen
    assert tab.form.complaints() == ["model"]
    assert rig.problems == []


def test_files_without_a_recipe_are_told(rig: Any, tmp_path: Path) -> None:
    tab = rig.tab("image")
    tab.form.put_some({"prompt": "mine"})
    long = b"[" * 200_000
    for name, data in (
        ("garbage.json", b'{"recipe": {"kind": "image", '), ("deep.json", long), ("list.json", b"[1, 2]"),
        ("zero.json", b""), ("export.json", b'{"kind": "export", "work": "w", "to": "/tmp/x.png"}'),
        ("bad.json", b'{"kind": "image", "prompt": "x", "steps": -4}'), ("sound.wav", b"RIFF"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(data)
        drop(tab.centre, files(tmp_path / name))
        told(rig, tab, f"“{name}” holds no recipe of the studio.")
    drop(tab.centre, files(tmp_path / "nowhere.json"))
    told(rig, tab, "There is no file “nowhere.json”.")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nxxxx")
    drop(tab.centre, files(tmp_path / "broken.png"))
    told(rig, tab, "“broken.png” is not a picture that can be read.")
    # a recipe in a picture that is nonsense
    carrying(tmp_path / "odd.png", b"{not json")
    drop(tab.centre, files(tmp_path / "odd.png"))
    told(rig, tab, "says nothing of how it was made; it is only shown")
    assert prompt(tab) == "mine" and rig.problems == []


def test_a_picture_without_a_recipe_is_shown_or_compared(rig: Any, tmp_path: Path) -> None:
    tab = rig.tab("image")
    (tmp_path / "photo.png").write_bytes(png(30, 20, (0, 200, 0)))
    drop(tab.centre, files(tmp_path / "photo.png"))
    rig.until(lambda: tab._stack.currentWidget() is tab.canvas)
    assert tab.canvas._natural().toTuple() == (30, 20)
    told(rig, tab, "it is only shown")
    rig.made("image", "mine")
    rig.until(lambda: tab.work is not None)
    drop(tab.canvas, files(tmp_path / "photo.png"))
    rig.until(lambda: tab.canvas.comparing)
    assert tab.canvas._captions == ("the dropped picture", "mine")
    told(rig, tab, "it is compared with the shown one")


def test_a_model_file_is_added_or_refused_with_a_sentence(rig: Any, tmp_path: Path) -> None:
    tab = rig.tab("image")
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    drop(tab.centre, files(tmp_path / "bad.safetensors"))
    told(rig, tab, "“bad.safetensors” cannot be used")
    (tmp_path / "nothing").mkdir()
    drop(tab.centre, files(tmp_path / "nothing"))
    told(rig, tab, "“nothing” cannot be used")
    model = Path(__file__).parents[2] / "assets" / "models" / "starter-image"
    drop(tab.centre, files(model))
    rig.until(lambda: tab.form.card().path == str(model))
    # on another tab it is added where it belongs
    speech = rig.tab("speech")
    before = speech.form.card()
    drop(speech.centre, files(model))
    rig.until(lambda: rig.window.notice.isVisible())
    assert "is a picture model; it was added to its own tab." in rig.window.notice.sentence.text()
    assert speech.form.card() == before
    assert rig.problems == []


def test_pasting_takes_text_pictures_and_files(rig: Any, tmp_path: Path) -> None:
    tab = rig.tab("image")
    clipboard = QGuiApplication.clipboard()
    clipboard.setText("from the clipboard")
    press(rig, Key.Key_V, PASTE)
    assert prompt(tab) == "from the clipboard"  # once, in place of what was there
    image = QImage(10, 6, QImage.Format.Format_ARGB32)
    image.fill(QColor(1, 2, 3))
    clipboard.setImage(image)
    press(rig, Key.Key_V, PASTE)
    assert tab.canvas._natural().toTuple() == (10, 6)
    told(rig, tab, "it is only shown")
    (tmp_path / "recipe.json").write_bytes(msgspec.json.encode(ImageRecipe(prompt="pasted", model="painter", seed=3)))
    clipboard.setMimeData(files(tmp_path / "recipe.json"))
    press(rig, Key.Key_V, PASTE)
    rig.until(lambda: prompt(tab) == "pasted")
    # nothing that can be used, and nothing at all
    tab.notice.put_away()
    odd = QMimeData()
    odd.setData("application/x-odd", b"?")
    clipboard.setMimeData(odd)
    press(rig, Key.Key_V, PASTE)
    told(rig, tab, "nothing to paste")
    clipboard.clear()
    press(rig, Key.Key_V, PASTE)
    told(rig, tab, "nothing to paste")
    # a picture is nothing for a reading
    speech = rig.tab("speech")
    clipboard.setImage(image)
    press(rig, Key.Key_V, PASTE)
    told(rig, speech, "nothing to paste")
    assert rig.problems == []


def test_works_are_dragged_out_as_files(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = rig.made("image", "one"), rig.made("image", "two")
    tab = rig.tab("image")
    rig.until(lambda: tab.work is not None and tab.work.id == second.id and second.id in tab._pictures)
    model = tab.history.model
    data = model.mimeData([model.index(0), model.index(1)])
    paths = [Path(u.toLocalFile()) for u in data.urls()]
    assert paths == [rig.session.path(second), rig.session.path(first)]
    assert all(p.is_file() for p in paths) and tab.history.view.dragEnabled()
    # from the canvas, with the mouse
    dragged: list[tuple[Path, Any]] = []

    class Drag(QDrag):
        def exec(self, *allowed: Any) -> Any:
            dragged.append((Path(self.mimeData().urls()[0].toLocalFile()), allowed))
            return Qt.DropAction.IgnoreAction

    monkeypatch.setattr(history_module, "QDrag", Drag)
    centre = tab.canvas.rect().center()
    QTest.mousePress(tab.canvas, Button.LeftButton, pos=centre)
    QTest.mouseMove(tab.canvas, centre + (centre - tab.canvas.rect().topLeft()) / 4)
    QTest.mouseRelease(tab.canvas, Button.LeftButton, pos=centre)
    assert dragged == [(rig.session.path(second), (Qt.DropAction.CopyAction,))]  # copied, never moved


def test_what_is_dragged_from_the_window_is_not_dropped_on_it(rig: Any) -> None:
    rig.made("image", "one")
    tab = rig.tab("image")
    rig.until(lambda: tab.work is not None)
    data = tab.history.model.mimeData([tab.history.model.index(0)])
    outside = QWidget()
    for source, expected in ((tab.history.view, False), (tab.canvas, False), (None, True), (outside, True)):
        taken: list[bool] = []
        event = SimpleNamespace(
            mimeData=lambda: data, source=lambda s=source: s, position=lambda: QPointF(),
            acceptProposedAction=lambda t=taken: t.append(True),
        )  # fmt: skip
        tab.dragEnterEvent(event)
        assert bool(taken) is expected
    outside.deleteLater()


def test_a_dropped_picture_fills_the_form_and_says_what_was_left(rig: Any, tmp_path: Path) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(
        "parameters",
        "an old house <lora:Soft style:0.6>\nNegative prompt: fog\nSteps: 9, Sampler: DPM++ 2M, Schedule type: Karras, "
        "CFG scale: 6.5, Seed: 77, Size: 64x64, Model: Painter, Hypernet: abc, Clip skip: 2",
    )
    Image.new("RGB", (64, 64), "green").save(tmp_path / "theirs.png", pnginfo=info)
    tab = rig.tab("image")
    tab.take_file(tmp_path / "theirs.png")
    rig.until(tab.notice.isVisible)
    assert "A1111" in tab.notice.sentence.text()
    assert "left out" in tab.notice.hint.text()
    assert "Hypernet: abc" in tab.notice._detail
    values = tab.form.values()
    assert values["prompt"] == "an old house"
    assert (values["negative"], values["steps"], values["guidance"], values["seed"]) == ("fog", 9, 6.5, 77)
    shown = {name: tab.form.rows[name].value() for name in ("scheduler", "sigmas", "clip_skip")}
    assert shown == {"scheduler": "dpmpp_2m", "sigmas": "karras", "clip_skip": 2}
    assert values["loras"] == ({"model": "soft-style", "weight": 0.6},)
    assert values["model"] == "painter"
