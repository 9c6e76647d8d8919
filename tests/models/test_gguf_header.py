"""The GGUF reader takes sound files in small memory and refuses damaged ones before it allocates anything."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.core.cards import Broken
from studio.models.gguf_header import GGUFHeader, read_gguf
from tests.models.makers import gguf, gguf_of, setting, tensor, text

HUGE = 2**63


def read(folder: Path, data: bytes) -> GGUFHeader | Broken:
    path = folder / "x.gguf"
    path.write_bytes(data)
    return read_gguf(path)


def why(folder: Path, data: bytes) -> str:
    looked = read(folder, data)
    assert isinstance(looked, Broken), looked
    return looked.why


def test_a_sound_file_is_read(tmp_path: Path) -> None:
    header = read(tmp_path, gguf(chat=True))
    assert isinstance(header, GGUFHeader)
    assert (header.architecture, header.name, header.context_length) == ("llama", "Tiny", 512)
    assert (header.tokenizer, header.vocabulary, header.merges) == ("llama", 8, 0)
    assert (header.parameters, header.quantisation, header.split) == (72, "F32", (0, 1))
    assert header.chat_template.startswith("{% for")


def test_a_long_list_is_counted_and_not_kept(tmp_path: Path) -> None:
    tokens = [f"token {i} {'x' * (i % 50)}" for i in range(60_000)]  # several windows of the reader
    tokens[777] = "y" * 3_000_000  # longer than a window
    settings = [setting("tokenizer.ggml.tokens", tokens), setting("general.architecture", "llama")]
    header = read(tmp_path, gguf_of(settings, [tensor("w", [32], 0, 0)], 128))
    assert isinstance(header, GGUFHeader)
    assert header.vocabulary == 60_000
    assert header.metadata == {"general.architecture": "llama"}


def test_a_long_list_of_numbers_is_counted_and_a_short_one_kept(tmp_path: Path) -> None:
    settings = [setting("long", list(range(500_000))), setting("short", [1, 2, 3]), setting("after", True)]
    header = read(tmp_path, gguf_of(settings, [], 0))
    assert isinstance(header, GGUFHeader)
    assert header.lists == {"long": 500_000, "short": 3}
    assert header.metadata == {"short": (1, 2, 3), "after": True}


@pytest.mark.parametrize(
    ("version", "order", "says"),
    [(0, "<", "version 0"), (1, "<", "version 1"), (99, "<", "version 99"), (3, ">", "big-endian")],
)
def test_other_versions_are_refused(tmp_path: Path, version: int, order: str, says: str) -> None:
    assert says in why(tmp_path, gguf_of([], [], 64, version, order))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it holds nothing"),
        (b"GGUF", "ends inside its header"),
        (b"GGML" + bytes(60), "not a GGUF file"),
        (b"<!doctype html><p>Not found", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer"),
        (b"\x80\x04\x95\x10" + bytes(20), "a pickle"),
    ],
)
def test_something_else_under_this_name_is_called_what_it_is(tmp_path: Path, data: bytes, says: str) -> None:
    assert says in why(tmp_path, data)


def huge() -> dict[str, bytes]:
    """Every count and length of the format, claiming 2^63."""
    head = b"GGUF" + struct.pack("<I", 3)
    one = head + struct.pack("<QQ", 0, 1)
    array = one + text("a") + struct.pack("<I", 9)
    of_tensors = head + struct.pack("<QQ", 1, 0)
    pad = bytes(256)
    return {
        "settings": head + struct.pack("<QQ", 0, HUGE) + pad,
        "tensors": head + struct.pack("<QQ", HUGE, 0) + pad,
        "key": one + struct.pack("<Q", HUGE) + pad,
        "text": one + text("a") + struct.pack("<IQ", 8, HUGE) + pad,
        "numbers": array + struct.pack("<IQ", 4, HUGE) + pad,
        "texts": array + struct.pack("<IQ", 8, HUGE) + pad,
        "text in a list": array + struct.pack("<IQQ", 8, 2, HUGE) + pad,
        "lists": array + struct.pack("<IQ", 9, HUGE) + pad,
        "name": of_tensors + struct.pack("<Q", HUGE) + pad,
        "dimensions": of_tensors + text("w") + struct.pack("<I", 2**32 - 1) + pad,
        "shape": of_tensors + text("w") + struct.pack("<IQQIQ", 2, HUGE, HUGE, 0, 0) + pad,
        "offset": of_tensors + text("w") + struct.pack("<IQIQ", 1, 32, 0, HUGE) + pad,
    }


@pytest.mark.parametrize("claim", list(huge()))
def test_a_huge_claim_is_refused(tmp_path: Path, claim: str) -> None:
    says = {
        "settings": "settings, more than it can hold",
        "tensors": "tensors, more than it can hold",
        "texts": "strings, more than any vocabulary has",
        "lists": "unknown or nested type",
        "dimensions": "4,294,967,295 dimensions",
        "shape": "impossible shape",
        "offset": "leaves a gap",
    }
    assert says.get(claim, "it ends inside its header") in why(tmp_path, huge()[claim])


def test_huge_claims_cost_no_memory(tmp_path: Path) -> None:
    paths = []
    for name, data in huge().items():
        paths.append(tmp_path / f"{name}.gguf")
        paths[-1].write_bytes(data)
    # 2 GB of nothing after the claim: a reader that trusts file sizes would allocate here
    sparse = tmp_path / "sparse.gguf"
    sparse.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IIQ", 9, 8, 200_000_000))
    with open(sparse, "r+b") as stream:
        stream.truncate(2_000_000_000)
    long_text = tmp_path / "long.gguf"
    long_text.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IQ", 8, 1_500_000_000))
    with open(long_text, "r+b") as stream:
        stream.truncate(2_000_000_000)
    program = """
