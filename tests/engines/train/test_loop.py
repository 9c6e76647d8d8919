"""The loop, on a course that takes no time."""

from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from studio.core.events import Event, Measured, Progress, Tried
from studio.core.problems import BadRecipe, BadResult, ModelBroken, OutOfMemory
from studio.engines.context import JobCancelled
from studio.engines.train import checkpoints as kept_module
from studio.engines.train import loop
from studio.engines.train.checkpoints import Checkpoints
from studio.engines.train.loop import Learned, Load, about, estimate, learn
from studio.engines.train.rates import rate_at
from tests.engines.train.toys import Toy, rules, surroundings


def weights(toy: Toy) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in toy.net.state_dict().items()}


def losses(learned: Learned) -> list[tuple[int, dict[str, float]]]:
    return [(p.step, {k: v for k, v in p.values.items() if k != "speed"}) for p in learned.curve]


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_it_learns_and_tells(tmp_path: Path) -> None:
    events: list[Event] = []
    toy = Toy()
    learned = learn(toy, rules(steps=60), surroundings(tmp_path, events), Checkpoints(tmp_path / "run"))
    assert learned.steps == 60 and learned.after["valid"] < 0.8 * learned.before["valid"]
    assert [p.step for p in learned.curve] == list(range(61))
    assert {"loss", "rate", "norm", "speed"} <= set(learned.curve[7].values)
    told = [e for e in events if isinstance(e, Measured)]
    assert {e.step for e in told if "valid" in e.values} == set(range(0, 61, 5))
    assert [e.done for e in events if isinstance(e, Progress)][-1] == 60
    assert learned.estimate["seconds"] > 0 and learned.estimate["bytes"] > 1e6
    assert not any(isinstance(e, Tried) for e in events), "that is the course's"


def test_it_does_what_a_plain_loop_does_bit_for_bit(tmp_path: Path) -> None:
    toy = Toy()
    toy.net[2].p = 0.0
    plan = rules(steps=12, schedule="linear", warmup=0.25, decay=0.1)
    learned = learn(toy, plan, surroundings(tmp_path), Checkpoints(tmp_path / "run"))

    plain = Toy()
    plain.net[2].p = 0.0
    decayed = [p for p in plain.net.parameters() if p.ndim > 1]
    spared = [p for p in plain.net.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.01, fused=True)
    seen = []
    for step in range(12):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (step + 1) / 3 if step < 3 else 0.01 * (1 - (step - 3) / 9)
        x, y = plain.batch(step, 0)
        loss = ((plain.net(x) - y) ** 2).mean(1).sum() / 8
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.net.parameters(), 1.0)
        optimizer.step()
        seen.append(float(loss.detach()))
    assert [p.values["loss"] for p in learned.curve[1:]] == seen
    last = Checkpoints(tmp_path / "run").last()
    assert last is not None
    assert equal({n: last[1][f"weight/{n}"] for n in weights(plain)}, weights(plain))


def test_accumulation_is_the_large_batch(tmp_path: Path) -> None:
    """Parts of unequal weight too: the mean is over all rows of a step, not over the parts' means."""

    class Parted(Toy):
        cuts = (0, 3, 8)

        def weight(self, step: int, part: int) -> float:
            return float(self.cuts[part + 1] - self.cuts[part])

        def batch(self, step: int, part: int) -> Any:
            x, y = super().batch(step, 0)
            return x[self.cuts[part] : self.cuts[part + 1]], y[self.cuts[part] : self.cuts[part + 1]]

    whole, parted = Toy(), Parted()
    whole.net[2].p = parted.net[2].p = 0.0
    one = learn(whole, rules(), surroundings(tmp_path / "a"), Checkpoints(tmp_path / "a" / "run"))
    two = learn(parted, rules(accumulate=2), surroundings(tmp_path / "b"), Checkpoints(tmp_path / "b" / "run"))
    for p, q in zip(one.curve[1:], two.curve[1:], strict=True):
        assert p.values["loss"] == pytest.approx(q.values["loss"], rel=1e-4)
        assert p.values["norm"] == pytest.approx(q.values["norm"], rel=1e-4)


