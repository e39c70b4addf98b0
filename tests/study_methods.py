"""A program, not a test: one short run per method, all in one report.

    python -m tests.study_methods --home FOLDER [--jobs 2] [--kinds reward recipe]

Every reward, advantage and recipe trains the tiny base for 2 rounds of 10 steps on seed tasks
alone, and every offline objective learns from the stored attempts of the first of these runs. The
answer term is off but where a recipe has it, so that what is told is the method's own doing. Three
further runs show failures that are known: confidence of frozen weights (arXiv 2505.19590), a vote
without a reference, a sum over steps (arXiv 2410.15115). A run that is done is not run again, so
the same command goes on where it stopped. Prints a table; every figure is of one seed.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from pipeline.advantages import ADVANTAGES
from pipeline.offline import OBJECTIVES
from pipeline.recipes import RECIPES
from pipeline.rewards import REWARDS
from tests.study_arms import coclimb

Row = dict[str, Any]
SHORT = (
    "rounds=2", "steps=10", "solver.tasks=16", 'generator.kind="none"', "probe.solver_tasks=20",
    "probe.verifier_tasks=10", "probe.generator_parents=1", "probe.generator_attempts=2",
)  # fmt: skip
ALONE = ("objective.answer_term=0",)
LONG = ("rounds=4", "steps=15")
ITEMS = ("is the reasoning in order, step by step?", "does the answer name one thing?")
EXTRA: dict[str, tuple[str, ...]] = {
    "rubric": (f"verifier.rubric={json.dumps(ITEMS)}", 'reward.rubric=["essential","optional"]'),
}
FAILURES: dict[str, tuple[str, ...]] = {
    "self_certainty, offline": ('reward.name="self_certainty"', 'verifier.certainty="offline"'),
    "self_certainty, online": ('reward.name="self_certainty"',),
    "majority_vote": ('reward.name="majority_vote"',),
    "step_sum": ('reward.name="step_sum"', 'reward.gate="off"', "solver.max_tokens=160"),
    "clip_and_delta": ('reward.name="clip_and_delta"', "solver.max_tokens=160"),
}
FIRST = "reward: nover"


@dataclass(frozen=True, slots=True)
class Variant:
    """One run of the study: its name, and how it differs from a short default run."""

    name: str
    settings: tuple[str, ...]
    offline: str = ""
    recipe: str = ""


Ends = tuple[float, float] | None  # at the start and at the end; None where nothing tells


@dataclass(frozen=True, slots=True)
class Told:
    """What a run came to: held-out figures, its attempts' first and last step, and its cost.

    words   mean words of an attempt; formed, the share that is well formed
    tokens  written tokens that carried loss
    """

    accuracy: Ends
    verifier: Ends
    reward: Ends
    words: Ends
    formed: Ends
    tokens: int
    seconds: float


def variants(kinds: Sequence[str]) -> list[Variant]:
    """Every run of the kinds asked for, the one that offline objectives learn from first."""
    made = {
        "reward": [
            Variant(f"reward: {n}", (f'reward.name="{n}"', *EXTRA.get(n, ()), *ALONE))
            for n in REWARDS
        ],
        "advantage": [
            Variant(
                f"advantage: {n}",
                (f'objective.advantage="{n}"', f'reward.name="{_judged_by(n)}"', *ALONE),
            )
            for n in ADVANTAGES
        ],
        "recipe": [Variant(f"recipe: {n}", (), recipe=n) for n in RECIPES],
        "offline": [Variant(f"offline: {n}", (), offline=n) for n in OBJECTIVES],
        "failure": [
            Variant(f"failure: {n}", (*settings, *ALONE, *LONG)) for n, settings in FAILURES.items()
        ],
    }
    return [variant for kind in kinds for variant in made[kind]]


def _judged_by(advantage: str) -> str:
    """A reward that the advantage can compare: of a verdict, of steps, or of a rollout alone."""
    if advantage in ("psr", "nsr", "w_reinforce"):
        return "rule"
    return "step_sum" if advantage == "pure_min" else "mean_probability"


def run_variant(home: Path, variant: Variant) -> Told | str:
    """The figures of the variant's finished run, or why there is none."""
    found = json.loads(coclimb(home, "runs", "--json")) if (home / "coclimb.db").exists() else []
    known = {run["name"]: run for run in found}
    try:
        if variant.name not in known:
            coclimb(home, *_command(variant, known))
        elif known[variant.name]["status"] != "done":
            coclimb(home, "resume", known[variant.name]["id"], "--plain")
    except SystemExit as error:
        return str(error)
    runs = json.loads(coclimb(home, "runs", "--json"))
    return told(home, next(str(run["id"]) for run in runs if run["name"] == variant.name))


