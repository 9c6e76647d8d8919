from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from studio.engines.text.stream import Stream

TEXT = st.text("ab \n", max_size=40)


def through(pieces: list[str], stops: tuple[str, ...] = (), trim: bool = False) -> str:
    stream = Stream(stops, trim)
    out = [stream.feed(piece) for piece in pieces]
    return "".join(out) + ("" if stream.stopped else stream.finish())


@given(st.lists(TEXT))
def test_without_stops_every_piece_passes_at_once_and_unchanged(pieces: list[str]) -> None:
    stream = Stream()
    assert [stream.feed(piece) for piece in pieces] == pieces
    assert stream.finish() == ""


@given(TEXT, st.text("ab \n", min_size=1, max_size=4), st.data())
def test_the_text_ends_before_a_stop_however_it_is_cut_into_pieces(text: str, stop: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert through(pieces, (stop,)) == text.split(stop)[0]
    assert through(pieces, (stop,), trim=True) == text.split(stop)[0].strip()


@given(st.lists(TEXT), st.lists(st.text("ab \n", min_size=1, max_size=4), max_size=3))
def test_no_stop_string_is_ever_shown(pieces: list[str], stops: list[str]) -> None:
    out = through(pieces, tuple(stops))
    assert not any(stop in out for stop in stops)
    assert "".join(pieces).startswith(out)


def test_what_only_began_like_a_stop_is_not_lost_at_the_end() -> None:
    assert through(["one ", "EN"], ("END",)) == "one EN"


def test_what_only_began_like_a_stop_is_let_through_as_soon_as_it_cannot_be_one() -> None:
    stream = Stream(("END",))
    assert [stream.feed("x EN"), stream.feed("TER")] == ["x ", "ENTER"]
