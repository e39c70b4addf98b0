"""The self-aligned reward: how much likelier the completion is with the query than without it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.measures import NotMeasurable
from pipeline.rewards.ranks import Terms, as_terms
from pipeline.rewards.readings import admitted, mean
from pipeline.settings.reward import RewardConfig
from pipeline.types import Evidence


def aligned_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """SAR: clip(1 - ppl(a | q) / ppl(a), -1, 1) + form_weight * form, a the written tokens.

    ppl is exp(minus the mean log-probability per token), with the query (readings "written") and
    without it ("unprompted"). Between -1 and 1 before the form, raw is its positive part, both 0
    where the gate holds an attempt back; of a rollout alone. Alone it collapses to short text:
    meant as `mix` beside an outcome, with a weight near 0.2. Source: arXiv 2509.05489.
    """
    asked = admitted(evidence, config, "written")
    unasked = admitted(evidence, config, "unprompted")
    value = tuple(
        aligned(one.values, other.values) if one is not None and other is not None else 0.0
        for one, other in zip(asked, unasked, strict=True)
    )
    return as_terms(evidence, value, tuple(max(0.0, one) for one in value))


def aligned(asked: Sequence[float], unasked: Sequence[float]) -> float:
    """1 - exp(-mean(asked - unasked)), at least -1: log-probabilities of the same tokens [T] each.

    Raises NotMeasurable where they differ in number.
    """
    if len(asked) != len(unasked):
        raise NotMeasurable("completions with and without the query differ in tokens")
    gain = mean(asked) - mean(unasked)
    return -math.expm1(-max(gain, -math.log(2.0)))  # bounded before the power, which overflows
