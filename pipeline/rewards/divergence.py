"""The divergence from the starting weights as a reward: to be mixed in, with its coefficient.

k1 is the log-probability of a sampled token less that under the starting weights. Summed over an
attempt and taken from its reward, it gives the gradient of the divergence, which the same sum in a
loss would not: there its gradient is 0 on average (arXiv 2402.14740; TRL's RLOOTrainer, 0.05).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pipeline.config import RewardConfig
from pipeline.measures import NotMeasurable
from pipeline.rewards.ranks import Terms, form
from pipeline.types import Evidence

START = "start"  # the meter that reads k1 of every written token


def divergence_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """-(sum of k1 over the written tokens): how much likelier the attempt has become, as a price.

    evidence  [K], measured or malformed, each with a reading of START: k1 per written token
    ->        form; divergence, any finite number, its mean 0 or less; raw 0: it weighs no answer
    Source: k1 in the reward, arXiv 2402.14740. Malformed text has a divergence like any other.
    """
    price = tuple(-_sum(item) for item in evidence)
    return {"form": form(evidence), "divergence": price, "raw": (0.0,) * len(evidence)}


def divergence_alone(config: RewardConfig) -> Mapping[str, float]:
    """The term "divergence" alone; its coefficient is the weight that mixes it in."""
    return {"divergence": 1.0}


def _sum(item: Evidence) -> float:
    reading = item.reading(START)
    if reading is None:
        raise NotMeasurable(f"the divergence reads {START!r}, which was not measured")
    return math.fsum(reading.values)
