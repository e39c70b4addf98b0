"""Comparisons of engines with the local one, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from pipeline.parity import Parity
from store.database import Lease, Store, question
from store.questions import Answer
from store.rows import Row, put
from store.schema import ParityRow


def record_parities(store: Store, lease: Lease, found: Sequence[Parity]) -> None:
    """Add comparisons behind those that the run has; each is handed over once."""
    if not found:
        return
    last = _last(store, lease.run)  # before the transaction, which may have to run again
    now = datetime.now(UTC)
    rows = [_row(lease.run, last + n, parity, now) for n, parity in enumerate(found, 1)]

    def work(session: Session) -> None:
        put(session, ParityRow, rows)

    store.write(lease, work)


@question
def _last(store: Store, run: str) -> int:
    mine = select(func.max(ParityRow.position)).where(ParityRow.run_id == run)
    with store.reading() as session:
        return session.scalar(mine) or 0


def _row(run: str, position: int, parity: Parity, at: datetime) -> Row:
    limits = {"difference_limit": parity.limits.difference, "kl_limit": parity.limits.kl}
    return {
        "run_id": run,
        "position": position,
        "engine": parity.engine,
        "line": parity.line,
        "version": parity.version,
        "step": parity.step,
        **asdict(parity.figures),
        **limits,
        "accepted": parity.accepted,
        "at": at,
    }


@question
def parities(store: Store, run: str) -> list[Answer]:
    """Every comparison that this run itself made, in order: figures, limits, whether accepted."""
    columns = [c for c in ParityRow.__table__.columns if c.name not in ("run_id", "at")]
    query = select(*columns, ParityRow.at).where(ParityRow.run_id == run)
    with store.reading() as session:
        return [
            {**row, "at": row["at"].isoformat()}
            for row in session.execute(query.order_by(ParityRow.position)).mappings()
        ]
