"""Claiming and answering items: the workers' side of the queue.

A claim is one statement that changes one row, found by index, and passes over rows that others
lock; an answer is one statement that holds only while its claim is the item's newest. A worker that
dies, freezes or comes late changes nothing but a count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import NamedTuple

from sqlalchemy import ColumnElement, case, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from pipeline.faults import fault
from pipeline.items import Claim, Item, WeightsFile
from store.blobs import readable
from store.clock import clock
from store.database import Store
from store.errors import StoreError, Unknown
from store.schema import WorkItemRow
from store.taking import ITEM, LOOK, LOOK_AT_RUN, taking
from store.workers import hear, heard

ERRORS = 3  # an item is given up after so many,
CLAIMS = 10  # or after so many claims that ended without an answer
HEARD_EVERY = 20.0  # seconds between two records that a worker was heard: each is a write
_LONGEST = 2000  # characters of an error that are kept
_CHUNK = 500  # ids of one statement; a database takes some ten thousand

Change = dict[str, object]  # column -> value or expression
Place = tuple[str, str | None, Sequence[str] | None]  # run, weights and ids that a claim is among


class By(NamedTuple):
    """The worker that claims, for how many seconds, and whether to record that it was heard."""

    worker: str
    seconds: float
    silent: bool


def claim(
    store: Store,
    worker: str,
    seconds: float,
    *,
    run: str | None = None,
    held: Collection[str] = (),
    ids: Collection[str] | None = None,
) -> Claim | None:
    """The item that has waited longest, for so many seconds; None where none is open.

    run   of that run alone; else of any run that is owned and running, the longest waiting first
    held  SHA-256 of weights that the worker has at hand: their items come first
    ids   only among these
    An item whose lease has expired is open again, and waits from that moment on.
    """
    runs, silent = _look(store, worker, run)
    if silent and not runs:
        heard(store, worker)
    for number, one in enumerate(runs):
        those = [None] if ids is None else list(chunks(ids))
        places: list[Place] = [(one, sha, some) for sha in (*held, None) for some in those]
        by = By(worker, seconds, silent and number == 0)
        found = store.write(None, partial(_claim, places, by), crowded=True)
        if found is not None:
            fault("work.claimed_after")
            return found
    return None


def _look(store: Store, worker: str, run: str | None) -> tuple[list[str], bool]:
    """The runs that have an item to claim, the longest waiting first, and whether it is time to
    record that the worker was heard."""
    query, named = LOOK_AT_RUN if run else LOOK, {"worker": worker, "run": run}
    looked = store.read(lambda session: session.execute(query, named).all())
    ago = looked[0][0]
    runs = [name for _, name in looked if name is not None]
    return runs, ago is None or not 0.0 <= ago < HEARD_EVERY  # below 0: the clock went back


def _claim(places: Sequence[Place], by: By, session: Session) -> Claim | None:
    if by.silent:
        hear(session, by.worker)
    for place in places:
        while (claimed := _take(session, place, by)) is not None:
            claim, counted, error = claimed
            if counted <= CLAIMS:
                fault("work.claimed")
                return claim
            told = f"{CLAIMS} claims ended without an answer; the last error: {error or 'none'}"
            _change(session, claim, {"state": "failed", "free": None, "error": told})
    return None


def _take(session: Session, place: Place, by: By) -> tuple[Claim, int, str | None] | None:
    """Claim the first item of a place: with it, the claims counted against it and its error."""
    run, weights, ids = place
    among = {"of_run": run, "of_weights": weights, "of_ids": ids}
    told = {**among, "by": by.worker, "seconds": by.seconds}
    row = session.execute(taking(weights is not None, ids is not None), told).one_or_none()
    if row is None:
        return None
    id, file, sha, version, kind, rows, ask, number, base, error = row
    found = Item(id, WeightsFile(file, sha, version), kind, rows, ask)
    return Claim(run, found, by.worker, number), number - base, error


def renew(store: Store, claim: Claim, seconds: float) -> bool:
    """Hold the item for so many seconds from now on. False where the claim was lost.

    A store that does not answer at once loses nothing yet: asked again before the lease is over, it
    may. A claim from before the database's clock went back counts as made now.
    """
    since = case((ITEM.c.claimed > clock(), clock()), else_=ITEM.c.claimed)
    longer: Change = {"free": clock() + seconds, "claimed": since}
    now, held = store.within(0), True
    with suppress(StoreError, DBAPIError):
        held = now.write(None, lambda session: _change(session, claim, longer), crowded=True)
        if _look(now, claim.worker, claim.run)[1]:
            heard(now, claim.worker)
    return held


def finish(store: Store, claim: Claim, answer: bytes, weights: str) -> bool:
    """Record an item's answer, for good.

    weights  SHA-256 of those that answered, or whatever else tells that they are not the item's
    False, and counted, where the claim is not the item's newest ("late") or where the weights are
    not the item's ("foreign"; the item is open again, as after an error): its answer stays as it
    was. Saying the same twice is no fault. Raises Unknown for an item that is not there.
    """
    held = store.write(None, partial(_finish, claim, answer, weights), crowded=True)
    fault("work.finished_after")
    return held


def _finish(claim: Claim, answer: bytes, weights: str, session: Session) -> bool:
    took = clock() - ITEM.c.claimed
    done: Change = {"state": "done", "answer": answer, "free": None, "finished": clock()}
    its_own = ITEM.c.weights == weights
    if _change(session, claim, {**done, "worked": took}, its_own):
        fault("work.finished")
        return True
    row = _locked(session, claim)
    newest = _is_newest(row, claim)
    if weights != row.weights:
        row.foreign_answers += 1
        if newest and row.state == "claimed":
            told = f"answered with weights {weights[:12]}, not {row.weights[:12]}"
            _open_again(session, row, told)
    elif newest and row.finished is not None and row.answer in (None, answer):
        return True  # it was said before, and the line broke before this worker heard so
    else:
        row.late_answers += 1
    fault("work.refused")
    return False


def give_back(store: Store, claim: Claim, error: str) -> None:
    """Open an item again that could not be answered; after ERRORS errors it is given up.

    error  what went wrong; empty where nothing did and the worker ends, which counts for nothing
    A claim that was lost changes nothing.
    """

    def work(session: Session) -> None:
        row = _locked(session, claim)
        if _is_newest(row, claim) and row.state == "claimed":
            _open_again(session, row, error)
            fault("work.given_back")

    store.write(None, work, crowded=True)


def _open_again(session: Session, row: WorkItemRow, error: str) -> None:
    if error:
        row.errors += 1
        row.error = readable(error)[:_LONGEST]
    else:
        row.base += 1
    given_up = row.errors >= ERRORS or row.number - row.base >= CLAIMS
    row.state = "failed" if given_up else "open"
    row.free = None if given_up else session.execute(select(clock())).scalar_one()


def _locked(session: Session, claim: Claim) -> WorkItemRow:
    key = (claim.run, claim.item.id)
    row = session.get(WorkItemRow, key, with_for_update=True)
    if row is None:
        raise Unknown(f"run {claim.run} has no item {claim.item.id!r} in this store")
    return row


def holds(session: Session, claim: Claim) -> bool:
    """Whether the item belongs to this claim, and stays so until the transaction ends."""
    row = _locked(session, claim)
    return _is_newest(row, claim) and row.state == "claimed"


def _is_newest(row: WorkItemRow, claim: Claim) -> bool:
    return (row.worker, row.number) == (claim.worker, claim.number)


def _change(session: Session, claim: Claim, values: Change, *only: ColumnElement[bool]) -> bool:
    """Change an item while it belongs to this claim. False where it does not; nothing changed."""
    item = ITEM.c
    mine = (item.run_id == claim.run, item.id == claim.item.id, item.state == "claimed")
    newest = (item.worker == claim.worker, item.number == claim.number)
    change = update(ITEM).where(*mine, *newest, *only).values(values).returning(item.id)
    return session.execute(change).first() is not None


def chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    """Ids in lists short enough for one statement."""
    left = iter(ids)
    while some := list(islice(left, _CHUNK)):
        yield some
