"""How probable each answer of a group is under each of its reasonings.

The rows of one group are the matrix that consensus averages; a reward may read an attempt's own
answer against its siblings' from it without a reference.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from agents.verifiers.readings import Sheet
from agents.verifiers.reasonings import Asked, Logprobs, Reasonings, candidates
from agents.verifiers.tools import Tools
from pipeline.text.answers import normalise
from pipeline.types import Group, Reading


@dataclass(frozen=True, slots=True)
class Cross:
    """ln P(answer and closing tag | question, this attempt's reasoning), of the group's answers.

    values  [candidates]  at most 0, in nats, a sum over tokens; of each distinct answer, the most
                          frequent first, verifier.candidates of them at most
    at      (index of its own answer among them,), () where it is not
    detail  the answers, as a JSON list
    status  "malformed" without two blocks, "too_long" where the longest answer does not fit the
            context, "not_measured" where fewer than half of the group's attempts are well formed,
            "score_error" where a number is not finite

    Asked: the proxy. No reference is read. Source: this project; the rows of a group are the matrix
    that its consensus averages.
    """

    tools: Tools
    source = "cross"

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        """ "malformed" without two blocks, "too_long" where the longest answer does not fit,
        "not_measured" where fewer than half of the group's attempts are well formed."""
        tools = self.tools
        sheet = Sheet(self.source, tools.proxy.version)
        found = [candidates(group, tools.config.candidates) for group in groups]
        asked = [Asked(g, c, bare=False) for g, c in zip(groups, found, strict=True) if c]
        tables = iter(Reasonings(tools.proxy, tools.prompts, tools.context).score(asked))
        return [
            tuple(self._one(sheet, group, i, answers, rows.get(i)) for i in seats)
            for group, answers in zip(groups, found, strict=True)
            for rows, seats in [(next(tables) if answers else {}, range(len(group.rollouts)))]
        ]

    def _one(
        self,
        sheet: Sheet,
        group: Group,
        seat: int,
        answers: tuple[str, ...],
        rows: tuple[Logprobs, ...] | None,
    ) -> Reading:
        transcript = group.transcripts[seat]
        if transcript.form != "ok":
            return sheet.malformed(transcript)
        if not answers:
            return sheet.not_measured("fewer than half of the attempts are well formed")
        if rows is None:
            return sheet.too_long(self.tools.context)
        keys = [normalise(answer) for answer in answers]
        own = normalise(transcript.final)
        return sheet.measured(
            tuple(min(math.fsum(row), 0.0) for row in rows),
            at=(keys.index(own),) if own in keys else (),
            detail=json.dumps(answers, ensure_ascii=False),
        )
