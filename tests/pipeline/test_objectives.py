"""Per-token losses: clipping, divergence, the answer term."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.objectives import answer_nll, clipped, correction, dual_clipped, k1, k2, k3


def loss_at(
    ratio: float, advantage: float, low: float = 0.2, high: float = 0.2
) -> tuple[float, bool]:
    logprobs = torch.tensor([math.log(ratio)], dtype=torch.float64)
    weight = torch.tensor([advantage], dtype=torch.float64)
    loss, acted = clipped(logprobs, torch.zeros(1, dtype=torch.float64), weight, low, high)
    return float(loss), bool(acted)


@pytest.mark.parametrize(
    ("ratio", "advantage", "high", "loss", "acted"),
    [
        (1.5, 1, 0.2, -1.2, True),
        (1.25, 1, 0.2, -1.2, True),
        (1.25, 1, 0.28, -1.25, False),
        (0.5, 1, 0.2, -0.5, False),
        (0.5, -1, 0.2, 0.8, True),
        (1.5, -1, 0.2, 1.5, False),
        (4.0, -1, 0.2, 4.0, False),
        (3.0, 0, 0.2, 0.0, False),
    ],
)
def test_clipping_acts_only_where_it_cuts_a_gain(ratio, advantage, high, loss, acted):
    assert loss_at(ratio, advantage, high=high) == (pytest.approx(loss), acted)


def test_on_policy_the_gradient_is_the_plain_policy_gradient():
    logprobs = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    advantages = torch.tensor([0.8, -0.8, 0.0])
    loss, acted = clipped(logprobs, logprobs.detach(), advantages, 0.2, 0.28)
    loss.sum().backward()
    torch.testing.assert_close(logprobs.grad, -advantages)
    assert not acted.any()


def test_a_clipped_token_has_no_gradient():
    logprobs = torch.tensor([0.5], requires_grad=True)
    loss, acted = clipped(logprobs, torch.zeros(1), torch.ones(1), 0.2, 0.28)
    loss.sum().backward()
    assert acted.all()
    assert float(logprobs.grad) == 0.0


@pytest.mark.parametrize("gap", [-1e4, 1e4])
def test_absurd_log_ratios_stay_finite(gap):
    logprobs = torch.tensor([gap], requires_grad=True)
    loss, _ = clipped(logprobs, torch.zeros(1), -torch.ones(1), 0.2, 0.28)
    (loss + k3(logprobs, torch.zeros(1))).sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logprobs.grad).all()


def test_two_completions_of_two_and_six_tokens_are_averaged_by_token():
    logprobs = torch.zeros(8)
    advantages = torch.tensor([1.0] * 2 + [-0.5] * 6)
    loss, _ = clipped(logprobs, logprobs, advantages, 0.2, 0.2)
    assert float(loss.mean()) == pytest.approx(0.125)


@pytest.mark.parametrize(
    ("ratio", "advantage", "cap", "expected"),
    [(4.0, -1.0, 3.0, 3.0), (4.0, -1.0, 0.0, 4.0), (2.0, -1.0, 3.0, 2.0), (4.0, 1.0, 3.0, -1.2)],
)
def test_dual_clip_bounds_the_loss_of_a_negative_advantage_alone(ratio, advantage, cap, expected):
    loss, _ = loss_at(ratio, advantage)
    weight = torch.tensor([advantage])
    assert float(dual_clipped(torch.tensor([loss]), weight, cap)) == pytest.approx(expected)


def gap_of(divergence: float) -> float:
    """The d > 0 at which exp(d) - d - 1 has this value."""
    low, high = 0.0, 1.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if math.expm1(middle) - middle < divergence else (low, middle)
    return high


def test_novers_worked_loss_is_a_token_mean_with_divergence():
    # A .8 on two tokens, -.8 on three; k3 0, .005 and 0, 0, .02 at coefficient .1
    logprobs = torch.zeros(5, dtype=torch.float64)
    advantages = torch.tensor([0.8, 0.8, -0.8, -0.8, -0.8], dtype=torch.float64)
    reference = torch.tensor([0, gap_of(0.005), 0, 0, gap_of(0.02)], dtype=torch.float64)
    loss, _ = clipped(logprobs, logprobs, advantages, 0.1, 0.2)
    assert float((loss + 0.1 * k3(logprobs, reference)).mean()) == pytest.approx(0.1605, abs=1e-6)


@pytest.mark.parametrize(
    ("logprob", "reference", "expected"),
    [
        (-1.0, -1.5, 0.106531),
        (-2.0, -1.0, 0.718282),
        (-1.0, -0.9, 0.005171),
        (-1.0, -1.1, 0.004837),
    ],
)
def test_k3_is_the_hand_computed_one(logprob, reference, expected):
    value = k3(
        torch.tensor(logprob, dtype=torch.float64), torch.tensor(reference, dtype=torch.float64)
    )
    assert float(value) == pytest.approx(expected, abs=1e-6)


def test_k1_and_k3_are_the_divergence_on_average_and_k2_is_near_it():
    p = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    q = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    for estimate, mean in ((k1, 0.085123), (k2, 0.080088), (k3, 0.085123)):
        assert float((p * estimate(p.log(), q.log())).sum()) == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize(
    ("logprob", "reference", "one", "two"), [(-1, -1.5, 0.5, 0.125), (-2, -1, -1, 0.5)]
)
def test_k1_and_k2_are_the_hand_computed_ones(logprob, reference, one, two):
    now, start = torch.tensor(float(logprob)), torch.tensor(float(reference))
    assert (float(k1(now, start)), float(k2(now, start))) == (one, two)


def test_k2_has_the_gradient_of_the_divergence_and_k3_has_not():
    q = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)

    def gradient(estimate) -> torch.Tensor:
        logits = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).log().requires_grad_()
        estimate(logits.log_softmax(0)).backward()
        return logits.grad

    def drawn(estimate):
        """Tokens are drawn, so their frequencies carry no gradient."""
        return lambda lp: (lp.exp().detach() * estimate(lp, q.log())).sum()

    exact = gradient(lambda lp: (lp.exp() * (lp - q.log())).sum())
    torch.testing.assert_close(gradient(drawn(k2)), exact)
    assert not torch.allclose(gradient(drawn(k3)), exact, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "cap", "expected"),
    [
        ("token", 2.0, [1.349859, 0.818731, 2.0]),
        ("token_mask", 3.0, [1.349859, 0.818731, 0.0]),
        ("sequence", 3.0, [3.0, 3.0, 3.0]),
        ("sequence", 9.0, [4.953032] * 3),
        ("sequence_mask", 3.0, [0.0, 0.0, 0.0]),
    ],
)
def test_the_correction_for_the_samplers_arithmetic(kind, cap, expected):
    # a second rollout of one token beside the first of three: neither moves the other
    gaps = torch.tensor([0.3, -0.2, 1.5, 0.1])
    old = (gaps - 1).requires_grad_()
    owner = torch.tensor([0, 0, 0, 1])
    found = correction(old, torch.full((4,), -1.0), owner, 2, kind, cap)
    assert found.tolist() == pytest.approx([*expected, 1.105171], abs=1e-6)
    assert not found.requires_grad


@given(st.floats(-30, 0), st.floats(-30, 0))
def test_k3_is_never_negative(logprob, reference):
    assert float(k3(torch.tensor(logprob), torch.tensor(reference))) >= 0.0


def test_the_answer_term_is_weighted_by_raw_reward_never_by_advantage():
    # VeriFree's worked loss: mean over four of -A * think - R * answer
    weights = torch.tensor([0.606531, 0.223130, 0.049787, 0.0], dtype=torch.float64)
    advantages = (weights - weights.mean()) * 4 / 3
    think = torch.tensor([-10.0, -12.0, -8.0, -9.0], dtype=torch.float64)
    answers = torch.tensor(
        [[-0.2, -0.3], [-1.0, -0.5], [-2.0, -1.0], [0.0, 0.0]], dtype=torch.float64
    )
    second = answer_nll(answers, weights[:, None])
    assert float((-advantages * think + second.sum(1)).mean()) == pytest.approx(0.38568, abs=1e-5)
    assert (second >= 0).all()
