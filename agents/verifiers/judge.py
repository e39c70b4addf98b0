"""Whether the proxy, asked in plain words, holds an answer to say what the reference says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agents.verifiers.readings import Sheet
from agents.verifiers.tools import Tools
from agents.verifiers.verdicts import yes
from pipeline.types import Group, Reading, Task, Transcript

# A changed text is another judge: raise the number with it.
WORDING = "judge-1"
PLEA = (
    "Question: {question}\nReference answer: {reference}\nProposed answer: {answer}\n"
    "Is the proposed answer correct? Say Yes or No.\n"
)


@dataclass(frozen=True, slots=True)
class Judge:
    """P("Yes") / (P("Yes") + P("No")) when asked whether the answer says what the reference says.

    values  (share of yes,)  in [0, 1]; one look, nothing is sampled
    detail  the wording asked, which is another judge's where it changes
    status  "malformed" without two blocks, "too_long" where what is asked exceeds the context,
            "not_measured" without a reference, "score_error" where the share is not finite

    Asked: the proxy, with question, reference and answer, never the reasoning. Of several
    references it reads the first only. Source: GenRM, arXiv 2408.15240, without a rationale.
    """

    tools: Tools
    source = "judge"

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        """ "malformed" without two blocks, "too_long" where what is asked exceeds the context."""
        sheet = Sheet(self.source, self.tools.proxy.version)
        asked = [
            [
                PLEA.format(
                    question=group.task.question, reference=group.task.reference, answer=t.final
                )
                for t in group.transcripts
                if t.form == "ok" and group.task.reference
            ]
            for group in groups
        ]
        found = [iter(shares) for shares in yes(self.tools, asked)]
        return [
            tuple(self._one(sheet, group.task, t, shares) for t in group.transcripts)
            for group, shares in zip(groups, found, strict=True)
        ]

    def _one(
        self, sheet: Sheet, task: Task, attempt: Transcript, shares: Iterator[float | None]
    ) -> Reading:
        if attempt.form != "ok":
            return sheet.malformed(attempt)
        if not task.reference:
            return sheet.not_measured("the task has no reference")
        share = next(shares)
        if share is None:
            return sheet.too_long(self.tools.context)
        return sheet.measured((share,), detail=WORDING)
