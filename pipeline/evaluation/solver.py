"""The solver's probe: how often it answers held-out tasks right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.evaluation.exam import Exam, ProbeItem, record, slices
from pipeline.ports import Solver, Verifier
from pipeline.seeds import seed_of
from pipeline.text.votes import majority
from pipeline.types import Group, ProbeRecord, Transcript


def solver_probe(exam: Exam, solver: Solver, version: str) -> list[ProbeRecord]:
    """accuracy, reasoning_accuracy (where it can be told) and form, by depth and by family.

    Each task is attempted `solver_samples` times; its value is the share of attempts.
    """
    groups = _attempt(exam, solver, "solver-probe", exam.config.solver_samples)
    truth = exam.truth
    tests: list[tuple[str, Callable[[ProbeItem, Transcript], bool | None]]] = [
        ("accuracy", lambda item, t: t.form == "ok" and truth.right(item, t.final)),
        ("reasoning_accuracy", lambda item, t: truth.reasoned_right(item, t.first)),
        ("form", lambda item, t: t.form == "ok"),
    ]
    records = []
    for name, test in tests:
        values = {i.id: _share(test, i, g) for i, g in zip(exam.items, groups, strict=True)}
        for where, part in slices([item for item in exam.items if values[item.id]]):
            records.append(
                record("solver", name, where, {i.id: values[i.id] for i in part}, version)
            )
    return records


@dataclass(frozen=True, slots=True)
class ConsensusCase:
    """One group without a reference: what consensus and majority said, and whether it was true."""

    depth: int
    family: str
    confidence: float
    consensus_right: bool
    majority_right: bool
    attempts_right: float  # share of single attempts


def consensus_cases(
    exam: Exam, solver: Solver, verifier: Verifier, attempts: int = 8
) -> list[ConsensusCase]:
    """Label every item by consensus and by majority vote of the same attempts, against truth."""
    groups = _attempt(exam, solver, "consensus", attempts)
    cases = []
    for item, group, found in zip(exam.items, groups, verifier.agree(groups), strict=True):
        answers = [t.final if t.form == "ok" else "" for t in group.transcripts]
        right = [exam.truth.right(item, answer) for answer in answers]
        voted = majority(answers)
        cases.append(
            ConsensusCase(
                depth=item.depth,
                family=item.family,
                confidence=found.confidence,
                consensus_right=exam.truth.right(item, found.answer),
                majority_right=voted is not None and right[voted[0]],
                attempts_right=sum(right) / len(right),
            )
        )
    return cases


def _attempt(exam: Exam, solver: Solver, purpose: str, samples: int) -> list[Group]:
    seeds = [
        [seed_of(exam.config.seed, purpose, item.id, g) for g in range(samples)]
        for item in exam.items
    ]
    return solver.attempt(
        [item.bare() for item in exam.items], seeds, [f"{purpose}-{i.id}" for i in exam.items]
    )


def _share(
    test: Callable[[ProbeItem, Transcript], bool | None], item: ProbeItem, group: Group
) -> list[float]:
    """The test per attempt, as 0 or 1; [] where nothing can tell."""
    told = [test(item, transcript) for transcript in group.transcripts]
    return [float(t) for t in told if t is not None]
