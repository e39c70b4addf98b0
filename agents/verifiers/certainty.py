"""How sure weights are of what an attempt says, token by token (Intuitor, arXiv 2505.19590).

Whose weights: under verifier.certainty "online" those of the policy in training, under "offline"
the ones that the run began with. Offline certainty can be gamed: the policy learns to append what
frozen weights are sure of. Whoever builds the tools decides which engine is which. Both meters read
one pass; the end token counts as written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.verifiers.tools import Tools
from pipeline.types import Group, Reading


@dataclass(frozen=True, slots=True)
class Certainty:
    """Fills the Meter port. values [written]: KL(uniform || p) of the distribution that each token
    came from, >= 0, in nats at temperature 1."""

    tools: Tools
    source = "certainty"

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        """ "malformed" where nothing was written, "too_long" where the row exceeds the context."""
        return self.tools.confided.readings(self.source, groups, lambda told: told.certainty)


@dataclass(frozen=True, slots=True)
class Entropy:
    """Fills the Meter port. values [written]: entropy of the same distributions, in [0, ln V]."""

    tools: Tools
    source = "entropy"

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        """As `Certainty`."""
        return self.tools.confided.readings(self.source, groups, lambda told: told.entropy)
