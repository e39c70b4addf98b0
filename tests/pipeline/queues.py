"""A queue in memory, as `store.work.RunQueue` fills the port; and who answers from it."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from pipeline.engine.messages import answer
from pipeline.items import Claim, Item, ItemFailed
from pipeline.ports import Engine


@dataclass
class Memory:
    """The items of one run. `claims` counts how often each was taken."""

    items: dict[str, Item] = field(default_factory=dict)
    done: dict[str, bytes] = field(default_factory=dict)
    claims: dict[str, int] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, items: Sequence[Item]) -> None:
        with self.lock:
            for item in items:
                self.items.setdefault(item.id, item)

    def answers(self, ids: Collection[str]) -> dict[str, bytes]:
        with self.lock:
            if lost := self.failed & set(ids):
                raise ItemFailed(f"item {lost.pop()} was given up")
            return {one: self.done[one] for one in ids if one in self.done}

    def take(self, ids: Collection[str]) -> Claim | None:
        with self.lock:
            for name in sorted(ids):
                if name in self.items and name not in self.taken:
                    self.taken.add(name)
                    self.claims[name] = self.claims.get(name, 0) + 1
                    return Claim("run", self.items[name], "worker", self.claims[name])
        return None

    def lose(self, claim: Claim) -> None:
        """The claim's lease runs out: the item is open again."""
        with self.lock:
            self.taken.discard(claim.item.id)

    def renew(self, claim: Claim) -> bool:
        return self.claims[claim.item.id] == claim.number

    def finish(self, claim: Claim, answer: bytes, weights: str) -> bool:
        with self.lock:
            name = claim.item.id
            if weights != claim.item.weights.sha256:
                self.failed.add(name)
                return False
            if self.claims[name] != claim.number or name not in self.taken or name in self.done:
                return False
            self.done[name] = answer
            return True


class Hand(threading.Thread):
    """Answers whatever is open with one engine, until told to stop or having answered `most`."""

    def __init__(self, queue: Memory, engine: Engine, most: int = 10**9) -> None:
        super().__init__(daemon=True)
        self.queue, self.engine, self.most, self.over = queue, engine, most, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.001) and self.most:
            claim = self.queue.take(list(self.queue.items))
            if claim is not None:
                self.queue.finish(claim, answer(self.engine, claim.item), claim.item.weights.sha256)
                self.most -= 1

    def __enter__(self) -> Hand:
        self.start()
        return self

    def __exit__(self, *left: object) -> None:
        self.over.set()
        self.join()
