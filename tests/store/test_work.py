"""The queue of items: each is claimed by one, answered once, and lost by nobody."""

from __future__ import annotations

import random
import threading
from dataclasses import replace

import pytest
from store_story import Writer
from work_story import NEW, OLD, PAST, answer, claimed, forgotten, item, owned, violations

from pipeline.items import Claim, ItemFailed, Queue
from store.claims import CLAIMS, ERRORS
from store.database import Store
from store.errors import LostLease, Unknown
from store.leases import acquire_lease, release_lease
from store.ledger import finish as finish_run
from store.work import (
    RunQueue,
    answers,
    claim,
    finish,
    give_back,
    put,
    renew,
    tally,
)


def test_an_item_is_put_out_once_claimed_once_and_answered_once(store: Store) -> None:
    lease = owned(store)
    assert put(store, lease, [item("i"), item("j"), item("i")]) == 2
    assert put(store, lease, [item("i"), item("j"), item("k")]) == 1
    first = claimed(store)
    assert first == Claim("runa", item("i"), "w", 1)
    assert answers(store, "runa", ["i", "j"]) == {}
    assert answer(store, first, b"\x00 eight completions")
    assert answers(store, "runa", ["i", "j", "nowhere"]) == {"i": b"\x00 eight completions"}
    assert [claimed(store).item.id for _ in range(2)] == ["j", "k"]
    assert claim(store, "w", 60.0) is None
    assert put(store, lease, [item("i")]) == 0
    assert violations(store) == []


def test_items_are_claimed_in_the_order_in_which_they_were_put_out(store: Store) -> None:
    lease = owned(store)
    names = [f"{n:02d}" for n in range(20)]
    random.Random(0).shuffle(names)
    put(store, lease, [item(name) for name in names[:12]])
    put(store, lease, [item(name) for name in names[12:]])
    assert [claimed(store).item.id for _ in names] == names


def test_only_the_owner_of_a_run_puts_items_out_or_reads_what_came(store: Store) -> None:
    lease = owned(store)
    put(store, lease, [item("i")])
    release_lease(store, lease)
    acquire_lease(store, "runa", "next", 600)
    queue = RunQueue(store, lease, "old")
    for late in (
        lambda: put(store, lease, [item("j")]),
        lambda: queue.answers(["i"]),
    ):
        with pytest.raises(LostLease, match=r"next \(epoch 2\)"):
            late()
    assert tally(store, "runa").open == 1


def test_an_expired_lease_hands_the_item_on_and_the_older_claim_changes_nothing(
    store: Store,
) -> None:
    put(store, owned(store), [item("i")])
    frozen = claimed(store, "frozen", PAST)
    second = claimed(store, "second")
    assert (second.item, second.number) == (frozen.item, 2)
    assert not answer(store, frozen, b"late")
    assert not renew(store, frozen, 60)
    give_back(store, frozen, "woken and confused")
    assert answer(store, second, b"in time")
    assert not answer(store, frozen, b"later still")
    assert answers(store, "runa", ["i"]) == {"i": b"in time"}
    told = tally(store, "runa")
    assert (told.late, told.foreign, told.redone, told.done) == (2, 0, 1, 1)
    assert violations(store) == []


def test_an_expired_claim_that_nobody_took_over_still_answers_and_renews(store: Store) -> None:
    put(store, owned(store), [item("i"), item("j")])
    slow = claimed(store, "slow", PAST)
    assert renew(store, slow, 60)
    slower = claimed(store, "slower", PAST)
    assert slower.item.id == "j"
    assert answer(store, slower)
    assert claim(store, "other", 60) is None
    assert answer(store, slow)


def test_saying_an_answer_twice_is_no_fault_and_another_answer_is_refused(store: Store) -> None:
    lease = owned(store)
    put(store, lease, [item("i")])
    one = claimed(store)
    assert answer(store, one, b"told")
    assert answer(store, one, b"told")
    assert not answer(store, one, b"otherwise")
    forgotten(store, lease)
    assert answer(store, one, b"told")
    assert tally(store, "runa").late == 1


