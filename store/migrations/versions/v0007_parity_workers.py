"""Comparisons of engines say which worker made them; each worker counts its own.

Going back, those of workers are forgotten: their places in the run's order are taken.
"""

from __future__ import annotations

from typing import Literal

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

LINES = "line IN ('solver', 'generator', 'proxy')"


def upgrade() -> None:
    with op.batch_alter_table("parity", recreate=recreate(), table_args=checks()) as batch:
        batch.drop_constraint("pk_parity", type_="primary")
        batch.add_column(sa.Column("worker", sa.String(), nullable=False, server_default=""))
        batch.create_primary_key("pk_parity", ["run_id", "worker", "position"])


def downgrade() -> None:
    op.execute("DELETE FROM parity WHERE worker <> ''")
    with op.batch_alter_table("parity", recreate=recreate(), table_args=checks()) as batch:
        batch.drop_constraint("pk_parity", type_="primary")
        batch.drop_column("worker")
        batch.create_primary_key("pk_parity", ["run_id", "position"])


def recreate() -> Literal["always", "never"]:
    return "always" if op.get_bind().dialect.name == "sqlite" else "never"


def checks() -> tuple[sa.CheckConstraint, ...]:
    """SQLite rebuilds the table, and is told its check again: it is not read back from it."""
    return (sa.CheckConstraint(LINES, name=op.f("ck_parity_line")),)
