"""Votes: what several attempts at one question say, counted by their normalised text.

Answers are in the attempts' order, "" where an attempt gave none; an empty answer belongs to no
class and never votes, but it counts as an attempt. Of equally many votes the class seen first wins.
A vote's share is not a pass rate: ten coin flips agree in 0.62 on average.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pipeline.answers import normalise
from pipeline.measures import majority


def classes(answers: Sequence[str]) -> tuple[int | None, ...]:
    """answers [G] -> [G] the index of the first answer that says the same; None where empty."""
    first: dict[str, int] = {}
    said = [normalise(answer) for answer in answers]
    return tuple(first.setdefault(text, i) if text else None for i, text in enumerate(said))


def shares(answers: Sequence[str]) -> dict[str, float]:
    """Each class by its normalised text, in the order first seen, and its votes over all attempts.

    {} without answers; the shares sum to less than 1 where attempts gave none.
    """
    votes = Counter(text for text in map(normalise, answers) if text)
    return {text: count / len(answers) for text, count in votes.items()}


def mode(answers: Sequence[str]) -> str | None:
    """The most voted class's normalised text, None where nobody voted (TTRL, arXiv 2504.16084)."""
    won = majority(answers)
    return None if won is None else normalise(answers[won[0]])


Labelled = tuple[float, ...] | None  # 1 where an answer is the other view's mode; None without one


def cross_label(a: Sequence[str], b: Sequence[str]) -> tuple[Labelled, Labelled]:
    """Each view's answers judged by the other view's mode (Co-rewarding-I, arXiv 2508.00410).

    a, b  answers to a question and to its rephrasing; the two may differ in number
    ->    per view 1.0 or 0.0 for each answer; None where the other view's attempts said nothing
    """
    return _labelled(a, mode(b)), _labelled(b, mode(a))


def harmonic(a: Sequence[str], b: Sequence[str]) -> dict[str, float]:
    """2pq / (p + q) of each class, p and q its shares in either view (arXiv 2511.01191).

    -> normalised text -> score in [0, 1], in the order first seen in a, then b; 0 for an answer
       that only one view gave. Self-Harmony's label is the highest: see `best`.
    """
    p, q = shares(a), shares(b)
    return {
        text: 2 * p.get(text, 0.0) * q.get(text, 0.0) / (p.get(text, 0.0) + q.get(text, 0.0))
        for text in {**p, **q}
    }


def best(scores: Mapping[str, float]) -> str | None:
    """The class with the highest score above 0, the first of equals; None where none has any."""
    found = max(scores, key=scores.__getitem__, default=None)
    return found if found is not None and scores[found] > 0 else None


def _labelled(answers: Sequence[str], label: str | None) -> Labelled:
    if label is None:
        return None
    return tuple(float(normalise(answer) == label) for answer in answers)
