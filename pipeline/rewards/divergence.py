"""The divergence from the starting weights as a reward: to be mixed in, with its coefficient.

k1 is the log-probability of a sampled token less that under the starting weights. Summed over an
attempt and taken from its reward, it gives the gradient of the divergence, which the same sum in a
loss would not: there its gradient is 0 on average (arXiv 2402.14740; TRL's RLOOTrainer, 0.05).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.config import RewardConfig
from pipeline.rewards.ranks import Terms, form
from pipeline.rewards.readings import earned
from pipeline.types import Evidence

START = "start"  # the meter that reads k1 of every written token


def divergence_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """-(sum of k1 over the written tokens): how much likelier the attempt has become, as a price.

    k1 is a token's log-probability when sampled less that under the starting weights (readings
    "start"), in nats. Any finite number, its mean 0 or less, raw 0; of a rollout alone. No gate
    spares malformed text the price. To be mixed in, by its coefficient. Source: arXiv 2402.14740.
    """
    ungated = config.model_copy(update={"gate": "off"})
    price = earned(evidence, ungated, START, lambda values: -math.fsum(values))
    return {"form": form(evidence), "reasoning": price, "raw": (0.0,) * len(evidence)}
