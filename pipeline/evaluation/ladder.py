"""The rank ladder of multiple choice: does likelihood follow how much of an answer is right?

An answer that states letter and text can be right in both, in its text alone, in its letter alone,
or in neither. A verifier fit to judge such answers ranks them in that order; one that ranks a
right letter before wrong text above right text pays for letters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from pipeline.measures import NotMeasurable, clustered, mean_nll
from pipeline.text.choices import Option
from pipeline.types import Estimate

Rung = Literal["both", "text", "letter", "neither"]
RUNGS: tuple[Rung, ...] = ("both", "text", "letter", "neither")  # the best first


@dataclass(frozen=True, slots=True)
class Ladder:
    """Shares over tasks, with 95 % intervals.

    ordered  tasks whose four answers stand in the order of RUNGS, no two of them equal
    pairs    by two rungs: tasks in which the better is the likelier; a tie is half
    """

    ordered: Estimate
    pairs: Mapping[tuple[Rung, Rung], Estimate]


def variants(options: Sequence[Option], right: int) -> dict[Rung, str]:
    """The four answers of a task; what is wrong in them is the next option's, the last's the first.

    right: index of the right option. Raises ValueError for fewer than two options.
    """
    if len(options) < 2:
        raise ValueError(f"{len(options)} options; a wrong one is needed beside the right one")
    own, other = options[right], options[(right + 1) % len(options)]
    return {
        "both": Option(own.letter, own.text).told(),
        "text": Option(other.letter, own.text).told(),
        "letter": Option(own.letter, other.text).told(),
        "neither": Option(other.letter, other.text).told(),
    }


def rank_ladder(scored: Sequence[Mapping[Rung, Sequence[float]]]) -> Ladder:
    """Per task and rung the log-probabilities of the answer's tokens -> how often they rank right.

    What ranks is their mean per token, so that lengths compare. Raises NotMeasurable without a
    task, or for log-probabilities that are none.
    """
    if not scored:
        raise NotMeasurable("no task was scored")
    means = [{rung: -mean_nll(one[rung]) for rung in RUNGS} for one in scored]
    ordered = [all(m[a] > m[b] for a, b in combinations(RUNGS, 2)) for m in means]
    pairs = {
        (a, b): clustered([[(m[a] > m[b]) + 0.5 * (m[a] == m[b])] for m in means])
        for a, b in combinations(RUNGS, 2)
    }
    return Ladder(clustered([[float(one)] for one in ordered]), pairs)
