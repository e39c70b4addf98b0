"""Tables of tasks, groups, rollouts, and what was measured and judged of them."""

from __future__ import annotations

from datetime import datetime
from typing import get_args

from pydantic import JsonValue
from sqlalchemy import CheckConstraint, Index
from sqlalchemy import ForeignKeyConstraint as Foreign
from sqlalchemy.orm import Mapped, mapped_column

from pipeline.types import Form, Origin, Role, Status
from store.columns import Base, Flags, Floats, Ints, RawText, Wide, one_of, run_key

TASK_STATES = ("seed", "candidate", "admitted", "attempted")
PHASES = ("proposed", "judged")


class TaskRow(Base):
    """A question and a reference. A candidate that gains its reference is a second, admitted row.

    seed       given by the environment
    candidate  as proposed, its reference perhaps still empty
    admitted   became a task of a step
    attempted  was attempted in a step without being admitted
    """

    __tablename__ = "task"
    __table_args__ = (
        one_of("state", TASK_STATES),
        one_of("origin", get_args(Origin)),
        Index(None, "run_id", "made_round", "state"),
    )

    run_id: Mapped[str] = run_key()
    id: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(primary_key=True)
    made_round: Mapped[int]
    made_step: Mapped[int | None]  # the step that admitted or attempted it
    position: Mapped[int]
    round: Mapped[int]
    origin: Mapped[str]
    confidence: Mapped[float]
    question: Mapped[str]
    question_raw: Mapped[str] = mapped_column(RawText)
    question_digest: Mapped[str] = mapped_column(index=True)
    reference: Mapped[str]
    reference_raw: Mapped[str] = mapped_column(RawText)
    parent_id: Mapped[str | None]
    proposal_id: Mapped[str | None]
    other_references: Mapped[JsonValue] = mapped_column(nullable=True)  # a list, NULL for none


class ProposedRow(Base):
    """A round's proposals are all there, or this row is not."""

    __tablename__ = "proposed"

    run_id: Mapped[str] = run_key()
    round: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str]
    epoch: Mapped[int]
    at: Mapped[datetime]


class GroupRow(Base):
    """The rollouts of one task; for the generator the task is the parent it was shown."""

    __tablename__ = "rollout_group"
    __table_args__ = (
        one_of("role", get_args(Role)),
        Foreign(["task_run_id", "task_id", "task_state"], ["task.run_id", "task.id", "task.state"]),
        Index(None, "task_run_id", "task_id", "task_state"),
        one_of("made_by", ("propose", "climb")),
        Index(None, "run_id", "round", "made_by"),
    )

    run_id: Mapped[str] = run_key()
    id: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    made_by: Mapped[str]  # the stage that recorded it
    round: Mapped[int]
    position: Mapped[int]
    task_run_id: Mapped[str]
    task_id: Mapped[str]
    task_state: Mapped[str]
    size: Mapped[int]
    digest: Mapped[str]


class RolloutRow(Base):
    """One sampled completion, its bytes beside readable text, and what it parsed into."""

    __tablename__ = "rollout"
    __table_args__ = (
        one_of("form", get_args(Form)),
        one_of("stop", ("end", "length")),
        Foreign(["run_id", "group_id"], ["rollout_group.run_id", "rollout_group.id"]),
        Index(None, "run_id", "group_id", "position"),
        Index(None, "run_id", "version"),
    )

    run_id: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    group_id: Mapped[str]
    position: Mapped[int]
    version: Mapped[str]
    seed: Mapped[int] = mapped_column(Wide)
    stop: Mapped[str]
    form: Mapped[str]
    text: Mapped[str]
    altered: Mapped[bool]  # whether `text` differs from the bytes
    completion: Mapped[str] = mapped_column(RawText)
    first: Mapped[str] = mapped_column(RawText)
    final: Mapped[str] = mapped_column(RawText)
    tokens: Mapped[tuple[int, ...]] = mapped_column(Ints)
    written: Mapped[tuple[bool, ...]] = mapped_column(Flags)
    logprobs: Mapped[tuple[float, ...]] = mapped_column(Floats)


