"""Comparisons of engines, through the store and back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import create_engine, inspect
from store_story import new_run
from work_story import PAST, claimed, item, owned, violations

from pipeline.parity import Figures, Limits, Parity
from store import questions
from store.database import Store, migrate, parse_url
from store.errors import LostLease
from store.leases import acquire_lease
from store.parities import parities, record_parities
from store.work import put

FIRST = Parity(
    "vllm", "solver", "solver@0", 0, Figures(96, 2e-6, 1e-7, 3e-13), Limits(1e-4, 0.05), True
)
SCORED = replace(FIRST, line="proxy", version="proxy@0", figures=Figures(90, 1e-6, 1e-7, None))
REFUSED = replace(
    FIRST, version="solver@1", step=1, figures=Figures(96, 0.25, 0.01, 0.4), accepted=False
)


def test_comparisons_come_back_in_order_with_figures_and_limits(store: Store) -> None:
    run = new_run(store)
    lease = acquire_lease(store, run, "teller", 600)
    record_parities(store, lease, [FIRST, SCORED])
    record_parities(store, lease, [])
    record_parities(store, lease, [REFUSED])
    first, scored, refused = parities(store, run)
    assert {k: v for k, v in first.items() if k != "at"} == {
        "worker": "", "position": 1, "engine": "vllm", "line": "solver", "version": "solver@0",
        "step": 0,
        "tokens": 96, "max_difference": 2e-6, "mean_difference": 1e-7, "mismatch_kl": 3e-13,
        "difference_limit": 1e-4, "kl_limit": 0.05, "accepted": True,
    }  # fmt: skip
    assert str(first["at"]).endswith("+00:00")
    assert (scored["position"], scored["line"], scored["mismatch_kl"]) == (2, "proxy", None)
    assert (refused["position"], refused["accepted"]) == (3, False)


class Lossy:
    """A store whose first commit of a write is there, though its answer was lost."""

    def __init__(self, store: Store) -> None:
        self.store, self.reading, self.patiently = store, store.reading, store.patiently

    def write(self, lease, work):
        self.store.write(lease, work)
        return self.store.write(lease, work)


def test_a_transaction_that_has_to_run_again_tells_nothing_twice(store: Store) -> None:
    run = new_run(store)
    lease = acquire_lease(store, run, "teller", 600)
    record_parities(Lossy(store), lease, [FIRST])  # type: ignore[arg-type]
    assert len(parities(store, run)) == 1


def test_a_run_that_lost_its_lease_tells_nothing(store: Store) -> None:
    run = new_run(store)
    old = acquire_lease(store, run, "teller", -1)
    acquire_lease(store, run, "other", 600)
    with pytest.raises(LostLease):
        record_parities(store, old, [FIRST])
    assert parities(store, run) == []


def test_what_workers_compared_is_told_by_their_claims_each_in_its_own_order(store: Store) -> None:
    lease = owned(store)
    put(store, lease, [item("i"), item("j"), item("k")])
    one, other, lost = claimed(store, "w1"), claimed(store, "w2"), claimed(store, "w3", PAST)
    record_parities(store, one, [FIRST])
    record_parities(store, other, [SCORED])
    record_parities(store, lease, [FIRST])
    record_parities(store, one, [REFUSED])
    assert claimed(store, "w4").item == lost.item
    record_parities(store, lost, [FIRST])
    rows = parities(store, "runa")
    assert [(row["worker"], row["position"], row["version"]) for row in rows] == [
        ("", 1, "solver@0"), ("w1", 1, "solver@0"), ("w1", 2, "solver@1"), ("w2", 1, "proxy@0"),
    ]  # fmt: skip
    assert violations(store) == []


def test_going_back_keeps_what_the_run_itself_compared(store: Store, url: str) -> None:
    lease = owned(store)
    put(store, lease, [item("i")])
    record_parities(store, lease, [FIRST, SCORED])
    record_parities(store, claimed(store, "w"), [FIRST])
    store.close()
    migrate(parse_url(url), "0006")
    migrate(parse_url(url))
    told = parities(store, "runa")
    assert [(row["worker"], row["version"]) for row in told] == [("", "solver@0"), ("", "proxy@0")]


def test_comparisons_are_in_no_digest(told: Store) -> None:
    [run] = [str(row["id"]) for row in questions.runs(told)]
    before = questions.rounds(told, run)
    lease = acquire_lease(told, run, "teller", 600)
    record_parities(told, lease, [FIRST])
    assert questions.rounds(told, run) == before


def test_a_store_from_before_gains_the_table_and_loses_it_going_back(url: str) -> None:
    address = parse_url(url)
    for target, there in (("0005", False), ("0006", True), ("0005", False)):
        migrate(address, target)
        engine = create_engine(address)
        assert ("parity" in inspect(engine).get_table_names()) == there
        engine.dispose()
