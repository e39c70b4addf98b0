"""How probable each step of a reasoning is: one number per sentence or line.

A step's number is exp of the mean log-probability of its tokens under the proxy, in (0, 1]. A
reward that sums them over steps pays for steps: a policy can raise it without bound by repeating
easy ones (arXiv 2410.15115), which bounded sums and minima of the same numbers do not allow.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from agents.prompts import Prompts
from agents.verifiers.passes import written_logprobs
from agents.verifiers.readings import Numbers, Sheet, parted, readable
from agents.verifiers.tools import Tools
from pipeline.types import Group, Reading, Rollout

_BREAK = re.compile(r"(?<=[.!?])\s|\n")
_PARTIAL = "\ufffd"  # what a token that ends inside a character decodes to
_LONGEST = 16  # tokens of one character at most; more of them are no text at all


@dataclass(frozen=True, slots=True)
class Steps:
    """exp(mean of ln P(token)) of each step of the reasoning, a step a sentence or a line.

    values  [steps]  in [0, 1], a probability per token at temperature 1; a blank reasoning has none
    at      [steps]  how many written tokens each step ends behind
    status  "malformed" where the blocks cannot be told apart, "too_long" where the row exceeds the
            context, "score_error" where a number is not finite

    Asked: the proxy. Their sum grows without bound with repeated easy steps, and a policy learns
    to: source arXiv 2410.15115.
    """

    tools: Tools
    source = "steps"

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        """ "malformed" where the blocks cannot be told apart, "too_long" beyond the context."""
        engine, room = self.tools.proxy, self.tools.context
        sheet = Sheet(self.source, engine.version)
        well_formed = [
            r for g in groups for r, t in zip(g.rollouts, g.transcripts, strict=True)
            if t.form == "ok" and readable(r, room)
        ]  # fmt: skip
        rows = iter(written_logprobs(engine, well_formed))

        def one(group: Group, seat: int) -> Reading:
            rollout, transcript = group.rollouts[seat], group.transcripts[seat]
            if transcript.form != "ok":
                return sheet.malformed(transcript)
            if not readable(rollout, room):
                return sheet.too_long(room)
            return self._reading(sheet, rollout, next(rows))

        return [tuple(one(group, i) for i in range(len(group.rollouts))) for group in groups]

    def _reading(self, sheet: Sheet, rollout: Rollout, logprobs: Numbers) -> Reading:
        spans = step_tokens(self.tools.prompts, rollout)
        values = tuple(
            math.exp(math.fsum(logprobs[start:end]) / (end - start)) for start, end in spans
        )
        return sheet.measured(values, at=tuple(end for _, end in spans))


def step_tokens(prompts: Prompts, rollout: Rollout) -> list[tuple[int, int]]:
    """First written token of each step of the reasoning, and the one behind its last.

    A token that holds the end of one step and the start of the next belongs to the first; a step
    without a token of its own is one with the step before it. Tags belong to no step where they are
    tokens of their own.
    """
    _, written = parted(rollout)
    ends = text_ends(prompts, written)
    tags = prompts.attempt_blocks
    opened, closed = f"<{tags.first}>", f"</{tags.first}>"
    start = rollout.completion.index(opened) + len(opened)
    found: list[tuple[int, int]] = []
    first = bisect_right(ends, start)
    for step_end in step_ends(rollout.completion, start, rollout.completion.index(closed, start)):
        behind = min(bisect_left(ends, step_end) + 1, len(ends))
        if behind > first:
            found.append((first, behind))
            first = behind
    return found


def step_ends(text: str, start: int, stop: int) -> list[int]:
    """Where the steps of text[start:stop] end: behind a line or a sentence, blanks apart."""
    cuts = [match.start() for match in _BREAK.finditer(text, start, stop)]
    ends, begun = [], start
    for cut in [*cuts, stop]:
        step = text[begun:cut].rstrip()
        if step.strip():
            ends.append(begun + len(step))
        begun = cut
    return ends


def text_ends(prompts: Prompts, tokens: Sequence[int]) -> list[int]:
    """How many characters of the text stand behind each token; one pass.

    Tokens that end inside a character count with the one that completes it. Each is decoded with
    the few before it, since a tokenizer may join what it decodes together.
    """
    ends: list[int] = []
    known, begun, told = 0, 0, 0  # characters so far; tokens still open; of them, told already
    for seat in range(1, len(tokens) + 1):
        whole = prompts.decode(tuple(tokens[begun:seat]))
        if not whole.endswith(_PARTIAL) or seat - told >= _LONGEST:
            before = prompts.decode(tuple(tokens[begun:told]))
            known += len(whole) - len(before)
            begun, told = told, seat
        ends.append(known)
    return ends
