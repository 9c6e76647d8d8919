"""What a window asks of the session: lanes, counting, searching, stars, conversations, recipes out of files."""

from __future__ import annotations

import json
import os
import time
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from studio.app.session import Session
from studio.core.cards import ModelCard
from studio.core.conversations import Conversation, Turn
from studio.core.events import Failed, Finished
from studio.core.jobs import JobState
from studio.core.lanes import Lane
from studio.core.paths import Paths
from studio.core.problems import NotFound, NotRead, StudioError
from studio.core.recipes import CARRIED_LIMIT, ExportRecipe, ImageRecipe, TextRecipe, check
from studio.core.works import Change
from studio.library.carried import FILE_LIMIT
from tests.app.rig import CARD, OneModel, Rig
from tests.effort import effort


def told(session: Rig, **what: Any) -> bool:
    return Change(**what) in session.events


def until_lane_told(session: Rig, times: int) -> None:
    deadline = time.monotonic() + 30
    while sum(isinstance(e, Change) and bool(e.lanes) for e in session.events) < times:
        assert time.monotonic() < deadline
        time.sleep(0.01)


# -- counting and lanes


def test_tokens_are_counted_once_the_model_is_loaded(paths: Paths) -> None:
    with Rig(paths) as session:
        assert session.count_tokens("text", "fake", "a b") is None
        assert session.lanes() == {}
        assert session.warm("text") == Change(lanes=("text",))
        until_lane_told(session, 2)  # begun, and done
        assert session.lanes() == {"text": Lane(model="fake", pid=session.links[0].pid)}
        assert session.count_tokens("text", "fake", "a b\r\nc \ud800") == 4, "as the recipe will be: cleaned"
        assert session.count_tokens("text", "fake", "slow", timeout=0.05) is None
        assert session.warm("text") == Change()


def test_the_end_of_a_job_tells_its_lane_too(paths: Paths) -> None:
    with Rig(paths) as session:
        session.end(session.do("save x"))
        assert any(isinstance(e, Change) and e.lanes == ("text",) and e.works for e in session.events)
        assert session.count_tokens("text", "fake", "a b") == 2
        assert session.unload("text") == Change(lanes=("text",))
        until_lane_told(session, 3)
        assert session.count_tokens("text", "fake", "a b") is None


def test_a_model_that_cannot_be_loaded_ahead_is_a_problem_of_its_lane(paths: Paths) -> None:
    with Rig(paths) as session:
        broken = msgspec.structs.replace(CARD, name="no-load")

        class Broken(OneModel):
            def choose(self, kind: str, name_or_path: str) -> ModelCard:
                return broken

        session._models = Broken()  # type: ignore[assignment]
        session.warm("text")
        until_lane_told(session, 2)
        problem = session.lanes()["text"].problem
        assert problem is not None and problem.sentence == "It needs 9 GB."


def test_a_pause_is_known_and_told(paths: Paths) -> None:
    with Rig(paths) as session:
        assert session.paused == frozenset()
        assert session.pause() == Change(lanes=("*",))
        assert session.pause("text") == Change(lanes=("text",))
        assert session.paused == {"*", "text"}
        assert session.unpause() == Change(lanes=("*",))
        assert session.paused == {"text"}
        assert told(session, lanes=("*",)) and told(session, lanes=("text",))


# -- the queue


def test_a_job_can_be_put_behind_another(paths: Paths) -> None:
    with Rig(paths) as session:
        session.pause()
        a, b, c, d = (session.do(f"save {x}") for x in "abcd")
        session.move(a, after=d)
        assert session.queue() == [b, c, d, a]
        e = session.do("save e")
        assert session.queue() == [b, c, d, a, e], "what is new comes last, behind what was moved to the end"
        session.move(e, after=b)
        assert session.queue() == [b, e, c, d, a]
        session.move(a, before=b)
        assert session.queue() == [a, b, e, c, d]
        with pytest.raises(NotFound):
            session.move(a, after="nobody")
        assert session.queue() == [a, b, e, c, d]


