"""Curriculum: which proposals become candidate tasks, and the reason for each that does not.

Likeness is the Jaccard share of three-word shingles of the normalised text, numbers and signs
being words. One changed word costs three shingles on either side, so two tasks of up to about a
hundred words that differ in one number stay below the default threshold of 0.95 and are two tasks.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from pipeline.config import GeneratorConfig
from pipeline.text.answers import normalise
from pipeline.types import Drop, Group, ProposalEvidence, Proposed, Rollout, Task, Transcript

Kind = Literal["seed", "task", "probe", "round"]

STATED_CONFIDENCE = 0.5  # a generator's own word: the answer term counts it half

_DROPS: dict[Kind, Drop] = {
    "seed": "copy_of_seed",
    "task": "copy_of_task",
    "probe": "copy_of_probe",
    "round": "duplicate_in_round",
}
# Thai, kana and Han are written without spaces: a character is a word there
_WORD = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]|\d+|[^\W\d_]+|\S")


class Seen:
    """Earlier texts, asked for the one nearest to a new one.

    An inverted index from shingle to texts: asking costs the postings of the text's own shingles,
    well under a millisecond at some thousands of texts.
    """

    def __init__(self, threshold: float) -> None:
        """threshold: similarity in [0, 1] from which a text counts as a copy."""
        self.threshold = threshold
        self._kinds: list[Kind] = []
        self._sizes = array("q")
        self._exact: dict[str, int] = {}
        self._postings: dict[tuple[str, ...], array[int]] = {}

    def __len__(self) -> int:
        return len(self._kinds)

    def add(self, kind: Kind, text: str) -> None:
        """Remember a text. Of equal texts the first keeps its kind."""
        normal = normalise(text)
        if normal in self._exact:
            return
        seat = len(self._kinds)
        own = shingles(normal)
        self._exact[normal] = seat
        self._kinds.append(kind)
        self._sizes.append(len(own))
        for shingle in own:
            self._postings.setdefault(shingle, array("q")).append(seat)

    def nearest(self, text: str) -> tuple[float, Kind | None]:
        """Similarity in [0, 1] to the nearest text and its kind; (0, None) where nothing is alike.

        1 means the same normalised text, or the same shingles. The earliest of equals is named.
        """
        normal = normalise(text)
        if normal in self._exact:
            return 1.0, self._kinds[self._exact[normal]]
        own = shingles(normal)
        postings = [self._postings[shingle] for shingle in own if shingle in self._postings]
        if not postings:
            return 0.0, None
        common = np.bincount(np.concatenate([np.array(seats) for seats in postings]))
        sizes = np.array(self._sizes[: len(common)])
        jaccard = common / (len(own) + sizes - common)
        best = int(jaccard.argmax())
        return float(jaccard[best]), self._kinds[best]


def sift(
    groups: Sequence[Group],
    seen: Seen,
    config: GeneratorConfig,
    *,
    round: int,
    fits: Callable[[str], bool],
) -> Proposed:
    """A round's generator groups -> their candidate tasks, with a reason per proposal.

    seen   seeds, earlier tasks and probe questions; left as it is, so whoever owns it adds the
           tasks that came of the round
    fits   whether a question can be attempted, and shown as a parent, within the model's context;
           one that cannot is dropped as too_long, never cut

    Proposals are read in order, and the first of two alike in the round is the candidate. A
    candidate's reference is empty and its confidence 0 while it waits for its consensus; under
    "stated" it is the generator's word at confidence 0.5. Evidence holds the similarity to `seen`;
    a duplicate's is that to its sibling.
    """
    fresh = Seen(seen.threshold)
    candidates: list[tuple[Task | None, ...]] = []
    evidence: list[tuple[ProposalEvidence, ...]] = []
    for group in groups:
        tasks: list[Task | None] = []
        reasons: list[ProposalEvidence] = []
        for rollout, transcript in zip(group.rollouts, group.transcripts, strict=True):
            drop, similarity = _text_verdict(group.task.question, transcript, fits), 0.0
            if drop == "admitted":
                drop, similarity = _copy_verdict(transcript.first, seen, fresh)
            task = None
            if drop == "admitted":
                task = _candidate(group, rollout, transcript, config, round)
                fresh.add("round", task.question)
            tasks.append(task)
            reasons.append(
                ProposalEvidence(drop, similarity=similarity, task_id=task.id if task else None)
            )
        candidates.append(tuple(tasks))
        evidence.append(tuple(reasons))
    return Proposed(round, tuple(groups), tuple(candidates), tuple(evidence))


def trusted(task: Task, floor: float) -> bool:
    """Whether the reference may teach the solver: it was given, or its consensus is sure enough."""
    return task.origin != "consensus" or task.confidence >= floor


def gives_away(question: str, reference: str) -> bool:
    """True where a reference of more than two words stands in the question, word for word.

    Shorter references do so by chance (a name, a number), so they never count.
    """
    words = _words(normalise(reference))
    text = _words(normalise(question))
    if len(words) <= 2:
        return False
    spans = (text[start : start + len(words)] for start in range(len(text) - len(words) + 1))
    return words in spans


def _text_verdict(parent: str, transcript: Transcript, fits: Callable[[str], bool]) -> Drop:
    """Why the text itself goes no further, or "admitted".

    Where the parent asks something, a proposal like it must ask too.
    """
    if transcript.form != "ok":
        return "malformed"
    if not normalise(transcript.first) or (_asks(parent) and not _asks(transcript.first)):
        return "no_question"
    return "admitted" if fits(transcript.first) else "too_long"


def _asks(text: str) -> bool:
    """True where a question mark stands in the text: Latin and Greek, Arabic, or full width."""
    return any(mark in text for mark in "?\u037e\u061f\uff1f")


def _copy_verdict(question: str, seen: Seen, fresh: Seen) -> tuple[Drop, float]:
    """Whether the question copies an earlier text or a sibling; and its similarity."""
    similarity, kind = seen.nearest(question)
    if kind is not None and similarity >= seen.threshold:
        return _DROPS[kind], similarity
    sibling, kind = fresh.nearest(question)
    if kind is not None and sibling >= seen.threshold:
        return _DROPS[kind], sibling
    return "admitted", similarity


def _candidate(
    group: Group, rollout: Rollout, transcript: Transcript, config: GeneratorConfig, round: int
) -> Task:
    """The task a proposal would become."""
    waits = config.references == "consensus"
    return Task(
        id=f"t-{rollout.id}",
        question=transcript.first,
        reference="" if waits else transcript.final,
        origin="consensus" if waits else "generator",
        confidence=0.0 if waits else STATED_CONFIDENCE,
        round=round,
        parent_id=group.task.id,
        proposal_id=rollout.id,
    )


def _words(text: str) -> list[str]:
    return _WORD.findall(text)


def likeness(one: str, other: str) -> float:
    """Likeness of two texts in [0, 1], as `Seen` tells it: 1 for equal normalised texts."""
    if normalise(one) == normalise(other):
        return 1.0
    a, b = set(shingles(normalise(one))), set(shingles(normalise(other)))
    return len(a & b) / len(a | b) if a and b else 0.0


def shingles(normal: str) -> list[tuple[str, ...]]:
    """Distinct runs of three words, ends padded so that the first and last words count as much."""
    words = ["", "", *_words(normal), "", ""]
    if len(words) == 4:
        return []
    return list(dict.fromkeys(zip(words, words[1:], words[2:], strict=False)))
