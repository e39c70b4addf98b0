"""Rewards judge: what a group's evidence is worth. Pure, so each can be tried on old rollouts.

To add one, write its terms and weights in a file of this folder and list them in REWARDS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.config import RewardConfig
from pipeline.measures import NotMeasurable
from pipeline.rewards.likelihood import advantage_terms, rlpr_terms, rlpr_weights, verifree_terms
from pipeline.rewards.nover import nover_terms, nover_weights
from pipeline.rewards.probability import probability_terms
from pipeline.rewards.ranks import Terms, rank_terms, reasoning_alone, reasoning_and_form
from pipeline.rewards.reflection import reflection_terms
from pipeline.types import Evidence, Group, Judged, Status


@dataclass(frozen=True, slots=True)
class Reward:
    """How evidence becomes terms, and which terms are summed.

    terms    evidence [K], measured or malformed -> name -> [K], already gated by form. Always
             "form" and "raw": the value in [0, 1] that weighs the answer term, 0 where malformed
    weights  config -> name -> weight in the sum; a term without a weight is only recorded
    needs    the meters whose readings it judges; none for the reference's likelihood alone
    """

    terms: Callable[[Sequence[Evidence], RewardConfig], Terms]
    weights: Callable[[RewardConfig], Mapping[str, float]]
    needs: tuple[str, ...] = ()


REWARDS: dict[str, Reward] = {
    "nover": Reward(nover_terms, nover_weights),
    "rank": Reward(rank_terms, reasoning_alone),
    "mean_probability": Reward(probability_terms, reasoning_alone),
    "verifree": Reward(verifree_terms, reasoning_alone),
    "rlpr": Reward(rlpr_terms, rlpr_weights),
    "reasoning_advantage": Reward(advantage_terms, reasoning_and_form),
    "dro": Reward(reflection_terms, reasoning_and_form),
}


def needed(config: RewardConfig) -> tuple[str, ...]:
    """The meters that the configured reward and its mix read, each once."""
    names = (config.name, *config.mix)
    return tuple(dict.fromkeys(meter for name in names for meter in REWARDS[name].needs))


def judge(group: Group, evidence: Sequence[Evidence], config: RewardConfig) -> Judged:
    """Rewards of a group of attempts, for the rollouts that could be judged.

    Malformed text is an outcome and earns its terms' 0. Any other status than "measured" is an
    unmade measurement: it is left out and neither trains nor moves its siblings' baseline.

    Raises NotMeasurable where a reading was never taken, or where evidence marked "measured" holds
    no usable log-probabilities.
    """
    if group.role == "generator":
        raise ValueError(f"group {group.id} is a {group.role}'s; attempts are a solver's")
    meters = needed(config)
    kept = tuple(seat for seat, item in enumerate(evidence) if _told(item, meters))
    told = [evidence[seat] for seat in kept]
    terms, rewards = _sum(config.name, told, config)
    for name, weight in config.mix.items():
        _, added = _sum(name, told, config)
        terms[name] = tuple(added)
        rewards = [a + weight * b for a, b in zip(rewards, added, strict=True)]
    return Judged(group, tuple(evidence), kept, tuple(rewards), terms)


def _sum(name: str, told: Sequence[Evidence], config: RewardConfig) -> tuple[Terms, list[float]]:
    """A reward's terms, and their weighted sum per rollout."""
    reward = REWARDS[name]
    terms = reward.terms(told, config)
    weights = reward.weights(config)
    seats = range(len(told))
    return terms, [sum(w * terms[term][seat] for term, w in weights.items()) for seat in seats]


def _told(item: Evidence, meters: Sequence[str]) -> bool:
    """Whether every measurement of the rollout was made, or found its text malformed."""
    statuses: list[Status] = [item.status]
    for meter in meters if item.status in ("measured", "malformed") else ():
        reading = item.reading(meter)
        if reading is None:
            raise NotMeasurable(f"the reward reads {meter!r}, which was not measured")
        statuses.append(reading.status)
    return all(status in ("measured", "malformed") for status in statuses)
