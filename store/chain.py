"""A run's rounds, its own and those a fork inherited, as one history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from store.errors import Unknown
from store.schema import RunRow


@dataclass(frozen=True, slots=True)
class Span:
    """Part of a history: a run and the last of its rounds that counts; None means all."""

    run: str
    upto: int | None


def ancestors(session: Session, run: str) -> list[Span]:
    """The run itself, then what it forked from, back to the first. Raises Unknown."""
    spans: list[Span] = []
    upto: int | None = None
    name: str | None = run
    while name is not None:
        row = session.execute(
            select(RunRow.parent_run_id, RunRow.parent_round).where(RunRow.id == name)
        ).one_or_none()
        if row is None:
            raise Unknown(f"no run {name!r} is in this store; `coclimb runs` lists them")
        spans.append(Span(name, upto))
        name = row.parent_run_id
        if row.parent_round is not None:
            upto = row.parent_round if upto is None else min(upto, row.parent_round)
    return spans


def owner_of(session: Session, run: str, round: int) -> str:
    """The run of the chain whose rows tell this round."""
    spans = ancestors(session, run)
    for older in reversed(spans):
        if older.upto is not None and round <= older.upto:
            return older.run
    return run


def within(
    spans: Sequence[Span],
    run: InstrumentedAttribute[str],
    round: InstrumentedAttribute[int],
    upto: int | None = None,
) -> ColumnElement[bool]:
    """Rows of this history, optionally only up to a round."""
    parts = []
    for span in spans:
        last = min((r for r in (span.upto, upto) if r is not None), default=None)
        parts.append(run == span.run if last is None else and_(run == span.run, round <= last))
    return or_(*parts)
