"""What becomes of summed rewards: noise, its correction, transforms, the mixer, and refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.advantages import dr_grpo, grpo
from pipeline.config import RunConfig
from pipeline.rewards import REWARDS, judge
from pipeline.rewards.checks import Contradiction, alone, problems, refuse
from pipeline.settings.reward import RewardConfig
from pipeline.types import Evidence, Judged
from tests.pipeline.attempts import group_of, judged, measured, status


def config(name: str = "rule", **settings: object) -> RewardConfig:
    return RewardConfig.model_validate({"name": name, **settings})


def verdicts(*right: int) -> list[Evidence]:
    return [measured(-1.0, rule=(one,) * 3) for one in right]


# noise


def test_no_wrapper_acts_unless_asked_for():
    result = judged(verdicts(1, 0), config())
    assert result.rewards == (1.0, 0.0)
    assert set(result.components) == {"form", "reasoning", "raw"}


def test_noise_flips_the_verdict_and_what_weighs_the_answer_term_alike():
    result = judged(verdicts(1, 0, 1), config(noise=1.0))
    assert result.rewards == result.components["raw"] == (0.0, 1.0, 0.0)
    assert result.components["clean"] == result.components["reasoning"] == (1.0, 0.0, 1.0)


def test_noise_spoils_verdicts_alone_and_leaves_what_was_not_judged_at_nothing():
    rows = [*verdicts(1), status("malformed"), status("too_long")]
    result = judged(rows, config(noise=1.0))
    assert (result.kept, result.rewards) == ((0, 1), (0.0, 0.0))
    likely = judged([measured(0.0), status("malformed")], config("mean_probability", noise=1.0))
    assert likely.rewards == (0.0, 0.0)


def test_noise_flips_its_share_of_the_rollouts():
    flipped = judged(verdicts(*[0] * 2000), config(noise=0.2)).rewards
    assert sum(flipped) == pytest.approx(400, abs=72)  # four standard deviations


@given(st.randoms(use_true_random=False))
def test_a_rollout_meets_the_same_fate_in_any_seat_and_any_company(random):
    rows, group = verdicts(*[1, 0] * 6), group_of(12)
    before = judge(group, rows, config(noise=0.5))
    seats = random.sample(range(12), random.randrange(1, 12))
    moved = replace(
        group,
        rollouts=tuple(group.rollouts[seat] for seat in seats),
        transcripts=tuple(group.transcripts[seat] for seat in seats),
    )
    after = judge(moved, [rows[seat] for seat in seats], config(noise=0.5))
    assert after.rewards == tuple(before.rewards[seat] for seat in seats)


def test_runs_of_two_seeds_are_spoiled_apart():
    group = group_of(64)
    other = replace(group, rollouts=tuple(replace(r, seed=r.seed + 99) for r in group.rollouts))
    rows = verdicts(*[0] * 64)
    one, two = (judge(g, rows, config(noise=0.5)).rewards for g in (group, other))
    assert one != two


# correction

NOISY = {"false_positive": 0.1, "false_negative": 0.2}


def test_the_backward_correction_has_the_clean_rewards_mean():
    result = judged(verdicts(1, 0), config(correction="backward", **NOISY))
    accepted, rejected = result.rewards
    assert (accepted, rejected) == pytest.approx((1.285714, -0.142857), abs=1e-6)
    assert 0.8 * accepted + 0.2 * rejected == pytest.approx(1.0)  # a right answer
    assert 0.1 * accepted + 0.9 * rejected == pytest.approx(0.0)  # a wrong one
    assert result.components["raw"] == (1.0, 0.0)


def test_the_forward_correction_keeps_the_clean_updates_direction():
    result = judged(verdicts(1, 0), config(correction="forward", **NOISY))
    accepted, rejected = result.rewards
    assert (accepted, rejected) == pytest.approx((0.2, -0.8))
    assert 0.8 * accepted + 0.2 * rejected == pytest.approx(0.0)
    assert 0.1 * accepted + 0.9 * rejected == pytest.approx(-0.7)


def test_a_normalised_group_forgets_the_backward_correction_and_a_centred_one_keeps_its_scale():
    rows = verdicts(1, 0, 0, 1)
    plain = torch.tensor(judged(rows, config()).rewards)
    mended = torch.tensor(judged(rows, config(correction="backward", **NOISY)).rewards)
    torch.testing.assert_close(grpo(mended), grpo(plain), atol=1e-4, rtol=0)
    assert grpo(plain).abs().tolist() == pytest.approx([0.866025] * 4, abs=2e-4)
    assert dr_grpo(mended).tolist() == pytest.approx([0.714286, -0.714286, -0.714286, 0.714286])


def test_malformed_text_counts_as_rejected():
    rows = [*verdicts(0), status("malformed")]
    wrong, malformed = judged(rows, config(correction="backward", **NOISY)).rewards
    assert wrong == malformed


# transforms


def test_a_transform_takes_the_sums_place():
    rows = [measured(-2.0), measured(-1.0), measured(-2.0), status("malformed")]
    ranks = judged(rows, config("mean_probability", transform="rank"))
    assert ranks.rewards == (0.625, 1.0, 0.625, 0.25)
    shares = judged(rows, config("mean_probability", transform="quantile"))
    assert shares.rewards == (0.75, 1.0, 0.75, 0.25)
    assert ranks.components["raw"] == ranks.components["clean"]  # the answer term is not ranked


@pytest.mark.parametrize("transform", ["rank", "quantile"])
@given(st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_a_transform_depends_on_the_order_alone(transform, nats):
    one = judged([measured(-n / 8) for n in nats], config("verifree", transform=transform))
    two = judged([measured(-n / 4) for n in nats], config("verifree", transform=transform))
    equals = judged([measured(-1.0)] * 3, config("verifree", transform=transform)).rewards
    assert one.rewards == two.rewards
    assert len(set(equals)) == 1


# the mixer


def mixed(settings: RewardConfig) -> Judged:
    return judged([measured(-1.0, rule=(1, 1, 1), shape=(80, 5, 1, 0.5))], settings)


def test_a_mix_adds_weighted_rewards_and_records_each():
    result = mixed(config(mix={"length": 0.5, "repetition": -2.0}))
    # 80 of 96 tokens are 8 into the last 24
    assert result.rewards == pytest.approx((1.0 + 0.5 * (2 / 3) - 2.0 * 0.5,))
    assert result.components["length"] == pytest.approx((2 / 3,))
    assert result.components["repetition"] == (0.5,)
    assert result.components["raw"] == (1.0,)


def test_weights_follow_a_straight_line_to_their_end():
    settings = config(mix={"length": 0.5, "repetition": 1.0}, mix_end={"length": 0.1})
    halfway = settings.at(0.5)
    assert halfway.mix == pytest.approx({"length": 0.3, "repetition": 1.0})
    assert settings.at(0.0).mix == settings.mix
    assert settings.at(1.0).mix == settings.at(7.0).mix == {"length": 0.1, "repetition": 1.0}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"mix": {"rule": 0.5}}, "adds 'rule' to itself"),
        ({"mix_end": {"sar": 0.5}}, "which reward.mix does not"),
        ({"mix": {"ruel": 0.5}}, "mix.ruel"),
        ({"length_limit": 10, "length_buffer": 11}, "lower it"),
        ({"correction": "forward", "false_positive": 0.5, "false_negative": 0.5}, "sum to 1"),
    ],
)
def test_contradictions_are_refused_when_the_settings_are_read(settings, told):
    with pytest.raises(ValidationError, match=told):
        config(**settings)


# what only the table can tell


def run_of(reward: RewardConfig, advantage: str = "grpo", **more: object) -> RunConfig:
    """A run of this reward whose rubric asks one thing."""
    tree = {
        "reward": reward.model_dump(),
        "objective": {"advantage": advantage},
        "verifier": {"rubric": ["It is short."]},
    }
    return RunConfig.model_validate(tree | more)


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_a_greedy_attempt_is_compared_by_rewards_of_a_rollout_alone(name):
    settings = config(name)
    assert alone(settings) == REWARDS[name].alone
    assert list(problems(run_of(settings, "dr_grpo"))) == []
    told = list(problems(run_of(settings, "remax")))
    assert len(told) == (not alone(settings))
    assert all(f"reward '{name}' compares a group" in problem for problem in told)


def test_a_mix_an_outcome_or_a_transform_can_compare_a_group_too():
    for settings, told in [
        (config(mix={"rank": 0.1}), "reward 'rank'"),
        (config("quantile", outcome="consensus"), "reward 'quantile'"),
        (config(transform="rank"), "reward.transform 'rank'"),
    ]:
        with pytest.raises(Contradiction, match=told):
            refuse(run_of(settings, "remax"))
    assert list(problems(run_of(config(mix={"sar": 0.1}, outcome="consensus"), "remax"))) == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (config("nover", noise=0.1), "from 0 to 1, which 'nover'"),
        (config("sar", correction="backward"), "from 0 to 1, which 'sar'"),
        (config("judge", correction="forward"), "use 'backward'"),
        (config(noise=0.1, mix={"length": 0.1}), "one verifier's verdicts"),
    ],
)
def test_wrappers_that_the_reward_cannot_bear_are_refused(settings, told):
    with pytest.raises(Contradiction, match=told):
        refuse(run_of(settings))


def test_wrappers_that_the_reward_can_bear_are_let_through():
    for settings in (
        config(noise=0.3, correction="forward", false_negative=0.3),
        config("judge", noise=0.3, correction="backward"),
        config("nover", transform="quantile", mix={"dro": 0.5}),
    ):
        assert list(problems(run_of(settings))) == []


@pytest.mark.parametrize(
    ("settings", "advantage", "told"),
    [
        (config("nover"), "psr", "exactly 0 and 1, and 'nover'"),
        (config("rule", noise=0.1, correction="backward"), "nsr", "exactly 0 and 1"),
        (config("majority_vote", mix={"length": 0.1}), "w_reinforce", "exactly 0 and 1"),
        (config("sar"), "maxrl", "0 or more, and 'sar'"),
        (config("rule", mix={"kl": 0.05}), "grpo", "would blow the reward 'kl' up"),
    ],
)
def test_what_an_advantage_cannot_bear_is_refused_before_anything_is_loaded(
    settings, advantage, told
):
    with pytest.raises(Contradiction, match=told):
        refuse(run_of(settings, advantage))


def test_what_an_advantage_can_bear_is_let_through():
    assert list(problems(run_of(config("rule"), "psr"))) == []
    assert list(problems(run_of(config("rule", mix={"kl": 0.05}), "rloo"))) == []
    assert list(problems(run_of(config("mean_probability"), "maxrl"))) == []


def test_pacs_a_rubric_without_items_and_the_start_at_another_temperature_are_refused():
    pacs = {"objective": {"surrogate": "pacs", "advantage": "rloo"}}
    with pytest.raises(Contradiction, match="'pacs' needs rewards of exactly 0 and 1"):
        refuse(RunConfig.model_validate(pacs))
    with pytest.raises(Contradiction, match="'rubric' has nothing to ask"):
        refuse(RunConfig.model_validate({"reward": {"name": "rubric"}}))
    hot = {"verifier": {"also": ["start"]}, "solver": {"temperature": 0.7}}
    with pytest.raises(Contradiction, match="the meter 'start' reads at 1"):
        refuse(RunConfig.model_validate(hot))
