"""Lettered options in a question, and references brought to "letter. text".

An option is a line that begins with a letter and one of `.`, `)`, `:`, as in "A. yes", "a) yes",
"(A) yes" and "A: yes". Options run from the first letter on without a gap, all in one style; a
question that shows two such sets (a letter of each is asked for) has no one set to convert by.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.text.answers import normalise

Converted = Literal["letter", "text"]

_MARK = re.compile(
    r"^[ \t]*(?P<open>[(\[]?)(?P<letter>[A-Za-z])(?P<close>[)\].:]{1,2})[ \t]+(?=\S)"
)
_LETTER = re.compile(r"[(\[]?(?P<letter>[A-Za-z])[)\].:]{0,2}")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Option:
    """One option as the question shows it; its text is on one line."""

    letter: str
    text: str

    def told(self) -> str:
        """Letter and text together, as a reference states them."""
        return f"{self.letter}. {self.text}"


def options_of(question: str) -> tuple[Option, ...]:
    """The question's lettered options in order; () where there are none, or more than one set."""
    lines = question.split("\n")
    runs: list[list[tuple[int, re.Match[str]]]] = []
    for seat, line in enumerate(lines):
        mark = _MARK.match(line)
        if mark is None:
            continue
        if mark["letter"] in "Aa":
            runs.append([(seat, mark)])
        elif runs and _continues(runs[-1][-1][1], mark):
            runs[-1].append((seat, mark))
    sets = [run for run in runs if len(run) > 1]
    if len(sets) != 1:
        return ()
    ends = [seat for seat, _ in sets[0][1:]] + [_paragraph_end(lines, sets[0][-1][0])]
    return tuple(
        Option(mark["letter"], " ".join("\n".join(lines[seat:end])[mark.end() :].split()))
        for (seat, mark), end in zip(sets[0], ends, strict=True)
    )


def with_options(question: str, options: Sequence[str]) -> str:
    """The question with its options below it, lettered from A on. At most 26."""
    lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, options, strict=False)]
    return "\n".join([question.rstrip(), "", *lines])


def letter_text(question: str, reference: str) -> tuple[str, Converted | None]:
    """The reference as "letter. text" of the one option it names by its letter or its text.

    -> the reference and what it was; the reference as it came and None where it says both
    already, or names no option or several ("C" where option A reads "C" names two)
    """
    said, bare = normalise(reference), _LETTER.fullmatch(reference.strip())
    letter = bare["letter"].casefold() if bare else ""
    options = options_of(question)
    named = {one: _called(one, letter, said) for one in options if _called(one, letter, said)}
    if len(named) != 1:
        return reference, None
    ((option, how),) = named.items()
    return option.told(), how


def _called(option: Option, letter: str, said: str) -> Converted | None:
    """How a reference names the option, if it does."""
    if letter and option.letter.casefold() == letter:
        return "letter"
    return "text" if said and normalise(option.text) == said else None


def _continues(last: re.Match[str], mark: re.Match[str]) -> bool:
    same = (last["open"], last["close"]) == (mark["open"], mark["close"])
    return same and ord(mark["letter"]) == ord(last["letter"]) + 1


def _paragraph_end(lines: Sequence[str], seat: int) -> int:
    """Index behind the paragraph that begins on a line: what follows it is no option's text."""
    blank = (n for n in range(seat, len(lines)) if not lines[n].strip())
    return next(blank, len(lines))
