"""Which tasks the generator is shown: seeds, and earlier proposals that stood at the frontier."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pipeline.types import Remembered, Task

FRONTIER = (0.2, 0.8)


def at_frontier(success: float) -> bool:
    """True where a task is neither given away nor out of reach: success in [0.2, 0.8]."""
    return FRONTIER[0] <= success <= FRONTIER[1]


def choose_parents(
    seeds: Sequence[Task], memory: Sequence[Remembered], count: int, rng: random.Random
) -> list[Task]:
    """`count` parents: every second one from memory's frontier while it lasts, the others seeds.

    The newest frontier tasks come first, since the solver has moved on from the older ones.
    """
    frontier = [item.task for item in memory if at_frontier(item.success)]
    newest = sorted(frontier, key=lambda task: -task.round)[: 4 * count]
    remembered = rng.sample(newest, min(count // 2, len(newest)))
    drawn = rng.sample(list(seeds), min(count - len(remembered), len(seeds)))
    while len(drawn) + len(remembered) < count:
        drawn.append(rng.choice(seeds))
    parents = remembered + drawn
    rng.shuffle(parents)
    return parents
