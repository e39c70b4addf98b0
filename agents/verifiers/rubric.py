"""Which items of a rubric the proxy, asked in plain words, holds an attempt to meet.

The items are verifier.rubric's; their weights are the reward's business (RaR, arXiv 2507.17746).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.verifiers.readings import Sheet
from agents.verifiers.tools import Tools
from agents.verifiers.verdicts import yes
from pipeline.types import Group, Reading, Task, Transcript

# A changed text is another judge: raise the number with it.
WORDING = "rubric-1"
PLEA = (
    "Question: {question}\nReasoning: {reasoning}\nAnswer: {answer}\nCriterion: {item}\n"
    "Do reasoning and answer meet the criterion? Say Yes or No.\n"
)


@dataclass(frozen=True, slots=True)
class Rubric:
    """P("Yes") / (P("Yes") + P("No")) for each item of verifier.rubric: does the attempt meet it.

    values  [items]  shares of yes, in [0, 1], in the rubric's order; nothing is sampled
    detail  the wording asked, which is another judge's where it changes
    status  "malformed" without two blocks, "too_long" where one item's text exceeds the context,
            "score_error" where a share is not finite

    Asked: the proxy, with question, reasoning and answer, never a reference. Raises ValueError
    where the rubric has no item. Source: RaR, arXiv 2507.17746, each item asked by itself.
    """

    tools: Tools
    source = "rubric"

    def __post_init__(self) -> None:
        if not self.tools.config.rubric:
            raise ValueError("verifier.rubric is empty; give it at least one item")

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        """ "malformed" without two blocks, "too_long" where one item's text exceeds the context."""
        sheet = Sheet(self.source, self.tools.proxy.version)
        asked = [
            self._pleas(group.task, transcript)
            for group in groups
            for transcript in group.transcripts
            if transcript.form == "ok"
        ]
        found = iter(yes(self.tools, asked))
        return [
            tuple(
                self._one(sheet, next(found)) if t.form == "ok" else sheet.malformed(t)
                for t in group.transcripts
            )
            for group in groups
        ]

    def _pleas(self, task: Task, attempt: Transcript) -> list[str]:
        return [
            PLEA.format(
                question=task.question,
                reasoning=attempt.first,
                answer=attempt.final,
                item=item,
            )
            for item in self.tools.config.rubric
        ]

    def _one(self, sheet: Sheet, shares: Sequence[float | None]) -> Reading:
        known = tuple(share for share in shares if share is not None)
        if len(known) < len(shares):
            return sheet.too_long(self.tools.context)
        return sheet.measured(known, detail=WORDING)
