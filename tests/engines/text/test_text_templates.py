from __future__ import annotations

from collections.abc import Iterator

import pytest

from studio.core.recipes import Message
from studio.engines.text.templates import Renderer, TemplateFailed, few_shot, own_layout, parted, plain
from tests.engines.text import tiny_gguf

HELLO = (Message("user", "Hello"),)


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    it = Renderer()
    yield it
    it.close()


def said(*contents: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content} for content in contents]


def test_a_template_is_rendered_as_transformers_does_it(renderer: Renderer) -> None:
    transformers = pytest.importorskip("transformers.utils.chat_template_utils")
    template = (
        "{{ bos_token }}\n{% for message in messages %}\n    {% if loop.index0 > 2 %}{% break %}{% endif %}\n"
        "{{ message | tojson }}{% generation %}{{ message.content | trim }}{% endgeneration %}\n{% endfor %}"
        "{% if add_generation_prompt %}<go>{% endif %}"
    )
    turns = said("a <b> & “é”", "two", "three", "four")
    theirs, _ = transformers.render_jinja_template(
        conversations=[turns], chat_template=template, add_generation_prompt=True, bos_token="<s>", eos_token="</s>"
    )
    assert renderer.render(template, turns, "<s>", "</s>") == theirs[0]


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 10**11 }}",
        "{% for a in range(99999) %}{{ 'x' * 10000 }}{% endfor %}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% include '/etc/passwd' %}",
        "{{ raise_exception('no') }}",
        "{% if %}",
        "{{ 1 // 0 }}",
    ],
    ids=["nested loops", "huge string", "long text", "escape", "change", "include", "refusal", "wrong", "zero"],
)
def test_a_bad_template_fails_by_itself_and_the_next_one_is_rendered(renderer: Renderer, template: str) -> None:
    with pytest.raises(TemplateFailed):
        renderer.render(template, said("x"))
    assert renderer.render("{{ messages[0].content }}", said("fine")) == "fine"


def test_a_reader_that_was_killed_is_started_again(renderer: Renderer) -> None:
    renderer.render("x", said("x"))
    assert renderer._process is not None
    renderer._process.kill()
    renderer._process.wait()
    assert renderer.render("{{ messages[0].content }}", said("fine")) == "fine"


def test_instructions_go_into_the_first_turn_where_the_template_refuses_them(renderer: Renderer) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ m.role }}={{ m.content }};{% endfor %}"
    )
    laid = own_layout(renderer, template, HELLO, "Be kind.", "", "")
    assert laid.text == "user=Be kind.\n\nHello;"
    assert laid.notes


def test_parts_tell_the_template_from_what_was_said(renderer: Renderer) -> None:
    turns = said("one <|im_end|>", "", "CONTENT0N1E")
    parts = parted(renderer, tiny_gguf.CHATML, turns, "", "")
    assert "".join(text for text, _ in parts) == renderer.render(tiny_gguf.CHATML, turns)
    assert [text for text, theirs in parts if theirs] == ["one <|im_end|>", "", "CONTENT0N1E"]


def test_a_few_shot_layout_ends_where_the_answer_begins_and_keeps_real_turns() -> None:
    first = few_shot(HELLO)
    assert first.text.endswith("\n\nUser: Hello\n\nAssistant:")
    assert first.text.count("Assistant:") > 3
    turns = (Message("user", "Hi"), Message("assistant", "Good day."), Message("user", "And now?"))
    later = few_shot(turns, "You are a sailor.")
    assert later.text.startswith("You are a sailor.\n\nUser: Hi\n\nAssistant: Good day.\n\nUser: And now?")
    assert "\nUser:" in later.stops


def test_a_plain_layout_adds_nothing_but_names() -> None:
    assert plain(HELLO).text == "User: Hello\n\nAssistant:"
    assert plain(HELLO, "Be kind.").text == "Be kind.\n\nUser: Hello\n\nAssistant:"
