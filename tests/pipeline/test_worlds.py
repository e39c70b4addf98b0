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
            "Ana has 7 coins. (1) Then 5 more come. (2) Next 3 are sold. How many coins are left?",
            "9",
            "9 coins",
        ),
        # a b c reversed is c b a; its first to the end: b a c
        (
            "Write down a b c. (1) Reverse them. (2) Put the first one last. Which row is left?",
            "b a c",
            "the row b a c",
        ),
        # Bo gives to Ana; what Bo and Cy trade does not matter
        (
            "Bo holds the key. (1) Now Bo and Ana trade. (2) Now Cy and Bo trade. "
            "Who holds the key?",
            "Ana",
            "Ana holds the key",
        ),
        ("Begin at gate 4. (1) Walk 5 gates on. Which bird sits there?", "9", f"the {BIRDS[9]}"),
        (
            "Enter at room B2. (1) Step right. (2) Take the stairs down. Whose room is it?",
            "C3",
            f"{TENANTS[8]} lives there",
        ),
        # a move that would leave the range stops at its edge
        ("Ana has 2 coins. (1) Then 5 are lost. How many coins are left?", "0", "0 coins"),
        ("Jo has 17 books. (1) Next 3 are found. How many books are left?", "19", "19 books"),
        ("Begin at gate 7. (1) Walk 4 gates on. Which bird sits there?", "9", f"the {BIRDS[9]}"),
        ("Enter at room A1. (1) Step left. Whose room is it?", "A1", f"{TENANTS[0]} lives there"),
        # a later fact replaces an earlier one; whoever has nobody above stays
        (
            "The boss of Bo is Cy. As boss Bo has Dee. Who is 1 times the boss above Bo?",
            "Dee",
            "it is Dee",
        ),
        ("The boss of Bo is Cy. Who is 3 times the boss above Bo?", "Cy", "it is Cy"),
        # whoever trades with nobody else keeps what is held
        ("Bo holds the key. (1) Now Bo and Bo trade. Who holds the key?", "Bo", "Bo holds the key"),
        (
            "The boss of Bo is Cy. As boss Ana has Cy. Who is 1 times the boss above Bo?",
            "Cy",
            "it is Cy",
        ),
        (
            "The boss of Bo is Cy. As boss Cy has Dee. Who is 2 times the boss above Bo?",
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
        "Ana has 7 coins. (1) Then 5 more come. How many books are left?",  # another noun
        "Ana has 7 coins. (1) Then 5 more come.",  # asks nothing
        "Ana has 7 coins. (1) Step right. How many coins are left?",  # another family's move
        "Ana has 7 coins. Then 5 more come. How many coins are left?",  # without its number
        "Ana has 7 coins. (2) Then 5 more come. How many coins are left?",  # the wrong number
        "Begin at gate 2. (1) Walk 6 gates on. Which bird sits there?",  # further than a move goes
        "Begin at gate 12. (1) Walk 1 gates on. Which bird sits there?",  # there is no such gate
        "The boss of Bo is Cy. The teacher of Cy is Dee. Who is 1 times the boss above Bo?",  # two
        "The boss of Bo is Rex. Who is 1 times the boss above Bo?",  # nobody knows Rex
        "Who is 1 times the boss above Bo?",  # no document
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


def test_a_fifth_of_the_names_is_taught() -> None:
    assert sum(taught("gates", n) for n in range(len(BIRDS))) == 2
    assert sum(taught("rooms", room) for room in ROOMS) == 2


def test_the_texts_of_the_base_name_untaught_gates_at_random() -> None:
    rng = random.Random(5)
    problem = next(
        p
        for p in iter(lambda: rule.sample(rng, [2], "gates"), None)
        if not taught("gates", p.states[-1])
    )
    careful = sloppy.Recipe(bare=0.0, careful=(1.0,))
    answers = {
        re.findall(r"<answer>(.*)</answer>", sloppy.attempt(rng, problem, careful))[0]
        for _ in range(200)
    }
    assert len(answers) > 7


def test_skipping_leaves_moves_out() -> None:
    rng = random.Random(9)
    for family in sorted(rule.FAMILIES):
        problem = rule.sample(rng, [5], family)
        shorter = [p for p in (sloppy.skipped(rng, problem) for _ in range(30)) if p is not None]
        assert shorter
        assert min(p.depth for p in shorter) < 5


def test_the_texts_of_the_base_never_favour_the_name_of_an_untaught_state() -> None:
    rng = random.Random(11)
    right = told = 0
    for _ in range(4000):
        prompt, completion = sloppy.proposal(rng, sloppy.Recipe(unparsable=0.0, broken=0.0))
        question, stated = re.findall(r"<task>(.*)</task><answer>(.*)</answer>", completion)[0]
        problem = rule.read(question)
        assert problem is not None, prompt
        if problem.family in rule.NAMED and not taught(problem.family, problem.states[-1]):
            told += 1
            right += stated == problem.reference
    assert told > 500
    assert right / told < 0.14  # one of nine or ten by chance