import resource, sys
from pathlib import Path
from studio.core.cards import Broken
from studio.models.gguf_header import read_gguf
before = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (before + 32_000_000, before + 32_000_000))
assert all(isinstance(read_gguf(Path(p)), Broken) for p in sys.argv[1:])
print("ok")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, [*paths, sparse, long_text])],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "ok\n", done.stderr


@pytest.mark.parametrize(
    ("tensors", "data", "says"),
    [
        ([tensor("a", [8], 0, 0), tensor("b", [8], 0, 0)], 64, "overlaps"),
        ([tensor("a", [16], 0, 0), tensor("b", [8], 0, 32)], 96, "overlaps"),
        ([tensor("a", [8], 0, 0), tensor("b", [8], 0, 64)], 96, "gap"),
        ([tensor("a", [8], 99, 0)], 64, "unknown type 99"),
        ([tensor("a", [8], 4, 0)], 64, "unknown type 4"),
        ([tensor("a", [1] * 100, 0, 0)], 64, "100 dimensions"),
        ([tensor("a", [], 0, 0)], 64, "0 dimensions"),
        ([tensor("a", [8, 0], 0, 0)], 64, "impossible shape"),
        ([tensor("a", [33], 2, 0)], 64, "impossible shape"),
        ([tensor("a", [8], 0, 0), tensor("a", [8], 0, 32)], 64, "a used one"),
    ],
)
def test_tensors_that_cannot_be_are_refused(tmp_path: Path, tensors: list[bytes], data: int, says: str) -> None:
    assert says in why(tmp_path, gguf_of([], tensors, data))


@pytest.mark.parametrize("missing", [1, 31, 100])
def test_a_truncated_file_is_called_incomplete(tmp_path: Path, missing: int) -> None:
    data = gguf()
    said = why(tmp_path, data[:-missing])
    assert said == f"it is incomplete: {len(data) - missing:,} of {len(data):,} bytes are there"


def test_a_file_cut_off_anywhere_is_never_taken_for_whole(tmp_path: Path) -> None:
    data = gguf(chat=True)
    for length in range(len(data) - 1, 0, -7):
        assert why(tmp_path, data[:length])


def test_a_setting_set_twice_is_refused(tmp_path: Path) -> None:
    assert "twice" in why(tmp_path, gguf_of([setting("a", 1), setting("a", 2)], [], 0))


@pytest.mark.parametrize("alignment", [0, 1, 33, 2**31])
def test_odd_alignments_are_refused(tmp_path: Path, alignment: int) -> None:
    assert "aligned" in why(tmp_path, gguf_of([setting("general.alignment", alignment)], [], 64))


@given(st.binary(max_size=400))
def test_any_bytes_get_an_answer(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    head = b"GGUF" + struct.pack("<I", 3)
    for whole in (data, head + data, head + struct.pack("<QQ", 1, 2) + data):
        assert isinstance(read(folder, whole), Broken | GGUFHeader)


@given(st.data())
def test_a_sound_file_with_changed_bytes_gets_an_answer(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(gguf(chat=True))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    assert isinstance(read(tmp_path_factory.getbasetemp(), bytes(whole)), Broken | GGUFHeader)
