"""The history of a run, written once: proposals, steps, syncs, probes, checkpoints, stages.

Every write is one transaction under the lease and idempotent under its keys; the same key with
other content raises Conflict. Each stage ends in one row whose digest covers all that came before.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime

from pydantic import JsonValue
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from pipeline.faults import fault
from pipeline.types import (
    ProbeRecord,
    Proposed,
    StepRecord,
    SyncRecord,
    Task,
)
from store.chain import ancestors, owner_of
from store.database import Lease, Store
from store.digests import Digests, group_digests, proposed_digest, step_digest
from store.errors import Conflict, OutOfOrder, Unfinished, Unknown
from store.loads import proposed_of, steps_of, task_of
from store.rows import (
    add,
    as_row,
    evidence_rows,
    judgement_rows,
    probe_row,
    proposal_row,
    put,
    reading_rows,
    sync_row,
    task_row,
    update_rows,
)
from store.schema import (
    RUN_STATUSES,
    CreditRow,
    EvidenceRow,
    JudgementRow,
    PoolRow,
    ProbeRow,
    ProposalRow,
    ProposedRow,
    ReadingRow,
    RunRow,
    StepRow,
    SyncRow,
    TaskRow,
    TruthRow,
    UpdateRow,
)
from store.stages import close, digest_in, guard, rounds_done
from store.stops import record_stop
from store.work import forget
from store.writing import (
    Made,
    check_versions,
    write_groups,
    write_synced_versions,
    write_versions,
)


@dataclass(frozen=True, slots=True)
class NewRun:
    """What a run starts from.

    config       canonical JSON of its configuration
    environment  versions and machine, as JSON; never part of a digest
    parent       (run, round) it forks from: its own rounds begin after that one
    id           short random hex where None
    """

    config: str
    config_digest: str
    environment: Mapping[str, JsonValue]
    seed: int
    rounds_asked: int
    name: str | None = None
    parent: tuple[str, int] | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class PoolItem:
    """One labelled rollout of the verifier's frozen pool; nothing of it trains."""

    id: str
    question: str
    reference: str
    reasoning: str
    right: bool
    slice: str = "all"


@dataclass(frozen=True, slots=True)
class Truth:
    """Right or wrong, told by a world or a rule. kind is "rollout" or "task"."""

    kind: str
    subject: str
    right: bool
    told_by: str


def create_run(store: Store, new: NewRun) -> str:
    """Record a run and return its id. Raises Unknown for a fork from a round not committed."""
    run = new.id or secrets.token_hex(4)
    fault("run.before_row")
    store.write(None, lambda session: _create(session, run, new))
    fault("run.after_row")
    return run


def _create(session: Session, run: str, new: NewRun) -> None:
    parent, round = new.parent or (None, None)
    if parent is not None and round is not None and not _committed(session, parent, round):
        raise Unknown(f"run {parent} has no committed round {round} to fork from")
    row = {
        **as_row(new, "parent"),
        "id": run,
        "environment": dict(new.environment),
        "parent_run_id": parent,
        "parent_round": round,
    }
    if session.get(RunRow, run) is None:
        last = session.scalar(select(func.max(RunRow.number)))
        fresh = {"number": (last or 0) + 1, "status": "running", "at": datetime.now(UTC)}
        add(session, RunRow, [{**row, **fresh}])
    else:
        put(session, RunRow, [row])


def _committed(session: Session, run: str, round: int) -> bool:
    return digest_in(session, owner_of(session, run, round), round, "probe") is not None


def ask_rounds(store: Store, lease: Lease, rounds: int) -> None:
    """Ask the run for more rounds than before. Raises ValueError where it would ask for fewer."""

    def work(session: Session) -> None:
        row = session.get_one(RunRow, lease.run)
        if rounds < row.rounds_asked:
            raise ValueError(f"run {lease.run} was asked for {row.rounds_asked} rounds already")
        row.rounds_asked = rounds
        if rounds_done(session, lease.run) < rounds:
            row.status = "running"

    store.write(lease, work)


def stage_done(store: Store, run: str, round: int, stage: str) -> str | None:
    """The digest of a closed stage, inherited rounds included, or None while it is open."""
    with store.reading() as session:
        return digest_in(session, owner_of(session, run, round), round, stage)


def close_stage(store: Store, lease: Lease, round: int, stage: str, content: str = "") -> str:
    """Commit the stage and return the chain's digest.

    content  the flow's own digest of what rows do not hold; folded into the chain
    Raises OutOfOrder where an earlier stage is open, Conflict where it was closed otherwise.
    """
    digest = store.write(lease, lambda session: close(session, lease, (round, stage), content))
    fault("stage.after_commit")
    return digest


