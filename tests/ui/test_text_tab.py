"""The Text tab: texts as they are written, and conversations that keep what was said."""

from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from studio.core.recipes import TextRecipe
from studio.ui.state import WindowState

TWELVE = 12  # words of a whole answer of the fake


def press(button: Any) -> None:
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def say(rig: Any, tab: Any, words: str) -> None:
    """Send a message with the keys."""
    before = len(rig.desk.track.jobs)
    tab.composer.setFocus()
    QTest.keyClicks(tab.composer, words)
    QTest.keyClick(tab.composer, Qt.Key.Key_Return)
    rig.until(lambda: len(rig.desk.track.jobs) > before)


def answered(rig: Any, tab: Any) -> None:
    rig.until(lambda: rig.idle() and all(a.work for e in tab._exchanges for a in e.view.answers) and tab._exchanges)
    rig.until(lambda: tab._exchanges[-1].view.again.isVisible())


def talk(rig: Any, tab: Any, words: str) -> None:
    say(rig, tab, words)
    answered(rig, tab)


def chat_tab(rig: Any) -> Any:
    tab = rig.tab("text")
    press(tab.chat_button)
    assert tab.composer.isVisible() and not tab.go.isVisible()
    return tab


def newest_recipe(rig: Any) -> TextRecipe:
    recipe = rig.session.jobs(limit=1)[0].recipe
    assert isinstance(recipe, TextRecipe)
    return recipe


def texts(tab: Any, turn: int = 0) -> list[str]:
    turns = [e.view for e in tab._exchanges] if tab._chat else tab.page.turns
    return [a.text.toPlainText() for a in turns[turn].answers]


# -- completion -----------------------------------------------------------------------------------------------------


def test_a_completion_streams_into_the_answer_while_it_runs(rig: Any) -> None:
    tab = rig.tab("text")
    rig.make("text", "slow story")
    rig.until(lambda: tab.page.turns and tab.page.turns[0].answers and texts(tab)[0].count(" ") > 2)
    assert rig.running("text") and texts(tab)[0].count(" ") < TWELVE
    assert tab.page.turns[0].prompt.toPlainText() == "slow story"
    assert "Cancel" in tab.go.text()
    rig.until(lambda: rig.idle() and tab.page.turns[0].again.isVisible())
    assert texts(tab)[0].split()[-1] == "word0.11"
    answer = tab.page.turns[0].answers[0]
    assert answer.work is not None and "12 tokens" in answer.state.text()
    # copying
    press(answer.copy)
    data = QApplication.clipboard().mimeData()
    assert data.text() == texts(tab)[0] and not data.hasHtml()
    # once more: a new seed
    first = answer.work
    press(tab.page.turns[0].again)
    rig.until(lambda: rig.idle() and tab.work is not None and tab.work.id != first.id)
    assert tab.work.recipe.prompt == "slow story" and tab.work.recipe.seed != first.recipe.seed
    rig.until(lambda: tab.page.turns[0].go_on.isVisible())
    # continue: prompt and text are the new prompt
    whole = "slow story" + texts(tab)[0]
    press(tab.page.turns[0].go_on)
    rig.until(lambda: rig.idle() and tab.work is not None and tab.work.recipe.prompt != "slow story")
    assert tab.work.recipe.prompt == whole
    assert tab.form.words.value() == whole


def test_several_answers_stand_side_by_side_or_one_below_the_other(rig: Any) -> None:
    tab = rig.tab("text")
    rig.window.resize(1600, 900)
    rig.made("text", "hello", n=3)
    rig.until(lambda: tab.page.turns[0].again.isVisible())
    answers = tab.page.turns[0].answers
    assert [t.split()[0] for t in texts(tab)] == ["answer0.0", "answer1.0", "answer2.0"]
    assert len({a.y() for a in answers}) == 1 and answers[0].x() < answers[1].x() < answers[2].x()
    assert not tab.page.turns[0].go_on.isVisible()
    rig.window.resize(1024, 640)
    rig.until(lambda: len({a.y() for a in answers}) > 1)
    for answer in answers:
        assert answer.geometry().right() <= tab.page.turns[0].width()
    # each has a work of its own, and the buttons mean that one
    press(answers[1].save_button)
    dialog = QApplication.activeModalWidget() or rig.window.findChild(object, "export_dialog")
    assert tab.work.id == answers[1].work.id
    dialog.close()


