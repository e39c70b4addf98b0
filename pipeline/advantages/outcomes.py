"""Advantages that leave the group aside: right or wrong alone, or the attempt without chance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.advantages.peers import Compared, Peers
from pipeline.settings.objective import ObjectiveConfig

POSITIVE_SHARE = 0.1  # lambda of W-REINFORCE (arXiv 2506.01347)


def psr(peers: Sequence[Peers], config: ObjectiveConfig) -> list[Compared]:
    """1 where right, 0 where wrong: positive samples reinforced, nothing else.

    rewards  [K], each exactly 1 (right) or 0 (wrong)
    ->       [K] in {0, 1}
    Source: PSR of arXiv 2506.01347: greedy accuracy rises, variety falls. Raises ValueError for a
    reward that is neither: a shaped one does not tell right from wrong.
    """
    return [Compared(_right(one)) for one in peers]


def nsr(peers: Sequence[Peers], config: ObjectiveConfig) -> list[Compared]:
    """0 where right, -1 where wrong: negative samples pushed down, nothing else.

    rewards  [K], each exactly 1 (right) or 0 (wrong)
    ->       [K] in {-1, 0}
    Source: NSR of arXiv 2506.01347: what is right keeps the shares it had. Raises ValueError for a
    reward that is neither.
    """
    return [Compared(_right(one) - 1.0) for one in peers]


def w_reinforce(peers: Sequence[Peers], config: ObjectiveConfig) -> list[Compared]:
    """0.1 where right, -1 where wrong: the sum of PSR, weighed by lambda = 0.1, and NSR.

    rewards  [K], each exactly 1 (right) or 0 (wrong)
    ->       [K] in {-1, 0.1}
    Source: W-REINFORCE of arXiv 2506.01347. Raises ValueError for a reward that is neither.
    """
    return [Compared(POSITIVE_SHARE * _right(one) + _right(one) - 1.0) for one in peers]


def remax(peers: Sequence[Peers], config: ObjectiveConfig) -> list[Compared]:
    """R - R of the attempt without chance at the same task: the baseline costs one attempt.

    rewards  [K], of a reward that judges each attempt without its siblings
    greedy   reward of the most probable completion, under the same weights
    ->       [K] in the rewards' unit; siblings that all beat it all rise
    Source: ReMax, arXiv 2310.10505. Raises ValueError where no such attempt was judged.
    """
    return [Compared(one.rewards - _greedy(one)) for one in peers]


def _right(one: Peers) -> Tensor:
    """1 where the reward is 1, 0 where it is 0."""
    odd = one.rewards[(one.rewards != 0.0) & (one.rewards != 1.0)]
    if len(odd):
        raise ValueError(
            f"group {one.name}: a reward is {odd[0].item()}, and right from wrong is told by 1 and "
            "0 alone; choose a reward that gives these"
        )
    return torch.where(one.rewards == 1.0, 1.0, torch.zeros_like(one.rewards))


def _greedy(one: Peers) -> float:
    if one.greedy is None:
        raise ValueError(
            f"group {one.name}: no attempt without chance at its task {one.judged.group.task.id} "
            "was judged, so remax has nothing to compare with"
        )
    return one.greedy
