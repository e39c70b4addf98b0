"""Rounds that learn from the store: each step studies its own slice of stored groups.

Nothing is proposed, attempted or measured. The evidence of each group is judged again by this
run's reward: the rewards are those that were stored unless the configuration was changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.config import RunConfig
from pipeline.crew import Crew
from pipeline.round import seed_slice
from pipeline.seeds import seed_of
from pipeline.step import Clock, judge_again
from pipeline.syncing import sync_if_due
from pipeline.types import StepRecord, Studied

Name = tuple[str, str]  # a run, and a group's id in it


@dataclass(frozen=True, slots=True)
class Shelf:
    """The stored groups that a run may study. None of them is of a probe.

    names  all of them, always in the same order
    read   the groups of these names, in order
    """

    names: Sequence[Name]
    read: Callable[[Sequence[Name]], Sequence[Studied]]


def study(crew: Crew, shelf: Shelf, number: int, *, done: int = 0) -> Iterator[StepRecord]:
    """Round `number`'s steps from the first that is not done; `done` counts this round's alone."""
    for index in range(done, crew.config.steps):
        step = (number - 1) * crew.config.steps + index + 1
        clock = Clock()
        studied = tuple(shelf.read(choose(shelf.names, crew.config, step)))
        clock.lap("read")
        updates = crew.learner.study(judge_again(crew.config, studied, step), step=step)
        crew.learner.publish()
        clock.lap("learn")
        syncs = sync_if_due(crew, number, step)
        clock.lap("sync")
        yield StepRecord(
            round=number,
            step=step,
            credited=(),
            tasks=(),
            updates=updates,
            versions=tuple(crew.learner.versions()[line] for line in sorted(updates)),
            syncs=syncs,
            seconds=clock.seconds,
            studied=studied,
        )


def choose(names: Sequence[Name], config: RunConfig, step: int) -> tuple[Name, ...]:
    """The groups of a step: its own slice of endless shuffled passes, as many as a step has tasks.

    A function of the run's seed and the step; where there are fewer groups, each stands once.
    """
    count = min(config.solver.tasks, len(names))
    return tuple(
        dict.fromkeys(seed_slice(names, seed_of(config.seed, "study"), (step - 1) * count, count))
    )
