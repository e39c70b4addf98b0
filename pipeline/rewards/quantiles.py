"""QRPO's quantiles: the share of a group's rewards that one reaches."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from pipeline.measures import NotMeasurable
from pipeline.reward_config import RewardConfig
from pipeline.rewards.outcomes import outcome
from pipeline.rewards.ranks import Terms, as_terms, form
from pipeline.types import Evidence

_DECIMALS = 6  # finer differences are arithmetic, and a quantile would blow them up


def quantile_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """QRPO's quantile: #{k: r_k <= r} / K over the group's K judged rollouts, r from `outcome`.

    Ties count, the own reward among them. Where rollouts come from the reference policy it is
    uniform, so the optimum's partition function is known. In [1/K, 1] where something was earned,
    else 0; compares a group. Source: arXiv 2507.08068.
    """
    rewards = outcome(evidence, config)
    whole = form(evidence)
    shares = quantiles(rewards, rewards)
    return as_terms(
        evidence,
        tuple(
            q if kept or earned else 0.0
            for q, kept, earned in zip(shares, whole, rewards, strict=True)
        ),
    )


def quantiles(rewards: Sequence[float], others: Sequence[float]) -> tuple[float, ...]:
    """rewards [K], others [n] -> [K]: the share of the others that each reaches, in [0, 1].

    Raises NotMeasurable without others to compare with.
    """
    if rewards and not others:
        raise NotMeasurable("a quantile needs rewards to compare with")
    order = sorted(round(other, _DECIMALS) for other in others)
    return tuple(bisect_right(order, round(own, _DECIMALS)) / len(order) for own in rewards)
