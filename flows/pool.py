"""The verifier's frozen pool on disk: it travels with every checkpoint and never changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from pipeline.evaluation.exam import PoolGroup
from store.ledger import PoolItem

FILE = "pool.json"
_POOL = TypeAdapter(tuple[PoolGroup, ...])


@dataclass(frozen=True, slots=True)
class PoolFile:
    """Fills the Saved port for a pool, which is read back in place."""

    pool: list[PoolGroup]

    def save(self, folder: Path) -> None:
        (folder / FILE).write_bytes(_POOL.dump_json(tuple(self.pool)))

    def restore(self, folder: Path) -> None:
        self.pool[:] = _POOL.validate_json((folder / FILE).read_bytes())


def labelled(pool: list[PoolGroup]) -> list[PoolItem]:
    """The pool's rollouts as the store lists them; unlabelled ones have no row."""
    return [
        PoolItem(
            id=f"{entry.group.rollouts[i].id}",
            question=entry.item.question,
            reference=entry.item.reference,
            reasoning=entry.group.transcripts[i].first,
            right=right,
            slice=f"family={entry.item.family}" if entry.item.family else "all",
        )
        for entry in pool
        for i, right in enumerate(entry.right)
        if right is not None
    ]
