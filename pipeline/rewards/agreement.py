"""Rewards of agreement: what an answer's siblings, or a teacher, say to it. None knows truth.

Where most attempts err alike, agreement pays the error, and a policy that always says the same
earns most: watch accuracy beside the reward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.measures import NotMeasurable
from pipeline.rewards.ranks import Terms, as_terms
from pipeline.rewards.readings import admitted, earned, share
from pipeline.settings.reward import RewardConfig
from pipeline.types import Evidence, Reading


def vote_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """Majority vote: 1 where the answer is of the group's most frequent kind, else 0.

    From the readings "vote": answers vote by their normalised text, an empty one never, and the
    first seen wins a tie. 0 or 1, and 0 where the gate holds an attempt back; compares a group.
    Source: TTRL (arXiv 2504.16084).
    """
    return as_terms(evidence, earned(evidence, config, "vote", lambda values: share(values[0])))


def teacher_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """Co-reward: 1 where the answer is what a slower teacher's attempts voted for, else 0.

    From the readings "teacher", whose votes do not come from the group. 0 or 1, and 0 where the
    gate holds an attempt back; of a rollout alone. Source: Co-rewarding-II (arXiv 2508.00410).
    """
    return as_terms(evidence, earned(evidence, config, "teacher", lambda values: share(values[0])))


def consensus_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """Consensus: the own answer's share of P(a), the mean over reasonings of P(a | q, reasoning).

    From the readings "cross": the log-probability of each distinct answer of the group under each
    reasoning that the gate admits. It is a vote with the sampling of the answer integrated out and
    needs no equal wording. In [0, 1], 0 without an answer or where the gate holds an attempt back;
    compares a group. Source: this project.
    """
    rows = admitted(evidence, config, "cross")
    shares = answer_shares([row.values for row in rows if row is not None])
    return as_terms(evidence, tuple(_own(row, shares) for row in rows))


def answer_shares(table: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """table [R reasonings][A answers], log-probabilities <= 0 -> [A] shares that sum to 1.

    () without reasonings. Raises NotMeasurable where rows differ in length, or an entry is above 0.
    """
    if len({len(row) for row in table}) > 1:
        raise NotMeasurable("the group's reasonings were asked for different answers")
    if any(max(row) > 0.0 for row in table):
        raise NotMeasurable("a log-probability of an answer is above 0")
    most = max((max(row) for row in table), default=0.0)
    sums = [math.fsum(math.exp(x - most) for x in column) for column in zip(*table, strict=True)]
    total = math.fsum(sums)
    return tuple(one / total for one in sums)


def _own(row: Reading | None, shares: Sequence[float]) -> float:
    return shares[row.at[0]] if row is not None and row.at else 0.0
