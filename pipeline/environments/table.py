"""Rows of a file as an environment: some train, some are held out, and none is both."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.answers import matches, normalise
from pipeline.config import RunConfig
from pipeline.evaluation.exam import Exam, ProbeItem
from pipeline.seeds import seed_of
from pipeline.types import Task


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file: its number there (from 1), a question and a reference."""

    number: int
    question: str
    reference: str


@dataclass(frozen=True, slots=True)
class TableTruth:
    """All that a file can tell: whether an answer says what the reference says."""

    named: Sequence[str] = ()
    reads: bool = False

    def right(self, item: ProbeItem, answer: str) -> bool:
        return matches(answer, item.reference)

    def reasoned_right(self, item: ProbeItem, reasoning: str) -> bool | None:
        return None

    def read(self, question: str) -> ProbeItem | None:
        return None


class TooFewRows(ValueError):
    """A file holds too few distinct questions to train on some and probe with others."""


class Table:
    """A file's rows, split by the probe's seed alone; a question never stands on both sides."""

    def __init__(self, rows: Sequence[Row], config: RunConfig) -> None:
        self.config = config
        distinct = list({normalise(row.question): row for row in reversed(rows)}.values())
        distinct.sort(key=lambda row: row.number)
        random.Random(seed_of(config.probe.seed, "split")).shuffle(distinct)
        held = max(2, round(len(distinct) * config.data.probe_share))
        if len(distinct) < held + 2:
            raise TooFewRows(
                f"{len(distinct)} distinct questions; at least {held + 2} are needed: add rows"
            )
        self._held, self._train = distinct[:held], distinct[held:]

    def seed_tasks(self) -> list[Task]:
        chosen = list(self._train)
        random.Random(seed_of(self.config.seed, "seed-tasks")).shuffle(chosen)
        chosen = chosen[: self.config.data.seed_tasks or None]
        return [Task(f"row-{r.number:06d}", r.question, r.reference, "human") for r in chosen]

    def probe_questions(self) -> list[str]:
        return [row.question for row in self._held]

    def exam(self) -> Exam:
        probe = self.config.probe
        items = tuple(ProbeItem(f"row-{r.number:06d}", r.question, r.reference) for r in self._held)
        parents = tuple(
            Task(f"parent-{r.number:06d}", r.question, r.reference, "human")
            for r in self._held[: probe.generator_parents]
        )
        return Exam(
            items=items[: probe.solver_tasks * 5],
            pool_items=items[: probe.verifier_tasks * 5],
            parents=parents,
            truth=TableTruth(),
            config=probe,
            generator=self.config.generator,
        )
