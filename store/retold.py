"""Groups of attempts as they were judged, read for judging them again: quick, a whole run at once.

Only what judging and comparing read is brought along. Of a rollout's tokens that is how many it
wrote, unless `texts` asks for the completions and the tokens themselves.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any, cast

from sqlalchemy import LargeBinary, Select, and_, select, type_coerce
from sqlalchemy.orm import Session

from pipeline.types import Evidence, Group, Origin, Reading, Role, Rollout, Status, Task, Transcript
from store.blobs import count_flags
from store.chain import ancestors, within
from store.database import Store, question
from store.schema import (
    CreditRow,
    EvidenceRow,
    GroupRow,
    JudgementRow,
    ReadingRow,
    RolloutRow,
    TaskRow,
)

BATCH = 4096  # rows fetched at once
Readings = dict[tuple[str, str], tuple[Reading, ...]]  # run and rollout -> what meters read of it


@dataclass(frozen=True, slots=True)
class Retold:
    """A group of attempts, with what was made of each rollout when it trained.

    rewards, advantages  [G]  None where the rollout could not be judged
    """

    run: str
    step: int
    group: Group
    evidence: tuple[Evidence, ...]
    rewards: tuple[float | None, ...]
    advantages: tuple[float | None, ...]


@question
def retell(
    store: Store, run: str, *, sources: Sequence[str] = (), texts: bool = False
) -> list[Retold]:
    """Every judged group of attempts of a run's history in order, its greedy ones included.

    sources  the meters whose readings are wanted
    texts    whether completions, parsed blocks and tokens are read too
    """
    with store.reading() as session, _uncollected():
        here = within(ancestors(session, run), GroupRow.run_id, GroupRow.round)
        readings = _readings(session, here, sources) if sources else {}
        rows = session.execute(_query(here, texts), execution_options={"yield_per": BATCH})
        grouped = groupby(rows, key=lambda row: (row.run_id, row.group_id))
        return [_retold(list(members), readings, texts) for _, members in grouped]


@contextmanager
def _uncollected() -> Iterator[None]:
    """No search for cycles meanwhile: a run's rows are millions of objects without one, and to walk
    them again and again took a third of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _query(here: Any, texts: bool) -> Select[Any]:
    """One row per rollout, siblings beside each other."""
    columns: list[Any] = [
        RolloutRow.run_id, RolloutRow.group_id, RolloutRow.id, RolloutRow.form, RolloutRow.version,
        RolloutRow.stop, RolloutRow.seed, GroupRow.role, CreditRow.step, TaskRow.confidence,
        TaskRow.id.label("task_id"), TaskRow.origin, TaskRow.reference_raw, TaskRow.question_raw,
        EvidenceRow.status, EvidenceRow.version.label("proxy"), EvidenceRow.reference_logprobs,
        EvidenceRow.baseline_logprobs, EvidenceRow.reasoning_tokens, EvidenceRow.detail,
        JudgementRow.reward, JudgementRow.advantage,
    ]  # fmt: skip
    if not texts:
        columns.append(type_coerce(RolloutRow.written, LargeBinary).label("flags"))
    else:
        columns += [
            RolloutRow.tokens,
            RolloutRow.written,
            RolloutRow.logprobs,
            RolloutRow.completion,
        ]
        columns += [RolloutRow.first, RolloutRow.final]
    group = and_(RolloutRow.run_id == GroupRow.run_id, RolloutRow.group_id == GroupRow.id)
    credit = and_(CreditRow.run_id == GroupRow.run_id, CreditRow.group_id == GroupRow.id)
    judged = and_(
        JudgementRow.run_id == RolloutRow.run_id, JudgementRow.rollout_id == RolloutRow.id
    )
    measured = and_(
        EvidenceRow.run_id == RolloutRow.run_id,
        EvidenceRow.rollout_id == RolloutRow.id,
        EvidenceRow.version == JudgementRow.evidence_version,
    )
    task = and_(
        TaskRow.run_id == GroupRow.task_run_id,
        TaskRow.id == GroupRow.task_id,
        TaskRow.state == GroupRow.task_state,
    )
    return (
        select(*columns)
        .select_from(GroupRow)
        .join(CreditRow, credit)
        .join(TaskRow, task)
        .join(RolloutRow, group)
        .join(JudgementRow, judged)
        .join(EvidenceRow, measured)
        .where(here, GroupRow.role.in_(("solver", "greedy")))
        .order_by(GroupRow.round, CreditRow.step, CreditRow.position, RolloutRow.position)
    )


def _readings(session: Session, here: Any, sources: Sequence[str]) -> Readings:
    group = and_(RolloutRow.run_id == GroupRow.run_id, RolloutRow.group_id == GroupRow.id)
    rollout = and_(ReadingRow.run_id == RolloutRow.run_id, ReadingRow.rollout_id == RolloutRow.id)
    columns: list[Any] = [
        ReadingRow.run_id, ReadingRow.rollout_id, ReadingRow.source, ReadingRow.version,
        ReadingRow.status, ReadingRow.values, ReadingRow.at, ReadingRow.detail,
    ]  # fmt: skip
    query = (
        select(*columns)
        .select_from(GroupRow)
        .join(RolloutRow, group)
        .join(ReadingRow, rollout)
        .where(here, ReadingRow.source.in_(sources))
        .order_by(ReadingRow.run_id, ReadingRow.rollout_id, ReadingRow.position)
    )
    found: Readings = {}
    for run, rollout_id, *told in session.execute(query):
        key = (run, rollout_id)
        found[key] = (*found.get(key, ()), Reading(*told))
    return found


def _retold(rows: list[Any], readings: Readings, texts: bool) -> Retold:
    first = rows[0]
    task = Task(
        first.task_id,
        first.question_raw,
        first.reference_raw,
        cast(Origin, first.origin),
        first.confidence,
    )
    group = Group(
        first.group_id,
        cast(Role, first.role),
        task,
        tuple(_rollout(row, texts) for row in rows),
        tuple(
            Transcript(row.form, row.first, row.final) if texts else Transcript(row.form)
            for row in rows
        ),
    )
    return Retold(
        first.run_id,
        first.step,
        group,
        tuple(_evidence(row, readings.get((row.run_id, row.id), ())) for row in rows),
        tuple(row.reward for row in rows),
        tuple(row.advantage for row in rows),
    )


def _rollout(row: Any, texts: bool) -> Rollout:
    if texts:
        spoken = (row.completion, row.stop, row.seed, row.version)
        return Rollout(row.id, row.tokens, row.written, row.logprobs, *spoken)
    return Rollout(row.id, *_bare(count_flags(row.flags)), "", row.stop, row.seed, row.version)


@cache
def _bare(count: int) -> tuple[tuple[int, ...], tuple[bool, ...], tuple[float, ...]]:
    """Tokens, flags and log-probabilities of a rollout of which only its length is known."""
    return (0,) * count, (True,) * count, (0.0,) * count


def _evidence(row: Any, readings: tuple[Reading, ...]) -> Evidence:
    return Evidence(
        cast(Status, row.status),
        row.proxy,
        row.reference_logprobs,
        row.baseline_logprobs,
        row.reasoning_tokens,
        row.detail,
        readings,
    )
