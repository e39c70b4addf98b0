"""An engine that answers from functions: for tests of whole loops, without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.ports import Confidence, Confidences, Sample, SampleRequest, ScoreRequest, Scores

Tokens = tuple[int, ...]
Complete = Callable[[Tokens, int], Tokens]  # prompt, seed -> completion
Weigh = Callable[[Tokens, Tokens], tuple[float, ...]]  # all before, target -> log-probabilities
# all before, target -> certainty and entropy of each token's distribution
Sure = Callable[[Tokens, Tokens], tuple[tuple[float, ...], tuple[float, ...]]]


def even_weights(before: Tokens, target: Tokens) -> tuple[float, ...]:
    """Every token as likely as a coin's side."""
    return (-0.6931471805599453,) * len(target)


def even_sureness(before: Tokens, target: Tokens) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of a coin: no certainty, ln 2 of entropy."""
    return (0.0,) * len(target), (0.6931471805599453,) * len(target)


class ScriptedEngine:
    """Fills `ports.Engine` from a script; equal calls get equal answers.

    A completion is cut at `max_tokens`; it stops with "end" where its last token is in `eos_ids`.
    Every sampled token has log-probability -1, at any temperature. `calls` counts calls by name.
    """

    def __init__(
        self,
        complete: Complete,
        weigh: Weigh = even_weights,
        *,
        sure: Sure = even_sureness,
        eos_ids: frozenset[int] = frozenset({1}),
        version: str = "script@0",
    ) -> None:
        self.version = version
        self.calls = {"sample": 0, "score": 0, "confide": 0}
        self._complete = complete
        self._weigh = weigh
        self._sure = sure
        self._eos_ids = eos_ids

    def sample(
        self, requests: Sequence[SampleRequest], *, max_tokens: int, temperature: float
    ) -> list[tuple[Sample, ...]]:
        """One completion of the script per seed, in order."""
        self.calls["sample"] += 1
        return [
            tuple(self._sample(request.prompt, seed, max_tokens) for seed in request.seeds)
            for request in requests
        ]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """The script's log-probabilities of every target, in order."""
        self.calls["score"] += 1
        return [
            tuple(
                tuple(self._weigh(request.prompt + context, target) for target in targets)
                for context, targets in zip(request.contexts, request.targets, strict=True)
            )
            for request in requests
        ]

    def confide(self, requests: Sequence[ScoreRequest]) -> list[Confidences]:
        """The script's log-probabilities of every target, with its sureness, in order."""
        self.calls["confide"] += 1
        return [
            tuple(
                tuple(self._confide(request.prompt + context, target) for target in targets)
                for context, targets in zip(request.contexts, request.targets, strict=True)
            )
            for request in requests
        ]

    def _confide(self, before: Tokens, target: Tokens) -> Confidence:
        return Confidence(self._weigh(before, target), *self._sure(before, target))

    def _sample(self, prompt: Tokens, seed: int, max_tokens: int) -> Sample:
        tokens = self._complete(prompt, seed)[:max_tokens]
        ended = bool(tokens) and tokens[-1] in self._eos_ids
        return Sample(tokens, (-1.0,) * len(tokens), "end" if ended else "length")
