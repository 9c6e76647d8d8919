"""What scripts rely on: the commands, their JSON and their exit codes, with real models."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
import wave
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from tests.e2e.conftest import ROOT, Studio

TEXT = ("text", "Once upon a time", "--seed", "3", "--max-tokens", "12")
PICTURE = ("image", "red apple, flat style", "--seed", "3", "--steps", "4")
SPEECH = ("speak", "Hello there. Goodbye.", "--seed", "3")


@pytest.fixture(scope="module")
def works(studio: Studio) -> dict[str, dict[str, Any]]:
    made = {}
    for words in (TEXT, PICTURE, SPEECH):
        made[words[0]] = studio.json(*words)
    return made


def _digests(made: dict[str, Any]) -> list[str]:
    return [hashlib.sha256(Path(w["files"][0]).read_bytes()).hexdigest() for w in made["works"]]


def test_each_kind_prints_the_agreed_object(works: dict[str, dict[str, Any]]) -> None:
    for verb, kind in (("text", "text"), ("image", "image"), ("speak", "speech")):
        made = works[verb]
        assert made["job"].startswith("j")
        (work,) = made["works"]
        assert {"id", "kind", "files", "recipe", "seconds"} <= work.keys()
        assert work["kind"] == kind
        assert work["recipe"]["seed"] == 3
        assert len(work["recipe"]["made_with"]["model_sha256"]) == 64
        assert work["recipe"]["made_with"]["versions"]
        assert work["seconds"] > 0
        for file in work["files"]:
            assert Path(file).is_absolute()
            assert Path(file).stat().st_size > 0


def test_the_files_are_what_they_claim(works: dict[str, dict[str, Any]]) -> None:
    text, picture, sound = (Path(works[verb]["works"][0]["files"][0]) for verb in ("text", "image", "speak"))
    assert len(text.read_text("utf-8").split()) > 3
    with Image.open(picture) as image:
        assert image.size == (128, 128)
        assert len(set(image.convert("L").resize((16, 16)).tobytes())) > 8, "not one flat colour"
    with wave.open(str(sound)) as spoken:
        assert 1 < spoken.getnframes() / spoken.getframerate() < 6


@pytest.mark.parametrize("verb", ["text", "image", "speak"])
def test_redo_makes_the_same_again(studio: Studio, works: dict[str, dict[str, Any]], verb: str) -> None:
    first = works[verb]
    again = studio.json("redo", first["works"][0]["id"])
    assert again["job"] != first["job"]
    assert _digests(again) == _digests(first)
    assert again["works"][0]["recipe"] == first["works"][0]["recipe"]


def test_several_count_their_seeds_up_and_each_can_be_made_alone(studio: Studio) -> None:
    made = studio.json(*TEXT, "--n", "2")
    assert [w["recipe"]["seed"] for w in made["works"]] == [3, 4]
    assert [w["recipe"]["n"] for w in made["works"]] == [1, 1]
    first, second = _digests(made)
    assert first != second
    assert _digests(studio.json(*TEXT[:2], "--seed", "4", "--max-tokens", "12")) == [second]


@pytest.mark.parametrize(
    ("verb", "name", "magic"),
    [
        ("text", "story.txt", b""),
        ("text", "story.md", b"#"),
        ("image", "apple.png", b"\x89PNG"),
        ("image", "apple.jpg", b"\xff\xd8"),
        ("image", "apple.webp", b"RIFF"),
        ("speak", "voice.wav", b"RIFF"),
        ("speak", "voice.flac", b"fLaC"),
        ("speak", "voice.ogg", b"OggS"),
        ("speak", "voice.mp3", b""),
    ],
)
def test_works_are_exported_in_every_format(
    studio: Studio, works: dict[str, dict[str, Any]], tmp_path: Path, verb: str, name: str, magic: bytes
) -> None:
    target = tmp_path / name
    made = studio.json("export", works[verb]["works"][0]["id"], "--to", str(target))
    assert made["files"] == [str(target)]
    assert target.read_bytes().startswith(magic)
    assert target.stat().st_size > 10
    assert os.listdir(tmp_path) == [name], "nothing else is left there"


def test_lists_show_what_is_there(studio: Studio, works: dict[str, dict[str, Any]]) -> None:
    listed = studio.json("works", "--limit", "100")["works"]
    ids = [w["id"] for w in listed]
    assert all(made["works"][0]["id"] in ids for made in works.values())
    jobs = studio.json("jobs")["jobs"]
    assert {j["state"] for j in jobs} <= {"finished", "failed", "cancelled"}
    models = studio.json("models")
    assert {m["kind"] for m in models["models"]} == {"text", "image", "speech"}
    assert models["broken"] == []
    findings = studio.json("doctor")["findings"]
    assert all(f["good"] for f in findings), [f for f in findings if not f["good"]]


def test_a_prompt_is_read_from_standard_input_or_a_file(studio: Studio, tmp_path: Path) -> None:
    made = studio.json("speak", "-", "--seed", "1", stdin="Grüße.".encode())
    assert made["works"][0]["recipe"]["text"] == "Grüße."
    (tmp_path / "words.txt").write_text("Hi.", "utf-8")
    made = studio.json("speak", "--text-file", str(tmp_path / "words.txt"), "--seed", "1")
    assert made["works"][0]["recipe"]["text"] == "Hi."


def test_in_a_pipe_only_the_result_is_printed(studio: Studio) -> None:
    ended = studio.run(*TEXT)
    assert ended.returncode == 0
    assert b"\r" not in ended.stdout + ended.stderr
    assert b"\x1b" not in ended.stdout + ended.stderr
    ended = studio.run(*SPEECH)
    assert ended.stdout.decode().strip().endswith(".wav")
    assert ended.stderr == b""


def test_on_a_terminal_progress_is_drawn_and_ctrl_c_cancels_properly(studio: Studio) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "studio", "image", "a house", "--steps", "900"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
        env={**os.environ, "STUDIO_HOME": str(studio.home), "PYTHONPATH": str(ROOT), "TERM": "xterm"},
    )
    os.close(follower)
    drawn = b""
    deadline = time.monotonic() + 120
    while b"painting" not in drawn:
        assert time.monotonic() < deadline, drawn
        drawn += os.read(leader, 4096)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    process.send_signal(signal.SIGINT)
    while process.poll() is None:
        assert time.monotonic() < deadline
        try:
            drawn += os.read(leader, 4096)
        except OSError:  # the terminal closes with its last user
            break
    assert process.wait(60) == 130
    os.close(leader)
    assert b"Traceback" not in drawn
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []
    last = studio.json("jobs", "--limit", "1")["jobs"][0]
    assert last["state"] == "cancelled"


def test_the_text_written_before_a_cancel_is_kept_and_marked(studio: Studio) -> None:
    from studio.app.session import Session
    from studio.core.events import Cancelled, Token
    from studio.core.jobs import JobState
    from studio.core.paths import Paths

    with Session(Paths(studio.home)) as session:
        pieces: list[str] = []
        begun = threading.Event()

        def listen(event: object) -> None:
            if isinstance(event, Token):
                pieces.append(event.text)
                begun.set()

        session.subscribe(listen)
        session.change_settings(grace_seconds=60.0)  # on a busy machine a token may take seconds; a kill keeps no text
        job = session.submit(session.recipe("text", {"prompt": "Once", "max_tokens": 3000, "seed": 1}).recipe)
        assert begun.wait(120)
        session.cancel(job.id)
        end = session.wait(job.id, 60)
        assert isinstance(end, Cancelled)
        (work,) = end.works
        assert not work.complete
        assert session.path(work).read_text("utf-8") == "".join(pieces)
        assert session.job(job.id).state is JobState.CANCELLED
        session.change_settings(grace_seconds=3.0)


@pytest.mark.skipif(not shutil.which("unshare"), reason="unshare takes the network away")
def test_all_three_work_with_the_network_taken_away(studio: Studio) -> None:
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode != 0:
        pytest.skip("this system does not let a user take the network away")
    for words in (TEXT, SPEECH, PICTURE):
        ended = subprocess.run(
            ["unshare", "-rn", sys.executable, "-m", "studio", *words, "--json"],
            capture_output=True,
            env={**os.environ, "STUDIO_HOME": str(studio.home), "PYTHONPATH": str(ROOT)},
            timeout=300,
        )
        assert ended.returncode == 0, ended.stdout
        assert json.loads(ended.stdout)["works"]


def test_the_windows_process_imports_no_engine_library_and_workers_no_qt(studio: Studio) -> None:
    """Real processes: what a session's process has loaded after a job of each kind, and what its workers have."""
    program = (
        "import json, sys\n"
        "from studio.app.session import Session\n"
        "from studio.cli import default_home\n"
        "from studio.core.paths import Paths\n"
        "session = Session(Paths(default_home()))\n"
        "for kind, given in (('text', {'prompt': 'x', 'max_tokens': 1}), ('speech', {'text': 'Hi.'}),\n"
        "                    ('image', {'prompt': 'x', 'steps': 1})):\n"
        "    end = session.wait(session.submit(session.recipe(kind, given).recipe).id)\n"
        "    assert end.works, end\n"
        "print(json.dumps([sorted(sys.modules), [w[2] for w in session.workers()]]), flush=True)\n"
        "sys.stdin.read()\n"
        "session.close()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "STUDIO_HOME": str(studio.home), "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    modules, workers = json.loads(process.stdout.readline())
    heavy = {"torch", "transformers", "diffusers", "onnxruntime", "xllamacpp", "numpy", "PIL", "soundfile", "piper"}
    assert heavy.isdisjoint(modules)
    assert len(workers) == 3
    for pid in workers:
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert "PySide6" not in maps
        assert [c.laddr for c in psutil.Process(pid).net_connections("inet")] == [], "no worker opens a port"
    assert any("libtorch" in Path(f"/proc/{pid}/maps").read_text() for pid in workers), "the test can see libraries"
    process.communicate(b"", timeout=30)
    assert process.returncode == 0


# -- learning and measuring --------------------------------------------------------------------------------------------

SMALL = ("--layers", "1", "--heads", "2", "--width", "16", "--length", "32", "--vocabulary", "300")


def test_a_search_prints_its_trials_the_best_first(studio: Studio, tmp_path: Path) -> None:
    rows = [{"text": f"{n} and {n} make {2 * n}, and that is said in row {n}."} for n in range(40)]
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    studio.json("data", str(tmp_path / "sums.jsonl"), "--name", "sums of the search")
    words = ("search", "text", "--data", "sums of the search", "--method", "scratch", "--steps", "2", "--seed", "4")
    ended = studio.run(*words, *SMALL, "--over", "rate=1e-4..1e-2", "--over", "batch=2, 4", "--trials", "2")
    assert ended.returncode == 0, ended.stderr
    told = ended.stdout.decode().splitlines()
    assert told[0].split() == ["Trial", "Loss", "rate", "batch"]
    losses = [float(line.split()[1]) for line in told[1:3]]
    assert losses == sorted(losses)
    assert told[-1].endswith(".training.json")
    kept = json.loads(Path(told[-1].split("  ", 1)[1]).read_text("utf-8"))
    assert {trial["number"] for trial in kept["trials"]} == {0, 1}
    assert all(1e-4 <= trial["rate"] <= 1e-2 and trial["batch"] in (2, 4) for trial in kept["trials"])
    assert min(trial["value"] for trial in kept["trials"]) == pytest.approx(losses[0], rel=1e-3)
    assert "cannot be varied" in studio.problem(*words, "--over", "rote=1..2")["sentence"]
    assert "names no values" in studio.problem(*words, "--over", "rate")["sentence"]


def test_an_evaluation_prints_its_figures(studio: Studio, tmp_path: Path) -> None:
    (tmp_path / "ours.txt").write_text("The cat sat on the mat.\nA dog ran fast.\n", "utf-8")
    (tmp_path / "true.txt").write_text("The cat is on the mat.\nA dog ran fast.\n", "utf-8")
    given = ("--candidates", str(tmp_path / "ours.txt"), "--references", str(tmp_path / "true.txt"))
    ended = studio.run("evaluate", "text", *given, "--measures", "chrf,distinct", "--seed", "1")
    assert ended.returncode == 0, ended.stderr
    told = ended.stdout.decode().splitlines()
    assert told[0].split() == ["Measure", "Of", "Value", "95", "%", "interval", "Unit"]
    figures = {line.split()[0]: line.split() for line in told[1:-1] if "ours.txt" in line}
    assert 60 < float(figures["chrF"][2]) < 95
    assert float(figures["Distinct-1"][5].replace(",", "")) <= 100.0
    kept = json.loads(Path(told[-1].split("  ", 1)[1]).read_text("utf-8"))
    assert float(figures["chrF"][2]) == pytest.approx(kept["measures"][0]["value"], rel=1e-3)
