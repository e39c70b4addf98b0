"""Items, claims and answers in few words, for tests of the queue."""

from __future__ import annotations

from store_story import new_run

from pipeline.items import Claim, Item, WeightsFile
from store.database import Lease, Store
from store.invariants import verify
from store.leases import acquire_lease
from store.work import claim, finish, forget

OLD, NEW = (WeightsFile(f"{c}.safetensors", c * 64, f"solver@{n}") for n, c in enumerate("ab"))
PAST = -1.0  # seconds of a lease that has expired when it begins


def item(name: str, weights: WeightsFile = OLD, rows: int = 8) -> Item:
    return Item(name, weights, "sample", rows, f"ask {name}".encode())


def owned(store: Store, name: str = "a") -> Lease:
    return acquire_lease(store, new_run(store, name), f"owner-{name}", 600)


def claimed(store: Store, worker: str = "w", seconds: float = 60.0, **more: object) -> Claim:
    found = claim(store, worker, seconds, **more)  # type: ignore[arg-type]
    assert found is not None
    return found


def answer(store: Store, one: Claim, told: bytes = b"told") -> bool:
    return finish(store, one, told, one.item.weights.sha256)


def forgotten(store: Store, lease: Lease) -> None:
    """What a committed step does to the items of its run."""
    with store.writing(lease) as session:
        forget(session, lease.run)


def violations(store: Store) -> object:
    return verify(store)["violations"]
