"""The listings behind the command line, as plain rows. The only readers of `truth`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue
from sqlalchemy import ColumnElement, Select, and_, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from store.chain import Span, ancestors, within
from store.database import Store, question
from store.errors import Unknown
from store.leases import live_owner
from store.schema import (
    CreditRow,
    EvidenceRow,
    GroupRow,
    JudgementRow,
    ProbeRow,
    ProposalRow,
    RolloutRow,
    RunRow,
    StageRow,
    StepRow,
    StopRow,
    SyncRow,
    TaskRow,
    TruthRow,
    UpdateRow,
)
from store.stages import rounds_done

Answer = dict[str, JsonValue]
Column = InstrumentedAttribute[str]
Number = InstrumentedAttribute[int]
Maybe = InstrumentedAttribute[str | None]

# the figure that stands for an axis: the first of these that a round holds
HEADLINES = {
    "solver": (("accuracy", "depth>=3"), ("accuracy", "all")),
    "verifier": (("pair_accuracy", "named"), ("pair_accuracy", "all"), ("matched_auc", "all")),
    "generator": (("frontier_share", "all"),),
}


@dataclass(frozen=True, slots=True)
class Filter:
    """What a listing is narrowed to; None narrows nothing. limit: the most rows, newest kept."""

    round: int | None = None
    origin: str | None = None
    drop: str | None = None
    form: str | None = None
    role: str | None = None
    task: str | None = None
    limit: int | None = 100


ALL = Filter()


@question
def resolve(store: Store, argument: str) -> str:
    """The run meant by an id, a unique prefix of one, a name, or "last". Raises Unknown."""
    with store.reading() as session:
        if argument == "last":
            found = session.scalars(select(RunRow.id).order_by(RunRow.number.desc()).limit(1)).all()
        else:
            found = _named(session, argument)
    if len(found) == 1:
        return found[0]
    if found:
        raise Unknown(f"{argument!r} may mean {', '.join(found[:5])}; give more of the id")
    raise Unknown(f"no run is called {argument!r}; `coclimb runs` lists them")


def _named(session: Session, argument: str) -> Sequence[str]:
    exact = session.scalars(select(RunRow.id).where(RunRow.id == argument)).all()
    if exact:
        return exact
    named = session.scalars(select(RunRow.id).where(RunRow.name == argument)).all()
    if named:
        return named
    after = argument + "\U0010ffff"
    prefixed = select(RunRow.id).where(RunRow.id >= argument, RunRow.id < after)
    return session.scalars(prefixed.order_by(RunRow.id)).all() if argument else []


@question
def runs(store: Store) -> list[Answer]:
    """Every run, oldest first, with how far it came, who owns it now and why it last stopped."""
    with store.reading() as session:
        return [
            {
                "id": row.id,
                "status": row.status,
                "rounds_done": rounds_done(session, row.id),
                "rounds_asked": row.rounds_asked,
                "name": row.name,
                "seed": row.seed,
                "created": row.at.isoformat(),
                "parent": row.parent_run_id,
                "parent_round": row.parent_round,
                "owner": live_owner(session, row.id),
                "reason": _last_reason(session, row.id),
            }
            for row in session.scalars(select(RunRow).order_by(RunRow.number))
        ]


def _last_reason(session: Session, run: str) -> str | None:
    stops = select(StopRow.reason).where(StopRow.run_id == run).order_by(StopRow.number.desc())
    return session.scalars(stops.limit(1)).first()


@question
def run_facts(store: Store, run: str) -> Answer:
    """What a run was started from: its configuration, digest, seed and environment."""
    with store.reading() as session:
        row = session.get(RunRow, run)
        if row is None:
            raise Unknown(f"no run {run!r} is in this store; `coclimb runs` lists them")
        return {
            "id": row.id,
            "config": row.config,
            "config_digest": row.config_digest,
            "environment": row.environment,
            "seed": row.seed,
            "rounds_asked": row.rounds_asked,
        }


@question
def rounds(store: Store, run: str) -> list[Answer]:
    """Per round, from 0 on, each axis's headline figure; a fork shows what it inherited too."""
    with store.reading() as session:
        spans = ancestors(session, run)
        probes = session.scalars(
            select(ProbeRow).where(within(spans, ProbeRow.run_id, ProbeRow.round))
        )
        figures: dict[int, dict[tuple[str, str, str], ProbeRow]] = {}
        for row in probes:
            figures.setdefault(row.round, {})[row.axis, row.name, row.slice] = row
        digests = _digests(session, spans)
    return [
        {
            "round": number,
            **{axis: _headline(axis, figures[number]) for axis in HEADLINES},
            "digest": digests.get(number),
        }
        for number in sorted(figures)
    ]


