"""How far two rewards of the same rollouts agree, within groups: only the order in a group trains.

Kendall's tau-b of a group: concordant minus discordant pairs over the root of the pairs that
either side tells apart (Kendall 1945, Biometrika 33). None where a side tells no pair apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of siblings by how two rewards order them."""

    same: int = 0
    opposed: int = 0
    tied_first: int = 0  # told apart by the second alone
    tied_second: int = 0  # told apart by the first alone
    tied_both: int = 0

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(*(getattr(self, n) + getattr(other, n) for n in self.__slots__))

    @property
    def tau(self) -> float | None:
        """Kendall's tau-b in [-1, 1]; None where one of the two tells no pair apart."""
        told = self.same + self.opposed
        first, second = told + self.tied_second, told + self.tied_first
        if not first or not second:
            return None
        return max(-1.0, min(1.0, (self.same - self.opposed) / math.sqrt(first * second)))


def pairs(first: Sequence[float], second: Sequence[float]) -> Pairs:
    """first, second [K], the rewards of the same rollouts -> every pair of them, counted."""
    counts = [0] * 5
    both = list(zip(first, second, strict=True))
    for n, (a, b) in enumerate(both):
        for c, d in both[:n]:
            one, other = a - c, b - d
            if one and other:
                counts[0 if (one > 0) == (other > 0) else 1] += 1
            else:
                counts[2 if other else 3 if one else 4] += 1
    return Pairs(*counts)


def same_best(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether some rollout is the best under both; equals share their place."""
    top, other = max(first), max(second)
    return any(a == top and b == other for a, b in zip(first, second, strict=True))
