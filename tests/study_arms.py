"""A program, not a test: which of the three climbs is worth what, at equal steps of the solver.

    python -m tests.study_arms --home FOLDER --seeds 1 2 3 [--jobs 2]

Five arms, each a run of its own per seed in one store, named "ARM/seed". Equal between arms are the
steps, and the tasks and attempts of the solver in each; their compute is not: the arms with a
generator also sample and train its proposals. A run that is done is not run again and one that was
cut short is resumed, so the same command goes on where it stopped. Two jobs of one thread each do
more in an hour than one of two threads. Then a table: each axis at start and end and its gain, and
the difference to the full loop of the same seed on the same held-out tasks. Every interval is 95 %
over seeds (Student's t): a seed is one draw of everything a run samples, its tasks are not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.measures import NotMeasurable, paired
from pipeline.types import Estimate

FULL = "all"
ARMS: dict[str, tuple[str, ...]] = {
    "solver": ('generator.kind="none"', 'sync.rule="never"'),
    "solver+sync": ('generator.kind="none"',),
    "solver+generator": ('sync.rule="never"',),
    FULL: (),
    "all, answer term 0": ("objective.answer_term=0",),
}
AXES = (
    ("solver", "accuracy", "depth>=3"),
    ("verifier", "pair_accuracy", "named"),
    ("generator", "frontier_share", "all"),
)
PerTask = dict[str, float]


def coclimb(home: Path, *words: str) -> str:
    """Run one command of the program in a process of its own; its standard output."""
    command = [sys.executable, "-m", "flows.cli", "--home", str(home), *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    return done.stdout


def run_arm(home: Path, arm: str, seed: int, extra: Sequence[str]) -> str:
    """The id of the arm's finished run; started, or resumed where it was cut short."""
    name = f"{arm}/{seed}"
    found = json.loads(coclimb(home, "runs", "--json")) if (home / "coclimb.db").exists() else []
    known = {run["name"]: run for run in found}
    if name not in known:
        settings = [f"seed={seed}", *ARMS[arm], *extra]
        coclimb(home, "run", "--name", name, *(word for s in settings for word in ("--set", s)))
    elif known[name]["status"] != "done":
        coclimb(home, "resume", known[name]["id"])
    runs = json.loads(coclimb(home, "runs", "--json"))
    return str(next(run["id"] for run in runs if run["name"] == name))


def figures(home: Path, run: str) -> dict[tuple[str, int], PerTask]:
    """(axis, round) -> value per held-out task, for the headline figure of each axis."""
    found = {}
    for row in json.loads(coclimb(home, "probe", run, "--json")):
        if (row["axis"], row["name"], row["slice"]) in AXES:
            found[row["axis"], int(row["round"])] = dict(row["per_task"])
    return found


def over_seeds(values: Sequence[float]) -> str:
    """Mean and 95 % interval over seeds."""
    try:
        return show(paired([[v] for v in values], [[0.0]] * len(values)))
    except NotMeasurable:
        return f"{values[0]:.3f} (one seed)"


def show(found: Estimate, sign: str = "") -> str:
    return f"{found.value:{sign}.3f} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


def against_full(arm: Sequence[PerTask], full: Sequence[PerTask]) -> str:
    """Arm minus the full loop, paired by seed; "-" where one seed or no common task is all.

    arm, full  per seed, in the same order, the value of each held-out task. A seed's difference is
               that of the means over the tasks that all of them hold.
    """
    tasks = sorted(set.intersection(*(set(p) for p in (*arm, *full))))
    if not tasks:
        return "-"
    means = [[[mean({t: p[t] for t in tasks})] for p in side] for side in (arm, full)]
    try:
        return show(paired(*means), "+")
    except NotMeasurable:
        return "-"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--set", action="append", default=[], help="a setting for every arm")
    options = parser.parse_args()
    if options.jobs > 1:
        os.environ["OMP_NUM_THREADS"] = str(max((os.cpu_count() or 1) // options.jobs, 1))
    wanted = [(arm, seed) for seed in options.seeds for arm in options.arms]
    with ThreadPoolExecutor(options.jobs) as workers:
        done = workers.map(lambda one: run_arm(options.home, *one, options.set), wanted)
        runs = dict(zip(wanted, done, strict=True))
    probes = {key: figures(options.home, run) for key, run in runs.items()}
    for axis, name, where in AXES:
        over = f"mean over seeds {options.seeds}, 95 % interval"
        print(f"\n{axis}: {name}, {where} (start -> end; {over})")
        for arm in options.arms:
            table = [probes[arm, seed] for seed in options.seeds]
            last = [max(r for a, r in t if a == axis) for t in table]
            ends = [t[axis, r] for t, r in zip(table, last, strict=True)]
            first, final = [mean(t[axis, 0]) for t in table], [mean(e) for e in ends]
            gain = over_seeds([b - a for a, b in zip(first, final, strict=True)])
            line = f"  {arm:20} {over_seeds(first)} -> {over_seeds(final)}   gain {gain}"
            if FULL in options.arms and arm != FULL:
                full = [probes[FULL, seed] for seed in options.seeds]
                whole = [f[axis, max(r for a, r in f if a == axis)] for f in full]
                line += f"   against {FULL}: {against_full(ends, whole)}"
            print(line)


def mean(values: PerTask) -> float:
    return sum(values.values()) / len(values)


if __name__ == "__main__":
    main()
