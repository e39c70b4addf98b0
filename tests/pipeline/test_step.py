"""The order of a step: what is attempted again, what is attempted without chance, what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from pipeline.advantages import ADVANTAGES
from pipeline.config import RewardConfig, RunConfig
from pipeline.crew import Crew
from pipeline.ports import Consensus
from pipeline.rewards import REWARDS, judge
from pipeline.round import plan_step
from pipeline.seeds import seed_of
from pipeline.step import take_step
from pipeline.types import (
    Credited,
    Evidence,
    Group,
    Proposed,
    Role,
    Rollout,
    StepRecord,
    Task,
    Transcript,
    Version,
)


@dataclass
class Tries:
    """A solver that writes one token per attempt, and remembers what it was asked."""

    asked: list[tuple[str, tuple[int, ...], bool]] = field(default_factory=list)

    def attempt(
        self,
        tasks: Sequence[Task],
        seeds: Sequence[Sequence[int]],
        ids: Sequence[str],
        *,
        greedy: bool = False,
    ) -> list[Group]:
        role: Role = "greedy" if greedy else "solver"
        made = []
        for task, row, name in zip(tasks, seeds, ids, strict=True):
            self.asked.append((name, tuple(row), greedy))
            rollouts = tuple(
                Rollout(f"{name}-g{i}", (2, 3), (False, True), (0.0, -1.0), "", "end", seed, "s@0")
                for i, seed in enumerate(row)
            )
            parsed = (Transcript("ok", "so", "yes"),) * len(row)
            made.append(Group(name, role, task, rollouts, parsed))
        return made

    def fits(self, question: str) -> bool:
        return True


class Tells:
    """A verifier: attempts at a "flat" task are all alike, at a "long" one cannot be measured."""

    version = "p@0"

    def measure(self, groups: Sequence[Group]) -> list[tuple[Evidence, ...]]:
        return [tuple(self._one(group, i) for i in range(len(group.rollouts))) for group in groups]

    def _one(self, group: Group, i: int) -> Evidence:
        if "long" in group.task.id and group.role == "greedy":
            return Evidence("too_long", self.version)
        seat = 0 if "flat" in group.task.id else i
        return Evidence("measured", self.version, (-1.0 - seat,), (-2.0,), 5 + seat)

    def agree(self, groups: Sequence[Group]) -> list[Consensus]:
        return [Consensus("yes", 1.0, 0.0) for _ in groups]

    def forget(self) -> None:
        pass


@dataclass
class Listens:
    """A learner that learns nothing and remembers what it was given."""

    heard: list[Credited] = field(default_factory=list)

    def step(self, credited: Sequence[Credited], *, step: int) -> dict[Any, Any]:
        self.heard = list(credited)
        return {}

    def versions(self) -> dict[Any, Version]:
        return {}

    def publish(self) -> None:
        pass


def take(seeds: Sequence[Task], **objective: object) -> tuple[StepRecord, Tries]:
    """The first step over these seeds, four tasks of three attempts, paid by probability."""
    config = RunConfig.model_validate(
        {
            "steps": 1,
            "generator": {"kind": "none"},
            "solver": {"tasks": 4, "group_size": 3},
            "reward": {"name": "mean_probability"},
            "sync": {"rule": "never"},
            "objective": {"answer_term": 0.0, **objective},
        }
    )
    solver, nobody = Tries(), cast(Any, None)
    crew = Crew(config, None, solver, Tells(), Listens(), nobody, nobody)
    return take_step(crew, plan_step(config, Proposed(1, (), (), ()), seeds, 0)), solver


def tasks(*names: str) -> list[Task]:
    return [Task(name, f"{name}?", "yes", "rule") for name in names]


def ids(record: StepRecord) -> list[str]:
    return [one.judged.group.id for one in record.credited]


MIXED = tasks("flat-0", "a", "flat-1", "b", "flat-2", "c", "flat-3", "d")


def test_without_turns_left_nothing_is_attempted_again():
    record, solver = take(MIXED)
    assert (record.resampled, len(solver.asked)) == (0, 4)
    assert [name for name in ids(record) if "-x" in name] == []


def test_groups_of_equals_are_replaced_turn_by_turn_until_turns_end():
    flat = tasks(*(f"flat-{i}" for i in range(5)))
    record, solver = take(flat, resample=2)
    assert record.resampled == 8  # four at first, four again, and no turn is left
    assert len(solver.asked) == 12
    assert all(one.dead for one in record.credited)


def test_a_turn_replaces_only_what_the_one_before_it_left_without_a_comparison():
    record, _ = take(MIXED, resample=9)
    dead = [one.dead for one in record.credited]
    flat = ["flat" in one.judged.group.task.id for one in record.credited]
    assert dead == flat
    assert dead.count(False) == 4
    assert record.resampled == len(dead) - 4


def test_what_is_attempted_again_stands_behind_what_was_and_changes_nothing_of_it():
    before, _ = take(MIXED)
    after, _ = take(MIXED, resample=9)
    assert after.credited[:4] == before.credited
    fresh = ids(after)[4:]
    assert fresh == [f"r01-s0001-x{n:02d}" for n in range(len(fresh))]


def test_streams_and_tasks_of_a_new_attempt_follow_from_its_number():
    record, solver = take(MIXED, resample=9)
    again, _ = take(MIXED, resample=9)
    assert record.credited == again.credited
    streams = {name: row for name, row, _ in solver.asked}
    for n, name in enumerate(ids(record)[4:]):
        assert streams[name] == tuple(seed_of(1, 1, "spare", n, g) for g in range(3))


def test_rewards_that_lie_too_near_are_attempted_again_too():
    # probabilities exp(-1), exp(-2), exp(-3) deviate by .165
    record, _ = take(tasks("a", "b", "c", "d"), resample=1, spread_floor=0.2)
    assert record.resampled == 4
    assert all(one.dead for one in record.credited)
    record, _ = take(tasks("a", "b", "c", "d"), resample=1, spread_floor=0.1)
    assert record.resampled == 0


def test_every_task_is_attempted_once_without_chance_where_rewards_are_set_against_that():
    record, solver = take(MIXED, advantage="remax")
    greedy = [one for one in record.credited if one.judged.group.role == "greedy"]
    assert [one.judged.group.role for one in record.credited] == ["solver"] * 4 + ["greedy"] * 4
    assert [row for _, row, without in solver.asked if without] == [(0,)] * 4
    assert all(one.dead and len(one.advantages) == 1 for one in greedy)
    for one in record.credited[:4]:
        base = one.judged.rewards[0]  # the attempt without chance is measured like the first here
        assert one.advantages == tuple(reward - base for reward in one.judged.rewards)


def test_a_task_that_stands_twice_is_attempted_once_without_chance():
    record, _ = take(tasks("a", "b"), advantage="remax")
    assert [one.judged.group.role for one in record.credited].count("greedy") == 2


def test_a_group_whose_attempt_without_chance_was_not_measured_learns_nothing():
    record, _ = take(tasks("long", "a", "b", "c"), advantage="remax")
    told = {one.judged.group.task.id: one for one in record.credited[:4]}
    assert told["long"].dead
    assert told["long"].judged.rewards[0] != told["long"].judged.rewards[1]
    assert not told["a"].dead


@pytest.mark.parametrize("name", sorted(ADVANTAGES.keys() - {"remax"}))
def test_no_other_advantage_asks_for_an_attempt_without_chance(name: str):
    if name in ("psr", "nsr", "w_reinforce", "pure_min"):
        with pytest.raises(ValueError, match=r"right from wrong|'steps'"):
            take(tasks("a", "b", "c", "d"), advantage=name)
        return
    _, solver = take(tasks("a", "b", "c", "d"), advantage=name)
    assert not any(without for _, _, without in solver.asked)


@pytest.mark.parametrize("name", sorted(n for n, one in REWARDS.items() if not one.needs))
def test_a_reward_that_ranks_is_known_by_what_it_pays_a_lone_attempt(name: str):
    [group] = Tries().attempt(tasks("a"), [[1, 2, 3]], ["g"])
    [evidence] = Tells().measure([group])
    alone = [Group("g", "solver", group.task, (r,), group.transcripts[:1]) for r in group.rollouts]
    config = RewardConfig.model_validate({"name": name})
    together = judge(group, evidence, config).rewards
    apart = tuple(
        judge(one, (item,), config).rewards[0] for one, item in zip(alone, evidence, strict=True)
    )
    assert (together == apart) == REWARDS[name].alone
