"""QRPO's quantiles: the share of a group's rewards that one reaches."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.quantiles import quantiles
from pipeline.rewards.outcomes import outcome
from pipeline.rewards.ranks import Terms, as_terms, form
from pipeline.settings.reward import RewardConfig
from pipeline.types import Evidence


def quantile_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """QRPO's quantile: #{k: r_k <= r} / K over the group's K judged rollouts, r from `outcome`.

    Ties count, the own reward among them. Where rollouts come from the reference policy it is
    uniform, so the optimum's partition function is known. In [1/K, 1] where something was earned,
    else 0; compares a group. Source: arXiv 2507.08068.
    """
    rewards = outcome(evidence, config)
    whole = form(evidence)
    shares = quantiles(rewards)
    return as_terms(
        evidence,
        tuple(
            q if kept or earned else 0.0
            for q, kept, earned in zip(shares, whole, rewards, strict=True)
        ),
    )
