"""The reference's mean token probability, gated by form.

Source: RLPR (arXiv 2506.18254), without its debiasing by the no-reasoning baseline.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config import RewardConfig
from pipeline.measures import mean_probability
from pipeline.rewards.ranks import Terms, form, measured, seated
from pipeline.types import Evidence


def probability_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """evidence [K], measured or malformed -> form, reasoning and raw, each [K] in [0, 1]."""
    values = [mean_probability(item.reference_logprobs) for item in measured(evidence)]
    reasoning = seated(values, evidence)
    return {"form": form(evidence), "reasoning": reasoning, "raw": reasoning}
