"""Rewards of verdicts: a rule, a judge, a rubric."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.measures import NotMeasurable
from pipeline.rewards.ranks import Terms, as_terms
from pipeline.rewards.readings import earned, share
from pipeline.settings.reward import Importance, RewardConfig
from pipeline.types import Evidence

MATCHES = ("exact", "normalised", "math")  # the order of a rule's verdicts
# pitfalls are worded so that passing is good; arXiv 2507.17746
IMPORTANCE: dict[Importance, float] = {
    "essential": 1.0,
    "important": 0.7,
    "optional": 0.3,
    "pitfall": 0.9,
}


def rule_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """A rule's verdict: 1 where the answer says what the reference says, else 0.

    From the readings "rule": `match` chooses "exact" text, "normalised" text (Unicode, case,
    spaces, closing punctuation) or "math" (equal expressions, by math-verify). 0 or 1, and 0 where
    the gate holds an attempt back; of a rollout alone. Source: verifiable rewards (arXiv
    2411.15124).
    """
    seat = MATCHES.index(config.match)
    return as_terms(evidence, earned(evidence, config, "rule", lambda values: share(values[seat])))


def judge_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """A judge's probability of "yes" when asked whether the answer is right: P(yes).

    From the readings "judge". In [0, 1], and 0 where the gate holds an attempt back; of a rollout
    alone. Single tokens such as ":" can fool a judge (arXiv 2507.08794). Source: GenRM (arXiv
    2408.15240).
    """
    return as_terms(evidence, earned(evidence, config, "judge", lambda values: share(values[0])))


def rubric_terms(evidence: Sequence[Evidence], config: RewardConfig) -> Terms:
    """A rubric's weighted share: sum_j w_j c_j / sum_j w_j, c_j a judge's P(yes) for item j.

    From the readings "rubric". `rubric` gives each item's weight: essential 1, pitfall 0.9,
    important 0.7, optional 0.3; without it all count alike. A pitfall is worded so that yes is
    good. In [0, 1], and 0 where the gate holds an attempt back; of a rollout alone. Source: RaR
    (arXiv 2507.17746), whose c_j is 0 or 1.
    """
    weights = [IMPORTANCE[name] for name in config.rubric]

    def value(verdicts: Sequence[float]) -> float:
        return rubric_share(verdicts, weights or [1.0] * len(verdicts))

    return as_terms(evidence, earned(evidence, config, "rubric", value))


def rubric_share(verdicts: Sequence[float], weights: Sequence[float]) -> float:
    """verdicts [J] in [0, 1], weights [J] > 0 -> in [0, 1].

    Raises NotMeasurable where they differ in number: the judge was asked another rubric.
    """
    if len(verdicts) != len(weights):
        raise NotMeasurable(f"{len(verdicts)} rubric verdicts but {len(weights)} weights")
    passed = math.fsum(w * share(c) for w, c in zip(weights, verdicts, strict=True))
    return min(passed / math.fsum(weights), 1.0)
