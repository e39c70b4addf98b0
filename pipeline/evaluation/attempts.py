"""Held-out tasks attempted many times under one version, and each attempt judged by truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pipeline.evaluation.exam import ProbeItem, Truth
from pipeline.ports import Engine, ScoreRequest, Solver
from pipeline.seeds import seed_of
from pipeline.text.votes import counts
from pipeline.types import Group

T = TypeVar("T")
CHUNK = 24  # tasks attempted or scored in one call, so that progress can be told


@dataclass(frozen=True, slots=True)
class Attempts:
    """The n attempts at one task under one version.

    prompt     the token ids they all begin with
    written    [n] the token ids written after it, the end token included
    surprise   [n] minus the log-probability of what was written, at the sampling temperature
    votes      attempts of each class of equal wrong answers, largest first
    right      [n]
    reasoned   [n] whether answer and reasoning are both right; None where reasoning has no truth
    silent     attempts without an answer
    truncated  attempts that the budget ended
    """

    item: ProbeItem
    prompt: tuple[int, ...]
    written: tuple[tuple[int, ...], ...]
    surprise: tuple[float, ...]
    votes: tuple[int, ...]
    right: tuple[bool, ...]
    reasoned: tuple[bool | None, ...]
    silent: int
    truncated: int

    @property
    def solved(self) -> int:
        """How many attempts are right (c)."""
        return sum(self.right)


@dataclass(frozen=True, slots=True)
class Draw:
    """Which attempts to make: a task's i-th is drawn from (seed, purpose, task, i) alone."""

    seed: int
    purpose: str
    samples: int


Told = Callable[[int], None]  # of how many attempts were made or scored since the last call


def attempt_all(
    solver: Solver, truth: Truth, items: Sequence[ProbeItem], draw: Draw, told: Told
) -> list[Attempts]:
    """`draw.samples` attempts at every item, judged as the solver's probe judges."""
    found: list[Attempts] = []
    for part in _chunks(items):
        seeds = [
            [seed_of(draw.seed, draw.purpose, item.id, i) for i in range(draw.samples)]
            for item in part
        ]
        names = [f"{draw.purpose}-{item.id}" for item in part]
        groups = solver.attempt([item.bare() for item in part], seeds, names)
        found += [_judged(truth, item, group) for item, group in zip(part, groups, strict=True)]
        told(len(part) * draw.samples)
    return found


def _judged(truth: Truth, item: ProbeItem, group: Group) -> Attempts:
    parsed = group.transcripts
    right = tuple(t.form == "ok" and truth.right(item, t.final) for t in parsed)
    reasons = [truth.reasoned_right(item, t.first) for t in parsed]
    answers = [t.final if t.form == "ok" else "" for t in parsed]
    wrong = counts(["" if good else said for said, good in zip(answers, right, strict=True)])
    rows = group.rollouts
    return Attempts(
        item=item,
        prompt=tuple(t for t, own in zip(rows[0].tokens, rows[0].written, strict=True) if not own),
        written=tuple(
            tuple(t for t, own in zip(row.tokens, row.written, strict=True) if own) for row in rows
        ),
        surprise=tuple(-sum(row.logprobs) for row in rows),
        votes=tuple(sorted(wrong.values(), reverse=True)),
        right=right,
        reasoned=tuple(
            None if reason is None else good and reason
            for good, reason in zip(right, reasons, strict=True)
        ),
        silent=len(rows) - sum(right) - sum(wrong.values()),
        truncated=sum(row.stop == "length" for row in rows),
    )


def token_entropy(attempts: Sequence[Attempts]) -> float:
    """Mean entropy per written token, in nats, at the temperature that the attempts were drawn at.

    The mean of minus the log-probabilities of the sampled tokens: its expectation is the entropy.
    """
    tokens = sum(len(row) for one in attempts for row in one.written)
    return sum(sum(one.surprise) for one in attempts) / tokens


def mean_logprobs(
    engine: Engine, attempts: Sequence[Attempts], told: Told
) -> list[tuple[float, ...]]:
    """Per task, per attempt: the mean log-probability of its tokens under the engine's weights.

    At temperature 1, whoever wrote the attempt; exp of minus it is the attempt's perplexity.
    """
    found: list[tuple[float, ...]] = []
    for part in _chunks(attempts):
        requests = [ScoreRequest(one.prompt, ((),), (one.written,)) for one in part]
        for (targets,) in engine.score(requests):
            found.append(tuple(sum(row) / len(row) for row in targets))
        told(sum(len(one.written) for one in part))
    return found


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]
