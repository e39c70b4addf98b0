"""Rewards of reasoning steps: the sum that repetition inflates, and the form that bounds it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from pipeline.rewards.ranks import Terms, as_terms
from pipeline.rewards.readings import admitted, mean, share
from pipeline.settings.reward import RewardConfig
from pipeline.types import Evidence


def sum_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """The sum of a reasoning's steps, each worth the mean probability of its tokens.

    From the readings "steps", values in (0, 1]. It has no bound and exists to be hacked: every sure
    step written once more adds to it. At least 0, raw is the steps' mean, both 0 where the gate
    holds an attempt back; of a rollout alone. Source: the failure that arXiv 2410.15115 describes.
    """
    rows = _steps(evidence, config)
    return as_terms(
        evidence,
        tuple(math.fsum(row) for row in rows),
        tuple(mean(row) if row else 0.0 for row in rows),
    )


def clip_and_delta_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """Clip and Delta: 1 + sum_k r'_k, which no repeated step raises.

    Clip takes min(r_k - step_bar, 0) of each step's reading r_k ("steps"); Delta takes each minus
    the next, the last but one whole and the last 0, so the sum is the first clipped reading,
    or 0 for a single step, whatever else is written. In [0, 1], and 0 without a step or where the
    gate holds an attempt back; of a rollout alone. Where first steps pass the bar it says nothing.
    Source: arXiv 2410.15115, as understood from its abstract.
    """
    value = tuple(
        1.0 + bounded_sum(row, config.step_bar) if row else 0.0 for row in _steps(evidence, config)
    )
    return as_terms(evidence, value)


def clip(steps: Sequence[float], bar: float) -> tuple[float, ...]:
    """[K] -> [K] at most 0: what each step falls short of the bar."""
    return tuple(min(value - bar, 0.0) for value in steps)


def delta(steps: Sequence[float]) -> tuple[float, ...]:
    """[K] -> [K]: r_k - r_(k+1), the last but one whole, the last 0, so they sum to r_1.

    A single step sums to 0. For whoever pays step by step; an attempt's sum is `bounded_sum`.
    """
    if len(steps) < 2:
        return (0.0,) * len(steps)
    inner = [one - after for one, after in pairwise(steps[:-1])]
    return (*inner, steps[-2], 0.0)


def bounded_sum(steps: Sequence[float], bar: float) -> float:
    """The sum of `delta(clip(steps, bar))`, in [-bar, 0], without its telescope."""
    return clip(steps[:1], bar)[0] if len(steps) > 1 else 0.0


def _steps(evidence: Sequence[Evidence], config: RewardConfig) -> list[tuple[float, ...]]:
    """The readings of each attempt's steps, () where it has none that count."""
    rows = [reading.values if reading else () for reading in admitted(evidence, config, "steps")]
    for row in filter(None, rows):
        share(min(row))
        share(max(row))
    return rows
