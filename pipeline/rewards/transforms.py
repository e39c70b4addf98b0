"""What may take a group's rewards' place at last: their order alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.quantiles import quantiles
from pipeline.rewards.ranks import rank_values

_DECIMALS = 6  # finer differences are arithmetic, and a rank would blow them up


def ranked(rewards: Sequence[float]) -> tuple[float, ...]:
    """[K] -> [K] in [1/K, 1]: the best 1, the worst 1/K, equals the mean of their places."""
    return rank_values([round(-reward, _DECIMALS) for reward in rewards])


def reached(rewards: Sequence[float]) -> tuple[float, ...]:
    """[K] -> [K] in [1/K, 1]: the share of the group that each reaches, ties counted."""
    return quantiles(rewards)


TRANSFORMS: dict[str, Callable[[Sequence[float]], tuple[float, ...]]] = {
    "none": tuple,
    "rank": ranked,
    "quantile": reached,
}
