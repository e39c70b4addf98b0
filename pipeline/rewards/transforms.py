"""What may take a group's rewards' place at last: their order alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.quantiles import quantiles
from pipeline.rewards.ranks import rank_values

_DECIMALS = 6  # finer differences are arithmetic, and a rank would blow them up


def ranked(rewards: Sequence[float]) -> tuple[float, ...]:
    """(K - k)/K at place k of K rewards, 0 the best: their order alone.

    rewards  [K]  finite, rounded to 1e-6
    ->       [K]  in [1/K, 1]: the best 1, the worst 1/K, equals the mean of their places
    Source: the rank of NOVER's reasoning reward, arXiv 2505.16022, taken of any reward.
    """
    return rank_values([round(-reward, _DECIMALS) for reward in rewards])


def reached(rewards: Sequence[float]) -> tuple[float, ...]:
    """#{k: r_k <= r} / K: the share of the group that each reward reaches.

    rewards  [K]  finite, rounded to 1e-6
    ->       [K]  in [1/K, 1]: ties count, the own reward among them
    Source: the quantile of QRPO, arXiv 2507.08068, the group for reference completions.
    """
    return quantiles(rewards)


TRANSFORMS: dict[str, Callable[[Sequence[float]], tuple[float, ...]]] = {
    "none": tuple,
    "rank": ranked,
    "quantile": reached,
}
