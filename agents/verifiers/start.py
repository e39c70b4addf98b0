"""How much likelier the policy makes its own attempts than the weights it started from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.ports import Engine, ScoreRequest
from pipeline.types import Group, Reading, Rollout


@dataclass(frozen=True, slots=True)
class Start:
    """Fills the Meter port with an engine under the starting weights, which never change.

    values [written]: each token's log-probability when sampled less that under the start, in nats
    (k1, of either sign).

    temperature  of the attempts. Raises ValueError for any but 1, at which the engine scores: the
                 two log-probabilities would be of different distributions
    """

    engine: Engine
    temperature: float

    def __post_init__(self) -> None:
        if self.temperature != 1.0:
            raise ValueError(
                f"solver.temperature is {self.temperature}, and the divergence of attempts from "
                "the starting weights is read at 1; sample at 1, or use objective.kl"
            )

    @property
    def source(self) -> str:
        return "start"

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        """Per written token: its log-probability when sampled less that under the start, k1."""
        scores = self.engine.score([_request(group) for group in groups])
        return [
            tuple(
                self._reading(rollout, row)
                for rollout, row in zip(group.rollouts, rows, strict=True)
            )
            for group, (rows,) in zip(groups, scores, strict=True)
        ]

    def _reading(self, rollout: Rollout, start: Sequence[float]) -> Reading:
        sampled = [p for p, wrote in zip(rollout.logprobs, rollout.written, strict=True) if wrote]
        gaps = tuple(now - then for now, then in zip(sampled, start, strict=True))
        if not all(map(math.isfinite, gaps)):
            detail = "a log-probability is not finite"
            return Reading(self.source, self.engine.version, "score_error", detail=detail)
        return Reading(self.source, self.engine.version, "measured", gaps)


def _request(group: Group) -> ScoreRequest:
    """The group's prompt, and what each of its rollouts wrote behind it."""
    first = group.rollouts[0]
    texts = tuple(
        tuple(t for t, wrote in zip(one.tokens, one.written, strict=True) if wrote)
        for one in group.rollouts
    )
    return ScoreRequest(first.tokens[: first.written.index(True)], ((),), (texts,))
