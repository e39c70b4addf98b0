"""Every step of the schema, up and down with rows in the tables, on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, inspect, text
from store_story import tell

from store.database import MIGRATIONS, Store, migrate, parse_url
from store.invariants import verify
from store.questions import runs
from store.schema import Base

REVISIONS = sorted(script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions())
NEWEST = REVISIONS[-1]


@pytest.fixture
def address(url: str) -> URL:
    """An empty store's address."""
    return parse_url(url)


@pytest.fixture
def engine(address: URL) -> Iterator[Engine]:
    """A line to the store that knows nothing of its schema."""
    made = create_engine(address)
    yield made
    made.dispose()


def counts(connection: Connection) -> dict[str, int]:
    """Rows of every table, by its name."""
    names = set(inspect(connection).get_table_names()) - {"alembic_version"}
    return {
        name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one()
        for name in sorted(names)
    }


def schema(connection: Connection) -> dict[str, object]:
    """Tables with their columns, keys, indexes and checks, as the database tells them.

    A check may stand in a rebuilt SQLite table twice, where Alembic read it back by itself too.
    """
    there = inspect(connection)
    return {
        name: (
            sorted((c["name"], str(c["type"]), c["nullable"]) for c in there.get_columns(name)),
            there.get_pk_constraint(name)["constrained_columns"],
            sorted((k["name"] or "", k["referred_table"]) for k in there.get_foreign_keys(name)),
            sorted(str(i["name"]) for i in there.get_indexes(name)),
            sorted(str(u["name"]) for u in there.get_unique_constraints(name)),
            {(c["name"], c["sqltext"]) for c in there.get_check_constraints(name)},
        )
        for name in there.get_table_names()
    }


def test_a_full_store_goes_down_to_every_revision_and_up_again_with_its_rows(
    address: URL, url: str, engine: Engine
) -> None:
    store = Store.open(url)
    run = tell(store)
    store.close()
    with engine.connect() as connection:
        full, newest = counts(connection), schema(connection)
    for revision in reversed(REVISIONS[:-1]):
        migrate(address, revision)
        with engine.connect() as connection:
            there = counts(connection)
        assert there.items() <= full.items()
        assert there.keys() >= MINE
    migrate(address)
    with engine.connect() as connection:
        assert schema(connection) == newest
        kept = counts(connection)
    assert {name: kept[name] for name in MINE} == {name: full[name] for name in MINE}
    store = Store.open(url)
    assert [row["id"] for row in runs(store)] == [run]
    assert verify(store)["violations"] == []
    store.close()


MINE = {"run", "stage", "step", "task", "rollout_group", "rollout", "evidence", "judgement"}


def test_each_revision_looks_the_same_from_below_and_from_above(
    address: URL, engine: Engine
) -> None:
    migrate(address)
    migrate(address, "base")
    from_below = {}
    for revision in REVISIONS:
        migrate(address, revision)
        with engine.connect() as connection:
            from_below[revision] = schema(connection)
    for revision in reversed(REVISIONS):
        migrate(address, revision)
        with engine.connect() as connection:
            assert schema(connection) == from_below[revision], revision
    migrate(address, "base")
    with engine.connect() as connection:
        assert counts(connection) == {}


def test_the_migrated_schema_is_the_one_the_models_describe(url: str, engine: Engine) -> None:
    Store.open(url).close()
    with engine.connect() as connection:
        migrated = schema(connection)
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    del migrated["alembic_version"]
    migrate(parse_url(url), "base")
    Base.metadata.create_all(engine)
    with engine.connect() as connection:
        described = schema(connection)
    described.pop("alembic_version", None)
    assert migrated.keys() == described.keys()
    for name, table in described.items():
        assert migrated[name] == table, name
    Base.metadata.drop_all(engine)


def test_revisions_follow_one_another_without_a_branch() -> None:
    scripts = ScriptDirectory(str(MIGRATIONS))
    assert scripts.get_heads() == [NEWEST]
    assert [f"{n:04d}" for n in range(1, len(REVISIONS) + 1)] == REVISIONS
