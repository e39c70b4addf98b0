"""Rewards of reasoning steps: the sum that repetition inflates, and the form that bounds it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from pipeline.reward_config import RewardConfig
from pipeline.rewards.ranks import Terms, as_terms
from pipeline.rewards.readings import admitted, mean, share
from pipeline.types import Evidence


def sum_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """The sum of a reasoning's step scores, a step's score the mean probability of its tokens.

    From the readings "steps", each in (0, 1]. It has no bound and exists to be hacked: every sure
    step written once more adds to it. At least 0, raw is the steps' mean, both 0 where the gate
    holds an attempt back; of a rollout alone. Source: the failure that arXiv 2410.15115 describes.
    """
    scores = _scores(evidence, config)
    return as_terms(
        evidence,
        tuple(math.fsum(row) for row in scores),
        tuple(mean(row) if row else 0.0 for row in scores),
    )


def clip_and_delta_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """Clip and Delta: 1 + sum_k r'_k, which no repeated step raises.

    Clip takes min(r_k - step_bar, 0) of each step score r_k (readings "steps"); Delta takes each
    minus the next, the last but one whole and the last 0, so the sum is the first clipped score,
    or 0 for a single step, whatever else is written. In [0, 1], and 0 without a step or where the
    gate holds an attempt back; of a rollout alone. Where first steps pass the bar it says nothing.
    Source: arXiv 2410.15115, as understood from its abstract.
    """
    value = tuple(
        1.0 + bounded_sum(row, config.step_bar) if row else 0.0 for row in _scores(evidence, config)
    )
    return as_terms(evidence, value)


def clip(scores: Sequence[float], bar: float) -> tuple[float, ...]:
    """[K] -> [K] at most 0: what a step falls short of the bar."""
    return tuple(min(score - bar, 0.0) for score in scores)


def delta(scores: Sequence[float]) -> tuple[float, ...]:
    """[K] -> [K]: r_k - r_(k+1), the last but one whole, the last 0, so they sum to r_1.

    A single step sums to 0.
    """
    if len(scores) < 2:
        return (0.0,) * len(scores)
    inner = [one - after for one, after in pairwise(scores[:-1])]
    return (*inner, scores[-2], 0.0)


def bounded_sum(scores: Sequence[float], bar: float) -> float:
    """The sum of `delta(clip(scores, bar))`, in [-bar, 0], without its telescope."""
    return min(scores[0] - bar, 0.0) if len(scores) > 1 else 0.0


def _scores(evidence: Sequence[Evidence], config: RewardConfig) -> list[tuple[float, ...]]:
    """The step scores of each attempt, () where it has none that count."""
    rows = [reading.values if reading else () for reading in admitted(evidence, config, "steps")]
    for row in filter(None, rows):
        share(min(row))
        share(max(row))
    return rows
