"""Yes or no to a question put in plain words: how much of both an engine gives to yes.

P("Yes") / (P("Yes") + P("No")) right behind the question, without a rationale (GenRM,
arXiv 2408.15240). Nothing is sampled, so there is nothing to parse and no seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from agents.verifiers.tools import Tools
from pipeline.ports import ScoreRequest


def yes(tools: Tools, families: Sequence[Sequence[str]]) -> list[list[float | None]]:
    """Per family of questions, per question: the share of yes under the proxy, in [0, 1].

    What the questions of a family begin with is read once. None where a question does not fit the
    context; NaN where the engine gave no usable number.
    """
    said = tuple(tools.prompts.plain(word) for word in ("Yes", "No"))
    room = tools.context - max(map(len, said))
    asked = [[tools.prompts.plea(text) for text in family] for family in families]
    requests = []
    for family in asked:
        fitting = [ids for ids in family if len(ids) <= room]
        shared = _shared(fitting)
        requests.append(
            ScoreRequest(
                fitting[0][:shared] if fitting else (),
                tuple(ids[shared:] for ids in fitting),
                (said,) * len(fitting),
            )
        )
    answers = iter([row for scores in tools.proxy.score(requests) for row in scores])
    return [
        [_share(*next(answers)) if len(ids) <= room else None for ids in family] for family in asked
    ]


def _shared(rows: Sequence[tuple[int, ...]]) -> int:
    """How many ids all rows begin with; 0 of none."""
    if not rows:
        return 0
    low, high = min(rows), max(rows)  # what the outermost share, those between them do
    pairs = enumerate(zip(low, high, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(low), len(high)))


def _share(yes: Sequence[float], no: Sequence[float]) -> float:
    gap = math.fsum(no) - math.fsum(yes)
    return 1.0 / (1.0 + math.exp(min(gap, 700.0)))
