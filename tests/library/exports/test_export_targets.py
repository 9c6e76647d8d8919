"""Where exports may go: every refusal is one sentence, leaves nothing behind and harms nothing that was there."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from studio.core.learning import Measure
from studio.core.problems import NotFound, NotSaved, StudioError
from studio.core.recipes import ExportRecipe, TextRecipe
from studio.engines.context import JobCancelled
from studio.library.exports import EXPORTS, Exporter, check_target, formats_for
from studio.library.exports import target as places
from tests.library.exports.helpers_export import Job, make_png, make_report, make_wav

ROOT = Path(__file__).resolve().parents[3]

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="uses Linux' own tools")


@pytest.fixture
def master(tmp_path: Path) -> Path:
    (tmp_path / "m.txt").write_text("the words", encoding="utf-8")
    return tmp_path / "m.txt"


def refused(job: Job, master: Path, to: Path | str, kind: str = "text", **more: object) -> NotSaved:
    """Both the early check and the export itself say the same."""
    with pytest.raises(NotSaved) as early:
        check_target(kind, str(to), bool(more.get("overwrite")), master)
    with pytest.raises(NotSaved) as late:
        job.export(master, kind, to, **more)
    assert early.value.problem == late.value.problem
    problem = late.value.problem
    assert problem.sentence.endswith(".")
    assert "\n" not in problem.sentence
    assert problem.field == "to"
    return late.value


def test_each_kind_has_its_formats_and_every_format_can_be_loaded():
    assert formats_for("text") == (".txt", ".md")
    assert formats_for("image") == (".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".psd")
    assert formats_for("speech") == (".wav", ".flac", ".ogg", ".mp3")
    assert formats_for("report") == formats_for("training") == (".html", ".pdf", ".csv", ".json")
    assert formats_for("dataset") == (".json",)
    assert formats_for("export") == ()
    from studio.library.exports import load_format

    assert all(callable(load_format(export)) for export in EXPORTS.values())


def test_the_early_check_loads_no_codec():
    code = (
        "import sys; from studio.library.exports import Exporter, check_target, formats_for\n"
        "check_target('image', 'x.png', False); Exporter().made_with()\n"
        "print([m for m in ('PIL', 'numpy', 'soundfile', 'torch', 'PySide6') if m in sys.modules])"
    )
    said = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True, timeout=60)
    assert said.strip() == "[]"


def test_the_result_names_the_file_its_size_and_its_checksum(job: Job, master: Path, out: Path):
    import hashlib

    result = job.export(master, "text", out / "x.txt")
    (artifact,) = result.artifacts
    assert artifact.name == str(out / "x.txt")
    assert artifact.role == "master"
    assert artifact.bytes == 9
    assert artifact.sha256 == hashlib.sha256(b"the words").hexdigest()
    assert result.made_with.engine == "export.files"
    assert set(result.made_with.versions) == {"fpdf2", "pillow", "soundfile"}


def test_an_export_leaves_only_the_file_and_the_master_as_it_was(job: Job, master: Path, out: Path):
    before = master.stat()
    job.export(master, "text", out / "x.txt")
    after = master.stat()
    assert [p.name for p in out.iterdir()] == ["x.txt"]
    assert (before.st_mtime_ns, before.st_size, before.st_ino) == (after.st_mtime_ns, after.st_size, after.st_ino)


def test_a_missing_folder_is_named_and_not_created(job: Job, master: Path, out: Path):
    error = refused(job, master, out / "missing" / "x.txt")
    assert "missing does not exist" in str(error)
    assert not (out / "missing").exists()


def test_a_file_in_place_of_the_folder_is_said(job: Job, master: Path, out: Path):
    (out / "file").write_text("x")
    assert "file" in str(refused(job, master, out / "file" / "x.txt"))


@pytest.mark.parametrize(
    ("kind", "name", "sentence", "hint"),
    [
        ("text", "x.png", "A text cannot be written as PNG.", ".txt, .md"),
        ("image", "x.mp3", "A picture cannot be written as MP3.", ".png, .jpg, .jpeg, .webp"),
        ("speech", "x.txt", "A sound cannot be written as Plain text.", ".wav, .flac, .ogg, .mp3"),
        ("image", "x.gif", "The studio cannot write “.gif” files.", ".png, .jpg"),
        ("image", "x", "“x” has no extension", ".png, .jpg"),
        ("text", "..txt", "“..txt” has no extension", ".txt, .md"),
        ("image", ".png", "“.png” has no extension", ".png, .jpg"),
        ("image", "x.png.", "“.” files", ".png, .jpg"),
        ("image", "x.\x1b[31mpng", "\\x1b[31mpng", ".png, .jpg"),
    ],
)
def test_an_extension_that_does_not_fit_is_answered_with_those_that_do(job, master, out, kind, name, sentence, hint):
    error = refused(job, master, out / name, kind)
    assert sentence in error.problem.sentence
    assert hint in error.problem.hint
    assert list(out.iterdir()) == []


def test_an_unknown_kind_of_work_is_refused(out: Path):
    with pytest.raises(NotSaved, match="“video” cannot be exported"):
        check_target("video", str(out / "x.mp4"), False)


@pytest.mark.parametrize("name", ["", "  ", "a\0b.txt", "\ud800.txt"])
def test_a_name_that_is_none_is_refused(name: str):
    with pytest.raises(NotSaved):
        check_target("text", name, False)


def test_a_name_that_is_too_long_is_refused_before_anything_is_made(job: Job, master: Path, out: Path):
    longest = os.pathconf(out, "PC_NAME_MAX")
    error = refused(job, master, out / ("💥" * 64 + ".txt"))
    assert "too long: 260 bytes" in error.problem.sentence
    job.export(master, "text", out / ("x" * (longest - 4) + ".txt"))  # the longest still works


def test_a_path_that_is_too_long_is_refused(job: Job, master: Path, out: Path):
    refused(job, master, str(out) + "/" + "d/" * 3000 + "x.txt")


@pytest.mark.parametrize("name", ["-rf.txt", "a b\nc.txt", "\u202egpj.txt", "~.txt", "x.TXT", "name:with.txt"])
def test_odd_names_that_the_system_allows_are_used_as_given(job: Job, master: Path, out: Path, name: str):
    job.export(master, "text", out / name)
    assert os.listdir(out) == [name]


@pytest.mark.parametrize("name", ["CON.txt", "nul.txt", "com1.tar.txt", "LPT¹.txt", "a:b.txt", "a?.txt", 'a".txt'])
def test_on_windows_devices_and_forbidden_signs_are_refused(out: Path, name: str):
    with pytest.raises(NotSaved, match="Windows does not allow"):
        places.check_place(str(out / name), False, windows=True)
    places.check_place(str(out / ("x" + name.replace(":", "").replace("?", "").replace('"', ""))), False, windows=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_in_the_way_is_named(job: Job, master: Path, out: Path, overwrite: bool):
    (out / "x.txt").mkdir()
    assert "“x.txt” is a folder" in str(refused(job, master, out / "x.txt", overwrite=overwrite))
    assert "“out” is a folder" in str(refused(job, master, out, overwrite=overwrite))


@linux
def test_a_pipe_in_the_way_is_refused(job: Job, master: Path, out: Path):
    os.mkfifo(out / "x.txt")
    assert "pipe" in str(refused(job, master, out / "x.txt", overwrite=True))


def test_an_existing_file_stays_unless_overwriting_was_asked_for(job: Job, master: Path, out: Path):
    (out / "x.txt").write_text("old")
    error = refused(job, master, out / "x.txt")
    assert "already" in error.problem.sentence
    assert "--overwrite" in error.problem.hint
    assert (out / "x.txt").read_text() == "old"
    job.export(master, "text", out / "x.txt", overwrite=True)
    assert (out / "x.txt").read_text() == "the words"


def test_a_private_file_stays_private_when_it_is_replaced(job: Job, master: Path, out: Path):
    (out / "x.txt").write_text("old")
    (out / "x.txt").chmod(0o600)
    job.export(master, "text", out / "x.txt", overwrite=True)
    assert stat.S_IMODE((out / "x.txt").stat().st_mode) == 0o600


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_is_never_written_through_nor_replaced(job, master, out, tmp_path, overwrite, dangling):
    elsewhere = tmp_path / "elsewhere.txt"
    if not dangling:
        elsewhere.write_text("precious")
    (out / "x.txt").symlink_to(elsewhere)
    assert "is a link" in str(refused(job, master, out / "x.txt", overwrite=overwrite))
    assert (out / "x.txt").is_symlink()
    assert elsewhere.exists() != dangling
    assert dangling or elsewhere.read_text() == "precious"


@pytest.mark.parametrize("way", ["itself", "another way round", "a hard link"])
def test_the_kept_master_is_never_the_target(job: Job, master: Path, out: Path, way: str):
    to = {"itself": master, "another way round": out / ".." / "m.txt", "a hard link": out / "x.txt"}[way]
    if way == "a hard link":
        os.link(master, to)
    error = refused(job, master, to, overwrite=True)
    assert "library's own copy" in str(error)
    assert master.read_text() == "the words"


def test_a_relative_name_counts_from_the_current_folder(job, master, out, monkeypatch):
    monkeypatch.chdir(out)
    result = job.export(master, "text", "x.txt")
    assert result.artifacts[0].name == str(out / "x.txt")


def test_a_file_that_appears_meanwhile_is_left_as_it_is(job: Job, master: Path, out: Path):
    target = places.check_place(str(out / "x.txt"), False)
    with places.temporary(target, "job1") as temporary:
        (out / "x.txt").write_text("theirs")
        with pytest.raises(NotSaved):
            places.put_in_place(temporary, target)
    assert (out / "x.txt").read_text() == "theirs"
    assert os.listdir(out) == ["x.txt"]


def test_the_rename_itself_does_not_replace_either(out: Path):
    (out / "new").write_text("new")
    (out / "x.txt").write_text("theirs")
    with pytest.raises(FileExistsError):
        places._rename_without_replacing(out / "new", out / "x.txt")
    assert (out / "x.txt").read_text() == "theirs"


def test_a_link_put_there_meanwhile_is_not_followed_when_overwriting(job: Job, master: Path, out: Path, tmp_path: Path):
    (out / "x.txt").write_text("old")
    (tmp_path / "elsewhere").write_text("precious")
    target = places.check_place(str(out / "x.txt"), True)
    with places.temporary(target, "job1") as temporary:
        (out / "x.txt").unlink()
        (out / "x.txt").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(NotSaved, match="is a link"):
            places.put_in_place(temporary, target)
    assert (tmp_path / "elsewhere").read_text() == "precious"


@linux
def test_a_link_in_place_of_the_temporary_file_is_not_followed(job, master, out, tmp_path, monkeypatch):
    monkeypatch.setattr(places.secrets, "token_hex", lambda n: "guessed")
    (tmp_path / "elsewhere").write_text("precious")
    (out / ".studio-other-guessed.part").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotSaved), places.temporary(places.check_place(str(out / "x.txt"), False), "other"):
        pass
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_a_cancelled_job_writes_nothing(job: Job, master: Path, out: Path):
    job.cancel.set()
    with pytest.raises(JobCancelled):
        job.export(master, "text", out / "x.txt")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp"])
def test_a_picture_cancelled_half_way_leaves_the_old_file(job: Job, tmp_path: Path, out: Path, name: str):
    (out / name).write_text("old")
    honest = job.ctx._emit
    job.ctx._emit = lambda event: (honest(event), job.cancel.set())
    with pytest.raises(JobCancelled):
        job.export(make_png(tmp_path / "m.png"), "image", out / name, overwrite=True)
    assert (out / name).read_text() == "old"
    assert os.listdir(out) == [name]


def test_what_a_killed_attempt_left_is_removed_by_the_next_one(job: Job, master: Path, out: Path):
    (out / ".studio-job1-abc.part").write_text("half")
    (out / ".studio-job2-abc.part").write_text("another job, perhaps still running")
    job.export(master, "text", out / "x.txt")
    assert sorted(os.listdir(out)) == [".studio-job2-abc.part", "x.txt"]


def test_a_missing_note_or_master_is_said(job: Job, master: Path, out: Path):
    with pytest.raises(NotFound, match="not told"):
        Exporter().run(ExportRecipe(work="w", to=str(out / "x.txt")), job.ctx)
    (job.staging / "request.json").write_text('{"master": 5}')
    with pytest.raises(NotFound, match="not told"):
        Exporter().run(ExportRecipe(work="w", to=str(out / "x.txt")), job.ctx)
    master.unlink()
    with pytest.raises(NotFound, match="kept file of this work is gone"):
        job.export(master, "text", out / "x.txt")


def test_other_recipes_and_impossible_qualities_are_refused(job: Job, master: Path, out: Path):
    with pytest.raises(StudioError):
        Exporter().run(TextRecipe(prompt="x"), job.ctx)
    with pytest.raises(StudioError, match="Quality"):
        job.export(master, "text", out / "x.txt", quality=0)


# Faults of the system, each in a process of its own: what it prints is what the person would read.

CHILD = """
import json, os, resource, sys
from pathlib import Path
from tests.library.exports.helpers_export import Job
from studio.core.problems import StudioError
home, master, kind, to, limit = {arguments!r}
job = Job(Path(home), 'child')
import soundfile, PIL.Image  # before the limit: nothing else is to be written under it
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    job.export(Path(master), kind, to, overwrite=True)
except StudioError as error:
    print(error.problem.code, '|', error.problem.sentence, '|', error.problem.detail)
