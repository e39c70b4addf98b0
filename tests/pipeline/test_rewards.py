"""Rewards of attempts: NOVER's worked group, ties, gates, and what is never a number."""

from __future__ import annotations

import math
import random
import re
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.measures import NotMeasurable, mean_probability
from pipeline.rewards import REWARDS, judge, needed
from pipeline.rewards.nover import efficiency_values
from pipeline.rewards.outcomes import OUTCOMES
from pipeline.rewards.ranks import rank_values
from pipeline.settings.reward import OutcomeName, RewardConfig, RewardName
from pipeline.types import Reading
from tests.pipeline import attempts
from tests.pipeline.attempts import PLAIN, group_of, measured, status

ALL_ONE = RewardConfig(efficiency_weight=1.0)


def judged(evidence, config=ALL_ONE, variant="code"):
    return attempts.judged(evidence, config.model_copy(update={"variant": variant}))


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
    price = -0.75 if name == "kl" else 0.0  # what has become likelier costs, whatever its form
    assert judged([status("malformed")] * 3, config).rewards == (price,) * 3
    assert judged([status("score_error")] * 3, config).kept == ()


@pytest.mark.parametrize("name", sorted(name for name in REWARDS if not REWARDS[name].needs))
def test_measured_evidence_without_numbers_is_refused(name):
    for bad in ((), (math.nan,), (0.5,), (-math.inf,), (-1e308, -1e308)):
        with pytest.raises(NotMeasurable):
            judged([measured(*bad)], RewardConfig(name=name))


READERS = [(name, meter) for name in sorted(REWARDS) for meter in REWARDS[name].needs]


@pytest.mark.parametrize(("name", "meter"), READERS)
def test_a_measured_reading_without_usable_numbers_is_refused(name, meter):
    empty = () if meter == "steps" else ((),)  # a reasoning may have no step
    for bad in (*empty, (math.nan,) * 4):
        with pytest.raises(NotMeasurable):
            judged([measured(-1.0, **{meter: bad})], RewardConfig(name=name))


@pytest.mark.parametrize(("name", "meter"), READERS)
def test_a_reading_that_was_never_taken_is_no_zero(name, meter):
    item = measured(-1.0)
    bare = replace(item, readings=tuple(r for r in item.readings if r.source != meter))
    with pytest.raises(NotMeasurable, match=f"'{meter}', which was not measured"):
        judged([bare], RewardConfig(name=name))


@pytest.mark.parametrize(("name", "meter"), READERS)
def test_a_reading_that_could_not_be_taken_leaves_its_rollout_out(name, meter):
    item = measured(-1.0)
    others = tuple(r for r in item.readings if r.source != meter)
    slow = replace(item, readings=(*others, Reading(meter, "meter@0", "timeout")))
    rows = [item, measured(-0.5)]
    alone, beside = (
        judged(rows, RewardConfig(name=name)),
        judged([rows[0], slow, rows[1]], RewardConfig(name=name)),
    )
    assert beside.kept == (0, 2)
    assert beside.rewards == alone.rewards


@pytest.mark.parametrize(("name", "meter"), READERS)
@pytest.mark.parametrize("gate", ["strict", "lenient", "off"])
def test_a_malformed_reading_earns_nothing_under_any_gate(name, meter, gate):
    item = measured(-1.0)
    others = tuple(r for r in item.readings if r.source != meter)
    broken = replace(item, readings=(*others, Reading(meter, "meter@0", "malformed")))
    terms = judged([broken], RewardConfig(name=name, gate=gate)).components
    assert (terms["reasoning"], terms["raw"], terms["form"]) == ((0.0,), (0.0,), (1.0,))


@pytest.mark.parametrize("name", sorted({n for n in REWARDS if REWARDS[n].needs} - {"kl"}))
def test_the_gate_decides_which_readings_count(name):
    rows = [measured(-1.0), status("malformed", "text_outside"), status("malformed", "unclosed")]
    earning = {}
    for gate in ("strict", "lenient", "off"):
        config = RewardConfig(name=name, gate=gate, outcome="rule")
        terms = judged(rows, config).components
        earning[gate] = tuple(value != 0.0 for value in terms["raw"])
        assert terms["form"] == (1.0, 0.0, 0.0)
    assert earning == {
        "strict": (True, False, False),
        "lenient": (True, True, False),
        "off": (True, True, True),
    }


