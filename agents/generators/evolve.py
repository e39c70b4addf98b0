"""Propose a task like a parent: the parent in the prompt, a question and its answer written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.prompts import Prompts
from agents.sampling import Ask, sample_groups
from pipeline.config import GeneratorConfig
from pipeline.ports import Engine
from pipeline.types import Group, Task


@dataclass(frozen=True, slots=True)
class Evolve:
    """Fills the Generator port. A proposal is a rollout like any other, so it can be trained."""

    engine: Engine
    prompts: Prompts
    config: GeneratorConfig
    context: int  # longest row the policy can read, in tokens

    def propose(
        self, parents: Sequence[Task], seeds: Sequence[Sequence[int]], ids: Sequence[str]
    ) -> list[Group]:
        """One group per parent; the transcript's blocks are question and stated reference."""
        asked = [self.prompts.proposal(parent.question) for parent in parents]
        ask = Ask("generator", self.prompts.proposal_blocks, parents, asked, seeds, ids)
        return sample_groups(
            self.engine,
            self.prompts,
            ask,
            max_tokens=self.config.max_tokens,
            temperature=self.config.temperature,
        )

    def fits(self, question: str) -> bool:
        """Whether prompt and longest proposal are together within the context."""
        return len(self.prompts.proposal(question)) + self.config.max_tokens <= self.context
