"""PostgreSQL through psycopg: connections that notice a dead server, and bulk inserts by COPY.

Imported only where a PostgreSQL address is opened: the driver is an extra.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import OperationalError
from psycopg.sql import SQL
from psycopg.waiting import Ready, Wait
from sqlalchemy import URL, Engine, Insert, Table, create_engine, event
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.compiler import SQLCompiler

from store.columns import COPY
from store.waiting import Patience

RV = TypeVar("RV")
COPY_FROM = 32  # rows; for fewer, COPY's own messages cost what it saves
MIGRATION_SECONDS = 3600
LOCK_SECONDS = 30  # as long as SQLite waits for its lock
GRACE = 10  # seconds that the server has to end a statement itself, before it counts as gone
# a machine that vanished is noticed within half a minute, by either side
_KEEPALIVES = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


class Watched(psycopg.Connection[Any]):
    """A connection that is given up once the server is silent for too long.

    The server's own limits end a slow statement; this ends the wait for a server that is stopped
    or cut off and can end nothing itself.
    """

    silence = float("inf")  # seconds

    def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        return super().wait(self._heard(gen), *args, **kwargs)

    def _heard(self, gen: PQGen[RV]) -> PQGen[RV]:
        """The driver's conversation with the server, ended once it has stood still too long."""
        until = time.monotonic() + self.silence
        try:
            wanted: Wait = next(gen)
            while True:
                ready: Ready | int = yield wanted
                if ready:
                    until = time.monotonic() + self.silence
                elif time.monotonic() > until:
                    self.pgconn.finish()
                    raise OperationalError(f"the server was silent for {self.silence:.0f} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: RV = end.value
            return result


def postgres_engine(address: URL, patience: Patience, *, migrating: bool = False) -> Engine:
    """An engine whose statements, locks and connections all have a limit.

    migrating  for one connection whose statements may take an hour
    """
    asked = {name: value for name, value in _KEEPALIVES.items() if name not in address.query}
    pool: dict[str, Any] = {"poolclass": NullPool} if migrating else {"pool_pre_ping": True}
    engine = create_engine(address, connect_args=asked, **pool)
    limit = MIGRATION_SECONDS if migrating else patience.silence

    @event.listens_for(engine, "do_connect")
    def connect(
        dialect: object, record: object, given: list[Any], named: dict[str, Any]
    ) -> Watched:
        connection = Watched.connect(*given, **named)
        connection.silence = limit + GRACE
        try:
            connection.execute(_settings(limit))  # poolers refuse them at start-up
            connection.commit()
        except psycopg.Error:
            connection.close()
            raise
        return connection

    event.listen(engine, "do_executemany", copy_rows)
    return engine


def _settings(limit: float) -> str:
    """What every session is told. limit: seconds that a statement may take."""
    statement, lock = round(1000 * limit), round(1000 * min(LOCK_SECONDS, limit))
    told = {
        "statement_timeout": statement,
        "lock_timeout": lock,
        "tcp_keepalives_idle": 10,
        "tcp_keepalives_interval": 5,
        "tcp_keepalives_count": 3,
        # a run too new for the planner's statistics would be joined row by row to itself: 5,120
        # rollouts took 8 s to list, and with lookups by key instead 0.1 s
        "enable_material": "off",
    }
    return "; ".join(f"SET {name} = {value}" for name, value in told.items())


def copy_rows(
    cursor: psycopg.Cursor[Any],
    statement: str,
    parameters: Sequence[Mapping[str, object]],
    context: DefaultExecutionContext,
) -> bool:
    """Insert many rows by COPY in the driver's binary format, where the statement allows it.

    A hook of SQLAlchemy's: the values have gone through the columns' types, and what the server
    refuses is raised and wrapped as if by INSERT. Returns whether the rows were written.
    """
    compiled = context.compiled
    asked = context.execution_options.get(COPY, False)
    if not asked or len(parameters) < COPY_FROM or not isinstance(compiled, SQLCompiler):
        return False
    insert = compiled.statement
    if not isinstance(insert, Insert) or not isinstance(insert.table, Table):
        return False
    quote, columns = context.dialect.identifier_preparer, insert.table.columns
    names = list(parameters[0])
    listed = ", ".join(quote.quote(columns[name].name) for name in names)
    into = f"COPY {quote.format_table(insert.table)} ({listed}) FROM STDIN (FORMAT binary)"
    with cursor.copy(SQL(into)) as copy:
        copy.set_types([columns[name].type.compile(context.dialect).lower() for name in names])
        for row in parameters:
            copy.write_row([row[name] for name in names])
    return True
