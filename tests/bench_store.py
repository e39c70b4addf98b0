"""How fast a step of 256 rollouts is recorded, read back and verified.

    python -m tests.bench_store [--store postgres] [--insert]

Prints milliseconds per call, and rows per second, on SQLite in a temporary folder (a real disk:
synchronous is FULL), or on a PostgreSQL of its own there, with fsync on. --insert leaves COPY out.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import func, select, text

from pipeline.types import (
    Credited,
    Evidence,
    Group,
    Judged,
    Rollout,
    StepRecord,
    Task,
    Transcript,
    UpdateStats,
    Version,
)
from store import postgres
from store.columns import Base
from store.database import Lease, Store
from store.invariants import verify
from store.leases import acquire_lease
from store.ledger import (
    NewRun,
    close_stage,
    create_run,
    load_steps,
    record_probes,
    record_seed_tasks,
    record_step,
)
from store.points import Point, record_checkpoint
from store.questions import Filter, rollouts
from tests.pg import own_server

TASKS, GROUP, LENGTH, STEPS = 32, 8, 160, 20
T = TypeVar("T")


def made_group(step: int, number: int, task: Task, rng: random.Random) -> Group:
    name = f"r01-s{step:04d}-n{number:02d}"
    return Group(
        name,
        "solver",
        task,
        tuple(
            Rollout(
                id=f"{name}-g{g}",
                tokens=tuple(rng.randrange(2000) for _ in range(LENGTH)),
                written=tuple(n >= 60 for n in range(LENGTH)),
                logprobs=tuple(-rng.randrange(1 << 20) / (1 << 18) for _ in range(LENGTH)),
                completion="<think>" + "so it follows that " * 12 + "</think>",
                stop="end",
                seed=rng.randrange(2**63),
                version="solver@0",
            )
            for g in range(GROUP)
        ),
        tuple(Transcript("ok", "so it follows that " * 12, "seven") for _ in range(GROUP)),
    )


def made_step(step: int, tasks: list[Task]) -> StepRecord:
    rng = random.Random(step)
    return step_of(step, [made_group(step, n, task, rng) for n, task in enumerate(tasks)])


def step_of(step: int, groups: Sequence[Group]) -> StepRecord:
    """Step of round 1 in which these groups, of GROUP rollouts each, earned what chance gives."""
    rng = random.Random(step)
    evidence = tuple(
        Evidence("measured", "proxy@0", (-0.5, -0.25), (-1.5, -1.0), 40) for _ in range(GROUP)
    )
    credited = []
    for group in groups:
        rewards = tuple(rng.random() for _ in range(GROUP))
        judged = Judged(group, evidence, tuple(range(GROUP)), rewards, {"form": rewards})
        credited.append(Credited(judged, rewards, rewards))
    stats = UpdateStats(0.1, 0.1, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1, 1, 0, 0)
    versions = (Version(f"solver@{step}", "solver", step, (f"solver@{step - 1}",)),)
    return StepRecord(1, step, tuple(credited), (), {"solver": stats}, versions)


def begun(store: Store, tasks: Sequence[Task], ttl: float = 600) -> Lease:
    """A run that stands before its first step."""
    run = create_run(store, NewRun("{}", "0", {}, 1, 1))
    lease = acquire_lease(store, run, "bench", ttl)
    record_seed_tasks(store, lease, tasks)
    start = (Version("solver@0", "solver", 0), Version("proxy@0", "proxy", 0))
    record_checkpoint(store, lease, Point(run, 0, "round-000", "0", start))
    close_stage(store, lease, 0, "checkpoint")
    record_probes(store, lease, 0, ())
    close_stage(store, lease, 0, "probe")
    close_stage(store, lease, 1, "propose")
    return lease


def timed(call: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = call()
    return 1000 * (time.perf_counter() - start), result


@contextmanager
def place(kind: str) -> Iterator[str]:
    """Address of an empty store."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(dir=".") as folder:
            yield str(Path(folder) / "bench.db")
    else:
        with own_server() as server:
            yield server.url


def rows_in(store: Store) -> int:
    """Rows of every table together."""
    with store.reading() as session:
        counts = [select(func.count()).select_from(t) for t in Base.metadata.sorted_tables]
        return sum(session.execute(count).scalar_one() for count in counts)


def size_of(store: Store, address: str) -> int:
    """Bytes on disk."""
    if store.sqlite:
        return Path(address).stat().st_size
    asked = text("SELECT pg_database_size(current_database())")
    return store.read(lambda session: int(session.execute(asked).scalar_one()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--insert", action="store_true")
    options = parser.parse_args()
    if options.insert:
        postgres.COPY_FROM = sys.maxsize
    with place(options.store) as address:
        store = Store.open(address)
        tasks = [Task(f"seed-{n}", f"question {n}", "seven", "rule") for n in range(TASKS)]
        lease = begun(store, tasks)
        run = lease.run
        steps = [made_step(step, tasks) for step in range(1, STEPS + 1)]
        before = rows_in(store)
        spent = sorted(timed(lambda r=record: record_step(store, lease, r))[0] for record in steps)
        count = TASKS * GROUP
        write = sys.stdout.write
        best, median, worst = spent[0], spent[STEPS // 2], spent[-1]
        write(f"record_step, {count} rollouts: best {best:.1f} ms, median {median:.1f} ms, worst ")
        write(f"{worst:.1f} ms, {1000 * count / median:.0f} rollouts/s\n")
        rows = (rows_in(store) - before) / STEPS
        write(f"rows: {rows:.0f} a step, {1000 * rows / best:.0f} rows/s at best\n")
        took, loaded = timed(lambda: load_steps(store, run, 1))
        write(f"load_steps, {STEPS} steps: {took:.0f} ms, equal: {loaded == steps}\n")
        close_stage(store, lease, 1, "climb")
        took, answer = timed(lambda: verify(store, run))
        write(f"verify, {STEPS * count} rollouts: {took:.0f} ms, {answer['violations']}\n")
        took, listed = timed(lambda: rollouts(store, run, Filter(limit=50)))
        write(f"rollouts, {len(listed)} listed: {took:.1f} ms\n")
        write(f"size: {size_of(store, address) / (STEPS * count):.0f} bytes per rollout\n")
        store.close()


if __name__ == "__main__":
    main()
