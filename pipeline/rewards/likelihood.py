"""Rewards of a reference's likelihood, each against less: nothing, a floor, no reasoning.

    verifree             p, the probability of the whole reference (arXiv 2505.21493)
    rlpr                 0.9 max(0, q - q0) + 0.1 form, q the mean token probability and q0 the same
                         without reasoning (arXiv 2506.18254; the released code's weights)
    reasoning_advantage  (L0 - L) / L0, at least -1, L the mean NLL per token and L0 the same
                         without reasoning (Foster et al., NeurIPS 2024 Language Gamification
                         workshop, whose own clipping is not printed)

p falls to 0 for long references, q forgives a single impossible token, and the advantage favours
references that are easy without reasoning: its denominator is kept from 0 by a floor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pipeline.config import RewardConfig
from pipeline.measures import mean_nll, mean_probability, sequence_logprob
from pipeline.rewards.ranks import Terms, form, measured, seated
from pipeline.types import Evidence

FLOOR = 0.05  # nats per token: below it a reference needs no reasoning at all


def verifree_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """evidence [K], measured or malformed -> form, reasoning and raw, each [K] in [0, 1]."""
    reasoning = seated([likelihood(item) for item in measured(evidence)], evidence)
    return {"form": form(evidence), "reasoning": reasoning, "raw": reasoning}


def rlpr_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """evidence [K], measured or malformed -> form, reasoning and raw, each [K] in [0, 1]."""
    gains = [
        max(
            0.0,
            mean_probability(item.reference_logprobs) - mean_probability(item.baseline_logprobs),
        )
        for item in measured(evidence)
    ]
    reasoning = seated(gains, evidence)
    return {"form": form(evidence), "reasoning": reasoning, "raw": reasoning}


def rlpr_weights(config: RewardConfig) -> Mapping[str, float]:
    """Nine tenths the debiased probability, one tenth the form."""
    return {"reasoning": 0.9, "form": 0.1}


def advantage_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """evidence [K] -> form; reasoning in [-1, 1], below 0 where it hurts; raw in [0, 1]."""
    values = [
        max(-1.0, (before - mean_nll(item.reference_logprobs)) / max(before, FLOOR))
        for item in measured(evidence)
        for before in [mean_nll(item.baseline_logprobs)]
    ]
    reasoning = seated(values, evidence)
    raw = tuple(max(0.0, value) for value in reasoning)
    return {"form": form(evidence), "reasoning": reasoning, "raw": raw}


def likelihood(item: Evidence) -> float:
    """Probability of the whole reference given the reasoning, in [0, 1]."""
    return math.exp(sequence_logprob(item.reference_logprobs))
