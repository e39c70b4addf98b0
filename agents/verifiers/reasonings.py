"""Answers scored under the reasonings of a group: what perplexity, consensus and cross share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.prompts import Prompts
from pipeline.ports import Engine, ScoreRequest
from pipeline.text.votes import counts
from pipeline.types import Group, Rollout, Transcript

Logprobs = tuple[float, ...]
BARE = -1  # the index that stands for no reasoning


@dataclass(frozen=True, slots=True)
class Asked:
    """A group, the answers to score under each of its reasonings, and whether under none too."""

    group: Group
    answers: tuple[str, ...]
    bare: bool


@dataclass(frozen=True, slots=True)
class Reasonings:
    """Scores answers with an engine, each behind what stood before the sampled answer."""

    engine: Engine
    prompts: Prompts
    context: int  # longest row that the engine reads, in tokens

    def score(self, asked: Sequence[Asked]) -> list[dict[int, tuple[Logprobs, ...]]]:
        """Per group: rollout index -> log-probabilities of each answer; BARE is no reasoning.

        Rows that do not fit the context are left out, never cut; so are malformed rollouts.
        """
        requests, kept = [], []
        for one in asked:
            prompt = self.prompts.attempt(one.group.task.question)
            ids = tuple(self.prompts.closed_reference(text) for text in one.answers)
            room = self.context - len(prompt) - max(map(len, ids))
            fitting = {i: c for i, c in self._contexts(one).items() if len(c) <= room}
            kept.append(tuple(fitting))
            requests.append(
                ScoreRequest(prompt, tuple(fitting.values()), tuple(ids for _ in fitting))
            )
        scores = self.engine.score(requests)
        return [
            dict(zip(indices, rows, strict=True))
            for indices, rows in zip(kept, scores, strict=True)
        ]

    def _contexts(self, one: Asked) -> dict[int, tuple[int, ...]]:
        contexts = {BARE: self.prompts.open_answer} if one.bare else {}
        return contexts | {
            i: self._before(one.group.rollouts[i], transcript)
            for i, transcript in enumerate(one.group.transcripts)
            if transcript.form == "ok"
        }

    def _before(self, rollout: Rollout, transcript: Transcript) -> tuple[int, ...]:
        """What stands before the reference: the sampled tokens up to the opening answer tag.

        Where the tokens hold no such tag, the parsed reasoning, encoded anew.
        """
        behind = self.prompts.behind_answer_tag(rollout)
        if behind is None:
            return self.prompts.reasoning(transcript.first) + self.prompts.open_answer
        return rollout.tokens[rollout.written.index(True) : behind]


def candidates(group: Group, most: int) -> tuple[str, ...]:
    """At most `most` distinct answers, the most frequent first, each in its first wording.

    () where fewer than half of the attempts are well formed.
    """
    well = [t.form == "ok" for t in group.transcripts]
    if 2 * sum(well) < len(well):
        return ()
    answers = [t.final if ok else "" for t, ok in zip(group.transcripts, well, strict=True)]
    votes = counts(answers)
    ordered = sorted(votes, key=lambda first: -votes[first])  # stable: ties by first seen
    return tuple(answers[first] for first in ordered[:most])
