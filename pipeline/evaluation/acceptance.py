"""What it means that a verifier accepts an attempt: one line of a table each.

A verifier whose readings become a number has to be given a bar; it stands here, beside its name.
None is no verdict: the reading was not made, and whoever counts leaves it out. Malformed text is
rejected by all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.evaluation.attacks import COPY
from pipeline.measures import mean_nll, sequence_logprob
from pipeline.types import Evidence

MARGIN = 0.05  # nats per reference token by which reasoning has to beat none
LIKELY = 0.5  # probability of the whole reference from which it counts as said

Accepts = Callable[[Evidence], bool | None]


@dataclass(frozen=True, slots=True)
class Acceptance:
    """accepts  of an attempt's evidence, readings included; None where nothing was read
    fair     attacks that it is right to accept
    """

    accepts: Accepts
    fair: frozenset[str] = frozenset()


def beats(evidence: Evidence) -> bool | None:
    """The reference's mean log-probability beats the baseline's by more than MARGIN."""
    return _measured(
        evidence,
        lambda: (
            mean_nll(evidence.baseline_logprobs) - mean_nll(evidence.reference_logprobs) > MARGIN
        ),
    )


def likely(evidence: Evidence) -> bool | None:
    """The whole reference's probability is above LIKELY.

    Not its tokens' mean probability: the closing tag is all but certain, which alone would lift a
    reference of one token above a half.
    """
    return _measured(
        evidence, lambda: math.exp(sequence_logprob(evidence.reference_logprobs)) > LIKELY
    )


def either(evidence: Evidence) -> bool | None:
    """Whatever would pay the attempt: the reference became likelier, or is likely."""
    told = beats(evidence), likely(evidence)
    return None if None in told else any(told)


def reads(source: str, seat: int, bar: float = 0.5) -> Accepts:
    """The value at `seat` of a meter's reading is at or above the bar."""

    def accepts(evidence: Evidence) -> bool | None:
        reading = evidence.reading(source)
        if reading is None or reading.status not in ("measured", "malformed"):
            return None
        return reading.status == "measured" and reading.values[seat] >= bar

    return accepts


ANSWER_ONLY = frozenset({COPY})  # to a verifier of answers, a copied reference is a right answer

# Gain and level are the halves of likelihood: what a reward that is set against the baseline, or
# one that pays probability as such, would take. A vote accepts nothing by itself, so it has no row:
# what the siblings say is its reference.
ACCEPTS: dict[str, Acceptance] = {
    "likelihood": Acceptance(either),
    "gain": Acceptance(beats),
    "level": Acceptance(likely),
    "exact": Acceptance(reads("rule", 0), ANSWER_ONLY),
    "normalised": Acceptance(reads("rule", 1), ANSWER_ONLY),
    "math": Acceptance(reads("rule", 2), ANSWER_ONLY),
    "judge": Acceptance(reads("judge", 0), ANSWER_ONLY),
}


def _measured(evidence: Evidence, told: Callable[[], bool]) -> bool | None:
    if evidence.status == "malformed":
        return False
    return told() if evidence.status == "measured" else None
