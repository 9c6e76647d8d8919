"""Details in the form and on the command line: both follow from the declaration, and what is chosen is asked."""

from __future__ import annotations

import argparse
from typing import Any

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from studio import cli
from studio.core.cards import ModelCard
from studio.core.recipes import Detail, ImageRecipe, check
from studio.ui.lists import ListEditor

FACES = ModelCard(
    id="faces", name="Faces", kind="detector", engine="image.fake", path="/nowhere/faces.onnx", format="onnx",
    sha256="-", notes=("finds face",),
)  # fmt: skip
NEAR = msgspec.structs.replace(FACES, id="near", name="Near", kind="depth", path="/nowhere/near.onnx")


@pytest.fixture
def tab(rig: Any) -> Any:
    rig.session._models.all += [FACES, NEAR]
    rig.desk.read_models()
    rig.until(lambda: rig.desk.cards("detector"))
    tab = rig.tab("image")
    tab.form.put_some({"model": "painter"})
    for group in ("second", "control"):
        tab.form._folds[group].open()
    return tab


def test_a_detail_is_added_chosen_and_asked_for(rig: Any, tab: Any) -> None:
    editor = tab.form.rows["details"].editor
    assert isinstance(editor, ListEditor)
    QTest.mouseClick(editor.target(), Qt.MouseButton.LeftButton)
    assert editor.value() == (), "without a detector it does not count"
    entry = editor._rows[0]
    entry._editors["model"].put("faces")
    entry._editors["prompt"].put("a calm face")
    entry._editors["strength"].put(0.5)
    for part in ("model", "prompt", "strength"):
        entry._editors[part].changed.emit()
    (value,) = editor.value()
    assert msgspec.convert(value, Detail) == Detail("faces", 0.5, prompt="a calm face"), "all else as declared"
    work = rig.made("image", "an apple")
    assert rig.recipe(work)["details"][0]["prompt"] == "a calm face"
    assert isinstance(work.recipe, ImageRecipe)
    tab.form.put_some({"details": ()})
    tab.take_recipe(work.recipe)
    assert editor.value() == (value,)


def test_only_details_is_refused_beside_its_field_while_there_is_no_picture(tab: Any) -> None:
    from studio.app.fit import fitted
    from studio.core.problems import BadRecipe

    with pytest.raises(BadRecipe) as raised:
        fitted(ImageRecipe(prompt="x", details_only=True), tab.form.card())
    assert tab.form.show_problem(raised.value.problem) is True


def test_models_for_depth_and_poses_are_chosen_in_the_fold_of_the_controls(tab: Any) -> None:
    row = tab.form.rows["depth_with"]
    box = row.editor._box
    assert "Near" in [box.itemText(at) for at in range(box.count())]
    assert row.value() == ""
    names = [box.itemText(at) for at in range(tab.form.rows["pose_with"].editor._box.count())]
    assert "Faces" not in names


@pytest.mark.parametrize(
    ("flags", "details"),
    [
        (["--details", "face,0.6"], (Detail("face", 0.6),)),
        (["--details", "model=face,classes=face;hand,most=2", "--details", "hand"],
         (Detail("face", classes="face;hand", most=2), Detail("hand"))),
        (["--details", '{"model": "face", "prompt": "a face, smiling"}'], (Detail("face", prompt="a face, smiling"),)),
    ],
)  # fmt: skip
def test_details_on_the_command_line(flags: list[str], details: tuple[Detail, ...]) -> None:
    options: argparse.Namespace = cli.parser().parse_args(["image", "an apple", *flags, "--details-only"])
    recipe = check("image", cli._given(options)).recipe
    assert isinstance(recipe, ImageRecipe)
    assert recipe.details == details
    assert recipe.details_only
