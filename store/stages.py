"""Stages and the digest chain over them."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from pipeline.faults import fault
from store.chain import owner_of
from store.database import Lease
from store.digests import chain, digest_of
from store.errors import Conflict, OutOfOrder
from store.loads import probes_of, syncs_of, task_of
from store.rows import add
from store.schema import (
    STAGES,
    CheckpointRow,
    PoolRow,
    ProposedRow,
    RunRow,
    StageRow,
    StepRow,
    TaskRow,
    TruthRow,
)
from store.work import forget

FIRST = ("checkpoint", "probe")  # the stages of round 0


def stages_of(round: int) -> tuple[str, ...]:
    """The stages of a round, in order."""
    return STAGES if round > 0 else FIRST


def digest_in(session: Session, run: str, round: int, stage: str) -> str | None:
    return session.scalar(
        select(StageRow.digest).where(
            StageRow.run_id == run, StageRow.round == round, StageRow.stage == stage
        )
    )


def rounds_done(session: Session, run: str) -> int:
    """Rounds committed to their end, those inherited by a fork included."""
    last = session.scalar(
        select(func.max(StageRow.round)).where(StageRow.run_id == run, StageRow.stage == "probe")
    )
    row = session.get_one(RunRow, run)
    return max(last or 0, row.parent_round or 0)


def guard(session: Session, run: str, round: int, stage: str, fresh: int) -> None:
    """Refuse new rows for a stage that is closed, or for a round that a fork inherited."""
    if not fresh:
        return
    if digest_in(session, run, round, stage) is not None:
        raise Conflict(f"{stage} of round {round} of run {run} is closed and takes no new rows")
    parent = session.get_one(RunRow, run).parent_round
    if parent is not None and 0 < round <= parent:
        raise OutOfOrder(f"run {run} forked after round {parent}; it cannot write round {round}")


def close(session: Session, lease: Lease, place: tuple[int, str], content: str) -> str:
    """Write the stage's row and return the chain's digest; closing twice changes nothing."""
    run, (round, stage) = lease.run, place
    found = session.get(StageRow, (run, round, stage))
    rows = rows_digest(session, run, round, stage)
    if found is not None:
        if (found.rows, found.content) != (rows, content):
            raise Conflict(f"{stage} of round {round} of run {run} was closed with other content")
        return found.digest
    previous, sequence = _before(session, run, round, stage)
    digest = chain(previous, f"{round}:{stage}", rows, content)
    row = {"run_id": run, "round": round, "stage": stage, "sequence": sequence, "rows": rows}
    more = {"content": content, "digest": digest, "epoch": lease.epoch, "at": datetime.now(UTC)}
    add(session, StageRow, [{**row, **more}])
    forget(session, run)
    fault("stage.before_commit")
    return digest


def _before(session: Session, run: str, round: int, stage: str) -> tuple[str, int]:
    """The digest this stage builds on and its place in the run's sequence."""
    if stage not in stages_of(round):
        raise OutOfOrder(f"round {round} has no stage {stage!r}, only {stages_of(round)}")
    index = stages_of(round).index(stage)
    earlier = (round, stages_of(round)[index - 1]) if index else (round - 1, "probe")
    count = select(func.count()).select_from(StageRow).where(StageRow.run_id == run)
    sequence = session.scalars(count).one() + 1
    start = chain_start(session, run)
    parent = session.get_one(RunRow, run).parent_round
    if earlier[0] == (-1 if parent is None else parent) and index == 0:
        return start, sequence
    digest = digest_in(session, run, *earlier)
    if digest is None:
        raise OutOfOrder(
            f"run {run}: {stage} of round {round} cannot close before {earlier[1]} of "
            f"round {earlier[0]}"
        )
    return digest, sequence


def chain_start(session: Session, run: str) -> str:
    """What the first stage builds on: the configuration, and for a fork its parent's chain."""
    row = session.get_one(RunRow, run)
    if row.parent_run_id is None or row.parent_round is None:
        return digest_of("start", row.config_digest)
    owner = owner_of(session, row.parent_run_id, row.parent_round)
    inherited = digest_in(session, owner, row.parent_round, "probe")
    return digest_of("fork", inherited, row.config_digest)


def rows_digest(session: Session, run: str, round: int, stage: str) -> str:
    """Digest of a stage's rows; proposals and steps by the digest each recorded."""
    if stage == "propose":
        proposed = session.get(ProposedRow, (run, round))
        return digest_of(proposed.digest if proposed else None)
    if stage == "climb":
        steps = select(StepRow.digest).where(StepRow.run_id == run, StepRow.round == round)
        return digest_of(session.scalars(steps.order_by(StepRow.step)).all())
    if stage == "sync":
        return digest_of(syncs_of(session, run, round, "sync"))
    if stage == "checkpoint":
        point = session.get(CheckpointRow, (run, round))
        return digest_of(point.versions if point else None, _seeds(session, run, round))
    return digest_of(
        probes_of(session, run, round), _pool(session, run, round), _truth(session, run, round)
    )


def _seeds(session: Session, run: str, round: int) -> list[str]:
    if round > 0:
        return []
    seeds = select(TaskRow).where(
        TaskRow.run_id == run, TaskRow.made_round == 0, TaskRow.state == "seed"
    )
    return [digest_of(task_of(row)) for row in session.scalars(seeds.order_by(TaskRow.position))]


def _pool(session: Session, run: str, round: int) -> list[str]:
    if round > 0:
        return []
    pool = select(PoolRow).where(PoolRow.run_id == run).order_by(PoolRow.position)
    return [
        digest_of(row.id, row.slice, row.question, row.reference, row.reasoning, row.right)
        for row in session.scalars(pool)
    ]


def _truth(session: Session, run: str, round: int) -> list[list[object]]:
    columns = (TruthRow.kind, TruthRow.subject, TruthRow.told_by, TruthRow.right)
    told = select(*columns).where(TruthRow.run_id == run, TruthRow.round == round)
    return sorted([list(row) for row in session.execute(told)], key=str)
