"""A team's run, and all that can befall it: Prefect, PostgreSQL and helpers, each struck.

    python -m tests.study_team [--kills 10] [--server-kills 3] [--restarts 5] [--seed 0]

The short run is climbed by hand on SQLite, without Prefect and without workers. Then it is deployed
on a Prefect server, with PostgreSQL and two helpers on queues of their own, and while it climbs the
helpers are killed where they hold an item (propose, climb, probe in turn), the Prefect server is
killed, and PostgreSQL is restarted ("immediate" and "fast"), in a random order. Runs are deployed
until all of that has happened. Every one must end by itself in the digest chain of the first, with
nothing for `verify` to find and no item redone but those that were in a killed helper's hands.
Every kill is SIGKILL to a process of this program's own.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path

from sqlalchemy import select

from flows.home import STORE
from store import invariants, ledger, questions
from store.database import Store
from store.schema import WorkerRow, WorkItemRow
from store.stages import stages_of
from store.work import tally
from tests.deployments import LastingServer, coclimb, working
from tests.pg import PgServer, own_server
from tests.study_kills import SHORT, check

CHANGES = [part for change in (*SHORT, "work.shard=2") for part in ("--set", change)]
QUEUED = ["work.queue=true", "work.helps=false", "work.lease=3"]
TEAM = [part for change in QUEUED for part in ("--set", change)]
STAGES = ("propose", "climb", "probe")
LONGEST = 1500.0  # seconds that one run may take, with everything that befalls it


class Team:
    """A run's home on PostgreSQL, and the server that its flows are started by."""

    def __init__(self, folder: Path, database: PgServer, server: LastingServer) -> None:
        self.home, self.database, self.server = folder / "home", database, server
        self.home.mkdir(parents=True)
        self.store = Store.open(database.url)

    def run(self, name: str) -> questions.Answer:
        """The run's row; an empty one before it is begun."""
        return next((row for row in questions.runs(self.store) if row["name"] == name), {})

    def stage(self, run: str) -> str | None:
        """The stage that a run is in, or None once all are closed."""
        for round, stage in stages():
            if ledger.stage_done(self.store, run, round, stage) is None:
                return stage
        return None

    def holding(self, run: str) -> list[int]:
        """Pids of helpers that hold an item of the run."""
        held = (
            select(WorkerRow.pid)
            .join(WorkItemRow, WorkItemRow.worker == WorkerRow.name)
            .where(WorkItemRow.state == "claimed", WorkItemRow.run_id == run)
        )
        return self.store.read(lambda session: list(session.scalars(held)))


class Plan:
    """What is still to be struck, in a random order; `done` counts it by what and where."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.rng = random.Random(options.seed)
        blows = ["helper"] * options.kills + ["server"] * options.server_kills
        modes = cycle(("immediate", "fast"))
        self.left = [*blows, *(f"database, {next(modes)}" for _ in range(options.restarts))]
        self.rng.shuffle(self.left)
        self.turn, self.done = cycle(STAGES), Counter[str]()
        self.next = next(self.turn)

    def strike(self, team: Team, run: str) -> None:
        """Strike what comes next, where it can be."""
        kind = self.left[0]
        stage = team.stage(run)
        if kind == "helper":
            held = team.holding(run)
            if stage != self.next or not held:
                return
            os.kill(self.rng.choice(held), signal.SIGKILL)
            self.next = next(self.turn)
        elif kind == "server":
            team.server.kill()
            team.server.start()
        else:
            team.database.stop(kind.partition(", ")[2])
            time.sleep(self.rng.uniform(0.0, 3.0))
            team.database.start()
        self.done[f"{kind} in {stage}"] += 1
        self.left.pop(0)
        print(f"  {kind} in {stage}", flush=True)


def stages() -> list[tuple[int, str]]:
    return [(round, stage) for round in range(3) for stage in stages_of(round)]


def chain(store: Store, name: str) -> list[str]:
    """The digest of every stage of a run, in order."""
    run = questions.resolve(store, name)
    return [ledger.stage_done(store, run, *place) or "missing" for place in stages()]


def deploy(team: Team, name: str, *more: str) -> None:
    """Put a run on the server, or change what is there."""
    changes = (*CHANGES, *TEAM, "--name", name, "--gpus", "2")
    coclimb(team.server, team.home, "deploy", *changes, *more)


def climb(team: Team, name: str, plan: Plan) -> None:
    """Strike while a deployed run climbs, and wait until it is done by itself."""
    began, last = time.monotonic(), time.monotonic()
    while (row := team.run(name)).get("status") != "done":
        check(time.monotonic() < began + LONGEST, f"{name} is {row.get('status')} after all")
        climbs = row and row["owner"] is not None
        if plan.left and climbs and time.monotonic() > last + plan.rng.uniform(1.0, 6.0):
            plan.strike(team, str(row["id"]))
            last = time.monotonic()
        time.sleep(0.02)
    deploy(team, name)  # its schedule ends
    told = tally(team.store, str(row["id"]))
    print(
        f"{name}: {time.monotonic() - began:.0f} s, {told.dropped} items, {told.redone} redone, "
        f"{told.workers} helpers", flush=True,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--server-kills", type=int, default=3)
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    plan = Plan(parser.parse_args())
    folder = Path(tempfile.mkdtemp(prefix="coclimb-team-"))
    server = LastingServer(folder / "prefect")
    print(f"in {folder}", flush=True)
    alone = folder / "alone"
    began = time.monotonic()
    by_hand = [sys.executable, "-m", "flows.cli", "--home", str(alone), "run", *CHANGES]
    subprocess.run(
        [*by_hand, "--name", "alone", "--plain"], env=server.environment, check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    expected = chain(Store.open(str(alone / "coclimb.db")), "alone")
    print(f"alone: {time.monotonic() - began:.0f} s, chain {expected[-1][:12]}", flush=True)
    with own_server() as database, ExitStack() as stack:
        os.environ[STORE] = database.url
        server.start()
        stack.callback(server.kill)
        team = Team(folder / "team", database, server)
        runs = 0
        while plan.left or not runs:
            runs += 1
            name = f"team-{runs}"
            deploy(team, name, "--idle", "20", "--interval", "20")
            if runs == 1:  # a worker is refused where its queue is not
                for queue in ("train", "gpu-0", "gpu-1"):
                    stack.enter_context(working(server, team.home, queue))
            climb(team, name, plan)
            check(chain(team.store, name) == expected, "another digest chain")
        found = invariants.verify(team.store, None, team.home)["violations"]
        redone = sum(tally(team.store, str(r["id"])).redone for r in questions.runs(team.store))
        kills = sum(count for blow, count in plan.done.items() if blow.startswith("helper"))
        print(f"{dict(sorted(plan.done.items()))} in {runs} runs: every chain the same")
        print(f"{len(found)} violations, {redone} items redone after {kills} kills of helpers")
        check(found == [] and redone <= kills, f"{found}; see {folder}")
        team.store.close()


if __name__ == "__main__":
    main()
