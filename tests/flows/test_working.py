"""Runs whose calls workers answer, over the script: any number of hands, the same chain."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import select

from flows import working
from flows.errors import Refusal
from flows.hands import Hands, Job
from flows.live import Live
from flows.stages import run_stages
from flows.working import Shift, Tally, Worker
from pipeline.config import RunConfig
from pipeline.faults import armed
from pipeline.items import Item, ItemFailed
from store import invariants
from store import work as queue
from store.database import Store
from store.schema import WorkItemRow
from tests.flows.scripted import SMALL, Bench, Heard, Script


class Pulled(RuntimeError):
    """What a test pulls out from under a run."""


def under(**work: object) -> RunConfig:
    """A run of one round, its calls cut in two groups each and queued."""
    own = {"rounds": 1, "work": {"queue": True, "shard": 2, "lease": 5.0, **work}}
    return RunConfig.model_validate({**SMALL.model_dump(), **own})


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The chain of a run that asks its engines shard by shard, in its own process."""
    bench = Bench(tmp_path_factory.mktemp("sharded"), under(queue=False))
    bench.go_on()
    return bench.chain()


@dataclass
class Crew:
    """Workers in threads of this process, each with a store and engines of its own."""

    bench: Bench
    tallies: list[Tally] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    hands: Callable[[str], Hands] | None = None

    def hire(self, name: str, shift: Shift) -> threading.Thread:
        """Another worker, for a shift."""
        thread = threading.Thread(target=self._work, args=(name, shift), daemon=True)
        self.threads.append(thread)
        thread.start()
        return thread

    def _work(self, name: str, shift: Shift) -> None:
        store = Store.open(self.bench.home.store)
        hands = self.hands(name) if self.hands else Hands(self.bench.home, name, Script)
        self.tallies.append(Worker(store, name, shift, hands, lambda text: None).work())
        hands.close()
        store.close()


@contextmanager
def crew_of(bench: Bench, count: int) -> Iterator[Crew]:
    """So many workers for the length of a block, and what they did at its end."""
    crew = Crew(bench)
    for number in range(count):
        crew.hire(f"worker-{number}", Shift(seconds_idle=1.5))
    yield crew
    for thread in crew.threads:
        thread.join()


def items_of(bench: Bench) -> list[WorkItemRow]:
    with bench.store.reading() as session:
        return list(session.scalars(select(WorkItemRow).where(WorkItemRow.run_id == bench.run)))


def broken(bench: Bench) -> object:
    return invariants.verify(bench.store, None, bench.home.root)["violations"]


def left_over(bench: Bench) -> list[Path]:
    """Files of weights, published or on their way."""
    folders = (bench.home.root / "weights", bench.home.root / "scratch")
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(("count", "helps"), [(0, True), (1, False), (2, False), (4, True)])
def test_any_number_of_workers_gives_the_chain_of_none(
    whole: list[str], tmp_path: Path, count: int, helps: bool
) -> None:
    bench = Bench(tmp_path, under(helps=helps))
    with crew_of(bench, count) as crew:
        bench.go_on()
    assert bench.chain() == whole
    assert broken(bench) == []
    items = items_of(bench)
    assert {item.redone for item in items} == {0}
    done = sum(tally.items for tally in crew.tallies)
    asked = sum(item.number for item in items)  # the same call again, steps later, is asked again
    assert done == asked if not helps else done <= asked
    assert {item.state for item in items} == {"dropped"}
    assert left_over(bench) == []


def test_a_run_without_workers_waits_and_goes_on_when_some_come(
    whole: list[str], tmp_path: Path
) -> None:
    bench = Bench(tmp_path, under(helps=False))
    crew = Crew(bench)

    def shifts() -> None:
        for number in range(9):  # each leaves in mid-round, and for a moment there is none
            crew.hire(f"worker-{number}", Shift(items=7, seconds_idle=1.0)).join()

    thread = threading.Thread(target=shifts, daemon=True)
    thread.start()
    bench.go_on()
    assert bench.chain() == whole
    assert sum(tally.ended == "the shift is over" for tally in crew.tallies) >= 4
    thread.join()