class ProposalRow(Base):
    """What became of one proposal, first when proposed and again when its round judged it."""

    __tablename__ = "proposal"
    __table_args__ = (
        one_of("phase", PHASES),
        Foreign(["run_id", "rollout_id"], ["rollout.run_id", "rollout.id"]),
    )

    run_id: Mapped[str] = mapped_column(primary_key=True)
    rollout_id: Mapped[str] = mapped_column(primary_key=True)
    phase: Mapped[str] = mapped_column(primary_key=True)
    candidate_id: Mapped[str | None]  # the candidate task row, while proposed
    verdict: Mapped[str]  # a pipeline.types.Drop; unchecked, since its words grow with the filters
    attempts: Mapped[int]
    solved: Mapped[float | None]
    beats: Mapped[float | None]
    agreement: Mapped[float | None]
    confidence: Mapped[float | None]
    similarity: Mapped[float]
    task_id: Mapped[str | None]


class EvidenceRow(Base):
    """What a verifier version measured of one attempt. The means repeat the blobs for queries."""

    __tablename__ = "evidence"
    __table_args__ = (
        one_of("status", tuple(one for one in get_args(Status) if one != "timeout")),
        Foreign(["run_id", "rollout_id"], ["rollout.run_id", "rollout.id"]),
    )

    run_id: Mapped[str] = mapped_column(primary_key=True)
    rollout_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    reference_logprobs: Mapped[tuple[float, ...]] = mapped_column(Floats)
    baseline_logprobs: Mapped[tuple[float, ...]] = mapped_column(Floats)
    reference_mean: Mapped[float | None]
    baseline_mean: Mapped[float | None]
    reasoning_tokens: Mapped[int]
    detail: Mapped[str] = mapped_column(RawText)


class ReadingRow(Base):
    """What one meter read of one attempt, beside the reference's likelihood."""

    __tablename__ = "reading"
    __table_args__ = (
        one_of("status", get_args(Status)),
        Foreign(["run_id", "rollout_id"], ["rollout.run_id", "rollout.id"]),
    )

    run_id: Mapped[str] = mapped_column(primary_key=True)
    rollout_id: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str]  # of weights or of a library
    status: Mapped[str]
    values: Mapped[tuple[float, ...]] = mapped_column(Floats)
    at: Mapped[tuple[int, ...]] = mapped_column(Ints)
    detail: Mapped[str] = mapped_column(RawText)
    position: Mapped[int]


class CreditRow(Base):
    """A group's place in the step that judged it. components: name -> [K]."""

    __tablename__ = "credit"
    __table_args__ = (
        Foreign(["run_id", "group_id"], ["rollout_group.run_id", "rollout_group.id"]),
        Foreign(["run_id", "step"], ["step.run_id", "step.step"]),
        Index(None, "run_id", "step", "position"),
    )

    run_id: Mapped[str] = mapped_column(primary_key=True)
    group_id: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int]
    position: Mapped[int]
    components: Mapped[JsonValue] = mapped_column(nullable=False)


class JudgementRow(Base):
    """A rollout's reward and advantage, or their absence where it could not be judged."""

    __tablename__ = "judgement"
    __table_args__ = (
        CheckConstraint("(seat IS NULL) = (reward IS NULL)", name="kept"),
        Foreign(["run_id", "rollout_id"], ["rollout.run_id", "rollout.id"]),
    )

    run_id: Mapped[str] = mapped_column(primary_key=True)
    rollout_id: Mapped[str] = mapped_column(primary_key=True)
    seat: Mapped[int | None]  # its index among the K kept
    evidence_version: Mapped[str | None]  # None for a proposal
    reward: Mapped[float | None]
    advantage: Mapped[float | None]
    answer_weight: Mapped[float | None]
    by_token: Mapped[tuple[float, ...] | None] = mapped_column(Floats)  # where tokens differ
