"""The reason rows: why a run stopped, each time it did."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.blobs import readable
from store.schema import StopRow


def record_stop(session: Session, run: str, status: str, reason: str) -> None:
    """Add a reason row, unless the newest already says the same."""
    shown = readable(reason)
    last = session.scalar(select(func.max(StopRow.number)).where(StopRow.run_id == run))
    if last is not None:
        row = session.get_one(StopRow, (run, last))
        if (row.status, row.reason) == (status, shown):
            return
    session.add(
        StopRow(
            run_id=run, number=(last or 0) + 1, status=status, reason=shown, at=datetime.now(UTC)
        )
    )
