"""What an advantage compares, and what it answers: one group at a time, in double precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.settings.objective import ObjectiveConfig
from pipeline.types import Judged


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

    @property
    def name(self) -> str:
        """The group's id."""
        return self.judged.group.id


@dataclass(frozen=True, slots=True)
class Compared:
    """Advantages of one group: [K] and, where a rollout's tokens differ, [K][written tokens]."""

    rollouts: Tensor
    tokens: tuple[Tensor, ...] = ()


# every group of a step that is compared in one role -> the advantages of each
Compare = Callable[[Sequence[Peers], ObjectiveConfig], list[Compared]]


def by_token(rows: Sequence[Tensor]) -> Compared:
    """Advantages of tokens, with each rollout's mean; 0 for one that wrote none."""
    means = [row.mean() if len(row) else row.new_zeros(()) for row in rows]
    return Compared(torch.stack(means) if means else torch.zeros(0).double(), tuple(rows))


def still(rewards: Tensor) -> bool:
    """True where no reward differs from the first."""
    return bool((rewards == rewards[:1]).all())
