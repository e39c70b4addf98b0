"""One worker and the items it is handed: what it reads, gives back, and never keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flows import working
from flows.errors import Refusal
from flows.hands import Hands, Job
from flows.working import Shift, Worker
from pipeline.config import RunConfig
from pipeline.items import Item, WeightsFile
from pipeline.shared import BadShared
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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits after a fault."""
    monkeypatch.setattr(working, "PAUSE", 0.0)


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


class Fragile(Told):
    """Hands whose engines fail as soon as they have answered once, until they are put down."""

    def answer(self, job: Job, item: Item) -> bytes:
        if self.jobs:
            raise RuntimeError("the engine's process ended")
        return super().answer(job, item)

    def close(self) -> None:
        self.jobs.clear()


def test_an_engine_that_failed_is_put_down_and_made_anew(desk: Desk, quick: None) -> None:
    desk.put("first", "second")
    worker = desk.worker(Fragile(desk.bench))
    told = worker.work()
    assert (told.items, told.faults) == (2, 1)
    assert "given back: RuntimeError: the engine's process ended" in desk.said[1]


def test_hands_that_were_put_down_make_their_engines_anew(desk: Desk) -> None:
    made: list[Script] = []

    def make(config: RunConfig) -> Script:
        made.append(Script(config))
        return made[-1]

    hands = Hands(desk.bench.home, "hands", make)
    job = Job(under(), 1)
    for times in (1, 1, 2):
        if times == 2:
            hands.close()
        with pytest.raises(BadShared):
            hands.answer(job, Item("i", WEIGHTS, "score", 1, b""))
        assert len(made) == times


class Broken(Told):
    """Hands that can do nothing."""

    def answer(self, job: Job, item: Item) -> bytes:
        raise RuntimeError("no such device")


def test_a_broken_worker_ends_before_it_has_failed_an_item_alone(desk: Desk, quick: None) -> None:
    desk.put("i")
    with pytest.raises(Refusal, match=r"2 items in a row .* no such device"):
        desk.worker(Broken(desk.bench)).work()
    assert desk.tally().failed == 0
    assert desk.worker(Told(desk.bench), "fit").work().items == 1
