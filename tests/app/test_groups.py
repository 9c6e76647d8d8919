"""Grids as groups of jobs: made, cancelled, failing in part, gone on with after a kill. Real workers, fast engines."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from studio.app.session import Session
from studio.core.cards import Limits, ModelCard
from studio.core.events import Event
from studio.core.grids import SEARCH, Axis, Group
from studio.core.jobs import JobState
from studio.core.paths import Paths
from studio.core.problems import BadRecipe, ModelUnfit, NotFound, NotSaved
from studio.core.recipes import ImageRecipe, SheetRecipe
from studio.core.works import Change, Work
from studio.models import registry
from studio.runtime.link import ProcessLink
from tests.effort import effort
from tests.ui.fakes import COMMAND


def _card(name: str, **more: Any) -> ModelCard:
    return ModelCard(
        id=name.lower(), name=name, kind="image", engine="image.fake", path=f"/nowhere/{name}", format="fake",
        sha256="-", limits=Limits(width=64, height=64, size_multiple=8), **more,
    )  # fmt: skip


CARDS = [_card("Painter", can=("picture", "from_picture")), _card("Turbo", can=("picture",))]


class _Models:
    def cards(self) -> list[ModelCard]:
        return CARDS

    def broken(self) -> list[Any]:
        return []

    def choose(self, kind: str, name_or_path: str) -> ModelCard:
        return registry.choose(CARDS, kind, name_or_path)


class Studio(Session):
    """The real session with models and engines of the tests' own."""

    def __init__(self, paths: Paths, *, resume: bool = False) -> None:
        self.events: list[Event | Change] = []

        def link(lane: str, on_reply: Any, on_end: Any) -> ProcessLink:
            return ProcessLink(COMMAND, {}, paths.logs / "workers.log", on_reply, on_end)

        super().__init__(paths, make_link=link)
        self._models = _Models()  # type: ignore[assignment]
        self.subscribe(self.events.append)
        if resume:
            self.resume_waiting()

    def over(self, group: Group) -> Group:
        found = self.wait_group(group.id, 60)
        assert found.state not in ("making", "sheet"), found
        return found

    def sheet(self, group: Group) -> Work:
        (work,) = self.works_of(group.sheet)
        return work

    def reasons(self, group: Group) -> list[str]:
        """What each cell of the sheet says; empty where there is a picture."""
        recipe = self.sheet(group).recipe
        assert isinstance(recipe, SheetRecipe)
        return [cell.why for cell in recipe.cells]

    def states(self, group: Group) -> list[str]:
        return [str(job.state) for job in self.jobs_of(self.group(group.id).jobs)]


Opens = Callable[..., Studio]


@pytest.fixture
def opens(paths: Paths) -> Iterator[Opens]:
    """Opens sessions on one library, one after another."""
    made: list[Studio] = []

    def one(**more: Any) -> Studio:
        made.append(Studio(paths, **more))
        return made[-1]

    yield one
    for session in made:
        session.close()


@pytest.fixture
def studio(opens: Opens) -> Studio:
    return opens()


