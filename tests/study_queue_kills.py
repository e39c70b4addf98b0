"""Kill workers of the queue while they claim and finish, and count what was lost or doubled.

    python -m tests.study_queue_kills [--store sqlite|postgres|URL] [--kills 200] [--seed 0]

Half of the workers are killed from outside at any moment, half kill themselves at a fault point
within or beside a transaction. Every kill is SIGKILL to a process of this program's own. Prints
kills, items, what was redone and refused, and exits 1 where an item was lost, answered twice, or
redone though nobody held it.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from pipeline.faults import arm
from pipeline.items import Item, WeightsFile
from store.database import Lease, Store, parse_url
from store.invariants import verify
from store.leases import acquire_lease
from store.ledger import NewRun, create_run
from store.work import answers, claim, finish, put, tally

POINTS = ("work.claimed", "work.claimed_after", "work.finished", "work.finished_after")
WEIGHTS = WeightsFile("w.safetensors", "5" * 64, "solver@1")
HELD = 0.5  # seconds of a lease
WORKERS = 4
_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(["tests.study_queue_kills"])


@dataclass(frozen=True, slots=True)
class Told:
    """What a study found; lost, doubled and violations are to be 0."""

    kills: int
    at_points: int
    items: int
    lost: int
    doubled: int
    violations: int
    redone: int
    late: int

    def sound(self) -> bool:
        """Nothing lost, doubled or broken, and nothing redone but what a dead or slow one held."""
        broken = (self.lost, self.doubled, self.violations)
        return broken == (0, 0, 0) and self.redone <= self.kills + self.late


def answer_of(item: Item) -> bytes:
    """What any honest worker answers."""
    return hashlib.sha256(item.ask).digest() * 50


def work(url: str, log: Path, seed: int, point: str | None) -> None:
    """Answer items until killed, each answer that was taken as a line of the log."""
    store, rng = Store.open(url), random.Random(seed)
    if point is not None:
        left = [rng.randrange(1, 6)]

        def act() -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        arm(point, act)
    lines = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while True:
        one = claim(store, f"worker-{os.getpid()}", HELD)
        if one is None:
            time.sleep(0.02)
            continue
        time.sleep(rng.uniform(0.0, 0.02))
        if finish(store, one, answer_of(one.item), WEIGHTS.sha256):
            os.write(lines, f"{one.item.id}\n".encode())


class Herd:
    """Workers of which some die, with a new one for each."""

    def __init__(self, url: str, log: Path, seed: int) -> None:
        self.url, self.log, self.rng = url, log, random.Random(seed)
        self.kills = self.at_points = 0
        self.alive: list[tuple[BaseProcess, str | None]] = []

    def fill(self) -> None:
        """Count the dead and start others in their place."""
        for process, point in self.alive:
            if not process.is_alive():
                process.join()
                self.kills += process.exitcode == -signal.SIGKILL
                self.at_points += point is not None
        self.alive = [one for one in self.alive if one[0].is_alive()]
        while len(self.alive) < WORKERS:
            point = self.rng.choice([None, self.rng.choice(POINTS)])
            told = (self.url, self.log, self.rng.randrange(2**31), point)
            process = _FORKED.Process(target=work, args=told)
            process.start()
            self.alive.append((process, point))

    def kill_one(self) -> None:
        process, point = self.alive[self.rng.randrange(len(self.alive))]
        if point is None:
            process.kill()
            process.join()

    def end(self) -> None:
        for process, _ in self.alive:
            process.kill()
            process.join()


def study(url: str, folder: Path, kills: int, seed: int = 0) -> Told:
    """Kill so many workers over however many items that takes, and look at what is left."""
    store = Store.open(url)
    run = create_run(store, NewRun("{}", "c" * 64, {}, seed, 1))
    lease = acquire_lease(store, run, "asker", 3600)
    log = folder / "answered.log"
    herd, items, rng = Herd(url, log, seed), list[Item](), random.Random(seed)
    try:
        while herd.kills < kills:
            herd.fill()
            items += more_items(len(items))
            put(store, lease, items)  # as an asker that was killed too would: all of it again
            time.sleep(rng.expovariate(1 / 0.1))
            herd.kill_one()
        found = await_answers(store, lease, [item.id for item in items], herd)
    finally:
        herd.end()
    lines = Counter(log.read_text().split())
    wrong = sum(found.get(item.id) != answer_of(item) for item in items)
    broken = verify(store, run)["violations"]
    assert isinstance(broken, list)
    told = tally(store, run)
    store.close()
    twice = sum(count > 1 for count in lines.values())
    counts = (herd.kills, herd.at_points, len(items), wrong, twice, len(broken))
    return Told(*counts, redone=told.redone, late=told.late)


def more_items(begin: int) -> list[Item]:
    asks = (f"ask {n}".encode() * 20 for n in range(begin, begin + 10))
    return [Item(hashlib.sha256(ask).hexdigest(), WEIGHTS, "sample", 8, ask) for ask in asks]


def await_answers(store: Store, lease: Lease, ids: list[str], herd: Herd) -> dict[str, bytes]:
    """All answers; fewer where a minute passes without a new one."""
    found: dict[str, bytes] = {}
    waiting = time.monotonic()
    while len(found) < len(ids) and time.monotonic() - waiting < 60:
        herd.fill()
        more = answers(store, lease.run, [name for name in ids if name not in found])
        waiting = time.monotonic() if more else waiting
        found |= more
        time.sleep(0.05)
    return found


@contextmanager
def address(kind: str, folder: Path) -> Iterator[str]:
    """Of an empty store: in a file, on a PostgreSQL of its own, or the one named."""
    if kind == "sqlite":
        yield str(folder / "coclimb.db")
    elif kind == "postgres":
        import pgserver  # noqa: PLC0415 - only where it is asked for

        running = pgserver.get_server(folder / "pg", cleanup_mode="delete")
        yield parse_url(running.get_uri()).render_as_string(hide_password=False)
        running.cleanup()
    else:
        yield kind


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="sqlite")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="coclimb-queue-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the server runs under a user of its own where this one is root
        with address(options.store, folder) as url:
            told = study(url, folder, options.kills, options.seed)
    print(f"{options.store}: {told}")
    if not told.sound():
        sys.exit("failed: see above")


if __name__ == "__main__":
    main()
