"""Comparisons of engines with the local one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

LINES = "'solver', 'generator', 'proxy'"


def upgrade() -> None:
    op.create_table(
        "parity",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("engine", sa.String(), nullable=False),
        sa.Column("line", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("max_difference", sa.Double(), nullable=False),
        sa.Column("mean_difference", sa.Double(), nullable=False),
        sa.Column("mismatch_kl", sa.Double(), nullable=True),
        sa.Column("difference_limit", sa.Double(), nullable=False),
        sa.Column("kl_limit", sa.Double(), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "position", name="pk_parity"),
        sa.CheckConstraint(f"line IN ({LINES})", name=op.f("ck_parity_line")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_parity_run_id")),
    )


def downgrade() -> None:
    op.drop_table("parity")
