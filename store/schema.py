"""The tables: runs and rounds here, tasks and what was attempted in `schema_rollouts`, the work
queue in `schema_work`.

Rows are never updated, but for a run's status, its lease, a pruned checkpoint and the queue. Ids
of tasks, groups, rollouts and versions are relative to their run, so the key is (run_id, id). A
fork reads its ancestors' rows: where a column names a task or a version it may live in the run
itself or in the chain of its ancestors (`lineage.ancestors`); `verify` checks that every such name
closes.
"""

from __future__ import annotations

from datetime import datetime
from typing import get_args

from pydantic import JsonValue
from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy import ForeignKeyConstraint as Foreign
from sqlalchemy.orm import Mapped, mapped_column

from pipeline.types import Axis, Line
from store.columns import Base, RawText, Wide, one_of, run_key
from store.schema_rollouts import (
    CreditRow,
    EvidenceRow,
    GroupRow,
    JudgementRow,
    ProposalRow,
    ProposedRow,
    ReadingRow,
    RolloutRow,
    TaskRow,
)
from store.schema_work import WorkerRow, WorkItemRow

__all__ = [
    "RUN_STATUSES",
    "STAGES",
    "Base",
    "CheckpointRow",
    "CreditRow",
    "EvidenceRow",
    "GroupRow",
    "JudgementRow",
    "LeaseRow",
    "ParityRow",
    "PoolRow",
    "ProbeRow",
    "ProposalRow",
    "ProposedRow",
    "ReadingRow",
    "RolloutRow",
    "RunRow",
    "StageRow",
    "StepRow",
    "StopRow",
    "SyncRow",
    "TaskRow",
    "TruthRow",
    "UpdateRow",
    "VersionRow",
    "WorkItemRow",
    "WorkerRow",
]

RUN_STATUSES = ("running", "paused", "stopped", "failed", "done")
STAGES = ("propose", "climb", "sync", "checkpoint", "probe")


class RunRow(Base):
    """One run: what decides it, where it forked from, and how it stands."""

    __tablename__ = "run"
    __table_args__ = (one_of("status", RUN_STATUSES),)

    id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(unique=True)  # order of creation, whatever the clock says
    name: Mapped[str | None] = mapped_column(index=True)
    config: Mapped[str]
    config_digest: Mapped[str]
    environment: Mapped[JsonValue] = mapped_column(nullable=False)
    seed: Mapped[int] = mapped_column(Wide)
    rounds_asked: Mapped[int]
    parent_run_id: Mapped[str | None] = mapped_column(ForeignKey("run.id"), index=True)
    parent_round: Mapped[int | None]
    status: Mapped[str]
    at: Mapped[datetime]


class LeaseRow(Base):
    """Who may write to a run. The epoch only grows; no owner means released."""

    __tablename__ = "lease"

    run_id: Mapped[str] = run_key()
    owner: Mapped[str | None]
    host: Mapped[str]
    pid: Mapped[int]
    started: Mapped[str]  # the process's start time where the system tells, against a reused pid
    epoch: Mapped[int]
    expires: Mapped[float]  # seconds since 1970 by the database's clock


class StopRow(Base):
    """Why a run stopped, each time it did."""

    __tablename__ = "stop"
    __table_args__ = (one_of("status", RUN_STATUSES),)

    run_id: Mapped[str] = run_key()
    number: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]
    reason: Mapped[str]
    at: Mapped[datetime]


class StageRow(Base):
    """A finished stage: digest of its rows, the flow's own content digest, and the chain so far."""

    __tablename__ = "stage"
    __table_args__ = (one_of("stage", STAGES), UniqueConstraint("run_id", "sequence"))

    run_id: Mapped[str] = run_key()
    round: Mapped[int] = mapped_column(primary_key=True)
    stage: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int]
    rows: Mapped[str]
    content: Mapped[str]
    digest: Mapped[str]
    epoch: Mapped[int]
    at: Mapped[datetime]


class StepRow(Base):
    """One optimiser step, committed whole."""

    __tablename__ = "step"
    __table_args__ = (Index(None, "run_id", "round"),)

    run_id: Mapped[str] = run_key()
    step: Mapped[int] = mapped_column(primary_key=True)
    round: Mapped[int]
    digest: Mapped[str]
    seconds: Mapped[JsonValue] = mapped_column(nullable=False)
    resampled: Mapped[int] = mapped_column(server_default="0")
    studied: Mapped[JsonValue | None]  # [[run, group id], ...] of stored groups learned from
    epoch: Mapped[int]
    at: Mapped[datetime]


