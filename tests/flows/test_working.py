"""Runs whose calls workers answer, over the script: any number of hands, the same chain."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import select

from flows import working
from flows.errors import Refusal
from flows.hands import Hands, Job, Made
from flows.live import Live
from flows.looks.attack import parts_of
from flows.looks.versions import find_version, stand_at
from flows.progress import Quiet
from flows.stages import run_stages
from flows.working import Shift, Tally, Worker
from pipeline.config import RunConfig
from pipeline.faults import armed
from pipeline.files import shared
from pipeline.items import Item, ItemFailed
from store import invariants
from store import work as queue
from store.claims import ERRORS
from store.database import Store
from store.schema import WorkItemRow
from tests.flows.scripted import SMALL, Bench, Heard, Script, scripted_parts


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


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Every item of a queued run that was never stopped, and how often it was claimed."""
    bench = Bench(tmp_path_factory.mktemp("asked"), under())
    bench.go_on()
    return claims_of(bench)


@dataclass
class Crew:
    """Workers in threads of this process, each with a store and engines of its own.

    A with block, at whose end they are sent home; what they did is told then.
    """

    bench: Bench
    hands: Callable[[str], Hands] | None = None
    tallies: list[Tally] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *left: object) -> None:
        self.over.set()
        while any(thread.is_alive() for thread in self.threads):
            for worker in self.workers:
                worker.shift = Shift(seconds_idle=0.0)
            time.sleep(0.02)

    def hire(self, name: str, shift: Shift | None = None) -> threading.Thread:
        """Another worker, for a shift or until the block ends."""
        thread = threading.Thread(target=self._work, args=(name, shift or Shift()), daemon=True)
        self.threads.append(thread)
        thread.start()
        return thread

    def _work(self, name: str, shift: Shift) -> None:
        store = Store.open(self.bench.home.store)
        hands = self.hands(name) if self.hands else Hands(self.bench.home, name, Script)
        worker = Worker(store, name, shift, hands, lambda text: None)
        self.workers.append(worker)
        self.tallies.append(worker.work())
        hands.close()
        store.close()


def items_of(bench: Bench) -> list[WorkItemRow]:
    with bench.store.reading() as session:
        return list(session.scalars(select(WorkItemRow).where(WorkItemRow.run_id == bench.run)))


def claims_of(bench: Bench) -> dict[str, int]:
    return {item.id: item.number for item in items_of(bench)}


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
    with Crew(bench) as crew:
        for number in range(count):
            crew.hire(f"worker-{number}")
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

    def shifts(crew: Crew) -> None:
        number = 0
        while not crew.over.is_set():  # each leaves in mid-round, and for a moment there is none
            crew.hire(f"worker-{number}", Shift(items=7)).join()
            number += 1

    with Crew(bench) as crew:
        thread = threading.Thread(target=shifts, args=(crew,), daemon=True)
        thread.start()
        bench.go_on()
    thread.join()
    assert bench.chain() == whole
    assert sum(tally.items == 7 for tally in crew.tallies) >= 4


@pytest.mark.parametrize("point", ["roll.row", "eval.row", "gen.item_row", "ck.tmpdir"])
def test_what_was_answered_before_a_stop_is_not_worked_out_again(
    whole: list[str], asked: dict[str, int], tmp_path: Path, point: str
) -> None:
    bench = Bench(tmp_path, under())

    def pull() -> None:
        raise Pulled

    with armed(point, pull), pytest.raises(Pulled):
        bench.go_on()
    assert any(item.state == "done" for item in items_of(bench))
    bench.go_on()
    assert bench.chain() == whole
    assert claims_of(bench) == asked
    assert broken(bench) == []
    assert left_over(bench) == []


def test_who_looks_at_a_queued_run_asks_engines_of_its_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path, under())
    bench.go_on()
    before = claims_of(bench)
    stored = find_version(bench.store, f"{bench.run}@1")
    for parts in (
        parts_of(bench.home, bench.run, scripted_parts),
        stand_at(bench.store, bench.home, stored, scripted_parts, Quiet()),
    ):
        [group] = parts.solver.attempt(parts.seeds[:1], [[1, 2]], ["g"])
        assert len(group.rollouts) == 2
    assert claims_of(bench) == before


