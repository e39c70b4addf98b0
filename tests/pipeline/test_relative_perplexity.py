"""Perplexity against a baseline, and perplexity alone: when the two teach the same, and when not.

A baseline that a group shares cancels: as a difference of logarithms it is a shift, as a ratio a
scale. GRPO's 1e-4 beside the deviation is no part of that: under a ratio it leaves a trace.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.advantages import dr_grpo, grpo
from pipeline.advantages.group import GRPO_EPS
from pipeline.rewards.ranks import rank_values
from pipeline.settings.reward import RewardConfig
from tests.pipeline.attempts import against, judged

PERPLEXITIES = st.lists(st.integers(101, 400), min_size=2, max_size=8, unique=True).map(
    lambda values: [value / 100 for value in values]
)
BASELINE = st.floats(1.5, 50.0)


def tensor(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def normalised(rewards: Tensor) -> Tensor:
    """GRPO's advantages without its 1e-4."""
    return dr_grpo(rewards) / rewards.std()


@given(PERPLEXITIES, BASELINE)
def test_in_logarithms_a_common_baseline_changes_no_advantage(perplexities, baseline):
    absolute = tensor([-math.log(p) for p in perplexities])
    relative = tensor([math.log(baseline) - math.log(p) for p in perplexities])
    torch.testing.assert_close(grpo(relative), grpo(absolute), atol=1e-6, rtol=0)
    torch.testing.assert_close(dr_grpo(relative), dr_grpo(absolute), atol=1e-6, rtol=0)


@given(PERPLEXITIES, BASELINE)
def test_as_a_ratio_a_common_baseline_changes_no_normalised_advantage(perplexities, baseline):
    absolute = tensor([-p for p in perplexities])
    relative = tensor([(baseline - p) / baseline for p in perplexities])
    torch.testing.assert_close(normalised(relative), normalised(absolute), atol=1e-6, rtol=0)
    trace = GRPO_EPS * (1 + baseline) / absolute.std() * normalised(absolute).abs()
    assert bool(((grpo(relative) - grpo(absolute)).abs() <= trace + 1e-9).all())
    # merely centred, the ratio's scale stays
    torch.testing.assert_close(dr_grpo(relative) * baseline, dr_grpo(absolute))


@given(PERPLEXITIES, BASELINE)
def test_a_common_baseline_changes_no_rank(perplexities, baseline):
    assert rank_values([p / baseline for p in perplexities]) == rank_values(perplexities)


@given(st.lists(st.integers(1, 190), min_size=2, max_size=8), st.integers(200, 400))
def test_the_reasoning_advantage_ranks_as_its_perplexity_does(losses, baseline):
    rows = [against([-x / 100], [-baseline / 100]) for x in losses]
    relative = judged(rows, RewardConfig(name="reasoning_advantage", transform="rank"))
    absolute = judged(rows, RewardConfig(name="rank"))
    assert relative.rewards == absolute.rewards


def test_a_baseline_that_differs_inside_a_group_turns_the_advantages_over():
    # perplexity prefers the first; its baseline was easy, and the second gained more
    perplexities, baselines = [2.0, 3.0], [2.0, 6.0]
    relative = [p / b for p, b in zip(perplexities, baselines, strict=True)]
    logs = tensor([-math.log(p) for p in perplexities])
    against_own = tensor([-math.log(r) for r in relative])
    assert grpo(logs).tolist() == pytest.approx([0.7071, -0.7071], abs=1e-3)
    assert grpo(against_own).tolist() == pytest.approx([-0.7071, 0.7071], abs=1e-3)
    assert rank_values(perplexities) == (1.0, 0.5)
    assert rank_values(relative) == (0.5, 1.0)


def test_the_rewards_themselves_part_where_the_baseline_differs():
    losses, baselines = [math.log(2.0), math.log(3.0)], [math.log(2.0), math.log(6.0)]
    rows = [against([-x], [-b]) for x, b in zip(losses, baselines, strict=True)]
    assert judged(rows, RewardConfig(name="rank")).rewards == (1.0, 0.5)
    relative = RewardConfig(name="reasoning_advantage", transform="rank")
    assert judged(rows, relative).rewards == (0.5, 1.0)
