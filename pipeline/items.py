"""Items of work: calls of an engine that any worker may answer, and the queue between.

An item names its weights by the bytes of their file and holds everything else that decides its
answer, so it is worked out alike wherever it is worked out, and equal calls are one item.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["sample", "score", "confide"]


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """Published weights: a safetensors file in the folder that every worker sees.

    name     path within that folder
    sha256   of its bytes, in hex
    version  id of the weights, such as "solver@12"
    """

    name: str
    sha256: str
    version: str


@dataclass(frozen=True, slots=True)
class Item:
    """One call of an engine.

    id    SHA-256, in hex, of weights and ask: the same call has the same id
    rows  completions or targets asked for
    ask   the call itself, as `pipeline.engine.messages` writes it
    """

    id: str
    weights: WeightsFile
    kind: Kind
    rows: int
    ask: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """An item in a worker's hands, for as long as its lease lasts.

    number  how often the item was claimed, this time included; an older claim's answer is refused
    """

    run: str
    item: Item
    worker: str
    number: int


class ItemFailed(RuntimeError):
    """An item was given up after too many errors, or claims that ended without a word; the text
    says the last error."""


class Queue(Protocol):
    """The asker's side of a run's items."""

    def put(self, items: Sequence[Item]) -> None:
        """Put items out, once each: one that is there already, answered or not, stays as it is."""
        ...

    def answers(self, ids: Collection[str]) -> dict[str, bytes]:
        """Answers of those items that have one. Raises ItemFailed for one that was given up."""
        ...

    def take(self, ids: Collection[str]) -> Claim | None:
        """One of these items, to work out oneself while waiting; None where none is open."""
        ...

    def renew(self, claim: Claim) -> bool:
        """Keep a claim for as long again; False where it was lost. A store that does not answer
        now loses nothing yet."""
        ...

    def finish(self, claim: Claim, answer: bytes, weights: str) -> bool:
        """Record the answer of a claim. False where the claim was lost, or where `weights`, the
        SHA-256 of those that answered, are not the item's: its answer stays as it was."""
        ...
