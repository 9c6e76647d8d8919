"""Bad input gets a sentence and an exit code; nothing is lost, and no traceback is shown."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Studio


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("text", ""), "bad_recipe", "empty"),
        (("image", " \n "), "bad_recipe", "empty"),
        (("speak",), "bad_recipe", "empty"),
        (("image", "x", "--width", "100"), "bad_recipe", "multiple of 8"),
        (("image", "x", "--width", "9"), "bad_recipe", "from 16"),
        (("image", "x", "--height", "999999"), "bad_recipe", "8,192"),
        (("image", "x", "--guidance", "nan"), "bad_recipe", "not nan"),
        (("text", "x", "--temperature", "inf"), "bad_recipe", "not inf"),
        (("text", "x", "--seed", "-1"), "bad_recipe", "Seed"),
        (("text", "x", "--seed", "99999999999"), "bad_recipe", "Seed"),
        (("image", "x", "--steps", "many"), "usage", "whole number"),
        (("image", "x", "--scheduler", "magic"), "usage", "invalid choice"),
        (("text", "x", "--model", "no-such-model"), "model_missing", "no-such-model"),
        (("text", "x", "--model", "/nowhere/model.gguf"), "model_missing", "no file or folder"),
        (("text", "x", "--model", "joe-en-us"), "model_unfit", "voice"),
        (("speak", "x", "--voice", "gemma-3-270m"), "model_unfit", "not a voice"),
        (("redo", "wnone"), "not_found", "wnone"),
        (("export", "wnone", "--to", "x.png"), "not_found", "wnone"),
        (("nonsense",), "usage", "nonsense"),
        (("text", "x", "--colour", "red"), "usage", "colour"),
    ],
)
def test_a_wrong_command_is_answered_with_a_sentence(
    studio: Studio, words: tuple[str, ...], code: str, says: str
) -> None:
    problem = studio.problem(*words)
    assert problem["code"] == code, problem
    assert says in problem["sentence"], problem


@pytest.mark.parametrize("verb", ["text", "image", "speak"])
def test_ten_megabytes_of_prompt_are_refused_with_the_limit(studio: Studio, verb: str) -> None:
    problem = studio.problem(verb, "-", stdin=b"word " * 2_000_000)
    assert problem["code"] == "bad_recipe"
    assert "10,000,000 characters" in problem["sentence"]


def test_a_prompt_longer_than_the_context_is_refused_with_numbers(studio: Studio) -> None:
    problem = studio.problem("text", "-", stdin=b"word " * 50_000)
    assert problem["code"] == "bad_recipe"
    assert "tokens" in problem["sentence"]


def test_bytes_that_are_no_text_do_not_end_in_a_traceback(studio: Studio) -> None:
    made = studio.json("speak", "-", "--seed", "1", stdin=b"Hello \xff\xfe there.")
    assert "Hello" in made["works"][0]["recipe"]["text"]


def _models(folder: Path) -> dict[str, tuple[Path, str]]:
    marker = folder / "marker"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {marker}",)

    (folder / "evil.ckpt").write_bytes(pickle.dumps(Evil()))
    (folder / "evil.gguf").write_bytes(pickle.dumps(Evil()))
    (folder / "empty.gguf").write_bytes(b"")
    (folder / "short.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    (folder / "page.gguf").write_bytes(b"<!DOCTYPE html><html><body>Not found</body></html>" * 20)
    return {
        "evil.ckpt": (folder / "evil.ckpt", "model_refused"),
        "evil.gguf": (folder / "evil.gguf", ""),
        "empty.gguf": (folder / "empty.gguf", "model_broken"),
        "short.gguf": (folder / "short.gguf", "model_broken"),
        "page.gguf": (folder / "page.gguf", ""),
    }


def test_broken_models_and_pickles_are_refused_with_the_reason(studio: Studio, tmp_path: Path) -> None:
    for name, (path, code) in _models(tmp_path).items():
        problem = studio.problem("text", "x", "--model", str(path))
        assert problem["code"] in (code, *(("model_broken", "model_refused") if not code else ())), (name, problem)
    assert not (tmp_path / "marker").exists(), "no pickle was opened"


def test_a_picture_folder_without_its_weights_is_refused_before_anything_loads(studio: Studio, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(ROOT / "assets" / "models" / "starter-image", tmp_path / "model")
    (tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    problem = studio.problem("image", "x", "--model", str(tmp_path / "model"))
    assert problem["code"] == "model_broken"
    assert "unet" in problem["sentence"]


def test_a_target_that_cannot_be_written_is_refused_and_the_work_stays(studio: Studio, tmp_path: Path) -> None:
    work = studio.json("speak", "Hi.", "--seed", "1")["works"][0]
    (tmp_path / "there.wav").write_text("precious")
    (tmp_path / "folder.wav").mkdir()
    for target in (tmp_path / "there.wav", tmp_path / "folder.wav", tmp_path / "no" / "x.wav", tmp_path / "x.png"):
        problem = studio.problem("export", work["id"], "--to", str(target))
        assert problem["sentence"], target
    assert (tmp_path / "there.wav").read_text() == "precious"
    assert Path(work["files"][0]).exists()


def test_a_home_that_cannot_be_written_is_a_sentence(studio: Studio, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ended = studio.run("works", STUDIO_HOME=str(tmp_path / "file"))
    assert ended.returncode == 1
    assert b"STUDIO_HOME" in ended.stderr
    assert b"Traceback" not in ended.stderr


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs to become another user")
def test_a_read_only_home_is_a_sentence(studio: Studio, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o555)
    tmp_path.chmod(0o755)
    ended = subprocess.run(
        ["setpriv", "--reuid", "65534", "--clear-groups", sys.executable, "-m", "studio", "works"],
        env={**os.environ, "STUDIO_HOME": str(home / "data"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
        cwd="/",
    )
    if b"No module named" in ended.stderr or (b"Permission denied" in ended.stderr and b"python" in ended.stderr):
        pytest.skip("the interpreter is not readable for other users here")
    assert ended.returncode == 1, ended.stderr
    assert b"cannot be used" in ended.stderr
