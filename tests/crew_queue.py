"""Workers without a model, many to a thread: honest clients of `claim` and `finish`.

Each is busy with an item for about so many seconds, as if an engine were at work; a few die in the
middle of an item, a few answer after their lease is over. One that finds nothing asks again later
and later.
"""

from __future__ import annotations

import heapq
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from multiprocessing.connection import Connection
from threading import Thread

from sqlalchemy.exc import OperationalError

from pipeline.engine.messages import answer
from pipeline.items import Claim, WeightsFile
from pipeline.ports import Confidences, Sample, SampleRequest, ScoreRequest, Scores
from store.database import Store
from store.work import claim, finish

WEIGHTS = WeightsFile("solver-12.safetensors", "5" * 64, "solver@0")
WRITTEN = 60  # tokens of a completion
HELD = 60.0  # seconds of a lease: many times what an item takes, so that none is renewed
DIE, LATE = 0.0005, 0.0005  # shares of claims that end so
IDLE, LONGEST_IDLE = 0.5, 4.0  # seconds until a worker that found nothing asks again


class Scripted:
    """Fills `ports.Engine`: one of 512 completions, by the seed."""

    version = WEIGHTS.version

    def sample(
        self, requests: Sequence[SampleRequest], *, max_tokens: int, temperature: float
    ) -> list[tuple[Sample, ...]]:
        return [tuple(_completion(seed % 512) for seed in request.seeds) for request in requests]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        raise AssertionError("nothing is scored here")

    def confide(self, requests: Sequence[ScoreRequest]) -> list[Confidences]:
        raise AssertionError("nothing is scored here")


@cache
def _completion(stream: int) -> Sample:
    rng = random.Random(stream)
    tokens = tuple(rng.choices(range(2000), k=WRITTEN))
    return Sample(tokens, tuple(-rng.random() for _ in range(WRITTEN)), "end")


@dataclass
class Times:
    """What the workers of a thread saw: seconds of each call, and how many ended how."""

    claims: list[float] = field(default_factory=list)
    misses: list[float] = field(default_factory=list)
    finishes: list[float] = field(default_factory=list)
    refused: int = 0
    died: int = 0
    came_late: int = 0
    locked_out: int = 0
    cpu: float = 0.0  # seconds of a process

    def join(self, other: Times) -> None:
        self.claims += other.claims
        self.misses += other.misses
        self.finishes += other.finishes
        self.refused += other.refused
        self.died += other.died
        self.came_late += other.came_late
        self.locked_out += other.locked_out
        self.cpu += other.cpu


class Crew:
    """Many workers on one connection: whoever's moment has come asks, or answers what it holds."""

    def __init__(self, store: Store, names: Sequence[str], seconds: float) -> None:
        self.store, self.seconds, self.times = store, seconds, Times()
        self.engine, self.rng, self.order = Scripted(), random.Random(names[0]), count()
        self.idle: Counter[str] = Counter()  # how often each found nothing since it last did
        self.due: list[tuple[float, int, str, Claim | None]] = []
        for name in names:
            self._at(self.rng.uniform(0.0, IDLE), name, None)
        self.stopped = False

    def run(self) -> None:
        while not self.stopped:
            moment, _, name, held = self.due[0]
            wait = moment - time.monotonic()
            if wait > 0:
                time.sleep(min(wait, 0.1))
                continue
            heapq.heappop(self.due)
            try:
                self._turn(name, held)
            except OperationalError:  # SQLite gave the lock to others for half a minute
                self.times.locked_out += 1
                self._at(IDLE, name, held)

    def _turn(self, name: str, held: Claim | None) -> None:
        if held is None:
            self._ask(name)
        else:
            self._answer(name, held)

    def _at(self, seconds: float, name: str, held: Claim | None) -> None:
        heapq.heappush(self.due, (time.monotonic() + seconds, next(self.order), name, held))

    def _ask(self, name: str) -> None:
        began = time.perf_counter()
        found = claim(self.store, name, HELD, held=[WEIGHTS.sha256])
        took = time.perf_counter() - began
        (self.times.claims if found else self.times.misses).append(took)
        if found is None:
            idle = min(IDLE * 2 ** self.idle[name], LONGEST_IDLE)
            self.idle[name] += 1
            self._at(idle * self.rng.uniform(0.5, 1.5), name, None)
            return
        self.idle[name] = 0
        end = self.rng.random()
        if end < DIE:  # another takes its place
            self.times.died += 1
            self._at(IDLE, f"{name}+", None)
        elif end < DIE + LATE:
            self.times.came_late += 1
            self._at(HELD * 1.2, name, found)
        else:
            self._at(self.seconds * self.rng.uniform(0.5, 1.5), name, found)

    def _answer(self, name: str, held: Claim) -> None:
        told = answer(self.engine, held.item)
        began = time.perf_counter()
        taken = finish(self.store, held, told, WEIGHTS.sha256)
        self.times.finishes.append(time.perf_counter() - began)
        self.times.refused += not taken
        self._at(0.0, name, None)


def work(url: str, shares: Sequence[Sequence[str]], seconds: float, line: Connection) -> None:
    """A process of workers, a thread for each share of names, until the line says stop."""
    store = Store.open(url)
    crews = [Crew(store, share, seconds) for share in shares if share]
    threads = [Thread(target=crew.run) for crew in crews]
    for thread in threads:
        thread.start()
    line.recv()
    times = Times()
    for crew, thread in zip(crews, threads, strict=True):
        crew.stopped = True
        thread.join()
        times.join(crew.times)
    times.cpu = time.process_time()
    line.send(times)
