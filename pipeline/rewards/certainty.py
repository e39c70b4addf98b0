"""Rewards of the policy's own confidence: no reference, no rule, no judge.

Confidence is not correctness. Read with the policy in training it mostly keeps pace; read with
frozen weights it is inflated by text they find easy, while accuracy falls (arXiv 2505.19590).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.measures import NotMeasurable
from pipeline.rewards.ranks import Terms, as_terms
from pipeline.rewards.readings import earned, mean
from pipeline.settings.reward import RewardConfig
from pipeline.types import Evidence


def certainty_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """Self-certainty: the mean over written tokens of KL(U || p), in nats.

    KL(U || p) = -log V - (1/V) sum over the vocabulary of log p_j, from the readings "certainty":
    0 where the next token is anyone's guess, without an upper bound. Raw is 1 - exp(-mean). At
    least 0, and 0 where the gate holds an attempt back; of a rollout alone. Source: arXiv
    2505.19590.
    """
    sure = earned(evidence, config, "certainty", _mean_nats)
    return as_terms(evidence, sure, tuple(-math.expm1(-nats) for nats in sure))


def entropy_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """Low entropy: minus the mean entropy of the written tokens, in nats, + form_weight * form.

    From the readings "entropy", each in [0, ln V]. At most 0 before the form, and 0 where the gate
    holds an attempt back, so a form_weight below the usual entropy pays for broken form. Raw is
    exp(-mean), in (0, 1]; of a rollout alone. Paid alone it ends in one text repeated. Source:
    arXiv 2505.15134.
    """
    low = earned(evidence, config, "entropy", lambda values: -_mean_nats(values))
    sure = earned(evidence, config, "entropy", lambda values: math.exp(-_mean_nats(values)))
    return as_terms(evidence, low, sure)


def _mean_nats(values: Sequence[float]) -> float:
    nats = mean(values)
    if min(values) < -1e-6:  # rounding may leave a crumb below 0
        raise NotMeasurable(f"{min(values)} nats: neither certainty nor entropy is below 0")
    return max(nats, 0.0)
