"""A thousand small jobs with kills and cancels in between: `python benchmarks/soak.py` (see --help).

Texts, pictures, readings and exports with the starter models in real workers. In the first half the studio itself is
killed again and again and started anew on the same library; in the second half one studio goes on to the end, while its
workers are killed. At the end it is counted what was acknowledged and is not there: jobs and works (both must be 0),
what is left over: processes, staged folders, files without a work (0), and the studio's memory and open files.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil

from benchmarks.trainer import paused_trainer
from studio.app.session import Session
from studio.core.events import Cancelled, Failed, Finished
from studio.core.jobs import Job
from studio.core.paths import Paths

AT_ONCE = 8  # jobs that a studio has waiting or running
CANCELS = 0.10  # of all jobs
SETTLED = 40  # jobs after which a studio's memory is taken as its beginning: every model has been loaded by then


# -- the studio that is killed -----------------------------------------------------------------------------------------


def studio(home: Path, jobs: int, seed: int) -> None:
    """Submit `jobs` jobs and finish what waits. Says on stdout what it acknowledges, one line each."""
    rng = random.Random(seed)
    lock = threading.Lock()
    open_jobs: set[str] = set()
    works: list[str] = []

    def say(*words: str) -> None:
        with lock:
            os.write(1, (" ".join(words) + "\n").encode())  # at once: what is buffered dies with the process

    def heard(event: Any) -> None:
        if isinstance(event, (Finished, Failed, Cancelled)):
            ids = [w.id for w in event.works]
            say("ended", event.job, type(event).__name__.lower(), *ids)
            works.extend(w.id for w in event.works if w.complete)
            open_jobs.discard(event.job)

    session = Session(Paths(home))
    session.subscribe(heard)
    for job in session.interrupted:
        say("ended", job, "interrupted")
    open_jobs |= set(session.resume_waiting().jobs)
    say("ready", str(os.getpid()))
    me, submitted = psutil.Process(), 0
    while submitted < jobs or open_jobs:
        if submitted < jobs and len(open_jobs) < AT_ONCE:
            job = _one(session, rng, works, home)
            if job is not None:
                open_jobs.add(job.id)
                say("submitted", job.id)
                submitted += 1
                if session.job(job.id).state.ended:
                    open_jobs.discard(job.id)
                if rng.random() < CANCELS and open_jobs:
                    session.cancel(rng.choice(sorted(open_jobs)))
                if submitted in (SETTLED, jobs):
                    say("size", str(me.memory_info().rss), str(me.num_fds()), str(me.num_threads()))
        else:
            time.sleep(0.02)
    say("size", str(me.memory_info().rss), str(me.num_fds()), str(me.num_threads()))
    session.close()
    say("closed")


def _one(session: Session, rng: random.Random, works: list[str], home: Path) -> Job | None:
    kind = rng.choice(("text", "text", "image", "image", "speech", "export"))
    if kind == "export":
        if not works:
            return None
        work = session.work(rng.choice(works))
        ending = {"text": ".md", "image": ".jpg", "speech": ".flac"}[work.kind]
        return session.export(work.id, home.parent / "exports" / f"{rng.randrange(10**9)}{ending}")
    given: dict[str, Any] = {
        "text": {"prompt": "Once upon a time", "max_tokens": rng.randint(1, 12), "n": rng.choice((1, 1, 2))},
        "image": {"prompt": "a red apple", "steps": rng.randint(1, 3), "count": rng.choice((1, 1, 2))},
        "speech": {"text": rng.choice(("Yes.", "Good morning. How are you?"))},
    }[kind]
    return session.submit(session.recipe(kind, given).recipe)


# -- the one who kills -------------------------------------------------------------------------------------------------


class Soak:
    def __init__(self, home: Path, seed: int) -> None:
        self.home = home
        self.rng = random.Random(seed)
        self.submitted: set[str] = set()
        self.ended: dict[str, list[str]] = {}
        self.twice: list[str] = []
        self.works: set[str] = set()
        self.sizes: list[tuple[int, int, int]] = []
        self.worker_kills = self.studio_kills = 0
        self.seen: set[int] = set()  # processes that belonged to a studio

    def run(self, jobs: int, *, kill_studio_after: int | None, kill_workers: float) -> None:
        """One studio.

        Args:
            kill_studio_after: jobs after which it is killed; None lets it end.
            kill_workers: how many jobs go by between two kills of a worker, on average.
        """
        command = [sys.executable, str(Path(__file__)), "--studio", str(self.home), str(jobs)]
        child = subprocess.Popen(
            [*command, str(self.rng.randrange(10**9))], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.seen.add(child.pid)
        assert child.stdout is not None
        mine = 0
        for line in child.stdout:
            word, *rest = line.split()
            if word == "submitted":
                self.submitted.add(rest[0])
                mine += 1
                if self.rng.random() < 1 / kill_workers:
                    self._kill_a_worker(child.pid)
                if kill_studio_after is not None and mine >= kill_studio_after:
                    time.sleep(self.rng.random() * 0.3)  # anywhere in whatever it does
                    self._note(child.pid)
                    child.send_signal(signal.SIGKILL)
                    self.studio_kills += 1
                    break
            elif word == "ended":
                if rest[0] in self.ended:
                    self.twice.append(rest[0])
                self.ended[rest[0]] = rest[1:]
                self.works |= set(rest[2:])
            elif word == "size":
                self.sizes.append((int(rest[0]), int(rest[1]), int(rest[2])))
        for line in child.stdout:  # what it had said before it was killed counts
            word, *rest = (line.split() or [""]) if line.endswith("\n") else [""]
            if word == "submitted":
                self.submitted.add(rest[0])
            elif word == "ended":
                self.ended[rest[0]] = rest[1:]
                self.works |= set(rest[2:])
        if child.wait() not in (0, -signal.SIGKILL):
            raise SystemExit("the studio ended with an error")
        print(f"{len(self.submitted)} jobs submitted, {len(self.ended)} told as ended", flush=True)

    def _note(self, pid: int) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(pid).children(recursive=True)
            self.seen |= {c.pid for c in children}
            return children
        return []

    def _kill_a_worker(self, pid: int) -> None:
        children = self._note(pid)
        if children:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.rng.choice(children).kill()
                self.worker_kills += 1

    def report(self) -> int:
        time.sleep(2)  # how long anything may survive its studio
        alive = [p for p in self.seen if psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE]
        with Session(Paths(self.home)) as session:
            jobs = {job.id: job for job in session.jobs(limit=10**6)}
            lost_jobs = [j for j in self.submitted if j not in jobs or not jobs[j].state.ended]
            lost_works = []
            for work_id in self.works:
                path = session.path(session.work(work_id))
                good = (
                    path.exists()
                    and hashlib.sha256(path.read_bytes()).hexdigest() == session.work(work_id).master.sha256
                )
                if not good:
                    lost_works.append(work_id)
            works = session.works(limit=10**6)
            known = {p for w in works for p in session.files(w)}
            files = {p for p in Paths(self.home).works.rglob("*") if p.is_file()}
            staged = list(Paths(self.home).staging.iterdir())
            rebuilt = session.rebuild().works
        states: dict[str, int] = {}
        for job in jobs.values():
            states[str(job.state)] = states.get(str(job.state), 0) + 1
        print(f"jobs                   {len(jobs)}: " + ", ".join(f"{n} {s}" for s, n in sorted(states.items())))
        print(f"works                  {len(works)}")
        print(f"kills                  {self.worker_kills} of workers, {self.studio_kills} of the studio")
        print(f"jobs lost              {len(lost_jobs)}")
        print(f"jobs ended twice       {len(self.twice)}")
        print(f"works lost             {len(lost_works)}")
        print(f"processes left over    {len(alive)}")
        print(f"folders left in staging {len(staged)}")
        print(f"files without a work   {len(files - known)}")
        print(f"works without a file   {len(known - files)}")
        if len(self.sizes) >= 2:
            first, last = self.sizes[-3] if len(self.sizes) >= 3 else self.sizes[0], self.sizes[-1]
            print(f"memory of the studio   {first[0] / 1e6:.0f} MB at the start, {last[0] / 1e6:.0f} MB at the end")
            print(f"open files             {first[1]} at the start, {last[1]} at the end")
            print(f"threads                {first[2]} at the start, {last[2]} at the end")
        bad = lost_jobs or self.twice or lost_works or alive or staged or files != known or rebuilt
        return 1 if bad else 0


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--jobs", type=int, default=1000)
    options.add_argument("--seed", type=int, default=int(time.time()))
    options.add_argument("--studio", nargs=3, metavar=("HOME", "JOBS", "SEED"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.studio:
        studio(Path(given.studio[0]), int(given.studio[1]), int(given.studio[2]))
        return 0
    print(f"{given.jobs} jobs, seed {given.seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, paused_trainer():
        (Path(folder) / "exports").mkdir()
        soak = Soak(Path(folder) / "home", given.seed)
        half = given.jobs // 2
        while len(soak.submitted) < half:
            left = half - len(soak.submitted)
            after = min(left, soak.rng.randint(20, 80))
            soak.run(after + 1, kill_studio_after=after, kill_workers=40.0)
        soak.run(given.jobs - len(soak.submitted), kill_studio_after=None, kill_workers=40.0)
        code = soak.report()
    print(f"it took                {time.monotonic() - began:.0f} s")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
