"""The work queue: what a run asks of its workers, and their answers. The asker's side is here.

    put -> open -> claim -> claimed -> finish -> done -> a committed step -> dropped
             ^---- give_back, lease expired ----'  `---> failed, after errors

Ids name calls by their content, so a run that was killed puts the same items out again and finds
what was answered meanwhile. No digest covers any of it. The workers' side is `store.claims`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from pipeline.faults import fault
from pipeline.items import Claim, Item, ItemFailed
from store.claims import chunks, claim, finish, give_back, renew
from store.clock import clock
from store.database import Lease, Store, check_lease, question
from store.rows import Row, add
from store.schema import StepRow, WorkItemRow
from store.taking import ITEM
from store.workers import Tally, heard, listed_workers, tally

__all__ = [
    "RunQueue",
    "Tally",
    "answers",
    "claim",
    "finish",
    "forget",
    "give_back",
    "heard",
    "listed_workers",
    "owner_name",
    "put",
    "renew",
    "tally",
]

# an item that nobody has claimed since it was put out
_FRESH: Row = {
    "state": "open", "answer": None, "worker": None, "claimed": None, "finished": None,
    "errors": 0, "waited": None, "worked": None,
}  # fmt: skip
_FORGOTTEN: Row = {"state": "dropped", "ask": None, "answer": None, "free": None}


def put(store: Store, lease: Lease, items: Sequence[Item]) -> int:
    """Put items out, once each, and return how many were not there.

    One that is there stays as it is, answered or not. One that was forgotten is put out again, and
    so is one given up under an earlier owner of the run; older claims of it stay refused. One that
    an earlier owner held itself is open again at once: that owner is gone, or may not write.
    Raises LostLease; then nothing was put out.
    """
    unique = {item.id: item for item in items}
    fresh = store.write(lease, lambda session: _put(session, lease, unique), crowded=True)
    fault("work.put_after")
    return fresh


def _put(session: Session, lease: Lease, items: dict[str, Item]) -> int:
    there = _there(session, lease, items)
    step = session.scalar(select(func.max(StepRow.step)).where(StepRow.run_id == lease.run)) or 0
    now = session.execute(select(clock())).scalar_one()
    out = {**_FRESH, "epoch": lease.epoch, "step": step, "asked": now, "free": now}
    missing = [item for item in items.values() if item.id not in there]
    again = [item for item in items.values() if there.get(item.id, False)]
    rows = enumerate(missing)
    add(
        session,
        WorkItemRow,
        ({**_row(lease.run, item), **out, "position": position} for position, item in rows),
    )
    for position, item in enumerate(again, len(missing)):
        more = {"base": WorkItemRow.number, "ask": item.ask, "position": position}
        _change(session, lease.run, [item.id], {**out, **more})
    _take_over(session, lease, items, now)
    fault("work.put")
    return len(missing) + len(again)


def _there(session: Session, lease: Lease, ids: Iterable[str]) -> dict[str, bool]:
    """Which items are there, and whether they are to be put out again."""
    found: dict[str, bool] = {}
    for some in chunks(ids):
        known = select(WorkItemRow.id, WorkItemRow.state, WorkItemRow.epoch)
        for row in session.execute(known.where(*_these(lease.run, some))):
            given_up = row.state == "failed" and row.epoch < lease.epoch
            found[row.id] = row.state == "dropped" or given_up
    return found


def _take_over(session: Session, lease: Lease, ids: Iterable[str], now: float) -> None:
    """Open what an earlier owner of the run claimed for itself."""
    theirs = (
        ITEM.c.state == "claimed",
        ITEM.c.worker.startswith(_owner_of(lease.run), autoescape=True),
        ITEM.c.worker != owner_name(lease),
    )
    for some in chunks(ids):
        change = update(ITEM).where(*_these(lease.run, some), *theirs)
        session.execute(change.values({"state": "open", "free": now}))


def owner_name(lease: Lease) -> str:
    """The name under which the process that owns a run works items out itself."""
    return f"{_owner_of(lease.run)}{lease.epoch}"


def _owner_of(run: str) -> str:
    return f"owner of {run}, "


def _row(run: str, item: Item) -> Row:
    call = {"run_id": run, "id": item.id, "kind": item.kind, "rows": item.rows, "ask": item.ask}
    weights = {"weights": item.weights.sha256, "weights_file": item.weights.name}
    return {**call, **weights, "version": item.weights.version}


@question
def answers(store: Store, run: str, ids: Collection[str]) -> dict[str, bytes]:
    """Answers of those items that have one. Raises ItemFailed for one that was given up."""
    with store.reading() as session:
        return _answers(session, run, ids)


def _answers(session: Session, run: str, ids: Collection[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    columns = (WorkItemRow.id, WorkItemRow.answer, WorkItemRow.errors, WorkItemRow.error)
    for some in chunks(ids):
        closed = select(*columns).where(*_these(run, some), WorkItemRow.state.in_(_CLOSED))
        for row in session.execute(closed):
            if row.answer is None:
                raise ItemFailed(
                    f"item {row.id[:12]} of run {run} was given up after {row.errors} errors; "
                    f"the last: {row.error}. `coclimb resume {run}` asks for it again"
                )
            found[row.id] = row.answer
    return found


_CLOSED = ("done", "failed")


@question
def unanswered(store: Store, run: str) -> int:
    """How many of a run's items wait for a worker, or for the answer of one."""
    waiting = (ITEM.c.run_id == run, ITEM.c.free.is_not(None))
    with store.reading() as session:
        return session.scalar(select(func.count()).select_from(ITEM).where(*waiting)) or 0


def forget(session: Session, run: str) -> None:
    """Forget every item of a run, within the transaction that commits what they were asked for.

    Until then a run that was killed finds its answers; what an earlier owner cut otherwise and
    nobody asked for again is closed here too.
    """
    kept = (ITEM.c.run_id == run, ITEM.c.state != "dropped")
    session.execute(update(ITEM).where(*kept).values(_FORGOTTEN))


def _change(session: Session, run: str, ids: Sequence[str], values: Row) -> None:
    change = update(ITEM).where(*_these(run, ids)).values(values)
    session.execute(change)


def _these(run: str, ids: Sequence[str]) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return WorkItemRow.run_id == run, WorkItemRow.id.in_(ids)


class RunQueue:
    """A run's items as `pipeline.items.Queue`, for the process that owns the run.

    worker   its name where it works items out itself (`owner_name`)
    seconds  for which an item it takes is its own
    `put` and `answers` raise LostLease once the run belongs to another; what it took is its own as
    any worker's is.
    """

    def __init__(self, store: Store, lease: Lease, worker: str, seconds: float = 60.0) -> None:
        self.store, self.lease, self.worker, self.seconds = store, lease, worker, seconds

    def put(self, items: Sequence[Item]) -> None:
        put(self.store, self.lease, items)

    def answers(self, ids: Collection[str]) -> dict[str, bytes]:
        def ask(session: Session) -> dict[str, bytes]:
            check_lease(session, self.lease, lock=False)
            return _answers(session, self.lease.run, ids)

        return self.store.read(ask)

    def take(self, ids: Collection[str]) -> Claim | None:
        return claim(self.store, self.worker, self.seconds, run=self.lease.run, ids=ids)

    def renew(self, claim: Claim) -> bool:
        return renew(self.store, claim, self.seconds)

    def finish(self, claim: Claim, answer: bytes, weights: str) -> bool:
        return finish(self.store, claim, answer, weights)
