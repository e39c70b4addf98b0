"""How probable an attempt is with its question and without (SAR, arXiv 2509.05489).

From the two a reward has ppl(a) and ppl(a | q). Without the question the completion stands behind
the attempt's prompt of an empty question (`passes.Echoing`). The engine is the policy's; both
meters read one pass of log-probabilities at temperature 1; the end token counts as written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.verifiers.tools import Tools
from pipeline.types import Group, Reading


@dataclass(frozen=True, slots=True)
class Written:
    """ln P(token | prompt and all before it) of each written token.

    values  [written]  at most 0, in nats at temperature 1; the end token counts as written
    status  "malformed" where nothing was written, "too_long" where the row exceeds the context,
            "score_error" where a number is not finite

    Asked: the policy in training. Source: ppl(a | q) of SAR, arXiv 2509.05489.
    """

    tools: Tools
    source = "written"

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        """ "malformed" where nothing was written, "too_long" where the row exceeds the context."""
        return self.tools.echoed.readings(self.source, groups, lambda told: told.written)


@dataclass(frozen=True, slots=True)
class Unprompted:
    """ln P(token | prompt of an empty question and all before it) of each written token.

    values  [written]  at most 0, in nats at temperature 1; the end token counts as written
    status  "malformed" where nothing was written, "too_long" where the row exceeds the context,
            "score_error" where a number is not finite

    Asked: the policy in training. Source: ppl(a) of SAR, arXiv 2509.05489, where nothing at all
    stands before the completion; here the instruction and the template do.
    """

    tools: Tools
    source = "unprompted"

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        """As `Written`."""
        return self.tools.echoed.readings(self.source, groups, lambda told: told.unprompted)
