"""Tasks may have several references.

SQLite rebuilds the table, and is told its checks again: they are not read back from it.
"""

from __future__ import annotations

from typing import Literal

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

CHECKS = {
    "ck_task_origin": (
        "origin IN ('human', 'document', 'executor', 'rule', 'generator', 'consensus')"
    ),
    "ck_task_state": "state IN ('seed', 'candidate', 'admitted', 'attempted')",
}


def upgrade() -> None:
    with op.batch_alter_table("task", recreate=recreate(), table_args=checks()) as batch:
        batch.add_column(sa.Column("other_references", sa.Text(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("task", recreate=recreate(), table_args=checks()) as batch:
        batch.drop_column("other_references")


def recreate() -> Literal["always", "never"]:
    return "always" if op.get_bind().dialect.name == "sqlite" else "never"


def checks() -> tuple[sa.CheckConstraint, ...]:
    return tuple(sa.CheckConstraint(told, name=op.f(name)) for name, told in CHECKS.items())