@pytest.mark.parametrize("point", ["roll.row", "eval.row", "gen.item_row", "ck.tmpdir"])
def test_what_was_answered_before_a_stop_is_not_worked_out_again(
    whole: list[str], tmp_path: Path, point: str
) -> None:
    bench = Bench(tmp_path, under())

    def pull() -> None:
        raise Pulled

    with armed(point, pull), pytest.raises(Pulled):
        bench.go_on()
    before = {item.id for item in items_of(bench)}
    assert before
    bench.go_on()
    assert bench.chain() == whole
    assert {item.redone for item in items_of(bench)} == {0}
    assert broken(bench) == []
    assert left_over(bench) == []


class Slow(Hands):
    """Hands that are frozen over what they have done until they are let go."""

    def __init__(self, bench: Bench, name: str) -> None:
        super().__init__(bench.home, name, Script)
        self.taken, self.woken = threading.Event(), threading.Event()

    def answer(self, job: Job, item: Item) -> bytes:
        made = super().answer(job, item)
        self.taken.set()
        self.woken.wait(30)
        return made


def test_a_worker_that_wakes_after_its_lease_changes_nothing(
    whole: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, under(helps=False, lease=0.5))
    monkeypatch.setattr(Worker, "_renew", lambda *_: True)  # frozen, it renews nothing
    monkeypatch.setattr(working, "FIRST_LEASE", 0.5)
    frozen = Crew(bench)
    slow = Slow(bench, "frozen")
    frozen.hands = lambda name: slow
    thread = frozen.hire("frozen", Shift(items=1, seconds_idle=2.0))
    second = Crew(bench)

    def later() -> None:
        assert slow.taken.wait(30)
        second.hire("awake", Shift(seconds_idle=2.0))

    threading.Thread(target=later, daemon=True).start()
    bench.go_on()
    slow.woken.set()
    thread.join()
    assert bench.chain() == whole
    [tally] = frozen.tallies
    assert (tally.lost, tally.items) == (1, 0)
    told = queue.tally(bench.store, bench.run)
    assert (told.late, told.redone) == (1, 1)
    assert broken(bench) == []
    for one in second.threads:
        one.join()


def test_a_worker_whose_weights_do_not_verify_gives_its_item_back_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: threading.Event().wait(min(seconds, 0.05)))
    bench = Bench(tmp_path, under(helps=False))
    said: list[str] = []

    def spoil(live: Live) -> None:
        store = Store.open(bench.home.store)
        hands = Hands(bench.home, "unfit", Script)
        worker = Worker(store, "unfit", Shift(), hands, said.append)
        thread = threading.Thread(target=refused, args=(worker,), daemon=True)
        thread.start()
        with damaged(bench):
            run_stages(live)

    with pytest.raises(ItemFailed, match="BadShared"):
        bench.go_on(work=spoil)
    [line] = [line for line in said if "given back" in line][:1]
    assert "SHA-256" in line


def refused(worker: Worker) -> None:
    with pytest.raises(Refusal, match="3 items in a row"):
        worker.work()


@contextmanager
def damaged(bench: Bench) -> Iterator[None]:
    """Every file of weights is damaged as soon as it is there."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.001):
            for file in (bench.home.root / "weights").rglob("*.safetensors"):
                data = file.read_bytes()
                if data and data[-1] != 0x55:
                    file.write_bytes(data[:-1] + b"\x55")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_run_says_that_it_waits_for_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.engine.queued.PATIENCE", 0.05)
    bench = Bench(tmp_path, under(helps=False))
    heard, crew = Heard(), Crew(bench)

    def come() -> None:
        while not heard.said:
            time.sleep(0.01)
        crew.hire("late", Shift(seconds_idle=2.0))

    threading.Thread(target=come, daemon=True).start()
    bench.go_on(progress=heard)
    assert heard.said[0].startswith("waiting for workers")
    for thread in crew.threads:
        thread.join()
