"""What meters are made from: engines, prompts, settings, and the passes that two of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from agents.prompts import Prompts
from agents.verifiers.passes import Echo, Echoing, Pass, confided
from pipeline.config import VerifierConfig
from pipeline.ports import Confidence, Engine


@dataclass(frozen=True)
class Tools:
    """The one argument of every meter.

    policy      an engine under the weights in training
    proxy       one under the verifier's
    frozen      gives one under the weights that the run began with; called where it is needed
    context     longest row that each of them reads, in tokens
    seed        of whatever a meter samples
    max_tokens  longest attempt, as the solver's
    temperature of the solver's attempts
    """

    policy: Engine
    proxy: Engine
    frozen: Callable[[], Engine]
    prompts: Prompts
    config: VerifierConfig
    context: int
    seed: int
    max_tokens: int
    temperature: float = 1.0

    @cached_property
    def confided(self) -> Pass[Confidence]:
        """How sure weights are along completions: the policy's, or the frozen ones' offline."""
        engine = self.policy if self.config.certainty == "online" else self.frozen()
        return Pass(engine, self.context, confided)

    @cached_property
    def echoed(self) -> Pass[Echo]:
        """The policy's log-probabilities of completions, with their question and without."""
        return Pass(
            self.policy,
            self.context,
            Echoing(self.prompts),
            least=len(self.prompts.attempt("")),
        )
