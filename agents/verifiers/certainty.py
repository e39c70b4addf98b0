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
    """KL(uniform || p), p the distribution that each written token came from.

    values  [written]  -(sum over the vocabulary of ln(V p)) / V, V its size: at least 0, in nats at
                       temperature 1; the end token counts as written
    status  "malformed" where nothing was written, "too_long" where the row exceeds the context,
            "score_error" where a number is not finite

    Asked: the policy in training, or under verifier.certainty "offline" the weights that the run
    began with, which a policy learns to please. Source: Intuitor, arXiv 2505.19590.
    """

    tools: Tools
    source = "certainty"

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        """ "malformed" where nothing was written, "too_long" where the row exceeds the context."""
        return self.tools.confided.readings(self.source, groups, lambda told: told.certainty)


@dataclass(frozen=True, slots=True)
class Entropy:
    """-(sum of p ln p), p the distribution that each written token came from.

    values  [written]  in [0, ln V], V the size of the vocabulary, in nats at temperature 1; the end
                       token counts as written
    status  "malformed" where nothing was written, "too_long" where the row exceeds the context,
            "score_error" where a number is not finite

    Asked: the policy in training, or under verifier.certainty "offline" the weights that the run
    began with. Source: arXiv 2505.15134.
    """

    tools: Tools
    source = "entropy"

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        """As `Certainty`."""
        return self.tools.confided.readings(self.source, groups, lambda told: told.entropy)
