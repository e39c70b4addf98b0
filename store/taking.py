"""The statements by which items are claimed. Built once: to build one takes as long as to run it.

All of them read the first row of an index that holds unanswered items alone.
"""

from __future__ import annotations

from functools import cache
from typing import cast

from sqlalchemy import (
    Double,
    Executable,
    Select,
    Table,
    bindparam,
    case,
    literal,
    select,
    true,
    update,
)

from store.clock import clock
from store.schema import LeaseRow, RunRow, WorkerRow, WorkItemRow

ITEM = cast(Table, WorkItemRow.__table__)


def _look(of_run: bool) -> Select[tuple[float | None, str | None]]:
    """Seconds since a worker was heard, beside the runs that have an item to claim.

    One row at least; the run that has waited longest first. Takes no lock.
    """
    heard = select(WorkerRow.heard).where(WorkerRow.name == bindparam("worker")).scalar_subquery()
    runs = (_of_run() if of_run else _of_any()).subquery()
    alone = select(literal(1).label("one")).subquery()
    looked = select(clock() - heard, runs.c.run_id).select_from(alone.outerjoin(runs, true()))
    return looked.order_by(runs.c.free)


def _of_run() -> Select[tuple[str, float | None]]:
    free = select(ITEM.c.run_id, ITEM.c.free).where(ITEM.c.run_id == bindparam("run"))
    return free.where(ITEM.c.free <= clock()).order_by(ITEM.c.free).limit(1)


def _of_any() -> Select[tuple[str, float | None]]:
    """Of runs that are owned and running, when the item that has waited longest began to."""
    oldest = (
        select(ITEM.c.free)
        .where(ITEM.c.run_id == LeaseRow.run_id, ITEM.c.free <= clock())
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
    return select(owned.c.run_id, owned.c.free).where(owned.c.free.is_not(None))


LOOK_AT_RUN, LOOK = _look(of_run=True), _look(of_run=False)


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
