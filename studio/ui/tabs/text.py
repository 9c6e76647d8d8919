"""The Text tab: a text continued, or a conversation, as it is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from PySide6.QtCore import QMimeData, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QButtonGroup, QFrame, QMenu, QStackedLayout, QStackedWidget, QVBoxLayout, QWidget

from studio.core.conversations import Conversation
from studio.core.conversations import Turn as KeptTurn
from studio.core.events import Again, Cancelled, EndEvent, Event, Failed, Loading, Progress, Token
from studio.core.jobs import Job
from studio.core.problems import Problem
from studio.core.recipes import PROMPT_LIMIT, Message, Recipe, TextRecipe
from studio.core.text import shown
from studio.core.works import Work
from studio.ui.answers import Answer, Page, Turn
from studio.ui.conversations import ConversationsPanel
from studio.ui.desk import Desk
from studio.ui.fields import PlainEdit
from studio.ui.prompts import filled, templates
from studio.ui.strings import as_tip, tr
from studio.ui.tabs.base import EmptyState, MakeTab
from studio.ui.widgets import Button, Notice, ToolButton, one_stop, row, tab_first, then

CHAT_ONLY = ("system", "template")
MODE = "text.mode"  # in the remembered drafts
DRAFT = "text.chat"


class Composer(PlainEdit):
    """Where a message is written: Enter sends, Shift+Enter begins a new line.

    Signals:
        send: the message is ready.
    """

    send = Signal()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        enter = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if enter and not event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self.send.emit()
        else:
            super().keyPressEvent(event)


@dataclass
class Exchange:
    """One turn of the open conversation: what is kept of it, and where it is shown."""

    view: Turn
    jobs: list[str] = field(default_factory=list)
    chosen: str = ""

    def chosen_answer(self) -> Answer | None:
        """The answer the conversation goes on with: the chosen one, else the first of the newest job."""
        answers = [a for a in self.view.answers if a.text.toPlainText().strip()]
        named = next((a for a in answers if a.work is not None and a.work.id == self.chosen), None)
        if named is not None or not answers:
            return named
        newest = self.jobs[-1] if self.jobs else ""
        return next((a for a in answers if a.work is not None and a.work.job == newest), answers[-1])


class TextTab(MakeTab):
    kind = "text"
    verb = "Write"
    leave_out = ("mode", "messages")

    def __init__(self, desk: Desk) -> None:
        self._views: dict[str, tuple[Turn, int]] = {}  # job -> where its texts go, and from which answer on
        self._exchanges: list[Exchange] = []
        self._conversation: Conversation | None = None
        self._opening = ""  # id of the conversation that is being read
        self._chat = desk.state.drafts.get(MODE) == "chat"
        super().__init__(desk)
        self._build_modes()
        # made last, but they stand first
        if desk.session is None:
            desk.opened.connect(self._order_tabs)  # after the first paint: walking through all widgets takes a while
        else:
            self._order_tabs()
        self._set_mode(self._chat, remember=False)
        desk.opened.connect(self._reopen)
        if desk.session is not None:
            self._reopen()

    def _order_tabs(self) -> None:
        tab_first(self, self.complete_button, self.chat_button, self.templates_button)

    # -- what it is made of -------------------------------------------------------------------------------------------

    def _build_modes(self) -> None:
        self.complete_button = ToolButton(tr("Continue a text"), text=tr("Complete"), role="segment", checkable=True)
        self.chat_button = ToolButton(tr("Talk with the model"), text=tr("Chat"), role="segment", checkable=True)
        self.complete_button.setObjectName("mode_complete")
        self.chat_button.setObjectName("mode_chat")
        group = QButtonGroup(self)
        group.setExclusive(True)
        for button, chat in ((self.complete_button, False), (self.chat_button, True)):
            group.addButton(button)
            button.clicked.connect(lambda _=False, c=chat: self._set_mode(c))
        one_stop(group)
        self.templates_button = ToolButton(
            tr("Layouts that base models understand"), "layout-template", text=tr("Templates"), role=""
        )
        self.templates_button.setObjectName("templates")
        menu = QMenu(self.templates_button)
        for title, template in templates():
            menu.addAction(title).triggered.connect(lambda _=False, t=template: self._take_template(t))
        self.templates_button.setMenu(menu)
        self.templates_button.setPopupMode(ToolButton.ToolButtonPopupMode.InstantPopup)
        self._before_form.addLayout(row(self.complete_button, self.chat_button, None, self.templates_button, spacing=4))
        self._before_form.addSpacing(6)
        self.conversations = ConversationsPanel(self.desk)
        self.conversations.opened.connect(self.open_conversation)
        self.conversations.fresh.connect(self.new_conversation)
        self.conversations.remove.connect(self._remove_conversation)
        self._right_stack = QStackedWidget()
        self._right_box.removeWidget(self.right_split)
        self._right_stack.addWidget(self.right_split)
        self._right_stack.addWidget(self.conversations)
        self._right_box.addWidget(self._right_stack)

    def build_centre(self) -> QWidget:
        self.page = Page(tr("The text"))
        self.empty = EmptyState(
            tr("What should be written?"),
            tr("Write how it begins on the left and press Write. These are good to begin with:"),
            (
                tr("Once upon a time, in a house by the sea, "),
                tr("The three most important things about bread are"),
                tr("NEWS\n\nHeadline: Robot wins baking contest\n\nToday, ").replace("\n\n", " "),
            ),
        )
        self.empty.chosen.connect(self.take_text)
        complete = QWidget()
        self._complete_stack = QStackedLayout(complete)
        self._complete_stack.addWidget(self.empty)
        self._complete_stack.addWidget(self.page)

        self.chat_page = Page(tr("The conversation"))
        self.chat_page.setObjectName("chat_page")
        self.chat_empty = EmptyState(
            tr("Talk with the model"),
            tr("Write a message below; Enter sends it. A base model answers like its examples; others more freely."),
            (tr("What is the capital of France?"), tr("Tell me a story about a fox."), tr("Why is the sky blue?")),
        )
        self.chat_empty.chosen.connect(self._take_message)
        self.composer = Composer(tr("Your message"), limit=PROMPT_LIMIT)
        self.composer.setObjectName("composer")
        self.composer.set_lines(1, 8)
        self.composer.setPlaceholderText(tr("Your message; Enter sends it"))
        self.composer.setToolTip(as_tip(tr("Enter sends the message, Shift+Enter begins a new line")))
        self.composer.setPlainText(self.desk.state.drafts.get(DRAFT, ""))
        self.composer.textChanged.connect(self._drafted)
        self.composer.send.connect(self.make)
        self.chat_notice = Notice()
        self.chat_notice.setObjectName("chat_notice")
        self.composer.too_long.connect(
            lambda n: self.chat_notice.tell(
                tr(
                    "{n} characters were not pasted: a message takes at most {most}.",
                    n=f"{n:,}",
                    most=f"{PROMPT_LIMIT:,}",
                ),
                bad=True,
            )
        )
        self.send_button = Button(tr("Send"), role="primary", clicked=self._press)
        self.send_button.setObjectName("send")
        box = QFrame()
        box.setObjectName("composer_box")
        inside = row(self.composer, spacing=8)
        inside.addWidget(self.send_button, 0, Qt.AlignmentFlag.AlignBottom)
        inside.setContentsMargins(24, 4, 24, 16)
        box.setLayout(inside)
        talk = QWidget()
        self._chat_stack_holder = QWidget()
        self._chat_stack = QStackedLayout(self._chat_stack_holder)
        self._chat_stack.addWidget(self.chat_empty)
        self._chat_stack.addWidget(self.chat_page)
        around = QVBoxLayout(talk)
        around.setContentsMargins(0, 0, 0, 0)
        around.setSpacing(0)
        around.addWidget(self._chat_stack_holder, 1)
        around.addWidget(self.chat_notice)
        around.addWidget(box)
        centre = QWidget()
        self._modes = QStackedLayout(centre)
        self._modes.addWidget(complete)
        self._modes.addWidget(talk)
        return centre

    def _set_mode(self, chat: bool, *, remember: bool = True) -> None:
        self._chat = chat
        self.chat_button.setChecked(chat)
        self.complete_button.setChecked(not chat)
        self.templates_button.setVisible(not chat)
        self.form.words.setVisible(not chat)
        for name in CHAT_ONLY:
            self.form.rows[name].setVisible(chat)
        self.go.setVisible(not chat)
        self.more.setVisible(not chat)
        self._modes.setCurrentIndex(1 if chat else 0)
        self._right_stack.setCurrentIndex(1 if chat else 0)
        if not chat:  # actions and details mean what this page shows
            shown_works = [a.work for turn in self.page.turns for a in turn.answers if a.work is not None]
            if shown_works and (self.work is None or self.work.id not in {w.id for w in shown_works}):
                self.show_details(shown_works[0])
        if remember:
            self.desk.state.drafts[MODE] = "chat" if chat else "complete"
            self.desk.keeper.touch()
            self.focus_prompt()

    def focus_prompt(self) -> None:
        if self._chat:
            self.composer.setFocus()
        else:
            super().focus_prompt()

    def focus_search(self) -> None:
        self._set_mode(False)
        super().focus_search()

    def _drafted(self) -> None:
        self.desk.state.drafts[DRAFT] = self.composer.toPlainText()
        self.desk.keeper.touch()

    def _take_template(self, template: str) -> None:
        edit = self.form.words.editor.target()
        assert isinstance(edit, PlainEdit)
        text, at = filled(template, edit.toPlainText().strip())
        edit.selectAll()
        edit.insertPlainText(text)  # not setPlainText: undo brings the old words back
        cursor = edit.textCursor()
        cursor.setPosition(at)
        edit.setTextCursor(cursor)
        edit.setFocus()

    def _take_message(self, text: str) -> None:
        self.composer.setPlainText(text)
        self.composer.setFocus()

    def take_text(self, text: str) -> None:
        if self._chat:
            self._take_message(text)
        else:
            super().take_text(text)

    def take_recipe(self, recipe: Recipe, part: str = "all") -> None:
        """Fill the form from a recipe, in the mode it was made in."""
        if isinstance(recipe, TextRecipe) and part in ("all", "prompt"):
            self._set_mode(recipe.mode == "chat")
            if self._chat:
                self._take_message(recipe.prompt)
        super().take_recipe(recipe, part)

    def tell_problem(self, problem: Problem) -> None:
        (self.chat_notice if self._chat else self.notice).problem(problem)

    # -- making -------------------------------------------------------------------------------------------------------

    def make(self) -> None:
        if self._chat:
            self._send()
        else:
            super().make()

    def taken(self, values: dict[str, Any]) -> dict[str, Any]:
        return {**{n: v for n, v in values.items() if n not in CHAT_ONLY}, "mode": "complete"}

    def refresh_button(self) -> None:
        super().refresh_button()
        unfinished = self.desk.track.unfinished(self.kind)
        cancelling = bool(unfinished) and all(j.cancelling for j in unfinished)
        self.send_button.say((tr("Cancelling …") if cancelling else tr("Cancel")) if unfinished else tr("Send"))
        self.send_button.setEnabled(self.desk.session is not None and not cancelling)

    def begun(self, job_id: str) -> None:
        if job_id in self._views:
            return
        session = self.desk.session
        if session is not None:
            self.desk.tasks.read(self, lambda: session.job(job_id).recipe, lambda recipe: self._attach(job_id, recipe))

    def _attach(self, job_id: str, recipe: Any) -> None:
        """Give a completion its place on the page."""
        chat = not isinstance(recipe, TextRecipe) or recipe.mode == "chat"
        if chat or job_id in self._views or job_id != self.following:
            return
        turn = self._one_turn(recipe.prompt)
        for at in range(recipe.n):
            self._answer(turn, at)
        self._views[job_id] = (turn, 0)
        self._catch_up(job_id)

    def _one_turn(self, prompt: str) -> Turn:
        # a job whose texts were shown here may still be at work: it has no place any more
        self._views = {job: view for job, view in self._views.items() if view[0] not in self.page.turns}
        self.page.clear()
        turn = Turn(prompt, chat=False)
        turn.again.clicked.connect(self.regenerate)
        turn.go_on.clicked.connect(self.go_on)
        self.page.add(turn)
        self._complete_stack.setCurrentWidget(self.page)
        return turn

    def _catch_up(self, job_id: str) -> None:
        """What was written before there was a place for it."""
        job = self.desk.track.jobs.get(job_id)
        turn, first = self._views[job_id]
        if job is None:
            return
        for at, text in job.texts.items():
            self._answer(turn, first + at).put(text)
        if job.state.ended:
            turn.shrink(first + len(job.texts))
            if job.problem is not None:
                turn.say(f"{job.problem.sentence} {job.problem.hint}".strip(), bad=True)
            session = self.desk.session
            if session is not None:
                self.desk.tasks.read(
                    self, lambda: session.works_of(job_id), lambda works: self._put_works(job_id, works)
                )
        else:
            turn.say(job.status())

    def _answer(self, turn: Turn, at: int) -> Answer:
        known = len(turn.answers)
        answer = turn.answer(at)
        for made in turn.answers[known:]:
            made.save.connect(lambda work: then(lambda: self.show_details(work), self.save_as)())
            made.read.connect(lambda text: self.desk.sent.emit("speech", text))
            made.paint.connect(lambda text: self.desk.sent.emit("image", text))
            made.opened.connect(self.show_details)
            made.chosen.connect(lambda a=made: self._choose(a))
        return answer

    def progressed(self, event: Event) -> None:
        if event.job not in self._views:
            return
        turn, first = self._views[event.job]
        if isinstance(event, Token):
            answer = self._answer(turn, first + event.index)
            job = self.desk.track.jobs[event.job]
            answer.put(job.texts[event.index])
            turn.status.setText("")
        elif isinstance(event, Again):
            turn.say(tr("It begins again by itself."))
        elif isinstance(event, (Loading, Progress)):
            job = self.desk.track.jobs[event.job]
            if not job.texts:
                turn.say(job.status())

    def ended(self, event: EndEvent) -> None:
        if event.job not in self._views:
            return
        if isinstance(event, Failed):
            turn, first = self._views[event.job]
            turn.say(f"{event.problem.sentence} {event.problem.hint}".strip(), bad=True)
            turn.shrink(first + len(self.desk.track.jobs[event.job].texts))
            self._ready(turn)
            if event.works:
                self._put_works(event.job, list(event.works))
        else:
            if isinstance(event, Cancelled):
                turn, first = self._views[event.job]
                turn.shrink(first + len(self.desk.track.jobs[event.job].texts))
                turn.say(tr("cancelled") if not event.works else "")
            self._put_works(event.job, list(event.works))

    def tell_failure(self, event: Failed) -> None:
        if event.job not in self._views:
            super().tell_failure(event)
        elif event.problem.field:
            self.form.show_problem(event.problem)

    def _put_works(self, job_id: str, works: list[Work]) -> None:
        """Show what was kept of a job's texts."""
        session = self.desk.session
        if job_id not in self._views or session is None:
            return
        turn, first = self._views[job_id]

        def read() -> list[tuple[Work, str]]:
            return [(w, session.path(w).read_text(encoding="utf-8", errors="replace")) for w in works]

        def done(found: list[tuple[Work, str]]) -> None:
            if self._views.get(job_id) != (turn, first):
                return  # something else is shown by now
            for work, text in found:
                self._answer(turn, first + work.index).put(text, work)
            if works and not turn.bad:
                turn.say("")
            if works:
                self.show_details(works[0])
            self._ready(turn)

        self.desk.tasks.read(self, read, done, self.tell_problem)

    def _ready(self, turn: Turn) -> None:
        """Nothing is written here any more."""
        last = not turn.chat or (bool(self._exchanges) and self._exchanges[-1].view is turn)
        turn.again.setVisible(last)
        turn.go_on.setVisible(not turn.chat and len(turn.answers) == 1)
        self._mark_chosen()

    def regenerate(self) -> None:
        """Write it once more: another answer of a conversation, or the completion with another seed."""
        if not self._chat:
            # with the form as it is now, as a chat does; the same seed would write the same
            self.form.put_some({"seed": None})
            super().make()
        elif self._exchanges and not self.desk.track.unfinished(self.kind):
            self._ask(self._exchanges[-1], self._messages(self._exchanges[:-1]))

    def go_on(self) -> None:
        """Prompt and text become the prompt, and more is written."""
        if self.page.turns and not self._chat:
            turn = self.page.turns[0]
            self.take_text(turn.prompt.toPlainText() + (turn.answers[0].text.toPlainText() if turn.answers else ""))
            self.make()

    def clear(self) -> None:
        if not self._chat:
            self.page.clear()
            self._complete_stack.setCurrentWidget(self.empty)

    # -- showing ------------------------------------------------------------------------------------------------------

    def show_details(self, work: Work) -> None:
        """Make a work the one that actions mean, without changing the page."""
        self.work = work
        self.details.show_work(work)
        self.history.select(work.id)

    def _first_page(self) -> None:
        if not self._chat:
            super()._first_page()

    def _came(self, works: list[Work]) -> None:
        if self.work is not None:  # the page shows them already, as they were written
            self.history.select(self.work.id)

    def display(self, work: Work) -> None:
        session, recipe = self.desk.session, work.recipe
        if session is None or not isinstance(recipe, TextRecipe):
            return
        if self._chat:
            self._set_mode(False)

        def done(text: str) -> None:
            if self.work is not None and self.work.id == work.id:
                turn = self._one_turn(recipe.prompt)
                self._answer(turn, 0).put(text, work)
                self._ready(turn)
                self.page.verticalScrollBar().setValue(0)
                self.page.following = False

        self.following = ""
        path = session.path(work)
        self.desk.tasks.read(
            self, lambda: path.read_text(encoding="utf-8", errors="replace"), done, self.tell_problem
        )  # fmt: skip

    def add_content(self, data: QMimeData) -> None:
        for turn in (*self.page.turns, *(e.view for e in self._exchanges)):
            for answer in turn.answers:
                if answer.work is not None and self.work is not None and answer.work.id == self.work.id:
                    data.setText(answer.text.toPlainText())

    def _shown_text(self) -> str:
        turns = [e.view for e in self._exchanges] if self._chat else self.page.turns
        answers = [a for turn in turns for a in turn.answers]
        mine = [a for a in answers if a.work is not None and self.work is not None and a.work.id == self.work.id]
        return (mine or answers)[-1].text.toPlainText() if answers else ""

    def read_aloud(self) -> None:
        if self._shown_text().strip():
            self.desk.sent.emit("speech", self._shown_text())

    def paint_text(self) -> None:
        if self._shown_text().strip():
            self.desk.sent.emit("image", self._shown_text())

    # -- conversations ------------------------------------------------------------------------------------------------

    def _messages(self, exchanges: list[Exchange]) -> tuple[Message, ...]:
        """The turns so far, as the model is given them; a prompt that got no answer is left out."""
        made: list[Message] = []
        for exchange in exchanges:
            answer = exchange.chosen_answer()
            if answer is not None:
                made.append(Message("user", exchange.view.prompt.toPlainText()))
                made.append(Message("assistant", answer.text.toPlainText()))
        return tuple(made)

    def _send(self) -> None:
        words = self.composer.toPlainText()
        if not words.strip() or self.desk.session is None:
            return
        if self.desk.track.unfinished(self.kind):
            self.chat_notice.tell(tr("An answer is still being written; Esc cancels it."))
            return
        wrong = self.form.complaints()
        if wrong:
            self.form.go_to(wrong[0])
            return
        self.chat_notice.hide()
        before = self._messages(self._exchanges)
        for earlier in self._exchanges:
            earlier.view.again.hide()
        exchange = self._add_exchange(words)
        self.composer.clear()
        self._chat_stack.setCurrentWidget(self.chat_page)
        self.chat_page.to_end()
        self._ask(exchange, before)

    def _add_exchange(self, prompt: str) -> Exchange:
        turn = Turn(prompt, chat=True)
        turn.again.clicked.connect(self.regenerate)
        self.chat_page.add(turn)
        exchange = Exchange(turn)
        self._exchanges.append(exchange)
        return exchange

    def _ask(self, exchange: Exchange, messages: tuple[Message, ...]) -> None:
        """Ask for an answer; the conversation is on the disk before anything runs."""
        session, turn = self.desk.session, exchange.view
        if session is None:
            return
        prompt = turn.prompt.toPlainText()
        given = {**self.form.values(), "mode": "chat", "prompt": prompt}
        given["messages"] = [msgspec.to_builtins(m) for m in messages]
        if exchange.jobs:
            given["seed"] = None  # once more with the same seed would be the same
        system = given.get("system", "")
        if self._conversation is None:
            self._conversation = session.new_conversation(system)
        conversation = self._conversation
        if not conversation.title:
            conversation = msgspec.structs.replace(conversation, title=shown(prompt))
        first = len(turn.answers)
        turn.again.hide()
        turn.say(tr("waiting"))
        kept = self._kept()

        def ask() -> tuple[Job, Conversation]:
            checked = session.recipe("text", given)
            job = session.submit(checked.recipe, notes=checked.notes)
            last = msgspec.structs.replace(kept[-1], jobs=(*kept[-1].jobs, job.id))
            whole = msgspec.structs.replace(conversation, system=system, turns=(*kept[:-1], last))
            session.keep_conversation(whole)
            return job, whole

        def done(found: tuple[Job, Conversation]) -> None:
            job, whole = found
            self.desk.track.put(job)
            exchange.jobs.append(job.id)
            if exchange not in self._exchanges:
                return  # another conversation is open by now; this one is on the disk
            self._conversation = whole
            self._views[job.id] = (turn, first)
            self.desk.state.conversation = whole.id
            self.desk.keeper.touch()
            self.conversations.show_as(whole.id)
            self.follow(job.id)
            self._catch_up(job.id)

        def failed(problem: Problem) -> None:
            if exchange in self._exchanges:
                turn.say("")
                if not exchange.jobs:  # never asked: the words go back to where they were written
                    self.chat_page.remove(turn)
                    self._exchanges.remove(exchange)
                    self._take_message(f"{prompt}\n{self.composer.toPlainText()}".rstrip("\n"))
                if self._exchanges:
                    self._ready(self._exchanges[-1].view)
                else:
                    self._chat_stack.setCurrentWidget(self.chat_empty)
            row = self.form.rows.get(problem.field)
            if row is None or row.isHidden() or not self.form.show_problem(problem):
                self.chat_notice.problem(problem)

        self.desk.tasks.write(self, ask, done, failed)

    def _kept(self) -> tuple[KeptTurn, ...]:
        return tuple(
            KeptTurn(prompt=e.view.prompt.toPlainText(), jobs=tuple(e.jobs), chosen=e.chosen) for e in self._exchanges
        )

    def _choose(self, answer: Answer) -> None:
        """Go on with this answer."""
        for exchange in self._exchanges:
            if answer in exchange.view.answers and answer.work is not None:
                exchange.chosen = answer.work.id
        self._mark_chosen()
        self._keep()

    def _mark_chosen(self) -> None:
        for exchange in self._exchanges:
            chosen, several = exchange.chosen_answer(), len(exchange.view.answers) > 1
            for answer in exchange.view.answers:
                answer.mark(answer is chosen, several)

    def _keep(self) -> None:
        session = self.desk.session
        if session is not None and self._conversation is not None:
            whole = msgspec.structs.replace(self._conversation, turns=self._kept())
            self._conversation = whole
            self.desk.tasks.write(self, lambda: session.keep_conversation(whole), None, self.tell_problem)

    def new_conversation(self) -> None:
        """An empty page; the conversation is kept with its first message."""
        self._set_mode(True)
        self._clear_chat()
        self._conversation, self._opening = None, ""
        self.desk.state.conversation = ""
        self.desk.keeper.touch()
        self.conversations.show_as("")
        self.composer.setFocus()

    def _clear_chat(self) -> None:
        for exchange in self._exchanges:
            for job in exchange.jobs:
                self._views.pop(job, None)
        self._exchanges = []
        self.chat_page.clear()
        self._chat_stack.setCurrentWidget(self.chat_empty)

    def _reopen(self) -> None:
        if self.desk.state.conversation:
            self.open_conversation(self.desk.state.conversation)

    def open_conversation(self, conversation_id: str) -> None:
        """Show a kept conversation."""
        session = self.desk.session
        if session is None or conversation_id == self._opening:
            return
        if self._conversation is not None and self._conversation.id == conversation_id:
            self._opening = ""
            return
        self._opening = conversation_id

        def read() -> tuple[Conversation, list[list[tuple[str, Work, str]]]]:
            found = session.conversation(conversation_id)
            turns = []
            for turn in found.turns:
                works = [(job, w) for job in turn.jobs for w in session.works_of(job)]
                turns.append([(job, w, _text_of(session, w)) for job, w in works])
            return found, turns

        def done(found: tuple[Conversation, list[list[tuple[str, Work, str]]]]) -> None:
            conversation, turns = found
            if self._opening != conversation.id:
                return  # another one was asked for meanwhile
            self._opening = ""
            self._clear_chat()
            self._conversation = conversation
            self.desk.state.conversation = conversation.id
            self.desk.keeper.touch()
            for kept, answers in zip(conversation.turns, turns, strict=True):
                exchange = self._add_exchange(kept.prompt)
                exchange.jobs, exchange.chosen = list(kept.jobs), kept.chosen
                for at, (_, work, text) in enumerate(answers):
                    self._answer(exchange.view, at).put(text, work)
                if not answers:
                    exchange.view.say(tr("There is no answer."))
                read_already = {job_id for job_id, _, _ in answers}
                for job_id in kept.jobs:  # still waiting or at work, or ended since this was read
                    job = self.desk.track.jobs.get(job_id)
                    if job is not None and (not job.state.ended or (job.texts and job_id not in read_already)):
                        self._views[job_id] = (exchange.view, len(exchange.view.answers))
                        self._catch_up(job_id)
            if self._exchanges:
                self._chat_stack.setCurrentWidget(self.chat_page)
                self._ready(self._exchanges[-1].view)
            self._mark_chosen()
            self.form.put_some({"system": conversation.system})
            self.conversations.show_as(conversation.id)
            self.chat_page.to_end()

        def failed(_: Problem) -> None:
            self._opening = ""
            self.desk.state.conversation = ""

        self.desk.tasks.read(self, read, done, failed)

    def _remove_conversation(self, conversation_id: str) -> None:
        """Remove a conversation, with a way back; its texts stay in the history."""
        session = self.desk.session
        if session is None:
            return

        def remove() -> Conversation:
            found = session.conversation(conversation_id)
            session.remove_conversation(conversation_id)
            return found

        def done(gone: Conversation) -> None:
            def back() -> None:
                session.keep_conversation(gone)

            if self._conversation is not None and self._conversation.id == gone.id:
                self.new_conversation()
            undo = (tr("Undo"), lambda: self.desk.tasks.write(self, back, lambda _: self.open_conversation(gone.id)))
            self.desk.told.emit(tr("The conversation “{title}” was removed.", title=shown(gone.title)), "", undo)

        self.desk.tasks.write(self, remove, done, self.tell_problem)

    def fill_more(self, menu: QMenu) -> None:
        for count in (2, 3, 4):
            menu.addAction(tr("{n} answers side by side", n=count)).triggered.connect(
                lambda _=False, n=count: then(lambda: self.form.put_some({"n": n}), self.make)()
            )


def _text_of(session: Any, work: Work) -> str:
    try:
        return str(session.path(work).read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return tr("(The file of this text is gone.)")
