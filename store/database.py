"""Opens the store: SQLite in a file by default, PostgreSQL by URL, at the newest schema.

SQLite runs in WAL with synchronous FULL (a commit survives a power cut) and takes its write lock
at the start of a writing transaction, since a read that turns into a write fails at once.
PostgreSQL writes are serialisable, but for the work queue; a transaction that lost such a race is
run again, whole. So is one whose database was locked, restarted or out of reach, and so is a
question: the store waits for it, as long as its patience lasts (`store.waiting`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from pipeline.faults import fault
from store.errors import Conflict, LostLease, NewerSchema, StoreError
from store.schema import LeaseRow
from store.waiting import Patience, sqlstate

P = ParamSpec("P")
T = TypeVar("T")
MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 30
_TRIES = 10
_RACES = {"40001", "40P01", "23505"}  # serialisation failure, deadlock, a key another just wrote
_MIGRATION_LOCK = 0x636F636C  # any number all starters share
DEFAULT = Patience()
IDLE = "idle_in_transaction_session_timeout = '30s'"  # a frozen writer may block nobody for longer


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write to a run, for as long as the epoch is the newest."""

    run: str
    owner: str
    epoch: int


class _Cursor(Protocol):
    def execute(self, statement: str, /) -> object: ...

    def close(self) -> None: ...


class _Driver(Protocol):
    isolation_level: str | None

    def cursor(self) -> _Cursor: ...


