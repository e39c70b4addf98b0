"""The steps of a real run, taken again by one process and by two, from the same stored groups.

    python -m tests.study_processes [--steps 6] [--processes 2] [--set key=value]...

Runs the embedded base for one round with one process, then hands the groups of each of its steps
to a learner of each kind, all from the base's weights. Prints the loss of every step, the largest
difference of loss and of gradient norm from one process's, and the median seconds of a step.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from flows.assemble import assemble
from flows.live import repeat_exactly
from flows.settings import change_config
from pipeline.config import RunConfig, recorded
from pipeline.types import StepRecord, UpdateStats
from store import ledger, questions
from store.database import Store

BEGUN = [
    "rounds=1", "data.seed_tasks=60", "generator.parents=2", "generator.group_size=4",
    "solver.tasks=8", "solver.group_size=4", "probe.solver_tasks=2", "probe.solver_samples=1",
    "probe.verifier_tasks=2", "probe.generator_parents=2", "probe.generator_attempts=2",
    "model.train_dtype=float32",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Taken:
    """What a learner made of the steps, and how long each took in seconds."""

    updates: list[UpdateStats]
    seconds: list[float]

    def apart(self, other: Taken) -> tuple[float, float]:
        """The largest difference of a loss, and of a gradient's norm."""
        pairs = list(zip(self.updates, other.updates, strict=True))
        return max(abs(a.loss - b.loss) for a, b in pairs), max(
            abs(a.grad_norm - b.grad_norm) for a, b in pairs
        )


def run(home: Path, changes: list[str]) -> tuple[RunConfig, list[StepRecord]]:
    """Climb once with one process; what the store then holds of it."""
    asked = [part for change in changes for part in ("--set", change)]
    command = [sys.executable, "-m", "flows.cli", "--home", str(home), "run", "--plain", *asked]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    store = Store.open(str(home / "coclimb.db"))
    (row,) = questions.runs(store)
    config = recorded(str(questions.run_facts(store, str(row["id"]))["config"]))
    return config, list(ledger.load_steps(store, str(row["id"]), 1))


def take(config: RunConfig, steps: list[StepRecord], logs: Path) -> Taken:
    """Hand every step's groups to the learner that the configuration asks for."""
    parts = assemble(config, logs)
    taken = Taken([], [])
    try:
        for record in steps:
            since = time.monotonic()
            taken.updates.append(parts.learner.step(record.credited, step=record.step)["solver"])
            taken.seconds.append(time.monotonic() - since)
    finally:
        parts.close()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    repeat_exactly()
    disable_progress_bar()
    home = Path(tempfile.mkdtemp(prefix="coclimb-processes-"))
    config, steps = run(home, [*BEGUN, f"steps={options.steps}", *options.set])
    found = {"one process": take(config, steps, home)}
    for spread in ("replicas", "fsdp2"):
        asked = [f"learner.processes={options.processes}", f"learner.spread={spread}"]
        name = f"{options.processes} processes, {spread}"
        found[name] = take(change_config(config, asked), steps, home)
    one = found["one process"]
    for name, taken in found.items():
        curve = " ".join(f"{update.loss:.6f}" for update in taken.updates)
        loss, norm = taken.apart(one)
        print(f"{name}: losses {curve}; from one process's at most {loss:.1e}, gradient norms "
              f"{norm:.1e}; {statistics.median(taken.seconds):.2f} s a step")  # fmt: skip


if __name__ == "__main__":
    main()
