"""What the process that owns a run holds of its own items, and what is left of it after a kill."""

from __future__ import annotations

from store_story import new_run

from pipeline.items import Item, WeightsFile
from store.database import Store, parse_url
from store.invariants import verify
from store.leases import acquire_lease, release_lease
from store.postgres import postgres_engine
from store.waiting import Patience
from store.work import RunQueue, claim, finish, owner_name, renew

WEIGHTS = WeightsFile("w", "5" * 64, "solver@1")
ITEMS = [Item(name, WEIGHTS, "score", 2, name.encode()) for name in ("i", "j", "k")]
NAMES = [item.id for item in ITEMS]


def queue_of(store: Store, run: str, owner: str) -> RunQueue:
    lease = acquire_lease(store, run, owner, 600)
    return RunQueue(store, lease, owner_name(lease))


def test_what_a_killed_owner_held_is_open_to_the_next_at_once_and_closed_to_it(
    store: Store,
) -> None:
    first = queue_of(store, new_run(store), "first")
    first.put(ITEMS)
    mine, other = first.take(["i"]), claim(store, "worker", 60.0)
    assert mine is not None
    assert other is not None
    release_lease(store, first.lease)
    second = queue_of(store, "runa", "second")
    second.put(ITEMS)
    taken = [second.take(NAMES) for _ in range(3)]
    assert [one.item.id if one else None for one in taken] == ["k", "i", None]
    assert not finish(store, mine, b"late", WEIGHTS.sha256)
    assert finish(store, other, b"told", WEIGHTS.sha256)
    assert verify(store)["violations"] == []


def test_an_owner_keeps_what_it_holds_when_it_puts_out_more(store: Store) -> None:
    queue = queue_of(store, new_run(store), "owner")
    queue.put(ITEMS[:1])
    mine = queue.take(["i"])
    queue.put(ITEMS)
    assert mine is not None
    assert queue.renew(mine)
    assert queue.finish(mine, b"told", WEIGHTS.sha256)
    assert queue.answers(NAMES) == {"i": b"told"}


def test_an_owner_with_a_name_like_another_runs_takes_nothing_of_it(store: Store) -> None:
    one, other = (queue_of(store, new_run(store, name), name) for name in ("_", "b"))
    one.put(ITEMS)
    other.put(ITEMS)
    held = one.take(NAMES)
    release_lease(store, other.lease)
    queue_of(store, "runb", "next").put(ITEMS)
    assert held is not None
    assert one.renew(held)


def test_a_claim_is_not_lost_because_the_store_cannot_be_reached(store: Store) -> None:
    queue = queue_of(store, new_run(store), "owner")
    queue.put(ITEMS)
    mine = queue.take(["i"])
    assert mine is not None
    soon = Patience(0.1)
    away = Store(postgres_engine(parse_url("postgresql://me@127.0.0.1:1/x"), soon), soon)
    assert renew(away, mine, 60.0)
    assert RunQueue(away, queue.lease, "owner").renew(mine)
    assert queue.finish(mine, b"told", WEIGHTS.sha256)
    assert not queue.renew(mine)