def test_an_answer_of_other_weights_is_refused_and_the_item_open_again(store: Store) -> None:
    put(store, owned(store), [item("i", NEW)])
    one = claimed(store)
    assert not finish(store, one, b"told", OLD.sha256)
    again = claimed(store, "other")
    assert again.number == 2
    assert not finish(store, one, b"told", OLD.sha256)  # neither newest nor its weights
    assert answer(store, again)
    assert (tally(store, "runa").foreign, tally(store, "runa").late) == (2, 0)


def test_an_item_is_given_up_after_its_last_error_and_says_why(store: Store) -> None:
    lease = owned(store)
    put(store, lease, [item("i")])
    for number in range(ERRORS):
        assert answers(store, "runa", ["i"]) == {}
        give_back(store, claimed(store), f"out of memory {number}\x00")
    assert claim(store, "w", 60) is None
    with pytest.raises(ItemFailed, match=r"given up after 3 errors; the last: out of memory 2"):
        answers(store, "runa", ["i"])
    assert put(store, lease, [item("i")]) == 0
    assert tally(store, "runa").failed == 1
    assert violations(store) == []


def test_the_next_owner_asks_again_for_what_was_given_up(store: Store) -> None:
    lease = owned(store)
    put(store, lease, [item("i")])
    old = list[Claim]()
    for _ in range(ERRORS):
        old.append(claimed(store))
        give_back(store, old[-1], "no such file")
    release_lease(store, lease)
    lease = acquire_lease(store, "runa", "next", 600)
    assert put(store, lease, [item("i")]) == 1
    assert answers(store, "runa", ["i"]) == {}
    again = claimed(store)
    assert again.number == ERRORS + 1
    assert not answer(store, old[-1])
    assert answer(store, again)
    assert tally(store, "runa").redone == ERRORS - 1


def test_an_item_that_ends_every_worker_is_given_up(store: Store) -> None:
    put(store, owned(store), [item("deadly"), item("good")])
    for number in range(CLAIMS):
        assert claimed(store, f"w{number}", PAST, ids=["deadly"]).item.id == "deadly"
    assert claimed(store).item.id == "good"
    assert claim(store, "w", 60) is None
    with pytest.raises(ItemFailed, match="10 claims ended without an answer"):
        answers(store, "runa", ["deadly", "good"])


def test_workers_that_end_in_peace_count_nothing_against_an_item(store: Store) -> None:
    put(store, owned(store), [item("i")])
    for _ in range(2 * CLAIMS):
        give_back(store, claimed(store), "")
    assert answer(store, claimed(store))
    told = tally(store, "runa")
    assert (told.redone, told.failed, told.done) == (0, 0, 1)


def test_weights_at_hand_come_first_and_others_when_none_are_left(store: Store) -> None:
    lease = owned(store)
    put(store, lease, [item("a0"), item("b0", NEW), item("a1"), item("b1", NEW)])
    taken = [claimed(store, held=[NEW.sha256]).item.id for _ in range(4)]
    assert taken == ["b0", "b1", "a0", "a1"]


def test_a_claim_can_be_bound_to_a_run_or_to_some_ids(store: Store) -> None:
    first, second = owned(store, "a"), owned(store, "b")
    put(store, first, [item("i"), item("j")])
    put(store, second, [item("i")])
    assert claimed(store, run="runb").run == "runb"
    assert claim(store, "w", 60, run="runb") is None
    many = [f"x{n}" for n in range(1200)]
    assert claim(store, "w", 60, run="runa", ids=[]) is None
    assert claim(store, "w", 60, run="runa", ids=many) is None
    assert claimed(store, run="runa", ids=[*many, "j"]).item.id == "j"