def _command(variant: Variant, known: dict[str, dict[str, object]]) -> list[str]:
    if variant.offline:
        source = str(known[FIRST]["id"])
        words = ["train", "--from", source, "--objective", variant.offline, "--rounds", "2"]
    else:
        words = ["run", *(["--recipe", variant.recipe] if variant.recipe else [])]
        words += [word for s in (*SHORT, *variant.settings) for word in ("--set", s)]
    return [*words, "--name", variant.name, "--plain"]


def told(home: Path, run: str) -> Told:
    """Start and end of a finished run, as the program's own listings give them."""
    probes = json.loads(coclimb(home, "probe", run, "--json"))
    steps = json.loads(coclimb(home, "rounds", run, "--steps", "--json"))
    asked = ("--role", "solver", "--limit", "1000000", "--json")
    rows = json.loads(coclimb(home, "rollouts", run, *asked))
    return Told(
        accuracy=_probed(probes, "solver", "accuracy"),
        verifier=_probed(probes, "verifier", "pair_accuracy"),
        reward=_by_step(rows, lambda row: row["reward"]),
        words=_by_step(rows, lambda row: float(len(row["text"].split()))),
        formed=_by_step(rows, lambda row: float(row["form"] == "ok")),
        tokens=sum(update["tokens"] for step in steps for update in step["updates"]),
        seconds=sum(sum(step["seconds"].values()) for step in steps),
    )


def _probed(probes: list[Row], axis: str, name: str) -> Ends:
    wanted = (axis, name, "all")
    values = {
        p["round"]: p["value"] for p in probes if (p["axis"], p["name"], p["slice"]) == wanted
    }
    return (values[min(values)], values[max(values)]) if values else None


def _by_step(rows: list[Row], value: Callable[[Row], float | None]) -> Ends:
    """Mean over the attempts of the first step and of the last."""
    by_step: dict[int, list[float]] = {}
    for row in rows:
        found = value(row)
        if row["step"] is not None and found is not None:
            by_step.setdefault(row["step"], []).append(found)
    ends = [by_step[step] for step in (min(by_step), max(by_step))] if by_step else []
    return (mean(ends[0]), mean(ends[1])) if ends else None


def line(name: str, found: Told | str) -> str:
    """One run as a line of the report."""
    if isinstance(found, str):
        return f"{name:34} failed: {found}"
    cells = [_cell(found.accuracy, 2), _cell(found.verifier, 2), _cell(found.reward, 2)]
    cells += [_cell(found.words, 0), _cell(found.formed, 2)]
    told = "  ".join(f"{cell:>14}" for cell in cells)
    return f"{name:34}{told}  {found.tokens:>8}  {found.seconds:>6.0f}"


def _cell(ends: Ends, digits: int) -> str:
    return "-" if ends is None else f"{ends[0]:.{digits}f} -> {ends[1]:.{digits}f}"


def main() -> None:
    kinds = ("reward", "advantage", "recipe", "offline", "failure")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--kinds", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    options = parser.parse_args()
    if options.jobs > 1:
        os.environ["OMP_NUM_THREADS"] = str(max((os.cpu_count() or 1) // options.jobs, 1))
    [first] = [v for v in variants(["reward"]) if v.name == FIRST]
    run_variant(options.home, first)  # offline objectives learn from it
    wanted = variants(options.kinds)
    with ThreadPoolExecutor(options.jobs) as workers:
        done = list(workers.map(lambda one: run_variant(options.home, one), wanted))
    heads = ("accuracy", "pair accuracy", "reward", "words", "well formed")
    print(f"{'run':34}{'  '.join(f'{head:>14}' for head in heads)}    tokens  seconds")
    for variant, found in zip(wanted, done, strict=True):
        print(line(variant.name, found))


if __name__ == "__main__":
    main()
