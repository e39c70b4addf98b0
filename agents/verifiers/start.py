"""How much likelier the policy makes its own attempts than the weights it started from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.verifiers.passes import written_logprobs
from agents.verifiers.readings import Numbers, Sheet, readable
from agents.verifiers.tools import Tools
from pipeline.types import Group, Reading, Rollout


@dataclass(frozen=True, slots=True)
class Start:
    """k1: each written token's log-probability when sampled less that under the starting weights.

    values  [written]  ln p(token) - ln p0(token), any finite number, in nats at temperature 1; the
                       mean over the policy's own tokens is its divergence from the start
    status  "malformed" where nothing was written, "too_long" where the row exceeds the context,
            "score_error" where a number is not finite

    Asked: the weights that the run began with, which never change. Raises ValueError for a
    solver.temperature other than 1: the two log-probabilities would be of different distributions.
    Source: k1 as a price, arXiv 2402.14740.
    """

    tools: Tools
    source = "start"

    def __post_init__(self) -> None:
        if self.tools.temperature != 1.0:
            raise ValueError(
                f"solver.temperature is {self.tools.temperature}, and the divergence of attempts "
                "from the starting weights is read at 1; sample at 1, or use objective.kl"
            )

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        """A reading of each rollout, in order."""
        engine, room = self.tools.frozen(), self.tools.context
        sheet = Sheet(self.source, engine.version)
        asked = [r for group in groups for r in group.rollouts if readable(r, room)]
        rows = iter(written_logprobs(engine, asked))
        return [
            tuple(
                sheet.along(r, _gaps(r, next(rows)) if readable(r, room) else None, room)
                for r in group.rollouts
            )
            for group in groups
        ]


def _gaps(rollout: Rollout, start: Numbers) -> Numbers:
    """Sampled less started, per written token."""
    sampled = rollout.logprobs[rollout.written.index(True) :]
    return tuple(now - then for now, then in zip(sampled, start, strict=True))
