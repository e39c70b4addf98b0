"""Who answers items, when they were last heard, and what the queue has done for each run."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from math import ceil

from pydantic import JsonValue
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from store.clock import clock
from store.database import Store, question
from store.schema import WorkerRow, WorkItemRow
from store.schema_work import ITEM_STATES

Answer = dict[str, JsonValue]


def heard(store: Store, worker: str) -> None:
    """Record that this process, under that name, is at work now. Claiming does it too."""
    store.write(None, lambda session: hear(session, worker), crowded=True)


def hear(session: Session, worker: str) -> None:
    """The same, within a transaction."""
    now = session.execute(select(clock())).scalar_one()
    row = session.get(WorkerRow, worker)
    if row is None:
        row = WorkerRow(name=worker, since=now)
        session.add(row)
    row.host, row.pid, row.heard = socket.gethostname(), os.getpid(), now
    session.flush()


@question
def listed_workers(store: Store, seconds: float | None = None) -> list[Answer]:
    """Workers, the last heard first: name, host, pid, seconds since heard and begun, items held.

    seconds  only those heard in so many seconds past; every one where None
    """
    holding = (
        select(WorkItemRow.worker, func.count().label("items"))
        .where(WorkItemRow.free.is_not(None), WorkItemRow.state == "claimed")
        .group_by(WorkItemRow.worker)
        .subquery()
    )
    ago = clock() - WorkerRow.heard
    listed = (
        select(
            WorkerRow.name,
            WorkerRow.host,
            WorkerRow.pid,
            ago.label("heard"),
            (clock() - WorkerRow.since).label("begun"),
            func.coalesce(holding.c["items"], 0).label("items"),
        )
        .outerjoin(holding, holding.c.worker == WorkerRow.name)
        .order_by(WorkerRow.heard.desc(), WorkerRow.name)
    )
    if seconds is not None:
        listed = listed.where(ago <= seconds)
    with store.reading() as session:
        return [dict(row) for row in session.execute(listed).mappings()]


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of a run's items.

    open .. dropped  items by state; a dropped one was answered or is of no use any more
    late, foreign    answers refused: of a claim that was lost, or made with other weights
    redone           claims beyond an item's first
    workers          who claimed
    rows             completions and targets answered
    waited, waited_99  seconds from being put out to the first claim, median and 99th percentile;
                     None before any claim
    worked           seconds from claim to answer, of all items
    """

    open: int
    claimed: int
    done: int
    failed: int
    dropped: int
    late: int
    foreign: int
    redone: int
    workers: int
    rows: int
    waited: float | None
    waited_99: float | None
    worked: float


@question
def tally(store: Store, run: str) -> Tally:
    """What became of a run's items so far."""
    with store.reading() as session:
        here = WorkItemRow.run_id == run
        by_state = select(WorkItemRow.state, func.count()).where(here).group_by(WorkItemRow.state)
        states = {row[0]: row[1] for row in session.execute(by_state)}
        answered = func.sum(WorkItemRow.rows).filter(WorkItemRow.finished.is_not(None))
        sums = session.execute(
            select(
                _sum(WorkItemRow.late_answers).label("late"),
                _sum(WorkItemRow.foreign_answers).label("foreign"),
                _sum(WorkItemRow.redone).label("redone"),
                func.count(WorkItemRow.worker.distinct()).label("workers"),
                func.coalesce(answered, 0).label("rows"),
                func.coalesce(func.sum(WorkItemRow.worked), 0.0).label("worked"),
            ).where(here)
        ).one()
        return Tally(
            **{state: states.get(state, 0) for state in ITEM_STATES},
            **sums._asdict(),
            waited=_quantile(session, here, 0.5),
            waited_99=_quantile(session, here, 0.99),
        )


def _sum(column: InstrumentedAttribute[int]) -> ColumnElement[int]:
    return func.coalesce(func.sum(column), 0)


def _quantile(session: Session, here: ColumnElement[bool], share: float) -> float | None:
    """The smallest wait that so large a share of the items did not exceed."""
    known = (here, WorkItemRow.waited.is_not(None))
    count = session.scalar(select(func.count()).select_from(WorkItemRow).where(*known)) or 0
    waits = select(WorkItemRow.waited).where(*known).order_by(WorkItemRow.waited)
    return session.scalars(waits.offset(max(0, ceil(share * count) - 1)).limit(1)).first()
