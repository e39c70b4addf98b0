"""Kill a short run again and again, go on each time, and compare with one never stopped.

    python -m tests.study_kills --kills 50 [--prefect] [--config FILE] [--seed 0]

Kills fall anywhere in the length of a run, from its first instant on. A run that was finished is
left and another begun; `verify` looks at each of them. Prints runs, kills, violations and whether
every digest chain is the same, and exits 1 where one is not. Every kill is SIGKILL to a process of
this program's own.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHORT = [
    "rounds=2", "steps=4", "data.seed_tasks=60", "generator.parents=2", "generator.group_size=4",
    "solver.tasks=8", "solver.group_size=4", "sync.every=2", "probe.solver_tasks=3",
    "probe.solver_samples=1", "probe.verifier_tasks=2", "probe.generator_parents=2",
    "probe.generator_attempts=2",
]  # fmt: skip


def coclimb(home: Path, *arguments: str) -> list[str]:
    """The command line of this checkout, on one home."""
    return [sys.executable, "-m", "flows.cli", "--home", str(home), *arguments]


def begin(home: Path, options: argparse.Namespace) -> list[str]:
    """The command that starts the short run, or goes on with it: it is named."""
    config = [str(options.config)] if options.config else []
    changes = [part for change in SHORT for part in ("--set", change)]
    plain = [] if options.prefect else ["--plain"]
    return coclimb(home, "run", *config, *changes, "--name", "short", *plain)


def chain(home: Path) -> list[str]:
    """The digest of every round."""
    told = subprocess.run(
        coclimb(home, "rounds", "short", "--json"), capture_output=True, text=True, check=True
    )
    return [row["digest"] for row in json.loads(told.stdout)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--prefect", action="store_true", help="run the Prefect flow")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="coclimb-kills-"))
    whole, broken = folder / "whole", folder / "broken"
    started = time.monotonic()
    subprocess.run(begin(whole, options), check=True, stdout=subprocess.DEVNULL)
    length = time.monotonic() - started
    expected, rng = chain(whole), random.Random(options.seed)
    print(f"one run takes {length:.0f} s; its chain ends in {expected[-1][:12]}", flush=True)
    kills, homes = 0, [broken]
    while kills < options.kills:
        process = subprocess.Popen(begin(homes[-1], options), stdout=subprocess.DEVNULL)
        try:
            process.wait(rng.uniform(0.0, 1.0) * length)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
            continue
        check(process.returncode == 0, f"the run ended with {process.returncode}")
        homes.append(folder / f"broken-{len(homes)}")
    subprocess.run(begin(homes[-1], options), check=True, stdout=subprocess.DEVNULL)
    same = all(chain(home) == expected for home in homes)
    found = sum(violations(home) for home in homes)
    print(f"{kills} kills in {len(homes)} runs, {found} violations, the same digest chain: {same}")
    check(same and not found, f"see {folder}")


def violations(home: Path) -> int:
    """How many promises `verify` finds broken."""
    told = subprocess.run(coclimb(home, "verify", "--json"), capture_output=True, text=True)
    return len(json.loads(told.stdout)["violations"])


def check(holds: bool, what: str) -> None:
    """Exit 1 with the reason where something does not hold."""
    if not holds:
        sys.exit(f"failed: {what}")


if __name__ == "__main__":
    main()
