"""What an invariant is checked on, and what a broken one is reported as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from store.points import Point
from store.schema import Base, CheckpointRow, ProposedRow, StageRow, StepRow, VersionRow


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise: which, where, and what was found there."""

    invariant: str
    place: str
    found: str


class Kept(Protocol):
    """Where the files of checkpoints are, beside this machine's folder."""

    def check(self, point: Point) -> None:
        """Raise BadCheckpoint unless every place that should have it has it whole."""
        ...

    def loose(self, run: str, known: Sequence[Point]) -> Sequence[str]:
        """Names of what is kept for the run beside the checkpoints known."""
        ...


@dataclass(frozen=True, slots=True)
class Case:
    """One run to check.

    checkpoints  folder that relative checkpoint folders are in, or None
    kept         what knows of other places too, or None where there is no other
    """

    session: Session
    run: str
    checkpoints: Path | None
    kept: Kept | None = None

    def violation(self, invariant: str, place: str, found: str) -> Violation:
        return Violation(invariant, f"run {self.run}, {place}", found)


def on(left: type[Base], right: type[Base], pair: tuple[str, str]) -> ColumnElement[bool]:
    """Rows of one run whose named columns agree."""
    a, b = left.__table__.columns, right.__table__.columns
    return and_(a["run_id"] == b["run_id"], a[pair[0]] == b[pair[1]])


T = TypeVar("T", StageRow, CheckpointRow, StepRow, ProposedRow, VersionRow)


def rows_of(case: Case, table: type[T], order: InstrumentedAttribute[int]) -> Sequence[T]:
    """All of the run's rows of a table, in order."""
    return case.session.scalars(select(table).where(table.run_id == case.run).order_by(order)).all()
