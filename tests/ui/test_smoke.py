from typing import Any


def test_each_tab_makes_a_work_that_is_shown(rig: Any) -> None:
    picture = rig.made("image", "a red square", count=2)
    assert picture.kind == "image"
    reading = rig.made("speech", "One. Two.")
    assert reading.meta["seconds"] == 1.0
    text = rig.made("text", "Once upon a time")
    assert rig.window.tabs["text"].page.turns[0].answers[0].text.toPlainText().startswith("answer0.0 word0.1")
    assert text.recipe.prompt == "Once upon a time"
    assert rig.problems == []
