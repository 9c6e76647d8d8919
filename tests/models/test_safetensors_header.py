"""The safetensors reader takes what the format allows and names what is wrong with everything else."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.core.cards import Broken
from studio.models.safetensors_header import SafetensorsHeader, read_safetensors, suspicious_weights
from tests.models.makers import safetensors, with_header


def read(folder: Path, data: bytes) -> SafetensorsHeader | Broken:
    path = folder / "x.safetensors"
    path.write_bytes(data)
    return read_safetensors(path)


def why(folder: Path, data: bytes) -> str:
    looked = read(folder, data)
    assert isinstance(looked, Broken), looked
    return looked.why


def test_a_sound_file_is_read(tmp_path: Path) -> None:
    data = safetensors({"a": ("F16", [2, 3], 12), "b": ("BF16", [], 2), "c": ("F4", [2, 2], 2)}, {"format": "pt"})
    header = read(tmp_path, data)
    assert isinstance(header, SafetensorsHeader)
    assert header.parameters == 6 + 1 + 4
    assert header.dtypes == {"F16": 6, "BF16": 1, "F4": 4}
    assert header.metadata == {"format": "pt"}
    assert header.tensors["a"].shape == (2, 3)
    assert header.start + 16 == len(data)


def test_what_the_safetensors_library_writes_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("safetensors.torch")
    path = tmp_path / "x.safetensors"
    library.save_file({"w": torch.ones(3, 5), "h": torch.ones(2, dtype=torch.bfloat16)}, path, {"made": "here"})
    header = read_safetensors(path)
    assert isinstance(header, SafetensorsHeader)
    assert (header.parameters, header.metadata) == (17, {"made": "here"})


@pytest.mark.parametrize("size", range(8))
def test_fewer_than_eight_bytes_are_not_a_model(tmp_path: Path, size: int) -> None:
    assert why(tmp_path, bytes(size)).startswith("it is not a model")


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 101 * 1024 * 1024])
def test_an_absurd_header_length_is_refused(tmp_path: Path, length: int) -> None:
    assert "header claims" in why(tmp_path, struct.pack("<Q", length) + b'{"a":1}')


def test_a_header_longer_than_the_file_is_called_incomplete(tmp_path: Path) -> None:
    assert why(tmp_path, struct.pack("<Q", 5000) + b'{"a"') == "it is incomplete: 12 of 5,008 bytes are there"


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (b"{not json}", "not a list of tensors"),
        (b'{"\xff\xfe":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}', "not UTF-8"),
        (b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "nested too deep|not a list of tensors"),
        (b'{"a":{"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}}", "nested too deep"),
        (b'{"__metadata__":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "nested too deep|not a list of tensors"),
        (b'{"a":7}', "not a list of tensors"),
        (b'{"a":{"dtype":"F32","shape":[1]}}', "lacks its type"),
    ],
)
def test_a_damaged_header_is_refused(tmp_path: Path, header: bytes, says: str) -> None:
    import re

    assert re.search(says, why(tmp_path, with_header(header, bytes(4))))


@pytest.mark.parametrize("missing", [1, 8, 15, 16])
def test_a_truncated_file_is_called_incomplete(tmp_path: Path, missing: int) -> None:
    data = safetensors()
    said = why(tmp_path, data[:-missing])
    assert said == f"it is incomplete: {len(data) - missing:,} of {len(data):,} bytes are there"


def test_bytes_after_the_last_tensor_are_refused(tmp_path: Path) -> None:
    assert why(tmp_path, safetensors() + b"123") == "3 bytes follow its last tensor"


def placed(*places: tuple[str, list[int], list[int]]) -> bytes:
    header = {
        f"t{i}": {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        for i, (dtype, shape, offsets) in enumerate(places)
    }
    return with_header(json.dumps(header).encode(), bytes(16))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (placed(("F32", [2], [0, 8]), ("F32", [2], [4, 12])), "overlaps"),
        (placed(("F32", [2], [0, 8]), ("F32", [1], [12, 16])), "gap"),
        (placed(("F32", [2], [4, 12])), "gap"),
        (placed(("F32", [3], [0, 16])), "does not match its bytes"),
        (placed(("F32", [1 << 61, 1 << 61, 4], [0, 16])), "does not match its bytes"),
        (placed(("F32", [1 << 63], [0, 16])), "impossible shape|not a list"),
        (placed(("F32", [-4], [0, 16])), "impossible shape"),
        (placed(("F32", [1] * 100, [0, 4])), "impossible shape"),
        (placed(("F32", [4], [16, 0])), "does not match"),
        (placed(("F33", [4], [0, 16])), "unknown number type “F33”"),
    ],
)
def test_tensors_that_do_not_lie_end_to_end_are_refused(tmp_path: Path, data: bytes, says: str) -> None:
    import re

    assert re.search(says, why(tmp_path, data))


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    one = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    assert why(tmp_path, with_header(b"{" + one + b"," + one + b"}", bytes(4))) == "it has two tensors named “a”"


def test_a_tensor_may_be_named_like_a_key_of_the_header(tmp_path: Path) -> None:
    data = safetensors({"data_offsets": ("F32", [1], 4)}, {"x": '"data_offsets"'})
    assert isinstance(read(tmp_path, data), SafetensorsHeader)


@pytest.mark.parametrize("name", ["a\x00b", "x" * 1_000_000, "bell\x07"])
def test_names_with_controls_or_of_a_megabyte_are_refused(tmp_path: Path, name: str) -> None:
    said = why(tmp_path, safetensors({name: ("F32", [1], 4)}))
    assert "not one a model would use" in said
    assert len(said) < 200
    assert said.isprintable()


def test_a_name_with_dots_and_slashes_is_only_a_name(tmp_path: Path) -> None:
    assert isinstance(read(tmp_path, safetensors({"../../etc/passwd": ("F32", [1], 4)})), SafetensorsHeader)


class Marker:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (self.path, "w"))


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_under_this_name_is_refused_and_not_opened(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "made"
    looked = read(tmp_path, pickle.dumps(Marker(marker), protocol))
    assert isinstance(looked, Broken)
    if protocol >= 2:  # older ones have no magic; they are not safetensors and that is all that is said
        assert (looked.code, "pickle" in looked.why) == ("model_refused", True)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
        (b"\n  <html lang=en>", "a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "error message of a server"),
        (b'{"error":"Repository not found"}', "error message of a server"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "a git-lfs pointer"),
        (b"PK\x03\x04" + bytes(20) + b"archive/data.pkl", "a pickle"),
        (b"PK\x03\x04" + bytes(40), "a zip archive"),
        (b"\x1f\x8b\x08" + bytes(40), "a compressed archive"),
        (bytes(64), "not a safetensors file"),
    ],
)
def test_something_else_under_this_name_is_called_what_it_is(tmp_path: Path, data: bytes, says: str) -> None:
    assert says in why(tmp_path, data)


def test_a_header_of_640_bytes_is_not_taken_for_a_pickle(tmp_path: Path) -> None:
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    data = with_header(header.ljust(0x0280), bytes(4))
    assert data[:2] == b"\x80\x02"
    assert isinstance(read(tmp_path, data), SafetensorsHeader)


def test_a_missing_file_a_folder_and_a_pipe_are_told_apart(tmp_path: Path) -> None:
    import os

    missing = read_safetensors(tmp_path / "none.safetensors")
    assert isinstance(missing, Broken)
    assert missing.code == "model_missing"
    os.mkfifo(tmp_path / "pipe")  # opening it for reading would wait for ever
    for path in (tmp_path, tmp_path / "pipe"):
        assert read_safetensors(path) == Broken("it is not a regular file", "Give the file of a model.")


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        ("F16", struct.pack("<e", 65504.0), struct.pack("<e", float("nan"))),
        ("BF16", b"\x7f\x7f", b"\x80\x7f"),
        ("F32", struct.pack("<f", 3.3e38), struct.pack("<f", float("-inf"))),
    ],
)
def test_weights_that_are_not_numbers_are_noticed(tmp_path: Path, dtype: str, good: bytes, bad: bytes) -> None:
    path = tmp_path / "x.safetensors"
    for last, noticed in ((good, False), (bad, True)):
        data = safetensors({"w": (dtype, [8], 8 * len(good))})
        path.write_bytes(data[: -8 * len(good)] + good * 7 + last)
        header = read_safetensors(path)
        assert isinstance(header, SafetensorsHeader)
        assert ("not numbers" in suspicious_weights(path, header)) == noticed


@given(st.binary(max_size=400))
def test_any_bytes_get_an_answer(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    assert isinstance(read(folder, data), Broken | SafetensorsHeader)
    assert isinstance(read(folder, with_header(b"{" + data)), Broken | SafetensorsHeader)


@given(st.data())
def test_a_sound_file_with_changed_bytes_gets_an_answer(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(safetensors({"a": ("F16", [2, 3], 12), "b": ("I64", [1], 8)}, {"format": "pt"}))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    assert isinstance(read(tmp_path_factory.getbasetemp(), bytes(whole)), Broken | SafetensorsHeader)
