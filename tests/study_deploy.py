"""Deployments on a real Prefect server with real workers: what fires, who owns, what survives.

    python -m tests.study_deploy [--only scheduled owners killed lost server helped] [--seed 0]

    scheduled  an interval schedule climbs a run by itself, a round a firing
    owners     two deployments fire at one run at once: one climbs, one is refused
    killed     the climbing process is killed in mid-climb; the schedule goes on with the run
    lost       worker and flow are killed together; the next worker finds the queue open
    server     the server is killed again and again under one climbing flow
    helped     a run calls a helper to a queue, which answers its items and ends

Every run must end in the digest chain of one that was climbed by hand without Prefect, and `verify`
must find nothing. Prints figures; exits 1 where something does not hold. Every kill is SIGKILL to a
process of this program's own. Prefect 3.8.8's scheduler plans nothing under SQLAlchemy 2.1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from store import ledger, questions
from store.database import Store
from store.questions import Answer
from store.stages import stages_of
from tests.deployments import (
    LastingServer,
    Row,
    climbing,
    coclimb,
    command,
    wait_for,
    working,
)
from tests.study_kills import SHORT

CHANGES = [part for change in SHORT for part in ("--set", change)]
LONGEST = 900.0  # seconds that a short run may take, with everything that befalls it


class Study:
    """A server, a home, and the chain that every run must end in."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.home, self.options = folder, folder / "home", options
        self.server = LastingServer(folder / "prefect")
        self.home.mkdir()
        self.store = Store.open(str(self.home / "coclimb.db"))

    def whole(self) -> None:
        """Climb once by hand, without Prefect."""
        began = time.monotonic()
        coclimb(self.server, self.home, "run", *CHANGES, "--name", "whole", "--plain")
        self.chain = self.chain_of("whole")
        print(f"by hand: {time.monotonic() - began:.0f} s, chain {self.chain[-1][:12]}", flush=True)

    def chain_of(self, run: str) -> list[str]:
        """The digest of every stage of a run, in order."""
        found = questions.resolve(self.store, run)
        stages = [(r, s) for r in range(3) for s in stages_of(r)]
        return [ledger.stage_done(self.store, found, *stage) or "" for stage in stages]

    def status(self, run: str) -> Answer:
        """A run's row; an empty one where it is not begun."""
        return next((row for row in questions.runs(self.store) if row["name"] == run), {})

    def done(self, run: str) -> bool:
        return self.status(run).get("status") == "done"

    def deploy(self, name: str, *more: str) -> None:
        coclimb(self.server, self.home, "deploy", *CHANGES, "--name", name, *more)

    def runs(self, name: str) -> list[Row]:
        return self.server.flow_runs(f"coclimb-climb/{name}")

    def unschedule(self, name: str, *more: str) -> None:
        """Take a deployment's schedule away, so that it fires no more."""
        self.deploy(name, *more)

    def same(self, run: str) -> None:
        check(self.chain_of(run) == self.chain, f"{run}: another digest chain")


def scheduled(study: Study) -> None:
    """Rounds begin by themselves."""
    study.deploy("timed", "--interval", "15", "--rounds-more", "1")
    began = time.monotonic()
    with working(study.server, study.home, "train"):
        wait_for(lambda: study.done("timed"), LONGEST, "the scheduled run")
        took = time.monotonic() - began
        study.unschedule("timed")
    ended = [run for run in study.runs("timed") if run["state"]["name"] == "Completed"]
    skipped = sum(run["state"]["name"] == "Skipped" for run in study.runs("timed"))
    waits = [latency(run) for run in ended]
    study.same("timed")
    print(
        f"scheduled: 2 rounds by {len(ended)} firings in {took:.0f} s, {skipped} that came due "
        f"meanwhile skipped; due to begun {', '.join(f'{w:.1f}' for w in waits)} s", flush=True,
    )  # fmt: skip


def owners(study: Study) -> None:
    """One owner, one refusal that names it."""
    for side in ("left", "right"):
        study.deploy(side, "--run", "shared", "--train-queue", side)
    with working(study.server, study.home, "left"), working(study.server, study.home, "right"):
        fired = [study.server.fire(f"coclimb-climb/{side}") for side in ("left", "right")]
        ended = ("COMPLETED", "CANCELLED", "FAILED", "CRASHED")
        states = lambda: [study.server.state(one) for one in fired]  # noqa: E731
        wait_for(lambda: all(s["type"] in ended for s in states()), LONGEST, "both firings")
    told = sorted((state["name"], state["message"]) for state in states())
    check([name for name, _ in told] == ["Completed", "Refused"], f"the firings ended as {told}")
    check("belongs to" in told[1][1], f"refused with {told[1][1]!r}")
    study.same("shared")
    print(f"owners: one climbed, the other was refused: {told[1][1]}", flush=True)


def killed(study: Study) -> None:
    """The next firing goes on where the process was killed."""
    study.deploy("struck", "--interval", "15")
    with working(study.server, study.home, "train") as worker:
        wait_for(lambda: in_climb(study, "struck"), LONGEST, "the run to climb")
        [process] = climbing(worker.pid)
        os.kill(process, signal.SIGKILL)
        began = time.monotonic()
        wait_for(lambda: first_state(study, "struck") == "CRASHED", 90, "Prefect to see the kill")
        seen = time.monotonic() - began
        wait_for(lambda: study.done("struck"), LONGEST, "the next firing")
        study.unschedule("struck")
    study.same("struck")
    took = time.monotonic() - began
    print(f"killed: seen after {seen:.1f} s, done {took:.0f} s after the kill", flush=True)


