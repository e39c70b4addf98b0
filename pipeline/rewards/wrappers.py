"""What becomes of a group's summed rewards: spoiled, corrected, transformed. All off by default.

The order is that of what they stand for: a verifier errs, its errors are corrected before anything
is normalised (arXiv 2510.00915), and an order is taken at last.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.rewards.noise import Channel, backward, flip, forward_weights
from pipeline.rewards.transforms import TRANSFORMS
from pipeline.settings.reward import RewardConfig
from pipeline.types import Rollout


def wraps(config: RewardConfig) -> bool:
    """Whether anything is done to the summed rewards."""
    return bool(config.noise) or config.correction != "none" or config.transform != "none"


def spoiled(
    verdicts: Sequence[float],
    rollouts: Sequence[Rollout],
    given: Sequence[bool],
    config: RewardConfig,
) -> tuple[float, ...]:
    """verdicts [K] in [0, 1] -> [K]: R becomes 1 - R at the rate `noise`.

    given  [K]  whether a verdict was passed at all; what was not measured keeps its 0. A rollout's
                id and random stream decide, so one rollout always meets the same fate
    """
    if not config.noise:
        return tuple(verdicts)
    names = [f"{rollout.id} {rollout.seed}" for rollout in rollouts]
    flipped = flip(verdicts, names, rate=config.noise, seed=0)
    return tuple(
        after if passed else before
        for before, after, passed in zip(verdicts, flipped, given, strict=True)
    )


def corrected(rewards: Sequence[float], config: RewardConfig) -> tuple[float, ...]:
    """[K] observed outcomes -> [K] corrected for false_positive and false_negative.

    Malformed text counts as rejected.
    """
    if config.correction == "backward":
        return backward(rewards, Channel(config.false_positive, config.false_negative))
    if config.correction == "forward":
        return forward_weights(rewards, config.false_negative)
    return tuple(rewards)


def transformed(rewards: Sequence[float], config: RewardConfig) -> tuple[float, ...]:
    """[K] -> [K] in [1/K, 1], or the same where nothing is transformed."""
    return TRANSFORMS[config.transform](rewards)
