"""Advantages that set a reward against those of its group alone.

Equal rewards, and a group of one, get exactly 0, where rounding of the mean would leave a crumb
that a division enlarges; `reinforce` compares with nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.advantages.peers import still
from pipeline.quantiles import quantiles

GRPO_EPS = 1e-4


def grpo(rewards: Tensor) -> Tensor:
    """(R - m) / (s + 1e-4): the mean m and the sample deviation s are the group's.

    rewards  [K]
    ->       [K], mean 0 and about unit sample deviation, whatever the scale of the rewards
    Source: arXiv 2402.03300, the small constant TRL's. Close rewards are spread as far as distant
    ones, so noise is too.
    """
    return dr_grpo(rewards) if still(rewards) else dr_grpo(rewards) / (rewards.std() + GRPO_EPS)


def dr_grpo(rewards: Tensor) -> Tensor:
    """R - m: the reward against the group's mean m, at its own scale.

    rewards  [K]
    ->       [K], mean 0, in the rewards' unit
    Source: Dr. GRPO, arXiv 2503.20783, whose other half is objective.aggregate "budget".
    """
    return torch.zeros_like(rewards) if still(rewards) else rewards - rewards.mean()


def rloo(rewards: Tensor) -> Tensor:
    """R - mean of the others = K / (K - 1) * (R - m): leave one out.

    rewards  [K]
    ->       [K], mean 0, in the rewards' unit; an unbiased gradient, as no reward is in its own
             baseline
    Source: arXiv 2402.14740.
    """
    return dr_grpo(rewards) * (len(rewards) / max(len(rewards) - 1, 1))


def opo(rewards: Tensor, lengths: Tensor) -> Tensor:
    """R - sum(T * R) / sum(T): against the mean that weighs each reward by its length T.

    rewards  [K]
    lengths  [K] in tokens
    ->       [K], whose mean weighted by length is 0
    Source: arXiv 2505.23585: the baseline of least variance, if gradients grow with length alone.
    """
    if still(rewards):
        return torch.zeros_like(rewards)
    shares = lengths.to(rewards.dtype) / lengths.sum()
    return rewards - (shares * rewards).sum()


def maxrl(rewards: Tensor) -> Tensor:
    """(R - m) / m, nothing where m = 0: the fewer succeed, the more a success counts.

    rewards  [K] >= 0, made for 0 and 1
    ->       [K], mean 0, in [-1, K - 1]
    Source: arXiv 2602.02710, in the centred form. Raises ValueError for a negative reward: the mean
    would no longer tell how many succeed.
    """
    if bool((rewards < 0).any()):
        raise ValueError(f"maxrl compares rewards of 0 or more, got {rewards.min().item()}")
    return torch.zeros_like(rewards) if still(rewards) else dr_grpo(rewards) / rewards.mean()


def quantile(rewards: Tensor) -> Tensor:
    """q - mean of q, with q = share of the group whose reward is no greater than R, itself counted.

    rewards  [K]
    ->       [K], mean 0, in (-1, 1); any increasing map of the rewards changes nothing
    Source: the quantile reward of QRPO, arXiv 2507.08068, its siblings for reference completions.
    """
    return dr_grpo(torch.tensor(quantiles(rewards.tolist()), dtype=rewards.dtype))


def reinforce(rewards: Tensor) -> Tensor:
    """A = R: the reward against nothing, no baseline at all.

    rewards  [K]
    ->       [K], the same, in the rewards' unit
    Source: Williams, Machine Learning 8, 1992. What all rewards share is noise in its gradient.
    """
    return rewards.clone()
