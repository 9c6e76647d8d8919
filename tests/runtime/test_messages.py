from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.core.events import Preview, Token
from studio.runtime import messages as m


def test_messages_come_back_as_they_went() -> None:
    sent = [m.Hello(pid=1), m.Happened(event=Token(job="j", index=0, text="naïve 🦊")), m.Warmed(model="")]
    sent.append(m.Happened(event=Preview(job="j", index=1, step=2, jpeg=b"\xff\xd8\x00")))
    stream = io.BytesIO(b"".join(m.encode(s) for s in sent))
    assert [m.read_reply(stream) for _ in sent] == sent
    assert m.read_reply(stream) is None


@pytest.mark.parametrize(
    "garbage",
    [b"\x00", b"\x05\x00\x00\x00ab", b"\x02\x00\x00\x00{}", b"\x04\x00\x00\x00null", struct.pack("<I", 2**31) + b"x"],
)
def test_what_is_not_a_message_is_refused(garbage: bytes) -> None:
    with pytest.raises(m.ProtocolError):
        m.read_reply(io.BytesIO(garbage))


def test_a_frame_cut_off_is_told_from_garbage() -> None:
    whole = m.encode(m.Hello(pid=1))
    with pytest.raises(m.CutOff):
        m.read_reply(io.BytesIO(whole[:-1]))


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(noise: bytes) -> None:
    stream = io.BytesIO(noise)
    try:
        while m.read_command(stream) is not None:
            pass
    except m.ProtocolError:
        pass


def test_deep_nesting_is_refused() -> None:
    body = b'{"said":"warmed","model":' + b"[" * 100_000
    with pytest.raises(m.ProtocolError):
        m.read_reply(io.BytesIO(struct.pack("<I", len(body)) + body))
