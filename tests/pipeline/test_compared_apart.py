"""Advantages beyond a group's rewards: tokens of a step, prefixes, steps, right and wrong."""

from __future__ import annotations

import pytest
import torch

from pipeline.advantages import credit, needed
from pipeline.advantages.outcomes import POSITIVE_SHARE
from pipeline.advantages.tokens import min_form
from pipeline.measures import NotMeasurable
from pipeline.settings.objective import ObjectiveConfig
from pipeline.types import Evidence, Judged, Reading
from tests.pipeline.comparing import compared, judged, tensor

A, B, C, D = 11, 12, 13, 14


def written(*lengths: int) -> list[tuple[int, ...]]:
    """Texts of these lengths, no two of which begin alike."""
    return [tuple(100 * seat + i for i in range(n)) for seat, n in enumerate(lengths)]


def assert_near(found: torch.Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(found, tensor(*expected), atol=1e-6, rtol=0)


# whitened over tokens


def two_groups() -> tuple[Judged, Judged]:
    return (
        judged("solver", (1.0, 0.0), texts=written(2, 4)),
        judged("solver", (1.0, 1.0), texts=written(3, 1), name="g1"),
    )


def test_a_centred_step_is_whitened_over_its_tokens():
    # centred .5, -.5, 0, 0; token mean -.1; sample variance .155556
    first, second = compared("reinforce_pp_baseline", *two_groups())
    assert_near(first.rollouts, [1.521278, -1.014185])
    # the trap of this form: a group of equals is not at the tokens' mean, so it gets something
    assert_near(second.rollouts, [0.253546, 0.253546])


def test_a_step_is_whitened_over_its_tokens_without_any_group():
    # tokens: 1 twice, 0 four times, 1 four times; mean .6, sample variance 2.4 / 9
    first, second = compared("reinforce_pp", *two_groups())
    assert_near(first.rollouts, [0.774597, -1.161895])
    assert_near(second.rollouts, [0.774597, 0.774597])


@pytest.mark.parametrize("name", ["reinforce_pp", "reinforce_pp_baseline"])
def test_whitened_tokens_have_mean_0_and_unit_deviation_whatever_the_order_of_groups(name):
    groups = two_groups()
    found = compared(name, *groups)
    tokens = torch.cat(
        [
            one.rollouts.repeat_interleave(
                torch.tensor([sum(r.written) for r in group.group.rollouts])
            )
            for one, group in zip(found, groups, strict=True)
        ]
    )
    assert float(tokens.mean()) == pytest.approx(0.0, abs=1e-9)
    assert float(tokens.std()) == pytest.approx(1.0, abs=1e-6)
    for one, other in zip(found, compared(name, *groups[::-1])[::-1], strict=True):
        torch.testing.assert_close(one.rollouts, other.rollouts)


def test_no_groups_are_whitened_to_none():
    assert compared("reinforce_pp") == []


# the attempt without chance


def test_remax_sets_each_reward_against_that_of_the_attempt_without_chance():
    [found] = compared("remax", judged("solver", (1.0, 0.5, 0.0)), greedy=0.5)
    assert found.rollouts.tolist() == [0.5, 0.0, -0.5]


def test_a_group_without_an_attempt_without_chance_is_named():
    with pytest.raises(ValueError, match="group g7: no attempt without chance at its task t0"):
        compared("remax", judged("solver", (1.0, 0.5), name="g7"), greedy=None)


def test_credit_finds_the_attempt_without_chance_by_its_task():
    config = ObjectiveConfig(advantage="remax", answer_term=0.0)
    [found] = credit([judged("solver", (1.0, 0.5))], config, {"t0": 0.75, "t1": 0.0})
    assert found.advantages == (0.25, -0.25)


# right and wrong


@pytest.mark.parametrize(
    ("name", "right", "wrong"), [("psr", 1.0, 0.0), ("nsr", 0.0, -1.0), ("w_reinforce", 0.1, -1.0)]
)
def test_right_and_wrong_weigh_what_they_are_said_to(name, right, wrong):
    [found] = compared(name, judged("solver", (1.0, 0.0, 0.0)))
    assert_near(found.rollouts, [right, wrong, wrong])
    [others] = compared(name, judged("solver", (1.0, 1.0)))  # no sibling moves it
    assert_near(others.rollouts, [right, right])


def test_w_reinforce_is_a_tenth_of_psr_and_nsr():
    group = judged("solver", (1.0, 0.0))
    weighed, rising, falling = (
        compared(name, group)[0].rollouts for name in ("w_reinforce", "psr", "nsr")
    )
    torch.testing.assert_close(weighed, POSITIVE_SHARE * rising + falling)


@pytest.mark.parametrize("name", ["psr", "nsr", "w_reinforce"])
@pytest.mark.parametrize("reward", [0.5, -1.0, 1.0000001])
def test_a_reward_that_is_neither_right_nor_wrong_is_refused(name, reward):
    with pytest.raises(ValueError, match="group g0: a reward is"):
        compared(name, judged("solver", (1.0, reward)))


# prefixes


def test_tempo_credits_the_token_at_which_siblings_part():
    texts = [(A, C), (A, C), (A, D), (B,)]
    [found] = compared("tempo", judged("solver", (1.0, 1.0, 0.0, 0.0), texts=texts))
    assert_near(found.tokens[0], [1.154701, 1.443376])
    assert_near(found.tokens[1], [1.154701, 1.443376])
    assert_near(found.tokens[2], [-0.577350, -2.020726])
    assert_near(found.tokens[3], [-1.732051])
    assert_near(found.rollouts, [(1.154701 + 1.443376) / 2] * 2 + [-1.299038, -1.732051])


def test_tempo_is_the_scaled_group_behind_the_first_token_of_texts_that_share_none():
    [found] = compared("tempo", judged("solver", (1.0, 0.0, 0.0), texts=written(3, 2, 4)))
    scaled = torch.tensor([2 / 3, -1 / 3, -1 / 3]).double() / tensor(1, 0, 0).std()
    for row, value in zip(found.tokens, scaled, strict=True):
        assert_near(row[1:], [float(value)] * (len(row) - 1))
        assert_near(row[:1], [2 * float(value)])


def test_texts_that_stay_together_longer_are_credited_later_and_in_all_the_same():
    # the sum over a text's tokens of V(after) - V(before) is R - m, however long the shared part
    for shared in ((), (A,), (A, B, C)):
        texts = [(*shared, C, 1), (*shared, D, 1)]
        [found] = compared("tempo", judged("solver", (1.0, 0.0), texts=texts))
        extra = found.tokens[0] - 0.5 / tensor(1, 0).std()
        assert_near(extra[: len(shared)], [0.0] * len(shared))
        assert float(extra.sum()) == pytest.approx(0.5 / float(tensor(1, 0).std()))


def test_a_text_that_goes_on_from_another_parts_with_it_at_its_end():
    [found] = compared("tempo", judged("solver", (1.0, 0.0), texts=[(A,), (A, B)]))
    step = 0.5 / float(tensor(1, 0).std())
    assert_near(found.tokens[0], [step])  # V(A) is still the mean of both
    assert_near(found.tokens[1], [-step, -2 * step])


# steps


def steps(*scores: float, at: tuple[int, ...] = ()) -> Reading:
    """A reading whose steps end behind every second token, unless said otherwise."""
    places = at or tuple(2 * (i + 1) for i in range(len(scores)))
    return Reading("steps", "judge@0", "measured", scores, places)


def test_the_least_score_gets_nearly_all_the_weight():
    scores = tensor(0.8, 0.6, -0.4, 0.9)
    weights = torch.softmax(-scores / 0.1, 0)
    assert_near(weights, [6e-6, 4.5e-5, 0.999946, 2e-6])
    assert float(min_form(scores).sum()) == pytest.approx(-0.399944, abs=1e-6)
    assert float(min_form(scores, 1.0).sum()) == pytest.approx(0.158097, abs=1e-6)


def test_tokens_are_worth_the_steps_still_ahead_less_what_siblings_steps_are():
    # one step of .5 against two of .2 each: c is .5 and .1, .1; b is .1 for the first, .5 behind it
    read = (steps(0.5), steps(0.2, 0.2, at=(1, 3)))
    [found] = compared("pure_min", judged("solver", (0.0, 0.0), texts=written(3, 4), steps=read))
    assert_near(found.tokens[0], [0.4, 0.4, 0.0])
    assert_near(found.tokens[1], [-0.8, -0.4, -0.4, 0.0])
    assert_near(found.rollouts, [0.8 / 3, -1.6 / 4])


def test_repeating_an_easy_step_earns_nothing():
    # summed scores pay the repetition; the least step does not move
    once = (steps(0.9, -0.5), steps(0.1, 0.1))
    often = (steps(0.9, 0.9, 0.9, 0.9, -0.5), steps(0.1, 0.1))
    for read in (once, often):
        group = judged("solver", (0.0, 0.0), texts=written(10, 4), steps=read)
        [found] = compared("pure_min", group)
        assert float(found.tokens[0][0]) < -0.5


def test_an_attempt_without_steps_gets_nothing_and_is_in_nobodys_baseline():
    broken = Reading("steps", "judge@0", "malformed")
    read = (steps(0.5), steps(-0.5), broken)
    group = judged("solver", (0.0,) * 3, texts=written(2, 2, 2), steps=read)
    [found] = compared("pure_min", group)
    assert_near(found.tokens[2], [0.0, 0.0])
    [pair] = compared("pure_min", judged("solver", (0.0,) * 2, texts=written(2, 2), steps=read[:2]))
    for row, other in zip(found.tokens, pair.tokens, strict=False):
        torch.testing.assert_close(row, other)
    alone = (steps(0.5), broken, broken)
    [found] = compared(
        "pure_min", judged("solver", (0.0,) * 3, texts=written(2, 2, 2), steps=alone)
    )
    assert not any(bool(row.any()) for row in found.tokens)


@pytest.mark.parametrize("at", [(2, 2), (3, 1), (2, 5), (2,), (0, 3)])
def test_steps_that_do_not_lie_within_their_text_are_refused(at):
    group = judged(
        "solver", (0.0, 0.0), texts=written(4, 4), steps=(steps(0.5, 0.1, at=at), steps(0.2))
    )
    with pytest.raises(ValueError, match="2 steps end behind"):
        compared("pure_min", group)


def test_steps_that_nobody_measured_are_told():
    with pytest.raises(NotMeasurable, match="pure_min reads 'steps'"):
        compared("pure_min", judged("solver", (0.0, 0.0), texts=written(1, 1)))
    assert needed(ObjectiveConfig(advantage="pure_min")) == ("steps",)
    assert needed(ObjectiveConfig()) == ()


def test_credit_keeps_the_advantages_of_tokens_beside_their_means():
    config = ObjectiveConfig(advantage="tempo", answer_term=0.0)
    group = judged("solver", (1.0, 0.0, 0.0), texts=[(A, C), (A, D), (B,)])
    [found] = credit([group], config)
    assert [len(row) for row in found.by_token] == [2, 2, 1]
    for mean, row in zip(found.advantages, found.by_token, strict=True):
        assert mean == pytest.approx(sum(row) / len(row))
    assert isinstance(group.evidence[0], Evidence)
    [equal] = credit([judged("solver", (1.0, 1.0), texts=[(A,), (B,)])], config)
    assert (equal.by_token, equal.dead) == ((), True)
