"""Styles, presets and wildcards come back as they were kept, and what a form gives becomes the words that are meant."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.app.shelf import Shelf
from studio.core.cards import ModelCard
from studio.core.paths import Paths
from studio.core.problems import BadRecipe, NotRead, NotSaved, ReadOnly
from studio.core.recipes import PROMPT_LIMIT, SEED_LIMIT, check
from studio.core.text import clean
from studio.core.wording import Style, expand, has_choices
from studio.core.works import Change
from studio.library import prompts as kept
from studio.library.files import Files
from studio.library.inputs import Inputs
from studio.library.prompts import Prompts, lasting
from tests.effort import effort

A1111 = "name,prompt,negative_prompt\r\n"


@pytest.fixture
def store(paths: Paths) -> Prompts:
    return Prompts(paths)


def fill(store: Prompts, lists: dict[str, str | bytes]) -> None:
    for name, text in lists.items():
        path = store.make_folder() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


def lora(card_id: str, name: str = "", path: str = "") -> ModelCard:
    return ModelCard(
        id=card_id, name=name or card_id, kind="lora", engine="", path=path or f"/loras/{card_id}.safetensors",
        format="", sha256="-",
    )  # fmt: skip


@contextlib.contextmanager
def somewhere() -> Iterator[Prompts]:
    """A store of its own for each example of a property."""
    with tempfile.TemporaryDirectory() as folder:
        yield Prompts(Paths(Path(folder)))


# -- styles and presets

anything = st.text(max_size=40)
few = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


@given(st.lists(st.tuples(anything, anything, anything), max_size=6))
@few
def test_styles_come_back_in_another_session(given: list[tuple[str, str, str]]) -> None:
    with somewhere() as store:
        wanted: dict[str, Style] = {}
        for name, prompt, negative in given:
            name, words = " ".join(clean(name)[0].split()), (clean(prompt)[0], clean(negative)[0])
            if not name or not any(text.strip() for text in words):
                with pytest.raises(BadRecipe):
                    store.save_style(Style(name, prompt, negative))
                continue
            store.save_style(Style(name, prompt, negative))
            wanted[name] = Style(name, *words)
        again = Prompts(Paths(store.folder.parent))
        assert {style.name: style for style in again.styles()} == wanted
        assert again.take_notes() == ()


@given(st.lists(st.tuples(st.text(min_size=1, max_size=20), anything, anything), max_size=6))
@few
def test_styles_survive_the_way_through_a_table_of_a1111(given: list[tuple[str, str, str]]) -> None:
    with somewhere() as store, somewhere() as other:
        for name, prompt, negative in given:
            with contextlib.suppress(BadRecipe):
                store.save_style(Style(name, prompt, negative))
        table = store.folder.parent / "out.csv"
        store.export_styles(table)
        assert other.import_styles(table) == len(store.styles())
        # a name that cannot be shown in a line is written with escapes
        assert {(s.prompt, s.negative) for s in other.styles()} == {(s.prompt, s.negative) for s in store.styles()}
        assert other.import_styles(table) == 0


def test_imported_styles_replace_none_that_are_here(store: Prompts, tmp_path: Path) -> None:
    store.save_style(Style("Ink", "my own ink"))
    table = tmp_path / "styles.csv"
    table.write_text(
        A1111 + '"Ink","ink of {prompt}, ""fine""","photo, 3d"\r\n"---- heading ----",,\r\n"Oil","oil\nthick",\r\n',
        encoding="utf-8-sig",
    )
    assert store.import_styles(table) == 2
    found = {style.name: style for style in store.styles()}
    assert found["Ink"].prompt == "my own ink"
    assert found["Ink (2)"] == Style("Ink (2)", 'ink of {prompt}, "fine"', "photo, 3d")
    assert found["Oil"].prompt == "oil\nthick" and len(found) == 3
    assert store.import_styles(table) == 0


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n\0\0", b"a,b\n1,2\n", b"\xff\xfe\0", None])
def test_what_is_no_table_of_styles_is_refused_in_a_sentence(
    store: Prompts, tmp_path: Path, content: bytes | None
) -> None:  # fmt: skip
    store.save_style(Style("Ink", "ink"))
    path = tmp_path / "styles.csv"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(NotRead):
        store.import_styles(path)
    with pytest.raises(NotRead):
        store.import_styles(tmp_path / "nowhere.csv")
    assert [style.name for style in store.styles()] == ["Ink"]


