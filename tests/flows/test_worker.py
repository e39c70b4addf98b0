"""One worker and the items it is handed: what it reads, gives back, and never keeps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import select

from flows import working
from flows.errors import Refusal
from flows.hands import Hands, Job, Made
from flows.owning import Interrupted
from flows.working import Shift, Worker
from pipeline.config import RunConfig
from pipeline.engine.messages import score_item
from pipeline.engine.parity import EngineMismatch
from pipeline.files.published import Published
from pipeline.files.shared import BadShared, SharedFolder
from pipeline.items import Item, WeightsFile
from pipeline.models.policy import merged_state
from pipeline.parity import Figures, Limits, Parity
from pipeline.ports import ScoreRequest, WeightedEngine
from store import work as queue
from store.database import Lease
from store.errors import Unreachable
from store.leases import acquire_lease
from store.parities import parities
from store.places import record_place
from store.schema import WorkItemRow
from tests.flows.scripted import SMALL, Bench, Script
from tests.tiny import tiny_model

WEIGHTS = WeightsFile("w.safetensors", "5" * 64, "solver@1")


class Told(Hands):
    """Hands that answer everything alike, and remember for which jobs."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.home, "told", Script)
        self.jobs: list[Job] = []

    def answer(self, job: Job, item: Item) -> Made:
        self.jobs.append(job)
        return Made(b"told", item.weights.sha256)


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


def items_of(bench: Bench) -> list[WorkItemRow]:
    with bench.store.reading() as session:
        return list(session.scalars(select(WorkItemRow)))


class Fragile(Told):
    """Hands whose engines fail as soon as they have answered once, until they are put down."""

    def answer(self, job: Job, item: Item) -> Made:
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


class Deaf(Script):
    """Makes engines that take no weights, and are honest about it."""

    def bare(self, line: str) -> WeightedEngine:
        speaker = super().bare(line)
        speaker.load = lambda state, version: None  # type: ignore[method-assign]
        return speaker


def test_answers_under_other_weights_are_refused_and_counted_and_end_their_worker(
    desk: Desk, quick: None
) -> None:
    shared = SharedFolder(str(desk.bench.home.root))
    weights = Published(shared, desk.bench.run, desk.bench.home.root / "scratch").put(
        merged_state(tiny_model(vocab=264)), "solver@1"
    )
    asked = score_item(weights, "score", [ScoreRequest((1, 2), ((),), (((3, 4),),))])
    queue.put(desk.bench.store, desk.lease, [asked])
    deaf = desk.worker(Hands(desk.bench.home, "deaf", Deaf), "deaf")
    with pytest.raises(Refusal, match="answered under other weights, solver@0"):
        deaf.work()
    assert (desk.tally().foreign, desk.tally().open) == (2, 1)
    able = desk.worker(Hands(desk.bench.home, "able", Script), "able")
    assert able.work().items == 1


class Comparing(Told):
    """Hands whose engine is compared with the local one before it answers."""

    def __init__(self, bench: Bench, accepted: bool) -> None:
        super().__init__(bench)
        found, limits = Figures(96, 0.25, 0.01, 0.4), Limits(1e-4, 0.05)
        self.found = [Parity("vllm", "solver", "solver@1", 1, found, limits, accepted)]

    def compared(self) -> list[Parity]:
        told, self.found = self.found, []
        return told

    def answer(self, job: Job, item: Item) -> Made:
        if self.found and not self.found[0].accepted:
            raise EngineMismatch(self.found[0], "solver@1")
        return super().answer(job, item)


@pytest.mark.parametrize("accepted", [True, False])
def test_what_a_workers_engine_came_to_is_a_row_of_the_run(
    desk: Desk, quick: None, accepted: bool
) -> None:
    desk.put("i")
    assert desk.worker(Comparing(desk.bench, accepted)).work().items == 1
    rows = parities(desk.bench.store, desk.bench.run)
    assert [(row["worker"], row["accepted"]) for row in rows] == [("worker", accepted)]