class Store:
    """One open store. Sessions are short and never shared between threads or processes.

    patience  how long `read`, `write` and every question wait for the database, and who hears of it
    """

    def __init__(self, engine: Engine, patience: Patience = DEFAULT) -> None:
        self._engine, self.patience = engine, patience
        self.sqlite = engine.dialect.name == "sqlite"
        if self.sqlite:
            self._reader = engine
            self._writer = engine.execution_options(coclimb_write=True)
            self._crowd = self._writer
        else:
            self._reader = engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            self._writer = engine.execution_options(isolation_level="SERIALIZABLE")
            self._crowd = engine.execution_options(isolation_level="READ COMMITTED")

    @classmethod
    def open(cls, url: str, patience: Patience = DEFAULT) -> Store:
        """Open, creating the folder and migrating to the newest schema.

        url  a path, "sqlite:///path" or "postgresql://..."
        Raises NewerSchema, Unreachable past the patience, or StoreError for an address that is no
        store.
        """
        address = parse_url(url)
        migrate(address, patience=patience)
        return cls(_engine(address, patience), patience)

    def close(self) -> None:
        self._engine.dispose()

    def within(self, seconds: float) -> Store:
        """The same store with another patience, saying nothing; closing either closes both."""
        return Store(self._engine, Patience(seconds, self.patience.silence))

    def patiently(self, attempt: Callable[[], T]) -> T:
        """Have `attempt` use this store, again from its start where the database went away.

        Raises Unreachable where it did not come back in time.
        """
        return self.patience.through(attempt, shown(self._engine.url))

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One snapshot: everything read in the block was true at one moment."""
        with Session(self._reader, expire_on_commit=False) as session:
            yield session

    def read(self, work: Callable[[Session], T]) -> T:
        """Run `work` on one snapshot, again from the start where its connection broke."""

        def attempt() -> T:
            with self.reading() as session:
                return work(session)

        return self.patiently(attempt)

    @contextmanager
    def writing(self, lease: Lease | None, *, crowded: bool = False) -> Iterator[Session]:
        """One transaction, committed at the end of the block.

        lease    checked inside the same transaction; None only for what no run owns yet.
        crowded  for the work queue, whose many workers lock the one row they change: PostgreSQL
                 then reads what is committed, where serialisable they would fail each other
        Raises LostLease when another epoch owns the run; then nothing changed.
        """
        engine = self._crowd if crowded else self._writer
        with Session(engine, expire_on_commit=False) as session, session.begin():
            if not self.sqlite:
                session.execute(text(f"SET LOCAL {IDLE}"))
            if lease is not None:
                check_lease(session, lease)
            yield session

    def write(
        self, lease: Lease | None, work: Callable[[Session], T], *, crowded: bool = False
    ) -> T:
        """Run `work` in a writing transaction, again from the start where it lost a race or its
        database.

        `work` must be idempotent under its keys: after a connection that broke during COMMIT it
        runs again and finds its own outcome. An earlier COMMIT cannot arrive after that: until it
        ends, its transaction holds the lease's row. Raises Conflict for a key that is taken.
        """
        try:
            return self.patiently(lambda: self._race(lease, work, crowded))
        except IntegrityError as error:
            raise Conflict(f"the store refused a row: {error.orig}") from error

    def _race(self, lease: Lease | None, work: Callable[[Session], T], crowded: bool) -> T:
        for attempt in range(_TRIES):
            try:
                with self.writing(lease, crowded=crowded) as session:
                    return work(session)
            except DBAPIError as error:
                if attempt + 1 == _TRIES or sqlstate(error) not in _RACES:
                    raise
                time.sleep(0.005 * 2**attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")


def question(ask: Callable[Concatenate[Store, P], T]) -> Callable[Concatenate[Store, P], T]:
    """A function that only reads its store: asked again, whole, where the connection broke."""

    @wraps(ask)
    def asked(store: Store, /, *args: P.args, **named: P.kwargs) -> T:
        return store.patiently(lambda: ask(store, *args, **named))

    return asked


def check_lease(session: Session, lease: Lease, *, lock: bool = True) -> None:
    """Raise LostLease unless this lease is the run's newest and still held.

    lock  keep it so until the transaction ends; not where it only reads
    """
    held = select(LeaseRow.owner, LeaseRow.epoch).where(LeaseRow.run_id == lease.run)
    row = session.execute(held.with_for_update() if lock else held).one_or_none()
    if row is None or (row.owner, row.epoch) != (lease.owner, lease.epoch):
        now = "nobody" if row is None or row.owner is None else f"{row.owner} (epoch {row.epoch})"
        raise LostLease(
            f"lost ownership of run {lease.run}: {lease.owner} held epoch {lease.epoch}, "
            f"the run now belongs to {now}; nothing was written"
        )


def parse_url(url: str) -> URL:
    """A path or URL as SQLAlchemy's; PostgreSQL always through psycopg 3.

    Raises StoreError, which repeats nothing of an address but its beginning.
    """
    if "://" not in url:
        return URL.create("sqlite", database=str(Path(url).expanduser()))
    try:
        address = make_url(url)
        kind = address.get_backend_name()
    except (ArgumentError, ValueError):
        kind = ""
    if kind in ("postgresql", "postgres"):
        return address.set(drivername="postgresql+psycopg")
    if kind != "sqlite" or address.database in (None, "", ":memory:"):
        raise StoreError(
            f"what --store or COCLIMB_STORE gives as {url.partition('://')[0]}://... is no store "
            "address; give a file path, sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE "
            "without quotes, where a password's own / : @ ? stand as %2F %3A %40 %3F"
        )
    return address


def shown(address: URL) -> str:
    """An address as a person may read it: without any password."""
    hidden = {name: "hidden" for name in address.query if "password" in name.lower()}
    return address.update_query_dict(hidden).render_as_string(hide_password=True)


def _engine(address: URL, patience: Patience, *, migrating: bool = False) -> Engine:
    if address.get_backend_name() != "sqlite":
        try:
            from store.postgres import postgres_engine  # noqa: PLC0415 - the driver is an extra
        except ImportError as error:
            raise StoreError(
                f"PostgreSQL needs a driver that is not there ({error}): "
                "pip install 'coclimb[postgres]'"
            ) from error
        return postgres_engine(address, patience, migrating=migrating)
    engine = create_engine(address, **({"poolclass": NullPool} if migrating else {}))
    keys = "OFF" if migrating else "ON"  # rebuilding a table with keys on would cascade

    @event.listens_for(engine, "connect")
    def configure(connection: _Driver, record: object) -> None:
        connection.isolation_level = None  # the driver opens no transaction of its own
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute(f"PRAGMA foreign_keys = {keys}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = migrating or connection.get_execution_options().get("coclimb_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def migrate(address: URL, target: str = "head", *, patience: Patience = DEFAULT) -> None:
    """Bring the schema to `target` in one transaction; concurrent starters wait for each other.

    Raises NewerSchema where the store is ahead of this program, Unreachable past the patience, and
    StoreError where it cannot be opened at all.
    """
    if address.get_backend_name() == "sqlite":
        _make_folder(Path(str(address.database)))
    engine, place = _engine(address, patience, migrating=True), shown(address)

    def attempt() -> None:
        with engine.begin() as connection:
            _migrate_within(connection, place, target)

    try:
        patience.through(attempt, place)
    except DBAPIError as error:
        raise StoreError(f"cannot open the store at {place}: {error.orig}") from error
    finally:
        engine.dispose()
    fault("mig.after")


def _make_folder(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make the folder of the store {file}: {error}") from error


def _migrate_within(connection: Connection, place: str, target: str) -> None:
    sqlite = connection.dialect.name == "sqlite"
    if not sqlite:
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
    config = migrations_config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    present = MigrationContext.configure(connection).get_current_revision()
    if present is not None and present not in known:
        raise NewerSchema(
            f"the store at {place} has schema {present}, this program knows up to "
            f"{max(known)}; install a newer coclimb, or name another store. Nothing was changed"
        )
    if present == (max(known) if target == "head" else target):
        return
    fault("mig.before")
    down = target != "head" and present is not None and (target == "base" or target < present)
    (command.downgrade if down else command.upgrade)(config, target)
    if sqlite and connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
        raise StoreError(f"migrating {place} would break a foreign key; nothing was changed")


def migrations_config(connection: Connection) -> Config:
    """Alembic's settings for the scripts that ship with the package, on an open connection."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
