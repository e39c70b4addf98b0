"""Advantages: hand-computed vectors, TRL's formula, equals and loners."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trl.trainer.utils import nanstd

from pipeline.advantages import ADVANTAGES, credit
from pipeline.advantages.group import dr_grpo, grpo, maxrl, opo, quantile, rloo
from pipeline.settings.objective import ObjectiveConfig
from tests.pipeline.comparing import compare, judged, tensor

NOVER_TOTALS = [1.7, 0.4 + 1 + 5 / 6, 0.4 + 1 + 4 / 6, 0, 2.2, 0, 1 + 1 / 6, 1.2 + 1 / 3]


# the mean they compare with is their own and plain, so a constant on every reward changes nothing
SHIFT_FREE = ("dr_grpo", "grpo", "opo", "quantile", "rloo", "tempo", "reinforce_pp_baseline")
# these set no reward against its siblings', so equals and loners keep what they earned
ALONE = ("reinforce", "remax", "psr", "nsr", "w_reinforce")
# read from steps, not from rewards
OTHERS = ("pure_min",)
OF_REWARDS = sorted(set(ADVANTAGES) - set(OTHERS))


def close(actual: torch.Tensor, expected: list[float], atol: float = 1e-6) -> None:
    torch.testing.assert_close(actual, tensor(*expected), atol=atol, rtol=0)


def test_two_right_of_four():
    rewards = tensor(1, 0, 0, 1)
    close(grpo(rewards), [0.865875, -0.865875, -0.865875, 0.865875])
    close(dr_grpo(rewards), [0.5, -0.5, -0.5, 0.5])
    close(rloo(rewards), [0.666667, -0.666667, -0.666667, 0.666667])
    close(maxrl(rewards), [1.0, -1.0, -1.0, 1.0])


def test_three_right_of_four_and_one_of_eight():
    close(grpo(tensor(1, 1, 1, 0)), [0.4999, 0.4999, 0.4999, -1.4997])
    close(rloo(tensor(1, 1, 1, 0)), [0.333333] * 3 + [-1.0])
    close(grpo(tensor(1, *[0] * 7)), [2.474174] + [-0.353453] * 7)
    close(maxrl(tensor(1, 1, 1, 0)), [0.333333] * 3 + [-1.0])
    close(maxrl(tensor(1, *[0] * 7)), [7.0] + [-1.0] * 7)


def test_a_baseline_weighted_by_length_leans_to_long_siblings():
    # (1 * 1 + 7 * 1) / 10 = 0.8
    close(opo(tensor(1, 0, 0, 1), tensor(1, 1, 1, 7)), [0.2, -0.8, -0.8, 0.2])
    # with equal lengths it is the plain mean
    close(opo(tensor(1, 0, 0), tensor(4, 4, 4)), [0.666667, -0.333333, -0.333333])


def test_a_mean_that_divides_needs_rewards_of_zero_or_more():
    with pytest.raises(ValueError, match="0 or more"):
        maxrl(tensor(1, -1))


def test_novers_worked_group_with_and_without_scaling():
    rewards = tensor(*NOVER_TOTALS)
    assert rewards.mean() == pytest.approx(1.3625)
    assert rewards.std() == pytest.approx(0.914163, abs=1e-6)
    plain = [0.3375, 0.8708, 0.7042, -1.3625, 0.8375, -1.3625, -0.1958, 0.1708]
    scaled = [0.3691, 0.9525, 0.7702, -1.4903, 0.9160, -1.4903, -0.2142, 0.1869]
    close(dr_grpo(rewards), plain, atol=5e-5)
    close(grpo(rewards), scaled, atol=6e-5)


def test_leave_one_out_on_probabilities_is_verifrees():
    rewards = tensor(0.606531, 0.223130, 0.049787, 0)
    close(rloo(rewards), [0.5156, 0.0044, -0.2268, -0.2931], atol=6e-5)


@given(st.lists(st.floats(-3, 3, width=32), min_size=2, max_size=16))
def test_grpo_is_trls_formula_on_the_same_numbers(values):
    rewards = tensor(*values)  # double, where TRL's own crumb at equal rewards is below 1e-6
    std = nanstd(rewards.view(-1, len(values)), dim=1).repeat_interleave(len(values))
    expected = (rewards - torch.nanmean(rewards)) / (std + 1e-4)
    torch.testing.assert_close(grpo(rewards), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(set(OF_REWARDS) - set(ALONE)))
@pytest.mark.parametrize("size", [0, 1, 3, 7, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_and_loners_get_exactly_nothing(name, size, dtype):
    rewards = torch.full((size,), 0.1, dtype=dtype)
    assert compare(name, rewards).equal(torch.zeros_like(rewards))


@pytest.mark.parametrize("name", OF_REWARDS)
@given(values=st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=8), turn=st.integers(0, 7))
def test_advantages_follow_their_rollouts_when_siblings_change_seats(name, values, turn):
    rewards, lengths = tensor(*values), torch.arange(1, len(values) + 1)
    moved = compare(name, rewards.roll(turn), lengths.roll(turn))
    there = compare(name, rewards, lengths).roll(turn)
    torch.testing.assert_close(moved, there, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", sorted(set(OF_REWARDS) - set(ALONE) - {"tempo"}))
@given(values=st.lists(st.floats(0, 3, width=32), min_size=1, max_size=8))
def test_advantages_sum_to_nothing(name, values):
    rewards, lengths = tensor(*values), torch.arange(1, len(values) + 1).double()
    advantages = compare(name, rewards, lengths)
    by_length = name in ("opo", "reinforce_pp", "reinforce_pp_baseline")
    total = float(((lengths if by_length else 1) * advantages).sum())
    assert total == pytest.approx(0.0, abs=1e-9 * max(1.0, float(advantages.abs().max())))


@pytest.mark.parametrize("name", SHIFT_FREE)
def test_a_constant_on_every_reward_changes_nothing(name):
    rewards = tensor(0.25, 1.5, 0.0)
    torch.testing.assert_close(compare(name, rewards + 2), compare(name, rewards))


def test_a_quantile_counts_itself_and_its_equals():
    # shares no greater: 2 of 4, 3 of 4, 2 of 4, 4 of 4; their mean 11/16
    found = quantile(tensor(0.0, 0.3, 0.0, 9.0))
    close(found, [-3 / 16, 1 / 16, -3 / 16, 5 / 16])
    close(quantile(tensor(0.0, 0.3, 0.0, 9.0).exp()), found.tolist())


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_every_advantage_tells_its_formula_its_range_and_its_source(name):
    told = ADVANTAGES[name].__doc__ or ""
    assert "->" in told
    assert "Source: " in told


def test_credit_weighs_the_answer_by_raw_reward_and_confidence():
    [credited] = credit(
        [judged("solver", (2.0, 0.0), (1.0, 0.5), 0.8)], ObjectiveConfig(advantage="dr_grpo")
    )
    assert credited.advantages == (1.0, -1.0)
    assert credited.answer_weights == (0.8, 0.4)
    assert not credited.dead


def test_credit_without_answer_term_is_plain_nover():
    [credited] = credit(
        [judged("solver", (2.0, 0.0), (1.0, 0.5))], ObjectiveConfig(answer_term=0.0)
    )
    assert credited.answer_weights == (0.0, 0.0)
    assert credited.advantages[0] == pytest.approx(1 / (2**0.5 + 1e-4))


def test_equal_rewards_are_dead_only_without_an_answer_to_learn():
    equal = judged("solver", (0.5, 0.5, 0.5), (0.7, 0.7, 0.7))
    assert credit([equal], ObjectiveConfig(answer_term=0.0))[0].dead
    assert not credit([equal], ObjectiveConfig(answer_term=0.5))[0].dead


def test_proposals_have_no_answer_to_learn():
    [credited] = credit([judged("generator", (1.0, 0.0), (1.0, 0.0))], ObjectiveConfig())
    assert credited.answer_weights == (0.0, 0.0)
    assert credited.advantages[0] > 0


def test_a_group_with_nothing_kept_is_dead():
    [credited] = credit([judged("solver", (), ())], ObjectiveConfig())
    assert (credited.advantages, credited.answer_weights, credited.dead) == ((), (), True)


@pytest.mark.parametrize("name", ["remax", "psr", "nsr", "w_reinforce", "pure_min"])
def test_proposals_are_compared_by_grpo_where_they_lack_what_an_advantage_reads(name):
    group = judged("generator", (0.7, 0.1, 0.4))
    [found] = credit([group], ObjectiveConfig(advantage=name))
    assert found == credit([group], ObjectiveConfig())[0]


def test_proposals_are_compared_as_attempts_are_where_they_can_be():
    [found] = credit([judged("generator", (0.7, 0.1))], ObjectiveConfig(advantage="dr_grpo"))
    assert found.advantages == pytest.approx((0.3, -0.3))


def test_attempts_whose_rewards_lie_too_near_learn_nothing_and_move_nobody():
    near = judged("solver", (0.50, 0.52), raw=(0.5, 0.5), name="g1")
    far = judged("solver", (0.0, 1.0, 1.0), raw=(0.5, 0.5, 0.5))
    config = ObjectiveConfig(advantage="reinforce_pp", spread_floor=0.05)
    first, second = credit([near, far], config)
    assert first.dead
    assert second == credit([far], config)[0]
    kept = credit([near], ObjectiveConfig(spread_floor=0.01))[0]
    assert not kept.dead


def test_proposals_have_no_floor_to_their_spread():
    near = judged("generator", (0.50, 0.52))
    assert not credit([near], ObjectiveConfig(spread_floor=0.05))[0].dead
