from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.engine.local import LocalEngine
from pipeline.models.policy import merged_state
from pipeline.models.proxy import WeightProxy
from pipeline.ports import ScoreRequest
from pipeline.types import Version
from tests.tiny import tiny_model


class Listener:
    """An engine that remembers what it was given."""

    def __init__(self) -> None:
        self.weight, self.version = float("nan"), ""

    def load(self, state: Mapping[str, Tensor], version: str) -> None:
        self.weight, self.version = float(state["w"][0]), version


class Policy:
    """One scalar weight at a step."""

    def __init__(self, value: float = 0.0) -> None:
        self.weight, self.step = torch.tensor([value]), 0

    def state(self) -> dict[str, Tensor]:
        return {"w": self.weight}

    def version(self) -> Version:
        return Version(f"solver@{self.step}", "solver", self.step)

    def move(self, value: float) -> None:
        self.weight.fill_(value)
        self.step += 1


def proxy_of(policy: Policy) -> tuple[WeightProxy, Listener]:
    engine = Listener()
    return WeightProxy(engine, policy.state, policy.version), engine


def test_a_proxy_starts_as_a_copy_of_the_policy():
    policy = Policy(0.5)
    proxy, engine = proxy_of(policy)
    policy.move(9.0)
    assert (engine.weight, engine.version) == (0.5, "proxy@0")
    assert proxy.version.parents == ("solver@0",)


@pytest.mark.parametrize(
    ("alpha", "path"),
    [(0.9, [0.1, 0.19, 0.271]), (0.6, [0.4, 0.64, 0.784]), (0.0, [1.0, 1.0, 1.0])],
)
def test_alpha_weighs_the_old_proxy(alpha: float, path: list[float]):
    # proxy 0, policy held at 1
    policy = Policy(0.0)
    proxy, engine = proxy_of(policy)
    policy.move(1.0)
    seen = []
    for step in (1, 2, 3):
        proxy.sync(step=step, alpha=alpha)
        seen.append(engine.weight)
    assert seen == pytest.approx(path)


def test_a_sync_names_its_parents_and_reloads_the_engine():
    policy = Policy(0.0)
    proxy, engine = proxy_of(policy)
    policy.move(1.0)
    version = proxy.sync(step=5, alpha=0.0)
    assert (version.id, version.parents) == ("proxy@5", ("proxy@0", "solver@1"))
    assert (engine.weight, engine.version) == (1.0, "proxy@5")
    assert version.checksum != ""


def test_a_copy_is_bitwise_the_policy():
    policy = Policy(0.0)
    proxy, engine = proxy_of(policy)
    policy.move(0.1)
    proxy.sync(step=1, alpha=0.0)
    assert engine.weight == float(policy.weight[0])


def test_undo_puts_weights_version_and_engine_back():
    policy = Policy(0.25)
    proxy, engine = proxy_of(policy)
    before = proxy.version
    policy.move(1.0)
    proxy.sync(step=5, alpha=0.0)
    proxy.undo()
    assert proxy.version == before
    assert (engine.weight, engine.version) == (0.25, "proxy@0")
    with pytest.raises(RuntimeError, match="no sync to undo"):
        proxy.undo()


def test_the_scoring_engine_answers_with_the_synced_weights():
    def engine(seed: int) -> LocalEngine:
        return LocalEngine(tiny_model(seed), eos_ids=frozenset({1}), pad_id=0, version="")

    asked = [ScoreRequest((5, 6), ((),), (((7, 8),),))]
    policy, scoring = tiny_model(0), engine(1)
    start = merged_state(tiny_model(1))
    current = [start]
    proxy = WeightProxy(scoring, lambda: current[-1], lambda: Version("solver@0", "solver", 0))
    before = scoring.score(asked)
    current.append(merged_state(policy))
    proxy.sync(step=1, alpha=0.0)
    assert scoring.score(asked) == engine(0).score(asked)
    assert scoring.version == "proxy@1"
    proxy.undo()
    assert scoring.score(asked) == before


def test_a_restored_proxy_goes_on_with_its_average(tmp_path: Path):
    policy = Policy(0.0)
    proxy, _ = proxy_of(policy)
    policy.move(1.0)
    proxy.sync(step=1, alpha=0.9)
    proxy.save(tmp_path)
    other, engine = proxy_of(policy)
    other.restore(tmp_path)
    assert other.version == proxy.version
    assert (engine.weight, engine.version) == (pytest.approx(0.1), "proxy@1")
    other.sync(step=2, alpha=0.9)
    assert engine.weight == pytest.approx(0.19)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_an_alpha_outside_its_range_is_refused(alpha: float):
    proxy, _ = proxy_of(Policy())
    with pytest.raises(ValueError, match="alpha"):
        proxy.sync(step=1, alpha=alpha)


def test_a_policy_that_is_not_finite_never_reaches_the_proxy():
    policy = Policy(0.5)
    proxy, engine = proxy_of(policy)
    policy.move(float("inf"))
    with pytest.raises(ValueError, match="not finite"):
        proxy.sync(step=1, alpha=0.0)
    assert (engine.weight, proxy.version.id) == (0.5, "proxy@0")
