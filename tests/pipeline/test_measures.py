"""Log-probabilities, consensus and ranking, by hand first."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.measures import (
    NotMeasurable,
    auc,
    consensus,
    length_norm,
    log_perplexity,
    mean_nll,
    mean_probability,
    pair_accuracy,
    sequence_logprob,
)

LOGPROBS = (-0.5, -1.0, -0.25, -2.25)  # mean NLL 1


@pytest.mark.parametrize(
    ("tokens", "variant", "expected"),
    [
        (0, "code", 2.718282),
        (1, "code", 2.718282),
        (10, "code", 1.648721),
        (100, "code", 1.395612),
        (0, "paper", 2.718282),
        (100, "paper", 1.195311),
    ],
)
def test_reasoning_perplexity_is_novers_in_both_variants(tokens, variant, expected):
    assert mean_nll(LOGPROBS) == 1.0
    perplexity = math.exp(log_perplexity(LOGPROBS, tokens, variant))
    assert perplexity == pytest.approx(expected, abs=1e-6)


def test_the_length_norm_divides_inside_the_exponent():
    # PPL^(1/N), not PPL/N
    ppl = math.exp(mean_nll(LOGPROBS))
    value = math.exp(log_perplexity(LOGPROBS, 10, "code"))
    assert value == pytest.approx(ppl ** (1 / length_norm(10, "code")))


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_the_length_norm_grows_from_one(variant):
    norms = [length_norm(n, variant) for n in (0, 1, 2, 10, 1000)]
    assert norms[:2] == [1.0, 1.0]
    assert norms == sorted(norms)


def test_probabilities_of_a_reference_are_averaged_or_multiplied():
    logprobs = [math.log(p) for p in (0.01, 0.7, 0.9)]
    assert mean_probability(logprobs) == pytest.approx(0.536667, abs=1e-6)
    assert math.exp(sequence_logprob(logprobs)) == pytest.approx(0.0063, abs=1e-9)


@pytest.mark.parametrize("bad", [(), (-1.0, math.nan), (-math.inf,), (0.1,), (-1.0, math.inf)])
@pytest.mark.parametrize("measure", [mean_nll, sequence_logprob, mean_probability])
def test_unusable_log_probabilities_are_not_measurable(measure, bad):
    with pytest.raises(NotMeasurable):
        measure(bad)


def test_the_log_of_a_perplexity_beyond_the_largest_float_is_measurable():
    assert log_perplexity([-1000.0], 0, "code") == 1000.0
    with pytest.raises(NotMeasurable):
        mean_nll([-1.7e308, -1.7e308])


def test_consensus_takes_the_mean_of_probabilities_over_reasonings():
    # P(a) = (.8 + .1)/2 = .45, P(b) = (.1 + .4)/2 = .25
    table = torch.tensor([[0.8, 0.1], [0.1, 0.4]]).log()
    best, confidence, spread = consensus(table)
    assert best == 0
    assert confidence == pytest.approx(0.45 / 0.7)
    share = 0.45 / 0.7
    entropy = -(share * math.log(share) + (1 - share) * math.log(1 - share))
    assert spread == pytest.approx(entropy / math.log(2))


def test_consensus_can_differ_from_the_mean_of_log_probabilities():
    # P(a) = .4505 beats P(b) = .3, although log P(a) has the lower mean
    table = torch.tensor([[0.9, 0.3], [0.001, 0.3]]).log()
    assert consensus(table)[0] == 0
    assert int(table.mean(0).argmax()) == 1


def test_one_candidate_is_certain_and_equals_are_not():
    assert consensus(torch.tensor([[-5.0], [-900.0]])) == (0, 1.0, 0.0)
    best, confidence, spread = consensus(torch.full((3, 4), -2.0))
    assert (best, spread) == (0, pytest.approx(1.0))
    assert confidence == pytest.approx(0.25)


def test_consensus_holds_where_probabilities_underflow():
    best, confidence, spread = consensus(torch.tensor([[-2000.0, -2001.0]]))
    assert best == 0
    assert confidence == pytest.approx(1 / (1 + math.exp(-1)))
    assert 0 < spread < 1


@pytest.mark.parametrize(
    "table", [[[0.5, -1.0]], [[math.nan, -1.0]], [[-math.inf, -1.0]], [[]], [-1.0, -2.0]]
)
def test_consensus_of_an_unusable_table_is_not_measurable(table):
    with pytest.raises(NotMeasurable):
        consensus(torch.tensor(table))


@given(st.permutations(range(4)), st.permutations(range(3)))
def test_consensus_follows_answers_and_ignores_the_seats_of_reasonings(rows, columns):
    table = torch.tensor(
        [[-1.0, -2.0, -3.0], [-4.0, -1.5, -2.0], [-3.0, -3.0, -0.5], [-2.0, -1.0, -9.0]]
    )
    best, confidence, spread = consensus(table)
    moved = consensus(table[rows][:, columns])
    assert columns[moved[0]] == best
    assert moved[1:] == (pytest.approx(confidence), pytest.approx(spread))


def test_within_prompt_pairs_are_worked_by_hand():
    first = pair_accuracy([0.9, 0.2, 0.9], [True, False, False])  # beats .2, ties .9
    second = pair_accuracy([0.3, 0.1], [True, False])
    assert (first, second) == (0.75, 1.0)
    assert (first + second) / 2 == 0.875
    pooled = auc([0.9, 0.2, 0.9, 0.3, 0.1], [True, False, False, True, False])
    assert pooled == 0.75


def test_auc_is_the_hand_computed_one():
    scores = [0.9, 0.8, 0.7, 0.6, 0.55, 0.4, 0.3]
    assert auc(scores, [True, True, False, True, False, False, False]) == pytest.approx(
        0.916667, abs=1e-6
    )


@pytest.mark.parametrize("right", [[], [True], [True, True], [False, False]])
def test_without_a_pair_there_is_no_accuracy(right):
    assert pair_accuracy([0.5] * len(right), right) is None


def test_scores_must_be_comparable_and_labelled():
    with pytest.raises(NotMeasurable):
        auc([math.nan, 0.1], [True, False])
    with pytest.raises(ValueError, match="labels"):
        auc([0.1], [True, False])


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=12))
def test_auc_counts_pairs_and_knows_only_order(rows):
    scores, right = [float(s) for s, _ in rows], [r for _, r in rows]
    pairs = [
        (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
        for i, j in itertools.product(range(len(rows)), repeat=2)
        if right[i] and not right[j]
    ]
    expected = sum(pairs) / len(pairs) if pairs else None
    assert auc(scores, right) == (None if expected is None else pytest.approx(expected))
    assert auc([math.exp(s) for s in scores], right) == auc(scores, right)