def test_a_cancelled_text_keeps_its_part_and_says_so(rig: Any) -> None:
    tab = rig.tab("text")
    rig.make("text", "slow half", n=3)
    rig.until(lambda: tab.page.turns and len(tab.page.turns[0].answers) == 3 and texts(tab)[0].count(" ") > 2)
    QTest.keyClick(tab.form.words.editor.target(), Qt.Key.Key_Escape)
    rig.until(lambda: rig.idle() and tab.page.turns[0].again.isVisible())
    kept = tab.page.turns[0].answers
    assert len(kept) == 1, "answers that were never begun are gone"
    assert 0 < len(kept[0].text.toPlainText().split()) < TWELVE
    assert kept[0].work is not None and not kept[0].work.complete
    assert "cancelled" in kept[0].state.text()
    rig.until(lambda: tab.history.model.works)
    assert not tab.history.model.works[0].complete


def test_a_failure_is_told_and_once_more_means_what_failed(rig: Any) -> None:
    tab = rig.tab("text")
    old = rig.made("text", "an older one")
    rig.until(lambda: tab.page.turns[0].again.isVisible())
    rig.make("text", "fail")
    rig.until(lambda: rig.idle() and tab.page.turns[0].status.text())
    turn = tab.page.turns[0]
    assert turn.prompt.toPlainText() == "fail"
    assert turn.status.text() == "It needs 9 GB. Try less." and turn.status.property("role") == "problem"
    assert turn.answers == []
    press(turn.again)
    rig.until(lambda: len(rig.desk.track.jobs) == 3)
    rig.until(rig.idle)
    assert newest_recipe(rig).prompt == "fail" != old.recipe.prompt


def test_scrolling_up_stops_following_and_a_button_goes_back(rig: Any) -> None:
    tab = rig.tab("text")
    rig.window.resize(1024, 640)
    rig.make("text", "slow " + "line \n" * 60)
    page, bar = tab.page, tab.page.verticalScrollBar()
    rig.until(lambda: page.turns and page.turns[0].answers and texts(tab)[0] and bar.maximum() > 200)
    rig.until(lambda: bar.value() >= bar.maximum() - 2)
    assert not page.down.isVisible()
    # up
    bar.triggerAction(bar.SliderAction.SliderPageStepSub)
    rig.until(lambda: page.down.isVisible())
    stays, written = bar.value(), len(texts(tab)[0])
    assert not page.following and stays < bar.maximum() - 24
    rig.until(lambda: len(texts(tab)[0]) > written + 20)
    assert bar.value() == stays
    # and back
    press(page.down)
    assert page.following
    rig.until(lambda: bar.value() == bar.maximum() and not page.down.isVisible())
    rig.until(rig.idle)


def test_what_looks_like_markup_is_shown_as_it_is(rig: Any) -> None:
    tab = rig.tab("text")
    words = "<b>bold</b> <img src=x> &amp; {n}"
    work = rig.made("text", words)
    rig.until(lambda: tab.page.turns[0].again.isVisible())
    assert tab.page.turns[0].prompt.toPlainText() == words
    assert tab.form.words.value() == words
    tab.page.turns[0].answers[0].put("<i>x</i>")
    assert texts(tab) == ["<i>x</i>"]
    index = tab.history.model.index(0)
    assert "&lt;b&gt;" in index.data(Qt.ItemDataRole.ToolTipRole) and work.title in index.data()


def test_looking_at_another_work_while_one_is_written_mixes_nothing_up(rig: Any) -> None:
    tab = rig.tab("text")
    old = rig.made("text", "the old one")
    rig.until(lambda: tab.page.turns[0].again.isVisible())
    rig.make("text", "slow new one")
    rig.until(lambda: tab.page.turns[0].prompt.toPlainText() == "slow new one" and texts(tab)[0])
    tab.show_work(old)
    rig.until(lambda: tab.page.turns[0].prompt.toPlainText() == "the old one" and texts(tab))
    shown = texts(tab)
    rig.until(lambda: rig.idle() and len(tab.history.model.works) == 2)
    rig.session.wait(rig.session.jobs(limit=1)[0].id)
    assert tab.page.turns[0].prompt.toPlainText() == "the old one" and texts(tab) == shown
    tab.show_work(tab.history.model.works[0])
    rig.until(lambda: tab.page.turns[0].prompt.toPlainText() == "slow new one" and texts(tab))
    assert texts(tab)[0].split()[-1] == "word0.11"


