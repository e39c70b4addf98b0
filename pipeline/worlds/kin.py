"""The family `kin`: a small document of facts in shuffled order, and a question some hops deep.

A later fact about someone replaces an earlier one, and whoever has nobody above stays: so every
document of one bond is well posed.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from itertools import pairwise

from pipeline.worlds.chains import Problem
from pipeline.worlds.families import PEOPLE

BONDS = ("teacher", "boss")
FACTS = ("The {bond} of {a} is {b}.", "As {bond} {a} has {b}.")
ASKED = "Who is {depth} times the {bond} above {start}?"
DISTRACTORS = 2
REPLACED = 0.25  # share of documents in which somebody's first fact is replaced by a later one
TOPPED = 0.2  # share that ends before the hops do


@dataclass(frozen=True, slots=True)
class Kin:
    """Follow one bond from person to person; facts off the path stand among the others."""

    name: str = "kin"

    def sample(self, rng: random.Random, depth: int) -> Problem:
        """A document of about depth + 2 facts, and its question.

        Fewer when people run out or the path ends early, one more where a fact is replaced.
        """
        people = rng.sample(PEOPLE, min(depth + 1 + DISTRACTORS, len(PEOPLE)))
        bond = rng.choice(BONDS)
        path, others = people[: depth + 1], people[depth + 1 :]
        pairs = list(pairwise(path))
        if depth > 1 and rng.random() < TOPPED:
            del pairs[rng.randrange(1, depth) :]
        pairs += [(other, rng.choice(path)) for other in others]
        rng.shuffle(pairs)
        if rng.random() < REPLACED:
            place = rng.randrange(len(pairs))
            replaced = (pairs[place][0], rng.choice(people))
            pairs.insert(rng.randint(0, place), replaced)
        facts = [rng.choice(FACTS).format(bond=bond, a=a, b=b) for a, b in pairs]
        question = " ".join([*facts, ASKED.format(depth=depth, bond=bond, start=path[0])])
        problem = self.read(question)
        if problem is None:
            raise AssertionError(f"kin cannot read its own task: {question}")
        return problem

    def read(self, question: str) -> Problem | None:
        """The task a text poses, or None: facts of one bond about known people, then a question."""
        asked = re.search(r"Who is ([1-9]) times the (\w+) above (\w+)\?$", question)
        if asked is None or asked[2] not in BONDS or asked[3] not in PEOPLE:
            return None
        bond, depth = asked[2], int(asked[1])
        bonds = self._facts(question[: asked.start()], bond)
        if bonds is None:
            return None
        path = [asked[3]]
        for _ in range(depth):
            path.append(bonds.get(path[-1], path[-1]))
        pairs = pairwise(path)
        lines = tuple(f"({i}) {a} to {b} ." for i, (a, b) in enumerate(pairs, 1))
        return Problem("kin", depth, question, tuple(path), lines, path[-1], f"it is {path[-1]}")

    def _facts(self, text: str, bond: str) -> dict[str, str] | None:
        bonds: dict[str, str] = {}
        for sentence in re.findall(r"[^.]+\. ", text):
            fact = re.fullmatch(rf"(?:The {bond} of|As {bond}) (\w+) (?:is|has) (\w+)\. ", sentence)
            if fact is None:
                return None
            a, b = fact[1], fact[2]
            if a not in PEOPLE or b not in PEOPLE:
                return None
            bonds[a] = b
        return bonds if "".join(re.findall(r"[^.]+\. ", text)) == text and bonds else None
