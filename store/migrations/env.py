"""Alembic's entry: run the steps on the connection, and in the transaction, that was handed in."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from pipeline.faults import fault
from store.schema import Base

connection = context.config.attributes["connection"]
assert isinstance(connection, Connection)


def mid_step(*facts: object, **named: object) -> None:
    """Called by Alembic after each step, before anything is committed."""
    fault("mig.mid_step")


context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=True,
    transactional_ddl=True,
    on_version_apply=mid_step,
)
with context.begin_transaction():
    context.run_migrations()
