"""Section A of docs/faults.md: files of models as a user meets them. All are looked at in the process made for it.

What is in the models folder comes through `registry.found`, and the same paths through `registry.examine`; what happens
while a model runs goes through a real session with real workers.
"""

from __future__ import annotations

import json
import os
import pickle
import runpy
import shutil
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from studio.app.session import Session
from studio.core.cards import Broken
from studio.core.events import Again, EndEvent, Event, Failed, Finished, Progress
from studio.core.jobs import ENDED
from studio.core.paths import Paths, assets_folder
from studio.core.problems import ModelBroken, ModelRefused, ModelUnfit, StudioError
from studio.core.recipes import check
from studio.core.works import Change
from studio.engines.text import templates
from studio.models import looking, registry
from tests.engines.text import tiny_gguf
from tests.faults import model_reader
from tests.faults.tools import until
from tests.models.makers import (
    diffusers,
    edit_json,
    gguf,
    gguf_of,
    onnx,
    safetensors,
    setting,
    tensor,
    text,
    voice,
    with_header,
    write_json,
)  # fmt: skip
from tests.models.test_gguf_header import huge

HUGE = 2**63


@pytest.fixture(autouse=True)
def _never_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file of these tests is read in the studio's own process."""

    def here(*args: object) -> None:
        raise AssertionError("a strange file was read in the studio's process")

    readers = """
        safetensors_header.read_safetensors gguf_header.read_gguf gguf_model.read_gguf piper_voice.read_onnx
        diffusers_folder.read_safetensors diffusers_folder.read_json_object piper_voice.read_json_object
        identify.head_of identify.read_json_object identify.read_safetensors about.read_json_object
        tokenizer_files.read_json_object additions.read_onnx additions.read_onnx_shapes additions.read_json_object
    """
    for place in readers.split():
        monkeypatch.setattr(f"studio.models.{place}", here)


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """A file that is there if, and only if, code out of a model has run."""
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "code out of a model has run"


def answers(paths: Paths, files: dict[str, bytes], folder: str = "") -> dict[str, Broken]:
    """Put files into the models folder, look for models, and say why each file is none.

    Asking for one of them by its path gives the same answer, as an error.
    """
    place = paths.models / folder
    place.mkdir(exist_ok=True)
    for name, data in files.items():
        (place / name).write_bytes(data)
    return unusable(paths, *(place / name for name in files))


def unusable(paths: Paths, *made: Path) -> dict[str, Broken]:
    """Why each of these paths in the models folder cannot be used."""
    broken = dict(registry.found(paths)[1])
    said = {path.name: broken[path] for path in made}
    assert len(said) == len(made)
    last = made[-1]
    with pytest.raises(StudioError) as caught:
        registry.examine(last)
    assert said[last.name].why in caught.value.problem.sentence
    assert said[last.name].code == caught.value.code
    return said


def every_one_says(said: dict[str, Broken], words: str, code: str = "model_broken") -> None:
    for name, broken in said.items():
        assert words in broken.why, name
        assert broken.code == code, name
        assert broken.hint, name


# -- safetensors ------------------------------------------------------------------------------------------------------


def test_a_safetensors_file_of_a_few_bytes_is_no_model(paths: Paths) -> None:
    said = answers(paths, {f"{n}.safetensors": safetensors()[:n] for n in range(8)})
    every_one_says(said, "it is not a model: it holds ")
    assert said["0.safetensors"].why.endswith("nothing")
    assert said["7.safetensors"].why.endswith("7 bytes")


def test_a_header_that_claims_more_than_there_is_is_refused(paths: Paths) -> None:
    brace = b"{" + bytes(100)
    said = answers(
        paths,
        {
            "absurd.safetensors": struct.pack("<Q", 2**64 - 1) + brace,
            "large.safetensors": struct.pack("<Q", 101_000_000) + brace,
            "beyond.safetensors": struct.pack("<Q", 2_000_000) + brace,
        },
    )
    assert "claims 18,446,744,073,709,551,615 bytes" in said["absurd.safetensors"].why
    assert "claims 101,000,000 bytes" in said["large.safetensors"].why
    assert said["beyond.safetensors"].why == "it is incomplete: 109 of 2,000,008 bytes are there"


