"""Judged groups written by hand, and their advantages, for tests of what compares them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.advantages import ADVANTAGES
from pipeline.advantages.peers import Compared, Peers
from pipeline.settings.objective import ObjectiveConfig
from pipeline.types import (
    Evidence,
    Group,
    Judged,
    ProposalEvidence,
    Reading,
    Role,
    Rollout,
    Task,
    Transcript,
)

GREEDY = 0.25  # what the attempt without chance earns in these tests


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def judged(
    role: Role,
    rewards: Sequence[float],
    raw: Sequence[float] = (),
    confidence: float = 1.0,
    *,
    texts: Sequence[Sequence[int]] = (),
    steps: Sequence[Reading] = (),
    name: str = "g0",
) -> Judged:
    """A group all of whose rollouts were judged; texts are their written tokens behind a prompt."""
    size = len(rewards)
    written = [tuple(text) for text in texts] or [()] * size
    rollouts = tuple(
        Rollout(
            f"{name}-{i}",
            (9, *text),
            (False, *[True] * len(text)),
            (0.0,) * (1 + len(text)),
            "",
            "end",
            i,
            "solver@0",
        )
        for i, text in enumerate(written)
    )
    task = Task("t0", "How many?", "six", "consensus", confidence=confidence)
    group = Group(name, role, task, rollouts, (Transcript("ok", "so", "six"),) * size)
    terms = {"raw": tuple(raw) or (0.0,) * size}
    kept = tuple(range(size))
    if role == "generator":
        proposals = (ProposalEvidence("admitted"),) * size
        return Judged(group, proposals, kept, tuple(rewards), terms)
    read = tuple(
        Evidence("measured", "proxy@0", (-1.0,), readings=(steps[i],) if steps else ())
        for i in range(size)
    )
    return Judged(group, read, kept, tuple(rewards), terms)


def compared(name: str, *groups: Judged, greedy: float | None = GREEDY) -> list[Compared]:
    """The advantages of the groups of one step, their lengths those of their texts."""
    peers = [
        Peers(
            tensor(*one.rewards),
            tensor(*(sum(rollout.written) for rollout in one.group.rollouts)),
            one,
            greedy,
        )
        for one in groups
    ]
    return ADVANTAGES[name](peers, ObjectiveConfig())


def compare(name: str, rewards: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The advantages of one group alone in its step; without lengths all write five tokens.

    No two texts begin alike.
    """
    counts = [5] * len(rewards) if lengths is None else [int(x) for x in lengths]
    texts = [tuple(100 * seat + i for i in range(n)) for seat, n in enumerate(counts)]
    group = judged("solver", rewards.tolist(), texts=texts)
    peers = Peers(rewards, torch.tensor(counts, dtype=rewards.dtype), group, GREEDY)
    [found] = ADVANTAGES[name]([peers], ObjectiveConfig())
    return found.rollouts
