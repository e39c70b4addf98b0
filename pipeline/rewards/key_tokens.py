"""LongPPL's key tokens: the reference tokens that the reasoning makes predictable."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.measures import NotMeasurable, sequence_logprob
from pipeline.rewards.ranks import Terms, as_terms, measured, seated
from pipeline.rewards.readings import mean
from pipeline.settings.reward import RewardConfig
from pipeline.types import Evidence


def key_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """1 / LongPPL: exp(-mean loss over the reference's key tokens), given the reasoning.

    A token is key where reasoning lowers its loss by more than key_gain nats, to below key_loss.
    Another reasoning has other key tokens; where it has none the reward is 0, and the term
    "key_tokens" says how many there were. In [0, 1], 0 where malformed; of a rollout alone.
    Source: arXiv 2410.23771, with reasoning in the place of its long context.
    """
    found = [_key_losses(item, config) for item in measured(evidence)]
    value = seated([math.exp(-mean(losses)) if losses else 0.0 for losses in found], evidence)
    count = seated([float(len(losses)) for losses in found], evidence)
    return {**as_terms(evidence, value), "key_tokens": count}


def key_tokens(
    given: Sequence[float], bare: Sequence[float], gain: float, loss: float
) -> tuple[int, ...]:
    """Indices of the key tokens, both bounds strict.

    given, bare  [m]  log-probabilities with and without the reasoning
    """
    return tuple(
        seat
        for seat, (with_it, without) in enumerate(zip(given, bare, strict=True))
        if with_it - without > gain and -with_it < loss
    )


def _key_losses(item: Evidence, config: RewardConfig) -> list[float]:
    given, bare = item.reference_logprobs, item.baseline_logprobs
    for row in (given, bare):
        sequence_logprob(row)  # refuses what is no log-probability
    if len(given) != len(bare):
        raise NotMeasurable("the reference differs in tokens with and without reasoning")
    return [-given[seat] for seat in key_tokens(given, bare, config.key_gain, config.key_loss)]
