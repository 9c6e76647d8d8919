"""Weights, alternatives, wildcards, styles and tags are read as people of other programs wrote them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.core.problems import BadRecipe, NotRead
from studio.core.recipes import PROMPT_LIMIT
from studio.core.wording import (
    BREAK,
    HEAVIEST,
    Style,
    apply_style,
    count,
    every,
    expand,
    has_choices,
    has_weights,
    lora_tags,
    parse_a1111,
    parse_compel,
    read_styles_csv,
    unread_a1111,
)
from tests.effort import effort

LISTS = {
    "colour": ("red", "blue", "green"),
    "pets/small": ("cat", "{mouse|rat}"),
    "both": ("__colour__ __pets/small__",),
    "heavy": ("9.5::gold", "0::dust"),
    "self": ("x", "y __self__"),
    "ping": ("__pong__",),
    "pong": ("__ping__",),
    "doubling": ("{a|b} " * 400,),
}


def lists(name: str) -> Sequence[str]:
    return LISTS.get(name, ())


def a1111(prompt: str) -> list[tuple[str, float]]:
    return [("BREAK", 1.0) if p == BREAK else (p.text, round(p.weight, 4)) for p in parse_a1111(prompt)]


def compel(prompt: str) -> list[list[tuple[str, float]]]:
    """The words of each section with their weights, white space apart."""
    return [
        [(word, round(p.weight, 4)) for p in section.parts for word in p.text.split()]
        for section in parse_compel(prompt).sections
    ]


# -- A1111's writing


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a red apple", [("a red apple", 1.0)]),
        ("", [("", 1.0)]),
        ("a (red) apple", [("a ", 1.0), ("red", 1.1), (" apple", 1.0)]),
        ("a [red] apple", [("a ", 1.0), ("red", 0.9091), (" apple", 1.0)]),
        ("(red:1.3)", [("red", 1.3)]),
        ("(red: 1.3 )", [("red", 1.3)]),
        ("(red:-.5)", [("red", -0.5)]),
        ("((red))", [("red", 1.21)]),
        ("(a (red:1.5) b)", [("a ", 1.1), ("red", 1.65), (" b", 1.1)]),
        ("(a [b])", [("a ", 1.1), ("b", 1.0)]),
        (r"name \(series\) \[x\]", [("name (series) [x]", 1.0)]),
        (r"(name \(series\):1.2)", [("name (series)", 1.2)]),
        (r"back\slash \\", [("back\\slash \\", 1.0)]),
        ("(red", [("red", 1.1)]),
        ("a [b", [("a ", 1.0), ("b", 0.9091)]),
        ("red) apple]", [("red) apple]", 1.0)]),
        ("red:1.3)", [("red:1.3)", 1.0)]),
        ("(red:)", [("red:", 1.1)]),
        ("(red:1..2)", [("red:1..2", 1.1)]),
        ("a, b BREAK c", [("a, b", 1.0), ("BREAK", 1.0), ("c", 1.0)]),
        ("(a BREAK b:1.2)", [("a", 1.2), ("BREAK", 1.0), ("b", 1.2)]),
        ("BREAKFAST", [("BREAKFAST", 1.0)]),
        ("(red:9999)", [("red", HEAVIEST)]),
        ("ratio 16:9", [("ratio 16:9", 1.0)]),
    ],
)
def test_brackets_weigh_as_in_a1111(prompt: str, parts: list[tuple[str, float]]) -> None:
    assert a1111(prompt) == parts


@pytest.mark.parametrize("edit", ["[cat:dog:0.5]", "[dog:10]", "[cat::5]", "[cat|dog]", "[the (cat) | dog]"])
def test_editing_and_alternation_stay_in_the_text_and_are_told(edit: str) -> None:
    assert "".join(p.text for p in parse_a1111(f"a {edit} b")) == f"a {edit} b".replace("(", "").replace(")", "")
    (note,) = unread_a1111(f"a {edit} b")
    assert edit in note
    assert [p.weight for p in parse_a1111(f"a {edit} b") if "] b" in p.text] == [1.0]


def test_and_is_told_and_ordinary_words_are_not() -> None:
    assert "AND" in unread_a1111("a cat AND a dog")[0]
    assert unread_a1111("a cat and a dog, [soft], 12:30, (AN D:1.2)") == ()


@pytest.mark.parametrize(
    ("prompt", "has"),
    [
        ("(red:1.2)", True),
        ("a (red (apple) tree:0.8), house", True),
        ("((red:2))", True),
        ("(red)", False),
        ("[red:1.2]", False),
        ("red:1.2)", False),
        (r"\(red:1.2)", False),
        ("(at 12:30)", False),
        ("(16:9)", False),
        ("(a) b:1.2)", False),
    ],
)
def test_only_weights_in_numbers_are_taken_for_weights(prompt: str, has: bool) -> None:
    assert has_weights(prompt) is has


# -- compel's writing


@pytest.mark.parametrize(
    ("prompt", "sections"),
    [
        ("a red apple", [[("a", 1.0), ("red", 1.0), ("apple", 1.0)]]),
        ("red+ apple++", [[("red", 1.1), ("apple", 1.21)]]),
        ("red- apple--, x", [[("red", 0.9), ("apple", 0.81), (",", 1.0), ("x", 1.0)]]),
        ("(red apple)1.3", [[("red", 1.3), ("apple", 1.3)]]),
        ('"red apple"++', [[("red", 1.21), ("apple", 1.21)]]),
        ("(a red+ tree)++", [[("a", 1.21), ("red", 1.331), ("tree", 1.21)]]),
        ("((red)0.5 tree)2", [[("red", 1.0), ("tree", 2.0)]]),
        ("(red) 1.3", [[("red", 1.0), ("1.3", 1.0)]]),
        ("mid-century c++ x", [[("mid-century", 1.0), ("c", 1.21), ("x", 1.0)]]),
        (r"\(red\)1.3 c\+\+", [[("(red)1.3", 1.0), ("c++", 1.0)]]),
        ("(red.attend(1.4) a.attend(--))", [[("red", 1.4), ("a", 0.81)]]),
        ("red) ( apple+", [[("red)", 1.0), ("(", 1.0), ("apple", 1.1)]]),
        ("2 - 1 + 3", [[("2", 1.0), ("-", 1.0), ("1", 1.0), ("+", 1.0), ("3", 1.0)]]),
        ('("a red apple", a+ cat).and()', [[("a", 1.0), ("red", 1.0), ("apple", 1.0)], [("a", 1.1), ("cat", 1.0)]]),
        ('("red (cat, dog)1.2", blue).blend(1, 2)', [[("red", 1.0), ("cat,", 1.2), ("dog", 1.2)], [("blue", 1.0)]]),
    ],
)
def test_signs_and_phrases_weigh_as_in_compel(prompt: str, sections: list[list[tuple[str, float]]]) -> None:
    assert compel(prompt) == sections


def test_sections_keep_their_weights_and_how_they_are_put_together() -> None:
    both = parse_compel('("a", "b").and(1, 0.5)')
    assert ([s.weight for s in both.sections], both.blend, both.notes) == ([1.0, 0.5], False, ())
    mixed = parse_compel("(a, b).blend(1, -0.5, no_normalize)")
    assert ([s.weight for s in mixed.sections], mixed.blend, mixed.normalise) == ([1.0, -0.5], True, False)
    uneven = parse_compel("(a, b).and(1, 2, 3)")
    assert [s.weight for s in uneven.sections] == [1.0, 1.0] and "3 weights for 2 prompts" in uneven.notes[0]
    assert "sum to nothing" in parse_compel("(a, b).blend(1, -1)").notes[0]


def test_what_compel_would_do_beyond_weights_is_told() -> None:
    swap = parse_compel("a cat.swap(dog) in a (red house).swap(blue tree, s_end=0.3)")
    assert compel("a cat.swap(dog) x") == [[("a", 1.0), ("cat", 1.0), ("x", 1.0)]]
    assert len(swap.notes) == 1 and ".swap()" in swap.notes[0]
    assert "dog" not in str(swap.sections)
    lora = parse_compel("a cat withLora(foo, 0.5)")
    assert "withLora" in lora.notes[0] and "Lora" not in str(lora.sections)
    assert "whole prompt" in parse_compel("x (a, b).and() y").notes[0]


# -- alternatives and wildcards


def test_the_same_seed_chooses_the_same_and_seeds_differ() -> None:
    prompt = "{a|b|c} __colour__ {1-3$$ and $$x|y|z} __both__"
    texts = [expand(prompt, seed, lists).text for seed in range(40)]
    assert texts == [expand(prompt, seed, lists).text for seed in range(40)]
    assert len(set(texts)) > 20
    assert set(texts) <= set(every(prompt, 100_000, lists))


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("a cat", ["a cat"]),
        ("", [""]),
        ("{a|b}{c|d}", ["ac", "ad", "bc", "bd"]),
        ("{ a | {b|c} d}", ["a", "b d", "c d"]),
        ("{2$$a|b|c}", ["a, b", "a, c", "b, c"]),
        ("{1-2$$ + $$a|b}", ["a", "b", "a + b"]),
        ("{2-$$a|b|c}", ["a, b", "a, c", "b, c", "a, b, c"]),
        ("{-1$$a|b}", ["", "a", "b"]),
        ("{9$$a|b}", ["a, b"]),
        ("{a|}x", ["ax", "x"]),
        ("x __colour__ y", ["x red y", "x blue y", "x green y"]),
        ("__pets/small__", ["cat", "mouse", "rat"]),
        (r"\{a|b\} {a\|b|c}", ["{a|b} a|b", "{a|b} c"]),
        (r"\__colour__", ["__colour__"]),
        ("{a", ["{a"]),
        ("a|b}", ["a|b}"]),
        ("{x!r} {0.__class__}", ["{x!r} {0.__class__}"]),
        ("__nowhere__ a_b __ x", ["__nowhere__ a_b __ x"]),
    ],
)
def test_every_combination_comes_in_the_order_of_writing(prompt: str, texts: list[str]) -> None:
    assert list(every(prompt, 100, lists)) == texts
    assert count(prompt, lists) == len(texts)
    assert {expand(prompt, seed, lists).text for seed in range(60)} == set(texts)
    assert list(every(prompt, 2, lists)) == texts[:2]
    assert has_choices(prompt) or texts == [expand(prompt, 0, lists).text]


def test_shares_make_some_alternatives_likelier() -> None:
    texts = [expand("{9::a|1::b}", seed, lists).text for seed in range(400)]
    assert 320 < texts.count("a") < 395
    assert {expand("__heavy__", seed, lists).text for seed in range(50)} == {"gold"}
    assert {expand("{0::a|b}", seed, lists).text for seed in range(50)} == {"b"}
    assert {expand("{2$$0::a|0::b}", seed, lists).text for seed in range(20)} == {"a, b"}


def test_what_was_chosen_is_told_and_the_text_needs_no_second_reading() -> None:
    found = expand("a {red|red} __pets/small__, __nowhere__", 1, lambda name: ("cat",) if "pets" in name else ())
    assert found.text == "a red cat, __nowhere__"
    assert [(c.source, c.picked) for c in found.chosen] == [("{red|red}", "red"), ("__pets/small__", "cat")]
    assert found.notes == ("There is no list “nowhere”; “__nowhere__” stayed as it is.",)


@pytest.mark.parametrize("name", ["self", "ping"])
def test_a_list_that_names_itself_is_refused_with_the_way_it_does(name: str) -> None:
    prompt = f"a __{name}__" * 30  # among thirty choices at least one takes the line that goes on
    for use in (lambda: expand(prompt, 3, lists), lambda: count(prompt, lists), lambda: every(prompt, 9, lists)):
        with pytest.raises(BadRecipe, match=rf"“{name}” names itself \({name} → .*{name}\)"):
            use()


def test_expansion_that_grows_without_bounds_is_refused_in_little_time() -> None:
    growing = {f"l{i}": (f"__l{i + 1}__ " * 10,) for i in range(12)} | {"l12": ("x" * 100,)}

    def expand_all() -> None:
        with pytest.raises(BadRecipe, match=f"longer than {PROMPT_LIMIT:,} characters"):
            expand("__l0__", 0, lambda n: growing[n])
        with pytest.raises(BadRecipe, match="more combinations"):
            count("{a|b}" * 10_000, lists)
        with pytest.raises(BadRecipe, match="deep"):
            expand("__l0__", 0, lambda n: (f"__l{int(n[1:]) + 1}__",))
        with pytest.raises(BadRecipe, match="at most 1,000"):
            expand("{2$$" + "|".join("x" * 2_000) + "}", 0, lists)
        assert len(every("{a|b}" * 1_500, 5, lists)) == 5

    assert effort(expand_all) < 5


# -- styles and tags


def test_a_style_frames_a_prompt_or_follows_it() -> None:
    assert apply_style("a cat", "oil, {prompt}, {prompt} soft") == "oil, a cat, a cat soft"
    assert apply_style("{0.__class__}", "x {prompt}") == "x {0.__class__}"
    assert apply_style(" a cat ", "soft") == "a cat, soft"
    assert apply_style("", "soft") == "soft" and apply_style("a cat", "") == "a cat"


def test_a_styles_file_is_read_with_quotes_and_line_ends_and_a_byte_order_mark() -> None:
    text = '\ufeffname,prompt,negative_prompt\r\nOil,"oil, ""thick"",\n{prompt}",photo\r\nBare,\r\n,lost,lost\r\n'
    assert read_styles_csv(text) == (Style("Oil", 'oil, "thick",\n{prompt}', "photo"), Style("Bare"))
    assert read_styles_csv(text + "Oil,new,") == (Style("Oil", "new"), Style("Bare"))
    assert read_styles_csv("name,text\nA,b\n") == (Style("A", "b"),)
    long, unclosed = "x" * 5_000_001, 'name\n"' + "y" * 200_000
    for bad, why in (("", "no column"), ("<html>", "no column"), (long, "at most"), (unclosed, "line")):
        with pytest.raises(NotRead, match=why):
            read_styles_csv(bad)
    with pytest.raises(NotRead, match="more than 10,000"):
        read_styles_csv("name\n" + "\n".join(str(i) for i in range(10_001)))


def test_lora_tags_come_out_with_their_weights() -> None:
    text, loras, notes = lora_tags("a cat <lora:soft:0.8>, <lora:ink>, <LYCO:x y:-1:2> house")
    assert (text, loras) == ("a cat , house", (("soft", 0.8), ("ink", 1.0), ("x y", -1.0)))
    assert len(notes) == 1 and "first weight" in notes[0]
    text, loras, notes = lora_tags("<lora:a:nan><lora:a:2> <hypernet:h:1> x <lora:> <b>")
    assert (text, loras) == ("x <lora:> <b>", (("a", 2.0),))
    assert len(notes) == 3
    assert lora_tags("a,, b  c") == ("a,, b  c", (), ())


# -- anything at all

MARKS = st.lists(
    st.sampled_from([*'()[]{}|:.,+-_"\\<> \n$', "1.2", "cat", "BREAK", "__colour__", ".and(", ".swap(", "2$$", "é"]),
    max_size=40,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(MARKS | st.text(max_size=40))
def test_any_text_can_be_read(text: str) -> None:
    for part in (*parse_a1111(text), *(p for s in parse_compel(text).sections for p in s.parts)):
        assert abs(part.weight) <= HEAVIEST
    unread_a1111(text), has_weights(text), lora_tags(text)
    if count(text, lists) < 2_000:
        texts = every(text, 2_000, lists)
        assert len(texts) == count(text, lists)
        assert expand(text, 5, lists).text in texts


@pytest.mark.parametrize(
    "unit",
    [
        "(", "[", "{", '"', "(a", "[a", "{a|", "\\", "a++", "(a:1.1)", ":", "__a", " ", "<lora:", "[a:", "a.swap(", ")",
        "}", '("a"', "BREAK ", "[a|", "{1$$", '"(', "a, ", ",",
    ],
)  # fmt: skip
def test_long_and_nested_texts_take_little_time(unit: str) -> None:
    text = (unit * PROMPT_LIMIT)[:20_000]
    for read in (parse_a1111, parse_compel, unread_a1111, has_weights, lora_tags, has_choices):
        assert effort(lambda read=read: read(text)) < 0.5, read.__name__
