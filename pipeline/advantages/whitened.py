"""Advantages that are whitened over every written token of a role's groups in a step.

Every written token counts once, so long rollouts rule the statistics.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.advantages.group import dr_grpo
from pipeline.advantages.peers import Compared, Peers, still
from pipeline.settings.objective import ObjectiveConfig

WHITEN_EPS = 1e-8


def whitened(values: Tensor, lengths: Tensor) -> Tensor:
    """(x - mean) / sqrt(variance + 1e-8), over tokens: each value counts as often as its length.

    values   [K] of rollouts, the same for all their tokens
    lengths  [K] written tokens
    ->       [K], whose mean over tokens is 0; exactly 0 where all are equal
    """
    tokens = lengths.sum()
    if tokens < 2 or still(values):
        return torch.zeros_like(values)
    off = values - (lengths * values).sum() / tokens
    variance = (lengths * off**2).sum() / (tokens - 1)
    return off * torch.rsqrt(variance + WHITEN_EPS)


def reinforce_pp(peers: Sequence[Peers], config: ObjectiveConfig) -> list[Compared]:
    """(R - mean) / deviation over all written tokens of the step: no group is needed.

    rewards  [K] of every group of the role, each token with its rollout's
    ->       [K] per group, mean 0 and unit sample deviation over the step's tokens
    Source: REINFORCE++, arXiv 2501.03262, whitened as verl does (variance of the sample, 1e-8
    inside the root). A step whose rewards are all equal gets 0, a group of equals alone does not:
    easy tasks are pushed up, hard ones down.
    """
    return _whiten([one.rewards for one in peers], peers)


def reinforce_pp_baseline(peers: Sequence[Peers], config: ObjectiveConfig) -> list[Compared]:
    """R - m by group, then (x - mean) / deviation over all written tokens of the step.

    rewards  [K] of every group of the role, m the group's mean
    ->       [K] per group, mean 0 and unit sample deviation over the step's tokens
    Source: the baseline form of REINFORCE++, arXiv 2501.03262, as verl has it. Groups are centred
    by rollout and whitened by token, so where right and wrong differ in length the tokens' mean is
    not 0 and a group of equals gets a little that is not 0 either.
    """
    return _whiten([dr_grpo(one.rewards) for one in peers], peers)


def _whiten(values: Sequence[Tensor], peers: Sequence[Peers]) -> list[Compared]:
    if not peers:
        return []
    flat = whitened(torch.cat(list(values)), torch.cat([one.lengths for one in peers]))
    return [Compared(part) for part in flat.split([len(one.rewards) for one in peers])]