def test_proposals_are_not_judged_as_attempts():
    with pytest.raises(ValueError, match="generator"):
        judge(group_of(1, "generator"), [measured(-1.0)], ALL_ONE)


def test_the_tables_of_rewards_are_the_choices_in_the_config():
    assert set(REWARDS) == set(get_args(RewardName))
    assert set(OUTCOMES) == set(get_args(OutcomeName))
    assert {name: REWARDS[name].terms for name in OUTCOMES} == OUTCOMES
    assert all(REWARDS[name].scale != "any" for name in OUTCOMES)


def test_the_meters_of_a_mix_and_of_an_outcome_are_needed_too():
    assert needed(RewardConfig()) == ()
    mixed = RewardConfig(name="rule", mix={"sar": 0.2, "length": 0.1})
    assert needed(mixed) == ("rule", "written", "unprompted", "shape")
    assert needed(RewardConfig(name="conciseness", outcome="judge")) == ("shape", "judge")
    assert needed(RewardConfig(name="nover", outcome="judge")) == ()
    assert {meter for reward in REWARDS.values() for meter in reward.needs} == set(PLAIN)


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_each_page_stands_alone(name):
    page = REWARDS[name].terms.__doc__ or ""
    assert re.search(r"Source:\s", page)
    assert re.search(r"arXiv\s+\d{4}\.\d{4,5}|this project|Foster", page)
    assert re.search(r"[Ii]n\s+[\[(]|0 or 1|[Bb]etween|[Aa]t\s+(least|most)|finite number", page)
    assert re.search(r"compares a\s+group|of a\s+rollout\s+alone", page, re.IGNORECASE)
    assert bool(re.search(r"compares a\s+group", page)) != REWARDS[name].alone
    assert all(f'"{meter}"' in page for meter in REWARDS[name].needs)


def test_a_reward_of_a_rollout_alone_is_the_same_beside_others():
    rng = random.Random(1)
    rows = attempts.random_group(rng, 5, 4, 6)
    changed = set()
    for name in REWARDS:
        config = RewardConfig(name=name)
        together = judged(rows, config).rewards
        apart = [judged([row], config).rewards[0] for row in rows]
        if any(abs(a - b) > 1e-9 for a, b in zip(together, apart, strict=True)):
            changed.add(name)
    # a vote is counted by its meter, over the group
    assert changed | {"majority_vote"} == {name for name in REWARDS if not REWARDS[name].alone}


def _narrow(reading):
    """A "cross" reading of one answer asks about the two answers of the others."""
    return (
        replace(reading, values=(*reading.values, -2.0)) if reading.source == "cross" else reading
    )


ROWS = st.lists(
    st.one_of(
        st.builds(lambda x, n: measured(-x / 8, tokens=n), st.integers(0, 16), st.integers(0, 40)),
        st.builds(
            lambda seed: attempts.random_group(random.Random(seed), 1, 1, 5)[0], st.integers(0, 99)
        ).map(lambda item: replace(item, readings=tuple(_narrow(r) for r in item.readings))),
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
def test_raw_and_bounded_rewards_lie_between_zero_and_one_and_raw_is_zero_where_malformed(
    rows, name
):
    result = judged(rows, RewardConfig(name=name))
    scale = REWARDS[name].scale
    for seat, reward, raw, form in zip(
        result.kept,
        result.rewards,
        result.components["raw"],
        result.components["form"],
        strict=True,
    ):
        assert 0.0 <= raw <= 1.0
        assert scale == "any" or 0.0 <= reward <= 1.0
        assert scale != "verdict" or reward in (0.0, 1.0)
        assert form == (rows[seat].status == "measured")
        assert form or raw == 0.0


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=10))
def test_ranks_survive_any_increasing_rescaling(values):
    assert rank_values(values) == rank_values([math.exp(v / 3) for v in values])
    assert sum(rank_values(values)) == pytest.approx((len(values) + 1) / 2)
    lengths = list(range(len(values)))
    assert efficiency_values(values, lengths) == efficiency_values([v**3 for v in values], lengths)