def test_a_header_of_101_mb_that_is_all_there_is_not_read(paths: Paths, small: None) -> None:
    path = paths.models / "large.safetensors"
    path.write_bytes(struct.pack("<Q", 101_000_000) + b"{")
    os.truncate(path, 200_000_000)
    assert "claims 101,000,000 bytes" in unusable(paths, path)[path.name].why


def test_a_header_that_is_no_list_of_tensors_is_refused(paths: Paths) -> None:
    said = answers(
        paths,
        {
            "words.safetensors": with_header(b"{hello there}"),
            "list.safetensors": with_header(b'{"a": [1, 2]}'),
            "bytes.safetensors": with_header(b'{"\xff\xfe": {}}'),
            "deep.safetensors": with_header(b'{"a":' * 20_000 + b"1" + b"}" * 20_000),
            "deep too.safetensors": with_header(b'{"__metadata__":' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
        },
    )
    assert "not UTF-8 text" in said["bytes.safetensors"].why
    every_one_says(said, "its header is ")


def _tensors(**entries: Any) -> bytes:
    return with_header(json.dumps(entries).encode(), bytes(16))


def _entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_tensors_that_cannot_be_are_refused(paths: Paths) -> None:
    said = answers(
        paths,
        {
            "trailing.safetensors": safetensors() + b"more",
            "overlap.safetensors": _tensors(a=_entry([3], 0, 12), b=_entry([2], 8, 16)),
            "hole.safetensors": _tensors(a=_entry([1], 0, 4), b=_entry([2], 8, 16)),
            "shape.safetensors": _tensors(a=_entry([2**31, 2**31, 2**31], 0, 16)),
            "wraps.safetensors": _tensors(a=_entry([2**62 + 1, 4], 0, 16)),
            "type.safetensors": _tensors(a=_entry([4], 0, 16, "F33")),
        },
    )
    for name, words in {
        "trailing": "4 bytes follow its last tensor", "overlap": "overlaps the one before it",
        "hole": "leaves a gap before it", "shape": "does not match its bytes", "wraps": "", "type": "type “F33”",
    }.items():  # fmt: skip
        assert words in said[f"{name}.safetensors"].why


def test_names_of_tensors_are_held_to_what_a_model_would_use(paths: Paths) -> None:
    said = answers(
        paths,
        {
            "nul.safetensors": _tensors(**{"a\0b": _entry([4], 0, 16)}),
            "long.safetensors": _tensors(**{"x" * 1_000_000: _entry([4], 0, 16)}),
            "half.safetensors": _tensors(**{"a\ud800": _entry([4], 0, 16)}),
            "nul.gguf": gguf_of([setting("general.architecture", "llama")], [tensor("a\0b", [8], 0, 0)], 64),
            # a name with a path in it is a name, and nothing is ever written under it
            "up.safetensors": _tensors(**{"../../../up": _entry([4], 0, 16)}),
            "lora.safetensors": _tensors(**{"lora_unet_../../up": _entry([4], 0, 16)}),
        },
    )
    for name in ("nul", "long"):
        assert "is not one a model would use" in said[f"{name}.safetensors"].why
        assert len(said[f"{name}.safetensors"].why) < 200
        assert "\0" not in said[f"{name}.safetensors"].why
    assert said["half.safetensors"].code == "model_broken"
    assert "\0" not in said["nul.gguf"].why and "no name or a used one" in said["nul.gguf"].why
    assert said["up.safetensors"].code == said["lora.safetensors"].code == "model_unfit"
    assert "it is a LoRA" in said["lora.safetensors"].why


# -- half, and something else -----------------------------------------------------------------------------------------


def test_half_a_download_is_called_incomplete_with_both_sizes(paths: Paths) -> None:
    whole = {"a.gguf": gguf(), "b.safetensors": safetensors(), "c.onnx": onnx()}
    said = answers(paths, {name: data[:-3] for name, data in whole.items()})
    for name, data in whole.items():
        assert said[name].why == f"it is incomplete: {len(data) - 3:,} of {len(data):,} bytes are there"
        assert said[name].hint == "Copy or download it again."
    folder = diffusers(paths.models / "birds")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    os.truncate(weights, weights.stat().st_size - 3)
    assert f"unet/{weights.name} is unusable: it is incomplete" in unusable(paths, folder)["birds"].why


ENDINGS = ("safetensors", "gguf", "onnx")
PAGE = b"<!DOCTYPE html>\n<html><body><h1>404</h1></body></html>" * 20
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%b\nsize 240000000\n" % (b"0" * 64)


def test_a_web_page_or_a_pointer_under_the_name_of_a_model_is_called_that(paths: Paths) -> None:
    every_one_says(answers(paths, {f"page.{e}": PAGE for e in ENDINGS}), "it is a web page, not a model")
    every_one_says(answers(paths, {f"lfs.{e}": POINTER for e in ENDINGS}), "it is a git-lfs pointer")
    folder = diffusers(paths.models / "birds")
    (folder / "unet" / "config.json").write_bytes(PAGE)
    assert "its config.json is something else: it is a web page" in unusable(paths, folder)["birds"].why


class _Touches:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_a_pickle_under_any_name_is_refused_and_not_opened(paths: Paths, marker: Path, tmp_path: Path) -> None:
    # it would: this is what opening it does
    pickle.loads(pickle.dumps(_Touches(tmp_path / "control"))).close()
    assert (tmp_path / "control").exists()
    names = [f"p{p}.{e}" for p in range(6) for e in ENDINGS]
    said = answers(paths, {name: pickle.dumps(_Touches(marker), int(name[1])) for name in names})
    for name, broken in said.items():
        if int(name[1]) >= 2:  # older ones have no mark, but are no model either
            assert broken.code == "model_refused", name
            assert "opening a pickle can run any program" in broken.why
    folder = diffusers(paths.models / "birds")
    for inside in ("unet/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer.json", "unet/config.json"):
        (folder / inside).write_bytes(pickle.dumps(_Touches(marker)))
        assert unusable(paths, folder)["birds"].why
    sound = voice(paths.models / "voices")
    sound.with_name("anna.onnx.json").write_bytes(pickle.dumps(_Touches(marker)))
    assert unusable(paths, sound)["anna.onnx"].code == "model_refused"


def test_formats_that_are_programs_are_refused_with_the_way_to_convert(paths: Paths, marker: Path) -> None:
    endings = ("ckpt", "pt", "pth", "bin", "pkl")
    said = answers(paths, {f"m.{e}": pickle.dumps(_Touches(marker)) for e in endings})
    every_one_says(said, "files are pickles, and opening a pickle can run any program", "model_refused")
    assert all("safe_serialization=True" in broken.hint for broken in said.values())
    folder = diffusers(paths.models / "birds")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(_Touches(marker)))
    assert unusable(paths, folder)["birds"].code == "model_refused"


