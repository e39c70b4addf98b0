"""What meters read, attempts without chance, advantages by token, and what resampling cost."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

STATUSES = "'measured', 'malformed', 'score_error', 'too_long', 'timeout', 'not_measured'"
ROLE = "ck_rollout_group_role"


def upgrade() -> None:
    _roles("'solver', 'generator', 'greedy'")
    op.add_column("judgement", sa.Column("by_token", sa.LargeBinary(), nullable=True))
    op.add_column("step", sa.Column("resampled", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "reading",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("rollout_id", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("values", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.LargeBinary(), nullable=False),
        sa.Column("detail", sa.LargeBinary(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "rollout_id", "source", name="pk_reading"),
        sa.CheckConstraint(f"status IN ({STATUSES})", name=op.f("ck_reading_status")),
        sa.ForeignKeyConstraint(
            ["run_id", "rollout_id"],
            ["rollout.run_id", "rollout.id"],
            name=op.f("fk_reading_run_id_rollout_id"),
        ),
    )


def downgrade() -> None:
    op.drop_table("reading")
    op.drop_column("step", "resampled")
    op.drop_column("judgement", "by_token")
    _roles("'solver', 'generator'")


def _roles(names: str) -> None:
    """Put another list of roles in place; SQLite copies the table for it."""
    with op.batch_alter_table("rollout_group") as batch:
        batch.drop_constraint(op.f(ROLE), type_="check")
        batch.create_check_constraint(op.f(ROLE), f"role IN ({names})")
