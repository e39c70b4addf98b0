"""The meter "vote": what an answer's siblings say to it (TTRL, arXiv 2504.16084).

It needs no reference and knows no truth: where most attempts err alike, it pays the error.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.text.votes import classes, counts, majority
from pipeline.types import Group, Reading

# normalisation folds as this release of Unicode does
VERSION = f"unicode {unicodedata.unidata_version}"


@dataclass(frozen=True, slots=True)
class Vote:
    """Whether the answer is the one that most of the G attempts of its group give.

    values  (agrees, own share, mode's share)
            agrees  1 where the answer is of the most voted class, the first seen of equals, else 0
            shares  votes of the answer's own class and of the most voted one over G, in (0, 1]
    status  "malformed" without two blocks, or where the answer is empty once normalised: such an
            attempt never votes, but counts in G

    No weights are asked and no reference is read; where most err alike, the error wins. The version
    names the release of Unicode that normalises. Source: TTRL, arXiv 2504.16084.
    """

    source: str = field(default="vote", init=False)
    version: str = field(default=VERSION, init=False)

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        """A reading of each rollout, in order."""
        return [self._group(group) for group in groups]

    def _group(self, group: Group) -> tuple[Reading, ...]:
        answers = [t.final if t.form == "ok" else "" for t in group.transcripts]
        votes, won = counts(answers), majority(answers)
        return tuple(
            Reading("vote", VERSION, "malformed", detail=_why(form))
            if own is None or won is None
            else Reading(
                "vote",
                VERSION,
                "measured",
                (float(own == won[0]), votes[own] / len(answers), won[1]),
            )
            for own, form in zip(classes(answers), (t.form for t in group.transcripts), strict=True)
        )


def _why(form: str) -> str:
    return "the answer says nothing" if form == "ok" else form
