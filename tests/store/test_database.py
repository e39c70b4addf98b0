from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from store_story import tell

from pipeline.faults import armed
from store import database
from store.database import MIGRATIONS, Store, migrate, parse_url
from store.errors import NewerSchema, StoreError
from store.invariants import verify
from store.questions import runs
from store.schema import Base, LeaseRow

NEWEST = max(path.stem[1:5] for path in (MIGRATIONS / "versions").glob("v*.py"))


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it."""


def kill() -> None:
    raise Killed


def test_opening_makes_the_folder_and_the_tables(url: str) -> None:
    store = Store.open(url)
    assert runs(store) == []
    store.close()


def test_sqlite_survives_power_cuts_and_enforces_keys(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "a" / "b" / "s.db"))
    with store.reading() as session:
        pragmas = {
            name: session.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 30_000,
    }


def test_a_row_that_names_no_run_is_refused(store: Store) -> None:
    row = LeaseRow(run_id="nobody", host="h", pid=1, started="", epoch=1, expires=0.0)
    with store.writing(None) as session:
        session.add(row)
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()


def test_migrating_down_empties_the_store_and_up_again_fills_it(url: str) -> None:
    Store.open(url).close()
    migrate(parse_url(url), "base")
    engine = create_engine(parse_url(url))
    assert set(inspect(engine).get_table_names()) <= {"alembic_version"}
    engine.dispose()
    store = Store.open(url)
    tell(store)
    assert verify(store)["violations"] == []
    store.close()


def test_opening_again_keeps_every_row(url: str) -> None:
    store = Store.open(url)
    run = tell(store)
    store.close()
    again = Store.open(url)
    assert [row["id"] for row in runs(again)] == [run]
    assert verify(again)["violations"] == []
    again.close()


def test_rebuilding_a_table_does_not_cascade_into_its_children(tmp_path: Path) -> None:
    """With foreign keys on, dropping the old copy of a rebuilt table would empty its children.

    PostgreSQL alters a table where it stands.
    """
    file = str(tmp_path / "s.db")
    store = Store.open(file)
    tell(store)
    store.close()
    script = tmp_path / "scripts"
    shutil.copytree(MIGRATIONS, script, ignore=shutil.ignore_patterns("__pycache__"))
    (script / "versions" / "v9998_more.py").write_text(REBUILD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", script)
        migrate(parse_url(file))
    engine = create_engine(parse_url(file))
    with engine.connect() as connection:
        counts = [
            connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one()
            for name in ("run", "stage", "rollout", "alembic_version")
        ]
        assert connection.execute(text("PRAGMA foreign_key_check")).first() is None
        columns = [column["name"] for column in inspect(connection).get_columns("run")]
    engine.dispose()
    assert counts == [1, 12, 32, 1]
    assert columns[-1] == "colour"


REBUILD = f"""
import sqlalchemy as sa
from alembic import op

revision, down_revision = "9998", "{NEWEST}"


def upgrade() -> None:
    with op.batch_alter_table("run", recreate="always") as batch:
        batch.add_column(sa.Column("colour", sa.String()))


def downgrade() -> None:
    pass
"""


@pytest.mark.parametrize("point", ["mig.before", "mig.mid_step", "mig.after"])
def test_a_migration_killed_anywhere_is_done_whole_by_the_next_start(url: str, point: str) -> None:
    Store.open(url).close()
    migrate(parse_url(url), "base")
    with pytest.raises(Killed), armed(point, kill):
        Store.open(url)
    engine = create_engine(parse_url(url))
    there = set(inspect(engine).get_table_names()) - {"alembic_version"}
    engine.dispose()
    assert there == (set(Base.metadata.tables) if point == "mig.after" else set())
    store = Store.open(url)
    assert runs(store) == []
    store.close()


def test_a_store_of_a_newer_schema_is_refused_with_versions_and_remedy(url: str) -> None:
    store = Store.open(url)
    run = tell(store)
    with store.writing(None) as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    with pytest.raises(NewerSchema, match=rf"schema 9999.*up to {NEWEST}.*install a newer coclimb"):
        Store.open(url)
    engine = create_engine(parse_url(url))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT id FROM run")).scalars().all() == [run]
    engine.dispose()


def test_starters_that_open_an_empty_store_together_all_succeed(url: str) -> None:
    opened: list[Store] = []
    threads = [threading.Thread(target=lambda: opened.append(Store.open(url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [runs(store) for store in opened] == [[], [], [], []]
    for store in opened:
        store.close()


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "sqlite:///:memory:", "what://"])
def test_an_address_that_is_no_store_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match="no store address"):
        Store.open(url)


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    file.write_bytes(b"not a database, but somebody's notes" * 10)
    with pytest.raises(StoreError, match="cannot open the store"):
        Store.open(str(file))
    assert file.read_bytes().startswith(b"not a database")


@pytest.mark.postgres
@pytest.mark.parametrize("url", ["postgres"], indirect=True)
def test_a_transaction_that_lost_a_race_is_run_again_whole(store: Store) -> None:
    tell(store)
    barrier, tries = threading.Barrier(2), []

    def bump() -> None:
        def work(session: Session) -> None:
            tries.append(1)
            rounds = session.execute(text("SELECT rounds_asked FROM run")).scalar_one()
            if len(tries) <= 2:
                barrier.wait(10)
            session.execute(text(f"UPDATE run SET rounds_asked = {rounds + 1}"))

        store.write(None, work)

    threads = [threading.Thread(target=bump) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runs(store)[0]["rounds_asked"] == 4
    assert len(tries) == 3
    store.close()
