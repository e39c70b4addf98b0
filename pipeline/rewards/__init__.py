"""Rewards judge: what a group's evidence is worth. Pure, so each can be tried on old rollouts.

To add one, write its terms and weights in a file of this folder and list them in REWARDS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.config import RewardConfig
from pipeline.measures import Variant
from pipeline.rewards.likelihood import advantage_terms, rlpr_terms, rlpr_weights, verifree_terms
from pipeline.rewards.nover import nover_terms, nover_weights
from pipeline.rewards.probability import probability_terms
from pipeline.rewards.ranks import Terms, rank_terms, reasoning_alone, reasoning_and_form
from pipeline.rewards.reflection import reflection_terms
from pipeline.types import Evidence, Group, Judged


@dataclass(frozen=True, slots=True)
class Reward:
    """How evidence becomes terms, and which terms are summed.

    terms    evidence [K], measured or malformed -> name -> [K], already gated by form. Always
             "form" and "raw": the value in [0, 1] that weighs the answer term, 0 where malformed
    weights  config -> name -> weight in the sum; a term without a weight is only recorded
    """

    terms: Callable[[Sequence[Evidence], Variant], Terms]
    weights: Callable[[RewardConfig], Mapping[str, float]]


REWARDS: dict[str, Reward] = {
    "nover": Reward(nover_terms, nover_weights),
    "rank": Reward(rank_terms, reasoning_alone),
    "mean_probability": Reward(probability_terms, reasoning_alone),
    "verifree": Reward(verifree_terms, reasoning_alone),
    "rlpr": Reward(rlpr_terms, rlpr_weights),
    "reasoning_advantage": Reward(advantage_terms, reasoning_and_form),
    "dro": Reward(reflection_terms, reasoning_and_form),
}


def judge(
    group: Group, evidence: Sequence[Evidence], config: RewardConfig, variant: Variant
) -> Judged:
    """Rewards of a solver group, for the rollouts that could be judged.

    Malformed text is an outcome and earns its terms' 0. Any other status than "measured" is an
    unmade measurement: it is left out and neither trains nor moves its siblings' baseline.

    Raises NotMeasurable where evidence marked "measured" holds no usable log-probabilities.
    """
    if group.role != "solver":
        raise ValueError(f"group {group.id} is a {group.role}'s; attempts are a solver's")
    kept = tuple(s for s, item in enumerate(evidence) if item.status in ("measured", "malformed"))
    reward = REWARDS[config.name]
    terms = reward.terms([evidence[seat] for seat in kept], variant)
    weights = reward.weights(config)
    rewards = tuple(
        sum(weight * terms[name][seat] for name, weight in weights.items())
        for seat in range(len(kept))
    )
    return Judged(group, tuple(evidence), kept, rewards, terms)
