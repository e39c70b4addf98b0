"""When the proxy moves, what a sync tells, and which sync is undone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from pipeline.config import RunConfig
from pipeline.crew import Crew
from pipeline.measures import clustered
from pipeline.syncing import sync_if_due
from pipeline.types import PoolFigure, Version


@dataclass
class Proxy:
    """A proxy that counts; its figure on the pool is told by a script."""

    version: Version = field(default_factory=lambda: Version("proxy@0", "proxy", 0))
    before: Version | None = None
    alphas: list[float] = field(default_factory=list)

    def sync(self, *, step: int, alpha: float) -> Version:
        self.before, self.version = self.version, Version(f"proxy@{step}", "proxy", step)
        self.alphas.append(alpha)
        return self.version

    def undo(self) -> None:
        assert self.before is not None
        self.version = self.before


class Learner:
    def versions(self) -> dict[str, Version]:
        return {"solver": Version("solver@5", "solver", 5)}


def figure(values: Sequence[float], tasks: str = "abcdefgh") -> PoolFigure:
    """A figure on tasks named by one letter each."""
    per_task = tuple(zip(tasks[: len(values)], values, strict=True))
    return PoolFigure(clustered([[value] for value in values]), per_task)


def crew(sync: dict[str, object], *figures: PoolFigure | None) -> tuple[Crew, Proxy]:
    told = iter(figures)
    proxy = Proxy()
    config = RunConfig.model_validate({"sync": sync})
    nobody = cast(Any, None)
    made = Crew(
        config, nobody, nobody, nobody, cast(Any, Learner()), cast(Any, proxy), lambda: next(told)
    )
    return made, proxy


EVEN = figure([0.5, 0.6, 0.7, 0.6])


@pytest.mark.parametrize(
    ("rule", "steps", "at_end"),
    [("never", [], False), ("steps", [5, 10], False), ("ema", [5, 10], False), ("round", [], True)],
)
def test_the_rule_says_when(rule: str, steps: list[int], at_end: bool) -> None:
    made, _ = crew({"rule": rule, "every": 5}, *[EVEN] * 8)
    assert [s for s in range(1, 13) if sync_if_due(made, 1, s)] == steps
    assert bool(sync_if_due(made, 1, 12, round_end=True)) is at_end


def test_a_copy_weighs_the_old_proxy_with_nothing_and_an_average_with_alpha() -> None:
    for rule, alpha in (("steps", 0.0), ("ema", 0.9)):
        made, proxy = crew({"rule": rule, "every": 1, "alpha": 0.9}, EVEN, EVEN)
        [record] = sync_if_due(made, 1, 1)
        assert proxy.alphas == [alpha]
        assert record.alpha == alpha


def test_a_sync_tells_the_pools_figure_before_and_after() -> None:
    better = figure([0.7, 0.8, 0.9, 0.8])
    made, _ = crew({"rule": "steps", "every": 5}, EVEN, better)
    [record] = sync_if_due(made, 2, 5)
    assert (record.before, record.after, record.source) == ("proxy@0", "proxy@5", "solver@5")
    assert (record.probe_before, record.probe_after) == (EVEN.estimate, better.estimate)
    assert record.accepted
    assert "+0.2000" in record.reason


def test_a_gated_sync_that_falls_beyond_noise_is_undone() -> None:
    worse = figure([0.2, 0.3, 0.4, 0.3])
    made, proxy = crew({"rule": "steps", "every": 5, "gated": True}, EVEN, worse)
    [record] = sync_if_due(made, 1, 5)
    assert not record.accepted
    assert (record.after, proxy.version.id) == ("proxy@0", "proxy@0")


@pytest.mark.parametrize("gated", [True, False])
def test_a_fall_within_noise_is_accepted_and_so_is_any_without_a_gate(gated: bool) -> None:
    noisy = figure([0.0, 1.0, 0.2, 0.9] if gated else [0.2, 0.3, 0.4, 0.3])
    made, proxy = crew({"rule": "steps", "every": 5, "gated": gated}, EVEN, noisy)
    [record] = sync_if_due(made, 1, 5)
    assert record.accepted
    assert proxy.version.id == "proxy@5"


def test_without_a_pool_a_sync_is_accepted_and_says_so() -> None:
    made, _ = crew({"rule": "steps", "every": 5, "gated": True}, None, None)
    [record] = sync_if_due(made, 1, 5)
    assert record.accepted
    assert record.probe_before is None
    assert "no pool" in record.reason


def test_a_sync_is_judged_on_the_tasks_measured_both_before_and_after() -> None:
    # a is lost and d found; b and c rise by 0.1, though position by position all would fall
    before, after = figure([0.9, 0.6, 0.5], "abc"), figure([0.7, 0.6, 0.1], "bcd")
    made, proxy = crew({"rule": "steps", "every": 5, "gated": True}, before, after)
    [record] = sync_if_due(made, 1, 5)
    assert record.accepted
    assert "+0.1000 [+0.1000, +0.1000]" in record.reason
    assert proxy.version.id == "proxy@5"


def test_a_sync_with_too_few_tasks_on_both_sides_is_accepted_and_says_so() -> None:
    before, after = figure([0.9, 0.8, 0.9], "abc"), figure([0.1, 0.2], "cd")
    made, _ = crew({"rule": "steps", "every": 5, "gated": True}, before, after)
    [record] = sync_if_due(made, 1, 5)
    assert record.accepted
    assert "both before and after: 1, too few" in record.reason