ASKING = ("put", "put_after", "claimed", "claimed_after", "finished", "finished_after")


@pytest.mark.parametrize("point", [f"work.{name}" for name in ASKING])
def test_a_run_stopped_at_any_point_of_its_queue_does_at_most_the_item_at_hand_again(
    whole: list[str], asked: dict[str, int], tmp_path: Path, point: str
) -> None:
    bench, passed = Bench(tmp_path, under(lease=600.0)), iter(range(100))

    def pull() -> None:
        if next(passed) == 12:
            raise Pulled

    with armed(point, pull), pytest.raises(Pulled):
        bench.go_on()
    bench.go_on()
    assert bench.chain() == whole
    assert broken(bench) == []
    claims = claims_of(bench)
    in_hand = ("work.claimed_after", "work.finished")
    assert claims.keys() == asked.keys()
    assert sum(claims.values()) - sum(asked.values()) == (point in in_hand)


class Slow(Hands):
    """Hands that are frozen over what they have done until they are let go."""

    def __init__(self, bench: Bench, name: str) -> None:
        super().__init__(bench.home, name, Script)
        self.taken, self.woken = threading.Event(), threading.Event()

    def answer(self, job: Job, item: Item) -> Made:
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
    slow = Slow(bench, "frozen")

    def later(crew: Crew) -> None:
        if slow.taken.wait(60):
            crew.hire("awake")

    with Crew(bench) as awake, Crew(bench, lambda name: slow) as frozen:
        frozen.hire("frozen", Shift(items=1))
        threading.Thread(target=later, args=(awake,), daemon=True).start()
        bench.go_on()
        slow.woken.set()
    assert bench.chain() == whole
    [tally] = frozen.tallies
    assert (tally.lost, tally.items) == (1, 0)
    assert queue.tally(bench.store, bench.run).late >= 1
    assert broken(bench) == []


class Spoiled(Hands):
    """Hands that find the weights damaged."""

    def answer(self, job: Job, item: Item) -> Made:
        file = self._home.root / item.weights.name
        file.write_bytes(file.read_bytes()[:-1] + b"\x55")
        return super().answer(job, item)


def test_workers_whose_weights_do_not_verify_give_the_item_back_and_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working, "PAUSE", 0.01)
    monkeypatch.setattr(shared, "WAITS", (0.0,))
    bench = Bench(tmp_path, under(helps=False))
    said, refusals = list[str](), list[str]()

    def unfit() -> None:
        """One worker after another, until one finds nothing more to take."""
        store, ended = Store.open(bench.home.store), False
        while not ended:
            hands = Spoiled(bench.home, "unfit", Script)
            worker = Worker(store, f"w{len(said)}", Shift(seconds_idle=1.0), hands, said.append)
            try:
                ended = bool(worker.work())
            except Refusal as error:
                refusals.append(error.what)
        store.close()

    thread = threading.Thread(target=unfit, daemon=True)

    def spoil(live: Live) -> None:
        thread.start()
        run_stages(live)

    with pytest.raises(ItemFailed, match="BadShared"):
        bench.go_on(work=spoil)
    thread.join(60)
    assert refusals[0].startswith("2 items in a row could not be worked out here")
    assert "SHA-256" in refusals[0]
    assert sum("given back" in line for line in said) >= ERRORS


def test_a_run_says_that_it_waits_for_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.engine.queued.PATIENCE", 0.05)
    bench, heard = Bench(tmp_path, under(helps=False)), Heard()

    def come(crew: Crew) -> None:
        while not heard.said:
            time.sleep(0.01)
        crew.hire("late")

    with Crew(bench) as crew:
        threading.Thread(target=come, args=(crew,), daemon=True).start()
        bench.go_on(progress=heard)
    assert heard.said[0].startswith("waiting for workers")
