"""Rewards of a reference's likelihood, each against less: nothing, a floor, no reasoning."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pipeline.measures import mean_nll, mean_probability, sequence_logprob
from pipeline.rewards.ranks import Terms, as_terms, measured, seated
from pipeline.settings.reward import RewardConfig
from pipeline.types import Evidence

FLOOR = 0.05  # nats per token: below it a reference needs no reasoning at all


def verifree_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """The probability of the whole reference given the reasoning: exp(sum of log p(y_t)).

    It falls to 0 for long references. In [0, 1], 0 where malformed; of a rollout alone. Source:
    arXiv 2505.21493.
    """
    return as_terms(evidence, seated([likelihood(item) for item in measured(evidence)], evidence))


def rlpr_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """0.9 max(0, q - q0) + 0.1 form, q the mean over reference tokens of their probability.

    q is given the reasoning and q0 without any, so that only what reasoning adds is paid. A mean
    of probabilities forgives a single impossible token. In [0, 1], 0 where malformed; of a rollout
    alone. Source: arXiv 2506.18254, with the weights of its code (OpenBMB/RLPR).
    """
    gains = [
        max(
            0.0,
            mean_probability(item.reference_logprobs) - mean_probability(item.baseline_logprobs),
        )
        for item in measured(evidence)
    ]
    return as_terms(evidence, seated(gains, evidence))


def rlpr_weights(config: RewardConfig) -> Mapping[str, float]:
    """Nine tenths the debiased probability, one tenth the form."""
    return {"reasoning": 0.9, "form": 0.1}


def advantage_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """The reasoning advantage max(-1, (L0 - L) / max(L0, 0.05)) + form_weight * form.

    L is the reference's mean negative log-probability per token given the reasoning, L0 the same
    without any; 0.05 nats keep the ratio finite for references that need no reasoning. Between -1
    and 1 before the form, raw is its positive part, both 0 where malformed; of a rollout alone.
    Source: Foster et al., NeurIPS 2024 Language Gamification workshop, whose own clipping is not
    printed; the bounds here are this project's.
    """
    values = [
        max(-1.0, (before - mean_nll(item.reference_logprobs)) / max(before, FLOOR))
        for item in measured(evidence)
        for before in [mean_nll(item.baseline_logprobs)]
    ]
    reasoning = seated(values, evidence)
    raw = tuple(max(0.0, value) for value in reasoning)
    return as_terms(evidence, reasoning, raw)


def likelihood(item: Evidence) -> float:
    """Probability of the whole reference given the reasoning, in [0, 1]."""
    return math.exp(sequence_logprob(item.reference_logprobs))
