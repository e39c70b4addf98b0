"""One writer per run. A lease has an epoch that grows with each owner; writes carry it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from pipeline.faults import fault
from store.clock import clock
from store.database import Lease, Store, check_lease
from store.errors import LostLease, Owned, Unknown
from store.schema import LeaseRow, RunRow
from store.stops import record_stop


def acquire_lease(store: Store, run: str, owner: str, ttl: float) -> Lease:
    """Own the run for `ttl` seconds, or until released.

    owner  a name unique to this starter; asking again under it returns the same lease
    A lease that expired, or whose process on this host is gone, is taken over: the epoch rises
    and what its owner may still write is refused. Raises Owned while another owner lives.
    """
    lease = store.write(None, lambda session: _acquire(session, run, owner, ttl))
    fault("lease.after_commit")
    return lease


def _acquire(session: Session, run: str, owner: str, ttl: float) -> Lease:
    status = session.execute(select(RunRow).where(RunRow.id == run)).scalar_one_or_none()
    if status is None:
        raise Unknown(f"no run {run!r} is in this store; `coclimb runs` lists them")
    row = session.execute(
        select(LeaseRow).where(LeaseRow.run_id == run).with_for_update()
    ).scalar_one_or_none()
    now = _now(session)
    if row is None:
        row = LeaseRow(run_id=run, epoch=0, owner=None)
        session.add(row)
    if row.owner not in (None, owner):
        if row.expires > now and not _is_gone(row):
            raise Owned(
                f"run {run} belongs to {row.owner} (process {row.pid} on {row.host}); "
                f"stop it first, or wait {row.expires - now:.0f} s for its lease to expire"
            )
        fault("lease.takeover")
        record_stop(session, run, "stopped", f"{row.owner} ended without a word; {owner} took over")
    if row.owner != owner:
        row.epoch += 1
    row.owner, row.host, row.pid = owner, socket.gethostname(), os.getpid()
    row.started, row.expires = _started(os.getpid()), now + ttl
    if status.status != "done":
        status.status = "running"
    session.flush()
    fault("lease.before_commit")
    return Lease(run, owner, row.epoch)


def renew_lease(store: Store, lease: Lease, ttl: float) -> None:
    """Own the run for another `ttl` seconds from now. Raises LostLease if it was taken over."""
    fault("lease.renew_late")

    def work(session: Session) -> None:
        row = session.get_one(LeaseRow, lease.run)
        row.expires = _now(session) + ttl

    store.write(lease, work)


def check_held(store: Store, lease: Lease) -> None:
    """Raise LostLease unless the run is still this owner's. For what is done to files right after
    it: to rows it is done in their own transaction."""
    store.read(lambda session: check_lease(session, lease, lock=False))


def release_lease(store: Store, lease: Lease) -> None:
    """Let the next owner start at once. Releasing what was lost does nothing."""

    def work(session: Session) -> None:
        try:
            check_lease(session, lease)
        except LostLease:
            return
        session.get_one(LeaseRow, lease.run).owner = None

    store.write(None, work)


def live_owner(session: Session, run: str) -> str | None:
    """Who owns the run now, or None where nobody alive does."""
    row = session.get(LeaseRow, run)
    if row is None or row.owner is None or row.expires <= _now(session) or _is_gone(row):
        return None
    return row.owner


def _now(session: Session) -> float:
    """Seconds since 1970 by the database's clock, which all starters share."""
    return session.execute(select(clock())).scalar_one()


def _is_gone(row: LeaseRow) -> bool:
    """Whether the owner ran on this host and its process is no more, its pid reused or not."""
    if row.host != socket.gethostname():
        return False
    try:
        os.kill(row.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return row.started != _started(row.pid)


def _started(pid: int) -> str:
    """The process's start in clock ticks since boot, or "" where the system does not tell.

    A zombie counts as gone: it is reported as "zombie", which no living owner ever recorded.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rsplit(")", 1)[1].split()
    return "zombie" if fields[0] == "Z" else fields[19]
