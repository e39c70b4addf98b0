"""One worker and the items it is handed: what it reads, gives back, and never keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flows.hands import Hands, Job
from flows.working import Shift, Worker
from pipeline.config import RunConfig
from pipeline.items import Item, WeightsFile
from store import work as queue
from store.database import Lease
from store.leases import acquire_lease
from store.places import record_place
from tests.flows.scripted import SMALL, Bench, Script

WEIGHTS = WeightsFile("w.safetensors", "5" * 64, "solver@1")


class Told(Hands):
    """Hands that answer everything alike, and remember for which jobs."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.home, "told", Script)
        self.jobs: list[Job] = []

    def answer(self, job: Job, item: Item) -> bytes:
        self.jobs.append(job)
        return b"told"


@dataclass
class Desk:
    """A run with items that nobody answers but the workers of a test."""

    bench: Bench
    lease: Lease = field(init=False)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lease = acquire_lease(self.bench.store, self.bench.run, "asker", 600.0)

    def put(self, *names: str) -> None:
        items = [Item(name, WEIGHTS, "score", 1, name.encode()) for name in names]
        queue.put(self.bench.store, self.lease, items)

    def worker(self, hands: Hands, name: str = "worker") -> Worker:
        """One that leaves when nothing is open."""
        shift = Shift(seconds_idle=0.0)
        return Worker(self.bench.store, name, shift, hands, self.said.append)

    def tally(self) -> queue.Tally:
        return queue.tally(self.bench.store, self.bench.run)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(Bench(tmp_path, under()))


def under(**work: object) -> RunConfig:
    own = {"work": {"queue": True, "helps": False, "lease": 5.0, **work}}
    return RunConfig.model_validate({**SMALL.model_dump(), **own})


def test_a_standing_worker_works_under_the_settings_that_hold_now(desk: Desk) -> None:
    hands = Told(desk.bench)
    worker = desk.worker(hands)
    desk.put("before")
    worker.work()
    moved = under(folder="/elsewhere", lease=7.0)
    record_place(desk.bench.store, desk.lease, moved.model_dump_json())
    desk.put("after")
    assert worker.work().items == 2
    assert [job.config.work.folder for job in hands.jobs] == ["", "/elsewhere"]