def until(true: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


BASE = ImageRecipe(prompt="red apple", steps=1, seed=7)


def test_a_grid_is_one_group_that_ends_in_a_sheet(studio: Studio) -> None:
    group = studio.grid(BASE, Axis("steps", (1, 2, 3)), Axis("guidance", (2.0, 4.0)))
    assert group.state == "making" and len(group.jobs) == 6 and group.title == "red apple"
    done = studio.over(group)
    assert done.state == "finished" and done.ended == 6
    recipes = [job.recipe for job in studio.jobs_of(done.jobs)]
    # row by row, whatever the order in which they were made
    assert [(r.steps, r.guidance) for r in recipes if isinstance(r, ImageRecipe)] == [
        (1, 2.0), (2, 2.0), (3, 2.0), (1, 4.0), (2, 4.0), (3, 4.0),
    ]  # fmt: skip
    assert {getattr(r, "seed", 0) for r in recipes} == {7}
    sheet = studio.sheet(done)
    assert sheet.kind == "image" and sheet.title == "red apple"
    assert isinstance(sheet.recipe, SheetRecipe)
    assert sheet.recipe.across == ("Steps 1", "Steps 2", "Steps 3") and sheet.recipe.down == (
        "Guidance 2",
        "Guidance 4",
    )
    assert all(cell.image and not cell.why for cell in sheet.recipe.cells)
    with Image.open(studio.path(sheet)) as image:
        assert image.width > 3 * 64 and image.height > 2 * 64
    told = [change.groups for change in studio.events if isinstance(change, Change) and change.groups]
    assert set(told) == {(group.id,)} and len(told) >= 8
    assert [g.id for g in studio.groups()] == [group.id] and studio.groups(unfinished=True) == []


def test_everything_is_written_before_anything_runs(studio: Studio, opens: Opens) -> None:
    studio.pause()
    group = studio.grid(BASE, Axis("steps", (1, 2)))
    beside = opens()
    assert beside.group(group.id) == group
    assert [job.state for job in beside.jobs_of(group.jobs)] == [JobState.QUEUED] * 2


def test_nothing_is_queued_where_a_cell_cannot_be_made(studio: Studio) -> None:
    with pytest.raises(
        BadRecipe, match=r"^Width 60 px: Width must be a multiple of 8 px for “Painter”; got 60\.$"
    ) as e:
        studio.grid(BASE, Axis("width", (64, 60)))
    assert e.value.problem.field == "width"
    with pytest.raises(ModelUnfit, match=r"^Turbo: “Turbo” cannot begin from a picture"):
        studio.grid(
            ImageRecipe(prompt="x", image=studio.keep_picture(picture())), Axis("model", ("painter", "turbo"))
        )  # fmt: skip
    assert studio.jobs() == [] and studio.groups() == []


def picture() -> bytes:
    from tests.ui.fakes import png

    return png(64, 64, (0, 90, 200))


def test_a_full_disk_leaves_no_half_of_a_grid(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    added = studio._jobs.add
    calls = []

    def add(*arguments: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise NotSaved("The disk is full.")
        return added(*arguments, **more)

    monkeypatch.setattr(studio._jobs, "add", add)
    with pytest.raises(NotSaved):
        studio.grid(BASE, Axis("steps", (1, 2, 3)))
    assert studio.jobs() == [] and studio.groups() == [] and studio.queue() == []


def test_chance_is_the_same_in_every_cell_and_the_model_changes_last(studio: Studio) -> None:
    studio.pause()
    base = ImageRecipe(prompt="red apple", steps=1, count=4)
    group = studio.grid(base, Axis("model", ("Turbo", "painter")), Axis("variation", (0.0, 0.5)), Axis("steps", (1, 2)))
    jobs = studio.jobs_of(group.order)
    recipes = [job.recipe for job in jobs]
    assert [job.id for job in sorted(jobs, key=lambda j: j.position)] == list(group.order)
    assert [r.model for r in recipes if isinstance(r, ImageRecipe)] == ["turbo"] * 4 + ["painter"] * 4
    assert {r.count for r in recipes if isinstance(r, ImageRecipe)} == {1}
    assert len({r.seed for r in recipes if isinstance(r, ImageRecipe)}) == 1
    assert len({r.variation_seed for r in recipes if isinstance(r, ImageRecipe)}) == 1
    assert recipes[0].seed is not None and recipes[0].variation_seed is not None  # type: ignore[union-attr]
    studio.cancel_group(group.id)
    assert studio.over(group).state == "cancelled"


def test_a_failing_cell_does_not_cost_the_others_their_sheet(studio: Studio) -> None:
    group = studio.grid(BASE, Axis(SEARCH, ("apple", "fail", "pear")))
    done = studio.over(group)
    assert studio.states(done) == ["finished", "failed", "finished"] and done.state == "finished"
    assert studio.reasons(done) == ["", "failed: It needs 9 GB.", ""]


def test_a_failed_cell_that_is_tried_again_gets_its_place_on_a_new_sheet(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = studio.over(studio.grid(BASE, Axis(SEARCH, ("apple", "fail"))))
    first = studio.sheet(group)
    again = studio.retry(group.jobs[1])
    assert studio.group(group.id).state == "making" and studio.group(group.id).jobs == (group.jobs[0], again.id)
    later = studio.over(group)
    assert later.sheet != group.sheet and studio.sheet(later).id != first.id
    assert studio.retry(group.jobs[0]).id not in studio.group(group.id).jobs, "one that was made is made beside it"


def test_a_cancel_half_way_stops_all_of_it_and_keeps_what_was_made(studio: Studio) -> None:
    group = studio.grid(BASE, Axis(SEARCH, ("apple", "hold", "pear", "plum")))
    until(lambda: studio.states(group)[1] == "running")
    change = studio.cancel_group(group.id)
    assert set(change.jobs) == set(group.jobs[1:]) and change.groups == (group.id,)
    done = studio.over(group)
    assert studio.states(done) == ["finished", "cancelled", "cancelled", "cancelled"]
    assert studio.reasons(done) == ["", "cancelled", "cancelled", "cancelled"]
    begun = [type(e).__name__ for e in studio.events if type(e).__name__ == "Started"]
    assert len(begun) == 3, "two cells and the sheet: nothing more was begun while the rest was being cancelled"
    assert studio.cancel_group(group.id) == Change()


def test_a_cancel_before_the_first_picture_makes_no_sheet(studio: Studio) -> None:
    studio.pause()
    group = studio.grid(BASE, Axis("steps", (1, 2)))
    studio.cancel_group(group.id)
    done = studio.over(group)
    assert done.state == "cancelled" and not done.sheet and studio.states(done) == ["cancelled"] * 2


def test_an_unknown_group_is_not_found(studio: Studio) -> None:
    for ask in (studio.group, studio.cancel_group):
        with pytest.raises(NotFound):
            ask("gnothing")


def test_the_sheet_outlives_the_works_it_was_made_of(studio: Studio) -> None:
    group = studio.over(studio.grid(BASE, Axis("steps", (1, 2))))
    before = studio.sheet(group)
    studio.remove(*(work.id for job in group.jobs for work in studio.works_of(job)))
    studio.empty_bin()
    again = studio.redo(before.id)
    studio.wait(again.id, 30)
    (made,) = studio.works_of(again.id)
    assert made.master.sha256 == before.master.sha256


def test_a_picture_in_the_bin_stands_on_the_sheet_and_one_that_is_gone_is_called_removed(studio: Studio) -> None:
    group = studio.grid(BASE, Axis(SEARCH, ("apple", "pear", "plum", "hold")))
    until(lambda: studio.states(group)[3] == "running")
    in_bin, gone = (studio.works_of(job)[0].id for job in group.jobs[:2])
    studio.remove(gone)
    studio.empty_bin()
    studio.remove(in_bin)
    studio.cancel(group.jobs[3])
    assert studio.reasons(studio.over(group)) == ["", "removed", "", "cancelled"]


def test_pictures_that_cannot_be_kept_yet_are_tried_again(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    from studio.app import groups as module

    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.05)
    calls = []
    keep = studio._inputs.add

    def full(path: Path) -> str:
        calls.append(path)
        if len(calls) < 3:
            raise NotSaved("The disk is full.")
        return keep(path)

    object.__setattr__(studio._groups._host, "keep", full)
    done = studio.over(studio.grid(BASE, Axis("steps", (1, 2))))
    assert done.state == "finished" and len(calls) == 4


# -- after a kill ------------------------------------------------------------------------------------------------------

KILLED = """
import sys, time
from pathlib import Path
from studio.core.grids import SEARCH, Axis
from studio.core.paths import Paths
from tests.app.test_groups import BASE, Studio
studio = Studio(Paths(Path(sys.argv[1])))
group = studio.grid(BASE, Axis(SEARCH, ("apple", sys.argv[2], "pear")))
print(group.id, flush=True)
while True:
    print(*studio.states(group), studio.group(group.id).state, flush=True)
    time.sleep(0.02)
"""


def killed_when(paths: Paths, word: str, seen: Callable[[str], bool]) -> str:
    """A studio that was killed in the middle of a grid. Returns the group."""
    command = [sys.executable, "-c", KILLED, str(paths.home), word]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as program:
        assert program.stdout is not None
        group = program.stdout.readline().strip()
        for line in program.stdout:
            if seen(line):
                break
        program.kill()
        for _ in program.stdout:
            pass
    return group


def test_a_studio_killed_in_the_middle_goes_on_with_the_same_grid(paths: Paths, opens: Opens) -> None:
    found = killed_when(paths, "hold", lambda line: line.startswith("finished running queued"))
    later = opens()
    group = later.group(found)
    assert group.state == "making" and later.states(group) == ["finished", "failed", "queued"]
    later.resume_waiting()
    # what was cut off is made again, once; here it holds for ever, so it is cancelled
    again = later.group(found)
    assert again.jobs[0] == group.jobs[0] and again.jobs[1] != group.jobs[1] and again.jobs[2] == group.jobs[2]
    assert later.retry(group.jobs[1]).id == again.jobs[1], "it was begun again by itself"
    later.cancel(again.jobs[1])
    done = later.over(again)
    assert later.reasons(done) == ["", "cancelled", ""]


def test_a_grid_whose_cells_have_all_ended_gets_its_sheet_at_the_next_start(paths: Paths, opens: Opens) -> None:
    first = opens()
    first._groups._soon = lambda group: None  # type: ignore[method-assign]  # as if it were killed at this moment
    group = first.grid(BASE, Axis("steps", (1, 2)))
    until(lambda: first.group(group.id).ended == 2)
    assert first.group(group.id).state == "making"
    first.close()
    idle = opens()  # a command that does something else leaves it alone
    assert idle.group(group.id).state == "making"
    idle.close()
    later = opens(resume=True)
    done = later.over(group)
    assert done.state == "finished" and later.reasons(done) == ["", ""]
    assert len(later.works(kind="image")) == 3, "one sheet, not two"


def test_a_sheet_that_waited_when_the_studio_ended_is_made_and_no_second_one(opens: Opens) -> None:
    first = opens()
    first.pause("sheet")
    group = first.grid(BASE, Axis("steps", (1, 2)))
    until(lambda: first.group(group.id).state == "sheet")
    first.close()
    later = opens(resume=True)
    assert later.over(group).sheet == first_sheet(later, group)
    assert sum(work.recipe.__class__ is SheetRecipe for work in later.works()) == 1


def first_sheet(studio: Studio, group: Group) -> str:
    (job,) = [job for job in studio.jobs() if job.kind == "sheet"]
    return job.id


def test_a_cancel_that_was_cut_off_is_carried_on(opens: Opens) -> None:
    first = opens()
    first.pause()
    group = first.grid(BASE, Axis("steps", (1, 2, 3)))
    first._groups._stop = lambda jobs: None  # type: ignore[method-assign]
    first.cancel_group(group.id)
    first.close()
    later = opens()
    later.pause()
    later.resume_waiting()
    assert later.over(group).state == "cancelled" and later.states(group) == ["cancelled"] * 3


def test_a_grid_of_a_studio_that_is_alive_is_left_to_it(studio: Studio, opens: Opens, monkeypatch: Any) -> None:
    studio.pause()
    group = studio.grid(BASE, Axis("steps", (1, 2)))
    with studio._database.transaction() as db:
        db.execute("update jobs set owner = 'someone'")
    monkeypatch.setattr("studio.app.session.is_alive", lambda owner: owner == "someone")
    beside = opens(resume=True)
    assert beside.mine() == [] and beside._groups._left == {} and beside.group(group.id).state == "making"


def test_many_cells_are_lined_up_and_cancelled_in_seconds(studio: Studio) -> None:
    studio.pause()
    made: list[Group] = []
    axes = Axis("seed", tuple(range(20))), Axis("steps", tuple(range(1, 6)))
    assert effort(lambda: made.append(studio.grid(BASE, *axes))) < 5
    (group,) = made
    assert len(group.jobs) == 100
    assert effort(lambda: studio.cancel_group(group.id)) < 5
    assert studio.over(group).state == "cancelled"


def test_closing_while_a_sheet_is_prepared_loses_nothing(opens: Opens) -> None:
    first = opens()
    entered, go = threading.Event(), threading.Event()
    keep = first._inputs.add

    def slow(path: Path) -> str:
        entered.set()
        go.wait(10)
        return keep(path)

    object.__setattr__(first._groups._host, "keep", slow)
    group = first.grid(BASE, Axis("steps", (1, 2)))
    assert entered.wait(30)
    threading.Timer(0.2, go.set).start()
    first.close()
    assert go.is_set() and not [t for t in threading.enumerate() if t.name.startswith("groups")], "it was waited for"
    later = opens(resume=True)
    assert later.over(group).state == "finished"
