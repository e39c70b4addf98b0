"""Rewards that shape: key tokens, quantiles, steps, conciseness, and two facts about any bonus."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.advantages import dr_grpo, grpo
from pipeline.measures import NotMeasurable
from pipeline.quantiles import quantiles
from pipeline.rewards.conciseness import concise
from pipeline.rewards.key_tokens import key_tokens
from pipeline.rewards.steps import bounded_sum, clip, delta
from pipeline.settings.reward import RewardConfig
from pipeline.types import Evidence, Judged
from tests.pipeline.attempts import against, judged, measured, status


def of(name: str, rows: list[Evidence], **settings: object) -> Judged:
    return judged(rows, RewardConfig.model_validate({"name": name, **settings}))


# key tokens

GIVEN = (-0.2, -1.5, -2.5, -0.1)
BARE = (-0.3, -4.0, -5.5, -3.0)


def test_key_tokens_are_those_that_reasoning_makes_predictable():
    # gains 0.1, 2.5, 3.0, 2.9; the third stays above a loss of 2
    assert key_tokens(GIVEN, BARE, 2.0, 2.0) == (1, 3)
    result = of("long_ppl", [against(GIVEN, BARE)])
    assert result.rewards == pytest.approx((1 / 2.225541,))
    assert result.components["key_tokens"] == (2.0,)


def test_a_reasoning_without_key_tokens_earns_nothing_and_says_so():
    result = of("long_ppl", [against(BARE, BARE), against(GIVEN, BARE), status("malformed")])
    assert result.components["key_tokens"] == (0.0, 2.0, 0.0)
    assert result.rewards == (0.0, math.exp(-0.8), 0.0)


def test_both_bounds_of_a_key_token_are_strict():
    assert key_tokens([-1.0], [-3.0], 2.0, 2.0) == ()
    assert key_tokens([-2.0], [-9.0], 2.0, 2.0) == ()
    assert key_tokens([-1.9], [-9.0], 2.0, 2.0) == (0,)


def test_tokens_that_are_easy_without_reasoning_do_not_dilute_the_key_ones():
    easy = against((*GIVEN, -0.01, -0.01), (*BARE, -0.02, -0.02))
    assert of("long_ppl", [easy]).rewards == of("long_ppl", [against(GIVEN, BARE)]).rewards


def test_key_tokens_need_one_reference():
    with pytest.raises(NotMeasurable, match="differs in tokens"):
        of("long_ppl", [against([-1.0], [-1.0, -2.0])])


# quantiles


def test_a_quantile_counts_what_it_reaches_ties_included():
    assert quantiles([0.5, 0.9], [0.1, 0.5, 0.7]) == pytest.approx((2 / 3, 1.0))
    assert quantiles([0.0, 0.5], [0.5]) == (0.0, 1.0)  # one to compare with tells no more
    with pytest.raises(NotMeasurable):
        quantiles([0.5], [])


def test_the_quantile_reward_is_of_the_outcome_and_counts_malformed_siblings():
    rows = [measured(-1.0), measured(-0.5), measured(-1.0), status("malformed")]
    assert of("quantile", rows).rewards == (0.75, 1.0, 0.75, 0.0)
    rules = [measured(-1.0, rule=(right,) * 3) for right in (1, 0, 0, 0)]
    assert of("quantile", rules, outcome="rule").rewards == (1.0, 0.75, 0.75, 0.75)


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=9))
def test_quantiles_survive_any_increasing_rescaling(values):
    shares = quantiles(values, values)
    assert shares == quantiles([v**3 for v in values], [v**3 for v in values])
    assert max(shares) == 1.0
    assert min(shares) >= 1 / len(values)


# steps

STEPS = (0.9, 0.8, 0.95, 0.4, 0.99)


def test_clip_and_delta_are_those_of_the_worked_steps():
    assert clip(STEPS, 0.9) == pytest.approx((0, -0.1, 0, -0.5, 0))
    assert math.fsum(clip(STEPS, 0.9)) == pytest.approx(-0.6)
    assert delta(STEPS) == pytest.approx((0.1, -0.15, 0.55, 0.4, 0))
    assert math.fsum(delta(STEPS)) == pytest.approx(STEPS[0])
    both = delta(clip(STEPS, 0.9))
    assert both == pytest.approx((0.1, -0.1, 0.5, -0.5, 0))
    assert math.fsum(both) == pytest.approx(0)
    assert of("clip_and_delta", [measured(-1.0, steps=STEPS)]).rewards == (1.0,)
    assert of("step_sum", [measured(-1.0, steps=STEPS)]).rewards == pytest.approx((4.04,))


def test_a_reasoning_without_a_step_earns_nothing_and_stops_nobody():
    rows = [measured(-1.0, steps=()), measured(-1.0, steps=STEPS)]
    assert of("clip_and_delta", rows).rewards == (0.0, 1.0)
    assert of("step_sum", rows).rewards == pytest.approx((0.0, 4.04))


def test_a_weak_first_step_costs_what_it_lacks():
    rows = [measured(-1.0, steps=(0.5, *STEPS)), measured(-1.0, steps=(0.5,))]
    assert of("clip_and_delta", rows).rewards == pytest.approx((0.6, 1.0))


SCORES = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=8)


@given(SCORES, st.floats(0, 1))
def test_the_bounded_sum_is_that_of_its_steps(scores, bar):
    total = math.fsum(delta(clip(scores, bar)))
    assert bounded_sum(scores, bar) == pytest.approx(total, abs=1e-12)
    assert -bar <= total <= 0.0


@given(SCORES, st.integers(0, 7), st.integers(1, 5))
def test_repeating_a_step_raises_the_sum_and_never_its_bounded_form(scores, seat, times):
    seat %= len(scores)
    repeated = [*scores[:seat], *[scores[seat]] * times, *scores[seat:]]
    before, after = measured(-1.0, steps=scores), measured(-1.0, steps=repeated)
    plain, longer = of("step_sum", [before, after]).rewards
    assert longer == pytest.approx(plain + times * scores[seat])
    plain, longer = of("clip_and_delta", [before, after]).rewards
    assert longer <= plain


# conciseness


def test_conciseness_multiplies_the_outcome():
    assert concise(1.0, 0.8, 0.5, 0.6) == pytest.approx(1.44)
    assert concise(0.0, 0.8, 0.5, 0.6) == 0.0


def test_short_and_wrong_earns_nothing_and_short_and_right_the_most():
    def row(right: int, reasoning: int) -> Evidence:
        return measured(-1.0, rule=(right,) * 3, shape=(90, reasoning, 1, 0))

    rows = [row(1, 0), row(1, 50), row(1, 100), row(0, 0), status("malformed")]
    result = of("conciseness", rows, outcome="rule", length_limit=100)
    # three of five right: difficulty 0.4; conciseness 1, 0.5 and its least, 0.1
    expected = [1 + 0.5 * c * (0.5 + 0.4) for c in (1.0, 0.5, 0.1)]
    assert result.rewards == pytest.approx((*expected, 0, 0))
    assert result.components["raw"] == (1.0, 1.0, 1.0, 0.0, 0.0)
    assert result.components["conciseness"] == (1.0, 0.5, 0.1, 1.0, 0.0)


# two facts about any bonus


@given(
    st.lists(st.integers(0, 8), min_size=2, max_size=8).filter(lambda rs: len(set(rs)) > 1),
    st.floats(0.5, 4),
    st.floats(-3, 3),
)
def test_an_affine_map_of_a_groups_rewards_changes_nothing_once_it_is_normalised(
    counts, scale, shift
):
    rewards = torch.tensor(counts, dtype=torch.float64)
    moved = scale * rewards + shift
    # GRPO's 1e-4 beside the deviation is all that is left of the scale
    torch.testing.assert_close(grpo(moved), grpo(rewards), atol=2e-3, rtol=0)
    torch.testing.assert_close(dr_grpo(moved), scale * dr_grpo(rewards))


def test_an_added_bonus_orders_a_group_of_wrong_attempts_and_a_factor_does_not():
    wrong = [measured(-1.0, rule=(0, 0, 0), shape=(n, n, 1, 0)) for n in (10, 80, 90)]
    added = of("rule", wrong, mix={"length": 0.5})
    assert added.rewards[0] > added.rewards[1] > added.rewards[2]  # "short wrong" is taught
    assert of("conciseness", wrong, outcome="rule").rewards == (0.0, 0.0, 0.0)
