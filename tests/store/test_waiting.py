"""A database that is locked, restarted, cut off or mute is waited for; nothing is done twice."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cutting import Cut, cut_line
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session
from store_story import Writer, new_run, tell

from store import database
from store.database import Store, question
from store.errors import LostLease, StoreError, Unreachable
from store.invariants import verify
from store.leases import acquire_lease, release_lease, renew_lease
from store.ledger import ask_rounds, finish, stage_done
from store.questions import runs
from store.waiting import Patience, may_pass
from tests.pg import PgServer, own_server

AWAY = "postgresql://me:canary-1@127.0.0.1:1/x?sslpassword=canary-2"


def refused(times: int, error: Exception) -> tuple[list[int], Callable[[], int]]:
    """How often it was tried, and what fails so many times before it gives 7."""
    tries: list[int] = []

    def attempt() -> int:
        tries.append(1)
        if len(tries) <= times:
            raise error
        return 7

    return tries, attempt


def lost() -> OperationalError:
    return OperationalError("SELECT 1", {}, OSError("gone"), connection_invalidated=True)


def test_what_passes_is_waited_for_and_what_does_not_is_raised_at_once() -> None:
    tries, attempt = refused(3, lost())
    assert Patience(10).through(attempt, "here") == 7
    assert len(tries) == 4
    tries, attempt = refused(3, OperationalError("SELECT x", {}, sqlite3.OperationalError("no x")))
    with pytest.raises(OperationalError, match="no x"):
        Patience(10).through(attempt, "here")
    assert len(tries) == 1


def test_without_patience_one_failure_is_enough() -> None:
    tries, attempt = refused(1, lost())
    with pytest.raises(Unreachable, match="the store at here was out of reach for 0 s: gone"):
        Patience(0).through(attempt, "here")
    assert len(tries) == 1


def test_an_interrupt_during_a_failure_is_not_waited_away() -> None:
    def attempt() -> None:
        try:
            raise KeyboardInterrupt("stopped by Ctrl-C")
        finally:
            raise lost()  # as a roll-back on a dead connection would

    with pytest.raises(KeyboardInterrupt, match="Ctrl-C"):
        Patience(10).through(attempt, "here")


def test_on_the_way_out_of_an_interrupt_the_store_is_waited_for_all_the_same() -> None:
    tries, attempt = refused(2, lost())

    def leave() -> int:
        try:
            raise KeyboardInterrupt("stopped by SIGTERM")
        except KeyboardInterrupt:
            return Patience(10).through(attempt, "here")

    assert leave() == 7
    assert len(tries) == 3


class Coded(Exception):
    """A driver's error with PostgreSQL's code."""

    def __init__(self, code: str | None, told: str = "") -> None:
        super().__init__(told)
        self.sqlstate = code


@pytest.mark.parametrize(
    ("code", "told", "passes"),
    [
        ("57P01", "", True),
        ("57P03", "", True),
        ("08006", "", True),
        ("55P03", "", True),
        ("53100", "could not extend file: No space left on device", False),
        ("40001", "", False),  # which a transaction run again whole takes care of
        (None, "connection failed: Connection refused", True),
        (None, "FATAL:  the database system is starting up", True),
        (None, "FATAL:  Datenbanksystem startet", True),
        (None, 'FATAL:  password authentication failed for user "me"', False),
        (None, 'FATAL:  database "x" does not exist', False),
    ],
)
def test_a_code_or_a_refusal_tells_whether_waiting_helps(
    code: str | None, told: str, passes: bool
) -> None:
    assert may_pass(OperationalError("", {}, Coded(code, told))) is passes


def test_a_row_the_store_refused_is_no_outage() -> None:
    assert not may_pass(IntegrityError("", {}, Coded(None, "UNIQUE constraint failed")))


def test_a_store_that_is_not_there_is_named_without_its_passwords() -> None:
    with pytest.raises(Unreachable) as gone:
        Store.open(AWAY, Patience(0))
    assert "postgresql+psycopg://me:***@127.0.0.1:1/x?sslpassword=hidden" in str(gone.value)
    assert "Connection refused" in str(gone.value)
    assert "canary" not in repr(gone.value) + str(gone.value.__cause__)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:canary@host:canary/x",
        "mysql://me:canary@host/x",
        "canary://[",
    ],
)
def test_an_address_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StoreError, match="no store address") as refusal:
        Store.open(url)
    if not url.startswith("canary"):
        assert "canary" not in str(refusal.value) + repr(refusal.value.__cause__)


def test_a_password_that_is_wrong_is_told_at_once_and_never_shown(server: str) -> None:
    began = time.monotonic()
    with pytest.raises(StoreError, match="does not exist") as refusal:
        Store.open(server.replace("postgres@", "nobody:canary@").replace("postgres:@", "n:canary@"))
    assert time.monotonic() - began < 60
    assert "canary" not in str(refusal.value) + str(refusal.value.__cause__)


def test_a_sqlite_file_locked_for_longer_than_its_own_wait_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0)
    told: list[str] = []
    store = Store.open(str(tmp_path / "s.db"), Patience(30, say=told.append))
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(4.0, lambda: other.execute("COMMIT")).start()
    new_run(store)
    assert [row["id"] for row in runs(store)] == ["runa"]
    assert ["database is locked" in line for line in told] == [True, False]
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unreachable, match="database is locked"):
        new_run(store.within(0.2), "b")
    other.close()
    store.close()


def test_a_full_disk_is_not_waited_for(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "s.db"))
    new_run(store)

    def fill(session: Session) -> None:
        session.execute(text("PRAGMA max_page_count = 1"))
        session.execute(text("CREATE TABLE full AS SELECT zeroblob(10000000) AS x"))

    with pytest.raises(OperationalError, match="full"):
        store.write(None, fill)
    store.close()


on_postgres = pytest.mark.postgres


def ended(url: str, session: Session) -> None:
    """End the session's connection from outside, as an administrator would."""
    pid = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
    engine = create_engine(url)
    with engine.connect() as other:
        other.execute(text(f"SELECT pg_terminate_backend({pid}, 5000)"))
    engine.dispose()


