"""Votes: what several attempts at one question say, counted by their normalised text.

Answers are in the attempts' order, "" where an attempt gave none; an empty answer belongs to no
class and never votes, but it counts as an attempt. Of equally many votes the class seen first wins.
A vote's share is not a pass rate: ten coin flips agree in 0.62 on average.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pipeline.text.answers import normalise


def classes(answers: Sequence[str]) -> tuple[int | None, ...]:
    """answers [G] -> [G] the index of the first answer that says the same; None where empty."""
    first: dict[str, int] = {}
    said = [normalise(answer) for answer in answers]
    return tuple(first.setdefault(text, i) if text else None for i, text in enumerate(said))


def counts(answers: Sequence[str]) -> dict[int, int]:
    """Each class by the index of its first answer, in the order first seen, and its votes."""
    return dict(Counter(own for own in classes(answers) if own is not None))


def majority(answers: Sequence[str]) -> tuple[int, float] | None:
    """Index of the first answer of the most voted class, and its votes over all attempts.

    None where nobody voted. Source: TTRL, arXiv 2504.16084.
    """
    votes = counts(answers)
    if not votes:
        return None
    winner = max(votes, key=votes.__getitem__)  # of equals the first seen
    return winner, votes[winner] / len(answers)


def mode(answers: Sequence[str]) -> str | None:
    """The most voted class's normalised text, None where nobody voted."""
    won = majority(answers)
    return None if won is None else normalise(answers[won[0]])


Labelled = tuple[float, ...] | None  # 1 where an answer is the other view's mode; None without one


def cross_label(a: Sequence[str], b: Sequence[str]) -> tuple[Labelled, Labelled]:
    """Each view's answers judged by the other view's mode (Co-rewarding-I, arXiv 2508.00410).

    a, b  answers to a question and to its rephrasing; the two may differ in number
    ->    per view 1.0 or 0.0 for each answer; None where the other view's attempts said nothing

    For a meter of runs that attempt each question in two wordings; the reward co_reward is its
    sibling, whose votes a slower copy of the policy casts.
    """
    return _labelled(a, mode(b)), _labelled(b, mode(a))


def _labelled(answers: Sequence[str], label: str | None) -> Labelled:
    if label is None:
        return None
    return tuple(float(normalise(answer) == label) for answer in answers)