def _digests(session: Session, spans: Sequence[Span]) -> dict[int, str]:
    query = select(StageRow.round, StageRow.digest).where(
        within(spans, StageRow.run_id, StageRow.round), StageRow.stage == "probe"
    )
    return {row.round: row.digest for row in session.execute(query)}


def _headline(axis: str, figures: dict[tuple[str, str, str], ProbeRow]) -> JsonValue:
    for name, part in HEADLINES[axis]:
        row = figures.get((axis, name, part))
        if row is not None:
            told: Answer = {"value": row.value, "low": row.low, "high": row.high, "n": row.n}
            return {**told, "name": name, "slice": part, "version": row.version}
    return None


@question
def probes(store: Store, run: str) -> list[Answer]:
    """Every probe figure with its interval and its values per task, by round."""
    columns = (
        ProbeRow.round,
        ProbeRow.axis,
        ProbeRow.name,
        ProbeRow.slice,
        ProbeRow.value,
        ProbeRow.low,
        ProbeRow.high,
        ProbeRow.n,
        ProbeRow.version,
        ProbeRow.per_task,
    )
    with store.reading() as session:
        here = within(ancestors(session, run), ProbeRow.run_id, ProbeRow.round)
        query = select(*columns).where(here).order_by(ProbeRow.round, ProbeRow.position)
        return _answers(session, query)


@question
def syncs(store: Store, run: str) -> list[Answer]:
    """Every decision about the proxy, by step."""
    with store.reading() as session:
        here = within(ancestors(session, run), SyncRow.run_id, SyncRow.round)
        columns = [column for column in SyncRow.__table__.columns if column.name != "run_id"]
        return _answers(session, select(*columns).where(here).order_by(SyncRow.step))


@question
def updates(store: Store, run: str) -> list[Answer]:
    """What each step did to each line of weights, with the seconds it took.

    resampled  groups attempted anew because others taught nothing; studied, those read from a store
    """
    with store.reading() as session:
        here = within(ancestors(session, run), StepRow.run_id, StepRow.round)
        columns = [column for column in UpdateRow.__table__.columns if column.name != "run_id"]
        joined = (
            select(StepRow.round, *columns, StepRow.seconds, StepRow.resampled, StepRow.studied)
            .join(
                UpdateRow,
                _same_key((UpdateRow.run_id, StepRow.run_id), (UpdateRow.step, StepRow.step)),
            )
            .where(here)
            .order_by(StepRow.step, UpdateRow.line)
        )
        return _answers(session, joined)


@question
def tasks(store: Store, run: str, only: Filter = ALL) -> list[Answer]:
    """Tasks and proposals with what became of each; truth where it was told.

    A dropped proposal without a question of its own shows its text and the reason.
    """
    with store.reading() as session:
        spans = ancestors(session, run)
        if only.drop not in (None, "admitted"):
            return _dropped(session, spans, only)
        states: list[ColumnElement[bool]] = [TaskRow.state.in_(("seed", "admitted"))]
        if only.drop == "admitted":
            states = [TaskRow.state == "admitted", ProposalRow.verdict == "admitted"]
        if only.origin is not None:
            states.append(TaskRow.origin == only.origin)
        told = _truth_join("task", TaskRow.run_id, TaskRow.id)
        query = (
            select(
                TaskRow.id,
                TaskRow.made_round.label("round"),
                TaskRow.question,
                TaskRow.reference,
                TaskRow.other_references,
                TaskRow.origin,
                TaskRow.confidence,
                TaskRow.parent_id.label("parent"),
                ProposalRow.verdict.label("drop"),
                ProposalRow.attempts,
                ProposalRow.beats,
                ProposalRow.agreement,
                TruthRow.right,
            )
            .outerjoin(ProposalRow, _judged(TaskRow.run_id, TaskRow.proposal_id))
            .outerjoin(TruthRow, told)
            .where(_here(spans, TaskRow.run_id, TaskRow.made_round, only), *states)
            .order_by(TaskRow.made_round.desc(), TaskRow.made_step.desc(), TaskRow.position)
        )
        return _answers(session, query.limit(only.limit))


@question
def origins(store: Store, run: str) -> dict[str, int]:
    """How many of a run's tasks have a reference of each origin, inherited ones included."""
    with store.reading() as session:
        here = within(ancestors(session, run), TaskRow.run_id, TaskRow.made_round)
        query = (
            select(TaskRow.origin, func.count())
            .where(here, TaskRow.state.in_(("seed", "admitted")))
            .group_by(TaskRow.origin)
            .order_by(TaskRow.origin)
        )
        return {str(origin): int(count) for origin, count in session.execute(query)}


