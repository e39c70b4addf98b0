"""Rewards of attempts: NOVER's worked group, ties, gates, and what is never a number."""

from __future__ import annotations

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import RewardConfig
from pipeline.measures import NotMeasurable, mean_probability
from pipeline.rewards import REWARDS, judge
from pipeline.rewards.nover import efficiency_values
from pipeline.rewards.ranks import rank_values
from pipeline.types import Evidence, Group, Rollout, Status, Task, Transcript

ALL_ONE = RewardConfig(efficiency_weight=1.0)


def group_of(size: int, role: str = "solver") -> Group:
    rollouts = tuple(Rollout(f"g0-a{i}", (), (), (), "", "end", i, "solver@0") for i in range(size))
    task = Task("t0", "How many?", "six", "human")
    return Group("g0", role, task, rollouts, (Transcript("ok", "so", "six"),) * size)


def measured(*logprobs: float, tokens: int = 0) -> Evidence:
    return Evidence("measured", "proxy@0", logprobs, logprobs, tokens)


def status(value: Status) -> Evidence:
    return Evidence(value, "proxy@0")


def judged(evidence, config=ALL_ONE, variant="code"):
    chosen = config.model_copy(update={"variant": variant})
    return judge(group_of(len(evidence)), evidence, chosen)


# The worked group of NOVER: seats 3 and 5 are malformed
PPL = (1.60, 1.40, 1.40, 1.25, 1.90, 1.75)
LENGTHS = (100, 60, 80, 200, 300, 40)


def test_ranks_are_novers_and_equals_share_the_mean_of_their_places():
    # NOVER pays the tie at 1.40 by position, 5/6 and 4/6; here both get 4.5/6
    assert rank_values(PPL) == pytest.approx([3 / 6, 4.5 / 6, 4.5 / 6, 6 / 6, 1 / 6, 2 / 6])
    by_position = (1.60, 1.40, 1.40 + 1e-9, 1.25, 1.90, 1.75)
    assert rank_values(by_position) == pytest.approx(
        [0.5, 0.8333, 0.6667, 1.0, 0.1667, 0.3333], abs=5e-5
    )


def test_efficiency_is_the_share_beaten_on_both_length_and_perplexity():
    assert efficiency_values(PPL, LENGTHS) == pytest.approx([0.2, 0.4, 0.4, 0.2, 0.0, 0.2])


def test_efficiency_needs_a_rival_and_pays_no_tie():
    assert efficiency_values([], []) == ()
    assert efficiency_values([1.2], [5]) == (0.0,)
    assert efficiency_values([1.2, 1.2], [5, 9]) == (0.0, 0.0)
    assert efficiency_values([1.2, 1.3], [5, 5]) == (0.0, 0.0)


def test_the_terms_of_the_worked_group_sum_to_novers_totals():
    ranks = rank_values((1.60, 1.40, 1.40 + 1e-9, 1.25, 1.90, 1.75))  # the tie broken by position
    efficiency = efficiency_values(PPL, LENGTHS)
    totals = [1 + rank + share for rank, share in zip(ranks, efficiency, strict=True)]
    assert totals == pytest.approx([1.7, 2.2333, 2.0667, 2.2, 1.1667, 1.5333], abs=5e-5)


def test_the_worked_group_is_judged_with_its_tie_shared():
    rows = [  # log-probabilities that give PPL at LENGTHS
        measured(-math.log(ppl) * (1 + math.log10(length)), tokens=length)
        for ppl, length in zip(PPL, LENGTHS, strict=True)
    ]
    malformed = status("malformed")
    result = judged([*rows[:3], malformed, rows[3], malformed, *rows[4:]])
    assert result.kept == tuple(range(8))
    assert result.components["form"] == (1, 1, 1, 0, 1, 0, 1, 1)
    reasoning = [0.5, 0.75, 0.75, 0, 1.0, 0, 0.1667, 0.3333]
    assert result.components["reasoning"] == pytest.approx(reasoning, abs=5e-5)
    assert result.components["efficiency"] == pytest.approx([0.2, 0.4, 0.4, 0, 0.2, 0, 0, 0.2])
    totals = [1.7, 2.15, 2.15, 0, 2.2, 0, 1.1667, 1.5333]
    assert result.rewards == pytest.approx(totals, abs=5e-5)
    assert result.components["raw"] == result.components["reasoning"]


def test_an_exact_tie_earns_the_same_reward_from_any_seat():
    rows = [measured(-0.5), measured(-0.2), measured(-0.5), status("malformed")]
    assert judged(rows).rewards == (1.5, 2.0, 1.5, 0.0)


def test_a_difference_below_arithmetic_is_a_tie():
    assert judged([measured(-0.5), measured(-0.5 - 1e-9)]).rewards == (1.75, 1.75)


def test_a_lone_measured_rollout_earns_the_full_rank():
    result = judged([status("malformed"), measured(-3.0), status("too_long")])
    assert result.kept == (0, 1)
    assert result.rewards == (0.0, 2.0)


