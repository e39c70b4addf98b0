"""The reference's mean token probability, gated by form."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.measures import mean_probability
from pipeline.rewards.ranks import Terms, as_terms, measured, seated
from pipeline.settings.reward import RewardConfig
from pipeline.types import Evidence


def probability_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """The reference's mean token probability given the reasoning: (1/m) sum of p(y_t).

    In [0, 1], 0 where malformed; of a rollout alone. Source: RLPR (arXiv 2506.18254), without its
    debiasing by what no reasoning gives.
    """
    values = [mean_probability(item.reference_logprobs) for item in measured(evidence)]
    return as_terms(evidence, seated(values, evidence))
