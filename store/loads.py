"""Rows back into the nouns they were made of, equal in every bit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeVar, cast

from pydantic import JsonValue
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from pipeline.types import (
    Credited,
    Estimate,
    Evidence,
    Group,
    Judged,
    Line,
    ProbeRecord,
    ProposalEvidence,
    Proposed,
    Reading,
    Role,
    Rollout,
    StepRecord,
    Studied,
    SyncRecord,
    Task,
    Transcript,
    UpdateStats,
    Version,
)
from store.columns import Base
from store.schema import (
    CreditRow,
    EvidenceRow,
    GroupRow,
    JudgementRow,
    ProbeRow,
    ProposalRow,
    ProposedRow,
    ReadingRow,
    RolloutRow,
    StepRow,
    SyncRow,
    TaskRow,
    UpdateRow,
    VersionRow,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
Ids = Select[tuple[str]]  # group ids of one run
Name = tuple[str, str]  # a run, and a group's id in it
MOST = 500  # names in one query


def proposed_of(session: Session, run: str, round: int) -> Proposed | None:
    """The round's proposals as they were recorded, or None where they were not."""
    if session.get(ProposedRow, (run, round)) is None:
        return None
    ids = select(GroupRow.id).where(
        GroupRow.run_id == run, GroupRow.round == round, GroupRow.made_by == "propose"
    )
    groups = sorted(_groups(session, run, ids), key=lambda pair: pair[0].position)
    rows = _proposals(session, run, ids, "proposed")
    made = select(TaskRow).where(
        TaskRow.run_id == run, TaskRow.made_round == round, TaskRow.state == "candidate"
    )
    candidates = {row.id: task_of(row) for row in session.scalars(made)}
    return Proposed(
        round=round,
        groups=tuple(group for _, group in groups),
        candidates=tuple(
            tuple(candidates.get(rows[one.id].candidate_id or "") for one in group.rollouts)
            for _, group in groups
        ),
        evidence=tuple(
            tuple(proposal_of(rows[one.id]) for one in group.rollouts) for _, group in groups
        ),
    )


def steps_of(session: Session, run: str, round: int) -> list[StepRecord]:
    """The round's committed steps in order, each equal to what was recorded."""
    steps = session.scalars(
        select(StepRow).where(StepRow.run_id == run, StepRow.round == round).order_by(StepRow.step)
    ).all()
    credited = _credited(session, run, round)
    tasks = _by_step(
        select(TaskRow).where(
            TaskRow.run_id == run, TaskRow.made_round == round, TaskRow.state == "admitted"
        ),
        session,
    )
    versions = _by_step(
        select(VersionRow).where(
            VersionRow.run_id == run, VersionRow.made_round == round, VersionRow.made_by == "climb"
        ),
        session,
    )
    names = {row.step: names_in(row) for row in steps}
    studied = studied_of(session, [name for listed in names.values() for name in listed])
    records = []
    for row in steps:
        updates = session.scalars(
            select(UpdateRow).where(UpdateRow.run_id == run, UpdateRow.step == row.step)
        )
        records.append(
            StepRecord(
                round=round,
                step=row.step,
                credited=tuple(credited[row.step]),
                tasks=tuple(task_of(one) for one in tasks[row.step] if isinstance(one, TaskRow)),
                updates={cast(Line, one.line): _noun(UpdateStats, one) for one in updates},
                versions=tuple(
                    version_of(one) for one in versions[row.step] if isinstance(one, VersionRow)
                ),
                syncs=tuple(syncs_of(session, run, round, "climb", row.step)),
                seconds=cast("dict[str, float]", row.seconds),
                resampled=row.resampled,
                studied=tuple(studied[name] for name in names[row.step]),
            )
        )
    return records


def _by_step(
    query: Select[tuple[TaskRow]] | Select[tuple[VersionRow]], session: Session
) -> defaultdict[int | None, list[TaskRow | VersionRow]]:
    found: defaultdict[int | None, list[TaskRow | VersionRow]] = defaultdict(list)
    rows: Sequence[TaskRow | VersionRow] = session.scalars(query).all()
    for row in sorted(rows, key=lambda row: row.position):
        found[row.made_step].append(row)
    return found


