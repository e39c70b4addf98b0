"""Advantages compare: each reward against its own group. R are the K rewards, m their mean.

    grpo     (R - m) / (s + 1e-4), s the sample standard deviation (arXiv 2402.03300; TRL's eps)
    centred  R - m (Dr. GRPO, arXiv 2503.20783)
    rloo     R - mean of the others = K/(K-1) * (R - m) (arXiv 2402.14740)

A group of one has nothing to compare and gets 0. Equal rewards get exactly 0, where rounding of
the mean would otherwise leave a crumb that the division by s + 1e-4 enlarges.
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


ADVANTAGES: dict[str, Callable[[Tensor], Tensor]] = {"grpo": grpo, "centred": centred, "rloo": rloo}


def credit(judged: Judged, config: ObjectiveConfig) -> Credited:
    """Set a judged group against itself, in double precision.

    answer_weights are the term "raw" times the task's confidence for a solver's group with the
    answer term on, else 0. They do not yet hold `config.answer_term` itself.
    """
    rewards = torch.tensor(judged.rewards, dtype=torch.float64)
    advantages = tuple(ADVANTAGES[config.advantage](rewards).tolist())
    if judged.group.role != "solver" or config.answer_term == 0:
        return Credited(judged, advantages, (0.0,) * len(judged.kept))
    confidence = judged.group.task.confidence
    weights = tuple(raw * confidence for raw in judged.components["raw"])
    return Credited(judged, advantages, weights)


def _still(rewards: Tensor) -> bool:
    """True where no reward differs from the first."""
    return bool((rewards == rewards[:1]).all())
