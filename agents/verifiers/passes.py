"""One look of an engine at whole completions, shared by the meters that read it.

Certainty and entropy are one pass over the completion, and so are its log-probabilities with the
question and without. The second meter that asks of the same groups under the same version is given
what the first was; a meter that asks again has everything read anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from agents.prompts import Prompts
from agents.verifiers.readings import (
    Numbers,
    Sheet,
    Tokens,
    not_above_zero,
    parted,
    readable,
)
from pipeline.ports import Confidence, Engine, ScoreRequest
from pipeline.types import Group, Reading, Rollout

T = TypeVar("T")


@dataclass(slots=True)
class Pass(Generic[T]):
    """What an engine tells of attempts; nothing of another version or of other groups answers.

    tell  asks the engine, of rollouts that have something written and fit its context
    """

    engine: Engine
    context: int  # longest row that the engine reads, in tokens
    tell: Callable[[Engine, Sequence[Rollout]], list[T]]
    least: int = 0  # tokens of another prompt that completions are also read behind
    groups: tuple[Group, ...] = ()
    version: str = ""
    readers: set[str] = field(default_factory=set)
    told: list[tuple[T | None, ...]] = field(default_factory=list)

    def readings(
        self, source: str, groups: Sequence[Group], values: Callable[[T], Numbers]
    ) -> list[tuple[Reading, ...]]:
        """Of each rollout a reading named `source`, one value per written token.

        "malformed" where nothing was written, "too_long" where the row exceeds the context.
        """
        if source in self.readers or not self._holds(groups):
            self._ask(groups)
        self.readers.add(source)
        sheet = Sheet(source, self.version)
        return [
            tuple(
                sheet.along(rollout, None if told is None else values(told), self.context)
                for rollout, told in zip(group.rollouts, row, strict=True)
            )
            for group, row in zip(groups, self.told, strict=True)
        ]

    def _ask(self, groups: Sequence[Group]) -> None:
        self.groups, self.version = tuple(groups), self.engine.version
        self.readers.clear()
        seats = [(r, readable(r, self.context, self.least)) for g in groups for r in g.rollouts]
        answers = iter(self.tell(self.engine, [rollout for rollout, fits in seats if fits]))
        told = iter([next(answers) if fits else None for _, fits in seats])
        self.told = [tuple(next(told) for _ in group.rollouts) for group in groups]

    def _holds(self, groups: Sequence[Group]) -> bool:
        return (
            self.version == self.engine.version
            and len(groups) == len(self.groups)
            and all(one is other for one, other in zip(groups, self.groups, strict=True))
        )


def confided(engine: Engine, rollouts: Sequence[Rollout]) -> list[Confidence]:
    """How sure the engine is along each completion; siblings share their prompt."""
    asked = [parted(rollout) for rollout in rollouts]
    found = engine.confide([_one(before, written) for before, written in asked])
    return [confidences[0][0] for confidences in found]


def written_logprobs(engine: Engine, rollouts: Sequence[Rollout]) -> list[Numbers]:
    """Log-probability of each written token after all before it; siblings share their prompt."""
    asked = [parted(rollout) for rollout in rollouts]
    found = engine.score([_one(before, written) for before, written in asked])
    return [not_above_zero(scores[0][0]) for scores in found]


@dataclass(frozen=True, slots=True)
class Echo:
    """Log-probabilities of a completion's written tokens: after its prompt, and unprompted."""

    written: Numbers
    unprompted: Numbers


@dataclass(frozen=True, slots=True)
class Echoing:
    """Scores completions behind their own prompt and behind one without a question.

    The second is the attempt's prompt of an empty question: its instruction, its template and its
    begin token stay, so that the first written token has something before it and what differs is
    the question alone.
    """

    prompts: Prompts

    def __call__(self, engine: Engine, rollouts: Sequence[Rollout]) -> list[Echo]:
        bare = self.prompts.attempt("")
        asked = [parted(rollout) for rollout in rollouts]
        requests = [_one(before, written) for before, written in asked]
        requests += [_one(bare, written) for _, written in asked]
        rows = [not_above_zero(scores[0][0]) for scores in engine.score(requests)]
        return [Echo(*pair) for pair in zip(rows[: len(asked)], rows[len(asked) :], strict=True)]


def _one(before: Tokens, target: Tokens) -> ScoreRequest:
    """A prompt and its one target; engines read what several requests begin with once."""
    return ScoreRequest(before, ((),), ((target,),))
