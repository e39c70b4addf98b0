"""Verifiers that err: how an outcome is spoiled, and how its expectation is put right again.

A channel accepts wrong answers at rate rho0 = P(1 | wrong) and rejects right ones at rate
rho1 = P(0 | right). Source: arXiv 2510.00915. R is the clean outcome, r the observed one.

    backward   (r - rho0) / (1 - rho0 - rho1): its mean over the channel is R
    forward    weight rho1 where accepted, rho1 - 1 where rejected: its mean is 0 for a right
               answer and -(1 - rho0 - rho1) for a wrong one, so the expected gradient is
               1 - rho0 - rho1 times the clean one; needs rho1 alone

The backward correction is the same affine map for a whole group: an advantage divided by the
group's own deviation undoes it to the last digit, a merely centred one keeps its scale. Correct
before anything is normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.seeds import seed_of


@dataclass(frozen=True, slots=True)
class Channel:
    """How often a verifier errs. Raises ValueError where its verdicts tell nothing or mislead.

    rho0  P(accepted | wrong), in [0, 1]
    rho1  P(rejected | right), in [0, 1]
    """

    rho0: float
    rho1: float

    def __post_init__(self) -> None:
        if not (0.0 <= self.rho0 <= 1.0 and 0.0 <= self.rho1 <= 1.0):
            raise ValueError(f"rho0 {self.rho0} and rho1 {self.rho1} are rates, from 0 to 1")
        if self.youden <= 0.0:
            raise ValueError(
                f"1 - rho0 - rho1 is {self.youden:g}: such a verifier tells right from wrong no "
                "better than chance, and nothing corrects it; the rates must sum to less than 1"
            )

    @property
    def youden(self) -> float:
        """1 - rho0 - rho1, Youden's J, in (0, 1]: what is left of the signal."""
        return 1.0 - self.rho0 - self.rho1


def flip(
    outcomes: Sequence[float], ids: Sequence[str], *, rate: float, seed: int
) -> tuple[float, ...]:
    """1 - r in place of each outcome r with probability `rate`: the channel rho0 = rho1 = rate.

    outcomes  [K]  in [0, 1]
    ids       [K]  the rollouts': whether one is flipped depends on its id and the seed alone, not
                   on its siblings or on when it is asked
    ->        [K]  in [0, 1]
    Source: the noise of arXiv 2510.00915, equal on both sides.
    """
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"rate {rate} is outside [0, 1]")
    return tuple(
        1.0 - outcome if _uniform(seed, name) < rate else float(outcome)
        for outcome, name in zip(outcomes, ids, strict=True)
    )


def backward(outcomes: Sequence[float], channel: Channel) -> tuple[float, ...]:
    """(r - rho0) / (1 - rho0 - rho1) of each observed outcome r: its mean is the clean outcome.

    outcomes  [K]  in [0, 1]; rho0 is reward.false_positive, rho1 reward.false_negative
    ->        [K]  any finite number
    Source: arXiv 2510.00915. An advantage divided by the group's own deviation undoes it.
    """
    return tuple((outcome - channel.rho0) / channel.youden for outcome in outcomes)


def forward_weights(outcomes: Sequence[float], rho1: float) -> tuple[float, ...]:
    """rho1 where accepted, rho1 - 1 where rejected: weights of log-likelihood gradients.

    outcomes  [K]  observed, each 0 or 1; rho1 is reward.false_negative
    ->        [K]  in [-1, 1): in the mean the clean gradient, times 1 - rho0 - rho1
    Source: arXiv 2510.00915. Raises ValueError outside 0 <= rho1 < 1, and for an outcome between
    0 and 1: the correction is one of verdicts.
    """
    if not 0.0 <= rho1 < 1.0:
        raise ValueError(f"rho1 {rho1}: expected a rate from 0 to below 1")
    if any(outcome not in (0.0, 1.0) for outcome in outcomes):
        raise ValueError("the forward correction needs outcomes of 0 and 1")
    return tuple(rho1 if outcome else rho1 - 1.0 for outcome in outcomes)


def _uniform(seed: int, name: str) -> float:
    """A number in [0, 1) that belongs to this name."""
    return seed_of(seed, "flip", name) / 2.0**63
