"""Rows of a file as an environment: some train, some are held out, and none is both."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.config import RunConfig
from pipeline.evaluation.exam import Exam, ProbeItem
from pipeline.seeds import seed_of
from pipeline.text.answers import matches_any, normalise
from pipeline.types import Task


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file: its number there (from 1), a question, a reference and perhaps others."""

    number: int
    question: str
    reference: str
    other_references: tuple[str, ...] = ()

    @property
    def references(self) -> tuple[str, ...]:
        return (self.reference, *self.other_references)


@dataclass(frozen=True, slots=True)
class Merged:
    """Rows of distinct questions, in order.

    repeats    number of each row that was left out, with that of the row that stands for it
    conflicts  those of them whose reference says something else
    """

    rows: tuple[Row, ...]
    repeats: tuple[tuple[int, int], ...]
    conflicts: tuple[tuple[int, int], ...]


def merge(rows: Sequence[Row], conflicts: Literal["several", "first"]) -> Merged:
    """One row per question, questions being equal when their normalised texts are.

    The first row stands for the rest. Under "several" it takes over the references of those that
    say something else, as further ones; under "first" they are left out.
    """
    kept: dict[str, Row] = {}
    repeats, differing = [], []
    for row in rows:
        first = kept.setdefault(normalise(row.question), row)
        if first is row:
            continue
        repeats.append((row.number, first.number))
        new = tuple(r for r in row.references if not matches_any(r, first.references))
        if new:
            differing.append((row.number, first.number))
            if conflicts == "several":
                more = replace(first, other_references=(*first.other_references, *new))
                kept[normalise(row.question)] = more
    return Merged(tuple(kept.values()), tuple(repeats), tuple(differing))


@dataclass(frozen=True, slots=True)
class TableTruth:
    """All that a file can tell: whether an answer says what a reference says."""

    named: Sequence[str] = ()
    reads: bool = False

    def right(self, item: ProbeItem, answer: str) -> bool:
        return matches_any(answer, item.references)

    def reasoned_right(self, item: ProbeItem, reasoning: str) -> bool | None:
        return None

    def read(self, question: str) -> ProbeItem | None:
        return None


class TooFewRows(ValueError):
    """A file holds too few distinct questions to train on some and probe with others."""


def cut(rows: Sequence[Row], config: RunConfig) -> tuple[list[Row], list[Row]]:
    """Rows to train on and rows to hold out, by the probe's seed alone; equal questions once.

    Raises TooFewRows where two of each are not to be had.
    """
    distinct = mixed(merge(rows, config.data.conflicts).rows, config)
    held = max(2, round(len(distinct) * config.data.probe_share))
    if len(distinct) < held + 2:
        raise TooFewRows(
            f"{len(distinct)} distinct questions; at least {held + 2} are needed: add rows"
        )
    return distinct[held:], distinct[:held]


def mixed(rows: Sequence[Row], config: RunConfig) -> list[Row]:
    """The rows in an order that the probe's seed alone decides."""
    order = sorted(rows, key=lambda row: row.number)
    random.Random(seed_of(config.probe.seed, "split")).shuffle(order)
    return order


class Table:
    """A file's rows on two sides; a question never stands on both."""

    def __init__(
        self, rows: Sequence[Row], config: RunConfig, held: Sequence[Row] | None = None
    ) -> None:
        """held: rows held out for probes, in the order they are asked; None cuts them off `rows`.

        Raises TooFewRows, and ValueError for a question that stands on both sides.
        """
        self.config = config
        self._train, self._held = cut(rows, config) if held is None else (list(rows), list(held))
        if len(self._train) < 2 or len(self._held) < 2:
            raise TooFewRows(
                f"{len(self._train)} rows to train on and {len(self._held)} to hold out; at least "
                "2 of each are needed: add rows"
            )
        asked = {normalise(row.question) for row in self._held}
        both = [row.number for row in self._train if normalise(row.question) in asked]
        if both:
            raise ValueError(f"row {both[0]} is trained on and its question is held out too")

    def seed_tasks(self) -> list[Task]:
        chosen = list(self._train)
        random.Random(seed_of(self.config.seed, "seed-tasks")).shuffle(chosen)
        return [_task("row", row) for row in chosen[: self.config.data.seed_tasks or None]]

    def probe_questions(self) -> list[str]:
        return [row.question for row in self._held]

    def exam(self) -> Exam:
        probe = self.config.probe
        items = tuple(
            ProbeItem(
                f"row-{row.number:06d}",
                row.question,
                row.reference,
                other_references=row.other_references,
            )
            for row in self._held
        )
        return Exam(
            items=items[: probe.solver_tasks * 5],
            pool_items=items[: probe.verifier_tasks * 5],
            parents=tuple(_task("parent", row) for row in self._held[: probe.generator_parents]),
            truth=TableTruth(),
            config=probe,
            generator=self.config.generator,
        )


def _task(kind: str, row: Row) -> Task:
    return Task(
        f"{kind}-{row.number:06d}",
        row.question,
        row.reference,
        "human",
        other_references=row.other_references,
    )
