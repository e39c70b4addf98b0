"""Order and choice in a round: functions of seed and place, so that a resumed run reads on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest

from pipeline.config import GeneratorConfig, ProbeConfig, RunConfig
from pipeline.crew import Crew
from pipeline.curriculum import Seen
from pipeline.environments.table import TableTruth
from pipeline.evaluation.exam import Exam
from pipeline.evaluation.generator import generator_probe
from pipeline.parents import at_frontier, choose_parents
from pipeline.ports import Consensus
from pipeline.round import Known, propose, seed_slice
from pipeline.seeds import seed_of
from pipeline.types import Group, Remembered, Rollout, Task, Transcript


def tasks(count: int, name: str = "seed") -> list[Task]:
    return [Task(f"{name}-{i}", f"{name} {i}?", "yes", "rule", round=i) for i in range(count)]


def test_a_seed_depends_on_its_place_and_on_nothing_else() -> None:
    assert seed_of(1, 2, "attempt") == seed_of(1, 2, "attempt")
    assert len({seed_of(1, 23), seed_of(12, 3), seed_of(1, 2, 3), seed_of(123)}) == 4
    assert 0 <= seed_of("x") < 2**63


def test_each_pass_over_the_seeds_reads_every_seed_once() -> None:
    seeds = tasks(10)
    for start in (0, 10, 20):
        read = seed_slice(seeds, 1, start, 10)
        assert sorted(t.id for t in read) == sorted(t.id for t in seeds)


def test_a_slice_goes_on_where_the_one_before_it_ended() -> None:
    seeds = tasks(7)
    whole = seed_slice(seeds, 3, 0, 20)
    assert seed_slice(seeds, 3, 0, 8) + seed_slice(seeds, 3, 8, 12) == whole


def test_passes_differ_in_order() -> None:
    seeds = tasks(30)
    assert seed_slice(seeds, 1, 0, 30) != seed_slice(seeds, 1, 30, 30)


@pytest.mark.parametrize(
    ("success", "inside"), [(0.0, False), (0.19, False), (0.2, True), (0.8, True), (0.81, False)]
)
def test_the_frontier_is_between_a_fifth_and_four_fifths(success: float, inside: bool) -> None:
    assert at_frontier(success) is inside


def test_half_of_the_parents_come_from_the_frontier_and_the_newest_of_it() -> None:
    memory = [Remembered(t, 0.5, 8) for t in tasks(100, "old")]
    memory += [Remembered(t, 1.0, 8) for t in tasks(5, "easy")]
    chosen = choose_parents(tasks(50), memory, 8, random.Random(1))
    kinds = [task.id.split("-")[0] for task in chosen]
    assert (kinds.count("old"), kinds.count("seed")) == (4, 4)
    assert all(task.round >= 100 - 32 for task in chosen if task.id.startswith("old"))


def test_without_a_frontier_every_parent_is_a_seed() -> None:
    chosen = choose_parents(tasks(3), [], 8, random.Random(1))
    assert len(chosen) == 8
    assert {task.id for task in chosen} <= {"seed-0", "seed-1", "seed-2"}


@dataclass
class Says:
    """A generator and a solver in one: says the same for every task, reads `room` characters."""

    said: Sequence[str]
    room: int

    def propose(
        self, parents: Sequence[Task], seeds: Sequence[Sequence[int]], ids: Sequence[str]
    ) -> list[Group]:
        return [
            Group(
                name,
                "generator",
                parent,
                tuple(
                    Rollout(f"{name}-g{i}", (), (), (), "", "end", seed, "solver@0")
                    for i, seed in enumerate(row)
                ),
                tuple(
                    Transcript("ok", self.said[i % len(self.said)], "yes") for i in range(len(row))
                ),
            )
            for parent, row, name in zip(parents, seeds, ids, strict=True)
        ]

    attempt = propose

    def fits(self, question: str) -> bool:
        return len(question) <= self.room


SAID = ("Is it so?", "Is it much longer than that?")


@pytest.mark.parametrize(
    ("generator", "solver", "dropped"), [(99, 99, 0), (20, 99, 1), (99, 20, 1), (20, 20, 1)]
)
def test_a_proposal_that_one_of_the_roles_cannot_read_is_too_long(
    generator: int, solver: int, dropped: int
) -> None:
    config = RunConfig.model_validate({"steps": 1, "generator": {"parents": 1, "group_size": 2}})
    nobody = cast(Any, None)
    crew = Crew(
        config, Says(SAID, generator), cast(Any, Says(SAID, solver)), nobody, nobody, nobody, nobody
    )
    proposed = propose(crew, 1, Known(tasks(3), [], Seen(0.95)))
    expected = ["admitted", "too_long"] if dropped else ["admitted", "admitted"]
    assert [e.drop for e in proposed.evidence[0]] == expected
    assert (proposed.candidates[0][1] is None) is bool(dropped)


def test_the_probe_attempts_no_proposal_that_is_too_long() -> None:
    class Attempts(Says):
        def attempt(self, tasks: Sequence[Task], *others: Any) -> list[Group]:
            assert all(self.fits(task.question) for task in tasks)
            return super().attempt(tasks, *others)

    class Agrees:
        def agree(self, groups: Sequence[Group]) -> list[Consensus]:
            return [Consensus("yes", 1.0, 0.0) for _ in groups]

    exam = Exam((), (), tuple(tasks(2)), TableTruth(), ProbeConfig(), GeneratorConfig(group_size=2))
    solver, verifier = cast(Any, Attempts(SAID, 20)), cast(Any, Agrees())
    found = generator_probe(exam, Says(SAID, 99), solver, verifier, Seen(0.95))
    values = {record.name: dict(record.per_task) for record in found}
    assert values["parsed"] == {"probe-p000": 1.0, "probe-p001": 1.0}
    # the second parent's are duplicates of the first's
    assert values["new"] == {"probe-p000": 0.5, "probe-p001": 0.0}
