"""The rule world: every sampled task reads back with its truth, and nothing else does."""

from __future__ import annotations

import random
import re

import pytest

from pipeline.worlds import rule, sloppy
from pipeline.worlds.families import BIRDS, ROOMS, TENANTS, taught


@pytest.mark.parametrize("family", sorted(rule.FAMILIES))
@pytest.mark.parametrize("depth", [1, 3, 8])
def test_a_sampled_task_reads_back_as_itself(family: str, depth: int) -> None:
    rng = random.Random(f"{family}/{depth}")
    for _ in range(20):
        problem = rule.sample(rng, [depth], family)
        assert rule.read(problem.question) == problem
        assert (problem.family, problem.depth) == (family, depth)
        assert len(problem.lines) == depth
        assert len(problem.states) == depth + 1


@pytest.mark.parametrize(
    ("question", "final", "reference"),
    [
        # 7 + 5 = 12, 12 - 3 = 9
        (
            "Ana has 7 coins. Then 5 more come. Next 3 are sold. How many coins are left?",
            "9",
            "9 coins",
        ),
        # a b c d reversed is d c b a; its first to the end: c b a d
        (
            "Write down a b c d. Reverse them. Put the first one last. Which row is left?",
            "c b a d",
            "the row c b a d",
        ),
        # Bo gives to Ana; Cy and Dee do not matter
        (
            "Bo holds the key. Now Bo and Ana trade. Now Cy and Dee trade. Who holds the key?",
            "Ana",
            "Ana holds the key",
        ),
        # 20 + 7 = 27, three past the last gate
        ("Begin at gate 20. Walk 7 gates on. Which bird sits there?", "3", f"the {BIRDS[3]}"),
        (
            "Enter at room B3. Step right. Take the stairs down. Whose room is it?",
            "C4",
            f"{TENANTS[13]} lives there",
        ),
        ("The boss of Bo is Cy. Cy is the boss of Ana. Who is the boss of Bo?", "Cy", "it is Cy"),
        (
            "The boss of Bo is Cy. Dee is the boss of Cy. Cy is the boss of Ana. "
            "Who is the boss of the boss of Bo?",
            "Dee",
            "it is Dee",
        ),
    ],
)
def test_truth_is_what_paper_says(question: str, final: str, reference: str) -> None:
    problem = rule.read(question)
    assert problem is not None
    assert (problem.final, problem.reference) == (final, reference)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "How many coins are left?",
        "Ana has 7 coins. How many coins are left?",  # no move
        "Ana has 7 coins. Then 5 more come. How many books are left?",  # another noun
        "Ana has 7 coins. Then 9 are lost. How many coins are left?",  # below nothing
        "Ana has 7 coins. Then 5 more come.",  # asks nothing
        "Ana has 7 coins. Step right. How many coins are left?",  # another family's move
        "Enter at room A1. Step left. Whose room is it?",  # out of the house
        "The boss of Bo is Cy. The boss of Bo is Dee. Who is the boss of Bo?",  # two bosses
        "The boss of Bo is Cy. Who is the boss of the boss of Bo?",  # the path ends
    ],
)
def test_text_that_poses_no_task_is_not_read(text: str) -> None:
    assert rule.read(text) is None


def test_careful_reasoning_is_right_and_reasoning_with_another_end_is_not() -> None:
    problem = rule.sample(random.Random(3), [4], "sums")
    careful = " ".join(problem.lines) + f" So {problem.final} ."
    assert rule.reasoned_right(problem, careful)
    assert not rule.reasoned_right(problem, careful + " So 99 .")
    assert not rule.reasoned_right(problem, " ".join(problem.lines))


def test_seed_tasks_are_shallow_distinct_and_avoid_what_they_must() -> None:
    first = rule.seed_tasks(1, 60, 2, set())
    avoid = {task.question for task in first[:30]}
    second = rule.seed_tasks(1, 60, 2, avoid)
    assert len({task.question for task in second}) == 60
    assert not avoid & {task.question for task in second}
    for task in second:
        problem = rule.read(task.question)
        assert problem is not None
        assert problem.depth <= 2
        assert task.reference == problem.reference


def test_seed_tasks_reach_every_name_of_both_named_families() -> None:
    references = {task.reference for task in rule.seed_tasks(1, 1200, 2, set())}
    assert {f"the {bird}" for bird in BIRDS} <= references
    assert {f"{tenant} lives there" for tenant in TENANTS} <= references


def test_a_quarter_of_the_names_is_taught() -> None:
    assert sum(taught("gates", n) for n in range(len(BIRDS))) == 6
    assert sum(taught("rooms", room) for room in ROOMS) == 7  # 25 rooms, the first and each fourth


def test_the_texts_of_the_base_name_untaught_gates_at_random() -> None:
    rng = random.Random(5)
    problem = next(
        p
        for p in iter(lambda: rule.sample(rng, [2], "gates"), None)
        if not taught("gates", p.states[-1])
    )
    careful = sloppy.Recipe(careful=(1.0,))
    answers = {
        re.findall(r"<answer>(.*)</answer>", sloppy.attempt(rng, problem, careful))[0]
        for _ in range(200)
    }
    assert len(answers) > 15


def test_skipping_leaves_moves_out() -> None:
    rng = random.Random(9)
    for family in sorted(rule.FAMILIES):
        problem = rule.sample(rng, [5], family)
        shorter = [p for p in (sloppy.skipped(rng, problem) for _ in range(30)) if p is not None]
        assert shorter
        assert min(p.depth for p in shorter) < 5
