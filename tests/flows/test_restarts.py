"""Whole runs on PostgreSQL while the server is restarted, killed, locked or away."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from flows.live import Live
from flows.owning import outcome
from pipeline.faults import armed
from store import invariants, questions
from store.errors import Unreachable
from store.waiting import Patience
from tests.flows.scripted import SMALL, Bench, Heard
from tests.pg import PgServer, own_server

pytestmark = [pytest.mark.postgres, pytest.mark.xdist_group("restarts")]
SHORT = SMALL.model_copy(update={"rounds": 1})


@pytest.fixture(scope="module")
def server() -> Iterator[PgServer]:
    """A server whose commits survive a crash: fsync is on."""
    with own_server() as running:
        yield running


@pytest.fixture
def empty(server: PgServer) -> str:
    """Address of an empty store."""
    engine = create_engine(server.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return server.url


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The chain of a run of one round on SQLite, never disturbed."""
    bench = Bench(tmp_path_factory.mktemp("short"), SHORT)
    bench.go_on()
    return bench.chain()


def broken(bench: Bench) -> object:
    """What `verify` holds against a home."""
    return invariants.verify(bench.store, None, bench.home.root)["violations"]


def test_a_run_on_postgresql_ends_in_the_chain_of_sqlite(
    empty: str, short: list[str], tmp_path: Path
) -> None:
    bench = Bench(tmp_path, SHORT, empty)
    bench.go_on()
    assert bench.chain() == short
    assert broken(bench) == []


# where a restart falls: inside a transaction, after one, between stages, before a lease is renewed
MOMENTS = {
    "gen.item_row": "fast",
    "roll.row": "immediate",
    "upd.after_commit": "kill",
    "rew.row": "fast",
    "ck.row": "immediate",
    "eval.row": "fast",
    "stage.before_commit": "immediate",
}


def test_restarts_of_the_server_anywhere_cost_a_run_nothing_but_waiting(
    server: PgServer, empty: str, short: list[str], tmp_path: Path
) -> None:
    passed = Counter[str]()
    live: list[Live] = []

    def restart(point: str) -> None:
        passed[point] += 1
        if passed[point] == 1:
            server.restart(MOMENTS[point])

    bench = Bench(tmp_path, SHORT, empty)
    with (
        armed("gen.item_row", lambda: restart("gen.item_row")),
        armed("roll.row", lambda: restart("roll.row")),
        armed("upd.after_commit", lambda: restart("upd.after_commit")),
        armed("rew.row", lambda: restart("rew.row")),
        armed("ck.row", lambda: restart("ck.row")),
        armed("eval.row", lambda: restart("eval.row")),
        armed("stage.before_commit", lambda: restart("stage.before_commit")),
    ):
        live.append(bench.go_on())
    assert passed.keys() == MOMENTS.keys()
    assert bench.chain() == short
    assert broken(bench) == []
    (run,) = questions.runs(bench.store)
    assert (run["status"], run["owner"]) == ("done", None)
    assert live[0].lease.epoch == 1


def test_a_server_that_comes_back_later_is_waited_for_and_the_wait_is_told(
    server: PgServer, empty: str, short: list[str], tmp_path: Path
) -> None:
    heard = Heard()
    later = threading.Timer(4.0, server.start)
    bench = Bench(tmp_path, SHORT, empty, Patience(60, say=heard.say))

    def leave() -> None:
        if not later.is_alive():
            server.stop("immediate")
            later.start()

    with armed("upd.before_commit", leave_once(leave)):
        bench.go_on(progress=heard)
    later.join()
    assert bench.chain() == short
    [waiting, back] = [line for line in heard.said if "the store" in line]
    assert waiting.startswith("waiting for the store at postgresql+psycopg://postgres@/postgres")
    assert back.startswith("the store answers again after")


def leave_once(act):  # type: ignore[no-untyped-def]
    """Act at the first pass alone."""
    left = [act]
    return lambda: left.pop()() if left else None


def test_a_server_that_stays_away_ends_the_run_and_a_later_start_goes_on(
    server: PgServer,
    empty: str,
    short: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flows.owning.LEAVING", 0.5)
    monkeypatch.setattr("flows.restore.LEAVING", 0.5)
    bench = Bench(tmp_path, SHORT, empty, Patience(1))
    with (
        armed("upd.before_commit", leave_once(lambda: server.stop("immediate"))),
        pytest.raises(Unreachable, match=r"out of reach for 1 s"),
    ):
        bench.go_on()
    server.start()
    bench.store.write(None, expire)
    bench.go_on()
    assert bench.chain() == short
    assert broken(bench) == []


def expire(session: Session) -> None:
    """Let every lease run out, as if its owner had been away for long."""
    session.execute(text("UPDATE lease SET expires = 0"))


def test_a_run_that_waited_for_a_lock_in_vain_is_paused_with_the_reason(
    server: PgServer, empty: str, short: list[str], tmp_path: Path
) -> None:
    bench = Bench(tmp_path, SHORT, empty, Patience(0.5, silence=0.5))
    engine = create_engine(server.url)
    with engine.connect() as other:
        lock = text("LOCK TABLE learner_update IN ACCESS EXCLUSIVE MODE")
        with (
            armed("rew.row", leave_once(lambda: other.execute(lock))),
            pytest.raises(Unreachable, match=r"lock timeout|statement timeout"),
        ):
            bench.go_on()
    engine.dispose()
    (run,) = questions.runs(bench.store)
    assert (run["status"], run["owner"]) == ("paused", None)
    assert str(run["reason"]).startswith("waiting:db: the store at postgresql")
    bench.go_on()
    assert bench.chain() == short


def test_a_store_out_of_reach_pauses_a_run() -> None:
    assert outcome(Unreachable("gone for 120 s")) == ("paused", "waiting:db: gone for 120 s")
