"""Saving a work as a file: the dialog, and the job behind it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from PySide6.QtTest import QTest

from studio.ui import window as window_module
from studio.ui.export import ExportDialog
from tests.ui.hands import press

Key, Mod, Button = Qt.Key, Qt.KeyboardModifier, Qt.MouseButton


def opened(rig: Any) -> ExportDialog:
    """The dialog, opened with its key."""
    press(rig, Key.Key_S)
    found: list[ExportDialog] = []

    def there() -> bool:
        found[:] = [d for d in rig.window.findChildren(ExportDialog) if d.isVisible()]
        return bool(found)

    rig.until(there)
    return found[0]


def closed(rig: Any, dialog: ExportDialog) -> None:
    import shiboken6

    rig.until(lambda: not shiboken6.isValid(dialog) or not dialog.isVisible())


def typed(dialog: ExportDialog, text: str) -> None:
    """Type a name in place of the present one."""
    dialog.file.setFocus()
    dialog.file.selectAll()
    QTest.keyClicks(dialog.file, text)


def choose(dialog: ExportDialog, extension: str) -> None:
    dialog.format.setCurrentIndex(dialog.format.findData(extension))


def save(dialog: ExportDialog) -> None:
    QTest.mouseClick(dialog.save, Button.LeftButton)


def formats(dialog: ExportDialog) -> list[str]:
    return [dialog.format.itemData(i) for i in range(dialog.format.count())]


@pytest.fixture
def picture(rig: Any) -> tuple[Any, Any]:
    work = rig.made("image", "red apple")
    rig.until(lambda: rig.tab("image").work is not None)
    return rig, work


def test_the_formats_are_those_of_the_kind(rig: Any) -> None:
    for kind, expected in (
        ("text", [".txt", ".md"]), ("image", [".png", ".jpg", ".webp", ".avif", ".tif", ".psd"]),
        ("speech", [".wav", ".flac", ".ogg", ".mp3"]),
    ):  # fmt: skip
        work = rig.made(kind, "Some words.")
        rig.tab(kind).show_work(work)
        dialog = opened(rig)
        assert formats(dialog) == expected
        assert Path(dialog.file.text()).name == f"some-words{expected[0]}"
        # the name is marked, so that typing replaces it and leaves the ending
        assert dialog.file.selectedText() == "some-words"
        QTest.keyClick(dialog, Key.Key_Escape)
        closed(rig, dialog)


def test_ending_and_format_follow_each_other_and_quality_is_there_where_it_is_used(
    picture: tuple[Any, Any], tmp_path: Path
) -> None:
    rig, _ = picture
    dialog = opened(rig)
    assert dialog.format.currentData() == ".png" and not dialog.quality.isVisible()
    typed(dialog, str(tmp_path / "a.b.png"))
    choose(dialog, ".jpg")
    assert dialog.file.text() == str(tmp_path / "a.b.jpg") and dialog.quality.isVisible()
    choose(dialog, ".webp")
    assert dialog.file.text() == str(tmp_path / "a.b.webp") and dialog.quality.isVisible()
    typed(dialog, str(tmp_path / "c.PNG"))
    assert dialog.format.currentData() == ".png" and not dialog.quality.isVisible()
    assert dialog.file.text() == str(tmp_path / "c.PNG")
    typed(dialog, str(tmp_path / "c.jpeg"))
    assert dialog.format.currentData() == ".jpg" and dialog.quality.isVisible()
    assert dialog.file.text() == str(tmp_path / "c.jpeg")  # a good ending, too
    typed(dialog, str(tmp_path / "c.webp.notes"))
    choose(dialog, ".png")
    assert dialog.file.text() == str(tmp_path / "c.webp.notes.png")
    QTest.mouseClick(dialog.cancel, Button.LeftButton)
    closed(rig, dialog)
    assert list(tmp_path.glob("c*")) == []


def test_a_file_is_written_told_and_what_was_chosen_remembered(
    picture: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, work = picture
    folder = tmp_path / "here & <b>there"
    folder.mkdir()
    dialog = opened(rig)
    typed(dialog, str(folder / "apple.jpg"))
    dialog.quality.put(40)
    QTest.keyClick(dialog.file, Key.Key_Return)
    closed(rig, dialog)
    rig.until(lambda: rig.window.notice.isVisible())
    assert rig.window.notice.sentence.text() == "Saved as apple.jpg."
    assert rig.window.notice.hint.text().splitlines()[0] == str(folder)
    assert (folder / "apple.jpg").read_bytes()[:3] == b"\xff\xd8\xff"
    assert QImage(str(folder / "apple.jpg")).width() == 64
    assert list(folder.iterdir()) == [folder / "apple.jpg"]
    asked: list[Path] = []
    monkeypatch.setattr(window_module, "open_folder", asked.append)
    assert rig.window.notice.act.text() == "Show in folder"
    QTest.mouseClick(rig.window.notice.act, Button.LeftButton)
    assert asked == [folder] and not rig.window.notice.isVisible()
    # the next time
    state = rig.desk.state
    assert (state.folder, state.export_quality, state.export_format["image"]) == (str(folder), 40, ".jpg")
    dialog = opened(rig)
    assert dialog.file.text() == str(folder / "red-apple.jpg")
    assert dialog.format.currentData() == ".jpg" and dialog.quality.value() == 40
    # a name alone goes to the same folder, and takes the chosen ending
    typed(dialog, "second")
    save(dialog)
    rig.until((folder / "second.jpg").exists)
    rig.until(lambda: not rig.desk.track.unfinished("export"))
    assert rig.session.path(work).exists()
    assert rig.problems == []


def test_an_existing_file_is_replaced_by_a_second_press_only(picture: tuple[Any, Any], tmp_path: Path) -> None:
    rig, _ = picture
    file, other = tmp_path / "apple.png", tmp_path / "pear.png"
    for each in (file, other):
        each.write_bytes(b"mine")
    dialog = opened(rig)
    typed(dialog, str(file))
    save(dialog)
    assert dialog.problem.text() == "“apple.png” is there already."
    assert dialog.save.text() == "Replace it"
    # another name takes the yes back
    typed(dialog, str(other))
    assert dialog.save.text() == "Save" and dialog.problem.text() == ""
    save(dialog)
    assert dialog.save.text() == "Replace it" and other.read_bytes() == b"mine"
    save(dialog)
    closed(rig, dialog)
    rig.until(lambda: other.read_bytes()[:4] == b"\x89PNG")
    assert file.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("folder.png", "is a folder"),
        ("nowhere/apple.png", "does not exist"),
        ("file.txt/apple.png", "not a folder"),
        ("apple.gif", "cannot write “.gif” files"),
        ("apple.mp3", "A picture cannot be written as MP3."),
        ("x" * 300 + ".png", "too long"),
        ("link.png", "is a link"),
        ("", "no name yet"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_told_in_the_dialog_which_stays(
    picture: tuple[Any, Any], tmp_path: Path, name: str, told: str
) -> None:
    rig, _ = picture
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file.txt").write_text("mine")
    (tmp_path / "link.png").symlink_to(tmp_path / "file.txt")
    dialog = opened(rig)
    typed(dialog, str(tmp_path / name) if name else " ")
    save(dialog)
    rig.until(lambda: told in dialog.problem.text())
    assert dialog.isVisible() and dialog.save.isEnabled() and dialog.problem.isVisible()
    assert not rig.window.notice.isVisible()
    assert rig.desk.state.folder == "" and rig.desk.state.export_format == {}  # not worth remembering
    # another name, and it goes
    typed(dialog, str(tmp_path / "good.png"))
    assert dialog.problem.text() == ""
    save(dialog)
    closed(rig, dialog)
    rig.until((tmp_path / "good.png").exists)
    assert (tmp_path / "file.txt").read_text() == "mine"


def test_a_closed_folder_is_told(picture: tuple[Any, Any], tmp_path: Path) -> None:
    rig, _ = picture
    if os.geteuid() == 0:  # the root of a container may write everywhere but to /proc
        folder, told = Path("/proc"), "apple.png"
    else:
        folder, told = tmp_path / "closed", "cannot be written to"
        folder.mkdir(mode=0o500)
    dialog = opened(rig)
    typed(dialog, str(folder / "apple.png"))
    save(dialog)
    # before the job where it can be known, after it where not
    label = rig.window.notice.sentence if os.geteuid() == 0 else dialog.problem
    rig.until(lambda: label.isVisible() and label.text())
    assert told in label.text() and label.text().endswith(".") and "Errno" not in label.text()
    assert rig.tab("image").work is not None


@pytest.mark.parametrize("title", ["../../../etc/passwd", "🍎🍏", "x" * 300, "con", "~/.ssh/id", "a\x00b\nc", "%n{0}"])
def test_any_title_gives_a_safe_name(picture: tuple[Any, Any], title: str) -> None:
    import msgspec

    rig, work = picture
    dialog = ExportDialog(rig.window, rig.desk, msgspec.structs.replace(work, title=title))
    path = Path(dialog.file.text())
    folder = path.parent
    assert path.suffix == ".png" and len(path.name) <= 60
    assert path.name.isprintable() and not path.name.startswith((".", "~", "-"))
    assert path.stem.lower() not in ("con", "")
    assert folder == Path(ExportDialog(rig.window, rig.desk, work).file.text()).parent


def test_a_remembered_folder_that_is_gone_is_not_offered(picture: tuple[Any, Any], tmp_path: Path) -> None:
    rig, work = picture
    rig.desk.state.folder = str(tmp_path / "gone")
    rig.desk.state.export_format["image"] = ".xyz"  # of another version
    dialog = ExportDialog(rig.window, rig.desk, work)
    assert "gone" not in dialog.file.text()
    assert dialog.format.currentData() == ".png"


def test_the_resulting_size_is_shown_before_saving_and_follows_the_choices(rig: Any) -> None:
    work = rig.made("image", "an apple")
    tab = rig.tab("image")
    rig.until(lambda: tab.work is not None and tab.work.id == work.id)
    tab.save_as()
    dialog = rig.window.findChild(ExportDialog)
    rig.until(lambda: "B" in dialog.size_label.text())
    first = dialog.size_label.text()
    choose(dialog, ".jpg")
    rig.until(lambda: dialog.size_label.text() not in (first, "Size: …"))
    with_recipe = dialog.size_label.text()
    dialog.metadata.put(False)
    dialog.metadata.changed.emit("metadata")
    rig.until(lambda: dialog.size_label.text() not in (with_recipe, "Size: …"))
    assert rig.session.jobs(limit=10)[0].kind == "image", "asking for the size is no job"


def test_a_file_can_be_saved_without_saying_how_it_was_made(rig: Any, tmp_path: Path) -> None:
    work = rig.made("image", "a secret apple")
    job = rig.session.export(work.id, tmp_path / "open.jpg")
    rig.session.wait(job.id, 60)
    job = rig.session.export(work.id, tmp_path / "closed.jpg", metadata=False)
    rig.session.wait(job.id, 60)
    assert b"secret" in (tmp_path / "open.jpg").read_bytes().replace(b"\0", b"")
    assert b"secret" not in (tmp_path / "closed.jpg").read_bytes().replace(b"\0", b"")
