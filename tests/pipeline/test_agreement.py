"""Pairs and tau worked by hand, SciPy's numbers, and what must not matter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from pipeline.agreement import Pairs, pairs, same_best

REWARDS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=8)


def test_pairs_are_counted_by_how_both_rewards_order_them():
    # 1-2: same; 1-3: opposed; 1-4: the second ties; 2-3: opposed; 2-4: opposed; 3-4: first ties
    found = pairs([1.0, 2.0, 3.0, 3.0], [2.0, 3.0, 1.0, 2.0])
    assert found == Pairs(same=1, opposed=3, tied_first=1, tied_second=1)
    # (1 - 3) / sqrt(5 * 5)
    assert found.tau == pytest.approx(-0.4)


def test_a_reward_that_tells_no_pair_apart_has_no_agreement():
    assert pairs([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]).tau is None
    assert pairs([1.0], [2.0]).tau is None


@given(REWARDS)
def test_tau_is_scipys(rows):
    first, second = [float(a) for a, _ in rows], [float(b) for _, b in rows]
    tau, peer = pairs(first, second).tau, float(kendalltau(first, second).statistic)
    assert (tau is None) == (peer != peer)
    if tau is not None:
        assert tau == pytest.approx(peer)


@given(REWARDS)
def test_the_order_of_siblings_and_the_scale_of_a_reward_do_not_matter(rows):
    first, second = [float(a) for a, _ in rows], [float(b) for _, b in rows]
    told = pairs(first, second)
    assert pairs(first[::-1], second[::-1]) == told
    assert pairs([5 * a - 2 for a in first], second) == told
    turned = pairs(first, [-b for b in second])
    assert (turned.same, turned.opposed) == (told.opposed, told.same)


def test_pairs_of_two_groups_add_up():
    one, other = pairs([1.0, 2.0], [1.0, 2.0]), pairs([1.0, 2.0], [2.0, 1.0])
    assert one + other == Pairs(same=1, opposed=1)


def test_the_best_is_the_same_where_some_rollout_leads_under_both():
    assert same_best([1.0, 3.0, 3.0], [0.0, 0.1, 0.5])
    assert not same_best([1.0, 3.0, 2.0], [0.0, 0.1, 0.5])