def test_what_has_no_label_at_all_changes_nothing_and_is_no_fault(tmp_path: Path) -> None:
    class Empty(Toy):
        def weight(self, step: int, part: int) -> float:
            return 0.0 if step < 3 else float(self.size)

    toy = Empty()
    learned = learn(toy, rules(steps=6, check_every=100), surroundings(tmp_path), Checkpoints(tmp_path / "run"))
    assert learned.steps == 6
    assert all("loss" not in p.values for p in learned.curve[:4]) and "loss" in learned.curve[4].values


CHILD = """
import sys, os, signal
from pathlib import Path
from tests.engines.train.toys import Toy, rules, surroundings
from studio.engines.train.checkpoints import Checkpoints
from studio.engines.train.loop import learn
folder = Path(sys.argv[1])
def looked(step, values):
    if step == 15:
        os.kill(os.getpid(), signal.SIGKILL)
learn(Toy(), rules(average=0.9, keep_every=4), surroundings(folder), Checkpoints(folder / "run"), looked=looked)
"""


def test_a_run_that_was_killed_goes_on_bit_for_bit(tmp_path: Path) -> None:
    plan = rules(average=0.9, keep_every=4)
    straight = Toy()
    whole = learn(straight, plan, surroundings(tmp_path / "a"), Checkpoints(tmp_path / "a" / "run"))

    killed = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path / "b")], cwd=Path(__file__).parents[3])
    assert killed.returncode == -signal.SIGKILL
    run = Checkpoints(tmp_path / "b" / "run")
    last = run.last()
    assert last is not None and last[0].step == 12
    again = Toy(size=8)
    torch.rand(100)  # random numbers stand elsewhere, and must not matter
    events: list[Event] = []
    learned = learn(again, plan, surroundings(tmp_path / "b", events), run)

    assert losses(learned) == losses(whole)
    assert learned.samples == whole.samples and learned.best_step == whole.best_step and learned.after == whole.after
    assert equal(weights(again), weights(straight))
    told = [e.step for e in events if isinstance(e, Measured)]
    assert told[:13] == list(range(13)), "what was measured before is shown again"


def test_a_cancel_is_heard_within_a_step_and_the_run_goes_on_from_there(tmp_path: Path) -> None:
    straight = Toy()
    whole = learn(straight, rules(), surroundings(tmp_path / "a"), Checkpoints(tmp_path / "a" / "run"))
    toy, run = Toy(), Checkpoints(tmp_path / "run")
    events: list[Event] = []
    with pytest.raises(JobCancelled):
        learn(toy, rules(), surroundings(tmp_path, events, after=7), run)
    assert max(e.done for e in events if isinstance(e, Progress)) == 7
    assert not any(p._post_accumulate_grad_hooks for p in toy.net.parameters()), "it leaves no hook behind"
    again = Toy()
    learned = learn(again, rules(), surroundings(tmp_path), run)
    assert losses(learned) == losses(whole) and equal(weights(again), weights(straight))


def test_a_cancel_is_heard_in_the_middle_of_going_back(tmp_path: Path) -> None:
    ctx = surroundings(tmp_path)

    class Cancels(Toy):
        def loss(self, batch: Any) -> torch.Tensor:
            found = super().loss(batch)
            ctx._cancelled.set()
            return found

    toy = Cancels()
    before = weights(toy)
    with pytest.raises(JobCancelled):
        learn(toy, rules(), ctx, Checkpoints(tmp_path / "run"))
    assert equal(weights(toy), before)


def test_it_stops_early_and_keeps_the_best(tmp_path: Path) -> None:
    toy = Toy()
    toy.valid = [9.0, 5.0, 3.0, 3.5, 3.2, 3.1]  # before, then after 5, 10, 15, 20, 25 steps
    learned = learn(toy, rules(steps=200, patience=3), surroundings(tmp_path), Checkpoints(tmp_path / "run"))
    assert learned.steps == 25 and learned.best_step == 10
    assert "step 25" in learned.why and "step 10" in learned.why
    best = Checkpoints(tmp_path / "run").best()
    assert best is not None and best[0].step == 10 and best[0].value == 3.0
    assert equal({n: best[1][n] for n in weights(toy)}, weights(toy)), "the models hold the best weights at the end"
    again = learn(Toy(), rules(steps=200, patience=3), surroundings(tmp_path), Checkpoints(tmp_path / "run"))
    assert again.steps == 25 and again.why == learned.why, "begun again it has ended already"


