"""The stored groups that a step learned from without sampling."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("step", sa.Column("studied", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("step", "studied")
