"""Who takes which micro-batch of a step, where several processes take it together."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from pipeline.batch import Row, parted


def deal(
    rows: Sequence[Row], token_budget: int, processes: int, *, whole_groups: bool = False
) -> list[list[list[int]]]:
    """Per process, the micro-batches it takes, as `parted` gives them: every row once in all.

    A function of its arguments alone, so every process deals alike. Several processes share a
    step in as many parts each, near the same number of tokens; a budget may be used in part. One
    process takes what `parted` gives, in its order.
    """
    if processes == 1:
        return [list(parted(rows, token_budget, whole_groups=whole_groups))]
    whole = _cost(rows, range(len(rows)))
    turns = max(1, ceil(whole / (token_budget * processes)))
    budget = min(token_budget, ceil(whole / (turns * processes)))
    parts = list(parted(rows, max(budget, 1), whole_groups=whole_groups))
    costs = [_cost(rows, part) for part in parts]
    loads = [0] * processes
    hands: list[list[int]] = [[] for _ in range(processes)]
    for number in sorted(range(len(parts)), key=lambda number: (-costs[number], number)):
        least = loads.index(min(loads))
        loads[least] += costs[number]
        hands[least].append(number)
    return [[parts[number] for number in sorted(hand)] for hand in hands]


def _cost(rows: Sequence[Row], part: Sequence[int]) -> int:
    """Tokens that go through the model: the rows, and each of their prompts once."""
    prompts = {rows[index].prompt for index in part}
    return sum(rows[index].size for index in part) + sum(map(len, prompts))
