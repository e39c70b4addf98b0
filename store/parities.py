"""Comparisons of engines with the local one, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from pipeline.items import Claim
from pipeline.parity import Parity
from store.claims import holds
from store.database import Lease, Store, question
from store.questions import Answer
from store.rows import Row, put
from store.schema import ParityRow


def record_parities(store: Store, by: Lease | Claim, found: Sequence[Parity]) -> None:
    """Add comparisons behind those that the run has, or the worker; each is handed over once.

    by  the run's own process writes by its lease, and raises LostLease without it; a worker by its
        claim of one of the run's items, and nothing is written where that was lost
    """
    if not found:
        return
    worker = by.worker if isinstance(by, Claim) else ""
    last = _last(store, by.run, worker)  # before the transaction, which may have to run again
    now = datetime.now(UTC)
    rows = [_row((by.run, worker, last + n), parity, now) for n, parity in enumerate(found, 1)]

    def work(session: Session) -> None:
        if isinstance(by, Lease) or holds(session, by):
            put(session, ParityRow, rows)

    if isinstance(by, Lease):
        store.write(by, work)
    else:
        store.write(None, work, crowded=True)


@question
def _last(store: Store, run: str, worker: str) -> int:
    mine = (ParityRow.run_id == run, ParityRow.worker == worker)
    with store.reading() as session:
        return session.scalar(select(func.max(ParityRow.position)).where(*mine)) or 0


def _row(key: tuple[str, str, int], parity: Parity, at: datetime) -> Row:
    limits = {"difference_limit": parity.limits.difference, "kl_limit": parity.limits.kl}
    return {
        **dict(zip(("run_id", "worker", "position"), key, strict=True)),
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
    """Every comparison made for this run and no fork of it: by whom, figures, limits, whether
    accepted. Those of the run itself first, then worker by worker, each in order."""
    columns = [c for c in ParityRow.__table__.columns if c.name not in ("run_id", "at")]
    query = select(*columns, ParityRow.at).where(ParityRow.run_id == run)
    with store.reading() as session:
        return [
            {**row, "at": row["at"].isoformat()}
            for row in session.execute(
                query.order_by(ParityRow.worker, ParityRow.position)
            ).mappings()
        ]
