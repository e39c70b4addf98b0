"""What truth says of a round's tasks and attempts: kept apart from every reward, read by probes."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.evaluation.exam import ProbeItem, Truth
from pipeline.types import Group, StepRecord
from store import ledger


def of_steps(truth: Truth, steps: Iterable[StepRecord], told_by: str) -> list[ledger.Truth]:
    """For each task of the steps whether its reference is right, and for each attempt its answer.

    Nothing is said of a question that truth cannot read.
    """
    if not truth.reads:
        return []
    read: dict[str, ProbeItem | None] = {}
    told: list[ledger.Truth] = []
    for step in steps:
        for task in step.tasks:
            item = read.setdefault(task.question, truth.read(task.question))
            if item is not None:
                right = truth.right(item, task.reference)
                told.append(ledger.Truth("task", task.id, right, told_by))
        for credited in step.credited:
            group = credited.judged.group
            if group.role == "solver":
                told += _of_group(truth, group, read, told_by)
    return told


def _of_group(
    truth: Truth, group: Group, read: dict[str, ProbeItem | None], told_by: str
) -> list[ledger.Truth]:
    question = group.task.question
    if question not in read:
        read[question] = truth.read(question)
    item = read[question]
    if item is None:
        return []
    return [
        ledger.Truth(
            "rollout", rollout.id, parsed.form == "ok" and truth.right(item, parsed.final), told_by
        )
        for rollout, parsed in zip(group.rollouts, group.transcripts, strict=True)
    ]
