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
    """Fills the Meter port. values [written]: ln P(token | prompt and all before it), <= 0."""

    tools: Tools
    source = "written"

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        """ "malformed" where nothing was written, "too_long" where the row exceeds the context."""
        return self.tools.echoed.readings(self.source, groups, lambda told: told.written)


@dataclass(frozen=True, slots=True)
class Unprompted:
    """Fills the Meter port. values [written]: the same without the question, <= 0."""

    tools: Tools
    source = "unprompted"

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        """As `Written`."""
        return self.tools.echoed.readings(self.source, groups, lambda told: told.unprompted)
