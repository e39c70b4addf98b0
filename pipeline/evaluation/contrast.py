"""Two versions on the same held-out tasks, from their attempts to every figure of the contrast.

Pure: attempts and scores in, a Contrast out. Intervals are 95 % and clustered by task, differences
paired by task; B minus A.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.evaluation import boundary, passes
from pipeline.evaluation.attempts import Attempts, token_entropy
from pipeline.evaluation.boundary import ROUNDING, Coverage, Held, Support
from pipeline.evaluation.exam import slices
from pipeline.measures import clustered, paired
from pipeline.types import Estimate

Scores = Sequence[Sequence[float]]  # per task, per attempt: mean log-probability under A


@dataclass(frozen=True, slots=True)
class Asked:
    """A task of the contrast."""

    id: str
    question: str
    family: str
    depth: int


@dataclass(frozen=True, slots=True)
class Many:
    """What k attempts of one version give, means over tasks.

    every     pass^k
    stable    mG-Pass@k
    majority  maj@k, ties shared
    reasoned  pass@k where a right answer counts with right reasoning alone; None where reasoning
              has no truth
    """

    k: int
    every: float
    stable: float
    majority: float
    reasoned: float | None


@dataclass(frozen=True, slots=True)
class Side:
    """One version's attempts in figures.

    counts          per task, in the contrast's order: right attempts of n
    accuracy        avg@n with its standard error, clustered by task
    token_entropy   mean nats per written token at `temperature`
    answer_entropy  mean over tasks of the entropy of its answers, in nats, Miller-Madow corrected;
                    None where no task was answered
    answer_spread   the same without the correction, over ln n: comparable across n
    histogram       share of right attempts -> tasks
    """

    temperature: float
    counts: tuple[int, ...]
    accuracy: tuple[float, float]
    token_entropy: float
    answer_entropy: float | None
    answer_spread: float | None
    truncated: int
    histogram: Mapping[str, int]
    many: tuple[Many, ...]


@dataclass(frozen=True, slots=True)
class Curves:
    """pass@k on one part of the tasks.

    ks          where the curves are told; crossover looks at every k up to n
    matched     B at the temperature at which its token entropy is A's; () where there is none
    leader      the version above at k = 1, None where they are equal
    crossover   the smallest k at which the leader stands above no longer, None where never
    delta_se    pass@n of A minus pass@1 of B
    """

    part: str
    tasks: int
    ks: tuple[int, ...]
    a: tuple[Estimate, ...]
    b: tuple[Estimate, ...]
    difference: tuple[Estimate, ...]
    matched: tuple[Estimate, ...]
    leader: Literal["A", "B"] | None
    crossover: int | None
    delta_se: Estimate


@dataclass(frozen=True, slots=True)
class Perplexities:
    """A's perplexity of completions of one kind, exp of minus the mean log-probability of each.

    of         whose: "A" or "B"
    kind       "all", "right", and "short" and "long": up to the median length and beyond it
    quantiles  at boundary.QUANTILES; () where there is no such completion
    """

    of: Literal["A", "B"]
    kind: str
    completions: int
    quantiles: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Contrast:
    """Everything told of A and B on the same tasks with n attempts each.

    again    the tasks that one version alone solved, attempted n times anew by both
    mcnemar  exact p that both solve equally many tasks with any of n attempts
    """

    n: int
    tasks: tuple[Asked, ...]
    a: Side
    b: Side
    matched: Side | None
    curves: tuple[Curves, ...]
    coverage: Coverage
    again: tuple[Held, ...]
    support: Support
    mcnemar: float
    perplexity: tuple[Perplexities, ...]


@dataclass(frozen=True, slots=True)
class Material:
    """What a contrast is made of. All lists of attempts are of the same tasks in the same order.

    a, b      the versions' attempts, n of each task, and the temperatures they were drawn at
    matched   B's at the matched temperature; None where there is none
    scores    mean log-probabilities under A of A's attempts and of B's
    again     right attempts of A and B of tasks that one alone solved
    """

    a: tuple[float, Sequence[Attempts]]
    b: tuple[float, Sequence[Attempts]]
    matched: tuple[float, Sequence[Attempts]] | None
    scores: tuple[Scores, Scores]
    again: Mapping[str, tuple[int, int]]


def solved_by_one(a: Sequence[Attempts], b: Sequence[Attempts]) -> list[str]:
    """Ids of the tasks that A alone or B alone solved, in order."""
    cells = boundary.coverage(_pairs(a, b))
    alone = {held.id for held in (*cells.a_only, *cells.b_only)}
    return [one.item.id for one in a if one.item.id in alone]


def contrast(material: Material) -> Contrast:
    """Every figure of the material. Raises NotMeasurable with fewer than two tasks."""
    (_, a), (_, b), matched = material.a, material.b, material.matched
    cells = boundary.coverage(_pairs(a, b))
    alone = len(cells.a_only), len(cells.b_only)
    return Contrast(
        n=len(a[0].right),
        tasks=tuple(Asked(i.id, i.question, i.family, i.depth) for i in (x.item for x in a)),
        a=_side(*material.a),
        b=_side(*material.b),
        matched=_side(*matched) if matched else None,
        curves=_all_curves(a, b, matched[1] if matched else None),
        coverage=cells,
        again=tuple(Held(name, *counts) for name, counts in material.again.items()),
        support=boundary.support(len(cells.both), alone[1], alone[0]),
        mcnemar=boundary.mcnemar(*alone),
        perplexity=_perplexities(material),
    )


def _pairs(a: Sequence[Attempts], b: Sequence[Attempts]) -> dict[str, tuple[int, int]]:
    return {x.item.id: (x.solved, y.solved) for x, y in zip(a, b, strict=True)}


def _side(temperature: float, attempts: Sequence[Attempts]) -> Side:
    n = len(attempts[0].right)
    votes = [(one.solved, *one.votes) for one in attempts]
    answered = [v for v in votes if sum(v)]
    corrected = [boundary.corrected_entropy(v) for v in answered]
    spread = [boundary.answer_entropy(v) / math.log(n) for v in answered] if n > 1 else []
    counts = tuple(one.solved for one in attempts)
    return Side(
        temperature=temperature,
        counts=counts,
        accuracy=passes.average_at(counts, n),
        token_entropy=token_entropy(attempts),
        answer_entropy=_mean(corrected) if corrected else None,
        answer_spread=_mean(spread) if spread else None,
        truncated=sum(one.truncated for one in attempts),
        histogram=boundary.histogram(counts, n),
        many=tuple(_many(attempts, n, k) for k in told_at(n)),
    )


def told_at(n: int) -> tuple[int, ...]:
    """The k at which curves are told: powers of two up to n, and n."""
    return (*(2**i for i in range(n.bit_length()) if 2**i < n), n)


def _many(attempts: Sequence[Attempts], n: int, k: int) -> Many:
    reasoned = [sum(map(bool, one.reasoned)) for one in attempts]
    told = all(None not in one.reasoned for one in attempts)

    def over(value: Callable[[Attempts], float | None]) -> float:
        return _mean([v for one in attempts if (v := value(one)) is not None])

    return Many(
        k=k,
        every=over(lambda one: passes.pass_all(n, one.solved, k)),
        stable=over(lambda one: passes.mg_pass(n, one.solved, k)),
        majority=over(lambda one: passes.majority_at(one.solved, one.votes, one.silent, k)),
        reasoned=_mean(boundary.curve(reasoned, n, k)) if told else None,
    )


def _all_curves(
    a: Sequence[Attempts], b: Sequence[Attempts], matched: Sequence[Attempts] | None
) -> tuple[Curves, ...]:
    seats = {one.item.id: seat for seat, one in enumerate(a)}
    found = []
    for part, items in slices([one.item for one in a]):
        inside = [seats[item.id] for item in items]
        sides = [[side[s].solved for s in inside] for side in (a, b, matched or a)]
        found.append(_curves(part, len(a[0].right), sides, has_match=matched is not None))
    return tuple(found)


def _curves(part: str, n: int, sides: Sequence[Sequence[int]], *, has_match: bool) -> Curves:
    a, b, matched = ([boundary.curve(side, n, k) for k in range(1, n + 1)] for side in sides)
    means_a, means_b = ([_mean(row) for row in side] for side in (a, b))
    ks = told_at(n)
    leader: Literal["A", "B"] | None = None
    crossing = None
    if not math.isclose(means_a[0], means_b[0], abs_tol=ROUNDING):
        leader = "A" if means_a[0] > means_b[0] else "B"
        crossing = boundary.crossover(*_led(leader, means_a, means_b))
    return Curves(
        part=part,
        tasks=len(sides[0]),
        ks=ks,
        a=tuple(clustered(_each(a[k - 1])) for k in ks),
        b=tuple(clustered(_each(b[k - 1])) for k in ks),
        difference=tuple(paired(_each(b[k - 1]), _each(a[k - 1])) for k in ks),
        matched=tuple(clustered(_each(matched[k - 1])) for k in ks) if has_match else (),
        leader=leader,
        crossover=crossing,
        delta_se=boundary.efficiency_gap(sides[0], sides[1], n),
    )


def _led(
    leader: Literal["A", "B"], a: list[float], b: list[float]
) -> tuple[list[float], list[float]]:
    return (a, b) if leader == "A" else (b, a)


def _each(values: Sequence[float]) -> list[list[float]]:
    return [[value] for value in values]


def _perplexities(material: Material) -> tuple[Perplexities, ...]:
    sides: dict[Literal["A", "B"], tuple[Sequence[Attempts], Scores]] = {
        "A": (material.a[1], material.scores[0]),
        "B": (material.b[1], material.scores[1]),
    }
    lengths = [
        len(row) for attempts, _ in sides.values() for one in attempts for row in one.written
    ]
    (middle,) = boundary.quantiles(lengths, (0.5,))
    found = []
    for of, (attempts, scores) in sides.items():
        rows = [
            (math.exp(-score), good, len(row) <= middle)
            for one, told in zip(attempts, scores, strict=True)
            for score, good, row in zip(told, one.right, one.written, strict=True)
        ]
        kinds = {
            "all": [value for value, _, _ in rows],
            "right": [value for value, good, _ in rows if good],
            "short": [value for value, _, short in rows if short],
            "long": [value for value, _, short in rows if not short],
        }
        for kind, values in kinds.items():
            told = boundary.quantiles(values) if values else ()
            found.append(Perplexities(of, kind, len(values), told))
    return tuple(found)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
