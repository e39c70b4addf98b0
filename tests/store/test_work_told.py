"""What the queue tells of itself, what `verify` notices of it, and how a claim is found."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from sqlalchemy import Executable, event, text
from store_story import tell
from work_story import OLD, PAST, answer, claimed, item, owned, violations

from store.database import Store, migrate, parse_url
from store.leases import acquire_lease
from store.taking import LOOK, LOOK_AT_RUN, taking
from store.work import claim, heard, listed_workers, put, tally


def test_a_tally_counts_every_item_once_and_says_how_long_it_waited(store: Store) -> None:
    lease = owned(store)
    put(store, lease, [item(f"{n}", rows=n) for n in range(4)])
    assert (tally(store, "runa").waited, tally(store, "runa").waited_99) == (None, None)
    time.sleep(0.05)
    first, second = claimed(store, "u"), claimed(store, "v", PAST)
    answer(store, first)
    answer(store, claimed(store, "u", ids=[second.item.id]))
    told = tally(store, "runa")
    assert (told.open, told.claimed, told.done, told.failed, told.dropped) == (2, 0, 2, 0, 0)
    assert (told.redone, told.rows, told.workers) == (1, 0 + 1, 1)
    assert told.waited is not None
    assert told.waited_99 is not None
    assert 0.04 <= told.waited <= told.waited_99 < 30
    assert told.worked >= 0.0


def test_workers_are_heard_when_they_ask_and_listed_the_newest_first(store: Store) -> None:
    assert listed_workers(store) == []
    put(store, owned(store), [item("i")])
    heard(store, "early")
    assert claimed(store, "busy").item.id == "i"
    assert claim(store, "idle", 60) is None
    assert len(listed_workers(store, 60)) == 3
    rows = {row["name"]: row for row in listed_workers(store)}
    assert {name: row["items"] for name, row in rows.items()} == {"early": 0, "busy": 1, "idle": 0}
    assert all(isinstance(row["pid"], int) and row["host"] for row in rows.values())
    json.dumps(list(rows.values()))
    with store.writing(None) as session:
        session.execute(text("UPDATE worker SET heard = heard - 100 WHERE name = 'early'"))
    assert {row["name"] for row in listed_workers(store, 60)} == {"busy", "idle"}
    heard(store, "early")
    assert listed_workers(store)[0]["name"] == "early"


def test_a_worker_that_asks_often_is_recorded_seldom(store: Store) -> None:
    heard(store, "w")
    (before,) = listed_workers(store)
    for _ in range(5):
        assert claim(store, "w", 60) is None
    (after,) = listed_workers(store)
    assert after["begun"] == pytest.approx(after["heard"])
    assert after["heard"] > before["heard"]  # type: ignore[operator]
    with store.writing(None) as session:
        session.execute(text("UPDATE worker SET heard = heard - 100"))
    assert claim(store, "w", 60) is None
    assert listed_workers(store, 60) != []


# what was changed behind the store's back, and the invariants that must notice
DAMAGE = {
    "UPDATE work_item SET number = 0 WHERE id = 'done'": {"I2"},
    "UPDATE work_item SET worker = NULL WHERE id = 'done'": {"I2"},
    "UPDATE work_item SET state = 'failed', answer = NULL WHERE id = 'done'": {"I8"},
    "UPDATE work_item SET epoch = 9 WHERE id = 'open'": {"I7"},
    "UPDATE work_item SET step = 0 WHERE id = 'open'": {"I13"},
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_queue_changed_behind_its_back_is_noticed(told: Store, damage: str) -> None:
    lease = acquire_lease(told, "runa", "damaged", 600)
    with told.writing(None) as session:
        session.execute(text("UPDATE run SET status = 'stopped'"))
        session.execute(text("UPDATE stop SET status = 'stopped'"))
    put(told, lease, [item("done"), item("open")])
    answer(told, claimed(told, run="runa"))
    assert violations(told) == []
    with told.writing(None) as session:
        session.execute(text(damage))
    found = violations(told)
    assert isinstance(found, list)
    assert {one["invariant"] for one in found if isinstance(one, dict)} == DAMAGE[damage]


def test_a_finished_run_with_an_open_item_is_noticed(told: Store) -> None:
    put(told, acquire_lease(told, "runa", "late", 600), [item("open")])
    found = violations(told)
    assert isinstance(found, list)
    assert [one["found"] for one in found if isinstance(one, dict)] == [
        "1 are open in a run that is done"
    ]


@pytest.mark.parametrize("of_weights", [False, True])
@pytest.mark.parametrize(
    "free", ["0", "1e12"]
)  # something waits; all is held, or the clock is back
def test_a_claim_reads_two_rows_of_an_index_however_many_there_are(
    store: Store, of_weights: bool, free: str
) -> None:
    lease = owned(store)
    put(store, lease, [item(f"{n:04d}") for n in range(3000)])
    with store.writing(None) as session:
        closed = "state = 'done', answer = ask, free = NULL, number = 1, worker = 'w', finished = 0"
        session.execute(text(f"UPDATE work_item SET {closed} WHERE id < '1900'"))
        held = f"state = 'claimed', number = 1, worker = 'w', claimed = 0, free = {free}"
        session.execute(text(f"UPDATE work_item SET {held} WHERE id >= '1900'"))
        if not store.sqlite:
            session.execute(text("ANALYZE work_item"))
    weights = {"of_weights": OLD.sha256} if of_weights else {}
    told = plan(store, taking(of_weights, False), of_run="runa", by="w", seconds=60.0, **weights)
    assert told.count("ix_work_item_run_id_") == 2, told
    assert not any(word in told for word in ("Seq Scan", "SCAN", "Sort", "TEMP B-TREE")), told
    for looked in (plan(store, LOOK, worker="w"), plan(store, LOOK_AT_RUN, worker="w", run="runa")):
        assert "ix_work_item_run_id_" in looked
        assert not any(word in looked for word in ("Seq Scan on work_item", "SCAN work_item"))


def plan(store: Store, statement: Executable, **named: object) -> str:
    """How the database goes about a statement of the queue's, which is taken back."""
    explain = "EXPLAIN QUERY PLAN" if store.sqlite else "EXPLAIN"
    with store.writing(None) as session:
        line, sent = session.connection(), list[tuple[str, Any]]()

        def send(connection, cursor, text, parameters, context, many) -> None:
            sent.append((text, parameters))

        event.listen(line, "before_cursor_execute", send)
        line.execute(statement, named)
        ((text, parameters),) = sent
        told = [str(row[-1]) for row in line.exec_driver_sql(f"{explain} {text}", parameters)]
        session.rollback()
        return "\n".join(told)


def test_a_store_from_before_the_queue_is_verified_and_given_one(url: str) -> None:
    store = Store.open(url)
    run = tell(store)
    store.close()
    migrate(parse_url(url), "0004")
    opened = Store.open(url)
    assert violations(opened) == []
    assert tally(opened, run).dropped == 0
    assert put(opened, acquire_lease(opened, run, "next", 600), [item("i")]) == 1
    opened.close()
