"""Many rows at once: PostgreSQL takes them by COPY, and nobody can tell from the rows."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Connection, event, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session
from store_story import new_run, tell

from pipeline.types import Task
from store.columns import Base
from store.database import Store
from store.errors import Conflict
from store.invariants import verify
from store.postgres import COPY_FROM
from store.rows import Row, add, task_row
from store.schema import (
    CheckpointRow,
    JudgementRow,
    PoolRow,
    ProbeRow,
    StageRow,
    TaskRow,
)

MANY = COPY_FROM + 3
FLOATS = (0.1, -0.0, 5e-324, 1.7976931348623157e308, math.pi, -1 / 3, 1e16 + 2)
AWARE = datetime(2024, 2, 29, 23, 59, 59, 999_999, timezone(timedelta(hours=5, minutes=45)))


def odd_rows(run: str, first: int, count: int = MANY) -> list[tuple[type[Base], list[Row]]]:
    """Rows of every column type, with the values that are easiest to lose."""
    numbers = range(first, first + count)
    texts = ["plain", "tab\tline\nreturn\r", "\\N", "\\.", "", "naïve \U0001f600", "'\";--"]
    tasks = [
        Task(f"t{n}", texts[n % 7] + "\x00\ud800", texts[n % 7], "rule", abs(FLOATS[n % 3]), n)
        for n in numbers
    ]
    pool = [
        {"run_id": run, "id": f"p{n}", "position": n, "slice": texts[n % 7], "right": n % 2 == 0}
        | {"question": "\x00q", "reference": "\ud83d", "reasoning": texts[n % 7]}
        for n in numbers
    ]
    probes = [
        {"run_id": run, "round": n, "axis": "solver", "name": "x", "slice": "all", "position": n}
        | {"value": FLOATS[n % 7], "low": -0.0, "high": 1.0, "n": n, "version": "solver@0"}
        | {"per_task": [["a", FLOATS[n % 7]], ["\x00", None]]}
        for n in numbers
    ]
    stages = [
        {"run_id": run, "round": n, "stage": "probe", "sequence": 1000 + n, "rows": "r"}
        | {"content": "", "digest": "d", "epoch": 1, "at": AWARE + timedelta(microseconds=n)}
        for n in numbers
    ]
    points = [
        {"run_id": run, "round": n, "sequence": 1000 + n, "folder": "f", "manifest_digest": "m"}
        | {"versions": [{"id": "\u2028", "step": n}], "state": "pruned", "epoch": 1, "at": AWARE}
        for n in numbers
    ]
    made = (0, None, 0)
    return [
        (TaskRow, [task_row(run, task, "attempted", made) for task in tasks]),
        (PoolRow, pool),
        (ProbeRow, probes),
        (StageRow, stages),
        (CheckpointRow, points),
    ]


def kept(session: Session, table: type[Base], run: str) -> list[tuple[object, ...]]:
    """A run's rows of a table, without its name."""
    names = [name for name in table.__table__.columns.keys() if name != "run_id"]  # noqa: SIM118
    rows = session.scalars(
        select(table).where(table.__table__.c.run_id == run).order_by(*table.__table__.primary_key)
    )
    return [tuple(getattr(row, name) for name in names) for row in rows]


def test_many_rows_are_stored_as_few_are(store: Store) -> None:
    by_copy, one_by_one = new_run(store, "a"), new_run(store, "b")

    def work(session: Session) -> None:
        for table, rows in odd_rows(by_copy, 1):
            add(session, table, rows)
        for table, rows in odd_rows(one_by_one, 1):
            for row in rows:
                session.execute(insert(table), row)

    store.write(None, work)
    with store.reading() as session:
        for table, rows in odd_rows(by_copy, 1):
            pair = [kept(session, table, run) for run in (by_copy, one_by_one)]
            assert pair[0] == pair[1]
            assert repr(pair[0]) == repr(pair[1])  # which tells -0.0 from 0.0
            assert len(pair[0]) == len(rows)
        values = session.scalars(
            select(ProbeRow.value).where(ProbeRow.run_id == by_copy).order_by(ProbeRow.round)
        )
        lost = 0.0 if store.sqlite else -0.0  # SQLite keeps no sign of a zero
        assert [v.hex() for v in values] == [
            (FLOATS[n % 7] + lost).hex() for n in range(1, MANY + 1)
        ]
        at = session.scalars(select(StageRow.at).where(StageRow.run_id == by_copy)).all()
        assert min(at) == AWARE + timedelta(microseconds=1)
        assert min(at).tzinfo is UTC


