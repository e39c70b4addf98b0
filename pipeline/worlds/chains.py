"""A family of chain tasks: a start, numbered moves, a question about where they lead.

A family is data: wordings with slots, and what each move does to the state. The same wordings are
read back as patterns, so any text, a proposal's too, either is a well-posed task of the family,
with its truth, or is not. Right reasoning has a line per move, under the move's number.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

State = int | str | tuple[str, ...]
Slots = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Problem:
    """A task with everything a rule can tell of it. Truth: training never holds one.

    states   [depth + 1]  the state after each move, the start first
    lines    [depth]      a right line of reasoning per move
    final    how reasoning names the last state
    reference  the answer, in free text
    """

    family: str
    depth: int
    question: str
    states: tuple[State, ...]
    lines: tuple[str, ...]
    final: str
    reference: str


@dataclass(frozen=True, slots=True)
class Move:
    """One kind of move: its wordings, how to draw its slots, what it does, how reasoning shows it.

    apply returns None where the slots, read from a text, are none that the move knows.
    """

    wordings: tuple[str, ...]
    draw: Callable[[random.Random], Slots]
    apply: Callable[[State, Slots], State | None]
    show: Callable[[State, Slots, State], str]


@dataclass(frozen=True, slots=True)
class Chain:
    """A family of chain tasks."""

    name: str
    openings: tuple[str, ...]
    moves: tuple[Move, ...]
    queries: tuple[str, ...]
    draw: Callable[[random.Random], Slots]
    start: Callable[[Slots], State | None]
    name_state: Callable[[State], str]
    refer: Callable[[State, Slots], str]
    patterns: dict[str, re.Pattern[str]] = field(default_factory=dict, compare=False)

    def sample(self, rng: random.Random, depth: int) -> Problem:
        """A well-posed task of `depth` moves, in random wordings."""
        slots = self.draw(rng)
        sentences = [rng.choice(self.openings).format(**slots)]
        for number in range(1, depth + 1):
            move = rng.choice(self.moves)
            drawn = move.draw(rng)
            sentences.append(f"({number}) {rng.choice(move.wordings).format(**drawn)}")
        sentences.append(rng.choice(self.queries).format(**slots))
        problem = self.read(" ".join(sentences))
        if problem is None:
            raise AssertionError(f"{self.name} cannot read its own task: {sentences}")
        return problem

    def read(self, question: str) -> Problem | None:
        """The task a text poses, or None where it is not a well-posed task of this family."""
        sentences = re.findall(r"[^.?]+[.?]", question)
        if len(sentences) < 3 or "".join(sentences) != question:
            return None
        sentences = [sentences[0], *(s[1:] for s in sentences[1:] if s[0] == " ")]
        slots = self._match(self.openings, sentences[0])
        asked = self._match(self.queries, sentences[-1])
        if slots is None or asked is None or any(slots.get(k) != v for k, v in asked.items()):
            return None
        state = self.start(slots)
        states, lines = [state], []
        for number, sentence in enumerate(sentences[1:-1], 1):
            mark = f"({number}) "
            if state is None or not sentence.startswith(mark):
                return None
            state, line = self._follow(state, sentence.removeprefix(mark))
            states.append(state)
            lines.append(mark + line)
        known = tuple(s for s in states if s is not None)
        if len(known) < len(states) or not lines:
            return None
        return Problem(
            family=self.name,
            depth=len(lines),
            question=question,
            states=known,
            lines=tuple(lines),
            final=self.name_state(known[-1]),
            reference=self.refer(known[-1], slots),
        )

    def _follow(self, state: State, sentence: str) -> tuple[State | None, str]:
        for move in self.moves:
            slots = self._match(move.wordings, sentence)
            if slots is not None:
                after = move.apply(state, slots)
                return after, "" if after is None else move.show(state, slots, after)
        return None, ""

    def _match(self, wordings: tuple[str, ...], sentence: str) -> Slots | None:
        for wording in wordings:
            if wording not in self.patterns:
                parts = re.split(r"\{(\w+)\}", wording)
                literal = [
                    re.escape(p) if i % 2 == 0 else f"(?P<{p}>[\\w ]+?)"
                    for i, p in enumerate(parts)
                ]
                self.patterns[wording] = re.compile("".join(literal))
            found = self.patterns[wording].fullmatch(sentence)
            if found:
                return found.groupdict()
        return None