def record_seed_tasks(store: Store, lease: Lease, tasks: Sequence[Task]) -> None:
    """The seed tasks in order, before the first stage closes."""
    rows = [task_row(lease.run, task, "seed", (0, None, n)) for n, task in enumerate(tasks)]

    def work(session: Session) -> None:
        fresh = put(session, TaskRow, rows)
        guard(session, lease.run, 0, "checkpoint", fresh)

    store.write(lease, work)


def seed_tasks(store: Store, run: str) -> list[Task]:
    """The run's seed tasks in order, or those of the nearest ancestor that recorded any."""
    with store.reading() as session:
        for span in ancestors(session, run):
            query = select(TaskRow).where(
                TaskRow.run_id == span.run, TaskRow.made_round == 0, TaskRow.state == "seed"
            )
            found = session.scalars(query.order_by(TaskRow.position)).all()
            if found:
                return [task_of(row) for row in found]
    return []


def record_proposed(store: Store, lease: Lease, proposed: Proposed) -> None:
    """All proposals of a round, with the reason of each drop."""
    groups = group_digests(proposed.groups)
    store.write(lease, lambda session: _record_proposed(session, lease, proposed, groups))
    fault("gen.after_commit")


def _record_proposed(session: Session, lease: Lease, proposed: Proposed, groups: Digests) -> None:
    run, round, digest = lease.run, proposed.round, proposed_digest(proposed, groups)
    found = session.get(ProposedRow, (run, round))
    if found is not None:
        _same(found.digest, digest, f"round {round}'s proposals of run {run}")
        return
    guard(session, run, round, "propose", 1)
    head = {"run_id": run, "round": round, "digest": digest, "epoch": lease.epoch}
    add(session, ProposedRow, [{**head, "at": datetime.now(UTC)}])
    tasks = [task for row in proposed.candidates for task in row if task is not None]
    add(
        session,
        TaskRow,
        (task_row(run, task, "candidate", (round, None, n)) for n, task in enumerate(tasks)),
    )
    write_groups(session, Made(run, "propose", round), proposed.groups, groups)
    rows = []
    per_group = zip(proposed.groups, proposed.candidates, proposed.evidence, strict=True)
    for group, candidates, evidence in per_group:
        for rollout, task, told in zip(group.rollouts, candidates, evidence, strict=True):
            rows.append(proposal_row(run, rollout.id, "proposed", told, task))
    fault("gen.item_row")
    add(session, ProposalRow, rows)
    fault("gen.before_commit")


def load_proposed(store: Store, run: str, round: int) -> Proposed | None:
    """The round's proposals, equal to what was recorded, or None where they were not yet."""
    with store.reading() as session:
        return proposed_of(session, owner_of(session, run, round), round)


def record_step(store: Store, lease: Lease, record: StepRecord) -> None:
    """One optimiser step, whole, in one transaction."""
    groups = group_digests(one.judged.group for one in record.credited)
    store.write(lease, lambda session: _record_step(session, lease, record, groups))
    fault("upd.after_commit")


def _record_step(session: Session, lease: Lease, record: StepRecord, groups: Digests) -> None:
    run, round, step = lease.run, record.round, record.step
    digest = step_digest(record, groups)
    found = session.get(StepRow, (run, step))
    if found is not None:
        _same(found.digest, digest, f"step {step} of run {run}")
        return
    guard(session, run, round, "climb", 1)
    last = session.scalar(select(func.max(StepRow.step)).where(StepRow.run_id == run))
    if last is not None and step != last + 1:
        raise OutOfOrder(f"run {run} is at step {last}; the next is {last + 1}, not {step}")
    row = {"run_id": run, "step": step, "round": round, "digest": digest, "epoch": lease.epoch}
    cost = {"seconds": dict(record.seconds), "resampled": record.resampled}
    read = {"studied": [list(one.name) for one in record.studied] or None}
    add(session, StepRow, [{**row, **cost, **read, "at": datetime.now(UTC)}])
    made = Made(run, "climb", round, step)
    tasks = enumerate(record.tasks)
    add(session, TaskRow, (task_row(run, one, "admitted", (round, step, n)) for n, one in tasks))
    write_groups(session, made, [one.judged.group for one in record.credited], groups)
    _write_credit(session, made, record)
    write_versions(session, made, record.versions)
    add(session, UpdateRow, update_rows(run, step, record.updates))
    fault("upd.row")
    _write_syncs(session, made, record.syncs)
    forget(session, run)
    fault("upd.before_commit")