PRESET = {
    "prompt": "a cat", "seed": 7, "variation_seed": 8, "image": "a.png", "mask": "b.png", "extend": {"left": 8},
    "negative": "photo", "steps": 12, "guidance": 3.5, "scheduler": "euler_a", "width": None,
    "loras": [{"model": "film", "weight": 0.5}], "embeddings": ["e"],
    "controls": [{"model": "canny", "image": "c.png", "filter": "canny", "weight": 0.7}],
}  # fmt: skip


def test_a_preset_keeps_the_form_without_what_belongs_to_one_picture(store: Prompts) -> None:
    store.save_preset(" my  preset ", PRESET)
    found = Prompts(Paths(store.folder.parent)).presets()
    assert list(found) == ["my preset"]
    assert found["my preset"] == {
        "negative": "photo", "steps": 12, "guidance": 3.5, "scheduler": "euler_a",
        "loras": [{"model": "film", "weight": 0.5}], "embeddings": ["e"],
        "controls": [{"model": "canny", "image": "", "filter": "canny", "weight": 0.7}],
    }  # fmt: skip
    check("image", {**found["my preset"], "prompt": "x"})
    assert store.remove_preset("my preset") and not store.remove_preset("my preset")
    assert store.presets() == {}


@given(
    st.dictionaries(
        anything,
        st.fixed_dictionaries(
            {},
            optional={
                "negative": anything, "steps": st.integers(1, 1000), "guidance": st.floats(0, 50), "vae": anything,
                "sigmas": st.sampled_from(["model", "karras"]), "embeddings": st.tuples(st.just("e")),
            },
        ),
        max_size=4,
    )
)  # fmt: skip
@few
def test_presets_come_back(given: dict[str, dict[str, Any]]) -> None:
    with somewhere() as store:
        wanted = {}
        for name, values in given.items():
            name = " ".join(clean(name)[0].split())
            with contextlib.suppress(BadRecipe):
                store.save_preset(name, values)
                wanted[name] = lasting(values)
        assert Prompts(Paths(store.folder.parent)).presets() == wanted


def test_values_a_recipe_cannot_have_are_refused_or_passed_over(store: Prompts, paths: Paths) -> None:
    for bad in ({"steps": 0}, {"steps": float("nan")}, {"nonsense": 1}, {"loras": [{"model": "a", "wait": 1}]}):
        with pytest.raises(BadRecipe):
            store.save_preset("bad", bad)
    file = paths.home / "presets.json"
    old = {"future": {"steps": 9, "of_2031": 5, "guidance": "much", "image": "../x.png"}}
    file.write_text(json.dumps({"presets": old, "format": 1}))
    assert store.presets() == {"future": {"steps": 9}}
    store.save_preset("other", {"steps": 3})
    assert json.loads(file.read_text())["presets"]["future"] == old["future"], "what is not understood stays"


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"\0" * 50, b"[]", b'{"styles": 3}', b'{"styles": [{"prompt": "x"}]}', b"[" * 100_000,
        b'{"styles": [{"name": "\\ud800"}]}', b'{"format": 2}', b'{"styles": [{"name": "\xff"}]}',
    ],
)  # fmt: skip
def test_a_damaged_file_is_set_aside_with_a_sentence_and_never_lost(
    store: Prompts, paths: Paths, content: bytes
) -> None:  # fmt: skip
    file = paths.home / "styles.json"
    for place in ("styles.json", "styles-2.json"):
        file.write_bytes(content)
        assert store.styles() == ()
        (note,) = store.take_notes()
        assert f"damaged/{place}" in note and store.take_notes() == ()
        store.save_style(Style("Ink", "ink"))
        assert (paths.damaged / place).read_bytes() == content
    assert [style.name for style in store.styles()] == ["Ink"]


