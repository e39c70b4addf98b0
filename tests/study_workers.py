"""Kill workers and the process that asks them, again and again, and compare with a run alone.

    python -m tests.study_workers --workers 2 --kills 10 --askers 3 [--zombies 2]
                                  [--store postgres] [--helps] [--seed 0]

A run of two rounds is taken alone, then with worker processes. Each kill waits until a worker holds
an item in the stage whose turn it is (propose, climb, probe), and ends that worker with SIGKILL;
another is started for it. Zombies are frozen past their lease and woken. The asker is killed at
random moments and started again. Prints what was killed where, items worked out again, and whether
every digest chain is the same; exits 1 where one is not, or where `verify` finds a violation.
Every process it ends is its own.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import pgserver
from sqlalchemy import select

from flows.hands import sweep
from flows.home import Home
from store import invariants, ledger, questions
from store.database import Store, parse_url
from store.schema import LeaseRow, WorkerRow, WorkItemRow
from store.stages import stages_of
from store.work import Tally, tally
from tests.study_kills import SHORT, check

LEASE = 3.0
SHARED = ["steps=2", "work.shard=2"]
QUEUED = [*SHARED, "work.queue=true", f"work.lease={LEASE}"]
STAGES = ("propose", "climb", "probe")


@dataclass
class Site:
    """A home, its store, and the processes at work in it."""

    folder: Path
    url: str
    settings: list[str]
    workers: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    frozen: list[tuple[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store = Store.open(self.url)

    def coclimb(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A command of this checkout on this home; its lines go to a file there."""
        place = ("--home", str(self.folder), "--store", self.url)
        log = (self.folder / f"{arguments[0]}.log").open("ab")
        command = [sys.executable, "-m", "flows.cli", *place, *arguments]
        return subprocess.Popen(command, stdout=log, stderr=log)

    def ask(self) -> subprocess.Popen[bytes]:
        """The process that asks: begins the run, or goes on with it, for it is named."""
        settings = [*SHORT, *self.settings]
        changes = [part for setting in settings for part in ("--set", setting)]
        return self.coclimb("run", *changes, "--name", "short", "--plain")

    def hire(self) -> None:
        process = self.coclimb("worker")
        self.workers[process.pid] = process

    @property
    def run(self) -> str | None:
        rows = questions.runs(self.store)
        return str(rows[-1]["id"]) if rows else None

    def stage(self) -> str | None:
        """The stage that the run is in; None before it has a row, and once all are closed."""
        run = self.run
        if run is None:
            return None
        for round in range(3):
            for stage in stages_of(round):
                if ledger.stage_done(self.store, run, round, stage) is None:
                    return stage
        return None

    def owner(self) -> int | None:
        """The pid of who was last to own the run."""
        with self.store.reading() as session:
            return session.scalar(select(LeaseRow.pid).where(LeaseRow.run_id == self.run))

    def chain(self) -> list[str]:
        """The digest of every stage."""
        run = str(self.run)
        told = [
            ledger.stage_done(self.store, run, round, stage)
            for round in range(3)
            for stage in stages_of(round)
        ]
        return [digest or "missing" for digest in told]

    def at_work(self) -> list[int]:
        """Pids of own workers that hold an item now and are not frozen."""
        holding = (
            select(WorkerRow.pid)
            .join(WorkItemRow, WorkItemRow.worker == WorkerRow.name)
            .where(WorkItemRow.state == "claimed")
        )
        with self.store.reading() as session:
            pids = set(session.scalars(holding)) & self.workers.keys()
        return sorted(pids - {pid for pid, _ in self.frozen})

    def kill(self, pid: int) -> None:
        process = self.workers.pop(pid)
        process.kill()
        process.wait()

    def freeze(self, pid: int) -> None:
        self.workers[pid].send_signal(signal.SIGSTOP)
        self.frozen.append((pid, time.monotonic() + 2 * LEASE))

    def wake(self, *, all: bool = False) -> None:
        """Let those go on that were frozen for long enough."""
        for pid, until in list(self.frozen):
            if all or time.monotonic() > until:
                self.workers[pid].send_signal(signal.SIGCONT)
                self.frozen.remove((pid, until))

    def send_home(self) -> Counter[int | None]:
        """End every worker as a person would, and count their exit codes."""
        self.wake(all=True)
        time.sleep(LEASE)
        for process in self.workers.values():
            process.terminate()
        codes = Counter(process.wait(60) for process in self.workers.values())
        self.workers.clear()
        return codes