def test_the_variants_can_order_a_group_differently():
    # ten tokens: NLL 1 over N = 2 (log10) or 3.303 (ln); one token: NLL .4 over 1
    rows = [measured(-1.0, tokens=10), measured(-0.4, tokens=1)]
    assert judged(rows, variant="code").components["reasoning"] == (0.5, 1.0)  # .500 > .400
    assert judged(rows, variant="paper").components["reasoning"] == (1.0, 0.5)  # .303 < .400


def test_mean_probability_is_the_reward_itself_and_gated_by_form():
    rows = [measured(-0.2, -0.3), status("malformed"), measured(-1.0, -0.5)]
    result = judged(rows, RewardConfig(name="mean_probability"))
    expected = [(math.exp(-0.2) + math.exp(-0.3)) / 2, 0, (math.exp(-1.0) + math.exp(-0.5)) / 2]
    assert result.rewards == pytest.approx(expected)
    assert result.components["raw"] == result.rewards
    assert result.components["form"] == (1, 0, 1)
    assert result.rewards[0] == mean_probability([-0.2, -0.3])


def test_the_rank_alone_ignores_the_weights_of_other_terms():
    rows = [measured(-1.0), measured(-0.5), status("malformed")]
    config = RewardConfig(name="rank", form_weight=7.0, reasoning_weight=7.0)
    assert judged(rows, config).rewards == (0.5, 1.0, 0.0)


def test_weights_scale_their_own_terms():
    rows = [measured(-1.0, tokens=9), measured(-0.5, tokens=4)]
    config = RewardConfig(form_weight=10.0, reasoning_weight=2.0, efficiency_weight=0.5)
    assert judged(rows, config).rewards == (11.0, 12.5)


@pytest.mark.parametrize("unmade", ["score_error", "too_long", "not_measured"])
@pytest.mark.parametrize("name", sorted(REWARDS))
def test_an_unmade_measurement_neither_earns_nor_moves_its_siblings(unmade, name):
    rows = [measured(-1.0), measured(-0.5), status("malformed")]
    config = RewardConfig(name=name)
    alone, beside = judged(rows, config), judged([rows[0], status(unmade), *rows[1:]], config)
    assert beside.kept == (0, 2, 3)
    assert beside.rewards == alone.rewards
    assert beside.components == alone.components


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_groups_with_nothing_measured_have_rewards_all_the_same(name):
    config = RewardConfig(name=name)
    assert judged([status("malformed")] * 3, config).rewards == (0.0, 0.0, 0.0)
    assert judged([status("score_error")] * 3, config).kept == ()


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_measured_evidence_without_numbers_is_refused(name):
    for bad in ((), (math.nan,), (0.5,)):
        with pytest.raises(NotMeasurable):
            judged([measured(*bad)], RewardConfig(name=name))


def test_proposals_are_not_judged_as_attempts():
    with pytest.raises(ValueError, match="generator"):
        judge(group_of(1, "generator"), [measured(-1.0)], ALL_ONE)


def test_the_table_of_rewards_is_the_choice_in_the_config():
    assert set(REWARDS) == set(get_args(RewardConfig.model_fields["name"].annotation))


ROWS = st.lists(
    st.one_of(
        st.builds(lambda x, n: measured(-x / 8, tokens=n), st.integers(0, 16), st.integers(0, 40)),
        st.sampled_from([status("malformed"), status("score_error")]),
    ),
    min_size=1,
    max_size=8,
)


@given(ROWS, st.sampled_from(sorted(REWARDS)), st.randoms(use_true_random=False))
def test_rewards_follow_their_rollouts_when_siblings_change_seats(rows, name, random):
    config = RewardConfig(name=name)
    seats = list(range(len(rows)))
    random.shuffle(seats)
    before, after = judged(rows, config), judged([rows[seat] for seat in seats], config)
    rewards = dict(zip(before.kept, before.rewards, strict=True))
    moved = {seats[seat]: reward for seat, reward in zip(after.kept, after.rewards, strict=True)}
    assert moved == pytest.approx(rewards)


@given(ROWS, st.sampled_from(sorted(REWARDS)))
def test_raw_lies_between_zero_and_one_and_is_zero_where_malformed(rows, name):
    result = judged(rows, RewardConfig(name=name))
    for seat, raw, form in zip(
        result.kept, result.components["raw"], result.components["form"], strict=True
    ):
        assert 0.0 <= raw <= 1.0
        assert form == (rows[seat].status == "measured")
        assert form or raw == 0.0


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=10))
def test_ranks_survive_any_increasing_rescaling(values):
    assert rank_values(values) == rank_values([math.exp(v / 3) for v in values])
    assert sum(rank_values(values)) == pytest.approx((len(values) + 1) / 2)
    lengths = list(range(len(values)))
    assert efficiency_values(values, lengths) == efficiency_values([v**3 for v in values], lengths)
