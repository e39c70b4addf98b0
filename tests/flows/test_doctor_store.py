"""What `coclimb doctor` says of a store on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from flows.cli import main
from flows.doctor import _mark, _server, _store
from flows.errors import FAILED
from flows.home import Home
from store.database import Store
from store.health import Health, health_of
from tests.pg import PgServer, own_server

WELL = Health("16.2", 16, "serializable", 0.1, (90, 100), ())


@pytest.fixture(scope="module")
def server() -> Iterator[PgServer]:
    with own_server(careless=True) as running:
        yield running


@pytest.mark.postgres
def test_a_server_is_named_with_all_that_matters(server: PgServer, tmp_path: Path) -> None:
    found = {one.name: one for one in _store(Home(tmp_path, server.url))}
    assert all(one.ok for one in found.values())
    assert found["store"].found.startswith("PostgreSQL 16.2, schema ")
    assert found["postgres writes"].found == "transactions are serializable"
    assert "of 100 connections free" in found["postgres room"].found
    assert "fsync, synchronous_commit, full_page_writes" in found["postgres commits"].found
    assert "power cut" in found["postgres commits"].need
    assert abs(float(found["postgres clock"].found.split()[0])) < 2


@pytest.mark.postgres
def test_a_user_who_may_not_write_is_told(server: PgServer, tmp_path: Path) -> None:
    Store.open(server.url).close()
    engine = create_engine(server.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE ROLE reader LOGIN PASSWORD 'canary'"))
        connection.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"))
    engine.dispose()
    url = server.url.replace("postgres@", "reader:canary@")
    [one] = _store(Home(tmp_path, url))
    assert not one.ok
    assert "permission denied" in one.found
    assert "canary" not in one.found + one.need


@pytest.mark.postgres
def test_looking_changes_nothing(server: PgServer) -> None:
    store = Store.open(server.url)
    assert health_of(store).isolation == "serializable"
    with store.reading() as session:
        assert session.execute(text("SELECT count(*) FROM run")).scalar_one() == 0
    store.close()


def test_a_refused_connection_is_told_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.doctor.ASKING", 0.0)
    [one] = _store(Home(tmp_path, "postgresql://me:canary@127.0.0.1:1/x?sslpassword=canary"))
    assert not one.ok
    assert "me:***@127.0.0.1:1/x" in one.found
    assert "Connection refused" in one.found
    assert "canary" not in one.found + one.need


@pytest.mark.parametrize(
    "address", ["postgresql://me:canary@127.0.0.1:1/x?sslpassword=canary", "mysql://me:canary@h/x"]
)
def test_no_command_shows_a_password_not_even_with_a_traceback(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    address: str,
) -> None:
    monkeypatch.setattr("flows.looks.listing.LOOKING", 0.0)
    with pytest.raises(SystemExit) as left:
        main(["--debug", "--home", str(tmp_path), "--store", address, "runs"])
    shown = "".join(capsys.readouterr())
    assert left.value.code == FAILED
    assert "Traceback" in shown
    assert "canary" not in shown


@pytest.mark.parametrize(
    ("health", "name", "ok", "told"),
    [
        (replace(WELL, version="13.9", major=13), "postgres version", False, "PostgreSQL 14"),
        (replace(WELL, isolation="read committed"), "postgres writes", False, "pooler"),
        (replace(WELL, connections=(2, 5)), "postgres room", False, "max_connections"),
        (replace(WELL, connections=(9, 20)), "postgres room", True, "max_connections"),
        (replace(WELL, careless=("fsync",)), "postgres commits", True, "turn fsync on"),
        (replace(WELL, clock=-7200.0), "postgres clock", True, "leases"),
    ],
)
def test_what_is_wrong_comes_with_the_remedy(
    health: Health, name: str, ok: bool, told: str
) -> None:
    assert [one for one in _server(WELL) if one.need] == []
    [one] = [one for one in _server(health) if one.need]
    assert (one.name, one.ok) == (name, ok)
    assert told in one.need
    assert _mark(one).plain.strip() == ("note" if ok else "FIX")