def test_a_job_dragged_among_others_takes_their_priority(paths: Paths) -> None:
    with Rig(paths) as session:
        session.pause()
        a, b, c, d = (session.do(f"save {x}") for x in "abcd")
        session.move(d, priority=2)
        session.move(c, priority=2)
        assert session.queue() == [c, d, a, b]
        session.move(b, before=d)
        assert session.queue() == [c, b, d, a] and session.job(b).priority == 2
        session.move(c, after=a)
        assert session.queue() == [b, d, a, c] and session.job(c).priority == 0
        session.move(c, before=a)  # its neighbour in front has another priority and a position that means nothing here
        assert session.queue() == [b, d, c, a]
        session.move(b, after=d)
        assert session.queue() == [d, b, c, a]
        assert [session.job(j).priority for j in (a, b, c, d)] == [0, 2, 0, 2]
    with Rig(paths) as later:
        later.pause()
        later.resume_waiting()
        assert later.queue() == [d, b, c, a]


def test_a_place_between_two_jobs_never_runs_out(paths: Paths) -> None:
    with Rig(paths) as session:
        session.pause()
        a, b, c = (session.do(f"save {x}") for x in "abc")
        for _ in range(70):  # more often than a number can be halved
            session.move(c, before=b)
            assert session.queue() == [a, c, b]
            session.move(b, before=c)
            assert session.queue() == [a, b, c]


def test_a_job_of_an_earlier_session_can_be_tried_again(paths: Paths) -> None:
    with Rig(paths) as session:
        failed = session.do("raise oom")
        session.end(failed)
        finished = session.do("save x")
        session.end(finished)
    with Rig(paths) as later:
        assert later.job(failed).state is JobState.FAILED
        again = later.retry(failed)
        assert again.id != failed and again.recipe == later.job(failed).recipe
        assert isinstance(later.end(again.id), Failed)
        end = later.end(later.retry(finished).id)
        assert isinstance(end, Finished)
        assert later.path(end.works[0]).read_text() == "x"
        with pytest.raises(NotFound):
            later.retry("nobody")


# -- works


def test_works_are_searched_by_words_title_and_id(paths: Paths) -> None:
    with Rig(paths) as session:
        prompts = ("save Ärger in MÜNCHEN", "save 100%_sicher", "save Straße\tund ΣΊΣΥΦΟΣ", "save plain")
        ids = [session.end(session.do(p)).works[0].id for p in prompts]  # type: ignore[union-attr]

        def found(search: str) -> list[int]:
            return [ids.index(w.id) for w in session.works(search=search)]

        assert found("münchen ärger") == [0] == found("ÄRGER  in\nmün")
        assert found("%") == [1] == found("_") == found("0%_s")
        assert found("STRASSE") == [2] == found("σίσυφος")
        assert found("a\u0308rger") == [0], "an accent written on its own"
        assert found("save") == [3, 2, 1, 0] == found("") == found("  ")
        assert found("münchen plain") == []
        assert found(ids[1][3:].upper()) == [1]
        assert found("\ud800") == [] and found('"') == [] and found("'") == []
        assert [ids.index(w.id) for w in session.works(search="save", before=ids[2], limit=1)] == [1]
        assert session.works(search="save", kind="image") == []
        assert found(" ".join(f"save {i}" for i in range(40_000))) == []
        assert (session.count_works(), session.count_works("text"), session.count_works("image")) == (4, 4, 0)


def test_a_star_is_kept_in_the_database_and_not_in_the_sidecar(paths: Paths) -> None:
    with Rig(paths) as session:
        one, two = (session.end(session.do(f"save {x}")).works[0] for x in "ab")  # type: ignore[union-attr]
        before = session.files(one)[-1].read_bytes()
        assert "starred" not in json.loads(before)["work"]
        assert session.star(one.id[:8], True) == Change(works=(one.id,))
        assert told(session, works=(one.id,))
        assert [w.id for w in session.works(starred=True)] == [one.id]
        assert session.work(one.id).starred and not session.work(two.id).starred
        assert session.files(one)[-1].read_bytes() == before
        with pytest.raises(NotFound):
            session.star("nothing", True)
    with Rig(paths) as later:
        assert later.work(one.id).starred
        later.star(one.id, False)
        assert later.works(starred=True) == []


def test_a_jobs_works_come_in_order(paths: Paths) -> None:
    with Rig(paths) as session:
        job = session.do("save a; save b; save c")
        session.end(job)
        assert [session.path(w).read_text() for w in session.works_of(job)] == ["a", "b", "c"]
        assert session.works_of("nobody") == []


