"""Ports: what the round asks of its parts, as Protocols. Callers do not know who answers.

The concrete parts are chosen in one place, `flows/assemble.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from pipeline.types import (
    Credited,
    Evidence,
    Group,
    Judged,
    Line,
    Reading,
    Task,
    UpdateStats,
    Version,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One prompt and the streams to draw its completions from.

    prompt  token ids, without padding
    seeds   one per completion wanted; a completion depends on its own seed and on nothing else
            that shares its batch, up to the arithmetic of differently shaped matrices
    """

    prompt: tuple[int, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion: token ids with the end token where written, and their log-probabilities
    at the sampling temperature, or at 1 where that was 0."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop: Literal["end", "length"]


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A prompt shared by several contexts, each followed by the same or its own targets.

    prompt    token ids read once
    contexts  token ids that follow the prompt; () is allowed
    targets   per context, the token-id sequences to score after prompt + context
    """

    prompt: tuple[int, ...]
    contexts: tuple[tuple[int, ...], ...]
    targets: tuple[tuple[tuple[int, ...], ...], ...]


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure weights are along a text of T tokens, at temperature 1, in nats.

    logprobs   [T] log-probability of each token, <= 0
    certainty  [T] KL(uniform || p) = -ln V - mean_j ln p_j of the distribution that each token
               came from, >= 0; V counts the ids that stand for a token, not a head's padding
    entropy    [T] of the same distribution, in [0, ln V]
    """

    logprobs: tuple[float, ...]
    certainty: tuple[float, ...]
    entropy: tuple[float, ...]


# per context, per target, per token: the log-probability at temperature 1
Scores = tuple[tuple[tuple[float, ...], ...], ...]
Confidences = tuple[tuple[Confidence, ...], ...]  # per context, per target


class Engine(Protocol):
    """Samples and scores tokens under one set of weights."""

    @property
    def version(self) -> str:
        """Id of the weights that answer now."""
        ...

    def sample(
        self, requests: Sequence[SampleRequest], *, max_tokens: int, temperature: float
    ) -> list[tuple[Sample, ...]]:
        """Completions per request, one per seed, in order.

        Temperature 0 takes the most probable token, the lowest id of equals: a completion then
        depends on its prompt alone, and its log-probabilities are those at temperature 1.
        """
        ...

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """Log-probabilities of every target token, in order."""
        ...

    def confide(self, requests: Sequence[ScoreRequest]) -> list[Confidences]:
        """How sure the weights are along every target, in order."""
        ...


class WeightedEngine(Engine, Protocol):
    """An engine whose weights are handed to it, wherever it runs."""

    def load(self, state: Mapping[str, Tensor], version: str) -> None:
        """Take these weights; whatever is asked afterwards they answer, under `version`.

        state  full weights by the base's plain names, read before this returns
        """
        ...

    def close(self) -> None:
        """End what the engine started; it answers nothing afterwards."""
        ...


class Generator(Protocol):
    """Writes proposals: one group per parent, parsed but not yet filtered."""

    def propose(
        self, parents: Sequence[Task], seeds: Sequence[Sequence[int]], ids: Sequence[str]
    ) -> list[Group]:
        """One group per parent. seeds: per parent, one per proposal. ids: one per group."""
        ...

    def fits(self, question: str) -> bool:
        """Whether a parent of this question leaves room for a whole proposal."""
        ...


class Solver(Protocol):
    """Attempts tasks: one group per task, parsed."""

    def attempt(
        self,
        tasks: Sequence[Task],
        seeds: Sequence[Sequence[int]],
        ids: Sequence[str],
        *,
        greedy: bool = False,
    ) -> list[Group]:
        """One group per task. seeds: per task, one per attempt. ids: one per group.

        greedy  the most probable token at every place, whatever the seeds; groups of that role
        """
        ...

    def fits(self, question: str) -> bool:
        """Whether the question leaves room for a whole attempt."""
        ...


@dataclass(frozen=True, slots=True)
class Consensus:
    """The answer its group's reasonings make most probable together.

    answer      text of the best distinct answer; "" where no attempt parsed
    confidence  in [0, 1]: the best answer's share of the probability of all candidates
    spread      in [0, 1]: entropy of those shares over the log of their number; 0 for one candidate
    """

    answer: str
    confidence: float
    spread: float


class Meter(Protocol):
    """Reads one more thing of attempts, beside the reference's likelihood."""

    @property
    def source(self) -> str:
        """The name its readings carry, as the table of meters has it."""
        ...

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        """A reading of each rollout of each solver group, in order, whatever its form."""
        ...


class Verifier(Protocol):
    """Measures attempts through the proxy."""

    @property
    def version(self) -> str: ...

    def measure(self, groups: Sequence[Group]) -> list[tuple[Evidence, ...]]:
        """Evidence of each rollout of each solver group, in order."""
        ...

    def agree(self, groups: Sequence[Group]) -> list[Consensus]:
        """The consensus of each group's own answers, where no reference is at hand."""
        ...

    def forget(self) -> None:
        """Drop what earlier calls left, so that what follows depends on nothing before it."""
        ...


class Learner(Protocol):
    """Owns the weights in training and takes optimiser steps."""

    def step(self, credited: Sequence[Credited], *, step: int) -> dict[Line, UpdateStats]:
        """One optimiser step over all groups, with one denominator for the whole step.

        Raises NonFinite when a loss or gradient is not finite; the weights are then unchanged.
        """
        ...

    def study(self, judged: Sequence[Judged], *, step: int) -> dict[Line, UpdateStats]:
        """One optimiser step of the solver's line from stored groups, by the offline objective.

        Raises NonFinite as `step` does.
        """
        ...

    def versions(self) -> dict[Line, Version]:
        """The versions now in training, by line."""
        ...

    def publish(self) -> None:
        """Hand the present weights to the engines that sample."""
        ...


class Proxy(Protocol):
    """The slower copy of the policy that the verifier reads through."""

    @property
    def version(self) -> Version: ...

    def sync(self, *, step: int, alpha: float) -> Version:
        """proxy <- alpha * proxy + (1 - alpha) * policy; alpha 0 copies. Returns the version."""
        ...

    def undo(self) -> None:
        """Put back the weights and version from before the last sync."""
        ...


class Saved(Protocol):
    """Anything whose state belongs into a checkpoint."""

    def save(self, folder: Path) -> None:
        """Write own files (safetensors, JSON) into an existing empty folder."""
        ...

    def restore(self, folder: Path) -> None:
        """Read them back; afterwards the part behaves as if it had never stopped."""
        ...


class Environment(Protocol):
    """Where seed tasks come from, and what may be told of a proposal without truth."""

    def seed_tasks(self) -> Sequence[Task]:
        """Every seed task of the run, references included."""
        ...

    def probe_questions(self) -> Sequence[str]:
        """Questions of every probe task, without their truth, so that no copy gets through."""
        ...


class NonFinite(RuntimeError):
    """A loss or gradient was not finite; nothing was changed."""