def test_unbound_workers_take_runs_that_are_worked_on_the_longest_waiting_first(
    store: Store,
) -> None:
    leases = [owned(store, name) for name in "abc"]
    for lease in leases:
        put(store, lease, [item("i"), item("j")])
    release_lease(store, leases[0])
    assert [claimed(store).run for _ in range(4)] == ["runb", "runb", "runc", "runc"]
    assert claim(store, "w", 60) is None
    acquire_lease(store, "runa", "back", 600)
    assert claimed(store).run == "runa"
    finish_run(store, acquire_lease(store, "runa", "back", 600), "stopped", "enough")
    assert claim(store, "w", 60) is None


def test_dropped_items_keep_their_rows_and_can_be_asked_again(store: Store) -> None:
    lease = owned(store)
    put(store, lease, [item("done"), item("open"), item("held")])
    answer(store, claimed(store), b"first")
    held = claimed(store, ids=["held"])
    forgotten(store, lease)
    assert claim(store, "w", 60) is None
    assert not answer(store, held)
    assert answers(store, "runa", ["done"]) == {}
    told = tally(store, "runa")
    assert (told.dropped, told.rows, told.late) == (3, 8, 1)
    assert put(store, lease, [item("done"), item("new")]) == 2
    assert [claimed(store).item for _ in range(2)] == [item("new"), item("done")]
    assert violations(store) == []


def test_a_run_queue_fills_the_port_of_the_asker(store: Store) -> None:
    lease = owned(store)
    queue: Queue = RunQueue(store, lease, "asker", 60.0)
    queue.put([item("i"), item("j")])
    one = queue.take(["j"])
    assert one is not None
    assert (one.item.id, one.worker) == ("j", "asker")
    assert not queue.finish(one, b"odd", NEW.sha256)
    one = queue.take(["j"])
    assert one is not None
    assert queue.finish(one, b"mine", OLD.sha256)
    assert answer(store, claimed(store, "far"), b"theirs")
    assert queue.take(["i", "j"]) is None
    assert queue.answers(["i", "j"]) == {"i": b"theirs", "j": b"mine"}


def test_a_committed_step_forgets_its_items_and_a_killed_one_keeps_them(store: Store) -> None:
    lease = owned(store)
    acts = Writer(store, lease).acts(range(2))
    for act in acts[:10]:  # round 0, and the proposals of round 1
        act()
    put(store, lease, [item("answered"), item("cut otherwise before a restart")])
    answer(store, claimed(store), b"kept")
    assert put(store, lease, [item("answered")]) == 0
    assert answers(store, "runa", ["answered"]) == {"answered": b"kept"}
    acts[10]()  # the first step
    told = tally(store, "runa")
    assert (told.open, told.done, told.dropped) == (0, 0, 2)
    put(store, lease, [item("for what closes the round")])
    for act in acts[11:]:
        act()
    assert tally(store, "runa").dropped == 3
    assert violations(store) == []


def test_nobody_answers_for_an_item_that_is_not_there(store: Store) -> None:
    put(store, owned(store), [item("i")])
    one = claimed(store)
    with pytest.raises(Unknown, match="has no item 'nowhere'"):
        answer(store, replace(one, item=item("nowhere")))


def test_many_workers_at_once_share_the_items_out_without_a_doubled_claim(store: Store) -> None:
    lease = owned(store)
    put(store, lease, [item(f"{n:03d}") for n in range(60)])
    taken: list[str] = []

    def work(name: str) -> None:
        while (one := claim(store, name, 60)) is not None:
            taken.append(one.item.id)
            assert answer(store, one, one.item.ask)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # a worker may see the last items locked by others and leave; what is left is the next one's
    work("last")
    assert sorted(taken) == [f"{n:03d}" for n in range(60)]
    found = answers(store, "runa", taken)
    assert found == {name: f"ask {name}".encode() for name in taken}
    told = tally(store, "runa")
    assert (told.done, told.redone, told.late) == (60, 0, 0)
