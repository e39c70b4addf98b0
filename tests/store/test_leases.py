from __future__ import annotations

import multiprocessing
import threading

import pytest
from store_story import SEEDS, new_run, tell

from pipeline.faults import armed
from store.database import Lease, Store
from store.errors import LostLease, Owned, Unknown
from store.invariants import verify
from store.leases import acquire_lease, release_lease, renew_lease
from store.ledger import record_seed_tasks, seed_tasks
from store.questions import runs


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it."""


def kill() -> None:
    raise Killed


def own(url: str, run: str) -> None:
    acquire_lease(Store.open(url), run, "child", 600)


def test_the_first_owner_gets_epoch_one_and_a_living_owner_is_named(store: Store) -> None:
    run = new_run(store)
    assert acquire_lease(store, run, "first", 600) == Lease(run, "first", 1)
    with pytest.raises(Owned, match=r"belongs to first \(process \d+ on"):
        acquire_lease(store, run, "second", 600)


def test_asking_again_under_the_same_name_gives_the_same_lease(store: Store) -> None:
    run = new_run(store)
    assert acquire_lease(store, run, "a", 600) == acquire_lease(store, run, "a", 600)


def test_a_released_lease_goes_to_the_next_owner_with_a_higher_epoch(store: Store) -> None:
    run = new_run(store)
    release_lease(store, acquire_lease(store, run, "a", 600))
    assert acquire_lease(store, run, "b", 600).epoch == 2


def test_an_expired_lease_is_taken_over_and_its_owner_changes_nothing_more(store: Store) -> None:
    run = new_run(store)
    frozen = acquire_lease(store, run, "frozen", 0)
    acquire_lease(store, run, "next", 600)
    with pytest.raises(LostLease, match=r"frozen held epoch 1.*next \(epoch 2\)"):
        record_seed_tasks(store, frozen, SEEDS)
    with pytest.raises(LostLease):
        renew_lease(store, frozen, 600)
    release_lease(store, frozen)
    assert seed_tasks(store, run) == []
    assert runs(store)[0]["owner"] == "next"
    assert runs(store)[0]["reason"] == "frozen ended without a word; next took over"


def test_a_renewed_lease_is_not_taken_over(store: Store) -> None:
    run = new_run(store)
    lease = acquire_lease(store, run, "a", 0)
    renew_lease(store, lease, 600)
    with pytest.raises(Owned):
        acquire_lease(store, run, "b", 600)


def test_the_lease_of_a_dead_process_of_this_host_is_taken_over_at_once(
    store: Store, url: str
) -> None:
    run = new_run(store)
    child = multiprocessing.get_context("spawn").Process(target=own, args=(url, run))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert acquire_lease(store, run, "parent", 600).epoch == 2


def test_of_many_starters_one_wins(store: Store) -> None:
    for race in range(10):
        run = new_run(store, f"race{race}")
        won: list[Lease] = []
        refused: list[str] = []

        def start(number: int, run: str = run, won: list[Lease] = won, no: list[str] = refused):  # type: ignore[no-untyped-def]
            try:
                won.append(acquire_lease(store, run, f"starter-{number}", 600))
            except Owned as error:
                no.append(str(error))

        threads = [threading.Thread(target=start, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert len(refused) == 3
        assert all(won[0].owner in text for text in refused)


@pytest.mark.parametrize("point", ["lease.before_commit", "lease.after_commit", "lease.takeover"])
def test_a_starter_killed_while_taking_a_lease_blocks_nobody(store: Store, point: str) -> None:
    run = new_run(store)
    acquire_lease(store, run, "gone", 0)
    with pytest.raises(Killed), armed(point, kill):
        acquire_lease(store, run, "killed", 0)
    assert acquire_lease(store, run, "next", 600).owner == "next"
    assert verify(store, run)["violations"] == []


def test_a_late_renewal_is_refused(store: Store) -> None:
    run = new_run(store)
    lease = acquire_lease(store, run, "slow", 0)

    def overtake() -> None:
        acquire_lease(store, run, "fast", 600)

    with armed("lease.renew_late", overtake), pytest.raises(LostLease, match="fast"):
        renew_lease(store, lease, 600)


def test_owning_a_finished_run_leaves_it_done(store: Store) -> None:
    run = tell(store)
    acquire_lease(store, run, "reader", 600)
    assert runs(store)[0]["status"] == "done"


def test_a_run_that_is_not_there_cannot_be_owned(store: Store) -> None:
    with pytest.raises(Unknown, match="no run 'nothing'"):
        acquire_lease(store, "nothing", "a", 600)
