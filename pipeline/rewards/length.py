"""Rewards of a completion's outward shape: its length, and what it repeats."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.rewards.ranks import Terms, as_terms
from pipeline.rewards.readings import earned, share
from pipeline.settings.reward import RewardConfig
from pipeline.types import Evidence


def length_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """1 + the soft overlong penalty min(0, -(T - (length_limit - length_buffer)) / length_buffer).

    T is the written tokens, from the readings "shape"; the penalty ends at -1. A buffer as long as
    the limit is a penalty of 1/length_limit per token. In [0, 1], and 0 where the gate holds an
    attempt back, which is why 1 is added: no broken text escapes the penalty. Of a rollout alone,
    and blind to right and wrong: added to an outcome it makes groups of wrong attempts learn to be
    short. Source: DAPO (arXiv 2503.14476).
    """

    def value(counts: Sequence[float]) -> float:
        return 1.0 + overlong(counts[0], config.length_limit, config.length_buffer)

    return as_terms(evidence, earned(evidence, config, "shape", value))


def repetition_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """1 - the share of written runs of tokens that stood before in the same completion.

    From the readings "shape". In [0, 1], and 0 where the gate holds an attempt back; of a rollout
    alone. Source: this project, after the repetition penalty of RLPR (arXiv 2506.18254), which
    takes 1 off where one window of ten words stands ten times.
    """

    def value(counts: Sequence[float]) -> float:
        return 1.0 - share(counts[3])

    return as_terms(evidence, earned(evidence, config, "shape", value))


def overlong(tokens: float, limit: int, buffer: int) -> float:
    """0 up to limit - buffer tokens, then in a straight line to -1 at the limit, and -1 beyond."""
    return max(-1.0, min(0.0, (limit - buffer - tokens) / buffer))
