"""A program, not a test: how true a consensus is, by its confidence, beside majority vote.

    python -m tests.study_consensus [--tasks 60] [--attempts 8] [--set KEY=VALUE ...]

Labels held-out tasks of the rule world from attempts of the base alone, scoring itself, and prints
the share of true labels by quartile of confidence and by depth, on the same groups.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from flows.assemble import assemble
from flows.settings import load_config
from pipeline.evaluation.solver import ConsensusCase, consensus_cases
from pipeline.measures import clustered
from pipeline.types import Estimate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=60, help="held-out tasks per depth")
    parser.add_argument("--attempts", type=int, default=8)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    config = load_config(None, [f"probe.solver_tasks={options.tasks}", *options.set])
    parts = assemble(config)
    cases = consensus_cases(parts.exam, parts.solver, parts.verifier, options.attempts)
    print(f"{len(cases)} tasks, G = {options.attempts}; 95 % intervals over tasks")
    print(f"{'':24} {'n':>4}  {'one attempt':22} {'majority':22} {'consensus':22}")
    show("all", cases)
    ordered = sorted(cases, key=lambda case: case.confidence)
    for quarter in range(4):
        part = ordered[quarter * len(ordered) // 4 : (quarter + 1) * len(ordered) // 4]
        show(f"confidence {part[0].confidence:.2f} to {part[-1].confidence:.2f}", part)
    for depth in sorted({case.depth for case in cases}):
        show(f"depth {depth}", [case for case in cases if case.depth == depth])


def show(name: str, cases: Sequence[ConsensusCase]) -> None:
    """One line: the share of right single attempts, majority votes and consensuses."""
    told: list[Callable[[ConsensusCase], float]] = [
        lambda case: case.attempts_right,
        lambda case: float(case.majority_right),
        lambda case: float(case.consensus_right),
    ]
    cells = [interval(clustered([[tell(case)] for case in cases])) for tell in told]
    print(f"{name:24} {len(cases):4}  " + " ".join(f"{cell:22}" for cell in cells))


def interval(found: Estimate) -> str:
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


if __name__ == "__main__":
    main()