class UpdateRow(Base):
    """What a step did to one line of weights."""

    __tablename__ = "learner_update"
    __table_args__ = (
        one_of("line", get_args(Line)),
        Foreign(["run_id", "step"], ["step.run_id", "step.step"]),
    )

    run_id: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    line: Mapped[str] = mapped_column(primary_key=True)
    loss: Mapped[float]
    policy_loss: Mapped[float]
    answer_loss: Mapped[float]
    kl: Mapped[float]
    grad_norm: Mapped[float]
    clipped: Mapped[float]
    entropy: Mapped[float]
    mismatch: Mapped[float]
    tokens: Mapped[int]
    rows: Mapped[int]
    dead_groups: Mapped[int]
    unspliced: Mapped[int]


class VersionRow(Base):
    """A set of weights, and the stage that first recorded it."""

    __tablename__ = "version"
    __table_args__ = (
        one_of("line", get_args(Line)),
        one_of("made_by", ("climb", "sync", "checkpoint")),
        Index(None, "run_id", "made_round", "made_step"),
    )

    run_id: Mapped[str] = run_key()
    id: Mapped[str] = mapped_column(primary_key=True)
    line: Mapped[str]
    step: Mapped[int]
    parents: Mapped[JsonValue] = mapped_column(nullable=False)
    checksum: Mapped[str]
    made_by: Mapped[str]
    made_round: Mapped[int]
    made_step: Mapped[int | None]
    position: Mapped[int]


class SyncRow(Base):
    """One decision about the proxy; an estimate is [value, low, high, n]."""

    __tablename__ = "sync"
    __table_args__ = (one_of("stage", ("climb", "sync")), Index(None, "run_id", "round"))

    run_id: Mapped[str] = run_key()
    step: Mapped[int] = mapped_column(primary_key=True)
    stage: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    round: Mapped[int]
    rule: Mapped[str]
    source: Mapped[str]
    before: Mapped[str]
    after: Mapped[str]
    alpha: Mapped[float]
    probe_before: Mapped[JsonValue | None]
    probe_after: Mapped[JsonValue | None]
    accepted: Mapped[bool]
    reason: Mapped[str]


class ProbeRow(Base):
    """One figure of one axis with its interval; n counts clusters."""

    __tablename__ = "probe"
    __table_args__ = (one_of("axis", get_args(Axis)),)

    run_id: Mapped[str] = run_key()
    round: Mapped[int] = mapped_column(primary_key=True)
    axis: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    slice: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]
    value: Mapped[float]
    low: Mapped[float]
    high: Mapped[float]
    n: Mapped[int]
    version: Mapped[str]
    per_task: Mapped[JsonValue] = mapped_column(nullable=False)  # [[task id, value], ...]


class PoolRow(Base):
    """One labelled rollout of the verifier's frozen pool; nothing of it ever trains."""

    __tablename__ = "pool"

    run_id: Mapped[str] = run_key()
    id: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]
    slice: Mapped[str]
    question: Mapped[str] = mapped_column(RawText)
    reference: Mapped[str] = mapped_column(RawText)
    reasoning: Mapped[str] = mapped_column(RawText)
    right: Mapped[bool]


class TruthRow(Base):
    """Right or wrong, where a world or a rule can tell. Read by `questions` alone."""

    __tablename__ = "truth"

    run_id: Mapped[str] = run_key()
    kind: Mapped[str] = mapped_column(primary_key=True)  # "rollout" or "task"
    subject: Mapped[str] = mapped_column(primary_key=True)
    told_by: Mapped[str] = mapped_column(primary_key=True)
    round: Mapped[int] = mapped_column(index=True)
    right: Mapped[bool]


class ParityRow(Base):
    """One comparison of an engine with the local one, in nats. It measures the machine: no digest
    covers it, and a run that is resumed compares anew."""

    __tablename__ = "parity"
    __table_args__ = (one_of("line", get_args(Line)),)

    run_id: Mapped[str] = run_key()
    worker: Mapped[str] = mapped_column(primary_key=True, server_default="")  # "": the run itself
    position: Mapped[int] = mapped_column(primary_key=True)  # order of recording by it, from 1
    engine: Mapped[str]
    line: Mapped[str]
    version: Mapped[str]  # no key: a refused one is of no step that was committed
    step: Mapped[int]
    tokens: Mapped[int]
    max_difference: Mapped[float]
    mean_difference: Mapped[float]
    mismatch_kl: Mapped[float | None]
    difference_limit: Mapped[float]
    kl_limit: Mapped[float]
    accepted: Mapped[bool]
    at: Mapped[datetime]


class CheckpointRow(Base):
    """A folder whose files were verified before this row was written."""

    __tablename__ = "checkpoint"
    __table_args__ = (
        one_of("state", ("kept", "pruned")),
        UniqueConstraint("run_id", "sequence"),
    )

    run_id: Mapped[str] = run_key()
    round: Mapped[int] = mapped_column(primary_key=True)
    sequence: Mapped[int]  # order of recording; "newest" goes by it
    folder: Mapped[str]
    manifest_digest: Mapped[str]
    versions: Mapped[JsonValue] = mapped_column(nullable=False)
    state: Mapped[str]
    epoch: Mapped[int]
    at: Mapped[datetime]