# -- GGUF -------------------------------------------------------------------------------------------------------------


def test_gguf_of_another_kind_version_or_byte_order_is_refused(paths: Paths) -> None:
    said = answers(
        paths,
        {
            "magic.gguf": b"GGML" + gguf()[4:],
            "0.gguf": gguf_of([], [], 64, 0),
            "1.gguf": gguf_of([], [], 64, 1),
            "99.gguf": gguf_of([], [], 64, 99),
            "big.gguf": gguf_of([], [], 64, 3, ">"),
        },
    )
    for name, words in {"magic": "not a GGUF file", "0": "version 0", "1": "version 1, which no current program reads",
                        "99": "version 99", "big": "big-endian"}.items():  # fmt: skip
        assert words in said[f"{name}.gguf"].why


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that looks has 32 MB to read with."""
    monkeypatch.setattr(looking, "command", lambda: model_reader.LITTLE)
    monkeypatch.setattr(looking, "LOOK_SECONDS", 5.0)


def test_gguf_with_counts_and_lengths_of_2_to_63_is_refused_in_little_memory_and_time(
    paths: Paths, small: None
) -> None:
    said = answers(paths, {f"{name}.gguf": data for name, data in huge().items()})
    assert len(said) >= 12
    for name, broken in said.items():
        assert "looking at it" not in broken.why, name  # neither the memory nor the time ran out
        assert broken.code == "model_broken"
    # and the memory is little: a reader that takes what it likes does not get it
    (paths.models / "grow.gguf").write_bytes(model_reader.ODD + b"take 200")
    assert unusable(paths, paths.models / "grow.gguf")["grow.gguf"].why == "looking at it needed too much memory"


def test_gguf_with_counts_that_fit_a_sparse_file_is_walked_in_little_memory(paths: Paths, small: None) -> None:
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a")
    made = []
    claims = {"list": (9, 8, 200_000_000), "text": (8, 1_500_000_000), "numbers": (9, 4, 400_000_000)}
    for name, claim in claims.items():
        made.append(paths.models / f"{name}.gguf")
        form = "<IIQ" if len(claim) == 3 else "<IQ"
        made[-1].write_bytes(head + struct.pack(form, *claim))
        os.truncate(made[-1], 2_000_000_000)
    for name, broken in unusable(paths, *made).items():
        assert "looking at it" not in broken.why, name


def test_gguf_tensors_that_cannot_be_are_refused(paths: Paths) -> None:
    whole = [setting("general.architecture", "llama")]
    said = answers(
        paths,
        {
            "offset.gguf": gguf_of(whole, [tensor("a", [8], 0, HUGE)], 64),
            "size.gguf": gguf_of(whole, [tensor("a", [2**40], 0, 0)], 64),
            "overlap.gguf": gguf_of(whole, [tensor("a", [16], 0, 0), tensor("b", [8], 0, 32)], 96),
            "dimensions.gguf": gguf_of(whole, [tensor("a", [1] * 100, 0, 0)], 64),
            "type.gguf": gguf_of(whole, [tensor("a", [8], 99, 0)], 64),
        },
    )
    for name, words in {"offset": "leaves a gap", "size": "of 4,398,046,511", "overlap": "overlaps the one before it",
                        "dimensions": "100 dimensions", "type": "unknown type 99"}.items():  # fmt: skip
        assert words in said[f"{name}.gguf"].why


# -- code in settings -------------------------------------------------------------------------------------------------

CODE = "open({marker!r}, 'w').close()\nclass Net: pass\n"
Damage = Callable[[Path], object]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: edit_json(f / "unet" / "config.json", auto_map={"AutoModel": "net.Net"}), "“auto_map”"),
        (lambda f: edit_json(f / "text_encoder" / "config.json", text_config={"auto_map": {"A": "net.Net"}}), "auto_m"),
        (lambda f: edit_json(f / "vae" / "config.json", _attn_implementation_internal="a/b"), "_attn_implementation"),
        (lambda f: edit_json(f / "tokenizer" / "tokenizer_config.json", trust_remote_code=True), "trust_remote_code"),
        (lambda f: edit_json(f / "model_index.json", _class_name=["net", "Net"]), "a pipeline of its own"),
        (lambda f: edit_json(f / "model_index.json", unet=["net", "Net"]), "“net.Net”"),
        (lambda f: shutil.copy(f / "net.py", f / "unet" / "net.py"), "brings a program along"),
    ],
    ids=["auto_map", "inner auto_map", "attention", "trust", "pipeline", "library", "file"],
)
def test_a_folder_that_asks_to_run_its_code_is_refused_and_none_runs(
    paths: Paths, marker: Path, tmp_path: Path, change: Damage, says: str
) -> None:
    folder = diffusers(paths.models / "birds")
    (folder / "net.py").write_text(CODE.format(marker=str(marker)))
    change(folder)
    said = unusable(paths, folder)["birds"]
    assert says in said.why
    assert said.code == "model_refused"
    with Session(paths) as session, pytest.raises(ModelRefused, match="birds"):
        session.submit(check("image", {"prompt": "x", "model": str(folder), "seed": 1}).recipe)


def test_that_code_would_have_run(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(CODE.format(marker=str(tmp_path / "made")))
    runpy.run_path(str(tmp_path / "net.py"))
    assert (tmp_path / "made").exists()


def test_a_transformers_folder_with_code_is_refused_and_none_runs(paths: Paths, marker: Path) -> None:
    folder = paths.models / "writer"
    write_json(folder / "config.json", {"model_type": "x", "auto_map": {"AutoModelForCausalLM": "net.Net"}})
    (folder / "net.py").write_text(CODE.format(marker=str(marker)))
    every_one_says(unusable(paths, folder), "asks to run code that comes with the model", "model_refused")


# -- tokenizers, shards, copies, kinds --------------------------------------------------------------------------------


def test_a_tokenizer_that_is_missing_damaged_or_of_another_model_is_named(paths: Paths) -> None:
    json_ = ("tokenizer", "tokenizer.json")
    changes: dict[str, tuple[Damage, str]] = {
        "missing": (lambda f: (f.joinpath(*json_)).unlink(), "tokenizer/tokenizer.json is missing"),
        "size": (lambda f: edit_json(f / "text_encoder" / "config.json", vocab_size=2), "3 tokens, but its text_en"),
        "merges": (
            lambda f: edit_json(f.joinpath(*json_), model={"type": "BPE", "vocab": {"a": 0}, "merges": []}),
            "has no merges",
        ),
        "empty": (lambda f: edit_json(f.joinpath(*json_), model={"type": "BPE", "vocab": {}}), "has no tokens"),
        "damaged": (lambda f: f.joinpath(*json_).write_text("{"), "is damaged"),
    }  # fmt: skip
    for name, (change, _) in changes.items():
        change(diffusers(paths.models / name))
    said = unusable(paths, *(paths.models / name for name in changes))
    for name, (_, words) in changes.items():
        assert words in said[name].why
    texts = answers(
        paths,
        {
            "none.gguf": gguf(tokenizer__ggml__model=None),
            "size.gguf": gguf(tokens=8, embedded=9),
            "merges.gguf": gguf(tokenizer__ggml__model="gpt2"),
        },
    )
    says = {"none": "tokenizer is missing", "size": "8 tokens and its weights 9", "merges": "no merges"}
    for name, words in says.items():
        assert words in texts[f"{name}.gguf"].why


def test_a_missing_shard_is_named_and_an_index_stays_in_its_folder(paths: Paths, tmp_path: Path) -> None:
    names = [f"diffusion_pytorch_model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    outside = paths.models / "outside.safetensors"
    for name, places in {"two": names, "up": [names[0], "../../outside.safetensors"], "root": [str(outside)]}.items():
        unet = diffusers(paths.models / name) / "unet"
        (unet / "diffusion_pytorch_model.safetensors").unlink()
        for file in (names[0], names[2]):
            (unet / file).write_bytes(safetensors())
        write_json(
            unet / "diffusion_pytorch_model.safetensors.index.json",
            {"weight_map": {f"t{i}": place for i, place in enumerate(places)}},
        )
    outside.write_bytes(safetensors())
    said = unusable(paths, *(paths.models / name for name in ("two", "up", "root")))
    assert said["two"].why == f"its file unet/{names[1]} is missing"
    for name in ("up", "root"):
        assert "points outside its folder" in said[name].why
        assert said[name].code == "model_refused"
    part = answers(paths, {"big-00001-of-00002.gguf": gguf(split__count=2, split__no=0)})
    every_one_says(part, "part 2 of 2 is missing: big-00002-of-00002.gguf")


def test_the_same_model_twice_is_listed_once_also_under_a_name_in_capitals(paths: Paths, tmp_path: Path) -> None:
    (paths.models / "writer.gguf").write_bytes(gguf())
    shutil.copy(paths.models / "writer.gguf", paths.models / "WRITER.GGUF")
    copy = tmp_path / "elsewhere.gguf"
    shutil.copy(paths.models / "writer.gguf", copy)
    with Session(paths) as session:
        added = session.add_model(copy)
        listed = [card for card in session.models() if card.kind == "text" and card.source != "starter"]
    assert len(listed) == 1
    assert added.id == listed[0].id


def test_a_model_of_another_kind_or_for_another_one_is_called_what_it_is(paths: Paths) -> None:
    path = voice(paths.models)
    with Session(paths) as session:
        for model in (str(path), session.add_model(path).id):
            with pytest.raises(ModelUnfit, match="“anna” is a voice, not a text model"):
                session.submit(check("text", {"prompt": "x", "model": model}).recipe)
    said = answers(
        paths,
        {
            "flux.gguf": gguf(general__architecture="flux"),
            "adapter.gguf": gguf(general__type="adapter"),
            "lora.safetensors": safetensors({"lora_unet_x": ("F32", [1], 4)}),
        },
    )
    for name, words in {"flux.gguf": "a picture model, not a text model", "adapter.gguf": "an adapter of another kind",
                        "lora.safetensors": "it is a LoRA"}.items():  # fmt: skip
        assert words in said[name].why
        assert said[name].code == "model_unfit"


# -- readers that go wrong --------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="limits of processes")
def test_a_reader_that_crashes_loops_or_grows_costs_its_file_only(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "command", lambda: model_reader.COMMAND)
    monkeypatch.setattr(looking, "LOOK_SECONDS", 2.0)
    (paths.models / "a.gguf").write_bytes(gguf())
    diffusers(paths.models / "z")
    with Session(paths) as session:
        before = {child.pid for child in psutil.Process().children()}
        for what in ("crash", "abort", "loop", "grow", "raise"):
            (paths.models / f"{what}.gguf").write_bytes(model_reader.ODD + what.encode())
        problems = {path.stem: problem for path, problem in session.broken_models()}
        assert {card.name for card in session.models() if card.source == "data"} == {"a", "z"}
        assert problems["crash"].sentence == "crash.gguf: looking at it ended its reader (SIGSEGV)."
        assert "SIGABRT" in problems["abort"].sentence
        assert problems["loop"].sentence == "loop.gguf: looking at it took more than 2 seconds."
        assert problems["grow"].sentence == "grow.gguf: looking at it needed too much memory."
        assert "KeyError" in problems["raise"].sentence
        with pytest.raises(ModelBroken, match=r"ended its reader \(SIGSEGV\)"):
            session.add_model(paths.models / "crash.gguf")
        assert {child.pid for child in psutil.Process().children()} == before


# -- while they run ---------------------------------------------------------------------------------------------------


class Running(Session):
    """The real session with the real engines, and what it told."""

    def __init__(self, paths: Paths) -> None:
        self.told: list[Event | Change] = []
        super().__init__(paths)
        self.subscribe(self.told.append)

    def start(self, kind: str, **given: Any) -> str:
        return self.submit(check(kind, {"seed": 1, **given}).recipe).id

    def end(self, job: str) -> EndEvent:
        found = self.wait(job, 120)
        assert found is not None, "the job did not end"
        return found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One for all: its workers need seconds to start, and every test leaves it able to work."""
    paths = Paths(tmp_path_factory.mktemp("running") / "home")
    made = Running(paths)
    yield made
    made.close()