@on_postgres
def test_a_question_whose_connection_breaks_is_asked_again_whole(postgres: str) -> None:
    store, asked = Store.open(postgres), []

    @question
    def ask(store: Store, wanted: int) -> list[object]:
        with store.reading() as session:
            asked.append(session.execute(text("SELECT 1")).scalar_one())
            if len(asked) == 1:
                ended(postgres, session)
            return [session.execute(text(f"SELECT {wanted}")).scalar_one()]

    assert ask(store, 5) == [5]
    assert asked == [1, 1]
    assert store.read(lambda session: session.execute(text("SELECT 3")).scalar_one()) == 3
    store.close()


@on_postgres
def test_a_write_whose_connection_breaks_is_made_again_whole(postgres: str) -> None:
    store, tries = Store.open(postgres), []
    run = new_run(store)
    lease = acquire_lease(store, run, "a", 600)

    def work(session: Session) -> None:
        tries.append(1)
        session.execute(text("UPDATE run SET rounds_asked = rounds_asked + 1"))
        if len(tries) == 1:
            ended(postgres, session)

    store.write(lease, work)
    assert runs(store)[0]["rounds_asked"] == 3
    assert len(tries) == 2
    store.close()


def cut_every_third(number: int) -> Cut:
    """So that a connection's first COMMIT and the one that is tried again pass."""
    return "" if number % 3 else ("before" if number % 2 else "after")


