"""What must hold of every store, whatever was killed when. One check per invariant.

    I1   what was reported done is there         I7   one writer: epochs only rise
    I2   one outcome per key                     I8   no fault became a number
    I3   a step or round is whole or absent      I9   rounds and steps go forward only
    I4   a checkpoint's files are as written     I11  no debris
    I5   every name of a parent closes           I12  every stop has its reason
    I6   the digest chain follows from the rows  I13  counts close

I8 and I13, of what was measured and judged, stand in invariants_measured; what must hold of the
work queue stands in invariants_work, under the names above.
I10 (what a fault makes one do again) is a property of a run in progress and leaves no row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import cast

from pydantic import JsonValue
from sqlalchemy import Select, and_, exists, func, inspect, select, text
from sqlalchemy.orm import Session, aliased

from pipeline.files.checkpoint import TEMPORARY, BadCheckpoint, verify_checkpoint
from store.cases import Case, Kept, Violation, on, rows_of
from store.chain import ancestors
from store.database import Store, question
from store.digests import chain, group_digests, proposed_digest, step_digest
from store.invariants_measured import check_i8, check_i13
from store.invariants_work import check_work
from store.leases import live_owner
from store.loads import proposed_of, steps_of
from store.points import point_of
from store.schema import (
    Base,
    CheckpointRow,
    CreditRow,
    EvidenceRow,
    GroupRow,
    LeaseRow,
    ProbeRow,
    ProposedRow,
    RolloutRow,
    RunRow,
    StageRow,
    StepRow,
    StopRow,
    SyncRow,
    TaskRow,
    VersionRow,
)
from store.shelf import studied_close
from store.stages import chain_start, rounds_done, rows_digest, stages_of
from store.writing import known_versions

Answer = dict[str, JsonValue]
Check = Callable[[Case], Iterator[Violation]]


@question
def verify(
    store: Store,
    run: str | None = None,
    checkpoints: Path | None = None,
    kept: Kept | None = None,
) -> Answer:
    """Check every invariant of one run, or of all: {"checked": n, "violations": [...]}.

    checked counts the checks made. Checkpoint files are hashed only where `checkpoints` is given;
    `kept` knows where else they are.
    """
    checked, found = 0, []
    with store.reading() as session:
        found += list(check_database(session))
        names = [run] if run else session.scalars(select(RunRow.id).order_by(RunRow.number)).all()
        for name in names:
            ancestors(session, name)
            for check in CHECKS.values():
                checked += 1
                found += list(check(Case(session, name, checkpoints, kept)))
    listed: list[JsonValue] = [
        {"invariant": one.invariant, "place": one.place, "found": one.found} for one in found
    ]
    return {"checked": checked + 1, "violations": listed}


def check_database(session: Session) -> Iterator[Violation]:
    """I1, I2 for the file: pages and foreign keys whole, every key of the schema enforced."""
    if session.get_bind().dialect.name == "sqlite":
        for row in session.execute(text("PRAGMA quick_check")):
            if row[0] != "ok":
                yield Violation("I1", "the database file", str(row[0]))
        for row in session.execute(text("PRAGMA foreign_key_check")):
            yield Violation("I5", f"table {row[0]}, row {row[1]}", f"names no row of {row[2]}")
    else:
        yield from check_keys(session)
    inspector = inspect(session.connection())
    for name, table in Base.metadata.tables.items():
        there = inspector.get_pk_constraint(name)["constrained_columns"]
        if list(there) != [column.name for column in table.primary_key]:
            yield Violation("I2", f"table {name}", f"its key is {there}")


def check_keys(session: Session) -> Iterator[Violation]:
    """I5 where the database cannot check its own keys again: each row that names another has it."""
    for table in Base.metadata.sorted_tables:
        for key in table.foreign_key_constraints:
            named = key.referred_table.alias()
            pairs = [(one.parent, named.columns[one.column.name]) for one in key.elements]
            there = exists().where(*(mine == theirs for mine, theirs in pairs))
            lost = select(func.count()).where(~there, *(mine.is_not(None) for mine, _ in pairs))
            if count := session.scalar(lost.select_from(table)):
                told = f"{count} rows name no row of {key.referred_table.name}"
                yield Violation("I5", f"table {table.name}", told)


def check_i1(case: Case) -> Iterator[Violation]:
    """Each closed round has all its stages, numbered without a gap."""
    stages = rows_of(case, StageRow, StageRow.sequence)
    numbers = [row.sequence for row in stages]
    if numbers != list(range(1, len(numbers) + 1)):
        yield case.violation("I1", "stages", f"their sequence is {numbers}")
    closed = {(row.round, row.stage) for row in stages}
    for round in sorted({row.round for row in stages if row.stage == "probe"}):
        for stage in stages_of(round):
            if (round, stage) not in closed:
                yield case.violation("I1", f"round {round}", f"{stage} has no row")


def check_i2(case: Case) -> Iterator[Violation]:
    """No round is told twice along a fork's history."""
    spans = ancestors(case.session, case.run)
    parent = case.session.get_one(RunRow, case.run).parent_round
    if parent is not None:
        query = select(StageRow.round).where(StageRow.run_id == case.run, StageRow.round <= parent)
        for round in case.session.scalars(query):
            yield case.violation("I2", f"round {round}", f"also told by {spans[1].run}")