BAD_TEMPLATES = {
    "endless": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "huge": "{{ 'x' * 10**11 }}",
    "escape": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "file": "{% include '/etc/passwd' %}{{ lipsum.__globals__.os.system('true') }}",
}


def test_a_template_that_loops_grows_or_escapes_is_replaced_by_a_plain_one(running: Running) -> None:
    for name, template in BAD_TEMPLATES.items():
        tiny_gguf.write(running.paths.models / f"{name}.gguf", template, seed=len(name))
    for name in BAD_TEMPLATES:
        job = running.start("text", prompt="Hi", mode="chat", template="model", max_tokens=2, model=name)
        ended = running.end(job)
        assert isinstance(ended, Finished), (name, ended)
        assert len(ended.works) == 1
        note = " ".join(ended.notes)
        assert "The model's own chat template cannot be used:" in note, name
        assert note.endswith("A plain one was taken."), name
        # by the clock, and not by the end of what it does
        assert (f"within {templates.RENDER_SECONDS:g} s" in note) == (name == "endless"), note
    assert templates.RENDER_SECONDS == 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_template_that_uses_no_processor_time_has_its_two_seconds_too() -> None:
    renderer = templates.Renderer()
    try:
        assert renderer.render("{{ messages[0] }}", [{"content": "x"}])
        assert renderer._process is not None
        os.kill(renderer._process.pid, signal.SIGSTOP)  # the limit of processor time does not end it
        began = time.monotonic()
        with pytest.raises(templates.TemplateFailed, match="not done within 2 s"):
            renderer.render("x", [])
        assert time.monotonic() - began < 20
    finally:
        renderer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="limits of processes")
