"""NOVER's reward (arXiv 2505.16022): form, and where form holds, rank and efficiency.

R = w_form * form + [form = 1] * (w_reasoning * rank + w_efficiency * efficiency). The gate is in
the terms: a malformed completion has rank and efficiency 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.rewards.ranks import Terms, as_terms, measured, perplexities, rank_values, seated
from pipeline.settings.reward import RewardConfig
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
    """NOVER: form_weight * form + reasoning_weight * rank + efficiency_weight * efficiency.

    rank is (n - k)/n for the k-th lowest of n reasoning perplexities exp(NLL / N), N the length
    norm of `variant`: 1 + log10 ("code") or 1 + ln ("paper") of the reasoning's tokens. efficiency
    is the share of the others that a rollout beats on both length and perplexity. Each term is in
    [0, 1] and 0 where malformed; compares a group. Source: arXiv 2505.16022 and its code
    (thinkwee/NOVER); equals share their places here.
    """
    ppl = perplexities(evidence, config)
    terms = as_terms(evidence, seated(rank_values(ppl), evidence))
    return {**terms, "efficiency": _efficiency(evidence, ppl)}


def efficiency_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """NOVER's efficiency alone: the share of the other m - 1 rollouts that one beats twice.

    It beats those with both a longer reasoning and a higher reasoning perplexity (of `variant`);
    ties earn nothing, and a lone rollout 0. In [0, 1], 0 where malformed; compares a group. Alone
    it pays short text that is no worse than its siblings. Source: arXiv 2505.16022.
    """
    return as_terms(evidence, _efficiency(evidence, perplexities(evidence, config)))


def _efficiency(evidence: Sequence[Evidence], ppl: Sequence[float]) -> tuple[float, ...]:
    lengths = [item.reasoning_tokens for item in measured(evidence)]
    return seated(efficiency_values(ppl, lengths), evidence)


def nover_weights(config: RewardConfig) -> Mapping[str, float]:
    """What each term counts in the sum."""
    return {
        "form": config.form_weight,
        "reasoning": config.reasoning_weight,
        "efficiency": config.efficiency_weight,
    }
