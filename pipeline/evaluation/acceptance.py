"""What it means that a verifier accepts an attempt: one line of a table each.

A verifier whose readings become a number has to be given a bar; it stands here, beside its name.
None is no verdict: the reading was not made, and whoever counts leaves it out. Malformed text is
rejected by all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from statistics import fmean

from pipeline.evaluation.attacks import COPY
from pipeline.measures import mean_nll, sequence_logprob
from pipeline.types import Evidence

MARGIN = 0.05  # nats per reference token by which reasoning has to beat none
LIKELY = 0.5  # probability of the whole reference from which it counts as said
YES = 0.5  # of a number made of readings, from which it accepts

Accepts = Callable[[Evidence], bool | None]


@dataclass(frozen=True, slots=True)
class Acceptance:
    """accepts  of an attempt's evidence, readings included; None where nothing was read
    fair     attacks that it is right to accept
    meter    whose reading it is told by; "" for the reference's likelihood
    """

    accepts: Accepts
    fair: frozenset[str] = frozenset()
    meter: str = ""


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


def reads(source: str, value: Callable[[tuple[float, ...]], float]) -> Accepts:
    """The number made of a meter's values is at or above YES."""

    def accepts(evidence: Evidence) -> bool | None:
        reading = evidence.reading(source)
        if reading is None or reading.status not in ("measured", "malformed"):
            return None
        return reading.status == "measured" and value(reading.values) >= YES

    return accepts


def of_answers(meter: str, value: Callable[[tuple[float, ...]], float]) -> Acceptance:
    """Of a verifier that reads the answer: a copied reference is a right one to it."""
    return Acceptance(reads(meter, value), frozenset({COPY}), meter)


# Gain and level are the halves of likelihood: what a reward that is set against the baseline, or
# one that pays probability as such, would take.
ACCEPTS: dict[str, Acceptance] = {
    "likelihood": Acceptance(either),
    "gain": Acceptance(beats),
    "level": Acceptance(likely),
    "exact": of_answers("rule", itemgetter(0)),
    "normalised": of_answers("rule", itemgetter(1)),
    "math": of_answers("rule", itemgetter(2)),
    "judge": of_answers("judge", itemgetter(0)),
    "rubric": of_answers("rubric", fmean),  # every item alike
}

# Meters that are not attacked, each with the reason.
EXEMPT: dict[str, str] = {
    "certainty": "reads no answer: rewards compare it within a group",
    "entropy": "reads no answer: rewards compare it within a group",
    "written": "reads no answer: half of what sar compares",
    "unprompted": "reads no answer: half of what sar compares",
    "steps": "scores steps, not answers; its sum grows with repetition by design",
    "cross": "its reference is the group's own answers, which an attack would have to be",
    "teacher": "its reference is the proxy's own vote, compared by text as 'normalised' is",
    "start": "a price on distance, which accepts nothing",
    "vote": "its reference is the siblings' answers, which an attack would have to be",
    "shape": "counts tokens, which accepts nothing",
}


def _measured(evidence: Evidence, told: Callable[[], bool]) -> bool | None:
    if evidence.status == "malformed":
        return False
    return told() if evidence.status == "measured" else None
