"""Invariants of the work queue: one answer per item, by one who claimed it; nothing left open."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import func, or_, select

from store.cases import Case, Violation
from store.schema import LeaseRow, RunRow, StepRow, WorkItemRow

_MOST = 20  # items that are named; more of them tell nothing new


def check_work(case: Case) -> Iterator[Violation]:
    """I2, I7, I8 and I13 of a run's items; a run that has none breaks nothing."""
    yield from _answered(case)
    yield from _owned(case)
    yield from _closed(case)


def _answered(case: Case) -> Iterator[Violation]:
    """Each answer belongs to a claim, and what was given up has a reason in place of one."""
    item = WorkItemRow
    unclaimed = or_(item.number <= item.base, item.worker.is_(None), item.finished.is_(None))
    odd = select(item.id).where(item.run_id == case.run, item.state == "done", unclaimed)
    for name in case.session.scalars(odd.limit(_MOST)):
        yield case.violation("I2", f"item {name}", "was answered, and nobody claimed it")
    mute = select(item.id).where(item.run_id == case.run, item.state == "failed")
    for name in case.session.scalars(mute.where(item.error.is_(None)).limit(_MOST)):
        yield case.violation("I8", f"item {name}", "was given up without a reason")


def _owned(case: Case) -> Iterator[Violation]:
    """Only owners put items out."""
    lease = case.session.get(LeaseRow, case.run)
    newest = lease.epoch if lease else 0
    odd = select(WorkItemRow.id).where(WorkItemRow.run_id == case.run, WorkItemRow.epoch > newest)
    for name in case.session.scalars(odd.limit(_MOST)):
        yield case.violation("I7", f"item {name}", f"was put out after epoch {newest}")


def _closed(case: Case) -> Iterator[Violation]:
    """A committed step leaves no item unanswered, and a finished run none at all."""
    open_item = (WorkItemRow.run_id == case.run, WorkItemRow.free.is_not(None))
    last = select(func.max(StepRow.step)).where(StepRow.run_id == case.run).scalar_subquery()
    left = select(WorkItemRow.id, WorkItemRow.step).where(*open_item, WorkItemRow.step < last)
    for name, step in case.session.execute(left.limit(_MOST)):
        yield case.violation("I13", f"item {name}", f"is open, though step {step + 1} is committed")
    if case.session.get_one(RunRow, case.run).status == "done":
        count = select(func.count()).select_from(WorkItemRow).where(*open_item)
        if number := case.session.scalar(count):
            yield case.violation("I13", "items", f"{number} are open in a run that is done")
