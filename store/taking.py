"""The statements by which items are claimed. Built once: to build one takes as long as to run it.

All of them read the first row of an index that holds unanswered items alone. Where nothing is free
they read its last row too: once the database's clock has gone back, that one is open and yet free
in the future alone, or was claimed in the future, and then it may be claimed now.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import cast

from sqlalchemy import (
    ColumnElement,
    Double,
    Executable,
    FromClause,
    Select,
    Table,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    true,
    update,
)

from store.clock import clock
from store.schema import LeaseRow, RunRow, WorkerRow, WorkItemRow

ITEM = cast(Table, WorkItemRow.__table__)
Among = Callable[[FromClause], list[ColumnElement[bool]]]  # which items a claim is among


def _look(of_run: bool) -> Select[tuple[float | None, str | None]]:
    """Seconds since a worker was heard, beside the runs that have an item to claim.

    One row at least; the run that has waited longest first. Takes no lock.
    """
    heard = select(WorkerRow.heard).where(WorkerRow.name == bindparam("worker")).scalar_subquery()
    runs = _waiting(of_run).subquery()
    alone = select(literal(1).label("one")).subquery()
    looked = select(clock() - heard, runs.c.run_id).select_from(alone.outerjoin(runs, true()))
    return looked.order_by(runs.c.free)


def _waiting(of_run: bool) -> Select[tuple[str, float | None]]:
    """Of one run, or of those that are owned and running: since when there is an item to claim."""

    def its_own(one: FromClause) -> list[ColumnElement[bool]]:
        return [one.c.run_id == RunRow.id]

    free, hidden = (find("free", its_own).scalar_subquery() for find in (_first, _hidden))
    found = select(RunRow.id, func.coalesce(free, hidden).label("free"))
    if of_run:
        found = found.where(RunRow.id == bindparam("run"))
    else:
        owned = (LeaseRow.owner.is_not(None), LeaseRow.expires > clock())
        found = found.join(LeaseRow, LeaseRow.run_id == RunRow.id)
        found = found.where(*owned, RunRow.status == "running")
    runs = found.subquery()
    return select(runs.c.id.label("run_id"), runs.c.free).where(runs.c.free.is_not(None))


def _first(column: str, among: Among) -> Select[tuple[str | float]]:
    """The item that has waited longest."""
    one = ITEM.alias()
    free = select(one.c[column]).where(*among(one), one.c.free <= clock())
    return free.order_by(one.c.free, one.c.position).limit(1)


def _hidden(column: str, among: Among) -> Select[tuple[str | float]]:
    """The item that is free last of all, where only a clock that has gone back withholds it."""
    last, one = ITEM.alias(), ITEM.alias()
    ahead = select(last.c.id).where(*among(last), last.c.free > clock())
    its_id = ahead.order_by(last.c.free.desc()).limit(1).correlate_except(last).scalar_subquery()
    withheld = or_(one.c.state == "open", one.c.claimed > clock())
    return select(one.c[column]).where(*among(one), one.c.id == its_id, withheld)


LOOK_AT_RUN, LOOK = _look(of_run=True), _look(of_run=False)


@cache
def taking(of_weights: bool, of_ids: bool) -> Executable:
    """Claim, in one statement, the item that has waited longest and that nobody else locks."""

    def among(one: FromClause) -> list[ColumnElement[bool]]:
        its_own = [one.c.run_id == bindparam("of_run")]
        its_own += [one.c.weights == bindparam("of_weights")] if of_weights else []
        return its_own + ([one.c.id.in_(bindparam("of_ids", expanding=True))] if of_ids else [])

    item = ITEM.c
    free, hidden = (
        find("id", among).with_for_update(skip_locked=True).scalar_subquery()
        for find in (_first, _hidden)
    )
    first = item.number == item.base
    return (
        update(ITEM)
        .where(item.run_id == bindparam("of_run"), item.id == func.coalesce(free, hidden))
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
