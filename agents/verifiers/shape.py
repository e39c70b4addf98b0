"""The meter "shape": how long a completion is, and how much of it repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress

from agents.prompts import Prompts
from pipeline.text.repetition import repeated_share
from pipeline.types import Group, Reading, Rollout, Transcript


@dataclass(frozen=True, slots=True)
class Shape:
    """How many tokens a completion has, and 1 - distinct / all of its runs of four tokens.

    values  (written, reasoning, answer, repetition)
            written     tokens the policy wrote, at least 0, tags and end token included
            reasoning   tokens of the bare reasoning, 0 where the form is not "ok"
            answer      tokens of the bare answer, 0 where the form is not "ok"
            repetition  share of written runs of four tokens that occurred before, in [0, 1)
    status  "measured" whatever the form: none is "malformed"

    No weights are asked; the version names the size of the vocabulary. Source: the lengths that
    DAPO penalises, arXiv 2503.14476; repetition after RLPR, arXiv 2506.18254.
    """

    prompts: Prompts
    source: str = field(default="shape", init=False)

    @property
    def version(self) -> str:
        """What tells one way to count tokens from another: the size of the vocabulary."""
        return f"vocabulary {len(self.prompts.tokenizer)}"

    def read(self, groups: Sequence[Group]) -> list[tuple[Reading, ...]]:
        """A reading of each rollout, in order; all of them are measured."""
        return [
            tuple(
                self._one(rollout, transcript)
                for rollout, transcript in zip(group.rollouts, group.transcripts, strict=True)
            )
            for group in groups
        ]

    def _one(self, rollout: Rollout, transcript: Transcript) -> Reading:
        written = tuple(compress(rollout.tokens, rollout.written))
        counts = (len(written), self._count(transcript.first), self._count(transcript.final))
        values = (*map(float, counts), repeated_share(written))
        return Reading("shape", self.version, "measured", values)

    def _count(self, text: str) -> int:
        return len(self.prompts.plain(text)) if text else 0
