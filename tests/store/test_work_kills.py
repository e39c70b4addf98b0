"""A worker or an asker killed at any point costs at most the item in its hands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from store_story import new_run

from pipeline.faults import armed
from pipeline.items import Item, WeightsFile
from store.database import Lease, Store
from store.invariants import verify
from store.leases import acquire_lease
from store.work import answers, claim, finish, give_back, put, tally
from tests.study_queue_kills import study

WEIGHTS = WeightsFile("w", "5" * 64, "solver@1")
ITEMS = [Item(name, WEIGHTS, "score", 2, name.encode()) for name in ("i", "j", "k")]


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it."""


def kill() -> None:
    raise Killed


def begin(store: Store) -> Lease:
    return acquire_lease(store, new_run(store), "asker", 600)


def answer_one(store: Store) -> bool:
    """One turn of a worker whose lease is over as soon as it has it."""
    one = claim(store, "w", -1.0)
    return one is not None and finish(store, one, one.item.ask, one.item.weights.sha256)


def answer_all(store: Store) -> None:
    while answer_one(store):
        pass


@pytest.mark.parametrize("point", ["work.put", "work.put_after"])
def test_an_asker_killed_while_it_puts_items_out_puts_them_out_again(
    store: Store, point: str
) -> None:
    lease = begin(store)
    with pytest.raises(Killed), armed(point, kill):
        put(store, lease, ITEMS)
    put(store, lease, ITEMS)
    assert tally(store, "runa").open == 3
    answer_all(store)
    assert answers(store, "runa", ["i", "j", "k"]) == {"i": b"i", "j": b"j", "k": b"k"}


@pytest.mark.parametrize(
    ("point", "redone"),
    [
        ("work.claimed", 0),  # rolled back: nobody ever claimed it
        ("work.claimed_after", 1),
        ("work.finished", 1),  # rolled back: its answer is worked out again
        ("work.finished_after", 0),
    ],
)
def test_a_worker_killed_at_any_point_costs_at_most_its_own_item(
    store: Store, point: str, redone: int
) -> None:
    put(store, begin(store), ITEMS)
    with pytest.raises(Killed), armed(point, kill):
        answer_one(store)
    answer_all(store)
    assert answers(store, "runa", ["i", "j", "k"]) == {"i": b"i", "j": b"j", "k": b"k"}
    told = tally(store, "runa")
    assert (told.done, told.redone, told.late) == (3, redone, 0)
    assert verify(store)["violations"] == []


def test_a_refusal_that_was_not_committed_changes_nothing(store: Store) -> None:
    put(store, begin(store), ITEMS[:1])
    one = claim(store, "w", 60)
    assert one is not None

    def give() -> None:
        give_back(store, one, "odd")

    def answer_with_others() -> None:
        finish(store, one, b"", "f" * 64)

    acts: dict[str, Callable[[], None]] = {
        "work.given_back": give,
        "work.refused": answer_with_others,
    }
    for point, act in acts.items():
        with pytest.raises(Killed), armed(point, kill):
            act()
        told = tally(store, "runa")
        assert (told.claimed, told.foreign, told.redone) == (1, 0, 0)
    assert finish(store, one, b"i", WEIGHTS.sha256)


def test_of_workers_killed_with_signal_9_no_item_is_lost_and_none_answered_twice(
    url: str, tmp_path: Path
) -> None:
    told = study(url, tmp_path, kills=12)
    assert told.sound(), told
    assert told.at_points >= 1
    assert told.items >= 20
