"""What the queue and the store do under 1,000 workers and 1,000,000 rollouts, without a model.

    python -m tests.bench_queue --store sqlite|postgres [--rollouts 1000000] [--workers 1000]
        [--per-item 64] [--processes 2] [--threads 4] [--seconds 3] [--folder .]

The asker puts the calls of a step out, waits for the answers, reads them, and records the step's
groups as a run does. Workers are honest clients of `claim` and `finish`, many to a thread, each
busy with an item for about `--seconds`; a few die in the middle of an item, a few answer after
their lease is over. A step gives every worker one item, so its items are claimed all at once: queue
latency holds how long the last of them waits for its turn. Everything shares this machine's cores.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from pipeline.engine.messages import sample_item, samples_of
from pipeline.items import Item
from pipeline.ports import Sample, SampleRequest
from pipeline.types import Group, Rollout, Task, Transcript
from store.database import Lease, Store, parse_url
from store.invariants import verify
from store.ledger import record_step
from store.work import RunQueue, tally
from tests.bench_store import GROUP, begun, step_of
from tests.crew_queue import WEIGHTS, WRITTEN, Times, work
from tests.study_queue_kills import address

PROMPT = 60  # tokens
RECORDED = 4096  # most rollouts that are recorded in one transaction
TEXT = "so it follows that " * 12


@dataclass
class Asker:
    """Puts steps out, waits, and records them; how long each of it took, in seconds."""

    store: Store
    lease: Lease
    tasks: Sequence[Task]
    per_item: int
    put: float = 0.0
    waited: float = 0.0
    read: float = 0.0
    recorded: float = 0.0
    steps: int = 0

    def step(self, number: int, rollouts: int) -> None:
        """One step of so many rollouts, from its calls to its rows."""
        began = time.perf_counter()
        items = list(islice(self._items(number), rollouts // self.per_item))
        queue = RunQueue(self.store, self.lease, "asker")
        queue.put(items)
        self.put += (since := time.perf_counter()) - began
        told = self._await(queue, [item.id for item in items])
        self.waited += time.perf_counter() - since
        numbers = count()
        for some in _parts(items, max(RECORDED // self.per_item, 1)):
            self.steps += 1
            began = time.perf_counter()
            groups = [
                self._group(f"r01-s{number:04d}-n{next(numbers):05d}", samples)
                for item in some
                for samples in samples_of(told.pop(item.id))
            ]
            record = step_of(self.steps, groups)
            self.read += (since := time.perf_counter()) - began
            record_step(self.store, self.lease, record)
            self.recorded += time.perf_counter() - since

    def _items(self, number: int) -> Iterator[Item]:
        rng = random.Random(number)
        while True:
            requests = [
                SampleRequest(
                    tuple(rng.choices(range(2000), k=PROMPT)),
                    tuple(rng.randrange(2**62) for _ in range(GROUP)),
                )
                for _ in range(self.per_item // GROUP)
            ]
            yield sample_item(WEIGHTS, requests, WRITTEN, 1.0)

    def _await(self, queue: RunQueue, ids: list[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        left = dict.fromkeys(ids)
        while left:
            for name, told in queue.answers(left).items():
                found[name] = told
                del left[name]
            time.sleep(0.2 if left else 0.0)
        return found

    def _group(self, name: str, samples: Sequence[Sample]) -> Group:
        task = self.tasks[int(name[-5:]) % len(self.tasks)]
        written = (False,) * PROMPT + (True,) * WRITTEN
        rollouts = tuple(
            Rollout(
                f"{name}-g{g}",
                (7,) * PROMPT + one.tokens,
                written,
                (0.0,) * PROMPT + one.logprobs,
                f"<think>{TEXT}</think>",
                one.stop,
                g,
                WEIGHTS.version,
            )
            for g, one in enumerate(samples)
        )
        return Group(name, "solver", task, rollouts, (Transcript("ok", TEXT, "seven"),) * GROUP)


def _parts(items: list[Item], size: int) -> Iterator[list[Item]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def simulate(url: str, options: argparse.Namespace) -> None:
    """Take every step with the workers at work, and say how it went."""
    store = Store.open(url)
    tasks = [Task(f"seed-{n}", f"question {n}", "seven", "rule") for n in range(512)]
    lease = begun(store, tasks, 7 * 86400)
    asker = Asker(store, lease, tasks, options.per_item)
    with at_work(url, options) as times:
        began, left, number = time.perf_counter(), options.rollouts, 0
        while left > 0 and time.perf_counter() - began < 60 * options.minutes:
            number, size = number + 1, min(options.workers * options.per_item, left)
            asker.step(number, size)
            left -= size
            say(f"  step {number}: {left} rollouts left, {time.perf_counter() - began:.0f} s")
        seconds = time.perf_counter() - began
    options.rollouts -= left
    report(asker, times, seconds, options)
    store.close()


@contextmanager
def at_work(url: str, options: argparse.Namespace) -> Iterator[Times]:
    """In this block the workers work; after it stands what they saw."""
    context, times = multiprocessing.get_context("spawn"), Times()
    workers, lines = [], []
    for n in range(options.processes):
        names = [f"worker-{w:04d}" for w in range(n, options.workers, options.processes)]
        shares = [names[t :: options.threads] for t in range(options.threads)]
        here, there = context.Pipe()
        told = (url, shares, options.seconds, there)
        workers.append(context.Process(target=work, args=told, daemon=True))
        lines.append(here)
        workers[-1].start()
    yield times
    for process, line in zip(workers, lines, strict=True):
        line.send("stop")
        times.join(line.recv())
        process.join()


def report(asker: Asker, times: Times, seconds: float, options: argparse.Namespace) -> None:
    store, rollouts = asker.store, options.rollouts
    told = tally(store, asker.lease.run)
    rows = {name: counted(store, name) for name in ROWS}
    whole, queue = sizes(store)
    say(
        f"{rollouts} rollouts in {told.dropped} items, {options.workers} workers: {seconds:.0f} s\n"
        f"  putting out {asker.put:.1f} s, waiting {asker.waited:.1f} s, reading answers "
        f"{asker.read:.1f} s, recording {asker.recorded:.1f} s\n"
        f"  CPU: asker {time.process_time():.0f} s, workers {times.cpu:.0f} s; load of the machine "
        f"{os.getloadavg()[2]:.1f}\n"
        f"  {rollouts / seconds:.0f} rollouts/s in all, {rollouts / asker.waited:.0f}/s answered "
        f"while waiting, {rollouts / asker.recorded:.0f}/s recorded "
        f"({sum(rows.values()) / asker.recorded:.0f} rows/s)\n"
        f"  claim: {spread(times.claims)}\n  nothing to claim: {spread(times.misses)}\n"
        f"  finish: {spread(times.finishes)}\n"
        f"  queue latency, put to claim: median {told.waited:.2f} s, p99 {told.waited_99:.2f} s\n"
        f"  {times.died} workers died, {times.came_late} were late; {told.redone} items redone, "
        f"{told.late} late and {told.foreign} foreign answers refused, {told.failed} given up, "
        f"{times.locked_out} calls made again after the database was locked\n"
        f"  size: {whole / 2**20:.0f} MiB, {whole / rollouts:.0f} bytes per rollout; of it the "
        f"queue {queue / 2**20:.1f} MiB, after the last step was committed\n  rows: {rows}"
    )
    if options.verify:
        began = time.perf_counter()
        found = verify(store, asker.lease.run)["violations"]
        say(f"  verify: {found} in {time.perf_counter() - began:.0f} s")


ROWS = ("work_item", "worker", "rollout_group", "rollout", "evidence", "credit", "judgement")


def counted(store: Store, table: str) -> int:
    with store.reading() as session:
        return int(session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def sizes(store: Store) -> tuple[int, int]:
    """Bytes of the database, and of the queue's table with its indexes."""
    with store.reading() as session:
        if not store.sqlite:
            whole = text("SELECT pg_database_size(current_database())")
            queue = text("SELECT pg_total_relation_size('work_item')")
        else:
            whole = text("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
            queue = text("SELECT sum(pgsize) FROM dbstat WHERE name LIKE '%work_item%'")
        try:
            of_queue = session.execute(queue).scalar_one()
        except OperationalError:  # a SQLite built without dbstat
            of_queue = 0
        return session.execute(whole).scalar_one(), of_queue


def spread(seconds: list[float]) -> str:
    if len(seconds) < 2:
        return f"{len(seconds)} calls"
    cut = statistics.quantiles(seconds, n=100, method="inclusive")
    return f"{len(seconds)} calls, median {1000 * cut[49]:.1f} ms, p99 {1000 * cut[98]:.1f} ms"


def say(told: str) -> None:
    print(told, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", default="sqlite", help="sqlite, postgres or an address")
    parser.add_argument("--rollouts", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--per-item", type=int, default=64, help="rollouts of an item")
    parser.add_argument("--processes", type=int, default=2, help="that the workers share")
    parser.add_argument("--threads", type=int, default=4, help="of each, a connection each")
    parser.add_argument("--seconds", type=float, default=3.0, help="an item takes, about")
    parser.add_argument("--minutes", type=float, default=1e9, help="after which no step begins")
    parser.add_argument("--folder", type=Path, default=Path("."), help="on the disk to measure")
    parser.add_argument("--verify", action="store_true", help="check every invariant at the end")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="coclimb-queue-", dir=options.folder) as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        with address(options.store, folder) as url:
            say(f"{parse_url(url).get_backend_name()}, {options.processes} processes")
            simulate(url, options)


if __name__ == "__main__":
    main()
