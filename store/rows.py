"""Nouns into rows, and the rule by which a second write is judged.

Columns carry the names of the fields they keep, so most of a row is the noun itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, cast

from pydantic import JsonValue
from sqlalchemy import Table, insert, inspect
from sqlalchemy.orm import Session

from pipeline.types import (
    Credited,
    Estimate,
    Evidence,
    Group,
    Line,
    ProbeRecord,
    ProposalEvidence,
    SyncRecord,
    Task,
    UpdateStats,
    Version,
)
from store.blobs import readable
from store.columns import COPY, Base
from store.digests import digest_of
from store.errors import Conflict

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = dict[str, object]  # column -> value as its column type takes it
Where = tuple[str, str]  # run and state of the task row that holds a task
Made = tuple[int, int | None, int]  # round, step and position that recorded a row


def put(session: Session, table: type[Base], rows: Sequence[Row]) -> int:
    """Insert the rows that are not there. Returns how many were new.

    Raises Conflict where a row of the same key holds other content.
    """
    keys = [column.name for column in inspect(table).primary_key]
    fresh = []
    for row in rows:
        found = session.get(table, tuple(row[key] for key in keys))
        if found is None:
            fresh.append(row)
            continue
        for column, value in row.items():
            if getattr(found, column) != value:
                key = ", ".join(str(row[name]) for name in keys)
                raise Conflict(
                    f"{table.__tablename__} ({key}) is recorded with another {column}: "
                    f"{getattr(found, column)!r}, not {value!r}"
                )
    add(session, table, fresh)
    return len(fresh)


def add(session: Session, table: type[Base], rows: Iterable[Row]) -> None:
    """Insert many rows in one go: PostgreSQL takes more than a few of them by COPY."""
    listed = list(rows)
    if listed:
        into = insert(cast(Table, inspect(table).local_table))
        session.execute(into, listed, execution_options={COPY: True})


def as_row(noun: DataclassInstance, *without: str) -> Row:
    """The noun's fields by name, but for those kept in another form."""
    names = (field.name for field in fields(noun) if field.name not in without)
    return {name: getattr(noun, name) for name in names}


def task_row(run: str, task: Task, state: str, made: Made) -> Row:
    return {
        **as_row(task),
        **made_row(made),
        "run_id": run,
        "state": state,
        "question": readable(task.question),
        "question_raw": task.question,
        "question_digest": digest_of(task.question),
        "reference": readable(task.reference),
        "reference_raw": task.reference,
        "other_references": list(task.other_references) or None,
    }


def made_row(made: Made) -> Row:
    return dict(zip(("made_round", "made_step", "position"), made, strict=True))


def group_row(run: str, group: Group, task: Where, made: tuple[str, int, int]) -> Row:
    """Without its digest. made: the stage, round and position that recorded it."""
    return {
        "run_id": run,
        "id": group.id,
        "role": group.role,
        "made_by": made[0],
        "round": made[1],
        "position": made[2],
        "task_run_id": task[0],
        "task_id": group.task.id,
        "task_state": task[1],
        "size": len(group.rollouts),
    }


def rollout_rows(run: str, group: Group) -> list[Row]:
    rows = []
    pairs = zip(group.rollouts, group.transcripts, strict=True)
    for position, (rollout, transcript) in enumerate(pairs):
        text = readable(rollout.completion)
        row = {**as_row(rollout), **as_row(transcript), "text": text}
        row |= {"run_id": run, "group_id": group.id, "position": position}
        rows.append({**row, "altered": text != rollout.completion})
    return rows


def proposal_row(
    run: str, rollout: str, phase: str, evidence: ProposalEvidence, candidate: Task | None = None
) -> Row:
    head: Row = {"run_id": run, "rollout_id": rollout, "phase": phase, "verdict": evidence.drop}
    return {**as_row(evidence, "drop"), **head, "candidate_id": candidate.id if candidate else None}


def evidence_row(run: str, rollout: str, evidence: Evidence) -> Row:
    means = {
        "reference_mean": _mean(evidence.reference_logprobs),
        "baseline_mean": _mean(evidence.baseline_logprobs),
    }
    return {**as_row(evidence, "readings"), **means, "run_id": run, "rollout_id": rollout}


