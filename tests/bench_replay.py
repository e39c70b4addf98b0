"""How long a replay takes: python -m tests.bench_replay [--rollouts 100000] [--rewards nover rlpr]

Fills a store in a temporary folder with groups of 8 attempts (20 reference tokens, 60 written),
read by every meter, then reads and judges them again with each reward in turn. Prints seconds.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from flows.looks.replay import compare
from pipeline.config import RunConfig
from pipeline.rewards import REWARDS, needed
from pipeline.types import (
    Credited,
    Evidence,
    Group,
    Judged,
    Reading,
    Rollout,
    StepRecord,
    Task,
    Transcript,
    UpdateStats,
    Version,
)
from store.database import Store
from store.leases import acquire_lease
from store.ledger import (
    NewRun,
    close_stage,
    create_run,
    record_probes,
    record_seed_tasks,
    record_step,
)
from store.points import Point, record_checkpoint
from store.retold import retell

GROUP, TASKS, WRITTEN, REFERENCE = 8, 50, 60, 20


def readings(rng: random.Random, sources: tuple[str, ...]) -> tuple[Reading, ...]:
    """What every meter might have read of an attempt."""
    values = {
        "rule": (0.0, float(rng.random() < 0.5), 1.0),
        "vote": (float(rng.random() < 0.5), 0.375, 0.5),
        "shape": (WRITTEN, 40.0, 5.0, 0.1),
        "judge": (rng.random(),),
        "rubric": (rng.random(), rng.random()),
        "teacher": (float(rng.random() < 0.5), 0.75),
        "steps": tuple(rng.random() for _ in range(5)),
        "cross": (-rng.random(), -rng.random(), -rng.random()),
    }
    ends = {"steps": (10, 20, 30, 40, 50), "cross": (rng.randrange(3),)}
    long = tuple(rng.random() for _ in range(WRITTEN))
    return tuple(
        Reading(source, "proxy@0", "measured", values.get(source, long), ends.get(source, ()))
        for source in sources
    )


def made_step(step: int, tasks: list[Task], sources: tuple[str, ...]) -> StepRecord:
    rng = random.Random(step)
    credited = []
    prompt = (7,) * 40
    for number, task in enumerate(tasks):
        name = f"r01-s{step:04d}-n{number:02d}"
        rollouts = tuple(
            Rollout(
                id=f"{name}-g{g}",
                tokens=prompt + tuple(rng.randrange(2000) for _ in range(WRITTEN)),
                written=(False,) * 40 + (True,) * WRITTEN,
                logprobs=(0.0,) * 40 + tuple(-rng.random() for _ in range(WRITTEN)),
                completion="so it follows",
                stop="end",
                seed=g,
                version="solver@0",
            )
            for g in range(GROUP)
        )
        baseline = tuple(-2 * rng.random() for _ in range(REFERENCE))
        evidence = tuple(
            Evidence(
                "measured",
                "proxy@0",
                tuple(-rng.random() for _ in range(REFERENCE)),
                baseline,
                40,
                readings=readings(rng, sources),
            )
            for _ in range(GROUP)
        )
        group = Group(name, "solver", task, rollouts, (Transcript("ok", "so", "seven"),) * GROUP)
        rewards = tuple(rng.random() for _ in range(GROUP))
        credited.append(
            Credited(Judged(group, evidence, tuple(range(GROUP)), rewards), rewards, rewards)
        )
    stats = UpdateStats(0.1, 0.1, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1, 1, 0, 0)
    versions = (Version(f"solver@{step}", "solver", step, (f"solver@{step - 1}",)),)
    return StepRecord(1, step, tuple(credited), (), {"solver": stats}, versions)


def fill(store: Store, rollouts: int, sources: tuple[str, ...]) -> str:
    """A run of one unfinished round that holds this many attempts."""
    run = create_run(store, NewRun("{}", "0", {}, 1, 1))
    lease = acquire_lease(store, run, "bench", 3600)
    tasks = [Task(f"seed-{n}", f"question {n}", "seven", "rule") for n in range(TASKS)]
    record_seed_tasks(store, lease, tasks)
    start = (Version("solver@0", "solver", 0), Version("proxy@0", "proxy", 0))
    record_checkpoint(store, lease, Point(run, 0, "round-000", "0", start))
    close_stage(store, lease, 0, "checkpoint")
    record_probes(store, lease, 0, ())
    close_stage(store, lease, 0, "probe")
    close_stage(store, lease, 1, "propose")
    for step in range(1, rollouts // (TASKS * GROUP) + 1):
        record_step(store, lease, made_step(step, tasks, sources))
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=100_000)
    parser.add_argument("--rewards", nargs="*", default=sorted(REWARDS))
    asked = parser.parse_args()
    sources = tuple({meter for name in asked.rewards for meter in REWARDS[name].needs})
    say = sys.stdout.write
    with tempfile.TemporaryDirectory(dir=".") as folder:
        store = Store.open(str(Path(folder) / "bench.db"))
        begun = time.perf_counter()
        run = fill(store, asked.rollouts, sources)
        say(f"{asked.rollouts} rollouts recorded in {time.perf_counter() - begun:.1f} s\n")
        for name in asked.rewards:
            config = RunConfig.model_validate({"reward": {"name": name}})
            begun = time.perf_counter()
            told = retell(store, run, sources=needed(config.reward))
            read = time.perf_counter() - begun
            found = compare(told, config)
            total = time.perf_counter() - begun
            say(f"{name:20} {found.rollouts} rollouts: {total:.1f} s, {read:.1f} s of it reading\n")
        store.close()


if __name__ == "__main__":
    main()
