"""Where two versions differ in what they can solve at all. Pure functions of counts.

A is the version compared against, a base say, and B the other, a tuned one (arXiv 2504.13837):
B may need fewer attempts and yet solve fewer tasks however often it tries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.evaluation.passes import pass_at
from pipeline.measures import paired
from pipeline.types import Estimate

STRIDE = math.sqrt(2)  # by which a search widens; hot attempts are long, so it is short
ROUNDING = 1e-12  # below which two curves are equal
BINS = 5  # of an accuracy histogram, between its two edges
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def efficiency_gap(base: Sequence[int], tuned: Sequence[int], n: int) -> Estimate:
    """Delta_SE = pass@n of the base minus pass@1 of the tuned version, paired by task.

    base, tuned  right attempts of n, per task, in the same order
    Lower is better: 0 where one attempt of the tuned version does as well as n of the base. Other
    write-ups flip the sign or take one model for both. Raises NotMeasurable for fewer than two
    tasks.
    """
    reach = [[1.0 if c else 0.0] for c in base]
    return paired(reach, [[c / n] for c in tuned])


def crossover(one: Sequence[float], other: Sequence[float]) -> int | None:
    """The smallest k at which the first curve no longer stands above the other; None where never.

    one, other  value at k = 1, 2, ...; equal lengths
    """
    pairs = enumerate(zip(one, other, strict=True), 1)
    return next((k for k, (first, second) in pairs if first <= second + ROUNDING), None)


@dataclass(frozen=True, slots=True)
class Held:
    """A task of a coverage cell, with the right attempts of either version."""

    id: str
    a: int
    b: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """Every task in one of four cells: solved by any attempt of A, of B, of both or of neither.

    "Not solved" is said of the attempts made, not of the version: see each task's counts.
    """

    both: tuple[Held, ...]
    a_only: tuple[Held, ...]
    b_only: tuple[Held, ...]
    neither: tuple[Held, ...]


def coverage(counts: Mapping[str, tuple[int, int]]) -> Coverage:
    """The four cells of tasks by id -> (right attempts of A, of B), each in the given order."""
    held = [Held(name, a, b) for name, (a, b) in counts.items()]
    return Coverage(
        both=tuple(h for h in held if h.a and h.b),
        a_only=tuple(h for h in held if h.a and not h.b),
        b_only=tuple(h for h in held if h.b and not h.a),
        neither=tuple(h for h in held if not h.a and not h.b),
    )


@dataclass(frozen=True, slots=True)
class Support:
    """How the set of what can be solved moved from A to B (arXiv 2507.14843); None is 0/0.

    srr   share of A's support that B preserves, P/(P+S)
    ndr   share of B's support that is new, E/(P+E)
    sds   harmonic mean of both, 2PE/(P^2+2PE+ES)
    nscr  net change, (E-S)/(P+E+S), in [-1, 1]
    """

    srr: float | None
    ndr: float | None
    sds: float | None
    nscr: float | None


def support(preserved: int, expanded: int, shrunk: int) -> Support:
    """The four ratios of P tasks solved by both, E by B alone and S by A alone."""
    p, e, s = preserved, expanded, shrunk
    return Support(
        srr=_ratio(p, p + s),
        ndr=_ratio(e, p + e),
        sds=_ratio(2 * p * e, p * p + 2 * p * e + e * s),
        nscr=_ratio(e - s, p + e + s),
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def mcnemar(a_only: int, b_only: int) -> float:
    """Exact two-sided p that A and B solve equally many, from the tasks that only one solves.

    A binomial of a_only + b_only fair coins; 1 where there is none.
    """
    coins, least = a_only + b_only, min(a_only, b_only)
    tail = sum(math.comb(coins, i) for i in range(least + 1))
    return min(1.0, 2 * tail / (1 << coins))


def histogram(counts: Sequence[int], n: int) -> dict[str, int]:
    """How many tasks have which share c/n of right attempts.

    The bins are "0" (no attempt), BINS equal ones between, open below and closed above, and "1"
    (every attempt): tuning moves mass to 1 and also to exactly 0, which wider bins would hide.
    """
    names = [f"{i / BINS:g}-{(i + 1) / BINS:g}" for i in range(BINS)]
    found = dict.fromkeys(["0", *names, "1"], 0)
    for c in counts:
        inside = names[min(-(-c * BINS // n), BINS) - 1]
        found["0" if c == 0 else "1" if c == n else inside] += 1
    return found


def answer_entropy(votes: Sequence[int]) -> float:
    """Entropy, in nats, of answers that fell into classes of these sizes; 0 without any."""
    total = sum(votes)
    return max(-math.fsum(v / total * math.log(v / total) for v in votes if v), 0.0)


def corrected_entropy(votes: Sequence[int]) -> float:
    """The same with Miller and Madow's correction for few answers: + (classes - 1) / (2 n)."""
    classes = sum(1 for v in votes if v)
    return answer_entropy(votes) + (classes - 1) / (2 * sum(votes)) if classes else 0.0


def quantiles(values: Sequence[float], at: Sequence[float] = QUANTILES) -> tuple[float, ...]:
    """Quantiles of values, read on the straight line between neighbours; values not empty."""
    ordered = sorted(values)
    found = []
    for share in at:
        place = share * (len(ordered) - 1)
        low = math.floor(place)
        high = min(low + 1, len(ordered) - 1)
        found.append(ordered[low] + (place - low) * (ordered[high] - ordered[low]))
    return tuple(found)


def matched_temperature(
    mean_entropy: Callable[[float], float], target: float, start: float, tolerance: float = 1e-6
) -> float | None:
    """The temperature at which a version's mean token entropy is `target`, by bisection.

    mean_entropy  of a temperature; grows with it
    start         the first temperature tried, > 0; the search goes a factor 8 from it at most
    tolerance     relative width of the last bracket
    ->            None where the target is out of that reach
    """
    factor = STRIDE if mean_entropy(start) < target else 1 / STRIDE
    near, far = start, start * factor
    while (mean_entropy(far) < target) == (factor > 1):
        if far * factor > 8.001 * start or far * factor < start / 8.001:
            return None
        near, far = far, far * factor
    low, high = min(near, far), max(near, far)
    while high / low > 1 + tolerance:
        middle = math.sqrt(low * high)
        if mean_entropy(middle) < target:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


def curve(counts: Sequence[int], n: int, k: int) -> list[float]:
    """pass@k of every task, in order; k <= n. Raises ValueError for a k that n cannot tell."""
    found = [pass_at(n, c, k) for c in counts]
    told = [value for value in found if value is not None]
    if len(told) < len(found):
        raise ValueError(f"{n} attempts say nothing of pass@{k}; ask for k <= {n}")
    return told
