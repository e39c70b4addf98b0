"""Every store test runs on SQLite and on a PostgreSQL started from a temporary folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pgserver
import pytest
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text
from store_story import tell

from store.database import MIGRATIONS, Store, parse_url
from store.schema import Base

NEWEST = max(path.stem[1:5] for path in (MIGRATIONS / "versions").glob("v*.py"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "postgres: runs on a PostgreSQL server of its own")


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """URL of a PostgreSQL that this session alone uses.

    Its folder is not pytest's, whose mode every new session resets under the server's own user.
    """
    folder = Path(tempfile.mkdtemp(prefix="coclimb-pg-"))
    running = pgserver.get_server(folder, cleanup_mode="delete")
    url = parse_url(running.get_uri()).render_as_string(hide_password=False)
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        _do(url, f"ALTER SYSTEM SET {setting} = off")  # nothing here outlives the session
    _do(url, "SELECT pg_reload_conf()")
    yield url
    running.cleanup()


@pytest.fixture
def postgres(server: str) -> str:
    """URL of an empty store on the server: rows deleted, or tables too where a test moved them."""
    url = parse_url(server)
    engine = create_engine(url)
    with engine.connect() as connection:
        there = set(inspect(connection).get_table_names())
        version = MigrationContext.configure(connection).get_current_revision()
    engine.dispose()
    if version == NEWEST and there >= set(Base.metadata.tables):
        names = [table.name for table in reversed(Base.metadata.sorted_tables)]
        _do(server, *(f"DELETE FROM {name}" for name in names))
    elif there:
        _do(server, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    return server


BOTH = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of an empty store."""
    if request.param == "sqlite":
        return str(tmp_path / "home" / "coclimb.db")
    address: str = request.getfixturevalue("postgres")
    return address


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store.open(url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def told_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store that holds the finished run "runa"."""
    file = tmp_path_factory.mktemp("told") / "coclimb.db"
    opened = Store.open(str(file))
    tell(opened)
    opened.close()
    return file


@pytest.fixture(scope="session")
def told_database(server: str) -> str:
    """A database on the server that holds the same run; closed, so that it may be copied."""
    _do(server, "CREATE DATABASE told")
    opened = Store.open(_database(server, "told"))
    tell(opened)
    opened.close()
    return "told"


@pytest.fixture(params=BOTH)
def told(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store of one's own that already holds the finished run "runa" of two rounds."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("told_file"), tmp_path / "coclimb.db")
        address = str(tmp_path / "coclimb.db")
    else:
        server, whole = request.getfixturevalue("server"), request.getfixturevalue("told_database")
        _do(server, "DROP DATABASE IF EXISTS mine", f"CREATE DATABASE mine TEMPLATE {whole}")
        address = _database(server, "mine")
    opened = Store.open(address)
    yield opened
    opened.close()


def _database(server: str, name: str) -> str:
    return parse_url(server).set(database=name).render_as_string(hide_password=False)


def _do(url: str, *statements: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()
