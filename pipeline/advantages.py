"""Advantages compare: each reward against its own group. R are the K rewards, m their mean.

    grpo       (R - m) / (s + 1e-4), s the sample standard deviation (arXiv 2402.03300; TRL's eps)
    centred    R - m (Dr. GRPO, arXiv 2503.20783)
    rloo       R - mean of the others = K/(K-1) * (R - m) (arXiv 2402.14740)
    opo        R - sum(T * R) / sum(T), T the written tokens (arXiv 2505.23585)
    maxrl      (R - m) / m, nothing where m = 0; rewards >= 0 (arXiv 2602.02710)
    reinforce  R, against nothing

A group of one has nothing to compare and gets 0, under reinforce its reward. Equal rewards get
exactly 0 from the others, where rounding of the mean would leave a crumb that a division enlarges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.config import ObjectiveConfig
from pipeline.types import Credited, Judged

GRPO_EPS = 1e-4


def grpo(rewards: Tensor) -> Tensor:
    """rewards [K] -> [K], mean 0 and about unit sample deviation."""
    return centred(rewards) if still(rewards) else centred(rewards) / (rewards.std() + GRPO_EPS)


def centred(rewards: Tensor) -> Tensor:
    """rewards [K] -> [K], mean 0."""
    return torch.zeros_like(rewards) if still(rewards) else rewards - rewards.mean()


def rloo(rewards: Tensor) -> Tensor:
    """rewards [K] -> [K], each against the mean of the others."""
    return centred(rewards) * (len(rewards) / max(len(rewards) - 1, 1))


def opo(rewards: Tensor, lengths: Tensor) -> Tensor:
    """rewards [K], lengths [K] in tokens -> [K], each against the mean weighted by length."""
    if still(rewards):
        return torch.zeros_like(rewards)
    shares = lengths.to(rewards.dtype) / lengths.sum()
    return rewards - (shares * rewards).sum()


def maxrl(rewards: Tensor) -> Tensor:
    """rewards [K] >= 0 -> [K]: the fewer succeed, the more a success counts.

    Raises ValueError for a negative reward: the mean would no longer tell how many succeed.
    """
    if bool((rewards < 0).any()):
        raise ValueError(f"maxrl compares rewards of 0 or more, got {rewards.min().item()}")
    return torch.zeros_like(rewards) if still(rewards) else centred(rewards) / rewards.mean()


def reinforce(rewards: Tensor) -> Tensor:
    """rewards [K] -> the same: no baseline at all."""
    return rewards.clone()


@dataclass(frozen=True, slots=True)
class Peers:
    """The K judged rollouts of a group, as an advantage compares them.

    rewards  [K] in double precision
    lengths  [K] written tokens
    judged   the group they are of, with its evidence and its rollouts' tokens
    greedy   reward of the attempt without chance at the same task; None where none was made
    """

    rewards: Tensor
    lengths: Tensor
    judged: Judged
    greedy: float | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """Advantages of one group: [K] and, where a rollout's tokens differ, [K][written tokens]."""

    rollouts: Tensor
    tokens: tuple[Tensor, ...] = ()


def _each(compare: Callable[[Tensor], Tensor]) -> Compare:
    """For what needs a group's rewards alone."""
    return lambda peers, config: [Compared(compare(one.rewards)) for one in peers]


def _opo(peers: Sequence[Peers], config: ObjectiveConfig) -> list[Compared]:
    return [Compared(opo(one.rewards, one.lengths)) for one in peers]


# every group of a step that is compared in one role -> the advantages of each
Compare = Callable[[Sequence[Peers], ObjectiveConfig], list[Compared]]
ADVANTAGES: dict[str, Compare] = {
    "grpo": _each(grpo),
    "centred": _each(centred),
    "rloo": _each(rloo),
    "opo": _opo,
    "maxrl": _each(maxrl),
    "reinforce": _each(reinforce),
}


def credit(
    groups: Sequence[Judged], config: ObjectiveConfig, greedy: Mapping[str, float] | None = None
) -> list[Credited]:
    """Set the judged groups of one role in one step against themselves, in double precision.

    greedy  task id -> reward of the attempt without chance, where such were made

    answer_weights are the term "raw" times the task's confidence for a solver's group with the
    answer term on, else 0. They do not yet hold `config.answer_term` itself.
    """
    peers = [_peers(one, (greedy or {}).get(one.group.task.id)) for one in groups]
    compared = ADVANTAGES[config.advantage](peers, config)
    return [_credit(one, found, config) for one, found in zip(groups, compared, strict=True)]


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


def still(rewards: Tensor) -> bool:
    """True where no reward differs from the first."""
    return bool((rewards == rewards[:1]).all())