def test_ten_thousand_works_are_searched_in_less_than_a_tenth_of_a_second(paths: Paths) -> None:
    from studio.core.works import Asset, Work

    recipe = TextRecipe(prompt="The quick brown fox jumps over the lazy dog. " * 4, seed=1, model="fake")
    works = tuple(
        Work(
            id=f"w{i:012}", seq=i, job=f"j{i}", index=0, kind="text", title=f"Number {i}", created="2025-01-01",
            recipe=recipe, assets=(Asset(path=f"a/{i}.txt", role="master", sha256=f"{i:064x}", bytes=i),),
        )
        for i in range(10_000)
    )  # fmt: skip
    with Rig(paths) as session:
        session._works.add(works)

        def fastest(**how: Any) -> float:
            return min(effort(lambda: session.works(**how)) for _ in range(3))

        assert [w.title for w in session.works(search="number 77 fox", limit=1)] == ["Number 9977"]
        for how in ({"search": "fox nowhere"}, {"search": "nowhere"}, {"starred": True}, {"search": "fox"}):
            assert fastest(**how) < 0.1, how
        assert session.count_works("text") == 10_000
        assert effort(lambda: session.count_works("text")) < 0.1


# -- conversations


def test_a_conversation_is_kept_changed_and_forgotten(paths: Paths) -> None:
    with Rig(paths) as session:
        new = session.new_conversation("Be brief.")
        assert session.conversations() == []
        with pytest.raises(NotFound):
            session.conversation(new.id)
        kept = msgspec.structs.replace(new, turns=(Turn(prompt="Hi\nthere", jobs=("j1", "j2"), chosen="w1"),))
        assert session.keep_conversation(kept) == Change(conversations=(new.id,))
        assert told(session, conversations=(new.id,))
        found = session.conversation(new.id)
        assert found.turns == kept.turns and found.system == "Be brief." and found.created == new.created
        assert found.title == "Hi there"
        session.keep_conversation(msgspec.structs.replace(found, title="Greeting", turns=()))
    with Rig(paths) as later:
        assert [(c.title, c.turns) for c in later.conversations()] == [("Greeting", ())]
        assert later.remove_conversation(new.id) == Change(conversations=(new.id,))
        assert later.remove_conversation(new.id) == Change()
        assert later.conversations() == []


def test_conversations_are_in_order_of_change_whatever_the_clock_says(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studio.library import conversations

    with Rig(paths) as session:
        made = [msgspec.structs.replace(session.new_conversation(), title=t) for t in "abc"]
        for year, conversation in zip((2030, 2020, 2025), made, strict=True):
            monkeypatch.setattr(conversations, "now", lambda y=year: f"{y}-01-01T00:00:00.000Z")
            session.keep_conversation(conversation)
        assert [c.title for c in session.conversations()] == ["c", "b", "a"]
        session.keep_conversation(made[0])
        assert [c.title for c in session.conversations()] == ["a", "c", "b"]
        assert [c.title for c in session.conversations(limit=1)] == ["a"]


def test_whatever_is_in_a_conversation_can_be_stored(paths: Paths) -> None:
    with Rig(paths) as session:
        odd = "x\ud800\x00\x1b[31my 🦊"
        strange = Conversation(
            id=session.new_conversation().id, title="T" * 500 + odd, created="", changed="", system=odd,
            turns=(Turn(prompt=odd, jobs=(odd,), chosen=odd),),
        )  # fmt: skip
        session.keep_conversation(strange)
        found = session.conversation(strange.id)
        assert len(found.title) == 80 and found.system == "x\ufffdy 🦊" == found.turns[0].prompt
        assert found.created and found.changed
        with pytest.raises(NotFound):
            session.conversation("\ud800")
        assert session.remove_conversation("\ud800") == Change()


# -- exports


def test_formats_are_listed_as_a_menu_shows_them(paths: Paths) -> None:
    with Rig(paths) as session:
        assert session.formats("image") == (
            (".png", "PNG"), (".jpg", "JPEG"), (".webp", "WebP"), (".avif", "AVIF"), (".tif", "TIFF"), (".psd", "PSD"),
        )  # fmt: skip
        assert session.formats("text") == ((".txt", "Plain text"), (".md", "Markdown"))
        assert [e for e, _ in session.formats("speech")] == [".wav", ".flac", ".ogg", ".mp3"]
        assert session.formats("dance") == ()
        every = [e for kind in ("text", "image", "speech") for e, _ in session.formats(kind)]
        assert {e for e in every if session.uses_quality(e)} == {".jpg", ".webp", ".avif", ".ogg", ".mp3"}
        assert session.uses_quality(".JPEG") and not session.uses_quality(".exe")


# -- recipes out of files

RECIPE = check("image", {"prompt": "a naïve 🦊", "seed": 3, "model": "gone", "steps": 7}).recipe


def plain(recipe: Any) -> Any:
    return msgspec.to_builtins(recipe)


def chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + data) if crc is None else crc
    return len(data).to_bytes(4, "big") + kind + data + crc.to_bytes(4, "big")


