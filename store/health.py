"""What a PostgreSQL server says of itself, as far as a run depends on it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import text

from store.database import Store

OLDEST = 14  # major version that the store is written for
PER_PROCESS = 3  # connections that one run or worker holds at most: work, lease, a question


@dataclass(frozen=True, slots=True)
class Health:
    """version      as the server tells it, such as "16.2"
    major        its first number
    isolation    of a writing transaction: "serializable" where all is well
    clock        seconds that the server's clock is ahead of this machine's
    connections  that are free for this program, and the most there can be
    careless     settings under which a commit may not survive a power cut
    """

    version: str
    major: int
    isolation: str
    clock: float
    connections: tuple[int, int]
    careless: tuple[str, ...]


def health_of(store: Store) -> Health:
    """Ask the server, in one writing transaction that changes nothing.

    Raises DBAPIError where this user may not write, or the server is a read-only copy.
    """
    with store.writing(None) as session:
        isolation = session.execute(text("SHOW transaction_isolation")).scalar_one()
        session.execute(text("SELECT version_num FROM alembic_version FOR UPDATE"))
        asked = time.time()
        now = session.execute(text("SELECT extract(epoch FROM clock_timestamp())::float8"))
        clock = float(now.scalar_one()) - (asked + time.time()) / 2
        told = session.execute(text(_ASKED)).one()
        session.rollback()
    return Health(
        version=str(told.version).split()[0],
        major=told.number // 10_000,
        isolation=str(isolation),
        clock=clock,
        connections=(told.most - told.reserved - told.used, told.most),
        careless=tuple(name for name in _SAFE if getattr(told, name) == "off"),
    )


_SAFE = ("fsync", "synchronous_commit", "full_page_writes")
_ASKED = """
SELECT current_setting('server_version') AS version,
       current_setting('server_version_num')::int AS number,
       current_setting('max_connections')::int AS most,
       current_setting('superuser_reserved_connections')::int AS reserved,
       (SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,
       current_setting('fsync') AS fsync,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('full_page_writes') AS full_page_writes
"""