def _dropped(session: Session, spans: Sequence[Span], only: Filter) -> list[Answer]:
    query = (
        select(
            ProposalRow.rollout_id.label("id"),
            GroupRow.round,
            RolloutRow.text,
            RolloutRow.form,
            ProposalRow.verdict.label("drop"),
            ProposalRow.similarity,
            GroupRow.task_id.label("parent"),
        )
        .select_from(GroupRow)
        .join(
            RolloutRow,
            _same_key((RolloutRow.run_id, GroupRow.run_id), (RolloutRow.group_id, GroupRow.id)),
        )
        .join(ProposalRow, _judged(RolloutRow.run_id, RolloutRow.id))
        .where(
            _here(spans, GroupRow.run_id, GroupRow.round, only),
            GroupRow.made_by == "propose",
            ProposalRow.verdict == only.drop,
        )
        .order_by(GroupRow.round.desc(), GroupRow.position, RolloutRow.position)
    )
    return _answers(session, query.limit(only.limit))


@question
def rollouts(store: Store, run: str, only: Filter = ALL) -> list[Answer]:
    """Rollouts, newest round first, with form, evidence, reward and advantage; truth where told."""
    with store.reading() as session:
        spans = ancestors(session, run)
        rollout = (RolloutRow.run_id, RolloutRow.id)
        query = (
            select(
                RolloutRow.id,
                GroupRow.round,
                CreditRow.step,
                GroupRow.role,
                GroupRow.task_id.label("task"),
                RolloutRow.form,
                RolloutRow.stop,
                RolloutRow.version,
                JudgementRow.reward,
                JudgementRow.advantage,
                EvidenceRow.status,
                EvidenceRow.reference_mean,
                EvidenceRow.baseline_mean,
                TruthRow.right,
                RolloutRow.text,
            )
            .select_from(GroupRow)
            .join(
                RolloutRow,
                _same_key((RolloutRow.run_id, GroupRow.run_id), (RolloutRow.group_id, GroupRow.id)),
            )
            .outerjoin(
                CreditRow,
                _same_key((CreditRow.run_id, GroupRow.run_id), (CreditRow.group_id, GroupRow.id)),
            )
            .outerjoin(
                JudgementRow,
                _same_key(
                    *zip((JudgementRow.run_id, JudgementRow.rollout_id), rollout, strict=True)
                ),
            )
            .outerjoin(
                EvidenceRow,
                _same_key(
                    (EvidenceRow.run_id, RolloutRow.run_id),
                    (EvidenceRow.rollout_id, RolloutRow.id),
                    (EvidenceRow.version, JudgementRow.evidence_version),
                ),
            )
            .outerjoin(TruthRow, _truth_join("rollout", *rollout))
            .where(*of_rollouts(spans, only))
            .order_by(GroupRow.round.desc(), GroupRow.id, RolloutRow.position)
        )
        return _answers(session, query.limit(only.limit))


def of_rollouts(spans: Sequence[Span], only: Filter) -> list[ColumnElement[bool]]:
    """Which rollouts of a history a filter leaves, in terms of groups and rollouts joined."""
    parts = [_here(spans, GroupRow.run_id, GroupRow.round, only)]
    for column, wanted in (
        (GroupRow.task_id, only.task),
        (GroupRow.role, only.role),
        (RolloutRow.form, only.form),
    ):
        if wanted is not None:
            parts.append(column == wanted)
    return parts


def _here(spans: Sequence[Span], run: Column, round: Number, only: Filter) -> ColumnElement[bool]:
    here = within(spans, run, round)
    return here if only.round is None else and_(here, round == only.round)


def _same_key(*pairs: tuple[Column | Number, Column | Number | Maybe]) -> ColumnElement[bool]:
    return and_(*(left == right for left, right in pairs))


def _judged(run: Column, rollout: Column | Maybe) -> ColumnElement[bool]:
    """A proposal's last word; candidates not yet attempted have only their first."""
    mine = and_(ProposalRow.run_id == run, ProposalRow.rollout_id == rollout)
    return and_(mine, ProposalRow.phase == "judged")


def _truth_join(kind: str, run: Column, subject: Column) -> ColumnElement[bool]:
    return and_(TruthRow.run_id == run, TruthRow.kind == kind, TruthRow.subject == subject)


def _answers(session: Session, query: Select[Any]) -> list[Answer]:
    return [dict(row) for row in session.execute(query).mappings()]