@on_postgres
def test_commits_whose_outcome_is_unknown_leave_the_chain_as_it_was(
    postgres: str, told_file: Path
) -> None:
    whole = Store.open(str(told_file))
    with cut_line(postgres, cut_every_third) as (url, line):
        store = Store.open(url)
        run = tell(store)
        assert line.cuts > 10
        assert stage_done(store, run, 2, "probe") == stage_done(whole, run, 2, "probe")
        assert verify(store, run)["violations"] == []
        assert [(row["status"], row["owner"]) for row in runs(store)] == [("done", None)]
        store.close()
    whole.close()


@on_postgres
@pytest.mark.parametrize("cut", ["before", "after"])
def test_each_write_finds_its_own_outcome_after_a_commit_without_an_answer(
    postgres: str, cut: Cut
) -> None:
    at: list[int] = []
    with cut_line(postgres, lambda number: cut if number in at else "") as (url, line):
        store = Store.open(url)

        def cutting() -> None:
            at[:] = [line.commits + 1]

        cutting()
        run = new_run(store)
        cutting()
        lease = acquire_lease(store, run, "a", 600)
        for act in Writer(store, lease).acts(range(3)):
            cutting()
            act()
        cutting()
        ask_rounds(store, lease, 2)
        cutting()
        finish(store, lease, "done", "all rounds committed")
        cutting()
        renew_lease(store, lease, 600)
        cutting()
        release_lease(store, lease)
        assert line.cuts > 20
        assert lease.epoch == 1
        (row,) = runs(store)
        assert (row["status"], row["owner"], row["reason"]) == (
            "done", None, "all rounds committed",
        )  # fmt: skip
        assert verify(store, run)["violations"] == []
        store.close()


@on_postgres
def test_a_lease_that_expired_unseen_is_renewed_and_one_that_was_taken_is_lost(
    store_pair: tuple[Store, Store],
) -> None:
    mine, theirs = store_pair
    run = new_run(mine)
    lease = acquire_lease(mine, run, "mine", 0)
    time.sleep(0.01)
    renew_lease(mine, lease, 600)
    assert runs(mine)[0]["owner"] == "mine"
    mine.write(lease, lambda session: session.execute(text("UPDATE lease SET expires = 0")))
    acquire_lease(theirs, run, "theirs", 600)
    with pytest.raises(LostLease, match=r"mine held epoch 1.*theirs"):
        renew_lease(mine, lease, 600)


@pytest.fixture
def store_pair(postgres: str) -> Iterator[tuple[Store, Store]]:
    """Two starters' stores on one server."""
    pair = (Store.open(postgres), Store.open(postgres))
    yield pair
    for one in pair:
        one.close()


@on_postgres
def test_a_writer_frozen_in_a_transaction_blocks_others_for_half_a_minute_at_most(
    postgres: str,
) -> None:
    store = Store.open(postgres)
    limits = ("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout")
    with store.writing(None) as session:
        told = [session.execute(text(f"SHOW {name}")).scalar_one() for name in limits]
    assert told == ["30s", "30s", "5min"]
    with store.reading() as session:
        assert session.execute(text(f"SHOW {limits[0]}")).scalar_one() == "0"
    store.close()


@pytest.fixture(scope="module")
def mine() -> Iterator[PgServer]:
    """A server that a test may stop."""
    with own_server(careless=True) as running:
        yield running


@on_postgres
@pytest.mark.xdist_group("restarts")
def test_a_server_that_falls_silent_is_given_up_and_waited_for(
    mine: PgServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.postgres.GRACE", 0.5)
    store = Store.open(mine.url, Patience(60, silence=0.5))
    run = new_run(store)
    tries: list[int] = []

    def ask(session: Session) -> object:
        pid = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
        tries.append(pid)
        if len(tries) == 1:
            os.kill(pid, signal.SIGSTOP)
        return session.execute(text("SELECT count(*) FROM run")).scalar_one()

    try:
        assert store.read(ask) == 1
    finally:
        os.kill(tries[0], signal.SIGCONT)
    assert len(set(tries)) == 2
    assert runs(store)[0]["id"] == run
    store.close()
