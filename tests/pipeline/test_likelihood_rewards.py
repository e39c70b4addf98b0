"""Rewards of the reference's likelihood: the worked examples of their sources."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import RewardConfig
from pipeline.measures import NotMeasurable
from pipeline.rewards import judge
from pipeline.rewards.reflection import reflection_weights
from pipeline.types import Evidence, Group, Rollout, Task, Transcript


def row(given_: list[float], bare: list[float]) -> Evidence:
    return Evidence("measured", "proxy@0", tuple(given_), tuple(bare), 5)


def judged(name: str, rows: list[Evidence], form_weight: float = 0.0):
    rollouts = tuple(
        Rollout(f"g0-a{i}", (), (), (), "", "end", i, "solver@0") for i in range(len(rows))
    )
    texts = (Transcript("ok", "so", "six"),) * len(rows)
    group = Group("g0", "solver", Task("t0", "How many?", "six", "human"), rollouts, texts)
    return judge(group, rows, RewardConfig(name=name, form_weight=form_weight))


MALFORMED = Evidence("malformed", "proxy@0")


def test_verifree_is_the_probability_of_the_whole_reference():
    rows = [row([-0.2, -0.3], [-1, -1]), row([-1.0, -0.5], [-1, -1]), row([-2.0, -1.0], [-1, -1])]
    result = judged("verifree", [*rows, MALFORMED])
    assert result.rewards == pytest.approx((0.606531, 0.223130, 0.049787, 0.0), abs=1e-6)
    assert result.components["raw"] == result.rewards


def test_rlpr_pays_what_reasoning_adds_to_the_mean_probability():
    # 0.42 without reasoning; 0.5367, 0.55, 0.40 and 0.70 with it
    bare = [math.log(0.42)]
    rows = [row([math.log(q)], bare) for q in (0.5367, 0.55, 0.40, 0.70)]
    result = judged("rlpr", [*rows, MALFORMED])
    assert result.rewards == pytest.approx((0.20503, 0.21700, 0.10000, 0.35200, 0.0), abs=1e-6)


def test_a_mean_of_probabilities_forgives_what_their_product_does_not():
    probabilities = [[0.01, 0.7, 0.9], [0.05, 0.7, 0.9]]
    rows = [row([math.log(p) for p in ps], [-50.0] * 3) for ps in probabilities]
    mean = judged("rlpr", rows).components["reasoning"]
    assert mean == pytest.approx((0.536667, 0.550000), abs=1e-6)
    assert judged("verifree", rows).rewards == pytest.approx((0.0063, 0.0315))


def test_the_reasoning_advantage_is_relative_to_no_reasoning_and_bounded_below():
    rows = [row([-1.5], [-2.0]), row([-2.4], [-2.0]), row([-9.0], [-2.0]), row([-0.01], [-0.02])]
    assert judged("reasoning_advantage", [row([-0.4], [-0.5])]).rewards == pytest.approx((0.2,))
    result = judged("reasoning_advantage", rows)
    # the last: (0.02 - 0.01) / 0.05, its denominator kept from 0
    assert result.rewards == pytest.approx((0.25, -0.2, -1.0, 0.2))
    assert result.components["raw"] == pytest.approx((0.25, 0.0, 0.0, 0.2))
    assert min(judged("reasoning_advantage", [*rows, MALFORMED], 1.0).rewards) == 0.0


TABLE = [[-0.1, -2.0, -0.5], [-0.1, -0.4, -0.6], [-0.2, -3.0, -0.4]]
BARE = [-0.3, -2.5, -0.5]


def test_reflection_weighs_tokens_by_how_much_they_depend_on_the_reasoning():
    assert reflection_weights(TABLE) == pytest.approx((0.0393, 0.8926, 0.0681), abs=5e-5)
    result = judged("dro", [row(values, BARE) for values in TABLE])
    assert result.rewards == pytest.approx((0.4542, 1.8756, -0.4356), abs=5e-5)


def test_reflection_needs_two_reasonings_that_differ_and_one_reference():
    assert judged("dro", [row([-0.5, -1.0], [-2.0, -2.0])]).rewards == (0.0,)
    same = [row([-0.5, -1.0], [-2.0, -2.0])] * 3
    assert judged("dro", same).rewards == (0.0, 0.0, 0.0)
    with pytest.raises(NotMeasurable, match="differ in tokens"):
        reflection_weights([[-1.0], [-1.0, -2.0]])


@given(st.lists(st.floats(-5, 0), min_size=2, max_size=6), st.floats(0, 3))
def test_reflection_orders_a_group_alike_whatever_the_baseline(values, shift):
    bare = row([0.0], [-1.0]).baseline_logprobs
    rows = [row([value], list(bare)) for value in values]
    moved = [row([value], [bare[0] - shift]) for value in values]
    before, after = judged("dro", rows).rewards, judged("dro", moved).rewards
    gaps = {round(b - a, 6) for a, b in zip(before, after, strict=True)}
    assert len(gaps) == 1