def check_i3(case: Case) -> Iterator[Violation]:
    """Groups, rollouts and verdicts stand under a committed step or round, and none is missing."""
    loose = (
        select(GroupRow.id)
        .outerjoin(CreditRow, on(CreditRow, GroupRow, ("group_id", "id")))
        .where(GroupRow.run_id == case.run, GroupRow.made_by == "climb")
        .where(CreditRow.group_id.is_(None))
    )
    for name in case.session.scalars(loose):
        yield case.violation("I3", f"group {name}", "was recorded without a step")
    early = (
        select(GroupRow.id)
        .outerjoin(ProposedRow, on(ProposedRow, GroupRow, ("round", "round")))
        .where(GroupRow.run_id == case.run, GroupRow.made_by == "propose")
        .where(ProposedRow.round.is_(None))
    )
    for name in case.session.scalars(early):
        yield case.violation("I3", f"group {name}", "was recorded without its round's proposals")


def check_i4(case: Case) -> Iterator[Violation]:
    """Every checkpoint not pruned is there, with the manifest its row names, byte for byte."""
    if case.checkpoints is None:
        return
    for row in rows_of(case, CheckpointRow, CheckpointRow.sequence):
        if row.state == "pruned":
            continue
        try:
            if case.kept is None:
                verify_checkpoint(case.checkpoints / row.folder, row.manifest_digest)
            else:
                case.kept.check(point_of(row))
        except BadCheckpoint as error:
            yield case.violation("I4", f"checkpoint of round {row.round}", str(error))


def check_i5(case: Case) -> Iterator[Violation]:
    """Versions, parents and proposals that rows name are recorded in the run's history."""
    spans = ancestors(case.session, case.run)
    named: dict[str, str] = {}
    for what, query in _versions_named(case.run).items():
        named.update({name: what for name in case.session.scalars(query) if name})
    for row in rows_of(case, VersionRow, VersionRow.position):
        named.update(dict.fromkeys(cast("list[str]", row.parents), f"version {row.id}"))
    known = known_versions(case.session, spans, named)
    for name in sorted(named.keys() - known):
        yield case.violation("I5", named[name], f"names the version {name!r}, which no row holds")
    history = [span.run for span in spans]
    yield from _tasks_close(case, history)
    yield from studied_close(case, history)


def _versions_named(run: str) -> dict[str, Select[tuple[str]]]:
    return {
        "rollouts": select(RolloutRow.version).where(RolloutRow.run_id == run).distinct(),
        "evidence": select(EvidenceRow.version).where(EvidenceRow.run_id == run).distinct(),
        "syncs, source": select(SyncRow.source).where(SyncRow.run_id == run),
        "syncs, before": select(SyncRow.before).where(SyncRow.run_id == run),
        "syncs, after": select(SyncRow.after).where(SyncRow.run_id == run),
        "probes": select(ProbeRow.version).where(ProbeRow.run_id == run).distinct(),
    }


def _tasks_close(case: Case, history: Sequence[str]) -> Iterator[Violation]:
    parent = aliased(TaskRow)
    mine = select(TaskRow.id).where(TaskRow.run_id == case.run)
    orphaned = (
        mine.add_columns(TaskRow.parent_id)
        .outerjoin(parent, and_(parent.run_id.in_(history), parent.id == TaskRow.parent_id))
        .where(TaskRow.parent_id.is_not(None), parent.id.is_(None))
    )
    for row in case.session.execute(orphaned):
        yield case.violation(
            "I5", f"task {row[0]}", f"names the parent {row[1]}, which no row holds"
        )
    unwritten = (
        mine.add_columns(TaskRow.proposal_id)
        .outerjoin(RolloutRow, on(RolloutRow, TaskRow, ("id", "proposal_id")))
        .where(TaskRow.proposal_id.is_not(None), RolloutRow.id.is_(None))
    )
    for row in case.session.execute(unwritten):
        yield case.violation("I5", f"task {row[0]}", f"names the proposal {row[1]}, not recorded")


