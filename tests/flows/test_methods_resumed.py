"""A run that was stopped after one step, and one that was not, have the same chain by any method.

Methods that keep something between steps, read it elsewhere or draw by chance are the ones that
could differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from pipeline import meters
from pipeline.config import MeterName, RunConfig
from pipeline.faults import arm, disarm
from store import invariants, ledger
from store.questions import Filter
from store.readings import readings_of
from tests.flows.scripted import SMALL, Bench, Heard

METERS = get_args(MeterName)
ALL_METERS = {
    "verifier": {"also": METERS, "rubric": ("It is short.", "It is right."), "teacher_attempts": 3}
}
OFFLINE_METERS = {"verifier": {"also": ("certainty", "entropy"), "certainty": "offline"}}
MIX = {"reward": {"name": "rlpr", "mix": {"length": 0.5, "kl": 0.1}, "mix_end": {"length": 0.0}}}
NOISE = {"reward": {"name": "mean_probability", "noise": 0.4, "transform": "rank"}}
PURE = {"reward": {"name": "clip_and_delta"}, "objective": {"advantage": "pure_min"}}
PACS = {  # proposals teach too: no seed is answered right by the script
    "reward": {"name": "rule"},
    "solver": {"group_size": 6, "proposed_share": 0.6},
    "verifier": {"consensus_floor": 0.0},
    "objective": {"advantage": "rloo", "surrogate": "pacs", "aggregate": "sequence"},
}
KL = {
    "objective": {
        "kl": 0.05, "divergence": "k2", "correction": "sequence_mask", "correction_cap": 1.2,
    },
}  # fmt: skip
METHODS = {
    "meters": ALL_METERS, "offline meters": OFFLINE_METERS, "mix": MIX, "noise": NOISE,
    "pure": PURE, "pacs": PACS, "kl": KL,
}  # fmt: skip


class Pulled(RuntimeError):
    """What a test pulls out from under a run."""


def asking(more: dict[str, dict[str, object]]) -> RunConfig:
    """The small run of one round with these settings."""
    tree = SMALL.model_dump()
    tree["rounds"] = 1
    for section, values in more.items():
        tree[section] |= values
    return RunConfig.model_validate(tree)


def stopped(bench: Bench) -> None:
    """Go on to the end of the first step, and no further."""

    def after_one_step() -> None:
        disarm("upd.after_commit")
        raise Pulled

    arm("upd.after_commit", after_one_step)
    with pytest.raises(Pulled):
        bench.go_on()


@pytest.mark.parametrize("name", METHODS)
def test_a_run_stopped_after_one_step_has_the_chain_of_one_that_was_not(
    tmp_path: Path, name: str
) -> None:
    config = asking(METHODS[name])
    whole, halves = Bench(tmp_path / "whole", config), Bench(tmp_path / "halves", config)
    whole.go_on()
    stopped(halves)
    heard = Heard()
    halves.go_on(progress=heard)
    assert heard.again == [1]
    assert halves.chain() == whole.chain()
    taught = ledger.load_steps(whole.store, whole.run, 1)
    assert all(one.updates["solver"].rows for one in taught)
    read = readings_of(whole.store, whole.run, Filter(limit=100_000))
    measured = {row["source"] for row in read if row["status"] == "measured"}
    assert measured == set(meters.reading(config))
    for bench in (whole, halves):
        assert invariants.verify(bench.store, None, bench.home.root)["violations"] == []
        bench.store.close()