def test_hands_tell_each_comparison_once(desk: Desk) -> None:
    script = Script(under())
    hands = Hands(desk.bench.home, "hands", lambda config: script)
    assert hands.compared() == []
    with pytest.raises(BadShared):
        hands.answer(Job(under(), 1), Item("i", WEIGHTS, "score", 1, b""))
    script.parities += Comparing(desk.bench, True).found
    assert [parity.version for parity in hands.compared()] == ["solver@1"]
    assert hands.compared() == script.parities == []


class Broken(Told):
    """Hands that can do nothing."""

    def answer(self, job: Job, item: Item) -> Made:
        raise RuntimeError("no such device")


def test_a_broken_worker_ends_before_it_has_failed_an_item_alone(desk: Desk, quick: None) -> None:
    desk.put("i")
    with pytest.raises(Refusal, match=r"2 items in a row .* no such device"):
        desk.worker(Broken(desk.bench)).work()
    assert desk.tally().failed == 0
    assert desk.worker(Told(desk.bench), "fit").work().items == 1


class Ended(Told):
    """Hands over which something happens that is no fault of an item's."""

    def __init__(self, bench: Bench, error: BaseException, before: Callable[[], None]) -> None:
        super().__init__(bench)
        self.error, self.before = error, before

    def answer(self, job: Job, item: Item) -> Made:
        self.before()
        raise self.error


ENDS = [Refusal("this transformers cannot"), KeyError("logprobs"), SystemExit(1)]


@pytest.mark.parametrize("error", ENDS, ids=lambda error: type(error).__name__)
def test_whatever_ends_a_worker_its_item_is_given_back_and_says_why(
    desk: Desk, error: BaseException
) -> None:
    desk.put("i")
    with pytest.raises(type(error)):
        desk.worker(Ended(desk.bench, error, lambda: None)).work()
    (row,) = items_of(desk.bench)
    assert (row.state, row.errors) == ("open", 1)
    assert str(row.error).startswith(type(error).__name__)


def test_an_interrupt_gives_the_item_back_and_counts_nothing_against_it(desk: Desk) -> None:
    desk.put("i")
    told = desk.worker(Ended(desk.bench, Interrupted("stopped by SIGTERM"), lambda: None)).work()
    assert told.ended == "stopped by SIGTERM"
    (row,) = items_of(desk.bench)
    assert (row.state, row.errors, row.number - row.base) == ("open", 0, 0)


class Hung(Told):
    """Hands whose engine does not come back until it is let go."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.taken, self.woken = threading.Event(), threading.Event()

    def answer(self, job: Job, item: Item) -> Made:
        self.taken.set()
        self.woken.wait(60)
        return super().answer(job, item)


def test_a_call_that_hangs_loses_its_item_to_another_worker(tmp_path: Path) -> None:
    desk = Desk(Bench(tmp_path, under(lease=0.2, item_seconds=1)))
    desk.put("i")
    hung = Hung(desk.bench)
    worker = desk.worker(hung, "hung")
    thread = threading.Thread(target=worker.work, daemon=True)
    thread.start()
    assert hung.taken.wait(60)
    other = desk.worker(Told(desk.bench), "other")
    other.shift = Shift(seconds_idle=60.0, items=1)
    assert other.work().items == 1
    hung.woken.set()
    thread.join(60)
    assert (worker.tally.items, worker.tally.lost) == (0, 1)


class Mute:
    """A store whose server has stopped in the middle of a statement."""

    def __init__(self) -> None:
        self.over, self.ended = threading.Event(), False

    def within(self, seconds: float) -> Mute:
        return self

    def write(self, *statement: object, crowded: bool) -> None:
        self.over.wait(10)
        self.ended = True


@pytest.mark.parametrize("error", [Interrupted("stopped by SIGTERM"), Unreachable("gone")])
def test_a_worker_that_leaves_waits_for_no_store_and_blames_no_item(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(working, "LEAVING", 0.05)
    desk.put("i")
    mute = Mute()

    def stop() -> None:
        worker.store = mute  # type: ignore[assignment]

    worker = desk.worker(Ended(desk.bench, error, stop))
    with nullcontext() if isinstance(error, Interrupted) else pytest.raises(Unreachable):
        assert worker.work().ended == "stopped by SIGTERM"
    assert not mute.ended
    mute.over.set()
    (row,) = items_of(desk.bench)
    assert (row.state, row.errors) == ("claimed", 0)