def _credited(session: Session, run: str, round: int) -> defaultdict[int, list[Credited]]:
    """Per step of the round, its groups in order."""
    step_ids = select(StepRow.step).where(StepRow.run_id == run, StepRow.round == round)
    mine = (CreditRow.run_id == run, CreditRow.step.in_(step_ids))
    ids = select(CreditRow.group_id).where(*mine)
    groups, measured = _gathered(session, run, ids)
    found: defaultdict[int, list[Credited]] = defaultdict(list)
    credits = select(CreditRow).where(*mine).order_by(CreditRow.step, CreditRow.position)
    for row in session.scalars(credits):
        found[row.step].append(measured.credit(groups[row.group_id], row.components))
    return found


def names_in(row: StepRow) -> list[Name]:
    """The stored groups that a step studied."""
    listed = cast("list[list[str]]", row.studied or [])
    return [(run, group) for run, group in listed]


def studied_of(session: Session, names: Sequence[Name]) -> dict[Name, Studied]:
    """Credited groups of any runs as they were judged, by name; a name that no row holds is left
    out."""
    wanted: defaultdict[str, list[str]] = defaultdict(list)
    for run, group in dict.fromkeys(names):
        wanted[run].append(group)
    found: dict[Name, Studied] = {}
    for run, listed in wanted.items():
        for start in range(0, len(listed), MOST):
            part = (CreditRow.run_id == run, CreditRow.group_id.in_(listed[start : start + MOST]))
            groups, measured = _gathered(session, run, select(CreditRow.group_id).where(*part))
            for row in session.scalars(select(CreditRow).where(*part)):
                credited = measured.credit(groups[row.group_id], row.components)
                found[run, row.group_id] = Studied(run, credited.judged)
    return found


def _gathered(session: Session, run: str, ids: Ids) -> tuple[dict[str, Group], _Measured]:
    """The groups of these ids, and what was measured and judged of their rollouts."""
    groups = {group.id: group for _, group in _groups(session, run, ids)}
    readings = _readings(session, run, ids)
    return groups, _Measured(
        attempts={
            (row.rollout_id, row.version): _noun(Evidence, row, readings=readings[row.rollout_id])
            for row in session.scalars(
                select(EvidenceRow).where(
                    EvidenceRow.run_id == run, EvidenceRow.rollout_id.in_(_rollouts(run, ids))
                )
            )
        },
        proposals=_proposals(session, run, ids, "judged"),
        judgements={
            row.rollout_id: row
            for row in session.scalars(
                select(JudgementRow).where(
                    JudgementRow.run_id == run, JudgementRow.rollout_id.in_(_rollouts(run, ids))
                )
            )
        },
    )


@dataclass(frozen=True, slots=True)
class _Measured:
    """What was measured and judged of a round's rollouts, by rollout id."""

    attempts: Mapping[tuple[str, str], Evidence]
    proposals: Mapping[str, ProposalRow]
    judgements: Mapping[str, JudgementRow]

    def credit(self, group: Group, components: JsonValue) -> Credited:
        rows = [self.judgements[one.id] for one in group.rollouts]
        seats = sorted((row.seat, index) for index, row in enumerate(rows) if row.seat is not None)
        kept = [index for _, index in seats]
        named = cast("dict[str, list[float]]", components)
        judged = Judged(
            group=group,
            evidence=self._evidence(group, rows),
            kept=tuple(kept),
            rewards=tuple(cast(float, rows[index].reward) for index in kept),
            components={name: tuple(values) for name, values in named.items()},
        )
        return Credited(
            judged=judged,
            advantages=tuple(cast(float, rows[index].advantage) for index in kept),
            answer_weights=tuple(cast(float, rows[index].answer_weight) for index in kept),
            by_token=tuple(
                row.by_token for row in (rows[i] for i in kept) if row.by_token is not None
            ),
        )

    def _evidence(
        self, group: Group, rows: Sequence[JudgementRow]
    ) -> tuple[Evidence, ...] | tuple[ProposalEvidence, ...]:
        if group.role == "generator":
            return tuple(proposal_of(self.proposals[one.id]) for one in group.rollouts)
        return tuple(self.attempts[row.rollout_id, row.evidence_version or ""] for row in rows)


def _readings(session: Session, run: str, ids: Ids) -> defaultdict[str, tuple[Reading, ...]]:
    """Rollout id -> what meters read of it, in the order they were asked."""
    found: defaultdict[str, tuple[Reading, ...]] = defaultdict(tuple)
    query = select(ReadingRow).where(
        ReadingRow.run_id == run, ReadingRow.rollout_id.in_(_rollouts(run, ids))
    )
    for row in session.scalars(query.order_by(ReadingRow.rollout_id, ReadingRow.position)):
        found[row.rollout_id] += (_noun(Reading, row),)
    return found


