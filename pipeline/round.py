"""The round: the generator proposes, then steps attempt and learn. Values out, nothing written.

`flows` records what this yields and decides, from the store, where to begin.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pipeline.config import RunConfig
from pipeline.crew import Crew
from pipeline.curriculum import Seen, sift
from pipeline.parents import choose_parents
from pipeline.seeds import seed_of
from pipeline.step import StepPlan, take_step
from pipeline.syncing import sync_if_due
from pipeline.types import Proposed, Remembered, StepRecord, SyncRecord, Task

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Known:
    """What came before a round: seed tasks, what solvers made of proposals, texts not to copy."""

    seeds: Sequence[Task]
    memory: Sequence[Remembered]
    seen: Seen


def propose(crew: Crew, number: int, known: Known) -> Proposed:
    """Round `number`'s proposals, filtered: one generator group per parent, a reason per drop."""
    config = crew.config
    generator = crew.generator
    if generator is None:
        return Proposed(number, (), (), ())
    count = config.generator.parents * config.steps
    rng = random.Random(seed_of(config.seed, number, "parents"))
    parents = choose_parents(known.seeds, known.memory, count, rng)
    size = config.generator.group_size
    seeds = [
        [seed_of(config.seed, number, "propose", n, g) for g in range(size)] for n in range(count)
    ]
    ids = [f"r{number:02d}-p{n:03d}" for n in range(count)]
    groups = generator.propose(parents, seeds, ids)

    def fits(question: str) -> bool:
        return crew.solver.fits(question) and generator.fits(question)

    return sift(groups, known.seen, config.generator, round=number, fits=fits)


def climb(
    crew: Crew, proposed: Proposed, seeds: Sequence[Task], *, done: int = 0
) -> Iterator[StepRecord]:
    """The round's steps from the first that is not done; `done` counts this round's alone."""
    for index in range(done, crew.config.steps):
        yield take_step(crew, plan_step(crew.config, proposed, seeds, index))


def end_of_round(crew: Crew, number: int) -> tuple[SyncRecord, ...]:
    """The sync that the rule "round" asks for."""
    return sync_if_due(crew, number, number * crew.config.steps, round_end=True)


def plan_step(config: RunConfig, proposed: Proposed, seeds: Sequence[Task], index: int) -> StepPlan:
    """The seeds and proposals of step `index` (from 0) of the round: its own slice of each."""
    number = (proposed.round - 1) * config.steps + index + 1
    per_step = config.generator.parents
    own = slice(index * per_step, (index + 1) * per_step)
    spare = config.objective.resample * config.solver.tasks
    return StepPlan(
        round=proposed.round,
        step=number,
        seeds=seed_slice(
            seeds, config.seed, (number - 1) * config.solver.tasks, config.solver.tasks
        ),
        groups=proposed.groups[own],
        candidates=proposed.candidates[own],
        evidence=proposed.evidence[own],
        spares=seed_slice(seeds, seed_of(config.seed, "spare"), (number - 1) * spare, spare),
    )


def seed_slice(seeds: Sequence[T], run_seed: int, start: int, count: int) -> tuple[T, ...]:
    """`count` of the seed tasks from position `start` of an endless sequence of shuffled passes.

    A function of the seed and the position alone, so a resumed run reads on where it stopped.
    """
    chosen: list[T] = []
    while len(chosen) < count:
        turn, offset = divmod(start + len(chosen), len(seeds))
        order = list(range(len(seeds)))
        random.Random(seed_of(run_seed, "seeds", turn)).shuffle(order)
        chosen += [seeds[i] for i in order[offset : offset + count - len(chosen)]]
    return tuple(chosen)
