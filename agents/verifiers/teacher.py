"""Whether an attempt's answer is the one that the slower copy of the policy votes for.

Co-rewarding-II (arXiv 2508.00410): the answers of the proxy's own attempts vote, so a policy that
drifts does not vote for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.prompts import Prompts
from agents.sampling import Ask, sample_groups
from agents.verifiers.readings import Sheet
from agents.verifiers.tools import Tools
from pipeline.seeds import seed_of
from pipeline.text.answers import matches
from pipeline.text.votes import majority
from pipeline.types import Group, Reading, Transcript


@dataclass(frozen=True, slots=True)
class Teacher:
    """Whether the answer is the one that most of the teacher's own attempts at the task give.

    values  (agrees, share)
            agrees  1 where the answer says what the vote does, else 0
            share   the vote's, of all the teacher's attempts, malformed ones included; in (0, 1]
    detail  the voted answer, in the wording first seen; the first of equal votes
    status  "malformed" without two blocks, "too_long" where no attempt fits behind the prompt,
            "not_measured" where no attempt of the teacher gave an answer

    Asked: the proxy, a slower copy of the policy, verifier.teacher_attempts times a task at
    temperature 1. No reference is read. Source: Co-rewarding-II, arXiv 2508.00410.
    """

    tools: Tools
    source = "teacher"

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        """ "malformed" without two blocks, "too_long" where no attempt fits behind the prompt,
        "not_measured" where no attempt of the teacher gave an answer.

        The teacher's seeds are of the group's id, so it answers anew in each step.
        """
        sheet = Sheet(self.source, self.tools.proxy.version)
        prompts = [self.tools.prompts.attempt(group.task.question) for group in groups]
        fits = [len(p) + self.tools.max_tokens <= self.tools.context for p in prompts]
        taught = iter(self._attempts([g for g, fit in zip(groups, fits, strict=True) if fit]))
        return [
            tuple(self._one(sheet, t, votes) for t in group.transcripts)
            for group, fit in zip(groups, fits, strict=True)
            for votes in [next(taught) if fit else None]
        ]

    def _attempts(self, groups: Sequence[Group]) -> list[tuple[str, ...]]:
        """Per group the answer of each of the teacher's attempts, "" where it gave none."""
        tools = self.tools
        prompts: Prompts = tools.prompts
        ask = Ask(
            "solver",
            prompts.attempt_blocks,
            [group.task for group in groups],
            [prompts.attempt(group.task.question) for group in groups],
            [
                [
                    seed_of(tools.seed, "teacher", group.id, i)
                    for i in range(tools.config.teacher_attempts)
                ]
                for group in groups
            ],
            [f"{group.id}-teacher" for group in groups],
        )
        made = sample_groups(
            tools.proxy, prompts, ask, max_tokens=tools.max_tokens, temperature=1.0
        )
        return [tuple(t.final for t in group.transcripts) for group in made]

    def _one(self, sheet: Sheet, attempt: Transcript, votes: tuple[str, ...] | None) -> Reading:
        if attempt.form != "ok":
            return sheet.malformed(attempt)
        if votes is None:
            return sheet.too_long(self.tools.context)
        voted = majority(votes)
        if voted is None:
            return sheet.not_measured("no attempt of the teacher gave an answer")
        winner, share = voted
        agrees = matches(attempt.final, votes[winner])
        return sheet.measured((float(agrees), share), detail=votes[winner])
