"""Advantages compare: each reward against others. To add one, list it in ADVANTAGES.

A function in the table takes every group of one role in a step. Those that proposals lack the
numbers for (right or wrong, steps, an attempt without chance) compare attempts alone: a generator's
groups are then compared by grpo.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps

import torch
from torch import Tensor

from pipeline.advantages.group import dr_grpo, grpo, maxrl, opo, quantile, reinforce, rloo
from pipeline.advantages.outcomes import nsr, psr, remax, w_reinforce
from pipeline.advantages.peers import Compare, Compared, Peers
from pipeline.advantages.tokens import STEPS, pure_min, tempo
from pipeline.advantages.whitened import reinforce_pp, reinforce_pp_baseline
from pipeline.settings.objective import ObjectiveConfig
from pipeline.types import Credited, Judged


def _each(compare: Callable[[Tensor], Tensor]) -> Compare:
    """For what needs a group's rewards alone."""

    @wraps(compare)
    def every(peers: Sequence[Peers], config: ObjectiveConfig) -> list[Compared]:
        return [Compared(compare(one.rewards)) for one in peers]

    return every


@wraps(opo)
def _opo(peers: Sequence[Peers], config: ObjectiveConfig) -> list[Compared]:
    return [Compared(opo(one.rewards, one.lengths)) for one in peers]


ADVANTAGES: dict[str, Compare] = {
    "grpo": _each(grpo),
    "dr_grpo": _each(dr_grpo),
    "rloo": _each(rloo),
    "opo": _opo,
    "maxrl": _each(maxrl),
    "quantile": _each(quantile),
    "reinforce": _each(reinforce),
    "reinforce_pp": reinforce_pp,
    "reinforce_pp_baseline": reinforce_pp_baseline,
    "remax": remax,
    "psr": psr,
    "nsr": nsr,
    "w_reinforce": w_reinforce,
    "tempo": tempo,
    "pure_min": pure_min,
}

OF_ATTEMPTS = ("remax", "psr", "nsr", "w_reinforce", "pure_min")


def needed(config: ObjectiveConfig) -> tuple[str, ...]:
    """The meters whose readings the configured advantage compares."""
    return (STEPS,) if config.advantage == "pure_min" else ()


def credit(
    groups: Sequence[Judged], config: ObjectiveConfig, greedy: Mapping[str, float] | None = None
) -> list[Credited]:
    """Set the judged groups of one role in one step against themselves, in double precision.

    greedy  task id -> reward of the attempt without chance, where such were made

    A solver's group that `indistinct` finds is left out of every comparison and learns nothing.
    answer_weights are the term "raw" times the task's confidence for a solver's group with the
    answer term on, else 0. They do not yet hold `config.answer_term` itself.
    """
    told = [one for one in groups if not indistinct(one, config)]
    peers = [_peers(one, (greedy or {}).get(one.group.task.id)) for one in told]
    compared = iter(_by_role(groups, config)(peers, config))
    return [
        nothing(one) if indistinct(one, config) else _credit(one, next(compared), config)
        for one in groups
    ]


def indistinct(judged: Judged, config: ObjectiveConfig) -> bool:
    """True for attempts whose rewards deviate by less than objective.spread_floor."""
    if judged.group.role == "generator" or config.spread_floor == 0 or len(judged.rewards) < 2:
        return False
    return float(torch.tensor(judged.rewards, dtype=torch.float64).std()) < config.spread_floor


def nothing(judged: Judged) -> Credited:
    """The group without anything to learn from it."""
    zeros = (0.0,) * len(judged.kept)
    return Credited(judged, zeros, zeros)


def _by_role(groups: Sequence[Judged], config: ObjectiveConfig) -> Compare:
    proposed = any(one.group.role == "generator" for one in groups)
    return ADVANTAGES["grpo" if proposed and config.advantage in OF_ATTEMPTS else config.advantage]


def _peers(judged: Judged, greedy: float | None) -> Peers:
    rewards = torch.tensor(judged.rewards, dtype=torch.float64)
    written = [sum(judged.group.rollouts[seat].written) for seat in judged.kept]
    return Peers(rewards, torch.tensor(written, dtype=torch.float64), judged, greedy)


def _credit(judged: Judged, found: Compared, config: ObjectiveConfig) -> Credited:
    advantages = tuple(found.rollouts.tolist())
    by_token = tuple(tuple(row.tolist()) for row in found.tokens)
    if judged.group.role != "solver" or config.answer_term == 0:
        return Credited(judged, advantages, (0.0,) * len(judged.kept), by_token)
    confidence = judged.group.task.confidence
    weights = tuple(raw * confidence for raw in judged.components["raw"])
    return Credited(judged, advantages, weights, by_token)