def text_chunk(text: bytes, keyword: bytes = b"studio", flag: bytes = b"\0", crc: int | None = None) -> bytes:
    return chunk(b"iTXt", keyword + b"\0" + flag + b"\0\0\0" + text, crc)


def png(*chunks: bytes) -> bytes:
    head = chunk(b"IHDR", b"\0\0\0\1\0\0\0\1\x08\0\0\0\0")
    pixels = chunk(b"IDAT", zlib.compress(b"\0\0"))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + pixels + chunk(b"IEND", b"")


WRITTEN = msgspec.json.encode(RECIPE)


@pytest.mark.parametrize(
    "content",
    [
        WRITTEN,
        b"\xef\xbb\xbf \n" + WRITTEN,
        b" " * 40 + WRITTEN,
        json.dumps({"id": "w1", "kind": "image", "recipe": plain(RECIPE), "files": ["x"]}).encode(),
        json.dumps({"format": "studio-work", "version": 9, "work": {"id": 1, "recipe": plain(RECIPE)}}).encode(),
        png(text_chunk(WRITTEN)),
        png(chunk(b"tEXt", b"Title\0x"), text_chunk(b"other", b"Comment"), text_chunk(b"{"), text_chunk(WRITTEN)),
        png()[:-12] + text_chunk(WRITTEN) + chunk(b"IEND", b""),
    ],
)  # fmt: skip
def test_a_recipe_is_read_from_json_and_from_a_picture(paths: Paths, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "whatever.bin"
    file.write_bytes(content)
    with Rig(paths) as session:
        assert session.recipe_in(file) == RECIPE


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"{}",
        b"[]",
        b'"text"',
        b"Once upon a time",
        b"\xff\xfe" + WRITTEN,
        WRITTEN[:-5],
        WRITTEN.replace(b'"steps":7', b'"steps":7000'),
        WRITTEN.replace(b'"steps":7', b'"steps":"7"'),
        WRITTEN.replace(b'"kind":"image"', b'"kind":"dance"'),
        WRITTEN.replace("naïve".encode(), b"na\xefve"),
        b'{"kind":"text","prompt":"\\ud800"}',
        b'{"recipe":' * 100_000,
        b'{"recipe":' * 3 + WRITTEN + b"}" * 3,
        b'{"a":' + b"[" * 100_000,
        b'{"recipe":null}',
        msgspec.json.encode(ExportRecipe(work="w1", to="/etc/passwd", overwrite=True)),
        png(),
        png(text_chunk(WRITTEN, crc=7)),
        png(text_chunk(WRITTEN, b"Studio")),
        png(text_chunk(zlib.compress(WRITTEN), flag=b"\1")),
        png(chunk(b"zTXt", b"studio\0\0" + zlib.compress(WRITTEN))),
        png(text_chunk(WRITTEN.replace(b'"steps"', b'"x":"' + b"y" * CARRIED_LIMIT + b'","steps"'))),
        png(text_chunk(WRITTEN))[:60],
        b"\x89PNG\r\n\x1a\n" + b"\xff\xff\xff\xffIDAT" + b"x" * 50,
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n" + b"\0" * 1000,
        png()[:-12] + chunk(b"IEND", b"") + text_chunk(WRITTEN),
    ],
)
def test_what_is_no_sound_recipe_is_none(paths: Paths, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "whatever.json"
    file.write_bytes(content)
    with Rig(paths) as session:
        assert session.recipe_in(file) is None


def test_every_bit_of_a_picture_may_be_wrong(paths: Paths, tmp_path: Path) -> None:
    whole = png(text_chunk(WRITTEN))
    file = tmp_path / "x.png"
    with Rig(paths) as session:
        for at in range(0, len(whole), 3):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
            assert session.recipe_in(file) in (RECIPE, None)
            file.write_bytes(whole[:at])
            assert session.recipe_in(file) in (RECIPE, None)


def test_a_copy_of_a_library_file_is_known_by_its_content(paths: Paths, tmp_path: Path) -> None:
    with Rig(paths) as session:
        end = session.end(session.do("save naïve 🦊; save other"))
        assert isinstance(end, Finished)
        copy = tmp_path / "renamed.dat"
        for work in end.works:
            copy.write_bytes(session.path(work).read_bytes())
            assert session.recipe_in(copy) == work.recipe
            assert session.recipe_in(session.files(work)[-1]) == work.recipe, "its sidecar"
        copy.write_bytes(b"OTHER")  # as long as one of them
        assert session.recipe_in(copy) is None


def test_the_library_is_believed_before_what_a_text_says_of_itself(paths: Paths, tmp_path: Path) -> None:
    with Rig(paths) as session:
        said = '{"kind":"text","prompt":"made up"}'
        end = session.end(session.do(f"save {said}"))
        assert isinstance(end, Finished)
        assert session.recipe_in(session.path(end.works[0])) == end.works[0].recipe


def test_a_large_file_is_only_compared_with_the_library(paths: Paths, tmp_path: Path) -> None:
    large = tmp_path / "large.json"
    with open(large, "wb") as stream:  # a sparse file: quick, and takes no room
        stream.write(WRITTEN + b" ")
        stream.truncate(FILE_LIMIT + 1)
    with Rig(paths) as session:
        assert effort(lambda: session.recipe_in(large)) < 1 and session.recipe_in(large) is None
        from studio.core.files import sha256_of
        from studio.core.works import Asset, Work

        asset = Asset(path="a/x.png", role="master", sha256=sha256_of(large), bytes=FILE_LIMIT + 1)
        work = Work(
            id="wlarge", seq=1, job="j", index=0, kind="image", title="t", created="2025", recipe=RECIPE,
            assets=(asset,),
        )  # fmt: skip
        session._works.add((work,))
        assert session.recipe_in(large) == RECIPE


@pytest.mark.timeout(60)
def test_a_file_that_cannot_be_read_is_a_sentence(paths: Paths, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    odd = [tmp_path / "none", tmp_path, tmp_path / "pipe", tmp_path / "loop", Path("/dev/zero"), Path("a\0b")]
    odd.append(Path("x" * 5000))
    with Rig(paths) as session:
        for path in odd:
            with pytest.raises(NotRead) as caught:
                session.recipe_in(path)
            assert caught.value.problem.sentence.endswith(".")


# -- models


def test_an_added_model_is_returned_as_it_is_listed(paths: Paths, tmp_path: Path) -> None:
    from tests.models.makers import gguf

    one, two, copy = (tmp_path / name / "same.gguf" for name in ("one", "two", "copy"))
    for path, context in ((one, 64), (two, 128), (copy, 64)):
        path.parent.mkdir()
        path.write_bytes(gguf(llama__context_length=context))
    with Session(paths) as session:
        first, second = session.add_model(one), session.add_model(two)
        assert first.id != second.id
        listed = {c.path: c for c in session.models()}
        assert listed[str(one)] == first and listed[str(two)] == second
        assert session.model("text", second.id).path == str(two)
        assert session.add_model(two) == second, "added twice is listed once"
        assert session.add_model(copy) == first, "a copy is the model it is a copy of"
        named = session.model("text", str(two))
        assert named == second
        with pytest.raises(StudioError):
            session.add_model(tmp_path / "none.gguf")


def test_a_model_named_by_its_path_gets_an_id_of_its_own(paths: Paths, tmp_path: Path) -> None:
    from tests.models.makers import gguf

    one, two = (tmp_path / name / "same.gguf" for name in ("one", "two"))
    for path, context in ((one, 64), (two, 128)):
        path.parent.mkdir()
        path.write_bytes(gguf(llama__context_length=context))
    with Session(paths) as session:
        first, second = session.model("text", str(one)), session.model("text", str(two))
        assert first.id != second.id
        assert session.model("text", second.id).path == str(two)


def test_a_picture_recipe_is_never_taken_on_trust(paths: Paths, tmp_path: Path) -> None:
    unchecked = msgspec.structs.replace(RECIPE, count=10**9)
    assert isinstance(unchecked, ImageRecipe)
    (tmp_path / "x.png").write_bytes(png(text_chunk(msgspec.json.encode(unchecked))))
    with Rig(paths) as session:
        assert session.recipe_in(tmp_path / "x.png") is None
