"""The work queue: items and the workers that answer them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

UNANSWERED, KEPT = "free IS NOT NULL", "state <> 'dropped'"


def upgrade() -> None:
    op.create_table(
        "work_item",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("weights", sa.String(), nullable=False),
        sa.Column("weights_file", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("ask", sa.LargeBinary(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("asked", sa.Double(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("free", sa.Double(), nullable=True),
        sa.Column("worker", sa.String(), nullable=True),
        sa.Column("claimed", sa.Double(), nullable=True),
        sa.Column("finished", sa.Double(), nullable=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("base", sa.Integer(), nullable=False),
        sa.Column("errors", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("redone", sa.Integer(), nullable=False),
        sa.Column("late_answers", sa.Integer(), nullable=False),
        sa.Column("foreign_answers", sa.Integer(), nullable=False),
        sa.Column("waited", sa.Double(), nullable=True),
        sa.Column("worked", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "id", name="pk_work_item"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_work_item_run_id")),
        *(sa.CheckConstraint(told, name=op.f(name)) for name, told in CHECKS.items()),
    )
    index("run_id", "free", "position", only=UNANSWERED)
    index("run_id", "weights", "free", "position", only=UNANSWERED)
    index("run_id", "state", only=KEPT)
    op.create_table(
        "worker",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("heard", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_worker"),
    )
    op.create_index("ix_worker_heard", "worker", ["heard"])


def downgrade() -> None:
    op.drop_table("worker")
    op.drop_table("work_item")


def index(*columns: str, only: str) -> None:
    where = sa.text(only)
    name = f"ix_work_item_{'_'.join(columns)}"
    op.create_index(name, "work_item", list(columns), sqlite_where=where, postgresql_where=where)


CHECKS = {
    "ck_work_item_state": "state IN ('open', 'claimed', 'done', 'failed', 'dropped')",
    "ck_work_item_kind": "kind IN ('sample', 'score', 'confide')",
    "ck_work_item_free": "(free IS NOT NULL) = (state IN ('open', 'claimed'))",
    "ck_work_item_ask": "(ask IS NULL) = (state = 'dropped')",
    "ck_work_item_answer": "(answer IS NOT NULL) = (state = 'done')",
}