def reading_rows(run: str, credited: Sequence[Credited]) -> list[Row]:
    """What meters read of every attempt."""
    return [
        {**as_row(reading), "run_id": run, "rollout_id": rollout.id, "position": position}
        for one in credited
        for rollout, evidence in zip(one.judged.group.rollouts, one.judged.evidence, strict=True)
        if isinstance(evidence, Evidence)
        for position, reading in enumerate(evidence.readings)
    ]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def evidence_rows(run: str, credited: Sequence[Credited]) -> tuple[list[Row], list[Row]]:
    """Rows of evidence for attempts, and of judged proposals."""
    attempts, proposals = [], []
    for one in credited:
        rollouts = one.judged.group.rollouts
        for rollout, evidence in zip(rollouts, one.judged.evidence, strict=True):
            if isinstance(evidence, Evidence):
                attempts.append(evidence_row(run, rollout.id, evidence))
            if isinstance(evidence, ProposalEvidence):
                proposals.append(proposal_row(run, rollout.id, "judged", evidence))
    return attempts, proposals


def judgement_rows(run: str, credited: Credited) -> list[Row]:
    """One row per rollout of the group, with nothing in it where it could not be judged."""
    judged = credited.judged
    names = ("seat", "reward", "advantage", "answer_weight")
    rows: list[Row] = []
    for rollout, evidence in zip(judged.group.rollouts, judged.evidence, strict=True):
        version = evidence.version if isinstance(evidence, Evidence) else None
        row: Row = {"run_id": run, "rollout_id": rollout.id, "evidence_version": version}
        rows.append({**row, **dict.fromkeys(names), "by_token": None})
    numbers = zip(judged.rewards, credited.advantages, credited.answer_weights, strict=True)
    for seat, (index, told) in enumerate(zip(judged.kept, numbers, strict=True)):
        _finite(dict(zip(names[1:], told, strict=True)))
        rows[index].update(zip(names, (seat, *told), strict=True))
        if credited.by_token:
            rows[index]["by_token"] = credited.by_token[seat]
    return rows


def _finite(numbers: Mapping[str, float]) -> None:
    """Raise ValueError naming the first number that is NaN or infinite."""
    for name, number in numbers.items():
        if not float("-inf") < number < float("inf"):
            raise ValueError(f"{name} is {number}; a non-finite number may not be stored")


def version_row(run: str, version: Version, made_by: str, made: Made) -> Row:
    parents = list(version.parents)
    row = {**as_row(version), **made_row(made)}
    return {**row, "parents": parents, "run_id": run, "made_by": made_by}


def update_rows(run: str, step: int, updates: Mapping[Line, UpdateStats]) -> list[Row]:
    rows = []
    for line, stats in updates.items():
        numbers = {field.name: getattr(stats, field.name) for field in fields(stats)}
        _finite({f"{line}/{name}": number for name, number in numbers.items()})
        rows.append({**numbers, "run_id": run, "step": step, "line": line})
    return rows


def sync_row(run: str, sync: SyncRecord, stage: str, position: int) -> Row:
    before, after = _estimate(sync.probe_before), _estimate(sync.probe_after)
    row = {**as_row(sync), "probe_before": before, "probe_after": after}
    return {**row, "run_id": run, "stage": stage, "position": position}


def _estimate(estimate: Estimate | None) -> JsonValue:
    if estimate is None:
        return None
    return [estimate.value, estimate.low, estimate.high, estimate.n]


def probe_row(run: str, round: int, position: int, probe: ProbeRecord) -> Row:
    told = probe.estimate
    where = f"{probe.axis}/{probe.name}[{probe.slice}]"
    _finite({f"{where}.value": told.value, f"{where}.low": told.low, f"{where}.high": told.high})
    per_task = [list(pair) for pair in probe.per_task]
    row = {**as_row(probe, "estimate"), **as_row(told), "per_task": per_task}
    return {**row, "run_id": run, "round": round, "position": position}