else:
    print('saved')
"""


def in_a_child(home: Path, master: Path, kind: str, to: Path, limit: int = 0, before: tuple[str, ...] = ()) -> str:
    code = CHILD.format(arguments=(str(home), str(master), kind, str(to), limit))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*before, sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.strip()


def big_master(tmp_path: Path, kind: str) -> Path:
    """A master whose export takes more than 20 kB in every format."""
    import numpy as np
    import soundfile
    from PIL import Image

    random = np.random.default_rng(4)
    path = tmp_path / {"text": "m.txt", "image": "m.png", "speech": "m.wav", "report": "m.json"}[kind]
    if kind == "report":
        many = [Measure(name=f"M{i}", value=i / 3, of="One") for i in range(1500)]
        make_report(path, 90, measures=tuple(many))
    elif kind == "text":
        path.write_text("words " * 10_000)
    elif kind == "image":
        Image.fromarray(random.integers(0, 256, (256, 256, 3), np.uint8)).save(path)
    else:
        soundfile.write(path, random.normal(0, 0.2, 22_050 * 12), 22_050)
    return path


@linux
@pytest.mark.parametrize("extension", EXPORTS)
@pytest.mark.parametrize("old", [True, False])
def test_a_file_size_limit_leaves_the_old_file_and_nothing_else(tmp_path, out, extension, old):
    kind = EXPORTS[extension].kind
    to = out / f"x{extension}"
    if old:
        to.write_text("old")
    said = in_a_child(tmp_path, big_master(tmp_path, kind), kind, to, limit=8192)
    assert said.startswith("not_saved | ")
    assert "larger than the system allows" in said
    assert os.listdir(out) == ([to.name] if old else [])
    assert not old or to.read_text() == "old"


def can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    try:
        return subprocess.run(["unshare", "-Urm", "mount", "-t", "tmpfs", "t", "/mnt"], timeout=30).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@linux
@pytest.mark.parametrize("extension", EXPORTS)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, out: Path, extension: str):
    if not can_unshare():
        pytest.skip("no user namespaces here")
    kind = EXPORTS[extension].kind
    master = big_master(tmp_path, kind)
    code = CHILD.format(arguments=(str(tmp_path), str(master), kind, str(out / f"x{extension}"), 0))
    (tmp_path / "child.py").write_text(code)
    script = (
        'mount -t tmpfs -o size=16k t "$1" && echo old > "$2" && "$3" "$4" && ls -A "$1" && cat "$2"'
        # room made, the same job goes through
        ' && rm -r "$6/staging-child" && mount -o remount,size=4m "$1" && "$3" "$4" && ls -A "$1"'
    )
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script, "sh", out, out / f"x{extension}", sys.executable,
         tmp_path / "child.py", "", tmp_path],
        capture_output=True, text=True, timeout=120, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said, *rest = done.stdout.strip().split("\n")
    assert said.startswith("not_saved | ")
    assert "the disk is full" in said
    assert rest == [f"x{extension}", "old", "saved", f"x{extension}"]


@linux
def test_a_folder_without_permission_is_refused_early(tmp_path: Path, master: Path, out: Path):
    """As root, every folder can be written to: so as somebody else."""
    before = ()
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is not installed")
        before = ("setpriv", "--reuid", "65534", "--clear-groups", "--regid", "65534")
    above = 3 if "PYTEST_XDIST_WORKER" in os.environ else 2  # a process of several has a folder of its own
    for folder in (tmp_path, *tmp_path.parents[:above]):
        if folder != Path("/tmp"):
            folder.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o777)
    out.chmod(0o555)
    try:
        if subprocess.run([*before, sys.executable, "-c", "import studio"], cwd=ROOT, timeout=60).returncode:
            pytest.skip("the other user cannot read this checkout")
        said = in_a_child(home, master, "text", out / "x.txt", before=before)
    finally:
        out.chmod(0o755)
    assert said.startswith("not_saved | The folder ")
    assert "cannot be written to." in said
    assert list(out.iterdir()) == []


@linux
def test_a_read_only_disk_is_refused(tmp_path: Path, master: Path, out: Path):
    if not can_unshare():
        pytest.skip("no user namespaces here")
    code = CHILD.format(arguments=(str(tmp_path), str(master), "text", str(out / "x.txt"), 0))
    (tmp_path / "child.py").write_text(code)
    script = 'mount -t tmpfs -o ro t "$1" && "$2" "$3"'
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script, "sh", out, sys.executable, tmp_path / "child.py"],
        capture_output=True, text=True, timeout=120, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.startswith("not_saved | "), done.stderr
    assert "cannot be written to." in done.stdout


@pytest.mark.parametrize("number", sorted(places._WHY))
def test_every_refusal_of_the_disk_has_a_sentence_and_a_way_out(number: int):
    problem = places.not_saved(OSError(number, os.strerror(number)), Path("/x/y.png")).problem
    assert problem.sentence.startswith("“y.png” could not be saved: ")
    assert problem.hint
    assert str(number) in problem.detail


def test_a_failed_flush_counts_as_not_saved(job: Job, master: Path, out: Path, monkeypatch: pytest.MonkeyPatch):
    import errno

    (out / "x.txt").write_text("old")
    calls = []

    def broken(handle: int) -> None:
        calls.append(handle)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(NotSaved, match="the disk reports an error"):
        job.export(master, "text", out / "x.txt", overwrite=True)
    assert len(calls) == 1  # not tried again on the same file
    assert (out / "x.txt").read_text() == "old"
    assert os.listdir(out) == ["x.txt"]


def test_the_note_may_hold_more_than_this_studio_knows(job: Job, master: Path, out: Path):
    (job.staging / "request.json").write_text(
        json.dumps({"master": str(master), "kind": "text", "title": "t", "recipe": {"new": 1}, "later": True})
    )
    Exporter().run(ExportRecipe(work="w", to=str(out / "x.txt")), job.ctx)


def test_one_exporter_does_many_jobs_after_a_failure(job: Job, tmp_path: Path, out: Path):
    engine = Exporter()
    wav, png = make_wav(tmp_path / "m.wav", 100), make_png(tmp_path / "m.png")
    for kind, master, name in (("speech", png, "x.mp3"), ("speech", wav, "x.mp3"), ("image", png, "x.png")):
        (job.staging / "request.json").write_text(json.dumps({"master": str(master), "kind": kind}))
        if master is png and kind == "speech":
            with pytest.raises(StudioError):
                engine.run(ExportRecipe(work="w", to=str(out / name)), job.ctx)
        else:
            engine.run(ExportRecipe(work="w", to=str(out / name)), job.ctx)
    assert sorted(os.listdir(out)) == ["x.mp3", "x.png"]


@pytest.mark.parametrize("extension", sorted(EXPORTS))
def test_without_metadata_no_format_tells_the_prompt(job: Job, tmp_path: Path, out: Path, extension: str):
    secret = "a fox nobody must know of"
    kind = EXPORTS[extension].kind
    field = {"text": "prompt", "image": "prompt", "speech": "text", "report": "candidates"}[kind]
    if kind == "report":
        master = make_report(tmp_path / "m.report.json", title=secret, settings={field: secret})
    elif kind == "text":
        master = tmp_path / "master.txt"
        master.write_text("what was written")
    else:
        master = make_png(tmp_path / "master.png") if kind == "image" else make_wav(tmp_path / "master.wav")
    recipe = {"kind": kind, field: secret, "seed": 5}
    job.export(master, kind, out / f"x{extension}", title=secret, recipe=recipe, metadata=False)
    data = (out / f"x{extension}").read_bytes()
    assert len(data) > 10
    for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
        assert secret.encode(encoding) not in data
