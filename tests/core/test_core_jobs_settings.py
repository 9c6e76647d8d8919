"""The states of a job, the settings, problems, paths, and what the core may import."""

from __future__ import annotations

import math
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from studio.core.jobs import ENDED, TRANSITIONS, Job, JobState
from studio.core.paths import Paths, assets_folder
from studio.core.problems import BadSetting, NotSaved, Problem, ProblemRaised, StudioError
from studio.core.recipes import RECIPES, SpeechRecipe
from studio.core.settings import Settings, changed, declared

ROOT = Path(__file__).resolve().parents[2]


def test_every_state_has_its_row_and_every_step_leads_to_a_state():
    assert set(TRANSITIONS) == set(JobState)
    assert all(step in JobState for steps in TRANSITIONS.values() for step in steps)


def test_an_ended_job_stays_as_it_is_and_others_can_end():
    assert {state for state, steps in TRANSITIONS.items() if not steps} == ENDED
    assert {state for state in JobState if state.ended} == ENDED == {"finished", "failed", "cancelled"}


def test_the_steps_are_those_of_the_design():
    steps = {(a.value, b.value) for a, after in TRANSITIONS.items() for b in after}
    assert steps == {
        ("queued", "running"), ("queued", "cancelled"), ("queued", "failed"),
        ("running", "finished"), ("running", "failed"), ("running", "cancelled"),
        ("running", "queued"),  # its worker died: once more
    }  # fmt: skip


def test_no_job_finishes_without_running_and_none_becomes_itself():
    assert JobState.FINISHED not in TRANSITIONS[JobState.QUEUED]
    assert all(state not in steps for state, steps in TRANSITIONS.items())


def test_a_job_survives_json_with_its_recipe_and_problem():
    job = Job(
        id="j1", seq=3, recipe=SpeechRecipe(text="hello"), state=JobState.FAILED,
        problem=NotSaved("It could not be saved.", "Make room.", field="to").problem, notes=("a",), works=("w",),
    )  # fmt: skip
    assert msgspec.json.decode(msgspec.json.encode(job), type=Job) == job
    assert job.kind == "speech"


def test_a_change_of_settings_is_a_copy():
    old = Settings()
    new = changed(old, threads=4, device="cpu")
    assert (new.threads, new.device) == (4, "cpu")
    assert old == Settings()
    assert changed(new) == new
    assert changed(new, threads=0).device == "cpu"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads", -1), ("threads", 513), ("threads", 1.5), ("threads", "4"), ("threads", True), ("threads", None),
        ("device", "tpu"), ("device", None), ("grace_seconds", math.nan), ("grace_seconds", math.inf),
        ("grace_seconds", 0.0), ("context", 255), ("text_model", None), ("text_model", 5), ("voice", []),
    ],
)  # fmt: skip
def test_a_value_outside_its_limits_is_refused_by_name(name: str, value: object):
    with pytest.raises(BadSetting) as caught:
        changed(Settings(), **{name: value})
    problem = caught.value.problem
    assert problem.field == name
    title = next(f.title for f in declared() if f.name == name)
    assert problem.sentence.startswith(f"{title} must be")


@pytest.mark.parametrize("name", ["colour", "\x1b[31m", "\ud800", ""])
def test_an_unknown_setting_is_refused_with_those_there_are(name: str):
    with pytest.raises(BadSetting, match="no setting") as caught:
        changed(Settings(), **{name: 1})
    assert caught.value.problem.sentence.isprintable()
    assert "threads" in caught.value.problem.hint


def test_what_is_set_can_be_written_down():
    new = changed(Settings(), voice="a\ud800b\x00")
    assert new.voice == "a\ufffdb"
    assert msgspec.json.decode(msgspec.json.encode(new), type=Settings) == new


def test_every_setting_is_declared_with_title_and_help():
    assert [f.name for f in declared()] == list(Settings.__struct_fields__)
    assert all(f.title and f.help.endswith(".") for f in declared())


def test_model_settings_cover_each_kind_that_has_models():
    names = {f.name for f in declared()}
    assert {"text_model", "image_model", "voice"} <= names
    assert {"text", "image", "speech"} <= set(RECIPES)


def all_errors(kind: type[StudioError] = StudioError) -> list[type[StudioError]]:
    return [kind, *(e for sub in kind.__subclasses__() for e in all_errors(sub))]


def test_every_error_of_the_core_has_a_code_of_its_own():
    ours = [e for e in all_errors() if e.__module__ == "studio.core.problems" and e is not ProblemRaised]
    codes = [e.code for e in ours]
    assert len(codes) == len(set(codes))
    assert all(code.replace("_", "").isalpha() and code.islower() for code in codes)


def test_a_problem_crosses_a_process_border_whole():
    problem = NotSaved("It is full.", "Make room.", detail="errno 28", field="to").problem
    back = ProblemRaised(msgspec.json.decode(msgspec.json.encode(problem), type=Problem))
    assert back.problem == problem
    assert str(back) == "It is full."


def test_the_folders_of_a_studio_are_private_and_inside_its_home(tmp_path: Path):
    paths = Paths(tmp_path / "deep" / "home")
    paths.make()
    paths.make()  # again is no error
    folders = (paths.works, paths.staging, paths.models, paths.cache, paths.logs)
    assert all(f.is_dir() and f.parent == paths.home for f in folders)
    if sys.platform != "win32":
        assert all(stat.S_IMODE(f.stat().st_mode) == 0o700 for f in (paths.home, *folders))
    assert paths.database.parent == paths.settings.parent == paths.home


def test_the_home_may_not_be_a_file(tmp_path: Path):
    (tmp_path / "home").write_text("x")
    with pytest.raises(OSError, match="exists"):
        Paths(tmp_path / "home").make()


def test_the_assets_are_beside_the_program():
    assert assets_folder() == ROOT / "assets"


LOADED = """
import importlib, pkgutil, sys
import msgspec.inspect, msgspec.json  # with whatever they bring along
before = {n.split('.')[0] for n in sys.modules}
import studio.core
for module in pkgutil.iter_modules(studio.core.__path__):
    importlib.import_module('studio.core.' + module.name)
after = {n.split('.')[0] for n in sys.modules} - before - set(sys.stdlib_module_names)
print(sorted(n for n in after if not n.startswith('_')))
print(sorted({n for n in sys.modules if n.startswith('studio.') and not n.startswith('studio.core')}))
"""


def test_the_core_imports_the_standard_library_and_msgspec_and_no_other_floor():
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout.splitlines() == ["['studio']", "[]"], done.stderr