def check_i6(case: Case) -> Iterator[Violation]:
    """Digests of proposals, steps and stages, computed again from the rows, are the recorded."""
    for row in rows_of(case, ProposedRow, ProposedRow.round):
        if row.digest not in _again(partial(_proposed_digests, case, row.round)):
            yield case.violation("I6", f"proposals of round {row.round}", "a row changed")
    steps = rows_of(case, StepRow, StepRow.step)
    for round in sorted({row.round for row in steps}):
        told = _again(partial(_step_digests, case, round))
        for step in steps:
            if step.round == round and step.digest not in told:
                yield case.violation("I6", f"step {step.step}", "a row changed")
    digest = chain_start(case.session, case.run)
    for stage in rows_of(case, StageRow, StageRow.sequence):
        if stage.rows not in _again(partial(_stage_digests, case, stage)):
            yield case.violation("I6", f"{stage.stage} of round {stage.round}", "a row changed")
        expected = chain(digest, f"{stage.round}:{stage.stage}", stage.rows, stage.content)
        if expected != stage.digest:
            told_here = f"the chain gives {expected}, the row says {stage.digest}"
            yield case.violation("I6", f"{stage.stage} of round {stage.round}", told_here)
        digest = stage.digest


def _again(compute: Callable[[], list[str]]) -> list[str]:
    """Digests computed again; none where the rows no longer read back into nouns at all."""
    try:
        return compute()
    except (KeyError, TypeError, ValueError):
        return []


def _stage_digests(case: Case, row: StageRow) -> list[str]:
    return [rows_digest(case.session, case.run, row.round, row.stage)]


def _proposed_digests(case: Case, round: int) -> list[str]:
    proposed = proposed_of(case.session, case.run, round)
    return [proposed_digest(proposed, group_digests(proposed.groups))] if proposed else []


def _step_digests(case: Case, round: int) -> list[str]:
    return [
        step_digest(step, group_digests(one.judged.group for one in step.credited))
        for step in steps_of(case.session, case.run, round)
    ]


def check_i7(case: Case) -> Iterator[Violation]:
    """Epochs never fall along steps, stages and checkpoints, nor exceed the lease's."""
    lease = case.session.get(LeaseRow, case.run)
    newest = lease.epoch if lease else 0
    columns: dict[str, list[int]] = {
        "steps": [row.epoch for row in rows_of(case, StepRow, StepRow.step)],
        "stages": [row.epoch for row in rows_of(case, StageRow, StageRow.sequence)],
        "checkpoints": [row.epoch for row in rows_of(case, CheckpointRow, CheckpointRow.sequence)],
    }
    for what, epochs in columns.items():
        if epochs != sorted(epochs) or any(epoch > newest for epoch in epochs):
            yield case.violation("I7", what, f"epochs {epochs} under a lease of epoch {newest}")


def check_i9(case: Case) -> Iterator[Violation]:
    """Stages follow each other in order, and steps count up one by one."""
    previous: tuple[int, int] | None = None
    for row in rows_of(case, StageRow, StageRow.sequence):
        place = (row.round, stages_of(row.round).index(row.stage))
        if previous is not None and place <= previous:
            yield case.violation(
                "I9", f"{row.stage} of round {row.round}", "came after a later stage"
            )
        previous = place
    steps = rows_of(case, StepRow, StepRow.step)
    for earlier, later in pairwise(steps):
        if later.step != earlier.step + 1 or later.round < earlier.round:
            yield case.violation("I9", f"step {later.step}", f"follows step {earlier.step}")


def check_i11(case: Case) -> Iterator[Violation]:
    """With nobody writing, no temporary or unnamed checkpoint folder is left."""
    if case.checkpoints is None or live_owner(case.session, case.run) is not None:
        return
    rows = rows_of(case, CheckpointRow, CheckpointRow.sequence)
    known = {case.checkpoints / row.folder for row in rows}
    for root in {folder.parent for folder in known}:
        for path in sorted(root.iterdir()) if root.is_dir() else []:
            if path.name.startswith(TEMPORARY):
                yield case.violation("I11", str(path), "a temporary folder was left")
            elif path not in known:
                yield case.violation("I11", str(path), "no row names this folder")
    points = [point_of(row) for row in rows]
    for name in case.kept.loose(case.run, points) if case.kept else []:
        yield case.violation("I11", f"shared {name}", "no row names this copy")


def check_i12(case: Case) -> Iterator[Violation]:
    """A run is done only with its rounds committed, and a stopped one says why."""
    run = case.session.get_one(RunRow, case.run)
    done = rounds_done(case.session, case.run)
    if run.status == "done" and done < run.rounds_asked:
        yield case.violation("I12", "status", f"done with {done} of {run.rounds_asked} rounds")
    last = select(StopRow.status).where(StopRow.run_id == case.run).order_by(StopRow.number.desc())
    reason = case.session.scalars(last.limit(1)).first()
    if run.status != "running" and reason != run.status:
        yield case.violation("I12", "status", f"{run.status} without a reason of its own")


CHECKS: dict[str, Check] = {
    "I1": check_i1,
    "I2": check_i2,
    "I3": check_i3,
    "I4": check_i4,
    "I5": check_i5,
    "I6": check_i6,
    "I7": check_i7,
    "I8": check_i8,
    "I9": check_i9,
    "I11": check_i11,
    "I12": check_i12,
    "I13": check_i13,
    "work": check_work,
}
