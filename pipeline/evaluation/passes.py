"""What n attempts at a task, c of them right, say of k attempts. Pure; exact, not drawn.

Every function takes the counts of one task; average over tasks afterwards, never before. All of
them draw k of the n attempts without replacement, so none is biased as the plug-in 1-(1-c/n)^k is,
and all are None for k > n, where the n attempts say nothing (a formula that answers 1 there
inflates silently).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np


@lru_cache(2**17)
def pass_at(n: int, c: int, k: int) -> float | None:
    """pass@k: the chance that at least one of k attempts is right (arXiv 2107.03374).

    1 - C(n-c, k) / C(n, k), as the stable product over i = n-c+1 .. n of (1 - k/i). In [0, 1];
    never falls in k; at k = 1 it is c/n, at k = n whether any attempt is right.
    """
    if not _asked(n, c, k):
        return None
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))


def pass_all(n: int, c: int, k: int) -> float | None:
    """pass^k: the chance that all of k attempts are right, C(c, k) / C(n, k) (arXiv 2406.12045)."""
    if not _asked(n, c, k):
        return None
    return math.comb(c, k) / math.comb(n, k)


def mg_pass(n: int, c: int, k: int) -> float | None:
    """mG-Pass@k: the mean over tau in (1/2, 1] of the chance that a share tau of k attempts is
    right, 2/k times the sum of P(X >= i) over i = ceil(k/2)+1 .. k, X hypergeometric (arXiv
    2412.13147). At k = 1 there is no such i and it is 0."""
    if not _asked(n, c, k):
        return None
    return 2 / k * math.fsum(_at_least(n, c, k, i) for i in range((k + 1) // 2 + 1, k + 1))


def _asked(n: int, c: int, k: int) -> bool:
    """Whether n attempts can tell of k. Raises ValueError for counts that cannot be."""
    if n < 1 or not 0 <= c <= n or k < 1:
        raise ValueError(f"{c} right of {n} attempts at k = {k}: expected 0 <= c <= n and k >= 1")
    return k <= n


def _at_least(n: int, c: int, k: int, least: int) -> float:
    ways = sum(math.comb(c, i) * math.comb(n - c, k - i) for i in range(least, min(c, k) + 1))
    return ways / math.comb(n, k)


@lru_cache(2**12)
def majority_at(right: int, wrong: tuple[int, ...], silent: int, k: int) -> float | None:
    """maj@k: the chance that the most frequent of k answers is the right one, ties shared.

    right   attempts whose answer is right, one class however it is worded
    wrong   attempts of each other class of equal answers
    silent  attempts without an answer, which never vote
    ->      the mean over all subsets of k attempts of 1 / (classes that share the lead) where the
            right class leads and 0 where it does not or nobody votes; None for k > n
    """
    n = right + sum(wrong) + silent
    if not _asked(n, right, k):
        return None
    won = 0.0
    for lead in range(1, min(right, k) + 1):
        for tied, ways in enumerate(_outvoted(wrong, silent, lead, k - lead)):
            won += math.comb(right, lead) * ways / (tied + 1)
    return won / math.comb(n, k)


def _outvoted(wrong: Sequence[int], silent: int, lead: int, seats: int) -> list[float]:
    """By number of classes that reach `lead`: the ways to fill the other seats, none above it."""
    found = np.zeros((1 + sum(size >= lead for size in wrong), seats + 1))  # [tied, seats taken]
    found[0, 0] = 1.0
    for size in wrong:
        grown = found.copy()
        for votes in range(1, min(size, lead - 1, seats) + 1):
            grown[:, votes:] += math.comb(size, votes) * found[:, : seats + 1 - votes]
        if lead <= min(size, seats):
            grown[1:, lead:] += math.comb(size, lead) * found[:-1, : seats + 1 - lead]
        found = grown
    rest = np.array([float(math.comb(silent, seats - taken)) for taken in range(seats + 1)])
    ways: list[float] = (found @ rest).tolist()
    return ways


def average_at(counts: Sequence[int], n: int) -> tuple[float, float]:
    """avg@n over tasks: the mean of c/n and its standard error, clustered by task.

    sd of c/n over tasks / sqrt(tasks): the n attempts of a task are no independent evidence.
    Raises ValueError with fewer than two tasks.
    """
    if len(counts) < 2:
        raise ValueError(f"a standard error needs two tasks, got {len(counts)}")
    shares = [c / n for c in counts if _asked(n, c, n)]
    mean = math.fsum(shares) / len(shares)
    variance = math.fsum((share - mean) ** 2 for share in shares) / (len(shares) - 1)
    return mean, math.sqrt(variance / len(shares))
