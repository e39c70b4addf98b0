"""The solver attempts tasks: reasoning, then an answer, G times each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agents.prompts import Prompts
from agents.sampling import Ask, sample_groups
from pipeline.config import SolverConfig
from pipeline.ports import Engine
from pipeline.types import Group, Role, Task


@dataclass(frozen=True, slots=True)
class SamplingSolver:
    """Fills the Solver port with an engine under the policy's weights."""

    engine: Engine
    prompts: Prompts
    config: SolverConfig
    context: int  # longest row the policy can read, in tokens

    def attempt(
        self,
        tasks: Sequence[Task],
        seeds: Sequence[Sequence[int]],
        ids: Sequence[str],
        *,
        greedy: bool = False,
    ) -> list[Group]:
        """One group per task; a rollout depends on its task and seed, not on its neighbours."""
        asked = [self.prompts.attempt(task.question) for task in tasks]
        role: Role = "greedy" if greedy else "solver"
        ask = Ask(role, self.prompts.attempt_blocks, tasks, asked, seeds, ids)
        return sample_groups(
            self.engine,
            self.prompts,
            ask,
            max_tokens=self.config.max_tokens,
            temperature=0.0 if greedy else self.config.temperature,
        )

    def fits(self, question: str) -> bool:
        """Whether prompt and longest attempt are together within the context."""
        return len(self.prompts.attempt(question)) + self.config.max_tokens <= self.context

    def at(self, temperature: float) -> SamplingSolver:
        """The same solver, sampling at another temperature; > 0."""
        return replace(self, config=self.config.model_copy(update={"temperature": temperature}))