def test_a_loss_that_is_no_number_stops_it_with_a_sentence_and_the_best_is_kept(tmp_path: Path) -> None:
    toy, run = Toy(), Checkpoints(tmp_path / "run")
    toy.bad_step = 12
    with pytest.raises(BadResult) as caught:
        learn(toy, rules(keep_every=4), surroundings(tmp_path), run)
    assert "At step 13 the loss was not a number any more" in caught.value.problem.sentence
    assert "of step 10" in caught.value.problem.sentence
    last, best = run.last(), run.best()
    assert last is not None and last[0].step == 12 and best is not None and best[0].step == 10
    assert all(bool(t.isfinite().all()) for t in (*last[1].values(), *best[1].values(), *weights(toy).values()))


def test_a_full_disk_leaves_the_older_checkpoint_and_learning_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, full = kept_module.save_file, [False]
    steps: list[int] = []

    def save_file(tensors: Any, path: Any, metadata: Any) -> None:
        if full[0]:
            Path(path).write_bytes(b"half")
            raise kept_module.SafetensorError("I/O error: No space left on device (os error 28)")
        real(tensors, path, metadata)

    monkeypatch.setattr(kept_module, "save_file", save_file)
    straight = Toy()
    whole = learn(straight, rules(), surroundings(tmp_path / "a"), Checkpoints(tmp_path / "a" / "run"))

    run, toy = Checkpoints(tmp_path / "run"), Toy()

    def looked(step: int, values: dict[str, float]) -> None:
        full[0] = step in (5, 10)
        if step == 15:
            last = run.last()
            steps.append(last[0].step if last else -1)

    ctx = surroundings(tmp_path)
    learned = learn(toy, rules(keep_every=4), ctx, run, looked=looked)
    assert steps == [4], "of steps 8 and 12 there was no room"
    assert any("disk is full" in note for note in ctx.notes)
    assert losses(learned) == losses(whole) and learned.best_step == whole.best_step
    last = run.last()
    assert last is not None and last[0].step == 20
    assert sorted(p.name for p in run.folder.iterdir()) == ["best.safetensors", "last.safetensors"]


def test_the_best_weights_outlive_a_disk_that_stays_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save_file(tensors: Any, path: Any, metadata: Any) -> None:
        raise kept_module.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(kept_module, "save_file", save_file)
    toy = Toy()
    toy.valid = [9.0, 5.0, 3.0, 3.5, 3.6, 1.0]
    at_ten: dict[str, torch.Tensor] = {}

    def looked(step: int, values: dict[str, float]) -> None:
        if step == 10:
            at_ten.update(weights(toy))

    learned = learn(toy, rules(), surroundings(tmp_path), Checkpoints(tmp_path / "run"), looked=looked)
    assert learned.best_step == 10 and equal(weights(toy), at_ten)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="limits of file sizes are POSIX")
