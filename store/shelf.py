"""The stored groups that a run without sampling may study: found by name, read, and checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, and_, or_, select

from pipeline.types import Studied
from store.cases import Case, Violation, on, rows_of
from store.chain import ancestors, within
from store.database import Store, question
from store.errors import Unknown
from store.loads import Name, names_in, studied_of
from store.schema import CreditRow, GroupRow, StepRow, TaskRow


@question
def group_names(store: Store, run: str, upto: int, floor: float) -> list[Name]:
    """The solver's groups of a run's history up to a round, in the order they were judged.

    Those without a reference are left out, and those of a consensus below `floor`, which taught
    nobody when they were attempted. Inherited rounds are their owners'. Raises Unknown.
    """
    query = (
        select(GroupRow.run_id, GroupRow.id)
        .join(CreditRow, on(CreditRow, GroupRow, ("group_id", "id")))
        .join(TaskRow, _attempted())
        .where(GroupRow.role == "solver", TaskRow.reference != "")
        .where(or_(TaskRow.origin != "consensus", TaskRow.confidence >= floor))
        .order_by(GroupRow.round, CreditRow.step, CreditRow.position)
    )
    with store.reading() as session:
        spans = ancestors(session, run)
        rows = session.execute(query.where(within(spans, GroupRow.run_id, GroupRow.round, upto)))
        return [(row.run_id, row.id) for row in rows]


@question
def read_groups(store: Store, names: Sequence[Name]) -> list[Studied]:
    """The groups of these names, in order. Raises Unknown for one that no row holds."""
    with store.reading() as session:
        found = studied_of(session, names)
    missing = [name for name in names if name not in found]
    if missing:
        raise Unknown(f"run {missing[0][0]} holds no judged group {missing[0][1]}")
    return [found[name] for name in names]


def studied_close(case: Case, history: Sequence[str]) -> Iterator[Violation]:
    """I5: what steps studied is a solver's judged group of the run's history."""
    query = (
        select(GroupRow.run_id, GroupRow.id)
        .join(CreditRow, on(CreditRow, GroupRow, ("group_id", "id")))
        .where(GroupRow.role == "solver", GroupRow.run_id.in_(history))
    )
    steps = [row for row in rows_of(case, StepRow, StepRow.step) if row.studied]
    known = {(row.run_id, row.id) for row in case.session.execute(query)} if steps else set()
    for step in steps:
        for run, group in sorted(set(names_in(step)) - known):
            told = f"studied group {group} of run {run}, which its history does not hold"
            yield case.violation("I5", f"step {step.step}", told)


def _attempted() -> ColumnElement[bool]:
    return and_(
        TaskRow.run_id == GroupRow.task_run_id,
        TaskRow.id == GroupRow.task_id,
        TaskRow.state == GroupRow.task_state,
    )
