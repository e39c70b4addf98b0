"""The tables of the work queue: items that workers answer, and who of them was heard when.

No digest covers any of it. Times are seconds since 1970 by the database's clock.
"""

from __future__ import annotations

from typing import get_args

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from pipeline.items import Kind
from store.columns import Base, one_of, run_key

ITEM_STATES = ("open", "claimed", "done", "failed", "dropped")


class WorkItemRow(Base):
    """One call of an engine, put out once. The row stays when its ask and answer are forgotten.

    step      steps of the run that were committed when it was put out
    free      from when on it may be claimed: put out, given back, or its lease expired; absent
              where it is closed
    number    claims ever made; `base` of them are not counted against the item: those before it
              was put out again, and those given back unharmed
    waited    seconds from being put out to the first claim
    worked    seconds from claim to answer
    late_answers, foreign_answers
              answers refused: of a claim that was lost, or made with other weights
    """

    __tablename__ = "work_item"
    __table_args__ = (
        one_of("state", ITEM_STATES),
        one_of("kind", get_args(Kind)),
        CheckConstraint("(free IS NOT NULL) = (state IN ('open', 'claimed'))", name="free"),
        CheckConstraint("(ask IS NULL) = (state = 'dropped')", name="ask"),
        CheckConstraint("(answer IS NOT NULL) = (state = 'done')", name="answer"),
        # a claim reads the first row of one of these two, and they hold unanswered items alone
        Index(
            None, "run_id", "free", "position",
            sqlite_where=text("free IS NOT NULL"), postgresql_where=text("free IS NOT NULL"),
        ),
        Index(
            None, "run_id", "weights", "free", "position",
            sqlite_where=text("free IS NOT NULL"), postgresql_where=text("free IS NOT NULL"),
        ),
        # what a committed step forgets
        Index(
            None, "run_id", "state",
            sqlite_where=text("state <> 'dropped'"), postgresql_where=text("state <> 'dropped'"),
        ),
    )  # fmt: skip

    run_id: Mapped[str] = run_key()
    id: Mapped[str] = mapped_column(primary_key=True)
    weights: Mapped[str]  # SHA-256 of their file
    weights_file: Mapped[str]
    version: Mapped[str]
    kind: Mapped[str]
    rows: Mapped[int]
    ask: Mapped[bytes | None]
    answer: Mapped[bytes | None]
    state: Mapped[str]
    epoch: Mapped[int]
    step: Mapped[int]
    asked: Mapped[float]
    position: Mapped[int]  # within what was put out together
    free: Mapped[float | None]
    worker: Mapped[str | None]  # of the newest claim
    claimed: Mapped[float | None]
    finished: Mapped[float | None]
    number: Mapped[int] = mapped_column(default=0)
    base: Mapped[int] = mapped_column(default=0)
    errors: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None]  # the last one's text
    redone: Mapped[int] = mapped_column(default=0)
    late_answers: Mapped[int] = mapped_column(default=0)
    foreign_answers: Mapped[int] = mapped_column(default=0)
    waited: Mapped[float | None]
    worked: Mapped[float | None]


class WorkerRow(Base):
    """A process that answers items, and when it last asked for one."""

    __tablename__ = "worker"

    name: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    since: Mapped[float]
    heard: Mapped[float] = mapped_column(index=True)
