"""Reflection: only the reference tokens that depend on the reasoning count, by how much they do.

DRO's R3 (arXiv 2506.13351): sum over tokens of w * (l - b), l a token's log-probability given the
reasoning, b the same without, and w its population standard deviation over the group's reasonings,
divided by the sum of all. The paper's own w is not printed; this one leaves out, as it asks, what
every reasoning makes equally likely, and its sum does not grow with the reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.measures import NotMeasurable
from pipeline.rewards.likelihood import likelihood
from pipeline.rewards.ranks import Terms, as_terms, measured, seated
from pipeline.settings.reward import RewardConfig
from pipeline.types import Evidence


def reflection_weights(table: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """table [n reasonings][m tokens], log-probabilities -> [m] summing to 1, or all 0.

    Raises NotMeasurable where rows differ in length: they are not of one reference.
    """
    if len({len(row) for row in table}) > 1:
        raise NotMeasurable("the group's references differ in tokens")
    spreads = []
    for column in zip(*table, strict=True):
        mean = math.fsum(column) / len(column)
        spreads.append(math.sqrt(math.fsum((x - mean) ** 2 for x in column) / len(column)))
    total = math.fsum(spreads)
    return tuple(spread / total if total else 0.0 for spread in spreads)


def reflection_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """DRO's R3: sum over reference tokens of w_j (l_j - b_j), + form_weight * form.

    l is a token's log-probability given the reasoning, b the same without any, and w its
    population standard deviation over the group's reasonings divided by the sum of all: what every
    reasoning makes equally likely counts for nothing. Any finite number, 0 where malformed; raw is
    the reference's probability, in [0, 1]; compares a group. Source: arXiv 2506.13351, which does
    not print its own w.
    """
    scored = measured(evidence)
    weights = reflection_weights([item.reference_logprobs for item in scored])
    values = [
        math.fsum(
            w * (given - bare)
            for w, given, bare in zip(
                weights, item.reference_logprobs, item.baseline_logprobs, strict=True
            )
        )
        for item in scored
    ]
    raw = seated([likelihood(item) for item in scored], evidence)
    return as_terms(evidence, seated(values, evidence), raw)
