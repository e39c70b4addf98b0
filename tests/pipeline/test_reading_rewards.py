"""Rewards of readings: the worked examples of their sources, and what must not move them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.advantages import credit
from pipeline.config import ObjectiveConfig
from pipeline.measures import NotMeasurable
from pipeline.rewards.agreement import answer_shares
from pipeline.rewards.aligned import aligned
from pipeline.rewards.length import overlong
from pipeline.rewards.verdicts import rubric_share
from pipeline.settings.reward import RewardConfig
from pipeline.types import Evidence, Judged
from tests.pipeline.attempts import judged, measured, reading, status


def of(name: str, rows: list[Evidence], **settings: object) -> Judged:
    return judged(rows, RewardConfig.model_validate({"name": name, **settings}))


# confidence


def test_self_certainty_is_the_mean_over_tokens_as_intuitor_has_it():
    # KL(U || p) of logits [2,0,0,0], [0,0,0,0] and [10,0,0,0] over four tokens
    two, zero, ten = 0.454459, 0.0, 6.113842
    rows = [measured(-1.0, certainty=values) for values in ([two, zero], [two], [ten], [zero])]
    result = of("self_certainty", rows)
    assert result.rewards == pytest.approx((0.2272295, two, ten, 0.0))
    (credited,) = credit([result], ObjectiveConfig(advantage="grpo"))
    assert credited.advantages == pytest.approx((-0.4990, -0.4220, 1.4970, -0.5761), abs=1e-4)


def test_a_constant_of_every_token_leaves_certaintys_advantages_alone():
    # the released code leaves log V in: 1.386294 for four tokens
    values = [[0.5, 0.1], [2.0], [0.7, 0.9, 0.3]]
    plain = of("self_certainty", [measured(-1.0, certainty=row) for row in values])
    shifted = of(
        "self_certainty",
        [measured(-1.0, certainty=[x + math.log(4) for x in row]) for row in values],
    )
    one, other = (credit([r], ObjectiveConfig())[0].advantages for r in (plain, shifted))
    assert one == pytest.approx(other, abs=1e-9)


def test_entropy_pays_less_the_more_there_is_and_form_beside_it():
    rows = [measured(-1.0, entropy=[0.5, 0.25]), measured(-1.0, entropy=[0.0]), status("malformed")]
    assert of("entropy", rows).rewards == (1 - 0.375, 1.0, 0.0)
    assert of("entropy", rows, form_weight=0.0).rewards == (-0.375, 0.0, 0.0)
    assert of("entropy", rows).components["raw"] == (math.exp(-0.375), 1.0, 0.0)


def test_nats_below_zero_are_refused_beyond_a_crumb_of_rounding():
    assert of("self_certainty", [measured(-1.0, certainty=[-1e-9])]).rewards == (0.0,)
    with pytest.raises(NotMeasurable, match="below 0"):
        of("entropy", [measured(-1.0, entropy=[1.0, -0.1])])


# agreement


def test_a_vote_pays_the_mode_and_a_teacher_its_label():
    rows = [
        measured(-1.0, vote=(1, 0.75, 0.75), teacher=(0, 0.9)),
        measured(-1.0, vote=(0, 0.25, 0.75)),
    ]
    assert of("majority_vote", rows).rewards == (1.0, 0.0)
    assert of("co_reward", rows).rewards == (0.0, 1.0)


def test_consensus_pays_the_own_answers_share_of_the_mean_probability():
    # under two reasonings: P = (0.4, 0.1) and (0.2, 0.3); means 0.3 and 0.2, shares 0.6 and 0.4
    table = [[math.log(0.4), math.log(0.1)], [math.log(0.2), math.log(0.3)]]
    assert answer_shares(table) == pytest.approx((0.6, 0.4))
    rows = [measured(-1.0, cross=row) for row in table]
    assert of("consensus", rows).rewards == pytest.approx((0.6, 0.6))  # both own the first


def test_an_attempt_without_an_answer_lends_its_reasoning_and_earns_nothing():
    table = [[math.log(0.4), math.log(0.1)], [math.log(0.2), math.log(0.3)]]
    rows = [measured(-1.0, cross=row) for row in table]
    silent = Evidence(
        "measured", "proxy@0", (-1.0,), (-1.0,), readings=(reading("cross", table[1], None),)
    )
    assert of("consensus", [rows[0], silent]).rewards == pytest.approx((0.6, 0.0))


def test_consensus_of_answers_hardly_possible_is_still_a_share():
    assert answer_shares([[-2000.0, -2000.0 - math.log(3)]]) == pytest.approx((0.75, 0.25))
    assert answer_shares([]) == ()


def test_consensus_refuses_rows_of_other_answers_and_probabilities_above_one():
    with pytest.raises(NotMeasurable, match="different answers"):
        answer_shares([[-1.0], [-1.0, -2.0]])
    with pytest.raises(NotMeasurable, match="above 0"):
        answer_shares([[-1.0, 0.5]])


@given(
    st.lists(st.lists(st.floats(-50, 0), min_size=3, max_size=3), min_size=1, max_size=6),
    st.floats(-9, 0),
)
def test_consensus_sums_to_one_and_forgets_what_all_answers_have_in_common(table, shift):
    shares = answer_shares(table)
    assert math.fsum(shares) == pytest.approx(1.0)
    assert answer_shares([[x + shift for x in row] for row in table]) == pytest.approx(shares)
    assert answer_shares(table[::-1]) == pytest.approx(shares)


# verdicts


def test_a_rule_pays_the_verdict_that_the_config_names():
    rows = [measured(-1.0, rule=(0, 1, 0)), measured(-1.0, rule=(0, 0, 1))]
    assert of("rule", rows, match="exact").rewards == (0.0, 0.0)
    assert of("rule", rows, match="normalised").rewards == (1.0, 0.0)
    assert of("rule", rows).rewards == (0.0, 1.0)


def test_a_judge_pays_its_yes_and_no_more_than_one():
    assert of("judge", [measured(-1.0, judge=(0.3,))]).rewards == (0.3,)
    with pytest.raises(NotMeasurable, match="outside"):
        of("judge", [measured(-1.0, judge=(1.2,))])


def test_a_rubric_weighs_its_items_as_rar_does():
    # essential, important and pitfall pass, optional fails: 2.6 / 2.9
    kinds = ("essential", "important", "pitfall", "optional")
    rows = [measured(-1.0, rubric=(1, 1, 1, 0))]
    assert of("rubric", rows, rubric=kinds).rewards == pytest.approx((0.896552,), abs=1e-6)
    assert of("rubric", rows).rewards == (0.75,)
    with pytest.raises(NotMeasurable, match="4 rubric verdicts but 1 weights"):
        of("rubric", rows, rubric=("essential",))


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 1)), min_size=1, max_size=6),
    st.floats(0.1, 9),
)
def test_a_rubrics_share_follows_weights_ratios_alone(items, factor):
    verdicts, weights = zip(*items, strict=True)
    share = rubric_share(verdicts, weights)
    assert 0.0 <= share <= 1.0
    assert rubric_share(verdicts, [factor * w for w in weights]) == pytest.approx(share)
    assert rubric_share(verdicts[::-1], weights[::-1]) == pytest.approx(share)


# the query's help


def test_the_self_aligned_reward_is_the_share_of_perplexity_that_the_query_takes_off():
    asked, unasked = (-0.2, -0.1, -0.3, -0.4), (-1.2, -0.1, -0.9, -0.4)
    assert aligned(asked, unasked) == pytest.approx(0.329680, abs=1e-6)
    rows = [measured(-1.0, written=asked, unprompted=unasked)]
    alone = of("sar", rows, form_weight=0.0)
    assert alone.rewards == pytest.approx((0.329680,), abs=1e-6)
    mixed = of("rule", rows, form_weight=0.0, mix={"sar": 0.2})
    assert mixed.rewards == pytest.approx((1.065936,), abs=1e-6)
    assert mixed.components["sar"] == pytest.approx((0.329680,), abs=1e-6)


def test_a_query_that_makes_the_completion_unlikelier_costs_one_at_most():
    assert aligned([-1.5] * 4, [-0.2] * 4) == -1.0  # -2.669 before the bound
    assert aligned([-9e5], [-0.1]) == -1.0
    result = of("sar", [measured(-1.0, written=(-1.5,), unprompted=(-0.2,)), status("malformed")])
    assert result.rewards == (0.0, 0.0)  # with its form, no worse than malformed text
    assert result.components["raw"] == (0.0, 0.0)


def test_the_self_aligned_reward_needs_the_same_tokens_twice():
    with pytest.raises(NotMeasurable, match="differ in tokens"):
        aligned([-1.0], [-1.0, -1.0])


@given(
    st.lists(st.tuples(st.floats(-5, 0), st.floats(-5, 0)), min_size=1, max_size=6), st.floats(0, 3)
)
def test_what_query_and_text_alone_make_unlikely_alike_does_not_count(pairs, shift):
    asked, unasked = zip(*pairs, strict=True)
    moved = aligned([x - shift for x in asked], [x - shift for x in unasked])
    assert moved == pytest.approx(aligned(asked, unasked))
    assert aligned(asked, asked) == 0.0


# shape


@pytest.mark.parametrize(
    ("tokens", "penalty"),
    [(16384, 0.0), (17000, -0.150391), (18432, -0.5), (20480, -1.0), (9**9, -1.0)],
)
def test_the_overlong_penalty_is_dapos(tokens, penalty):
    assert overlong(tokens, 20480, 4096) == pytest.approx(penalty, abs=1e-6)
    settings = {"length_limit": 20480, "length_buffer": 4096}
    rows = [measured(-1.0, shape=(tokens, 5, 1, 0))]
    assert of("length", rows, **settings).rewards == pytest.approx((1 + penalty,), abs=1e-6)


def test_a_buffer_as_long_as_the_limit_is_a_penalty_per_token():
    assert [overlong(tokens, 10, 10) for tokens in (0, 1, 5, 10, 20)] == [0, -0.1, -0.5, -1, -1]


def test_repetition_costs_its_share():
    rows = [measured(-1.0, shape=(9, 5, 1, repeated)) for repeated in (0.0, 0.25, 1.0)]
    assert of("repetition", rows).rewards == (1.0, 0.75, 0.0)