def test_a_real_limit_of_the_system_is_an_os_error(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
import torch
from studio.engines.train.checkpoints import save_tensors
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
save_tensors(path, {"a": torch.ones(10)})
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save_tensors(path, {"a": torch.zeros(100_000)})
except OSError as error:
    print(error.errno, sorted(p.name for p in path.parent.iterdir()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.safetensors")], cwd=Path(__file__).parents[3],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split(None, 1) == [str(errno.EFBIG), "['x.safetensors']\n"]


def test_a_damaged_checkpoint_is_a_sentence(tmp_path: Path) -> None:
    run = Checkpoints(tmp_path / "run")
    learn(Toy(), rules(), surroundings(tmp_path), run)
    os.truncate(run.folder / "last.safetensors", 200)
    with pytest.raises(ModelBroken) as caught:
        learn(Toy(), rules(), surroundings(tmp_path), run)
    assert "damaged" in caught.value.problem.sentence


def test_a_run_keeps_its_threads_and_refuses_other_settings(tmp_path: Path) -> None:
    run = Checkpoints(tmp_path / "run")
    assert run.begin({"rate": 0.1, "prompts": ("a",)}, 3) == 3
    assert run.begin({"rate": 0.1, "prompts": ("a",)}, 7) == 3
    with pytest.raises(BadRecipe) as caught:
        run.begin({"rate": 0.2, "prompts": ("a",)}, 3)
    assert "(rate)" in caught.value.problem.sentence


def test_the_average_is_what_is_judged_and_kept(tmp_path: Path) -> None:
    toy = Toy()
    toy.valid = [9.0, 4.0, 3.0, 2.0, 1.0]
    learn(toy, rules(average=0.5, check_every=1, steps=4), surroundings(tmp_path), Checkpoints(tmp_path / "run"))
    last = Checkpoints(tmp_path / "run").last()
    assert last is not None
    own, average = (
        {n.partition("/")[2]: t for n, t in last[1].items() if n.startswith(f"{what}/")}
        for what in ("weight", "average")
    )
    assert last[0].best_step == 4 and equal(weights(toy), average) and not equal(weights(toy), own)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_it_learns_in_other_precisions_and_goes_on_in_them(tmp_path: Path, precision: Any) -> None:
    plan = rules(precision=precision, steps=12, check_every=4)
    whole = learn(Toy(), plan, surroundings(tmp_path / "a"), Checkpoints(tmp_path / "a" / "run"))
    assert all(math.isfinite(p.values["loss"]) for p in whole.curve[1:])
    exact = learn(Toy(), rules(steps=12, check_every=4), surroundings(tmp_path / "x"), Checkpoints(tmp_path / "x/run"))
    assert losses(exact) != losses(whole), "it was computed in that precision"
    run = Checkpoints(tmp_path / "run")
    with pytest.raises(JobCancelled):
        learn(Toy(), plan, surroundings(tmp_path, after=6), run)
    assert losses(learn(Toy(), plan, surroundings(tmp_path), run)) == losses(whole)


def test_an_estimate_changes_nothing(tmp_path: Path) -> None:
    toy = Toy()
    before = weights(toy)
    found = estimate(toy, rules(steps=1000), surroundings(tmp_path))
    assert equal(weights(toy), before)
    assert found.steps == 1000 and found.units == 8 and found.bytes > 1e6
    assert found.seconds >= 1000 * found.step_seconds > 0
    assert msgspec.to_builtins(found)["seconds"] == found.seconds


def busy(clock: float, anybody: float, own: float) -> Load:
    """A computer of two processors that is looked at twice, with so many seconds in between."""
    looks = [(100.0, 1000.0, 50.0), (100.0 + clock, 1000.0 + anybody, 50.0 + own)]
    return Load(lambda: looks.pop(0), cores=2)


@pytest.mark.parametrize(
    ("clock", "anybody", "own", "threads", "slowed"),
    [
        (10, 20, 20, 2, 1.0),  # all of it is ours
        (10, 20, 5, 2, 4.0),  # a quarter is
        (10, 20, 5, 1, 2.0),  # one thread could not use more than one processor
        (10, 11, 5, 2, 1.0),  # others work, but there is room beside them
        (10, 20, 10, 1, 1.0),  # our one thread has a processor of its own
        (0, 0, 0, 2, 1.0),
    ],
)
def test_what_others_take_of_the_computer_is_told_apart(
    clock: float, anybody: float, own: float, threads: int, slowed: float
) -> None:
    assert busy(clock, anybody, own).slowed(threads) == pytest.approx(slowed)


def test_a_real_look_at_the_processors_counts_our_own_work() -> None:
    clock, anybody, own = loop._looked_at()
    sum(range(3_000_000))
    later = loop._looked_at()
    assert later[0] > clock and later[1] >= anybody > 0 and later[2] > own
    assert Load().slowed(1) >= 1.0


def test_the_sentence_says_a_range_only_where_others_are_at_work() -> None:
    assert about(118, 121, "1.0 GB") == "2 minutes and 1.0 GB of memory."
    assert about(120, 300, "1.0 GB") == "2 to 5 minutes and 1.0 GB of memory; other programs use this computer."
    assert about(40, 300, "1 GB") == "40 seconds to 5 minutes and 1 GB of memory; other programs use this computer."


class Clockwork(Toy):
    """Whose steps, looks and samples take as long as they are told, on a clock of its own."""

    def __init__(self, took: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.took, self.now, self.done = took, 0.0, 0
        monkeypatch.setattr(loop.time, "perf_counter", lambda: self.now)

    def loss(self, batch: Any) -> torch.Tensor:
        self.now += self.took["slow" if self.took.get("slow") and self.done >= 10 else "step"]
        self.done += 1
        return super().loss(batch)

    def validate(self) -> dict[str, float]:
        self.now += self.took["look"]
        return super().validate()

    def sample(self, step: int) -> Any:
        self.now += self.took["sample"]
        return super().sample(step)


@pytest.mark.parametrize("sample_every", [0, 10])
def test_the_estimate_holds_all_that_really_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample_every: int
) -> None:
    """Steps, looks and samples of 1, 3 and 5 seconds by a clock that only they move."""
    monkeypatch.setattr(loop.Load, "slowed", lambda self, threads: 1.0)
    plan = rules(steps=40, check_every=8, sample_every=sample_every)
    course = Clockwork({"step": 1.0, "look": 3.0, "sample": 5.0}, monkeypatch)
    learned = learn(course, plan, surroundings(tmp_path), Checkpoints(tmp_path / "run"), before=100.0, after=20.0)
    assert learned.seconds == course.now == 40 + 3 * (5 + 2) + 5 * (2 + (3 if sample_every else 0))
    # what was saved is tried once more than the loop does, by who saves it
    expected = course.now + 5 + 120
    if sample_every:
        expected += 5  # told as if one came with the last step, too
    assert learned.estimate["all"] == pytest.approx(expected, abs=1.0)
    assert learned.estimate["seconds"] == pytest.approx(expected - 120, abs=1.0)
    assert learned.estimate["least"] == learned.estimate["all"]
    rehearsed = estimate(
        Clockwork({"step": 1.0, "look": 3.0, "sample": 5.0}, monkeypatch),
        msgspec.structs.replace(plan, sample_every=sample_every or 41), surroundings(tmp_path), before=100.0,
        after=20.0,
    )  # fmt: skip
    assert rehearsed.seconds == pytest.approx(learned.estimate["all"], abs=1.0)


def test_what_is_left_follows_the_last_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half way the computer becomes five times as slow: at the end nothing of the first steps is in what is told."""
    monkeypatch.setattr(loop, "TOLD_SECONDS", 0.0)
    monkeypatch.setattr(loop, "RECENT", 4)
    events: list[Event] = []
    course = Clockwork({"step": 1.0, "slow": 5.0, "look": 0.0, "sample": 0.0}, monkeypatch)
    learned = learn(
        course, rules(steps=20, check_every=20), surroundings(tmp_path, events), Checkpoints(tmp_path / "run")
    )
    left = {e.step: e.values["left"] for e in events if isinstance(e, Measured) and "left" in e.values}
    assert left[5] == pytest.approx(15 * 1, abs=0.5)
    assert left[11] == pytest.approx(9 * (3 + 5) / 4, abs=0.5)
    assert left[15] == pytest.approx(5 * 5, abs=0.5)
    assert left[20] == pytest.approx(0, abs=0.5)
    assert not any("left" in point.values for point in learned.curve), "it held for a moment"


def test_memory_that_runs_out_is_a_sentence(tmp_path: Path) -> None:
    class Large(Toy):
        def loss(self, batch: Any) -> torch.Tensor:
            return torch.empty(1 << 50)

    with pytest.raises(OutOfMemory) as caught:
        learn(Large(), rules(), surroundings(tmp_path), Checkpoints(tmp_path / "run"))
    assert "smaller batch" in caught.value.problem.hint


def test_a_curve_of_a_long_training_stays_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.engines.train.loop.POINTS", 50)
    events: list[Event] = []
    began = time.monotonic()
    plan = rules(steps=300, check_every=120)
    learned = learn(Toy(), plan, surroundings(tmp_path, events), Checkpoints(tmp_path / "run"))
    assert len(learned.curve) == 51
    told = [e for e in events if isinstance(e, Measured)]
    assert len(told) <= 8 + (time.monotonic() - began) / 0.2


def test_rates_rise_and_fall() -> None:
    assert [rate_at(s, 10, 1.0, 0.2, "linear") for s in (0, 1, 2, 6, 9)] == [0.5, 1.0, 1.0, 0.5, 0.125]
    assert rate_at(5, 10, 1.0, 0.0, "cosine") == pytest.approx(0.5)
    assert rate_at(9, 10, 2.0, 0.0, "constant") == 2.0
    assert all(rate_at(s, 7, 1.0, 0.5) > 0 for s in range(7))
