"""The rewards from 0 to 1 that others are worked out from, each by its raw term."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.rewards.agreement import consensus_terms, teacher_terms, vote_terms
from pipeline.rewards.likelihood import rlpr_terms, verifree_terms
from pipeline.rewards.probability import probability_terms
from pipeline.rewards.ranks import Terms
from pipeline.rewards.verdicts import judge_terms, rubric_terms, rule_terms
from pipeline.settings.reward import OutcomeName, RewardConfig
from pipeline.types import Evidence

OUTCOMES: dict[OutcomeName, Callable[[Sequence[Evidence], RewardConfig], Terms]] = {
    "mean_probability": probability_terms,
    "verifree": verifree_terms,
    "rlpr": rlpr_terms,
    "rule": rule_terms,
    "majority_vote": vote_terms,
    "consensus": consensus_terms,
    "co_reward": teacher_terms,
    "judge": judge_terms,
    "rubric": rubric_terms,
}


def outcome(evidence: Sequence[Evidence], config: RewardConfig) -> tuple[float, ...]:
    """The raw term of `config.outcome`, [K] in [0, 1], 0 where the gate holds an attempt back."""
    return OUTCOMES[config.outcome](evidence, config)["raw"]