@dataclass
class Plan:
    """What is still to be broken. `done` counts it by what and where."""

    kills: int
    zombies: int
    askers: int
    rng: random.Random
    done: Counter[str] = field(default_factory=Counter)
    turn: Iterator[str] = field(default_factory=lambda: cycle(STAGES))

    def __post_init__(self) -> None:
        self.next = next(self.turn)

    @property
    def over(self) -> bool:
        return not (self.kills or self.zombies or self.askers)


def crowd(site: Site, plan: Plan, workers: int) -> tuple[Tally, int]:
    """One run among workers, broken as planned: what its queue tells, and how much was broken."""
    before = plan.done.total()
    for _ in range(workers):
        site.hire()
    asker = site.ask()
    pull: float | None = None
    while asker.poll() is None:
        site.wake()
        if plan.askers and pull is None and site.owner() == asker.pid:
            pull = time.monotonic() + plan.rng.uniform(0, 15)
        if pull is not None and time.monotonic() > pull:
            plan.askers -= 1
            plan.done[f"asker in {site.stage()}"] += 1
            asker.kill()
            asker.wait()
            asker, pull = site.ask(), None
        elif plan.kills or plan.zombies:
            strike(site, plan)
        time.sleep(0.01)
    check(asker.returncode == 0, f"the asker ended with {asker.returncode}; see {site.folder}")
    codes = site.send_home()
    deaf = -signal.SIGTERM  # ended before it could listen
    check(set(codes) <= {0, deaf}, f"workers ended with {dict(codes)}; see {site.folder}")
    return tally(site.store, str(site.run)), plan.done.total() - before


def strike(site: Site, plan: Plan) -> None:
    """Kill or freeze a worker that holds an item, if it is in the stage whose turn it is."""
    if site.stage() != plan.next:
        return
    held = site.at_work()
    if not held:
        return
    pid = plan.rng.choice(held)
    if plan.kills:
        plan.kills -= 1
        plan.done[f"worker in {plan.next}"] += 1
        site.kill(pid)
    else:
        plan.zombies -= 1
        plan.done[f"zombie in {plan.next}"] += 1
        site.freeze(pid)
    site.hire()
    plan.next = next(plan.turn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--askers", type=int, default=3)
    parser.add_argument("--zombies", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--helps", action="store_true", help="the asker takes items too")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="coclimb-workers-"))
    alone = Site(folder / "alone", str(folder / "alone" / "coclimb.db"), SHARED)
    began = time.monotonic()
    check(alone.ask().wait() == 0, f"the run alone failed; see {alone.folder}")
    expected = alone.chain()
    print(f"alone {time.monotonic() - began:.0f} s, chain ends in {expected[-1][:12]}", flush=True)
    plan = Plan(options.kills, options.zombies, options.askers, random.Random(options.seed))
    settings = [*QUEUED, f"work.helps={str(options.helps).lower()}"]
    with ExitStack() as stack:
        number = 0
        while number == 0 or not plan.over:
            place = folder / f"crowd-{number}"
            url = stack.enter_context(address(options.store, place))
            report(Site(place, url, settings), plan, options.workers, expected)
            number += 1
    print(f"{dict(sorted(plan.done.items()))} in {number} runs: every chain the same, 0 violations")


def report(site: Site, plan: Plan, workers: int, expected: list[str]) -> None:
    """Take one run, hold it against the one alone, and print its figures."""
    began = time.monotonic()
    told, broken = crowd(site, plan, workers)
    seconds = time.monotonic() - began
    violations = invariants.verify(site.store, None, site.folder)["violations"]
    print(
        f"{workers} workers {seconds:.0f} s: {broken} broken, {told.dropped} items, "
        f"{told.redone} worked out again, {told.late} late answers refused",
        flush=True,
    )
    check(site.chain() == expected, f"another chain; see {site.folder}")
    check(violations == [], f"{violations}; see {site.folder}")
    check(told.redone <= broken, f"{told.redone} items redone; see {site.folder}")
    sweep(Home(site.folder, site.url))  # as the next worker there would
    left = [p for name in ("weights", "scratch") for p in (site.folder / name).rglob("*.*")]
    check(not [path for path in left if path.is_file()], f"left behind: {left}")
    site.store.close()


@contextmanager
def address(kind: str, place: Path) -> Iterator[str]:
    """A store of its own: a file, or a PostgreSQL of this program's."""
    if kind == "sqlite":
        yield str(place / "coclimb.db")
        return
    server = pgserver.get_server(place.with_suffix(".pg"), cleanup_mode="delete")
    try:
        yield parse_url(server.get_uri()).render_as_string(hide_password=False)
    finally:
        server.cleanup()


if __name__ == "__main__":
    main()