def test_a_template_is_put_around_the_words_and_undo_takes_it_away(rig: Any) -> None:
    tab = rig.tab("text")
    edit = tab.form.words.editor.target()
    edit.setFocus()
    QTest.keyClicks(edit, "bread")
    menu = tab.templates_button.menu()
    next(a for a in menu.actions() if a.text() == "Question and answer").trigger()
    assert edit.toPlainText().endswith("Q: bread\nA:") and tab.form.words.value() == edit.toPlainText()
    QTest.keyClicks(edit, "?")
    assert edit.toPlainText().endswith("Q: bread?\nA:")
    for _ in range(6):
        if edit.toPlainText() == "bread":
            break
        QTest.keyClick(edit, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert edit.toPlainText() == "bread"


def test_a_text_can_be_read_aloud_and_painted(rig: Any) -> None:
    tab = rig.tab("text")
    rig.made("text", "hello")
    rig.until(lambda: tab.page.turns[0].again.isVisible())
    text = texts(tab)[0].strip()
    press(tab.page.turns[0].answers[0].read_button)
    assert rig.window.tab.kind == "speech" and rig.window.tab.form.words.value() == text
    rig.window.go("text")
    press(tab.page.turns[0].answers[0].paint_button)
    assert rig.window.tab.kind == "image" and rig.window.tab.form.words.value() == text
    rig.window.go("text")
    rig.window.do("read_aloud")
    assert rig.window.tab.kind == "speech"


# -- conversations --------------------------------------------------------------------------------------------------


def test_enter_sends_and_shift_enter_begins_a_line(rig: Any) -> None:
    tab = chat_tab(rig)
    QTest.keyClick(tab.composer, Qt.Key.Key_Return)
    assert not rig.desk.track.jobs and not tab._exchanges, "nothing is not sent"
    QTest.keyClicks(tab.composer, "one")
    QTest.keyClick(tab.composer, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    QTest.keyClicks(tab.composer, "two")
    assert tab.composer.toPlainText() == "one\ntwo"
    QTest.keyClick(tab.composer, Qt.Key.Key_Return)
    assert tab.composer.toPlainText() == ""
    answered(rig, tab)
    recipe = newest_recipe(rig)
    assert (recipe.mode, recipe.prompt, recipe.messages) == ("chat", "one\ntwo", ())
    assert rig.desk.state.drafts["text.chat"] == ""


def test_earlier_turns_are_given_to_the_model_with_the_chosen_answer(rig: Any) -> None:
    tab = chat_tab(rig)
    tab.form.put_some({"n": 2, "system": "Be short."})
    talk(rig, tab, "first")
    first, second = tab._exchanges[0].view.answers
    assert not first.use.isVisible() and second.use.isVisible()
    talk(rig, tab, "second")
    told = newest_recipe(rig)
    assert [(m.role, m.content) for m in told.messages] == [("user", "first"), ("assistant", first.text.toPlainText())]
    assert told.system == "Be short." and told.prompt == "second"
    # another answer is chosen: the next turn goes on from it
    press(second.use)
    assert first.use.isVisible() and not second.use.isVisible()
    assert second.property("role") == "answer_chosen"
    talk(rig, tab, "third")
    told = newest_recipe(rig)
    assert told.messages[1].content == second.text.toPlainText()
    assert [m.role for m in told.messages] == ["user", "assistant"] * 2


def test_a_conversation_survives_the_window(open_window: Any) -> None:
    rig = open_window()
    tab = chat_tab(rig)
    tab.form.put_some({"n": 2})
    talk(rig, tab, "remember me")
    press(tab._exchanges[0].view.answers[1].use)
    talk(rig, tab, "and me")
    rig.until(lambda: tab.conversations.list.count() == 1)
    assert tab.conversations.list.item(0).text() == "remember me"
    shown = [texts(tab, 0), texts(tab, 1)]
    QTest.keyClicks(tab.composer, "unsent")
    state = rig.desk.state
    rig.window.end("cancel")
    again = open_window(state)
    tab = again.tab("text")
    again.until(lambda: len(tab._exchanges) == 2 and tab._exchanges[1].view.answers)
    assert tab._chat and tab.composer.toPlainText() == "unsent"
    assert [texts(tab, 0), texts(tab, 1)] == shown
    assert tab._exchanges[0].view.answers[1].property("role") == "answer_chosen"
    assert tab.conversations.list.currentItem().text() == "remember me"
    tab.composer.clear()
    talk(again, tab, "go on")
    assert [m.content for m in newest_recipe(again).messages][:2] == ["remember me", shown[0][1]]


def test_answer_once_more_adds_an_answer_with_another_seed(rig: Any) -> None:
    tab = chat_tab(rig)
    tab.form.put_some({"seed": 5})
    talk(rig, tab, "hello")
    press(tab._exchanges[0].view.again)
    rig.until(lambda: len(tab._exchanges[0].view.answers) == 2)
    answered(rig, tab)
    works = [a.work for a in tab._exchanges[0].view.answers]
    assert works[0].recipe.seed == 5 != works[1].recipe.seed
    assert works[1].recipe.messages == ()
    assert tab._exchanges[0].view.answers[1].property("role") == "answer_chosen", "the newest one goes on"


def test_a_message_that_cannot_be_sent_comes_back(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tab = chat_tab(rig)
    talk(rig, tab, "fine")
    from studio.core.problems import NotSaved

    def refuse(*_: Any, **__: Any) -> Any:
        raise NotSaved("The disk is full.", "Make room.")

    with monkeypatch.context() as patch:
        patch.setattr(rig.session, "submit", refuse)
        tab.composer.setFocus()
        QTest.keyClicks(tab.composer, "precious words")
        QTest.keyClick(tab.composer, Qt.Key.Key_Return)
        rig.until(lambda: tab.chat_notice.isVisible())
    assert "The disk is full." in tab.chat_notice.sentence.text()
    assert tab.composer.toPlainText() == "precious words" and len(tab._exchanges) == 1
    assert tab._exchanges[0].view.again.isVisible(), "the turn before can be answered once more again"
    # too long to be taken at all: told where the user looks
    tab.composer.setPlainText("x" * 300_000)
    QTest.keyClick(tab.composer, Qt.Key.Key_Return)
    rig.until(lambda: "262,144" in tab.chat_notice.sentence.text() and tab.chat_notice.isVisible())
    assert len(tab.composer.toPlainText()) == 300_000


def test_a_second_message_waits_for_the_answer(rig: Any) -> None:
    tab = chat_tab(rig)
    say(rig, tab, "hold")
    rig.until(lambda: rig.running("text"))
    QTest.keyClicks(tab.composer, "too early")
    QTest.keyClick(tab.composer, Qt.Key.Key_Return)
    assert tab.chat_notice.isVisible() and "still being written" in tab.chat_notice.sentence.text()
    assert tab.composer.toPlainText() == "too early" and len(tab._exchanges) == 1
    assert tab.send_button.text() == "Cancel"
    QTest.keyClick(tab.composer, Qt.Key.Key_Escape)
    rig.until(rig.idle)
    rig.until(lambda: tab._exchanges[0].view.again.isVisible())
    assert "cancelled" in tab._exchanges[0].view.status.text()
    QTest.keyClick(tab.composer, Qt.Key.Key_Return)
    rig.until(lambda: len(tab._exchanges) == 2)
    answered_all = [e for e in tab._exchanges if e.jobs]
    rig.until(lambda: rig.idle() and answered_all)


def test_switching_conversations_while_an_answer_is_written(rig: Any) -> None:
    tab = chat_tab(rig)
    talk(rig, tab, "calm one")
    rig.until(lambda: tab.conversations.list.count() == 1)
    press(tab.conversations.new)
    assert not tab._exchanges
    say(rig, tab, "slow one")
    rig.until(lambda: tab._exchanges[0].view.answers and texts(tab)[0].count(" ") > 1)
    rig.until(lambda: tab.conversations.list.count() == 2)
    items = {tab.conversations.list.item(i).text(): i for i in range(2)}

    def go(title: str) -> None:
        item = next(
            tab.conversations.list.item(i) for i in range(tab.conversations.list.count())
            if tab.conversations.list.item(i).text() == title
        )  # fmt: skip
        place = tab.conversations.list.visualItemRect(item).center()
        QTest.mouseClick(tab.conversations.list.viewport(), Qt.MouseButton.LeftButton, pos=place)
        rig.until(lambda: tab._exchanges and tab._exchanges[0].view.prompt.toPlainText() == title)

    assert set(items) == {"calm one", "slow one"}
    go("calm one")
    assert rig.running("text")
    calm = texts(tab)
    go("slow one")  # still at work: its words go on
    rig.until(lambda: tab._exchanges[0].view.answers and texts(tab)[0].count(" ") > 3)
    go("calm one")
    rig.until(rig.idle)
    rig.session.wait(rig.session.jobs(limit=1)[0].id)
    assert texts(tab) == calm
    go("slow one")
    rig.until(lambda: tab._exchanges[0].view.answers and tab._exchanges[0].view.answers[0].work)
    assert len(tab._exchanges[0].view.answers) == 1 and texts(tab)[0].split()[-1] == "word0.11"
    assert not rig.problems


def test_leaving_a_conversation_before_its_job_is_queued(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of the disk comes when another conversation is open already."""
    tab = chat_tab(rig)
    talk(rig, tab, "calm one")
    calm = tab._conversation.id
    press(tab.conversations.new)
    tab.composer.setFocus()
    QTest.keyClicks(tab.composer, "slow hurry")
    QTest.keyClick(tab.composer, Qt.Key.Key_Return)
    tab.open_conversation(calm)  # before the loop has run once
    rig.until(lambda: rig.idle() and len(rig.desk.track.jobs) == 2)
    rig.until(lambda: tab._exchanges and tab._exchanges[0].view.prompt.toPlainText() == "calm one")
    assert len(tab._exchanges) == 1 and tab._conversation.id == calm
    rig.until(lambda: rig.desk.state.conversation == calm)
    other = next(c for c in rig.session.conversations() if c.id != calm)
    tab.open_conversation(other.id)
    rig.until(lambda: tab._exchanges[0].view.prompt.toPlainText() == "slow hurry" and texts(tab))
    rig.until(lambda: texts(tab)[0].split()[-1] == "word0.11")


def test_the_last_conversation_that_was_asked_for_is_shown(rig: Any) -> None:
    tab = chat_tab(rig)
    talk(rig, tab, "first one")
    first = tab._conversation.id
    press(tab.conversations.new)
    talk(rig, tab, "second one")
    second = tab._conversation.id
    tab.open_conversation(first)
    tab.open_conversation(second)  # changed their mind before the first was read
    tab.desk.tasks.write(tab, lambda: None, lambda _: None)
    for _ in range(3):
        tab.open_conversation(first)
        tab.open_conversation(second)
        tab.open_conversation(first)
        rig.until(lambda: tab._conversation.id == first)
        assert tab._exchanges[0].view.prompt.toPlainText() == "first one" and len(tab._exchanges) == 1
        tab.open_conversation(second)
        rig.until(lambda: tab._conversation.id == second)
    tab.open_conversation(first)
    press(tab.conversations.new)
    rig.until(lambda: not rig.desk.tasks._reads._work_queue.qsize())
    done: list[int] = []
    rig.desk.tasks.read(tab, lambda: 1, done.append)
    rig.until(lambda: done)
    assert tab._conversation is None and not tab._exchanges


def test_a_conversation_is_removed_and_brought_back(rig: Any) -> None:
    tab = chat_tab(rig)
    talk(rig, tab, "throw me away")
    rig.until(lambda: tab.conversations.list.count() == 1)
    tab.conversations.list.setFocus()
    QTest.keyClick(tab.conversations.list, Qt.Key.Key_Delete)
    rig.until(lambda: tab.conversations.list.count() == 0)
    assert not tab._exchanges and tab._conversation is None
    assert "throw me away" in rig.window.notice.sentence.text()
    assert rig.session.count_works("text") == 1, "its texts stay"
    press(rig.window.notice.act)
    rig.until(lambda: tab.conversations.list.count() == 1)
    assert tab.conversations.list.item(0).text() == "throw me away"


def test_instructions_belong_to_their_conversation(rig: Any) -> None:
    tab = chat_tab(rig)
    tab.form.put_some({"system": "Talk like a pirate."})
    talk(rig, tab, "ahoy")
    pirate = tab._conversation.id
    press(tab.conversations.new)
    tab.form.put_some({"system": ""})
    talk(rig, tab, "plain")
    plain = tab._conversation.id
    tab.open_conversation(pirate)
    rig.until(lambda: tab.form.rows["system"].value() == "Talk like a pirate.")
    tab.open_conversation(plain)
    rig.until(lambda: tab._conversation.id == plain)
    assert tab.form.rows["system"].value() == ""


def test_a_completions_recipe_taken_over_in_a_chat_is_shown_where_it_can_be_used(rig: Any) -> None:
    tab = chat_tab(rig)
    rig.desk.reuse.emit(TextRecipe(prompt="an old prompt", model="writer", temperature=0.1), "all")
    assert tab.form.words.isVisible() and tab.form.words.value() == "an old prompt"
    press(tab.chat_button)
    rig.desk.reuse.emit(TextRecipe(prompt="a question", mode="chat", model="writer"), "all")
    assert tab.composer.isVisible() and tab.composer.toPlainText() == "a question"
    assert WindowState().tab == "text"