def lost(study: Study) -> None:
    """A worker that is killed with its flow leaves no queue shut."""
    study.deploy("left")
    with working(study.server, study.home, "train") as worker:
        fired = study.server.fire("coclimb-climb/left")
        wait_for(lambda: in_climb(study, "left"), LONGEST, "the run to climb")
        processes = climbing(worker.pid)
        for process in (worker.pid, *processes):
            os.kill(process, signal.SIGKILL)
    left = study.server.state(fired)["type"]
    began = time.monotonic()
    with working(study.server, study.home, "train"):
        study.server.fire("coclimb-climb/left")
        wait_for(lambda: study.done("left"), LONGEST, "the run after its worker was lost")
    took = time.monotonic() - began
    study.same("left")
    check(left == "RUNNING", f"the flow run of a lost worker was {left}")
    check(study.server.state(fired)["type"] == "CRASHED", "it was not called crashed afterwards")
    print(f"lost: worker and flow killed; done {took:.0f} s after another worker", flush=True)


def server(study: Study) -> None:
    """Runs go on while the server is away, and are shown again afterwards."""
    rng = random.Random(study.options.seed)
    left, runs = study.options.server_kills, 0
    study.deploy("shaken-1")  # a worker is refused where its queue is not
    with working(study.server, study.home, "train"):
        while left:
            runs += 1
            left -= shaken(study, f"shaken-{runs}", left, rng)


def shaken(study: Study, name: str, most: int, rng: random.Random) -> int:
    """Kill the server while a run climbs, so often at most; how often it was."""
    study.deploy(name)
    fired = study.server.fire(f"coclimb-climb/{name}")
    wait_for(lambda: bool(study.status(name)), LONGEST, "the run to begin")
    kills, away = 0, 0.0
    while kills < most and not study.done(name):
        time.sleep(rng.uniform(0.5, 3.0))
        study.server.kill()
        kills, began = kills + 1, time.monotonic()
        study.server.start()
        away += time.monotonic() - began
    wait_for(lambda: study.done(name), LONGEST, "the run under a killed server")
    kept = study.server.state(fired)["type"] != "RUNNING"
    ended = ("COMPLETED", "CRASHED")
    wait_for(lambda: study.server.state(fired)["type"] in ended, 180, "the flow's end")
    state = study.server.state(fired)
    study.same(name)
    print(
        f"server: {kills} kills, away for {away:.0f} s in all; the run is done, the flow run "
        f"{state['name']}{' at once' if kept else ''}", flush=True,
    )  # fmt: skip
    return kills


def helped(study: Study) -> None:
    """A helper answers items on its own queue."""
    more = ("--set", "work.queue=true", "--set", "work.helps=false", "--gpus", "1", "--idle", "8")
    study.deploy("helped", *more)
    with working(study.server, study.home, "train"), working(study.server, study.home, "gpu-0"):
        began = time.monotonic()
        study.server.fire("coclimb-climb/helped")
        wait_for(lambda: study.done("helped"), LONGEST, "the run with a helper")
        took = time.monotonic() - began
        [helper] = study.server.flow_runs("coclimb-help/helped-gpu-0")
        over = lambda: study.server.state(helper["id"])["type"] == "COMPLETED"  # noqa: E731
        wait_for(over, 90, "the helper's end")
    study.same("helped")
    said = study.server.state(helper["id"])["message"]
    print(f"helped: 2 rounds in {took:.0f} s; {said}", flush=True)


def in_climb(study: Study, run: str) -> bool:
    """Whether a step of the run's first round is committed, and no more than that."""
    row = study.status(run)
    if not row or row["owner"] is None:
        return False
    steps = ledger.steps_done(study.store, str(row["id"]), 1)
    return 1 <= steps < 4


def first_state(study: Study, name: str) -> str:
    found = [run for run in study.runs(name) if run["start_time"]]
    return str(found[0]["state"]["type"]) if found else ""


def latency(run: Row) -> float:
    """Seconds from when a flow run was due to when it began."""
    due, began = (datetime.fromisoformat(run[k]) for k in ("expected_start_time", "start_time"))
    return (began - due).total_seconds()


def violations(study: Study) -> int:
    """How many promises `verify` finds broken in all runs together."""
    told = subprocess.run(
        command(study.home, "verify", "--json"), env=study.server.environment,
        capture_output=True, text=True,
    ).stdout  # fmt: skip
    return len(json.loads(told)["violations"])


def check(holds: bool, what: str) -> None:
    """Exit 1 with the reason where something does not hold."""
    if not holds:
        sys.exit(f"failed: {what}")


PARTS: dict[str, Callable[[Study], None]] = {
    "scheduled": scheduled, "owners": owners, "killed": killed, "lost": lost,
    "server": server, "helped": helped,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--server-kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    study = Study(Path(tempfile.mkdtemp(prefix="coclimb-deploy-")), options)
    print(f"in {study.folder}", flush=True)
    began = time.monotonic()
    study.server.start()
    print(f"the server starts in {time.monotonic() - began:.0f} s", flush=True)
    try:
        study.whole()
        for name in options.only:
            PARTS[name](study)
    finally:
        study.server.kill()
    found = violations(study)
    print(f"verify: {found} violations in all", flush=True)
    check(found == 0, f"see {study.folder}")


if __name__ == "__main__":
    main()