def _rollouts(run: str, ids: Ids) -> Ids:
    return select(RolloutRow.id).where(RolloutRow.run_id == run, RolloutRow.group_id.in_(ids))


def _groups(session: Session, run: str, ids: Ids) -> list[tuple[GroupRow, Group]]:
    rollouts: defaultdict[str, list[RolloutRow]] = defaultdict(list)
    mine = select(RolloutRow).where(RolloutRow.run_id == run, RolloutRow.group_id.in_(ids))
    for one in session.scalars(mine.order_by(RolloutRow.group_id, RolloutRow.position)):
        rollouts[one.group_id].append(one)
    joined = (
        select(GroupRow, TaskRow)
        .join(
            TaskRow,
            (TaskRow.run_id == GroupRow.task_run_id)
            & (TaskRow.id == GroupRow.task_id)
            & (TaskRow.state == GroupRow.task_state),
        )
        .where(GroupRow.run_id == run, GroupRow.id.in_(ids))
    )
    return [
        (row, group_of(row, task_of(task), rollouts[row.id]))
        for row, task in session.execute(joined)
    ]


def _proposals(session: Session, run: str, ids: Ids, phase: str) -> dict[str, ProposalRow]:
    query = select(ProposalRow).where(
        ProposalRow.run_id == run,
        ProposalRow.rollout_id.in_(_rollouts(run, ids)),
        ProposalRow.phase == phase,
    )
    return {row.rollout_id: row for row in session.scalars(query)}


def syncs_of(
    session: Session, run: str, round: int, stage: str, step: int | None = None
) -> list[SyncRecord]:
    """Syncs of a round made in its climb or at its end, optionally of one step."""
    query = select(SyncRow).where(
        SyncRow.run_id == run, SyncRow.round == round, SyncRow.stage == stage
    )
    if step is not None:
        query = query.where(SyncRow.step == step)
    return [sync_of(row) for row in session.scalars(query.order_by(SyncRow.step, SyncRow.position))]


def probes_of(session: Session, run: str, round: int) -> list[ProbeRecord]:
    """A round's probe records in the order they were recorded."""
    query = select(ProbeRow).where(ProbeRow.run_id == run, ProbeRow.round == round)
    return [probe_of(row) for row in session.scalars(query.order_by(ProbeRow.position))]


def group_of(row: GroupRow, task: Task, rollouts: Sequence[RolloutRow]) -> Group:
    return Group(
        id=row.id,
        role=cast(Role, row.role),
        task=task,
        rollouts=tuple(_noun(Rollout, row) for row in rollouts),
        transcripts=tuple(_noun(Transcript, row) for row in rollouts),
    )


def task_of(row: TaskRow) -> Task:
    others = tuple(cast("list[str]", row.other_references or []))
    raw = {"question": row.question_raw, "reference": row.reference_raw}
    return _noun(Task, row, **raw, other_references=others)


def proposal_of(row: ProposalRow) -> ProposalEvidence:
    return _noun(ProposalEvidence, row, drop=row.verdict)


def version_of(row: VersionRow) -> Version:
    return _noun(Version, row, parents=tuple(cast("list[str]", row.parents)))


def sync_of(row: SyncRow) -> SyncRecord:
    before, after = _estimate(row.probe_before), _estimate(row.probe_after)
    return _noun(SyncRecord, row, probe_before=before, probe_after=after)


def probe_of(row: ProbeRow) -> ProbeRecord:
    pairs = cast("list[tuple[str, float]]", row.per_task)
    per_task = tuple((name, value) for name, value in pairs)
    return _noun(ProbeRecord, row, estimate=_noun(Estimate, row), per_task=per_task)


def _estimate(value: JsonValue) -> Estimate | None:
    return Estimate(*cast("tuple[float, float, float, int]", value)) if value is not None else None


def _noun(kind: type[T], row: Base, **other: object) -> T:
    """A noun from the columns that carry its fields' names, but for those given."""
    names = (field.name for field in fields(kind) if field.name not in other)
    make: Callable[..., T] = kind
    return make(**{name: getattr(row, name) for name in names}, **other)
