"""A database's clock that jumps delays no item and takes none from who works on it."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text
from work_story import NEW, OLD, answer, claimed, item, owned, violations

from store.database import Store
from store.work import RunQueue, claim, heard, listed_workers, put, renew, tally

HOURS = 7200.0  # seconds that the clock goes back


def go_back(store: Store) -> None:
    """The clock goes back: every time that was written lies so much further ahead."""
    times = {"work_item": ("free", "claimed", "asked"), "worker": ("heard", "since")}
    with store.writing(None) as session:
        for table, names in times.items():
            told = ", ".join(f"{name} = {name} + {HOURS}" for name in names)
            session.execute(text(f"UPDATE {table} SET {told}"))


@pytest.mark.parametrize("among", [{}, {"run": "runa"}, {"held": [NEW.sha256]}, {"ids": "ijk"}])
def test_what_was_put_out_before_the_clock_went_back_is_claimed_at_once(
    store: Store, among: dict[str, object]
) -> None:
    put(store, owned(store), [item("i"), item("j", NEW), item("k")])
    go_back(store)
    assert {claimed(store, f"w{n}", **among).item.id for n in range(3)} == set("ijk")
    assert claim(store, "w", 60.0) is None


def test_the_owner_takes_its_own_items_after_the_clock_went_back(store: Store) -> None:
    queue = RunQueue(store, owned(store), "asker")
    queue.put([item("before")])
    go_back(store)
    queue.put([item("after")])
    taken = [queue.take(["before", "after"]) for _ in range(3)]
    assert [one.item.id if one else None for one in taken] == ["after", "before", None]


def test_what_a_lost_worker_held_when_the_clock_went_back_is_taken_by_another(
    store: Store,
) -> None:
    put(store, owned(store), [item("i")])
    lost = claimed(store, "lost")
    go_back(store)
    found = claimed(store, "other")
    assert (found.item.id, found.number) == ("i", 2)
    assert not answer(store, lost)
    assert claim(store, "third", 60.0) is None
    assert answer(store, found)
    assert violations(store) == []


def test_what_a_worker_renews_after_the_clock_went_back_stays_its_own(store: Store) -> None:
    put(store, owned(store), [item("i")])
    mine = claimed(store, "mine")
    go_back(store)
    assert renew(store, mine, 60.0)
    assert claim(store, "other", 60.0) is None
    assert answer(store, mine)
    assert 0.0 <= tally(store, "runa").worked < 60.0


def test_many_workers_share_such_items_out_without_a_doubled_claim(store: Store) -> None:
    names = [f"{n:02d}" for n in range(24)]
    put(store, owned(store), [item(name) for name in names])
    go_back(store)
    taken: list[str] = []

    def work(worker: str) -> None:
        while len(taken) < len(names):
            one = claim(store, worker, 60.0)
            taken.extend([one.item.id] if one else [])

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(taken) == names
    assert tally(store, "runa").redone == 0


def test_an_item_that_is_held_is_not_taken_while_the_clock_is_right(store: Store) -> None:
    put(store, owned(store), [item("i", OLD), item("j", NEW)])
    assert {claimed(store, f"w{n}").item.id for n in range(2)} == {"i", "j"}
    for among in ({}, {"run": "runa"}, {"held": [OLD.sha256]}, {"run": "runa", "ids": ["i"]}):
        assert claim(store, "other", 60.0, **among) is None  # type: ignore[arg-type]


def test_a_worker_heard_in_the_future_is_heard_anew(store: Store) -> None:
    heard(store, "w")
    go_back(store)
    assert claim(store, "w", 60.0) is None
    (row,) = listed_workers(store)
    assert 0.0 <= float(str(row["heard"])) < 60.0
