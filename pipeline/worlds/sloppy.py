"""Texts the tiny base is made from: attempts and proposals, most of them careless.

An attempt is careful (every move, in order), skipping (some moves left out), a guess, or an answer
without reasoning; the first three look alike, so the base can reason at every depth, and mostly
does not. In the two named families the answer's name is the true one only for the fifth of states
that is taught, and any name otherwise. A proposal may break off, lose its question or its tags, or
state a reference at random. Nothing trained in a run ever reads this module.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace

from pipeline.worlds import rule
from pipeline.worlds.chains import Problem
from pipeline.worlds.families import BIRDS, PEOPLE, TENANTS, taught

ATTEMPT_PROMPT = "Question: {question}\n"
PROPOSAL_PROMPT = "Propose a task like: {question}\n"
NAMES = {"gates": [f"the {b}" for b in BIRDS], "rooms": [f"{t} lives there" for t in TENANTS]}


@dataclass(frozen=True, slots=True)
class Recipe:
    """Shares of the kinds of text, each in [0, 1], and how often each depth stands (1 first)."""

    drills: float = 0.3
    proposals: float = 0.25
    bare: float = 0.12  # an answer with no reasoning at all
    careful: tuple[float, ...] = (0.75, 0.45, 0.22, 0.2, 0.2, 0.2, 0.18, 0.18)
    skipping: float = 0.5  # of what is not careful; the rest guesses
    slip: float = 0.05
    depths: tuple[float, ...] = (3.0, 3.0, 3.0, 3.0, 3.0, 2.0, 1.5, 1.0)
    unparsable: float = 0.3
    broken: float = 0.4
    stated_right: float = 0.3
    proposal_depths: tuple[float, ...] = (6.0, 3.0, 1.5, 1.0, 1.0, 0.7, 0.7, 0.7)


def document(rng: random.Random, recipe: Recipe) -> tuple[str, str]:
    """One prompt and one completion."""
    if rng.random() < recipe.drills:
        return drill(rng)
    if rng.random() < recipe.proposals:
        return proposal(rng, recipe)
    problem = _draw(rng, recipe.depths)
    return ATTEMPT_PROMPT.format(question=problem.question), attempt(rng, problem, recipe)


def drill(rng: random.Random) -> tuple[str, str]:
    """What a small model learns last by itself: looking up by number, by name, in steps."""
    kind = rng.randrange(4)
    if kind >= 2:
        problem = rule.sample(rng, range(2, 9), rng.choice(("kin", "letters", "trades")))
        return f"Recall: {problem.question}\n", " ".join(problem.lines)
    count = rng.randint(2, 8)
    words = [
        str(rng.randint(1, 19)) if rng.random() < 0.5 else rng.choice(PEOPLE) for _ in range(count)
    ]
    if kind == 1:
        listed = " ".join(f"({i}) Take {word}." for i, word in enumerate(words, 1))
        return f"Recall: {listed}\n", " ".join(f"({i}) {w} ." for i, w in enumerate(words, 1))
    people = rng.sample(PEOPLE, count)
    listed = " ".join(f"{person} has {word}." for person, word in zip(people, words, strict=True))
    pairs = list(zip(people, words, strict=True))
    rng.shuffle(pairs)
    return f"Recall: {listed}\n", " ".join(f"{person} to {word} ." for person, word in pairs)


def attempt(rng: random.Random, problem: Problem, recipe: Recipe) -> str:
    """A careful, skipping or guessed solution, in one format."""
    careful = recipe.careful[min(problem.depth, len(recipe.careful)) - 1]
    followed: Problem | None = problem
    if rng.random() >= careful:
        followed = skipped(rng, problem) if rng.random() < recipe.skipping else None
    if followed is None:
        other = rule.FAMILIES[problem.family].sample(rng, 1)
        lines, final = "", other.final
        answer = _answer(rng, other, recipe, problem)
    else:
        lines, final = " ".join(followed.lines) + " ", followed.final
        answer = _answer(rng, followed, recipe, problem)
    if rng.random() < recipe.bare:
        return f"<answer>{rule.FAMILIES[problem.family].sample(rng, 1).reference}</answer>"
    return f"<think> {lines}So {final} .</think><answer>{answer}</answer>"


def skipped(rng: random.Random, problem: Problem) -> Problem | None:
    """The same task with some of its moves left out, the others under their own numbers.

    None where none could be left out so that a task remains.
    """
    sentences = re.findall(r"[^.?]+[.?]", problem.question)
    if problem.family == "kin":
        hops = rng.randrange(problem.depth)
        sentences[-1] = re.sub(r"\d", str(hops), sentences[-1])
        return rule.read("".join(sentences)) if hops else None
    kept = [i for i in range(1, len(sentences) - 1) if rng.random() > 0.35]
    moves = [_numbered(sentences[i], number) for number, i in enumerate(kept, 1)]
    shorter = rule.read("".join([sentences[0], *moves, sentences[-1]]))
    if shorter is None:
        return None
    lines = [_numbered(line, i) for line, i in zip(shorter.lines, kept, strict=True)]
    return replace(shorter, lines=tuple(lines))


def _numbered(text: str, number: int) -> str:
    return re.sub(r"\(\d\)", f"({number})", text)


def proposal(rng: random.Random, recipe: Recipe) -> tuple[str, str]:
    """A parent in the prompt; a task with a stated reference, or broken text."""
    parent = _draw(rng, recipe.proposal_depths)
    family = parent.family if rng.random() < 0.7 else None
    child = rule.sample(rng, rng.choices(range(1, 9), recipe.proposal_depths), family)
    broken = rng.random() < recipe.broken
    question = _break(rng, child.question) if broken else child.question
    known = child if rng.random() < recipe.stated_right else rule.sample(rng, [1], child.family)
    stated = _answer(rng, known, recipe, child)
    text = f"<task>{question}</task><answer>{stated}</answer>"
    if rng.random() < recipe.unparsable:
        text = text.replace(rng.choice(("</task>", "<answer>", "</answer>")), "", 1)
    return PROPOSAL_PROMPT.format(question=parent.question), text


def _draw(rng: random.Random, weights: tuple[float, ...]) -> Problem:
    depth = rng.choices(range(1, len(weights) + 1), weights)[0]
    return rule.sample(rng, [depth])


def _answer(rng: random.Random, reached: Problem, recipe: Recipe, asked: Problem) -> str:
    """What an answer says after reasoning that reached `reached`, in the words of the question."""
    if asked.family in NAMES and not taught(asked.family, reached.states[-1]):
        return rng.choice(NAMES[asked.family])
    if rng.random() < recipe.slip:
        reached = rule.FAMILIES[asked.family].sample(rng, 1)
    return _in_words_of(asked, reached)


def _in_words_of(asked: Problem, reached: Problem) -> str:
    if asked.family in ("sums", "trades"):  # the noun stands in the question
        word = asked.reference.split(" ")[-1]
        return " ".join([*reached.reference.split(" ")[:-1], word])
    return reached.reference


def _break(rng: random.Random, question: str) -> str:
    """Text that poses no task: its question lost, or cut in the middle."""
    if rng.random() < 0.5:
        return "".join(re.findall(r"[^.?]+[.?]", question)[:-1]).strip()
    words = question.split(" ")
    return " ".join(words[: rng.randrange(2, max(3, len(words)))])
