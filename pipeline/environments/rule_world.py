"""The rule world as an environment: shallow seed tasks, an exam at every depth."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config import RunConfig
from pipeline.evaluation.exam import Exam, ProbeItem
from pipeline.types import Task
from pipeline.worlds import rule
from pipeline.worlds.chains import Problem

DEEPEST = 5  # of the solver's probe
POOL_DEPTHS = (1, 2, 3)
PARENT_DEPTHS = (1, 2, 3)
SEED_TASKS = 1200  # where the config names no number


@dataclass(frozen=True, slots=True)
class RuleTruth:
    """Truth of the rule world, recomputed from the text each time."""

    named: Sequence[str] = rule.NAMED
    reads: bool = True

    def right(self, item: ProbeItem, answer: str) -> bool:
        return rule.right(_problem(item), answer)

    def reasoned_right(self, item: ProbeItem, reasoning: str) -> bool | None:
        return rule.reasoned_right(_problem(item), reasoning)

    def read(self, question: str) -> ProbeItem | None:
        problem = rule.read(question)
        return None if problem is None else _item(problem, "proposed")


@dataclass(frozen=True, slots=True)
class RuleWorld:
    """Seed tasks drawn by the run's seed; the exam by the probe's own, the same in every run."""

    config: RunConfig

    def seed_tasks(self) -> list[Task]:
        data = self.config.data
        avoid = {item.question for item in self._items()} | {t.question for t in self._parents()}
        count = data.seed_tasks or SEED_TASKS
        return rule.seed_tasks(self.config.seed, count, data.seed_depth, avoid)

    def probe_questions(self) -> list[str]:
        return [item.question for item in self._items()] + [
            task.question for task in self._parents()
        ]

    def exam(self) -> Exam:
        count = self.config.probe.solver_tasks * DEEPEST
        items = self._items()
        return Exam(
            items=tuple(items[:count]),
            pool_items=tuple(items[count:]),
            parents=tuple(self._parents()),
            truth=RuleTruth(),
            config=self.config.probe,
            generator=self.config.generator,
        )

    def _items(self) -> list[ProbeItem]:
        """The solver's items, equally many of each depth, then the pool's."""
        probe = self.config.probe
        rng = random.Random(f"probe/{probe.seed}")
        problems: list[Problem] = []
        plans: list[tuple[int, tuple[int, ...]]] = [
            (probe.solver_tasks, (depth,)) for depth in range(1, DEEPEST + 1)
        ]
        plans.append((probe.verifier_tasks * len(rule.FAMILIES), POOL_DEPTHS))
        for count, depths in plans:
            taken = {p.question for p in problems}
            problems += rule.sample_distinct(rng, count, depths, taken)
        return [_item(problem, f"probe-{i:04d}") for i, problem in enumerate(problems)]

    def _parents(self) -> list[Task]:
        probe = self.config.probe
        rng = random.Random(f"probe-parents/{probe.seed}")
        taken = {item.question for item in self._items()}
        problems = rule.sample_distinct(rng, probe.generator_parents, PARENT_DEPTHS, taken)
        return [
            Task(
                id=f"probe-parent-{i:03d}",
                question=p.question,
                reference=p.reference,
                origin="rule",
            )
            for i, p in enumerate(problems)
        ]


def _item(problem: Problem, name: str) -> ProbeItem:
    return ProbeItem(name, problem.question, problem.reference, problem.family, problem.depth)


def _problem(item: ProbeItem) -> Problem:
    problem = rule.read(item.question)
    if problem is None:
        raise ValueError(f"{item.id} is not a task of the rule world: {item.question!r}")
    return problem
