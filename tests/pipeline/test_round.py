"""Order and choice in a round: functions of seed and place, so that a resumed run reads on."""

from __future__ import annotations

import random

import pytest

from pipeline.parents import at_frontier, choose_parents
from pipeline.round import seed_slice
from pipeline.seeds import seed_of
from pipeline.types import Remembered, Task


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
