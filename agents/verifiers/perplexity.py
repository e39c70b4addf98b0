"""NOVER's verifier: how probable the reference becomes once the sampled reasoning is in context.

Source: arXiv 2505.16022. The tags of the run are used (the reference implementation always used its
defaults). The opening answer tag belongs to the context and the closing one to the scored tokens.
NOVER scores both: after reasoning the opening tag is certain and changes no rank, but without any
reasoning it would measure whether the proxy expects some, and no baseline could win.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from agents.prompts import Prompts
from agents.verifiers.reasonings import BARE, Asked, Logprobs, Reasonings, candidates
from pipeline import measures
from pipeline.config import VerifierConfig
from pipeline.ports import Consensus, Engine
from pipeline.types import Evidence, Group


@dataclass(slots=True)
class Perplexity:
    """Fills the Verifier port with an engine under the proxy's weights.

    The no-reasoning baseline is kept per question, reference and proxy version; what a consensus
    already scored of its winner is kept until it is measured.
    """

    engine: Engine
    prompts: Prompts
    config: VerifierConfig
    context: int  # longest row the proxy can read, in tokens
    baselines: dict[tuple[str, str], Logprobs] = field(default_factory=dict)
    baselines_of: str = ""
    scored: dict[tuple[str, str], dict[int, Logprobs]] = field(default_factory=dict)

    @property
    def version(self) -> str:
        return self.engine.version

    def measure(self, groups: Sequence[Group]) -> list[tuple[Evidence, ...]]:
        """Evidence of each rollout; malformed rollouts are not scored, and say so."""
        self._forget_other_versions()
        wanted = [g for g in groups if (g.id, g.task.reference) not in self.scored]
        asked = [self._asked(g, (g.task.reference,)) for g in wanted]
        for group, rows in zip(wanted, self._reasonings().score(asked), strict=True):
            self.scored[group.id, group.task.reference] = {i: row[0] for i, row in rows.items()}
        evidence = [
            self._evidence(group, self.scored.pop((group.id, group.task.reference)))
            for group in groups
        ]
        self.scored.clear()
        return evidence

    def agree(self, groups: Sequence[Group]) -> list[Consensus]:
        """Score each group's distinct answers under each of its reasonings.

        P(a) = mean over reasonings of P(a | question, reasoning); the best is the consensus.
        There is none where fewer than half of the attempts gave an answer: a lone one would agree
        with itself at full confidence.
        """
        self._forget_other_versions()
        found = [candidates(group, self.config.candidates) for group in groups]
        asked = [
            self._asked(g, answers) for g, answers in zip(groups, found, strict=True) if answers
        ]
        tables = iter(self._reasonings().score(asked))
        return [
            self._consensus(group, answers, next(tables)) if answers else Consensus("", 0.0, 0.0)
            for group, answers in zip(groups, found, strict=True)
        ]

    def forget(self) -> None:
        """Drop kept baselines and scores.

        A score's last bits depend on what else is scored with it, so a step that begins with none
        kept gives the same numbers whether or not the process was stopped before it.
        """
        self.baselines.clear()
        self.scored.clear()

    def _consensus(
        self, group: Group, answers: tuple[str, ...], rows: dict[int, tuple[Logprobs, ...]]
    ) -> Consensus:
        reasoned = [rows[i] for i in rows if i != BARE]
        table = torch.tensor(
            [[min(sum(row), 0.0) for row in scores] for scores in reasoned], dtype=torch.float64
        )
        if not reasoned or not torch.isfinite(table).all():
            return Consensus("", 0.0, 0.0)
        best, confidence, spread = measures.consensus(table)
        self.scored[group.id, answers[best]] = {i: scores[best] for i, scores in rows.items()}
        return Consensus(answers[best], confidence, spread)

    def _reasonings(self) -> Reasonings:
        return Reasonings(self.engine, self.prompts, self.context)

    def _asked(self, group: Group, answers: tuple[str, ...]) -> Asked:
        """Under no reasoning too, where a baseline is not known yet."""
        known = all((group.task.question, text) in self.baselines for text in answers)
        return Asked(group, answers, bare=not known)

    def _evidence(self, group: Group, rows: dict[int, Logprobs]) -> tuple[Evidence, ...]:
        key = (group.task.question, group.task.reference)
        if BARE in rows:
            self.baselines.setdefault(key, rows[BARE])
        baseline = self.baselines.get(key, ())
        return tuple(self._one(group, i, rows.get(i), baseline) for i in range(len(group.rollouts)))

    def _one(self, group: Group, i: int, row: Logprobs | None, baseline: Logprobs) -> Evidence:
        transcript = group.transcripts[i]
        if transcript.form != "ok":
            return Evidence("malformed", self.version, detail=transcript.form)
        if row is None or not baseline:
            return Evidence("too_long", self.version, detail=f"does not fit {self.context} tokens")
        if not all(math.isfinite(x) and x <= 1e-6 for x in (*row, *baseline)):
            return Evidence(
                "score_error", self.version, detail="a log-probability is not finite or above 0"
            )
        tokens = len(self.prompts.plain(transcript.first)) if transcript.first else 0
        return Evidence(
            "measured",
            self.version,
            reference_logprobs=tuple(min(x, 0.0) for x in row),
            baseline_logprobs=tuple(min(x, 0.0) for x in baseline),
            reasoning_tokens=tokens,
        )

    def _forget_other_versions(self) -> None:
        if self.baselines_of != self.engine.version:
            self.baselines.clear()
            self.scored.clear()
            self.baselines_of = self.engine.version
