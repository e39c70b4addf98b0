"""How a meter's numbers become readings: measured where they are finite, else a status."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.types import Reading, Rollout, Transcript

Tokens = tuple[int, ...]
Numbers = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """Writes the readings of one meter under one version."""

    source: str
    version: str

    def measured(self, values: Numbers, at: Tokens = (), detail: str = "") -> Reading:
        """A reading of these values; "score_error" where one is not finite."""
        if not all(map(math.isfinite, values)):
            return Reading(self.source, self.version, "score_error", detail="not finite")
        return Reading(self.source, self.version, "measured", values, at, detail)

    def malformed(self, transcript: Transcript) -> Reading:
        """Of an attempt whose blocks could not be told apart."""
        return Reading(self.source, self.version, "malformed", detail=transcript.form)

    def too_long(self, context: int) -> Reading:
        """Of a row that the engine cannot read whole."""
        told = f"does not fit {context} tokens"
        return Reading(self.source, self.version, "too_long", detail=told)

    def not_measured(self, why: str) -> Reading:
        """Of an attempt whose group gives nothing to measure by."""
        return Reading(self.source, self.version, "not_measured", detail=why)

    def along(self, rollout: Rollout, values: Numbers | None, context: int) -> Reading:
        """Of a completion's written tokens, one value each; None where it was not asked of."""
        if not any(rollout.written):
            return Reading(self.source, self.version, "malformed", detail="empty")
        return self.too_long(context) if values is None else self.measured(values)


def parted(rollout: Rollout) -> tuple[Tokens, Tokens]:
    """What was read before the first written token, and all from there on."""
    start = rollout.written.index(True) if True in rollout.written else len(rollout.tokens)
    return rollout.tokens[:start], rollout.tokens[start:]


def readable(rollout: Rollout, context: int, least: int = 0) -> bool:
    """Whether something was written that fits the context, behind a prompt of `least` too."""
    before, written = parted(rollout)
    return bool(written) and max(len(before), least) + len(written) <= context


def not_above_zero(logprobs: Sequence[float]) -> Numbers:
    """Log-probabilities, those a hair above 0 by rounding put to 0; what is none becomes NaN."""
    return tuple(min(x, 0.0) if -math.inf < x <= 1e-6 else math.nan for x in logprobs)
