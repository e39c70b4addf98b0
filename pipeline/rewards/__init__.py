"""Rewards judge: what a group's evidence is worth. Pure, so each can be tried on old rollouts.

To add one, write its terms and weights in a file of this folder and list them in REWARDS. The
docstring of its terms stands alone: formula, what is read, range, source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.measures import NotMeasurable
from pipeline.rewards.agreement import consensus_terms, teacher_terms, vote_terms
from pipeline.rewards.aligned import aligned_terms
from pipeline.rewards.certainty import certainty_terms, entropy_terms
from pipeline.rewards.conciseness import conciseness_terms
from pipeline.rewards.divergence import START, divergence_terms
from pipeline.rewards.key_tokens import key_terms
from pipeline.rewards.length import length_terms, repetition_terms
from pipeline.rewards.likelihood import advantage_terms, rlpr_terms, rlpr_weights, verifree_terms
from pipeline.rewards.nover import efficiency_terms, nover_terms, nover_weights
from pipeline.rewards.probability import probability_terms
from pipeline.rewards.quantiles import quantile_terms
from pipeline.rewards.ranks import Terms, rank_terms, reasoning_alone, reasoning_and_form
from pipeline.rewards.readings import admits
from pipeline.rewards.reflection import reflection_terms
from pipeline.rewards.steps import clip_and_delta_terms, sum_terms
from pipeline.rewards.verdicts import judge_terms, rubric_terms, rule_terms
from pipeline.rewards.wrappers import corrected, spoiled, transformed, wraps
from pipeline.settings.reward import RewardConfig, RewardName
from pipeline.types import Evidence, Group, Judged

READABLE = ("measured", "malformed")


@dataclass(frozen=True, slots=True)
class Reward:
    """How evidence becomes terms, and which terms are summed.

    terms    evidence [K], measured or malformed -> name -> [K], already gated by form. Always
             "form" and "raw": the value in [0, 1] that weighs the answer term, 0 where the gate
             holds an attempt back
    weights  config -> name -> weight in the sum; a term without a weight is only recorded
    needs    the meters whose readings it judges; none for the reference's likelihood alone
    alone    whether it is of a rollout alone, so that rewards of two groups can be compared
    scale    its sum: 0 or 1, in [0, 1], or any finite number
    derived  whether it is worked out from the reward that `outcome` names
    signed   whether it may fall below 0
    """

    terms: Callable[[Sequence[Evidence], RewardConfig], Terms]
    weights: Callable[[RewardConfig], Mapping[str, float]] = reasoning_alone
    needs: tuple[str, ...] = ()
    alone: bool = True
    scale: Literal["verdict", "share", "any"] = "share"
    derived: bool = False
    signed: bool = False


REWARDS: dict[RewardName, Reward] = {
    # of the reference's likelihood
    "nover": Reward(nover_terms, nover_weights, alone=False, scale="any"),
    "rank": Reward(rank_terms, alone=False),
    "efficiency": Reward(efficiency_terms, alone=False),
    "mean_probability": Reward(probability_terms),
    "verifree": Reward(verifree_terms),
    "rlpr": Reward(rlpr_terms, rlpr_weights),
    "reasoning_advantage": Reward(advantage_terms, reasoning_and_form, scale="any", signed=True),
    "dro": Reward(reflection_terms, reasoning_and_form, alone=False, scale="any", signed=True),
    "long_ppl": Reward(key_terms),
    "quantile": Reward(quantile_terms, alone=False, derived=True),
    # of confidence and agreement
    "self_certainty": Reward(certainty_terms, needs=("certainty",), scale="any"),
    "entropy": Reward(entropy_terms, reasoning_and_form, ("entropy",), scale="any", signed=True),
    "majority_vote": Reward(vote_terms, needs=("vote",), alone=False, scale="verdict"),
    "consensus": Reward(consensus_terms, needs=("cross",), alone=False),
    "co_reward": Reward(teacher_terms, needs=("teacher",), scale="verdict"),
    "sar": Reward(
        aligned_terms, reasoning_and_form, ("written", "unprompted"), scale="any", signed=True
    ),
    # of verdicts
    "rule": Reward(rule_terms, needs=("rule",), scale="verdict"),
    "judge": Reward(judge_terms, needs=("judge",)),
    "rubric": Reward(rubric_terms, needs=("rubric",)),
    # of shape and steps
    "length": Reward(length_terms, needs=("shape",)),
    "repetition": Reward(repetition_terms, needs=("shape",)),
    "conciseness": Reward(
        conciseness_terms, needs=("shape",), alone=False, scale="any", derived=True
    ),
    "step_sum": Reward(sum_terms, needs=("steps",), scale="any"),
    "clip_and_delta": Reward(clip_and_delta_terms, needs=("steps",)),
    # of the distance from the start
    "kl": Reward(divergence_terms, needs=(START,), scale="any", signed=True),
}


def consulted(config: RewardConfig) -> tuple[RewardName, ...]:
    """The configured reward, its mix, and the outcome where one of them is worked out from it."""
    names = (config.name, *config.mix)
    derived = any(REWARDS[name].derived for name in names)
    return tuple(dict.fromkeys((*names, config.outcome) if derived else names))


def needed(config: RewardConfig) -> tuple[str, ...]:
    """The meters that the configured rewards read, each once."""
    meters = (meter for name in consulted(config) for meter in REWARDS[name].needs)
    return tuple(dict.fromkeys(meters))


def judge(group: Group, evidence: Sequence[Evidence], config: RewardConfig) -> Judged:
    """Rewards of a group of attempts, for the rollouts that could be judged.

    Malformed text is an outcome and earns its terms' 0. Any other status than "measured" is an
    unmade measurement: it is left out and neither trains nor moves its siblings' baseline.
    Where noise, a correction or a transform is on, the term "clean" is the sum before them; noise
    spoils "raw" too, so that nothing learns from verdicts that were flipped.

    Raises NotMeasurable where a reading was never taken, or where evidence marked "measured" holds
    no usable numbers.
    """
    if group.role == "generator":
        raise ValueError(f"group {group.id} is a {group.role}'s; attempts are a solver's")
    meters = needed(config)
    kept = tuple(seat for seat, item in enumerate(evidence) if _readable(item, meters))
    told = [evidence[seat] for seat in kept]
    terms, rewards = _sum(config.name, told, config)
    for name, weight in config.mix.items():
        _, added = _sum(name, told, config)
        terms[name] = tuple(added)
        rewards = [a + weight * b for a, b in zip(rewards, added, strict=True)]
    if wraps(config):
        rollouts = [group.rollouts[seat] for seat in kept]
        given = [_verdict(item, meters, config) for item in told]
        terms["clean"] = tuple(rewards)
        terms["raw"] = spoiled(terms["raw"], rollouts, given, config)
        rewards = [*spoiled(rewards, rollouts, given, config)]
        rewards = [*transformed(corrected(rewards, config), config)]
    return Judged(group, tuple(evidence), kept, tuple(rewards), terms)


def _sum(
    name: RewardName, told: Sequence[Evidence], config: RewardConfig
) -> tuple[Terms, list[float]]:
    """A reward's terms, and their weighted sum per rollout."""
    reward = REWARDS[name]
    terms = reward.terms(told, config)
    weights = reward.weights(config)
    seats = range(len(told))
    return terms, [sum(w * terms[term][seat] for term, w in weights.items()) for seat in seats]


def _readable(item: Evidence, meters: Sequence[str]) -> bool:
    """Whether every measurement of the rollout was made, or found its text malformed."""
    if item.status not in READABLE:
        return False
    return all(_status(item, meter) in READABLE for meter in meters)


def _verdict(item: Evidence, meters: Sequence[str], config: RewardConfig) -> bool:
    """Whether the rollout was measured, and the gate lets that count."""
    if not meters:
        return item.status == "measured"
    return admits(item, config) and all(_status(item, meter) == "measured" for meter in meters)


def _status(item: Evidence, meter: str) -> str:
    reading = item.reading(meter)
    if reading is None:
        raise NotMeasurable(f"the reward reads {meter!r}, which was not measured")
    return reading.status