def _write_credit(session: Session, made: Made, record: StepRecord) -> None:
    run = made.run
    attempts, proposals = evidence_rows(run, record.credited)
    check_versions(session, run, {str(row["version"]) for row in attempts})
    add(session, EvidenceRow, attempts)
    add(session, ReadingRow, reading_rows(run, record.credited))
    add(session, ProposalRow, proposals)
    credits = []
    for position, one in enumerate(record.credited):
        named = {name: list(values) for name, values in one.judged.components.items()}
        key = {"run_id": run, "group_id": one.judged.group.id, "step": record.step}
        credits.append({**key, "position": position, "components": named})
    add(session, CreditRow, credits)
    add(session, JudgementRow, (row for one in record.credited for row in judgement_rows(run, one)))
    fault("rew.row")


def _write_syncs(session: Session, made: Made, syncs: Sequence[SyncRecord]) -> int:
    write_synced_versions(session, made, syncs)
    rows = [sync_row(made.run, sync, made.stage, n) for n, sync in enumerate(syncs)]
    fresh = put(session, SyncRow, rows)
    fault("sync.row")
    return fresh


def steps_done(store: Store, run: str, round: int) -> int:
    """How many steps of the round are committed, without reading them."""
    with store.reading() as session:
        owner = owner_of(session, run, round)
        rows = select(func.count()).where(StepRow.run_id == owner, StepRow.round == round)
        return session.scalar(rows) or 0


def load_steps(store: Store, run: str, round: int) -> list[StepRecord]:
    """The round's committed steps, each equal to what was recorded, floats bit for bit."""
    with store.reading() as session:
        return steps_of(session, owner_of(session, run, round), round)


def record_sync(store: Store, lease: Lease, syncs: Sequence[SyncRecord]) -> None:
    """What the end of a round decided about the proxy; all syncs are of one round."""

    def work(session: Session) -> None:
        for round in {sync.round for sync in syncs}:
            fresh = _write_syncs(session, Made(lease.run, "sync", round), syncs)
            guard(session, lease.run, round, "sync", fresh)

    store.write(lease, work)
    fault("sync.after_commit")


def record_probes(store: Store, lease: Lease, round: int, records: Sequence[ProbeRecord]) -> None:
    """A round's figures on the fixed held-out sets."""
    rows = [probe_row(lease.run, round, n, record) for n, record in enumerate(records)]

    def work(session: Session) -> None:
        check_versions(session, lease.run, {record.version for record in records})
        fresh = put(session, ProbeRow, rows)
        fault("eval.row")
        guard(session, lease.run, round, "probe", fresh)
        fault("eval.before_commit")

    store.write(lease, work)
    fault("eval.after_commit")


def record_pool(store: Store, lease: Lease, items: Sequence[PoolItem]) -> None:
    """The verifier's frozen labelled pool, before round 0's probe closes."""
    rows = [{**as_row(item), "run_id": lease.run, "position": n} for n, item in enumerate(items)]

    def work(session: Session) -> None:
        guard(session, lease.run, 0, "probe", put(session, PoolRow, rows))

    store.write(lease, work)


def load_pool(store: Store, run: str) -> list[PoolItem]:
    """The pool as the run itself recorded it, in order."""
    names = [field.name for field in fields(PoolItem)]
    query = select(PoolRow).where(PoolRow.run_id == run).order_by(PoolRow.position)
    with store.reading() as session:
        rows = session.scalars(query).all()
    return [PoolItem(**{name: getattr(row, name) for name in names}) for row in rows]


def record_truth(store: Store, lease: Lease, round: int, truths: Sequence[Truth]) -> None:
    """What a world or a rule told of this round's tasks or rollouts; training never reads it."""
    rows = [{**as_row(truth), "run_id": lease.run, "round": round} for truth in truths]

    def work(session: Session) -> None:
        guard(session, lease.run, round, "probe", put(session, TruthRow, rows))

    store.write(lease, work)


def finish(store: Store, lease: Lease, status: str, reason: str) -> None:
    """Say how the run stands and why. Raises Unfinished for "done" before its rounds are."""
    if status not in RUN_STATUSES:
        raise ValueError(f"a run's status is one of {', '.join(RUN_STATUSES)}, not {status!r}")

    def work(session: Session) -> None:
        row = session.get_one(RunRow, lease.run)
        done = rounds_done(session, lease.run)
        if status == "done" and done < row.rounds_asked:
            raise Unfinished(f"run {lease.run} has {done} of {row.rounds_asked} rounds committed")
        row.status = status
        record_stop(session, lease.run, status, reason)

    store.write(lease, work)


def _same(found: str, digest: str, what: str) -> None:
    if found != digest:
        raise Conflict(f"{what} is recorded with other content (digest {found}, not {digest})")