def test_what_renders_templates_can_write_no_file() -> None:
    renderer = templates.Renderer()
    try:
        renderer.render("x", [])
        assert renderer._process is not None
        limits = Path(f"/proc/{renderer._process.pid}/limits").read_text()
    finally:
        renderer.close()
    (size,) = [line.split()[3:5] for line in limits.splitlines() if line.startswith("Max file size")]
    assert size == ["0", "0"]


STARTER = assets_folder() / "models" / "starter-image"
SMALL = {"prompt": "red apple", "width": 64, "height": 64}


def _starter_copy(folder: Path, change: Callable[[Any], Any]) -> Path:
    """The starter picture model with other numbers in its network: `change` is given them all as float16."""
    import numpy

    shutil.copytree(STARTER, folder)
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    data = file.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    numbers = change(numpy.frombuffer(data, numpy.float16, offset=8 + length))
    wide = numbers.dtype == numpy.float32
    for name, entry in header.items():
        if name != "__metadata__" and wide:
            entry.update(dtype="F32", data_offsets=[2 * offset for offset in entry["data_offsets"]])
    file.write_bytes(with_header(json.dumps(header).encode(), numbers.tobytes()))
    return folder


def test_weights_that_are_not_numbers_are_noted_and_make_no_black_picture(running: Running) -> None:
    def spoiled(numbers: Any) -> Any:
        numbers = numbers.copy()
        numbers[::50] = float("nan")
        return numbers

    model = _starter_copy(running.paths.models / "spoiled", spoiled)
    (card,) = [card for card in running.models() if card.path == str(model)]
    assert any("some weights are not numbers" in note for note in card.notes)
    ended = running.end(running.start("image", model=card.id, steps=2, **SMALL))
    assert isinstance(ended, Failed), ended
    assert "not finite" in ended.problem.sentence
    assert running.works(kind="image") == []