@pytest.mark.postgres
@pytest.mark.parametrize("url", ["postgres"], indirect=True)  # SQLite has no COPY to look for
def test_postgresql_takes_many_rows_by_copy_and_few_by_insert(store: Store) -> None:
    run, said = new_run(store), list[str]()

    def work(session: Session) -> None:
        @event.listens_for(session.connection(), "after_cursor_execute")
        def hear(connection: Connection, cursor: object, *left: object) -> None:
            said.append(str(getattr(cursor, "statusmessage", "")))

        add(session, PoolRow, odd_rows(run, 0)[1][1])
        add(session, PoolRow, odd_rows(run, 1000, COPY_FROM - 1)[1][1])

    store.write(None, work)
    assert said == [f"COPY {MANY}", "INSERT 0 1"]


def judgements(run: str, rollouts: list[str]) -> list[Row]:
    empty = dict.fromkeys(JudgementRow.__table__.columns.keys())
    return [{**empty, "run_id": run, "rollout_id": name} for name in rollouts]


@pytest.mark.parametrize("count", [2, MANY])
def test_a_key_that_is_taken_is_a_conflict_however_many_rows_there_are(
    store: Store, count: int
) -> None:
    run = tell(store)
    before = verify(store)
    with store.reading() as session:
        taken = session.scalars(select(JudgementRow.rollout_id).order_by("rollout_id")).first()
    names = [f"new{n}" for n in range(count - 1)] + [str(taken)]
    with pytest.raises(Conflict, match=r"duplicate key|UNIQUE|foreign key|FOREIGN KEY"):
        store.write(None, lambda s: add(s, JudgementRow, judgements(run, names)))
    assert verify(store) == before


@pytest.mark.parametrize("count", [2, MANY])
def test_a_missing_value_and_a_row_without_its_parent_are_refused_however_many_there_are(
    store: Store, count: int
) -> None:
    run = new_run(store)
    names = [f"nobody{n}" for n in range(count)]
    with pytest.raises(Conflict, match=r"foreign key|FOREIGN KEY"):
        store.write(None, lambda s: add(s, JudgementRow, judgements(run, names)))
    pool = odd_rows(run, 0, count)[1][1]
    pool[-1]["right"] = None
    with pytest.raises(Conflict, match=r"null value|NOT NULL"):
        store.write(None, lambda s: add(s, PoolRow, pool))


@pytest.mark.parametrize("count", [2, MANY])
def test_a_failure_among_many_rows_leaves_the_session_to_be_rolled_back(
    store: Store, count: int
) -> None:
    run = new_run(store)
    pool = odd_rows(run, 0, count)[1][1]
    with store.writing(None) as session:
        with pytest.raises(IntegrityError):
            add(session, PoolRow, [*pool, pool[0]])
        session.rollback()
    with store.reading() as session:
        assert session.execute(text("SELECT count(*) FROM pool")).scalar_one() == 0


@pytest.mark.postgres
@pytest.mark.parametrize("url", ["postgres"], indirect=True)  # SQLite keeps NUL in its texts
@pytest.mark.parametrize("count", [2, MANY])
def test_text_that_postgresql_cannot_keep_is_refused_and_never_cut(
    store: Store, count: int
) -> None:
    run = new_run(store)
    pool = odd_rows(run, 0, count)[1][1]
    pool[-1]["slice"] = "a\x00b"
    with pytest.raises(DBAPIError, match=r"NUL|0x00"):
        store.write(None, lambda s: add(s, PoolRow, pool))
