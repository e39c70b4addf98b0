"""The conciseness reward: an outcome times what short reasoning adds, and nothing without one."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.rewards.outcomes import outcome
from pipeline.rewards.ranks import Terms, as_terms
from pipeline.rewards.readings import earned, mean
from pipeline.settings.reward import RewardConfig
from pipeline.types import Evidence

ALPHA = 0.5  # the paper's own is not printed; nor are the next two
STAGE = 0.5  # the paper anneals it over training
LEAST = 0.1  # conciseness of the longest reasoning, the low end of the paper's scores


def conciseness_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """CRF: R (1 + ALPHA * c * (STAGE + d)), R the reward named by `outcome`; 0 where R is 0.

    c is 1 - reasoning tokens / length_limit, at least 0.1 (readings "shape"), in the place of the
    paper's model of conciseness, and d is 1 - the group's mean R. Between 0 and 1.75, raw is R,
    both 0 where the gate holds an attempt back; compares a group, by d. Multiplied and not added,
    so short and wrong earns nothing. Source: arXiv 2511.09158, which prints neither ALPHA and
    STAGE, both 0.5 here, nor its d.
    """

    def value(counts: Sequence[float]) -> float:
        return max(LEAST, 1.0 - counts[1] / config.length_limit)

    short = earned(evidence, config, "shape", value)
    both = zip(outcome(evidence, config), short, strict=True)
    outcomes = tuple(r if measured else 0.0 for r, measured in both)
    hard = 1.0 - mean(outcomes) if outcomes else 0.0
    rewards = tuple(concise(r, c, STAGE, hard) for r, c in zip(outcomes, short, strict=True))
    return {**as_terms(evidence, rewards, outcomes), "conciseness": short}


def concise(outcome: float, conciseness: float, stage: float, difficulty: float) -> float:
    """R (1 + ALPHA * c * (s + d)): all in [0, 1] -> in [0, 1 + 2 ALPHA]."""
    return outcome * (1.0 + ALPHA * conciseness * (stage + difficulty))
