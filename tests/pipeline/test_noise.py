"""Noisy verifiers: the worked example, the identities, and what normalisation undoes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.advantages import dr_grpo, grpo
from pipeline.rewards.noise import Channel, backward, flip, forward_weights

RATE = st.floats(0.0, 0.49)
CHANNEL = Channel(0.1, 0.2)


def mean(values: tuple[float, float], accepted: float) -> float:
    """Of what is made of a rejection and an acceptance, by how often one is accepted."""
    return (1 - accepted) * values[0] + accepted * values[1]


def test_the_backward_correction_has_its_worked_values() -> None:
    assert backward((0.0, 1.0), CHANNEL) == pytest.approx((-0.142857, 1.285714), abs=1e-6)


def test_the_forward_weights_have_their_worked_values() -> None:
    weights = forward_weights((0.0, 1.0), 0.2)
    assert weights == pytest.approx((-0.8, 0.2))
    assert mean(weights, accepted=0.1) == pytest.approx(-0.7)


@given(RATE, RATE)
def test_the_backward_correction_is_unbiased(rho0: float, rho1: float) -> None:
    corrected = backward((0.0, 1.0), Channel(rho0, rho1))
    assert mean(corrected, accepted=1 - rho1) == pytest.approx(1.0, abs=1e-9)
    assert mean(corrected, accepted=rho0) == pytest.approx(0.0, abs=1e-9)


@given(RATE, RATE)
def test_forward_weights_vanish_for_right_answers_and_keep_the_signal_for_wrong_ones(
    rho0: float, rho1: float
) -> None:
    weights = forward_weights((0.0, 1.0), rho1)
    assert mean(weights, accepted=1 - rho1) == pytest.approx(0.0, abs=1e-12)
    assert mean(weights, accepted=rho0) == pytest.approx(-(1 - rho0 - rho1), abs=1e-12)


def test_a_groups_own_deviation_undoes_the_correction_and_centring_does_not() -> None:
    observed = (1.0, 0.0, 0.0, 1.0)
    before, after = torch.tensor(observed), torch.tensor(backward(observed, CHANNEL))
    torch.testing.assert_close(grpo(after), grpo(before), atol=3e-4, rtol=0)  # but for its epsilon
    assert grpo(after).tolist() == pytest.approx(
        [0.866025, -0.866025, -0.866025, 0.866025], abs=2e-4
    )
    assert dr_grpo(before).tolist() == pytest.approx([0.5, -0.5, -0.5, 0.5])
    assert dr_grpo(after).tolist() == pytest.approx([0.714286, -0.714286, -0.714286, 0.714286])


@pytest.mark.parametrize(("rho0", "rho1"), [(0.5, 0.5), (0.7, 0.6), (1.0, 0.0)])
def test_a_verifier_no_better_than_chance_is_refused(rho0: float, rho1: float) -> None:
    with pytest.raises(ValueError, match="no better than chance"):
        Channel(rho0, rho1)


@pytest.mark.parametrize(("rho0", "rho1"), [(-0.1, 0.2), (0.1, 1.2), (float("nan"), 0.1)])
def test_a_rate_outside_its_range_is_refused(rho0: float, rho1: float) -> None:
    with pytest.raises(ValueError, match="are rates"):
        Channel(rho0, rho1)


def test_the_forward_correction_wants_verdicts_and_a_rate_below_one() -> None:
    with pytest.raises(ValueError, match="outcomes of 0 and 1"):
        forward_weights((0.5,), 0.2)
    with pytest.raises(ValueError, match="below 1"):
        forward_weights((1.0,), 1.0)


IDS = [f"r01-s01-n{i:04d}-g0" for i in range(4000)]


def test_outcomes_flip_at_their_rate() -> None:
    flipped = flip([1.0] * 4000, IDS, rate=0.2, seed=3).count(0.0)
    assert 0.18 < flipped / 4000 < 0.22  # three standard errors are 0.019
    assert flip([1.0, 0.0, 0.25], IDS[:3], rate=0.0, seed=3) == (1.0, 0.0, 0.25)
    assert flip([1.0, 0.0, 0.25], IDS[:3], rate=1.0, seed=3) == (0.0, 1.0, 0.75)
    with pytest.raises(ValueError, match="is outside"):
        flip([1.0], IDS[:1], rate=1.5, seed=3)


def test_a_flip_belongs_to_its_rollout_and_seed() -> None:
    whole = dict(zip(IDS, flip([0.0] * 4000, IDS, rate=0.5, seed=3), strict=True))
    alone = IDS[40:20:-1]
    assert flip([0.0] * 20, alone, rate=0.5, seed=3) == tuple(whole[name] for name in alone)
    assert flip([0.0] * 4000, IDS, rate=0.5, seed=4) != tuple(whole.values())
    # whoever is flipped at a low rate is flipped at a higher one
    low = flip([0.0] * 4000, IDS, rate=0.1, seed=3)
    assert all(whole[name] >= value for name, value in zip(IDS, low, strict=True))