@pytest.mark.skipif(sys.platform != "linux", reason="signals and /proc")
def test_weights_that_go_away_under_a_worker_cost_its_job_and_nothing_else(running: Running) -> None:
    # In 32 bits: the libraries compute with such weights where they lie in the file, and copy those of 16 bits.
    model = _starter_copy(running.paths.models / "mapped", lambda numbers: numbers.astype("float32"))
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"

    def on_its_way(event: object) -> bool:
        return isinstance(event, Failed) or (isinstance(event, Progress) and event.done >= 1)

    def begun(steps: int) -> tuple[str, int]:
        """A job that is on its way through the network, and its worker."""
        job = running.start("image", model=str(model), steps=steps, **SMALL)
        until(lambda: any(on_its_way(event) for event in running.told if getattr(event, "job", "") == job), 90)
        assert running.job(job).state not in ENDED, running.told[-1]
        (pid,) = [pid for lane, _, pid in running.workers() if lane == "image"]
        assert str(weights) in Path(f"/proc/{pid}/maps").read_text(), "they are not read from the file"
        return job, pid

    # 1. deleted: the kernel keeps what is mapped, the job is done, and the next one is told what is missing
    job, pid = begun(3)
    kept = weights.with_name("kept")
    os.link(weights, kept)
    weights.unlink()
    assert isinstance(running.end(job), Finished)
    with pytest.raises(ModelBroken, match="mapped"):
        running.start("image", model=str(model), **SMALL)
    kept.rename(weights)

    # 2. cut short: touching the rest ends the process; the job begins once more, and then the file itself is named
    job, pid = begun(200)
    os.truncate(weights, 10)
    ended = running.end(job)
    assert isinstance(ended, Failed), ended
    assert ["SIGBUS" in event.why for event in running.told if isinstance(event, Again) and event.job == job] == [True]
    assert ended.problem.code == "model_broken"
    assert "is incomplete: unet/diffusion_pytorch_model.safetensors has 10 of" in ended.problem.sentence
    assert not psutil.pid_exists(pid)
    with pytest.raises(ModelBroken, match="incomplete"):
        running.start("image", model=str(model), **SMALL)

    # 3. the studio is there, and another model makes its picture
    assert isinstance(running.end(running.start("image", steps=1, model="starter-128", **SMALL)), Finished)
