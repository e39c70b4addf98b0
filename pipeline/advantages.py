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

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.config import ObjectiveConfig
from pipeline.types import Credited, Judged

GRPO_EPS = 1e-4


def grpo(rewards: Tensor) -> Tensor:
    """rewards [K] -> [K], mean 0 and about unit sample deviation."""
    return centred(rewards) if _still(rewards) else centred(rewards) / (rewards.std() + GRPO_EPS)


def centred(rewards: Tensor) -> Tensor:
    """rewards [K] -> [K], mean 0."""
    return torch.zeros_like(rewards) if _still(rewards) else rewards - rewards.mean()


def rloo(rewards: Tensor) -> Tensor:
    """rewards [K] -> [K], each against the mean of the others."""
    return centred(rewards) * (len(rewards) / max(len(rewards) - 1, 1))


def opo(rewards: Tensor, lengths: Tensor) -> Tensor:
    """rewards [K], lengths [K] in tokens -> [K], each against the mean weighted by length."""
    if _still(rewards):
        return torch.zeros_like(rewards)
    shares = lengths.to(rewards.dtype) / lengths.sum()
    return rewards - (shares * rewards).sum()


def maxrl(rewards: Tensor) -> Tensor:
    """rewards [K] >= 0 -> [K]: the fewer succeed, the more a success counts.

    Raises ValueError for a negative reward: the mean would no longer tell how many succeed.
    """
    if bool((rewards < 0).any()):
        raise ValueError(f"maxrl compares rewards of 0 or more, got {rewards.min().item()}")
    return torch.zeros_like(rewards) if _still(rewards) else centred(rewards) / rewards.mean()


def reinforce(rewards: Tensor) -> Tensor:
    """rewards [K] -> the same: no baseline at all."""
    return rewards.clone()


def _by_reward(compare: Callable[[Tensor], Tensor]) -> Compare:
    return lambda rewards, lengths: compare(rewards)


Compare = Callable[[Tensor, Tensor], Tensor]  # rewards [K], written tokens [K] -> advantages [K]
ADVANTAGES: dict[str, Compare] = {
    "grpo": _by_reward(grpo),
    "centred": _by_reward(centred),
    "rloo": _by_reward(rloo),
    "opo": opo,
    "maxrl": _by_reward(maxrl),
    "reinforce": _by_reward(reinforce),
}


def credit(judged: Judged, config: ObjectiveConfig) -> Credited:
    """Set a judged group against itself, in double precision.

    answer_weights are the term "raw" times the task's confidence for a solver's group with the
    answer term on, else 0. They do not yet hold `config.answer_term` itself.
    """
    rewards = torch.tensor(judged.rewards, dtype=torch.float64)
    written = [sum(judged.group.rollouts[seat].written) for seat in judged.kept]
    lengths = torch.tensor(written, dtype=torch.float64)
    advantages = tuple(ADVANTAGES[config.advantage](rewards, lengths).tolist())
    if judged.group.role != "solver" or config.answer_term == 0:
        return Credited(judged, advantages, (0.0,) * len(judged.kept))
    confidence = judged.group.task.confidence
    weights = tuple(raw * confidence for raw in judged.components["raw"])
    return Credited(judged, advantages, weights)


def _still(rewards: Tensor) -> bool:
    """True where no reward differs from the first."""
    return bool((rewards == rewards[:1]).all())
