"""Whole runs over the script whose steps attempt more than they were asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.stages import take_stage, to_do
from pipeline.config import RunConfig
from store import invariants, ledger, questions
from store.questions import Filter
from tests.flows.scripted import SMALL, Bench


def asking(objective: dict[str, object], reward: str = "mean_probability") -> RunConfig:
    tree = SMALL.model_dump()
    tree["reward"]["name"] = reward
    tree["objective"].update(objective)
    return RunConfig.model_validate(tree)


@pytest.fixture
def remax(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, asking({"advantage": "remax"}))
    made.go_on()
    yield made
    made.store.close()


def broken(bench: Bench) -> object:
    return invariants.verify(bench.store, None, bench.home.root)["violations"]


def listed(bench: Bench, role: str | None = None) -> list[dict[str, object]]:
    return [dict(row) for row in questions.rollouts(bench.store, bench.run, Filter(role=role))]


def test_attempts_without_chance_are_stored_and_break_nothing(remax: Bench) -> None:
    assert broken(remax) == []
    greedy = listed(remax, "greedy")
    places = {(row["step"], row["task"]) for row in greedy}
    assert len(places) == len(greedy) > 0  # one attempt at each task
    assert places <= {(row["step"], row["task"]) for row in listed(remax, "solver")}
    assert {row["step"] for row in greedy} == {1, 2, 3, 4}
    assert {row["advantage"] for row in greedy} <= {0.0, None}
    assert all(row["right"] is None for row in greedy)  # nothing is told of them
    assert {row["role"] for row in listed(remax)} == {"solver", "generator", "greedy"}


def test_attempts_without_chance_are_in_no_denominator(remax: Bench) -> None:
    for row in questions.updates(remax.store, remax.run):
        step = row["step"]
        attempts = [r for r in listed(remax, "solver") if r["step"] == step]
        proposals = [r for r in listed(remax, "generator") if r["step"] == step]
        assert int(str(row["rows"])) <= len(attempts) + len(proposals)


@pytest.mark.parametrize(
    "objective",
    [
        {"advantage": "remax"},
        {"resample": 2, "spread_floor": 0.2},
        {"advantage": "tempo"},
        {"advantage": "reinforce_pp_baseline"},
    ],
    ids=["remax", "resample", "tempo", "whitened"],
)
def test_a_run_that_was_stopped_has_the_chain_of_one_that_was_not(
    tmp_path: Path, objective: dict[str, object]
) -> None:
    whole = Bench(tmp_path / "whole", asking(objective))
    whole.go_on()
    halves = Bench(tmp_path / "halves", asking(objective))

    def first(live) -> None:
        for number, (round, stage) in enumerate(to_do(live)):
            if number == 4:
                return
            take_stage(live, round, stage)

    halves.go_on(work=first)
    halves.go_on()
    assert halves.chain() == whole.chain()
    assert broken(halves) == []
    if "resample" in objective:
        steps = [one for n in (1, 2) for one in ledger.load_steps(whole.store, whole.run, n)]
        assert sum(step.resampled for step in steps) > 0
    for bench in (whole, halves):
        bench.store.close()
