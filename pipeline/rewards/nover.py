"""NOVER's reward (arXiv 2505.16022): form, and where form holds, rank and efficiency.

R = w_form * form + [form = 1] * (w_reasoning * rank + w_efficiency * efficiency). The gate is in
the terms: a malformed completion has rank and efficiency 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.config import RewardConfig
from pipeline.rewards.ranks import Terms, measured, perplexities, rank_terms, seated
from pipeline.types import Evidence


def efficiency_values(ppl: Sequence[float], lengths: Sequence[int]) -> tuple[float, ...]:
    """Share of the other m - 1 rollouts beaten on both length and perplexity, both strictly.

    ppl      [m]  perplexity, or any increasing function of it
    lengths  [m]  reasoning tokens
    ->       [m]  in [0, 1]; ties earn nothing, fewer than two rollouts earn 0
    """
    rivals = max(len(ppl) - 1, 1)
    both = list(zip(ppl, lengths, strict=True))
    return tuple(
        sum(own < other and length < longer for other, longer in both) / rivals
        for own, length in both
    )


def nover_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """evidence [K], measured or malformed -> the terms of a rank and efficiency, [K] in [0, 1]."""
    lengths = [item.reasoning_tokens for item in measured(evidence)]
    efficiency = seated(efficiency_values(perplexities(evidence, config), lengths), evidence)
    return {**rank_terms(evidence, config), "efficiency": efficiency}


def nover_weights(config: RewardConfig) -> Mapping[str, float]:
    """What each term counts in the sum."""
    return {
        "form": config.form_weight,
        "reasoning": config.reasoning_weight,
        "efficiency": config.efficiency_weight,
    }
