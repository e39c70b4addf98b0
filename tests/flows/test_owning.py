"""What happens to signals while a run winds down, and to its lease while the store is away."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows import owning
from flows.owning import Owning, deaf
from pipeline.faults import armed
from store import database
from store.errors import LostLease
from store.leases import acquire_lease
from store.ledger import NewRun, ask_rounds, create_run
from store.questions import runs


def fill() -> None:
    """Wind down as far as a full disk allows."""
    with deaf():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        raise OSError("the disk is full")


def test_whoever_was_deaf_hears_again_also_after_an_exception() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(OSError, match="full"):
            fill()
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[database.Store]:
    """A store with the run "a", whose lock is not waited for, and leases that last a second."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0)
    monkeypatch.setattr(owning, "TTL", 1.0)
    monkeypatch.setattr(owning, "SOON", 0.1)
    opened = database.Store.open(str(tmp_path / "s.db"))
    create_run(opened, NewRun("{}", "c", {}, 1, 1, id="a"))
    yield opened
    opened.close()


def expires(store: database.Store) -> float:
    """When the lease runs out, in seconds from now."""
    row = "SELECT expires - (julianday('now') - 2440587.5) * 86400.0 FROM lease"
    left: float = store.read(lambda session: session.connection().exec_driver_sql(row).scalar_one())
    return left


def until(holds: Callable[[], bool]) -> None:
    """Wait for it, for a minute at most."""
    late = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < late
        time.sleep(0.05)


def test_a_lease_that_expired_while_the_store_was_locked_is_renewed_afterwards(
    store: database.Store, tmp_path: Path
) -> None:
    tried: list[int] = []
    with armed("lease.renew_late", lambda: tried.append(1)), Owning(store, "a") as lease:
        other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        until(lambda: expires(store) < -0.5 and len(tried) > 3)
        other.execute("COMMIT")
        other.close()
        until(lambda: expires(store) > 0)
        assert runs(store)[0]["owner"] == lease.owner
    assert runs(store)[0]["owner"] is None


def take_and_write(store: database.Store, tmp_path: Path) -> None:
    """Own the run, have another take it while the store was away, and write."""
    with Owning(store, "a") as lease:
        with sqlite3.connect(tmp_path / "s.db") as other:
            other.execute("UPDATE lease SET expires = 0, host = 'elsewhere'")
        other.close()
        acquire_lease(store, "a", "another", 600)
        ask_rounds(store, lease, 2)


def test_a_lease_that_was_taken_meanwhile_ends_the_run_loudly(
    store: database.Store, tmp_path: Path
) -> None:
    with pytest.raises(LostLease, match=r"lost ownership of run a: .*another \(epoch 2\)"):
        take_and_write(store, tmp_path)
    (row,) = runs(store)
    assert (row["owner"], row["rounds_asked"], row["status"]) == ("another", 1, "running")
