"""An engine that is asked in shards, one call of an inner engine each.

Which requests share a call decides the last bits of an answer, and here that depends on the order
of the requests alone: an answer is the same whoever works the shards out, and wherever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from torch import Tensor

from pipeline.ports import (
    Confidences,
    Sample,
    SampleRequest,
    ScoreRequest,
    Scores,
    WeightedEngine,
)

T = TypeVar("T")


def shards(requests: Sequence[T], groups: int) -> Iterator[Sequence[T]]:
    """The requests in order, `groups` at a time and the rest last; all at once where it is 0."""
    size = groups or max(len(requests), 1)
    for start in range(0, len(requests), size):
        yield requests[start : start + size]


class Sharded:
    """Fills `ports.WeightedEngine` with an inner engine that is asked shard by shard."""

    def __init__(self, inner: WeightedEngine, groups: int) -> None:
        self._inner, self._groups = inner, groups

    @property
    def version(self) -> str:
        """Id of the weights that answer now."""
        return self._inner.version

    def load(self, state: Mapping[str, Tensor], version: str) -> None:
        """Hand weights to the inner engine."""
        self._inner.load(state, version)

    def close(self) -> None:
        """End what the inner engine started."""
        self._inner.close()

    def sample(
        self, requests: Sequence[SampleRequest], *, max_tokens: int, temperature: float
    ) -> list[tuple[Sample, ...]]:
        """Completions per request, one per seed, in order."""
        return [
            samples
            for part in shards(requests, self._groups)
            for samples in self._inner.sample(part, max_tokens=max_tokens, temperature=temperature)
        ]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """Log-probabilities of every target token, in order."""
        parts = shards(requests, self._groups)
        return [scores for part in parts for scores in self._inner.score(part)]

    def confide(self, requests: Sequence[ScoreRequest]) -> list[Confidences]:
        """How sure the weights are along every target, in order."""
        parts = shards(requests, self._groups)
        return [sure for part in parts for sure in self._inner.confide(part)]
