"""The rule world: six families of text tasks whose truth is computed, never stored with a task.

Seed tasks carry their reference, as a human's would. Everything else here is truth and is asked
by probes alone: `read` (is this text a well-posed task, and what is its answer), `right` and
`reasoned_right`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from pipeline.text.answers import matches
from pipeline.types import Task
from pipeline.worlds.chains import Chain, Problem
from pipeline.worlds.families import CHAINS, NAMED_FAMILIES
from pipeline.worlds.kin import Kin

FAMILIES: dict[str, Chain | Kin] = {**CHAINS, "kin": Kin()}
NAMED = NAMED_FAMILIES


def read(question: str) -> Problem | None:
    """The well-posed task a text poses, with its truth, or None."""
    for family in FAMILIES.values():
        problem = family.read(question)
        if problem is not None:
            return problem
    return None


def right(problem: Problem, answer: str) -> bool:
    """True where an answer says what the reference says, up to case and punctuation."""
    return matches(answer, problem.reference)


def concluded(reasoning: str) -> str | None:
    """The state that reasoning ends on: what follows the last "So", or None."""
    found = re.findall(r"\bSo ([^.]+?) \.", reasoning)
    return found[-1] if found else None


def reasoned_right(problem: Problem, reasoning: str) -> bool:
    """True where reasoning concludes with the true last state, whatever the answer says."""
    return concluded(reasoning) == problem.final


def sample(rng: random.Random, depths: Sequence[int], family: str | None = None) -> Problem:
    """A task of a random family, or of the one named, at a depth drawn from `depths`."""
    name = family or rng.choice(sorted(FAMILIES))
    return FAMILIES[name].sample(rng, rng.choice(list(depths)))


def sample_distinct(
    rng: random.Random, count: int, depths: Sequence[int], avoid: set[str]
) -> list[Problem]:
    """`count` tasks, families in turn, with questions neither repeated nor in `avoid`."""
    problems: list[Problem] = []
    taken = set(avoid)
    names = sorted(FAMILIES)
    while len(problems) < count:
        problem = sample(rng, depths, names[len(problems) % len(names)])
        if problem.question not in taken:
            taken.add(problem.question)
            problems.append(problem)
    return problems


def seed_tasks(seed: int, count: int, deepest: int, avoid: set[str]) -> list[Task]:
    """Seed tasks of depth 1 to `deepest` with their references; none of `avoid`."""
    rng = random.Random(f"seed-tasks/{seed}")
    problems = sample_distinct(rng, count, range(1, deepest + 1), avoid)
    return [
        Task(id=f"seed-{i:05d}", question=p.question, reference=p.reference, origin="rule")
        for i, p in enumerate(problems)
    ]