def test_presets_nested_without_end_are_set_aside_too(store: Prompts, paths: Paths) -> None:
    content = b'{"presets": {"a": {"loras": ' + b"[" * 100_000
    (paths.home / "presets.json").write_bytes(content)
    assert store.presets() == {} and len(store.take_notes()) == 1
    assert (paths.damaged / "presets.json").read_bytes() == content


def test_a_damaged_file_that_cannot_be_set_aside_is_not_written_over(store: Prompts, paths: Paths) -> None:
    (paths.home / "presets.json").write_bytes(b"precious")
    paths.damaged.write_bytes(b"in the way")
    for use in (store.presets, lambda: store.save_preset("x", {"steps": 3}), lambda: store.remove_preset("x")):
        with pytest.raises(NotRead):
            use()
    assert (paths.home / "presets.json").read_bytes() == b"precious"


def test_a_disk_that_refuses_costs_nothing_that_is_there(
    store: Prompts, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    store.save_style(Style("Ink", "ink"))
    before = (paths.home / "styles.json").read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("studio.core.files.os.fsync", full)
    with pytest.raises(NotSaved, match="No space left"):
        store.save_style(Style("Oil", "oil"))
    with pytest.raises(NotSaved, match="No space left"):
        store.save_preset("x", {"steps": 3})
    assert (paths.home / "styles.json").read_bytes() == before
    assert sorted(p.name for p in paths.home.glob("*.json*")) == ["styles.json"]
    monkeypatch.setattr("studio.library.prompts.open", lambda *_: full(), raising=False)
    with pytest.raises(NotRead, match="No space left"):
        store.styles()
    with pytest.raises(NotRead):
        store.save_style(Style("Oil", "oil"))  # or what could not be read would be gone


def test_two_threads_lose_no_style(store: Prompts) -> None:
    def keep(which: int) -> None:
        for at in range(10):
            store.save_style(Style(f"{which}-{at}", "words"))

    threads = [threading.Thread(target=keep, args=(which,)) for which in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.styles()) == 30


# -- wildcards


def test_lists_are_read_in_whatever_an_editor_wrote(store: Prompts) -> None:
    fill(
        store,
        {
            "colour.txt": "red\r\n# a comment\r\n\r\n  dark blue  \r\n",
            "people/Old Names.TXT": "\ufeffÅsa\n",
            "latin.txt": "caf\xe9\n".encode("latin-1"),
            "wide.txt": "日本\nrot\n".encode("utf-16"),
            "controls.txt": b"a\x00\x1b[31mb\n",
            "empty.txt": "#\n",
            "notes.md": "no list",
        },
    )
    assert store.wildcards() == ("colour", "controls", "empty", "latin", "people/Old Names", "wide")
    read = {name: store.wildcard(name) for name in store.wildcards()}
    assert read == {
        "colour": ("red", "dark blue"), "people/Old Names": ("Åsa",), "latin": ("café",), "wide": ("日本", "rot"),
        "controls": ("ab",), "empty": (),
    }  # fmt: skip
    assert store.wildcard("PEOPLE/old names") == ("Åsa",), "as they are on other systems"


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(st.lists(st.lists(names, min_size=1, max_size=3), max_size=5))
@few
def test_every_listed_name_can_be_written_and_finds_its_list(given: list[list[str]]) -> None:
    with somewhere() as store:
        for parts in given:
            with contextlib.suppress(OSError):  # names the file system does not take
                fill(store, {"/".join([*parts[:-1], parts[-1] + ".txt"]): "picked\n"})
        for name in store.wildcards():
            assert expand(f"a __{name}__ b", 1, store.wildcard).text == "a picked b"


@given(anything)
@few
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    with somewhere() as store:
        fill(store, {"in.txt": "inside\n"})
        (store.folder.parent / "secret.txt").write_text("secret\n")
        for tried in (name, f"../{name}", f"../secret{name}", "../secret", "a/../../secret", str(store.folder.parent)):
            assert "secret" not in store.wildcard(tried)
            assert "secret\n" not in store.worded({"prompt": f"__{tried}__"}).given[0]["prompt"] + "\n" or (
                "secret" in tried
            )


def test_links_pipes_and_circles_are_passed_over(store: Prompts, tmp_path: Path) -> None:
    fill(store, {"a.txt": "a\n", "b/c.txt": "c\n"})
    secret = tmp_path / "secret.txt"
    secret.write_text("secret\n")
    (store.folder / "stolen.txt").symlink_to(secret)
    (store.folder / "b" / "round").symlink_to(store.folder)
    (store.folder / "gone.txt").symlink_to("nowhere")
    os.mkfifo(store.folder / "pipe.txt")
    (store.folder / "folder.txt").mkdir()
    assert store.wildcards() == ("a", "b/c")


def test_names_that_cannot_be_written_are_made_so_that_they_can(store: Prompts) -> None:
    fill(store, {"a.b.txt": "dot\n", "a-b.txt": "dash\n", "__x__y__.txt": "x\n", "...txt": "no\n", "<i>.txt": "i\n"})
    with contextlib.suppress(OSError):
        Path(os.fsdecode(os.fsencode(store.folder) + b"/\xff\xfebad\xff.txt")).write_text("bad\n")
    assert store.wildcards() == ("a-b", "bad", "i", "x_y")
    assert store.wildcard("a-b") == ("dash",), "the file that is called so comes first"


def test_much_is_held_to_its_bounds(store: Prompts, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, {"long.txt": b"first\n" + b"x" * 20 + b"\n" + b"y" * kept.LIST_LIMIT, "one.txt": b"z" * 2_000_000})
    assert store.wildcard("long") == ("first", "x" * 20), "a line that is cut through is no line"
    assert store.wildcard("one") == ()
    made = store.worded({"prompt": "__long__"})
    assert any("1,000,000 bytes" in note for note in made.notes)
    fill(store, {f"many/{at:04}.txt": b"x" for at in range(40)})
    fill(store, {"/".join("d" * 12) + "/deep.txt": "x\n", "/".join("e" * 8) + "/near.txt": "x\n"})
    assert not any("deep" in name for name in store.wildcards()) and "e/e/e/e/e/e/e/e/near" in store.wildcards()
    monkeypatch.setattr(kept, "MOST_LISTS", 30)
    assert len(store.wildcards()) == 30
    monkeypatch.setattr(kept, "_MOST_LOOKED_AT", 10)
    assert len(store.wildcards()) <= 10


def test_a_thousand_lists_are_found_quickly(store: Prompts) -> None:
    folder = store.make_folder()
    for at in range(1_000):
        os.close(os.open(folder / f"l{at}.txt", os.O_CREAT))
    assert len(store.wildcards()) == 1_000
    assert effort(store.wildcards) < 1


# -- words


def test_styles_are_laid_around_in_order_and_unknown_ones_told(store: Prompts) -> None:
    store.save_style(Style("Ink", "ink drawing of {prompt}", "photo"))
    store.save_style(Style("Soft", "soft light", ""))
    made = store.worded({"prompt": "a cat", "negative": "dog", "steps": 4, "styles": ["Soft", "Gone", "Ink", "Soft"]})
    assert made.given == ({"prompt": "ink drawing of a cat, soft light", "negative": "dog, photo", "steps": 4},)
    assert made.notes == ("There is no style “Gone” any more; it was left out.",)
    assert store.worded({"prompt": " a  cat ", "styles": []}).given == ({"prompt": " a  cat "},), "as it was typed"
    assert store.worded({"prompt": "x", "styles": ["Soft"]}).given == ({"prompt": "x, soft light"},)


def test_what_is_left_to_chance_is_chosen_by_the_seed_of_each_picture(store: Prompts) -> None:
    fill(store, {"colour.txt": "red\nblue\ngreen\nblack\n"})
    given = {"prompt": "a __colour__ {cat|dog}", "negative": "{a|b}", "seed": SEED_LIMIT - 2, "count": 5, "steps": 3}
    made = store.worded(given)
    assert made == store.worded(given), "the same seed, the same words"
    assert [each["seed"] for each in made.given] == [SEED_LIMIT - 2, SEED_LIMIT - 1, 0, 1, 2]
    assert all(each["count"] == 1 and each["steps"] == 3 for each in made.given)
    assert len({each["prompt"] for each in made.given}) > 1
    for each in made.given:
        assert not has_choices(each["prompt"] + each["negative"])
        alone = store.worded({**given, "seed": each["seed"], "count": 1}).given
        assert alone == (each,), "each can be made again by its own seed"
    free = [store.worded({"prompt": "{1|2|3|4|5|6|7|8|9}"}).given[0] for _ in range(20)]
    assert len({each["seed"] for each in free}) == 20 and len({each["prompt"] for each in free}) > 1


def test_without_chance_the_job_stays_one(store: Prompts) -> None:
    for prompt in ("a cat", "a {cat}", "__nowhere__", "a_b __ c"):
        (made,) = store.worded({"prompt": prompt, "count": 4}).given
        assert made == {"prompt": prompt, "count": 4}
    assert store.worded({"prompt": "__nowhere__"}).notes == (
        "There is no list “nowhere”; “__nowhere__” stayed as it is.",
    )
    assert store.worded({"prompt": r"a \{b\|c\}"}).given[0]["prompt"] == r"a {b\|c}"


def test_tags_of_known_loras_leave_the_prompt_and_others_stay(store: Prompts) -> None:
    cards = [
        lora("film-1", "Film look", "/x/film_v2.safetensors"), lora("ink"), lora("film_v2", path="/y/other.safetensors")
    ]  # fmt: skip
    made = store.worded(
        {
            "prompt": "a cat, <lora:Film Look:0.8>, <lora:gone:0.3>, <lyco:sub/INK:-9>, "
            "<lora:film_v2:1> end <hypernet:h:1>",
            "loras": ({"model": "ink", "weight": 0.2}, {"model": "kept", "weight": 0.1}),
        },
        [*cards, ModelCard(id="gone", name="gone", kind="image", engine="", path="/z", format="", sha256="-")],
    )
    (values,) = made.given
    assert values["prompt"] == "a cat, <lora:gone:0.3>, end"
    assert values["loras"] == (
        {"model": "ink", "weight": -4.0}, {"model": "kept", "weight": 0.1}, {"model": "film-1", "weight": 0.8},
        {"model": "film_v2", "weight": 1.0},
    )  # fmt: skip
    assert any("“gone”" in note and "stayed" in note for note in made.notes)
    assert any("-4" in note for note in made.notes) and any("Hypernetworks" in note for note in made.notes)
    check("image", values)
    assert "loras" not in store.worded({"prompt": "no tags <lora:gone:1>"}, cards).given[0]


def test_tags_within_chance_and_styles_count_where_they_are_chosen(store: Prompts) -> None:
    fill(store, {"look.txt": "old <lora:film:0.5>\nnew <lora:ink:0.6>\n"})
    store.save_style(Style("S", "{prompt} <lora:ink:0.9>"))
    cards = [lora("film"), lora("ink")]
    seen = set()
    for each in store.worded({"prompt": "a __look__ {<lora:film:1>|b}", "seed": 1, "count": 30}, cards).given:
        assert "<" not in each["prompt"]
        seen.add((each["prompt"], tuple((one["model"], one["weight"]) for one in each["loras"])))
    assert len(seen) == 4
    assert store.worded({"prompt": "x", "styles": ["S"]}, cards).given[0]["loras"] == ({"model": "ink", "weight": 0.9},)


@pytest.mark.parametrize("strange", [{"seed": "seven"}, {"seed": -1}, {"count": 1000}, {"count": True}, {"seed": 1.5}])
def test_values_that_cannot_be_are_left_to_whoever_checks_the_recipe(store: Prompts, strange: dict[str, Any]) -> None:
    given = {"prompt": "{a|b}", **strange}
    assert store.worded(given).given == (given,)


def test_words_are_held_to_their_bounds(store: Prompts) -> None:
    store.save_style(Style("Echo", "{prompt} " * 1_000))
    with pytest.raises(BadRecipe, match="In the style “Echo”") as told:
        store.worded({"prompt": "x" * 1_000, "styles": ["Echo"]})
    assert told.value.problem.field == "prompt"
    fill(store, {"a.txt": "__b__\n", "b.txt": "__a__\n"})
    with pytest.raises(BadRecipe, match="names itself"):
        store.worded({"prompt": "__a__"})
    for long in ("<lora:x:" * (PROMPT_LIMIT // 8), "".join(map(chr, range(0xE000, 0xF8FF))) + "<lora:y:1>"):
        assert effort(lambda long=long: store.worded({"prompt": long}, [lora("x")])) < 3


@given(st.text("abc,_{}|<>:lora() \\$2é🎉\n", max_size=60), st.integers(0, SEED_LIMIT - 1), st.integers(1, 3))
@few
def test_any_prompt_becomes_words_a_recipe_takes(prompt: str, seed: int, count: int) -> None:
    with somewhere() as store:
        fill(store, {"a.txt": "x <lora:a:1>\n"})
        made = store.worded({"prompt": prompt, "seed": seed, "count": count}, [lora("a")])
        assert len(made.given) in (1, count)
        for each in made.given:
            if each["prompt"].strip():
                check("image", each)


# -- the shelf


def test_every_write_tells_what_changed(paths: Paths, tmp_path: Path) -> None:
    told: list[Change] = []

    def tell(change: Change) -> Change:
        told.append(change)
        return change

    shelf = Shelf(None, None, Files(paths), Inputs(paths), tell)  # type: ignore[arg-type]
    assert shelf.save_style(Style("Ink", "ink")) == Change(settings=("styles",))
    assert shelf.save_preset("p", {"steps": 3}) == Change(settings=("presets",))
    shelf.export_styles(tmp_path / "out.csv")
    assert shelf.import_styles(tmp_path / "out.csv") == Change() == shelf.remove_style("x") == shelf.remove_preset("x")
    assert shelf.remove_style("Ink") == Change(settings=("styles",))
    assert shelf.import_styles(tmp_path / "out.csv") == Change(settings=("styles",))
    assert shelf.remove_preset("p") == Change(settings=("presets",))
    assert len(told) == 5
    assert shelf.wildcard_folder().is_dir() and shelf.wildcards() == () and shelf.wildcard("x") == ()
    shelf.read_only = "The library is open for reading only."  # type: ignore[attr-defined]
    for write in (
        lambda: shelf.save_style(Style("Oil", "oil")), lambda: shelf.remove_style("Ink"),
        lambda: shelf.save_preset("q", {}), lambda: shelf.remove_preset("p"),
        lambda: shelf.import_styles(tmp_path / "out.csv"),
    ):  # fmt: skip
        with pytest.raises(ReadOnly):
            write()
    assert [style.name for style in shelf.styles()] == ["Ink"]
