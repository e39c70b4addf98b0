"""The in-group rank of reasoning perplexity, NOVER's reasoning reward, as a reward of its own.

NOVER (arXiv 2505.16022) sorts a group's n well-formed rollouts by perplexity and pays the one at
place k (0 is best) (n - k)/n: the best 1, the worst 1/n, a lone one 1. Its code breaks ties by
position. Here equals share the mean of their places, so siblings may change seats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.measures import log_perplexity
from pipeline.settings.reward import RewardConfig
from pipeline.types import Evidence

Terms = dict[str, tuple[float, ...]]

_DECIMALS = 6  # nats per token; finer differences are arithmetic, and a rank would blow them up


def rank_values(perplexities: Sequence[float]) -> tuple[float, ...]:
    """(n - k)/n with k the mean 0-based place among equals; lower perplexity earns more.

    perplexities  [n]  finite, or any increasing function of them
    ->            [n]  in [1/n, 1]
    """
    count = len(perplexities)
    places = [
        sum(other < own for other in perplexities) + (perplexities.count(own) - 1) / 2
        for own in perplexities
    ]
    return tuple((count - place) / count for place in places)


def rank_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """The in-group rank of reasoning perplexity alone: (n - k)/n at place k of n, 0 the best.

    Perplexity is exp(NLL / N), NLL the reference's mean negative log-probability per token given
    the reasoning, N = 1 + log10 (`variant` "code") or 1 + ln ("paper") of the reasoning's tokens,
    at least 1. Equals share the mean of their places. In (0, 1] where well formed, 0 elsewhere;
    compares a group. Source: arXiv 2505.16022, its reasoning reward without form and efficiency.
    """
    reasoning = seated(rank_values(perplexities(evidence, config)), evidence)
    return as_terms(evidence, reasoning)


def as_terms(
    evidence: Sequence[Evidence], reasoning: tuple[float, ...], raw: tuple[float, ...] | None = None
) -> Terms:
    """The three terms that every reward has; raw is the reasoning's own where not given."""
    raw = reasoning if raw is None else raw
    return {"form": form(evidence), "reasoning": reasoning, "raw": raw}


def reasoning_alone(config: RewardConfig) -> Mapping[str, float]:
    """The term "reasoning" alone, whatever the weights of the other terms."""
    return {"reasoning": 1.0}


def reasoning_and_form(config: RewardConfig) -> Mapping[str, float]:
    """The term "reasoning" and the form, for reasoning that may earn less than malformed text."""
    return {"reasoning": 1.0, "form": config.form_weight}


def perplexities(evidence: Sequence[Evidence], config: RewardConfig) -> list[float]:
    """Log reasoning perplexity of each measured rollout, in order, arithmetic noise rounded off."""
    return [
        round(
            log_perplexity(item.reference_logprobs, item.reasoning_tokens, config.variant),
            _DECIMALS,
        )
        for item in measured(evidence)
    ]


def measured(evidence: Sequence[Evidence]) -> list[Evidence]:
    """Those whose reference was scored, in order."""
    return [item for item in evidence if item.status == "measured"]


def form(evidence: Sequence[Evidence]) -> tuple[float, ...]:
    """1 where the completion was well formed, else 0."""
    return tuple(float(item.status == "measured") for item in evidence)


def seated(values: Sequence[float], evidence: Sequence[Evidence]) -> tuple[float, ...]:
    """The measured rollouts' values on their seats, 0 on the malformed ones': the gate."""
    left = iter(values)
    return tuple(next(left) if item.status == "measured" else 0.0 for item in evidence)
