"""The statements by which items are claimed. Built once: to build one takes as long as to run it.

All of them read the first row of an index that holds unanswered items alone.
"""

from __future__ import annotations

from functools import cache
from typing import cast

from sqlalchemy import Double, Executable, Select, Table, bindparam, case, select, update

from store.clock import clock
from store.schema import LeaseRow, RunRow, WorkerRow, WorkItemRow

ITEM = cast(Table, WorkItemRow.__table__)

# when the item of a run that has waited longest began to wait
OLDEST = (
    select(ITEM.c.free)
    .where(ITEM.c.run_id == bindparam("run"), ITEM.c.free <= clock())
    .order_by(ITEM.c.free)
    .limit(1)
)

# seconds since a worker was heard
SILENCE = select(clock() - WorkerRow.heard).where(WorkerRow.name == bindparam("worker"))


def _waiting_runs() -> Select[str]:
    """Runs that are owned and running, by the item of theirs that has waited longest."""
    oldest = (
        select(ITEM.c.free)
        .where(ITEM.c.run_id == LeaseRow.run_id, ITEM.c.free.is_not(None))
        .order_by(ITEM.c.free)
        .limit(1)
        .scalar_subquery()
    )
    owned = (
        select(LeaseRow.run_id, oldest.label("free"))
        .join(RunRow, RunRow.id == LeaseRow.run_id)
        .where(LeaseRow.owner.is_not(None), LeaseRow.expires > clock(), RunRow.status == "running")
        .subquery()
    )
    waiting = select(owned.c.run_id).where(owned.c.free <= clock())
    return waiting.order_by(owned.c.free)


WAITING_RUNS = _waiting_runs()


@cache
def taking(of_weights: bool, of_ids: bool) -> Executable:
    """Claim, in one statement, the item that has waited longest and that nobody else locks."""
    item, one = ITEM.c, ITEM.alias()
    among = [one.c.run_id == bindparam("of_run"), one.c.free <= clock()]
    among += [one.c.weights == bindparam("of_weights")] if of_weights else []
    among += [one.c.id.in_(bindparam("of_ids", expanding=True))] if of_ids else []
    waiting = select(one.c.id).where(*among).order_by(one.c.free, one.c.position).limit(1)
    longest = waiting.with_for_update(skip_locked=True).scalar_subquery()
    first = item.number == item.base
    return (
        update(ITEM)
        .where(item.run_id == bindparam("of_run"), item.id == longest)
        .values(
            state="claimed",
            worker=bindparam("by"),
            number=item.number + 1,
            claimed=clock(),
            free=clock() + bindparam("seconds", type_=Double()),
            redone=item.redone + case((first, 0), else_=1),
            waited=case((first, clock() - item.asked), else_=item.waited),
        )
        .returning(
            item.id, item.weights_file, item.weights, item.version, item.kind, item.rows, item.ask,
            item.number, item.base, item.error,
        )
    )  # fmt: skip
