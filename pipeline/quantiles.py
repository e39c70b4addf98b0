"""Quantiles of rewards: the share of others that each reaches (QRPO, arXiv 2507.08068)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from pipeline.measures import NotMeasurable

_DECIMALS = 6  # finer differences are arithmetic, and a quantile would blow them up


def quantiles(rewards: Sequence[float], others: Sequence[float] | None = None) -> tuple[float, ...]:
    """rewards [K], others [n] -> [K]: the share of the others that each reaches, in [0, 1].

    Ties count. Without others the rewards are set against each other, themselves included, so the
    lowest is 1/K, not 0. Raises NotMeasurable where there is nothing to compare with.
    """
    against = rewards if others is None else others
    if rewards and not against:
        raise NotMeasurable("a quantile needs rewards to compare with")
    order = sorted(round(other, _DECIMALS) for other in against)
    return tuple(bisect_right(order, round(own, _DECIMALS)) / len(order) for own in rewards)
